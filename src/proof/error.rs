//! What can be wrong with a proof, a note or a key: one fault for each, with a stable name.

use std::fmt;

/// Result of this layer.
pub type Result<T> = std::result::Result<T, ProofError>;

/// What is wrong. The names are stable: `--json`, tests and `spec/proofs.md` use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A text that is not UTF-8, or has a control character.
    Encoding,
    /// A line that the grammar of the file does not allow.
    Syntax,
    /// Base64 that is not canonical.
    Base64,
    /// More lines, signatures or bytes than the limits allow.
    Limit,
    /// A verifier key that is malformed.
    Vkey,
    /// A verifier key whose id is not that of its name and key.
    KeyId,
    /// A key or signature of a type that this program does not know.
    KeyType,
    /// An Ed25519 key that is not canonical or of small order: anyone could sign for it.
    WeakKey,
    /// A signature of a trusted key that does not verify.
    Signature,
    /// No trusted key has signed.
    Untrusted,
    /// Fewer trusted keys have signed than the policy asks for.
    Threshold,
    /// A policy that contradicts itself or is incomplete.
    Policy,
    /// A checkpoint whose text is not that of a checkpoint.
    Checkpoint,
    /// A checkpoint of another log.
    Origin,
    /// An index that is not below the size.
    Index,
    /// A path of another length than index and size give.
    PathLength,
    /// A path that does not lead to the root.
    Root,
    /// A size that contradicts another one.
    Size,
    /// Two heads of one log that are not prefixes of one another.
    Fork,
    /// A head older than one that is known.
    Rollback,
    /// An entry that the format does not allow, or of another type than the proof is about.
    Entry,
    /// An entry, or a leaf of the map, of another key.
    Key,
    /// Content that is not the one that is proven.
    Content,
    /// Leaves of the map that do not rise by their keys.
    Order,
    /// Neighbours with room for another leaf between them.
    Neighbours,
    /// A map proof that is not ICS-23 of the shape used here.
    Ics23,
    /// A COSE structure that is not a receipt of the shape used here.
    Cose,
    /// An envelope or statement that is not DSSE and in-toto.
    Statement,
    /// A slice that is cut short, too long, or not of the content.
    Slice,
    /// A key that was revoked before the size that it signed.
    Revoked,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 30] = [
        Self::Encoding,
        Self::Syntax,
        Self::Base64,
        Self::Limit,
        Self::Vkey,
        Self::KeyId,
        Self::KeyType,
        Self::WeakKey,
        Self::Signature,
        Self::Untrusted,
        Self::Threshold,
        Self::Policy,
        Self::Checkpoint,
        Self::Origin,
        Self::Index,
        Self::PathLength,
        Self::Root,
        Self::Size,
        Self::Fork,
        Self::Rollback,
        Self::Entry,
        Self::Key,
        Self::Content,
        Self::Order,
        Self::Neighbours,
        Self::Ics23,
        Self::Cose,
        Self::Statement,
        Self::Slice,
        Self::Revoked,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Syntax => "syntax",
            Self::Base64 => "base64",
            Self::Limit => "limit",
            Self::Vkey => "vkey",
            Self::KeyId => "key-id",
            Self::KeyType => "key-type",
            Self::WeakKey => "weak-key",
            Self::Signature => "signature",
            Self::Untrusted => "untrusted",
            Self::Threshold => "threshold",
            Self::Policy => "policy",
            Self::Checkpoint => "checkpoint",
            Self::Origin => "origin",
            Self::Index => "index",
            Self::PathLength => "path-length",
            Self::Root => "root",
            Self::Size => "size",
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::Entry => "entry",
            Self::Key => "key",
            Self::Content => "content",
            Self::Order => "order",
            Self::Neighbours => "neighbours",
            Self::Ics23 => "ics23",
            Self::Cose => "cose",
            Self::Statement => "statement",
            Self::Slice => "slice",
            Self::Revoked => "revoked",
        }
    }

    /// What is wrong, in words.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Encoding => "the text is not UTF-8 or has control characters",
            Self::Syntax => "the line does not fit the grammar of the file",
            Self::Base64 => "not canonical base64",
            Self::Limit => "larger than the limits for such files",
            Self::Vkey => "a verifier key is NAME+HEX+BASE64, with a name without spaces and plus",
            Self::KeyId => "the id of the verifier key is not that of its name and key",
            Self::KeyType => "a type of key or signature that this program does not know",
            Self::WeakKey => {
                "the public key is not canonical or of small order; nobody should trust it"
            }
            Self::Signature => "the signature of a trusted key does not verify",
            Self::Untrusted => "no trusted key has signed",
            Self::Threshold => "fewer trusted keys have signed than the trust asks for",
            Self::Policy => "the trust contradicts itself or is incomplete",
            Self::Checkpoint => "the signed text is not a checkpoint",
            Self::Origin => "the checkpoint is of another log",
            Self::Index => "the index is not below the size of the tree",
            Self::PathLength => "the path is longer or shorter than index and size give",
            Self::Root => "the proof does not lead to the signed root",
            Self::Size => "the sizes contradict each other",
            Self::Fork => "the log was rewritten: two heads of it contradict each other",
            Self::Rollback => "the head is older than one that is known",
            Self::Entry => "the entry is not one that this proof can be about",
            Self::Key => "the proof is about another key",
            Self::Content => "the content is not the one that is proven",
            Self::Order => "the keys of the map do not rise",
            Self::Neighbours => "the neighbours leave room for another key between them",
            Self::Ics23 => "not an ICS-23 proof of a map of a pack",
            Self::Cose => "not a COSE receipt of a log of a pack",
            Self::Statement => "not an in-toto statement in a DSSE envelope",
            Self::Slice => "the slice is not of the proven content",
            Self::Revoked => "the key was revoked before this size of the log",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A proof, note or key that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofError {
    /// What is wrong.
    pub fault: Fault,
    /// The line of a text, from 1.
    pub line: Option<usize>,
    /// Which one of several: a key's name, a size.
    pub detail: Option<String>,
}

impl ProofError {
    /// A fault.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self { fault, line: None, detail: None }
    }

    /// The same in a line of a text, counted from 1.
    #[must_use]
    pub fn at_line(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }

    /// The same in a text that begins `lines` lines later in a file.
    #[must_use]
    pub(super) fn below(mut self, lines: usize) -> Self {
        self.line = self.line.map(|line| line + lines);
        self
    }

    /// The same with what it is about.
    #[must_use]
    pub fn about(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl From<Fault> for ProofError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl std::error::Error for ProofError {}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{} [{}]", self.fault.what(), self.fault)?;
        match &self.detail {
            Some(detail) => write!(f, " ({})", detail.escape_debug()),
            None => Ok(()),
        }
    }
}
