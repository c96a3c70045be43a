//! Changes of refs in files: the order of writes, syncs and renames.
//!
//! The caller of everything here holds the writers' lock. `spec/refs.md` 6.

use super::super::name::{key_from_text, key_to_text};
use super::super::text::{self, Journal};
use super::super::{Change, Ref, Token, conflict};
use super::{FileRefs, Locked, is_absent};
use crate::disk::{File, parent_dir};
use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the lock's file says while a journal is written or carried out; else it is the key whose
/// file is being written, or empty.
const BATCH: &str = "%journal";

/// Files of a batch that are open at a time, between writing and syncing them.
const OPEN_FILES_MAX: usize = 128;

impl FileRefs {
    /// Brings to its end what a writer left behind that died.
    pub(super) fn recover(&self, locked: &Locked<'_>) -> Result<()> {
        let reading = |error| Error::io("reading the lock", &self.dir.join("lock"), error);
        let len = locked.file.len().map_err(reading)?;
        let journal = self.read_journal()?;
        if len == 0 && journal.is_none() {
            return Ok(());
        }
        // After a power cut this note may be anything, and what is on disk is durable anyhow. After
        // a mere kill it is what was written, and what was renamed may not be durable yet.
        let mut note = vec![0; usize::try_from(len.min(1 << 16)).unwrap_or(0)];
        locked.file.read_exact_at(&mut note, 0).map_err(reading)?;
        let note = String::from_utf8(note).unwrap_or_default();
        self.sync_dir(&self.dir)?;
        if let Some(key) = key_from_text(&note) {
            for dir in self.dirs_of(&self.path_of(&key)) {
                match self.options.machine.vfs.sync_dir(&dir) {
                    Err(error) if !is_absent(&error) => return Err(self.unknown(&dir, error)),
                    _ => {}
                }
            }
        }
        if let Some(journal) = &journal {
            self.carry_out(journal)?;
        }
        self.clear_note(locked);
        Ok(())
    }

    /// Holds the changes to what is there. Gives what each key stood for before its change, and what
    /// has to be written.
    pub(super) fn plan(&self, changes: &[Change]) -> Result<(Vec<Option<Ref>>, Journal)> {
        let now_ns = self.options.machine.clock.now_ns();
        let mut state: BTreeMap<&[u8], (Option<Ref>, Option<Ref>)> = BTreeMap::new();
        let mut before = Vec::with_capacity(changes.len());
        for change in changes {
            let (_, value) = match state.get_mut(change.key.as_slice()) {
                Some(known) => known,
                None => {
                    let found = self.read_key(&change.key)?;
                    state.entry(&change.key).or_insert((found, found))
                }
            };
            if !change.expect.holds(value.as_ref()) {
                return Err(conflict(&change.key, &change.expect, value.as_ref()));
            }
            before.push(*value);
            *value = change.result(value.as_ref(), now_ns);
        }
        let changed = state.into_iter().filter(|(_, (before, after))| before != after);
        Ok((before, changed.map(|(key, (_, after))| (key.to_vec(), after)).collect()))
    }

    /// Makes the changes durable.
    pub(super) fn write(&self, locked: &Locked<'_>, journal: &Journal) -> Result<()> {
        if let [(key, value)] = journal.as_slice() {
            self.note(locked, &key_to_text(key))?;
            self.write_one(key, value.as_ref())?;
            self.clear_note(locked);
            return Ok(());
        }
        self.note(locked, BATCH)?;
        let text = text::encode_journal(journal);
        self.write_whole(&self.dir.join("journal"), text.as_bytes())?;
        // From here on it is done: readers look into the journal, and a crash, a full disk or a
        // failure leaves it to the next writer, who tells what is wrong.
        if self.carry_out(journal).is_ok() {
            self.clear_note(locked);
        }
        Ok(())
    }

    /// Says in the lock's file what is under way. Needs no sync: it is for the next writer of this
    /// machine, if this process dies alone.
    fn note(&self, locked: &Locked<'_>, text: &str) -> Result<()> {
        let noted = locked.file.write_all_at(text.as_bytes(), 0);
        noted.map_err(|error| Error::io("writing the lock", &self.dir.join("lock"), error))
    }

    /// A note that stays makes the next writer sync again what is durable: no reason to fail.
    fn clear_note(&self, locked: &Locked<'_>) {
        let _ = locked.file.set_len(0);
    }

    fn write_one(&self, key: &[u8], value: Option<&Ref>) -> Result<()> {
        let path = self.path_of(key);
        let dirs = self.dirs_of(&path);
        match value {
            Some(value) => {
                self.stage(text::encode_ref(key, value).as_bytes(), true)?;
                let made_dirs = self.put_in_place(&path)?;
                if made_dirs { self.sync_dirs(&dirs) } else { self.sync_dir(&parent_dir(&path)) }
            }
            None => {
                self.remove(&path)?;
                self.sync_dir(&parent_dir(&path))
            }
        }
    }

