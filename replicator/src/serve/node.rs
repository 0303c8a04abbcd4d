//! One object that the kernel knows, or whose content is still to be shipped.
//!
//! Locks, in the order in which they may be taken: the module's namespace, `order`, `life`, the capture ring, `pending`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use super::class::Class;
use super::lock::lock;
use super::privileges::Privileges;
use super::ranges::Ranges;
use crate::fuse::BackingId;
use crate::identity::Identity;

/// How an object's content is read and written. Fixed at its first open, for as long as the kernel knows the object: cached and
/// passthrough opens of one inode exclude each other, and a mapping may outlive the last close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Passthrough,
    Relay,
}

/// Whether an object has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    Named,
    /// Made by `O_TMPFILE`, not linked yet: unknown to the journal until it is.
    Unnamed,
    /// Its last name was removed: whatever is written to it can never be seen on the peer.
    Gone,
}

#[derive(Debug)]
pub struct Node {
    pub identity: Identity,
    /// `S_IFMT` bits.
    pub format: u32,
    class: OnceLock<Class>,
    standing: AtomicU8,
    /// How often the kernel was told of this object and has not forgotten it. Changed under the table's lock.
    pub(super) lookups: AtomicU64,
    pub life: Mutex<Life>,
    /// Held over a change of content (or reading content to ship) and the append that tells of it, so that the journal has them
    /// in the order in which they happened.
    pub order: Mutex<()>,
    /// Commits that wait for `order`: the background keeps away.
    pub commits: AtomicU32,
    pub pending: Mutex<Pending>,
    pub privileges: Privileges,
}

/// Opens, and what is kept while there are any.
#[derive(Debug, Default)]
pub struct Life {
    pub policy: Option<Policy>,
    pub backing: Option<BackingId>,
    pub file: Option<Arc<File>>,
    pub is_file_writable: bool,
    pub opens: u32,
    pub writers: u32,
    /// Keeps an object without a name reachable, and its inode number from being used again.
    pub anchor: Option<Arc<OwnedFd>>,
    /// Its writes make events.
    pub is_watched: bool,
}

/// Content that changed and is not appended yet.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with its own sentence"
)]
pub struct Pending {
    pub ranges: Ranges,
    /// A shared writable mapping was seen: pages must be written out before they are read, or a later store makes no event.
    pub is_mapped: bool,
    /// Every page was written out since the mapping was seen, and whatever became dirty after that is in `ranges`.
    pub is_protected: bool,
    /// How often that came to an end.
    pub exposures: u64,
    /// The size changed without a record: it is to be appended with the content.
    pub is_resized: bool,
    /// The modification time was not appended since the content last changed.
    pub is_touched: bool,
    /// It stands in the queue of the background.
    pub is_queued: bool,
    pub last_change: Option<Instant>,
}

impl Pending {
    /// Pages became dirty of which only some bytes are known: a store beside them makes no event.
    pub fn expose(&mut self) {
        self.is_protected = false;
        self.exposures += 1;
    }

    /// Whether stores may go unseen until all pages are written out.
    #[must_use]
    pub fn needs_protection(&self) -> bool {
        self.is_mapped && !self.is_protected && !self.ranges.is_empty()
    }
}

impl Node {
    pub fn new(identity: Identity, format: u32, standing: Standing) -> Node {
        Node {
            identity,
            format,
            class: OnceLock::new(),
            standing: AtomicU8::new(standing as u8),
            lookups: AtomicU64::new(0),
            life: Mutex::default(),
            order: Mutex::default(),
            commits: AtomicU32::new(0),
            pending: Mutex::default(),
            privileges: Privileges::default(),
        }
    }

    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.format == libc::S_IFREG
    }

    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.format == libc::S_IFDIR
    }

    /// The class, as far as a name told it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class.get().copied().unwrap_or_default()
    }

    /// Called when the object is found by name; the first name counts.
    pub fn set_class(&self, class: Class) {
        self.class.get_or_init(|| class);
    }

    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Named,
            1 => Standing::Unnamed,
            _ => Standing::Gone,
        }
    }

    pub fn set_standing(&self, standing: Standing) {
        self.standing.store(standing as u8, Ordering::Release);
    }

    /// Whether something of it is still to be appended.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let pending = lock(&self.pending);
        pending.is_touched || pending.is_resized || !pending.ranges.is_empty()
    }

    /// Whether changes of this object belong into the journal.
    #[must_use]
    pub fn is_journalled(&self) -> bool {
        !self.class().is_excluded && self.standing() == Standing::Named
    }
}
