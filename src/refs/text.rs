//! The small text files of refs. Pure.
//!
//! `spec/refs.md` 4 and 5 are the normative text. Every file ends in a check over all before it, and
//! only the one text that the encoder writes is accepted.

use super::Ref;
use super::name::{key_from_text, key_to_text};
use crate::hash::Hash;
use std::fmt::Write as _;

/// First line of a ref's file.
const REF_HEAD: &str = "pefc ref v1";
/// First line of a journal.
const JOURNAL_HEAD: &str = "pefc refs journal v1";
/// What first lines begin with, whatever the version.
const HEAD_STEMS: [&str; 2] = ["pefc ref v", "pefc refs journal v"];

/// Longest file of a ref: its key may take three bytes for one.
pub(super) const REF_BYTES_MAX: u64 = 16 << 10;

/// A set of changes: what each key stands for afterwards.
pub(super) type Journal = Vec<(Vec<u8>, Option<Ref>)>;

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TextError {
    #[error("it is damaged: it is not what any version of pefc writes")]
    Damaged,
    #[error("it is of a later version")]
    Newer,
}

/// The file of a ref.
pub(super) fn encode_ref(key: &[u8], value: &Ref) -> String {
    let text = format!(
        "{REF_HEAD}\nkey {}\nb3 {}\nsize {}\ncreated {}\nupdated {}\n",
        key_to_text(key),
        value.name,
        value.size_bytes,
        value.created_ns,
        value.updated_ns
    );
    checked(text)
}

/// Key and value of a ref's file.
pub(super) fn decode_ref(bytes: &[u8]) -> Result<(Vec<u8>, Ref), TextError> {
    decode(bytes, |lines| {
        let key = key_from_text(lines.next()?.strip_prefix("key ")?)?;
        let value = Ref {
            name: hash(lines.next()?.strip_prefix("b3 ")?)?,
            size_bytes: lines.next()?.strip_prefix("size ")?.parse().ok()?,
            created_ns: lines.next()?.strip_prefix("created ")?.parse().ok()?,
            updated_ns: lines.next()?.strip_prefix("updated ")?.parse().ok()?,
        };
        // What is not written as we write it ("+1", "01", "A3") was changed by someone.
        (encode_ref(&key, &value).as_bytes() == bytes).then_some((key, value))
    })
}

/// The file of a batch under way.
pub(super) fn encode_journal(changes: &Journal) -> String {
    let mut text = format!("{JOURNAL_HEAD}\n");
    for (key, value) in changes {
        let key = key_to_text(key);
        // Writing to a string does not fail.
        let _ = match value {
            Some(Ref { name, size_bytes, created_ns, updated_ns }) => {
                writeln!(text, "set {name} {size_bytes} {created_ns} {updated_ns} {key}")
            }
            None => writeln!(text, "delete {key}"),
        };
    }
    checked(text)
}

/// The changes of a journal.
pub(super) fn decode_journal(bytes: &[u8]) -> Result<Journal, TextError> {
    decode(bytes, |lines| {
        let mut changes = Vec::new();
        for line in lines.take_while(|line| !line.starts_with("check ")) {
            let mut words = line.split(' ');
            changes.push(match words.next()? {
                "set" => {
                    let value = Ref {
                        name: hash(words.next()?)?,
                        size_bytes: words.next()?.parse().ok()?,
                        created_ns: words.next()?.parse().ok()?,
                        updated_ns: words.next()?.parse().ok()?,
                    };
                    (key_from_text(words.next()?)?, Some(value))
                }
                "delete" => (key_from_text(words.next()?)?, None),
                _ => return None,
            });
        }
        (encode_journal(&changes).as_bytes() == bytes).then_some(changes)
    })
}

fn decode<T>(
    bytes: &[u8],
    body: impl FnOnce(&mut std::str::Lines<'_>) -> Option<T>,
) -> Result<T, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TextError::Damaged)?;
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    if head != REF_HEAD && head != JOURNAL_HEAD {
        let newer = HEAD_STEMS
            .iter()
            .filter_map(|stem| head.strip_prefix(stem))
            .any(|version| version.parse::<u32>().is_ok_and(|version| version > 1));
        return Err(if newer && is_checked(text) { TextError::Newer } else { TextError::Damaged });
    }
    body(&mut lines).ok_or(TextError::Damaged)
}

fn checked(mut text: String) -> String {
    let check = Hash::of(text.as_bytes());
    let _ = writeln!(text, "check {check}"); // writing to a string does not fail
    text
}

fn is_checked(text: &str) -> bool {
    let body = text.trim_end_matches('\n').rfind('\n').map_or("", |at| &text[..=at]);
    checked(body.to_owned()) == text
}

/// A name in lower-case hexadecimal.
fn hash(text: &str) -> Option<Hash> {
    let hash: Hash = text.parse().ok()?;
    (hash.to_string() == text).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Ref {
        Ref { name: Hash::of(b"v"), size_bytes: 1, created_ns: -1, updated_ns: i64::MAX }
    }

    #[test]
    fn every_changed_bit_is_found() {
        let journal = vec![(b"a b".to_vec(), Some(value())), (b"\0".to_vec(), None)];
        let one = encode_ref(b"a/b", &value()).into_bytes();
        let many = encode_journal(&journal).into_bytes();
        assert_eq!(decode_ref(&one), Ok((b"a/b".to_vec(), value())));
        assert_eq!(decode_journal(&many), Ok(journal));
        for text in [one, many] {
            for bit in 0..text.len() * 8 {
                let mut bad = text.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode_ref(&bad).err(), Some(TextError::Damaged), "bit {bit}");
                assert_eq!(decode_journal(&bad).err(), Some(TextError::Damaged), "bit {bit}");
            }
            for len in 0..text.len() {
                assert!(decode_ref(&text[..len]).is_err() && decode_journal(&text[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let later = checked("pefc ref v2\nwhatever\n".to_owned());
        assert_eq!(decode_ref(later.as_bytes()), Err(TextError::Newer));
        assert_eq!(decode_ref(b"pefc ref v2\nwhatever\n"), Err(TextError::Damaged));
        assert_eq!(decode_ref(b""), Err(TextError::Damaged));
    }
}
