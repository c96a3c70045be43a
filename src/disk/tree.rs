//! File trees for an archiver: reading one, and writing one that nothing can escape from.
//!
//! Everything is relative to descriptors of directories, never to the working directory, and no
//! symbolic link is followed below the path that the user gave. Names and paths are raw bytes:
//! components of any byte but `/` and NUL, joined with single `/`. Packs are unknown here.
//!
//! | reading | writing |
//! |---|---|
//! | [`SourceDir`]: one open directory | [`TargetDir`]: the directory to extract into |
//! | [`SourceTree`]: whatever lies below, by relative path | [`TargetFile`]: a file being written |
//! | [`Walk`]: all of it, in order | [`Attributes`]: mode, owner and time to give |
//!
//! # What "beneath" means
//!
//! The parent of a path is opened with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
//! RESOLVE_NO_MAGICLINKS)`; where the system lacks that or a sandbox forbids it, component by
//! component with `O_NOFOLLOW`, each relative to the one before. Both refuse a symbolic link in
//! any component, whenever it was put there: the check and the opening are one system call. The
//! last component is then used in ways that do not follow a link either (`O_EXCL`, `O_NOFOLLOW`,
//! `AT_SYMLINK_NOFOLLOW`, `renameat`, `unlinkat`). The textual rules ([`Rule`]) come on top; they
//! are not what holds.
//!
//! # Open directories are remembered
//!
//! [`SourceTree`] and [`TargetDir`] keep the [`OPEN_DIRECTORIES`] last used directories open, so
//! that an entry costs one call and not the walk to it, and so that no tree is too deep for the
//! limit of open files. A descriptor names a directory and not a path. It follows that:
//!
//! * A remembered descriptor can't be turned into another directory. Whatever is renamed or
//!   linked in its place, we go on writing into a directory that we created or found below the
//!   target.
//! * **Known limit:** an attacker who moves such a directory out of the target while we hold it
//!   makes us write into it at its new place. `openat2` alone has the same window, between opening
//!   the parent and using it; remembering makes it longer. To move a directory to another parent
//!   one needs write permission on both parents and on the directory itself (its `..` changes), so
//!   the attacker could already create those files there himself. What he can gain is our owner
//!   and our privileges on their metadata: extract with privileges only into a directory that
//!   nobody else may write to, as [`TargetDir::create_or_open`] makes it.
//! * A directory that another process removed and made anew is noticed (its descriptor has no
//!   link left) and opened again. One that was moved *inside* the target still gets the files.
//!
//! Mount points below the root are crossed (no `RESOLVE_NO_XDEV`): a user may have mounted one
//! there. A caller that wants one file system compares [`Metadata::device`].

mod ids;
mod read;
mod resolve;
mod walk;
mod write;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

pub use ids::{group_id, group_name, is_root, user_id, user_name};
pub use read::{DirEntry, SourceDir, SourceFile, SourceTree};
pub use resolve::OPEN_DIRECTORIES;
pub use walk::{Walk, WalkEntry, WalkError, WalkStep};
pub use write::{Attributes, TargetDir, TargetFile, process_umask};

use rustix::fs::{FileType, Stat};
use std::fmt;
use std::io;

/// Longest component of a path, in bytes (`NAME_MAX`).
pub const MAX_COMPONENT_BYTES: usize = 255;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What the system knows about a file, a directory or a link itself (never its target).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes; of a symbolic link, of its target.
    pub size_bytes: u64,
    /// Last change of the contents, seconds since 1970; negative before.
    pub mtime_s: i64,
    /// Nanoseconds to add to `mtime_s`, below 1,000,000,000.
    pub mtime_ns: u32,
    /// Last change of contents or metadata, seconds since 1970. Nobody can set it.
    pub ctime_s: i64,
    /// Nanoseconds to add to `ctime_s`.
    pub ctime_ns: u32,
    /// The file system it is on. With `inode` it identifies a file while it is open.
    pub device: u64,
    /// Number within the file system.
    pub inode: u64,
    /// How many names it has.
    pub link_count: u64,
    /// Major number of a device, else 0.
    pub rdev_major: u32,
    /// Minor number of a device, else 0.
    pub rdev_minor: u32,
}

