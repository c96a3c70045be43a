//! Storages: one contract for every backend and decorator, and what each has beyond it.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::sim_fs::{CrashPlan, Fault, SimFs};
use pefc::disk::{Clock, Machine};
use pefc::storage::{
    Backend, CacheBackend, CacheOptions, Event, Expect, FileBackend, Observer, PACK_FILE,
    PackBackend, PackBackendOptions, Ref, Storage, value,
};
use pefc::store::{ContentStore, StoreOptions};
use pefc::{ErrorKind, Hash, Pack};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

fn content(dir: &Path) -> ContentStore {
    ContentStore::open(dir.join("content"), StoreOptions::default()).unwrap()
}

fn file(dir: &Path) -> FileBackend {
    FileBackend::open(dir.join("storage"), content(dir), Machine::real()).unwrap()
}

fn pack(dir: &Path) -> PackBackend {
    PackBackend::open(dir.join("packs"), PackBackendOptions::default()).unwrap()
}

fn cache(below: Option<Arc<dyn Backend>>) -> CacheBackend {
    let options = CacheOptions { capacity_bytes: 64 << 20, ..CacheOptions::default() };
    match below {
        Some(below) => CacheBackend::over(below, options),
        None => CacheBackend::alone(options),
    }
}

/// A new storage of every kind, each in its own directory.
fn storages() -> Vec<(Storage, tempfile::TempDir)> {
    type Make = fn(&Path) -> Arc<dyn Backend>;
    #[allow(unused_mut, reason = "without the feature nothing is added")]
    let mut makes: Vec<(&str, Make)> = vec![
        ("file", |dir| Arc::new(file(dir))),
        ("pack", |dir| Arc::new(pack(dir))),
        ("cache", |_| Arc::new(cache(None))),
        ("cache over file", |dir| Arc::new(cache(Some(Arc::new(file(dir)))))),
        ("cache over pack", |dir| Arc::new(cache(Some(Arc::new(pack(dir)))))),
    ];
    #[cfg(feature = "sqlite")]
    makes.push(("database", |dir| Arc::new(database(dir))));
    let open = |(name, make): (&str, Make)| {
        let dir = tempfile::tempdir().unwrap();
        (Storage::shared(name, make(dir.path())), dir)
    };
    makes.into_iter().map(open).collect()
}

#[cfg(feature = "sqlite")]
fn database(dir: &Path) -> pefc::storage::DatabaseBackend {
    let path = dir.join("xme.db");
    pefc::storage::DatabaseBackend::open(path, content(dir), Machine::real()).unwrap().0
}

fn keys(storage: &Storage, prefix: &[u8]) -> Vec<Vec<u8>> {
    storage.list_keys(prefix).collect::<Result<_, _>>().unwrap()
}

