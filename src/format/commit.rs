//! Commit: the payload of a `commit` frame, which makes everything before it part of the pack.
//! A commit with sections, or with the flag of one, is a *footer*: it ends its segment.

use super::frame::FrameKind;
use super::{Check, EntryPlace, FormatError, Locator, Result, Rule, array, u64_at};
use crate::hash::Hash;

/// Last eight bytes of every commit.
pub const TRAILER_MAGIC: [u8; 8] = *b"PEFC/end";

const NUMBER_AT: usize = 0;
const LOG_SIZE_AT: usize = NUMBER_AT + 8;
const GENERATION_AT: usize = LOG_SIZE_AT + 8;
const SEAL_AT: usize = GENERATION_AT + 8;
const SEAL_CHECK_AT: usize = SEAL_AT + 8;
const PREVIOUS_COMMIT_AT: usize = SEAL_CHECK_AT + 8;
const PREVIOUS_FOOTER_AT: usize = PREVIOUS_COMMIT_AT + 8;
const NEXT_UNIT_AT: usize = PREVIOUS_FOOTER_AT + 8;
const COVERS_FROM_AT: usize = NEXT_UNIT_AT + 8;
const FLAGS_AT: usize = COVERS_FROM_AT + 8;
const SECTIONS_AT: usize = FLAGS_AT + 1;
const RESERVED_AT: usize = SECTIONS_AT + 1;
/// Bytes before the sections.
pub const FIXED_LEN: usize = RESERVED_AT + 6;

/// Length of one section row: kind, frame offset, hash of the section's head.
pub const SECTION_LEN: usize = 8 + 8 + Hash::LEN;

/// Length of the trailer: segment offset, commit frame offset, magic.
pub const TRAILER_LEN: usize = 8 + 8 + TRAILER_MAGIC.len();

const FLAG_FOOTER: u8 = 1;

/// An index section of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What the section is: the number of its frame's kind. Unknown ones are ignored. The row of
    /// `signatures` is no index: it names the newest frame of signatures, anywhere below.
    pub kind: u64,
    /// File offset of its frame.
    pub frame_offset: u64,
    /// BLAKE3 of the section's head (count, parameter and page table); of a signatures frame, of its
    /// payload.
    pub head_hash: Hash,
}

/// What a footer adds to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// File offset of the first segment that this footer's index covers; it covers all from there
    /// to the footer.
    pub covers_from: u64,
    /// File offset of the footer whose index continues below `covers_from`, 0 if none does.
    pub next_unit: u64,
    /// Sections; no index in a unit so small that it is scanned.
    pub sections: Vec<Section>,
}

impl Footer {
    /// Whether the unit has an index, and is not scanned.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        let index = [FrameKind::ObjectIndex, FrameKind::KeyDirectory];
        index.into_iter().any(|kind| self.section(kind).is_some())
    }

    /// The row of a kind.
    #[must_use]
    pub fn section(&self, kind: FrameKind) -> Option<&Section> {
        self.sections.iter().find(|row| row.kind == u64::from(kind.number()))
    }
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Number of the commit in the pack, from 1.
    pub number: u64,
    /// Entries in the log.
    pub log_size: u64,
    /// Seals in the log.
    pub generation: u64,
    /// Place of the newest seal's entry.
    pub seal: Option<EntryPlace>,
    /// File offset of the commit frame before this one, 0 if there is none.
    pub previous_commit: u64,
    /// File offset of the newest footer before this commit, 0 if there is none.
    pub previous_footer: u64,
    /// Present if this commit ends its segment.
    pub footer: Option<Footer>,
    /// SHA-256 roots of the complete subtrees of the log, largest first: one per set bit of
    /// `log_size`. The log's root follows from them.
    pub frontier: Vec<[u8; 32]>,
    /// File offset of the segment.
    pub segment_offset: u64,
    /// File offset of this commit's frame.
    pub frame_offset: u64,
}

