//! `SimFs`: a file system in memory that knows what a power cut may leave behind.
//!
//! **Modelled** (after ALICE, Pillai et al., OSDI 2014). A file has a live image and a durable one,
//! and a list of pending operations between them. Only `sync_data` of that file moves its data and
//! length over, only `sync_dir` the names of a directory. After a power cut
//! * each sector holds its durable content or that of any write to it since, independently of all
//!   other sectors and files: writes are torn at sectors, lost and reordered;
//! * the length is the durable one or any later one, independently of the data: zeros (or, if asked
//!   for, stale bytes) where the data is missing, data cut where the length is missing. A growing
//!   write grows the file sector by sector. What a persisted cut removed does not come back;
//! * of the pending creations, renames and removals any set is there in which an operation has all
//!   earlier pending ones on the same name. A rename is atomic, also between directories. Names are
//!   independent of data: `sync_data` of a new file does not keep its name.
//!
//! A failed `sync_data` loses all, some or none of the pending data by seed, and the next one says
//! Ok without it (fsyncgate) while reads still see it; a failed `sync_dir` likewise.
//!
//! **Not modelled**: creation and removal of directories (every directory exists), links, modes,
//! times, mappings (`map` is always `None`), tearing inside a sector, bit rot, failed or slow reads,
//! a disk that lies about flushes, blocking, and memory ordering between threads (one mutex). No
//! order is ever implied where real file systems give one (ext4 `auto_da_alloc`, ordered journals):
//! the states are a superset of theirs. Space is counted by length: `set_len` allocates.
//!
//! Everything is a function of the seeds and the calls made.

use pefc::disk::{Clock, File, LockError, LockHolder, Machine, Map, Random, Vfs, parent_dir};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Linux error numbers that tests inject.
pub const EIO: i32 = 5;
pub const EBADF: i32 = 9;
pub const EFBIG: i32 = 27;
pub const ENOSPC: i32 = 28;

/// A wild offset must not eat the memory of the machine that runs the test.
const MAX_FILE: u64 = 1 << 30;

/// The generator of Steele, Lea and Flood (OOPSLA 2014): tiny, and good enough to pick states.
#[derive(Debug, Clone)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("less than a usize")
    }
}

/// A clock that stands still unless told to tick.
#[derive(Debug, Default)]
pub struct SimClock {
    now: AtomicI64,
    step: AtomicI64,
}

impl SimClock {
    /// Jumps, forwards or backwards.
    pub fn set(&self, now_s: i64) {
        self.now.store(now_s, Ordering::SeqCst);
    }

    /// From now on every reading moves the clock by this much afterwards.
    pub fn set_step(&self, step_s: i64) {
        self.step.store(step_s, Ordering::SeqCst);
    }

    fn copy(&self) -> Self {
        let copied = |from: &AtomicI64| AtomicI64::new(from.load(Ordering::SeqCst));
        Self { now: copied(&self.now), step: copied(&self.step) }
    }
}

impl Clock for SimClock {
    fn now_s(&self) -> i64 {
        // `fetch_add` wraps, so a test may start at i64::MAX.
        self.now.fetch_add(self.step.load(Ordering::SeqCst), Ordering::SeqCst)
    }

    fn sleep_ms(&self, _ms: u64) {
        // Virtual time passes at once; other threads get their turn.
        std::thread::yield_now();
    }
}

/// Random bytes from a seed.
#[derive(Debug)]
pub struct SimRandom(Mutex<SplitMix64>);

impl Random for SimRandom {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        let mut rng = locked(&self.0);
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&rng.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// What happens to the call with a given index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power is off: this call and every later one, reads too, fails and does nothing.
    Crash,
    /// The call fails with this number and does nothing (but see fsyncgate above). If persistent,
    /// so do all later mutating calls until [`SimFs::clear_faults`].
    Errno { raw: i32, persistent: bool },
    /// A write stores a part of its buffer and fails with `ENOSPC`; other calls just fail with it.
    ShortWrite,
}

