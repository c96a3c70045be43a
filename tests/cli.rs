//! The command as a person uses it: a process, its output, its exit codes, what it leaves behind.

#![cfg(all(feature = "cli", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "tests fail by panicking; sizes here are small"
)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A directory to work in, and the command in it.
struct Shell {
    dir: TempDir,
}

impl Shell {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pefc"));
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command.env_remove("SOURCE_DATE_EPOCH");
        command
    }

    /// Runs `line`, split at spaces.
    fn run(&self, line: &str) -> Ran {
        Ran::new(line, self.command(&words(line)).output().unwrap())
    }

    fn ok(&self, line: &str) -> Ran {
        self.exits(line, 0)
    }

    fn exits(&self, line: &str, code: i32) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(!ran.err().contains("panicked"), "{ran:?}");
        ran
    }

    fn spawn(&self, line: &str, stdin: Stdio) -> Child {
        let mut command = self.command(&words(line));
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A tree of several kinds of files.
    fn tree(&self) {
        self.write("t/a.txt", "alpha\n");
        self.write("t/sub/b.bin", noise(40_000));
        self.write("t/sub/c.log", "line\n".repeat(5000));
        self.write("t/sub/deep/d", "");
        self.write("t/target/junk.o", "object code");
        symlink("a.txt", self.path("t/link")).unwrap();
        fs::hard_link(self.path("t/a.txt"), self.path("t/twin")).unwrap();
        fs::set_permissions(self.path("t/a.txt"), fs::Permissions::from_mode(0o750)).unwrap();
    }

    fn names(&self) -> Vec<OsString> {
        fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[derive(Debug)]
struct Ran {
    #[expect(dead_code, reason = "shown when an assertion fails")]
    line: String,
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ran {
    fn new(line: &str, output: Output) -> Self {
        let Output { status, stdout, stderr } = output;
        Self { line: line.to_owned(), code: status.code(), stdout, stderr }
    }

    fn out(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    fn err(&self) -> &str {
        str::from_utf8(&self.stderr).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    fn json_lines(&self) -> Vec<Value> {
        self.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Standard error has all of these.
    fn says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.err().contains(part), "no {part:?} in {self:?}");
        }
        self
    }
}

/// Bytes that do not compress, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Every path with its kind, mode, time and content.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, at: &Path, out: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let is = fs::symlink_metadata(&path).unwrap();
            let what = if is.is_symlink() {
                format!("link {:?}", fs::read_link(&path).unwrap())
            } else {
                let content = if is.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                let hash = blake3::hash(&content);
                format!("{:o} {} {} {hash}", is.mode(), is.mtime(), is.mtime_nsec())
            };
            out.insert(path.strip_prefix(root).unwrap().to_owned(), what);
            if is.is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|is| is.uid() == 0)
}

#[test]
fn the_whole_story() {
    let sh = Shell::new();
    sh.tree();
    let created = sh.ok("create p.pefc t");
    assert!(created.out().contains("generation 1, 5 files"), "{created:?}");
    assert!(created.err().is_empty(), "not a terminal: no progress: {created:?}");

    // list
    let listed = sh.ok("list p.pefc");
    let keys: Vec<_> = listed.out().lines().collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), 11, "{keys:?}");
    assert!(keys.contains(&"t/sub/deep/d"));
    assert_eq!(sh.ok("ls p.pefc ./t/sub/").out().lines().count(), 4);
    let long = sh.ok("list -l p.pefc");
    assert!(long.out().contains("t/link -> a.txt"), "{long:?}");
    assert!(long.out().lines().any(|line| line.starts_with("-rwxr-x---")), "{long:?}");
    let zero = sh.ok("list -0 p.pefc");
    assert_eq!(zero.out().replace('\0', "\n"), listed.out());
    let json = sh.ok("list p.pefc --json").json_lines();
    let a = json.iter().find(|entry| entry["key"] == "t/a.txt").unwrap();
    let b3 = blake3::hash(b"alpha\n").to_string();
    assert_eq!(a["b3"], b3.as_str(), "what b3sum prints");
    assert_eq!((&a["size"], &a["mode"]), (&6.into(), &"0750".into()));

    // cat
    assert_eq!(sh.ok("cat p.pefc t/a.txt t/twin").out(), "alpha\nalpha\n");
    assert_eq!(sh.ok(&format!("cat p.pefc --name {b3}")).out(), "alpha\n");
    let noise = noise(40_000);
    for (range, expected) in [
        ("100..300", &noise[100..300]),
        ("39990..", &noise[39_990..]),
        ("..5", &noise[..5]),
        ("39990..99999", &noise[39_990..]),
        ("50000..", &[]),
        ("7..7", &[]),
    ] {
        assert_eq!(sh.ok(&format!("cat p.pefc t/sub/b.bin --bytes {range}")).stdout, expected);
    }

    // diff, append, log
    assert!(sh.ok("diff p.pefc t").stdout.is_empty());
    let before = fs::metadata(sh.path("p.pefc")).unwrap().len();
    sh.write("t/new", "new\n");
    sh.write("t/sub/c.log", "line\n".repeat(5001));
    fs::remove_file(sh.path("t/sub/deep/d")).unwrap();
    let differs = sh.exits("diff p.pefc t", 1);
    for line in ["+ t/new", "- t/sub/deep/d", "M t/sub/c.log (content, mtime)"] {
        assert!(differs.out().lines().any(|is| is == line), "{differs:?}");
    }
    let changes = sh.exits("diff p.pefc t --json", 1).json_lines();
    assert!(changes.iter().any(|change| change["change"] == "added" && change["key"] == "t/new"));
    let appended = sh.ok("append p.pefc t --delete --json").json();
    assert_eq!(appended["generation"], 2);
    assert_eq!(appended["deleted_count"], 1);
    let grown = fs::metadata(sh.path("p.pefc")).unwrap().len() - before;
    assert!(grown < 4096, "only changes are written: {grown} bytes");
    let same = fs::read(sh.path("p.pefc")).unwrap();
    assert!(sh.ok("append p.pefc t --delete").out().contains("nothing changed"));
    assert_eq!(fs::read(sh.path("p.pefc")).unwrap(), same, "nothing changed, not one byte");
    sh.exits("diff p.pefc p.pefc --at 1", 1);
    sh.ok("diff p.pefc p.pefc --at 1 --new-at 1");
    sh.ok("create q.pefc t");
    sh.ok("diff p.pefc q.pefc");
    let log = sh.ok("log p.pefc");
    assert!(log.out().starts_with("generation 2"), "{log:?}");
    let log = sh.ok("log p.pefc --json").json_lines();
    assert_eq!(log.len(), 2);
    let other = &sh.ok("log q.pefc --json").json_lines()[0];
    assert_eq!(log[0]["map_root"], other["map_root"], "the same files, the same map root");
    assert_ne!(log[0]["map_root"], log[1]["map_root"]);

    // extract
    sh.ok("extract p.pefc -C out");
    assert_eq!(snapshot(&sh.path("out/t")), snapshot(&sh.path("t")));
    let (one, two) = (sh.path("out/t/a.txt"), sh.path("out/t/twin"));
    assert_eq!(fs::metadata(one).unwrap().ino(), fs::metadata(two).unwrap().ino());
    sh.ok("extract p.pefc -C old --at 1 -q");
    assert!(sh.path("old/t/sub/deep/d").exists() && !sh.path("old/t/new").exists());
    sh.ok("extract p.pefc -C part --strip-components 1 t/sub/");
    assert!(sh.path("part/sub/c.log").exists() && !sh.path("part/a.txt").exists());
    let again = sh.exits("extract p.pefc -C out t/new", 1);
    again.says(&["t/new: exists already", "--force"]);
    sh.write("out/t/new", "changed");
    sh.ok("extract p.pefc -C out t/new --force");
    assert_eq!(fs::read(sh.path("out/t/new")).unwrap(), b"new\n");

    // inspect, verify
    let inspected = sh.ok("inspect p.pefc");
    assert!(inspected.out().contains("2 generations"), "{inspected:?}");
    let inspected = sh.ok("inspect p.pefc --json").json();
    assert_eq!(inspected["pack_bytes"], fs::metadata(sh.path("p.pefc")).unwrap().len());
    let frames = sh.ok("inspect p.pefc --frames --json").json_lines();
    let total: u64 = inspected["frames"].as_object().unwrap().values().map(count_of).sum();
    assert_eq!(frames.len() as u64, total);
    assert_eq!(sh.ok("inspect p.pefc --frames").out().lines().count(), frames.len() + 1);
    let verified = sh.exits("verify p.pefc", 4);
    assert!(verified.out().ends_with("p.pefc: intact, not authenticated\n"), "{verified:?}");
    let verified = sh.exits("verify p.pefc --json", 4).json();
    assert_eq!((&verified["intact"], &verified["authenticated"]), (&true.into(), &false.into()));
    let quick = sh.exits("verify p.pefc --quick", 4);
    assert!(quick.out().contains("not checked: contents"), "{quick:?}");
    let quiet = sh.exits("verify p.pefc -q", 4);
    assert_eq!(quiet.out(), "p.pefc: intact, not authenticated\n");
}

