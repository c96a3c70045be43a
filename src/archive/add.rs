//! Files and directories into a pack.

use super::names::Warnings;
use super::pipeline::{self, Batch, Class, Consumer};
use super::read::{Done, Outcome, Small, Tracked};
use super::scan::{Filter, Item, Scan, identity};
use super::{
    Exclude, PortabilityWarning, Progress, RecordOptions, Source, SourceProblem, SourceProblemKind,
    check_cancel, is_under,
};
use crate::chunk::WHOLE_BYTES_MAX;
use crate::disk::tree::{FileKind as DiskKind, Metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Attributes, FileKind};
use crate::pack::{Key, Writer};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What [`add`] takes, and how.
pub struct AddOptions<'a> {
    /// What is recorded of each file.
    pub record: RecordOptions,
    /// Whether a source that is a symbolic link stands for what it points to. Links below a source
    /// are never followed.
    pub follow_top: bool,
    /// Told the key, and whether it is a directory; what it says yes to is left out, a directory
    /// with all that is in it.
    pub exclude: Option<&'a Exclude<'a>>,
    /// Whether files are read though their attributes are those in the pack.
    pub check_content: bool,
    /// Whether keys under the sources' prefixes that were committed before and are no longer there
    /// are deleted.
    pub delete_missing: bool,
    /// Threads that read files. The bytes of the pack do not depend on it.
    pub threads: usize,
    /// Once it is set, [`add`] returns [`ErrorKind::Interrupted`].
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for AddOptions<'_> {
    fn default() -> Self {
        Self {
            record: RecordOptions::default(),
            follow_top: false,
            exclude: None,
            check_content: false,
            delete_missing: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            cancel: None,
        }
    }
}

/// What [`add`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddReport {
    /// Entries that are new or different.
    pub added_count: u64,
    /// Entries that the pack had already, just so.
    pub unchanged_count: u64,
    /// Entries that were deleted, because what they stood for is gone.
    pub deleted_count: u64,
    /// Regular files, changed or not; a file with several names once.
    pub file_count: u64,
    /// Directories.
    pub directory_count: u64,
    /// Symbolic links.
    pub symlink_count: u64,
    /// Further names of files.
    pub hard_link_count: u64,
    /// Named pipes, sockets and devices.
    pub other_count: u64,
    /// Bytes of the regular files.
    pub content_bytes: u64,
    /// What could not be stored as it should, in key order.
    pub problems: Vec<SourceProblem>,
    /// Names that another system would mangle; the first thousand.
    pub portability: Vec<PortabilityWarning>,
    /// How many such names there are.
    pub portability_count: u64,
}

/// Puts everything in `sources` into `writer`, in key order. The caller commits.
///
/// A file is unchanged, and isn't read, if the pack has an entry with the same attributes, time and
/// size included. One that changes while it is read is read again, and if it still changes stored
/// as it was read and reported. Of several sources with the same key the last one counts. The
/// file of the pack itself is left out.
///
/// # Errors
/// A source that isn't there or an invalid key, before anything is put; [`ErrorKind::Interrupted`];
/// whatever goes wrong with the pack. What goes wrong with a single file is in the report.
pub fn add(
    writer: &mut Writer,
    sources: &[Source],
    options: &AddOptions<'_>,
    progress: &dyn Progress,
) -> Result<AddReport> {
    let cancel = options.cancel.as_deref();
    let filter = Filter {
        exclude: options.exclude,
        follow_top: options.follow_top,
        threads: options.threads,
        cancel,
        skip: writer.own_paths().filter_map(identity).collect(),
    };
    let mut scan = Scan::collect(sources, &filter)?;
    let problems = std::mem::take(&mut scan.problems);
    let sizes = scan.items.iter().filter(|item| is_file(item));
    let total = sizes.map(|item| item.metadata.size_bytes).sum();
    progress.total(scan.items.len() as u64, total);
    let mut adder = Adder {
        writer,
        scan: &scan,
        options,
        progress,
        lost: HashMap::new(),
        warnings: Warnings::default(),
        report: AddReport { problems, ..AddReport::default() },
    };
    pipeline::run(&scan, options.threads, cancel, &mut adder)?;
    if options.delete_missing {
        adder.delete_missing(sources)?;
    }
    let mut report = adder.report;
    report.problems.sort_by(|a, b| a.key.cmp(&b.key));
    report.portability = adder.warnings.list;
    report.portability_count = adder.warnings.count;
    Ok(report)
}

fn is_file(item: &Item) -> bool {
    item.metadata.kind == DiskKind::File && item.first.is_none()
}

struct Adder<'a> {
    writer: &'a mut Writer,
    scan: &'a Scan,
    options: &'a AddOptions<'a>,
    progress: &'a dyn Progress,
    /// First names of files that could not be stored, and the name that was instead.
    lost: HashMap<u32, Option<u32>>,
    warnings: Warnings,
    report: AddReport,
}

