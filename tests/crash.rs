//! The power goes off before every single call that changes the disk.
//!
//! Each scenario is a script of calls to a writer. It runs once for every mutating call that it
//! makes, and the machine dies there. Then every disk that may be left (all of them where they are
//! few, samples where they are many) is opened, and must hold
//! * every commit that was acknowledged (I1), with exact bytes;
//! * the state of one commit, whole: the last acknowledged one or one that was under way (I2);
//! * under the pack's name a whole pack or no file, and beside it nothing but temporary names.
//!
//! From there a writer recovers, and the machine dies again at every call of that: depth two. The
//! same holds when only the process dies and the machine goes on with what was never synced.
//!
//! The oracle is outside of the file system: a list of maps (`common::oracle`).
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::{
    Keys, Log, PATH, Step, delete, disk_hash, leftovers, noise, open, options, put, read_all, run,
    state_of, store,
};
use common::sim_fs::{CrashPlan, Fault, SimFs};
use pefc::WriteOptions;
use std::collections::HashSet;
use std::time::Instant;

/// How a scenario begins on a disk with sectors of so many bytes, and what is known of it.
type Begin = fn(usize) -> (SimFs, Log);

struct Scenario {
    name: &'static str,
    begin: Begin,
    sectors: &'static [usize],
    steps: Vec<Step>,
    replace: bool,
    /// One in so many disks is recovered from with a second crash.
    depth_two: u8,
    /// Crash states per call, where not all are visited.
    samples: usize,
    /// At least so many different disks must be visited.
    least: usize,
}

#[derive(Default)]
struct Visited {
    /// Disks, and disks together with what was acknowledged.
    disks: HashSet<blake3::Hash>,
    checks: HashSet<(blake3::Hash, usize, usize)>,
    recoveries: usize,
    torn: usize,
    leftovers: usize,
}

impl Scenario {
    fn options(&self, fs: &SimFs) -> WriteOptions {
        WriteOptions { replace: self.replace, ..options(fs) }
    }

    fn plan(&self, call: u64, stale_blocks: bool) -> CrashPlan {
        CrashPlan { seed: call, exhaustive: 9, samples: self.samples, stale_blocks }
    }

    fn crash_everywhere(&self) {
        let started = Instant::now();
        let mut visited = Visited::default();
        for sector in self.sectors {
            self.crash_with_sector(*sector, &mut visited);
        }
        println!(
            "{}: {} disks ({} torn, {} with leftovers), {} checks, {} recoveries, {:?}",
            self.name,
            visited.disks.len(),
            visited.torn,
            visited.leftovers,
            visited.checks.len(),
            visited.recoveries,
            started.elapsed()
        );
        let seen = visited.disks.len();
        assert!(seen >= self.least, "only {seen} disks were visited");
    }

    fn crash_with_sector(&self, sector: usize, visited: &mut Visited) {
        let (base, log) = (self.begin)(sector);
        let dry = base.fork();
        run(&self.options(&dry), &self.steps, &mut log.clone()).unwrap();
        let calls = dry.call_count();
        for call in 0..=calls {
            let (fs, mut log) = (base.fork(), log.clone());
            fs.fail_at(call, Fault::Crash);
            let result = run(&self.options(&fs), &self.steps, &mut log);
            // The crash may hit the drop of a writer, which tells no one.
            assert!(call == calls || fs.call_count() == call + 1);
            assert!(call < calls || result.is_ok());
            let context = || format!("{}, call {call}: {:?}", self.name, fs.trace().last());
            for stale in [false, true] {
                for disk in fs.crash_states(self.plan(call, stale)) {
                    self.after_crash(&disk, &log, true, visited, &context);
                }
            }
            // Only the process was killed.
            self.after_crash(&fs.fork(), &log, false, visited, &context);
        }
    }

