//! Reading snapshots whole, to say whether they can be restored.

use super::Backups;
use super::record::{self, Check, Snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use std::collections::{BTreeMap, HashMap};

/// Most problems that are told one by one.
const PROBLEMS_TOLD_MAX: usize = 1000;

/// A key that can't be restored.
#[derive(Debug)]
pub struct Problem {
    /// Name of the storage.
    pub storage: String,
    /// The key; empty if all keys of the storage are lost.
    pub key: Vec<u8>,
    /// What it stands for.
    pub name: Hash,
    /// Why.
    pub error: Error,
}

/// Keys that can't be restored.
#[derive(Debug, Default)]
pub struct Problems {
    /// How many.
    pub count: u64,
    /// The first thousand.
    pub first: Vec<Problem>,
}

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        self.count += 1;
        if self.first.len() < PROBLEMS_TOLD_MAX {
            self.first.push(problem);
        }
    }

    pub(super) fn append(&mut self, others: Self) {
        self.count += others.count;
        let room = PROBLEMS_TOLD_MAX.saturating_sub(self.first.len());
        self.first.extend(others.first.into_iter().take(room));
    }
}

/// What verifying a snapshot found.
#[derive(Debug)]
pub struct VerifySnapshotReport {
    /// Name of the snapshot.
    pub id: String,
    /// Keys that were looked at.
    pub key_count: u64,
    /// Keys that can't be restored.
    pub problems: Problems,
}

impl Backups {
    /// Reads every ref list and every content of `snapshots` whole; what several name is read once.
    /// Changes nothing: see [`Backups::record_check`].
    ///
    /// # Errors
    /// Only what keeps it from verifying at all; damage is in the reports.
    pub fn verify(&self, snapshots: &[Snapshot]) -> Result<Vec<VerifySnapshotReport>> {
        let mut seen = HashMap::new();
        snapshots.iter().map(|snapshot| self.verify_one(snapshot, &mut seen)).collect()
    }

    fn verify_one(
        &self,
        snapshot: &Snapshot,
        seen: &mut HashMap<Hash, bool>,
    ) -> Result<VerifySnapshotReport> {
        let id = snapshot.id.clone();
        let mut report = VerifySnapshotReport { id, key_count: 0, problems: Problems::default() };
        for (storage, saved) in &snapshot.storages {
            let mut key_count = 0;
            let read = self.entries(saved).and_then(|entries| {
                for entry in entries {
                    let (key, value) = entry?;
                    key_count += 1;
                    if let Some(error) = self.fault_of(&value.name, seen)? {
                        let (storage, name) = (storage.clone(), value.name);
                        report.problems.push(Problem { storage, key, name, error });
                    }
                }
                Ok(())
            });
            report.key_count += key_count;
            let error = match read {
                Ok(()) if key_count == saved.key_count => continue,
                Ok(()) => Error::new(ErrorKind::Corrupt, "its ref list has another number of keys"),
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                Err(error) => error,
            };
            let name = saved.refs_name().unwrap_or(Hash::from_bytes([0; Hash::LEN]));
            let storage = storage.clone();
            report.problems.push(Problem { storage, key: Vec::new(), name, error });
        }
        Ok(report)
    }

    /// Why a content can't be read, if it can't.
    fn fault_of(&self, name: &Hash, seen: &mut HashMap<Hash, bool>) -> Result<Option<Error>> {
        match seen.get(name) {
            Some(true) => return Ok(None),
            Some(false) => {
                return Ok(Some(Error::new(
                    ErrorKind::Corrupt,
                    format!("content {name}, as above"),
                )));
            }
            None => {}
        }
        let fault = self.contents.check([Ok(*name)])?.into_iter().next();
        seen.insert(*name, fault.is_none());
        Ok(fault.map(|problem| problem.error))
    }

    /// Writes into the files of snapshots when they were verified and what that found. Those that
    /// are gone meanwhile stay gone.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`], and those of the disk.
    pub fn record_check(&self, reports: &[VerifySnapshotReport]) -> Result<()> {
        let _lock = self.lock()?;
        let time_s = self.machine.clock.now_s();
        let found: BTreeMap<&str, u64> =
            reports.iter().map(|report| (&*report.id, report.problems.count)).collect();
        for mut snapshot in self.snapshots()?.all {
            if let Some(problem_count) = found.get(&*snapshot.id).copied() {
                snapshot.check = Check { time_s, problem_count };
                let path = self.snapshots_dir().join(record::file_name(&snapshot.id));
                record::write(&self.machine, &path, &snapshot)?;
            }
        }
        Ok(())
    }
}
