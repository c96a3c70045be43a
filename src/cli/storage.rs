//! `put`, `get`, `rm`, `keys`: storages from a shell.

use super::args::{ConfigFile, GetArgs, KeysArgs, PutArgs, RmArgs, StorageOf};
use super::events::EventLines;
use super::output::{JsonKey, Output, count, printable, size, time};
use super::stdin::Stdin;
use super::{Outcome, Result, config};
use pefc::disk::{File, Machine};
use pefc::manager::StorageManager;
use pefc::storage::{Expect, Ref, Storage};
use pefc::{Error, ErrorKind, Hash};
use serde::Serialize;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest typed value, in bytes of JSON.
const VALUE_BYTES_MAX: u64 = 256 << 20;

/// The storages of the configuration.
pub(super) fn manager(file: &ConfigFile) -> Result<StorageManager> {
    let machine = Machine::real();
    let manager = StorageManager::new(config::load(file)?, machine.clone());
    Ok(if file.events { manager.observed(Arc::new(EventLines(machine))) } else { manager })
}

/// The storage that is meant, and who has it.
fn open(of: &StorageOf) -> Result<Storage> {
    let manager = manager(&of.file)?;
    let name = of.storage.clone().unwrap_or_else(|| manager.config().default_storage.clone());
    Ok(manager.storage(&name)?)
}

/// A ref, as in JSON lines.
#[derive(Serialize)]
pub(super) struct JsonRef<'a> {
    storage: &'a str,
    #[serde(flatten)]
    key: JsonKey,
    b3: String,
    size_bytes: u64,
    created_ns: i64,
    updated_ns: i64,
}

impl<'a> JsonRef<'a> {
    pub(super) fn new(storage: &'a str, key: &[u8], value: &Ref) -> Self {
        Self {
            storage,
            key: JsonKey::new(key),
            b3: value.name.to_string(),
            size_bytes: value.size_bytes,
            created_ns: value.created_ns,
            updated_ns: value.updated_ns,
        }
    }
}

/// Seconds of a time in nanoseconds.
pub(super) fn seconds(time_ns: i64) -> i64 {
    time_ns.div_euclid(1_000_000_000)
}

pub(super) fn no_key(storage: &str, key: &[u8]) -> Error {
    let what = format!("there is no key \"{}\" in the storage \"{storage}\"", printable(key));
    Error::new(ErrorKind::NotFound, what).hinting("`pefc keys` lists the keys that there are")
}

pub(super) fn put(args: &PutArgs, output: &mut Output, cancelled: &Arc<AtomicBool>) -> Result {
    let storage = open(&args.of)?;
    let key = args.key.as_bytes();
    let input: Box<dyn Read> = match args.file == Path::new("-") {
        true => Box::new(Stdin::new(cancelled)),
        false => Box::new(FileInput::open(&args.file)?),
    };
    let expect = match (args.new, args.expect) {
        (true, _) => Expect::Absent,
        (false, Some(name)) => Expect::Is(name),
        (false, None) => Expect::Any,
    };
    let mut batch = storage.batch()?;
    let name = match args.value {
        true => batch.store_if(key, &pefc::storage::value::encode(&json_value(input)?)?, expect)?,
        false => batch.store_stream_if(key, input, expect).map_err(|error| {
            match cancelled.load(Ordering::Relaxed) {
                true => Error::new(ErrorKind::Interrupted, "interrupted; nothing was stored"),
                false => error,
            }
        })?,
    };
    batch.commit()?;
    tell_put(&storage, key, &name, output)
}

/// A file, read from its beginning.
struct FileInput {
    file: Arc<dyn File>,
    at: u64,
}

impl FileInput {
    fn open(path: &Path) -> Result<Self> {
        let file = Machine::real().vfs.open_read(path);
        let file = file.map_err(|error| Error::io("reading the value", path, error))?;
        Ok(Self { file, at: 0 })
    }
}

