//! `list`, `cat` and `log`.

use super::args::{CatArgs, ListArgs, LogArgs, Space};
use super::output::{JsonKey, Output, count, exact_time, hex, mode, number, printable, size, time};
use super::{Outcome, Result};
use pefc::format::entry::{FileKind, Put, SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM};
use pefc::{Error, ErrorKind, Key, ObjectReader, Pack};
use serde::Serialize;
use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Opens a pack at a generation, or as it is now, and tells of an unfinished commit.
pub(super) fn open(path: &Path, at: Option<u64>, output: &Output) -> Result<Pack> {
    let pack = Pack::open(path)?;
    if pack.torn_bytes() > 0 {
        let torn = size(pack.torn_bytes());
        let path = path.display();
        output.warn(&format!(
            "{path}: {torn} of an unfinished commit at the end are not part of the pack"
        ));
    }
    match at {
        Some(number) => Ok(pack.at_generation(number)?),
        None => Ok(pack),
    }
}

/// A key as the user typed it: trailing slashes are a habit, not part of a path.
pub(super) fn key(space: Space, typed: &OsStr) -> Key<'_> {
    let mut bytes = typed.as_bytes();
    let space = match space {
        Space::Path => {
            while let [rest @ .., b'/'] = bytes
                && !rest.is_empty()
            {
                bytes = rest;
            }
            bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
            SPACE_PATH
        }
        Space::Storage => SPACE_STORAGE,
        Space::System => SPACE_SYSTEM,
    };
    Key::new(space, bytes)
}

/// An entry in JSON.
#[derive(Serialize)]
struct JsonEntry {
    #[serde(flatten)]
    key: JsonKey,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl JsonEntry {
    fn new(put: &Put<'_>) -> Self {
        let attributes = &put.attributes;
        Self {
            key: JsonKey::new(&put.key),
            kind: attributes.kind.name(),
            size: put.content.map(|content| content.len),
            b3: put.content.map(|content| content.name.to_string()),
            sha256: put.sha256.map(|hash| hex(&hash)),
            mode: attributes.mode.map(|mode| format!("{mode:04o}")),
            uid: attributes.uid,
            gid: attributes.gid,
            user: attributes.user.as_deref().map(str::to_owned),
            group: attributes.group.as_deref().map(str::to_owned),
            mtime: attributes.mtime.map(exact_time),
            target: attributes.target.as_deref().map(printable),
        }
    }
}

pub(super) fn list(args: &ListArgs, output: &mut Output) -> Result {
    let pack = open(&args.pack, args.at, output)?;
    let space = key(args.space, OsStr::new("")).space();
    let prefix = args.prefix.as_deref().unwrap_or_default().as_bytes();
    let prefix = prefix.strip_prefix(b"./").unwrap_or(prefix);
    let mut found = false;
    if output.json() || (args.long && !args.null) {
        for put in pack.entries_under(Key::new(space, prefix)) {
            found = true;
            if output.json() {
                output.object(&JsonEntry::new(&put?))?;
            } else {
                output.line(&long_line(&put?))?;
            }
        }
    } else {
        for key in pack.keys_under(Key::new(space, prefix)) {
            found = true;
            if args.null {
                output.bytes(&key?)?;
                output.bytes(b"\0")?;
            } else {
                output.line(&printable(&key?))?;
            }
        }
    }
    if !found && !prefix.is_empty() {
        let what = format!("no key begins with \"{}\"", printable(prefix));
        let error = Error::new(ErrorKind::NotFound, what).at(&args.pack);
        return Err(error.hinting("without a prefix, `pefc list` shows all keys").into());
    }
    Ok(Outcome::Done)
}

fn long_line(put: &Put<'_>) -> String {
    let attributes = &put.attributes;
    let id = |name: Option<&str>, id: Option<u32>| match (name, id) {
        (Some(name), _) => printable(name.as_bytes()),
        (None, Some(id)) => id.to_string(),
        (None, None) => "-".to_owned(),
    };
    let user = id(attributes.user.as_deref(), attributes.uid);
    let group = id(attributes.group.as_deref(), attributes.gid);
    let bytes = put.content.map_or_else(|| "-".to_owned(), |content| content.len.to_string());
    let mtime = attributes.mtime.map_or_else(|| "-".to_owned(), |mtime| time(mtime.seconds));
    let name = put.content.map_or_else(
        || "-".repeat(16),
        |content| content.name.to_string().get(..16).unwrap_or_default().to_owned(),
    );
    let arrow = match (attributes.kind, &attributes.target) {
        (FileKind::Symlink, Some(target)) => format!(" -> {}", printable(target)),
        (FileKind::HardLink, Some(target)) => format!(" link to {}", printable(target)),
        _ => String::new(),
    };
    let mode = mode(put);
    let key = printable(&put.key);
    format!("{mode} {user:>8} {group:<8} {bytes:>12} {mtime:<20} {name} {key}{arrow}")
}

pub(super) fn cat(args: &CatArgs) -> Result {
    let pack = Pack::open(&args.pack)?;
    let pack = match args.at {
        Some(number) => pack.at_generation(number)?,
        None => pack,
    };
    let range = args.bytes.as_deref().map(parse_range).transpose()?;
    let mut out = std::io::stdout().lock();
    if let Some(name) = &args.name {
        let reader = pack.object_reader(name)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no content is named {name}")).at(&args.pack)
        })?;
        copy(reader, range, &mut out)?;
    }
    for typed in &args.keys {
        let key = key(args.space, typed);
        let reader = match pack.reader(&key)? {
            Some(reader) => reader,
            None => follow(&pack, &key, &args.pack)?,
        };
        copy(reader, range, &mut out)?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}

