//! Secret keys: making signatures. Checking them needs none of this: see [`crate::proof`].
//!
//! A key is a line of text, as Go's `sumdb/note` writes it:
//! `PRIVATE+KEY+NAME+HEX+BASE64`, where the base64 is of the type byte and the 32 bytes of the seed.

use crate::disk::Random;
use crate::error::{Error, ErrorKind, Result};
use crate::proof::{
    Checkpoint, Fault, NoteSignature, ProofError, SignatureType, SshSignature, VerifierKey,
    cose_message, cosigned_text, key_bytes, key_text, ssh_message,
};
use crate::tree::Node;
use ed25519_dalek::Signer as _;
use std::fmt;
use zeroize::Zeroizing;

const PREFIX: &str = "PRIVATE+KEY+";

/// A secret key with its name. Its bytes are wiped from memory when it is dropped.
pub struct SigningKey {
    secret: ed25519_dalek::SigningKey,
    public: VerifierKey,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if there is no randomness, [`ErrorKind::Refused`] for a name that notes do
    /// not allow: it must have no white space and no plus. A name like `example.org/me` keeps clear
    /// of others.
    pub fn generate(name: &str, kind: SignatureType, random: &dyn Random) -> Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        random
            .fill(&mut *seed)
            .map_err(|source| Error::new(ErrorKind::Io, "getting random bytes").because(source))?;
        Ok(Self::from_seed(name, kind, &seed)?)
    }

    fn from_seed(
        name: &str,
        kind: SignatureType,
        seed: &[u8; 32],
    ) -> std::result::Result<Self, ProofError> {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = VerifierKey::new(name, kind, secret.verifying_key().as_bytes())?;
        Ok(Self { secret, public })
    }

    /// Reads the text of a key. Nothing of it is in an error.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with the faults of a verifier key: [`Fault::Vkey`], [`Fault::Base64`],
    /// [`Fault::KeyType`], [`Fault::KeyId`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = str::from_utf8(bytes).map_err(|_| ProofError::new(Fault::Encoding))?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        let rest = line.strip_prefix(PREFIX).ok_or(ProofError::new(Fault::Vkey))?;
        let (name, id, kind, seed) = key_bytes(rest)?;
        let key = Self::from_seed(name, kind, &Zeroizing::new(seed))?;
        if id != key.public.id() {
            return Err(ProofError::new(Fault::KeyId).about(name).into());
        }
        Ok(key)
    }

    /// The text of the key, with a line feed: for a file that only its owner may read.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.secret.to_bytes());
        let (name, id) = (self.public.name(), self.public.id());
        let text = Zeroizing::new(key_text(name, id, self.public.kind(), &seed));
        Zeroizing::new(format!("{PREFIX}{}\n", text.as_str()))
    }

    /// The public key: what others need to trust it.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.public
    }

    /// Signs a checkpoint. A cosigner states with it that it saw this head as an extension of all
    /// that it signed before, at `time_s`; for the key of a log the time is not used.
    #[must_use]
    pub fn sign_checkpoint(&self, checkpoint: &Checkpoint, time_s: u64) -> NoteSignature {
        let text = checkpoint.to_string();
        match self.public.kind() {
            SignatureType::Ed25519 => {
                NoteSignature::ed25519(&self.public, &self.sign(text.as_bytes()))
            }
            SignatureType::Cosignature => {
                let message = cosigned_text(&text, time_s);
                NoteSignature::cosignature(&self.public, time_s, &self.sign(message.as_bytes()))
            }
        }
    }

    /// Signs a checkpoint as `ssh-keygen -Y sign -n pefc-checkpoint` does.
    #[must_use]
    pub fn sign_ssh(&self, checkpoint: &Checkpoint) -> SshSignature {
        let signature = self.sign(&ssh_message(checkpoint.to_string().as_bytes()));
        SshSignature::new(self.public.public(), &signature)
    }

    /// Signs a statement.
    #[cfg(feature = "statements")]
    #[must_use]
    pub fn sign_statement(&self, statement: &crate::proof::Statement) -> crate::proof::Envelope {
        let envelope = crate::proof::Envelope::new(statement.encode());
        let signature = self.sign(&envelope.message());
        envelope.signed(&self.public, &signature)
    }

    /// Signs a root for COSE receipts.
    #[must_use]
    pub fn sign_root(&self, root: &Node) -> [u8; 64] {
        self.sign(&cose_message(root))
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret key of {}", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsRandom;
    use crate::proof::Head;

    #[test]
    fn a_key_comes_back_as_it_was_written() {
        for kind in [SignatureType::Ed25519, SignatureType::Cosignature] {
            let key = SigningKey::generate("example.org/me", kind, &OsRandom).unwrap();
            let again = SigningKey::parse(key.to_text().as_bytes()).unwrap();
            assert_eq!(again.verifier(), key.verifier());
            assert!(!format!("{key:?}").contains("PRIVATE"));
        }
        for name in ["", "a b", "a+b", "a\n"] {
            let error = SigningKey::generate(name, SignatureType::Ed25519, &OsRandom).unwrap_err();
            assert_eq!(error.fault(), Some(Fault::Vkey));
        }
    }

    #[test]
    fn every_change_of_a_byte_of_a_key_is_noticed() {
        let key = SigningKey::generate("a.example/b", SignatureType::Ed25519, &OsRandom).unwrap();
        let text = key.to_text();
        for at in 0..text.len() {
            for flip in [0x01, 0x20, 0xff] {
                let mut changed = text.as_bytes().to_vec();
                changed[at] ^= flip;
                assert!(SigningKey::parse(&changed).is_err(), "byte {at} ^ {flip:x}");
            }
        }
    }

    #[test]
    fn a_second_library_reads_the_key_and_makes_the_same_signature() {
        use signed_note::Signer as _;
        let key = SigningKey::generate("a.example/b", SignatureType::Ed25519, &OsRandom).unwrap();
        let other = signed_note::StandardSigner::new(key.to_text().trim_end()).unwrap();
        let checkpoint = Checkpoint::new("a.example/b", Head { size: 1, root: [7; 32] }).unwrap();
        let mine = key.sign_checkpoint(&checkpoint, 0);
        assert_eq!(other.sign(checkpoint.to_string().as_bytes()).unwrap(), mine.value);
    }
}
