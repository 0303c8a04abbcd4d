//! INIT: what this side asks of the kernel, and what both agree on.

use std::io;
use std::sync::Arc;

use super::TRANSFER_MAX;
use super::abi::{self, init};
use super::device::{BUFFER_LENGTH, Device};
use super::operation::Operation;
use super::reply::{Out, Reply};
use super::request::Request;

/// Asked for because the handler honours it. Left out on purpose: `WRITEBACK_CACHE` (excluded by passthrough),
/// `POSIX_LOCKS`/`FLOCK_LOCKS` (locks are local to the node), `EXPORT_SUPPORT` (no re-export by NFS), `AUTO_INVAL_DATA` (nobody
/// else writes below the mount), `SECURITY_CTX` (contexts are set as extended attributes), `SPLICE_*` (content passes through
/// memory anyway, on its way to the journal).
const WANTED: u64 = init::ASYNC_READ
    | init::ATOMIC_O_TRUNC
    | init::BIG_WRITES
    | init::DONT_MASK
    | init::HAS_IOCTL_DIR
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::ASYNC_DIO
    | init::PARALLEL_DIROPS
    | init::POSIX_ACL
    | init::ABORT_ERROR
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT
    | init::INIT_EXT
    | init::CREATE_SUPP_GROUP
    | init::PASSTHROUGH;

/// Without these the handler would answer wrongly; every kernel of the supported range has them.
const NEEDED: u64 = init::DONT_MASK
    | init::POSIX_ACL
    | init::BIG_WRITES
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT;

/// The outcome of INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub minor: u32,
    max_readahead: u32,
    flags: u64,
}

impl Negotiated {
    /// Reads the kernel's INIT, the first request of a connection, and answers it.
    pub(super) fn with(device: &Arc<Device>) -> io::Result<Negotiated> {
        let mut buffer = vec![0; BUFFER_LENGTH];
        let length = device
            .read(&mut buffer)?
            .ok_or(io::ErrorKind::NotConnected)?;
        let invalid =
            |message: &str| io::Error::new(io::ErrorKind::InvalidData, message.to_owned());
        let request = Request::parse(&buffer[..length])
            .map_err(|refused| invalid(&refused.reason.to_string()))?;
        let Operation::Initialize {
            major,
            minor,
            max_readahead,
            flags,
        } = request.operation
        else {
            return Err(invalid("the kernel's first request was not INIT"));
        };
        let reply = Reply::new(device, request.unique);
        match Self::choose(major, minor, max_readahead, flags) {
            Ok(negotiated) => {
                reply.bytes(Ok(&negotiated.encode()));
                Ok(negotiated)
            }
            Err(message) => {
                reply.empty(Err(rustix::io::Errno::PROTO));
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }

    fn choose(
        major: u32,
        minor: u32,
        max_readahead: u32,
        offered: u64,
    ) -> Result<Negotiated, String> {
        if major != abi::KERNEL_VERSION || minor < abi::KERNEL_MINOR_VERSION_MIN {
            return Err(format!(
                "this kernel speaks FUSE {major}.{minor}; 7.{} or newer (Linux 5.4) is needed",
                abi::KERNEL_MINOR_VERSION_MIN
            ));
        }
        let missing = NEEDED & !offered;
        if missing != 0 {
            return Err(format!(
                "this kernel's FUSE lacks needed features (flags {missing:#x}); Linux 5.12 is needed"
            ));
        }
        Ok(Negotiated {
            minor: minor.min(abi::KERNEL_MINOR_VERSION),
            max_readahead,
            flags: offered & WANTED,
        })
    }

    /// The kernel can read and write a backing file by itself.
    #[must_use]
    pub fn has_passthrough(&self) -> bool {
        self.flags & init::PASSTHROUGH != 0
    }

    /// `struct fuse_init_out`.
    pub(super) fn encode(&self) -> [u8; 64] {
        const BACKGROUND_MAX: u16 = 64;
        const CONGESTION: u16 = 48;
        const TRANSFER_BYTES: u32 = 1 << 20;
        const TRANSFER_PAGES: u16 = 256;
        const _: () = assert!(
            TRANSFER_BYTES as usize == TRANSFER_MAX
                && TRANSFER_PAGES as usize * 4096 == TRANSFER_MAX
        );
        /// Backing files lie on an ordinary file system, not on a stacked one.
        const STACK_DEPTH: u32 = 1;
        let mut out = Out::<64>::new();
        out.u32(abi::KERNEL_VERSION)
            .u32(abi::KERNEL_MINOR_VERSION)
            .u32(self.max_readahead)
            .u32(low_half(self.flags));
        out.u16(BACKGROUND_MAX)
            .u16(CONGESTION)
            .u32(TRANSFER_BYTES)
            .u32(1);
        out.u16(TRANSFER_PAGES)
            .u16(0)
            .u32(low_half(self.flags >> 32));
        out.u32(if self.has_passthrough() {
            STACK_DEPTH
        } else {
            0
        });
        out.finish()
    }
}

fn low_half(flags: u64) -> u32 {
    let [.., a, b, c, d] = flags.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
