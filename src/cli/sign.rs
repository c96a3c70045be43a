//! `keygen`, `sign` and `countersign`.

use super::args::{CountersignArgs, KeygenArgs, SignArgs, SignersArgs};
use super::output::{Output, hex};
use super::{Outcome, Result};
use pefc::disk::{Machine, read_small, write_new};
use pefc::format::signature::{Signature, SignatureFormat};
use pefc::proof::{
    Checkpoint, Note, NoteSignature, Policy, ProofError, SignatureType, SshSignature, VerifierKey,
    allowed_signer,
};
use pefc::sign::SigningKey;
use pefc::{Error, ErrorKind, Pack, SignOptions, Signers, VerifyOptions, WriteOptions, Writer};
use serde::Serialize;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keys, trust files and proofs are small; lists and slices are the longest.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads a file that is named on the command line.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let read = read_small(&*Machine::real().vfs, path, FILE_BYTES_MAX);
    Ok(read.map_err(|source| Error::io("reading", path, source))?)
}

/// Writes a new file; an existing one is not replaced.
pub(super) fn write_file(path: &Path, bytes: &[u8], secret: bool) -> Result<()> {
    let written = write_new(&*Machine::real().vfs, path, bytes, secret);
    Ok(written.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, "the file exists already")
                .at(path)
                .hinting("choose another name")
        }
        _ => Error::io("writing", path, source),
    })?)
}

pub(super) fn read_key(path: &Path) -> Result<SigningKey> {
    let key = SigningKey::parse(&read_file(path)?);
    Ok(key.map_err(|error| {
        error.at(path).hinting("name the secret key that `pefc keygen` wrote, not its .pub")
    })?)
}

pub(super) fn read_policy(path: &Path, origin: Option<&str>) -> Result<Policy> {
    let policy = Policy::parse(&read_file(path)?);
    let policy = policy.map_err(|error| {
        let hint = "a trust file has a verifier key a line, or is a C2SP policy";
        Error::from(error).at(path).hinting(hint)
    })?;
    Ok(match origin {
        Some(origin) => policy.only(origin),
        None => policy,
    })
}

/// Verifier keys, or names of files with one.
pub(super) fn verifier_keys(texts: &[String]) -> Result<Vec<VerifierKey>> {
    let keys = texts.iter().map(|text| {
        let parsed = text.parse::<VerifierKey>();
        // What is no key may be the name of a file with one; if it is neither, it is a bad key.
        let (Err(error), path) = (&parsed, Path::new(text)) else {
            return Ok(parsed.map_err(Error::from)?);
        };
        let Ok(bytes) = read_file(path) else {
            return Err(Error::from(error.clone()).into());
        };
        let text = String::from_utf8_lossy(&bytes);
        let key = text.lines().next().unwrap_or_default().parse();
        Ok(key.map_err(|error: ProofError| Error::from(error).at(path))?)
    });
    keys.collect()
}

#[derive(Serialize)]
struct JsonSigners {
    threshold: u64,
    vkeys: Vec<String>,
    sequence: u64,
}

pub(super) fn signers(args: &SignersArgs, output: &mut Output) -> Result {
    if !args.set.is_empty() {
        let revoked = verifier_keys(&args.revoke)?;
        let last_good = args.last_good.unwrap_or(0);
        let signers = Signers {
            threshold: args.threshold,
            keys: verifier_keys(&args.set)?,
            revoked: revoked.into_iter().map(|key| (key, last_good)).collect(),
        };
        let mut options = WriteOptions::default();
        if let Some(key) = &args.sign {
            options.signer = Some(Arc::new(read_key(key)?));
        }
        let mut writer = Writer::append(&args.pack, options)?;
        writer.set_signers(&signers)?;
        writer.finish()?;
    }
    let pack = Pack::open(&args.pack)?;
    let genesis = pack.genesis()?;
    let found = match (pack.signer_changes()?.pop(), genesis) {
        (Some((_, keys)), _) => (keys.threshold, keys.vkeys, keys.sequence),
        (None, Some(genesis)) => (genesis.threshold, genesis.vkeys, 0),
        (None, None) => (0, Vec::new(), 0),
    };
    let (threshold, vkeys, sequence) = found;
    let vkeys: Vec<String> = vkeys.into_iter().map(Cow::into_owned).collect();
    if output.json() {
        output.object(&JsonSigners { threshold, vkeys, sequence })?;
    } else if vkeys.is_empty() {
        output.note("the log names no signers")?;
    } else {
        for vkey in &vkeys {
            output.line(vkey)?;
        }
        output.note(&format!("{threshold} of {} must sign", vkeys.len()))?;
    }
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct JsonKeygen<'a> {
    key: String,
    vkey: String,
    file: &'a Path,
}