fn kind<T: std::fmt::Debug>(result: pefc::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn what_is_stored_is_retrieved_listed_and_deleted() {
    for (storage, _dir) in storages() {
        let name = storage.name();
        assert_eq!(storage.retrieve("k").unwrap(), None, "{name}");
        assert!(storage.reader("k").unwrap().is_none() && storage.stat("k").unwrap().is_none());
        assert_eq!(storage.store("k", b"one").unwrap(), Hash::of(b"one"));
        let first = storage.stat("k").unwrap().unwrap();
        assert_eq!((first.name, first.size_bytes), (Hash::of(b"one"), 3), "{name}");
        assert!(first.created_ns == first.updated_ns && first.created_ns > 1 << 60, "{name}");
        storage.store("k", b"two").unwrap();
        storage.store("empty", b"").unwrap();
        assert_eq!(storage.retrieve("k").unwrap().unwrap(), b"two", "{name}");
        assert_eq!(storage.retrieve("empty").unwrap().unwrap(), b"", "{name}");
        let second = storage.stat("k").unwrap().unwrap();
        assert_eq!(second.created_ns, first.created_ns, "{name}");
        assert!(second.updated_ns >= first.updated_ns, "{name}");
        assert_eq!(keys(&storage, b""), [&b"empty"[..], b"k"], "{name}");
        let scanned: Vec<_> = storage.scan("k").collect::<Result<_, _>>().unwrap();
        assert_eq!(scanned, [(b"k".to_vec(), second)], "{name}");
        assert!(storage.delete("k").unwrap(), "{name}");
        assert!(!storage.delete("k").unwrap(), "{name}");
        assert_eq!(storage.retrieve("k").unwrap(), None, "{name}");
        assert_eq!(keys(&storage, b""), [b"empty"], "{name}");
    }
}

#[test]
fn any_bytes_are_a_key_and_a_prefix_is_exact() {
    let mut all: Vec<Vec<u8>> = [
        "../x",
        "../../etc/passwd",
        "/abs",
        "a",
        "a/b",
        "a//b",
        "a/",
        "a%b",
        "a_b",
        "a*b",
        "a[b]",
        "%",
        "_",
        "*",
        "?",
        "[",
        ".",
        "..",
        "a+",
        "é",
        "a\nb",
        " ",
        "storage.pefc",
        "lock",
    ]
    .iter()
    .map(|key| key.as_bytes().to_vec())
    .collect();
    all.extend([b"\0".to_vec(), b"a\0b".to_vec(), vec![0xff; 300], vec![b'k'; 4096]]);
    all.sort();
    for (storage, dir) in storages() {
        let name = storage.name();
        for key in &all {
            storage.store(key, key).unwrap();
        }
        for key in &all {
            assert_eq!(storage.retrieve(key).unwrap().as_ref(), Some(key), "{name}");
        }
        for prefix in all.iter().map(|key| &key[..1]).chain([&b""[..], b"a/", b"..", b"zz"]) {
            let wanted: Vec<_> =
                all.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
            assert_eq!(keys(&storage, prefix), wanted, "{name}, {prefix:?}");
        }
        assert!(!dir.path().join("x").exists() && !dir.path().parent().unwrap().join("x").exists());
        for key in [&b""[..], &[b'k'; 4097]] {
            assert_eq!(kind(storage.store(key, b"x")), ErrorKind::InvalidKey, "{name}");
            assert_eq!(kind(storage.retrieve(key)), ErrorKind::InvalidKey, "{name}");
            assert_eq!(kind(storage.delete(key)), ErrorKind::InvalidKey, "{name}");
            assert_eq!(kind(storage.stat(key)), ErrorKind::InvalidKey, "{name}");
            assert_eq!(kind(storage.reader(key).map(|_| ())), ErrorKind::InvalidKey, "{name}");
            assert_eq!(kind(storage.store_stream(key, &b"x"[..])), ErrorKind::InvalidKey, "{name}");
        }
        assert_eq!(keys(&storage, b""), all, "{name}");
    }
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    for (storage, _dir) in storages() {
        let name = storage.name();
        storage.store("a", b"1").unwrap();
        let mut batch = storage.batch().unwrap();
        batch.store("a", b"2").unwrap();
        batch.store("b", b"2").unwrap();
        batch.delete("c").unwrap();
        batch.store_stream("s", &mut &[7; 3000][..]).unwrap();
        assert_eq!(storage.retrieve("a").unwrap().unwrap(), b"1", "{name}: not yet");
        let before = batch.commit().unwrap();
        let before: Vec<_> = before.iter().map(|value| value.map(|value| value.name)).collect();
        assert_eq!(before, [Some(Hash::of(b"1")), None, None, None], "{name}");
        assert_eq!(keys(&storage, b""), [b"a", b"b", b"s"], "{name}");

        let mut given_up = storage.batch().unwrap();
        given_up.store("a", b"3").unwrap();
        drop(given_up);
        let mut refused = storage.batch().unwrap();
        refused.store("a", b"4").unwrap();
        refused.delete("s").unwrap();
        refused.store_if("b", b"4", Expect::Absent).unwrap();
        let error = refused.commit().unwrap_err();
        assert_eq!(
            (error.kind(), error.kind().exit_code()),
            (ErrorKind::RefConflict, 13),
            "{name}"
        );
        assert_eq!(storage.retrieve("a").unwrap().unwrap(), b"2", "{name}");
        assert_eq!(keys(&storage, b""), [b"a", b"b", b"s"], "{name}");

        // In order: each change sees the ones before it.
        let mut ordered = storage.batch().unwrap();
        ordered.store("x", b"1").unwrap();
        ordered.store_if("x", b"2", Expect::Is(Hash::of(b"1"))).unwrap();
        ordered.delete_if("a", Expect::Present).unwrap();
        ordered.store_if("a", b"5", Expect::Absent).unwrap();
        ordered.store("gone", b"1").unwrap();
        ordered.delete("gone").unwrap();
        assert_eq!(ordered.len(), 6);
        ordered.commit().unwrap();
        assert_eq!(storage.retrieve("x").unwrap().unwrap(), b"2", "{name}");
        assert_eq!(storage.retrieve("a").unwrap().unwrap(), b"5", "{name}");
        assert_eq!(storage.retrieve("gone").unwrap(), None, "{name}");
        storage.store("after", b"x").unwrap();
        assert!(storage.batch().unwrap().commit().unwrap().is_empty());
    }
}

#[test]
fn swaps_of_many_threads_lose_nothing() {
    for (storage, _dir) in storages() {
        let add = || {
            for _ in 0..10 {
                loop {
                    let found = storage.retrieve("n").unwrap();
                    let count: u64 = found.as_ref().map_or(0, |n| value::decode(n).unwrap());
                    let expect = found.map_or(Expect::Absent, |found| Expect::Is(Hash::of(&found)));
                    match storage.store_if("n", &value::encode(&(count + 1)).unwrap(), expect) {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::RefConflict, "{error}"),
                    }
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(add))));
        let count: u64 = storage.retrieve_value("n").unwrap().unwrap();
        assert_eq!(count, 40, "{}", storage.name());
    }
}

