//! The fixed header before every payload, and the limits by type.

use crate::record::Lsn;

use super::{WireError, limits};

/// Protocol version in every header.
pub const PROTOCOL: u8 = 1;
/// Size of a header.
pub const HEADER_BYTES: usize = 20;
/// Types from here on belong to the log and carry a position.
const FIRST_LOGGED: u8 = 0x40;

/// The header of one frame, its fields checked but not its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    /// Bytes of payload that follow.
    pub length: u32,
    /// 0 outside the log.
    pub lsn: Lsn,
    checksum: u32,
    seed: u32,
}

impl Header {
    /// Reads a header. Refuses what this release cannot read before a byte of payload is awaited.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, WireError> {
        let [
            version,
            kind,
            reserved @ ..,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = *bytes;
        if version != PROTOCOL {
            return Err(WireError::Version(version));
        }
        if reserved != [0, 0] {
            return Err(WireError::Reserved);
        }
        let limit = limit(kind).ok_or(WireError::Type(kind))?;
        let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if length as usize > limit {
            return Err(WireError::Length {
                kind,
                length,
                limit,
            });
        }
        let mut lsn = [0; 8];
        lsn.copy_from_slice(&bytes[8..16]);
        Ok(Header {
            kind,
            length,
            lsn: Lsn(u64::from_le_bytes(lsn)),
            checksum: u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]),
            seed: crc32c::crc32c(&bytes[..16]),
        })
    }

    pub(super) fn verify(&self, payload: &[u8]) -> Result<(), WireError> {
        if payload.len() == self.length as usize
            && crc32c::crc32c_append(self.seed, payload) == self.checksum
        {
            Ok(())
        } else {
            Err(WireError::Checksum(self.kind))
        }
    }
}

pub(super) fn is_logged(kind: u8) -> bool {
    kind >= FIRST_LOGGED
}

/// Largest payload of a type, `None` for a type that does not exist.
fn limit(kind: u8) -> Option<usize> {
    match kind {
        0x01..=0x08 | 0x10 | 0x11 | 0x13 | 0x14 | 0x16..=0x19 => Some(limits::CONTROL_BYTES),
        0x09 | 0x12 | 0x15 | 0x40..=0x4f | 0x60..=0x63 => Some(limits::PAYLOAD_BYTES),
        _ => None,
    }
}

/// Appends a frame: header, then what `payload` writes.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, lsn: Lsn, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[PROTOCOL, kind, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&lsn.0.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    payload(out);
    let length = out.len() - start - HEADER_BYTES;
    debug_assert!(
        limit(kind).is_some_and(|limit| length <= limit),
        "type {kind:#04x}, {length} bytes"
    );
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let seed = crc32c::crc32c(&out[start..start + 16]);
    let checksum = crc32c::crc32c_append(seed, &out[start + HEADER_BYTES..]);
    out[start + 16..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}
