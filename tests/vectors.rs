//! The packs in `spec/vectors/`: both readers say of each what its text file says.
#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::python::reader;
use common::vectors::Vector;
use pefc::format::Rule;
use pefc::{Error, Hash, Pack, VerifyOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors")
}

fn rule_of(error: &Error) -> String {
    let rule = error.format().map(|format| format.rule);
    rule.map_or_else(|| error.kind().name().to_owned(), |rule| rule.name().to_owned())
}

fn opened(bytes: &[u8]) -> String {
    match Pack::from_bytes(bytes.to_vec()) {
        Ok(_) => "ok".to_owned(),
        Err(error) => rule_of(&error),
    }
}

/// The text beside a pack.
fn text_of(vector: &Vector) -> String {
    let mut out = String::new();
    let expect = vector.expect.map_or("ok", Rule::name);
    writeln!(out, "comment: {}", vector.comment).unwrap();
    writeln!(out, "expect: {expect}").unwrap();
    writeln!(out, "open: {}", opened(&vector.bytes)).unwrap();
    if vector.expect.is_none() {
        let pack = Pack::from_bytes(vector.bytes.clone()).unwrap();
        for field in common::summary(&pack).split(' ').skip(1) {
            writeln!(out, "{}", field.replace('=', ": ")).unwrap();
        }
        for line in common::listing(&pack).lines() {
            let mut cells = line.splitn(4, ' ');
            let (space, name, _) = (cells.next(), cells.next(), cells.next());
            let key = cells.next().unwrap();
            writeln!(out, "key: {} {key} {}", space.unwrap(), name.unwrap()).unwrap();
        }
    }
    out
}

#[test]
fn vectors_are_current() {
    let write = std::env::var_os("PEFC_WRITE_VECTORS").is_some();
    let dir = directory();
    let vectors = common::vectors::all();
    if write {
        std::fs::create_dir_all(&dir).unwrap();
    }
    let mut names = BTreeSet::new();
    let mut total = 0;
    for vector in &vectors {
        let (pack, text) = (format!("{}.pefc", vector.name), format!("{}.txt", vector.name));
        assert!(names.insert(text.clone()), "{text} twice");
        names.insert(pack.clone());
        if write {
            std::fs::write(dir.join(&pack), &vector.bytes).unwrap();
            std::fs::write(dir.join(&text), text_of(vector)).unwrap();
        }
        total += vector.bytes.len();
        let hint = "set PEFC_WRITE_VECTORS=1 to write it anew, and look at what changed";
        let stored = std::fs::read(dir.join(&pack)).unwrap_or_default();
        assert!(stored == vector.bytes, "{pack} is not current: {hint}");
        let stored = std::fs::read_to_string(dir.join(&text)).unwrap_or_default();
        assert_eq!(stored, text_of(vector), "{text}: {hint}");
    }
    let found: BTreeSet<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, names, "files that no vector makes, or the other way round");
    assert!(total < 1 << 20, "{total} bytes");
    let covered: BTreeSet<Rule> = vectors.iter().filter_map(|vector| vector.expect).collect();
    let missing: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !covered.contains(rule)).collect();
    assert!(missing.is_empty(), "no vector breaks {missing:?}");
}

/// What a text file says, by key.
fn parse(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let known = [
        "comment",
        "expect",
        "open",
        "generation",
        "log_size",
        "log_root",
        "map_root",
        "torn",
        "key",
    ];
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (key, value) = line.split_once(": ").unwrap();
        assert!(known.contains(&key), "unknown key {key}");
        found.entry(key).or_default().push(value);
    }
    found
}

fn vectors() -> Vec<(String, PathBuf, String)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().filter(|path| path.extension().is_some_and(|e| e == "txt"));
    texts
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, path.with_extension("pefc"), std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The rules that the library reports, in the order of the file.
fn verified(bytes: &[u8]) -> Vec<String> {
    match Pack::from_bytes(bytes.to_vec()) {
        Err(error) => vec![rule_of(&error)],
        Ok(pack) => {
            let report = pack.verify(&VerifyOptions::default()).unwrap();
            let rules = report.problems.iter().map(|problem| problem.rule.map_or("io", Rule::name));
            rules.map(str::to_owned).collect()
        }
    }
}

#[test]
fn the_library_finds_every_fault() {
    let mut wrong = String::new();
    for (name, path, text) in vectors() {
        let said = parse(&text);
        let bytes = std::fs::read(path).unwrap();
        let (expect, open) = (said["expect"][0], said["open"][0]);
        assert_eq!(opened(&bytes), open, "{name}");
        let found = verified(&bytes);
        let fits = match expect {
            "ok" => found.is_empty(),
            // A file that does not open is not verified: it was refused, and for a reason.
            _ => found.iter().any(|found| found == expect) || open != "ok",
        };
        if !fits {
            writeln!(wrong, "{name}: {expect} expected, {found:?} found").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_vector_gives_wrong_content() {
    for (name, path, _) in vectors() {
        let Ok(pack) = Pack::open(&path) else {
            continue;
        };
        for space in 0..3 {
            for put in pack.entries_under(pefc::Key::new(space, b"".as_slice())) {
                let Ok(put) = put else { break };
                let Some(content) = put.content else { continue };
                if let Ok(Some(bytes)) = pack.object(&content.name) {
                    assert_eq!(Hash::of(&bytes), content.name, "{name}");
                }
            }
        }
    }
}

#[test]
fn the_second_reader_finds_every_fault() {
    let mut wrong = String::new();
    for (name, path, text) in vectors() {
        let said = parse(&text);
        let expect = said["expect"][0];
        let output = reader("verify", &path, &[]);
        let (out, errors) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        if expect == "ok" {
            let summary = ["generation", "log_size", "log_root", "map_root", "torn"]
                .map(|key| format!(" {key}={}", said[key][0]))
                .concat();
            if out.trim_end() != format!("ok{summary}") {
                writeln!(wrong, "{name}: {out}{errors}").unwrap();
            }
        } else if output.status.code() != Some(1) || errors.split(' ').next() != Some(expect) {
            writeln!(wrong, "{name}: {expect} expected, {out}{errors}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
