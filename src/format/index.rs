//! Indexes: sections that are read in place, page by page, and pages of keys.
//!
//! A section is `head | region`. The head is `count u64 | parameter u64 | page table`, the table
//! holds the BLAKE3 of each 16 KiB page of the region, and the footer holds the BLAKE3 of the head:
//! so a reader checks what it touches, when it touches it, and nothing at open.

use super::{
    Check, EntryPlace, FormatError, KEY_BYTES_MAX, Locator, Result, Rule, array, put_uvarint,
    take_uvarint, u32_at, u64_at,
};
use crate::hash::{Hash, Prefix};

/// Bytes of a region that one hash of the page table covers.
pub const PAGE_BYTES: u64 = 16 << 10;

/// Bytes of a head before its page table.
const FIXED_LEN: u64 = 16;

/// How a section's payload divides into head and region; it follows from its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionShape {
    /// Pages of the region.
    pub page_count: u64,
    /// Bytes of the head: the region begins there.
    pub head_len: u64,
    /// Bytes of the region.
    pub region_len: u64,
}

impl SectionShape {
    /// The shape of a payload of `payload_len` bytes.
    pub fn of(payload_len: u64) -> Result<Self> {
        let fault = FormatError::numbers(Rule::Length, 0, payload_len, FIXED_LEN);
        let rest = payload_len.checked_sub(FIXED_LEN).ok_or(fault)?;
        let page_count = rest.div_ceil(PAGE_BYTES + Hash::LEN as u64);
        let head_len = FIXED_LEN + page_count * Hash::LEN as u64;
        let region_len = payload_len.checked_sub(head_len).ok_or(fault)?;
        if region_len.div_ceil(PAGE_BYTES) != page_count {
            return Err(fault);
        }
        Ok(Self { page_count, head_len, region_len })
    }
}

/// The numbers and the page table at the beginning of a section.
#[derive(Debug, Clone, Copy)]
pub struct SectionHead<'a> {
    /// Rows of the section.
    pub count: u64,
    /// Meaning by section.
    pub parameter: u64,
    table: &'a [u8],
}

impl<'a> SectionHead<'a> {
    /// Reads a head whose bytes were checked against the footer.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() < 16 || !bytes.len().is_multiple_of(16) {
            return Err(FormatError::new(Rule::Length, 0));
        }
        Ok(Self { count: u64_at(bytes, 0), parameter: u64_at(bytes, 8), table: &bytes[16..] })
    }

    /// The hash of page `page`.
    #[must_use]
    pub fn page_hash(&self, page: u64) -> Option<Hash> {
        let at = usize::try_from(page).ok()?.checked_mul(Hash::LEN)?;
        self.table.get(at..at + Hash::LEN).map(|hash| Hash::from_bytes(array(hash, 0)))
    }
}

/// Puts a head before a region. Returns the payload and the hash of its head.
#[must_use]
pub fn section(count: u64, parameter: u64, region: &[u8]) -> (Vec<u8>, Hash) {
    let page = usize::try_from(PAGE_BYTES).unwrap_or(usize::MAX);
    let mut payload = Vec::with_capacity(region.len() + region.len() / 500 + 64);
    payload.extend_from_slice(&count.to_le_bytes());
    payload.extend_from_slice(&parameter.to_le_bytes());
    region.chunks(page).for_each(|page| payload.extend_from_slice(Hash::of(page).as_bytes()));
    let head_hash = Hash::of(&payload);
    payload.extend_from_slice(region);
    (payload, head_hash)
}

/// Row of the object index: which object lies where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRow {
    /// First eight bytes of the object's name.
    pub prefix: Prefix,
    /// Its place.
    pub place: Locator,
}

impl ObjectRow {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// The 16 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.prefix.to_bytes());
        out[8..].copy_from_slice(&self.place.number().to_le_bytes());
        out
    }

    /// Reads a row.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self> {
        let place = Locator::from_number(u64_at(bytes, 8));
        let place = place.ok_or(FormatError::new(Rule::Index, 8))?;
        Ok(Self { prefix: Prefix::from_bytes(array(bytes, 0)), place })
    }
}

/// Bits of the fan-out of an object index of `count` rows: 2 to 4 rows a bucket.
#[must_use]
pub fn fanout_bits(count: u64) -> u32 {
    count.max(1).ilog2().saturating_sub(1).clamp(2, 30)
}

/// Bytes of the fan-out table: for each bucket, the number of rows in it and the ones before.
#[must_use]
pub fn fanout_len(bits: u32) -> u64 {
    4 << bits
}

