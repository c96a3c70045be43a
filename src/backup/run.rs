//! Making a snapshot.

use super::list::{Entries, Entry, Spool};
use super::record::{self, SavedStorage, Snapshot};
use super::source::Source;
use super::verify::{Problem, Problems};
use super::{Backups, Lock};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::store::Session;
use std::collections::{BTreeMap, HashSet};
use std::io;

/// Contents between two commits: what a run that is killed need not store again.
const CONTENTS_PER_COMMIT: u64 = 16_384;

/// How often a storage is looked at again because something vanished while it was copied.
const LOOKS_MAX: u32 = 8;

/// What a run did.
#[derive(Debug)]
pub struct RunReport {
    /// The snapshot it made. Good, unless there are problems.
    pub snapshot: Snapshot,
    /// Storages that have not changed since the last good snapshot: only their tokens were read.
    pub unchanged: Vec<String>,
    /// Keys that were new or stood for something else.
    pub changed_count: u64,
    /// Bytes that those stand for.
    pub changed_bytes: u64,
    /// Keys whose contents the storage itself could not give, or that did not read back.
    pub problems: Problems,
}

impl Backups {
    /// Saves `sources`, by name, as one snapshot. Each storage is saved as it was at one moment; they
    /// are saved one after the other.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] while another run, verification or pruning goes on; those of the sources
    /// and of the disk. A content that a storage has lost or that is damaged there is no error: all
    /// else is saved, and the snapshot is not good. After an error there is no snapshot.
    pub fn run(&self, sources: &[(&str, &dyn Source)]) -> Result<RunReport> {
        let lock = self.lock()?;
        self.clear_spool(&lock)?;
        let time_s = self.machine.clock.now_s();
        let snapshots = self.snapshots()?;
        let number = snapshots.last_number() + 1;
        let mut run = Run {
            backups: self,
            session: self.contents.begin()?,
            last: snapshots.newest_good(),
            new: HashSet::new(),
            unchanged: Vec::new(),
            changed_count: 0,
            changed_bytes: 0,
            problems: Problems::default(),
        };
        let mut storages = BTreeMap::new();
        for (name, source) in sources {
            let saved = run.save(name, *source)?;
            if storages.insert((*name).to_owned(), saved).is_some() {
                let what = format!("the storage \"{name}\" is to be saved twice");
                return Err(Error::new(ErrorKind::Usage, what));
            }
        }
        run.session.commit()?;
        let bad = run.read_back()?;
        run.check_lists(sources, &storages, bad)?;
        let checked_s = self.machine.clock.now_s();
        let mut snapshot = Snapshot::new(number, time_s, storages, checked_s);
        snapshot.check.problem_count = run.problems.count;
        // The last thing: from here on the snapshot exists, and keeps what it names.
        let path = self.snapshots_dir().join(record::file_name(&snapshot.id));
        record::write(&self.machine, &path, &snapshot)?;
        run.session.end()?;
        Ok(RunReport {
            snapshot,
            unchanged: run.unchanged,
            changed_count: run.changed_count,
            changed_bytes: run.changed_bytes,
            problems: run.problems,
        })
    }

    /// Removes what runs that were killed have left.
    fn clear_spool(&self, _lock: &Lock) -> Result<()> {
        let dir = self.spool_dir();
        let failed = |error| Error::io("clearing the spool of the backup store", &dir, error);
        for name in self.vfs().list_dir(&dir).map_err(failed)? {
            match self.vfs().remove_file(&dir.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed)?,
            }
        }
        Ok(())
    }
}

struct Run<'a> {
    backups: &'a Backups,
    session: Session,
    last: Option<&'a Snapshot>,
    /// Contents that the last good snapshot does not vouch for.
    new: HashSet<Hash>,
    unchanged: Vec<String>,
    changed_count: u64,
    changed_bytes: u64,
    problems: Problems,
}

/// How copying a list ended.
enum Copied {
    All,
    /// A content is gone, and its key stands for something else by now: the storage must be looked
    /// at again.
    Vanished,
}

