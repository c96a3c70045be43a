//! Backups: storages as they were at one moment, in a store of their own.
//!
//! A [`Backups`] is a directory (`spec/backup.md`): a content store, and one small text file for each
//! *snapshot*. A snapshot names, for each storage, a *ref list*: every key, what it stands for, when it
//! came to be. The list is a content like any other, so that lists share their pieces, and what two
//! snapshots have in common is stored once.
//!
//! - *Incremental*: a storage that has not changed costs one token, one that has costs its list and
//!   what is new in it.
//! - *Consistent*: a list is what a storage held at one moment, while writers went on.
//! - *Verified before it is called good*: everything new is read back from the store before the
//!   snapshot's file is written, which is the last thing that is. A run that fails or is killed leaves
//!   no snapshot, and the next one goes on with what it stored.
//!
//! What is saved and restored is a [`Source`] and a [`Target`]; this module must not know backends or
//! configuration, and asks for no time but the machine's.

mod list;
mod prune;
mod record;
mod restore;
mod run;
mod source;
mod verify;

pub use prune::PruneReport;
pub use record::{Check, SavedStorage, Snapshot};
pub use restore::{RestoreOptions, RestoreReport};
pub use run::RunReport;
pub use source::{Placed, Source, Target};
pub use verify::{Problem, Problems, VerifySnapshotReport};

use crate::disk::{File, LockError, Machine, Vfs, parent_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::schedule::{Due, Schedule};
use crate::store::{ContentStore, Root, StoreOptions};
use jiff::tz::TimeZone;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Kind of the root that a backup's content store has.
const ROOT_KIND: &str = "backup";

/// A backup store.
///
/// Any number of processes may read it; one at a time runs, verifies or prunes.
#[derive(Debug)]
pub struct Backups {
    machine: Machine,
    dir: PathBuf,
    contents: ContentStore,
}

/// All snapshots of a store.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Those that can be read, the newest first, by their numbers.
    pub all: Vec<Snapshot>,
    /// Files that can't: their paths, and why.
    pub unreadable: Vec<(PathBuf, Error)>,
}

impl Snapshots {
    /// The one that was made last, of those that are good.
    #[must_use]
    pub fn newest_good(&self) -> Option<&Snapshot> {
        self.all.iter().find(|snapshot| snapshot.is_good())
    }

    /// The highest number there is.
    fn last_number(&self) -> u64 {
        let readable = self.all.iter().map(|snapshot| snapshot.number);
        let unreadable = self.unreadable.iter().filter_map(|(path, _)| {
            let name = path.file_name()?.to_str()?;
            record::id_of_file(name).map(record::number_of)
        });
        readable.chain(unreadable).max().unwrap_or(0)
    }

    /// All of them, or the error of the first that can't be read.
    fn whole(self) -> Result<Vec<Snapshot>> {
        match self.unreadable.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.all),
        }
    }
}

/// The lock of whoever changes a backup store; dropped, it is free.
#[derive(Debug)]
struct Lock {
    _file: Arc<dyn File>,
}

