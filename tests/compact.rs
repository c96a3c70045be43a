//! Packs laid out anew: what stays, what goes, and what a crash leaves.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::{self, Keys, PATH, noise, read_all};
use common::sim_fs::{CrashPlan, Fault, SimFs};
use pefc::disk::{File, Machine, RealFs, Vfs};
use pefc::format::entry::SPACE_SYSTEM;
use pefc::format::frame::FrameKind;
use pefc::format::segment::Layout;
use pefc::{
    CompactOptions, CompactReport, ErrorKind, Generation, Hash, Key, Pack, WriteOptions, Writer,
    compact,
};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn record(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fields = (0..12).map(|field| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("\"field{field}\":\"value {}\"", state >> 48)
    });
    format!("{{\"id\":{seed},{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes()
}

fn records() -> WriteOptions {
    WriteOptions { threads: 1, layout: Layout::Records, ..WriteOptions::default() }
}

/// Commits, seals, overwritten and deleted keys, a content that no entry names, a large one.
fn write_records(path: &Path, options: &WriteOptions, count: u64) {
    let mut writer = Writer::create(path, options.clone()).unwrap();
    for i in 0..count {
        writer
            .put(Key::storage(format!("k/{:04}", i * 7 % count).into_bytes()), &record(i))
            .unwrap();
        if i % 50 == 49 {
            writer.commit().unwrap();
        }
    }
    writer.put("nobody", &noise(1, 3000)).unwrap();
    writer.delete("nobody").unwrap();
    writer.seal().unwrap();
    for i in 0..count / 4 {
        writer.put(Key::storage(format!("k/{i:04}").into_bytes()), &record(i + 100_000)).unwrap();
    }
    writer.delete(Key::storage(b"k/0001".as_slice())).unwrap();
    writer.put("large", &noise(2, 3_000_000)).unwrap();
    writer.put(Key::system(b"@att/x".as_slice()), b"statement").unwrap();
    writer.finish().unwrap();
    let mut writer = Writer::append(path, options.clone()).unwrap();
    writer.put("after", b"the last seal").unwrap();
    writer.commit().unwrap();
}

/// What must stay: the log, and what each generation holds, the newest first.
#[derive(Debug, PartialEq)]
struct Logical {
    log_size: u64,
    frontier: Vec<[u8; 32]>,
    now: Keys,
    generations: Vec<(Generation, Keys)>,
}

fn logical(path: &Path) -> Logical {
    let pack = Pack::open(path).unwrap();
    assert!(pack.verify(&Default::default()).unwrap().is_intact());
    let generations = pack.generations().unwrap().into_iter().map(|generation| {
        let held = read_all(&pack.at_generation(generation.number).unwrap()).unwrap();
        (Generation { end: 0, ..generation }, held)
    });
    Logical {
        log_size: pack.commit().log_size,
        frontier: pack.commit().frontier.clone(),
        now: read_all(&pack).unwrap(),
        generations: generations.collect(),
    }
}

fn compacted(path: &Path, options: &CompactOptions) -> CompactReport {
    let report = compact(path, options).unwrap();
    assert_eq!(report.after_bytes, std::fs::metadata(path).unwrap().len());
    report
}

fn sequential() -> CompactOptions {
    let write = WriteOptions { threads: 1, ..WriteOptions::default() };
    CompactOptions { write, ..CompactOptions::default() }
}

#[test]
fn the_log_and_every_generation_stay() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    write_records(&path, &records(), 600);
    let before = logical(&path);
    assert_eq!(before.generations.len(), 2);
    let report = compacted(&path, &sequential());
    assert_eq!(logical(&path), before);
    // The large content does not get smaller.
    assert!(
        report.after_bytes - 3_000_000 < (report.before_bytes - 3_000_000) * 3 / 4,
        "{report:?}"
    );
    // The one that nobody names, and dictionaries.
    assert!(report.dropped_object_count > 1, "{report:?}");
    let pack = Pack::open(&path).unwrap();
    assert!(!pack.contains(&Hash::of(&noise(1, 3000))).unwrap());
    assert!(pack.frames().unwrap().iter().all(|frame| frame.kind != FrameKind::Records));

    // Again: nothing is left to do, and the same bytes come out.
    let once = std::fs::read(&path).unwrap();
    let report = compacted(&path, &sequential());
    assert_eq!((report.dropped_object_count, report.regrouped_object_count), (0, 0), "{report:?}");
    assert!(std::fs::read(&path).unwrap() == once);
    assert_eq!(dir.names(), ["a.pefc"]);

    // And it goes on growing.
    let mut writer = Writer::append(&path, records()).unwrap();
    writer.put(Key::storage(b"k/0002".as_slice()), &record(100_002)).unwrap();
    writer.put("more", b"more").unwrap();
    let stats = writer.finish().unwrap();
    assert_eq!((stats.generation, stats.new_object_count), (3, 1));
    assert_eq!(logical(&path).generations[1..], before.generations[..]);
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let dir = Dir::new();
    let (one, four) = (dir.file("one.pefc"), dir.file("four.pefc"));
    write_records(&one, &WriteOptions { origin: "example.org/log".into(), ..records() }, 300);
    std::fs::copy(&one, &four).unwrap();
    for rebase in [false, true] {
        compacted(&one, &CompactOptions { rebase, ..sequential() });
        let write = WriteOptions { threads: 4, ..WriteOptions::default() };
        compacted(&four, &CompactOptions { write, rebase, ..CompactOptions::default() });
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&four).unwrap());
    }
}

