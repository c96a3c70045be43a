//! The library end to end on real files: what is put comes back, across commits, seals, appends and
//! generations.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

use pefc::{ErrorKind, Hash, Key, OpenOptions, Pack, WriteOptions, Writer};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

fn options(threads: usize) -> WriteOptions {
    WriteOptions { threads, ..WriteOptions::default() }
}

fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut out);
    out
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

#[test]
fn what_is_put_comes_back() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let contents: Vec<(String, Vec<u8>)> = [
        ("empty", Vec::new()),
        ("small", b"qed".to_vec()),
        ("twice", b"qed".to_vec()),
        ("text", text(1, 700_000)),
        ("noise", noise("n", 900_000)),
        ("large text", text(2, 5_000_000)),
        ("large noise", noise("m", 9_000_001)),
        ("group and a byte", text(3, 1_048_577)),
    ]
    .map(|(key, content)| (key.to_owned(), content))
    .to_vec();
    let mut writer = Writer::create(&path, options(2)).unwrap();
    for (key, content) in &contents {
        assert_eq!(writer.put(key, content).unwrap(), Hash::of(content));
    }
    assert!(dir.names().iter().all(|name| name != "a.pefc"), "no file before the commit");
    let stats = writer.finish().unwrap();
    assert_eq!(dir.names(), ["a.pefc"]);
    assert_eq!((stats.generation, stats.put_count), (1, 8));

    for mapped in [true, false] {
        let open = OpenOptions { mapped, ..OpenOptions::default() };
        let pack = Pack::open_with(&path, open).unwrap();
        for (key, content) in &contents {
            assert!(pack.get(key).unwrap().as_ref() == Some(content), "{key}");
            assert!(pack.object(&Hash::of(content)).unwrap().as_ref() == Some(content), "{key}");
            let mut reader = pack.reader(key).unwrap().unwrap();
            assert_eq!(reader.len(), content.len() as u64);
            let at = content.len() * 2 / 3;
            reader.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert!(rest == content[at..], "{key}");
        }
        assert_eq!(pack.get("absent").unwrap(), None);
        assert_eq!(pack.object(&Hash::of(b"absent")).unwrap(), None);
        let keys: Vec<String> = pack
            .entries()
            .map(|entry| String::from_utf8(entry.unwrap().key.into_owned()).unwrap())
            .collect();
        let mut expected: Vec<String> = contents.iter().map(|(key, _)| key.clone()).collect();
        expected.sort();
        assert_eq!(keys, expected);
        assert_eq!(pack.entries_under("large").count(), 2);
        let generation = pack.newest_generation().unwrap().unwrap();
        assert_eq!((generation.object_count, generation.map_root), (7, stats.map_root));
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let dir = Dir::new();
    let mut packs = Vec::new();
    for threads in [1, 2, 5] {
        let path = dir.file(&format!("{threads}.pefc"));
        let mut writer = Writer::create(&path, options(threads)).unwrap();
        for i in 0..400_u64 {
            writer.put(&format!("f/{i:04}"), &text(i, 10_000 + 37 * i as usize)).unwrap();
        }
        writer.put("large", &text(9, 6_000_000)).unwrap();
        writer.finish().unwrap();
        packs.push(std::fs::read(&path).unwrap());
    }
    assert!(packs[0] == packs[1] && packs[1] == packs[2]);
}

