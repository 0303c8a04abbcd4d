//! Records one by one, where the random sequences do not look: refusals, repetitions, objects without names, flush positions.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use telamon_replicator::apply::{ApplyError, Outcome};
use telamon_replicator::record::{Attributes, Change, FileId, Kind, Lsn, Place, Record, Time};

use crate::primary::Primary;
use crate::secondary::Secondary;

/// An identity that the primary might use; no model behind it.
pub fn id(inode: u64) -> FileId {
    FileId {
        tree: 0,
        inode,
        generation: 77,
    }
}

pub const ROOT: u64 = 2;

pub fn place(parent: u64, name: &[u8]) -> Place<'static> {
    Place {
        parent: id(parent),
        name: Cow::Owned(name.to_vec()),
        parent_modified: Time {
            seconds: 1_000,
            nanoseconds: 5,
        },
    }
}

pub fn create(parent: u64, name: &[u8], inode: u64, kind: Kind<'static>) -> Record<'static> {
    Record::Create {
        place: place(parent, name),
        file: id(inode),
        kind,
        attributes: Attributes {
            mode: 0o640,
            uid: 1000,
            gid: 1001,
            accessed: Time {
                seconds: 2_000,
                nanoseconds: 1,
            },
            modified: Time {
                seconds: -3_000,
                nanoseconds: 2,
            },
        },
        extended: Vec::new(),
    }
}

pub fn data(inode: u64, offset: u64, content: &[u8]) -> Record<'static> {
    Record::Data {
        file: id(inode),
        offset,
        content: Cow::Owned(content.to_vec()),
    }
}

fn rename(from: Place<'static>, to: Place<'static>, flags: u32, inode: u64) -> Record<'static> {
    Record::Rename {
        from,
        to,
        flags,
        file: id(inode),
        exchanged: None,
    }
}

/// Live on an empty directory, whose root is `id(ROOT)` on the primary.
pub fn live(exclude: &[&str]) -> Secondary {
    let mut secondary = Secondary::new(exclude);
    let ours = Primary::new().id(secondary.path());
    secondary.bind(&[(id(ROOT), ours)]).unwrap();
    secondary
}

fn assert_diverged(result: Result<Outcome, ApplyError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, ApplyError::Diverged { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("the directories are compared again"),
        "{error}"
    );
}

#[test]
fn a_new_object_is_exactly_as_told() {
    let mut secondary = live(&[]);
    for (inode, name, kind) in [
        (10, "file", Kind::File),
        (11, "directory", Kind::Directory),
        (12, "link", Kind::Symlink(b"/etc/passwd"[..].into())),
        (
            13,
            "fifo",
            Kind::Special {
                format: libc::S_IFIFO,
                device: 0,
            },
        ),
        (
            14,
            "socket",
            Kind::Special {
                format: libc::S_IFSOCK,
                device: 0,
            },
        ),
        (
            15,
            "device",
            Kind::Special {
                format: libc::S_IFCHR,
                device: rustix::fs::makedev(1, 3),
            },
        ),
    ] {
        secondary
            .apply(create(ROOT, name.as_bytes(), inode, kind))
            .unwrap();
        let metadata = secondary.path().join(name).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1000, 1001), "{name}");
        assert_eq!(
            (metadata.mtime(), metadata.mtime_nsec()),
            (-3000, 2),
            "{name}"
        );
        assert_eq!(metadata.atime(), 2000, "{name}");
        if !metadata.is_symlink() {
            assert_eq!(metadata.mode() & 0o7777, 0o640, "{name}");
        }
    }
    let device = secondary.path().join("device").metadata().unwrap();
    assert!(device.file_type().is_char_device() && device.rdev() == rustix::fs::makedev(1, 3));
    let root = secondary.path().metadata().unwrap();
    assert_eq!((root.mtime(), root.mtime_nsec()), (1000, 5));
}

#[test]
fn a_change_of_owner_keeps_what_the_record_does_not_name() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    let mode = Change {
        mode: Some(0o6755),
        ..Change::default()
    };
    let owner = Change {
        uid: Some(4242),
        ..Change::default()
    };
    for change in [mode, owner] {
        let file = id(10);
        secondary
            .apply(Record::SetAttributes { file, change })
            .unwrap();
    }
    let metadata = secondary.path().join("f").metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (4242, 1001));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o6755);
    secondary
        .apply(data(10, 0, b"a write drops them only if the log says so"))
        .unwrap();
    let metadata = secondary.path().join("f").metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o6755);
}

