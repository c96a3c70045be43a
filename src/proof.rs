//! Proofs that stand alone: signed notes, checkpoints, and the files that show with one of them
//! what a pack holds, what it does not hold, and that it only grew. `spec/proofs.md` has the
//! grammar of each file.
//!
//! Everything here is a function of bytes. This layer reads no file, no clock and no random source,
//! opens no pack and trusts no key that it was not given. A *proof* is parsed first, which says
//! nothing of its truth; what it proves comes out of a function that was handed a [`Policy`], or a
//! root from one.
//!
//! ```
//! use pefc::format::entry::Entry;
//! use pefc::proof::{Policy, TlogProof};
//! # fn check(file: &[u8], trust: &[u8]) -> Result<(), pefc::proof::ProofError> {
//! let policy = Policy::parse(trust)?; // verifier keys, one a line
//! let proof = TlogProof::parse(file)?;
//! let proven = proof.verify(&policy)?;
//! if let Entry::Put(put) = &proven.entry {
//!     println!("{} had {:?}", String::from_utf8_lossy(&put.key), put.content);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Texts are parsed strictly: what is accepted would be written to the same bytes.

mod checkpoint;
mod complete;
mod cose;
mod error;
mod ics23;
mod map;
pub mod merkle;
mod note;
mod policy;
mod slice;
mod ssh;
#[cfg(feature = "statements")]
mod statement;
mod text;
mod tlog;
mod vkey;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, Head};
pub use complete::{CompleteProof, RangeLeaf};
pub use cose::{CoseReceipt, ProvenReceipt, cose_message};
pub use error::{Fault, ProofError, Result};
pub(crate) use ics23::leaf_hash as map_leaf_hash;
pub use ics23::{AbsenceProof, PresenceProof, Sibling};
pub use map::{Absent, Live, MapKey, Present, ProvenMap};
pub use note::{Note, NoteSignature, cosigned_text};
pub use policy::{Policy, Signer, TrustedCheckpoint};
pub use slice::{SliceProof, cut_slice};
pub use ssh::{SSH_NAMESPACE, SshSignature, allowed_signer, ssh_message};
#[cfg(feature = "statements")]
pub use statement::{Envelope, Statement, Subject, dsse_message};
pub use tlog::{ConsistencyProof, Proven, TlogProof};
pub use vkey::{SignatureType, VerifierKey};
#[cfg(feature = "sign")]
pub(crate) use vkey::{key_bytes, key_text};

/// A proof file of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProofFile {
    /// An entry is in the log.
    Logged(TlogProof),
    /// The log only grew.
    Consistency(ConsistencyProof),
    /// A key or content is live.
    Present(Present),
    /// A key or content is not live.
    Absent(Absent),
    /// All live keys under a prefix.
    Complete(CompleteProof),
    /// A byte range of a content.
    Slice(SliceProof),
    /// An entry is in the log, in CBOR.
    Cose(CoseReceipt),
}

impl ProofFile {
    /// Parses a proof file; its first bytes tell the kind. Nothing of it is believed yet.
    ///
    /// # Errors
    /// Those of the kind; [`Fault::Syntax`] for what is no proof.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is = |magic: &str| line == magic.as_bytes();
        if is(tlog::MAGIC) {
            TlogProof::parse(bytes).map(Self::Logged)
        } else if is(map::PRESENT_MAGIC) {
            Present::parse(bytes).map(Self::Present)
        } else if is(map::ABSENT_MAGIC) {
            Absent::parse(bytes).map(Self::Absent)
        } else if is(complete::MAGIC) {
            CompleteProof::parse(bytes).map(Self::Complete)
        } else if is(slice::MAGIC) {
            SliceProof::parse(bytes).map(Self::Slice)
        } else if line.starts_with(b"old ") {
            ConsistencyProof::parse(bytes).map(Self::Consistency)
        } else if bytes.first() == Some(&cose::TAG) {
            CoseReceipt::parse(bytes).map(Self::Cose)
        } else {
            Err(ProofError::new(Fault::Syntax).at_line(1))
        }
    }
}