impl Commit {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + TRAILER_LEN + 32 * self.frontier.len());
        let footer = self.footer.as_ref();
        for number in [
            self.number,
            self.log_size,
            self.generation,
            self.seal.map_or(0, |seal| seal.locator.number()),
            self.seal.map_or(0, |seal| u64::from_le_bytes(seal.check)),
            self.previous_commit,
            self.previous_footer,
            footer.map_or(0, |footer| footer.next_unit),
            footer.map_or(0, |footer| footer.covers_from),
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sections = footer.map_or(&[][..], |footer| &footer.sections);
        out.push(if footer.is_some() { FLAG_FOOTER } else { 0 });
        out.push(u8::try_from(sections.len()).unwrap_or(u8::MAX)); // a handful are defined
        out.extend_from_slice(&[0; 6]);
        for section in sections {
            out.extend_from_slice(&section.kind.to_le_bytes());
            out.extend_from_slice(&section.frame_offset.to_le_bytes());
            out.extend_from_slice(section.head_hash.as_bytes());
        }
        self.frontier.iter().for_each(|node| out.extend_from_slice(node));
        out.extend_from_slice(&self.segment_offset.to_le_bytes());
        out.extend_from_slice(&self.frame_offset.to_le_bytes());
        out.extend_from_slice(&TRAILER_MAGIC);
        out
    }

    /// Reads the payload of the commit frame at file offset `frame_offset`.
    pub fn decode(bytes: &[u8], frame_offset: u64) -> Result<Self> {
        let fault = |rule, at: usize| Err(FormatError::new(rule, at as u64));
        if bytes.len() < FIXED_LEN + TRAILER_LEN {
            return fault(Rule::Truncated, bytes.len());
        }
        if bytes[RESERVED_AT..FIXED_LEN] != [0; 6] || bytes[FLAGS_AT] & !FLAG_FOOTER != 0 {
            return fault(Rule::Reserved, FLAGS_AT);
        }
        let section_count = usize::from(bytes[SECTIONS_AT]);
        let log_size = u64_at(bytes, LOG_SIZE_AT);
        let frontier_at = FIXED_LEN + section_count * SECTION_LEN;
        let frontier_count = usize::try_from(log_size.count_ones()).unwrap_or(usize::MAX);
        let trailer_at = frontier_at + frontier_count * 32;
        if bytes.len() != trailer_at + TRAILER_LEN {
            let (found, expected) = (bytes.len() as u64, (trailer_at + TRAILER_LEN) as u64);
            return Err(FormatError::numbers(Rule::Length, SECTIONS_AT as u64, found, expected));
        }
        let trailer = Trailer::decode(&array(bytes, trailer_at))
            .ok_or(FormatError::new(Rule::Trailer, trailer_at as u64))?;
        if trailer.frame_offset != frame_offset {
            return fault(Rule::Trailer, trailer_at + 8);
        }
        let sections: Vec<Section> = bytes[FIXED_LEN..frontier_at]
            .chunks_exact(SECTION_LEN)
            .map(|row| Section {
                kind: u64_at(row, 0),
                frame_offset: u64_at(row, 8),
                head_hash: Hash::from_bytes(array(row, 16)),
            })
            .collect();
        if !sections.is_sorted_by(|a, b| a.kind < b.kind) {
            return fault(Rule::Commit, FIXED_LEN);
        }
        let (next_unit, covers_from) = (u64_at(bytes, NEXT_UNIT_AT), u64_at(bytes, COVERS_FROM_AT));
        let footer = if bytes[FLAGS_AT] & FLAG_FOOTER != 0 {
            Some(Footer { covers_from, next_unit, sections })
        } else if section_count != 0 || next_unit != 0 || covers_from != 0 {
            return fault(Rule::Commit, FLAGS_AT);
        } else {
            None
        };
        let (seal, check): (u64, Check) = (u64_at(bytes, SEAL_AT), array(bytes, SEAL_CHECK_AT));
        let locator = Locator::from_number(seal);
        if locator.is_none() && (seal != 0 || check != [0; 8]) {
            return fault(Rule::Commit, SEAL_AT);
        }
        let commit = Self {
            number: u64_at(bytes, NUMBER_AT),
            log_size,
            generation: u64_at(bytes, GENERATION_AT),
            seal: locator.map(|locator| EntryPlace { locator, check }),
            previous_commit: u64_at(bytes, PREVIOUS_COMMIT_AT),
            previous_footer: u64_at(bytes, PREVIOUS_FOOTER_AT),
            footer,
            frontier: bytes[frontier_at..trailer_at]
                .chunks_exact(32)
                .map(|n| array(n, 0))
                .collect(),
            segment_offset: trailer.segment_offset,
            frame_offset,
        };
        commit.check_order()?;
        Ok(commit)
    }

    /// Everything a commit points to lies before it, and its numbers agree with each other.
    fn check_order(&self) -> Result<()> {
        let fault = |at: usize| Err(FormatError::new(Rule::Commit, at as u64));
        if self.number == 0 || (self.number == 1) != (self.previous_commit == 0) {
            return fault(NUMBER_AT);
        }
        if self.generation > self.number || self.generation > self.log_size {
            return fault(GENERATION_AT);
        }
        if (self.generation == 0) != self.seal.is_none() {
            return fault(SEAL_AT);
        }
        if self.seal.is_some_and(|seal| seal.frame_offset() >= self.frame_offset) {
            return fault(SEAL_AT);
        }
        if self.previous_commit >= self.frame_offset {
            return fault(PREVIOUS_COMMIT_AT);
        }
        if self.previous_footer > self.previous_commit || self.segment_offset >= self.frame_offset {
            return fault(PREVIOUS_FOOTER_AT);
        }
        if let Some(footer) = &self.footer {
            let ordered = footer.covers_from <= self.segment_offset
                && (footer.next_unit == 0) == (footer.covers_from == 0)
                && (footer.next_unit == 0 || footer.next_unit < footer.covers_from)
                && footer.sections.iter().all(|section| section.frame_offset < self.frame_offset);
            if !ordered {
                return fault(NEXT_UNIT_AT);
            }
        }
        Ok(())
    }
}

