//! A batch of the backend `pack`.

use super::entry::{attributes_of, ref_of};
use super::{PackBackend, Turn};
use crate::chunk::WHOLE_BYTES_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Content;
use crate::hash::Hash;
use crate::pack::{Key, Writer};
use crate::refs::{Change, Expect, Ref, To, check_key, conflict};
use crate::storage::backend::{Transaction, missing};
use std::collections::BTreeMap;
use std::io::Read;

/// Contents are held in memory up to this many bytes, so that a batch locks the pack only while it
/// is committed. More of them, and long streams, lock it until the batch ends.
const HELD_BYTES_MAX: usize = 16 << 20;

pub(super) struct PackTransaction<'a> {
    backend: &'a PackBackend,
    /// Names of the contents that are held, and where each ends in `held_bytes`.
    held: Vec<(Hash, usize)>,
    held_bytes: Vec<u8>,
    turn: Option<Turn<'a>>,
}

/// What a key stood for, and stands for after the changes so far.
type States<'a> = BTreeMap<&'a [u8], (Option<Ref>, Option<Ref>)>;

impl<'a> PackTransaction<'a> {
    pub(super) fn new(backend: &'a PackBackend) -> Self {
        Self { backend, held: Vec::new(), held_bytes: Vec::new(), turn: None }
    }

    /// Takes the turn and hands over what is held.
    fn writer(&mut self) -> Result<&mut Writer> {
        let writer = match &mut self.turn {
            Some(turn) => turn.writer(),
            none => none.insert(self.backend.turn()?).writer(),
        };
        let mut start = 0;
        for (name, end) in self.held.drain(..) {
            if !writer.holds(&name)? {
                writer.put_object(name, &self.held_bytes[start..end])?;
            }
            start = end;
        }
        self.held_bytes = Vec::new();
        Ok(writer)
    }

    /// Holds all changes to what is there, before any is made.
    fn plan<'c>(&mut self, changes: &'c [Change]) -> Result<(Vec<Option<Ref>>, States<'c>)> {
        let now_ns = self.backend.options.machine.clock.now_ns();
        let writer = match &mut self.turn {
            Some(turn) => turn.writer(),
            none => none.insert(self.backend.turn()?).writer(),
        };
        let mut states = States::new();
        let mut before = Vec::with_capacity(changes.len());
        for change in changes {
            let (_, value) = match states.get_mut(change.key.as_slice()) {
                Some(known) => known,
                None => {
                    let found = writer.entry(Key::storage(change.key.as_slice()))?;
                    let found = found.and_then(|put| ref_of(&put));
                    states.entry(&change.key).or_insert((found, found))
                }
            };
            if !change.expect.holds(value.as_ref()) {
                return Err(conflict(&change.key, &change.expect, value.as_ref()));
            }
            before.push(*value);
            *value = change.result(value.as_ref(), now_ns);
        }
        Ok((before, states))
    }
}

impl Transaction for PackTransaction<'_> {
    fn put(&mut self, content: &[u8]) -> Result<Hash> {
        if content.len() > WHOLE_BYTES_MAX {
            return Ok(self.writer()?.put_object_stream(content)?.name);
        }
        let name = Hash::of(content);
        if !content.is_empty() {
            self.held_bytes.extend_from_slice(content);
            self.held.push((name, self.held_bytes.len()));
        }
        if self.held_bytes.len() > HELD_BYTES_MAX {
            self.writer()?;
        }
        Ok(name)
    }

    fn put_stream(&mut self, content: &mut dyn Read) -> Result<Content> {
        let mut begin = Vec::new();
        let limit = WHOLE_BYTES_MAX as u64 + 1;
        let read = Read::take(&mut *content, limit).read_to_end(&mut begin);
        read.map_err(|error| Error::new(ErrorKind::Io, "reading the content").because(error))?;
        if begin.len() <= WHOLE_BYTES_MAX {
            return Ok(Content { name: self.put(&begin)?, len: begin.len() as u64 });
        }
        self.writer()?.put_object_stream(begin.as_slice().chain(content))
    }

    fn commit(mut self: Box<Self>, changes: &[Change]) -> Result<Vec<Option<Ref>>> {
        changes.iter().try_for_each(|change| check_key(&change.key))?;
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        // What is expected is looked at first, so that a conflict costs nothing. Where nothing is,
        // contents are compressed meanwhile.
        if changes.iter().all(|change| change.expect == Expect::Any) {
            self.writer()?;
        }
        let planned = self.plan(changes);
        let (before, states) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                // Nothing was written unless contents were: then the turn cuts them off.
                if let Some(mut turn) = self.turn.take()
                    && turn.writer().is_clean()
                {
                    turn.end()?;
                }
                return Err(error);
            }
        };
        let changed = |(_, (before, after)): &(&[u8], (Option<Ref>, Option<Ref>))| {
            before.map(|value| value.name) != after.map(|value| value.name)
        };
        let restores = changes.iter().any(|change| matches!(change.to, To::Restore(_)));
        let writer = self.writer()?;
        for (key, (before, after)) in states.into_iter().filter(|state| restores || changed(state))
        {
            match after {
                Some(value) if before != Some(value) => {
                    let content = Content { name: value.name, len: value.size_bytes };
                    let attributes = attributes_of(&value);
                    if !writer.put_change(&Key::storage(key), content, attributes)? {
                        return Err(missing(key, &value));
                    }
                }
                Some(_) => {}
                None => drop(writer.delete(Key::storage(key))?),
            }
        }
        writer.commit()?;
        if let Some(turn) = self.turn.take() {
            turn.end()?;
        }
        Ok(before)
    }
}
