//! The backend `cache`: values in memory, alone or in front of another backend.

mod alone;
mod over;

use super::backend::{Backend, Transaction, ValueReader};
use crate::disk::Machine;
use crate::error::Result;
use crate::refs::{KeyIter, Ref, RefIter, Token, check_key};
use alone::MemoryTransaction;
use over::WriteThrough;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What an entry takes beside its key and content, about.
const ENTRY_BYTES: u64 = 128;

/// The cache is cut in so many parts, each with a lock of its own.
const SHARDS: usize = 4;

/// A value is kept if it takes no more than this part of the whole: half a shard.
const VALUE_PART: u64 = 2 * SHARDS as u64;

/// How to make a cache.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// For the clock.
    pub machine: Machine,
    /// How long a value is good, in milliseconds; `None` for ever. By default one hour.
    pub ttl_ms: Option<u64>,
    /// Keys, contents and what keeping them takes: at most so many bytes. What was not read for
    /// long goes first. By default 256 MiB.
    pub capacity_bytes: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { machine: Machine::real(), ttl_ms: Some(3_600_000), capacity_bytes: 256 << 20 }
    }
}

/// How a cache does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Values that were read from memory.
    pub hit_count: u64,
    /// Reads that found nothing in memory.
    pub miss_count: u64,
    /// Of them, those that found a value that was too old.
    pub expired_count: u64,
    /// Values that were read from the backend below: fewer than misses, since threads that miss the
    /// same key at the same time wait for one of them.
    pub load_count: u64,
    /// Values in memory now, those too old included.
    pub entry_count: u64,
    /// Bytes that they take.
    pub entry_bytes: u64,
}

/// Values in memory.
///
/// *Alone* it is a storage that forgets: what is too old, what no longer fits, and everything with
/// the process. *Over* another backend it keeps what was read or written: writing goes through, and
/// returns when it is durable below. Lists, times and compare-and-swap are always those of the
/// backend below; a value that *another process* changes may be read as it was for as long as
/// [`CacheOptions::ttl_ms`]. Within the process no read returns what a finished batch has replaced.
#[derive(Debug)]
pub struct CacheBackend {
    below: Option<Arc<dyn Backend>>,
    options: CacheOptions,
    entries: Cache<Vec<u8>, Entry, ByBytes>,
    /// Held while entries are changed together with what is below.
    writing: Mutex<()>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    expired: AtomicU64,
    loads: AtomicU64,
    tokens: AtomicU64,
}

/// A value in memory. A clone shares the content: it is the only piece of memory apart.
#[derive(Debug, Clone)]
struct Entry {
    content: Arc<[u8]>,
    /// What the key stands for; known to a cache that is alone.
    value: Option<Ref>,
    since_ns: i64,
}

impl Entry {
    /// Whether it is this very one, and not another with the same content.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.content, &other.content) && self.since_ns == other.since_ns
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Vec<u8>, Entry> for ByBytes {
    fn weight(&self, key: &Vec<u8>, entry: &Entry) -> u64 {
        weight(key, &entry.content)
    }
}

fn weight(key: &[u8], content: &[u8]) -> u64 {
    ENTRY_BYTES + key.len() as u64 + content.len() as u64
}

/// A key to look up, which is not copied for that.
#[derive(Hash)]
struct Wanted<'a>(&'a [u8]);

impl Equivalent<Vec<u8>> for Wanted<'_> {
    fn equivalent(&self, key: &Vec<u8>) -> bool {
        self.0 == key.as_slice()
    }
}

impl CacheBackend {
    /// A storage in memory.
    #[must_use]
    pub fn alone(options: CacheOptions) -> Self {
        Self::new(None, options)
    }

    /// A cache in front of `below`.
    #[must_use]
    pub fn over(below: Arc<dyn Backend>, options: CacheOptions) -> Self {
        Self::new(Some(below), options)
    }

