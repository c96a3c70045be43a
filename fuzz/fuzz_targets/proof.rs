//! A proof, note, key or trust file that parses would be written to the bytes that it was read from,
//! and none of them makes the verifier panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::proof::{Note, Policy, ProofFile, SshSignature, VerifierKey};

fuzz_target!(|bytes: &[u8]| {
    // The key of the example of C2SP signed-note: nothing here is signed with it.
    let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let key: VerifierKey = key.parse().expect("the example is a key");
    let policy = Policy::new(vec![key], 1).expect("one of one key");
    if let Ok(proof) = ProofFile::parse(bytes) {
        match proof {
            ProofFile::Logged(proof) => {
                assert_eq!(proof.to_string().as_bytes(), bytes);
                assert!(proof.verify(&policy).is_err());
            }
            ProofFile::Consistency(proof) => assert_eq!(proof.to_string().as_bytes(), bytes),
            ProofFile::Present(proof) => {
                assert_eq!(proof.to_string().as_bytes(), bytes);
                assert!(proof.verify(&policy).is_err());
            }
            ProofFile::Absent(proof) => {
                assert_eq!(proof.to_string().as_bytes(), bytes);
                assert!(proof.verify(&policy).is_err());
            }
            ProofFile::Complete(proof) => {
                assert_eq!(proof.to_string().as_bytes(), bytes);
                assert!(proof.verify(&policy).is_err());
            }
            ProofFile::Slice(proof) => {
                assert_eq!(proof.encode(), bytes);
                assert!(proof.verify(&policy).is_err());
            }
            ProofFile::Cose(proof) => {
                assert_eq!(proof.encode(), bytes);
                assert!(proof.verify(&policy).is_err());
            }
        }
    }
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
        assert!(policy.verify(&note).is_err());
    }
    if let Ok(signature) = SshSignature::parse(bytes) {
        assert_eq!(signature.to_string().as_bytes(), bytes);
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(key) = text.parse::<VerifierKey>()
    {
        assert_eq!(key.to_string(), text);
    }
    let _ = Policy::parse(bytes); // has comments, so not one text for each
});
