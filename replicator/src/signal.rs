//! Termination by signal, as an event that one thread waits for.

use std::io;

/// SIGTERM and SIGINT, blocked for the whole process. Made before any other thread, which inherits the mask.
pub struct Termination(libc::sigset_t);

impl Termination {
    pub fn block() -> io::Result<Termination> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set before anything reads it; pthread_sigmask only reads it.
        let (set, result) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            let set = set.assume_init();
            (
                set,
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()),
            )
        };
        if result == 0 {
            Ok(Termination(set))
        } else {
            Err(io::Error::from_raw_os_error(result))
        }
    }

    /// Waits for one of them.
    pub fn wait(&self) -> io::Result<()> {
        let mut signal = 0;
        // SAFETY: the set is initialised, and `signal` outlives the call.
        let result = unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(result))
        }
    }
}
