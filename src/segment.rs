//! Frames of a file: reading one with its hash checked, and walking all of them in order with
//! their chain checked.
//!
//! This layer knows what a commit is, not what entries and objects mean.

use crate::compress::{DecodeDictionary, Decompressor, History};
use crate::disk::ReadAt;
use crate::format::commit::{Commit, TRAILER_LEN, Trailer};
use crate::format::entry::Entry;
use crate::format::frame::{Codec, FrameHeader, FrameKind};
use crate::format::segment::SegmentHeader;
use crate::format::{FormatError, REFERENCE_BYTES_MAX, Rule, TAIL_BYTES_MAX, array, u64_at};
use crate::hash::Hash;
use std::borrow::Cow;
use std::cell::RefCell;
use std::io;

/// Why bytes of a pack could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They break a rule; the offset is one of the file.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The system could not read them.
    #[error("reading at byte {offset}: {source}")]
    Io {
        /// File offset.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
}

impl ReadError {
    /// The broken rule, if that is what went wrong.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Self::Format(error) => Some(error.rule),
            Self::Io { .. } => None,
        }
    }
}

/// Result of reading.
pub type Result<T> = std::result::Result<T, ReadError>;

/// The bytes `offset..offset + len`; fewer are [`Rule::Truncated`].
pub fn read(bytes: &dyn ReadAt, offset: u64, len: u64) -> Result<Cow<'_, [u8]>> {
    let end = offset.checked_add(len).filter(|end| *end <= bytes.len());
    let Some(end) = end else {
        let error =
            FormatError::numbers(Rule::Truncated, offset, bytes.len(), offset.saturating_add(len));
        return Err(error.into());
    };
    bytes.slice(offset..end).map_err(|source| ReadError::Io { offset, source })
}

/// The segment header at `offset`, and its check.
pub fn read_segment_header(bytes: &dyn ReadAt, offset: u64) -> Result<(SegmentHeader, [u8; 8])> {
    let found = bytes.len().saturating_sub(offset);
    if found < SegmentHeader::LEN as u64 {
        // Say "no pack" of a short file that does not even begin like one.
        let start = read(bytes, offset, found)?;
        let magic = crate::format::segment::MAGIC;
        let like = start.iter().zip(&magic).all(|(a, b)| a == b) && !start.is_empty();
        let rule = if like || offset > 0 { Rule::Truncated } else { Rule::SegmentMagic };
        return Err(FormatError::numbers(rule, offset, found, SegmentHeader::LEN as u64).into());
    }
    let header = array(&read(bytes, offset, SegmentHeader::LEN as u64)?, 0);
    Ok((SegmentHeader::decode(&header, offset)?, SegmentHeader::check(&header)))
}

/// The frame header at `offset`, and its check.
pub fn read_frame_header(bytes: &dyn ReadAt, offset: u64) -> Result<(FrameHeader, [u8; 8])> {
    let header = array(&read(bytes, offset, FrameHeader::LEN as u64)?, 0);
    Ok((FrameHeader::decode(&header, offset)?, FrameHeader::check(&header)))
}

/// A frame's payload, its stored hash and padding checked.
pub fn read_payload<'a>(bytes: &'a dyn ReadAt, header: &FrameHeader) -> Result<Cow<'a, [u8]>> {
    let len = u64::from(header.stored_bytes);
    let payload = read(bytes, header.payload_offset(), len)?;
    if Hash::of(&payload) != header.stored_hash {
        return Err(FormatError::new(Rule::StoredHash, header.payload_offset()).into());
    }
    check_padding(bytes, header)?;
    Ok(payload)
}

/// The padding behind a frame: there, and zero.
pub fn check_padding(bytes: &dyn ReadAt, header: &FrameHeader) -> Result<()> {
    let padding = read(bytes, header.payload_end(), header.padding() as u64)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(FormatError::new(Rule::Padding, header.payload_end()).into());
    }
    Ok(())
}

/// The commit in the frame at `offset`, all of it checked but its place in the chain.
pub fn read_commit(bytes: &dyn ReadAt, offset: u64) -> Result<(FrameHeader, [u8; 8], Commit)> {
    let (header, check) = read_frame_header(bytes, offset)?;
    if header.kind != FrameKind::Commit {
        return Err(FormatError::new(Rule::Commit, offset).into());
    }
    let payload = read_payload(bytes, &header)?;
    let commit =
        Commit::decode(&payload, offset).map_err(|error| error.within(header.payload_offset()))?;
    Ok((header, check, commit))
}

