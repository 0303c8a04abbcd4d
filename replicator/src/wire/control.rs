//! Frames outside the log: types 0x01 to 0x19.

use super::field::{Malformed, Reader, put_file, put_text};
use super::hello::{
    Hello, Start, decode_hello, decode_lineage, decode_start, encode_hello, encode_lineage,
    encode_start,
};
use super::limits;
use super::logged::{Listing, decode_listing, encode_listing};
use crate::lineage::Lineage;
use crate::record::{FileId, Lsn};

/// Why a session is refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong cluster, module, node, number of directories.
    Stranger,
    /// The listener is not primary (now).
    NotPrimary,
    SplitBrain,
    Unrelated,
    /// The dialler's data is newer than the primary's.
    PrimaryIsBehind,
    /// The secondary's file system is full.
    Full,
    /// The secondary's file system failed.
    Failed,
    /// The secondary's tree is not what the log expects; it asks to be compared again.
    Diverged,
    /// A frame that makes no sense here.
    Protocol,
}

/// Which end of a session closes it in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Primary: nothing follows; answer when all is applied, on stable storage, and the lineage is clean.
    Ends,
    /// Secondary: so it is, up to this position.
    Ended(Lsn),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    Hello(Hello),
    Start(Start),
    /// Everything up to `applied` is applied; every `Sync` at or below `durable` is on stable storage.
    Ack {
        applied: Lsn,
        durable: Lsn,
    },
    Keepalive,
    /// The sender's record changed.
    Lineage(Lineage),
    Error {
        code: Refusal,
        message: String,
    },
    Close(Closing),
    /// Pairs of (identity on the primary, identity on the secondary).
    Bind(Vec<(FileId, FileId)>),
    WantListing {
        directory: FileId,
    },
    /// Send all content.
    WantFile {
        file: FileId,
    },
    /// Hashes of the sender's blocks from `first_block` on. From the secondary, in a resynchronisation: the primary sends the blocks
    /// that differ. From the primary, in a survey: the answer.
    Hashes {
        file: FileId,
        first_block: u64,
        hashes: Vec<[u8; 32]>,
        is_last: bool,
    },
    /// The secondary knows every name and has sent every request.
    CaughtUp,
    /// Requests of this session that the primary has dealt with.
    Served {
        requests: u64,
    },
    /// Survey, primary: a part of one directory's names.
    Names(Listing),
    /// Survey, secondary: hashes from this block on.
    WantHashes {
        file: FileId,
        first_block: u64,
    },
    /// Survey, primary: what was asked for does not exist any more.
    Vanished {
        file: FileId,
    },
    /// Survey, secondary: up to where must the log be applied, so that everything answered before is in it?
    WantPosition,
    Position {
        log: u64,
        last: Lsn,
    },
}

