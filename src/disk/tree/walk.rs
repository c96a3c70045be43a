//! All that lies below a directory, in order.

use super::read::{list, stat};
use super::{FileKind, Metadata, SourceTree};
use rustix::fd::{AsFd, OwnedFd};
use std::io;
use std::sync::Arc;
use std::vec;

/// Everything below the root of a [`SourceTree`], depth first: a directory, then what is in it,
/// then the next name. The names of one directory come in bytewise order, so `a/b` comes before
/// `a.txt`. The root itself isn't an item.
///
/// An entry that can't be looked at is an item too, and the walk goes on. The same directory can
/// be two items: what it is, then, if it can't be listed, a [`WalkStep::List`] error. Symbolic
/// links are never followed, so it ends. One descriptor is open, besides those of the tree.
#[derive(Debug)]
pub struct Walk {
    tree: Arc<SourceTree>,
    /// Of the last item.
    path: Vec<u8>,
    /// One for each directory from the root down to the one that we are in.
    frames: Vec<Frame>,
    /// The directory of the last frame, if it is at hand.
    here: Option<Arc<OwnedFd>>,
    /// Whether `path` is a directory to go into next.
    enter: bool,
}

#[derive(Debug)]
struct Frame {
    /// How much of `path` is the path of this directory.
    path_bytes: usize,
    names: vec::IntoIter<Vec<u8>>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkEntry {
    /// Where, relative to the root. To be opened with [`SourceTree::open_file`].
    pub path: Vec<u8>,
    /// What it is.
    pub metadata: Metadata,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkStep {
    /// Asking what it is; there is no [`WalkEntry`] for this path.
    Look,
    /// Opening and listing a directory: what is in it, or the rest of that, is missing.
    List,
}

/// An entry that could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("\"{}\": {error}", .path.escape_ascii())]
pub struct WalkError {
    /// Where, relative to the root; empty for the root itself.
    pub path: Vec<u8>,
    /// What was being done.
    pub step: WalkStep,
    /// What the system said: `EACCES` without permission, `ENOENT` for an entry that vanished.
    pub error: io::Error,
}

impl Walk {
    pub(super) fn new(tree: Arc<SourceTree>, path: &[u8]) -> Self {
        Self { tree, path: path.to_vec(), frames: Vec::new(), here: None, enter: true }
    }

    /// After an item that is a directory: passes over what is in it.
    pub fn skip_dir(&mut self) {
        self.enter = false;
    }

    fn enter(&mut self) -> io::Result<()> {
        let dir = self.tree.dirs.dir(&self.path)?;
        let names = list(dir.as_fd())?.into_iter();
        self.frames.push(Frame { path_bytes: self.path.len(), names });
        self.here = Some(dir);
        Ok(())
    }

    fn failed(&self, step: WalkStep, error: io::Error) -> WalkError {
        WalkError { path: self.path.clone(), step, error }
    }
}

impl Iterator for Walk {
    type Item = Result<WalkEntry, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.enter)
            && let Err(error) = self.enter()
        {
            return Some(Err(self.failed(WalkStep::List, error)));
        }
        loop {
            let frame = self.frames.last_mut()?;
            self.path.truncate(frame.path_bytes);
            let Some(name) = frame.names.next() else {
                self.frames.pop();
                self.here = None;
                continue;
            };
            let here = match &self.here {
                Some(here) => here,
                None => match self.tree.dirs.dir(&self.path) {
                    Ok(dir) => self.here.insert(dir),
                    Err(errno) => {
                        self.frames.pop();
                        return Some(Err(self.failed(WalkStep::List, errno.into())));
                    }
                },
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            return Some(match stat(here.as_fd(), &name) {
                Ok(metadata) => {
                    self.enter = metadata.kind == FileKind::Directory;
                    Ok(WalkEntry { path: self.path.clone(), metadata })
                }
                Err(error) => Err(self.failed(WalkStep::Look, error)),
            });
        }
    }
}
