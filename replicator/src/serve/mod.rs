//! The served file system: a FUSE mount over each directory of the module, for as long as this node is primary.
//!
//! Every change that reaches a backing directory is appended to the [`Journal`] in the order in which it happened, content
//! before the names that lead to it; a commit point (fsync and its kin) is answered when the journal says so. Everything else
//! is a plain file system: what an application sees is what the backing file system would have answered.
//!
//! It does not decide who is primary, nor know the peer: `node/` starts and stops it, [`Journal`] and [`Trees`](crate::journal::Trees)
//! are all it shares with the link.

mod config;
mod status;

use std::sync::Arc;
use std::time::Duration;

use crate::journal::Journal;
use crate::mount::MountError;

pub use config::{Config, Directory, SyncMode};
pub use status::{Backend, CommitLatency, Counters, DirectoryStatus, Mode, Observer, Status};

/// Why the directories could not be served, or could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// All directories of one module, mounted and served.
///
/// Also implements [`Trees`](crate::journal::Trees), so the link reads the same locks and the same state.
pub struct Served {
    _private: (),
}

impl Served {
    /// Mounts every directory and serves it. On an error nothing stays mounted.
    ///
    /// Calls that change something may arrive at once: `journal` must take records from here on (and may let commits wait).
    pub fn start(
        _config: Config,
        _journal: Arc<dyn Journal>,
        _observer: Arc<dyn Observer>,
    ) -> Result<Arc<Served>, ServeError> {
        todo!()
    }

    /// Unmounts every directory and appends all that is still to be appended; when it returns `Ok` the journal holds the last
    /// record, and the caller waits for its acknowledgement itself.
    ///
    /// Without `force` a directory in use is refused with its holders ([`MountError::Busy`]) and everything stays served. With it
    /// the holders are killed, and after `timeout` the connection is cut; calls in flight then end with an error.
    pub fn stop(&self, _force: bool, _timeout: Duration) -> Result<(), ServeError> {
        todo!()
    }

    /// A picture of this moment; never waits for a lock that is held during I/O.
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }
}
