//! One replicated directory, held open below whatever is mounted over it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::error::MountError;
use super::mounted::{KIND, Mounted, kill};
use super::sys;
use super::table::{self, Mount};

/// How long the holders of a dead mount have to end after they were killed.
const STALE_TIMEOUT: Duration = Duration::from_secs(5);

/// One directory of a module: its path, and a descriptor of what lies below every mount of ours.
#[derive(Debug)]
pub struct Site {
    module: String,
    path: PathBuf,
    root: OwnedFd,
    /// Keeps the detached mount attached to its own namespace, so that file handles can be opened relative to `root`.
    _clone: OwnedFd,
}

impl Site {
    /// Opens the directory. What a crashed replicator of `module` left over it is removed first (its dead mount, with the
    /// processes that still hold it killed); its fence is kept. A mount of another module is refused, and so is a mount point
    /// inside the directory. The caller makes sure that no other replicator serves the module now.
    pub fn open(module: &str, path: &Path) -> Result<Site, MountError> {
        let path = resolve(path).map_err(|source| unusable(path, source))?;
        uncover(module, &path)?;
        let opened = || -> io::Result<(OwnedFd, OwnedFd)> {
            let clone = sys::clone_mount(&path)?;
            sys::set_read_only(clone.as_fd(), false)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(&clone, c".", flags, Mode::empty())?;
            Ok((clone, root))
        };
        let (clone, root) = opened().map_err(|source| unusable(&path, source))?;
        Ok(Site {
            module: module.to_owned(),
            path,
            root,
            _clone: clone,
        })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The backing directory, writable, whatever covers it.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Makes the directory read-only for everyone who goes through its path. No-op when it is so already.
    pub fn fence(&self) -> Result<(), MountError> {
        if self.is_fenced() {
            return Ok(());
        }
        let fenced = || -> io::Result<()> {
            let clone = sys::clone_mount(&self.path)?;
            sys::set_read_only(clone.as_fd(), true)?;
            sys::attach(clone.as_fd(), &self.path)
        };
        fenced().map_err(|source| self.failed("fence", source))
    }

    /// Removes the fence (the module leaves this node). No-op when there is none.
    pub fn lift_fence(&self) -> Result<(), MountError> {
        if !self.is_fenced() {
            return Ok(());
        }
        // Readers may go on through the fence they opened; new path walks see the directory itself.
        unmount(&self.path, UnmountFlags::DETACH)
            .map_err(|fault| self.failed("lift the fence over", fault.into()))
    }

    /// Whether the topmost mount at the path is the fence. A served directory is not fenced: its mount covers the fence.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        table::read("self").is_ok_and(|mounts| {
            table::topmost(&mounts, &self.path).is_some_and(|top| table::is_fence(&mounts, top))
        })
    }

    /// Mounts a FUSE file system over the directory. `device` is an open /dev/fuse whose requests the caller answers.
    pub fn serve(&self, device: BorrowedFd<'_>) -> Result<Mounted, MountError> {
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other\0",
            device.as_raw_fd()
        );
        // The text ends with its NUL, put there one line above.
        let options = std::ffi::CStr::from_bytes_until_nul(options.as_bytes()).ok();
        let origin = format!("telamon:{}", self.module);
        mount(origin, &self.path, KIND, MountFlags::empty(), options)
            .map_err(|fault| self.failed("mount over", fault.into()))?;
        Mounted::find(&self.path)
            .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|source| self.failed("find the mount over", source))
    }

    fn failed(&self, attempt: &'static str, source: io::Error) -> MountError {
        MountError::Failed {
            path: self.path.clone(),
            attempt,
            source,
        }
    }
}

fn unusable(path: &Path, source: io::Error) -> MountError {
    MountError::Unusable {
        path: path.to_path_buf(),
        source,
    }
}

/// The absolute path without symbolic links, without asking a (dead) file system mounted on it.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "name a directory below the root",
        )
    })?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let direct = fs::canonicalize(parent)?.join(name);
    if table::topmost(&table::read("self")?, &direct).is_some() {
        return Ok(direct);
    }
    fs::canonicalize(path)
}

/// Removes our dead mounts from the path; refuses what is not ours.
fn uncover(module: &str, path: &Path) -> Result<(), MountError> {
    let deadline = Instant::now() + STALE_TIMEOUT;
    loop {
        let mounts = table::read("self").map_err(|source| unusable(path, source))?;
        let Some(top) = table::topmost(&mounts, path) else {
            return refuse_nested(&mounts, path);
        };
        if top.kind != KIND {
            refuse_covered(&mounts, top, path)?;
            return refuse_nested(&mounts, path);
        }
        if top.origin != format!("telamon:{module}") {
            return Err(foreign(top, path));
        }
        tracing::warn!(path = %path.display(), "removing the mount that a crashed replicator left");
        if let Some(stale) = Mounted::find(path).map_err(|source| unusable(path, source))? {
            kill(&stale.holders(), deadline);
            stale.cut()?;
        }
    }
}

