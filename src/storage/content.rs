//! The backends over a content store: `file` and `database`, which differ in where refs are.

use super::backend::{Backend, Transaction, ValueReader, missing};
use crate::disk::Machine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Content;
use crate::hash::Hash;
use crate::refs::{Change, FileRefs, FileRefsOptions, KeyIter, Ref, RefIter, RefStore, Token};
#[cfg(feature = "sqlite")]
use crate::refs::{ImportReport, SqliteOptions, SqliteRefs, TakeOver};
use crate::store::{ContentStore, Root, Session};
use std::io::Read;
use std::path::Path;

/// A key may be overwritten, and its old content collected, between reading the ref and reading the
/// content: then the ref is read again. More often than this in a row it is not bad luck.
const TRIES_MAX: usize = 16;

/// Values whose refs are in `refs` and whose contents are in a content store.
#[derive(Debug)]
pub struct ContentBackend<R> {
    kind: &'static str,
    refs: R,
    content: ContentStore,
}

/// The backend `file`: refs in small text files.
pub type FileBackend = ContentBackend<FileRefs>;

/// The backend `database`: refs in SQLite.
#[cfg(feature = "sqlite")]
pub type DatabaseBackend = ContentBackend<SqliteRefs>;

/// The kind of root under which file refs are registered with a content store.
pub const FILE_ROOT: &str = "file";
/// The kind of root under which SQLite refs are registered with a content store.
#[cfg(feature = "sqlite")]
pub const DATABASE_ROOT: &str = "sqlite";

impl FileBackend {
    /// Opens the backend with refs in the directory `base_path`; makes it if it is not there, and
    /// registers it with `content`, so that what it names is never collected.
    ///
    /// # Errors
    /// As [`FileRefs::open`] and [`ContentStore::register_root`].
    pub fn open(
        base_path: impl AsRef<Path>,
        content: ContentStore,
        machine: Machine,
    ) -> Result<Self> {
        let options = FileRefsOptions { machine, ..FileRefsOptions::default() };
        let refs = FileRefs::open(&base_path, options)?;
        content.register_root(&root(FILE_ROOT, base_path.as_ref())?)?;
        Ok(Self { kind: "file", refs, content })
    }
}

#[cfg(feature = "sqlite")]
impl DatabaseBackend {
    /// Opens the backend with refs in the database at `db_path`; makes it if it is not there, and
    /// registers it with `content`. A table `storage` of the old layout is taken over, once: what
    /// was is in the report.
    ///
    /// # Errors
    /// As [`SqliteRefs::open`], [`SqliteRefs::import_old_values`] and
    /// [`ContentStore::register_root`].
    pub fn open(
        db_path: impl AsRef<Path>,
        content: ContentStore,
        machine: Machine,
    ) -> Result<(Self, ImportReport)> {
        let options = SqliteOptions { machine, ..SqliteOptions::default() };
        let refs = SqliteRefs::open(&db_path, options)?;
        content.register_root(&root(DATABASE_ROOT, db_path.as_ref())?)?;
        let mut report = ImportReport::default();
        if refs.has_old_values()? {
            let mut session = content.begin()?;
            report = refs.import_old_values(&mut IntoSession(&mut session))?;
            session.end()?;
        }
        Ok((Self { kind: "database", refs, content }, report))
    }
}

/// Old values on their way into the content store.
#[cfg(feature = "sqlite")]
struct IntoSession<'a>(&'a mut Session);

#[cfg(feature = "sqlite")]
impl TakeOver for IntoSession<'_> {
    fn store(&mut self, _key: &[u8], data: &[u8]) -> Result<Hash> {
        self.0.put(data)
    }

    fn make_durable(&mut self) -> Result<()> {
        self.0.commit()
    }
}

/// What a content store is told of refs at `path`. Absolute, so that it means the same to a
/// collection that runs elsewhere.
fn root(kind: &str, path: &Path) -> Result<Root> {
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(|error| Error::io("finding the refs", path, error))?;
    match absolute.to_str() {
        Some(text) => Root::new(kind, text),
        None => Err(Error::new(ErrorKind::Usage, "the path is not UTF-8").at(path)),
    }
}

