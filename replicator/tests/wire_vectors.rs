//! The replicator's codec against the shared vectors, which the construct description of WIRE.md builds independently.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::borrow::Cow;

use serde::Deserialize;
use telamon_replicator::journal::Entry;
use telamon_replicator::lineage::{DataState, Generation, Lineage, Role};
use telamon_replicator::record::{Attributes, Change, FileId, Kind, Lsn, Place, Record, Time};
use telamon_replicator::wire::{
    Closing, Control, Frame, HEADER_BYTES, Header, Hello, Intent, Listing, Logged, Refusal, Start,
    StartMode, WireError, decode, encode_control, encode_logged,
};

#[derive(Deserialize)]
struct Vectors {
    frames: Vec<Good>,
    refused: Vec<Bad>,
    forbidden: Vec<Bad>,
}

#[derive(Deserialize)]
struct Good {
    name: String,
    lsn: u64,
    frame: String,
}

#[derive(Deserialize)]
struct Bad {
    name: String,
    frame: String,
    fault: String,
}

fn vectors() -> Vectors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/wire.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    (0..hexadecimal.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap())
        .collect()
}

fn read(frame: &[u8]) -> Result<Frame<'_>, WireError> {
    let (head, payload) = frame.split_first_chunk::<HEADER_BYTES>().expect("a header");
    decode(&Header::parse(head)?, payload)
}

fn file(inode: u64) -> FileId {
    FileId {
        tree: 0,
        inode,
        generation: 7,
    }
}

fn time(seconds: i64, nanoseconds: u32) -> Time {
    Time {
        seconds,
        nanoseconds,
    }
}

fn place(parent: u64, name: &[u8]) -> Place<'_> {
    Place {
        parent: file(parent),
        name: Cow::Borrowed(name),
        parent_modified: time(1_700_000_000, 5),
    }
}

fn attributes() -> Attributes {
    Attributes {
        mode: 0o640,
        uid: 1000,
        gid: 100,
        accessed: time(1_700_000_000, 1),
        modified: time(-5, 999_999_999),
    }
}

fn entry(name: &[u8], inode: u64, kind: Kind<'static>) -> Entry {
    Entry {
        name: name.to_vec(),
        file: file(inode),
        kind,
        attributes: attributes(),
        size: 0,
        links: 1,
        extended: Vec::new(),
    }
}

fn lineage() -> Lineage {
    Lineage {
        generation: Generation(0x1122_3344_5566_7788),
        peer_generation: Generation(0x0a),
        history: vec![Generation(0x0a), Generation(0x0b)],
        data_state: DataState::UpToDate,
        is_clean: false,
        role_at_shutdown: Role::Primary,
    }
}

fn hello(node: &str, role: Role) -> Hello {
    Hello {
        cluster: "6f1c".into(),
        module: "postgresql".into(),
        node: node.into(),
        role,
        trees: 2,
        wants_durable: false,
        intent: Intent::Follow,
        log: 0,
        applied: Lsn(0),
        lineage: Lineage::default(),
    }
}

