//! Refs: one contract for every store, hostile keys, races, power cuts, damage.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::sim_fs::{CrashPlan, Fault, SimFs};
use pefc::refs::{Change, Expect, FileRefs, FileRefsOptions, Ref, RefStore, To};
use pefc::{ErrorKind, Hash};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

#[cfg(feature = "sqlite")]
#[path = "refs/sqlite.rs"]
mod sqlite;

/// A new store of every kind, and what must live as long.
fn stores() -> Vec<(&'static str, Arc<dyn RefStore>, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let file = FileRefs::open(dir.path().join("deep/refs"), FileRefsOptions::default()).unwrap();
    let sim = sim_refs(&SimFs::new(1)).unwrap();
    #[allow(unused_mut, reason = "without the feature nothing is added")]
    let mut all: Vec<(_, Arc<dyn RefStore>, _)> =
        vec![("file", Arc::new(file), Some(dir)), ("simulated", Arc::new(sim), None)];
    #[cfg(feature = "sqlite")]
    {
        let dir = tempfile::tempdir().unwrap();
        let refs = sqlite::open(&dir.path().join("deep/refs.db")).unwrap();
        all.push(("sqlite", Arc::new(refs), Some(dir)));
    }
    all
}

fn sim_refs(fs: &SimFs) -> pefc::Result<FileRefs> {
    FileRefs::open("refs", FileRefsOptions { machine: fs.machine(), ..Default::default() })
}

fn set(key: &[u8], content: &[u8]) -> Change {
    Change::set(key, Hash::of(content), content.len() as u64)
}

fn all(refs: &dyn RefStore) -> Vec<(Vec<u8>, Hash)> {
    refs.scan(b"", None).map(|found| found.map(|(key, value)| (key, value.name)).unwrap()).collect()
}

fn hostile_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        "a",
        "a/b",
        "a-b",
        "a.b",
        "a0",
        "a+",
        "a+/b",
        "a/",
        "a//b",
        "/",
        "//",
        "/etc/passwd",
        "..",
        "../x",
        "../../x",
        ".",
        "a/../b",
        "%",
        "_",
        "*",
        "[",
        "%41",
        "%2F",
        "a%",
        "a_",
        "lock",
        "journal",
        "token",
        "REFS",
        "keys",
        "tmp/staged",
        "con",
        "A",
        "é",
        "e\u{301}",
        " ",
        "a b",
        "a\nb",
        "'; DROP TABLE refs; --",
        "\u{1b}[31m",
    ]
    .iter()
    .map(|key| key.as_bytes().to_vec())
    .collect();
    keys.extend([b"\0".to_vec(), b"a\0b".to_vec(), vec![0xff], vec![0xff; 4096], vec![b'x'; 255]]);
    keys.extend([vec![b'x'; 256], vec![b'/'; 4096], b"ab/".repeat(1365), vec![0; 4096]]);
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn a_ref_is_set_read_and_deleted_and_keeps_its_birth() {
    for (name, refs, _dir) in stores() {
        assert_eq!(refs.get(b"k").unwrap(), None, "{name}");
        assert_eq!(refs.apply(&[set(b"k", b"one")]).unwrap(), [None]);
        let first = refs.get(b"k").unwrap().unwrap();
        assert_eq!((first.name, first.size_bytes), (Hash::of(b"one"), 3));
        assert_eq!(refs.apply(&[set(b"k", b"longer")]).unwrap(), [Some(first)]);
        let second = refs.get(b"k").unwrap().unwrap();
        assert_eq!(second.created_ns, first.created_ns, "{name}");
        assert!(second.updated_ns >= first.updated_ns);
        assert_eq!(refs.apply(&[Change::delete("k")]).unwrap(), [Some(second)]);
        assert_eq!(refs.apply(&[Change::delete("k")]).unwrap(), [None]);
        assert_eq!(refs.get(b"k").unwrap(), None);
        let old = Ref { name: Hash::of(b""), size_bytes: 0, created_ns: -5, updated_ns: i64::MAX };
        let restore = Change { key: b"k".to_vec(), expect: Expect::Absent, to: To::Restore(old) };
        refs.apply(&[restore]).unwrap();
        assert_eq!(refs.get(b"k").unwrap(), Some(old), "{name}");
    }
}

