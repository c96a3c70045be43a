//! Tests of the simulated file system: what it must lose, what it must keep, and that it finds a
//! protocol that forgets a sync. A simulator that is too kind proves nothing about its users.
#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy exempts only the test functions")]

mod common;

use common::sim_fs::{CrashPlan, EBADF, EFBIG, EIO, ENOSPC, Fault, SimFs};
use pefc::disk::{Clock, File, LockError, Machine, Vfs, parent_dir};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// What `name` may hold after a power cut now.
fn outcomes(fs: &SimFs, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    let states = fs.crash_states(CrashPlan::default());
    states.map(|state| state.read_file(name)).collect()
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

/// A disk with one durable file, open for writing.
fn with_file(bytes: &[u8]) -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::new(1);
    fs.write_file("d/f", bytes);
    let file = fs.open_write(path("d/f")).unwrap();
    (fs, file)
}

#[test]
fn an_unsynced_write_may_be_lost_or_kept() {
    let (fs, file) = with_file(b"old");
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(fs.read_file("d/f"), some(b"new"));
    assert_eq!(outcomes(&fs, "d/f"), [some(b"old"), some(b"new")].into());
}

#[test]
fn synced_data_is_in_every_state() {
    let (fs, file) = with_file(b"");
    let bytes: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(fs.pending_ops(), 0);
    file.write_all_at(&[7; 3000], 5000).unwrap();
    file.write_all_at(b"other", 9000).unwrap();
    for state in fs.crash_states(CrashPlan::default()) {
        assert_eq!(state.read_file("d/f").unwrap()[..5000], bytes);
    }
}

#[test]
fn every_subset_of_the_sectors_of_a_write_occurs() {
    for sector in [512, 4096] {
        let fs = SimFs::with_sector(1, sector);
        fs.write_file("f", vec![0; 4 * sector]);
        let file = fs.open_write(path("f")).unwrap();
        file.write_all_at(&vec![1; 4 * sector], 0).unwrap();
        let seen: BTreeSet<Vec<u8>> = outcomes(&fs, "f")
            .into_iter()
            .map(|image| {
                let image = image.unwrap();
                let sectors = image.chunks(sector);
                sectors
                    .map(|sector| {
                        assert!(sector.iter().all(|b| *b == sector[0]), "torn inside a sector");
                        sector[0]
                    })
                    .collect()
            })
            .collect();
        assert_eq!(seen.len(), 16);
    }
}

#[test]
fn a_later_write_may_persist_without_an_earlier_one() {
    let (fs, file) = with_file(&[b'.'; 1024]);
    file.write_all_at(b"a", 0).unwrap();
    file.write_all_at(b"b", 512).unwrap();
    file.write_all_at(b"c", 1).unwrap();
    let seen: BTreeSet<String> = outcomes(&fs, "d/f")
        .into_iter()
        .map(|image| {
            let image = image.unwrap();
            String::from_utf8(vec![image[0], image[1], image[512]]).unwrap()
        })
        .collect();
    // One sector is written as the cache holds it: "c" never without "a".
    let expected = ["...", "a..", "ac.", "..b", "a.b", "acb"];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

#[test]
fn length_and_data_of_an_append_persist_independently() {
    let (fs, file) = with_file(&[1; 100]);
    file.write_all_at(&[2; 1000], 100).unwrap();
    let seen: BTreeSet<Vec<u8>> = outcomes(&fs, "d/f").into_iter().flatten().collect();
    let image = |parts: &[(u8, usize)]| -> Vec<u8> {
        let parts = parts.iter().map(|(byte, count)| vec![*byte; *count]);
        parts.collect::<Vec<_>>().concat()
    };
    for (expected, why) in [
        (image(&[(1, 100)]), "nothing, or data without length"),
        (image(&[(1, 100), (0, 1000)]), "length without data"),
        (image(&[(1, 100), (2, 412)]), "length and data in part"),
        (image(&[(1, 100), (2, 412), (0, 588)]), "a hole at the end"),
        (image(&[(1, 100), (0, 412), (2, 588)]), "a hole in the middle"),
        (image(&[(1, 100), (2, 1000)]), "all"),
    ] {
        assert!(seen.contains(&expected), "{why}");
    }
    let zeros_only = CrashPlan::default();
    let stale = CrashPlan { stale_blocks: true, ..zeros_only };
    let garbage = |plan| {
        fs.crash_states(plan).any(|state| {
            let image = state.read_file("d/f").unwrap();
            image.iter().any(|byte| *byte > 2)
        })
    };
    assert!(!garbage(zeros_only));
    assert!(garbage(stale));
}

#[test]
fn what_a_persisted_cut_removed_stays_away() {
    let (fs, file) = with_file(&[1; 1500]);
    file.set_len(600).unwrap();
    file.set_len(1500).unwrap();
    let cut = [vec![1; 600], vec![0; 900]].concat();
    assert_eq!(fs.read_file("d/f").unwrap(), cut);
    let expected = [some(&[1; 1500]), some(&[1; 600]), Some(cut.clone())];
    assert_eq!(outcomes(&fs, "d/f"), expected.into());
    file.sync_data().unwrap();
    assert_eq!(outcomes(&fs, "d/f"), [Some(cut)].into());

    // A write that only the cache has seen is gone with the cut, too.
    let (fs, file) = with_file(b"");
    file.write_all_at(&[1; 512], 0).unwrap();
    file.set_len(10).unwrap();
    file.write_all_at(b"x", 20).unwrap();
    for image in outcomes(&fs, "d/f").into_iter().flatten() {
        assert!(image.len() != 21 || image[10..20] == [0; 10], "{image:?}");
    }
}

#[test]
fn a_new_file_has_no_name_until_its_directory_is_synced() {
    let fs = SimFs::new(1);
    let file = fs.create_new(path("d/f")).unwrap();
    file.write_all_at(b"data", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&fs, "d/f"), [None, some(b"data")].into());
    fs.sync_dir(path("elsewhere")).unwrap();
    assert_eq!(outcomes(&fs, "d/f"), [None, some(b"data")].into());
    fs.sync_dir(path("./d")).unwrap();
    assert_eq!(outcomes(&fs, "d/f"), [some(b"data")].into());
}

