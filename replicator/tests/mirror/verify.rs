//! Verification beside live replication: what differs is told, what is being written is not, and a repair makes it equal.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::mutator::{Mutator, seed};
use crate::tree;

/// n2's directory below the fence, to change it as a faulty disk or a careless hand would change it.
fn behind_the_fence(cluster: &Cluster) -> std::path::PathBuf {
    use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
    let below = cluster.n2.home.join("below");
    std::fs::create_dir(&below).unwrap();
    // The parent's mount shows the directory without what is mounted over it.
    mount_bind(&cluster.n2.home, &below).unwrap();
    mount_change(&below, MountPropagationFlags::PRIVATE).unwrap();
    below.join("data")
}

fn uncover(cluster: &Cluster) {
    use rustix::mount::{UnmountFlags, unmount};
    unmount(cluster.n2.home.join("below"), UnmountFlags::DETACH).unwrap();
}

fn names(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let paths = answer["paths"].as_array().unwrap().iter();
    paths
        .map(|one| {
            let path = text(&one["path"]);
            let name = path.rsplit('/').next().unwrap().to_owned();
            (name, text(&one["aspect"]))
        })
        .collect()
}

/// Runs a verification to its end and returns what it found.
fn verify(cluster: &mut Cluster, repair: bool) -> Value {
    cluster.n2.call("verify", json!({"repair": repair}));
    let found = cluster.n2.event("verified");
    assert_eq!(found["fault"], "", "{found}");
    found
}

#[test]
fn damage_is_found_while_the_application_works_and_repaired_on_request() {
    let seed = seed();
    let mut cluster = Cluster::live(&json!({}));
    Mutator::new(&cluster.n1.data, seed).run(1000);
    let quiet = cluster.n1.data.join("quiet");
    std::fs::create_dir(&quiet).unwrap();
    for name in ["content", "mode", "missing", "sound"] {
        std::fs::write(quiet.join(name), vec![7; 500_000]).unwrap();
    }
    let busy = cluster.n1.data.join("busy");
    std::fs::create_dir(&busy).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut mutator = Mutator::new(&busy, seed ^ 1);
        while !stopped.load(Ordering::Relaxed) {
            mutator.step();
        }
    });
    let answer = verify(&mut cluster, false);
    assert_eq!(answer["differing"], 0, "seed {seed}: {answer}");
    assert!(answer["files"].as_u64().unwrap() > 4, "{answer}");

    let damaged = behind_the_fence(&cluster).join("quiet");
    let content = std::fs::OpenOptions::new()
        .write(true)
        .open(damaged.join("content"))
        .unwrap();
    let modified = content.metadata().unwrap().modified().unwrap();
    content.write_all_at(b"damaged", 400_000).unwrap();
    content.set_modified(modified).unwrap();
    drop(content);
    std::fs::set_permissions(damaged.join("mode"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(damaged.join("missing")).unwrap();
    std::fs::write(damaged.join("extra"), "extra").unwrap();
    let answer = verify(&mut cluster, false);
    let found = names(&answer);
    for expected in [
        ("content", "content"),
        ("extra", "extra"),
        ("missing", "missing"),
        ("mode", "attributes"),
        // Its names changed.
        ("quiet", "modified"),
    ] {
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        assert!(found.contains(&expected), "{expected:?}: {answer}");
    }
    assert_eq!(found.len(), 5, "seed {seed}: {answer}");
    assert_eq!(cluster.n2.status()["lineage"]["data_state"], "UpToDate");
    let refused = cluster.n1.ask("verify", json!({}));
    assert_eq!(refused["refusal"]["code"], "role", "{refused}");

    let before = cluster.n2.log().matches("link: Resync").count();
    let answer = verify(&mut cluster, true);
    assert_eq!(
        (&answer["differing"], &answer["repairs"]),
        (&json!(5), &json!(true))
    );
    cluster.n2.until_log("link: Resync", before + 1);
    cluster.n1.until_link("live");
    cluster.n2.until_link("live");
    let answer = verify(&mut cluster, false);
    assert_eq!(answer["differing"], 0, "{answer}");
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    uncover(&cluster);
    cluster.n1.call("demote", json!({"timeout_ms": 20_000}));
    tree::assert_equal(&cluster.n1.data, &cluster.n2.data);
}
