//! Content into frames: small objects together, large ones cut, nothing twice.

use super::pool::{Dictionary, Job, Records};
use crate::compress::train_dictionary;
use crate::format::frame::FrameKind;
use crate::format::object::put_lengths;
use crate::format::segment::Layout;
use crate::hash::Hash;
use std::sync::Arc;

/// A dictionary has at most this many bytes.
const DICTIONARY_BYTES: usize = 112 << 10;
/// A dictionary is trained once this many bytes of records were seen: fewer would not pay for it.
const SAMPLE_BYTES: usize = 1 << 20;
/// Longer records say little about short ones.
const SAMPLE_RECORD_BYTES_MAX: usize = 16 << 10;

/// Room for the table of lengths before the objects of a frame, so that they need not be moved:
/// enough for eight thousand of them.
const TABLE_ROOM: usize = 16 << 10;

/// A frame of small objects that is being filled.
#[derive(Debug)]
pub(super) struct Intake {
    layout: Layout,
    frame_bytes: usize,
    names: Vec<Hash>,
    lengths: Vec<u32>,
    content: Vec<u8>,
    records: Records,
    training: Training,
}

#[derive(Debug)]
enum Training {
    Collecting { samples: Vec<u8>, lengths: Vec<usize> },
    Done(Option<Arc<Dictionary>>),
}

impl Intake {
    pub(super) fn new(layout: Layout, frame_bytes: usize) -> Self {
        Self {
            layout,
            frame_bytes,
            names: Vec::new(),
            lengths: Vec::new(),
            content: Vec::new(),
            records: Records::default(),
            training: Training::Collecting { samples: Vec::new(), lengths: Vec::new() },
        }
    }

    /// Takes an object of at most 4 GiB and gives the jobs that are full now.
    pub(super) fn push(&mut self, name: Hash, content: &[u8]) -> Vec<Job> {
        let mut jobs = Vec::new();
        match self.layout {
            Layout::Archive => {
                // A frame is closed before it gets too long, so that cuts depend on what is in it
                // and what comes next, never on time or threads.
                let filled = self.content.len().saturating_sub(TABLE_ROOM);
                if !self.names.is_empty() && filled + content.len() > self.frame_bytes {
                    jobs.extend(self.finish());
                }
                if self.content.is_empty() {
                    self.content.reserve(TABLE_ROOM + self.frame_bytes);
                    self.content.resize(TABLE_ROOM, 0);
                }
                self.names.push(name);
                self.lengths.push(u32::try_from(content.len()).unwrap_or(u32::MAX));
                self.content.extend_from_slice(content);
            }
            Layout::Records => {
                self.sample(content, &mut jobs);
                if self.records.is_empty() {
                    self.records.reserve(self.frame_bytes);
                }
                self.records.push(name, content);
                if self.records.len_bytes() >= self.frame_bytes {
                    jobs.extend(self.finish());
                }
            }
        }
        jobs
    }

    /// The frame as it is now, if it holds anything.
    pub(super) fn finish(&mut self) -> Option<Job> {
        if !self.records.is_empty() {
            let dictionary = match &self.training {
                Training::Done(dictionary) => dictionary.clone(),
                Training::Collecting { .. } => None,
            };
            return Some(Job::Records { records: std::mem::take(&mut self.records), dictionary });
        }
        if self.names.is_empty() {
            return None;
        }
        let names = std::mem::take(&mut self.names);
        let mut content = std::mem::take(&mut self.content);
        let mut table = Vec::new();
        put_lengths(&mut table, &std::mem::take(&mut self.lengths));
        // The table goes right before the objects, into the room that was left for it.
        let start = match TABLE_ROOM.checked_sub(table.len()) {
            Some(start) => start,
            None => {
                content.splice(..TABLE_ROOM, table.iter().copied());
                return Some(Job::Objects { names, content, start: 0, history: None });
            }
        };
        content[start..TABLE_ROOM].copy_from_slice(&table);
        Some(Job::Objects { names, content, start, history: None })
    }

    /// Collects samples and trains the dictionary once there are enough.
    fn sample(&mut self, content: &[u8], jobs: &mut Vec<Job>) {
        let Training::Collecting { samples, lengths } = &mut self.training else {
            return;
        };
        if content.len() > SAMPLE_RECORD_BYTES_MAX {
            return;
        }
        samples.extend_from_slice(content);
        lengths.push(content.len());
        if samples.len() < SAMPLE_BYTES {
            return;
        }
        let mut rest = samples.as_slice();
        let mut parts = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (part, more) = rest.split_at(*length);
            parts.push(part);
            rest = more;
        }
        let trained = train_dictionary(&parts, DICTIONARY_BYTES);
        let dictionary =
            trained.map(|bytes| Arc::new(Dictionary { name: Hash::of(&bytes), bytes }));
        if let Some(dictionary) = &dictionary {
            // Twice: without it, no record under it could be read.
            for _ in 0..2 {
                jobs.push(Job::Plain {
                    kind: FrameKind::Dictionary,
                    flags: 0,
                    item_count: 1,
                    body: dictionary.bytes.clone(),
                    compress: true,
                });
            }
        }
        self.training = Training::Done(dictionary);
    }
}
