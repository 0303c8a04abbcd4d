//! The log's disk is full: the replicator loses words, nothing else.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn a_log_that_takes_nothing_ends_nobody() {
    let directory = std::env::temp_dir().join(format!("telamon-full-log-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let socket = directory.join("socket");
    let mut child = Command::new(env!("CARGO_BIN_EXE_telamon-replicator"))
        .arg("--control")
        .arg(&socket)
        .stdout(Stdio::null())
        .stderr(File::options().write(true).open("/dev/full").unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while UnixStream::connect(&socket).is_err() {
        assert_eq!(child.try_wait().unwrap(), None, "it died of its log");
        assert!(Instant::now() < deadline, "it does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    // It says that it ends, in vain, and ends well.
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::remove_dir_all(&directory).unwrap();
}
