//! Storages and backups as a configuration describes them, opened when they are asked for.
//!
//! ```
//! use pefc::config::Config;
//! use pefc::manager::StorageManager;
//! # let dir = tempfile::tempdir()?;
//! # std::fs::write(dir.path().join("pefc.yaml"), "persistence: { backup: { path: backups } }")?;
//! # let path = dir.path().join("pefc.yaml");
//!
//! let machine = pefc::disk::Machine::real();
//! let config = Config::load(&*machine.vfs, &path, &|name| std::env::var(name).ok())?;
//! let manager = StorageManager::new(config, machine);
//! let storage = manager.default_storage()?;
//! storage.store("proofs/one", b"qed")?;
//!
//! let report = manager.back_up()?;
//! storage.delete("proofs/one")?;
//! manager.restore(&report.snapshot, "file", "file", &Default::default())?;
//! assert_eq!(storage.retrieve("proofs/one")?.as_deref(), Some(&b"qed"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "metrics")]
mod measured;

use crate::backup::{
    Backups, Placed, PruneReport, RestoreOptions, RestoreReport, RunReport, Snapshot, Source,
};
use crate::config::{Config, StorageConfig, nearest};
use crate::disk::Machine;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::refs::{FileRefs, FileRefsOptions, RefStore};
#[cfg(feature = "sqlite")]
use crate::refs::{SqliteOptions, SqliteRefs};
use crate::retention::Plan;
use crate::schedule::Due;
use crate::storage::{
    Backend, CacheBackend, CacheOptions, Event, FILE_ROOT, FileBackend, Observer, PackBackend,
    PackBackendOptions, Storage,
};
#[cfg(feature = "sqlite")]
use crate::storage::{DATABASE_ROOT, DatabaseBackend};
use crate::store::{CollectOptions, CollectReport, ContentStore, Root, StoreOptions};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What is there where file refs are (`spec/refs.md`).
const REFS_MARKER: &str = "REFS";

/// Whether a collection goes on waiting for so many sessions; see [`ContentStore::collect`].
pub type Wait<'a> = &'a mut dyn FnMut(usize) -> bool;

/// The storages of a configuration. Shared by threads.
#[derive(Debug)]
pub struct StorageManager {
    config: Config,
    machine: Machine,
    observers: Vec<Arc<dyn Observer>>,
    opened: Mutex<Opened>,
}

#[derive(Debug, Default)]
struct Opened {
    contents: Option<ContentStore>,
    backends: BTreeMap<String, Arc<dyn Backend>>,
    packs: BTreeMap<String, Arc<PackBackend>>,
    caches: BTreeMap<String, Arc<CacheBackend>>,
}

impl StorageManager {
    /// Takes a configuration. Opens nothing yet: a storage that can't be opened is no trouble to
    /// the others.
    #[must_use]
    pub fn new(config: Config, machine: Machine) -> Self {
        Self { config, machine, observers: Vec::new(), opened: Mutex::default() }
    }

    /// The same, with all its storages watched.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The storage that is meant where none is named.
    ///
    /// # Errors
    /// As [`StorageManager::storage`].
    pub fn default_storage(&self) -> Result<Storage> {
        self.storage(&self.config.default_storage)
    }

