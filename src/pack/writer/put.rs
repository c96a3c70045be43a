//! Putting and deleting: what the next commit will hold.

use super::super::key::Key;
use super::{Staged, Writer};
use crate::chunk::WHOLE_BYTES_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ENTRY_BYTES_MAX;
use crate::format::entry::{Attributes, Content, Delete, Entry, Put};
use crate::hash::Hash;
use crate::tree::{Node, sha256};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::io::Read;

impl Writer {
    /// Puts `content` under `key`. Content that the pack has already is not stored again; a put that
    /// changes nothing writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an invalid key, [`ErrorKind::Durability`] or [`ErrorKind::NoSpace`]
    /// when a write fails.
    pub fn put<'k>(&mut self, key: impl Into<Key<'k>>, content: &[u8]) -> Result<Hash> {
        self.put_with(key, content, Attributes::default())
    }

    /// Puts `content` with attributes.
    ///
    /// # Errors
    /// As [`Writer::put`]; [`ErrorKind::Limit`] if the entry would be longer than 16 KiB.
    pub fn put_with<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        content: &[u8],
        attributes: Attributes<'_>,
    ) -> Result<Hash> {
        if content.len() > WHOLE_BYTES_MAX {
            return self.put_stream_with(key, content, attributes).map(|content| content.name);
        }
        let key = key.into();
        key.check()?;
        let name = Hash::of(content);
        self.put_named(&key, name, content, attributes)?;
        Ok(name)
    }

    /// Puts content of at most 1 MiB whose name the caller has computed: it may have done so on
    /// another thread. A wrong name is found before the commit if writes are verified.
    pub(crate) fn put_named(
        &mut self,
        key: &Key<'_>,
        name: Hash,
        content: &[u8],
        attributes: Attributes<'_>,
    ) -> Result<()> {
        self.check_alive()?;
        let sha256 = self.options.sha256.then(|| sha256(content));
        self.add_object(name, content)?;
        let content = Content { name, len: content.len() as u64 };
        self.stage_put(key, Some(content), sha256, attributes)
    }

    /// Puts what `content` yields until its end, of any length, in bounded memory.
    ///
    /// # Errors
    /// As [`Writer::put`]; an error of `content` is [`ErrorKind::Io`] and leaves the key as it was.
    pub fn put_stream<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        content: impl Read,
    ) -> Result<Content> {
        self.put_stream_with(key, content, Attributes::default())
    }

    /// Puts a stream with attributes.
    ///
    /// # Errors
    /// As [`Writer::put_stream`].
    pub fn put_stream_with<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        mut content: impl Read,
        attributes: Attributes<'_>,
    ) -> Result<Content> {
        self.check_alive()?;
        let key = key.into();
        key.check()?;
        let mut sha = self.options.sha256.then(Sha256::new);
        let content = self.add_stream(Some(&key), &mut content, sha.as_mut())?;
        let sha256 = sha.map(|sha| sha.finalize().into());
        self.stage_put(&key, Some(content), sha256, attributes)?;
        Ok(content)
    }

    /// Puts an entry without content: a directory, a link, a device.
    ///
    /// # Errors
    /// As [`Writer::put`]; [`ErrorKind::Usage`] if the attributes are those of a regular file.
    pub fn put_attributes<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        attributes: Attributes<'_>,
    ) -> Result<()> {
        self.check_alive()?;
        let key = key.into();
        key.check()?;
        self.stage_put(&key, None, None, attributes)
    }

    /// Puts `key` with content that the pack has already, and says whether it has.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn put_existing<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        content: Content,
        attributes: Attributes<'_>,
    ) -> Result<bool> {
        self.check_alive()?;
        let key = key.into();
        key.check()?;
        if !self.has_object(&content.name, content.len)? {
            return Ok(false);
        }
        self.stage_put(&key, Some(content), None, attributes)?;
        Ok(true)
    }

    /// Deletes `key` and says whether it was there. Its history and content stay in the pack.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn delete<'k>(&mut self, key: impl Into<Key<'k>>) -> Result<bool> {
        self.check_alive()?;
        let key = key.into();
        key.check()?;
        let encoded = key.encode();
        if self.live_entry(&encoded)?.is_none() {
            return Ok(false);
        }
        let entry = Entry::Delete(Delete {
            space: key.space(),
            key: Cow::Borrowed(key.bytes()),
            reason: None,
        });
        if self.committed_entry(&encoded)?.is_some() {
            self.staged.insert(encoded, Staged::Delete(entry.encode()));
        } else {
            self.staged.remove(&encoded); // it was never committed: nothing to tell
        }
        self.dirty = true;
        self.stats.deleted_count += 1;
        Ok(true)
    }

    /// The entry that `key` would have if everything staged were committed.
    ///
    /// # Errors
    /// As any read.
    pub fn entry<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<Put<'static>>> {
        let Some(bytes) = self.live_entry(&key.into().encode())? else {
            return Ok(None);
        };
        match Entry::decode(&bytes)?.0 {
            Entry::Put(put) => Ok(Some(put.into_owned())),
            _ => Ok(None),
        }
    }

    pub(super) fn live_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.staged.get(key) {
            Some(Staged::Put(bytes)) => Ok(Some(bytes.clone())),
            Some(Staged::Delete(_)) => Ok(None),
            None => self.committed_entry(key),
        }
    }

    pub(super) fn committed_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some((_, bytes)) = self.overlay.get(key) {
            return Ok(bytes.clone());
        }
        let Some(base) = &self.base else {
            return Ok(None);
        };
        let Some(found) = base.find_entry(key)? else {
            return Ok(None);
        };
        let bytes = found.with_bytes(|bytes| {
            let is_put = matches!(Entry::decode(bytes)?.0, Entry::Put(_));
            Ok(is_put.then(|| bytes.to_vec()))
        });
        bytes.map_err(|error| self.fault(error))
    }

    pub(super) fn stage_put(
        &mut self,
        key: &Key<'_>,
        content: Option<Content>,
        sha256: Option<Node>,
        attributes: Attributes<'_>,
    ) -> Result<()> {
        let bytes = self.encode_put(key, content, sha256, attributes)?;
        self.stats.content_bytes += content.map_or(0, |content| content.len);
        let encoded = key.encode();
        let committed = self.committed_entry(&encoded)?;
        let live = match self.staged.get(&encoded) {
            Some(Staged::Put(bytes)) => Some(bytes),
            Some(Staged::Delete(_)) => None,
            None => committed.as_ref(),
        };
        if live == Some(&bytes) {
            self.stats.unchanged_count += 1;
            return Ok(());
        }
        // Back to what is committed: then there is nothing to write.
        if committed.as_ref() == Some(&bytes) {
            self.staged.remove(&encoded);
        } else {
            self.staged.insert(encoded, Staged::Put(bytes));
        }
        self.dirty = true;
        self.stats.put_count += 1;
        Ok(())
    }

    pub(super) fn encode_put(
        &self,
        key: &Key<'_>,
        content: Option<Content>,
        sha256: Option<Node>,
        attributes: Attributes<'_>,
    ) -> Result<Vec<u8>> {
        let entry = Entry::Put(Put {
            space: key.space(),
            key: Cow::Borrowed(key.bytes()),
            content,
            sha256,
            media_type: None,
            attributes,
        });
        let bytes = entry.encode();
        if bytes.len() > ENTRY_BYTES_MAX {
            let what = format!(
                "the entry of {key} has {} bytes, more than {ENTRY_BYTES_MAX}",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::Limit, what).hinting("shorten its attributes"));
        }
        if let Err(error) = Entry::decode(&bytes) {
            let what = format!("the attributes of {key} contradict each other");
            return Err(Error::new(ErrorKind::Usage, what).because(error));
        }
        Ok(bytes)
    }
}
