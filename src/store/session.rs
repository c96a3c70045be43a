//! Sessions: what a writer relies on stays until it is done (`spec/store.md`, "Sessions").

use super::layout::{Condemned, Paths, SessionState, create_locked, random_hex};
use super::view::View;
use super::{ContentStore, Inner, StoreOptions};
use crate::chunk::WHOLE_BYTES_MAX;
use crate::disk::File;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Content;
use crate::format::segment::Layout;
use crate::hash::Hash;
use crate::pack::{Pack, Whole, WriteOptions, Writer};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

/// A segment's writer indexes what was committed once it is so much.
const TAIL_BYTES_MAX: u64 = 16 << 20;
/// What is closed with less than this behind its last index gets none: reading it is as fast.
const UNINDEXED_BYTES_MAX: u64 = 1 << 20;
/// New names are random: one that is taken more often than this is a fault of the randomness.
const NAMES_TRIED: usize = 16;

/// What a session writes with; kept for the next one when it ends.
#[derive(Debug)]
pub(super) struct Slot {
    options: StoreOptions,
    file: Arc<dyn File>,
    path: PathBuf,
    segment: Option<OwnSegment>,
}

#[derive(Debug)]
struct OwnSegment {
    name: String,
    writer: Writer,
}

impl Slot {
    fn new(inner: &Inner) -> Result<Self> {
        let options = inner.options.clone();
        let dir = inner.paths.sessions();
        let vfs = &options.machine.vfs;
        for _ in 0..NAMES_TRIED {
            let path = dir.join(random_hex(&options.machine, &dir)?);
            let created = create_locked(&**vfs, &path);
            match created.map_err(|error| Error::io("beginning a session", &path, error))? {
                Some(file) => return Ok(Self { options, file, path, segment: None }),
                None => continue, // a collection took it for a left-over
            }
        }
        Err(Error::new(ErrorKind::Io, "no session file could be made")
            .at(&dir)
            .hinting("try again"))
    }

    fn tell(&self, state: SessionState) -> Result<()> {
        let told = state.write(&*self.file);
        told.map_err(|error| Error::io("writing the session file", &self.path, error))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Everything acknowledged is on disk: what fails from here on costs the next one time, and
        // nothing else. An index makes the segment quick to open.
        if let Some(own) = self.segment.take()
            && own.writer.is_clean()
            && own.writer.tail_bytes() > UNINDEXED_BYTES_MAX
        {
            let _ = own.writer.finish();
        }
        let _ = self.options.machine.vfs.remove_file(&self.path);
    }
}

/// One batch: from its first put to the change of refs.
///
/// Between [`Session::commit`] and [`Session::end`] the caller makes refs name what was put or kept.
/// A ref may be set to a content only in a session that has put or kept that content: nothing else
/// keeps a collection from removing it. Dropping a session gives up what was not committed.
#[derive(Debug)]
pub struct Session {
    inner: Arc<Inner>,
    /// Always there until the session ends.
    slot: Option<Slot>,
    /// Segments that were there when the session began: none of them goes before it ends, but for
    /// the condemned ones.
    view: Arc<View>,
    condemned: Condemned,
}

impl Session {
    pub(super) fn begin(store: &ContentStore) -> Result<Self> {
        let inner = Arc::clone(&store.inner);
        let kept = inner.slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut slot = match kept {
            Some(slot) => slot,
            None => Slot::new(&inner)?,
        };
        // In this order. A collection that publishes before the reading is obeyed; one that publishes
        // after it finds the session, as one that began before, and waits.
        slot.tell(SessionState::OLDEST)?;
        let condemned = Condemned::read(&*inner.options.machine.vfs, &inner.paths)?;
        // Listed after that, so that nothing is relied on that was removed before.
        let view = inner.list()?;
        slot.tell(SessionState(condemned.epoch))?;
        // Between sessions it may have been condemned, and removed.
        let stays = |own: &OwnSegment| {
            let found = view.segments.binary_search_by(|segment| segment.name.cmp(&own.name));
            found.is_ok() && !condemned.segments.contains(&own.name)
        };
        if !slot.segment.as_ref().is_some_and(stays) {
            slot.segment = None;
        }
        // What is missed here is only stored once more.
        let own = slot.segment.as_ref().map(|own| own.name.as_str());
        inner.look_again(&view, |segment| {
            Some(segment.name.as_str()) != own && !segment.is_full(&inner.options)
        });
        Ok(Self { inner, slot: Some(slot), view, condemned })
    }

