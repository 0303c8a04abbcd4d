//! Brings a secondary up to date by comparing trees, while the application works on the primary.
//!
//! The secondary drives: it asks for the listing of each directory, makes its names equal, and asks for the content of each file,
//! whole or by comparing BLAKE3 hashes of blocks. The primary answers *in the log*, so every answer stands in order
//! among the live records, which flow from the session's first instant.
//!
//! # Why it converges
//! Call an object *known* when the secondary has bound it to a local one, and a directory *listed* when its listing was applied or
//! it was born empty in a listed one.
//!
//! **Names.** Invariant: at every position of the log a listed directory has on the secondary exactly the names that it has on the
//! primary at that position, each leading to a known object. A listing is read and appended while the namespace stands still, so it
//! establishes this; later records on listed directories keep it, because they are exact. Records on directories that are not listed
//! are left out: their listing comes later and covers them. The one record that could break the invariant moves an object from a
//! place that is not listed into a listed directory; the primary therefore describes every object that a rename or link moves (the
//! `Describe` entry before the record), so the secondary can make it on the spot. Thus *listed never becomes unlisted*: each
//! directory that existed before is listed once, new ones below listed directories are listed from birth, and the walk ends
//! however fast the application renames.
//!
//! **Content.** A file is asked for when it becomes known, at log position `b`. Take one byte of it. If any record after `b` writes
//! it, the last such record carries the primary's newest content of it, and the secondary applies it: equal. If none does, then the
//! byte changed neither on the primary after `b` (every later write would be captured and shipped) nor on the secondary. The
//! primary reads it after `b`, so it compares or sends its final value: equal after that. Torn reads while hashing can only
//! make hashes differ, never agree wrongly. Sizes travel like that too (`Trees::ship_size` answers every request), holes are part of
//! the hashes, times follow the content. What is sent because of a comparison is marked as changed and rides the ordinary path, so
//! it is ordered against concurrent writes by the same lock as every write.
//!
//! **End.** When every directory is listed and every request is served, the primary lets everything marked so far reach the
//! log (`Trees::settle`), records the peer as in step, and appends `ResyncEnd`; from there commits wait for the secondary. The
//! secondary brings its trees to stable storage and only then records itself `UpToDate`. It was `Inconsistent` on disk from before
//! its first change, so a crash anywhere on the way begins anew and promotes nothing.
//!
//! It does not decide whether the trees may be compared and in which direction; that is `link/handshake.rs`.

mod pace;
mod progress;
mod request;
mod source;
mod target;
mod window;

pub use pace::Pace;
pub use progress::{Meter, Progress};
pub use request::Request;
pub use source::{Source, SourceSettings};
pub use target::{Target, TargetError};

/// Requests of the secondary that the primary has not served, at most.
pub const REQUESTS_MAX: usize = 256;
/// Bytes covered by one hash.
pub const BLOCK_BYTES: usize = 128 << 10;
