//! Bringing a secondary up to date: whatever it holds before, and whatever happens on the primary meanwhile.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::cluster::Cluster;
use crate::mutator::{Mutator, Random, Storm, seed};
use crate::tree;

/// Slow enough that much happens meanwhile.
#[test]
fn trees_become_equal_under_a_storm() {
    let seed = seed();
    let mut cluster = Cluster::new(&json!({"resync_bandwidth": 4_000_000}));
    Mutator::new(&cluster.n1.data, seed).run(6000);
    Mutator::new(&cluster.n2.data, seed ^ 1).run(6000);
    std::fs::write(cluster.n1.data.join("large"), vec![1; 8_000_000]).unwrap();
    cluster.n1.start();
    cluster.n1.call("promote", json!({"force": true}));
    cluster.n1.call("grant", json!({}));
    let storms = [2, 3, 4].map(|salt| Storm::begin(&cluster.n1.data, seed ^ salt));
    cluster.n2.start();
    cluster.n2.call("connect", json!({}));
    both_live(&mut cluster);
    for storm in storms {
        println!("{} operations", storm.end());
    }
    end_equal(&mut cluster);
}

#[test]
fn live_changes_of_every_kind_arrive() {
    let seed = seed();
    let mut cluster = Cluster::live(&json!({}));
    Mutator::new(&cluster.n1.data, seed)
        .preallocating()
        .run(5000);
    end_equal(&mut cluster);
}

fn both_live(cluster: &mut Cluster) {
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");
}

fn end_equal(cluster: &mut Cluster) {
    cluster.n1.call("demote", json!({"timeout_ms": 20_000}));
    let status = cluster.n1.status();
    assert_eq!(status["lineage"]["clean"], true, "{status}");
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}

#[test]
fn trees_that_differ_in_everything_become_equal() {
    let seed = seed();
    let mut cluster = Cluster::new(&json!({}));
    Mutator::new(&cluster.n1.data, seed).run(4000);
    Mutator::new(&cluster.n2.data, seed ^ 1).run(4000);
    cluster.n1.start();
    cluster.n1.call("promote", json!({"force": true}));
    cluster.n1.call("grant", json!({}));
    cluster.n2.start();
    cluster.n2.call("connect", json!({}));
    both_live(&mut cluster);
    end_equal(&mut cluster);
}

#[test]
fn trees_become_equal_while_the_application_works() {
    let seed = seed();
    for round in 0..4 {
        let seed = seed.wrapping_add(round * 1000);
        let mut cluster = Cluster::new(&json!({}));
        Mutator::new(&cluster.n1.data, seed).run(2000);
        Mutator::new(&cluster.n2.data, seed ^ 1).run(if round % 2 == 0 { 2000 } else { 0 });
        cluster.n1.start();
        cluster.n1.call("promote", json!({"force": true}));
        cluster.n1.call("grant", json!({}));
        let storm = Storm::begin(&cluster.n1.data, seed ^ 2);
        cluster.n2.start();
        cluster.n2.call("connect", json!({}));
        both_live(&mut cluster);
        println!("{} operations, seed {seed}", storm.end());
        end_equal(&mut cluster);
    }
}

/// Holes that a comparison covers stay holes, also when a commit takes what is marked before the background does.
#[test]
fn holes_stay_holes_while_the_application_commits() {
    const FILES: usize = 300;
    let mut cluster = Cluster::new(&json!({}));
    for (data, byte) in [(&cluster.n1.data, 1), (&cluster.n2.data, 2)] {
        for number in 0..FILES {
            let file = std::fs::File::create(data.join(format!("sparse{number}"))).unwrap();
            file.write_all_at(&[byte; 4096], 60_000).unwrap();
        }
    }
    cluster.n1.start();
    cluster.n1.call("promote", json!({"force": true}));
    cluster.n1.call("grant", json!({}));
    let stop = Arc::new(AtomicBool::new(false));
    let committing = [0, FILES / 2].map(|first| {
        let (stop, data) = (stop.clone(), cluster.n1.data.clone());
        std::thread::spawn(move || {
            let open = |number| std::fs::File::open(data.join(format!("sparse{number}"))).unwrap();
            let files: Vec<_> = (first..first + FILES / 2).map(open).collect();
            while !stop.load(Ordering::Relaxed) {
                for file in &files {
                    file.sync_data().unwrap();
                }
            }
        })
    });
    cluster.n2.start();
    cluster.n2.call("connect", json!({}));
    both_live(&mut cluster);
    stop.store(true, Ordering::Relaxed);
    for thread in committing {
        thread.join().unwrap();
    }
    end_equal(&mut cluster);
}

#[test]
fn an_interrupted_comparison_begins_again() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut cluster = Cluster::new(&json!({"resync_bandwidth": 20_000_000}));
    Mutator::new(&cluster.n1.data, seed).run(2000);
    std::fs::write(cluster.n1.data.join("large"), vec![1; 30_000_000]).unwrap();
    cluster.n1.start();
    cluster.n1.call("promote", json!({"force": true}));
    cluster.n1.call("grant", json!({}));
    let storm = Storm::begin(&cluster.n1.data, seed ^ 2);
    for _ in 0..3 {
        cluster.n2.start();
        cluster.n2.call("connect", json!({}));
        cluster.n2.until_link("resync");
        std::thread::sleep(std::time::Duration::from_millis(random.below(800)));
        let status = cluster.n2.status();
        if status["link"] == "resync" {
            assert_eq!(status["lineage"]["data_state"], "Inconsistent");
            let refused = cluster.n2.ask("promote", json!({}));
            assert_eq!(refused["refusal"]["code"], "data", "{refused}");
        }
        cluster.n2.kill();
    }
    cluster.n2.start();
    cluster.n2.call("connect", json!({}));
    both_live(&mut cluster);
    storm.end();
    end_equal(&mut cluster);
}

#[test]
fn equal_content_costs_hashing_only() {
    let mut cluster = Cluster::new(&json!({}));
    let content: Vec<u8> = (0..20_000_000u32)
        .flat_map(u32::to_le_bytes)
        .take(20_000_000)
        .collect();
    for data in [&cluster.n1.data, &cluster.n2.data] {
        std::fs::write(data.join("same"), &content).unwrap();
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(cluster.n2.data.join("same"))
        .unwrap();
    file.write_all_at(b"different", 5_000_000).unwrap();
    drop(file);
    cluster.n1.start();
    cluster.n1.call("promote", json!({"force": true}));
    cluster.n1.call("grant", json!({}));
    cluster.n2.start();
    cluster.n2.call("connect", json!({}));
    both_live(&mut cluster);
    let shipped = cluster.n1.status()["counters"]["bytes_shipped"]
        .as_u64()
        .unwrap();
    assert!(
        (9..1_000_000).contains(&shipped),
        "{shipped} bytes for 9 that differed"
    );
    end_equal(&mut cluster);
}

#[test]
fn a_comparison_on_request_repairs() {
    let mut cluster = Cluster::live(&json!({}));
    std::fs::write(cluster.n1.data.join("file"), "good").unwrap();
    cluster.n1.call("demote", json!({"timeout_ms": 10_000}));
    cluster.n1.call("promote", json!({}));
    cluster.n2.until_link("live");
    let before = cluster.n2.log().matches("link: Resync").count();
    cluster.n1.call("resync", json!({}));
    cluster.n2.until_log("link: Resync", before + 1);
    both_live(&mut cluster);
    end_equal(&mut cluster);
}