    /// Puts `content` and gives its name. Stored once, however often it is put and by whomever.
    ///
    /// # Errors
    /// [`ErrorKind::Durability`] or [`ErrorKind::NoSpace`] when a write fails: then this session takes
    /// nothing more.
    pub fn put(&mut self, content: &[u8]) -> Result<Hash> {
        let name = Hash::of(content);
        if content.is_empty() || self.own_holds(&name)? {
            return Ok(name);
        }
        let is_large = content.len() > WHOLE_BYTES_MAX;
        // What can't be read is written again: that heals it.
        let is_whole =
            |pack: &Pack| Ok(pack.holds_settled(&name)? && (!is_large || pack.reads_whole(&name)?));
        if self.relied_on(is_whole) {
            return Ok(name);
        }
        let writer = self.writer()?;
        if is_large {
            writer.put_object_stream(content)?;
        } else {
            writer.put_object(name, content)?;
        }
        Ok(name)
    }

    /// Puts what `content` yields until its end, of any length, in bounded memory. Longer than 1 MiB
    /// it is cut into pieces, and those are stored once in each segment: if another segment holds the
    /// same content it is there twice until segments are merged. Who knows the name can
    /// [`Session::keep`] instead.
    ///
    /// # Errors
    /// As [`Session::put`]; an error of `content` is [`ErrorKind::Io`] and ends nothing.
    pub fn put_stream(&mut self, mut content: impl Read) -> Result<Content> {
        let mut start = Vec::new();
        let limit = WHOLE_BYTES_MAX as u64 + 1;
        content.by_ref().take(limit).read_to_end(&mut start).map_err(|error| {
            Error::new(ErrorKind::Io, "reading the content that is put").because(error)
        })?;
        if start.len() <= WHOLE_BYTES_MAX {
            return Ok(Content { name: self.put(&start)?, len: start.len() as u64 });
        }
        self.writer()?.put_object_stream(io::Cursor::new(start).chain(content))
    }

    /// Makes sure that the content named `name` stays while this session lasts, and says whether it
    /// is there. What refs are set to without a put (a copy, a rename, an undo) must be kept first.
    ///
    /// # Errors
    /// As [`Session::put`], and [`ErrorKind::Corrupt`] if every copy is damaged.
    pub fn keep(&mut self, name: &Hash) -> Result<bool> {
        if self.is_kept(name)? {
            return Ok(true);
        }
        // In a condemned segment, or in a commit that may not be on disk: a copy of it stays.
        let inner = Arc::clone(&self.inner);
        self.copy(&inner, name)
    }

    /// Puts the content named `name` of another store, and says whether that one has it. Reads
    /// nothing that is here already.
    ///
    /// # Errors
    /// As [`Session::put`], and those of reading the other store.
    pub fn copy_from(&mut self, other: &ContentStore, name: &Hash) -> Result<bool> {
        if self.is_kept(name)? {
            return Ok(true);
        }
        self.copy(&other.inner, name)
    }

    /// Puts `content`, named `name`, though the store has it: what is there turned out to be damaged.
    /// Says whether that was its name; if not, or if reading it failed, nothing refers to it.
    ///
    /// # Errors
    /// As [`Session::put_stream`].
    pub fn put_again(&mut self, name: &Hash, content: impl Read) -> Result<bool> {
        if self.own_holds(name)? {
            // A segment stores an object once: the whole copy goes into another one.
            self.commit()?;
            let (segment, writer) = new_segment(&self.inner)?;
            if let Some(slot) = self.slot.as_mut() {
                slot.segment = Some(OwnSegment { name: segment, writer });
            }
        }
        Ok(self.writer()?.put_object_stream(content)?.name == *name)
    }

    /// Makes everything that was put or kept so far durable: from now on refs may name it. At most
    /// one sync, and now and then two more for an index; none if nothing had to be written. More may
    /// be put and committed afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::Durability`] if the disk failed: then refs must not name what was put since
    /// the last commit.
    pub fn commit(&mut self) -> Result<()> {
        let limit = self.inner.options.segment_bytes_max;
        let Some(own) = self.own() else {
            return Ok(());
        };
        own.writer.commit()?;
        if own.writer.committed_bytes() >= limit
            && let Some(own) = self.slot.as_mut().and_then(|slot| slot.segment.take())
        {
            own.writer.finish()?;
        }
        Ok(())
    }

    /// Ends the session, once refs name what was committed. What was not committed is given up.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the end could not be noted; then it is over nevertheless.
    pub fn end(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        let Some(mut slot) = self.slot.take() else {
            return Ok(());
        };
        // Dropping a writer cuts off what was not committed; one that failed is of no more use.
        if slot.segment.as_ref().is_some_and(|own| !own.writer.is_clean()) {
            slot.segment = None;
        }
        slot.tell(SessionState::IDLE)?; // or its file goes, with its lock
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        Ok(())
    }

