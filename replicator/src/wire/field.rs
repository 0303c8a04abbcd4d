//! The fields that frames are made of: little-endian integers, counted bytes, and the values of `record.rs`.

use std::borrow::Cow;

use super::limits;
use crate::record::{Attributes, Change, Extended, FileId, Kind, Place, Time};

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it ends inside a field")]
    Short,
    #[error("{0} bytes follow its last field")]
    Long(usize),
    #[error("field {0} has a value that does not exist")]
    Value(&'static str),
    #[error("field {0} is longer than allowed")]
    Limit(&'static str),
}

/// Reads fields from a payload.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(payload: &'a [u8]) -> Self {
        Reader { rest: payload }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn end(&self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(Malformed::Long(extra)),
        }
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn boolean(&mut self, field: &'static str) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Value(field)),
        }
    }

    /// A range of bytes of a file, `offset + length` below 2^63 as the kernel wants it.
    pub fn range(&mut self) -> Result<(u64, u64), Malformed> {
        let (offset, length) = (self.u64()?, self.u64()?);
        match offset.checked_add(length) {
            Some(end) if i64::try_from(end).is_ok() => Ok((offset, length)),
            _ => Err(Malformed::Value("range")),
        }
    }

    pub fn size(&mut self) -> Result<u64, Malformed> {
        let size = self.u64()?;
        if i64::try_from(size).is_ok() {
            Ok(size)
        } else {
            Err(Malformed::Value("size"))
        }
    }

    /// Bytes counted by a `u32`.
    pub fn long(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        if length > limit {
            return Err(Malformed::Limit(field));
        }
        self.bytes(length)
    }

    /// Text counted by a `u16`.
    pub fn text(&mut self, limit: usize, field: &'static str) -> Result<String, Malformed> {
        let length = usize::from(self.u16()?);
        if length > limit {
            return Err(Malformed::Limit(field));
        }
        let bytes = self.bytes(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Value(field))?;
        Ok(text.to_owned())
    }

    pub fn time(&mut self) -> Result<Time, Malformed> {
        let seconds = i64::from_le_bytes(self.array()?);
        let nanoseconds = self.u32()?;
        if nanoseconds >= 1_000_000_000 {
            return Err(Malformed::Value("nanoseconds"));
        }
        Ok(Time {
            seconds,
            nanoseconds,
        })
    }

    pub fn file(&mut self) -> Result<FileId, Malformed> {
        Ok(FileId {
            tree: self.u16()?,
            inode: self.u64()?,
            generation: self.u32()?,
        })
    }

    /// A name that can stand in a directory: what would leave the directory is refused here, once.
    pub fn name(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let name = self.name_or_empty()?;
        if name.is_empty() {
            Err(Malformed::Value("name"))
        } else {
            Ok(name)
        }
    }

    pub fn name_or_empty(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let length = usize::from(self.u8()?);
        let name = self.bytes(length)?;
        if name == b"." || name == b".." || name.iter().any(|&byte| byte == b'/' || byte == 0) {
            return Err(Malformed::Value("name"));
        }
        Ok(Cow::Borrowed(name))
    }

    pub fn place(&mut self) -> Result<Place<'a>, Malformed> {
        Ok(Place {
            parent: self.file()?,
            name: self.name()?,
            parent_modified: self.time()?,
        })
    }

    pub fn mode(&mut self) -> Result<u32, Malformed> {
        let mode = self.u32()?;
        if mode & !0o7777 == 0 {
            Ok(mode)
        } else {
            Err(Malformed::Value("mode"))
        }
    }

    pub fn attributes(&mut self) -> Result<Attributes, Malformed> {
        Ok(Attributes {
            mode: self.mode()?,
            uid: self.u32()?,
            gid: self.u32()?,
            accessed: self.time()?,
            modified: self.time()?,
        })
    }

    pub fn change(&mut self) -> Result<Change, Malformed> {
        let present = self.u8()?;
        if present & !0x1f != 0 {
            return Err(Malformed::Value("change"));
        }
        let mut change = Change::default();
        if present & 0x01 != 0 {
            change.mode = Some(self.mode()?);
        }
        if present & 0x02 != 0 {
            change.uid = Some(self.u32()?);
        }
        if present & 0x04 != 0 {
            change.gid = Some(self.u32()?);
        }
        if present & 0x08 != 0 {
            change.accessed = Some(self.time()?);
        }
        if present & 0x10 != 0 {
            change.modified = Some(self.time()?);
        }
        Ok(change)
    }

    pub fn kind(&mut self) -> Result<Kind<'a>, Malformed> {
        match self.u8()? {
            0 => Ok(Kind::File),
            1 => Ok(Kind::Directory),
            2 => {
                let target = self.long(limits::TARGET_BYTES, "target")?;
                if target.is_empty() || target.contains(&0) {
                    return Err(Malformed::Value("target"));
                }
                Ok(Kind::Symlink(Cow::Borrowed(target)))
            }
            3 => {
                let format = self.u32()?;
                let device = self.u64()?;
                match format {
                    libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFBLK | libc::S_IFCHR => {
                        Ok(Kind::Special { format, device })
                    }
                    _ => Err(Malformed::Value("format")),
                }
            }
            _ => Err(Malformed::Value("kind")),
        }
    }

    pub fn extended_name(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let length = usize::from(self.u8()?);
        let name = self.bytes(length)?;
        if name.is_empty() || name.contains(&0) {
            return Err(Malformed::Value("extended name"));
        }
        Ok(Cow::Borrowed(name))
    }

    pub fn extended_value(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        Ok(Cow::Borrowed(
            self.long(limits::EXTENDED_BYTES, "extended value")?,
        ))
    }

    pub fn extended(&mut self) -> Result<Extended<'a>, Malformed> {
        /// Count, one byte of name, empty value.
        const LEAST_BYTES: usize = 6;
        let count = usize::from(self.u16()?);
        let mut extended = Vec::with_capacity(count.min(self.remaining() / LEAST_BYTES));
        for _ in 0..count {
            extended.push((self.extended_name()?, self.extended_value()?));
        }
        Ok(extended)
    }
}

