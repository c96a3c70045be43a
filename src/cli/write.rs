//! `create` and `append`.

use super::args::{AppendArgs, CreateArgs, Owners, WriteArgs};
use super::output::{Output, count, hex, printable, ratio, size};
use super::{Outcome, Result, read, stdin::Stdin};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use pefc::archive::{AddOptions, AddReport, OwnerRecording, RecordOptions, Source};
use pefc::{Error, ErrorKind, SealSigner, Signers, WriteOptions, WriteStats, Writer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// More warnings than this say nothing new.
const WARNINGS_MAX: usize = 20;

pub(super) fn create(
    args: &CreateArgs,
    output: &mut Output,
    cancelled: &Arc<AtomicBool>,
) -> Result {
    let options = WriteOptions {
        replace: args.force,
        origin: args.origin.clone(),
        signers: signers(args)?,
        ..write_options(&args.write)?
    };
    let writer = Writer::create(&args.write.pack, options).map_err(|error| match error.kind() {
        ErrorKind::NotFound => error.hinting("make the directory first, or choose another path"),
        ErrorKind::AlreadyExists if !args.write.pack.is_dir() => {
            error.hinting("append to it, choose another name, or replace it with --force")
        }
        _ => error,
    })?;
    fill(&args.write, None, writer, output, cancelled)
}

pub(super) fn append(
    args: &AppendArgs,
    output: &mut Output,
    cancelled: &Arc<AtomicBool>,
) -> Result {
    let writer = Writer::append(&args.write.pack, write_options(&args.write)?)?;
    fill(&args.write, Some(args), writer, output, cancelled)
}

/// Who must sign a new log.
fn signers(args: &CreateArgs) -> Result<Signers> {
    let keys = super::sign::verifier_keys(&args.signer)?;
    let threshold = if keys.is_empty() { 0 } else { args.threshold };
    Ok(Signers { threshold, keys, revoked: Vec::new() })
}

/// The time that everybody who builds reproducibly agrees on.
fn source_date_epoch() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let seconds = text.to_str().and_then(|text| text.trim().parse().ok());
    match seconds {
        Some(seconds) => Ok(Some(seconds)),
        None => {
            let what = "SOURCE_DATE_EPOCH is not a number of seconds";
            Err(Error::new(ErrorKind::Usage, what)
                .hinting("set it to seconds since 1970, or unset it")
                .into())
        }
    }
}

fn write_options(args: &WriteArgs) -> Result<WriteOptions> {
    let mut options =
        WriteOptions { level: args.level, sha256: args.sha256, ..WriteOptions::default() };
    if let Some(key) = &args.sign {
        let key: Arc<dyn SealSigner> = Arc::new(super::sign::read_key(key)?);
        options.signer = Some(key);
    }
    if let Some(threads) = args.threads {
        options.threads = threads.into();
    }
    if let Some(kib) = args.frame {
        options.frame_bytes = usize::try_from(kib).unwrap_or(usize::MAX) << 10;
    }
    options.time_s = match args.time.as_deref() {
        None => source_date_epoch()?,
        Some("now") => u64::try_from(options.machine.clock.now_s()).ok(),
        Some(text) => match text.parse() {
            Ok(seconds) => Some(seconds),
            Err(_) => {
                let what = format!("\"{text}\" is not a time");
                let hint = "write seconds since 1970, or now";
                return Err(Error::new(ErrorKind::Usage, what).hinting(hint).into());
            }
        },
    };
    Ok(options)
}

/// What `--exclude` leaves out: a glob without `/` is held against every name, one with `/` against
/// the whole path.
pub(super) struct Excludes {
    names: GlobSet,
    paths: GlobSet,
}

