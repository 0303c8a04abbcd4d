//! Which names of a directory are this node's own business.
//!
//! The globs mean what they mean to the served file system: relative to the directory, `*` and `?` stop at a slash, `**` does not,
//! and what lies below an excluded directory is excluded.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

#[derive(Debug)]
pub(super) struct Exclude(GlobSet);

impl Exclude {
    pub fn new(globs: &[String]) -> Result<Exclude, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for glob in globs {
            builder.add(GlobBuilder::new(glob).literal_separator(true).build()?);
        }
        Ok(Exclude(builder.build()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the path is excluded by itself, given that its parent is not.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.is_match(Path::new(OsStr::from_bytes(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stop_at_slashes_and_take_any_bytes() {
        let globs = ["pg_stat_tmp/**", "postmaster.pid", "**/*.tmp"].map(str::to_owned);
        let exclude = Exclude::new(&globs).unwrap();
        for (path, is_excluded) in [
            (&b"postmaster.pid"[..], true),
            (b"sub/postmaster.pid", false),
            (b"pg_stat_tmp", false),
            (b"pg_stat_tmp/a", true),
            (b"a/\xff.tmp", true),
        ] {
            assert_eq!(exclude.matches(path), is_excluded, "{path:?}");
        }
    }
}
