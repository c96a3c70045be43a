//! SSH signatures (OpenSSH's PROTOCOL.sshsig) of a checkpoint, by Ed25519 keys: what
//! `ssh-keygen -Y sign` writes and `ssh-keygen -Y verify` checks.

use super::error::{Fault, ProofError, Result};
use super::text::{Lines, base64, from_base64, utf8};
use super::vkey::{SignatureType, VerifierKey};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;

/// The namespace of signatures of checkpoints.
pub const SSH_NAMESPACE: &str = "pefc-checkpoint";

/// Type of the only keys that are read here.
const KEY_TYPE: &str = "ssh-ed25519";
const MAGIC: &[u8] = b"SSHSIG";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Characters of a line of the armor.
const LINE_LEN: usize = 70;
/// An armored signature of an Ed25519 key has far less.
const ARMOR_BYTES_MAX: usize = 4096;

/// The hash that the message goes through before it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageHash {
    Sha256,
    Sha512,
}

impl MessageHash {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// An SSH signature by an Ed25519 key, for the namespace of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSignature {
    public: [u8; 32],
    hash: MessageHash,
    signature: [u8; 64],
}

/// The bytes that a signature of a message signs.
fn signed_bytes(hash: MessageHash, message: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put(&mut out, SSH_NAMESPACE.as_bytes());
    put(&mut out, b"");
    put(&mut out, hash.name().as_bytes());
    put(&mut out, &hash.of(message));
    out
}

/// What an Ed25519 key signs to make the SSH signature of a message.
#[must_use]
pub fn ssh_message(message: &[u8]) -> Vec<u8> {
    signed_bytes(MessageHash::Sha512, message)
}

impl SshSignature {
    /// A signature from the key and the 64 bytes that it made of [`ssh_message`].
    #[must_use]
    pub fn new(public: &[u8; 32], signature: &[u8; 64]) -> Self {
        Self { public: *public, hash: MessageHash::Sha512, signature: *signature }
    }

    /// Parses an armored signature.
    ///
    /// # Errors
    /// [`Fault::Limit`], [`Fault::Encoding`], [`Fault::Syntax`], [`Fault::Base64`]; [`Fault::KeyType`]
    /// for a key that is not Ed25519; [`Fault::Signature`] for another namespace or structure.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > ARMOR_BYTES_MAX {
            return Err(Fault::Limit.into());
        }
        let mut lines = Lines::new(utf8(bytes)?);
        lines.exactly(BEGIN)?;
        let mut text = String::new();
        loop {
            match lines.next()? {
                END => break,
                line => text.push_str(line),
            }
        }
        let found = Self::decode(&from_base64(&text)?)?;
        // One text for each signature: the lines are as long as they should be, nothing follows.
        if found.to_string().as_bytes() == bytes { Ok(found) } else { Err(Fault::Syntax.into()) }
    }

    fn decode(blob: &[u8]) -> Result<Self> {
        let fault = || ProofError::new(Fault::Signature);
        let rest = blob.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&[0, 0, 0, 1]));
        let mut rest = rest.ok_or_else(fault)?;
        let key = take(&mut rest).ok_or_else(fault)?;
        let namespace = take(&mut rest).ok_or_else(fault)?;
        let reserved = take(&mut rest).ok_or_else(fault)?;
        let hash = take(&mut rest).ok_or_else(fault)?;
        let mut signature = take(&mut rest).ok_or_else(fault)?;
        let hash = [MessageHash::Sha256, MessageHash::Sha512]
            .into_iter()
            .find(|known| known.name().as_bytes() == hash);
        let kind = take(&mut signature).ok_or_else(fault)?;
        let value = take(&mut signature).and_then(|value| value.try_into().ok());
        let is_plain = namespace == SSH_NAMESPACE.as_bytes()
            && reserved.is_empty()
            && rest.is_empty()
            && signature.is_empty()
            && kind == KEY_TYPE.as_bytes();
        let public = public_key(key)?;
        match (hash, value) {
            (Some(hash), Some(signature)) if is_plain => Ok(Self { public, hash, signature }),
            _ => Err(fault()),
        }
    }

    /// Whether it says to be of `key`.
    #[must_use]
    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.public == *key.public()
    }

    /// Checks that it is the signature of `key` over `text`.
    ///
    /// # Errors
    /// [`Fault::Signature`].
    pub fn verify(&self, key: &VerifierKey, text: &str) -> Result<()> {
        let message = signed_bytes(self.hash, text.as_bytes());
        match self.is_by(key) && key.verifies(&message, &self.signature) {
            true => Ok(()),
            false => Err(ProofError::new(Fault::Signature).about(key.name())),
        }
    }
}

