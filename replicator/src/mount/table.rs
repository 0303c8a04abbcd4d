//! The mount table of a mount namespace, as `/proc/PID/mountinfo` shows it (proc(5)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    pub parent: u64,
    /// `major:minor`.
    pub device: String,
    /// What of the file system is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    pub is_read_only: bool,
    pub kind: String,
    pub origin: String,
}

/// Reads the mount table of the process `pid` (`"self"` for the caller's).
pub fn read(pid: &str) -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(format!("/proc/{pid}/mountinfo"))?))
}

/// Parses mountinfo; lines that do not have its form are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let separator = fields.iter().position(|&field| field == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    Some(Mount {
        id: number(fields.first()?)?,
        parent: number(fields.get(1)?)?,
        device: text(fields.get(2)?),
        root: unescape(fields.get(3)?),
        point: unescape(fields.get(4)?),
        is_read_only: fields
            .get(5)?
            .split(|&byte| byte == b',')
            .any(|option| option == b"ro"),
        kind: text(fields.get(separator + 1)?),
        origin: text(
            unescape(fields.get(separator + 2)?)
                .as_os_str()
                .as_encoded_bytes(),
        ),
    })
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The mount that a path walk to `point` ends on, if one is mounted exactly there.
pub fn topmost<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    let here: Vec<&Mount> = mounts.iter().filter(|mount| mount.point == point).collect();
    here.iter()
        .find(|mount| !here.iter().any(|above| above.parent == mount.id))
        .copied()
}

/// Whether `mount` is a read-only bind mount of the directory that its parent shows at the same place: a fence.
pub fn is_fence(mounts: &[Mount], mount: &Mount) -> bool {
    let Some(parent) = mounts.iter().find(|below| below.id == mount.parent) else {
        return false;
    };
    let Ok(relative) = mount.point.strip_prefix(&parent.point) else {
        return false;
    };
    // Compared by components: joining an empty path would leave a trailing slash in the text, not in the path.
    mount.is_read_only
        && mount.device == parent.device
        && mount
            .root
            .components()
            .eq(parent.root.join(relative).components())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        30 22 253:0 /srv/a\\040b /srv/a\\040b ro,relatime shared:1 - ext4 /dev/vda rw\n\
        31 30 0:52 / /srv/a\\040b rw - fuse.telamon telamon:m rw,user_id=0\n\
        40 22 7:0 / /disk rw - ext4 /dev/loop0 rw\n\
        41 40 7:0 / /disk ro - ext4 /dev/loop0 rw\n\
        50 22 253:0 /etc /ro ro - ext4 /dev/vda rw\n\
        garbage\n";

    #[test]
    fn paths_lose_their_escapes() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 6);
        assert_eq!(mounts[1].point, Path::new("/srv/a b"));
        assert_eq!(unescape(b"a\\012b\\"), Path::new("a\nb\\"));
    }

    #[test]
    fn topmost_is_what_nothing_covers() {
        let mounts = parse(TABLE);
        assert_eq!(topmost(&mounts, Path::new("/srv/a b")).unwrap().id, 31);
        assert_eq!(topmost(&mounts, Path::new("/disk")).unwrap().id, 41);
        assert!(topmost(&mounts, Path::new("/srv")).is_none());
    }

    #[test]
    fn only_a_read_only_bind_onto_itself_is_a_fence() {
        let mounts = parse(TABLE);
        let fences: Vec<u64> = mounts
            .iter()
            .filter(|mount| is_fence(&mounts, mount))
            .map(|mount| mount.id)
            .collect();
        assert_eq!(fences, [30, 41]);
    }
}
