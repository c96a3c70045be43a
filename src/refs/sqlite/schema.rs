//! The schema of a database of refs, its versions, and the settings of a connection.

use super::super::Token;
use super::{DbResult, Fault};
use crate::disk::Machine;
use crate::error::{Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::path::Path;

/// `PRAGMA application_id`: "pefc".
pub(super) const APPLICATION_ID: i32 = 0x7065_6663;

/// `PRAGMA user_version`.
pub(super) const VERSION: i32 = 1;

/// The first SQLite without the WAL-reset bug (sqlite.org/wal.html, "The WAL-Reset Bug").
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// `spec/refs.md` 7 has the same text.
const SCHEMA: &str = "
CREATE TABLE refs(
  key        BLOB    NOT NULL PRIMARY KEY CHECK(length(key) BETWEEN 1 AND 4096),
  b3         BLOB    NOT NULL CHECK(length(b3) = 32),
  size       INTEGER NOT NULL CHECK(size >= 0),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pefc(
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER refs_inserted AFTER INSERT ON refs
  WHEN EXISTS(SELECT 1 FROM pefc WHERE name = 'token')
  BEGIN DELETE FROM pefc WHERE name = 'token'; END;
CREATE TRIGGER refs_updated AFTER UPDATE ON refs
  WHEN EXISTS(SELECT 1 FROM pefc WHERE name = 'token')
  BEGIN DELETE FROM pefc WHERE name = 'token'; END;
CREATE TRIGGER refs_deleted AFTER DELETE ON refs
  WHEN EXISTS(SELECT 1 FROM pefc WHERE name = 'token')
  BEGIN DELETE FROM pefc WHERE name = 'token'; END;

CREATE VIEW refs_text AS SELECT
  CAST(key AS TEXT) AS key, lower(hex(b3)) AS b3, size,
  strftime('%Y-%m-%dT%H:%M:%SZ', created_at / 1000000000, 'unixepoch') AS created,
  strftime('%Y-%m-%dT%H:%M:%SZ', updated_at / 1000000000, 'unixepoch') AS updated
  FROM refs;
";

/// Settings that a connection has and the file has not.
pub(super) fn configure(connection: &Connection) -> DbResult<()> {
    let version = rusqlite::version_number();
    if version < SQLITE_VERSION_MIN {
        let what = format!("this program was built with SQLite {}", rusqlite::version());
        let hint = "build it with the bundled SQLite: 3.51.3 is the first that is safe here";
        return Err(Error::new(ErrorKind::Unsupported, what).hinting(hint).into());
    }
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "cache_size", -65_536)?; // KiB, as far as they are needed
    // Pages, of 4 KiB: a batch changes one for nearly every key, and what waits for the next
    // checkpoint is written to the database once, however often it was changed.
    connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
    Ok(())
}

/// Makes the schema in a database that has none, if that is wanted, and refuses one that is not ours
/// or newer.
pub(super) fn prepare(connection: &mut Connection, create: bool) -> DbResult<()> {
    if is_current(connection)? {
        return Ok(());
    }
    if !create {
        return Err(Error::new(ErrorKind::NotFound, "the database holds no refs").into());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again: another process may have been faster.
    if !is_current(&tx)? {
        tx.execute_batch(SCHEMA)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", VERSION)?;
    }
    tx.commit().map_err(Fault::Commit)?;
    // Where the file system has no shared memory this leaves the journal as it is, just as safe.
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    Ok(())
}

/// Whether the schema is there; an error if it can't be ours.
fn is_current(connection: &Connection) -> DbResult<bool> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let (application, version): (i32, i32) = (number("application_id")?, number("user_version")?);
    match (application, version) {
        (APPLICATION_ID, VERSION) => Ok(true),
        (APPLICATION_ID, newer) => {
            let what = format!("the database is of version {newer}; this program knows {VERSION}");
            Err(Error::new(ErrorKind::Unsupported, what).into())
        }
        (0, 0) => {
            // Empty, or with the table of the old layout. Anything else belongs to someone.
            let strangers: Vec<String> = connection
                .prepare("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND tbl_name <> 'storage'")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            match strangers.first() {
                None => Ok(false),
                Some(name) => Err(foreign(format!("it has a table or index named \"{name}\""))),
            }
        }
        _ => Err(foreign(format!("its application_id is {application:#x}, its version {version}"))),
    }
}

fn foreign(because: String) -> Fault {
    let what = format!("the database belongs to another program: {because}");
    Error::new(ErrorKind::NotADatabase, what).into()
}

pub(super) fn token(connection: &Connection) -> DbResult<Option<Token>> {
    get(connection, "token").map(|token| token.map(Token))
}

pub(super) fn set_token(connection: &Connection, token: String) -> DbResult<Token> {
    set(connection, "token", &token)?;
    Ok(Token(token))
}

/// A value that never was and never comes again.
pub(super) fn new_token(machine: &Machine, path: &Path) -> Result<String> {
    let mut random = [0; 16];
    machine.random.fill(&mut random).map_err(|error| Error::io("random bytes", path, error))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn get(connection: &Connection, name: &str) -> DbResult<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT value FROM pefc WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn set(connection: &Connection, name: &str, value: &str) -> DbResult<()> {
    let upsert = "INSERT INTO pefc(name, value) VALUES(?1, ?2) \
        ON CONFLICT(name) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(upsert)?.execute((name, value))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::SCHEMA;

    #[test]
    fn the_specification_has_the_same_schema() {
        let spec = include_str!("../../../spec/refs.md");
        assert!(spec.contains(&format!("```sql{SCHEMA}```")));
    }
}
