//! Sessions: what a writer relies on stays until it is done.

use super::{ContentStore, todo};
use crate::error::Result;
use crate::format::entry::Content;
use crate::hash::Hash;
use std::io::Read;

/// One batch: from its first put to the change of refs.
///
/// Between [`Session::commit`] and [`Session::end`] the caller makes refs name what was put or kept.
/// A ref may be set to a content only in a session that has put or kept that content: nothing else
/// keeps a collection from removing it. Dropping a session gives up what was not committed.
#[derive(Debug)]
pub struct Session {
    store: ContentStore,
}

impl Session {
    /// Puts `content` and gives its name. Stored once, however often it is put and by whomever.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Durability`] or [`crate::ErrorKind::NoSpace`] when a write fails: then this
    /// session is over.
    pub fn put(&mut self, content: &[u8]) -> Result<Hash> {
        Err(todo(self.store.path(), content))
    }

    /// Puts what `content` yields until its end, of any length, in bounded memory.
    ///
    /// # Errors
    /// As [`Session::put`]; an error of `content` is [`crate::ErrorKind::Io`] and ends nothing.
    pub fn put_stream(&mut self, content: impl Read) -> Result<Content> {
        drop(content);
        Err(todo(self.store.path(), ()))
    }

    /// Makes sure that the content named `name` stays while this session lasts, and says whether it
    /// is there. What refs are set to without a put (a copy, a rename, an undo) must be kept first.
    ///
    /// # Errors
    /// As [`Session::put`], and [`crate::ErrorKind::Corrupt`] if every copy is damaged.
    pub fn keep(&mut self, name: &Hash) -> Result<bool> {
        Err(todo(self.store.path(), name))
    }

    /// Puts the content named `name` of another store, and says whether that one has it. Reads
    /// nothing that is here already.
    ///
    /// # Errors
    /// As [`Session::put`], and those of reading the other store.
    pub fn copy_from(&mut self, other: &ContentStore, name: &Hash) -> Result<bool> {
        Err(todo(other.path(), name))
    }

    /// Makes everything that was put or kept so far durable: from now on refs may name it. At most
    /// one sync; none if nothing had to be written. More may be put and committed afterwards.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Durability`] if the disk failed: then refs must not name what was put since
    /// the last commit.
    pub fn commit(&mut self) -> Result<()> {
        Err(todo(self.store.path(), ()))
    }

    /// Ends the session, once refs name what was committed. What was not committed is given up.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] if the end could not be noted: then a collection waits until this
    /// store is closed.
    pub fn end(self) -> Result<()> {
        Err(todo(self.store.path(), ()))
    }
}
