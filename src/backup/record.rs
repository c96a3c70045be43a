//! The file of a snapshot (`spec/backup.md`, "Snapshots"): a line of JSON, and a line with its BLAKE3.

use crate::disk::{Machine, Vfs, parent_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::retention;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The layout that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Longest file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How names of snapshot files end.
const SUFFIX: &str = ".snapshot";

/// Storages as they were at one moment each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Layout of this record.
    version: u32,
    /// Its name: the time it was begun, and its number.
    pub id: String,
    /// Its place among the snapshots that were ever made, from 1: unlike its time it tells which one
    /// is newer though the clock was set, or both were made within a second.
    pub number: u64,
    /// When it was begun, in seconds since 1970.
    pub time_s: i64,
    /// Storages by name.
    pub storages: BTreeMap<String, SavedStorage>,
    /// When it was verified last, and what that found. Making it counts.
    pub check: Check,
}

/// One storage in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedStorage {
    /// Where it was.
    pub location: String,
    /// The state it was in.
    pub token: String,
    /// How many keys it had.
    pub key_count: u64,
    /// How many bytes they stood for, each key by itself.
    pub value_bytes: u64,
    /// Name of its ref list.
    pub refs: String,
}

impl SavedStorage {
    pub(super) fn refs_name(&self) -> Result<Hash> {
        self.refs
            .parse()
            .map_err(|_| Error::new(ErrorKind::Corrupt, "a snapshot names no ref list"))
    }
}

/// What verifying a snapshot found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// When, in seconds since 1970.
    pub time_s: i64,
    /// How many keys can't be restored, of those that were looked at.
    pub problem_count: u64,
}

impl Snapshot {
    pub(super) fn new(
        number: u64,
        time_s: i64,
        storages: BTreeMap<String, SavedStorage>,
        checked_s: i64,
    ) -> Self {
        let check = Check { time_s: checked_s, problem_count: 0 };
        let id = new_id(number, time_s);
        Self { version: VERSION, id, number, time_s, storages, check }
    }

    /// Whether nothing is known to be wrong with it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.check.problem_count == 0
    }

    /// As [`retention`] sees it.
    #[must_use]
    pub fn for_retention(&self) -> retention::Snapshot {
        retention::Snapshot { id: self.id.clone(), time_s: self.time_s, good: self.is_good() }
    }

    fn encode(&self) -> String {
        let json = serde_json::to_string(self).expect("text and numbers are JSON");
        let name = Hash::of(json.as_bytes());
        format!("{json}\n{name}\n")
    }
}

/// The name of the `number`th snapshot, which says when it was begun.
pub(super) fn new_id(number: u64, time_s: i64) -> String {
    let time = jiff::Timestamp::from_second(time_s).map_or_else(
        |_| format!("{time_s}"), // a clock far out; what it says is kept
        |time| time.strftime("%Y%m%dT%H%M%SZ").to_string(),
    );
    format!("{time}-{number:06}")
}

/// The number in a name.
pub(super) fn number_of(id: &str) -> u64 {
    id.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

pub(super) fn file_name(id: &str) -> String {
    format!("{id}{SUFFIX}")
}

/// The snapshot that a file is of; `None` for a temporary one.
pub(super) fn id_of_file(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX).filter(|id| !id.starts_with('.'))
}

/// Reads a snapshot; `None` if its file is gone.
pub(super) fn read(vfs: &dyn Vfs, path: &Path, id: &str) -> Result<Option<Snapshot>> {
    let failed = |error| Error::io("reading a snapshot", path, error);
    let file = match vfs.open_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let len = file.len().map_err(failed)?;
    if len > FILE_BYTES_MAX {
        return Err(damaged("it is longer than any").at(path));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)]; // at most FILE_BYTES_MAX
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    decode(&bytes, id).map(Some).map_err(|error| error.at(path))
}

fn decode(bytes: &[u8], id: &str) -> Result<Snapshot> {
    let text = str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
    let lines = text.strip_suffix('\n').and_then(|text| text.split_once('\n'));
    let (json, name) = lines.ok_or_else(|| damaged("it has not two lines"))?;
    if name != Hash::of(json.as_bytes()).to_string() {
        return Err(damaged("its second line is not the BLAKE3 of the first"));
    }
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    match serde_json::from_str::<Versioned>(json) {
        Ok(Versioned { version: VERSION }) => {}
        Ok(Versioned { version }) => {
            let what = format!("a snapshot of version {version}, and only {VERSION} is known");
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Err(error) => return Err(damaged("it has no version").because(error)),
    }
    let snapshot: Snapshot =
        serde_json::from_str(json).map_err(|error| damaged("").because(error))?;
    match snapshot.id == id {
        true => Ok(snapshot),
        false => Err(damaged("it has the name of another")),
    }
}

fn damaged(why: &str) -> Error {
    let what = match why {
        "" => "the snapshot's file is damaged".to_owned(),
        _ => format!("the snapshot's file is damaged: {why}"),
    };
    Error::new(ErrorKind::Corrupt, what).hinting(
        "other snapshots can be restored; nothing is pruned until the file is put right or removed \
         with `pefc backup prune --forget`",
    )
}

/// Writes the file of a snapshot, atomically and durably.
pub(super) fn write(machine: &Machine, path: &Path, snapshot: &Snapshot) -> Result<()> {
    let (vfs, text) = (&*machine.vfs, snapshot.encode());
    let failed = |error| Error::io("writing a snapshot", path, error);
    let temporary = path.with_file_name(format!(".{}", file_name(&snapshot.id)));
    let file = match vfs.create_new(&temporary) {
        // Of a run that was killed; whoever is here has the lock.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            vfs.remove_file(&temporary).and_then(|()| vfs.create_new(&temporary))
        }
        file => file,
    };
    file.and_then(|file| {
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        vfs.rename(&temporary, path, true)?;
        vfs.sync_dir(&parent_dir(path))
    })
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let saved = SavedStorage {
            location: "file:/data/storage".to_owned(),
            token: "t".to_owned(),
            key_count: 2,
            value_bytes: 3,
            refs: Hash::of(b"x").to_string(),
        };
        let storages = BTreeMap::from([("file".to_owned(), saved)]);
        Snapshot::new(1, 1_795_392_000, storages, 7)
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let snapshot = snapshot();
        let text = snapshot.encode();
        assert_eq!(decode(text.as_bytes(), &snapshot.id).unwrap(), snapshot);
        for at in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(&bytes, &snapshot.id).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        for len in 0..text.len() {
            assert!(decode(&text.as_bytes()[..len], &snapshot.id).is_err());
        }
        assert!(decode(text.as_bytes(), "another").is_err());
    }

    #[test]
    fn a_later_version_is_not_guessed_at() {
        let json = r#"{"version":2,"what":"ever"}"#;
        let text = format!("{json}\n{}\n", Hash::of(json.as_bytes()));
        assert_eq!(decode(text.as_bytes(), "x").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