/// Bytes that do not compress, without holding them.
struct Noise(u64, u64);

impl Read for Noise {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = buf.len().min(usize::try_from(self.1).unwrap_or(usize::MAX));
        for byte in &mut buf[..count] {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
        self.1 -= count as u64;
        Ok(count)
    }
}

#[test]
fn streams_of_any_length_go_in_and_out() {
    for (storage, _dir) in storages() {
        let name = storage.name();
        for len in [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20] {
            let mut expected = Vec::new();
            Noise(len, len).read_to_end(&mut expected).unwrap();
            let hash = storage.store_stream("s", Noise(len, len)).unwrap();
            assert_eq!(hash, Hash::of(&expected), "{name}");
            let mut found = Vec::new();
            storage.reader("s").unwrap().unwrap().read_to_end(&mut found).unwrap();
            assert!(found == expected, "{name}, {len}");
            assert!(storage.retrieve("s").unwrap().unwrap() == expected, "{name}, {len}");
            storage.store("whole", &expected).unwrap();
            assert!(storage.retrieve("whole").unwrap().unwrap() == expected, "{name}, {len}");
        }
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the pipe broke"))
            }
        }
        let broken = Noise(3, 2 << 20).chain(Fails);
        assert_eq!(kind(storage.store_stream("s", broken)), ErrorKind::Io, "{name}");
        assert_eq!(storage.stat("s").unwrap().unwrap().size_bytes, 5 << 20, "{name}: as it was");
        storage.store("s", b"and on").unwrap();
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Step {
    clause: Vec<i32>,
    hints: BTreeMap<String, f64>,
    parent: Option<Box<Step>>,
}

#[test]
fn typed_values_come_back_and_another_type_is_told() {
    for (storage, _dir) in storages() {
        let hints = BTreeMap::from([("b".to_owned(), 1.0), ("a".to_owned(), f64::INFINITY)]);
        let inner = Step { clause: vec![], hints: BTreeMap::new(), parent: None };
        let step = Step { clause: vec![1, -2, 0], hints, parent: Some(Box::new(inner)) };
        let name = storage.store_value("step", &step).unwrap();
        assert_eq!(
            storage.store_value("again", &step).unwrap(),
            name,
            "the same value, the same name"
        );
        assert_eq!(storage.retrieve_value::<Step>("step").unwrap(), Some(step));
        assert_eq!(storage.retrieve_value::<Step>("none").unwrap(), None);
        assert_ne!(storage.store_value("i", &1).unwrap(), storage.store_value("f", &1.0).unwrap());
        let error = storage.retrieve_value::<String>("step").unwrap_err();
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::ValueType, 14));
        storage.store("raw", b"\xffnot cbor").unwrap();
        assert_eq!(kind(storage.retrieve_value::<u8>("raw")), ErrorKind::ValueType);
    }
}

#[test]
fn a_snapshot_is_of_one_moment_and_has_its_token() {
    for (storage, _dir) in storages() {
        let name = storage.name();
        storage.store("a", b"1").unwrap();
        storage.store("b", b"2").unwrap();
        let mut seen = Vec::new();
        let mut collect = |key: &[u8], value: &Ref| {
            seen.push((key.to_vec(), value.name));
            Ok(())
        };
        let token = storage.backend().snapshot(&mut collect).unwrap();
        assert_eq!(
            seen,
            [(b"a".to_vec(), Hash::of(b"1")), (b"b".to_vec(), Hash::of(b"2"))],
            "{name}"
        );
        if name != "cache" {
            assert_eq!(storage.backend().token().unwrap(), token, "{name}");
        }
        storage.store("a", b"3").unwrap();
        assert_ne!(storage.backend().token().unwrap(), token, "{name}");
    }
}

#[test]
fn values_are_copied_between_all_kinds_with_their_times() {
    let big: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    for (source, _from) in storages() {
        source.store("dir/small", b"s").unwrap();
        source.store("dir/big", &big).unwrap();
        source.store("other", b"o").unwrap();
        source.store("dir/small", b"small").unwrap();
        for (target, _to) in storages() {
            let names = format!("{} to {}", source.name(), target.name());
            target.store("dir/small", b"before").unwrap();
            assert_eq!(target.copy_all(&source, "dir/").unwrap(), 2, "{names}");
            assert_eq!(keys(&target, b""), [&b"dir/big"[..], b"dir/small"], "{names}");
            assert_eq!(target.retrieve("dir/small").unwrap().unwrap(), b"small", "{names}");
            assert!(target.retrieve("dir/big").unwrap().unwrap() == big, "{names}");
            let stat = |storage: &Storage, key| storage.stat(key).unwrap();
            assert_eq!(stat(&target, "dir/small"), stat(&source, "dir/small"), "{names}");
            assert!(target.copy_from(&source, "other").unwrap(), "{names}");
            assert!(!target.copy_from(&source, "absent").unwrap(), "{names}");
            let mut batch = target.batch().unwrap();
            batch.copy(&source, "other", "renamed").unwrap();
            assert_eq!(kind(batch.copy(&source, "absent", "x")), ErrorKind::NotFound);
            batch.commit().unwrap();
            assert_eq!(target.retrieve("renamed").unwrap().unwrap(), b"o", "{names}");
        }
    }
}

