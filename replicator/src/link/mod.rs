//! The link to the peer: an authenticated session, the primary's log with its acknowledgements, the secondary's following of it.
//!
//! ```text
//! primary:   append -> queue -> flush (encrypt, write) ......> inbox -> apply      :secondary
//!            when  <- positions <- receiving thread   <...... ACK after apply / sync
//! ```
//! Plain threads and blocking sockets. The thread that commits encrypts and writes by itself; a session's receiving thread tells
//! the commits that wait. Neither side trusts the other's bytes: what is not a well-formed frame in its place ends the session.

pub mod acknowledger;
pub mod channel;
pub mod dial;
pub mod events;
pub mod follow;
pub mod handshake;
pub mod lead;
pub mod listen;
mod parked;
pub mod pulse;
pub mod queue;
pub mod shipper;
mod split;
pub mod tls;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wire::WireError;

/// How far a session is, as status and events say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    Down,
    Connecting,
    Resync,
    Live,
}

/// Why a session could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer said nothing for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("the peer lives, but neither applied nor flushed anything for {} ms", .0.as_millis())]
    Stuck(Duration),
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0} where it makes no sense")]
    Unexpected(String),
    #[error("{0}")]
    Refused(String),
    #[error("connection: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => LinkError::Closed,
            _ => LinkError::Io(error),
        }
    }
}

/// Locks; a panic elsewhere aborts the process, so a poisoned lock cannot be met.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
