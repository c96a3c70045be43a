//! Reading and seeking in one object, however long.

use super::Pack;
use super::units::{Chunks, Stored};
use crate::error::{Error, Result};
use crate::format::{FormatError, Rule};
use crate::hash::{GROUP_BYTES, Hash, group_value};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// The content of one object, to read and seek in.
///
/// Holds one 256 KiB group and one chunk at a time. Every group is checked against the object's
/// name before a byte of it is given out, so a range can be trusted without reading the rest.
#[derive(Debug)]
pub struct ObjectReader<'p> {
    pack: Held<'p>,
    name: Hash,
    source: Source,
    position: u64,
}

/// The pack that is read: someone else's, or shared with others.
#[derive(Debug)]
enum Held<'p> {
    Borrowed(&'p Pack),
    Shared(Arc<Pack>),
}

impl std::ops::Deref for Held<'_> {
    type Target = Pack;

    fn deref(&self) -> &Pack {
        match self {
            Self::Borrowed(pack) => pack,
            Self::Shared(pack) => pack,
        }
    }
}

#[derive(Debug)]
enum Source {
    Whole(Vec<u8>),
    Chunked(Chunked),
}

#[derive(Debug)]
struct Chunked {
    chunks: Chunks,
    /// Where each chunk begins, and the end.
    starts: Vec<u64>,
    /// Chunk number and bytes of the chunk read last.
    chunk: Option<(usize, Vec<u8>)>,
    /// Group number and checked bytes of the group read last.
    group: Option<(u64, Vec<u8>)>,
}

impl<'p> ObjectReader<'p> {
    pub(super) fn new(pack: &'p Pack, name: Hash, stored: Stored) -> Self {
        Self::over(Held::Borrowed(pack), name, stored)
    }

    fn over(pack: Held<'p>, name: Hash, stored: Stored) -> Self {
        let source = match stored {
            Stored::Bytes(bytes) => Source::Whole(bytes),
            Stored::List(chunks) => {
                let mut starts = vec![0];
                let mut end = 0_u64;
                for chunk in &chunks.list().chunks {
                    end += chunk.len; // they add up to the object's length: checked by the decoder
                    starts.push(end);
                }
                Source::Chunked(Chunked { chunks, starts, chunk: None, group: None })
            }
        };
        Self { pack, name, source, position: 0 }
    }

    /// The object named `name`, from a pack that the reader keeps open.
    pub(crate) fn shared(pack: &Arc<Pack>, name: &Hash) -> Result<Option<ObjectReader<'static>>> {
        let stored = pack.stored(name)?;
        Ok(stored.map(|stored| ObjectReader::over(Held::Shared(Arc::clone(pack)), *name, stored)))
    }

    /// Length of the object in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.source {
            Source::Whole(bytes) => bytes.len() as u64,
            Source::Chunked(chunked) => chunked.chunks.list().len,
        }
    }

    /// Whether it is the empty object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &Hash {
        &self.name
    }

    /// The checked bytes from the current position on, up to the end of their group; empty at the
    /// end of the object.
    fn fill(&mut self) -> Result<&[u8]> {
        match &mut self.source {
            Source::Whole(bytes) => {
                let at = usize::try_from(self.position).unwrap_or(usize::MAX).min(bytes.len());
                Ok(&bytes[at..])
            }
            Source::Chunked(chunked) => {
                let len = chunked.chunks.list().len;
                if self.position >= len {
                    return Ok(&[]);
                }
                let group = self.position / GROUP_BYTES;
                let within = usize::try_from(self.position % GROUP_BYTES).unwrap_or(usize::MAX);
                let bytes = chunked.group(&self.pack, group)?;
                Ok(bytes.get(within..).unwrap_or(&[]))
            }
        }
    }

    /// Hands the rest of the object to `take`, part by part, each checked before.
    ///
    /// # Errors
    /// As [`Pack::get`], and what `take` returns.
    pub fn copy_to(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let start = self.position;
        loop {
            let part = self.fill()?;
            if part.is_empty() {
                return Ok(self.position - start);
            }
            let len = part.len() as u64;
            take(part)?;
            self.position += len;
        }
    }
}

impl Chunked {
    /// The bytes of a group, checked against the object's name.
    fn group(&mut self, pack: &Pack, number: u64) -> Result<&[u8]> {
        if self.group.as_ref().is_none_or(|(loaded, _)| *loaded != number) {
            let mut bytes = self.group.take().map_or_else(Vec::new, |(_, buffer)| buffer);
            bytes.clear();
            let list = self.chunks.clone();
            let start = number * GROUP_BYTES;
            let end = (start + GROUP_BYTES).min(list.list().len);
            let mut at = start;
            while at < end {
                let index = self.starts.partition_point(|chunk| *chunk <= at) - 1;
                let chunk_start = self.starts[index];
                let chunk = self.chunk(pack, index)?;
                let from = usize::try_from(at - chunk_start).unwrap_or(usize::MAX);
                let to = usize::try_from(end - chunk_start).unwrap_or(usize::MAX).min(chunk.len());
                bytes.extend_from_slice(&chunk[from..to]);
                at = chunk_start + to as u64;
            }
            let expected = usize::try_from(number).ok().and_then(|n| list.list().groups.get(n));
            if expected != Some(&group_value(number, &bytes)) {
                return Err(pack.error(FormatError::new(Rule::ChunkList, 0)));
            }
            self.group = Some((number, bytes));
        }
        Ok(self.group.as_ref().map_or(&[], |(_, bytes)| bytes))
    }

    fn chunk(&mut self, pack: &Pack, index: usize) -> Result<&[u8]> {
        if self.chunk.as_ref().is_none_or(|(loaded, _)| *loaded != index) {
            let chunk = self.chunks.list().chunks[index];
            let bytes = match pack.stored(&chunk.name)? {
                Some(Stored::Bytes(bytes)) => bytes,
                Some(Stored::List(_)) => {
                    return Err(pack.error(FormatError::new(Rule::ChunkList, 0)));
                }
                None => {
                    return Err(
                        pack.error(Error::missing(&chunk.name, "though a chunk list names it"))
                    );
                }
            };
            if bytes.len() as u64 != chunk.len {
                return Err(pack.error(FormatError::new(Rule::ChunkList, 0)));
            }
            self.chunk = Some((index, bytes));
        }
        Ok(self.chunk.as_ref().map_or(&[], |(_, bytes)| bytes))
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let part = self.fill().map_err(io::Error::other)?;
        let len = part.len().min(buf.len());
        buf[..len].copy_from_slice(&part[..len]);
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for ObjectReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
