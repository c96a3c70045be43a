//! `backup`: run, list, verify, restore, prune, daemon.

use super::args::{
    BackupCommand, BackupDaemonArgs, BackupListArgs, BackupPruneArgs, BackupRestoreArgs,
    BackupRunArgs, BackupVerifyArgs, WaitFor,
};
use super::output::{JsonKey, Output, count, printable, size, time};
use super::storage::manager;
use super::upkeep::waiting;
use super::{Failure, Outcome, Result};
use pefc::backup::{Problems, RestoreOptions, RestoreReport, RunReport, Snapshot};
use pefc::disk::Machine;
use pefc::manager::StorageManager;
use pefc::retention::Plan;
use pefc::schedule::Due;
use pefc::{Error, ErrorKind};
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The daemon looks at the clock so often: a clock that is set is noticed within this time.
const LOOK_EVERY_MS: u64 = 15_000;
/// And at whether it shall end.
const STOP_EVERY_MS: u64 = 200;
/// How many looks pass after a failure, before it is tried again: five minutes.
const LOOKS_AFTER_FAILURE: u32 = 20;
/// More problems than this say nothing new.
const WARNINGS_MAX: usize = 20;
/// Old snapshots are no reason to wait for anyone.
const NO_WAIT: WaitFor = WaitFor { wait: 0 };

pub(super) fn backup(
    command: &BackupCommand,
    output: &mut Output,
    cancelled: &Arc<AtomicBool>,
) -> Result {
    match command {
        BackupCommand::Run(args) => run(args, output),
        BackupCommand::List(args) => list(args, output),
        BackupCommand::Verify(args) => verify(args, output),
        BackupCommand::Restore(args) => restore(args, output),
        BackupCommand::Prune(args) => prune(args, output),
        BackupCommand::Daemon(args) => daemon(args, output, cancelled),
    }
}

fn run(args: &BackupRunArgs, output: &mut Output) -> Result {
    let manager = manager(&args.file)?;
    if args.if_due
        && let Some(next) = not_due(&manager)?
    {
        if output.json() {
            output.object(&JsonNotDue { due: false, next_s: next })?;
        } else {
            let next = next.map_or_else(|| "never".to_owned(), time);
            output.note(&format!("no backup is due; the next one: {next}"))?;
        }
        return Ok(Outcome::Done);
    }
    make(&manager, args.no_prune, output)
}

#[derive(Serialize)]
struct JsonNotDue {
    due: bool,
    next_s: Option<i64>,
}

/// When a backup will be due, if none is now; `None` inside for never.
fn not_due(manager: &StorageManager) -> Result<Option<Option<i64>>> {
    Ok(match manager.backup_due()? {
        Due::Now { .. } => None,
        Due::At(next_s) => Some(Some(next_s)),
        Due::Never => Some(None),
    })
}

/// Makes a backup, lets go of old ones and tells both.
fn make(manager: &StorageManager, no_prune: bool, output: &mut Output) -> Result {
    let report = manager.back_up()?;
    let pruned_count = match no_prune || !report.snapshot.is_good() {
        true => 0,
        false => manager.prune(false, &mut waiting(&NO_WAIT))?.plan.removed().count() as u64,
    };
    tell_run(&report, pruned_count, output)?;
    Ok(if report.snapshot.is_good() { Outcome::Done } else { Outcome::Damaged })
}

#[derive(Serialize)]
struct JsonRun<'a> {
    due: bool,
    #[serde(flatten)]
    snapshot: JsonSnapshot<'a>,
    unchanged: &'a [String],
    changed_count: u64,
    changed_bytes: u64,
    pruned_count: u64,
    problems: Vec<JsonProblem<'a>>,
}

fn tell_run(report: &RunReport, pruned_count: u64, output: &mut Output) -> Result<()> {
    if output.json() {
        output.object(&JsonRun {
            due: true,
            snapshot: JsonSnapshot::new(&report.snapshot),
            unchanged: &report.unchanged,
            changed_count: report.changed_count,
            changed_bytes: report.changed_bytes,
            pruned_count,
            problems: json_problems(&report.problems),
        })?;
        return Ok(());
    }
    let snapshot = &report.snapshot;
    let keys = snapshot.storages.values().map(|saved| saved.key_count).sum();
    let (keys, changed) = (count(keys, "key"), count(report.changed_count, "key"));
    let bytes = size(report.changed_bytes);
    let storages = count(snapshot.storages.len() as u64, "storage");
    output.note(&format!(
        "{}: {storages} with {keys}; {changed} new or changed ({bytes}), verified",
        snapshot.id
    ))?;
    if pruned_count > 0 {
        output.note(&format!("  {} let go", count(pruned_count, "old snapshot")))?;
    }
    warn_of(&report.problems, output);
    Ok(())
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    storage: &'a str,
    #[serde(flatten)]
    key: JsonKey,
    b3: String,
    error: &'static str,
    message: String,
}