impl Read for FileInput {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buf, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn tell_put(storage: &Storage, key: &[u8], name: &Hash, output: &mut Output) -> Result {
    if !output.json() {
        output.note(&format!("{}: {name}", printable(key)))?;
        return Ok(Outcome::Done);
    }
    #[derive(Serialize)]
    struct JsonPut<'a> {
        storage: &'a str,
        #[serde(flatten)]
        key: JsonKey,
        b3: String,
    }
    let (storage, b3) = (storage.name(), name.to_string());
    output.object(&JsonPut { storage, key: JsonKey::new(key), b3 })?;
    Ok(Outcome::Done)
}

fn json_value(input: impl Read) -> Result<serde_json::Value> {
    let mut text = Vec::new();
    let read = input.take(VALUE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if read as u64 > VALUE_BYTES_MAX {
        let what = format!("a typed value has at most {VALUE_BYTES_MAX} bytes of JSON");
        return Err(Error::new(ErrorKind::Limit, what).hinting("store it as bytes").into());
    }
    Ok(serde_json::from_slice(&text)
        .map_err(|error| Error::new(ErrorKind::ValueType, "the value is no JSON").because(error))?)
}

pub(super) fn get(args: &GetArgs, output: &mut Output) -> Result {
    let storage = open(&args.of)?;
    let key = args.key.as_bytes();
    let absent = || no_key(storage.name(), key);
    if args.value {
        let value: Option<serde_json::Value> = storage.retrieve_value(key)?;
        output.object(&value.ok_or_else(absent)?)?;
        return Ok(Outcome::Done);
    }
    let mut reader = storage.reader(key)?.ok_or_else(absent)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = reader.read(&mut buffer).map_err(|error| {
            // What was printed until here was right; what follows can't be had.
            Error::new(ErrorKind::Corrupt, format!("reading \"{}\"", printable(key))).because(error)
        })?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(Outcome::Done),
            Some(bytes) => output.bytes(bytes)?,
        }
    }
}

pub(super) fn rm(args: &RmArgs, output: &mut Output) -> Result {
    let storage = open(&args.of)?;
    let expect = if args.force { Expect::Any } else { Expect::Present };
    let mut batch = storage.batch()?;
    for key in &args.keys {
        let key = key.as_bytes();
        if !args.force && storage.stat(key)?.is_none() {
            return Err(no_key(storage.name(), key).into());
        }
        batch.delete_if(key, expect)?;
    }
    let before = batch.commit()?;
    #[derive(Serialize)]
    struct JsonRm<'a> {
        storage: &'a str,
        #[serde(flatten)]
        key: JsonKey,
        deleted: bool,
    }
    for (key, before) in args.keys.iter().zip(&before) {
        if output.json() {
            let (storage, key) = (storage.name(), JsonKey::new(key.as_bytes()));
            output.object(&JsonRm { storage, key, deleted: before.is_some() })?;
        }
    }
    let deleted = before.iter().filter(|before| before.is_some()).count() as u64;
    output.note(&format!("{} deleted", count(deleted, "key")))?;
    Ok(Outcome::Done)
}

pub(super) fn keys(args: &KeysArgs, output: &mut Output) -> Result {
    let storage = open(&args.of)?;
    let prefix = args.prefix.as_bytes();
    if !args.long && !output.json() {
        for key in storage.list_keys(prefix) {
            print_key(&key?, args.null, output)?;
        }
        return Ok(Outcome::Done);
    }
    for found in storage.scan(prefix) {
        let (key, value) = found?;
        if output.json() {
            output.object(&JsonRef::new(storage.name(), &key, &value))?;
            continue;
        }
        let (updated, name) = (time(seconds(value.updated_ns)), value.name);
        output.bytes(format!("{:>9}  {updated}  {name}  ", size(value.size_bytes)).as_bytes())?;
        print_key(&key, args.null, output)?;
    }
    Ok(Outcome::Done)
}

fn print_key(key: &[u8], null: bool, output: &mut Output) -> Result<()> {
    if null {
        output.bytes(key)?;
        output.bytes(b"\0")?;
    } else {
        output.line(&printable(key))?;
    }
    Ok(())
}
