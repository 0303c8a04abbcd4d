//! A directory in any state is brought to the primary's by listings, while the log goes on.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use rustix::fs::{SeekFrom, seek};
use telamon_replicator::apply::{BlockHashes, HASH_BYTES, Outcome, Want, Zeroes};
use telamon_replicator::record::{Change, FileId, Record};
use telamon_replicator::wire::{Listing, Logged};

use crate::operation::{Operation, operations};
use crate::primary::{Primary, attributes};
use crate::secondary::Secondary;
use crate::sequences::settings;
use crate::snapshot::cool;

const BLOCK_BYTES: usize = 8192;

/// What waits to be answered, with the hashes taken when it was asked.
struct Question {
    want: Want,
    hashes: Vec<[u8; HASH_BYTES]>,
}

struct Resync {
    primary: Primary,
    secondary: Secondary,
    questions: VecDeque<Question>,
    /// Entries in one part of a listing.
    part: usize,
}

impl Resync {
    /// Both sides did what they did apart; then they meet.
    fn meet(ours: &[Operation], theirs: &[Operation], part: usize) -> Resync {
        let mut old = Primary::new();
        for operation in ours {
            old.perform(operation);
        }
        let mut primary = Primary::new();
        for operation in theirs {
            primary.perform(operation);
        }
        primary.log.clear();
        primary.describes = true;
        // The old tree lives on as the secondary's.
        let mut secondary = Secondary::at(old.path(), &[]);
        secondary.keep(old.into_directory());
        let wants = secondary.resync(primary.root());
        let mut resync = Resync {
            primary,
            secondary,
            questions: VecDeque::new(),
            part,
        };
        resync.ask(wants);
        resync
    }

    fn ask(&mut self, wants: Vec<Want>) {
        for want in wants {
            let hashes = match want {
                Want::Comparison(file) => self.hashes(file),
                _ => Vec::new(),
            };
            self.questions.push_back(Question { want, hashes });
        }
    }

    fn hashes(&self, file: FileId) -> Vec<[u8; HASH_BYTES]> {
        match self.secondary.applier.open(file).unwrap() {
            Some(opened) => hashes(opened),
            None => Vec::new(),
        }
    }

    fn log(&mut self, entry: &Logged<'_>) {
        match self
            .secondary
            .log(entry)
            .unwrap_or_else(|error| panic!("{error}: {entry:?}"))
        {
            Outcome::Wants(wants) => self.ask(wants),
            Outcome::Applied | Outcome::Skipped => {}
        }
    }

    fn perform(&mut self, operation: &Operation) {
        self.primary.perform(operation);
        for entry in std::mem::take(&mut self.primary.log) {
            self.log(&entry);
        }
    }

    /// Answers one question, chosen by `number`.
    fn answer(&mut self, number: usize) {
        if self.questions.is_empty() {
            return;
        }
        let Question { want, hashes } = self
            .questions
            .remove(number % self.questions.len())
            .unwrap();
        match want {
            Want::Listing(directory) => match self.primary.find(directory) {
                Some(path) => {
                    for part in parts(&self.primary.list(&path), self.part) {
                        self.log(&Logged::Listing(part));
                    }
                }
                None => self.log(&Logged::Gone { directory }),
            },
            Want::Content(file) | Want::Comparison(file) => self.send(file, &hashes),
        }
    }

    /// Sends the blocks that differ, the size, and the time, as the primary's ordinary shipping does.
    fn send(&mut self, file: FileId, theirs: &[[u8; HASH_BYTES]]) {
        let Some(path) = self.primary.find(file) else {
            return;
        };
        let on = File::open(&path).unwrap();
        cool(&on);
        let size = on.metadata().unwrap().len();
        for (index, hash) in hashes(File::open(&path).unwrap()).iter().enumerate() {
            if theirs.get(index) != Some(hash) {
                let start = (index * BLOCK_BYTES) as u64;
                let end = size.min(start + BLOCK_BYTES as u64);
                self.send_range(file, &on, start..end);
            }
        }
        self.log(&Logged::Record(Record::Truncate { file, size }));
        let modified = Some(attributes(&path).modified);
        let change = Change {
            modified,
            ..Change::default()
        };
        self.log(&Logged::Record(Record::SetAttributes { file, change }));
    }

    fn send_range(&mut self, file: FileId, on: &File, range: Range<u64>) {
        let mut hole = range.start;
        for data in stretches(on, &range) {
            self.punch(file, hole..data.start);
            let mut content = vec![0; usize::try_from(data.end - data.start).unwrap()];
            on.read_exact_at(&mut content, data.start).unwrap();
            self.log(&Logged::Record(Record::Data {
                file,
                offset: data.start,
                content: content.into(),
            }));
            hole = data.end;
        }
        // A hole at the end of the file takes its last block along, which a hole within that block would not.
        if hole < range.end {
            self.punch(file, hole..range.end.next_multiple_of(BLOCK_BYTES as u64));
        }
    }

