//! The manager: storages as a configuration says, watched, saved when it is due and restored.
#![cfg(all(feature = "yaml", feature = "sqlite"))]
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "tests fail by panicking; what is here is no interface"
)]

mod common;

use common::sim_fs::SimClock;
use pefc::ErrorKind;
use pefc::config::Config;
use pefc::disk::{Clock, Machine};
use pefc::manager::StorageManager;
use pefc::schedule::Due;
use pefc::storage::{Event, Observer};
use std::path::Path;
use std::sync::{Arc, Mutex};

const NOON_S: i64 = 1_795_348_800; // 2026-11-22T12:00:00Z
const DAY_S: i64 = 86_400;

const CONFIG: &str = "
persistence:
  default_storage: file
  storages:
    file: { type: file }
    database: { type: database }
    pack: { type: pack }
    front: { type: cache, ttl: 60, over: database }
    alone: { type: cache }
  backup: { schedule: daily, time_zone: UTC, retention: 2 }
";

fn manager(dir: &Path, clock: &Arc<SimClock>) -> StorageManager {
    let config = Config::parse(CONFIG, dir, &|_| None).unwrap();
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    StorageManager::new(config, Machine { clock, ..Machine::real() })
}

fn clock() -> Arc<SimClock> {
    let clock = Arc::new(SimClock::default());
    clock.set(NOON_S);
    clock
}

#[test]
fn storages_are_what_the_configuration_says() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path(), &clock());
    assert!(!dir.path().join("data").exists(), "nothing is opened before it is asked for");
    for name in ["file", "database", "pack", "front", "alone"] {
        let storage = manager.storage(name).unwrap();
        storage.store("key", name.as_bytes()).unwrap();
        assert_eq!(storage.retrieve("key").unwrap().unwrap(), name.as_bytes());
    }
    let default = manager.default_storage().unwrap();
    assert_eq!(default.retrieve("key").unwrap().unwrap(), b"file");
    let behind = manager.storage("database").unwrap();
    assert_eq!(behind.retrieve("key").unwrap().unwrap(), b"front", "written through");
    assert_eq!(manager.cache("front").unwrap().stats().entry_count, 1);
    for path in ["data/storage", "data/xme.db", "data/packs/storage.pefc", "data/content/STORE"] {
        assert!(dir.path().join(path).exists(), "{path}");
    }
    let error = manager.storage("fiel").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("did you mean \"file\"?"), "{error}");
}

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Diary(Mutex<Vec<String>>);

impl Observer for Diary {
    fn observe(&self, event: &Event<'_>) {
        let line = match event {
            Event::Stored { storage, key, size_bytes, .. } => {
                format!("{storage} stored {} ({size_bytes})", key.escape_ascii())
            }
            Event::Deleted { storage, key } => format!("{storage} deleted {}", key.escape_ascii()),
            Event::BackedUp { storage, key_count, .. } => format!("{storage} saved {key_count}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn those_who_watch_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let diary = Arc::new(Diary::default());
    let manager = manager(dir.path(), &clock()).observed(Arc::clone(&diary) as Arc<dyn Observer>);
    let storage = manager.storage("pack").unwrap();
    storage.store("a", b"12").unwrap();
    storage.store("b", b"1").unwrap();
    storage.delete("b").unwrap();
    manager.back_up().unwrap();
    let told = diary.0.lock().unwrap().clone();
    let expected = [
        "pack stored a (2)",
        "pack stored b (1)",
        "pack deleted b",
        "database saved 0",
        "file saved 0",
        "pack saved 1",
    ];
    assert_eq!(told, expected);
}

/// What a daemon or a timer does, through a month in which the clock is set again and again: every day
/// that comes has its backup, none has two, and the two newest stay.
#[test]
fn a_clock_that_is_set_costs_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let manager = manager(dir.path(), &clock);
    let storage = manager.default_storage().unwrap();
    let turn = |now_s: i64| {
        clock.set(now_s);
        match manager.backup_due().unwrap() {
            Due::Now { .. } => {
                storage.store("now", now_s.to_string().as_bytes()).unwrap();
                assert!(manager.back_up().unwrap().snapshot.is_good());
                manager.prune(false, &mut |_| false).unwrap();
                true
            }
            _ => false,
        }
    };
    assert!(turn(NOON_S));
    assert!(!turn(NOON_S + 60));
    assert!(turn(NOON_S + DAY_S));
    assert!(!turn(NOON_S + DAY_S - 7200), "two hours back, the same day");
    assert!(turn(NOON_S + 2 * DAY_S));
    // Fifty years ahead by mistake: one backup; set right, the next day has its own.
    let wild_s = NOON_S + 50 * 365 * DAY_S;
    assert!(turn(wild_s));
    assert!(!turn(NOON_S + 2 * DAY_S + 60));
    assert!(turn(NOON_S + 3 * DAY_S));
    assert!(turn(NOON_S + 4 * DAY_S));
    // While a snapshot is from the future the clock is in doubt, and nothing goes.
    let snapshots = manager.backups(false).unwrap().snapshots().unwrap();
    assert_eq!(snapshots.all.len(), 4, "{snapshots:?}");
    assert_eq!(snapshots.newest_good().unwrap().time_s, NOON_S + 4 * DAY_S);
    // Whoever knows better says so.
    let report = manager.prune(true, &mut |_| false).unwrap();
    assert_eq!(report.plan.removed().count(), 2);
}

#[test]
fn collection_spares_what_any_storage_names() {
    let dir = tempfile::tempdir().unwrap();
    let first = manager(dir.path(), &clock());
    first.storage("file").unwrap().store("a", b"in a file").unwrap();
    first.storage("database").unwrap().store("b", b"in a database").unwrap();
    first.storage("file").unwrap().store("c", b"to be removed").unwrap();
    first.storage("file").unwrap().delete("c").unwrap();
    drop(first);

    // Another configuration, over the same contents, which knows neither of them.
    let text = "persistence: { storages: { file: { type: file, base_path: other } } }";
    let config = Config::parse(text, dir.path(), &|_| None).unwrap();
    let other = StorageManager::new(config, Machine::real());
    other.default_storage().unwrap().store("d", b"in the other").unwrap();
    let report = other.collect(&pefc::store::CollectOptions::default(), &mut |_| false).unwrap();
    assert_eq!((report.live_count, report.missing.len()), (3, 0));

    let first = manager(dir.path(), &clock());
    let value = |storage: &str, key: &str| first.storage(storage).unwrap().retrieve(key).unwrap();
    assert_eq!(value("file", "a").unwrap(), b"in a file");
    assert_eq!(value("database", "b").unwrap(), b"in a database");
}

/// An upper bound on calls, not on time: what is not changed is not read.
#[test]
fn a_backup_of_unchanged_storages_reads_no_ref() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path(), &clock());
    for name in ["file", "database", "pack"] {
        let storage = manager.storage(name).unwrap();
        let mut batch = storage.batch().unwrap();
        for n in 0..500 {
            batch.store(format!("key/{n:04}"), format!("value {n}").as_bytes()).unwrap();
        }
        batch.commit().unwrap();
    }
    let first = manager.back_up().unwrap();
    assert_eq!((first.changed_count, first.unchanged.len()), (1500, 0));
    let second = manager.back_up().unwrap();
    assert_eq!((second.changed_count, second.unchanged.len()), (0, 3));
    assert_eq!(second.snapshot.storages, first.snapshot.storages);
}
