//! What a pack says of itself as a log: its name, its signers, its signatures, and its entries from
//! the first to the last.

use super::Pack;
use super::frames::Items;
use crate::error::Result;
use crate::format::entry::{Entry, Genesis, Keys};
use crate::format::frame::FrameKind;
use crate::format::signature::{self, Signature};
use crate::format::{FormatError, REFERENCE_DEPTH_MAX, Rule};
use crate::segment::{self, ReadError, Step, Walker, read_frame_header, read_payload};
use crate::tree::Node;
use std::ops::ControlFlow;

/// Context of the nonce of a log that is sealed before it is ever committed: a function of what it
/// holds, so that the same input gives the same pack.
const NONCE_CONTEXT: &str = "pefc 2026-11 genesis nonce";

/// The nonce of a log whose first commit is its first seal, from the root of the map there.
pub(super) fn derived_nonce(map_root: &Node) -> [u8; 16] {
    let mut nonce = [0; 16];
    let mut hasher = blake3::Hasher::new_derive_key(NONCE_CONTEXT);
    hasher.update(map_root).finalize_xof().fill(&mut nonce);
    nonce
}

/// The name of a log in what is signed: that of its genesis, or one made of its nonce.
#[must_use]
pub(crate) fn origin_of(genesis: &Genesis<'_>) -> String {
    if genesis.origin.is_empty() {
        let hex: String = genesis.nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("pefc/{hex}")
    } else {
        genesis.origin.clone().into_owned()
    }
}

impl Pack {
    /// Gives every entry of the log to `each`, with its index, in the order of the log. Reads the
    /// headers of all frames, and those that hold entries.
    ///
    /// # Errors
    /// As any read. Entries are not held to the log root: [`Pack::verify`] does.
    pub fn for_each_entry(&self, mut each: impl FnMut(u64, &[u8])) -> Result<()> {
        self.walk_entries(|index, bytes| {
            each(index, bytes);
            ControlFlow::Continue(())
        })
    }

    fn walk_entries(&self, mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>) -> Result<()> {
        let mut walk = || -> segment::Result<()> {
            let mut walker = Walker::new(&*self.bytes, self.end);
            while let Some(step) = walker.next()? {
                let Step::Frame(header) = step else { continue };
                if header.kind != FrameKind::Entries {
                    continue;
                }
                let fault = || ReadError::from(FormatError::new(Rule::Entry, header.offset));
                let frame = self.load(header.offset, REFERENCE_DEPTH_MAX)?;
                let Items::Entries(table) = &frame.items else { return Err(fault()) };
                let body = frame.body(&*self.bytes)?;
                for item in 0..table.len() {
                    let bytes = table.entry(&body, item).ok_or_else(fault)?;
                    if each(table.first_index + item as u64, bytes).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        walk().map_err(|error| self.error(error))
    }

    /// The first entry, which says which log this is; none for a log without entries.
    ///
    /// # Errors
    /// As any read; [`crate::ErrorKind::Corrupt`] if it is another entry.
    pub fn genesis(&self) -> Result<Option<Genesis<'static>>> {
        let mut found = None;
        self.walk_entries(|_, bytes| {
            found = Some(Entry::decode(bytes).map(|(entry, _)| entry.into_owned()));
            ControlFlow::Break(())
        })?;
        match found.transpose()? {
            Some(Entry::Genesis(genesis)) => Ok(Some(genesis)),
            None => Ok(None),
            Some(_) => Err(self.error(FormatError::new(Rule::LogOrder, 0))),
        }
    }

    /// The name of this log in checkpoints; none for a log without entries.
    ///
    /// # Errors
    /// As [`Pack::genesis`].
    pub fn origin(&self) -> Result<Option<String>> {
        Ok(self.genesis()?.as_ref().map(origin_of))
    }

    /// The changes of signers in the log, oldest first, each with its index.
    ///
    /// # Errors
    /// As any read.
    pub fn signer_changes(&self) -> Result<Vec<(u64, Keys<'static>)>> {
        let mut found = Vec::new();
        let mut failed = None;
        self.for_each_entry(|index, bytes| match Entry::decode(bytes) {
            Ok((Entry::Keys(keys), _)) => {
                if let Entry::Keys(keys) = Entry::Keys(keys).into_owned() {
                    found.push((index, keys));
                }
            }
            Ok(_) => {}
            Err(error) => failed = Some(error),
        })?;
        failed.map_or(Ok(found), |error| Err(self.error(error)))
    }

    /// All signatures in the pack, the newest frame first. None of them is verified.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] if a frame of signatures is damaged.
    pub fn signatures(&self) -> Result<Vec<Signature<'static>>> {
        let footer = self.footers().next().transpose()?.and_then(|commit| commit.footer);
        let row = footer.as_ref().and_then(|footer| footer.section(FrameKind::Signatures));
        let mut found = Vec::new();
        let mut next = row.map_or(0, |row| row.frame_offset);
        while next != 0 {
            let read = read_signatures(self, next);
            let (previous, signatures) = read.map_err(|error| self.error(error))?;
            found.extend(signatures);
            next = previous;
        }
        Ok(found)
    }
}

/// Reads the frame of signatures at an offset: the offset of the one before it, and what it holds.
pub(super) fn read_signatures(
    pack: &Pack,
    offset: u64,
) -> segment::Result<(u64, Vec<Signature<'static>>)> {
    let (header, _) = read_frame_header(&*pack.bytes, offset)?;
    if header.kind != FrameKind::Signatures {
        return Err(FormatError::new(Rule::Signature, offset).into());
    }
    let body = read_payload(&*pack.bytes, &header)?;
    let (previous, signatures) = signature::decode(&body, header.item_count)
        .map_err(|error| error.within(header.payload_offset()))?;
    // Strictly down, so that following them ends.
    if previous >= offset {
        return Err(FormatError::new(Rule::Signature, header.payload_offset()).into());
    }
    Ok((previous, signatures.into_iter().map(Signature::into_owned).collect()))
}
