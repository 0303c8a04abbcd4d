//! Lets a thread go before ordinary ones, for work that a caller on the other node waits for.
//!
//! An ordinary thread that is woken by a packet may land on the processor that just took the packet in, behind whatever runs there,
//! although another one is idle. A thread of the lowest real-time priority stays on its processor and runs at once. The kernel keeps
//! a share of each processor for ordinary threads in any case (`sched_rt_runtime_us`).
//!
//! Invariant: the precedence ends with its value. Threads and processes that are started meanwhile do not have it.

use std::io;
use std::marker::PhantomData;

/// The lowest there is.
const PRIORITY: i32 = 1;

/// See the module. Belongs to the thread that took it.
pub struct Precedence(PhantomData<*const ()>);

impl Precedence {
    /// For the calling thread. `None` where the system refuses it: then it waits its turn, as it always did.
    #[must_use]
    pub fn take() -> Option<Precedence> {
        match schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, PRIORITY) {
            Ok(()) => Some(Precedence(PhantomData)),
            Err(error) => {
                tracing::info!(%error, "no real-time priority: commits of the peer take longer while this node is busy");
                None
            }
        }
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if let Err(error) = schedule(libc::SCHED_OTHER, 0) {
            tracing::warn!(%error, "cannot give the real-time priority back");
        }
    }
}

fn schedule(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: 0 is the calling thread; the structure is read during the call only.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn policy() -> i32 {
        // SAFETY: no memory is involved; 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
    }

    #[test]
    fn it_is_the_threads_own_and_ends_with_the_value() {
        thread::spawn(|| {
            let precedence = Precedence::take().unwrap();
            assert_eq!(policy(), libc::SCHED_FIFO);
            assert_eq!(thread::spawn(policy).join().unwrap(), libc::SCHED_OTHER);
            drop(precedence);
            assert_eq!(policy(), libc::SCHED_OTHER);
        })
        .join()
        .unwrap();
    }
}
