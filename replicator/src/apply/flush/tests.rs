//! The durable position against real flushes, of which some fail.

use std::fs::File;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

/// What the observer heard: a position, or a failure.
struct Told(Sender<Result<Lsn, String>>);

impl Observer for Told {
    fn durable(&self, position: Lsn) {
        self.0.send(Ok(position)).unwrap();
    }

    fn failed(&self, error: &ApplyError) {
        self.0.send(Err(error.to_string())).unwrap();
    }
}

fn start() -> (Flusher, Receiver<Result<Lsn, String>>) {
    let (sender, heard) = channel();
    (Flusher::start("n2", Arc::new(Told(sender))).unwrap(), heard)
}

fn hear(heard: &Receiver<Result<Lsn, String>>) -> Result<Lsn, String> {
    heard.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn file(inode: u64) -> FileId {
    FileId {
        tree: 0,
        inode,
        generation: 0,
    }
}

fn good() -> Arc<OwnedFd> {
    Arc::new(tempfile::tempfile_in("/var/tmp").unwrap().into())
}

/// Something that cannot be flushed: EINVAL.
fn bad() -> Arc<OwnedFd> {
    Arc::new(File::open("/dev/null").unwrap().into())
}

fn demand(flusher: &mut Flusher, lsn: u64, inode: u64, descriptor: Arc<OwnedFd>) {
    flusher.demand(Lsn(lsn), file(inode), Level::Full, descriptor);
    flusher.set_applied(Lsn(lsn));
}

#[test]
fn positions_without_a_flush_are_durable_as_they_are_applied() {
    let (mut flusher, _heard) = start();
    flusher.set_applied(Lsn(7));
    let progress = Progress {
        applied: Lsn(7),
        durable: Lsn(7),
    };
    assert_eq!(flusher.progress(), progress);
    assert_eq!(flusher.commit(Flush::Here).unwrap(), progress);
}

#[test]
fn one_flush_is_made_here_and_durable_at_once() {
    let (mut flusher, heard) = start();
    demand(&mut flusher, 5, 1, good());
    flusher.set_applied(Lsn(6));
    assert_eq!(flusher.progress().durable, Lsn(4));
    assert_eq!(flusher.commit(Flush::Here).unwrap().durable, Lsn(6));
    assert!(heard.try_recv().is_err(), "nobody else was needed");
}

#[test]
fn flushes_aside_are_heard_of_in_order_up_to_the_last() {
    let (mut flusher, heard) = start();
    let files: Vec<_> = (0..20).map(|_| good()).collect();
    let mut last = Lsn(0);
    for round in 0..20_u64 {
        for inode in 0..20_u64 {
            let lsn = 1 + round * 20 + inode;
            demand(
                &mut flusher,
                lsn,
                inode,
                files[usize::try_from(inode).unwrap()].clone(),
            );
        }
        let progress = flusher.commit(Flush::Aside).unwrap();
        assert!(last <= progress.durable && progress.durable <= progress.applied);
        last = progress.durable;
    }
    let mut told = Lsn(0);
    while told < Lsn(400) {
        let position = hear(&heard).unwrap();
        assert!(position <= Lsn(400));
        told = told.max(position);
    }
    assert_eq!(flusher.progress().durable, Lsn(400));
}

#[test]
fn waiting_flushes_of_one_file_are_one() {
    let (mut flusher, _heard) = start();
    let descriptor = good();
    flusher.demand(Lsn(1), file(1), Level::Data, descriptor.clone());
    flusher.demand(Lsn(2), file(1), Level::Full, descriptor.clone());
    flusher.demand(Lsn(3), file(1), Level::Data, descriptor);
    assert_eq!(flusher.due.len(), 1);
    assert_eq!(
        (flusher.due[0].lowest, flusher.due[0].level),
        (Lsn(1), Level::Full)
    );
}

#[test]
fn more_than_is_kept_due_is_handed_over_with_the_right_position() {
    let (mut flusher, heard) = start();
    let count = DUE_MAX as u64 + 1;
    for lsn in 1..=count {
        demand(&mut flusher, lsn, lsn, good());
    }
    // The last one is due still: nobody may call it durable.
    while hear(&heard).unwrap() < Lsn(count - 1) {}
    assert_eq!(flusher.progress().durable, Lsn(count - 1));
    assert_eq!(flusher.commit(Flush::Here).unwrap().durable, Lsn(count));
}

#[test]
fn a_failed_flush_here_stops_everything_for_good() {
    let (mut flusher, _heard) = start();
    demand(&mut flusher, 1, 1, good());
    flusher.commit(Flush::Here).unwrap();
    demand(&mut flusher, 2, 2, bad());
    for _ in 0..3 {
        let error = flusher.commit(Flush::Here).unwrap_err().to_string();
        assert!(error.contains("cannot flush /dev/null on n2"), "{error}");
        flusher.check().unwrap_err();
    }
    assert!(flusher.progress().durable < Lsn(2));
    flusher.drain().unwrap_err();
    flusher.settle(std::iter::empty()).unwrap_err();
    flusher.restart(Lsn(9)).unwrap_err();
}

#[test]
fn a_failed_flush_aside_is_heard_of_and_never_passed() {
    let (mut flusher, heard) = start();
    demand(&mut flusher, 1, 1, good());
    demand(&mut flusher, 2, 2, bad());
    demand(&mut flusher, 3, 3, good());
    flusher.commit(Flush::Aside).unwrap();
    let failure = loop {
        match hear(&heard) {
            Ok(position) => assert!(position < Lsn(2), "{position:?}"),
            Err(failure) => break failure,
        }
    };
    assert!(failure.contains("/dev/null"), "{failure}");
    flusher.check().unwrap_err();
    flusher.commit(Flush::Aside).unwrap_err();
    assert!(flusher.progress().durable < Lsn(2));
}
