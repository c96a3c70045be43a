//! Writers, a reader and a collector on one store, call by call.
//!
//! Threads run on a simulated disk, and one at a time goes on to its next call, picked by seed. A
//! listing is no snapshot there, as on a real disk. No content that a ref names may be missing, for the
//! reader at any time and at the end. A disk on which nobody sees sessions shows that it would be noticed.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failed unwrap fails the test")]

mod common;

use common::oracle::noise;
use common::sim_fs::{SimFs, SplitMix64};
use pefc::Hash;
use pefc::disk::{File, LockError, Machine, Map, Vfs};
use pefc::store::{CollectOptions, ContentStore, Root, StoreOptions};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// Lets one thread at a time make its next call, picked by seed.
#[derive(Debug)]
struct Scheduler {
    state: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Debug)]
struct Turns {
    rng: SplitMix64,
    /// Threads that want to make a call.
    waiting: BTreeSet<usize>,
    /// Threads that have not ended; those that are not waiting are running.
    alive: usize,
    picked: Option<usize>,
    calls: usize,
}

thread_local! {
    /// Which thread of a schedule this is.
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Scheduler {
    fn new(seed: u64, threads: usize) -> Arc<Self> {
        let (rng, waiting) = (SplitMix64(seed), BTreeSet::new());
        let turns = Turns { rng, waiting, alive: threads, picked: None, calls: 0 };
        Arc::new(Self { state: Mutex::new(turns), changed: Condvar::new() })
    }

    fn pick(&self, turns: &mut Turns) {
        if turns.waiting.len() == turns.alive && turns.alive > 0 {
            let at = turns.rng.below(turns.waiting.len());
            turns.picked = turns.waiting.iter().nth(at).copied();
            self.changed.notify_all();
        }
    }

    /// Returns when it is this thread's turn.
    fn turn(&self) {
        let Some(number) = NUMBER.get() else {
            return;
        };
        let mut turns = self.state.lock().unwrap();
        turns.waiting.insert(number);
        self.pick(&mut turns);
        while turns.picked != Some(number) {
            turns = self.changed.wait(turns).unwrap();
        }
        turns.picked = None;
        turns.calls += 1;
        assert!(turns.calls < 200_000, "this never ends");
        turns.waiting.remove(&number);
    }

    fn end(&self) {
        let mut turns = self.state.lock().unwrap();
        turns.alive -= 1;
        self.pick(&mut turns);
    }
}

/// Ends the part of a thread in a schedule, however it ends.
struct Part(Arc<Scheduler>);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.end();
        NUMBER.set(None);
    }
}

/// A file system whose every call is a step of the schedule.
#[derive(Debug)]
struct Stepwise {
    fs: SimFs,
    scheduler: Arc<Scheduler>,
    /// Locks of session files can be had by anyone: sessions are not seen.
    blind: bool,
}

#[derive(Debug)]
struct StepwiseFile {
    file: Arc<dyn File>,
    scheduler: Arc<Scheduler>,
    blind: bool,
}

impl Stepwise {
    fn wrap(&self, path: &Path, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        let blind = self.blind && path.starts_with("s/sessions");
        Ok(Arc::new(StepwiseFile { file: file?, scheduler: Arc::clone(&self.scheduler), blind }))
    }
}

impl Vfs for Stepwise {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.scheduler.turn();
        self.wrap(path, self.fs.open_read(path))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.scheduler.turn();
        self.wrap(path, self.fs.open_write(path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.scheduler.turn();
        self.wrap(path, self.fs.create_new(path))
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        self.scheduler.turn();
        self.fs.rename(from, to, replace)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.scheduler.turn();
        self.fs.remove_file(path)
    }

    fn list_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.scheduler.turn();
        let first = self.fs.list_dir(dir)?;
        // No snapshot: names that sort later are read later, and what came up behind is not seen.
        self.scheduler.turn();
        let half = first.len() / 2;
        let second = self.fs.list_dir(dir)?;
        let bound = first.get(half).cloned();
        let later = second.into_iter().filter(|name| bound.as_ref().is_none_or(|b| name >= b));
        Ok(first[..half].iter().cloned().chain(later).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.fs.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.scheduler.turn();
        self.fs.sync_dir(dir)
    }
}

impl File for StepwiseFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.scheduler.turn();
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.scheduler.turn();
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.scheduler.turn();
        self.file.sync_data()
    }

    fn try_lock(&self) -> Result<(), LockError> {
        self.scheduler.turn();
        if self.blind { Ok(()) } else { self.file.try_lock() }
    }

    fn unlock(&self) -> io::Result<()> {
        self.scheduler.turn();
        self.file.unlock()
    }

    fn has_name(&self, path: &Path) -> io::Result<bool> {
        self.file.has_name(path)
    }

    fn map(&self, len: u64) -> io::Result<Option<Map>> {
        self.file.map(len)
    }
}

fn open(fs: &SimFs, scheduler: &Arc<Scheduler>, blind: bool) -> ContentStore {
    let vfs = Stepwise { fs: fs.clone(), scheduler: Arc::clone(scheduler), blind };
    let machine = Machine { vfs: Arc::new(vfs), ..fs.machine() };
    let options =
        StoreOptions { machine, threads: 1, segment_bytes_max: 2500, ..StoreOptions::default() };
    ContentStore::open(PathBuf::from("s"), options).unwrap()
}

