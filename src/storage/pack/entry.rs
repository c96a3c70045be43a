//! Refs as entries of a pack: name and size are the entry's own, times are attributes.

use crate::format::cbor;
use crate::format::entry::{Attributes, FileTime, Put, RawPairs};
use crate::refs::Ref;
use std::borrow::Cow;

/// The attribute with the time of birth, nanoseconds since 1970; left out if it is that of the last
/// change, which is the attribute for that.
const CREATED: &str = "created";

const NS_PER_S: i64 = 1_000_000_000;

/// What an entry says of its key; `None` for one without content.
pub(super) fn ref_of(put: &Put<'_>) -> Option<Ref> {
    let content = put.content?;
    let updated_ns = put.attributes.mtime.map_or(0, |time| {
        // Wide, since seconds alone may be beyond the least number of nanoseconds.
        let ns = i128::from(time.seconds) * i128::from(NS_PER_S) + i128::from(time.nanoseconds);
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    });
    let created_ns = created(&put.attributes.other).unwrap_or(updated_ns);
    Some(Ref { name: content.name, size_bytes: content.len, created_ns, updated_ns })
}

fn created(pairs: &RawPairs<'_>) -> Option<i64> {
    let mut reader = cbor::Reader::new(&pairs.bytes);
    for _ in 0..pairs.count {
        // Keys of other kinds sort before text: whoever wrote them is not us.
        if reader.text().ok()? == CREATED {
            return reader.int().ok();
        }
        reader.any().ok()?;
    }
    None
}

/// The attributes of a ref's entry.
pub(super) fn attributes_of(value: &Ref) -> Attributes<'static> {
    let seconds = value.updated_ns.div_euclid(NS_PER_S);
    let nanoseconds = u32::try_from(value.updated_ns.rem_euclid(NS_PER_S)).unwrap_or(0); // < 10^9
    let other = if value.created_ns == value.updated_ns {
        RawPairs::default()
    } else {
        let mut pair = cbor::Writer::default();
        pair.text(CREATED).int(value.created_ns);
        RawPairs { count: 1, bytes: Cow::Owned(pair.finish()) }
    };
    Attributes { mtime: Some(FileTime { seconds, nanoseconds }), other, ..Attributes::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Content, Entry, SPACE_STORAGE};
    use crate::hash::Hash;

    #[test]
    fn times_come_back() {
        for (created_ns, updated_ns) in
            [(0, 0), (-1, 5), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (7, 1_999_999_999)]
        {
            let value = Ref { name: Hash::of(b"x"), size_bytes: 1, created_ns, updated_ns };
            let entry = Entry::Put(Put {
                space: SPACE_STORAGE,
                key: Cow::Borrowed(b"k"),
                content: Some(Content { name: value.name, len: 1 }),
                sha256: None,
                media_type: None,
                attributes: attributes_of(&value),
            });
            let bytes = entry.encode();
            let Entry::Put(put) = Entry::decode(&bytes).unwrap().0 else { panic!("a put") };
            assert_eq!(ref_of(&put), Some(value));
        }
    }
}
