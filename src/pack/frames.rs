//! Decoded frames, kept while there is room: each is read, checked and decoded once for all
//! threads that want it.

use super::{Pack, units};
use crate::disk::ReadAt;
use crate::format::frame::{Codec, FrameHeader, FrameKind};
use crate::format::index::{KeyRows, ListedFrame};
use crate::format::object::{ChunkList, RecordRow, object_ranges};
use crate::format::{Check, EntryPlace, FormatError, REFERENCE_DEPTH_MAX, Rule};
use crate::hash::Hash;
use crate::segment::{
    EntryTable, KeyHeads, ReadError, Resolved, Result, decode_body, decode_record,
    read_frame_header, read_payload,
};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A frame whose stored bytes were checked and whose body was decoded (records: is decoded record
/// by record).
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    /// The check of its header, which indexes and commits bind it by.
    pub(crate) check: Check,
    body: Body,
    pub(crate) items: Items,
    resolved: Resolved,
    /// Levels of references below it.
    depth: u8,
}

#[derive(Debug)]
enum Body {
    Owned(Vec<u8>),
    /// In the file, which is in memory.
    InPlace(Range<u64>),
}

/// What is in a frame, found once.
#[derive(Debug)]
pub(crate) enum Items {
    Objects(Vec<Range<usize>>),
    Records,
    Lists(Vec<Arc<ChunkList>>),
    Entries(EntryTable),
    Keys(KeyPage),
}

/// A page of a key index.
#[derive(Debug)]
pub(crate) struct KeyPage {
    pub(crate) rows: KeyRows,
    heads: KeyHeads,
    /// Which rows are puts, once someone has asked.
    puts: OnceLock<Box<[bool]>>,
}

impl KeyPage {
    fn decode(body: &[u8], header: &FrameHeader) -> crate::format::Result<Self> {
        let rows = KeyRows::decode(body, header.item_count)?;
        let keys = (0..rows.len()).map(|row| split_space(rows.key(row).unwrap_or_default()));
        let heads = KeyHeads::new(keys).ok_or_else(|| FormatError::new(Rule::Index, 0))?;
        Ok(Self { rows, heads, puts: OnceLock::new() })
    }

    /// Which rows are puts, by the answer of `is_put`: a row does not say it, its entry does.
    pub(crate) fn puts(&self, is_put: impl FnMut(EntryPlace) -> Result<bool>) -> Result<&[bool]> {
        if let Some(puts) = self.puts.get() {
            return Ok(puts);
        }
        let puts = (0..self.rows.len())
            .filter_map(|row| self.rows.place(row))
            .map(is_put)
            .collect::<Result<_>>()?;
        Ok(self.puts.get_or_init(|| puts))
    }

    /// The place of the newest entry of `key` (space byte first).
    pub(crate) fn find(&self, key: &[u8]) -> Option<EntryPlace> {
        let key_at = |position: usize| self.rows.key(position).map(split_space);
        let found = self.heads.find(split_space(key), key_at)?;
        self.rows.place(found)
    }
}

/// Space and key. Keys begin with their space, so there is one.
fn split_space(key: &[u8]) -> (u8, &[u8]) {
    key.split_first().map_or((0, key), |(space, key)| (*space, key))
}

