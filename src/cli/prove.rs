//! `prove` and `check`.

use super::args::{CheckArgs, ProofFormat, ProveArgs, Space};
use super::output::{JsonKey, Output, hex, printable};
use super::sign::{read_file, read_policy, write_file};
use super::{Outcome, Result, read};
use pefc::format::entry::{Entry, Put, SPACE_PATH};
use pefc::proof::{
    Checkpoint, Fault, Live, MapKey, Note, Policy, ProofError, ProofFile, Proven, Signer,
    TrustedCheckpoint,
};
use pefc::{Error, ErrorKind, Hash, Key, Pack};
use serde::Serialize;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(super) fn prove(args: &ProveArgs, output: &mut Output) -> Result {
    let pack = Pack::open(&args.pack)?;
    let prover = pack.prover(args.at)?;
    let key = || {
        let key = args.key.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Usage, "prove what?").hinting("name a key, or see --help")
        })?;
        Ok::<_, Error>(read::key(args.space, key))
    };
    let map_key = |key: &Key<'_>| MapKey::Key { space: key.space(), key: key.bytes().to_vec() };
    let bytes = if let Some(size) = args.since {
        prover.consistency(size)?.to_string().into_bytes()
    } else if let Some(prefix) = &args.all_under {
        prover.complete(exactly(args.space, prefix))?.to_string().into_bytes()
    } else if let Some(range) = &args.range {
        let (start, end) = range.split_once("..").ok_or_else(|| bad_range(range))?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad_range(range));
        let (start, end) = (number(start)?, number(end)?);
        let len = end.checked_sub(start).ok_or_else(|| bad_range(range))?;
        prover.slice(key()?, start, len)?.encode()
    } else if let Some(name) = args.content {
        match args.absent {
            true => prover.absent(&MapKey::Content(name))?.to_string().into_bytes(),
            false => prover.present(&MapKey::Content(name))?.to_string().into_bytes(),
        }
    } else if args.absent {
        prover.absent(&map_key(&key()?))?.to_string().into_bytes()
    } else if args.live {
        prover.present(&map_key(&key()?))?.to_string().into_bytes()
    } else if args.format == ProofFormat::Cose {
        prover.receipt(key()?)?.encode()
    } else {
        prover.logged(key()?)?.to_string().into_bytes()
    };
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => {
            write_file(path, &bytes, false)?;
            output.note(&format!("{}: {} bytes", path.display(), bytes.len()))?;
        }
        None => output.bytes(&bytes)?,
    }
    Ok(Outcome::Done)
}

/// A prefix as it was typed, every slash of it.
fn exactly(space: Space, prefix: &OsStr) -> Key<'_> {
    Key::new(read::key(space, prefix).space(), prefix.as_bytes())
}

fn bad_range(range: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("\"{range}\" is not a range"))
        .hinting("write START..END, in bytes")
}

/// What a proof says, for `--json`.
#[derive(Serialize, Default)]
struct JsonCheck {
    proven: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<JsonKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<JsonKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_size: Option<u64>,
    log_root: String,
    signers: Vec<String>,
    file: Option<&'static str>,
}

/// What was proven, ready to be told.
struct Told {
    json: JsonCheck,
    lines: Vec<String>,
    /// Content that a file on the command line must have.
    content: Option<(Hash, u64, Option<[u8; 32]>)>,
    /// Bytes that a file on the command line must have: a range.
    bytes: Option<Vec<u8>>,
    outcome: Outcome,
}

