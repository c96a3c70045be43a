//! Storages: values under keys, in one of four places.
//!
//! A [`Storage`] stores, retrieves, deletes and lists. What is below it is a [`Backend`]:
//!
//! | backend | keys are in | contents are in |
//! |---|---|---|
//! | [`FileBackend`] | small text files | a [`ContentStore`](crate::store::ContentStore), which storages share |
//! | [`DatabaseBackend`] | SQLite (feature `sqlite`) | the same |
//! | [`PackBackend`] | the log of one pack file | the same pack file |
//! | [`CacheBackend`] | memory | memory, or the backend that it is in front of |
//!
//! All keep one contract. What a call has returned is durable (in memory: until it is too old). A
//! key is 1 to 4,096 bytes, any bytes: `%`, `*`, `..` and NUL are just characters. An absent key is
//! `None`, a damaged one an error. Lists are in the order of the keys' bytes and exact on any
//! prefix. Nothing is returned that was not checked against its name.
//!
//! ```
//! use pefc::storage::{FileBackend, Storage};
//! use pefc::store::{ContentStore, StoreOptions};
//! # let dir = tempfile::tempdir()?;
//! # let data = dir.path();
//!
//! let content = ContentStore::open(data.join("content"), StoreOptions::default())?;
//! let backend = FileBackend::open(data.join("storage"), content, Default::default())?;
//! let storage = Storage::new("file", backend);
//!
//! storage.store("proofs/one", b"qed")?;
//! assert_eq!(storage.retrieve("proofs/one")?.as_deref(), Some(&b"qed"[..]));
//! assert_eq!(storage.retrieve("proofs/two")?, None);
//!
//! storage.store_value("state/steps", &vec![1, 2, 3])?;
//! let steps: Option<Vec<u32>> = storage.retrieve_value("state/steps")?;
//! assert_eq!(steps, Some(vec![1, 2, 3]));
//!
//! let keys: Vec<Vec<u8>> = storage.list_keys("state/").collect::<Result<_, _>>()?;
//! assert_eq!(keys, [b"state/steps"]);
//! assert!(storage.delete("proofs/one")?);
//! assert!(!storage.delete("proofs/one")?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod batch;
mod cache;
mod content;
mod observer;
mod pack;
pub mod value;

pub use crate::refs::{Expect, KeyIter, Ref, RefIter, Token};
pub use backend::{Backend, Transaction, ValueReader};
pub use batch::Batch;
pub use cache::{CacheBackend, CacheOptions, CacheStats};
pub use content::{ContentBackend, FILE_ROOT, FileBackend, mark_root};
#[cfg(feature = "sqlite")]
pub use content::{DATABASE_ROOT, DatabaseBackend};
pub use observer::{Event, Observer};
pub use pack::{PACK_FILE, PackBackend, PackBackendOptions};

use crate::error::{ErrorKind, Result};
use crate::hash::Hash;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::sync::Arc;

/// Keys that [`Storage::copy_all`] copies in one batch.
const COPY_BATCH_KEYS: usize = 1000;

/// Values under keys. A clone is the same storage; threads share it.
#[derive(Debug, Clone)]
pub struct Storage {
    name: Arc<str>,
    backend: Arc<dyn Backend>,
    observers: Vec<Arc<dyn Observer>>,
}

impl Storage {
    /// A storage over `backend`, under the name that observers are told.
    pub fn new(name: impl Into<Arc<str>>, backend: impl Backend + 'static) -> Self {
        Self::shared(name, Arc::new(backend))
    }

    /// The same over a backend that others use too.
    pub fn shared(name: impl Into<Arc<str>>, backend: Arc<dyn Backend>) -> Self {
        Self { name: name.into(), backend, observers: Vec::new() }
    }

    /// The same storage, watched.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is below.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Puts `content` under `key`, durably, and gives the content's name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`]; [`ErrorKind::Locked`] if another writer did not end in time;
    /// [`ErrorKind::NoSpace`], [`ErrorKind::ReadOnly`]; [`ErrorKind::Durability`] if the disk failed:
    /// then it is unknown whether the key was set, and reading tells.
    pub fn store(&self, key: impl AsRef<[u8]>, content: &[u8]) -> Result<Hash> {
        self.store_if(key, content, Expect::Any)
    }

    /// The same, if the key is as expected: compare-and-swap.
    ///
    /// # Errors
    /// As [`Storage::store`]; [`ErrorKind::RefConflict`] if it is not: nothing was changed.
    pub fn store_if(&self, key: impl AsRef<[u8]>, content: &[u8], expect: Expect) -> Result<Hash> {
        let mut batch = self.batch()?;
        let name = batch.store_if(key, content, expect)?;
        batch.commit()?;
        Ok(name)
    }

    /// Puts what `content` yields until its end, of any length, in bounded memory.
    ///
    /// # Errors
    /// As [`Storage::store`]; an error of `content` is [`ErrorKind::Io`] and changes nothing.
    pub fn store_stream(&self, key: impl AsRef<[u8]>, content: impl Read) -> Result<Hash> {
        let mut batch = self.batch()?;
        let name = batch.store_stream(key, content)?;
        batch.commit()?;
        Ok(name)
    }

