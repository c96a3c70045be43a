//! Entries of a pack into a directory, and nowhere else.

use super::restore::{Deferred, FileJob, Property, Restorer};
use super::{Progress, check_cancel, is_under};
use crate::chunk::WHOLE_BYTES_MAX;
use crate::disk::tree::{Attributes as DiskAttributes, FileKind as DiskKind, TargetDir};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Attributes, FileKind, Put};
use crate::pack::Pack;
use crossbeam_channel::bounded;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Files of a run that one thread takes, at most, and their bytes, about: neighbours share frames.
const RUN_FILES: usize = 64;
const RUN_BYTES: u64 = 1 << 20;

/// What happens to a path that is there already and no directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It stays, and that is a problem of the entry.
    #[default]
    Refuse,
    /// It is replaced, whole and at once; never written through.
    Replace,
}

/// What [`extract`] takes, and how.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// Keys to extract, each with all under it; none for all.
    pub keys: Vec<Vec<u8>>,
    /// How many leading components are cut off each key; shorter ones are passed over.
    pub strip_components: usize,
    /// What happens to paths that are there already.
    pub overwrite: Overwrite,
    /// Whether files are given to their owners, by name or else by number. Takes privileges.
    pub restore_owner: bool,
    /// Whether only the numbers of owners count.
    pub numeric_owner: bool,
    /// Whether setuid, setgid and sticky bits are restored.
    pub special_bits: bool,
    /// Whether devices are created. Takes privileges.
    pub devices: bool,
    /// Whether times of last modification are restored.
    pub mtime: bool,
    /// Permission bits that are taken from all modes.
    pub umask: u32,
    /// Whether damaged or missing content is a problem of the entry, and not the end.
    pub keep_going_on_damage: bool,
    /// Whether the entries are counted first, for [`Progress::total`].
    pub count_first: bool,
    /// Whether all is to survive a power cut when [`extract`] returns.
    pub sync: bool,
    /// Threads that read the pack and write files.
    pub threads: usize,
    /// Once it is set, [`extract`] returns [`ErrorKind::Interrupted`].
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            strip_components: 0,
            overwrite: Overwrite::Refuse,
            restore_owner: false,
            numeric_owner: false,
            special_bits: false,
            devices: false,
            mtime: true,
            umask: 0,
            keep_going_on_damage: false,
            count_first: false,
            sync: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            cancel: None,
        }
    }
}

/// What [`extract`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// Regular files.
    pub file_count: u64,
    /// Directories that have an entry.
    pub directory_count: u64,
    /// Symbolic links.
    pub symlink_count: u64,
    /// Further names of files.
    pub hard_link_count: u64,
    /// Named pipes and devices.
    pub other_count: u64,
    /// Bytes of the regular files.
    pub content_bytes: u64,
    /// What was not extracted, in key order.
    pub problems: Vec<ExtractProblem>,
    /// What is there, but not as it was archived, in key order.
    pub not_restored: Vec<NotRestored>,
}

/// An entry that was not extracted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtractProblem {
    /// Its key.
    pub key: Vec<u8>,
    /// What kind of problem it is.
    pub kind: ExtractProblemKind,
    /// What is wrong, for people.
    pub error: String,
}

/// Why an entry was not extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtractProblemKind {
    /// The path leads out of the target, or through a symbolic link.
    UnsafePath,
    /// Something is there already that may not be replaced.
    Exists,
    /// One of its directories is no directory in the pack, or a hard link's target no file.
    Clash,
    /// The selected key is not in the pack.
    NotFound,
    /// Its content is not in the pack.
    Missing,
    /// Its content is damaged.
    Corrupt,
    /// The system does not permit it.
    Permission,
    /// This system has no such kind of file.
    Unsupported,
    /// The system refused something else.
    Io,
}

impl ExtractProblemKind {
    /// The name in messages and in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnsafePath => "unsafe path",
            Self::Exists => "exists already",
            Self::Clash => "clashes with another key",
            Self::NotFound => "not found",
            Self::Missing => "content missing",
            Self::Corrupt => "content damaged",
            Self::Permission => "not permitted",
            Self::Unsupported => "unsupported",
            Self::Io => "refused by the system",
        }
    }
}

/// A property that an extracted file does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotRestored {
    /// The file's key.
    pub key: Vec<u8>,
    /// What was not restored.
    pub what: Property,
}

