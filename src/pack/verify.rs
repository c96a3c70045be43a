//! Verifying a pack: everything is read, decoded, named and rebuilt, and nothing is believed.

mod index;
mod log;
mod signatures;

use super::frames::Item;
use super::units::{self, Stored, place_of};
use super::{Generation, ObjectReader, Pack};
use crate::error::{Error, Result};
use crate::format::commit::Commit;
use crate::format::frame::{FrameHeader, FrameKind};
use crate::format::object::{ChunkList, RecordRow};
use crate::format::{FormatError, Locator, REFERENCE_DEPTH_MAX, Rule};
use crate::hash::Hash;
use crate::segment::{Found, ReadError, Scan, Step, Walker, read_commit, read_payload};
use crate::tree::Node;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Every stored byte against the hashes and the chain in the frames: finds all damage that a
    /// disk or a network can do, at the speed of reading.
    Quick,
    /// Also what the bytes mean: every object is decoded and named, the log, its roots and all
    /// indexes are rebuilt and compared.
    Full,
}

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How much.
    pub level: VerifyLevel,
    /// Threads that decode.
    pub threads: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { level: VerifyLevel::Full, threads }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The rule that is broken; none if the system could not read.
    pub rule: Option<Rule>,
    /// File offset.
    pub offset: u64,
    /// What is wrong, in words.
    pub what: String,
}

/// What was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Segments.
    pub segment_count: u64,
    /// Frames.
    pub frame_count: u64,
    /// Bytes of the file, up to the last commit.
    pub file_bytes: u64,
    /// Objects that were decoded and named; chunk lists count as one.
    pub object_count: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Entries of the log.
    pub entry_count: u64,
    /// Seals whose map was rebuilt.
    pub generation_count: u64,
    /// Footers whose index was rebuilt.
    pub index_count: u64,
    /// Keys that are live now.
    pub key_count: u64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// How much was verified.
    pub level: VerifyLevel,
    /// What is wrong, in file order. Empty for an intact pack.
    pub problems: Vec<Problem>,
    /// Live keys whose content can't be read, as space and key.
    pub lost_keys: Vec<(u8, Vec<u8>)>,
    /// Bytes of an unfinished commit behind the last whole one.
    pub torn_bytes: u64,
    /// What was checked.
    pub checked: Checked,
    /// What was not, in words.
    pub not_checked: Vec<&'static str>,
    /// The newest generation, if there is one and its seal could be read.
    pub generation: Option<Generation>,
}

impl VerifyReport {
    /// Whether nothing is wrong with what was checked. An unfinished commit at the end is not part
    /// of the pack and not wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty() && self.lost_keys.is_empty()
    }
}

/// The frames of a pack in file order, as far as headers could be followed.
#[derive(Debug, Default)]
struct Layout {
    frames: Vec<FrameHeader>,
    commits: Vec<Commit>,
}

impl Layout {
    /// Offset of the commit that covers the frame at `offset`: what the frame names must lie below.
    fn covered_until(&self, offset: u64) -> u64 {
        let at = self.commits.partition_point(|commit| commit.frame_offset <= offset);
        self.commits.get(at).map_or(u64::MAX, |commit| commit.frame_offset)
    }
}

/// Objects by name: the length of each, and the lowest place where it is.
type Objects = HashMap<Hash, (u64, Locator)>;

impl Pack {
    /// Checks the pack and lists everything that is wrong with it. Goes on after damage.
    ///
    /// Does not say who made the pack: nothing here authenticates.
    ///
    /// # Errors
    /// Only what keeps it from verifying at all; damage is in the report.
    pub fn verify(&self, options: &VerifyOptions) -> Result<VerifyReport> {
        let mut report = VerifyReport {
            level: options.level,
            problems: Vec::new(),
            lost_keys: Vec::new(),
            torn_bytes: self.torn_bytes,
            checked: Checked { file_bytes: self.end, ..Checked::default() },
            not_checked: vec!["authenticity: no signature was checked"],
            generation: None,
        };
        let layout = self.walk(&mut report);
        match options.level {
            VerifyLevel::Quick => {
                report.not_checked.push("contents, names, log roots and indexes (--quick)");
                let check = |header: &FrameHeader| read_payload(&*self.bytes, header).map(drop);
                for (header, result) in parallel(options.threads, &layout.frames, check) {
                    if let Err(error) = result {
                        report.add(&error, &format!("{} frame", header.kind.name()));
                    }
                }
            }
            VerifyLevel::Full => self.verify_contents(&layout, options.threads, &mut report),
        }
        match self.newest_generation() {
            Ok(generation) => report.generation = generation,
            Err(error) => report.add_error(&error, "newest seal"),
        }
        report.problems.sort_by_key(|problem| problem.offset);
        report.problems.dedup();
        Ok(report)
    }

