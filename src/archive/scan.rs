//! Everything that lies in the sources, in key order.

use super::look::look;
use super::{Exclude, Source};
use crate::disk::tree::{FileKind, Metadata, SourceDir, SourceTree};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::Key;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How many symbolic links a source may be reached through.
const LINKS_MAX: u32 = 40;

/// Something that could not be archived as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProblem {
    /// Its key; of a file that is on disk under the source's path and the rest of the key.
    pub key: Vec<u8>,
    /// What kind of problem it is.
    pub kind: SourceProblemKind,
    /// What the system said.
    pub error: String,
}

/// What is wrong with a file to archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceProblemKind {
    /// It changed while it was read, twice: it is stored as it was read the second time.
    Changed,
    /// It was there and is gone: it is not stored.
    Vanished,
    /// It can't be read, or the directory not listed: it is not stored.
    Unreadable,
    /// It is something that an archive can't hold: it is not stored.
    Unsupported,
    /// Its key or its attributes are too long for the format: it is not stored.
    TooLong,
    /// A later source has the same key: that one is stored, this one is not.
    Covered,
}

impl SourceProblemKind {
    /// The name in messages and in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed while it was read",
            Self::Vanished => "vanished",
            Self::Unreadable => "unreadable",
            Self::Unsupported => "unsupported",
            Self::TooLong => "too long",
            Self::Covered => "covered",
        }
    }

    /// Of a failed system call.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Vanished,
            io::ErrorKind::Unsupported => Self::Unsupported,
            _ => Self::Unreadable,
        }
    }
}

/// A file that was found.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Box<[u8]>,
    /// Where in `key` the path within the source begins.
    pub(super) path_at: u32,
    pub(super) source: u32,
    /// If it is a hard link: position of the first item, in key order, that is the same file.
    pub(super) first: Option<u32>,
    pub(super) metadata: Metadata,
}

impl Item {
    /// Whether leaving it out for `other`, of the same key, loses something. Directories are merged.
    fn is_hidden_by(&self, other: &Self) -> bool {
        let (own, other) = (&self.metadata, &other.metadata);
        let are_dirs = own.kind == FileKind::Directory && other.kind == FileKind::Directory;
        !are_dirs && (own.device, own.inode) != (other.device, other.inode)
    }
}

/// A source, open.
#[derive(Debug)]
struct Opened {
    tree: Arc<SourceTree>,
    /// If it is no directory: its name in `tree`.
    name: Option<Vec<u8>>,
    metadata: Metadata,
}

/// What is to be looked for.
pub(super) struct Filter<'a> {
    pub(super) exclude: Option<&'a Exclude<'a>>,
    pub(super) follow_top: bool,
    /// Threads that look.
    pub(super) threads: usize,
    pub(super) cancel: Option<&'a AtomicBool>,
    /// Device and inode of files to pass over.
    pub(super) skip: Vec<(u64, u64)>,
}

/// All items of some sources, sorted by key, no key twice.
#[derive(Debug, Default)]
pub(super) struct Scan {
    sources: Vec<Opened>,
    pub(super) items: Vec<Item>,
    pub(super) problems: Vec<SourceProblem>,
    /// Keys of which it is unknown what is there and below.
    pub(super) unknown: Vec<Vec<u8>>,
}