fn count_of(kind: &Value) -> u64 {
    kind["frame_count"].as_u64().unwrap()
}

#[test]
fn damage_is_found_named_and_survived() {
    let sh = Shell::new();
    sh.write("t/a", noise(300_000));
    sh.ok("create p.pefc t");
    sh.write("t/b", "short\n");
    sh.ok("append p.pefc t");
    let mut bytes = fs::read(sh.path("p.pefc")).unwrap();
    bytes[5000] ^= 1;
    sh.write("bad.pefc", &bytes);
    for verify in ["verify bad.pefc", "verify --quick bad.pefc"] {
        let found = sh.exits(verify, 20);
        assert!(found.out().contains("damage[stored-hash] at byte 144"), "{found:?}");
        assert!(found.out().contains("DAMAGED"), "{found:?}");
        assert!(found.out().contains("pefc recover bad.pefc -o"), "{found:?}");
    }
    let found = sh.exits("verify bad.pefc --json", 20).json();
    assert_eq!(found["problems"][0]["rule"], "stored-hash");
    assert_eq!(found["problems"][0]["offset"], 144);
    assert_eq!(found["lost_keys"][0]["key"], "t/a");
    sh.exits("cat bad.pefc t/a", 20).says(&["error[corrupt]: bad.pefc", "next: "]);
    assert_eq!(sh.ok("cat bad.pefc t/b").out(), "short\n", "the rest stays readable");
    sh.exits("extract bad.pefc -C out", 20);
    sh.exits("extract bad.pefc -C out2 --keep-going", 20).says(&["t/a: content damaged"]);
    assert_eq!(fs::read(sh.path("out2/t/b")).unwrap(), b"short\n");
    assert!(!sh.path("out2/t/a").exists(), "never half a file");

    let recovered = sh.exits("recover bad.pefc -o good.pefc", 1);
    assert!(recovered.out().contains("lost: t/a"), "{recovered:?}");
    assert!(recovered.out().contains("damage at byte 64"), "{recovered:?}");
    sh.exits("verify good.pefc", 4);
    assert_eq!(sh.ok("cat good.pefc t/b").out(), "short\n");
    assert_eq!(fs::read(sh.path("bad.pefc")).unwrap(), bytes, "the damaged file is only read");
    sh.exits("recover bad.pefc -o good.pefc", 13);
    sh.exits("recover bad.pefc -o ./bad.pefc --force", 2).says(&["would replace the damaged one"]);
    assert_eq!(fs::read(sh.path("bad.pefc")).unwrap(), bytes);
    let whole = sh.ok("recover p.pefc -o whole.pefc --json").json();
    assert_eq!(whole["log_is_whole"], true);
    sh.ok("diff p.pefc whole.pefc");

    sh.write("cut.pefc", &bytes[..100_000]);
    sh.exits("list cut.pefc", 20).says(&["error[truncated]: cut.pefc", "found 100000", "next: "]);
}

