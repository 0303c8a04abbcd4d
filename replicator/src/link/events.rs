//! What the sessions of either side report.

use super::LinkState;
use crate::keep::Kept;
use crate::lineage::Lineage;
use crate::resync::Progress;

/// Hears what happens to the sessions. Called from any thread, must not block.
pub trait Events: Send + Sync {
    fn link(&self, state: LinkState, reason: &str);
    /// Commits wait since now.
    fn waiting(&self, reason: &str);
    fn peer_lineage(&self, lineage: &Lineage);
    /// What a discard gives up is kept.
    fn kept(&self, kept: &Kept);
    fn progress(&self, progress: &Progress);
    fn degraded(&self, reason: &str);
    fn fault(&self, reason: &str);
}
