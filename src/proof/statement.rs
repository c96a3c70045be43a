//! Signed statements about contents: in-toto Statement v1 in a DSSE envelope, so that tools for those
//! read them. A statement names what it is about by digests; which log that is in does not matter.

use super::error::{Fault, ProofError, Result};
use super::policy::{Policy, Signer};
use super::text::{base64, from_base64};
use super::vkey::VerifierKey;
use crate::hash::Hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An envelope has at most this many bytes.
const ENVELOPE_BYTES_MAX: usize = 16 << 20;
const SIGNATURES_MAX: usize = 256;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The bytes that a signer of an envelope signs: DSSE's pre-authentication encoding.
#[must_use]
pub fn dsse_message(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// A DSSE envelope with an in-toto statement, none of whose signatures is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    /// Key hints and signatures.
    signatures: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct JsonEnvelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<JsonSignature>,
}

#[derive(Serialize, Deserialize)]
struct JsonSignature {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    keyid: String,
    sig: String,
}

fn fault(detail: impl ToString) -> ProofError {
    ProofError::new(Fault::Statement).about(detail.to_string())
}

impl Envelope {
    /// An envelope of a statement, with the signature that `key` made of [`Envelope::message`].
    #[must_use]
    pub fn new(payload: Vec<u8>) -> Self {
        Self { payload, signatures: Vec::new() }
    }

    /// What is signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        dsse_message(PAYLOAD_TYPE, &self.payload)
    }

    /// Adds a signature.
    #[must_use]
    pub fn signed(mut self, key: &VerifierKey, signature: &[u8; 64]) -> Self {
        let id: String = key.id().iter().map(|byte| format!("{byte:02x}")).collect();
        self.signatures.push((format!("{}+{id}", key.name()), signature.to_vec()));
        self
    }

    /// Parses an envelope. Nothing of it is believed yet.
    ///
    /// # Errors
    /// [`Fault::Limit`], [`Fault::Base64`], [`Fault::Statement`] for what is no DSSE envelope of an
    /// in-toto statement.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(Fault::Limit.into());
        }
        let found: JsonEnvelope = serde_json::from_slice(bytes).map_err(fault)?;
        if found.payload_type != PAYLOAD_TYPE {
            return Err(fault(found.payload_type));
        }
        if found.signatures.len() > SIGNATURES_MAX {
            return Err(Fault::Limit.into());
        }
        let signatures = found.signatures.into_iter();
        let signatures = signatures.map(|one| Ok((one.keyid, from_base64(&one.sig)?)));
        Ok(Self {
            payload: from_base64(&found.payload)?,
            signatures: signatures.collect::<Result<_>>()?,
        })
    }

    /// The bytes of the envelope: one line of JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let signatures = self.signatures.iter();
        let json = JsonEnvelope {
            payload: base64(&self.payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: signatures
                .map(|(keyid, sig)| JsonSignature { keyid: keyid.clone(), sig: base64(sig) })
                .collect(),
        };
        // Strings and lists of them: there is nothing that could fail.
        let mut bytes = serde_json::to_vec(&json).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Checks the signatures against `policy`, and reads the statement. Key hints are not used.
    ///
    /// # Errors
    /// [`Fault::Untrusted`], [`Fault::Threshold`], [`Fault::Revoked`], [`Fault::Statement`].
    pub fn verify(&self, policy: &Policy) -> Result<(Vec<Signer>, Statement)> {
        let signatures = self.signatures.iter();
        let signatures = signatures.filter_map(|(_, bytes)| bytes.as_slice().try_into().ok());
        let signatures: Vec<[u8; 64]> = signatures.collect();
        let signers = policy.verify_message(&self.message(), &signatures)?;
        Ok((signers, Statement::parse(&self.payload)?))
    }

    /// The statement, which is not verified: to tell what somebody claims.
    ///
    /// # Errors
    /// [`Fault::Statement`].
    pub fn unverified_statement(&self) -> Result<Statement> {
        Statement::parse(&self.payload)
    }
}

