//! Refs in one table of a SQLite database.
//!
//! SQLite reads and writes its files itself: the one exception to the rule that all of that goes
//! through [`crate::disk`]. `spec/refs.md` 7 gives the schema and argues the settings.

mod import;
mod schema;

pub use import::{ImportReport, TakeOver};

use super::{
    Change, KeyIter, KeyPage, Ref, RefIter, RefStore, Token, WAIT_MS_DEFAULT, check_key, conflict,
    paged_keys,
};
use crate::disk::Machine;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Row, Rows, Transaction, TransactionBehavior,
};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rows that a scan takes at a time, so that it holds no lock while its caller works.
const PAGE_ROWS: usize = 1024;

/// Keys that a list takes at a time, first and at most: keys alone are short.
const PAGE_KEYS: (usize, usize) = (1024, 1 << 13);

/// Connections for reading that are kept for the next reader.
const READERS_MAX: usize = 8;

/// How to open refs in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// For the clock. The files are SQLite's own business.
    pub machine: Machine,
    /// How long a writer waits for another one, in milliseconds.
    pub wait_ms: u64,
    /// Whether to make a database, and the schema in it, where there is none.
    pub create: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { machine: Machine::real(), wait_ms: WAIT_MS_DEFAULT, create: true }
    }
}

