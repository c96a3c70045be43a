//! Compression of frames on several threads, in an order that does not depend on them.

use crate::compress::{Compressor, DecodeDictionary, RecordCompressor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FormatError;
use crate::format::frame::{Codec, FrameHeader, FrameKind};
use crate::format::object::{RecordRow, object_ranges};
use crate::hash::Hash;
use crate::segment::{Resolved, decode_body, decode_record};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What a frame is to be made of.
#[derive(Debug)]
pub(super) enum Job {
    /// Objects together in one frame, each with its name. The body is `content` from `start` on: the
    /// table of lengths, if there is more than one object, and the objects.
    Objects { names: Vec<Hash>, content: Vec<u8>, start: usize, history: Option<Arc<History>> },
    /// Objects each on its own.
    Records { records: Records, dictionary: Option<Arc<Dictionary>> },
    /// Anything else: compressed if `compress` says so.
    Plain { kind: FrameKind, flags: u8, item_count: u32, body: Vec<u8>, compress: bool },
    /// A frame as another pack has it.
    Copied(Packed),
}

/// Objects side by side, in one piece of memory: what is given to another thread piece by piece costs
/// the allocator more than compressing it.
#[derive(Debug, Default)]
pub(super) struct Records {
    names: Vec<Hash>,
    /// Where each ends in `bytes`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Records {
    pub(super) fn push(&mut self, name: Hash, content: &[u8]) {
        self.names.push(name);
        self.bytes.extend_from_slice(content);
        self.ends.push(self.bytes.len());
    }

    /// Makes room for about so many bytes of short objects.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes + bytes / 8);
        self.names.reserve(bytes / 256);
        self.ends.reserve(bytes / 256);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes of all objects.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Names and contents.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Hash, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let contents = starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]);
        self.names.iter().copied().zip(contents)
    }
}

/// Earlier objects that a frame is compressed after.
#[derive(Debug)]
pub(super) struct History {
    pub(super) names: Vec<Hash>,
    pub(super) bytes: Vec<u8>,
}

/// A dictionary for records, which the pack holds as an object.
#[derive(Debug)]
pub(super) struct Dictionary {
    pub(super) name: Hash,
    pub(super) bytes: Vec<u8>,
}

/// A frame that is ready but for its place.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) header: FrameHeader,
    pub(super) payload: Vec<u8>,
    /// Names of the objects in it, in order.
    pub(super) names: Vec<Hash>,
}

/// Per-thread compression state.
struct Worker {
    level: i32,
    verify: bool,
    compressor: Compressor,
    records: Option<RecordWorker>,
}

/// What compresses records under one dictionary, or under none.
struct RecordWorker {
    dictionary: Option<Hash>,
    compressor: RecordCompressor,
    /// What they are decoded with again. Making it ready takes longer than decoding a frame.
    resolved: Resolved,
}

impl RecordWorker {
    fn new(level: i32, dictionary: Option<&Dictionary>) -> Result<Self> {
        let bytes = dictionary.map(|dictionary| dictionary.bytes.as_slice());
        let compressor = RecordCompressor::new(level, bytes).map_err(compression)?;
        let resolved = match bytes {
            Some(bytes) => {
                let ready = DecodeDictionary::new(bytes).map_err(write_verify)?;
                Resolved::Dictionary(Arc::new(ready))
            }
            None => Resolved::Nothing,
        };
        Ok(Self { dictionary: dictionary.map(|dictionary| dictionary.name), compressor, resolved })
    }
}

impl Worker {
    fn new(level: i32, verify: bool) -> Result<Self> {
        let compressor = Compressor::new(level).map_err(compression)?;
        Ok(Self { level, verify, compressor, records: None })
    }

    fn pack(&mut self, job: Job) -> Result<Packed> {
        match job {
            Job::Objects { names, content, start, history } => {
                let item_count = count(names.len())?;
                let body = &content[start..];
                let (codec, references, stored) =
                    self.compress_objects(body, history.as_deref())?;
                let numbers = (count(body.len())?, item_count);
                let packed =
                    finish(FrameKind::Objects, codec, 0, references, numbers, stored, names)?;
                if self.verify {
                    verify_objects(&packed, history.as_deref())?;
                }
                Ok(packed)
            }
            Job::Copied(packed) => Ok(packed),
            Job::Records { records, dictionary } => {
                self.pack_records(records, dictionary.as_deref())
            }
            Job::Plain { kind, flags, item_count, body, compress } => {
                let shorter = if compress {
                    self.compressor.compress(&body).map_err(compression)?
                } else {
                    None
                };
                let raw_bytes = count(body.len())?;
                let (codec, stored) = match shorter {
                    Some(stored) => (Codec::Zstd, stored),
                    None => (Codec::Raw, body.clone()),
                };
                let is_object = kind == FrameKind::Dictionary;
                let names = is_object.then(|| Hash::of(&body)).into_iter().collect();
                let numbers = (raw_bytes, item_count);
                let packed = finish(kind, codec, flags, &[], numbers, stored, names)?;
                if self.verify && codec != Codec::Raw {
                    let again = decode_body(&packed.header, &packed.payload, &Resolved::Nothing);
                    if again.map_err(write_verify)?.as_ref() != body {
                        return Err(write_verify("entries differ after compression"));
                    }
                }
                Ok(packed)
            }
        }
    }

