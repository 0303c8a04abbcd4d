//! Against the real programs: the agent's loader pins them, this side reads.
//!
//! Needs root and what `make build` makes; ext4 below the temporary directory.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use super::*;
use crate::record::FileId;

/// A bpffs of our own with the capture pinned in it; unmounted on the way out, which ends the programs too.
struct Pinned(tempfile::TempDir);

impl Pinned {
    fn new(directory: &Path, ring_bytes: u32) -> Pinned {
        let pinned = Pinned(tempfile::tempdir().unwrap());
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("bpf", pinned.0.path(), "bpf", flags, None).unwrap();
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
        let script = format!(
            "from pathlib import Path\nfrom telamon.bpf.capture import CaptureSet\n\
             Path({0:?}).joinpath('t').mkdir()\n\
             found = CaptureSet('m', Path({0:?}) / 't', ring_bytes={ring_bytes}).ensure([Path({1:?})])\n\
             assert found.pins, found.reason",
            pinned.0.path(),
            directory
        );
        let status = Command::new(python).args(["-c", &script]).status().unwrap();
        assert!(status.success(), "the loader failed");
        pinned
    }

    fn open(&self) -> Capture {
        Capture::open(&self.0.path().join("t/m")).unwrap()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

fn generation(path: &Path) -> u32 {
    let listing = Command::new("lsattr")
        .args(["-v", "-d"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(listing.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Writes from another process: this one's own writes make no event.
fn write_outside(path: &Path, offset: u64, bytes: u64) {
    let status = Command::new("dd")
        .args([
            "if=/dev/zero",
            "conv=notrunc",
            "status=none",
            "bs=1",
            "oflag=seek_bytes",
        ])
        .arg(format!("of={}", path.display()))
        .arg(format!("seek={offset}"))
        .arg(format!("count={bytes}"))
        .status()
        .unwrap();
    assert!(status.success());
}

fn watched_file(capture: &Capture, path: &Path) -> (FileId, Watched) {
    let mut file = File::create(path).unwrap();
    file.write_all(b"start").unwrap();
    let facts = file.metadata().unwrap();
    let inode = Watched::new(facts.dev(), facts.ino(), generation(path));
    capture.watch(inode, 3).unwrap();
    capture.watch(inode, 3).unwrap();
    (
        FileId {
            tree: 3,
            inode: facts.ino(),
            generation: inode.generation,
        },
        inode,
    )
}

#[test]
fn writes_of_others_are_seen_until_the_inode_is_forgotten() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let pinned = Pinned::new(directory.path(), 1 << 16);
    let capture = pinned.open();
    let path = directory.path().join("file");
    let (file, inode) = watched_file(&capture, &path);
    let mut events = Vec::new();

    write_outside(&path, 100, 7);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"own", 0)
        .unwrap();
    capture.drain(&mut |event| events.push(event));
    let seen: Vec<(u64, u64)> = events
        .iter()
        .map(|event| (event.offset, event.length))
        .collect();
    let expected: Vec<(u64, u64)> = (100..107).map(|offset| (offset, 1)).collect();
    assert_eq!(seen, expected);
    assert!(
        events
            .iter()
            .all(|event| event.file == file && event.kind == Kind::Write)
    );
    assert!(capture.losses().unwrap().is_empty());

    capture.unwatch(inode);
    events.clear();
    write_outside(&path, 0, 1);
    capture.drain(&mut |event| events.push(event));
    assert!(events.is_empty());
}

#[test]
fn a_full_ring_names_the_file_once_and_the_ring_goes_on() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let pinned = Pinned::new(directory.path(), 4096);
    let capture = pinned.open();
    let path = directory.path().join("file");
    let (_, inode) = watched_file(&capture, &path);

    write_outside(&path, 0, 500);
    let losses = capture.losses().unwrap();
    assert_eq!(
        losses,
        [Loss {
            inode,
            tree: 3,
            end: 500
        }]
    );
    assert!(capture.losses().unwrap().is_empty());

    let mut count = 0_u32;
    capture.drain(&mut |_| count += 1);
    assert_eq!(u64::from(count) + capture.lost_events(), 500);
    write_outside(&path, 0, 3);
    count = 0;
    capture.wait(Duration::from_secs(5)).unwrap();
    capture.drain(&mut |_| count += 1);
    assert_eq!(count, 3);
}
