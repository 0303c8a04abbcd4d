//! The replicator process: one mirror module's data path (CONTROL.md says how the agent drives it).

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::Mode;
use telamon_replicator::control::{Publisher, Server};
use telamon_replicator::node::Node;
use telamon_replicator::signal::Termination;
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: telamon-replicator --control SOCKET";
/// The answer to `stop` leaves through a thread of its connection.
const LAST_WORDS: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let path = socket_path()?;
    // Before any thread begins: each has the mask of the one that started it.
    let termination = Termination::block().context("cannot take signals")?;
    let filter = EnvFilter::try_from_env("TELAMON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Off the data path: a log on a disk that is full or hangs must hold nothing up. What does not fit is dropped.
    let (log, _rest) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::fmt()
        .with_writer(log)
        .with_ansi(false)
        // On a full disk the complaint about the log would end the process: it goes the same way, and panics.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .init();
    let server = Server::bind(&path)?;
    // Objects get exactly the mode that the log says.
    rustix::process::umask(Mode::empty());

    let publisher = Publisher::default();
    let (ended, end) = sync_channel(1);
    let node = Node::new(publisher.clone(), ended);
    server.start(node.clone(), publisher)?;
    std::thread::Builder::new()
        .name("signal".to_owned())
        .spawn(move || match termination.wait() {
            Ok(()) => node.terminate(),
            Err(error) => tracing::error!("cannot wait for signals: {error}"),
        })?;
    tracing::info!(control = %path.display(), version = env!("CARGO_PKG_VERSION"), "replicator started");
    end.recv().context("the node is gone")?;
    std::thread::sleep(LAST_WORDS);
    tracing::info!("replicator ends");
    Ok(())
}

fn socket_path() -> Result<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(flag), Some(path), None) if flag == "--control" => Ok(path.into()),
        (Some(flag), None, None) if flag == "--version" => {
            println!("telamon-replicator {}", env!("CARGO_PKG_VERSION"));
            std::process::exit(0)
        }
        _ => bail!(USAGE),
    }
}
