//! Identities between equal trees: a secondary becomes primary and tells the old one who is who.

use std::fs;

use telamon_replicator::apply::ApplyError;
use telamon_replicator::record::{FileId, Record};

use crate::operation::Operation;
use crate::secondary::Secondary;
use crate::sequences::pair;

fn some_operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for number in 0..40_u8 {
        let (directory, name) = (number / 6, number);
        operations.push(Operation::Create {
            directory,
            name,
            kind: number,
            mode: 0o755,
        });
        operations.push(Operation::Write {
            path: number,
            offset: 0,
            length: 99,
            byte: number,
        });
        operations.push(Operation::Link {
            path: number,
            directory: number / 9,
            name: number / 3,
        });
    }
    operations
}

#[test]
fn after_a_swap_the_old_primary_follows_without_a_comparison() {
    let (mut primary, mut secondary) = pair();
    for operation in &some_operations() {
        primary.perform(operation);
    }
    for entry in primary.log.drain(..) {
        secondary.log(&entry).unwrap();
    }
    // What the new primary knows, turned round, is what the old one is told.
    let pairs: Vec<(FileId, FileId)> = secondary
        .applier
        .bindings()
        .map(|(theirs, ours)| (ours, theirs))
        .collect();
    let mut old = Secondary::at(primary.path(), &[]);
    old.bind(&pairs).unwrap();
    let again: std::collections::BTreeSet<_> = old
        .applier
        .bindings()
        .map(|(theirs, ours)| (theirs.inode, ours.inode))
        .collect();
    let given: std::collections::BTreeSet<_> = pairs
        .iter()
        .map(|(theirs, ours)| (theirs.inode, ours.inode))
        .collect();
    assert_eq!(again, given);
    // Every object can be reached: a flush of each succeeds.
    for (file, _) in &pairs {
        let file = *file;
        old.apply(Record::Sync {
            file,
            data_only: true,
            modified: None,
        })
        .unwrap();
    }
    assert_eq!(old.commit().applied.0, pairs.len() as u64);
    old.applier.settle().unwrap();
    assert_eq!(old.applier.progress().durable.0, pairs.len() as u64);
}

#[test]
fn an_object_that_the_peer_does_not_know_is_a_divergence() {
    let (primary, secondary) = pair();
    let (theirs, ours) = (primary.root(), primary.id(secondary.path()));
    fs::create_dir(secondary.path().join("local")).unwrap();
    fs::write(secondary.path().join("local/x.pid"), "").unwrap();
    let mut strict = Secondary::at(secondary.path(), &[]);
    let error = strict.bind(&[(theirs, ours)]).unwrap_err();
    assert!(matches!(error, ApplyError::Diverged { .. }), "{error}");
    // Left only for what is excluded: not the peer's business.
    let mut lenient = Secondary::at(secondary.path(), &["**/*.pid"]);
    lenient.bind(&[(theirs, ours)]).unwrap();
    fs::create_dir(secondary.path().join("local/empty")).unwrap();
    lenient.bind(&[(theirs, ours)]).unwrap_err();
}