#[test]
fn frames_of_an_archive_are_taken_over() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let options = WriteOptions { threads: 1, ..WriteOptions::default() };
    // Versions of a large text: each is stored after the one before.
    let mut text: Vec<u8> = (0..60_000).flat_map(record).take(4_000_000).collect();
    let mut writer = Writer::create(&path, options.clone()).unwrap();
    for version in 0..4 {
        text[version * 900_000..][..8].fill(version as u8);
        writer.put("text", &text).unwrap();
        writer.put(&format!("small/{version}"), &record(version as u64)).unwrap();
        writer.seal().unwrap();
    }
    writer.finish().unwrap();
    let referring = |path: &Path| {
        let frames = Pack::open(path).unwrap().frames().unwrap();
        frames.iter().filter(|frame| frame.reference_count > 0).count()
    };
    assert!(referring(&path) > 0);
    let (before, count) = (logical(&path), referring(&path));
    let report = compacted(&path, &sequential());
    assert_eq!((logical(&path), referring(&path)), (before, count));
    assert_eq!((report.regrouped_object_count, report.dropped_object_count), (0, 0), "{report:?}");
    assert!(report.copied_frame_count > 4, "{report:?}");
    assert!(report.after_bytes <= report.before_bytes + report.before_bytes / 100, "{report:?}");

    // The newest version alone: it was stored after the older ones, which it needs no longer when
    // nothing of a frame but references to it is left.
    let live = read_all(&Pack::open(&path).unwrap()).unwrap();
    let map_root = logical(&path).generations[0].0.map_root;
    compacted(&path, &CompactOptions { rebase: true, ..sequential() });
    let now = logical(&path);
    assert_eq!(now.now, live);
    assert_eq!(now.generations.len(), 1);
    assert_eq!(now.generations[0].0.map_root, map_root);
}

#[test]
fn a_rebased_log_names_the_one_before() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    write_records(&path, &WriteOptions { origin: "example.org/log".into(), ..records() }, 400);
    let mut writer = Writer::append(&path, records()).unwrap();
    writer.seal().unwrap();
    writer.finish().unwrap();
    let before = logical(&path);
    let report = compacted(&path, &CompactOptions { rebase: true, ..sequential() });
    let after = logical(&path);
    assert_eq!(after.now, before.now);
    let newest = &before.generations[0].0;
    assert_eq!(after.generations[0].0.map_root, newest.map_root);
    assert_eq!(after.log_size, before.now.len() as u64 + 2);
    assert!(report.after_bytes < report.before_bytes, "{report:?}");
    assert!(report.dropped_object_count >= 100, "{report:?}");

    let pack = Pack::open(&path).unwrap();
    let genesis = pack.genesis().unwrap().unwrap();
    assert_eq!(genesis.origin, "");
    let mut expected = vec![0x00, 0x83, 0x6f];
    expected.extend_from_slice(b"example.org/log");
    expected.extend_from_slice(&[0x19]);
    expected.extend([(newest.log_size >> 8) as u8, newest.log_size as u8]);
    expected.extend_from_slice(&[0x58, 0x20]);
    expected.extend_from_slice(&newest.log_root);
    assert_eq!((genesis.params.count, &genesis.params.bytes[..]), (1, &expected[..]));
}

