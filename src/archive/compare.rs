//! What differs between two packs, generations or directories.

use super::scan::{Filter, Scan};
use super::{RecordOptions, Source, SourceProblem, SourceProblemKind, is_under};
use crate::disk::tree::FileKind as DiskKind;
use crate::error::Result;
use crate::format::entry::{Attributes, Content, FileKind};
use crate::hash::{GroupHasher, Hash};
use crate::pack::{Entries, Pack};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::io;
use std::iter::Peekable;

/// One of the two things to compare.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// A pack, at whatever generation it was opened.
    Pack(&'a Pack),
    /// What is on disk, as it would be recorded. Only keys under its prefix are compared.
    Disk(&'a Source, &'a RecordOptions),
}

/// A key that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is on the new side only.
    Added,
    /// It is on the old side only.
    Removed,
    /// It is on both.
    Changed(Changed),
}

/// What differs. Attributes that one side has not recorded do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// The content.
    pub content: bool,
    /// The kind of file; what only one of the kinds has does not count.
    pub kind: bool,
    /// Permissions.
    pub mode: bool,
    /// User or group.
    pub owner: bool,
    /// Time of last modification.
    pub mtime: bool,
    /// Target of a link, or number of a device.
    pub target: bool,
}

/// Changes in key order; see [`diff`]. Ends after its first error.
#[derive(Debug)]
pub struct Diff<'a> {
    old: Cursor<'a>,
    new: Cursor<'a>,
    problems: Vec<SourceProblem>,
    has_failed: bool,
}

/// Compares `old` and `new`. Nothing is read that the names and lengths of contents decide.
///
/// # Errors
/// As reading a pack, and as opening a source of [`super::add`].
pub fn diff<'a>(old: Side<'a>, new: Side<'a>) -> Result<Diff<'a>> {
    let prefix_of = |side: &Side<'a>| match side {
        Side::Pack(_) => None,
        Side::Disk(source, _) => Some(source.key_prefix.as_slice()),
    };
    // Of two directories each is compared under its own key.
    let top = prefix_of(&new).or(prefix_of(&old)).unwrap_or_default();
    let mut problems = Vec::new();
    Ok(Diff {
        old: Cursor::new(old, top, &mut problems)?,
        new: Cursor::new(new, top, &mut problems)?,
        problems,
        has_failed: false,
    })
}

impl Diff<'_> {
    /// What could not be read on disk so far. A file whose content can't be read counts as changed.
    #[must_use]
    pub fn problems(&self) -> &[SourceProblem] {
        &self.problems
    }

    fn step(&mut self) -> Result<Option<Change>> {
        loop {
            let order = match (self.old.key()?, self.new.key()?) {
                (Some(old), Some(new)) => old.cmp(new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Ok(None),
            };
            let old = if order.is_le() { self.old.take()? } else { None };
            let new = if order.is_ge() { self.new.take()? } else { None };
            let (key, kind) = match (old, new) {
                (Some(old), None) => (old.key, ChangeKind::Removed),
                (None, Some(new)) => (new.key, ChangeKind::Added),
                (Some(old), Some(new)) => {
                    let changed = self.changed(&old, &new);
                    if changed == Changed::default() {
                        continue;
                    }
                    (new.key, ChangeKind::Changed(changed))
                }
                (None, None) => return Ok(None),
            };
            return Ok(Some(Change { key, kind }));
        }
    }

    fn changed(&mut self, old: &Seen, new: &Seen) -> Changed {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        let (a, b) = (&old.attributes, &new.attributes);
        Changed {
            content: self.content_changed(old, new),
            kind: a.kind != b.kind,
            mode: differ(a.mode.as_ref(), b.mode.as_ref()),
            owner: differ(a.uid.as_ref(), b.uid.as_ref())
                || differ(a.gid.as_ref(), b.gid.as_ref())
                || differ(a.user.as_ref(), b.user.as_ref())
                || differ(a.group.as_ref(), b.group.as_ref()),
            mtime: differ(a.mtime.as_ref(), b.mtime.as_ref()),
            target: differ(a.target.as_ref(), b.target.as_ref())
                || differ(a.device.as_ref(), b.device.as_ref()),
        }
    }

    fn content_changed(&mut self, old: &Seen, new: &Seen) -> bool {
        let (Some(a), Some(b)) = (old.len(), new.len()) else {
            return false;
        };
        if a != b {
            return true;
        }
        let names = [self.old.name(old), self.new.name(new)];
        let mut found = Vec::new();
        for name in names {
            match name {
                Ok(name) => found.push(name),
                Err(error) => self.problems.push(SourceProblem {
                    key: new.key.clone(),
                    kind: SourceProblemKind::of(&error),
                    error: error.to_string(),
                }),
            }
        }
        !matches!(found.as_slice(), [a, b] if a == b)
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let step = self.step();
        self.has_failed = step.is_err();
        step.transpose()
    }
}

