//! `attest` and `statements`.

use super::args::{AttestArgs, StatementsArgs};
use super::output::{Output, printable};
use super::sign::{read_file, read_key, read_policy, write_file};
use super::{Outcome, Result};
use pefc::proof::{Envelope, SignatureType, Statement, Subject};
use pefc::{Error, ErrorKind, Hash, Key, Pack, WriteOptions, Writer};
use serde::Serialize;
use std::os::unix::ffi::OsStrExt as _;

/// Statements lie in the system space under this, the name of what they are about, and their own.
const PREFIX: &str = "att/";

/// What a statement is about: the content of a key, or the checkpoint of the newest generation.
fn subject(pack: &Pack, key: Option<&std::ffi::OsString>) -> Result<(Subject, Hash)> {
    let (name, content) = match key {
        Some(key) => {
            let content = pack.get(Key::path(key.as_bytes().to_vec()))?;
            let name = printable(key.as_bytes());
            let content = content.ok_or_else(|| {
                let what = format!("{name} has no content in the pack");
                Error::new(ErrorKind::NotFound, what)
            })?;
            (name, content)
        }
        None => {
            let checkpoint = pack.checkpoint(None)?;
            (checkpoint.origin.clone(), checkpoint.to_string().into_bytes())
        }
    };
    Ok((Subject::of(&name, &content), Hash::of(&content)))
}

pub(super) fn attest(args: &AttestArgs, output: &mut Output) -> Result {
    let key = read_key(&args.key)?;
    if key.verifier().kind() != SignatureType::Ed25519 {
        let error = Error::new(ErrorKind::Usage, "a cosigner's key signs no statements");
        return Err(error.at(&args.key).into());
    }
    let predicate = serde_json::from_slice(&read_file(&args.predicate)?).map_err(|error| {
        Error::new(ErrorKind::Usage, "the predicate is not JSON").at(&args.predicate).because(error)
    })?;
    let pack = Pack::open(&args.pack)?;
    let (subject, about) = subject(&pack, args.content_key.as_ref())?;
    drop(pack);
    let statement = Statement::new(subject, &args.predicate_type, predicate);
    let envelope = key.sign_statement(&statement).encode();
    let place = format!("{PREFIX}{about}/{}", Hash::of(&envelope));
    let mut writer = Writer::append(&args.pack, WriteOptions::default())?;
    writer.put(Key::system(place.clone().into_bytes()), &envelope)?;
    writer.finish()?;
    output.note(&format!("{}: {place}", args.pack.display()))?;
    Ok(Outcome::Done)
}

/// Whether a statement is about the content of this name: by all its digests if the content is in the
/// pack, by its name otherwise (a checkpoint is not).
fn is_about(pack: &Pack, statement: &Statement, about: &Hash) -> Result<bool> {
    let content = pack.object(about)?;
    Ok(statement.subject.iter().any(|subject| match &content {
        Some(content) => subject.is(content),
        None => subject.digest.get("blake3") == Some(&about.to_string()),
    }))
}

#[derive(Serialize)]
struct JsonStatement {
    key: String,
    about: String,
    predicate_type: String,
    subjects: Vec<String>,
    signers: Vec<String>,
    verified: bool,
    predicate: serde_json::Value,
}

pub(super) fn statements(args: &StatementsArgs, output: &mut Output) -> Result {
    let policy = args.trust.as_ref().map(|trust| read_policy(trust, None)).transpose()?;
    let pack = Pack::open(&args.pack)?;
    let wanted = match &args.content_key {
        Some(key) => Some(subject(&pack, Some(key))?.1),
        None => None,
    };
    let prefix = wanted.map_or_else(|| PREFIX.to_owned(), |about| format!("{PREFIX}{about}/"));
    let mut all_verified = true;
    for put in pack.entries_under(Key::system(prefix.into_bytes())) {
        let place = put?.key.into_owned();
        let text = String::from_utf8_lossy(&place).into_owned();
        let bytes = pack.get(Key::system(place))?.unwrap_or_default();
        let at =
            |error: pefc::proof::ProofError| Error::from(error.about(text.clone())).at(&args.pack);
        let envelope = Envelope::parse(&bytes).map_err(at)?;
        let checked = policy.as_ref().map(|policy| envelope.verify(policy));
        let (signers, statement) = match checked {
            Some(Ok((signers, statement))) => (signers, statement),
            Some(Err(_)) | None => {
                all_verified = false;
                (Vec::new(), envelope.unverified_statement().map_err(at)?)
            }
        };
        // A statement that is filed under what it is not about would be found by the wrong question.
        let filed = text.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next());
        let about = filed.and_then(|name| name.parse::<Hash>().ok());
        let is_about = match &about {
            Some(about) => is_about(&pack, &statement, about)?,
            None => false,
        };
        if !is_about {
            all_verified = false;
            output.warn(&format!("{text}: the statement is about something else; passed over"));
            continue;
        }
        if let Some(directory) = &args.export {
            let name = format!("{}.dsse.json", Hash::of(&bytes));
            write_file(&directory.join(name), &bytes, false)?;
        }
        let names: Vec<String> = signers.iter().map(|signer| signer.name.clone()).collect();
        let subjects: Vec<String> = statement.subject.iter().map(|s| s.name.clone()).collect();
        if output.json() {
            output.object(&JsonStatement {
                key: text,
                about: about.map_or_else(String::new, |about| about.to_string()),
                predicate_type: statement.predicate_type,
                subjects,
                verified: !names.is_empty(),
                signers: names,
                predicate: statement.predicate,
            })?;
        } else {
            let by = match names.is_empty() {
                true => "not authenticated".to_owned(),
                false => format!("signed by {}", names.join(", ")),
            };
            let (kind, subjects) = (statement.predicate_type, subjects.join(", "));
            let line = format!("{kind}  {subjects}  {by}");
            output.line(&printable(line.as_bytes()))?;
        }
    }
    Ok(if all_verified || policy.is_none() { Outcome::Done } else { Outcome::NotAuthenticated })
}