    /// Opens a disk, recovers from it, and crashes that.
    fn after_crash(
        &self,
        disk: &SimFs,
        log: &Log,
        durable: bool,
        visited: &mut Visited,
        context: &dyn Fn() -> String,
    ) {
        let Some(at) = check(disk, log, durable, visited, context) else {
            return;
        };
        let selector = disk_hash(disk).as_bytes()[0];
        if durable && !selector.is_multiple_of(self.depth_two) {
            return;
        }
        visited.recoveries += 1;
        let log = log.cut(at, durable);
        let recover = if log.last().is_some() {
            opening_again_changes_nothing(disk, &log, context);
            vec![Step::Append, put("recovered", "yes"), Step::Finish]
        } else {
            vec![Step::Create, put("recovered", "yes"), Step::Finish]
        };
        let dry = disk.fork();
        let mut whole = log.clone();
        let recovered = run(&self.options(&dry), &recover, &mut whole);
        assert!(recovered.is_ok(), "{}: {recovered:?}", context());
        assert_eq!(state_of(&dry).unwrap(), *whole.last(), "{}", context());
        for call in 0..=dry.call_count() {
            let (fs, mut log) = (disk.fork(), log.clone());
            fs.fail_at(call, Fault::Crash);
            let _ = run(&self.options(&fs), &recover, &mut log);
            let context = || {
                let second = fs.trace().last().cloned();
                format!("{}; then call {call}: {second:?}", context())
            };
            let plan =
                CrashPlan { seed: call, exhaustive: 3, samples: 6, stale_blocks: call % 2 == 1 };
            for disk in fs.crash_states(plan) {
                check(&disk, &log, true, visited, &context);
            }
        }
    }
}

/// Opens a disk and finds its state in the log. `None` if this was done before.
fn check(
    disk: &SimFs,
    log: &Log,
    durable: bool,
    visited: &mut Visited,
    context: &dyn Fn() -> String,
) -> Option<usize> {
    let hash = disk_hash(disk);
    visited.disks.insert(hash);
    if !visited.checks.insert((hash, log.acked, log.states.len())) && durable {
        return None;
    }
    let seen = match state_of(disk) {
        Ok(seen) => seen,
        Err(error) => panic!("{}: {error}", context()),
    };
    let Some(at) = log.find(&seen) else {
        let seen = seen.map(|keys| keys.into_keys().collect::<Vec<_>>());
        panic!(
            "{}: not one of the states {}..{}: {seen:?}",
            context(),
            log.acked,
            log.states.len()
        );
    };
    assert_eq!(disk.call_count(), 0, "reading wrote, {}", context());
    visited.leftovers += usize::from(!leftovers(disk).is_empty());
    visited.torn += usize::from(open(disk).is_ok_and(|pack| pack.torn_bytes() > 0));
    Some(at)
}

/// The second opening for writing does what the first did, and both leave just what is committed.
fn opening_again_changes_nothing(disk: &SimFs, log: &Log, context: &dyn Fn() -> String) {
    let pack = open(disk).unwrap();
    let committed = pack.committed_bytes() as usize;
    let before = disk.read_file(PATH).unwrap();
    let fs = disk.fork();
    for _ in 0..2 {
        run(&options(&fs), &[Step::Append, Step::Drop], &mut log.clone()).unwrap();
        let after = fs.read_file(PATH).unwrap();
        assert!(after == before[..committed], "{}", context());
    }
    assert_eq!(state_of(&fs).unwrap(), *log.last(), "{}", context());
    // A reader that opened before is not disturbed.
    assert_eq!(Some(read_all(&pack).unwrap()), *log.last());
}

fn nothing(sector: usize) -> (SimFs, Log) {
    (SimFs::with_sector(1, sector), Log::new(None))
}

/// A disk with what a script leaves, all of it durable.
fn prepared(sector: usize, steps: &[Step]) -> (SimFs, Log) {
    let (fs, mut log) = nothing(sector);
    run(&options(&fs), steps, &mut log).unwrap();
    fs.sync_all();
    let fs = fs.fork();
    let last = log.last().clone();
    (fs, Log::new(last))
}

