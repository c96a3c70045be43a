//! The specification against the code: its tables, its example, and its second reader.
#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::python::reader;
use pefc::format::frame::{Codec, FrameKind};
use pefc::format::{self, Rule, commit, frame, segment};
use pefc::{Key, Pack, WriteOptions, Writer};
use std::path::Path;

const SPEC: &str = include_str!("../spec/format.md");

/// The cells of the rows of a table.
fn table(name: &str) -> Vec<Vec<&'static str>> {
    let heading = format!("### Table: {name}\n");
    let (_, rest) = SPEC.split_once(&heading).unwrap_or_else(|| panic!("no table {name}"));
    let rows = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Fields without gaps, and those of the code; `own` says what the code calls none of its fields.
fn check_fields(name: &str, fields: &[(&str, usize, usize)], len: usize, own: &[&str]) {
    let mut end = 0;
    let mut known = fields.iter();
    for row in table(name) {
        let (at, size): (usize, usize) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        assert_eq!(at, end, "{name}: {}", row[2]);
        end += size;
        if !own.contains(&row[2]) {
            assert_eq!(known.next(), Some(&(row[2], at, size)), "{name}");
        }
    }
    assert_eq!((end, known.next()), (len, None), "{name}");
}

#[test]
fn layouts_are_those_of_the_code() {
    use format::index::{DirectoryRow, ObjectRow};
    use format::object::RecordRow;
    check_fields("segment header", &segment::FIELDS, segment::SegmentHeader::LEN, &["check"]);
    check_fields("frame header", &frame::FIELDS, frame::FrameHeader::LEN, &["check"]);
    check_fields("commit", &commit::FIELDS, commit::FIXED_LEN, &[]);
    let own = ["kind", "frame_offset", "head_hash"];
    check_fields("section row", &[], commit::SECTION_LEN, &own);
    let own = ["segment_offset", "frame_offset", "magic"];
    check_fields("trailer", &[], commit::TRAILER_LEN, &own);
    let own = ["prefix", "end", "raw_bytes", "place"];
    check_fields("record row", &[], RecordRow::LEN, &own);
    check_fields("object row", &[], ObjectRow::LEN, &own);
    let own = ["frame_offset", "frame_check", "key_at", "key_len"];
    check_fields("directory row", &[], DirectoryRow::LEN, &own);
    check_fields("section head", &[], 16, &["count", "parameter"]);
    let head = pefc::segment::EntryTable::HEAD_LEN;
    check_fields("entries head", &[], head, &["first_index"]);
    check_fields("signatures head", &[], format::signature::HEAD_LEN, &["previous"]);
    let hex = |bytes: &[u8]| -> String {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(" ")
    };
    for (name, magic) in [
        ("segment header", &segment::MAGIC[..]),
        ("frame header", &frame::MAGIC),
        ("trailer", &commit::TRAILER_MAGIC),
    ] {
        let stated = format!("`{}`", hex(magic));
        let row = table(name).into_iter().find(|row| row[2] == "magic");
        assert!(row.unwrap()[3].starts_with(&stated), "{name}");
    }
}

#[test]
fn numbers_are_those_of_the_code() {
    let kinds: Vec<(u8, &str)> =
        table("kinds").iter().map(|row| (row[0].parse().unwrap(), row[1])).collect();
    let defined: Vec<(u8, &str)> =
        FrameKind::DEFINED.iter().map(|kind| (kind.number(), kind.name())).collect();
    assert_eq!(kinds, defined);
    let all = [Codec::Raw, Codec::Zstd, Codec::ZstdPrefix, Codec::ZstdDictionary];
    let codecs: Vec<(u8, &str)> =
        table("codecs").iter().map(|row| (row[0].parse().unwrap(), row[1])).collect();
    let known: Vec<(u8, &str)> = all.iter().map(|codec| (*codec as u8, codec.name())).collect();
    assert_eq!(codecs, known);
    use format::signature::SignatureFormat as Signed;
    let formats: Vec<(u64, &str)> =
        table("signature formats").iter().map(|row| (row[0].parse().unwrap(), row[1])).collect();
    let known = [
        Signed::Note,
        Signed::Ssh,
        Signed::Minisign,
        Signed::Cose,
        Signed::TimeStamp,
        Signed::OpenTimestamps,
    ];
    let known: Vec<(u64, &str)> = known.iter().map(|f| (f.number(), f.name())).collect();
    assert_eq!(formats, known);
    for row in table("allowed codecs") {
        for name in row[0].split(", ") {
            let kind = FrameKind::DEFINED.into_iter().find(|kind| kind.name() == name);
            let Some(kind) = kind else {
                assert_eq!(name, "128 and above");
                continue;
            };
            let allowed: Vec<&str> =
                all.iter().filter(|codec| kind.allows(**codec)).map(|codec| codec.name()).collect();
            assert_eq!(row[1], allowed.join(", "), "{name}");
        }
    }
}

