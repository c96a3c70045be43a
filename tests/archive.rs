//! File trees into packs and out again, on real directories.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

use pefc::archive::{
    AddOptions, AddReport, Change, ChangeKind, ExtractOptions, ExtractProblemKind, ExtractReport,
    NoProgress, Overwrite, Progress, Property, RecordOptions, Side, Source, SourceProblemKind, add,
    diff, extract,
};
use pefc::disk::tree;
use pefc::format::entry::{Attributes, FileKind};
use pefc::{ErrorKind, Pack, WriteOptions, Writer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.path().join(name.as_ref())
    }
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes()).finalize_xof().fill(&mut out);
    out
}

fn write_options(threads: usize) -> WriteOptions {
    // Frames of 1 MiB: two files of 900 kB do not share one.
    WriteOptions { threads, level: 1, frame_bytes: 1 << 20, ..WriteOptions::default() }
}

fn top(path: &Path) -> Source {
    Source::new(path, "")
}

fn create(pack: &Path, source: &Path, threads: usize) -> AddReport {
    let mut writer = Writer::create(pack, write_options(threads)).unwrap();
    let options = AddOptions { threads, ..AddOptions::default() };
    let report = add(&mut writer, &[top(source)], &options, &NoProgress).unwrap();
    writer.finish().unwrap();
    report
}

fn append(pack: &Path, source: &Path, options: &AddOptions<'_>) -> (AddReport, pefc::WriteStats) {
    let mut writer = Writer::append(pack, write_options(2)).unwrap();
    let report = add(&mut writer, &[top(source)], options, &NoProgress).unwrap();
    (report, writer.finish().unwrap())
}

fn privileged() -> ExtractOptions {
    ExtractOptions { restore_owner: is_root(), special_bits: true, ..ExtractOptions::default() }
}

