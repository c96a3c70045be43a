//! Proofs of the log: an entry that is in it (C2SP tlog-proof), and that it only grew (the body that
//! C2SP tlog-witness has).

use super::checkpoint::{Checkpoint, Head};
use super::error::{Fault, ProofError, Result};
use super::merkle::{PATH_LEN_MAX, verify_consistency, verify_inclusion};
use super::note::Note;
use super::policy::{Policy, TrustedCheckpoint};
use super::text::{FILE_BYTES_MAX, Lines, base64, from_base64, number, utf8};
use crate::format::ENTRY_BYTES_MAX;
use crate::format::entry::{Entry, Seal};
use crate::tree::{Node, leaf_hash};
use std::fmt;

/// The first line of a proof, by which its kind is told.
pub(super) const MAGIC: &str = "c2sp.org/tlog-proof@v1";

/// That an entry is in a log whose head was signed. In PEFC the extra data of C2SP is the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    entry: Vec<u8>,
    index: u64,
    path: Vec<Node>,
    note: Note,
}

/// What a [`TlogProof`] proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The head that the entry is below, and who signed it.
    pub checkpoint: TrustedCheckpoint,
    /// Index of the entry in the log.
    pub index: u64,
    /// The entry.
    pub entry: Entry<'static>,
}

impl TlogProof {
    /// A proof from its parts.
    #[must_use]
    pub fn new(entry: Vec<u8>, index: u64, path: Vec<Node>, note: Note) -> Self {
        Self { entry, index, path, note }
    }

    /// Parses a proof. Nothing of it is believed yet.
    ///
    /// # Errors
    /// [`Fault::Encoding`], [`Fault::Syntax`], [`Fault::Base64`], [`Fault::Limit`],
    /// [`Fault::PathLength`] for more hashes than any tree has levels, [`Fault::Entry`] if it does not
    /// carry its entry.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Fault::Limit.into());
        }
        let mut lines = Lines::new(utf8(bytes)?);
        lines.exactly(MAGIC)?;
        let extra = lines.optional_field("extra")?;
        let entry = extra.ok_or(ProofError::new(Fault::Entry).at_line(2))?;
        let entry = lines.read(from_base64(entry))?;
        let index = lines.field("index")?;
        let index = lines.read(number(index))?;
        let path = lines.hashes(PATH_LEN_MAX)?;
        let note = Note::parse(lines.rest().as_bytes()).map_err(|e| e.below(lines.count()))?;
        Ok(Self { entry, index, path, note })
    }

    /// The note, which is not verified.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Checks, in this order: the checkpoint against `policy`; index and path; the root; the entry.
    ///
    /// # Errors
    /// What [`Policy::verify`] gives, [`Fault::Index`], [`Fault::PathLength`], [`Fault::Root`],
    /// [`Fault::Entry`].
    pub fn verify(&self, policy: &Policy) -> Result<Proven> {
        let checkpoint = policy.verify(&self.note)?;
        let entry = self.entry_in(&checkpoint.checkpoint.head)?;
        Ok(Proven { checkpoint, index: self.index, entry })
    }

    /// The entry, if it is in the log with this head.
    pub(super) fn entry_in(&self, head: &Head) -> Result<Entry<'static>> {
        entry_at(&self.entry, self.index, &self.path, head)
    }

    /// The seal that is the last entry of a signed log, and so says what was live there.
    pub(super) fn seal(&self, policy: &Policy) -> Result<(TrustedCheckpoint, Seal<'static>)> {
        let proven = self.verify(policy)?;
        let size = proven.checkpoint.checkpoint.head.size;
        let Entry::Seal(seal) = proven.entry else {
            return Err(ProofError::new(Fault::Entry).about("a seal is needed here"));
        };
        if proven.index.checked_add(1) != Some(size) {
            return Err(ProofError::new(Fault::Index).about("the seal is not the last entry"));
        }
        Ok((proven.checkpoint, seal))
    }
}

/// Decodes an entry that `path` leads from to the root of `head`.
pub(super) fn entry_at(
    bytes: &[u8],
    index: u64,
    path: &[Node],
    head: &Head,
) -> Result<Entry<'static>> {
    verify_inclusion(&leaf_hash(bytes), index, head.size, path, &head.root)?;
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Fault::Entry.into());
    }
    match Entry::decode(bytes) {
        Ok((entry, len)) if len == bytes.len() => Ok(entry.into_owned()),
        Ok(_) => Err(ProofError::new(Fault::Entry).about("bytes follow it")),
        Err(error) => Err(ProofError::new(Fault::Entry).about(error.to_string())),
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}\nextra {}\nindex {}", base64(&self.entry), self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash)))?;
        write!(f, "\n{}", self.note)
    }
}

/// That a log with one head is a prefix of that with another: it only grew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    old_size: u64,
    path: Vec<Node>,
    note: Note,
}

impl ConsistencyProof {
    /// A proof from its parts.
    #[must_use]
    pub fn new(old_size: u64, path: Vec<Node>, note: Note) -> Self {
        Self { old_size, path, note }
    }

    /// Parses a proof. Nothing of it is believed yet.
    ///
    /// # Errors
    /// As [`TlogProof::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Fault::Limit.into());
        }
        let mut lines = Lines::new(utf8(bytes)?);
        let old_size = lines.field("old")?;
        let old_size = lines.read(number(old_size))?;
        let path = lines.hashes(PATH_LEN_MAX)?;
        let note = Note::parse(lines.rest().as_bytes()).map_err(|e| e.below(lines.count()))?;
        Ok(Self { old_size, path, note })
    }

    /// Size of the old log.
    #[must_use]
    pub fn old_size(&self) -> u64 {
        self.old_size
    }

    /// Checks the new checkpoint against `policy`, and that `old` is a prefix of its log.
    ///
    /// # Errors
    /// What [`Policy::verify`] gives, [`Fault::Size`] if `old` has another size than the proof is
    /// about, and what [`verify_consistency`] gives.
    pub fn verify(&self, old: &Head, policy: &Policy) -> Result<TrustedCheckpoint> {
        let new = policy.verify(&self.note)?;
        if old.size != self.old_size {
            let sizes = format!("from size {}, not {}", self.old_size, old.size);
            return Err(ProofError::new(Fault::Size).about(sizes));
        }
        let head = new.checkpoint.head;
        verify_consistency((old.size, &old.root), (head.size, &head.root), &self.path)?;
        Ok(new)
    }
}

impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash)))?;
        write!(f, "\n{}", self.note)
    }
}

impl TlogProof {
    /// The checkpoint, which is not verified.
    ///
    /// # Errors
    /// [`Fault::Checkpoint`], [`Fault::Origin`].
    pub fn unverified_checkpoint(&self) -> Result<Checkpoint> {
        Checkpoint::parse(self.note.text())
    }
}