/// An entry of one side.
#[derive(Debug)]
struct Seen {
    key: Vec<u8>,
    attributes: Attributes<'static>,
    content: Stored,
}

#[derive(Debug)]
enum Stored {
    Nothing,
    Named(Content),
    /// Position of the item, and its length.
    OnDisk(usize, u64),
}

impl Seen {
    fn len(&self) -> Option<u64> {
        match &self.content {
            Stored::Nothing => None,
            Stored::Named(content) => Some(content.len),
            Stored::OnDisk(_, len) => Some(*len),
        }
    }
}

/// One side, in key order.
#[derive(Debug)]
enum Cursor<'a> {
    Pack { entries: Box<Peekable<Entries<'a>>>, top: Vec<u8> },
    Disk { scan: Scan, next: usize, record: &'a RecordOptions },
}

impl<'a> Cursor<'a> {
    fn new(side: Side<'a>, top: &[u8], problems: &mut Vec<SourceProblem>) -> Result<Self> {
        match side {
            Side::Pack(pack) => Ok(Self::Pack {
                entries: Box::new(pack.entries_under(top).peekable()),
                top: top.to_vec(),
            }),
            Side::Disk(source, record) => {
                let filter = Filter {
                    exclude: None,
                    follow_top: false,
                    threads: std::thread::available_parallelism().map_or(1, usize::from),
                    cancel: None,
                    skip: Vec::new(),
                };
                let mut scan = Scan::collect(std::slice::from_ref(source), &filter)?;
                problems.append(&mut scan.problems);
                let next = 0;
                Ok(Self::Disk { scan, next, record })
            }
        }
    }

    /// The next key.
    fn key(&mut self) -> Result<Option<&[u8]>> {
        match self {
            Self::Disk { scan, next, .. } => Ok(scan.items.get(*next).map(|item| &*item.key)),
            Self::Pack { entries, top } => {
                let is_beside = |put: &_| matches!(put, Ok(put) if !is_put_under(put, top));
                while entries.next_if(is_beside).is_some() {}
                if let Some(Err(error)) = entries.next_if(Result::is_err) {
                    return Err(error);
                }
                Ok(entries.peek().and_then(|put| put.as_ref().ok()).map(|put| &*put.key))
            }
        }
    }

    fn take(&mut self) -> Result<Option<Seen>> {
        match self {
            Self::Pack { entries, .. } => {
                let put = entries.next().transpose()?;
                Ok(put.map(|put| Seen {
                    key: put.key.into_owned(),
                    attributes: put.attributes,
                    content: put.content.map_or(Stored::Nothing, Stored::Named),
                }))
            }
            Self::Disk { scan, next, record } => {
                let position = *next;
                *next += 1;
                Ok(seen(scan, position, record))
            }
        }
    }

    /// The name of an entry's content, read from the disk if it has to be.
    fn name(&self, seen: &Seen) -> io::Result<Option<Hash>> {
        match (&seen.content, self) {
            (Stored::Named(content), _) => Ok(Some(content.name)),
            (Stored::OnDisk(position, _), Self::Disk { scan, .. }) => {
                let item = scan.items.get(*position);
                let place = item.and_then(|item| scan.place(item));
                let (tree, path) = place.ok_or(io::ErrorKind::NotFound)?;
                let mut file = tree.open_file(path)?;
                let mut hasher = GroupHasher::default();
                let mut buffer = vec![0; 256 << 10];
                loop {
                    match file.read(&mut buffer) {
                        Ok(0) => return Ok(Some(hasher.finish().0)),
                        Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            _ => Ok(None),
        }
    }
}

fn is_put_under(put: &crate::format::entry::Put<'_>, top: &[u8]) -> bool {
    is_under(&put.key, top)
}

fn seen(scan: &Scan, position: usize, record: &RecordOptions) -> Option<Seen> {
    let item = scan.items.get(position)?;
    let mut attributes = record.attributes(&item.metadata);
    let mut content = Stored::Nothing;
    let first = item.first.and_then(|first| scan.items.get(first as usize));
    match (item.metadata.kind, first) {
        (DiskKind::File, Some(first)) => {
            attributes.kind = FileKind::HardLink;
            attributes.target = Some(Cow::Owned(first.key.to_vec()));
        }
        (DiskKind::File, None) => content = Stored::OnDisk(position, item.metadata.size_bytes),
        (DiskKind::Symlink, _) => {
            let place = scan.place(item);
            let target = place.and_then(|(tree, path)| tree.read_link(path).ok());
            attributes.target = target.map(Cow::Owned);
        }
        _ => {}
    }
    Some(Seen { key: item.key.to_vec(), attributes, content })
}
