//! `verify` and `recover`.

use super::args::{RecoverArgs, VerifyArgs};
use super::output::{JsonKey, Output, count, hex, printable, size};
use super::sign::{read_file, read_policy};
use super::{Outcome, Result};
use pefc::disk::{is_locked, is_same_file};
use pefc::format::Rule;
use pefc::proof::{Checkpoint, Note};
use pefc::{
    Authenticated, Error, ErrorKind, Pack, Problem, RecoverOptions, VerifyLevel, VerifyOptions,
    VerifyReport, WriteOptions,
};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// More lines than this say nothing new.
const LINES_MAX: usize = 20;

#[derive(Serialize)]
struct JsonVerify<'a> {
    intact: bool,
    authenticated: bool,
    signed_generation: Option<u64>,
    origin: Option<String>,
    signers: Vec<String>,
    level: &'static str,
    problems: Vec<JsonProblem<'a>>,
    lost_keys: Vec<JsonKey>,
    torn_bytes: u64,
    has_writer: bool,
    checked: JsonChecked,
    not_checked: &'a [&'static str],
    generation: Option<u64>,
    map_root: Option<String>,
    log_root: Option<String>,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    rule: Option<&'static str>,
    offset: u64,
    what: &'a str,
}

#[derive(Serialize)]
struct JsonChecked {
    file_bytes: u64,
    segment_count: u64,
    frame_count: u64,
    object_count: u64,
    object_bytes: u64,
    entry_count: u64,
    generation_count: u64,
    index_count: u64,
    key_count: u64,
}

pub(super) fn verify(args: &VerifyArgs, output: &mut Output) -> Result {
    let pack = Pack::open(&args.pack)?;
    let mut options = VerifyOptions::default();
    if args.quick {
        options.level = VerifyLevel::Quick;
    }
    if let Some(threads) = args.threads {
        options.threads = threads.into();
    }
    let mut has_writer = pack.torn_bytes() > 0 && is_locked(&args.pack);
    let report = pack.verify(&options)?;
    // While a writer is at work, the bytes behind the last commit are its own business. Without one
    // nobody can tell an unfinished commit from a damaged one.
    // Asked only if the tail wants an explanation, since asking takes the lock for a moment.
    has_writer |= report.torn_bytes > 0 && is_locked(&args.pack);
    let is_torn = report.torn_bytes > 0 && !has_writer;
    let is_intact = report.is_intact() && !is_torn;
    let mut report = report;
    // Signatures say something of a pack that is what it claims to be, and of no other.
    let trusted = match (&args.trust, is_intact) {
        (Some(trust), true) => Some(authenticate(args, trust, &pack)?),
        _ => None,
    };
    if trusted.is_some() {
        report.not_checked.retain(|what| !what.starts_with("authenticity"));
    }
    let authenticated = trusted.as_ref().is_some_and(|trusted| trusted.is_newest);
    if output.json() {
        let signed = trusted.as_ref();
        let signers = signed.map(|found| found.trusted.signers.iter().map(|s| s.name.clone()));
        output.object(&JsonVerify {
            authenticated,
            signed_generation: signed.map(|found| found.generation.number),
            origin: signed.map(|found| found.trusted.checkpoint.origin.clone()),
            signers: signers.map_or_else(Vec::new, Iterator::collect),
            ..json(&report, has_writer)
        })?;
    } else {
        print(args, &report, has_writer, authenticated, output)?;
        if let Some(found) = &trusted {
            print_trust(found, output)?;
        }
    }
    if is_intact {
        expected(args, &pack)?;
    }
    if let (Some(found), false) = (&trusted, args.no_memory) {
        super::known::check(&pack, &found.trusted.checkpoint, output)?;
    }
    Ok(match (is_intact, authenticated) {
        (true, true) => Outcome::Done,
        (true, false) => Outcome::NotAuthenticated,
        (false, _) => Outcome::Damaged,
    })
}

fn authenticate(args: &VerifyArgs, trust: &Path, pack: &Pack) -> Result<Authenticated> {
    let policy = read_policy(trust, args.origin.as_deref())?;
    let found = pack.authenticate(&policy).map_err(|error| match error.kind() {
        ErrorKind::Untrusted => error.hinting(
            "it is intact, but not signed by whom you trust; `pefc log` shows its generations",
        ),
        _ => error,
    });
    Ok(found?)
}