/// The payload of an object index of sorted rows, and the hash of its head.
#[must_use]
pub fn object_index(rows: &[ObjectRow]) -> (Vec<u8>, Hash) {
    let count = rows.len() as u64;
    let bits = fanout_bits(count);
    let buckets = 1_usize << bits;
    let mut region = Vec::with_capacity(buckets * 4 + rows.len() * ObjectRow::LEN);
    let mut row = 0_u32;
    for bucket in 0..buckets {
        // `row` stays below 2^32: an index frame's 32-bit length ends at 2^28 rows.
        while rows.get(row as usize).is_some_and(|next| next.prefix.top_bits(bits) == bucket) {
            row += 1;
        }
        region.extend_from_slice(&row.to_le_bytes());
    }
    rows.iter().for_each(|row| region.extend_from_slice(&row.encode()));
    section(count, bits.into(), &region)
}

/// A frame of entries or keys that a key directory lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedFrame {
    /// File offset of the frame.
    pub offset: u64,
    /// The check in its header: a frame that stood there before has another.
    pub check: Check,
}

/// Row of a key directory: a frame of entries or keys, and the first key of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryRow {
    /// The frame.
    pub frame: ListedFrame,
    /// Where the key begins in the text behind the rows.
    pub key_at: u32,
    /// The key's length, space byte included.
    pub key_len: u32,
}

impl DirectoryRow {
    /// Length in bytes.
    pub const LEN: usize = 24;

    /// Reads a row.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            frame: ListedFrame { offset: u64_at(bytes, 0), check: array(bytes, 8) },
            key_at: u32_at(bytes, 16),
            key_len: u32_at(bytes, 20),
        }
    }
}

/// The payload of a key directory over frames and their first keys, in key order, and the hash of
/// its head. `key_count` is how many keys the frames hold.
#[must_use]
pub fn key_directory(frames: &[(ListedFrame, Vec<u8>)], key_count: u64) -> (Vec<u8>, Hash) {
    let mut region = Vec::with_capacity(frames.len() * (DirectoryRow::LEN + 40));
    let mut key_at = 0_u32;
    for (frame, key) in frames {
        // Keys have at most 4,097 bytes and frames about a thousand keys: far from 32 bits.
        let key_len = u32::try_from(key.len()).unwrap_or(u32::MAX);
        region.extend_from_slice(&frame.offset.to_le_bytes());
        region.extend_from_slice(&frame.check);
        region.extend_from_slice(&key_at.to_le_bytes());
        region.extend_from_slice(&key_len.to_le_bytes());
        key_at = key_at.saturating_add(key_len);
    }
    frames.iter().for_each(|(_, key)| region.extend_from_slice(key));
    section(frames.len() as u64, key_count, &region)
}

/// A key (space byte first) and the place of its newest entry in the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Space and key.
    pub key: Vec<u8>,
    /// Place of the `put` or `del` entry.
    pub place: EntryPlace,
}

/// Bytes of a key row behind its key: locator and check.
const KEY_PLACE_LEN: usize = 16;

/// Appends `row` to the body of a `keys` frame in which `previous` came before.
pub fn put_key_row(out: &mut Vec<u8>, previous: &[u8], row: &KeyRow) {
    let shared = previous.iter().zip(&row.key).take_while(|(a, b)| a == b).count();
    put_uvarint(out, shared as u64);
    put_uvarint(out, (row.key.len() - shared) as u64);
    out.extend_from_slice(&row.key[shared..]);
    out.extend_from_slice(&row.place.locator.number().to_le_bytes());
    out.extend_from_slice(&row.place.check);
}

/// The rows of a `keys` frame in strictly rising key order, their keys side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRows {
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
    places: Vec<EntryPlace>,
}

impl KeyRows {
    /// Adds a row: space byte and key, greater than the one before.
    pub fn push(&mut self, key: &[u8], place: EntryPlace) {
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        self.places.push(place);
    }

    /// Decodes the body of a frame of `count` rows.
    pub fn decode(body: &[u8], count: u32) -> Result<Self> {
        let mut at = 0;
        // A row takes more than its place, so a false count can't reserve memory.
        let about = (count as usize).min(body.len() / KEY_PLACE_LEN);
        let mut keys = Vec::with_capacity(2 * body.len());
        let (mut ends, mut places) = (Vec::with_capacity(about), Vec::with_capacity(about));
        let mut previous = 0..0;
        for _ in 0..count {
            let row_at = at as u64;
            let fault = |rule| FormatError::new(rule, row_at);
            let shared = usize::try_from(take_uvarint(body, &mut at)?).unwrap_or(usize::MAX);
            let suffix_len = usize::try_from(take_uvarint(body, &mut at)?).unwrap_or(usize::MAX);
            if shared > previous.len() || suffix_len > (KEY_BYTES_MAX + 1).saturating_sub(shared) {
                return Err(fault(Rule::Length));
            }
            if body.len() - at < suffix_len + KEY_PLACE_LEN {
                return Err(fault(Rule::Truncated));
            }
            let suffix = &body[at..at + suffix_len];
            // One encoding: the shared part is as long as it can be. So the keys rise if their first
            // different bytes do.
            let differs = keys.get(previous.start + shared..previous.end).and_then(<[u8]>::first);
            let rises = match (differs, suffix.first()) {
                (None, Some(_)) => true,
                (Some(old), Some(new)) => old < new,
                (_, None) => false,
            };
            if shared + suffix_len < 2 || !rises {
                return Err(fault(Rule::Index));
            }
            let locator = Locator::from_number(u64_at(body, at + suffix_len));
            let locator = locator.ok_or(fault(Rule::Index))?;
            places.push(EntryPlace { locator, check: array(body, at + suffix_len + 8) });
            let start = keys.len();
            keys.extend_from_within(previous.start..previous.start + shared);
            keys.extend_from_slice(suffix);
            ends.push(keys.len());
            previous = start..keys.len();
            at += suffix_len + KEY_PLACE_LEN;
        }
        if at != body.len() {
            return Err(FormatError::new(Rule::Trailing, at as u64));
        }
        Ok(Self { keys, ends, places })
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The key of a row, space byte first.
    #[must_use]
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        let end = *self.ends.get(row)?;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.keys.get(start..end)
    }

