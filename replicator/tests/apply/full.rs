//! A file system without room: the error says what to do, and the same record is applied once there is room again.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use telamon_replicator::apply::ApplyError;
use telamon_replicator::identity::Codec;
use telamon_replicator::record::{FileId, Kind, Record};

use crate::records::{ROOT, create, data, id};
use crate::secondary::{Secondary, scratch};

/// An ext4 of a few MiB on a loop device, unmounted at the end.
struct Small {
    directory: tempfile::TempDir,
}

impl Small {
    fn new() -> Small {
        let small = Small {
            directory: scratch(),
        };
        let image = small.directory.path().join("image");
        fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        fs::create_dir(small.mount()).unwrap();
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-N", "64"])
            .arg(&image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(small.mount()));
        fs::remove_dir(small.mount().join("lost+found")).unwrap();
        small
    }

    fn mount(&self) -> std::path::PathBuf {
        self.directory.path().join("mount")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.mount()));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn live_on(path: &Path) -> Secondary {
    let mut secondary = Secondary::at(path, &[]);
    // This file system's handles may be of another form than those of the scratch directory.
    let root = fs::File::open(path).unwrap();
    let ours = Codec::of(root.as_fd())
        .and_then(|codec| codec.identify(root.as_fd()))
        .unwrap();
    let ours = FileId {
        tree: 0,
        inode: ours.inode,
        generation: ours.generation,
    };
    secondary.bind(&[(id(ROOT), ours)]).unwrap();
    secondary
}

fn assert_full(error: &ApplyError, path: &Path) {
    assert!(matches!(error, ApplyError::Full { .. }), "{error:?}");
    let told = format!(
        "disk full on n2 at {}: free space, it reconnects by itself",
        path.display()
    );
    assert_eq!(error.to_string(), told);
}

#[test]
fn a_full_disk_is_told_and_the_record_applied_later() {
    let small = Small::new();
    let mut secondary = live_on(&small.mount());
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    let ballast = small.mount().join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let content = vec![7; 1 << 20];
    let mut offset = 0;
    let error = loop {
        match secondary.apply(data(10, offset, &content)) {
            Ok(_) => offset += content.len() as u64,
            Err(error) => break error,
        }
    };
    assert_full(&error, &small.mount());
    assert_full(
        &secondary.apply(data(10, offset, &content)).unwrap_err(),
        &small.mount(),
    );
    fs::remove_file(ballast).unwrap();
    secondary.applier.begin_resume().unwrap();
    // ext4 frees the blocks when the transaction is committed.
    secondary.applier.settle().unwrap();
    secondary.apply(data(10, offset, &content)).unwrap();
    let size = fs::metadata(small.mount().join("f")).unwrap().len();
    assert_eq!(size, offset + content.len() as u64);
    drop(secondary);
}

#[test]
fn without_inodes_nothing_half_made_is_left() {
    let small = Small::new();
    let mut secondary = live_on(&small.mount());
    let mut inode = 10;
    let error = loop {
        let name = format!("n{inode}");
        match secondary.apply(create(ROOT, name.as_bytes(), inode, Kind::File)) {
            Ok(_) => inode += 1,
            Err(error) => break error,
        }
    };
    assert_full(&error, &small.mount());
    let made = fs::read_dir(small.mount()).unwrap().count() as u64;
    assert_eq!(made, inode - 10);
    secondary.lsn += 1;
    secondary
        .apply(Record::Unlink {
            place: crate::records::place(ROOT, b"n10"),
        })
        .unwrap();
    secondary.apply(Record::Forget { file: id(10) }).unwrap();
    let name = format!("n{inode}");
    secondary
        .apply(create(ROOT, name.as_bytes(), inode, Kind::File))
        .unwrap();
    drop(secondary);
}
