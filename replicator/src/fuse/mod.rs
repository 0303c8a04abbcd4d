//! The `/dev/fuse` protocol (linux/fuse.h, 7.31 to 7.45) and nothing else: bytes in, values out, replies that must be consumed.
//!
//! It knows no file system; `serve/` gives the values a meaning. Any bytes whatever parse to a value or to [`Malformed`],
//! never to a panic. Only what the handler honours is negotiated ([`negotiation`]).
//!
//! Why not the fuser crate. Its source (0.18.0) was held against what the data path needs; missing are:
//! - resuming a session: `Session::from_fd` always performs the INIT handshake, an inherited connection has had its own;
//! - `FUSE_NOTIFY_RESEND`: there is no such notification (nor a way to send a raw one), so a hand-over would leave calls hanging;
//! - `FUSE_TMPFILE` and `FUSE_STATX`: opcodes end at 47, the rest is answered ENOSYS, so `O_TMPFILE` and birth times are lost;
//! - the signals of `FUSE_HANDLE_KILLPRIV_V2`: the flag can be requested, but `open_flags` (`FUSE_OPEN_KILL_SUIDGID`) of OPEN
//!   and CREATE, `FATTR_KILL_SUIDGID` and the long form of `setxattr_in` (`FUSE_SETXATTR_ACL_KILL_SGID`) never reach the caller;
//! - caller credentials: request extensions are not parsed, so `FUSE_CREATE_SUPP_GROUP` cannot be honoured;
//! - workers: a fixed number of threads, where a commit may block its thread for as long as the peer takes.
//!
//! Present there, and kept in spirit here: passthrough with a backing id for each open, one concept in one file, new types.

mod abi;
mod body;
mod device;
mod listing;
mod negotiation;
mod operation;
mod parse;
mod reply;
mod request;
mod session;
mod sys;
mod value;

pub use abi::rename;
pub use body::Malformed;
pub use device::Device;
pub use listing::{Listing, Name};
pub use negotiation::Negotiated;
pub use operation::{Forgets, Instant, Operation, Ownership, SetAttributes};
pub use reply::{Attributes, Birth, Capacity, Entry, Opened, Reply, Served, Stamp};
pub use request::Request;
pub use session::{Handler, Session};
pub use value::{BackingId, Caller, HandleId, NodeId, Unique};

/// The largest READ and WRITE that is negotiated, in bytes.
pub const TRANSFER_MAX: usize = 1 << 20;