pub(super) fn check(args: &CheckArgs, output: &mut Output) -> Result {
    let policy = read_policy(&args.trust, args.origin.as_deref())?;
    let told = told(args, &policy).map_err(|failure| match failure {
        super::Failure::Pefc(error) => error.at(&args.proof).into(),
        other => other,
    })?;
    let mut json = told.json;
    let mut lines = told.lines;
    if let Some(path) = &args.file {
        let bytes = read_file(path)?;
        let is_it = match (&told.content, &told.bytes) {
            (_, Some(range)) => bytes == *range,
            (Some((name, len, sha256)), None) => {
                let same = bytes.len() as u64 == *len && Hash::of(&bytes) == *name;
                same && sha256.is_none_or(|sha256| pefc::tree::sha256(&bytes) == sha256)
            }
            (None, None) => {
                let what = "this proof is about no content that a file could be held to";
                return Err(Error::new(ErrorKind::Usage, what).at(path).into());
            }
        };
        if !is_it {
            let error = Error::from(ProofError::new(Fault::Content)).at(path);
            return Err(error
                .hinting("the proof is good; the file was changed, or is another one")
                .into());
        }
        json.file = Some("matches");
        lines.push(format!("{}: it is this content", path.display()));
    }
    if output.json() {
        output.object(&json)?;
    } else {
        for line in lines {
            output.line(&line)?;
        }
    }
    Ok(told.outcome)
}

fn told(args: &CheckArgs, policy: &Policy) -> Result<Told> {
    let proof = ProofFile::parse(&read_file(&args.proof)?).map_err(Error::from)?;
    Ok(match proof {
        ProofFile::Logged(proof) => {
            let Proven { checkpoint, entry, index } = proof.verify(policy).map_err(Error::from)?;
            let mut told = entry_told("logged", &entry, index);
            told.signed_by(&checkpoint);
            told
        }
        ProofFile::Slice(proof) => {
            let (proven, bytes) = proof.verify(policy).map_err(Error::from)?;
            let mut told = entry_told("range", &proven.entry, proven.index);
            let (start, len) = proof.range();
            told.lines.push(format!("range: bytes {start} to {} of it", start + len));
            told.bytes = Some(bytes);
            told.signed_by(&proven.checkpoint);
            told
        }
        ProofFile::Present(proof) => {
            let proven = proof.verify(policy).map_err(Error::from)?;
            let mut told = match proven.what {
                Live::Put(put) => put_told("live", &put),
                Live::Content(content) => {
                    let mut told = Told::new("live");
                    told.content = Some((content.name, content.len, None));
                    told.lines.push(format!("live: content {}", content.name));
                    told.json.b3 = Some(content.name.to_string());
                    told.json.size = Some(content.len);
                    told
                }
            };
            told.signed_by(&proven.checkpoint);
            told
        }
        ProofFile::Absent(proof) => {
            let proven = proof.verify(policy).map_err(Error::from)?;
            let mut told = Told::new("absent");
            told.outcome = Outcome::Absent;
            match proven.what {
                MapKey::Content(name) => {
                    told.lines.push(format!("absent: content {name}"));
                    told.json.b3 = Some(name.to_string());
                }
                MapKey::Key { space, key } => {
                    told.lines.push(format!("absent: {}", space_and_key(space, &key)));
                    told.json.key = Some(JsonKey::new(&key));
                }
            }
            told.signed_by(&proven.checkpoint);
            told
        }
        ProofFile::Complete(proof) => {
            let proven = proof.verify(policy).map_err(Error::from)?;
            let mut told = Told::new("complete");
            let (prefix, count) = (space_and_key(proof.space, &proof.prefix), proven.what.len());
            for put in &proven.what {
                let name = put.content.map_or_else(|| "-".to_owned(), |c| c.name.to_string());
                told.lines.push(format!("{name}  {}", printable(&put.key)));
            }
            told.lines
                .push(format!("complete: these {count}, and no other, begin with \"{prefix}\""));
            told.json.keys = proven.what.iter().map(|put| JsonKey::new(&put.key)).collect();
            told.signed_by(&proven.checkpoint);
            told
        }
        ProofFile::Consistency(proof) => {
            let Some(known) = &args.known else {
                let what = "what it grew from must be known";
                let hint = "name the old checkpoint with --known";
                return Err(Error::new(ErrorKind::Usage, what).hinting(hint).into());
            };
            // The old checkpoint is what its holder trusts already, or signed by whom the policy trusts.
            let old = read_file(known)?;
            let old = match Note::parse(&old) {
                Ok(note) => policy.verify(&note).map_err(Error::from)?.checkpoint,
                Err(_) => Checkpoint::parse(&String::from_utf8_lossy(&old)).map_err(Error::from)?,
            };
            let new = proof.verify(&old.head, policy).map_err(Error::from)?;
            if new.checkpoint.origin != old.origin {
                let error = ProofError::new(Fault::Origin).about(&old.origin);
                return Err(Error::from(error).into());
            }
            let mut told = Told::new("grew");
            let sizes = (old.head.size, new.checkpoint.head.size);
            told.lines
                .push(format!("grew: from {} entries to {}, nothing rewritten", sizes.0, sizes.1));
            told.signed_by(&new);
            told
        }
        ProofFile::Cose(proof) => {
            let proven = proof.verify(policy).map_err(Error::from)?;
            let mut told = Told::new("logged");
            if let Entry::Put(put) = &proven.entry {
                told = put_told("logged", put);
            }
            told.signers(&[proven.signer], &proven.root);
            told
        }
    })
}

