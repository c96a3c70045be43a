//! Many changes at once.

use super::backend::Transaction;
use super::observer::Event;
use super::{Storage, value};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::refs::{Change, Expect, Ref, To, check_key};
use serde::Serialize;
use std::io::Read;

/// Changes of a storage that are made together: all or none, with one sync.
///
/// Nothing is seen by others before [`Batch::commit`]; dropping the batch gives it up. Changes of
/// one key are made in order.
///
/// ```
/// # use pefc::storage::{CacheBackend, CacheOptions, Storage};
/// # let storage = Storage::new("memory", CacheBackend::alone(CacheOptions::default()));
/// let mut batch = storage.batch()?;
/// batch.store("sat/php-10.cnf", b"p cnf 2 1\n1 2 0\n")?;
/// batch.store("sat/php-10.lrat", b"3 1 0 1 2 0\n")?;
/// batch.delete("sat/draft")?;
/// batch.commit()?;
/// # Ok::<(), pefc::Error>(())
/// ```
pub struct Batch<'a> {
    storage: &'a Storage,
    transaction: Box<dyn Transaction + 'a>,
    changes: Vec<Change>,
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(storage: &'a Storage) -> Result<Self> {
        let transaction = storage.backend().begin()?;
        Ok(Self { storage, transaction, changes: Vec::new() })
    }

    /// Puts `content` under `key` and gives its name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::Durability`], [`ErrorKind::NoSpace`],
    /// [`ErrorKind::ReadOnly`], [`ErrorKind::Locked`].
    pub fn store(&mut self, key: impl AsRef<[u8]>, content: &[u8]) -> Result<Hash> {
        self.store_if(key, content, Expect::Any)
    }

    /// The same, but the whole batch is refused unless the key is as expected when it is committed.
    ///
    /// # Errors
    /// As [`Batch::store`].
    pub fn store_if(
        &mut self,
        key: impl AsRef<[u8]>,
        content: &[u8],
        expect: Expect,
    ) -> Result<Hash> {
        check_key(key.as_ref())?;
        let name = self.transaction.put(content)?;
        self.set(key.as_ref(), name, content.len() as u64, expect);
        Ok(name)
    }

    /// Puts what `content` yields until its end, of any length, in bounded memory.
    ///
    /// # Errors
    /// As [`Batch::store`]; an error of `content` is [`ErrorKind::Io`].
    pub fn store_stream(&mut self, key: impl AsRef<[u8]>, content: impl Read) -> Result<Hash> {
        self.store_stream_if(key, content, Expect::Any)
    }

    /// The same, but the whole batch is refused unless the key is as expected when it is committed.
    ///
    /// # Errors
    /// As [`Batch::store_stream`].
    pub fn store_stream_if(
        &mut self,
        key: impl AsRef<[u8]>,
        mut content: impl Read,
        expect: Expect,
    ) -> Result<Hash> {
        check_key(key.as_ref())?;
        let content = self.transaction.put_stream(&mut content)?;
        self.set(key.as_ref(), content.name, content.len, expect);
        Ok(content.name)
    }

    /// Puts a typed value: see [`Storage::store_value`].
    ///
    /// # Errors
    /// As [`Batch::store`]; [`ErrorKind::ValueType`] for a value that has no canonical form.
    pub fn store_value<T: Serialize + ?Sized>(
        &mut self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<Hash> {
        self.store(key, &value::encode(value)?)
    }

    /// Deletes `key`; one that is not there stays so.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`].
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete_if(key, Expect::Any)
    }

    /// The same, but the whole batch is refused unless the key is as expected when it is committed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`].
    pub fn delete_if(&mut self, key: impl AsRef<[u8]>, expect: Expect) -> Result<()> {
        check_key(key.as_ref())?;
        self.changes.push(Change::delete(key.as_ref()).expecting(expect));
        Ok(())
    }

    /// Puts under `key` what `from` has in `source`, times included. Its content is not read where
    /// both share a content store, and not read again where this one has it already.
    ///
    /// # Errors
    /// As [`Batch::store`] and [`Storage::retrieve`]; [`ErrorKind::NotFound`] if it is not there.
    pub fn copy(
        &mut self,
        source: &Storage,
        from: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Ref> {
        check_key(key.as_ref())?;
        let Some(value) = source.stat(&from)? else {
            let what = format!("there is no key \"{}\" to copy", from.as_ref().escape_ascii());
            return Err(Error::new(ErrorKind::NotFound, what));
        };
        self.restore(source, from.as_ref(), key.as_ref(), &value)?;
        Ok(value)
    }

    pub(super) fn restore(
        &mut self,
        source: &Storage,
        from: &[u8],
        key: &[u8],
        value: &Ref,
    ) -> Result<()> {
        self.transaction.take(source.backend(), from, value)?;
        let to = To::Restore(*value);
        self.changes.push(Change { key: key.to_vec(), expect: Expect::Any, to });
        Ok(())
    }

    fn set(&mut self, key: &[u8], name: Hash, size_bytes: u64, expect: Expect) {
        self.changes.push(Change::set(key, name, size_bytes).expecting(expect));
    }

    /// Changes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes all changes, durably, and gives for each what its key stood for before.
    ///
    /// # Errors
    /// [`ErrorKind::RefConflict`] if an expectation does not hold: nothing was changed then. All of
    /// [`Batch::store`].
    pub fn commit(self) -> Result<Vec<Option<Ref>>> {
        if self.changes.is_empty() {
            return Ok(Vec::new());
        }
        let before = self.transaction.commit(&self.changes)?;
        for (change, before) in self.changes.iter().zip(&before) {
            let (storage, key) = (self.storage.name(), change.key.as_slice());
            match change.to {
                To::Set { name, size_bytes } | To::Restore(Ref { name, size_bytes, .. }) => {
                    self.storage.tell(&Event::Stored { storage, key, name, size_bytes });
                }
                To::Delete if before.is_some() => {
                    self.storage.tell(&Event::Deleted { storage, key });
                }
                To::Delete => {}
            }
        }
        Ok(before)
    }
}
