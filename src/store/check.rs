//! What a store holds, and whether it is intact.

use super::Inner;
use super::layout::Condemned;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::pack::{VerifyOptions, VerifyReport};

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
    pub result: Result<VerifyReport>,
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

impl Inner {
    pub(super) fn stats(&self) -> Result<StoreStats> {
        let condemned = Condemned::read(&*self.options.machine.vfs, &self.paths)?;
        let view = self.list()?;
        self.look_again(&view, |_| true);
        let mut stats = StoreStats {
            root_count: self.roots()?.len() as u64,
            epoch: condemned.epoch,
            ..StoreStats::default()
        };
        for segment in &view.segments {
            let counted = segment.pack(&self.options).and_then(|pack| match pack {
                Some(pack) => pack.object_row_count().map(|count| Some((count, pack))),
                None => Ok(None),
            });
            match counted {
                Ok(None) => continue, // removed meanwhile
                Ok(Some((count, pack))) => {
                    stats.object_count += count;
                    stats.stored_bytes += pack.committed_bytes();
                }
                Err(_) => stats.damaged_segment_count += 1,
            }
            stats.segment_count += 1;
            let is_condemned = condemned.segments.contains(&segment.name);
            stats.condemned_segment_count += u64::from(is_condemned);
        }
        Ok(stats)
    }

    pub(super) fn verify(&self, options: &VerifyOptions) -> Result<StoreReport> {
        let view = self.list()?;
        self.look_again(&view, |_| true);
        let mut report = StoreReport::default();
        for segment in &view.segments {
            let result = match segment.pack(&self.options) {
                Ok(None) => continue, // removed meanwhile
                Ok(Some(pack)) => pack.verify(options),
                Err(error) => Err(error),
            };
            report.segments.push(SegmentReport { name: segment.name.clone(), result });
        }
        Ok(report)
    }

    pub(super) fn check(
        &self,
        names: impl IntoIterator<Item = Result<Hash>>,
    ) -> Result<Vec<ContentProblem>> {
        let mut problems = Vec::new();
        for name in names {
            let name = name?;
            if name == Hash::of(b"") {
                continue;
            }
            match self.find(|pack| Ok(pack.reads_whole(&name)?.then_some(()))) {
                Ok(Some(())) => {}
                Ok(None) => {
                    let what = format!("content {name} is in no segment");
                    let error = Error::new(ErrorKind::Missing, what).at(&self.paths.dir);
                    problems.push(ContentProblem { name, error });
                }
                Err(error) => problems.push(ContentProblem { name, error }),
            }
        }
        Ok(problems)
    }
}