#[test]
fn a_whiteout_is_left_behind() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    let (from, to) = (place(ROOT, b"f"), place(ROOT, b"g"));
    secondary
        .apply(rename(from, to, libc::RENAME_WHITEOUT, 10))
        .unwrap();
    let whiteout = secondary.path().join("f").symlink_metadata().unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(secondary.path().join("g").is_file());
    secondary
        .apply(Record::Unlink {
            place: place(ROOT, b"f"),
        })
        .unwrap();
}

#[test]
fn an_unnamed_file_lives_until_it_is_linked_or_forgotten() {
    let mut secondary = live(&[]);
    let attributes = Attributes {
        mode: 0o600,
        ..Attributes::default()
    };
    for inode in 10..30 {
        let file = id(inode);
        secondary
            .apply(Record::CreateUnnamed { file, attributes })
            .unwrap();
        secondary.apply(data(inode, 0, b"kept")).unwrap();
    }
    // More files than descriptors are kept: an unnamed one must not be closed for that.
    for inode in 10..20 {
        let place = place(ROOT, format!("n{inode}").as_bytes());
        secondary
            .apply(Record::Link {
                place,
                file: id(inode),
            })
            .unwrap();
        let content = fs::read(secondary.path().join(format!("n{inode}"))).unwrap();
        assert_eq!(content, b"kept");
    }
    for inode in 20..30 {
        secondary.apply(Record::Forget { file: id(inode) }).unwrap();
        assert_diverged(secondary.apply(data(inode, 0, b"x")));
    }
}

#[test]
fn what_concerns_an_unlinked_file_still_open_on_the_primary_is_taken() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    secondary
        .apply(Record::Unlink {
            place: place(ROOT, b"f"),
        })
        .unwrap();
    for inode in 20..30 {
        let name = format!("n{inode}");
        secondary
            .apply(create(ROOT, name.as_bytes(), inode, Kind::File))
            .unwrap();
    }
    secondary.apply(data(10, 0, b"x")).unwrap();
    let sync = Record::Sync {
        file: id(10),
        data_only: false,
        modified: None,
    };
    secondary.apply(sync).unwrap();
    assert_eq!(secondary.commit().durable, Lsn(secondary.lsn));
    secondary.apply(Record::Forget { file: id(10) }).unwrap();
    assert_diverged(secondary.apply(data(10, 0, b"x")));
}

#[test]
fn a_tree_that_is_not_as_expected_has_diverged() {
    let mut secondary = live(&[]);
    fs::write(secondary.path().join("foreign"), "x").unwrap();
    fs::create_dir_all(secondary.path().join("full/of")).unwrap();
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    assert_diverged(secondary.apply(create(ROOT, b"foreign", 11, Kind::File)));
    assert_eq!(fs::read(secondary.path().join("foreign")).unwrap(), b"x");
    let again = live(&[]);
    drop(again);
    for record in [
        Record::Unlink {
            place: place(ROOT, b"none"),
        },
        Record::Unlink {
            place: place(ROOT, b"full"),
        },
        Record::RemoveDirectory {
            place: place(ROOT, b"full"),
        },
        Record::RemoveDirectory {
            place: place(ROOT, b"f"),
        },
        Record::Link {
            place: place(ROOT, b"foreign"),
            file: id(10),
        },
        rename(place(ROOT, b"none"), place(ROOT, b"m"), 0, 10),
        rename(place(ROOT, b"foreign"), place(ROOT, b"m"), 0, 10),
        rename(place(ROOT, b"f"), place(ROOT, b"full"), 0, 10),
        rename(
            place(ROOT, b"f"),
            place(ROOT, b"foreign"),
            libc::RENAME_NOREPLACE,
            10,
        ),
        data(99, 0, b"x"),
        data(ROOT, 0, b"x"),
        create(99, b"n", 12, Kind::File),
        create(10, b"n", 12, Kind::File),
    ] {
        // A new position each time, so that none counts as the repetition of one that stopped halfway.
        secondary.lsn += 1;
        assert_diverged(secondary.apply(record));
    }
    assert!(secondary.path().join("full/of").is_dir() && secondary.path().join("f").is_file());
}

