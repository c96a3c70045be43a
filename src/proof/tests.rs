//! Every kind of proof file over one small log: what verifies, and that nothing else does.

use super::merkle::{consistency_path, inclusion_path, root, run_path};
use super::*;
use crate::format::cbor::Writer;
use crate::format::entry::{
    Attributes, Content, Entry, Genesis, Keys, Put, RawPairs, SPACE_PATH, Seal,
};
use crate::hash::Hash;
use crate::tree::{Node, leaf_hash, sha256};
use ed25519_dalek::{Signer as _, SigningKey};
use std::borrow::Cow;

const ORIGIN: &str = "example.org/proofs";

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn vkey(name: &str, kind: SignatureType, seed: u8) -> VerifierKey {
    VerifierKey::new(name, kind, signing_key(seed).verifying_key().as_bytes()).unwrap()
}

fn log_key() -> VerifierKey {
    vkey("example.org/me", SignatureType::Ed25519, 1)
}

fn sign(text: &str, key: &VerifierKey, seed: u8) -> NoteSignature {
    let signature = signing_key(seed).sign(text.as_bytes()).to_bytes();
    NoteSignature::ed25519(key, &signature)
}

fn cosign(text: &str, key: &VerifierKey, seed: u8, time_s: u64) -> NoteSignature {
    let signature = signing_key(seed).sign(cosigned_text(text, time_s).as_bytes()).to_bytes();
    NoteSignature::cosignature(key, time_s, &signature)
}

fn put(key: &str, content: &[u8]) -> Vec<u8> {
    Entry::Put(Put {
        space: SPACE_PATH,
        key: Cow::Borrowed(key.as_bytes()),
        content: Some(Content { name: Hash::of(content), len: content.len() as u64 }),
        sha256: None,
        media_type: None,
        attributes: Attributes::default(),
    })
    .encode()
}

/// A log with one generation and all that its map was made of.
struct Log {
    entries: Vec<Vec<u8>>,
    leaves: Vec<Node>,
    map: Vec<(Vec<u8>, Vec<u8>)>,
    map_leaves: Vec<Node>,
}

const LARGE: usize = 70_000;

