//! Reading files so that a change in between is noticed.

use super::scan::{Item, Scan};
use super::{Progress, check_cancel};
use crate::chunk::WHOLE_BYTES_MAX;
use crate::disk::tree::{Metadata, SourceFile};
use crate::hash::Hash;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// A file that has grown by more than this since it was found is left to the calling thread, so
/// that memory stays bounded.
const GROWTH_MAX: u64 = 64 << 10;

/// Small files to read: positions of items, and a buffer to read them into.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) wanted: Vec<u32>,
    pub(super) buffer: Vec<u8>,
}

/// What became of a [`Job`]. There are fewer outcomes than files only if it was stopped.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) number: u64,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) buffer: Vec<u8>,
}

/// What became of one file.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was read.
    Read(Small),
    /// It is larger than it was when it was found: to be streamed.
    Grown,
    /// It could not be read.
    Failed(io::Error),
}

/// A small file that was read.
#[derive(Debug)]
pub(super) struct Small {
    /// Where its content is in the buffer.
    pub(super) range: Range<usize>,
    pub(super) name: Hash,
    /// From before it was read, so that a later change makes a difference to it.
    pub(super) metadata: Metadata,
    pub(super) changed: bool,
}

/// Reads and names the files of a job.
pub(super) fn read_batch(scan: &Scan, job: Job, stop: &[&AtomicBool]) -> Done {
    let mut done = Done {
        number: job.number,
        outcomes: Vec::with_capacity(job.wanted.len()),
        buffer: job.buffer,
    };
    let mut at = 0;
    for position in job.wanted {
        if stop.iter().any(|stop| stop.load(Ordering::Relaxed)) {
            break;
        }
        let Some(item) = scan.items.get(position as usize) else {
            break;
        };
        let outcome = match read_small(scan, item, &mut done.buffer, at) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        if let Outcome::Read(small) = &outcome {
            at = small.range.end;
        }
        done.outcomes.push(outcome);
    }
    done
}

fn read_small(scan: &Scan, item: &Item, buffer: &mut Vec<u8>, start: usize) -> io::Result<Outcome> {
    let mut is_last_try = false;
    loop {
        let (tree, path) = scan.place(item).ok_or(io::ErrorKind::NotFound)?;
        let mut file = tree.open_file(path)?;
        let metadata = *file.opened();
        let most = (item.metadata.size_bytes + GROWTH_MAX).min(WHOLE_BYTES_MAX as u64);
        let Some(size) =
            usize::try_from(metadata.size_bytes).ok().filter(|_| metadata.size_bytes <= most)
        else {
            return Ok(Outcome::Grown);
        };
        // A byte more than there should be: a file that has it grew, or is one of those that the
        // kernel makes up and calls empty.
        let mut end = read_upto(&mut file, buffer, start, size + 1, size)?;
        let is_stable = end - start == size && file.metadata()?.same_state(&metadata);
        if !is_stable && !is_last_try {
            is_last_try = true;
            continue;
        }
        if end - start > size {
            end += read_upto(&mut file, buffer, end, WHOLE_BYTES_MAX - size, usize::MAX)? - end;
            end = end.min(start + WHOLE_BYTES_MAX);
        }
        let content = buffer.get(start..end).unwrap_or_default();
        return Ok(Outcome::Read(Small {
            range: start..end,
            name: Hash::of(content),
            metadata,
            changed: !is_stable,
        }));
    }
}

/// Reads on into `buffer` from `at`, at most `most` bytes, and says where they end. Stops when it
/// has `enough`.
fn read_upto(
    file: &mut SourceFile,
    buffer: &mut Vec<u8>,
    at: usize,
    most: usize,
    enough: usize,
) -> io::Result<usize> {
    if buffer.len() < at + most {
        buffer.resize(at + most, 0);
    }
    let mut filled = 0;
    while let Some(room @ [_, ..]) = buffer.get_mut(at + filled..at + most) {
        match file.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled >= enough {
            break;
        }
    }
    Ok(at + filled)
}

/// A large file on its way into a pack: no more of it than there was when it was opened.
pub(super) struct Tracked<'a> {
    file: SourceFile,
    left: u64,
    progress: Option<&'a dyn Progress>,
    cancel: Option<&'a AtomicBool>,
    /// Why reading failed, to tell it from a failure to write.
    pub(super) error: Option<io::Error>,
}

impl<'a> Tracked<'a> {
    pub(super) fn new(
        file: SourceFile,
        progress: Option<&'a dyn Progress>,
        cancel: Option<&'a AtomicBool>,
    ) -> Self {
        Self { left: file.opened().size_bytes, file, progress, cancel, error: None }
    }

    /// Whether it was read to its end and is what it was.
    pub(super) fn is_stable(&self) -> bool {
        let now = self.file.metadata();
        self.left == 0 && now.is_ok_and(|now| now.same_state(self.file.opened()))
    }
}

impl Read for Tracked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        check_cancel(self.cancel).map_err(io::Error::other)?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let room = buf.get_mut(..most).unwrap_or_default();
        match self.file.read(room) {
            Ok(count) => {
                self.left -= count as u64;
                if let Some(progress) = self.progress {
                    progress.advance(0, count as u64);
                }
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let said = io::Error::new(error.kind(), error.to_string());
                self.error = Some(error);
                Err(said)
            }
        }
    }
}
