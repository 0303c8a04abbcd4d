//! The secondary's hands: entries of the log become changes of the local directories.
//!
//! [`Applier`] is driven by one thread, the one that receives. It keeps what ties the primary's world to this one (which local
//! object each of the primary's identities means), applies each entry in log order, and knows how far everything is on stable
//! storage. It speaks neither to the network nor to the lineage: what must be asked of the primary comes out as [`Want`], what
//! went wrong as [`ApplyError`], how far it is as [`Progress`].
//!
//! Invariants:
//! - An entry is applied whole, or the session ends with an error and the same entry may be applied again.
//! - Objects are reached by file handle and names are single components below a directory so reached: nothing outside the
//!   directories of the module can be touched, whatever the log says, and no symbolic link is ever followed.
//! - Identity decides, never a name: a bound object is what the primary means by that [`FileId`](crate::record::FileId).
//!
//! # A session, seen from the link
//! 1. [`Applier::begin_resume`]; or [`Applier::begin_binding`], [`Applier::bind`] for each `Bind` frame, then
//!    [`Applier::finish_binding`]; or [`Applier::begin_resync`], whose wants are sent.
//! 2. [`Applier::apply`] for each entry; wants that come out are sent.
//! 3. [`Applier::commit`] whenever the input is drained ([`Flush::Here`]), and now and then while it is not ([`Flush::Aside`]).
//!    Then [`Applier::progress`] is what an `Ack` says; the [`Observer`] hears of later movements.
//! 4. When [`Applier::unlisted`] is 0 and no want is unsent, the peer is told `CaughtUp`. After `ResyncEnd` is applied,
//!    [`Applier::settle`] brings everything to stable storage, before the lineage may say `UpToDate`.

mod applier;
mod attributes;
mod binding;
mod blocks;
mod census;
mod comparison;
mod content;
mod descriptor;
mod error;
mod exclude;
mod extended;
mod flush;
mod make;
mod namespace;
mod remove;
mod rename;
mod store;
mod tree;
mod validity;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::record::{FileId, Lsn};

pub use applier::Applier;
pub use blocks::{BlockHashes, HASH_BYTES, Zeroes};
pub use error::ApplyError;
pub use tree::{Found, ObjectKind, Tree};

pub(crate) use attributes::{attributes_of, set_exact, set_modified};
pub(crate) use extended::replicated as extended_of;
pub(crate) use make::is_of_kind;
pub(crate) use tree::names;

/// One replicated directory.
#[derive(Debug)]
pub struct Directory {
    /// Opened below every mount of ours, so that it is writable whatever covers it.
    pub root: OwnedFd,
    /// For messages only.
    pub path: PathBuf,
    /// Globs on paths relative to the directory. What the primary does not list under such a name is left alone for as long as
    /// the directory it lies in exists on the primary; it goes with that directory.
    pub exclude: Vec<String>,
}

/// What applying an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// During a resynchronisation only: it concerns what is not known yet, and a later listing covers it.
    Skipped,
    /// Applied as far as possible; the rest has to be asked of the primary, in this order.
    Wants(Vec<Want>),
}

/// What only the primary can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// The names of a directory.
    Listing(FileId),
    /// All content of a file: the local one is empty.
    Content(FileId),
    /// The content where it differs: a local file of that name was adopted, its blocks are to be compared.
    Comparison(FileId),
}

/// Who flushes what [`Applier::apply`] found to be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The calling thread, before it returns: nothing else is waiting to be applied.
    Here,
    /// Other threads, while applying goes on.
    Aside,
}

/// How far the local directories follow the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub applied: Lsn,
    /// Every `Sync` at or below it is on stable storage.
    pub durable: Lsn,
}

/// Hears from the threads that flush. Must not block.
pub trait Observer: Send + Sync {
    /// The durable position moved, outside of a call of the [`Applier`].
    fn durable(&self, position: Lsn);

    /// A flush failed. Nothing becomes durable any more; the next call of the [`Applier`] returns the same error.
    fn failed(&self, error: &ApplyError);
}
