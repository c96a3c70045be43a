//! What all of them are asked to do.

use crate::workload::Record;
use std::path::Path;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Something that holds values under keys. A value read is the caller's own: a storage can't lend
/// it.
pub trait Engine {
    /// Puts all of them; they survive a loss of power when it returns.
    fn put(&mut self, batch: &[Record]) -> Result<()>;

    /// The value of a key.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The keys that begin with `prefix`, in order: how many, and their bytes.
    fn list(&mut self, prefix: &[u8]) -> Result<(usize, usize)>;

    /// Writes out what is kept back, before the size on disk is taken. Not timed.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// How one is opened.
pub struct Kind {
    pub name: &'static str,
    pub version: String,
    pub open: fn(&Path) -> Result<Box<dyn Engine>>,
    /// Whether it takes part in the run with many keys.
    pub takes_many: bool,
}

/// The version of a dependency of this program.
pub fn locked_version(name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let found = lock.split("[[package]]").find_map(|package| {
        package.contains(&format!("\nname = \"{name}\"\n")).then_some(package)?;
        package.lines().find_map(|line| line.strip_prefix("version = "))
    });
    found.map_or_else(|| "?".to_owned(), |version| version.trim_matches('"').to_owned())
}
