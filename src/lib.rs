//! PEFC packs: content-addressed, append-only, provable archives in one file.

pub mod disk;
pub mod format;
pub mod hash;
