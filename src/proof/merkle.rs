//! Paths through the trees of [`crate::tree`]: RFC 6962 inclusion and consistency, and the path of a
//! run of leaves. Making them takes the hashes of all leaves; checking them takes a root.

use super::error::{Fault, Result};
use crate::tree::{Node, node_hash, sha256};
use std::ops::Range;

/// A path has at most this many hashes: a tree has fewer than 2^64 leaves. That of a run of leaves
/// has one for each side.
pub const PATH_LEN_MAX: usize = 64;

/// Leaves left of the split of a tree of `size` leaves, at least 2: the largest power of two below.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The root of a tree.
#[must_use]
pub fn root(leaves: &[Node]) -> Node {
    match leaves {
        [] => sha256(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = halves(leaves);
            node_hash(&root(left), &root(right))
        }
    }
}

fn halves(leaves: &[Node]) -> (&[Node], &[Node]) {
    let left = usize::try_from(split(leaves.len() as u64)).unwrap_or(usize::MAX);
    leaves.split_at(left.min(leaves.len()))
}

/// The path of the leaf at `index`, from its sibling to the child of the root (RFC 6962, 2.1.1).
/// `None` unless the leaf is there.
#[must_use]
pub fn inclusion_path(leaves: &[Node], index: usize) -> Option<Vec<Node>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut part, mut index, mut path) = (leaves, index, Vec::new());
    while part.len() > 1 {
        let (left, right) = halves(part);
        if index < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            index -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The root that `path` gives to the leaf at `index` of a tree of `size` leaves.
///
/// # Errors
/// [`Fault::Index`] and [`Fault::PathLength`]. So there is at most one length of path for a place,
/// and an inner node cannot stand for a leaf.
pub fn root_of_path(leaf: &Node, index: u64, size: u64, path: &[Node]) -> Result<Node> {
    if index >= size {
        return Err(Fault::Index.into());
    }
    let (mut at, mut last, mut node) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(Fault::PathLength.into());
        }
        if at % 2 == 1 || at == last {
            node = node_hash(sibling, &node);
            // At the right border a node without sibling moves up as it is.
            while at.is_multiple_of(2) && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            node = node_hash(&node, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    if last == 0 { Ok(node) } else { Err(Fault::PathLength.into()) }
}

/// Checks that the leaf at `index` of the tree with this size and root has this hash.
///
/// # Errors
/// [`Fault::Index`], [`Fault::PathLength`], [`Fault::Root`].
pub fn verify_inclusion(
    leaf: &Node,
    index: u64,
    size: u64,
    path: &[Node],
    root: &Node,
) -> Result<()> {
    if root_of_path(leaf, index, size, path)? == *root { Ok(()) } else { Err(Fault::Root.into()) }
}

/// The proof that the tree of the first `old_size` leaves is a prefix of that of all (RFC 6962,
/// 2.1.2). `None` unless there are that many leaves.
#[must_use]
pub fn consistency_path(leaves: &[Node], old_size: usize) -> Option<Vec<Node>> {
    if old_size > leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    if old_size == 0 || old_size == leaves.len() {
        return Some(path);
    }
    let (mut part, mut size, mut is_whole) = (leaves, old_size, true);
    while size < part.len() {
        let (left, right) = halves(part);
        if size <= left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            size -= left.len();
            part = right;
            is_whole = false;
        }
    }
    if !is_whole {
        path.push(root(part));
    }
    path.reverse();
    Some(path)
}

/// Checks that the tree `old` is a prefix of the tree `new`, each given as size and root.
///
/// # Errors
/// [`Fault::Size`] if `old` is the larger one, [`Fault::PathLength`], [`Fault::Root`]; for trees of
/// one size with two roots [`Fault::Fork`].
pub fn verify_consistency(old: (u64, &Node), new: (u64, &Node), path: &[Node]) -> Result<()> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return Err(Fault::Size.into());
    }
    if old_size == 0 || old_size == new_size {
        let empty_ok = old_size != 0 || *old_root == sha256(b"");
        return match path {
            [] if !empty_ok => Err(Fault::Root.into()),
            [] if old_size == new_size && old_root != new_root => Err(Fault::Fork.into()),
            [] => Ok(()),
            _ => Err(Fault::PathLength.into()),
        };
    }
    // RFC 9162, 2.1.4.2. A complete old tree is itself the first node of the path.
    let mut rest = path.iter();
    let first = match old_size.is_power_of_two() {
        true => old_root,
        false => rest.next().ok_or(Fault::PathLength)?,
    };
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at % 2 == 1 {
        (at, last) = (at / 2, last / 2);
    }
    let (mut old_node, mut new_node) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(Fault::PathLength.into());
        }
        if at % 2 == 1 || at == last {
            old_node = node_hash(sibling, &old_node);
            new_node = node_hash(sibling, &new_node);
            while at.is_multiple_of(2) && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            new_node = node_hash(&new_node, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    match last {
        0 if (&old_node, &new_node) == (old_root, new_root) => Ok(()),
        0 => Err(Fault::Root.into()),
        _ => Err(Fault::PathLength.into()),
    }
}

/// The path of the run of leaves `[run.start, run.end)`: the roots of the largest subtrees that lie
/// outside of it, from left to right. `None` unless the run is within the leaves and not empty.
#[must_use]
pub fn run_path(leaves: &[Node], run: Range<usize>) -> Option<Vec<Node>> {
    fn walk(leaves: &[Node], run: &Range<usize>, path: &mut Vec<Node>) {
        let is_within = run.start == 0 && run.end >= leaves.len();
        if run.start >= run.end {
            path.push(root(leaves));
        } else if !is_within {
            let (left, right) = halves(leaves);
            let at = left.len();
            walk(left, &(run.start.min(at)..run.end.min(at)), path);
            walk(right, &(run.start.saturating_sub(at)..run.end.saturating_sub(at)), path);
        }
    }
    if run.is_empty() || run.end > leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    walk(leaves, &run, &mut path);
    Some(path)
}

/// The root that `path` gives to the run of leaves that begins at index `first` of a tree of `size`
/// leaves.
///
/// # Errors
/// [`Fault::Index`] unless the run is within the tree and not empty, [`Fault::PathLength`].
pub fn root_of_run(run: &[Node], first: u64, size: u64, path: &[Node]) -> Result<Node> {
    let end = first.checked_add(run.len() as u64).filter(|end| *end <= size);
    let end = end.filter(|_| !run.is_empty()).ok_or(Fault::Index)?;
    let mut walk = RunWalk { run, path };
    let root = walk.node(size, first..end)?;
    if walk.path.is_empty() { Ok(root) } else { Err(Fault::PathLength.into()) }
}

struct RunWalk<'a> {
    run: &'a [Node],
    path: &'a [Node],
}

