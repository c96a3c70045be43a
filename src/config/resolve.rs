//! From the shape of the file to what it means: variables, defaults, paths, and what must agree.

use super::raw::{Leaf, RawBackup, RawKeep, RawPersistence, RawRetention, RawStorage, place};
use super::{
    BackupConfig, Config, ConfigError, Environment, Fault, NAME_BYTES_MAX, StorageConfig, defaults,
    variables,
};
use crate::retention::Policy;
use crate::schedule::Schedule;
use jiff::tz::TimeZone;
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Types of storages, and the fields that each has beside `type`.
const TYPES: [(&str, &[&str]); 4] = [
    ("file", &["base_path"]),
    ("database", &["db_path"]),
    ("pack", &["pack_path"]),
    ("cache", &["ttl", "max_bytes", "over"]),
];

const TYPE_NAMES: [&str; 4] = [TYPES[0].0, TYPES[1].0, TYPES[2].0, TYPES[3].0];

type Result<T> = std::result::Result<T, ConfigError>;

pub(super) struct Resolver<'a> {
    base: &'a Path,
    environment: Environment<'a>,
    /// Where the storages that are named by others are named, to tell faults there.
    named: Vec<(&'static str, String, Location)>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(base: &'a Path, environment: Environment<'a>) -> Self {
        Self { base, environment, named: Vec::new() }
    }

    pub(super) fn config(mut self, raw: RawPersistence) -> Result<Config> {
        let default_storage = match &raw.default_storage {
            Some(leaf) => self.name_of_storage("default_storage", leaf)?,
            None => defaults::DEFAULT_STORAGE.to_owned(),
        };
        if raw.default_storage.is_none() {
            let nowhere = Location::UNKNOWN;
            self.named.push(("default_storage", default_storage.clone(), nowhere));
        }
        let content = self.path(raw.content.as_ref(), defaults::CONTENT)?;
        let mut storages = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (name, raw) in raw.storages.unwrap_or_default() {
            let storage = self.storage(&name, &raw)?;
            places.insert(name.clone(), raw.referenced);
            storages.insert(name, storage);
        }
        if storages.is_empty() {
            let base_path = self.path(None, defaults::BASE_PATH)?;
            storages
                .insert(defaults::DEFAULT_STORAGE.to_owned(), StorageConfig::File { base_path });
        }
        let backup = self.backup(raw.backup, &storages)?;
        self.check_names(&storages)?;
        let config = Config { default_storage, content, storages, backup };
        check_paths(&config, &places)?;
        Ok(config)
    }

    fn storage(&mut self, name: &str, raw: &Spanned<RawStorage>) -> Result<StorageConfig> {
        let fault = |fault| at(raw.referenced, fault);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || name.starts_with('.')
            || !name.chars().all(is_plain)
        {
            return Err(fault(Fault::Name { name: name.to_owned() }));
        }
        let raw = &raw.value;
        let Some(type_leaf) = &raw.r#type else {
            return Err(fault(Fault::NoType { storage: name.to_owned(), valid: &TYPE_NAMES }));
        };
        let type_name = self.value(type_leaf)?;
        let Some((type_name, valid)) = TYPES.iter().find(|(known, _)| *known == type_name) else {
            return Err(at(
                type_leaf.referenced,
                Fault::UnknownType { type_name, valid: &TYPE_NAMES },
            ));
        };
        let given = [
            ("base_path", &raw.base_path),
            ("db_path", &raw.db_path),
            ("pack_path", &raw.pack_path),
            ("ttl", &raw.ttl),
            ("max_bytes", &raw.max_bytes),
            ("over", &raw.over),
        ];
        for (field, leaf) in given {
            if let Some(leaf) = leaf.as_ref().filter(|_| !valid.contains(&field)) {
                return Err(at(leaf.referenced, Fault::OtherType { field, type_name, valid }));
            }
        }
        Ok(match *type_name {
            "file" => StorageConfig::File {
                base_path: self.path(raw.base_path.as_ref(), defaults::BASE_PATH)?,
            },
            "database" => StorageConfig::Database {
                db_path: self.path(raw.db_path.as_ref(), defaults::DB_PATH)?,
            },
            "pack" => StorageConfig::Pack {
                pack_path: self.path(raw.pack_path.as_ref(), defaults::PACK_PATH)?,
            },
            _ => StorageConfig::Cache {
                ttl_s: self.number("ttl", raw.ttl.as_ref(), 1, defaults::TTL_S)?,
                bytes_max: self.bytes("max_bytes", raw.max_bytes.as_ref())?,
                over: match &raw.over {
                    Some(leaf) => Some(self.name_of_storage("over", leaf)?),
                    None => None,
                },
            },
        })
    }

    fn backup(
        &mut self,
        raw: Option<RawBackup>,
        storages: &BTreeMap<String, StorageConfig>,
    ) -> Result<BackupConfig> {
        let enabled = raw.is_some() && defaults::BACKUP_ENABLED;
        let raw = raw.unwrap_or_default();
        let enabled = match &raw.enabled {
            Some(leaf) => self.truth("enabled", leaf)?,
            None => enabled,
        };
        let zone = |leaf: &Leaf, name: String| {
            TimeZone::get(&name).map_err(|_| {
                let expected = "a time zone of this system, as in Europe/Berlin";
                at(leaf.referenced, Fault::Value { field: "time_zone", value: name, expected })
            })
        };
        let time_zone = match &raw.time_zone {
            Some(leaf) => Some(zone(leaf, self.value(leaf)?)?),
            None => None,
        };
        let holds = |storage: &StorageConfig| !matches!(storage, StorageConfig::Cache { .. });
        let mut saved: Vec<String> = match &raw.storages {
            Some(leaves) => leaves
                .iter()
                .map(|leaf| self.name_of_storage("backup.storages", leaf))
                .collect::<Result<_>>()?,
            None => storages
                .iter()
                .filter(|(_, one)| holds(one))
                .map(|(name, _)| name.clone())
                .collect(),
        };
        saved.sort();
        saved.dedup();
        Ok(BackupConfig {
            enabled,
            schedule: self.schedule(raw.schedule.as_ref())?,
            time_zone,
            retention: self.retention(raw.retention.as_ref())?,
            path: self.path(raw.path.as_ref(), defaults::BACKUP_PATH)?,
            storages: saved,
        })
    }

    fn schedule(&self, leaf: Option<&Leaf>) -> Result<Schedule> {
        let text = match leaf {
            Some(leaf) => self.value(leaf)?,
            None => defaults::SCHEDULE.to_owned(),
        };
        let location = leaf.map_or(Location::UNKNOWN, |leaf| leaf.referenced);
        text.parse().map_err(|error| at(location, Fault::Schedule(error)))
    }

    fn retention(&self, raw: Option<&Spanned<RawRetention>>) -> Result<Policy> {
        const COUNT: &str = "a number from 1 to 4294967295, or `keep: { last: .., daily: .. }`";
        let Some(raw) = raw else {
            return Ok(Policy::newest(defaults::RETENTION));
        };
        match &raw.value {
            RawRetention::Count(text) => {
                let text = self.replaced(raw.referenced, text)?;
                match text.parse() {
                    Ok(count) if count > 0 => Ok(Policy::newest(count)),
                    _ => Err(at(
                        raw.referenced,
                        Fault::Value { field: "retention", value: text, expected: COUNT },
                    )),
                }
            }
            RawRetention::Keep(keep) => {
                let policy = self.policy(keep)?;
                if policy == Policy::default() {
                    return Err(at(
                        raw.referenced,
                        Fault::Value {
                            field: "keep",
                            value: "{}".to_owned(),
                            expected: "at least one count: last, hourly, daily, weekly, monthly, yearly",
                        },
                    ));
                }
                Ok(policy)
            }
        }
    }

    fn policy(&self, keep: &RawKeep) -> Result<Policy> {
        let count = |field, leaf: &Option<Leaf>| self.number(field, leaf.as_ref(), 0, 0);
        Ok(Policy {
            last: count("last", &keep.last)?,
            hourly: count("hourly", &keep.hourly)?,
            daily: count("daily", &keep.daily)?,
            weekly: count("weekly", &keep.weekly)?,
            monthly: count("monthly", &keep.monthly)?,
            yearly: count("yearly", &keep.yearly)?,
        })
    }

    fn value(&self, leaf: &Leaf) -> Result<String> {
        self.replaced(leaf.referenced, &leaf.value)
    }

    fn replaced(&self, location: Location, text: &str) -> Result<String> {
        variables::replace(text, self.environment).map_err(|fault| at(location, fault))
    }

    fn name_of_storage(&mut self, field: &'static str, leaf: &Leaf) -> Result<String> {
        let name = self.value(leaf)?;
        self.named.push((field, name.clone(), leaf.referenced));
        Ok(name)
    }

    fn path(&self, leaf: Option<&Leaf>, default: &str) -> Result<PathBuf> {
        let text = match leaf {
            Some(leaf) => self.value(leaf)?,
            None => default.to_owned(),
        };
        match leaf {
            Some(leaf) if text.is_empty() || text.contains('\0') => {
                let (field, expected) = ("path", "the path of a file or directory");
                Err(at(leaf.referenced, Fault::Value { field, value: text, expected }))
            }
            _ => {
                Ok(self.base.join(text).components().filter(|c| *c != Component::CurDir).collect())
            }
        }
    }

    fn truth(&self, field: &'static str, leaf: &Leaf) -> Result<bool> {
        let value = self.value(leaf)?;
        match value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(at(leaf.referenced, Fault::Value { field, value, expected: "true or false" })),
        }
    }

    fn number(
        &self,
        field: &'static str,
        leaf: Option<&Leaf>,
        min: u32,
        default: u32,
    ) -> Result<u32> {
        let Some(leaf) = leaf else {
            return Ok(default);
        };
        let value = self.value(leaf)?;
        match value.parse() {
            Ok(number) if number >= min => Ok(number),
            _ => {
                let expected = match min {
                    0 => "a number from 0 to 4294967295",
                    _ => "a number from 1 to 4294967295",
                };
                Err(at(leaf.referenced, Fault::Value { field, value, expected }))
            }
        }
    }

    /// A number of bytes: `65536`, `64KiB`, `64 MiB`, `2GiB`.
    fn bytes(&self, field: &'static str, leaf: Option<&Leaf>) -> Result<u64> {
        const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let Some(leaf) = leaf else {
            return Ok(defaults::CACHE_BYTES_MAX);
        };
        let value = self.value(leaf)?;
        let unit = UNITS.iter().find_map(|(unit, shift)| Some((value.strip_suffix(unit)?, *shift)));
        let (digits, shift) = unit.unwrap_or((&value, 0));
        let number = digits.trim_end().parse().ok().and_then(|n: u64| n.checked_mul(1 << shift));
        number.filter(|bytes| *bytes > 0).ok_or_else(|| {
            let expected = "a number of bytes, as in 65536, 512KiB, 64MiB or 2GiB";
            at(leaf.referenced, Fault::Value { field, value, expected })
        })
    }

    fn check_names(&self, storages: &BTreeMap<String, StorageConfig>) -> Result<()> {
        for (field, name, location) in &self.named {
            let Some(storage) = storages.get(name) else {
                let valid = storages.keys().cloned().collect();
                return Err(at(
                    *location,
                    Fault::UnknownStorage { field, storage: name.clone(), valid },
                ));
            };
            if *field == "over" && matches!(storage, StorageConfig::Cache { .. }) {
                return Err(at(
                    *location,
                    Fault::Value {
                        field,
                        value: name.clone(),
                        expected: "a storage that is no cache itself",
                    },
                ));
            }
        }
        Ok(())
    }
}

