//! Frames into the file: their places, their chain, and the two ways to make them durable.

use super::pool::Packed;
use crate::disk::Latched;
use crate::format::commit::Commit;
use crate::format::frame::{Codec, FrameHeader, FrameKind};
use crate::format::segment::{Layout, SegmentHeader};
use crate::format::{Check, FormatError, Locator, Rule};
use crate::hash::Hash;
use std::io;

/// Written bytes are handed to the system in pieces of about this size.
const BUFFER_BYTES: usize = 1 << 20;

/// The end of a pack file that a writer appends to.
#[derive(Debug)]
pub(super) struct Out {
    file: Latched,
    /// Bytes that go to `position - buffer.len()`.
    buffer: Vec<u8>,
    /// Where the next byte goes.
    position: u64,
    segment: Option<OpenSegment>,
    /// Offset and check of the last commit frame.
    last_commit: (u64, [u8; 8]),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct OpenSegment {
    pub(super) offset: u64,
    pub(super) previous: [u8; 8],
    pub(super) ordinal: u32,
}

impl Out {
    pub(super) fn new(
        file: Latched,
        position: u64,
        segment: Option<OpenSegment>,
        last_commit: (u64, [u8; 8]),
    ) -> Self {
        Self { file, buffer: Vec::new(), position, segment, last_commit }
    }

    pub(super) fn file(&self) -> &Latched {
        &self.file
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Offset of the open segment, or of the one that the next frame will open.
    pub(super) fn segment_offset(&self) -> u64 {
        self.segment.map_or(self.position, |segment| segment.offset)
    }

    /// Opens a segment if none is open.
    pub(super) fn begin_segment(&mut self, layout: Layout, log_size: u64) -> io::Result<()> {
        if self.segment.is_some() {
            return Ok(());
        }
        let (previous_commit, previous) = self.last_commit;
        let offset = self.position;
        let header = SegmentHeader {
            layout,
            compatible: 0,
            read_only_compatible: 0,
            offset,
            log_size,
            previous_commit,
            previous,
        };
        let header = header.encode();
        self.segment =
            Some(OpenSegment { offset, previous: SegmentHeader::check(&header), ordinal: 0 });
        self.append(&header)
    }

    /// Appends a frame to the open segment. Gives its header and the header's check.
    pub(super) fn frame(&mut self, packed: &Packed) -> io::Result<(FrameHeader, Check)> {
        let segment = self.segment.as_mut().ok_or(io::ErrorKind::InvalidInput)?;
        let header = FrameHeader {
            ordinal: segment.ordinal,
            offset: self.position,
            previous: segment.previous,
            ..packed.header
        };
        if header.offset >= Locator::OFFSET_END {
            let most = Locator::OFFSET_END;
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                FormatError::numbers(Rule::Limit, header.offset, header.offset, most),
            ));
        }
        let bytes = header.encode();
        let check = FrameHeader::check(&bytes);
        segment.previous = check;
        segment.ordinal += 1;
        self.append(&bytes)?;
        self.append(&packed.payload)?;
        self.append(&[0; 8][..header.padding()])?;
        Ok((header, check))
    }

    /// Appends the frame of a commit; a footer ends the segment. `commit` is completed with what
    /// this end of the file knows.
    pub(super) fn commit(&mut self, commit: &mut Commit) -> io::Result<()> {
        commit.previous_commit = self.last_commit.0;
        commit.segment_offset = self.segment_offset();
        commit.frame_offset = self.position;
        let payload = commit.encode();
        let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let header = FrameHeader {
            kind: FrameKind::Commit,
            codec: Codec::Raw,
            reference_count: 0,
            flags: 0,
            stored_bytes: len,
            raw_bytes: len,
            item_count: 1,
            ordinal: 0,
            offset: 0,
            stored_hash: Hash::of(&payload),
            previous: [0; 8],
        };
        let (header, _) = self.frame(&Packed { header, payload, names: Vec::new() })?;
        let check = self.segment.map_or([0; 8], |segment| segment.previous);
        self.last_commit = (header.offset, check);
        if commit.footer.is_some() {
            self.segment = None;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Hands everything to the system.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let start = self.position - self.buffer.len() as u64;
        if !self.buffer.is_empty() {
            self.file.write_all_at(&self.buffer, start)?;
            if self.buffer.len() >= BUFFER_BYTES {
                // A long write: what is on disk early, the sync at the end need not wait for.
                self.file.inner().begin_writeback(start, self.buffer.len() as u64);
            }
        }
        self.buffer.clear();
        Ok(())
    }

    /// Returns once everything is on disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }
}
