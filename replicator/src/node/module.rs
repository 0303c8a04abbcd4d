//! What `configure` sets up and every role stands on: directories with their fences, credentials, lineage, limits.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;

use super::feed::Feed;
use crate::apply::{self, Applier, ApplyError, Tree};
use crate::control::{Acknowledge, Configuration, Refusal, SyncMode};
use crate::lineage::{Keeper, Role, Store};
use crate::link::acknowledger::Acknowledger;
use crate::link::shipper::Limits;
use crate::link::tls::{CredentialPaths, Credentials};
use crate::mount::Site;
use crate::record::Lsn;
use crate::wire::{Hello, Intent, limits};
use crate::{keep, resync, serve};

/// Bounds of the configured numbers, with the reason in the refusal.
const PEER_TIMEOUT_LEAST_MS: u64 = 200;
const QUEUE_LEAST_BYTES: u64 = 4 << 20;
/// Room that a full disk must have again, unless that is more than a twentieth of it.
const ROOM_BYTES: u64 = 64 << 20;

/// One configured module.
pub struct Module {
    pub configuration: Configuration,
    pub sites: Vec<Arc<Site>>,
    pub credentials: Credentials,
    pub keeper: Arc<Keeper>,
}

impl Module {
    /// Checks the configuration, opens and fences the directories, loads credentials and lineage.
    pub fn open(configuration: Configuration, feed: &Arc<Feed>) -> Result<Module, Refusal> {
        check(&configuration)?;
        let refuse = |code, fault: &dyn ToString| Refusal::new(code, fault.to_string());
        let paths = CredentialPaths {
            authority: configuration.tls.ca.clone().into_path(),
            certificate: configuration.tls.certificate.clone().into_path(),
            key: configuration.tls.key.clone().into_path(),
        };
        let credentials = Credentials::load(&paths, &configuration.peer)
            .map_err(|error| refuse(Refusal::CONFIGURATION, &error))?;
        let store = Store::open(&configuration.state_directory.clone().into_path())
            .map_err(|error| refuse(Refusal::DATA, &error))?;
        let told = feed.clone();
        let keeper = Keeper::open(store, Box::new(move |lineage| told.lineage(lineage)))
            .map_err(|error| refuse(Refusal::DATA, &error))?;
        let mut sites = Vec::new();
        for directory in &configuration.directories {
            let path = directory.path.clone().into_path();
            let site = Site::open(&configuration.module, &path)
                .map_err(|error| refuse(Refusal::CONFIGURATION, &error))?;
            site.fence()
                .map_err(|error| refuse(Refusal::FAILED, &error))?;
            sites.push(Arc::new(site));
        }
        let module = Module {
            configuration,
            sites,
            credentials,
            keeper: Arc::new(keeper),
        };
        feed.recall(keep::latest(&module.keep_place()));
        Ok(module)
    }

    #[must_use]
    pub fn peer_timeout(&self) -> Duration {
        Duration::from_millis(self.configuration.peer_timeout_ms)
    }

    /// This node's hello without what changes from session to session.
    #[must_use]
    pub fn hello(&self, role: Role, intent: Intent) -> Hello {
        let Configuration {
            cluster,
            module,
            node,
            ..
        } = &self.configuration;
        Hello {
            cluster: cluster.clone(),
            module: module.clone(),
            node: node.clone(),
            role,
            trees: u16::try_from(self.sites.len()).unwrap_or(u16::MAX),
            wants_durable: self.configuration.acknowledge == Acknowledge::Disk,
            intent,
            log: 0,
            applied: Lsn(0),
            lineage: self.keeper.current(),
        }
    }

