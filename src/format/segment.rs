//! Segment header: the first 64 bytes of every segment.

use super::{FormatError, Result, Rule, VERSION, array, check_of, u16_at, u32_at, u64_at};

/// Magic number, in the manner of PNG: a high bit that 7-bit transfers strip, the name, a line end
/// that text-mode transfers change, and the character that stops `type` on DOS.
pub const MAGIC: [u8; 8] = [0x89, b'P', b'E', b'F', b'C', 0x0d, 0x0a, 0x1a];

/// How small objects are laid out in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Layout {
    /// Many objects compressed together: the unit of reading is the frame.
    Archive = 0,
    /// Each object compressed on its own, many to a frame: the unit of reading is the record.
    Records = 1,
}

const VERSION_AT: usize = MAGIC.len();
const LAYOUT_AT: usize = VERSION_AT + 2;
const RESERVED_AT: usize = LAYOUT_AT + 1;
const COMPATIBLE_AT: usize = RESERVED_AT + 1;
const READ_ONLY_COMPATIBLE_AT: usize = COMPATIBLE_AT + 4;
const INCOMPATIBLE_AT: usize = READ_ONLY_COMPATIBLE_AT + 4;
const OFFSET_AT: usize = INCOMPATIBLE_AT + 4;
const LOG_SIZE_AT: usize = OFFSET_AT + 8;
const PREVIOUS_COMMIT_AT: usize = LOG_SIZE_AT + 8;
const PREVIOUS_AT: usize = PREVIOUS_COMMIT_AT + 8;
const CHECK_AT: usize = PREVIOUS_AT + 8;

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Layout of the segment's small objects.
    pub layout: Layout,
    /// Features that a reader and a writer may ignore.
    pub compatible: u32,
    /// Features that a reader may ignore and a writer may not.
    pub read_only_compatible: u32,
    /// Own file offset.
    pub offset: u64,
    /// Entries in the log before this segment.
    pub log_size: u64,
    /// File offset of the last commit before this segment, 0 if there is none.
    pub previous_commit: u64,
    /// Check of that commit's frame header, zeros if there is none.
    pub previous: [u8; 8],
}

impl SegmentHeader {
    /// Length in bytes.
    pub const LEN: usize = CHECK_AT + 8;

    /// The 64 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..VERSION_AT].copy_from_slice(&MAGIC);
        out[VERSION_AT..LAYOUT_AT].copy_from_slice(&VERSION.to_le_bytes());
        out[LAYOUT_AT] = self.layout as u8;
        out[COMPATIBLE_AT..READ_ONLY_COMPATIBLE_AT].copy_from_slice(&self.compatible.to_le_bytes());
        out[READ_ONLY_COMPATIBLE_AT..INCOMPATIBLE_AT]
            .copy_from_slice(&self.read_only_compatible.to_le_bytes());
        // No incompatible feature is defined yet: the word stays zero.
        out[OFFSET_AT..LOG_SIZE_AT].copy_from_slice(&self.offset.to_le_bytes());
        out[LOG_SIZE_AT..PREVIOUS_COMMIT_AT].copy_from_slice(&self.log_size.to_le_bytes());
        out[PREVIOUS_COMMIT_AT..PREVIOUS_AT].copy_from_slice(&self.previous_commit.to_le_bytes());
        out[PREVIOUS_AT..CHECK_AT].copy_from_slice(&self.previous);
        let check = check_of(&out[..CHECK_AT]);
        out[CHECK_AT..].copy_from_slice(&check);
        out
    }

    /// Reads a header that is expected at file offset `offset`.
    ///
    /// The version and the features are judged before the check, so that a pack of a later
    /// version is reported as such even if its header is longer.
    pub fn decode(bytes: &[u8; Self::LEN], offset: u64) -> Result<Self> {
        if bytes[..VERSION_AT] != MAGIC {
            return Err(FormatError::new(magic_fault(bytes), 0).within(offset));
        }
        let version = u16_at(bytes, VERSION_AT);
        if version != VERSION {
            let error = FormatError::numbers(
                Rule::Version,
                VERSION_AT as u64,
                version.into(),
                VERSION.into(),
            );
            return Err(error.within(offset));
        }
        let fault = |rule, at: usize| Err(FormatError::new(rule, at as u64).within(offset));
        if check_of(&bytes[..CHECK_AT]) != array(bytes, CHECK_AT) {
            return fault(Rule::HeaderCheck, CHECK_AT);
        }
        let incompatible = u32_at(bytes, INCOMPATIBLE_AT);
        if incompatible != 0 {
            let at = INCOMPATIBLE_AT as u64;
            return Err(
                FormatError::numbers(Rule::Feature, at, incompatible.into(), 0).within(offset)
            );
        }
        let layout = match bytes[LAYOUT_AT] {
            0 => Layout::Archive,
            1 => Layout::Records,
            _ => return fault(Rule::Layout, LAYOUT_AT),
        };
        if bytes[RESERVED_AT] != 0 {
            return fault(Rule::Reserved, RESERVED_AT);
        }
        let header = Self {
            layout,
            compatible: u32_at(bytes, COMPATIBLE_AT),
            read_only_compatible: u32_at(bytes, READ_ONLY_COMPATIBLE_AT),
            offset: u64_at(bytes, OFFSET_AT),
            log_size: u64_at(bytes, LOG_SIZE_AT),
            previous_commit: u64_at(bytes, PREVIOUS_COMMIT_AT),
            previous: array(bytes, PREVIOUS_AT),
        };
        if header.offset != offset {
            let at = OFFSET_AT as u64;
            return Err(
                FormatError::numbers(Rule::Offset, at, header.offset, offset).within(offset)
            );
        }
        Ok(header)
    }

    /// Whether a header that was refused stands as it was written behind a commit with this log size,
    /// offset and check, and is no torn one. Of another version nothing but the number can be judged;
    /// 0 is what zeros make of it.
    #[must_use]
    pub fn is_written(bytes: &[u8; Self::LEN], offset: u64, chain: (u64, u64, [u8; 8])) -> bool {
        if bytes[..VERSION_AT] == MAGIC && ![0, VERSION].contains(&u16_at(bytes, VERSION_AT)) {
            return true;
        }
        let (log_size, previous_commit) =
            (u64_at(bytes, LOG_SIZE_AT), u64_at(bytes, PREVIOUS_COMMIT_AT));
        check_of(&bytes[..CHECK_AT]) == Self::check(bytes)
            && u64_at(bytes, OFFSET_AT) == offset
            && (log_size, previous_commit, array(bytes, PREVIOUS_AT)) == chain
    }

    /// The check in an encoded header, which the first frame's header continues.
    #[must_use]
    pub fn check(encoded: &[u8; Self::LEN]) -> [u8; 8] {
        array(encoded, CHECK_AT)
    }
}

