//! Frame header: the 80 bytes before every payload. Frames tile a segment.

use super::{
    ALIGN, FormatError, REFERENCES_MAX, Result, Rule, aligned, array, check_of, u32_at, u64_at,
};
use crate::hash::Hash;

/// Magic number of a frame.
pub const MAGIC: [u8; 4] = [0xb1, b'F', b'R', b'M'];

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameKind {
    /// Objects, compressed together.
    Objects,
    /// Objects, each compressed on its own.
    Records,
    /// Chunk lists: objects that are stored in pieces.
    Lists,
    /// A dictionary, which is an object too.
    Dictionary,
    /// Entries of the log.
    Entries,
    /// Keys with the places of their entries: a page of a key index.
    Keys,
    /// The object index, read in place.
    ObjectIndex,
    /// The directory of a key index, read in place.
    KeyDirectory,
    /// A commit; with sections, a footer.
    Commit,
    /// Signatures of the log at its seals.
    Signatures,
    /// A kind that a reader may skip (128 and above).
    Skippable(u8),
}

impl FrameKind {
    /// The number in the header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Objects => 1,
            Self::Records => 2,
            Self::Lists => 3,
            Self::Dictionary => 4,
            Self::Entries => 5,
            Self::Keys => 6,
            Self::ObjectIndex => 7,
            Self::KeyDirectory => 8,
            Self::Commit => 9,
            Self::Signatures => 10,
            Self::Skippable(number) => number,
        }
    }

    /// The name in tables and in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Records => "records",
            Self::Lists => "lists",
            Self::Dictionary => "dictionary",
            Self::Entries => "entries",
            Self::Keys => "keys",
            Self::ObjectIndex => "object-index",
            Self::KeyDirectory => "key-directory",
            Self::Commit => "commit",
            Self::Signatures => "signatures",
            Self::Skippable(_) => "unknown",
        }
    }

    /// Every kind that is defined, in the order of the numbers.
    pub const DEFINED: [Self; 10] = [
        Self::Objects,
        Self::Records,
        Self::Lists,
        Self::Dictionary,
        Self::Entries,
        Self::Keys,
        Self::ObjectIndex,
        Self::KeyDirectory,
        Self::Commit,
        Self::Signatures,
    ];

    fn from_number(number: u8) -> Option<Self> {
        match number {
            128.. => Some(Self::Skippable(number)),
            _ => Self::DEFINED.into_iter().find(|kind| kind.number() == number),
        }
    }

    /// Whether `codec` may stand in a frame of this kind.
    #[must_use]
    pub const fn allows(self, codec: Codec) -> bool {
        match self {
            Self::Objects => !matches!(codec, Codec::ZstdDictionary),
            Self::Records => !matches!(codec, Codec::ZstdPrefix),
            Self::Dictionary | Self::Entries | Self::Keys => {
                matches!(codec, Codec::Raw | Codec::Zstd)
            }
            Self::Lists
            | Self::ObjectIndex
            | Self::KeyDirectory
            | Self::Commit
            | Self::Signatures => matches!(codec, Codec::Raw),
            Self::Skippable(_) => true,
        }
    }

    /// Largest body before compression. Sections are read in place, so only their 32-bit length
    /// bounds them.
    #[must_use]
    pub const fn raw_bytes_max(self) -> u32 {
        match self {
            Self::ObjectIndex | Self::KeyDirectory => u32::MAX,
            Self::Lists => super::LIST_BYTES_MAX,
            _ => super::FRAME_RAW_BYTES_MAX,
        }
    }
}

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// One zstd frame whose history begins with the referenced objects, one after the other.
    ZstdPrefix = 2,
    /// zstd with the referenced dictionary, for each record on its own.
    ZstdDictionary = 3,
}

impl Codec {
    const ALL: [Self; 4] = [Self::Raw, Self::Zstd, Self::ZstdPrefix, Self::ZstdDictionary];

    /// The name in tables and in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
            Self::ZstdPrefix => "zstd-prefix",
            Self::ZstdDictionary => "zstd-dictionary",
        }
    }
}

/// Flag: the puts and deletes of an `entries` frame are in key order, and no key is twice.
pub const FLAG_SORTED: u8 = 1;

