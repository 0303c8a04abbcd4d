//! What the configured globs say of a path: excluded from replication, or used through shared mappings.
//!
//! A path is relative to its directory. `*` and `?` stop at a slash, `**` does not. An excluded directory excludes everything
//! below it. An object keeps its class for life: what would change it (a rename or a link across the boundary) is refused with
//! EXDEV, and programs then copy.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Works locally, is never journalled.
    pub is_excluded: bool,
    /// Its shared mappings commit with msync, so it is served without passthrough.
    pub is_mapped: bool,
}

/// The globs of one directory.
#[derive(Debug)]
pub struct Globs {
    exclude: GlobSet,
    mapped: GlobSet,
    /// The components of each exclude glob that depends on its position.
    positions: Vec<Vec<GlobMatcher>>,
    is_empty: bool,
}

impl Globs {
    pub fn new(exclude: &[String], mapped: &[String]) -> Result<Globs, globset::Error> {
        let anchored = exclude.iter().filter(|glob| !glob.starts_with("**/"));
        Ok(Globs {
            exclude: set(exclude)?,
            mapped: set(mapped)?,
            positions: anchored
                .map(|glob| components(glob))
                .collect::<Result<_, _>>()?,
            is_empty: exclude.is_empty() && mapped.is_empty(),
        })
    }

    /// Whether no object needs classifying.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The class of an object whose parent is not excluded.
    #[must_use]
    pub fn classify(&self, path: &[u8]) -> Class {
        let path = Path::new(OsStr::from_bytes(path));
        Class {
            is_excluded: self.exclude.is_match(path),
            is_mapped: self.mapped.is_match(path),
        }
    }

    /// Whether a glob speaks of paths below this directory by their position, so that moving it could move the boundary.
    #[must_use]
    pub fn reaches_below(&self, directory: &[u8]) -> bool {
        let path: Vec<&Path> = directory
            .split(|&byte| byte == b'/')
            .map(|part| Path::new(OsStr::from_bytes(part)))
            .collect();
        self.positions.iter().any(|glob| {
            let mut parts = glob.iter();
            for component in &path {
                match parts.next() {
                    Some(part) if part.glob().glob() == "**" => return true,
                    Some(part) if part.is_match(component) => {}
                    _ => return false,
                }
            }
            parts.next().is_some()
        })
    }
}

fn set(globs: &[String]) -> Result<GlobSet, globset::Error> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(GlobBuilder::new(glob).literal_separator(true).build()?);
    }
    builder.build()
}

fn components(glob: &str) -> Result<Vec<GlobMatcher>, globset::Error> {
    glob.split('/')
        .map(|part| {
            Ok(GlobBuilder::new(part)
                .literal_separator(true)
                .build()?
                .compile_matcher())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(exclude: &[&str]) -> Globs {
        let exclude: Vec<String> = exclude.iter().map(ToString::to_string).collect();
        Globs::new(&exclude, &["*.lmdb".to_owned()]).unwrap()
    }

    #[test]
    fn globs_are_relative_and_stop_at_slashes() {
        let globs = globs(&["pg_stat_tmp/**", "postmaster.pid", "**/*.tmp"]);
        let excluded = |path: &str| globs.classify(path.as_bytes()).is_excluded;
        assert!(excluded("postmaster.pid") && !excluded("sub/postmaster.pid"));
        assert!(excluded("pg_stat_tmp/a/b") && !excluded("pg_stat_tmp"));
        assert!(excluded("x.tmp") && excluded("a/b/x.tmp"));
        assert!(
            globs.classify(b"data.lmdb").is_mapped && !globs.classify(b"a/data.lmdb").is_mapped
        );
    }

    #[test]
    fn names_need_not_be_text() {
        assert!(globs(&["*.tmp"]).classify(b"\xff\xfe.tmp").is_excluded);
    }

    #[test]
    fn a_directory_that_holds_a_boundary_by_position_is_known() {
        let globs = globs(&["base/*/tmp/**", "**/cache"]);
        for (path, reaches) in [
            ("base", true),
            ("base/1", true),
            ("base/1/tmp", true),
            ("other", false),
            ("base/1/x", false),
        ] {
            assert_eq!(globs.reaches_below(path.as_bytes()), reaches, "{path}");
        }
    }
}
