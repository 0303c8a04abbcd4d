//! Roles and sessions from the first start to a swap.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, DEADLINE};
use crate::tree;

#[test]
fn a_first_copy_then_live_writes() {
    let mut cluster = Cluster::new(&json!({}));
    std::fs::create_dir(cluster.n1.data.join("before")).unwrap();
    std::fs::write(cluster.n1.data.join("before/file"), vec![7; 300_000]).unwrap();
    cluster.n1.start();
    cluster.n2.start();
    cluster.n1.call("promote", json!({"force": true}));
    cluster.n1.until_commits("waiting");
    cluster.n1.call("grant", json!({}));
    cluster.n2.call("connect", json!({}));
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");

    let mut file = File::create(cluster.n1.data.join("after")).unwrap();
    file.write_all(b"committed").unwrap();
    file.sync_all().unwrap();
    assert_eq!(
        std::fs::read(cluster.n2.data.join("after")).unwrap(),
        b"committed"
    );
    file.write_all_at(b"C", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(
        std::fs::read(cluster.n2.data.join("after")).unwrap(),
        b"Committed"
    );
    drop(file);
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
    let lineage = cluster
        .n2
        .until("clean", |status| status["lineage"]["clean"] == true);
    assert_eq!(
        lineage["lineage"]["generation"],
        cluster.n1.status()["lineage"]["generation"]
    );
}

/// Writes and commits one file; returns when the commit is acknowledged.
fn commit(cluster: &Cluster, name: &str) {
    let mut file = File::create(cluster.n1.data.join(name)).unwrap();
    file.write_all(name.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_swap_needs_no_comparison_and_no_generation() {
    let mut cluster = Cluster::live(&json!({}));
    commit(&cluster, "one");
    let generation = cluster.n1.status()["lineage"]["generation"].clone();
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    cluster.n2.call("promote", json!({"handover": true}));
    std::fs::write(
        cluster.n2.data.join("two"),
        "written before the peer connected",
    )
    .unwrap();
    std::fs::rename(cluster.n2.data.join("one"), cluster.n2.data.join("renamed")).unwrap();
    cluster.n1.call("connect", json!({}));
    cluster.n2.until_link("live");
    let status = cluster.n1.until_link("live");
    assert_eq!(status["lineage"]["generation"], generation);
    assert!(
        !cluster.n1.log().contains("Inconsistent"),
        "the trees were compared"
    );
    let file = File::create(cluster.n2.data.join("three")).unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert!(cluster.n1.data.join("three").exists());
    cluster.n2.call("demote", json!({"timeout_ms": 10_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

/// n2 goes on after a stop, and is brought up to date.
fn awake_and_equal(cluster: &mut Cluster) {
    cluster.n2.signal(rustix::process::Signal::CONT);
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

#[test]
fn commits_wait_for_a_lost_secondary_until_granted() {
    let mut cluster = Cluster::live(&json!({"peer_timeout_ms": 500}));
    commit(&cluster, "one");
    cluster.n1.status();
    cluster.n2.signal(rustix::process::Signal::STOP);
    let path = cluster.n1.data.join("two");
    let writer = std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        file.write_all(b"two").unwrap();
        file.sync_all().unwrap();
    });
    // A status is read piece by piece: the session's end may show in one of them first.
    let status = cluster.n1.until("commits waiting, and why", |status| {
        status["commits"] == "waiting" && status["link_reason"].as_str().unwrap().contains("n2")
    });
    assert!(!writer.is_finished(), "{status}");
    let before = status["lineage"]["generation"].clone();
    cluster.n1.call("grant", json!({}));
    writer.join().unwrap();
    let lineage = cluster.n1.status()["lineage"].clone();
    assert_eq!(lineage["peer_generation"], before);
    assert_ne!(lineage["generation"], before);
    // What the secondary has is older, and it does not know it yet: the next session compares.
    awake_and_equal(&mut cluster);
}

/// What waits in the sockets must not keep the session of a peer that is silent alive.
#[test]
fn a_frozen_secondary_is_given_up_with_full_sockets() {
    let mut cluster = Cluster::live(&json!({"peer_timeout_ms": 500}));
    cluster.n2.signal(rustix::process::Signal::STOP);
    let path = cluster.n1.data.join("large");
    let writer = std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        file.write_all(&vec![7; 40_000_000]).unwrap();
        file.sync_all().unwrap();
    });
    cluster.n1.until_commits("waiting");
    cluster.n1.call("grant", json!({}));
    writer.join().unwrap();
    awake_and_equal(&mut cluster);
}

/// With nothing to wait for, a peer that does nothing is as it should be.
#[test]
fn a_session_at_rest_lasts() {
    for acknowledge in ["disk", "memory"] {
        let settings = json!({"peer_timeout_ms": 200, "acknowledge": acknowledge});
        let mut cluster = Cluster::live(&settings);
        let committing = [1, 2, 3].map(|number| {
            let path = cluster.n1.data.join(format!("file{number}"));
            std::thread::spawn(move || {
                let mut file = File::create(path).unwrap();
                for _ in 0..100 {
                    file.write_all(b"content").unwrap();
                    file.sync_data().unwrap();
                }
            })
        });
        for thread in committing {
            thread.join().unwrap();
        }
        std::fs::write(cluster.n1.data.join("unsynced"), "content").unwrap();
        // Twice as long as callers may wait for a peer that stands still.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(cluster.n1.status()["link"], "live");
        assert!(!cluster.n1.log().contains("session ended"), "{acknowledge}");
    }
}

/// More commits wait for the peer than there may be threads, and others are served all the same.
#[test]
fn waiting_commits_keep_nobody_from_the_files() {
    const WRITERS: usize = 200;
    let mut cluster = Cluster::live(&json!({"peer_timeout_ms": 20_000}));
    cluster.n2.signal(rustix::process::Signal::STOP);
    let (tell, told) = mpsc::channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (path, tell) = (cluster.n1.data.join(number.to_string()), tell.clone());
            std::thread::spawn(move || {
                let mut file = File::create(path).unwrap();
                file.write_all(b"content").unwrap();
                tell.send(()).unwrap();
                file.sync_all().unwrap();
            })
        })
        .collect();
    for _ in 0..WRITERS {
        told.recv_timeout(DEADLINE).unwrap();
    }
    let (path, shown) = (cluster.n1.data.clone(), tell);
    std::thread::spawn(move || {
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), WRITERS);
        std::fs::write(path.join("another"), "content").unwrap();
        std::fs::rename(path.join("another"), path.join("renamed")).unwrap();
        shown.send(()).unwrap();
    });
    told.recv_timeout(DEADLINE).unwrap();
    assert!(writers.iter().all(|writer| !writer.is_finished()));
    cluster.n2.signal(rustix::process::Signal::CONT);
    for writer in writers {
        writer.join().unwrap();
    }
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

#[test]
fn a_short_loss_is_resumed_without_comparison() {
    let mut cluster = Cluster::live(&json!({"peer_timeout_ms": 500}));
    let marks = cluster.n2.log().matches("Inconsistent").count();
    for round in 0..3 {
        commit(&cluster, &format!("before {round}"));
        cluster.n2.signal(rustix::process::Signal::STOP);
        cluster.n1.until_commits("waiting");
        let path = cluster.n1.data.join(format!("during {round}"));
        let writer = std::thread::spawn(move || {
            let mut file = File::create(path).unwrap();
            file.write_all(&vec![3; 100_000]).unwrap();
            file.sync_all().unwrap();
        });
        cluster.n2.signal(rustix::process::Signal::CONT);
        writer.join().unwrap();
        cluster.n2.until_link("live");
    }
    assert_eq!(cluster.n2.log().matches("Inconsistent").count(), marks);
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

#[test]
fn a_killed_secondary_is_brought_up_again() {
    let mut cluster = Cluster::live(&json!({}));
    commit(&cluster, "one");
    cluster.n2.kill();
    cluster.n1.until_commits("waiting");
    cluster.n1.call("grant", json!({}));
    commit(&cluster, "two");
    cluster.n2.start();
    assert_eq!(cluster.n2.status()["lineage"]["data_state"], "UpToDate");
    cluster.n2.call("connect", json!({}));
    cluster.n2.until_link("live");
    commit(&cluster, "three");
    cluster.n1.call("stop", json!({}));
    cluster.n1.wait();
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

#[test]
fn a_killed_primary_is_overtaken_and_returns_as_secondary() {
    let mut cluster = Cluster::live(&json!({}));
    commit(&cluster, "acknowledged");
    cluster.n1.kill();
    cluster.n2.call("promote", json!({}));
    cluster.n2.call("grant", json!({}));
    assert_eq!(
        std::fs::read(cluster.n2.data.join("acknowledged")).unwrap(),
        b"acknowledged"
    );
    std::fs::write(cluster.n2.data.join("later"), "later").unwrap();
    cluster.n1.start();
    assert_eq!(cluster.n1.status()["directories"][0]["fenced"], true);
    cluster.n1.call("connect", json!({}));
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");
    cluster.n2.call("demote", json!({"timeout_ms": 10_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

#[test]
fn nodes_that_wrote_apart_refuse_each_other() {
    let mut cluster = Cluster::live(&json!({}));
    cluster.n2.call("disconnect", json!({}));
    cluster.n1.until_commits("waiting");
    cluster.n1.call("grant", json!({}));
    std::fs::write(cluster.n1.data.join("only here"), "1").unwrap();
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    cluster.n2.call("promote", json!({}));
    cluster.n2.call("grant", json!({}));
    std::fs::write(cluster.n2.data.join("only there"), "2").unwrap();
    cluster.n1.call("connect", json!({}));
    let status = cluster.n1.until("refused", |status| {
        status["link_reason"]
            .as_str()
            .unwrap()
            .contains("split brain")
    });
    assert_eq!(status["lineage"]["data_state"], "UpToDate");
    assert!(
        cluster.n1.data.join("only here").exists() && !cluster.n1.data.join("only there").exists()
    );
    cluster.n1.call("connect", json!({"discard": true}));
    cluster.n1.until_link("live");
    cluster.n2.call("demote", json!({"timeout_ms": 10_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

#[test]
fn outdated_data_is_promoted_by_force_only() {
    let mut cluster = Cluster::live(&json!({}));
    let refused = cluster.n2.ask("outdate", json!({"by": "00000000000000aa"}));
    assert_eq!(refused["refusal"]["code"], "role", "{refused}");
    assert_eq!(cluster.n2.status()["lineage"]["data_state"], "UpToDate");
    cluster.n2.call("disconnect", json!({}));
    cluster
        .n2
        .call("outdate", json!({"by": "00000000000000aa"}));
    let answer = cluster.n2.ask("promote", json!({}));
    assert!(
        answer["refusal"]["message"]
            .as_str()
            .unwrap()
            .contains("--force"),
        "{answer}"
    );
    cluster.n2.call("promote", json!({"force": true}));
    assert_eq!(cluster.n2.status()["lineage"]["data_state"], "UpToDate");
}
