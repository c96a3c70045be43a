//! Where objects and entries are: the units of a pack, newest first.
//!
//! A unit is a run of segments with one index. The open tail behind the last footer, and units too
//! small for an index, are scanned instead, once and only when something asks.

mod scanned;

use scanned::lower_bound;
pub(crate) use scanned::{KeyAt, Scanned, ScannedKeys};

use super::Pack;
use super::frames::{Frame, Item, Items};
use super::key;
use crate::disk::ReadAt;
use crate::format::commit::Commit;
use crate::format::entry::{Content, Entry};
use crate::format::frame::{Codec, FrameHeader, FrameKind};
use crate::format::index::ObjectRow;
use crate::format::object::{ChunkList, RecordRow};
use crate::format::{EntryPlace, FormatError, Locator, Rule};
use crate::hash::{Hash, Prefix};
use crate::index::{KeyDirectory, ObjectIndex, Section};
use crate::segment::{
    Committed, Result, Step, Walker, read_commit, read_frame_header, read_segment_header,
};
use std::sync::Arc;

/// A run of segments that is looked up as one.
///
/// Its parts never change: a pack and a later view of it share them.
#[derive(Debug, Clone)]
pub(crate) enum Unit {
    Indexed(Arc<Indexed>),
    Scanned(Arc<Scanned>),
}

#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) objects: Option<ObjectIndex>,
    pub(crate) keys: Option<KeyDirectory>,
    /// The footer that the index belongs to.
    pub(crate) footer: Commit,
}

impl Unit {
    /// The footer that it ends with; none for the tail.
    pub(crate) fn footer(&self) -> Option<&Commit> {
        match self {
            Self::Indexed(indexed) => Some(&indexed.footer),
            Self::Scanned(scanned) => scanned.footer.as_ref(),
        }
    }

    /// Whether it is an indexed one that covers the pack from its beginning.
    pub(crate) fn covers_all(&self) -> bool {
        match self {
            Self::Indexed(indexed) => {
                indexed.footer.footer.as_ref().is_some_and(|footer| footer.covers_from == 0)
            }
            Self::Scanned(_) => false,
        }
    }
}

/// Calls `each` with every key of an entries frame and its entry's place.
pub(crate) fn for_each_key(pack: &Pack, frame: &Frame, mut each: impl FnMut(KeyAt)) -> Result<()> {
    let Items::Entries(table) = &frame.items else {
        return Ok(());
    };
    let body = frame.body(&*pack.bytes)?;
    for item in 0..table.len() {
        if let Some((space, key)) = table.key(&body, item) {
            let (key, place) = (key::encode(space, key), frame.entry_place(item)?);
            each(KeyAt { key, place, is_put: table.is_put(item) });
        }
    }
    Ok(())
}

/// Space and key of a put or delete.
pub(crate) fn key_of_entry(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(match Entry::decode(bytes)?.0 {
        Entry::Put(put) => Some(key::encode(put.space, &put.key)),
        Entry::Delete(delete) => Some(key::encode(delete.space, &delete.key)),
        Entry::Genesis(_) | Entry::Keys(_) | Entry::Seal(_) => None,
    })
}

pub(crate) fn place_of(header: &FrameHeader, item: usize) -> Result<Locator> {
    let place = u32::try_from(item).ok().and_then(|item| Locator::new(header.offset, item));
    place.ok_or_else(|| FormatError::new(Rule::Limit, header.offset).into())
}

/// The index rows of a frame of objects; none for other frames.
pub(crate) fn object_rows(pack: &Pack, header: &FrameHeader) -> Result<Vec<ObjectRow>> {
    let is_object = matches!(
        header.kind,
        FrameKind::Objects | FrameKind::Records | FrameKind::Lists | FrameKind::Dictionary
    );
    if !is_object {
        return Ok(Vec::new());
    }
    let frame = pack.frame(header.offset)?;
    let mut rows = Vec::with_capacity(header.item_count as usize);
    for item in 0..header.item_count {
        let place = place_of(header, item as usize)?;
        let prefix = match header.kind {
            // A record's prefix is beside it: no need to decode.
            FrameKind::Records => {
                let body = frame.body(&*pack.bytes)?;
                RecordRow::find(&body, header.item_count, item)?.0.prefix
            }
            _ => match frame.item(&*pack.bytes, item)? {
                Item::Bytes(bytes) => Hash::of(&bytes).prefix(),
                Item::List(list) => list_name(list, header)?.prefix(),
            },
        };
        rows.push(ObjectRow { prefix, place });
    }
    Ok(rows)
}

