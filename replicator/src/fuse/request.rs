//! One request as it was read from the device: header, caller, operation.

use super::abi::{self, IN_HEADER_LENGTH, opcode};
use super::body::{Body, Malformed};
use super::operation::Operation;
use super::value::{Caller, NodeId, Unique};

#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub unique: Unique,
    pub node: NodeId,
    pub caller: Caller,
    pub operation: Operation<'a>,
}

/// What can be told of a request whose body makes no sense: whom to answer, if anybody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub unique: Option<Unique>,
    pub reason: Malformed,
}

impl<'a> Request<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Request<'a>, Refused> {
        let header = Header::parse(bytes).map_err(|reason| Refused {
            unique: None,
            reason,
        })?;
        let waits = !matches!(header.opcode, opcode::FORGET | opcode::BATCH_FORGET);
        let refused = |reason| Refused {
            unique: waits.then_some(header.unique),
            reason,
        };
        let (body, extensions) = header.split(bytes).map_err(refused)?;
        Ok(Request {
            unique: header.unique,
            node: header.node,
            caller: Caller {
                group: group(extensions).map_err(refused)?,
                ..header.caller
            },
            operation: Operation::parse(header.opcode, body).map_err(refused)?,
        })
    }
}

struct Header {
    length: usize,
    opcode: u32,
    unique: Unique,
    node: NodeId,
    caller: Caller,
    /// Bytes of extensions at the end of the request.
    extensions: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
        let mut body = Body::new(bytes);
        let header = Header {
            length: body.u32()? as usize,
            opcode: body.u32()?,
            unique: Unique(body.u64()?),
            node: NodeId(body.u64()?),
            caller: Caller {
                uid: body.u32()?,
                gid: body.u32()?,
                pid: body.u32()?,
                group: None,
            },
            extensions: usize::from(body.u16()?) * 8,
        };
        body.skip(2)?;
        Ok(header)
    }

    fn split<'a>(&self, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Malformed> {
        if self.length != bytes.len() {
            return Err(Malformed(
                "length in the header differs from the bytes read",
            ));
        }
        let body = &bytes[IN_HEADER_LENGTH..];
        let end = body
            .len()
            .checked_sub(self.extensions)
            .ok_or(Malformed("extensions longer than the request"))?;
        Ok(body.split_at(end))
    }
}

/// The first supplementary group among the extensions. The kernel sends one at most: the parent directory's.
fn group(extensions: &[u8]) -> Result<Option<u32>, Malformed> {
    let mut rest = extensions;
    while !rest.is_empty() {
        let mut body = Body::new(rest);
        let (size, kind) = (body.u32()? as usize, body.u32()?);
        if kind == abi::EXT_GROUPS {
            let count = body.u32()?;
            return if count == 0 {
                Ok(None)
            } else {
                body.u32().map(Some)
            };
        }
        let aligned = size
            .checked_next_multiple_of(8)
            .filter(|&length| length >= 8);
        rest = aligned
            .and_then(|length| rest.get(length..))
            .ok_or(Malformed("extension of impossible length"))?;
    }
    Ok(None)
}
