//! Files of a store besides segments: their names, their texts, and how they are written
//! (`spec/store.md`).

use crate::disk::{File, LockError, Machine, Vfs, parent_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// First line of `STORE`.
const STORE_LINE: &str = "pefc content store v1";
/// First line of `condemned`.
const CONDEMNED_LINE: &str = "pefc condemned v1";
/// First line of a file in `roots/`.
const ROOT_LINE: &str = "pefc root v1";
/// A file of the store besides segments is no longer than this.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Where the parts of a store are.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) dir: PathBuf,
}

impl Paths {
    pub(super) fn segments(&self) -> PathBuf {
        self.dir.join("segments")
    }

    pub(super) fn sessions(&self) -> PathBuf {
        self.dir.join("sessions")
    }

    pub(super) fn roots(&self) -> PathBuf {
        self.dir.join("roots")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.dir.join("STORE")
    }

    pub(super) fn condemned(&self) -> PathBuf {
        self.dir.join("condemned")
    }

    pub(super) fn gc_lock(&self) -> PathBuf {
        self.dir.join("gc.lock")
    }

    pub(super) fn segment(&self, name: &str) -> PathBuf {
        self.segments().join(name)
    }
}

/// Whether a file in `segments/` is one: 16 hexadecimal digits and `.pefc`.
pub(super) fn is_segment_name(name: &str) -> bool {
    let stem = name.strip_suffix(".pefc");
    stem.is_some_and(|stem| stem.len() == 16 && is_hex(stem))
}

/// Whether a file in `sessions/` is one: 16 hexadecimal digits.
pub(super) fn is_session_name(name: &str) -> bool {
    name.len() == 16 && is_hex(name)
}

/// Whether a file is one that was being made when its maker died, unless its maker still has it.
pub(super) fn is_temporary_name(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Sixteen random hexadecimal digits.
pub(super) fn random_hex(machine: &Machine, dir: &Path) -> Result<String> {
    let mut bytes = [0; 8];
    machine.random.fill(&mut bytes).map_err(|error| Error::io("random bytes", dir, error))?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// What a collection has published last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Condemned {
    /// Counts publications; 0 before the first.
    pub(super) epoch: u64,
    /// Segments that no one may rely on. Empty once they are gone.
    pub(super) segments: BTreeSet<String>,
}

impl Condemned {
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{CONDEMNED_LINE}\nepoch {}\n", self.epoch);
        for name in &self.segments {
            text.push_str(name);
            text.push('\n');
        }
        let check = check_of(&text);
        text + "check " + &check + "\n"
    }

    /// `None` for what [`Condemned::encode`] did not write.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut lines = text.strip_prefix(CONDEMNED_LINE)?.strip_prefix('\n')?.lines();
        let epoch = lines.next()?.strip_prefix("epoch ")?.parse().ok()?;
        let mut segments = BTreeSet::new();
        for line in lines.take_while(|line| !line.starts_with("check ")) {
            segments.insert(is_segment_name(line).then(|| line.to_owned())?);
        }
        let condemned = Self { epoch, segments };
        // One way to write it: whatever is missing, added or in another order shows here.
        (condemned.encode() == text).then_some(condemned)
    }

    /// As it is published now.
    pub(super) fn read(vfs: &dyn Vfs, paths: &Paths) -> Result<Self> {
        let path = paths.condemned();
        let Some(text) = read_text(vfs, &path)? else {
            return Ok(Self::default());
        };
        Self::decode(&text).ok_or_else(|| {
            let what = "the list of condemned segments is damaged";
            Error::new(ErrorKind::Corrupt, what).at(&path).hinting(
                "remove this file while no other program has the store open; nothing else is lost",
            )
        })
    }
}

/// What a session file says: the epoch under which its session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionState(pub(super) u64);

impl SessionState {
    /// A session is about to begin: every collection waits for it.
    pub(super) const OLDEST: Self = Self(0);
    /// There is no session.
    pub(super) const IDLE: Self = Self(u64::MAX);
    const LEN: usize = 34;

