//! Reading a tree: one directory, whatever lies below by relative path, one file.

use super::resolve::{DIRECTORY, Dirs, open_component};
use super::{FileKind, Metadata, Walk, check_name};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// One open directory to read from. Clones share its descriptor.
///
/// All names are single components; one with a `/`, `.` and `..` are refused with
/// [`super::UnsafePath`] in an [`io::ErrorKind::InvalidInput`].
#[derive(Debug, Clone)]
pub struct SourceDir {
    fd: Arc<OwnedFd>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name: any bytes but `/` and NUL.
    pub name: Vec<u8>,
}

impl SourceDir {
    /// Opens the directory that the user named. With `follow` a symbolic link at the end of
    /// `path` is followed, else it is an error (`ENOTDIR` or `ELOOP`); links before the end are
    /// always followed. Needs search permission here, read permission only for
    /// [`SourceDir::entries`].
    pub fn open(path: &Path, follow: bool) -> io::Result<Self> {
        let flags = if follow { DIRECTORY } else { DIRECTORY | OFlags::NOFOLLOW };
        let fd = retry_on_intr(|| openat(rustix::fs::CWD, path, flags, Mode::empty()))?;
        Ok(Self::from_fd(Arc::new(fd)))
    }

    pub(super) fn from_fd(fd: Arc<OwnedFd>) -> Self {
        Self { fd }
    }

    /// All names but `.` and `..`, sorted bytewise. Reads the directory anew each time.
    pub fn entries(&self) -> io::Result<Vec<DirEntry>> {
        let names = list(self.fd.as_fd())?;
        Ok(names.into_iter().map(|name| DirEntry { name }).collect())
    }

    /// What the directory itself is.
    pub fn own_metadata(&self) -> io::Result<Metadata> {
        Metadata::from_stat(&fstat(&self.fd)?)
    }

    /// What `name` is; of a symbolic link, the link itself.
    pub fn metadata(&self, name: &[u8]) -> io::Result<Metadata> {
        check_name(name)?;
        stat(self.fd.as_fd(), name)
    }

    /// Opens the directory `name`. A symbolic link is `ELOOP`.
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Self> {
        check_name(name)?;
        let fd = open_component(self.fd.as_fd(), name)?;
        Ok(Self::from_fd(Arc::new(fd)))
    }

    /// Opens the regular file `name`. See [`SourceTree::open_file`].
    pub fn open_file(&self, name: &[u8]) -> io::Result<SourceFile> {
        check_name(name)?;
        SourceFile::open(self.fd.as_fd(), name)
    }

    /// The target of the symbolic link `name`; `EINVAL` if it is none.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        check_name(name)?;
        read_link(self.fd.as_fd(), name)
    }
}

/// Whatever lies below a directory, by relative path. Made to be shared between threads.
///
/// Keeps at most [`super::OPEN_DIRECTORIES`] directories open, whatever the depth, so that the
/// next file of a directory costs no walk to it. A path that runs through a symbolic link, or is
/// spelled against the rules, is refused with [`super::UnsafePath`] in an
/// [`io::ErrorKind::InvalidInput`].
#[derive(Debug)]
pub struct SourceTree {
    pub(super) dirs: Dirs,
}

impl SourceTree {
    /// The tree below `root`.
    #[must_use]
    pub fn new(root: &SourceDir) -> Self {
        Self { dirs: Dirs::new(Arc::clone(&root.fd)) }
    }

    /// The directory at the top.
    #[must_use]
    pub fn root(&self) -> SourceDir {
        SourceDir::from_fd(Arc::clone(self.dirs.root()))
    }

    /// Everything below the root, depth first. See [`Walk`].
    #[must_use]
    pub fn walk(self: &Arc<Self>) -> Walk {
        self.walk_from(b"")
    }

    /// Everything below the directory at `path`; paths are still relative to the root.
    #[must_use]
    pub fn walk_from(self: &Arc<Self>, path: &[u8]) -> Walk {
        Walk::new(Arc::clone(self), path)
    }

    /// The directory at `path`, which stays open as long as it is held.
    pub fn dir(&self, path: &[u8]) -> io::Result<SourceDir> {
        Ok(SourceDir::from_fd(self.dirs.dir_checked(path)?))
    }

    /// What `path` is; of a symbolic link, the link itself.
    pub fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        Ok(self.dirs.at(path, |dir, name| stat(dir.as_fd(), name))?)
    }

    /// Opens the regular file at `path` for reading, without changing its access time where we
    /// may ask for that.
    ///
    /// A symbolic link is `ELOOP`. Anything else that is no regular file is an
    /// [`io::ErrorKind::InvalidInput`]; a named pipe put in the place of a file doesn't block.
    /// A file under another process's lease (Samba) is `EWOULDBLOCK`.
    pub fn open_file(&self, path: &[u8]) -> io::Result<SourceFile> {
        Ok(self.dirs.at(path, |dir, name| SourceFile::open(dir.as_fd(), name))?)
    }

    /// The target of the symbolic link at `path`; `EINVAL` if it is none.
    pub fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        Ok(self.dirs.at(path, |dir, name| read_link(dir.as_fd(), name))?)
    }
}

/// A regular file open for reading. [`io::Read`] reads it from the beginning.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    opened: Metadata,
}

impl SourceFile {
    fn open(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = |more| retry_on_intr(|| openat(dir, name, flags | more, Mode::empty()));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let fd = match open(OFlags::NOATIME) {
            // Allowed to the owner and root only.
            Err(Errno::PERM) => open(OFlags::empty()),
            result => result,
        };
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let fd = open(OFlags::empty());
        let fd = match fd {
            // What a socket, or a device without a driver, answers.
            Err(Errno::NXIO) => return Err(not_a_file()),
            fd => fd?,
        };
        let opened = Metadata::from_stat(&fstat(&fd)?)?;
        if opened.kind != FileKind::File {
            return Err(not_a_file());
        }
        Ok(Self { file: fd.into(), opened })
    }

    /// What it was when it was opened.
    #[must_use]
    pub fn opened(&self) -> &Metadata {
        &self.opened
    }

    /// What it is now. Ask after reading: if [`Metadata::same_state`] with
    /// [`SourceFile::opened`] doesn't hold, the file changed while it was read.
    pub fn metadata(&self) -> io::Result<Metadata> {
        Metadata::from_stat(&fstat(&self.file)?)
    }

    /// Reads at most `buf.len()` bytes; 0 means end of file.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.file, buf)
    }

    /// Reads at most `buf.len()` bytes at `offset`, from any thread; 0 means end of file.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset)
    }
}

impl io::Read for SourceFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf)
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Metadata> {
    Metadata::from_stat(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// The names in `dir`, sorted. Through a descriptor of its own: `dir` may be an `O_PATH` one, and
/// threads that share it would share the position.
pub(super) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| openat(dir, ".", flags, Mode::empty()))?;
    let mut names = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        }
    }
    names.sort_unstable();
    Ok(names)
}