impl Consumer for Adder<'_> {
    fn classify(&mut self, position: usize) -> Result<Class> {
        let Some(item) = self.scan.items.get(position) else {
            return Ok(Class::Other);
        };
        if !is_file(item) {
            return Ok(Class::Other);
        }
        let size = item.metadata.size_bytes;
        if !self.options.check_content {
            let attributes = self.options.record.attributes(&item.metadata);
            if self.is_stored(&item.key, &attributes, Some(size))? {
                return Ok(Class::Unchanged);
            }
        }
        Ok(if size <= WHOLE_BYTES_MAX as u64 { Class::Small } else { Class::Other })
    }

    fn take(&mut self, batch: &Batch, done: &mut Done) -> Result<()> {
        let mut outcomes = done.outcomes.drain(..);
        for (position, class) in batch.items.clone().zip(&batch.classes) {
            let Some(item) = self.scan.items.get(position) else {
                break;
            };
            check_cancel(self.options.cancel.as_deref())?;
            self.warnings.check(&item.key);
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            match class {
                Class::Unchanged => {
                    self.report.unchanged_count += 1;
                    self.count_file(item.metadata.size_bytes);
                    self.progress.advance(1, item.metadata.size_bytes);
                }
                Class::Small => match outcomes.next() {
                    Some(Outcome::Read(small)) => {
                        self.put_small(position, item, &small, &done.buffer)?;
                        self.progress.advance(1, small.range.len() as u64);
                    }
                    Some(Outcome::Grown) | None => {
                        self.put_stream(position, item)?;
                        self.progress.advance(1, 0);
                    }
                    Some(Outcome::Failed(error)) => {
                        self.lose(position, item, SourceProblemKind::of(&error), &error);
                        self.progress.advance(1, item.metadata.size_bytes);
                    }
                },
                Class::Other => {
                    self.put_other(position, item)?;
                    self.progress.advance(1, 0);
                }
            }
        }
        Ok(())
    }
}

