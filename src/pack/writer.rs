//! Writing a pack: putting, committing, sealing.

mod commit;
mod content;
mod footer;
mod intake;
mod live;
mod objects;
mod out;
mod pool;
mod put;
mod replay;
mod sign;
mod similar;
mod turn;

use super::signatures::derived_nonce;
use super::units::Unit;
use super::{OpenOptions, Pack, frontier_of};
use crate::compress::LEVEL_DEFAULT;
use crate::disk::{File, FileBytes, Latched, LockError, Machine, parent_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::format::commit::Section;
use crate::format::entry::{Entry, Genesis, RawPairs};
use crate::format::frame::FrameKind;
use crate::format::index::ObjectRow;
use crate::format::segment::Layout;
use crate::format::{EntryPlace, TAIL_BYTES_MAX};
use crate::hash::Hash;
use crate::segment::{Committed, Walker, find_committed};
use crate::tree::{Frontier, Node};
use intake::Intake;
pub(crate) use live::LiveMap;
use live::Overlay;
pub(in crate::pack) use live::SealedMap;
use out::{OpenSegment, Out};
use pool::Pool;
pub(in crate::pack) use replay::Replay;
pub use sign::{SealSigner, Signers};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Body of a frame of records, about.
const RECORDS_FRAME_BYTES: usize = 64 << 10;

/// How often in a row another file may take the name of a pack that is being locked.
const REPLACED_MAX: usize = 16;

/// How to write a pack.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The machine that the file is on.
    pub machine: Machine,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Threads that compress. The bytes of the pack do not depend on it.
    pub threads: usize,
    /// How small objects are laid out: together for archives, one by one for stores.
    pub layout: Layout,
    /// Content of a frame of small objects, about, in bytes: larger compresses better, smaller is
    /// read faster. 64 KiB to 8 MiB. Only for [`Layout::Archive`].
    pub frame_bytes: usize,
    /// Whether every frame is decoded and its objects named again before it is committed.
    pub verify_writes: bool,
    /// Whether entries also carry the SHA-256 of their content.
    pub sha256: bool,
    /// Time to record in seals, in seconds since 1970. None by default, so that the same input
    /// gives the same pack.
    pub time_s: Option<u64>,
    /// Name of a new log in checkpoints; empty for one made of its nonce.
    pub origin: String,
    /// Who must sign a new log; none by default.
    pub signers: Signers,
    /// Signs every seal that this writer makes, in the commit of the seal.
    pub signer: Option<Arc<dyn SealSigner>>,
    /// Whether [`Writer::create`] may replace an existing file.
    pub replace: bool,
    /// A commit also writes an index once so many bytes were committed without one: less is faster
    /// to open after a crash, more is faster to write. At most 64 MiB, the bound of the format.
    pub tail_bytes_max: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            machine: Machine::real(),
            level: LEVEL_DEFAULT,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            layout: Layout::Archive,
            frame_bytes: 2 << 20,
            verify_writes: true,
            sha256: false,
            time_s: None,
            origin: String::new(),
            signers: Signers::default(),
            signer: None,
            replace: false,
            tail_bytes_max: TAIL_BYTES_MAX,
        }
    }
}

/// What a writer did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Keys that got a new value.
    pub put_count: u64,
    /// Puts that changed nothing.
    pub unchanged_count: u64,
    /// Keys that were deleted.
    pub deleted_count: u64,
    /// Bytes of content that were put, duplicates included.
    pub content_bytes: u64,
    /// Objects that were new to the pack; chunks of large ones count each.
    pub new_object_count: u64,
    /// Their bytes.
    pub new_object_bytes: u64,
    /// Bytes that the file grew by.
    pub stored_bytes: u64,
    /// The newest generation.
    pub generation: u64,
    /// Entries in the log.
    pub log_size: u64,
    /// Root of the log.
    pub log_root: Node,
    /// Root of the map at the newest seal.
    pub map_root: Node,
}

