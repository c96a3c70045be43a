//! Ref lists: what a storage held at one moment, as a content (`spec/backup.md`, "Ref lists").
//!
//! ```text
//! "pefc ref list v1\n"
//! entry*: key length  uvarint    1 to 4096
//!         key         bytes      greater than the one before
//!         name        32 bytes   BLAKE3 of the value
//!         size        uvarint    bytes of the value
//!         created     i64        nanoseconds since 1970, little-endian
//!         updated     i64
//! ```

use crate::disk::{File, Random, Vfs};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{put_uvarint, take_uvarint};
use crate::hash::Hash;
use crate::refs::{KEY_BYTES_MAX, Ref};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// First line of a list.
const HEAD: &[u8] = b"pefc ref list v1\n";

/// Longest entry: two numbers of at most ten bytes, the key, the name, two times.
const ENTRY_BYTES_MAX: usize = 2 * 10 + KEY_BYTES_MAX + 32 + 2 * 8;

/// Read and written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// An entry: a key and what it stands for.
pub(super) type Entry = (Vec<u8>, Ref);

fn encode(out: &mut Vec<u8>, key: &[u8], value: &Ref) {
    put_uvarint(out, key.len() as u64);
    out.extend_from_slice(key);
    out.extend_from_slice(value.name.as_bytes());
    put_uvarint(out, value.size_bytes);
    out.extend_from_slice(&value.created_ns.to_le_bytes());
    out.extend_from_slice(&value.updated_ns.to_le_bytes());
}

/// A list that is being gathered in a file without a name to anyone, so that a source need not wait
/// for contents to be copied. Removed when dropped.
#[derive(Debug)]
pub(super) struct Spool {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written_bytes: u64,
    last_key: Vec<u8>,
    /// Entries so far.
    pub(super) key_count: u64,
    /// Bytes of the values that they stand for.
    pub(super) value_bytes: u64,
}

impl Spool {
    pub(super) fn create(vfs: &Arc<dyn Vfs>, random: &dyn Random, dir: &Path) -> Result<Self> {
        let mut bytes = [0; 8];
        let failed = |error| Error::io("gathering refs", dir, error);
        random.fill(&mut bytes).map_err(failed)?;
        let path = dir.join(format!("{:016x}", u64::from_le_bytes(bytes)));
        let file = vfs.create_new(&path).map_err(failed)?;
        Ok(Self {
            vfs: Arc::clone(vfs),
            path,
            file,
            buffer: HEAD.to_vec(),
            written_bytes: 0,
            last_key: Vec::new(),
            key_count: 0,
            value_bytes: 0,
        })
    }

    pub(super) fn push(&mut self, key: &[u8], value: &Ref) -> Result<()> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || key <= &*self.last_key {
            let what = format!("the source gave the key \"{}\" out of order", key.escape_ascii());
            return Err(Error::new(ErrorKind::Corrupt, what)
                .hinting("verify that storage; nothing was saved"));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        encode(&mut self.buffer, key, value);
        self.key_count += 1;
        self.value_bytes = self.value_bytes.saturating_add(value.size_bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let written = self.file.write_all_at(&self.buffer, self.written_bytes);
        written.map_err(|error| Error::io("gathering refs", &self.path, error))?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The whole list, to read.
    pub(super) fn reader(&mut self) -> Result<SpoolReader> {
        self.write()?;
        Ok(SpoolReader { file: Arc::clone(&self.file), at: 0 })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = self.vfs.remove_file(&self.path); // the next run removes what is left
    }
}

#[derive(Debug)]
pub(super) struct SpoolReader {
    file: Arc<dyn File>,
    at: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buf, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Entries of a list, in order; ends after an error.
#[derive(Debug)]
pub(super) struct Entries<R> {
    from: R,
    buffer: Vec<u8>,
    at: usize,
    is_at_end: bool,
    has_begun: bool,
    has_failed: bool,
    last_key: Vec<u8>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            at: 0,
            is_at_end: false,
            has_begun: false,
            has_failed: false,
            last_key: Vec::new(),
        }
    }

    /// Sees to it that a whole entry is in the buffer, or all that is left.
    fn fill(&mut self) -> Result<()> {
        if self.is_at_end || self.buffer.len() - self.at >= ENTRY_BYTES_MAX {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let wanted = (BUFFER_BYTES - self.buffer.len()) as u64;
        let read = self.from.by_ref().take(wanted).read_to_end(&mut self.buffer);
        let read = read
            .map_err(|error| Error::new(ErrorKind::Corrupt, "reading a ref list").because(error))?;
        self.is_at_end = (read as u64) < wanted;
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        self.fill()?;
        if !self.has_begun {
            self.has_begun = true;
            if !self.buffer.starts_with(HEAD) {
                return Err(match self.buffer.starts_with(b"pefc ref list v") {
                    true => Error::new(ErrorKind::Unsupported, "a ref list of a later version"),
                    false => damaged("it does not begin like one"),
                });
            }
            self.at = HEAD.len();
            self.fill()?;
        }
        if self.at == self.buffer.len() {
            return Ok(None);
        }
        let entry = decode(&self.buffer, &mut self.at)?;
        if entry.0 <= self.last_key {
            return Err(damaged("its keys do not rise"));
        }
        self.last_key.clone_from(&entry.0);
        Ok(Some(entry))
    }
}

impl<R: Read> Iterator for Entries<R> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.has_failed {
            return None;
        }
        let entry = self.advance();
        self.has_failed = entry.is_err();
        entry.transpose()
    }
}

