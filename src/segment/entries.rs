//! The entries of an `entries` frame, found once, and searched by key.

use super::Result;
use super::heads::KeyHeads;
use crate::format::entry::Entry;
use crate::format::frame::{FLAG_SORTED, FrameHeader};
use crate::format::{FormatError, Rule, u64_at};

/// The entries in the body of an `entries` frame: the log index of the first one, and where each
/// lies in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryTable {
    /// Log index of the first entry.
    pub first_index: u64,
    /// Start of each entry, and the end of the last one.
    starts: Vec<u32>,
    /// Where the key of each entry lies; of length 0 for entries without one.
    keys: Vec<KeySpan>,
    /// For a sorted run: the first entry that has a key, and the keys from there on.
    run: Option<(usize, KeyHeads)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeySpan {
    start: u32,
    len: u32,
    space: u8,
    is_put: bool,
}

impl EntryTable {
    /// Bytes before the first entry: its log index.
    pub const HEAD_LEN: usize = 8;

    /// Memory that the table takes for an entry, in bytes.
    pub const ITEM_BYTES: usize = size_of::<u32>() + size_of::<KeySpan>() + KeyHeads::ITEM_BYTES;

    /// Finds and checks all entries of a body.
    pub fn decode(header: &FrameHeader, body: &[u8]) -> Result<Self> {
        let fault = |rule, at: usize| FormatError::new(rule, header.payload_offset() + at as u64);
        if body.len() < Self::HEAD_LEN {
            return Err(fault(Rule::Truncated, 0).into());
        }
        let mut at = Self::HEAD_LEN;
        // An entry takes more than one byte, so a false count can't reserve memory.
        let mut starts = Vec::with_capacity((header.item_count as usize).min(body.len()) + 1);
        let position = |at: usize| u32::try_from(at).map_err(|_| fault(Rule::Limit, at));
        starts.push(position(at)?);
        let mut keys = Vec::with_capacity(starts.capacity());
        for _ in 0..header.item_count {
            let (entry, len) = Entry::decode(&body[at..])
                .map_err(|error| error.within(header.payload_offset() + at as u64))?;
            let (space, key, is_put) = match &entry {
                Entry::Put(put) => (put.space, &*put.key, true),
                Entry::Delete(delete) => (delete.space, &*delete.key, false),
                Entry::Genesis(_) | Entry::Keys(_) | Entry::Seal(_) => (0, &body[..0], false),
            };
            // The decoder borrows: the key is a part of the body.
            let start = position((key.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize))?;
            keys.push(KeySpan { start, len: position(key.len())?, space, is_put });
            at += len;
            starts.push(position(at)?);
        }
        if at != body.len() {
            return Err(fault(Rule::Trailing, at).into());
        }
        let is_sorted = header.flags & FLAG_SORTED != 0;
        let run = if is_sorted { sorted_run(body, &keys) } else { None };
        Ok(Self { first_index: u64_at(body, 0), starts, keys, run })
    }

    /// The item of a sorted run that has `key` in `space`, if there is one.
    ///
    /// # Errors
    /// A broken rule for entries that are no sorted run.
    pub fn find(&self, body: &[u8], space: u8, key: &[u8]) -> crate::format::Result<Option<usize>> {
        let fault = || FormatError::new(Rule::Index, 0);
        let (first, heads) = self.run.as_ref().ok_or_else(fault)?;
        let found = heads.find((space, key), |position| self.key(body, first + position));
        Ok(found.map(|position| first + position))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of entry `item`.
    #[must_use]
    pub fn entry<'a>(&self, body: &'a [u8], item: usize) -> Option<&'a [u8]> {
        let (start, end) = (*self.starts.get(item)?, *self.starts.get(item + 1)?);
        body.get(start as usize..end as usize)
    }

    /// Space and key of entry `item`; `None` for one that has none.
    #[must_use]
    pub fn key<'a>(&self, body: &'a [u8], item: usize) -> Option<(u8, &'a [u8])> {
        let span = self.keys.get(item).filter(|span| span.len > 0)?;
        let start = span.start as usize;
        Some((span.space, body.get(start..start + span.len as usize)?))
    }

    /// Whether entry `item` is a put.
    #[must_use]
    pub fn is_put(&self, item: usize) -> bool {
        self.keys.get(item).is_some_and(|span| span.is_put)
    }
}

/// The keys of a frame that calls itself sorted. Genesis, keys and seal have none: they stand before
/// and behind the run. `None` if they stand within, or the keys are not in order.
fn sorted_run(body: &[u8], keys: &[KeySpan]) -> Option<(usize, KeyHeads)> {
    let has_key = |span: &KeySpan| span.len > 0;
    let first = keys.iter().position(has_key)?;
    let run = &keys[first..=keys.iter().rposition(has_key)?];
    let key = |span: &KeySpan| {
        let start = span.start as usize;
        (span.space, body.get(start..start + span.len as usize).unwrap_or(&[]))
    };
    let heads = KeyHeads::new(run.iter().map(key))?;
    run.iter().all(has_key).then_some((first, heads))
}
