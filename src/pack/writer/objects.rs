//! Contents without keys, for whoever keeps their names elsewhere.

use super::Writer;
use crate::chunk::WHOLE_BYTES_MAX;
use crate::error::Result;
use crate::format::entry::Content;
use crate::hash::Hash;
use std::io::Read;

impl Writer {
    /// Puts content without a key: found by its name alone. `name` must be its name; another one is
    /// found before the commit if writes are verified. The caller has asked whether the pack
    /// [`Writer::holds`] it.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub(crate) fn put_object(&mut self, name: Hash, content: &[u8]) -> Result<()> {
        self.check_alive()?;
        if content.len() > WHOLE_BYTES_MAX {
            // Larger ones are in one piece too, where no place to cut was found in them.
            return self.put_object_stream(content).map(drop);
        }
        self.stats.content_bytes += content.len() as u64;
        self.add_new_object(name, content)
    }

    /// Puts what `content` yields without a key, of any length.
    ///
    /// # Errors
    /// As [`Writer::put_stream`].
    pub(crate) fn put_object_stream(&mut self, mut content: impl Read) -> Result<Content> {
        self.check_alive()?;
        let content = self.add_stream(None, &mut content, None)?;
        self.stats.content_bytes += content.len;
        Ok(content)
    }

    /// Whether the pack holds the object, or will with the next commit.
    ///
    /// # Errors
    /// As any read.
    pub(crate) fn holds(&self, name: &Hash) -> Result<bool> {
        // No length is known, but the empty content has one name.
        self.has_object(name, u64::from(*name != Hash::of(b"")))
    }

    /// Whether everything that was put is committed, and nothing has failed.
    pub(crate) fn is_clean(&self) -> bool {
        !self.dirty && self.failed.is_none()
    }

    /// Bytes since the last index, which whoever opens the pack reads through.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.out.position() - self.tail_start()
    }

    /// End of what is committed, in bytes from the beginning of the file.
    pub(crate) fn committed_bytes(&self) -> u64 {
        self.committed_end
    }
}
