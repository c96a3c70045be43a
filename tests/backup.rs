//! Backups: what a snapshot holds, what is restored, what is let go, and what damage does.
#![cfg(feature = "backup")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    reason = "tests fail by panicking; numbers here are small"
)]

mod common;

use common::sim_fs::{CrashPlan, Fault, SimClock, SimFs};
use pefc::backup::{Backups, Placed, RestoreOptions, Source};
use pefc::disk::{Clock, Machine};
use pefc::refs::Ref;
use pefc::retention::Policy;
use pefc::schedule::{Due, Schedule};
use pefc::storage::{FileBackend, PackBackend, PackBackendOptions, Storage, ValueReader};
use pefc::store::{ContentStore, Root, StoreOptions};
use pefc::{ErrorKind, Hash};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const DAY_S: i64 = 86_400;
const NOON_S: i64 = 1_795_348_800; // 2026-11-22T12:00:00Z

/// A directory with storages and backups, and a clock that stands still.
#[derive(Debug)]
struct Place {
    dir: TempDir,
    clock: Arc<SimClock>,
    machine: Machine,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(SimClock::default());
        clock.set(NOON_S);
        let machine = Machine { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Machine::real() };
        Self { dir: tempfile::tempdir().unwrap(), clock, machine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn storage(&self, name: &str) -> Placed {
        storage(&self.machine, &self.path(name))
    }

    fn backups(&self) -> Backups {
        Backups::open(self.path("backups"), &self.machine, true).unwrap()
    }
}

fn storage(machine: &Machine, dir: &Path) -> Placed {
    let options = StoreOptions { machine: machine.clone(), ..StoreOptions::default() };
    let contents = ContentStore::open(dir.join("content"), options).unwrap();
    let backend = FileBackend::open(dir.join("refs"), contents, machine.clone()).unwrap();
    Placed { location: dir.display().to_string(), storage: Storage::new("main", backend) }
}

/// Puts all of these at once.
fn put(place: &Placed, values: &[(&str, &[u8])]) {
    let mut batch = place.storage.batch().unwrap();
    for (key, value) in values {
        batch.store(key, value).unwrap();
    }
    batch.commit().unwrap();
}

/// All keys, what they stand for, and their values.
fn all(place: &Placed) -> BTreeMap<Vec<u8>, (Ref, Vec<u8>)> {
    let found = place.storage.scan("").map(|found| {
        let (key, value) = found.unwrap();
        let content = place.storage.retrieve(&key).unwrap().unwrap();
        (key, (value, content))
    });
    found.collect()
}

/// Says which keys differ, not all that they hold.
#[track_caller]
fn assert_same(one: &Placed, other: &Placed) {
    let (one, other) = (all(one), all(other));
    let keys = one.keys().chain(other.keys());
    let differ: Vec<_> = keys
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| (key.escape_ascii().to_string(), one.get(key).map(|found| found.0)))
        .take(5)
        .collect();
    assert!(differ.is_empty(), "{} and {} keys, {differ:?}", one.len(), other.len());
}

fn restore_all(backups: &Backups, id: &str, target: &Placed, exact: bool) {
    let snapshot = backups.snapshot(id).unwrap();
    let options = RestoreOptions { exact, ..RestoreOptions::default() };
    let saved = &snapshot.storages["main"];
    let report = backups.restore("main", saved, target, &options).unwrap();
    assert_eq!(report.problems.count, 0);
}

