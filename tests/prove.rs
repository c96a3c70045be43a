//! Signing, proving and checking with the command, and what strangers' tools say of it.
#![cfg(all(unix, feature = "cli"))]
#![allow(clippy::unwrap_used, missing_docs, reason = "a failed unwrap fails the test")]

use base64::Engine as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    /// A directory with a key, a tree of files, and a pack of it that is signed.
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        desk.ok(&["keygen", "example.org/me", "-o", "me.key"]);
        std::fs::create_dir_all(desk.path("sat")).unwrap();
        for (name, content) in
            [("sat/1.cnf", "p cnf 1 1\n"), ("sat/1.lrat", "2 0 1 0\n"), ("readme", "")]
        {
            std::fs::write(desk.path(name), content).unwrap();
        }
        let large: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(desk.path("large"), large).unwrap();
        desk.ok(&[
            "create",
            "a.pefc",
            "sat",
            "readme",
            "large",
            "--origin",
            "example.org/a",
            "--sign",
            "me.key",
        ]);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pefc"));
        command.current_dir(self.dir.path()).env_remove("SOURCE_DATE_EPOCH");
        command.env("XDG_STATE_HOME", self.path("state"));
        command.args(args).output().unwrap()
    }

    fn code(&self, args: &[&str]) -> i32 {
        self.run(args).status.code().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fault(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(&[args, &["--json"]].concat());
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        let fault = error["fault"].as_str().unwrap_or_default().to_owned();
        (output.status.code().unwrap(), fault)
    }
}

#[test]
fn a_key_is_its_owners_alone_and_is_never_replaced() {
    let desk = Desk::new();
    let mode =
        |name: &str| std::fs::metadata(desk.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("me.key"), 0o600);
    assert_ne!(mode("me.key.pub") & 0o044, 0);
    let before = std::fs::read(desk.path("me.key")).unwrap();
    assert_eq!(desk.code(&["keygen", "example.org/me", "-o", "me.key"]), 13);
    assert_eq!(std::fs::read(desk.path("me.key")).unwrap(), before);
    assert_eq!(desk.fault(&["keygen", "a b", "-o", "b.key"]), (6, "vkey".to_owned()));
    assert!(!desk.path("b.key").exists() && !desk.path("b.key.pub").exists());
}

#[test]
fn a_signed_pack_is_verified_to_its_signer() {
    let desk = Desk::new();
    desk.ok(&["keygen", "example.org/you", "-o", "you.key"]);
    let told = desk.ok(&["verify", "a.pefc", "--trust", "me.key.pub"]);
    assert!(told.contains("signed by example.org/me") && told.contains("intact, signed"), "{told}");
    assert_eq!(desk.code(&["verify", "a.pefc"]), 4);
    assert_eq!(
        desk.fault(&["verify", "a.pefc", "--trust", "you.key.pub"]),
        (4, "untrusted".to_owned())
    );
    let other = ["verify", "a.pefc", "--trust", "me.key.pub", "--origin", "example.org/b"];
    assert_eq!(desk.fault(&other), (6, "origin".to_owned()));

    // Something that nobody signed on top of it.
    std::fs::write(desk.path("sat/2.cnf"), "p cnf 2 1\n").unwrap();
    desk.ok(&["append", "a.pefc", "sat"]);
    let output = desk.run(&["verify", "a.pefc", "--trust", "me.key.pub"]);
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("not authenticated") && told.contains("follows generation 1"), "{told}");

    // Signing it leaves every byte alone.
    let before = std::fs::read(desk.path("a.pefc")).unwrap();
    desk.ok(&["sign", "a.pefc", "--key", "me.key"]);
    assert!(std::fs::read(desk.path("a.pefc")).unwrap().starts_with(&before));
    desk.ok(&["verify", "a.pefc", "--trust", "me.key.pub"]);
}

