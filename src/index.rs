//! Index sections read in place: object index and key directory, each page checked when it is
//! first touched.
//!
//! This layer knows neither compression nor what entries mean.

use crate::disk::ReadAt;
use crate::format::commit::Section as SectionRow;
use crate::format::index::{
    DirectoryRow, ListedFrame, ObjectRow, PAGE_BYTES, SectionHead, SectionShape, fanout_bits,
    fanout_len,
};
use crate::format::{FormatError, Rule, array, u32_at, u64_at};
use crate::hash::{Hash, Prefix};
use crate::segment::{ReadError, Result, read, read_frame_header};
use quick_cache::sync::Cache;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Pages of a section that is not mapped are kept up to this many.
const CACHED_PAGES: usize = 256;

/// A section of a footer, opened but not read: opening costs one frame header.
#[derive(Debug)]
pub struct Section {
    bytes: Arc<dyn ReadAt>,
    payload_offset: u64,
    shape: SectionShape,
    head_hash: Hash,
    /// Count and parameter, once the head was checked.
    head: OnceLock<(u64, u64)>,
    /// A bit for each page that was checked. Allocated at the first touch.
    checked: OnceLock<Box<[AtomicU64]>>,
    /// Pages of a section that is read, not mapped.
    pages: OnceLock<Cache<u64, Arc<[u8]>>>,
}

impl Section {
    /// Opens the section of a footer's row.
    pub fn open(bytes: &Arc<dyn ReadAt>, row: &SectionRow) -> Result<Self> {
        let (header, _) = read_frame_header(&**bytes, row.frame_offset)?;
        if u64::from(header.kind.number()) != row.kind {
            return Err(FormatError::new(Rule::Index, row.frame_offset).into());
        }
        let payload_offset = header.payload_offset();
        let shape = SectionShape::of(header.stored_bytes.into())
            .map_err(|error| error.within(payload_offset))?;
        Ok(Self {
            bytes: Arc::clone(bytes),
            payload_offset,
            shape,
            head_hash: row.head_hash,
            head: OnceLock::new(),
            checked: OnceLock::new(),
            pages: OnceLock::new(),
        })
    }

    fn fault(&self, at: u64) -> ReadError {
        FormatError::new(Rule::Index, self.payload_offset + at).into()
    }

