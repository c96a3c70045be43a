//! Collection: what no root names goes, and small segments become one (`spec/store.md`,
//! "Collection").
//!
//! Every step may be the last of its process: the next collection goes on from what it finds.

mod copy;

use super::Inner;
use super::layout::{
    Condemned, Root, SessionState, is_session_name, is_temporary_name, read_text, try_own,
    write_text,
};
use super::view::Segment;
use crate::disk::LockError;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::pack::{Pack, Use};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Segments are merged once so many are of like size.
const MERGED_SEGMENTS: usize = 4;
/// Sizes are alike within such a factor.
const LIKE_SIZE_BITS: u32 = 2;
/// What to collect.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// A segment is rewritten once more than so many hundredths of its bytes are of no use. A segment
    /// of which nothing is of use always goes.
    pub dead_percent: u8,
    /// So many bytes of a segment may be of no use before any share counts. Even a new one spends some
    /// on headers, dictionaries and indexes: with less than that it is rewritten every time.
    pub overhead_bytes: u64,
    /// Only report what would be condemned.
    pub dry_run: bool,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self { dead_percent: 30, overhead_bytes: 256 << 10, dry_run: false }
    }
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// The epoch that it published, or would have.
    pub epoch: u64,
    /// Contents that roots name; 0 for a merge.
    pub live_count: u64,
    /// Of them, those that no segment holds: refs that dangle.
    pub missing: Vec<Hash>,
    /// Segments that were condemned.
    pub condemned_count: u64,
    /// Of them, those that were removed.
    pub removed_count: u64,
    /// Of them, those that stay because content in them can't be read: their file names.
    pub damaged: Vec<String>,
    /// Contents that were copied out of condemned segments.
    pub copied_count: u64,
    /// Bytes of condemned segments that were removed.
    pub removed_bytes: u64,
    /// Bytes of the segment written in their place.
    pub written_bytes: u64,
    /// Sessions that kept the collection from going on; the next one does.
    pub waiting_for: usize,
}

/// Gives every content that a root needs to its second argument.
pub type Mark<'m> = dyn FnMut(&Root, &mut dyn FnMut(Hash)) -> Result<()> + 'm;

/// What is to be kept.
pub(super) enum Keep<'k, 'm> {
    /// What roots name.
    Live(&'k mut Mark<'m>),
    /// Everything: segments are merged, nothing is removed.
    All,
}

/// A segment that could be opened, and what is of use in it.
struct Candidate {
    segment: Arc<Segment>,
    pack: Arc<Pack>,
    used: Use,
}

impl Inner {
    pub(super) fn collect(
        &self,
        options: &CollectOptions,
        mut keep: Keep<'_, '_>,
        wait: &mut dyn FnMut(usize) -> bool,
    ) -> Result<CollectReport> {
        let _lock = self.lock_collection()?;
        if !options.dry_run {
            self.remove_left_overs()?;
        }
        let mut condemned = Condemned::read(&*self.options.machine.vfs, &self.paths)?;
        let mut report = CollectReport { epoch: condemned.epoch, ..CollectReport::default() };
        // What an earlier collection has condemned comes first; it may have been removed in part.
        if condemned.segments.is_empty() {
            let victims = self.choose(options, &mut keep, &mut report)?;
            report.condemned_count = victims.len() as u64;
            if victims.is_empty() || options.dry_run {
                return Ok(report);
            }
            condemned = Condemned { epoch: condemned.epoch + 1, segments: victims };
            self.publish(&condemned)?;
        } else if options.dry_run {
            report.condemned_count = condemned.segments.len() as u64;
            return Ok(report);
        }
        report.epoch = condemned.epoch;
        report.condemned_count = condemned.segments.len() as u64;
        report.waiting_for = self.wait_for_older_sessions(condemned.epoch, wait)?;
        if report.waiting_for > 0 {
            return Ok(report);
        }
        // Now nobody relies on a condemned segment but through refs. What older sessions have set is
        // there to be marked; what newer ones set does not need condemned segments.
        let live = match &mut keep {
            Keep::Live(mark) => Some(self.mark(&mut **mark)?),
            Keep::All => None,
        };
        report.live_count = live.as_ref().map_or(0, |live| live.len() as u64);
        let damaged = self.copy_out(&condemned, live.as_deref(), &mut report)?;
        self.sweep(&condemned, &damaged, &mut report)?;
        report.damaged = damaged.into_iter().collect();
        Ok(report)
    }

