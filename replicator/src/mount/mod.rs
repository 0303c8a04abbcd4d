//! Mounts over the module's directories: the fence, the served file system, and who holds them.
//!
//! A directory is opened once, before anything covers it ([`Site`]): the secondary applies and the primary serves through that
//! descriptor. From then on a read-only bind mount of the directory onto itself (the fence) keeps everyone else from writing;
//! a primary mounts its file system on top of the fence, so there is no instant at which the directory is bare.

mod site;

pub use site::{Holder, MountError, Site};
