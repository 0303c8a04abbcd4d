//! Giving up one side after both wrote apart: what differs there is kept first, exactly that, and nothing is lost on the way.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use serde_json::json;

use crate::cluster::Cluster;
use crate::full::SmallDisk;
use crate::mutator::{Mutator, seed};
use crate::tree;

/// n1 and n2 were in step; then n1 became primary and went alone, was stopped, and n2 the same. n2 is primary.
fn apart(
    settings: &serde_json::Value,
    common: impl FnOnce(&Path),
    ours: impl FnOnce(&Path),
    theirs: impl FnOnce(&Path),
) -> Cluster {
    let mut cluster = Cluster::new(settings);
    common(&cluster.n1.data);
    cluster.bring_up();
    cluster.n2.call("disconnect", json!({}));
    cluster.n1.until_commits("waiting");
    cluster.n1.call("grant", json!({}));
    ours(&cluster.n1.data);
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    cluster.n2.call("promote", json!({}));
    cluster.n2.call("grant", json!({}));
    theirs(&cluster.n2.data);
    cluster
}

fn place(cluster: &Cluster) -> PathBuf {
    cluster.n1.home.join("state/kept")
}

/// The dated directories.
fn dated(cluster: &Cluster) -> Vec<PathBuf> {
    let Ok(names) = std::fs::read_dir(place(cluster)) else {
        return Vec::new();
    };
    let paths = names.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).collect()
}

/// The one dated directory's copy of n1's replicated directory.
fn kept(cluster: &mut Cluster) -> PathBuf {
    let status = cluster.n1.status();
    let directory = PathBuf::from(status["kept"]["directory"].as_str().unwrap());
    assert_eq!(dated(cluster), std::slice::from_ref(&directory), "{status}");
    directory.join(cluster.n1.data.strip_prefix("/").unwrap())
}

