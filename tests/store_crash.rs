//! The power goes off before every single call that a store makes, and every disk that may be left is
//! opened again.
//!
//! A script puts contents, sets refs (in memory: the oracle), deletes them, collects and merges. It
//! runs once for each of its calls that change the disk, and dies there. On what is left
//! * every content that a ref names is there, with exact bytes (I0, I1);
//! * opening, putting, committing and collecting work, and a collection leaves just what is live;
//! * a second crash at any call of that recovery changes nothing about it.
//!
//! The same holds when only the process dies, and the machine goes on with what was never synced.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::{disk_hash, noise};
use common::sim_fs::{CrashPlan, Fault, SimFs};
use pefc::store::{CollectOptions, ContentStore, Root, StoreOptions};
use pefc::{ErrorKind, Hash, Result};
use std::collections::{BTreeMap, HashSet};

/// Names that refs hold, and their contents: what must be there.
type Refs = BTreeMap<Hash, Vec<u8>>;

#[derive(Clone)]
enum Step {
    /// One batch in the store of this number: contents, then the change of refs.
    Put(usize, Vec<Vec<u8>>),
    /// Refs to these contents are deleted.
    Forget(Vec<Vec<u8>>),
    /// Refs that were deleted are set again, if the contents can be kept.
    Undo(usize, Vec<Vec<u8>>),
    Collect(usize),
    Merge(usize),
    /// The store of this number is closed and opened again.
    Reopen(usize),
}

fn open(fs: &SimFs) -> Result<ContentStore> {
    let options = StoreOptions {
        machine: fs.machine(),
        threads: 1,
        segment_bytes_max: 3000,
        ..StoreOptions::default()
    };
    let store = ContentStore::open("s", options)?;
    store.register_root(&root())?;
    Ok(store)
}

fn root() -> Root {
    Root::new("test", "in memory").unwrap()
}

fn collect(store: &ContentStore, refs: &Refs) -> Result<()> {
    let mark = &mut |_: &Root, each: &mut dyn FnMut(Hash)| {
        refs.keys().for_each(|name| each(*name));
        Ok(())
    };
    let options = CollectOptions { dead_percent: 20, overhead_bytes: 700, dry_run: false };
    let report = store.collect(&options, mark, &mut |_| false)?;
    assert_eq!(report.waiting_for, 0);
    assert!(report.missing.is_empty() && report.damaged.is_empty(), "{report:?}");
    Ok(())
}

/// Runs the script until it ends or fails. `refs` holds what was acknowledged.
fn run(fs: &SimFs, steps: &[Step], refs: &mut Refs) -> Result<()> {
    let mut stores: Vec<Option<ContentStore>> = vec![None, None];
    for step in steps {
        let (Step::Put(at, _) | Step::Undo(at, _) | Step::Collect(at) | Step::Merge(at)) = step
        else {
            match step {
                Step::Forget(contents) => {
                    refs.retain(|_, content| !contents.contains(content));
                }
                Step::Reopen(at) => stores[*at] = None,
                _ => unreachable!("handled below"),
            }
            continue;
        };
        if stores[*at].is_none() {
            stores[*at] = Some(open(fs)?);
        }
        let store = stores[*at].as_ref().unwrap();
        match step {
            Step::Put(_, contents) => {
                let mut session = store.begin()?;
                for content in contents {
                    session.put(content)?;
                }
                session.commit()?;
                refs.extend(contents.iter().map(|content| (Hash::of(content), content.clone())));
                session.end()?;
            }
            Step::Undo(_, contents) => {
                let mut session = store.begin()?;
                let mut kept = Vec::new();
                for content in contents {
                    if session.keep(&Hash::of(content))? {
                        kept.push(content);
                    }
                }
                session.commit()?;
                refs.extend(kept.iter().map(|content| (Hash::of(content), content.to_vec())));
                session.end()?;
            }
            Step::Collect(_) => collect(store, refs)?,
            Step::Merge(_) => drop(store.merge(&mut |_| false)?),
            _ => unreachable!("handled above"),
        }
    }
    Ok(())
}

/// Reads what refs name.
fn check(store: &ContentStore, refs: &Refs, context: &dyn Fn() -> String) {
    for (name, content) in refs {
        match store.get(name) {
            Ok(Some(found)) => assert!(found == *content, "{}", context()),
            other => panic!("{}: {name}: {other:?}", context()),
        }
    }
}

