//! What a peer must not be able to do, though it speaks the protocol.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::symlink;

use telamon_replicator::apply::ApplyError;
use telamon_replicator::journal::Entry;
use telamon_replicator::record::{Attributes, Change, FileId, Kind, Lsn, Record, Time};
use telamon_replicator::wire::{Listing, Logged};

use crate::primary::Primary;
use crate::records::{ROOT, create, data, id, live, place};
use crate::secondary::{Secondary, scratch};

fn assert_malformed(secondary: &mut Secondary, record: Record<'_>) {
    let text = format!("{record:?}");
    let error = secondary.apply(record).unwrap_err();
    assert!(
        matches!(error, ApplyError::Malformed { .. }),
        "{error:?} for {text}"
    );
}

#[test]
fn names_stay_inside_their_directory() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    let long = [b'n'; 256];
    for name in [
        &b""[..],
        b".",
        b"..",
        b"a/b",
        b"/etc",
        b"../x",
        b"a\0b",
        &long,
    ] {
        assert_malformed(&mut secondary, create(ROOT, name, 11, Kind::File));
        assert_malformed(
            &mut secondary,
            Record::Unlink {
                place: place(ROOT, name),
            },
        );
        assert_malformed(
            &mut secondary,
            Record::RemoveDirectory {
                place: place(ROOT, name),
            },
        );
        assert_malformed(
            &mut secondary,
            Record::Link {
                place: place(ROOT, name),
                file: id(10),
            },
        );
        for (from, to) in [(&b"f"[..], name), (name, b"f")] {
            assert_malformed(
                &mut secondary,
                Record::Rename {
                    from: place(ROOT, from),
                    to: place(ROOT, to),
                    flags: 0,
                    file: id(10),
                    exchanged: None,
                },
            );
        }
    }
    assert_eq!(fs::read_dir(secondary.path()).unwrap().count(), 1);
}

#[test]
fn values_that_cannot_be_are_refused() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    let (file, near) = (id(10), i64::MAX as u64);
    let elsewhere = FileId { tree: 1, ..file };
    let rename = |flags, exchanged| Record::Rename {
        from: place(ROOT, b"f"),
        to: place(ROOT, b"g"),
        flags,
        file,
        exchanged,
    };
    let attributes = |change| Record::SetAttributes { file, change };
    let records = [
        data(10, near, b"xy"),
        data(10, u64::MAX, b"xy"),
        Record::Zero {
            file,
            offset: near,
            length: 2,
            keep_size: false,
        },
        Record::Punch {
            file,
            offset: u64::MAX,
            length: u64::MAX,
        },
        Record::Allocate {
            file,
            offset: 1,
            length: near,
            keep_size: true,
        },
        Record::Truncate {
            file,
            size: 1 << 63,
        },
        Record::Truncate {
            file: elsewhere,
            size: 0,
        },
        Record::Sync {
            file: elsewhere,
            data_only: false,
            modified: None,
        },
        Record::Forget { file: elsewhere },
        Record::Link {
            place: place(ROOT, b"l"),
            file: elsewhere,
        },
        rename(8, None),
        rename(libc::RENAME_EXCHANGE, None),
        rename(0, Some(id(10))),
        rename(libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE, Some(id(10))),
        attributes(Change {
            mode: Some(0o10_0644),
            ..Change::default()
        }),
        attributes(Change {
            uid: Some(u32::MAX),
            ..Change::default()
        }),
        attributes(Change {
            modified: Some(Time {
                seconds: 0,
                nanoseconds: 1_073_741_823,
            }),
            ..Change::default()
        }),
        Record::SetExtended {
            file,
            name: Cow::Borrowed(b""),
            value: Cow::Borrowed(b""),
        },
        Record::SetExtended {
            file,
            name: Cow::Borrowed(b"user.a\0b"),
            value: Cow::Borrowed(b""),
        },
        create(ROOT, b"n", 11, Kind::Symlink(Cow::Borrowed(b""))),
        create(
            ROOT,
            b"n",
            11,
            Kind::Special {
                format: libc::S_IFREG,
                device: 0,
            },
        ),
    ];
    for record in records {
        assert_malformed(&mut secondary, record);
    }
    assert_eq!(fs::read(secondary.path().join("f")).unwrap(), b"");
}

#[test]
fn offsets_that_this_file_system_does_not_have_fail_and_change_nothing() {
    let mut secondary = live(&[]);
    secondary.apply(create(ROOT, b"f", 10, Kind::File)).unwrap();
    for record in [
        data(10, (i64::MAX - 2) as u64, b"x"),
        Record::Truncate {
            file: id(10),
            size: i64::MAX as u64,
        },
        Record::Allocate {
            file: id(10),
            offset: 1 << 62,
            length: 4096,
            keep_size: false,
        },
    ] {
        let error = secondary.apply(record).unwrap_err();
        assert!(!matches!(error, ApplyError::Malformed { .. }), "{error}");
    }
    assert_eq!(fs::metadata(secondary.path().join("f")).unwrap().len(), 0);
}