/// The commit whose trailer ends at `end`, if there is a valid one.
#[must_use]
pub fn commit_ending_at(bytes: &dyn ReadAt, end: u64) -> Option<Commit> {
    let start = end.checked_sub(TRAILER_LEN as u64)?;
    let trailer = Trailer::decode(&array(&read(bytes, start, TRAILER_LEN as u64).ok()?, 0))?;
    let (header, _, commit) = read_commit(bytes, trailer.frame_offset).ok()?;
    (header.next_offset() == end).then_some(commit)
}

thread_local! {
    // Contexts are made once a thread, not once a frame.
    static DECODER: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's decoder.
pub(crate) fn with_decoder<T>(
    work: impl FnOnce(&mut Decompressor) -> crate::format::Result<T>,
) -> crate::format::Result<T> {
    DECODER.with_borrow_mut(|decoder| match decoder {
        Some(decoder) => work(decoder),
        None => work(decoder.insert(Decompressor::new()?)),
    })
}

/// What the referenced objects of a frame give its decoder.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// The frame has no references.
    Nothing,
    /// The referenced objects, one after the other.
    Prefix(Vec<u8>),
    /// The referenced dictionary.
    Dictionary(std::sync::Arc<DecodeDictionary>),
}

impl Resolved {
    /// Joins referenced objects, within the limits of the format.
    pub fn new(header: &FrameHeader, objects: &[impl AsRef<[u8]>]) -> Result<Self> {
        let total: u64 = objects.iter().map(|object| object.as_ref().len() as u64).sum();
        if total > REFERENCE_BYTES_MAX {
            let at = header.payload_offset();
            return Err(FormatError::numbers(Rule::Limit, at, total, REFERENCE_BYTES_MAX).into());
        }
        match (header.codec, objects) {
            (Codec::ZstdPrefix, _) => {
                Ok(Self::Prefix(objects.iter().flat_map(|o| o.as_ref().iter().copied()).collect()))
            }
            (Codec::ZstdDictionary, [dictionary]) => {
                let dictionary = DecodeDictionary::new(dictionary.as_ref())
                    .map_err(|error| error.within(header.payload_offset()))?;
                Ok(Self::Dictionary(std::sync::Arc::new(dictionary)))
            }
            _ => Ok(Self::Nothing),
        }
    }

    fn history(&self) -> History<'_> {
        match self {
            Self::Nothing => History::Empty,
            Self::Prefix(bytes) => History::Prefix(bytes),
            Self::Dictionary(dictionary) => History::Dictionary(dictionary),
        }
    }
}

/// Decodes the body of a frame that is compressed as a whole (all kinds but records).
pub fn decode_body<'a>(
    header: &FrameHeader,
    body: &'a [u8],
    resolved: &Resolved,
) -> Result<Cow<'a, [u8]>> {
    if header.codec == Codec::Raw {
        return Ok(Cow::Borrowed(body));
    }
    let raw_bytes = header.raw_bytes as usize;
    with_decoder(|decoder| decoder.decompress(body, raw_bytes, resolved.history()))
        .map(Cow::Owned)
        .map_err(|error| FormatError { offset: header.payload_offset(), ..error }.into())
}

/// Decodes one record of a records frame.
pub fn decode_record(
    header: &FrameHeader,
    stored: &[u8],
    raw_bytes: u32,
    resolved: &Resolved,
) -> Result<Vec<u8>> {
    if stored.len() == raw_bytes as usize {
        return Ok(stored.to_vec());
    }
    with_decoder(|decoder| decoder.decompress(stored, raw_bytes as usize, resolved.history()))
        .map_err(|error| FormatError { offset: header.payload_offset(), ..error }.into())
}

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
        Ok(Self { first_index: u64_at(body, 0), starts, keys })
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

/// One step of a [`Walker`].
#[derive(Debug)]
pub enum Step {
    /// A segment begins.
    Segment(SegmentHeader),
    /// A frame that is no commit. Its payload was not looked at.
    Frame(FrameHeader),
    /// A commit, read and checked.
    Commit(FrameHeader, Box<Commit>),
}

#[derive(Debug, Clone, Copy)]
struct OpenSegment {
    offset: u64,
    previous: [u8; 8],
    ordinal: u32,
}

/// Goes through segments and frames from the beginning of the file or from behind a footer, and
/// holds every header to the chain.
#[derive(Debug)]
pub struct Walker<'a> {
    bytes: &'a dyn ReadAt,
    end: u64,
    position: u64,
    segment: Option<OpenSegment>,
    /// Offset and check of the last commit frame.
    commit: (u64, [u8; 8]),
    log_size: u64,
    number: u64,
    previous_footer: u64,
    generation: u64,
}

