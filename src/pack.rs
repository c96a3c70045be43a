//! A pack, opened for reading.

mod compact;
mod contents;
mod cursor;
mod frames;
mod key;
mod object;
mod prove;
mod recover;
mod refresh;
mod signatures;
#[cfg(feature = "sign")]
mod signing;
mod trust;
mod units;
mod verify;
mod writer;

pub use compact::{CompactOptions, CompactReport, compact};
pub(crate) use contents::{Use, Whole};
pub use cursor::{Entries, Keys};
pub use key::Key;
pub use object::ObjectReader;
pub use prove::Prover;
pub use recover::{Damage, LOST_AND_FOUND, RecoverOptions, RecoverReport, recover};
#[cfg(feature = "sign")]
pub use signing::SignOptions;
pub use trust::Authenticated;
pub use verify::{Checked, Problem, VerifyLevel, VerifyOptions, VerifyReport};
pub use writer::{SealSigner, Signers, WriteOptions, WriteStats, Writer};

use crate::disk::{FileBytes, Machine, ReadAt};
use crate::error::{Error, ErrorKind, Result};
use crate::format::commit::Commit;
use crate::format::entry::{Content, Entry, Put};
use crate::format::{FormatError, Rule};
use crate::hash::Hash;
use crate::segment::{self, Committed};
use crate::tree::{Frontier, Node};
use frames::FrameCache;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use units::{EntryAt, Stored, Unit};

/// How to open a pack for reading.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The machine that the file is on.
    pub machine: Machine,
    /// Whether the file may be mapped (the default). Switch it off for a file that others may cut
    /// while it is read; see [`crate::disk::Map`]. Files on network file systems never are mapped.
    pub mapped: bool,
    /// Decoded frames are kept up to this many bytes.
    pub cache_bytes: u64,
    /// [`Pack::get`] refuses objects longer than this; [`Pack::reader`] reads any.
    pub object_bytes_max: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            machine: Machine::real(),
            mapped: true,
            cache_bytes: 48 << 20,
            object_bytes_max: 1 << 30,
        }
    }
}

/// A pack, opened for reading.
///
/// Shows the newest commit at the time of opening; a writer that goes on does not disturb it.
/// Shared by threads as it is. Everything that it returns was checked: content against its BLAKE3
/// name, entries and indexes against the hashes in frames and footers.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.pefc");
/// let mut writer = pefc::Writer::create(&path, pefc::WriteOptions::default())?;
/// writer.put("proofs/one", b"qed")?;
/// writer.finish()?;
///
/// let pack = pefc::Pack::open(&path)?;
/// assert_eq!(pack.get("proofs/one")?.as_deref(), Some(&b"qed"[..]));
/// assert_eq!(pack.get("proofs/two")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pack {
    bytes: Arc<dyn ReadAt>,
    path: Option<PathBuf>,
    options: OpenOptions,
    last: Commit,
    end: u64,
    torn_bytes: u64,
    units: Vec<Unit>,
    frames: Arc<FrameCache>,
}

/// A generation: the state of the pack at a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Number, from 1.
    pub number: u64,
    /// Entries in the log, the seal included.
    pub log_size: u64,
    /// Root of the log (RFC 6962).
    pub log_root: Node,
    /// Leaves of the map: live keys and distinct contents.
    pub map_size: u64,
    /// Root of the map of live entries.
    pub map_root: Node,
    /// Distinct contents of live entries.
    pub object_count: u64,
    /// Their bytes, each content once.
    pub object_bytes: u64,
    /// Seconds since 1970, if the writer recorded them.
    pub time_s: Option<u64>,
    /// End of the pack file at this generation.
    pub end: u64,
}