#[test]
fn an_unsynced_rename_may_be_lost_but_is_atomic() {
    let fs = SimFs::new(1);
    fs.write_file("d/f", *b"old");
    fs.write_file("tmp/t", *b"new");
    fs.rename(path("tmp/t"), path("d/f"), true).unwrap();
    let both = |fs: &SimFs| -> BTreeSet<_> {
        fs.crash_states(CrashPlan::default())
            .map(|state| (state.read_file("tmp/t"), state.read_file("d/f")))
            .collect()
    };
    let before = (some(b"new"), some(b"old"));
    let after = (None, some(b"new"));
    assert_eq!(both(&fs), [before, after.clone()].into());
    fs.sync_dir(path("d")).unwrap();
    assert_eq!(both(&fs), [after].into());
}

#[test]
fn a_name_without_synced_data_points_to_a_half_file() {
    let fs = SimFs::new(1);
    let file = fs.create_new(path("t")).unwrap();
    file.write_all_at(&[1; 700], 0).unwrap();
    fs.rename(path("t"), path("f"), false).unwrap();
    fs.sync_dir(path(".")).unwrap();
    let seen = outcomes(&fs, "f");
    assert!(!seen.contains(&None));
    assert!(seen.contains(&some(b"")));
    assert!(seen.contains(&some(&[1; 512])));
    file.sync_data().unwrap();
    assert_eq!(outcomes(&fs, "f"), [some(&[1; 700])].into());
}

#[test]
fn name_changes_keep_their_order_per_name_only() {
    let fs = SimFs::new(1);
    fs.write_file("a", *b"1");
    fs.remove_file(path("a")).unwrap();
    fs.create_new(path("b")).unwrap();
    fs.rename(path("b"), path("a"), false).unwrap();
    fs.create_new(path("c")).unwrap();
    let seen: BTreeSet<Vec<PathBuf>> =
        fs.crash_states(CrashPlan::default()).map(|state| state.paths()).collect();
    let names = |names: &str| names.chars().map(|c| c.to_string().into()).collect();
    // The removal of "a" and the creation of "b" in any order, both before the rename.
    let expected = ["a", "", "ab", "b", "ac", "c", "abc", "bc"].map(names);
    assert_eq!(seen, expected.into());
    let renamed = |state: SimFs| state.read_file("a").as_deref() == Some(b"");
    let states = || fs.crash_states(CrashPlan::default());
    assert!(states().any(renamed));
    assert!(!states().any(|state| state.read_file("b").is_some() && renamed(state)));
}

