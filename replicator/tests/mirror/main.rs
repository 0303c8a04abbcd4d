//! Two replicator processes over loopback: roles, sessions, resynchronisation, hostile peers, crashes at step boundaries.
//!
//! Needs root and /dev/fuse. Every mirror has its own directories below /var/tmp.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod cluster;
#[cfg(feature = "fault-points")]
mod faults;
mod full;
mod hostile;
mod interruptions;
mod keep;
mod mutator;
mod resync;
mod session;
mod tree;
mod verify;
