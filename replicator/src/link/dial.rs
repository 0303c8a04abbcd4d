//! Calls the peer: every configured address in order of preference, until it answers or the caller is interrupted.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::LinkError;
use super::channel::{Channel, HANDSHAKE_TIMEOUT, Inbox};
use super::tls::Credentials;

/// A node that is there answers in a fraction of this, also through a busy processor.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Ends waiting, once and for all.
#[derive(Debug)]
pub struct Interrupt(OwnedFd);

impl Interrupt {
    pub fn new() -> io::Result<Interrupt> {
        Ok(Interrupt(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Ends every wait, those to come included.
    pub fn raise(&self) {
        // Only a counter at its maximum refuses, and that one is raised.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits. True if it was interrupted.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(wait(&mut watched, time), Ok(true))
    }
}

/// Connects to the first address that answers and authenticates. The error is that of the first address, the preferred one.
/// `remember` gets every socket before anything can block on it.
pub fn dial(
    addresses: &[SocketAddr],
    credentials: &Credentials,
    interrupt: &Interrupt,
    remember: &dyn Fn(TcpStream),
) -> Result<(Arc<Channel>, Inbox), LinkError> {
    let mut first = None;
    for address in addresses {
        match attempt(address, credentials, interrupt, remember) {
            Ok(channel) => return Ok((Arc::new(channel), Inbox::default())),
            Err(error) => first = first.or(Some(error)),
        }
        if interrupt.wait(Duration::ZERO) {
            break;
        }
    }
    Err(first.unwrap_or(LinkError::Refused(
        "no address to dial is configured".to_owned(),
    )))
}

fn attempt(
    address: &SocketAddr,
    credentials: &Credentials,
    interrupt: &Interrupt,
    remember: &dyn Fn(TcpStream),
) -> Result<Channel, LinkError> {
    let stream = connect(address, interrupt)?;
    remember(stream.try_clone()?);
    let channel = Channel::dial(stream, credentials)?;
    channel.set_timeout(HANDSHAKE_TIMEOUT)?;
    Ok(channel)
}

/// `connect(2)` that can be interrupted: takeover must not wait for a dead peer's address.
fn connect(address: &SocketAddr, interrupt: &Interrupt) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match rustix::net::connect(&socket, address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut watched = [
        PollFd::new(&socket, PollFlags::OUT),
        PollFd::new(&interrupt.0, PollFlags::IN),
    ];
    if !wait(&mut watched, CONNECT_TIMEOUT)? {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
    }
    if !watched[1].revents().is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "not wanted any more",
        ));
    }
    sockopt::socket_error(socket.as_fd())??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Polls; true if something happened within `time`.
fn wait(watched: &mut [PollFd<'_>], time: Duration) -> io::Result<bool> {
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    match poll(watched, Some(&time)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
