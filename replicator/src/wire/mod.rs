//! Frames of the link between two replicators, as bytes and as values (WIRE.md is the specification).
//!
//! Invariant: [`decode`] accepts exactly what [`encode`] makes; anything else is an error, never a panic, and never an
//! allocation beyond the limits of [`limits`]. The codec knows nothing of sockets, order or meaning.

mod control;
mod field;
mod header;
mod hello;
pub mod limits;
mod logged;
mod parts;
mod record;

use crate::record::Lsn;

pub use control::{Closing, Control, Refusal};
pub use field::Malformed;
pub use header::{HEADER_BYTES, Header, PROTOCOL};
pub use hello::{Hello, Intent, Start, StartMode};
pub use logged::{Listing, Logged, entry_bytes};

/// Why bytes from the peer are not a frame. The session ends; nothing of the frame takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error(
        "frame of protocol version {0}, this node speaks {PROTOCOL}: run the same release on both nodes"
    )]
    Version(u8),
    #[error("frame of unknown type {0:#04x}")]
    Type(u8),
    #[error("frame of {length} bytes, at most {limit} are allowed for type {kind:#04x}")]
    Length { kind: u8, length: u32, limit: usize },
    #[error("frame with reserved bits set")]
    Reserved,
    #[error("frame of type {0:#04x} fails its checksum")]
    Checksum(u8),
    #[error("frame of type {kind:#04x} is malformed: {fault}")]
    Malformed { kind: u8, fault: Malformed },
}

/// One decoded frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame<'a> {
    /// Outside the log: handshake, acknowledgements, requests.
    Control(Control),
    /// An entry of the log, with its position.
    Logged(Lsn, Logged<'a>),
}

/// Appends `control` as one frame to `out`.
pub fn encode_control(control: &Control, out: &mut Vec<u8>) {
    header::frame(out, control.kind(), Lsn(0), |out| control.encode(out));
}

/// Appends an entry of the log as one frame to `out`.
pub fn encode_logged(lsn: Lsn, logged: &Logged<'_>, out: &mut Vec<u8>) {
    header::frame(out, logged.kind(), lsn, |out| logged.encode(out));
}

/// Appends one record as a frame to `out`; what [`encode_logged`] does for [`Logged::Record`], without the copy.
pub fn encode_record(lsn: Lsn, content: &crate::record::Record<'_>, out: &mut Vec<u8>) {
    header::frame(out, record::kind(content), lsn, |out| {
        record::encode(content, out);
    });
}

/// Decodes the payload that belongs to `header`, after verifying its checksum.
pub fn decode<'a>(header: &Header, payload: &'a [u8]) -> Result<Frame<'a>, WireError> {
    header.verify(payload)?;
    let malformed = |fault| WireError::Malformed {
        kind: header.kind,
        fault,
    };
    let mut reader = field::Reader::new(payload);
    let frame = if header::is_logged(header.kind) {
        if header.lsn == Lsn(0) {
            return Err(malformed(Malformed::Value("lsn")));
        }
        Frame::Logged(
            header.lsn,
            Logged::decode(header.kind, &mut reader).map_err(malformed)?,
        )
    } else {
        if header.lsn != Lsn(0) {
            return Err(malformed(Malformed::Value("lsn")));
        }
        Frame::Control(Control::decode(header.kind, &mut reader).map_err(malformed)?)
    };
    reader.end().map_err(malformed)?;
    Ok(frame)
}
