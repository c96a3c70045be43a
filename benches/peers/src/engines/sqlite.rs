//! SQLite with the values in its table.

use crate::engine::{Engine, Result};
use crate::workload::Record;
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;

struct Sqlite(Connection);

pub fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let connection = Connection::open(dir.join("sqlite.db"))?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -49_152)?; // KiB, as the pack's cache
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS kv(key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) STRICT",
    )?;
    Ok(Box::new(Sqlite(connection)))
}

impl Engine for Sqlite {
    fn put(&mut self, batch: &[Record]) -> Result<()> {
        let tx = self.0.transaction()?;
        {
            let mut put =
                tx.prepare_cached("INSERT OR REPLACE INTO kv(key, value) VALUES(?1, ?2)")?;
            for (key, value) in batch {
                put.execute((key, value))?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut get = self.0.prepare_cached("SELECT value FROM kv WHERE key = ?1")?;
        Ok(get.query_row([key], |row| row.get(0)).optional()?)
    }

    fn list(&mut self, prefix: &[u8]) -> Result<(usize, usize)> {
        let mut end = prefix.to_vec();
        *end.last_mut().expect("a prefix of the workload") += 1; // of ASCII
        let sql = "SELECT key FROM kv WHERE key >= ?1 AND key < ?2 ORDER BY key";
        let mut list = self.0.prepare_cached(sql)?;
        let mut rows = list.query((prefix, end))?;
        let mut found = (0, 0);
        while let Some(row) = rows.next()? {
            let key: Vec<u8> = row.get(0)?;
            found = (found.0 + 1, found.1 + key.len());
        }
        Ok(found)
    }
}
