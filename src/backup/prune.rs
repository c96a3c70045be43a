//! Letting old snapshots go, and what only they needed.

use super::Backups;
use super::record;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::retention::{self, Plan, Policy};
use crate::store::{CollectOptions, CollectReport};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// What pruning did.
#[derive(Debug)]
pub struct PruneReport {
    /// What was decided.
    pub plan: Plan,
    /// What collecting their contents did.
    pub collected: CollectReport,
}

impl Backups {
    /// What a policy would keep, and why. With `trust_clock` the time now is believed, whatever the
    /// snapshots say.
    ///
    /// # Errors
    /// Those of a snapshot that can't be read: nothing is decided without knowing all.
    pub fn plan(&self, policy: &Policy, zone: &TimeZone, trust_clock: bool) -> Result<Plan> {
        let snapshots = self.snapshots()?.whole()?;
        let newest_s = snapshots.iter().map(|snapshot| snapshot.time_s).max();
        let now_s = match newest_s {
            // Nothing but the doubt depends on the time.
            Some(newest_s) if trust_clock => newest_s,
            _ => self.machine.clock.now_s(),
        };
        let list: Vec<_> = snapshots.iter().map(record::Snapshot::for_retention).collect();
        Ok(retention::plan(&list, policy, now_s, zone))
    }

    /// Removes the snapshots that [`Backups::plan`] does not keep, and collects what only they named.
    /// `wait` is as in [`crate::store::ContentStore::collect`].
    ///
    /// # Errors
    /// As [`Backups::plan`]; [`ErrorKind::Locked`]; those of the disk. What was removed until then is.
    pub fn prune(
        &self,
        policy: &Policy,
        zone: &TimeZone,
        trust_clock: bool,
        wait: &mut dyn FnMut(usize) -> bool,
    ) -> Result<PruneReport> {
        let _lock = self.lock()?;
        let plan = self.plan(policy, zone, trust_clock)?;
        for id in plan.removed() {
            self.remove(id)?;
        }
        Ok(PruneReport { plan, collected: self.collect_locked(wait)? })
    }

    /// Removes one snapshot, whatever its state: also one whose file is damaged. Its contents go with
    /// the next pruning.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Usage`] for the newest good one, which is never removed;
    /// [`ErrorKind::Locked`]; those of the disk.
    pub fn forget(&self, id: &str) -> Result<()> {
        let _lock = self.lock()?;
        let snapshots = self.snapshots()?;
        let path = self.snapshots_dir().join(record::file_name(id));
        let exists = snapshots.all.iter().any(|snapshot| snapshot.id == id)
            || snapshots.unreadable.iter().any(|(unreadable, _)| *unreadable == path);
        if !exists {
            let what = format!("there is no snapshot \"{id}\"");
            return Err(Error::new(ErrorKind::NotFound, what)
                .at(&self.dir)
                .hinting("`pefc backup list` shows the snapshots that there are"));
        }
        if snapshots.newest_good().is_some_and(|newest| newest.id == id) {
            let what = format!("\"{id}\" is the newest good snapshot");
            return Err(Error::new(ErrorKind::Usage, what)
                .at(&self.dir)
                .hinting("make another one first"));
        }
        self.remove(id)
    }

    fn collect_locked(&self, wait: &mut dyn FnMut(usize) -> bool) -> Result<CollectReport> {
        let mut mark = |_: &_, needs: &mut dyn FnMut(Hash)| self.mark(needs);
        self.contents.collect(&CollectOptions::default(), &mut mark, wait)
    }

    /// Gives every content that some snapshot needs.
    fn mark(&self, needs: &mut dyn FnMut(Hash)) -> Result<()> {
        let mut lists = BTreeSet::new();
        for snapshot in self.snapshots()?.whole()? {
            for saved in snapshot.storages.values() {
                // One list is that of many snapshots, where nothing changed.
                let name = saved.refs_name()?;
                if !lists.insert(name) {
                    continue;
                }
                needs(name);
                for entry in self.entries(saved)? {
                    needs(entry?.1.name);
                }
            }
        }
        Ok(())
    }
}
