//! The keys of a directory of refs, in order.

use super::super::Ref;
use super::super::name::{DIR_SUFFIX, part_from_name};
use super::FileRefs;
use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is in a directory of keys.
#[derive(Debug)]
struct Node {
    /// A key, or for a directory what all keys in it begin with, the `/` included. No key of a
    /// directory is between two others of the same list, so that these sort as the keys do.
    key: Vec<u8>,
    path: PathBuf,
    is_dir: bool,
}

/// Goes through the tree of files and merges what is not in it: long keys, and the batch under way.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    refs: &'a FileRefs,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    /// What is left of each directory on the way down, in reverse order.
    stack: Vec<Vec<Node>>,
    next_file: Option<Node>,
    /// Keys that are not in the tree, or say better than it: `None` is a deleted one.
    beside: BTreeMap<Vec<u8>, Option<Ref>>,
    started: bool,
    ended: bool,
}

/// A key, with its ref or the file that has it.
enum Found {
    Ref(Vec<u8>, Ref),
    File(Vec<u8>),
}

impl<'a> Scan<'a> {
    pub(super) fn new(refs: &'a FileRefs, prefix: &[u8], after: Option<&[u8]>) -> Self {
        Self {
            refs,
            prefix: prefix.to_vec(),
            after: after.map(<[u8]>::to_vec),
            stack: Vec::new(),
            next_file: None,
            beside: BTreeMap::new(),
            started: false,
            ended: false,
        }
    }

    pub(super) fn keys(mut self) -> impl Iterator<Item = Result<Vec<u8>>> + Send + 'a {
        std::iter::from_fn(move || {
            self.step().map(|found| match found? {
                Found::Ref(key, _) | Found::File(key) => Ok(key),
            })
        })
    }

    pub(super) fn values(mut self) -> impl Iterator<Item = Result<(Vec<u8>, Ref)>> + Send + 'a {
        std::iter::from_fn(move || {
            loop {
                match self.step()? {
                    Ok(Found::Ref(key, value)) => return Some(Ok((key, value))),
                    Ok(Found::File(key)) => match self.refs.read_key(&key) {
                        Ok(Some(value)) => return Some(Ok((key, value))),
                        Ok(None) => {} // deleted since its directory was read
                        Err(error) => {
                            self.ended = true;
                            return Some(Err(error));
                        }
                    },
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// The next key; nothing after an error.
    fn step(&mut self) -> Option<Result<Found>> {
        if self.ended {
            return None;
        }
        let step = self.try_step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }

    fn try_step(&mut self) -> Result<Option<Found>> {
        if !self.started {
            self.start()?;
            self.started = true;
        }
        loop {
            if self.next_file.is_none() {
                self.next_file = self.next_in_tree()?;
            }
            let in_tree = self.next_file.as_ref().map(|node| node.key.as_slice());
            let beside = self.beside.first_key_value().map(|(key, _)| key.as_slice());
            match (in_tree, beside) {
                (None, None) => return Ok(None),
                (Some(key), other) if other.is_none_or(|other| key < other) => {
                    let node = self.next_file.take();
                    return Ok(node.map(|node| Found::File(node.key)));
                }
                (in_tree, other) => {
                    if in_tree == other {
                        self.next_file = None;
                    }
                    if let Some((key, Some(value))) = self.beside.pop_first() {
                        return Ok(Some(Found::Ref(key, value)));
                    }
                }
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        // The journal first, as when reading one key.
        let journal = self.refs.read_journal()?.unwrap_or_default();
        let told: BTreeSet<PathBuf> =
            journal.iter().map(|(key, _)| self.refs.path_of(key)).collect();
        let long = self.refs.dir.join("long");
        for name in self.list(&long)? {
            let path = long.join(&name);
            if told.contains(&path) {
                continue; // the file may not be whole yet
            }
            if let Some((key, value)) = self.refs.read_ref(&path)? {
                if self.refs.path_of(&key) != path {
                    let what = "the file holds a key that belongs elsewhere";
                    return Err(Error::new(ErrorKind::Corrupt, what).at(&path));
                }
                self.beside.insert(key, Some(value));
            }
        }
        self.beside.extend(journal);
        let (prefix, after) = (&self.prefix, &self.after);
        self.beside.retain(|key, _| is_wanted(key, prefix, after.as_deref()));
        let root = self.read_dir(&self.refs.dir.join("keys"), b"")?;
        self.stack.push(root);
        Ok(())
    }

    fn next_in_tree(&mut self) -> Result<Option<Node>> {
        while let Some(level) = self.stack.last_mut() {
            match level.pop() {
                None => {
                    self.stack.pop();
                }
                Some(node) if node.is_dir => {
                    let below = self.read_dir(&node.path, &node.key)?;
                    self.stack.push(below);
                }
                Some(node) => return Ok(Some(node)),
            }
        }
        Ok(None)
    }

    /// What of a directory may hold wanted keys, the first one last.
    fn read_dir(&self, dir: &Path, key_prefix: &[u8]) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for name in self.list(dir)? {
            let (part, is_dir) = match name.strip_suffix(DIR_SUFFIX) {
                Some(part) => (part, true),
                None => (name.as_str(), false),
            };
            let Some(part) = part_from_name(part) else {
                return Err(self.stranger(&dir.join(&name)));
            };
            let mut key = [key_prefix, &part].concat();
            let after = self.after.as_deref();
            let wanted = if is_dir {
                key.push(b'/');
                let overlaps = key.starts_with(&self.prefix) || self.prefix.starts_with(&key);
                // All keys in it begin so: they are behind `after` or it is among them.
                overlaps
                    && after.is_none_or(|after| key.as_slice() > after || after.starts_with(&key))
            } else {
                is_wanted(&key, &self.prefix, after)
            };
            if wanted {
                nodes.push(Node { key, path: dir.join(&name), is_dir });
            }
        }
        nodes.sort_unstable_by(|a, b| b.key.cmp(&a.key));
        Ok(nodes)
    }

    /// Names in a directory, without hidden ones; none if it is not there.
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let names = match self.refs.options.machine.vfs.list_dir(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("listing refs", dir, error)),
        };
        let mut plain = Vec::with_capacity(names.len());
        for name in names {
            match name.into_string() {
                Ok(name) if name.starts_with('.') => {}
                Ok(name) => plain.push(name),
                Err(name) => return Err(self.stranger(&dir.join(name))),
            }
        }
        Ok(plain)
    }

    /// A damaged name must not let a key vanish: content is collected that no key names.
    fn stranger(&self, path: &Path) -> Error {
        Error::new(ErrorKind::Corrupt, "this name stands for no key")
            .at(path)
            .hinting("move the file elsewhere if it is not a ref; restore it if it is")
    }
}

fn is_wanted(key: &[u8], prefix: &[u8], after: Option<&[u8]>) -> bool {
    key.starts_with(prefix) && after.is_none_or(|after| key > after)
}
