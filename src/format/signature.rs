//! Signatures: the body of a `signatures` frame. They lie beside the log, not in it, so that one may
//! be added at any time and changes no root.

use super::cbor::{Reader, Writer};
use super::{FormatError, Result, Rule, u64_at};
use std::borrow::Cow;

/// Length of the head: the file offset of the signatures frame before this one.
pub const HEAD_LEN: usize = 8;

/// A value has at most this many bytes.
pub const SIGNATURE_BYTES_MAX: usize = 65_535;

/// How a signature is to be read. Unknown numbers are kept and passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SignatureFormat {
    /// 0: a signature line of a C2SP note whose text is the checkpoint.
    Note,
    /// 1: an armored SSH signature of the checkpoint.
    Ssh,
    /// 2: a minisign signature of the checkpoint.
    Minisign,
    /// 3: Ed25519 over the root, for COSE receipts.
    Cose,
    /// 4: an RFC 3161 time stamp of the checkpoint.
    TimeStamp,
    /// 5: an OpenTimestamps proof of the checkpoint.
    OpenTimestamps,
    /// A number that this program does not know.
    Other(u64),
}

impl SignatureFormat {
    const KNOWN: [Self; 6] =
        [Self::Note, Self::Ssh, Self::Minisign, Self::Cose, Self::TimeStamp, Self::OpenTimestamps];

    /// The number as stored.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Note => 0,
            Self::Ssh => 1,
            Self::Minisign => 2,
            Self::Cose => 3,
            Self::TimeStamp => 4,
            Self::OpenTimestamps => 5,
            Self::Other(number) => number,
        }
    }

    /// The name in tables and in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Ssh => "ssh",
            Self::Minisign => "minisign",
            Self::Cose => "cose",
            Self::TimeStamp => "time-stamp",
            Self::OpenTimestamps => "opentimestamps",
            Self::Other(_) => "unknown",
        }
    }

    fn from_number(number: u64) -> Self {
        let known = Self::KNOWN.into_iter().find(|format| format.number() == number);
        known.unwrap_or(Self::Other(number))
    }
}

/// `[log size, origin, format, value]`: a signature of the log as it was at a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Size of the log that is signed: its last entry is a seal.
    pub log_size: u64,
    /// Name of the log in what is signed; empty for the one that genesis gives.
    pub origin: Cow<'a, str>,
    /// How to read the value.
    pub format: SignatureFormat,
    /// The signature; not empty.
    pub value: Cow<'a, [u8]>,
}

impl Signature<'_> {
    /// The same, without borrowing.
    #[must_use]
    pub fn into_owned(self) -> Signature<'static> {
        Signature {
            log_size: self.log_size,
            origin: Cow::Owned(self.origin.into_owned()),
            format: self.format,
            value: Cow::Owned(self.value.into_owned()),
        }
    }
}

/// The body of a frame of signatures. `previous` is the file offset of the signatures frame before it,
/// 0 for the first.
#[must_use]
pub fn encode(previous: u64, signatures: &[Signature<'_>]) -> Vec<u8> {
    let mut out = previous.to_le_bytes().to_vec();
    for signature in signatures {
        let mut writer = Writer::default();
        writer.array(4).uint(signature.log_size).text(&signature.origin);
        writer.uint(signature.format.number()).bytes(&signature.value);
        out.extend(writer.finish());
    }
    out
}

/// Reads a body of `item_count` signatures.
pub fn decode(body: &[u8], item_count: u32) -> Result<(u64, Vec<Signature<'_>>)> {
    if body.len() < HEAD_LEN {
        return Err(FormatError::new(Rule::Truncated, body.len() as u64));
    }
    let (previous, mut at) = (u64_at(body, 0), HEAD_LEN);
    let mut found = Vec::new();
    for _ in 0..item_count {
        let mut reader = Reader::new(&body[at..]);
        found.push(item(&mut reader).map_err(|error| error.within(at as u64))?);
        at += reader.position();
    }
    if at != body.len() {
        return Err(FormatError::new(Rule::Trailing, at as u64));
    }
    Ok((previous, found))
}

fn item<'a>(reader: &mut Reader<'a>) -> Result<Signature<'a>> {
    if reader.array()? != 4 {
        return Err(reader.fault(Rule::Signature));
    }
    let signature = Signature {
        log_size: reader.uint()?,
        origin: Cow::Borrowed(reader.text()?),
        format: SignatureFormat::from_number(reader.uint()?),
        value: Cow::Borrowed(reader.bytes()?),
    };
    if signature.value.is_empty() {
        return Err(reader.fault(Rule::Signature));
    }
    let (found, most) = (signature.value.len() as u64, SIGNATURE_BYTES_MAX as u64);
    if found > most {
        return Err(FormatError::numbers(Rule::Limit, reader.position() as u64, found, most));
    }
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written_and_no_other_way() {
        let signature = |format, value| Signature {
            log_size: 300,
            origin: Cow::Borrowed("a"),
            format,
            value: Cow::Borrowed(value),
        };
        let signatures = [
            signature(SignatureFormat::Note, &b"line"[..]),
            signature(SignatureFormat::Other(9), b"?"),
        ];
        let body = encode(64, &signatures);
        assert_eq!(decode(&body, 2), Ok((64, signatures.to_vec())));
        for at in 0..body.len() {
            for value in 0..=255 {
                let mut changed = body.clone();
                changed[at] = value;
                if let Ok((previous, found)) = decode(&changed, 2) {
                    assert_eq!(encode(previous, &found), changed);
                }
            }
            assert!(decode(&body[..at], 2).is_err());
        }
        assert_eq!(decode(&body, 1).unwrap_err().rule, Rule::Trailing);
        let empty = encode(0, &[signature(SignatureFormat::Note, b"")]);
        assert_eq!(decode(&empty, 1).unwrap_err().rule, Rule::Signature);
        let long = vec![0; SIGNATURE_BYTES_MAX + 1];
        let long = encode(0, &[signature(SignatureFormat::Note, &long)]);
        assert_eq!(decode(&long, 1).unwrap_err().rule, Rule::Limit);
    }
}