impl<'a> Walker<'a> {
    /// From the beginning to `end`.
    #[must_use]
    pub fn new(bytes: &'a dyn ReadAt, end: u64) -> Self {
        Self {
            bytes,
            end,
            position: 0,
            segment: None,
            commit: (0, [0; 8]),
            log_size: 0,
            number: 0,
            previous_footer: 0,
            generation: 0,
        }
    }

    /// From behind a commit to `end`.
    pub fn after(bytes: &'a dyn ReadAt, commit: &Commit, end: u64) -> Result<Self> {
        let (header, check) = read_frame_header(bytes, commit.frame_offset)?;
        let (segment, previous_footer) = match &commit.footer {
            Some(_) => (None, commit.frame_offset),
            None => {
                let (offset, ordinal) = (commit.segment_offset, header.ordinal + 1);
                (Some(OpenSegment { offset, previous: check, ordinal }), commit.previous_footer)
            }
        };
        Ok(Self {
            bytes,
            end,
            position: header.next_offset(),
            segment,
            commit: (commit.frame_offset, check),
            log_size: commit.log_size,
            number: commit.number,
            previous_footer,
            generation: commit.generation,
        })
    }

    /// Where the next step begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// File offset of the segment that the walk is in, if it is in one.
    #[must_use]
    pub fn segment_offset(&self) -> Option<u64> {
        self.segment.map(|segment| segment.offset)
    }

    /// Check of the last header of the open segment and the ordinal of the next frame: what a
    /// writer that goes on needs.
    #[must_use]
    pub fn chain(&self) -> Option<([u8; 8], u32)> {
        self.segment.map(|segment| (segment.previous, segment.ordinal))
    }

    /// Offset and check of the last commit frame passed; zeros if there was none.
    #[must_use]
    pub fn last_commit(&self) -> (u64, [u8; 8]) {
        self.commit
    }

    /// The next header, `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not stop at an error")]
    pub fn next(&mut self) -> Result<Option<Step>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let step = match self.segment {
            None => self.segment_step()?,
            Some(segment) => self.frame_step(segment)?,
        };
        Ok(Some(step))
    }

    /// Whether what stopped the walk stands as it was written, so that it is no tear: a header whose
    /// own check, offset and chain are right, or the payload of a commit that matches its hash.
    fn stopped_at_written(&self) -> bool {
        let head = |len: usize| read(self.bytes, self.position, len as u64).ok();
        let Some(segment) = self.segment else {
            let header = head(SegmentHeader::LEN).map(|bytes| array(&bytes, 0));
            let chain = (self.log_size, self.commit.0, self.commit.1);
            return header.is_some_and(|h| SegmentHeader::is_written(&h, self.position, chain));
        };
        let Some(header) = head(FrameHeader::LEN).map(|bytes| array(&bytes, 0)) else {
            return false;
        };
        if !FrameHeader::is_written(&header, self.position, segment.ordinal, segment.previous) {
            return false;
        }
        match FrameHeader::decode(&header, self.position) {
            Err(_) => true,
            Ok(header) if header.kind == FrameKind::Commit => {
                let payload = read(self.bytes, header.payload_offset(), header.stored_bytes.into());
                payload.is_ok_and(|payload| Hash::of(&payload) == header.stored_hash)
            }
            Ok(_) => false,
        }
    }

    fn segment_step(&mut self) -> Result<Step> {
        let offset = self.position;
        let (header, check) = read_segment_header(self.bytes, offset)?;
        let continues = (header.previous_commit, header.previous) == self.commit;
        if !continues || header.log_size != self.log_size {
            return Err(FormatError::new(Rule::Chain, offset).into());
        }
        self.segment = Some(OpenSegment { offset, previous: check, ordinal: 0 });
        self.position += SegmentHeader::LEN as u64;
        Ok(Step::Segment(header))
    }

    fn frame_step(&mut self, segment: OpenSegment) -> Result<Step> {
        let offset = self.position;
        let (header, check) = read_frame_header(self.bytes, offset)?;
        if header.previous != segment.previous || header.ordinal != segment.ordinal {
            return Err(FormatError::new(Rule::Chain, offset).into());
        }
        if header.next_offset() > self.end {
            let error =
                FormatError::numbers(Rule::Truncated, offset, self.end, header.next_offset());
            return Err(error.into());
        }
        let next = OpenSegment { previous: check, ordinal: segment.ordinal + 1, ..segment };
        let step = if header.kind == FrameKind::Commit {
            let commit = self.commit_step(&header, segment)?;
            self.commit = (offset, check);
            self.segment = if commit.footer.is_some() { None } else { Some(next) };
            Step::Commit(header, Box::new(commit))
        } else {
            self.segment = Some(next);
            Step::Frame(header)
        };
        self.position = header.next_offset();
        Ok(step)
    }

    /// Holds a commit to the ones before it.
    fn commit_step(&mut self, header: &FrameHeader, segment: OpenSegment) -> Result<Commit> {
        let payload = read_payload(self.bytes, header)?;
        let at = header.payload_offset();
        let commit = Commit::decode(&payload, header.offset).map_err(|error| error.within(at))?;
        let seals = commit.generation.wrapping_sub(self.generation);
        let agrees = commit.segment_offset == segment.offset
            && commit.previous_commit == self.commit.0
            && commit.number == self.number + 1
            && commit.previous_footer == self.previous_footer
            && commit.log_size >= self.log_size
            && (seals == 0 || seals == 1 && commit.footer.is_some());
        if !agrees {
            return Err(FormatError::new(Rule::Commit, at).into());
        }
        self.number = commit.number;
        self.log_size = commit.log_size;
        self.generation = commit.generation;
        if commit.footer.is_some() {
            self.previous_footer = header.offset;
        }
        Ok(commit)
    }
}

