//! The nodes of one directory.
//!
//! Invariant: a node stays as long as the kernel knows it, has it open, or its content is to be shipped; so there is never a second
//! node for the same object whose records could overtake the first one's.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::lock::lock;
use super::node::{Node, Standing};
use crate::identity::Identity;

#[derive(Debug)]
pub struct Table {
    shards: [Mutex<HashMap<u64, Arc<Node>>>; Self::SHARDS],
}

impl Table {
    const SHARDS: usize = 16;

    pub fn new() -> Table {
        Table {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn shard(&self, inode: u64) -> &Mutex<HashMap<u64, Arc<Node>>> {
        // Neighbouring inode numbers fall into different shards.
        &self.shards[usize::try_from(inode % Self::SHARDS as u64).unwrap_or(0)]
    }

    #[must_use]
    pub fn get(&self, inode: u64) -> Option<Arc<Node>> {
        lock(self.shard(inode)).get(&inode).cloned()
    }

    /// The object's node, made if need be. `is_lookup`: the kernel is about to be told of it and will forget it one day.
    pub fn obtain(
        &self,
        identity: Identity,
        format: u32,
        standing: Standing,
        is_lookup: bool,
    ) -> Arc<Node> {
        let mut shard = lock(self.shard(identity.inode));
        let make = || Arc::new(Node::new(identity, format, standing));
        let node = shard.entry(identity.inode).or_insert_with(make);
        if node.identity != identity {
            // The number was used again. What the kernel still has to forget of the former object, it will forget by number.
            let lookups = node.lookups.load(Ordering::Relaxed);
            node.set_standing(Standing::Gone);
            *node = make();
            node.lookups.store(lookups, Ordering::Relaxed);
        }
        if is_lookup {
            node.lookups.fetch_add(1, Ordering::Relaxed);
        }
        Arc::clone(node)
    }

    /// The kernel forgot the node `count` times. Returns the node if that was the last of it.
    pub fn forget(&self, inode: u64, count: u64) -> Option<Arc<Node>> {
        let shard = lock(self.shard(inode));
        let node = shard.get(&inode)?;
        let before = node.lookups.load(Ordering::Relaxed);
        debug_assert!(
            before >= count,
            "the kernel forgets no more than it was told"
        );
        let after = before.saturating_sub(count);
        node.lookups.store(after, Ordering::Relaxed);
        (after == 0).then(|| Arc::clone(node))
    }

    /// Removes the node if nothing needs it any more; `last` is done before anybody can find the object anew.
    pub fn release(&self, node: &Arc<Node>, last: impl FnOnce()) -> bool {
        let mut shard = lock(self.shard(node.identity.inode));
        let is_present = shard
            .get(&node.identity.inode)
            .is_some_and(|present| Arc::ptr_eq(present, node));
        let is_needed = node.lookups.load(Ordering::Relaxed) > 0 || lock(&node.life).opens > 0 || {
            let pending = lock(&node.pending);
            pending.is_queued || pending.is_touched || !pending.ranges.is_empty()
        };
        if is_present && !is_needed {
            shard.remove(&node.identity.inode);
            last();
        }
        is_present && !is_needed
    }

    /// Every node, at this moment.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Node>> {
        self.shards
            .iter()
            .flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Identity = Identity {
        inode: 12,
        generation: 7,
    };

    fn obtain(table: &Table, identity: Identity) -> Arc<Node> {
        table.obtain(identity, libc::S_IFREG, Standing::Named, true)
    }

    #[test]
    fn a_node_lives_until_the_kernel_forgot_it_and_its_content_is_shipped() {
        let table = Table::new();
        let node = obtain(&table, FILE);
        assert!(Arc::ptr_eq(&node, &obtain(&table, FILE)));
        assert!(table.forget(12, 1).is_none());
        lock(&node.pending).ranges.add(0..1);
        let last = table.forget(12, 1).unwrap();
        assert!(
            !table.release(&last, || ()),
            "content is still to be shipped"
        );
        assert!(
            Arc::ptr_eq(&last, &obtain(&table, FILE)),
            "found again, the same node lives on"
        );
        assert!(table.forget(12, 1).is_some());
        assert!(!lock(&node.pending).ranges.take(1).is_empty());
        assert!(table.release(&last, || ()));
        assert!(table.get(12).is_none());
    }

    #[test]
    fn a_number_used_again_is_another_node_that_inherits_what_is_to_be_forgotten() {
        let table = Table::new();
        let old = obtain(&table, FILE);
        let new = obtain(
            &table,
            Identity {
                generation: 8,
                ..FILE
            },
        );
        assert!(!Arc::ptr_eq(&old, &new));
        assert_eq!(old.standing(), Standing::Gone);
        assert!(
            table.forget(12, 1).is_none(),
            "one of the two lookups is left"
        );
        assert!(table.forget(12, 1).is_some());
    }
}