#[test]
fn any_bytes_are_a_key_but_none_and_too_many() {
    for (name, refs, _dir) in stores() {
        let keys = hostile_keys();
        for (at, key) in keys.iter().enumerate() {
            let change =
                if at % 2 == 0 { vec![set(key, key)] } else { vec![set(key, key), set(key, key)] };
            refs.apply(&change).unwrap();
        }
        for key in &keys {
            let found = refs.get(key).unwrap().unwrap_or_else(|| panic!("{name}: {key:?}"));
            assert_eq!(found.name, Hash::of(key), "{name}: {key:?}");
        }
        let found: Vec<Vec<u8>> = all(&*refs).into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, keys, "{name}: in order");
        for prefix in keys.iter().map(|key| &key[..key.len().min(3)]).chain([&b""[..], b"zz"]) {
            let wanted: Vec<_> =
                keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
            let listed: Vec<_> = refs.keys(prefix, None).collect::<Result<_, _>>().unwrap();
            assert_eq!(listed, wanted, "{name}: under {prefix:?}");
            let after = wanted.get(wanted.len() / 2).map(Vec::as_slice);
            let rest: Vec<_> = refs.keys(prefix, after).collect::<Result<_, _>>().unwrap();
            assert_eq!(
                rest,
                wanted[wanted.len().min(wanted.len() / 2 + 1)..],
                "{name}: {prefix:?}"
            );
        }
        for key in [&b""[..], &[b'k'; 4097]] {
            let kind = |result: pefc::Result<()>| result.unwrap_err().kind();
            assert_eq!(kind(refs.get(key).map(drop)), ErrorKind::InvalidKey, "{name}");
            assert_eq!(
                kind(refs.apply(&[set(b"z", b"z"), set(key, b"")]).map(drop)),
                ErrorKind::InvalidKey
            );
        }
        assert_eq!(refs.get(b"z").unwrap(), None, "{name}: nothing of a refused batch");
        let gone: Vec<Change> = keys.iter().map(|key| Change::delete(key.as_slice())).collect();
        assert!(refs.apply(&gone).unwrap().iter().all(Option::is_some));
        assert_eq!(all(&*refs), []);
    }
}

#[test]
fn a_batch_is_all_or_nothing() {
    for (name, refs, _dir) in stores() {
        refs.apply(&[set(b"a", b"1"), set(b"b", b"1")]).unwrap();
        let is = |content: &[u8]| Expect::Is(Hash::of(content));
        for bad in [
            set(b"a", b"9").expecting(Expect::Absent),
            set(b"c", b"9").expecting(Expect::Present),
            Change::delete("c").expecting(is(b"1")),
            set(b"b", b"9").expecting(is(b"2")),
        ] {
            let error = refs.apply(&[set(b"a", b"2"), Change::delete("b"), set(b"b", b"2"), bad]);
            // Each change of a batch sees those before it.
            let text = match error {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::RefConflict, "{name}");
                    assert_eq!(error.kind().exit_code(), 13);
                    error.to_string()
                }
                Ok(_) => {
                    refs.apply(&[set(b"a", b"1"), set(b"b", b"1")]).unwrap();
                    continue;
                }
            };
            assert!(text.contains("nothing was changed"), "{text}");
            let expected = [(b"a".to_vec(), Hash::of(b"1")), (b"b".to_vec(), Hash::of(b"1"))];
            assert_eq!(all(&*refs), expected, "{name}: {text}");
        }
        let swap =
            [set(b"a", b"x").expecting(is(b"1")), set(b"b", b"y").expecting(Expect::Present)];
        refs.apply(&swap).unwrap();
        assert_eq!(all(&*refs), [(b"a".to_vec(), Hash::of(b"x")), (b"b".to_vec(), Hash::of(b"y"))]);
        assert_eq!(refs.apply(&[]).unwrap(), []);
    }
}

