//! The machine goes on, but the disk says no: at every single mutating call, once or for good, with
//! EIO, ENOSPC, half a write, a failed sync that loses data and then reports success, and with every
//! size of a disk that is too small.
//!
//! Whatever the caller tries afterwards, the writer that was hit
//! * reports the failure with its kind, then refuses everything and touches the disk no more;
//! * has lost nothing that was acknowledged, neither for readers now nor after a power cut;
//! * leaves no file behind if the pack was new.
//!
//! Once the fault is gone, a new writer goes on, and the result is whole.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::{
    Log, PATH, Step, delete, leftovers, noise, open, options, put, run, run_until_error, state_of,
    store,
};
use common::sim_fs::{CrashPlan, EIO, ENOSPC, Fault, SimFs};
use pefc::{ErrorKind, WriteOptions, Writer};
use std::time::Instant;

/// More than one buffer, so that writes fail before the commit as well.
const LARGE: usize = 1_100_000;

/// Cases whose disks take long to look at.
const LARGE_CASES: [&str; 2] = ["create large", "dropped"];

struct Case {
    name: &'static str,
    replace: bool,
    /// Made before anything fails.
    before: Vec<Step>,
    steps: Vec<Step>,
}

fn cases() -> Vec<Case> {
    let pack = || {
        vec![
            Step::Create,
            put("a", "first"),
            put("b", noise(1, 700)),
            store(b"\0\xff", noise(2, 300)),
            Step::Finish,
        ]
    };
    let log = || {
        let mut steps = pack();
        steps.extend([Step::Append, put("c", noise(3, 400)), Step::Commit]);
        steps.extend([delete("a"), Step::Commit, Step::Drop]);
        steps
    };
    let changes = || {
        vec![
            put("new", noise(4, 900)),
            Step::Commit,
            put("b", noise(5, 300)),
            delete("new"),
            Step::Seal,
            put("end", "."),
            Step::Commit,
            put("never", "committed"),
            Step::Drop,
        ]
    };
    let with = |first: Step, mut rest: Vec<Step>| {
        rest.insert(0, first);
        rest
    };
    let large = vec![
        Step::Create,
        put("large", noise(6, LARGE - 200_000)),
        put("more", noise(7, LARGE - 200_000)),
        Step::Finish,
    ];
    let dropped = vec![
        Step::Append,
        put("large", noise(6, LARGE - 200_000)),
        put("never", noise(7, LARGE - 200_000)),
        Step::Drop,
    ];
    let case = |name, replace, before, steps| Case { name, replace, before, steps };
    vec![
        case("create", false, Vec::new(), with(Step::Create, changes())),
        case("create large", false, Vec::new(), large),
        case("replace", true, log(), with(Step::Create, changes())),
        case("append", false, pack(), with(Step::Append, changes())),
        case("dropped", false, pack(), dropped),
        case("open tail", false, log(), with(Step::Append, changes())),
    ]
}

impl Case {
    fn options(&self, fs: &SimFs) -> WriteOptions {
        WriteOptions { replace: self.replace, ..options(fs) }
    }

    fn begin(&self, seed: u64) -> (SimFs, Log) {
        let fs = SimFs::new(seed);
        let mut log = Log::new(None);
        run(&options(&fs), &self.before, &mut log).unwrap();
        fs.sync_all();
        (fs.fork(), Log::new(log.last().clone()))
    }

