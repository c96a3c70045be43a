//! Bytes that changed behind everyone's back: packs cut at every byte, with every single bit
//! flipped, with junk behind them, with blocks swapped and with blocks of an older generation.
//!
//! Whatever is done to a pack, each answer is exact or a typed error. A cut leaves exactly the
//! commits that are wholly there. A key that was committed never turns absent without a word, with
//! one exception that `spec/durability.md` 5 owns up to: what damages the last ordinary commit, or
//! the frame of a footer at the end, looks like a commit that was not finished. Then the pack is
//! that of the commit before, and says how many bytes it ignores.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::{
    Keys, Log, PATH, Step, delete, noise, open, options, put, read_all, run, store,
};
use common::sim_fs::SimFs;
use pefc::chunk::first_chunk_len;
use pefc::format::frame::{Codec, FrameHeader, FrameKind};
use pefc::format::segment::Layout;
use pefc::{Error, ErrorKind, Hash, Key, Pack, VerifyOptions, WriteOptions};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A state of the pack: where its commit ends, and where what proves it begins.
struct Commit {
    end: usize,
    /// Offset of the commit frame.
    frame: usize,
    is_footer: bool,
    generation: u64,
    keys: Keys,
}

struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
    commits: Vec<Commit>,
    /// Names of all contents ever committed.
    names: BTreeSet<Hash>,
}

impl Sample {
    /// Runs the script and remembers every commit.
    fn new(name: &'static str, layout: Layout, steps: &[Step]) -> Self {
        let fs = SimFs::new(1);
        let options = WriteOptions { layout, ..options(&fs) };
        let mut commits: Vec<Commit> = Vec::new();
        for count in 1..=steps.len() {
            // Each commit is looked at after a run of its own, so that a script is all there is.
            if !matches!(steps[count - 1], Step::Commit | Step::Seal | Step::Finish) {
                continue;
            }
            let fs = SimFs::new(1);
            let options = WriteOptions { machine: fs.machine(), ..options.clone() };
            let mut log = Log::new(None);
            run(&options, &steps[..count], &mut log).unwrap();
            let pack = open(&fs).unwrap();
            commits.push(Commit {
                end: fs.read_file(PATH).unwrap().len(),
                frame: pack.commit().frame_offset as usize,
                is_footer: pack.commit().footer.is_some(),
                generation: pack.generation(),
                keys: log.last().clone().unwrap(),
            });
        }
        run(&options, steps, &mut Log::new(None)).unwrap();
        let bytes = fs.read_file(PATH).unwrap();
        assert_eq!(commits.last().unwrap().end, bytes.len(), "{name}");
        let contents = commits.iter().flat_map(|commit| commit.keys.values());
        let names = contents.map(|content| Hash::of(content)).collect();
        let sample = Self { name, bytes, commits, names };
        sample.check(&sample.bytes, sample.last());
        sample
    }

    fn last(&self) -> &Commit {
        self.commits.last().unwrap()
    }

    fn pack(&self) -> Pack {
        Pack::from_bytes(self.bytes.clone()).unwrap()
    }

    /// The newest commit that is wholly in the first `len` bytes.
    fn at(&self, len: usize) -> Option<&Commit> {
        self.commits.iter().rfind(|commit| commit.end <= len)
    }

    /// The pack is just that of `commit`; the rest is torn.
    fn check(&self, bytes: &[u8], commit: &Commit) {
        let pack = Pack::from_bytes(bytes.to_vec()).unwrap();
        assert_eq!(pack.committed_bytes() as usize, commit.end, "{}", self.name);
        assert_eq!(pack.torn_bytes() as usize, bytes.len() - commit.end);
        assert!(read_all(&pack).unwrap() == commit.keys, "{}", self.name);
    }