fn large() -> Vec<u8> {
    (0..LARGE).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn log_of(puts: &[(&str, Vec<u8>)], keys: Option<Keys<'_>>) -> Log {
    let genesis = Genesis {
        origin: Cow::Borrowed(ORIGIN),
        nonce: [9; 16],
        threshold: 1,
        vkeys: vec![Cow::Owned(log_key().to_string())],
        params: RawPairs::default(),
    };
    let mut entries = vec![Entry::Genesis(genesis).encode()];
    entries.extend(keys.map(|keys| Entry::Keys(keys).encode()));
    let mut map = Vec::new();
    for (key, content) in puts {
        let bytes = put(key, content);
        let mut value = Writer::default();
        let name = Hash::of(content);
        value.array(2).bytes(name.as_bytes()).uint(content.len() as u64);
        map.push((MapKey::Content(name).encode(), value.finish()));
        let key = MapKey::Key { space: SPACE_PATH, key: key.as_bytes().to_vec() };
        map.push((key.encode(), bytes.clone()));
        entries.push(bytes);
    }
    map.sort();
    map.dedup();
    let map_leaf = |(key, value): &(Vec<u8>, Vec<u8>)| ics23::leaf_hash(key, &sha256(value));
    let map_leaves: Vec<Node> = map.iter().map(map_leaf).collect();
    entries.push(
        Entry::Seal(Seal {
            map_size: map.len() as u64,
            map_root: root(&map_leaves),
            previous: None,
            object_count: 0,
            object_bytes: 0,
            time_s: None,
            attributes: RawPairs::default(),
        })
        .encode(),
    );
    let leaves = entries.iter().map(|entry| leaf_hash(entry)).collect();
    Log { entries, leaves, map, map_leaves }
}

fn log() -> Log {
    let puts = [("a/1", large()), ("b/1", b"x".to_vec()), ("b/2", b"y".to_vec()), ("c", vec![1])];
    log_of(&puts, None)
}

impl Log {
    fn head(&self) -> Head {
        Head { size: self.leaves.len() as u64, root: root(&self.leaves) }
    }

    fn note(&self) -> Note {
        let text = Checkpoint::new(ORIGIN, self.head()).unwrap().to_string();
        let unknown = vkey("example.net/other", SignatureType::Cosignature, 7);
        let signatures = vec![sign(&text, &log_key(), 1), cosign(&text, &unknown, 7, 5)];
        Note::new(&text, signatures).unwrap()
    }

    fn proof(&self, index: usize) -> TlogProof {
        let path = inclusion_path(&self.leaves, index).unwrap();
        TlogProof::new(self.entries[index].clone(), index as u64, path, self.note())
    }

    fn seal(&self) -> TlogProof {
        self.proof(self.leaves.len() - 1)
    }

    fn leaf(&self, index: usize) -> PresenceProof {
        let path = inclusion_path(&self.map_leaves, index).unwrap();
        let (key, value) = self.map[index].clone();
        PresenceProof::new(key, value, index as u64, self.map.len() as u64, &path).unwrap()
    }

    fn absent(&self, key: &MapKey) -> Absent {
        let bytes = key.encode();
        let at = self.map.partition_point(|(other, _)| *other < bytes);
        let gap = AbsenceProof {
            key: bytes,
            left: at.checked_sub(1).map(|at| self.leaf(at)),
            right: (at < self.map.len()).then(|| self.leaf(at)),
        };
        Absent::new(key.clone(), (!self.map.is_empty()).then_some(gap), self.seal())
    }

    fn complete(&self, prefix: &str) -> CompleteProof {
        let bytes = [b"p\0", prefix.as_bytes()].concat();
        let first = self.map.partition_point(|(key, _)| *key < bytes);
        let inside = self.map[first..].iter().take_while(|(key, _)| key.starts_with(&bytes));
        let end = first + inside.count();
        let side = |at: usize| {
            let (key, value) = &self.map[at];
            RangeLeaf { key: key.clone(), value_hash: sha256(value) }
        };
        let run = first.saturating_sub(1)..(end + 1).min(self.map.len());
        CompleteProof {
            space: SPACE_PATH,
            prefix: prefix.as_bytes().to_vec(),
            first: run.start as u64,
            before: first.checked_sub(1).map(side),
            entries: self.map[first..end].iter().map(|(_, value)| value.clone()).collect(),
            after: (end < self.map.len()).then(|| side(end)),
            path: run_path(&self.map_leaves, run).unwrap_or_default(),
            seal: self.seal(),
        }
    }
}

fn policy() -> Policy {
    Policy::new(vec![log_key()], 1).unwrap()
}

fn fault<T: std::fmt::Debug>(result: Result<T>) -> Fault {
    result.expect_err("it must be refused").fault
}

#[test]
fn a_logged_entry_is_proven() {
    let log = log();
    for index in 0..log.entries.len() {
        let text = log.proof(index).to_string();
        let proof = TlogProof::parse(text.as_bytes()).unwrap();
        assert_eq!(proof.to_string(), text);
        let proven = proof.verify(&policy().only(ORIGIN)).unwrap();
        assert_eq!(proven.entry.encode(), log.entries[index]);
        assert_eq!(proven.checkpoint.checkpoint.head, log.head());
        assert_eq!(proven.checkpoint.signers[0].name, "example.org/me");
    }
    let proof = log.proof(1);
    assert_eq!(fault(proof.verify(&policy().only("example.org/other"))), Fault::Origin);
    let stranger = vkey("example.org/me", SignatureType::Ed25519, 2);
    assert_eq!(fault(proof.verify(&Policy::new(vec![stranger], 1).unwrap())), Fault::Untrusted);
    let both = vec![log_key(), vkey("example.org/you", SignatureType::Ed25519, 2)];
    assert_eq!(fault(proof.verify(&Policy::new(both, 2).unwrap())), Fault::Threshold);
}

#[test]
fn another_place_or_entry_is_refused() {
    let log = log();
    let path = |index| inclusion_path(&log.leaves, index).unwrap();
    let size = log.leaves.len() as u64;
    let entry = |index: usize| log.entries[index].clone();
    let verify = |entry: Vec<u8>, index: u64, path: Vec<Node>| {
        TlogProof::new(entry, index, path, log.note()).verify(&policy())
    };
    assert_eq!(fault(verify(entry(1), 2, path(1))), Fault::Root);
    assert_eq!(fault(verify(entry(2), 1, path(1))), Fault::Root);
    assert_eq!(fault(verify(entry(1), size, path(1))), Fault::Index);
    assert_eq!(fault(verify(entry(1), 1, path(1)[1..].to_vec())), Fault::PathLength);
    // An inner node in the place of an entry: 64 bytes that hash as a node would, but for the prefix.
    let inner = [log.leaves[0], log.leaves[1]].concat();
    assert_eq!(fault(verify(inner, 0, path(0)[1..].to_vec())), Fault::PathLength);
}

#[test]
fn a_duplicated_last_leaf_is_no_longer_log() {
    let log = log();
    let leaves = [log.leaves.as_slice(), &log.leaves[log.leaves.len() - 1..]].concat();
    let path = consistency_path(&leaves, log.leaves.len()).unwrap();
    let proof = ConsistencyProof::new(log.leaves.len() as u64, path, log.note());
    assert_eq!(fault(proof.verify(&log.head(), &policy())), Fault::PathLength);
    assert_ne!(root(&leaves), root(&log.leaves));
}

#[test]
fn growth_is_proven() {
    let (all, old) = (log(), 3);
    let head = |size: usize| Head { size: size as u64, root: root(&all.leaves[..size]) };
    let path = consistency_path(&all.leaves, old).unwrap();
    let text = ConsistencyProof::new(3, path, all.note()).to_string();
    let proof = ConsistencyProof::parse(text.as_bytes()).unwrap();
    assert_eq!((proof.to_string(), proof.old_size()), (text, 3));
    assert_eq!(proof.verify(&head(old), &policy()).unwrap().checkpoint.head, all.head());
    assert_eq!(fault(proof.verify(&head(2), &policy())), Fault::Size);
    let other = Head { root: [0; 32], ..head(old) };
    assert_eq!(fault(proof.verify(&other, &policy())), Fault::Root);
}

#[test]
fn live_keys_and_contents_are_proven() {
    let log = log();
    for (index, (key, value)) in log.map.iter().enumerate() {
        let text = Present::new(log.leaf(index), log.seal()).to_string();
        let proof = Present::parse(text.as_bytes()).unwrap();
        assert_eq!(proof.to_string(), text);
        match proof.verify(&policy()).unwrap().what {
            Live::Put(put) => assert_eq!(Entry::Put(*put).encode(), *value),
            Live::Content(content) => {
                assert_eq!(MapKey::Content(content.name).encode(), *key);
            }
        }
    }
    // Another entry than the last one of the signed log does not say what is live.
    let early = Present::new(log.leaf(0), log.proof(1));
    assert_eq!(fault(early.verify(&policy())), Fault::Entry);
    // A leaf whose value is about another key.
    let mut twisted = log.leaf(log.map.len() - 1);
    twisted.key = log.map[log.map.len() - 2].0.clone();
    assert_eq!(fault(Present::new(twisted, log.seal()).verify(&policy())), Fault::Root);
}

#[test]
fn a_seal_below_the_signed_size_says_nothing() {
    // A log that goes on after its seal and is signed there.
    let mut log = log();
    let seal = log.leaves.len() - 1;
    log.entries.push(put("d", b"d"));
    log.leaves.push(leaf_hash(&log.entries[seal + 1]));
    let proof = Present::new(log.leaf(0), log.proof(seal));
    assert_eq!(fault(proof.verify(&policy())), Fault::Index);
}

#[test]
fn a_lying_signer_is_caught_by_a_leaf_about_another_key() {
    let mut log = log();
    let last = log.map.len() - 1;
    log.map[last].0 = MapKey::Key { space: SPACE_PATH, key: b"zz".to_vec() }.encode();
    log.map_leaves[last] = ics23::leaf_hash(&log.map[last].0, &sha256(&log.map[last].1));
    let seal = Seal {
        map_size: log.map.len() as u64,
        map_root: root(&log.map_leaves),
        previous: None,
        object_count: 0,
        object_bytes: 0,
        time_s: None,
        attributes: RawPairs::default(),
    };
    *log.entries.last_mut().unwrap() = Entry::Seal(seal).encode();
    log.leaves = log.entries.iter().map(|entry| leaf_hash(entry)).collect();
    assert_eq!(fault(Present::new(log.leaf(last), log.seal()).verify(&policy())), Fault::Key);
}

#[test]
fn absence_is_proven() {
    let log = log();
    let key = |key: &str| MapKey::Key { space: SPACE_PATH, key: key.as_bytes().to_vec() };
    for absent in [key("a"), key("b/3"), key("zzz"), MapKey::Content(Hash::of(b"absent"))] {
        let text = log.absent(&absent).to_string();
        let proof = Absent::parse(text.as_bytes()).unwrap();
        assert_eq!(proof.to_string(), text);
        assert_eq!(proof.verify(&policy()).unwrap().what, absent);
    }
    let gap = log.absent(&key("b/1x"));
    let elsewhere = gap.to_string().replace(&text::base64(&key("b/1x").encode()), "cABj");
    assert_eq!(fault(Absent::parse(elsewhere.as_bytes())), Fault::Key);
    assert_eq!(fault(Absent::new(key("x"), None, log.seal()).verify(&policy())), Fault::Neighbours);
    let empty = log_of(&[], None);
    let proof = Absent::parse(empty.absent(&key("x")).to_string().as_bytes()).unwrap();
    assert_eq!(proof.verify(&policy()).unwrap().what, key("x"));
}

#[test]
fn a_complete_list_is_proven() {
    let log = log();
    for (prefix, count) in
        [("", 4), ("b/", 2), ("b", 2), ("a/1", 1), ("x", 0), ("0", 0), ("b/11", 0)]
    {
        let text = log.complete(prefix).to_string();
        let proof = CompleteProof::parse(text.as_bytes()).unwrap();
        assert_eq!(proof.to_string(), text);
        let puts = proof.verify(&policy()).unwrap().what;
        assert_eq!(puts.len(), count, "{prefix}");
        assert!(puts.iter().all(|put| put.key.starts_with(prefix.as_bytes())));
    }
    let empty = log_of(&[], None).complete("");
    assert_eq!(empty.verify(&policy()).unwrap().what, []);
}

#[test]
fn a_list_with_a_gap_is_refused() {
    let log = log();
    let whole = log.complete("b/");
    let without = |at: usize| {
        let mut proof = whole.clone();
        proof.entries.remove(at);
        proof
    };
    assert!(without(0).verify(&policy()).is_err());
    assert!(without(1).verify(&policy()).is_err());
    let cut = CompleteProof { after: None, ..whole.clone() };
    assert_eq!(fault(cut.verify(&policy())), Fault::Neighbours);
    let cut = CompleteProof { before: None, ..whole.clone() };
    assert_eq!(fault(cut.verify(&policy())), Fault::Neighbours);
    let mut swapped = whole.clone();
    swapped.entries.swap(0, 1);
    assert_eq!(fault(swapped.verify(&policy())), Fault::Order);
    // The run of "b/" does not prove "b/2" alone, nor "c".
    let other = CompleteProof { prefix: b"b/2".to_vec(), ..whole.clone() };
    assert_eq!(fault(other.verify(&policy())), Fault::Key);
    let other = CompleteProof { prefix: b"c".to_vec(), ..whole };
    assert_eq!(fault(other.verify(&policy())), Fault::Key);
}

fn slice(log: &Log, start: u64, len: u64) -> SliceProof {
    let (name, slice) = cut_slice(std::io::Cursor::new(large()), start, len).unwrap();
    assert_eq!(name, Hash::of(&large()));
    SliceProof::new(start, len, log.proof(1), slice)
}

#[test]
fn a_range_of_a_content_is_proven() {
    let log = log();
    for (start, len) in [(0, 1), (1000, 100), (1023, 2), (0, 70_000), (69_999, 1), (65_536, 4464)] {
        let bytes = slice(&log, start, len).encode();
        let proof = SliceProof::parse(&bytes).unwrap();
        assert_eq!((proof.encode(), proof.range()), (bytes, (start, len)));
        let (_, found) = proof.verify(&policy()).unwrap();
        let range = usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap();
        assert_eq!(found, large()[range]);
    }
    assert_eq!(fault(slice(&log, 69_999, 2).verify(&policy())), Fault::Slice);
    let other = SliceProof::new(0, 1, log.proof(2), slice(&log, 0, 1).encode());
    assert_eq!(fault(other.verify(&policy())), Fault::Slice);
}

fn receipt(log: &Log, index: usize) -> CoseReceipt {
    let message = cose_message(&log.head().root);
    CoseReceipt {
        entry: log.entries[index].clone(),
        size: log.head().size,
        index: index as u64,
        path: inclusion_path(&log.leaves, index).unwrap(),
        signature: signing_key(1).sign(&message).to_bytes(),
    }
}

#[test]
fn a_receipt_is_proven() {
    let log = log();
    let bytes = receipt(&log, 2).encode();
    let proven = CoseReceipt::parse(&bytes).unwrap().verify(&policy()).unwrap();
    assert_eq!((proven.root, proven.entry.encode()), (log.head().root, log.entries[2].clone()));
    assert_eq!(fault(receipt(&log, 2).verify(&policy().only(ORIGIN))), Fault::Origin);
    let moved = CoseReceipt { index: 3, ..receipt(&log, 2) };
    assert_eq!(fault(moved.verify(&policy())), Fault::Untrusted);
}

/// A proof of each kind as a file.
fn files() -> Vec<Vec<u8>> {
    let log = log();
    let key = MapKey::Key { space: SPACE_PATH, key: b"b/11".to_vec() };
    let path = consistency_path(&log.leaves, 3).unwrap();
    vec![
        log.proof(2).to_string().into_bytes(),
        ConsistencyProof::new(3, path, log.note()).to_string().into_bytes(),
        Present::new(log.leaf(5), log.seal()).to_string().into_bytes(),
        log.absent(&key).to_string().into_bytes(),
        log.complete("b/").to_string().into_bytes(),
        slice(&log, 5000, 100).encode(),
        receipt(&log, 2).encode(),
    ]
}

/// What a file proves, in a form that can be compared.
fn proven(bytes: &[u8], old: &Head) -> Result<String> {
    let policy = policy();
    Ok(match ProofFile::parse(bytes)? {
        ProofFile::Logged(proof) => format!("{:?}", proof.verify(&policy)?),
        ProofFile::Consistency(proof) => format!("{:?}", proof.verify(old, &policy)?),
        ProofFile::Present(proof) => format!("{:?}", proof.verify(&policy)?),
        ProofFile::Absent(proof) => format!("{:?}", proof.verify(&policy)?),
        ProofFile::Complete(proof) => format!("{:?}", proof.verify(&policy)?),
        ProofFile::Slice(proof) => {
            // Another range of the same chunk is another statement, and as true as the first.
            let ((found, bytes), (start, len)) = (proof.verify(&policy)?, proof.range());
            let (start, len) = (usize::try_from(start).unwrap(), usize::try_from(len).unwrap());
            assert_eq!(bytes, large()[start..start + len]);
            format!("{found:?}")
        }
        ProofFile::Cose(proof) => format!("{:?}", proof.verify(&policy)?),
    })
}

#[test]
fn no_change_of_a_byte_proves_anything_else() {
    let old = Head { size: 3, root: root(&log().leaves[..3]) };
    let proven = |bytes: &[u8]| proven(bytes, &old);
    for file in files() {
        let whole = proven(&file).unwrap();
        let stranger = line_of_a_stranger(&file);
        for at in 0..file.len() {
            for flip in [0x01, 0x20, 0xff] {
                let mut changed = file.clone();
                changed[at] ^= flip;
                // A signature of a key that nobody trusts may be anything.
                if let Ok(other) = proven(&changed) {
                    assert_eq!(other, whole, "byte {at} ^ {flip:x}");
                    assert!(
                        stranger.contains(&at) || is_free(&file, at),
                        "byte {at} ^ {flip:x} of {}",
                        String::from_utf8_lossy(&file)
                    );
                }
            }
            assert!(at == 0 || proven(&file[..at]).is_err() || ends_a_signature(&file[..at]));
        }
        let longer = [file.as_slice(), b"\n"].concat();
        assert!(proven(&longer).is_err());
    }
}

/// Whether a byte may belong to the range that a slice states, or to size and index in a receipt:
/// its signature does not cover them, and they are not part of what it proves.
fn is_free(file: &[u8], at: usize) -> bool {
    let range = file.windows(7).position(|part| part == b"\nrange ");
    let is_receipt = file[0] == 0xd2;
    is_receipt || range.is_some_and(|start| (start + 7..start + 15).contains(&at))
}

/// Where the signature of the key is that nobody trusts; nowhere in a receipt.
fn line_of_a_stranger(file: &[u8]) -> std::ops::Range<usize> {
    let line = "\u{2014} example.net".as_bytes();
    let start = file.windows(line.len()).position(|part| part == line).unwrap_or(file.len());
    let len = file[start..].iter().position(|byte| *byte == b'\n').unwrap_or(0);
    start..start + len
}

/// Without the line of a stranger a note is whole.
fn ends_a_signature(file: &[u8]) -> bool {
    file.ends_with(b"\n") && String::from_utf8_lossy(file).contains("\u{2014} example.org/me ")
}

#[test]
fn trust_files_say_who_must_sign() {
    let log = log();
    let (key, witness) = (log_key(), vkey("w.example/1", SignatureType::Cosignature, 7));
    let logged = vkey(ORIGIN, SignatureType::Ed25519, 1);
    let text = log.note().text().to_owned();
    let signatures = vec![
        sign(&text, &key, 1),
        sign(&text, &logged, 1),
        cosign(&text, &witness, 7, 1_700_000_000),
    ];
    let note = Note::new(&text, signatures).unwrap();
    let other = vkey("w.example/2", SignatureType::Cosignature, 8);
    let verify =
        |trust: &str| Policy::parse(trust.as_bytes()).and_then(|policy| policy.verify(&note));
    let trusted = verify(&format!("# me\n\n {key}\t\norigin {ORIGIN}\nthreshold 1\n")).unwrap();
    assert_eq!(trusted.signers.len(), 1);
    let trusted = verify(&format!("{key}\n{witness}\nthreshold 2")).unwrap();
    assert_eq!(trusted.signers[1].time_s, Some(1_700_000_000));
    let c2sp = format!("log {logged}\nwitness a {witness}\nwitness b {other} https://w.example/\n");
    assert!(verify(&format!("{c2sp}quorum a\n")).is_ok());
    assert!(verify(&format!("{c2sp}group g any a b\nquorum g\n")).is_ok());
    assert!(verify(&format!("{c2sp}quorum none\n")).is_ok());
    for (trust, expected) in [
        (format!("{c2sp}quorum b\n"), Fault::Threshold),
        (format!("{c2sp}group g all a b\nquorum g\n"), Fault::Threshold),
        (format!("log {key}\nquorum none\n"), Fault::Untrusted), // signs for another name
        (format!("{c2sp}group g 3 a b\nquorum g\n"), Fault::Policy),
        (format!("{c2sp}group g 0 a b\nquorum g\n"), Fault::Policy),
        (format!("{c2sp}group g any a c\nquorum g\n"), Fault::Policy),
        (format!("{c2sp}group g any a a\nquorum g\n"), Fault::Policy),
        (format!("{c2sp}group a any b\nquorum a\n"), Fault::Policy),
        (format!("{c2sp}quorum a\nquorum a\n"), Fault::Policy),
        (format!("{c2sp}quorum c\n"), Fault::Policy),
        (format!("log {logged}\nwitness none {witness}\nquorum none\n"), Fault::Policy),
        (format!("log {logged}\nwitness a {logged}\nquorum a\n"), Fault::KeyType),
        ("quorum none\n".to_owned(), Fault::Policy),
        (String::new(), Fault::Policy),
        (format!("{key}\n{key}\n"), Fault::Policy),
        (format!("{key}\nthreshold 2\n"), Fault::Policy),
        (format!("{key}\nthreshold 0\n"), Fault::Policy),
        (format!("{key}\nthreshold 01\n"), Fault::Syntax),
        (format!("{key} {key}\n"), Fault::Syntax),
        (format!("{key}\norigin other\n"), Fault::Origin),
        (format!("{key}\r\n"), Fault::Encoding),
        ("me+00000000+AQ==\n".to_owned(), Fault::Vkey),
        ("me+00000000+Bg==\n".to_owned(), Fault::KeyType),
    ] {
        assert_eq!(fault(verify(&trust)), expected, "{trust}");
    }
}

#[test]
fn a_key_id_names_a_key_but_does_not_stand_for_it() {
    // A note of a stranger that claims name and id of the trusted key.
    let log = log();
    let text = log.note().text().to_owned();
    let forged =
        NoteSignature { value: sign(&text, &log_key(), 2).value, ..sign(&text, &log_key(), 1) };
    let note = Note::new(&text, vec![forged]).unwrap();
    assert_eq!(fault(policy().verify(&note)), Fault::Signature);
}

#[test]
fn a_signature_of_another_format_is_none() {
    let log = log();
    let text = log.note().text().to_owned();
    let same = vkey("example.org/me", SignatureType::Cosignature, 1);
    // The log's signature in the place of a cosignature, and the other way round.
    let as_cosignature =
        NoteSignature::cosignature(&same, 5, &signing_key(1).sign(text.as_bytes()).to_bytes());
    let note = Note::new(&text, vec![as_cosignature]).unwrap();
    let trust = Policy::new(vec![same.clone()], 1).unwrap();
    assert_eq!(fault(trust.verify(&note)), Fault::Signature);
    let cosigned = cosign(&text, &same, 1, 5);
    let as_note =
        NoteSignature { id: log_key().id(), value: cosigned.value[8..].to_vec(), ..cosigned };
    let note = Note::new(&text, vec![as_note]).unwrap();
    assert_eq!(fault(policy().verify(&note)), Fault::Signature);
}

#[test]
fn signers_hand_over_to_the_next_ones() {
    let (old, new) = (log_key(), vkey("example.org/new", SignatureType::Ed25519, 2));
    let keys = |revoked: Vec<(Cow<'static, str>, u64)>| Keys {
        sequence: 1,
        threshold: 1,
        vkeys: vec![Cow::Owned(new.to_string()), Cow::Owned(old.to_string())],
        revoked,
    };
    let revoked = vec![(Cow::Owned(old.to_string()), 3)];
    let log = log_of(&[("a", b"a".to_vec())], Some(keys(revoked)));
    let mut policy = policy();
    assert_eq!(fault(policy.clone().follow(&log.proof(2))), Fault::Entry);
    policy.follow(&log.proof(1)).unwrap();
    assert_eq!((policy.sequence(), policy.signers().1.len()), (1, 2));
    // Twice is not newer. The old key is good up to size 3 and no further.
    let text = log.note().text().to_owned();
    assert_eq!(log.head().size, 4);
    assert_eq!(fault(policy.verify(&log.note())), Fault::Revoked);
    let note = Note::new(&text, vec![sign(&text, &new, 2)]).unwrap();
    assert_eq!(policy.verify(&note).unwrap().signers[0].name, "example.org/new");
    let proof =
        TlogProof::new(log.entries[1].clone(), 1, inclusion_path(&log.leaves, 1).unwrap(), note);
    assert_eq!(fault(policy.follow(&proof)), Fault::Entry);
}

#[test]
fn faults_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> =
        Fault::ALL.iter().map(|fault| fault.name()).collect();
    assert_eq!(names.len(), Fault::ALL.len());
}
