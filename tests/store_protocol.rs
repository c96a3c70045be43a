//! Sessions beside collections, step by step, in every order.
//!
//! First the protocol of `spec/store.md` as a model: small steps, all interleavings of two writers and
//! a collector with crashes anywhere. A content that a ref names must be in a segment, always. Each
//! rule of the protocol can be left out, and then some order must lose a content: no rule is there
//! without need.
//!
//! Then the code itself: threads on a simulated disk, of which one at a time goes on to its next call,
//! picked by seed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::noise;
use common::sim_fs::{SimFs, SplitMix64};
use pefc::Hash;
use pefc::disk::{File, LockError, Machine, Map, Vfs};
use pefc::store::{CollectOptions, ContentStore, Root, StoreOptions};
use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// What the protocol demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A session says that it is there before it looks at what is condemned.
    AnnounceFirst,
    /// It lists the segments after it has looked at what is condemned.
    ListAfterwards,
    /// It relies on nothing in condemned segments.
    ShunCondemned,
    /// The segment that a writer has kept from an earlier session is looked at like any other.
    LookAtOwn,
    /// Refs change before the session ends.
    RefsBeforeEnd,
    /// What a ref is set to was put or kept in the same session.
    KeepFirst,
    /// A collection waits for sessions that began before it condemned.
    Wait,
    /// It marks again after it has waited.
    MarkAgain,
    /// It copies before it removes.
    CopyFirst,
    /// Epochs go on rising when the list of condemned segments is empty.
    EpochsRise,
}

const RULES: [Rule; 10] = [
    Rule::AnnounceFirst,
    Rule::ListAfterwards,
    Rule::ShunCondemned,
    Rule::LookAtOwn,
    Rule::RefsBeforeEnd,
    Rule::KeepFirst,
    Rule::Wait,
    Rule::MarkAgain,
    Rule::CopyFirst,
    Rule::EpochsRise,
];

/// Sets of segments and of contents: one bit each.
type Bits = u16;

const WRITERS: usize = 2;
const SEGMENTS: usize = 12;
/// Collections that are begun, at most.
const ROUNDS: u8 = 2;

/// What each writer does, session by session: the content that its ref is set to, and how.
const SCRIPT: [[Turn; 2]; WRITERS] = [
    // The first content is there already, and nothing names it.
    [Turn::Put(0), Turn::Copy(1)],
    // What was put and forgotten is put again, by the writer that still has the segment open.
    [Turn::PutAndForget(1), Turn::Put(1)],
];