    /// Opens damaged bytes and asks for everything. `changed` is where they differ.
    fn ask(&self, bytes: Vec<u8>, changed: Range<usize>, context: &dyn Fn() -> String) -> Outcome {
        let pack = match Pack::from_bytes(bytes) {
            Ok(pack) => pack,
            Err(error) => return Outcome::refused(&error, context),
        };
        let end = pack.committed_bytes() as usize;
        let mut outcome = Outcome::Exact;
        let commit = if end == self.bytes.len() {
            self.last()
        } else {
            // The exception: the last commit looks unfinished.
            let last = self.last();
            let before = self.commits.len().checked_sub(2).map(|at| &self.commits[at]);
            let from = match before {
                _ if last.is_footer => last.frame,
                Some(before) => before.end,
                None => usize::MAX,
            };
            assert!(changed.start >= from, "{}: fell back", context());
            let before = before.unwrap();
            assert_eq!(end, before.end, "{}", context());
            assert!(pack.torn_bytes() > 0, "{}", context());
            outcome = Outcome::Torn;
            before
        };
        let mut errors = 0;
        let mut failed = |error: &Error| {
            Outcome::refused(error, context);
            errors += 1;
        };
        self.ask_keys(&pack, commit, context, &mut failed);
        for name in &self.names {
            match pack.object(name) {
                Ok(Some(content)) => assert_eq!(Hash::of(&content), *name, "{}", context()),
                Ok(None) => {
                    let gone = outcome == Outcome::Torn
                        && !commit.keys.values().any(|content| Hash::of(content) == *name);
                    assert!(gone, "{}: object {name} is not there", context());
                }
                Err(error) => failed(&error),
            }
        }
        // Older generations, which a footer at the end does not look at.
        for old in self.commits.iter().filter(|old| old.is_footer && old.end < end) {
            match pack.at_generation(old.generation) {
                Ok(older) => {
                    assert_eq!(older.committed_bytes() as usize, old.end, "{}", context());
                    self.ask_keys(&older, old, context, &mut failed);
                }
                Err(error) => failed(&error),
            }
        }
        if errors > 0 && outcome == Outcome::Exact {
            outcome = Outcome::Partial;
        }
        verify_notices(&pack, context);
        outcome
    }

    fn ask_keys(
        &self,
        pack: &Pack,
        commit: &Commit,
        context: &dyn Fn() -> String,
        failed: &mut dyn FnMut(&Error),
    ) {
        for ((space, key), content) in &commit.keys {
            match pack.get(Key::new(*space, key.as_slice())) {
                Ok(Some(found)) => assert!(found == *content, "{}: wrong bytes", context()),
                Ok(None) => panic!("{}: \"{}\" is absent", context(), key.escape_ascii()),
                Err(error) => failed(&error),
            }
        }
        // A listing may end early with an error. It leaves nothing out before, and adds nothing.
        for space in 0..3 {
            let mut expected = commit.keys.iter().filter(|((other, _), _)| *other == space);
            let mut whole = true;
            for found in pack.entries_under(Key::new(space, Vec::new())) {
                match found {
                    Ok(found) => {
                        let ((_, key), content) = expected.next().unwrap();
                        assert_eq!(found.key, key.as_slice(), "{}", context());
                        assert_eq!(found.content.unwrap().name, Hash::of(content));
                    }
                    Err(error) => {
                        failed(&error);
                        whole = false;
                    }
                }
            }
            assert!(!whole || expected.next().is_none(), "{}: short", context());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All answers were exact.
    Exact,
    /// Some were typed errors, the others exact.
    Partial,
    /// The pack is that of the commit before.
    Torn,
    /// The pack does not open.
    Refused,
}

impl Outcome {
    fn refused(error: &Error, context: &dyn Fn() -> String) -> Self {
        let typed = matches!(
            error.kind(),
            ErrorKind::Corrupt
                | ErrorKind::Truncated
                | ErrorKind::NotAPack
                | ErrorKind::Unsupported
                | ErrorKind::Missing
                | ErrorKind::Limit
        );
        assert!(typed, "{}: {:?} {error}", context(), error.kind());
        Self::Refused
    }
}

fn one_commit() -> Sample {
    let steps = [
        Step::Create,
        put("a", "alpha"),
        put("dir/b", noise(1, 300)),
        put("dir/empty", ""),
        store(b"\0\xff/..", "s"),
        Step::Finish,
    ];
    Sample::new("one commit", Layout::Archive, &steps)
}

fn generations() -> Sample {
    let steps = [
        Step::Create,
        put("a", "alpha"),
        put("b", noise(1, 200)),
        put("c", "gamma"),
        Step::Finish,
        Step::Append,
        put("a", "alpha two"),
        delete("c"),
        Step::Finish,
        Step::Append,
        put("c", "gamma"),
        put("d", noise(2, 100)),
        Step::Finish,
    ];
    Sample::new("generations", Layout::Archive, &steps)
}

fn open_tail() -> Sample {
    let steps = [
        Step::Create,
        put("a", "alpha"),
        Step::Finish,
        Step::Append,
        put("b", "beta"),
        Step::Commit,
        delete("a"),
        put("c", noise(3, 64)),
        Step::Commit,
        put("b", "beta two"),
        Step::Commit,
        Step::Drop,
    ];
    Sample::new("open tail", Layout::Archive, &steps)
}

fn never_sealed() -> Sample {
    let steps =
        [Step::Create, put("a", "alpha"), Step::Commit, put("b", "beta"), Step::Commit, Step::Drop];
    Sample::new("never sealed", Layout::Records, &steps)
}

fn records() -> Sample {
    let mut steps = vec![Step::Create];
    for number in 0..12_u64 {
        let content = format!("{{\"lemma\": {number}, \"by\": \"rule\", \"by\": \"rule\"}}");
        steps.push(store(&number.to_le_bytes(), content));
    }
    steps.push(Step::Finish);
    Sample::new("records", Layout::Records, &steps)
}

/// More than 64 KiB, so that the footer has an index: sections, key pages and all.
fn indexed() -> Sample {
    let mut steps = vec![Step::Create];
    for number in 0..40_u64 {
        steps.push(put(&format!("{number:02}"), noise(number, 1700)));
    }
    steps.extend([Step::Finish, Step::Append, delete("07")]);
    steps.extend([put("08", "eight"), put("xx", "new"), Step::Finish]);
    Sample::new("indexed", Layout::Archive, &steps)
}

/// An object in pieces, and its next version, whose frames refer to the first.
fn chunked() -> Sample {
    // Content that repeats, so that the pack is small, and is cut nevertheless.
    let content = (0..)
        .map(|seed| noise(seed, 5000).repeat(230))
        .find(|content| first_chunk_len(content) < 400_000)
        .unwrap();
    let mut next = content.clone();
    next[700_000..700_005].copy_from_slice(b"about");
    let steps = [
        Step::Create,
        put("v1.txt", content),
        Step::Finish,
        Step::Append,
        put("v2.txt", next),
        Step::Finish,
    ];
    let sample = Sample::new("chunked", Layout::Archive, &steps);
    let frames = sample.pack().frames().unwrap();
    assert!(frames.iter().any(|frame| frame.kind == FrameKind::Lists));
    assert!(frames.iter().any(|frame| frame.codec == Codec::ZstdPrefix));
    sample
}

fn samples() -> Vec<Sample> {
    vec![one_commit(), generations(), open_tail(), never_sealed(), records()]
}

/// Does `work` for all numbers below `count` on all cores; a panic in one is a panic here.
fn on_all_cores(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    work(number);
                }
            });
        }
    });
}