#[test]
fn generations_stay_readable_through_many_appends() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let value = |key: u64, round: u64| text(key * 1000 + round, 500 + (key * 7 + round) as usize);
    let rounds = 40;
    let mut writer = Writer::create(&path, options(1)).unwrap();
    for key in 0..300 {
        writer.put(&format!("k{key:03}"), &value(key, 0)).unwrap();
    }
    writer.finish().unwrap();
    for round in 1..=rounds {
        let mut writer = Writer::append(&path, options(1)).unwrap();
        for key in (0..300).filter(|key| (key + round) % 29 == 0) {
            writer.put(&format!("k{key:03}"), &value(key, round)).unwrap();
        }
        assert!(writer.delete(&format!("k{:03}", round)).unwrap() || round % 29 == 0);
        assert_eq!(writer.finish().unwrap().generation, round + 1);
    }
    let pack = Pack::open(&path).unwrap();
    assert_eq!(pack.generation(), rounds + 1);
    assert_eq!(pack.generations().unwrap().len() as u64, rounds + 1);
    for at in [0, 1, 2, 7, 20, rounds] {
        let old = pack.at_generation(at + 1).unwrap();
        let mut live = 0;
        for key in 0..300_u64 {
            let newest_put = (0..=at).filter(|r| *r == 0 || (key + r) % 29 == 0).max().unwrap();
            let deleted = (1..=at).contains(&key) && key >= newest_put;
            let expected = (!deleted).then(|| value(key, newest_put));
            live += usize::from(expected.is_some());
            assert!(old.get(&format!("k{key:03}")).unwrap() == expected, "k{key} at {at}");
        }
        assert_eq!(old.entries().count(), live);
    }
    assert_eq!(pack.at_generation(rounds + 2).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pack.at_generation(0).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn commits_are_seen_by_readers_beside_the_writer() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let mut writer = Writer::create(&path, options(1)).unwrap();
    for round in 0..20_u64 {
        for key in 0..10 {
            writer
                .put(Key::storage(format!("{key}/{round}").into_bytes()), &text(round, 300))
                .unwrap();
        }
        writer.put(Key::storage(b"../latest".as_slice()), &round.to_le_bytes()).unwrap();
        writer.commit().unwrap();
        let pack = Pack::open(&path).unwrap();
        assert_eq!(pack.generation(), 0);
        let latest = pack.get(Key::storage(b"../latest".as_slice())).unwrap().unwrap();
        assert_eq!(latest, round.to_le_bytes());
        let count = pack.entries_under(Key::storage(b"".as_slice())).count() as u64;
        assert_eq!(count, 10 * (round + 1) + 1);
        assert_eq!(pack.entries().count(), 0, "storage keys are no paths");
    }
    drop(writer);
    // Reopened with an open tail, continued and sealed.
    let mut writer = Writer::append(&path, options(1)).unwrap();
    writer.delete(Key::storage(b"0/0".as_slice())).unwrap();
    let stats = writer.finish().unwrap();
    let pack = Pack::open(&path).unwrap();
    assert_eq!(pack.generation(), 1);
    assert_eq!(pack.get(Key::storage(b"0/0".as_slice())).unwrap(), None);
    assert_eq!(pack.get(Key::storage(b"9/19".as_slice())).unwrap(), Some(text(19, 300)));
    assert_eq!(pack.entries_under(Key::storage(b"".as_slice())).count(), 200);
    assert_eq!(pack.newest_generation().unwrap().unwrap().map_root, stats.map_root);
}

