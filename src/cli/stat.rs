//! `stat`: how storages, contents and backups are; for people, as JSON, for Prometheus.

use super::args::StatArgs;
use super::output::{Output, count, printable, size, time};
use super::storage::{JsonRef, manager, no_key, seconds};
use super::{Outcome, Result};
use pefc::ErrorKind;
use pefc::manager::StorageManager;
use pefc::store::StoreStats;
use serde::Serialize;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

#[derive(Serialize)]
struct JsonStorage<'a> {
    storage: &'a str,
    r#type: &'static str,
    key_count: u64,
    value_bytes: u64,
    /// What keeps it from being read; the numbers are 0 then.
    error: Option<String>,
}

#[derive(Serialize)]
struct JsonContents {
    contents: String,
    segment_count: u64,
    damaged_segment_count: u64,
    stored_bytes: u64,
    object_count: u64,
    root_count: u64,
}

#[derive(Default, Serialize)]
struct JsonBackups {
    backups: String,
    snapshot_count: u64,
    damaged_snapshot_count: u64,
    stored_bytes: u64,
    last_good_s: Option<i64>,
    last_verified_s: Option<i64>,
}

pub(super) fn stat(args: &StatArgs, output: &mut Output) -> Result {
    let manager = manager(&args.of.file)?;
    if let Some(key) = &args.key {
        return stat_key(&manager, args, key.as_bytes(), output);
    }
    let names: Vec<&str> = match &args.of.storage {
        Some(name) => vec![name],
        None => manager.config().storages.keys().map(String::as_str).collect(),
    };
    let storages: Vec<JsonStorage<'_>> =
        names.into_iter().map(|name| measure(&manager, name)).collect::<pefc::Result<_>>()?;
    let store = manager.contents()?;
    let stats = store.stats()?;
    let backups = measure_backups(&manager)?;
    let is_whole = storages.iter().all(|storage| storage.error.is_none());
    if args.prometheus {
        output.bytes(prometheus(&storages, &stats, &backups).as_bytes())?;
    } else if output.json() {
        storages.iter().try_for_each(|storage| output.object(storage))?;
        output.object(&JsonContents {
            contents: store.path().display().to_string(),
            segment_count: stats.segment_count,
            damaged_segment_count: stats.damaged_segment_count,
            stored_bytes: stats.stored_bytes,
            object_count: stats.object_count,
            root_count: stats.root_count,
        })?;
        output.object(&backups)?;
    } else {
        tell(&storages, &stats, &backups, output)?;
    }
    Ok(if is_whole { Outcome::Done } else { Outcome::Damaged })
}

fn stat_key(manager: &StorageManager, args: &StatArgs, key: &[u8], output: &mut Output) -> Result {
    let name = args.of.storage.as_ref().unwrap_or(&manager.config().default_storage);
    let storage = manager.storage(name)?;
    let value = storage.stat(key)?.ok_or_else(|| no_key(name, key))?;
    if output.json() {
        output.object(&JsonRef::new(name, key, &value))?;
        return Ok(Outcome::Done);
    }
    output.line(&printable(key))?;
    output.line(&format!("  content  {}", value.name))?;
    output.line(&format!("  size     {}", size(value.size_bytes)))?;
    output.line(&format!("  created  {}", time(seconds(value.created_ns))))?;
    output.line(&format!("  updated  {}", time(seconds(value.updated_ns))))?;
    Ok(Outcome::Done)
}

/// Counts the keys of a storage. One that can't be read is told, and no trouble to the others.
fn measure<'a>(manager: &StorageManager, name: &'a str) -> pefc::Result<JsonStorage<'a>> {
    let r#type = manager.type_name(name)?;
    let mut found =
        JsonStorage { storage: name, r#type, key_count: 0, value_bytes: 0, error: None };
    let counted = manager.storage(name).and_then(|storage| {
        for entry in storage.scan("") {
            let (_, value) = entry?;
            found.key_count += 1;
            found.value_bytes = found.value_bytes.saturating_add(value.size_bytes);
        }
        Ok(())
    });
    if let Err(error) = counted {
        (found.key_count, found.value_bytes) = (0, 0);
        found.error = Some(error.to_string());
    }
    Ok(found)
}