fn sealed(sector: usize) -> (SimFs, Log) {
    let steps = [
        Step::Create,
        put("a", "first"),
        put("b", noise(1, 700)),
        store(b"\0\xff/..", noise(2, 300)),
        Step::Finish,
    ];
    prepared(sector, &steps)
}

fn open_tail(sector: usize) -> (SimFs, Log) {
    let (fs, mut log) = sealed(sector);
    let steps = [
        Step::Append,
        put("c", noise(3, 400)),
        Step::Commit,
        delete("a"),
        Step::Commit,
        Step::Drop,
    ];
    run(&options(&fs), &steps, &mut log).unwrap();
    fs.sync_all();
    (fs.fork(), Log::new(log.last().clone()))
}

/// An open tail, and behind it most of a commit that never was one.
fn torn(sector: usize) -> (SimFs, Log) {
    let (fs, log) = open_tail(sector);
    let other = fs.fork();
    let steps = [Step::Append, put("torn", noise(4, 2500)), Step::Commit, Step::Drop];
    run(&options(&other), &steps, &mut log.clone()).unwrap();
    let mut bytes = other.read_file(PATH).unwrap();
    bytes.truncate(bytes.len() - 9);
    fs.write_file(PATH, bytes);
    (fs, log)
}

#[test]
fn create_with_one_seal() {
    Scenario {
        name: "create",
        begin: nothing,
        sectors: &[64, 512],
        steps: vec![
            Step::Create,
            put("a", noise(1, 1200)),
            put("b/c", ""),
            store(b"\xff", "x"),
            Step::Finish,
        ],
        replace: false,
        depth_two: 2,
        samples: 3000,
        least: 15000,
    }
    .crash_everywhere();
}

#[test]
fn create_in_several_writes() {
    Scenario {
        name: "create large",
        begin: nothing,
        sectors: &[1 << 18],
        steps: vec![
            Step::Create,
            put("a", noise(1, 900_000)),
            put("b", noise(2, 900_000)),
            Step::Commit,
            put("c", noise(3, 1_300_000)),
            Step::Finish,
        ],
        replace: false,
        depth_two: 128,
        samples: 3,
        least: 20,
    }
    .crash_everywhere();
}

#[test]
fn create_and_commit_many_times_before_the_seal() {
    let mut steps = vec![Step::Create];
    for round in 0..6 {
        steps.push(put(&format!("k{round}"), noise(round, 150)));
        steps.push(put("same", round.to_le_bytes()));
        steps.push(Step::Commit);
    }
    steps.extend([delete("k1"), Step::Commit, put("end", "."), Step::Seal]);
    steps.extend([put("after", noise(9, 600)), Step::Commit, Step::Drop]);
    Scenario {
        name: "log mode",
        begin: nothing,
        sectors: &[64, 512],
        steps,
        replace: false,
        depth_two: 2,
        samples: 800,
        least: 10000,
    }
    .crash_everywhere();
}

#[test]
fn append_and_seal() {
    Scenario {
        name: "append",
        begin: sealed,
        sectors: &[64, 512],
        steps: vec![
            Step::Append,
            put("b", noise(5, 1500)),
            put("new", noise(6, 900)),
            delete("a"),
            Step::Finish,
            Step::Append,
            put("a", "again"),
            Step::Finish,
        ],
        replace: false,
        depth_two: 2,
        samples: 1000,
        least: 2400,
    }
    .crash_everywhere();
}

#[test]
fn signatures_are_added() {
    Scenario {
        name: "sign",
        begin: sealed,
        sectors: &[64, 512],
        steps: vec![
            Step::Append,
            Step::Sign,
            Step::Drop,
            Step::Append,
            put("new", noise(6, 900)),
            Step::Seal,
            Step::Sign,
            Step::Finish,
        ],
        replace: false,
        depth_two: 2,
        samples: 200,
        least: 200,
    }
    .crash_everywhere();
}