#[test]
fn a_cut_tail_is_an_older_generation_or_an_error() {
    let sh = Shell::new();
    sh.write("t/a", "a");
    sh.ok("create p.pefc t");
    let first = fs::metadata(sh.path("p.pefc")).unwrap().len() as usize;
    sh.write("t/b", "b");
    sh.ok("append p.pefc t");
    let bytes = fs::read(sh.path("p.pefc")).unwrap();
    sh.write("torn.pefc", &bytes[..first + 100]);
    let listed = sh.ok("list torn.pefc");
    assert_eq!(listed.out(), "t\nt/a\n");
    listed.says(&["warning: torn.pefc", "unfinished commit"]);
    let verified = sh.exits("verify torn.pefc", 20);
    assert!(verified.out().contains("UNFINISHED: every commit is intact"), "{verified:?}");
    let verified = sh.exits("verify torn.pefc --json", 20).json();
    assert_eq!((&verified["torn_bytes"], &verified["has_writer"]), (&100.into(), &false.into()));
    sh.ok("append torn.pefc t");
    sh.exits("verify torn.pefc", 4);
    sh.ok("diff torn.pefc p.pefc");
}

#[test]
fn exit_codes_and_what_errors_say() {
    let sh = Shell::new();
    sh.tree();
    sh.ok("create p.pefc t -q");
    sh.write("junk", "this is not a pack, it is text, more than one header of it. ".repeat(9));
    for line in [
        "",
        "create",
        "create x.pefc",
        "creat x.pefc t",
        "list",
        "append p.pefc t --force",
        "create x.pefc t --level 40",
        "create x.pefc t --time soon",
        "create x.pefc t --exclude [",
        "cat p.pefc t/a.txt --bytes 5",
        "cat p.pefc t/a.txt --bytes 9..5",
        "cat p.pefc --name 00",
        "recover p.pefc",
        "completions tcsh",
    ] {
        assert!(!sh.exits(line, 2).stderr.is_empty(), "{line}");
    }
    assert!(!sh.path("x.pefc").exists());
    sh.exits("creat x.pefc t", 2).says(&["similar", "create"]);

    for (line, parts) in [
        ("list no.pefc", &["no.pefc", "No such file", "next: "][..]),
        ("append no.pefc t", &["no.pefc", "next: ", "pefc create"]),
        ("create out/x.pefc t", &["out/x.pefc", "make the directory first"]),
        ("create x.pefc nowhere", &["nowhere", "next: check the path"]),
        ("create x.pefc t nowhere", &["nowhere", "next: check the path"]),
        ("create x.pefc t -C nowhere", &["nowhere", "next: check the path"]),
        ("cat p.pefc t/none", &["p.pefc: there is no key t/none", "pefc list"]),
        ("cat p.pefc t/sub", &["t/sub is a directory", "pefc extract"]),
        ("list p.pefc none", &["no key begins with \"none\"", "next: "]),
        ("extract p.pefc none -C o", &["no key none", "pefc list"]),
        ("list p.pefc --at 9", &["no generation 9", "newest is 1"]),
        ("cat p.pefc t/a.txt --at 9", &["no generation 9"]),
        ("extract p.pefc --at 9", &["no generation 9"]),
        ("diff p.pefc no", &["no", "No such file"]),
    ] {
        sh.exits(line, 10).says(&["error[not-found]: "]).says(parts);
    }
    assert!(!sh.path("x.pefc").exists());

    let old = fs::read(sh.path("p.pefc")).unwrap();
    sh.exits("create p.pefc t", 13).says(&["exists already", "--force"]);
    assert_eq!(fs::read(sh.path("p.pefc")).unwrap(), old);
    sh.ok("create p.pefc t/a.txt --force");
    assert_eq!(sh.ok("list p.pefc").out(), "a.txt\n");
    for line in ["create t t/a.txt", "create t t/a.txt --force"] {
        sh.exits(line, 13).says(&["a directory has this name"]);
    }

    for line in ["list junk", "list /dev/null", "verify junk", "append junk t", "recover junk -o x"]
    {
        sh.exits(line, 21).says(&["error[not-a-pack]: ", "next: "]);
    }
    for line in ["list t", "append t t", "verify t"] {
        sh.exits(line, 21).says(&["a directory, but a pack is one file", "pefc create"]);
    }

    let error = sh.exits("list junk --json", 21);
    let error: Value = serde_json::from_slice(&error.stderr).unwrap();
    assert_eq!(error["error"], "not-a-pack");
    assert_eq!(error["path"], "junk");
    assert_eq!(error["rule"], "segment-magic");
    assert_eq!(error["offset"], 0);
    assert!(error["hint"].is_string() && error["message"].is_string());

    fs::create_dir(sh.path("ro")).unwrap();
    fs::set_permissions(sh.path("ro"), fs::Permissions::from_mode(0o555)).unwrap();
    if !is_root() {
        sh.exits("create ro/x.pefc t", 32).says(&["ro/x.pefc", "permission"]);
    }
    assert!(!sh.names().iter().any(|name| name.as_bytes().ends_with(b".tmp")), "{:?}", sh.names());
}

