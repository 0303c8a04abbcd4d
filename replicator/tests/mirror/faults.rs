//! Death at every step boundary of commit roles: promotion, demotion, going alone, resynchronisation, keeping. After each the nodes
//! find together again, both oracles hold: what was acknowledged is there, and the trees are equal.
//!
//! Needs a build with `--features fault-points`.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Node};
use crate::tree;

/// Writes and commits one file; returns when the commit is acknowledged.
fn commit(node: &Node, name: &str) {
    let mut file = File::create(node.data.join(name)).unwrap();
    file.write_all(name.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

/// n1 primary, n2 live; `faults` of n1 and n2. What is acknowledged is called `acknowledged`.
fn live(faults: (&str, &str)) -> Cluster {
    let mut cluster = Cluster::new(&json!({"peer_timeout_ms": 1000}));
    cluster.n1.start_with(faults.0);
    cluster.n2.start_with(faults.1);
    lead(&mut cluster.n1, &json!({"force": true}));
    cluster.n2.call("connect", json!({}));
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");
    commit(&cluster.n1, "acknowledged");
    cluster
}

fn lead(node: &mut Node, arguments: &Value) {
    node.call("promote", arguments.clone());
    node.call("grant", json!({}));
}

/// Sends a command that its node does not survive.
fn die(node: &mut Node, command: &str, arguments: Value) {
    node.send(command, arguments);
    node.wait();
}

/// `primary` leads again after whatever happened, the other follows; then both oracles.
fn together(primary: &mut Node, secondary: &mut Node, names: &[&str]) {
    primary.until_link("live");
    secondary.until_link("live");
    commit(primary, "after");
    for name in names.iter().chain(&["acknowledged", "after"]) {
        let held = std::fs::read(secondary.data.join(name)).unwrap();
        assert_eq!(held, name.as_bytes(), "{name} was acknowledged");
    }
    primary.call("demote", json!({"timeout_ms": 10_000}));
    let lineage = &primary.status()["lineage"];
    assert_eq!(lineage["clean"], true, "{lineage}");
    tree::assert_equal(&primary.data, &secondary.data);
}

#[test]
fn promotion() {
    for point in ["promote.begin", "promote.recorded", "promote.mounted"] {
        println!("{point}");
        let mut cluster = live(("", &format!("{point}=kill")));
        cluster.n1.kill();
        die(&mut cluster.n2, "promote", json!({}));
        cluster.n2.start();
        lead(&mut cluster.n2, &json!({}));
        cluster.n1.start();
        cluster.n1.call("connect", json!({}));
        together(&mut cluster.n2, &mut cluster.n1, &[]);
    }
}

#[test]
fn demotion() {
    for point in ["demote.unmounted", "demote.closed"] {
        println!("{point}");
        let mut cluster = live((&format!("{point}=kill"), ""));
        die(&mut cluster.n1, "demote", json!({"timeout_ms": 10_000}));
        lead(&mut cluster.n2, &json!({}));
        cluster.n1.start();
        cluster.n1.call("connect", json!({}));
        together(&mut cluster.n2, &mut cluster.n1, &[]);
    }
}

#[test]
fn the_peers_last_word_at_a_demotion() {
    for action in ["kill", "pause"] {
        println!("{action}");
        let mut cluster = live(("", &format!("close.settled={action}")));
        let begun = Instant::now();
        cluster.n1.call("demote", json!({"timeout_ms": 30_000}));
        // The session is lost within the peer timeout of a second; what waits for it must not wait for the limit.
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(cluster.n1.status()["lineage"]["clean"], false);
        if action == "kill" {
            cluster.n2.wait();
            cluster.n2.start();
        } else {
            cluster.n2.signal(Signal::CONT);
        }
        lead(&mut cluster.n1, &json!({}));
        cluster.n2.call("connect", json!({}));
        together(&mut cluster.n1, &mut cluster.n2, &[]);
    }
}

#[test]
fn going_alone() {
    let mut cluster = live(("grant.recorded=kill@2", ""));
    cluster.n2.call("disconnect", json!({}));
    cluster.n1.until_commits("waiting");
    die(&mut cluster.n1, "grant", json!({}));
    cluster.n1.start();
    lead(&mut cluster.n1, &json!({}));
    commit(&cluster.n1, "alone");
    cluster.n2.call("connect", json!({}));
    together(&mut cluster.n1, &mut cluster.n2, &["alone"]);
}

/// n1 went alone and wrote; n2 returns.
fn returning(faults: (&str, &str)) -> Cluster {
    let mut cluster = live(faults);
    cluster.n2.call("disconnect", json!({}));
    cluster.n1.until_commits("waiting");
    cluster.n1.call("grant", json!({}));
    commit(&cluster.n1, "alone");
    cluster.n2.send("connect", json!({}));
    cluster
}

#[test]
fn the_secondary_in_a_resynchronisation() {
    // The first passage is the first synchronisation's.
    for (point, state) in [
        ("resync.marked", "Inconsistent"),
        ("resync.settled", "Inconsistent"),
        ("resync.recorded", "UpToDate"),
    ] {
        println!("{point}");
        let mut cluster = returning(("", &format!("{point}=kill@2")));
        cluster.n2.wait();
        cluster.n2.start();
        assert_eq!(cluster.n2.status()["lineage"]["data_state"], state);
        if state == "Inconsistent" {
            let refused = cluster.n2.ask("promote", json!({}));
            assert_eq!(refused["refusal"]["code"], "data", "{refused}");
        }
        cluster.n2.call("connect", json!({}));
        together(&mut cluster.n1, &mut cluster.n2, &["alone"]);
    }
}

#[test]
fn the_primary_in_a_resynchronisation() {
    for point in ["resync.ending", "resync.in_step"] {
        println!("{point}");
        let mut cluster = returning((&format!("{point}=kill@2"), ""));
        cluster.n1.wait();
        // It has what nobody else has, so nobody else may lead.
        let refused = cluster.n2.ask("promote", json!({}));
        assert_eq!(refused["refusal"]["code"], "data", "{refused}");
        cluster.n1.start();
        lead(&mut cluster.n1, &json!({}));
        cluster.n2.call("connect", json!({}));
        together(&mut cluster.n1, &mut cluster.n2, &["alone"]);
    }
}

#[test]
fn the_loser_while_it_keeps() {
    for point in ["keep.copied", "keep.flushed", "keep.named"] {
        println!("{point}");
        let mut cluster = returning((&format!("{point}=kill"), ""));
        cluster.n1.until_link("live");
        cluster.n2.until_link("live");
        cluster.n2.call("disconnect", json!({}));
        cluster.n1.until_commits("waiting");
        cluster.n1.call("grant", json!({}));
        commit(&cluster.n1, "given up");
        cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
        lead(&mut cluster.n2, &json!({}));
        cluster.n1.send("connect", json!({"discard": true}));
        cluster.n1.wait();
        assert!(
            cluster.n1.data.join("given up").exists(),
            "nothing is overwritten yet"
        );
        cluster.n1.start();
        assert_eq!(cluster.n1.status()["lineage"]["data_state"], "UpToDate");
        cluster.n1.call("connect", json!({"discard": true}));
        cluster.n1.event("kept");
        let directory = cluster.n1.status()["kept"]["directory"].clone();
        let below = cluster.n1.data.strip_prefix("/").unwrap();
        let kept = std::path::Path::new(directory.as_str().unwrap()).join(below);
        assert_eq!(std::fs::read(kept.join("given up")).unwrap(), b"given up");
        let place = cluster.n1.home.join("state/kept");
        let left = std::fs::read_dir(place).unwrap();
        let is_partial =
            |name: std::fs::DirEntry| name.file_name().to_string_lossy().ends_with(".partial");
        assert!(!left.into_iter().any(|name| is_partial(name.unwrap())));
        together(&mut cluster.n2, &mut cluster.n1, &["alone"]);
    }
}
