//! What a store holds, and whether it is intact.

use crate::error::Error;
use crate::hash::Hash;
use crate::pack::VerifyReport;

/// Numbers about a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Segments.
    pub segment_count: u64,
    /// Of them, those that could not be opened.
    pub damaged_segment_count: u64,
    /// Segments that a collection has condemned and not removed yet.
    pub condemned_segment_count: u64,
    /// Bytes of all segments.
    pub stored_bytes: u64,
    /// Objects in them: contents, pieces and lists of large ones. A content that several segments
    /// hold counts in each.
    pub object_count: u64,
    /// Registered ref stores.
    pub root_count: u64,
    /// The newest epoch of collection.
    pub epoch: u64,
}

/// What verifying a segment found.
#[derive(Debug)]
pub struct SegmentReport {
    /// Its file name below `segments/`.
    pub name: String,
    /// What was found, or why it can't be opened at all.
    pub result: Result<VerifyReport, Error>,
}

/// What verifying a store found.
#[derive(Debug, Default)]
pub struct StoreReport {
    /// Each segment, by name.
    pub segments: Vec<SegmentReport>,
}

impl StoreReport {
    /// Whether every segment is intact.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.segments.iter().all(|s| s.result.as_ref().is_ok_and(VerifyReport::is_intact))
    }
}

/// A content that can't be read.
#[derive(Debug)]
pub struct ContentProblem {
    /// Its name.
    pub name: Hash,
    /// Why: [`crate::ErrorKind::Missing`] if no segment holds it.
    pub error: Error,
}
