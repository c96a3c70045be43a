//! The configuration: a YAML file in, storages and backups as types out.
//!
//! ```yaml
//! persistence:
//!   default_storage: file
//!   content: data/content              # shared by file and database storages
//!   storages:
//!     file:     { type: file,     base_path: data/storage }
//!     database: { type: database, db_path: data/xme.db }
//!     pack:     { type: pack,     pack_path: data/packs }
//!     cache:    { type: cache,    ttl: 3600, max_bytes: 64MiB, over: database }
//!   backup:
//!     enabled: true
//!     schedule: daily                  # or hourly, weekly, monthly, yearly, "30 2 * * *"
//!     time_zone: Europe/Berlin         # where days begin
//!     retention: { keep: { last: 3, daily: 7, weekly: 4 } }
//!     path: data/backups
//!     storages: [file, database]
//! ```
//!
//! All of it may be left out: [`defaults`] says what holds then. What is there must be right: a field
//! that is unknown, given twice or belongs to another type is an error with its line, its column and
//! the name that was likely meant. Relative paths begin where the file is. In every value,
//! `${NAME}` stands for a variable, `${NAME:-text}` for a variable or, where that is unset or empty,
//! for the text, and `$${` for `${`.
//!
//! Reading it touches nothing but the file: it must not know what a storage is made of. Text is
//! bounded by [`TEXT_BYTES_MAX`], nesting by [`DEPTH_MAX`], and aliases can't multiply.

mod fault;
mod raw;
mod resolve;
mod show;
mod variables;

pub use fault::{ConfigError, Fault, nearest};

use crate::disk::{Vfs, parent_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::retention::Policy;
use crate::schedule::Schedule;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest configuration, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting of a configuration.
pub const DEPTH_MAX: usize = 16;

/// Longest value of a field, after variables have been replaced, in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Longest name of a storage, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// What holds where the configuration says nothing.
pub mod defaults {
    /// `default_storage`; also the one storage there is where `storages` is left out.
    pub const DEFAULT_STORAGE: &str = "file";
    /// `content`: where file and database storages keep what their keys name.
    pub const CONTENT: &str = "data/content";
    /// `base_path` of a file storage.
    pub const BASE_PATH: &str = "data/storage";
    /// `db_path` of a database storage.
    pub const DB_PATH: &str = "data/xme.db";
    /// `pack_path` of a pack storage: the directory of its pack.
    pub const PACK_PATH: &str = "data/packs";
    /// `ttl` of a cache, in seconds.
    pub const TTL_S: u32 = 3600;
    /// `max_bytes` of a cache: what it holds at most.
    pub const CACHE_BYTES_MAX: u64 = 64 << 20;
    /// `backup.enabled` where there is a section `backup`; without one backups are off. Off means that
    /// nothing is ever due: whoever asks for a backup by hand gets one.
    pub const BACKUP_ENABLED: bool = true;
    /// `backup.schedule`.
    pub const SCHEDULE: &str = "daily";
    /// `backup.retention`: that many newest.
    pub const RETENTION: u32 = 30;
    /// `backup.path`.
    pub const BACKUP_PATH: &str = "data/backups";
}

/// What a configuration says, with every default filled in and every path resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The storage that is meant where none is named. It exists.
    pub default_storage: String,
    /// Directory of the content store that file and database storages share.
    pub content: PathBuf,
    /// Storages by name; at least one.
    pub storages: BTreeMap<String, StorageConfig>,
    /// Backups.
    pub backup: BackupConfig,
}

/// One storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageConfig {
    /// Keys are small files.
    File {
        /// Their directory.
        base_path: PathBuf,
    },
    /// Keys are rows of an SQLite database.
    Database {
        /// Its file.
        db_path: PathBuf,
    },
    /// Keys and contents are in one pack.
    Pack {
        /// The directory of the pack.
        pack_path: PathBuf,
    },
    /// In memory, alone or in front of another storage.
    Cache {
        /// How long a value is believed, in seconds; at least 1.
        ttl_s: u32,
        /// How much is held at most, in bytes; at least 1.
        bytes_max: u64,
        /// The storage behind it, which is there and no cache.
        over: Option<String>,
    },
}

impl StorageConfig {
    /// As in the field `type`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Database { .. } => "database",
            Self::Pack { .. } => "pack",
            Self::Cache { .. } => "cache",
        }
    }

    /// Where it is, unless it is in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { base_path: path }
            | Self::Database { db_path: path }
            | Self::Pack { pack_path: path } => Some(path),
            Self::Cache { .. } => None,
        }
    }
}

/// When backups are made, of what, where to, and how many stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupConfig {
    /// Whether they are ever due.
    pub enabled: bool,
    /// When they are.
    pub schedule: Schedule,
    /// Where days begin; that of the system if there is none.
    pub time_zone: Option<TimeZone>,
    /// How many stay.
    pub retention: Policy,
    /// Directory of the backup store.
    pub path: PathBuf,
    /// Names of the storages that are saved, in order, each once. Stand-alone caches are not saved unless
    /// they are named; what a cache is over is saved itself.
    pub storages: Vec<String>,
}

/// Looks a variable up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads a configuration. Relative paths begin at `base`.
    pub fn parse(
        text: &str,
        base: &Path,
        environment: Environment<'_>,
    ) -> std::result::Result<Self, ConfigError> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("{} bytes, and at most {TEXT_BYTES_MAX} are read", text.len());
            return Err(ConfigError::nowhere(Fault::Limit { what }));
        }
        resolve::Resolver::new(base, environment).config(raw::parse(text)?)
    }

    /// Reads a configuration file. Its errors are of [`ErrorKind::Config`], with a [`ConfigError`] as
    /// their source, unless the file itself can't be read.
    pub fn load(vfs: &dyn Vfs, path: &Path, environment: Environment<'_>) -> Result<Self> {
        const WHAT: &str = "reading the configuration";
        let failed = |error| Error::io(WHAT, path, error);
        let file = vfs.open_read(path).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(TEXT_BYTES_MAX + 1);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Error::new(ErrorKind::Config, "the configuration is no UTF-8 text")
                .at(path)
                .because(error)
        })?;
        Self::parse(&text, &parent_dir(path), environment).map_err(|error| {
            let hint = "correct it, then see what it means with `pefc config --show`";
            Error::new(ErrorKind::Config, "the configuration is wrong")
                .at(path)
                .because(error)
                .hinting(hint)
        })
    }

    /// What holds in `base` without a configuration.
    #[must_use]
    pub fn without_file(base: &Path) -> Self {
        Self::parse("", base, &|_| None).expect("the defaults are a configuration")
    }

    /// The whole configuration with nothing left to defaults, as YAML that reads back as the same.
    /// Paths that are no text are shown as near as text comes.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        show::yaml(self)
    }
}