    /// Runs the script into a fault that was planned and checks all that is promised. Gives the
    /// kind that was reported, if the fault was met by a call that can tell.
    fn meet(&self, fs: &SimFs, mut log: Log, crash: bool, context: &str) -> Option<ErrorKind> {
        let (result, writer) = run_until_error(&self.options(fs), &self.steps, &mut log);
        let kind = result.as_ref().err().map(|(_, error)| error.kind());
        if let Err((step, error)) = &result {
            assert!(
                matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Durability)
                    || matches!(self.steps[*step], Step::Create) && error.kind() == ErrorKind::Io,
                "{context}: {:?} {error}",
                error.kind()
            );
            assert!(error.hint().is_some() || error.kind() == ErrorKind::Io);
        }
        let failed = result.is_err();
        if let Some(writer) = writer.filter(|_| failed) {
            refuses_everything(fs, writer, context);
        }
        // Readers need neither space nor a sound disk.
        let seen = state_of(fs).unwrap_or_else(|error| panic!("{context}: {error}"));
        let at = log.find(&seen);
        let at = at.unwrap_or_else(|| panic!("{context}: not a state {}..", log.acked));
        if crash {
            for disk in
                fs.crash_states(CrashPlan { samples: 24, exhaustive: 5, ..CrashPlan::default() })
            {
                let seen = state_of(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(log.find(&seen).is_some(), "{context}, after a crash");
            }
        }
        let removal_failed =
            fs.trace().iter().any(|call| call.starts_with("remove_file") && call.contains('!'));
        fs.clear_faults();
        fs.set_disk_capacity_bytes(None);
        if !removal_failed && !persistent(context) {
            assert!(leftovers(fs).is_empty(), "{context}: {:?}", leftovers(fs));
        }
        // The fault is gone: another writer goes on.
        let mut log = log.cut(at, false);
        let first = match log.last() {
            Some(_) => Step::Append,
            None => Step::Create,
        };
        let steps = [first, put("after", "the fault"), Step::Finish];
        run(&options(fs), &steps, &mut log).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(state_of(fs).unwrap(), *log.last(), "{context}");
        assert_eq!(open(fs).unwrap().torn_bytes(), 0);
        kind
    }
}

/// A removal that fails because everything does may leave the file.
fn persistent(context: &str) -> bool {
    context.contains("persistent: true")
}

/// What a caller who does not look at errors may try. Nothing of it may succeed, and nothing may
/// reach the disk.
fn refuses_everything(fs: &SimFs, mut writer: Writer, context: &str) {
    let calls = fs.call_count();
    for round in 0..2 {
        let kinds = [
            writer.put("late", b"late").map(drop),
            writer.put("large", &noise(9, LARGE)).map(drop),
            writer.delete("b").map(drop),
            writer.commit(),
            writer.seal(),
            writer.commit(),
        ]
        .map(|result| result.map_err(|error| error.kind()));
        for (number, kind) in kinds.iter().enumerate() {
            let refused = matches!(kind, Err(ErrorKind::Durability | ErrorKind::NoSpace));
            assert!(refused, "{context}: call {number} of round {round}: {kind:?}");
        }
    }
    assert_eq!(fs.call_count(), calls, "{context}: {:?}", fs.trace());
    assert!(writer.finish().is_err(), "{context}");
}

#[test]
fn every_call_fails() {
    let started = Instant::now();
    let (mut runs, mut reported) = (0, 0);
    for case in cases() {
        let (base, log) = case.begin(1);
        let dry = base.fork();
        run(&case.options(&dry), &case.steps, &mut log.clone()).unwrap();
        for call in 0..dry.call_count() {
            for fault in [EIO, ENOSPC]
                .into_iter()
                .flat_map(|raw| [false, true].map(|persistent| Fault::Errno { raw, persistent }))
                .chain([Fault::ShortWrite])
            {
                let fs = base.fork();
                fs.fail_at(call, fault);
                let what = &dry.trace()[call as usize];
                let context = format!("{}, call {call}, {what}, {fault:?}", case.name);
                let kind = case.meet(&fs, log.clone(), true, &context);
                let no_space = fault != Fault::Errno { raw: EIO, persistent: true }
                    && fault != Fault::Errno { raw: EIO, persistent: false };
                if let Some(kind) = kind {
                    assert_eq!(kind == ErrorKind::NoSpace, no_space, "{context}: {kind:?}");
                    reported += 1;
                }
                runs += 1;
            }
        }
    }
    println!("{runs} faults, {reported} reported, {:?}", started.elapsed());
    assert!(runs >= 240 && reported >= 230, "{runs} {reported}");
}

