//! Mounts over the module's directories: the fence, the served file system, and who holds them.
//!
//! A directory is opened once, as a private copy of its mount that nothing covers ([`Site`]): the secondary applies and the
//! primary serves through that descriptor. From then on a read-only bind mount of the directory onto itself (the fence) keeps
//! everyone else from writing; a primary mounts its file system on top of the fence ([`Cover`]), so there is no instant at which
//! the directory is bare. The fence does not take back descriptors that were opened for writing before it was raised.

mod cover;
mod error;
mod holder;
mod site;
mod sys;
mod table;

pub use cover::Cover;
pub use error::MountError;
pub use holder::Holder;
pub use site::Site;
