//! Looks at all that lies below a source, on several threads: each walks a part of the tree, and
//! leaves directories that it comes by to threads that have nothing to do.

use super::scan::{Filter, Item, SourceProblem, SourceProblemKind, join};
use super::{Source, check_cancel};
use crate::disk::tree::{FileKind, Metadata, SourceTree, WalkError, WalkStep};
use crate::error::Result;
use crate::format::KEY_BYTES_MAX;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What was found, in no order that means anything.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) items: Vec<Item>,
    pub(super) problems: Vec<SourceProblem>,
    /// Keys of which it is unknown what is there and below.
    pub(super) unknown: Vec<Vec<u8>>,
}

/// Directories to walk.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Threads that wait for a directory, less the directories that wait for a thread; asked
    /// without the lock, so it may be wrong for a moment, and then a part is walked by another thread.
    idle: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    dirs: Vec<Vec<u8>>,
    /// Threads that walk, and may yet find directories to leave to others.
    walking: usize,
    /// Somebody failed: nobody goes on.
    stopped: bool,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory to walk; `None` when all is done.
    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(dir) = state.dirs.pop() {
                state.walking += 1;
                return Some(dir);
            }
            if state.walking == 0 {
                return None;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Leaves a directory to a thread that has nothing to do, if there is one.
    fn leave(&self, dir: &[u8]) -> bool {
        let one_less = |idle: usize| idle.checked_sub(1);
        if self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return false;
        }
        self.lock().dirs.push(dir.to_vec());
        self.changed.notify_one();
        true
    }

    fn done(&self, failed: bool) {
        let mut state = self.lock();
        state.walking -= 1;
        state.stopped |= failed;
        if state.stopped || (state.walking == 0 && state.dirs.is_empty()) {
            self.changed.notify_all();
        }
    }
}

/// Looks at the source's own directory or file and at all below.
pub(super) fn look(
    number: u32,
    source: &Source,
    tree: &Arc<SourceTree>,
    own: Metadata,
    is_dir: bool,
    filter: &Filter<'_>,
) -> Result<Found> {
    let prefix = &source.key_prefix;
    let look = Look { number, prefix, tree, filter };
    let mut found = Found::default();
    if !prefix.is_empty() {
        if filter.exclude.is_some_and(|exclude| exclude(prefix, is_dir)) {
            return Ok(found);
        }
        look.found(&mut found, prefix.clone(), prefix.len(), own);
    }
    if !is_dir {
        return Ok(found);
    }
    let queue = Queue::default();
    queue.lock().dirs.push(Vec::new());
    let parts: Vec<Result<Found>> = std::thread::scope(|scope| {
        let spawn = |_| {
            let walker = std::thread::Builder::new().name("pefc-look".to_owned());
            // Without the thread the others walk its part.
            walker.spawn_scoped(scope, || look.walk_all(&queue)).ok()
        };
        let others: Vec<_> = (1..filter.threads).filter_map(spawn).collect();
        let own = look.walk_all(&queue);
        let joined = others.into_iter().map(|other| match other.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(own).chain(joined).collect()
    });
    for part in parts {
        let part = part?;
        found.items.extend(part.items);
        found.problems.extend(part.problems);
        found.unknown.extend(part.unknown);
    }
    Ok(found)
}

/// A source, as every thread needs it.
struct Look<'a> {
    number: u32,
    prefix: &'a [u8],
    tree: &'a Arc<SourceTree>,
    filter: &'a Filter<'a>,
}

impl Look<'_> {
    /// Walks directories as long as there are any.
    fn walk_all(&self, queue: &Queue) -> Result<Found> {
        let mut found = Found::default();
        while let Some(dir) = queue.take() {
            let result = self.walk(queue, &mut found, &dir);
            queue.done(result.is_err());
            result?;
        }
        Ok(found)
    }

    fn walk(&self, queue: &Queue, found: &mut Found, dir: &[u8]) -> Result<()> {
        let mut walk = self.tree.walk_from(dir);
        while let Some(step) = walk.next() {
            check_cancel(self.filter.cancel)?;
            match step {
                Ok(entry) => {
                    let is_dir = entry.metadata.kind == FileKind::Directory;
                    let key = join(self.prefix, &entry.path);
                    if self.filter.exclude.is_some_and(|exclude| exclude(&key, is_dir)) {
                        walk.skip_dir();
                        continue;
                    }
                    let path_at = key.len() - entry.path.len();
                    self.found(found, key, path_at, entry.metadata);
                    if is_dir && queue.leave(&entry.path) {
                        walk.skip_dir();
                    }
                }
                Err(error) => self.failed(found, &error),
            }
        }
        Ok(())
    }

    fn found(&self, found: &mut Found, key: Vec<u8>, path_at: usize, metadata: Metadata) {
        if self.filter.skip.contains(&(metadata.device, metadata.inode)) {
            return;
        }
        if key.len() > KEY_BYTES_MAX {
            let error = format!("its key has {} bytes, more than {KEY_BYTES_MAX}", key.len());
            let kind = SourceProblemKind::TooLong;
            found.problems.push(SourceProblem { key, kind, error });
            return;
        }
        found.items.push(Item {
            key: key.into_boxed_slice(),
            path_at: u32::try_from(path_at).unwrap_or(u32::MAX), // at most KEY_BYTES_MAX
            source: self.number,
            first: None,
            metadata,
        });
    }

    fn failed(&self, found: &mut Found, error: &WalkError) {
        let key = join(self.prefix, &error.path);
        let kind = SourceProblemKind::of(&error.error);
        if kind != SourceProblemKind::Vanished || error.step == WalkStep::List {
            found.unknown.push(key.clone());
        }
        found.problems.push(SourceProblem { key, kind, error: error.error.to_string() });
    }
}
