//! Indexes, built again from what the frames hold and compared byte for byte.

use super::super::Pack;
use super::super::cursor::UnitCursor;
use super::super::key;
use super::super::units::{Unit, open_unit};
use super::log::Event;
use super::{Layout, Problem, problem};
use crate::format::commit::{Commit, Footer};
use crate::format::frame::FrameKind;
use crate::format::index::{ListedFrame, ObjectRow, key_directory, object_index};
use crate::format::{EntryPlace, FormatError, Locator, Rule};
use crate::hash::{Hash, Prefix};
use crate::index::KeyDirectory;
use crate::segment::{Result, read_frame_header, read_payload};
use std::collections::{BTreeMap, HashSet};

/// What comparing found.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) count: u64,
    pub(super) problems: Vec<Problem>,
}

/// Builds the index of every footer again.
pub(super) fn verify(
    pack: &Pack,
    layout: &Layout,
    rows: &[(Prefix, Locator)],
    unreadable: &[u64],
    events: &[Event],
) -> Built {
    let mut built = Built::default();
    let mut named = HashSet::new();
    for commit in &layout.commits {
        let Some(footer) = &commit.footer else {
            continue;
        };
        let result = check_cover(layout, commit, footer)
            .and_then(|()| {
                // What a damaged frame held is not known: its damage is told, not the index's.
                let covered = footer.covers_from..commit.frame_offset;
                if unreadable.iter().any(|offset| covered.contains(offset)) {
                    return Ok(());
                }
                check_objects(pack, commit, footer, rows)
            })
            .and_then(|()| check_keys(pack, commit, footer, events))
            .map(|frames| named.extend(frames));
        // What a section that can't be read leads to is not known: it is one fault, not many.
        if result.is_err() {
            let own = commit.segment_offset..commit.frame_offset;
            named.extend(layout.frames.iter().map(|h| h.offset).filter(|at| own.contains(at)));
        }
        named.extend(footer.sections.iter().map(|section| section.frame_offset));
        built.problems.extend(result.err().map(|error| problem(&error, "index")));
        built.count += 1;
    }
    for header in &layout.frames {
        use FrameKind::{KeyDirectory, Keys, ObjectIndex};
        if matches!(header.kind, KeyDirectory | Keys | ObjectIndex)
            && !named.contains(&header.offset)
        {
            let what = format!("{} frame that no footer leads to", header.kind.name());
            built.problems.push(Problem { rule: Some(Rule::Index), offset: header.offset, what });
        }
    }
    built
}

fn fault(offset: u64) -> crate::segment::ReadError {
    FormatError::new(Rule::Index, offset).into()
}

/// A unit begins with a segment, right behind the footer of the unit below it.
fn check_cover(layout: &Layout, commit: &Commit, footer: &Footer) -> Result<()> {
    let begins = footer.covers_from == 0 || {
        let below = layout.commits.iter().find(|below| below.frame_offset == footer.next_unit);
        let below = below.filter(|below| below.footer.is_some());
        let end = below.and_then(|below| {
            layout.frames.iter().find(|header| header.offset == below.frame_offset)
        });
        end.is_some_and(|header| header.next_offset() == footer.covers_from)
    };
    let [objects, keys] = [FrameKind::ObjectIndex, FrameKind::KeyDirectory]
        .map(|kind| footer.section(kind).is_some());
    if begins && objects == keys {
        return Ok(());
    }
    Err(FormatError::new(Rule::Commit, commit.frame_offset).into())
}

/// A section as it is stored: its frame's offset, its payload, the hash of its head in the footer.
type Stored<'a> = (u64, std::borrow::Cow<'a, [u8]>, Hash);

fn section_payload<'a>(
    pack: &'a Pack,
    footer: &Footer,
    kind: FrameKind,
) -> Result<Option<Stored<'a>>> {
    let Some(row) = footer.section(kind) else { return Ok(None) };
    let (header, _) = read_frame_header(&*pack.bytes, row.frame_offset)?;
    Ok(Some((row.frame_offset, read_payload(&*pack.bytes, &header)?, row.head_hash)))
}

fn check_objects(
    pack: &Pack,
    commit: &Commit,
    footer: &Footer,
    rows: &[(Prefix, Locator)],
) -> Result<()> {
    let Some((offset, stored, head)) = section_payload(pack, footer, FrameKind::ObjectIndex)?
    else {
        return Ok(()); // a scanned unit has no rows that could lie
    };
    let covered =
        |place: &Locator| (footer.covers_from..commit.frame_offset).contains(&place.frame_offset());
    let mut expected: Vec<ObjectRow> = rows
        .iter()
        .filter(|(_, place)| covered(place))
        .map(|(prefix, place)| ObjectRow { prefix: *prefix, place: *place })
        .collect();
    expected.sort_unstable();
    let (payload, head_hash) = object_index(&expected);
    if *stored != payload || head != head_hash { Err(fault(offset)) } else { Ok(()) }
}

/// Gives the offsets of the frames that the directory lists.
fn check_keys(pack: &Pack, commit: &Commit, footer: &Footer, events: &[Event]) -> Result<Vec<u64>> {
    let mut expected: BTreeMap<&[u8], (EntryPlace, bool)> = BTreeMap::new();
    for event in events {
        if (footer.covers_from..commit.frame_offset).contains(&event.place.frame_offset()) {
            expected.insert(&event.key, (event.place, event.is_delete));
        }
    }
    if footer.covers_from == 0 && footer.is_indexed() {
        expected.retain(|_, (_, is_delete)| !*is_delete);
    }
    let unit = open_unit(&pack.bytes, commit)?;
    let mut cursor = UnitCursor::new(pack, &unit);
    cursor.seek(&[])?;
    let mut expected_keys = expected.iter();
    while let Some((space, key)) = cursor.key() {
        let place = cursor.place()?;
        match expected_keys.next() {
            Some((expected, (at, _)))
                if expected.split_first() == Some((&space, key)) && *at == place => {}
            _ => return Err(fault(place.frame_offset())),
        }
        cursor.advance()?;
    }
    if expected_keys.next().is_some() {
        return Err(fault(commit.frame_offset));
    }
    let Some((offset, stored, head)) = section_payload(pack, footer, FrameKind::KeyDirectory)?
    else {
        return Ok(Vec::new());
    };
    let Unit::Indexed(indexed) = &unit else {
        return Err(fault(offset));
    };
    let Some(directory) = &indexed.keys else {
        return Err(fault(offset));
    };
    let frames = directory_frames(pack, directory)?;
    let (payload, head_hash) = key_directory(&frames, expected.len() as u64);
    let elsewhere = frames.iter().find(|(frame, _)| frame.offset < commit.segment_offset);
    if *stored != payload || head != head_hash || elsewhere.is_some() {
        return Err(fault(offset));
    }
    Ok(frames.into_iter().map(|(frame, _)| frame.offset).collect())
}

/// The frames that a directory lists, each with the check and the first key that it really has.
fn directory_frames(pack: &Pack, directory: &KeyDirectory) -> Result<Vec<(ListedFrame, Vec<u8>)>> {
    let mut frames = Vec::new();
    for position in 0..directory.frame_count()? {
        let offset = directory.frame(position)?.offset;
        let frame = pack.frame(offset)?;
        let items = 0..frame.header.item_count as usize;
        let (space, key) =
            items.filter_map(|item| frame.key(&*pack.bytes, item)).next().ok_or(fault(offset))?;
        frames.push((ListedFrame { offset, check: frame.check }, key::encode(space, key)));
    }
    Ok(frames)
}