    /// Follows headers and chain; where they break, goes on behind the break without the chain.
    fn walk(&self, report: &mut VerifyReport) -> Layout {
        let mut layout = Layout::default();
        let mut walker = Walker::new(&*self.bytes, self.end);
        loop {
            match walker.next() {
                Ok(Some(Step::Segment(_))) => report.checked.segment_count += 1,
                Ok(Some(Step::Frame(header))) => layout.frames.push(header),
                Ok(Some(Step::Commit(header, commit))) => {
                    layout.frames.push(header);
                    layout.commits.push(*commit);
                }
                Ok(None) => break,
                Err(error) => {
                    report.add(&error, "chain of headers");
                    self.scan_on(walker.position(), &mut layout, report);
                    break;
                }
            }
        }
        report.checked.frame_count = layout.frames.len() as u64;
        layout
    }

    fn scan_on(&self, from: u64, layout: &mut Layout, report: &mut VerifyReport) {
        for found in Scan::new(&*self.bytes, from).take_while(|found| match found {
            Found::Frame(header) => header.offset < self.end,
            _ => true,
        }) {
            match found {
                Found::Segment(_) => report.checked.segment_count += 1,
                Found::Gap { .. } => {}
                Found::Frame(header) => {
                    if header.kind == FrameKind::Commit
                        && let Ok((_, _, commit)) = read_commit(&*self.bytes, header.offset)
                    {
                        layout.commits.push(commit);
                    }
                    layout.frames.push(header);
                }
            }
        }
    }

    fn verify_contents(&self, layout: &Layout, threads: usize, report: &mut VerifyReport) {
        let is_object = |header: &&FrameHeader| {
            use FrameKind::{Dictionary, Lists, Objects, Records};
            matches!(header.kind, Objects | Records | Lists | Dictionary)
        };
        let frames: Vec<FrameHeader> = layout.frames.iter().filter(is_object).copied().collect();
        // Log and objects at the same time: the log takes one thread, objects the rest.
        let (log, named) = std::thread::scope(|scope| {
            let log = scope.spawn(|| log::replay(self, layout));
            let named = parallel(threads, &frames, |header| self.name_objects(header));
            (log.join(), named)
        });
        let mut objects = Objects::with_capacity(named.len());
        let mut rows = Vec::new();
        let mut lists = Vec::new();
        let mut bases = HashSet::new();
        let mut refused = Vec::new();
        for (header, result) in named {
            match result {
                Ok(found) => {
                    for object in found {
                        if matches!(header.kind, FrameKind::Objects | FrameKind::Dictionary) {
                            bases.insert(object.name);
                        }
                        report.checked.object_count += 1;
                        rows.push((object.name.prefix(), object.place));
                        objects.entry(object.name).or_insert((object.len, object.place));
                        match object.list {
                            Some(list) => lists.push((object.name, list, object.place)),
                            None => report.checked.object_bytes += object.len,
                        }
                    }
                }
                Err(error) => refused.push((header, error)),
            }
        }
        let mut unreadable = Vec::new();
        for (header, error) in refused {
            unreadable.push(header.offset);
            let error = self.reference_fault(header, error, &bases);
            report.add(&error, &format!("{} frame", header.kind.name()));
        }
        for header in layout.frames.iter().filter(|header| !is_object(header)) {
            // Entries and keys are decoded by those who use them; their bytes count here.
            if let Err(error) = read_payload(&*self.bytes, header) {
                report.add(&error, &format!("{} frame", header.kind.name()));
            }
        }
        self.verify_lists(&lists, layout, &objects, threads, report);
        let log = log.unwrap_or_else(|_| log::Replayed::default());
        report.problems.extend(log.problems);
        report.checked.entry_count = log.entry_count;
        report.checked.generation_count = log.generation_count;
        report.checked.key_count = log.live.len() as u64;
        self.verify_references(&log.puts, layout, &objects, report);
        self.verify_sha256(&log.puts, &objects, threads, report);
        for (key, content) in &log.live {
            let lost = content.is_some_and(|c| c.len > 0 && !objects.contains_key(&c.name));
            if let (true, Some((space, key))) = (lost, key.split_first()) {
                report.lost_keys.push((*space, key.to_vec()));
            }
        }
        report.problems.extend(signatures::verify(self, layout, &log.sealed));
        let built = index::verify(self, layout, &rows, &unreadable, &log.events);
        report.checked.index_count = built.count;
        report.problems.extend(built.problems);
    }

