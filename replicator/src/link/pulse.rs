//! The beat of a session: a keepalive when nothing else was sent, and whatever else must happen now and then.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::channel::Channel;
use crate::wire::Control;

/// Keepalives in one `peer_timeout`.
const BEATS: u32 = 8;

/// Beats until it is dropped, which waits for a beat under way: close the channel before where the peer may have stopped reading.
pub struct Pulse {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Calls `beat` and keeps the peer from giving `channel` up, eight times in every `peer_timeout`. Calls `outlived` if the pulse
    /// is not dropped within a `peer_timeout` of the connection's end: then the session's own thread hangs.
    pub fn start(
        channel: Arc<Channel>,
        peer_timeout: Duration,
        mut beat: impl FnMut() + Send + 'static,
        outlived: impl FnOnce() + Send + 'static,
    ) -> io::Result<Pulse> {
        let (stop, stopped) = mpsc::channel();
        let interval = peer_timeout / BEATS;
        let thread = Builder::new().name("pulse".to_owned()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                beat();
                if channel.idle() >= interval && channel.send_control(&Control::Keepalive).is_err()
                {
                    if stopped.recv_timeout(peer_timeout) == Err(RecvTimeoutError::Timeout) {
                        outlived();
                    }
                    return;
                }
            }
        })?;
        Ok(Pulse {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic aborts the process; there is no other way for it to fail.
            let _ = thread.join();
        }
    }
}
