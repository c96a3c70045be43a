//! The content store: what is put is found, stored once, and goes when nothing names it.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::noise;
use pefc::store::{CollectOptions, CollectReport, ContentStore, Root, StoreOptions};
use pefc::{ErrorKind, Hash, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

fn open(dir: &Path) -> ContentStore {
    open_with(dir, StoreOptions::default())
}

fn open_with(dir: &Path, options: StoreOptions) -> ContentStore {
    let store = ContentStore::open(dir, StoreOptions { threads: 1, ..options }).unwrap();
    store.register_root(&root()).unwrap();
    store
}

fn root() -> Root {
    Root::new("test", "in memory").unwrap()
}

fn put(store: &ContentStore, contents: &[Vec<u8>]) -> Vec<Hash> {
    let mut session = store.begin().unwrap();
    let names = contents.iter().map(|content| session.put(content).unwrap()).collect();
    session.commit().unwrap();
    session.end().unwrap();
    names
}

/// Collects with these contents live.
fn collect(store: &ContentStore, live: &[Hash]) -> CollectReport {
    collect_with(store, &CollectOptions::default(), live, &mut |_| false).unwrap()
}

fn collect_with(
    store: &ContentStore,
    options: &CollectOptions,
    live: &[Hash],
    wait: &mut dyn FnMut(usize) -> bool,
) -> Result<CollectReport> {
    let mark = &mut |asked: &Root, each: &mut dyn FnMut(Hash)| {
        assert_eq!(*asked, root());
        live.iter().for_each(|name| each(*name));
        Ok(())
    };
    store.collect(options, mark, wait)
}

fn segment_names(dir: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(dir.join("segments")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn records(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(|number| format!("{{\"proof\":{number},\"of\":\"php\"}}").into_bytes()).collect()
}

#[test]
fn what_was_committed_is_found_by_this_handle_and_others_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()), open(dir.path()));
    assert_eq!(one.id(), other.id());
    let absent = Hash::of(b"absent");
    assert_eq!(other.get(&absent).unwrap(), None);
    for round in 0..20 {
        let contents = records(round * 10..round * 10 + 10);
        let names = put(&one, &contents);
        for (name, content) in names.iter().zip(&contents) {
            assert_eq!(*name, Hash::of(content));
            assert_eq!(one.get(name).unwrap().as_ref(), Some(content));
            assert_eq!(other.get(name).unwrap().as_ref(), Some(content));
        }
        assert!(!other.contains(&absent).unwrap());
    }
    drop((one, other));
    let store = open(dir.path());
    for content in records(0..200) {
        assert_eq!(store.get(&Hash::of(&content)).unwrap(), Some(content));
    }
    assert_eq!(segment_names(dir.path()).len(), 1, "one writer at a time needs one segment");
}

#[test]
fn every_segment_is_a_pack_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, &records(0..50));
    put(&store, &[noise(1, 3 << 20)]);
    let report = store.verify(&pefc::VerifyOptions::default()).unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.segments.len(), 1);
    drop(store);
    for name in segment_names(dir.path()) {
        let pack = pefc::Pack::open(dir.path().join("segments").join(name)).unwrap();
        assert!(pack.verify(&pefc::VerifyOptions::default()).unwrap().is_intact());
        assert_eq!(pack.entries().count(), 0, "contents without keys");
    }
}

#[test]
fn what_was_not_committed_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let kept = put(&store, &records(0..3));
    let mut session = store.begin().unwrap();
    let name = session.put(b"given up").unwrap();
    drop(session);
    assert_eq!(store.get(&name).unwrap(), None);
    // Putting it again stores it: it is not taken for stored.
    let again = put(&store, &[b"given up".to_vec()]);
    assert_eq!(again, [name]);
    assert_eq!(store.get(&name).unwrap().as_deref(), Some(&b"given up"[..]));
    assert!(store.contains(&kept[0]).unwrap());
}

#[test]
fn the_empty_content_is_always_there_and_never_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let empty = Hash::of(b"");
    assert_eq!(store.get(&empty).unwrap(), Some(Vec::new()));
    assert!(store.contains(&empty).unwrap());
    assert!(store.reader(&empty).unwrap().is_none_or(|reader| reader.is_empty()));
    assert_eq!(put(&store, &[Vec::new()]), [empty]);
    let mut session = store.begin().unwrap();
    assert!(session.keep(&empty).unwrap());
    assert_eq!(session.put_stream(&b""[..]).unwrap().len, 0);
    session.commit().unwrap();
    session.end().unwrap();
    assert!(segment_names(dir.path()).is_empty());
    assert!(collect(&store, &[empty]).missing.is_empty());
}

