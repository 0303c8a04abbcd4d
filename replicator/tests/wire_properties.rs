//! Properties of the codec: it never panics, and it accepts exactly the bytes that it would write itself.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use proptest::prelude::*;
use telamon_replicator::wire::{
    Frame, HEADER_BYTES, Header, PROTOCOL, WireError, decode, encode_control, encode_logged,
};

/// A frame with a header that fits whatever the payload is, so that the payload's own checks are reached.
fn sealed(kind: u8, lsn: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![PROTOCOL, kind, 0, 0];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(&lsn.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), payload);
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn read(frame: &[u8]) -> Result<Frame<'_>, WireError> {
    let (head, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    decode(&Header::parse(head)?, payload)
}

fn written(frame: Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match frame {
        Frame::Control(control) => encode_control(&control, &mut bytes),
        Frame::Logged(lsn, logged) => encode_logged(lsn, &logged, &mut bytes),
    }
    bytes
}

/// Payloads of the shared vectors with their types: the seeds that mutation starts from.
fn seeds() -> Vec<(u8, u64, Vec<u8>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/wire.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let rows = vectors["frames"].as_array().unwrap();
    rows.iter()
        .map(|row| {
            let text = row["frame"].as_str().unwrap();
            let frame: Vec<u8> = (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect();
            (
                frame[1],
                row["lsn"].as_u64().unwrap(),
                frame[HEADER_BYTES..].to_vec(),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_header_is_read_or_refused(bytes in prop::array::uniform20(any::<u8>())) {
        let _ = Header::parse(&bytes);
    }

    #[test]
    fn any_payload_is_refused_or_reads_back(
        kind in prop_oneof![0x01u8..=0x14, 0x40u8..=0x4f, 0x60u8..=0x63],
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let frame = sealed(kind, u64::from(kind >= 0x40), &payload);
        if let Ok(value) = read(&frame) {
            prop_assert_eq!(written(value), frame);
        }
    }

    #[test]
    fn mutated_frames_are_refused_or_read_back(
        seed in prop::sample::select(seeds()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (kind, lsn, mut payload) = seed;
        for (at, byte) in changes {
            if !payload.is_empty() {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
        }
        if is_cut {
            payload.truncate(cut.index(payload.len() + 1));
        }
        let frame = sealed(kind, lsn, &payload);
        if let Ok(value) = read(&frame) {
            prop_assert_eq!(written(value), frame);
        }
    }
}