fn json_problems(problems: &Problems) -> Vec<JsonProblem<'_>> {
    let one =
        |problem: &'_ pefc::backup::Problem| (problem.name.to_string(), problem.error.to_string());
    let told = problems.first.iter().map(|problem| {
        let (b3, message) = one(problem);
        let error = problem.error.kind().name();
        JsonProblem {
            storage: &problem.storage,
            key: JsonKey::new(&problem.key),
            b3,
            error,
            message,
        }
    });
    told.collect()
}

fn warn_of(problems: &Problems, output: &Output) {
    for problem in problems.first.iter().take(WARNINGS_MAX) {
        let (storage, error) = (&problem.storage, &problem.error);
        match problem.key.as_slice() {
            [] => output.warn(&format!("{storage}: {error}")),
            key => output.warn(&format!("{storage}: {}: {error}", printable(key))),
        }
    }
    let shown = problems.first.len().min(WARNINGS_MAX) as u64;
    if problems.count > shown {
        output.warn(&format!("… and {} more (see --json)", problems.count - shown));
    }
}

#[derive(Serialize)]
struct JsonSnapshot<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    good: bool,
}

impl<'a> JsonSnapshot<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, good: snapshot.is_good() }
    }
}

#[derive(Serialize)]
struct JsonUnreadable {
    path: String,
    good: bool,
    error: &'static str,
    message: String,
}

fn list(args: &BackupListArgs, output: &mut Output) -> Result {
    let found = manager(&args.file)?.backups(false)?.snapshots()?;
    for snapshot in &found.all {
        if output.json() {
            output.object(&JsonSnapshot::new(snapshot))?;
            continue;
        }
        let state = if snapshot.is_good() { "good" } else { "DAMAGED" };
        let saved = snapshot.storages.iter().map(|(name, saved)| {
            format!("{name} ({}, {})", count(saved.key_count, "key"), size(saved.value_bytes))
        });
        let saved: Vec<String> = saved.collect();
        output.line(&format!("{}  {state:<7}  {}", snapshot.id, saved.join(", ")))?;
    }
    for (path, error) in &found.unreadable {
        if output.json() {
            let (path, message) = (path.display().to_string(), error.to_string());
            let error = error.kind().name();
            output.object(&JsonUnreadable { path, good: false, error, message })?;
        } else {
            output.warn(&error.to_string());
        }
    }
    Ok(if found.unreadable.is_empty() { Outcome::Done } else { Outcome::Damaged })
}

#[derive(Serialize)]
struct JsonVerify<'a> {
    id: &'a str,
    good: bool,
    key_count: u64,
    problem_count: u64,
    problems: Vec<JsonProblem<'a>>,
}

fn verify(args: &BackupVerifyArgs, output: &mut Output) -> Result {
    let backups = manager(&args.file)?.backups(false)?;
    let snapshots = match args.snapshots.as_slice() {
        [] => backups.snapshots()?.all,
        ids => ids.iter().map(|id| backups.snapshot(id)).collect::<pefc::Result<_>>()?,
    };
    let reports = backups.verify(&snapshots)?;
    for report in &reports {
        let good = report.problems.count == 0;
        if output.json() {
            output.object(&JsonVerify {
                id: &report.id,
                good,
                key_count: report.key_count,
                problem_count: report.problems.count,
                problems: json_problems(&report.problems),
            })?;
            continue;
        }
        let state = match good {
            true => "good".to_owned(),
            false => format!("DAMAGED: {} can't be restored", count(report.problems.count, "key")),
        };
        output.line(&format!("{}  {}, {state}", report.id, count(report.key_count, "key")))?;
        warn_of(&report.problems, output);
    }
    backups.record_check(&reports)?;
    let all_good = reports.iter().all(|report| report.problems.count == 0);
    let unreadable = args.snapshots.is_empty() && !backups.snapshots()?.unreadable.is_empty();
    Ok(if all_good && !unreadable { Outcome::Done } else { Outcome::Damaged })
}

#[derive(Serialize)]
struct JsonRestore<'a> {
    snapshot: &'a str,
    storage: &'a str,
    into: &'a str,
    restored_count: u64,
    unchanged_count: u64,
    deleted_count: u64,
    problems: Vec<JsonProblem<'a>>,
}