fn unpack(pack: &Path, target: &Path, options: &ExtractOptions) -> ExtractReport {
    extract(&Pack::open(pack).unwrap(), target, options, &NoProgress).unwrap()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Everything that `lstat` and reading tell of a tree, in a form to compare.
fn snapshot(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let dir = tree::SourceDir::open(root, true).unwrap();
    let tree = Arc::new(tree::SourceTree::new(&dir));
    let mut names: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    let entries: Vec<_> = tree.walk().map(Result::unwrap).collect();
    let mut out = BTreeMap::new();
    for entry in &entries {
        let m = entry.metadata;
        let first = names.entry((m.device, m.inode)).or_insert(entry.path.clone());
        if *first > entry.path {
            first.clone_from(&entry.path);
        }
    }
    for entry in entries {
        let m = entry.metadata;
        let mut said = format!("{:?} {}:{} {}.{:09}", m.kind, m.uid, m.gid, m.mtime_s, m.mtime_ns);
        match m.kind {
            tree::FileKind::Symlink => {
                said += &format!(" -> {}", tree.read_link(&entry.path).unwrap().escape_ascii());
            }
            _ => said += &format!(" {:o}", m.mode),
        }
        if m.kind == tree::FileKind::File {
            let content = fs::read(root.join(OsStr::from_bytes(&entry.path))).unwrap();
            let first = &names[&(m.device, m.inode)];
            said += &format!(
                " {} links={} first={}",
                blake3::hash(&content),
                m.link_count,
                first.escape_ascii()
            );
        }
        out.insert(entry.path, said);
    }
    out
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: u32) {
    let parent = tree::TargetDir::create_or_open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().as_bytes();
    let new =
        tree::Attributes { mtime: Some((seconds, nanoseconds)), ..tree::Attributes::default() };
    match fs::symlink_metadata(path).unwrap().file_type() {
        kind if kind.is_dir() => parent.set_dir_metadata(name, &new).unwrap(),
        kind if kind.is_file() => {
            let time = match u64::try_from(seconds) {
                Ok(s) => std::time::UNIX_EPOCH + std::time::Duration::new(s, nanoseconds),
                Err(_) => {
                    std::time::UNIX_EPOCH - std::time::Duration::from_secs(seconds.unsigned_abs())
                        + std::time::Duration::from_nanos(nanoseconds.into())
                }
            };
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
        _ => parent.set_symlink_metadata(name, None, new.mtime).unwrap(),
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with one of everything.
fn build(root: &Path, is_reversed: bool) {
    fs::create_dir_all(root).unwrap();
    let mut files: Vec<(&[u8], Vec<u8>)> = vec![
        (b"empty", Vec::new()),
        (b"small.txt", b"qed\n".to_vec()),
        (b"d/inner/deep.txt", noise("deep", 5000)),
        (b"d.x", b"sorts between d and d/".to_vec()),
        (b"three", noise("three", 3 << 20)),
        (b"twenty", noise("twenty", 20 << 20)),
        (b"exact", noise("exact", 1 << 20)),
        (b"d/caf\xe9", b"not UTF-8".to_vec()),
        (b"d/new\nline", b"1".to_vec()),
        (b"d/back\\slash", b"2".to_vec()),
        (b"secret", b"mode 0".to_vec()),
        (b"setuid", b"s".to_vec()),
        (b"locked/in", b"in a directory without w".to_vec()),
        (b"old", b"before 1970".to_vec()),
    ];
    for i in 0..300 {
        let name: &'static str = Box::leak(format!("many/f{i:03}").into_boxed_str());
        files.push((name.as_bytes(), noise(name, i * 37)));
    }
    if is_reversed {
        files.reverse();
    }
    for (name, content) in &files {
        let path = root.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    fs::create_dir_all(root.join("void")).unwrap();
    fs::hard_link(root.join("small.txt"), root.join("d/another")).unwrap();
    fs::hard_link(root.join("small.txt"), root.join("zz link")).unwrap();
    symlink("nowhere/at all", root.join("dangling")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("d/inner", root.join("to dir")).unwrap();
    let target = tree::TargetDir::create_or_open(root).unwrap();
    target.make_fifo(b"pipe", 0o640).unwrap();
    chmod(&root.join("secret"), 0);
    chmod(&root.join("setuid"), 0o4755);
    chmod(&root.join("many"), 0o1777);
    let mut all: Vec<Vec<u8>> = snapshot_paths(root);
    all.reverse(); // the deepest first
    for (i, path) in (0..).zip(&all) {
        let path = root.join(OsStr::from_bytes(path));
        set_mtime(&path, 1_600_000_000 + i, 123_456_789);
    }
    set_mtime(&root.join("small.txt"), 1_500_000_000, 1);
    set_mtime(&root.join("old"), -86_400 * 365, 999_999_999);
    chmod(&root.join("locked"), 0o555);
}

fn snapshot_paths(root: &Path) -> Vec<Vec<u8>> {
    let dir = tree::SourceDir::open(root, true).unwrap();
    let tree = Arc::new(tree::SourceTree::new(&dir));
    tree.walk().map(|entry| entry.unwrap().path).collect()
}

#[test]
fn everything_comes_back_as_it_was() {
    let dir = Dir::new();
    build(&dir.at("tree"), false);
    let before = snapshot(&dir.at("tree"));
    let report = create(&dir.at("a.pefc"), &dir.at("tree"), 2);
    assert_eq!(report.problems, []);
    assert_eq!((report.hard_link_count, report.symlink_count, report.other_count), (2, 3, 1));
    assert_eq!(report.added_count, before.len() as u64);
    assert!(report.portability.iter().any(|odd| odd.key == b"d/back\\slash"));
    for threads in [1, 3] {
        let options = ExtractOptions { threads, ..privileged() };
        let target = dir.at(format!("out{threads}"));
        let done = unpack(&dir.at("a.pefc"), &target, &options);
        assert_eq!((&done.problems[..], &done.not_restored[..]), (&[][..], &[][..]));
        assert_eq!(snapshot(&target), before);
        assert_eq!(done.file_count, report.file_count);
        assert_eq!(done.content_bytes, report.content_bytes);
    }
    // By default nobody gets the setuid bit of somebody else.
    let plain = unpack(&dir.at("a.pefc"), &dir.at("plain"), &ExtractOptions::default());
    let lost: Vec<_> = plain.not_restored.iter().map(|lost| (&lost.key[..], lost.what)).collect();
    assert_eq!(lost, [(&b"many"[..], Property::SpecialBits), (b"setuid", Property::SpecialBits)]);
}

#[test]
fn the_bytes_depend_on_the_tree_alone() {
    let dir = Dir::new();
    build(&dir.at("one"), false);
    build(&dir.at("two"), true);
    create(&dir.at("0.pefc"), &dir.at("one"), 1);
    let first = fs::read(dir.at("0.pefc")).unwrap();
    for (threads, tree) in [(1, "two"), (2, "one"), (4, "two")] {
        let pack = dir.at(format!("{threads}{tree}.pefc"));
        create(&pack, &dir.at(tree), threads);
        assert!(fs::read(pack).unwrap() == first, "{threads} threads, {tree}");
    }
}

#[test]
fn reproducible_leaves_out_what_varies() {
    let dir = Dir::new();
    let write = |name: &str, mtime, mode| {
        let path = dir.write(&format!("{name}/run"), "x");
        chmod(&path, mode);
        set_mtime(&path, mtime, 5);
        let mut writer = Writer::create(dir.at(format!("{name}.pefc")), write_options(1)).unwrap();
        let options = AddOptions {
            record: RecordOptions {
                reproducible: true,
                mtime_max_s: Some(1000),
                ..RecordOptions::default()
            },
            ..AddOptions::default()
        };
        add(&mut writer, &[Source::new(dir.at(name), "t")], &options, &NoProgress).unwrap();
        writer.finish().unwrap();
        fs::read(dir.at(format!("{name}.pefc"))).unwrap()
    };
    assert!(write("a", 5000, 0o700) == write("b", 7000, 0o775));
    let found = Pack::open(dir.at("a.pefc")).unwrap().entry("t/run").unwrap().unwrap().attributes;
    assert_eq!((found.mode, found.uid, found.mtime.unwrap().seconds), (Some(0o755), None, 1000));
}

#[test]
fn appending_writes_what_changed_and_deletes_what_is_gone() {
    let dir = Dir::new();
    let (tree, pack) = (dir.at("tree"), dir.at("a.pefc"));
    build(&tree, false);
    create(&pack, &tree, 2);
    let (report, stats) = append(&pack, &tree, &AddOptions::default());
    assert_eq!((report.added_count, stats.stored_bytes), (0, 0), "{report:?}");
    let checked = AddOptions { check_content: true, ..AddOptions::default() };
    let (report, stats) = append(&pack, &tree, &checked);
    assert_eq!((report.added_count, stats.stored_bytes), (0, 0), "{report:?}");

    fs::write(tree.join("d.x"), "changed").unwrap();
    fs::remove_file(tree.join("many/f007")).unwrap();
    fs::remove_file(tree.join("twenty")).unwrap();
    set_mtime(&tree.join("many"), 1_650_000_000, 0);
    let options = AddOptions { delete_missing: true, ..AddOptions::default() };
    let (report, stats) = append(&pack, &tree, &options);
    assert_eq!((report.added_count, report.deleted_count), (2, 2), "{report:?}");
    assert!(stats.stored_bytes < 8000, "{stats:?}");
    unpack(&pack, &dir.at("out"), &privileged());
    assert_eq!(snapshot(&dir.at("out")), snapshot(&tree));
}

#[test]
fn a_mirror_keeps_to_its_prefix_and_to_what_it_could_see() {
    let dir = Dir::new();
    let mut writer = Writer::create(dir.at("a.pefc"), write_options(1)).unwrap();
    for key in ["t", "t.x", "t/gone", "tt", "other/t/gone"] {
        writer.put(key, b"x").unwrap();
    }
    writer.finish().unwrap();
    dir.write("tree/here", "x");
    let mut writer = Writer::append(dir.at("a.pefc"), write_options(1)).unwrap();
    let options = AddOptions { delete_missing: true, ..AddOptions::default() };
    let source = Source::new(dir.at("tree"), "t");
    let report = add(&mut writer, &[source], &options, &NoProgress).unwrap();
    assert_eq!(report.deleted_count, 1);
    writer.finish().unwrap();
    let pack = Pack::open(dir.at("a.pefc")).unwrap();
    let keys: Vec<_> =
        pack.entries().map(|put| String::from_utf8(put.unwrap().key.into()).unwrap()).collect();
    assert_eq!(keys, ["other/t/gone", "t", "t.x", "t/here", "tt"]);
}

/// Calls a function at every advance, with what was done so far.
struct Hook<F>(F, AtomicU64);

impl<F: Fn(u64, u64) + Send + Sync> Progress for Hook<F> {
    fn total(&self, _: u64, _: u64) {}
    fn advance(&self, entries: u64, bytes: u64) {
        let so_far = self.1.fetch_add(entries, Ordering::Relaxed) + entries;
        (self.0)(so_far, bytes);
    }
}

fn add_with(dir: &Dir, threads: usize, hook: impl Fn(u64, u64) + Send + Sync) -> AddReport {
    let mut writer = Writer::create(dir.at("a.pefc"), write_options(1)).unwrap();
    let options = AddOptions { threads, ..AddOptions::default() };
    let hook = Hook(hook, AtomicU64::new(0));
    let report = add(&mut writer, &[top(&dir.at("t"))], &options, &hook).unwrap();
    writer.finish().unwrap();
    report
}

fn kinds(report: &AddReport) -> Vec<(&str, SourceProblemKind)> {
    let problems = report.problems.iter();
    problems.map(|p| (std::str::from_utf8(&p.key).unwrap(), p.kind)).collect()
}

#[test]
fn files_that_change_or_vanish_spoil_nothing() {
    for threads in [1, 2] {
        let dir = Dir::new();
        let large = dir.write("t/a large", noise("l", 12 << 20));
        let goes = dir.write("t/b goes", "x");
        let grows = dir.write("t/c grows", "x");
        dir.write("t/d stays", "x");
        let link = dir.at("t/e link");
        fs::hard_link(&goes, &link).unwrap();
        let shrinks = dir.write("t/f shrinks", noise("s", 2 << 20));
        let once = AtomicBool::new(false);
        let report = add_with(&dir, threads, |_, _| {
            // The first time in the middle of the large file.
            if !once.swap(true, Ordering::Relaxed) {
                fs::OpenOptions::new()
                    .append(true)
                    .open(&large)
                    .unwrap()
                    .write_all(b"more")
                    .unwrap();
                fs::remove_file(&goes).unwrap();
                fs::write(&grows, noise("g", 3 << 20)).unwrap();
                fs::write(&shrinks, "less").unwrap();
            }
        });
        let pack = Pack::open(dir.at("a.pefc")).unwrap();
        let get = |key: &str| pack.get(key).unwrap();
        if threads == 1 {
            // One batch was read before the large file was streamed.
            assert_eq!(kinds(&report), []);
        }
        assert_eq!(get("a large").unwrap().len(), (12 << 20) + 4);
        assert_eq!(get("d stays").unwrap(), b"x");
        assert_eq!(get("f shrinks").unwrap(), b"less");
        unpack(&dir.at("a.pefc"), &dir.at("out"), &ExtractOptions::default());
        assert_eq!(fs::read(dir.at("out/e link")).unwrap(), b"x");
    }
}

#[test]
fn a_first_name_that_vanishes_leaves_the_content_to_the_next() {
    let dir = Dir::new();
    dir.write("t/0", noise("0", 1 << 20)); // a batch of its own
    let first = dir.write("t/a", "content");
    fs::hard_link(&first, dir.at("t/b")).unwrap();
    fs::hard_link(&first, dir.at("t/c")).unwrap();
    let report = add_with(&dir, 1, |so_far, _| {
        if so_far == 1 {
            fs::remove_file(&first).unwrap();
        }
    });
    assert_eq!(kinds(&report), [("a", SourceProblemKind::Vanished)]);
    let pack = Pack::open(dir.at("a.pefc")).unwrap();
    assert_eq!(pack.get("b").unwrap().unwrap(), b"content");
    let link = pack.entry("c").unwrap().unwrap().attributes;
    assert_eq!((link.kind, link.target.as_deref()), (FileKind::HardLink, Some(&b"b"[..])));
}

#[test]
fn a_file_that_never_rests_is_stored_as_read() {
    let dir = Dir::new();
    let busy = dir.write("t/busy", noise("b", 9 << 20));
    dir.write("t/calm", "x");
    let stop = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&busy).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"again").unwrap();
            }
        });
        let report = add_with(&dir, 2, |_, _| {});
        stop.store(true, Ordering::Relaxed);
        report
    });
    assert_eq!(kinds(&report), [("busy", SourceProblemKind::Changed)]);
    let pack = Pack::open(dir.at("a.pefc")).unwrap();
    assert!(pack.get("busy").unwrap().unwrap().len() >= 9 << 20);
    assert_eq!(pack.get("calm").unwrap().unwrap(), b"x");
}

