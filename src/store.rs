//! Contents in a directory: put once, found by name, collected when nothing refers to them.
//!
//! A [`ContentStore`] is a directory of pack files that hold contents without keys (`spec/store.md`).
//! Who wants to find a content again keeps its name, a *ref*, elsewhere: in files, in a database.
//! Many threads and processes read and write one store at once. This module must not know keys,
//! refs or values; collection learns what is still wanted from whoever keeps refs.
//!
//! What is put is put in a [`Session`]: it begins, puts contents or keeps those that are there,
//! commits, and ends only *after* refs name what was committed. While it lasts, a collection
//! beside it removes nothing that it has put or kept.

mod check;
mod collect;
mod layout;
mod session;
mod view;

pub use check::{ContentProblem, SegmentReport, StoreReport, StoreStats};
pub use collect::{CollectOptions, CollectReport, Mark};
pub use layout::Root;
pub use session::Session;

use crate::disk::Machine;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::pack::{ObjectReader, VerifyOptions};
use collect::Keep;
use layout::Paths;
use session::Slot;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use view::View;

/// A content of a store, to read and seek in. Goes on working when a collection removes the segment
/// that it reads.
pub type ContentReader = ObjectReader<'static>;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The machine that the directory is on.
    pub machine: Machine,
    /// Whether to make a new store where there is none.
    pub create: bool,
    /// zstd level, 1 to 19. 1 by default: a higher one takes longer for each put, and dictionaries do
    /// most of what can be done for small records.
    pub level: i32,
    /// Threads that compress, per session.
    pub threads: usize,
    /// Whether everything is decoded and named again before it is committed.
    pub verify_writes: bool,
    /// A segment that is longer, in bytes, gets no more content.
    pub segment_bytes_max: u64,
    /// Whether segments may be mapped; see [`crate::OpenOptions::mapped`].
    pub mapped: bool,
    /// Decoded frames are kept up to this many bytes, per segment.
    pub cache_bytes: u64,
    /// [`ContentStore::get`] refuses contents longer than this; [`ContentStore::reader`] reads any.
    pub content_bytes_max: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            machine: Machine::real(),
            create: true,
            level: 1,
            threads: std::thread::available_parallelism().map_or(1, |count| count.get().min(4)),
            verify_writes: true,
            segment_bytes_max: 256 << 20,
            mapped: true,
            cache_bytes: 8 << 20,
            content_bytes_max: 1 << 30,
        }
    }
}

/// A directory of contents. A clone is the same open store.
///
/// Shared by threads as it is; each [`Session`] writes to a segment of its own. Everything that is
/// returned was checked against its name.
///
/// ```
/// use pefc::store::{ContentStore, Root, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("content");
/// let store = ContentStore::open(&path, StoreOptions::default())?;
/// // Once, before the first ref: collection asks every registered ref store what it needs.
/// store.register_root(&Root::new("example", "refs.txt")?)?;
///
/// let mut session = store.begin()?;
/// let name = session.put(b"qed")?;
/// session.commit()?;
/// // ... now refs may name it ...
/// session.end()?;
/// assert_eq!(store.get(&name)?.as_deref(), Some(&b"qed"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    id: String,
    options: StoreOptions,
    /// Segments as they were listed last.
    view: RwLock<Arc<View>>,
    /// Session files and writers that no session uses now.
    slots: Mutex<Vec<Slot>>,
}