fn at(location: Location, fault: Fault) -> ConfigError {
    ConfigError { place: place(location), fault }
}

/// Refuses two things that lie in each other: one would list, collect or replace the other's files.
fn check_paths(config: &Config, places: &BTreeMap<String, Location>) -> Result<()> {
    let nowhere = Location::UNKNOWN;
    let mut all = vec![
        ("`content`".to_owned(), config.content.as_path(), nowhere),
        ("`backup.path`".to_owned(), config.backup.path.as_path(), nowhere),
    ];
    for (name, storage) in &config.storages {
        if let Some(path) = storage.path() {
            let place = places.get(name).copied().unwrap_or(nowhere);
            all.push((format!("the storage \"{name}\""), path, place));
        }
    }
    for (index, (other, other_path, _)) in all.iter().enumerate() {
        for (one, one_path, place) in &all[index + 1..] {
            if plain(one_path).starts_with(plain(other_path))
                || plain(other_path).starts_with(plain(one_path))
            {
                return Err(at(
                    *place,
                    Fault::Overlap {
                        one: one.clone(),
                        one_path: one_path.to_path_buf(),
                        other: other.clone(),
                        other_path: other_path.to_path_buf(),
                    },
                ));
            }
        }
    }
    Ok(())
}

/// A path without `..` where that can be told from the text alone. Links are not followed: this finds
/// slips, it is no wall.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}
