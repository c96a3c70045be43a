//! Opening directories beneath a root, and remembering the last ones.

use super::{Rule, TreeError, check_path, refused};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::{Errno, retry_on_intr};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many directories a tree keeps open at most, besides its root.
pub const OPEN_DIRECTORIES: usize = 64;

/// Paths handed to the kernel in one piece stay below its `PATH_MAX` of 4,096 bytes.
const MAX_PIECE_BYTES: usize = 4000;

/// How many ancestors of a directory are looked for before starting again from the root.
const NEAREST_ANCESTORS: usize = 8;

/// A directory to resolve other names from. With `O_PATH` it need not be readable.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directories beneath one root.
#[derive(Debug)]
pub(super) struct Dirs {
    root: Arc<OwnedFd>,
    /// Whether `openat2` has worked so far.
    kernel: AtomicBool,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    open: HashMap<Vec<u8>, Slot>,
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    dir: Arc<OwnedFd>,
    last_use: u64,
}

impl Cache {
    fn get(&mut self, path: &[u8]) -> Option<Arc<OwnedFd>> {
        let slot = self.open.get_mut(path)?;
        self.clock += 1;
        slot.last_use = self.clock;
        Some(Arc::clone(&slot.dir))
    }

    fn put(&mut self, path: &[u8], dir: Arc<OwnedFd>) {
        if self.open.len() >= OPEN_DIRECTORIES {
            let oldest = self.open.iter().min_by_key(|(_, slot)| slot.last_use);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                self.open.remove(&path);
            }
        }
        self.clock += 1;
        let last_use = self.clock;
        self.open.insert(path.to_vec(), Slot { dir, last_use });
    }
}

impl Dirs {
    pub(super) fn new(root: Arc<OwnedFd>) -> Self {
        Self {
            root,
            kernel: AtomicBool::new(cfg!(any(target_os = "linux", target_os = "android"))),
            cache: Mutex::default(),
        }
    }

    pub(super) fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// From now on as on a system without `openat2`.
    #[cfg(test)]
    #[cfg(target_os = "linux")]
    pub(super) fn force_component_walk(&self) {
        self.kernel.store(false, Ordering::Relaxed);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the directory `path` and all below it.
    pub(super) fn forget(&self, path: &[u8]) {
        self.cache().open.retain(|open, _| match open.strip_prefix(path) {
            Some(rest) => !(rest.is_empty() || rest.starts_with(b"/")),
            None => true,
        });
    }

    #[cfg(test)]
    #[cfg(target_os = "linux")]
    pub(super) fn forget_all(&self) {
        self.cache().open.clear();
    }

    /// The directory at the checked path `path`; the root for an empty one. A symbolic link
    /// anywhere in it is `ELOOP`.
    pub(super) fn dir(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let (start, rest) = {
            let mut cache = self.cache();
            if let Some(dir) = cache.get(path) {
                return Ok(dir);
            }
            let mut ancestor = path;
            let mut found = None;
            for _ in 0..NEAREST_ANCESTORS {
                let Some((parent, _)) = split_last(ancestor) else {
                    break;
                };
                ancestor = parent;
                if let Some(dir) = cache.get(ancestor) {
                    found = Some((dir, &path[ancestor.len() + 1..]));
                    break;
                }
            }
            found.unwrap_or_else(|| (Arc::clone(&self.root), path))
        };
        let dir = Arc::new(self.open_beneath(start.as_fd(), rest)?);
        self.cache().put(path, Arc::clone(&dir));
        Ok(dir)
    }

    /// Runs `operation` with the open parent of `path` and the last component of it.
    pub(super) fn at<T>(
        &self,
        path: &[u8],
        mut operation: impl FnMut(&Arc<OwnedFd>, &[u8]) -> io::Result<T>,
    ) -> Result<T, TreeError> {
        let (parent, name) = self.parent(path)?;
        match operation(&parent, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_removed(&parent) => {
                // Somebody removed the directory that we remembered: is there a new one?
                let (parent_path, _) = split_last(path).unwrap_or_default();
                self.forget(parent_path);
                let (parent, name) = self.parent(path)?;
                Ok(operation(&parent, name)?)
            }
            result => Ok(result?),
        }
    }

    /// The open parent of `path`, after checking `path`, and its last component.
    pub(super) fn parent<'p>(&self, path: &'p [u8]) -> Result<(Arc<OwnedFd>, &'p [u8]), TreeError> {
        check_path(path)?;
        let (parent, name) = split_last(path).unwrap_or((b"", path));
        Ok((self.checked(path, parent)?, name))
    }

