//! `diff`.

use super::args::DiffArgs;
use super::output::{JsonKey, Output, printable};
use super::write::Excludes;
use super::{Outcome, Result, read};
use pefc::Pack;
use pefc::archive::{Change, ChangeKind, Changed, RecordOptions, Side, Source};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct JsonChange {
    change: &'static str,
    #[serde(flatten)]
    key: JsonKey,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    what: Vec<&'static str>,
}

/// One side, opened.
enum Opened {
    Pack(Box<Pack>),
    Disk(Source),
}

impl Opened {
    fn open(path: &Path, at: Option<u64>, output: &Output) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Disk(Source::named(path)));
        }
        Ok(Self::Pack(Box::new(read::open(path, at, output)?)))
    }

    fn side<'a>(&'a self, record: &'a RecordOptions) -> Side<'a> {
        match self {
            Self::Pack(pack) => Side::Pack(pack),
            Self::Disk(source) => Side::Disk(source, record),
        }
    }
}

pub(super) fn diff(args: &DiffArgs, output: &mut Output) -> Result {
    let old = Opened::open(&args.old, args.at, output)?;
    let new = Opened::open(&args.new, args.new_at, output)?;
    let excludes = Excludes::new(&args.exclude)?;
    let record = RecordOptions::default();
    let mut changes = pefc::archive::diff(old.side(&record), new.side(&record))?;
    let mut found = false;
    for change in changes.by_ref() {
        let change = change?;
        if is_excluded(&excludes, &change.key) {
            continue;
        }
        found = true;
        print(&change, output)?;
    }
    for problem in changes.problems() {
        let key = printable(&problem.key);
        output.warn(&format!("{key}: {}: {}", problem.kind.name(), problem.error));
    }
    Ok(if found || !changes.problems().is_empty() { Outcome::Partial } else { Outcome::Done })
}

/// Whether a glob matches the key or a directory that it is in.
fn is_excluded(excludes: &Excludes, key: &[u8]) -> bool {
    let ends = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    ends.chain([key.len()]).any(|end| excludes.matches(&key[..end]))
}

fn print(change: &Change, output: &mut Output) -> Result<()> {
    let (word, sign, what) = match &change.kind {
        ChangeKind::Added => ("added", '+', Vec::new()),
        ChangeKind::Removed => ("removed", '-', Vec::new()),
        ChangeKind::Changed(changed) => ("changed", 'M', words(changed)),
    };
    if output.json() {
        output.object(&JsonChange { change: word, key: JsonKey::new(&change.key), what })?;
        return Ok(());
    }
    let key = printable(&change.key);
    if what.is_empty() || what == ["content"] {
        output.line(&format!("{sign} {key}"))?;
    } else {
        output.line(&format!("{sign} {key} ({})", what.join(", ")))?;
    }
    Ok(())
}

fn words(changed: &Changed) -> Vec<&'static str> {
    [
        (changed.content, "content"),
        (changed.kind, "kind"),
        (changed.mode, "mode"),
        (changed.owner, "owner"),
        (changed.mtime, "mtime"),
        (changed.target, "target"),
    ]
    .into_iter()
    .filter_map(|(is, word)| is.then_some(word))
    .collect()
}
