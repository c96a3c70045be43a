//! A byte range of a content: a Bao slice against the content's name, and the log proof of an entry
//! that has this content.

use super::error::{Fault, ProofError, Result};
use super::policy::Policy;
use super::text::{Lines, number, utf8};
use super::tlog::{Proven, TlogProof};
use crate::format::entry::{Content, Entry};
use crate::hash::Hash;
use std::io::{Read, Seek};

pub(super) const MAGIC: &str = "pefc-slice/v1";

/// The lines before the slice have at most this many bytes.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// A byte range of a content with its proof.
///
/// The file is text up to the slice: `pefc-slice/v1`, `range START LENGTH`, `proof BYTES`, an empty
/// line, so many bytes of log proof, and then the slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceProof {
    start: u64,
    len: u64,
    proof: TlogProof,
    slice: Vec<u8>,
}

/// Cuts a Bao slice from a content that is read from its beginning: it is hashed once as a whole.
/// Gives the content's name and the slice.
///
/// # Errors
/// Those of `content`.
pub fn cut_slice(
    mut content: impl Read + Seek,
    start: u64,
    len: u64,
) -> std::io::Result<(Hash, Vec<u8>)> {
    let mut outboard = std::io::Cursor::new(Vec::new());
    let mut encoder = bao::encode::Encoder::new_outboard(&mut outboard);
    std::io::copy(&mut content, &mut encoder)?;
    let name = Hash::from_bytes(*encoder.finalize()?.as_bytes());
    content.rewind()?;
    outboard.set_position(0);
    let mut slice = Vec::new();
    bao::encode::SliceExtractor::new_outboard(content, outboard, start, len)
        .read_to_end(&mut slice)?;
    Ok((name, slice))
}

impl SliceProof {
    /// A proof from its parts: `slice` is of the range `[start, start + len)`.
    #[must_use]
    pub fn new(start: u64, len: u64, proof: TlogProof, slice: Vec<u8>) -> Self {
        Self { start, len, proof, slice }
    }

    /// Parses a proof. Nothing of it is believed yet.
    ///
    /// # Errors
    /// As [`TlogProof::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let end = head.windows(2).position(|pair| pair == b"\n\n").ok_or(Fault::Syntax)? + 2;
        let mut lines = Lines::new(utf8(&bytes[..end])?);
        lines.exactly(MAGIC)?;
        let range = lines.field("range")?;
        let (start, len) = range.split_once(' ').ok_or(lines.fault(Fault::Syntax))?;
        let (start, len) = (lines.read(number(start))?, lines.read(number(len))?);
        let proof_bytes = lines.field("proof")?;
        let proof_bytes = lines.read(number(proof_bytes))?;
        lines.exactly("")?;
        if !lines.rest().is_empty() || start.checked_add(len).is_none() || len == 0 {
            return Err(lines.fault(Fault::Syntax));
        }
        let rest = &bytes[end..];
        let split = usize::try_from(proof_bytes).ok().and_then(|at| rest.split_at_checked(at));
        let (proof, slice) = split.ok_or(lines.fault(Fault::Syntax))?;
        let proof = TlogProof::parse(proof).map_err(|error| error.below(lines.count()))?;
        Ok(Self { start, len, proof, slice: slice.to_vec() })
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let proof = self.proof.to_string();
        let head = format!("{MAGIC}\nrange {} {}\nproof {}\n\n", self.start, self.len, proof.len());
        [head.as_bytes(), proof.as_bytes(), &self.slice].concat()
    }

    /// The range: first byte, and length.
    #[must_use]
    pub fn range(&self) -> (u64, u64) {
        (self.start, self.len)
    }

    /// Checks the log proof, then the slice against the content that its entry names, and gives the
    /// bytes of the range.
    ///
    /// # Errors
    /// As [`TlogProof::verify`]; [`Fault::Entry`] for an entry without content; [`Fault::Slice`] for a
    /// range that is not within the content, or a slice that is not of it, is cut short or too long.
    pub fn verify(&self, policy: &Policy) -> Result<(Proven, Vec<u8>)> {
        let proven = self.proof.verify(policy)?;
        let content = match &proven.entry {
            Entry::Put(put) => put.content,
            _ => None,
        };
        let content = content.ok_or(ProofError::new(Fault::Entry).about("it has no content"))?;
        let bytes = self.read(&content)?;
        Ok((proven, bytes))
    }

    fn read(&self, content: &Content) -> Result<Vec<u8>> {
        let fault = |detail: &str| ProofError::new(Fault::Slice).about(detail);
        if self.start + self.len > content.len {
            return Err(fault("the range is not within the content"));
        }
        // Eight bytes of length, as the entry states it, come first.
        if self.slice.first_chunk() != Some(&content.len.to_le_bytes()) {
            return Err(fault("another length than the entry states"));
        }
        let name = blake3::Hash::from_bytes(*content.name.as_bytes());
        let mut rest = self.slice.as_slice();
        let mut decoder = bao::decode::SliceDecoder::new(&mut rest, &name, self.start, self.len);
        let mut bytes = Vec::new();
        decoder.read_to_end(&mut bytes).map_err(|error| fault(&error.to_string()))?;
        if !rest.is_empty() || bytes.len() as u64 != self.len {
            return Err(fault("it is longer or shorter than its range"));
        }
        Ok(bytes)
    }
}
