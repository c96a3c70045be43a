//! What is saved, and what is restored into.

use super::restore::missing;
use crate::error::{Error, ErrorKind, Result};
use crate::refs::{Change, Expect, KeyIter, Ref, RefIter, To, Token};
use crate::storage::{Backend, Storage, Transaction, ValueReader};
use crate::store::{ContentStore, Session};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

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

    /// Puts the content of a key into a session of another store, and says whether it is here. Reads
    /// nothing that is there already.
    ///
    /// # Errors
    /// Those of both; [`ErrorKind::Corrupt`] if every copy here is damaged.
    fn copy_to(&self, key: &[u8], value: &Ref, session: &mut Session) -> Result<bool>;

    /// What a key stands for now, to read; `None` if it is not here.
    ///
    /// # Errors
    /// Those of the storage.
    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>>;
}

/// A storage to restore into.
pub trait Target: Source {
    /// Sets keys to refs as they were, with contents taken from `contents`, and deletes the keys that have
    /// none: all or nothing, and durable.
    ///
    /// # Errors
    /// Those of the storage; [`ErrorKind::Missing`] if a content is not in `contents`.
    fn restore(&self, contents: &ContentStore, changes: &[(Vec<u8>, Option<Ref>)]) -> Result<()>;
}

/// Any storage, at a place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Where it is, as text.
    pub location: String,
    /// The storage.
    pub storage: Storage,
}

impl Source for Placed {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn token(&self) -> Result<Token> {
        self.storage.backend().token()
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        self.storage.backend().snapshot(each)
    }

    fn current(&self, key: &[u8]) -> Result<Option<Ref>> {
        self.storage.backend().stat(key)
    }

    fn hold(&self) -> Result<Option<Session>> {
        self.storage.backend().content().map(ContentStore::begin).transpose()
    }

    fn copy_to(&self, key: &[u8], value: &Ref, session: &mut Session) -> Result<bool> {
        if let Some(contents) = self.storage.backend().content() {
            return session.copy_from(contents, &value.name);
        }
        if session.keep(&value.name)? {
            return Ok(true);
        }
        match self.storage.backend().reader(key)? {
            Some(reader) => Ok(session.put_stream(reader)?.name == value.name),
            None => Ok(false),
        }
    }

    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>> {
        self.storage.backend().reader(key)
    }
}

impl Target for Placed {
    fn restore(&self, contents: &ContentStore, changes: &[(Vec<u8>, Option<Ref>)]) -> Result<()> {
        let set = |(key, value): &(Vec<u8>, Option<Ref>)| value.map(|value| (key.clone(), value));
        let saved = Saved { contents, refs: changes.iter().filter_map(set).collect() };
        let mut transaction = self.storage.backend().begin()?;
        for (key, value) in &saved.refs {
            transaction.take(&saved, key, value)?;
        }
        let change = |(key, value): &(Vec<u8>, Option<Ref>)| Change {
            key: key.clone(),
            expect: Expect::Any,
            to: value.map_or(To::Delete, To::Restore),
        };
        let changes: Vec<Change> = changes.iter().map(change).collect();
        transaction.commit(&changes).map(drop)
    }
}

/// Some keys of a snapshot, as a backend to take from.
#[derive(Debug)]
struct Saved<'a> {
    contents: &'a ContentStore,
    refs: BTreeMap<Vec<u8>, Ref>,
}

impl Backend for Saved<'_> {
    fn kind(&self) -> &'static str {
        "snapshot"
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Ref>> {
        Ok(self.refs.get(key).copied())
    }

    fn retrieve(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(value) = self.refs.get(key) else {
            return Ok(None);
        };
        self.contents.get(&value.name)?.map(Some).ok_or_else(|| missing(key, value))
    }

    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>> {
        let Some(value) = self.refs.get(key) else {
            return Ok(None);
        };
        let reader = self.contents.reader(&value.name)?.ok_or_else(|| missing(key, value))?;
        Ok(Some(Box::new(reader)))
    }

    fn begin(&self) -> Result<Box<dyn Transaction + '_>> {
        Err(Error::new(ErrorKind::ReadOnly, "a snapshot is never changed"))
    }

    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        Box::new(self.scan(prefix, after).map(|found| found.map(|(key, _)| key)))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_> {
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let prefix = prefix.to_vec();
        let found = self.refs.range::<[u8], _>((first, Bound::Unbounded));
        let found = found.take_while(move |(key, _)| key.starts_with(&prefix));
        Box::new(found.map(|(key, value)| Ok((key.clone(), *value))))
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        self.refs.iter().try_for_each(|(key, value)| each(key, value))?;
        self.token()
    }

    fn token(&self) -> Result<Token> {
        Ok(Token("never changes".to_owned()))
    }

    fn content(&self) -> Option<&ContentStore> {
        Some(self.contents)
    }
}
