//! Heads of logs that were verified before, so that a pack which was cut back or rewritten since is
//! noticed: one checkpoint for each log, under the state directory of the user.

use super::Result;
use super::output::{Output, hex};
use pefc::disk::{Machine, create_dirs, parent_dir, read_small};
use pefc::proof::Checkpoint;
use pefc::{Error, ErrorKind, Pack};
use std::path::{Path, PathBuf};

/// A checkpoint has a few lines.
const BYTES_MAX: u64 = 1 << 16;

/// Where the head of a log is remembered; nowhere for a user without a home.
fn place(origin: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    // An origin may hold slashes and more, so the file is named by its hash.
    let name = hex(&pefc::tree::sha256(origin.as_bytes()));
    Some(state.join("pefc/known").join(format!("{name}.checkpoint")))
}

/// Holds a pack to the head of its log that is remembered, and remembers the new one. A failure to
/// remember is a warning: it says nothing of the pack.
pub(super) fn check(pack: &Pack, newest: &Checkpoint, output: &Output) -> Result<()> {
    let Some(path) = place(&newest.origin) else {
        output.warn("there is no home directory: no head of the log is remembered");
        return Ok(());
    };
    let old = match read_small(&*Machine::real().vfs, &path, BYTES_MAX) {
        Ok(bytes) => Some(parse(&bytes, &newest.origin, &path)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("reading the remembered head", &path, error).into()),
    };
    if let Some(old) = &old {
        let hint = "a newer state of this log was seen here before; --no-memory passes over that";
        pack.check_known(&old.head).map_err(|error| error.hinting(hint))?;
    }
    if old.is_none_or(|old| old.head.size < newest.head.size)
        && let Err(error) = remember(&path, newest.to_string().as_bytes())
    {
        output.warn(&format!("{}: the head is not remembered: {error}", path.display()));
    }
    Ok(())
}

fn parse(bytes: &[u8], origin: &str, path: &Path) -> Result<Checkpoint> {
    let text = String::from_utf8_lossy(bytes);
    let found = Checkpoint::parse(&text).ok().filter(|found| found.origin == origin);
    Ok(found.ok_or_else(|| {
        Error::new(ErrorKind::Refused, "it is not the remembered head of this log")
            .at(path)
            .hinting("if you know why, remove this file; then nothing is remembered")
    })?)
}

/// Replaces the file at once: whoever reads it sees the old head or the new one.
fn remember(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let (machine, dir) = (Machine::real(), parent_dir(path));
    create_dirs(&dir)?;
    let mut random = [0; 8];
    machine.random.fill(&mut random)?;
    let temporary = path.with_extension(format!("{}.tmp", hex(&random)));
    pefc::disk::write_new(&*machine.vfs, &temporary, bytes, false)?;
    let renamed = machine.vfs.rename(&temporary, path, true);
    renamed.and_then(|()| machine.vfs.sync_dir(&dir)).inspect_err(|_| {
        let _ = machine.vfs.remove_file(&temporary); // the error says more than a second one
    })
}
