//! Why a mount could not be made or removed.

use std::io;
use std::path::PathBuf;

use super::holder::Holder;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{} cannot be mirrored: {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{} is covered by a foreign mount ({kind} from {origin}): unmount it first", path.display())]
    Foreign { path: PathBuf, kind: String, origin: String },
    #[error("{} is served by another replicator of this module: stop that one first", path.display())]
    Served { path: PathBuf },
    #[error("{} is in use by {}: stop them, or give it up by force", path.display(), list(holders))]
    Busy { path: PathBuf, holders: Vec<Holder> },
    #[error("cannot {attempt} {}: {source}", path.display())]
    Failed { path: PathBuf, attempt: &'static str, source: io::Error },
}

fn list(holders: &[Holder]) -> String {
    const SHOWN: usize = 8;
    if holders.is_empty() {
        return "the kernel (a nested mount, a loop device or swap)".to_owned();
    }
    let mut names: Vec<String> = holders.iter().take(SHOWN).map(ToString::to_string).collect();
    if holders.len() > SHOWN {
        names.push(format!("{} more", holders.len() - SHOWN));
    }
    names.join(", ")
}