    fn punch(&mut self, file: FileId, hole: Range<u64>) {
        if !hole.is_empty() {
            self.log(&Logged::Record(Record::Punch {
                file,
                offset: hole.start,
                length: hole.end - hole.start,
            }));
        }
    }

    fn finish(mut self) {
        while !self.questions.is_empty() {
            self.answer(0);
        }
        assert_eq!(self.secondary.applier.unlisted(), 0);
        self.log(&Logged::ResyncEnd);
        self.secondary.applier.settle().unwrap();
        self.secondary.assert_equal(self.primary.path());
    }
}

fn hashes(file: File) -> Vec<[u8; HASH_BYTES]> {
    cool(&file);
    BlockHashes::new(file, BLOCK_BYTES, Zeroes::Matter)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// The data within a range. All are found before one is read: reading ahead fills preallocated blocks with zeroes.
fn stretches(on: &File, range: &Range<u64>) -> Vec<Range<u64>> {
    cool(on);
    let mut found = Vec::new();
    let mut position = range.start;
    while let Ok(start) = seek(on, SeekFrom::Data(position)) {
        if start >= range.end {
            break;
        }
        position = seek(on, SeekFrom::Hole(start)).unwrap().min(range.end);
        found.push(start..position);
        if position == range.end {
            break;
        }
    }
    found
}

fn parts(listing: &Listing, entries: usize) -> Vec<Listing> {
    let chunks: Vec<_> = listing
        .entries
        .chunks(entries.max(1))
        .map(<[_]>::to_vec)
        .collect();
    let count = chunks.len().max(1);
    (0..count)
        .map(|index| Listing {
            directory: listing.directory,
            itself: if index == 0 {
                listing.itself.clone()
            } else {
                None
            },
            entries: chunks.get(index).cloned().unwrap_or_default(),
            is_last: index + 1 == count,
        })
        .collect()
}

/// A step of the interleaved test.
#[derive(Clone, Debug)]
enum Step {
    Answer(usize),
    Perform(Operation),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let operation = operations(2).prop_map(|mut operations| Step::Perform(operations.remove(0)));
    prop::collection::vec(
        prop_oneof![any::<usize>().prop_map(Step::Answer), operation],
        0..120,
    )
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn listings_make_any_tree_equal(
        ours in operations(60), theirs in operations(60), part in 1_usize..5, order in any::<usize>(),
    ) {
        let mut resync = Resync::meet(&ours, &theirs, part);
        for turn in 0..200_usize {
            resync.answer(order.wrapping_mul(turn));
        }
        resync.finish();
    }

    #[test]
    fn listings_make_any_tree_equal_while_the_log_goes_on(
        ours in operations(60), theirs in operations(60), steps in steps(), after in operations(20),
    ) {
        let mut resync = Resync::meet(&ours, &theirs, 3);
        for step in &steps {
            match step {
                Step::Answer(number) => resync.answer(*number),
                Step::Perform(operation) => resync.perform(operation),
            }
        }
        while !resync.questions.is_empty() {
            resync.answer(0);
        }
        for operation in &after {
            resync.perform(operation);
        }
        resync.finish();
    }
}

#[test]
fn equal_trees_cost_hashes_only() {
    let mut resync = Resync::meet(&[], &[], 100);
    for (tree, fill) in [
        (resync.secondary.path().to_path_buf(), b'x'),
        (resync.primary.path().to_path_buf(), b'x'),
    ] {
        std::fs::create_dir(tree.join("d")).unwrap();
        std::fs::write(tree.join("d/file"), vec![fill; 100_000]).unwrap();
    }
    resync.answer(0);
    resync.answer(0);
    let Question {
        want,
        hashes: theirs,
    } = resync.questions.pop_front().unwrap();
    let Want::Comparison(file) = want else {
        panic!("adopted, not sent: {want:?}")
    };
    let path = resync.primary.find(file).unwrap();
    assert_eq!(hashes(File::open(path).unwrap()), theirs);
    assert!(resync.questions.is_empty());
}

#[test]
fn a_file_that_lost_its_last_name_here_takes_the_place_of_another() {
    let mut resync = Resync::meet(&[], &[], 100);
    let (here, there) = (
        resync.secondary.path().to_path_buf(),
        resync.primary.path().to_path_buf(),
    );
    for tree in [&here, &there] {
        std::fs::create_dir(tree.join("d")).unwrap();
        std::fs::write(tree.join("first"), "content").unwrap();
    }
    std::fs::hard_link(there.join("first"), there.join("d/second")).unwrap();
    std::fs::write(here.join("d/second"), "something else").unwrap();
    resync.answer(0);
    // Known now, and open; its other name is not known yet.
    std::fs::write(there.join("first"), "written").unwrap();
    resync.log(&Logged::Record(Record::Data {
        file: resync.primary.id(&there.join("first")),
        offset: 0,
        content: b"written".as_slice().into(),
    }));
    std::fs::remove_file(there.join("first")).unwrap();
    let place = resync.primary.place(&there.join("first"));
    resync.log(&Logged::Record(Record::Unlink { place }));
    resync.finish();
}