/// Flips a bit of every segment at a place where `content` is likely stored, uncompressed.
fn damage(dir: &Path, content: &[u8]) {
    let mut hits = 0;
    for entry in std::fs::read_dir(dir.join("content/segments")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        while let Some(at) = bytes.windows(content.len()).position(|window| window == content) {
            bytes[at] ^= 1;
            hits += 1;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(hits > 0, "not found");
}

/// Bytes that no compressor shortens.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = common::sim_fs::SplitMix64(seed);
    std::iter::repeat_with(|| rng.next().to_le_bytes()).flatten().take(len).collect()
}

#[test]
fn a_restored_backup_equals_its_source() {
    let place = Place::new();
    let source = place.storage("source");
    let large = noise(7, 3 << 20);
    put(&source, &[("a", b"1"), ("b/c", b"2"), ("empty", b""), ("large", &large)]);
    put(&source, &[("../x %*_[", b"hostile"), ("a", b"3")]);
    let backups = place.backups();
    let report = backups.run(&[("main", &source)]).unwrap();
    assert!(report.snapshot.is_good());
    assert_eq!(report.changed_count, 5);
    assert_eq!(report.snapshot.storages["main"].key_count, 5);

    let empty = place.storage("empty");
    restore_all(&backups, "latest", &empty, true);
    assert_same(&empty, &source);

    // Into one that has other things: they stay, unless it shall be exact.
    let other = place.storage("other");
    put(&other, &[("a", b"other"), ("mine", b"other")]);
    restore_all(&backups, "latest", &other, false);
    assert_eq!(all(&other).len(), 6);
    assert_eq!(all(&other)[&b"mine"[..]].1, b"other");
    restore_all(&backups, "latest", &other, true);
    assert_same(&other, &source);
}

/// A pack holds its own contents, and has no session to hold them with.
#[test]
fn packs_are_saved_and_restored_too() {
    let place = Place::new();
    let pack = |name: &str| {
        let options =
            PackBackendOptions { machine: place.machine.clone(), ..PackBackendOptions::default() };
        let backend = PackBackend::open(place.path(name), options).unwrap();
        Placed { location: name.to_owned(), storage: Storage::new(name, backend) }
    };
    let source = pack("source");
    let large = noise(3, 3 << 20);
    put(&source, &[("a", b"1"), ("b", b"2"), ("large", &large), ("empty", b"")]);
    put(&source, &[("a", b"3")]);
    let backups = place.backups();
    let first = backups.run(&[("main", &source)]).unwrap();
    assert!(first.snapshot.is_good());
    assert_eq!(backups.run(&[("main", &source)]).unwrap().unchanged, ["main"]);
    for target in [pack("empty"), place.storage("files")] {
        restore_all(&backups, "latest", &target, true);
        assert_same(&target, &source);
    }
}

#[test]
fn one_key_comes_back_alone() {
    let place = Place::new();
    let source = place.storage("source");
    put(&source, &[("a", b"1"), ("b", b"2")]);
    let backups = place.backups();
    let saved = backups.run(&[("main", &source)]).unwrap().snapshot.storages["main"].clone();
    put(&source, &[("a", b"changed"), ("b", b"changed")]);
    let restore = |key: &[u8]| {
        let options = RestoreOptions { key: Some(key.to_vec()), exact: true };
        backups.restore("main", &saved, &source, &options)
    };
    let report = restore(b"a").unwrap();
    assert_eq!((report.restored_count, report.deleted_count), (1, 0));
    let values = all(&source);
    assert_eq!((&*values[&b"a"[..]].1, &*values[&b"b"[..]].1), (&b"1"[..], &b"changed"[..]));
    assert_eq!(restore(b"a").unwrap().unchanged_count, 1);
    assert_eq!(restore(b"c").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_unchanged_storage_costs_its_token() {
    let place = Place::new();
    let source = place.storage("source");
    put(&source, &[("a", b"1"), ("b", b"2")]);
    let backups = place.backups();
    let first = backups.run(&[("main", &source)]).unwrap();
    assert_eq!(first.unchanged, Vec::<String>::new());

    /// Gives its token, and nothing else.
    #[derive(Debug)]
    struct TokenOnly<'a>(&'a Placed);
    impl Source for TokenOnly<'_> {
        fn location(&self) -> String {
            self.0.location()
        }
        fn token(&self) -> pefc::Result<pefc::refs::Token> {
            self.0.token()
        }
        fn snapshot(
            &self,
            _: &mut dyn FnMut(&[u8], &Ref) -> pefc::Result<()>,
        ) -> pefc::Result<pefc::refs::Token> {
            panic!("refs were read")
        }
        fn current(&self, _: &[u8]) -> pefc::Result<Option<Ref>> {
            panic!("a ref was read")
        }
        fn hold(&self) -> pefc::Result<Option<pefc::store::Session>> {
            panic!("a session was begun")
        }
        fn copy_to(&self, _: &[u8], _: &Ref, _: &mut pefc::store::Session) -> pefc::Result<bool> {
            panic!("a content was copied")
        }
        fn reader(&self, _: &[u8]) -> pefc::Result<Option<ValueReader<'_>>> {
            panic!("a content was read")
        }
    }
    let stored_bytes = backups.contents().stats().unwrap().stored_bytes;
    let second = backups.run(&[("main", &TokenOnly(&source))]).unwrap();
    assert_eq!(second.unchanged, ["main"]);
    assert_eq!(second.snapshot.storages, first.snapshot.storages);
    assert_eq!(backups.contents().stats().unwrap().stored_bytes, stored_bytes);

    // At another place the same token means nothing.
    let moved = Placed { location: "elsewhere".to_owned(), ..source.clone() };
    assert_eq!(backups.run(&[("main", &moved)]).unwrap().unchanged, Vec::<String>::new());
}

