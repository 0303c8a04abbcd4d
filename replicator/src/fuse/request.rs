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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuse::Ownership;

    /// A request as the kernel would send it; `extensions` must be whole units of 8 bytes.
    fn bytes(opcode: u32, body: &[u8], extensions: &[u8]) -> Vec<u8> {
        let length = u32::try_from(IN_HEADER_LENGTH + body.len() + extensions.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(opcode.to_ne_bytes());
        bytes.extend(7_u64.to_ne_bytes());
        bytes.extend(1_u64.to_ne_bytes());
        bytes.extend(words(&[1001, 1002, 42]));
        let units = u16::try_from(extensions.len() / 8).unwrap();
        bytes.extend(units.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(body);
        bytes.extend(extensions);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_parents_group_travels_behind_the_name() {
        let mut body = words(&[0o755, 0o022]);
        body.extend(b"new\0\0\0\0\0");
        let message = bytes(
            opcode::MKDIR,
            &body,
            &words(&[16, abi::EXT_GROUPS, 1, 2001]),
        );
        let request = Request::parse(&message).unwrap();
        assert_eq!(request.caller.group, Some(2001));
        let ownership = Ownership {
            mode: 0o755,
            umask: 0o022,
        };
        assert_eq!(
            request.operation,
            Operation::MakeDirectory {
                name: b"new",
                ownership
            }
        );
    }

    #[test]
    fn a_name_is_never_a_path() {
        for name in [&b"..\0"[..], b".\0", b"a/b\0", b"\0", b"unterminated"] {
            let message = bytes(opcode::LOOKUP, name, &[]);
            let refused = Request::parse(&message).unwrap_err();
            assert_eq!(refused.unique, Some(Unique(7)), "{name:?}");
        }
    }

    #[test]
    fn forgetting_is_never_answered() {
        let message = bytes(opcode::BATCH_FORGET, &words(&[u32::MAX, 0]), &[]);
        assert_eq!(Request::parse(&message).unwrap_err().unique, None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Request::parse(&message).map_err(|refused| refused.unique));
        }

        #[test]
        fn any_body_of_any_operation_parses_or_is_refused(
            opcode in 0_u32..60,
            body in proptest::collection::vec(any::<u8>(), 0..160),
            extensions in proptest::collection::vec(any::<u64>(), 0..4),
        ) {
            let extensions: Vec<u8> = extensions.iter().flat_map(|unit| unit.to_ne_bytes()).collect();
            let message = bytes(opcode, &body, &extensions);
            if let Ok(Request { operation: Operation::BatchForget(forgets), .. }) = Request::parse(&message) {
                prop_assert!(forgets.count() <= body.len() / 16);
            }
        }
    }
}
