//! Storages and backups from a shell: the configuration that the first users wrote drives every
//! command on an empty machine.
#![cfg(all(feature = "cli", feature = "sqlite", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    reason = "tests fail by panicking; numbers here are small"
)]

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const SKETCH: &str = r#"persistence:
  default_storage: "file"
  storages:
    file:     { type: "file",     base_path: "data/storage" }
    database: { type: "database", db_path: "data/xme.db" }
    pack:     { type: "pack",     pack_path: "data/packs" }
    cache:    { type: "cache",    ttl: 3600 }
  backup: { enabled: true, schedule: "daily", retention: 30, path: "data/backups" }
"#;

/// Storages that outlive a process.
const LASTING: [&str; 3] = ["file", "database", "pack"];

struct Shell {
    dir: TempDir,
}

impl Shell {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pefc.yaml"), config).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the words of `line` with `input`.
    fn run_with(&self, line: &str, input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pefc"))
            .current_dir(self.dir.path())
            .env_remove("PEFC_CONFIG")
            .args(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who does not read it has closed the pipe by then.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn exits(&self, line: &str, code: i32) -> (String, String) {
        let output = self.run_with(line, b"");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "pefc {line}\n{out}\n{err}");
        (out, err)
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.exits(line, 0).0
    }

    #[track_caller]
    fn put(&self, line: &str, input: &[u8]) {
        let output = self.run_with(line, input);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "pefc {line}\n{err}");
    }