/// The end of a commit, from which a reader that comes from the end of the file finds its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// File offset of the segment that the commit is in.
    pub segment_offset: u64,
    /// File offset of the commit's frame.
    pub frame_offset: u64,
}

impl Trailer {
    /// Reads a trailer; `None` if these bytes are not one.
    #[must_use]
    pub fn decode(bytes: &[u8; TRAILER_LEN]) -> Option<Self> {
        (bytes[16..] == TRAILER_MAGIC)
            .then(|| Self { segment_offset: u64_at(bytes, 0), frame_offset: u64_at(bytes, 8) })
    }
}

/// The table of `spec/format.md`: offset and length of every fixed field.
pub const FIELDS: [(&str, usize, usize); 12] = [
    ("number", NUMBER_AT, 8),
    ("log_size", LOG_SIZE_AT, 8),
    ("generation", GENERATION_AT, 8),
    ("seal", SEAL_AT, 8),
    ("seal_check", SEAL_CHECK_AT, 8),
    ("previous_commit", PREVIOUS_COMMIT_AT, 8),
    ("previous_footer", PREVIOUS_FOOTER_AT, 8),
    ("next_unit", NEXT_UNIT_AT, 8),
    ("covers_from", COVERS_FROM_AT, 8),
    ("flags", FLAGS_AT, 1),
    ("section_count", SECTIONS_AT, 1),
    ("reserved", RESERVED_AT, 6),
];

const _: () = assert!(FIXED_LEN == 80 && SECTION_LEN == 48 && TRAILER_LEN == 24);

#[cfg(test)]
mod tests {
    use super::*;

    fn seal_at(offset: u64) -> Option<EntryPlace> {
        let locator = Locator::new(offset, 4)?;
        Some(EntryPlace { locator, check: *b"checksum" })
    }

    fn commit() -> Commit {
        Commit {
            number: 2,
            log_size: 5,
            generation: 1,
            seal: seal_at(640),
            previous_commit: 512,
            previous_footer: 512,
            footer: Some(Footer {
                covers_from: 600,
                next_unit: 512,
                sections: vec![Section { kind: 7, frame_offset: 700, head_hash: Hash::of(b"h") }],
            }),
            frontier: vec![[1; 32], [2; 32]],
            segment_offset: 600,
            frame_offset: 1000,
        }
    }

    #[test]
    fn round_trip_and_length() {
        let bytes = commit().encode();
        assert_eq!(bytes.len(), 80 + 48 + 64 + 24);
        assert_eq!(Commit::decode(&bytes, 1000), Ok(commit()));
        let plain = Commit { footer: None, ..commit() };
        assert_eq!(Commit::decode(&plain.encode(), 1000), Ok(plain));
    }

    #[test]
    fn contradictions_are_refused() {
        let cases: [fn(&mut Commit); 8] = [
            |c| c.number = 0,
            |c| c.generation = 9,
            |c| c.seal = None,
            |c| c.seal = seal_at(1000),
            |c| c.previous_commit = 1000,
            |c| c.previous_footer = 520,
            |c| c.footer.as_mut().unwrap().covers_from = 601,
            |c| c.footer.as_mut().unwrap().next_unit = 0,
        ];
        for (number, break_it) in cases.into_iter().enumerate() {
            let mut bad = commit();
            break_it(&mut bad);
            let error = Commit::decode(&bad.encode(), 1000).unwrap_err();
            assert_eq!(error.rule, Rule::Commit, "case {number}");
        }
        let mut bytes = Commit { generation: 0, seal: None, ..commit() }.encode();
        assert!(Commit::decode(&bytes, 1000).is_ok());
        bytes[SEAL_CHECK_AT] = 1;
        assert_eq!(
            Commit::decode(&bytes, 1000).unwrap_err().rule,
            Rule::Commit,
            "a check of nothing"
        );
        let bytes = commit().encode();
        assert_eq!(Commit::decode(&bytes, 1008).unwrap_err().rule, Rule::Trailer);
        for len in 0..bytes.len() {
            assert!(Commit::decode(&bytes[..len], 1000).is_err());
        }
    }
}