#[test]
fn only_changes_are_copied() {
    let place = Place::new();
    let source = place.storage("source");
    let values: Vec<(String, Vec<u8>)> =
        (0..3000).map(|n| (format!("key/{n:04}"), noise(n, 500))).collect();
    let slices: Vec<(&str, &[u8])> = values.iter().map(|(key, value)| (&**key, &**value)).collect();
    put(&source, &slices);
    let backups = place.backups();
    assert_eq!(backups.run(&[("main", &source)]).unwrap().changed_count, 3000);
    put(&source, &[("key/0007", b"new"), ("key/0007a", b"newer")]);
    assert!(source.storage.delete("key/1000").unwrap());
    let before = backups.contents().stats().unwrap().stored_bytes;
    let report = backups.run(&[("main", &source)]).unwrap();
    assert_eq!((report.changed_count, report.changed_bytes), (2, 8));
    assert_eq!(report.snapshot.storages["main"].key_count, 3000);
    let grown = backups.contents().stats().unwrap().stored_bytes - before;
    assert!(grown < 600_000, "a list of 200 KB and two values took {grown} bytes");
    let again = place.storage("again");
    restore_all(&backups, "latest", &again, true);
    assert_same(&again, &source);
}

/// A writer sets two keys to one value, always both at once. Whatever a snapshot holds, they agree.
#[test]
fn a_snapshot_is_one_moment_while_writers_and_collectors_go_on() {
    let place = Place::new();
    let source = place.storage("source");
    put(&source, &[("left", b"0"), ("right", b"0")]);
    let backups = place.backups();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = place.storage("source");
            let mut turn = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                turn += 1;
                let value = turn.to_string();
                put(&writer, &[("left", value.as_bytes()), ("right", value.as_bytes())]);
            }
        });
        scope.spawn(|| {
            let collector = place.storage("source");
            while !stop.load(Ordering::Relaxed) {
                let mut mark = |_: &Root, needs: &mut dyn FnMut(Hash)| {
                    for found in collector.storage.scan("") {
                        needs(found?.1.name);
                    }
                    Ok(())
                };
                let options = pefc::store::CollectOptions::default();
                let contents = collector.storage.backend().content().unwrap();
                let collected = contents.collect(&options, &mut mark, &mut |_| false);
                assert_eq!(collected.unwrap().missing, []);
            }
        });
        for _ in 0..12 {
            let snapshot = backups.run(&[("main", &source)]).unwrap().snapshot;
            assert!(snapshot.is_good());
            let target = place.storage(&snapshot.id);
            restore_all(&backups, &snapshot.id, &target, true);
            let values = all(&target);
            assert_eq!(values[&b"left"[..]].1, values[&b"right"[..]].1);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_a_storage_has_lost_is_told_and_all_else_is_saved() {
    let place = Place::new();
    let source = place.storage("source");
    let (good, bad) = (noise(1, 5000), noise(2, 5000));
    put(&source, &[("good", &good)]);
    put(&source, &[("bad", &bad), ("bad too", &bad)]);
    damage(&place.path("source"), &bad[1000..1100]);
    let backups = place.backups();
    let report = backups.run(&[("main", &place.storage("source"))]).unwrap();
    assert!(!report.snapshot.is_good());
    let keys: Vec<&[u8]> = report.problems.first.iter().map(|problem| &*problem.key).collect();
    assert_eq!(keys, [&b"bad"[..], b"bad too"]);
    assert_eq!(backups.snapshot("latest").unwrap_err().kind(), ErrorKind::NotFound);

    let target = place.storage("target");
    let saved = &report.snapshot.storages["main"];
    let restored = backups.restore("main", saved, &target, &RestoreOptions::default()).unwrap();
    assert_eq!((restored.restored_count, restored.problems.count), (1, 2));
    assert_eq!(all(&target)[&b"good"[..]].1, good);

    // Put right, the next one is good.
    let source = place.storage("source");
    put(&source, &[("bad", b"right"), ("bad too", b"right")]);
    assert!(backups.run(&[("main", &source)]).unwrap().snapshot.is_good());
}

#[test]
fn damage_of_the_backup_is_found_and_costs_no_more_than_it_hit() {
    let place = Place::new();
    let source = place.storage("source");
    let (one, two) = (noise(1, 2 << 20), noise(2, 2 << 20));
    put(&source, &[("one", &one)]);
    put(&source, &[("two", &two)]);
    let id = place.backups().run(&[("main", &source)]).unwrap().snapshot.id;
    damage(&place.path("backups"), &two[1000..1100]);

    let backups = place.backups();
    let snapshots = backups.snapshots().unwrap().all;
    let reports = backups.verify(&snapshots).unwrap();
    assert_eq!(reports[0].problems.count, 1);
    assert_eq!(reports[0].problems.first[0].key, b"two");
    place.clock.set(NOON_S + 5);
    backups.record_check(&reports).unwrap();
    let snapshot = backups.snapshot(&id).unwrap();
    assert!(!snapshot.is_good());
    assert_eq!(snapshot.check.time_s, NOON_S + 5);

    let target = place.storage("target");
    let saved = &snapshot.storages["main"];
    let report = backups.restore("main", saved, &target, &RestoreOptions::default()).unwrap();
    assert_eq!((report.restored_count, report.problems.count), (1, 1));
    assert_eq!(all(&target).keys().collect::<Vec<_>>(), [b"one"]);

    // The source still has it: the next run stores it again.
    let report = backups.run(&[("main", &source)]).unwrap();
    assert!(report.snapshot.is_good(), "{:?}", report.problems);
    let target = place.storage("again");
    restore_all(&backups, "latest", &target, true);
    assert_same(&target, &source);
}

#[test]
fn pruning_lets_go_what_nothing_needs() {
    let place = Place::new();
    let source = place.storage("source");
    let backups = place.backups();
    let mut values = Vec::new();
    for day in 0..5 {
        place.clock.set(NOON_S + day * DAY_S);
        values.push(noise(day as u64, 200_000));
        put(&source, &[("a", &values[values.len() - 1]), ("b", b"stays")]);
        assert!(backups.run(&[("main", &source)]).unwrap().snapshot.is_good());
    }
    let zone = jiff::tz::TimeZone::UTC;
    let plan = backups.plan(&Policy::newest(2), &zone, false).unwrap();
    assert_eq!((plan.decisions.len(), plan.removed().count()), (5, 3));
    assert_eq!(backups.snapshots().unwrap().all.len(), 5, "a plan changes nothing");

    // While the clock is in doubt nothing goes.
    place.clock.set(NOON_S);
    let report = backups.prune(&Policy::newest(2), &zone, false, &mut |_| false).unwrap();
    assert!(report.plan.doubt.is_some());
    assert_eq!(backups.snapshots().unwrap().all.len(), 5);

    place.clock.set(NOON_S + 5 * DAY_S);
    backups.prune(&Policy::newest(2), &zone, false, &mut |_| false).unwrap();
    let left = backups.snapshots().unwrap().all;
    assert_eq!(left.len(), 2);
    let holds = |n: usize| backups.contents().contains(&Hash::of(&values[n])).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(holds), [false, false, false, true, true]);
    for (snapshot, n) in left.iter().zip([4, 3]) {
        let target = place.storage(&snapshot.id);
        restore_all(&backups, &snapshot.id, &target, true);
        assert_eq!(all(&target)[&b"a"[..]].1, values[n]);
    }
    assert_eq!(backups.verify(&left).unwrap().iter().map(|r| r.problems.count).sum::<u64>(), 0);
}