/// What somebody does who finds the store after a crash.
fn recover(fs: &SimFs, refs: &mut Refs) -> Result<()> {
    let store = open(fs)?;
    let content = b"after the crash".to_vec();
    let mut session = store.begin()?;
    let name = session.put(&content)?;
    session.commit()?;
    refs.insert(name, content);
    session.end()?;
    collect(&store, refs)
}

#[derive(Default)]
struct Visited {
    disks: HashSet<blake3::Hash>,
    /// Disks, together with what had to be there.
    checks: HashSet<(blake3::Hash, Vec<Hash>)>,
    recoveries: usize,
}

fn after_crash(
    disk: &SimFs,
    refs: &Refs,
    depth_two: bool,
    visited: &mut Visited,
    context: &dyn Fn() -> String,
) {
    visited.disks.insert(disk_hash(disk));
    if !visited.checks.insert((disk_hash(disk), refs.keys().copied().collect())) {
        return;
    }
    match open(&disk.fork()) {
        Ok(store) => check(&store, refs, context),
        Err(error) => panic!("{}: {error}", context()),
    }
    visited.recoveries += 1;
    let dry = disk.fork();
    let mut after = refs.clone();
    recover(&dry, &mut after).unwrap_or_else(|error| panic!("{}: {error}", context()));
    let store = open(&dry).unwrap();
    check(&store, &after, context);
    let report = store.verify(&pefc::VerifyOptions::default()).unwrap();
    assert!(report.is_intact(), "{}: {report:?}", context());
    let left = dry.paths().iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    assert!(left.iter().all(|path| !path.ends_with(".tmp")), "{}: {left:?}", context());
    drop(store);
    if !depth_two {
        return;
    }
    for call in 0..dry.call_count() {
        let (fs, mut refs) = (disk.fork(), refs.clone());
        fs.fail_at(call, Fault::Crash);
        let _ = recover(&fs, &mut refs);
        let plan = CrashPlan { seed: call, exhaustive: 2, samples: 2, stale_blocks: false };
        for disk in fs.crash_states(plan) {
            let context = || format!("{}; then call {call}: {:?}", context(), fs.trace().last());
            match open(&disk) {
                Ok(store) => check(&store, &refs, &context),
                Err(error) => panic!("{}: {error}", context()),
            }
        }
    }
}

fn crash_everywhere(name: &str, steps: &[Step], least: usize) {
    let mut visited = Visited::default();
    for sector in [64, 512] {
        crash_with_sector(name, steps, sector, &mut visited);
    }
    let seen = visited.disks.len();
    println!("{name}: {seen} disks, {} recoveries", visited.recoveries);
    assert!(seen >= least, "only {seen} disks were visited");
}

fn crash_with_sector(name: &str, steps: &[Step], sector: usize, visited: &mut Visited) {
    let dry = SimFs::with_sector(1, sector);
    run(&dry, steps, &mut Refs::new()).unwrap();
    let calls = dry.call_count();
    for call in 0..=calls {
        let (fs, mut refs) = (SimFs::with_sector(1, sector), Refs::new());
        fs.fail_at(call, Fault::Crash);
        let result = run(&fs, steps, &mut refs);
        assert!(call < calls || result.is_ok());
        let context = || format!("{name}, call {call}: {:?}", fs.trace().last());
        for stale_blocks in [false, true] {
            let plan = CrashPlan { seed: call, exhaustive: 6, samples: 40, stale_blocks };
            for (number, disk) in fs.crash_states(plan).enumerate() {
                let depth_two = number == 0 || (call + number as u64).is_multiple_of(16);
                after_crash(&disk, &refs, depth_two, visited, &context);
            }
        }
        // Only the process was killed.
        after_crash(&fs.fork(), &refs, false, visited, &context);
    }
}

fn content(seed: u64) -> Vec<u8> {
    noise(seed, 400 + seed as usize % 7 * 90)
}

fn contents(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(content).collect()
}

#[test]
fn put_and_commit() {
    let steps = [
        Step::Put(0, contents(0..3)),
        Step::Put(0, contents(2..4)),
        Step::Reopen(0),
        Step::Put(0, contents(4..12)),
        Step::Put(0, contents(12..13)),
    ];
    crash_everywhere("put", &steps, 500);
}

#[test]
fn two_writers_that_put_the_same() {
    let steps = [
        Step::Put(0, contents(0..3)),
        Step::Put(1, contents(0..3)),
        Step::Put(0, contents(3..5)),
        Step::Put(1, contents(2..6)),
        Step::Put(0, contents(4..6)),
    ];
    crash_everywhere("two writers", &steps, 700);
}

