//! The backend `pack`: one pack file that holds keys, contents and history, and can be handed over
//! as it is.

mod entry;
mod transaction;

use super::backend::{Backend, Transaction, ValueReader, missing};
use crate::disk::{File, Machine};
use crate::error::{Error, ErrorKind, Result};
use crate::format::segment::Layout;
use crate::pack::{Key, ObjectReader, OpenOptions, Pack, WriteOptions, Writer};
use crate::refs::{
    KEY_BYTES_MAX, KeyIter, KeyPage, Ref, RefIter, Token, WAIT_MS_DEFAULT, check_key, paged_keys,
};
use entry::ref_of;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use transaction::PackTransaction;

/// Name of the pack in the directory of the backend.
pub const PACK_FILE: &str = "storage.pefc";

/// A batch also writes an index once so many bytes were committed without one: whoever opens the pack
/// after a crash reads no more than that.
const TAIL_BYTES_MAX: u64 = 16 << 20;

/// What is closed with less than this behind its last index gets none: reading it is as fast.
const UNINDEXED_BYTES_MAX: u64 = 1 << 20;

/// The default level.
const LEVEL: i32 = 1;

/// The first page of a list, in keys. Each is twice as long as the one before, up to the second
/// number: a page costs a search in each unit of the pack.
const PAGE_KEYS: (usize, usize) = (1024, 1 << 13);

/// How to open the backend `pack`.
#[derive(Debug, Clone)]
pub struct PackBackendOptions {
    /// The machine that the pack is on.
    pub machine: Machine,
    /// How the pack is read.
    pub cache_bytes: u64,
    /// zstd level, 1 to 19. By default 1: under a dictionary short records get but a twentieth shorter
    /// at 3, and that takes longer.
    pub level: i32,
    /// How long a batch waits for another writer, in milliseconds.
    pub wait_ms: u64,
}

impl Default for PackBackendOptions {
    fn default() -> Self {
        Self {
            machine: Machine::real(),
            cache_bytes: OpenOptions::default().cache_bytes,
            level: LEVEL,
            wait_ms: WAIT_MS_DEFAULT,
        }
    }
}

/// Values in one pack: entries of the key space for storages.
///
/// Any number of threads and processes may use it; batches take turns. A batch is one commit with
/// one sync. Between batches others may write: the pack is locked while a batch is committed, and
/// what this process knows of it is read again only if another one has appended.
///
/// Setting a key to the content that it has changes nothing, its times included.
#[derive(Debug)]
pub struct PackBackend {
    path: PathBuf,
    options: PackBackendOptions,
    /// The newest commit that was looked at.
    seen: RwLock<Seen>,
    slot: Mutex<Slot>,
}

/// Where the writer is between batches.
#[derive(Debug, Default)]
struct Slot {
    /// A batch has it.
    is_taken: bool,
    /// None until the first batch, and after one that failed.
    writer: Option<Writer>,
}

#[derive(Debug, Clone)]
struct Seen {
    pack: Arc<Pack>,
    /// The file, to ask for its length.
    file: Arc<dyn File>,
    /// Its length when the pack was last looked at.
    file_bytes: u64,
}

impl PackBackend {
    /// Opens the pack in the directory `pack_path`; makes both if they are not there.
    ///
    /// # Errors
    /// As [`Pack::open`] and [`Writer::create`].
    pub fn open(pack_path: impl AsRef<Path>, options: PackBackendOptions) -> Result<Self> {
        let dir = pack_path.as_ref();
        let vfs = Arc::clone(&options.machine.vfs);
        let path = dir.join(PACK_FILE);
        if vfs.open_read(&path).is_err() {
            let made = vfs.create_dir_all(dir);
            made.map_err(|error| Error::io("creating the directory", dir, error))?;
            Writer::create_log(&path, write_options(&options))?;
        }
        let read = OpenOptions {
            machine: options.machine.clone(),
            cache_bytes: options.cache_bytes,
            ..OpenOptions::default()
        };
        let pack = Arc::new(Pack::open_with(&path, read)?);
        let seen = RwLock::new(Self::look(&path, &options.machine, pack)?);
        Ok(Self { path, options, seen, slot: Mutex::default() })
    }