fn end_equal(cluster: &mut Cluster) {
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");
    cluster.n2.call("demote", json!({"timeout_ms": 20_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

fn everything_worth_keeping(data: &Path) {
    std::fs::write(data.join("changed"), "changed by n1").unwrap();
    std::fs::set_permissions(data.join("mode"), PermissionsExt::from_mode(0o4711)).unwrap();
    setxattr(
        data.join("labelled"),
        "user.label",
        b"n1",
        XattrFlags::empty(),
    )
    .unwrap();
    std::fs::create_dir_all(data.join("only/here\n\\deep")).unwrap();
    std::fs::write(data.join("only/here\n\\deep/file"), "deep").unwrap();
    symlink("nowhere", data.join("only/link")).unwrap();
    std::fs::hard_link(
        data.join("only/here\n\\deep/file"),
        data.join("only/second name"),
    )
    .unwrap();
    let sparse = std::fs::File::create(data.join("sparse")).unwrap();
    sparse.set_len(1 << 26).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 26) - 3).unwrap();
    std::fs::remove_file(data.join("becomes a directory")).unwrap();
    std::fs::create_dir(data.join("becomes a directory")).unwrap();
    std::fs::write(data.join("becomes a directory/inner"), "inner").unwrap();
}

#[test]
fn exactly_what_differs_is_kept_with_its_attributes() {
    let mut cluster = apart(
        &json!({}),
        |data| {
            for name in ["same", "changed", "mode", "labelled", "becomes a directory"] {
                std::fs::write(data.join(name), name).unwrap();
            }
            std::fs::create_dir(data.join("untouched")).unwrap();
            std::fs::write(data.join("untouched/file"), vec![5; 300_000]).unwrap();
        },
        everything_worth_keeping,
        |data| {
            std::fs::write(data.join("only there"), "n2").unwrap();
            std::fs::write(data.join("changed"), "changed by n2").unwrap();
            // Other times alone are not worth a copy.
            std::fs::write(data.join("same"), "same").unwrap();
        },
    );
    let changed = cluster.n1.data.join("changed").metadata().unwrap();
    cluster.n1.call("connect", json!({}));
    cluster.n1.until("refused", |status| {
        status["link_reason"]
            .as_str()
            .unwrap()
            .contains("telamon module second")
    });
    assert!(dated(&cluster).is_empty() && cluster.n1.status()["kept"].is_null());
    cluster.n1.call("connect", json!({"discard": true}));
    let event = cluster.n1.event("kept");
    assert_eq!(event["files"], 8, "{event}");
    let here = kept(&mut cluster);
    end_equal(&mut cluster);
    let found: BTreeMap<String, String> = tree::snapshot(&here);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let expected = [
        "",
        "becomes a directory",
        "becomes a directory/inner",
        "changed",
        "labelled",
        "mode",
        "only",
        "only/here\\n\\\\deep",
        "only/here\\n\\\\deep/file",
        "only/link",
        "only/second name",
        "sparse",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        std::fs::read(here.join("changed")).unwrap(),
        b"changed by n1"
    );
    let copy = here.join("changed").metadata().unwrap();
    assert_eq!(
        (copy.mode(), copy.mtime(), copy.mtime_nsec()),
        (changed.mode(), changed.mtime(), changed.mtime_nsec())
    );
    assert_eq!(
        here.join("mode").metadata().unwrap().mode() & 0o7777,
        0o4711
    );
    let mut value = [0; 8];
    let length = getxattr(here.join("labelled"), "user.label", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"n1");
    assert!(here.join("sparse").metadata().unwrap().blocks() < 1000);
    assert_eq!(here.join("only/second name").metadata().unwrap().nlink(), 2);
    // What is kept is remembered by the next process.
    cluster.n1.call("stop", json!({}));
    cluster.n1.wait();
    cluster.n1.start();
    kept(&mut cluster);
}

#[test]
fn a_storm_apart_is_kept_whole() {
    let seed = seed();
    let mut before = BTreeMap::new();
    let mut cluster = apart(
        &json!({}),
        |data| Mutator::new(data, seed).run(2000),
        |data| Mutator::new(data, seed ^ 1).run(1000),
        |data| Mutator::new(data, seed ^ 2).run(1000),
    );
    before.append(&mut tree::snapshot(&cluster.n1.data));
    let primary = tree::snapshot(&cluster.n2.data);
    cluster.n1.call("connect", json!({"discard": true}));
    let here = kept_after(&mut cluster);
    end_equal(&mut cluster);
    let copies = tree::snapshot(&here);
    let directory = |text: &str| text.starts_with('4');
    for (path, text) in &before {
        let Some(copy) = copies.get(path) else {
            let is_same = primary.get(path).map(|other| without_times(other));
            let is_same = is_same == Some(without_times(text));
            assert!(is_same, "{path} is lost, seed {seed}: {text}");
            continue;
        };
        if !directory(text) {
            assert_eq!(without_links(copy), without_links(text), "{path}");
        }
    }
    for (path, copy) in copies.iter().filter(|(_, copy)| !directory(copy)) {
        let is_same = primary.get(path).map(|other| without_times(other));
        assert_ne!(is_same, Some(without_times(copy)), "{path} did not differ");
    }
}

fn kept_after(cluster: &mut Cluster) -> PathBuf {
    cluster.n1.event("kept");
    kept(cluster)
}

/// A snapshot's line without the modification time, and without links, which say nothing of the object itself.
fn without_times(text: &str) -> String {
    let text = without_links(text);
    let mut words: Vec<&str> = text.split(' ').collect();
    words.remove(2);
    words.join(" ")
}

fn without_links(text: &str) -> String {
    match text.split_once(" links ") {
        // "links N as NAME" ends where the target or the attributes begin.
        Some((head, tail)) => {
            let at = [" -> ", " ["]
                .iter()
                .filter_map(|mark| tail.find(mark))
                .min();
            format!("{head}{}", at.map_or("", |at| &tail[at..]))
        }
        None => text.to_owned(),
    }
}

#[test]
fn an_interrupted_discard_keeps_once_and_forgets_nothing() {
    let mut cluster = apart(
        &json!({"resync_bandwidth": 4_000_000}),
        |data| std::fs::write(data.join("file"), "common").unwrap(),
        |data| std::fs::write(data.join("file"), "n1").unwrap(),
        |data| std::fs::write(data.join("large"), vec![1; 8_000_000]).unwrap(),
    );
    cluster.n1.call("connect", json!({"discard": true}));
    cluster.n1.until_link("resync");
    cluster.n1.kill();
    cluster.n1.start();
    assert_eq!(cluster.n1.status()["lineage"]["data_state"], "Inconsistent");
    let here = kept(&mut cluster);
    // Overwritten in part, so it may be followed without another word of the operator.
    cluster.n1.call("connect", json!({}));
    end_equal(&mut cluster);
    assert_eq!(kept(&mut cluster), here);
    assert_eq!(std::fs::read(here.join("file")).unwrap(), b"n1");
}

#[test]
fn an_ordinary_return_keeps_nothing() {
    let mut cluster = Cluster::live(&json!({}));
    std::fs::write(cluster.n1.data.join("file"), "one").unwrap();
    cluster.n2.call("disconnect", json!({}));
    cluster.n1.until_commits("waiting");
    cluster.n1.call("grant", json!({}));
    std::fs::write(cluster.n1.data.join("file"), "two").unwrap();
    // The operator's word is not needed here, and means nothing.
    cluster.n2.call("connect", json!({"discard": true}));
    cluster.n1.until_link("live");
    let status = cluster.n2.until_link("live");
    assert!(status["kept"].is_null(), "{status}");
    assert!(!cluster.n2.home.join("state/kept").exists());
}

#[test]
fn without_room_to_keep_nothing_is_overwritten() {
    let mut cluster = apart(
        &json!({}),
        |data| std::fs::write(data.join("file"), "common").unwrap(),
        |data| std::fs::write(data.join("file"), vec![b'1'; 20_000_000]).unwrap(),
        |data| std::fs::write(data.join("file"), "n2").unwrap(),
    );
    let place = place(&cluster);
    std::fs::create_dir(&place).unwrap();
    let small = SmallDisk::mount(&cluster.n1.home.join("image"), &place, 8);
    cluster.n1.call("connect", json!({"discard": true}));
    let event = cluster.n1.event("degraded");
    let reason = event["reason"].as_str().unwrap();
    assert!(
        reason.contains("no space in") && reason.contains("nothing is overwritten"),
        "{reason}"
    );
    let status = cluster.n1.status();
    assert_eq!(status["lineage"]["data_state"], "UpToDate", "{status}");
    let here = std::fs::read(cluster.n1.data.join("file")).unwrap();
    assert!(here == vec![b'1'; 20_000_000], "the discard went on");
    drop(small);
    // Room again: the operator repeats the order.
    cluster.n1.call("disconnect", json!({}));
    cluster.n1.call("connect", json!({"discard": true}));
    let here = kept_after(&mut cluster);
    end_equal(&mut cluster);
    assert_eq!(here.join("file").metadata().unwrap().len(), 20_000_000);
}
