mod large;

use super::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A target and, beside it, a directory that nothing may ever get into.
struct Arena {
    top: tempfile::TempDir,
    target: TargetDir,
}

impl Arena {
    fn path(&self, below_target: &str) -> PathBuf {
        self.top.path().join("target").join(below_target)
    }

    fn outside(&self) -> PathBuf {
        self.top.path().join("outside")
    }

    fn source(&self) -> Arc<SourceTree> {
        let dir = SourceDir::open(&self.path(""), false).unwrap();
        Arc::new(SourceTree::new(&dir))
    }

    fn write(&self, path: &[u8], contents: &[u8]) {
        let file = self.target.create_file(path).unwrap();
        file.write_all(contents).unwrap();
        file.finish().unwrap();
    }
}

/// The same test with `openat2` and as if there were none.
fn both(test: impl Fn(&Arena)) {
    for kernel in [true, false] {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("outside")).unwrap();
        let target = TargetDir::create_or_open(&top.path().join("target")).unwrap();
        assert!(target.was_created() && target.is_empty().unwrap());
        if !kernel {
            target.dirs().force_component_walk();
        }
        let arena = Arena { top, target };
        test(&arena);
        assert_eq!(fs::read_dir(arena.outside()).unwrap().count(), 0, "escape");
    }
}

fn rule<T>(result: Result<T, TreeError>) -> Option<Rule> {
    match result {
        Err(TreeError::UnsafePath(unsafe_path)) => Some(unsafe_path.rule),
        _ => None,
    }
}

