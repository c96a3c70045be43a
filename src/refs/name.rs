//! Keys as file names, and back. Pure.
//!
//! `spec/refs.md` 3 is the normative text.

use super::KEY_BYTES_MAX;
use crate::hash::Hash;

/// Longest name of a file or directory, in bytes (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// Longest path below the keys' directory, in bytes: with the path to that directory it must stay
/// below `PATH_MAX`, 4,096.
const PATH_BYTES_MAX: usize = 2048;

/// What the name of a directory ends in. No file's name does: `+` is written as `%2B`.
pub(super) const DIR_SUFFIX: char = '+';

/// The name of an empty part of a key.
const EMPTY: &str = "%";

/// Where a key's file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyPath {
    /// Directories, then the file, below `keys/`.
    Plain {
        /// Names of directories, with their suffix.
        dirs: Vec<String>,
        /// Name of the file.
        file: String,
    },
    /// Name of a file in `long/`, because the plain path would be too long.
    Long(String),
}

impl KeyPath {
    /// The place of `key`.
    pub(super) fn of(key: &[u8]) -> Self {
        let mut parts: Vec<String> = key.split(|byte| *byte == b'/').map(part).collect();
        let file = parts.pop().unwrap_or_default(); // `split` gives one part at least
        for dir in &mut parts {
            dir.push(DIR_SUFFIX);
        }
        let fits = |name: &String| name.len() <= NAME_BYTES_MAX;
        let path_bytes: usize = parts.iter().map(|dir| dir.len() + 1).sum::<usize>() + file.len();
        if parts.iter().all(fits) && fits(&file) && path_bytes <= PATH_BYTES_MAX {
            Self::Plain { dirs: parts, file }
        } else {
            Self::Long(Hash::of(key).to_string())
        }
    }
}

/// A part of a key as a name.
fn part(bytes: &[u8]) -> String {
    if bytes.is_empty() { EMPTY.to_owned() } else { escape(bytes, false) }
}

/// Letters, digits, `_`, `-`, `=`, `,`, `@`, `:` and, not at the beginning, `.` stand for themselves;
/// all else is `%` and two hexadecimal digits.
fn escape(bytes: &[u8], slash: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => true,
            b'_' | b'-' | b'=' | b',' | b'@' | b':' => true,
            b'.' => at > 0,
            b'/' => slash,
            _ => false,
        };
        if plain {
            out.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

/// A whole key on one line of text.
pub(super) fn key_to_text(key: &[u8]) -> String {
    escape(key, true)
}

/// The key of a line of text; `None` if it is not exactly what [`key_to_text`] writes.
pub(super) fn key_from_text(text: &str) -> Option<Vec<u8>> {
    let key = unescape(text)?;
    let valid = (1..=KEY_BYTES_MAX).contains(&key.len()) && key_to_text(&key) == text;
    valid.then_some(key)
}

/// The part of a key that a name stands for; `None` for a name that none has.
pub(super) fn part_from_name(name: &str) -> Option<Vec<u8>> {
    if name == EMPTY {
        return Some(Vec::new());
    }
    let bytes = unescape(name)?;
    (!bytes.is_empty() && escape(&bytes, false) == name).then_some(bytes)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
            out.push((digit(bytes.next()?)? << 4) | digit(bytes.next()?)?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(key: &[u8]) -> String {
        match KeyPath::of(key) {
            KeyPath::Plain { dirs, file } => {
                dirs.iter().map(|dir| format!("{dir}/")).collect::<String>() + &file
            }
            KeyPath::Long(name) => format!("long/{name}"),
        }
    }

    #[test]
    fn a_person_recognises_plain_keys_and_hostile_ones_are_harmless() {
        for (key, expected) in [
            ("a", "a"),
            ("a/b", "a+/b"),
            ("a+", "a%2B"),
            ("proofs/php-10.lrat", "proofs+/php-10.lrat"),
            ("../x", "%2E.+/x"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("/etc/passwd", "%+/etc+/passwd"),
            ("a//b/", "a+/%+/b+/%"),
            ("%_*[\0 é", "%25_%2A%5B%00%20%C3%A9"),
        ] {
            assert_eq!(path(key.as_bytes()), expected);
        }
        let hashed = path(&[b'x'; 256]);
        assert_eq!(hashed, format!("long/{}", Hash::of(&[b'x'; 256])));
        assert_eq!(path(&[b'x'; 255]), "x".repeat(255));
        assert!(path(&b"ab/".repeat(1365)).starts_with("long/"));
    }

    #[test]
    fn only_canonical_text_is_a_key() {
        for text in ["", "%", "%4", "%41", "%zz", "%2f", "%2e", "a+", "é", ".a"] {
            assert_eq!(key_from_text(text), None, "{text}");
        }
        assert_eq!(key_from_text("%2E./a%2B"), Some(b"../a+".to_vec()));
        assert_eq!(part_from_name("%"), Some(Vec::new()));
        for name in ["", "..", "a/b", "%2F%", "%61"] {
            assert_eq!(part_from_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_key_comes_back(key in proptest::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(key_from_text(&key_to_text(&key)), Some(key.clone()));
            if let KeyPath::Plain { dirs, file } = KeyPath::of(&key) {
                let mut parts = Vec::new();
                for name in dirs.iter().map(|dir| dir.strip_suffix('+').unwrap()).chain([&*file]) {
                    prop_assert!(!name.starts_with('.') && !name.contains(['/', '+', '\0']));
                    parts.push(part_from_name(name).unwrap());
                }
                prop_assert_eq!(parts.join(&b'/'), key);
            }
        }
    }
}
