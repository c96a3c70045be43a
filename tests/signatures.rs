//! Signatures in a pack: beside the log, changing nothing, found again.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failed unwrap fails the test")]

use ed25519_dalek::{Signer as _, SigningKey};
use pefc::format::signature::{Signature, SignatureFormat};
use pefc::proof::{Checkpoint, Head, Note, NoteSignature, Policy, SignatureType, VerifierKey};
use pefc::{Pack, SealSigner, Signers, VerifyOptions, WriteOptions, Writer};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
struct Key(u8);

impl Key {
    fn verifier(&self) -> VerifierKey {
        let public = SigningKey::from_bytes(&[self.0; 32]).verifying_key().to_bytes();
        VerifierKey::new("example.org/me", SignatureType::Ed25519, &public).unwrap()
    }

    fn line(&self, checkpoint: &Checkpoint) -> Signature<'static> {
        let text = checkpoint.to_string();
        let signature = SigningKey::from_bytes(&[self.0; 32]).sign(text.as_bytes()).to_bytes();
        let line = NoteSignature::ed25519(&self.verifier(), &signature).to_string();
        Signature {
            log_size: checkpoint.head.size,
            origin: Cow::Borrowed(""),
            format: SignatureFormat::Note,
            value: Cow::Owned(line.into_bytes()),
        }
    }
}

impl SealSigner for Key {
    fn sign(&self, checkpoint: &Checkpoint) -> pefc::Result<Vec<Signature<'static>>> {
        Ok(vec![self.line(checkpoint)])
    }
}

fn create(path: &Path, options: WriteOptions) -> pefc::WriteStats {
    let mut writer = Writer::create(path, options).unwrap();
    for (key, content) in [("a", &b"a = a\n"[..]), ("b", b"b -> b = a\n"), ("c", b"a = c\n")] {
        writer.put(key, content).unwrap();
    }
    writer.finish().unwrap()
}

fn checkpoint(pack: &Pack) -> Checkpoint {
    let generation = pack.newest_generation().unwrap().unwrap();
    let head = Head { size: generation.log_size, root: generation.log_root };
    Checkpoint::new(&pack.origin().unwrap().unwrap(), head).unwrap()
}

/// Verifies every signature of the newest seal.
fn verified(pack: &Pack, key: &Key) -> usize {
    let checkpoint = checkpoint(pack);
    let policy = Policy::new(vec![key.verifier()], 1).unwrap();
    let signatures = pack.signatures().unwrap();
    let of_newest = signatures.iter().filter(|s| s.log_size == checkpoint.head.size);
    of_newest
        .filter(|signature| {
            let line = NoteSignature::parse(str::from_utf8(&signature.value).unwrap()).unwrap();
            let note = Note::new(&checkpoint.to_string(), vec![line]).unwrap();
            policy.verify(&note).is_ok()
        })
        .count()
}

fn is_intact(path: &Path) -> bool {
    let report = Pack::open(path).unwrap().verify(&VerifyOptions::default()).unwrap();
    assert!(report.is_intact(), "{:?}", report.problems);
    report.is_intact()
}

#[test]
fn three_objects_and_a_signature_take_one_kibibyte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pefc");
    let options = WriteOptions { signer: Some(Arc::new(Key(1))), ..WriteOptions::default() };
    let stats = create(&path, options);
    let pack = Pack::open(&path).unwrap();
    assert_eq!(
        (pack.commit().number, verified(&pack, &Key(1)), verified(&pack, &Key(2))),
        (1, 1, 0)
    );
    assert!(is_intact(&path));
    let overhead = stats.stored_bytes - stats.content_bytes;
    assert!(overhead <= 1024, "{overhead} bytes");
    // The same without signature has the same log.
    let plain = dir.path().join("b.pefc");
    let other = create(&plain, WriteOptions::default());
    assert_eq!((stats.log_root, stats.map_root), (other.log_root, other.map_root));
}