impl Excludes {
    pub(super) fn new(globs: &[String]) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in globs {
            let trimmed = text.trim_end_matches('/');
            let is_path = trimmed.contains('/');
            let glob = GlobBuilder::new(trimmed.trim_start_matches('/'))
                .literal_separator(is_path)
                .build();
            let glob = glob.map_err(|error| {
                Error::new(ErrorKind::Usage, format!("--exclude \"{text}\"")).because(error)
            })?;
            if is_path {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let build = |set: &GlobSetBuilder| {
            set.build().map_err(|error| Error::new(ErrorKind::Usage, "--exclude").because(error))
        };
        Ok(Self { names: build(&names)?, paths: build(&paths)? })
    }

    pub(super) fn matches(&self, key: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let name = key.rsplit(|byte| *byte == b'/').next().unwrap_or(key);
        let path = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
        self.names.is_match(path(name)) || self.paths.is_match(path(key))
    }
}

fn fill(
    args: &WriteArgs,
    append: Option<&AppendArgs>,
    mut writer: Writer,
    output: &mut Output,
    cancelled: &Arc<AtomicBool>,
) -> Result {
    let excludes = Excludes::new(&args.exclude)?;
    let exclude = |key: &[u8], _is_directory: bool| excludes.matches(key);
    let defaults = WriteOptions::default();
    let options = AddOptions {
        record: record_options(args)?,
        follow_top: false,
        exclude: Some(&exclude),
        check_content: append.is_some_and(|args| args.check_content),
        delete_missing: append.is_some_and(|args| args.delete),
        threads: args.threads.map_or(defaults.threads, usize::from),
        cancel: Some(Arc::clone(cancelled)),
    };
    let (from_stdin, paths): (Vec<_>, Vec<_>) =
        args.paths.iter().partition(|path| path.as_os_str() == "-");
    let sources: Vec<Source> = paths
        .into_iter()
        .map(|path| {
            let source = Source::named(path);
            match &args.directory {
                Some(directory) => Source::new(directory.join(path), source.key_prefix),
                None => source,
            }
        })
        .collect();
    refuse_clashes(args, &sources, from_stdin.len())?;
    let bar = output.progress();
    let mut report = AddReport::default();
    if !sources.is_empty() {
        report =
            pefc::archive::add(&mut writer, &sources, &options, &bar).map_err(
                |error| match error.kind() {
                    ErrorKind::NotFound => error.hinting(
                        "check the path; paths begin in the current directory, or in that of -C",
                    ),
                    _ => error,
                },
            )?;
    }
    if !from_stdin.is_empty() {
        let key = read::key(super::args::Space::Path, args.stdin_name.as_ref());
        let content = writer.put_stream(&key, Stdin::new(cancelled)).map_err(|error| {
            if cancelled.load(Ordering::Relaxed) {
                return Error::new(ErrorKind::Interrupted, "interrupted");
            }
            error
        })?;
        report.added_count += 1;
        report.file_count += 1;
        report.content_bytes += content.len;
    }
    let before = writer.stats().generation;
    let stats = writer.finish()?;
    drop(bar);
    tell(args, &report, &stats, before, output)
}

/// Refuses arguments that would get the same key: the last would silently take the others' place.
fn refuse_clashes(args: &WriteArgs, sources: &[Source], stdin_count: usize) -> Result<()> {
    let refuse = |what| {
        let error = Error::new(ErrorKind::Usage, what);
        let hint = "a path gets its last part as key: give the directory instead, or use -C";
        Err(error.hinting(hint).into())
    };
    let mut seen = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.key_prefix.is_empty()) {
        let other = seen.insert(&source.key_prefix, &source.path);
        if let Some(other) = other.filter(|other| **other != source.path) {
            let (one, two) = (other.display(), source.path.display());
            let key = printable(&source.key_prefix);
            return refuse(format!("{one} and {two} would both get the key \"{key}\""));
        }
    }
    if stdin_count > 1 {
        let error = Error::new(ErrorKind::Usage, "standard input (-) is named twice");
        return Err(error.hinting("it can be read once").into());
    }
    let stdin = read::key(super::args::Space::Path, args.stdin_name.as_ref());
    if stdin_count == 1 && seen.keys().any(|key| key.as_slice() == stdin.bytes()) {
        let key = &args.stdin_name;
        let what = format!("standard input and a file would both get the key \"{key}\"");
        return Err(Error::new(ErrorKind::Usage, what)
            .hinting("choose another --stdin-name")
            .into());
    }
    Ok(())
}

