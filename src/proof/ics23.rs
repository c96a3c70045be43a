//! Proofs of leaves of the map, and of gaps between them, in the encoding of ICS-23
//! (`tendermint_spec`), which libraries for several languages verify.
//!
//! ICS-23 leaves the size of the tree open. A pack states it in the seal, so the verification here
//! also knows the index of a leaf, and two leaves are neighbours if their indexes are.

use super::error::{Fault, Result};
use super::merkle::PATH_LEN_MAX;
use crate::tree::{Node, node_hash, sha256};

/// Where a proven leaf's sibling is, at each level from the leaf up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sibling {
    /// Left of the path.
    Left(Node),
    /// Right of the path.
    Right(Node),
}

/// That a leaf is in a tree: key, value, and the path to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceProof {
    /// The map key (`spec/format.md` 6.5).
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The siblings from the leaf up.
    pub path: Vec<Sibling>,
}

/// That no leaf has a key: its neighbours, one of which is missing at an end of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsenceProof {
    /// The map key that is absent.
    pub key: Vec<u8>,
    /// The last leaf before it.
    pub left: Option<PresenceProof>,
    /// The first leaf behind it.
    pub right: Option<PresenceProof>,
}

/// The bytes that are hashed for a leaf of the map, from its key and the SHA-256 of its value.
pub(crate) fn leaf_hash(key: &[u8], value_hash: &Node) -> Node {
    let mut data = Vec::with_capacity(key.len() + 36);
    put_uvarint(&mut data, key.len() as u64);
    data.extend_from_slice(key);
    data.push(0x20);
    data.extend_from_slice(value_hash);
    crate::tree::leaf_hash(&data)
}

impl PresenceProof {
    /// The proof of the leaf at `index` of a tree of `size` leaves from its RFC 6962 path.
    ///
    /// # Errors
    /// [`Fault::Index`], [`Fault::PathLength`].
    pub fn new(key: Vec<u8>, value: Vec<u8>, index: u64, size: u64, path: &[Node]) -> Result<Self> {
        if index >= size {
            return Err(Fault::Index.into());
        }
        // From the root down: which way the leaf is. The path has the siblings the other way round.
        let (mut at, mut part, mut sides) = (index, size, Vec::new());
        let mut siblings = path.iter().rev();
        while part > 1 {
            let left = 1 << (part - 1).ilog2();
            let sibling = *siblings.next().ok_or(Fault::PathLength)?;
            if at < left {
                sides.push(Sibling::Right(sibling));
                part = left;
            } else {
                sides.push(Sibling::Left(sibling));
                (at, part) = (at - left, part - left);
            }
        }
        sides.reverse();
        match siblings.next() {
            None => Ok(Self { key, value, path: sides }),
            Some(_) => Err(Fault::PathLength.into()),
        }
    }

    /// Checks the proof against the map with this size and root, and gives the index of the leaf.
    ///
    /// # Errors
    /// [`Fault::PathLength`], [`Fault::Root`].
    pub fn verify(&self, map_size: u64, map_root: &Node) -> Result<u64> {
        let (mut at, mut part) = (0, map_size);
        for side in self.path.iter().rev() {
            if part < 2 {
                return Err(Fault::PathLength.into());
            }
            let left: u64 = 1 << (part - 1).ilog2();
            match side {
                Sibling::Right(_) => part = left,
                Sibling::Left(_) => (at, part) = (at + left, part - left),
            }
        }
        if part != 1 {
            return Err(Fault::PathLength.into());
        }
        let leaf = leaf_hash(&self.key, &sha256(&self.value));
        let root = self.path.iter().fold(leaf, |node, side| match side {
            Sibling::Left(sibling) => node_hash(sibling, &node),
            Sibling::Right(sibling) => node_hash(&node, sibling),
        });
        if root == *map_root { Ok(at) } else { Err(Fault::Root.into()) }
    }

