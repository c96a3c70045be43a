//! The layouts of a pack, as pure functions over bytes: what `spec/format.md` says, in code.
//!
//! Every decoder takes a slice, allocates nothing that a declared length could inflate, and is
//! canonical: what it accepts, it would encode to the same bytes. This layer does no I/O, knows no
//! path, no clock and no compression.

use std::fmt;

pub mod cbor;
pub mod commit;
pub mod entry;
pub mod frame;
pub mod index;
pub mod object;
pub mod segment;
pub mod signature;

/// The format version that this crate writes and reads.
pub const VERSION: u16 = 1;

/// Frames start at multiples of this many bytes.
pub const ALIGN: u64 = 8;

/// A frame holds at most this many bytes before compression; chosen so that a reader's memory for
/// one frame is bounded. In-place sections are not decoded and may be longer.
pub const FRAME_RAW_BYTES_MAX: u32 = 16 << 20;

/// A frame of chunk lists holds at most this many bytes: 32 bytes for each 256 KiB of content and
/// about 35 for each chunk, so an object of some 6 TiB.
pub const LIST_BYTES_MAX: u32 = 1 << 30;

/// All references of one frame together have at most this many bytes.
pub const REFERENCE_BYTES_MAX: u64 = 8 << 20;

/// A frame names at most this many references.
pub const REFERENCES_MAX: u8 = 4;

/// A frame that is decoded with references has at most this many levels of them below it.
pub const REFERENCE_DEPTH_MAX: u8 = 3;

/// zstd window of any frame, as a power of two.
pub const WINDOW_LOG_MAX: u32 = 24;

/// A key has 1 to this many bytes.
pub const KEY_BYTES_MAX: usize = 4096;

/// A log entry has at most this many bytes, so that a tile server with 16-bit lengths can hold it.
pub const ENTRY_BYTES_MAX: usize = 16 << 10;

/// Open tail of a log without an index: a reader replays at most this much.
pub const TAIL_BYTES_MAX: u64 = 64 << 20;

/// Segments together smaller than this carry no index: a reader scans them.
pub const UNINDEXED_BYTES_MAX: u64 = 64 << 10;

/// A length of an object is at most this; [`LIST_BYTES_MAX`] bounds what a pack can hold.
pub const OBJECT_BYTES_MAX: u64 = 1 << 63;

/// Which rule of the specification some bytes break. The names are stable: test vectors,
/// `--json` and other readers use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The file does not begin with the magic of a pack.
    SegmentMagic,
    /// The magic was changed as a text-mode or 7-bit transfer does.
    SegmentMagicMangled,
    /// A format version that this reader does not know.
    Version,
    /// A feature that this reader must know and does not.
    Feature,
    /// A layout number that is not defined.
    Layout,
    /// A reserved byte that is not zero.
    Reserved,
    /// A header whose check does not match its bytes.
    HeaderCheck,
    /// A header that says it is elsewhere.
    Offset,
    /// A header that does not continue the chain of the one before.
    Chain,
    /// A frame that does not begin with the magic of a frame.
    FrameMagic,
    /// A frame kind that is critical and not defined.
    FrameKind,
    /// A codec that is not defined, or not for this kind of frame.
    Codec,
    /// Padding that is not zero.
    Padding,
    /// Stored bytes whose BLAKE3 differs from the one in the frame's header.
    StoredHash,
    /// Fewer bytes than a length says.
    Truncated,
    /// A length, count or position that contradicts another one.
    Length,
    /// Something larger than the limits of the format or of the reader.
    Limit,
    /// Compressed bytes that do not decode to exactly what the header says.
    Compression,
    /// An object whose BLAKE3 is not its name.
    ObjectName,
    /// A reference or chunk that is not in the pack.
    MissingObject,
    /// A reference that is later in the file, or too deep.
    Reference,
    /// CBOR that is not deterministic (RFC 8949, section 4.2.1) or outside the subset.
    Cbor,
    /// An entry that breaks the rules of its type.
    Entry,
    /// A key that breaks the rules of its space.
    Key,
    /// An entry in a place of the log where its type may not stand.
    LogOrder,
    /// A log tree that does not give the frontier in a commit.
    LogRoot,
    /// A seal whose map root is not the root of the live entries.
    MapRoot,
    /// A seal that contradicts the log before it.
    Seal,
    /// A commit that contradicts what it covers.
    Commit,
    /// The fixed trailer at the end of a commit.
    Trailer,
    /// An index that is not the one its frames give.
    Index,
    /// A chunk list that contradicts its name or itself.
    ChunkList,
    /// A signature, or the chain of them, that is not of this log.
    Signature,
    /// Bytes after the end of something that must be the end.
    Trailing,
}

