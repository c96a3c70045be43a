//! Deep trees and many files.

use super::*;
use std::process::Command;

const DEEP: usize = 5000;

#[test]
fn deep_trees_need_few_descriptors() {
    let child = "disk::tree::tests::large::deep_tree_in_a_process_of_its_own";
    let status = Command::new("sh")
        .args(["-c", "ulimit -n 200 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", child, "--test-threads=1"])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "run by deep_trees_need_few_descriptors"]
fn deep_tree_in_a_process_of_its_own() {
    both(|arena| {
        let mut path = Vec::new();
        for depth in 1..=DEEP {
            if depth > 1 {
                path.push(b'/');
            }
            path.push(b'd');
            arena.target.create_dir(&path).unwrap();
            if depth % 100 == 0 {
                arena.write(&[&path[..], b"/z"].concat(), b"deep");
            }
        }
        let source = arena.source();
        let (mut dirs, mut files) = (0, 0);
        for entry in source.walk() {
            let entry = entry.unwrap();
            if entry.metadata.kind == FileKind::Directory {
                dirs += 1;
            } else {
                files += 1;
                let mut file = source.open_file(&entry.path).unwrap();
                assert_eq!(file.read(&mut [0; 9]).unwrap(), 4);
            }
        }
        assert_eq!((dirs, files), (DEEP, DEEP / 100));
        // The standard library's removal, in the temporary directory's drop, goes down one
        // descriptor for each level.
        let removed = Command::new("rm").arg("-rf").arg(arena.path("d")).status();
        assert!(removed.unwrap().success());
    });
}
