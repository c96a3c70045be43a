//! Counts and times of what a storage does, for the facade `metrics`.
//!
//! | metric | labels | |
//! |---|---|---|
//! | `pefc_storage_operation_seconds` | `storage`, `operation` | histogram: how long it took |
//! | `pefc_storage_errors_total` | `storage`, `operation` | counter: how often it failed |
//! | `pefc_storage_read_bytes_total` | `storage` | counter: bytes of values that were retrieved |
//! | `pefc_storage_written_bytes_total` | `storage` | counter: bytes of values that were put |
//!
//! A recorder must be installed before a storage is opened.

use crate::disk::Clock;
use crate::error::Result;
use crate::format::entry::Content;
use crate::hash::Hash;
use crate::refs::{Change, KeyIter, Ref, RefIter, Token};
use crate::storage::{Backend, Transaction, ValueReader};
use crate::store::ContentStore;
use metrics::{Counter, Histogram, counter, histogram};
use std::io::Read;
use std::sync::Arc;

/// A backend that is measured.
#[derive(Debug)]
pub(super) struct Measured {
    below: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    stat: Operation,
    retrieve: Operation,
    commit: Operation,
    snapshot: Operation,
    read_bytes: Counter,
    written_bytes: Counter,
}

struct Operation {
    seconds: Histogram,
    errors: Counter,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").finish_non_exhaustive()
    }
}

impl Operation {
    fn new(storage: &str, operation: &'static str) -> Self {
        let storage = storage.to_owned();
        let labels = [("storage", storage), ("operation", operation.to_owned())];
        Self {
            seconds: histogram!("pefc_storage_operation_seconds", &labels),
            errors: counter!("pefc_storage_errors_total", &labels),
        }
    }

    fn measure<T>(&self, clock: &dyn Clock, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin_ns = clock.now_ns();
        let result = work();
        // A clock that was set meanwhile measures nothing.
        let took_ns = clock.now_ns().saturating_sub(begin_ns).max(0);
        #[expect(clippy::cast_precision_loss, reason = "it is exact below 104 days")]
        self.seconds.record(took_ns as f64 / 1e9);
        if result.is_err() {
            self.errors.increment(1);
        }
        result
    }
}

impl Measured {
    pub(super) fn new(storage: &str, below: Arc<dyn Backend>, clock: Arc<dyn Clock>) -> Self {
        let labels = [("storage", storage.to_owned())];
        Self {
            below,
            clock,
            stat: Operation::new(storage, "stat"),
            retrieve: Operation::new(storage, "retrieve"),
            commit: Operation::new(storage, "commit"),
            snapshot: Operation::new(storage, "snapshot"),
            read_bytes: counter!("pefc_storage_read_bytes_total", &labels),
            written_bytes: counter!("pefc_storage_written_bytes_total", &labels),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Measured {
    fn kind(&self) -> &'static str {
        self.below.kind()
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Ref>> {
        self.stat.measure(&*self.clock, || self.below.stat(key))
    }

    fn retrieve(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.retrieve.measure(&*self.clock, || self.below.retrieve(key))?;
        self.read_bytes.increment(found.as_ref().map_or(0, Vec::len) as u64);
        Ok(found)
    }

    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>> {
        self.below.reader(key)
    }

    fn begin(&self) -> Result<Box<dyn Transaction + '_>> {
        let below = self.below.begin()?;
        Ok(Box::new(MeasuredTransaction { backend: self, below }))
    }

    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        self.below.keys(prefix, after)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_> {
        self.below.scan(prefix, after)
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        self.snapshot.measure(&*self.clock, || self.below.snapshot(each))
    }

    fn token(&self) -> Result<Token> {
        self.below.token()
    }

    fn content(&self) -> Option<&ContentStore> {
        self.below.content()
    }
}

struct MeasuredTransaction<'a> {
    backend: &'a Measured,
    below: Box<dyn Transaction + 'a>,
}

#[deny(clippy::missing_trait_methods)]
impl Transaction for MeasuredTransaction<'_> {
    fn put(&mut self, content: &[u8]) -> Result<Hash> {
        let name = self.below.put(content)?;
        self.backend.written_bytes.increment(content.len() as u64);
        Ok(name)
    }

    fn put_stream(&mut self, content: &mut dyn Read) -> Result<Content> {
        let content = self.below.put_stream(content)?;
        self.backend.written_bytes.increment(content.len);
        Ok(content)
    }

    fn take(&mut self, source: &dyn Backend, key: &[u8], value: &Ref) -> Result<()> {
        self.below.take(source, key, value)
    }

    fn commit(self: Box<Self>, changes: &[Change]) -> Result<Vec<Option<Ref>>> {
        let Self { backend, below } = *self;
        backend.commit.measure(&*backend.clock, || below.commit(changes))
    }
}