impl Rule {
    /// Every rule, in the order of the specification.
    pub const ALL: [Self; 34] = [
        Self::SegmentMagic,
        Self::SegmentMagicMangled,
        Self::Version,
        Self::Feature,
        Self::Layout,
        Self::Reserved,
        Self::HeaderCheck,
        Self::Offset,
        Self::Chain,
        Self::FrameMagic,
        Self::FrameKind,
        Self::Codec,
        Self::Padding,
        Self::StoredHash,
        Self::Truncated,
        Self::Length,
        Self::Limit,
        Self::Compression,
        Self::ObjectName,
        Self::MissingObject,
        Self::Reference,
        Self::Cbor,
        Self::Entry,
        Self::Key,
        Self::LogOrder,
        Self::LogRoot,
        Self::MapRoot,
        Self::Seal,
        Self::Commit,
        Self::Trailer,
        Self::Index,
        Self::ChunkList,
        Self::Signature,
        Self::Trailing,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SegmentMagic => "segment-magic",
            Self::SegmentMagicMangled => "segment-magic-mangled",
            Self::Version => "version",
            Self::Feature => "feature",
            Self::Layout => "layout",
            Self::Reserved => "reserved",
            Self::HeaderCheck => "header-check",
            Self::Offset => "offset",
            Self::Chain => "chain",
            Self::FrameMagic => "frame-magic",
            Self::FrameKind => "frame-kind",
            Self::Codec => "codec",
            Self::Padding => "padding",
            Self::StoredHash => "stored-hash",
            Self::Truncated => "truncated",
            Self::Length => "length",
            Self::Limit => "limit",
            Self::Compression => "compression",
            Self::ObjectName => "object-name",
            Self::MissingObject => "missing-object",
            Self::Reference => "reference",
            Self::Cbor => "cbor",
            Self::Entry => "entry",
            Self::Key => "key",
            Self::LogOrder => "log-order",
            Self::LogRoot => "log-root",
            Self::MapRoot => "map-root",
            Self::Seal => "seal",
            Self::Commit => "commit",
            Self::Trailer => "trailer",
            Self::Index => "index",
            Self::ChunkList => "chunk-list",
            Self::Signature => "signature",
            Self::Trailing => "trailing",
        }
    }

    /// What the rule demands, in words.
    #[must_use]
    pub const fn demand(self) -> &'static str {
        match self {
            Self::SegmentMagic => "a pack begins with its magic number",
            Self::SegmentMagicMangled => {
                "the magic number was altered as a text-mode transfer does; copy the file in binary mode"
            }
            Self::Version => "the format version must be one that this program knows",
            Self::Feature => "every incompatible feature must be one that this program knows",
            Self::Layout => "the layout must be one that the format defines",
            Self::Reserved => "reserved bytes must be zero",
            Self::HeaderCheck => "a header must match its own check",
            Self::Offset => "a header must state its own position",
            Self::Chain => "a header must continue the one before it",
            Self::FrameMagic => "a frame begins with its magic number",
            Self::FrameKind => "a critical frame must be of a kind that this program knows",
            Self::Codec => "the codec must be one that the frame's kind allows",
            Self::Padding => "padding must be zero",
            Self::StoredHash => "stored bytes must match the hash in their frame's header",
            Self::Truncated => "all bytes that a length promises must be there",
            Self::Length => "lengths, counts and positions must agree",
            Self::Limit => "sizes must be within the limits",
            Self::Compression => "compressed bytes must decode to exactly the stated length",
            Self::ObjectName => "content must match its BLAKE3 name",
            Self::MissingObject => "every object that is referred to must be in the pack",
            Self::Reference => "references must point back and be at most three deep",
            Self::Cbor => "CBOR must be deterministic and within the format's subset",
            Self::Entry => "an entry must follow the rules of its type",
            Self::Key => "a key must follow the rules of its space",
            Self::LogOrder => "the log begins with genesis and has nothing twice",
            Self::LogRoot => "the log must give the tree that its commits state",
            Self::MapRoot => "the live entries must give the map root that the seal states",
            Self::Seal => "a seal must continue the log and the seal before it",
            Self::Commit => "a commit must agree with what it covers",
            Self::Trailer => "a commit ends in its trailer",
            Self::Index => "an index must be the one that its frames give",
            Self::ChunkList => "a chunk list must agree with its object's name and length",
            Self::Signature => {
                "signatures must be of a seal of this log, and lead to all before them"
            }
            Self::Trailing => "nothing may follow the end",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that break a rule of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatError {
    /// Which rule.
    pub rule: Rule,
    /// Where: the offset of the offending field, relative to what was decoded until a caller that
    /// knows the place adds it with [`FormatError::within`].
    pub offset: u64,
    /// What was there, where a number says it.
    pub found: Option<u64>,
    /// What should have been there or the largest value allowed, where a number says it.
    pub expected: Option<u64>,
}

impl FormatError {
    /// A broken rule at an offset.
    #[must_use]
    pub const fn new(rule: Rule, offset: u64) -> Self {
        Self { rule, offset, found: None, expected: None }
    }

    /// The same with the numbers that disagree.
    #[must_use]
    pub const fn numbers(rule: Rule, offset: u64, found: u64, expected: u64) -> Self {
        Self { rule, offset, found: Some(found), expected: Some(expected) }
    }

    /// The same error seen from a place that begins `base` bytes earlier.
    #[must_use]
    pub const fn within(mut self, base: u64) -> Self {
        self.offset = self.offset.saturating_add(base);
        self
    }
}

impl std::error::Error for FormatError {}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {} [{}]", self.offset, self.rule.demand(), self.rule)?;
        match (self.found, self.expected) {
            (Some(found), Some(expected)) => write!(f, " (found {found}, expected {expected})"),
            (Some(found), None) => write!(f, " (found {found})"),
            _ => Ok(()),
        }
    }
}

