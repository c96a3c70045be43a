//! Refs in small text files, one a key.
//!
//! Names of files are in `name`, their text is in `text`; here is the order in which they reach the
//! disk. `spec/refs.md` 6 argues it case by case.

mod apply;
mod scan;

use super::name::KeyPath;
use super::text::{self, Journal, REF_BYTES_MAX, TextError};
use super::{Change, KeyIter, Ref, RefIter, RefStore, Token, WAIT_MS_DEFAULT, check_key};
use crate::disk::{File, LockError, Machine};
use crate::error::{Error, ErrorKind, Result};
use scan::Scan;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the file that says what the directory is holds.
const MARKER: &str = "pefc refs v1\n";

/// How to open refs in files.
#[derive(Debug, Clone)]
pub struct FileRefsOptions {
    /// The machine that the files are on.
    pub machine: Machine,
    /// How long a writer waits for another one, in milliseconds.
    pub wait_ms: u64,
    /// Whether to make a directory of refs where there is none.
    pub create: bool,
}

impl Default for FileRefsOptions {
    fn default() -> Self {
        Self { machine: Machine::real(), wait_ms: WAIT_MS_DEFAULT, create: true }
    }
}

/// Refs in a directory: the ref of the key `a/b` is the text file `keys/a+/b`.
///
/// Any number of threads and processes may read and write it; writers take turns. One change costs
/// one sync of a file and one of a directory, a batch the same for its journal, and then one sync
/// for each file, which the system does together.
///
/// After a failed sync it refuses further changes ([`ErrorKind::Durability`]) until it is opened
/// again.
#[derive(Debug)]
pub struct FileRefs {
    dir: PathBuf,
    options: FileRefsOptions,
    /// Threads of this process queue here; the lock on the file is between processes.
    turn: Mutex<()>,
    failed: AtomicBool,
}

/// The writers' lock. Dropping it releases it.
#[derive(Debug)]
struct Locked<'a> {
    file: Arc<dyn File>,
    _turn: MutexGuard<'a, ()>,
}

impl FileRefs {
    /// Opens the refs in `dir`; with [`FileRefsOptions::create`] makes them if they are not there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there are none, [`ErrorKind::ReadOnly`] where it can't be made, [`ErrorKind::Unsupported`] if a later version
    /// made it, [`ErrorKind::Corrupt`] if it holds something else.
    pub fn open(dir: impl AsRef<Path>, options: FileRefsOptions) -> Result<Self> {
        let dir = dir.as_ref().to_owned();
        let refs = Self { dir, options, turn: Mutex::new(()), failed: AtomicBool::new(false) };
        let marker = refs.dir.join("REFS");
        let found = match refs.read_small(&marker)? {
            Some(found) => found,
            None if !refs.options.create => {
                return Err(Error::new(ErrorKind::NotFound, "there are no refs").at(&refs.dir));
            }
            None => {
                refs.create(&marker)?;
                MARKER.as_bytes().to_vec()
            }
        };
        if found == MARKER.as_bytes() {
            return Ok(refs);
        }
        let version = std::str::from_utf8(&found)
            .ok()
            .and_then(|text| text.strip_prefix("pefc refs v")?.trim_end().parse::<u32>().ok());
        Err(match version {
            Some(version) => {
                let what = format!("these refs are of version {version}; this program knows 1");
                Error::new(ErrorKind::Unsupported, what)
            }
            None => Error::new(ErrorKind::Corrupt, "this file does not say what pefc writes"),
        }
        .at(&marker))
    }

