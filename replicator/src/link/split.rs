//! Records that are too long for one frame, as several that mean the same.

use std::borrow::Cow;

use crate::record::Record;
use crate::wire::limits::{CONTENT_BYTES, EXTENDED_TOTAL_BYTES};

/// The parts of a record that does not fit into a frame; `None` for one that does.
#[must_use]
pub fn oversized<'a>(record: &'a Record<'_>) -> Option<Vec<Record<'a>>> {
    match record {
        Record::Data {
            file,
            offset,
            content,
        } if content.len() > CONTENT_BYTES => {
            let starts = (*offset..).step_by(CONTENT_BYTES);
            let parts = content
                .chunks(CONTENT_BYTES)
                .zip(starts)
                .map(|(part, offset)| Record::Data {
                    file: *file,
                    offset,
                    content: Cow::Borrowed(part),
                });
            Some(parts.collect())
        }
        Record::Create {
            place,
            file,
            kind,
            attributes,
            extended,
        } if extended
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            > EXTENDED_TOTAL_BYTES / 2 =>
        {
            let mut parts = vec![Record::Create {
                place: place.clone(),
                file: *file,
                kind: kind.clone(),
                attributes: *attributes,
                extended: Vec::new(),
            }];
            parts.extend(extended.iter().map(|(name, value)| Record::SetExtended {
                file: *file,
                name: Cow::Borrowed(name.as_ref()),
                value: Cow::Borrowed(value.as_ref()),
            }));
            Some(parts)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FileId;

    #[test]
    fn long_content_keeps_its_offsets() {
        let file = FileId {
            tree: 0,
            inode: 1,
            generation: 0,
        };
        let content: Vec<u8> = (0..CONTENT_BYTES * 2 + 5)
            .map(|at| u8::try_from(at / 1000 % 251).unwrap_or(0))
            .collect();
        let whole = Record::Data {
            file,
            offset: 100,
            content: content.clone().into(),
        };
        let mut joined = Vec::new();
        for part in oversized(&whole).unwrap() {
            let Record::Data {
                offset, content, ..
            } = part
            else {
                panic!("{part:?}")
            };
            assert_eq!(offset, 100 + joined.len() as u64);
            joined.extend_from_slice(&content);
        }
        assert_eq!(joined, content);
    }

    #[test]
    fn what_fits_is_left_alone() {
        let file = FileId {
            tree: 0,
            inode: 1,
            generation: 0,
        };
        assert_eq!(oversized(&Record::Truncate { file, size: 3 }), None);
    }
}
