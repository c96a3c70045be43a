//! What a storage tells those who watch it.

use crate::error::ErrorKind;
use crate::hash::Hash;

/// Something that happened, told after it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A key was set, durably.
    Stored {
        /// Name of the storage.
        storage: &'a str,
        /// The key.
        key: &'a [u8],
        /// Name of its content.
        name: Hash,
        /// Length of its content.
        size_bytes: u64,
    },
    /// A key was read whole.
    Retrieved {
        /// Name of the storage.
        storage: &'a str,
        /// The key.
        key: &'a [u8],
        /// Length of its content.
        size_bytes: u64,
    },
    /// A key that was there was deleted, durably.
    Deleted {
        /// Name of the storage.
        storage: &'a str,
        /// The key.
        key: &'a [u8],
    },
    /// Reading a key found damage: its ref or content is damaged or missing.
    Corrupted {
        /// Name of the storage.
        storage: &'a str,
        /// The key.
        key: &'a [u8],
        /// What it is.
        kind: ErrorKind,
    },
    /// A backup of the storage was made and verified.
    BackedUp {
        /// Name of the storage.
        storage: &'a str,
        /// Name of the snapshot.
        snapshot: &'a str,
        /// Keys in it.
        key_count: u64,
    },
}

/// Watches a storage. Called on the thread that does the work: it must be quick, and can't fail.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);
}