/// Which crash states to visit.
#[derive(Debug, Clone, Copy)]
pub struct CrashPlan {
    /// Picks the samples.
    pub seed: u64,
    /// With at most this many pending sector writes, cuts and name changes: all states.
    pub exhaustive: usize,
    /// With more: all of them applied, none of them, and up to this many samples.
    pub samples: usize,
    /// Lost sectors of a file that grew hold garbage instead of zeros (ext4 `data=writeback`).
    pub stale_blocks: bool,
}

impl Default for CrashPlan {
    fn default() -> Self {
        Self { seed: 0, exhaustive: 10, samples: 256, stale_blocks: false }
    }
}

/// Something done to a file since its last sync.
#[derive(Debug, Clone)]
enum FileOp {
    /// The whole sector as the page cache held it after a write; the last one may be short.
    Sector { index: usize, bytes: Vec<u8> },
    /// A new length. Writes that grow a file make their own, before each sector.
    Len { len: usize, by_write: bool },
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<FileOp>,
    handles: usize,
    locked_by: Option<u64>,
}

impl Inode {
    fn durable(image: Vec<u8>) -> Self {
        let image = Arc::new(image);
        Self { live: image.clone(), durable: image, ..Self::default() }
    }

    fn write(&mut self, sector: usize, buf: &[u8], offset: usize) {
        let live = Arc::make_mut(&mut self.live);
        let (mut at, end) = (offset, offset + buf.len());
        while at < end {
            let start = at / sector * sector;
            let stop = end.min(start + sector);
            if stop > live.len() {
                live.resize(stop, 0);
                self.pending.push(FileOp::Len { len: stop, by_write: true });
            }
            live[at..stop].copy_from_slice(&buf[at - offset..stop - offset]);
            self.pending.push(FileOp::Sector {
                index: start / sector,
                bytes: live[start..live.len().min(start + sector)].to_vec(),
            });
            at = stop;
        }
    }

    fn set_len(&mut self, len: usize) {
        if len != self.live.len() {
            Arc::make_mut(&mut self.live).resize(len, 0);
            self.pending.push(FileOp::Len { len, by_write: false });
        }
    }

    fn sync(&mut self, sector: usize) {
        let durable = Arc::make_mut(&mut self.durable);
        // From the operations, not from `live`: what a failed sync lost stays lost.
        for op in self.pending.drain(..) {
            match op {
                FileOp::Len { len, .. } => durable.resize(len, 0),
                FileOp::Sector { index, bytes } => put(durable, index * sector, &bytes),
            }
        }
    }

    /// The sync failed: the pages count as clean now, whatever reached the disk.
    fn fail_sync(&mut self, rng: &mut SplitMix64) {
        match rng.below(4) {
            0 => {}
            1 => self.pending.clear(),
            2 => self.pending.retain(|op| matches!(op, FileOp::Len { .. })),
            _ => self.pending.retain(|op| matches!(op, FileOp::Len { .. }) || rng.below(2) == 0),
        }
    }

    /// What may be on the disk after a power cut.
    fn after_crash(&self, sector: usize, choose: &mut Choose, stale: bool) -> Arc<Vec<u8>> {
        if self.pending.is_empty() {
            return self.durable.clone();
        }
        let lens: Vec<(usize, usize)> = (self.pending.iter().enumerate())
            .filter_map(|(at, op)| match op {
                FileOp::Len { len, .. } => Some((at, *len)),
                FileOp::Sector { .. } => None,
            })
            .collect();
        let lens = &lens[..choose.pick(lens.len() + 1)];
        let len = lens.last().map_or(self.durable.len(), |(_, len)| *len);
        // Bytes from before a persisted cut end where it cut; growth never cuts them.
        let cut_after = |from: usize| {
            let later = lens.iter().filter(|(at, _)| *at >= from);
            later.map(|(_, len)| *len).min().unwrap_or(usize::MAX)
        };
        let mut image = self.durable[..self.durable.len().min(cut_after(0))].to_vec();
        image.resize(len, 0);

        let mut versions: BTreeMap<usize, Vec<(usize, &[u8])>> = BTreeMap::new();
        for (at, op) in self.pending.iter().enumerate() {
            match op {
                FileOp::Sector { index, bytes } if index * sector < len => {
                    versions.entry(*index).or_default().push((at, bytes));
                }
                _ => {}
            }
        }
        for (index, versions) in versions {
            let start = index * sector;
            match choose.pick(versions.len() + 1).checked_sub(1) {
                Some(version) => {
                    let (at, bytes) = versions[version];
                    let mut whole = vec![0; sector];
                    let kept = bytes.len().min(cut_after(at).saturating_sub(start));
                    whole[..kept].copy_from_slice(&bytes[..kept]);
                    put(&mut image, start, &whole);
                }
                None if stale && start >= self.durable.len() => {
                    let mut rng = SplitMix64(index as u64);
                    let junk: Vec<u8> = (0..sector).map(|_| rng.next().to_le_bytes()[0]).collect();
                    put(&mut image, start, &junk);
                }
                None => {}
            }
        }
        Arc::new(image)
    }
}