/// A tree with a symbolic link that leads out of it.
fn with_a_way_out() -> (tempfile::TempDir, Secondary) {
    let outside = scratch();
    fs::create_dir(outside.path().join("d")).unwrap();
    fs::write(outside.path().join("d/file"), "outside").unwrap();
    let secondary = Secondary::new(&[]);
    symlink(outside.path(), secondary.path().join("out")).unwrap();
    symlink(outside.path().join("d/file"), secondary.path().join("file")).unwrap();
    (outside, secondary)
}

#[test]
fn symbolic_links_are_never_followed() {
    let (outside, mut secondary) = with_a_way_out();
    let model = Primary::new();
    let pairs: Vec<_> = [(ROOT, ""), (10, "out"), (11, "file")]
        .map(|(inode, name)| (id(inode), model.id(&secondary.path().join(name))))
        .into();
    secondary.bind(&pairs).unwrap();
    let (change, file) = (
        Change {
            mode: Some(0),
            uid: Some(7),
            ..Change::default()
        },
        id(11),
    );
    secondary
        .apply(Record::SetAttributes { file, change })
        .unwrap();
    for record in [
        create(10, b"new", 12, Kind::File),
        data(11, 0, b"x"),
        Record::Truncate { file, size: 0 },
        Record::Unlink {
            place: place(10, b"d"),
        },
        Record::RemoveDirectory {
            place: place(ROOT, b"out"),
        },
    ] {
        secondary.lsn += 1;
        let error = secondary.apply(record).unwrap_err();
        assert!(matches!(error, ApplyError::Diverged { .. }), "{error}");
    }
    // A listing that has a directory where the link is replaces the link.
    let resynced = Primary::new();
    fs::create_dir_all(resynced.path().join("out/d")).unwrap();
    secondary.resync(resynced.root());
    for path in [resynced.path().to_path_buf(), resynced.path().join("out")] {
        secondary
            .log(&Logged::Listing(resynced.list(&path)))
            .unwrap();
    }
    assert!(secondary.path().join("out/d").is_dir());
    assert_eq!(fs::read(outside.path().join("d/file")).unwrap(), b"outside");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn an_identity_from_outside_the_directory_means_nothing() {
    let (outside, mut secondary) = with_a_way_out();
    fs::remove_file(secondary.path().join("out")).unwrap();
    fs::remove_file(secondary.path().join("file")).unwrap();
    let model = Primary::new();
    let pairs = [
        (id(ROOT), model.id(secondary.path())),
        (id(10), model.id(&outside.path().join("d/file"))),
        (id(11), model.id(&outside.path().join("d"))),
    ];
    secondary.bind(&pairs).unwrap();
    for record in [data(10, 0, b"x"), create(11, b"n", 12, Kind::File)] {
        secondary.lsn += 1;
        let error = secondary.apply(record).unwrap_err();
        assert!(matches!(error, ApplyError::Diverged { .. }), "{error}");
    }
    assert_eq!(fs::read(outside.path().join("d/file")).unwrap(), b"outside");
}

#[test]
fn listings_out_of_turn_are_refused() {
    let mut secondary = live(&[]);
    let primary = Primary::new();
    fs::write(primary.path().join("f"), "x").unwrap();
    let whole = primary.list(primary.path());
    let first = Listing {
        is_last: false,
        ..whole.clone()
    };
    let rest = Listing {
        itself: None,
        ..whole.clone()
    };
    let mut refuse = |entries: &[&Logged<'_>], last: &Logged<'_>| {
        for entry in entries {
            secondary.log(entry).unwrap();
        }
        let error = secondary.log(last).unwrap_err();
        assert!(matches!(error, ApplyError::Malformed { .. }), "{error}");
        secondary.resync(primary.root());
    };
    let (whole, first, rest) = (
        Logged::Listing(whole),
        Logged::Listing(first),
        Logged::Listing(rest),
    );
    refuse(&[], &whole);
    refuse(&[], &Logged::ResyncEnd);
    refuse(&[], &rest);
    refuse(&[&first], &first);
    refuse(&[&first], &Logged::Record(Record::Forget { file: id(5) }));
    refuse(&[&first], &Logged::ResyncEnd);
    let entry = Entry {
        name: b"../x".to_vec(),
        ..primary.describe(&primary.path().join("f"))
    };
    let Logged::Listing(mut crooked) = whole else {
        unreachable!()
    };
    crooked.entries = vec![entry];
    refuse(&[], &Logged::Listing(crooked));
}

#[test]
fn roots_must_be_those_configured() {
    let mut secondary = Secondary::new(&[]);
    for roots in [&[][..], &[id(1), id(2)], &[FileId { tree: 3, ..id(1) }]] {
        assert!(secondary.applier.begin_resync(Lsn(0), roots).is_err());
    }
    assert!(secondary.applier.bind(&[(id(1), id(1))]).is_err());
    secondary.applier.begin_binding(Lsn(0)).unwrap();
    assert!(
        secondary
            .applier
            .bind(&[(FileId { tree: 9, ..id(1) }, id(1))])
            .is_err()
    );
    assert!(matches!(
        secondary.applier.finish_binding(),
        Err(ApplyError::Diverged { .. })
    ));
    let attributes = Attributes::default();
    assert!(
        secondary
            .apply(Record::CreateUnnamed {
                file: id(4),
                attributes
            })
            .is_ok()
    );
}
