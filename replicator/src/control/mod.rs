//! The control socket: the agent's commands in, answers and events out (CONTROL.md is the specification).
//!
//! Invariant: a client that sends nonsense, stops reading or goes away costs its own connection and nothing else; no command is
//! half understood (unknown keys are refused); events reach every connection in the order in which they were published, or
//! the connection is closed, so that nobody goes on with a gap.
//!
//! What the commands mean is `node/`'s business: it implements [`Commands`].

mod command;
mod connection;
mod event;
mod frame;
mod refusal;
mod server;
mod status;
mod text;

pub use command::{Acknowledge, Command, Configuration, Directory, SyncMode, Tls};
pub use event::{Event, Publisher};
pub use refusal::Refusal;
pub use server::{ControlError, Server};
pub use status::{
    Capture, Commits, DifferingPath, DirectoryStatus, Kept, Lag, Latency, Link, Mode, Progress,
    Status, Totals, Verification,
};
pub use text::Text;

/// Version of the control protocol.
pub const PROTOCOL: u32 = 1;

/// Who carries the commands out.
pub trait Commands: Send + Sync {
    /// Carries out one command and returns its result. Called from several threads at once; slow commands may block, `Status`
    /// must not.
    fn execute(&self, command: Command) -> Result<serde_json::Value, Refusal>;
}

#[cfg(test)]
mod tests;