/// A failed sync keeps, loses or half keeps what was written; the next one says Ok (fsyncgate).
#[test]
fn every_sync_fails_in_many_ways() {
    let started = Instant::now();
    let mut runs = 0;
    for case in cases().into_iter().filter(|case| !LARGE_CASES.contains(&case.name)) {
        for seed in 0..60 {
            let (base, log) = case.begin(seed);
            let dry = base.fork();
            run(&case.options(&dry), &case.steps, &mut log.clone()).unwrap();
            let trace = dry.trace();
            let syncs = (trace.iter().enumerate()).filter(|(_, call)| call.starts_with("sync_"));
            for (call, what) in syncs {
                let fs = base.fork();
                let persistent = false;
                fs.fail_at(call as u64, Fault::Errno { raw: EIO, persistent });
                let context = format!("{}, seed {seed}, call {call}, {what}", case.name);
                let kind = case.meet(&fs, log.clone(), true, &context);
                assert_eq!(kind, Some(ErrorKind::Durability), "{context}");
                runs += 1;
            }
        }
    }
    println!("{runs} failed syncs, {:?}", started.elapsed());
    assert!(runs >= 1000, "{runs}");
}

#[test]
fn the_disk_is_full_at_every_size() {
    let started = Instant::now();
    let (mut full, mut fits) = (0, 0);
    for case in cases() {
        let (base, log) = case.begin(1);
        let bytes = |fs: &SimFs| fs.read_file(PATH).map_or(0, |bytes| bytes.len() as u64);
        let before = bytes(&base);
        let dry = base.fork();
        run(&case.options(&dry), &case.steps, &mut log.clone()).unwrap();
        let most = before + bytes(&dry) + 1000;
        let step = (most - before) / 400 + 1;
        for capacity in (before..most).step_by(step as usize) {
            let fs = base.fork();
            fs.set_disk_capacity_bytes(Some(capacity));
            let context = format!("{}, {capacity} bytes", case.name);
            match case.meet(&fs, log.clone(), !LARGE_CASES.contains(&case.name), &context) {
                Some(kind) => {
                    assert_eq!(kind, ErrorKind::NoSpace, "{context}");
                    full += 1;
                }
                None => fits += 1,
            }
        }
    }
    println!("{full} full disks, {fits} others, {:?}", started.elapsed());
    assert!(full >= 1000 && fits >= 50, "{full} {fits}");
}

/// The name was given, and only the sync of the directory failed: the file is whole, and stays so.
#[test]
fn a_named_pack_is_not_taken_apart() {
    for replace in [false, true] {
        let fs = SimFs::new(1);
        let mut log = Log::new(None);
        let steps = [Step::Create, put("a", "old"), Step::Finish];
        if replace {
            run(&options(&fs), &steps, &mut log).unwrap();
        }
        let calls = fs.call_count();
        let steps = [Step::Create, put("a", noise(1, 5000)), Step::Finish];
        let dry = fs.fork();
        let options = |fs: &SimFs| WriteOptions { replace, ..options(fs) };
        run(&options(&dry), &steps, &mut log.clone()).unwrap();
        let sync = dry.trace().iter().rposition(|call| call.starts_with("sync_dir"));
        let raw = EIO;
        fs.fail_at(calls + sync.unwrap() as u64, Fault::Errno { raw, persistent: false });
        let error = run(&options(&fs), &steps, &mut log).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Durability);
        assert_eq!(state_of(&fs).unwrap(), *log.last());
    }
}

/// A new pack is locked before it can be seen.
#[test]
fn nobody_gets_between_the_name_and_the_lock() {
    let fs = SimFs::new(1);
    let mut writer = Writer::create(PATH, options(&fs)).unwrap();
    let temporary = fs.paths().remove(0);
    let error = Writer::append(&temporary, options(&fs)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    writer.put("a", b"1").unwrap();
    writer.finish().unwrap();
    assert!(leftovers(&fs).is_empty());
}
