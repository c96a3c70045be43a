//! Writing again what another pack holds: frames and log entries as they are.

use super::live::SealedMap;
use super::pool::{Job, Packed};
use super::{Sealing, Staged, WriteOptions, WriteStats, Writer};
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::frame::FrameHeader;
use crate::hash::Hash;
use crate::pack::Pack;
use crate::pack::contents::Whole;
use crate::pack::units::key_of_entry;
use std::path::Path;

impl Writer {
    /// Begins a pack that takes the name of the one at `path` with [`Writer::release`], and not with
    /// its first commit. Until then nothing of it need be on disk.
    pub(in crate::pack) fn create_held(path: &Path, options: WriteOptions) -> Result<Self> {
        let mut writer = Self::create(path, WriteOptions { replace: true, ..options })?;
        writer.held = true;
        Ok(writer)
    }

    /// Makes the pack durable and gives it its name.
    pub(in crate::pack) fn release(mut self) -> Result<WriteStats> {
        self.check_alive()?;
        self.out.sync().map_err(|error| Error::write(&self.path, error))?;
        self.held = false;
        self.publish()?;
        Ok(self.stats())
    }

    /// Appends a frame of objects as it lies in another pack. Its payload must have been checked
    /// against its hash, and what it refers to must have been put before.
    pub(in crate::pack) fn copy_frame(
        &mut self,
        header: &FrameHeader,
        payload: Vec<u8>,
        names: Vec<Hash>,
    ) -> Result<()> {
        self.check_alive()?;
        // What the frame refers to may wait for company; it has to come before.
        self.flush_intake()?;
        for name in &names {
            self.note_new(*name, 0);
        }
        self.stats.new_object_bytes += u64::from(header.raw_bytes);
        self.submit(Job::Copied(Packed { header: *header, payload, names }))
    }

    /// Puts an object of another pack, whatever it is there.
    pub(in crate::pack) fn take_object(&mut self, pack: &Pack, name: Hash) -> Result<()> {
        match pack.whole_or_reader(&name)? {
            Some(Whole::Bytes(bytes)) => self.put_object(name, &bytes),
            Some(Whole::Reader(reader)) => self.put_object_stream(reader).map(drop),
            None => Err(Error::missing(&name, "though it is needed")),
        }
    }

    /// Stages live entries of another log, and commits them in a new one that begins with `genesis`,
    /// sealed.
    pub(in crate::pack) fn seal_entries(
        &mut self,
        genesis: impl FnOnce(&SealedMap) -> Vec<u8>,
        entries: impl Iterator<Item = Result<Vec<u8>>>,
    ) -> Result<()> {
        for entry in entries {
            let entry = entry?;
            if let Some(key) = key_of_entry(&entry)? {
                self.staged.insert(key, Staged::Put(entry));
            }
        }
        let map = self.live_map()?;
        let entry = self.seal_entry(&map);
        let genesis = genesis(&map);
        self.finish_commit(vec![genesis], Some(Sealing { map, entry }), false)
    }
}

/// Writes the entries of a log one after the other. Commits where the order of keys ends and at every
/// seal, so that each run of entries is in key order.
#[derive(Debug)]
pub(in crate::pack) struct Replay<'w> {
    writer: &'w mut Writer,
    /// Entries without keys, before the run.
    lead: Vec<Vec<u8>>,
}

impl<'w> Replay<'w> {
    pub(in crate::pack) fn new(writer: &'w mut Writer) -> Self {
        Self { writer, lead: Vec::new() }
    }

    /// Adds the next entry.
    pub(in crate::pack) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let entry = Entry::decode(bytes)?.0;
        if let Entry::Seal(seal) = &entry {
            let map = SealedMap {
                size: seal.map_size,
                root: seal.map_root,
                object_count: seal.object_count,
                object_bytes: seal.object_bytes,
            };
            return self.commit(Some(Sealing { map, entry: bytes.to_vec() }), false);
        }
        let staged = match entry {
            Entry::Put(_) => Staged::Put(bytes.to_vec()),
            Entry::Delete(_) => Staged::Delete(bytes.to_vec()),
            Entry::Genesis(_) | Entry::Keys(_) | Entry::Seal(_) => {
                if !self.writer.staged.is_empty() {
                    self.commit(None, false)?;
                }
                self.lead.push(bytes.to_vec());
                return Ok(());
            }
        };
        let key = key_of_entry(bytes)?.unwrap_or_default();
        if self.writer.staged.last_key_value().is_some_and(|(last, _)| *last >= key) {
            self.commit(None, false)?;
        }
        self.writer.staged.insert(key, staged);
        Ok(())
    }

    /// Commits what is left, and indexes it.
    pub(in crate::pack) fn finish(mut self) -> Result<()> {
        let is_open = !self.lead.is_empty() || !self.writer.staged.is_empty();
        if is_open || self.writer.segment_has_commits {
            self.commit(None, true)?;
        }
        Ok(())
    }

    fn commit(&mut self, sealing: Option<Sealing>, index: bool) -> Result<()> {
        self.writer.finish_commit(std::mem::take(&mut self.lead), sealing, index)
    }
}
