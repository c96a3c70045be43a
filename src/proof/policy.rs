//! Whom to trust: verifier keys and how many of them must sign, as a list of keys or a C2SP
//! tlog-policy.

use super::checkpoint::Checkpoint;
use super::error::{Fault, ProofError, Result};
use super::note::Note;
use super::ssh::{SshSignature, parse_allowed};
use super::text::{FILE_BYTES_MAX, number};
use super::tlog::{Proven, TlogProof};
use super::vkey::{SignatureType, VerifierKey};
use crate::format::entry::{Entry, Keys};
use std::collections::{BTreeMap, HashSet};

/// A policy has at most this many keys and groups.
const KEYS_MAX: usize = 256;

/// Groups nest at most this deep.
const DEPTH_MAX: usize = 32;

/// Which cosignatures are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Quorum {
    /// This witness, by its position.
    Witness(usize),
    /// So many of these.
    AtLeast(usize, Vec<Quorum>),
}

/// Whom to trust. A policy without keys cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The only log that is accepted.
    origin: Option<String>,
    /// Keys of which `threshold` must have signed.
    signers: Vec<VerifierKey>,
    /// Keys that sign as SSH does; they count like signers.
    ssh: Vec<VerifierKey>,
    threshold: usize,
    /// A key signs only for the log of its own name (C2SP tlog-policy).
    name_is_origin: bool,
    witnesses: Vec<VerifierKey>,
    quorum: Option<Quorum>,
    /// Keys that were revoked by the log itself, each with the last size at which they are good.
    revoked: Vec<(VerifierKey, u64)>,
    /// Number of the newest set of signers that was followed.
    sequence: u64,
}

/// Who signed a checkpoint that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Name of the key.
    pub name: String,
    /// For a cosignature, when it was made, in seconds since 1970, as the cosigner claims.
    pub time_s: Option<u64>,
}

/// A checkpoint that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Trusted keys that signed it.
    pub signers: Vec<Signer>,
}

impl Policy {
    /// Trust in `threshold` of `keys`, for any log.
    ///
    /// # Errors
    /// [`Fault::Policy`] for no keys, a threshold that is 0 or that they cannot reach, one public key
    /// twice, or two keys with the same name and id; [`Fault::Limit`] for too many.
    pub fn new(keys: Vec<VerifierKey>, threshold: usize) -> Result<Self> {
        Self::of_keys(keys, Vec::new(), threshold)
    }

    fn of_keys(signers: Vec<VerifierKey>, ssh: Vec<VerifierKey>, threshold: usize) -> Result<Self> {
        check_keys(signers.iter().chain(&ssh))?;
        let count = signers.len() + ssh.len();
        if threshold == 0 || threshold > count {
            let detail = format!("threshold {threshold} of {count} keys");
            return Err(ProofError::new(Fault::Policy).about(detail));
        }
        Ok(Self {
            origin: None,
            signers,
            ssh,
            threshold,
            name_is_origin: false,
            witnesses: Vec::new(),
            quorum: None,
            revoked: Vec::new(),
            sequence: 0,
        })
    }

