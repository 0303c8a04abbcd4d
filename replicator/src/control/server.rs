//! The listening end of the control socket.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::Mode;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{geteuid, umask};

use super::event::Publisher;
use super::{Commands, connection};

/// Connections served at the same time.
const CONNECTIONS: usize = 32;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("another replicator answers on {}: stop it first", path.display())]
    Taken { path: PathBuf },
    #[error("cannot listen on {}: {source}", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// The bound socket, before anyone is served. Its existence is what keeps a second replicator of the module away.
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
}

impl Server {
    /// Binds the socket, in place of one that a dead replicator left. Called while the process has one thread: it sets the umask
    /// for a moment.
    pub fn bind(path: &Path) -> Result<Server, ControlError> {
        if UnixStream::connect(path).is_ok() {
            return Err(ControlError::Taken {
                path: path.to_path_buf(),
            });
        }
        let bound = || -> io::Result<UnixListener> {
            match fs::remove_file(path) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
            let before = umask(Mode::from_raw_mode(0o177));
            let listener = UnixListener::bind(path);
            umask(before);
            listener
        };
        let listener = bound().map_err(|source| ControlError::Listen {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Server {
            path: path.to_path_buf(),
            listener,
        })
    }

    /// Serves clients on threads of its own from now on, as long as the process lives.
    pub fn start(
        self,
        commands: Arc<dyn Commands>,
        publisher: Publisher,
    ) -> Result<(), ControlError> {
        let path = self.path.clone();
        thread::Builder::new()
            .name("control-accept".into())
            .spawn(move || self.accept(&commands, &publisher))
            .map(drop)
            .map_err(|source| ControlError::Listen { path, source })
    }

    fn accept(&self, commands: &Arc<dyn Commands>, publisher: &Publisher) {
        let connected = Arc::new(AtomicUsize::new(0));
        for stream in self.listener.incoming() {
            let stream = match stream.and_then(authorised) {
                Ok(stream) => stream,
                Err(fault) => {
                    tracing::warn!(%fault, "refused a client of the control socket");
                    continue;
                }
            };
            if connected.load(Ordering::Acquire) >= CONNECTIONS {
                tracing::warn!(
                    "refused a client of the control socket: {CONNECTIONS} are connected"
                );
                continue;
            }
            connected.fetch_add(1, Ordering::AcqRel);
            let (commands, publisher, connected) =
                (commands.clone(), publisher.clone(), connected.clone());
            let count = connected.clone();
            let spawned = thread::Builder::new()
                .name("control-read".into())
                .spawn(move || {
                    if let Err(fault) = connection::serve(&stream, &commands, &publisher) {
                        tracing::warn!(%fault, "closed a connection of the control socket");
                    }
                    connected.fetch_sub(1, Ordering::AcqRel);
                });
            if let Err(fault) = spawned {
                count.fetch_sub(1, Ordering::AcqRel);
                tracing::error!(%fault, "no thread for a client of the control socket");
            }
        }
    }
}

/// Only who runs the replicator may command it; the socket's mode says the same.
fn authorised(stream: UnixStream) -> io::Result<UnixStream> {
    let peer = socket_peercred(&stream)?;
    if peer.uid == geteuid() {
        Ok(stream)
    } else {
        let message = format!("user {} may not command the replicator", peer.uid.as_raw());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}