/// Result of a decoder.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Where an item is: a frame's offset in the file and the item's position within the frame.
///
/// As a number, `(offset / 8) << 24 | item`; 0 stands for "nowhere", since offset 0 is a segment
/// header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator(u64);

impl Locator {
    /// A frame holds at most this many items.
    pub const ITEMS_MAX: u32 = 1 << 24;
    /// Frames start below this file offset (8 TiB).
    pub const OFFSET_END: u64 = (1 << 40) * ALIGN;

    /// The place of item `item` of the frame at file offset `frame_offset`, if both are in range.
    #[must_use]
    pub fn new(frame_offset: u64, item: u32) -> Option<Self> {
        let fits = frame_offset != 0
            && frame_offset.is_multiple_of(ALIGN)
            && frame_offset < Self::OFFSET_END
            && item < Self::ITEMS_MAX;
        fits.then(|| Self((frame_offset / ALIGN) << 24 | u64::from(item)))
    }

    /// From its number; `None` for 0 and for offset 0.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        (number >> 24 != 0).then_some(Self(number))
    }

    /// The number as stored.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// File offset of the frame.
    #[must_use]
    pub const fn frame_offset(self) -> u64 {
        (self.0 >> 24) * ALIGN
    }

    /// Position within the frame, from 0.
    #[must_use]
    pub const fn item(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }
}

/// Where an entry is, and which frame it was in when that was written down. Another frame that stood
/// at the same offset has another check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPlace {
    /// The frame's offset and the entry's position in it.
    pub locator: Locator,
    /// The check in the frame's header.
    pub check: Check,
}

impl EntryPlace {
    /// File offset of the frame.
    #[must_use]
    pub const fn frame_offset(self) -> u64 {
        self.locator.frame_offset()
    }
}

/// The bytes `at..at + N`, which the caller knows to be there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// What a header ends in.
pub type Check = [u8; 8];

/// The first eight bytes of the BLAKE3 of `bytes`: the check of a header.
#[must_use]
pub fn check_of(bytes: &[u8]) -> Check {
    array(crate::hash::Hash::of(bytes).as_bytes(), 0)
}

/// Appends `value` as an unsigned LEB128 number of the fewest bytes.
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Reads an unsigned LEB128 number at `*at` and moves `*at` behind it. More bytes than needed are
/// refused, so that one number has one encoding.
pub fn take_uvarint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let start = *at;
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(FormatError::new(Rule::Truncated, *at as u64))?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 || (byte == 0 && shift > 0) {
            return Err(FormatError::new(Rule::Length, start as u64));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(FormatError::new(Rule::Length, start as u64))
}

/// `offset` rounded up to where the next frame may start.
#[must_use]
pub const fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uvarints_have_one_encoding() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, value);
            let mut at = 0;
            assert_eq!(take_uvarint(&bytes, &mut at), Ok(value));
            assert_eq!(at, bytes.len());
        }
        for bad in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0xff; 10], &[0x80], &[]] {
            assert!(take_uvarint(bad, &mut 0).is_err(), "{bad:x?}");
        }
    }

    #[test]
    fn locators_keep_both_parts() {
        let place = Locator::new(Locator::OFFSET_END - 8, Locator::ITEMS_MAX - 1).unwrap();
        assert_eq!(place.frame_offset(), Locator::OFFSET_END - 8);
        assert_eq!(place.item(), Locator::ITEMS_MAX - 1);
        assert_eq!(Locator::from_number(place.number()), Some(place));
        assert_eq!(Locator::new(4, 0), None);
        assert_eq!(Locator::new(0, 0), None);
        assert_eq!(Locator::from_number(5), None);
    }
}
