//! A configuration as YAML that reads back as the same.

use super::{BackupConfig, Config, StorageConfig, variables};
use crate::retention::Policy;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Serialize)]
struct File<'a> {
    persistence: Persistence<'a>,
}

#[derive(Serialize)]
struct Persistence<'a> {
    default_storage: &'a str,
    content: String,
    storages: BTreeMap<&'a str, Storage>,
    backup: Backup<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Storage {
    File {
        base_path: String,
    },
    Database {
        db_path: String,
    },
    Pack {
        pack_path: String,
    },
    Cache {
        ttl: u32,
        max_bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        over: Option<String>,
    },
}

#[derive(Serialize)]
struct Backup<'a> {
    enabled: bool,
    schedule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    retention: Retention,
    path: String,
    storages: &'a [String],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Retention {
    Count(u32),
    Keep { keep: BTreeMap<&'static str, u32> },
}

impl Retention {
    fn new(policy: Policy) -> Self {
        if policy == Policy::newest(policy.last) {
            return Self::Count(policy.last);
        }
        let Policy { last, hourly, daily, weekly, monthly, yearly } = policy;
        let counts = [
            ("last", last),
            ("hourly", hourly),
            ("daily", daily),
            ("weekly", weekly),
            ("monthly", monthly),
            ("yearly", yearly),
        ];
        Self::Keep { keep: counts.into_iter().filter(|(_, count)| *count > 0).collect() }
    }
}

/// The fields of the file, none left out.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let storages = self.storages.iter().map(|(name, one)| (&**name, storage(one)));
        let persistence = Persistence {
            default_storage: &self.default_storage,
            content: path(&self.content),
            storages: storages.collect(),
            backup: backup(&self.backup),
        };
        File { persistence }.serialize(serializer)
    }
}

pub(super) fn yaml(config: &Config) -> String {
    serde_saphyr::to_string(config).expect("text, numbers and maps of them are YAML")
}

fn path(path: &Path) -> String {
    variables::escape(&path.to_string_lossy())
}

fn storage(storage: &StorageConfig) -> Storage {
    match storage {
        StorageConfig::File { base_path } => Storage::File { base_path: path(base_path) },
        StorageConfig::Database { db_path } => Storage::Database { db_path: path(db_path) },
        StorageConfig::Pack { pack_path } => Storage::Pack { pack_path: path(pack_path) },
        StorageConfig::Cache { ttl_s, bytes_max, over } => {
            Storage::Cache { ttl: *ttl_s, max_bytes: *bytes_max, over: over.clone() }
        }
    }
}

fn backup(backup: &BackupConfig) -> Backup<'_> {
    let zone = backup.time_zone.as_ref();
    Backup {
        enabled: backup.enabled,
        schedule: backup.schedule.text(),
        time_zone: zone.and_then(|zone| zone.iana_name()).map(str::to_owned),
        retention: Retention::new(backup.retention),
        path: path(&backup.path),
        storages: &backup.storages,
    }
}