/// Copies as much of `bytes` as lies inside the image.
fn put(image: &mut [u8], start: usize, bytes: &[u8]) {
    let end = image.len().min(start + bytes.len());
    if start < end {
        image[start..end].copy_from_slice(&bytes[..end - start]);
    }
}

/// A change of names: a creation has only `to`, a removal only `from`, a rename both.
#[derive(Debug, Clone)]
struct NameOp {
    from: Option<PathBuf>,
    to: Option<(PathBuf, usize)>,
    /// A sync of it failed, and no later one will do it, though it may reach the disk by itself.
    lost: bool,
}

impl NameOp {
    fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.from.iter().chain(self.to.iter().map(|(path, _)| path))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some((to, inode)) = &self.to {
            names.insert(to.clone(), *inode);
        }
    }
}

/// Splits pending name changes into those that `wanted` picks, applied to `names`, and the rest.
/// A change whose name has an earlier change in the rest is not offered.
fn apply_names(
    ops: &[NameOp],
    names: &mut BTreeMap<PathBuf, usize>,
    mut wanted: impl FnMut(usize, &NameOp) -> bool,
) -> Vec<NameOp> {
    let mut blocked = BTreeSet::new();
    let mut rest = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        if !op.names().any(|name| blocked.contains(name)) && wanted(at, op) {
            op.apply(names);
        } else {
            blocked.extend(op.names().cloned());
            rest.push(op.clone());
        }
    }
    rest
}

/// Makes the decisions of one crash state: each is 0 (as synced) up to the newest.
#[derive(Debug)]
enum Choose {
    Newest,
    Oldest,
    /// Depth first through all decisions: those taken, and how many there were to choose from.
    Walk {
        path: Vec<(usize, usize)>,
        at: usize,
    },
    /// `lean` towards newest (1), oldest (2) or neither (0), with exceptions one in 2^`rarity`.
    Random {
        rng: SplitMix64,
        lean: usize,
        rarity: usize,
    },
}

impl Choose {
    fn random(rng: &mut SplitMix64) -> Self {
        Self::Random { lean: rng.below(3), rarity: 1 + rng.below(10), rng: SplitMix64(rng.next()) }
    }

    fn pick(&mut self, options: usize) -> usize {
        match self {
            Self::Newest => options - 1,
            Self::Oldest => 0,
            Self::Walk { path, at } => {
                if *at == path.len() {
                    path.push((0, options));
                }
                *at += 1;
                path[*at - 1].0
            }
            Self::Random { rng, lean, rarity } => match *lean {
                1 if rng.below(1 << *rarity) > 0 => options - 1,
                2 if rng.below(1 << *rarity) > 0 => 0,
                _ => rng.below(options),
            },
        }
    }

    /// The next walk, if this was one and not the last.
    fn next_walk(&mut self) -> bool {
        let Self::Walk { path, at } = self else {
            return false;
        };
        *at = 0;
        while let Some((taken, options)) = path.pop() {
            if taken + 1 < options {
                path.push((taken + 1, options));
                return true;
            }
        }
        false
    }
}

#[derive(Debug, Clone)]
struct State {
    sector: usize,
    rng: SplitMix64,
    /// Never shrinks: a name that comes back after a crash needs its inode.
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameOp>,
    capacity: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    persistent: Option<i32>,
    off: bool,
    trace: Vec<String>,
    handles: u64,
}

