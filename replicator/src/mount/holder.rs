//! Who keeps a file system in use, in any mount namespace, and how to end that.
//!
//! Only `/proc` is read, never the file system itself: it may be dead, or wait for this very process.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::table;

/// A process that keeps a mount in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// `comm` of the process.
    pub name: String,
    pub holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    WorkingDirectory,
    RootDirectory,
    OpenFile,
    Mapping,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = match self.holds {
            Holds::WorkingDirectory => "working directory",
            Holds::RootDirectory => "root directory",
            Holds::OpenFile => "open file",
            Holds::Mapping => "mapped file",
        };
        write!(formatter, "{} (pid {}, {holds})", self.name, self.pid)
    }
}

/// Every process but this one that holds the file system with this device number.
pub fn find(device: (u32, u32)) -> Vec<Holder> {
    let mut mounts = Mounts { device, of_namespace: HashMap::new() };
    processes().into_iter().filter(|&pid| pid != std::process::id()).filter_map(|pid| mounts.inspect(pid)).collect()
}

/// The mount points of the file system in every mount namespace but the caller's, each with a process that lives there.
pub fn copies(device: (u32, u32)) -> Vec<(u32, PathBuf)> {
    let own = namespace(std::process::id());
    let mut seen = HashSet::from([own]);
    let mut copies = Vec::new();
    for pid in processes() {
        if !seen.insert(namespace(pid)) {
            continue;
        }
        let mounts = table::of(pid).unwrap_or_default();
        copies.extend(mounts.into_iter().filter(|mount| mount.device == device).map(|mount| (pid, mount.point)));
    }
    copies
}

/// Kills the holders and waits until they are gone. False when some live on at the deadline.
pub fn kill(holders: &[Holder], deadline: Instant) -> bool {
    let mut processes = Vec::new();
    for holder in holders {
        let Some(pid) = i32::try_from(holder.pid).ok().and_then(Pid::from_raw) else { continue };
        // A pid that cannot be opened is gone already.
        if let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            tracing::warn!(%holder, "killing a process that holds the directory");
            if rustix::process::pidfd_send_signal(&process, Signal::KILL).is_ok() {
                processes.push(process);
            }
        }
    }
    processes.iter().all(|process| {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let timeout = Timespec::try_from(left).ok();
        let mut poll = [PollFd::new(process, PollFlags::IN)];
        matches!(rustix::event::poll(&mut poll, timeout.as_ref()), Ok(1..))
    })
}

/// Which mounts are the file system's, for each mount namespace.
struct Mounts {
    device: (u32, u32),
    of_namespace: HashMap<Option<PathBuf>, HashSet<u64>>,
}

impl Mounts {
    fn inspect(&mut self, pid: u32) -> Option<Holder> {
        let device = self.device;
        let ids = self.of_namespace.entry(namespace(pid)).or_insert_with(|| {
            let mounts = table::of(pid).unwrap_or_default();
            mounts.into_iter().filter(|mount| mount.device == device).map(|mount| mount.id).collect()
        });
        let base = PathBuf::from(format!("/proc/{pid}"));
        let holds = if is_below(&base.join("cwd"), ids) {
            Holds::WorkingDirectory
        } else if is_below(&base.join("root"), ids) {
            Holds::RootDirectory
        } else if has_open_file(&base, ids) {
            Holds::OpenFile
        } else if has_mapping(&base, device) {
            Holds::Mapping
        } else {
            return None;
        };
        let name = fs::read_to_string(base.join("comm")).unwrap_or_default().trim_end().to_owned();
        Some(Holder { pid, name, holds })
    }
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The link names the namespace uniquely.
fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// Opening the magic link as a path asks nothing of the file system behind it.
fn is_below(link: &Path, mounts: &HashSet<u64>) -> bool {
    let Ok(opened) = rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return false };
    let information = PathBuf::from(format!("/proc/self/fdinfo/{}", opened.as_raw_fd()));
    mount_id(&information).is_some_and(|id| mounts.contains(&id))
}

fn has_open_file(base: &Path, mounts: &HashSet<u64>) -> bool {
    let entries = fs::read_dir(base.join("fdinfo")).into_iter().flatten().flatten();
    entries.filter_map(|entry| mount_id(&entry.path())).any(|id| mounts.contains(&id))
}

fn mount_id(information: &Path) -> Option<u64> {
    let text = fs::read_to_string(information).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

fn has_mapping(base: &Path, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major:02x}:{minor:02x}");
    let maps = fs::read(base.join("maps")).unwrap_or_default();
    maps.split(|&byte| byte == b'\n')
        .any(|line| line.split(|&byte| byte == b' ').nth(3).is_some_and(|field| field == device.as_bytes()))
}
