//! Signed notes (C2SP signed-note): a text, an empty line, and lines of signatures.

use super::error::{Fault, ProofError, Result};
use super::text::{FILE_BYTES_MAX, Lines, base64, from_base64, utf8};
use super::vkey::{SignatureType, VerifierKey, check_name};
use std::fmt;

/// A note has at most this many signatures.
pub(super) const SIGNATURES_MAX: usize = 256;

/// One line of a note: who says to have signed, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Id of the key.
    pub id: [u8; 4],
    /// What the type of the key makes of it; not empty.
    pub value: Vec<u8>,
}

/// A text and its signatures, none of which is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// The text that a cosignature of `text` at a time signs (C2SP tlog-cosignature).
#[must_use]
pub fn cosigned_text(text: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

impl NoteSignature {
    /// The signature of `key` over a text, from its bytes.
    #[must_use]
    pub fn ed25519(key: &VerifierKey, signature: &[u8; 64]) -> Self {
        Self { name: key.name().to_owned(), id: key.id(), value: signature.to_vec() }
    }

    /// The cosignature of `key`, made at a time, from its bytes.
    #[must_use]
    pub fn cosignature(key: &VerifierKey, time_s: u64, signature: &[u8; 64]) -> Self {
        let time = time_s.to_le_bytes().into_iter().rev(); // network order
        let value = time.chain(signature.iter().copied()).collect();
        Self { name: key.name().to_owned(), id: key.id(), value }
    }

    /// Parses a line, without its line feed.
    ///
    /// # Errors
    /// [`Fault::Syntax`], [`Fault::Base64`].
    pub fn parse(line: &str) -> Result<Self> {
        let syntax = || ProofError::new(Fault::Syntax);
        let rest = line.strip_prefix("— ").ok_or_else(syntax)?;
        let (name, value) = rest.split_once(' ').ok_or_else(syntax)?;
        check_name(name).map_err(|_| syntax())?;
        let bytes = from_base64(value)?;
        match bytes.split_first_chunk() {
            Some((id, value)) if !value.is_empty() => {
                Ok(Self { name: name.to_owned(), id: *id, value: value.to_vec() })
            }
            _ => Err(syntax()),
        }
    }

    /// Whether it says to be of `key`.
    #[must_use]
    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.id == key.id()
    }

    /// Checks that it is the signature of `key` over `text`. Gives the time of a cosignature.
    ///
    /// # Errors
    /// [`Fault::Signature`].
    pub fn verify(&self, key: &VerifierKey, text: &str) -> Result<Option<u64>> {
        let fault = || ProofError::new(Fault::Signature).about(&self.name);
        let (time, message) = match key.kind() {
            SignatureType::Ed25519 => (None, text.to_owned()),
            SignatureType::Cosignature => {
                let time = self.value.first_chunk::<8>().ok_or_else(fault)?;
                let time = time.iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
                (Some(time), cosigned_text(text, time))
            }
        };
        let at = if time.is_some() { 8 } else { 0 };
        let signature = self.value.get(at..).and_then(|rest| rest.try_into().ok());
        let time_ok = time.is_none_or(|time| i64::try_from(time).is_ok());
        match signature {
            Some(signature) if time_ok && key.verifies(message.as_bytes(), signature) => Ok(time),
            _ => Err(fault()),
        }
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.value].concat();
        write!(f, "— {} {}", self.name, base64(&bytes))
    }
}

