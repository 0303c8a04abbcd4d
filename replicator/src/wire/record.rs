//! The records of the log: types 0x40 to 0x4f.

use std::borrow::Cow;

use super::field::{
    Malformed, Reader, put_attributes, put_change, put_extended, put_file, put_kind, put_long,
    put_name, put_place, put_time,
};
use super::limits;
use crate::record::Record;

pub(super) fn kind(record: &Record<'_>) -> u8 {
    match record {
        Record::Create { .. } => 0x40,
        Record::CreateUnnamed { .. } => 0x41,
        Record::Link { .. } => 0x42,
        Record::Unlink { .. } => 0x43,
        Record::RemoveDirectory { .. } => 0x44,
        Record::Rename { .. } => 0x45,
        Record::Data { .. } => 0x46,
        Record::Zero { .. } => 0x47,
        Record::Punch { .. } => 0x48,
        Record::Allocate { .. } => 0x49,
        Record::Truncate { .. } => 0x4a,
        Record::SetAttributes { .. } => 0x4b,
        Record::SetExtended { .. } => 0x4c,
        Record::RemoveExtended { .. } => 0x4d,
        Record::Sync { .. } => 0x4e,
        Record::Forget { .. } => 0x4f,
    }
}

#[allow(clippy::too_many_lines)] // one arm for each record, as WIRE.md lists them
pub(super) fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    match record {
        Record::Create {
            place,
            file,
            kind,
            attributes,
            extended,
        } => {
            put_place(out, place);
            put_file(out, *file);
            put_kind(out, kind);
            put_attributes(out, attributes);
            put_extended(out, extended);
        }
        Record::CreateUnnamed { file, attributes } => {
            put_file(out, *file);
            put_attributes(out, attributes);
        }
        Record::Link { place, file } => {
            put_place(out, place);
            put_file(out, *file);
        }
        Record::Unlink { place } | Record::RemoveDirectory { place } => put_place(out, place),
        Record::Rename {
            from,
            to,
            flags,
            file,
            exchanged,
        } => {
            put_place(out, from);
            put_place(out, to);
            out.extend_from_slice(&flags.to_le_bytes());
            put_file(out, *file);
            out.push(u8::from(exchanged.is_some()));
            if let Some(exchanged) = exchanged {
                put_file(out, *exchanged);
            }
        }
        Record::Data {
            file,
            offset,
            content,
        } => {
            put_file(out, *file);
            put_u64(out, &[*offset]);
            put_long(out, content);
        }
        Record::Zero {
            file,
            offset,
            length,
            keep_size,
        }
        | Record::Allocate {
            file,
            offset,
            length,
            keep_size,
        } => {
            put_file(out, *file);
            put_u64(out, &[*offset, *length]);
            out.push(u8::from(*keep_size));
        }
        Record::Punch {
            file,
            offset,
            length,
        } => {
            put_file(out, *file);
            put_u64(out, &[*offset, *length]);
        }
        Record::Truncate { file, size } => {
            put_file(out, *file);
            put_u64(out, &[*size]);
        }
        Record::SetAttributes { file, change } => {
            put_file(out, *file);
            put_change(out, change);
        }
        Record::SetExtended { file, name, value } => {
            put_file(out, *file);
            put_name(out, name);
            put_long(out, value);
        }
        Record::RemoveExtended { file, name } => {
            put_file(out, *file);
            put_name(out, name);
        }
        Record::Sync {
            file,
            data_only,
            modified,
        } => {
            put_file(out, *file);
            out.push(u8::from(*data_only));
            out.push(u8::from(modified.is_some()));
            if let Some(modified) = modified {
                put_time(out, *modified);
            }
        }
        Record::Forget { file } => put_file(out, *file),
    }
}

pub(super) fn decode<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Record<'a>, Malformed> {
    Ok(match kind {
        0x40 => Record::Create {
            place: reader.place()?,
            file: reader.file()?,
            kind: reader.kind()?,
            attributes: reader.attributes()?,
            extended: reader.extended()?,
        },
        0x41 => Record::CreateUnnamed {
            file: reader.file()?,
            attributes: reader.attributes()?,
        },
        0x42 => Record::Link {
            place: reader.place()?,
            file: reader.file()?,
        },
        0x43 => Record::Unlink {
            place: reader.place()?,
        },
        0x44 => Record::RemoveDirectory {
            place: reader.place()?,
        },
        0x45 => Record::Rename {
            from: reader.place()?,
            to: reader.place()?,
            flags: reader.u32()?,
            file: reader.file()?,
            exchanged: reader
                .boolean("exchanged")?
                .then(|| reader.file())
                .transpose()?,
        },
        0x46 => decode_data(reader)?,
        0x47 | 0x49 => {
            let file = reader.file()?;
            let (offset, length) = reader.range()?;
            let keep_size = reader.boolean("keep_size")?;
            if kind == 0x47 {
                Record::Zero {
                    file,
                    offset,
                    length,
                    keep_size,
                }
            } else {
                Record::Allocate {
                    file,
                    offset,
                    length,
                    keep_size,
                }
            }
        }
        0x48 => {
            let file = reader.file()?;
            let (offset, length) = reader.range()?;
            Record::Punch {
                file,
                offset,
                length,
            }
        }
        0x4a => Record::Truncate {
            file: reader.file()?,
            size: reader.size()?,
        },
        0x4b => Record::SetAttributes {
            file: reader.file()?,
            change: reader.change()?,
        },
        0x4c => Record::SetExtended {
            file: reader.file()?,
            name: reader.extended_name()?,
            value: reader.extended_value()?,
        },
        0x4d => Record::RemoveExtended {
            file: reader.file()?,
            name: reader.extended_name()?,
        },
        0x4e => Record::Sync {
            file: reader.file()?,
            data_only: reader.boolean("data_only")?,
            modified: reader
                .boolean("modified")?
                .then(|| reader.time())
                .transpose()?,
        },
        0x4f => Record::Forget {
            file: reader.file()?,
        },
        _ => return Err(Malformed::Value("type")),
    })
}

fn decode_data<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, Malformed> {
    let file = reader.file()?;
    let offset = reader.size()?;
    let content = reader.long(limits::CONTENT_BYTES, "content")?;
    let end = offset.checked_add(content.len() as u64);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(Malformed::Value("range"));
    }
    Ok(Record::Data {
        file,
        offset,
        content: Cow::Borrowed(content),
    })
}

fn put_u64(out: &mut Vec<u8>, values: &[u64]) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}