    /// Parses a trust file: a C2SP tlog-policy if it has a line `quorum`; else lines with a verifier
    /// key each or a line of an SSH `allowed_signers` file with an Ed25519 key, `threshold N` and
    /// `origin NAME` (each at most once). Empty lines and lines that begin
    /// with `#` are comments.
    ///
    /// # Errors
    /// [`Fault::Encoding`], [`Fault::Syntax`], [`Fault::Limit`], those of a verifier key, and as
    /// [`Policy::new`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Fault::Limit.into());
        }
        let text = str::from_utf8(bytes).map_err(|_| ProofError::new(Fault::Encoding))?;
        let is_bad = |c: char| (c < ' ' && c != '\t' && c != '\n') || c == '\x7f';
        if text.contains(is_bad) {
            return Err(Fault::Encoding.into());
        }
        let mut lines = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            let words: Vec<&str> =
                line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if words.first().is_some_and(|word| !word.starts_with('#')) {
                lines.push((index + 1, words));
            }
        }
        match lines.iter().any(|(_, words)| words[0] == "quorum") {
            true => Self::c2sp(&lines),
            false => Self::list(&lines),
        }
    }

    fn list(lines: &[(usize, Vec<&str>)]) -> Result<Self> {
        let (mut keys, mut ssh, mut threshold, mut origin) = (Vec::new(), Vec::new(), None, None);
        for (line, words) in lines {
            let syntax = ProofError::new(Fault::Syntax).at_line(*line);
            match words.as_slice() {
                ["threshold", value] if threshold.is_none() => {
                    let value = number(value).map_err(|error| error.at_line(*line))?;
                    threshold = Some(usize::try_from(value).map_err(|_| syntax)?);
                }
                ["origin", name] if origin.is_none() => origin = Some((*name).to_owned()),
                [key] => keys.push(key.parse().map_err(|e: ProofError| e.at_line(*line))?),
                words => {
                    let key = parse_allowed(words).map_err(|error| error.at_line(*line))?;
                    ssh.push(key.ok_or(syntax)?);
                }
            }
        }
        Ok(Self { origin, ..Self::of_keys(keys, ssh, threshold.unwrap_or(1))? })
    }

    fn c2sp(lines: &[(usize, Vec<&str>)]) -> Result<Self> {
        let (mut logs, mut witnesses) = (Vec::new(), Vec::new());
        let mut named: BTreeMap<&str, Quorum> = BTreeMap::new();
        let mut members = HashSet::new();
        let mut quorum = None;
        for (line, words) in lines {
            let fault = |fault| ProofError::new(fault).at_line(*line);
            let key = |text: &str, kind: Option<SignatureType>| -> Result<VerifierKey> {
                let key: VerifierKey = text.parse().map_err(|e: ProofError| e.at_line(*line))?;
                if kind.is_some_and(|kind| kind != key.kind()) {
                    return Err(fault(Fault::KeyType));
                }
                Ok(key)
            };
            match words.as_slice() {
                ["log", vkey] | ["log", vkey, _] => logs.push(key(vkey, None)?),
                ["witness", name, vkey] | ["witness", name, vkey, _] => {
                    let witness = Quorum::Witness(witnesses.len());
                    witnesses.push(key(vkey, Some(SignatureType::Cosignature))?);
                    if *name == "none" || named.insert(name, witness).is_some() {
                        return Err(fault(Fault::Policy));
                    }
                }
                ["group", name, count, of @ ..] => {
                    let once = of.iter().all(|member| members.insert(*member));
                    let found: Option<Vec<Quorum>> =
                        of.iter().map(|member| named.get(member).cloned()).collect();
                    let found = found.filter(|found| once && !found.is_empty());
                    let found = found.ok_or(fault(Fault::Policy))?;
                    let least = match *count {
                        "any" => 1,
                        "all" => found.len(),
                        count => usize::try_from(number(count).map_err(|e| e.at_line(*line))?)
                            .map_err(|_| fault(Fault::Policy))?,
                    };
                    let group = Quorum::AtLeast(least, found);
                    let count_ok = group.depth() <= DEPTH_MAX && group.can_be_reached();
                    let is_new = *name != "none" && named.insert(name, group).is_none();
                    if !count_ok || !is_new || named.len() > 2 * KEYS_MAX {
                        return Err(fault(Fault::Policy));
                    }
                }
                ["quorum", _] if quorum.is_some() => return Err(fault(Fault::Policy)),
                ["quorum", "none"] => quorum = Some(None),
                ["quorum", name] => {
                    let found = named.get(name).cloned().ok_or(fault(Fault::Policy))?;
                    quorum = Some(Some(found));
                }
                _ => return Err(fault(Fault::Syntax)),
            }
        }
        check_keys(logs.iter())?;
        if !witnesses.is_empty() {
            check_keys(witnesses.iter())?;
        }
        let quorum = quorum.ok_or(Fault::Policy)?;
        Ok(Self { name_is_origin: true, witnesses, quorum, ..Self::new(logs, 1)? })
    }

    /// The same, for the log of this name only.
    #[must_use]
    pub fn only(mut self, origin: &str) -> Self {
        self.origin = Some(origin.to_owned());
        self
    }

    /// Number of the newest set of signers that was followed; 0 if none was.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The keys of which so many must sign.
    #[must_use]
    pub fn signers(&self) -> (usize, &[VerifierKey]) {
        (self.threshold, &self.signers)
    }

    /// Accepts a note as the checkpoint of a log, or says why not. Signatures of keys that are not in
    /// the policy are passed over.
    ///
    /// # Errors
    /// In this order: [`Fault::Checkpoint`], [`Fault::Origin`]; [`Fault::Signature`] if a trusted key's
    /// signature does not verify, even if others do; [`Fault::Revoked`] if only revoked keys are left;
    /// [`Fault::Untrusted`] if no trusted key signed, [`Fault::Threshold`] if too few did.
    pub fn verify(&self, note: &Note) -> Result<TrustedCheckpoint> {
        self.verify_with(note, &[])
    }

    /// The same, with SSH signatures of the note's text beside those in the note, which may have none.
    ///
    /// # Errors
    /// As [`Policy::verify`].
    pub fn verify_with(&self, note: &Note, ssh: &[SshSignature]) -> Result<TrustedCheckpoint> {
        let checkpoint = Checkpoint::parse(note.text())?;
        let origin = checkpoint.origin.as_str();
        if self.origin.as_ref().is_some_and(|only| only != origin) {
            return Err(ProofError::new(Fault::Origin).about(origin));
        }
        let (mut signers, mut signed, mut revoked) = (Vec::new(), 0, None);
        let noted = self.signers.iter().filter(|key| !self.name_is_origin || key.name() == origin);
        let noted = noted.map(|key| (key, note.signed_by(key)));
        let by_ssh = self.ssh.iter().map(|key| (key, signed_by_ssh(ssh, key, note.text())));
        for (key, time_s) in noted.chain(by_ssh) {
            let Some(time_s) = time_s? else { continue };
            if self.is_revoked(key, checkpoint.head.size) {
                revoked = Some(key.name().to_owned());
                continue;
            }
            signed += 1;
            signers.push(Signer { name: key.name().to_owned(), time_s });
        }
        let mut seen = Vec::with_capacity(self.witnesses.len());
        for key in &self.witnesses {
            let time = note.signed_by(key)?;
            seen.push(time.is_some());
            signers.extend(time.map(|time_s| Signer { name: key.name().to_owned(), time_s }));
        }
        let (have, need) = (signed, self.threshold);
        let fault = match (have, revoked) {
            (0, Some(name)) => ProofError::new(Fault::Revoked).about(name),
            (0, None) => Fault::Untrusted.into(),
            _ if have < need => {
                ProofError::new(Fault::Threshold).about(format!("{have} of {need}"))
            }
            _ if self.quorum.as_ref().is_some_and(|quorum| !quorum.is_met(&seen)) => {
                ProofError::new(Fault::Threshold).about("witnesses")
            }
            _ => return Ok(TrustedCheckpoint { checkpoint, signers }),
        };
        Err(fault)
    }

    /// Accepts a signature over a message that binds a root, but neither name nor size of the log.
    pub(super) fn verify_root(&self, message: &[u8], signature: &[u8; 64]) -> Result<Signer> {
        if self.name_is_origin || self.origin.is_some() {
            let detail = "the signature does not name the log, which the trust asks for";
            return Err(ProofError::new(Fault::Origin).about(detail));
        }
        if self.threshold > 1 || self.quorum.is_some() {
            return Err(ProofError::new(Fault::Threshold).about("there is one signature only"));
        }
        let is_by = |key: &&VerifierKey| {
            key.kind() == SignatureType::Ed25519 && key.verifies(message, signature)
        };
        let key = self.signers.iter().find(is_by).ok_or(Fault::Untrusted)?;
        if self.is_revoked(key, u64::MAX) {
            return Err(ProofError::new(Fault::Revoked).about(key.name()));
        }
        Ok(Signer { name: key.name().to_owned(), time_s: None })
    }

    /// Accepts signatures over a message that binds no log: a statement.
    #[cfg(feature = "statements")]
    pub(super) fn verify_message(
        &self,
        message: &[u8],
        signatures: &[[u8; 64]],
    ) -> Result<Vec<Signer>> {
        let (mut signers, mut revoked) = (Vec::new(), None);
        for key in self.signers.iter().filter(|key| key.kind() == SignatureType::Ed25519) {
            if !signatures.iter().any(|signature| key.verifies(message, signature)) {
                continue;
            }
            if self.is_revoked(key, u64::MAX) {
                revoked = Some(key.name());
                continue;
            }
            signers.push(Signer { name: key.name().to_owned(), time_s: None });
        }
        match (signers.len(), revoked) {
            (0, Some(name)) => Err(ProofError::new(Fault::Revoked).about(name)),
            (0, None) => Err(Fault::Untrusted.into()),
            (have, _) if have < self.threshold => {
                let detail = format!("{have} of {}", self.threshold);
                Err(ProofError::new(Fault::Threshold).about(detail))
            }
            _ => Ok(signers),
        }
    }

    fn is_revoked(&self, key: &VerifierKey, size: u64) -> bool {
        let is_same = |other: &VerifierKey| other.public() == key.public();
        self.revoked.iter().any(|(other, last_good)| is_same(other) && size > *last_good)
    }

    /// Follows a change of signers: `proof` shows, under the keys that are trusted now, an entry that
    /// names the next ones. From then on those are trusted, for this log only.
    ///
    /// # Errors
    /// What [`TlogProof::verify`] gives; [`Fault::Entry`] for another entry than such a one, or one that
    /// is not newer than the last; what [`Policy::new`] gives for its keys.
    pub fn follow(&mut self, proof: &TlogProof) -> Result<Proven> {
        let proven = proof.verify(self)?;
        let Entry::Keys(keys) = &proven.entry else {
            return Err(ProofError::new(Fault::Entry).about("a change of signers is needed here"));
        };
        self.hand_over(&proven.checkpoint.checkpoint.origin, keys)?;
        Ok(proven)
    }

    /// Trusts the signers of an entry from now on, for the log of this name only. The caller has seen
    /// the entry in a log that this policy trusts.
    ///
    /// # Errors
    /// [`Fault::Entry`] for an entry that is not newer than the last, and as [`Policy::of_entry`].
    pub fn hand_over(&mut self, origin: &str, keys: &Keys<'_>) -> Result<()> {
        let next = Self::of_entry(keys)?;
        if keys.sequence <= self.sequence {
            let detail = format!("signers {} after {}", keys.sequence, self.sequence);
            return Err(ProofError::new(Fault::Entry).about(detail));
        }
        // Witnesses are not the log's to change.
        let (witnesses, quorum) = (self.witnesses.clone(), self.quorum.clone());
        *self = Self { origin: Some(origin.to_owned()), witnesses, quorum, ..next };
        Ok(())
    }

    /// The signers that an entry of the log names.
    ///
    /// # Errors
    /// Those of a verifier key, and as [`Policy::new`].
    pub fn of_entry(keys: &Keys<'_>) -> Result<Self> {
        let signers = keys.vkeys.iter().map(|key| key.parse()).collect::<Result<_>>()?;
        let threshold = usize::try_from(keys.threshold).unwrap_or(usize::MAX);
        let revoked = keys.revoked.iter().map(|(key, size)| Ok((key.parse()?, *size)));
        let revoked = revoked.collect::<Result<_>>()?;
        Ok(Self { revoked, sequence: keys.sequence, ..Self::new(signers, threshold)? })
    }
}