#[test]
fn storages_over_one_content_store_hold_a_content_once() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path());
    let open = |name: &str| {
        let backend = FileBackend::open(dir.path().join(name), content.clone(), Machine::real());
        Storage::new(name, backend.unwrap())
    };
    let (one, two) = (open("one"), open("two"));
    let mut bytes = Vec::new();
    Noise(1, 2 << 20).read_to_end(&mut bytes).unwrap();
    one.store("k", &bytes).unwrap();
    let before = content.stats().unwrap().stored_bytes;
    two.copy_all(&one, "").unwrap();
    two.store("again", &bytes).unwrap();
    assert_eq!(content.stats().unwrap().stored_bytes, before);
    assert!(two.retrieve("k").unwrap().unwrap() == bytes);
    assert_eq!(content.roots().unwrap().len(), 2, "a collection knows both");
}

#[test]
fn a_collection_keeps_what_any_storage_names_and_refuses_without_its_refs() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path());
    let one = Storage::new("one", file(dir.path()));
    #[cfg(feature = "sqlite")]
    let two = Storage::new("two", database(dir.path()));
    #[cfg(not(feature = "sqlite"))]
    let two = one.clone();
    for at in 0..40_u64 {
        let mut bytes = Vec::new();
        Noise(at, 5_000).read_to_end(&mut bytes).unwrap();
        [&one, &two][at as usize % 2].store(format!("{at}"), &bytes).unwrap();
    }
    for at in 0..20 {
        assert!([&one, &two][at % 2].delete(format!("{at}")).unwrap());
    }
    let before = content.stats().unwrap().stored_bytes;
    let options = pefc::store::CollectOptions { overhead_bytes: 1 << 10, ..Default::default() };
    let collect = || {
        let mut mark = |root: &pefc::store::Root, mark: &mut dyn FnMut(Hash)| {
            pefc::storage::mark_root(root, &Machine::real(), mark)
        };
        content.collect(&options, &mut mark, &mut |_| false)
    };
    let report = collect().unwrap();
    assert!(content.stats().unwrap().stored_bytes < before * 3 / 4, "{report:?}");
    let kept = |storage: &Storage| -> usize {
        storage
            .list_keys("")
            .map(|key| storage.retrieve(key.unwrap()).unwrap().unwrap().len())
            .sum()
    };
    assert_eq!(kept(&one) + if cfg!(feature = "sqlite") { kept(&two) } else { 0 }, 20 * 5_000);

    std::fs::rename(dir.path().join("storage"), dir.path().join("elsewhere")).unwrap();
    assert_eq!(kind(collect()), ErrorKind::NotFound, "nothing is needed? no: nobody knows");
    assert!(!dir.path().join("storage").exists(), "and it is not made anew");
}

/// Not a test by itself: what the processes of the next one do.
#[test]
fn child_process() {
    let Ok(dir) = std::env::var("PEFC_TEST_STORAGE") else {
        return;
    };
    let dir = Path::new(&dir);
    let storages = [Storage::new("pack", pack(dir)), Storage::new("file", file(dir))];
    for round in 0..20 {
        for storage in &storages {
            storage.store(format!("{}/{round}", std::process::id()), b"mine").unwrap();
            loop {
                let found = storage.retrieve("n").unwrap();
                let count: u64 = found.as_ref().map_or(0, |n| value::decode(n).unwrap());
                let expect = found.map_or(Expect::Absent, |found| Expect::Is(Hash::of(&found)));
                match storage.store_if("n", &value::encode(&(count + 1)).unwrap(), expect) {
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::RefConflict, "{error}"),
                }
            }
        }
    }
}

