//! Small files are read and named on other threads; everything arrives in key order.

use super::read::{Done, Job, read_batch};
use super::scan::Scan;
use crate::error::{Error, ErrorKind, Result};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Small files of a batch, at most, and their bytes, about.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 1 << 20;
/// Items of a batch, at most.
const BATCH_ITEMS: usize = 1024;
/// Bytes of files that are read ahead, about.
const AHEAD_BYTES: u64 = 24 << 20;
/// Batches that are prepared ahead.
const AHEAD_BATCHES: usize = 64;

/// What is to be done with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A file to read ahead.
    Small,
    /// A file that is as it is in the pack.
    Unchanged,
    /// Everything else: files to stream, directories, links.
    Other,
}

/// A run of items.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Range<usize>,
    pub(super) classes: Vec<Class>,
    bytes: u64,
}

/// Who gets the items, in order, on the calling thread.
pub(super) trait Consumer {
    /// What is to be done with an item. Asked once for each, in order.
    fn classify(&mut self, position: usize) -> Result<Class>;

    /// Takes a batch with what was read for it.
    fn take(&mut self, batch: &Batch, done: &mut Done) -> Result<()>;
}

/// Brings all items to `consumer`.
pub(super) fn run(
    scan: &Scan,
    threads: usize,
    cancel: Option<&AtomicBool>,
    consumer: &mut dyn Consumer,
) -> Result<()> {
    let planner = Planner { scan, next: 0, number: 0, spare: Vec::new() };
    if threads <= 1 {
        return run_inline(planner, cancel, consumer);
    }
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (jobs, to_do) = unbounded::<Job>();
        let (finished, done) = unbounded();
        let mut running = 0;
        for _ in 0..threads {
            let (to_do, finished) = (to_do.clone(), finished.clone());
            let stop: Vec<&AtomicBool> = cancel.into_iter().chain([&stopped]).collect();
            let reader = std::thread::Builder::new().name("pefc-read".to_owned());
            let spawned = reader.spawn_scoped(scope, move || {
                for job in to_do {
                    if finished.send(read_batch(scan, job, &stop)).is_err() {
                        break;
                    }
                }
            });
            running += usize::from(spawned.is_ok());
        }
        drop((to_do, finished));
        let result = if running == 0 {
            run_inline(planner, cancel, consumer)
        } else {
            pump(planner, &jobs, &done, consumer)
        };
        stopped.store(true, Ordering::Relaxed);
        result
    })
}

fn run_inline(
    mut planner: Planner<'_>,
    cancel: Option<&AtomicBool>,
    consumer: &mut dyn Consumer,
) -> Result<()> {
    let stop: Vec<&AtomicBool> = cancel.into_iter().collect();
    while let Some((batch, job)) = planner.next(consumer)? {
        let mut done = read_batch(planner.scan, job, &stop);
        consumer.take(&batch, &mut done)?;
        planner.spare.push(done.buffer);
    }
    Ok(())
}

fn pump(
    mut planner: Planner<'_>,
    jobs: &Sender<Job>,
    finished: &Receiver<Done>,
    consumer: &mut dyn Consumer,
) -> Result<()> {
    let gone = || Error::new(ErrorKind::Io, "the threads that read files have ended");
    let mut waiting: VecDeque<(Batch, Option<Done>)> = VecDeque::new();
    let mut first = 0; // number of the batch in front
    let mut ahead_bytes = 0;
    let mut is_all = false;
    loop {
        while !is_all && ahead_bytes < AHEAD_BYTES && waiting.len() < AHEAD_BATCHES {
            let Some((batch, job)) = planner.next(consumer)? else {
                is_all = true;
                break;
            };
            ahead_bytes += batch.bytes;
            if job.wanted.is_empty() {
                waiting.push_back((batch, Some(Done::default())));
            } else {
                waiting.push_back((batch, None));
                jobs.send(job).map_err(|_| gone())?;
            }
        }
        match waiting.pop_front() {
            None => return Ok(()),
            Some((batch, Some(mut done))) => {
                consumer.take(&batch, &mut done)?;
                planner.spare.push(done.buffer);
                ahead_bytes -= batch.bytes;
                first += 1;
            }
            Some(front) => {
                waiting.push_front(front);
                let done = finished.recv().map_err(|_| gone())?;
                let index = usize::try_from(done.number - first).unwrap_or(usize::MAX);
                if let Some((_, place)) = waiting.get_mut(index) {
                    *place = Some(done);
                }
            }
        }
    }
}

/// Cuts the items into batches.
struct Planner<'s> {
    scan: &'s Scan,
    next: usize,
    number: u64,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

impl Planner<'_> {
    fn next(&mut self, consumer: &mut dyn Consumer) -> Result<Option<(Batch, Job)>> {
        let start = self.next;
        let mut classes = Vec::new();
        let mut wanted = Vec::new();
        let mut bytes = 0;
        while let Some(item) = self.scan.items.get(self.next) {
            let class = consumer.classify(self.next)?;
            classes.push(class);
            if class == Class::Small {
                wanted.push(u32::try_from(self.next).unwrap_or(u32::MAX));
                bytes += item.metadata.size_bytes;
            }
            self.next += 1;
            if wanted.len() >= BATCH_FILES || bytes >= BATCH_BYTES || classes.len() >= BATCH_ITEMS {
                break;
            }
        }
        if start == self.next {
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        let buffer =
            if wanted.is_empty() { Vec::new() } else { self.spare.pop().unwrap_or_default() };
        let items = start..self.next;
        let job = Job { number, wanted, buffer };
        Ok(Some((Batch { items, classes, bytes }, job)))
    }
}