#[test]
fn limits_are_those_of_the_code() {
    let known: [(&str, u64); 17] = [
        ("ALIGN", format::ALIGN),
        ("FRAME_RAW_BYTES_MAX", format::FRAME_RAW_BYTES_MAX.into()),
        ("LIST_BYTES_MAX", format::LIST_BYTES_MAX.into()),
        ("REFERENCE_BYTES_MAX", format::REFERENCE_BYTES_MAX),
        ("REFERENCES_MAX", format::REFERENCES_MAX.into()),
        ("REFERENCE_DEPTH_MAX", format::REFERENCE_DEPTH_MAX.into()),
        ("WINDOW_LOG_MAX", format::WINDOW_LOG_MAX.into()),
        ("KEY_BYTES_MAX", format::KEY_BYTES_MAX as u64),
        ("ENTRY_BYTES_MAX", format::ENTRY_BYTES_MAX as u64),
        ("DEPTH_MAX", format::cbor::DEPTH_MAX.into()),
        ("TAIL_BYTES_MAX", format::TAIL_BYTES_MAX),
        ("UNINDEXED_BYTES_MAX", format::UNINDEXED_BYTES_MAX),
        ("OBJECT_BYTES_MAX", format::OBJECT_BYTES_MAX),
        ("GROUP_BYTES", pefc::hash::GROUP_BYTES),
        ("PAGE_BYTES", format::index::PAGE_BYTES),
        ("ITEMS_MAX", format::Locator::ITEMS_MAX.into()),
        ("OFFSET_END", format::Locator::OFFSET_END),
    ];
    let stated: Vec<(&str, u64)> =
        table("limits").iter().map(|row| (row[0], row[1].parse().unwrap())).collect();
    assert_eq!(stated, known);
}

#[test]
fn rules_are_those_of_the_code() {
    let names: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    let stated: Vec<&str> = table("rules").iter().map(|row| row[0]).collect();
    assert_eq!(stated, names);
    for row in table("rules") {
        let rule = Rule::ALL.into_iter().find(|rule| rule.name() == row[0]);
        let class = pefc::Error::from(format::FormatError::new(rule.unwrap(), 0)).kind();
        assert_eq!(row[1], class.name(), "{}", row[0]);
    }
    // Every rule that the text names in parentheses is one.
    for part in SPEC.split("(`").skip(1) {
        let name = part.split('`').next().unwrap();
        let is_rule = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let is_other = ["next_unit", "flock"].contains(&name);
        assert!(!is_rule || is_other || names.contains(&name), "{name}");
    }
}

fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut state = seed;
    while out.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(
            format!("lemma l{} by rule {}.\n", state >> 44, state >> 60).as_bytes(),
        );
    }
    out.truncate(len);
    out
}

fn options(layout: segment::Layout) -> WriteOptions {
    WriteOptions { threads: 1, layout, ..WriteOptions::default() }
}

/// Both readers say the same of a pack.
fn agree(path: &Path) {
    let pack = Pack::open(path).unwrap();
    let report = pack.verify(&pefc::VerifyOptions::default()).unwrap();
    assert!(report.is_intact(), "{}: {report:?}", path.display());
    let output = reader("verify", path, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", path.display());
    assert_eq!(said.trim_end(), common::summary(&pack), "{}", path.display());
    let output = reader("list", path, &[]);
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed == common::listing(&pack), "{}", path.display());
}