#[test]
fn processes_that_share_a_storage_lose_no_update() {
    let dir = tempfile::tempdir().unwrap();
    let spawn = |_| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process"])
            .env("PEFC_TEST_STORAGE", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..3).map(spawn).collect();
    assert!(children.into_iter().all(|mut child| child.wait().unwrap().success()));
    for storage in [Storage::new("pack", pack(dir.path())), Storage::new("file", file(dir.path()))]
    {
        let count: u64 = storage.retrieve_value("n").unwrap().unwrap();
        assert_eq!((count, keys(&storage, b"").len()), (60, 61), "{}", storage.name());
    }
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        let text = match event {
            Event::Stored { storage, key, size_bytes, .. } => {
                format!("{storage} stored {} {size_bytes}", key.escape_ascii())
            }
            Event::Retrieved { key, .. } => format!("retrieved {}", key.escape_ascii()),
            Event::Deleted { key, .. } => format!("deleted {}", key.escape_ascii()),
            Event::Corrupted { key, kind, .. } => {
                format!("corrupted {} {kind}", key.escape_ascii())
            }
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

#[test]
fn an_observer_is_told_after_it_happened() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::default());
    let storage = Storage::new("s", file(dir.path())).observed(log.clone());
    storage.store("a", b"123").unwrap();
    storage.retrieve("a").unwrap();
    storage.retrieve("absent").unwrap();
    assert!(storage.store_if("a", b"4", Expect::Absent).is_err());
    storage.delete("a").unwrap();
    storage.delete("a").unwrap();
    storage.store("gone", b"lost content").unwrap();
    for segment in std::fs::read_dir(dir.path().join("content/segments")).unwrap() {
        std::fs::remove_file(segment.unwrap().path()).unwrap();
    }
    let fresh = Storage::new("s", file(dir.path())).observed(log.clone());
    let error = fresh.retrieve("gone").unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Missing, 20), "{error}");
    assert!(error.to_string().contains("\"gone\""), "{error}");
    let told = log.0.lock().unwrap().clone();
    let expected =
        ["s stored a 3", "retrieved a", "deleted a", "s stored gone 12", "corrupted gone missing"];
    assert_eq!(told, expected);
}

#[test]
fn damaged_content_is_told_and_other_keys_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::new("s", file(dir.path()));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    Noise(1, 900_000).read_to_end(&mut one).unwrap();
    Noise(2, 900_000).read_to_end(&mut two).unwrap();
    storage.store("one", &one).unwrap();
    storage.store("two", &two).unwrap();
    drop(storage);
    let segment = std::fs::read_dir(dir.path().join("content/segments")).unwrap().next().unwrap();
    let path = segment.unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(64).position(|window| window == &one[1000..1064]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let storage = Storage::new("s", file(dir.path()));
    let error = storage.retrieve("one").unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Corrupt, 20), "{error}");
    assert!(storage.retrieve("two").unwrap().unwrap() == two);
    storage.store("one", &one).unwrap();
    assert!(storage.retrieve("one").unwrap().unwrap() == one, "storing it again heals it");
}

#[cfg(feature = "sqlite")]
#[test]
fn the_old_table_becomes_values() {
    let dir = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(dir.path().join("xme.db")).unwrap();
    old.execute_batch(
        "CREATE TABLE storage(key TEXT PRIMARY KEY, data BLOB, created_at REAL, updated_at REAL);
         INSERT INTO storage VALUES('a', 'hello', 1, 2), ('b', x'00ff', 3, 4);",
    )
    .unwrap();
    drop(old);
    let open = || {
        let path = dir.path().join("xme.db");
        pefc::storage::DatabaseBackend::open(path, content(dir.path()), Machine::real()).unwrap()
    };
    let (backend, report) = open();
    assert_eq!(report.imported_count, 2);
    let storage = Storage::new("database", backend);
    assert_eq!(storage.retrieve("a").unwrap().unwrap(), b"hello");
    assert_eq!(storage.retrieve("b").unwrap().unwrap(), [0, 255]);
    assert_eq!(storage.stat("b").unwrap().unwrap().updated_ns, 4_000_000_000);
    assert_eq!(open().1.imported_count, 0);
}

#[test]
fn a_pack_storage_is_a_pack_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Arc::new(pack(dir.path()));
    let storage = Storage::shared("pack", backend.clone());
    for at in 0..50 {
        storage.store(format!("k/{at:02}"), format!("value {at}").as_bytes()).unwrap();
    }
    storage.store("k/00", b"newer").unwrap();
    storage.delete("k/01").unwrap();
    let path = dir.path().join("packs").join(PACK_FILE);
    let read = Pack::open(&path).unwrap();
    assert_eq!(read.get(pefc::Key::storage(&b"k/00"[..])).unwrap().unwrap(), b"newer");
    assert_eq!(read.entries().count(), 0, "nothing for `extract` to touch");
    assert_eq!(backend.seal().unwrap(), 1);
    let read = Pack::open(&path).unwrap();
    assert_eq!(read.keys_under(pefc::Key::storage(&b"k/"[..])).count(), 49);
    assert!(read.verify(&Default::default()).unwrap().is_intact());
    storage.store("k/02", b"after the seal").unwrap();
    assert_eq!(keys(&storage, b"k/").len(), 49);
}