#[test]
fn arguments_that_would_hide_each_other_are_refused() {
    let sh = Shell::new();
    sh.write("a/x", "1");
    sh.write("b/x", "2");
    for line in ["create p.pefc a/x b/x", "create p.pefc a/x - --stdin-name x", "create p.pefc - -"]
    {
        sh.exits(line, 2).says(&["error[usage]: ", "next: "]);
        assert!(!sh.names().iter().any(|name| name.as_bytes().ends_with(b"p.pefc")), "{line}");
    }
    sh.exits("create p.pefc a/x b/x", 2).says(&["a/x and b/x would both get the key \"x\""]);
    sh.ok("create p.pefc a/x a/x");
    sh.exits("append p.pefc a/x b/x", 2);
    assert_eq!(sh.ok("cat p.pefc x").out(), "1");
    sh.ok("create q.pefc a b");
    assert_eq!(sh.ok("list q.pefc").out(), "a\na/x\nb\nb/x\n");
    sh.ok("extract q.pefc --strip-components 7 -C o").says(&["nothing restored"]);
}

#[test]
fn one_writer_at_a_time_and_readers_go_on() {
    let sh = Shell::new();
    sh.tree();
    sh.ok("create p.pefc t");
    let mut writer =
        pefc::Writer::append(sh.path("p.pefc"), pefc::WriteOptions::default()).unwrap();
    writer.put_stream(pefc::Key::path(b"more"), &noise(2_000_000)[..]).unwrap();
    let pid = std::process::id().to_string();
    sh.exits("append p.pefc t", 11).says(&["error[locked]: p.pefc", &pid, "next: wait"]);
    let error = sh.exits("append p.pefc t --json", 11);
    let error: Value = serde_json::from_slice(&error.stderr).unwrap();
    assert_eq!(error["error"], "locked");
    assert_eq!(sh.ok("list p.pefc").out().lines().count(), 11);
    let verified = sh.exits("verify p.pefc", 4);
    assert!(verified.out().contains("a writer is at work"), "{verified:?}");
    drop(writer);
    sh.ok("append p.pefc t");
}