#[test]
fn a_token_stays_while_nothing_changes_and_changes_with_everything() {
    for (name, refs, _dir) in stores() {
        let mut seen = vec![refs.token().unwrap()];
        for change in [set(b"a", b"1"), set(b"a", b"2"), set(b"b", b"1"), Change::delete("a")] {
            assert_eq!(refs.token().unwrap(), seen[seen.len() - 1], "{name}");
            refs.apply(&[change]).unwrap();
            refs.apply(&[set(b"c", b"1"), set(b"d", b"1")]).unwrap();
            let token = refs.token().unwrap();
            assert!(!seen.contains(&token), "{name}");
            seen.push(token);
        }
        let refused = refs.apply(&[set(b"b", b"9").expecting(Expect::Absent)]);
        assert!(refused.is_err());
        refs.apply(&[Change::delete("not there")]).unwrap();
        assert_eq!(refs.token().unwrap(), seen[4], "{name}: nothing was changed");
        let mut keys = Vec::new();
        let token = refs.snapshot(&mut |key, _| {
            keys.push(key.to_vec());
            Ok(())
        });
        assert_eq!(
            (token.unwrap(), keys),
            (seen[4].clone(), vec![b"b".to_vec(), b"c".to_vec(), b"d".to_vec()])
        );
    }
}

#[test]
fn threads_that_swap_the_same_key_lose_no_update() {
    for (name, refs, _dir) in stores() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| count_up(&*refs, 25));
            }
        });
        assert_eq!(refs.get(b"counter").unwrap().unwrap().size_bytes, 100, "{name}");
    }
}

