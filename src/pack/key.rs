//! Keys: a space and bytes.

use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM, check_key};
use std::borrow::Cow;
use std::fmt;

/// What an entry is found by: 1 to 4,096 bytes in one of three spaces.
///
/// Text and bytes convert to a *path*: relative, parts separated by `/`, none of them empty, `.`
/// or `..`, no NUL. Only paths are listed and extracted as files. A *storage* key may be any bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    space: u8,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Key<'a> {
    /// A key of the given space; it is checked where it is used.
    #[must_use]
    pub fn new(space: u8, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { space, bytes: bytes.into() }
    }

    /// An archive path.
    #[must_use]
    pub fn path(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::new(SPACE_PATH, bytes)
    }

    /// A storage's key.
    #[must_use]
    pub fn storage(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::new(SPACE_STORAGE, bytes)
    }

    /// A key of attestations and of what the system keeps for itself.
    #[must_use]
    pub fn system(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::new(SPACE_SYSTEM, bytes)
    }

    /// The space.
    #[must_use]
    pub fn space(&self) -> u8 {
        self.space
    }

    /// The key within its space.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Space byte and key: the order of the map.
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self.space, &self.bytes)
    }

    /// Holds the key to the rules of its space.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub fn check(&self) -> Result<()> {
        check_key(self.space, &self.bytes).map_err(|rule| {
            let what = format!("invalid key \"{}\": {}", self.bytes.escape_ascii(), rule.demand());
            let hint =
                "a path is relative, 1 to 4096 bytes long, its parts are not empty, `.` or `..`";
            Error::new(ErrorKind::Usage, what).hinting(hint)
        })
    }
}

/// Space byte and key: the order of the map.
pub(crate) fn encode(space: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(space);
    out.extend_from_slice(key);
    out
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.bytes).escape_debug())
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(path: &'a str) -> Self {
        Self::path(path.as_bytes())
    }
}

impl<'a> From<&'a String> for Key<'a> {
    fn from(path: &'a String) -> Self {
        Self::path(path.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(path: &'a [u8]) -> Self {
        Self::path(path)
    }
}

impl<'a> From<&'a Vec<u8>> for Key<'a> {
    fn from(path: &'a Vec<u8>) -> Self {
        Self::path(path.as_slice())
    }
}

impl<'a> From<&'a Key<'_>> for Key<'a> {
    fn from(key: &'a Key<'_>) -> Self {
        Self { space: key.space, bytes: Cow::Borrowed(&key.bytes) }
    }
}
