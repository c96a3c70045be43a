//! What is stored: records of Debian packages as JSON, from the lists that `apt-get update` leaves
//! on any Debian machine.
//!
//! Of each package of the archive up to four records are made, and one of each source package:
//!
//! | key | record |
//! |---|---|
//! | `deb/pkg/NAME` | its paragraph of `Packages`, field by field |
//! | `deb/dep/NAME` | its dependencies, taken apart |
//! | `deb/file/NAME` | where its file is, how long it is and its hashes |
//! | `deb/tag/NAME` | its tags with its description |
//! | `deb/src/NAME` | the binary packages of a source package |
//!
//! Records of less than 200 and more than 2,000 bytes are left out; the rest is shuffled with a
//! fixed seed, and the first ones are taken. So the same lists give the same workload.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::process::Command;

pub type Record = (Vec<u8>, Vec<u8>);

/// Bytes of a record.
const RECORD_BYTES: std::ops::RangeInclusive<usize> = 200..=2000;

const SEED: u64 = 0x7065_6663;

/// SplitMix64: enough to shuffle with, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(SEED ^ seed)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// The lists of packages, as text.
fn lists() -> Vec<String> {
    let dir = "/var/lib/apt/lists";
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{dir}: {error}; this needs a Debian machine"))
        .map(|entry| entry.expect("listing a directory").path())
        .filter(|path| path.to_string_lossy().contains("_Packages"))
        .collect();
    paths.sort();
    // apt keeps them compressed in one of several ways, and has a tool that knows them all.
    let read = |path| {
        let out = Command::new("/usr/lib/apt/apt-helper").arg("cat-file").arg(path).output();
        let out = out.expect("apt-helper, of the package apt");
        assert!(out.status.success(), "apt-helper: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    paths.iter().map(read).collect()
}

/// The fields of a paragraph.
fn fields(paragraph: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut last = String::new();
    for line in paragraph.lines() {
        if let Some(more) = line.strip_prefix(' ') {
            if let Some(Value::String(text)) = fields.get_mut(&last) {
                text.push('\n');
                text.push_str(more);
            }
        } else if let Some((name, text)) = line.split_once(": ") {
            last = name.to_owned();
            fields.insert(last.clone(), text.into());
        }
    }
    fields
}

fn some_fields(all: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), all.get(*name)?.clone()))).collect()
}

/// `a (>= 1), b | c` taken apart.
fn relations(text: &str) -> Value {
    let one = |part: &str| {
        let part = part.trim();
        match part.split_once(" (") {
            Some((name, rest)) => {
                let (relation, version) =
                    rest.trim_end_matches(')').split_once(' ').unwrap_or(("=", rest));
                json!({ "package": name, "relation": relation, "version": version })
            }
            None => json!({ "package": part }),
        }
    };
    let all = text.split(',').map(|group| match group.contains('|') {
        true => json!({ "any": group.split('|').map(one).collect::<Vec<_>>() }),
        false => one(group),
    });
    all.collect()
}

/// All records that the lists give, one for each key, in the order of the keys.
fn all_records() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    let mut sources: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut add = |kind: &str, name: &str, record: &Value| {
        let bytes = serde_json::to_vec(record).expect("maps with text as keys");
        if RECORD_BYTES.contains(&bytes.len()) {
            records.entry(format!("deb/{kind}/{name}").into_bytes()).or_insert(bytes);
        }
    };
    for list in lists() {
        for paragraph in list.split("\n\n") {
            let package = fields(paragraph);
            let text = |name| package.get(name).and_then(Value::as_str);
            let Some(name) = text("Package") else {
                continue;
            };
            let mut dependencies = some_fields(&package, &["Package", "Version", "Architecture"]);
            for field in ["Depends", "Recommends", "Suggests", "Breaks", "Replaces", "Provides"] {
                if let Some(text) = text(field) {
                    dependencies.insert(field.to_owned(), relations(text));
                }
            }
            add("dep", name, &dependencies.into());
            let file = ["Package", "Version", "Filename", "Size", "MD5sum", "SHA256"];
            add("file", name, &some_fields(&package, &file).into());
            let mut tags =
                some_fields(&package, &["Package", "Description", "Homepage", "Section"]);
            if let Some(text) = text("Tag") {
                let each = text.split([',', '\n']).map(str::trim).filter(|tag| !tag.is_empty());
                tags.insert("Tags".to_owned(), each.collect());
                add("tag", name, &tags.into());
            }
            let source = text("Source").unwrap_or(name);
            let source = source.split(' ').next().unwrap_or(source);
            let of_source = ["Package", "Version", "Architecture", "Section", "Maintainer"];
            let binaries = sources.entry(source.to_owned()).or_default();
            binaries.push(some_fields(&package, &of_source).into());
            add("pkg", name, &package.clone().into());
        }
    }
    for (name, binaries) in &sources {
        add("src", name, &json!({ "Source": name, "Binaries": binaries }));
    }
    records
}

/// `count` records in the order in which they are put.
pub fn records(count: usize) -> Vec<Record> {
    let mut records: Vec<Record> = all_records().into_iter().collect();
    let found = records.len();
    assert!(found >= count, "the lists of apt give {found} records only: `apt-get update`");
    Rng::new(0).shuffle(&mut records);
    records.truncate(count);
    records
}

/// More records than there are: each again and again under other keys, with a number in it, so that
/// all differ.
pub fn many(records: &[Record], count: usize) -> impl Iterator<Item = Record> + '_ {
    (0..count).map(|number| one_of_many(records, number))
}

/// One of them.
pub fn one_of_many(records: &[Record], number: usize) -> Record {
    let (key, value) = &records[number % records.len()];
    let turn = number / records.len();
    let key = [format!("turn/{turn}/").as_bytes(), key].concat();
    let value = [format!("{{\"Turn\":{turn},").as_bytes(), &value[1..]].concat();
    (key, value)
}

/// The prefix, of those that end behind a letter, under which about `wanted` keys are.
pub fn prefix(records: &[Record], wanted: usize) -> (Vec<u8>, usize) {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (key, _) in records {
        for len in 1..key.len().min(12) {
            *counts.entry(&key[..len]).or_default() += 1;
        }
    }
    let best =
        counts.into_iter().min_by_key(|(prefix, count)| (count.abs_diff(wanted), prefix.len()));
    best.map(|(prefix, count)| (prefix.to_vec(), count)).unwrap_or_default()
}
