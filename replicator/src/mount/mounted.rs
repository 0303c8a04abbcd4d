//! A mount of ours over a directory, and how it is given up.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::error::MountError;
use super::holder::{Holder, holders};
use super::table;

/// File system type of our mounts in `/proc/mounts`.
pub(super) const KIND: &str = "fuse.telamon";

/// Rounds of killing: a process may fork while it is killed, but not for ever.
const KILL_ROUNDS: u32 = 10;

/// A served file system over a directory. Dropping it does not unmount: giving up the directory is a step of a role change.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    /// `major:minor`: how the mount is recognised in every mount namespace.
    device: String,
}

impl Mounted {
    /// The mount of kind `fuse.telamon` that lies topmost at `path`.
    pub(super) fn find(path: &Path) -> io::Result<Option<Mounted>> {
        let mounts = table::read("self")?;
        Ok(table::topmost(&mounts, path)
            .filter(|mount| mount.kind == KIND)
            .map(|mount| Mounted {
                path: path.to_path_buf(),
                device: mount.device.clone(),
            }))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device number that `stat` shows for every object below the mount, as `major:minor`.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Processes that keep the mount in use.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        holders(&self.device)
    }

    /// Unmounts; the daemon must still answer, for the kernel writes back and says goodbye. [`MountError::Busy`] leaves everything
    /// as it was.
    pub fn unmount(&self) -> Result<(), MountError> {
        match unmount(&self.path, UnmountFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => Err(MountError::Busy {
                path: self.path.clone(),
                holders: self.holders(),
            }),
            Err(fault) => Err(self.failed("unmount", fault.into())),
        }
    }

    /// Kills the holders and unmounts. What still holds the mount after `timeout` loses it: the connection is cut (calls in flight
    /// end with an error) and the mount detached.
    pub fn unmount_by_force(&self, timeout: Duration) -> Result<(), MountError> {
        let deadline = Instant::now() + timeout;
        for _ in 0..KILL_ROUNDS {
            match self.unmount() {
                Err(MountError::Busy { holders, .. }) => {
                    if Instant::now() >= deadline || !kill(&holders, deadline) {
                        break;
                    }
                }
                settled => return settled,
            }
        }
        self.cut()
    }

    /// Cuts the connection to the daemon, dead or alive, and detaches the mount. One that was unmounted already has left the tree;
    /// what is left of its connection ends with the daemon's descriptor.
    pub fn cut(&self) -> Result<(), MountError> {
        // MNT_FORCE makes FUSE abort its connection even when the mount is busy; MNT_DETACH then takes it out of the tree.
        match unmount(&self.path, UnmountFlags::FORCE | UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(fault) => Err(self.failed("detach the mount over", fault.into())),
        }
    }

    fn failed(&self, attempt: &'static str, source: io::Error) -> MountError {
        MountError::Failed {
            path: self.path.clone(),
            attempt,
            source,
        }
    }
}

/// Kills processes and waits for their end; false if one is still there at the deadline, or none could be killed.
pub(super) fn kill(victims: &[Holder], deadline: Instant) -> bool {
    let mut killed = 0;
    for victim in victims.iter().filter(|victim| victim.pid > 1) {
        tracing::warn!(%victim, "killing a process that holds the mount");
        let Some(pid) = i32::try_from(victim.pid).ok().and_then(Pid::from_raw) else {
            continue;
        };
        // Gone already is what is wanted; a pid descriptor never hits a later process of the same number.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        if pidfd_send_signal(&process, Signal::KILL).is_err() {
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        if poll(&mut ended, Some(&limit)) != Ok(1) {
            return false;
        }
        killed += 1;
    }
    killed > 0
}