#[test]
fn standard_input_excludes_threads() {
    let sh = Shell::new();
    sh.tree();
    let mut child = sh.spawn("create in.pefc t - --stdin-name report.txt", Stdio::piped());
    child.stdin.take().unwrap().write_all(&b"from a pipe\n".repeat(100_000)).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(sh.ok("cat in.pefc report.txt --bytes ..12").out(), "from a pipe\n");
    assert_eq!(sh.ok("list in.pefc").out().lines().count(), 12);
    sh.ok("create empty.pefc -");
    assert_eq!(sh.ok("list empty.pefc").out(), "stdin\n");

    for exclude in ["target", "t/target", "t/target/", "**/target"] {
        sh.ok(&format!("create x.pefc t --exclude {exclude} --force"));
        assert!(!sh.ok("list x.pefc").out().contains("target"), "{exclude}");
        sh.exits("diff x.pefc t", 1);
        sh.ok(&format!("diff x.pefc t --exclude {exclude}"));
    }
    sh.ok("create x.pefc t --exclude *.o --exclude t/*/c.log --force");
    let listed = sh.ok("list x.pefc");
    assert!(!listed.out().contains("junk.o") && !listed.out().contains("c.log"), "{listed:?}");
    assert!(listed.out().contains("t/target\n"));
    sh.ok("create x.pefc -C t sub a.txt --force");
    assert!(sh.ok("list x.pefc").out().starts_with("a.txt\nsub\n"));

    sh.ok("create one.pefc t --threads 1");
    sh.ok("create two.pefc t --threads 2");
    assert_eq!(fs::read(sh.path("one.pefc")).unwrap(), fs::read(sh.path("two.pefc")).unwrap());
}

