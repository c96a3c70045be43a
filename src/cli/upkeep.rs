//! `gc` and `compact`: what nothing needs goes, what is small becomes one.

use super::args::{CompactArgs, GcArgs, WaitFor};
use super::output::{Output, count, hex, size};
use super::storage::manager;
use super::{Outcome, Result};
use pefc::config::StorageConfig;
use pefc::disk::Machine;
use pefc::store::{CollectOptions, CollectReport};
use pefc::{CompactOptions, Error, ErrorKind, WriteOptions};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How often it is looked whether those who write have ended.
const LOOK_EVERY_MS: u64 = 100;

/// Waits for batches that are being written, for so long.
pub(super) fn waiting(wait: &WaitFor) -> impl FnMut(usize) -> bool + use<> {
    let mut left_ms = u64::from(wait.wait) * 1000;
    move |_| {
        if left_ms == 0 {
            return false;
        }
        let part_ms = left_ms.min(LOOK_EVERY_MS);
        Machine::real().clock.sleep_ms(part_ms);
        left_ms -= part_ms;
        true
    }
}

pub(super) fn gc(args: &GcArgs, output: &mut Output) -> Result {
    let manager = manager(&args.file)?;
    if let Some(location) = &args.forget_root {
        let contents = manager.contents()?;
        let root = contents.roots()?.into_iter().find(|root| root.location() == location);
        let root = root.ok_or_else(|| {
            let what = format!("no storage at {location} is registered with the content store");
            Error::new(ErrorKind::NotFound, what).at(contents.path())
        })?;
        contents.unregister_root(&root)?;
    }
    let (dead_percent, dry_run) = (args.dead, args.dry_run);
    let options = CollectOptions { dead_percent, dry_run, ..CollectOptions::default() };
    let report = manager.collect(&options, &mut waiting(&args.wait))?;
    tell(&report, args.dry_run, output)
}

pub(super) fn compact(
    args: &CompactArgs,
    output: &mut Output,
    cancelled: &Arc<AtomicBool>,
) -> Result {
    let write = WriteOptions { level: args.level, ..WriteOptions::default() };
    let cancel = Some(Arc::clone(cancelled));
    let options = CompactOptions { write, rebase: args.rebase, cancel };
    if !args.packs.is_empty() {
        for path in &args.packs {
            compact_pack(path, &options, output)?;
        }
        return Ok(Outcome::Done);
    }
    let manager = manager(&args.file)?;
    for (name, storage) in &manager.config().storages {
        if !matches!(storage, StorageConfig::Pack { .. }) {
            continue;
        }
        manager.storage(name)?;
        if let Some(pack) = manager.pack(name) {
            pack.seal()?;
            compact_pack(pack.path(), &options, output)?;
        }
    }
    let report = manager.contents()?.merge(&mut waiting(&args.wait))?;
    tell(&report, false, output)
}

/// What laying out a pack anew did, as a JSON line.
#[derive(Serialize)]
struct JsonCompact {
    pack: String,
    before_bytes: u64,
    after_bytes: u64,
    copied_frame_count: u64,
    regrouped_object_count: u64,
    dropped_object_count: u64,
    generation: u64,
    log_size: u64,
    map_root: String,
}

fn compact_pack(path: &Path, options: &CompactOptions, output: &mut Output) -> Result<()> {
    let report = pefc::compact(path, options)?;
    if output.json() {
        output.object(&JsonCompact {
            pack: path.display().to_string(),
            before_bytes: report.before_bytes,
            after_bytes: report.after_bytes,
            copied_frame_count: report.copied_frame_count,
            regrouped_object_count: report.regrouped_object_count,
            dropped_object_count: report.dropped_object_count,
            generation: report.stats.generation,
            log_size: report.stats.log_size,
            map_root: hex(&report.stats.map_root),
        })?;
        return Ok(());
    }
    let (before, after) = (size(report.before_bytes), size(report.after_bytes));
    let dropped = count(report.dropped_object_count, "object");
    output.note(&format!("{}: {before} to {after}, {dropped} left out", path.display()))?;
    Ok(())
}

/// What a collection did, as a JSON line.
#[derive(Serialize)]
pub(super) struct JsonCollect {
    dry_run: bool,
    live_count: u64,
    condemned_file_count: u64,
    removed_file_count: u64,
    removed_bytes: u64,
    written_bytes: u64,
    copied_count: u64,
    waiting_for: usize,
    missing: Vec<String>,
    damaged_files: Vec<String>,
}

impl JsonCollect {
    pub(super) fn new(report: &CollectReport, dry_run: bool) -> Self {
        Self {
            dry_run,
            live_count: report.live_count,
            condemned_file_count: report.condemned_count,
            removed_file_count: report.removed_count,
            removed_bytes: report.removed_bytes,
            written_bytes: report.written_bytes,
            copied_count: report.copied_count,
            waiting_for: report.waiting_for,
            missing: report.missing.iter().map(ToString::to_string).collect(),
            damaged_files: report.damaged.clone(),
        }
    }
}

fn tell(report: &CollectReport, dry_run: bool, output: &mut Output) -> Result {
    let is_whole = report.missing.is_empty() && report.damaged.is_empty();
    let outcome = if is_whole { Outcome::Done } else { Outcome::Damaged };
    if output.json() {
        output.object(&JsonCollect::new(report, dry_run))?;
        return Ok(outcome);
    }
    if dry_run {
        let files = count(report.condemned_count, "file");
        output.line(&format!("{files} would be rewritten or removed"))?;
    } else {
        let files = count(report.removed_count, "file");
        let (removed, written) = (size(report.removed_bytes), size(report.written_bytes));
        output.note(&format!("{files} removed ({removed}), {written} written in their place"))?;
    }
    if report.waiting_for > 0 {
        let batches = count(report.waiting_for as u64, "batch that is");
        output.warn(&format!("waiting for {batches} being written: the next run goes on"));
    }
    for name in &report.missing {
        output.warn(&format!("content {name} is named by a key and is not there"));
    }
    for name in &report.damaged {
        output.warn(&format!("segments/{name} is damaged and stays"));
    }
    Ok(outcome)
}
