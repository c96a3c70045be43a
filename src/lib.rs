//! PEFC packs: content-addressed, append-only, provable archives in one file.

#[cfg(unix)]
pub mod archive;
pub mod chunk;
pub mod compress;
pub mod disk;
mod error;
pub mod format;
pub mod hash;
pub mod index;
mod pack;
pub mod segment;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
pub use hash::Hash;
pub use pack::*;
