//! The one place where the node's lineage changes: on the disk first, then in memory, then told.

use std::sync::Mutex;

use super::{Lineage, Store, StoreError};
use crate::link::locked;

/// Hears of every record that reached the disk.
pub type Told = Box<dyn Fn(&Lineage) + Send + Sync>;

/// Holds the record of one module.
pub struct Keeper {
    store: Store,
    current: Mutex<Lineage>,
    told: Told,
}

impl Keeper {
    /// Loads the record, or refuses it with its cure.
    pub fn open(store: Store, told: Told) -> Result<Keeper, StoreError> {
        let current = Mutex::new(store.load()?);
        Ok(Keeper {
            store,
            current,
            told,
        })
    }

    #[must_use]
    pub fn current(&self) -> Lineage {
        locked(&self.current).clone()
    }

    /// Replaces the record by what `change` makes of it. When it returns, the new one is on stable storage; on an error the old one
    /// stands.
    pub fn update(&self, change: impl FnOnce(&Lineage) -> Lineage) -> Result<Lineage, StoreError> {
        let mut current = locked(&self.current);
        let next = change(&current);
        if next != *current {
            self.store.save(&next)?;
            current.clone_from(&next);
            (self.told)(&next);
        }
        Ok(next)
    }
}
