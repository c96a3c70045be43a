//! Commits: a run of entries, the index of a footer, and the order in which they reach the disk.

use super::super::cursor::Entries;
use super::super::units::{self, Unit};
use super::content::Sink;
use super::footer::{self, KeyPlace};
use super::live::{Changes, LiveMap, SealedMap};
use super::pool::{Job, Packed};
use super::{Sealing, Staged, Writer};
use crate::disk::parent_dir;
use crate::error::{Error, Result};
use crate::format::commit::{Commit, Footer, Section};
use crate::format::entry::{Entry, RawPairs, Seal};
use crate::format::frame::{FLAG_SORTED, FrameHeader, FrameKind};
use crate::format::index::ListedFrame;
use crate::format::segment::Layout;
use crate::format::{Check, EntryPlace, TAIL_BYTES_MAX, index};
use crate::hash::Hash;
use crate::tree::leaf_hash;
use std::collections::BTreeMap;
use std::io;

/// Body of an entries frame, about: the unit in which keys are read. An archive is listed, a store
/// of records is asked for one key after the other.
const fn entries_frame_bytes(layout: Layout) -> usize {
    match layout {
        Layout::Archive => 64 << 10,
        Layout::Records => 8 << 10,
    }
}

impl Writer {
    /// The map of everything live: base, then overlay, then staged.
    pub(super) fn live_map(&self) -> Result<SealedMap> {
        let mut live = LiveMap::default();
        let mut changed = Changes::new(&self.overlay, &self.staged);
        if let Some(base) = &self.base {
            let mut entries = Entries::new(base, Vec::new());
            while let Some(found) = entries.next_place() {
                let found = found.map_err(|error| self.fault(error))?;
                let added = found.with_bytes(|bytes| {
                    let key = units::key_of_entry(bytes)?.unwrap_or_default();
                    changed.upto(&key, |key, bytes| live.add(key, bytes))?;
                    if changed.replaces(&key) { Ok(()) } else { live.add(&key, bytes) }
                });
                added.map_err(|error| self.fault(error))?;
            }
        }
        changed.rest(|key, bytes| live.add(key, bytes)).map_err(|error| self.fault(error))?;
        Ok(live.finish())
    }

    /// Writes entries and the commit: those of `run`, which have no keys, then what is staged, then
    /// the seal. With a footer after a seal, if `index` asks for one, or if the tail is long.
    pub(super) fn finish_commit(
        &mut self,
        run: Vec<Vec<u8>>,
        sealing: Option<Sealing>,
        index: bool,
    ) -> Result<()> {
        // What was staged is in no one's hands after a failure.
        let result = self.try_finish_commit(run, sealing, index);
        self.end_on_error(result)
    }

    fn try_finish_commit(
        &mut self,
        lead: Vec<Vec<u8>>,
        sealing: Option<Sealing>,
        index: bool,
    ) -> Result<()> {
        self.flush_intake()?;
        if self.frontier.size() == 0 {
            self.genesis = lead.first().cloned();
        }
        let staged = std::mem::take(&mut self.staged);
        let (map, seal) = sealing.map(|sealing| (sealing.map, sealing.entry)).unzip();
        let run: Vec<&[u8]> = lead
            .iter()
            .chain(staged.values().map(|(Staged::Put(bytes) | Staged::Delete(bytes))| bytes))
            .chain(&seal)
            .map(Vec::as_slice)
            .collect();
        let places = self.write_entries(&run)?;
        if map.is_some() {
            self.seal = places.last().copied();
            self.sign_seal()?;
        }
        let direct = !self.segment_has_commits;
        for ((key, staged), place) in staged.into_iter().zip(places.iter().skip(lead.len())) {
            let bytes = match staged {
                Staged::Put(bytes) => Some(bytes),
                Staged::Delete(_) => None,
            };
            self.overlay.insert(key, (*place, bytes));
        }
        let tail_bytes = self.out.position() - self.tail_start();
        let with_footer =
            map.is_some() || index || tail_bytes > self.options.tail_bytes_max.min(TAIL_BYTES_MAX);
        let footer = if with_footer { Some(self.write_index(direct)?) } else { None };
        self.write_commit(map.as_ref(), footer)
    }

    /// Where the tail begins that a reader would replay.
    pub(super) fn tail_start(&self) -> u64 {
        if self.previous_footer == 0 { 0 } else { self.out.segment_offset() }
    }

