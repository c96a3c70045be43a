//! A cache in front of another backend.

use super::{CacheBackend, Entry, weight};
use crate::error::Result;
use crate::format::entry::Content;
use crate::hash::Hash;
use crate::refs::{Change, Ref, To};
use crate::storage::backend::{Backend, Transaction};
use quick_cache::sync::GuardResult;
use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

impl CacheBackend {
    /// Reads a key below and keeps it. Threads that want the same key wait for the first of them.
    pub(super) fn load(&self, below: &dyn Backend, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = key.to_vec();
        loop {
            let guard = match self.entries.get_value_or_guard(&key, None) {
                GuardResult::Value(entry) if self.is_fresh(&entry, self.now_ns()) => {
                    return Ok(Some(entry.content.to_vec()));
                }
                GuardResult::Value(old) => {
                    self.entries.remove_if(&key, |entry| entry.is(&old));
                    continue;
                }
                GuardResult::Guard(guard) => guard,
                GuardResult::Timeout => return below.retrieve(&key), // none was asked for
            };
            self.counts.loads.fetch_add(1, Ordering::Relaxed);
            // Before the reading: it may be old when it ends.
            let since_ns = self.now_ns();
            let Some(content) = below.retrieve(&key)? else {
                return Ok(None);
            };
            if self.fits(&key, &content) {
                let entry = Entry { content: content.as_slice().into(), value: None, since_ns };
                // Refused if a batch has set or removed the key meanwhile: then this may be what it
                // replaced.
                let _ = guard.insert(entry);
            }
            return Ok(Some(content));
        }
    }
}

/// A batch that goes through to the backend below.
pub(super) struct WriteThrough<'a> {
    cache: &'a CacheBackend,
    below: Box<dyn Transaction + 'a>,
    /// Contents to be kept once they are durable below.
    contents: HashMap<Hash, Arc<[u8]>>,
    content_bytes: u64,
}

impl<'a> WriteThrough<'a> {
    pub(super) fn new(cache: &'a CacheBackend, below: Box<dyn Transaction + 'a>) -> Self {
        Self { cache, below, contents: HashMap::new(), content_bytes: 0 }
    }
}

impl Transaction for WriteThrough<'_> {
    fn put(&mut self, content: &[u8]) -> Result<Hash> {
        let name = self.below.put(content)?;
        let bytes = self.content_bytes + weight(&[], content);
        // What a large batch holds beside the cache is bounded too.
        if self.cache.fits(&[], content) && bytes <= self.cache.options.capacity_bytes / 4 {
            self.content_bytes = bytes;
            self.contents.insert(name, content.into());
        }
        Ok(name)
    }

    fn put_stream(&mut self, content: &mut dyn Read) -> Result<Content> {
        self.below.put_stream(content)
    }

    fn take(&mut self, source: &dyn Backend, key: &[u8], value: &Ref) -> Result<()> {
        self.below.take(source, key, value)
    }

    fn commit(self: Box<Self>, changes: &[Change]) -> Result<Vec<Option<Ref>>> {
        let Self { cache, below, contents, .. } = *self;
        // In one order with the batches of other threads, so that the last one below is the last one
        // here.
        let _turn = cache.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let result = below.commit(changes);
        let since_ns = cache.now_ns();
        for change in changes {
            let content = match change.to {
                To::Set { name, .. } | To::Restore(Ref { name, .. }) => contents.get(&name),
                To::Delete => None,
            };
            match content {
                Some(content) if result.is_ok() && cache.fits(&change.key, content) => {
                    let entry = Entry { content: Arc::clone(content), value: None, since_ns };
                    cache.entries.insert(change.key.clone(), entry);
                }
                // Not known, or known to be other than we thought.
                _ => drop(cache.entries.remove(&change.key)),
            }
        }
        result
    }
}
