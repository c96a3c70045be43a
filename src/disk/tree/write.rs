//! Writing a tree below a directory, and nowhere else.

use super::read::{list, stat};
use super::resolve::Dirs;
use super::{FileKind, Metadata, TreeError, number};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod,
    fchown, fstat, futimens, linkat, mkdirat, openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PRIVATE_FILE: Mode = Mode::from_raw_mode(0o600);
const PRIVATE_DIR: Mode = Mode::from_raw_mode(0o700);

/// Metadata to give to a file or directory; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits, given exactly: the umask isn't applied (see [`process_umask`]).
    pub mode: Option<u32>,
    /// Whether the setuid, setgid and sticky bits of `mode` (`0o7000`) count. They are dropped
    /// otherwise, and a setuid file is not something to make out of a foreign pack by default.
    pub special_bits: bool,
    /// User and group id. Giving files away takes privileges (`EPERM`).
    pub owner: Option<(u32, u32)>,
    /// Time of last modification: seconds since 1970, negative before, and nanoseconds below
    /// 1,000,000,000 to add. The access time is left alone.
    pub mtime: Option<(i64, u32)>,
}

impl Attributes {
    fn times(&self) -> io::Result<Option<Timestamps>> {
        let Some((seconds, nanoseconds)) = self.mtime else {
            return Ok(None);
        };
        // Two values above this mean "now" and "leave it" to the kernel.
        if nanoseconds >= 1_000_000_000 {
            return Err(invalid("nanoseconds of a time out of range"));
        }
        Ok(Some(Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: number(seconds)?, tv_nsec: number(nanoseconds)? },
        }))
    }

    fn owner(&self) -> io::Result<Option<(Uid, Gid)>> {
        match self.owner {
            // -1 means "leave it" to the kernel.
            Some((u32::MAX, _) | (_, u32::MAX)) => Err(invalid("owner out of range")),
            Some((uid, gid)) => Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid)))),
            None => Ok(None),
        }
    }

    /// Owner before mode, because giving a file away clears setuid; and so a file whose owner
    /// could not be set never gets the setuid bit of somebody else.
    fn apply(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let (times, owner) = (self.times()?, self.owner()?);
        if let Some((uid, gid)) = owner {
            fchown(fd, Some(uid), Some(gid))?;
        }
        let mode = self.mode.map(|mode| mode & if self.special_bits { 0o7777 } else { 0o777 });
        if let Some(mode) = mode {
            fchmod(fd, raw_mode(mode)?)?;
        }
        if let Some(times) = &times {
            futimens(fd, times)?;
        }
        if let Some(mode) = mode
            && mode & 0o7000 != 0
            && Metadata::from_stat(&fstat(fd)?)?.mode != mode
        {
            // Dropped without a word, as setgid is for a group that we are not in.
            return Err(Errno::PERM.into());
        }
        Ok(())
    }
}

/// A directory to extract into. Nothing is created, changed or removed outside it.
///
/// Shared between threads by reference. All paths are relative to it and checked by
/// [`super::check_path`]; a symbolic link in the place of a directory of the path is
/// [`super::Rule::Symlink`]. What is created is private at first (files `0600`, directories
/// `0700`, less the umask): give the final modes last, the deepest directories first.
#[derive(Debug)]
pub struct TargetDir {
    dirs: Dirs,
    created: bool,
}

impl TargetDir {
    /// Opens the directory that the user named, following symbolic links, or creates it with
    /// mode `0700`. The directory above must exist. It must be readable.
    pub fn create_or_open(path: &Path) -> io::Result<Self> {
        let created = match rustix::fs::mkdir(path, PRIVATE_DIR) {
            Ok(()) => true,
            // Not our business if opening works: a directory that is there may be on a file
            // system that is read-only above it, and so on.
            Err(_) if path.is_dir() => false,
            Err(errno) => return Err(errno.into()),
        };
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if created {
            flags |= OFlags::NOFOLLOW;
        }
        let root = retry_on_intr(|| openat(rustix::fs::CWD, path, flags, Mode::empty()))?;
        Ok(Self { dirs: Dirs::new(Arc::new(root)), created })
    }