    fn own(&mut self) -> Option<&mut OwnSegment> {
        self.slot.as_mut()?.segment.as_mut()
    }

    fn own_holds(&mut self, name: &Hash) -> Result<bool> {
        self.own().map_or(Ok(false), |own| own.writer.holds(name))
    }

    /// Whether the content will be there after the commit without anything being written.
    fn is_kept(&mut self, name: &Hash) -> Result<bool> {
        let is_empty = *name == Hash::of(b"");
        Ok(is_empty
            || self.own_holds(name)?
            || self.relied_on(|pack: &Pack| pack.holds_settled(name)))
    }

    /// Whether a segment of others holds what is asked for and will stay. Where that can't be told
    /// the answer is no: then it is written once more.
    fn relied_on(&self, holds: impl Fn(&Pack) -> Result<bool>) -> bool {
        let own = self.slot.as_ref().and_then(|slot| slot.segment.as_ref()).map(|own| &own.name);
        let mut others = self.view.segments.iter().filter(|segment| {
            Some(&segment.name) != own && !self.condemned.segments.contains(&segment.name)
        });
        others.any(|segment| match segment.pack(&self.inner.options) {
            Ok(Some(pack)) => holds(&pack).unwrap_or(false),
            Ok(None) | Err(_) => false,
        })
    }

    /// Writes a copy of a content that is in `from`.
    fn copy(&mut self, from: &Inner, name: &Hash) -> Result<bool> {
        let Some(pack) = from.find(|pack| Ok(pack.contains(name)?.then(|| Arc::clone(pack))))?
        else {
            return Ok(false);
        };
        let writer = self.writer()?;
        match pack.whole_or_reader(name)? {
            None => return Ok(false), // it was found there: committed bytes stay
            Some(Whole::Bytes(bytes)) => writer.put_object(*name, &bytes)?,
            Some(Whole::Reader(reader)) => drop(writer.put_object_stream(reader)?),
        }
        Ok(true)
    }

    fn writer(&mut self) -> Result<&mut Writer> {
        if self.own().is_none() {
            let claimed = self.claim()?;
            if let Some(slot) = self.slot.as_mut() {
                slot.segment = Some(claimed);
            }
        }
        let own = self.own().ok_or_else(|| Error::new(ErrorKind::Usage, "the session is over"))?;
        Ok(&mut own.writer)
    }

    /// A segment to write to: one that has room and that nobody else writes to, or a new one.
    fn claim(&self) -> Result<OwnSegment> {
        let options = &self.inner.options;
        for segment in &self.view.segments {
            if self.condemned.segments.contains(&segment.name) {
                continue;
            }
            let file = options.machine.vfs.open_read(&segment.path);
            if !file.and_then(|file| file.len()).is_ok_and(|len| len < options.segment_bytes_max) {
                continue;
            }
            match Writer::append(&segment.path, write_options(options)) {
                Ok(writer) => return Ok(OwnSegment { name: segment.name.clone(), writer }),
                Err(error) if is_of_the_disk(error.kind()) => return Err(error),
                Err(_) => {} // someone writes to it, or it is damaged: `verify` says so
            }
        }
        new_segment(&self.inner).map(|(name, writer)| OwnSegment { name, writer })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // If the end can't be noted the slot is dropped, and its lock ends the session.
        let _ = self.finish();
    }
}

/// Begins a segment under a name that no other has.
pub(super) fn new_segment(inner: &Inner) -> Result<(String, Writer)> {
    let options = &inner.options;
    let mut tried = 0;
    loop {
        let name = format!("{}.pefc", random_hex(&options.machine, &inner.paths.dir)?);
        let path: PathBuf = Paths::segment(&inner.paths, &name);
        tried += 1;
        match Writer::create(&path, write_options(options)) {
            Ok(writer) => return Ok((name, writer)),
            // Taken for a left-over by a collection, or the name is there.
            Err(error)
                if tried < NAMES_TRIED
                    && matches!(error.kind(), ErrorKind::Locked | ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_of_the_disk(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Durability | ErrorKind::NoSpace | ErrorKind::Io)
}

fn write_options(options: &StoreOptions) -> WriteOptions {
    WriteOptions {
        machine: options.machine.clone(),
        level: options.level,
        threads: options.threads,
        layout: Layout::Records,
        verify_writes: options.verify_writes,
        tail_bytes_max: TAIL_BYTES_MAX,
        ..WriteOptions::default()
    }
}
