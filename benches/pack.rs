//! Where the time goes: hash, chunk, compress, look up, put, get, create, extract, verify.
//!
//! `cargo bench` runs all; `cargo bench -- lookup` one group. Against other programs:
//! `benches/compare.py DIRECTORY`.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a bench that fails should say where; its numbers are small"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pefc::compress::{Compressor, Decompressor, History};
use pefc::format::segment::Layout;
use pefc::{Hash, Pack, VerifyOptions, WriteOptions, Writer};
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// Text like that of proofs: lines of few words and many numbers.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 64);
    let mut state = seed;
    while out.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(
            format!("{} -{} {} 0\n", state >> 50, state >> 52 & 1023, state >> 44).as_bytes(),
        );
    }
    out.truncate(len);
    out
}

fn bytes(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>, len: usize) {
    group.throughput(Throughput::Bytes(len as u64));
}

fn parts(c: &mut Criterion) {
    let content = text(1, 4 << 20);
    let mut group = c.benchmark_group("hash");
    for len in [600, 16 << 10, 1 << 20] {
        bytes(&mut group, len);
        group.bench_function(format!("{len} B"), |b| {
            b.iter(|| Hash::of(black_box(&content[..len])))
        });
    }
    group.finish();

    let mut group = c.benchmark_group("chunk");
    bytes(&mut group, content.len());
    group.bench_function("4 MiB", |b| {
        b.iter(|| {
            let mut at = 0;
            while at < content.len() {
                at += pefc::chunk::first_chunk_len(black_box(&content[at..]));
            }
        });
    });
    group.finish();

    let mut group = c.benchmark_group("compress");
    let frame = &content[..1 << 20];
    bytes(&mut group, frame.len());
    for level in [1, 3, 9] {
        let mut compressor = Compressor::new(level).unwrap();
        group.bench_function(format!("1 MiB level {level}"), |b| {
            b.iter(|| compressor.compress(black_box(frame)).unwrap());
        });
    }
    let stored = Compressor::new(3).unwrap().compress(frame).unwrap().unwrap();
    let mut decoder = Decompressor::new().unwrap();
    group.bench_function("1 MiB back", |b| {
        b.iter(|| decoder.decompress(black_box(&stored), frame.len(), History::Empty).unwrap());
    });
    group.finish();
}

fn write(path: &Path, layout: Layout, count: u64, len: usize) {
    let options = WriteOptions { layout, replace: true, ..WriteOptions::default() };
    let mut writer = Writer::create(path, options).unwrap();
    for i in 0..count {
        writer.put(&format!("{:02}/{i:07}", i % 100), &text(i, len)).unwrap();
    }
    writer.finish().unwrap();
}

fn lookups(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.pefc");
    // A million objects take a while to write: PEFC_BENCH_OBJECTS=1000000 for the real thing.
    let count = std::env::var("PEFC_BENCH_OBJECTS").map_or(100_000, |n| n.parse().unwrap());
    write(&path, Layout::Records, count, 1024);
    let pack = Pack::open(&path).unwrap();
    let step = (count / 10_007) | 1;
    let keys: Vec<u64> = (0..10_000).map(|i| i * step % count).collect();
    let names: Vec<Hash> = keys.iter().map(|i| Hash::of(&text(*i, 1024))).collect();

    let mut group = c.benchmark_group(format!("records of 1 KiB, {count}"));
    let mut next = names.iter().cycle();
    group.bench_function("lookup of a name", |b| {
        b.iter(|| pack.indexed_place(next.next().unwrap()).unwrap().unwrap());
    });
    let mut next = names.iter().cycle();
    group.bench_function("get by name", |b| {
        b.iter(|| pack.object(next.next().unwrap()).unwrap().unwrap());
    });
    let mut next = keys.iter().map(|i| format!("{:02}/{i:07}", i % 100)).cycle().take(usize::MAX);
    group.bench_function("get by key", |b| {
        b.iter(|| pack.get(&next.next().unwrap()).unwrap().unwrap());
    });
    group.bench_function("open", |b| b.iter(|| Pack::open(black_box(&path)).unwrap()));
    group.bench_function("list of one prefix in 100", |b| {
        b.iter(|| pack.entries_under("42/").count());
    });
    group.finish();
}

fn puts(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("put.pefc");
    let mut group = c.benchmark_group("put");
    group.sample_size(10);
    for (layout, name) in [(Layout::Archive, "archive"), (Layout::Records, "records")] {
        bytes(&mut group, 10_000 * 1024);
        group.bench_function(format!("10,000 x 1 KiB, {name}"), |b| {
            b.iter(|| write(&path, layout, 10_000, 1024));
        });
    }
    group.finish();
}

fn tree(root: &Path) -> PathBuf {
    let tree = root.join("tree");
    for i in 0..2000_u64 {
        let dir = tree.join(format!("{:02}", i % 50));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{i}.txt")), text(i, 2000 + 17 * (i as usize % 1000)))
            .unwrap();
    }
    tree
}

fn archives(c: &mut Criterion) {
    use pefc::archive::{AddOptions, ExtractOptions, NoProgress, Source, add, extract};
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path());
    let path = dir.path().join("tree.pefc");
    let create = || {
        let options = WriteOptions { replace: true, ..WriteOptions::default() };
        let mut writer = Writer::create(&path, options).unwrap();
        let sources = [Source::named(&tree)];
        add(&mut writer, &sources, &AddOptions::default(), &NoProgress).unwrap();
        writer.finish().unwrap()
    };
    let content_bytes = create().content_bytes;
    let mut group = c.benchmark_group("tree of 2,000 files");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(content_bytes));
    group.bench_function("create", |b| b.iter(create));
    let pack = Pack::open(&path).unwrap();
    group.bench_function("verify", |b| {
        b.iter(|| assert!(pack.verify(&VerifyOptions::default()).unwrap().is_intact()));
    });
    group.bench_function("list", |b| b.iter(|| pack.entries().count()));
    group.bench_function("extract", |b| {
        b.iter_batched(
            || tempfile::tempdir_in(dir.path()).unwrap(),
            |target| {
                extract(&pack, target.path(), &ExtractOptions::default(), &NoProgress).unwrap();
                target
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(all, parts, lookups, puts, archives);
criterion_main!(all);
