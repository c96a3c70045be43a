//! What is saved, and what is restored into.

use crate::error::Result;

use crate::refs::{Change, Expect, Ref, RefStore, To, Token};
use crate::store::{ContentStore, Session};
use std::fmt;
use std::io::Read;
use std::sync::Arc;

/// A storage to save.
pub trait Source: fmt::Debug {
    /// Where it is, as text. Tokens are compared only between sources of one place.
    fn location(&self) -> String;

    /// The token of its state now, without reading refs.
    ///
    /// # Errors
    /// Those of the storage.
    fn token(&self) -> Result<Token>;

    /// Calls `each` with all refs as they are at one moment, in the order of their keys, and gives the
    /// token of that moment.
    ///
    /// # Errors
    /// Those of the storage, and of `each`.
    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token>;

    /// What `key` stands for now.
    ///
    /// # Errors
    /// Those of the storage.
    fn current(&self, key: &[u8]) -> Result<Option<Ref>>;

    /// Holds contents back from being collected while the session lasts; `None` where nothing is
    /// ever collected.
    ///
    /// # Errors
    /// Those of the storage.
    fn hold(&self) -> Result<Option<Session>>;

    /// Puts the content of a key into a session of another store, and says whether it is here. Reads nothing
    /// that is there already.
    ///
    /// # Errors
    /// Those of both; [`crate::ErrorKind::Corrupt`] if every copy here is damaged.
    fn copy_to(&self, key: &[u8], value: &Ref, session: &mut Session) -> Result<bool>;

    /// The content of a key, to read; `None` if it is not here.
    ///
    /// # Errors
    /// Those of the storage.
    fn reader(&self, key: &[u8], value: &Ref) -> Result<Option<Box<dyn Read + '_>>>;
}

/// A storage to restore into.
pub trait Target: Source {
    /// Sets keys to refs as they were, with contents taken from `contents`, and deletes the keys that have
    /// none: all or nothing, and durable.
    ///
    /// # Errors
    /// Those of the storage; [`crate::ErrorKind::Missing`] if a content is not in `contents`.
    fn restore(&self, contents: &ContentStore, changes: &[(Vec<u8>, Option<Ref>)]) -> Result<()>;
}

/// Refs beside a content store that others may share.
#[derive(Debug, Clone)]
pub struct RefsAndContents {
    /// Where they are, as text.
    pub location: String,
    /// The refs.
    pub refs: Arc<dyn RefStore>,
    /// What they name.
    pub contents: ContentStore,
}

impl Source for RefsAndContents {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn token(&self) -> Result<Token> {
        self.refs.token()
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        self.refs.snapshot(each)
    }

    fn current(&self, key: &[u8]) -> Result<Option<Ref>> {
        self.refs.get(key)
    }

    fn hold(&self) -> Result<Option<Session>> {
        self.contents.begin().map(Some)
    }

    fn copy_to(&self, _key: &[u8], value: &Ref, session: &mut Session) -> Result<bool> {
        session.copy_from(&self.contents, &value.name)
    }

    fn reader(&self, _key: &[u8], value: &Ref) -> Result<Option<Box<dyn Read + '_>>> {
        let reader = self.contents.reader(&value.name)?;
        Ok(reader.map(|reader| Box::new(reader) as Box<dyn Read>))
    }
}

impl Target for RefsAndContents {
    fn restore(&self, contents: &ContentStore, changes: &[(Vec<u8>, Option<Ref>)]) -> Result<()> {
        let mut session = self.contents.begin()?;
        for (key, value) in changes {
            if let Some(value) = value
                && !session.copy_from(contents, &value.name)?
            {
                return Err(super::restore::missing(key, value));
            }
        }
        session.commit()?;
        let change = |(key, value): &(Vec<u8>, Option<Ref>)| Change {
            key: key.clone(),
            expect: Expect::Any,
            to: value.map_or(To::Delete, To::Restore),
        };
        let changes: Vec<Change> = changes.iter().map(change).collect();
        self.refs.apply(&changes)?;
        session.end()
    }
}
