//! A cache that is a storage by itself.

use super::{CacheBackend, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Content;
use crate::hash::Hash;
use crate::refs::{Change, Ref, check_key, conflict};
use crate::storage::backend::Transaction;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, PoisonError};

impl CacheBackend {
    /// Keys that are there and good, in order. A cache has no order of its own: all are looked at.
    pub(super) fn list(&self, prefix: &[u8], after: Option<&[u8]>) -> Vec<(Vec<u8>, Ref)> {
        let now_ns = self.now_ns();
        let mut found: Vec<(Vec<u8>, Ref)> = self
            .entries
            .iter()
            .filter(|(key, entry)| {
                let behind = after.is_none_or(|after| key.as_slice() > after);
                behind && key.starts_with(prefix) && self.is_fresh(entry, now_ns)
            })
            .filter_map(|(key, entry)| entry.value.map(|value| (key, value)))
            .collect();
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found.dedup_by(|a, b| a.0 == b.0);
        found
    }
}

/// A batch of values that only memory holds.
pub(super) struct MemoryTransaction<'a> {
    cache: &'a CacheBackend,
    contents: HashMap<Hash, Arc<[u8]>>,
}

impl<'a> MemoryTransaction<'a> {
    pub(super) fn new(cache: &'a CacheBackend) -> Self {
        Self { cache, contents: HashMap::new() }
    }

    fn too_long(&self) -> Error {
        let most = self.cache.options.capacity_bytes / super::VALUE_PART;
        let what = format!("the value takes more than {most} bytes, an eighth of the cache");
        Error::new(ErrorKind::Limit, what).hinting("make the cache larger, or store it elsewhere")
    }
}

impl Transaction for MemoryTransaction<'_> {
    fn put(&mut self, content: &[u8]) -> Result<Hash> {
        if !self.cache.fits(&[], content) {
            return Err(self.too_long());
        }
        let name = Hash::of(content);
        self.contents.entry(name).or_insert_with(|| content.into());
        Ok(name)
    }

    fn put_stream(&mut self, content: &mut dyn Read) -> Result<Content> {
        let mut bytes = Vec::new();
        let read = content.take(self.cache.options.capacity_bytes).read_to_end(&mut bytes);
        read.map_err(|error| Error::new(ErrorKind::Io, "reading the content").because(error))?;
        Ok(Content { name: self.put(&bytes)?, len: bytes.len() as u64 })
    }

    fn commit(self: Box<Self>, changes: &[Change]) -> Result<Vec<Option<Ref>>> {
        changes.iter().try_for_each(|change| check_key(&change.key))?;
        let cache = self.cache;
        let _turn = cache.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ns = cache.now_ns();
        let current = |key: &[u8]| -> Option<Ref> {
            let entry = cache.entries.peek(&super::Wanted(key))?;
            entry.value.filter(|_| cache.is_fresh(&entry, now_ns))
        };
        let mut states: BTreeMap<&[u8], Option<Ref>> = BTreeMap::new();
        let mut before = Vec::with_capacity(changes.len());
        for change in changes {
            let value = states.entry(&change.key).or_insert_with(|| current(&change.key));
            if !change.expect.holds(value.as_ref()) {
                return Err(conflict(&change.key, &change.expect, value.as_ref()));
            }
            before.push(*value);
            *value = change.result(value.as_ref(), now_ns);
        }
        let mut entries = Vec::with_capacity(states.len());
        for (key, value) in states {
            let content = value.and_then(|value| self.contents.get(&value.name));
            let entry = match (value, content) {
                (None, _) => None,
                (Some(_), Some(content)) if !cache.fits(key, content) => {
                    return Err(self.too_long());
                }
                (Some(value), Some(content)) => Some((value, Arc::clone(content))),
                (Some(value), None) => return Err(crate::storage::backend::missing(key, &value)),
            };
            entries.push((key, entry));
        }
        for (key, entry) in entries {
            match entry {
                Some((value, content)) => {
                    let entry = Entry { content, value: Some(value), since_ns: now_ns };
                    cache.entries.insert(key.to_vec(), entry);
                }
                None => drop(cache.entries.remove(&super::Wanted(key))),
            }
        }
        Ok(before)
    }
}
