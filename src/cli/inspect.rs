//! `inspect`: what a pack is made of.

use super::args::InspectArgs;
use super::output::{Output, count, hex, number, ratio, size};
use super::{Outcome, Result, read};
use pefc::format::frame::{FrameHeader, FrameKind};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct JsonInspect {
    pack_bytes: u64,
    torn_bytes: u64,
    commit_count: u64,
    generation: u64,
    log_size: u64,
    key_count: Option<u64>,
    object_count: Option<u64>,
    object_bytes: Option<u64>,
    map_root: Option<String>,
    log_root: Option<String>,
    frames: BTreeMap<&'static str, Kind>,
    header_bytes: u64,
}

#[derive(Serialize, Default, Clone, Copy)]
struct Kind {
    frame_count: u64,
    item_count: u64,
    raw_bytes: u64,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct JsonFrame {
    offset: u64,
    kind: &'static str,
    codec: &'static str,
    reference_count: u8,
    item_count: u32,
    raw_bytes: u32,
    stored_bytes: u32,
    stored_b3: String,
}

pub(super) fn inspect(args: &InspectArgs, output: &mut Output) -> Result {
    let pack = read::open(&args.pack, None, output)?;
    let frames = pack.frames()?;
    if args.frames {
        return each_frame(&frames, output);
    }
    let mut kinds: BTreeMap<&'static str, Kind> = BTreeMap::new();
    for frame in &frames {
        let kind = kinds.entry(frame.kind.name()).or_default();
        kind.frame_count += 1;
        kind.item_count += u64::from(frame.item_count);
        kind.raw_bytes += u64::from(frame.raw_bytes);
        kind.stored_bytes += u64::from(frame.stored_bytes);
    }
    let stored: u64 = kinds.values().map(|kind| kind.stored_bytes).sum();
    let generation = pack.newest_generation()?;
    let report = JsonInspect {
        pack_bytes: pack.committed_bytes(),
        torn_bytes: pack.torn_bytes(),
        commit_count: pack.commit().number,
        generation: pack.generation(),
        log_size: pack.commit().log_size,
        key_count: generation.as_ref().map(|g| g.map_size.saturating_sub(g.object_count)),
        object_count: generation.as_ref().map(|g| g.object_count),
        object_bytes: generation.as_ref().map(|g| g.object_bytes),
        map_root: generation.as_ref().map(|g| hex(&g.map_root)),
        log_root: generation.as_ref().map(|g| hex(&g.log_root)),
        frames: kinds,
        header_bytes: pack.committed_bytes().saturating_sub(stored),
    };
    if output.json() {
        output.object(&report)?;
    } else {
        print(&report, output)?;
    }
    Ok(Outcome::Done)
}

fn print(report: &JsonInspect, output: &mut Output) -> Result<()> {
    let bytes = report.pack_bytes;
    output.line(&format!("pack        {} ({} bytes)", size(bytes), number(bytes)))?;
    output.line(&format!(
        "history     {}, {}, {}",
        count(report.generation, "generation"),
        count(report.commit_count, "commit"),
        count(report.log_size, "log entry"),
    ))?;
    if let (Some(keys), Some(objects), Some(content)) =
        (report.key_count, report.object_count, report.object_bytes)
    {
        output.line(&format!(
            "live        {}, {} of {} ({} of the pack)",
            count(keys, "key"),
            count(objects, "content"),
            size(content),
            ratio(content, bytes),
        ))?;
    }
    for (name, root) in [("map root", &report.map_root), ("log root", &report.log_root)] {
        if let Some(root) = root {
            output.line(&format!("{name}    {root}"))?;
        }
    }
    output.line("")?;
    output
        .line("kind            frames       items           raw        stored   ratio  of pack")?;
    for (name, kind) in &report.frames {
        output.line(&format!(
            "{name:<14} {:>7} {:>11} {:>13} {:>13} {:>7} {:>7}",
            number(kind.frame_count),
            number(kind.item_count),
            size(kind.raw_bytes),
            size(kind.stored_bytes),
            ratio(kind.raw_bytes, kind.stored_bytes),
            percent(kind.stored_bytes, bytes),
        ))?;
    }
    let header = size(report.header_bytes);
    let share = percent(report.header_bytes, bytes);
    output.line(&format!(
        "{:<14} {:>7} {:>11} {:>13} {header:>13} {:>7} {share:>7}",
        "headers", "", "", "", ""
    ))?;
    Ok(())
}

fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    format!("{share:.1}%")
}

fn each_frame(frames: &[FrameHeader], output: &mut Output) -> Result {
    if !output.json() {
        output.line(
            "      offset  kind           codec            items        raw     stored  refs",
        )?;
    }
    for frame in frames {
        if output.json() {
            output.object(&JsonFrame {
                offset: frame.offset,
                kind: frame.kind.name(),
                codec: frame.codec.name(),
                reference_count: frame.reference_count,
                item_count: frame.item_count,
                raw_bytes: frame.raw_bytes,
                stored_bytes: frame.stored_bytes,
                stored_b3: frame.stored_hash.to_string(),
            })?;
        } else {
            let codec = if frame.kind == FrameKind::Commit { "" } else { frame.codec.name() };
            output.line(&format!(
                "{:>12}  {:<14} {codec:<15} {:>6} {:>10} {:>10} {:>5}",
                frame.offset,
                frame.kind.name(),
                frame.item_count,
                frame.raw_bytes,
                frame.stored_bytes,
                frame.reference_count,
            ))?;
        }
    }
    Ok(Outcome::Done)
}