    /// Puts a typed value, in canonical CBOR ([`value`]): the same value always gets the same name.
    ///
    /// # Errors
    /// As [`Storage::store`]; [`ErrorKind::ValueType`] for a value that has no canonical form.
    pub fn store_value<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<Hash> {
        self.store(key, &value::encode(value)?)
    }

    /// The content under `key`; `None` if the key is not there.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`]; [`ErrorKind::Corrupt`] if the ref or the content is damaged;
    /// [`ErrorKind::Missing`] if the content is gone; [`ErrorKind::Limit`] if it is too long to be
    /// held in memory; [`ErrorKind::Io`].
    pub fn retrieve(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        let found = self.watch(key, self.backend.retrieve(key))?;
        if let Some(content) = &found {
            let size_bytes = content.len() as u64;
            self.tell(&Event::Retrieved { storage: &self.name, key, size_bytes });
        }
        Ok(found)
    }

    /// The typed value under `key`; `None` if the key is not there.
    ///
    /// # Errors
    /// As [`Storage::retrieve`]; [`ErrorKind::ValueType`] if the content is no value of this type.
    pub fn retrieve_value<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>> {
        self.retrieve(key)?.map(|content| value::decode(&content)).transpose()
    }

    /// The content under `key`, to read in bounded memory; `None` if the key is not there.
    ///
    /// # Errors
    /// As [`Storage::retrieve`].
    pub fn reader(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueReader<'_>>> {
        self.watch(key.as_ref(), self.backend.reader(key.as_ref()))
    }

    /// What `key` stands for: name and size of its content, when it came to be and was last set.
    ///
    /// # Errors
    /// As [`Storage::retrieve`].
    pub fn stat(&self, key: impl AsRef<[u8]>) -> Result<Option<Ref>> {
        self.watch(key.as_ref(), self.backend.stat(key.as_ref()))
    }

    /// Deletes `key` and says whether it was there.
    ///
    /// # Errors
    /// As [`Storage::store`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.delete_if(key, Expect::Any)
    }

    /// The same, if the key is as expected.
    ///
    /// # Errors
    /// As [`Storage::store_if`].
    pub fn delete_if(&self, key: impl AsRef<[u8]>, expect: Expect) -> Result<bool> {
        let mut batch = self.batch()?;
        batch.delete_if(key, expect)?;
        Ok(batch.commit()?.iter().any(Option::is_some))
    }

    /// The keys that begin with `prefix` (any bytes; all keys, if it is empty), in order. Ends after
    /// its first error.
    pub fn list_keys(&self, prefix: impl AsRef<[u8]>) -> KeyIter<'_> {
        self.backend.keys(prefix.as_ref(), None)
    }

    /// The same, with what they stand for.
    pub fn scan(&self, prefix: impl AsRef<[u8]>) -> RefIter<'_> {
        self.backend.scan(prefix.as_ref(), None)
    }

    /// Begins a batch: changes that are made together, or not at all.
    ///
    /// # Errors
    /// As [`Storage::store`].
    pub fn batch(&self) -> Result<Batch<'_>> {
        Batch::new(self)
    }

    /// Copies a key of another storage to the same key here, with its times, and says whether it was
    /// there. Reads no content where both share a content store.
    ///
    /// # Errors
    /// As [`Storage::store`] and [`Storage::retrieve`].
    pub fn copy_from(&self, source: &Self, key: impl AsRef<[u8]>) -> Result<bool> {
        let Some(value) = source.stat(&key)? else {
            return Ok(false);
        };
        let mut batch = self.batch()?;
        batch.restore(source, key.as_ref(), key.as_ref(), &value)?;
        batch.commit()?;
        Ok(true)
    }

    /// Copies all keys of another storage that begin with `prefix`, in batches of a thousand, and
    /// says how many. Each is copied as it is when its turn comes; keys that are here only stay.
    ///
    /// # Errors
    /// As [`Storage::copy_from`]. What was copied before stays.
    pub fn copy_all(&self, source: &Self, prefix: impl AsRef<[u8]>) -> Result<u64> {
        let mut keys = source.scan(prefix);
        let mut count = 0;
        loop {
            let part: Vec<_> = keys.by_ref().take(COPY_BATCH_KEYS).collect::<Result<_>>()?;
            if part.is_empty() {
                return Ok(count);
            }
            let mut batch = self.batch()?;
            for (key, value) in &part {
                batch.restore(source, key, key, value)?;
            }
            batch.commit()?;
            count += part.len() as u64;
        }
    }

    /// Tells everyone who watches.
    pub fn tell(&self, event: &Event<'_>) {
        self.observers.iter().for_each(|observer| observer.observe(event));
    }

    /// Tells of damage that reading found.
    fn watch<T>(&self, key: &[u8], result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && matches!(
                error.kind(),
                ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Truncated
            )
        {
            let kind = error.kind();
            self.tell(&Event::Corrupted { storage: &self.name, key, kind });
        }
        result
    }
}
