//! PEFC packs: content-addressed, append-only, provable archives in one file.

pub mod disk;