    /// Decodes a frame and names what is in it.
    fn name_objects(&self, header: &FrameHeader) -> crate::segment::Result<Vec<Named>> {
        let frame = self.load(header.offset, REFERENCE_DEPTH_MAX)?;
        if header.kind == FrameKind::Records {
            let body = frame.body(&*self.bytes)?;
            RecordRow::all(&body, header.item_count, header.raw_bytes)
                .map_err(|error| error.within(header.payload_offset()))?;
        }
        let mut found = Vec::with_capacity(header.item_count as usize);
        for item in 0..header.item_count {
            let place = place_of(header, item as usize)?;
            found.push(match frame.item(&*self.bytes, item)? {
                Item::Bytes(bytes) => {
                    Named { name: Hash::of(&bytes), len: bytes.len() as u64, list: None, place }
                }
                Item::List(list) => {
                    let fault = FormatError::new(Rule::ChunkList, header.payload_offset());
                    let name = list.name().ok_or(fault)?;
                    Named { name, len: list.len, list: Some(ChunkList::clone(list)), place }
                }
            });
        }
        if header.kind == FrameKind::Records {
            let body = frame.body(&*self.bytes)?;
            for (item, named) in (0..).zip(&found) {
                let (row, _) = RecordRow::find(&body, header.item_count, item)?;
                if row.prefix != named.name.prefix() {
                    let at = header.payload_offset() + u64::from(item) * RecordRow::LEN as u64;
                    return Err(FormatError::new(Rule::ObjectName, at).into());
                }
            }
        }
        Ok(found)
    }

    /// Reads every object that is stored in pieces, group by group.
    fn verify_lists(
        &self,
        lists: &[(Hash, ChunkList, Locator)],
        layout: &Layout,
        objects: &Objects,
        threads: usize,
        report: &mut VerifyReport,
    ) {
        let check = |(name, list, place): &(Hash, ChunkList, Locator)| {
            for chunk in &list.chunks {
                let at = place.frame_offset();
                let covered = layout.covered_until(at);
                let found = objects.get(&chunk.name);
                match found.filter(|(_, found)| found.frame_offset() < covered) {
                    None => return Err(Error::from(FormatError::new(Rule::MissingObject, at))),
                    Some((len, _)) if *len != chunk.len => {
                        return Err(
                            FormatError::numbers(Rule::ChunkList, at, chunk.len, *len).into()
                        );
                    }
                    Some(_) => {}
                }
            }
            let chunks = units::chunks(list.clone());
            ObjectReader::new(self, *name, Stored::List(chunks)).copy_to(|_| Ok(())).map(drop)
        };
        for ((name, list, place), result) in parallel(threads, lists, check) {
            report.checked.object_bytes += list.len;
            if let Err(error) = result {
                report.add_error_at(&error, place.frame_offset(), &format!("object {name}"));
            }
        }
    }

    /// A reference that leads nowhere is another fault if a frame holds the object, but none that the
    /// reference may lead to. `bases` are the names of all objects in frames that serve references.
    fn reference_fault(
        &self,
        header: &FrameHeader,
        error: ReadError,
        bases: &HashSet<Hash>,
    ) -> ReadError {
        let at = header.payload_offset();
        if !matches!(&error, ReadError::Format(e) if (e.rule, e.offset) == (Rule::MissingObject, at))
        {
            return error;
        }
        let payload = read_payload(&*self.bytes, header);
        let (names, _) =
            payload.as_deref().map_or((Vec::new(), &[][..]), |p| header.split_payload(p));
        match names.iter().any(|name| bases.contains(name)) {
            true => FormatError::new(Rule::Reference, at).into(),
            false => error,
        }
    }

