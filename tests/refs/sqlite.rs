//! Refs in SQLite: what the contract does not say.

use super::{all, set};
use pefc::refs::{RefStore, SqliteOptions, SqliteRefs, TakeOver};
use pefc::{ErrorKind, Hash, Result};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

pub(crate) fn open(path: &Path) -> Result<SqliteRefs> {
    SqliteRefs::open(path, SqliteOptions::default())
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("xme.db");
    (dir, path)
}

#[test]
fn the_shell_sees_the_table_and_its_changes_are_noticed() {
    let (_dir, path) = place();
    let refs = open(&path).unwrap();
    refs.apply(&[set(b"proofs/one", b"qed")]).unwrap();
    let token = refs.token().unwrap();
    let shell = Connection::open(&path).unwrap();
    let row: (String, String, i64) = shell
        .query_row("SELECT key, b3, size FROM refs_text", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(row, ("proofs/one".to_owned(), Hash::of(b"qed").to_string(), 3));
    let mode: String = shell.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    assert_eq!(refs.token().unwrap(), token);
    shell.execute("UPDATE refs SET updated_at = 1", []).unwrap();
    assert_ne!(refs.token().unwrap(), token, "a change by hand is a change");
    for bad in [
        "INSERT INTO refs VALUES('text', zeroblob(32), 0, 0, 0)",
        "INSERT INTO refs VALUES(x'', zeroblob(32), 0, 0, 0)",
        "INSERT INTO refs VALUES(x'61', zeroblob(31), 0, 0, 0)",
        "INSERT INTO refs VALUES(x'61', zeroblob(32), -1, 0, 0)",
    ] {
        assert!(shell.execute(bad, []).is_err(), "{bad}");
    }
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_alone() {
    let (_dir, path) = place();
    let text = b"this is a text file, long enough to have a header ".repeat(4);
    std::fs::write(&path, &text).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::NotADatabase, 21), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), text);

    std::fs::remove_file(&path).unwrap();
    let foreign = Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE users(name TEXT)").unwrap();
    drop(foreign);
    let before = std::fs::read(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADatabase, "{error}");
    assert!(error.to_string().contains("\"users\""), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    drop(open(&path).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Unsupported, 25), "{error}");
}

#[test]
fn a_locked_or_unwritable_database_is_told() {
    let (dir, path) = place();
    let options = SqliteOptions { wait_ms: 20, ..Default::default() };
    let refs = SqliteRefs::open(&path, options).unwrap();
    refs.apply(&[set(b"a", b"1")]).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = refs.apply(&[set(b"a", b"2")]).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Locked, 11), "{error}");
    assert_eq!(refs.get(b"a").unwrap().unwrap().name, Hash::of(b"1"), "readers do not wait");
    other.execute_batch("ROLLBACK").unwrap();
    refs.apply(&[set(b"a", b"2")]).unwrap();

    let error = open(dir.path()).unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::ReadOnly, 32), "{error}");
}

#[test]
fn a_damaged_database_is_told() {
    let (_dir, path) = place();
    let refs = open(&path).unwrap();
    let many: Vec<_> = (0..2000_u32).map(|at| set(&at.to_le_bytes(), b"x")).collect();
    refs.apply(&many).unwrap();
    drop(refs);
    let mut bytes = std::fs::read(&path).unwrap();
    let len = bytes.len();
    bytes[8192..len - 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let refs = open(&path).unwrap();
    let error = refs.scan(b"", None).find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[derive(Default)]
struct Kept {
    values: Vec<(Vec<u8>, Vec<u8>)>,
    durable_count: usize,
    fails: bool,
}

impl TakeOver for Kept {
    fn store(&mut self, key: &[u8], data: &[u8]) -> Result<Hash> {
        self.values.push((key.to_vec(), data.to_vec()));
        Ok(Hash::of(data))
    }

    fn make_durable(&mut self) -> Result<()> {
        self.durable_count += 1;
        match self.fails {
            true => Err(pefc::Error::new(ErrorKind::NoSpace, "full")),
            false => Ok(()),
        }
    }
}

#[test]
fn the_old_table_is_taken_over_once() {
    let (_dir, path) = place();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE storage(key TEXT PRIMARY KEY, data BLOB,
             created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP);
         INSERT INTO storage VALUES('text', 'hello', '2024-01-02 03:04:05', '2024-01-02 03:04:06');
         INSERT INTO storage VALUES('bytes/é', x'00ff', 1700000000.25, 1700000001);
         INSERT INTO storage VALUES('number', 7, NULL, NULL);
         INSERT INTO storage VALUES('none', NULL, 0, 0);",
    )
    .unwrap();
    let refs = open(&path).unwrap();
    assert!(refs.has_old_values().unwrap());
    let mut failing = Kept { fails: true, ..Kept::default() };
    assert_eq!(refs.import_old_values(&mut failing).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(all(&refs), [], "nothing of an import that failed");

    let mut kept = Kept::default();
    let report = refs.import_old_values(&mut kept).unwrap();
    assert_eq!(
        (report.imported_count, report.without_data_count, report.existing_count),
        (3, 1, 0)
    );
    assert_eq!((kept.values.len(), kept.durable_count), (3, 1));
    let text = refs.get(b"text").unwrap().unwrap();
    assert_eq!(text.name, Hash::of(b"hello"));
    assert_eq!(text.created_ns, 1_704_164_645_000_000_000);
    let bytes = refs.get("bytes/é".as_bytes()).unwrap().unwrap();
    assert_eq!((bytes.name, bytes.created_ns), (Hash::of(&[0, 255]), 1_700_000_000_250_000_000));
    assert_eq!(refs.get(b"number").unwrap().unwrap().name, Hash::of(b"7"));
    assert_eq!(refs.get(b"none").unwrap(), None);

    // Once: what is deleted now does not come back, and the old table is as it was.
    refs.apply(&[pefc::refs::Change::delete("text")]).unwrap();
    assert!(!refs.has_old_values().unwrap());
    assert_eq!(refs.import_old_values(&mut Kept::default()).unwrap(), Default::default());
    assert_eq!(refs.get(b"text").unwrap(), None);
    let count: i64 = old.query_row("SELECT count(*) FROM storage", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 4);
}

#[test]
fn an_old_key_that_can_be_none_names_itself() {
    let (_dir, path) = place();
    let old = Connection::open(&path).unwrap();
    old.execute_batch("CREATE TABLE storage(key, data, created_at, updated_at); INSERT INTO storage VALUES('', 'x', 0, 0)").unwrap();
    let refs = open(&path).unwrap();
    let error = refs.import_old_values(&mut Kept::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(error.hint().unwrap().contains("storage"), "{:?}", error.hint());
}