    /// The pack file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pack as it is now.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn pack(&self) -> Result<Arc<Pack>> {
        let looking = |error| Error::io("reading the pack", &self.path, error);
        {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            if seen.file.len_under(&self.path).map_err(looking)? == Some(seen.file_bytes) {
                return Ok(Arc::clone(&seen.pack));
            }
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let pack = match seen.pack.refreshed()? {
            Some(newer) => Arc::new(newer),
            None => Arc::clone(&seen.pack), // something is being appended, and not committed yet
        };
        *seen = Self::look(&self.path, &self.options.machine, pack)?;
        Ok(Arc::clone(&seen.pack))
    }

    fn look(path: &Path, machine: &Machine, pack: Arc<Pack>) -> Result<Seen> {
        let opening = |error| Error::io("opening the pack", path, error);
        let file = machine.vfs.open_read(path).map_err(opening)?;
        // The length that the pack was opened at, not that of now: what is more is looked at next.
        Ok(Seen { file_bytes: pack.file_bytes(), pack, file })
    }

    /// Makes all that is live one new generation, indexed, and says which. What the pack of a
    /// storage is before it is handed over.
    ///
    /// # Errors
    /// As [`Writer::seal`].
    pub fn seal(&self) -> Result<u64> {
        let mut turn = self.turn()?;
        turn.writer().seal()?;
        let generation = turn.writer().stats().generation;
        turn.end()?;
        Ok(generation)
    }

    /// Waits for the turn to write.
    fn turn(&self) -> Result<Turn<'_>> {
        let clock = &self.options.machine.clock;
        let (mut waited_ms, mut pause_ms) = (0, 1);
        loop {
            let error = match self.try_turn() {
                Err(error) if error.kind() == ErrorKind::Locked => error,
                result => return result,
            };
            if waited_ms >= self.options.wait_ms {
                return Err(error);
            }
            clock.sleep_ms(pause_ms);
            waited_ms += pause_ms;
            pause_ms = (pause_ms * 2).min(20);
        }
    }

    fn try_turn(&self) -> Result<Turn<'_>> {
        let mut slot = self.slot();
        if slot.is_taken {
            return Err(Error::locked(&self.path, None));
        }
        let mut kept = slot.writer.take();
        let is_current = match &mut kept {
            Some(writer) => writer.take_turn(),
            None => Ok(false),
        };
        if let Err(error) = is_current {
            slot.writer = kept; // another process writes; whether it changes anything is not known
            return Err(error);
        }
        let writer = match kept.filter(|_| matches!(is_current, Ok(true))) {
            Some(writer) => writer,
            // The one that was kept is gone by now, and its lock with it.
            None => Writer::append(&self.path, write_options(&self.options))?,
        };
        slot.is_taken = true;
        drop(slot);
        Ok(Turn { backend: self, writer: Some(writer), is_done: false })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Nothing that is done under this lock leaves the slot half changed.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page<T>(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        read: impl Fn(&Pack, &Key<'_>, &Key<'_>) -> Result<T>,
    ) -> Result<T> {
        // The least key that is greater.
        let from = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        read(&*self.pack()?, &Key::storage(prefix), &Key::storage(from))
    }
}

impl Drop for PackBackend {
    fn drop(&mut self) {
        // Everything acknowledged is on disk. What fails here, or has to wait for another process,
        // costs the next one that opens the pack some time, and nothing else.
        let slot = self.slot.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut writer) = slot.writer.take()
            && writer.tail_bytes() > UNINDEXED_BYTES_MAX
            && matches!(writer.take_turn(), Ok(true))
        {
            let _ = writer.write_tail_index();
        }
    }
}

fn write_options(options: &PackBackendOptions) -> WriteOptions {
    WriteOptions {
        machine: options.machine.clone(),
        level: options.level,
        layout: Layout::Records,
        tail_bytes_max: TAIL_BYTES_MAX,
        ..WriteOptions::default()
    }
}

/// The right to write, until it is dropped.
#[derive(Debug)]
struct Turn<'a> {
    backend: &'a PackBackend,
    /// Always there, until the turn is dropped.
    writer: Option<Writer>,
    is_done: bool,
}

