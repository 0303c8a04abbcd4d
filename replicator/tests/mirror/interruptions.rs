//! A long life: the application never stops, the link and both nodes do, and the roles go from one to the other.
//!
//! After every term of a primary both oracles hold: what was acknowledged is on its successor, and once both are together the
//! trees are equal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{Cluster, Node};
use crate::mutator::{Mutator, Random, Storm, seed};
use crate::tree;

const TERMS: u64 = 5;
const INTERRUPTIONS: u64 = 4;
const PEER_TIMEOUT: Duration = Duration::from_millis(300);
const LEDGER: &str = "ledger";

/// Commits one byte after the other until it meets an error; counts those that were acknowledged.
struct Committer {
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Committer {
    fn begin(root: &Path) -> Committer {
        let mut ledger = OpenOptions::new()
            .append(true)
            .create(true)
            .open(root.join(LEDGER))
            .unwrap();
        let acknowledged = Arc::new(AtomicU64::new(length(&ledger)));
        let count = acknowledged.clone();
        let thread = std::thread::spawn(move || {
            while ledger
                .write_all(b"x")
                .and_then(|()| ledger.sync_data())
                .is_ok()
            {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Committer {
            acknowledged,
            thread,
        }
    }

    /// The primary is gone: how much of the ledger was acknowledged.
    fn end(self) -> u64 {
        self.thread.join().unwrap();
        self.acknowledged.load(Ordering::SeqCst)
    }
}

fn length(file: &File) -> u64 {
    file.metadata().unwrap().len()
}

#[test]
fn nothing_is_lost_and_trees_are_equal_after_any_interruptions() {
    let seed = seed();
    let mut random = Random::new(seed);
    let timeout = u64::try_from(PEER_TIMEOUT.as_millis()).unwrap();
    let mut cluster = Cluster::new(&json!({"peer_timeout_ms": timeout}));
    let (mut primary, mut secondary) = (&mut cluster.n1, &mut cluster.n2);
    Mutator::new(&primary.data, seed).run(1000);
    primary.start();
    secondary.start();
    primary.call("promote", json!({"force": true}));
    primary.call("grant", json!({}));
    secondary.call("connect", json!({}));
    for term in 0..TERMS {
        serve(primary, secondary, &mut random, term);
        std::mem::swap(&mut primary, &mut secondary);
    }
    until_together(primary, secondary);
    primary.call("demote", json!({"timeout_ms": 20_000}));
    tree::assert_equal(&primary.data, &secondary.data);
}

/// One term of a primary, with all that can happen in it, and its end.
fn serve(primary: &mut Node, secondary: &mut Node, random: &mut Random, term: u64) {
    let storms = [1, 2].map(|salt| Storm::begin(&primary.data, random.next() ^ salt));
    let committer = Committer::begin(&primary.data);
    for _ in 0..INTERRUPTIONS {
        interrupt(primary, secondary, random);
    }
    until_together(primary, secondary);
    primary.kill();
    println!(
        "term {term}: {} operations",
        storms.map(Storm::end).iter().sum::<u64>()
    );
    let acknowledged = committer.end();
    secondary.call("promote", json!({}));
    secondary.call("grant", json!({}));
    let held = length(&File::open(secondary.data.join(LEDGER)).unwrap());
    assert!(
        held >= acknowledged,
        "{held} of {acknowledged} acknowledged commits are there"
    );
    primary.start();
    primary.call("connect", json!({}));
}

fn interrupt(primary: &mut Node, secondary: &mut Node, random: &mut Random) {
    let mut pause = |limit: Duration| {
        let millis = u64::try_from(limit.as_millis()).unwrap();
        std::thread::sleep(Duration::from_millis(random.below(millis)));
    };
    pause(PEER_TIMEOUT);
    match random.below(3) {
        0 => {
            secondary.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(random.below(200)));
            secondary.signal(Signal::CONT);
        }
        1 => {
            secondary.signal(Signal::STOP);
            primary.until("alone or waiting", |status| status["link"] == "down");
            alone(primary);
            std::thread::sleep(Duration::from_millis(random.below(100)));
            secondary.signal(Signal::CONT);
        }
        _ => {
            secondary.kill();
            alone(primary);
            secondary.start();
            secondary.call("connect", json!({}));
        }
    }
}

/// As an agent does whose peer is known to be down.
fn alone(primary: &mut Node) {
    primary.until("asked to go on alone", |status| status["link"] != "live");
    primary.ask("grant", json!({}));
}

fn until_together(primary: &mut Node, secondary: &mut Node) {
    primary.until_link("live");
    secondary.until_link("live");
}
