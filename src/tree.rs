//! The Merkle trees of a log: RFC 6962 over SHA-256 (section 2.1), for the log itself and for the
//! sorted map of what is live.
//!
//! This layer knows neither entries nor files: leaves come as bytes.

use sha2::Digest;

/// SHA-256 of bytes that come in parts.
#[derive(Debug, Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes.
    #[must_use]
    pub fn finish(self) -> Node {
        self.0.finalize().into()
    }
}

/// A SHA-256 node of a tree.
pub type Node = [u8; 32];

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Node {
    sha2::Sha256::digest(bytes).into()
}

/// The hash of a leaf.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Node {
    sha2::Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// The hash of an inner node.
#[must_use]
pub fn node_hash(left: &Node, right: &Node) -> Node {
    sha2::Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows at its end, kept as the roots of its complete subtrees: all that is needed to
/// go on and to give the root, in memory that grows with the logarithm of its size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Node>,
}

impl Frontier {
    /// A tree of `size` leaves from the roots of its complete subtrees, largest first. `None`
    /// unless there is one for each set bit of `size`.
    #[must_use]
    pub fn from_parts(size: u64, nodes: Vec<Node>) -> Option<Self> {
        (nodes.len() as u64 == u64::from(size.count_ones())).then_some(Self { size, nodes })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Adds the leaf with this hash.
    pub fn push(&mut self, leaf: Node) {
        let mut node = leaf;
        // A set bit at the low end is a complete subtree of the size that `node` has reached.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Node {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            None => sha256(b""),
            Some(last) => nodes.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// The map of what is live: leaves come in key order.
///
/// A leaf's data is that of ICS-23's `tendermint_spec`: length of the key, key, 0x20, SHA-256 of the
/// value.
#[derive(Debug, Default)]
pub struct MapTree {
    frontier: Frontier,
    data: Vec<u8>,
}

impl MapTree {
    /// Adds the leaf of `key`, given in parts, and of the SHA-256 of its value. Keys must rise; the
    /// caller sees to it.
    pub fn push(&mut self, key: &[&[u8]], value_hash: &Node) {
        let len: usize = key.iter().map(|part| part.len()).sum();
        self.data.clear();
        let mut rest = len as u64;
        while rest >= 0x80 {
            self.data.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.data.push((rest & 0x7f) as u8);
        key.iter().for_each(|part| self.data.extend_from_slice(part));
        self.data.push(0x20);
        self.data.extend_from_slice(value_hash);
        self.frontier.push(leaf_hash(&self.data));
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Node {
        self.frontier.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962, section 2.1, word for word.
    fn reference_root(leaves: &[&[u8]]) -> Node {
        match leaves {
            [] => sha256(b""),
            [leaf] => leaf_hash(leaf),
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&reference_root(&leaves[..k]), &reference_root(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_frontier_gives_the_root_of_every_size() {
        let leaves: Vec<Vec<u8>> = (0..70_u8).map(|i| vec![i; usize::from(i)]).collect();
        let mut frontier = Frontier::default();
        for size in 0..=leaves.len() {
            let parts: Vec<&[u8]> = leaves[..size].iter().map(Vec::as_slice).collect();
            assert_eq!(frontier.root(), reference_root(&parts), "{size} leaves");
            let again = Frontier::from_parts(frontier.size(), frontier.nodes().to_vec());
            assert_eq!(again.as_ref(), Some(&frontier));
            if let Some(leaf) = leaves.get(size) {
                frontier.push(leaf_hash(leaf));
            }
        }
        assert_eq!(Frontier::from_parts(3, vec![[0; 32]]), None);
    }

    #[test]
    fn known_roots_of_certificate_transparency() {
        // Test vectors of the reference implementation of RFC 6962.
        let inputs: [&[u8]; 4] = [b"", b"\x00", b"\x10", b"\x20\x21"];
        let mut frontier = Frontier::default();
        inputs.iter().for_each(|input| frontier.push(leaf_hash(input)));
        let hex: String = frontier.root().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7");
    }

    #[test]
    fn map_leaves_follow_their_layout() {
        let mut map = MapTree::default();
        map.push(&[b"p", b"\0", &[b'k'; 200]], &[7; 32]);
        let mut data = vec![202 | 0x80, 1];
        data.extend_from_slice(b"p\0");
        data.extend_from_slice(&[b'k'; 200]);
        data.push(0x20);
        data.extend_from_slice(&[7; 32]);
        data[0] = (202_u8 & 0x7f) | 0x80;
        assert_eq!(map.root(), leaf_hash(&data));
    }
}
