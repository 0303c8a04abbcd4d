//! Limits of the wire, in bytes. A frame beyond them is refused before anything is allocated for it.

/// Content of one `Data` record. Longer content is split by the journal.
pub const CONTENT_BYTES: usize = 1 << 20;
/// Payload of a frame: one record with full content, or with as many extended attributes as fit.
pub const PAYLOAD_BYTES: usize = CONTENT_BYTES + (1 << 16);
/// Payload of a control frame that is no list.
pub const CONTROL_BYTES: usize = 8192;
/// A name in a directory (`NAME_MAX`).
pub const NAME_BYTES: usize = 255;
/// The target of a symbolic link (`PATH_MAX`).
pub const TARGET_BYTES: usize = 4096;
/// The value of one extended attribute (`XATTR_SIZE_MAX`).
pub const EXTENDED_BYTES: usize = 65_536;
/// Extended attributes carried inside one record; an object with more gets the rest as records of their own.
pub const EXTENDED_TOTAL_BYTES: usize = CONTENT_BYTES;
/// Entries of one listing frame; a longer directory takes several.
pub const LISTING_BYTES: usize = 256 << 10;
/// Identities in one binding frame.
pub const BINDINGS: usize = 16_384;
/// Hashes in one frame.
pub const HASHES: usize = 8192;
/// Roots in a start frame: directories of one module.
pub const ROOTS: usize = 64;
/// Generations of a history.
pub const HISTORY: usize = 16;
/// Identifiers (cluster, module, node).
pub const IDENTIFIER_BYTES: usize = 255;
/// The sentence of a refusal.
pub const MESSAGE_BYTES: usize = 2048;
