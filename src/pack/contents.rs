//! A pack as a holder of contents: what a store of many packs asks it.

use super::units::{self, Stored, Unit};
use super::{ObjectReader, Pack, Result};
use crate::error::Error;
use crate::format::frame::FrameKind;
use crate::format::{FormatError, Locator, Rule};
use crate::hash::Hash;
use crate::segment::read_frame_header;
use std::collections::{HashMap, HashSet};

/// How much of a pack is of use: counts each object once.
#[derive(Debug, Default)]
pub(crate) struct Use {
    /// Stored bytes of the objects counted so far.
    pub(crate) bytes: u64,
    counted: HashSet<Locator>,
    /// Kind of a frame, and bytes for each object in it.
    frames: HashMap<u64, (FrameKind, u64)>,
}

impl Pack {
    /// Whether the pack holds the object, whole, and under a commit that another one follows. No byte
    /// of a commit is written before the one before it was synced, so what follows proves that this
    /// is on disk; of the last commit a reader can't tell.
    pub(crate) fn holds_settled(&self, name: &Hash) -> Result<bool> {
        let found = units::locate(self, name).map_err(|error| self.error(error))?;
        Ok(found.is_some_and(|(place, _)| place.frame_offset() < self.last.previous_commit))
    }

    /// Reads an object to its end, chunks included, and says whether it is there.
    pub(crate) fn reads_whole(&self, name: &Hash) -> Result<bool> {
        let Some(mut reader) = self.object_reader(name)? else {
            return Ok(false);
        };
        reader.copy_to(|_| Ok(())).map(|_| true)
    }

    /// Objects in the index and in the tail: contents, pieces of large ones, lists, dictionaries.
    pub(crate) fn object_row_count(&self) -> Result<u64> {
        let mut count = 0;
        for unit in &self.units {
            count += self.unit_rows(unit).map_err(|error| self.error(error))?;
        }
        Ok(count)
    }

    fn unit_rows(&self, unit: &Unit) -> crate::segment::Result<u64> {
        match unit {
            Unit::Scanned(scanned) => Ok(scanned.objects(self)?.len() as u64),
            Unit::Indexed(indexed) => indexed.objects.as_ref().map_or(Ok(0), |rows| rows.count()),
        }
    }

    /// Counts an object that lies at `place`, and its chunks, as of use. In a frame of several
    /// objects each counts as an equal share of the frame.
    pub(crate) fn count_use(&self, place: Locator, used: &mut Use) -> Result<()> {
        if !used.counted.insert(place) {
            return Ok(());
        }
        let (kind, share) = match used.frames.get(&place.frame_offset()) {
            Some(known) => *known,
            None => {
                let (header, _) = read_frame_header(&*self.bytes, place.frame_offset())?;
                let len = header.next_offset() - header.offset;
                let known = (header.kind, len / u64::from(header.item_count.max(1)));
                used.frames.insert(header.offset, known);
                known
            }
        };
        used.bytes += share;
        if kind != FrameKind::Lists {
            return Ok(());
        }
        for chunk in self.chunks_at(place)? {
            if let Some(place) = self.indexed_place(&chunk)? {
                self.count_use(place, used)?;
            }
        }
        Ok(())
    }

    /// Names of the chunks of the list at `place`.
    fn chunks_at(&self, place: Locator) -> Result<Vec<Hash>> {
        let frame = self.frame(place.frame_offset()).map_err(|error| self.error(error))?;
        match frame.item(&*self.bytes, place.item()).map_err(|error| self.error(error))? {
            super::frames::Item::List(list) => {
                Ok(list.chunks.iter().map(|chunk| chunk.name).collect())
            }
            super::frames::Item::Bytes(_) => {
                Err(self.error(FormatError::new(Rule::ChunkList, place.frame_offset())))
            }
        }
    }

    /// Gives the place and name of every content, in file order. Pieces of large contents are none of
    /// their own, and neither are dictionaries. An object that can't be read is given as the error.
    pub(crate) fn each_content(
        &self,
        mut each: impl FnMut(Locator, Result<Hash>) -> Result<()>,
    ) -> Result<()> {
        let mut found = Vec::new();
        let mut pieces = HashSet::new();
        for header in self.frames()? {
            let is_content =
                matches!(header.kind, FrameKind::Objects | FrameKind::Records | FrameKind::Lists);
            if !is_content {
                continue;
            }
            for item in 0..header.item_count {
                let place = units::place_of(&header, item as usize)?;
                let name = self.name_at(place);
                if header.kind == FrameKind::Lists && name.is_ok() {
                    pieces.extend(self.chunks_at(place)?);
                }
                found.push((place, name));
            }
        }
        for (place, name) in found {
            if !name.as_ref().is_ok_and(|name| pieces.contains(name)) {
                each(place, name)?;
            }
        }
        Ok(())
    }

    fn name_at(&self, place: Locator) -> Result<Hash> {
        let frame = self.frame(place.frame_offset()).map_err(|error| self.error(error))?;
        match frame.item(&*self.bytes, place.item()).map_err(|error| self.error(error))? {
            super::frames::Item::Bytes(bytes) => Ok(Hash::of(&bytes)),
            super::frames::Item::List(list) => list.name().ok_or_else(|| {
                self.error(Error::from(FormatError::new(Rule::ChunkList, place.frame_offset())))
            }),
        }
    }

    /// An object, as bytes or, if it is stored in chunks, to be read.
    pub(crate) fn whole_or_reader(&self, name: &Hash) -> Result<Option<Whole<'_>>> {
        Ok(self.stored(name)?.map(|stored| match stored {
            Stored::Bytes(bytes) => Whole::Bytes(bytes),
            list @ Stored::List(_) => Whole::Reader(Box::new(ObjectReader::new(self, *name, list))),
        }))
    }
}

/// An object as it is handed on.
pub(crate) enum Whole<'p> {
    Bytes(Vec<u8>),
    Reader(Box<ObjectReader<'p>>),
}
