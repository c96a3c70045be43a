//! Files of a store besides segments: their names and texts.

use crate::error::{Error, ErrorKind, Result};

/// A ref store that names contents: what collection starts from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root {
    kind: String,
    location: String,
}

impl Root {
    /// A root of some kind ("file", "sqlite": lower-case letters, digits, `-`) at a location that
    /// means something to whoever reads that kind: a path, a URL. At most 4,096 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub fn new(kind: impl Into<String>, location: impl Into<String>) -> Result<Self> {
        let root = Self { kind: kind.into(), location: location.into() };
        let is_kind = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if root.kind.is_empty() || root.kind.len() > 64 || !root.kind.bytes().all(is_kind) {
            let what = format!("`{}` is no kind of ref store", root.kind.escape_debug());
            return Err(Error::new(ErrorKind::Usage, what));
        }
        if root.location.len() > 4096 {
            return Err(Error::new(ErrorKind::Usage, "the location of a ref store is too long"));
        }
        Ok(root)
    }

    /// What kind of ref store it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }
}