impl Run<'_> {
    fn save(&mut self, name: &str, source: &dyn Source) -> Result<SavedStorage> {
        let location = source.location();
        let last = self.last.and_then(|last| last.storages.get(name));
        let last = last.filter(|last| last.location == location).cloned();
        if let Some(last) = &last
            && last.token == source.token()?.0
        {
            self.unchanged.push(name.to_owned());
            return Ok(last.clone());
        }
        for _ in 0..LOOKS_MAX {
            // Before the refs are read: what they name then stays, but for what a collection had
            // condemned by that time and a writer has let go of since.
            let hold = source.hold()?;
            let machine = &self.backups.machine;
            let dir = self.backups.spool_dir();
            let mut spool = Spool::create(&machine.vfs, &*machine.random, &dir)?;
            let token = source.snapshot(&mut |key, value| spool.push(key, value))?;
            let copied = self.copy(name, source, &mut spool, last.as_ref())?;
            if matches!(copied, Copied::Vanished) {
                continue;
            }
            // So that the list shares no frame with values, and no fate: damage costs a frame.
            self.session.commit()?;
            let listed = self.session.put_stream(spool.reader()?)?.name;
            self.session.commit()?;
            if let Some(hold) = hold {
                hold.end()?;
            }
            return Ok(SavedStorage {
                location,
                token: token.0,
                key_count: spool.key_count,
                value_bytes: spool.value_bytes,
                refs: listed.to_string(),
            });
        }
        let what = format!("the storage \"{name}\" changes faster than it can be saved");
        Err(Error::new(ErrorKind::Locked, what).hinting("try again when less is written"))
    }

    /// Copies what the list names and the last snapshot has not.
    fn copy(
        &mut self,
        storage: &str,
        source: &dyn Source,
        spool: &mut Spool,
        last: Option<&SavedStorage>,
    ) -> Result<Copied> {
        let mut vouched = Vouched::new(self.backups, last)?;
        let (mut changed_count, mut changed_bytes) = (0_u64, 0_u64);
        let mut problems = Problems::default();
        for entry in Entries::new(spool.reader()?) {
            let (key, value) = entry?;
            if vouched.has(&key, &value.name) {
                continue;
            }
            changed_count += 1;
            changed_bytes = changed_bytes.saturating_add(value.size_bytes);
            let lost = match source.copy_to(&key, &value, &mut self.session) {
                Ok(true) => None,
                Ok(false) => Some(super::restore::missing(&key, &value)),
                Err(error) if is_damage(&error) => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(error) = lost {
                if source.current(&key)?.is_none_or(|now| now.name != value.name) {
                    return Ok(Copied::Vanished);
                }
                problems.push(Problem {
                    storage: storage.to_owned(),
                    key,
                    name: value.name,
                    error,
                });
            } else {
                self.new.insert(value.name);
            }
            if changed_count.is_multiple_of(CONTENTS_PER_COMMIT) {
                self.session.commit()?;
            }
        }
        self.changed_count += changed_count;
        self.changed_bytes = self.changed_bytes.saturating_add(changed_bytes);
        self.problems.append(problems);
        Ok(Copied::All)
    }

    /// Reads new contents from the backup store, and gives those that can't be read.
    fn read_back(&self) -> Result<HashSet<Hash>> {
        let new = self.new.iter().map(|name| Ok(*name));
        let problems = self.backups.contents.check(new)?;
        Ok(problems.into_iter().map(|problem| problem.name).collect())
    }

    /// Reads new ref lists from the backup store. What did not read back was there before and has
    /// been damaged since: it is stored again.
    fn check_lists(
        &mut self,
        sources: &[(&str, &dyn Source)],
        storages: &BTreeMap<String, SavedStorage>,
        bad: HashSet<Hash>,
    ) -> Result<()> {
        let mut healed = HashSet::new();
        let mut lost = Vec::new();
        for (storage, source) in sources {
            let Some(saved) = storages.get(*storage).filter(|_| !self.is_unchanged(storage)) else {
                continue;
            };
            let mut count = 0;
            for entry in self.backups.entries(saved)? {
                let (key, value) = entry?;
                count += 1;
                if !bad.contains(&value.name) || healed.contains(&value.name) {
                    continue;
                }
                let again = source.reader(&key).and_then(|reader| match reader {
                    Some(reader) => self.session.put_again(&value.name, reader),
                    None => Ok(false),
                });
                let is_whole = match again {
                    Err(error) if is_damage(&error) => false, // of the storage too
                    again => again?,
                };
                if is_whole {
                    healed.insert(value.name);
                } else {
                    lost.push(((*storage).to_owned(), key, value.name));
                }
            }
            if count != saved.key_count {
                let what = format!("the ref list of \"{storage}\" did not read back whole");
                return Err(Error::new(ErrorKind::WriteVerify, what));
            }
        }
        self.session.commit()?;
        let still = self.backups.contents.check(healed.into_iter().map(Ok))?;
        if let Some(problem) = still.into_iter().next() {
            let what = "what was stored again did not read back";
            return Err(Error::new(ErrorKind::WriteVerify, what).because(problem.error));
        }
        for (storage, key, name) in lost {
            let error = Error::new(ErrorKind::WriteVerify, "it did not read back");
            self.problems.push(Problem { storage, key, name, error });
        }
        Ok(())
    }

    fn is_unchanged(&self, storage: &str) -> bool {
        self.unchanged.iter().any(|unchanged| unchanged == storage)
    }
}

impl Backups {
    /// The entries of a storage in a snapshot.
    pub(super) fn entries(
        &self,
        saved: &SavedStorage,
    ) -> Result<Entries<crate::store::ContentReader>> {
        let name = saved.refs_name()?;
        match self.contents.reader(&name)? {
            Some(reader) => Ok(Entries::new(reader)),
            None => {
                let what = format!("the ref list {name} is not in the backup store");
                Err(Error::new(ErrorKind::Missing, what).at(&self.dir))
            }
        }
    }
}

/// Whether content is damaged or gone, rather than the disk or the system in trouble. What fails while
/// a content is streamed is an error of reading with the damage as its cause.
pub(super) fn is_damage(error: &Error) -> bool {
    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Truncated | ErrorKind::Missing) {
        return true;
    }
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    let cause = cause.and_then(io::Error::get_ref).and_then(|cause| cause.downcast_ref::<Error>());
    cause.is_some_and(is_damage)
}

/// What the last good snapshot has of a storage, read in step with what is saved now.
struct Vouched {
    entries: Option<Entries<crate::store::ContentReader>>,
    next: Option<Entry>,
}

impl Vouched {
    fn new(backups: &Backups, last: Option<&SavedStorage>) -> Result<Self> {
        let entries = match last.map(|last| backups.entries(last)).transpose() {
            // A list that can't be read any more vouches for nothing.
            Err(error) if is_damage(&error) => None,
            entries => entries?,
        };
        let mut vouched = Self { entries, next: None };
        vouched.advance();
        Ok(vouched)
    }

    fn advance(&mut self) {
        // After damage it vouches for nothing more: all else is copied, and read back.
        self.next = self.entries.as_mut().and_then(|entries| entries.next()?.ok());
    }

    /// Whether the key stood for that content. Keys must be asked for in order.
    fn has(&mut self, key: &[u8], name: &Hash) -> bool {
        while self.next.as_ref().is_some_and(|(next, _)| &**next < key) {
            self.advance();
        }
        self.next.as_ref().is_some_and(|(next, value)| next == key && value.name == *name)
    }
}