    pub(super) fn seal_entry(&self, map: &SealedMap) -> Vec<u8> {
        Entry::Seal(Seal {
            map_size: map.size,
            map_root: map.root,
            previous: self.sealed,
            object_count: map.object_count,
            object_bytes: map.object_bytes,
            time_s: self.options.time_s,
            attributes: RawPairs::default(),
        })
        .encode()
    }

    /// Writes a run of entries in frames, behind the objects that are still under way, adds them to the
    /// log and gives their places.
    pub(super) fn write_entries(&mut self, run: &[&[u8]]) -> Result<Vec<EntryPlace>> {
        self.begin_segment()?;
        let mut headers: Vec<(FrameHeader, Check)> = Vec::new();
        let frame_bytes = entries_frame_bytes(self.options.layout);
        let mut rest = run;
        let mut counts = Vec::new();
        let mut index = self.frontier.size();
        while !rest.is_empty() {
            let mut body = index.to_le_bytes().to_vec();
            let mut count = 0;
            while let Some(entry) = rest.get(count)
                && (count == 0 || body.len() + entry.len() <= frame_bytes)
            {
                body.extend_from_slice(entry);
                count += 1;
            }
            rest = &rest[count..];
            index += count as u64;
            counts.push(count);
            let item_count = u32::try_from(count).unwrap_or(u32::MAX); // 64 KiB hold few
            let kind = FrameKind::Entries;
            let job = Job::Plain { kind, flags: FLAG_SORTED, item_count, body, compress: true };
            let sink = Sink { out: &mut self.out, rows: &mut self.rows, path: &self.path };
            self.pool.submit(job, sink.take_all(&mut headers))?;
        }
        // Hashed here while threads compress.
        run.iter().for_each(|entry| self.frontier.push(leaf_hash(entry)));
        let sink = Sink { out: &mut self.out, rows: &mut self.rows, path: &self.path };
        self.pool.drain(sink.take_all(&mut headers))?;
        let mut places = Vec::with_capacity(run.len());
        for ((header, check), count) in headers.iter().zip(counts) {
            for item in 0..count {
                let locator = units::place_of(header, item).map_err(|e| self.fault(e))?;
                places.push(EntryPlace { locator, check: *check });
            }
        }
        Ok(places)
    }

    /// Writes the index of the unit that a footer here ends. `direct` says that the segment has no
    /// commit yet, so that the entries frames of this one are in key order.
    pub(super) fn write_index(&mut self, direct: bool) -> Result<Footer> {
        let row = |(key, (place, bytes)): (&Vec<u8>, &(EntryPlace, Option<Vec<u8>>))| {
            (key.clone(), KeyPlace { place: *place, is_delete: bytes.is_none() })
        };
        let mut keys: BTreeMap<_, _> = self.overlay.iter().map(row).collect();
        // What the open tail held when the writer opened it.
        if let Some(base) = &self.base {
            for unit in base.units.iter().filter(|unit| is_tail(unit)) {
                footer::take_keys(base, unit, &mut keys)?;
            }
        }
        let mut rows = std::mem::take(&mut self.rows);
        let (start, position) = (self.out.segment_offset(), self.out.position());
        let cover = footer::cover(self.base.as_ref(), start, position, &mut rows, &mut keys)?;
        let mut footer = Footer {
            covers_from: cover.covers_from,
            next_unit: cover.next_unit,
            sections: Vec::new(),
        };
        if cover.unindexed {
            return Ok(footer);
        }
        let frames = if direct && !cover.merged {
            entries_frames(&keys)
        } else {
            self.write_key_pages(&keys)?
        };
        rows.sort_unstable();
        let (payload, head_hash) = index::object_index(&rows);
        footer.sections.push(self.write_section(FrameKind::ObjectIndex, payload, head_hash)?);
        let (payload, head_hash) = index::key_directory(&frames, keys.len() as u64);
        footer.sections.push(self.write_section(FrameKind::KeyDirectory, payload, head_hash)?);
        Ok(footer)
    }