    /// Writes the keys' files of a journal that is durable, then removes it.
    fn carry_out(&self, journal: &Journal) -> Result<()> {
        let mut dirs = BTreeSet::new();
        for part in journal.chunks(OPEN_FILES_MAX) {
            let mut files = Vec::with_capacity(part.len());
            for (key, value) in part {
                let path = self.path_of(key);
                let above = self.dirs_of(&path);
                match value {
                    Some(value) => {
                        files.push(self.stage(text::encode_ref(key, value).as_bytes(), false)?);
                        self.put_in_place(&path)?;
                        dirs.extend(above); // all: it is unknown what an earlier try has made
                    }
                    None => {
                        if self.remove(&path)? {
                            dirs.extend(above);
                        }
                    }
                }
            }
            for file in files {
                file.sync_data().map_err(|error| Error::io("writing refs", &self.dir, error))?;
            }
        }
        for dir in &dirs {
            let synced = self.options.machine.vfs.sync_dir(dir);
            synced.map_err(|error| Error::io("writing refs", dir, error))?;
        }
        self.remove(&self.dir.join("journal"))?;
        self.sync_dir(&self.dir)
    }

    /// Writes a file under the one temporary name.
    fn stage(&self, bytes: &[u8], sync: bool) -> Result<Arc<dyn File>> {
        let path = self.staged_path();
        let vfs = &self.options.machine.vfs;
        let writing = |error| Error::io("writing a ref", &path, error);
        let file = match vfs.create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                vfs.remove_file(&path).and_then(|()| vfs.create_new(&path)) // of one that died
            }
            result => result,
        };
        let file = file.map_err(writing)?;
        file.write_all_at(bytes, 0).map_err(writing)?;
        if sync {
            file.sync_data().map_err(writing)?;
        } else {
            file.begin_writeback(0, bytes.len() as u64);
        }
        Ok(file)
    }

    fn staged_path(&self) -> PathBuf {
        self.dir.join("tmp").join("staged")
    }

    /// Gives the staged file its name. Makes the directories above it if need be, and says so.
    fn put_in_place(&self, path: &Path) -> Result<bool> {
        let vfs = &self.options.machine.vfs;
        let writing = |error| Error::io("writing a ref", path, error);
        match vfs.rename(&self.staged_path(), path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                vfs.create_dir_all(&parent_dir(path)).map_err(writing)?;
                vfs.rename(&self.staged_path(), path, true).map_err(writing)?;
                Ok(true)
            }
            result => result.map(|()| false).map_err(writing),
        }
    }

    /// Replaces or creates a file of the store itself, durably.
    pub(super) fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.stage(bytes, true)?;
        self.put_in_place(path)?;
        self.sync_dir(&self.dir)
    }

    /// Whether there was a file to remove.
    fn remove(&self, path: &Path) -> Result<bool> {
        match self.options.machine.vfs.remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(Error::io("removing a ref", path, error)),
        }
    }

    /// The directories above a file, from the store's own down.
    fn dirs_of(&self, path: &Path) -> Vec<PathBuf> {
        let above = path.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.dir));
        let mut dirs: Vec<PathBuf> = above.map(Path::to_owned).collect();
        dirs.reverse();
        dirs
    }

    fn sync_dirs(&self, dirs: &[PathBuf]) -> Result<()> {
        dirs.iter().rev().try_for_each(|dir| self.sync_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.options.machine.vfs.sync_dir(dir).map_err(|error| self.unknown(dir, error))
    }

    /// A sync failed after a name was changed: nobody knows what is on disk.
    fn unknown(&self, path: &Path, error: io::Error) -> Error {
        self.failed.store(true, Ordering::Relaxed);
        Error::new(ErrorKind::Durability, "making a change of refs durable")
            .at(path)
            .because(error)
            .hinting("find out why the disk failed; then open the refs again and read the keys: each change was made, or was not")
    }

    /// The token is there only while nothing changes: so it goes before the first change does, and
    /// an unchanged store costs its writers nothing.
    pub(super) fn drop_token(&self) -> Result<()> {
        if self.remove(&self.dir.join("token"))? { self.sync_dir(&self.dir) } else { Ok(()) }
    }

    pub(super) fn token_locked(&self) -> Result<Token> {
        let path = self.dir.join("token");
        let found = self.read_small(&path)?.and_then(|bytes| String::from_utf8(bytes).ok());
        let is_token = |text: &str| {
            text.len() == 33
                && text.ends_with('\n')
                && text[..32].bytes().all(|b| b.is_ascii_hexdigit())
        };
        if let Some(text) = found.filter(|text| is_token(text)) {
            return Ok(Token(text.trim_end().to_owned()));
        }
        let mut random = [0; 16];
        let filled = self.options.machine.random.fill(&mut random);
        filled.map_err(|error| Error::io("random bytes", &path, error))?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write_whole(&path, format!("{token}\n").as_bytes())?;
        Ok(Token(token))
    }
}