/// Gives every content that the refs of a registered root name: what [`ContentStore::collect`] asks
/// its `mark` for.
///
/// # Errors
/// [`ErrorKind::NotFound`] if the refs are not where they were registered: they are never made anew
/// here, since a collection would take that for "nothing is needed". [`ErrorKind::Unsupported`] for
/// a root of a kind that this program does not know. All errors of reading refs.
pub fn mark_root(root: &Root, machine: &Machine, mark: &mut dyn FnMut(Hash)) -> Result<()> {
    let mut mark_all = |refs: &dyn RefStore| {
        refs.scan(b"", None).try_for_each(|found| found.map(|(_, value)| mark(value.name)))
    };
    let machine = machine.clone();
    match root.kind() {
        FILE_ROOT => {
            let options = FileRefsOptions { machine, create: false, ..Default::default() };
            mark_all(&FileRefs::open(root.location(), options)?)
        }
        #[cfg(feature = "sqlite")]
        DATABASE_ROOT => {
            let options = SqliteOptions { machine, create: false, ..Default::default() };
            mark_all(&SqliteRefs::open(root.location(), options)?)
        }
        other => {
            let what = format!("refs of the kind \"{other}\" at {} can't be read", root.location());
            Err(Error::new(ErrorKind::Unsupported, what).hinting(
                "use a pefc that knows them, or unregister them: nothing is collected without them",
            ))
        }
    }
}

impl<R: RefStore> ContentBackend<R> {
    /// The refs.
    pub fn refs(&self) -> &R {
        &self.refs
    }

    /// Finds a content by key, though both may change in between.
    fn find<T>(
        &self,
        key: &[u8],
        mut read: impl FnMut(&Hash) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut tries = 0;
        let mut before = None;
        loop {
            let Some(value) = self.refs.get(key)? else {
                return Ok(None);
            };
            if let Some(found) = read(&value.name)? {
                return Ok(Some(found));
            }
            tries += 1;
            if before == Some(value) || tries == TRIES_MAX {
                return Err(missing(key, &value));
            }
            before = Some(value);
        }
    }
}

impl<R: RefStore> Backend for ContentBackend<R> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Ref>> {
        self.refs.get(key)
    }

    fn retrieve(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.find(key, |name| self.content.get(name))
    }

    fn reader(&self, key: &[u8]) -> Result<Option<ValueReader<'_>>> {
        self.find(key, |name| {
            if *name == Hash::of(b"") {
                return Ok(Some(Box::new(std::io::empty()) as ValueReader<'_>)); // never stored
            }
            let found = self.content.reader(name)?;
            Ok(found.map(|reader| Box::new(reader) as ValueReader<'_>))
        })
    }

    fn begin(&self) -> Result<Box<dyn Transaction + '_>> {
        Ok(Box::new(ContentTransaction { backend: self, session: None }))
    }

    fn keys(&self, prefix: &[u8], after: Option<&[u8]>) -> KeyIter<'_> {
        self.refs.keys(prefix, after)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>) -> RefIter<'_> {
        self.refs.scan(prefix, after)
    }

    fn snapshot(&self, each: &mut dyn FnMut(&[u8], &Ref) -> Result<()>) -> Result<Token> {
        self.refs.snapshot(each)
    }

    fn token(&self) -> Result<Token> {
        self.refs.token()
    }

    fn content(&self) -> Option<&ContentStore> {
        Some(&self.content)
    }
}

struct ContentTransaction<'a, R> {
    backend: &'a ContentBackend<R>,
    /// Begun with the first content: deleting needs none.
    session: Option<Session>,
}

impl<R> ContentTransaction<'_, R> {
    fn session(&mut self) -> Result<&mut Session> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(self.backend.content.begin()?)),
        }
    }
}

impl<R: RefStore> Transaction for ContentTransaction<'_, R> {
    fn put(&mut self, content: &[u8]) -> Result<Hash> {
        self.session()?.put(content)
    }

    fn put_stream(&mut self, content: &mut dyn Read) -> Result<Content> {
        self.session()?.put_stream(content)
    }

    fn take(&mut self, source: &dyn Backend, key: &[u8], value: &Ref) -> Result<()> {
        let own = &self.backend.content;
        let is_there = match source.content() {
            Some(other) if other.id() == own.id() => self.session()?.keep(&value.name)?,
            Some(other) => self.session()?.copy_from(other, &value.name)?,
            None => {
                let mut reader = source.reader(key)?.ok_or_else(|| missing(key, value))?;
                self.session()?.put_stream(&mut reader)?.name == value.name
            }
        };
        if is_there { Ok(()) } else { Err(missing(key, value)) }
    }

    fn commit(mut self: Box<Self>, changes: &[Change]) -> Result<Vec<Option<Ref>>> {
        if let Some(session) = &mut self.session {
            session.commit()?;
        }
        let before = self.backend.refs.apply(changes)?;
        if let Some(session) = self.session.take() {
            // The changes are made. Should the end not be noted, a collection waits for this process
            // to close the store, and nothing is lost.
            let _ = session.end();
        }
        Ok(before)
    }
}