fn list_name(list: &ChunkList, header: &FrameHeader) -> Result<Hash> {
    list.name().ok_or_else(|| FormatError::new(Rule::ChunkList, header.offset).into())
}

/// Opens the units of a pack: the tail, then the footers that its indexes chain to.
pub(super) fn open_units(bytes: &Arc<dyn ReadAt>, committed: &Committed) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    if !committed.tail.is_empty() {
        units.push(Unit::Scanned(Arc::new(Scanned::new(committed.tail.clone(), None))));
    }
    let mut next = committed.footer.clone();
    while let Some(commit) = next {
        units.push(open_unit(bytes, &commit)?);
        next = match commit.footer.map_or(0, |footer| footer.next_unit) {
            0 => None,
            // Strictly lower each time, so the chain ends.
            offset => Some(read_commit(&**bytes, offset)?.2),
        };
    }
    Ok(units)
}

/// Opens the unit that a footer indexes.
pub(super) fn open_unit(bytes: &Arc<dyn ReadAt>, commit: &Commit) -> Result<Unit> {
    let fault = FormatError::new(Rule::Commit, commit.frame_offset);
    let footer = commit.footer.as_ref().ok_or(fault)?;
    if !footer.is_indexed() {
        return Ok(Unit::Scanned(Arc::new(scan(&**bytes, footer.covers_from, commit)?)));
    }
    let section =
        |kind: FrameKind| footer.section(kind).map(|row| Section::open(bytes, row)).transpose();
    Ok(Unit::Indexed(Arc::new(Indexed {
        objects: section(FrameKind::ObjectIndex)?.map(ObjectIndex::new),
        keys: section(FrameKind::KeyDirectory)?.map(KeyDirectory::new),
        footer: commit.clone(),
    })))
}

/// The frames of a unit without sections.
fn scan(bytes: &dyn ReadAt, covers_from: u64, footer: &Commit) -> Result<Scanned> {
    let end = footer.frame_offset;
    if end.saturating_sub(covers_from) > crate::format::UNINDEXED_BYTES_MAX {
        let (found, most) = (end - covers_from, crate::format::UNINDEXED_BYTES_MAX);
        return Err(FormatError::numbers(Rule::Limit, end, found, most).into());
    }
    let (header, _) = read_segment_header(bytes, covers_from)?;
    // Through the footer itself: its place in the chain proves that the frames are those that it was
    // written over, and not older ones that lay there.
    let (footer_header, footer_check) = read_frame_header(bytes, end)?;
    let walk_end = footer_header.next_offset();
    let mut walker = match header.previous_commit {
        0 => Walker::new(bytes, walk_end),
        offset => Walker::after(bytes, &read_commit(bytes, offset)?.2, walk_end)?,
    };
    if walker.position() != covers_from {
        return Err(FormatError::new(Rule::Commit, end).into());
    }
    let mut frames = Vec::new();
    while let Some(step) = walker.next()? {
        if let Step::Frame(header) = step {
            frames.push(header);
        }
    }
    if walker.last_commit() != (end, footer_check) {
        return Err(FormatError::new(Rule::Chain, end).into());
    }
    Ok(Scanned::new(frames, Some(footer.clone())))
}

/// An object as it is stored: whole, or as a list of chunks.
#[derive(Debug)]
pub(crate) enum Stored {
    Bytes(Vec<u8>),
    List(Chunks),
}

/// A chunk list in its frame.
#[derive(Debug, Clone)]
pub(crate) struct Chunks(Arc<ChunkList>);