#[test]
fn what_is_no_place_for_a_storage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let below = dir.path().join("file/below");
    let error = PackBackend::open(&below, PackBackendOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}: a file is in the way");
    assert!(error.to_string().contains("creating the directory"), "{error}");
    assert!(FileBackend::open(&below, content(dir.path()), Machine::real()).is_err());
    std::fs::write(
        dir.path().join(PACK_FILE),
        b"some text that is no pack at all, but long enough",
    )
    .unwrap();
    let error = PackBackend::open(dir.path(), PackBackendOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::NotAPack, 21), "{error}");
    #[cfg(feature = "sqlite")]
    {
        let path = dir.path().join(PACK_FILE);
        let opened =
            pefc::storage::DatabaseBackend::open(path, content(dir.path()), Machine::real());
        assert_eq!(kind(opened), ErrorKind::NotADatabase);
    }
}

#[test]
fn two_handles_of_one_pack_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Storage::new("1", pack(dir.path())), Storage::new("2", pack(dir.path())));
    for round in 0..20 {
        let (writer, reader) = if round % 3 == 0 { (&two, &one) } else { (&one, &two) };
        let key = format!("{round:02}");
        writer.store(&key, key.as_bytes()).unwrap();
        assert_eq!(reader.retrieve(&key).unwrap().unwrap(), key.as_bytes());
        assert_eq!(keys(reader, b"").len(), round + 1);
    }
    // A new file under the same name is noticed by readers and writers.
    let path = dir.path().join("packs").join(PACK_FILE);
    std::fs::copy(&path, dir.path().join("copy")).unwrap();
    one.store("lost", b"in the old file").unwrap();
    std::fs::rename(dir.path().join("copy"), &path).unwrap();
    assert_eq!(one.retrieve("lost").unwrap(), None);
    two.store("new", b"in the new file").unwrap();
    one.store("too", b"in the new file").unwrap();
    assert_eq!(keys(&Storage::new("3", pack(dir.path())), b"").len(), 22);
}

#[test]
fn a_pack_that_another_writer_holds_is_told_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let options = PackBackendOptions { wait_ms: 20, ..Default::default() };
    let storage = Storage::new("p", PackBackend::open(dir.path(), options).unwrap());
    storage.store("a", b"1").unwrap();
    let path = dir.path().join(PACK_FILE);
    let mut other = pefc::Writer::append(&path, Default::default()).unwrap();
    let error = storage.store("a", b"2").unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Locked, 11), "{error}");
    assert_eq!(storage.retrieve("a").unwrap().unwrap(), b"1", "readers do not wait");
    other.put("file", b"x").unwrap();
    other.finish().unwrap();
    storage.store("a", b"2").unwrap();
    assert_eq!(Pack::open(&path).unwrap().get("file").unwrap().unwrap(), b"x");
}

#[test]
fn a_large_batch_takes_the_pack_early_and_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::new("p", pack(dir.path()));
    let mut chunk = Vec::new();
    for given_up in [true, false] {
        let mut batch = storage.batch().unwrap();
        for at in 0..24_u64 {
            chunk.clear();
            Noise(at, 1 << 20).read_to_end(&mut chunk).unwrap();
            batch.store(format!("{at:02}"), &chunk).unwrap();
        }
        if given_up {
            drop(batch);
            assert_eq!(keys(&storage, b""), Vec::<Vec<u8>>::new());
        } else {
            batch.commit().unwrap();
        }
    }
    assert_eq!(keys(&storage, b"").len(), 24);
    assert!(storage.retrieve("23").unwrap().unwrap() == chunk);
    let path = dir.path().join("packs").join(PACK_FILE);
    let len = std::fs::metadata(path).unwrap().len();
    assert!(len < 26 << 20, "what was given up is not in the file: {len}");
}

#[derive(Debug, Default)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_s(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn timed(ttl_s: u64) -> (CacheOptions, Arc<TestClock>) {
    let clock = Arc::new(TestClock(AtomicI64::new(1_000)));
    let machine = Machine { clock: clock.clone(), ..Machine::real() };
    (CacheOptions { machine, ttl_ms: Some(ttl_s * 1000), ..Default::default() }, clock)
}

#[test]
fn what_is_too_old_is_not_there_nor_listed_nor_expected() {
    let (options, clock) = timed(10);
    let storage = Storage::new("c", CacheBackend::alone(options));
    storage.store("a", b"1").unwrap();
    clock.0.store(1_005, Ordering::SeqCst);
    storage.store("b", b"2").unwrap();
    assert_eq!(keys(&storage, b"").len(), 2);
    clock.0.store(1_010, Ordering::SeqCst);
    assert_eq!(keys(&storage, b""), [b"b"]);
    assert_eq!(storage.retrieve("a").unwrap(), None);
    assert_eq!(storage.stat("a").unwrap(), None);
    assert!(!storage.delete("a").unwrap());
    storage.store_if("a", b"3", Expect::Absent).unwrap();
    clock.0.store(900, Ordering::SeqCst);
    assert_eq!(keys(&storage, b""), Vec::<Vec<u8>>::new(), "from the future: nobody knows how old");
}

