//! What frames of objects hold: several objects together, records, and chunk lists.

use super::{
    FormatError, OBJECT_BYTES_MAX, Result, Rule, array, put_uvarint, take_uvarint, u32_at,
};
use crate::hash::{GROUP_BYTES, Hash, Prefix, root_of_groups};
use std::ops::Range;

/// Writes the length table that begins the body of an `objects` frame of more than one object.
pub fn put_lengths(out: &mut Vec<u8>, lengths: &[u32]) {
    if lengths.len() > 1 {
        lengths.iter().for_each(|length| put_uvarint(out, u64::from(*length)));
    }
}

/// Where each object lies in the body of an `objects` or `dictionary` frame, in order. Objects are
/// not empty, and nothing lies between or after them.
pub fn object_ranges(body: &[u8], count: u32) -> Result<Vec<Range<usize>>> {
    if count == 1 {
        if body.is_empty() {
            return Err(FormatError::new(Rule::Length, 0));
        }
        return Ok(std::iter::once(0..body.len()).collect());
    }
    // Each length takes a byte at least, so a count beyond the body can't reserve memory.
    if count as usize > body.len() {
        return Err(FormatError::numbers(Rule::Length, 0, count.into(), body.len() as u64));
    }
    let mut at = 0;
    let mut lengths = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = at as u64;
        let length = take_uvarint(body, &mut at)?;
        let length =
            usize::try_from(length).ok().filter(|length| (1..=body.len()).contains(length));
        lengths.push(length.ok_or(FormatError::new(Rule::Length, start))?);
    }
    let mut ranges = Vec::with_capacity(lengths.len());
    for length in lengths {
        if length > body.len() - at {
            return Err(FormatError::new(Rule::Length, at as u64));
        }
        ranges.push(at..at + length);
        at += length;
    }
    if at != body.len() {
        return Err(FormatError::numbers(Rule::Trailing, at as u64, body.len() as u64, at as u64));
    }
    Ok(ranges)
}

/// Row of the table that begins the body of a `records` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRow {
    /// First eight bytes of the record's name.
    pub prefix: Prefix,
    /// End of the record's stored bytes, counted from the end of the table.
    pub end: u32,
    /// Length before compression; equal to the stored length if the record is stored raw.
    pub raw_bytes: u32,
}

impl RecordRow {
    /// Length in bytes.
    pub const LEN: usize = 8 + 4 + 4;

    /// The 16 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.prefix.to_bytes());
        out[8..12].copy_from_slice(&self.end.to_le_bytes());
        out[12..].copy_from_slice(&self.raw_bytes.to_le_bytes());
        out
    }

    /// Row `index` of a body, and where its record is stored in the body. Without reading the other
    /// rows, so that one record of a large frame costs little.
    pub fn find(body: &[u8], count: u32, index: u32) -> Result<(Self, Range<usize>)> {
        let table = count as usize * Self::LEN;
        let at = index as usize * Self::LEN;
        if index >= count || table > body.len() {
            return Err(FormatError::new(Rule::Length, 0));
        }
        let end_of = |at: usize| u32_at(body, at + 8);
        let start = if index == 0 { 0 } else { end_of(at - Self::LEN) };
        let row = Self {
            prefix: Prefix::from_bytes(array(body, at)),
            end: end_of(at),
            raw_bytes: u32_at(body, at + 12),
        };
        let stored = table + start as usize..table + row.end as usize;
        let raw = row.raw_bytes as usize;
        let fits = stored.start < stored.end && stored.end <= body.len() && stored.len() <= raw;
        if fits { Ok((row, stored)) } else { Err(FormatError::new(Rule::Length, at as u64)) }
    }

    /// All rows, checked to tile the body and to add up to `raw_bytes`.
    pub fn all(body: &[u8], count: u32, raw_bytes: u32) -> Result<Vec<(Self, Range<usize>)>> {
        if count as usize > body.len() / Self::LEN {
            return Err(FormatError::new(Rule::Length, 0));
        }
        let rows: Vec<_> =
            (0..count).map(|index| Self::find(body, count, index)).collect::<Result<_>>()?;
        let end = rows.last().map_or(0, |(_, stored)| stored.end);
        let total: u64 = rows.iter().map(|(row, _)| u64::from(row.raw_bytes)).sum();
        if end != body.len() {
            return Err(FormatError::new(Rule::Trailing, end as u64));
        }
        if total != u64::from(raw_bytes) {
            return Err(FormatError::numbers(Rule::Length, 0, total, raw_bytes.into()));
        }
        Ok(rows)
    }
}

/// One piece of an object that is stored in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Name of the piece, which is an object of its own.
    pub name: Hash,
    /// Its length.
    pub len: u64,
}

/// An object that is stored in pieces: the chunks in order, and the chaining value of each 256 KiB
/// group, from which the object's name and any range of it can be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList {
    /// Length of the object.
    pub len: u64,
    /// The pieces, at least two; their lengths add up to `len`.
    pub chunks: Vec<Chunk>,
    /// One value per group, at least two.
    pub groups: Vec<[u8; 32]>,
}

