//! Length-prefixed JSON on a stream.

use std::io::{self, Read, Write};

/// Largest body, in bytes.
pub const LIMIT: usize = 1 << 20;

/// Reads one body; `None` at the end of the stream between two frames.
pub fn read(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 4];
    let first = loop {
        match stream.read(&mut prefix) {
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut prefix[first..])?;
    let length = u32::from_le_bytes(prefix) as usize;
    if length > LIMIT {
        let message = format!("a frame of {length} bytes, at most {LIMIT} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(body))
}

/// Writes one body with its prefix in one call.
pub fn write(stream: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len())
        .ok()
        .filter(|&length| length as usize <= LIMIT)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the answer exceeds a frame"))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    stream.write_all(&frame)
}