/// One object as a frame holds it.
pub(crate) enum Item<'a> {
    Bytes(Cow<'a, [u8]>),
    List(&'a Arc<ChunkList>),
}

impl Frame {
    /// The body's bytes.
    pub(crate) fn body<'a>(&'a self, bytes: &'a dyn ReadAt) -> Result<Cow<'a, [u8]>> {
        match &self.body {
            Body::Owned(body) => Ok(Cow::Borrowed(body)),
            Body::InPlace(range) => {
                crate::segment::read(bytes, range.start, range.end - range.start)
            }
        }
    }

    /// Space and key of item `item`, for frames of entries and of keys; none if it has no key.
    pub(crate) fn key<'a>(&'a self, bytes: &'a dyn ReadAt, item: usize) -> Option<(u8, &'a [u8])> {
        match &self.items {
            Items::Keys(page) => page.rows.key(item).map(split_space),
            Items::Entries(table) => match &self.body {
                Body::Owned(body) => table.key(body, item),
                Body::InPlace(range) => {
                    let start = usize::try_from(range.start).ok()?;
                    let body = bytes.memory()?.get(start..usize::try_from(range.end).ok()?)?;
                    table.key(body, item)
                }
            },
            _ => None,
        }
    }

    /// The place of its entry `item`.
    pub(crate) fn entry_place(&self, item: usize) -> Result<EntryPlace> {
        Ok(EntryPlace { locator: units::place_of(&self.header, item)?, check: self.check })
    }

    /// Item `index`, not checked against any name.
    pub(crate) fn item<'a>(&'a self, bytes: &'a dyn ReadAt, index: u32) -> Result<Item<'a>> {
        let fault = FormatError::new(Rule::Index, self.header.offset);
        match &self.items {
            Items::Objects(ranges) => {
                let range = ranges.get(index as usize).ok_or(fault)?.clone();
                Ok(Item::Bytes(match self.body(bytes)? {
                    Cow::Borrowed(body) => Cow::Borrowed(body.get(range).ok_or(fault)?),
                    Cow::Owned(body) => Cow::Owned(body.get(range).ok_or(fault)?.to_vec()),
                }))
            }
            Items::Records => {
                let body = self.body(bytes)?;
                let (row, stored) = RecordRow::find(&body, self.header.item_count, index)
                    .map_err(|error| error.within(self.header.payload_offset()))?;
                let record =
                    decode_record(&self.header, &body[stored], row.raw_bytes, &self.resolved)?;
                Ok(Item::Bytes(Cow::Owned(record)))
            }
            Items::Lists(lists) => Ok(Item::List(lists.get(index as usize).ok_or(fault)?)),
            Items::Entries(_) | Items::Keys(_) => Err(fault.into()),
        }
    }

    fn weight(&self) -> u64 {
        let body = match &self.body {
            Body::Owned(body) => body.len() as u64,
            Body::InPlace(_) => 0,
        };
        let items = match &self.items {
            Items::Objects(ranges) => ranges.len() * 16,
            Items::Records => 0,
            Items::Lists(lists) => {
                lists.iter().map(|l| l.chunks.len() * 40 + l.groups.len() * 32).sum()
            }
            Items::Entries(table) => table.len() * EntryTable::ITEM_BYTES,
            Items::Keys(page) => page.rows.bytes() + page.rows.len() * (KeyHeads::ITEM_BYTES + 1),
        };
        let resolved = match &self.resolved {
            Resolved::Prefix(bytes) => bytes.len(),
            Resolved::Nothing | Resolved::Dictionary(_) => 0,
        };
        body + (items + resolved + 200) as u64
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<u64, Arc<Frame>> for ByBytes {
    fn weight(&self, _: &u64, frame: &Arc<Frame>) -> u64 {
        frame.weight()
    }
}

/// Frames by file offset, and the dictionaries that they were compressed under.
#[derive(Debug)]
pub(crate) struct FrameCache {
    frames: Cache<u64, Arc<Frame>, ByBytes>,
    /// Made ready once each: that takes longer than decoding many records, and all frames of a
    /// segment share one.
    dictionaries: Cache<Hash, SharedDictionary>,
}

#[derive(Debug, Clone)]
struct SharedDictionary {
    resolved: Resolved,
    depth: u8,
    /// Its frame: only frames above may refer to it.
    offset: u64,
}

/// Dictionaries are kept up to this many: each takes some hundred kilobytes.
const CACHED_DICTIONARIES: usize = 16;

impl FrameCache {
    pub(super) fn new(cache_bytes: u64) -> Self {
        use quick_cache::{DefaultHashBuilder, OptionsBuilder, sync::DefaultLifecycle};
        let options = OptionsBuilder::new()
            .estimated_items_capacity(1024)
            .weight_capacity(cache_bytes)
            .shards(1) // a frame is large and its decoding slow: one shard keeps the whole bound usable
            .build();
        let cache = match options {
            Ok(options) => Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            Err(_) => Cache::with_weighter(1024, cache_bytes, ByBytes),
        };
        Self { frames: cache, dictionaries: Cache::new(CACHED_DICTIONARIES) }
    }
}

impl Pack {
    /// The frame at `offset`, one that holds items of any kind.
    pub(crate) fn frame(&self, offset: u64) -> Result<Arc<Frame>> {
        self.frame_below(offset, u64::MAX, REFERENCE_DEPTH_MAX)
    }

    /// The frame that a key directory lists, and not another one that stood there before.
    pub(crate) fn listed_frame(&self, listed: ListedFrame) -> Result<Arc<Frame>> {
        let frame = self.frame(listed.offset)?;
        if frame.check != listed.check {
            return Err(FormatError::new(Rule::Index, listed.offset).into());
        }
        Ok(frame)
    }

    /// The frame at `offset`, which lies below `limit` and may have `levels` levels of references.
    pub(crate) fn frame_below(&self, offset: u64, limit: u64, levels: u8) -> Result<Arc<Frame>> {
        if offset >= limit.min(self.end) {
            return Err(FormatError::new(Rule::Reference, offset).into());
        }
        let frame = self
            .frames
            .frames
            .get_or_insert_with(&offset, || self.load(offset, levels).map(Arc::new))?;
        if frame.depth > levels {
            return Err(FormatError::new(Rule::Reference, offset).into());
        }
        Ok(frame)
    }

    /// Reads, checks and decodes the frame at `offset`.
    pub(crate) fn load(&self, offset: u64, levels: u8) -> Result<Frame> {
        let (header, check) = read_frame_header(&*self.bytes, offset)?;
        let payload = read_payload(&*self.bytes, &header)?;
        let (names, _) = header.split_payload(&payload);
        let (resolved, depth) = self.resolve(&header, &names, levels)?;
        let skip = names.len() * Hash::LEN;
        let at = header.payload_offset();
        let in_place = header.codec == Codec::Raw || header.kind == FrameKind::Records;
        let body = match payload {
            Cow::Borrowed(_) if in_place => Body::InPlace(at + skip as u64..header.payload_end()),
            payload if in_place => {
                let mut body = payload.into_owned();
                body.drain(..skip);
                Body::Owned(body)
            }
            payload => Body::Owned(decode_body(&header, &payload[skip..], &resolved)?.into_owned()),
        };
        let mut frame = Frame { header, check, body, items: Items::Records, resolved, depth };
        let body = frame.body(&*self.bytes)?;
        let within = |error: FormatError| ReadError::from(error.within(at));
        let items = match header.kind {
            FrameKind::Objects | FrameKind::Dictionary => {
                Items::Objects(object_ranges(&body, header.item_count).map_err(within)?)
            }
            FrameKind::Records => Items::Records,
            FrameKind::Lists => {
                let lists = ChunkList::all(&body, header.item_count).map_err(within)?;
                Items::Lists(lists.into_iter().map(Arc::new).collect())
            }
            FrameKind::Entries => Items::Entries(EntryTable::decode(&header, &body)?),
            FrameKind::Keys => Items::Keys(KeyPage::decode(&body, &header).map_err(within)?),
            FrameKind::ObjectIndex
            | FrameKind::KeyDirectory
            | FrameKind::Commit
            | FrameKind::Signatures
            | FrameKind::Skippable(_) => return Err(FormatError::new(Rule::Index, offset).into()),
        };
        drop(body);
        frame.items = items;
        // A dictionary or prefix is only needed to decode; a records frame decodes later.
        if !matches!(frame.items, Items::Records) {
            frame.resolved = Resolved::Nothing;
        }
        Ok(frame)
    }

    fn resolve(&self, header: &FrameHeader, names: &[Hash], levels: u8) -> Result<(Resolved, u8)> {
        if names.is_empty() {
            return Ok((Resolved::Nothing, 0));
        }
        let shared = match names {
            [name] if header.codec == Codec::ZstdDictionary => Some(name),
            _ => None,
        };
        let cached = shared.and_then(|name| self.frames.dictionaries.get(name));
        if let Some(found) = cached.filter(|found| found.offset < header.offset) {
            return Ok((found.resolved, found.depth));
        }
        let Some(levels) = levels.checked_sub(1) else {
            return Err(FormatError::new(Rule::Reference, header.offset).into());
        };
        let mut objects = Vec::with_capacity(names.len());
        let (mut depth, mut offset) = (0, 0);
        for name in names {
            let found = units::find_reference(self, name, header, levels)?;
            let found =
                found.ok_or(FormatError::new(Rule::MissingObject, header.payload_offset()))?;
            objects.push(found.bytes);
            depth = depth.max(found.depth + 1);
            offset = found.offset;
        }
        let resolved = Resolved::new(header, &objects)?;
        if let Some(name) = shared {
            let dictionary = SharedDictionary { resolved: resolved.clone(), depth, offset };
            self.frames.dictionaries.insert(*name, dictionary);
        }
        Ok((resolved, depth))
    }
}

impl Frame {
    pub(crate) fn depth(&self) -> u8 {
        self.depth
    }
}