    /// Whether [`TargetDir::create_or_open`] created it.
    #[must_use]
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// Whether there is no name in it.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(list(self.dirs.root().as_fd())?.is_empty())
    }

    #[cfg(test)]
    #[cfg(target_os = "linux")]
    pub(super) fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// What `path` is; of a symbolic link, the link itself.
    pub fn metadata(&self, path: &[u8]) -> Result<Metadata, TreeError> {
        self.dirs.at(path, |dir, name| stat(dir.as_fd(), name))
    }

    /// Whether there is anything at `path`, be it a symbolic link that leads nowhere.
    pub fn exists(&self, path: &[u8]) -> Result<bool, TreeError> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(TreeError::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates a directory with mode `0700`; one that exists is `EEXIST`, as is a link to one.
    pub fn create_dir(&self, path: &[u8]) -> Result<(), TreeError> {
        self.dirs.at(path, |dir, name| Ok(mkdirat(dir, name, PRIVATE_DIR)?))
    }

    /// Creates a file with mode `0600`; whatever exists at `path` already is `EEXIST`. The name
    /// is there at once. It is removed again if the file is dropped without
    /// [`TargetFile::finish`].
    pub fn create_file(&self, path: &[u8]) -> Result<TargetFile, TreeError> {
        self.dirs.at(path, |dir, name| {
            Ok(TargetFile {
                file: create(dir.as_fd(), name)?.into(),
                dir: Arc::clone(dir),
                name: name.to_vec(),
                becomes: None,
                finished: false,
            })
        })
    }

    /// A file that takes the place of whatever file or link is at `path`, or of nothing, in
    /// [`TargetFile::finish`], at once and whole. Until then it has a temporary name
    /// (`.pefc-tmp-...`) in the same directory. A directory at `path` is `EISDIR` then.
    ///
    /// What was there is neither written to nor followed: other hard links of an old file keep
    /// the old contents, and a symbolic link itself is replaced.
    pub fn replace_file(&self, path: &[u8]) -> Result<TargetFile, TreeError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        self.dirs.at(path, |dir, name| {
            for _ in 0..1000 {
                let count = COUNTER.fetch_add(1, Ordering::Relaxed);
                let temporary = format!(".pefc-tmp-{:x}-{count:x}", std::process::id());
                match create(dir.as_fd(), temporary.as_bytes()) {
                    Err(Errno::EXIST) => {} // left by a crash
                    fd => {
                        return Ok(TargetFile {
                            file: fd?.into(),
                            dir: Arc::clone(dir),
                            name: temporary.into_bytes(),
                            becomes: Some(name.to_vec()),
                            finished: false,
                        });
                    }
                }
            }
            Err(Errno::EXIST.into())
        })
    }

    /// Creates a symbolic link with any `target`, which is not looked at: whether a link may
    /// point out of the tree is the caller's policy, and nothing here follows it. `EEXIST` if
    /// `path` exists.
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<(), TreeError> {
        self.dirs.at(path, |dir, name| Ok(symlinkat(target, dir, name)?))
    }

    /// Gives the regular file `existing`, which must be below this directory too, the second
    /// name `path`. Anything but a regular file is an [`io::ErrorKind::InvalidInput`]: a symbolic
    /// link isn't followed and isn't linked. `EEXIST` if `path` exists.
    pub fn hard_link(&self, existing: &[u8], path: &[u8]) -> Result<(), TreeError> {
        let (old_dir, old_name) = self.dirs.parent(existing)?;
        let before = stat(old_dir.as_fd(), old_name)?;
        if before.kind != FileKind::File {
            return Err(invalid("a hard link to something that is no regular file").into());
        }
        self.dirs.at(path, |dir, name| {
            linkat(&old_dir, old_name, dir, name, AtFlags::empty())?;
            let after = stat(dir.as_fd(), name)?;
            if (after.device, after.inode, after.kind) != (before.device, before.inode, before.kind)
            {
                // Somebody exchanged `existing` in between.
                unlinkat(dir, name, AtFlags::empty())?;
                return Err(invalid("a file was exchanged while it was linked"));
            }
            Ok(())
        })
    }

    /// Creates a named pipe with the permission bits `mode` (`0o777` at most), less the umask.
    /// [`io::ErrorKind::Unsupported`] on macOS. `EEXIST` if `path` exists.
    pub fn make_fifo(&self, path: &[u8], mode: u32) -> Result<(), TreeError> {
        self.dirs.at(path, |dir, name| fifo(dir.as_fd(), name, mode & 0o777))
    }

    /// Creates a character or block device with the permission bits `mode` (`0o777` at most), less
    /// the umask. Takes privileges (`EPERM`); [`io::ErrorKind::Unsupported`] on macOS.
    pub fn make_device(
        &self,
        path: &[u8],
        is_block: bool,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), TreeError> {
        self.dirs
            .at(path, |dir, name| device(dir.as_fd(), name, is_block, mode & 0o777, (major, minor)))
    }

    /// Removes anything but a directory. A symbolic link itself is removed.
    pub fn remove_file(&self, path: &[u8]) -> Result<(), TreeError> {
        self.dirs.at(path, |dir, name| Ok(unlinkat(dir, name, AtFlags::empty())?))
    }

    /// Removes a directory with nothing in it; `ENOTEMPTY` otherwise.
    pub fn remove_empty_dir(&self, path: &[u8]) -> Result<(), TreeError> {
        self.dirs.at(path, |dir, name| Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?))?;
        self.dirs.forget(path);
        Ok(())
    }

    /// Gives the directory `path` its metadata. After all that is to be created in it, because
    /// that changes its time and its mode may forbid it; the deepest directories first.
    pub fn set_dir_metadata(&self, path: &[u8], new: &Attributes) -> Result<(), TreeError> {
        self.dirs.at(path, |dir, name| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = retry_on_intr(|| openat(dir, name, flags, Mode::empty()))?;
            new.apply(fd.as_fd())
        })
    }

    /// Gives the target directory itself its metadata.
    pub fn set_root_metadata(&self, new: &Attributes) -> io::Result<()> {
        new.apply(self.dirs.root().as_fd())
    }

    /// Gives a symbolic link itself (or a named pipe or socket) its owner and time of last
    /// modification, as in [`Attributes`]. A regular file or directory at `path` is an
    /// [`io::ErrorKind::InvalidInput`].
    pub fn set_symlink_metadata(
        &self,
        path: &[u8],
        owner: Option<(u32, u32)>,
        mtime: Option<(i64, u32)>,
    ) -> Result<(), TreeError> {
        let new = Attributes { owner, mtime, ..Attributes::default() };
        let (owner, times) = (new.owner()?, new.times()?);
        self.dirs.at(path, |dir, name| set_node(dir.as_fd(), name, owner, times.as_ref()))
    }

    /// Returns once all that was written to this file system would survive a power cut. One call
    /// at the end is far cheaper than one for each file. Elsewhere than on Linux it asks for all
    /// file systems and can't report a failure.
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        rustix::fs::syncfs(self.dirs.root())?;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        rustix::fs::sync();
        Ok(())
    }
}

