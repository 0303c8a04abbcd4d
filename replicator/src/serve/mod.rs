//! The served file system: a FUSE mount over each directory of the module, for as long as this node is primary.
//!
//! Every change that reaches a backing directory is appended to the [`Journal`] in the order in which it happened, content
//! before the names that lead to it; a commit point (fsync and its kin) is answered when the journal says so. Everything else
//! is a plain file system: what an application sees is what the backing file system would have answered.
//!
//! It does not decide who is primary, nor know the peer: `node/` starts and stops it, [`Journal`] and [`Trees`](crate::journal::Trees)
//! are all it shares with the link.
//!
//! ```text
//! tree        requests of one mount, dispatched to      module      what all directories share; drains the ring
//!   names removal directories attributes extended files   ship commit  content and commit points into the journal
//! store table node identity class   backing objects     background  the threads behind the calls
//! caller sys  identities, system calls                  trees       the directories as the link sees them
//! ```

mod attributes;
mod background;
mod caller;
mod class;
mod commit;
mod config;
mod descriptor;
mod directories;
mod extended;
mod files;
mod lock;
mod lost_privileges;
mod meters;
mod module;
mod names;
mod node;
mod opening;
mod privileges;
mod queue;
mod ranges;
mod record;
mod removal;
mod ship;
mod status;
mod store;
mod sys;
mod table;
mod tree;
mod trees;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use class::Globs;
use lock::lock;
use module::Module;
use store::Store;
use tree::Tree;

use crate::capture::{Capture, Watched};
use crate::fuse::{Device, Session};
use crate::journal::Journal;
use crate::mount::{MountError, Mounted};

pub use config::{Config, Directory, SyncMode};
pub use status::{Backend, CommitLatency, Counters, DirectoryStatus, Mode, Observer, Status};

/// Why the directories could not be served, or could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("a glob below {} cannot be used: {source}", path.display())]
    Glob {
        path: PathBuf,
        source: globset::Error,
    },
    #[error(
        "{} lies on a file system whose objects cannot be named for good ({source}): use ext4, xfs, btrfs or tmpfs",
        path.display()
    )]
    FileSystem { path: PathBuf, source: io::Error },
    #[error("cannot serve {}: {source}", path.display())]
    Fuse { path: PathBuf, source: io::Error },
    #[error("what was written last below the module's directories could not be journalled: {0}")]
    Unfinished(io::Error),
}

/// All directories of one module, mounted and served.
///
/// Also implements [`Trees`](crate::journal::Trees), so the link reads the same locks and the same state.
pub struct Served {
    module: Arc<Module>,
    mounts: Vec<Mount>,
    capture_reason: String,
    stops: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One directory's mount.
struct Mount {
    mounted: Mounted,
    session: Arc<Session>,
    mode: Mode,
    is_present: Arc<AtomicBool>,
}

impl Served {
    /// Mounts every directory and serves it. On an error nothing stays mounted.
    ///
    /// Calls that change something may arrive at once: `journal` must take records from here on (and may let commits wait).
    pub fn start(
        config: &Config,
        journal: Arc<dyn Journal>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Served>, ServeError> {
        raise_descriptor_limit();
        let (capture, capture_reason) = open_capture(config, observer.as_ref());
        let stores = open_stores(config)?;
        let module = Arc::new(Module::new(stores, journal, observer, config.sync, capture));
        watch_file_systems(&module, config);
        let mut served = Served {
            module,
            mounts: Vec::new(),
            capture_reason,
            stops: Arc::default(),
            threads: Mutex::default(),
        };
        served.start_background()?;
        for index in 0..served.module.stores.len() {
            match mount(&served.module, index) {
                Ok(mount) => served.mounts.push(mount),
                Err(error) => {
                    served.abandon();
                    return Err(error);
                }
            }
        }
        Ok(Arc::new(served))
    }

    /// Unmounts every directory and appends all that is still to be appended; when it returns `Ok` the journal holds the last
    /// record, and the caller waits for its acknowledgement itself.
    ///
    /// Without `force` a directory in use is refused with its holders ([`MountError::Busy`]) and everything stays served. With it
    /// the holders are killed, and after `timeout` the connection is cut; calls in flight then end with an error. A commit that
    /// waits keeps its caller from dying: a journal that will acknowledge no more is to be closed first.
    pub fn stop(&self, force: bool, timeout: Duration) -> Result<(), ServeError> {
        if !force {
            // All or none: what is free may be taken again, but not back.
            for mount in self.present() {
                let holders = mount.mounted.holders();
                if !holders.is_empty() {
                    return Err(MountError::Busy {
                        path: mount.mounted.path().to_owned(),
                        holders,
                    }
                    .into());
                }
            }
        }
        for mount in self.present() {
            if force {
                mount.mounted.unmount_by_force(timeout)?;
            } else {
                mount.mounted.unmount()?;
            }
            mount.is_present.store(false, Ordering::Release);
        }
        for mount in &self.mounts {
            if !mount.session.join(timeout) {
                tracing::warn!(path = %mount.mounted.path().display(), "calls are still in flight; cutting the connection");
                mount.mounted.cut()?;
            }
        }
        self.end_background();
        self.module
            .empty(timeout)
            .map_err(|errno| ServeError::Unfinished(errno.into()))
    }

    /// A picture of this moment; never waits for a lock that is held during I/O.
    #[must_use]
    pub fn status(&self) -> Status {
        let meters = &self.module.meters;
        let capture = match &self.module.capture {
            Some(capture) if capture.is_fexit() => Backend::Fexit,
            Some(_) => Backend::TpBtf,
            None => Backend::Relay,
        };
        Status {
            capture,
            capture_reason: self.capture_reason.clone(),
            directories: self.mounts.iter().map(Mount::status).collect(),
            commit_latency: meters.latency(),
            counters: Counters {
                commits: meters.commits.load(Ordering::Relaxed),
                bytes_shipped: meters.bytes_shipped.load(Ordering::Relaxed),
                capture_drops: self.module.capture.as_ref().map_or(0, Capture::lost_events),
                uncovered_syncs: meters.uncovered_syncs.load(Ordering::Relaxed),
            },
        }
    }

    fn present(&self) -> impl Iterator<Item = &Mount> {
        self.mounts
            .iter()
            .filter(|mount| mount.is_present.load(Ordering::Acquire))
    }

    fn start_background(&self) -> Result<(), ServeError> {
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(|source| ServeError::Fuse {
                    path: self.module.stores[0].site.path().to_owned(),
                    source,
                })?;
            lock(&self.threads).push(thread);
            Ok::<(), ServeError>(())
        };
        let (module, stops) = (Arc::clone(&self.module), Arc::clone(&self.stops));
        spawn(
            "drain",
            Box::new(move || background::drain_continuously(&module, &stops)),
        )?;
        let module = Arc::clone(&self.module);
        spawn(
            "ship",
            Box::new(move || background::ship_continuously(&module)),
        )
    }

