//! Mounts over the module's directories: the fence, the served file system, and who holds them.
//!
//! A directory is opened once, below whatever covers it ([`Site`]): the secondary applies and the primary serves through that
//! descriptor. From then on a read-only bind mount of the directory onto itself (the fence) keeps everyone else from writing;
//! a primary mounts its file system on top of the fence ([`Mounted`]), so there is no instant at which the directory is bare.
//!
//! The descriptor belongs to a detached, writable clone of the mount (`open_tree`, `mount_setattr`: Linux 5.12), so it neither
//! needs the fence lifted nor can be reached by a path.

mod error;
mod holder;
mod mounted;
mod site;
mod sys;
mod table;

pub use error::MountError;
pub use holder::Holder;
pub use mounted::Mounted;
pub use site::Site;
