//! Taking turns: a writer that stays open between its batches, and lets others write meanwhile.

use super::super::key::Key;
use super::{Staged, WriteOptions, Writer};
use crate::disk::LockError;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Attributes, Content};
use std::path::Path;

impl Writer {
    /// Makes a pack without entries but its genesis at `path`, for a log that grows. One that is
    /// there already, or comes to be meanwhile, is left as it is.
    ///
    /// # Errors
    /// As [`Writer::create`] and [`Writer::commit`].
    pub(crate) fn create_log(path: &Path, options: WriteOptions) -> Result<()> {
        let created = Self::create(path, WriteOptions { replace: false, ..options });
        let committed = created.and_then(|mut writer| {
            writer.dirty = true; // the genesis is something to commit
            writer.commit()
        });
        match committed {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Puts `key` with content that the pack has already, and says whether it has. The caller has
    /// looked at what is committed under the key in this turn, and gives another entry: so this need
    /// not look again. Each key once in a commit.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub(crate) fn put_change(
        &mut self,
        key: &Key<'_>,
        content: Content,
        attributes: Attributes<'_>,
    ) -> Result<bool> {
        self.check_alive()?;
        key.check()?;
        if !self.has_object(&content.name, content.len)? {
            return Ok(false);
        }
        let bytes = self.encode_put(key, Some(content), None, attributes)?;
        self.staged.insert(key.encode(), Staged::Put(bytes));
        self.dirty = true;
        self.stats.put_count += 1;
        self.stats.content_bytes += content.len;
        Ok(true)
    }

    /// Commits an index of what was committed without one, so that the pack is quick to open. Seals
    /// nothing: that would take looking at everything that is live.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub(crate) fn write_tail_index(&mut self) -> Result<()> {
        self.check_alive()?;
        self.finish_commit(Vec::new(), None, true)
    }

    /// Lets other writers have the pack. Everything must be committed.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if something is not.
    pub(crate) fn pause(&mut self) -> Result<()> {
        if !self.is_clean() {
            let what = "a writer with changes that are not committed can't let others write";
            return Err(Error::new(ErrorKind::Usage, what).at(&self.path));
        }
        let unlocked = self.out.file().inner().unlock();
        unlocked.map_err(|error| Error::io("unlocking the pack", &self.path, error))
    }

    /// Takes the lock again. False if others have changed the pack since: then this writer is of no
    /// use any more, and [`Writer::append`] makes another one. The lock is held in both cases, until
    /// the writer is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`], [`ErrorKind::Io`].
    pub(crate) fn take_turn(&mut self) -> Result<bool> {
        let file = self.out.file().inner();
        match file.try_lock() {
            Ok(()) => {}
            Err(LockError::Held(holder)) => return Err(Error::locked(&self.path, holder)),
            Err(LockError::Io(error)) => return Err(Error::io("locking", &self.path, error)),
        }
        let reading = |error| Error::io("reading the pack", &self.path, error);
        // Committed bytes never change, so the same length says that nothing was appended: a writer
        // that gave up has cut off what it left, or the next one would. A whole new file may have
        // taken the name.
        let unchanged = file.len().map_err(reading)? == self.committed_end
            && file.has_name(&self.path).map_err(reading)?;
        Ok(unchanged && self.is_clean())
    }
}