#[test]
fn the_pack_itself_and_what_is_excluded_stay_out() {
    let dir = Dir::new();
    dir.write("t/keep", "x");
    dir.write("t/target/debug/x", "x");
    let mut writer = Writer::create(dir.at("t/own.pefc"), write_options(1)).unwrap();
    let exclude = |key: &[u8], is_dir: bool| is_dir && key.ends_with(b"target");
    let options = AddOptions { exclude: Some(&exclude), ..AddOptions::default() };
    add(&mut writer, &[top(&dir.at("t"))], &options, &NoProgress).unwrap();
    writer.finish().unwrap();
    let pack = Pack::open(dir.at("t/own.pefc")).unwrap();
    let keys: Vec<_> = pack.entries().map(|put| put.unwrap().key.into_owned()).collect();
    assert_eq!(keys, [b"keep"]);
    let (report, _) = append(&dir.at("t/own.pefc"), &dir.at("t"), &options);
    assert_eq!(report.added_count, 0, "{report:?}");
}

#[test]
fn sources_are_files_links_and_directories() {
    let dir = Dir::new();
    dir.write("d/f", "content");
    symlink("d", dir.at("link")).unwrap();
    symlink("d/f", dir.at("flink")).unwrap();
    let keys = |path: &str, follow_top| {
        let mut writer =
            Writer::create(dir.at("a.pefc"), WriteOptions { replace: true, ..write_options(1) })
                .unwrap();
        let options = AddOptions { follow_top, ..AddOptions::default() };
        let source = Source::named(dir.0.path().join(path));
        add(&mut writer, &[source], &options, &NoProgress).unwrap();
        writer.finish().unwrap();
        let pack = Pack::open(dir.at("a.pefc")).unwrap();
        let keys = pack.entries().map(|put| put.unwrap());
        keys.map(|put| format!("{} {}", put.key.escape_ascii(), put.attributes.kind.name()))
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("d/f", false), ["f file"]);
    assert_eq!(keys("d", false), ["d directory", "d/f file"]);
    assert_eq!(keys("link", false), ["link symlink"]);
    assert_eq!(keys("link", true), ["link directory", "link/f file"]);
    assert_eq!(keys("flink", true), ["flink file"]);
    let mut writer = Writer::create(dir.at("b.pefc"), write_options(1)).unwrap();
    let missing = [Source::named(dir.at("no such"))];
    let error = add(&mut writer, &missing, &AddOptions::default(), &NoProgress).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_source_that_covers_files_of_another_is_reported() {
    let dir = Dir::new();
    dir.write("a/sub/both", "from a");
    dir.write("a/sub/one", "1");
    dir.write("b/sub/both", "from b");
    fs::hard_link(dir.at("a/sub/one"), dir.at("b/sub/one")).unwrap();
    let mut writer = Writer::create(dir.at("a.pefc"), write_options(1)).unwrap();
    let sources = [top(&dir.at("a")), top(&dir.at("b"))];
    let report = add(&mut writer, &sources, &AddOptions::default(), &NoProgress).unwrap();
    writer.finish().unwrap();
    let problems: Vec<_> = report.problems.iter().map(|p| (&p.key[..], p.kind)).collect();
    assert_eq!(problems, [(&b"sub/both"[..], SourceProblemKind::Covered)]);
    let pack = Pack::open(dir.at("a.pefc")).unwrap();
    assert_eq!(pack.get("sub/both").unwrap().as_deref(), Some(&b"from b"[..]));
    assert_eq!(pack.entries().count(), 3);
}

#[test]
fn interrupting_is_an_error_and_leaves_no_pack() {
    let dir = Dir::new();
    build(&dir.at("t"), false);
    for threads in [1, 2] {
        let cancel = Arc::new(AtomicBool::new(false));
        let options =
            AddOptions { threads, cancel: Some(Arc::clone(&cancel)), ..AddOptions::default() };
        let mut writer = Writer::create(dir.at("a.pefc"), write_options(1)).unwrap();
        let hook = Hook(|so_far, _| cancel.store(so_far > 5, Ordering::Relaxed), AtomicU64::new(0));
        let error = add(&mut writer, &[top(&dir.at("t"))], &options, &hook).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        drop(writer);
        assert!(!dir.at("a.pefc").exists());
    }
}

fn link_to(target: &[u8], kind: FileKind) -> Attributes<'_> {
    Attributes { kind, target: Some(Cow::Borrowed(target)), ..Attributes::default() }
}