    fn new(below: Option<Arc<dyn Backend>>, options: CacheOptions) -> Self {
        use quick_cache::{DefaultHashBuilder, OptionsBuilder, sync::DefaultLifecycle};
        let about = usize::try_from(options.capacity_bytes / 1024).unwrap_or(usize::MAX);
        let about = about.clamp(64, 1 << 20);
        let built = OptionsBuilder::new()
            .estimated_items_capacity(about)
            .weight_capacity(options.capacity_bytes)
            .shards(SHARDS)
            .build();
        let entries = match built {
            Ok(built) => Cache::with_options(
                built,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            Err(_) => Cache::with_weighter(about, options.capacity_bytes, ByBytes),
        };
        Self { below, options, entries, writing: Mutex::new(()), counts: Counts::default() }
    }

    /// How it does.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hit_count: count(&self.counts.hits),
            miss_count: count(&self.counts.misses),
            expired_count: count(&self.counts.expired),
            load_count: count(&self.counts.loads),
            entry_count: self.entries.len() as u64,
            entry_bytes: self.entries.weight(),
        }
    }

    /// Forgets everything that is in memory. Over another backend nothing is lost.
    pub fn clear(&self) {
        self.entries.clear();
    }

    fn now_ns(&self) -> i64 {
        self.options.machine.clock.now_ns()
    }

    /// Whether a value is still good. One from the future is not: a clock was set back, and nobody
    /// knows how old it is.
    fn is_fresh(&self, entry: &Entry, now_ns: i64) -> bool {
        let age_ns = now_ns.checked_sub(entry.since_ns).and_then(|age| u64::try_from(age).ok());
        match (self.options.ttl_ms, age_ns) {
            (None, _) => true,
            (Some(ttl_ms), Some(age_ns)) => age_ns / 1_000_000 < ttl_ms,
            (Some(_), None) => false,
        }
    }

    /// The entry of a key, if it is there and good.
    fn fresh(&self, key: &[u8]) -> Option<Entry> {
        match self.entries.get(&Wanted(key)) {
            Some(entry) if self.is_fresh(&entry, self.now_ns()) => {
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                Some(entry)
            }
            Some(old) => {
                // Only this one: another thread may have put a new one.
                self.entries.remove_if(&Wanted(key), |entry| entry.is(&old));
                self.counts.expired.fetch_add(1, Ordering::Relaxed);
                self.counts.misses.fetch_add(1, Ordering::Relaxed);
                None
            }
            None => {
                self.counts.misses.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Whether a value of this length is kept.
    fn fits(&self, key: &[u8], content: &[u8]) -> bool {
        weight(key, content) <= self.options.capacity_bytes / VALUE_PART
    }
}

impl Backend for CacheBackend {
    fn kind(&self) -> &'static str {
        "cache"
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Ref>> {
        check_key(key)?;
        match &self.below {
            Some(below) => below.stat(key),
            None => Ok(self.fresh(key).and_then(|entry| entry.value)),
        }
    }

    fn retrieve(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        if let Some(entry) = self.fresh(key) {
            return Ok(Some(entry.content.to_vec()));
        }
        match &self.below {
            Some(below) => self.load(&**below, key),
            None => Ok(None),
        }
    }

    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>> {
        check_key(key)?;
        match (self.fresh(key), &self.below) {
            (Some(entry), _) => Ok(Some(Box::new(Cursor::new(entry.content)))),
            // A stream may be of any length: it passes by.
            (None, Some(below)) => below.reader(key),
            (None, None) => Ok(None),
        }
    }

    fn begin(&self) -> Result<Box<dyn Transaction + '_>> {
        Ok(match &self.below {
            Some(below) => Box::new(WriteThrough::new(self, below.begin()?)),
            None => Box::new(MemoryTransaction::new(self)),
        })
    }

    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        match &self.below {
            Some(below) => below.keys(prefix, after),
            None => Box::new(self.scan(prefix, after).map(|found| found.map(|(key, _)| key))),
        }
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_> {
        match &self.below {
            Some(below) => below.scan(prefix, after),
            None => Box::new(self.list(prefix, after).into_iter().map(Ok)),
        }
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        if let Some(below) = &self.below {
            return below.snapshot(each);
        }
        let _still = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (key, value) in self.list(b"", None) {
            each(&key, &value)?;
        }
        self.token()
    }

    fn token(&self) -> Result<Token> {
        match &self.below {
            Some(below) => below.token(),
            // Time alone changes it: no two states are known to be the same.
            None => {
                let count = self.counts.tokens.fetch_add(1, Ordering::Relaxed);
                Ok(Token(format!("{:p}-{}-{count}", self, self.now_ns())))
            }
        }
    }

    fn content(&self) -> Option<&crate::store::ContentStore> {
        self.below.as_ref().and_then(|below| below.content())
    }
}
