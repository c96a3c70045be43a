//! A later view of a pack is what opening it anew gives, whatever was done to the file meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::{Keys, PATH, noise, open, options, read_all};
use common::sim_fs::{SimFs, SplitMix64};
use pefc::{ErrorKind, Pack, WriteOptions, Writer};

fn same(view: &Pack, fresh: &Pack) -> Keys {
    let keys = read_all(fresh).unwrap();
    assert_eq!(read_all(view).unwrap(), keys);
    assert_eq!(view.commit(), fresh.commit());
    assert_eq!(
        (view.committed_bytes(), view.torn_bytes(), view.file_bytes()),
        (fresh.committed_bytes(), fresh.torn_bytes(), fresh.file_bytes())
    );
    for content in keys.values() {
        assert!(view.contains(&pefc::Hash::of(content)).unwrap());
    }
    keys
}

#[test]
fn a_later_view_is_what_opening_anew_gives() {
    for seed in 0..40 {
        let fs = SimFs::new(seed);
        let mut rng = SplitMix64(seed);
        // Small, so that commits without a seal write an index too.
        let options = WriteOptions { tail_bytes_max: 6000, ..options(&fs) };
        let mut writer = Some(Writer::create(PATH, options.clone()).unwrap());
        writer.as_mut().unwrap().put("first", b"1").unwrap();
        writer.as_mut().unwrap().commit().unwrap();
        let mut view = open(&fs).unwrap();
        let mut refreshed = 0;
        for round in 0..60 {
            let open_writer = || Writer::append(PATH, options.clone()).unwrap();
            let writer_now = writer.get_or_insert_with(open_writer);
            let key = format!("k{}", rng.below(20));
            match rng.below(8) {
                0 => drop(writer_now.delete(key.as_str()).unwrap()),
                1 => writer_now.seal().unwrap(),
                2 => drop(writer.take().unwrap().finish().unwrap()),
                3 => drop(writer.take()),
                _ => {
                    writer_now.put(key.as_str(), &noise(round, rng.below(900))).unwrap();
                    writer_now.commit().unwrap();
                }
            }
            if rng.below(3) > 0 {
                continue;
            }
            let before = (view.committed_bytes(), read_all(&view).unwrap());
            let fresh = open(&fs).unwrap();
            match view.refreshed().unwrap() {
                Some(later) => {
                    same(&later, &fresh);
                    // The earlier view is not disturbed.
                    assert_eq!((view.committed_bytes(), read_all(&view).unwrap()), before);
                    view = later;
                    refreshed += 1;
                }
                None => assert_eq!(fresh.commit(), view.commit()),
            }
        }
        assert!(refreshed > 5);
    }
}

#[test]
fn an_unfinished_commit_is_no_later_view() {
    let fs = SimFs::new(1);
    let mut writer = Writer::create(PATH, options(&fs)).unwrap();
    writer.put("a", b"1").unwrap();
    writer.commit().unwrap();
    let view = open(&fs).unwrap();
    writer.put("b", &noise(1, 5000)).unwrap();
    writer.commit().unwrap();
    let whole = fs.read_file(PATH).unwrap();
    let end = view.committed_bytes() as usize;
    for cut in (end..whole.len()).step_by(7) {
        fs.write_file(PATH, &whole[..cut]);
        assert!(view.refreshed().unwrap().is_none(), "{cut} of {} bytes", whole.len());
    }
    fs.write_file(PATH, &whole[..]);
    same(&view.refreshed().unwrap().unwrap(), &open(&fs).unwrap());
}

#[test]
fn another_pack_under_the_name_is_opened_anew() {
    let fs = SimFs::new(1);
    for content in [noise(1, 3000), noise(2, 50), noise(3, 3000)] {
        let before = open(&fs).ok();
        let options = WriteOptions { replace: true, ..options(&fs) };
        let mut writer = Writer::create(PATH, options).unwrap();
        writer.put("a", &content).unwrap();
        writer.finish().unwrap();
        if let Some(view) = before {
            same(&view.refreshed().unwrap().unwrap(), &open(&fs).unwrap());
        }
    }
    let view = open(&fs).unwrap();
    assert!(view.refreshed().unwrap().is_none());
    let memory = Pack::from_bytes(fs.read_file(PATH).unwrap()).unwrap();
    assert_eq!(memory.refreshed().unwrap_err().kind(), ErrorKind::Usage);
}
