//! Proof files about what is live at a signed seal: that a key or content is there, or that it is
//! not. Each is an ICS-23 proof against the root in the seal, and the log proof of that seal.

use super::error::{Fault, ProofError, Result};
use super::ics23::{AbsenceProof, PresenceProof};
use super::policy::{Policy, TrustedCheckpoint};
use super::text::{FILE_BYTES_MAX, Lines, base64, from_base64, utf8};
use super::tlog::TlogProof;
use crate::format::cbor::Reader;
use crate::format::entry::{Content, Entry, Put, check_key};
use crate::hash::Hash;
use std::fmt;

pub(super) const PRESENT_MAGIC: &str = "pefc-presence/v1";
pub(super) const ABSENT_MAGIC: &str = "pefc-absence/v1";

/// What a leaf of the map is about (`spec/format.md` 6.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapKey {
    /// A content, by its name.
    Content(Hash),
    /// A key in its space.
    Key {
        /// Key space.
        space: u8,
        /// The key.
        key: Vec<u8>,
    },
}

impl MapKey {
    /// The bytes that leaves are sorted by.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Content(name) => [b"h", &name.as_bytes()[..]].concat(),
            Self::Key { space, key } => [&[b'p', *space], key.as_slice()].concat(),
        }
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`Fault::Key`] for bytes that no leaf can have.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [b'h', name @ ..] => {
                let name = name.try_into().map_err(|_| Fault::Key)?;
                Ok(Self::Content(Hash::from_bytes(name)))
            }
            [b'p', space, key @ ..] if check_key(*space, key).is_ok() => {
                Ok(Self::Key { space: *space, key: key.to_vec() })
            }
            _ => Err(Fault::Key.into()),
        }
    }
}

/// What the leaf of a map key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// A key has this entry.
    Put(Box<Put<'static>>),
    /// A live entry names this content.
    Content(Content),
}

/// A statement about the map, and the head that it holds at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenMap<T> {
    /// The signed head, whose last entry is the seal.
    pub checkpoint: TrustedCheckpoint,
    /// The statement.
    pub what: T,
}

/// That a key or content is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    leaf: PresenceProof,
    seal: TlogProof,
}

/// That a key or content is not live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    key: MapKey,
    /// None for an empty map.
    gap: Option<AbsenceProof>,
    seal: TlogProof,
}

/// Reads the value of a leaf, which must be about the leaf's own key.
pub(super) fn live(key: &[u8], value: &[u8]) -> Result<Live> {
    let entry_fault = || ProofError::new(Fault::Entry);
    let (found, live) = if key.first() == Some(&b'h') {
        let content = decode_content(value).ok_or_else(entry_fault)?;
        (MapKey::Content(content.name), Live::Content(content))
    } else {
        match Entry::decode(value) {
            Ok((Entry::Put(put), len)) if len == value.len() => {
                let put = put.into_owned();
                (MapKey::Key { space: put.space, key: put.key.to_vec() }, Live::Put(Box::new(put)))
            }
            _ => return Err(entry_fault()),
        }
    };
    if found.encode() == key { Ok(live) } else { Err(Fault::Key.into()) }
}

fn decode_content(value: &[u8]) -> Option<Content> {
    let mut reader = Reader::new(value);
    let is_pair = reader.array().ok()? == 2;
    let name = Hash::from_bytes(reader.byte_array().ok()?);
    let len = reader.uint().ok()?;
    (is_pair && reader.end().is_ok()).then_some(Content { name, len })
}

impl Present {
    /// A proof from its parts.
    #[must_use]
    pub fn new(leaf: PresenceProof, seal: TlogProof) -> Self {
        Self { leaf, seal }
    }