fn directory() -> Attributes<'static> {
    Attributes { kind: FileKind::Directory, ..Attributes::default() }
}

#[test]
fn hostile_packs_write_nothing_outside() {
    for (threads, overwrite) in
        [(1, Overwrite::Refuse), (2, Overwrite::Refuse), (2, Overwrite::Replace)]
    {
        let dir = Dir::new();
        dir.write("outside/canary", "alive");
        let canary = snapshot(&dir.at("outside"));
        let outside = dir.at("outside");
        let outside = outside.as_os_str().as_bytes();
        let mut writer = Writer::create(dir.at("a.pefc"), write_options(1)).unwrap();
        writer.put_attributes("a", link_to(outside, FileKind::Symlink)).unwrap();
        writer.put("a/canary", b"dead").unwrap();
        writer.put("a/new", b"dead").unwrap();
        writer.put_attributes("a/sub", directory()).unwrap();
        writer.put("a/sub/x", b"dead").unwrap();
        writer.put("f", b"file").unwrap();
        writer.put("f/below", b"clash").unwrap();
        writer.put_attributes("f/dir", directory()).unwrap();
        writer.put_attributes("h1", link_to(b"../outside/canary", FileKind::HardLink)).unwrap();
        writer.put_attributes("h2", link_to(b"/etc/passwd", FileKind::HardLink)).unwrap();
        writer.put_attributes("h3", link_to(b"no/such", FileKind::HardLink)).unwrap();
        writer.put_attributes("h4", link_to(b"h4", FileKind::HardLink)).unwrap();
        writer.put_attributes("h5", link_to(b"a/canary", FileKind::HardLink)).unwrap();
        writer.put_attributes("h6", link_to(b"pre/canary", FileKind::HardLink)).unwrap();
        writer.put("pre/canary", b"dead").unwrap();
        writer.put_attributes("s", link_to(b"../outside", FileKind::Symlink)).unwrap();
        writer.put_attributes("s/deep", link_to(b"x", FileKind::Symlink)).unwrap();
        writer.put(&"n".repeat(300), b"long").unwrap();
        writer.finish().unwrap();
        // A tree that is there already leads outside, too.
        fs::create_dir(dir.at("out")).unwrap();
        symlink("../outside", dir.at("out/pre")).unwrap();
        let options = ExtractOptions { threads, overwrite, ..privileged() };
        let report = unpack(&dir.at("a.pefc"), &dir.at("out"), &options);
        assert_eq!(snapshot(&dir.at("outside")), canary);
        let said: Vec<_> = report
            .problems
            .iter()
            .map(|p| (std::str::from_utf8(&p.key).unwrap(), p.kind))
            .collect();
        use ExtractProblemKind::{Clash, Exists, UnsafePath};
        let long = "n".repeat(300);
        let mut expected = vec![
            ("a/canary", Clash),
            ("a/new", Clash),
            ("a/sub", Clash),
            ("a/sub/x", Clash),
            ("f/below", Clash),
            ("f/dir", Clash),
            ("h1", Clash),
            ("h2", Clash),
            ("h3", Clash),
            ("h4", Clash),
            (&long, UnsafePath),
            ("s/deep", Clash),
        ];
        if overwrite == Overwrite::Refuse {
            expected.extend([("pre", Exists), ("pre/canary", Clash)]);
        }
        expected.sort_unstable();
        assert_eq!(said, expected);
        // What it is a further name of was not extracted: it has the content itself.
        assert_eq!(fs::read(dir.at("out/h5")).unwrap(), b"dead");
        assert_eq!(fs::read(dir.at("out/f")).unwrap(), b"file");
    }
}

