//! Live entries in key order, across all units.

use super::Pack;
use super::frames::{Frame, Items};
use super::units::{EntryAt, ScannedKeys, Unit, entry_at};
use crate::error::Result as PublicResult;
use crate::format::entry::{Entry, Put};
use crate::format::{EntryPlace, FormatError, Rule};
use crate::index::KeyDirectory;
use crate::segment::Result;
use std::sync::Arc;

/// Live entries in key order; see [`Pack::entries`]. Ends after its first error.
#[derive(Debug)]
pub struct Entries<'p> {
    merge: Option<Merge<'p>>,
}

impl<'p> Entries<'p> {
    pub(super) fn new(pack: &'p Pack, prefix: Vec<u8>) -> Self {
        Self { merge: Some(Merge::new(pack, prefix)) }
    }

    /// The same, without the entries whose key (space byte first) is less than `from`.
    pub(super) fn starting(mut self, from: Vec<u8>) -> Self {
        self.merge = self.merge.map(|merge| merge.starting(from));
        self
    }

    /// The next live entry, in its frame.
    pub(crate) fn next_place(&mut self) -> Option<Result<EntryAt>> {
        let merge = self.merge.as_mut()?;
        let next = merge.next_put().and_then(|at| at.map(UnitCursor::entry).transpose());
        let next = next.transpose();
        if !matches!(next, Some(Ok(_))) {
            self.merge = None;
        }
        next
    }
}

impl Iterator for Entries<'_> {
    type Item = PublicResult<Put<'static>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pack = self.merge.as_ref()?.pack;
        let found = self.next_place()?.and_then(|found| match found.entry()? {
            Entry::Put(put) => Ok(put),
            _ => Err(FormatError::new(Rule::Index, 0).into()),
        });
        Some(found.map_err(|error| pack.error(error)))
    }
}

impl std::iter::FusedIterator for Entries<'_> {}

/// Live keys in order, without their entries; see [`Pack::keys_under`]. Ends after its first error.
#[derive(Debug)]
pub struct Keys<'p> {
    merge: Option<Merge<'p>>,
}

impl<'p> Keys<'p> {
    pub(super) fn new(pack: &'p Pack, prefix: Vec<u8>) -> Self {
        Self { merge: Some(Merge::new(pack, prefix)) }
    }

    /// The same, without the keys (space byte first) that are less than `from`.
    pub(super) fn starting(mut self, from: Vec<u8>) -> Self {
        self.merge = self.merge.map(|merge| merge.starting(from));
        self
    }
}

impl Keys<'_> {
    /// Appends the next key to `out`; false at the end.
    pub(crate) fn append_next(&mut self, out: &mut Vec<u8>) -> PublicResult<bool> {
        let Some(merge) = &mut self.merge else {
            return Ok(false);
        };
        let pack = merge.pack;
        let next = merge.next_put().map(|at| match at.and_then(UnitCursor::key) {
            Some((_, key)) => {
                out.extend_from_slice(key);
                true
            }
            None => false,
        });
        if !matches!(next, Ok(true)) {
            self.merge = None;
        }
        next.map_err(|error| pack.error(error))
    }
}

impl Iterator for Keys<'_> {
    type Item = PublicResult<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut key = Vec::new();
        match self.append_next(&mut key) {
            Ok(true) => Some(Ok(key)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::iter::FusedIterator for Keys<'_> {}

/// All keys of the units in key order, each with its newest entry, deletes included.
#[derive(Debug)]
struct Merge<'p> {
    pack: &'p Pack,
    prefix: Vec<u8>,
    /// Where to begin: the prefix, or a key with it.
    from: Vec<u8>,
    /// Newest unit first, so that the first of equal keys is the newest.
    cursors: Vec<UnitCursor<'p>>,
    started: bool,
}

impl<'p> Merge<'p> {
    fn new(pack: &'p Pack, prefix: Vec<u8>) -> Self {
        let cursors = pack.units.iter().map(|unit| UnitCursor::new(pack, unit)).collect();
        Self { pack, from: prefix.clone(), prefix, cursors, started: false }
    }

    fn starting(self, from: Vec<u8>) -> Self {
        Self { from: from.max(self.prefix.clone()), ..self }
    }

    /// The cursor at the next key that is not deleted.
    fn next_put(&mut self) -> Result<Option<&UnitCursor<'p>>> {
        while let Some(next) = self.next()? {
            if self.cursors[next].is_put()? {
                return Ok(Some(&self.cursors[next]));
            }
        }
        Ok(None)
    }

    /// Goes to the next key, and says which cursor is at its newest entry.
    fn next(&mut self) -> Result<Option<usize>> {
        if !self.started {
            self.started = true;
            for cursor in &mut self.cursors {
                cursor.seek(&self.from)?;
            }
        }
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.is_passed) {
            cursor.is_passed = false;
            cursor.advance()?;
        }
        let mut least: Option<(usize, SpacedKey<'_>)> = None;
        for (position, cursor) in self.cursors.iter().enumerate() {
            if let Some(key) = cursor.key()
                && least.is_none_or(|(_, other)| key < other)
            {
                least = Some((position, key)); // of equals the first: the newest
            }
        }
        let Some((next, key)) = least.filter(|(_, key)| begins_with(*key, &self.prefix)) else {
            return Ok(None);
        };
        // Older entries of the same key pass with it.
        let is_equal = |cursor: &UnitCursor<'_>| cursor.key() == Some(key);
        let equal: Vec<usize> =
            (next + 1..self.cursors.len()).filter(|at| is_equal(&self.cursors[*at])).collect();
        for at in equal.into_iter().chain([next]) {
            self.cursors[at].is_passed = true;
        }
        Ok(Some(next))
    }
}