    /// The number with a check, always as long: a reader that sees a part of one state and a part of
    /// another takes it for none.
    fn encode(self) -> String {
        let number = format!("{:016x}", self.0);
        let check = &check_of(&number)[..16];
        format!("{number} {check}\n")
    }

    pub(super) fn write(self, file: &dyn File) -> io::Result<()> {
        file.write_all_at(self.encode().as_bytes(), 0)
    }

    /// What the file says; anything that was not written as a whole stands for the oldest.
    pub(super) fn read(file: &dyn File) -> io::Result<Self> {
        let mut bytes = [0; Self::LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Self::OLDEST),
            Err(error) => return Err(error),
        }
        let number = std::str::from_utf8(&bytes[..16]).ok();
        let state = number.and_then(|hex| u64::from_str_radix(hex, 16).ok()).map(Self);
        Ok(state.filter(|state| state.encode().as_bytes() == bytes).unwrap_or(Self::OLDEST))
    }
}

fn check_of(text: &str) -> String {
    Hash::of(text.as_bytes()).to_string()
}

/// A ref store that names contents: what collection starts from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root {
    kind: String,
    location: String,
}

impl Root {
    /// A root of some kind ("file", "sqlite": lower-case letters, digits, `-`) at a location that
    /// means something to whoever reads that kind: a path, a URL. At most 4,096 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub fn new(kind: impl Into<String>, location: impl Into<String>) -> Result<Self> {
        let root = Self { kind: kind.into(), location: location.into() };
        let is_kind = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if root.kind.is_empty() || root.kind.len() > 64 || !root.kind.bytes().all(is_kind) {
            let what = format!("`{}` is no kind of ref store", root.kind.escape_debug());
            return Err(Error::new(ErrorKind::Usage, what));
        }
        if root.location.len() > 4096 {
            return Err(Error::new(ErrorKind::Usage, "the location of a ref store is too long"));
        }
        Ok(root)
    }

    /// What kind of ref store it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    pub(super) fn encode(&self) -> String {
        format!("{ROOT_LINE}\n{}\n{}\n", self.kind, self.location)
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(ROOT_LINE)?.strip_prefix('\n')?;
        let (kind, location) = rest.strip_suffix('\n')?.split_once('\n')?;
        Self::new(kind, location).ok()
    }

    /// Its file below `roots/`: the beginning of the hash of its text, so that registering twice is
    /// registering once.
    pub(super) fn file_name(&self) -> String {
        check_of(&self.encode())[..32].to_owned()
    }
}

pub(super) fn encode_store(id: &str) -> String {
    format!("{STORE_LINE}\nid {id}\n")
}

/// The id of a store from its `STORE` file.
pub(super) fn decode_store(text: &str, path: &Path) -> Result<String> {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let id = rest.strip_prefix("id ").and_then(|id| id.strip_suffix('\n'));
    match id.filter(|id| id.len() == 32 && is_hex(id)) {
        Some(id) if line == STORE_LINE => Ok(id.to_owned()),
        _ if line != STORE_LINE && line.starts_with("pefc content store ") => {
            Err(Error::new(ErrorKind::Unsupported, "a content store of a later version").at(path))
        }
        _ => Err(Error::new(ErrorKind::Corrupt, "this names no content store").at(path).hinting(
            "check the path; if only this file is damaged, remove it: the store gets a new id",
        )),
    }
}

