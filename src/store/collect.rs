//! Collection: what no root names goes, and small segments become one.

use crate::hash::Hash;

/// What to collect.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// A segment is rewritten once so many hundredths of its bytes are of no use. 0 rewrites every
    /// segment that holds anything dead.
    pub dead_percent: u8,
    /// Only report what would be done.
    pub dry_run: bool,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self { dead_percent: 30, dry_run: false }
    }
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// The epoch that it published.
    pub epoch: u64,
    /// Contents that roots name.
    pub live_count: u64,
    /// Of them, those that no segment holds: refs that dangle.
    pub missing: Vec<Hash>,
    /// Segments that were condemned.
    pub condemned_count: u64,
    /// Of them, those that were removed.
    pub removed_count: u64,
    /// Of them, those that stay because live content in them is damaged.
    pub damaged: Vec<String>,
    /// Contents that were copied out of condemned segments.
    pub copied_count: u64,
    /// Bytes of removed segments.
    pub removed_bytes: u64,
    /// Bytes of the segments written in their place.
    pub written_bytes: u64,
    /// Sessions that kept the collection from going on; the next one does.
    pub waiting_for: usize,
}