impl Pack {
    /// Opens the pack at `path` with default options.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::NotAPack`], [`ErrorKind::Truncated`] if not even one
    /// commit is whole, [`ErrorKind::Corrupt`] if what proves to have been committed is damaged,
    /// [`ErrorKind::Unsupported`] for a later format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, OpenOptions::default())
    }

    /// Opens the pack at `path`.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn open_with(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        let opening = |source| Error::opening("opening the pack", path, source);
        let file = options.machine.vfs.open_read(path).map_err(opening)?;
        let bytes = FileBytes::new(file, options.mapped).map_err(opening)?;
        Self::over(Arc::new(bytes), Some(path.to_owned()), options).map_err(|error| error.at(path))
    }

    /// Opens a pack that is in memory.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::over(Arc::new(bytes), None, OpenOptions::default())
    }

    pub(crate) fn over(
        bytes: Arc<dyn ReadAt>,
        path: Option<PathBuf>,
        options: OpenOptions,
    ) -> Result<Self> {
        let committed = segment::find_committed(&*bytes)?;
        Self::at_commit(bytes, path, options, committed)
    }

    fn at_commit(
        bytes: Arc<dyn ReadAt>,
        path: Option<PathBuf>,
        options: OpenOptions,
        committed: Committed,
    ) -> Result<Self> {
        let units = units::open_units(&bytes, &committed)?;
        Ok(Self {
            frames: Arc::new(FrameCache::new(options.cache_bytes)),
            bytes,
            path,
            options,
            last: committed.last,
            end: committed.end,
            torn_bytes: committed.torn_bytes,
            units,
        })
    }

    /// The pack as it is now, if anything was committed since it was opened; `None` if nothing was.
    /// Costs what is new, not what is there, and shares decoded frames with this one.
    ///
    /// # Errors
    /// As [`Pack::open`]; [`ErrorKind::Usage`] for a pack in memory.
    pub fn refreshed(&self) -> Result<Option<Self>> {
        refresh::refreshed(self)
    }

    /// The same pack as it was at generation `number`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such generation.
    pub fn at_generation(&self, number: u64) -> Result<Self> {
        let footer = self.footers().find_map(|footer| match footer {
            Ok(footer) => {
                let before = self.generation_before(&footer);
                match before {
                    Ok(before) if footer.generation == number && before < number => {
                        Some(Ok(footer))
                    }
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                }
            }
            Err(error) => Some(Err(error)),
        });
        let footer = footer.unwrap_or_else(|| {
            let newest = self.last.generation;
            let what = format!("there is no generation {number}; the newest is {newest}");
            Err(self.error(Error::new(ErrorKind::NotFound, what)))
        })?;
        let (header, _) = segment::read_frame_header(&*self.bytes, footer.frame_offset)?;
        let committed = Committed {
            end: header.next_offset(),
            footer: Some(footer.clone()),
            last: footer,
            torn_bytes: 0,
            tail: Vec::new(),
        };
        Self::at_commit(Arc::clone(&self.bytes), self.path.clone(), self.options.clone(), committed)
    }

    fn generation_before(&self, commit: &Commit) -> Result<u64> {
        match commit.previous_footer {
            0 => Ok(0),
            offset => Ok(segment::read_commit(&*self.bytes, offset)?.2.generation),
        }
    }

    /// Footers, newest first.
    fn footers(&self) -> impl Iterator<Item = Result<Commit>> + '_ {
        let mut next = match &self.last {
            last if last.footer.is_some() => last.frame_offset,
            last => last.previous_footer,
        };
        std::iter::from_fn(move || {
            if next == 0 {
                return None;
            }
            match segment::read_commit(&*self.bytes, next) {
                Ok((_, _, commit)) => {
                    next = commit.previous_footer;
                    Some(Ok(commit))
                }
                Err(error) => {
                    next = 0;
                    Some(Err(self.error(error)))
                }
            }
        })
    }

    /// All generations, newest first.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a footer or seal is damaged.
    pub fn generations(&self) -> Result<Vec<Generation>> {
        let footers: Vec<Commit> = self.footers().collect::<Result<_>>()?;
        let mut generations = Vec::new();
        for (index, footer) in footers.iter().enumerate() {
            let before = footers.get(index + 1).map_or(0, |older| older.generation);
            if footer.generation > before {
                generations.push(self.generation_at(footer)?);
            }
        }
        Ok(generations)
    }

    fn generation_at(&self, footer: &Commit) -> Result<Generation> {
        let place = footer.seal.ok_or(FormatError::new(Rule::Seal, footer.frame_offset))?;
        let found = units::entry_at(self, place, Rule::Seal).map_err(|error| self.error(error))?;
        let Entry::Seal(seal) = found.entry()? else {
            return Err(self.error(FormatError::new(Rule::Seal, place.frame_offset())));
        };
        let (header, _) = segment::read_frame_header(&*self.bytes, footer.frame_offset)?;
        let frontier = frontier_of(footer)?;
        Ok(Generation {
            number: footer.generation,
            log_size: footer.log_size,
            log_root: frontier.root(),
            map_size: seal.map_size,
            map_root: seal.map_root,
            object_count: seal.object_count,
            object_bytes: seal.object_bytes,
            time_s: seal.time_s,
            end: header.next_offset(),
        })
    }

    /// The newest generation, if the pack was sealed at all.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if its footer or seal is damaged.
    pub fn newest_generation(&self) -> Result<Option<Generation>> {
        let number = self.last.generation;
        if number == 0 {
            return Ok(None);
        }
        let mut newest = None;
        for footer in self.footers() {
            let footer = footer?;
            if footer.generation < number {
                break;
            }
            newest = Some(footer);
        }
        newest.map(|footer| self.generation_at(&footer)).transpose()
    }

    /// The content under `key`; `None` if the key is not there or has no content (a directory).
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] for content longer than [`OpenOptions::object_bytes_max`]; otherwise as
    /// any read: [`ErrorKind::Corrupt`], [`ErrorKind::Missing`], [`ErrorKind::Io`].
    pub fn get<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<Vec<u8>>> {
        let Some(content) = self.content(key.into())? else {
            return Ok(None);
        };
        match self.object(&content.name)? {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.error(Error::missing(&content.name, "though an entry names it"))),
        }
    }

    /// The content named `name`; `None` if it is not in the pack.
    ///
    /// # Errors
    /// As [`Pack::get`].
    pub fn object(&self, name: &Hash) -> Result<Option<Vec<u8>>> {
        match self.stored(name)? {
            None => Ok(None),
            Some(Stored::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Stored::List(list)) => {
                let len = list.list().len;
                if len > self.options.object_bytes_max {
                    let most = self.options.object_bytes_max;
                    let what =
                        format!("object {name} has {len} bytes, more than the limit of {most}");
                    return Err(self.error(Error::new(ErrorKind::Limit, what)));
                }
                let mut out = Vec::new();
                let capacity = usize::try_from(len).unwrap_or(usize::MAX);
                out.try_reserve_exact(capacity).map_err(|source| {
                    let what = format!("no memory for object {name} of {len} bytes");
                    self.error(Error::new(ErrorKind::Limit, what).because(source))
                })?;
                ObjectReader::new(self, *name, Stored::List(list)).copy_to(|part| {
                    out.extend_from_slice(part);
                    Ok(())
                })?;
                Ok(Some(out))
            }
        }
    }

    /// Whether the pack holds content named `name`. Says so from the content itself, not from the
    /// index alone.
    ///
    /// # Errors
    /// As [`Pack::get`].
    pub fn contains(&self, name: &Hash) -> Result<bool> {
        Ok(self.stored(name)?.is_some())
    }

    /// Where the indexes say that content named `name` lies: one or two cache misses, no reading of
    /// content. An index holds the first eight bytes of a name, so this is a good guess, and
    /// [`Pack::contains`] the answer.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a page of an index is damaged.
    pub fn indexed_place(&self, name: &Hash) -> Result<Option<crate::format::Locator>> {
        units::indexed_place(self, name).map_err(|error| self.error(error))
    }

    /// The content under `key`, to read and seek in; any length in bounded memory.
    ///
    /// # Errors
    /// As [`Pack::get`].
    pub fn reader<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<ObjectReader<'_>>> {
        let Some(content) = self.content(key.into())? else {
            return Ok(None);
        };
        match self.object_reader(&content.name)? {
            Some(reader) => Ok(Some(reader)),
            None => Err(self.error(Error::missing(&content.name, "though an entry names it"))),
        }
    }

    /// The content named `name`, to read and seek in.
    ///
    /// # Errors
    /// As [`Pack::get`].
    pub fn object_reader(&self, name: &Hash) -> Result<Option<ObjectReader<'_>>> {
        Ok(self.stored(name)?.map(|stored| ObjectReader::new(self, *name, stored)))
    }

    /// The live entry of `key`.
    ///
    /// # Errors
    /// As [`Pack::get`].
    pub fn entry<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<Put<'static>>> {
        let key = key.into().encode();
        match self.find_entry(&key)? {
            Some(found) => match found.entry()? {
                Entry::Put(put) => Ok(Some(put.into_owned())),
                _ => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// All live entries of the path space, in key order.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        self.entries_under("")
    }

    /// The live entries whose key begins with `prefix` (any bytes, not only whole path parts), in
    /// the space of `prefix`, in key order.
    #[must_use]
    pub fn entries_under<'k>(&self, prefix: impl Into<Key<'k>>) -> Entries<'_> {
        Entries::new(self, prefix.into().encode())
    }

    /// The live entries of all spaces, in key order.
    pub(crate) fn entries_in_order(&self) -> Entries<'_> {
        Entries::new(self, Vec::new())
    }

    /// The live keys that begin with `prefix`, in the space of `prefix`, in order: faster than
    /// [`Pack::entries_under`] where only keys are wanted.
    #[must_use]
    pub fn keys_under<'k>(&self, prefix: impl Into<Key<'k>>) -> Keys<'_> {
        Keys::new(self, prefix.into().encode())
    }

    /// [`Pack::entries_under`], from the first key on that is not less than `from`.
    pub(crate) fn entries_from(&self, prefix: &Key<'_>, from: &Key<'_>) -> Entries<'_> {
        Entries::new(self, prefix.encode()).starting(from.encode())
    }

    /// [`Pack::keys_under`], from the first key on that is not less than `from`.
    pub(crate) fn keys_from(&self, prefix: &Key<'_>, from: &Key<'_>) -> Keys<'_> {
        Keys::new(self, prefix.encode()).starting(from.encode())
    }

    /// The newest commit.
    #[must_use]
    pub fn commit(&self) -> &Commit {
        &self.last
    }

    /// Number of the newest generation, 0 if the pack was never sealed.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.last.generation
    }

    /// End of what is committed, in bytes from the beginning of the file.
    #[must_use]
    pub fn committed_bytes(&self) -> u64 {
        self.end
    }

    /// Bytes behind the last commit: an unfinished one. They are not part of the pack.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Length of the file when it was opened.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.bytes.len()
    }

    /// Frames of the pack, in file order, for inspection.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] where a header breaks the chain.
    pub fn frames(&self) -> Result<Vec<crate::format::frame::FrameHeader>> {
        let mut walker = segment::Walker::new(&*self.bytes, self.end);
        let mut frames = Vec::new();
        while let Some(step) = walker.next()? {
            match step {
                segment::Step::Frame(header) | segment::Step::Commit(header, _) => {
                    frames.push(header)
                }
                segment::Step::Segment(_) => {}
            }
        }
        Ok(frames)
    }

    /// Adds the path to an error.
    fn error(&self, error: impl Into<Error>) -> Error {
        let error = error.into();
        match &self.path {
            Some(path) => error.at(path),
            None => error,
        }
    }

    /// Which content is under `key`.
    fn content(&self, key: Key<'_>) -> Result<Option<Content>> {
        match self.find_entry(&key.encode())? {
            Some(found) => found.content().map_err(|error| self.error(error)),
            None => Ok(None),
        }
    }

    fn stored(&self, name: &Hash) -> Result<Option<Stored>> {
        units::find_object(self, name).map_err(|error| self.error(error))
    }

    pub(crate) fn find_entry(&self, key: &[u8]) -> Result<Option<EntryAt>> {
        units::find_entry(self, key).map_err(|error| self.error(error))
    }
}

/// The log as it is at a commit.
fn frontier_of(commit: &Commit) -> segment::Result<Frontier> {
    let frontier = Frontier::from_parts(commit.log_size, commit.frontier.clone());
    frontier.ok_or_else(|| FormatError::new(Rule::LogRoot, commit.frame_offset).into())
}
