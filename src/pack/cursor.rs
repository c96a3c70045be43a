//! Live entries in key order, across all units.

use super::Pack;
use super::frames::{Frame, Items};
use super::key;
use super::units::{EntryAt, Unit, entry_at};
use crate::error::Result as PublicResult;
use crate::format::entry::{Entry, Put};
use crate::format::{EntryPlace, FormatError, Rule};
use crate::index::KeyDirectory;
use crate::segment::Result;

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
        let next = loop {
            match merge.next() {
                Ok(Some((_, found))) if found.is_put() => break Some(Ok(found)),
                Ok(Some(_)) => {} // deleted
                Ok(None) => break None,
                Err(error) => break Some(Err(error)),
            }
        };
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

impl Iterator for Keys<'_> {
    type Item = PublicResult<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let merge = self.merge.as_mut()?;
            match merge.next() {
                Ok(Some((mut key, found))) if found.is_put() => {
                    key.remove(0); // the space
                    return Some(Ok(key));
                }
                Ok(Some(_)) => {}
                Ok(None) => self.merge = None,
                Err(error) => {
                    let error = merge.pack.error(error);
                    self.merge = None;
                    return Some(Err(error));
                }
            }
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

    fn next(&mut self) -> Result<Option<(Vec<u8>, EntryAt)>> {
        if !self.started {
            self.started = true;
            for cursor in &mut self.cursors {
                cursor.seek(&self.from)?;
            }
        }
        let next = self.cursors.iter().filter_map(UnitCursor::peek).min_by(|a, b| a.0.cmp(&b.0));
        let Some((key, place)) = next.cloned() else {
            return Ok(None);
        };
        if !key.starts_with(&self.prefix) {
            return Ok(None);
        }
        // `min_by` gives the first of equals: the newest. The others are older and pass.
        for cursor in &mut self.cursors {
            if cursor.peek().is_some_and(|(other, _)| *other == key) {
                cursor.advance()?;
            }
        }
        let found = entry_at(self.pack, place, Rule::Index)?;
        Ok(Some((key, found)))
    }
}

/// The keys of one unit in order. Holds one page of them.
#[derive(Debug)]
pub(super) struct UnitCursor<'p> {
    pack: &'p Pack,
    unit: &'p Unit,
    page: Vec<(Vec<u8>, EntryPlace)>,
    at: usize,
    /// Position of the next frame in the directory.
    next_frame: u64,
}

impl<'p> UnitCursor<'p> {
    pub(super) fn new(pack: &'p Pack, unit: &'p Unit) -> Self {
        Self { pack, unit, page: Vec::new(), at: 0, next_frame: 0 }
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
                self.page = scanned.keys(self.pack)?.to_vec();
                self.at = 0;
            }
            (_, Some(directory)) => {
                self.next_frame = directory.floor(key)?.unwrap_or(0);
                self.load_next()?;
            }
            (_, None) => return Ok(()),
        }
        while self.peek().is_some_and(|(found, _)| found.as_slice() < key) {
            self.advance()?;
        }
        Ok(())
    }

    pub(super) fn peek(&self) -> Option<&(Vec<u8>, EntryPlace)> {
        self.page.get(self.at)
    }

    pub(super) fn advance(&mut self) -> Result<()> {
        self.at += 1;
        if self.at >= self.page.len() { self.load_next() } else { Ok(()) }
    }

    /// Loads the next page that has a key.
    fn load_next(&mut self) -> Result<()> {
        self.page.clear();
        self.at = 0;
        let Some(directory) = self.directory() else {
            return Ok(());
        };
        while self.page.is_empty() && self.next_frame < directory.frame_count()? {
            let frame = self.pack.listed_frame(directory.frame(self.next_frame)?)?;
            self.next_frame += 1;
            self.page = Self::page(self.pack, &frame)?;
        }
        Ok(())
    }

    /// The keys of a frame of entries or keys, in order.
    pub(super) fn page(pack: &Pack, frame: &Frame) -> Result<Vec<(Vec<u8>, EntryPlace)>> {
        match &frame.items {
            Items::Keys(rows) => Ok(rows.iter().map(|row| (row.key.clone(), row.place)).collect()),
            Items::Entries(table) => {
                let body = frame.body(&*pack.bytes)?;
                let mut page = Vec::with_capacity(table.len());
                for item in 0..table.len() {
                    if let Some((space, key)) = table.key(&body, item) {
                        page.push((key::encode(space, key), frame.entry_place(item)?));
                    }
                }
                Ok(page)
            }
            _ => Err(FormatError::new(Rule::Index, frame.header.offset).into()),
        }
    }
}
