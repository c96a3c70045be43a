//! The log from its first entry: order, tree, seals, and what is live.

use super::super::frames::Items;
use super::super::writer::LiveMap;
use super::super::{Pack, key};
use super::{Layout, Problem, problem};
use crate::format::commit::Commit;
use crate::format::entry::{Content, Entry, Seal};
use crate::format::frame::{FLAG_SORTED, FrameHeader, FrameKind};
use crate::format::{EntryPlace, FormatError, REFERENCE_DEPTH_MAX, Rule};
use crate::segment::Result;
use crate::tree::{Frontier, Node, leaf_hash, sha256};
use std::collections::BTreeMap;

/// What a put or delete did to a key.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) key: Vec<u8>,
    pub(super) place: EntryPlace,
    pub(super) is_delete: bool,
}

/// What a put says of its content.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) content: Content,
    pub(super) sha256: Option<Node>,
    /// Offset of the put's frame.
    pub(super) offset: u64,
}

/// The log as it was replayed.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) problems: Vec<Problem>,
    pub(super) entry_count: u64,
    pub(super) generation_count: u64,
    /// Sizes of the log right after its seals.
    pub(super) sealed: Vec<u64>,
    /// Live keys with their contents.
    pub(super) live: BTreeMap<Vec<u8>, Option<Content>>,
    /// Every put that names a content.
    pub(super) puts: Vec<Named>,
    /// Puts and deletes in log order.
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Default)]
struct State {
    out: Replayed,
    frontier: Frontier,
    hashes: BTreeMap<Vec<u8>, Node>,
    /// Log size and root after the newest seal.
    sealed: Option<(u64, Node)>,
    seal: Option<EntryPlace>,
    /// Whether the last entry was a seal: then a footer must follow.
    ends_in_seal: bool,
    /// Newest key in the sorted run of entries frames of this commit.
    last_key: Option<Vec<u8>>,
}

