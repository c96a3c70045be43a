//! What a place for values must do: the contract below [`super::Storage`].

use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Content;
use crate::hash::Hash;
use crate::refs::{Change, KeyIter, Ref, RefIter, Token};
use crate::store::ContentStore;
use std::fmt;
use std::io::Read;

/// A content to read from its beginning.
pub type ValueReader<'a> = Box<dyn Read + Send + 'a>;

/// Values under keys, in some place. Shared by threads as it is; `tests/storage.rs` holds every
/// backend to the same contract.
///
/// Keys are 1 to 4,096 bytes, any bytes ([`ErrorKind::InvalidKey`]). Errors of reading are
/// [`ErrorKind::Corrupt`] for what is damaged, [`ErrorKind::Missing`] for a key whose content is
/// gone, [`ErrorKind::Io`].
pub trait Backend: Send + Sync + fmt::Debug {
    /// The word that a configuration has for it: `file`, `database`, `pack`, `cache`.
    fn kind(&self) -> &'static str;

    /// What `key` stands for, without its content; `None` if it is not there.
    ///
    /// # Errors
    /// See [`Backend`].
    fn stat(&self, key: &[u8]) -> Result<Option<Ref>>;

    /// The content under `key`; `None` if the key is not there. Never bytes that were not checked.
    ///
    /// # Errors
    /// See [`Backend`]; [`ErrorKind::Limit`] for one that is too long to be held in memory.
    fn retrieve(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The same, to be read in bounded memory.
    ///
    /// # Errors
    /// See [`Backend`].
    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>>;

    /// Begins a batch. Nothing is done before something is put.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    fn begin(&self) -> Result<Box<dyn Transaction + '_>>;

    /// Keys that begin with `prefix` and are greater than `after`, in order.
    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_>;

    /// The same, with what they stand for.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_>;

    /// Calls `each` with all keys as they were at one moment, in order, and gives the token of that
    /// moment.
    ///
    /// # Errors
    /// See [`Backend`]; an error of `each` ends it.
    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token>;

    /// Says which state this is in: see [`Token`].
    ///
    /// # Errors
    /// See [`Backend`].
    fn token(&self) -> Result<Token>;

    /// The store that holds the contents, if they are in one that others may share.
    fn content(&self) -> Option<&ContentStore> {
        None
    }
}

/// A batch under way: contents first, then what keys stand for them, all at once.
///
/// Dropping it gives it up.
pub trait Transaction: Send {
    /// Takes a content and gives its name.
    ///
    /// # Errors
    /// [`ErrorKind::Durability`], [`ErrorKind::NoSpace`], [`ErrorKind::ReadOnly`], and
    /// [`ErrorKind::Locked`] if another writer did not end in time.
    fn put(&mut self, content: &[u8]) -> Result<Hash>;

    /// Takes a content of any length in bounded memory.
    ///
    /// # Errors
    /// As [`Transaction::put`]; an error of `content` is [`ErrorKind::Io`].
    fn put_stream(&mut self, content: &mut dyn Read) -> Result<Content>;

    /// Takes the content that `key` of another backend stands for, without reading it where that
    /// can be.
    ///
    /// # Errors
    /// As [`Transaction::put`] and as reading the other one.
    fn take(&mut self, source: &dyn Backend, key: &[u8], value: &Ref) -> Result<()> {
        let Some(mut reader) = source.reader(key)? else {
            return Err(changed_meanwhile(key));
        };
        match self.put_stream(&mut reader)?.name == value.name {
            true => Ok(()),
            false => Err(changed_meanwhile(key)),
        }
    }

    /// Makes durable all that was taken, then makes the changes: all or none. Every content that
    /// they name was taken in this batch. Gives for each what its key stood for before.
    ///
    /// # Errors
    /// As [`Transaction::put`], and [`ErrorKind::RefConflict`] if an expectation does not hold:
    /// nothing was changed then.
    fn commit(self: Box<Self>, changes: &[Change]) -> Result<Vec<Option<Ref>>>;
}

fn changed_meanwhile(key: &[u8]) -> Error {
    let what = format!("the key \"{}\" was changed while it was copied", key.escape_ascii());
    Error::new(ErrorKind::RefConflict, what).hinting("copy it again")
}

/// A key whose content is not there.
pub(super) fn missing(key: &[u8], value: &Ref) -> Error {
    let (key, name) = (key.escape_ascii(), value.name);
    let what = format!("the content {name} of the key \"{key}\" is not in the content store");
    Error::new(ErrorKind::Missing, what).hinting(
        "store the value again, restore it from a backup, or delete the key; `pefc verify` of the content store lists damage",
    )
}
