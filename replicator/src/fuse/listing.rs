//! The body of READDIR and READDIRPLUS answers.

use super::reply::Entry;

/// Directory entries, packed until the size that the kernel asked for is full.
pub struct Listing<'b> {
    bytes: &'b mut Vec<u8>,
    size_max: usize,
}

/// One name without its lookup.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    pub name: &'a [u8],
    pub inode: u64,
    /// Where reading goes on after this name.
    pub next_offset: u64,
    /// `DT_*` of readdir(3).
    pub kind: u8,
}

impl<'b> Listing<'b> {
    const NAME_OFFSET: usize = 24;

    /// Packs into `bytes`, which is emptied first.
    pub fn new(bytes: &'b mut Vec<u8>, size_max: usize) -> Listing<'b> {
        bytes.clear();
        Listing { bytes, size_max }
    }

    /// Whether a name of this length still fits. Must be asked before a lookup that would count.
    #[must_use]
    pub fn has_room(&self, name_length: usize, plus: bool) -> bool {
        let entry = if plus { Entry::LENGTH } else { 0 };
        self.bytes.len() + entry + (Self::NAME_OFFSET + name_length).next_multiple_of(8)
            <= self.size_max
    }

    /// Adds a name that [`has_room`](Self::has_room); with `plus` the name's entry goes before it (`None`: the kernel shall look
    /// it up itself).
    pub fn add(&mut self, name: Name<'_>, plus: Option<Option<&Entry>>) {
        debug_assert!(
            self.has_room(name.name.len(), plus.is_some()),
            "room was asked for before"
        );
        match plus {
            Some(Some(entry)) => self.bytes.extend_from_slice(&entry.encode()),
            Some(None) => self.bytes.extend_from_slice(&[0; Entry::LENGTH]),
            None => {}
        }
        self.bytes.extend_from_slice(&name.inode.to_ne_bytes());
        self.bytes
            .extend_from_slice(&name.next_offset.to_ne_bytes());
        let length = u32::try_from(name.name.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes
            .extend_from_slice(&u32::from(name.kind).to_ne_bytes());
        self.bytes.extend_from_slice(name.name);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
}