    /// Where the refs are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn create(&self, marker: &Path) -> Result<()> {
        let vfs = &self.options.machine.vfs;
        for name in ["keys", "long", "tmp"] {
            let dir = self.dir.join(name);
            vfs.create_dir_all(&dir).map_err(|e| Error::io("creating the directory", &dir, e))?;
        }
        let lock = self.dir.join("lock");
        match vfs.create_new(&lock) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("creating the lock", &lock, error)),
        }
        // Another process may be doing the same: the lock makes it a queue.
        let _locked = self.lock()?;
        if self.read_small(marker)?.is_none() {
            self.write_whole(marker, MARKER.as_bytes())?;
        }
        Ok(())
    }

    /// Waits for the turn to write.
    fn lock(&self) -> Result<Locked<'_>> {
        let path = self.dir.join("lock");
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = |error| Error::io("opening the lock", &path, error);
        let file = self.options.machine.vfs.open_write(&path).map_err(opening)?;
        let mut waited_ms = 0;
        let mut pause_ms = 1;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked { file, _turn: turn }),
                Err(LockError::Io(error)) => return Err(Error::io("locking", &path, error)),
                Err(LockError::Held(holder)) if waited_ms >= self.options.wait_ms => {
                    let who = holder.map_or_else(|| "another writer".to_owned(), |h| h.to_string());
                    let what = format!("the refs are being changed by {who}");
                    return Err(Error::new(ErrorKind::Locked, what).at(&path));
                }
                Err(LockError::Held(_)) => {
                    self.options.machine.clock.sleep_ms(pause_ms);
                    waited_ms += pause_ms;
                    pause_ms = (pause_ms * 2).min(20);
                }
            }
        }
    }

    /// A whole file; `None` if there is none.
    fn read_small(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let reading = |error| Error::io("reading refs", path, error);
        let file = match self.options.machine.vfs.open_read(path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(reading(error)),
        };
        let len = file.len().map_err(reading)?;
        let len = usize::try_from(len)
            .map_err(|_| Error::new(ErrorKind::Limit, "the file is too long").at(path))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).map_err(reading)?;
        Ok(Some(bytes))
    }

    /// The file of a key.
    fn path_of(&self, key: &[u8]) -> PathBuf {
        match KeyPath::of(key) {
            KeyPath::Plain { dirs, file } => {
                let mut path = self.dir.join("keys");
                path.extend(dirs);
                path.push(file);
                path
            }
            KeyPath::Long(name) => self.dir.join("long").join(name),
        }
    }

    /// The ref in a file, with its key; `None` if there is no file.
    fn read_ref(&self, path: &Path) -> Result<Option<(Vec<u8>, Ref)>> {
        let reading = |error| Error::io("reading a ref", path, error);
        let file = match self.options.machine.vfs.open_read(path) {
            Ok(file) => file,
            // The second is a path through a file: a key with that part can't be there.
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(reading(error)),
        };
        let len = file.len().map_err(reading)?.min(REF_BYTES_MAX + 1);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)]; // it is a few KiB
        file.read_exact_at(&mut bytes, 0).map_err(reading)?;
        text::decode_ref(&bytes).map(Some).map_err(|error| refused(path, error))
    }

    /// What the file of `key` says.
    fn read_key(&self, key: &[u8]) -> Result<Option<Ref>> {
        let path = self.path_of(key);
        match self.read_ref(&path)? {
            None => Ok(None),
            Some((found, value)) if found == key => Ok(Some(value)),
            Some((found, _)) => {
                let what = format!("the file holds the key \"{}\" instead", found.escape_ascii());
                Err(Error::new(ErrorKind::Corrupt, what).at(&path).hinting(DAMAGED_HINT))
            }
        }
    }

    /// The batch under way, or cut short: it is committed, but may not be in the keys' files yet.
    fn read_journal(&self) -> Result<Option<Journal>> {
        let path = self.dir.join("journal");
        let Some(bytes) = self.read_small(&path)? else {
            return Ok(None);
        };
        text::decode_journal(&bytes).map(Some).map_err(|error| refused(&path, error))
    }

    fn scan_now(&self, prefix: &[u8], after: Option<&[u8]>) -> Scan<'_> {
        Scan::new(self, prefix, after)
    }
}

const DAMAGED_HINT: &str =
    "restore it from a backup, or remove it to give the key up; nothing was changed";

fn refused(path: &Path, error: TextError) -> Error {
    let (kind, hint) = match error {
        TextError::Damaged => (ErrorKind::Corrupt, DAMAGED_HINT),
        TextError::Newer => (ErrorKind::Unsupported, "use a newer pefc"),
    };
    Error::new(kind, "reading a ref").at(path).because(error).hinting(hint)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl RefStore for FileRefs {
    fn get(&self, key: &[u8]) -> Result<Option<Ref>> {
        check_key(key)?;
        // First the journal: its keys' files may be old or new. If it appears after this look, the
        // file was good when the call began; if it goes, the file is good.
        if let Some(journal) = self.read_journal()?
            && let Some((_, value)) = journal.iter().find(|(found, _)| found == key)
        {
            return Ok(*value);
        }
        self.read_key(key)
    }

    fn apply(&self, changes: &[Change]) -> Result<Vec<Option<Ref>>> {
        changes.iter().try_for_each(|change| check_key(&change.key))?;
        if self.failed.load(Ordering::Relaxed) {
            let what = "an earlier sync of these refs failed";
            return Err(Error::new(ErrorKind::Durability, what).at(&self.dir));
        }
        let locked = self.lock()?;
        self.recover(&locked)?;
        let (before, journal) = self.plan(changes)?;
        if !journal.is_empty() {
            self.drop_token()?;
            self.write(&locked, &journal)?;
        }
        Ok(before)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_> {
        Box::new(self.scan_now(prefix, after).values())
    }

    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        Box::new(self.scan_now(prefix, after).keys())
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        let locked = self.lock()?;
        self.recover(&locked)?;
        let token = self.token_locked()?;
        for found in self.scan_now(b"", None).values() {
            let (key, value) = found?;
            each(&key, &value)?;
        }
        Ok(token)
    }

    fn token(&self) -> Result<Token> {
        let locked = self.lock()?;
        self.recover(&locked)?;
        self.token_locked()
    }
}
