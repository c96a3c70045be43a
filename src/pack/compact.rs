//! Laying out a pack anew: what is not needed is left out, small records are grouped in key order,
//! one index covers all.

use super::frames::{Item, Items};
use super::signatures::origin_of;
use super::writer::{Replay, SealedMap, lock_for_writing};
use super::{
    Key, OpenOptions, Pack, VerifyLevel, VerifyOptions, WriteOptions, WriteStats, Writer,
    frontier_of,
};
use crate::disk::FileBytes;
use crate::error::{Error, ErrorKind, Result, check_cancel};
use crate::format::cbor;
use crate::format::entry::{Entry, Genesis, RawPairs, SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM};
use crate::format::frame::{FrameHeader, FrameKind};
use crate::format::{FormatError, Rule};
use crate::hash::Hash;
use crate::segment::{read_frame_header, read_payload};
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Content of a frame that records are grouped into, about, in bytes.
const GROUP_BYTES: usize = 64 << 10;

/// Key of a genesis's parameters under which a rebased log names the one before it.
pub(crate) const PARAM_REBASED: u64 = 0;

const NONCE_CONTEXT: &str = "pefc 2026-11 rebased genesis nonce";

/// How to compact.
#[derive(Debug, Clone, Default)]
pub struct CompactOptions {
    /// How to write. The layout and the size of frames follow from what is there.
    pub write: WriteOptions,
    /// Begins a new log that holds the live entries only, with the same signers. Its genesis names
    /// the log before it, whose history, and every proof and signature made from it, ends here.
    pub rebase: bool,
    /// Ends the work with [`ErrorKind::Interrupted`] once it is set; the pack is then as it was.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// What compacting did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactReport {
    /// Length of the file before, in bytes.
    pub before_bytes: u64,
    /// Length of the file now, in bytes.
    pub after_bytes: u64,
    /// Frames of objects that were taken over as they were.
    pub copied_frame_count: u64,
    /// Objects that were stored again, in other company.
    pub regrouped_object_count: u64,
    /// Objects that nothing needs, or that were there twice: left out.
    pub dropped_object_count: u64,
    /// The pack as it is now.
    pub stats: WriteStats,
}

/// Lays out the pack at `path` anew. The log, its root, the roots of all generations, signatures and
/// every content that an entry names stay as they are (but see [`CompactOptions::rebase`]); contents that
/// no entry names go, small records are grouped in key order, which compresses them better, and one
/// index covers all.
///
/// All of the pack is verified first. The new file is written beside the old one and takes its name
/// when it is whole and on disk: a crash leaves the one or the other. Readers that have the old one
/// open keep it; no writer can have it meanwhile. Takes the room of the new file besides the old.
///
/// # Errors
/// [`ErrorKind::Locked`] while a writer has the pack; [`ErrorKind::Corrupt`] for one that is damaged,
/// which then is left as it is; otherwise as [`Writer`].
pub fn compact(path: &Path, options: &CompactOptions) -> Result<CompactReport> {
    let pack = open_locked(path, options)?;
    options.check_cancel()?;
    verify(&pack, options).map_err(|error| error.at(path))?;
    let mut compaction = Compaction {
        pack: &pack,
        options,
        frames: pack.frames()?,
        wanted: HashSet::new(),
        taken: HashSet::new(),
        object_count: 0,
        report: CompactReport {
            before_bytes: pack.file_bytes(),
            after_bytes: 0,
            copied_frame_count: 0,
            regrouped_object_count: 0,
            dropped_object_count: 0,
            stats: WriteStats::default(),
        },
    };
    let has_records = compaction.frames.iter().any(|frame| frame.kind == FrameKind::Records);
    let write = WriteOptions {
        layout: crate::format::segment::Layout::Archive,
        frame_bytes: if has_records { GROUP_BYTES } else { options.write.frame_bytes },
        signer: options.write.signer.clone().filter(|_| options.rebase),
        ..options.write.clone()
    };
    let mut writer = Writer::create_held(path, write)?;
    compaction.find_wanted()?;
    compaction.copy_contents(&mut writer)?;
    compaction.copy_log(&mut writer)?;
    options.check_cancel()?;
    let mut report = compaction.report;
    report.dropped_object_count = compaction.object_count - compaction.taken.len() as u64;
    report.stats = writer.release()?;
    report.after_bytes = report.stats.stored_bytes;
    Ok(report)
}

impl CompactOptions {
    fn check_cancel(&self) -> Result<()> {
        check_cancel(self.cancel.as_deref())
    }
}