fn content(number: usize) -> Vec<u8> {
    noise(number as u64, 300 + number * 40)
}

/// Refs are slots of each writer, in memory. A change is one step, after a commit.
type Refs = Mutex<Vec<Option<usize>>>;

const SLOTS: usize = 3;
const CONTENTS: usize = 6;

fn write(store: &ContentStore, refs: &Refs, scheduler: &Scheduler, writer: usize, seed: u64) {
    let mut rng = SplitMix64(seed);
    for _ in 0..6 {
        let slot = writer * SLOTS + rng.below(SLOTS);
        if rng.below(3) == 0 {
            scheduler.turn();
            refs.lock().unwrap()[slot] = None;
            continue;
        }
        let number = rng.below(CONTENTS);
        let mut session = store.begin().unwrap();
        if rng.below(2) == 0 || !session.keep(&Hash::of(&content(number))).unwrap() {
            session.put(&content(number)).unwrap();
        }
        session.commit().unwrap();
        scheduler.turn();
        refs.lock().unwrap()[slot] = Some(number);
        session.end().unwrap();
    }
}

fn read(store: &ContentStore, refs: &Refs, scheduler: &Scheduler, seed: u64) -> Result<(), String> {
    let mut rng = SplitMix64(seed);
    for _ in 0..12 {
        scheduler.turn();
        let slot = rng.below(2 * SLOTS);
        let Some(number) = refs.lock().unwrap()[slot] else {
            continue;
        };
        let found = store.get(&Hash::of(&content(number))).map_err(|error| error.to_string())?;
        // It may have been forgotten and collected meanwhile.
        scheduler.turn();
        let is_still = refs.lock().unwrap()[slot] == Some(number);
        match found {
            Some(bytes) => assert!(bytes == content(number)),
            None if is_still => return Err(format!("content {number} was not found")),
            None => {}
        }
    }
    Ok(())
}

fn collect(store: &ContentStore, refs: &Refs, scheduler: &Scheduler) -> Result<u64, String> {
    let options = CollectOptions { dead_percent: 0, overhead_bytes: 500, dry_run: false };
    let mut removed = 0;
    for _ in 0..4 {
        let mark = &mut |_: &Root, each: &mut dyn FnMut(Hash)| {
            for slot in 0..2 * SLOTS {
                scheduler.turn();
                let number = refs.lock().unwrap()[slot];
                number.iter().for_each(|number| each(Hash::of(&content(*number))));
            }
            Ok(())
        };
        let mut patience = 300;
        let wait = &mut |_| {
            patience -= 1;
            patience > 0
        };
        match store.collect(&options, mark, wait) {
            Ok(report) if report.missing.is_empty() => removed += report.removed_count,
            Ok(report) => return Err(format!("dangling: {report:?}")),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(removed)
}

/// One schedule; gives how many segments were removed.
fn run_schedule(seed: u64, blind: bool) -> Result<u64, String> {
    let fs = SimFs::new(seed);
    let scheduler = Scheduler::new(seed, 4);
    let refs: Refs = Mutex::new(vec![None; 2 * SLOTS]);
    let first = open(&fs, &scheduler, blind);
    first.register_root(&Root::new("test", "in memory").unwrap()).unwrap();
    drop(first);
    let part = |number: usize| {
        NUMBER.set(Some(number));
        (Part(Arc::clone(&scheduler)), open(&fs, &scheduler, blind))
    };
    let results = std::thread::scope(|scope| {
        let writers = [0, 1].map(|writer| {
            let (part, refs, scheduler) = (&part, &refs, &scheduler);
            scope.spawn(move || {
                let (_part, store) = part(writer);
                write(&store, refs, scheduler, writer, seed ^ writer as u64);
                drop(store);
                Ok(0)
            })
        });
        let reader = scope.spawn(|| {
            let (_part, store) = part(2);
            read(&store, &refs, &scheduler, !seed).map(|()| 0)
        });
        let collector = scope.spawn(|| {
            let (_part, store) = part(3);
            collect(&store, &refs, &scheduler)
        });
        writers
            .into_iter()
            .chain([reader, collector])
            .map(|thread| thread.join())
            .collect::<Vec<_>>()
    });
    let mut removed = 0;
    for result in results {
        removed += result.map_err(|_| "a thread has failed".to_owned())??;
    }
    let store = open(&fs, &scheduler, blind);
    for number in refs.into_inner().unwrap().into_iter().flatten() {
        match store.get(&Hash::of(&content(number))) {
            Ok(Some(bytes)) => assert!(bytes == content(number)),
            other => return Err(format!("content {number}: {:?}", other.map_err(|e| e.kind()))),
        }
    }
    Ok(removed)
}

#[test]
fn the_code_keeps_to_it_in_many_orders() {
    let mut removed = 0;
    for seed in 0..400 {
        removed += run_schedule(seed, false).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    println!("{removed} segments removed");
    assert!(removed > 400, "only {removed} segments were removed");
}

/// The test above can fail.
#[test]
fn sessions_that_nobody_sees_lose_contents() {
    let lost = (0..400).any(|seed| run_schedule(seed, true).is_err());
    assert!(lost, "a collection that waits for nobody was never noticed");
}