#[test]
fn content_is_stored_once_across_sessions_handles_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()), open(dir.path()));
    let contents = records(0..100);
    put(&one, &contents);
    // What a later commit follows is on disk: only that may be relied on.
    put(&one, &[b"the next commit".to_vec()]);
    let before = one.stats().unwrap();
    put(&one, &contents);
    put(&other, &contents);
    let mut session = other.begin().unwrap();
    for content in &contents {
        assert!(session.keep(&Hash::of(content)).unwrap());
        assert_eq!(session.put_stream(content.as_slice()).unwrap().len, content.len() as u64);
    }
    session.commit().unwrap();
    session.end().unwrap();
    let after = one.stats().unwrap();
    assert_eq!(
        (after.object_count, after.stored_bytes),
        (before.object_count, before.stored_bytes)
    );
}

#[test]
fn the_last_commit_of_another_writer_is_not_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()), open(dir.path()));
    put(&one, &[b"perhaps not on disk".to_vec()]);
    put(&other, &[b"perhaps not on disk".to_vec()]);
    assert_eq!(segment_names(dir.path()).len(), 2, "a copy of its own");
}

#[test]
fn streams_of_any_length_go_in_and_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for len in [0, 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let content = noise(len as u64, len);
        let mut session = store.begin().unwrap();
        let put = session.put_stream(content.as_slice()).unwrap();
        assert_eq!((put.name, put.len), (Hash::of(&content), len as u64));
        session.commit().unwrap();
        session.end().unwrap();
        assert_eq!(store.get(&put.name).unwrap().as_ref(), Some(&content));
        if let Some(mut reader) = store.reader(&put.name).unwrap() {
            let from = len as u64 / 3;
            reader.seek(SeekFrom::Start(from)).unwrap();
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert!(rest == content[from as usize..]);
        }
        // In one piece it has the same name, and is there already.
        let before = store.stats().unwrap();
        self::put(&store, &[content]);
        assert_eq!(store.stats().unwrap(), before);
    }
}

#[test]
fn a_stream_that_fails_leaves_the_session_usable() {
    struct Fails(u64);
    impl Read for Fails {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let part = noise(self.0, buf.len().min(1 << 16));
            self.0 += 1;
            if self.0 > 60 {
                return Err(std::io::Error::other("the line is dead"));
            }
            buf[..part.len()].copy_from_slice(&part);
            Ok(part.len())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut session = store.begin().unwrap();
    let kept = session.put(b"before").unwrap();
    assert_eq!(session.put_stream(Fails(0)).unwrap_err().kind(), ErrorKind::Io);
    session.commit().unwrap();
    session.end().unwrap();
    assert!(store.contains(&kept).unwrap());
}

#[test]
fn many_threads_put_the_same_and_different_contents() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..8 {
                    let mut contents = records(round * 5..round * 5 + 5);
                    contents.push(format!("{thread} {round}").into_bytes());
                    let names = put(&store, &contents);
                    for (name, content) in names.iter().zip(&contents) {
                        assert_eq!(store.get(name).unwrap().as_ref(), Some(content));
                    }
                }
            });
        }
    });
    let segments = segment_names(dir.path()).len();
    assert!(segments <= 6, "{segments} segments for six threads");
    assert!(store.verify(&pefc::VerifyOptions::default()).unwrap().is_intact());
    drop(store);
    assert_eq!(fs::read_dir(dir.path().join("sessions")).unwrap().count(), 0);
}

#[test]
fn copies_between_stores_keep_their_names() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (open(from.path()), open(to.path()));
    let contents = [b"small".to_vec(), noise(1, 2_500_000)];
    let names = put(&from, &contents);
    let mut session = to.begin().unwrap();
    for name in &names {
        assert!(session.copy_from(&from, name).unwrap());
    }
    assert!(!session.copy_from(&from, &Hash::of(b"absent")).unwrap());
    assert!(!session.keep(&Hash::of(b"absent")).unwrap());
    session.commit().unwrap();
    session.end().unwrap();
    for (name, content) in names.iter().zip(&contents) {
        assert_eq!(to.get(name).unwrap().as_ref(), Some(content));
    }
}

