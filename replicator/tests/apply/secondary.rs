//! An applier on a directory of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use telamon_replicator::apply::{
    Applier, ApplyError, Directory, Flush, Observer, Outcome, Progress, Want,
};
use telamon_replicator::record::{FileId, Lsn, Record};
use telamon_replicator::wire::Logged;
use tempfile::TempDir;

use crate::snapshot::{differences, snapshot};

#[derive(Debug, Default)]
pub struct Heard(pub Mutex<Vec<String>>);

impl Observer for Heard {
    fn durable(&self, position: Lsn) {
        self.0
            .lock()
            .unwrap()
            .push(format!("durable {}", position.0));
    }

    fn failed(&self, error: &ApplyError) {
        self.0.lock().unwrap().push(error.to_string());
    }
}

pub struct Secondary {
    pub applier: Applier,
    pub lsn: u64,
    path: PathBuf,
    directory_to_remove: Option<TempDir>,
}

impl Secondary {
    pub fn new(exclude: &[&str]) -> Secondary {
        let directory = scratch();
        let mut secondary = Secondary::at(directory.path(), exclude);
        secondary.keep(directory);
        secondary
    }

    pub fn at(path: &Path, exclude: &[&str]) -> Secondary {
        let directory = Directory {
            root: File::open(path).unwrap().into(),
            path: path.to_path_buf(),
            exclude: exclude.iter().map(ToString::to_string).collect(),
        };
        // Few descriptors, so that they are closed and reopened all the time.
        let applier = Applier::new("n2", vec![directory], 4, Arc::<Heard>::default()).unwrap();
        Secondary {
            applier,
            lsn: 0,
            path: path.to_path_buf(),
            directory_to_remove: None,
        }
    }

    /// Removes the directory at the end.
    pub fn keep(&mut self, directory: TempDir) {
        self.directory_to_remove = Some(directory);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts live on trees that are equal: both empty but for what `pairs` names.
    pub fn bind(&mut self, pairs: &[(FileId, FileId)]) -> Result<(), ApplyError> {
        self.applier.begin_binding(Lsn(self.lsn))?;
        self.applier.bind(pairs)?;
        self.applier.finish_binding()
    }

    pub fn resync(&mut self, root: FileId) -> Vec<Want> {
        self.applier.begin_resync(Lsn(self.lsn), &[root]).unwrap()
    }

    pub fn log(&mut self, entry: &Logged<'_>) -> Result<Outcome, ApplyError> {
        let outcome = self.applier.apply(Lsn(self.lsn + 1), entry)?;
        self.lsn += 1;
        Ok(outcome)
    }

    pub fn apply(&mut self, record: Record<'_>) -> Result<Outcome, ApplyError> {
        self.log(&Logged::Record(record))
    }

    pub fn commit(&mut self) -> Progress {
        self.applier.commit(Flush::Here).unwrap()
    }

    pub fn assert_equal(&self, primary: &Path) {
        let differences = differences(&snapshot(self.path()), &snapshot(primary));
        assert!(differences.is_empty(), "the trees differ:\n{differences}");
    }
}

pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("telamon-apply-")
        .tempdir_in("/var/tmp")
        .unwrap()
}