#[test]
fn what_is_there_stays_or_is_replaced_whole() {
    let dir = Dir::new();
    dir.write("t/f", "new");
    symlink("x", dir.at("t/l")).unwrap();
    create(&dir.at("a.pefc"), &dir.at("t"), 1);
    dir.write("out/keep", "mine");
    fs::hard_link(dir.at("out/keep"), dir.at("out/f")).unwrap();
    dir.write("out/l", "mine");
    let report = unpack(&dir.at("a.pefc"), &dir.at("out"), &ExtractOptions::default());
    let kinds: Vec<_> = report.problems.iter().map(|p| p.kind).collect();
    assert_eq!(kinds, [ExtractProblemKind::Exists; 2]);
    assert_eq!(fs::read(dir.at("out/f")).unwrap(), b"mine");
    let options = ExtractOptions { overwrite: Overwrite::Replace, ..ExtractOptions::default() };
    let report = unpack(&dir.at("a.pefc"), &dir.at("out"), &options);
    assert_eq!(report.problems, []);
    assert_eq!(fs::read(dir.at("out/f")).unwrap(), b"new");
    assert_eq!(fs::read(dir.at("out/keep")).unwrap(), b"mine");
    assert_eq!(fs::read_link(dir.at("out/l")).unwrap(), Path::new("x"));
}