#[test]
fn collect_and_go_on() {
    let steps = [
        Step::Put(0, contents(0..4)),
        Step::Put(1, contents(3..7)),
        Step::Forget(contents(0..2)),
        Step::Collect(0),
        Step::Put(1, contents(6..8)),
        Step::Undo(0, contents(0..2)),
        Step::Put(0, contents(1..3)),
        Step::Forget(contents(2..7)),
        Step::Collect(1),
        Step::Forget(contents(0..9)),
        Step::Collect(0),
    ];
    crash_everywhere("collect", &steps, 1200);
}

#[test]
fn merge_small_segments() {
    let mut steps = Vec::new();
    for round in 0..5 {
        // Longer than a segment may get: each makes its own.
        steps.push(Step::Put(0, vec![noise(round, 3100)]));
    }
    steps.extend([Step::Merge(0), Step::Put(0, contents(0..2)), Step::Merge(0)]);
    crash_everywhere("merge", &steps, 800);
}

/// A content that another writer has committed is visible before it is on disk. Who relied on it
/// would acknowledge what a power cut can take.
#[test]
fn what_another_writer_has_not_synced_is_not_relied_on() {
    let fs = SimFs::new(1);
    let steps = [Step::Put(0, contents(0..1)), Step::Put(0, contents(1..2))];
    let dry = fs.fork();
    run(&dry, &steps, &mut Refs::new()).unwrap();
    let syncs = dry.trace().iter().rposition(|call| call.starts_with("sync_data s/segments"));
    fs.fail_at(syncs.unwrap() as u64, Fault::Crash);
    run(&fs, &steps, &mut Refs::new()).unwrap_err();
    // The process died, the machine goes on: the content can be read.
    let fs = fs.fork();
    let seen = open(&fs).unwrap();
    assert!(seen.contains(&Hash::of(&content(1))).unwrap());
    let mut refs = Refs::new();
    run(&fs, &[Step::Put(1, contents(1..2))], &mut refs).unwrap();
    for disk in fs.crash_states(CrashPlan::default()) {
        check(&open(&disk).unwrap(), &refs, &|| "after the power cut".to_owned());
    }
}

#[test]
fn a_full_disk_loses_nothing_and_can_be_collected() {
    let fs = SimFs::new(1);
    let mut refs = Refs::new();
    run(&fs, &[Step::Put(0, contents(0..6)), Step::Put(0, contents(6..8))], &mut refs).unwrap();
    let used: usize =
        fs.paths().iter().filter_map(|path| fs.read_file(path)).map(|f| f.len()).sum();
    for room in [0, 40, 200, 500, 1000, 3000] {
        let (fs, mut refs) = (fs.fork(), refs.clone());
        fs.set_disk_capacity_bytes(Some(used as u64 + room));
        if let Err(error) = run(&fs, &[Step::Put(0, contents(20..26))], &mut refs) {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{room}: {error}");
        }
        fs.set_disk_capacity_bytes(None);
        check(&open(&fs).unwrap(), &refs, &|| format!("{room} bytes left"));
        recover(&fs, &mut refs).unwrap();
        check(&open(&fs).unwrap(), &refs, &|| format!("{room} bytes left, later"));
    }
}

#[test]
fn a_failed_call_loses_nothing_and_the_next_session_works() {
    let steps = [
        Step::Put(0, contents(0..4)),
        Step::Put(1, contents(3..7)),
        Step::Forget(contents(0..2)),
        Step::Collect(0),
        Step::Put(1, contents(6..8)),
    ];
    let dry = SimFs::new(1);
    run(&dry, &steps, &mut Refs::new()).unwrap();
    for call in 0..dry.call_count() {
        for fault in [
            Fault::Errno { raw: common::sim_fs::EIO, persistent: false },
            Fault::Errno { raw: common::sim_fs::ENOSPC, persistent: true },
            Fault::ShortWrite,
        ] {
            let (fs, mut refs) = (SimFs::new(1), Refs::new());
            fs.fail_at(call, fault);
            let _ = run(&fs, &steps, &mut refs);
            let context = || format!("call {call} {fault:?}: {:?}", fs.trace());
            fs.clear_faults();
            check(&open(&fs).unwrap(), &refs, &context);
            for disk in
                fs.crash_states(CrashPlan { samples: 4, exhaustive: 3, ..CrashPlan::default() })
            {
                check(&open(&disk).unwrap(), &refs, &context);
            }
            recover(&fs, &mut refs).unwrap_or_else(|error| panic!("{}: {error}", context()));
            check(&open(&fs).unwrap(), &refs, &context);
        }
    }
}
