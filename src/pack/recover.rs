//! Recovering: everything that is intact in a damaged file, written to a new pack.
//!
//! The damaged file is only read. Frames are found by their own headers, wherever they are; objects
//! count if their bytes have their name; entries count if their frame's hash is right. The new pack
//! begins a log of its own, since the old one can't be continued.

use super::frames::Items;
use super::units::{KeyAt, Scanned, Unit, for_each_key, object_rows};
use super::{Key, OpenOptions, Pack, WriteOptions, WriteStats, Writer};
use crate::compress::Decompressor;
use crate::disk::{FileBytes, ReadAt};
use crate::error::{Error, ErrorKind, Result, check_cancel};
use crate::format::commit::Commit;
use crate::format::entry::{Entry, Put, SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM};
use crate::format::frame::{Codec, FrameHeader, FrameKind};
use crate::format::index::ObjectRow;
use crate::format::object::{RecordRow, object_ranges};
use crate::format::{FormatError, REFERENCE_DEPTH_MAX, Rule};
use crate::hash::Hash;
use crate::segment::{Found, Resolved, Scan, decode_record, read, read_commit};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Keys of objects whose own keys were lost begin with this; their name follows.
pub const LOST_AND_FOUND: &str = "lost+found/";

/// How to recover.
#[derive(Debug, Clone, Default)]
pub struct RecoverOptions {
    /// How to read the damaged file.
    pub open: OpenOptions,
    /// How to write the new pack.
    pub write: WriteOptions,
    /// Ends the work with [`ErrorKind::Interrupted`] once it is set; no new pack is left then.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl RecoverOptions {
    fn check_cancel(&self) -> Result<()> {
        check_cancel(self.cancel.as_deref())
    }
}

/// Bytes of the damaged file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// File offset.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// What they were, as far as that can be told.
    pub what: String,
}

/// What was recovered and what was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverReport {
    /// Frames that are intact.
    pub intact_frame_count: u64,
    /// Bytes that could not be used, in file order.
    pub damage: Vec<Damage>,
    /// Live keys in the new pack.
    pub recovered_key_count: u64,
    /// Live keys whose content is lost, as space and key.
    pub lost_keys: Vec<(u8, Vec<u8>)>,
    /// Whether every entry of the log was readable. If not, keys may be missing that nothing tells
    /// of.
    pub log_is_whole: bool,
    /// Objects that no readable entry names, kept under `lost+found/`.
    pub orphan_count: u64,
    /// The new pack.
    pub stats: WriteStats,
}

/// Writes everything that is intact in the pack at `damaged` to a new pack at `new`.
///
/// # Errors
/// [`ErrorKind::NotAPack`] if nothing of a pack is found; otherwise as [`Writer`].
pub fn recover(damaged: &Path, new: &Path, options: &RecoverOptions) -> Result<RecoverReport> {
    let reading = |source| Error::io("reading the damaged pack", damaged, source);
    let file = options.open.machine.vfs.open_read(damaged).map_err(reading)?;
    let bytes: Arc<dyn ReadAt> =
        Arc::new(FileBytes::new(file, options.open.mapped).map_err(reading)?);
    let mut salvage = Salvage::new(bytes, options);
    salvage.find_frames()?;
    if salvage.found.is_empty() {
        let error = Error::new(ErrorKind::NotAPack, "no frame of a pack was found in the file");
        return Err(error.at(damaged).hinting("check that it is the right file"));
    }
    salvage.load_frames()?;
    salvage.read_log()?;
    let pack = salvage.pack();
    let extra = salvage.salvage_objects(&pack)?;
    let mut writer = Writer::create(new, options.write.clone())?;
    let mut report = RecoverReport {
        intact_frame_count: salvage.good.len() as u64,
        damage: Vec::new(),
        recovered_key_count: 0,
        lost_keys: Vec::new(),
        log_is_whole: salvage.log_is_whole,
        orphan_count: 0,
        stats: WriteStats::default(),
    };
    copy_keys(&pack, &extra, &mut writer, &mut report, options)?;
    if !salvage.log_is_whole {
        copy_orphans(&pack, &salvage, &mut writer, &mut report)?;
    }
    salvage.damage.sort_by_key(|damage| damage.offset);
    report.damage = salvage.damage;
    report.stats = writer.finish()?;
    Ok(report)
}

/// What was found in a damaged file.
struct Salvage<'o> {
    bytes: Arc<dyn ReadAt>,
    options: &'o RecoverOptions,
    /// All frames that were found by their headers.
    found: Vec<FrameHeader>,
    /// Frames that are intact.
    good: Vec<FrameHeader>,
    rows: Vec<ObjectRow>,
    keys: BTreeMap<Vec<u8>, KeyAt>,
    /// Contents that any readable put names.
    named: HashSet<Hash>,
    /// Frames of objects that are not intact.
    bad: Vec<FrameHeader>,
    damage: Vec<Damage>,
    log_is_whole: bool,
}

