//! The storages of pefc and their peers, in one run. See README.md.

mod engine;
mod engines;
mod report;
mod workload;

use engine::{Engine, Kind, Result};
use report::{Samples, Table};
use std::path::{Path, PathBuf};
use std::time::Instant;
use workload::{Record, Rng};

/// Records of one commit.
const BATCH: usize = 1000;
/// Records that are put and read one by one, each with its own commit.
const SINGLES: usize = 1000;
/// Keys under the prefix that is listed, about.
const LISTED: usize = 34_000;
/// Entries of a cache in memory.
const CACHED: usize = 1_000_000;

struct Options {
    dir: PathBuf,
    records: usize,
    rounds: usize,
    many: usize,
    only: Vec<String>,
    parts: Vec<String>,
}

fn options() -> Result<Options> {
    let mut options = Options {
        dir: std::env::temp_dir(),
        records: 200_000,
        rounds: 3,
        many: 1_000_000,
        only: Vec::new(),
        parts: ["batches", "singles", "caches", "many"].map(str::to_owned).to_vec(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let list = |text: String| text.split(',').map(str::to_owned).collect();
        match arg.as_str() {
            "--dir" => options.dir = value()?.into(),
            "--records" => options.records = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--many" => options.many = value()?.parse()?,
            "--only" => options.only = list(value()?),
            "--parts" => options.parts = list(value()?),
            _ => return Err(format!("unknown argument {arg}; see README.md").into()),
        }
    }
    Ok(options)
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }
}

fn main() -> Result<()> {
    let options = options()?;
    let records = workload::records(options.records);
    let payload: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
    println!(
        "{} records, {:.1} MB with their keys, values of {} bytes on average; {} rounds",
        records.len(),
        payload as f64 / 1e6,
        records.iter().map(|(_, value)| value.len()).sum::<usize>() / records.len(),
        options.rounds
    );
    for part in &options.parts {
        match part.as_str() {
            "batches" => batches(&options, &records)?,
            "singles" => singles(&options, &records)?,
            "caches" => caches(&options, &records)?,
            "many" => many(&options, &records)?,
            other => return Err(format!("unknown part {other}").into()),
        }
    }
    Ok(())
}