/// Outcomes by kind.
#[derive(Default)]
struct Counts([AtomicUsize; 4]);

impl Counts {
    fn add(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> [usize; 4] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

fn report(what: &str, sample: &Sample, counts: &Counts, started: Instant) -> usize {
    let [exact, partial, torn, refused] = counts.get();
    let all = exact + partial + torn + refused;
    println!(
        "{} ({} bytes): {all} {what}: {exact} exact, {partial} in part, {torn} torn, {refused} refused, {:?}",
        sample.name,
        sample.bytes.len(),
        started.elapsed()
    );
    all
}

#[test]
fn cut_at_every_byte() {
    let mut all = 0;
    for sample in samples().into_iter().chain([chunked()]) {
        let started = Instant::now();
        let counts = Counts::default();
        on_all_cores(sample.bytes.len() + 1, |len| {
            let bytes = &sample.bytes[..len];
            let context = || format!("{} cut at {len}", sample.name);
            let outcome = match sample.at(len) {
                Some(commit) => {
                    sample.check(bytes, commit);
                    if commit.end == len { Outcome::Exact } else { Outcome::Torn }
                }
                None => {
                    let error = Pack::from_bytes(bytes.to_vec()).unwrap_err();
                    let kind = error.kind();
                    let expected = match len {
                        0 => kind == ErrorKind::NotAPack,
                        _ => kind == ErrorKind::Truncated,
                    };
                    assert!(expected, "{}: {error}", context());
                    Outcome::refused(&error, &context)
                }
            };
            counts.add(outcome);
        });
        all += report("cuts", &sample, &counts, started);
    }
    assert!(all >= 10_000, "{all}");
}

/// Flips the bits of every byte that `mask` gives for it, one at a time.
fn flip(sample: &Sample, mask: impl Fn(usize) -> u8 + Sync) -> usize {
    let started = Instant::now();
    let counts = Counts::default();
    on_all_cores(sample.bytes.len(), |at| {
        let mask = mask(at);
        for bit in (0..8).filter(|bit| mask >> bit & 1 == 1) {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= 1 << bit;
            let context = || format!("{}, bit {bit} of byte {at}", sample.name);
            counts.add(sample.ask(bytes, at..at + 1, &context));
        }
    });
    report("flips", sample, &counts, started)
}

/// Whether a byte is of the content that frames of objects hold.
fn is_content(frames: &[FrameHeader], at: usize) -> bool {
    frames.iter().any(|frame| {
        let payload = frame.payload_offset()..frame.payload_end();
        frame.kind == FrameKind::Objects && payload.contains(&(at as u64))
    })
}

#[test]
fn every_single_bit_flips() {
    let all: usize = samples().iter().map(|sample| flip(sample, |_| 0xff)).sum();
    assert!(all >= 60_000, "{all}");
}

/// One bit of every byte that is no content, and of some that are: these packs take longer to read.
#[test]
fn bits_of_a_chunked_object_flip() {
    let sample = chunked();
    let frames = sample.pack().frames().unwrap();
    let mask = |at: usize| match is_content(&frames, at) {
        true if !at.is_multiple_of(16) => 0,
        _ => 1 << (at % 8),
    };
    assert!(flip(&sample, mask) >= 1000);
}

#[test]
fn every_bit_of_an_index_flips() {
    let sample = indexed();
    let frames = sample.pack().frames().unwrap();
    assert!(frames.iter().any(|frame| frame.kind == FrameKind::KeyDirectory));
    let mask = |at: usize| match is_content(&frames, at) {
        true if !at.is_multiple_of(97) => 0,
        _ => 0xff,
    };
    assert!(flip(&sample, mask) >= 20_000);
}

#[test]
fn junk_behind_the_end_is_torn() {
    for sample in samples() {
        for len in (1..=64).chain([4096]) {
            let header = &sample.bytes[..64.min(len)];
            for junk in [vec![0; len], vec![0xff; len], noise(7, len), header.to_vec()] {
                let bytes = [sample.bytes.as_slice(), &junk].concat();
                sample.check(&bytes, sample.last());
            }
        }
        // A whole pack, or its own last commit, in the wrong place.
        let last = &sample.bytes[sample.last().frame..];
        for junk in [sample.bytes.as_slice(), last] {
            sample.check(&[sample.bytes.as_slice(), junk].concat(), sample.last());
        }
    }
}

#[test]
fn blocks_are_misplaced() {
    for (sample, size) in
        samples().into_iter().map(|sample| (sample, 64)).chain([(indexed(), 4096)])
    {
        let started = Instant::now();
        let counts = Counts::default();
        let blocks = sample.bytes.len().div_ceil(size);
        on_all_cores(blocks, |a| {
            // Another block, zeros, or a block that was left out.
            let block = |at: usize| at * size..sample.bytes.len().min((at + 1) * size);
            for b in 0..blocks {
                let context = || format!("{}, blocks {a} and {b}", sample.name);
                let mut bytes = sample.bytes.clone();
                let (first, second) = (block(a.min(b)), block(a.max(b)));
                let len = first.len().min(second.len());
                if a < b {
                    for at in 0..len {
                        bytes.swap(first.start + at, second.start + at);
                    }
                } else if a == b {
                    bytes[first.clone()].fill(0);
                } else {
                    // Written to the wrong place too.
                    bytes.copy_within(second.start..second.start + len, first.start);
                }
                let differ = |at: &usize| bytes[*at] != sample.bytes[*at];
                if let Some(from) = (0..bytes.len()).find(differ) {
                    let to = (0..bytes.len()).rfind(differ).unwrap() + 1;
                    counts.add(sample.ask_blocks(bytes, from..to, &context));
                }
            }
        });
        report("misplaced blocks", &sample, &counts, started);
    }
}

impl Sample {
    /// As [`Sample::ask`], but several places are damaged at once: the first counts.
    fn ask_blocks(
        &self,
        bytes: Vec<u8>,
        changed: Range<usize>,
        context: &dyn Fn() -> String,
    ) -> Outcome {
        match Pack::from_bytes(bytes.clone()) {
            // Damage of the last footer or commit makes what is below visible as well: the pack is
            // that of an earlier commit, with all its keys or errors.
            Ok(pack) if (pack.committed_bytes() as usize) < self.bytes.len() => {
                let end = pack.committed_bytes() as usize;
                let commit = self.commits.iter().find(|commit| commit.end == end);
                let commit = commit.unwrap_or_else(|| panic!("{}: {end}", context()));
                assert!(changed.end > self.last().frame || !self.last().is_footer, "{}", context());
                let mut failed = |error: &Error| {
                    Outcome::refused(error, context);
                };
                self.ask_keys(&pack, commit, context, &mut failed);
                Outcome::Torn
            }
            _ => self.ask(bytes, changed, context),
        }
    }
}

/// Blocks as they were at the same offsets of another pack that began the same, or of this one
/// before its tail was cut and written again. `keys` is how many keys there are besides.
/// Whatever reading made of damaged bytes, verifying says that something is wrong with them.
fn verify_notices(pack: &Pack, context: &dyn Fn() -> String) {
    let options = VerifyOptions { threads: 1, ..VerifyOptions::default() };
    let report = pack.verify(&options).unwrap();
    let noticed = !report.is_intact() || report.torn_bytes > 0;
    assert!(noticed, "{}: not noticed by verify", context());
}

fn two_lives(keys: u64) -> (Sample, Sample) {
    let life = |seed: u64| {
        let mut steps = vec![
            Step::Create,
            put("a", "alpha"),
            put("b", noise(1, 200)),
            Step::Finish,
            Step::Append,
            put("c", noise(seed, 900)),
        ];
        // The same contents in both lives, under other keys.
        let (x, y) = if seed == 2000 { ("x", "y") } else { ("y", "x") };
        steps.extend([put(x, "one"), put(y, "two")]);
        for number in 0..keys {
            steps.push(put(&format!("{number:02}"), noise(seed + 100 + number, 1700)));
        }
        steps.extend([Step::Commit, put("d", noise(seed + 10, 500)), Step::Finish]);
        Sample::new("two lives", Layout::Archive, &steps)
    };
    let (this, other) = (life(2000), life(4000));
    assert_eq!(this.bytes.len(), other.bytes.len());
    (this, other)
}

/// Opens mixtures of two lives. What is told must be of one of them. Gives how often it was not:
/// how many mixtures gave a key the other life's value.
fn mix(this: &Sample, other: &Sample, size: usize) -> (usize, usize) {
    let started = Instant::now();
    let counts = Counts::default();
    let mixed = AtomicUsize::new(0);
    let blocks = this.bytes.len().div_ceil(size);
    on_all_cores(blocks, |from| {
        for to in from + 1..=blocks {
            let mut bytes = this.bytes.clone();
            let range = from * size..this.bytes.len().min(to * size);
            bytes[range.clone()].copy_from_slice(&other.bytes[range]);
            if (from + to) % 4 == 0 {
                bytes.truncate(to * size);
            }
            if this.bytes.starts_with(&bytes) || other.bytes.starts_with(&bytes) {
                continue;
            }
            let context = || format!("blocks {from}..{to} of another life");
            let pack = match Pack::from_bytes(bytes.clone()) {
                Ok(pack) => pack,
                Err(error) => {
                    counts.add(Outcome::refused(&error, &context));
                    continue;
                }
            };
            let end = pack.committed_bytes() as usize;
            let find = |life: &Sample| {
                let commit = life.commits.iter().position(|commit| commit.end == end);
                commit.filter(|at| {
                    let frame = life.commits[*at].frame;
                    bytes[frame..end] == life.bytes[frame..end]
                })
            };
            let (life, not, at) = match (find(this), find(other)) {
                (Some(at), _) => (this, other, at),
                (None, Some(at)) => (other, this, at),
                (None, None) => panic!("{}: {end}", context()),
            };
            let (mut errors, mut wrong) = (0, 0);
            for ((space, key), content) in &life.commits[at].keys {
                match pack.get(Key::new(*space, key.as_slice())) {
                    Ok(Some(found)) if found == *content => {}
                    Ok(Some(found)) => {
                        let others = &not.commits[at].keys[&(*space, key.clone())];
                        assert!(found == *others, "{}: wrong bytes", context());
                        wrong += 1;
                    }
                    Ok(None) => panic!("{}: \"{}\" is absent", context(), key.escape_ascii()),
                    Err(error) => {
                        Outcome::refused(&error, &context);
                        errors += 1;
                    }
                }
            }
            mixed.fetch_add(usize::from(wrong > 0), Ordering::Relaxed);
            verify_notices(&pack, &context);
            counts.add(if errors == 0 { Outcome::Exact } else { Outcome::Partial });
        }
    });
    (report("old blocks", this, &counts, started), mixed.into_inner())
}

#[test]
fn blocks_of_another_life_come_back() {
    let (this, other) = two_lives(0);
    let (all, mixed) = mix(&this, &other, 64);
    assert!(all > 500, "{all}");
    assert_eq!(mixed, 0, "a value of a commit that is not there");
}

/// A frame that stood at the same offset before (a lost write over a tail that had been cut) has its
/// own check, offset and hash, and reading does not walk the chain that gives it away. Indexes name
/// frames by their checks, so that it does not pass for the one that is meant.
#[test]
fn blocks_of_another_life_come_back_under_an_index() {
    let (this, other) = two_lives(40);
    let (all, mixed) = mix(&this, &other, 512);
    assert!(all > 5000, "{all}");
    assert_eq!(mixed, 0, "a value of a commit that is not there");
}