fn kind<T>(result: Result<T, TreeError>) -> Option<io::ErrorKind> {
    match result {
        Err(TreeError::Io(error)) => Some(error.kind()),
        _ => None,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn the_spelling_of_a_path_is_checked() {
    let long = [b'x'; 256];
    let cases: [(&[u8], Rule); 14] = [
        (b"", Rule::Empty),
        (b"/", Rule::Absolute),
        (b"/etc/passwd", Rule::Absolute),
        (b"//a", Rule::Absolute),
        (b"a//b", Rule::EmptyComponent),
        (b"a/", Rule::EmptyComponent),
        (b".", Rule::CurrentDir),
        (b"a/./b", Rule::CurrentDir),
        (b"..", Rule::ParentDir),
        (b"a/../b", Rule::ParentDir),
        (b"a/..", Rule::ParentDir),
        (b"a\0b", Rule::Nul),
        (b"../\0", Rule::Nul),
        (&long, Rule::ComponentTooLong),
    ];
    both(|arena| {
        let target = &arena.target;
        for (path, expected) in cases {
            let expected = Some(expected);
            assert_eq!(rule(target.create_dir(path)), expected, "{path:?}");
            assert_eq!(rule(target.create_file(path)), expected);
            assert_eq!(rule(target.replace_file(path)), expected);
            assert_eq!(rule(target.symlink(b"x", path)), expected);
            assert_eq!(rule(target.hard_link(path, b"new")), expected);
            assert_eq!(rule(target.make_fifo(path, 0o600)), expected);
            assert_eq!(rule(target.remove_file(path)), expected);
            assert_eq!(rule(target.remove_empty_dir(path)), expected);
            assert_eq!(rule(target.exists(path)), expected);
            assert_eq!(rule(target.set_dir_metadata(path, &Attributes::default())), expected);
            assert_eq!(rule(target.set_symlink_metadata(path, None, None)), expected);
            let error = arena.source().open_file(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let error = error.downcast::<UnsafePath>().unwrap();
            assert_eq!((error.path.as_slice(), Some(error.rule)), (path, expected));
        }
        assert!(target.is_empty().unwrap());
    });
    for fine in [&b"..."[..], b"a/..b/.c", b"\xff\n\x1b[31m", &long[..255]] {
        assert_eq!(check_path(fine), Ok(()));
    }
    let printed = check_path(b"\x1b]0;x\x07/..").unwrap_err().to_string();
    assert!(printed.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
}

#[test]
fn a_name_is_one_component() {
    let dir = SourceDir::open(Path::new("/"), false).unwrap();
    for name in [&b"etc/passwd"[..], b"..", b".", b"", b"/etc"] {
        assert!(dir.metadata(name).is_err());
        assert!(dir.open_dir(name).is_err());
        assert!(dir.open_file(name).is_err());
        assert!(dir.read_link(name).is_err());
    }
    assert_eq!(dir.metadata(b"etc").unwrap().kind, FileKind::Directory);
}

#[test]
fn a_link_that_is_already_there_is_not_followed() {
    both(|arena| {
        let target = &arena.target;
        fs::write(arena.top.path().join("secret"), "s").unwrap();
        symlink(arena.outside(), arena.path("abs")).unwrap();
        symlink("../outside", arena.path("rel")).unwrap();
        symlink("real", arena.path("inside")).unwrap();
        symlink("/proc/self/cwd", arena.path("magic")).unwrap();
        target.create_dir(b"real").unwrap();
        arena.write(b"real/f", b"f");
        for link in ["abs", "rel", "inside", "magic"] {
            for rest in ["f", "g", "d/e"] {
                let path = format!("{link}/{rest}").into_bytes();
                let symlink = Some(Rule::Symlink);
                assert_eq!(rule(target.create_dir(&path)), symlink);
                assert_eq!(rule(target.create_file(&path)), symlink);
                assert_eq!(rule(target.replace_file(&path)), symlink);
                assert_eq!(rule(target.symlink(b"x", &path)), symlink);
                assert_eq!(rule(target.make_fifo(&path, 0o600)), symlink);
                assert_eq!(rule(target.remove_file(&path)), symlink);
                assert_eq!(rule(target.exists(&path)), symlink);
                assert_eq!(rule(target.hard_link(&path, b"x")), symlink);
                assert_eq!(rule(target.hard_link(b"real/f", &path)), symlink);
                let error = arena.source().open_file(&path).unwrap_err();
                assert_eq!(error.downcast::<UnsafePath>().unwrap().rule, Rule::Symlink);
            }
            // As the last component.
            let link = link.as_bytes();
            let exists = Some(io::ErrorKind::AlreadyExists);
            assert_eq!(kind(target.create_dir(link)), exists);
            assert_eq!(kind(target.create_file(link)), exists);
            assert!(target.set_dir_metadata(link, &Attributes::default()).is_err());
            assert!(target.remove_empty_dir(link).is_err());
            assert_eq!(target.metadata(link).unwrap().kind, FileKind::Symlink);
        }
        let top = SourceDir::open(&arena.path("inside"), false);
        assert!(top.is_err(), "a link itself was not asked for");
        assert!(SourceDir::open(&arena.path("inside"), true).is_ok());
    });
}

/// Somebody exchanges a directory of the path with a link to the outside, all the time.
#[test]
fn a_link_that_is_swapped_in_is_not_followed() {
    both(|arena| {
        arena.target.create_dir(b"a").unwrap();
        arena.target.create_dir(b"a/d").unwrap();
        symlink(arena.outside(), arena.path("evil")).unwrap();
        let stop = AtomicBool::new(false);
        let (mut created, mut refused) = (0, 0);
        let end = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, other) = (arena.path("a/d"), arena.path("evil"));
                while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for i in 0..200_000 {
                if Instant::now() > end || (created > 5000 && refused > 5000) {
                    break;
                }
                if i % 4 != 0 {
                    arena.target.dirs().forget_all(); // else the first descriptor does for all
                }
                match arena.target.create_file(format!("a/d/{i}").as_bytes()) {
                    // Removes it, too.
                    Ok(_) => created += 1,
                    Err(TreeError::UnsafePath(_)) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(created > 0 && refused > 0, "{created} {refused}");
    });
}

#[test]
fn a_held_directory_stays_the_one_below_the_target() {
    both(|arena| {
        arena.target.create_dir(b"d").unwrap();
        arena.write(b"d/1", b"");
        fs::rename(arena.path("d"), arena.path("moved")).unwrap();
        symlink(arena.outside(), arena.path("d")).unwrap();
        arena.write(b"d/2", b"");
        assert!(arena.path("moved/2").exists());
        // One that was removed by somebody else and made again is opened again.
        fs::remove_dir_all(arena.path("moved")).unwrap();
        fs::remove_file(arena.path("d")).unwrap();
        fs::create_dir(arena.path("d")).unwrap();
        arena.write(b"d/3", b"");
        assert!(arena.path("d/3").exists());
        // And so is one that we removed.
        arena.target.remove_file(b"d/3").unwrap();
        arena.target.remove_empty_dir(b"d").unwrap();
        arena.target.create_dir(b"d").unwrap();
        arena.write(b"d/4", b"");
    });
}

#[test]
fn files_are_private_whole_and_removed_unless_finished() {
    both(|arena| {
        let target = &arena.target;
        let file = target.create_file(b"f").unwrap();
        file.write_all(b"abc").unwrap();
        file.write_all_at(b"XY", 5).unwrap();
        file.write_all(b"d").unwrap();
        file.set_len(6).unwrap();
        file.sync_data().unwrap();
        assert_eq!(target.metadata(b"f").unwrap().mode, 0o600);
        file.finish().unwrap();
        assert_eq!(fs::read(arena.path("f")).unwrap(), b"abcd\0X");
        assert_eq!(kind(target.create_file(b"f")), Some(io::ErrorKind::AlreadyExists));
        drop(target.create_file(b"half").unwrap());
        drop(target.replace_file(b"f").unwrap());
        assert!(!target.exists(b"half").unwrap() && !target.exists(b"f/under").unwrap());
        target.remove_file(b"f").unwrap();
        assert!(target.is_empty().unwrap());
        target.sync().unwrap();
    });
}

#[test]
fn replacing_leaves_what_was_there_alone() {
    both(|arena| {
        let target = &arena.target;
        let secret = arena.top.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        symlink(&secret, arena.path("link")).unwrap();
        fs::hard_link(&secret, arena.path("hard")).unwrap();
        for path in [&b"link"[..], b"hard", b"new"] {
            let file = target.replace_file(path).unwrap();
            file.write_all(b"mine").unwrap();
            file.finish().unwrap();
            assert_eq!(target.metadata(path).unwrap().kind, FileKind::File);
            let path = arena.path(std::str::from_utf8(path).unwrap());
            assert_eq!(fs::read(path).unwrap(), b"mine");
        }
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
        target.create_dir(b"dir").unwrap();
        let error = target.replace_file(b"dir").unwrap().finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert_eq!(fs::read_dir(arena.path("")).unwrap().count(), 4, "no rest");
    });
}

#[test]
fn hard_links_are_to_regular_files_below() {
    both(|arena| {
        let target = &arena.target;
        fs::write(arena.top.path().join("secret"), "s").unwrap();
        symlink("../secret", arena.path("link")).unwrap();
        target.create_dir(b"d").unwrap();
        target.make_fifo(b"fifo", 0o4644).unwrap();
        arena.write(b"d/f", b"f");
        for wrong in [&b"link"[..], b"d", b"fifo"] {
            let result = target.hard_link(wrong, b"d/new");
            assert_eq!(kind(result), Some(io::ErrorKind::InvalidInput));
        }
        assert!(!target.exists(b"d/new").unwrap());
        target.hard_link(b"d/f", b"new").unwrap();
        let (one, two) = (target.metadata(b"d/f").unwrap(), target.metadata(b"new").unwrap());
        assert_eq!((one, one.link_count), (two, 2));
        let again = target.hard_link(b"d/f", b"link");
        assert_eq!(kind(again), Some(io::ErrorKind::AlreadyExists));
        let fifo = target.metadata(b"fifo").unwrap();
        assert_eq!((fifo.kind, fifo.mode & 0o7000), (FileKind::Fifo, 0));
    });
}

#[test]
fn times_and_modes_come_back_as_they_were_given() {
    both(|arena| {
        let target = &arena.target;
        target.create_dir(b"d").unwrap();
        target.symlink(b"no\xffwhere", b"d/l").unwrap();
        let times = [(0, 0), (1_700_000_000, 123_456_789), (-1, 999_999_999), (-86_400, 1)];
        for (i, mtime) in times.into_iter().enumerate() {
            let new = Attributes { mode: Some(0o640), mtime: Some(mtime), ..Attributes::default() };
            let path = format!("d/{i}").into_bytes();
            let file = target.create_file(&path).unwrap();
            file.write_all(b"x").unwrap();
            file.set_metadata(&new).unwrap();
            file.finish().unwrap();
            let of_dir = Attributes { mode: Some(0o711), ..new };
            target.set_dir_metadata(b"d", &of_dir).unwrap();
            target.set_symlink_metadata(b"d/l", None, Some(mtime)).unwrap();
            for (path, mode) in [(&path[..], 0o640), (b"d", 0o711), (b"d/l", 0o777)] {
                let found = target.metadata(path).unwrap();
                assert_eq!((found.mtime_s, found.mtime_ns), mtime, "{path:?}");
                assert_eq!(found.mode, mode);
            }
        }
        assert_eq!(arena.source().read_link(b"d/l").unwrap(), b"no\xffwhere");
        // What the kernel would take for "now", and for "as it is".
        for nanoseconds in [1_000_000_000, (1 << 30) - 1, (1 << 30) - 2] {
            let result = target.set_symlink_metadata(b"d/l", None, Some((0, nanoseconds)));
            assert_eq!(kind(result), Some(io::ErrorKind::InvalidInput));
        }
        let result = target.set_symlink_metadata(b"d/l", Some((u32::MAX, 0)), None);
        assert_eq!(kind(result), Some(io::ErrorKind::InvalidInput));
        let result = target.set_symlink_metadata(b"d/0", None, Some((0, 0)));
        assert_eq!(kind(result), Some(io::ErrorKind::InvalidInput));
    });
}

#[test]
fn special_bits_only_on_request_and_they_survive_a_new_owner() {
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = if is_root() { (1, 1) } else { me };
    both(|arena| {
        let file = arena.target.create_file(b"f").unwrap();
        let mut new =
            Attributes { mode: Some(0o4755), owner: Some(owner), ..Attributes::default() };
        file.set_metadata(&new).unwrap();
        assert_eq!(arena.target.metadata(b"f").unwrap().mode, 0o755);
        new.special_bits = true;
        file.set_metadata(&new).unwrap();
        let found = arena.target.metadata(b"f").unwrap();
        assert_eq!((found.mode, found.uid, found.gid), (0o4755, owner.0, owner.1));
        if is_root() {
            arena.target.symlink(b"f", b"l").unwrap();
            arena.target.set_symlink_metadata(b"l", Some((7, 8)), None).unwrap();
            let link = arena.target.metadata(b"l").unwrap();
            assert_eq!((link.uid, link.gid), (7, 8));
            assert_eq!(arena.target.metadata(b"f").unwrap(), found);
        } else {
            new.owner = Some((0, 0));
            let error = file.set_metadata(&new).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    });
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    both(|arena| {
        arena.target.make_fifo(b"fifo", 0o600).unwrap();
        arena.write(b"file", b"12345");
        arena.target.create_dir(b"dir").unwrap();
        arena.target.symlink(b"file", b"link").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(arena.path("socket")).unwrap();
        let source = arena.source();
        for wrong in [&b"fifo"[..], b"socket", b"dir"] {
            let error = source.open_file(wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong:?}");
        }
        let error = source.open_file(b"link").unwrap_err();
        let errno = rustix::io::Errno::LOOP.raw_os_error();
        assert_eq!(error.raw_os_error(), Some(errno));
        let devices = SourceDir::open(Path::new("/dev"), true).unwrap();
        assert!(devices.open_file(b"null").is_err());
        let null = devices.metadata(b"null").unwrap();
        assert_eq!(null.kind, FileKind::CharDevice);
        assert_ne!(null.rdev_minor, 0);

        let mut file = source.open_file(b"file").unwrap();
        let mut buf = [0; 9];
        assert_eq!(file.read(&mut buf).unwrap(), 5);
        assert!(file.metadata().unwrap().same_state(file.opened()));
        fs::write(arena.path("file"), "changed it").unwrap();
        assert!(!file.metadata().unwrap().same_state(file.opened()));
        assert_eq!(file.read_at(&mut buf, 8).unwrap(), 2);
    });
}

#[test]
fn a_walk_goes_in_order_through_any_names_and_past_errors() {
    both(|arena| {
        let target = &arena.target;
        for dir in [&b"a"[..], b"a/b", b"no", b"\xff\xfe\n", b"skip"] {
            target.create_dir(dir).unwrap();
        }
        for file in [&b"a.txt"[..], b"a/b/c", b"no/1", b"\xff\xfe\n/\x80", b"skip/x"] {
            arena.write(file, b"");
        }
        target.symlink(b"a", b"z").unwrap();
        let source = arena.source();
        let mut walk = source.walk();
        let mut seen = Vec::new();
        while let Some(item) = walk.next() {
            let path = match item {
                Ok(entry) => entry.path,
                Err(error) => {
                    assert_eq!((&error.path[..], error.step), (&b"no"[..], WalkStep::List));
                    assert_eq!(error.error.kind(), io::ErrorKind::NotFound);
                    b"no, removed".to_vec()
                }
            };
            match &path[..] {
                b"skip" => walk.skip_dir(),
                b"no" => fs::remove_dir_all(arena.path("no")).unwrap(),
                _ => {}
            }
            seen.push(path);
        }
        let order: [&[u8]; 10] = [
            b"a",
            b"a/b",
            b"a/b/c",
            b"a.txt",
            b"no",
            b"no, removed",
            b"skip",
            b"z",
            b"\xff\xfe\n",
            b"\xff\xfe\n/\x80",
        ];
        assert_eq!(seen, order);
        fs::write(arena.path("z.gone"), "").unwrap();
        let mut walk = source.walk().skip(4);
        assert_eq!(walk.next().unwrap().unwrap().path, b"skip");
        fs::remove_file(arena.path("z.gone")).unwrap();
        let rest: Vec<_> = walk.collect();
        let gone = rest.iter().find_map(|item| item.as_ref().err()).unwrap();
        assert_eq!((&gone.path[..], gone.step), (&b"z.gone"[..], WalkStep::Look));
        assert_eq!(gone.error.kind(), io::ErrorKind::NotFound);
        let names: Vec<_> = rest.iter().flatten().map(|entry| &entry.path[..]).collect();
        let order: [&[u8]; 4] = [b"skip/x", b"z", b"\xff\xfe\n", b"\xff\xfe\n/\x80"];
        assert_eq!(names, order);
        assert!(source.open_file(b"\xff\xfe\n/\x80").is_ok());
        let entries = source.root().entries().unwrap();
        assert_eq!(entries.last().unwrap().name, b"\xff\xfe\n");
        let same = fs::metadata(arena.path("a.txt")).unwrap();
        let found = source.metadata(b"a.txt").unwrap();
        assert_eq!((found.inode, found.device), (same.ino(), same.dev()));
        assert_eq!((found.mtime_s, i64::from(found.mtime_ns)), (same.mtime(), same.mtime_nsec()));
    });
}

#[test]
fn a_directory_without_permission_is_one_error() {
    if is_root() {
        return; // who may read everything
    }
    both(|arena| {
        arena.target.create_dir(b"closed").unwrap();
        arena.write(b"closed/f", b"");
        arena.write(b"open", b"");
        let mode =
            |mode| fs::set_permissions(arena.path("closed"), PermissionsExt::from_mode(mode));
        mode(0).unwrap();
        let items: Vec<_> = arena.source().walk().collect();
        mode(0o700).unwrap();
        assert_eq!(items.len(), 3);
        assert_eq!(items[0].as_ref().unwrap().path, b"closed");
        let error = items[1].as_ref().unwrap_err();
        assert_eq!((&error.path[..], error.step), (&b"closed"[..], WalkStep::List));
        assert_eq!(error.error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(items[2].as_ref().unwrap().path, b"open");
    });
}

#[test]
fn the_umask_is_what_new_files_show() {
    let top = tempfile::tempdir().unwrap();
    let file = fs::File::create(top.path().join("f")).unwrap();
    let mode = file.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode, 0o666 & !process_umask().unwrap());
}

#[test]
fn bytes_that_are_no_text_are_names() {
    both(|arena| {
        let name: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
        arena.write(&name, b"all");
        let found = fs::read_dir(arena.path("")).unwrap().next().unwrap().unwrap();
        assert_eq!(found.file_name().as_bytes(), name);
        assert_eq!(arena.source().root().entries().unwrap()[0].name, name);
        let mut file = arena.source().root().open_file(&name).unwrap();
        assert_eq!(file.read(&mut [0; 9]).unwrap(), 3);
    });
}
