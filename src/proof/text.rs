//! The pieces that all text files share: lines, numbers, base64.

use super::error::{Fault, ProofError, Result};
use crate::tree::Node;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A proof file has at most this many bytes, slices and complete lists excepted.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;

/// Standard base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads base64. There is one text for every byte string: padding is needed, and the bits behind the
/// last byte are zero.
pub(super) fn from_base64(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| ProofError::new(Fault::Base64))
}

/// Reads the base64 of a hash.
pub(super) fn hash(text: &str) -> Result<Node> {
    from_base64(text)?.try_into().map_err(|_| ProofError::new(Fault::Base64))
}

/// Reads a decimal number without sign and leading zeros.
pub(super) fn number(text: &str) -> Result<u64> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_decimal || (text.starts_with('0') && text != "0") {
        return Err(Fault::Syntax.into());
    }
    text.parse().map_err(|_| ProofError::new(Fault::Limit)) // digits only: it is too large
}

/// UTF-8 without control characters but the line feed.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = str::from_utf8(bytes).map_err(|_| ProofError::new(Fault::Encoding))?;
    match text.lines().position(|line| line.bytes().any(|byte| byte < 0x20)) {
        Some(line) => Err(ProofError::new(Fault::Encoding).at_line(line + 1)),
        // `lines` takes a carriage return for part of the line end.
        None if text.contains('\r') => Err(Fault::Encoding.into()),
        None => Ok(text),
    }
}

/// Takes lines from the beginning of a text.
#[derive(Debug, Clone)]
pub(super) struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 0 }
    }

    /// Lines taken so far.
    pub(super) fn count(&self) -> usize {
        self.line
    }

    /// What was not taken.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    /// A fault in the line that was taken last.
    pub(super) fn fault(&self, fault: Fault) -> ProofError {
        ProofError::new(fault).at_line(self.line.max(1))
    }

    /// The next line, without its line feed, which must be there.
    pub(super) fn next(&mut self) -> Result<&'a str> {
        self.line += 1;
        let (line, rest) = self.rest.split_once('\n').ok_or(self.fault(Fault::Syntax))?;
        self.rest = rest;
        Ok(line)
    }

    /// The next line if it is not empty; takes the empty line otherwise.
    pub(super) fn next_filled(&mut self) -> Result<Option<&'a str>> {
        self.next().map(|line| (!line.is_empty()).then_some(line))
    }

    /// Takes a line that must be `expected`.
    pub(super) fn exactly(&mut self, expected: &str) -> Result<()> {
        if self.next()? == expected { Ok(()) } else { Err(self.fault(Fault::Syntax)) }
    }

    /// What follows `name` and a space in the next line.
    pub(super) fn field(&mut self, name: &str) -> Result<&'a str> {
        let line = self.next()?;
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or(self.fault(Fault::Syntax))
    }

    /// The same if the next line begins so.
    pub(super) fn optional_field(&mut self, name: &str) -> Result<Option<&'a str>> {
        let begins = self.rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
        if begins { self.field(name).map(Some) } else { Ok(None) }
    }

    /// Reads a value of the line that was taken last.
    pub(super) fn read<T>(&self, value: Result<T>) -> Result<T> {
        value.map_err(|error| error.at_line(self.line.max(1)))
    }

    /// Hashes, one a line, up to an empty line, at most `most` of them.
    pub(super) fn hashes(&mut self, most: usize) -> Result<Vec<Node>> {
        let mut hashes = Vec::new();
        while let Some(line) = self.next_filled()? {
            if hashes.len() == most {
                return Err(self.fault(Fault::PathLength));
            }
            hashes.push(self.read(hash(line))?);
        }
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_text() {
        assert_eq!(number("0"), Ok(0));
        assert_eq!(number("18446744073709551615"), Ok(u64::MAX));
        for bad in ["", "00", "01", "+1", "-1", " 1", "1 ", "1e3", "١"] {
            assert_eq!(number(bad), Err(Fault::Syntax.into()), "{bad}");
        }
        assert_eq!(number("18446744073709551616"), Err(Fault::Limit.into()));
    }

    #[test]
    fn base64_has_one_text() {
        assert_eq!(from_base64("AAE="), Ok(vec![0, 1]));
        for bad in ["AAE", "AAE==", "AAF=", "AA E=", "AAE=\n", "AA-_", "="] {
            assert_eq!(from_base64(bad), Err(Fault::Base64.into()), "{bad}");
        }
        assert_eq!(hash("AAE="), Err(Fault::Base64.into()));
    }

    #[test]
    fn control_characters_are_refused() {
        assert_eq!(utf8("—\n".as_bytes()), Ok("—\n"));
        for bad in [&b"a\r\n"[..], b"a\0\n", b"\t", b"\xff\n", b"a\r"] {
            assert_eq!(utf8(bad).map_err(|error| error.fault), Err(Fault::Encoding), "{bad:?}");
        }
    }
}
