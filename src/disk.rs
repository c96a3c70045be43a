//! The machine below: files, directories, locks, the clock and randomness, as traits.
//!
//! Every write, sync, rename and lock of a pack goes through [`Vfs`] and [`File`], every time
//! through [`Clock`], every random byte through [`Random`]. A test replaces them and simulates
//! crashes, full disks and jumping clocks without a hook in the product.
//!
//! This layer must not know the format, names, compression or any policy.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod file;
mod mmap;
#[cfg(unix)]
pub mod tree;

pub use file::{OsRandom, RealFs, SystemClock, create_dirs, is_locked, is_same_file};
pub use mmap::{Map, exit_on_bus_error};

/// A file system: opening, creating, renaming and removing files, and making that durable.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens an existing regular file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing regular file for reading and writing. Does not truncate.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates a file that must not exist yet, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates a file that must not exist yet and that only its owner may read, where the file system
    /// has owners.
    fn create_secret(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create_new(path)
    }

    /// Gives `from` the name `to`, atomically. Without `replace` an existing `to` is
    /// [`io::ErrorKind::AlreadyExists`]. Durable only after [`Vfs::sync_dir`].
    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()>;

    /// Removes a file name. Durable only after [`Vfs::sync_dir`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Names of what is in a directory, in no order; files and directories alike.
    fn list_dir(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Creates a directory and those above it that are missing, durably. One that is there already
    /// is left as it is.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable: creations, renames and removals that have returned.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file with positional access. All methods take `&self`: readers share it.
pub trait File: Send + Sync + fmt::Debug {
    /// Length in bytes now.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at most `buf.len()` bytes at `offset`; 0 means end of file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`, growing the file as needed. After an error any part of
    /// it may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns once all that was written, and the length, would survive a power cut.
    fn sync_data(&self) -> io::Result<()>;

    /// Tells the system that these bytes will be synced soon, so that it may begin to write them. A
    /// hint: it promises nothing, and only [`File::sync_data`] says what is on disk.
    fn begin_writeback(&self, _offset: u64, _len: u64) {}

    /// Takes the one writer's lock without waiting. It is released by [`File::unlock`], or when
    /// the file is dropped.
    fn try_lock(&self) -> Result<(), LockError>;

    /// Releases the lock, if this file has it.
    fn unlock(&self) -> io::Result<()>;

    /// Whether `path` leads to this very file: not so once another one was renamed to it.
    fn has_name(&self, path: &Path) -> io::Result<bool>;

    /// Length in bytes now, if `path` leads to this very file; `None` if it does not.
    fn len_under(&self, path: &Path) -> io::Result<Option<u64>> {
        if self.has_name(path)? { self.len().map(Some) } else { Ok(None) }
    }

    /// A read-only mapping of the first `len` bytes, or `None` where this file can't be mapped.
    fn map(&self, len: u64) -> io::Result<Option<Map>>;

    /// Fills `buf` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Who holds a lock, as far as the system tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Process id.
    pub pid: u32,
    /// Name of its program, if it could be read.
    pub program: Option<String>,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "process {} ({program})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another writer has it.
    #[error("locked by {}", .0.as_ref().map_or_else(|| "another writer".to_owned(), LockHolder::to_string))]
    Held(Option<LockHolder>),
    /// The lock could not be asked for.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The wall clock.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    fn now_s(&self) -> i64;

    /// Nanoseconds since 1970-01-01T00:00:00Z, as finely as the clock tells; negative before.
    fn now_ns(&self) -> i64 {
        self.now_s().saturating_mul(1_000_000_000)
    }

    /// Lets at least `ms` milliseconds pass.
    fn sleep_ms(&self, ms: u64) {
        std::thread::sleep(std::time::Duration::from_millis(ms));
    }
}

/// A source of random bytes fit for keys and nonces.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `buf`.
    fn fill(&self, buf: &mut [u8]) -> io::Result<()>;
}

/// The machine that a pack lives on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Files and directories.
    pub vfs: Arc<dyn Vfs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Machine {
    /// The machine that the process runs on.
    #[must_use]
    pub fn real() -> Self {
        Self { vfs: Arc::new(RealFs), clock: Arc::new(SystemClock), random: Arc::new(OsRandom) }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::real()
    }
}

/// Reads a small file as a whole.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::FileTooLarge`] for more than `bytes_max` bytes.
pub fn read_small(vfs: &dyn Vfs, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = vfs.open_read(path)?;
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let read = file.read_at(&mut part, bytes.len() as u64)?;
        bytes.extend_from_slice(&part[..read]);
        if bytes.len() as u64 > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if read == 0 {
            return Ok(bytes);
        }
    }
}