impl ChunkList {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.len);
        put_uvarint(out, self.chunks.len() as u64);
        for chunk in &self.chunks {
            out.extend_from_slice(chunk.name.as_bytes());
            put_uvarint(out, chunk.len);
        }
        self.groups.iter().for_each(|value| out.extend_from_slice(value));
    }

    /// Reads one list at `*at` and moves `*at` behind it.
    pub fn decode(bytes: &[u8], at: &mut usize) -> Result<Self> {
        let start = *at as u64;
        let len = take_uvarint(bytes, at)?;
        let chunk_count = take_uvarint(bytes, at)?;
        let group_count = len.div_ceil(GROUP_BYTES);
        let left = (bytes.len() - *at) as u64;
        // A list of one chunk would have the chunk's name: the chunk is the object.
        if len > OBJECT_BYTES_MAX || group_count < 2 || chunk_count < 2 {
            return Err(FormatError::numbers(Rule::ChunkList, start, len, GROUP_BYTES + 1));
        }
        // A chunk takes 33 bytes at least, a group 32: false counts can't reserve memory.
        if chunk_count > left / 33 || group_count > left / 32 {
            return Err(FormatError::numbers(Rule::Truncated, start, left, chunk_count));
        }
        let mut chunks = Vec::with_capacity(usize::try_from(chunk_count).unwrap_or(0));
        let mut total = 0_u64;
        for _ in 0..chunk_count {
            let name = take_32(bytes, at)?;
            let chunk_len = take_uvarint(bytes, at)?;
            total = total.saturating_add(chunk_len);
            if chunk_len == 0 || total > len {
                return Err(FormatError::numbers(Rule::ChunkList, *at as u64, total, len));
            }
            chunks.push(Chunk { name: Hash::from_bytes(name), len: chunk_len });
        }
        if total != len {
            return Err(FormatError::numbers(Rule::ChunkList, start, total, len));
        }
        let groups = (0..group_count).map(|_| take_32(bytes, at)).collect::<Result<_>>()?;
        Ok(Self { len, chunks, groups })
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> Option<Hash> {
        root_of_groups(&self.groups, self.len)
    }

    /// All lists in the body of a `lists` frame.
    pub fn all(body: &[u8], count: u32) -> Result<Vec<Self>> {
        let mut at = 0;
        let mut lists = Vec::new();
        for _ in 0..count {
            lists.push(Self::decode(body, &mut at)?);
        }
        if at != body.len() {
            return Err(FormatError::new(Rule::Trailing, at as u64));
        }
        Ok(lists)
    }
}

fn take_32(bytes: &[u8], at: &mut usize) -> Result<[u8; 32]> {
    let start = *at;
    if bytes.len() - start < 32 {
        return Err(FormatError::new(Rule::Truncated, start as u64));
    }
    *at += 32;
    Ok(array(bytes, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_tile_the_body() {
        let mut body = Vec::new();
        put_lengths(&mut body, &[3, 200, 1]);
        let table = body.len();
        assert_eq!(table, 4);
        body.extend(std::iter::repeat_n(7, 204));
        let ranges = object_ranges(&body, 3).unwrap();
        assert_eq!(ranges, [4..7, 7..207, 207..208]);
        assert_eq!(object_ranges(&body[..207], 3).unwrap_err().rule, Rule::Length);
        body.push(0);
        assert_eq!(object_ranges(&body, 3).unwrap_err().rule, Rule::Trailing);
        assert!(object_ranges(&[], 1).is_err());
        assert!(object_ranges(&[0, 1, 5], 2).is_err(), "an empty object");
        assert!(object_ranges(&[1; 10], u32::MAX).is_err());
    }

    #[test]
    fn records_are_found_without_the_others() {
        let rows = [(5_u32, 9_u32), (6, 1)];
        let mut body = Vec::new();
        for (end, raw_bytes) in rows {
            body.extend(RecordRow { prefix: Hash::of(b"x").prefix(), end, raw_bytes }.encode());
        }
        body.extend_from_slice(b"hello!");
        assert_eq!(RecordRow::find(&body, 2, 1).unwrap().1, 37..38);
        assert_eq!(RecordRow::all(&body, 2, 10).unwrap().len(), 2);
        assert!(RecordRow::all(&body, 2, 11).is_err());
        assert!(RecordRow::find(&body, 2, 2).is_err());
        assert!(RecordRow::all(&body[..37], 2, 10).is_err());
    }

    #[test]
    fn chunk_lists_name_their_object() {
        let content = vec![9_u8; 600_000];
        let mut hasher = crate::hash::GroupHasher::default();
        hasher.update(&content);
        let (name, groups) = hasher.finish();
        let chunks = [&content[..350_000], &content[350_000..]]
            .map(|piece| Chunk { name: Hash::of(piece), len: piece.len() as u64 });
        let list = ChunkList { len: 600_000, chunks: chunks.to_vec(), groups };
        let mut body = Vec::new();
        list.encode(&mut body);
        assert_eq!(list.name(), Some(name));
        assert_eq!(ChunkList::all(&body, 1), Ok(vec![list]));
        for len in 0..body.len() {
            assert!(ChunkList::all(&body[..len], 1).is_err());
        }
    }
}