/// Writes one pack. There is one writer at a time; readers are not disturbed.
///
/// What was put is staged until [`Writer::commit`] or [`Writer::seal`] returns: then it survives a
/// crash. A crash before leaves the pack as it was at the last commit. Dropping a writer without
/// [`Writer::finish`] gives up what was not committed; a new pack then leaves no file.
///
/// After a failed write, sync or commit the writer refuses everything else: see [`ErrorKind::Durability`].
#[derive(Debug)]
pub struct Writer {
    options: WriteOptions,
    path: PathBuf,
    /// The name that a new pack has until its first commit.
    temporary: Option<PathBuf>,
    /// Whether a new pack keeps its temporary name, and need not be on disk, until it is released.
    held: bool,
    out: Out,
    pool: Pool,
    intake: Intake,
    /// The pack below: what was committed when it was opened.
    base: Option<Pack>,
    /// Entries that were committed since `base` was opened: their places, and their bytes (none for
    /// deletes).
    overlay: Overlay,
    /// Entries of the next commit by space and key.
    staged: BTreeMap<Vec<u8>, Staged>,
    /// Changes of signers of the next commit.
    signer_entries: Vec<Vec<u8>>,
    /// The genesis that this writer wrote.
    genesis: Option<Vec<u8>>,
    /// The newest frame of signatures.
    signatures: Option<Section>,
    /// Names of objects that this writer has stored since `base` was opened.
    known: HashSet<Hash>,
    /// Objects in frames since the last footer.
    rows: Vec<ObjectRow>,
    /// Whether this segment holds commits already.
    segment_has_commits: bool,
    /// Large contents of the base, for finding earlier versions.
    large: Option<Vec<(Vec<u8>, Hash)>>,
    frontier: Frontier,
    number: u64,
    generation: u64,
    seal: Option<EntryPlace>,
    /// Log size and root at the newest seal, and its map root.
    sealed: Option<(u64, Node)>,
    map_root: Node,
    previous_footer: u64,
    committed_end: u64,
    start: u64,
    /// Frames were written, or entries staged, since the last commit.
    dirty: bool,
    /// What kind of failure ended this writer, if one did.
    failed: Option<ErrorKind>,
    stats: WriteStats,
}

/// A seal that is about to be written.
#[derive(Debug)]
struct Sealing {
    map: SealedMap,
    entry: Vec<u8>,
}

#[derive(Debug)]
enum Staged {
    Put(Vec<u8>),
    Delete(Vec<u8>),
}

impl Writer {
    /// Begins a new pack at `path`. Until the first commit it has a temporary name in the same
    /// directory; then it takes its own, atomically.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] unless [`WriteOptions::replace`] is set, [`ErrorKind::ReadOnly`],
    /// [`ErrorKind::NoSpace`].
    pub fn create(path: impl AsRef<Path>, options: WriteOptions) -> Result<Self> {
        options.signers.check()?;
        let path = path.as_ref().to_owned();
        let vfs = Arc::clone(&options.machine.vfs);
        match vfs.open_read(&path) {
            Ok(_) if !options.replace => return Err(Self::exists(&path)),
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => {
                return Err(Error::new(ErrorKind::AlreadyExists, "a directory has this name")
                    .at(&path)
                    .hinting("choose another name"));
            }
            _ => {}
        }
        let mut random = [0; 8];
        options
            .machine
            .random
            .fill(&mut random)
            .map_err(|e| Error::io("random bytes", &path, e))?;
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{:016x}.tmp", u64::from_le_bytes(random)));
        let temporary = parent_dir(&path).join(name);
        let file =
            vfs.create_new(&temporary).map_err(|e| Error::io("creating the pack", &path, e))?;
        // Locked before it has its name: nobody gets in between.
        let locked = match file.try_lock() {
            // Unless someone who clears up took it for a left-over before it was locked.
            Ok(()) if vfs.open_read(&temporary).is_err() => Err(Error::locked(&path, None)),
            Ok(()) => Ok(()),
            Err(LockError::Held(holder)) => Err(Error::locked(&path, holder)),
            Err(LockError::Io(error)) => Err(Error::io("locking the pack", &path, error)),
        };
        let out = Out::new(Latched::new(file), 0, None, (0, [0; 8]));
        match locked.and_then(|()| Self::over(path, options, out)) {
            Ok(mut writer) => {
                writer.temporary = Some(temporary);
                Ok(writer)
            }
            Err(error) => {
                let _ = vfs.remove_file(&temporary); // the error says more than a second one
                Err(error)
            }
        }
    }

    fn exists(path: &Path) -> Error {
        Error::new(ErrorKind::AlreadyExists, "the file exists already")
            .at(path)
            .hinting("append to it, or choose another name")
    }