fn record_options(args: &WriteArgs) -> Result<RecordOptions> {
    let epoch = source_date_epoch()?.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    Ok(RecordOptions {
        owner: match args.owners {
            Owners::Both => OwnerRecording::Full,
            Owners::Numeric => OwnerRecording::Numeric,
            Owners::None => OwnerRecording::None,
        },
        mtime_max_s: epoch,
        reproducible: args.reproducible,
    })
}

#[derive(Serialize)]
struct JsonWrite<'a> {
    pack: String,
    generation: u64,
    changed: bool,
    added_count: u64,
    unchanged_count: u64,
    deleted_count: u64,
    file_count: u64,
    directory_count: u64,
    content_bytes: u64,
    new_object_count: u64,
    new_object_bytes: u64,
    stored_bytes: u64,
    map_root: String,
    log_root: String,
    problems: Vec<JsonProblem<'a>>,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    #[serde(flatten)]
    key: super::output::JsonKey,
    problem: &'static str,
    message: &'a str,
}

fn tell(
    args: &WriteArgs,
    report: &AddReport,
    stats: &WriteStats,
    before: u64,
    output: &mut Output,
) -> Result {
    let outcome = if report.problems.is_empty() { Outcome::Done } else { Outcome::Partial };
    if output.json() {
        output.object(&JsonWrite {
            pack: args.pack.display().to_string(),
            generation: stats.generation,
            changed: stats.generation != before,
            added_count: report.added_count,
            unchanged_count: report.unchanged_count,
            deleted_count: report.deleted_count,
            file_count: report.file_count,
            directory_count: report.directory_count,
            content_bytes: report.content_bytes,
            new_object_count: stats.new_object_count,
            new_object_bytes: stats.new_object_bytes,
            stored_bytes: stats.stored_bytes,
            map_root: hex(&stats.map_root),
            log_root: hex(&stats.log_root),
            problems: report
                .problems
                .iter()
                .map(|problem| JsonProblem {
                    key: super::output::JsonKey::new(&problem.key),
                    problem: problem.kind.name(),
                    message: &problem.error,
                })
                .collect(),
        })?;
        return Ok(outcome);
    }
    for problem in report.problems.iter().take(WARNINGS_MAX) {
        let key = printable(&problem.key);
        output.warn(&format!("{key}: {}: {}", problem.kind.name(), problem.error));
    }
    for warning in report.portability.iter().take(WARNINGS_MAX) {
        output.warn(&format!("{}: {}", printable(&warning.key), warning.what));
    }
    let shown =
        report.problems.len().min(WARNINGS_MAX) + report.portability.len().min(WARNINGS_MAX);
    let all = report.problems.len() as u64 + report.portability_count;
    if let Some(more) = all.checked_sub(shown as u64).filter(|more| *more > 0) {
        output.warn(&format!("… and {more} more (see --json)"));
    }
    let pack = args.pack.display();
    if stats.generation == before {
        output.note(&format!("{pack}: nothing changed, generation {before} stays"))?;
        return Ok(outcome);
    }
    let files = count(report.file_count, "file");
    let content = size(report.content_bytes);
    let stored = size(stats.stored_bytes);
    let new = size(stats.new_object_bytes);
    // A ratio says something of a whole pack, not of what an append added.
    let share = match before {
        0 if report.content_bytes > stats.stored_bytes => {
            format!(" ({})", ratio(report.content_bytes, stats.stored_bytes))
        }
        _ => String::new(),
    };
    output.note(&format!(
        "{pack}: generation {}, {files} with {content}; {new} new, stored in {stored}{share}",
        stats.generation,
    ))?;
    if report.unchanged_count + report.deleted_count > 0 {
        let unchanged = count(report.unchanged_count, "entry");
        let deleted = count(report.deleted_count, "key");
        output.note(&format!("  {unchanged} unchanged, {deleted} deleted"))?;
    }
    output.note(&format!("  map root {}", hex(&stats.map_root)))?;
    Ok(outcome)
}