#[test]
fn a_name_is_not_taken_again_before_it_was_given_up() {
    let fs = SimFs::new(1);
    fs.write_file("a", *b"old");
    fs.rename(path("a"), path("b"), false).unwrap();
    fs.create_new(path("a")).unwrap();
    for state in fs.crash_states(CrashPlan::default()) {
        let files = [state.read_file("a"), state.read_file("b")];
        assert!(files.contains(&some(b"old")), "no order loses it");
    }
}

#[test]
fn syncing_a_directory_takes_along_what_the_rename_stands_on() {
    let fs = SimFs::new(1);
    fs.create_new(path("tmp/t")).unwrap();
    fs.create_new(path("tmp/u")).unwrap();
    fs.rename(path("tmp/t"), path("d/f"), false).unwrap();
    fs.sync_dir(path("d")).unwrap();
    assert_eq!(outcomes(&fs, "d/f"), [some(b"")].into());
    assert_eq!(outcomes(&fs, "tmp/t"), [None].into());
    assert_eq!(outcomes(&fs, "tmp/u"), [None, some(b"")].into());
}

#[test]
fn open_handles_outlive_their_names() {
    let (fs, file) = with_file(b"data");
    fs.rename(path("d/f"), path("d/g"), false).unwrap();
    file.write_all_at(b"DA", 0).unwrap();
    assert_eq!(fs.read_file("d/g"), some(b"DAta"));
    fs.remove_file(path("d/g")).unwrap();
    let mut buf = [0; 4];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"DAta");
    assert!(file.map(4).unwrap().is_none());
    assert!(fs.paths().is_empty());
}

#[test]
fn misuse_is_refused_as_the_real_system_does() {
    let (fs, file) = with_file(b"data");
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(fs.open_read(path("x")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.create_new(path("d/f")).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(fs.remove_file(path("x"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.rename(path("x"), path("y"), true)), io::ErrorKind::NotFound);
    fs.write_file("g", *b"");
    assert_eq!(kind(fs.rename(path("g"), path("d/f"), false)), io::ErrorKind::AlreadyExists);
    let reader = fs.open_read(path("d/f")).unwrap();
    assert_eq!(reader.write_all_at(b"x", 0).unwrap_err().raw_os_error(), Some(EBADF));
    assert_eq!(reader.set_len(0).unwrap_err().raw_os_error(), Some(EBADF));
    reader.sync_data().unwrap();
    for offset in [u64::MAX, 1 << 40] {
        let error = file.write_all_at(b"x", offset).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EFBIG));
        assert_eq!(file.set_len(offset).unwrap_err().raw_os_error(), Some(EFBIG));
        assert_eq!(file.read_at(&mut [0], offset).unwrap(), 0);
    }
    assert_eq!(fs.read_file("d/f"), some(b"data"));
}

#[test]
fn after_a_failed_sync_the_next_one_lies() {
    let mut seen = BTreeSet::new();
    for seed in 0..32 {
        let fs = SimFs::new(seed);
        fs.write_file("f", vec![0; 1024]);
        let file = fs.open_write(path("f")).unwrap();
        file.write_all_at(&[1; 1024], 0).unwrap();
        fs.fail_at(1, Fault::Errno { raw: EIO, persistent: false });
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        file.sync_data().unwrap();
        assert_eq!(fs.read_file("f"), some(&[1; 1024]), "the cache still has it");
        let durable = outcomes(&fs, "f");
        assert_eq!(durable.len(), 1, "the last sync said Ok");
        seen.extend(durable);
    }
    assert!(seen.contains(&some(&[0; 1024])), "dropped");
    assert!(seen.contains(&some(&[1; 1024])), "kept");
    assert!(seen.contains(&Some([vec![0; 512], vec![1; 512]].concat())), "in part");
}

#[test]
fn after_a_failed_sync_of_a_directory_the_next_one_lies() {
    let seen: BTreeSet<usize> = (0..16)
        .map(|seed| {
            let fs = SimFs::new(seed);
            fs.create_new(path("f")).unwrap();
            fs.fail_at(1, Fault::Errno { raw: EIO, persistent: false });
            fs.sync_dir(path(".")).unwrap_err();
            fs.sync_dir(path(".")).unwrap();
            outcomes(&fs, "f").len()
        })
        .collect();
    assert_eq!(seen, [1, 2].into());
}

#[test]
fn a_full_disk_takes_a_part() {
    let (fs, file) = with_file(&[1; 100]);
    fs.set_disk_capacity_bytes(Some(1000));
    let error = file.write_all_at(&[2; 2000], 100).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENOSPC));
    assert_eq!(fs.read_file("d/f").unwrap().len(), 1000);
    file.write_all_at(&[3; 1000], 0).unwrap();
    assert_eq!(file.set_len(1001).unwrap_err().raw_os_error(), Some(ENOSPC));

    let other = fs.create_new(path("d/g")).unwrap();
    assert_eq!(other.write_all_at(b"x", 0).unwrap_err().raw_os_error(), Some(ENOSPC));
    fs.remove_file(path("d/f")).unwrap();
    other.write_all_at(b"x", 0).expect_err("an open file keeps its space");
    drop(file);
    other.write_all_at(&[1; 1000], 0).unwrap();
    let after = fs.crash_states(CrashPlan::default()).next().unwrap();
    let file = after.open_write(path("d/g")).unwrap();
    file.write_all_at(b"x", 1000).expect_err("the disk did not grow in the crash");
}