impl Turn<'_> {
    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("only dropping takes it")
    }

    /// Ends a turn after which nothing is left to commit: the writer stays for the next one.
    fn end(mut self) -> Result<()> {
        self.writer().pause()?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let writer = self.writer.take();
        let mut slot = self.backend.slot();
        // Dropping the writer cuts off what was not committed, and unlocks.
        slot.writer = writer.filter(|_| self.is_done);
        slot.is_taken = false;
    }
}

impl Backend for PackBackend {
    fn kind(&self) -> &'static str {
        "pack"
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Ref>> {
        check_key(key)?;
        Ok(self.pack()?.entry(Key::storage(key))?.and_then(|put| ref_of(&put)))
    }

    fn retrieve(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        self.pack()?.get(Key::storage(key))
    }

    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>> {
        check_key(key)?;
        let pack = self.pack()?;
        let Some(value) = pack.entry(Key::storage(key))?.and_then(|put| ref_of(&put)) else {
            return Ok(None);
        };
        match ObjectReader::shared(&pack, &value.name)? {
            Some(reader) => Ok(Some(Box::new(reader))),
            None => Err(missing(key, &value)),
        }
    }

    fn begin(&self) -> Result<Box<dyn Transaction + '_>> {
        Ok(Box::new(PackTransaction::new(self)))
    }

    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        let prefix = prefix.to_vec();
        paged_keys(after.map(<[u8]>::to_vec), PAGE_KEYS, move |after, count| {
            self.page(&prefix, after, |pack, prefix, from| {
                let mut keys = pack.keys_from(prefix, from);
                let mut page = KeyPage::default();
                while page.len() < count && page.push_with(|out| keys.append_next(out))? {}
                Ok(page)
            })
        })
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_> {
        let prefix = prefix.to_vec();
        paged(
            after.map(<[u8]>::to_vec),
            |(key, _): &(Vec<u8>, Ref)| key.clone(),
            move |after, count| {
                self.page(&prefix, after, |pack, prefix, from| {
                    let entries = pack.entries_from(prefix, from).take(count);
                    entries
                        .filter_map(|put| match put {
                            Ok(put) => ref_of(&put).map(|value| Ok((put.key.to_vec(), value))),
                            Err(error) => Some(Err(error)),
                        })
                        .collect()
                })
            },
        )
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        let pack = self.pack()?;
        for put in pack.entries_under(Key::storage(Vec::new())) {
            let put = put?;
            if let Some(value) = ref_of(&put) {
                each(&put.key, &value)?;
            }
        }
        token_of(&pack)
    }

    fn token(&self) -> Result<Token> {
        token_of(&*self.pack()?)
    }
}

/// The log's size and root: a function of all entries there ever were, genesis included.
fn token_of(pack: &Pack) -> Result<Token> {
    let commit = pack.commit();
    let nodes: Vec<u8> = commit.frontier.iter().flatten().copied().collect();
    Ok(Token(format!("{}-{}", commit.log_size, crate::hash::Hash::of(&nodes))))
}

/// An iterator over pages that grow; the pack is not held between two of them.
fn paged<'a, T: Send + 'a>(
    mut after: Option<Vec<u8>>,
    key_of: impl Fn(&T) -> Vec<u8> + Send + 'a,
    read: impl Fn(Option<&[u8]>, usize) -> Result<VecDeque<T>> + Send + 'a,
) -> Box<dyn Iterator<Item = Result<T>> + Send + 'a> {
    let mut page = VecDeque::new();
    let mut count = PAGE_KEYS.0;
    let mut ended = false;
    Box::new(std::iter::from_fn(move || {
        if page.is_empty() && !ended {
            match read(after.as_deref(), count) {
                Ok(next) => page = next,
                Err(error) => {
                    ended = true;
                    return Some(Err(error));
                }
            }
            ended = page.len() < count;
            after = page.back().map(&key_of);
            count = (count * 2).min(PAGE_KEYS.1);
        }
        page.pop_front().map(Ok)
    }))
}

const _: () = assert!(KEY_BYTES_MAX == crate::format::KEY_BYTES_MAX);