    /// The first row whose key is not less than `key`.
    #[must_use]
    pub fn position(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle) {
                Some(found) if found < key => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// The place of the entry of a row.
    #[must_use]
    pub fn place(&self, row: usize) -> Option<EntryPlace> {
        self.places.get(row).copied()
    }

    /// Memory that they take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let each = size_of::<usize>() + size_of::<EntryPlace>();
        self.keys.capacity() + self.places.len() * each
    }
}

/// All rows of a `keys` frame, in strictly rising key order, each on its own.
pub fn key_rows(body: &[u8], count: u32) -> Result<Vec<KeyRow>> {
    let rows = KeyRows::decode(body, count)?;
    let each = (0..rows.len()).filter_map(|row| Some((rows.key(row)?, rows.place(row)?)));
    Ok(each.map(|(key, place)| KeyRow { key: key.to_vec(), place }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_follows_from_the_length() {
        for region_len in [0, 1, 16_383, 16_384, 16_385, 100_000, 16_384 * 513] {
            let region = vec![1; region_len];
            let (payload, hash) = section(3, 4, &region);
            let shape = SectionShape::of(payload.len() as u64).unwrap();
            assert_eq!(shape.region_len, region_len as u64);
            let head_len = usize::try_from(shape.head_len).unwrap();
            assert_eq!(Hash::of(&payload[..head_len]), hash);
            let head = SectionHead::decode(&payload[..head_len]).unwrap();
            assert_eq!((head.count, head.parameter), (3, 4));
            if region_len > 0 {
                assert_eq!(head.page_hash(0), Some(Hash::of(&region[..region_len.min(16_384)])));
            }
            assert_eq!(head.page_hash(shape.page_count), None);
        }
        assert!(SectionShape::of(15).is_err());
        assert!(SectionShape::of(17).is_err(), "a page without a byte");
    }

    #[test]
    fn object_index_counts_buckets() {
        let mut rows: Vec<ObjectRow> = (0..1000_u32)
            .map(|i| ObjectRow {
                prefix: Hash::of(&i.to_le_bytes()).prefix(),
                place: Locator::new(64, i).unwrap(),
            })
            .collect();
        rows.sort();
        let (payload, _) = object_index(&rows);
        let shape = SectionShape::of(payload.len() as u64).unwrap();
        let region = &payload[usize::try_from(shape.head_len).unwrap()..];
        let bits = fanout_bits(1000);
        assert_eq!(bits, 8);
        assert_eq!(u32_at(region, (1 << bits) * 4 - 4), 1000);
        let at = usize::try_from(fanout_len(bits)).unwrap();
        assert_eq!(ObjectRow::decode(&array(region, at)), Ok(rows[0]));
    }

    #[test]
    fn key_rows_round_trip_and_refuse_disorder() {
        let place = EntryPlace { locator: Locator::new(64, 1).unwrap(), check: *b"checksum" };
        let row = |key: &str| KeyRow { key: key.into(), place };
        let rows = [row("\0a"), row("\0ab"), row("\0b/x"), row("\0b/y")];
        let mut body = Vec::new();
        let mut previous = &[][..];
        for row in &rows {
            put_key_row(&mut body, previous, row);
            previous = &row.key;
        }
        assert_eq!(key_rows(&body, 4), Ok(rows.to_vec()));
        for len in 0..body.len() {
            assert!(key_rows(&body[..len], 4).is_err());
        }
        let mut bad = Vec::new();
        put_key_row(&mut bad, &[], &rows[1]);
        put_key_row(&mut bad, &rows[1].key, &rows[0]);
        assert_eq!(key_rows(&bad, 2).unwrap_err().rule, Rule::Index);
    }
}
