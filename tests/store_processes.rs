//! Real processes on one store: writers that are killed at any moment, beside a collector.
//!
//! The test starts itself again as each of them. A writer keeps its refs in a file of its own, one
//! line for each change, written only after the commit and before the session ends; a line that was
//! read back by its writer's successor is a ref. The collector takes its roots from those files. At
//! the end, and all the time for its own, every ref names content that is there, byte for byte.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::noise;
use common::sim_fs::SplitMix64;
use pefc::store::{CollectOptions, ContentStore, Root, StoreOptions};
use pefc::{ErrorKind, Hash};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WRITERS: u64 = 8;
/// Contents that all writers choose from, so that they meet.
const CONTENTS: u64 = 300;

const ROLE: &str = "PEFC_STORE_TEST_ROLE";
const DIR: &str = "PEFC_STORE_TEST_DIR";

fn open(dir: &Path) -> ContentStore {
    let options =
        StoreOptions { threads: 1, segment_bytes_max: 200_000, ..StoreOptions::default() };
    ContentStore::open(dir.join("content"), options).unwrap()
}

fn refs_path(dir: &Path, writer: u64) -> PathBuf {
    dir.join(format!("refs-{writer}"))
}

fn content(number: u64) -> Vec<u8> {
    noise(number, 200 + (number as usize * 37) % 3000)
}

/// The contents that a writer's refs name: of each slot the last line counts. A line without its end
/// was never written.
fn read_refs(path: &Path) -> BTreeMap<u64, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut refs = BTreeMap::new();
    for line in whole.lines() {
        let mut fields = line.split(' ').map(|field| field.parse::<u64>().unwrap());
        let slot = fields.next().unwrap();
        match fields.next() {
            Some(number) => drop(refs.insert(slot, number)),
            None => drop(refs.remove(&slot)),
        }
    }
    refs
}

/// Puts, keeps and forgets until it is killed.
fn write_for_ever(dir: &Path, writer: u64) {
    let store = open(dir);
    let path = refs_path(dir, writer);
    let mut refs = read_refs(&path);
    let whole: u64 = fs::read(&path).map_or(0, |bytes| {
        bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1)
    });
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    file.set_len(whole).unwrap();
    let mut rng = SplitMix64(u64::from(std::process::id()) << 8 | writer);
    loop {
        let mut lines = String::new();
        let mut session = store.begin().unwrap();
        for _ in 0..1 + rng.below(6) {
            let (slot, number) = (rng.below(12) as u64, rng.below(CONTENTS as usize) as u64);
            let name = Hash::of(&content(number));
            match rng.below(4) {
                0 => {
                    refs.remove(&slot);
                    lines.push_str(&format!("{slot}\n"));
                    continue;
                }
                1 if session.keep(&name).unwrap() => {}
                _ => assert_eq!(session.put(&content(number)).unwrap(), name),
            }
            refs.insert(slot, number);
            lines.push_str(&format!("{slot} {number}\n"));
        }
        session.commit().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        session.end().unwrap();
        for number in refs.values().take(3) {
            let content = content(*number);
            let found = store.get(&Hash::of(&content)).unwrap();
            assert!(found.as_ref() == Some(&content), "writer {writer} lost content {number}");
        }
    }
}

fn live(dir: &Path) -> Vec<Hash> {
    let numbers = (0..WRITERS).flat_map(|writer| read_refs(&refs_path(dir, writer)).into_values());
    numbers.map(|number| Hash::of(&content(number))).collect()
}

fn collect(dir: &Path, store: &ContentStore) -> Option<pefc::store::CollectReport> {
    let options = CollectOptions { dead_percent: 10, overhead_bytes: 2000, dry_run: false };
    let mark = &mut |_: &Root, each: &mut dyn FnMut(Hash)| {
        live(dir).into_iter().for_each(each);
        Ok(())
    };
    let mut patience = 400;
    let wait = &mut |_| {
        std::thread::sleep(Duration::from_millis(1));
        patience -= 1;
        patience > 0
    };
    match store.collect(&options, mark, wait) {
        Ok(report) => {
            assert!(report.missing.is_empty(), "dangling refs: {:?}", report.missing);
            assert!(report.damaged.is_empty(), "damaged: {:?}", report.damaged);
            Some(report)
        }
        Err(error) if error.kind() == ErrorKind::Locked => None,
        Err(error) => panic!("collecting: {error}"),
    }
}

fn start(dir: &Path, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "started by the other test, as a process of its own"]
fn child() {
    let (Ok(role), Some(dir)) = (std::env::var(ROLE), std::env::var_os(DIR)) else {
        return;
    };
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "collector" => {
            let store = open(&dir);
            loop {
                collect(&dir, &store);
            }
        }
        writer => write_for_ever(&dir, writer.parse().unwrap()),
    }
}

#[test]
fn writers_and_a_collector_that_are_killed_lose_nothing() {
    // In memory where there is such a place: a sync then takes no time, and more happens. What a kill
    // leaves is in the page cache anyway.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = open(dir.path());
    store.register_root(&Root::new("test", "files").unwrap()).unwrap();
    let mut children: Vec<(String, Child)> = (0..WRITERS)
        .map(|writer| writer.to_string())
        .chain(["collector".to_owned()])
        .map(|role| (role.clone(), start(dir.path(), &role)))
        .collect();
    let mut rng = SplitMix64(7);
    let (began, mut kills) = (Instant::now(), 0);
    // For some seconds; how far it gets does not decide about anything.
    while began.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(30 + rng.below(100) as u64));
        let at = rng.below(children.len());
        let (role, child) = &mut children[at];
        assert_eq!(child.try_wait().unwrap(), None, "{role} has failed");
        child.kill().unwrap();
        child.wait().unwrap();
        *child = start(dir.path(), role);
        kills += 1;
    }
    for (role, child) in &mut children {
        assert_eq!(child.try_wait().unwrap(), None, "{role} has failed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let live = live(dir.path());
    assert!(!live.is_empty());
    let problems = store.check(live.iter().map(|name| Ok(*name))).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    // Nobody is left: what was begun is completed, and what is left over goes.
    let epoch = store.stats().unwrap().epoch;
    assert!(epoch > 0, "no collection got as far as to condemn anything");
    for _ in 0..2 {
        let report = collect(dir.path(), &store).unwrap();
        assert_eq!(report.waiting_for, 0);
    }
    let problems = store.check(live.iter().map(|name| Ok(*name))).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert!(store.verify(&pefc::VerifyOptions::default()).unwrap().is_intact());
    let left = fs::read_dir(dir.path().join("content/sessions")).unwrap().count();
    assert_eq!(left, 0, "session files of dead processes");
    println!("{kills} processes killed, {epoch} epochs, {:?}", store.stats().unwrap());
}
