//! Signing a pack with a key: which checkpoint, and what is stored.

use super::signatures::derived_nonce;
use super::{Pack, SealSigner};
use crate::error::{Error, ErrorKind, Result};
use crate::format::signature::{Signature, SignatureFormat};
use crate::proof::{Checkpoint, Head, SignatureType};
use crate::sign::SigningKey;
use std::borrow::Cow;

impl SealSigner for SigningKey {
    fn sign(&self, checkpoint: &Checkpoint) -> Result<Vec<Signature<'static>>> {
        Ok(vec![note_signature(self, checkpoint, 0, "")])
    }
}

/// How to sign.
#[derive(Debug, Clone, Default)]
pub struct SignOptions {
    /// Name of the log in the checkpoint; none for that of its genesis.
    pub origin: Option<String>,
    /// Whether to sign the root for COSE receipts too.
    pub cose: bool,
    /// Whether to sign the checkpoint as SSH does too.
    pub ssh: bool,
    /// When a cosignature is made, in seconds since 1970.
    pub time_s: u64,
}

impl Pack {
    /// The checkpoint of the newest generation, under this name or that of the log.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without a generation; [`ErrorKind::Usage`] if entries follow the newest
    /// seal, and for a later generation of a log whose name follows from its first content alone: two
    /// people who packed the same files would sign two logs under one name. [`ErrorKind::Refused`] for
    /// a name that checkpoints do not allow.
    pub fn checkpoint(&self, origin: Option<&str>) -> Result<Checkpoint> {
        let newest = self.newest_generation()?;
        let newest = newest.ok_or_else(|| {
            self.error(Error::new(ErrorKind::NotFound, "the pack was never sealed"))
        })?;
        if newest.log_size != self.commit().log_size {
            let error = Error::new(ErrorKind::Usage, "entries follow the newest seal");
            return Err(
                self.error(error.hinting("append to the pack, which seals it, and sign then"))
            );
        }
        let head = Head { size: newest.log_size, root: newest.log_root };
        if let Some(origin) = origin {
            return Checkpoint::new(origin, head).map_err(|error| self.error(error));
        }
        let genesis = self.genesis()?;
        let first = self.generations()?.pop();
        let is_derived = match (&genesis, &first) {
            (Some(genesis), Some(first)) => {
                genesis.origin.is_empty() && genesis.nonce == derived_nonce(&first.map_root)
            }
            _ => false,
        };
        if newest.number > 1 && is_derived {
            let what = "the log has no name of its own: whoever packed the same files has one that is called the same";
            let error = Error::new(ErrorKind::Usage, what);
            return Err(self.error(error.hinting("name it with --origin example.org/my-proofs")));
        }
        let origin = self.origin()?.unwrap_or_default();
        Checkpoint::new(&origin, head).map_err(|error| self.error(error))
    }

    /// Signs the newest generation: the checkpoint, and what is to be stored with
    /// [`super::Writer::add_signatures`].
    ///
    /// # Errors
    /// As [`Pack::checkpoint`]; [`ErrorKind::Usage`] for receipts by a cosigner's key.
    pub fn sign(
        &self,
        key: &SigningKey,
        options: &SignOptions,
    ) -> Result<(Checkpoint, Vec<Signature<'static>>)> {
        let checkpoint = self.checkpoint(options.origin.as_deref())?;
        let own = self.origin()?.unwrap_or_default();
        let origin = if checkpoint.origin == own { "" } else { &checkpoint.origin };
        let mut signatures = vec![note_signature(key, &checkpoint, options.time_s, origin)];
        if options.cose {
            if key.verifier().kind() != SignatureType::Ed25519 {
                let what = "a cosigner's key signs no receipts";
                return Err(self.error(Error::new(ErrorKind::Usage, what)));
            }
            signatures.push(Signature {
                log_size: checkpoint.head.size,
                origin: Cow::Owned(origin.to_owned()),
                format: SignatureFormat::Cose,
                value: Cow::Owned(key.sign_root(&checkpoint.head.root).to_vec()),
            });
        }
        if options.ssh {
            signatures.push(Signature {
                log_size: checkpoint.head.size,
                origin: Cow::Owned(origin.to_owned()),
                format: SignatureFormat::Ssh,
                value: Cow::Owned(key.sign_ssh(&checkpoint).to_string().into_bytes()),
            });
        }
        Ok((checkpoint, signatures))
    }
}

fn note_signature(
    key: &SigningKey,
    checkpoint: &Checkpoint,
    time_s: u64,
    origin: &str,
) -> Signature<'static> {
    Signature {
        log_size: checkpoint.head.size,
        origin: Cow::Owned(origin.to_owned()),
        format: SignatureFormat::Note,
        value: Cow::Owned(key.sign_checkpoint(checkpoint, time_s).to_string().into_bytes()),
    }
}