impl RunWalk<'_> {
    /// The root of a subtree of `size` leaves of which `inside` belong to the run. A subtree that is
    /// all inside recurses no deeper than the logarithm of the run.
    fn node(&mut self, size: u64, inside: Range<u64>) -> Result<Node> {
        if inside.is_empty() {
            let (first, rest) = self.path.split_first().ok_or(Fault::PathLength)?;
            self.path = rest;
            return Ok(*first);
        }
        if size == 1 {
            let (first, rest) = self.run.split_first().ok_or(Fault::PathLength)?;
            self.run = rest;
            return Ok(*first);
        }
        let at = split(size);
        let left = self.node(at, inside.start.min(at)..inside.end.min(at))?;
        let right = inside.start.saturating_sub(at)..inside.end.saturating_sub(at);
        Ok(node_hash(&left, &self.node(size - at, right)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Frontier, leaf_hash};

    fn leaves(count: usize) -> Vec<Node> {
        (0..count as u64).map(|i| leaf_hash(&i.to_le_bytes())).collect()
    }

    #[test]
    fn the_root_is_that_of_the_frontier() {
        let mut frontier = Frontier::default();
        for leaf in leaves(40) {
            frontier.push(leaf);
            let size = usize::try_from(frontier.size()).unwrap();
            assert_eq!(root(&leaves(size)), frontier.root());
        }
    }

    #[test]
    fn every_leaf_has_one_path_and_no_other() {
        for size in 1..34 {
            let leaves = leaves(size);
            let root = root(&leaves);
            let check = |leaf: &Node, index: usize, path: &[Node]| {
                verify_inclusion(leaf, index as u64, size as u64, path, &root)
            };
            assert_eq!(inclusion_path(&leaves, size), None);
            for index in 0..size {
                let path = inclusion_path(&leaves, index).unwrap();
                assert_eq!(check(&leaves[index], index, &path), Ok(()));
                for other in (0..size + 2).filter(|other| *other != index) {
                    assert!(check(&leaves[index], other, &path).is_err(), "{index} is not {other}");
                }
                for len in 0..path.len() {
                    let error = check(&leaves[index], index, &path[..len]).unwrap_err();
                    assert_eq!(error.fault, Fault::PathLength);
                }
                let longer = [path.as_slice(), &[leaves[0]]].concat();
                let error = check(&leaves[index], index, &longer).unwrap_err();
                assert_eq!(error.fault, Fault::PathLength);
                // An inner node as a leaf: its path is too short for every index of this size.
                if let [sibling, rest @ ..] = path.as_slice() {
                    let inner = match index % 2 {
                        0 => node_hash(&leaves[index], sibling),
                        _ => node_hash(sibling, &leaves[index]),
                    };
                    assert!((0..size).all(|at| check(&inner, at, rest).is_err()));
                }
            }
        }
    }

    #[test]
    fn a_tree_is_consistent_with_its_prefixes_only() {
        let all = leaves(33);
        let other = leaf_hash(b"other");
        for new in 0..=33_usize {
            for old in 0..=new {
                let path = consistency_path(&all[..new], old).unwrap();
                let (old_root, new_root) = (root(&all[..old]), root(&all[..new]));
                let check = |old: u64, old_root: &Node, path: &[Node]| {
                    verify_consistency((old, old_root), (new as u64, &new_root), path)
                };
                assert_eq!(check(old as u64, &old_root, &path), Ok(()), "{old} {new}");
                assert!(check(old as u64, &other, &path).is_err());
                assert!(check(new as u64 + 1, &old_root, &path).is_err());
                assert!(
                    check(old as u64, &old_root, &[path.as_slice(), &[other]].concat()).is_err()
                );
                for at in 0..path.len() {
                    assert!(check(old as u64, &old_root, &path[..at]).is_err());
                    let mut changed = path.clone();
                    changed[at][0] ^= 1;
                    assert!(check(old as u64, &old_root, &changed).is_err());
                }
            }
        }
        assert_eq!(consistency_path(&all, 34), None);
        let fork = verify_consistency((1, &other), (1, &all[0]), &[]).unwrap_err();
        assert_eq!(fork.fault, Fault::Fork);
    }

    #[test]
    fn runs_of_leaves_have_one_path() {
        for size in 1..20 {
            let leaves = leaves(size);
            let root = root(&leaves);
            for start in 0..size {
                for end in start + 1..=size {
                    let path = run_path(&leaves, start..end).unwrap();
                    let check = |run: &[Node], first: usize, path: &[Node]| {
                        root_of_run(run, first as u64, size as u64, path).map(|found| found == root)
                    };
                    assert_eq!(check(&leaves[start..end], start, &path), Ok(true));
                    assert_ne!(check(&leaves[start + 1..end], start, &path), Ok(true));
                    assert_ne!(check(&leaves[start..end], start + 1, &path), Ok(true));
                    let longer = [path.as_slice(), &[leaves[0]]].concat();
                    assert!(check(&leaves[start..end], start, &longer).is_err());
                }
            }
            assert_eq!(run_path(&leaves, 0..0), None);
            assert_eq!(run_path(&leaves, 0..size + 1), None);
        }
        assert!(root_of_run(&leaves(1), u64::MAX, u64::MAX, &[]).is_err());
    }

    #[test]
    fn a_second_library_agrees() {
        use ct_merkle::mem_backed_tree::MemoryBackedTree;
        // Its leaves hash themselves; ours are given by their bytes.
        let mut tree = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
        for size in 1..30_usize {
            tree.push((size as u64).to_le_bytes().to_vec());
            let leaf = |i: u64| leaf_hash(&i.to_le_bytes());
            let leaves: Vec<Node> = (1..=size as u64).map(leaf).collect();
            assert_eq!(tree.root().as_bytes()[..], root(&leaves));
            for index in 0..size {
                let path = inclusion_path(&leaves, index).unwrap().concat();
                assert_eq!(tree.prove_inclusion(index).as_bytes(), path);
            }
            for old in 1..size {
                let path = consistency_path(&leaves, old).unwrap().concat();
                assert_eq!(tree.prove_consistency(size - old).as_bytes(), path);
            }
        }
    }
}
