//! Why a mount could not be made or removed.

use std::io;
use std::path::PathBuf;

use super::holder::Holder;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{} is not a directory that can be served: {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{} is covered by a foreign mount ({kind} from {origin}): unmount it first", path.display())]
    Foreign {
        path: PathBuf,
        kind: String,
        origin: String,
    },
    #[error(
        "{} has the mount point {} inside: unmount it, or replicate it as a directory of its own",
        path.display(),
        inner.display()
    )]
    Nested { path: PathBuf, inner: PathBuf },
    #[error("{} is in use by {}: stop them, or give it up by force", path.display(), list(holders))]
    Busy { path: PathBuf, holders: Vec<Holder> },
    #[error("cannot {attempt} {}: {source}", path.display())]
    Failed {
        path: PathBuf,
        attempt: &'static str,
        source: io::Error,
    },
}

fn list(holders: &[Holder]) -> String {
    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        "an unknown process".to_owned()
    } else {
        names.join(", ")
    }
}