#[test]
fn a_crash_is_final_and_without_effect() {
    let (fs, file) = with_file(b"old");
    fs.fail_at(1, Fault::Crash);
    file.write_all_at(b"new", 0).unwrap();
    file.sync_data().unwrap_err();
    assert!(file.write_all_at(b"x", 0).is_err());
    assert!(file.len().is_err() && file.read_at(&mut [0], 0).is_err());
    assert!(matches!(file.try_lock(), Err(LockError::Io(_))));
    assert!(fs.open_read(path("d/f")).is_err() && fs.create_new(path("g")).is_err());
    assert!(fs.remove_file(path("d/f")).is_err() && fs.sync_dir(path("d")).is_err());
    assert_eq!(fs.call_count(), 2, "{:?}", fs.trace());
    assert_eq!(outcomes(&fs, "d/f"), [some(b"old"), some(b"new")].into());
    let after = fs.crash_states(CrashPlan::default()).next().unwrap();
    assert_eq!(after.call_count(), 0);
    let file = after.open_write(path("d/f")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    assert_eq!(fs.read_file("d/f"), some(b"new"), "states share nothing");
}

#[test]
fn errors_come_once_or_for_good() {
    let (fs, file) = with_file(b"old");
    fs.fail_at(0, Fault::Errno { raw: EIO, persistent: false });
    assert_eq!(file.write_all_at(b"x", 0).unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(fs.read_file("d/f"), some(b"old"));
    file.write_all_at(b"x", 0).unwrap();
    fs.fail_at(2, Fault::Errno { raw: ENOSPC, persistent: true });
    for _ in 0..2 {
        let error = fs.create_new(path("g")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ENOSPC));
    }
    fs.clear_faults();
    fs.create_new(path("g")).unwrap();

    let lens: BTreeSet<usize> = (0..32)
        .map(|seed| {
            let fs = SimFs::new(seed);
            let file = fs.create_new(path("f")).unwrap();
            fs.fail_at(1, Fault::ShortWrite);
            let error = file.write_all_at(&[1; 100], 0).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(ENOSPC));
            fs.read_file("f").unwrap().len()
        })
        .collect();
    assert!(lens.len() > 5 && lens.last() < Some(&100), "{lens:?}");
}

#[test]
fn the_trace_tells_index_call_and_fault() {
    let (fs, file) = with_file(b"");
    fs.fail_at(1, Fault::Crash);
    file.write_all_at(b"xy", 3).unwrap();
    fs.sync_dir(path("d")).unwrap_err();
    assert_eq!(fs.trace(), ["write_all_at 3+2 d/f", "sync_dir d !Crash"]);
}

#[test]
fn one_handle_holds_the_lock_of_a_file() {
    let (fs, first) = with_file(b"");
    let second = fs.open_write(path("d/f")).unwrap();
    first.try_lock().unwrap();
    first.try_lock().unwrap();
    fs.rename(path("d/f"), path("d/g"), true).unwrap();
    let third = fs.open_write(path("d/g")).unwrap();
    for other in [&second, &third] {
        match other.try_lock() {
            Err(LockError::Held(Some(holder))) => assert_eq!(holder.pid, std::process::id()),
            other => panic!("{other:?}"),
        }
    }
    // Nobody holds a lock after a crash, and dropping another handle releases nothing.
    let after = fs.crash_states(CrashPlan::default()).next().unwrap();
    after.open_write(path("d/g")).unwrap().try_lock().unwrap();
    fs.fork().open_write(path("d/g")).unwrap().try_lock().unwrap();
    drop(third);
    second.try_lock().unwrap_err();
    drop(first);
    second.try_lock().unwrap();
}

