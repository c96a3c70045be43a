//! The public error: what happened, where, what it means and what to do next.

use crate::disk::LockHolder;
use crate::format::{FormatError, Rule};
use crate::hash::Hash;
use crate::proof::{Fault, ProofError};
use crate::segment::ReadError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Result of the public interface.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is, by what a caller can do about it. Names and exit codes are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request makes no sense: an invalid path, generation or option.
    Usage,
    /// The configuration is wrong.
    Config,
    /// A key of a storage that is empty or longer than 4,096 bytes.
    InvalidKey,
    /// There is no such file, key, object or generation.
    NotFound,
    /// Something is there already that must not be overwritten.
    AlreadyExists,
    /// Another writer has the pack, the refs or the database.
    Locked,
    /// A key does not have the value that the change was made for: another writer was first.
    RefConflict,
    /// The value under a key can't be read as the type that was asked for.
    ValueType,
    /// The file is no pack.
    NotAPack,
    /// The file is no database, or the database of another program.
    NotADatabase,
    /// Bytes of the pack are damaged.
    Corrupt,
    /// The file ends before the pack does.
    Truncated,
    /// Something that an entry or a ref names is not there.
    Missing,
    /// Larger than a limit of the format or of this reader.
    Limit,
    /// Nobody who is trusted has signed.
    Untrusted,
    /// A proof, signature or key that is malformed or wrong.
    Refused,
    /// A log that was cut back or rewritten since it was last seen.
    Rollback,
    /// A path that extraction refuses.
    UnsafePath,
    /// A version or feature that this program does not know.
    Unsupported,
    /// A write or sync failed: what was not acknowledged may or may not be on disk.
    Durability,
    /// What was about to be committed did not read back.
    WriteVerify,
    /// The disk or a quota is full.
    NoSpace,
    /// The file, directory or medium can't be written.
    ReadOnly,
    /// The work was interrupted on request.
    Interrupted,
    /// The system refused something else.
    Io,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 25] = [
        Self::Usage,
        Self::Config,
        Self::InvalidKey,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Locked,
        Self::RefConflict,
        Self::ValueType,
        Self::NotAPack,
        Self::NotADatabase,
        Self::Corrupt,
        Self::Truncated,
        Self::Missing,
        Self::Limit,
        Self::Untrusted,
        Self::Refused,
        Self::Rollback,
        Self::UnsafePath,
        Self::Unsupported,
        Self::Durability,
        Self::WriteVerify,
        Self::NoSpace,
        Self::ReadOnly,
        Self::Interrupted,
        Self::Io,
    ];

    /// Stable name, as in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Config => "config",
            Self::InvalidKey => "invalid-key",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::Locked => "locked",
            Self::RefConflict => "ref-conflict",
            Self::ValueType => "value-type",
            Self::NotAPack => "not-a-pack",
            Self::NotADatabase => "not-a-database",
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::Missing => "missing",
            Self::Limit => "limit",
            Self::Untrusted => "untrusted",
            Self::Refused => "refused",
            Self::Rollback => "rollback",
            Self::UnsafePath => "unsafe-path",
            Self::Unsupported => "unsupported",
            Self::Durability => "durability-unknown",
            Self::WriteVerify => "write-verify",
            Self::NoSpace => "no-space",
            Self::ReadOnly => "read-only",
            Self::Interrupted => "interrupted",
            Self::Io => "io",
        }
    }

    /// Stable exit code of the command.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::InvalidKey => 2,
            Self::Io => 3,
            Self::Untrusted => 4,
            Self::Refused => 6,
            Self::Rollback => 7,
            Self::NotFound => 10,
            Self::Locked => 11,
            Self::AlreadyExists | Self::RefConflict => 13,
            Self::ValueType => 14,
            Self::Config => 15,
            Self::Corrupt | Self::Truncated | Self::Missing => 20,
            Self::NotAPack | Self::NotADatabase | Self::Limit | Self::UnsafePath => 21,
            Self::Unsupported => 25,
            Self::Durability | Self::WriteVerify => 30,
            Self::NoSpace => 31,
            Self::ReadOnly => 32,
            Self::Interrupted => 130,
        }
    }

    /// What to do next, unless the error knows better.
    const fn hint(self) -> Option<&'static str> {
        match self {
            Self::Locked => Some("wait for that process to end; readers are not affected"),
            Self::InvalidKey => Some("a key is 1 to 4096 bytes long, any bytes"),
            Self::RefConflict => Some("read the value again, and decide again"),
            Self::ValueType => {
                Some("read it as bytes, or as the type that it was stored as; nothing was changed")
            }
            Self::NotADatabase => Some("check the path; nothing was changed"),
            Self::NotAPack => {
                Some("check the file's name; `pefc recover` salvages objects from damaged packs")
            }
            Self::Corrupt => Some(
                "nothing was changed; `pefc verify` lists all damage, `pefc recover` writes a new pack of all that is intact",
            ),
            Self::Truncated => Some(
                "copy the file again from where it is whole; `pefc recover` salvages what is here",
            ),
            Self::Missing => Some("`pefc verify` lists what is missing"),
            Self::Untrusted => Some(
                "get the signer's verifier key from where you trust it, and name it in the trust file",
            ),
            Self::Refused => Some("do not rely on it; ask for it again where it came from"),
            Self::Rollback => Some(
                "do not rely on it; ask its signer for the newest pack, and why this one differs",
            ),
            Self::Unsupported => Some("use a newer pefc"),
            Self::Durability => Some(
                "find out why the disk failed; then open the pack again: it holds every commit that was acknowledged, and perhaps the last one",
            ),
            Self::WriteVerify => Some("test this machine's memory; nothing was committed"),
            Self::NoSpace => Some("free some space and try again; what was committed is intact"),
            Self::ReadOnly => {
                Some("reading works; to write, change the permissions or copy the pack")
            }
            _ => None,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure of the public interface.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    path: Option<PathBuf>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    hint: Option<&'static str>,
}