/// The content of a hard link; for everything else that has none, the reason.
fn follow<'p>(pack: &'p Pack, key: &Key<'_>, path: &Path) -> Result<ObjectReader<'p>> {
    let put = pack.entry(key)?;
    if let Some(put) = &put
        && put.attributes.kind == FileKind::HardLink
        && let Some(target) = &put.attributes.target
        && let Some(reader) = pack.reader(Key::path(target.as_ref()))?
    {
        return Ok(reader);
    }
    let what = match put {
        Some(put) => format!("{key} is a {} and has no content", put.attributes.kind.name()),
        None => {
            let error = Error::new(ErrorKind::NotFound, format!("there is no key {key}")).at(path);
            return Err(error.hinting("`pefc list` shows all keys").into());
        }
    };
    let error = Error::new(ErrorKind::NotFound, what).at(path);
    Err(error
        .hinting("`pefc extract` restores it; `pefc list PACK PREFIX` shows what is in it")
        .into())
}

type ByteRange = (u64, Option<u64>);

fn parse_range(text: &str) -> Result<ByteRange> {
    let bounds = text.split_once("..").and_then(|(start, end)| {
        let number = |text: &str| {
            if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
        };
        Some((number(start)?.unwrap_or(0), number(end)?))
    });
    match bounds {
        Some((start, end)) if end.is_none_or(|end| end >= start) => Ok((start, end)),
        _ => {
            let what = format!("\"{text}\" is not a range of bytes");
            Err(Error::new(ErrorKind::Usage, what)
                .hinting("write START..END, such as 0..100")
                .into())
        }
    }
}

fn copy(
    mut reader: ObjectReader<'_>,
    range: Option<ByteRange>,
    out: &mut impl Write,
) -> Result<()> {
    let Some((start, end)) = range else {
        let mut failed = None;
        let copied = reader.copy_to(|part| {
            out.write_all(part).map_err(|error| {
                failed = Some(error);
                Error::new(ErrorKind::Io, "standard output")
            })
        });
        return match (failed, copied) {
            (Some(error), _) => Err(error.into()),
            (None, copied) => copied.map(drop).map_err(Into::into),
        };
    };
    reader.seek(SeekFrom::Start(start))?;
    let len = end.unwrap_or(u64::MAX) - start;
    let mut limited = reader.take(len);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = limited.read(&mut buffer).map_err(|error| match error.downcast::<Error>() {
            Ok(error) => super::Failure::Pefc(error),
            Err(error) => super::Failure::Stream(error),
        })?;
        if read == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..read])?;
    }
}

#[derive(Serialize)]
struct JsonGeneration {
    generation: u64,
    time: Option<u64>,
    log_size: u64,
    log_root: String,
    map_root: String,
    object_count: u64,
    object_bytes: u64,
    key_count: u64,
    pack_bytes: u64,
}

pub(super) fn log(args: &LogArgs, output: &mut Output) -> Result {
    let pack = open(&args.pack, None, output)?;
    for generation in pack.generations()? {
        let key_count = generation.map_size.saturating_sub(generation.object_count);
        if output.json() {
            output.object(&JsonGeneration {
                generation: generation.number,
                time: generation.time_s,
                log_size: generation.log_size,
                log_root: hex(&generation.log_root),
                map_root: hex(&generation.map_root),
                object_count: generation.object_count,
                object_bytes: generation.object_bytes,
                key_count,
                pack_bytes: generation.end,
            })?;
            continue;
        }
        let when = generation.time_s.and_then(|seconds| i64::try_from(seconds).ok());
        let when = when.map_or_else(|| "no time recorded".to_owned(), time);
        output.line(&format!("generation {}  {when}", generation.number))?;
        let keys = count(key_count, "key");
        let contents = count(generation.object_count, "content");
        let bytes = size(generation.object_bytes);
        output.line(&format!("  {keys}, {contents} of {bytes}; pack {}", size(generation.end)))?;
        output.line(&format!("  map root {}", hex(&generation.map_root)))?;
        let entries = number(generation.log_size);
        output.line(&format!("  log root {} ({entries} entries)", hex(&generation.log_root)))?;
    }
    if pack.generation() == 0 {
        output.note("no generation yet: the log was never sealed")?;
    }
    Ok(Outcome::Done)
}