    fn compress_objects<'a>(
        &mut self,
        body: &[u8],
        history: Option<&'a History>,
    ) -> Result<(Codec, &'a [Hash], Vec<u8>)> {
        let alone = self.compressor.compress(body).map_err(compression)?;
        if let Some(history) = history {
            let after =
                self.compressor.compress_after(&history.bytes, body).map_err(compression)?;
            let names = history.names.len() * Hash::LEN;
            let best = alone.as_ref().map_or(body.len(), Vec::len);
            // A reference costs every later read: it must save an eighth at least.
            if let Some(after) = after.filter(|after| after.len() + names < best - best / 8) {
                return Ok((Codec::ZstdPrefix, &history.names, after));
            }
        }
        Ok(match alone {
            // Saving next to nothing is not worth a decoder.
            Some(stored) if stored.len() < body.len() - body.len() / 64 => {
                (Codec::Zstd, &[], stored)
            }
            _ => (Codec::Raw, &[], body.to_vec()),
        })
    }

    fn pack_records(
        &mut self,
        records: Records,
        dictionary: Option<&Dictionary>,
    ) -> Result<Packed> {
        let wanted = dictionary.map(|dictionary| dictionary.name);
        let kept = self.records.take().filter(|worker| worker.dictionary == wanted);
        let worker = self.records.insert(match kept {
            Some(worker) => worker,
            None => RecordWorker::new(self.level, dictionary)?,
        });
        let mut table = Vec::with_capacity(records.names.len() * RecordRow::LEN);
        let mut stored = Vec::with_capacity(records.len_bytes() / 2);
        for (name, record) in records.iter() {
            let shorter = worker.compressor.compress(record).map_err(compression)?;
            stored.extend_from_slice(shorter.unwrap_or(record));
            let row = RecordRow {
                prefix: name.prefix(),
                end: count(stored.len())?,
                raw_bytes: count(record.len())?,
            };
            table.extend_from_slice(&row.encode());
        }
        table.extend_from_slice(&stored);
        let codec = if dictionary.is_some() { Codec::ZstdDictionary } else { Codec::Zstd };
        let references: Vec<Hash> =
            dictionary.map(|dictionary| dictionary.name).into_iter().collect();
        let numbers = (count(records.len_bytes())?, count(records.names.len())?);
        let names = records.names;
        let packed = finish(FrameKind::Records, codec, 0, &references, numbers, table, names)?;
        if self.verify {
            verify_records(&packed, &worker.resolved)?;
        }
        Ok(packed)
    }
}

fn compression(source: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "compressing").because(source)
}

fn write_verify(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::WriteVerify, "a frame did not read back as it was made").because(source)
}

fn count(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::new(ErrorKind::Limit, "a frame of more than 4 GiB"))
}

fn finish(
    kind: FrameKind,
    codec: Codec,
    flags: u8,
    references: &[Hash],
    (raw_bytes, item_count): (u32, u32),
    body: Vec<u8>,
    names: Vec<Hash>,
) -> Result<Packed> {
    let payload = if references.is_empty() {
        body
    } else {
        let names = references.iter().flat_map(|name| name.as_bytes());
        names.copied().chain(body).collect()
    };
    let header = FrameHeader {
        kind,
        codec,
        reference_count: u8::try_from(references.len()).unwrap_or(u8::MAX), // four at most
        flags,
        stored_bytes: count(payload.len())?,
        raw_bytes,
        item_count,
        ordinal: 0,
        offset: 0,
        stored_hash: Hash::of(&payload),
        previous: [0; 8],
    };
    Ok(Packed { header, payload, names })
}