impl Metadata {
    fn from_stat(stat: &Stat) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::CharacterDevice => FileKind::CharDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let (rdev_major, rdev_minor) = match kind {
            FileKind::CharDevice | FileKind::BlockDevice => {
                (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            }
            _ => (0, 0),
        };
        Ok(Self {
            kind,
            mode: number::<_, u32>(stat.st_mode)? & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: number(stat.st_size)?,
            mtime_s: number(stat.st_mtime)?,
            mtime_ns: number(stat.st_mtime_nsec)?,
            ctime_s: number(stat.st_ctime)?,
            ctime_ns: number(stat.st_ctime_nsec)?,
            device: number(stat.st_dev)?,
            inode: number(stat.st_ino)?,
            link_count: number(stat.st_nlink)?,
            rdev_major,
            rdev_minor,
        })
    }

    /// Whether this and `other`, taken at two times, describe the same file with the same
    /// contents as far as the system tells: device, inode, kind, size, mtime and ctime.
    ///
    /// Two writes within one tick of the file system's clock (about 4 ms before Linux 6.13) may
    /// bear the same times.
    #[must_use]
    pub fn same_state(&self, other: &Self) -> bool {
        let state = |m: &Self| {
            (
                (m.kind, m.device, m.inode, m.size_bytes),
                (m.mtime_s, m.mtime_ns, m.ctime_s, m.ctime_ns),
            )
        };
        state(self) == state(other)
    }
}

/// An integer in the width that we use, whatever width this system's structures have.
fn number<A: TryInto<B>, B>(value: A) -> io::Result<B> {
    value.try_into().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "a number of the file system is out of range")
    })
}

/// The rule that a relative path breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// It has no byte.
    Empty,
    /// It begins with `/`.
    Absolute,
    /// It has an empty component: `a//b`, or a `/` at its end.
    EmptyComponent,
    /// A component is `.`.
    CurrentDir,
    /// A component is `..`.
    ParentDir,
    /// It contains a NUL byte.
    Nul,
    /// A component is longer than [`MAX_COMPONENT_BYTES`].
    ComponentTooLong,
    /// A name of one component was asked for and there is a `/` in it.
    NotOneComponent,
    /// On disk one of its directories is a symbolic link (the system's `ELOOP`).
    Symlink,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::Absolute => "it is absolute",
            Self::EmptyComponent => "it has an empty component",
            Self::CurrentDir => "it has the component '.'",
            Self::ParentDir => "it has the component '..'",
            Self::Nul => "it contains a NUL byte",
            Self::ComponentTooLong => "a component is longer than 255 bytes",
            Self::NotOneComponent => "it has more than one component",
            Self::Symlink => "one of its directories is a symbolic link",
        })
    }
}

/// A path that is refused because it could lead out of its root.
///
/// Printed with all bytes but printable ASCII escaped, so it can't speak to a terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsafe path \"{}\": {rule}", .path.escape_ascii())]
pub struct UnsafePath {
    /// The path as it was given.
    pub path: Vec<u8>,
    /// What is wrong with it.
    pub rule: Rule,
}

impl From<UnsafePath> for io::Error {
    /// An [`io::ErrorKind::InvalidInput`] from which [`io::Error::downcast`] gives it back.
    fn from(error: UnsafePath) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Why something in a tree failed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path itself is refused; nothing was done.
    #[error(transparent)]
    UnsafePath(#[from] UnsafePath),
    /// The system refused. [`io::Error::raw_os_error`] is its error number.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<TreeError> for io::Error {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::UnsafePath(error) => error.into(),
            TreeError::Io(error) => error,
        }
    }
}

/// Checks the spelling of a relative path: what every function here does first.
///
/// It says nothing about what is on disk, and none of the functions relies on it alone.
pub fn check_path(path: &[u8]) -> Result<(), UnsafePath> {
    let rule = if path.is_empty() {
        Some(Rule::Empty)
    } else if path.contains(&0) {
        Some(Rule::Nul)
    } else if path.starts_with(b"/") {
        Some(Rule::Absolute)
    } else {
        path.split(|&byte| byte == b'/').find_map(|component| match component {
            b"" => Some(Rule::EmptyComponent),
            b"." => Some(Rule::CurrentDir),
            b".." => Some(Rule::ParentDir),
            long if long.len() > MAX_COMPONENT_BYTES => Some(Rule::ComponentTooLong),
            _ => None,
        })
    };
    rule.map_or(Ok(()), |rule| Err(refused(path, rule)))
}

fn check_name(name: &[u8]) -> Result<(), UnsafePath> {
    check_path(name)?;
    if name.contains(&b'/') {
        return Err(refused(name, Rule::NotOneComponent));
    }
    Ok(())
}

fn refused(path: &[u8], rule: Rule) -> UnsafePath {
    UnsafePath { path: path.to_vec(), rule }
}