#[test]
fn selections_and_stripped_components() {
    let dir = Dir::new();
    build(&dir.at("t"), false);
    create(&dir.at("a.pefc"), &dir.at("t"), 2);
    let options = ExtractOptions {
        keys: ["d", "d/inner", "zz link", "no such", "many/f001/"]
            .map(|key| key.as_bytes().to_vec())
            .to_vec(),
        ..privileged()
    };
    let report = unpack(&dir.at("a.pefc"), &dir.at("out"), &options);
    let said: Vec<_> = report.problems.iter().map(|p| (&p.key[..], p.kind)).collect();
    assert_eq!(said, [(&b"no such"[..], ExtractProblemKind::NotFound)]);
    let paths = snapshot_paths(&dir.at("out"));
    assert!(!dir.at("out/d.x").exists() && dir.at("out/d/inner/deep.txt").exists());
    assert_eq!(paths.iter().filter(|path| path.starts_with(b"many")).count(), 2);
    let implied = fs::metadata(dir.at("out/many")).unwrap().permissions().mode();
    assert_eq!(implied & 0o7777, 0o755);
    // The second name of a file that was not selected has its content, or its first selected name.
    assert_eq!(fs::read(dir.at("out/zz link")).unwrap(), b"qed\n");

    let options = ExtractOptions { keys: vec![b"d".to_vec()], strip_components: 1, ..privileged() };
    unpack(&dir.at("a.pefc"), &dir.at("stripped"), &options);
    assert_eq!(fs::read(dir.at("stripped/inner/deep.txt")).unwrap(), noise("deep", 5000));
    assert!(!dir.at("stripped/d").exists());
}