#[test]
fn many_pending_sectors_are_sampled_reproducibly() {
    let (fs, file) = with_file(b"");
    file.write_all_at(&[1; 512 * 200], 0).unwrap();
    let images = |seed| -> Vec<_> {
        let plan = CrashPlan { seed, samples: 100, ..CrashPlan::default() };
        fs.crash_states(plan).map(|state| state.read_file("d/f")).collect()
    };
    let first = images(1);
    assert_eq!(first, images(1));
    assert_ne!(first, images(2));
    assert_eq!(first[0], some(&[1; 512 * 200]), "all applied");
    assert_eq!(first[1], some(b""), "nothing applied");
    assert!(first.len() > 80, "{}", first.len());
    assert_eq!(first.len(), first.iter().collect::<BTreeSet<_>>().len());
    let lost = |image: &Option<Vec<u8>>| {
        let image = image.as_ref().unwrap();
        image.chunks(512).filter(|sector| sector[0] == 0).count()
    };
    assert!(first.iter().any(|image| lost(image) == 1), "a single lost sector");
    assert!(first.iter().any(|image| lost(image) > 50), "many lost sectors");
}

#[test]
fn forks_share_nothing_and_repeat_everything() {
    let (fs, file) = with_file(b"old");
    file.write_all_at(b"new", 0).unwrap();
    let fork = fs.fork();
    assert_eq!((fork.call_count(), fork.pending_ops()), (0, 1));
    assert_eq!(outcomes(&fork, "d/f"), outcomes(&fs, "d/f"));
    fork.sync_all();
    assert_eq!(outcomes(&fork, "d/f"), [some(b"new")].into());
    assert_eq!(outcomes(&fs, "d/f").len(), 2);

    let bytes = |machine: Machine| {
        let mut buf = [0; 20];
        machine.random.fill(&mut buf).unwrap();
        buf
    };
    let after = fs.crash_states(CrashPlan::default()).next().unwrap();
    let again = fs.crash_states(CrashPlan::default()).next().unwrap();
    let drawn = bytes(fs.machine());
    assert_eq!(drawn, bytes(fork.machine()));
    assert_ne!(drawn, bytes(fs.machine()));
    let rebooted = bytes(after.machine());
    assert_ne!(drawn, rebooted, "nonces must not come back after a crash");
    assert_eq!(rebooted, bytes(again.machine()));
}

#[test]
fn the_clock_does_as_told() {
    let fs = SimFs::new(1);
    let clock = fs.machine().clock;
    fs.clock.set(-5);
    assert_eq!((clock.now_s(), clock.now_s()), (-5, -5));
    fs.clock.set_step(3);
    assert_eq!((clock.now_s(), clock.now_s()), (-5, -2));
    let fork = fs.fork();
    assert_eq!((clock.now_s(), fork.clock.now_s()), (1, 1));
}

#[test]
fn it_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let (fs, file) = with_file(b"");
    shared(&fs);
    shared(&file);
}

/// The replacement of a file as everyone should do it, with steps to leave out.
fn replace(fs: &SimFs, new: &[u8], without: &str) -> io::Result<()> {
    let (target, temp) = (path("d/f"), path("d/f.tmp"));
    let file = fs.create_new(temp)?;
    file.write_all_at(new, 0)?;
    if without != "sync_data" {
        file.sync_data()?;
    }
    fs.rename(temp, target, true)?;
    if without != "sync_dir" {
        fs.sync_dir(&parent_dir(target))?;
    }
    Ok(())
}

/// Cuts the power at every call of `replace`; says what broke.
fn broken_by_a_crash(without: &str) -> Option<String> {
    let (old, new) = (vec![1; 1300], vec![2; 1400]);
    let base = SimFs::new(7);
    base.write_file("d/f", old.clone());
    let whole = base.fork();
    replace(&whole, &new, without).unwrap();
    for call in 0..=whole.call_count() {
        let fs = base.fork();
        fs.fail_at(call, Fault::Crash);
        let acknowledged = replace(&fs, &new, without).is_ok();
        assert_eq!(acknowledged, call == whole.call_count());
        for state in fs.crash_states(CrashPlan::default()) {
            match state.read_file("d/f") {
                Some(bytes) if bytes == new => {}
                Some(bytes) if bytes == old && !acknowledged => {}
                Some(bytes) if bytes == old => return Some("acknowledged and lost".to_owned()),
                _ => return Some("half a file".to_owned()),
            }
        }
    }
    None
}