    /// [`Dirs::dir`] for an unchecked path, with the typed error.
    pub(super) fn dir_checked(&self, path: &[u8]) -> Result<Arc<OwnedFd>, TreeError> {
        check_path(path)?;
        self.checked(path, path)
    }

    fn checked(&self, whole: &[u8], dir: &[u8]) -> Result<Arc<OwnedFd>, TreeError> {
        self.dir(dir).map_err(|errno| match errno {
            Errno::LOOP => refused(whole, Rule::Symlink).into(),
            errno => TreeError::Io(errno.into()),
        })
    }

    fn open_beneath(&self, start: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
        if self.kernel.load(Ordering::Relaxed) {
            match open_by_kernel(start, path) {
                // EPERM: that is how sandboxes answer system calls that they don't know.
                Err(Errno::NOSYS | Errno::PERM) => self.kernel.store(false, Ordering::Relaxed),
                result => return result,
            }
        }
        open_by_component(start, path)
    }
}

/// `a/b/c` into `a/b` and `c`; nothing for one component.
fn split_last(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

fn is_removed(dir: &OwnedFd) -> bool {
    fstat(dir).is_ok_and(|stat| stat.st_nlink == 0)
}

/// Each piece is resolved beneath the one before; none has a `..` that could undo another.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_by_kernel(start: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename raced with the lookup so that the kernel could not be sure.
    let open = |dir: BorrowedFd<'_>, piece: &[u8]| {
        let mut tries = 0;
        loop {
            match openat2(dir, piece, DIRECTORY, Mode::empty(), beneath) {
                Err(Errno::AGAIN) if tries < 64 => tries += 1,
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    };
    let (piece, mut rest) = first_piece(path);
    let mut dir = open(start, piece)?;
    while !rest.is_empty() {
        let (piece, tail) = first_piece(rest);
        dir = open(dir.as_fd(), piece)?;
        rest = tail;
    }
    Ok(dir)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open_by_kernel(_: BorrowedFd<'_>, _: &[u8]) -> Result<OwnedFd, Errno> {
    let _ = first_piece;
    Err(Errno::NOSYS)
}

/// As many whole components as fit in one system call, and the others.
fn first_piece(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= MAX_PIECE_BYTES {
        return (path, b"");
    }
    split_last(&path[..MAX_PIECE_BYTES])
        .map_or((path, b""), |(head, _)| (head, &path[head.len() + 1..]))
}

fn open_by_component(start: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut last = None;
    for component in path.split(|&byte| byte == b'/') {
        let dir = last.as_ref().map_or(start, OwnedFd::as_fd);
        last = Some(open_component(dir, component)?);
    }
    last.ok_or(Errno::NOENT)
}

/// Opens the directory `name` in `dir`; a symbolic link is `ELOOP`.
pub(super) fn open_component(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = DIRECTORY | OFlags::NOFOLLOW;
    for _ in 0..64 {
        let errno = match retry_on_intr(|| openat(dir, name, flags, Mode::empty())) {
            // What a link gives on Linux, macOS and FreeBSD.
            Err(errno @ (Errno::NOTDIR | Errno::LOOP | Errno::MLINK)) => errno,
            result => return result,
        };
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Directory => {} // by now: somebody exchanges it, so once more
            _ => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut_between_components() {
        let path = [&[b'x'; 200][..]; 100].join(&b'/');
        let (mut rest, mut whole) = (path.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (piece, tail) = first_piece(rest);
            assert!(piece.len() <= MAX_PIECE_BYTES && !piece.starts_with(b"/"));
            whole.push(piece);
            rest = tail;
        }
        assert!(whole.len() > 4);
        assert_eq!(whole.join(&b'/'), path);
    }

    #[test]
    fn only_the_last_used_directories_stay_open() {
        let top = tempfile::tempdir().unwrap();
        for i in 0..200 {
            std::fs::create_dir(top.path().join(i.to_string())).unwrap();
        }
        let root: OwnedFd = std::fs::File::open(top.path()).unwrap().into();
        let dirs = Dirs::new(Arc::new(root));
        let first = dirs.dir(b"0").unwrap();
        for i in 0..200 {
            dirs.dir(i.to_string().as_bytes()).unwrap();
            assert!(Arc::ptr_eq(&first, &dirs.dir(b"0").unwrap()), "in use");
        }
        assert_eq!(dirs.cache().open.len(), OPEN_DIRECTORIES);
        dirs.forget(b"19");
        assert!(dirs.cache().open.contains_key(&b"199"[..]), "not below 19");
    }
}
