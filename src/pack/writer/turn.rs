//! Taking turns: a writer that stays open between its batches, and lets others write meanwhile.

use super::{WriteOptions, Writer};
use crate::disk::LockError;
use crate::error::{Error, ErrorKind, Result};
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