fn print_trust(found: &Authenticated, output: &mut Output) -> Result<()> {
    let checkpoint = &found.trusted.checkpoint;
    let number = found.generation.number;
    for signer in &found.trusted.signers {
        let time = signer.time_s.map_or_else(String::new, |time| format!(", seen at {time}"));
        output.note(&format!("generation {number} signed by {}{time}", signer.name))?;
    }
    output.note(&format!("as log {} at size {}", checkpoint.origin, checkpoint.head.size))?;
    if !found.is_newest {
        output.line(&format!(
            "what follows generation {number} is signed by nobody who is trusted"
        ))?;
    }
    Ok(())
}

/// Holds the pack to what is known of it from elsewhere.
fn expected(args: &VerifyArgs, pack: &Pack) -> Result<()> {
    if let Some(root) = &args.expect_root {
        let found = pack.newest_generation()?.map(|generation| hex(&generation.map_root));
        if found.as_deref() != Some(root.to_ascii_lowercase().as_str()) {
            let found = found.as_deref().unwrap_or("none");
            let what = format!("the map root is {found}, not {root}");
            let error = Error::new(ErrorKind::Rollback, what).at(&args.pack);
            return Err(error.hinting("`pefc diff` shows what changed").into());
        }
    }
    if let Some(known) = &args.known {
        let bytes = read_file(known)?;
        let text = match Note::parse(&bytes) {
            Ok(note) => note.text().to_owned(),
            Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let old = Checkpoint::parse(&text).map_err(|error| Error::from(error).at(known))?;
        pack.check_known(&old.head)?;
    }
    Ok(())
}

fn json(report: &VerifyReport, has_writer: bool) -> JsonVerify<'_> {
    let checked = &report.checked;
    let problem = |problem: &'_ Problem| problem.rule.map(|rule| rule.name());
    JsonVerify {
        intact: report.is_intact(),
        authenticated: false,
        signed_generation: None,
        origin: None,
        signers: Vec::new(),
        level: if report.level == VerifyLevel::Quick { "quick" } else { "full" },
        problems: report
            .problems
            .iter()
            .map(|p| JsonProblem { rule: problem(p), offset: p.offset, what: &p.what })
            .collect(),
        lost_keys: report.lost_keys.iter().map(|(_, key)| JsonKey::new(key)).collect(),
        torn_bytes: report.torn_bytes,
        has_writer,
        checked: JsonChecked {
            file_bytes: checked.file_bytes,
            segment_count: checked.segment_count,
            frame_count: checked.frame_count,
            object_count: checked.object_count,
            object_bytes: checked.object_bytes,
            entry_count: checked.entry_count,
            generation_count: checked.generation_count,
            index_count: checked.index_count,
            key_count: checked.key_count,
        },
        not_checked: &report.not_checked,
        generation: report.generation.as_ref().map(|generation| generation.number),
        map_root: report.generation.as_ref().map(|generation| hex(&generation.map_root)),
        log_root: report.generation.as_ref().map(|generation| hex(&generation.log_root)),
    }
}