impl<'o> Salvage<'o> {
    fn new(bytes: Arc<dyn ReadAt>, options: &'o RecoverOptions) -> Self {
        Self {
            bytes,
            options,
            found: Vec::new(),
            good: Vec::new(),
            rows: Vec::new(),
            keys: BTreeMap::new(),
            named: HashSet::new(),
            bad: Vec::new(),
            damage: Vec::new(),
            log_is_whole: false,
        }
    }

    fn find_frames(&mut self) -> Result<()> {
        for found in Scan::new(&*self.bytes, 0) {
            self.options.check_cancel()?;
            match found {
                Found::Frame(header) => self.found.push(header),
                Found::Segment(_) => {}
                Found::Gap { offset, len } => {
                    let what = "no header of a frame or segment".to_owned();
                    self.damage.push(Damage { offset, len, what });
                }
            }
        }
        Ok(())
    }

    /// A pack of what is good so far.
    fn pack(&self) -> Pack {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        let keys = self.keys.values().cloned().collect();
        let unit = Unit::Scanned(Arc::new(Scanned::known(self.good.clone(), keys, rows)));
        let nothing = Commit {
            number: 0,
            log_size: 0,
            generation: 0,
            seal: None,
            previous_commit: 0,
            previous_footer: 0,
            footer: None,
            frontier: Vec::new(),
            segment_offset: 0,
            frame_offset: 0,
        };
        Pack {
            frames: Arc::new(super::frames::FrameCache::new(self.options.open.cache_bytes)),
            bytes: Arc::clone(&self.bytes),
            path: None,
            options: self.options.open.clone(),
            last: nothing,
            end: self.bytes.len(),
            torn_bytes: 0,
            units: vec![unit],
        }
    }

    /// Loads all frames, those with references after those that they may refer to.
    fn load_frames(&mut self) -> Result<()> {
        let is_data = |header: &FrameHeader| {
            use FrameKind::{Dictionary, Entries, Lists, Objects, Records};
            matches!(header.kind, Objects | Records | Lists | Dictionary | Entries)
        };
        let (plain, mut referring): (Vec<_>, Vec<_>) = self
            .found
            .iter()
            .copied()
            .filter(is_data)
            .partition(|header| header.reference_count == 0);
        let pack = self.pack();
        for header in plain {
            self.options.check_cancel()?;
            self.load(&pack, header);
        }
        for _ in 0..=REFERENCE_DEPTH_MAX {
            let pack = self.pack();
            let before = self.bad.len();
            for header in std::mem::take(&mut referring) {
                self.options.check_cancel()?;
                self.load(&pack, header);
            }
            // What failed may refer to what was loaded in this round.
            referring = self.bad.split_off(before);
        }
        self.bad.append(&mut referring);
        self.good.sort_by_key(|header| header.offset);
        let pack = self.pack();
        for header in &self.bad {
            let error = pack.load(header.offset, REFERENCE_DEPTH_MAX).err();
            let why = error.map_or_else(String::new, |error| format!(": {error}"));
            self.damage.push(Damage {
                offset: header.offset,
                len: header.next_offset() - header.offset,
                what: format!("{} frame{why}", header.kind.name()),
            });
        }
        Ok(())
    }

    fn load(&mut self, pack: &Pack, header: FrameHeader) {
        match object_rows(pack, &header) {
            Ok(rows) if header.kind == FrameKind::Entries => {
                let _ = rows; // entries have none
                match pack.load(header.offset, REFERENCE_DEPTH_MAX) {
                    Ok(_) => self.good.push(header),
                    Err(_) => self.bad.push(header),
                }
            }
            Ok(rows) => {
                self.rows.extend(rows);
                self.good.push(header);
            }
            Err(_) => self.bad.push(header),
        }
    }

    /// Replays what can be read of the log.
    fn read_log(&mut self) -> Result<()> {
        let pack = self.pack();
        let mut size = 0;
        let mut whole = true;
        for header in self.good.iter().filter(|header| header.kind == FrameKind::Entries) {
            self.options.check_cancel()?;
            let Ok(frame) = pack.load(header.offset, REFERENCE_DEPTH_MAX) else {
                continue;
            };
            let Items::Entries(table) = &frame.items else {
                continue;
            };
            whole &= table.first_index == size;
            size = table.first_index.saturating_add(table.len() as u64);
            let keys = for_each_key(&pack, &frame, |row| {
                self.keys.insert(row.key.clone(), row);
            });
            whole &= keys.is_ok();
            let Ok(body) = frame.body(&*pack.bytes) else {
                continue;
            };
            for item in 0..table.len() {
                let entry = table.entry(&body, item).map(Entry::decode);
                if let Some(Ok((Entry::Put(Put { content: Some(content), .. }), _))) = entry {
                    self.named.insert(content.name);
                }
            }
        }
        let commits = self.found.iter().filter(|header| header.kind == FrameKind::Commit);
        let newest = commits.filter_map(|header| read_commit(&*self.bytes, header.offset).ok());
        let log_size = newest.map(|(_, _, commit)| commit.log_size).max();
        self.log_is_whole = whole && log_size == Some(size);
        Ok(())
    }

