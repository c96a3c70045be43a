//! That a list of live keys is complete: all that begin with a prefix, and no other. The proof is the
//! run of leaves from the neighbour before to the neighbour behind.

use super::error::{Fault, ProofError, Result};
use super::ics23::leaf_hash;
use super::map::{Live, MapKey, ProvenMap, live};
use super::merkle::{PATH_LEN_MAX, root_of_run};
use super::policy::Policy;
use super::text::{Lines, base64, from_base64, hash, number, utf8};
use super::tlog::TlogProof;
use crate::format::KEY_BYTES_MAX;
use crate::format::entry::Put;
use crate::tree::{Node, sha256};
use std::fmt;

pub(super) const MAGIC: &str = "pefc-complete/v1";

/// A list has at most this many bytes: a million entries and more.
const BYTES_MAX: usize = 1 << 30;

/// A leaf beside the run: its map key and the hash of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeLeaf {
    /// The map key.
    pub key: Vec<u8>,
    /// SHA-256 of the value.
    pub value_hash: Node,
}

/// That these are all live keys of a space that begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteProof {
    /// Key space.
    pub space: u8,
    /// The prefix.
    pub prefix: Vec<u8>,
    /// Index in the map of the first leaf of the run, neighbour included.
    pub first: u64,
    /// The leaf before the run, unless it begins with the map.
    pub before: Option<RangeLeaf>,
    /// The put entries of the run.
    pub entries: Vec<Vec<u8>>,
    /// The leaf behind the run, unless it ends with the map.
    pub after: Option<RangeLeaf>,
    /// The path of the run ([`super::merkle::run_path`]).
    pub path: Vec<Node>,
    /// The log proof of the seal.
    pub seal: TlogProof,
}

impl CompleteProof {
    /// Parses a proof. Nothing of it is believed yet.
    ///
    /// # Errors
    /// [`Fault::Encoding`], [`Fault::Syntax`], [`Fault::Base64`], [`Fault::Limit`], [`Fault::Key`] for
    /// a prefix that no key can have, and what [`TlogProof::parse`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > BYTES_MAX {
            return Err(Fault::Limit.into());
        }
        let mut lines = Lines::new(utf8(bytes)?);
        lines.exactly(MAGIC)?;
        let prefix = lines.field("prefix")?;
        let prefix = lines.read(from_base64(prefix))?;
        let (space, prefix) = match prefix.as_slice() {
            [b'p', space @ 0..=2, prefix @ ..] if prefix.len() <= KEY_BYTES_MAX => (*space, prefix),
            _ => return Err(lines.fault(Fault::Key)),
        };
        let first = lines.field("first")?;
        let first = lines.read(number(first))?;
        let before = neighbour(&mut lines, "before")?;
        let mut entries = Vec::new();
        while let Some(entry) = lines.optional_field("entry")? {
            entries.push(lines.read(from_base64(entry))?);
        }
        let after = neighbour(&mut lines, "after")?;
        // A run has a path on each side.
        let path = lines.hashes(2 * PATH_LEN_MAX)?;
        let seal = TlogProof::parse(lines.rest().as_bytes());
        let seal = seal.map_err(|error| error.below(lines.count()))?;
        Ok(Self { space, prefix: prefix.to_vec(), first, before, entries, after, path, seal })
    }

    /// Checks, in this order: the seal as [`super::Present::verify`] does; that every entry is under
    /// the prefix, the neighbours are not, and all keys rise; that a side without neighbour is an end
    /// of the map; the root. Gives the live entries, in order.
    ///
    /// # Errors
    /// As [`super::Present::verify`], [`Fault::Order`], [`Fault::Neighbours`].
    pub fn verify(&self, policy: &Policy) -> Result<ProvenMap<Vec<Put<'static>>>> {
        let (checkpoint, seal) = self.seal.seal(policy)?;
        let prefix = [&[b'p', self.space], self.prefix.as_slice()].concat();
        let mut leaves = Vec::with_capacity(self.entries.len() + 2);
        let mut puts = Vec::with_capacity(self.entries.len());
        let mut last: Option<Vec<u8>> = None;
        if let Some(before) = &self.before {
            if before.key >= prefix {
                return Err(ProofError::new(Fault::Order).about("the neighbour before"));
            }
            leaves.push(leaf_hash(&before.key, &before.value_hash));
        }
        for bytes in &self.entries {
            let (key, put) = put_of(bytes)?;
            if !key.starts_with(&prefix) {
                return Err(Fault::Key.into());
            }
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(Fault::Order.into());
            }
            leaves.push(leaf_hash(&key, &sha256(bytes)));
            last = Some(key);
            puts.push(put);
        }
        if let Some(after) = &self.after {
            if after.key <= prefix || after.key.starts_with(&prefix) {
                return Err(ProofError::new(Fault::Order).about("the neighbour behind"));
            }
            leaves.push(leaf_hash(&after.key, &after.value_hash));
        }
        let end = self.first.checked_add(leaves.len() as u64).ok_or(Fault::Index)?;
        let begins = self.before.is_some() || self.first == 0;
        let ends = self.after.is_some() || end == seal.map_size;
        if !begins || !ends {
            return Err(Fault::Neighbours.into());
        }
        let root = match (seal.map_size, self.path.as_slice()) {
            (0, []) => sha256(b""),
            (size, path) => root_of_run(&leaves, self.first, size, path)?,
        };
        if root != seal.map_root {
            return Err(Fault::Root.into());
        }
        Ok(ProvenMap { checkpoint, what: puts })
    }
}

fn put_of(bytes: &[u8]) -> Result<(Vec<u8>, Put<'static>)> {
    use crate::format::entry::Entry;
    let key = match Entry::decode(bytes) {
        Ok((Entry::Put(put), _)) => MapKey::Key { space: put.space, key: put.key.to_vec() },
        _ => return Err(Fault::Entry.into()),
    };
    let key = key.encode();
    match live(&key, bytes)? {
        Live::Put(put) => Ok((key, *put)),
        Live::Content(_) => Err(Fault::Entry.into()),
    }
}

fn neighbour(lines: &mut Lines<'_>, name: &str) -> Result<Option<RangeLeaf>> {
    let Some(line) = lines.optional_field(name)? else {
        return Ok(None);
    };
    let (key, value_hash) = line.split_once(' ').ok_or(lines.fault(Fault::Syntax))?;
    let key = lines.read(from_base64(key))?;
    lines.read(MapKey::decode(&key))?;
    Ok(Some(RangeLeaf { key, value_hash: lines.read(hash(value_hash))? }))
}

impl fmt::Display for CompleteProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = [&[b'p', self.space], self.prefix.as_slice()].concat();
        let neighbour =
            |leaf: &RangeLeaf| format!("{} {}", base64(&leaf.key), base64(&leaf.value_hash));
        writeln!(f, "{MAGIC}\nprefix {}\nfirst {}", base64(&prefix), self.first)?;
        if let Some(before) = &self.before {
            writeln!(f, "before {}", neighbour(before))?;
        }
        self.entries.iter().try_for_each(|entry| writeln!(f, "entry {}", base64(entry)))?;
        if let Some(after) = &self.after {
            writeln!(f, "after {}", neighbour(after))?;
        }
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash)))?;
        write!(f, "\n{}", self.seal)
    }
}