impl State {
    /// Counts a mutating call and lets it pass or fail; true means that it shall write a part.
    fn call(&mut self, what: String) -> io::Result<bool> {
        self.powered()?;
        let fault = self.faults.remove(&(self.trace.len() as u64));
        self.trace.push(match fault {
            Some(fault) => format!("{what} !{fault:?}"),
            None => what,
        });
        match fault {
            Some(Fault::Crash) => self.off = true,
            Some(Fault::Errno { raw, persistent }) => {
                self.persistent = persistent.then_some(raw).or(self.persistent);
                return Err(io::Error::from_raw_os_error(raw));
            }
            Some(Fault::ShortWrite) => return Ok(true),
            None => {}
        }
        self.powered()?;
        match self.persistent {
            Some(raw) => Err(io::Error::from_raw_os_error(raw)),
            None => Ok(false),
        }
    }

    /// [`State::call`] for what cannot be done in part.
    fn whole_call(&mut self, what: String) -> io::Result<()> {
        match self.call(what)? {
            true => Err(io::Error::from_raw_os_error(ENOSPC)),
            false => Ok(()),
        }
    }

    fn powered(&self) -> io::Result<()> {
        match self.off {
            true => Err(io::Error::other("the power is off")),
            false => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let inode = self.names.get(&clean(path)).copied();
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, from: Option<PathBuf>, to: Option<(PathBuf, usize)>) {
        let op = NameOp { from, to, lost: false };
        op.apply(&mut self.names);
        self.pending_names.push(op);
    }

    /// Where pending name changes stand that touch `picked` names, or that those build on.
    fn touching(&self, picked: impl Fn(&Path) -> bool) -> Vec<bool> {
        let mut needed = BTreeSet::new();
        let mut touching = vec![false; self.pending_names.len()];
        for (at, op) in self.pending_names.iter().enumerate().rev() {
            if op.names().any(|name| picked(name) || needed.contains(name)) {
                needed.extend(op.names().cloned());
                touching[at] = true;
            }
        }
        touching
    }

    /// The length that `inode` can grow to on this disk.
    fn max_len(&self, inode: usize) -> u64 {
        let mut used: BTreeSet<usize> = self.names.values().copied().collect();
        used.extend((0..self.inodes.len()).filter(|at| self.inodes[*at].handles > 0));
        used.remove(&inode);
        let used: u64 = used.iter().map(|at| self.inodes[*at].live.len() as u64).sum();
        self.capacity.map_or(MAX_FILE, |capacity| capacity.saturating_sub(used))
    }

    fn pending_ops(&self) -> usize {
        let new = self.pending_names.iter().filter_map(|op| op.to.as_ref());
        let reachable: BTreeSet<usize> =
            new.map(|(_, inode)| *inode).chain(self.durable_names.values().copied()).collect();
        let ops = reachable.iter().flat_map(|at| &self.inodes[*at].pending);
        let counted = |op: &&FileOp| !matches!(op, FileOp::Len { by_write: true, .. });
        self.pending_names.len() + ops.filter(counted).count()
    }

    /// One state after a power cut, and a hash of what is on its disk.
    fn after_crash(&self, choose: &mut Choose, stale: bool, rng: u64) -> (Self, blake3::Hash) {
        let mut names = self.durable_names.clone();
        apply_names(&self.pending_names, &mut names, |_, _| choose.pick(2) == 1);
        let mut hasher = blake3::Hasher::new();
        let mut inodes = Vec::new();
        for (path, inode) in &mut names {
            let image = self.inodes[*inode].after_crash(self.sector, choose, stale);
            for part in [path.as_os_str().as_encoded_bytes(), &image] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            *inode = inodes.len();
            inodes.push(Inode { live: image.clone(), durable: image, ..Inode::default() });
        }
        let state = Self {
            rng: SplitMix64(rng),
            inodes,
            durable_names: names.clone(),
            names,
            capacity: self.capacity,
            ..Self::new(rng, self.sector)
        };
        (state, hasher.finalize())
    }

    fn new(seed: u64, sector: usize) -> Self {
        Self {
            sector,
            rng: SplitMix64(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            capacity: None,
            faults: BTreeMap::new(),
            persistent: None,
            off: false,
            trace: Vec::new(),
            handles: 0,
        }
    }
}

/// The simulated file system. A clone is the same one; [`SimFs::fork`] is another.
#[derive(Clone)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
    pub clock: Arc<SimClock>,
    pub random: Arc<SimRandom>,
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs").field("paths", &self.paths()).finish_non_exhaustive()
    }
}