/// A short text file; `None` if it is not there.
pub(super) fn read_text(vfs: &dyn Vfs, path: &Path) -> Result<Option<String>> {
    let reading = |error| Error::io("reading a file of the store", path, error);
    let file = match vfs.open_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(reading(error)),
    };
    let len = file.len().map_err(reading)?;
    let too_long = || Error::new(ErrorKind::Corrupt, "longer than such a file ever is").at(path);
    let len = usize::try_from(len.min(TEXT_BYTES_MAX + 1)).map_err(|_| too_long())?;
    if len as u64 > TEXT_BYTES_MAX {
        return Err(too_long());
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(reading)?;
    // What is no UTF-8 was never written: whoever decodes it says so.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Creates a file that only its creator has, or nothing if a collection was faster to take it for a
/// left-over. As long as the lock is held nobody removes it.
pub(super) fn create_locked(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<Arc<dyn File>>> {
    let file = vfs.create_new(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(LockError::Held(_)) => return Ok(None),
        Err(LockError::Io(error)) => return Err(error),
    }
    match vfs.open_read(path) {
        Ok(_) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a file there, whole and durable, or not at all. Says whether it did: without `replace` an
/// existing one stays.
pub(super) fn write_text(
    machine: &Machine,
    path: &Path,
    text: &str,
    replace: bool,
) -> Result<bool> {
    let vfs = &*machine.vfs;
    let writing = |error| Error::io("writing a file of the store", path, error);
    let dir = parent_dir(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (temporary, file) = loop {
        let temporary = dir.join(format!(".{name}.{}.tmp", random_hex(machine, path)?));
        if let Some(file) = create_locked(vfs, &temporary).map_err(writing)? {
            break (temporary, file);
        }
    };
    let written = file
        .write_all_at(text.as_bytes(), 0)
        .and_then(|()| file.sync_data())
        .and_then(|()| vfs.rename(&temporary, path, replace));
    match written {
        Ok(()) => {}
        Err(error) => {
            let _ = vfs.remove_file(&temporary); // the first error says more
            if error.kind() == io::ErrorKind::AlreadyExists && !replace {
                // Whoever made it may not have come to sync the directory yet.
                return vfs.sync_dir(&dir).map_err(writing).map(|()| false);
            }
            return Err(writing(error));
        }
    }
    vfs.sync_dir(&dir).map_err(writing)?;
    Ok(true)
}

/// Takes the lock of a left-over file, if nobody has it.
pub(super) fn try_own(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<Arc<dyn File>>> {
    let file = match vfs.open_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(LockError::Held(_)) => Ok(None),
        Err(LockError::Io(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_condemned_segments_is_read_as_it_was_written_or_not_at_all() {
        let segments = ["0123456789abcdef.pefc", "ffffffffffffffff.pefc"].map(str::to_owned);
        let condemned = Condemned { epoch: 7, segments: segments.into() };
        let text = condemned.encode();
        assert_eq!(Condemned::decode(&text), Some(condemned));
        let empty = Condemned { epoch: 8, segments: BTreeSet::new() };
        assert_eq!(Condemned::decode(&empty.encode()), Some(empty));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(Condemned::decode(&String::from_utf8(changed).unwrap()), None, "byte {at}");
            assert_eq!(Condemned::decode(&text[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_root_is_read_as_it_was_written_whatever_its_location() {
        for location in ["refs", "", "a\nb\n", "../%41"] {
            let root = Root::new("file", location).unwrap();
            assert_eq!(Root::decode(&root.encode()), Some(root));
        }
        assert!(Root::new("File", "x").is_err());
        assert!(Root::new("", "x").is_err());
        assert!(Root::new("file", "x".repeat(4097)).is_err());
    }

    #[test]
    fn a_store_file_is_one_of_this_version_or_an_error() {
        let id = "00112233445566778899aabbccddeeff";
        let path = Path::new("STORE");
        assert_eq!(decode_store(&encode_store(id), path).unwrap(), id);
        let kind = |text: &str| decode_store(text, path).unwrap_err().kind();
        assert_eq!(kind("pefc content store v2\nid 1\n"), ErrorKind::Unsupported);
        assert_eq!(kind(""), ErrorKind::Corrupt);
        assert_eq!(kind("pefc content store v1\nid 0\n"), ErrorKind::Corrupt);
    }
}
