//! Telamon's replication data path.
//!
//! ```text
//! main -> control/  commands of the agent            serve/  the served file system (inodes, handlers, commit points)
//!         node/     roles: idle, secondary, primary  fuse/   the /dev/fuse protocol, nothing else
//!         link/     TLS session, queue, acks         capture/ ring of changed ranges from eBPF
//!         apply/    the secondary: records -> disk   mount/  mounts, fence, holders
//!         resync/   bring a peer up to date          wire/   records and frames as bytes (WIRE.md)
//!         survey/   what differs, changing nothing   keep/   what a discard would overwrite, kept aside first
//!         lineage/  generations and their comparison identity/ names of objects that outlive descriptors and paths
//! record, journal: the values and the seam between serve and link; wakefulness, precedence: no commit waits for a processor
//! ```

pub mod apply;
pub mod capture;
pub mod control;
pub mod fault;
pub mod fuse;
pub mod identity;
pub mod journal;
pub mod keep;
pub mod lineage;
pub mod link;
pub mod mount;
pub mod node;
pub mod precedence;
pub mod record;
pub mod resync;
pub mod serve;
pub mod signal;
pub mod survey;
pub mod wakefulness;
pub mod wire;