fn control(name: &str) -> Option<Control> {
    Some(match name {
        "hello of a new secondary" => Control::Hello(hello("n2", Role::Secondary)),
        "hello of a primary" => Control::Hello(Hello {
            wants_durable: true,
            log: u64::MAX,
            lineage: lineage(),
            ..hello("n1", Role::Primary)
        }),
        "start with two roots" => Control::Start(Start {
            mode: StartMode::Resync,
            log: 99,
            first: Lsn(1),
            roots: vec![
                file(2),
                FileId {
                    tree: 1,
                    inode: 128,
                    generation: 0,
                },
            ],
            bindings: 0,
        }),
        "acknowledgement" => Control::Ack {
            applied: Lsn(1000),
            durable: Lsn(998),
        },
        "keepalive" => Control::Keepalive,
        "lineage" => Control::Lineage(lineage()),
        "error" => Control::Error {
            code: Refusal::Full,
            message: "disk full on n2: free space; it reconnects by itself".into(),
        },
        "close" => Control::Close(Closing::Ends),
        "closed" => Control::Close(Closing::Ended(Lsn(77))),
        "bindings" => Control::Bind(vec![
            (
                file(12),
                FileId {
                    generation: 1,
                    ..file(13)
                },
            ),
            (file(14), file(15)),
        ]),
        "wanted listing" => Control::WantListing { directory: file(2) },
        "wanted file" => Control::WantFile { file: file(300) },
        "hashes" => Control::Hashes {
            file: file(300),
            first_block: 4,
            hashes: vec![std::array::from_fn(|at| u8::try_from(at).unwrap()), [0; 32]],
            is_last: true,
        },
        "caught up" => Control::CaughtUp,
        "served" => Control::Served { requests: 12 },
        "hello of a surveying secondary" => Control::Hello(Hello {
            intent: Intent::Survey,
            ..hello("n2", Role::Secondary)
        }),
        "names" => Control::Names(Listing {
            directory: file(2),
            itself: Some(entry(b"", 2, Kind::Directory)),
            entries: vec![entry(b"f", 12, Kind::File)],
            is_last: false,
        }),
        "wanted hashes" => Control::WantHashes {
            file: file(300),
            first_block: 1024,
        },
        "vanished" => Control::Vanished { file: file(300) },
        "wanted position" => Control::WantPosition,
        "position" => Control::Position {
            log: 99,
            last: Lsn(1000),
        },
        _ => return None,
    })
}

fn create(name: &'static [u8], parent: u64, inode: u64, kind: Kind<'static>) -> Record<'static> {
    let place = place(parent, name);
    Record::Create {
        place,
        file: file(inode),
        kind,
        attributes: attributes(),
        extended: vec![],
    }
}

fn namespace(name: &str) -> Option<Record<'static>> {
    Some(match name {
        "create a file with an ACL" => Record::Create {
            place: place(2, b"a\nb \xfe"),
            file: file(12),
            kind: Kind::File,
            attributes: attributes(),
            extended: vec![
                (
                    b"system.posix_acl_access".into(),
                    b"\x02\0\0\0\x01\0".into(),
                ),
                (b"user.x".into(), b"".into()),
            ],
        },
        "create a directory" => create(b"d", 2, 13, Kind::Directory),
        "create a symbolic link" => create(b"l", 13, 14, Kind::Symlink(b"../\xff target".into())),
        "create a block device" => create(
            b"sda",
            13,
            15,
            Kind::Special {
                format: 0o060_000,
                device: 0x0801,
            },
        ),
        "create without a name" => Record::CreateUnnamed {
            file: file(16),
            attributes: attributes(),
        },
        "link" => Record::Link {
            place: place(13, b"hard"),
            file: file(16),
        },
        "unlink" => Record::Unlink {
            place: place(13, &[b'x'; 255]),
        },
        "remove a directory" => Record::RemoveDirectory {
            place: place(2, b"d"),
        },
        "rename" | "exchange" => Record::Rename {
            from: place(2, b"a"),
            to: place(13, b"b"),
            flags: if name == "rename" { 1 } else { 2 },
            file: file(12),
            exchanged: (name == "exchange").then(|| file(19)),
        },
        "forget" => Record::Forget { file: file(16) },
        _ => return None,
    })
}