pub(super) fn keygen(args: &KeygenArgs, output: &mut Output) -> Result {
    let kind = match args.cosigner {
        true => SignatureType::Cosignature,
        false => SignatureType::Ed25519,
    };
    let key = SigningKey::generate(&args.name, kind, &*Machine::real().random)?;
    let vkey = key.verifier().to_string();
    let mut public = args.output.clone().into_os_string();
    public.push(".pub");
    let public = PathBuf::from(public);
    // The public one first: a secret key that nobody knows the public one of is of no use.
    let mut text = format!("{vkey}\n");
    if kind == SignatureType::Ed25519 {
        let line = allowed_signer(key.verifier());
        text += &format!(
            "# the same key for ssh-keygen -Y verify, in an allowed_signers file:\n# {line}\n"
        );
    }
    write_file(&public, text.as_bytes(), false)?;
    if let Err(error) = write_file(&args.output, key.to_text().as_bytes(), true) {
        let _ = Machine::real().vfs.remove_file(&public); // it was made just now
        return Err(error);
    }
    if output.json() {
        output.object(&JsonKeygen { key: args.name.clone(), vkey, file: &args.output })?;
    } else {
        output.line(&vkey)?;
        let (secret, public) = (args.output.display(), public.display());
        output.note(&format!("secret key in {secret}: keep it to yourself"))?;
        output.note(&format!("verifier key in {public}: give it to those who should trust you"))?;
    }
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct JsonSign<'a> {
    signer: &'a str,
    origin: &'a str,
    log_size: u64,
    log_root: String,
    stored: bool,
}

pub(super) fn sign(args: &SignArgs, output: &mut Output) -> Result {
    let Some(key_path) = &args.key else {
        return text_to_sign(args, output);
    };
    let key = read_key(key_path)?;
    if key.verifier().kind() != SignatureType::Ed25519 {
        let what = "a cosigner's key vouches for what others signed";
        let error = Error::new(ErrorKind::Usage, what).at(key_path);
        return Err(error
            .hinting("use `pefc countersign`, or make a key without --cosigner")
            .into());
    }
    seal_first(&args.pack)?;
    let pack = Pack::open(&args.pack)?;
    let options =
        SignOptions { origin: args.origin.clone(), cose: args.cose, ssh: args.ssh, time_s: 0 };
    let (checkpoint, signatures) = pack.sign(&key, &options)?;
    drop(pack);
    store(&args.pack, &checkpoint, &signatures, args.detached.as_deref())?;
    told(&key, &checkpoint, args.detached.as_deref(), &args.pack, output)
}

/// Writes the text of the checkpoint, for whoever signs it with other means.
fn text_to_sign(args: &SignArgs, output: &mut Output) -> Result {
    seal_first(&args.pack)?;
    let checkpoint = Pack::open(&args.pack)?.checkpoint(args.origin.as_deref())?;
    if let Some(path) = &args.detached {
        write_file(path, checkpoint.to_string().as_bytes(), false)?;
        output.note(&format!("{}: not signed", path.display()))?;
    }
    Ok(Outcome::Done)
}

/// Seals what a writer left unsealed, since only seals are signed.
fn seal_first(path: &Path) -> Result<()> {
    let pack = Pack::open(path)?;
    let sealed = pack.newest_generation()?.map(|generation| generation.log_size);
    if sealed != Some(pack.commit().log_size) || pack.commit().footer.is_none() {
        Writer::append(path, WriteOptions::default())?.finish()?;
    }
    Ok(())
}