/// A chunk list of one's own.
pub(super) fn chunks(list: ChunkList) -> Chunks {
    Chunks(Arc::new(list))
}

impl Chunks {
    pub(crate) fn list(&self) -> &ChunkList {
        &self.0
    }
}

/// Finds an object by name, in the newest unit that has it. Its bytes, or its list, are checked to
/// be what the name says.
pub(super) fn find_object(pack: &Pack, name: &Hash) -> Result<Option<Stored>> {
    find(pack, &pack.units, name, |place| {
        let frame = pack.frame(place.frame_offset())?;
        match check_item(pack, &frame, place, name)? {
            None => Ok(None),
            Some(Item::Bytes(bytes)) => Ok(Some(Stored::Bytes(bytes.into_owned()))),
            Some(Item::List(list)) => Ok(Some(Stored::List(Chunks(Arc::clone(list))))),
        }
    })
    .map(|found| found.or_else(|| (*name == Hash::of(b"")).then(|| Stored::Bytes(Vec::new()))))
}

/// An object that a frame refers to.
pub(super) struct Referenced {
    pub(super) bytes: Vec<u8>,
    /// Levels of references below the frame that holds it.
    pub(super) depth: u8,
    /// File offset of that frame.
    pub(super) offset: u64,
}

/// Finds an object that a frame refers to.
///
/// Only what lies below is looked at, so that looking ends whatever a hostile pack refers to: units
/// that are wholly below, then the frames below in the unit that the frame itself is in.
pub(super) fn find_reference(
    pack: &Pack,
    name: &Hash,
    referrer: &FrameHeader,
    levels: u8,
) -> Result<Option<Referenced>> {
    let limit = referrer.offset;
    let wants_dictionary = referrer.codec == Codec::ZstdDictionary;
    let try_place = |place: Locator| {
        let frame = pack.frame_below(place.frame_offset(), limit, levels)?;
        let fits = match frame.header.kind {
            FrameKind::Dictionary => true,
            FrameKind::Objects => !wants_dictionary,
            _ => false,
        };
        if !fits {
            return Ok(None);
        }
        match check_item(pack, &frame, place, name)? {
            Some(Item::Bytes(bytes)) => Ok(Some(Referenced {
                bytes: bytes.into_owned(),
                depth: frame.depth(),
                offset: frame.header.offset,
            })),
            _ => Ok(None),
        }
    };
    let is_below = |unit: &Unit| match unit {
        Unit::Scanned(scanned) => scanned.frames.last().is_none_or(|last| last.offset < limit),
        Unit::Indexed(_) => true,
    };
    let (below, around): (Vec<&Unit>, Vec<&Unit>) = pack.units.iter().partition(|u| is_below(u));
    let found = find(pack, below, name, try_place)?;
    if found.is_some() {
        return Ok(found);
    }
    for unit in around {
        let Unit::Scanned(scanned) = unit else {
            continue;
        };
        for header in scanned.frames.iter().take_while(|header| header.offset < limit) {
            for row in object_rows(pack, header)? {
                if row.prefix == name.prefix()
                    && let Some(found) = try_place(row.place)?
                {
                    return Ok(Some(found));
                }
            }
        }
    }
    Ok(None)
}

/// The place of the first row, in the newest unit, whose prefix is the name's.
pub(super) fn indexed_place(pack: &Pack, name: &Hash) -> Result<Option<Locator>> {
    let prefix = name.prefix();
    for unit in &pack.units {
        let place = match unit {
            Unit::Scanned(scanned) => {
                let rows = scanned.objects(pack)?;
                let found = rows.get(first_row(rows, prefix));
                found.filter(|row| row.prefix == prefix).map(|row| row.place)
            }
            Unit::Indexed(indexed) => match &indexed.objects {
                Some(objects) => objects.find(prefix, 0)?.map(|(_, row)| row.place),
                None => None,
            },
        };
        if place.is_some() {
            return Ok(place);
        }
    }
    Ok(None)
}