#[test]
fn a_snapshot_that_cant_be_read_stops_pruning_until_it_is_given_up() {
    let place = Place::new();
    let source = place.storage("source");
    let backups = place.backups();
    for second in 0..3 {
        place.clock.set(NOON_S + second);
        put(&source, &[("a", second.to_string().as_bytes())]);
        backups.run(&[("main", &source)]).unwrap();
    }
    let snapshots = backups.snapshots().unwrap().all;
    let path = backups.path().join(format!("snapshots/{}.snapshot", snapshots[1].id));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let found = backups.snapshots().unwrap();
    assert_eq!((found.all.len(), found.unreadable.len()), (2, 1));
    let zone = jiff::tz::TimeZone::UTC;
    let prune = || backups.prune(&Policy::newest(1), &zone, true, &mut |_| false);
    assert_eq!(prune().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(backups.snapshot(&snapshots[1].id).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(backups.forget(&snapshots[0].id).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(backups.forget("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    backups.forget(&snapshots[1].id).unwrap();
    assert_eq!(prune().unwrap().plan.removed().count(), 1);
}

#[test]
fn names_of_snapshots_may_be_cut_short() {
    let place = Place::new();
    let source = place.storage("source");
    put(&source, &[("a", b"1")]);
    let missing = Backups::open(place.path("none"), &place.machine, false).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let backups = place.backups();
    assert_eq!(backups.snapshot("latest").unwrap_err().kind(), ErrorKind::NotFound);
    let first = backups.run(&[("main", &source)]).unwrap().snapshot;
    assert_eq!((&*first.id, first.number), ("20261122T120000Z-000001", 1));
    // The clock is set back, and the second is the newer one nevertheless.
    place.clock.set(NOON_S - 60);
    let second = backups.run(&[("main", &source)]).unwrap().snapshot;
    assert_eq!(backups.snapshot("latest").unwrap(), second);
    assert_eq!(backups.snapshot("20261122T1159").unwrap(), second);
    assert_eq!(backups.snapshot("2026").unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(backups.snapshot("2027").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backups.snapshot("").unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn due_by_the_good_ones() {
    let place = Place::new();
    let source = place.storage("source");
    put(&source, &[("a", b"1")]);
    let (backups, zone) = (place.backups(), jiff::tz::TimeZone::UTC);
    let daily: Schedule = "daily".parse().unwrap();
    assert_eq!(backups.due(&daily, &zone).unwrap(), Due::Now { since_s: None });
    backups.run(&[("main", &source)]).unwrap();
    let midnight_s = NOON_S + DAY_S / 2;
    assert_eq!(backups.due(&daily, &zone).unwrap(), Due::At(midnight_s));
    place.clock.set(midnight_s + 1);
    assert_eq!(backups.due(&daily, &zone).unwrap(), Due::Now { since_s: Some(midnight_s) });
}

#[test]
fn one_run_at_a_time() {
    let place = Place::new();
    let backups = place.backups();

    /// Runs another backup while it is saved.
    #[derive(Debug)]
    struct Nested<'a>(&'a Place, Placed);
    impl Source for Nested<'_> {
        fn location(&self) -> String {
            "nested".to_owned()
        }
        fn token(&self) -> pefc::Result<pefc::refs::Token> {
            self.1.token()
        }
        fn snapshot(
            &self,
            each: &mut dyn FnMut(&[u8], &Ref) -> pefc::Result<()>,
        ) -> pefc::Result<pefc::refs::Token> {
            let second = self.0.backups().run(&[("main", &self.1)]);
            assert_eq!(second.unwrap_err().kind(), ErrorKind::Locked);
            self.1.snapshot(each)
        }
        fn current(&self, key: &[u8]) -> pefc::Result<Option<Ref>> {
            self.1.current(key)
        }
        fn hold(&self) -> pefc::Result<Option<pefc::store::Session>> {
            self.1.hold()
        }
        fn copy_to(
            &self,
            key: &[u8],
            value: &Ref,
            session: &mut pefc::store::Session,
        ) -> pefc::Result<bool> {
            self.1.copy_to(key, value, session)
        }
        fn reader(&self, key: &[u8]) -> pefc::Result<Option<ValueReader<'_>>> {
            self.1.reader(key)
        }
    }
    let nested = Nested(&place, place.storage("source"));
    backups.run(&[("main", &nested)]).unwrap();
}

/// The power goes at every call of a run: whatever is on the disk then, every snapshot that is there
/// is good and comes back whole, and the next run makes a good one.
#[test]
fn a_crash_at_any_call_leaves_good_snapshots_alone() {
    let base = SimFs::new(11);
    let open = |fs: &SimFs| {
        let machine = fs.machine();
        let source = storage(&machine, Path::new("/source"));
        (source, Backups::open("/backups", &machine, true))
    };
    let (source, backups) = open(&base);
    put(&source, &[("a", b"1"), ("b", b"2")]);
    let first = backups.unwrap().run(&[("main", &source)]).unwrap().snapshot;
    put(&source, &[("a", b"new"), ("c", b"3")]);
    let wanted = all(&source);
    drop(source);

    let dry = base.fork();
    let (source, backups) = open(&dry);
    let begin = dry.call_count();
    backups.unwrap().run(&[("main", &source)]).unwrap();
    let calls = dry.call_count();
    let mut disks = 0;
    for call in begin..=calls {
        let fs = base.fork();
        let (source, backups) = open(&fs);
        fs.fail_at(call, Fault::Crash);
        let acknowledged = backups.unwrap().run(&[("main", &source)]).is_ok();
        drop(source);
        let plan = CrashPlan { seed: call, exhaustive: 4, samples: 6, stale_blocks: call % 2 == 0 };
        for disk in fs.crash_states(plan) {
            disks += 1;
            let (source, backups) = open(&disk);
            let backups = backups.unwrap();
            let found = backups.snapshots().unwrap();
            assert!(found.unreadable.is_empty(), "call {call}: {:?}", found.unreadable);
            let count = found.all.len();
            assert!(count == 2 || (count == 1 && !acknowledged), "call {call}: {count}");
            assert!(found.all.contains(&first));
            for report in backups.verify(&found.all).unwrap() {
                assert_eq!(report.problems.count, 0, "call {call}");
            }
            let next = backups.run(&[("main", &source)]).unwrap();
            assert!(next.snapshot.is_good());
            if disks % 7 == 0 {
                let target = storage(&disk.machine(), Path::new("/target"));
                restore_all(&backups, &next.snapshot.id, &target, true);
                assert_eq!(all(&target), wanted);
            }
        }
    }
    assert!(disks > 100, "{disks}");
}
