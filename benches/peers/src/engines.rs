//! The engines, by name.

pub mod cacache;
pub mod caches;
mod lmdb;
pub mod own;
mod redb;
mod rocks;
mod sqlite;

use crate::engine::{Kind, locked_version};

/// Those that hold many values and take them in batches.
pub fn all() -> Vec<Kind> {
    let of = |crate_name| locked_version(crate_name);
    vec![
        Kind { name: "pefc pack", version: of("pefc"), open: own::open_pack, takes_many: true },
        Kind {
            name: "pefc database",
            version: of("pefc"),
            open: own::open_database,
            takes_many: true,
        },
        Kind {
            name: "SQLite WAL, FULL",
            version: rusqlite::version().to_owned(),
            open: sqlite::open,
            takes_many: true,
        },
        Kind {
            name: "LMDB",
            version: format!("heed {}", of("heed")),
            open: lmdb::open,
            takes_many: true,
        },
        Kind { name: "redb", version: of("redb"), open: redb::open, takes_many: true },
        Kind {
            name: "RocksDB zstd",
            version: "librocksdb 7.8".to_owned(),
            open: rocks::open,
            takes_many: true,
        },
    ]
}