#[test]
fn a_full_segment_gets_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { segment_bytes_max: 1 << 16, ..StoreOptions::default() };
    let store = open_with(dir.path(), options);
    for round in 0..6 {
        put(&store, &[noise(round, 70_000)]);
    }
    assert_eq!(segment_names(dir.path()).len(), 6);
    for round in 0..6 {
        assert!(store.contains(&Hash::of(&noise(round, 70_000))).unwrap());
    }
}

#[test]
fn collecting_removes_what_no_root_names_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut contents: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed, 30_000)).collect();
    contents.push(noise(100, 2_000_000));
    contents.push(noise(101, 2_000_000));
    let names = put(&store, &contents);
    let live: Vec<Hash> = names.iter().copied().step_by(3).collect();
    let before = segment_names(dir.path());
    let dry = CollectOptions { dry_run: true, ..CollectOptions::default() };
    let report = collect_with(&store, &dry, &live, &mut |_| false).unwrap();
    assert_eq!((report.condemned_count, report.removed_count), (1, 0));
    assert_eq!(segment_names(dir.path()), before);

    let report = collect(&store, &live);
    assert_eq!((report.epoch, report.removed_count, report.waiting_for), (1, 1, 0));
    assert_eq!(report.copied_count, live.len() as u64);
    assert!(report.written_bytes < report.removed_bytes / 2 + (1 << 20));
    for (name, content) in names.iter().zip(&contents) {
        let expected = live.contains(name).then_some(content);
        assert_eq!(store.get(name).unwrap().as_ref(), expected);
        assert_eq!(open(dir.path()).get(name).unwrap().as_ref(), expected);
    }
    // What is as it should be is left alone.
    let report = collect(&store, &live);
    assert_eq!((report.condemned_count, report.copied_count), (0, 0));
    assert!(report.missing.is_empty());
    // The writer that had the removed segment goes on with another.
    put(&store, &[b"after".to_vec()]);
    assert!(open(dir.path()).contains(&Hash::of(b"after")).unwrap());
    let report = collect(&store, &[]);
    assert_eq!(store.stats().unwrap().segment_count, 0);
    assert_eq!(report.written_bytes, 0);
    assert_eq!(store.get(&names[0]).unwrap(), None);
}

#[test]
fn a_reader_that_began_before_a_collection_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stale) = (open(dir.path()), open(dir.path()));
    let content = noise(1, 3_000_000);
    let names = put(&store, &[content.clone(), noise(2, 3_000_000)]);
    assert!(stale.contains(&names[0]).unwrap());
    let mut reader = stale.reader(&names[0]).unwrap().unwrap();
    assert_eq!(collect(&store, &names[..1]).removed_count, 1);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == content);
    // Listed before, opened after: it looks again.
    let late = open(dir.path());
    late.refresh().unwrap();
    assert!(collect(&store, &names[..1]).removed_count == 0);
    assert_eq!(late.get(&names[0]).unwrap(), Some(content));
}

#[test]
fn many_small_segments_become_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { segment_bytes_max: 1, ..StoreOptions::default() };
    let store = open_with(dir.path(), options);
    let mut names = Vec::new();
    for round in 0..20 {
        names.extend(put(&store, &records(round * 10..round * 10 + 10)));
    }
    names.extend(put(&store, &[noise(5, 3_000_000)]));
    assert_eq!(segment_names(dir.path()).len(), 21);
    let report = store.merge(&mut |_| false).unwrap();
    assert_eq!((report.removed_count, report.copied_count), (20, 200));
    assert_eq!(segment_names(dir.path()).len(), 2);
    assert!(store.check(names.iter().map(|name| Ok(*name))).unwrap().is_empty());
    assert_eq!(store.merge(&mut |_| false).unwrap().condemned_count, 0);
    assert!(store.verify(&pefc::VerifyOptions::default()).unwrap().is_intact());
    // A collection does it besides.
    for round in 0..4 {
        names.extend(put(&store, &records(1000 + round..1001 + round)));
    }
    assert_eq!(collect(&store, &names).removed_count, 4);
    assert!(store.check(names.iter().map(|name| Ok(*name))).unwrap().is_empty());
}

