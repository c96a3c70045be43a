//! Content names: plain BLAKE3-256 of the bytes, the same that `b3sum` prints.
//!
//! This layer knows no other module of the crate.

use std::fmt;
use std::str::FromStr;

use blake3::hazmat::{self, HasherExt as _, Mode};

/// Bytes of a large object that one chaining value covers (256 KiB, a power of two of BLAKE3's
/// 1 KiB chunks, so that every full group is a whole subtree).
pub const GROUP_BYTES: u64 = 256 * 1024;

/// The BLAKE3-256 name of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The name of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// A name from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 bytes as a number that sorts as the bytes do.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        Prefix::from_bytes(first)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a content name is 64 hexadecimal digits")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAHash);
        }
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|_| NotAHash)
    }
}

/// The first eight bytes of a name, as an index row holds them; sorts as the bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(u64);

impl Prefix {
    /// From the bytes as stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes).swap_bytes())
    }

    /// The bytes as stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.swap_bytes().to_le_bytes()
    }

    /// All of it as a number, in the order of the bytes.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The number made of the first `bits` bits (at most 32).
    #[must_use]
    pub fn top_bits(self, bits: u32) -> usize {
        debug_assert!((1..=32).contains(&bits));
        usize::try_from(self.0 >> (64 - bits)).unwrap_or(usize::MAX)
    }
}

/// The chaining value of one group: bytes `[index * GROUP_BYTES, …)` of an object of more than one
/// group, at most [`GROUP_BYTES`] of them.
#[must_use]
pub fn group_value(index: u64, bytes: &[u8]) -> [u8; 32] {
    blake3::Hasher::new().set_input_offset(index * GROUP_BYTES).update(bytes).finalize_non_root()
}

/// The name of an object of `len` bytes from the chaining values of its groups (the root of its
/// Bao tree). `None` unless there are at least two groups and their count fits `len`.
#[must_use]
pub fn root_of_groups(values: &[[u8; 32]], len: u64) -> Option<Hash> {
    if values.len() < 2 || len.div_ceil(GROUP_BYTES) != values.len() as u64 {
        return None;
    }
    let (left, right) = split(values, len);
    let root = hazmat::merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
    Some(Hash(*root.as_bytes()))
}

fn subtree(part: (&[[u8; 32]], u64)) -> [u8; 32] {
    if let ([value], _) = part {
        return *value;
    }
    let (left, right) = split(part.0, part.1);
    hazmat::merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

type Part<'a> = (&'a [[u8; 32]], u64);

fn split(values: &[[u8; 32]], len: u64) -> (Part<'_>, Part<'_>) {
    let left_len = hazmat::left_subtree_len(len);
    // At most 2^46 groups exist, and `left_len` is below `len`.
    let left_count = usize::try_from(left_len / GROUP_BYTES).unwrap_or(usize::MAX);
    let (left, right) = values.split_at(left_count.min(values.len()));
    ((left, left_len), (right, len - left_len))
}

/// Names a stream while it passes, and keeps the chaining value of every group.
#[derive(Debug, Default)]
pub struct GroupHasher {
    buffer: Vec<u8>,
    values: Vec<[u8; 32]>,
    len: u64,
}

impl GroupHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            // A full group is hashed when the next byte shows that it is not the only one.
            if self.buffer.len() as u64 == GROUP_BYTES {
                self.flush();
            }
            let room = usize::try_from(GROUP_BYTES).unwrap_or(usize::MAX) - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
    }

    fn flush(&mut self) {
        self.values.push(group_value(self.values.len() as u64, &self.buffer));
        self.buffer.clear();
    }

    /// The object's name, and the values of its groups (none if it is a single group).
    #[must_use]
    pub fn finish(mut self) -> (Hash, Vec<[u8; 32]>) {
        if self.values.is_empty() {
            return (Hash::of(&self.buffer), Vec::new());
        }
        self.flush();
        let name = root_of_groups(&self.values, self.len);
        // Two groups at least were flushed, and `len` counts exactly their bytes.
        (name.expect("groups match the length they were cut from"), self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_values_give_the_plain_blake3_name() {
        let group = usize::try_from(GROUP_BYTES).unwrap();
        for len in [0, 1, group - 1, group, group + 1, 2 * group, 3 * group + 5, 7 * group] {
            let content: Vec<u8> = (0..=250).cycle().take(len).collect();
            let mut hasher = GroupHasher::default();
            content.chunks(100_003).for_each(|piece| hasher.update(piece));
            let (name, values) = hasher.finish();
            assert_eq!(name, Hash::of(&content), "{len} bytes");
            assert_eq!(values.len(), if len <= group { 0 } else { len.div_ceil(group) });
        }
    }

    #[test]
    fn hex_round_trip_and_order() {
        let hash = Hash::of(b"abc");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!("6437b3ac".parse::<Hash>(), Err(NotAHash));
        assert!(
            Prefix::from_bytes([0, 0, 0, 0, 0, 0, 0, 1])
                < Prefix::from_bytes([1, 0, 0, 0, 0, 0, 0, 0])
        );
        assert_eq!(Prefix::from_bytes([0xff, 0, 0, 0, 0, 0, 0, 0]).top_bits(8), 255);
        assert_eq!(Prefix::from_bytes(*b"abcdefgh").to_bytes(), *b"abcdefgh");
    }
}
