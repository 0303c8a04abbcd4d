//! Frames outside the log: types 0x01 to 0x19.

use super::field::{Malformed, Reader, put_file, put_text};
use super::limits;
use super::logged::{Listing, decode_listing, encode_listing};
use crate::lineage::{DataState, Generation, Lineage, Role};
use crate::record::{FileId, Lsn};

/// What a secondary wants of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To follow.
    Follow,
    /// To follow, and the operator allowed it to lose its own data whatever the lineages say.
    Discard,
    /// To look at names and hashes only; nothing is changed by it.
    Survey,
}

/// Who speaks, and what it has. Both sides send it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub cluster: String,
    pub module: String,
    pub node: String,
    pub role: Role,
    /// Number of replicated directories.
    pub trees: u16,
    /// Primary: acknowledgement wanted for commits is durable, not applied.
    pub wants_durable: bool,
    /// Secondary; a primary says `Follow`.
    pub intent: Intent,
    /// Primary: identity of its log. Secondary: of the log that it follows, 0 if none.
    pub log: u64,
    /// Secondary: applied position in that log.
    pub applied: Lsn,
    pub lineage: Lineage,
}

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMode {
    /// The same log goes on behind the secondary's applied position.
    Resume,
    /// Equal trees: identities follow in `Bind` frames, then the log from its first position.
    Bind,
    /// Compare the trees.
    Resync,
    /// No log: names and hashes on request.
    Survey,
}

/// The primary's answer to a hello it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub mode: StartMode,
    pub log: u64,
    /// Position of the first entry that follows.
    pub first: Lsn,
    /// Root of every directory, in configuration order.
    pub roots: Vec<FileId>,
    /// Identities that `Bind` frames will carry.
    pub bindings: u64,
}

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

fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
    for text in [&hello.cluster, &hello.module, &hello.node] {
        put_text(out, text);
    }
    out.push(hello.role as u8);
    out.extend_from_slice(&hello.trees.to_le_bytes());
    out.push(u8::from(hello.wants_durable));
    out.push(hello.intent as u8);
    out.extend_from_slice(&hello.log.to_le_bytes());
    out.extend_from_slice(&hello.applied.0.to_le_bytes());
    encode_lineage(&hello.lineage, out);
}

fn decode_hello(reader: &mut Reader<'_>) -> Result<Hello, Malformed> {
    Ok(Hello {
        cluster: reader.text(limits::IDENTIFIER_BYTES, "cluster")?,
        module: reader.text(limits::IDENTIFIER_BYTES, "module")?,
        node: reader.text(limits::IDENTIFIER_BYTES, "node")?,
        role: decode_role(reader.u8()?)?,
        trees: reader.u16()?,
        wants_durable: reader.boolean("wants_durable")?,
        intent: decode_intent(reader.u8()?)?,
        log: reader.u64()?,
        applied: Lsn(reader.u64()?),
        lineage: decode_lineage(reader)?,
    })
}

fn encode_start(start: &Start, out: &mut Vec<u8>) {
    out.push(start.mode as u8);
    out.extend_from_slice(&start.log.to_le_bytes());
    out.extend_from_slice(&start.first.0.to_le_bytes());
    out.extend_from_slice(&start.bindings.to_le_bytes());
    out.push(u8::try_from(start.roots.len()).unwrap_or(u8::MAX));
    for root in &start.roots {
        put_file(out, *root);
    }
}

fn decode_start(reader: &mut Reader<'_>) -> Result<Start, Malformed> {
    let mode = match reader.u8()? {
        0 => StartMode::Resume,
        1 => StartMode::Bind,
        2 => StartMode::Resync,
        3 => StartMode::Survey,
        _ => return Err(Malformed::Value("mode")),
    };
    let log = reader.u64()?;
    let first = Lsn(reader.u64()?);
    let bindings = reader.u64()?;
    let count = usize::from(reader.u8()?);
    if count > limits::ROOTS {
        return Err(Malformed::Limit("roots"));
    }
    let roots = (0..count)
        .map(|_| reader.file())
        .collect::<Result<_, _>>()?;
    Ok(Start {
        mode,
        log,
        first,
        roots,
        bindings,
    })
}

fn encode_lineage(lineage: &Lineage, out: &mut Vec<u8>) {
    out.extend_from_slice(&lineage.generation.0.to_le_bytes());
    out.extend_from_slice(&lineage.peer_generation.0.to_le_bytes());
    out.push(lineage.data_state as u8);
    out.push(u8::from(lineage.is_clean));
    out.push(lineage.role_at_shutdown as u8);
    let history = &lineage.history[..lineage.history.len().min(limits::HISTORY)];
    out.push(u8::try_from(history.len()).unwrap_or(u8::MAX));
    for generation in history {
        out.extend_from_slice(&generation.0.to_le_bytes());
    }
}

fn decode_lineage(reader: &mut Reader<'_>) -> Result<Lineage, Malformed> {
    let generation = Generation(reader.u64()?);
    let peer_generation = Generation(reader.u64()?);
    let data_state = match reader.u8()? {
        0 => DataState::UpToDate,
        1 => DataState::Outdated,
        2 => DataState::Inconsistent,
        _ => return Err(Malformed::Value("data_state")),
    };
    let is_clean = reader.boolean("clean")?;
    let role_at_shutdown = decode_role(reader.u8()?)?;
    let count = usize::from(reader.u8()?);
    if count > limits::HISTORY {
        return Err(Malformed::Limit("history"));
    }
    let history = (0..count)
        .map(|_| reader.u64().map(Generation))
        .collect::<Result<_, _>>()?;
    Ok(Lineage {
        generation,
        peer_generation,
        history,
        data_state,
        is_clean,
        role_at_shutdown,
    })
}

fn decode_role(value: u8) -> Result<Role, Malformed> {
    match value {
        0 => Ok(Role::Idle),
        1 => Ok(Role::Secondary),
        2 => Ok(Role::Primary),
        _ => Err(Malformed::Value("role")),
    }
}

fn decode_intent(value: u8) -> Result<Intent, Malformed> {
    match value {
        0 => Ok(Intent::Follow),
        1 => Ok(Intent::Discard),
        2 => Ok(Intent::Survey),
        _ => Err(Malformed::Value("intent")),
    }
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
