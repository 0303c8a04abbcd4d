//! Fault points: named step boundaries at which a test build can be killed or paused (feature `fault-points`).
//!
//! `TELAMON_FAULT=NAME=kill` ends the process at the point as SIGKILL would; `NAME=pause` stops it as SIGSTOP would, until SIGCONT;
//! `NAME=kill@3` does so at the third passage. Several are separated by commas. In other builds a point is nothing at all.

#[cfg(not(feature = "fault-points"))]
#[inline]
pub fn point(_name: &str) {}

#[cfg(feature = "fault-points")]
pub use armed::point;

#[cfg(feature = "fault-points")]
mod armed {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock};

    use rustix::process::Signal;

    #[derive(Debug)]
    struct Fault {
        signal: Signal,
        passages_left: u32,
    }

    /// Does what the environment asks for at this point.
    ///
    /// # Panics
    /// If `TELAMON_FAULT` is not understood: a test would run without its fault.
    pub fn point(name: &str) {
        static ARMED: OnceLock<Mutex<HashMap<String, Fault>>> = OnceLock::new();
        let armed = ARMED.get_or_init(|| {
            let plan = std::env::var("TELAMON_FAULT").unwrap_or_default();
            Mutex::new(parse(&plan).unwrap_or_else(|fault| panic!("TELAMON_FAULT: {fault}")))
        });
        let mut armed = crate::link::locked(armed);
        let Some(fault) = armed.get_mut(name) else {
            return;
        };
        fault.passages_left = fault.passages_left.saturating_sub(1);
        if fault.passages_left > 0 {
            return;
        }
        let signal = fault.signal;
        armed.remove(name);
        drop(armed);
        tracing::warn!(point = name, ?signal, "fault point");
        if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), signal) {
            panic!("cannot signal this process: {error}");
        }
    }

    fn parse(plan: &str) -> Result<HashMap<String, Fault>, String> {
        let entries = plan.split(',').filter(|entry| !entry.is_empty());
        entries.map(parse_one).collect()
    }

    fn parse_one(entry: &str) -> Result<(String, Fault), String> {
        let (name, action) = entry
            .split_once('=')
            .ok_or_else(|| format!("{entry:?} has no action"))?;
        let (action, passages) = action.split_once('@').unwrap_or((action, "1"));
        let signal = match action {
            "kill" => Signal::KILL,
            "pause" => Signal::STOP,
            other => return Err(format!("{other:?} is neither kill nor pause")),
        };
        let passages_left = passages
            .parse()
            .map_err(|_| format!("{passages:?} is no number"))?;
        Ok((
            name.to_owned(),
            Fault {
                signal,
                passages_left,
            },
        ))
    }
}
