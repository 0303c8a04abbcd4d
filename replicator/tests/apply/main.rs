//! The secondary's disk against a model of the primary: every record, hostile input, a full disk, and random sequences.
//!
//! Runs as root on /var/tmp (a file system with xattrs, ACLs and file handles).

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod binding;
mod full;
mod hostile;
mod operation;
mod primary;
mod records;
mod resync;
mod secondary;
mod sequences;
mod snapshot;
