//! The replicator process: one mirror module's data path (CONTROL.md says how the agent drives it).

fn main() {}