/// Space and key.
type SpacedKey<'a> = (u8, &'a [u8]);

/// Whether a key begins with `prefix`, in which the space comes first.
fn begins_with((space, key): SpacedKey<'_>, prefix: &[u8]) -> bool {
    match prefix.split_first() {
        Some((first, rest)) => *first == space && key.starts_with(rest),
        None => true,
    }
}

/// The keys of one unit in order. Holds one page of them.
#[derive(Debug)]
pub(super) struct UnitCursor<'p> {
    pack: &'p Pack,
    unit: &'p Unit,
    page: Page<'p>,
    /// Position in the page.
    at: usize,
    /// Position of the next frame in the directory.
    next_frame: u64,
    /// Whether a merge is through with the key that this is at.
    is_passed: bool,
}

/// A run of keys, where it lies.
#[derive(Debug)]
enum Page<'p> {
    None,
    Scanned(&'p ScannedKeys),
    /// Entries or keys.
    Frame(Arc<Frame>),
}

impl<'p> UnitCursor<'p> {
    pub(super) fn new(pack: &'p Pack, unit: &'p Unit) -> Self {
        Self { pack, unit, page: Page::None, at: 0, next_frame: 0, is_passed: false }
    }

    fn directory(&self) -> Option<&'p KeyDirectory> {
        match self.unit {
            Unit::Indexed(indexed) => indexed.keys.as_ref(),
            Unit::Scanned(_) => None,
        }
    }

    /// Goes to the first key that is at least `key`.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<()> {
        match (self.unit, self.directory()) {
            (Unit::Scanned(scanned), _) => {
                let keys = scanned.keys(self.pack)?;
                self.at = keys.rows.position(key);
                self.page = Page::Scanned(keys);
                return Ok(());
            }
            (_, Some(directory)) => {
                self.next_frame = directory.floor(key)?.unwrap_or(0);
                self.load_next()?;
            }
            (_, None) => return Ok(()),
        }
        let Some((space, rest)) = key.split_first() else {
            return Ok(());
        };
        while self.key().is_some_and(|found| found < (*space, rest)) {
            self.advance()?;
        }
        Ok(())
    }

    /// The key that this is at; none behind the last one.
    pub(super) fn key(&self) -> Option<SpacedKey<'_>> {
        let row = |key: &'p [u8]| key.split_first().map(|(space, key)| (*space, key));
        match &self.page {
            Page::None => None,
            Page::Scanned(keys) => row(keys.rows.key(self.at)?),
            Page::Frame(frame) => frame.key(&*self.pack.bytes, self.at),
        }
    }

    /// The place of the newest entry of this key.
    pub(super) fn place(&self) -> Result<EntryPlace> {
        let place = match &self.page {
            Page::None => None,
            Page::Scanned(keys) => keys.rows.place(self.at),
            Page::Frame(frame) => match &frame.items {
                Items::Keys(page) => page.rows.place(self.at),
                _ => Some(frame.entry_place(self.at)?),
            },
        };
        place.ok_or_else(|| FormatError::new(Rule::Index, 0).into())
    }

    /// The newest entry of this key.
    pub(super) fn entry(&self) -> Result<EntryAt> {
        match &self.page {
            Page::Frame(frame) if matches!(frame.items, Items::Entries(_)) => {
                Ok(EntryAt::new(self.pack, Arc::clone(frame), self.at))
            }
            _ => entry_at(self.pack, self.place()?, Rule::Index),
        }
    }

    /// Whether that is a put.
    pub(super) fn is_put(&self) -> Result<bool> {
        match &self.page {
            Page::None => Ok(false),
            Page::Scanned(keys) => Ok(keys.puts.get(self.at).is_some_and(|is_put| *is_put)),
            Page::Frame(frame) => match &frame.items {
                Items::Entries(table) => Ok(table.is_put(self.at)),
                // Nothing is below that a delete could hide: there are none in such an index.
                Items::Keys(_) if self.unit.covers_all() => Ok(true),
                Items::Keys(page) => {
                    let puts = page.puts(|place| {
                        entry_at(self.pack, place, Rule::Index).map(|entry| entry.is_put())
                    })?;
                    Ok(puts.get(self.at).is_some_and(|is_put| *is_put))
                }
                _ => Ok(false),
            },
        }
    }

    pub(super) fn advance(&mut self) -> Result<()> {
        self.at += 1;
        self.skip_to_key()
    }

    /// Goes on to an item that has a key: genesis and seals have none.
    fn skip_to_key(&mut self) -> Result<()> {
        if let Page::Frame(frame) = &self.page {
            let count = frame.header.item_count as usize;
            while self.at < count && self.key().is_none() {
                self.at += 1;
            }
            if self.at >= count {
                return self.load_next();
            }
        }
        Ok(())
    }

    /// Loads the next page that has a key.
    fn load_next(&mut self) -> Result<()> {
        self.page = Page::None;
        let Some(directory) = self.directory() else {
            return Ok(());
        };
        while self.next_frame < directory.frame_count()? {
            let frame = self.pack.listed_frame(directory.frame(self.next_frame)?)?;
            self.next_frame += 1;
            if !matches!(frame.items, Items::Entries(_) | Items::Keys(_)) {
                return Err(FormatError::new(Rule::Index, frame.header.offset).into());
            }
            let bytes = &*self.pack.bytes;
            let first =
                (0..frame.header.item_count as usize).find(|at| frame.key(bytes, *at).is_some());
            if let Some(first) = first {
                (self.page, self.at) = (Page::Frame(frame), first);
                return Ok(());
            }
        }
        Ok(())
    }
}