fn store(
    path: &Path,
    checkpoint: &Checkpoint,
    signatures: &[Signature<'_>],
    detached: Option<&Path>,
) -> Result<()> {
    let Some(detached) = detached else {
        let mut writer = Writer::append(path, WriteOptions::default())?;
        writer.add_signatures(signatures)?;
        writer.finish()?;
        return Ok(());
    };
    if let Some(ssh) = signatures.iter().find(|s| s.format == SignatureFormat::Ssh) {
        write_file(detached, checkpoint.to_string().as_bytes(), false)?;
        let mut path = detached.to_owned().into_os_string();
        path.push(".sig");
        return write_file(Path::new(&path), &ssh.value, false);
    }
    let lines = signatures.iter().filter(|signature| signature.format == SignatureFormat::Note);
    let lines = lines.filter_map(|signature| str::from_utf8(&signature.value).ok());
    let lines = lines.map(NoteSignature::parse).collect::<pefc::proof::Result<_>>();
    let note = lines.and_then(|lines| Note::new(&checkpoint.to_string(), lines));
    write_file(detached, note.map_err(Error::from)?.to_string().as_bytes(), false)
}

fn told(
    key: &SigningKey,
    checkpoint: &Checkpoint,
    detached: Option<&Path>,
    pack: &Path,
    output: &mut Output,
) -> Result {
    let signer = key.verifier().name();
    if output.json() {
        output.object(&JsonSign {
            signer,
            origin: &checkpoint.origin,
            log_size: checkpoint.head.size,
            log_root: hex(&checkpoint.head.root),
            stored: detached.is_none(),
        })?;
    } else {
        let (origin, size) = (&checkpoint.origin, checkpoint.head.size);
        let place = detached.unwrap_or(pack).display();
        output.note(&format!("{place}: {signer} signed {origin} at log size {size}"))?;
    }
    Ok(Outcome::Done)
}

pub(super) fn countersign(args: &CountersignArgs, output: &mut Output) -> Result {
    if let Some(note) = &args.import {
        return import(args, note, output);
    }
    let Some(key) = &args.key else {
        let error = Error::new(ErrorKind::Usage, "neither a key nor a note to import");
        return Err(error.hinting("name one with --key or --import").into());
    };
    let key = read_key(key)?;
    let pack = Pack::open(&args.pack)?;
    // Who vouches for a pack has looked at it: every name and root is rebuilt first.
    let report = pack.verify(&VerifyOptions::default())?;
    if !report.is_intact() {
        let error = Error::new(ErrorKind::Corrupt, "it is damaged, and not countersigned");
        return Err(error.at(&args.pack).into());
    }
    let origin = match &args.trust {
        Some(trust) => {
            Some(pack.authenticate(&read_policy(trust, None)?)?.trusted.checkpoint.origin)
        }
        None => args.origin.clone(),
    };
    let time_s = u64::try_from(Machine::real().clock.now_s()).unwrap_or(0);
    let (checkpoint, signatures) =
        pack.sign(&key, &SignOptions { origin, time_s, ..SignOptions::default() })?;
    drop(pack);
    store(&args.pack, &checkpoint, &signatures, args.detached.as_deref())?;
    told(&key, &checkpoint, args.detached.as_deref(), &args.pack, output)
}

/// Adds signatures that were made elsewhere: those of a note, or an SSH signature of the newest
/// checkpoint.
fn import(args: &CountersignArgs, file: &Path, output: &mut Output) -> Result {
    let at = |error: pefc::proof::ProofError| Error::from(error).at(file);
    let bytes = read_file(file)?;
    let pack = Pack::open(&args.pack)?;
    let (note, ssh) = match bytes.starts_with(b"-----BEGIN SSH SIGNATURE-----") {
        true => {
            let text = pack.checkpoint(args.origin.as_deref())?.to_string();
            (Note::new(&text, Vec::new()), vec![SshSignature::parse(&bytes).map_err(at)?])
        }
        false => (Note::parse(&bytes), Vec::new()),
    };
    let note = note.map_err(at)?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(at)?;
    if let Some(trust) = &args.trust {
        read_policy(trust, None)?.verify_with(&note, &ssh).map_err(at)?;
    }
    pack.check_known(&checkpoint.head)?;
    let own = pack.origin()?.unwrap_or_default();
    let known = pack.signatures()?;
    drop(pack);
    let origin = if checkpoint.origin == own { "" } else { &checkpoint.origin };
    let record = |format, text: String| Signature {
        log_size: checkpoint.head.size,
        origin: Cow::Borrowed(origin),
        format,
        value: Cow::Owned(text.into_bytes()),
    };
    let lines =
        note.signatures().iter().map(|line| record(SignatureFormat::Note, line.to_string()));
    let ssh = ssh.iter().map(|signature| record(SignatureFormat::Ssh, signature.to_string()));
    let all: Vec<Signature<'_>> = lines.chain(ssh).collect();
    let new: Vec<Signature<'_>> = all.iter().filter(|one| !known.contains(one)).cloned().collect();
    if !new.is_empty() {
        store(&args.pack, &checkpoint, &new, None)?;
    }
    output.note(&format!("{}: {} new of {}", args.pack.display(), new.len(), all.len()))?;
    Ok(Outcome::Done)
}
