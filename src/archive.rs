//! File trees into packs, and out of them again.
//!
//! | function | does |
//! |---|---|
//! | [`add`] | puts files and directories into a [`Writer`](crate::pack::Writer) |
//! | [`extract`] | writes the entries of a [`Pack`](crate::pack::Pack) below a directory |
//! | [`diff`] | compares two packs, generations or directories |
//!
//! A file is an entry of the path space: its key is the path, its attributes hold what `lstat`
//! said. Entries are put in the bytewise order of their keys, so that the pack depends neither on
//! the order of directories nor on the number of threads. Nothing here prints or asks: what could
//! not be done for one file is in the report, what concerns the whole is an error.

mod add;
mod compare;
mod extract;
mod look;
mod names;
mod pipeline;
mod read;
mod record;
mod restore;
mod scan;

pub use add::{AddOptions, AddReport, add};
pub use compare::{Change, ChangeKind, Changed, Diff, Side, diff};
pub use extract::{
    ExtractOptions, ExtractProblem, ExtractProblemKind, ExtractReport, NotRestored, Overwrite,
    extract,
};
pub use names::PortabilityWarning;
pub use record::{OwnerRecording, RecordOptions};
pub use restore::Property;
pub use scan::{SourceProblem, SourceProblemKind};

use crate::error::check_cancel;
use std::path::{Component, Path, PathBuf};

/// Something on disk to archive, and where in the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A file, a directory or anything else that has a name.
    pub path: PathBuf,
    /// Key of the file or directory itself; what is in the directory goes under it and a `/`. Empty
    /// for a directory whose content goes to the top of the pack: then it has no entry itself.
    pub key_prefix: Vec<u8>,
}

impl Source {
    /// `path` under its own last component; at the top for `.`, `..` and `/`, as `tar` does it.
    #[must_use]
    pub fn named(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let key_prefix = match path.components().next_back() {
            Some(Component::Normal(name)) => name.as_encoded_bytes().to_vec(),
            _ => Vec::new(),
        };
        Self { path, key_prefix }
    }

    /// `path` under `key_prefix`.
    #[must_use]
    pub fn new(path: impl AsRef<Path>, key_prefix: impl Into<Vec<u8>>) -> Self {
        Self { path: path.as_ref().to_owned(), key_prefix: key_prefix.into() }
    }
}

/// Told a key, and whether it is a directory; says whether to leave it out. Called from several
/// threads.
pub type Exclude<'a> = dyn Fn(&[u8], bool) -> bool + Sync + 'a;

/// Is told how far the work is. Called from several threads, often: it should return at once.
pub trait Progress: Send + Sync {
    /// All that there is to do, once it is known.
    fn total(&self, entry_count: u64, content_bytes: u64);

    /// What was done since the last call.
    fn advance(&self, entry_count: u64, content_bytes: u64);
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn total(&self, _: u64, _: u64) {}

    fn advance(&self, _: u64, _: u64) {}
}

/// Whether `key` is `top` or lies under it; everything does under an empty one.
fn is_under(key: &[u8], top: &[u8]) -> bool {
    top.is_empty()
        || key.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