#[test]
fn compacting_keeps_every_signature_and_proof() {
    let desk = Desk::new();
    let trust = ["--trust", "me.key.pub"];
    let before = desk.ok(&["prove", "a.pefc", "sat/1.lrat"]);
    std::fs::write(desk.path("old.proof"), &before).unwrap();
    std::fs::remove_file(desk.path("sat/1.cnf")).unwrap();
    desk.ok(&["append", "a.pefc", "sat", "--delete"]);
    desk.ok(&["sign", "a.pefc", "--key", "me.key"]);
    let signed = desk.ok(&["verify", "a.pefc", "--trust", "me.key.pub"]);
    let live = desk.ok(&["prove", "a.pefc", "sat/1.lrat", "--live", "-o", "-"]);

    desk.ok(&["compact", "a.pefc"]);
    let again = desk.ok(&["verify", "a.pefc", "--trust", "me.key.pub"]);
    let line = |text: &str| text.lines().find(|line| line.contains("signed by")).map(str::to_owned);
    assert_eq!(line(&again), line(&signed));
    assert_eq!(desk.ok(&["prove", "a.pefc", "sat/1.lrat", "--live", "-o", "-"]), live);
    desk.ok(&[&["check", "old.proof", "sat/1.lrat"][..], &trust].concat());
    desk.ok(&["prove", "a.pefc", "sat/1.cnf", "--absent", "-o", "gone.proof"]);
    assert_eq!(desk.code(&[&["check", "gone.proof"][..], &trust].concat()), 5);

    // A new log is another log: who remembers the old one notices.
    desk.ok(&["compact", "a.pefc", "--rebase"]);
    assert_ne!(desk.code(&["verify", "a.pefc", "--trust", "me.key.pub"]), 0);
    assert!(desk.ok(&["cat", "a.pefc", "sat/1.lrat"]).starts_with("2 0"));
}

#[test]
fn a_log_without_a_name_is_named_before_it_goes_on() {
    let desk = Desk::new();
    desk.ok(&["create", "b.pefc", "sat"]);
    desk.ok(&["sign", "b.pefc", "--key", "me.key"]);
    std::fs::write(desk.path("sat/2.cnf"), "p cnf 2 1\n").unwrap();
    desk.ok(&["append", "b.pefc", "sat"]);
    assert_eq!(desk.code(&["sign", "b.pefc", "--key", "me.key"]), 2);
    desk.ok(&["sign", "b.pefc", "--key", "me.key", "--origin", "example.org/b"]);
    let trust = ["verify", "b.pefc", "--trust", "me.key.pub", "--origin", "example.org/b"];
    desk.ok(&trust);
}