#[test]
fn a_running_session_holds_a_collection_up_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (open(dir.path()), open(dir.path()));
    let old = put(&store, &[noise(1, 600_000)]);
    put(&store, &[b"the next commit".to_vec()]);
    let mut session = other.begin().unwrap();
    assert!(session.keep(&old[0]).unwrap(), "relied on, not copied");
    let report = collect(&store, &[]);
    assert_eq!((report.waiting_for, report.removed_count), (1, 0));
    assert_eq!(store.stats().unwrap().condemned_segment_count, 1);
    assert!(store.contains(&old[0]).unwrap(), "readers still see it");
    // A session that begins now does not rely on what is condemned.
    let mut newer = store.begin().unwrap();
    assert!(newer.keep(&old[0]).unwrap());
    newer.commit().unwrap();
    assert_eq!(segment_names(dir.path()).len(), 2);
    session.commit().unwrap();
    let live = old.clone(); // the change of refs
    session.end().unwrap();
    // The newer session does not hold it up.
    let report = collect(&store, &live);
    assert_eq!((report.waiting_for, report.removed_count, report.epoch), (0, 1, 1));
    newer.end().unwrap();
    assert_eq!(store.get(&old[0]).unwrap(), Some(noise(1, 600_000)));
}

#[test]
fn waiting_ends_when_the_session_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, &[noise(1, 600_000)]);
    let mut session = Some(store.begin().unwrap());
    let mut asked = 0;
    let options = CollectOptions::default();
    let report = collect_with(&store, &options, &[], &mut |running| {
        assert_eq!(running, 1);
        asked += 1;
        if asked == 3 {
            session.take().unwrap().end().unwrap();
        }
        true
    });
    assert_eq!((report.unwrap().removed_count, asked), (1, 3));
}

#[test]
fn a_root_that_cannot_be_read_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let names = put(&store, &[noise(1, 600_000)]);
    let other = Root::new("sqlite", "refs.db").unwrap();
    store.register_root(&other).unwrap();
    store.register_root(&other).unwrap();
    assert_eq!(store.roots().unwrap().len(), 2);
    let mark = &mut |asked: &Root, _: &mut dyn FnMut(Hash)| match asked.kind() {
        "sqlite" => Err(pefc::Error::new(ErrorKind::Io, "the database is away")),
        _ => Ok(()),
    };
    let failed = store.collect(&CollectOptions::default(), mark, &mut |_| false);
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io);
    assert!(store.contains(&names[0]).unwrap());
    assert_eq!(store.stats().unwrap().condemned_segment_count, 0);
    assert!(store.unregister_root(&other).unwrap());
    assert!(!store.unregister_root(&other).unwrap());
    store.unregister_root(&root()).unwrap();
    let refused = store.collect(&CollectOptions::default(), &mut |_, _| Ok(()), &mut |_| false);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
    fs::write(dir.path().join("roots/0123"), "nonsense").unwrap();
    let refused = store.collect(&CollectOptions::default(), &mut |_, _| Ok(()), &mut |_| false);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn refs_that_dangle_are_reported_and_harm_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let names = put(&store, &[noise(1, 600_000), noise(2, 600_000)]);
    let absent = Hash::of(b"absent");
    let report = collect(&store, &[names[0], absent]);
    assert_eq!((report.missing.as_slice(), report.removed_count), (&[absent][..], 1));
    let problems = store.check([Ok(names[0]), Ok(names[1]), Ok(absent)]).unwrap();
    let missing: Vec<Hash> = problems.iter().map(|problem| problem.name).collect();
    assert_eq!(missing, [names[1], absent]);
    assert!(problems.iter().all(|problem| problem.error.kind() == ErrorKind::Missing));
}