/// A file being written, below a [`TargetDir`]. Everything goes through its descriptor: it stays
/// the file that was created, whatever happens to its name.
///
/// Its name is removed if it is dropped without [`TargetFile::finish`].
#[derive(Debug)]
pub struct TargetFile {
    file: File,
    dir: Arc<OwnedFd>,
    name: Vec<u8>,
    /// The name to take in the end, if that is another one.
    becomes: Option<Vec<u8>>,
    finished: bool,
}

impl TargetFile {
    /// Writes all of `buf` after what was written by this method before.
    pub fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        (&self.file).write_all(buf)
    }

    /// Writes all of `buf` at `offset` bytes, growing the file as needed; what is passed over
    /// becomes a hole. Doesn't move the place of [`TargetFile::write_all`].
    pub fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    /// Cuts or extends (with a hole) to `len` bytes.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Gives it its metadata, after the last byte was written: writing changes the time and
    /// clears setuid. After `EPERM` one may try again without owner and special bits; until its
    /// owner is set, the file keeps the mode that it had.
    pub fn set_metadata(&self, new: &Attributes) -> io::Result<()> {
        new.apply(self.file.as_fd())
    }

    /// Returns once the contents would survive a power cut; not the name. It is also where a
    /// network file system or a quota reports what it accepted too early: closing doesn't.
    pub fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Keeps the file, and gives it its name if it replaces another one.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(name) = &self.becomes {
            renameat(&self.dir, &self.name, &self.dir, name)?;
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody to tell; what is left then is a private file with an incomplete content.
            let _ = unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// The permission bits that this process's umask takes away, for callers who want created files
/// to have `mode & !umask`. Elsewhere than on Linux it is set for a moment to learn it: call it
/// before there are threads that create files.
pub fn process_umask() -> io::Result<u32> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(umask) = status.lines().find_map(|line| line.strip_prefix("Umask:"))
        && let Ok(umask) = u32::from_str_radix(umask.trim(), 8)
    {
        return Ok(umask);
    }
    let old = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(old);
    number(old.as_raw_mode())
}