#[test]
fn a_pack_that_is_damaged_or_in_use_is_left_alone() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    write_records(&path, &records(), 100);
    let writer = Writer::append(&path, records()).unwrap();
    assert_eq!(compact(&path, &sequential()).unwrap_err().kind(), ErrorKind::Locked);
    drop(writer);
    let whole = std::fs::read(&path).unwrap();
    let options = CompactOptions { cancel: Some(Arc::new(AtomicBool::new(true))), ..sequential() };
    assert_eq!(compact(&path, &options).unwrap_err().kind(), ErrorKind::Interrupted);
    let mut bad = whole.clone();
    bad[5000] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    assert_eq!(compact(&path, &sequential()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(std::fs::read(&path).unwrap() == bad);
    assert_eq!(dir.names(), ["a.pefc"]);
    let absent = compact(&dir.file("absent"), &sequential());
    assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A file system on which somebody compacts the pack right after a writer has opened it, once.
#[derive(Debug)]
struct Overtaken(AtomicBool);

impl Vfs for Overtaken {
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = RealFs.open_write(path);
        if !self.0.swap(true, Ordering::Relaxed) {
            compacted(path, &sequential());
        }
        file
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFs.open_read(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFs.create_new(path)
    }
    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        RealFs.rename(from, to, replace)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }
    fn list_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealFs.list_dir(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealFs.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.sync_dir(dir)
    }
}

#[test]
fn a_writer_that_waited_does_not_write_to_the_old_file() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    write_records(&path, &records(), 100);
    let vfs = Arc::new(Overtaken(AtomicBool::new(false)));
    let machine = Machine { vfs, ..Machine::real() };
    let mut writer = Writer::append(&path, WriteOptions { machine, ..records() }).unwrap();
    writer.put("new", b"new").unwrap();
    writer.finish().unwrap();
    let pack = Pack::open(&path).unwrap();
    assert_eq!(pack.get("new").unwrap().as_deref(), Some(&b"new"[..]));
}

fn simulated(fs: &SimFs, rebase: bool) -> CompactOptions {
    CompactOptions { write: oracle::options(fs), rebase, cancel: None }
}

fn prepared() -> (SimFs, Keys) {
    let fs = SimFs::new(1);
    let options = WriteOptions { layout: Layout::Records, ..oracle::options(&fs) };
    let mut writer = Writer::create(PATH, options).unwrap();
    for i in 0..12 {
        writer.put(&format!("{i:02}"), &noise(i, 500)).unwrap();
        if i % 4 == 3 {
            writer.seal().unwrap();
        }
    }
    writer.delete("03").unwrap();
    writer.put(Key::new(SPACE_SYSTEM, &b"s"[..]), b"s").unwrap();
    writer.finish().unwrap();
    fs.sync_all();
    let keys = read_all(&oracle::open(&fs).unwrap()).unwrap();
    (fs, keys)
}

#[test]
fn a_crash_at_any_call_leaves_the_old_pack_or_the_new() {
    let mut disks = 0;
    for rebase in [false, true] {
        let (fs, keys) = prepared();
        let dry = fs.fork();
        let before = dry.call_count();
        compact(Path::new(PATH), &simulated(&dry, rebase)).unwrap();
        for call in before..=dry.call_count() {
            let fs = fs.fork();
            fs.fail_at(call, Fault::Crash);
            let result = compact(Path::new(PATH), &simulated(&fs, rebase));
            let plan = CrashPlan { seed: call, exhaustive: 8, samples: 30, stale_blocks: false };
            for disk in fs.crash_states(plan) {
                let pack = oracle::open(&disk).unwrap_or_else(|error| panic!("{call}: {error}"));
                assert_eq!(read_all(&pack).unwrap(), keys, "call {call}");
                assert!(pack.verify(&Default::default()).unwrap().is_intact(), "call {call}");
                disks += 1;
            }
            assert!(call < dry.call_count() || result.is_ok());
        }
    }
    assert!(disks > 150, "only {disks} disks");
}

#[test]
fn a_failing_call_leaves_the_old_pack() {
    let (fs, keys) = prepared();
    let dry = fs.fork();
    let before = dry.call_count();
    compact(Path::new(PATH), &simulated(&dry, false)).unwrap();
    for call in before..dry.call_count() {
        for errno in [rustix::io::Errno::IO, rustix::io::Errno::NOSPC] {
            let fs = fs.fork();
            fs.fail_at(call, Fault::Errno { raw: errno.raw_os_error(), persistent: true });
            let _ = compact(Path::new(PATH), &simulated(&fs, false));
            fs.clear_faults();
            let pack = oracle::open(&fs).unwrap();
            assert_eq!(read_all(&pack).unwrap(), keys, "call {call}");
            assert!(pack.verify(&Default::default()).unwrap().is_intact(), "call {call}");
        }
    }
}