#[test]
fn memory_stays_bounded_and_what_is_used_stays() {
    let options = CacheOptions { capacity_bytes: 1 << 20, ttl_ms: None, ..Default::default() };
    let backend = Arc::new(CacheBackend::alone(options));
    let storage = Storage::shared("c", backend.clone());
    for at in 0..10_000 {
        storage.store(format!("{at}"), &[7; 1000]).unwrap();
        storage.retrieve("0").unwrap();
    }
    let stats = backend.stats();
    assert!(stats.entry_bytes <= 1 << 20 && stats.entry_count > 500, "{stats:?}");
    assert!(storage.retrieve("0").unwrap().is_some(), "it was read all the time");
    let error = storage.store("big", &[0; 200_000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    backend.clear();
    assert_eq!(keys(&storage, b""), Vec::<Vec<u8>>::new());
}

/// Another backend whose reads are counted, and may be held up.
struct Slow {
    inner: FileBackend,
    reads: AtomicU64,
    /// What happens in the middle of the next read.
    between: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slow")
    }
}

impl Backend for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }
    fn stat(&self, key: &[u8]) -> pefc::Result<Option<Ref>> {
        self.inner.stat(key)
    }
    fn retrieve(&self, key: &[u8]) -> pefc::Result<Option<Vec<u8>>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.inner.retrieve(key);
        if let Some(between) = self.between.lock().unwrap().take() {
            between();
        }
        found
    }
    fn reader(&self, key: &[u8]) -> pefc::Result<Option<pefc::storage::ValueReader<'_>>> {
        self.inner.reader(key)
    }
    fn begin(&self) -> pefc::Result<Box<dyn pefc::storage::Transaction + '_>> {
        self.inner.begin()
    }
    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> pefc::storage::KeyIter<'_> {
        self.inner.keys(prefix, after)
    }
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> pefc::storage::RefIter<'_> {
        self.inner.scan(prefix, after)
    }
    fn snapshot(
        &self,
        each: &mut dyn FnMut(&[u8], &Ref) -> pefc::Result<()>,
    ) -> pefc::Result<pefc::storage::Token> {
        self.inner.snapshot(each)
    }
    fn token(&self) -> pefc::Result<pefc::storage::Token> {
        self.inner.token()
    }
}

fn slow(dir: &Path) -> Arc<Slow> {
    Arc::new(Slow { inner: file(dir), reads: AtomicU64::new(0), between: Mutex::new(None) })
}

#[test]
fn threads_that_miss_together_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let below = slow(dir.path());
    Storage::shared("below", below.clone()).store("k", b"v").unwrap();
    let waiting = Arc::new(std::sync::Barrier::new(8));
    *below.between.lock().unwrap() =
        Some(Box::new(|| std::thread::sleep(std::time::Duration::from_millis(50))));
    let backend = Arc::new(CacheBackend::over(below.clone(), CacheOptions::default()));
    let storage = Storage::shared("c", backend.clone());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                waiting.wait();
                assert_eq!(storage.retrieve("k").unwrap().unwrap(), b"v");
            });
        }
    });
    assert_eq!(below.reads.load(Ordering::SeqCst), 1);
    let stats = backend.stats();
    assert_eq!((stats.load_count, stats.hit_count + stats.miss_count), (1, 8));
    assert_eq!(storage.retrieve("absent").unwrap(), None);
    assert_eq!(storage.retrieve("absent").unwrap(), None);
    assert_eq!(below.reads.load(Ordering::SeqCst), 3, "what is not there is asked for again");
}

#[test]
fn a_read_that_began_before_a_write_does_not_bring_the_old_value_back() {
    let dir = tempfile::tempdir().unwrap();
    let below = slow(dir.path());
    let backend = Arc::new(CacheBackend::over(below.clone(), CacheOptions::default()));
    let storage = Storage::shared("c", backend.clone());
    for (round, deletes) in [false, true].into_iter().enumerate() {
        storage.store("k", format!("old {round}").as_bytes()).unwrap();
        backend.clear();
        let writer = storage.clone();
        *below.between.lock().unwrap() = Some(Box::new(move || {
            if deletes {
                writer.delete("k").unwrap();
            } else {
                writer.store("k", b"new").unwrap();
            }
        }));
        let old = storage.retrieve("k").unwrap().unwrap();
        assert_eq!(old, format!("old {round}").as_bytes(), "it began before");
        let now = storage.retrieve("k").unwrap();
        assert_eq!(now.as_deref(), if deletes { None } else { Some(&b"new"[..]) });
    }
}