const KIND_AT: usize = MAGIC.len();
const CODEC_AT: usize = KIND_AT + 1;
const REFERENCES_AT: usize = CODEC_AT + 1;
const FLAGS_AT: usize = REFERENCES_AT + 1;
const STORED_AT: usize = FLAGS_AT + 1;
const RAW_AT: usize = STORED_AT + 4;
const ITEMS_AT: usize = RAW_AT + 4;
const ORDINAL_AT: usize = ITEMS_AT + 4;
const OFFSET_AT: usize = ORDINAL_AT + 4;
const STORED_HASH_AT: usize = OFFSET_AT + 8;
const PREVIOUS_AT: usize = STORED_HASH_AT + Hash::LEN;
const CHECK_AT: usize = PREVIOUS_AT + 8;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload holds.
    pub kind: FrameKind,
    /// How it is compressed.
    pub codec: Codec,
    /// How many referenced names (32 bytes each) come first in the payload.
    pub reference_count: u8,
    /// Flags of the kind.
    pub flags: u8,
    /// Bytes of the payload as stored, references included, padding not.
    pub stored_bytes: u32,
    /// Bytes of the body after decompression.
    pub raw_bytes: u32,
    /// How many items it holds.
    pub item_count: u32,
    /// Position of the frame within its segment, from 0.
    pub ordinal: u32,
    /// Own file offset.
    pub offset: u64,
    /// BLAKE3 of the payload as stored.
    pub stored_hash: Hash,
    /// Check of the header before this one: the previous frame's, or the segment's.
    pub previous: [u8; 8],
}

impl FrameHeader {
    /// Length in bytes.
    pub const LEN: usize = CHECK_AT + 8;

