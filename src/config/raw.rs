//! The shape of the file, as YAML gives it: which fields there are. What they mean is not known here.

use super::{ConfigError, DEPTH_MAX, Fault};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::fmt;

/// A value as written, and where. Numbers and truth values too: variables are replaced first.
pub(super) type Leaf = Spanned<String>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    persistence: Option<RawPersistence>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPersistence {
    pub(super) default_storage: Option<Leaf>,
    pub(super) content: Option<Leaf>,
    pub(super) storages: Option<BTreeMap<String, Spanned<RawStorage>>>,
    pub(super) backup: Option<RawBackup>,
}

/// The fields of every type of storage. One flat shape instead of one each: an enumeration over `type`
/// is buffered by serde, and would lose the places of what is wrong in it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStorage {
    pub(super) r#type: Option<Leaf>,
    pub(super) base_path: Option<Leaf>,
    pub(super) db_path: Option<Leaf>,
    pub(super) pack_path: Option<Leaf>,
    pub(super) ttl: Option<Leaf>,
    pub(super) max_bytes: Option<Leaf>,
    pub(super) over: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBackup {
    pub(super) enabled: Option<Leaf>,
    pub(super) schedule: Option<Leaf>,
    pub(super) time_zone: Option<Leaf>,
    pub(super) retention: Option<Spanned<RawRetention>>,
    pub(super) path: Option<Leaf>,
    pub(super) storages: Option<Vec<Leaf>>,
}

/// `30`, or `{ keep: { daily: 7 } }`.
#[derive(Debug)]
pub(super) enum RawRetention {
    Count(String),
    Keep(Box<RawKeep>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeepField {
    keep: Box<RawKeep>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeep {
    pub(super) last: Option<Leaf>,
    pub(super) hourly: Option<Leaf>,
    pub(super) daily: Option<Leaf>,
    pub(super) weekly: Option<Leaf>,
    pub(super) monthly: Option<Leaf>,
    pub(super) yearly: Option<Leaf>,
}

impl<'de> Deserialize<'de> for RawRetention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RetentionVisitor)
    }
}

struct RetentionVisitor;

impl<'de> Visitor<'de> for RetentionVisitor {
    type Value = RawRetention;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or `keep: { last: .., daily: .. }`")
    }

    fn visit_u64<E>(self, count: u64) -> Result<RawRetention, E> {
        Ok(RawRetention::Count(count.to_string()))
    }

    fn visit_i64<E>(self, count: i64) -> Result<RawRetention, E> {
        Ok(RawRetention::Count(count.to_string()))
    }

    fn visit_f64<E>(self, count: f64) -> Result<RawRetention, E> {
        Ok(RawRetention::Count(count.to_string()))
    }

    fn visit_str<E>(self, count: &str) -> Result<RawRetention, E> {
        Ok(RawRetention::Count(count.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawRetention, A::Error> {
        let field = RawKeepField::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawRetention::Keep(field.keep))
    }
}

/// Line and column of a place, if it is one.
pub(super) fn place(location: Location) -> Option<(u64, u64)> {
    (location.line() > 0).then(|| (location.line(), location.column()))
}

/// Reads the shape. An empty text is an empty configuration.
pub(super) fn parse(text: &str) -> Result<RawPersistence, ConfigError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_events: 100_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
        },
    };
    let file: Result<Option<RawFile>, _> = serde_saphyr::from_str_with_options(text, options);
    match file {
        Ok(file) => Ok(file.unwrap_or_default().persistence.unwrap_or_default()),
        Err(error) => Err(fault(error.without_snippet())),
    }
}

fn fault(error: &serde_saphyr::Error) -> ConfigError {
    let fault = match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            Fault::UnknownField { field: field.clone(), valid: expected.clone() }
        }
        serde_saphyr::Error::Budget { breach, .. } => Fault::Limit { what: format!("{breach:?}") },
        other => {
            let what = other.to_string();
            // The place is told apart from what is wrong there.
            let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
            Fault::Yaml { what: what.to_owned() }
        }
    };
    ConfigError { place: error.location().and_then(place), fault }
}
