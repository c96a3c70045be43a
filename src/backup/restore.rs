//! From a snapshot back into storages.

use super::Backups;
use super::record::SavedStorage;
use super::run::is_damage;
use super::source::Target;
use super::verify::{Problem, Problems};
use crate::error::{Error, ErrorKind, Result};
use crate::refs::Ref;
use std::collections::BTreeSet;

/// Keys that are restored at once: all of them, or none.
const KEYS_PER_BATCH: usize = 1024;

/// What to restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// This key alone.
    pub key: Option<Vec<u8>>,
    /// Whether keys go that the snapshot does not have. Without it they stay.
    pub exact: bool,
}

/// What was restored.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Keys that were set.
    pub restored_count: u64,
    /// Keys that stood for the same already, times included.
    pub unchanged_count: u64,
    /// Keys that were deleted.
    pub deleted_count: u64,
    /// Keys that could not be restored, because the backup is damaged: they are as they were.
    pub problems: Problems,
}

pub(super) fn missing(key: &[u8], value: &Ref) -> Error {
    let what = format!("content {} of the key \"{}\" is missing", value.name, key.escape_ascii());
    Error::new(ErrorKind::Missing, what)
}

impl Backups {
    /// Restores a storage, or one key of it, as a snapshot has it. Batch by batch: a run that is killed
    /// has restored some of it, and goes on when it is run again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the snapshot does not have the key; those of the target. Damage in
    /// the backup is in the report, and all else is restored; but if the ref list itself is damaged, that is
    /// the error, and keys after the damage are as they were.
    pub fn restore(
        &self,
        name: &str,
        saved: &SavedStorage,
        target: &dyn Target,
        options: &RestoreOptions,
    ) -> Result<RestoreReport> {
        let mut restoring = Restoring {
            backups: self,
            storage: name,
            target,
            batch: Vec::new(),
            report: RestoreReport::default(),
        };
        let mut others = BTreeSet::new();
        if options.exact && options.key.is_none() {
            target.snapshot(&mut |key, _| {
                others.insert(key.to_vec());
                Ok(())
            })?;
        }
        let mut found = false;
        for entry in self.entries(saved)? {
            let (key, value) = entry?;
            match &options.key {
                Some(wanted) if *wanted != key => continue,
                _ => found = true,
            }
            others.remove(&key);
            restoring.key(key, value)?;
        }
        if let Some(key) = options.key.as_ref().filter(|_| !found) {
            let what = format!("the snapshot has no key \"{}\" in \"{name}\"", key.escape_ascii());
            return Err(Error::new(ErrorKind::NotFound, what));
        }
        // Last, so that nothing goes if the list turns out to be damaged.
        for key in others {
            restoring.push(key, None)?;
        }
        restoring.flush()?;
        Ok(restoring.report)
    }
}

struct Restoring<'a> {
    backups: &'a Backups,
    storage: &'a str,
    target: &'a dyn Target,
    batch: Vec<(Vec<u8>, Option<Ref>)>,
    report: RestoreReport,
}

impl Restoring<'_> {
    fn key(&mut self, key: Vec<u8>, value: Ref) -> Result<()> {
        if self.target.current(&key)? == Some(value) {
            self.report.unchanged_count += 1;
            return Ok(());
        }
        self.push(key, Some(value))
    }

    fn push(&mut self, key: Vec<u8>, value: Option<Ref>) -> Result<()> {
        self.batch.push((key, value));
        if self.batch.len() >= KEYS_PER_BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() || self.restored(&batch)? {
            return Ok(());
        }
        // Something in it is damaged: one by one, to tell which.
        for one in batch {
            let one = [one];
            match self.target.restore(&self.backups.contents, &one) {
                Ok(()) => self.count(&one),
                Err(error) if is_damage(&error) => {
                    let [(key, value)] = one;
                    let storage = self.storage.to_owned();
                    let name = value.map_or(crate::hash::Hash::of(b""), |value| value.name);
                    self.report.problems.push(Problem { storage, key, name, error });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Restores a batch; `false` if something in the backup can't be read.
    fn restored(&mut self, batch: &[(Vec<u8>, Option<Ref>)]) -> Result<bool> {
        match self.target.restore(&self.backups.contents, batch) {
            Ok(()) => {
                self.count(batch);
                Ok(true)
            }
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, batch: &[(Vec<u8>, Option<Ref>)]) {
        let deleted = batch.iter().filter(|(_, value)| value.is_none()).count() as u64;
        self.report.deleted_count += deleted;
        self.report.restored_count += batch.len() as u64 - deleted;
    }
}