/// The pack as it is on disk, and nobody else can write to it as long as it is held.
fn open_locked(path: &Path, options: &CompactOptions) -> Result<Pack> {
    let machine = &options.write.machine;
    let opening = |source| Error::opening("opening the pack for compacting", path, source);
    let file = lock_for_writing(path, machine)?;
    let bytes = FileBytes::new(file, true).map_err(opening)?;
    let open = OpenOptions { machine: machine.clone(), ..OpenOptions::default() };
    Pack::over(Arc::new(bytes), Some(path.to_owned()), open).map_err(|error| error.at(path))
}

/// Refuses a damaged pack: what is lost already must not be lost sight of.
fn verify(pack: &Pack, options: &CompactOptions) -> Result<()> {
    let level = VerifyLevel::Full;
    let report = pack.verify(&VerifyOptions { level, threads: options.write.threads })?;
    if report.is_intact() {
        return Ok(());
    }
    let what = "the pack is damaged, and was left as it is";
    Err(Error::new(ErrorKind::Corrupt, what).hinting("see `pefc verify`, then `pefc recover`"))
}

struct Compaction<'a> {
    pack: &'a Pack,
    options: &'a CompactOptions,
    frames: Vec<FrameHeader>,
    /// Names of objects that entries, chunk lists and copied frames need.
    wanted: HashSet<Hash>,
    /// Those that the new pack has.
    taken: HashSet<Hash>,
    /// Objects in the frames of the old pack, each as often as it is there.
    object_count: u64,
    report: CompactReport,
}

/// A frame of objects of the old pack.
struct Source {
    header: FrameHeader,
    names: Vec<Hash>,
    /// Whether all its objects are needed, so that it can be taken over as it is.
    copied: bool,
}