fn content(name: &str) -> Option<Record<'static>> {
    let file = file(12);
    let everything = Change {
        mode: Some(0o4755),
        uid: Some(0),
        gid: Some(5),
        accessed: Some(time(1, 2)),
        modified: Some(time(3, 4)),
    };
    Some(match name {
        "data" => Record::Data {
            file,
            offset: 8192,
            content: b"\0\x01\x02 content".into(),
        },
        "zero" => Record::Zero {
            file,
            offset: 1,
            length: 2,
            keep_size: true,
        },
        "punch" => Record::Punch {
            file,
            offset: 4096,
            length: 1 << 40,
        },
        "allocate" => Record::Allocate {
            file,
            offset: 0,
            length: 16_777_216,
            keep_size: false,
        },
        "truncate" => Record::Truncate {
            file,
            size: 10 << 30,
        },
        "change of everything" => Record::SetAttributes {
            file,
            change: everything,
        },
        "change of the modification time" => Record::SetAttributes {
            file,
            change: Change {
                modified: Some(time(3, 4)),
                ..Change::default()
            },
        },
        "set an extended attribute" => Record::SetExtended {
            file,
            name: b"user.k".into(),
            value: b"v\0".into(),
        },
        "remove an extended attribute" => Record::RemoveExtended {
            file,
            name: b"user.k".into(),
        },
        "fdatasync" => Record::Sync {
            file,
            data_only: true,
            modified: None,
        },
        "fsync" => Record::Sync {
            file,
            data_only: false,
            modified: Some(time(9, 8)),
        },
        _ => return None,
    })
}

fn resync(name: &str) -> Option<Logged<'static>> {
    let described = |name: &[u8]| Entry {
        size: 10,
        links: 2,
        ..entry(name, 12, Kind::File)
    };
    Some(match name {
        "a listing in one part" => Logged::Listing(Listing {
            directory: file(2),
            itself: Some(Entry {
                links: 4,
                ..entry(b"", 2, Kind::Directory)
            }),
            entries: vec![
                Entry {
                    extended: vec![(b"user.k".into(), b"v".into())],
                    ..described(b"f")
                },
                entry(
                    b"p",
                    20,
                    Kind::Special {
                        format: 0o010_000,
                        device: 0,
                    },
                ),
            ],
            is_last: true,
        }),
        "the end of a long listing" => Logged::Listing(Listing {
            directory: file(2),
            itself: None,
            entries: vec![entry(b"l", 14, Kind::Symlink(b"../\xff target".into()))],
            is_last: true,
        }),
        "a directory that is gone" => Logged::Gone {
            directory: file(13),
        },
        "describe" => Logged::Describe(described(b"")),
        "end of resynchronisation" => Logged::ResyncEnd,
        _ => return None,
    })
}

fn value(row: &Good) -> Frame<'static> {
    if let Some(control) = control(&row.name) {
        return Frame::Control(control);
    }
    let record = namespace(&row.name)
        .or_else(|| content(&row.name))
        .map(Logged::Record);
    let logged = record.or_else(|| resync(&row.name));
    let logged = logged.unwrap_or_else(|| panic!("no value for vector {:?}", row.name));
    Frame::Logged(Lsn(row.lsn), logged)
}

#[test]
fn every_frame_reads_and_writes_as_specified() {
    for row in &vectors().frames {
        let expected = bytes(&row.frame);
        let value = value(row);
        assert_eq!(read(&expected), Ok(value.clone()), "reading {}", row.name);
        let mut written = Vec::new();
        match value {
            Frame::Control(control) => encode_control(&control, &mut written),
            Frame::Logged(lsn, logged) => encode_logged(lsn, &logged, &mut written),
        }
        assert_eq!(written, expected, "writing {}", row.name);
    }
}

#[test]
fn every_bad_frame_is_refused_for_its_fault() {
    let vectors = vectors();
    for row in vectors.refused.iter().chain(&vectors.forbidden) {
        let frame = bytes(&row.frame);
        let fault = match read(&frame) {
            Err(WireError::Version(_)) => "version",
            Err(WireError::Type(_)) => "type",
            Err(WireError::Reserved) => "reserved",
            Err(WireError::Length { .. }) => "length",
            Err(WireError::Checksum(_)) => "checksum",
            Err(WireError::Malformed { .. }) => "malformed",
            Ok(frame) => panic!("{}: accepted as {frame:?}", row.name),
        };
        assert_eq!(fault, row.fault, "{}", row.name);
    }
}