impl Note {
    /// A note of a text that ends in a line feed.
    ///
    /// # Errors
    /// [`Fault::Encoding`], [`Fault::Syntax`] for a text that notes do not allow.
    pub fn new(text: &str, signatures: Vec<NoteSignature>) -> Result<Self> {
        utf8(text.as_bytes())?;
        if !text.ends_with('\n') {
            return Err(Fault::Syntax.into());
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Parses a note.
    ///
    /// # Errors
    /// [`Fault::Limit`], [`Fault::Encoding`], [`Fault::Syntax`], [`Fault::Base64`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Fault::Limit.into());
        }
        let all = utf8(bytes)?;
        let end = all.rfind("\n\n").ok_or(Fault::Syntax)?;
        let (text, rest) = all.split_at(end + 1);
        let above = text.lines().count() + 1;
        let mut lines = Lines::new(&rest[1..]);
        let mut signatures = Vec::new();
        while !lines.rest().is_empty() {
            let line = lines.next().map_err(|error| error.below(above))?;
            if signatures.len() == SIGNATURES_MAX {
                return Err(lines.fault(Fault::Limit).below(above));
            }
            let signature = lines.read(NoteSignature::parse(line));
            signatures.push(signature.map_err(|error| error.below(above))?);
        }
        if signatures.is_empty() {
            return Err(Fault::Syntax.into());
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, which nobody should believe before a signature of it is verified.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature, unless it is there.
    pub fn add(&mut self, signature: NoteSignature) {
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
    }

    /// Checks all signatures of `key`: whether it signed, and the latest time if it cosigns.
    ///
    /// # Errors
    /// [`Fault::Signature`] if one of them does not verify, even if another one does.
    pub fn signed_by(&self, key: &VerifierKey) -> Result<Option<Option<u64>>> {
        let mut found = None;
        for signature in self.signatures.iter().filter(|signature| signature.is_by(key)) {
            let time = signature.verify(key, &self.text)?;
            found = Some(found.flatten().max(time));
        }
        Ok(found)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_of_the_specification_verifies() {
        let key: VerifierKey = VKEY.parse().unwrap();
        assert_eq!(key.to_string(), VKEY);
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.signed_by(&key), Ok(Some(None)));
    }

    #[test]
    fn every_change_of_a_byte_of_a_key_or_note_is_noticed() {
        let key: VerifierKey = VKEY.parse().unwrap();
        for at in 0..VKEY.len() {
            for value in 0..=255 {
                let mut bytes = VKEY.as_bytes().to_vec();
                bytes[at] = value;
                let parsed = str::from_utf8(&bytes).map(str::parse::<VerifierKey>);
                assert!(value == VKEY.as_bytes()[at] || !matches!(parsed, Ok(Ok(_))), "{at}");
            }
        }
        for at in 0..NOTE.len() {
            for value in 0..=255 {
                let mut bytes = NOTE.as_bytes().to_vec();
                bytes[at] = value;
                let signed = Note::parse(&bytes).and_then(|note| note.signed_by(&key));
                // Another name or id is an unknown key's signature, which says nothing.
                let accepted = matches!(signed, Ok(Some(_)));
                assert_eq!(accepted, value == NOTE.as_bytes()[at], "byte {at} as {value}");
            }
        }
    }

    #[test]
    fn what_is_no_note_is_refused() {
        for (bad, fault) in [
            ("", Fault::Syntax),
            ("text\n", Fault::Syntax),
            ("text\n\n", Fault::Syntax),
            ("text\n\n— a AAAAAAA=", Fault::Syntax),
            ("text\n\n- a AAAAAAA=\n", Fault::Syntax),
            ("text\n\n— a+b AAAAAAA=\n", Fault::Syntax),
            ("text\n\n—  AAAAAAA=\n", Fault::Syntax),
            ("text\n\n— a AAAAAA==\n", Fault::Syntax), // an id and no signature
            ("text\n\n— a AAAAAAB=\n", Fault::Base64),
            ("text\r\n\n— a AAAAAAA=\n", Fault::Encoding),
        ] {
            assert_eq!(Note::parse(bad.as_bytes()).unwrap_err().fault, fault, "{bad:?}");
        }
        let many = format!("t\n\n{}", "— a AAAAAAA=\n".repeat(257));
        assert_eq!(Note::parse(many.as_bytes()).unwrap_err().fault, Fault::Limit);
    }

    #[test]
    fn an_empty_line_in_the_text_is_text() {
        let note = Note::parse("a\n\nb\n\n— a AAAAAAA=\n".as_bytes()).unwrap();
        assert_eq!(note.text(), "a\n\nb\n");
    }

    #[test]
    fn one_bad_signature_of_a_known_key_spoils_the_note() {
        let key: VerifierKey = VKEY.parse().unwrap();
        let mut note = Note::parse(NOTE.as_bytes()).unwrap();
        let mut bad = note.signatures()[0].clone();
        bad.value[5] ^= 1;
        note.add(bad);
        assert_eq!(note.signed_by(&key).unwrap_err().fault, Fault::Signature);
    }

    #[test]
    fn a_second_library_agrees() {
        let note = signed_note::Note::from_bytes(NOTE.as_bytes()).unwrap();
        assert_eq!(note.text(), Note::parse(NOTE.as_bytes()).unwrap().text().as_bytes());
        let verifier = signed_note::StandardVerifier::new(VKEY).unwrap();
        let list = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        assert_eq!(note.verify(&list).unwrap().0.len(), 1);
    }
}