    /// Opens the pack at `path` to append to it. An unfinished commit at its end is cut off.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] with the holder while another writer has it, and all of [`Pack::open`].
    pub fn append(path: impl AsRef<Path>, options: WriteOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let opening = |source| Error::opening("opening the pack for writing", &path, source);
        let file = lock_for_writing(&path, &options.machine).map_err(|error| error.at(&path))?;
        // After the lock, so that nobody appends in between.
        let bytes = FileBytes::new(Arc::clone(&file), false).map_err(opening)?;
        let committed = find_committed(&bytes).map_err(|error| Error::from(error).at(&path))?;
        let segment = open_segment(&bytes, &committed).map_err(|error| error.at(&path))?;
        let latched = Latched::new(file);
        if committed.torn_bytes > 0 {
            latched.set_len(committed.end).map_err(|error| Error::write(&path, error))?;
        }
        // What a killed writer left behind may be in memory only. It must be on disk before anything
        // follows it, or a crash would look like damage.
        // So must the name, if whoever created the pack died before that was.
        latched
            .sync_data()
            .and_then(|()| options.machine.vfs.sync_dir(&parent_dir(&path)))
            .map_err(|error| Error::write(&path, error))?;
        let (_, check) = crate::segment::read_frame_header(&bytes, committed.last.frame_offset)?;
        let last_commit = (committed.last.frame_offset, check);
        let out = Out::new(latched, committed.end, segment, last_commit);
        let mut writer = Self::over(path, options, out)?;
        writer.resume(&committed)?;
        Ok(writer)
    }

    fn over(path: PathBuf, options: WriteOptions, out: Out) -> Result<Self> {
        let start = out.position();
        let frame_bytes = match options.layout {
            Layout::Archive => options.frame_bytes.clamp(64 << 10, 8 << 20),
            Layout::Records => RECORDS_FRAME_BYTES,
        };
        Ok(Self {
            pool: Pool::new(options.threads, options.level, options.verify_writes)?,
            intake: Intake::new(options.layout, frame_bytes),
            options,
            path,
            temporary: None,
            held: false,
            out,
            base: None,
            overlay: Overlay::new(),
            staged: BTreeMap::new(),
            signer_entries: Vec::new(),
            genesis: None,
            signatures: None,
            known: HashSet::new(),
            rows: Vec::new(),
            segment_has_commits: false,
            large: None,
            frontier: Frontier::default(),
            number: 0,
            generation: 0,
            seal: None,
            sealed: None,
            map_root: [0; 32],
            previous_footer: 0,
            committed_end: start,
            start,
            dirty: false,
            failed: None,
            stats: WriteStats::default(),
        })
    }

    /// Takes up where the last commit left off.
    fn resume(&mut self, committed: &Committed) -> Result<()> {
        let last = &committed.last;
        self.frontier = frontier_of(last).map_err(|error| self.fault(error))?;
        self.number = last.number;
        self.generation = last.generation;
        self.seal = last.seal;
        self.previous_footer = match &committed.footer {
            Some(footer) => footer.frame_offset,
            None => 0,
        };
        let footer = committed.footer.as_ref().and_then(|commit| commit.footer.as_ref());
        self.signatures = footer.and_then(|footer| footer.section(FrameKind::Signatures)).copied();
        self.segment_has_commits = !committed.tail.is_empty() || last.footer.is_none();
        let base = self.open_base()?;
        if let Some(generation) = base.newest_generation()? {
            self.sealed = Some((generation.log_size, generation.log_root));
            self.map_root = generation.map_root;
        }
        // The tail becomes part of the next unit.
        for unit in &base.units {
            if let Unit::Scanned(scanned) = unit
                && scanned.footer.is_none()
            {
                self.rows.extend_from_slice(scanned.objects(&base)?);
            }
        }
        self.base = Some(base);
        Ok(())
    }

    fn open_base(&self) -> Result<Pack> {
        let machine = self.options.machine.clone();
        let options = OpenOptions { machine, ..OpenOptions::default() };
        let file = Arc::clone(self.out.file().inner());
        let bytes =
            FileBytes::new(file, true).map_err(|e| Error::io("reading the pack", &self.path, e))?;
        let mut pack = Pack::over(Arc::new(bytes), Some(self.path.clone()), options)?;
        if let Some(before) = &self.base {
            // Committed bytes never change: what was decoded of them stays good.
            pack.frames = Arc::clone(&before.frames);
        }
        Ok(pack)
    }

    /// The pack as it was when the writer opened it; none for a new one.
    #[must_use]
    pub fn base(&self) -> Option<&Pack> {
        self.base.as_ref()
    }