#[test]
fn one_writer_at_a_time() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let mut writer = Writer::create(&path, options(1)).unwrap();
    writer.put("a", b"1").unwrap();
    writer.commit().unwrap();
    let error = Writer::append(&path, options(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert_eq!(Writer::create(&path, options(1)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    writer.finish().unwrap();
    Writer::append(&path, options(1)).unwrap();
}

#[test]
fn what_was_not_committed_leaves_nothing() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let mut writer = Writer::create(&path, options(2)).unwrap();
    writer.put("a", &noise("a", 3_000_000)).unwrap();
    drop(writer);
    assert!(dir.names().is_empty());
    let mut writer = Writer::create(&path, options(2)).unwrap();
    writer.put("a", b"1").unwrap();
    writer.finish().unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut writer = Writer::append(&path, options(2)).unwrap();
    writer.put("b", &noise("b", 9_000_000)).unwrap();
    drop(writer);
    assert!(std::fs::read(&path).unwrap() == before);
    // A put that changes nothing writes nothing.
    let mut writer = Writer::append(&path, options(2)).unwrap();
    writer.put("a", b"1").unwrap();
    assert!(!writer.delete("absent").unwrap());
    writer.finish().unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn invalid_keys_are_refused() {
    let dir = Dir::new();
    let mut writer = Writer::create(dir.file("a.pefc"), options(1)).unwrap();
    for key in ["", "/a", "a/../b", "a//b", ".", "a\0b"] {
        assert_eq!(writer.put(key, b"x").unwrap_err().kind(), ErrorKind::Usage, "{key:?}");
    }
}

#[test]
fn the_next_version_of_a_large_text_costs_its_changes() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let mut content = text(1, 20_000_000);
    let mut sizes = Vec::new();
    for version in 0..6 {
        for at in (version * 1000..content.len()).step_by(200_000) {
            content[at] = b'0' + version as u8;
        }
        let mut writer = match version {
            0 => Writer::create(&path, options(2)).unwrap(),
            _ => Writer::append(&path, options(2)).unwrap(),
        };
        writer.put(&format!("v{version}.txt"), &content).unwrap();
        writer.finish().unwrap();
        sizes.push(std::fs::metadata(&path).unwrap().len());
    }
    for pair in sizes.windows(2) {
        assert!((pair[1] - pair[0]) * 20 < sizes[0], "{sizes:?}");
    }
    let pack = Pack::open(&path).unwrap();
    assert!(pack.get("v5.txt").unwrap() == Some(content));
}

#[test]
fn records_layout_uses_a_dictionary() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let layout = pefc::format::segment::Layout::Records;
    let mut writer = Writer::create(&path, WriteOptions { layout, ..options(2) }).unwrap();
    for i in 0..6000_u64 {
        writer.put(&format!("{i}"), &text(i, 300 + (i % 500) as usize)).unwrap();
    }
    writer.finish().unwrap();
    let pack = Pack::open(&path).unwrap();
    for i in (0..6000_u64).step_by(7) {
        assert!(pack.get(&format!("{i}")).unwrap() == Some(text(i, 300 + (i % 500) as usize)));
    }
    let frames = pack.frames().unwrap();
    let with_dictionary =
        frames.iter().filter(|f| f.codec == pefc::format::frame::Codec::ZstdDictionary).count();
    assert!(with_dictionary > 5, "{with_dictionary} frames");
}

fn verify_ok(pack: &Pack) -> pefc::VerifyReport {
    let report = pack.verify(&pefc::VerifyOptions { threads: 2, ..Default::default() }).unwrap();
    assert!(report.is_intact(), "{:#?}", report.problems);
    report
}

#[test]
fn packs_of_every_shape_verify() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    for layout in [pefc::format::segment::Layout::Archive, pefc::format::segment::Layout::Records] {
        let write = || WriteOptions { layout, ..options(2) };
        let mut writer = Writer::create(&path, WriteOptions { replace: true, ..write() }).unwrap();
        for i in 0..3000_u64 {
            writer.put(&format!("{i}"), &text(i, 300 + (i % 500) as usize)).unwrap();
        }
        writer.put("large", &text(1, 7_000_000)).unwrap();
        writer.put("empty", b"").unwrap();
        writer.finish().unwrap();
        let report = verify_ok(&Pack::open(&path).unwrap());
        assert_eq!((report.checked.generation_count, report.checked.key_count), (1, 3002));
        for round in 0..30_u64 {
            let mut writer = Writer::append(&path, write()).unwrap();
            for i in (0..3000_u64).filter(|i| i % 37 == round) {
                writer.put(&format!("{i}"), &text(i + 1, 300)).unwrap();
            }
            writer.delete(&format!("{round}")).unwrap();
            writer.put(Key::storage(vec![0xff; 100]), &text(round, 100)).unwrap();
            if round % 3 == 0 {
                writer.put("large", &text(round, 6_000_000)).unwrap();
                writer.commit().unwrap();
                writer.put("after", &text(round, 50)).unwrap();
                writer.commit().unwrap();
                verify_ok(&Pack::open(&path).unwrap());
                if round % 2 == 0 {
                    continue; // leaves an open tail
                }
            }
            writer.finish().unwrap();
        }
        let report = verify_ok(&Pack::open(&path).unwrap());
        assert!(report.checked.index_count >= 20);
        let quick = pefc::VerifyOptions { level: pefc::VerifyLevel::Quick, threads: 1 };
        assert!(Pack::open(&path).unwrap().verify(&quick).unwrap().is_intact());
    }
}