/// Writes a small file that must not exist yet, and makes it durable. A failure leaves no file.
/// `secret` is for what only its owner may read.
///
/// # Errors
/// Those of the system, [`io::ErrorKind::AlreadyExists`] first of all.
pub fn write_new(vfs: &dyn Vfs, path: &Path, bytes: &[u8], secret: bool) -> io::Result<()> {
    let file = if secret { vfs.create_secret(path)? } else { vfs.create_new(path)? };
    let written = file.write_all_at(bytes, 0).and_then(|()| file.sync_data());
    written.and_then(|()| vfs.sync_dir(&parent_dir(path))).inspect_err(|_| {
        let _ = vfs.remove_file(path); // the error says more than a second one
    })
}

/// Committed bytes to read from: a mapping, a file or a buffer, behind one interface.
///
/// The range `0..len()` never changes while it is held, because committed bytes never change.
pub trait ReadAt: Send + Sync + fmt::Debug {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, borrowed where they are in memory already.
    /// A range past the end is [`io::ErrorKind::UnexpectedEof`], before anything is allocated.
    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;

    /// All the bytes, if they are in memory already: then `slice` borrows, and keeping a copy saves
    /// nothing.
    fn memory(&self) -> Option<&[u8]>;
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        in_memory_slice(self, range)
    }

    fn memory(&self) -> Option<&[u8]> {
        Some(self)
    }
}

fn in_memory_slice(bytes: &[u8], range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .map(Cow::Borrowed)
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The first `len` bytes of an open file, mapped if that is possible and wanted.
#[derive(Debug)]
pub struct FileBytes {
    file: Arc<dyn File>,
    len: u64,
    map: Option<Map>,
}

impl FileBytes {
    /// Takes the file as it is now. With `mapped` it is mapped where the system can.
    pub fn new(file: Arc<dyn File>, mapped: bool) -> io::Result<Self> {
        let len = file.len()?;
        let map = if mapped && len > 0 { file.map(len)? } else { None };
        Ok(Self { file, len, map })
    }

    /// The file below.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }
}

impl ReadAt for FileBytes {
    fn len(&self) -> u64 {
        self.len
    }

    fn slice(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        if let Some(map) = &self.map {
            return in_memory_slice(map.as_slice(), range);
        }
        if range.start > range.end || range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(range.end - range.start)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut buf = vec![0; len];
        self.file.read_exact_at(&mut buf, range.start)?;
        Ok(Cow::Owned(buf))
    }

    fn memory(&self) -> Option<&[u8]> {
        self.map.as_ref().map(Map::as_slice)
    }
}

/// A file that refuses all writing after its first failed write, cut or sync.
///
/// After a failed `fsync` the kernel may drop the dirty pages and report success next time
/// (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020): trying again
/// would acknowledge data that is gone.
#[derive(Debug)]
pub struct Latched {
    file: Arc<dyn File>,
    failed: AtomicBool,
}

impl Latched {
    /// Wraps `file`.
    #[must_use]
    pub fn new(file: Arc<dyn File>) -> Self {
        Self { file, failed: AtomicBool::new(false) }
    }

    /// Whether an earlier operation failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The file below, for reading.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// [`File::write_all_at`], latched.
    pub fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.latch(|file| file.write_all_at(buf, offset))
    }

    /// [`File::set_len`], latched.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.latch(|file| file.set_len(len))
    }

    /// [`File::sync_data`], latched.
    pub fn sync_data(&self) -> io::Result<()> {
        self.latch(|file| file.sync_data())
    }

    fn latch(&self, operation: impl FnOnce(&dyn File) -> io::Result<()>) -> io::Result<()> {
        if self.has_failed() {
            return Err(io::Error::other("an earlier write to this file failed"));
        }
        let result = operation(&*self.file);
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// The directory that holds `path`; `.` for a bare name.
#[must_use]
pub fn parent_dir(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct FailsOnce(AtomicBool);

    impl File for FailsOnce {
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            if self.0.swap(false, Ordering::Relaxed) {
                Err(io::Error::other("EIO"))
            } else {
                Ok(())
            }
        }
        fn try_lock(&self) -> Result<(), LockError> {
            Ok(())
        }
        fn unlock(&self) -> io::Result<()> {
            Ok(())
        }
        fn has_name(&self, _: &Path) -> io::Result<bool> {
            Ok(true)
        }
        fn map(&self, _: u64) -> io::Result<Option<Map>> {
            Ok(None)
        }
    }

    #[test]
    fn nothing_is_written_after_a_failed_sync() {
        let file = Latched::new(Arc::new(FailsOnce(AtomicBool::new(true))));
        assert!(file.write_all_at(b"x", 0).is_ok());
        assert!(file.sync_data().is_err());
        assert!(file.sync_data().is_err(), "the file below would say Ok now");
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.has_failed());
    }

    #[test]
    fn a_slice_past_the_end_is_an_error_not_a_panic() {
        let bytes = vec![1_u8, 2, 3];
        assert_eq!(bytes.slice(1..3).unwrap().as_ref(), &[2, 3]);
        for range in [2..4, 4..4, u64::MAX - 1..u64::MAX] {
            assert!(bytes.slice(range).is_err());
        }
    }
}