#[test]
fn proofs_are_checked_without_the_pack() {
    let desk = Desk::new();
    desk.ok(&["sign", "a.pefc", "--key", "me.key", "--cose"]);
    let prove = |args: &[&str]| {
        desk.ok(&[&["prove", "a.pefc"], args, &["-o", "p"]].concat());
        std::fs::copy(desk.path("p"), desk.path("proof")).unwrap();
        std::fs::remove_file(desk.path("p")).unwrap();
    };
    let check = |more: &[&str]| {
        let args = [&["check", "proof", "--trust", "me.key.pub"], more].concat();
        let output = desk.run(&args);
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let proven = |args: &[&str], more: &[&str]| {
        prove(args);
        std::fs::rename(desk.path("a.pefc"), desk.path("away")).unwrap();
        let found = check(more);
        std::fs::rename(desk.path("away"), desk.path("a.pefc")).unwrap();
        found
    };
    let (code, told) = proven(&["sat/1.lrat"], &["sat/1.lrat", "--origin", "example.org/a"]);
    assert!(code == 0 && told.starts_with("logged: sat/1.lrat had content"), "{told}");
    let other = ["check", "proof", "sat/1.cnf", "--trust", "me.key.pub"];
    assert_eq!(desk.fault(&other), (6, "content".to_owned()));
    let (code, told) = proven(&["sat/1.lrat", "--live"], &["sat/1.lrat"]);
    assert!(code == 0 && told.starts_with("live: sat/1.lrat has content"), "{told}");
    let name = pefc::Hash::of(b"2 0 1 0\n").to_string();
    assert_eq!(proven(&["--content", &name], &["sat/1.lrat"]).0, 0);
    let (code, told) = proven(&["sat/2.lrat", "--absent"], &[]);
    assert!(code == 5 && told.starts_with("absent: sat/2.lrat"), "{told}");
    let other = pefc::Hash::of(b"other").to_string();
    assert_eq!(proven(&["--content", &other, "--absent"], &[]).0, 5);
    assert_eq!(desk.code(&["prove", "a.pefc", "sat/1.lrat", "--absent"]), 13);
    assert_eq!(desk.code(&["prove", "a.pefc", "sat/2.lrat"]), 10);
    assert_eq!(desk.code(&["prove", "a.pefc", "sat/2.lrat", "--live"]), 10);
    let (code, told) = proven(&["--all-under", "sat/"], &[]);
    assert!(code == 0 && told.contains("these 2, and no other"), "{told}");
    let large = std::fs::read(desk.path("large")).unwrap();
    std::fs::write(desk.path("part"), &large[5000..9000]).unwrap();
    assert_eq!(proven(&["large", "--range", "5000..9000"], &["part"]).0, 0);
    assert_eq!(check(&["large"]).0, 6);
    assert_eq!(desk.code(&["prove", "a.pefc", "large", "--range", "5000..500000"]), 2);
    assert_eq!(proven(&["sat/1.lrat", "--format", "cose"], &["sat/1.lrat"]).0, 0);
    std::fs::write(desk.path("proof"), "no proof\n").unwrap();
    assert_eq!(check(&[]).0, 6);
}

#[test]
fn growth_is_proven_and_a_step_back_is_seen() {
    let desk = Desk::new();
    desk.ok(&["sign", "a.pefc", "--key", "me.key", "--detached", "old.checkpoint"]);
    std::fs::copy(desk.path("a.pefc"), desk.path("old.pefc")).unwrap();
    std::fs::write(desk.path("sat/2.cnf"), "p cnf 2 1\n").unwrap();
    desk.ok(&["append", "a.pefc", "sat", "--sign", "me.key"]);
    desk.ok(&["sign", "a.pefc", "--key", "me.key", "--detached", "new.checkpoint"]);
    let old = std::fs::read_to_string(desk.path("old.checkpoint")).unwrap();
    let size = old.lines().nth(1).unwrap();
    desk.ok(&["prove", "a.pefc", "--since", size, "-o", "grown"]);
    let check = ["check", "grown", "--trust", "me.key.pub", "--known", "old.checkpoint"];
    assert!(desk.ok(&check).starts_with("grew: "));
    let check = ["check", "grown", "--trust", "me.key.pub", "--known", "new.checkpoint"];
    assert_eq!(desk.fault(&check), (6, "size".to_owned()));

    let verify = |pack: &str, known: &str| {
        desk.fault(&["verify", pack, "--trust", "me.key.pub", "--known", known])
    };
    desk.ok(&["verify", "a.pefc", "--trust", "me.key.pub", "--known", "old.checkpoint"]);
    assert_eq!(verify("old.pefc", "new.checkpoint"), (7, "rollback".to_owned()));
    // Another history under the same name and key.
    std::fs::write(desk.path("sat/1.cnf"), "p cnf 1 2\n").unwrap();
    let create = ["create", "b.pefc", "sat", "readme", "large", "--origin", "example.org/a"];
    desk.ok(&[&create[..], &["--sign", "me.key"]].concat());
    assert_eq!(verify("b.pefc", "old.checkpoint"), (7, "fork".to_owned()));

    let log = desk.ok(&["log", "old.pefc", "--json"]);
    let log: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let root = log["map_root"].as_str().unwrap();
    let expect = |pack| {
        let verify = ["verify", pack, "--trust", "me.key.pub", "--no-memory"];
        desk.code(&[&verify[..], &["--expect-root", root]].concat())
    };
    assert_eq!((expect("old.pefc"), expect("a.pefc")), (0, 7));
}

#[test]
fn what_was_verified_is_remembered() {
    let desk = Desk::new();
    let verify = |pack| desk.fault(&["verify", pack, "--trust", "me.key.pub"]);
    let ok = |pack| drop(desk.ok(&["verify", pack, "--trust", "me.key.pub"]));
    std::fs::copy(desk.path("a.pefc"), desk.path("old.pefc")).unwrap();
    ok("old.pefc");
    std::fs::write(desk.path("sat/2.cnf"), "p cnf 2 1\n").unwrap();
    desk.ok(&["append", "a.pefc", "sat", "--sign", "me.key"]);
    ok("a.pefc");
    ok("a.pefc");
    assert_eq!(verify("old.pefc"), (7, "rollback".to_owned()));
    desk.ok(&["verify", "old.pefc", "--trust", "me.key.pub", "--no-memory"]);
    // One head for each log, and nothing half written beside it.
    let known = desk.path("state/pefc/known");
    let files: Vec<PathBuf> =
        std::fs::read_dir(&known).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    // Another history of the same length under the same name.
    std::fs::write(desk.path("sat/2.cnf"), "p cnf 2 2\n").unwrap();
    desk.ok(&["append", "old.pefc", "sat", "--sign", "me.key"]);
    assert_eq!(verify("old.pefc"), (7, "fork".to_owned()));
    // A pack that is not signed is not remembered, and a head that can't be read is no head.
    std::fs::write(&files[0], "something else\n").unwrap();
    assert_eq!(desk.code(&["verify", "a.pefc", "--trust", "me.key.pub"]), 6);
}

#[test]
fn others_vouch_for_a_pack() {
    let desk = Desk::new();
    desk.ok(&["keygen", "w.example/1", "-o", "w.key", "--cosigner"]);
    assert_eq!(desk.code(&["sign", "a.pefc", "--key", "w.key"]), 2);
    let key = |name: &str| {
        let text = std::fs::read_to_string(desk.path(name)).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    let (me, w) = (key("me.key.pub"), key("w.key.pub"));
    std::fs::write(desk.path("both"), format!("{me}\n{w}\nthreshold 2\n")).unwrap();
    assert_eq!(desk.fault(&["verify", "a.pefc", "--trust", "both"]), (4, "threshold".to_owned()));
    let sign = ["countersign", "a.pefc", "--key", "w.key", "--trust", "me.key.pub"];
    desk.ok(&[&sign[..], &["--detached", "w.checkpoint"]].concat());
    desk.ok(&["countersign", "a.pefc", "--import", "w.checkpoint", "--trust", "w.key.pub"]);
    let told = desk.ok(&["verify", "a.pefc", "--trust", "both"]);
    assert!(told.contains("w.example/1, seen at "), "{told}");
    // Again is nothing new; a note of another log is none of this one.
    let size = std::fs::metadata(desk.path("a.pefc")).unwrap().len();
    desk.ok(&["countersign", "a.pefc", "--import", "w.checkpoint"]);
    assert_eq!(std::fs::metadata(desk.path("a.pefc")).unwrap().len(), size);
    desk.ok(&["create", "b.pefc", "sat", "large"]);
    assert_eq!(desk.code(&["countersign", "b.pefc", "--import", "w.checkpoint"]), 7);
}

/// The three lines that are signed, and the 64 bytes of the signature.
fn body_and_signature(checkpoint: &Path) -> (String, Vec<u8>) {
    let note = std::fs::read_to_string(checkpoint).unwrap();
    let (body, signatures) = note.split_once("\n\n").unwrap();
    let line = signatures.lines().next().unwrap();
    let bytes = decode(line.rsplit(' ').next().unwrap());
    (format!("{body}\n"), bytes[4..].to_vec())
}

fn decode(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn openssl_verifies_a_signature() {
    let desk = Desk::new();
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: there is no openssl");
        return;
    }
    desk.ok(&["sign", "a.pefc", "--key", "me.key", "--detached", "me.checkpoint"]);
    let (body, signature) = body_and_signature(&desk.path("me.checkpoint"));
    let vkey = std::fs::read_to_string(desk.path("me.key.pub")).unwrap();
    let public = decode(vkey.lines().next().unwrap().splitn(3, '+').nth(2).unwrap());
    // SubjectPublicKeyInfo of an Ed25519 key (RFC 8410).
    let spki = [&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], &public[1..]].concat();
    std::fs::write(desk.path("me.der"), spki).unwrap();
    std::fs::write(desk.path("signature"), signature).unwrap();
    let verify = |body: &str| {
        std::fs::write(desk.path("body"), body).unwrap();
        let mut command = Command::new("openssl");
        command.current_dir(desk.dir.path()).args(["pkeyutl", "-verify", "-rawin", "-pubin"]);
        command.args([
            "-keyform",
            "DER",
            "-inkey",
            "me.der",
            "-in",
            "body",
            "-sigfile",
            "signature",
        ]);
        command.output().unwrap().status.success()
    };
    assert!(verify(&body));
    assert!(!verify(&body.replace("example.org", "example.com")));
}

fn ssh_keygen(desk: &Desk, args: &[&str], input: Option<&str>) -> bool {
    let mut command = Command::new("ssh-keygen");
    command.current_dir(desk.dir.path()).args(args).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(input) = input {
        command.stdin(std::fs::File::open(desk.path(input)).unwrap());
    }
    command.status().unwrap().success()
}

#[test]
fn ssh_keygen_verifies_a_signature_and_makes_one() {
    let desk = Desk::new();
    if Command::new("ssh-keygen").arg("-?").output().is_err() {
        eprintln!("skipped: there is no ssh-keygen");
        return;
    }
    // What the command signs, ssh-keygen verifies.
    desk.ok(&["sign", "a.pefc", "--key", "me.key", "--ssh", "--detached", "text"]);
    let public = std::fs::read_to_string(desk.path("me.key.pub")).unwrap();
    let allowed = public.lines().last().unwrap().strip_prefix("# ").unwrap();
    std::fs::write(desk.path("allowed"), format!("{allowed}\n")).unwrap();
    let verify = |namespace: &str, input: &str| {
        let signer = ["-Y", "verify", "-f", "allowed", "-I", "example.org/me"];
        let args = [&signer[..], &["-n", namespace, "-s", "text.sig"]].concat();
        ssh_keygen(&desk, &args, Some(input))
    };
    assert!(verify("pefc-checkpoint", "text"));
    assert!(!verify("file", "text"));
    assert!(!verify("pefc-checkpoint", "readme"));
    desk.ok(&["countersign", "a.pefc", "--import", "text.sig"]);
    desk.ok(&["verify", "a.pefc", "--trust", "allowed"]);

    // What ssh-keygen signs, the command verifies.
    assert!(ssh_keygen(&desk, &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", "id"], None));
    desk.ok(&["sign", "a.pefc", "--detached", "mine"]);
    assert!(ssh_keygen(
        &desk,
        &["-Y", "sign", "-q", "-n", "pefc-checkpoint", "-f", "id", "mine"],
        None
    ));
    let line = std::fs::read_to_string(desk.path("id.pub")).unwrap();
    std::fs::write(desk.path("friends"), format!("friend@example.org {line}")).unwrap();
    assert_eq!(
        desk.fault(&["verify", "a.pefc", "--trust", "friends"]),
        (4, "untrusted".to_owned())
    );
    let import = ["countersign", "a.pefc", "--import", "mine.sig", "--trust", "friends"];
    desk.ok(&import);
    let told = desk.ok(&["verify", "a.pefc", "--trust", "friends"]);
    assert!(told.contains("signed by friend@example.org"), "{told}");
    // For another namespace it is no signature of a checkpoint.
    std::fs::remove_file(desk.path("mine.sig")).unwrap();
    assert!(ssh_keygen(&desk, &["-Y", "sign", "-q", "-n", "file", "-f", "id", "mine"], None));
    assert_eq!(desk.fault(&import), (6, "signature".to_owned()));
}

#[test]
fn statements_are_about_contents_and_signed() {
    let desk = Desk::new();
    desk.ok(&["keygen", "example.org/you", "-o", "you.key"]);
    std::fs::write(desk.path("result.json"), r#"{"result": "PASSED"}"#).unwrap();
    let attest = |more: &[&str]| {
        let args =
            ["--predicate-type", "https://example.org/test/v1", "--predicate", "result.json"];
        desk.ok(&[&["attest", "a.pefc"], more, &args, &["--key", "me.key"]].concat());
    };
    attest(&["sat/1.lrat"]);
    attest(&["sat/1.cnf"]);
    let told = desk.ok(&["statements", "a.pefc", "--trust", "me.key.pub"]);
    assert_eq!(told.lines().count(), 2);
    assert!(told.lines().all(|line| line.ends_with("signed by example.org/me")), "{told}");
    let told = desk.ok(&["statements", "a.pefc", "sat/1.lrat", "--trust", "me.key.pub", "--json"]);
    let json: serde_json::Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!((&json["predicate"]["result"], &json["verified"]), (&"PASSED".into(), &true.into()));
    assert_eq!(desk.code(&["statements", "a.pefc", "--trust", "you.key.pub"]), 4);
    assert!(desk.ok(&["statements", "a.pefc"]).contains("not authenticated"));

    // They are part of the pack: signed with it, and all about one content is a complete list.
    assert_eq!(desk.code(&["verify", "a.pefc", "--trust", "me.key.pub"]), 4);
    desk.ok(&["sign", "a.pefc", "--key", "me.key"]);
    desk.ok(&["verify", "a.pefc", "--trust", "me.key.pub"]);
    let about = pefc::Hash::of(b"2 0 1 0\n");
    let under = format!("att/{about}/");
    desk.ok(&["prove", "a.pefc", "--all-under", &under, "--space", "system", "-o", "all"]);
    let told = desk.ok(&["check", "all", "--trust", "me.key.pub"]);
    assert!(told.contains("these 1, and no other"), "{told}");

    // About the pack itself: its checkpoint.
    attest(&[]);
    assert_eq!(desk.ok(&["statements", "a.pefc", "--trust", "me.key.pub"]).lines().count(), 3);

    // An envelope that was exported is what its signer signed, byte for byte.
    std::fs::create_dir(desk.path("out")).unwrap();
    desk.ok(&["statements", "a.pefc", "sat/1.cnf", "--export", "out"]);
    let file = std::fs::read_dir(desk.path("out")).unwrap().next().unwrap().unwrap().path();
    let envelope: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let payload = decode(envelope["payload"].as_str().unwrap());
    let statement: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    let digest = &statement["subject"][0]["digest"];
    assert_eq!(digest["blake3"], pefc::Hash::of(b"p cnf 1 1\n").to_string());
    assert_eq!(digest["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn signers_hand_over_and_a_revoked_key_signs_nothing_new() {
    let desk = Desk::new();
    desk.ok(&["keygen", "example.org/new", "-o", "new.key"]);
    let create = ["create", "b.pefc", "sat", "--origin", "example.org/b", "--signer", "me.key.pub"];
    desk.ok(&[&create[..], &["--sign", "me.key"]].concat());
    assert!(desk.ok(&["signers", "b.pefc"]).contains("1 of 1 must sign"));
    let size = |pack: &str| {
        let log = desk.ok(&["log", pack, "--json"]);
        let newest: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        newest["log_size"].as_u64().unwrap()
    };
    // The change, its seal included, is the last that the old key signs.
    let last_good = (size("b.pefc") + 2).to_string();
    let set = ["signers", "b.pefc", "--set", "new.key.pub", "--revoke", "me.key.pub"];
    desk.ok(&[&set[..], &["--last-good", &last_good, "--sign", "me.key"]].concat());
    assert_eq!(size("b.pefc").to_string(), last_good);
    let verify = ["verify", "b.pefc", "--trust", "me.key.pub"];
    desk.ok(&verify);

    std::fs::write(desk.path("sat/2.cnf"), "p cnf 2 1\n").unwrap();
    desk.ok(&["append", "b.pefc", "sat", "--sign", "me.key"]);
    let output = desk.run(&verify);
    assert_eq!(output.status.code(), Some(4), "the old key signed, and no longer counts");
    desk.ok(&["sign", "b.pefc", "--key", "new.key"]);
    let told = desk.ok(&verify);
    assert!(told.contains("generation 3 signed by example.org/new"), "{told}");
    desk.ok(&["verify", "b.pefc", "--trust", "new.key.pub"]);
}