#[test]
fn commits_in_an_open_tail_that_is_reopened() {
    let mut steps = Vec::new();
    for round in 0..3 {
        steps.push(Step::Append);
        for part in 0..2 {
            steps.push(put(&format!("r{round}/{part}"), noise(round * 10 + part, 500)));
            steps.push(store(b"latest", vec![round as u8, part as u8]));
            steps.push(Step::Commit);
        }
        // Given up: neither acknowledged nor ever to be seen.
        steps.push(put("given up", noise(round, 90)));
        steps.push(Step::Drop);
    }
    steps.extend([Step::Append, delete("b"), Step::Finish]);
    Scenario {
        name: "open tail",
        begin: open_tail,
        sectors: &[64, 512],
        steps,
        replace: false,
        depth_two: 2,
        samples: 800,
        least: 8000,
    }
    .crash_everywhere();
}

#[test]
fn append_after_a_torn_tail() {
    let (fs, log) = torn(512);
    let pack = open(&fs).unwrap();
    assert!(pack.torn_bytes() > 2000);
    assert_eq!(Some(read_all(&pack).unwrap()), *log.last());
    Scenario {
        name: "torn",
        begin: torn,
        sectors: &[64, 512],
        steps: vec![
            Step::Append,
            put("c", "shorter than what was torn"),
            Step::Commit,
            put("d", noise(7, 3000)),
            Step::Commit,
            Step::Drop,
            Step::Append,
            Step::Finish,
        ],
        replace: false,
        depth_two: 2,
        samples: 1000,
        least: 3400,
    }
    .crash_everywhere();
}

#[test]
fn replace_a_pack() {
    Scenario {
        name: "replace",
        begin: open_tail,
        sectors: &[64, 512],
        steps: vec![
            Step::Create,
            put("other", noise(8, 1000)),
            Step::Commit,
            put("b", noise(8, 500)),
            Step::Finish,
        ],
        replace: true,
        depth_two: 2,
        samples: 1000,
        least: 12000,
    }
    .crash_everywhere();
}

#[test]
fn a_writer_that_is_dropped_never_was() {
    for begin in [nothing, sealed, open_tail] {
        let create = std::ptr::fn_addr_eq(begin, nothing as Begin);
        let first = if create { Step::Create } else { Step::Append };
        Scenario {
            name: "dropped",
            begin,
            sectors: &[1 << 16],
            // More than a buffer, so that something reaches the file.
            steps: vec![first, put("x", noise(1, 1 << 20)), put("y", "y"), Step::Drop],
            replace: false,
            depth_two: 8,
            samples: 12,
            least: 50,
        }
        .crash_everywhere();
    }
}

/// The process dies between the rename of a new pack and the sync of its directory, and another
/// goes on with the pack: what that one acknowledges needs the name.
#[test]
fn a_pack_keeps_its_name_once_something_was_appended() {
    let (fs, mut log) = nothing(512);
    let steps = [Step::Create, put("a", "1"), Step::Finish];
    let dry = fs.fork();
    run(&options(&dry), &steps, &mut log.clone()).unwrap();
    let call = dry.trace().iter().position(|call| call.starts_with("sync_dir"));
    fs.fail_at(call.unwrap() as u64, Fault::Crash);
    run(&options(&fs), &steps, &mut log).unwrap_err();
    let fs = fs.fork();
    let steps = [Step::Append, put("b", "2"), Step::Commit, Step::Drop];
    run(&options(&fs), &steps, &mut log).unwrap();
    assert_eq!(log.acked, 2, "the first was not acknowledged, the second is");
    for disk in fs.crash_states(CrashPlan::default()) {
        assert_eq!(state_of(&disk).unwrap(), *log.last());
    }
    assert_eq!(log.last().as_ref().map(Keys::len), Some(2));
}