/// An empty directory that goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(options: &Options) -> Result<Self> {
        let path = options.dir.join(format!("pefc-peers-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Bytes of all files.
    fn bytes(&self) -> Result<u64> {
        fn below(dir: &Path) -> std::io::Result<u64> {
            let mut sum = 0;
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                sum += if meta.is_dir() { below(&entry.path())? } else { meta.len() };
            }
            Ok(sum)
        }
        Ok(below(&self.0)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// Nanoseconds that `run` takes.
fn timed<T>(run: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let result = run()?;
    Ok((start.elapsed().as_secs_f64() * 1e9, result))
}

/// Seconds that all threads of this process have had of the processors, the kernel's for them
/// included. To a hundredth: what a busy machine does to the clock on the wall it does not do to this.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: Vec<u32> =
        fields.skip(11).take(2).map(str::parse).collect::<std::result::Result<_, _>>()?;
    Ok(f64::from(ticks.iter().sum::<u32>()) / 100.0)
}

fn put_all(engine: &mut dyn Engine, records: &[Record], batch: usize) -> Result<()> {
    records.chunks(batch).try_for_each(|batch| engine.put(batch))
}

/// Reads as many records as there are, in a random order with repetitions, and holds them to their
/// lengths.
fn get_random(engine: &mut dyn Engine, records: &[Record], seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    for _ in 0..records.len() {
        let (key, value) = &records[rng.below(records.len())];
        let found = engine.get(key)?;
        if found.is_none_or(|found| found.len() != value.len()) {
            return Err(format!("{} was not read back", key.escape_ascii()).into());
        }
    }
    Ok(())
}

fn batches(options: &Options, records: &[Record]) -> Result<()> {
    let (prefix, listed) = workload::prefix(records, LISTED);
    let payload: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
    let mut kinds = engines::all();
    kinds.retain(|kind| options.wants(kind.name));
    let list_title = format!("list {listed} keys, ms");
    let titles =
        ["put, us", "CPU of it, us", "get, us", "CPU of it, us", &list_title, "size / payload"];
    let mut table = Table::new(&titles, "SQLite WAL, FULL");
    for round in 0..options.rounds {
        for turn in 0..kinds.len() {
            let kind = &kinds[(turn + round) % kinds.len()];
            let scratch = Scratch::new(options)?;
            let name = format!("{} ({})", kind.name, kind.version);
            let count = records.len() as f64;
            let mut engine = (kind.open)(&scratch.0)?;
            let cpu = cpu_seconds()?;
            let (put_ns, ()) = timed(|| put_all(&mut *engine, records, BATCH))?;
            table.add(&name, 0, put_ns / count / 1e3);
            table.add(&name, 1, (cpu_seconds()? - cpu) / count * 1e6);
            get_random(&mut *engine, &records[..records.len() / 10], 1)?; // warm
            let cpu = cpu_seconds()?;
            let (get_ns, ()) = timed(|| get_random(&mut *engine, records, round as u64 + 2))?;
            table.add(&name, 2, get_ns / count / 1e3);
            table.add(&name, 3, (cpu_seconds()? - cpu) / count * 1e6);
            let mut lists = Samples::default();
            for _ in 0..11 {
                let (list_ns, (found, _)) = timed(|| engine.list(&prefix))?;
                assert_eq!(found, listed, "keys under the prefix");
                lists.add(list_ns / 1e6);
            }
            table.add(&name, 4, lists.median());
            engine.settle()?;
            drop(engine);
            table.add(&name, 5, scratch.bytes()? as f64 / payload as f64);
        }
    }
    println!("\n{} records, a synced commit for each {BATCH}\n{table}", records.len());
    Ok(())
}

fn singles(options: &Options, records: &[Record]) -> Result<()> {
    let records = &records[..SINGLES.min(records.len())];
    let kinds = [
        Kind {
            name: "pefc file",
            version: engine::locked_version("pefc"),
            open: engines::own::open_file,
            takes_many: false,
        },
        Kind {
            name: "cacache, synced",
            version: engine::locked_version("cacache"),
            open: engines::cacache::open,
            takes_many: false,
        },
    ];
    let mut table = Table::new(&["one put, us", "one get, us"], "cacache, synced");
    for round in 0..options.rounds {
        for kind in kinds.iter().filter(|kind| options.wants(kind.name)) {
            let scratch = Scratch::new(options)?;
            let name = format!("{} ({})", kind.name, kind.version);
            let mut engine = (kind.open)(&scratch.0)?;
            let (put_ns, ()) = timed(|| put_all(&mut *engine, records, 1))?;
            table.add(&name, 0, put_ns / records.len() as f64 / 1e3);
            get_random(&mut *engine, records, 1)?; // warm
            let (get_ns, ()) = timed(|| get_random(&mut *engine, records, round as u64 + 2))?;
            table.add(&name, 1, get_ns / records.len() as f64 / 1e3);
        }
    }
    println!("\n{} records, a synced commit for each\n{table}", records.len());
    Ok(())
}

fn caches(options: &Options, records: &[Record]) -> Result<()> {
    let records: Vec<Record> = workload::many(records, CACHED).collect();
    let titles = ["hit, any of all, ns", "hit, one of 1,000, ns", "still there, %"];
    let mut table = Table::new(&titles, "quick_cache");
    for round in 0..options.rounds {
        for (name, version, make) in engines::caches::all() {
            if !options.wants(name) {
                continue;
            }
            let name = format!("{name} ({version})");
            let mut cache = make();
            put_all(&mut *cache, &records, BATCH)?;
            // Hits only: of keys that are there.
            let mut there = Vec::new();
            for (key, _) in &records {
                if cache.get(key)?.is_some() {
                    there.push(key.as_slice());
                }
            }
            Rng::new(round as u64).shuffle(&mut there);
            there.truncate(200_000);
            let hit = |cache: &mut dyn Engine| -> Result<usize> {
                there
                    .iter()
                    .try_fold(0, |count, key| Ok(count + usize::from(cache.get(key)?.is_some())))
            };
            hit(&mut *cache)?;
            let (ns, hits) = timed(|| hit(&mut *cache))?;
            assert_eq!(hits, there.len(), "hits");
            table.add(&name, 0, ns / hits as f64);
            // The same keys again and again: what the cache costs, rather than the memory.
            let hot = &there[..1000.min(there.len())];
            let (ns, ()) = timed(|| {
                for _ in 0..200 {
                    for key in hot {
                        cache.get(key)?;
                    }
                }
                Ok(())
            })?;
            table.add(&name, 1, ns / (200 * hot.len()) as f64);
            let mut kept = 0;
            for (key, _) in &records {
                kept += usize::from(cache.get(key)?.is_some());
            }
            table.add(&name, 2, kept as f64 * 100.0 / records.len() as f64);
        }
    }
    let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
    println!(
        "\n{CACHED} entries of {} bytes with their keys, at most {} MiB\n{table}",
        bytes / CACHED,
        engines::caches::CAPACITY_BYTES >> 20
    );
    Ok(())
}

fn many(options: &Options, records: &[Record]) -> Result<()> {
    let mut table = Table::new(&["put, us", "open + first get, ms"], "SQLite WAL, FULL");
    for kind in engines::all() {
        if !kind.takes_many || !options.wants(kind.name) {
            continue;
        }
        let name = format!("{} ({})", kind.name, kind.version);
        let scratch = Scratch::new(options)?;
        let mut engine = (kind.open)(&scratch.0)?;
        let mut batch = Vec::with_capacity(BATCH);
        let mut put_ns = 0.0;
        for (number, record) in workload::many(records, options.many).enumerate() {
            batch.push(record);
            if batch.len() == BATCH || number + 1 == options.many {
                put_ns += timed(|| engine.put(&batch))?.0;
                batch.clear();
            }
        }
        table.add(&name, 0, put_ns / options.many as f64 / 1e3);
        drop(engine);
        let mut rng = Rng::new(9);
        for _ in 0..11 {
            let (key, value) = workload::one_of_many(records, rng.below(options.many));
            let (ns, engine) = timed(|| {
                let mut engine = (kind.open)(&scratch.0)?;
                match engine.get(&key)? {
                    Some(found) if found == value => Ok(engine),
                    _ => Err("the first get found something else".into()),
                }
            })?;
            table.add(&name, 1, ns / 1e6);
            drop(engine);
        }
    }
    println!("\n{} keys\n{table}", options.many);
    Ok(())
}
