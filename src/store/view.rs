//! Segments as they were listed last, and looking contents up in them.

use super::layout::{Condemned, Paths, is_segment_name};
use super::{Inner, StoreOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::pack::{OpenOptions, Pack};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// A reader looks at most so often for a content while collections go on around it.
const LOOKS_MAX: usize = 64;

/// The segments of a store at some time, by name.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) segments: Vec<Arc<Segment>>,
}

/// A segment, opened when something is looked up in it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pack: RwLock<Option<Arc<Pack>>>,
}

impl Segment {
    fn new(name: String, paths: &Paths) -> Self {
        let path = paths.segment(&name);
        Self { name, path, pack: RwLock::new(None) }
    }

    /// Its content as it was looked at last; `None` if the file is gone.
    pub(super) fn pack(&self, options: &StoreOptions) -> Result<Option<Arc<Pack>>> {
        if let Some(pack) = &*self.pack.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Some(Arc::clone(pack)));
        }
        let mut slot = self.pack.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pack) = &*slot {
            return Ok(Some(Arc::clone(pack)));
        }
        let options = OpenOptions {
            machine: options.machine.clone(),
            mapped: options.mapped,
            cache_bytes: options.cache_bytes,
            object_bytes_max: options.content_bytes_max,
        };
        match Pack::open_with(&self.path, options) {
            Ok(pack) => Ok(Some(Arc::clone(slot.insert(Arc::new(pack))))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks at what was committed since it was opened.
    pub(super) fn refresh(&self) -> Result<()> {
        let Some(pack) = self.pack.read().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(()); // it will be opened as it is then
        };
        match pack.refreshed() {
            Ok(None) => Ok(()),
            Ok(Some(later)) => {
                let mut slot = self.pack.write().unwrap_or_else(PoisonError::into_inner);
                // Another thread may have looked later than this one.
                let is_newer =
                    |known: &Arc<Pack>| known.committed_bytes() < later.committed_bytes();
                if slot.as_ref().is_none_or(is_newer) {
                    *slot = Some(Arc::new(later));
                }
                Ok(())
            }
            // Removed by a collection: what is open stays readable.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether it is known to hold as much as a segment gets: then, mostly, nothing is added to it.
    pub(super) fn is_full(&self, options: &StoreOptions) -> bool {
        let pack = self.pack.read().unwrap_or_else(PoisonError::into_inner);
        pack.as_ref().is_some_and(|pack| pack.committed_bytes() >= options.segment_bytes_max)
    }
}

impl Inner {
    /// The segments as they were listed last.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lists the segments that are there now. What was open stays open.
    pub(super) fn list(&self) -> Result<Arc<View>> {
        let dir = self.paths.segments();
        let listed = self.options.machine.vfs.list_dir(&dir);
        let listed = listed.map_err(|error| Error::io("listing the segments", &dir, error))?;
        let mut names: Vec<String> =
            listed.into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| is_segment_name(name));
        names.sort_unstable();
        let known = self.view();
        if known.segments.iter().map(|segment| &segment.name).eq(&names) {
            return Ok(known);
        }
        let segments = names.into_iter().map(|name| {
            let found = known.segments.binary_search_by(|segment| segment.name.cmp(&name));
            match found {
                Ok(at) => Arc::clone(&known.segments[at]),
                Err(_) => Arc::new(Segment::new(name, &self.paths)),
            }
        });
        let view = Arc::new(View { segments: segments.collect() });
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        Ok(view)
    }

    /// Looks at what was added to the segments of `view` that are `wanted`.
    pub(super) fn look_again(&self, view: &View, wanted: impl Fn(&Segment) -> bool) {
        for segment in view.segments.iter().filter(|segment| wanted(segment)) {
            // What can't be read now shows when something is looked up in it.
            let _ = segment.refresh();
        }
    }

    /// What `look` finds for a content in the first segment that has it whole; `None` if it is in no
    /// segment. Damage is an error only if no segment has the content undamaged.
    pub(super) fn find<T>(
        &self,
        look: impl Fn(&Arc<Pack>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        match self.find_in(&self.view(), &look) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == ErrorKind::Limit => return Err(error),
            Err(_) => {} // another copy may have been written since
        }
        for _ in 0..LOOKS_MAX {
            let before = Condemned::read(&*self.options.machine.vfs, &self.paths)?;
            let mut found = self.look_newly(&look);
            // A collection may be copying contents out of the condemned segments right now, and a
            // listing is no snapshot: it may have passed the new name before it was there and come to
            // the old one after it was gone. A second listing sees the new one.
            if matches!(found, Ok(None) | Err(_)) && !before.segments.is_empty() {
                found = self.look_newly(&look);
            }
            if matches!(found, Ok(Some(_))) {
                return found;
            }
            // Without a publication in between there was one sweep at most.
            if Condemned::read(&*self.options.machine.vfs, &self.paths)? == before {
                return found;
            }
        }
        let what = "collections went on all the time while a content was looked for";
        Err(Error::new(ErrorKind::Io, what).at(&self.paths.dir).hinting("try again"))
    }

    fn look_newly<T>(&self, look: &impl Fn(&Arc<Pack>) -> Result<Option<T>>) -> Result<Option<T>> {
        let view = self.list()?;
        self.look_again(&view, |_| true);
        self.find_in(&view, look)
    }

    fn find_in<T>(
        &self,
        view: &View,
        look: &impl Fn(&Arc<Pack>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut damage = None;
        for segment in &view.segments {
            let found = segment.pack(&self.options).and_then(|pack| match pack {
                Some(pack) => look(&pack),
                None => Ok(None),
            });
            match found {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// A content in memory.
    pub(super) fn get(&self, name: &Hash) -> Result<Option<Vec<u8>>> {
        if *name == Hash::of(b"") {
            return Ok(Some(Vec::new()));
        }
        self.find(|pack| pack.object(name))
    }
}
