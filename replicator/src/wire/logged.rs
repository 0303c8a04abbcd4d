//! What stands in the log: records, and the listings of a resynchronisation (types 0x60 to 0x63).

use super::field::{Malformed, Reader, put_attributes, put_extended, put_file, put_kind, put_name};
use super::record;
use crate::journal::Entry;
use crate::record::{FileId, Kind, Record};

/// A part of one directory's listing. The parts of a listing follow each other; the first carries the directory itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    pub directory: FileId,
    /// The directory's own attributes, in the first part.
    pub itself: Option<Entry>,
    pub entries: Vec<Entry>,
    /// Set in the last part: the listing is complete.
    pub is_last: bool,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Logged<'a> {
    Record(Record<'a>),
    Listing(Listing),
    /// The answer to a wanted listing of a directory that does not exist any more.
    Gone {
        directory: FileId,
    },
    /// An object that the next record moves or links, for a peer that may not know it.
    Describe(Entry),
    /// Everything the peer asked for stands before this entry.
    ResyncEnd,
}

impl<'a> Logged<'a> {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Logged::Record(content) => record::kind(content),
            Logged::Listing(_) => 0x60,
            Logged::Gone { .. } => 0x61,
            Logged::Describe(_) => 0x62,
            Logged::ResyncEnd => 0x63,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Logged::Record(content) => record::encode(content, out),
            Logged::Listing(listing) => encode_listing(listing, out),
            Logged::Gone { directory } => put_file(out, *directory),
            Logged::Describe(entry) => put_entry(out, entry),
            Logged::ResyncEnd => {}
        }
    }

    pub(super) fn decode(kind: u8, reader: &mut Reader<'a>) -> Result<Logged<'a>, Malformed> {
        Ok(match kind {
            0x60 => Logged::Listing(decode_listing(reader)?),
            0x61 => Logged::Gone {
                directory: reader.file()?,
            },
            0x62 => Logged::Describe(decode_entry(reader)?),
            0x63 => Logged::ResyncEnd,
            _ => Logged::Record(record::decode(kind, reader)?),
        })
    }
}

/// Bytes that `entry` takes in a listing.
#[must_use]
pub fn entry_bytes(entry: &Entry) -> usize {
    let target = if let Kind::Symlink(target) = &entry.kind {
        target.len()
    } else {
        0
    };
    let extended: usize = entry
        .extended
        .iter()
        .map(|(name, value)| 5 + name.len() + value.len())
        .sum();
    ENTRY_LEAST_BYTES + 12 + entry.name.len() + target + extended
}

/// An entry with an empty name, of a regular file without extended attributes.
const ENTRY_LEAST_BYTES: usize = 1 + 14 + 1 + 36 + 8 + 4 + 2;

pub(super) fn encode_listing(listing: &Listing, out: &mut Vec<u8>) {
    put_file(out, listing.directory);
    out.push(u8::from(listing.itself.is_some()));
    if let Some(itself) = &listing.itself {
        put_entry(out, itself);
    }
    let count = u32::try_from(listing.entries.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for entry in &listing.entries {
        put_entry(out, entry);
    }
    out.push(u8::from(listing.is_last));
}

pub(super) fn decode_listing(reader: &mut Reader<'_>) -> Result<Listing, Malformed> {
    let directory = reader.file()?;
    let itself = reader
        .boolean("itself")?
        .then(|| decode_entry(reader))
        .transpose()?;
    let count = reader.u32()? as usize;
    let mut entries = Vec::with_capacity(count.min(reader.remaining() / ENTRY_LEAST_BYTES));
    for _ in 0..count {
        let entry = decode_entry(reader)?;
        if entry.name.is_empty() {
            return Err(Malformed::Value("name"));
        }
        entries.push(entry);
    }
    Ok(Listing {
        directory,
        itself,
        entries,
        is_last: reader.boolean("is_last")?,
    })
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_name(out, &entry.name);
    put_file(out, entry.file);
    put_kind(out, &entry.kind);
    put_attributes(out, &entry.attributes);
    out.extend_from_slice(&entry.size.to_le_bytes());
    out.extend_from_slice(&entry.links.to_le_bytes());
    put_extended(out, &entry.extended);
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<Entry, Malformed> {
    Ok(Entry {
        name: reader.name_or_empty()?.into_owned(),
        file: reader.file()?,
        kind: match reader.kind()? {
            Kind::File => Kind::File,
            Kind::Directory => Kind::Directory,
            Kind::Symlink(target) => Kind::Symlink(target.into_owned().into()),
            Kind::Special { format, device } => Kind::Special { format, device },
        },
        attributes: reader.attributes()?,
        size: reader.size()?,
        links: reader.u32()?,
        extended: reader
            .extended()?
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
    })
}