/// A mount on top of a fence or of a mount of ours is somebody else's.
fn refuse_covered(mounts: &[Mount], top: &Mount, path: &Path) -> Result<(), MountError> {
    let below = mounts
        .iter()
        .find(|mount| mount.id == top.parent && mount.point == path);
    let covers_ours =
        below.is_some_and(|below| below.kind == KIND || table::is_fence(mounts, below));
    if covers_ours {
        Err(foreign(top, path))
    } else {
        Ok(())
    }
}

fn refuse_nested(mounts: &[Mount], path: &Path) -> Result<(), MountError> {
    let inner = mounts
        .iter()
        .find(|mount| mount.point != path && mount.point.starts_with(path));
    match inner {
        Some(inner) => Err(MountError::Nested {
            path: path.to_path_buf(),
            inner: inner.point.clone(),
        }),
        None => Ok(()),
    }
}

fn foreign(mount: &Mount, path: &Path) -> MountError {
    MountError::Foreign {
        path: path.to_path_buf(),
        kind: mount.kind.clone(),
        origin: mount.origin.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::CWD;

    use super::*;

    /// Unmounts on the way out, also when an assertion failed.
    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> Directory {
            Directory(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            fs::canonicalize(self.0.path()).unwrap()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            while unmount(self.0.path(), UnmountFlags::DETACH).is_ok() {}
        }
    }

    #[test]
    fn the_fence_stops_the_path_and_not_the_descriptor() {
        let directory = Directory::new();
        let site = Site::open("m", &directory.path()).unwrap();
        site.fence().unwrap();
        site.fence().unwrap();
        assert!(site.is_fenced());
        let refused = fs::write(directory.path().join("x"), b"1").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        let flags = OFlags::CREATE | OFlags::WRONLY;
        openat(site.root(), "y", flags, Mode::from_raw_mode(0o600)).unwrap();
        assert!(directory.path().join("y").exists());

        let again = Site::open("m", &directory.path()).unwrap();
        assert!(again.is_fenced());
        openat(again.root(), "z", flags, Mode::from_raw_mode(0o600)).unwrap();
        again.lift_fence().unwrap();
        again.lift_fence().unwrap();
        fs::write(directory.path().join("x"), b"1").unwrap();
    }

    #[test]
    fn a_dead_mount_of_ours_is_removed_and_a_foreign_one_refused() {
        let directory = Directory::new();
        let inode = fs::metadata(directory.path()).unwrap().ino();
        let site = Site::open("m", &directory.path()).unwrap();
        site.fence().unwrap();
        let device = openat(
            CWD,
            "/dev/fuse",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        let mounted = site.serve(device.as_fd()).unwrap();
        assert!(!site.is_fenced());
        assert!(mounted.holders().is_empty());

        let other = Site::open("other", &directory.path()).unwrap_err();
        assert!(matches!(other, MountError::Foreign { .. }), "{other}");

        drop(device);
        let again = Site::open("m", &directory.path()).unwrap();
        assert!(again.is_fenced());
        assert_eq!(fs::metadata(directory.path()).unwrap().ino(), inode);

        mount("none", directory.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let covered = Site::open("m", &directory.path()).unwrap_err();
        assert!(matches!(covered, MountError::Foreign { .. }), "{covered}");
    }

    #[test]
    fn a_mount_point_inside_is_refused_with_its_path() {
        let directory = Directory::new();
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        mount("none", &inner, "tmpfs", MountFlags::empty(), None).unwrap();
        let refused = Site::open("m", &directory.path()).unwrap_err();
        unmount(&inner, UnmountFlags::empty()).unwrap();
        assert!(matches!(refused, MountError::Nested { .. }), "{refused}");
    }

    #[test]
    fn a_holder_is_named_and_killed() {
        let directory = Directory::new();
        mount("none", directory.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let mounts = table::read("self").unwrap();
        let device = &table::topmost(&mounts, &directory.path()).unwrap().device;
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(directory.path())
            .spawn()
            .unwrap();
        let found = super::super::holder::holders(device);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].pid, sleeper.id());
        assert_eq!(found[0].holds, "working directory");
        assert!(kill(&found, Instant::now() + Duration::from_secs(10)));
        sleeper.wait().unwrap();
    }
}