pub(super) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

pub(super) fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    debug_assert!(name.len() <= limits::NAME_BYTES);
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
}

pub(super) fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&time.seconds.to_le_bytes());
    out.extend_from_slice(&time.nanoseconds.to_le_bytes());
}

pub(super) fn put_file(out: &mut Vec<u8>, file: FileId) {
    out.extend_from_slice(&file.tree.to_le_bytes());
    out.extend_from_slice(&file.inode.to_le_bytes());
    out.extend_from_slice(&file.generation.to_le_bytes());
}

pub(super) fn put_place(out: &mut Vec<u8>, place: &Place<'_>) {
    put_file(out, place.parent);
    put_name(out, &place.name);
    put_time(out, place.parent_modified);
}

pub(super) fn put_attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    for value in [attributes.mode, attributes.uid, attributes.gid] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    put_time(out, attributes.accessed);
    put_time(out, attributes.modified);
}

pub(super) fn put_change(out: &mut Vec<u8>, change: &Change) {
    let present = [
        change.mode.is_some(),
        change.uid.is_some(),
        change.gid.is_some(),
        change.accessed.is_some(),
        change.modified.is_some(),
    ];
    out.push(
        present
            .iter()
            .enumerate()
            .map(|(bit, &set)| u8::from(set) << bit)
            .sum(),
    );
    for value in [change.mode, change.uid, change.gid].into_iter().flatten() {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for time in [change.accessed, change.modified].into_iter().flatten() {
        put_time(out, time);
    }
}

pub(super) fn put_kind(out: &mut Vec<u8>, kind: &Kind<'_>) {
    match kind {
        Kind::File => out.push(0),
        Kind::Directory => out.push(1),
        Kind::Symlink(target) => {
            out.push(2);
            put_long(out, target);
        }
        Kind::Special { format, device } => {
            out.push(3);
            out.extend_from_slice(&format.to_le_bytes());
            out.extend_from_slice(&device.to_le_bytes());
        }
    }
}

pub(super) fn put_extended<N: AsRef<[u8]>, V: AsRef<[u8]>>(out: &mut Vec<u8>, extended: &[(N, V)]) {
    let count = u16::try_from(extended.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for (name, value) in &extended[..usize::from(count)] {
        put_name(out, name.as_ref());
        put_long(out, value.as_ref());
    }
}
