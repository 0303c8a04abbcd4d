//! Serves directories without a peer, for tests and measurements: every record is applied at once to a second directory.
//!
//!     serve [--capture PINS] [--sync fsync|always|async] [--exclude GLOB] [--mapped GLOB] [--alone] DIRECTORY COPY [DIRECTORY COPY]…
//!
//! When it prints `ready` the directories are mounted. It reads commands, one a line, and answers each with one line: `settle` appends
//! all that is pending, `status` tells counters as JSON, `stop` and `force` unmount and end. COPY must equal DIRECTORY at the
//! start. With `--alone` records are dropped, as while commits are acknowledged alone.

mod applier;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use telamon_replicator::journal::{Journal, Then, Trees};
use telamon_replicator::mount::Site;
use telamon_replicator::record::{Lsn, Record};
use telamon_replicator::serve::{Config, Directory, Observer, Served, SyncMode};

use applier::Applier;

/// Applies each record in the call that appends it.
struct Double {
    applier: Option<Mutex<Applier>>,
    records: AtomicU64,
}

impl Journal for Double {
    fn append(&self, record: &Record<'_>) -> Lsn {
        let lsn = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(applier) = &self.applier {
            let applied = applier.lock().map(|mut applier| applier.apply(record));
            if !matches!(applied, Ok(Ok(()))) {
                eprintln!("cannot apply {record:?}: {applied:?}");
                std::process::exit(3);
            }
        }
        Lsn(lsn)
    }

    fn ships(&self) -> bool {
        self.applier.is_some()
    }

    fn flush(&self) {}

    fn when(&self, _lsn: Lsn, then: Then) {
        then(Ok(()));
    }
}

/// Tells on the standard error output.
struct Teller;

impl Observer for Teller {
    fn degraded(&self, reason: &str) {
        eprintln!("degraded: {reason}");
    }

    fn fault(&self, reason: &str) {
        eprintln!("fault: {reason}");
    }
}

struct Arguments {
    config: Config,
    copies: Vec<PathBuf>,
    is_alone: bool,
}

fn arguments() -> anyhow::Result<Arguments> {
    let (mut exclude, mut mapped, mut paths) = (Vec::new(), Vec::new(), Vec::new());
    let (mut sync, mut capture, mut is_alone) = (SyncMode::Fsync, None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--capture" => capture = Some(PathBuf::from(value()?)),
            "--exclude" => exclude.push(value()?),
            "--mapped" => mapped.push(value()?),
            "--alone" => is_alone = true,
            "--sync" => {
                sync = match value()?.as_str() {
                    "fsync" => SyncMode::Fsync,
                    "always" => SyncMode::Always,
                    "async" => SyncMode::Async,
                    other => bail!("no such mode: {other}"),
                }
            }
            _ => paths.push(PathBuf::from(word)),
        }
    }
    if paths.is_empty() || paths.len() % 2 != 0 {
        bail!("name a directory and its copy");
    }
    let directory = |path: &Path| -> anyhow::Result<Directory> {
        let site = Arc::new(Site::open("double", path)?);
        Ok(Directory {
            site,
            exclude: exclude.clone(),
            mapped: mapped.clone(),
        })
    };
    let directories = paths
        .iter()
        .step_by(2)
        .map(|path| directory(path))
        .collect::<Result<_, _>>()?;
    let copies = paths.iter().skip(1).step_by(2).cloned().collect();
    Ok(Arguments {
        config: Config {
            module: "double".to_owned(),
            directories,
            sync,
            capture,
        },
        copies,
        is_alone,
    })
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Arguments {
        config,
        copies,
        is_alone,
    } = arguments()?;
    let applier = if is_alone {
        None
    } else {
        Some(Mutex::new(Applier::new(&copies)?))
    };
    let journal = Arc::new(Double {
        applier,
        records: AtomicU64::new(0),
    });
    let served = Served::start(
        &config,
        Arc::clone(&journal) as Arc<dyn Journal>,
        Arc::new(Teller),
    )?;
    if let Some(applier) = &journal.applier {
        let bind = |applier: &mut Applier| applier.bind_all(served.as_ref());
        bind(&mut applier.lock().expect("nobody panicked"))?;
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "settle" => println!("{}", outcome(served.settle())),
            "status" => println!(
                "{}",
                describe(&served, journal.records.load(Ordering::Relaxed))
            ),
            command @ ("stop" | "force") => {
                let stopped = served.stop(command == "force", Duration::from_secs(10));
                let is_over = stopped.is_ok();
                println!("{}", outcome(stopped));
                if is_over {
                    return Ok(());
                }
            }
            other => println!("error: no such command: {other}"),
        }
    }
    served.stop(true, Duration::from_secs(10))?;
    Ok(())
}

fn outcome<E: std::fmt::Display>(result: Result<(), E>) -> String {
    result.map_or_else(|error| format!("error: {error}"), |()| "ok".to_owned())
}

fn describe(served: &Served, records: u64) -> String {
    let status = served.status();
    let directories: Vec<_> = status
        .directories
        .iter()
        .map(|directory| format!("{:?}", directory.mode))
        .collect();
    serde_json::json!({
        "records": records,
        "capture": format!("{:?}", status.capture),
        "directories": directories,
        "commits": status.counters.commits,
        "bytes_shipped": status.counters.bytes_shipped,
        "capture_drops": status.counters.capture_drops,
        "uncovered_syncs": status.counters.uncovered_syncs,
        "commit_p50_us": status.commit_latency.p50.as_micros(),
    })
    .to_string()
}