impl ExtractReport {
    pub(super) fn merge(&mut self, other: Self) {
        self.file_count += other.file_count;
        self.directory_count += other.directory_count;
        self.symlink_count += other.symlink_count;
        self.hard_link_count += other.hard_link_count;
        self.other_count += other.other_count;
        self.content_bytes += other.content_bytes;
        self.problems.extend(other.problems);
        self.not_restored.extend(other.not_restored);
    }

    pub(super) fn problem(
        &mut self,
        key: &[u8],
        kind: ExtractProblemKind,
        error: impl std::fmt::Display,
    ) {
        self.problems.push(ExtractProblem { key: key.to_vec(), kind, error: error.to_string() });
    }
}

/// Writes entries of the path space below `target`, which is created if it isn't there.
///
/// Nothing is created, changed or removed outside `target`, whatever the pack holds: paths are
/// resolved beneath it without following a link, and symbolic links are made last. Content is
/// checked before it is written, and a file whose content fails is removed again.
///
/// # Errors
/// Damaged or missing content (unless [`ExtractOptions::keep_going_on_damage`]), a full or
/// read-only disk, [`ErrorKind::Interrupted`]. What goes wrong with a single path is in the report.
pub fn extract(
    pack: &Pack,
    target: &Path,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractReport> {
    let opening = |error| Error::io("opening the directory to extract into", target, error);
    let dir = TargetDir::create_or_open(target).map_err(opening)?;
    let cancel = options.cancel.as_deref();
    let selection = Selection::new(&options.keys);
    if options.count_first {
        let (mut count, mut bytes) = (0, 0);
        selection.each(pack, |_, put| {
            check_cancel(cancel)?;
            count += 1;
            bytes += put.content.map_or(0, |content| content.len);
            Ok(())
        })?;
        progress.total(count, bytes);
    }
    let restorer = Restorer { pack, dir: &dir, options, progress };
    let mut planner = Planner {
        restorer: &restorer,
        selection: &selection,
        directories: Vec::new(),
        known: HashMap::new(),
        deferred: Vec::new(),
        found: HashSet::new(),
        run: Vec::new(),
        run_bytes: 0,
        report: ExtractReport::default(),
    };
    with_workers(&restorer, |submit| planner.entries(submit))
        .and_then(|workers| planner.finish(workers))
        .and_then(|report| {
            if dir.was_created() {
                let mode = Some(0o755 & !options.umask);
                let root = DiskAttributes { mode, ..DiskAttributes::default() };
                dir.set_root_metadata(&root).map_err(opening)?;
            }
            if options.sync {
                dir.sync().map_err(|error| Error::write(target, error))?;
            }
            Ok(report)
        })
}

type Submit<'a> = &'a mut dyn FnMut(Vec<FileJob>) -> Result<()>;

/// Lets `plan` submit runs of files, has them written, and returns what the writing reported.
fn with_workers(
    restorer: &Restorer<'_>,
    plan: impl FnOnce(Submit<'_>) -> Result<()>,
) -> Result<ExtractReport> {
    let threads = restorer.options.threads;
    let total = Mutex::new((ExtractReport::default(), None));
    let stopped = AtomicBool::new(false);
    let work = |run: Vec<FileJob>| {
        let mut part = ExtractReport::default();
        let result = restorer.files(run, &stopped, &mut part);
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.0.merge(part);
        if let Err(error) = result {
            stopped.store(true, Ordering::Relaxed);
            total.1.get_or_insert(error);
        }
    };
    let planned = std::thread::scope(|scope| {
        let (runs, to_do) = bounded::<Vec<FileJob>>(threads.max(1) * 2);
        let mut running = 0;
        for _ in 0..if threads > 1 { threads } else { 0 } {
            let (to_do, work) = (to_do.clone(), &work);
            let writer = std::thread::Builder::new().name("pefc-extract".to_owned());
            let spawned = writer.spawn_scoped(scope, move || to_do.into_iter().for_each(work));
            running += usize::from(spawned.is_ok());
        }
        drop(to_do);
        let mut submit = |run| {
            if stopped.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "stopped"));
            }
            if running == 0 {
                work(run);
                return Ok(());
            }
            let gone = "the threads that write files have ended";
            runs.send(run).map_err(|_| Error::new(ErrorKind::Io, gone))
        };
        plan(&mut submit)
    });
    let (report, error) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    match error {
        Some(error) => Err(error), // the reason why the plan stopped, if it did
        None => planned.map(|()| report),
    }
}