    /// The lock that one collection at a time holds.
    fn lock_collection(&self) -> Result<Arc<dyn crate::disk::File>> {
        let path = self.paths.gc_lock();
        let locking = |error| Error::io("locking the store for collection", &path, error);
        let vfs = &self.options.machine.vfs;
        match vfs.create_new(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(locking(error)),
        }
        let file = vfs.open_write(&path).map_err(locking)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(LockError::Held(holder)) => {
                let who = holder.map_or_else(String::new, |holder| format!(" by {holder}"));
                let what = format!("contents are being collected already{who}");
                Err(Error::new(ErrorKind::Locked, what).at(&path).hinting("wait for it to end"))
            }
            Err(LockError::Io(error)) => Err(locking(error)),
        }
    }

    fn publish(&self, condemned: &Condemned) -> Result<()> {
        let path = self.paths.condemned();
        write_text(&self.options.machine, &path, &condemned.encode(), true).map(drop)
    }

    /// Registered ref stores.
    pub(super) fn roots(&self) -> Result<Vec<Root>> {
        let (dir, vfs) = (self.paths.roots(), &*self.options.machine.vfs);
        let listed = vfs.list_dir(&dir);
        let listed = listed.map_err(|error| Error::io("listing the ref stores", &dir, error))?;
        let mut roots = Vec::new();
        for name in listed.iter().filter(|name| !name.to_string_lossy().starts_with('.')) {
            let path = dir.join(name);
            let Some(text) = read_text(vfs, &path)? else {
                continue; // unregistered meanwhile
            };
            roots.push(Root::decode(&text).ok_or_else(|| {
                let what = "the registration of a ref store is damaged";
                Error::new(ErrorKind::Corrupt, what).at(&path).hinting(
                    "register that ref store again, then remove this file: nothing is collected before",
                )
            })?);
        }
        Ok(roots)
    }

    /// Every content that a root needs, in order.
    fn mark(&self, mark: &mut Mark<'_>) -> Result<Vec<Hash>> {
        let roots = self.roots()?;
        if roots.is_empty() {
            let what = "no ref store is registered, so that every content would be removed";
            let error = Error::new(ErrorKind::Usage, what).at(&self.paths.dir);
            return Err(error.hinting("open the storages that use this store once; they register"));
        }
        let mut live = Vec::new();
        for root in &roots {
            mark(root, &mut |name| live.push(name))?;
        }
        live.sort_unstable();
        live.dedup();
        Ok(live)
    }

    /// Segments that are worth rewriting.
    fn choose(
        &self,
        options: &CollectOptions,
        keep: &mut Keep<'_, '_>,
        report: &mut CollectReport,
    ) -> Result<BTreeSet<String>> {
        let mut candidates = self.candidates()?;
        let mut victims = BTreeSet::new();
        if let Keep::Live(mark) = keep {
            let live = self.mark(&mut **mark)?;
            report.live_count = live.len() as u64;
            count_use(&mut candidates, &live);
            let percent = u64::from(options.dead_percent.min(100));
            for Candidate { segment, pack, used } in &candidates {
                let dead = pack.committed_bytes().saturating_sub(used.bytes);
                let limit = options.overhead_bytes.max(pack.committed_bytes() / 100 * percent);
                if used.bytes == 0 || dead > limit {
                    victims.insert(segment.name.clone());
                }
            }
        }
        // Of like size and free: who writes to one goes on undisturbed.
        let mut sizes: BTreeMap<u32, Vec<&Candidate>> = BTreeMap::new();
        for candidate in &candidates {
            let bits = candidate.pack.committed_bytes().max(1).ilog2() / LIKE_SIZE_BITS;
            if !victims.contains(&candidate.segment.name) {
                sizes.entry(bits).or_default().push(candidate);
            }
        }
        let vfs = &*self.options.machine.vfs;
        for alike in sizes.values().filter(|alike| alike.len() >= MERGED_SEGMENTS) {
            let is_free = |path: &Path| matches!(try_own(vfs, path), Ok(Some(_)));
            let free: Vec<_> = alike.iter().filter(|c| is_free(&c.segment.path)).collect();
            if free.len() >= MERGED_SEGMENTS {
                victims.extend(free.iter().map(|candidate| candidate.segment.name.clone()));
            }
        }
        Ok(victims)
    }

    /// Segments that can be opened, largest first. Damaged ones stay for `recover`.
    fn candidates(&self) -> Result<Vec<Candidate>> {
        let view = self.list()?;
        self.look_again(&view, |_| true);
        let mut candidates = Vec::new();
        for segment in &view.segments {
            if let Ok(Some(pack)) = segment.pack(&self.options) {
                let segment = Arc::clone(segment);
                candidates.push(Candidate { segment, pack, used: Use::default() });
            }
        }
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.pack.committed_bytes()));
        Ok(candidates)
    }

    /// Waits until every session that is still running began under `epoch` or later, and gives how
    /// many are left if `wait` loses patience.
    fn wait_for_older_sessions(
        &self,
        epoch: u64,
        wait: &mut dyn FnMut(usize) -> bool,
    ) -> Result<usize> {
        loop {
            let count = self.older_session_count(epoch)?;
            if count == 0 || !wait(count) {
                return Ok(count);
            }
        }
    }

    fn older_session_count(&self, epoch: u64) -> Result<usize> {
        let (dir, vfs) = (self.paths.sessions(), &*self.options.machine.vfs);
        let looking = |error| Error::io("looking for sessions", &dir, error);
        let mut count = 0;
        for name in vfs.list_dir(&dir).map_err(looking)? {
            if !is_session_name(&name.to_string_lossy()) {
                continue;
            }
            let path = dir.join(name);
            if let Some(left_over) = try_own(vfs, &path).map_err(looking)? {
                // Nobody has it: its session ended with its process.
                remove_if_there(vfs, &path).map_err(looking)?;
                drop(left_over);
                continue;
            }
            let state = match vfs.open_read(&path) {
                Ok(file) => SessionState::read(&*file).map_err(looking)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(looking(error)),
            };
            count += usize::from(state < SessionState(epoch));
        }
        Ok(count)
    }

    /// Removes condemned segments but for `damaged` ones, then the sentence.
    fn sweep(
        &self,
        condemned: &Condemned,
        damaged: &BTreeSet<String>,
        report: &mut CollectReport,
    ) -> Result<()> {
        let (dir, vfs) = (self.paths.segments(), &*self.options.machine.vfs);
        let removing = |error| Error::io("removing a condemned segment", &dir, error);
        for name in condemned.segments.difference(damaged) {
            let path = self.paths.segment(name);
            let len = match vfs.open_read(&path) {
                Ok(file) => file.len().map_err(removing)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(removing(error)),
            };
            remove_if_there(vfs, &path).map_err(removing)?;
            report.removed_count += 1;
            report.removed_bytes += len;
        }
        // A segment that came back after a crash must still be condemned.
        vfs.sync_dir(&dir).map_err(removing)?;
        self.publish(&Condemned { epoch: condemned.epoch, segments: BTreeSet::new() })?;
        self.list().map(drop)
    }

    /// Files that someone was making when he died.
    fn remove_left_overs(&self) -> Result<()> {
        let vfs = &*self.options.machine.vfs;
        for dir in [self.paths.segments(), self.paths.roots(), self.paths.dir.clone()] {
            let removing = |error| Error::io("removing what was left over", &dir, error);
            for name in vfs.list_dir(&dir).map_err(removing)? {
                let path = dir.join(&name);
                if is_temporary_name(&name.to_string_lossy())
                    && let Some(left_over) = try_own(vfs, &path).map_err(removing)?
                {
                    remove_if_there(vfs, &path).map_err(removing)?;
                    drop(left_over);
                }
            }
        }
        Ok(())
    }
}

/// Counts what is live, each content in the first segment that lists it.
fn count_use(candidates: &mut [Candidate], live: &[Hash]) {
    for name in live {
        for Candidate { pack, used, .. } in candidates.iter_mut() {
            // What can't be counted counts as dead: it is looked at again before anything goes.
            if let Ok(Some(place)) = pack.indexed_place(name) {
                let _ = pack.count_use(place, used);
                break;
            }
        }
    }
}

fn remove_if_there(vfs: &dyn crate::disk::Vfs, path: &Path) -> io::Result<()> {
    match vfs.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
