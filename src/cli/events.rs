//! What storages do, as JSON lines on standard error, for those who collect logs.

use super::output::{JsonKey, hex};
use pefc::disk::Machine;
use pefc::storage::{Event, Observer};
use serde::Serialize;
use std::io::Write as _;

/// Writes a line for every event.
#[derive(Debug)]
pub(super) struct EventLines(pub(super) Machine);

/// An event. What does not belong to its kind is left out.
#[derive(Serialize)]
struct JsonEvent<'a> {
    time: String,
    event: &'static str,
    storage: &'a str,
    #[serde(flatten)]
    key: Option<JsonKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_count: Option<u64>,
}

impl<'a> JsonEvent<'a> {
    fn new(time: String, event: &'static str, storage: &'a str) -> Self {
        let (key, b3, size_bytes, error) = (None, None, None, None);
        Self { time, event, storage, key, b3, size_bytes, error, snapshot: None, key_count: None }
    }

    fn of(time: String, event: &Event<'a>) -> Option<Self> {
        let key = |key: &[u8]| Some(JsonKey::new(key));
        Some(match event {
            Event::Stored { storage, key: k, name, size_bytes } => Self {
                key: key(k),
                b3: Some(hex(name.as_bytes())),
                size_bytes: Some(*size_bytes),
                ..Self::new(time, "stored", storage)
            },
            Event::Retrieved { storage, key: k, size_bytes } => Self {
                key: key(k),
                size_bytes: Some(*size_bytes),
                ..Self::new(time, "retrieved", storage)
            },
            Event::Deleted { storage, key: k } => {
                Self { key: key(k), ..Self::new(time, "deleted", storage) }
            }
            Event::Corrupted { storage, key: k, kind } => Self {
                key: key(k),
                error: Some(kind.name()),
                ..Self::new(time, "corrupted", storage)
            },
            Event::BackedUp { storage, snapshot, key_count } => Self {
                snapshot: Some(snapshot),
                key_count: Some(*key_count),
                ..Self::new(time, "backed-up", storage)
            },
            _ => return None, // one that came later than this command
        })
    }
}

impl Observer for EventLines {
    fn observe(&self, event: &Event<'_>) {
        let now = jiff::Timestamp::from_nanosecond(self.0.clock.now_ns().into());
        let time = now.map_or_else(|_| String::new(), |now| now.to_string());
        let line = JsonEvent::of(time, event).and_then(|event| serde_json::to_string(&event).ok());
        if let Some(line) = line {
            // Where standard error is closed there is nobody to tell, and the work goes on.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}