/// An in-toto statement: that a predicate holds of some contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// What kind of predicate it is: a URI.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The predicate.
    #[serde(default)]
    pub predicate: serde_json::Value,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// A name, for people.
    #[serde(default)]
    pub name: String,
    /// Digests by the name of their algorithm, in hexadecimal digits. All must be of the subject.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// A content.
    #[must_use]
    pub fn of(name: &str, content: &[u8]) -> Self {
        let sha256 = crate::tree::sha256(content);
        let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let blake3 = Hash::of(content).to_string();
        let digest = [("sha256".to_owned(), sha256), ("blake3".to_owned(), blake3)];
        Self { name: name.to_owned(), digest: BTreeMap::from(digest) }
    }

    /// Whether it names this content: by a digest that is known here, and by no known one differently.
    #[must_use]
    pub fn is(&self, content: &[u8]) -> bool {
        let own = Self::of("", content).digest;
        let known: Vec<bool> = self
            .digest
            .iter()
            .filter_map(|(name, digest)| own.get(name).map(|own| own == digest))
            .collect();
        !known.is_empty() && known.iter().all(|same| *same)
    }
}

impl Statement {
    /// A statement.
    #[must_use]
    pub fn new(subject: Subject, predicate_type: &str, predicate: serde_json::Value) -> Self {
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![subject],
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// The bytes that an envelope carries.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // The keys of all maps are texts: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn parse(payload: &[u8]) -> Result<Self> {
        let found: Self = serde_json::from_slice(payload).map_err(fault)?;
        let has_digests = found.subject.iter().all(|subject| !subject.digest.is_empty());
        if found.kind != STATEMENT_TYPE || found.subject.is_empty() || !has_digests {
            return Err(fault("not an in-toto Statement v1 about something"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SignatureType;
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    fn secret() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn key() -> VerifierKey {
        let public = secret().verifying_key().to_bytes();
        VerifierKey::new("example.org/me", SignatureType::Ed25519, &public).unwrap()
    }

    fn envelope() -> Envelope {
        let predicate = serde_json::json!({"result": "PASSED"});
        let statement =
            Statement::new(Subject::of("a", b"one"), "https://example.org/t", predicate);
        let envelope = Envelope::new(statement.encode());
        let signature = secret().sign(&envelope.message()).to_bytes();
        envelope.signed(&key(), &signature)
    }

    #[test]
    fn the_encoding_is_that_of_dsse() {
        // The example of its protocol.
        let message = dsse_message("http://example.com/HelloWorld", b"hello world");
        assert_eq!(message, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn no_change_of_a_byte_states_anything_else() {
        let policy = Policy::new(vec![key()], 1).unwrap();
        let bytes = envelope().encode();
        let verify = |bytes: &[u8]| Envelope::parse(bytes)?.verify(&policy);
        let (signers, statement) = verify(&bytes).unwrap();
        assert_eq!((signers.len(), statement.predicate["result"].as_str()), (1, Some("PASSED")));
        for at in 0..bytes.len() {
            for flip in [0x01, 0x20, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                // White space and the hint of a key may be anything.
                if let Ok(other) = verify(&changed) {
                    assert_eq!(other, (signers.clone(), statement.clone()), "byte {at} ^ {flip:x}");
                }
            }
        }
    }

    #[test]
    fn a_subject_is_what_all_its_digests_say() {
        let subject = Subject::of("a", b"one");
        assert!(subject.is(b"one") && !subject.is(b"two"));
        let mut mixed = subject.clone();
        mixed.digest.insert("sha256".into(), Subject::of("", b"two").digest["sha256"].clone());
        assert!(!mixed.is(b"one") && !mixed.is(b"two"));
        let foreign = Subject { digest: [("md5".into(), "00".into())].into(), ..subject };
        assert!(!foreign.is(b"one"));
    }

    #[test]
    fn what_is_no_statement_is_refused() {
        let policy = Policy::new(vec![key()], 1).unwrap();
        let other = VerifierKey::new("b", SignatureType::Cosignature, key().public()).unwrap();
        let cosigner = Policy::new(vec![other], 1).unwrap();
        assert_eq!(envelope().verify(&cosigner).unwrap_err().fault, Fault::Untrusted);
        let unsigned = Envelope::new(envelope().payload);
        assert_eq!(unsigned.verify(&policy).unwrap_err().fault, Fault::Untrusted);
        for payload in ["{}", "[]", r#"{"_type":"x","subject":[],"predicateType":"t"}"#] {
            let envelope = Envelope::new(payload.into());
            let signature = secret().sign(&envelope.message()).to_bytes();
            let error = envelope.signed(&key(), &signature).verify(&policy).unwrap_err();
            assert_eq!(error.fault, Fault::Statement, "{payload}");
        }
        assert_eq!(Envelope::parse(b"{}").unwrap_err().fault, Fault::Statement);
    }
}
