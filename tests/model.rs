//! Random scripts against a map: whatever is put, deleted, committed, sealed, given up and reopened
//! in any order and with any options, the pack says what the map says, now and at every generation.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a failed unwrap fails the test, and numbers are small"
)]

mod common;

use common::oracle::{Keys, PATH, noise, open, options, read_all};
use common::sim_fs::SimFs;
use pefc::format::segment::Layout;
use pefc::{ErrorKind, Hash, Key, WriteOptions, Writer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use std::io::{Read, Seek, SeekFrom};

#[derive(Debug, Clone)]
enum Content {
    Empty,
    /// One of a few: duplicates.
    Few(u8),
    Bytes(Vec<u8>),
    /// Text that compresses, and noise that does not.
    Text(u8, usize),
    Noise(u8, usize),
}

impl Content {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Empty => Vec::new(),
            Self::Few(which) => vec![*which; 1 + usize::from(*which) * 7],
            Self::Bytes(bytes) => bytes.clone(),
            Self::Noise(seed, len) => noise(u64::from(*seed), *len),
            Self::Text(seed, len) => {
                let words = noise(u64::from(*seed), 512);
                let lines = (0..).flat_map(|line: usize| {
                    let word = words[line.wrapping_mul(31) % 512];
                    format!("lemma {word} of {}\n", line / 9).into_bytes()
                });
                lines.take(*len).collect()
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Put(usize, Content),
    Stream(usize, Content),
    /// The content of another key.
    Copy(usize, usize),
    Delete(usize),
    Commit,
    Seal,
    Drop,
    Finish,
    ReadAll,
    List(Vec<u8>),
    Generation(usize),
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        2 => Just(Content::Empty),
        6 => (0..6_u8).prop_map(Content::Few),
        8 => vec(any::<u8>(), 1..200).prop_map(Content::Bytes),
        4 => (any::<u8>(), 1..40_000_usize).prop_map(|(seed, len)| Content::Text(seed, len)),
        4 => (any::<u8>(), 1..90_000_usize).prop_map(|(seed, len)| Content::Noise(seed, len)),
        1 => (0..3_u8, 1_048_570..1_900_000_usize)
            .prop_map(|(seed, len)| Content::Text(seed, len)),
        1 => (0..3_u8, 1_048_570..1_900_000_usize)
            .prop_map(|(seed, len)| Content::Noise(seed, len)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || any::<usize>();
    prop_oneof![
        12 => (key(), content()).prop_map(|(key, content)| Op::Put(key, content)),
        2 => (key(), content()).prop_map(|(key, content)| Op::Stream(key, content)),
        2 => (key(), key()).prop_map(|(key, from)| Op::Copy(key, from)),
        4 => key().prop_map(Op::Delete),
        4 => Just(Op::Commit),
        2 => Just(Op::Seal),
        2 => Just(Op::Drop),
        2 => Just(Op::Finish),
        1 => Just(Op::ReadAll),
        2 => vec(any::<u8>(), 0..3).prop_map(Op::List),
        2 => any::<usize>().prop_map(Op::Generation),
    ]
}

/// Keys that sort, share beginnings and end in nasty ways. Those of the path space obey its rules.
fn keys() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let nasty = prop_oneof![
        vec(any::<u8>(), 1..12),
        vec(prop_oneof![Just(0_u8), Just(0xff), Just(b'/'), Just(b'.')], 1..6),
        (1..4096_usize).prop_map(|len| vec![0xfe; len]),
    ];
    let part = prop_oneof![
        "[a-c]{1,3}",
        Just("\u{e9}\u{202e}".to_owned()),
        Just("...".to_owned()),
        Just(" \n\t".to_owned()),
        Just("CON".to_owned()),
    ];
    let path = vec(part, 1..4).prop_map(|parts| parts.join("/").into_bytes());
    let one = prop_oneof![
        path.prop_map(|path| (0_u8, path)),
        nasty.clone().prop_map(|bytes| (1_u8, bytes)),
        nasty.prop_map(|bytes| (2_u8, bytes)),
    ];
    vec(one, 1..24)
}

/// The pack and its model.
struct World {
    fs: SimFs,
    options: WriteOptions,
    keys: Vec<(u8, Vec<u8>)>,
    writer: Option<Writer>,
    /// With everything staged, as committed (none before there is a file), and at each seal.
    staged: Keys,
    committed: Option<Keys>,
    sealed: Vec<Keys>,
    /// Entries were staged, perhaps to the same effect, or objects stored.
    touched: bool,
    /// Commits since the last seal.
    unsealed: bool,
}

impl World {
    fn key(&self, at: usize) -> (u8, Vec<u8>) {
        self.keys[at % self.keys.len()].clone()
    }

    fn writer(&mut self) -> &mut Writer {
        if self.writer.is_none() {
            let options = self.options.clone();
            self.writer = Some(match &self.committed {
                Some(_) => Writer::append(PATH, options).unwrap(),
                None => Writer::create(PATH, options).unwrap(),
            });
            self.staged = self.committed.clone().unwrap_or_default();
            self.touched = false;
        }
        self.writer.as_mut().unwrap()
    }

    fn put(&mut self, key: (u8, Vec<u8>), content: Vec<u8>, stream: bool) {
        let at = Key::new(key.0, key.1.as_slice());
        let name = if stream {
            self.writer().put_stream(&at, content.as_slice()).unwrap().name
        } else {
            self.writer().put(&at, &content).unwrap()
        };
        assert_eq!(name, Hash::of(&content));
        let entry = self.writer().entry(&at).unwrap().unwrap();
        assert_eq!(entry.content.unwrap().name, name);
        self.touched |= self.staged.get(&key) != Some(&content);
        self.staged.insert(key, content);
    }

    fn seal(&mut self) {
        self.sealed.push(self.staged.clone());
        self.committed = Some(self.staged.clone());
        (self.touched, self.unsealed) = (false, false);
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put(key, content) => self.put(self.key(*key), content.bytes(), false),
            Op::Stream(key, content) => self.put(self.key(*key), content.bytes(), true),
            Op::Copy(key, from) => {
                self.writer();
                let from = self.key(*from);
                if let Some(content) = self.staged.get(&from).cloned() {
                    self.put(self.key(*key), content, false);
                }
            }
            Op::Delete(key) => {
                let key = self.key(*key);
                let at = Key::new(key.0, key.1.as_slice());
                let found = self.writer().delete(&at).unwrap();
                assert_eq!(found, self.staged.remove(&key).is_some());
                assert_eq!(self.writer().entry(&at).unwrap(), None);
                self.touched |= found;
            }
            Op::Commit => {
                self.writer().commit().unwrap();
                if self.touched {
                    self.committed = Some(self.staged.clone());
                    (self.touched, self.unsealed) = (false, true);
                }
                self.read_all();
            }
            Op::Seal => {
                self.writer().seal().unwrap();
                self.seal();
                self.read_all();
            }
            Op::Drop => self.writer = None,
            Op::Finish => {
                self.writer();
                let stats = self.writer.take().unwrap().finish().unwrap();
                let is_new = self.touched || self.unsealed || self.sealed.is_empty();
                if is_new {
                    self.seal();
                }
                assert_eq!(stats.generation, self.sealed.len() as u64);
                self.read_all();
            }
            Op::ReadAll => self.read_all(),
            Op::List(prefix) => self.list(prefix),
            Op::Generation(number) => self.generation(*number),
        }
    }

    fn read_all(&self) {
        let pack = match (open(&self.fs), &self.committed) {
            (Ok(pack), Some(_)) => pack,
            (Err(error), None) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                return;
            }
            (result, _) => panic!("{result:?}"),
        };
        let committed = self.committed.as_ref().unwrap();
        assert!(read_all(&pack).unwrap() == *committed);
        assert_eq!(pack.generation(), self.sealed.len() as u64);
        for (space, key) in &self.keys {
            let key_of = Key::new(*space, key.as_slice());
            let expected = committed.get(&(*space, key.clone()));
            assert!(pack.get(&key_of).unwrap().as_ref() == expected);
            let Some(content) = expected else {
                assert!(pack.reader(&key_of).unwrap().is_none());
                continue;
            };
            assert!(pack.object(&Hash::of(content)).unwrap().as_ref() == Some(content));
            let mut reader = pack.reader(&key_of).unwrap().unwrap();
            let from = content.len() / 3;
            reader.seek(SeekFrom::Start(from as u64)).unwrap();
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert!(rest == content[from..]);
        }
    }

    fn list(&self, prefix: &[u8]) {
        let (Ok(pack), Some(committed)) = (open(&self.fs), &self.committed) else {
            return;
        };
        let of_keys = self.keys.iter().map(|(_, key)| &key[..key.len() / 2 + 1]);
        for prefix in of_keys.chain([prefix]) {
            for space in 0..3 {
                let found: Vec<Vec<u8>> = pack
                    .entries_under(Key::new(space, prefix))
                    .map(|entry| entry.unwrap().key.into_owned())
                    .collect();
                let live = committed.keys();
                let expected: Vec<Vec<u8>> = live
                    .filter(|(other, key)| *other == space && key.starts_with(prefix))
                    .map(|(_, key)| key.clone())
                    .collect();
                assert_eq!(found, expected);
            }
        }
    }

    fn generation(&self, number: usize) {
        let Ok(pack) = open(&self.fs) else { return };
        let newest = self.sealed.len();
        let number = number % (newest + 2);
        match pack.at_generation(number as u64) {
            Ok(old) => {
                assert!(read_all(&old).unwrap() == self.sealed[number - 1]);
                assert_eq!(old.generation(), number as u64);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert!(number == 0 || number > newest);
            }
        }
    }
}

proptest! {
    #![proptest_config(Config {
        cases: 96,
        max_shrink_iters: 400,
        failure_persistence: Some(Box::new(
            FileFailurePersistence::Direct("tests/proptest-regressions/model.txt"),
        )),
        ..Config::default()
    })]

    #[test]
    fn a_pack_is_a_map(
        keys in keys(),
        ops in vec(op(), 1..60),
        records in any::<bool>(),
        frame_bytes in prop_oneof![Just(64 << 10), Just(256 << 10), Just(1 << 20)],
        threads in 1..=2_usize,
        sha256 in any::<bool>(),
    ) {
        let fs = SimFs::new(1);
        let mut world = World {
            options: WriteOptions {
                layout: if records { Layout::Records } else { Layout::Archive },
                frame_bytes,
                threads,
                sha256,
                ..options(&fs)
            },
            fs,
            keys,
            writer: None,
            staged: Keys::new(),
            committed: None,
            sealed: Vec::new(),
            touched: false,
            unsealed: false,
        };
        for op in &ops {
            world.apply(op);
        }
        world.writer = None;
        world.read_all();
        for number in 0..world.sealed.len() + 2 {
            world.generation(number);
        }
    }
}