impl Backups {
    /// Opens the backup store in `dir`; with `create` makes one where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; those of [`ContentStore::open`].
    pub fn open(dir: impl Into<PathBuf>, machine: &Machine, create: bool) -> Result<Self> {
        let dir = dir.into();
        let options = StoreOptions { machine: machine.clone(), create, ..StoreOptions::default() };
        let contents = ContentStore::open(dir.join("content"), options).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                let missing = Error::new(ErrorKind::NotFound, "there are no backups here");
                return missing.at(&dir).hinting("`pefc backup run` makes the first one");
            }
            error
        })?;
        let backups = Self { machine: machine.clone(), dir, contents };
        if create {
            for dir in [backups.snapshots_dir(), backups.spool_dir()] {
                let made = machine.vfs.create_dir_all(&dir);
                made.map_err(|error| Error::io("making the backup store", &dir, error))?;
            }
            backups.contents.register_root(&Root::new(ROOT_KIND, "snapshots")?)?;
        }
        Ok(backups)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where its contents are.
    #[must_use]
    pub fn contents(&self) -> &ContentStore {
        &self.contents
    }

    /// All snapshots, the newest first. Damaged files are told beside them, never left out.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the directory can't be read.
    pub fn snapshots(&self) -> Result<Snapshots> {
        let dir = self.snapshots_dir();
        let mut found = Snapshots::default();
        let names = match self.vfs().list_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            names => names.map_err(|error| Error::io("listing snapshots", &dir, error))?,
        };
        for name in names {
            let Some(id) = name.to_str().and_then(record::id_of_file) else {
                continue; // a temporary file of a run that was killed
            };
            let path = dir.join(&name);
            match record::read(self.vfs(), &path, id) {
                Ok(Some(snapshot)) => found.all.push(snapshot),
                Ok(None) => {} // pruned meanwhile
                Err(error) => found.unreadable.push((path, error)),
            }
        }
        found.all.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.number));
        found.unreadable.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The snapshot that `id` names: its name, the beginning of one name only, or `latest` for the
    /// newest good one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Usage`] if the beginning fits several.
    pub fn snapshot(&self, id: &str) -> Result<Snapshot> {
        let snapshots = self.snapshots()?;
        let missing = |what: String| {
            let error = Error::new(ErrorKind::NotFound, what).at(&self.dir);
            error.hinting("`pefc backup list` shows the snapshots that there are")
        };
        if id == "latest" {
            let newest = snapshots.newest_good().cloned();
            return newest.ok_or_else(|| missing("there is no good snapshot".to_owned()));
        }
        let path = self.snapshots_dir().join(record::file_name(id));
        if let Some((_, error)) =
            snapshots.unreadable.into_iter().find(|(unreadable, _)| *unreadable == path)
        {
            return Err(error);
        }
        let mut fitting = snapshots.all.into_iter().filter(|one| one.id.starts_with(id));
        match (fitting.next(), fitting.next()) {
            (Some(found), None) if !id.is_empty() => Ok(found),
            (Some(_), _) => {
                let what = format!("\"{id}\" begins the names of several snapshots");
                Err(Error::new(ErrorKind::Usage, what).at(&self.dir).hinting("write more of it"))
            }
            (None, _) => Err(missing(format!("there is no snapshot \"{id}\""))),
        }
    }

    /// Whether a backup is due now, by `schedule` and the times of the good snapshots.
    ///
    /// # Errors
    /// As [`Backups::snapshots`].
    pub fn due(&self, schedule: &Schedule, zone: &TimeZone) -> Result<Due> {
        let snapshots = self.snapshots()?;
        let good = snapshots.all.iter().filter(|snapshot| snapshot.is_good());
        Ok(schedule.due(good.map(|one| one.time_s), self.machine.clock.now_s(), zone))
    }

    fn vfs(&self) -> &dyn Vfs {
        &*self.machine.vfs
    }

    fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// Where ref lists are gathered; nothing in it outlives a run.
    fn spool_dir(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// Takes the lock, without waiting.
    fn lock(&self) -> Result<Lock> {
        let path = self.dir.join("lock");
        let failed = |error| Error::io("locking the backup store", &path, error);
        let file = match self.vfs().create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.vfs().open_write(&path)
            }
            file => file,
        };
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(LockError::Io(error)) => Err(failed(error)),
            Err(LockError::Held(holder)) => {
                let who =
                    holder.map_or_else(|| "another process".to_owned(), |who| who.to_string());
                let what = format!("the backup store is in use by {who}");
                let error = Error::new(ErrorKind::Locked, what).at(&self.dir);
                Err(error.hinting("wait for it to end; listing and restoring need no lock"))
            }
        }
    }

    /// Removes the file of a snapshot, durably.
    fn remove(&self, id: &str) -> Result<()> {
        let path = self.snapshots_dir().join(record::file_name(id));
        let failed = |error| Error::io("removing a snapshot", &path, error);
        match self.vfs().remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(failed)?,
        }
        self.vfs().sync_dir(&parent_dir(&path)).map_err(failed)
    }
}