/// Adds to a counter, held in the size of a ref, by compare-and-swap.
fn count_up(refs: &dyn RefStore, times: u64) {
    for _ in 0..times {
        loop {
            let (expect, count) = match refs.get(b"counter").unwrap() {
                Some(found) => (Expect::Is(found.name), found.size_bytes),
                None => (Expect::Absent, 0),
            };
            let next = Hash::of(&(count + 1).to_le_bytes());
            match refs.apply(&[Change::set("counter", next, count + 1).expecting(expect)]) {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::RefConflict => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Not a test by itself: what the processes of the next one do.
#[test]
fn child_process() {
    let Ok(dir) = std::env::var("PEFC_TEST_REFS") else {
        return;
    };
    count_up(
        &FileRefs::open(Path::new(&dir).join("refs"), FileRefsOptions::default()).unwrap(),
        30,
    );
    #[cfg(feature = "sqlite")]
    count_up(&sqlite::open(&Path::new(&dir).join("refs.db")).unwrap(), 30);
}

#[test]
fn processes_that_swap_the_same_key_lose_no_update() {
    let dir = tempfile::tempdir().unwrap();
    let spawn = |_| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process"])
            .env("PEFC_TEST_REFS", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..4).map(spawn).collect();
    assert!(children.into_iter().all(|mut child| child.wait().unwrap().success()));
    let refs = FileRefs::open(dir.path().join("refs"), FileRefsOptions::default()).unwrap();
    assert_eq!(refs.get(b"counter").unwrap().unwrap().size_bytes, 120);
    #[cfg(feature = "sqlite")]
    {
        let refs = sqlite::open(&dir.path().join("refs.db")).unwrap();
        assert_eq!(refs.get(b"counter").unwrap().unwrap().size_bytes, 120);
    }
}

#[test]
fn a_person_can_read_a_ref() {
    let dir = tempfile::tempdir().unwrap();
    let refs = FileRefs::open(dir.path(), FileRefsOptions::default()).unwrap();
    refs.apply(&[set(b"proofs/php 10", b"qed")]).unwrap();
    let text = std::fs::read_to_string(dir.path().join("keys/proofs+/php%2010")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["pefc ref v1", "key proofs/php%2010"]);
    assert_eq!(lines[2], format!("b3 {}", Hash::of(b"qed")));
    assert_eq!(lines[3], "size 3");
}

#[test]
fn a_writer_waits_for_another_one_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let options = FileRefsOptions { wait_ms: 20, ..Default::default() };
    let refs = FileRefs::open(dir.path(), options).unwrap();
    refs.apply(&[set(b"a", b"1")]).unwrap();
    let held = std::fs::File::open(dir.path().join("lock")).unwrap();
    held.lock().unwrap();
    let error = refs.apply(&[set(b"a", b"2")]).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Locked, 11), "{error}");
    assert_eq!(refs.get(b"a").unwrap().unwrap().name, Hash::of(b"1"), "readers do not wait");
    held.unlock().unwrap();
    refs.apply(&[set(b"a", b"2")]).unwrap();
}

#[test]
fn what_is_not_ours_or_damaged_or_later_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let open = || FileRefs::open(dir.path(), FileRefsOptions::default());
    let refs = open().unwrap();
    refs.apply(&[set(b"a", b"1"), set(b"b", b"2"), set(b"c", b"3")]).unwrap();
    let file = |name: &str| dir.path().join("keys").join(name);

    let good = std::fs::read(file("a")).unwrap();
    let mut bad = good.clone();
    bad[30] ^= 1;
    std::fs::write(file("a"), bad).unwrap();
    assert_eq!(refs.get(b"a").unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(refs.scan(b"", None).filter(Result::is_err).count(), 1, "ends at the first error");
    assert!(refs.get(b"b").unwrap().is_some());

    // The ref of another key, whole in itself.
    std::fs::copy(file("b"), file("a")).unwrap();
    let error = refs.get(b"a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("the key \"b\""), "{error}");
    std::fs::write(file("a"), &good).unwrap();

    // A key must not vanish because its name was damaged: what it names would be collected.
    std::fs::rename(file("c"), file("c~")).unwrap();
    assert!(refs.scan(b"", None).any(|found| found.is_err()));
    std::fs::rename(file("c~"), file("c")).unwrap();
    std::fs::write(file(".nfs0001"), b"").unwrap();
    assert_eq!(all(&refs).len(), 3);

    std::fs::write(dir.path().join("journal"), b"torn").unwrap();
    assert_eq!(refs.get(b"a").unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(refs.apply(&[set(b"a", b"2")]).unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(dir.path().join("journal")).unwrap();

    std::fs::write(dir.path().join("REFS"), b"pefc refs v2\n").unwrap();
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Unsupported);
    std::fs::write(dir.path().join("REFS"), b"something else").unwrap();
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_unwritable_path_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let result = FileRefs::open(dir.path().join("file/refs"), FileRefsOptions::default());
    let error = result.unwrap_err();
    assert!(error.to_string().contains("creating the directory"), "{error}");
    let proc = FileRefs::open("/proc/pefc", FileRefsOptions::default());
    assert!(matches!(proc.unwrap_err().kind(), ErrorKind::NotFound | ErrorKind::ReadOnly));
}

#[test]
fn a_read_only_medium_is_told_and_can_be_read() {
    const EROFS: Fault = Fault::Errno { raw: 30, persistent: true };
    let fs = SimFs::new(1);
    sim_refs(&fs).unwrap().apply(&[set(b"a", b"1")]).unwrap();
    fs.fail_at(fs.call_count(), EROFS);
    let refs = sim_refs(&fs).unwrap();
    let error = refs.apply(&[set(b"a", b"2")]).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::ReadOnly, 32), "{error}");
    assert_eq!(all(&refs), [(b"a".to_vec(), Hash::of(b"1"))]);
    let empty = SimFs::new(2);
    empty.fail_at(0, EROFS);
    assert_eq!(sim_refs(&empty).unwrap_err().kind(), ErrorKind::ReadOnly);
}

/// What a key stands for after each step: outside of the simulated disk.
type Model = BTreeMap<Vec<u8>, Hash>;