#[test]
fn a_correct_replacement_survives_and_each_sync_is_needed() {
    assert_eq!(broken_by_a_crash("nothing"), None);
    assert_eq!(broken_by_a_crash("sync_data").as_deref(), Some("half a file"));
    assert_eq!(broken_by_a_crash("sync_dir").as_deref(), Some("acknowledged and lost"));
}

/// Appends a record to a log that can tell whole records from torn ones, as a pack can.
fn append(file: &dyn File, record: u8, bug: &str) -> io::Result<()> {
    let end = valid(file)?;
    file.set_len(end)?;
    let mut body = vec![record; 700];
    body[699] = !record;
    file.write_all_at(&body, end)?;
    match bug {
        "no sync" => Ok(()),
        "sync again" => file.sync_data().or_else(|_| file.sync_data()),
        _ => file.sync_data(),
    }
}

/// Where the valid records end. The "check" is that all bytes are there: enough to find zeros.
fn valid(file: &dyn File) -> io::Result<u64> {
    let mut end = 0;
    let mut body = [0; 700];
    while file.read_exact_at(&mut body, end).is_ok() {
        let whole = body[..699].iter().all(|byte| *byte == body[0] && *byte != 0);
        if !whole || body[699] != !body[0] {
            break;
        }
        end += 700;
    }
    Ok(end)
}

/// Runs two appends with `fault` at every call, then a power cut, recovery with a power cut of its
/// own, and counts the records: are all acknowledged ones there?
fn log_loses(bug: &str, fault: Fault) -> bool {
    let run = |fs: &SimFs| -> u64 {
        let file = fs.open_write(path("log")).unwrap();
        let good = [1, 2].iter().take_while(|record| append(&*file, **record, bug).is_ok());
        good.count() as u64
    };
    let holds = |fs: &SimFs, acknowledged: u64| {
        let file = fs.open_read(path("log")).unwrap();
        valid(&*file).unwrap() >= acknowledged * 700
    };
    for seed in 0..8 {
        let base = SimFs::new(seed);
        base.write_file("log", *b"");
        let whole = base.fork();
        assert_eq!(run(&whole), 2);
        for call in 0..=whole.call_count() {
            let fs = SimFs::new(seed * 1000 + call);
            fs.write_file("log", *b"");
            fs.fail_at(call, fault);
            let acknowledged = run(&fs);
            for state in fs.crash_states(CrashPlan::default()) {
                if !holds(&state, acknowledged) {
                    return true;
                }
                let file = state.open_write(path("log")).unwrap();
                let kept = valid(&*file).unwrap() / 700;
                state.fail_at(2, Fault::Crash);
                let _ = append(&*file, 3, bug);
                let mut twice = state.crash_states(CrashPlan::default());
                if !twice.all(|state| holds(&state, kept)) {
                    return true;
                }
            }
        }
    }
    false
}

#[test]
fn a_log_keeps_its_records_unless_a_sync_is_missing_or_tried_again() {
    let failed_sync = Fault::Errno { raw: EIO, persistent: false };
    for fault in [Fault::Crash, Fault::ShortWrite, failed_sync] {
        assert!(!log_loses("none", fault), "{fault:?}");
        assert!(log_loses("no sync", fault), "{fault:?}");
    }
    assert!(!log_loses("sync again", Fault::Crash), "without an error it is correct");
    assert!(log_loses("sync again", failed_sync));
}

#[test]
fn a_directory_lists_what_is_in_it_and_nothing_below() {
    let fs = SimFs::new(1);
    for path in ["a", "d/b", "d/c/e", "d/c/f", "dd/g"] {
        fs.write_file(path, "");
    }
    fs.remove_file(Path::new("d/b")).unwrap();
    let _open = fs.create_new(Path::new("d/h")).unwrap();
    let names = |dir: &str| fs.list_dir(Path::new(dir)).unwrap();
    assert_eq!(names("d"), ["c", "h"]);
    assert_eq!(names("./d/c"), ["e", "f"]);
    assert!(names("none").is_empty());
}
