//! Taking over the table of the old layout: `storage(key, data, created_at, updated_at)`.

use super::super::{Change, Expect, Ref, To, check_key};
use super::{DbResult, Fault, SqliteRefs, change, schema};
use crate::error::Result;
use crate::hash::Hash;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};

/// Where the values of the old table go.
pub trait TakeOver {
    /// Keeps the data of one row and gives its name.
    ///
    /// # Errors
    /// Whatever ends the import.
    fn store(&mut self, key: &[u8], data: &[u8]) -> Result<Hash>;

    /// Makes durable all that was kept. Called once, before any of it is a ref.
    ///
    /// # Errors
    /// Whatever ends the import.
    fn make_durable(&mut self) -> Result<()>;
}

/// What was taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Rows that are refs now.
    pub imported_count: u64,
    /// Rows without data, which the old interface told as not there.
    pub without_data_count: u64,
    /// Rows whose key was a ref already.
    pub existing_count: u64,
}

/// Times were written as numbers of seconds, or as text by `CURRENT_TIMESTAMP`.
const SELECT: &str = "SELECT CAST(key AS BLOB), data, \
    CASE typeof(created_at) WHEN 'integer' THEN created_at * 1000000000 \
        WHEN 'real' THEN CAST(created_at * 1e6 AS INTEGER) * 1000 \
        ELSE unixepoch(created_at) * 1000000000 END, \
    CASE typeof(updated_at) WHEN 'integer' THEN updated_at * 1000000000 \
        WHEN 'real' THEN CAST(updated_at * 1e6 AS INTEGER) * 1000 \
        ELSE unixepoch(updated_at) * 1000000000 END \
    FROM storage";

impl SqliteRefs {
    /// Whether there is a table of the old layout that was not taken over yet.
    ///
    /// # Errors
    /// As any read.
    pub fn has_old_values(&self) -> Result<bool> {
        self.with_reader(|connection| is_due(connection))
    }

    /// Takes the old table over, once: hands each value to `target`, then sets all refs in one
    /// transaction. The table itself stays as it is. Keys that are refs already are left alone.
    ///
    /// # Errors
    /// Errors of `target`; [`crate::ErrorKind::InvalidKey`] for a row whose key is empty or too
    /// long. No ref was set then, and the next call tries again.
    pub fn import_old_values(&self, target: &mut dyn TakeOver) -> Result<ImportReport> {
        let now_ns = self.options.machine.clock.now_ns();
        let mut writer = self.writer();
        let mut run = |writer: &mut Connection| -> DbResult<ImportReport> {
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if !is_due(&tx)? {
                return Ok(ImportReport::default());
            }
            let report = import(&tx, target, now_ns)?;
            target.make_durable()?;
            schema::set(&tx, "old_table", "imported")?;
            tx.commit().map_err(Fault::Commit)?;
            Ok(report)
        };
        run(&mut writer).map_err(|error| self.fault(error))
    }
}

fn is_due(connection: &Connection) -> DbResult<bool> {
    if schema::get(connection, "old_table")?.is_some() {
        return Ok(false);
    }
    Ok(connection.table_exists(None, "storage")?)
}

fn import(tx: &Transaction<'_>, target: &mut dyn TakeOver, now_ns: i64) -> DbResult<ImportReport> {
    let mut report = ImportReport::default();
    let mut statement = tx.prepare(SELECT)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = row.get::<_, Option<Vec<u8>>>(0)?.unwrap_or_default();
        check_key(&key).map_err(|error| {
            error.hinting("a row of the old table `storage` has it: rename it to 1 to 4096 bytes, or delete the row")
        })?;
        let Some(data) = data_of(row)? else {
            report.without_data_count += 1;
            continue;
        };
        if super::find(tx, &key)?.is_some() {
            report.existing_count += 1;
            continue;
        }
        let value = Ref {
            name: target.store(&key, &data)?,
            size_bytes: data.len() as u64,
            created_ns: row.get::<_, Option<i64>>(2)?.unwrap_or(now_ns),
            updated_ns: row.get::<_, Option<i64>>(3)?.unwrap_or(now_ns),
        };
        change(tx, &Change { key, expect: Expect::Absent, to: To::Restore(value) }, now_ns)?;
        report.imported_count += 1;
    }
    Ok(report)
}

/// The data of a row as bytes: text as UTF-8, numbers as SQLite prints them.
fn data_of(row: &Row<'_>) -> DbResult<Option<Vec<u8>>> {
    Ok(match row.get_ref(1)? {
        ValueRef::Null => None,
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(bytes.to_vec()),
        ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
        ValueRef::Real(number) => Some(number.to_string().into_bytes()),
    })
}