    /// A storage by name; made if it is not there yet. Asked for again, it is the same one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a name that the configuration does not have; those of opening.
    pub fn storage(&self, name: &str) -> Result<Storage> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let backend = self.backend(name, &mut opened)?;
        let storage = Storage::shared(name, backend);
        Ok(self
            .observers
            .iter()
            .fold(storage, |storage, observer| storage.observed(Arc::clone(observer))))
    }

    /// The type of a storage, as in the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a name that the configuration does not have.
    pub fn type_name(&self, name: &str) -> Result<&'static str> {
        self.storage_config(name).map(StorageConfig::type_name)
    }

    /// The content store that file and database storages share.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn contents(&self) -> Result<ContentStore> {
        self.contents_in(&mut self.opened.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The cache of that name, if it is one and was asked for before.
    #[must_use]
    pub fn cache(&self, name: &str) -> Option<Arc<CacheBackend>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.caches.get(name).map(Arc::clone)
    }

    /// The pack of that name, if it is one and was asked for before.
    #[must_use]
    pub fn pack(&self, name: &str) -> Option<Arc<PackBackend>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.packs.get(name).map(Arc::clone)
    }

    fn contents_in(&self, opened: &mut Opened) -> Result<ContentStore> {
        if let Some(contents) = &opened.contents {
            return Ok(contents.clone());
        }
        let options = StoreOptions { machine: self.machine.clone(), ..StoreOptions::default() };
        let contents = ContentStore::open(&self.config.content, options)?;
        opened.contents = Some(contents.clone());
        Ok(contents)
    }

    fn backend(&self, name: &str, opened: &mut Opened) -> Result<Arc<dyn Backend>> {
        if let Some(backend) = opened.backends.get(name) {
            return Ok(Arc::clone(backend));
        }
        let machine = self.machine.clone();
        let backend: Arc<dyn Backend> = match self.storage_config(name)? {
            StorageConfig::File { base_path } => {
                let contents = self.contents_in(opened)?;
                self.refuse_lost(&contents, FILE_ROOT, base_path)?;
                Arc::new(FileBackend::open(base_path, contents, machine)?)
            }
            #[cfg(feature = "sqlite")]
            StorageConfig::Database { db_path } => {
                let contents = self.contents_in(opened)?;
                self.refuse_lost(&contents, DATABASE_ROOT, db_path)?;
                Arc::new(DatabaseBackend::open(db_path, contents, machine)?.0)
            }
            #[cfg(not(feature = "sqlite"))]
            StorageConfig::Database { db_path } => {
                let what = format!("\"{name}\" is a database, and this program has none");
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .at(db_path)
                    .hinting("build it with the feature `sqlite`"));
            }
            StorageConfig::Pack { pack_path } => {
                let options = PackBackendOptions { machine, ..PackBackendOptions::default() };
                let pack = Arc::new(PackBackend::open(pack_path, options)?);
                opened.packs.insert(name.to_owned(), Arc::clone(&pack));
                pack
            }
            StorageConfig::Cache { ttl_s, bytes_max, over } => {
                let ttl_ms = Some(u64::from(*ttl_s) * 1000);
                let options = CacheOptions { machine, ttl_ms, capacity_bytes: *bytes_max };
                let cache = Arc::new(match over {
                    Some(below) => CacheBackend::over(self.backend(below, opened)?, options),
                    None => CacheBackend::alone(options),
                });
                opened.caches.insert(name.to_owned(), Arc::clone(&cache));
                cache
            }
        };
        #[cfg(feature = "metrics")]
        let backend: Arc<dyn Backend> = {
            let clock = Arc::clone(&self.machine.clock);
            Arc::new(measured::Measured::new(name, backend, clock))
        };
        opened.backends.insert(name.to_owned(), Arc::clone(&backend));
        Ok(backend)
    }

    fn storage_config(&self, name: &str) -> Result<&StorageConfig> {
        self.config.storages.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.config.storages.keys().map(String::as_str).collect();
            let near = nearest(name, &names).map(|near| format!("; did you mean \"{near}\"?"));
            let (near, all) = (near.unwrap_or_default(), names.join(", "));
            let what = format!("there is no storage \"{name}\"{near} (there are: {all})");
            Error::new(ErrorKind::NotFound, what).hinting("`pefc config --show` shows them all")
        })
    }

    /// Removes contents that no registered storage names, also those of other configurations that
    /// share the content store.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if a registered storage is not where it was: then nothing is removed,
    /// for it may only be unplugged. Those of [`ContentStore::collect`].
    pub fn collect(&self, options: &CollectOptions, wait: Wait<'_>) -> Result<CollectReport> {
        // Each of ours is registered when it is opened; one that can't be opened ends this here.
        for (name, storage) in &self.config.storages {
            if matches!(storage, StorageConfig::File { .. } | StorageConfig::Database { .. }) {
                self.storage(name)?;
            }
        }
        let mut mark = |root: &Root, needs: &mut dyn FnMut(Hash)| self.mark(root, needs);
        self.contents()?.collect(options, &mut mark, wait)
    }

    fn mark(&self, root: &Root, needs: &mut dyn FnMut(Hash)) -> Result<()> {
        let path = Path::new(root.location());
        let mut each = |_: &[u8], value: &crate::refs::Ref| {
            needs(value.name);
            Ok(())
        };
        let machine = self.machine.clone();
        match root.kind() {
            FILE_ROOT => {
                self.must_exist(root.kind(), path)?;
                let options = FileRefsOptions { machine, ..FileRefsOptions::default() };
                FileRefs::open(path, options)?.snapshot(&mut each)?;
            }
            #[cfg(feature = "sqlite")]
            DATABASE_ROOT => {
                self.must_exist(root.kind(), path)?;
                let options = SqliteOptions { machine, ..SqliteOptions::default() };
                SqliteRefs::open(path, options)?.snapshot(&mut each)?;
            }
            kind => {
                let what = format!("a storage of kind `{kind}` is registered and can't be read");
                return Err(Error::new(ErrorKind::Unsupported, what).at(path));
            }
        }
        Ok(())
    }

    /// Refuses to make a storage anew that the content store knows and that is gone: it may only be
    /// unplugged, and an empty one in its place would let a collection remove all that it named.
    fn refuse_lost(&self, contents: &ContentStore, kind: &str, path: &Path) -> Result<()> {
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|error| Error::io("finding the storage", path, error))?;
        let is_ours =
            |root: &Root| root.kind() == kind && Some(root.location()) == absolute.to_str();
        if contents.roots()?.iter().any(is_ours) { self.must_exist(kind, path) } else { Ok(()) }
    }

    /// Opening refs that are not there would make new ones, without a key.
    fn must_exist(&self, kind: &str, path: &Path) -> Result<()> {
        let proof = if kind == FILE_ROOT { path.join(REFS_MARKER) } else { path.to_owned() };
        self.machine.vfs.open_read(&proof).map(drop).map_err(|error| {
            let what = "a storage that the content store knows can't be read";
            Error::new(ErrorKind::Missing, what).at(path).because(error).hinting(
                "nothing was changed; put it back, or give up what only it names with `pefc gc \
                 --forget-root`",
            )
        })
    }

    /// Where a storage is, as text that says which one it is.
    fn placed(&self, name: &str) -> Result<Placed> {
        let config = self.storage_config(name)?;
        let path = config.path().map(|path| std::path::absolute(path).unwrap_or(path.to_owned()));
        let place = path.map_or_else(|| "memory".to_owned(), |path| path.display().to_string());
        let location = format!("{}:{place}", config.type_name());
        Ok(Placed { location, storage: self.storage(name)? })
    }

    /// The backup store; with `create` it is made if it is not there.
    ///
    /// # Errors
    /// As [`Backups::open`].
    pub fn backups(&self, create: bool) -> Result<Backups> {
        Backups::open(&self.config.backup.path, &self.machine, create)
    }

    /// Makes a backup of all storages that the configuration says, now.
    ///
    /// # Errors
    /// As [`Backups::run`].
    pub fn back_up(&self) -> Result<RunReport> {
        let names = &self.config.backup.storages;
        let placed: Vec<Placed> =
            names.iter().map(|name| self.placed(name)).collect::<Result<_>>()?;
        let sources: Vec<(&str, &dyn Source)> =
            names.iter().zip(&placed).map(|(name, one)| (&**name, one as &dyn Source)).collect();
        let report = self.backups(true)?.run(&sources)?;
        if report.snapshot.is_good() {
            for (storage, saved) in &report.snapshot.storages {
                let (snapshot, key_count) = (&*report.snapshot.id, saved.key_count);
                let event = Event::BackedUp { storage, snapshot, key_count };
                self.observers.iter().for_each(|observer| observer.observe(&event));
            }
        }
        Ok(report)
    }

    /// Whether a backup is due. Never, where backups are not enabled.
    ///
    /// # Errors
    /// As [`Backups::due`].
    pub fn backup_due(&self) -> Result<Due> {
        if !self.config.backup.enabled {
            return Ok(Due::Never);
        }
        self.backups(true)?.due(&self.config.backup.schedule, &self.zone())
    }

    /// What pruning would keep, and why.
    ///
    /// # Errors
    /// As [`Backups::plan`].
    pub fn plan(&self, trust_clock: bool) -> Result<Plan> {
        self.backups(false)?.plan(&self.config.backup.retention, &self.zone(), trust_clock)
    }

    /// Removes the snapshots that the configuration does not keep.
    ///
    /// # Errors
    /// As [`Backups::prune`].
    pub fn prune(&self, trust_clock: bool, wait: Wait<'_>) -> Result<PruneReport> {
        let policy = &self.config.backup.retention;
        self.backups(false)?.prune(policy, &self.zone(), trust_clock, wait)
    }

    /// Restores what a snapshot has of the storage `from` into the storage `into`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the snapshot or the configuration does not have it; as
    /// [`Backups::restore`].
    pub fn restore(
        &self,
        snapshot: &Snapshot,
        from: &str,
        into: &str,
        options: &RestoreOptions,
    ) -> Result<RestoreReport> {
        let Some(saved) = snapshot.storages.get(from) else {
            let names: Vec<&str> = snapshot.storages.keys().map(String::as_str).collect();
            let (id, all) = (&snapshot.id, names.join(", "));
            let what = format!("the snapshot {id} has no storage \"{from}\" (it has: {all})");
            return Err(Error::new(ErrorKind::NotFound, what));
        };
        self.backups(false)?.restore(from, saved, &self.placed(into)?, options)
    }

    /// Where days begin.
    fn zone(&self) -> TimeZone {
        self.config.backup.time_zone.clone().unwrap_or_else(TimeZone::system)
    }
}