/// Which keys are extracted.
struct Selection {
    /// None of them is under another.
    tops: Vec<Vec<u8>>,
}

impl Selection {
    fn new(keys: &[Vec<u8>]) -> Self {
        let mut all: Vec<Vec<u8>> =
            keys.iter().map(|key| key.strip_suffix(b"/").unwrap_or(key).to_vec()).collect();
        all.sort_unstable();
        all.dedup();
        let set: HashSet<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let tops = all
            .iter()
            .filter(|key| !ancestors(key).any(|above| set.contains(above)))
            .cloned()
            .collect();
        Self { tops }
    }

    fn has(&self, key: &[u8]) -> bool {
        let is_top = |key: &[u8]| self.tops.binary_search_by(|top| top.as_slice().cmp(key));
        self.tops.is_empty() || is_top(key).is_ok() || ancestors(key).any(|a| is_top(a).is_ok())
    }

    /// Gives all selected entries to `each`, those under one key in key order.
    fn each(
        &self,
        pack: &Pack,
        mut each: impl FnMut(&[u8], Put<'static>) -> Result<()>,
    ) -> Result<()> {
        let everything = [Vec::new()];
        let tops = if self.tops.is_empty() { &everything[..] } else { &self.tops };
        for top in tops {
            for put in pack.entries_under(top.as_slice()) {
                let put = put?;
                if is_under(&put.key, top) {
                    each(top, put)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a directory can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// It was made.
    New,
    /// It was there, and its metadata is nobody's business unless it has an entry.
    Found,
    /// It can't.
    Not,
}

/// `a`, `a/b` for `a/b/c`.
fn ancestors(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &key[..at])
}

/// Goes through the entries: makes directories, hands out files, keeps the rest for the end.
struct Planner<'a> {
    restorer: &'a Restorer<'a>,
    selection: &'a Selection,
    /// Directories to give their metadata in the end: key, path, attributes.
    directories: Vec<(Vec<u8>, Vec<u8>, Attributes<'static>)>,
    /// Paths of directories, and whether they can be used.
    known: HashMap<Vec<u8>, bool>,
    deferred: Vec<Deferred>,
    /// Selected keys that led to something.
    found: HashSet<Vec<u8>>,
    run: Vec<FileJob>,
    run_bytes: u64,
    report: ExtractReport,
}

impl Planner<'_> {
    fn entries(&mut self, submit: Submit<'_>) -> Result<()> {
        let selection = self.selection;
        let result = selection.each(self.restorer.pack, |top, put| self.entry(top, put, submit));
        match result {
            // The list of entries itself is damaged: what follows is unknown.
            Err(error)
                if self.restorer.options.keep_going_on_damage && Restorer::is_damage(&error) =>
            {
                self.report.problem(b"", ExtractProblemKind::Corrupt, &error);
            }
            result => result?,
        }
        submit(std::mem::take(&mut self.run))
    }

    fn entry(&mut self, top: &[u8], put: Put<'static>, submit: Submit<'_>) -> Result<()> {
        check_cancel(self.restorer.options.cancel.as_deref())?;
        if !self.found.contains(top) {
            self.found.insert(top.to_vec());
        }
        let Some(path) = self.restorer.strip(&put.key).map(<[u8]>::to_vec) else {
            self.restorer.progress.advance(1, 0);
            return Ok(());
        };
        let key = put.key.into_owned();
        if put.attributes.kind == FileKind::Directory {
            self.directory(key, path, put.attributes)?;
            self.restorer.progress.advance(1, 0);
            return Ok(());
        }
        if !self.parent(&key, &path)? {
            let error = "one of its directories could not be made";
            self.report.problem(&key, ExtractProblemKind::Clash, error);
            self.restorer.progress.advance(1, 0);
            return Ok(());
        }
        let Some(content) = put.content else {
            self.deferred.push(Deferred { key, path, attributes: put.attributes });
            return Ok(());
        };
        self.run_bytes += content.len;
        self.run.push(FileJob { key, path, content, attributes: put.attributes });
        if self.run.len() >= RUN_FILES || self.run_bytes >= RUN_BYTES.max(WHOLE_BYTES_MAX as u64) {
            self.run_bytes = 0;
            submit(std::mem::take(&mut self.run))?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        key: Vec<u8>,
        path: Vec<u8>,
        attributes: Attributes<'static>,
    ) -> Result<()> {
        if !self.parent(&key, &path)? {
            let error = "one of its directories could not be made";
            self.report.problem(&key, ExtractProblemKind::Clash, error);
            self.known.insert(path, false);
            return Ok(());
        }
        if self.make(&key, &path)? != Made::Not {
            self.report.directory_count += 1;
            self.directories.push((key, path, attributes));
        }
        Ok(())
    }

    /// Makes sure that the directory of `path` is there, and says whether it is.
    fn parent(&mut self, key: &[u8], path: &[u8]) -> Result<bool> {
        let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else {
            return Ok(true);
        };
        let parent = &path[..slash];
        if let Some(known) = self.known.get(parent) {
            return Ok(*known);
        }
        let parent_key = &key[..key.len() - (path.len() - slash)];
        // It came before, in key order, if the pack has it as a directory and it is selected.
        let stored = self.restorer.pack.entry(parent_key)?;
        let is_dir = stored.is_none_or(|put| put.attributes.kind == FileKind::Directory);
        let made = if is_dir && self.parent(parent_key, parent)? {
            self.make(parent_key, parent)?
        } else {
            Made::Not
        };
        if made == Made::New {
            let attributes = Attributes { kind: FileKind::Directory, ..Attributes::default() };
            self.directories.push((parent_key.to_vec(), parent.to_vec(), attributes));
        }
        self.known.insert(parent.to_vec(), made != Made::Not);
        Ok(made != Made::Not)
    }

    /// Makes one directory, or finds it there.
    fn make(&mut self, key: &[u8], path: &[u8]) -> Result<Made> {
        let dir = self.restorer.dir;
        let mut result = dir.create_dir(path);
        let mut is_there = false;
        if result.is_err()
            && let Ok(found) = dir.metadata(path)
        {
            is_there = found.kind == DiskKind::Directory;
            if !is_there && self.restorer.options.overwrite == Overwrite::Replace {
                result = dir.remove_file(path).and_then(|()| dir.create_dir(path));
            }
        }
        let made = match result {
            Ok(()) => Made::New,
            Err(_) if is_there => Made::Found,
            Err(error) => {
                self.restorer.failed(key, error, &mut self.report)?;
                Made::Not
            }
        };
        self.known.insert(path.to_vec(), made != Made::Not);
        Ok(made)
    }

    /// After all files: hard links, pipes and devices, symbolic links, and the directories'
    /// metadata, the deepest first.
    fn finish(&mut self, workers: ExtractReport) -> Result<ExtractReport> {
        let mut report = std::mem::take(&mut self.report);
        report.merge(workers);
        for top in &self.selection.tops {
            if !self.found.contains(top) {
                let error = "no such key in the pack";
                report.problem(top, ExtractProblemKind::NotFound, error);
            }
        }
        let failed: HashSet<Vec<u8>> = report.problems.iter().map(|p| p.key.clone()).collect();
        // Where the content of a file that was not selected has its first name.
        let mut instead = HashMap::new();
        let order = |kind| match kind {
            FileKind::HardLink => 0,
            FileKind::Symlink => 2,
            _ => 1,
        };
        self.deferred.sort_by_key(|later| order(later.attributes.kind));
        for later in &self.deferred {
            check_cancel(self.restorer.options.cancel.as_deref())?;
            match &later.attributes.target {
                Some(target) if later.attributes.kind == FileKind::HardLink => {
                    let is_here = self.selection.has(target) && !failed.contains(target.as_ref());
                    self.restorer.hard_link(later, target, is_here, &mut instead, &mut report)?;
                }
                _ => self.restorer.node(later, &mut report)?,
            }
            self.restorer.progress.advance(1, 0);
        }
        self.directories.sort_by(|a, b| b.1.cmp(&a.1));
        for (key, path, attributes) in &self.directories {
            self.restorer.directory_metadata(key, path, attributes, &mut report)?;
        }
        report.problems.sort_unstable();
        report.not_restored.sort_unstable();
        Ok(report)
    }
}