    /// With `sync: async` nothing but the room in the queue bounds the lag.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let Configuration {
            queue_bytes,
            async_lag_bytes,
            sync,
            acknowledge,
            ..
        } = &self.configuration;
        let bytes = match sync {
            SyncMode::Async => *async_lag_bytes.min(queue_bytes),
            SyncMode::Fsync | SyncMode::Always => *queue_bytes,
        };
        Limits {
            queue_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            wants_durable: *acknowledge == Acknowledge::Disk,
            is_asynchronous: matches!(sync, SyncMode::Async),
        }
    }

    #[must_use]
    pub fn source_settings(&self) -> resync::SourceSettings {
        resync::SourceSettings {
            bandwidth: self.configuration.resync_bandwidth,
        }
    }

    #[must_use]
    pub fn serve_config(&self) -> serve::Config {
        let configured = self.configuration.directories.iter();
        serve::Config {
            module: self.configuration.module.clone(),
            directories: configured
                .zip(&self.sites)
                .map(|(directory, site)| serve::Directory {
                    site: site.clone(),
                    exclude: directory.exclude.clone(),
                    mapped: directory.mapped.clone(),
                })
                .collect(),
            sync: match self.configuration.sync {
                SyncMode::Fsync => serve::SyncMode::Fsync,
                SyncMode::Always => serve::SyncMode::Always,
                SyncMode::Async => serve::SyncMode::Async,
            },
            capture: self
                .configuration
                .capture
                .clone()
                .map(crate::control::Text::into_path),
        }
    }

    /// Where what a discard gives up is kept.
    #[must_use]
    pub fn keep_place(&self) -> PathBuf {
        self.configuration
            .state_directory
            .clone()
            .into_path()
            .join("kept")
    }

    /// An applier on the directories, below the fence.
    pub fn applier(&self, acknowledger: Arc<Acknowledger>) -> Result<Applier, ApplyError> {
        let node = &self.configuration.node;
        Applier::new(node, self.directories()?, descriptors(), acknowledger)
    }

    /// The directories below the fence, to look at them.
    pub fn trees(&self) -> Result<Vec<Tree>, ApplyError> {
        Tree::open_all(&self.configuration.node, self.directories()?)
    }

    fn directories(&self) -> Result<Vec<apply::Directory>, ApplyError> {
        let node = &self.configuration.node;
        let mut directories = Vec::new();
        for (configured, site) in self.configuration.directories.iter().zip(&self.sites) {
            let root = site
                .root()
                .try_clone_to_owned()
                .map_err(|error| ApplyError::Failed {
                    node: node.clone(),
                    object: site.path().display().to_string(),
                    attempt: "hold open",
                    cause: error.to_string(),
                })?;
            directories.push(apply::Directory {
                root,
                path: site.path().to_owned(),
                exclude: configured.exclude.clone(),
            });
        }
        Ok(directories)
    }

    /// Whether every directory's file system has room for more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.sites
            .iter()
            .all(|site| match rustix::fs::fstatvfs(site.root()) {
                Ok(status) => {
                    let (free, all) = (
                        status.f_bavail * status.f_frsize,
                        status.f_blocks * status.f_frsize,
                    );
                    let is_writable = !status.f_flag.contains(StatVfsMountFlags::RDONLY);
                    is_writable
                        && free >= ROOM_BYTES.min(all / 20)
                        && (status.f_files == 0 || status.f_favail > 16)
                }
                Err(_) => false,
            })
    }

    /// Brings every directory's file system to stable storage.
    pub fn flush(&self) -> Result<(), Refusal> {
        for site in &self.sites {
            rustix::fs::syncfs(site.root().as_fd()).map_err(|error| {
                let message = format!(
                    "cannot flush {}: {error}: check this node's disk",
                    site.path().display()
                );
                Refusal::new(Refusal::FAILED, message)
            })?;
        }
        Ok(())
    }
}

/// Files kept open by the applier: half of what the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    usize::try_from(limit.current.unwrap_or(1024) / 2).unwrap_or(512)
}

fn check(configuration: &Configuration) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(Refusal::CONFIGURATION, message));
    let Configuration {
        node,
        peer,
        peer_timeout_ms,
        queue_bytes,
        async_lag_bytes,
        ..
    } = configuration;
    for (what, value) in [
        ("cluster", &configuration.cluster),
        ("module", &configuration.module),
        ("node", node),
        ("peer", peer),
    ] {
        if value.is_empty() || value.len() > limits::IDENTIFIER_BYTES {
            return refuse(format!(
                "{what} must have 1 to {} bytes",
                limits::IDENTIFIER_BYTES
            ));
        }
    }
    if node == peer {
        return refuse(format!(
            "{node} cannot be its own peer: name the other node"
        ));
    }
    if configuration.listen.is_empty() || configuration.dial.is_empty() {
        return refuse("listen and dial need at least one address each".to_owned());
    }
    let directories = &configuration.directories;
    if directories.is_empty() || directories.len() > limits::ROOTS {
        return refuse(format!(
            "a module replicates 1 to {} directories",
            limits::ROOTS
        ));
    }
    let paths: Vec<PathBuf> = directories
        .iter()
        .map(|directory| directory.path.clone().into_path())
        .collect();
    if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
        return refuse(format!("{} is no absolute path", path.display()));
    }
    for (index, path) in paths.iter().enumerate() {
        if let Some(other) = paths[..index]
            .iter()
            .find(|other| path.starts_with(other) || other.starts_with(path))
        {
            return refuse(format!(
                "{} and {} overlap: replicate the outer one",
                path.display(),
                other.display()
            ));
        }
    }
    if *peer_timeout_ms < PEER_TIMEOUT_LEAST_MS {
        return refuse(format!(
            "peer_timeout_ms is {peer_timeout_ms}, at least {PEER_TIMEOUT_LEAST_MS} are needed"
        ));
    }
    if *queue_bytes < QUEUE_LEAST_BYTES || *async_lag_bytes < QUEUE_LEAST_BYTES {
        return refuse(format!(
            "queue_bytes and async_lag_bytes must be at least {QUEUE_LEAST_BYTES}"
        ));
    }
    Ok(())
}
