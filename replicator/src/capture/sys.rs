//! Memory shared with the kernel, and the one bpf(2) command that libbpf-rs has no safe form of.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use libbpf_rs::libbpf_sys;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mapping that is removed with its owner.
struct Mapping {
    address: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(
        map: BorrowedFd<'_>,
        offset: usize,
        bytes: usize,
        access: ProtFlags,
    ) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                MapFlags::SHARED,
                map,
                offset as u64,
            )?
        };
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Mapping { address, bytes })
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.bytes && offset % 8 == 0);
        // SAFETY: inside the mapping and aligned (asserted); the kernel too only uses atomic accesses there.
        unsafe { AtomicU64::from_ptr(self.address.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of mmap, and references into it borrow from self.
        let result = unsafe { munmap(self.address.as_ptr().cast(), self.bytes) };
        debug_assert!(result.is_ok());
    }
}

// SAFETY: the memory is shared with the kernel already; all access from here is atomic or read-only between atomic positions.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// The three parts of a ring buffer map: consumer page, producer page, and the data mapped twice in a row.
pub struct RingMemory {
    consumer: Mapping,
    produced: Mapping,
    page: usize,
    mask: u64,
}

impl RingMemory {
    pub fn map(events: &impl AsFd, data_bytes: usize) -> io::Result<RingMemory> {
        let page = rustix::param::page_size();
        if !data_bytes.is_power_of_two() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        Ok(RingMemory {
            consumer: Mapping::new(events.as_fd(), 0, page, writable)?,
            produced: Mapping::new(events.as_fd(), page, page + 2 * data_bytes, ProtFlags::READ)?,
            page,
            mask: data_bytes as u64 - 1,
        })
    }

    pub fn consumer(&self) -> &AtomicU64 {
        self.consumer.counter(0)
    }

    pub fn producer(&self) -> &AtomicU64 {
        self.produced.counter(0)
    }

    /// The length word of the element at `position`.
    pub fn header(&self, position: u64) -> &AtomicU32 {
        let offset = self.offset(position);
        assert!(offset % 4 == 0 && offset + 4 <= self.produced.bytes);
        // SAFETY: inside the mapping and aligned (asserted); the kernel too only uses atomic accesses there.
        unsafe { AtomicU32::from_ptr(self.produced.address.as_ptr().add(offset).cast()) }
    }

    /// `count` bytes from `position`, which belong to a submitted element that is not consumed yet.
    pub fn bytes(&self, position: u64, count: usize) -> &[u8] {
        let offset = self.offset(position);
        assert!(offset + count <= self.produced.bytes);
        // SAFETY: inside the mapping (asserted); the kernel does not write to it before the consumer position passes it.
        unsafe { std::slice::from_raw_parts(self.produced.address.as_ptr().add(offset), count) }
    }

    fn offset(&self, position: u64) -> usize {
        // The mask is smaller than the mapping, so the cast keeps the value.
        self.page + usize::try_from(position & self.mask).unwrap_or(usize::MAX)
    }
}

/// A mapped array map of one `u64`.
pub struct Counter(Mapping);

impl Counter {
    pub fn map(array: &impl AsFd) -> io::Result<Counter> {
        let page = rustix::param::page_size();
        Ok(Counter(Mapping::new(
            array.as_fd(),
            0,
            page,
            ProtFlags::READ,
        )?))
    }

    pub fn read(&self) -> u64 {
        self.0.counter(0).load(Ordering::Acquire)
    }
}

/// Runs a program of type `syscall` once, in this process.
pub fn run(program: &impl AsFd) -> io::Result<()> {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: the options live through the call and carry their own size; no buffer is passed.
    let result = unsafe {
        libbpf_sys::bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &raw mut options)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(-result))
    }
}