    /// The 80 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..KIND_AT].copy_from_slice(&MAGIC);
        out[KIND_AT] = self.kind.number();
        out[CODEC_AT] = self.codec as u8;
        out[REFERENCES_AT] = self.reference_count;
        out[FLAGS_AT] = self.flags;
        out[STORED_AT..RAW_AT].copy_from_slice(&self.stored_bytes.to_le_bytes());
        out[RAW_AT..ITEMS_AT].copy_from_slice(&self.raw_bytes.to_le_bytes());
        out[ITEMS_AT..ORDINAL_AT].copy_from_slice(&self.item_count.to_le_bytes());
        out[ORDINAL_AT..OFFSET_AT].copy_from_slice(&self.ordinal.to_le_bytes());
        out[OFFSET_AT..STORED_HASH_AT].copy_from_slice(&self.offset.to_le_bytes());
        out[STORED_HASH_AT..PREVIOUS_AT].copy_from_slice(self.stored_hash.as_bytes());
        out[PREVIOUS_AT..CHECK_AT].copy_from_slice(&self.previous);
        let check = check_of(&out[..CHECK_AT]);
        out[CHECK_AT..].copy_from_slice(&check);
        out
    }

    /// Reads a header that is expected at file offset `offset`. Its place in the chain is judged by
    /// the caller, who knows what came before.
    pub fn decode(bytes: &[u8; Self::LEN], offset: u64) -> Result<Self> {
        let fault = |rule, at: usize| Err(FormatError::new(rule, at as u64).within(offset));
        let numbers = |rule, at: usize, found: u64, expected: u64| {
            Err(FormatError::numbers(rule, at as u64, found, expected).within(offset))
        };
        if bytes[..KIND_AT] != MAGIC {
            return fault(Rule::FrameMagic, 0);
        }
        if check_of(&bytes[..CHECK_AT]) != Self::check(bytes) {
            return fault(Rule::HeaderCheck, CHECK_AT);
        }
        let Some(kind) = FrameKind::from_number(bytes[KIND_AT]) else {
            return numbers(Rule::FrameKind, KIND_AT, bytes[KIND_AT].into(), 10);
        };
        let codec = Codec::ALL.into_iter().find(|codec| *codec as u8 == bytes[CODEC_AT]);
        let Some(codec) = codec.filter(|codec| kind.allows(*codec)) else {
            return fault(Rule::Codec, CODEC_AT);
        };
        let header = Self {
            kind,
            codec,
            reference_count: bytes[REFERENCES_AT],
            flags: bytes[FLAGS_AT],
            stored_bytes: u32_at(bytes, STORED_AT),
            raw_bytes: u32_at(bytes, RAW_AT),
            item_count: u32_at(bytes, ITEMS_AT),
            ordinal: u32_at(bytes, ORDINAL_AT),
            offset: u64_at(bytes, OFFSET_AT),
            stored_hash: Hash::from_bytes(array(bytes, STORED_HASH_AT)),
            previous: array(bytes, PREVIOUS_AT),
        };
        if header.offset != offset {
            return numbers(Rule::Offset, OFFSET_AT, header.offset, offset);
        }
        if matches!(kind, FrameKind::Skippable(_)) {
            return Ok(header); // a kind of the future: its fields mean what it says
        }
        let (least, most) = match codec {
            Codec::Raw | Codec::Zstd => (0, 0),
            Codec::ZstdPrefix => (1, REFERENCES_MAX),
            Codec::ZstdDictionary => (1, 1),
        };
        if !(least..=most).contains(&header.reference_count) {
            return numbers(
                Rule::Reference,
                REFERENCES_AT,
                header.reference_count.into(),
                most.into(),
            );
        }
        let flags = if kind == FrameKind::Entries { FLAG_SORTED } else { 0 };
        if header.flags & !flags != 0 {
            return fault(Rule::Reserved, FLAGS_AT);
        }
        let most = kind.raw_bytes_max();
        if header.raw_bytes > most {
            return numbers(Rule::Limit, RAW_AT, header.raw_bytes.into(), most.into());
        }
        // Compression that does not shrink is stored raw, so stored bytes are bounded by raw ones:
        // a records frame has its table beside them.
        let table = match kind {
            FrameKind::Records => {
                u64::from(header.item_count) * super::object::RecordRow::LEN as u64
            }
            _ => 0,
        };
        let body = u64::from(header.stored_bytes)
            .checked_sub(u64::from(header.reference_count) * Hash::LEN as u64);
        let most = u64::from(header.raw_bytes) + table;
        match body {
            Some(body) if body == most || (codec != Codec::Raw && body < most) => {}
            _ => return numbers(Rule::Length, STORED_AT, header.stored_bytes.into(), most),
        }
        if header.item_count == 0 || header.item_count > super::Locator::ITEMS_MAX {
            return numbers(
                Rule::Limit,
                ITEMS_AT,
                header.item_count.into(),
                super::Locator::ITEMS_MAX.into(),
            );
        }
        let single = matches!(
            kind,
            FrameKind::Dictionary
                | FrameKind::ObjectIndex
                | FrameKind::KeyDirectory
                | FrameKind::Commit
        );
        // Every other item takes a byte at least, and a record's table row only counts if it does.
        let most = if single { 1 } else { header.raw_bytes };
        if header.item_count > most {
            return numbers(Rule::Length, ITEMS_AT, header.item_count.into(), most.into());
        }
        Ok(header)
    }

    /// Whether a header that was refused stands as it was written at this place of the chain, and is
    /// no torn one.
    #[must_use]
    pub fn is_written(
        bytes: &[u8; Self::LEN],
        offset: u64,
        ordinal: u32,
        previous: [u8; 8],
    ) -> bool {
        bytes[..KIND_AT] == MAGIC
            && check_of(&bytes[..CHECK_AT]) == Self::check(bytes)
            && (u64_at(bytes, OFFSET_AT), u32_at(bytes, ORDINAL_AT)) == (offset, ordinal)
            && bytes[PREVIOUS_AT..CHECK_AT] == previous
    }

    /// The check in an encoded header.
    #[must_use]
    pub fn check(encoded: &[u8; Self::LEN]) -> [u8; 8] {
        array(encoded, CHECK_AT)
    }

    /// File offset of the payload.
    #[must_use]
    pub const fn payload_offset(&self) -> u64 {
        self.offset.saturating_add(Self::LEN as u64)
    }

    /// File offset behind the payload, before padding.
    #[must_use]
    pub const fn payload_end(&self) -> u64 {
        self.payload_offset().saturating_add(self.stored_bytes as u64)
    }

    /// File offset of what follows: the next frame or segment, or the end.
    #[must_use]
    pub const fn next_offset(&self) -> u64 {
        aligned(self.payload_end())
    }

    /// Bytes of padding after the payload.
    #[must_use]
    pub fn padding(&self) -> usize {
        usize::try_from(
            u64::from(self.stored_bytes).next_multiple_of(ALIGN) - u64::from(self.stored_bytes),
        )
        .unwrap_or(0)
    }

    /// The names that the body refers to, and the body, of a payload whose hash was checked.
    #[must_use]
    pub fn split_payload<'a>(&self, payload: &'a [u8]) -> (Vec<Hash>, &'a [u8]) {
        let count = usize::from(self.reference_count) * Hash::LEN;
        let (names, body) = payload.split_at(count.min(payload.len()));
        let names = names.chunks_exact(Hash::LEN).map(|name| Hash::from_bytes(array(name, 0)));
        (names.collect(), body)
    }
}

