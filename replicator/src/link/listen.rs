//! The primary's open door: accepts connections on every replication address, lets in only the authenticated peer.
//!
//! It is open in every role, so that a peer that calls at the wrong time hears why. At most [`PENDING`] connections that have not
//! authenticated exist at a time; more are closed at once. Refusals are logged, at most one a second for each address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::channel::{Channel, Inbox};
use super::tls::Credentials;
use super::{LinkError, locked};
use crate::wire::{Control, Hello};

/// Connections that have not authenticated, at a time.
const PENDING: usize = 4;
/// Addresses whose last refusal is remembered.
const REMEMBERED: usize = 256;

/// Takes over a peer that authenticated and said hello. Runs on the connection's own thread.
pub trait Door: Send + Sync {
    fn enter(&self, channel: Arc<Channel>, inbox: Inbox, hello: Hello);
}

/// Listens until it is dropped.
pub struct Listener {
    stop: Arc<AtomicBool>,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    credentials: Credentials,
    door: Arc<dyn Door>,
    pending: AtomicUsize,
    refused: Mutex<HashMap<IpAddr, Instant>>,
}

impl Listener {
    /// Binds every address; fails naming the first that cannot be bound.
    pub fn open(
        addresses: &[SocketAddr],
        credentials: Credentials,
        door: Arc<dyn Door>,
    ) -> Result<Listener, (SocketAddr, io::Error)> {
        let shared = Arc::new(Shared {
            credentials,
            door,
            pending: AtomicUsize::new(0),
            refused: Mutex::new(HashMap::new()),
        });
        let mut sockets = Vec::new();
        for &address in addresses {
            sockets.push(bind(address).map_err(|error| (address, error))?);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut listener = Listener {
            stop: stop.clone(),
            addresses: Vec::new(),
            threads: Vec::new(),
        };
        for (socket, &address) in sockets.into_iter().zip(addresses) {
            let bound = socket.local_addr().map_err(|error| (address, error))?;
            listener.addresses.push(bound);
            let (stop, shared) = (stop.clone(), shared.clone());
            let accepting = Builder::new()
                .name("accept".to_owned())
                .spawn(move || accept_all(&socket, &stop, &shared));
            listener
                .threads
                .push(accepting.map_err(|error| (address, error))?);
        }
        Ok(listener)
    }

    /// Where it listens (with the port that the kernel chose for port 0).
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for (thread, address) in self.threads.drain(..).zip(&self.addresses) {
            // Wakes the thread out of accept(); if even this fails it ends at the next stranger's call.
            if TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok() {
                let _ = thread.join();
            }
        }
    }
}

/// A listening socket that may be bound before its address exists (the network comes up later, or moves).
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_ip_freebind(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 16)?;
    Ok(TcpListener::from(socket))
}

fn accept_all(socket: &TcpListener, stop: &AtomicBool, shared: &Arc<Shared>) {
    loop {
        let accepted = socket.accept();
        if stop.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((stream, address)) => admit(stream, address, shared),
            Err(error) => {
                tracing::warn!("cannot accept a connection of the peer: {error}");
                // Out of descriptors, most likely: trying at once again would only burn the processor.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn admit(stream: TcpStream, address: SocketAddr, shared: &Arc<Shared>) {
    if shared.pending.fetch_add(1, Ordering::SeqCst) >= PENDING {
        shared.pending.fetch_sub(1, Ordering::SeqCst);
        shared.refuse(address, "too many connections that have not authenticated");
        return;
    }
    let session = shared.clone();
    let spawned = Builder::new().name("session".to_owned()).spawn(move || {
        let shared = session;
        let greeted = greet(stream, &shared.credentials);
        shared.pending.fetch_sub(1, Ordering::SeqCst);
        match greeted {
            Ok((channel, inbox, hello)) => shared.door.enter(channel, inbox, hello),
            Err(error) => shared.refuse(address, &error.to_string()),
        }
    });
    if let Err(error) = spawned {
        shared.pending.fetch_sub(1, Ordering::SeqCst);
        shared.refuse(address, &format!("no thread for it: {error}"));
    }
}

fn greet(
    stream: TcpStream,
    credentials: &Credentials,
) -> Result<(Arc<Channel>, Inbox, Hello), LinkError> {
    let channel = Channel::accept(stream, credentials)?;
    channel.set_timeout(super::channel::HANDSHAKE_TIMEOUT)?;
    let mut inbox = Inbox::default();
    match inbox.control(&channel)? {
        Control::Hello(hello) => Ok((Arc::new(channel), inbox, hello)),
        other => Err(LinkError::Unexpected(format!("{other:?}"))),
    }
}

impl Shared {
    fn refuse(&self, address: SocketAddr, reason: &str) {
        let now = Instant::now();
        let mut refused = locked(&self.refused);
        let is_recent = refused
            .get(&address.ip())
            .is_some_and(|last| now.duration_since(*last) < Duration::from_secs(1));
        if is_recent {
            return;
        }
        if refused.len() >= REMEMBERED {
            refused.clear();
        }
        refused.insert(address.ip(), now);
        tracing::warn!(%address, "refused a connection: {reason}");
    }
}
