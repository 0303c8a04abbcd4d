//! Keeps the processors from sleeping while commits follow one another.
//!
//! A commit passes through several threads on two nodes. Where it meets a processor that sleeps, it waits for its waking, and in
//! a virtual machine a few of these cost more than all the work of the commit. The kernel's means against it is
//! `/dev/cpu_dma_latency` (its interface to power management): as long as 0 stands there, idle processors poll. To the
//! scheduler they are idle still, so nobody is deprived of them; what it costs is power, and the host of a virtual machine its share.
//!
//! Invariant: the request stands only while commits are at most [`DENSE`] apart, and at most twice [`LINGER`] longer. Where the
//! device cannot be opened, processors sleep as they always did.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

const DEVICE: &str = "/dev/cpu_dma_latency";
/// Commits that are farther apart are not worth the power.
const DENSE: Duration = Duration::from_millis(5);
/// How long the next commit is waited for.
const LINGER: Duration = Duration::from_millis(10);
/// What the device takes: the latency that is borne, in microseconds.
const AWAKE_US: i32 = 0;
/// The kernel's own default, which asks for nothing (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`).
const ASLEEP_US: i32 = 2_000_000_000;

struct Shared {
    origin: Instant,
    /// When a commit was seen last, in microseconds since `origin`.
    last_us: AtomicU64,
    is_awake: AtomicBool,
    /// Held over every change of `is_awake` and the request that goes with it.
    device: Mutex<File>,
    has_ended: AtomicBool,
}

/// See the module. The request ends with this value.
pub struct Wakefulness {
    /// `None` where processors sleep as they always did.
    kept: Option<(Arc<Shared>, JoinHandle<()>)>,
}

impl Wakefulness {
    /// Opens the device; asks for nothing yet.
    #[must_use]
    pub fn start() -> Wakefulness {
        let opened = OpenOptions::new().write(true).open(Path::new(DEVICE));
        let kept = opened.and_then(Wakefulness::keep);
        if let Err(error) = &kept {
            tracing::info!(%error, "{DEVICE}: processors may sleep between commits, which then take longer");
        }
        Wakefulness { kept: kept.ok() }
    }

    fn keep(device: File) -> std::io::Result<(Arc<Shared>, JoinHandle<()>)> {
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            last_us: AtomicU64::new(0),
            is_awake: AtomicBool::new(false),
            device: Mutex::new(device),
            has_ended: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        let thread = Builder::new()
            .name("wakefulness".to_owned())
            .spawn(move || watched.watch())?;
        Ok((shared, thread))
    }

    /// A commit is under way. Costs a look at the clock; a system call when a run of commits begins.
    pub fn committed(&self) {
        let Some((shared, thread)) = &self.kept else {
            return;
        };
        let now_us = shared.now_us();
        let before_us = shared.last_us.swap(now_us, Ordering::SeqCst);
        let is_dense = Duration::from_micros(now_us.saturating_sub(before_us)) <= DENSE;
        if is_dense && !shared.is_awake.load(Ordering::SeqCst) {
            shared.ask(true);
            thread.thread().unpark();
        }
    }
}

impl Drop for Wakefulness {
    fn drop(&mut self) {
        if let Some((shared, thread)) = self.kept.take() {
            shared.has_ended.store(true, Ordering::SeqCst);
            thread.thread().unpark();
            // A panic aborts the process; there is no other way for it to fail.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn ask(&self, is_awake: bool) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_awake.swap(is_awake, Ordering::SeqCst) == is_awake {
            return;
        }
        let latency_us = if is_awake { AWAKE_US } else { ASLEEP_US };
        if let Err(error) = device.write_all(&latency_us.to_ne_bytes()) {
            tracing::warn!(%error, "cannot write to {DEVICE}: processors may sleep between commits");
        }
    }

    /// Ends the request once no commit came for a while.
    fn watch(&self) {
        while !self.has_ended.load(Ordering::SeqCst) {
            if !self.is_awake.load(Ordering::SeqCst) {
                std::thread::park();
                continue;
            }
            std::thread::park_timeout(LINGER);
            let quiet_us = self
                .now_us()
                .saturating_sub(self.last_us.load(Ordering::SeqCst));
            if Duration::from_micros(quiet_us) >= LINGER {
                self.ask(false);
            }
        }
        self.ask(false);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A device, and what is written to it.
    fn device() -> (Wakefulness, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let kept = Wakefulness::keep(File::from(OwnedFd::from(ours))).unwrap();
        (Wakefulness { kept: Some(kept) }, theirs)
    }

    fn request(device: &mut UnixStream) -> i32 {
        let mut latency = [0; 4];
        device.read_exact(&mut latency).unwrap();
        i32::from_ne_bytes(latency)
    }

    #[test]
    fn a_run_of_commits_is_one_request_and_its_end_another() {
        let (wakefulness, mut device) = device();
        std::thread::sleep(2 * DENSE); // the subject: a commit this late is the first of none
        wakefulness.committed();
        (0..100).for_each(|_| wakefulness.committed());
        assert_eq!(request(&mut device), AWAKE_US);
        assert_eq!(request(&mut device), ASLEEP_US);
    }

    #[test]
    fn commits_far_apart_ask_for_nothing() {
        let (wakefulness, mut device) = device();
        for _ in 0..3 {
            std::thread::sleep(2 * DENSE); // the subject: the distance between commits
            wakefulness.committed();
        }
        drop(wakefulness);
        assert_eq!(device.read(&mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn the_request_ends_with_its_value() {
        let (wakefulness, mut device) = device();
        (0..2).for_each(|_| wakefulness.committed());
        drop(wakefulness);
        assert_eq!(request(&mut device), AWAKE_US);
        assert_eq!(request(&mut device), ASLEEP_US);
    }
}