/// The place of an object, if the pack has it.
pub(super) fn locate(pack: &Pack, name: &Hash) -> Result<Option<(Locator, Arc<Frame>)>> {
    find(pack, &pack.units, name, |place| {
        let frame = pack.frame(place.frame_offset())?;
        Ok(check_item(pack, &frame, place, name)?.is_some().then(|| (place, Arc::clone(&frame))))
    })
}

/// The first row whose prefix is not less.
fn first_row(rows: &[ObjectRow], prefix: Prefix) -> usize {
    lower_bound(rows.len(), |at| rows[at].prefix.number(), prefix.number())
}

/// Tries every place whose prefix is the name's. A damaged copy is passed over if another is whole.
fn find<'u, T>(
    pack: &Pack,
    units: impl IntoIterator<Item = &'u Unit>,
    name: &Hash,
    mut try_place: impl FnMut(Locator) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let prefix = name.prefix();
    let mut damage = None;
    let mut try_row = |row: ObjectRow| match try_place(row.place) {
        Ok(found) => found,
        Err(error) => {
            damage.get_or_insert(error);
            None
        }
    };
    for unit in units {
        match unit {
            Unit::Scanned(scanned) => {
                let rows = scanned.objects(pack)?;
                let from = first_row(rows, prefix);
                for row in rows[from..].iter().take_while(|row| row.prefix == prefix) {
                    if let Some(found) = try_row(*row) {
                        return Ok(Some(found));
                    }
                }
            }
            Unit::Indexed(indexed) => {
                let Some(objects) = &indexed.objects else {
                    continue;
                };
                let mut from = 0;
                while let Some((position, row)) = objects.find(prefix, from)? {
                    if let Some(found) = try_row(row) {
                        return Ok(Some(found));
                    }
                    from = position + 1;
                }
            }
        }
    }
    damage.map_or(Ok(None), Err)
}

/// The item at `place` if it is the object named `name`; `None` if it is another one whose name
/// begins the same.
fn check_item<'a>(
    pack: &'a Pack,
    frame: &'a Frame,
    place: Locator,
    name: &Hash,
) -> Result<Option<Item<'a>>> {
    let item = frame.item(&*pack.bytes, place.item())?;
    let found = match &item {
        Item::Bytes(bytes) => Hash::of(bytes),
        Item::List(list) => list_name(list, &frame.header)?,
    };
    if found == *name {
        return Ok(Some(item));
    }
    if found.prefix() == name.prefix() {
        return Ok(None);
    }
    Err(FormatError::new(Rule::ObjectName, place.frame_offset()).into())
}

/// An entry in its frame.
#[derive(Debug, Clone)]
pub(crate) struct EntryAt {
    bytes: Arc<dyn ReadAt>,
    frame: Arc<Frame>,
    item: usize,
}

impl EntryAt {
    /// Entry `item` of a frame.
    pub(super) fn new(pack: &Pack, frame: Arc<Frame>, item: usize) -> Self {
        Self { bytes: Arc::clone(&pack.bytes), frame, item }
    }

    /// The entry's bytes.
    pub(crate) fn with_bytes<T>(&self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let fault = FormatError::new(Rule::Index, self.frame.header.offset);
        let Items::Entries(table) = &self.frame.items else {
            return Err(fault.into());
        };
        let body = self.frame.body(&*self.bytes)?;
        read(table.entry(&body, self.item).ok_or(fault)?)
    }

    /// The entry, without borrowing.
    pub(crate) fn entry(&self) -> Result<Entry<'static>> {
        self.with_bytes(|bytes| Ok(Entry::decode(bytes)?.0.into_owned()))
    }

    /// The content that it puts, if it is a put of one.
    pub(crate) fn content(&self) -> Result<Option<Content>> {
        self.with_bytes(|bytes| match Entry::decode(bytes)?.0 {
            Entry::Put(put) => Ok(put.content),
            _ => Ok(None),
        })
    }

    /// Whether it is a put.
    pub(crate) fn is_put(&self) -> bool {
        matches!(&self.frame.items, Items::Entries(table) if table.is_put(self.item))
    }

    /// Whether its key, space byte first, is `key`.
    fn has_key(&self, key: &[u8]) -> Result<bool> {
        let Items::Entries(table) = &self.frame.items else {
            return Ok(false);
        };
        let body = self.frame.body(&*self.bytes)?;
        Ok(table.key(&body, self.item).is_some_and(|found| order(found, key).is_eq()))
    }

    /// Position of the entry in the log.
    pub(crate) fn log_index(&self) -> u64 {
        match &self.frame.items {
            Items::Entries(table) => table.first_index.saturating_add(self.item as u64),
            _ => 0,
        }
    }
}