impl Quorum {
    fn is_met(&self, seen: &[bool]) -> bool {
        match self {
            Self::Witness(index) => seen.get(*index).copied().unwrap_or(false),
            Self::AtLeast(least, of) => {
                of.iter().filter(|member| member.is_met(seen)).count() >= *least
            }
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Witness(_) => 0,
            Self::AtLeast(_, of) => 1 + of.iter().map(Self::depth).max().unwrap_or(0),
        }
    }

    fn can_be_reached(&self) -> bool {
        matches!(self, Self::AtLeast(least, of) if (1..=of.len()).contains(least))
    }
}

/// Whether one of these signatures is of `key`; all that are must verify.
fn signed_by_ssh(
    signatures: &[SshSignature],
    key: &VerifierKey,
    text: &str,
) -> Result<Option<Option<u64>>> {
    let mut found = None;
    for signature in signatures.iter().filter(|signature| signature.is_by(key)) {
        signature.verify(key, text)?;
        found = Some(None);
    }
    Ok(found)
}

/// One public key stands for one signer, and a name and id for one key.
fn check_keys<'k>(keys: impl Iterator<Item = &'k VerifierKey>) -> Result<()> {
    let (mut public, mut ids) = (HashSet::new(), HashSet::new());
    for key in keys {
        if public.len() == KEYS_MAX {
            return Err(Fault::Limit.into());
        }
        if !public.insert(*key.public()) || !ids.insert((key.name(), key.id())) {
            let detail = format!("{} is there twice", key.name());
            return Err(ProofError::new(Fault::Policy).about(detail));
        }
    }
    match public.is_empty() {
        true => Err(ProofError::new(Fault::Policy).about("there is no key")),
        false => Ok(()),
    }
}