#[test]
fn times_and_reproducible_packs() {
    let sh = Shell::new();
    for name in ["one/t", "two/t"] {
        sh.write(&format!("{name}/run.sh"), "#!/bin/sh\n");
        sh.write(&format!("{name}/sub/data"), noise(5000));
    }
    let mode = |name, mode| {
        fs::set_permissions(sh.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("one/t/run.sh", 0o755);
    mode("two/t/run.sh", 0o700);
    mode("one/t/sub/data", 0o644);
    mode("two/t/sub/data", 0o600);
    mode("two/t/sub", 0o700);
    let data = fs::File::options().write(true).open(sh.path("two/t/sub/data")).unwrap();
    data.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(sh.path("two/t/run.sh"), Some(1234), Some(1234)).unwrap();
    }
    for copy in ["one", "two"] {
        let line = format!("create {copy}.pefc -C {copy} t --reproducible");
        let output =
            sh.command(&words(&line)).env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(fs::read(sh.path("one.pefc")).unwrap(), fs::read(sh.path("two.pefc")).unwrap());
    let log = sh.ok("log one.pefc");
    assert!(log.out().contains("2023-11-14T22:13:20Z"), "{log:?}");
    let listed = sh.ok("list one.pefc --json").json_lines();
    assert!(listed.iter().all(|entry| entry["mtime"].as_str() == Some("1700000000.000000000")));
    assert!(listed.iter().all(|entry| entry["uid"].is_null() && entry["user"].is_null()));

    sh.ok("create timed.pefc one --time 86400");
    assert!(sh.ok("log timed.pefc").out().contains("1970-01-02T00:00:00Z"));
    sh.ok("create now.pefc one --time now");
    assert!(sh.ok("log now.pefc --json").json()["time"].as_u64().unwrap() > 1_700_000_000);
    sh.ok("create none.pefc one");
    assert!(sh.ok("log none.pefc --json").json()["time"].is_null());
    let bad =
        sh.command(&["create", "x", "one"]).env("SOURCE_DATE_EPOCH", "soon").output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn names_of_any_bytes() {
    let sh = Shell::new();
    fs::create_dir(sh.path("t")).unwrap();
    let names: [&[u8]; 4] = [b"new\nline", b"\x1b[31mred", b"latin\xe9", "größe".as_bytes()];
    for name in names {
        fs::write(sh.path("t").join(OsStr::from_bytes(name)), name).unwrap();
    }
    sh.ok("create p.pefc t -q");
    for line in ["list p.pefc", "list -l p.pefc"] {
        let listed = sh.ok(line);
        assert!(!listed.stdout.contains(&0x1b) && listed.out().lines().count() == 5, "{listed:?}");
        for part in ["t/new\\nline", "t/\\u{1b}[31mred", "t/latin\\xe9", "t/größe"] {
            assert!(listed.out().contains(part), "{listed:?}");
        }
    }
    let exact = sh.ok("list -0 p.pefc").stdout;
    for name in names {
        let key = [b"t/", name].concat();
        assert!(exact.split(|byte| *byte == 0).any(|is| is == key));
        let args = [OsString::from("cat"), "p.pefc".into(), OsString::from_vec(key)];
        let output = sh.command(&args).output().unwrap();
        assert_eq!(output.stdout, name);
    }
    let json = sh.ok("list p.pefc --json").json_lines();
    assert!(json.iter().any(|entry| entry["key_hex"] == "742f6c6174696ee9"), "{json:?}");
    let args = [OsString::from("cat"), "p.pefc".into(), OsString::from_vec(b"no\x1b\xff".to_vec())];
    let missing = sh.command(&args).output().unwrap();
    assert!(!missing.stderr.contains(&0x1b), "{missing:?}");
    sh.ok("extract p.pefc -C out");
    assert_eq!(snapshot(&sh.path("out/t")), snapshot(&sh.path("t")));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let sh = Shell::new();
    for index in 0..3000 {
        sh.write(&format!("t/{index:04}-{}", "long-name-".repeat(8)), "");
    }
    sh.write("t/big", noise(3 << 20));
    sh.ok("create p.pefc t -q");
    for line in ["list p.pefc", "list -l p.pefc", "list p.pefc --json", "cat p.pefc t/big"] {
        let mut child = sh.spawn(line, Stdio::null());
        let mut start = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut start).unwrap(); // and closes it
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{line}: {output:?}");
        assert!(output.stderr.is_empty(), "{line}: {output:?}");
    }
    for line in ["list p.pefc", "completions bash", "verify p.pefc"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = sh.command(&words(line)).stdout(full).output().unwrap();
        let error = str::from_utf8(&output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{line}: {error}");
        assert!(error.contains("standard output: No space left"), "{line}: {error}");
    }
}

#[test]
fn completions_for_shells() {
    let sh = Shell::new();
    for (shell, part) in
        [("bash", "complete -F _pefc"), ("zsh", "#compdef pefc"), ("fish", "complete -c pefc")]
    {
        let script = sh.ok(&format!("completions {shell}"));
        for part in [part, "verify", "strip-components"] {
            assert!(script.out().contains(part), "{shell}: no {part}");
        }
    }
    for verb in [
        "create", "append", "list", "cat", "extract", "log", "diff", "inspect", "verify", "recover",
    ] {
        let help = sh.ok(&format!("{verb} --help"));
        assert!(help.out().contains("Example"), "{verb}");
        assert!(help.out().lines().all(|line| line.chars().count() <= 100), "{verb}");
    }
    for help in ["--help", "-h"] {
        assert!(sh.ok(help).out().contains("141  standard output was closed"));
    }
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits until `is` holds, for ten seconds.
fn wait_until(mut is: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if is() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn ends(mut child: Child) -> Output {
    if !wait_until(|| child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        panic!("it goes on: {:?}", child.wait_with_output());
    }
    child.wait_with_output().unwrap()
}

fn is_temporary(name: &OsString) -> bool {
    name.as_bytes().ends_with(b".tmp")
}

#[test]
fn an_interrupted_create_leaves_nothing() {
    let sh = Shell::new();
    // It waits for input that never comes; and it is in the middle of a tree.
    let bytes = noise(3 << 20);
    for part in 0..12_u8 {
        // Text that takes long at level 19, and no two files with a chunk in common.
        let text = bytes.iter().map(|byte| b'a' + (byte ^ part) % 16);
        sh.write(&format!("t/{part}"), text.collect::<Vec<u8>>());
    }
    for line in ["create x.pefc -", "create x.pefc t --level 19 --threads 1"] {
        let mut child = sh.spawn(line, Stdio::piped());
        let open = child.stdin.take(); // it stays open
        assert!(wait_until(|| sh.names().iter().any(is_temporary)), "{line}");
        std::thread::sleep(Duration::from_millis(150));
        interrupt(&child);
        let output = ends(child);
        assert_eq!(output.status.code(), Some(130), "{line}: {output:?}");
        let error = str::from_utf8(&output.stderr).unwrap();
        assert!(error.contains("error[interrupted]"), "{line}: {error}");
        assert_eq!(sh.names(), ["t"], "{line}");
        drop(open);
    }
}

#[test]
fn an_interrupted_append_leaves_the_pack_as_it_was() {
    let sh = Shell::new();
    sh.write("t/a", "a");
    sh.ok("create p.pefc t");
    let before = fs::read(sh.path("p.pefc")).unwrap();
    let mut child = sh.spawn("append p.pefc -", Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&noise(20 << 20)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    let output = ends(child);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    // What was staged may be there as a tail that no reader counts.
    let after = fs::read(sh.path("p.pefc")).unwrap();
    assert_eq!(&after[..before.len()], before);
    assert_eq!(sh.ok("list p.pefc").out(), "t\nt/a\n");
    assert_eq!(after.len(), before.len(), "a tail of {} bytes", after.len() - before.len());
    sh.exits("verify p.pefc", 4);
    drop(stdin);
}

#[test]
fn a_reader_ends_at_the_first_signal() {
    let sh = Shell::new();
    sh.write("big", noise(4 << 20));
    sh.ok("create p.pefc big");
    let child = sh.spawn("cat p.pefc big", Stdio::null()); // nobody reads: it blocks
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    assert_eq!(ends(child).status.signal(), Some(2));
}
