//! One authenticated connection: bytes out from many threads, frames in to one.
//!
//! Invariant: the lock of the TLS state is held for the encryption or decryption of at most [`CHUNK_BYTES`], never across a
//! system call, so a full socket never keeps the receiving thread from reading. A second lock orders senders.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustls::Connection;

use super::tls::Credentials;
use super::{LinkError, locked};
use crate::wire::{self, Control, Frame, HEADER_BYTES, Header};

/// Plain bytes encrypted under one hold of the TLS lock.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes asked of the socket in one read.
const READ_BYTES: usize = 256 << 10;
/// The kernel counts in 32 bits, and twice what it is asked for.
const HELD_BYTES_LIMIT: usize = 1 << 29;
/// Whatever the system's default: BBR paces what it sends, which delays each commit on a network that is as short as this one.
const CONGESTION_CONTROL: &str = "cubic";
/// Limit of the TLS and application handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The sending half, shared by all threads of a session.
pub struct Channel {
    socket: TcpStream,
    address: SocketAddr,
    tls: Mutex<Connection>,
    /// Ciphertext under way; its lock gives the order of senders.
    sealed: Mutex<Vec<u8>>,
    last_sent: Mutex<Instant>,
}

impl Channel {
    /// Makes the TLS handshake as the side that was dialled. At most [`HANDSHAKE_TIMEOUT`].
    pub fn accept(socket: TcpStream, credentials: &Credentials) -> Result<Channel, LinkError> {
        let tls = credentials.accepting().map_err(LinkError::Tls)?;
        Channel::handshake(socket, tls)
    }

    /// Makes the TLS handshake as the side that dialled. At most [`HANDSHAKE_TIMEOUT`].
    pub fn dial(socket: TcpStream, credentials: &Credentials) -> Result<Channel, LinkError> {
        let tls = credentials.dialling().map_err(LinkError::Tls)?;
        Channel::handshake(socket, tls)
    }

