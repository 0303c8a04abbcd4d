//! One connection to the kernel: the `/dev/fuse` descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::abi::{OUT_HEADER_LENGTH, notify};
use super::value::{BackingId, NodeId, Unique};
use super::{TRANSFER_MAX, sys};

/// Room for the largest request: a full WRITE with its headers. The kernel refuses shorter reads.
pub const BUFFER_LENGTH: usize = TRANSFER_MAX + 4096;

#[derive(Debug)]
pub struct Device(OwnedFd);

impl Device {
    /// A descriptor that no mount uses yet.
    pub fn open() -> io::Result<Device> {
        let fd = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Device(fd))
    }

    /// Waits for a request and returns its length; `None` when the mount is gone or the connection was cut.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                Ok(length) => return Ok(Some(length)),
                // ENOENT: the request was withdrawn while it was being read.
                Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => {}
                Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Answers one request. A caller that is gone, with or without the whole connection, is not an error.
    pub fn answer(&self, unique: Unique, error: Option<Errno>, parts: &[&[u8]]) -> io::Result<()> {
        let code = error.map_or(0, |errno| -errno.raw_os_error());
        match self.send(unique.0, code, parts) {
            Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED | Errno::PERM) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Makes the kernel ask for the node's attributes before it uses them again. Takes no lock that a handler may hold.
    pub fn forget_attributes(&self, node: NodeId) -> io::Result<()> {
        let mut body = [0_u8; 24];
        body[..8].copy_from_slice(&node.0.to_ne_bytes());
        body[8..16].copy_from_slice(&(-1_i64).to_ne_bytes());
        match self.send(0, notify::INVAL_INODE, &[&body]) {
            // The kernel does not know the node (any more), or there is no connection left.
            Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED | Errno::PERM) => Ok(()),
            other => Ok(other?),
        }
    }

    /// After taking over the descriptor of another process: has the kernel send again what that one had read and not answered.
    pub fn resend(&self) -> io::Result<()> {
        Ok(self.send(0, notify::RESEND, &[])?)
    }

    /// Registers a file for passthrough.
    pub fn open_backing(&self, file: BorrowedFd<'_>) -> Result<BackingId, Errno> {
        sys::backing_open(self.0.as_fd(), file).map(BackingId)
    }

    pub fn close_backing(&self, id: BackingId) -> Result<(), Errno> {
        sys::backing_close(self.0.as_fd(), id.0)
    }

    fn send(&self, unique: u64, error: i32, parts: &[&[u8]]) -> Result<(), Errno> {
        const PARTS_MAX: usize = 4;
        let length = OUT_HEADER_LENGTH + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut header = [0_u8; OUT_HEADER_LENGTH];
        header[..4].copy_from_slice(
            &u32::try_from(length)
                .map_err(|_| Errno::INVAL)?
                .to_ne_bytes(),
        );
        header[4..8].copy_from_slice(&error.to_ne_bytes());
        header[8..].copy_from_slice(&unique.to_ne_bytes());
        let mut slices = [io::IoSlice::new(&[]); PARTS_MAX];
        slices[0] = io::IoSlice::new(&header);
        for (slice, part) in slices[1..].iter_mut().zip(parts) {
            *slice = io::IoSlice::new(part);
        }
        debug_assert!(parts.len() < PARTS_MAX, "an answer has few parts");
        rustix::io::writev(&self.0, &slices[..=parts.len()]).map(drop)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