fn crash_steps() -> Vec<Vec<Change>> {
    let long = vec![b'l'; 300];
    vec![
        vec![set(b"a", b"1")],
        vec![set(b"dir/b", b"2"), set(&long, b"3"), set(b"a", b"4")],
        vec![Change::delete("a")],
        vec![set(b"a", b"5"), Change::delete("dir/b"), set(b"dir/c", b"6")],
        vec![set(b"dir/c", b"7")],
    ]
}

fn advance(model: &mut Model, step: &[Change]) {
    for change in step {
        match change.to {
            To::Set { name, .. } => model.insert(change.key.clone(), name),
            _ => model.remove(&change.key),
        };
    }
}

fn model_of(refs: &dyn RefStore) -> Model {
    let scanned: Model = all(refs).into_iter().collect();
    for key in [&b"a"[..], b"dir/b", b"dir/c", &[b'l'; 300]] {
        let one = refs.get(key).unwrap().map(|found| found.name);
        assert_eq!(one.as_ref(), scanned.get(key), "get and scan agree on {key:?}");
    }
    scanned
}

/// The power goes off at every call. Every disk that may be left holds what was acknowledged, or
/// that and the whole step under way; so it does after a second crash in the recovery.
#[test]
fn a_crash_at_any_call_leaves_a_state_between_two_changes() {
    let steps = crash_steps();
    let base = SimFs::new(7);
    let token = sim_refs(&base).unwrap().token().unwrap();
    let run = |fs: &SimFs, model: &mut Model| -> (usize, bool) {
        let Ok(refs) = sim_refs(fs) else { return (0, false) };
        for (done, step) in steps.iter().enumerate() {
            if refs.apply(step).is_err() {
                return (done, false);
            }
            advance(model, step);
        }
        (steps.len(), true)
    };
    let dry = base.fork();
    let before = dry.call_count();
    assert!(run(&dry, &mut Model::new()).1);
    let mut disks = 0;
    for call in before..=dry.call_count() {
        let fs = base.fork();
        fs.fail_at(call, Fault::Crash);
        let mut acknowledged = Model::new();
        let (done, _) = run(&fs, &mut acknowledged);
        let mut next = acknowledged.clone();
        if let Some(step) = steps.get(done) {
            advance(&mut next, step);
        }
        let plan =
            CrashPlan { seed: call, exhaustive: 7, samples: 40, stale_blocks: call % 2 == 0 };
        // Last, the process is killed and the machine goes on with what was not synced.
        let states = fs.crash_states(plan).map(|disk| (disk, true)).chain([(fs.fork(), false)]);
        for (disk, durable) in states {
            disks += 1;
            let context = format!("call {call} of step {done}: {:?}", fs.trace().last());
            let found = model_of(&sim_refs(&disk).unwrap());
            assert!(found == acknowledged || found == next, "{context}: {found:?}");
            if !found.is_empty() {
                let now = sim_refs(&disk.fork()).unwrap().token().unwrap();
                assert_ne!(now, token, "{context}: something was changed since");
            }
            let least = if durable { &found } else { &acknowledged };
            recover_and_crash_again(&disk, &found, least, (call, durable), &context);
        }
    }
    assert!(disks > 1000, "{disks}");
}

/// `found` is what the disk shows, `least` what it must still hold after another crash.
fn recover_and_crash_again(
    disk: &SimFs,
    found: &Model,
    least: &Model,
    (seed, durable): (u64, bool),
    context: &str,
) {
    let change = [set(b"after", b"crash")];
    let mut after = found.clone();
    advance(&mut after, &change);
    let dry = disk.fork();
    let begin = dry.call_count();
    sim_refs(&dry).unwrap().apply(&change).unwrap();
    assert_eq!(model_of(&sim_refs(&dry).unwrap()), after, "{context}, recovered");
    let calls = begin..dry.call_count();
    // Where a process died there is more to make good: every call is tried.
    let one = calls.start + seed % (calls.end - calls.start).max(1);
    let calls = if durable { one..one + 1 } else { calls };
    for call in calls {
        let again = disk.fork();
        again.fail_at(call, Fault::Crash);
        let acknowledged = sim_refs(&again).and_then(|refs| refs.apply(&change)).is_ok();
        let plan = CrashPlan { seed, exhaustive: 5, samples: 12, stale_blocks: false };
        for second in again.crash_states(plan) {
            let now = model_of(&sim_refs(&second).unwrap());
            let before = !acknowledged && (now == *found || now == *least);
            assert!(now == after || before, "{context}, twice: {now:?}");
        }
    }
}

