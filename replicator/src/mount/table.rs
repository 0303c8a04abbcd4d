//! The kernel's mount table, as `/proc/PID/mountinfo` shows it (proc(5)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    pub parent: u64,
    /// Major and minor number of the file system's device.
    pub device: (u32, u32),
    /// The part of the file system that is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    pub is_read_only: bool,
    /// With subtype, as in `fuse.telamon`.
    pub kind: String,
    pub origin: String,
}

/// The mounts that the calling thread sees, in the order in which they were made.
pub fn own() -> io::Result<Vec<Mount>> {
    fs::read("/proc/thread-self/mountinfo").map(|text| parse(&text))
}

/// The mounts that a process sees.
pub fn of(pid: u32) -> io::Result<Vec<Mount>> {
    fs::read(format!("/proc/{pid}/mountinfo")).map(|text| parse(&text))
}

/// The mounts at exactly this point, lowest first.
pub fn stack<'a>(mounts: &'a [Mount], point: &Path) -> Vec<&'a Mount> {
    mounts.iter().filter(|mount| mount.point == point).collect()
}

/// Lines that make no sense are left out: a newer kernel may add kinds, never change fields.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(line).collect()
}

fn line(text: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = text.split(|&byte| byte == b' ').collect();
    let separator = fields.iter().position(|&field| field == b"-")?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    Some(Mount {
        id: number(fields.first()?)?,
        parent: number(fields.get(1)?)?,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: unescape(fields.get(3)?),
        point: unescape(fields.get(4)?),
        is_read_only: fields.get(5)?.split(|&byte| byte == b',').any(|option| option == b"ro"),
        kind: String::from_utf8_lossy(fields.get(separator + 1)?).into_owned(),
        origin: unescape(fields.get(separator + 2)?).to_string_lossy().into_owned(),
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Whether `inner` mounts the very directory that it covers: the shape of the fence.
pub fn is_onto_itself(inner: &Mount, mounts: &[Mount]) -> bool {
    let Some(parent) = mounts.iter().find(|mount| mount.id == inner.parent) else { return false };
    let Ok(relative) = inner.point.strip_prefix(&parent.point) else { return false };
    let covered = if relative.as_os_str().is_empty() { parent.root.clone() } else { parent.root.join(relative) };
    parent.device == inner.device && covered.as_os_str().as_bytes() == inner.root.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
60 21 254:0 /srv/two\\040words /srv/two\\040words ro,relatime shared:1 master:2 - ext4 /dev/vda rw
61 60 0:52 / /srv/two\\040words rw,nosuid - fuse.telamon telamon:web rw,user_id=0
62 21 0:53 / /tmp rw - tmpfs tmpfs rw
garbage
";

    #[test]
    fn reads_points_with_spaces_and_optional_fields() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        let stack = stack(&mounts, Path::new("/srv/two words"));
        assert_eq!(stack.iter().map(|mount| mount.id).collect::<Vec<_>>(), [60, 61]);
        assert!(stack[0].is_read_only && !stack[1].is_read_only);
        assert_eq!((stack[1].kind.as_str(), stack[1].origin.as_str()), ("fuse.telamon", "telamon:web"));
        assert_eq!(stack[1].device, (0, 52));
    }

    #[test]
    fn knows_a_bind_mount_of_a_directory_onto_itself() {
        let mounts = parse(TABLE);
        assert!(is_onto_itself(&mounts[1], &mounts));
        assert!(!is_onto_itself(&mounts[2], &mounts));
        assert!(!is_onto_itself(&mounts[3], &mounts));
    }
}
