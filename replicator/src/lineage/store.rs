//! The lineage record on disk: one file, checksummed, replaced atomically.
//!
//! A record that cannot be believed is refused, never guessed: a wrong guess promotes stale data.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Lineage;

const FILE: &str = "lineage";
const FORMAT: &str = "telamon-lineage 1";

/// Why the record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{} is damaged ({fault}): if the peer has the data, remove the file and start this node as its secondary", path.display()
    )]
    Damaged { path: PathBuf, fault: &'static str },
    #[error("cannot {attempt} {}: {source}", path.display())]
    Failed {
        path: PathBuf,
        attempt: &'static str,
        source: io::Error,
    },
    #[error("the kernel gives no random numbers: {0}")]
    Random(io::Error),
}

/// Reads and replaces the record of one module.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Keeps the record in `directory`, which is made if it is not there.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(directory).map_err(|source| StoreError::Failed {
            path: directory.to_owned(),
            attempt: "make the state directory",
            source,
        })?;
        Ok(Store {
            directory: directory.to_owned(),
        })
    }

    /// The record, or that of a node that never held data.
    pub fn load(&self) -> Result<Lineage, StoreError> {
        let path = self.directory.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(|fault| StoreError::Damaged { path, fault }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lineage::default()),
            Err(source) => Err(StoreError::Failed {
                path,
                attempt: "read",
                source,
            }),
        }
    }

    /// Replaces the record. When it returns, the new one is on stable storage.
    pub fn save(&self, lineage: &Lineage) -> Result<(), StoreError> {
        let path = self.directory.join(FILE);
        let written = self.replace(&path, &render(lineage));
        written.map_err(|source| StoreError::Failed {
            path,
            attempt: "write",
            source,
        })
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

/// One line of format and checksum, one line of JSON.
fn render(lineage: &Lineage) -> Vec<u8> {
    let body = serde_json::json!(lineage).to_string();
    let checksum = crc32c::crc32c(body.as_bytes());
    format!("{FORMAT} {checksum:08x}\n{body}\n").into_bytes()
}

fn parse(bytes: &[u8]) -> Result<Lineage, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text")?;
    let (head, body) = text.split_once('\n').ok_or("cut short")?;
    let checksum = head
        .strip_prefix(FORMAT)
        .ok_or("not of this release's format")?;
    let checksum = u32::from_str_radix(checksum.trim(), 16).map_err(|_| "no checksum")?;
    let body = body.strip_suffix('\n').ok_or("cut short")?;
    if crc32c::crc32c(body.as_bytes()) != checksum {
        return Err("its checksum does not fit");
    }
    serde_json::from_str(body).map_err(|_| "not a lineage record")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::{Generation, Role};

    fn sample() -> Lineage {
        Lineage::default()
            .promoted(Generation(7))
            .granted(Generation(9))
            .with_role(Role::Idle)
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state")).unwrap();
        assert_eq!(store.load().unwrap(), Lineage::default());
        store.save(&sample()).unwrap();
        assert_eq!(store.load().unwrap(), sample());
    }

    #[test]
    fn every_damage_is_refused() {
        let good = render(&sample());
        assert_eq!(parse(&good), Ok(sample()));
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "cut to {length} bytes");
        }
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0x04;
            assert!(parse(&bad).is_err(), "bit flipped in byte {position}");
        }
    }

    #[test]
    fn the_refusal_names_file_and_cure() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "garbage").unwrap();
        let refusal = Store::open(directory.path())
            .unwrap()
            .load()
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("lineage is damaged") && refusal.contains("remove the file"),
            "{refusal}"
        );
    }
}