    /// The checked head.
    fn read_head(&self) -> Result<Cow<'_, [u8]>> {
        let head = read(&*self.bytes, self.payload_offset, self.shape.head_len)?;
        if Hash::of(&head) != self.head_hash {
            return Err(FormatError::new(Rule::StoredHash, self.payload_offset).into());
        }
        Ok(head)
    }

    fn numbers(&self) -> Result<(u64, u64)> {
        if let Some(numbers) = self.head.get() {
            return Ok(*numbers);
        }
        let bytes = self.read_head()?;
        let head =
            SectionHead::decode(&bytes).map_err(|error| error.within(self.payload_offset))?;
        Ok(*self.head.get_or_init(|| (head.count, head.parameter)))
    }

    /// Rows of the section.
    pub fn count(&self) -> Result<u64> {
        Ok(self.numbers()?.0)
    }

    /// The section's parameter.
    pub fn parameter(&self) -> Result<u64> {
        Ok(self.numbers()?.1)
    }

    /// The bytes `range` of the region, checked.
    fn region(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
        self.region_in(self.memory(), range)
    }

    /// The region, if it is in memory; its pages are not checked.
    #[inline]
    fn memory(&self) -> Option<&[u8]> {
        let memory = self.bytes.memory()?;
        let start = usize::try_from(self.payload_offset + self.shape.head_len).ok()?;
        let len = usize::try_from(self.shape.region_len).ok()?;
        memory.get(start..)?.get(..len)
    }

    /// The bytes `range` of the region, checked; from `memory` if there is one.
    ///
    /// A lookup is little more than two cache misses: the fewer instructions around them, the more
    /// lookups the processor has under way at once. So this is inlined, and asks for the memory
    /// once a lookup.
    #[inline(always)]
    fn region_in<'a>(
        &'a self,
        memory: Option<&'a [u8]>,
        range: Range<u64>,
    ) -> Result<Cow<'a, [u8]>> {
        if range.start >= range.end || range.end > self.shape.region_len {
            let empty = range.start == range.end && range.end <= self.shape.region_len;
            return if empty { Ok(Cow::Borrowed(&[])) } else { Err(self.fault(0)) };
        }
        let Some(memory) = memory else {
            return self.region_from_pages(range).map(Cow::Owned);
        };
        let (mut page, last) = (range.start / PAGE_BYTES, (range.end - 1) / PAGE_BYTES);
        self.check_page(page)?;
        while page < last {
            page += 1;
            self.check_page(page)?;
        }
        // In range: the memory has the length of the region.
        #[expect(clippy::cast_possible_truncation, reason = "at most the length of a slice")]
        let bytes = memory.get(range.start as usize..range.end as usize);
        bytes.map(Cow::Borrowed).ok_or_else(|| self.fault(range.start))
    }

    #[inline]
    fn check_page(&self, page: u64) -> Result<()> {
        let word = usize::try_from(page / 64).unwrap_or(usize::MAX);
        let bits = self.checked.get().and_then(|checked| checked.get(word));
        match bits {
            Some(bits) if bits.load(Ordering::Relaxed) & 1 << (page % 64) != 0 => Ok(()),
            _ => self.check_page_first(page),
        }
    }

    #[cold]
    fn check_page_first(&self, page: u64) -> Result<()> {
        let words = || (0..self.shape.page_count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let checked = self.checked.get_or_init(words);
        let word = usize::try_from(page / 64).ok().and_then(|word| checked.get(word));
        let word = word.ok_or_else(|| self.fault(0))?;
        self.read_page(page)?;
        word.fetch_or(1 << (page % 64), Ordering::Relaxed);
        Ok(())
    }

    fn read_page(&self, page: u64) -> Result<Cow<'_, [u8]>> {
        let start = page * PAGE_BYTES;
        let len = PAGE_BYTES.min(self.shape.region_len - start);
        let offset = self.payload_offset + self.shape.head_len + start;
        let bytes = read(&*self.bytes, offset, len)?;
        let head = self.read_head()?;
        let head = SectionHead::decode(&head).map_err(|e| e.within(self.payload_offset))?;
        if head.page_hash(page) != Some(Hash::of(&bytes)) {
            return Err(FormatError::new(Rule::StoredHash, offset).into());
        }
        Ok(bytes)
    }

    fn region_from_pages(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let pages = self.pages.get_or_init(|| Cache::new(CACHED_PAGES));
        let mut out = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let page = at / PAGE_BYTES;
            let bytes = pages.get_or_insert_with(&page, || -> Result<Arc<[u8]>> {
                Ok(self.read_page(page)?.into())
            })?;
            let from = usize::try_from(at % PAGE_BYTES).unwrap_or(usize::MAX);
            let to = usize::try_from(range.end - page * PAGE_BYTES).unwrap_or(usize::MAX);
            let part = bytes.get(from..to.min(bytes.len())).ok_or(self.fault(at))?;
            out.extend_from_slice(part);
            at = (page + 1) * PAGE_BYTES;
        }
        Ok(out)
    }
}

/// Finds objects by name.
#[derive(Debug)]
pub struct ObjectIndex {
    section: Section,
    /// Bits of the fan-out, once the section's numbers were checked.
    bits: OnceLock<u32>,
}

impl ObjectIndex {
    /// Over an opened section.
    #[must_use]
    pub fn new(section: Section) -> Self {
        Self { section, bits: OnceLock::new() }
    }

    /// How many objects it lists.
    pub fn count(&self) -> Result<u64> {
        self.section.count()
    }

    fn bits(&self) -> Result<u32> {
        if let Some(bits) = self.bits.get() {
            return Ok(*bits);
        }
        let (count, parameter) = self.section.numbers()?;
        let bits = fanout_bits(count);
        let rows = count.checked_mul(ObjectRow::LEN as u64);
        let region_len = rows.and_then(|rows| rows.checked_add(fanout_len(bits)));
        if u64::from(bits) != parameter || region_len != Some(self.section.shape.region_len) {
            return Err(self.section.fault(0));
        }
        Ok(*self.bits.get_or_init(|| bits))
    }