/// The entry at `place`. It breaks `rule` if there is none, or another frame stands there: one from
/// another life of the file has its own check, offset and hash, but not this check.
pub(super) fn entry_at(pack: &Pack, place: EntryPlace, rule: Rule) -> Result<EntryAt> {
    let frame = pack.frame(place.frame_offset())?;
    let item = place.locator.item() as usize;
    match &frame.items {
        Items::Entries(table) if item < table.len() && frame.check == place.check => {
            Ok(EntryAt { bytes: Arc::clone(&pack.bytes), frame, item })
        }
        _ => Err(FormatError::new(rule, place.frame_offset()).into()),
    }
}

/// Finds the newest entry of a key (space byte first).
pub(super) fn find_entry(pack: &Pack, key: &[u8]) -> Result<Option<EntryAt>> {
    for unit in &pack.units {
        let found = match unit {
            Unit::Scanned(scanned) => find_scanned(pack, scanned, key)?,
            Unit::Indexed(indexed) => match &indexed.keys {
                Some(directory) => find_listed(pack, directory, key)?,
                None => None,
            },
        };
        if let Some(found) = found {
            // An index that lies about a key must not give another key's value.
            if !found.has_key(key)? {
                return Err(FormatError::new(Rule::Index, found.frame.header.offset).into());
            }
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_scanned(pack: &Pack, scanned: &Scanned, key: &[u8]) -> Result<Option<EntryAt>> {
    let found = scanned.keys(pack)?.find(key);
    found.map(|place| entry_at(pack, place, Rule::Index)).transpose()
}

fn find_listed(pack: &Pack, directory: &KeyDirectory, key: &[u8]) -> Result<Option<EntryAt>> {
    let Some(position) = directory.floor(key)? else {
        return Ok(None);
    };
    let frame = pack.listed_frame(directory.frame(position)?)?;
    match &frame.items {
        Items::Keys(page) => {
            page.find(key).map(|place| entry_at(pack, place, Rule::Index)).transpose()
        }
        Items::Entries(table) => {
            let Some((space, rest)) = key.split_first() else {
                return Ok(None);
            };
            let found = table.find(&frame.body(&*pack.bytes)?, *space, rest);
            let found = found.map_err(|error| error.within(frame.header.payload_offset()))?;
            Ok(found.map(|item| EntryAt { bytes: Arc::clone(&pack.bytes), frame, item }))
        }
        _ => Err(FormatError::new(Rule::Index, frame.header.offset).into()),
    }
}

/// Orders a space and key before, with or behind a key that begins with its space byte.
fn order((space, found): (u8, &[u8]), key: &[u8]) -> std::cmp::Ordering {
    match key.split_first() {
        Some((first, rest)) => space.cmp(first).then_with(|| found.cmp(rest)),
        None => std::cmp::Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_search_from_a_guess_finds_what_any_other_finds(
            mut numbers in prop_oneof![
                prop::collection::vec(any::<u64>(), 0..300),
                prop::collection::vec(0_u64..40, 0..300), // spread as unevenly as can be
                prop::collection::vec(u64::MAX - 40..=u64::MAX, 0..300),
            ],
            others in prop::collection::vec(any::<u64>(), 0..20),
        ) {
            numbers.sort_unstable();
            for wanted in numbers.iter().chain(&others).chain(&[0, 20, u64::MAX]) {
                let found = lower_bound(numbers.len(), |at| numbers[at], *wanted);
                prop_assert_eq!(found, numbers.partition_point(|number| number < wanted));
            }
        }
    }
}