/// What is committed in a file, and what is not.
#[derive(Debug)]
pub struct Committed {
    /// The last commit.
    pub last: Commit,
    /// The newest footer at or before it.
    pub footer: Option<Commit>,
    /// End of what is committed.
    pub end: u64,
    /// Bytes behind it: a commit that was not finished.
    pub torn_bytes: u64,
    /// Frames between the newest footer and the end, commits left out.
    pub tail: Vec<FrameHeader>,
}

/// Finds the end of what is committed (`spec/durability.md`).
pub fn find_committed(bytes: &dyn ReadAt) -> Result<Committed> {
    let len = bytes.len();
    read_segment_header(bytes, 0)?;
    if let Some(last) = commit_ending_at(bytes, len).filter(|commit| commit.footer.is_some()) {
        return Ok(Committed {
            footer: Some(last.clone()),
            last,
            end: len,
            torn_bytes: 0,
            tail: Vec::new(),
        });
    }
    let newest = search_back(bytes, len);
    let footer = match &newest {
        Some(commit) if commit.footer.is_some() => Some(commit.clone()),
        Some(commit) if commit.previous_footer != 0 => {
            Some(read_footer(bytes, commit.previous_footer)?)
        }
        Some(_) => None,
        // A long append that was cut short: go through the headers from the beginning.
        None => last_footer(bytes),
    };
    replay(bytes, footer.clone(), footer, newest.as_ref())
}

/// Finds the end of what is committed in a file of which it is known up to `last`, with `footer` the
/// newest footer until there. [`Committed::tail`] holds the frames behind `last` alone, or behind a
/// newer footer if there is one. Nothing before `last` is looked at.
pub fn find_committed_after(
    bytes: &dyn ReadAt,
    last: &Commit,
    footer: Option<&Commit>,
) -> Result<Committed> {
    let newest = commit_ending_at(bytes, bytes.len());
    replay(bytes, Some(last.clone()), footer.cloned(), newest.as_ref())
}

/// The footer whose frame is at `offset`.
fn read_footer(bytes: &dyn ReadAt, offset: u64) -> Result<Commit> {
    let (_, _, commit) = read_commit(bytes, offset)?;
    match commit.footer {
        Some(_) => Ok(commit),
        None => Err(FormatError::new(Rule::Commit, offset).into()),
    }
}

/// The last footer that a walk from the beginning reaches.
fn last_footer(bytes: &dyn ReadAt) -> Option<Commit> {
    let mut walker = Walker::new(bytes, bytes.len());
    let mut footer = None;
    while let Ok(Some(step)) = walker.next() {
        if let Step::Commit(_, commit) = step
            && commit.footer.is_some()
        {
            footer = Some(*commit);
        }
    }
    footer
}

/// The last valid commit that ends within the bound of a tail from the end of the file.
fn search_back(bytes: &dyn ReadAt, len: u64) -> Option<Commit> {
    const WINDOW: u64 = 1 << 20;
    let lowest = len.saturating_sub(2 * TAIL_BYTES_MAX);
    let mut end = len / 8 * 8;
    while end > lowest {
        let start = end.saturating_sub(WINDOW).max(lowest) / 8 * 8;
        let window = read(bytes, start, end - start).ok()?;
        let magic = crate::format::commit::TRAILER_MAGIC;
        let ends = window.chunks_exact(8).enumerate().rev().filter(|(_, eight)| *eight == magic);
        for (index, _) in ends {
            if let Some(commit) = commit_ending_at(bytes, start + (index as u64 + 1) * 8) {
                return Some(commit);
            }
        }
        end = start;
    }
    None
}