impl SimFs {
    /// An empty disk with sectors of 512 bytes.
    pub fn new(seed: u64) -> Self {
        Self::with_sector(seed, 512)
    }

    /// An empty disk with sectors of this many bytes.
    pub fn with_sector(seed: u64, sector: usize) -> Self {
        Self::of(State::new(seed, sector), SimClock::default(), SplitMix64(!seed))
    }

    fn of(state: State, clock: SimClock, random: SplitMix64) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            clock: Arc::new(clock),
            random: Arc::new(SimRandom(Mutex::new(random))),
        }
    }

    /// This file system with its clock and its randomness.
    pub fn machine(&self) -> Machine {
        Machine {
            vfs: Arc::new(self.clone()),
            clock: self.clock.clone(),
            random: self.random.clone(),
        }
    }

    /// A deep copy, pending operations included: no handles, locks, faults or counted calls.
    pub fn fork(&self) -> Self {
        let mut state = locked(&self.state).clone();
        for inode in &mut state.inodes {
            (inode.handles, inode.locked_by) = (0, None);
        }
        (state.faults, state.persistent, state.off) = (BTreeMap::new(), None, false);
        state.trace.clear();
        Self::of(state, self.clock.copy(), locked(&self.random.0).clone())
    }

    /// The disks that a power cut at this moment may leave behind, without duplicates. The first
    /// has all pending operations applied, the second none. Each starts with the power on, no
    /// faults, this clock, and a random stream of its own: a machine doesn't repeat its nonces.
    pub fn crash_states(&self, plan: CrashPlan) -> impl Iterator<Item = Self> + use<> {
        let state = locked(&self.state).clone();
        let (clock, random) = (self.clock.copy(), locked(&self.random.0).clone());
        let mut rng = SplitMix64(plan.seed);
        let mut seen = HashSet::new();
        // Samples repeat: several attempts for each that is wanted.
        let mut attempts = plan.samples.saturating_mul(4);
        let mut next = Some(Choose::Newest);
        std::iter::from_fn(move || {
            loop {
                let mut choose = next.take()?;
                let seed = SplitMix64(random.0 ^ plan.seed).next() ^ seen.len() as u64;
                let (after, hash) = state.after_crash(&mut choose, plan.stale_blocks, seed);
                next = match choose {
                    Choose::Newest => Some(Choose::Oldest),
                    Choose::Oldest if state.pending_ops() <= plan.exhaustive => {
                        Some(Choose::Walk { path: Vec::new(), at: 0 })
                    }
                    mut walk @ Choose::Walk { .. } => walk.next_walk().then_some(walk),
                    Choose::Oldest | Choose::Random { .. }
                        if attempts > 0 && seen.len() < plan.samples + 2 =>
                    {
                        attempts -= 1;
                        Some(Choose::random(&mut rng))
                    }
                    Choose::Oldest | Choose::Random { .. } => None,
                };
                if seen.insert(hash) {
                    return Some(Self::of(after, clock.copy(), SplitMix64(!seed)));
                }
            }
        })
    }

    /// Plans a fault for the mutating call with this index, counted from 0.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        locked(&self.state).faults.insert(call, fault);
    }

    /// Ends persistent errors and forgets planned faults. The power stays off if it is.
    pub fn clear_faults(&self) {
        let mut state = locked(&self.state);
        (state.faults, state.persistent) = (BTreeMap::new(), None);
    }

    /// How many mutating calls there were: `create_new`, `write_all_at`, `set_len`, `sync_data`,
    /// `rename`, `remove_file` and `sync_dir`, failed ones too, but none while the power is off.
    pub fn call_count(&self) -> u64 {
        locked(&self.state).trace.len() as u64
    }

    /// Those calls, for people; the position is the index for [`SimFs::fail_at`].
    pub fn trace(&self) -> Vec<String> {
        locked(&self.state).trace.clone()
    }

    /// Limits the sum of the lengths of all files that have a name or are open.
    pub fn set_disk_capacity_bytes(&self, capacity: Option<u64>) {
        locked(&self.state).capacity = capacity;
    }

    /// How many sector writes, cuts and name changes a power cut may lose.
    pub fn pending_ops(&self) -> usize {
        locked(&self.state).pending_ops()
    }

    /// Makes everything durable, as an orderly shutdown does. Not a counted call.
    pub fn sync_all(&self) {
        let mut state = locked(&self.state);
        let sector = state.sector;
        state.inodes.iter_mut().for_each(|inode| inode.sync(sector));
        state.pending_names.clear();
        state.durable_names = state.names.clone();
    }

    /// The live content of a file; works without power.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = locked(&self.state);
        let inode = state.find(path.as_ref()).ok()?;
        Some(state.inodes[inode].live.to_vec())
    }

    /// Gives a file this content, durably and behind everyone's back: open handles see it.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) {
        let mut state = locked(&self.state);
        let path = clean(path.as_ref());
        let file = Inode::durable(bytes.into());
        let inode = *state.names.get(&path).unwrap_or(&state.inodes.len());
        if inode == state.inodes.len() {
            state.inodes.push(file);
        } else {
            let old = &mut state.inodes[inode];
            (old.live, old.durable) = (file.live, file.durable);
            old.pending.clear();
        }
        let touching = state.touching(|name| name == path);
        let State { pending_names, durable_names, .. } = &mut *state;
        *pending_names = apply_names(pending_names, durable_names, |at, _| touching[at]);
        durable_names.insert(path.clone(), inode);
        state.names.insert(path, inode);
    }

    /// All names, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        locked(&self.state).names.keys().cloned().collect()
    }

    fn open(&self, state: &mut State, path: &Path, writable: bool) -> io::Result<Arc<dyn File>> {
        let inode = state.find(path)?;
        state.inodes[inode].handles += 1;
        state.handles += 1;
        Ok(Arc::new(SimFile {
            state: self.state.clone(),
            inode,
            handle: state.handles,
            writable,
            path: clean(path),
        }))
    }
}