/// Replays the log of a pack. Stops at the first entry that can't be read, since nothing behind it
/// can be judged.
pub(super) fn replay(pack: &Pack, layout: &Layout) -> Replayed {
    let mut state = State::default();
    let mut commits = layout.commits.iter();
    for header in &layout.frames {
        let done = match header.kind {
            FrameKind::Entries => state.entries(pack, header),
            FrameKind::Commit => {
                let commit = commits.clone().find(|commit| commit.frame_offset == header.offset);
                match commit {
                    Some(commit) => {
                        commits.by_ref().find(|c| c.frame_offset == header.offset);
                        state.commit(commit);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            state.out.problems.push(problem(&error, "log"));
            break;
        }
    }
    state.out
}

impl State {
    fn fault(&mut self, rule: Rule, offset: u64, what: String) {
        self.out.problems.push(Problem { rule: Some(rule), offset, what });
    }

    fn entries(&mut self, pack: &Pack, header: &FrameHeader) -> Result<()> {
        let frame = pack.load(header.offset, REFERENCE_DEPTH_MAX)?;
        let fault = FormatError::new(Rule::Entry, header.offset);
        let Items::Entries(table) = &frame.items else {
            return Err(fault.into());
        };
        let body = frame.body(&*pack.bytes)?;
        if table.first_index != self.frontier.size() {
            let (found, expected) = (table.first_index, self.frontier.size());
            return Err(FormatError::numbers(
                Rule::Length,
                header.payload_offset(),
                found,
                expected,
            )
            .into());
        }
        if header.flags & FLAG_SORTED == 0 {
            self.last_key = None;
        }
        // Keys, then an entry without one, then another key: what halving would not find.
        let (mut in_run, mut behind_run) = (false, false);
        for item in 0..table.len() {
            let bytes = table.entry(&body, item).ok_or(fault)?;
            let place = frame.entry_place(item)?;
            let entry = Entry::decode(bytes)?.0;
            let has_key = matches!(entry, Entry::Put(_) | Entry::Delete(_));
            if has_key && behind_run && header.flags & FLAG_SORTED != 0 {
                let what = "an entry without a key stands between sorted ones".to_owned();
                self.fault(Rule::LogOrder, header.offset, what);
            }
            behind_run |= in_run && !has_key;
            in_run |= has_key;
            self.entry(&entry, bytes, place, header.flags & FLAG_SORTED != 0);
            self.frontier.push(leaf_hash(bytes));
            self.out.entry_count += 1;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry<'_>, bytes: &[u8], place: EntryPlace, sorted: bool) {
        let (index, offset) = (self.frontier.size(), place.frame_offset());
        if (index == 0) != matches!(entry, Entry::Genesis(_)) {
            self.fault(
                Rule::LogOrder,
                offset,
                format!("entry {index}: genesis is entry 0, and only there"),
            );
        }
        if self.ends_in_seal {
            self.fault(
                Rule::LogOrder,
                offset,
                format!("entry {index} follows a seal in the same commit"),
            );
        }
        let space_and_key = match entry {
            Entry::Put(put) => Some(key::encode(put.space, &put.key)),
            Entry::Delete(delete) => Some(key::encode(delete.space, &delete.key)),
            _ => None,
        };
        if let (Some(key), true) = (&space_and_key, sorted) {
            if self.last_key.as_ref().is_some_and(|last| last >= key) {
                self.fault(Rule::LogOrder, offset, format!("entry {index} is out of key order"));
            }
            self.last_key = Some(key.clone());
        }
        match (entry, space_and_key) {
            (Entry::Put(put), Some(key)) => {
                if let Some(content) = put.content {
                    self.out.puts.push(Named { content, sha256: put.sha256, offset });
                }
                self.out.live.insert(key.clone(), put.content);
                self.hashes.insert(key.clone(), sha256(bytes));
                self.out.events.push(Event { key, place, is_delete: false });
            }
            (Entry::Delete(_), Some(key)) => {
                if self.out.live.remove(&key).is_none() {
                    self.fault(
                        Rule::LogOrder,
                        offset,
                        format!("entry {index} deletes a key that is not there"),
                    );
                }
                self.hashes.remove(&key);
                self.out.events.push(Event { key, place, is_delete: true });
            }
            (Entry::Seal(seal), _) => self.seal(seal, place),
            _ => {}
        }
    }

    fn seal(&mut self, seal: &Seal<'_>, place: EntryPlace) {
        let offset = place.frame_offset();
        if seal.previous != self.sealed {
            self.fault(Rule::Seal, offset, "a seal does not continue the one before it".into());
        }
        let mut map = LiveMap::default();
        for (key, hash) in &self.hashes {
            map.add_hashed(key, *hash, self.out.live.get(key).copied().flatten());
        }
        let map = map.finish();
        if (seal.map_size, seal.map_root) != (map.size, map.root) {
            self.fault(
                Rule::MapRoot,
                offset,
                "the live entries give another map root than the seal".into(),
            );
        }
        if (seal.object_count, seal.object_bytes) != (map.object_count, map.object_bytes) {
            self.fault(Rule::Seal, offset, "a seal counts other objects than are live".into());
        }
        self.seal = Some(place);
        self.out.sealed.push(self.frontier.size() + 1);
        self.ends_in_seal = true;
        self.out.generation_count += 1;
    }

    fn commit(&mut self, commit: &Commit) {
        let offset = commit.frame_offset;
        let log = (commit.log_size, &commit.frontier[..]);
        if log != (self.frontier.size(), self.frontier.nodes()) {
            self.fault(
                Rule::LogRoot,
                offset,
                "the entries give another log than the commit states".into(),
            );
        }
        if commit.generation != self.out.generation_count || commit.seal != self.seal {
            self.fault(
                Rule::Seal,
                offset,
                "a commit names another newest seal than the log has".into(),
            );
        }
        if self.ends_in_seal && commit.footer.is_none() {
            self.fault(Rule::Seal, offset, "a seal without a footer".into());
        }
        if self.ends_in_seal {
            self.sealed = Some((self.frontier.size(), self.frontier.root()));
        }
        self.ends_in_seal = false;
        self.last_key = None;
    }
}
