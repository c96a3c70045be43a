//! Copying what is still wanted out of condemned segments.

use super::super::Inner;
use super::super::layout::Condemned;
use super::super::session::new_segment;
use super::super::view::Segment;
use super::CollectReport;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Locator;
use crate::hash::Hash;
use crate::pack::{Pack, Whole, Writer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A condemned segment, or why it can't be opened.
struct Victim {
    name: String,
    pack: Result<Arc<Pack>>,
}

/// Contents to copy, in the order in which they lie.
type Wanted = Vec<(usize, Locator, Hash)>;

impl Inner {
    /// Copies what must stay out of the condemned segments, durably, and gives those that must not be
    /// removed because something in them could not be read. Without `live` everything must stay.
    pub(super) fn copy_out(
        &self,
        condemned: &Condemned,
        live: Option<&[Hash]>,
        report: &mut CollectReport,
    ) -> Result<BTreeSet<String>> {
        let view = self.list()?;
        self.look_again(&view, |_| true);
        let (victims, others): (Vec<_>, Vec<_>) =
            view.segments.iter().partition(|segment| condemned.segments.contains(&segment.name));
        let mut damaged = BTreeSet::new();
        let victims = self.open(&victims);
        // Without its index it can't be said what an unreadable segment holds.
        damaged.extend(victims.iter().filter(|v| v.pack.is_err()).map(|v| v.name.clone()));
        let others: Vec<Arc<Pack>> =
            self.open(&others).into_iter().filter_map(|other| other.pack.ok()).collect();
        let wanted = match live {
            Some(live) => wanted_of_live(&victims, &others, live, &mut damaged, report),
            None => wanted_of_all(&victims, &mut damaged),
        };
        let mut writer = None;
        for (at, _, name) in wanted {
            let victim = &victims[at];
            if others.iter().any(|other| is_there_to_stay(other, &name)) {
                continue;
            }
            let Ok(pack) = &victim.pack else {
                continue;
            };
            match self.copy(&mut writer, pack, &name) {
                Ok(()) => report.copied_count += 1,
                Err(error) if error.is_damage() => {
                    // Another condemned segment may have it whole, but this one goes to nobody.
                    damaged.insert(victim.name.clone());
                    for other in victims.iter().filter_map(|victim| victim.pack.as_ref().ok()) {
                        match self.copy(&mut writer, other, &name) {
                            Ok(()) => break,
                            Err(error) if error.is_damage() => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(mut writer) = writer {
            // Two commits: the second proves that the first, with all contents, is on disk.
            writer.commit()?;
            report.written_bytes = writer.finish()?.stored_bytes;
        }
        Ok(damaged)
    }

    fn open(&self, segments: &[&Arc<Segment>]) -> Vec<Victim> {
        let open = |segment: &&Arc<Segment>| {
            let pack = segment.pack(&self.options).transpose()?;
            Some(Victim { name: segment.name.clone(), pack })
        };
        segments.iter().filter_map(open).collect()
    }

    fn copy(&self, writer: &mut Option<Writer>, from: &Pack, name: &Hash) -> Result<()> {
        let missing = || Error::new(ErrorKind::Missing, format!("content {name} can't be read"));
        let content = from.whole_or_reader(name)?.ok_or_else(missing)?;
        let writer = match writer {
            Some(writer) => writer,
            None => writer.insert(new_segment(self)?.1),
        };
        match content {
            Whole::Bytes(_) if writer.holds(name)? => Ok(()), // two condemned segments had it
            Whole::Bytes(bytes) => writer.put_object(*name, &bytes),
            Whole::Reader(reader) => {
                // Read to its end first: a damaged chunk must not look like a failure to write.
                if !from.reads_whole(name)? {
                    return Err(missing());
                }
                writer.put_object_stream(reader).map(drop)
            }
        }
    }
}

/// Whether a segment that stays has the content whole, and on disk.
fn is_there_to_stay(pack: &Pack, name: &Hash) -> bool {
    // Not looked at beyond the index where it is not: that is what most answers are.
    matches!(pack.indexed_place(name), Ok(Some(_)))
        && pack.holds_settled(name).unwrap_or(false)
        && pack.reads_whole(name).unwrap_or(false)
}

fn wanted_of_live(
    victims: &[Victim],
    others: &[Arc<Pack>],
    live: &[Hash],
    damaged: &mut BTreeSet<String>,
    report: &mut CollectReport,
) -> Wanted {
    let mut wanted = Wanted::new();
    for name in live {
        let mut is_listed = false;
        for (at, victim) in victims.iter().enumerate() {
            let Ok(pack) = &victim.pack else {
                is_listed = true; // perhaps
                continue;
            };
            match pack.indexed_place(name) {
                Ok(None) => {}
                Ok(Some(place)) => {
                    wanted.push((at, place, *name));
                    is_listed = true;
                    break;
                }
                // A damaged index can't say that something is not there.
                Err(_) => {
                    damaged.insert(victim.name.clone());
                    is_listed = true;
                }
            }
        }
        let is_empty = *name == Hash::of(b"");
        let is_elsewhere =
            || others.iter().any(|other| !matches!(other.indexed_place(name), Ok(None)));
        if !is_listed && !is_empty && !is_elsewhere() {
            report.missing.push(*name);
        }
    }
    wanted.sort_unstable_by_key(|(at, place, _)| (*at, *place));
    wanted
}

fn wanted_of_all(victims: &[Victim], damaged: &mut BTreeSet<String>) -> Wanted {
    let mut wanted = Wanted::new();
    for (at, victim) in victims.iter().enumerate() {
        let Ok(pack) = &victim.pack else {
            continue;
        };
        let mut is_whole = true;
        let walked = pack.each_content(|place, name| {
            match name {
                Ok(name) => wanted.push((at, place, name)),
                Err(_) => is_whole = false,
            }
            Ok(())
        });
        if walked.is_err() || !is_whole {
            damaged.insert(victim.name.clone());
        }
    }
    wanted
}
