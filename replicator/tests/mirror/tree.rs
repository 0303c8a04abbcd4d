//! What a directory holds, as a value: two equal values are equal trees.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{SeekFrom, seek};

/// Path below the root -> everything there is to know, as text that a failed comparison can show.
pub fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut links = HashMap::new();
    visit(root, Path::new(""), &mut found, &mut links);
    found
}

fn visit(
    root: &Path,
    below: &Path,
    found: &mut BTreeMap<String, String>,
    links: &mut HashMap<u64, String>,
) {
    let path = root.join(below);
    let name = below.as_os_str().as_bytes().escape_ascii().to_string();
    let metadata = path.symlink_metadata().unwrap();
    let kind = metadata.file_type();
    let mut text = format!(
        "{:o} {}:{} {}.{:09}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    if !kind.is_dir() {
        let first = links.entry(metadata.ino()).or_insert_with(|| name.clone());
        write!(text, " links {} as {first}", metadata.nlink()).unwrap();
    }
    if kind.is_symlink() {
        write!(
            text,
            " -> {}",
            path.read_link()
                .unwrap()
                .as_os_str()
                .as_bytes()
                .escape_ascii()
        )
        .unwrap();
    } else {
        write!(text, " {}", extended(&path)).unwrap();
    }
    if kind.is_char_device() || kind.is_block_device() {
        write!(text, " device {}", metadata.rdev()).unwrap();
    }
    if kind.is_file() {
        // Before reading: pages read of a preallocated range would count as data.
        let data = extents(&path);
        write!(
            text,
            " {} bytes {} data {data:?}",
            metadata.size(),
            hash(&path)
        )
        .unwrap();
    }
    found.insert(name, text);
    if kind.is_dir() {
        let mut entries: Vec<_> = path
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        entries.sort();
        for entry in entries {
            visit(root, &below.join(entry), found, links);
        }
    }
}

fn hash(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path).unwrap(), &mut hasher).unwrap();
    hasher.finalize().to_hex()[..16].to_owned()
}

fn extents(path: &Path) -> Vec<(u64, u64)> {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(file.as_fd(), SeekFrom::Data(at)) {
        at = seek(file.as_fd(), SeekFrom::Hole(start)).unwrap();
        found.push((start, at));
    }
    found
}

fn extended(path: &Path) -> String {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut pairs = Vec::new();
    for name in names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        pairs.push(format!(
            "{}={}",
            name.escape_ascii(),
            value[..length].escape_ascii()
        ));
    }
    pairs.sort();
    format!("{pairs:?}")
}

/// Fails naming the first paths that differ.
pub fn assert_equal(left: &Path, right: &Path) {
    let (ours, theirs) = (snapshot(left), snapshot(right));
    let mut paths: Vec<_> = ours.keys().chain(theirs.keys()).collect();
    paths.sort();
    paths.dedup();
    let differing: Vec<String> = paths
        .into_iter()
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .take(10)
        .map(|path| format!("{path:?}\n  {:?}\n  {:?}", ours.get(path), theirs.get(path)))
        .collect();
    assert!(
        differing.is_empty(),
        "trees differ:\n{}",
        differing.join("\n")
    );
}
