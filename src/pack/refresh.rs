//! A later view of a pack: what was committed since is added, what was there is shared.

use super::units::{self, Scanned, Unit};
use super::{Pack, Result};
use crate::disk::{FileBytes, ReadAt};
use crate::error::{Error, ErrorKind};
use crate::segment::{Committed, find_committed_after, read_frame_header};
use std::path::Path;
use std::sync::Arc;

/// The pack as it is now; `None` if nothing was committed since.
pub(super) fn refreshed(pack: &Pack) -> Result<Option<Pack>> {
    let Some(path) = &pack.path else {
        return Err(Error::new(ErrorKind::Usage, "a pack in memory has no file to look at"));
    };
    let opening = |source| Error::opening("opening the pack", path, source);
    let file = pack.options.machine.vfs.open_read(path).map_err(opening)?;
    if was_replaced(pack, &FileBytes::new(Arc::clone(&file), false).map_err(opening)?)? {
        return Pack::open_with(path, pack.options.clone()).map(Some);
    }
    // What a torn tail held may have been cut, and as much been written in its place.
    if file.len().map_err(opening)? == pack.bytes.len() && pack.torn_bytes == 0 {
        return Ok(None);
    }
    let bytes = FileBytes::new(file, pack.options.mapped).map_err(opening)?;
    later(pack, Arc::new(bytes), path).map_err(|error| error.at(path))
}

/// Whether another pack stands under the name: then the last commit's frame has another check.
fn was_replaced(pack: &Pack, bytes: &FileBytes) -> Result<bool> {
    let at = pack.last.frame_offset;
    let (_, known) = read_frame_header(&*pack.bytes, at).map_err(|error| pack.error(error))?;
    Ok(read_frame_header(bytes, at).map_or(true, |(_, check)| check != known))
}

fn later(pack: &Pack, bytes: Arc<dyn ReadAt>, path: &Path) -> Result<Option<Pack>> {
    let footer = pack.units.iter().find_map(Unit::footer);
    let committed = find_committed_after(&*bytes, &pack.last, footer)?;
    if committed.end == pack.end {
        return Ok(None);
    }
    let known = footer.map(|footer| footer.frame_offset);
    let is_indexed = committed.footer.as_ref().map(|footer| footer.frame_offset) != known;
    let units = if is_indexed {
        units::open_units(&bytes, &committed)?
    } else {
        let new = Unit::Scanned(Arc::new(Scanned::new(committed.tail.clone(), None)));
        std::iter::once(new).chain(pack.units.iter().cloned()).collect()
    };
    let Committed { last, end, torn_bytes, .. } = committed;
    let mut later = Pack {
        bytes,
        path: Some(path.to_owned()),
        options: pack.options.clone(),
        last,
        end,
        torn_bytes,
        units,
        frames: Arc::clone(&pack.frames),
    };
    join_tails(&mut later)?;
    Ok(Some(later))
}

/// Joins parts of the tail that are of like size, so that their number stays within the logarithm of
/// what they hold, and joining costs no more than that for each frame.
fn join_tails(pack: &mut Pack) -> Result<()> {
    while let [Unit::Scanned(new), Unit::Scanned(old), ..] = pack.units.as_slice()
        && new.footer.is_none()
        && old.footer.is_none()
        && old.frames.len() <= 2 * new.frames.len()
    {
        let joined = Scanned::joined(pack, old, new)?;
        pack.units.splice(..2, [Unit::Scanned(Arc::new(joined))]);
    }
    Ok(())
}