impl Control {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Control::Hello(_) => 0x01,
            Control::Start(_) => 0x02,
            Control::Ack { .. } => 0x03,
            Control::Keepalive => 0x04,
            Control::Lineage(_) => 0x05,
            Control::Error { .. } => 0x06,
            Control::Close(Closing::Ends) => 0x07,
            Control::Close(Closing::Ended(_)) => 0x08,
            Control::Bind(_) => 0x09,
            Control::WantListing { .. } => 0x10,
            Control::WantFile { .. } => 0x11,
            Control::Hashes { .. } => 0x12,
            Control::CaughtUp => 0x13,
            Control::Served { .. } => 0x14,
            Control::Names(_) => 0x15,
            Control::WantHashes { .. } => 0x16,
            Control::Vanished { .. } => 0x17,
            Control::WantPosition => 0x18,
            Control::Position { .. } => 0x19,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Control::Hello(hello) => encode_hello(hello, out),
            Control::Start(start) => encode_start(start, out),
            Control::Ack { applied, durable } => {
                out.extend_from_slice(&applied.0.to_le_bytes());
                out.extend_from_slice(&durable.0.to_le_bytes());
            }
            Control::Keepalive
            | Control::CaughtUp
            | Control::Close(Closing::Ends)
            | Control::WantPosition => {}
            Control::Lineage(lineage) => encode_lineage(lineage, out),
            Control::Error { code, message } => {
                out.push(*code as u8);
                put_text(out, bounded(message));
            }
            Control::Close(Closing::Ended(applied)) => {
                out.extend_from_slice(&applied.0.to_le_bytes());
            }
            Control::Bind(pairs) => {
                out.extend_from_slice(
                    &u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes(),
                );
                for (theirs, ours) in pairs {
                    put_file(out, *theirs);
                    put_file(out, *ours);
                }
            }
            Control::WantListing { directory: file }
            | Control::WantFile { file }
            | Control::Vanished { file } => {
                put_file(out, *file);
            }
            Control::Hashes {
                file,
                first_block,
                hashes,
                is_last,
            } => {
                put_file(out, *file);
                out.extend_from_slice(&first_block.to_le_bytes());
                out.push(u8::from(*is_last));
                out.extend_from_slice(
                    &u32::try_from(hashes.len())
                        .unwrap_or(u32::MAX)
                        .to_le_bytes(),
                );
                out.extend(hashes.iter().flatten());
            }
            Control::Served { requests } => out.extend_from_slice(&requests.to_le_bytes()),
            Control::Names(listing) => encode_listing(listing, out),
            Control::WantHashes { file, first_block } => {
                put_file(out, *file);
                out.extend_from_slice(&first_block.to_le_bytes());
            }
            Control::Position { log, last } => {
                out.extend_from_slice(&log.to_le_bytes());
                out.extend_from_slice(&last.0.to_le_bytes());
            }
        }
    }

    pub(super) fn decode(kind: u8, reader: &mut Reader<'_>) -> Result<Control, Malformed> {
        Ok(match kind {
            0x01 => Control::Hello(decode_hello(reader)?),
            0x02 => Control::Start(decode_start(reader)?),
            0x03 => Control::Ack {
                applied: Lsn(reader.u64()?),
                durable: Lsn(reader.u64()?),
            },
            0x04 => Control::Keepalive,
            0x05 => Control::Lineage(decode_lineage(reader)?),
            0x06 => Control::Error {
                code: decode_refusal(reader.u8()?)?,
                message: reader.text(limits::MESSAGE_BYTES, "message")?,
            },
            0x07 => Control::Close(Closing::Ends),
            0x08 => Control::Close(Closing::Ended(Lsn(reader.u64()?))),
            0x09 => Control::Bind(decode_pairs(reader)?),
            0x10 => Control::WantListing {
                directory: reader.file()?,
            },
            0x11 => Control::WantFile {
                file: reader.file()?,
            },
            0x12 => decode_hashes(reader)?,
            0x13 => Control::CaughtUp,
            0x14 => Control::Served {
                requests: reader.u64()?,
            },
            0x15 => Control::Names(decode_listing(reader)?),
            0x16 => Control::WantHashes {
                file: reader.file()?,
                first_block: reader.u64()?,
            },
            0x17 => Control::Vanished {
                file: reader.file()?,
            },
            0x18 => Control::WantPosition,
            0x19 => Control::Position {
                log: reader.u64()?,
                last: Lsn(reader.u64()?),
            },
            _ => return Err(Malformed::Value("type")),
        })
    }
}

/// The longest beginning of `message` within the limit that splits no character.
fn bounded(message: &str) -> &str {
    let limit = limits::MESSAGE_BYTES.min(message.len());
    let end = (0..=limit)
        .rev()
        .find(|&index| message.is_char_boundary(index))
        .unwrap_or(0);
    &message[..end]
}

fn decode_refusal(value: u8) -> Result<Refusal, Malformed> {
    Ok(match value {
        0 => Refusal::Stranger,
        1 => Refusal::NotPrimary,
        2 => Refusal::SplitBrain,
        3 => Refusal::Unrelated,
        4 => Refusal::PrimaryIsBehind,
        5 => Refusal::Full,
        6 => Refusal::Failed,
        7 => Refusal::Diverged,
        8 => Refusal::Protocol,
        _ => return Err(Malformed::Value("code")),
    })
}

fn decode_pairs(reader: &mut Reader<'_>) -> Result<Vec<(FileId, FileId)>, Malformed> {
    let count = reader.u32()? as usize;
    if count > limits::BINDINGS {
        return Err(Malformed::Limit("bindings"));
    }
    (0..count)
        .map(|_| Ok((reader.file()?, reader.file()?)))
        .collect()
}

fn decode_hashes(reader: &mut Reader<'_>) -> Result<Control, Malformed> {
    let file = reader.file()?;
    let first_block = reader.u64()?;
    let is_last = reader.boolean("is_last")?;
    let count = reader.u32()? as usize;
    if count > limits::HASHES {
        return Err(Malformed::Limit("hashes"));
    }
    let hashes = (0..count)
        .map(|_| reader.array())
        .collect::<Result<_, _>>()?;
    Ok(Control::Hashes {
        file,
        first_block,
        hashes,
        is_last,
    })
}