impl Compaction<'_> {
    /// Finds the contents that entries name, and the chunks of the large ones.
    fn find_wanted(&mut self) -> Result<()> {
        if self.options.rebase {
            for space in [SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM] {
                for put in self.pack.entries_under(Key::new(space, &b""[..])) {
                    self.wanted.extend(put?.content.map(|content| content.name));
                }
            }
        } else {
            let mut wanted = HashSet::new();
            self.each_entry(|bytes| {
                if let Entry::Put(put) = Entry::decode(bytes)?.0 {
                    wanted.extend(put.content.map(|content| content.name));
                }
                Ok(())
            })?;
            self.wanted = wanted;
        }
        self.wanted.remove(&Hash::of(b"")); // it is not stored
        for header in self.frames.iter().filter(|header| header.kind == FrameKind::Lists) {
            let frame = self.pack.frame(header.offset)?;
            let Items::Lists(lists) = &frame.items else {
                continue;
            };
            for list in lists {
                if list.name().is_some_and(|name| self.wanted.contains(&name)) {
                    self.wanted.extend(list.chunks.iter().map(|chunk| chunk.name));
                }
            }
        }
        Ok(())
    }

    /// Hands over all entries in log order.
    fn each_entry(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for header in self.frames.iter().filter(|header| header.kind == FrameKind::Entries) {
            self.options.check_cancel()?;
            let frame = self.pack.frame(header.offset)?;
            let fault = FormatError::new(Rule::Index, header.offset);
            let Items::Entries(table) = &frame.items else {
                return Err(fault.into());
            };
            let body = frame.body(&*self.pack.bytes)?;
            for item in 0..table.len() {
                each(table.entry(&body, item).ok_or(fault)?)?;
            }
        }
        Ok(())
    }

    /// Frames of objects, in file order, each with what becomes of it.
    fn sources(&mut self) -> Result<Vec<Source>> {
        use FrameKind::{Dictionary, Lists, Objects, Records};
        let mut sources = Vec::new();
        for header in &self.frames {
            self.options.check_cancel()?;
            if matches!(header.kind, Objects | Lists | Records | Dictionary) {
                let names = self.names(header)?;
                self.object_count += names.len() as u64;
                sources.push(Source { header: *header, names, copied: false });
            }
        }
        // From the end, since a frame that is copied needs what it refers to, which lies before it.
        for source in sources.iter_mut().rev() {
            let can_stay = matches!(source.header.kind, Objects | Lists);
            if can_stay && source.names.iter().all(|name| self.wanted.contains(name)) {
                source.copied = true;
                let payload = read_payload(&*self.pack.bytes, &source.header)?;
                self.wanted.extend(source.header.split_payload(&payload).0.iter());
            }
        }
        Ok(sources)
    }

    fn names(&self, header: &FrameHeader) -> Result<Vec<Hash>> {
        let frame = self.pack.frame(header.offset)?;
        let name = |item| match frame.item(&*self.pack.bytes, item)? {
            Item::Bytes(bytes) => Ok(Hash::of(&bytes)),
            Item::List(list) => {
                list.name().ok_or_else(|| FormatError::new(Rule::ChunkList, header.offset).into())
            }
        };
        (0..header.item_count).map(name).collect()
    }

    /// Writes every object that is wanted, once.
    fn copy_contents(&mut self, writer: &mut Writer) -> Result<()> {
        let sources = self.sources()?;
        let mut records: HashSet<Hash> = HashSet::new();
        for source in &sources {
            self.options.check_cancel()?;
            let is_new = source.names.iter().any(|name| !self.taken.contains(name));
            if source.copied && is_new {
                self.copy_frame(writer, source)?;
            } else if source.header.kind == FrameKind::Records {
                records.extend(source.names.iter().filter(|name| self.wanted.contains(*name)));
            } else if !source.copied {
                self.pick(writer, source, |_| true)?;
            }
        }
        // Records in the order of their keys: neighbours are alike.
        for space in [SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM] {
            for put in self.pack.entries_under(Key::new(space, &b""[..])) {
                self.options.check_cancel()?;
                let name = put?.content.map(|content| content.name);
                if let Some(name) = name.filter(|name| records.contains(name)) {
                    self.store(writer, name)?;
                }
            }
        }
        for source in sources.iter().filter(|source| source.header.kind == FrameKind::Records) {
            self.pick(writer, source, |name| records.contains(name))?;
        }
        Ok(())
    }

    fn copy_frame(&mut self, writer: &mut Writer, source: &Source) -> Result<()> {
        let (header, _) = read_frame_header(&*self.pack.bytes, source.header.offset)?;
        let payload = read_payload(&*self.pack.bytes, &header)?.into_owned();
        writer.copy_frame(&header, payload, source.names.clone())?;
        self.taken.extend(&source.names);
        self.report.copied_frame_count += 1;
        Ok(())
    }

    /// Stores those objects of a frame that are wanted and not there yet.
    fn pick(
        &mut self,
        writer: &mut Writer,
        source: &Source,
        is_chosen: impl Fn(&Hash) -> bool,
    ) -> Result<()> {
        for name in source.names.iter().filter(|name| is_chosen(name)) {
            if self.wanted.contains(name) {
                self.store(writer, *name)?;
            }
        }
        Ok(())
    }

    fn store(&mut self, writer: &mut Writer, name: Hash) -> Result<()> {
        if !self.taken.insert(name) {
            return Ok(());
        }
        self.report.regrouped_object_count += 1;
        writer.take_object(self.pack, name)
    }

    /// Writes the log: the same entries, or the live ones in a new log.
    fn copy_log(&mut self, writer: &mut Writer) -> Result<()> {
        if self.options.rebase {
            return self.rebase(writer);
        }
        let mut replay = Replay::new(writer);
        self.each_entry(|bytes| replay.push(bytes))?;
        replay.finish()?;
        let signatures = self.pack.signatures()?;
        if !signatures.is_empty() {
            writer.copy_signatures(&signatures)?;
        }
        let last = self.pack.commit();
        let stats = writer.stats();
        let is_same = stats.log_size == last.log_size
            && stats.generation == last.generation
            && stats.log_root == frontier_of(self.pack.commit())?.root();
        if is_same {
            return Ok(());
        }
        Err(Error::new(ErrorKind::WriteVerify, "the log differs from the one that was read"))
    }

    fn rebase(&self, writer: &mut Writer) -> Result<()> {
        let Some(old) = self.pack.genesis()? else {
            return Ok(()); // nothing was ever put
        };
        let origin = origin_of(&old);
        let signers = self.pack.signer_changes()?.pop();
        let (threshold, vkeys) = match signers {
            Some((_, keys)) => (keys.threshold, keys.vkeys),
            None => (old.threshold, old.vkeys),
        };
        let log_root = frontier_of(self.pack.commit())?.root();
        let log_size = self.pack.commit().log_size;
        let spaces = [SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM];
        let entries = spaces.into_iter().flat_map(|space| {
            self.pack
                .entries_under(Key::new(space, &b""[..]))
                .map(|put| Ok(Entry::Put(put?).encode()))
        });
        let genesis = |map: &SealedMap| {
            let mut nonce = [0; 16];
            blake3::Hasher::new_derive_key(NONCE_CONTEXT)
                .update(&map.root)
                .update(&log_root)
                .finalize_xof()
                .fill(&mut nonce);
            let mut params = cbor::Writer::default();
            params.uint(PARAM_REBASED).array(3).text(&origin).uint(log_size).bytes(&log_root);
            Entry::Genesis(Genesis {
                origin: Cow::Borrowed(""),
                nonce,
                threshold,
                vkeys,
                params: RawPairs { count: 1, bytes: Cow::Owned(params.finish()) },
            })
            .encode()
        };
        writer.seal_entries(genesis, entries)
    }
}
