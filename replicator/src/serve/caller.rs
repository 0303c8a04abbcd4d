//! Acting on behalf of a caller, so that what he makes is his: owner, group, and what follows from them.
//!
//! Whether he may do it was judged by the kernel before it asked (`default_permissions`); here only the identity changes, not
//! the capabilities.

use std::cell::Cell;

use rustix::fs::Mode;
use rustix::process::Gid;

use super::sys;
use crate::fuse::Caller;

thread_local! {
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Runs `call` with the caller's file system identity and umask. The thread must have been prepared
/// ([`sys::prepare_worker`]): its umask is its own.
pub fn acting<T>(caller: &Caller, umask: u32, call: impl FnOnce() -> T) -> T {
    if UMASK.get() != Some(umask) {
        rustix::process::umask(Mode::from_raw_mode(umask));
        UMASK.set(Some(umask));
    }
    let _identity = Identity::assume(caller);
    call()
}

/// Until it is dropped the thread has another identity.
struct Identity {
    is_other: bool,
    has_group: bool,
}

impl Identity {
    fn assume(caller: &Caller) -> Identity {
        let is_other = caller.uid != 0 || caller.gid != 0;
        let group = caller.group.filter(|&group| group != caller.gid);
        let mut has_group = false;
        if let Some(group) = group {
            has_group = rustix::thread::set_thread_groups(&[Gid::from_raw(group)]).is_ok();
        }
        if is_other {
            sys::set_identity(caller.uid, caller.gid);
        }
        Identity {
            is_other,
            has_group,
        }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        if self.is_other {
            sys::set_identity(0, 0);
        }
        if self.has_group && rustix::thread::set_thread_groups(&[]).is_err() {
            // Going on with somebody's group would give it to the next caller.
            std::process::abort();
        }
    }
}