#[test]
fn excluded_names_go_only_with_their_directory() {
    let mut secondary = live(&["keep/**", "**/*.pid"]);
    for (inode, name) in [(10, "keep"), (11, "other")] {
        secondary
            .apply(create(ROOT, name.as_bytes(), inode, Kind::Directory))
            .unwrap();
        fs::write(secondary.path().join(name).join("x.pid"), "local").unwrap();
    }
    // The log ends the directory: what was excluded in it goes with it.
    secondary
        .apply(Record::RemoveDirectory {
            place: place(ROOT, b"other"),
        })
        .unwrap();
    assert!(!secondary.path().join("other").exists());
    // A directory may replace what is left only for its excluded names.
    secondary
        .apply(create(ROOT, b"new", 12, Kind::Directory))
        .unwrap();
    secondary
        .apply(rename(place(ROOT, b"new"), place(ROOT, b"keep"), 0, 12))
        .unwrap();
    assert!(
        secondary.path().join("keep").is_dir() && !secondary.path().join("keep/x.pid").exists()
    );
}

#[test]
fn a_record_that_stopped_halfway_is_applied_again() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    let records = [
        Record::Unlink {
            place: place(ROOT, b"gone"),
        },
        rename(place(ROOT, b"moved"), place(ROOT, b"f"), 0, 10),
        Record::Link {
            place: place(ROOT, b"f"),
            file: id(10),
        },
        Record::RemoveDirectory {
            place: place(ROOT, b"gone"),
        },
    ];
    for record in records {
        // The disk says that the first half was done; the first try finds it so and stops, the second one goes on.
        assert_diverged(secondary.apply(record.clone()));
        secondary.apply(record).unwrap();
        assert!(secondary.path().join("f").is_file());
    }
    fs::write(secondary.path().join("half"), "made").unwrap();
    assert_diverged(secondary.apply(create(ROOT, b"half", 11, Kind::File)));
    secondary
        .apply(create(ROOT, b"half", 11, Kind::File))
        .unwrap();
    assert_eq!(fs::read(secondary.path().join("half")).unwrap(), b"");
}

#[test]
fn a_listing_removes_what_the_primary_has_not_but_nothing_excluded() {
    let mut secondary = Secondary::new(&["cache/**", "*.pid"]);
    let at = |name: &str| secondary.path().join(name);
    for directory in ["cache/deep", "extra/deep", "mixed/cache"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for file in [
        "my.pid",
        "cache/deep/file",
        "extra/deep/file",
        "mixed/cache/file",
        "extra.file",
    ] {
        fs::write(at(file), "local").unwrap();
    }
    let primary = Primary::new();
    secondary.resync(primary.root());
    let listing = primary.list(primary.path());
    secondary
        .log(&telamon_replicator::wire::Logged::Listing(listing))
        .unwrap();
    let mut left: Vec<_> = fs::read_dir(secondary.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["cache", "my.pid"]);
    assert_eq!(
        fs::read(secondary.path().join("cache/deep/file")).unwrap(),
        b"local"
    );
    // The primary makes the directory again: the excluded names stay in it.
    secondary
        .log(&telamon_replicator::wire::Logged::ResyncEnd)
        .unwrap();
    let mut made = create(ROOT, b"cache", 10, Kind::Directory);
    if let Record::Create { place, .. } = &mut made {
        place.parent = primary.root();
    }
    secondary.apply(made).unwrap();
    assert_eq!(
        fs::read(secondary.path().join("cache/deep/file")).unwrap(),
        b"local"
    );
    let cache = secondary.path().join("cache").metadata().unwrap();
    assert_eq!((cache.uid(), cache.mode() & 0o7777), (1000, 0o640));
}

#[test]
fn a_sync_is_durable_only_after_its_flush() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    secondary.apply(data(10, 0, b"x")).unwrap();
    let modified = Some(Time {
        seconds: 77,
        nanoseconds: 7,
    });
    let sync = Record::Sync {
        file: id(10),
        data_only: false,
        modified,
    };
    secondary.apply(sync).unwrap();
    let progress = secondary.applier.progress();
    assert_eq!((progress.applied, progress.durable), (Lsn(3), Lsn(2)));
    assert_eq!(secondary.commit().durable, Lsn(3));
    assert_eq!(secondary.path().join("f").metadata().unwrap().mtime(), 77);
}
