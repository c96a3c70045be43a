//! COSE receipts (RFC 9942, data structure 1: RFC 9162 with SHA-256): the inclusion of an entry in
//! CBOR, under a signature that covers the root alone. So one signature serves every receipt, but
//! it names neither the log nor its size: a policy that is pinned to an origin accepts none.

use super::checkpoint::Head;
use super::error::{Fault, ProofError, Result};
use super::merkle::{PATH_LEN_MAX, root_of_path};
use super::policy::{Policy, Signer};
use super::tlog::entry_at;
use crate::format::cbor::{Reader, Writer};
use crate::format::entry::Entry;
use crate::tree::{Node, leaf_hash};

/// Protected headers `{1: -8, 395: 1}`: EdDSA, and the data structure.
const PROTECTED: [u8; 7] = [0xa2, 0x01, 0x27, 0x19, 0x01, 0x8b, 0x01];
/// Tag 18, COSE_Sign1.
pub(super) const TAG: u8 = 0xd2;
/// Unprotected header with the proofs, and the key of inclusion proofs in it.
const VDP: u64 = 396;
const INCLUSION: i64 = -1;
/// Unprotected header with the entry, which RFC 9942 leaves to the application.
const ENTRY: &str = "pefc-entry";

/// The bytes that a signer of receipts signs for a root (`Sig_structure` of RFC 9052, 4.4).
#[must_use]
pub fn cose_message(root: &Node) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.array(4).text("Signature1").bytes(&PROTECTED).bytes(b"").bytes(root);
    writer.finish()
}

/// That an entry is in a log, as a COSE receipt that carries the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoseReceipt {
    /// The entry.
    pub entry: Vec<u8>,
    /// Entries in the log.
    pub size: u64,
    /// Index of the entry.
    pub index: u64,
    /// The inclusion path.
    pub path: Vec<Node>,
    /// Ed25519 over [`cose_message`] of the root.
    pub signature: [u8; 64],
}

/// What a [`CoseReceipt`] proves. Size and index are not part of it: the signature covers the root,
/// and some trees have the same path for another size or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenReceipt {
    /// The root that the receipt leads to.
    pub root: Node,
    /// The trusted key whose signature it is.
    pub signer: Signer,
    /// The entry.
    pub entry: Entry<'static>,
}

impl CoseReceipt {
    /// The bytes of the receipt.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut proof = Writer::default();
        proof.array(3).uint(self.size).uint(self.index).array(self.path.len());
        for hash in &self.path {
            proof.bytes(hash);
        }
        let mut writer = Writer::default();
        writer.raw(&[TAG]).array(4).bytes(&PROTECTED).map(2);
        writer.uint(VDP).map(1).int(INCLUSION).array(1).bytes(&proof.finish());
        writer.text(ENTRY).bytes(&self.entry);
        writer.null().bytes(&self.signature);
        writer.finish()
    }

    /// Reads what [`Self::encode`] writes.
    ///
    /// # Errors
    /// [`Fault::Cose`] for everything else.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let found = Self::read(bytes).map_err(|_| ProofError::new(Fault::Cose))?;
        match found {
            Some(receipt) if receipt.encode() == bytes => Ok(receipt),
            _ => Err(Fault::Cose.into()),
        }
    }

    fn read(bytes: &[u8]) -> crate::format::Result<Option<Self>> {
        let Some(bytes) = bytes.strip_prefix(&[TAG]) else {
            return Ok(None);
        };
        let mut reader = Reader::new(bytes);
        // What is not asked for here shows when it is encoded again.
        reader.array()?;
        reader.bytes()?;
        reader.map()?;
        reader.uint()?;
        reader.map()?;
        reader.int()?;
        reader.array()?;
        let mut proof = Reader::new(reader.bytes()?);
        proof.array()?;
        let (size, index, count) = (proof.uint()?, proof.uint()?, proof.array()?);
        if count > PATH_LEN_MAX {
            return Ok(None);
        }
        let path = (0..count).map(|_| proof.byte_array()).collect::<crate::format::Result<_>>()?;
        reader.text()?;
        let entry = reader.bytes()?.to_vec();
        if !reader.null() {
            return Ok(None);
        }
        let signature = reader.byte_array()?;
        Ok(Some(Self { entry, size, index, path, signature }))
    }

    /// Checks, in this order: index and path; the signature over the root, against every key of
    /// `policy`; the entry.
    ///
    /// # Errors
    /// [`Fault::Origin`] if the policy is for one log only, [`Fault::Threshold`] if it wants more than
    /// one signature, [`Fault::Index`], [`Fault::PathLength`], [`Fault::Untrusted`] if no key of the
    /// policy made the signature over this root, [`Fault::Revoked`] for a key that
    /// was ever revoked, [`Fault::Entry`].
    pub fn verify(&self, policy: &Policy) -> Result<ProvenReceipt> {
        let root = root_of_path(&leaf_hash(&self.entry), self.index, self.size, &self.path)?;
        let signer = policy.verify_root(&cose_message(&root), &self.signature)?;
        let head = Head { size: self.size, root };
        let entry = entry_at(&self.entry, self.index, &self.path, &head)?;
        Ok(ProvenReceipt { root, signer, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ciborium::Value;

    #[test]
    fn a_second_reader_of_cbor_finds_what_rfc_9942_says() {
        let receipt = CoseReceipt {
            entry: vec![1, 2, 3],
            size: 5,
            index: 4,
            path: vec![[7; 32]],
            signature: [9; 64],
        };
        let found: Value = ciborium::from_reader(receipt.encode().as_slice()).unwrap();
        let proof =
            Value::Array(vec![5.into(), 4.into(), Value::Array(vec![Value::Bytes(vec![7; 32])])]);
        let mut proof_bytes = Vec::new();
        ciborium::into_writer(&proof, &mut proof_bytes).unwrap();
        let mut protected = Vec::new();
        let headers = Value::Map(vec![(1.into(), (-8).into()), (395.into(), 1.into())]);
        ciborium::into_writer(&headers, &mut protected).unwrap();
        let proofs = Value::Map(vec![((-1).into(), Value::Array(vec![Value::Bytes(proof_bytes)]))]);
        let unprotected = Value::Map(vec![
            (396.into(), proofs),
            (Value::Text("pefc-entry".into()), Value::Bytes(vec![1, 2, 3])),
        ]);
        let items = vec![
            Value::Bytes(protected.clone()),
            unprotected,
            Value::Null,
            Value::Bytes(vec![9; 64]),
        ];
        assert_eq!(found, Value::Tag(18, Box::new(Value::Array(items))));

        // What is signed (RFC 9052, 4.4), with the root as payload.
        let signed = Value::Array(vec![
            Value::Text("Signature1".into()),
            Value::Bytes(protected),
            Value::Bytes(Vec::new()),
            Value::Bytes(vec![3; 32]),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&signed, &mut bytes).unwrap();
        assert_eq!(cose_message(&[3; 32]), bytes);
    }
}
