//! The first words of a session: who speaks, with which lineage, and how the session begins.

use super::field::{Malformed, Reader, put_file, put_text};
use super::limits;
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

pub(super) fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
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

pub(super) fn decode_hello(reader: &mut Reader<'_>) -> Result<Hello, Malformed> {
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

pub(super) fn encode_start(start: &Start, out: &mut Vec<u8>) {
    out.push(start.mode as u8);
    out.extend_from_slice(&start.log.to_le_bytes());
    out.extend_from_slice(&start.first.0.to_le_bytes());
    out.extend_from_slice(&start.bindings.to_le_bytes());
    out.push(u8::try_from(start.roots.len()).unwrap_or(u8::MAX));
    for root in &start.roots {
        put_file(out, *root);
    }
}

pub(super) fn decode_start(reader: &mut Reader<'_>) -> Result<Start, Malformed> {
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

pub(super) fn encode_lineage(lineage: &Lineage, out: &mut Vec<u8>) {
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

pub(super) fn decode_lineage(reader: &mut Reader<'_>) -> Result<Lineage, Malformed> {
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