    /// Contents have the SHA-256 that puts state.
    fn verify_sha256(
        &self,
        puts: &[log::Named],
        objects: &Objects,
        threads: usize,
        report: &mut VerifyReport,
    ) {
        let mut stated: HashMap<Hash, Vec<(Node, u64)>> = HashMap::new();
        for put in puts {
            let there = put.content.len == 0 || objects.contains_key(&put.content.name);
            if let (Some(sha256), true) = (put.sha256, there) {
                stated.entry(put.content.name).or_default().push((sha256, put.offset));
            }
        }
        let stated: Vec<(Hash, Vec<(Node, u64)>)> = stated.into_iter().collect();
        let digest = |(name, _): &(Hash, Vec<(Node, u64)>)| -> Result<Option<Node>> {
            let mut hasher = crate::tree::Sha256::default();
            let Some(mut reader) = self.object_reader(name)? else { return Ok(None) };
            reader.copy_to(|part| {
                hasher.update(part);
                Ok(())
            })?;
            Ok(Some(hasher.finish()))
        };
        // A content that can't be read is reported by those who decode it.
        for ((name, stated), digest) in parallel(threads, &stated, digest) {
            let Ok(Some(digest)) = digest else { continue };
            for (_, offset) in stated.iter().filter(|(stated, _)| *stated != digest) {
                let what = format!("content {name} has another SHA-256 than its entry says");
                report.problems.push(Problem { rule: Some(Rule::Entry), offset: *offset, what });
            }
        }
    }

    /// Every content that a put names is there, with the length that the put says.
    fn verify_references(
        &self,
        puts: &[log::Named],
        layout: &Layout,
        objects: &Objects,
        report: &mut VerifyReport,
    ) {
        for put in puts {
            let (content, covered) = (put.content, layout.covered_until(put.offset));
            let found = objects.get(&content.name);
            let is_late = found.is_some_and(|(_, place)| place.frame_offset() >= covered);
            let found = found.filter(|_| !is_late).map(|(len, _)| *len);
            let found = if content.name == Hash::of(b"") { Some(0) } else { found };
            let (rule, what) = match found {
                Some(len) if len == content.len => continue,
                Some(len) => (
                    Rule::Length,
                    format!(
                        "content {} has {len} bytes, its entry says {}",
                        content.name, content.len
                    ),
                ),
                None if is_late => (
                    Rule::MissingObject,
                    format!("content {} is in the pack only behind the commit", content.name),
                ),
                None => (
                    Rule::MissingObject,
                    format!("content {} is not in the pack or damaged", content.name),
                ),
            };
            report.problems.push(Problem { rule: Some(rule), offset: put.offset, what });
        }
    }
}

/// An object found in a frame.
#[derive(Debug)]
struct Named {
    name: Hash,
    len: u64,
    list: Option<ChunkList>,
    place: Locator,
}

impl VerifyReport {
    fn add(&mut self, error: &ReadError, what: &str) {
        self.problems.push(problem(error, what));
    }

    fn add_error(&mut self, error: &Error, what: &str) {
        self.add_error_at(error, 0, what);
    }

    fn add_error_at(&mut self, error: &Error, offset: u64, what: &str) {
        let format = error.format();
        let offset = format.map_or(offset, |format| format.offset.max(offset));
        let what = format!("{what}: {error}");
        self.problems.push(Problem { rule: format.map(|format| format.rule), offset, what });
    }
}

fn problem(error: &ReadError, what: &str) -> Problem {
    let offset = match error {
        ReadError::Format(format) => format.offset,
        ReadError::Io { offset, .. } => *offset,
    };
    Problem { rule: error.rule(), offset, what: format!("{what}: {error}") }
}

/// Does `work` for every item, on several threads, and gives the results in the order of the items.
fn parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<(&T, R)> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let result = work(item);
            if let Ok(mut results) = results.lock() {
                results.push((index, result));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(index, result)| (&items[index], result)).collect()
}