impl Adder<'_> {
    fn is_stored(
        &self,
        key: &[u8],
        attributes: &Attributes<'_>,
        size: Option<u64>,
    ) -> Result<bool> {
        let stored = self.writer.entry(key)?;
        Ok(stored.is_some_and(|put| {
            put.content.map(|content| content.len) == size && put.attributes == *attributes
        }))
    }

    fn problem(&mut self, item: &Item, kind: SourceProblemKind, error: impl ToString) {
        self.report.problems.push(SourceProblem {
            key: item.key.to_vec(),
            kind,
            error: error.to_string(),
        });
    }

    /// Notes that a file is not stored, so that its other names don't refer to it.
    fn lose(
        &mut self,
        position: u32,
        item: &Item,
        kind: SourceProblemKind,
        error: &dyn std::fmt::Display,
    ) {
        self.problem(item, kind, error);
        if item.metadata.link_count > 1 {
            self.lost.entry(position).or_insert(None);
        }
    }

    /// Whether an entry was put; if not because of the file itself, that is a problem of the file.
    fn was_put<T>(&mut self, position: u32, item: &Item, result: Result<T>) -> Result<bool> {
        let error = match result {
            Ok(_) => return Ok(true),
            Err(error) => error,
        };
        let kind = match error.kind() {
            ErrorKind::Limit => SourceProblemKind::TooLong,
            ErrorKind::Usage => SourceProblemKind::Unsupported,
            _ => return Err(error),
        };
        self.lose(position, item, kind, &error);
        Ok(false)
    }

    fn count_file(&mut self, len: u64) {
        self.report.file_count += 1;
        self.report.content_bytes += len;
    }

    /// Notes what is known of a file whose entry was put.
    fn stored(&mut self, position: u32, item: &Item, opened: &Metadata, len: u64, changed: bool) {
        self.report.added_count += 1;
        self.count_file(len);
        if changed {
            let error = "it changed while it was read, twice; stored as it was read last";
            self.problem(item, SourceProblemKind::Changed, error);
        }
        let found = &item.metadata;
        if found.link_count > 1 && (opened.device, opened.inode) != (found.device, found.inode) {
            // Another file has this name by now: the other names are none of it.
            self.lost.entry(position).or_insert(None);
        }
    }

    fn put_small(
        &mut self,
        position: u32,
        item: &Item,
        small: &Small,
        buffer: &[u8],
    ) -> Result<()> {
        let attributes = self.options.record.attributes(&small.metadata);
        let content = buffer.get(small.range.clone()).unwrap_or_default();
        let key = Key::path(item.key.as_ref());
        if self.options.check_content && !small.changed {
            let stored = self.writer.entry(&key)?;
            let is_same = stored.is_some_and(|put| {
                put.attributes == attributes
                    && put.content.is_some_and(|found| found.name == small.name)
            });
            if is_same {
                self.report.unchanged_count += 1;
                self.count_file(content.len() as u64);
                return Ok(());
            }
        }
        let result = self.writer.put_named(&key, small.name, content, attributes);
        if self.was_put(position, item, result)? {
            let len = content.len() as u64;
            self.stored(position, item, &small.metadata, len, small.changed);
        }
        Ok(())
    }

    /// Streams a file into the pack, a second time if it changed meanwhile.
    fn put_stream(&mut self, position: u32, item: &Item) -> Result<bool> {
        let cancel = self.options.cancel.as_deref();
        let before = self.writer.entry(item.key.as_ref())?;
        let mut is_last_try = false;
        loop {
            let opened = match self.scan.place(item) {
                Some((tree, path)) => tree.open_file(path),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            let file = match opened {
                Ok(file) => file,
                Err(error) => {
                    self.lose(position, item, SourceProblemKind::of(&error), &error);
                    return Ok(false);
                }
            };
            let metadata = *file.opened();
            let attributes = self.options.record.attributes(&metadata);
            let mut reader = Tracked::new(file, (!is_last_try).then_some(self.progress), cancel);
            let same_attributes = before.as_ref().is_some_and(|put| put.attributes == attributes);
            let result = self.writer.put_stream_with(item.key.as_ref(), &mut reader, attributes);
            check_cancel(cancel)?;
            if let (Err(_), Some(error)) = (&result, &reader.error) {
                self.lose(position, item, SourceProblemKind::of(error), error);
                return Ok(false);
            }
            let is_stable = reader.is_stable();
            let content = result.as_ref().ok().copied();
            if !self.was_put(position, item, result)? {
                return Ok(false);
            }
            if !is_stable && !is_last_try {
                is_last_try = true;
                continue;
            }
            let len = content.map_or(0, |content| content.len);
            self.stored(position, item, &metadata, len, !is_stable);
            if same_attributes && before.and_then(|put| put.content) == content {
                self.report.added_count -= 1;
                self.report.unchanged_count += 1;
            }
            return Ok(true);
        }
    }

    /// Puts what was not read ahead.
    fn put_other(&mut self, position: u32, item: &Item) -> Result<()> {
        if item.metadata.kind == DiskKind::File {
            let Some(first) = item.first else {
                return self.put_stream(position, item).map(drop);
            };
            let target = match self.lost.get(&first).copied() {
                None => Some(first),
                Some(other) => other,
            };
            let Some(target) = target.and_then(|target| self.scan.items.get(target as usize))
            else {
                // The first name is lost: this one takes its place.
                if self.put_stream(position, item)? {
                    self.lost.insert(first, Some(position));
                }
                return Ok(());
            };
            let attributes = Attributes {
                kind: FileKind::HardLink,
                target: Some(Cow::Borrowed(target.key.as_ref())),
                ..self.options.record.attributes(&item.metadata)
            };
            self.report.hard_link_count += 1;
            return self.put_attributes(position, item, attributes);
        }
        let mut attributes = self.options.record.attributes(&item.metadata);
        match item.metadata.kind {
            DiskKind::Directory => self.report.directory_count += 1,
            DiskKind::Symlink => {
                let target = match self.scan.place(item) {
                    Some((tree, path)) => tree.read_link(path),
                    None => Err(io::ErrorKind::NotFound.into()),
                };
                match target {
                    Ok(target) => attributes.target = Some(Cow::Owned(target)),
                    Err(error) => {
                        self.problem(item, SourceProblemKind::of(&error), error);
                        return Ok(());
                    }
                }
                self.report.symlink_count += 1;
            }
            _ => self.report.other_count += 1,
        }
        self.put_attributes(position, item, attributes)
    }

    fn put_attributes(
        &mut self,
        position: u32,
        item: &Item,
        attributes: Attributes<'_>,
    ) -> Result<()> {
        if self.is_stored(&item.key, &attributes, None)? {
            self.report.unchanged_count += 1;
            return Ok(());
        }
        let result = self.writer.put_attributes(item.key.as_ref(), attributes);
        if self.was_put(position, item, result)? {
            self.report.added_count += 1;
        }
        Ok(())
    }

    /// Deletes what the pack has under the sources' keys and the disk has no longer.
    fn delete_missing(&mut self, sources: &[Source]) -> Result<()> {
        let Some(base) = self.writer.base() else {
            return Ok(());
        };
        let mut gone = Vec::new();
        for source in sources {
            for put in base.entries_under(source.key_prefix.as_slice()) {
                let key = put?.key.into_owned();
                let unknown = self.scan.unknown.iter();
                if is_under(&key, &source.key_prefix)
                    && !self.scan.has(&key)
                    && !unknown.into_iter().any(|top| is_under(&key, top))
                {
                    gone.push(key);
                }
            }
        }
        for key in gone {
            check_cancel(self.options.cancel.as_deref())?;
            if self.writer.delete(key.as_slice())? {
                self.report.deleted_count += 1;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for AddOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddOptions")
            .field("record", &self.record)
            .field("follow_top", &self.follow_top)
            .field("exclude", &self.exclude.is_some())
            .field("check_content", &self.check_content)
            .field("delete_missing", &self.delete_missing)
            .field("threads", &self.threads)
            .field("cancel", &self.cancel)
            .finish()
    }
}

impl From<SourceProblem> for Error {
    /// For a caller who takes any problem for a failure.
    fn from(problem: SourceProblem) -> Self {
        let what = format!("\"{}\": {}", problem.key.escape_ascii(), problem.error);
        Self::new(ErrorKind::Io, what)
    }
}
