//! Which earlier chunks a new chunk is most like: those are the history that it is compressed
//! after, so that the next version of a large text costs what changed and not what it weighs.
//!
//! Anchors are places where a rolling hash of the last 64 bytes has ten zero bits: one in about a
//! kilobyte, at the same places of the content wherever it moved to. Nothing here is part of the
//! format: a reader only sees which objects a frame names.

use super::super::{Pack, units};
use super::pool::History;
use crate::error::Result;
use crate::format::frame::Codec;
use crate::format::{REFERENCE_BYTES_MAX, REFERENCE_DEPTH_MAX, REFERENCES_MAX};
use crate::hash::Hash;
use crate::segment::read_payload;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// An anchor's hash ends in this many zero bits.
const ANCHOR_BITS: u32 = 10;

/// A chunk of the earlier version helps if it has this share of the new chunk's anchors.
const SHARE_MIN: usize = 16;

/// Chunks of an earlier version of an object, found by their anchors.
#[derive(Debug)]
pub(super) struct Earlier {
    chunks: Vec<Hash>,
    anchors: HashMap<u64, u32>,
}

impl Earlier {
    /// Reads the object named `name`; `None` if it is not stored in chunks.
    pub(super) fn read(pack: &Pack, name: &Hash) -> Result<Option<Self>> {
        let Some(units::Stored::List(list)) = pack.stored(name)? else {
            return Ok(None);
        };
        let mut earlier = Self { chunks: Vec::new(), anchors: HashMap::new() };
        for chunk in &list.list().chunks {
            let Some(bytes) = pack.object(&chunk.name)? else {
                continue;
            };
            let number = u32::try_from(earlier.chunks.len()).unwrap_or(u32::MAX);
            for anchor in anchors(&bytes) {
                earlier.anchors.entry(anchor).or_insert(number);
            }
            earlier.chunks.push(chunk.name);
        }
        Ok(Some(earlier))
    }

    /// The history for a new chunk, if any of the earlier ones is like it.
    pub(super) fn history(&self, pack: &Pack, chunk: &[u8]) -> Result<Option<Arc<History>>> {
        let found = anchors(chunk);
        let mut votes: HashMap<u32, usize> = HashMap::new();
        for anchor in &found {
            if let Some(number) = self.anchors.get(anchor) {
                *votes.entry(*number).or_default() += 1;
            }
        }
        let mut best: Vec<(usize, u32)> = votes
            .into_iter()
            .filter(|(_, votes)| votes * SHARE_MIN >= found.len())
            .map(|(number, votes)| (votes, number))
            .collect();
        best.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        best.truncate(usize::from(REFERENCES_MAX));
        best.sort_unstable_by_key(|(_, number)| *number);
        let mut history = History { names: Vec::new(), bytes: Vec::new() };
        for (_, number) in best {
            if let Some(name) = self.chunks.get(number as usize) {
                add(pack, name, &mut history)?;
            }
        }
        Ok((!history.names.is_empty()).then(|| Arc::new(history)))
    }
}

/// Adds an object to a history if the limits allow; in place of one that is too deep already, the
/// objects that it was itself compressed after.
fn add(pack: &Pack, name: &Hash, history: &mut History) -> Result<()> {
    let Some((_, frame)) = units::locate(pack, name)? else {
        return Ok(());
    };
    if frame.depth() >= REFERENCE_DEPTH_MAX {
        let payload = read_payload(&*pack.bytes, &frame.header)?;
        if frame.header.codec == Codec::ZstdPrefix {
            for name in frame.header.split_payload(&payload).0 {
                add(pack, &name, history)?;
            }
        }
        return Ok(());
    }
    let full = history.names.len() >= usize::from(REFERENCES_MAX) || history.names.contains(name);
    let Some(bytes) = pack.object(name)?.filter(|_| !full) else {
        return Ok(());
    };
    if (history.bytes.len() + bytes.len()) as u64 <= REFERENCE_BYTES_MAX {
        history.names.push(*name);
        history.bytes.extend_from_slice(&bytes);
    }
    Ok(())
}

/// Hashes of the anchors of some content.
fn anchors(content: &[u8]) -> Vec<u64> {
    let table = gear();
    let mut found = Vec::with_capacity(content.len() >> ANCHOR_BITS);
    let mut hash = 0_u64;
    for byte in content {
        hash = (hash << 1).wrapping_add(table[usize::from(*byte)]);
        if hash >> (64 - ANCHOR_BITS) == 0 {
            found.push(hash);
        }
    }
    found
}

/// A random number for each byte, the same in every process.
fn gear() -> &'static [u64; 256] {
    static TABLE: OnceLock<[u64; 256]> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut bytes = [0; 256 * 8];
        blake3::Hasher::new_derive_key("pefc 2026-11 anchors").finalize_xof().fill(&mut bytes);
        std::array::from_fn(|i| crate::format::u64_at(&bytes, i * 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_move_with_the_content() {
        let mut content = vec![0_u8; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let before = anchors(&content);
        let mut moved = b"something before it".to_vec();
        moved.extend_from_slice(&content);
        let after = anchors(&moved);
        let kept = before.iter().filter(|anchor| after.contains(anchor)).count();
        assert!((200..400).contains(&before.len()), "{}", before.len());
        assert!(kept + 2 >= before.len());
    }
}