#[test]
fn all_that_is_intact_is_recovered() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let write = || WriteOptions { frame_bytes: 512 << 10, ..options(2) };
    let mut writer = Writer::create(&path, write()).unwrap();
    for i in 0..400_u64 {
        writer.put(&format!("{i:03}"), &text(i, 3000)).unwrap();
    }
    writer.put("large", &text(7, 5_000_000)).unwrap();
    writer.put(Key::storage(b"../x".as_slice()), b"stored").unwrap();
    writer.finish().unwrap();
    let mut writer = Writer::append(&path, write()).unwrap();
    writer.delete("001").unwrap();
    writer.put("002", b"new").unwrap();
    writer.finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let frames = Pack::open(&path).unwrap().frames().unwrap();

    let recovered = |bytes: &[u8]| {
        let (bad, new) = (dir.file("bad.pefc"), dir.file("new.pefc"));
        std::fs::write(&bad, bytes).unwrap();
        let write = WriteOptions { replace: true, ..write() };
        let options = pefc::RecoverOptions { write, ..Default::default() };
        let report = pefc::recover(&bad, &new, &options).unwrap();
        assert!(std::fs::read(&bad).unwrap() == bytes, "the damaged file was changed");
        let pack = Pack::open(&new).unwrap();
        verify_ok(&pack);
        (report, pack)
    };
    let (report, pack) = recovered(&whole);
    assert!(report.log_is_whole && report.damage.is_empty() && report.lost_keys.is_empty());
    assert_eq!(report.recovered_key_count, 401);
    assert_eq!(pack.get("002").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(pack.get("001").unwrap(), None);

    // A flip in the middle of a frame of objects costs at most that frame.
    let objects: Vec<_> =
        frames.iter().filter(|f| f.kind == pefc::format::frame::FrameKind::Objects).collect();
    let frame = objects[1];
    let mut bad = whole.clone();
    let at = (frame.payload_offset() + u64::from(frame.stored_bytes) * 3 / 4) as usize;
    bad[at] ^= 0x10;
    let report = Pack::from_bytes(bad.clone()).unwrap().verify(&Default::default()).unwrap();
    assert!(!report.is_intact());
    assert!(report.problems.iter().any(|problem| problem.offset == frame.payload_offset()));
    let lost_to_verify = report.lost_keys.len();
    let (report, pack) = recovered(&bad);
    assert!((1..=frame.item_count as usize).contains(&lost_to_verify));
    assert!(report.lost_keys.len() < lost_to_verify, "nothing came out of the damaged frame");
    assert_eq!(report.damage.len(), 1);
    for i in 3..400_u64 {
        let key = format!("{i:03}");
        let lost = report.lost_keys.iter().any(|(_, lost)| lost == key.as_bytes());
        assert_eq!(pack.get(&key).unwrap(), (!lost).then(|| text(i, 3000)));
    }
    assert!(pack.get("large").unwrap() == Some(text(7, 5_000_000)));

    // Without the entries, the contents are still there under their names.
    let entries =
        frames.iter().find(|f| f.kind == pefc::format::frame::FrameKind::Entries).unwrap();
    let mut bad = whole.clone();
    bad[entries.payload_offset() as usize + 20] ^= 1;
    let (report, pack) = recovered(&bad);
    assert!(!report.log_is_whole && report.orphan_count >= 300, "{report:?}");
    let key = format!("{}{}", pefc::LOST_AND_FOUND, Hash::of(&text(9, 3000)));
    assert_eq!(pack.get(&key).unwrap(), Some(text(9, 3000)));

    // A damaged header, and a file that is cut.
    let mut bad = whole.clone();
    bad[frame.offset as usize + 9] ^= 1;
    let (report, _) = recovered(&bad);
    assert!(
        report.lost_keys.len() <= frame.item_count as usize && report.log_is_whole,
        "{report:?}"
    );
    let (report, _) = recovered(&whole[..whole.len() / 2]);
    assert!(!report.log_is_whole && report.orphan_count > 1, "{report:?}");
    let error = pefc::recover(&dir.file("absent"), &dir.file("x"), &Default::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(dir.file("text"), "no pack at all").unwrap();
    let error = pefc::recover(&dir.file("text"), &dir.file("x"), &Default::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotAPack);
}

#[test]
fn interrupting_a_recovery_leaves_no_pack() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let mut writer = Writer::create(&path, options(1)).unwrap();
    writer.put("a", b"a").unwrap();
    writer.finish().unwrap();
    let cancel = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let options = pefc::RecoverOptions { cancel: Some(cancel), ..Default::default() };
    let error = pefc::recover(&path, &dir.file("new.pefc"), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
#[cfg(unix)]
fn a_named_pipe_is_no_pack_and_nobody_waits_for_it() {
    let dir = Dir::new();
    let path = dir.file("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    assert!(Pack::open(&path).is_err());
    assert!(Writer::append(&path, options(1)).is_err());
    assert!(pefc::recover(&path, &dir.file("new.pefc"), &Default::default()).is_err());
}

#[test]
fn thousands_of_tiny_objects_share_a_frame() {
    let dir = Dir::new();
    let path = dir.file("a.pefc");
    let mut writer = Writer::create(&path, options(1)).unwrap();
    for i in 0..30_000 {
        writer.put(&format!("{i}"), format!("{i:09}").as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let pack = Pack::open(&path).unwrap();
    let objects: Vec<_> = pack.frames().unwrap().iter().map(|frame| frame.item_count).collect();
    assert_eq!(objects[0], 30_000);
    verify_ok(&pack);
    assert_eq!(pack.get("29999").unwrap().as_deref(), Some(&b"000029999"[..]));
}