    /// The bytes of a `CommitmentProof` that holds this existence proof.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &self.existence());
        out
    }

    /// Reads what [`Self::encode`] writes.
    ///
    /// # Errors
    /// [`Fault::Ics23`] for everything else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields(bytes);
        let proof = Self::read(fields.required(1)?)?;
        if fields.0.is_empty() && proof.encode() == bytes {
            Ok(proof)
        } else {
            Err(Fault::Ics23.into())
        }
    }

    fn existence(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &self.key);
        put_bytes(&mut out, 2, &self.value);
        put_bytes(&mut out, 3, &LEAF);
        for side in &self.path {
            let mut step = vec![0x08, 1]; // SHA-256
            match side {
                Sibling::Left(sibling) => put_bytes(&mut step, 2, &[&[1], &sibling[..]].concat()),
                Sibling::Right(sibling) => {
                    put_bytes(&mut step, 2, &[1]);
                    put_bytes(&mut step, 3, sibling);
                }
            }
            put_bytes(&mut out, 4, &step);
        }
        out
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields(bytes);
        let key = fields.required(1)?.to_vec();
        let value = fields.required(2)?.to_vec();
        if fields.required(3)? != LEAF {
            return Err(Fault::Ics23.into());
        }
        let mut path = Vec::new();
        while let Some(step) = fields.optional(4)? {
            let mut step = Fields(step.strip_prefix(&[0x08, 1]).ok_or(Fault::Ics23)?);
            let (prefix, suffix) = (step.required(2)?, step.optional(3)?);
            let side = match (prefix, suffix) {
                ([1], Some(sibling)) => sibling.try_into().map(Sibling::Right),
                ([1, sibling @ ..], None) => sibling.try_into().map(Sibling::Left),
                _ => return Err(Fault::Ics23.into()),
            };
            path.push(side.map_err(|_| Fault::Ics23)?);
            if !step.0.is_empty() || path.len() > PATH_LEN_MAX {
                return Err(Fault::Ics23.into());
            }
        }
        if fields.0.is_empty() { Ok(Self { key, value, path }) } else { Err(Fault::Ics23.into()) }
    }
}

impl AbsenceProof {
    /// Checks that the map with this size and root, whose keys rise, has no leaf with the key.
    ///
    /// # Errors
    /// [`Fault::Root`], [`Fault::PathLength`], [`Fault::Order`] if a neighbour is on the wrong side
    /// of the key, [`Fault::Neighbours`] if there may be a leaf between them.
    pub fn verify(&self, map_size: u64, map_root: &Node) -> Result<()> {
        let (left, right) = (self.left.as_ref(), self.right.as_ref());
        let index = |proof: Option<&PresenceProof>| {
            proof.map(|proof| proof.verify(map_size, map_root)).transpose()
        };
        let (left_index, right_index) = (index(left)?, index(right)?);
        let in_order = left.is_none_or(|left| left.key < self.key)
            && right.is_none_or(|right| self.key < right.key);
        if !in_order {
            return Err(Fault::Order.into());
        }
        let adjacent = match (left_index, right_index) {
            (Some(left), Some(right)) => left.checked_add(1) == Some(right),
            (Some(left), None) => left.checked_add(1) == Some(map_size),
            (None, Some(right)) => right == 0,
            (None, None) => false, // an empty map needs no proof
        };
        if adjacent { Ok(()) } else { Err(Fault::Neighbours.into()) }
    }

    /// The bytes of a `CommitmentProof` that holds this non-existence proof.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut inner = Vec::new();
        put_bytes(&mut inner, 1, &self.key);
        for (field, side) in [(2, &self.left), (3, &self.right)] {
            if let Some(proof) = side {
                put_bytes(&mut inner, field, &proof.existence());
            }
        }
        let mut out = Vec::new();
        put_bytes(&mut out, 2, &inner);
        out
    }

    /// Reads what [`Self::encode`] writes.
    ///
    /// # Errors
    /// [`Fault::Ics23`] for everything else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields(bytes);
        let mut inner = Fields(fields.required(2)?);
        let proof = Self {
            key: inner.required(1)?.to_vec(),
            left: inner.optional(2)?.map(PresenceProof::read).transpose()?,
            right: inner.optional(3)?.map(PresenceProof::read).transpose()?,
        };
        if fields.0.is_empty() && inner.0.is_empty() && proof.encode() == bytes {
            Ok(proof)
        } else {
            Err(Fault::Ics23.into())
        }
    }
}

/// The leaf operation of `tendermint_spec`: SHA-256, the key as it is, SHA-256 of the value, lengths
/// as varints, prefix 00.
const LEAF: [u8; 9] = [0x08, 1, 0x18, 1, 0x20, 1, 0x2a, 1, 0];

fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A field of protobuf's wire type 2. Fields that are empty are left out, as protobuf does.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        put_uvarint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// Fields of wire type 2, in the order of their numbers, which are below 16.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn optional(&mut self, field: u8) -> Result<Option<&'a [u8]>> {
        let Some(rest) = self.0.strip_prefix(&[field << 3 | 2]) else {
            return Ok(None);
        };
        // No length here needs more than four bytes; a longer encoding is not the shortest.
        let (mut len, mut at) = (0_usize, 0);
        loop {
            let byte = *rest.get(at).filter(|_| at < 4).ok_or(Fault::Ics23)?;
            len |= usize::from(byte & 0x7f) << (7 * at);
            at += 1;
            if byte < 0x80 {
                break;
            }
        }
        let body = rest.get(at..at + len).ok_or(Fault::Ics23)?;
        self.0 = &rest[at + len..];
        Ok(Some(body))
    }

    fn required(&mut self, field: u8) -> Result<&'a [u8]> {
        Ok(self.optional(field)?.ok_or(Fault::Ics23)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{inclusion_path, root};
    use super::*;
    use ics23::{HostFunctionsManager, calculate_existence_root, tendermint_spec};

    type Leaf = (Vec<u8>, Vec<u8>);

    fn map(count: usize) -> (Vec<Leaf>, Vec<Node>) {
        let leaf = |i: usize| (format!("p\0key/{i:04}").into_bytes(), vec![7; i % 5 + 1]);
        let leaves: Vec<Leaf> = (0..count).map(|i| leaf(2 * i + 1)).collect();
        let hashes = leaves.iter().map(|(key, value)| leaf_hash(key, &sha256(value))).collect();
        (leaves, hashes)
    }

    fn presence(leaves: &[Leaf], hashes: &[Node], index: usize) -> PresenceProof {
        let path = inclusion_path(hashes, index).unwrap();
        let (key, value) = leaves[index].clone();
        PresenceProof::new(key, value, index as u64, hashes.len() as u64, &path).unwrap()
    }

    fn theirs(bytes: &[u8]) -> ics23::CommitmentProof {
        prost::Message::decode(bytes).unwrap()
    }

    #[test]
    fn presence_is_what_another_library_verifies() {
        for size in [1, 2, 3, 5, 6, 7, 8, 13] {
            let (leaves, hashes) = map(size);
            let root = root(&hashes);
            for (index, (key, value)) in leaves.iter().enumerate() {
                let proof = presence(&leaves, &hashes, index);
                assert_eq!(proof.verify(size as u64, &root), Ok(index as u64));
                let bytes = proof.encode();
                assert_eq!(PresenceProof::decode(&bytes).as_ref(), Ok(&proof));
                let their = theirs(&bytes);
                assert!(ics23::verify_membership::<HostFunctionsManager>(
                    &their,
                    &tendermint_spec(),
                    &root.to_vec(),
                    key,
                    value
                ));
                let Some(ics23::commitment_proof::Proof::Exist(exist)) = &their.proof else {
                    panic!("an existence proof")
                };
                let found = calculate_existence_root::<HostFunctionsManager>(exist).unwrap();
                assert_eq!(found, root);
            }
        }
    }

    #[test]
    fn absence_is_what_another_library_verifies() {
        for size in [1, 2, 3, 5, 8, 13] {
            let (leaves, hashes) = map(size);
            let root = root(&hashes);
            for gap in 0..=size {
                let key = format!("p\0key/{:04}", 2 * gap).into_bytes();
                let side = |index: usize| presence(&leaves, &hashes, index);
                let proof = AbsenceProof {
                    key: key.clone(),
                    left: (gap > 0).then(|| side(gap - 1)),
                    right: (gap < size).then(|| side(gap)),
                };
                assert_eq!(proof.verify(size as u64, &root), Ok(()));
                let bytes = proof.encode();
                assert_eq!(AbsenceProof::decode(&bytes).as_ref(), Ok(&proof));
                let their = theirs(&bytes);
                let spec = tendermint_spec();
                let verify = |proof: &ics23::CommitmentProof| {
                    let root = root.to_vec();
                    ics23::verify_non_membership::<HostFunctionsManager>(proof, &spec, &root, &key)
                };
                assert!(verify(&their));
                // Neighbours that are none: one leaf, or an end, is passed over.
                for wide in [
                    AbsenceProof { left: None, ..proof.clone() },
                    AbsenceProof { right: None, ..proof.clone() },
                    AbsenceProof { left: (gap > 1).then(|| side(gap - 2)), ..proof.clone() },
                ] {
                    if wide != proof {
                        let error = wide.verify(size as u64, &root).unwrap_err();
                        assert_eq!(error.fault, Fault::Neighbours);
                        let empty = wide.left.is_none() && wide.right.is_none();
                        assert!(empty || !verify(&theirs(&wide.encode())));
                    }
                }
                let there = AbsenceProof { key: leaves[gap.min(size - 1)].0.clone(), ..proof };
                let error = there.verify(size as u64, &root).unwrap_err();
                assert_eq!(error.fault, Fault::Order);
            }
        }
    }

    #[test]
    fn no_change_of_a_byte_proves_the_same_leaf() {
        let (leaves, hashes) = map(6);
        let root = root(&hashes);
        let bytes = presence(&leaves, &hashes, 4).encode();
        for at in 0..bytes.len() {
            for value in (0..=255).filter(|value| *value != bytes[at]) {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(proof) = PresenceProof::decode(&changed) {
                    assert_eq!(proof.encode(), changed);
                    assert!(proof.verify(6, &root).is_err(), "byte {at} as {value}");
                }
            }
            assert!(PresenceProof::decode(&bytes[..at]).is_err());
        }
        assert!(presence(&leaves, &hashes, 4).verify(7, &root).is_err());
        assert!(presence(&leaves, &hashes, 4).verify(5, &root).is_err());
    }
}
