//! The served file system, mounted over its directory (and over the fence).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::error::MountError;
use super::holder::{self, Holder};
use super::site::Site;
use super::{sys, table};

#[derive(Debug)]
pub struct Cover {
    site: Arc<Site>,
    device: (u32, u32),
}

impl Cover {
    /// Mounts the connection over the site's directory, with the mount flags of what it covers.
    pub fn mount(site: &Arc<Site>, connection: &impl AsFd) -> Result<Cover, MountError> {
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            connection.as_fd().as_raw_fd()
        );
        let options = CString::new(options).unwrap_or_default();
        let flags = inherited_flags(site).map_err(|error| site.failed("read the mount flags of", error))?;
        rustix::mount::mount(site.origin(), site.path(), Site::KIND, flags, options.as_c_str())
            .map_err(|error| site.failed("mount the served file system over", error))?;
        let mut cover = Cover { site: Arc::clone(site), device: (0, 0) };
        match cover.top() {
            Some(mount) if mount.kind == Site::KIND => cover.device = mount.device,
            _ => return Err(site.failed("find the mount over", Errno::NOENT)),
        }
        Ok(cover)
    }

    /// Whether the mount is what a process finds at the path now.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        self.top().is_some_and(|mount| mount.device == self.device)
    }

    /// Who holds the mount, in any mount namespace.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        holder::find(self.device)
    }

    /// Unmounts, or names the holders and leaves everything as it is.
    pub fn unmount(&self) -> Result<(), MountError> {
        // Asked first: a holder in another mount namespace does not keep the mount here from going.
        let holders = self.holders();
        if !holders.is_empty() {
            return Err(self.busy(holders));
        }
        if self.is_mounted() {
            match rustix::mount::unmount(self.site.path(), UnmountFlags::empty()) {
                Ok(()) => {}
                Err(Errno::BUSY) => return Err(self.busy(self.holders())),
                Err(error) => return Err(self.site.failed("unmount", error)),
            }
        }
        self.remove_copies();
        Ok(())
    }

    /// Kills the holders and unmounts; at the deadline cuts the connection and takes the mount away from under whoever is left.
    pub fn unmount_by_force(&self, timeout: Duration) -> Result<(), MountError> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            let holders = self.holders();
            holder::kill(&holders, deadline);
            match self.unmount() {
                Ok(()) => return Ok(()),
                Err(MountError::Busy { holders, .. }) if holders.is_empty() => break,
                Err(MountError::Busy { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::warn!(path = %self.site.path().display(), "cutting the connection of a mount that cannot be left cleanly");
        if self.is_mounted() {
            rustix::mount::unmount(self.site.path(), UnmountFlags::FORCE | UnmountFlags::DETACH)
                .map_err(|error| self.site.failed("unmount by force", error))?;
        }
        self.remove_copies();
        Ok(())
    }

    fn busy(&self, holders: Vec<Holder>) -> MountError {
        MountError::Busy { path: self.site.path().to_owned(), holders }
    }

    fn top(&self) -> Option<table::Mount> {
        let mounts = table::own().ok()?;
        table::stack(&mounts, self.site.path()).last().map(|&mount| mount.clone())
    }

    /// A service with a mount namespace of its own may carry a copy of the mount that nobody uses but that keeps it alive.
    fn remove_copies(&self) {
        for (pid, point) in holder::copies(self.device) {
            let removed = std::thread::scope(|scope| scope.spawn(|| remove_copy(pid, &point)).join());
            if let Ok(Err(error)) = removed {
                tracing::warn!(pid, point = %point.display(), %error, "cannot remove a copy of the mount");
            }
        }
    }
}

fn remove_copy(pid: u32, point: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(format!("/proc/{pid}/ns/mnt"), flags, Mode::empty())?;
    sys::enter_mount_namespace(namespace.as_fd())?;
    rustix::mount::unmount(point, UnmountFlags::DETACH)
}

/// What the directory's own mount forbids stays forbidden.
fn inherited_flags(site: &Site) -> Result<MountFlags, Errno> {
    let present = rustix::fs::fstatvfs(site.root())?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let inherited = pairs.into_iter().filter(|(here, _)| present.contains(*here)).map(|(_, there)| there);
    Ok(inherited.collect())
}