/// Tells a mangled magic number from a file that is no pack at all.
fn magic_fault(bytes: &[u8; SegmentHeader::LEN]) -> Rule {
    let stripped = bytes[0] == MAGIC[0] & 0x7f;
    let named = bytes[1..5] == MAGIC[1..5];
    if named && (stripped || bytes[0] == MAGIC[0]) {
        Rule::SegmentMagicMangled
    } else {
        Rule::SegmentMagic
    }
}

/// The table of `spec/format.md`: offset and length of every field.
pub const FIELDS: [(&str, usize, usize); 11] = [
    ("magic", 0, VERSION_AT),
    ("version", VERSION_AT, 2),
    ("layout", LAYOUT_AT, 1),
    ("reserved", RESERVED_AT, 1),
    ("compatible", COMPATIBLE_AT, 4),
    ("read_only_compatible", READ_ONLY_COMPATIBLE_AT, 4),
    ("incompatible", INCOMPATIBLE_AT, 4),
    ("offset", OFFSET_AT, 8),
    ("log_size", LOG_SIZE_AT, 8),
    ("previous_commit", PREVIOUS_COMMIT_AT, 8),
    ("previous", PREVIOUS_AT, 8),
];

const _: () = assert!(SegmentHeader::LEN == 64);

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            layout: Layout::Records,
            compatible: 0x0403_0201,
            read_only_compatible: 0x0807_0605,
            offset: 0x1_0000,
            log_size: 7,
            previous_commit: 0x8000,
            previous: *b"previous",
        }
    }

    #[test]
    fn layout_is_the_one_of_the_specification() {
        let bytes = header().encode();
        assert_eq!(&bytes[..12], b"\x89PEFC\r\n\x1a\x01\x00\x01\x00");
        assert_eq!(&bytes[12..24], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
        assert_eq!(&bytes[24..32], [0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[48..56], b"previous");
        assert_eq!(SegmentHeader::decode(&bytes, 0x1_0000), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = header().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad, 0x1_0000).is_err(), "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&bytes, 0).unwrap_err().rule, Rule::Offset);
    }

    #[test]
    fn text_mode_and_seven_bit_damage_is_named() {
        let mut bytes = header().encode();
        bytes[0] = 0x09;
        assert_eq!(SegmentHeader::decode(&bytes, 0).unwrap_err().rule, Rule::SegmentMagicMangled);
        let mut bytes = header().encode();
        bytes.copy_within(6..63, 5); // CR LF became LF
        assert_eq!(SegmentHeader::decode(&bytes, 0).unwrap_err().rule, Rule::SegmentMagicMangled);
        assert_eq!(SegmentHeader::decode(&[0; 64], 0).unwrap_err().rule, Rule::SegmentMagic);
    }
}