/// Flips a byte in the middle of the stored bytes of a content that does not compress.
fn damage(dir: &Path, content: &[u8]) {
    let needle = &content[content.len() / 2..content.len() / 2 + 64];
    for name in segment_names(dir) {
        let path = dir.join("segments").join(name);
        let mut bytes = fs::read(&path).unwrap();
        while let Some(at) = bytes.windows(64).position(|window| window == needle) {
            bytes[at] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn damage_is_told_by_name_and_healed_by_putting_again() {
    let dir = tempfile::tempdir().unwrap();
    let contents = [noise(1, 20_000), noise(2, 2_000_000), noise(3, 20_000)];
    let put_alone = |content| put(&open(dir.path()), std::slice::from_ref(content))[0];
    let names: Vec<Hash> = contents.iter().map(put_alone).collect();
    damage(dir.path(), &contents[0]);
    damage(dir.path(), &contents[1]);
    let store = open(dir.path());
    let problems = store.check(names.iter().map(|name| Ok(*name))).unwrap();
    let damaged: Vec<Hash> = problems.iter().map(|problem| problem.name).collect();
    assert_eq!(damaged, names[..2]);
    assert!(problems.iter().all(|problem| problem.error.kind() == ErrorKind::Corrupt));
    assert_eq!(store.get(&names[0]).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!store.verify(&pefc::VerifyOptions::default()).unwrap().is_intact());
    // What was damaged stays where it is: it is for a person to recover.
    let report = collect(&store, &names);
    assert_eq!(report.removed_count, 0);
    put(&store, &contents[..1]);
    assert_eq!(store.get(&names[0]).unwrap().as_ref(), Some(&contents[0]));
    assert_eq!(store.get(&names[2]).unwrap().as_ref(), Some(&contents[2]));
}

#[test]
fn a_segment_with_damaged_live_content_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..30).map(|seed| noise(seed, 70_000)).collect();
    let names = put(&open(dir.path()), &contents);
    damage(dir.path(), &contents[4]);
    let store = open(dir.path());
    let before = segment_names(dir.path());
    let report = collect(&store, &names[3..6]);
    assert_eq!((report.removed_count, report.damaged.len()), (0, 1));
    assert!(segment_names(dir.path()).is_superset(&before));
    for (name, content) in names.iter().zip(&contents) {
        match store.get(name) {
            Ok(found) => assert_eq!(found.as_ref(), Some(content)),
            Err(error) => assert!(*name == names[4] && error.kind() == ErrorKind::Corrupt),
        }
    }
    // The same with what is damaged of no use any more.
    let live = [names[3], names[5]];
    let report = collect(&store, &live);
    assert_eq!((report.damaged.len(), segment_names(dir.path()).len()), (0, 1));
    assert!(store.check(live.map(Ok)).unwrap().is_empty());
}

#[test]
fn a_segment_that_is_no_pack_disturbs_no_writer_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fs::write(dir.path().join("segments/0000000000000000.pefc"), "no pack").unwrap();
    fs::write(dir.path().join("segments/notes.txt"), "none of ours").unwrap();
    let names = put(&store, &[b"content".to_vec()]);
    assert!(store.contains(&names[0]).unwrap());
    // Nobody can say what it held.
    assert_eq!(store.get(&Hash::of(b"absent")).unwrap_err().kind(), ErrorKind::NotAPack);
    assert_eq!(store.stats().unwrap().damaged_segment_count, 1);
    let report = collect(&store, &names);
    assert_eq!((report.removed_count, report.damaged.len()), (0, 0));
    assert!(!store.verify(&pefc::VerifyOptions::default()).unwrap().is_intact());
}

#[test]
fn a_directory_that_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let none = StoreOptions { create: false, ..StoreOptions::default() };
    let kind = |options: &StoreOptions| {
        ContentStore::open(dir.path(), options.clone()).unwrap_err().kind()
    };
    assert_eq!(kind(&none), ErrorKind::NotFound);
    fs::write(dir.path().join("STORE"), "pefc content store v2\n").unwrap();
    assert_eq!(kind(&StoreOptions::default()), ErrorKind::Unsupported);
    fs::write(dir.path().join("STORE"), "my shopping list").unwrap();
    assert_eq!(kind(&StoreOptions::default()), ErrorKind::Corrupt);
    fs::remove_file(dir.path().join("STORE")).unwrap();
    let store = open(dir.path());
    fs::write(dir.path().join("condemned"), "pefc condemned v1\nepoch 1\n").unwrap();
    assert_eq!(store.begin().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn what_dead_processes_left_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let names = put(&store, &[noise(1, 600_000)]);
    for left in ["sessions/0123456789abcdef", "segments/.x.pefc.0.tmp", ".condemned.0.tmp"] {
        fs::write(dir.path().join(left), "").unwrap();
    }
    // The session of a dead process holds nobody up.
    let report = collect(&store, &[]);
    assert_eq!((report.waiting_for, report.removed_count), (0, 1));
    assert!(segment_names(dir.path()).is_empty());
    assert!(!dir.path().join(".condemned.0.tmp").exists());
    assert!(!dir.path().join("sessions/0123456789abcdef").exists());
    assert_eq!(store.get(&names[0]).unwrap(), None);
}