fn print(
    args: &VerifyArgs,
    report: &VerifyReport,
    has_writer: bool,
    authenticated: bool,
    output: &mut Output,
) -> Result<()> {
    let path = args.pack.display();
    // A damaged frame takes many contents with it: the frame is the damage, the lost keys below are
    // what it costs, and each content by name is for --json.
    let is_missing = |problem: &&Problem| problem.rule == Some(Rule::MissingObject);
    let missing = report.problems.iter().filter(is_missing).count();
    let others = report.problems.len() - missing;
    let fold_missing = others > 0 && missing > 1;
    let shown = report.problems.iter().filter(|p| !(fold_missing && is_missing(p)));
    for problem in shown.take(LINES_MAX) {
        let rule = problem.rule.map_or("io", |rule| rule.name());
        output.line(&format!("damage[{rule}] at byte {}: {}", problem.offset, problem.what))?;
    }
    let listed = if fold_missing { others } else { report.problems.len() };
    if let Some(more) = listed.checked_sub(LINES_MAX).filter(|more| *more > 0) {
        output.line(&format!("… and {more} more"))?;
    }
    if fold_missing {
        let entries = count(missing as u64, "log entry");
        output
            .line(&format!("the content of {entries} can't be read for it (--json names each)"))?;
    }
    for (_, key) in report.lost_keys.iter().take(LINES_MAX) {
        output.line(&format!("lost: {}", printable(key)))?;
    }
    if let Some(more) = report.lost_keys.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        output.line(&format!("… and {more} more"))?;
    }
    let checked = &report.checked;
    let frames = count(checked.frame_count, "frame");
    output.note(&format!("checked {} in {frames}", size(checked.file_bytes)))?;
    if report.level == VerifyLevel::Full {
        output.note(&format!(
            "        {} ({}), {}, {}, {}",
            count(checked.object_count, "object"),
            size(checked.object_bytes),
            count(checked.entry_count, "log entry"),
            count(checked.generation_count, "generation"),
            count(checked.index_count, "footer"),
        ))?;
    }
    for what in &report.not_checked {
        output.note(&format!("not checked: {what}"))?;
    }
    if let Some(generation) = &report.generation {
        output.note(&format!(
            "generation {}  map root {}",
            generation.number,
            hex(&generation.map_root)
        ))?;
    }
    let torn = size(report.torn_bytes);
    if has_writer {
        output
            .line(&format!("{path}: a writer is at work; {torn} of its next commit not checked"))?;
    }
    if report.is_intact() && report.torn_bytes > 0 && !has_writer {
        output.line(&format!(
            "{path}: UNFINISHED: every commit is intact, but {torn} follow the last one"
        ))?;
        output.note("a writer was interrupted there, or a finished commit is damaged")?;
        output.note("next: append to the pack, which cuts them off, or restore another copy")?;
    } else if report.is_intact() {
        let what = if report.level == VerifyLevel::Full { "" } else { "stored bytes " };
        let signed = if authenticated { "intact, signed" } else { "intact, not authenticated" };
        output.line(&format!("{path}: {what}{signed}"))?;
    } else {
        let problems = if fold_missing { others } else { report.problems.len() };
        let problems = count(problems as u64, "problem");
        let lost = count(report.lost_keys.len() as u64, "live key");
        output.line(&format!("{path}: DAMAGED: {problems}, {lost} lost"))?;
        output
            .note("next: restore it from another copy, or write what is intact to a new pack:")?;
        output.note(&format!("      pefc recover {path} -o NEW.pefc"))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct JsonRecover<'a> {
    intact_frame_count: u64,
    damage: Vec<JsonDamage<'a>>,
    recovered_key_count: u64,
    lost_keys: Vec<JsonKey>,
    log_is_whole: bool,
    orphan_count: u64,
    map_root: String,
}

#[derive(Serialize)]
struct JsonDamage<'a> {
    offset: u64,
    len: u64,
    what: &'a str,
}

pub(super) fn recover(
    args: &RecoverArgs,
    output: &mut Output,
    cancelled: &Arc<AtomicBool>,
) -> Result {
    if is_same_file(&args.bad, &args.output) {
        let what = "the new pack would replace the damaged one";
        let error = pefc::Error::new(pefc::ErrorKind::Usage, what).at(&args.output);
        return Err(error.hinting("choose another name: a damaged pack is only read").into());
    }
    let write = WriteOptions { replace: args.force, ..WriteOptions::default() };
    let cancel = Some(Arc::clone(cancelled));
    let options = RecoverOptions { write, cancel, ..RecoverOptions::default() };
    let report = pefc::recover(&args.bad, &args.output, &options)?;
    if output.json() {
        output.object(&JsonRecover {
            intact_frame_count: report.intact_frame_count,
            damage: report
                .damage
                .iter()
                .map(|d| JsonDamage { offset: d.offset, len: d.len, what: &d.what })
                .collect(),
            recovered_key_count: report.recovered_key_count,
            lost_keys: report.lost_keys.iter().map(|(_, key)| JsonKey::new(key)).collect(),
            log_is_whole: report.log_is_whole,
            orphan_count: report.orphan_count,
            map_root: hex(&report.stats.map_root),
        })?;
    } else {
        for damage in &report.damage {
            let bytes = size(damage.len);
            output.line(&format!("damage at byte {}: {bytes}, {}", damage.offset, damage.what))?;
        }
        for (_, key) in &report.lost_keys {
            output.line(&format!("lost: {}", printable(key)))?;
        }
        if !report.log_is_whole {
            output.line("part of the log is lost: keys may be missing that nothing tells of")?;
        }
        let keys = count(report.recovered_key_count, "key");
        let orphans = count(report.orphan_count, "content");
        let new = args.output.display();
        let orphans = match report.orphan_count {
            0 => String::new(),
            _ => format!(", {orphans} without a key in {}", pefc::LOST_AND_FOUND),
        };
        let lost = match report.lost_keys.len() as u64 {
            0 => String::new(),
            lost => format!(", {} lost", count(lost, "key")),
        };
        output.note(&format!("{new}: {keys} recovered{orphans}{lost}"))?;
    }
    let whole = report.lost_keys.is_empty() && report.log_is_whole;
    Ok(if whole { Outcome::Done } else { Outcome::Partial })
}
