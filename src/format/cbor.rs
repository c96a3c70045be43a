//! Deterministic CBOR (RFC 8949, section 4.2.1), the subset that entries use: unsigned and
//! negative integers, byte and text strings, arrays, maps, `false`, `true`, `null`.
//!
//! Written by hand because no kept-up library refuses what must be refused (longer encodings than
//! needed, unsorted or repeated map keys, trailing bytes), and because entries are read by the
//! million: this reader borrows and allocates nothing.

use super::{FormatError, Result, Rule};

/// Arrays and maps nest at most this deep.
pub const DEPTH_MAX: u32 = 16;

pub(crate) const UINT: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const SIMPLE: u8 = 7;
const NULL: u8 = 0xf6;

/// Appends major type and argument, in as few bytes as hold it.
pub(crate) fn put_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let bytes = value.to_le_bytes();
    let (info, len) = match value {
        0..24 => (bytes[0], 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend(bytes[..len].iter().rev()); // network order
}

/// Appends items to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Nothing yet, with room for so many bytes.
    pub fn with_capacity(len: usize) -> Self {
        Self { out: Vec::with_capacity(len) }
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        put_head(&mut self.out, major, value);
        self
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    /// An integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.head(NEGATIVE, (!value).unsigned_abs())
        } else {
            self.uint(value.unsigned_abs())
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64).raw(value)
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64).raw(value.as_bytes())
    }

    /// The head of an array of `count` items, which follow.
    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(ARRAY, count as u64)
    }

    /// The head of a map of `count` pairs, which follow in the order of their encoded keys.
    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(MAP, count as u64)
    }

    /// `null`.
    pub fn null(&mut self) -> &mut Self {
        self.out.push(NULL);
        self
    }

    /// An item that is encoded already.
    pub fn raw(&mut self, item: &[u8]) -> &mut Self {
        self.out.extend_from_slice(item);
        self
    }

    /// The encoded items.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Takes items from a slice, one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes taken so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// An error at the current position.
    #[must_use]
    pub const fn fault(&self, rule: Rule) -> FormatError {
        FormatError::new(rule, self.at as u64)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(self.fault(Rule::Truncated))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn head(&mut self) -> Result<(u8, u64)> {
        let start = self.clone();
        let first = self.take(1)?[0];
        let info = first & 0x1f;
        let len = match info {
            0..24 => return Ok((first >> 5, u64::from(info))),
            24..28 => 1_usize << (info - 24),
            _ => return Err(start.fault(Rule::Cbor)), // reserved, or of indefinite length
        };
        let value = self.take(len)?.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let least = match len {
            1 => 24,
            2 => 0x100,
            4 => 0x1_0000,
            _ => 0x1_0000_0000,
        };
        if value < least {
            return Err(start.fault(Rule::Cbor));
        }
        Ok((first >> 5, value))
    }

    fn expect(&mut self, major: u8) -> Result<u64> {
        let start = self.clone();
        let (found, value) = self.head()?;
        if found == major { Ok(value) } else { Err(start.fault(Rule::Cbor)) }
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64> {
        self.expect(UINT)
    }

    /// An unsigned integer below 2^32.
    pub fn uint32(&mut self) -> Result<u32> {
        let start = self.clone();
        u32::try_from(self.uint()?).map_err(|_| start.fault(Rule::Cbor))
    }

    /// An integer between the limits of `i64`.
    pub fn int(&mut self) -> Result<i64> {
        let start = self.clone();
        let (major, value) = self.head()?;
        let value = i64::try_from(value).map_err(|_| start.fault(Rule::Cbor))?;
        match major {
            UINT => Ok(value),
            NEGATIVE => Ok(!value),
            _ => Err(start.fault(Rule::Cbor)),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.expect(BYTES)?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// A byte string of exactly `N` bytes.
    pub fn byte_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let start = self.clone();
        self.bytes()?.try_into().map_err(|_| start.fault(Rule::Cbor))
    }

    /// A text string.
    pub fn text(&mut self) -> Result<&'a str> {
        let len = self.expect(TEXT)?;
        let start = self.clone();
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        str::from_utf8(bytes).map_err(|_| start.fault(Rule::Cbor))
    }

    /// The head of an array; its items follow. A count beyond the bytes left is refused, so that it
    /// may size an allocation.
    pub fn array(&mut self) -> Result<usize> {
        self.count(ARRAY, 1)
    }

    /// The head of a map; its pairs follow.
    pub fn map(&mut self) -> Result<usize> {
        self.count(MAP, 2)
    }

    fn count(&mut self, major: u8, bytes_each: usize) -> Result<usize> {
        let start = self.clone();
        let count = usize::try_from(self.expect(major)?).unwrap_or(usize::MAX);
        if count > (self.bytes.len() - self.at) / bytes_each {
            return Err(start.fault(Rule::Truncated));
        }
        Ok(count)
    }

    /// Takes a `null` if one comes next.
    pub fn null(&mut self) -> bool {
        let is_null = self.bytes.get(self.at) == Some(&NULL);
        self.at += usize::from(is_null);
        is_null
    }

    /// `null`, or what `read` takes.
    pub fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.null() { Ok(None) } else { read(self).map(Some) }
    }

    /// Passes over any item of the subset and returns its bytes.
    pub fn any(&mut self) -> Result<&'a [u8]> {
        let start = self.at;
        self.skip(DEPTH_MAX)?;
        Ok(&self.bytes[start..self.at])
    }

    fn skip(&mut self, depth: u32) -> Result<()> {
        let start = self.clone();
        let (major, value) = self.head()?;
        match major {
            UINT | NEGATIVE => Ok(()),
            BYTES => self.take(usize::try_from(value).unwrap_or(usize::MAX)).map(drop),
            TEXT => {
                self.at = start.at;
                self.text().map(drop)
            }
            ARRAY | MAP if depth == 0 => Err(start.fault(Rule::Limit)),
            ARRAY => (0..value).try_for_each(|_| self.skip(depth - 1)),
            MAP => {
                let mut order = MapOrder::default();
                (0..value).try_for_each(|_| {
                    order.key(self, |reader| reader.skip(depth - 1))?;
                    self.skip(depth - 1)
                })
            }
            SIMPLE if (20..=22).contains(&value) && self.at == start.at + 1 => Ok(()),
            _ => Err(start.fault(Rule::Cbor)), // tags, floats, other simple values
        }
    }

    /// Fails unless everything was taken.
    pub fn end(&self) -> Result<()> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fault(Rule::Trailing)) }
    }
}