    fn handshake(mut socket: TcpStream, mut tls: Connection) -> Result<Channel, LinkError> {
        let address = socket.peer_addr()?;
        socket.set_nodelay(true)?;
        if let Err(error) = sockopt::set_tcp_congestion(&socket, CONGESTION_CONTROL) {
            tracing::info!(%error, "no {CONGESTION_CONTROL} congestion control here: the system's own is used");
        }
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        while tls.is_handshaking() {
            // A peer that sends one byte at a time must not stretch the limit.
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::Silent(HANDSHAKE_TIMEOUT));
            }
            socket.set_read_timeout(Some(left))?;
            socket.set_write_timeout(Some(left))?;
            step(&mut tls, &mut socket)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut socket)?;
        }
        tls.set_buffer_limit(None);
        socket.set_write_timeout(None)?;
        Ok(Channel {
            socket,
            address,
            tls: Mutex::new(tls),
            sealed: Mutex::new(Vec::new()),
            last_sent: Mutex::new(Instant::now()),
        })
    }

    /// Where the peer sits.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Encrypts and writes. Blocks while the socket is full.
    pub fn send(&self, plain: &[u8]) -> io::Result<()> {
        let mut sealed = locked(&self.sealed);
        for chunk in plain.chunks(CHUNK_BYTES) {
            sealed.clear();
            {
                let mut tls = locked(&self.tls);
                tls.writer().write_all(chunk)?;
                while tls.wants_write() {
                    tls.write_tls(&mut *sealed)?;
                }
            }
            (&self.socket)
                .write_all(&sealed)
                .map_err(|error| self.told(error))?;
        }
        *locked(&self.last_sent) = Instant::now();
        Ok(())
    }

    /// An error of writing, in the words of its cause.
    fn told(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::WouldBlock {
            return error;
        }
        let limit = self.socket.write_timeout().ok().flatten();
        let waited = limit.unwrap_or_default().as_millis();
        let cause = format!("the peer took nothing for {waited} ms");
        io::Error::new(io::ErrorKind::TimedOut, cause)
    }

    /// Sends one frame outside the log.
    pub fn send_control(&self, control: &Control) -> io::Result<()> {
        let mut frame = Vec::with_capacity(64);
        wire::encode_control(control, &mut frame);
        self.send(&frame)
    }

    /// Time since anything was sent.
    #[must_use]
    pub fn idle(&self) -> Duration {
        locked(&self.last_sent).elapsed()
    }

    /// Ends the connection for both directions; threads blocked in it return.
    pub fn close(&self) {
        // Only a connection that is gone already refuses, and then there is nothing to close.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Ends reading only; the last words can still be written.
    pub fn stop_reading(&self) {
        // As above.
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// How long [`Inbox::fill`] waits for the peer before it gives it up.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(timeout))
    }

    /// The socket takes `bytes` before sending blocks, however silent the peer is.
    pub fn hold(&self, bytes: usize) -> io::Result<()> {
        sockopt::set_socket_send_buffer_size_force(&self.socket, bytes.min(HELD_BYTES_LIMIT))?;
        Ok(())
    }

    /// How long the socket may stay full before sending fails; `None` while the session's own rules watch over the peer.
    pub fn limit_sending(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// Takes what the peer said in the same breath as the end of the handshake: it waits in the TLS state, not in the socket.
    fn take_early(&self, plain: &mut Vec<u8>) -> Result<bool, LinkError> {
        let mut tls = locked(&self.tls);
        let state = tls.process_new_packets().map_err(LinkError::Tls)?;
        plain.resize(state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(plain)?;
        Ok(!plain.is_empty())
    }

    /// Reads ciphertext into `raw` and appends what it says to `plain`. 0 at the end of the connection.
    fn receive(&self, raw: &mut [u8], plain: &mut Vec<u8>) -> Result<usize, LinkError> {
        let count = loop {
            match (&self.socket).read(raw) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let timeout = self.socket.read_timeout()?.unwrap_or_default();
                    return Err(LinkError::Silent(timeout));
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mut rest = &raw[..count];
        while !rest.is_empty() {
            let mut tls = locked(&self.tls);
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets().map_err(LinkError::Tls)?;
            let waiting = state.plaintext_bytes_to_read();
            let start = plain.len();
            plain.resize(start + waiting, 0);
            tls.reader().read_exact(&mut plain[start..])?;
        }
        Ok(count)
    }
}

/// One round of a handshake: what is to be written, then what can be read.
fn step(tls: &mut Connection, socket: &mut TcpStream) -> Result<(), LinkError> {
    while tls.wants_write() {
        tls.write_tls(socket)?;
    }
    if !tls.is_handshaking() {
        return Ok(());
    }
    if tls.read_tls(socket)? == 0 {
        return Err(LinkError::Closed);
    }
    if let Err(error) = tls.process_new_packets() {
        // The alert tells the peer why; if it cannot be written, the peer is gone and needs none.
        let _ = tls.write_tls(socket);
        return Err(LinkError::Tls(error));
    }
    Ok(())
}

/// The receiving half: frames, one after the other. Belongs to one thread.
pub struct Inbox {
    raw: Box<[u8]>,
    plain: Vec<u8>,
    /// Bytes of `plain` already given out.
    taken: usize,
    /// What came together with the end of the handshake was looked at.
    has_begun: bool,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox {
            raw: vec![0; READ_BYTES].into_boxed_slice(),
            plain: Vec::new(),
            taken: 0,
            has_begun: false,
        }
    }
}

impl Inbox {
    /// Waits for more bytes. Fails when the connection ended or the peer was silent for the channel's timeout.
    pub fn fill(&mut self, channel: &Channel) -> Result<(), LinkError> {
        self.plain.drain(..self.taken);
        self.taken = 0;
        if !self.has_begun {
            self.has_begun = true;
            if channel.take_early(&mut self.plain)? {
                return Ok(());
            }
        }
        if channel.receive(&mut self.raw, &mut self.plain)? == 0 {
            return Err(LinkError::Closed);
        }
        Ok(())
    }

    /// Whether a whole frame is there.
    pub fn holds_frame(&self) -> Result<bool, LinkError> {
        let Some((header, rest)) = self.plain[self.taken..].split_first_chunk::<HEADER_BYTES>()
        else {
            return Ok(false);
        };
        Ok(rest.len() >= Header::parse(header)?.length as usize)
    }

    /// The next whole frame, if there is one. What is refused here was never acted upon.
    pub fn take(&mut self) -> Result<Option<Frame<'_>>, LinkError> {
        let Some((header, rest)) = self.plain[self.taken..].split_first_chunk::<HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let header = Header::parse(header)?;
        let Some(payload) = rest.get(..header.length as usize) else {
            return Ok(None);
        };
        self.taken += HEADER_BYTES + payload.len();
        Ok(Some(wire::decode(&header, payload)?))
    }

    /// Waits for a control frame; an entry of the log in its place is a fault of the peer.
    pub fn control(&mut self, channel: &Channel) -> Result<Control, LinkError> {
        while !self.holds_frame()? {
            self.fill(channel)?;
        }
        match self.take()? {
            Some(Frame::Control(control)) => Ok(control),
            Some(Frame::Logged(lsn, _)) => {
                Err(LinkError::Unexpected(format!("entry {} of the log", lsn.0)))
            }
            None => Err(LinkError::Closed),
        }
    }
}