/// Walks what follows the commit `last`, or all, and stops behind the last whole commit. `footer` is
/// the newest footer until `last`.
fn replay(
    bytes: &dyn ReadAt,
    mut last: Option<Commit>,
    mut footer: Option<Commit>,
    newest: Option<&Commit>,
) -> Result<Committed> {
    let len = bytes.len();
    let mut walker = match &last {
        Some(last) => Walker::after(bytes, last, len)?,
        None => Walker::new(bytes, len),
    };
    let mut end = if last.is_some() { walker.position() } else { 0 };
    let mut tail = Vec::new();
    let mut pending = Vec::new();
    let mut written = false;
    let stopped = loop {
        match walker.next() {
            Ok(None) => break None,
            Ok(Some(Step::Segment(_))) => {}
            Ok(Some(Step::Frame(header))) => pending.push(header),
            Ok(Some(Step::Commit(_, commit))) => {
                // One sync covers the commit and all it covers: only together do they count.
                let whole = pending.iter().try_for_each(|h| read_payload(bytes, h).map(drop));
                if let Err(error) = whole {
                    break Some(error);
                }
                tail.append(&mut pending);
                end = walker.position();
                if commit.footer.is_some() {
                    tail.clear();
                    footer = Some((*commit).clone());
                }
                last = Some(*commit);
            }
            Err(error) => {
                written = walker.stopped_at_written();
                break Some(error);
            }
        }
    };
    if let Some(error) = stopped {
        let number = last.as_ref().map_or(0, |commit| commit.number);
        // A later commit that is whole proves that this was on disk once: damage, not a torn tail.
        // So does a footer, which is written after a sync of all that it covers.
        let proof = newest.is_some_and(|newest| {
            newest.number > number + 1 || (newest.number > number && newest.footer.is_some())
        });
        // What was written as it stands is not torn: a later version wrote it, or a faulty writer.
        if proof || written || last.is_none() || matches!(error, ReadError::Io { .. }) {
            return Err(error);
        }
    }
    let last = last.ok_or(FormatError::new(Rule::Truncated, len))?;
    Ok(Committed { last, footer, end, torn_bytes: len - end, tail })
}

/// What a [`Scan`] found.
#[derive(Debug)]
pub enum Found {
    /// A segment header, valid by itself.
    Segment(SegmentHeader),
    /// A frame header, valid by itself; its payload was not looked at.
    Frame(FrameHeader),
    /// Bytes that are neither, from an offset up to the next thing that is.
    Gap {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        len: u64,
    },
}

/// Goes through a file that may be damaged anywhere: headers count by their own check and their
/// own offset, chains and commits do not.
#[derive(Debug)]
pub struct Scan<'a> {
    bytes: &'a dyn ReadAt,
    position: u64,
}

impl<'a> Scan<'a> {
    /// From `position` to the end of the file.
    #[must_use]
    pub fn new(bytes: &'a dyn ReadAt, position: u64) -> Self {
        Self { bytes, position }
    }

    fn at(&self, offset: u64) -> Option<Found> {
        if let Ok((header, _)) = read_frame_header(self.bytes, offset) {
            return Some(Found::Frame(header));
        }
        read_segment_header(self.bytes, offset).ok().map(|(header, _)| Found::Segment(header))
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let len = self.bytes.len();
        if self.position >= len {
            return None;
        }
        match self.at(self.position) {
            Some(Found::Frame(header)) => {
                self.position = header.next_offset();
                return Some(Found::Frame(header));
            }
            Some(found) => {
                self.position += SegmentHeader::LEN as u64;
                return Some(found);
            }
            None => {}
        }
        // Only the first bytes of a header are compared until they fit.
        const WINDOW: u64 = 1 << 20;
        let offset = self.position;
        let mut at = (offset + 1).next_multiple_of(8);
        while at < len {
            let end = (at + WINDOW).min(len);
            let window = read(self.bytes, at, end - at).unwrap_or_default();
            for (index, eight) in window.chunks(8).enumerate() {
                let begins = eight.starts_with(&crate::format::frame::MAGIC)
                    || eight.starts_with(&crate::format::segment::MAGIC);
                let here = at + index as u64 * 8;
                if begins && self.at(here).is_some() {
                    self.position = here;
                    return Some(Found::Gap { offset, len: here - offset });
                }
            }
            at += WINDOW;
        }
        self.position = len;
        Some(Found::Gap { offset, len: len - offset })
    }
}