    /// The JSON lines that a command prints.
    #[track_caller]
    fn json(&self, line: &str) -> Vec<Value> {
        let out = self.ok(&format!("{line} --json"));
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn the_sketch_drives_every_command() {
    let shell = Shell::new(SKETCH);
    shell.ok("config --check");
    for storage in LASTING {
        shell.put(&format!("put proofs/one --storage {storage}"), b"qed");
        shell.put(&format!("put ../x%*_[ --storage {storage}"), storage.as_bytes());
        assert_eq!(shell.ok(&format!("get proofs/one -s {storage}")), "qed");
        assert_eq!(shell.ok(&format!("get ../x%*_[ -s {storage}")), storage);
        assert_eq!(shell.ok(&format!("keys -s {storage}")), "../x%*_[\nproofs/one\n");
        assert_eq!(shell.ok(&format!("keys proofs -s {storage}")), "proofs/one\n");
        let keys = shell.json(&format!("keys proofs/ -s {storage}"));
        assert_eq!((&keys[0]["key"], &keys[0]["size_bytes"]), (&"proofs/one".into(), &3.into()));
        assert_eq!(shell.json(&format!("stat proofs/one -s {storage}"))[0], keys[0]);
        shell.exits(&format!("get nothing -s {storage}"), 10);
        shell.exits(&format!("rm nothing -s {storage}"), 10);
        shell.ok(&format!("rm nothing -f -s {storage}"));
    }
    assert!(!shell.path("../x%*_[").exists(), "a key is no path");
    shell.put("put k -s cache", b"forgotten with the process");
    shell.exits("get k -s cache", 10);
    assert_eq!(shell.ok("get proofs/one"), "qed");

    let stat = shell.json("stat");
    assert_eq!(stat.iter().filter(|line| line["key_count"] == 2).count(), 3, "{stat:?}");
    let id = shell.json("backup run")[0]["id"].as_str().unwrap().to_owned();
    for storage in LASTING {
        shell.ok(&format!("rm proofs/one ../x%*_[ -s {storage}"));
        assert_eq!(shell.ok(&format!("keys -s {storage}")), "");
    }
    shell.ok("gc");
    shell.ok("compact");
    shell.ok("backup verify");
    shell.ok(&format!("backup restore {id} --exact"));
    for storage in LASTING {
        assert_eq!(shell.ok(&format!("get ../x%*_[ -s {storage}")), storage);
    }
    assert_eq!(shell.json("backup list").len(), 1);
    let run = &shell.json("backup run --if-due")[0];
    assert_eq!(run["due"], false, "{run}");
    let plan = shell.json("backup prune --dry-run");
    assert_eq!((plan.len(), &plan[0]["keep"]), (1, &Value::Bool(true)));
    // A pack storage is a pack like any other.
    assert!(shell.ok("list data/packs/storage.pefc --space storage").contains("proofs/one"));
}

#[test]
fn values_keep_their_types_and_names() {
    let shell = Shell::new(SKETCH);
    shell.put("put a --value", br#"{"b": 1, "a": [1.5, null, "x"]}"#);
    shell.put("put b --value -s database", br#"{ "a":[1.5,null,"x"], "b":1 }"#);
    assert_eq!(shell.ok("get a --value"), "{\"a\":[1.5,null,\"x\"],\"b\":1}\n");
    let name = |line: &str| shell.json(line)[0]["b3"].clone();
    assert_eq!(name("stat a"), name("stat b -s database"));
    assert_eq!(shell.run_with("put c --value", b"{nonsense").status.code(), Some(14));
    shell.put("put raw", b"\xff\xfe");
    shell.exits("get raw --value", 14);
}

#[test]
fn who_comes_second_is_told() {
    let shell = Shell::new(SKETCH);
    for storage in LASTING {
        shell.put(&format!("put lock --new -s {storage}"), b"me");
        let second = shell.run_with(&format!("put lock --new -s {storage}"), b"you");
        assert_eq!(second.status.code(), Some(13));
        let b3 = shell.json(&format!("stat lock -s {storage}"))[0]["b3"].clone();
        let b3 = b3.as_str().unwrap();
        shell.put(&format!("put lock --expect {b3} -s {storage}"), b"next");
        let stale = shell.run_with(&format!("put lock --expect {b3} -s {storage}"), b"late");
        assert_eq!(stale.status.code(), Some(13));
        assert_eq!(shell.ok(&format!("get lock -s {storage}")), "next");
    }
}

#[test]
fn one_key_from_a_backup() {
    let shell = Shell::new(SKETCH);
    shell.put("put a", b"1");
    shell.put("put b", b"2");
    shell.ok("backup run");
    shell.put("put a", b"changed");
    shell.put("put b", b"changed");
    let report = &shell.json("backup restore latest --storage file --key a")[0];
    assert_eq!((&report["restored_count"], &report["into"]), (&1.into(), &"file".into()));
    assert_eq!((shell.ok("get a"), shell.ok("get b")), ("1".to_owned(), "changed".to_owned()));
    shell.ok("backup restore latest --storage file --into database");
    assert_eq!(shell.ok("get b -s database"), "2");
    shell.exits("backup restore latest --storage file --key nothing", 10);
    shell.exits("backup restore latest --storage none", 10);
    shell.exits("backup restore 1999", 10);
    shell.exits("backup restore latest --key a", 2);
}

#[test]
fn damage_has_its_exit_code() {
    let shell = Shell::new(SKETCH);
    let noise: Vec<u8> =
        (0..600_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    shell.put("put bad", &noise);
    shell.put("put good", b"fine");
    shell.ok("backup run");
    for dir in ["data/content/segments", "data/backups/content/segments"] {
        for entry in fs::read_dir(shell.path(dir)).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            let found = bytes.windows(100).position(|window| window == &noise[40_000..40_100]);
            if let Some(at) = found {
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
    }
    let (_, err) = shell.exits("get bad", 20);
    assert!(err.contains("error[corrupt]"), "{err}");
    assert_eq!(shell.ok("get good"), "fine");
    let (out, _) = shell.exits("backup verify", 20);
    assert!(out.contains("DAMAGED"), "{out}");
    // The only snapshot is known to be damaged: a backup is due, and can't be good either.
    let (out, err) = shell.exits("backup run --if-due", 20);
    assert!(err.contains("bad"), "{out}{err}");
    shell.exits("backup restore latest", 10);
    shell.put("put bad", b"right");
    shell.ok("backup run --if-due");
    let text = shell.ok("stat --prometheus");
    assert!(text.contains("pefc_backup_snapshots 3\n"), "{text}");
    assert!(text.contains("pefc_backup_damaged_snapshots 2\n"), "{text}");
}

#[test]
fn a_storage_that_is_unplugged_keeps_its_contents() {
    let shell = Shell::new(SKETCH);
    shell.put("put a", b"precious");
    fs::rename(shell.path("data/storage"), shell.path("elsewhere")).unwrap();
    for line in ["gc", "put a", "keys", "backup run"] {
        let (_, err) = shell.exits(line, 20);
        assert!(err.contains("--forget-root"), "{err}");
    }
    assert!(!shell.path("data/storage").exists(), "looking makes nothing");
    fs::rename(shell.path("elsewhere"), shell.path("data/storage")).unwrap();
    shell.ok("gc");
    assert_eq!(shell.ok("get a"), "precious");
    fs::remove_dir_all(shell.path("data/storage")).unwrap();
    let root = shell.path("data/storage").canonicalize().unwrap_or(shell.path("data/storage"));
    shell.ok(&format!("gc --forget-root {}", root.display()));
    assert_eq!(shell.json("stat -s database")[1]["object_count"], 0);
}

#[test]
fn faults_have_their_exit_codes() {
    let shell = Shell::new(SKETCH);
    let (_, err) = shell.exits("get k --storage dtabase", 10);
    assert!(err.contains("did you mean \"database\"?"), "{err}");
    shell.exits("get k --config none.yaml", 10);
    shell.exits("backup list", 10);
    let long = "k".repeat(4097);
    let (_, err) = shell.exits(&format!("get {long}"), 2);
    assert!(err.contains("invalid-key"), "{err}");

    fs::create_dir_all(shell.path("data")).unwrap();
    fs::write(shell.path("data/xme.db"), vec![b'x'; 8192]).unwrap();
    let (_, err) = shell.exits("get k -s database", 21);
    assert!(err.contains("not-a-database"), "{err}");
    let (out, _) = shell.exits("stat", 20);
    assert!(
        out.contains("file (file): 0 keys"),
        "one that is broken is no trouble to others: {out}"
    );

    let broken = Shell::new("persistence:\n  storages:\n    file: { type: flie }\n");
    for line in ["get k", "keys", "backup run", "gc", "config --check"] {
        let (_, err) = broken.exits(line, 15);
        assert!(err.contains("line 3, column 19") && err.contains("did you mean `file`?"), "{err}");
    }
    let disabled = Shell::new("persistence: { storages: { file: { type: file } } }");
    shell.exits("backup prune --dry-run --forget x", 2);
    disabled.exits("backup daemon", 2);
    assert_eq!(disabled.json("backup run --if-due")[0]["due"], false);
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let shell = Shell::new(SKETCH);
    shell.put("put a -s pack", b"12345");
    let text = shell.ok("stat --prometheus");
    assert!(
        text.contains("pefc_storage_value_bytes{storage=\"pack\",type=\"pack\"} 5\n"),
        "{text}"
    );
    let no_time = !text.contains("\npefc_backup_last_good_timestamp_seconds ");
    assert!(no_time, "no backup, no time: {text}");
    shell.ok("backup run");
    let text = shell.ok("stat --prometheus");
    for line in text.lines() {
        let is_comment = line.starts_with("# HELP pefc_") || line.starts_with("# TYPE pefc_");
        let value = line.rsplit_once(' ').map(|(_, value)| value.parse::<f64>().is_ok());
        assert!(is_comment || (line.starts_with("pefc_") && value == Some(true)), "{line}");
    }
    assert!(text.contains("\npefc_backup_last_good_timestamp_seconds 1"), "{text}");
}

#[test]
fn the_daemon_makes_what_is_due_and_ends_when_asked() {
    let shell = Shell::new(SKETCH);
    shell.put("put a", b"1");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_pefc"))
        .current_dir(shell.dir.path())
        .args(["backup", "daemon", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut lines = std::io::BufReader::new(daemon.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut first).unwrap();
    let line: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&line["good"], &line["due"]), (&true.into(), &true.into()));
    let ended = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
    assert!(ended.success());
    assert!(daemon.wait().unwrap().success());
    assert_eq!(shell.json("backup list").len(), 1);
}

/// The section "Storage" of the README, word for word: its configuration, then its commands.
#[test]
fn the_readme_works_as_it_stands() {
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once("\n## Storage\n").unwrap();
    let block = |kind: &str| {
        let (_, after) = section.split_once(&format!("```{kind}\n")).unwrap();
        after.split_once("```").unwrap().0
    };
    assert_eq!(block("yaml"), SKETCH);
    let shell = Shell::new(block("yaml"));
    let program = PathBuf::from(env!("CARGO_BIN_EXE_pefc"));
    let path = std::env::var("PATH").unwrap();
    let ran = Command::new("sh")
        .args(["-ec", block("sh")])
        .current_dir(shell.dir.path())
        .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    assert!(out.contains("qed\n") && out.contains("{\"n\":7}\n"), "{out}");
    // Every command that the units run is one that there is.
    let unit = section.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let line = unit.strip_prefix("/usr/local/bin/pefc ").unwrap();
    shell.ok(&line.replace("/srv/pefc/", ""));
}