    pub(super) fn write_key_pages(
        &mut self,
        keys: &BTreeMap<Vec<u8>, KeyPlace>,
    ) -> Result<Vec<(ListedFrame, Vec<u8>)>> {
        let mut firsts = Vec::new();
        let mut frames = Vec::new();
        let (out, path) = (&mut self.out, &self.path);
        let mut write = |packed: Packed| {
            let (header, check) = out.frame(&packed).map_err(|e| Error::write(path, e))?;
            frames.push(ListedFrame { offset: header.offset, check });
            Ok(())
        };
        for (first, job) in footer::key_pages(keys) {
            firsts.push(first);
            self.pool.submit(job, &mut write)?;
        }
        self.pool.drain(&mut write)?;
        Ok(frames.into_iter().zip(firsts).collect())
    }

    pub(super) fn write_section(
        &mut self,
        kind: FrameKind,
        body: Vec<u8>,
        head_hash: Hash,
    ) -> Result<Section> {
        let mut frame_offset = 0;
        let (out, path) = (&mut self.out, &self.path);
        let mut write = |packed: Packed| {
            frame_offset = out.frame(&packed).map_err(|error| Error::write(path, error))?.0.offset;
            Ok(())
        };
        self.pool.submit(
            Job::Plain { kind, flags: 0, item_count: 1, body, compress: false },
            &mut write,
        )?;
        self.pool.drain(&mut write)?;
        Ok(Section { kind: kind.number().into(), frame_offset, head_hash })
    }

    /// Appends the commit and makes it durable (`spec/durability.md`).
    pub(super) fn write_commit(
        &mut self,
        map: Option<&SealedMap>,
        footer: Option<Footer>,
    ) -> Result<()> {
        let is_footer = footer.is_some();
        let footer = footer.map(|mut footer| {
            footer.sections.extend(self.signatures); // its kind is the highest
            footer
        });
        if is_footer && self.temporary.is_none() {
            // A footer proves that all before it was on disk: so it is, first. (A new pack is not
            // visible before its only sync.)
            self.out.sync().map_err(|error| Error::write(&self.path, error))?;
        }
        let mut commit = Commit {
            number: self.number + 1,
            log_size: self.frontier.size(),
            generation: self.generation + u64::from(map.is_some()),
            seal: self.seal,
            previous_commit: 0,
            previous_footer: self.previous_footer,
            footer,
            frontier: self.frontier.nodes().to_vec(),
            segment_offset: 0,
            frame_offset: 0,
        };
        let out = &mut self.out;
        let written =
            out.commit(&mut commit).and_then(|()| if self.held { out.flush() } else { out.sync() });
        written.map_err(|error| Error::write(&self.path, error))?;
        self.publish()?;
        self.number = commit.number;
        self.generation = commit.generation;
        self.committed_end = self.out.position();
        self.dirty = false;
        self.segment_has_commits = !is_footer;
        if let Some(map) = map {
            self.sealed = Some((self.frontier.size(), self.frontier.root()));
            self.map_root = map.root;
        }
        if is_footer {
            self.previous_footer = commit.frame_offset;
            self.overlay.clear();
            self.known.clear(); // the base has them
            self.large = None;
            self.base = Some(self.open_base()?);
        }
        Ok(())
    }

    /// Gives a new pack its name, once it is whole.
    pub(super) fn publish(&mut self) -> Result<()> {
        if self.held {
            return Ok(());
        }
        let Some(temporary) = self.temporary.take() else {
            return Ok(());
        };
        let vfs = &self.options.machine.vfs;
        let renamed = vfs.rename(&temporary, &self.path, self.options.replace);
        if let Err(error) = renamed {
            self.temporary = Some(temporary);
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => Self::exists(&self.path),
                _ => Error::write(&self.path, error),
            });
        }
        let synced = vfs.sync_dir(&parent_dir(&self.path));
        synced.map_err(|error| Error::write(&self.path, error))
    }
}

fn is_tail(unit: &Unit) -> bool {
    matches!(unit, Unit::Scanned(scanned) if scanned.footer.is_none())
}

/// The entries frames that keys lie in, with their first keys.
fn entries_frames(keys: &BTreeMap<Vec<u8>, KeyPlace>) -> Vec<(ListedFrame, Vec<u8>)> {
    let mut frames: Vec<(ListedFrame, Vec<u8>)> = Vec::new();
    for (key, at) in keys {
        let frame = ListedFrame { offset: at.place.frame_offset(), check: at.place.check };
        if frames.last().is_none_or(|(last, _)| *last != frame) {
            frames.push((frame, key.clone()));
        }
    }
    frames
}