fn decode(bytes: &[u8], at: &mut usize) -> Result<Entry> {
    let short = || damaged("it ends within an entry");
    let key_len = take_uvarint(bytes, at)?;
    let key_len = usize::try_from(key_len).unwrap_or(usize::MAX);
    if !(1..=KEY_BYTES_MAX).contains(&key_len) {
        return Err(damaged("a key has no length that keys have"));
    }
    let mut take = |len: usize| {
        let taken = bytes.get(*at..*at + len).ok_or_else(short)?;
        *at += len;
        Ok::<_, Error>(taken)
    };
    let key = take(key_len)?.to_vec();
    let name = Hash::from_bytes(<[u8; 32]>::try_from(take(32)?).map_err(|_| short())?);
    let size_bytes = take_uvarint(bytes, at)?;
    let mut time_ns = || {
        let taken = bytes.get(*at..*at + 8).and_then(|taken| taken.try_into().ok());
        *at += 8;
        taken.map(i64::from_le_bytes).ok_or_else(short)
    };
    let (created_ns, updated_ns) = (time_ns()?, time_ns()?);
    Ok((key, Ref { name, size_bytes, created_ns, updated_ns }))
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a ref list is damaged: {why}"))
        .hinting("restore from another snapshot; `pefc backup verify` says which are good")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(entries: &[Entry]) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        entries.iter().for_each(|(key, value)| encode(&mut out, key, value));
        out
    }

    fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
        let key = prop::collection::vec(any::<u8>(), 1..40);
        let value = (any::<[u8; 32]>(), any::<u64>(), any::<i64>(), any::<i64>());
        prop::collection::btree_map(key, value, 0..50).prop_map(|map| {
            let one = |(key, (name, size_bytes, created_ns, updated_ns))| {
                (key, Ref { name: Hash::from_bytes(name), size_bytes, created_ns, updated_ns })
            };
            map.into_iter().map(one).collect()
        })
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>> {
        Entries::new(bytes).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(entries in any_entries()) {
            prop_assert_eq!(read(&written(&entries)).unwrap(), entries);
        }

        /// A cut list is an error, or, at the end of an entry, a shorter one: its name guards that.
        #[test]
        fn what_decodes_is_what_was_encoded(entries in any_entries(), at: u16, byte: u8, cut: bool) {
            let mut bytes = written(&entries);
            let at = usize::from(at) % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            if let Ok(found) = read(&bytes) {
                prop_assert_eq!(written(&found), bytes);
            }
        }
    }

    #[test]
    fn lists_longer_than_the_buffer() {
        let value =
            |n: u64| Ref { name: Hash::of(b"x"), size_bytes: n, created_ns: -1, updated_ns: 1 };
        let entry =
            |n: u64| (format!("{n:0width$}", width = 8 + (n % 4000) as usize).into_bytes(), n);
        let mut entries: Vec<Entry> =
            (0..20_000).map(entry).map(|(key, n)| (key, value(n))).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|a, b| a.0 == b.0);
        assert_eq!(read(&written(&entries)).unwrap(), entries);
    }

    #[test]
    fn faults_have_names() {
        let kind = |bytes: &[u8]| read(bytes).unwrap_err().kind();
        assert_eq!(kind(b""), ErrorKind::Corrupt);
        assert_eq!(kind(b"pefc ref list v2\n"), ErrorKind::Unsupported);
        assert_eq!(kind(&[HEAD, &[0]].concat()), ErrorKind::Corrupt);
        let one = (
            b"k".to_vec(),
            Ref { name: Hash::of(b""), size_bytes: 0, created_ns: 0, updated_ns: 0 },
        );
        assert_eq!(kind(&written(&[one.clone(), one])), ErrorKind::Corrupt);
    }
}
