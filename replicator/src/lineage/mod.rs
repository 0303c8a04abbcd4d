//! What a node knows of the origin of its data, and what that means beside the peer's knowledge (CONTROL.md, "Lineage").
//!
//! Invariant: a new generation stands on the disk before the first commit is acknowledged alone; a target of a resynchronisation
//! is `Inconsistent` on the disk before its first byte is overwritten and until everything is on its disk. So whoever holds
//! the newer generation, or the better data state of an equal one, has every acknowledged commit. No clock takes part.

mod compare;
mod keeper;
mod store;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use compare::{Comparison, Relation, Source, compare};
pub use keeper::{Keeper, Told};
pub use store::{Store, StoreError};

/// Generations kept in a history.
pub const HISTORY: usize = 16;

/// Identity of a line of acknowledged commits. Zero: none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Generation(pub u64);

impl Generation {
    pub const NONE: Generation = Generation(0);

    /// A generation that no other node makes.
    pub fn random() -> Result<Generation, StoreError> {
        loop {
            let mut bytes = [0; 8];
            let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| StoreError::Random(error.into()))?;
            let generation = Generation(u64::from_le_bytes(bytes));
            if read == bytes.len() && generation != Generation::NONE {
                return Ok(generation);
            }
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl FromStr for Generation {
    type Err = String;

    fn from_str(text: &str) -> Result<Generation, String> {
        let is_hexadecimal = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = is_hexadecimal
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten();
        value
            .map(Generation)
            .ok_or_else(|| format!("{text:?} is not a generation (16 hexadecimal digits)"))
    }
}

impl TryFrom<String> for Generation {
    type Error = String;

    fn try_from(text: String) -> Result<Generation, String> {
        text.parse()
    }
}

impl From<Generation> for String {
    fn from(generation: Generation) -> String {
        generation.to_string()
    }
}

/// How good a node's own data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DataState {
    UpToDate,
    /// Consistent, but older than the peer's.
    Outdated,
    /// Target of a resynchronisation that has not ended.
    Inconsistent,
}

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Idle,
    Secondary,
    Primary,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Idle => "idle",
            Role::Secondary => "secondary",
            Role::Primary => "primary",
        })
    }
}

/// The record of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    pub generation: Generation,
    /// The generation at which the peer was left behind; none while nobody is known to be behind.
    pub peer_generation: Generation,
    /// Generations that this data passed through, newest first.
    pub history: Vec<Generation>,
    pub data_state: DataState,
    /// Everything of this generation was on both nodes when this node left its role.
    #[serde(rename = "clean")]
    pub is_clean: bool,
    pub role_at_shutdown: Role,
}

impl Default for Lineage {
    /// A node that never held data.
    fn default() -> Lineage {
        Lineage {
            generation: Generation::NONE,
            peer_generation: Generation::NONE,
            history: Vec::new(),
            data_state: DataState::Inconsistent,
            is_clean: true,
            role_at_shutdown: Role::Idle,
        }
    }
}

impl Lineage {
    /// Becomes primary. `first` is the generation for data that never had one.
    #[must_use]
    pub fn promoted(&self, first: Generation) -> Lineage {
        let generation = if self.generation == Generation::NONE {
            first
        } else {
            self.generation
        };
        Lineage {
            generation,
            data_state: DataState::UpToDate,
            is_clean: false,
            role_at_shutdown: Role::Primary,
            ..self.clone()
        }
    }

    /// Acknowledges alone from now on.
    #[must_use]
    pub fn granted(&self, new: Generation) -> Lineage {
        let nobody_is_behind = self.peer_generation == Generation::NONE;
        let mut history = vec![self.generation];
        history.extend(self.history.iter().filter(|old| **old != self.generation));
        history.truncate(HISTORY);
        Lineage {
            generation: new,
            peer_generation: if nobody_is_behind {
                self.generation
            } else {
                self.peer_generation
            },
            history,
            is_clean: false,
            ..self.clone()
        }
    }

    /// The peer went on alone. Only `UpToDate` data can become worse by it.
    #[must_use]
    pub fn outdated(&self) -> Lineage {
        let data_state = match self.data_state {
            DataState::UpToDate => DataState::Outdated,
            worse => worse,
        };
        Lineage {
            data_state,
            ..self.clone()
        }
    }

    /// Own data is about to be overwritten by the peer's.
    #[must_use]
    pub fn overwritten(&self) -> Lineage {
        Lineage {
            data_state: DataState::Inconsistent,
            is_clean: false,
            ..self.clone()
        }
    }

    /// Primary: the peer has everything.
    #[must_use]
    pub fn in_step(&self) -> Lineage {
        Lineage {
            peer_generation: Generation::NONE,
            ..self.clone()
        }
    }

    /// Secondary: has everything that the primary with `source` has.
    #[must_use]
    pub fn brought_up(&self, source: &Lineage) -> Lineage {
        Lineage {
            generation: source.generation,
            peer_generation: Generation::NONE,
            history: source.history.clone(),
            data_state: DataState::UpToDate,
            is_clean: false,
            role_at_shutdown: self.role_at_shutdown,
        }
    }

    #[must_use]
    pub fn with_role(&self, role: Role) -> Lineage {
        Lineage {
            role_at_shutdown: role,
            ..self.clone()
        }
    }

    #[must_use]
    pub fn with_clean(&self, is_clean: bool) -> Lineage {
        Lineage {
            is_clean,
            ..self.clone()
        }
    }
}