/// Holds map keys to the bytewise order of their encodings, and so to being there once.
#[derive(Debug, Default)]
pub struct MapOrder<'a> {
    previous: Option<&'a [u8]>,
}

impl<'a> MapOrder<'a> {
    /// Takes the next key with `read`.
    pub fn key<T>(
        &mut self,
        reader: &mut Reader<'a>,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
    ) -> Result<T> {
        let start = reader.clone();
        let value = read(reader)?;
        let encoded = &reader.bytes[start.at..reader.at];
        if self.previous.is_some_and(|previous| previous >= encoded) {
            return Err(start.fault(Rule::Cbor));
        }
        self.previous = Some(encoded);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(hex: &str) -> Result<usize> {
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let mut reader = Reader::new(&bytes);
        reader.any()?;
        reader.end()?;
        Ok(bytes.len())
    }

    #[test]
    fn the_subset_of_rfc_8949_appendix_a_is_read() {
        for good in [
            "00",
            "17",
            "1818",
            "1903e8",
            "1a000f4240",
            "1b000000e8d4a51000",
            "20",
            "3903e7",
            "f4",
            "f5",
            "f6",
            "40",
            "4401020304",
            "60",
            "6449455446",
            "62c3bc",
            "80",
            "83010203",
            "a0",
            "a201020304",
            "8301820203820405",
            "a26161016162820203",
            "a2182001613100",
        ] {
            assert!(any(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (bad, rule) in [
            ("1800", Rule::Cbor), // longer than needed
            ("190018", Rule::Cbor),
            ("1b00000000ffffffff", Rule::Cbor),
            ("5f42010243030405ff", Rule::Cbor), // indefinite length
            ("9fff", Rule::Cbor),
            ("c074", Rule::Cbor),   // tag
            ("f93c00", Rule::Cbor), // float
            ("f7", Rule::Cbor),     // undefined
            ("f818", Rule::Cbor),
            ("a201020102", Rule::Cbor), // key twice
            ("a203040102", Rule::Cbor), // keys out of order
            ("a2613100182000", Rule::Cbor),
            ("61ff", Rule::Cbor), // not UTF-8
            ("0000", Rule::Trailing),
            ("42ff", Rule::Truncated),
            ("9b7fffffffffffffff", Rule::Truncated),
            ("", Rule::Truncated),
        ] {
            assert_eq!(any(bad).unwrap_err().rule, rule, "{bad}");
        }
        assert_eq!(any(&"81".repeat(17)).unwrap_err().rule, Rule::Limit);
        assert!(any(&("81".repeat(16) + "00")).is_ok());
    }

    #[test]
    fn numbers_take_the_fewest_bytes_and_come_back() {
        for value in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let mut writer = Writer::default();
            writer.uint(value);
            let bytes = writer.finish();
            assert_eq!(Reader::new(&bytes).uint(), Ok(value));
        }
        for value in [0, -1, -24, -25, i64::MIN, i64::MAX] {
            let mut writer = Writer::default();
            writer.int(value);
            assert_eq!(Reader::new(&writer.finish()).int(), Ok(value));
        }
    }
}
