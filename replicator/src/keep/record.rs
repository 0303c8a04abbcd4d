//! The record beside a dated directory, and the newest of them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lineage::Lineage;

/// What was kept, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub directory: PathBuf,
    /// Objects of every kind but directories.
    pub files: u64,
    /// Content, in bytes.
    pub bytes: u64,
}

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub module: String,
    pub node: String,
    pub peer: String,
    pub files: u64,
    pub bytes: u64,
    /// The lineage whose changes were given up, and the one that replaced them.
    pub own: Lineage,
    pub theirs: Lineage,
}

const SUFFIX: &str = ".json";

impl Record {
    /// Writes the record of the directory `name` in `place`, durably.
    pub fn write(&self, place: &Path, name: &str) -> io::Result<()> {
        let mut file = File::create(place.join(format!("{name}{SUFFIX}")))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()
    }
}

/// The newest keeping that is complete, if there is one that can be read.
#[must_use]
pub fn latest(place: &Path) -> Option<Kept> {
    let names = fs::read_dir(place).ok()?;
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names.iter().rev().find_map(|name| {
        let directory = place.join(name.strip_suffix(SUFFIX)?);
        let record: Record = serde_json::from_slice(&fs::read(place.join(name)).ok()?).ok()?;
        directory.is_dir().then_some(Kept {
            directory,
            files: record.files,
            bytes: record.bytes,
        })
    })
}