#[test]
fn a_signature_that_comes_later_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pefc");
    create(&path, WriteOptions::default());
    let before = std::fs::read(&path).unwrap();
    let old = checkpoint(&Pack::open(&path).unwrap());
    for key in 1..=3 {
        let mut writer = Writer::append(&path, WriteOptions::default()).unwrap();
        writer.add_signatures(&[Key(key).line(&old)]).unwrap();
        let stats = writer.finish().unwrap();
        assert_eq!((stats.log_root, stats.generation), (old.head.root, 1));
        assert!(is_intact(&path));
    }
    let after = std::fs::read(&path).unwrap();
    assert_eq!(after[..before.len()], before);
    let pack = Pack::open(&path).unwrap();
    assert_eq!(checkpoint(&pack), old);
    assert_eq!(pack.signatures().unwrap().len(), 3);
    assert_eq!(
        (verified(&pack, &Key(1)), verified(&pack, &Key(3)), verified(&pack, &Key(4))),
        (1, 1, 0)
    );
    assert_eq!(pack.get("b").unwrap().as_deref(), Some(&b"b -> b = a\n"[..]));

    // Going on keeps them, and the pack opens with one unit.
    let options = WriteOptions { signer: Some(Arc::new(Key(9))), ..WriteOptions::default() };
    let mut writer = Writer::append(&path, options).unwrap();
    writer.put("d", b"more").unwrap();
    writer.commit().unwrap();
    writer.put("e", b"and more").unwrap();
    writer.finish().unwrap();
    assert!(is_intact(&path));
    let pack = Pack::open(&path).unwrap();
    assert_eq!((pack.generation(), pack.signatures().unwrap().len()), (2, 4));
    assert_eq!(verified(&pack, &Key(9)), 1);
    let first = pack.at_generation(1).unwrap();
    assert_eq!(checkpoint(&first), old);
}

#[test]
fn a_signature_of_no_seal_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pefc");
    create(&path, WriteOptions::default());
    let good = Key(1).line(&checkpoint(&Pack::open(&path).unwrap()));
    let before = std::fs::read(&path).unwrap();
    for bad in [
        Signature { log_size: good.log_size - 1, ..good.clone() },
        Signature { value: Cow::Borrowed(b""), ..good.clone() },
        Signature { value: Cow::Owned(vec![b'x'; 65_536]), ..good },
    ] {
        let mut writer = Writer::append(&path, WriteOptions::default()).unwrap();
        let error = writer.add_signatures(&[bad]).unwrap_err();
        assert_eq!(error.kind(), pefc::ErrorKind::Usage);
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn signers_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pefc");
    let signers = Signers { threshold: 1, keys: vec![Key(1).verifier()], ..Signers::default() };
    let too_many = Signers { threshold: 2, ..signers.clone() };
    let options = WriteOptions { signers: too_many, ..WriteOptions::default() };
    let error = Writer::create(&path, options).unwrap_err();
    assert_eq!(error.kind(), pefc::ErrorKind::Usage);
    let options = WriteOptions {
        signers: signers.clone(),
        signer: Some(Arc::new(Key(1))),
        origin: "example.org/proofs".to_owned(),
        ..WriteOptions::default()
    };
    create(&path, options.clone());
    let pack = Pack::open(&path).unwrap();
    assert_eq!(pack.origin().unwrap().as_deref(), Some("example.org/proofs"));
    assert_eq!(pack.genesis().unwrap().unwrap().vkeys, [Key(1).verifier().to_string()]);

    for sequence in 1..=2_u64 {
        let mut writer = Writer::append(&path, options.clone()).unwrap();
        let next = Signers {
            threshold: 1,
            keys: vec![Key(2).verifier()],
            revoked: vec![(Key(1).verifier(), 5)],
        };
        writer.set_signers(&next).unwrap();
        writer.put("d", format!("{sequence}").as_bytes()).unwrap();
        writer.finish().unwrap();
        assert!(is_intact(&path));
        let changes = Pack::open(&path).unwrap().signer_changes().unwrap();
        assert_eq!(changes.last().unwrap().1.sequence, sequence);
        assert_eq!(changes.last().unwrap().1.revoked[0].1, 5);
    }
}