#[test]
fn a_cache_reads_again_what_is_too_old_and_writes_through() {
    let dir = tempfile::tempdir().unwrap();
    let below = slow(dir.path());
    let direct = Storage::shared("below", below.clone());
    let (options, clock) = timed(10);
    let storage = Storage::new("c", CacheBackend::over(below.clone(), options));
    storage.store("k", b"1").unwrap();
    assert_eq!(storage.retrieve("k").unwrap().unwrap(), b"1");
    assert_eq!(below.reads.load(Ordering::SeqCst), 0, "what was written is kept");
    assert_eq!(direct.retrieve("k").unwrap().unwrap(), b"1");
    direct.store("k", b"2").unwrap();
    assert_eq!(storage.retrieve("k").unwrap().unwrap(), b"1", "another process: within the TTL");
    assert_eq!(storage.stat("k").unwrap().unwrap().name, Hash::of(b"2"), "but what it stands for");
    let conflict = storage.store_if("k", b"3", Expect::Is(Hash::of(b"1")));
    assert_eq!(kind(conflict), ErrorKind::RefConflict);
    assert_eq!(storage.retrieve("k").unwrap().unwrap(), b"2", "a conflict forgets");
    direct.store("k", b"4").unwrap();
    clock.0.store(1_010, Ordering::SeqCst);
    assert_eq!(storage.retrieve("k").unwrap().unwrap(), b"4");
}

/// The power goes off at every call of a pack storage's batch, on a simulated disk.
#[test]
fn a_crash_at_any_call_leaves_a_pack_storage_between_two_batches() {
    let open = |fs: &SimFs| {
        let options =
            PackBackendOptions { machine: fs.machine(), wait_ms: 5, ..Default::default() };
        PackBackend::open("packs", options).map(|backend| Storage::new("p", backend))
    };
    let base = SimFs::new(5);
    open(&base).unwrap().store("a", b"0").unwrap();
    let run = |fs: &SimFs| -> usize {
        let Ok(storage) = open(fs) else { return 0 };
        for round in 1..=6_u8 {
            let mut batch = storage.batch().unwrap();
            batch.store("a", &[b'0' + round]).unwrap();
            batch.store("b", &[b'0' + round; 700]).unwrap();
            if batch.commit().is_err() {
                return usize::from(round) - 1;
            }
        }
        6
    };
    let dry = base.fork();
    let begin = dry.call_count();
    assert_eq!(run(&dry), 6);
    let mut disks = 0;
    for call in begin..=dry.call_count() {
        let fs = base.fork();
        fs.fail_at(call, Fault::Crash);
        let acknowledged = run(&fs);
        let plan = CrashPlan { seed: call, exhaustive: 6, samples: 20, stale_blocks: false };
        for disk in fs.crash_states(plan).chain([fs.fork()]) {
            disks += 1;
            let storage = open(&disk).unwrap();
            let a = storage.retrieve("a").unwrap().unwrap();
            let b = storage.retrieve("b").unwrap();
            let round = usize::from(a[0] - b'0');
            assert!((acknowledged..=acknowledged + 1).contains(&round), "call {call}: {round}");
            assert_eq!(b, (round > 0).then(|| vec![a[0]; 700]), "call {call}");
            storage.store("c", b"goes on").unwrap();
        }
    }
    assert!(disks > 60, "{disks}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn storages_do_what_a_map_does(
        batches in proptest::collection::vec(
            proptest::collection::vec(
                (proptest::collection::vec(0x60u8..0x63, 1..4), any::<Option<u16>>()), 1..6),
            1..10),
        prefix in proptest::collection::vec(0x60u8..0x63, 0..2),
    ) {
        for (storage, _dir) in storages() {
            let mut model = BTreeMap::new();
            for changes in &batches {
                let mut batch = storage.batch().unwrap();
                for (key, value) in changes {
                    match value {
                        Some(value) => {
                            let content = value.to_le_bytes().repeat(usize::from(*value % 50));
                            batch.store(key, &content).unwrap();
                            model.insert(key.clone(), content);
                        }
                        None => {
                            batch.delete(key).unwrap();
                            model.remove(key);
                        }
                    }
                }
                batch.commit().unwrap();
                for (key, _) in changes {
                    prop_assert_eq!(&storage.retrieve(key).unwrap(), &model.get(key).cloned(), "{}", storage.name());
                }
            }
            let wanted: Vec<_> = model.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
            prop_assert_eq!(keys(&storage, &prefix), wanted, "{}", storage.name());
            for (key, value) in storage.scan(b"").collect::<Result<Vec<_>, _>>().unwrap() {
                prop_assert_eq!(value.name, Hash::of(&model[&key]));
                prop_assert_eq!(value.size_bytes, model[&key].len() as u64);
            }
        }
    }
}
