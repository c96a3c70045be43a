//! Who vouches for a pack: its signatures, held to a policy.

use super::{Generation, Pack};
use crate::error::{Error, Result};
use crate::format::signature::{Signature, SignatureFormat};
use crate::proof::{
    Checkpoint, Fault, Head, Note, NoteSignature, Policy, ProofError, SshSignature,
    TrustedCheckpoint,
};
use crate::tree::{Frontier, leaf_hash};
use std::collections::BTreeMap;

/// What a policy says of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The newest generation that the policy accepts.
    pub generation: Generation,
    /// Its checkpoint, and who signed it.
    pub trusted: TrustedCheckpoint,
    /// Whether it is all of the pack: no entry lies above it.
    pub is_newest: bool,
}

/// A checkpoint of a head with the signatures that a pack has of it.
pub(super) struct Signed {
    /// The text, and the signatures that a note can carry.
    pub(super) note: Note,
    /// SSH signatures of the text.
    pub(super) ssh: Vec<SshSignature>,
}

/// The signed checkpoints of a head: one for each name of the log that signatures use, that of the
/// log itself first.
pub(super) fn signed(signatures: &[Signature<'_>], own: &str, head: Head) -> Result<Vec<Signed>> {
    let mut found: BTreeMap<&str, (Vec<NoteSignature>, Vec<SshSignature>)> = BTreeMap::new();
    for signature in signatures.iter().filter(|signature| signature.log_size == head.size) {
        let (lines, ssh) = match signature.format {
            SignatureFormat::Note | SignatureFormat::Ssh => {
                found.entry(&signature.origin).or_default()
            }
            _ => continue,
        };
        // One that can't be read is of no key that anybody trusts, so it says nothing.
        match signature.format {
            SignatureFormat::Ssh => ssh.extend(SshSignature::parse(&signature.value)),
            _ => lines.extend(
                str::from_utf8(&signature.value).map(NoteSignature::parse).into_iter().flatten(),
            ),
        }
    }
    let signed = found.into_iter().map(|(origin, (lines, ssh))| {
        let origin = if origin.is_empty() { own } else { origin };
        let text = Checkpoint::new(origin, head)?.to_string();
        Ok(Signed { note: Note::new(&text, lines)?, ssh })
    });
    signed.collect()
}

impl Pack {
    /// Finds the newest generation that `policy` accepts. Changes of signers in the log are followed:
    /// a generation that the old signers accept hands over to the new ones.
    ///
    /// Says nothing of whether the pack is intact: [`Pack::verify`] does, and only together they say
    /// that content is what the signers signed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Untrusted`] if there is none, [`crate::ErrorKind::Refused`] if a signature
    /// of a trusted key does not verify or the name of the log is another, and as any read.
    pub fn authenticate(&self, policy: &Policy) -> Result<Authenticated> {
        let signatures = self.signatures()?;
        let own = self.origin()?.unwrap_or_default();
        let changes = self.signer_changes()?;
        let mut changes = changes.iter().peekable();
        let (mut policy, mut found) = (policy.clone(), None);
        let mut why = ProofError::new(Fault::Untrusted);
        let mut generations = self.generations()?;
        generations.reverse();
        for generation in generations {
            let head = Head { size: generation.log_size, root: generation.log_root };
            let mut trusted = None;
            for signed in signed(&signatures, &own, head)? {
                match policy.verify_with(&signed.note, &signed.ssh) {
                    Ok(checkpoint) => trusted = trusted.or(Some(checkpoint)),
                    Err(error) if matches!(error.fault, Fault::Signature) => {
                        return Err(self.error(error));
                    }
                    Err(error) => why = error,
                }
            }
            let Some(trusted) = trusted else { continue };
            // What the trusted signers put into the log says who comes after them.
            while let Some((_, keys)) = changes.next_if(|(index, _)| *index < head.size) {
                if keys.sequence > policy.sequence() {
                    policy.hand_over(&trusted.checkpoint.origin, keys)?;
                }
            }
            found = Some((generation, trusted));
        }
        let Some((generation, trusted)) = found else {
            return Err(self.error(why));
        };
        let is_newest = generation.log_size == self.commit().log_size;
        Ok(Authenticated { generation, trusted, is_newest })
    }

    /// Holds this log to a head of it that is known from before.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Rollback`] if the log is shorter now, or had another root at that size.
    pub fn check_known(&self, known: &Head) -> Result<()> {
        let size = self.commit().log_size;
        if size < known.size {
            let detail = format!("the log has {size} entries, and had {}", known.size);
            return Err(self.error(ProofError::new(Fault::Rollback).about(detail)));
        }
        let mut frontier = Frontier::default();
        self.for_each_entry(|index, bytes| {
            if index < known.size {
                frontier.push(leaf_hash(bytes));
            }
        })?;
        if frontier.size() != known.size || frontier.root() != known.root {
            let detail = format!("at size {}", known.size);
            return Err(self.error(Error::from(ProofError::new(Fault::Fork).about(detail))));
        }
        Ok(())
    }
}