    /// Where its file is, or will be, and under which name it is meanwhile: what an archiver must
    /// not take for a part of the tree.
    pub(crate) fn own_paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.temporary.as_deref())
    }

    /// Makes everything that was put so far durable. Readers that open the pack from now on see it.
    /// Does nothing if nothing was put.
    ///
    /// # Errors
    /// [`ErrorKind::Durability`] if the disk failed: then it is unknown whether this commit is on
    /// disk, and opening the pack again will tell.
    pub fn commit(&mut self) -> Result<()> {
        self.check_alive()?;
        if !self.dirty {
            return Ok(());
        }
        let mut run = Vec::new();
        if self.frontier.size() == 0 {
            let mut nonce = [0; 16];
            let random = self.options.machine.random.fill(&mut nonce);
            random.map_err(|error| Error::io("random bytes", &self.path, error))?;
            run.push(self.genesis(nonce));
        }
        run.append(&mut self.signer_entries);
        self.finish_commit(run, None, false)
    }

    /// Commits, and binds all live entries in a seal: a new generation, indexed in place. Seals even
    /// if nothing changed.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub fn seal(&mut self) -> Result<()> {
        self.check_alive()?;
        // The last frame is compressed while the map is hashed.
        let flushed = self.flush_intake();
        self.end_on_error(flushed)?;
        let map = self.live_map()?;
        let mut run = Vec::new();
        if self.frontier.size() == 0 {
            run.push(self.genesis(derived_nonce(&map.root)));
        }
        run.append(&mut self.signer_entries);
        let entry = self.seal_entry(&map);
        self.finish_commit(run, Some(Sealing { map, entry }), false)
    }

    fn genesis(&self, nonce: [u8; 16]) -> Vec<u8> {
        let genesis = Genesis {
            origin: Cow::Borrowed(&self.options.origin),
            nonce,
            threshold: self.options.signers.threshold,
            vkeys: self.options.signers.vkeys(),
            params: RawPairs::default(),
        };
        Entry::Genesis(genesis).encode()
    }

    /// Seals what is not sealed yet, closes the pack and says what was done.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub fn finish(mut self) -> Result<WriteStats> {
        self.check_alive()?;
        let sealed = self.sealed.is_some_and(|(size, _)| size == self.frontier.size());
        // A commit without entries leaves the log as it was sealed, but the segment open.
        if self.dirty || !sealed || self.segment_has_commits {
            self.seal()?;
        }
        let stats = self.stats();
        Ok(stats)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> WriteStats {
        WriteStats {
            stored_bytes: self.out.position() - self.start,
            generation: self.generation,
            log_size: self.frontier.size(),
            log_root: self.frontier.root(),
            map_root: self.map_root,
            ..self.stats.clone()
        }
    }

    /// Refuses everything once something that was put can't be committed any more: a later commit
    /// would lack it.
    fn check_alive(&self) -> Result<()> {
        let Some(kind) = self.failed else {
            return Ok(());
        };
        let what = "an earlier failure ended this writer";
        Err(Error::new(kind, what).at(&self.path))
    }

    /// Ends this writer if `result` is a failure.
    fn end_on_error<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.failed.get_or_insert(error.kind());
        }
        result
    }

    fn fault(&self, error: impl Into<Error>) -> Error {
        error.into().at(&self.path)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let vfs = &self.options.machine.vfs;
        if let Some(temporary) = &self.temporary {
            // Best effort: the next step would be the same for a person, who sees the file's name.
            let _ = vfs.remove_file(temporary);
        } else if self.out.position() > self.committed_end && self.failed.is_none() {
            // What was not committed is cut off now rather than by the next writer.
            let _ = self.out.file().set_len(self.committed_end);
        }
    }
}

/// Opens the file at `path` and takes its lock. Compacting gives the name to another file: who had
/// opened the old one before takes the new one.
pub(super) fn lock_for_writing(path: &Path, machine: &Machine) -> Result<Arc<dyn File>> {
    let opening = |source| Error::opening("opening the pack for writing", path, source);
    for _ in 0..REPLACED_MAX {
        let file = machine.vfs.open_write(path).map_err(opening)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(LockError::Held(holder)) => return Err(Error::locked(path, holder)),
            Err(LockError::Io(error)) => return Err(opening(error)),
        }
        if file.has_name(path).map_err(opening)? {
            return Ok(file);
        }
    }
    let what = "another file takes the name of the pack again and again";
    Err(Error::new(ErrorKind::Locked, what).at(path))
}

/// The segment that the last commit left open, if it did.
fn open_segment(bytes: &FileBytes, committed: &Committed) -> Result<Option<OpenSegment>> {
    if committed.last.footer.is_some() {
        return Ok(None);
    }
    let mut walker = match &committed.footer {
        Some(footer) => Walker::after(bytes, footer, committed.end)?,
        None => Walker::new(bytes, committed.end),
    };
    while walker.next()?.is_some() {}
    let chain = walker.chain().zip(walker.segment_offset());
    Ok(chain.map(|((previous, ordinal), offset)| OpenSegment { offset, previous, ordinal }))
}