/// The table of `spec/format.md`: offset and length of every field.
pub const FIELDS: [(&str, usize, usize); 12] = [
    ("magic", 0, KIND_AT),
    ("kind", KIND_AT, 1),
    ("codec", CODEC_AT, 1),
    ("reference_count", REFERENCES_AT, 1),
    ("flags", FLAGS_AT, 1),
    ("stored_bytes", STORED_AT, 4),
    ("raw_bytes", RAW_AT, 4),
    ("item_count", ITEMS_AT, 4),
    ("ordinal", ORDINAL_AT, 4),
    ("offset", OFFSET_AT, 8),
    ("stored_hash", STORED_HASH_AT, 32),
    ("previous", PREVIOUS_AT, 8),
];

const _: () = assert!(FrameHeader::LEN == 80);

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Objects,
            codec: Codec::ZstdPrefix,
            reference_count: 2,
            flags: 0,
            stored_bytes: 1000,
            raw_bytes: 5000,
            item_count: 3,
            ordinal: 9,
            offset: 64,
            stored_hash: Hash::of(b"payload"),
            previous: *b"previous",
        }
    }

    #[test]
    fn layout_is_the_one_of_the_specification() {
        let bytes = header().encode();
        assert_eq!(&bytes[..8], b"\xb1FRM\x01\x02\x02\x00");
        assert_eq!(
            &bytes[8..32],
            [0xe8, 3, 0, 0, 0x88, 0x13, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(&bytes[64..72], b"previous");
        assert_eq!(FrameHeader::decode(&bytes, 64), Ok(header()));
        assert_eq!(header().next_offset(), 64 + 80 + 1000);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = header().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::decode(&bad, 64).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn contradictions_are_refused_even_with_a_matching_check() {
        type Fault = fn(&mut FrameHeader);
        let cases: [(Rule, Fault); 9] = [
            (Rule::Codec, |h| h.codec = Codec::ZstdDictionary),
            (Rule::Reference, |h| h.reference_count = 5),
            (Rule::Reference, |h| h.codec = Codec::Zstd),
            (Rule::Reserved, |h| h.flags = 1),
            (Rule::Length, |h| h.stored_bytes = 63),
            (Rule::Length, |h| h.raw_bytes = 900),
            (Rule::Limit, |h| h.raw_bytes = super::super::FRAME_RAW_BYTES_MAX + 1),
            (Rule::Limit, |h| h.item_count = 0),
            (Rule::Offset, |h| h.offset = 72),
        ];
        for (rule, break_it) in cases {
            let mut bad = header();
            break_it(&mut bad);
            assert_eq!(FrameHeader::decode(&bad.encode(), 64).unwrap_err().rule, rule);
        }
    }

    #[test]
    fn a_kind_of_the_future_is_skipped_and_a_critical_one_is_not() {
        let mut bytes = header().encode();
        bytes[KIND_AT] = 200;
        let check = check_of(&bytes[..CHECK_AT]);
        bytes[CHECK_AT..].copy_from_slice(&check);
        assert_eq!(FrameHeader::decode(&bytes, 64).unwrap().kind, FrameKind::Skippable(200));
        bytes[KIND_AT] = 100;
        let check = check_of(&bytes[..CHECK_AT]);
        bytes[CHECK_AT..].copy_from_slice(&check);
        assert_eq!(FrameHeader::decode(&bytes, 64).unwrap_err().rule, Rule::FrameKind);
    }
}