    /// Objects that can still be had from damaged frames, if a readable entry names them and no
    /// intact frame has them.
    fn salvage_objects(&self, pack: &Pack) -> Result<HashMap<Hash, Vec<u8>>> {
        let mut extra = HashMap::new();
        let mut keep = |object: &[u8]| {
            let name = Hash::of(object);
            if self.named.contains(&name) && !matches!(pack.contains(&name), Ok(true)) {
                extra.insert(name, object.to_vec());
            }
        };
        for header in &self.bad {
            self.options.check_cancel()?;
            let Ok(payload) =
                read(&*self.bytes, header.payload_offset(), header.stored_bytes.into())
            else {
                continue;
            };
            let (references, body) = header.split_payload(&payload);
            match header.kind {
                FrameKind::Objects if references.is_empty() => {
                    objects_of_damaged(header, body).iter().for_each(|object| keep(object));
                }
                FrameKind::Records => {
                    let dictionary: Option<Vec<Vec<u8>>> =
                        references.iter().map(|name| pack.object(name).ok().flatten()).collect();
                    let resolved = Resolved::new(header, &dictionary.unwrap_or_default());
                    for item in 0..header.item_count {
                        let record = RecordRow::find(body, header.item_count, item).ok();
                        let record = record.zip(resolved.as_ref().ok()).and_then(
                            |((row, stored), resolved)| {
                                decode_record(header, &body[stored], row.raw_bytes, resolved).ok()
                            },
                        );
                        record.iter().for_each(|record| keep(record));
                    }
                }
                _ => {}
            }
        }
        Ok(extra)
    }
}

/// The objects at the beginning of a damaged frame, as far as it still decodes. Whether they are
/// what they were is for their names to say.
fn objects_of_damaged(header: &FrameHeader, body: &[u8]) -> Vec<Vec<u8>> {
    let raw_bytes = header.raw_bytes as usize;
    let mut raw = match header.codec {
        Codec::Raw => body.to_vec(),
        _ => Decompressor::new()
            .map_or_else(|_| Vec::new(), |mut decoder| decoder.decompress_damaged(body, raw_bytes)),
    };
    let decoded = raw.len();
    raw.resize(raw_bytes, 0);
    let ranges = object_ranges(&raw, header.item_count).unwrap_or_default();
    let whole = ranges.into_iter().filter(|range| range.end <= decoded);
    whole.map(|range| raw[range].to_vec()).collect()
}

fn copy_keys(
    pack: &Pack,
    extra: &HashMap<Hash, Vec<u8>>,
    writer: &mut Writer,
    report: &mut RecoverReport,
    options: &RecoverOptions,
) -> Result<()> {
    for space in [SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM] {
        for put in pack.entries_under(Key::new(space, &b""[..])) {
            options.check_cancel()?;
            let put = put?;
            let key = Key::new(space, put.key.as_ref());
            let attributes = put.attributes.clone();
            let copied = match put.content {
                None => {
                    writer.put_attributes(&key, attributes)?;
                    true
                }
                Some(content) => match extra.get(&content.name) {
                    Some(bytes) => {
                        writer.put_with(&key, bytes, attributes)?;
                        true
                    }
                    None => match pack.object_reader(&content.name) {
                        Ok(Some(reader)) => {
                            copy_stream(writer.put_stream_with(&key, reader, attributes))?
                        }
                        Ok(None) | Err(_) => false,
                    },
                },
            };
            if copied {
                report.recovered_key_count += 1;
            } else {
                report.lost_keys.push((space, put.key.into_owned()));
            }
        }
    }
    Ok(())
}

/// Whether a stream was copied: an object that turns out to be damaged is lost, a failed write is an
/// error.
fn copy_stream<T>(result: Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Io => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps objects that no readable entry names.
fn copy_orphans(
    pack: &Pack,
    salvage: &Salvage<'_>,
    writer: &mut Writer,
    report: &mut RecoverReport,
) -> Result<()> {
    let mut pieces = HashSet::new();
    for header in salvage.good.iter().filter(|header| header.kind == FrameKind::Lists) {
        if let Items::Lists(lists) = &pack.frame(header.offset)?.items {
            pieces.extend(lists.iter().flat_map(|l| l.chunks.iter().map(|chunk| chunk.name)));
        }
    }
    for row in &salvage.rows {
        salvage.options.check_cancel()?;
        let frame = pack.frame(row.place.frame_offset())?;
        if frame.header.kind == FrameKind::Dictionary {
            continue;
        }
        let name = match frame.item(&*pack.bytes, row.place.item())? {
            super::frames::Item::Bytes(bytes) => Hash::of(&bytes),
            super::frames::Item::List(list) => {
                list.name().ok_or(FormatError::new(Rule::ChunkList, frame.header.offset))?
            }
        };
        if salvage.named.contains(&name) || pieces.contains(&name) {
            continue;
        }
        let key = format!("{LOST_AND_FOUND}{name}");
        if let Ok(Some(reader)) = pack.object_reader(&name)
            && copy_stream(writer.put_stream(&key, reader))?
        {
            report.orphan_count += 1;
        }
    }
    Ok(())
}