    /// The first row from position `from` on whose prefix is `prefix`, and its position.
    /// Two objects can share a prefix: the caller asks again from the position behind.
    pub fn find(&self, prefix: Prefix, from: u64) -> Result<Option<(u64, ObjectRow)>> {
        let bits = self.bits()?;
        let memory = self.section.memory();
        let region = |range: Range<u64>| self.section.region_in(memory, range);
        let bucket = prefix.top_bits(bits) as u64;
        let (start, end) = if bucket == 0 {
            (0, u32_at(&region(0..4)?, 0))
        } else {
            let ends = region(bucket * 4 - 4..bucket * 4 + 4)?;
            (u32_at(&ends, 0), u32_at(&ends, 4))
        };
        let (mut start, mut end) = (u64::from(start).max(from), u64::from(end));
        if end > self.count()? {
            return Err(self.section.fault(0));
        }
        if start >= end {
            return Ok(None);
        }
        // A bucket holds a few rows; a pack whose names were chosen to crowd one is still searched
        // in logarithmic time.
        while end - start > 16 {
            let middle = start + (end - start) / 2;
            if self.row_at(bits, middle - 1)?.prefix < prefix {
                start = middle
            } else {
                end = middle
            }
        }
        let wanted = u64::from_le_bytes(prefix.to_bytes());
        let at = |position: u64| fanout_len(bits) + position * ObjectRow::LEN as u64;
        let rows = region(at(start)..at(end))?;
        for (position, bytes) in (start..).zip(rows.chunks_exact(ObjectRow::LEN)) {
            if u64_at(bytes, 0) == wanted {
                let row = ObjectRow::decode(&array(bytes, 0));
                let row = row
                    .map_err(|_| self.section.fault(self.section.shape.head_len + at(position)))?;
                return Ok(Some((position, row)));
            }
        }
        Ok(None)
    }

    /// Row `position`.
    pub fn row(&self, position: u64) -> Result<ObjectRow> {
        self.row_at(self.bits()?, position)
    }

    fn row_at(&self, bits: u32, position: u64) -> Result<ObjectRow> {
        let at = fanout_len(bits) + position * ObjectRow::LEN as u64;
        let bytes = self.section.region(at..at + ObjectRow::LEN as u64)?;
        let row = ObjectRow::decode(&array(&bytes, 0));
        row.map_err(|_| self.section.fault(self.section.shape.head_len + at))
    }
}

/// Finds the frame that holds a key.
#[derive(Debug)]
pub struct KeyDirectory(Section);

impl KeyDirectory {
    /// Over an opened section.
    #[must_use]
    pub fn new(section: Section) -> Self {
        Self(section)
    }

    /// How many frames it lists.
    pub fn frame_count(&self) -> Result<u64> {
        self.0.count()
    }

    /// How many keys those frames hold.
    pub fn key_count(&self) -> Result<u64> {
        self.0.parameter()
    }

    /// Row `position`, from `memory` if the region is in memory.
    fn row(&self, memory: Option<&[u8]>, position: u64) -> Result<DirectoryRow> {
        let at = position.checked_mul(DirectoryRow::LEN as u64).ok_or_else(|| self.0.fault(0))?;
        let bytes = self.0.region_in(memory, at..at + DirectoryRow::LEN as u64)?;
        Ok(DirectoryRow::decode(&array(&bytes, 0)))
    }

    /// Frame `position`.
    pub fn frame(&self, position: u64) -> Result<ListedFrame> {
        Ok(self.row(self.0.memory(), position)?.frame)
    }

    /// Position of the last frame whose first key is at most `key`: the only one that can hold it.
    /// `None` if `key` is before the first one.
    pub fn floor(&self, key: &[u8]) -> Result<Option<u64>> {
        let memory = self.0.memory();
        let frame_count = self.frame_count()?;
        let text_at = frame_count.checked_mul(DirectoryRow::LEN as u64);
        let text_at = text_at.ok_or_else(|| self.0.fault(0))?;
        let (mut low, mut high) = (0, frame_count);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row(memory, middle)?;
            let start = text_at.checked_add(row.key_at.into()).ok_or_else(|| self.0.fault(0))?;
            let first = self.0.region_in(memory, start..start + u64::from(row.key_len))?;
            if *first <= *key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }
}
