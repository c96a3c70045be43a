//! Refs: which content a key stands for.
//!
//! A *ref* is a key, the name of a content, its size and two times. A [`RefStore`] keeps refs and
//! changes them by compare-and-swap, all of a batch or nothing, durably. It does not know contents:
//! whoever sets a ref has made sure that the content is stored and durable.
//!
//! | store | keeps them in | |
//! |---|---|---|
//! | [`FileRefs`] | one small text file a key | readable with `ls` and `cat` |
//! | [`SqliteRefs`] | one table of a SQLite database (feature `sqlite`) | usable from the shell `sqlite3` |
//!
//! `spec/refs.md` says how refs lie on disk. This layer must not know contents, packs or storages.

mod file;
mod name;
#[cfg(feature = "sqlite")]
mod sqlite;
mod text;

pub use file::{FileRefs, FileRefsOptions};
#[cfg(feature = "sqlite")]
pub use sqlite::{ImportReport, SqliteOptions, SqliteRefs, TakeOver};

use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use std::fmt;

/// Longest key, in bytes. The shortest has one.
pub const KEY_BYTES_MAX: usize = 4096;

/// How long a writer waits for another one, in milliseconds, unless options say otherwise.
pub const WAIT_MS_DEFAULT: u64 = 30_000;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ref {
    /// Name of the content.
    pub name: Hash,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When the key came to be, nanoseconds since 1970. Overwriting keeps it.
    pub created_ns: i64,
    /// When it was last set, nanoseconds since 1970.
    pub updated_ns: i64,
}

/// What a key must stand for, or its change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Whatever it is.
    #[default]
    Any,
    /// The key must not be there.
    Absent,
    /// The key must be there, whatever it stands for.
    Present,
    /// The key must stand for this content.
    Is(Hash),
}

impl Expect {
    /// Whether `found` is as expected.
    #[must_use]
    pub fn holds(&self, found: Option<&Ref>) -> bool {
        match (self, found) {
            (Self::Any, _) | (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Is(name), Some(found)) => found.name == *name,
            _ => false,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Absent => f.write_str("no value"),
            Self::Present => f.write_str("a value"),
            Self::Is(name) => write!(f, "content {name}"),
        }
    }
}

/// What a key shall stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// This content. The key's `created_ns` is kept, `updated_ns` is now.
    Set {
        /// Name of the content.
        name: Hash,
        /// Its length in bytes.
        size_bytes: u64,
    },
    /// This ref as it is, times included: for copies and for restoring a backup.
    Restore(Ref),
    /// Nothing: the key shall not be there. A key that isn't stays so.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Vec<u8>,
    /// What it must stand for before.
    pub expect: Expect,
    /// What it stands for after.
    pub to: To,
}

impl Change {
    /// Sets `key` whatever it stands for.
    #[must_use]
    pub fn set(key: impl Into<Vec<u8>>, name: Hash, size_bytes: u64) -> Self {
        Self { key: key.into(), expect: Expect::Any, to: To::Set { name, size_bytes } }
    }

    /// Deletes `key` whatever it stands for.
    #[must_use]
    pub fn delete(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), expect: Expect::Any, to: To::Delete }
    }

    /// The same change, refused unless the key is as expected.
    #[must_use]
    pub fn expecting(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// What the key stands for after the change, at `now_ns`, given what it stood for before.
    #[must_use]
    pub fn result(&self, before: Option<&Ref>, now_ns: i64) -> Option<Ref> {
        match self.to {
            To::Set { name, size_bytes } => {
                let created_ns = before.map_or(now_ns, |before| before.created_ns);
                Some(Ref { name, size_bytes, created_ns, updated_ns: now_ns })
            }
            To::Restore(restored) => Some(restored),
            To::Delete => None,
        }
    }
}

/// Says which state a store is in: two equal tokens of one store mean that nothing was changed
/// between them. (Different tokens do not mean that something was.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refs in key order; an error ends them.
pub type RefIter<'a> = Box<dyn Iterator<Item = Result<(Vec<u8>, Ref)>> + Send + 'a>;

/// Keys in order; an error ends them.
pub type KeyIter<'a> = Box<dyn Iterator<Item = Result<Vec<u8>>> + Send + 'a>;

/// A page of keys on the way to whoever lists them, side by side in memory: a piece of memory for each
/// key before it is asked for costs more than finding the key.
#[derive(Debug, Default)]
pub(crate) struct KeyPage {
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
    /// How many were taken.
    taken: usize,
}