    /// Parses a proof. Nothing of it is believed yet.
    ///
    /// # Errors
    /// [`Fault::Encoding`], [`Fault::Syntax`], [`Fault::Base64`], [`Fault::Limit`], [`Fault::Ics23`],
    /// and what [`TlogProof::parse`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut lines = begin(bytes, PRESENT_MAGIC)?;
        let leaf = lines.field("proof")?;
        let leaf = lines.read(from_base64(leaf).and_then(|bytes| PresenceProof::decode(&bytes)))?;
        Ok(Self { leaf, seal: seal_below(&mut lines)? })
    }

    /// Checks, in this order: the seal's log proof against `policy`; that it is the last entry of
    /// the signed log; the path of the leaf; that its value is about its key.
    ///
    /// # Errors
    /// What [`TlogProof::verify`] gives, [`Fault::Index`] for a seal that is not the last entry,
    /// [`Fault::PathLength`], [`Fault::Root`], [`Fault::Entry`], [`Fault::Key`].
    pub fn verify(&self, policy: &Policy) -> Result<ProvenMap<Live>> {
        let (checkpoint, seal) = self.seal.seal(policy)?;
        self.leaf.verify(seal.map_size, &seal.map_root)?;
        Ok(ProvenMap { checkpoint, what: live(&self.leaf.key, &self.leaf.value)? })
    }
}

impl fmt::Display for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PRESENT_MAGIC}\nproof {}\n\n{}", base64(&self.leaf.encode()), self.seal)
    }
}

impl Absent {
    /// A proof from its parts; no gap for an empty map.
    #[must_use]
    pub fn new(key: MapKey, gap: Option<AbsenceProof>, seal: TlogProof) -> Self {
        Self { key, gap, seal }
    }

    /// Parses a proof. Nothing of it is believed yet.
    ///
    /// # Errors
    /// As [`Present::parse`], and [`Fault::Key`] for a key that no leaf can have or that the ICS-23
    /// proof is not about.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut lines = begin(bytes, ABSENT_MAGIC)?;
        let key = lines.field("key")?;
        let key = lines.read(from_base64(key).and_then(|bytes| MapKey::decode(&bytes)))?;
        let gap = lines.optional_field("proof")?.map(from_base64);
        let gap = gap.map(|bytes| AbsenceProof::decode(&bytes?)).transpose();
        let gap = lines.read(gap)?;
        if gap.as_ref().is_some_and(|gap| gap.key != key.encode()) {
            return Err(lines.fault(Fault::Key));
        }
        Ok(Self { key, gap, seal: seal_below(&mut lines)? })
    }

    /// Checks as [`Present::verify`] does, and that the neighbours leave no room between them.
    ///
    /// # Errors
    /// As [`Present::verify`], [`Fault::Order`], [`Fault::Neighbours`].
    pub fn verify(&self, policy: &Policy) -> Result<ProvenMap<MapKey>> {
        let (checkpoint, seal) = self.seal.seal(policy)?;
        match &self.gap {
            Some(gap) => gap.verify(seal.map_size, &seal.map_root)?,
            None if seal.map_size == 0 => {}
            None => return Err(Fault::Neighbours.into()),
        }
        Ok(ProvenMap { checkpoint, what: self.key.clone() })
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{ABSENT_MAGIC}\nkey {}", base64(&self.key.encode()))?;
        if let Some(gap) = &self.gap {
            writeln!(f, "proof {}", base64(&gap.encode()))?;
        }
        write!(f, "\n{}", self.seal)
    }
}

/// The lines of a proof file after its first one.
pub(super) fn begin<'a>(bytes: &'a [u8], magic: &str) -> Result<Lines<'a>> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Fault::Limit.into());
    }
    let mut lines = Lines::new(utf8(bytes)?);
    lines.exactly(magic)?;
    Ok(lines)
}

/// The log proof of a seal that ends a file, after an empty line.
pub(super) fn seal_below(lines: &mut Lines<'_>) -> Result<TlogProof> {
    lines.exactly("")?;
    TlogProof::parse(lines.rest().as_bytes()).map_err(|error| error.below(lines.count()))
}