impl fmt::Display for SshSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut signature = Vec::new();
        put(&mut signature, KEY_TYPE.as_bytes());
        put(&mut signature, &self.signature);
        let mut blob = [MAGIC, &[0, 0, 0, 1]].concat();
        put(&mut blob, &key_blob(&self.public));
        put(&mut blob, SSH_NAMESPACE.as_bytes());
        put(&mut blob, b"");
        put(&mut blob, self.hash.name().as_bytes());
        put(&mut blob, &signature);
        let text = base64(&blob);
        writeln!(f, "{BEGIN}")?;
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(LINE_LEN));
            writeln!(f, "{line}")?;
            rest = more;
        }
        writeln!(f, "{END}")
    }
}

/// The line of an `allowed_signers` file that lets a key sign checkpoints.
#[must_use]
pub fn allowed_signer(key: &VerifierKey) -> String {
    let blob = base64(&key_blob(key.public()));
    format!("{} namespaces=\"{SSH_NAMESPACE}\" {KEY_TYPE} {blob}", key.name())
}

/// Reads such a line from its words: the principal, the option that names the namespace if there is
/// one, type and key; what follows is a comment. `None` for what is no such line at all.
///
/// # Errors
/// [`Fault::Syntax`] for any other option, since one that is not understood may forbid what is asked
/// for; [`Fault::KeyType`], [`Fault::Base64`], [`Fault::Vkey`], [`Fault::WeakKey`].
pub(super) fn parse_allowed(words: &[&str]) -> Result<Option<VerifierKey>> {
    let is_type =
        |word: &&str| ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| word.starts_with(prefix));
    let (name, kind, blob) = match words {
        [name, kind, blob, ..] if is_type(kind) => (name, kind, blob),
        [name, option, kind, blob, ..] if is_type(kind) => {
            if *option != format!("namespaces=\"{SSH_NAMESPACE}\"") {
                return Err(ProofError::new(Fault::Syntax).about(*option));
            }
            (name, kind, blob)
        }
        _ => return Ok(None),
    };
    if *kind != KEY_TYPE {
        return Err(ProofError::new(Fault::KeyType).about(*kind));
    }
    let public = public_key(&from_base64(blob)?)?;
    VerifierKey::new(name, SignatureType::Ed25519, &public).map(Some)
}

fn key_blob(public: &[u8; 32]) -> Vec<u8> {
    let mut blob = Vec::new();
    put(&mut blob, KEY_TYPE.as_bytes());
    put(&mut blob, public);
    blob
}

fn public_key(mut blob: &[u8]) -> Result<[u8; 32]> {
    let fault = || ProofError::new(Fault::KeyType);
    let kind = take(&mut blob).ok_or_else(fault)?;
    let public = take(&mut blob).and_then(|public| public.try_into().ok());
    match public {
        Some(public) if kind == KEY_TYPE.as_bytes() && blob.is_empty() => Ok(public),
        _ => Err(fault()),
    }
}

/// A string of RFC 4251: four bytes of length, the high one first.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // All that is put here is short.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(len.to_le_bytes().iter().rev());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let len = len.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
    let (bytes, after) = after.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    #[test]
    fn every_change_of_a_byte_of_a_signature_is_noticed() {
        let secret = SigningKey::from_bytes(&[3; 32]);
        let public = secret.verifying_key().to_bytes();
        let key = VerifierKey::new("me", SignatureType::Ed25519, &public).unwrap();
        let signature = secret.sign(&ssh_message(b"text\n")).to_bytes();
        let armored = SshSignature::new(&public, &signature).to_string();
        let verify =
            |bytes: &[u8]| SshSignature::parse(bytes).and_then(|s| s.verify(&key, "text\n"));
        assert_eq!(verify(armored.as_bytes()), Ok(()));
        for at in 0..armored.len() {
            for flip in [0x01, 0x20, 0xff] {
                let mut changed = armored.clone().into_bytes();
                changed[at] ^= flip;
                assert!(verify(&changed).is_err(), "byte {at} ^ {flip:x}");
            }
            assert!(verify(&armored.as_bytes()[..at]).is_err());
        }
        assert!(verify(format!("{armored}\n").as_bytes()).is_err());
        // The same key over the text itself, as a log signs it, is no SSH signature.
        let other = SshSignature::new(&public, &secret.sign(b"text\n").to_bytes());
        assert_eq!(other.verify(&key, "text\n").unwrap_err().fault, Fault::Signature);
    }

    #[test]
    fn lines_of_allowed_signers_are_read() {
        let public = SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes();
        let key = VerifierKey::new("me@example.org", SignatureType::Ed25519, &public).unwrap();
        let line = allowed_signer(&key);
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(parse_allowed(&words), Ok(Some(key.clone())));
        assert_eq!(parse_allowed(&[words[0], words[2], words[3], "comment"]), Ok(Some(key)));
        assert_eq!(parse_allowed(&["threshold", "2"]), Ok(None));
        let fault = |words: &[&str]| parse_allowed(words).unwrap_err().fault;
        assert_eq!(fault(&["a", "cert-authority", words[2], words[3]]), Fault::Syntax);
        assert_eq!(fault(&["a", "ssh-rsa", words[3]]), Fault::KeyType);
        assert_eq!(fault(&["a", "ssh-ed25519", "AAAA"]), Fault::KeyType);
    }
}