impl KeyPage {
    /// Adds the key that `write` appends.
    pub(crate) fn push_with<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> std::result::Result<bool, E>,
    ) -> std::result::Result<bool, E> {
        let was_there = write(&mut self.bytes)?;
        if was_there {
            self.ends.push(self.bytes.len());
        }
        Ok(was_there)
    }

    /// Adds a key.
    #[cfg(feature = "sqlite")]
    pub(crate) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    /// Takes the next key.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let key = self.key(self.taken)?.to_vec();
        self.taken += 1;
        Some(key)
    }

    /// How many keys were added.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The last key.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        self.key(self.len().checked_sub(1)?)
    }

    fn key(&self, number: usize) -> Option<&[u8]> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start..end)
    }
}

/// Keys from pages that grow from the first number of keys to the second: nothing is held between two
/// of them. `read` gives at most so many keys behind the given one.
pub(crate) fn paged_keys<'a>(
    mut after: Option<Vec<u8>>,
    (first, most): (usize, usize),
    read: impl Fn(Option<&[u8]>, usize) -> Result<KeyPage> + Send + 'a,
) -> KeyIter<'a> {
    let mut page = KeyPage::default();
    let (mut count, mut ended) = (first, false);
    Box::new(std::iter::from_fn(move || {
        if let Some(key) = page.pop() {
            return Some(Ok(key));
        }
        if ended {
            return None;
        }
        match read(after.as_deref(), count) {
            Ok(next) => page = next,
            Err(error) => {
                ended = true;
                return Some(Err(error));
            }
        }
        ended = page.len() < count;
        after = page.last().map(<[u8]>::to_vec);
        count = (count * 2).min(most);
        page.pop().map(Ok)
    }))
}

/// Keys and what they stand for.
///
/// Shared by threads, and by processes that open the same place. What [`RefStore::apply`] has
/// returned survives a crash. Keys are ordered by their bytes.
pub trait RefStore: Send + Sync + fmt::Debug {
    /// What `key` stands for; `None` if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`]; [`ErrorKind::Corrupt`] if what is kept under the key is damaged;
    /// [`ErrorKind::Io`].
    fn get(&self, key: &[u8]) -> Result<Option<Ref>>;

    /// Makes all `changes`, or none, and returns once they are durable. Gives for each change what
    /// its key stood for before. Changes of one key are made in order, each seeing the one before.
    ///
    /// # Errors
    /// [`ErrorKind::RefConflict`] if an expectation does not hold: nothing was changed.
    /// [`ErrorKind::Locked`] if another writer did not end in time, [`ErrorKind::ReadOnly`],
    /// [`ErrorKind::NoSpace`]. [`ErrorKind::Durability`]: it is unknown whether the changes were
    /// made; all or none were, and reading tells which.
    fn apply(&self, changes: &[Change]) -> Result<Vec<Option<Ref>>>;

    /// The refs whose key begins with `prefix` (any bytes) and is greater than `after`, in key
    /// order. A ref that another writer changes meanwhile is seen as it was before or after.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_>;

    /// The keys of [`RefStore::scan`], without what they stand for: cheaper where that must be
    /// read one by one.
    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        Box::new(self.scan(prefix, after).map(|found| found.map(|(key, _)| key)))
    }

    /// Calls `each` with all refs as they were at one moment, in key order, and gives the token of
    /// that moment.
    ///
    /// # Errors
    /// As [`RefStore::get`] and [`RefStore::apply`]; an error of `each` ends it.
    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token>;

    /// The token of the state now. Without reading refs.
    ///
    /// # Errors
    /// As [`RefStore::apply`].
    fn token(&self) -> Result<Token>;
}

/// Holds a key to its length.
///
/// # Errors
/// [`ErrorKind::InvalidKey`].
pub fn check_key(key: &[u8]) -> Result<()> {
    let len = key.len();
    match len {
        0 => Err(Error::new(ErrorKind::InvalidKey, "the key is empty")),
        1..=KEY_BYTES_MAX => Ok(()),
        _ => {
            let what = format!("the key \"{}...\" has {len} bytes", key[..32].escape_ascii());
            Err(Error::new(ErrorKind::InvalidKey, what))
        }
    }
}

/// The error of an expectation that does not hold.
#[must_use]
pub fn conflict(key: &[u8], expected: &Expect, actual: Option<&Ref>) -> Error {
    let actual = match actual {
        Some(actual) => format!("content {}", actual.name),
        None => "no value".to_owned(),
    };
    let what = format!(
        "the key \"{}\" was expected to have {expected} and has {actual}; nothing was changed",
        key.escape_ascii()
    );
    Error::new(ErrorKind::RefConflict, what)
}