impl Scan {
    /// Looks at everything in `sources`. A source that isn't there is an error; what can't be
    /// looked at below it is a problem.
    pub(super) fn collect(sources: &[Source], filter: &Filter<'_>) -> Result<Self> {
        let mut scan = Self::default();
        for source in sources {
            if !source.key_prefix.is_empty() {
                Key::path(source.key_prefix.as_slice()).check()?;
            }
            let opened = open(&source.path, filter.follow_top).map_err(|error| {
                Error::io("opening what is to be archived", &source.path, error)
            })?;
            if opened.name.is_some() && source.key_prefix.is_empty() {
                let what = "only a directory can be archived without a key of its own";
                return Err(Error::new(ErrorKind::Usage, what).at(&source.path));
            }
            scan.sources.push(opened);
        }
        for ((number, source), opened) in (0..).zip(sources).zip(&scan.sources) {
            let is_dir = opened.name.is_none();
            let found = look(number, source, &opened.tree, opened.metadata, is_dir, filter)?;
            scan.items.extend(found.items);
            scan.problems.extend(found.problems);
            scan.unknown.extend(found.unknown);
        }
        // Of equal keys the one from the last source stays. A stable sort, because it is quick
        // where long runs are in order.
        scan.items.sort_by(|a, b| a.key.cmp(&b.key).then(b.source.cmp(&a.source)));
        scan.problems.sort_by(|a, b| a.key.cmp(&b.key));
        let problems = &mut scan.problems;
        scan.items.dedup_by(|covered, stays| {
            let is_same_key = covered.key == stays.key;
            if is_same_key && covered.is_hidden_by(stays) {
                problems.push(SourceProblem {
                    key: covered.key.to_vec(),
                    kind: SourceProblemKind::Covered,
                    error: "a later source has the same key, and is stored".to_owned(),
                });
            }
            is_same_key
        });
        scan.items.shrink_to_fit();
        scan.find_hard_links();
        Ok(scan)
    }

    /// After sorting, so that which name is the first depends on the keys alone.
    fn find_hard_links(&mut self) {
        let mut first = HashMap::new();
        for (position, item) in (0_u32..).zip(&mut self.items) {
            let found = &item.metadata;
            if found.kind == FileKind::File && found.link_count > 1 {
                let earlier = *first.entry((found.device, found.inode)).or_insert(position);
                item.first = (earlier != position).then_some(earlier);
            }
        }
    }

    /// Where an item is on disk.
    pub(super) fn place<'s>(&'s self, item: &'s Item) -> Option<(&'s SourceTree, &'s [u8])> {
        let source = self.sources.get(item.source as usize)?;
        let path = match &source.name {
            Some(name) => name.as_slice(),
            None => item.key.get(item.path_at as usize..)?,
        };
        Some((&source.tree, path))
    }

    /// Whether `key` was found.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.items.binary_search_by(|item| item.key.as_ref().cmp(key)).is_ok()
    }
}

pub(super) fn join(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    match (prefix, path) {
        (prefix, b"") => prefix.to_vec(),
        (b"", path) => path.to_vec(),
        (prefix, path) => [prefix, b"/", path].concat(),
    }
}

/// Opens what the user named. A `/` at the end asks for the directory behind a link, too.
fn open(path: &Path, follow: bool) -> io::Result<Opened> {
    let follow = follow || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return opened_dir(&SourceDir::open(&path, true)?); // `.`, `..`, `/`
        };
        let (parent_path, name) = (directory(parent), name.as_bytes());
        let parent = SourceDir::open(&parent_path, true)?;
        let metadata = parent.metadata(name)?;
        match metadata.kind {
            FileKind::Directory => return opened_dir(&parent.open_dir(name)?),
            FileKind::Symlink if follow => {
                path = parent_path.join(OsStr::from_bytes(&parent.read_link(name)?));
            }
            _ => {
                return Ok(Opened {
                    tree: Arc::new(SourceTree::new(&parent)),
                    name: Some(name.to_vec()),
                    metadata,
                });
            }
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn opened_dir(dir: &SourceDir) -> io::Result<Opened> {
    Ok(Opened { tree: Arc::new(SourceTree::new(dir)), name: None, metadata: dir.own_metadata()? })
}

fn directory(parent: &Path) -> PathBuf {
    if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
}

/// Device and inode of the file at `path`, if there is one.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let dir = SourceDir::open(&directory(path.parent()?), true).ok()?;
    let metadata = dir.metadata(path.file_name()?.as_bytes()).ok()?;
    Some((metadata.device, metadata.inode))
}
