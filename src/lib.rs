//! PEFC packs: content-addressed, append-only, provable archives in one file.
//!
//! A *pack* maps keys to contents. Contents are named by their plain BLAKE3, stored once, compressed
//! in *frames*, and checked whenever they are read. Every change is an *entry* of an append-only log;
//! a *commit* makes entries durable and visible; a *seal* binds everything that is live in one root
//! and begins a new *generation*. `spec/format.md` says how all that lies in the file.
//!
//! ```
//! use pefc::{Pack, WriteOptions, Writer};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("proofs.pefc");
//!
//! // A new pack: put bytes, or streams of any length.
//! let mut writer = Writer::create(&path, WriteOptions::default())?;
//! writer.put("sat/php-10.cnf", b"p cnf 2 1\n1 2 0\n")?;
//! writer.put_stream("sat/php-10.lrat", &mut "3 1 0 1 2 0\n".as_bytes())?;
//! writer.finish()?;
//!
//! // Later: a new generation. What the pack has already is not stored again.
//! let mut writer = Writer::append(&path, WriteOptions::default())?;
//! writer.put("sat/copy.cnf", b"p cnf 2 1\n1 2 0\n")?;
//! writer.delete("sat/php-10.lrat")?;
//! let stats = writer.finish()?;
//! assert_eq!((stats.generation, stats.new_object_count), (2, 0));
//!
//! // Read it, as it is and as it was.
//! let pack = Pack::open(&path)?;
//! assert_eq!(pack.get("sat/copy.cnf")?, pack.get("sat/php-10.cnf")?);
//! assert_eq!(pack.get("sat/php-10.lrat")?, None);
//! let old = pack.at_generation(1)?;
//! assert_eq!(old.get("sat/php-10.lrat")?.as_deref(), Some(&b"3 1 0 1 2 0\n"[..]));
//! for entry in old.entries_under("sat/") {
//!     println!("{}", String::from_utf8_lossy(&entry?.key));
//! }
//!
//! // Believe nothing: decode, name and rebuild everything.
//! assert!(pack.verify(&Default::default())?.is_intact());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layers
//!
//! Each module knows only the ones above it in this table; `tests/layers.rs` holds them to it.
//!
//! | module | knows |
//! |---|---|
//! | [`hash`] | content names, and the groups of large contents |
//! | [`chunk`] | where large contents are cut |
//! | [`tree`] | Merkle trees: the log, the map of what is live |
//! | [`disk`] | files, directories, locks, the clock, randomness; the only unsafe code |
//! | [`mod@format`] | the layouts, as pure functions over bytes |
//! | [`proof`] | signed notes and proof files, checked without a pack |
//! | [`compress`] | zstd within the limits of the format |
//! | [`segment`] | frames of a file: reading one, walking all, finding what is committed |
//! | [`index`] | index sections, read in place |
//! | `error` | the public [`Error`] |
//! | [`sign`] | secret keys: making signatures (feature `sign`) |
//! | `pack` | [`Pack`], [`Writer`], verifying, recovering |
//! | [`archive`] | file trees into packs and out of them |
//! | [`store`] | a directory of packs without keys: contents for many refs, writers and processes |
//! | [`refs`] | which content a key stands for: in files, in SQLite |
//! | [`storage`] | values under keys: store, retrieve, delete, list; four backends |
//! | [`retention`] | which snapshots are kept, and why |
//! | [`schedule`] | when the next one is due |
//! | [`config`] | the configuration file |
//! | [`backup`] | storages as they were, in a store of their own |
//! | [`manager`] | storages and backups as the configuration says |
//!
//! # Words
//!
//! `open` and `create` begin, `finish` ends and says what was done. A name that ends in `_bytes` or
//! `_count` is a number of those; `len` is a length in bytes. `raw` is before compression, `stored`
//! is what lies in the file. What may be absent is an `Option`; an error is never "not found" unless
//! something must be there.

#[cfg(unix)]
pub mod archive;
#[cfg(feature = "backup")]
pub mod backup;
pub mod chunk;
pub mod compress;
#[cfg(feature = "yaml")]
pub mod config;
pub mod disk;
mod error;
pub mod format;
pub mod hash;
pub mod index;
#[cfg(feature = "yaml")]
pub mod manager;
mod pack;
pub mod proof;
pub mod refs;
#[cfg(feature = "backup")]
pub mod retention;
#[cfg(feature = "backup")]
pub mod schedule;
pub mod segment;
#[cfg(feature = "sign")]
pub mod sign;
pub mod storage;
pub mod store;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
pub use hash::Hash;
pub use pack::*;