#[derive(Clone, Copy)]
enum Turn {
    Put(u8),
    PutAndForget(u8),
    /// Sets a ref to a content if it is there, without its bytes.
    Copy(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Writer {
    step: u8,
    turn: u8,
    epoch: u8,
    condemned: Bits,
    view: Bits,
    own: Option<u8>,
    /// The ref is set when the time comes.
    found: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Collector {
    step: u8,
    round: u8,
    epoch: u8,
    victims: Bits,
    live: Bits,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// What is published.
    epoch: u8,
    condemned: Bits,
    /// Segments that have a name, and what each holds.
    named: Bits,
    holds: [Bits; SEGMENTS],
    made: u8,
    refs: Bits,
    /// What session files say; none if nobody has the lock, or no session is on.
    sessions: [Option<u8>; WRITERS],
    writers: [Writer; WRITERS],
    collector: Collector,
    crashes: u8,
}

impl State {
    fn first() -> Self {
        let mut holds = [0; SEGMENTS];
        holds[0] = 1;
        Self {
            epoch: 0,
            condemned: 0,
            named: 1,
            holds,
            made: 1,
            refs: 0,
            sessions: [None; WRITERS],
            writers: Default::default(),
            collector: Collector::default(),
            crashes: 0,
        }
    }

    fn held_by(&self, segments: Bits) -> Bits {
        let held = (0..SEGMENTS).filter(|at| segments & 1 << at != 0).map(|at| self.holds[at]);
        held.fold(0, |all, holds| all | holds)
    }

    fn make_segment(&mut self) -> u8 {
        let at = self.made;
        self.made += 1;
        self.named |= 1 << at;
        at
    }

    /// The states that may come next, but for crashes.
    fn next(&self, without: Option<Rule>) -> Vec<Self> {
        let mut next: Vec<Self> =
            (0..WRITERS).filter_map(|at| self.writer_step(at, without)).collect();
        next.extend(self.collector_step(without));
        if self.crashes > 0 {
            return next;
        }
        // A process is killed: its locks are free, and all that it knew is gone.
        for at in 0..WRITERS {
            if self.writers[at].step > 0 {
                let mut after = self.clone();
                after.crashes += 1;
                after.sessions[at] = None;
                after.writers[at] = Writer { turn: self.writers[at].turn + 1, ..Writer::default() };
                next.push(after);
            }
        }
        if self.collector.step > 0 {
            let mut after = self.clone();
            after.crashes += 1;
            after.collector = Collector { round: self.collector.round, ..Collector::default() };
            next.push(after);
        }
        next
    }

    fn writer_step(&self, at: usize, without: Option<Rule>) -> Option<Self> {
        let has = |rule| without != Some(rule);
        let turn = *SCRIPT[at].get(usize::from(self.writers[at].turn))?;
        let mut after = self.clone();
        let mut me = self.writers[at].clone();
        me.step += 1;
        let (epoch, condemned) = (self.epoch, self.condemned);
        let content = match turn {
            Turn::Put(content) | Turn::PutAndForget(content) | Turn::Copy(content) => 1 << content,
        };
        match self.writers[at].step {
            0 if has(Rule::AnnounceFirst) => after.sessions[at] = Some(0),
            1 if has(Rule::ListAfterwards) => (me.epoch, me.condemned) = (epoch, condemned),
            2 if !has(Rule::ListAfterwards) => (me.epoch, me.condemned) = (epoch, condemned),
            1 | 2 => me.view = self.named,
            3 => after.sessions[at] = Some(me.epoch),
            4 => after.put(&mut me, turn, content, without),
            5 if me.found && has(Rule::RefsBeforeEnd) => after.refs |= content,
            6 => after.sessions[at] = None,
            7 if me.found && !has(Rule::RefsBeforeEnd) => after.refs |= content,
            8 => {
                if matches!(turn, Turn::PutAndForget(_)) {
                    after.refs &= !content;
                }
                me = Writer { turn: me.turn + 1, own: me.own, ..Writer::default() };
            }
            _ => {}
        }
        after.writers[at] = me;
        Some(after)
    }

    /// Puts or keeps a content.
    fn put(&mut self, me: &mut Writer, turn: Turn, content: Bits, without: Option<Rule>) {
        let has = |rule| without != Some(rule);
        let shunned = if has(Rule::ShunCondemned) { me.condemned } else { 0 };
        let trusted = me.view & !shunned;
        if has(Rule::LookAtOwn) && me.own.is_some_and(|own| trusted & 1 << own == 0) {
            me.own = None;
        }
        let own = me.own.map_or(0, |own| 1 << own);
        if matches!(turn, Turn::Copy(_)) {
            me.found = self.held_by(self.named) & content != 0;
            if !me.found || !has(Rule::KeepFirst) {
                return;
            }
        }
        me.found = true;
        if self.held_by(trusted | own) & content == 0 {
            let own = me.own.unwrap_or_else(|| self.make_segment());
            me.own = Some(own);
            self.holds[usize::from(own)] |= content;
        }
    }

    fn collector_step(&self, without: Option<Rule>) -> Option<Self> {
        let has = |rule| without != Some(rule);
        let mut after = self.clone();
        let me = &mut after.collector;
        me.step += 1;
        match self.collector.step {
            0 => {
                if self.collector.round >= ROUNDS {
                    return None;
                }
                me.round += 1;
                me.live = self.refs;
                if self.condemned != 0 {
                    (me.epoch, me.victims, me.step) = (self.epoch, self.condemned, 2);
                } else {
                    // Whichever are chosen, the protocol holds: here all, or the oldest.
                    let oldest = self.named & self.named.wrapping_neg();
                    me.victims = if me.round == 1 { self.named } else { oldest };
                }
            }
            1 => {
                after.epoch += 1;
                me.epoch = after.epoch;
                after.condemned = me.victims;
            }
            2 => {
                let is_older = |state: &Option<u8>| state.is_some_and(|began| began < me.epoch);
                if has(Rule::Wait) && self.sessions.iter().any(is_older) {
                    return None;
                }
            }
            3 if has(Rule::MarkAgain) => me.live = self.refs,
            4 if !has(Rule::CopyFirst) => after.named &= !self.collector.victims,
            5 if has(Rule::CopyFirst) => after.named &= !self.collector.victims,
            4 | 5 => {
                let (victims, live) = (me.victims, me.live);
                let wanted = live & self.held_by(victims) & !self.held_by(self.named & !victims);
                if wanted != 0 {
                    let at = after.make_segment();
                    after.holds[usize::from(at)] = wanted;
                }
            }
            6 => {
                after.condemned = 0;
                if !has(Rule::EpochsRise) {
                    after.epoch = 0;
                }
                after.collector = Collector { round: me.round, ..Collector::default() };
            }
            _ => {}
        }
        Some(after)
    }
}

/// Visits every state that can be reached; gives their number, or one in which a content is lost.
fn explore(without: Option<Rule>) -> Result<usize, Box<State>> {
    let mut seen = HashSet::from([State::first()]);
    let mut open: Vec<State> = seen.iter().cloned().collect();
    while let Some(state) = open.pop() {
        for after in state.next(without) {
            if after.refs & !after.held_by(after.named) != 0 {
                return Err(Box::new(after));
            }
            if seen.insert(after.clone()) {
                open.push(after);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_steps_loses_a_content() {
    let states = explore(None).unwrap();
    println!("{states} states");
    assert!(states > 100_000, "only {states} states were visited");
}

#[test]
fn without_any_one_rule_some_order_does() {
    for rule in RULES {
        let lost = explore(Some(rule));
        assert!(lost.is_err(), "{rule:?} is not needed: {} states", lost.unwrap());
    }
}

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