#[test]
fn a_full_disk_or_a_failed_sync_is_told_and_loses_nothing() {
    let base = SimFs::new(3);
    sim_refs(&base).unwrap().apply(&[set(b"a", b"1"), set(b"b", b"1")]).unwrap();
    let dry = base.fork();
    let begin = dry.call_count();
    let change = [set(b"a", b"2"), set(b"b", b"2")];
    sim_refs(&dry).unwrap().apply(&change).unwrap();
    for raw in [common::sim_fs::EIO, common::sim_fs::ENOSPC] {
        for call in begin..dry.call_count() {
            let fs = base.fork();
            fs.fail_at(call, Fault::Errno { raw, persistent: false });
            let refs = sim_refs(&fs).unwrap();
            let result = refs.apply(&change);
            let (a, b) =
                (refs.get(b"a").unwrap().unwrap().name, refs.get(b"b").unwrap().unwrap().name);
            assert_eq!(a, b, "call {call}");
            match result {
                Ok(_) => assert_eq!(a, Hash::of(b"2"), "call {call}"),
                Err(error) if error.kind() == ErrorKind::Durability => {
                    let again = refs.apply(&change).unwrap_err();
                    assert_eq!(again.kind(), ErrorKind::Durability, "no trying again");
                }
                Err(error) => {
                    assert_eq!(a, Hash::of(b"1"), "call {call}: {error}");
                    refs.apply(&change).unwrap();
                }
            }
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'/'), Just(b'a'), Just(b'.'), Just(b'%'), Just(0xff), any::<u8>()];
    prop_oneof![
        4 => proptest::collection::vec(byte, 1..5),
        1 => Just(b"a/b/c".to_vec()),
        1 => (255usize..260).prop_map(|len| vec![b'x'; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn stores_do_what_a_map_does(
        batches in proptest::collection::vec(
            proptest::collection::vec((key(), any::<Option<u8>>(), 0u8..4), 1..5), 1..12),
        prefix in proptest::collection::vec(any::<u8>(), 0..2),
    ) {
        for (name, refs, _dir) in stores() {
            if name == "file" { continue } // the simulated disk runs the same code, and faster
            let mut model = Model::new();
            for batch in &batches {
                let changes: Vec<Change> = batch.iter().map(|(key, value, expect)| {
                    let change = match value {
                        Some(value) => set(key, &[*value]),
                        None => Change::delete(key.as_slice()),
                    };
                    change.expecting(match expect {
                        0 | 1 => Expect::Any,
                        2 => Expect::Present,
                        _ => Expect::Absent,
                    })
                }).collect();
                let mut next = model.clone();
                let expected = changes.iter().all(|change| {
                    let there = next.contains_key(&change.key);
                    advance(&mut next, std::slice::from_ref(change));
                    match change.expect {
                        Expect::Present => there,
                        Expect::Absent => !there,
                        _ => true,
                    }
                });
                prop_assert_eq!(refs.apply(&changes).is_ok(), expected, "{}", name);
                if expected { model = next; }
            }
            let expected: Vec<_> = model.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, _)| key.clone()).collect();
            let found: Vec<_> = refs.keys(&prefix, None).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(found, expected, "{}", name);
            prop_assert_eq!(all(&*refs), model.into_iter().collect::<Vec<_>>(), "{}", name);
        }
    }
}
