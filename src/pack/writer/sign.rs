//! Signers in the log, and signatures beside it.

use super::super::signatures::origin_of;
use super::Writer;
use super::pool::{Job, Packed};
use crate::error::{Error, ErrorKind, Result};
use crate::format::commit::Section;
use crate::format::entry::{Entry, Keys};
use crate::format::frame::FrameKind;
use crate::format::signature::{self, Signature};
use crate::hash::Hash;
use crate::proof::{Checkpoint, Head, ProofError, VerifierKey};
use std::borrow::Cow;
use std::fmt;

/// Signs the seals that a writer makes, so that a pack and its first signature are one commit.
pub trait SealSigner: fmt::Debug + Send + Sync {
    /// Signs a checkpoint. What comes back is stored as it is.
    ///
    /// # Errors
    /// Any: then the seal is not committed.
    fn sign(&self, checkpoint: &Checkpoint) -> Result<Vec<Signature<'static>>>;
}

/// Who must sign a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers {
    /// How many of the keys must sign; 0 for a log without signers.
    pub threshold: u64,
    /// The keys.
    pub keys: Vec<VerifierKey>,
    /// Keys no longer trusted, each with the last size of the log at which it was. None in a genesis.
    pub revoked: Vec<(VerifierKey, u64)>,
}

impl Signers {
    pub(super) fn check(&self) -> Result<()> {
        let most = u64::try_from(self.keys.len()).unwrap_or(u64::MAX);
        let is_none = self.keys.is_empty() && self.threshold == 0;
        if is_none || (1..=most).contains(&self.threshold) {
            return Ok(());
        }
        let what = format!("a threshold of {} for {most} signers", self.threshold);
        Err(Error::new(ErrorKind::Usage, what).hinting("1 to the number of signers"))
    }

    pub(super) fn vkeys(&self) -> Vec<Cow<'static, str>> {
        self.keys.iter().map(|key| Cow::Owned(key.to_string())).collect()
    }
}

impl Writer {
    /// Changes who must sign this log, from the next commit on. The seal of that commit is still
    /// signed by those before; the ones after it by the new signers.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a threshold that the keys cannot reach; [`ErrorKind::Limit`] if they
    /// are too many for an entry.
    pub fn set_signers(&mut self, signers: &Signers) -> Result<()> {
        self.check_alive()?;
        signers.check()?;
        let changes = match &self.base {
            Some(base) => base.signer_changes()?.len(),
            None => 0,
        };
        let revoked = signers.revoked.iter();
        let entry = Entry::Keys(Keys {
            sequence: (changes + self.signer_entries.len() + 1) as u64,
            threshold: signers.threshold,
            vkeys: signers.vkeys(),
            revoked: revoked.map(|(key, size)| (Cow::Owned(key.to_string()), *size)).collect(),
        })
        .encode();
        if entry.len() > crate::format::ENTRY_BYTES_MAX {
            return Err(Error::new(ErrorKind::Limit, "too many signers for one entry"));
        }
        self.signer_entries.push(entry);
        self.dirty = true;
        Ok(())
    }

    /// Adds signatures that were made of this log's seals, in a segment of their own: nothing that is
    /// committed changes, the log and its root neither. Seals first what is not sealed.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a signature that is empty, too long or not of a seal of this log;
    /// otherwise as [`Writer::commit`].
    pub fn add_signatures(&mut self, signatures: &[Signature<'_>]) -> Result<()> {
        self.check_alive()?;
        let is_sealed = self.sealed.is_some_and(|(size, _)| size == self.frontier.size());
        if self.dirty || !is_sealed || self.segment_has_commits {
            self.seal()?;
        }
        let sealed = match &self.base {
            Some(base) => base.generations()?.iter().map(|g| g.log_size).collect(),
            None => Vec::new(),
        };
        if signatures.is_empty() || signatures.iter().any(|s| !sealed.contains(&s.log_size)) {
            let what = "a signature is of a size of the log at which it was not sealed";
            return Err(Error::new(ErrorKind::Usage, what).at(&self.path));
        }
        check_signatures(signatures)?;
        let result = self.append_signatures(signatures);
        self.end_on_error(result)
    }

    /// Adds the signatures of the same log in another pack.
    pub(in crate::pack) fn copy_signatures(&mut self, signatures: &[Signature<'_>]) -> Result<()> {
        let result = self.append_signatures(signatures);
        self.end_on_error(result)
    }

    fn append_signatures(&mut self, signatures: &[Signature<'_>]) -> Result<()> {
        self.begin_segment()?;
        self.write_signatures(signatures)?;
        let footer = self.write_index(true)?;
        self.write_commit(None, Some(footer))
    }

    /// Signs the log as it is with this writer's signer, if it has one. Its newest entry is a seal.
    pub(super) fn sign_seal(&mut self) -> Result<()> {
        let Some(signer) = self.options.signer.clone() else {
            return Ok(());
        };
        let origin = self.log_origin()?;
        let head = Head { size: self.frontier.size(), root: self.frontier.root() };
        let checkpoint = Checkpoint::new(&origin, head).map_err(refused)?;
        let signatures = signer.sign(&checkpoint)?;
        check_signatures(&signatures)?;
        if signatures.is_empty() { Ok(()) } else { self.write_signatures(&signatures) }
    }

    fn log_origin(&self) -> Result<String> {
        let found = match (self.genesis.as_deref().map(Entry::decode).transpose()?, &self.base) {
            (Some((Entry::Genesis(genesis), _)), _) => Some(origin_of(&genesis)),
            (_, Some(base)) => base.origin()?,
            _ => None,
        };
        found.ok_or_else(|| Error::new(ErrorKind::Usage, "the log is empty").at(&self.path))
    }

    fn write_signatures(&mut self, signatures: &[Signature<'_>]) -> Result<()> {
        let previous = self.signatures.map_or(0, |row| row.frame_offset);
        let body = signature::encode(previous, signatures);
        let head_hash = Hash::of(&body);
        let kind = FrameKind::Signatures;
        let item_count = u32::try_from(signatures.len()).unwrap_or(u32::MAX); // 16 MiB hold few
        let job = Job::Plain { kind, flags: 0, item_count, body, compress: false };
        let mut frame_offset = 0;
        let (out, path) = (&mut self.out, &self.path);
        let mut write = |packed: Packed| {
            frame_offset = out.frame(&packed).map_err(|error| Error::write(path, error))?.0.offset;
            Ok(())
        };
        self.pool.submit(job, &mut write)?;
        self.pool.drain(&mut write)?;
        self.signatures = Some(Section { kind: kind.number().into(), frame_offset, head_hash });
        Ok(())
    }
}

fn refused(error: ProofError) -> Error {
    Error::new(ErrorKind::Usage, "the name of the log can't be signed")
        .because(error)
        .hinting("create the pack with an origin such as example.org/proofs")
}

/// What a reader would refuse is not written.
fn check_signatures(signatures: &[Signature<'_>]) -> Result<()> {
    let body = signature::encode(0, signatures);
    let count = u32::try_from(signatures.len()).unwrap_or(u32::MAX);
    if let Err(error) = signature::decode(&body, count) {
        return Err(Error::new(ErrorKind::Usage, "this can't be a signature").because(error));
    }
    if body.len() > usize::try_from(FrameKind::Signatures.raw_bytes_max()).unwrap_or(usize::MAX) {
        return Err(Error::new(ErrorKind::Limit, "too many signatures at once"));
    }
    Ok(())
}
