//! The secondary's disk is full: it says why, the primary goes on when granted, and the secondary comes back by itself.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::tree;

/// A small ext4 of its own, unmounted at the end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(image: &Path, at: &Path, megabytes: u64) -> SmallDisk {
        File::create(image)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        let run =
            |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(at));
        SmallDisk(at.to_owned())
    }
}

/// Nothing is written to the disk while this lives.
struct Frozen<'a>(&'a SmallDisk);

impl SmallDisk {
    fn freeze(&self) -> Frozen<'_> {
        self.fsfreeze("--freeze");
        Frozen(self)
    }

    fn fsfreeze(&self, option: &str) {
        let status = Command::new("fsfreeze").arg(option).arg(&self.0).status();
        assert!(status.unwrap().success(), "{option}");
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.fsfreeze("--unfreeze");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        use rustix::mount::{UnmountFlags, unmount};
        while unmount(&self.0, UnmountFlags::DETACH).is_ok() {}
    }
}

/// A cluster whose n2 has its data on a disk of its own.
fn with_small_disk(settings: &Value, megabytes: u64) -> (Cluster, SmallDisk) {
    let mut cluster = Cluster::new(settings);
    let disk = cluster.n2.home.join("disk");
    std::fs::create_dir(&disk).unwrap();
    let small = SmallDisk::mount(&cluster.n2.home.join("image"), &disk, megabytes);
    cluster.n2.data = disk.join("data");
    std::fs::create_dir(&cluster.n2.data).unwrap();
    let directories = json!([{"path": cluster.n2.data}]);
    cluster.n2.configure("directories", directories);
    (cluster, small)
}

#[test]
fn a_full_secondary_says_so_and_returns_when_there_is_room() {
    let (mut cluster, small) = with_small_disk(&json!({}), 64);
    let ballast = small.0.join("ballast");
    std::fs::write(&ballast, vec![1; 30 << 20]).unwrap();

    cluster.bring_up();

    let path = cluster.n1.data.join("large");
    let writer = std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        for _ in 0..40 {
            file.write_all(&vec![2; 1 << 20]).unwrap();
        }
        file.sync_all().unwrap();
    });
    let degraded = cluster.n1.event("degraded");
    assert!(
        degraded["reason"]
            .as_str()
            .unwrap()
            .contains("disk full on n2"),
        "{degraded}"
    );
    cluster.n2.until("full", |status| {
        status["link_reason"]
            .as_str()
            .unwrap()
            .contains("disk full on n2")
    });
    cluster
        .n1
        .until("waiting", |status| status["commits"] == "waiting");
    cluster.n1.call("grant", json!({}));
    writer.join().unwrap();

    std::fs::remove_file(ballast).unwrap();
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");
    cluster.n1.call("demote", json!({"timeout_ms": 20_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
    cluster.n2.kill();
}

/// The secondary's process lives and its disk does nothing: neither a commit nor what waits in the sockets may be held up by that.
#[test]
fn a_secondary_whose_disk_hangs_is_given_up() {
    for megabytes in [1, 40] {
        let (mut cluster, small) = with_small_disk(&json!({"peer_timeout_ms": 300}), 200);
        cluster.bring_up();

        let frozen = small.freeze();
        let path = cluster.n1.data.join("large");
        let writer = std::thread::spawn(move || {
            let mut file = File::create(path).unwrap();
            file.write_all(&vec![2; megabytes << 20]).unwrap();
            file.sync_all().unwrap();
        });
        cluster.n1.until("given up", |status| {
            let reason = status["link_reason"].as_str().unwrap();
            status["commits"] == "waiting" && reason.contains("flushed anything for 1500 ms")
        });
        cluster.n2.until("aware of it", |status| {
            let reason = status["link_reason"].as_str().unwrap();
            status["link"] == "connecting" && reason.contains("look at this node's disk")
        });
        cluster.n1.call("grant", json!({}));
        writer.join().unwrap();
        drop(frozen);
        cluster.n1.until_link("live");
        cluster.n2.until_link("live");
        cluster.n1.call("demote", json!({"timeout_ms": 20_000}));
        tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
    }
}