impl Vfs for SimFs {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = locked(&self.state);
        state.powered()?;
        self.open(&mut state, path, false)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = locked(&self.state);
        state.powered()?;
        self.open(&mut state, path, true)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = locked(&self.state);
        state.whole_call(format!("create_new {}", path.display()))?;
        if state.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change_name(None, Some((clean(path), inode)));
        self.open(&mut state, path, true)
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.whole_call(format!(
            "rename {} {} replace={replace}",
            from.display(),
            to.display()
        ))?;
        let inode = state.find(from)?;
        match state.find(to) {
            Ok(_) if !replace => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(existing) if existing == inode => {}
            _ => state.change_name(Some(clean(from)), Some((clean(to), inode))),
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.whole_call(format!("remove_file {}", path.display()))?;
        state.find(path)?;
        state.change_name(Some(clean(path)), None);
        Ok(())
    }

    fn list_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let state = locked(&self.state);
        state.powered()?;
        let dir = clean(dir);
        let below = state.names.keys().filter_map(|name| name.strip_prefix(&dir).ok());
        let firsts = below.filter_map(|rest| rest.components().next());
        let names: BTreeSet<OsString> = firsts.map(|part| part.as_os_str().to_owned()).collect();
        Ok(names.into_iter().collect())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        locked(&self.state).powered()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = locked(&self.state);
        let result = state.whole_call(format!("sync_dir {}", dir.display()));
        let dir = clean(dir);
        let touching = state.touching(|name| clean(&parent_dir(name)) == dir);
        let off = state.off;
        let State { pending_names, durable_names, rng, .. } = &mut *state;
        if result.is_ok() {
            let wanted = |at: usize, op: &NameOp| touching[at] && !op.lost;
            *pending_names = apply_names(pending_names, durable_names, wanted);
        } else if !off {
            for (op, touching) in pending_names.iter_mut().zip(touching) {
                op.lost |= touching && rng.below(2) == 0;
            }
        }
        result
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    inode: usize,
    handle: u64,
    writable: bool,
    /// When it was opened: for the trace.
    path: PathBuf,
}

