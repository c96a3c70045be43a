//! What is live: committed entries with the changes of a writer over them, and the map of a seal.

use super::Staged;
use crate::format::EntryPlace;
use crate::format::entry::{Content, Entry};
use crate::hash::Hash;
use crate::segment::Result;
use crate::tree::{MapTree, Node, sha256};
use std::collections::btree_map::Iter;
use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;

/// Entries that were committed since the base was opened: their places, and their bytes (none for
/// deletes).
pub(super) type Overlay = HashMap<Vec<u8>, Overlaid>;

type Overlaid = (EntryPlace, Option<Vec<u8>>);

/// Changed keys in order: staged ones over overlaid ones.
pub(super) struct Changes<'w> {
    overlay: Peekable<std::vec::IntoIter<(&'w Vec<u8>, &'w Overlaid)>>,
    staged: Peekable<Iter<'w, Vec<u8>, Staged>>,
    last: Option<&'w [u8]>,
}

type Change<'w> = (&'w [u8], Option<&'w [u8]>);

impl<'w> Changes<'w> {
    pub(super) fn new(overlay: &'w Overlay, staged: &'w BTreeMap<Vec<u8>, Staged>) -> Self {
        let mut overlay: Vec<_> = overlay.iter().collect();
        overlay.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let (overlay, staged) = (overlay.into_iter().peekable(), staged.iter().peekable());
        Self { overlay, staged, last: None }
    }

    fn next_if(&mut self, upto: Option<&[u8]>) -> Option<Change<'w>> {
        let overlaid = self.overlay.peek().map(|(key, _)| key.as_slice());
        let staged = self.staged.peek().map(|(key, _)| key.as_slice());
        let key = match (overlaid, staged) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        if upto.is_some_and(|upto| key > upto) {
            return None;
        }
        let overlaid = self.overlay.next_if(|(other, _)| other.as_slice() == key);
        let staged = self.staged.next_if(|(other, _)| other.as_slice() == key);
        self.last = Some(key);
        let bytes = match (staged, overlaid) {
            (Some((_, Staged::Put(bytes))), _) => Some(bytes.as_slice()),
            (Some((_, Staged::Delete(_))), _) | (None, None) => None,
            (None, Some((_, (_, bytes)))) => bytes.as_deref(),
        };
        Some((key, bytes))
    }

    /// Gives the puts up to and including `upto` to `each`.
    pub(super) fn upto(
        &mut self,
        upto: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        while let Some((key, bytes)) = self.next_if(Some(upto)) {
            if let Some(bytes) = bytes {
                each(key, bytes)?;
            }
        }
        Ok(())
    }

    /// Whether `key` was the last change.
    pub(super) fn replaces(&self, key: &[u8]) -> bool {
        self.last == Some(key)
    }

    pub(super) fn rest(mut self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        while let Some((key, bytes)) = self.next_if(None) {
            if let Some(bytes) = bytes {
                each(key, bytes)?;
            }
        }
        Ok(())
    }
}

/// Collects live entries in key order for a seal.
#[derive(Debug, Default)]
pub(crate) struct LiveMap {
    keys: Vec<(Vec<u8>, Node)>,
    contents: Vec<(Hash, u64)>,
}

/// What a seal says of the live entries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SealedMap {
    pub(crate) size: u64,
    pub(crate) root: Node,
    pub(crate) object_count: u64,
    pub(crate) object_bytes: u64,
}

impl LiveMap {
    /// Adds the put `bytes` of a key (space byte first). Keys must rise.
    pub(crate) fn add(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let content = match Entry::decode(bytes)?.0 {
            Entry::Put(put) => put.content,
            _ => None,
        };
        self.add_hashed(key, sha256(bytes), content);
        Ok(())
    }

    /// The same for a put whose bytes have this SHA-256 and name this content.
    pub(crate) fn add_hashed(&mut self, key: &[u8], hash: Node, content: Option<Content>) {
        self.contents.extend(content.map(|content| (content.name, content.len)));
        self.keys.push((key.to_vec(), hash));
    }

    /// Builds the tree: contents first, since "h" sorts before "p".
    pub(crate) fn finish(mut self) -> SealedMap {
        self.contents.sort_unstable();
        self.contents.dedup();
        let mut tree = MapTree::default();
        for (name, len) in &self.contents {
            let mut value = crate::format::cbor::Writer::default();
            value.array(2).bytes(name.as_bytes()).uint(*len);
            tree.push(&[b"h", name.as_bytes()], &sha256(&value.finish()));
        }
        for (key, hash) in &self.keys {
            tree.push(&[b"p", key], hash);
        }
        SealedMap {
            size: tree.size(),
            root: tree.root(),
            object_count: self.contents.len() as u64,
            object_bytes: self.contents.iter().map(|(_, len)| len).sum(),
        }
    }
}
