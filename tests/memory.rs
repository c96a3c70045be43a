//! What the command needs of memory: bounded, whatever it packs and unpacks.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs, reason = "tests fail by panicking")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const BYTES_MAX: u64 = 256 << 20;
const BYTES_PER_ENTRY_MAX: u64 = 256;

fn spawn(dir: &Path, line: &str, stdin: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pefc"))
        .current_dir(dir)
        .args(line.split_whitespace())
        .stdin(stdin)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for the end; gives the largest resident set that it had, mapped pages of files included.
fn peak_bytes(mut child: Child, what: &str) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let code = loop {
        let now = fs::read_to_string(&status).unwrap_or_default();
        let line = now.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(code, Some(0), "{what}");
    assert!(peak_kib > 0, "{what}: never seen running");
    println!("{what}: {} MiB", peak_kib >> 10);
    peak_kib << 10
}

/// 1 MiB that compresses to a sixteenth or so, another for every `index`.
fn part(index: u32, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(64 << 10, 0);
    blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(buffer);
    let mut line = 0;
    while buffer.len() < 1 << 20 {
        writeln!(buffer, "part {index}, line {line}: nothing to see here").unwrap();
        line += 1;
    }
    buffer.truncate(1 << 20);
}

#[test]
fn a_large_file() {
    const PARTS: u32 = 600;
    let dir = TempDir::new().unwrap();
    let mut child = spawn(dir.path(), "create p.pefc - --threads 2", Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut buffer = Vec::new();
        for index in 0..PARTS {
            part(index, &mut buffer);
            stdin.write_all(&buffer).unwrap();
        }
    });
    let peak = peak_bytes(child, "create of one large file");
    feeder.join().unwrap();
    assert!(peak <= BYTES_MAX, "create: {peak}");

    let line = "extract p.pefc -C out --threads 2";
    let peak = peak_bytes(spawn(dir.path(), line, Stdio::null()), "extract of one large file");
    assert!(peak <= BYTES_MAX, "extract: {peak}");
    let len = fs::metadata(dir.path().join("out/stdin")).unwrap().len();
    assert_eq!(len, u64::from(PARTS) << 20);
}

#[test]
fn many_small_files() {
    const FILES: u64 = 40_000;
    let dir = TempDir::new().unwrap();
    for index in 0..FILES {
        let parent = dir.path().join(format!("t/{:03}", index / 200));
        if index.is_multiple_of(200) {
            fs::create_dir_all(&parent).unwrap();
        }
        fs::write(parent.join(format!("{index}.txt")), format!("file {index}\n")).unwrap();
    }
    let most = BYTES_MAX + FILES * BYTES_PER_ENTRY_MAX;
    for line in ["create p.pefc t --threads 2", "extract p.pefc -C out --threads 2"] {
        let peak = peak_bytes(spawn(dir.path(), line, Stdio::null()), line);
        assert!(peak <= most, "{line}: {peak}");
    }
    let mut files = fs::read_dir(dir.path().join("out/t/199")).unwrap();
    assert!(files.by_ref().count() == 200);
}