/// Refs in the table `refs` of a SQLite database.
///
/// Any number of threads and processes may use it; readers and the writer do not disturb each
/// other. A batch is one transaction with one sync.
#[derive(Debug)]
pub struct SqliteRefs {
    path: PathBuf,
    options: SqliteOptions,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteRefs {
    /// Opens the database at `path`; with [`SqliteOptions::create`] makes it, and its directory, if
    /// it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not there or holds no refs,
    /// [`ErrorKind::NotADatabase`] for a file that is none or belongs to another program,
    /// [`ErrorKind::Unsupported`] for one of a later version, [`ErrorKind::Locked`],
    /// [`ErrorKind::ReadOnly`], [`ErrorKind::Corrupt`].
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let vfs = &options.machine.vfs;
        if options.create {
            let dir = crate::disk::parent_dir(&path);
            let made = vfs.create_dir_all(&dir);
            made.map_err(|error| Error::io("creating the directory", &dir, error))?;
        } else {
            vfs.open_read(&path)
                .map_err(|error| Error::io("opening the database", &path, error))?;
        }
        let mut writer = connect(&path, options.wait_ms)?;
        schema::prepare(&mut writer, options.create).map_err(|error| error.into_error(&path))?;
        let readers = Mutex::new(Vec::new());
        Ok(Self { path, options, writer: Mutex::new(writer), readers })
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fault(&self, error: impl Into<Fault>) -> Error {
        error.into().into_error(&self.path)
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back when it dropped.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` on a connection that no one else uses.
    fn with_reader<T>(&self, read: impl FnOnce(&mut Connection) -> DbResult<T>) -> Result<T> {
        let kept = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = kept().pop();
        let mut connection = match spare {
            Some(connection) => connection,
            None => connect(&self.path, self.options.wait_ms)?,
        };
        let result = read(&mut connection);
        let mut kept = kept();
        if kept.len() < READERS_MAX {
            kept.push(connection);
        }
        drop(kept);
        result.map_err(|error| self.fault(error))
    }

    fn page(&self, prefix: &[u8], after: &[u8]) -> Result<VecDeque<(Vec<u8>, Ref)>> {
        // Keys that begin with the prefix lie between it and its successor; a key is at most one
        // row, so that `after` is exclusive.
        self.with_reader(|connection| page(connection, prefix, after))
    }
}

/// A page of refs behind `after` (all from `prefix` on, if it is empty).
fn page(
    connection: &Connection,
    prefix: &[u8],
    after: &[u8],
) -> DbResult<VecDeque<(Vec<u8>, Ref)>> {
    const SELECT: &str = "SELECT key, b3, size, created_at, updated_at FROM refs \
        WHERE key >= ?1 AND key > ?2 AND (?3 IS NULL OR key < ?3) ORDER BY key LIMIT ?4";
    let mut statement = connection.prepare_cached(SELECT)?;
    let rows = statement.query_map((prefix, after, successor(prefix), PAGE_ROWS), |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, ref_of(row, 1)))
    })?;
    rows.map(|row| {
        let (key, value) = row?;
        Ok((key, value?))
    })
    .collect()
}

/// At most `count` keys behind `after` (from `prefix` on, if there is none).
fn page_of_keys(
    connection: &Connection,
    prefix: &[u8],
    after: Option<&[u8]>,
    count: usize,
) -> DbResult<KeyPage> {
    // One bound on each side: more would be looked at for every row. If the prefix has no successor
    // all that is not less begins with it.
    const FROM: &str = "SELECT key FROM refs WHERE key >= ?1 ORDER BY key LIMIT ?2";
    const FROM_TO: &str = "SELECT key FROM refs WHERE key >= ?1 AND key < ?3 ORDER BY key LIMIT ?2";
    // The least key that is greater.
    let behind = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
    let from = behind.as_slice().max(prefix);
    let mut page = KeyPage::default();
    let mut take = |mut rows: Rows<'_>| -> DbResult<()> {
        while let Some(row) = rows.next()? {
            page.push(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
        }
        Ok(())
    };
    match successor(prefix) {
        Some(end) => take(connection.prepare_cached(FROM_TO)?.query((from, count, end))?)?,
        None => take(connection.prepare_cached(FROM)?.query((from, count))?)?,
    }
    Ok(page)
}

/// The least byte string that is greater than all that begin with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// The ref in the columns from `at` on.
fn ref_of(row: &Row<'_>, at: usize) -> DbResult<Ref> {
    Ok(Ref {
        name: Hash::from_bytes(row.get(at)?),
        size_bytes: row.get(at + 1)?,
        created_ns: row.get(at + 2)?,
        updated_ns: row.get(at + 3)?,
    })
}

fn find(connection: &Connection, key: &[u8]) -> DbResult<Option<Ref>> {
    const SELECT: &str = "SELECT b3, size, created_at, updated_at FROM refs WHERE key = ?1";
    let mut statement = connection.prepare_cached(SELECT)?;
    statement.query_row([key], |row| Ok(ref_of(row, 0))).optional()?.transpose()
}

/// Makes one change in a transaction and gives what was there before.
fn change(tx: &Transaction<'_>, change: &Change, now_ns: i64) -> DbResult<Option<Ref>> {
    const UPSERT: &str = "INSERT INTO refs(key, b3, size, created_at, updated_at) \
        VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(key) DO UPDATE SET \
        b3 = excluded.b3, size = excluded.size, created_at = excluded.created_at, \
        updated_at = excluded.updated_at";
    let before = find(tx, &change.key)?;
    if !change.expect.holds(before.as_ref()) {
        return Err(Fault::Ours(conflict(&change.key, &change.expect, before.as_ref())));
    }
    match change.result(before.as_ref(), now_ns) {
        Some(new) if before != Some(new) => {
            let row =
                (&change.key, new.name.as_bytes(), new.size_bytes, new.created_ns, new.updated_ns);
            tx.prepare_cached(UPSERT)?.execute(row)?;
        }
        None if before.is_some() => {
            tx.prepare_cached("DELETE FROM refs WHERE key = ?1")?.execute([&change.key])?;
        }
        _ => {}
    }
    Ok(before)
}

impl RefStore for SqliteRefs {
    fn get(&self, key: &[u8]) -> Result<Option<Ref>> {
        check_key(key)?;
        self.with_reader(|connection| find(connection, key))
    }

    fn apply(&self, changes: &[Change]) -> Result<Vec<Option<Ref>>> {
        changes.iter().try_for_each(|change| check_key(&change.key))?;
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let now_ns = self.options.machine.clock.now_ns();
        let mut writer = self.writer();
        let run = |writer: &mut Connection| -> DbResult<_> {
            // Immediate: what the expectations are held to can't change before the commit.
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // In the order of the keys, which is that of the table; those of one key as they came.
            let mut order: Vec<usize> = (0..changes.len()).collect();
            order.sort_by(|a, b| changes[*a].key.cmp(&changes[*b].key));
            let mut before = vec![None; changes.len()];
            for at in order {
                before[at] = change(&tx, &changes[at], now_ns)?;
            }
            tx.commit().map_err(Fault::Commit)?;
            Ok(before)
        };
        run(&mut writer).map_err(|error| self.fault(error))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_> {
        let prefix = prefix.to_vec();
        // No key is empty, so that an empty one is before all.
        let mut after = Some(after.unwrap_or_default().to_vec());
        let mut page = VecDeque::new();
        Box::new(std::iter::from_fn(move || {
            if page.is_empty() {
                match self.page(&prefix, &after.take()?) {
                    Ok(next) => page = next,
                    Err(error) => return Some(Err(error)),
                }
                if page.len() == PAGE_ROWS {
                    after = page.back().map(|(key, _)| key.clone());
                }
            }
            page.pop_front().map(Ok)
        }))
    }

    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        let prefix = prefix.to_vec();
        paged_keys(after.map(<[u8]>::to_vec), PAGE_KEYS, move |after, count| {
            self.with_reader(|connection| page_of_keys(connection, &prefix, after, count))
        })
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        // First, so that the token is there and this reader need not write.
        self.token()?;
        let seen = self.with_reader(|connection| {
            // A transaction that reads sees one state, whatever is written meanwhile.
            let tx = connection.transaction()?;
            let token = schema::token(&tx)?;
            let mut after = Vec::new();
            loop {
                let rows = page(&tx, b"", &after)?;
                for (key, value) in &rows {
                    each(key, value).map_err(Fault::Ours)?;
                }
                match rows.back() {
                    Some((last, _)) if rows.len() == PAGE_ROWS => after.clone_from(last),
                    _ => return Ok(token),
                }
            }
        })?;
        match seen {
            Some(token) => Ok(token),
            // Something was changed in between: this state has no token that comes again.
            None => Ok(Token(schema::new_token(&self.options.machine, &self.path)?)),
        }
    }

    fn token(&self) -> Result<Token> {
        if let Some(token) = self.with_reader(|connection| schema::token(connection))? {
            return Ok(token);
        }
        let new = schema::new_token(&self.options.machine, &self.path)?;
        let mut writer = self.writer();
        let run = |writer: &mut Connection| -> DbResult<_> {
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let token = match schema::token(&tx)? {
                Some(token) => token,
                None => schema::set_token(&tx, new)?,
            };
            tx.commit().map_err(Fault::Commit)?;
            Ok(token)
        };
        run(&mut writer).map_err(|error| self.fault(error))
    }
}

/// A connection with our settings.
fn connect(path: &Path, wait_ms: u64) -> Result<Connection> {
    let opened = || -> DbResult<Connection> {
        let connection = Connection::open(path)?;
        connection.pragma_update(
            None,
            "busy_timeout",
            i64::try_from(wait_ms).unwrap_or(i64::MAX),
        )?;
        schema::configure(&connection)?;
        Ok(connection)
    };
    opened().map_err(|error| error.into_error(path))
}

type DbResult<T> = std::result::Result<T, Fault>;

/// What goes wrong with a database, before it is told to the user.
#[derive(Debug)]
enum Fault {
    /// Told already.
    Ours(Error),
    Sqlite(rusqlite::Error),
    /// The commit itself failed.
    Commit(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Fault {
    fn into_error(self, path: &Path) -> Error {
        let (error, at_commit) = match self {
            Self::Ours(error) => return error.at(path),
            Self::Sqlite(error) => (error, false),
            Self::Commit(error) => (error, true),
        };
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => ErrorKind::NotADatabase,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Locked,
            Some(ErrorCode::DatabaseCorrupt) => ErrorKind::Corrupt,
            Some(ErrorCode::DiskFull) => ErrorKind::NoSpace,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                ErrorKind::ReadOnly
            }
            _ if at_commit => ErrorKind::Durability,
            // A row whose columns are not what the schema says.
            None => ErrorKind::Corrupt,
            _ => ErrorKind::Io,
        };
        let what = match kind {
            ErrorKind::NotADatabase => "the file is no SQLite database",
            ErrorKind::Locked => "another program is writing to the database",
            ErrorKind::Corrupt => "the database is damaged",
            _ => "using the database",
        };
        let error = Error::new(kind, what).at(path).because(error);
        match kind {
            ErrorKind::Corrupt => error.hinting(
                "nothing was changed; `sqlite3 FILE .recover` salvages its rows, or restore a backup",
            ),
            ErrorKind::ReadOnly => {
                error.hinting("check the path and the permissions of the file and its directory")
            }
            _ => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}
