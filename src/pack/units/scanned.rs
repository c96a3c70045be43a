//! Frames without an index: looked through once, and only when something asks.

use super::{for_each_key, object_rows};
use crate::format::EntryPlace;
use crate::format::commit::Commit;
use crate::format::frame::{FrameHeader, FrameKind};
use crate::format::index::{KeyRows, ObjectRow};
use crate::pack::Pack;
use crate::segment::Result;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// Frames that are looked through, because they are few.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) frames: Vec<FrameHeader>,
    /// The footer of a unit without sections; none for the tail.
    pub(crate) footer: Option<Commit>,
    keys: OnceLock<ScannedKeys>,
    objects: OnceLock<Vec<ObjectRow>>,
}

/// A key, space byte first, and its newest entry.
#[derive(Debug, Clone)]
pub(crate) struct KeyAt {
    pub(crate) key: Vec<u8>,
    pub(crate) place: EntryPlace,
    pub(crate) is_put: bool,
}

/// The keys of a scanned unit in order.
#[derive(Debug, Default)]
pub(crate) struct ScannedKeys {
    pub(crate) rows: KeyRows,
    /// Whether the newest entry of each is a put.
    pub(crate) puts: Vec<bool>,
    /// Hashes of the keys in order, each with the position of its row: a key is found with two or
    /// three cache misses, however many there are and however alike they are.
    hashes: Vec<(u64, u32)>,
    hasher: RandomState,
}

impl ScannedKeys {
    fn push(&mut self, key: &[u8], place: EntryPlace, is_put: bool) {
        self.rows.push(key, place);
        self.puts.push(is_put);
    }

    fn push_row(&mut self, other: &Self, row: usize) {
        if let (Some(key), Some(place)) = (other.rows.key(row), other.rows.place(row)) {
            self.push(key, place, other.puts.get(row).is_some_and(|is_put| *is_put));
        }
    }

    /// To be called once all are there.
    fn finish(mut self) -> Self {
        let rows = (0_u32..).map_while(|row| Some((self.rows.key(row as usize)?, row)));
        self.hashes = rows.map(|(key, row)| (self.hasher.hash_one(key), row)).collect();
        self.hashes.sort_unstable();
        self
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<EntryPlace> {
        let hash = self.hasher.hash_one(key);
        let from = lower_bound(self.hashes.len(), |at| self.hashes[at].0, hash);
        let same = self.hashes[from..].iter().take_while(|(found, _)| *found == hash);
        let mut rows = same.map(|(_, row)| *row as usize);
        rows.find(|row| self.rows.key(*row) == Some(key)).and_then(|row| self.rows.place(row))
    }
}

/// The first of `len` positions whose number is at least `wanted`. The numbers rise, and are spread
/// evenly, as hashes are: so the search begins where it should be, and doubles its steps from there.
pub(super) fn lower_bound(len: usize, number_at: impl Fn(usize) -> u64, wanted: u64) -> usize {
    let guess = (u128::from(wanted) * len as u128) >> 64;
    let guess = usize::try_from(guess).unwrap_or(0); // less than `len`
    let mut step = 4;
    let (mut low, mut high);
    if guess < len && number_at(guess) < wanted {
        low = guess + 1;
        while low + step < len && number_at(low + step) < wanted {
            low += step + 1;
            step *= 2;
        }
        high = len.min(low + step);
    } else {
        high = guess;
        while high > step && number_at(high - step) >= wanted {
            high -= step;
            step *= 2;
        }
        low = high.saturating_sub(step);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if number_at(middle) < wanted { low = middle + 1 } else { high = middle }
    }
    low
}

impl From<Vec<KeyAt>> for ScannedKeys {
    fn from(rows: Vec<KeyAt>) -> Self {
        let mut keys = Self::default();
        for row in &rows {
            keys.push(&row.key, row.place, row.is_put);
        }
        keys.finish()
    }
}

impl Scanned {
    pub(in crate::pack) fn new(frames: Vec<FrameHeader>, footer: Option<Commit>) -> Self {
        Self { frames, footer, keys: OnceLock::new(), objects: OnceLock::new() }
    }

    /// Frames whose keys and objects are known already, both in order.
    pub(in crate::pack) fn known(
        frames: Vec<FrameHeader>,
        keys: Vec<KeyAt>,
        objects: Vec<ObjectRow>,
    ) -> Self {
        let keys = OnceLock::from(ScannedKeys::from(keys));
        Self { frames, footer: None, keys, objects: objects.into() }
    }

    /// Two parts of a tail as one.
    pub(in crate::pack) fn joined(pack: &Pack, old: &Self, new: &Self) -> Result<Self> {
        let (older, newer) = (old.keys(pack)?, new.keys(pack)?);
        let mut keys = ScannedKeys::default();
        let mut before = 0;
        for row in 0..newer.rows.len() {
            while let Some(key) = older.rows.key(before)
                && Some(key) <= newer.rows.key(row)
            {
                if Some(key) < newer.rows.key(row) {
                    keys.push_row(older, before);
                }
                before += 1; // or it is replaced
            }
            keys.push_row(newer, row);
        }
        (before..older.rows.len()).for_each(|row| keys.push_row(older, row));
        let mut objects = [old.objects(pack)?, new.objects(pack)?].concat();
        objects.sort(); // two sorted runs: a merge
        let frames = [old.frames.as_slice(), &new.frames].concat();
        let keys = OnceLock::from(keys.finish());
        Ok(Self { frames, footer: None, keys, objects: objects.into() })
    }

    /// Keys with the place of their newest entry, in key order.
    pub(crate) fn keys(&self, pack: &Pack) -> Result<&ScannedKeys> {
        if let Some(keys) = self.keys.get() {
            return Ok(keys);
        }
        let mut rows = Vec::new();
        for header in self.frames.iter().filter(|header| header.kind == FrameKind::Entries) {
            let frame = pack.frame(header.offset)?;
            for_each_key(pack, &frame, |row| rows.push(row))?;
        }
        // Of equal keys the last one is the newest: the sort keeps their order, and what goes is the
        // one before.
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows.dedup_by(|newer, older| {
            let is_same = newer.key == older.key;
            if is_same {
                std::mem::swap(newer, older);
            }
            is_same
        });
        Ok(self.keys.get_or_init(|| rows.into()))
    }

    /// Objects by prefix, in the order of an index.
    pub(crate) fn objects(&self, pack: &Pack) -> Result<&[ObjectRow]> {
        if let Some(rows) = self.objects.get() {
            return Ok(rows);
        }
        let mut rows = Vec::new();
        for header in &self.frames {
            rows.extend(object_rows(pack, header)?);
        }
        rows.sort_unstable();
        Ok(self.objects.get_or_init(|| rows))
    }
}
