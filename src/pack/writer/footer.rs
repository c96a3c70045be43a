//! What a footer indexes: this segment alone, or earlier units with it, so that their number stays
//! within the logarithm of what they hold.

use super::super::Pack;
use super::super::cursor::UnitCursor;
use super::super::key;
use super::super::units::Unit;
use super::pool::Job;
use crate::error::Result;
use crate::format::frame::FrameKind;
use crate::format::index::{KeyRow, ObjectRow, put_key_row};
use crate::format::{EntryPlace, UNINDEXED_BYTES_MAX};
use std::collections::BTreeMap;

/// Body of a keys frame, about.
const KEYS_FRAME_BYTES: usize = 32 << 10;

/// A key's newest place, and whether it is a delete.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyPlace {
    pub(super) place: EntryPlace,
    pub(super) is_delete: bool,
}

/// What the next footer covers.
#[derive(Debug)]
pub(super) struct Cover {
    /// File offset of the first segment.
    pub(super) covers_from: u64,
    /// Footer of the unit below, 0 if everything is covered.
    pub(super) next_unit: u64,
    /// Whether the unit is so small that it is scanned.
    pub(super) unindexed: bool,
    /// Whether earlier units were taken in.
    pub(super) merged: bool,
}

/// Decides what a footer at `position` covers and takes rows of earlier units into `rows` and
/// `keys`, which hold those of this segment.
pub(super) fn cover(
    base: Option<&Pack>,
    segment_offset: u64,
    position: u64,
    rows: &mut Vec<ObjectRow>,
    keys: &mut BTreeMap<Vec<u8>, KeyPlace>,
) -> Result<Cover> {
    let finished: Vec<&Unit> = base
        .map_or(&[][..], |pack| &pack.units)
        .iter()
        .filter(|unit| footer_of(unit).is_some())
        .collect();
    if let Some(cover) = unindexed(&finished, segment_offset, position) {
        return Ok(cover);
    }
    let mut cover =
        Cover { covers_from: segment_offset, next_unit: 0, unindexed: false, merged: false };
    let mut below = finished.into_iter();
    for unit in below.by_ref() {
        let size = (rows.len() + keys.len()) as u64;
        let merge = match (unit, base) {
            (Unit::Scanned(_), Some(_)) => true,
            (Unit::Indexed(indexed), Some(_)) => {
                let objects = indexed.objects.as_ref().map_or(Ok(0), |index| index.count())?;
                let keys = indexed.keys.as_ref().map_or(Ok(0), |index| index.key_count())?;
                let fits = objects + size < u64::from(u32::MAX) / 24;
                objects + keys < 2 * size && fits
            }
            (_, None) => false,
        };
        let (footer_offset, covers_from) = footer_of(unit).unwrap_or((0, 0));
        if !merge {
            cover.next_unit = footer_offset;
            break;
        }
        if let Some(pack) = base {
            take(pack, unit, rows, keys)?;
        }
        cover.covers_from = covers_from;
        cover.merged = true;
    }
    if cover.covers_from == 0 {
        keys.retain(|_, key| !key.is_delete); // nothing below is hidden by them
    }
    Ok(cover)
}

fn footer_of(unit: &Unit) -> Option<(u64, u64)> {
    let commit = unit.footer()?;
    Some((commit.frame_offset, commit.footer.as_ref()?.covers_from))
}

/// A unit that needs no index: this segment with all scanned ones before it, if that is little.
fn unindexed(finished: &[&Unit], segment_offset: u64, position: u64) -> Option<Cover> {
    let mut covers_from = segment_offset;
    let mut below = finished.iter().peekable();
    while let Some(unit) = below.next_if(|unit| matches!(unit, Unit::Scanned(_))) {
        covers_from = footer_of(unit)?.1;
    }
    let next_unit = below.next().and_then(|unit| footer_of(unit)).map_or(0, |(offset, _)| offset);
    (position - covers_from <= UNINDEXED_BYTES_MAX).then_some(Cover {
        covers_from,
        next_unit,
        unindexed: true,
        merged: false,
    })
}

/// Adds the rows of an older unit.
fn take(
    pack: &Pack,
    unit: &Unit,
    rows: &mut Vec<ObjectRow>,
    keys: &mut BTreeMap<Vec<u8>, KeyPlace>,
) -> Result<()> {
    match unit {
        Unit::Scanned(scanned) => rows.extend_from_slice(scanned.objects(pack)?),
        Unit::Indexed(indexed) => {
            if let Some(objects) = &indexed.objects {
                for position in 0..objects.count()? {
                    rows.push(objects.row(position)?);
                }
            }
        }
    }
    take_keys(pack, unit, keys)
}

/// Adds the keys of an older unit that are not there yet.
pub(super) fn take_keys(
    pack: &Pack,
    unit: &Unit,
    keys: &mut BTreeMap<Vec<u8>, KeyPlace>,
) -> Result<()> {
    let mut cursor = UnitCursor::new(pack, unit);
    cursor.seek(&[])?;
    while let Some((space, key)) = cursor.key() {
        if let std::collections::btree_map::Entry::Vacant(vacant) =
            keys.entry(key::encode(space, key))
        {
            let (place, is_delete) = (cursor.place()?, !cursor.is_put()?);
            vacant.insert(KeyPlace { place, is_delete });
        }
        cursor.advance()?;
    }
    Ok(())
}

/// Pages of keys, each with its first key.
pub(super) fn key_pages(keys: &BTreeMap<Vec<u8>, KeyPlace>) -> Vec<(Vec<u8>, Job)> {
    let mut pages = Vec::new();
    let mut page: Option<(Vec<u8>, Vec<u8>, u32)> = None;
    let mut previous: &[u8] = &[];
    for (key, at) in keys {
        if page.as_ref().is_some_and(|(_, body, _)| body.len() >= KEYS_FRAME_BYTES) {
            pages.extend(page.take().map(keys_job));
        }
        if page.is_none() {
            previous = &[];
        }
        let (_, body, count) = page.get_or_insert_with(|| (key.clone(), Vec::new(), 0));
        put_key_row(body, previous, &KeyRow { key: key.clone(), place: at.place });
        *count += 1;
        previous = key;
    }
    pages.extend(page.map(keys_job));
    pages
}

fn keys_job((first, body, item_count): (Vec<u8>, Vec<u8>, u32)) -> (Vec<u8>, Job) {
    let kind = FrameKind::Keys;
    (first, Job::Plain { kind, flags: 0, item_count, body, compress: true })
}