fn create(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| openat(dir, name, flags, PRIVATE_FILE))
}

fn raw_mode(mode: u32) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(number::<_, RawMode>(mode)?))
}

#[cfg(not(target_vendor = "apple"))]
fn fifo(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkfifoat(dir, name, raw_mode(mode)?)?)
}

#[cfg(target_vendor = "apple")]
fn fifo(_: BorrowedFd<'_>, _: &[u8], _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_vendor = "apple"))]
fn device(
    dir: BorrowedFd<'_>,
    name: &[u8],
    is_block: bool,
    mode: u32,
    (major, minor): (u32, u32),
) -> io::Result<()> {
    let kind = if is_block {
        rustix::fs::FileType::BlockDevice
    } else {
        rustix::fs::FileType::CharacterDevice
    };
    let number = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(dir, name, kind, raw_mode(mode)?, number)?)
}

#[cfg(target_vendor = "apple")]
fn device(_: BorrowedFd<'_>, _: &[u8], _: bool, _: u32, _: (u32, u32)) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// By a descriptor of the node itself, so that a hard link to some file that is put there in
/// between isn't given away.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_node(
    dir: BorrowedFd<'_>,
    name: &[u8],
    owner: Option<(Uid, Gid)>,
    times: Option<&Timestamps>,
) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = retry_on_intr(|| openat(dir, name, flags, Mode::empty()))?;
    check_node(&Metadata::from_stat(&fstat(&node)?)?)?;
    if let Some((uid, gid)) = owner {
        chownat(&node, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    if let Some(times) = times {
        match utimensat(&node, "", times, AtFlags::EMPTY_PATH) {
            // Before Linux 5.8.
            Err(Errno::INVAL) => utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW)?,
            result => result?,
        }
    }
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_node(
    dir: BorrowedFd<'_>,
    name: &[u8],
    owner: Option<(Uid, Gid)>,
    times: Option<&Timestamps>,
) -> io::Result<()> {
    check_node(&stat(dir, name)?)?;
    if let Some((uid, gid)) = owner {
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if let Some(times) = times {
        utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn check_node(node: &Metadata) -> io::Result<()> {
    match node.kind {
        FileKind::File | FileKind::Directory => Err(invalid("not a symbolic link")),
        _ => Ok(()),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
