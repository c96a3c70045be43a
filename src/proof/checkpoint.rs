//! Checkpoints (C2SP tlog-checkpoint): the text of a note that names a log, its size and its root.

use super::error::{Fault, ProofError, Result};
use super::text::{Lines, base64, hash, number, utf8};
use super::vkey::check_name;
use crate::tree::Node;
use std::fmt;

/// Beginnings of texts that the same key might sign for something else.
const FOREIGN: [&str; 3] = ["cosignature/", "DSSEv1", "SSHSIG"];

/// How far a log is: its size and the root of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Root (RFC 6962).
    pub root: Node,
}

/// What a signer of a log says: this log had this head. Three lines, no extension lines: they are
/// discouraged, and not every kind of cosignature covers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Its head.
    pub head: Head,
}

impl Checkpoint {
    /// A checkpoint of a log.
    ///
    /// # Errors
    /// [`Fault::Origin`] for a name that is empty, has white space, a plus or control characters,
    /// or begins as the text of another signature format does.
    pub fn new(origin: &str, head: Head) -> Result<Self> {
        let is_foreign = FOREIGN.iter().any(|other| origin.starts_with(other));
        if check_name(origin).is_err() || is_foreign {
            return Err(ProofError::new(Fault::Origin).about(origin));
        }
        Ok(Self { origin: origin.to_owned(), head })
    }

    /// Parses the text of a note.
    ///
    /// # Errors
    /// [`Fault::Encoding`], [`Fault::Checkpoint`], [`Fault::Origin`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = Lines::new(utf8(text.as_bytes())?);
        let checkpoint = Self::read(&mut lines)
            .map_err(|error| ProofError { fault: Fault::Checkpoint, ..error })?;
        if !lines.rest().is_empty() {
            return Err(ProofError::new(Fault::Checkpoint).at_line(4));
        }
        Self::new(&checkpoint.origin, checkpoint.head).map_err(|error| error.at_line(1))
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self> {
        let origin = lines.next()?.to_owned();
        let line = lines.next()?;
        let size = lines.read(number(line))?;
        let line = lines.next()?;
        Ok(Self { origin, head: Head { size, root: lines.read(hash(line))? } })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, base64(&self.head.root))
    }
}

impl Head {
    /// Whether this head may follow `known` when nothing but the two is at hand: it may be larger,
    /// or the same.
    ///
    /// # Errors
    /// [`Fault::Rollback`] for a smaller one, [`Fault::Fork`] for another root of the same size.
    pub fn follows(&self, known: &Self) -> Result<()> {
        let sizes = format!("size {}, known {}", self.size, known.size);
        match self.size.cmp(&known.size) {
            std::cmp::Ordering::Less => Err(ProofError::new(Fault::Rollback).about(sizes)),
            std::cmp::Ordering::Equal if self.root != known.root => {
                Err(ProofError::new(Fault::Fork).about(sizes))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_one_text() {
        let text =
            "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint = Checkpoint::parse(text).unwrap();
        assert_eq!((checkpoint.head.size, checkpoint.to_string().as_str()), (20_852_163, text));
        for at in 0..text.len() {
            for value in 0..=255 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = value;
                let changed = String::from_utf8(bytes);
                if let Ok(Ok(other)) = changed.as_ref().map(|text| Checkpoint::parse(text)) {
                    assert_eq!(Ok(other.to_string()), changed, "byte {at} as {value}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for (origin, size, rest, fault) in [
            ("a", "01", "\n", Fault::Checkpoint),
            ("a", "-1", "\n", Fault::Checkpoint),
            ("a", "18446744073709551616", "\n", Fault::Checkpoint),
            ("a", "1", "", Fault::Checkpoint),
            ("a", "1", "\nextension\n", Fault::Checkpoint),
            ("a", "1", "=\n", Fault::Checkpoint),
            ("", "1", "\n", Fault::Origin),
            ("a b", "1", "\n", Fault::Origin),
            ("a+b", "1", "\n", Fault::Origin),
            ("cosignature/v1", "1", "\n", Fault::Origin),
            ("DSSEv1", "1", "\n", Fault::Origin),
            ("SSHSIG", "1", "\n", Fault::Origin),
        ] {
            let text = format!("{origin}\n{size}\n{root}{rest}");
            assert_eq!(Checkpoint::parse(&text).unwrap_err().fault, fault, "{text}");
        }
    }

    #[test]
    fn heads_only_grow() {
        let head = |size, byte| Head { size, root: [byte; 32] };
        assert_eq!(head(5, 1).follows(&head(5, 1)), Ok(()));
        assert_eq!(head(6, 2).follows(&head(5, 1)), Ok(()));
        assert_eq!(head(4, 2).follows(&head(5, 1)).unwrap_err().fault, Fault::Rollback);
        assert_eq!(head(5, 2).follows(&head(5, 1)).unwrap_err().fault, Fault::Fork);
    }
}