fn space_and_key(space: u8, key: &[u8]) -> String {
    match space {
        SPACE_PATH => printable(key),
        _ => format!("{} (space {space})", printable(key)),
    }
}

fn put_told(proven: &'static str, put: &Put<'_>) -> Told {
    let mut told = Told::new(proven);
    let verb = if proven == "live" { "has" } else { "had" };
    let content = put.content.map_or_else(
        || put.attributes.kind.name().to_owned(),
        |content| format!("content {} of {} bytes", content.name, content.len),
    );
    let key = space_and_key(put.space, &put.key);
    told.lines.push(format!("{proven}: {key} {verb} {content}"));
    told.content = put.content.map(|content| (content.name, content.len, put.sha256));
    told.json.key = Some(JsonKey::new(&put.key));
    told.json.b3 = put.content.map(|content| content.name.to_string());
    told.json.size = put.content.map(|content| content.len);
    told
}

fn entry_told(proven: &'static str, entry: &Entry<'_>, index: u64) -> Told {
    let mut told = match entry {
        Entry::Put(put) => put_told(proven, put),
        other => {
            let mut told = Told::new(proven);
            let what = match other {
                Entry::Genesis(_) => "the genesis",
                Entry::Delete(_) => "a deletion",
                Entry::Keys(_) => "a change of signers",
                _ => "a seal",
            };
            told.lines.push(format!("{proven}: {what}"));
            told
        }
    };
    told.lines.push(format!("entry {index} of the log; whether it is live there is not proven"));
    told
}

impl Told {
    fn new(proven: &'static str) -> Self {
        Self {
            json: JsonCheck { proven, ..JsonCheck::default() },
            lines: Vec::new(),
            content: None,
            bytes: None,
            outcome: Outcome::Done,
        }
    }

    fn signed_by(&mut self, trusted: &TrustedCheckpoint) {
        let checkpoint = &trusted.checkpoint;
        let (origin, size) = (checkpoint.origin.clone(), checkpoint.head.size);
        self.lines.push(format!("in log {origin} at size {size}"));
        (self.json.origin, self.json.log_size) = (Some(origin), Some(size));
        self.signers(&trusted.signers, &checkpoint.head.root);
    }

    fn signers(&mut self, signers: &[Signer], root: &[u8; 32]) {
        for signer in signers {
            let time = signer.time_s.map_or_else(String::new, |time| format!(", seen at {time}"));
            self.lines.push(format!("signed by {}{time}", signer.name));
        }
        self.json.signers = signers.iter().map(|signer| signer.name.clone()).collect();
        self.json.log_root = hex(root);
    }
}