fn restore(args: &BackupRestoreArgs, output: &mut Output) -> Result {
    let manager = manager(&args.file)?;
    let snapshot = manager.backups(false)?.snapshot(&args.snapshot)?;
    let key = args.key.as_ref().map(|key| key.as_bytes().to_vec());
    let options = RestoreOptions { key, exact: args.exact };
    let storages: Vec<&str> = match &args.storage {
        Some(name) => vec![name],
        None => snapshot.storages.keys().map(String::as_str).collect(),
    };
    let mut outcome = Outcome::Done;
    for name in storages {
        let into = args.into.as_deref().unwrap_or(name);
        let report = manager.restore(&snapshot, name, into, &options)?;
        if report.problems.count > 0 {
            outcome = Outcome::Damaged;
        }
        tell_restore(&snapshot, name, into, &report, output)?;
    }
    Ok(outcome)
}

fn tell_restore(
    snapshot: &Snapshot,
    storage: &str,
    into: &str,
    report: &RestoreReport,
    output: &mut Output,
) -> Result<()> {
    if output.json() {
        output.object(&JsonRestore {
            snapshot: &snapshot.id,
            storage,
            into,
            restored_count: report.restored_count,
            unchanged_count: report.unchanged_count,
            deleted_count: report.deleted_count,
            problems: json_problems(&report.problems),
        })?;
        return Ok(());
    }
    let restored = count(report.restored_count, "key");
    let (unchanged, deleted) = (report.unchanged_count, report.deleted_count);
    let id = &snapshot.id;
    output.note(&format!(
        "{into}: {restored} restored from {id}, {unchanged} as they were, {deleted} deleted"
    ))?;
    warn_of(&report.problems, output);
    Ok(())
}

#[derive(Serialize)]
struct JsonDecision<'a> {
    id: &'a str,
    keep: bool,
    reasons: Vec<String>,
    dry_run: bool,
}

fn prune(args: &BackupPruneArgs, output: &mut Output) -> Result {
    let manager = manager(&args.file)?;
    if let Some(id) = &args.forget {
        manager.backups(false)?.forget(id)?;
        output.note(&format!("{id}: let go"))?;
    }
    let plan = match args.dry_run {
        true => manager.plan(args.trust_clock)?,
        false => manager.prune(args.trust_clock, &mut waiting(&args.wait))?.plan,
    };
    tell_plan(&plan, args.dry_run, output)
}

fn tell_plan(plan: &Plan, dry_run: bool, output: &mut Output) -> Result {
    for decision in &plan.decisions {
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        if output.json() {
            let (id, keep) = (&*decision.id, decision.keep);
            output.object(&JsonDecision { id, keep, reasons, dry_run })?;
            continue;
        }
        let what = match (decision.keep, dry_run) {
            (true, _) => "stays",
            (false, true) => "would go",
            (false, false) => "gone",
        };
        output.line(&format!("{}  {what:<8}  {}", decision.id, reasons.join("; ")))?;
    }
    match plan.doubt {
        Some(doubt) => {
            let next = "nothing goes; set the clock, or use --trust-clock if it is right";
            output.warn(&format!("{doubt}: {next}"));
            Ok(Outcome::Partial)
        }
        None => Ok(Outcome::Done),
    }
}

/// Makes backups when they are due. What the clock says is looked at again and again, and nothing is
/// counted down: a clock that is set, and a machine that slept, change nothing for good.
fn daemon(args: &BackupDaemonArgs, output: &mut Output, cancelled: &Arc<AtomicBool>) -> Result {
    let clock = Machine::real().clock;
    let manager = manager(&args.file)?;
    if !manager.config().backup.enabled {
        let what = "backups are not enabled: nothing would ever be due";
        return Err(Error::new(ErrorKind::Usage, what)
            .hinting("set `backup.enabled: true` in the configuration")
            .into());
    }
    let mut looks_to_skip = 0_u32;
    while !cancelled.load(Ordering::Relaxed) {
        if looks_to_skip > 0 {
            looks_to_skip -= 1;
        } else {
            let made = match not_due(&manager) {
                Ok(Some(_)) => Ok(Outcome::Done),
                Ok(None) => make(&manager, false, output),
                Err(failure) => Err(failure),
            };
            match made {
                Ok(Outcome::Done) => {}
                // It is told, and tried again later: a disk may be plugged in, space freed.
                Ok(_) => looks_to_skip = LOOKS_AFTER_FAILURE,
                Err(Failure::Pefc(error)) => {
                    output.error(&error);
                    looks_to_skip = LOOKS_AFTER_FAILURE;
                }
                Err(failure) => return Err(failure),
            }
            output.flush()?;
        }
        let mut left_ms = LOOK_EVERY_MS;
        while left_ms > 0 && !cancelled.load(Ordering::Relaxed) {
            clock.sleep_ms(STOP_EVERY_MS);
            left_ms = left_ms.saturating_sub(STOP_EVERY_MS);
        }
    }
    Ok(Outcome::Done) // asked to end, it ends: for a service that is success
}
