//! What a pack must hold, kept outside of it: the states of all commits that were tried, and which
//! of them were acknowledged. And scripts of calls to a writer that keep it up to date.

use super::sim_fs::SimFs;
use pefc::format::entry::{SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM};
use pefc::format::signature::{Signature, SignatureFormat};
use pefc::{Error, ErrorKind, Hash, Key, OpenOptions, Pack, Result, WriteOptions, Writer};
use std::collections::BTreeMap;
use std::path::Path;

/// The one pack of a test.
pub const PATH: &str = "d/a.pefc";

/// Live keys (space and bytes) and their contents.
pub type Keys = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// What is under the pack's name; `None` if that is no file.
pub type State = Option<Keys>;

/// All keys and contents, read through listing and looking up.
pub fn read_all(pack: &Pack) -> Result<Keys> {
    let mut all = Keys::new();
    for space in [SPACE_PATH, SPACE_STORAGE, SPACE_SYSTEM] {
        for put in pack.entries_under(Key::new(space, Vec::new())) {
            let put = put?;
            let key = Key::new(space, put.key.to_vec());
            let content = pack.get(&key)?.expect("a listed key has content");
            let named = put.content.expect("a file").name;
            assert_eq!(Hash::of(&content), named, "wrong bytes under {key}");
            all.insert((space, put.key.to_vec()), content);
        }
    }
    Ok(all)
}

/// The commits that were tried, in order. The first state is that before all of them.
#[derive(Debug, Clone)]
pub struct Log {
    pub states: Vec<State>,
    /// Index of the last state that was acknowledged.
    pub acked: usize,
}

impl Log {
    pub fn new(first: State) -> Self {
        Self { states: vec![first], acked: 0 }
    }

    pub fn last(&self) -> &State {
        self.states.last().expect("never empty")
    }

    fn acknowledge(&mut self) {
        self.acked = self.states.len() - 1;
    }

    /// The newest state that `seen` is, if it is none from before the last acknowledged one.
    pub fn find(&self, seen: &State) -> Option<usize> {
        (self.acked..self.states.len()).rev().find(|at| self.states[*at] == *seen)
    }

    /// What the log is once state `at` was seen by the only process that goes on.
    pub fn cut(&self, at: usize, durable: bool) -> Self {
        Self {
            states: self.states[..=at].to_vec(),
            acked: if durable { at } else { self.acked.min(at) },
        }
    }
}

/// A call to a writer.
#[derive(Debug, Clone)]
pub enum Step {
    Create,
    Append,
    Put(u8, Vec<u8>, Vec<u8>),
    Delete(u8, Vec<u8>),
    Commit,
    Seal,
    /// A signature of what was sealed last.
    Sign,
    Finish,
    Drop,
}

pub fn put(key: &str, content: impl Into<Vec<u8>>) -> Step {
    Step::Put(SPACE_PATH, key.into(), content.into())
}

pub fn store(key: &[u8], content: impl Into<Vec<u8>>) -> Step {
    Step::Put(SPACE_STORAGE, key.into(), content.into())
}

pub fn delete(key: &str) -> Step {
    Step::Delete(SPACE_PATH, key.into())
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

pub fn options(fs: &SimFs) -> WriteOptions {
    // The scenarios are made for frames of 1 MiB: their content then spans several writes.
    let (machine, frame_bytes) = (fs.machine(), 1 << 20);
    WriteOptions { machine, threads: 1, frame_bytes, ..WriteOptions::default() }
}

pub fn open(fs: &SimFs) -> Result<Pack> {
    let options = OpenOptions { machine: fs.machine(), ..OpenOptions::default() };
    Pack::open_with(PATH, options)
}

/// What is under the pack's name. Anything but no file or a whole pack is an error.
pub fn state_of(fs: &SimFs) -> Result<State> {
    match open(fs) {
        Ok(pack) => read_all(&pack).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound && fs.read_file(PATH).is_none() => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Runs a script and stops at the first error. `log` knows what may be there afterwards.
pub fn run(options: &WriteOptions, steps: &[Step], log: &mut Log) -> Result<()> {
    let (result, writer) = run_until_error(options, steps, log);
    drop(writer);
    result.map_err(|(_, error)| error)
}

/// The same, but gives the writer that failed, and which step it was.
pub fn run_until_error(
    options: &WriteOptions,
    steps: &[Step],
    log: &mut Log,
) -> (std::result::Result<(), (usize, Error)>, Option<Writer>) {
    let mut writer: Option<Writer> = None;
    let mut keys = Keys::new();
    for (at, step) in steps.iter().enumerate() {
        let result = one_step(options, step, &mut writer, &mut keys, log);
        if let Err(error) = result {
            return (Err((at, error)), writer);
        }
    }
    (Ok(()), writer)
}

fn one_step(
    options: &WriteOptions,
    step: &Step,
    slot: &mut Option<Writer>,
    keys: &mut Keys,
    log: &mut Log,
) -> Result<()> {
    let path = Path::new(PATH);
    match step {
        Step::Create => {
            *slot = Some(Writer::create(path, options.clone())?);
            *keys = Keys::new();
            return Ok(());
        }
        Step::Append => {
            *slot = Some(Writer::append(path, options.clone())?);
            // It has made durable what it found, before it returned.
            log.acknowledge();
            *keys = log.last().clone().expect("a file to append to");
            return Ok(());
        }
        Step::Drop => {
            *slot = None;
            return Ok(());
        }
        Step::Finish => {
            let writer = slot.take().expect("a writer");
            log.states.push(Some(keys.clone()));
            writer.finish()?;
            log.acknowledge();
            return Ok(());
        }
        _ => {}
    }
    let writer = slot.as_mut().expect("a writer");
    match step {
        Step::Put(space, key, content) => {
            writer.put(Key::new(*space, key.as_slice()), content)?;
            keys.insert((*space, key.clone()), content.clone());
        }
        Step::Delete(space, key) => {
            let found = writer.delete(Key::new(*space, key.as_slice()))?;
            assert_eq!(found, keys.remove(&(*space, key.clone())).is_some());
        }
        Step::Sign => {
            let signature = Signature {
                log_size: writer.stats().log_size,
                origin: "".into(),
                format: SignatureFormat::Note,
                value: b"signature"[..].into(),
            };
            log.states.push(Some(keys.clone()));
            writer.add_signatures(&[signature])?;
            log.acknowledge();
        }
        Step::Commit | Step::Seal => {
            log.states.push(Some(keys.clone()));
            match step {
                Step::Seal => writer.seal()?,
                _ => writer.commit()?,
            }
            log.acknowledge();
        }
        _ => unreachable!("handled above"),
    }
    Ok(())
}

/// The only names that may be there beside the pack: `.a.pefc.` 16 hexadecimal digits `.tmp`.
pub fn leftovers(fs: &SimFs) -> Vec<String> {
    let names = fs.paths().into_iter().filter(|path| path != Path::new(PATH));
    let names: Vec<String> = names.map(|path| path.display().to_string()).collect();
    for name in &names {
        let random = name.strip_prefix("d/.a.pefc.").and_then(|rest| rest.strip_suffix(".tmp"));
        let is_temporary = random.is_some_and(|random| {
            random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        assert!(is_temporary, "{name} is no temporary name");
    }
    names
}

/// What is on the disk, in short.
pub fn disk_hash(fs: &SimFs) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in fs.paths() {
        let bytes = fs.read_file(&path).unwrap_or_default();
        let name = path.as_os_str().as_encoded_bytes();
        for part in [name, &bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    hasher.finalize()
}