/// Decodes what was just made and names every object again: a flipped bit in memory or a fault of
/// the compressor is found before it is committed.
fn verify_objects(packed: &Packed, history: Option<&History>) -> Result<()> {
    let resolved = match (packed.header.codec, history) {
        (Codec::ZstdPrefix, Some(history)) => Resolved::Prefix(history.bytes.clone()),
        _ => Resolved::Nothing,
    };
    let (_, body) = packed.header.split_payload(&packed.payload);
    let body = decode_body(&packed.header, body, &resolved).map_err(write_verify)?;
    let ranges = object_ranges(&body, packed.header.item_count).map_err(write_verify)?;
    let same = ranges
        .iter()
        .zip(&packed.names)
        .all(|(range, name)| Hash::of(&body[range.clone()]) == *name);
    if same && Hash::of(&packed.payload) == packed.header.stored_hash {
        return Ok(());
    }
    Err(write_verify(FormatError::new(crate::format::Rule::ObjectName, 0)))
}

fn verify_records(packed: &Packed, resolved: &Resolved) -> Result<()> {
    let (_, body) = packed.header.split_payload(&packed.payload);
    let rows = RecordRow::all(body, packed.header.item_count, packed.header.raw_bytes)
        .map_err(write_verify)?;
    for ((row, stored), name) in rows.into_iter().zip(&packed.names) {
        let record = decode_record(&packed.header, &body[stored], row.raw_bytes, resolved);
        if Hash::of(&record.map_err(write_verify)?) != *name {
            return Err(write_verify(FormatError::new(crate::format::Rule::ObjectName, 0)));
        }
    }
    Ok(())
}

/// Makes frames of jobs, on this thread or on several, and gives them back in the order of the jobs.
pub(super) struct Pool {
    inline: Option<Worker>,
    threads: Option<Threads>,
}

struct Threads {
    jobs: Sender<(u64, Job)>,
    results: Receiver<(u64, Result<Packed>)>,
    handles: Vec<JoinHandle<()>>,
    submitted: u64,
    taken: u64,
    waiting: BTreeMap<u64, Result<Packed>>,
    in_flight_max: u64,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads; with one, the caller's thread does the work.
    pub(super) fn new(threads: usize, level: i32, verify: bool) -> Result<Self> {
        if threads <= 1 {
            let inline = Some(Worker::new(level, verify)?);
            return Ok(Self { inline, threads: None });
        }
        let (jobs, jobs_in) = bounded::<(u64, Job)>(threads);
        let (results_out, results) = unbounded();
        let mut handles = Vec::new();
        for _ in 0..threads {
            let mut worker = Worker::new(level, verify)?;
            let (jobs_in, results_out) = (jobs_in.clone(), results_out.clone());
            let run = move || {
                for (number, job) in jobs_in {
                    if results_out.send((number, worker.pack(job))).is_err() {
                        return; // the writer is gone
                    }
                }
            };
            let thread = std::thread::Builder::new().name("pefc-pack".to_owned()).spawn(run);
            handles.push(thread.map_err(compression)?);
        }
        let in_flight_max = 2 * threads as u64 + 2;
        let waiting = BTreeMap::new();
        let threads = Some(Threads {
            jobs,
            results,
            handles,
            submitted: 0,
            taken: 0,
            waiting,
            in_flight_max,
        });
        Ok(Self { inline: None, threads })
    }

    /// Takes a job. While too many are under way, `take` is given finished frames first: that
    /// bounds the memory.
    pub(super) fn submit(
        &mut self,
        job: Job,
        mut take: impl FnMut(Packed) -> Result<()>,
    ) -> Result<()> {
        if let Some(worker) = &mut self.inline {
            let packed = worker.pack(job)?;
            return take(packed);
        }
        while let Some(threads) = &mut self.threads {
            if threads.submitted - threads.taken < threads.in_flight_max {
                break;
            }
            take(threads.next()?)?;
        }
        if let Some(threads) = &mut self.threads {
            let number = threads.submitted;
            threads.submitted += 1;
            threads.jobs.send((number, job)).map_err(|_| gone())?;
        }
        Ok(())
    }

    /// Gives all frames that are still under way to `take`.
    pub(super) fn drain(&mut self, mut take: impl FnMut(Packed) -> Result<()>) -> Result<()> {
        while let Some(threads) = self.threads.as_mut().filter(|t| t.taken < t.submitted) {
            take(threads.next()?)?;
        }
        Ok(())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Io, "a compression thread has ended early")
}

impl Threads {
    /// The next frame in order.
    fn next(&mut self) -> Result<Packed> {
        loop {
            if let Some(packed) = self.waiting.remove(&self.taken) {
                self.taken += 1;
                return packed;
            }
            let (number, packed) = self.results.recv().map_err(|_| gone())?;
            self.waiting.insert(number, packed);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            let Threads { jobs, results, handles, .. } = threads;
            drop((jobs, results)); // threads see the end of their queue
            for handle in handles {
                // A worker that panicked has nothing more to say than what `gone` said.
                let _ = handle.join();
            }
        }
    }
}
