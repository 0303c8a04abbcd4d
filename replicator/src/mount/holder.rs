//! Processes that keep a mount in use, in any mount namespace.
//!
//! Found without touching the mounted file system, whose daemon may be dead or waiting: open files by the mount id that
//! `/proc/PID/fdinfo` gives, working and root directories and mappings by path against that process's own mount table.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::table::{self, Mount};

/// A process that keeps a mount in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// `comm` of the process.
    pub name: String,
    /// What it holds: an open file, its working directory, a mapping.
    pub holds: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} (pid {}, {})",
            self.name, self.pid, self.holds
        )
    }
}

/// Lists who holds the file system with the device number `device` (`major:minor`), each process once, the caller left out.
pub fn holders(device: &str) -> Vec<Holder> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid: &u32| pid != own)
        .filter_map(|pid| {
            let holds = what_is_held(pid, device)?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Some(Holder {
                pid,
                name: name.trim_end().to_owned(),
                holds,
            })
        })
        .collect()
}

/// A process may end while it is looked at: whatever cannot be read then is not held any more.
fn what_is_held(pid: u32, device: &str) -> Option<String> {
    let mounts = table::read(&pid.to_string()).ok()?;
    let ours: HashSet<u64> = mounts
        .iter()
        .filter(|mount| mount.device == device)
        .map(|mount| mount.id)
        .collect();
    if ours.is_empty() {
        return None;
    }
    let is_ours =
        |path: &Path| covering(&mounts, path).is_some_and(|mount| ours.contains(&mount.id));
    for (link, what) in [("cwd", "working directory"), ("root", "root directory")] {
        let target = fs::read_link(format!("/proc/{pid}/{link}"));
        if target.is_ok_and(|target| is_ours(&target)) {
            return Some(what.to_owned());
        }
    }
    open_file(pid, &ours)
        .map(|path| format!("open file {}", path.display()))
        .or_else(|| mapping(pid, is_ours).map(|path| format!("mapping of {}", path.display())))
}

/// The mount that shows `path`: the deepest mount point above it, and of several there the one mounted last.
fn covering<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    let deepest = above.max_by_key(|mount| mount.point.components().count())?;
    table::topmost(mounts, &deepest.point)
}

fn open_file(pid: u32, ours: &HashSet<u64>) -> Option<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
    for entry in entries.filter_map(Result::ok) {
        let Ok(information) = fs::read_to_string(entry.path()) else {
            continue;
        };
        let mount = information
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        if mount.is_some_and(|mount| ours.contains(&mount)) {
            let link = Path::new("/proc")
                .join(pid.to_string())
                .join("fd")
                .join(entry.file_name());
            return Some(fs::read_link(link).unwrap_or_default());
        }
    }
    None
}

fn mapping(pid: u32, is_ours: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])))
        .find(|path| is_ours(path))
        .map(Path::to_path_buf)
}
