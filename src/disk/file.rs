//! The machine that the process runs on: files of the operating system, its clock, its randomness.

use super::{Clock, File, LockError, LockHolder, Map, Random, Vfs};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl Vfs for RealFs {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        open(fs::OpenOptions::new().read(true), path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        open(fs::OpenOptions::new().read(true).write(true), path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        open(fs::OpenOptions::new().read(true).write(true).create_new(true), path)
    }

    fn create_secret(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        use std::os::unix::fs::OpenOptionsExt;
        open(fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600), path)
    }

    #[cfg(target_os = "linux")]
    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if replace {
            return fs::rename(from, to);
        }
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system without the flag: a hard link refuses an existing name just as well.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            result => result.map_err(io::Error::from),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        if replace {
            return fs::rename(from, to);
        }
        fs::hard_link(from, to)?;
        fs::remove_file(from)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = super::parent_dir(dir);
        self.create_dir_all(&parent)?;
        match fs::create_dir(dir) {
            // Whoever was faster may not have made it durable yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            result => result?,
        }
        self.sync_dir(&parent)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

/// Opens a file or a block device. Opening a named pipe would wait for somebody who writes to it,
/// so nothing is waited for, and what has no positions to read at is refused.
fn open(options: &mut fs::OpenOptions, path: &Path) -> io::Result<Arc<dyn File>> {
    use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let file = options.custom_flags(flags.cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if !kind.is_file() && !kind.is_block_device() {
        let what = "neither a regular file nor a block device";
        return Err(io::Error::new(io::ErrorKind::NotSeekable, what));
    }
    Ok(Arc::new(RealFile::new(file)))
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    /// A path that led to this file when it was in this state.
    found_under: Mutex<Option<(PathBuf, FileState)>>,
}

/// What the system changes in an inode when it gets a new name or loses one: its times if not its
/// links. What is written to it changes them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    len: u64,
    link_count: u64,
    changed: (i64, i64),
}

impl RealFile {
    fn new(file: fs::File) -> Self {
        Self { file, found_under: Mutex::new(None) }
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn begin_writeback(&self, offset: u64, len: u64) {
        super::mmap::begin_writeback(&self.file, offset, len);
    }

    fn try_lock(&self) -> Result<(), LockError> {
        match self.file.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => Err(LockError::Held(lock_holder(&self.file))),
            Err(fs::TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    fn has_name(&self, path: &Path) -> io::Result<bool> {
        self.len_under(path).map(|len| len.is_some())
    }

    fn len_under(&self, path: &Path) -> io::Result<Option<u64>> {
        // Following a path costs several times what asking for an open file does, and readers ask
        // before every value. While the inode is as it was, the path leads to it as it did.
        let own = self.file.metadata()?;
        let (changed, link_count) = ((own.ctime(), own.ctime_nsec()), own.nlink());
        let state = FileState { len: own.len(), link_count, changed };
        let mut found_under = self.found_under.lock().unwrap_or_else(PoisonError::into_inner);
        if found_under.as_ref().is_some_and(|(known, then)| *then == state && known == path) {
            return Ok(Some(state.len));
        }
        *found_under = None;
        match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == (own.dev(), own.ino()) => {
                *found_under = Some((path.to_owned(), state));
                Ok(Some(found.len()))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn map(&self, len: u64) -> io::Result<Option<Map>> {
        if on_network(&self.file) {
            return Ok(None);
        }
        match Map::new(&self.file, len) {
            Ok(map) => Ok(Some(map)),
            // Pipes, some FUSE and /proc files can't be mapped; they can be read.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Makes a directory of the user's own, and those above it that are missing.
///
/// # Errors
/// Those of the system.
pub fn create_dirs(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether a page of the file may fail to arrive: then a map would die where a read would err.
#[cfg(target_os = "linux")]
fn on_network(file: &fs::File) -> bool {
    // Magic numbers from statfs(2): NFS, SMB, SMB2, CIFS, 9p, FUSE, AFS, Ceph.
    const NETWORK: [u64; 8] = [
        0x6969,
        0x517b,
        0xfe53_4d42,
        0xff53_4d42,
        0x0102_1997,
        0x6573_5546,
        0x5346_414f,
        0x00c3_6400,
    ];
    // The field's type differs between architectures.
    rustix::fs::fstatfs(file)
        .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|magic| NETWORK.contains(&magic)))
}

#[cfg(not(target_os = "linux"))]
fn on_network(_file: &fs::File) -> bool {
    false
}

/// Whether a writer has the file at `path`. Takes a shared lock for a moment to find out.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    fs::File::open(path)
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// Whether two paths lead to one file.
#[must_use]
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path| fs::metadata(path).map(|is: fs::Metadata| (is.dev(), is.ino())).ok();
    id(one).is_some_and(|one| id(other) == Some(one))
}

/// Looks the holder of a lock up in `/proc/locks`: "1: FLOCK ADVISORY WRITE 42 fe:00:1234 0 EOF".
fn lock_holder(file: &fs::File) -> Option<LockHolder> {
    use std::os::unix::fs::MetadataExt;
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid: u32 = locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _mode, access) = (fields.next()?, fields.next()?, fields.next()?);
        let (pid, place) = (fields.next()?, fields.next()?);
        let held = kind == "FLOCK" && access == "WRITE" && place.rsplit(':').next()? == inode;
        if held { pid.parse().ok() } else { None }
    })?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Some(LockHolder { pid, program: program.map(|name| name.trim_end().to_owned()) })
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_s(&self) -> i64 {
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs());
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => seconds(since).unwrap_or(i64::MAX),
            Err(before) => seconds(before.duration()).map_or(i64::MIN, |s| -s),
        }
    }

    fn now_ns(&self) -> i64 {
        let nanoseconds = |duration: std::time::Duration| i64::try_from(duration.as_nanos());
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => nanoseconds(since).unwrap_or(i64::MAX),
            Err(before) => nanoseconds(before.duration()).map_or(i64::MIN, |ns| -ns),
        }
    }
}

/// The randomness of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            match rustix::rand::getrandom(&mut buf[filled..], flags) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
