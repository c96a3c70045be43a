//! `extract`.

use super::args::{ExtractArgs, Space};
use super::output::{JsonKey, Output, count, printable, size};
use super::{Outcome, Result, read};
use pefc::archive::{ExtractOptions, ExtractProblemKind, ExtractReport, Overwrite};
use pefc::disk::tree::is_root;
use pefc::{Error, ErrorKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// More warnings than this say nothing new.
const WARNINGS_MAX: usize = 20;

#[derive(Serialize)]
struct JsonExtract<'a> {
    file_count: u64,
    directory_count: u64,
    symlink_count: u64,
    hard_link_count: u64,
    other_count: u64,
    content_bytes: u64,
    problems: Vec<JsonProblem<'a>>,
    not_restored: Vec<JsonNotRestored>,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    #[serde(flatten)]
    key: JsonKey,
    problem: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct JsonNotRestored {
    #[serde(flatten)]
    key: JsonKey,
    property: &'static str,
}

pub(super) fn extract(
    args: &ExtractArgs,
    output: &mut Output,
    cancelled: &Arc<AtomicBool>,
) -> Result {
    let pack = read::open(&args.pack, args.at, output)?;
    let as_root = (is_root() || args.owner) && !args.no_owner;
    let mut options = ExtractOptions {
        keys: args.keys.iter().map(|key| read::key(Space::Path, key).bytes().to_vec()).collect(),
        strip_components: args.strip_components,
        overwrite: if args.force { Overwrite::Replace } else { Overwrite::Refuse },
        restore_owner: as_root,
        special_bits: as_root,
        devices: as_root,
        keep_going_on_damage: args.keep_going,
        count_first: output.shows_progress(),
        cancel: Some(Arc::clone(cancelled)),
        ..ExtractOptions::default()
    };
    if let Some(threads) = args.threads {
        options.threads = threads.into();
    }
    let bar = output.progress();
    let report = pefc::archive::extract(&pack, &args.directory, &options, &bar)?;
    drop(bar);
    let restored_count = report.file_count
        + report.directory_count
        + report.symlink_count
        + report.hard_link_count
        + report.other_count;
    let mut problems = report.problems.iter();
    if restored_count == 0
        && let Some(first) = problems.next()
        && first.kind == ExtractProblemKind::NotFound
        && problems.all(|problem| problem.kind == ExtractProblemKind::NotFound)
    {
        let what = format!("there is no key {}", printable(&first.key));
        let error = Error::new(ErrorKind::NotFound, what).at(&args.pack);
        return Err(error.hinting("`pefc list` shows all keys").into());
    }
    if restored_count == 0 && report.problems.is_empty() && args.strip_components > 0 {
        let parts = count(args.strip_components as u64, "part");
        output.warn(&format!("nothing restored: no path has more than {parts} to strip"));
    }
    if output.json() {
        output.object(&json(&report))?;
    } else {
        tell(args, &report, output)?;
    }
    let is_damage =
        |kind| matches!(kind, ExtractProblemKind::Missing | ExtractProblemKind::Corrupt);
    if report.problems.iter().any(|problem| is_damage(problem.kind)) {
        return Ok(Outcome::Damaged);
    }
    let complete = report.problems.is_empty() && report.not_restored.is_empty();
    Ok(if complete { Outcome::Done } else { Outcome::Partial })
}

fn json(report: &ExtractReport) -> JsonExtract<'_> {
    JsonExtract {
        file_count: report.file_count,
        directory_count: report.directory_count,
        symlink_count: report.symlink_count,
        hard_link_count: report.hard_link_count,
        other_count: report.other_count,
        content_bytes: report.content_bytes,
        problems: report
            .problems
            .iter()
            .map(|problem| JsonProblem {
                key: JsonKey::new(&problem.key),
                problem: problem.kind.name(),
                message: &problem.error,
            })
            .collect(),
        not_restored: report
            .not_restored
            .iter()
            .map(|what| JsonNotRestored {
                key: JsonKey::new(&what.key),
                property: what.what.name(),
            })
            .collect(),
    }
}

fn tell(args: &ExtractArgs, report: &ExtractReport, output: &mut Output) -> Result<()> {
    for problem in report.problems.iter().take(WARNINGS_MAX) {
        let key = printable(&problem.key);
        match problem.kind {
            ExtractProblemKind::Exists => output.warn(&format!("{key}: exists already")),
            kind => output.warn(&format!("{key}: {}: {}", kind.name(), problem.error)),
        }
    }
    if let Some(more) = report.problems.len().checked_sub(WARNINGS_MAX).filter(|more| *more > 0) {
        output.warn(&format!("… and {more} more (see --json)"));
    }
    if report.problems.iter().any(|problem| problem.kind == ExtractProblemKind::Exists) {
        output.warn("what exists was left as it is; --force replaces it");
    }
    let mut properties: BTreeMap<&str, (u64, &[u8])> = BTreeMap::new();
    for what in &report.not_restored {
        properties.entry(what.what.name()).or_insert((0, &what.key)).0 += 1;
    }
    for (property, (files, example)) in properties {
        let files = count(files, "entry");
        output.warn(&format!("{property} not restored of {files}, such as {}", printable(example)));
    }
    let files = count(report.file_count, "file");
    let content = size(report.content_bytes);
    let others =
        report.directory_count + report.symlink_count + report.hard_link_count + report.other_count;
    let others = count(others, "other entry");
    let target = args.directory.display();
    output.note(&format!("{target}: {files} with {content}, {others} (directories, links)"))?;
    Ok(())
}