#[test]
fn the_second_reader_reads_what_the_library_writes() {
    use segment::Layout::{Archive, Records};
    let dir = tempfile::tempdir().unwrap();

    // Versions of a large text: chunk lists, and frames that refer to earlier ones.
    let path = dir.path().join("versions.pefc");
    let mut content = text(1, 3_000_000);
    for version in 0..4_u8 {
        for at in (usize::from(version) * 1000..content.len()).step_by(200_000) {
            content[at] = b'0' + version;
        }
        let mut writer = match version {
            0 => Writer::create(&path, options(Archive)).unwrap(),
            _ => Writer::append(&path, options(Archive)).unwrap(),
        };
        writer.put(&format!("v{version}.txt"), &content).unwrap();
        writer.put("newest", &[version; 40]).unwrap();
        writer.finish().unwrap();
    }
    let frames = Pack::open(&path).unwrap().frames().unwrap();
    assert!(frames.iter().any(|frame| frame.codec == Codec::ZstdPrefix));
    assert!(frames.iter().any(|frame| frame.kind == FrameKind::Lists));
    agree(&path);
    let output = reader("cat", &path, &["v3.txt"]);
    assert!(output.status.success() && output.stdout == content);

    // Records with a dictionary, and a tail of commits behind the last seal.
    let path = dir.path().join("records.pefc");
    let mut writer = Writer::create(&path, options(Records)).unwrap();
    for i in 0..4000_u64 {
        let key = Key::storage(format!("{i}").into_bytes());
        writer.put(key, &text(i, 300 + (i % 500) as usize)).unwrap();
    }
    writer.seal().unwrap();
    for round in 0..3_u64 {
        let key = Key::storage(format!("tail {round}").into_bytes());
        writer.put(key, &round.to_le_bytes()).unwrap();
        writer.delete(Key::storage(format!("{round}").into_bytes())).unwrap();
        writer.commit().unwrap();
    }
    drop(writer);
    let frames = Pack::open(&path).unwrap().frames().unwrap();
    let dictionaries = frames.iter().filter(|frame| frame.codec == Codec::ZstdDictionary);
    assert!(dictionaries.count() > 1);
    agree(&path);

    // Many appended segments: units that were merged, with key pages.
    let path = dir.path().join("merged.pefc");
    for round in 0..12_u64 {
        let mut writer = match round {
            0 => Writer::create(&path, options(Archive)).unwrap(),
            _ => Writer::append(&path, options(Archive)).unwrap(),
        };
        for key in 0..200_u64 {
            let value = text(key * 100 + round, 400);
            writer.put(&format!("{}/{key}", (key + round) % 7), &value).unwrap();
        }
        writer.delete(&format!("{}/{}", (round + 5) % 7, 5)).unwrap();
        writer.finish().unwrap();
    }
    let frames = Pack::open(&path).unwrap().frames().unwrap();
    assert!(frames.iter().any(|frame| frame.kind == FrameKind::Keys));
    agree(&path);

    // A crash in the middle of an append.
    let whole = std::fs::read(&path).unwrap();
    let path = dir.path().join("torn.pefc");
    std::fs::write(&path, &whole[..whole.len() - 1000]).unwrap();
    assert!(Pack::open(&path).unwrap().torn_bytes() > 0);
    agree(&path);
}

#[test]
fn the_example_is_current() {
    const BEGIN: &str = "<!-- example:begin -->\n";
    let (before, rest) = SPEC.split_once(BEGIN).unwrap();
    let (stored, after) = rest.split_once("<!-- example:end -->").unwrap();
    let example = common::example::example(&common::vectors::minimal());
    if std::env::var_os("PEFC_WRITE_VECTORS").is_some() {
        let text = format!("{before}{BEGIN}{example}<!-- example:end -->{after}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/format.md");
        std::fs::write(path, text).unwrap();
    } else {
        assert!(stored == example, "set PEFC_WRITE_VECTORS=1 to write the example anew");
    }
}

#[test]
fn faults_are_those_of_the_code() {
    let text = include_str!("../spec/proofs.md");
    let (_, rest) = text.split_once("### Table: faults\n\n").unwrap();
    let rows = rest.lines().take_while(|line| line.starts_with('|')).skip(2);
    let stated: Vec<Vec<&str>> =
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let known: Vec<Vec<&str>> =
        pefc::proof::Fault::ALL.iter().map(|fault| vec![fault.name(), fault.what()]).collect();
    assert_eq!(stated, known);
}