impl ContentStore {
    /// Opens the store in `dir`; with [`StoreOptions::create`] makes one where there is none. Takes
    /// the same time however much the store holds.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Unsupported`] for a later layout,
    /// [`ErrorKind::Corrupt`] if the directory is no store, [`ErrorKind::ReadOnly`].
    pub fn open(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let paths = Paths { dir: dir.as_ref().to_owned() };
        let id = open_id(&paths, &options)?;
        let (view, slots) = (RwLock::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { paths, id, options, view, slots }) })
    }

    /// Random text that names this store, the same for all who open it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.paths.dir
    }

    /// The content named `name`; `None` if no segment holds it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if all copies are damaged, [`ErrorKind::Limit`] for content longer than
    /// [`StoreOptions::content_bytes_max`], [`ErrorKind::Io`].
    pub fn get(&self, name: &Hash) -> Result<Option<Vec<u8>>> {
        self.inner.get(name)
    }

    /// Whether content named `name` is there and reads back whole (of a large one: its list).
    ///
    /// # Errors
    /// As [`ContentStore::get`].
    pub fn contains(&self, name: &Hash) -> Result<bool> {
        if *name == Hash::of(b"") {
            return Ok(true);
        }
        Ok(self.inner.find(|pack| Ok(pack.contains(name)?.then_some(())))?.is_some())
    }

    /// The content named `name`, to read and seek in; any length in bounded memory.
    ///
    /// # Errors
    /// As [`ContentStore::get`].
    pub fn reader(&self, name: &Hash) -> Result<Option<ContentReader>> {
        self.inner.find(|pack| ObjectReader::shared(pack, name))
    }

    /// Begins a session: one batch, from its first put to the change of refs.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`], [`ErrorKind::NoSpace`], [`ErrorKind::Io`].
    pub fn begin(&self) -> Result<Session> {
        Session::begin(self)
    }

    /// Tells the store of a ref store that names its contents, durably. To be done before the first
    /// ref is set; again does nothing.
    ///
    /// # Errors
    /// As [`ContentStore::begin`].
    pub fn register_root(&self, root: &Root) -> Result<()> {
        let path = self.inner.paths.roots().join(root.file_name());
        layout::write_text(&self.inner.options.machine, &path, &root.encode(), false).map(drop)
    }

    /// Forgets a ref store: what only it names goes with the next collection. Says whether it was
    /// registered.
    ///
    /// # Errors
    /// As [`ContentStore::begin`].
    pub fn unregister_root(&self, root: &Root) -> Result<bool> {
        let (dir, vfs) = (self.inner.paths.roots(), &self.inner.options.machine.vfs);
        let path = dir.join(root.file_name());
        let removing = |error| Error::io("forgetting a ref store", &path, error);
        match vfs.remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            removed => removed.map_err(removing)?,
        }
        vfs.sync_dir(&dir).map_err(removing)?;
        Ok(true)
    }

    /// All registered ref stores, in no order.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if one can't be read.
    pub fn roots(&self) -> Result<Vec<Root>> {
        self.inner.roots()
    }

    /// Removes contents that no root names, and merges small segments.
    ///
    /// `mark` is asked, twice, to give every content that a registered root needs to its second
    /// argument; if it fails for one, nothing is removed. `wait` is told how many sessions are still
    /// running that began before; it returns whether to look again, after a while of its choice.
    /// Once it returns false the collection ends with [`CollectReport::waiting_for`] set, and the
    /// next one goes on from there.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] while another collection runs, [`ErrorKind::Usage`] if no root is
    /// registered, and what `mark` returns.
    pub fn collect(
        &self,
        options: &CollectOptions,
        mark: &mut Mark<'_>,
        wait: &mut dyn FnMut(usize) -> bool,
    ) -> Result<CollectReport> {
        self.inner.collect(options, Keep::Live(mark), wait)
    }

    /// Merges small segments without removing any content: what [`ContentStore::collect`] does besides,
    /// for when refs can't be read.
    ///
    /// # Errors
    /// As [`ContentStore::collect`], without roots.
    pub fn merge(&self, wait: &mut dyn FnMut(usize) -> bool) -> Result<CollectReport> {
        self.inner.collect(&CollectOptions::default(), Keep::All, wait)
    }

    /// Numbers for people and monitoring.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; damaged segments are counted, not errors.
    pub fn stats(&self) -> Result<StoreStats> {
        self.inner.stats()
    }

    /// Verifies every segment as a pack.
    ///
    /// # Errors
    /// Only what keeps it from verifying at all; damage is in the report.
    pub fn verify(&self, options: &VerifyOptions) -> Result<StoreReport> {
        self.inner.verify(options)
    }

    /// Reads each of these contents whole and gives those that are missing or damaged, with the error
    /// that reading gives: what a caller needs to say which keys are lost.
    ///
    /// # Errors
    /// Only what `names` gives; damage is in the result.
    pub fn check(
        &self,
        names: impl IntoIterator<Item = Result<Hash>>,
    ) -> Result<Vec<ContentProblem>> {
        self.inner.check(names)
    }

    /// Looks at the directory again. Reading does so by itself before it says that something is not
    /// there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn refresh(&self) -> Result<()> {
        let view = self.inner.list()?;
        self.inner.look_again(&view, |_| true);
        Ok(())
    }
}

/// The id of the store, which is made if there is none and it may be.
fn open_id(paths: &Paths, options: &StoreOptions) -> Result<String> {
    let (machine, path) = (&options.machine, paths.store());
    if let Some(text) = layout::read_text(&*machine.vfs, &path)? {
        return layout::decode_store(&text, &path);
    }
    if !options.create {
        let error =
            Error::new(ErrorKind::NotFound, "there is no content store here").at(&paths.dir);
        return Err(error.hinting("check the path"));
    }
    for dir in [paths.segments(), paths.sessions(), paths.roots()] {
        let created = machine.vfs.create_dir_all(&dir);
        created.map_err(|error| Error::io("making a content store", &dir, error))?;
    }
    // Last: whoever finds it finds a whole store.
    let id = layout::random_hex(machine, &path)? + &layout::random_hex(machine, &path)?;
    if layout::write_text(machine, &path, &layout::encode_store(&id), false)? {
        return Ok(id);
    }
    // Another one was faster.
    let text = layout::read_text(&*machine.vfs, &path)?.unwrap_or_default();
    layout::decode_store(&text, &path)
}