#[test]
fn an_existing_directory_without_an_entry_keeps_its_mode() {
    let dir = Dir::new();
    let mut writer = Writer::create(dir.at("a.pefc"), write_options(1)).unwrap();
    writer.put("home/f", b"x").unwrap();
    writer.finish().unwrap();
    fs::create_dir_all(dir.at("out/home")).unwrap();
    chmod(&dir.at("out/home"), 0o700);
    unpack(&dir.at("a.pefc"), &dir.at("out"), &ExtractOptions::default());
    assert_eq!(fs::metadata(dir.at("out/home")).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn damage_stops_unless_told_to_go_on() {
    let dir = Dir::new();
    dir.write("t/a", noise("a", 900_000));
    dir.write("t/b", noise("b", 900_000));
    create(&dir.at("a.pefc"), &dir.at("t"), 1);
    let mut bytes = fs::read(dir.at("a.pefc")).unwrap();
    let whole = noise("a", 900_000);
    let at = bytes.windows(64).position(|window| window == &whole[5000..5064]).unwrap();
    bytes[at] ^= 1;
    fs::write(dir.at("a.pefc"), bytes).unwrap();
    let pack = Pack::open(dir.at("a.pefc")).unwrap();
    for threads in [1, 2] {
        let mut options = ExtractOptions { threads, ..ExtractOptions::default() };
        let out = dir.at(format!("stop{threads}"));
        let error = extract(&pack, &out, &options, &NoProgress).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(!out.join("a").exists());
        options.keep_going_on_damage = true;
        let out = dir.at(format!("go on{threads}"));
        let report = extract(&pack, &out, &options, &NoProgress).unwrap();
        assert_eq!(report.problems[0].kind, ExtractProblemKind::Corrupt);
        assert_eq!((report.problems.len(), report.file_count), (1, 1));
        assert!(!out.join("a").exists() && out.join("b").exists());
    }
}

#[test]
fn packs_and_directories_compare() {
    let dir = Dir::new();
    let (tree, pack) = (dir.at("tree"), dir.at("a.pefc"));
    build(&tree, false);
    create(&pack, &tree, 2);
    let record = RecordOptions::default();
    let source = top(&tree);
    let opened = Pack::open(&pack).unwrap();
    let disk = Side::Disk(&source, &record);
    assert_eq!(diff(Side::Pack(&opened), disk).unwrap().count(), 0);
    assert_eq!(diff(disk, disk).unwrap().count(), 0);

    chmod(&tree.join("exact"), 0o600);
    let times = fs::metadata(tree.join("three")).unwrap().modified().unwrap();
    let mut changed = noise("three", 3 << 20);
    changed[77] ^= 1;
    fs::write(tree.join("three"), changed).unwrap();
    fs::File::open(tree.join("three")).unwrap().set_modified(times).unwrap();
    fs::remove_file(tree.join("dangling")).unwrap();
    symlink("elsewhere", tree.join("dangling")).unwrap();
    fs::write(tree.join("many/new"), "x").unwrap();
    fs::remove_file(tree.join("many/f001")).unwrap();
    let said = |changes: Vec<Change>| -> Vec<String> {
        let told = changes.into_iter().map(|change| {
            let what = match change.kind {
                ChangeKind::Added => "added".to_owned(),
                ChangeKind::Removed => "removed".to_owned(),
                ChangeKind::Changed(c) => [
                    (c.content, "content"),
                    (c.kind, "kind"),
                    (c.mode, "mode"),
                    (c.owner, "owner"),
                    (c.mtime, "mtime"),
                    (c.target, "target"),
                ]
                .into_iter()
                .filter_map(|(is, name)| is.then_some(name))
                .collect::<Vec<_>>()
                .join("+"),
            };
            format!("{} {what}", change.key.escape_ascii())
        });
        told.collect()
    };
    let expected = [
        "dangling mtime+target",
        "exact mode",
        "many mtime",
        "many/f001 removed",
        "many/new added",
        "three content",
    ];
    let mut found = diff(Side::Pack(&opened), disk).unwrap();
    assert_eq!(said(found.by_ref().map(Result::unwrap).collect()), expected);
    assert_eq!(found.problems(), []);
    let options = AddOptions { delete_missing: true, check_content: true, ..AddOptions::default() };
    append(&pack, &tree, &options);
    let now = Pack::open(&pack).unwrap();
    let then = now.at_generation(1).unwrap();
    let found = diff(Side::Pack(&then), Side::Pack(&now)).unwrap();
    assert_eq!(said(found.map(Result::unwrap).collect()), expected);
}
