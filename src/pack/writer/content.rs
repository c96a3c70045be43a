//! Content on its way into frames: what is new, where it is cut, what it is compressed after.

use super::super::cursor::Entries;
use super::super::key::{self, Key};
use super::super::units;
use super::Writer;
use super::out::Out;
use super::pool::{Job, Packed, Pool};
use super::similar::Earlier;
use crate::chunk::{CHUNK_BYTES_MAX, WHOLE_BYTES_MAX, first_chunk_len};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Content, Entry, Put};
use crate::format::frame::{FrameHeader, FrameKind};
use crate::format::index::ObjectRow;
use crate::format::object::{Chunk, ChunkList};
use crate::format::{Check, LIST_BYTES_MAX};
use crate::hash::{GroupHasher, Hash};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

impl Writer {
    pub(super) fn has_object(&self, name: &Hash, len: u64) -> Result<bool> {
        if len == 0 || self.known.contains(name) {
            return Ok(true);
        }
        // The row of an index holds eight bytes of the name; the content itself decides.
        let Some(base) = &self.base else {
            return Ok(false);
        };
        match base.contains(name) {
            // Putting it again is what heals it: reading passes the damaged copy over.
            Err(error) if error.is_damage() => Ok(false),
            found => found,
        }
    }

    /// Stores an object of at most 1 MiB unless the pack has it.
    pub(super) fn add_object(&mut self, name: Hash, content: &[u8]) -> Result<()> {
        if self.has_object(&name, content.len() as u64)? {
            return Ok(());
        }
        self.add_new_object(name, content)
    }

    /// Stores an object of at most 1 MiB that the pack does not have.
    pub(super) fn add_new_object(&mut self, name: Hash, content: &[u8]) -> Result<()> {
        self.note_new(name, content.len());
        for job in self.intake.push(name, content) {
            self.submit(job)?;
        }
        Ok(())
    }

    pub(super) fn note_new(&mut self, name: Hash, len: usize) {
        self.known.insert(name);
        self.stats.new_object_count += 1;
        self.stats.new_object_bytes += len as u64;
        self.dirty = true;
    }

    /// Stores what a stream yields.
    pub(super) fn add_stream(
        &mut self,
        key: Option<&Key<'_>>,
        content: &mut impl Read,
        mut sha: Option<&mut Sha256>,
    ) -> Result<Content> {
        let mut buffer = Vec::new();
        let mut take = |buffer: &mut Vec<u8>, hasher: &mut GroupHasher, upto: usize| {
            let from = buffer.len();
            let missing = (upto - from) as u64;
            content.by_ref().take(missing).read_to_end(buffer).map_err(|source| {
                let of = key.map_or_else(String::new, |key| format!(" of {key}"));
                Error::new(ErrorKind::Io, format!("reading the content{of}")).because(source)
            })?;
            hasher.update(&buffer[from..]);
            if let Some(sha) = sha.as_deref_mut() {
                sha.update(&buffer[from..]);
            }
            Ok::<bool, Error>(buffer.len() < upto)
        };
        let mut hasher = GroupHasher::default();
        let mut ended = take(&mut buffer, &mut hasher, WHOLE_BYTES_MAX + 1)?;
        if ended {
            let name = Hash::of(&buffer);
            self.add_object(name, &buffer)?;
            return Ok(Content { name, len: buffer.len() as u64 });
        }
        // What is half full goes first, so that a frame's cut depends on content alone.
        let earlier = key.map_or(Ok(None), |key| self.earlier_version(key))?;
        let mut chunks = Vec::new();
        let mut len = 0;
        loop {
            if !ended && buffer.len() < CHUNK_BYTES_MAX {
                ended = take(&mut buffer, &mut hasher, 2 * CHUNK_BYTES_MAX)?;
            }
            if buffer.is_empty() {
                break;
            }
            let rest = buffer.split_off(first_chunk_len(&buffer));
            let chunk = std::mem::replace(&mut buffer, rest);
            let name = Hash::of(&chunk);
            chunks.push(Chunk { name, len: chunk.len() as u64 });
            len += chunk.len() as u64;
            self.add_chunk(name, chunk, earlier.as_ref())?;
        }
        let (name, groups) = hasher.finish();
        self.add_list(name, &ChunkList { len, chunks, groups })?;
        Ok(Content { name, len })
    }

    pub(super) fn add_chunk(
        &mut self,
        name: Hash,
        chunk: Vec<u8>,
        earlier: Option<&Earlier>,
    ) -> Result<()> {
        if self.has_object(&name, chunk.len() as u64)? {
            return Ok(());
        }
        let history = match (earlier, &self.base) {
            (Some(earlier), Some(base)) => earlier.history(base, &chunk)?,
            _ => None,
        };
        self.note_new(name, chunk.len());
        self.submit(Job::Objects { names: vec![name], content: chunk, start: 0, history })
    }

    pub(super) fn add_list(&mut self, name: Hash, list: &ChunkList) -> Result<()> {
        if self.has_object(&name, list.len)? {
            return Ok(());
        }
        let mut body = Vec::new();
        list.encode(&mut body);
        if body.len() > LIST_BYTES_MAX as usize {
            let what = format!("an object of {} bytes is longer than a pack can hold", list.len);
            return Err(Error::new(ErrorKind::Limit, what).hinting("split it"));
        }
        self.known.insert(name);
        self.dirty = true;
        let kind = FrameKind::Lists;
        self.submit_named(Job::Plain { kind, flags: 0, item_count: 1, body, compress: false }, name)
    }