fn measure_backups(manager: &StorageManager) -> pefc::Result<JsonBackups> {
    let path = manager.config().backup.path.display().to_string();
    let backups = match manager.backups(false) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(JsonBackups { backups: path, ..JsonBackups::default() });
        }
        backups => backups?,
    };
    let found = backups.snapshots()?;
    let damaged = found.all.iter().filter(|snapshot| !snapshot.is_good()).count();
    Ok(JsonBackups {
        backups: path,
        snapshot_count: found.all.len() as u64,
        damaged_snapshot_count: (damaged + found.unreadable.len()) as u64,
        stored_bytes: backups.contents().stats()?.stored_bytes,
        last_good_s: found.newest_good().map(|snapshot| snapshot.time_s),
        last_verified_s: found.all.iter().map(|snapshot| snapshot.check.time_s).max(),
    })
}

fn tell(
    storages: &[JsonStorage<'_>],
    stats: &StoreStats,
    backups: &JsonBackups,
    output: &mut Output,
) -> Result<()> {
    for storage in storages {
        let (name, r#type) = (storage.storage, storage.r#type);
        match &storage.error {
            Some(error) => output.line(&format!("{name} ({type}): {error}"))?,
            None => {
                let (keys, bytes) = (count(storage.key_count, "key"), size(storage.value_bytes));
                output.line(&format!("{name} ({type}): {keys}, {bytes}"))?;
            }
        }
    }
    let (objects, files) =
        (count(stats.object_count, "object"), count(stats.segment_count, "file"));
    let stored = size(stats.stored_bytes);
    output.line(&format!("contents: {objects} in {files}, {stored} stored"))?;
    let snapshots = count(backups.snapshot_count, "snapshot");
    let last = backups.last_good_s.map_or_else(|| "never".to_owned(), time);
    let stored = size(backups.stored_bytes);
    output.line(&format!("backups: {snapshots}, {stored} stored; last good one: {last}"))?;
    Ok(())
}

/// The text format of Prometheus, 0.0.4.
fn prometheus(storages: &[JsonStorage<'_>], stats: &StoreStats, backups: &JsonBackups) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, help: &str, values: &[(String, Option<i128>)]| {
        let _ = writeln!(out, "# HELP pefc_{name} {help}\n# TYPE pefc_{name} gauge");
        for (labels, value) in values {
            if let Some(value) = value {
                let _ = writeln!(out, "pefc_{name}{labels} {value}");
            }
        }
    };
    let each = |value: &dyn Fn(&JsonStorage<'_>) -> u64| -> Vec<(String, Option<i128>)> {
        let one = |storage: &JsonStorage<'_>| {
            // Names of storages hold nothing that would have to be escaped.
            let labels = format!("{{storage=\"{}\",type=\"{}\"}}", storage.storage, storage.r#type);
            (labels, Some(i128::from(value(storage))))
        };
        storages.iter().map(one).collect()
    };
    let whole = |value: u64| [(String::new(), Some(i128::from(value)))];
    let moment = |value: Option<i64>| [(String::new(), value.map(i128::from))];
    metric(
        "storage_up",
        "Whether the storage can be read.",
        &each(&|s| u64::from(s.error.is_none())),
    );
    metric("storage_keys", "Keys in the storage.", &each(&|s| s.key_count));
    metric("storage_value_bytes", "Bytes that the keys stand for.", &each(&|s| s.value_bytes));
    metric("content_stored_bytes", "Bytes of the content store.", &whole(stats.stored_bytes));
    metric("content_objects", "Objects in the content store.", &whole(stats.object_count));
    metric("content_segments", "Files of the content store.", &whole(stats.segment_count));
    let damaged = stats.damaged_segment_count;
    metric("content_damaged_segments", "Of them, those that can't be opened.", &whole(damaged));
    metric("backup_snapshots", "Snapshots.", &whole(backups.snapshot_count));
    let damaged = backups.damaged_snapshot_count;
    metric("backup_damaged_snapshots", "Of them, those known to be damaged.", &whole(damaged));
    metric("backup_stored_bytes", "Bytes of the backup store.", &whole(backups.stored_bytes));
    let good = "When the newest good snapshot was begun.";
    metric("backup_last_good_timestamp_seconds", good, &moment(backups.last_good_s));
    let verified = "When a snapshot was verified last.";
    metric("backup_last_verified_timestamp_seconds", verified, &moment(backups.last_verified_s));
    out
}