impl SimFile {
    /// Begins a call that changes the file; true means that it shall do a part.
    fn change(&self, what: &str) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = locked(&self.state);
        if !self.writable {
            return Err(io::Error::from_raw_os_error(EBADF));
        }
        let part = state.call(format!("{what} {}", self.path.display()))?;
        Ok((state, part))
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = locked(&self.state);
        state.powered()?;
        Ok(state.inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = locked(&self.state);
        state.powered()?;
        let live = &state.inodes[self.inode].live;
        let from = usize::try_from(offset).map_or(live.len(), |offset| offset.min(live.len()));
        let count = buf.len().min(live.len() - from);
        buf[..count].copy_from_slice(&live[from..from + count]);
        Ok(count)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, part) = self.change(&format!("write_all_at {offset}+{}", buf.len()))?;
        let Some(end) = offset.checked_add(buf.len() as u64).filter(|end| *end <= MAX_FILE) else {
            return Err(io::Error::from_raw_os_error(EFBIG));
        };
        let State { rng, sector, .. } = &mut *state;
        let (sector, mut stop) = (*sector, end);
        if part {
            stop = offset + rng.below(buf.len().max(1)) as u64;
        }
        let len = state.inodes[self.inode].live.len() as u64;
        if stop > len {
            stop = stop.min(len.max(state.max_len(self.inode)));
        }
        if stop > offset {
            let count = usize::try_from(stop - offset).expect("no more than the buffer");
            let offset = usize::try_from(offset).expect("no more than MAX_FILE");
            state.inodes[self.inode].write(sector, &buf[..count], offset);
        }
        match part || stop < end {
            true => Err(io::Error::from_raw_os_error(ENOSPC)),
            false => Ok(()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, part) = self.change(&format!("set_len {len}"))?;
        let old = state.inodes[self.inode].live.len() as u64;
        if part || (len > old && len <= MAX_FILE && len > state.max_len(self.inode)) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        match usize::try_from(len).ok().filter(|_| len <= MAX_FILE) {
            Some(len) => state.inodes[self.inode].set_len(len),
            None => return Err(io::Error::from_raw_os_error(EFBIG)),
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // As in POSIX, a handle for reading may do it too.
        let mut state = locked(&self.state);
        let result = state.whole_call(format!("sync_data {}", self.path.display()));
        let off = state.off;
        let State { inodes, rng, sector, .. } = &mut *state;
        match result {
            Ok(()) => inodes[self.inode].sync(*sector),
            Err(_) if off => {}
            Err(_) => inodes[self.inode].fail_sync(rng),
        }
        result
    }

    fn try_lock(&self) -> Result<(), LockError> {
        let mut state = locked(&self.state);
        state.powered()?;
        let locked_by = &mut state.inodes[self.inode].locked_by;
        if *locked_by.get_or_insert(self.handle) == self.handle {
            return Ok(());
        }
        Err(LockError::Held(Some(LockHolder { pid: std::process::id(), program: None })))
    }

    fn unlock(&self) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.powered()?;
        let locked_by = &mut state.inodes[self.inode].locked_by;
        if *locked_by == Some(self.handle) {
            *locked_by = None;
        }
        Ok(())
    }

    fn has_name(&self, path: &Path) -> io::Result<bool> {
        let state = locked(&self.state);
        state.powered()?;
        Ok(state.find(path).is_ok_and(|inode| inode == self.inode))
    }

    fn map(&self, _len: u64) -> io::Result<Option<Map>> {
        Ok(None)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let inode = &mut locked(&self.state).inodes[self.inode];
        inode.handles -= 1;
        if inode.locked_by == Some(self.handle) {
            inode.locked_by = None;
        }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A test that failed while it held the lock shall not hide its message behind a poisoned mutex.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `./a` and `a` are one name.
fn clean(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}