    /// The committed object that a new large one under `key` is most likely a version of: the one
    /// under the same key, or under the key that shares most of its beginning and end.
    pub(super) fn earlier_version(&mut self, key: &Key<'_>) -> Result<Option<Earlier>> {
        if self.base.is_none() {
            return Ok(None);
        }
        if self.large.is_none() {
            self.large = Some(self.large_contents()?);
        }
        let key = key.encode();
        let alike = |other: &[u8]| {
            let start = other.iter().zip(&key).take_while(|(a, b)| a == b).count();
            let end = other.iter().rev().zip(key.iter().rev()).take_while(|(a, b)| a == b).count();
            (start + end).min(2 * key.len().min(other.len()))
        };
        // The newest of equals: a later version is nearer.
        let best = self.large.iter().flatten().max_by_key(|(other, _)| alike(other));
        match (best, &self.base) {
            (Some((other, name)), Some(base)) if alike(other) > key.len() / 2 => {
                Earlier::read(base, name)
            }
            _ => Ok(None),
        }
    }

    /// Keys and names of the contents of the base that are stored in chunks.
    pub(super) fn large_contents(&self) -> Result<Vec<(Vec<u8>, Hash)>> {
        let Some(base) = &self.base else {
            return Ok(Vec::new());
        };
        let mut large = Vec::new();
        let mut entries = Entries::new(base, Vec::new());
        while let Some(found) = entries.next_place() {
            let found = found.map_err(|error| self.fault(error))?;
            let index = found.log_index();
            let content = found.with_bytes(|bytes| match Entry::decode(bytes)?.0 {
                Entry::Put(Put { space, key, content: Some(content), .. }) => {
                    let is_large = content.len > WHOLE_BYTES_MAX as u64;
                    Ok(is_large.then(|| (index, key::encode(space, &key), content.name)))
                }
                _ => Ok(None),
            });
            large.extend(content.map_err(|error| self.fault(error))?);
        }
        large.sort_by_key(|(index, ..)| *index);
        Ok(large.into_iter().map(|(_, key, name)| (key, name)).collect())
    }

    /// Hands the objects that wait for a full frame to the pool.
    pub(super) fn flush_intake(&mut self) -> Result<()> {
        match self.intake.finish() {
            Some(job) => self.submit(job),
            None => Ok(()),
        }
    }

    pub(super) fn submit(&mut self, job: Job) -> Result<()> {
        self.begin_segment()?;
        let sink = Sink { out: &mut self.out, rows: &mut self.rows, path: &self.path };
        let submitted = self.pool.submit(job, sink.take());
        self.end_on_error(submitted)
    }

    /// Submits a job of one item that the index lists under `name`.
    pub(super) fn submit_named(&mut self, job: Job, name: Hash) -> Result<()> {
        // Chunk lists are rare and not compressed: in order with everything before them.
        self.drain()?;
        let sink = Sink { out: &mut self.out, rows: &mut self.rows, path: &self.path };
        let mut take = sink.take();
        let take = move |packed| take(Packed { names: vec![name], ..packed });
        let submitted = submit_and_drain(&mut self.pool, job, take);
        self.end_on_error(submitted)
    }

    pub(super) fn drain(&mut self) -> Result<()> {
        self.begin_segment()?;
        let sink = Sink { out: &mut self.out, rows: &mut self.rows, path: &self.path };
        let drained = self.pool.drain(sink.take());
        self.end_on_error(drained)
    }

    pub(super) fn begin_segment(&mut self) -> Result<()> {
        let layout = self.options.layout;
        let begun = self.out.begin_segment(layout, self.frontier.size());
        let begun = begun.map_err(|e| Error::write(&self.path, e));
        self.end_on_error(begun)
    }
}

fn submit_and_drain(
    pool: &mut Pool,
    job: Job,
    mut take: impl FnMut(Packed) -> Result<()>,
) -> Result<()> {
    pool.submit(job, &mut take)?;
    pool.drain(take)
}

/// Where finished frames go.
pub(super) struct Sink<'w> {
    pub(super) out: &'w mut Out,
    pub(super) rows: &'w mut Vec<ObjectRow>,
    pub(super) path: &'w Path,
}

impl<'w> Sink<'w> {
    /// Takes frames of objects, and of entries, whose headers and checks it gives.
    pub(super) fn take_all(
        self,
        entries: &'w mut Vec<(FrameHeader, Check)>,
    ) -> impl FnMut(Packed) -> Result<()> + 'w {
        let Self { out, rows, path } = self;
        move |packed| match packed.header.kind {
            FrameKind::Entries => {
                entries.push(out.frame(&packed).map_err(|error| Error::write(path, error))?);
                Ok(())
            }
            _ => Sink { out: &mut *out, rows: &mut *rows, path }.take()(packed),
        }
    }

    fn take(self) -> impl FnMut(Packed) -> Result<()> + 'w {
        let Self { out, rows, path } = self;
        move |packed| {
            let (header, _) = out.frame(&packed).map_err(|error| Error::write(path, error))?;
            for (item, name) in packed.names.iter().enumerate() {
                let place = units::place_of(&header, item)?;
                rows.push(ObjectRow { prefix: name.prefix(), place });
            }
            Ok(())
        }
    }
}