/// [`ErrorKind::Interrupted`] once the flag is set.
pub(crate) fn check_cancel(cancel: Option<&AtomicBool>) -> Result<()> {
    if cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
    }
    Ok(())
}

impl Error {
    /// An error of a kind, with what was being done or what is wrong.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), path: None, source: None, hint: kind.hint() }
    }

    /// The same, about a file.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// The same, with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, with another next step.
    #[must_use]
    pub fn hinting(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// A failed system call: `what` says what was being done ("creating the pack").
    #[must_use]
    pub fn io(what: impl Into<String>, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => ErrorKind::NoSpace,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::ReadOnly
            }
            _ => ErrorKind::Io,
        };
        let error = Self::new(kind, what).at(path).because(source);
        if kind == ErrorKind::ReadOnly { error.hinting("check the permissions") } else { error }
    }

    /// A pack that could not be opened.
    #[must_use]
    pub(crate) fn opening(what: &str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::IsADirectory => {
                Self::new(ErrorKind::NotAPack, "a directory, but a pack is one file")
                    .at(path)
                    .hinting("`pefc create` makes a pack of a directory")
            }
            io::ErrorKind::NotSeekable => {
                Self::new(ErrorKind::NotAPack, "a pipe or device, but a pack is a file")
                    .at(path)
                    .hinting("write what comes out of it to a file, and open that")
            }
            io::ErrorKind::NotFound => Self::io(what, path, source)
                .hinting("check the path; `pefc create` makes a new pack"),
            _ => Self::io(what, path, source),
        }
    }

    /// A failed write or sync of a pack.
    #[must_use]
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let error = Self::io("writing the pack", path, source);
        let kind = match error.kind {
            ErrorKind::NoSpace => ErrorKind::NoSpace,
            _ => ErrorKind::Durability,
        };
        Self { kind, hint: kind.hint(), ..error }
    }

    pub(crate) fn locked(path: &Path, holder: Option<LockHolder>) -> Self {
        let who = holder.map_or_else(|| "another writer".to_owned(), |holder| holder.to_string());
        Self::new(ErrorKind::Locked, format!("the pack is being written by {who}")).at(path)
    }

    pub(crate) fn missing(name: &Hash, because: &str) -> Self {
        Self::new(ErrorKind::Missing, format!("object {name} is not in the pack, {because}"))
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether bytes of the pack are at fault, and not the system or the request.
    #[must_use]
    pub(crate) fn is_damage(&self) -> bool {
        use ErrorKind::{Corrupt, Missing, Truncated};
        matches!(self.kind, Corrupt | Missing | Truncated)
    }

    /// The file it is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }

    /// What is wrong with a proof, signature or key, if that is it.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let source = self.source.as_ref().and_then(|source| source.downcast_ref::<ProofError>());
        source.map(|error| error.fault)
    }

    /// The rule of the format that is broken, if one is.
    #[must_use]
    pub fn format(&self) -> Option<&FormatError> {
        self.source.as_ref().and_then(|source| source.downcast_ref())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.what)?;
        if let Some(source) = &self.source {
            if !self.what.is_empty() {
                f.write_str(": ")?;
            }
            write!(f, "{source}")?;
        }
        Ok(())
    }
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        Self::new(kind_of(error.rule), String::new()).because(error)
    }
}

/// The class of a broken rule.
#[must_use]
pub(crate) fn kind_of(rule: Rule) -> ErrorKind {
    match rule {
        Rule::SegmentMagic | Rule::SegmentMagicMangled => ErrorKind::NotAPack,
        Rule::Version | Rule::Feature | Rule::FrameKind => ErrorKind::Unsupported,
        Rule::Limit => ErrorKind::Limit,
        Rule::Truncated => ErrorKind::Truncated,
        Rule::MissingObject => ErrorKind::Missing,
        _ => ErrorKind::Corrupt,
    }
}

impl From<ProofError> for Error {
    fn from(error: ProofError) -> Self {
        let kind = match error.fault {
            Fault::Untrusted | Fault::Threshold | Fault::Revoked => ErrorKind::Untrusted,
            Fault::Rollback | Fault::Fork => ErrorKind::Rollback,
            Fault::Limit => ErrorKind::Limit,
            _ => ErrorKind::Refused,
        };
        Self::new(kind, String::new()).because(error)
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Format(error) => error.into(),
            ReadError::Io { source, offset } => {
                Self::new(ErrorKind::Io, format!("reading at byte {offset}")).because(source)
            }
        }
    }
}