    fn end_background(&self) {
        self.stops.store(true, Ordering::Release);
        self.module.queue.close();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background thread panicked");
            }
        }
    }

    /// Takes back what was mounted.
    fn abandon(&self) {
        for mount in self.present() {
            if let Err(error) = mount.mounted.cut() {
                tracing::error!(%error, "cannot take a mount back");
            }
        }
        self.end_background();
    }
}

impl Mount {
    fn status(&self) -> DirectoryStatus {
        DirectoryStatus {
            path: self.mounted.path().to_owned(),
            mounted: self.is_present.load(Ordering::Acquire),
            mode: self.mode,
        }
    }
}

fn mount(module: &Arc<Module>, index: usize) -> Result<Mount, ServeError> {
    let site = &module.stores[index].site;
    let failed = |source| ServeError::Fuse {
        path: site.path().to_owned(),
        source,
    };
    let device = Arc::new(Device::open().map_err(failed)?);
    let mounted = site.serve(device.as_fd())?;
    let is_present = Arc::new(AtomicBool::new(true));
    let started = Session::negotiate(&device).and_then(|negotiated| {
        let gone = Arc::clone(&is_present);
        let ended = Box::new(move || gone.store(false, Ordering::Release));
        let tree = Tree::new(
            Arc::clone(module),
            index,
            Arc::clone(&device),
            negotiated.has_passthrough(),
            ended,
        );
        let mode = if tree.passes_through {
            Mode::Passthrough
        } else {
            Mode::Relay
        };
        Session::start(device, Arc::new(tree)).map(|session| (session, mode))
    });
    match started {
        Ok((session, mode)) => Ok(Mount {
            mounted,
            session,
            mode,
            is_present,
        }),
        Err(source) => {
            mounted.cut()?;
            Err(failed(source))
        }
    }
}

fn open_stores(config: &Config) -> Result<Vec<Store>, ServeError> {
    let mut stores = Vec::new();
    for (index, directory) in (0..).zip(&config.directories) {
        let path = || directory.site.path().to_owned();
        let globs = Globs::new(&directory.exclude, &directory.mapped).map_err(|source| {
            ServeError::Glob {
                path: path(),
                source,
            }
        })?;
        let store = Store::new(index, Arc::clone(&directory.site), globs).map_err(|errno| {
            ServeError::FileSystem {
                path: path(),
                source: errno.into(),
            }
        })?;
        stores.push(store);
    }
    Ok(stores)
}

/// Without the capture every write is relayed, and the reason is told.
fn open_capture(config: &Config, observer: &dyn Observer) -> (Option<Capture>, String) {
    let Some(pins) = &config.capture else {
        return (None, String::new());
    };
    match Capture::open(pins) {
        Ok(capture) => (Some(capture), String::new()),
        Err(error) => {
            let reason = format!("every write is relayed through the replicator: {error}");
            observer.degraded(&reason);
            (None, reason)
        }
    }
}

/// sync(2) and syncfs go past this process: at least they are counted.
fn watch_file_systems(module: &Module, config: &Config) {
    let Some(capture) = &module.capture else {
        return;
    };
    for (store, directory) in module.stores.iter().zip(&config.directories) {
        let file_system = Watched {
            inode: 0,
            device: store.device,
            generation: 0,
        };
        if let Err(error) = capture.watch(file_system, store.index) {
            tracing::warn!(path = %directory.site.path().display(), %error, "sync(2) is not counted");
        }
    }
}

/// Each open file that is written needs a descriptor here.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    ) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
