//! Everything of a directory that must be equal on both nodes.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, seek};

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: (i64, i64),
    pub device: u64,
    pub content: Vec<u8>,
    /// Ranges of data; what lies between is holes.
    pub data: Vec<(u64, u64)>,
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same object.
    pub first_name: Vec<u8>,
}

pub type Snapshot = BTreeMap<Vec<u8>, Node>;

pub fn snapshot(root: &Path) -> Snapshot {
    rustix::fs::syncfs(File::open(root).unwrap()).unwrap();
    let mut found = Snapshot::new();
    let mut firsts = BTreeMap::new();
    let mut todo = vec![(Vec::new(), root.to_path_buf())];
    while let Some((name, path)) = todo.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let first = firsts.entry(metadata.ino()).or_insert_with(|| name.clone());
        if *first > name {
            first.clone_from(&name);
        }
        let mut node = Node {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            device: if kind.is_char_device() || kind.is_block_device() {
                metadata.rdev()
            } else {
                0
            },
            content: Vec::new(),
            data: Vec::new(),
            extended: extended(&path).into_iter().collect(),
            first_name: Vec::new(),
        };
        if kind.is_file() {
            node.data = data_ranges(&path);
            node.content = std::fs::read(&path).unwrap();
        } else if kind.is_symlink() {
            node.content = std::fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec();
        } else if kind.is_dir() {
            for entry in std::fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap();
                let below = [&*name, b"/", entry.file_name().as_bytes()].concat();
                todo.push((below, entry.path()));
            }
        }
        found.insert(name, node);
    }
    for (name, node) in &mut found {
        let path = root.join(std::ffi::OsStr::from_bytes(
            name.strip_prefix(b"/").unwrap_or(name),
        ));
        let inode = path.symlink_metadata().unwrap().ino();
        node.first_name.clone_from(&firsts[&inode]);
    }
    found
}

/// Preallocated blocks pass for data while the cache holds zeroes for them: writes out what is dirty and drops the rest.
pub fn cool(file: &File) {
    file.sync_data().unwrap();
    fadvise(file, 0, None, Advice::DontNeed).unwrap();
}

fn data_ranges(path: &Path) -> Vec<(u64, u64)> {
    let file = File::open(path).unwrap();
    cool(&file);
    let mut ranges = Vec::new();
    let mut position = 0;
    while let Ok(start) = seek(&file, SeekFrom::Data(position)) {
        let end = seek(&file, SeekFrom::Hole(start)).unwrap();
        ranges.push((start, end));
        position = end;
    }
    ranges
}

/// All extended attributes of what is at a path.
pub fn extended(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    extended_of(&node)
}

/// All extended attributes of an open object.
pub fn extended_of(object: &impl AsRawFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let path = format!("/proc/self/fd/{}", object.as_raw_fd());
    let mut names = vec![0; 4096];
    let length = rustix::fs::listxattr(&path, &mut names[..]).unwrap();
    let names = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::getxattr(&path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Says in one line each what differs; empty when nothing does.
pub fn differences(ours: &Snapshot, theirs: &Snapshot) -> String {
    let mut lines = Vec::new();
    let mut say = |name: &[u8], what: String| {
        lines.push(format!("{}: {what}", String::from_utf8_lossy(name)));
    };
    for (name, node) in ours {
        match theirs.get(name) {
            None => say(name, "only on the secondary".into()),
            Some(other) if other != node => {
                let brief = |node: &Node| Node {
                    content: format!("{} bytes", node.content.len()).into(),
                    ..node.clone()
                };
                say(
                    name,
                    format!(
                        "content equal: {}; secondary {:?}, primary {:?}",
                        node.content == other.content,
                        brief(node),
                        brief(other)
                    ),
                );
            }
            Some(_) => {}
        }
    }
    for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
        say(name, "only on the primary".into());
    }
    lines.join("\n")
}
