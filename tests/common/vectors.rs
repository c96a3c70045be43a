//! The packs of `spec/vectors/`: sound ones, and ones with a single fault.

use super::forge::{Forge, Index, content_of, del, genesis, list_of, put, put_of, zstd_rle};
use pefc::Hash;
use pefc::format::commit::{Footer, Section};
use pefc::format::entry::{Attributes, Content, Entry, FileKind, FileTime, Keys};
use pefc::format::frame::{Codec, FrameKind};
use pefc::format::signature::{Signature, SignatureFormat};
use pefc::format::{EntryPlace, Locator, Rule};
use std::borrow::Cow;

/// A pack and what verifying it says.
pub struct Vector {
    pub name: &'static str,
    pub expect: Option<Rule>,
    pub comment: &'static str,
    pub bytes: Vec<u8>,
}

const CONTENTS: [&[u8]; 3] = [b"one", b"two!", b"three"];

/// A small sealed pack. `hook` comes in just before the step `at`.
fn pack(index: Index, at: &str, hook: impl FnOnce(&mut Forge)) -> Vec<u8> {
    let mut forge = Forge { flags: 1, ..Forge::default() };
    let mut hook = Some(hook);
    for step in ["segment", "objects", "genesis", "puts", "seal", "flush", "footer", "end"] {
        if step == at {
            hook.take().unwrap()(&mut forge);
        }
        match step {
            "segment" => forge.begin(),
            "objects" => ignore(forge.objects(&CONTENTS)),
            "genesis" => forge.add(genesis()),
            "puts" => {
                for (key, content) in ["a", "b", "c"].into_iter().zip(CONTENTS) {
                    forge.add(put(key, content));
                }
            }
            "seal" => forge.add_seal(),
            "flush" => forge.flush(),
            "footer" => forge.finish(index),
            _ => {}
        }
    }
    assert!(hook.is_none(), "no step {at}");
    forge.bytes
}

/// The small pack with other bytes, and nothing computed again.
fn patched(index: Index, patch: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = pack(index, "end", |_| {});
    patch(&mut bytes);
    bytes
}

fn segment(at: usize, value: &'static [u8]) -> Vec<u8> {
    pack(Index::None, "segment", move |f| f.on_segment = Some(write_at(at, value)))
}

fn header(at: usize, value: &'static [u8]) -> Vec<u8> {
    pack(Index::None, "objects", move |f| f.on_header = Some(write_at(at, value)))
}

fn write_at(at: usize, value: &'static [u8]) -> Box<dyn FnOnce(&mut Vec<u8>)> {
    Box::new(move |bytes| bytes[at..at + value.len()].copy_from_slice(value))
}

/// The small pack with one frame more.
fn with(more: impl FnOnce(&mut Forge)) -> Vec<u8> {
    pack(Index::None, "puts", more)
}

/// The small pack with one entry more.
fn entry(bytes: Vec<u8>) -> Vec<u8> {
    pack(Index::None, "seal", move |f| f.add(bytes))
}

fn entry_of(attributes: Attributes<'_>, content: Option<Content>) -> Vec<u8> {
    entry(Entry::Put(put_of("d", content, attributes)).encode())
}

/// A put of the key "d" with these bytes for a map of attributes.
fn raw_attributes(map: &[u8]) -> Vec<u8> {
    let mut bytes = put("d", b"one");
    bytes.pop();
    bytes.extend(map);
    entry(bytes)
}

fn raw_key(key: &str) -> Vec<u8> {
    entry(put(key, b"one"))
}

fn commit(edit: impl FnOnce(&mut pefc::format::commit::Commit) + 'static) -> Vec<u8> {
    pack(Index::None, "footer", |f| f.on_commit = Some(Box::new(edit)))
}

fn zstd(stored: &[u8], raw: usize) -> Vec<u8> {
    with(|f| ignore(f.frame(FrameKind::Objects, Codec::Zstd, &[], stored, (raw, 1))))
}

fn body(kind: FrameKind, body: &[u8], items: usize) -> Vec<u8> {
    with(|f| ignore(f.frame(kind, Codec::Raw, &[], body, (body.len(), items))))
}

fn chunks(edit: impl FnOnce(&mut Forge, &mut pefc::format::object::ChunkList)) -> Vec<u8> {
    with(|f| {
        let pieces = [f.rle_object(b'x', 200_000), f.rle_object(b'y', 100_000)];
        let (mut list, content) = list_of(&[&pieces[0], &pieces[1]]);
        edit(f, &mut list);
        f.list(&list, content.name);
    })
}

/// A second segment behind the small pack, with one entry more and another seal.
fn second(f: &mut Forge, index: Index, entries: &[Vec<u8>]) {
    f.begin();
    entries.iter().for_each(|entry| f.add(entry.clone()));
    f.add_seal();
    f.flush();
    f.finish(index);
}

fn tail(f: &mut Forge, rounds: u8) {
    f.begin();
    for round in 0..rounds {
        let content = [b't', round];
        f.objects(&[&content]);
        f.add(put(&format!("t{round}"), &content));
        f.flush();
        f.commit(None);
    }
}

pub fn minimal() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("minimal.pefc");
    let options = pefc::WriteOptions { threads: 1, ..pefc::WriteOptions::default() };
    let mut writer = pefc::Writer::create(&path, options).unwrap();
    for (key, content) in [
        ("axioms.txt", "a = a\n"),
        ("lemmas/sym.txt", "a = b -> b = a\n"),
        ("lemmas/trans.txt", "a = b -> b = c -> a = c\n"),
    ] {
        writer.put(key, content.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(&path).unwrap()
}

fn golden() -> Vec<Vector> {
    let attributes = |kind| Attributes {
        kind,
        mode: Some(0o644),
        uid: Some(1000),
        gid: Some(1000),
        user: Some("user".into()),
        group: Some("group".into()),
        mtime: Some(FileTime { seconds: -1, nanoseconds: 5 }),
        ..Attributes::default()
    };
    let one = Some(content_of(b"one"));
    let all: [(&str, &str, Vec<u8>); 16] = [
        ("minimal", "three objects, created in one go by the library", minimal()),
        ("empty", "a genesis and the seal of nothing", {
            let mut f = Forge { flags: 1, ..Forge::default() };
            f.begin();
            f.add(genesis());
            second_half(&mut f, Index::Own);
            f.bytes
        }),
        ("commit-only", "no log at all: one commit of nothing", {
            let mut f = Forge::default();
            f.begin();
            f.commit(None);
            f.bytes
        }),
        ("signed", "a seal signed in its own commit, then once more in a segment of signatures", {
            let mut f = signed_pack();
            sign_again(&mut f, |f| f.signatures(&[b"third"]));
            f.bytes
        }),
        ("indexed", "sections over one segment", pack(Index::Own, "end", |_| {})),
        ("merged", "a second segment whose index covers both, with a page of keys", {
            pack(Index::Own, "end", |f| second(f, Index::Merged, &[put("a", b"two!"), del("b")]))
        }),
        ("units", "two segments, each with its own index", {
            pack(Index::Own, "end", |f| second(f, Index::Own, &[del("a"), put("d", b"one")]))
        }),
        ("attributes", "every attribute, every kind of entry, keys in all spaces", {
            pack(Index::None, "seal", |f| {
                let mut d = put_of("d", one, attributes(FileKind::File));
                d.sha256 = Some(pefc::tree::sha256(b"one"));
                d.media_type = Some("text/plain".into());
                f.add(Entry::Put(d).encode());
                for (key, kind) in [
                    ("e", FileKind::Directory),
                    ("f", FileKind::Symlink),
                    ("g", FileKind::HardLink),
                    ("h", FileKind::Fifo),
                    ("i", FileKind::CharDevice),
                    ("j", FileKind::BlockDevice),
                    ("k", FileKind::Socket),
                ] {
                    let link = matches!(kind, FileKind::Symlink | FileKind::HardLink);
                    let device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
                    let attributes = Attributes {
                        target: link.then(|| Cow::Borrowed(&b"a"[..])),
                        device: device.then_some((8, 1)),
                        ..attributes(kind)
                    };
                    f.add(Entry::Put(put_of(key, None, attributes)).encode());
                }
                f.add(put("l/empty", b""));
                // An attribute of the future: {10: [-1, true, null, {"": h''}]}.
                let mut future = put("m", b"one");
                future.pop();
                future.extend(b"\xa1\x0a\x84\x20\xf5\xf6\xa1\x60\x40");
                f.add(future);
                for space in [1, 2] {
                    let mut put = put_of("../any\0\u{e9}", one, Attributes::default());
                    put.space = space;
                    f.add(Entry::Put(put).encode());
                }
                let keys = Keys {
                    sequence: 1,
                    threshold: 1,
                    vkeys: vec!["example.org+1+key".into()],
                    revoked: vec![("example.org+0+key".into(), 3)],
                };
                f.add(Entry::Keys(keys).encode());
            })
        }),
        ("prefix", "a frame that is compressed after two objects of other frames", {
            with(|f| {
                let old: Vec<u8> = (0..600_u32).flat_map(|i| (i * i).to_le_bytes()).collect();
                f.objects(&[&old]);
                let names = [Hash::of(b"one"), Hash::of(&old)];
                let new = [&old[..1000], b"something else", &old[900..]].concat();
                f.after(&names, &[b"one", &old[..]].concat(), &new);
                f.add(put("0", &new));
            })
        }),
        ("records", "records: as they are, compressed, and with a dictionary", {
            with(|f| {
                let rle = vec![b'r'; 500];
                f.records(Codec::Zstd, &[], &[(b"raw", b"raw"), (&rle, &zstd_rle(b'r', 500))]);
                let samples: Vec<String> = (0..900)
                    .map(|i| format!("lemma l{} by rule {}; ", i * i % 97, i % 7))
                    .collect();
                let samples: Vec<String> = samples.chunks(9).map(|part| part.concat()).collect();
                let parts: Vec<&[u8]> = samples.iter().map(|sample| sample.as_bytes()).collect();
                let dictionary = pefc::compress::train_dictionary(&parts, 1500).unwrap();
                let numbers = (dictionary.len(), 1);
                let at = f.frame(FrameKind::Dictionary, Codec::Raw, &[], &dictionary, numbers);
                let name = Hash::of(&dictionary);
                f.index(at, [name]);
                let mut compressor =
                    pefc::compress::RecordCompressor::new(3, Some(&dictionary)).unwrap();
                let stored = compressor.compress(parts[5]).unwrap().unwrap();
                f.records(Codec::ZstdDictionary, &[name], &[(parts[5], stored), (b"0", b"0")]);
                f.add(put("0", parts[5]));
            })
        }),
        ("chunks", "an object in pieces", {
            with(|f| {
                let pieces = [f.rle_object(b'x', 300_000), f.rle_object(b'y', 400_000)];
                let (list, content) = list_of(&[&pieces[0], &pieces[1], &pieces[0]]);
                f.list(&list, content.name);
                let put = put_of("0", Some(content), Attributes::default());
                f.add(Entry::Put(put).encode());
            })
        }),
        ("tail", "two commits behind the last footer", pack(Index::Own, "end", |f| tail(f, 2))),
        ("torn", "the same with a third commit that was cut short", {
            let mut bytes = pack(Index::Own, "end", |f| tail(f, 3));
            bytes.truncate(bytes.len() - 40);
            bytes
        }),
        ("torn-zeros", "the length of a third commit, but zeros in a frame of it", {
            let two = pack(Index::Own, "end", |f| tail(f, 2)).len();
            let mut bytes = pack(Index::Own, "end", |f| tail(f, 3));
            bytes[two + 80..two + 88].fill(0);
            bytes
        }),
        ("torn-header", "a segment header of which only the magic arrived, behind the footer", {
            let mut bytes = pack(Index::Own, "end", |_| {});
            bytes.extend(pefc::format::segment::MAGIC);
            bytes.resize(bytes.len() + 56, 0);
            bytes
        }),
        ("skippable", "a frame of a kind that a reader may skip", {
            with(|f| ignore(f.frame(FrameKind::Skippable(200), Codec::Raw, &[], b"later", (0, 0))))
        }),
    ];
    let vectors =
        all.into_iter().map(|(name, comment, bytes)| Vector { name, expect: None, comment, bytes });
    vectors.collect()
}

fn second_half(f: &mut Forge, index: Index) {
    f.add_seal();
    f.flush();
    f.finish(index);
}

#[rustfmt::skip]
/// The faults of entries: each is a fault of the entry that was added.
fn entries() -> Vec<(&'static str, Rule, &'static str, Vec<u8>)> {
    use Rule::{Cbor, Entry as EntryRule, Key, Limit, Truncated};
    let plain = Attributes::default;
    let one = || Some(content_of(b"one"));
    vec![
        ("cbor_long-number", Cbor, "a number in more bytes than it needs", raw_attributes(b"\xa1\x0a\x18\x05")),
        ("cbor_indefinite", Cbor, "an array of indefinite length", raw_attributes(b"\xa1\x0a\x9f\xff")),
        ("cbor_tag", Cbor, "a tag", raw_attributes(b"\xa1\x0a\xc0\x60")),
        ("cbor_float", Cbor, "a float", raw_attributes(b"\xa1\x0a\xf9\x3c\x00")),
        ("cbor_undefined", Cbor, "the simple value undefined", raw_attributes(b"\xa1\x0a\xf7")),
        ("cbor_map-order", Cbor, "map keys out of order", raw_attributes(b"\xa2\x0b\x00\x0a\x00")),
        ("cbor_map-twice", Cbor, "a map key twice", raw_attributes(b"\xa2\x0a\x00\x0a\x00")),
        ("cbor_utf8", Cbor, "text that is not UTF-8", raw_attributes(b"\xa1\x04\x61\xff")),
        ("cbor_type", Cbor, "text where a number belongs", raw_attributes(b"\xa1\x01\x61\x31")),
        ("cbor_uid", Cbor, "a uid of 2^32", raw_attributes(b"\xa1\x02\x1b\x00\x00\x00\x01\x00\x00\x00\x00")),
        ("cbor_params", Cbor, "text as a key of the seal's attributes", {
            pack(Index::None, "flush", |f| {
                let seal = f.pending.last_mut().unwrap();
                seal.pop();
                seal.extend(b"\xa1\x60\x00");
            })
        }),
        ("cbor_depth", Limit, "17 arrays within each other", raw_attributes(&[&b"\xa1\x0a"[..], &[0x81; 17], b"\0"].concat())),
        ("cbor_count", Truncated, "an array with more items than there are bytes", raw_attributes(b"\xa1\x0a\x9a\xff\xff\xff\xff")),
        ("entry_version", EntryRule, "an entry of version 2", entry(b"\x85\x02\x02\x00\x41a\xf6".to_vec())),
        ("entry_type", EntryRule, "an entry of type 9", entry(b"\x85\x01\x09\x00\x41a\xf6".to_vec())),
        ("entry_items", EntryRule, "a del with an item more", entry(b"\x86\x01\x02\x00\x41a\xf6\x00".to_vec())),
        ("entry_space", EntryRule, "space 3", entry(b"\x85\x01\x02\x03\x41a\xf6".to_vec())),
        ("entry_file-without-content", EntryRule, "a regular file without content", entry_of(plain(), None)),
        ("entry_directory-with-content", EntryRule, "a directory with content", entry_of(Attributes { kind: FileKind::Directory, ..plain() }, one())),
        ("entry_kind-0", EntryRule, "the kind of a regular file, which must be left out", raw_attributes(b"\xa1\x00\x00")),
        ("entry_kind-8", EntryRule, "a kind that is not defined", raw_attributes(b"\xa1\x00\x08")),
        ("entry_mode", EntryRule, "a mode with a type of file", raw_attributes(b"\xa1\x01\x19\x81\xa4")),
        ("entry_nanoseconds", EntryRule, "nanoseconds without a time", raw_attributes(b"\xa1\x07\x01")),
        ("entry_nanoseconds-0", EntryRule, "nanoseconds of 0, which must be left out", raw_attributes(b"\xa2\x06\x00\x07\x00")),
        ("entry_target", EntryRule, "a regular file with a target", raw_attributes(b"\xa1\x08\x41a")),
        ("entry_no-target", EntryRule, "a symbolic link without a target", entry_of(Attributes { kind: FileKind::Symlink, ..plain() }, None)),
        ("entry_device", EntryRule, "a device with three numbers", raw_attributes(b"\xa1\x09\x83\x01\x01\x01")),
        ("entry_long", Limit, "an entry of more than 16 KiB", raw_attributes(&[&b"\xa1\x0a\x59\x40\x00"[..], &[0; 16384]].concat())),
        ("entry_sha256", EntryRule, "a SHA-256 that is not that of the content", {
            let mut put = put_of("d", one(), plain());
            put.sha256 = Some([7; 32]);
            entry(Entry::Put(put).encode())
        }),
        ("key_empty", Key, "a key without bytes", raw_key("")),
        ("key_long", Key, "a key of 4,097 bytes", raw_key(&"d".repeat(4097))),
        ("key_absolute", Key, "a path that begins with a slash", raw_key("/d")),
        ("key_dot-dot", Key, "a path that climbs", raw_key("d/../../e")),
        ("key_double-slash", Key, "a path with an empty part", raw_key("d//e")),
        ("key_zero", Key, "a path with a zero byte", raw_key("d\0")),
        ("content_size", Rule::Length, "a put with a size that is not its content's", entry_of(plain(), Some(Content { len: 4, ..content_of(b"one") }))),
        ("content_missing", Rule::MissingObject, "a put of a content that is not in the pack", raw_key_of(b"four")),
    ]
}

fn raw_key_of(content: &[u8]) -> Vec<u8> {
    entry(put("d", content))
}

#[rustfmt::skip]
fn faults() -> Vec<(&'static str, Rule, &'static str, Vec<u8>)> {
    use Index::{Merged, None as Bare, Own};
    let small = || pack(Bare, "end", |_| {});
    let objects = FrameKind::Objects;
    let mut all = vec![
        ("file_empty", Rule::SegmentMagic, "no bytes", Vec::new()),
        ("file_other", Rule::SegmentMagic, "another kind of file", [&b"PK\x03\x04"[..], &[0; 96]].concat()),
        ("file_text-mode", Rule::SegmentMagicMangled, "a transfer in text mode made CR LF into LF", patched(Bare, |b| ignore(b.remove(5)))),
        ("file_seven-bit", Rule::SegmentMagicMangled, "a transfer lost the eighth bit", patched(Bare, |b| b.iter_mut().for_each(|b| *b &= 127))),
        ("file_short", Rule::Truncated, "less than a segment header", small()[..40].to_vec()),
        ("file_header-only", Rule::Truncated, "a segment header and nothing else", small()[..64].to_vec()),
        ("file_no-commit", Rule::Truncated, "the end of the only commit is cut off", patched(Bare, |b| b.truncate(b.len() - 8))),
        ("segment_version", Rule::Version, "version 2", segment(8, b"\x02")),
        ("segment_feature", Rule::Feature, "an incompatible feature", segment(20, b"\x01")),
        ("segment_layout", Rule::Layout, "layout 2", segment(10, b"\x02")),
        ("segment_reserved", Rule::Reserved, "a reserved byte", segment(11, b"\x01")),
        ("segment_check", Rule::HeaderCheck, "a flipped bit in the check", patched(Bare, |b| b[63] ^= 1)),
        ("segment_offset", Rule::Offset, "another offset", segment(24, b"\x08")),
        ("segment_log-size", Rule::Chain, "a second segment with another log size", pack(Bare, "end", |f| { f.on_segment = Some(write_at(32, b"\x09")); second(f, Bare, &[]); })),
        ("segment_previous", Rule::Chain, "a second segment behind another commit", pack(Bare, "end", |f| { f.on_segment = Some(write_at(48, b"previous")); second(f, Bare, &[]); })),
        ("frame_magic", Rule::FrameMagic, "a frame without its magic", header(0, b"FRAM")),
        ("frame_check", Rule::HeaderCheck, "a flipped bit in the header", patched(Bare, |b| b[64 + 20] ^= 1)),
        ("frame_kind-0", Rule::FrameKind, "kind 0", header(4, b"\x00")),
        ("frame_kind-11", Rule::FrameKind, "a critical kind that is not defined", header(4, b"\x0b")),
        ("frame_codec", Rule::Codec, "codec 4", header(5, b"\x04")),
        ("frame_codec-of-kind", Rule::Codec, "objects with a dictionary", header(5, b"\x03")),
        ("frame_offset", Rule::Offset, "another offset", header(24, b"\x48")),
        ("frame_references", Rule::Reference, "references without a codec that has them", header(6, b"\x01")),
        ("frame_flags", Rule::Reserved, "a flag that is not defined", header(7, b"\x01")),
        ("frame_raw-limit", Rule::Limit, "a body of more than 16 MiB", header(12, b"\x01\x00\x00\x01")),
        ("frame_length", Rule::Length, "fewer bytes in the raw body than stored", header(12, b"\x01\x00\x00\x00")),
        ("frame_no-items", Rule::Limit, "no items", header(16, b"\x00")),
        ("frame_items", Rule::Length, "more items than bytes", header(16, b"\xff")),
        ("frame_ordinal", Rule::Chain, "another ordinal", header(20, b"\x01")),
        ("frame_previous", Rule::Chain, "another header before", header(64, b"previous")),
        ("frame_payload", Rule::StoredHash, "a flipped bit in the payload", patched(Bare, |b| b[144] ^= 1)),
        ("frame_padding", Rule::Padding, "padding that is not zero", patched(Bare, |b| { let at = 144 + 15; assert_eq!(b[at], 0); b[at] = 1; })),
        ("objects_empty", Rule::Length, "an empty object", body(objects, b"\x00\x01x", 2)),
        ("objects_overrun", Rule::Length, "an object that is longer than what is left", body(objects, b"\x01\x03xyz", 2)),
        ("objects_uvarint", Rule::Length, "a length in more bytes than it needs", body(objects, b"\x81\x00\x02xyz", 2)),
        ("objects_trailing", Rule::Trailing, "a byte behind the last object", body(objects, b"\x01\x01xyz", 2)),
        ("zstd_size", Rule::Compression, "another content size than the header's", zstd(&zstd_rle(b'z', 99), 100)),
        ("zstd_two", Rule::Compression, "two zstd frames", zstd(&[zstd_rle(b'z', 100), zstd_rle(b'z', 1)].concat(), 100)),
        ("zstd_behind", Rule::Compression, "a byte behind the zstd frame", zstd(&[&zstd_rle(b'z', 100)[..], b"\0"].concat(), 100)),
        ("zstd_skippable", Rule::Compression, "a skippable frame before the zstd frame", zstd(&[&b"\x50\x2a\x4d\x18\0\0\0\0"[..], &zstd_rle(b'z', 100)].concat(), 100)),
        ("zstd_block", Rule::Compression, "a block of the reserved type", zstd(b"\x28\xb5\x2f\xfd\xa0\x64\0\0\0\x27\x03\0z", 100)),
        ("zstd_short", Rule::Compression, "blocks that decode to less than the content size", zstd(b"\x28\xb5\x2f\xfd\xa0\x64\0\0\0\x1b\x03\0z", 100)),
        ("zstd_dictionary-id", Rule::Compression, "a dictionary id", zstd(b"\x28\xb5\x2f\xfd\xa1\x07\x64\0\0\0\x23\x03\0z", 100)),
        ("zstd_no-size", Rule::Compression, "no content size", zstd(b"\x28\xb5\x2f\xfd\x00\x00\x23\x03\0z", 100)),
        ("zstd_window", Rule::Limit, "a window of 32 MiB", zstd(b"\x28\xb5\x2f\xfd\x80\x78\x64\0\0\0\x23\x03\0z", 100)),
        ("records_prefix", Rule::ObjectName, "a row with the prefix of another record", with(|f| { f.on_payload = Some(write_at(0, b"another.")); f.records(Codec::Raw, &[], &[(b"r", b"r")]); })),
        ("records_overrun", Rule::Length, "a record that ends behind the body", with(|f| { f.on_payload = Some(write_at(8, b"\x09")); f.records(Codec::Raw, &[], &[(b"r", b"r")]); })),
        ("records_sum", Rule::Length, "rows that do not add up to the header's length", with(|f| { f.on_payload = Some(write_at(12, b"\x03")); f.records(Codec::Zstd, &[], &[(b"rr", b"rr")]); })),
        ("records_trailing", Rule::Trailing, "a byte behind the last record", with(|f| { f.on_payload = Some(write_at(8, b"\x01")); f.records(Codec::Raw, &[], &[(b"rr", b"rr")]); })),
        ("lists_one-chunk", Rule::ChunkList, "a list of one chunk", with(|f| {
            let piece = f.rle_object(b'x', 300_000);
            let (list, _) = list_of(&[&piece]);
            f.list(&list, Hash::of(b""));
        })),
        ("lists_sum", Rule::ChunkList, "chunks that do not add up", chunks(|_, list| list.chunks[1].len += 1)),
        ("lists_chunk-length", Rule::ChunkList, "two chunks with each other's length", chunks(|_, list| { list.chunks[0].len = 100_000; list.chunks[1].len = 200_000; })),
        ("lists_missing", Rule::MissingObject, "a chunk that is not in the pack", chunks(|_, list| list.chunks[1].name = Hash::of(b"four"))),
        ("lists_group", Rule::ChunkList, "a group value that its bytes do not give", chunks(|_, list| list.groups[1][0] ^= 1)),
        ("lists_trailing", Rule::Trailing, "a byte behind the list", {
            let (list, _) = list_of(&[&[b'x'; 200_000], &[b'y'; 100_000]]);
            let mut bytes = Vec::new();
            list.encode(&mut bytes);
            bytes.push(0);
            body(FrameKind::Lists, &bytes, 1)
        }),
        ("lists_count", Rule::Truncated, "more chunks than there are bytes", body(FrameKind::Lists, b"\x80\x80\x40\x7f", 1)),
        ("reference_missing", Rule::MissingObject, "a reference to an object that is not in the pack", with(|f| f.after(&[Hash::of(b"four")], b"four", &[b'p'; 200]))),
        ("reference_above", Rule::Reference, "a reference to an object of a later frame", with(|f| { f.after(&[Hash::of(b"later")], b"later", &[b'p'; 200]); f.objects(&[b"later"]); })),
        ("reference_deep", Rule::Reference, "four levels of references", with(|f| {
            let mut history = b"one".to_vec();
            for level in 0..4 {
                let content = vec![b'0' + level; 200];
                f.after(&[Hash::of(&history)], &history, &content);
                history = content;
            }
        })),
        ("reference_bytes", Rule::Limit, "references of more than 8 MiB", with(|f| {
            let long = f.rle_object(b'x', (8 << 20) + 1);
            f.after(&[Hash::of(&long)], b"", &[b'p'; 200]);
        })),
        ("reference_kind", Rule::Reference, "a dictionary that lies in a frame of objects", with(|f| f.records(Codec::ZstdDictionary, &[Hash::of(b"one")], &[(b"rr", b"rr")]))),
        ("dictionary_magic", Rule::Compression, "a dictionary that is none", with(|f| {
            f.frame(FrameKind::Dictionary, Codec::Raw, &[], b"no dictionary", (13, 1));
            f.records(Codec::ZstdDictionary, &[Hash::of(b"no dictionary")], &[(b"rr", b"rr")]);
        })),
        ("entries_head", Rule::Truncated, "a body without its head", body(FrameKind::Entries, b"four", 1)),
        ("entries_first-index", Rule::Length, "another first index", pack(Bare, "flush", |f| f.on_payload = Some(write_at(0, b"\x07")))),
        ("entries_trailing", Rule::Trailing, "a byte behind the last entry", pack(Bare, "flush", |f| f.on_header = Some(write_at(16, b"\x04")))),
        ("entries_order", Rule::LogOrder, "keys out of order though the frame says sorted", entry(put("0", b"one"))),
        ("entries_middle", Rule::LogOrder, "an entry without a key between the sorted ones", pack(Bare, "seal", |f| {
            let keys = Keys { sequence: 1, threshold: 0, vkeys: Vec::new(), revoked: Vec::new() };
            f.add(Entry::Keys(keys).encode());
            f.add(put("d", b"one"));
        })),
        ("log_no-genesis", Rule::LogOrder, "a log that begins with a put", pack(Bare, "puts", |f| f.pending.clear())),
        ("log_two-genesis", Rule::LogOrder, "a second genesis", pack(Bare, "puts", |f| f.add(genesis()))),
        ("log_del", Rule::LogOrder, "a del of a key that is not live", entry(del("d"))),
        ("log_behind-seal", Rule::LogOrder, "an entry behind the seal", pack(Bare, "flush", |f| f.add(put("d", b"one")))),
        ("log_root", Rule::LogRoot, "another frontier", commit(|c| c.frontier[0][0] ^= 1)),
        ("log_size", Rule::LogRoot, "another log size", commit(|c| c.log_size = 6)),
        ("seal_map-root", Rule::MapRoot, "another map root", pack(Bare, "seal", |f| f.on_seal = Some(Box::new(|s| s.map_root[0] ^= 1)))),
        ("seal_map-size", Rule::MapRoot, "another map size", pack(Bare, "seal", |f| f.on_seal = Some(Box::new(|s| s.map_size += 1)))),
        ("seal_objects", Rule::Seal, "another number of objects", pack(Bare, "seal", |f| f.on_seal = Some(Box::new(|s| s.object_count += 1)))),
        ("seal_bytes", Rule::Seal, "another number of bytes", pack(Bare, "seal", |f| f.on_seal = Some(Box::new(|s| s.object_bytes += 1)))),
        ("seal_previous", Rule::Seal, "a first seal with one before it", pack(Bare, "seal", |f| f.on_seal = Some(Box::new(|s| s.previous = Some((1, [0; 32])))))),
        ("seal_place", Rule::Seal, "a commit that names another entry as its seal", commit(|c| c.seal = c.seal.map(|seal| EntryPlace { locator: Locator::new(seal.frame_offset(), 0).unwrap(), ..seal }))),
        ("seal_check", Rule::Seal, "a commit that names the frame of its seal by another check", commit(|c| c.seal = c.seal.map(|seal| EntryPlace { check: *b"another.", ..seal }))),
        ("commit_number", Rule::Commit, "number 2 for the first commit", commit(|c| c.number = 2)),
        ("commit_generation", Rule::Commit, "fewer seals than the commit before", pack(Bare, "end", |f| second_with(f, |c| { c.generation = 0; c.seal = None; }))),
        ("commit_previous", Rule::Commit, "another commit before", pack(Bare, "end", |f| second_with(f, |c| { c.previous_commit += 8; }))),
        ("commit_previous-footer", Rule::Commit, "another footer before", pack(Bare, "end", |f| second_with(f, |c| c.previous_footer = 0))),
        ("commit_segment", Rule::Commit, "another segment", commit(|c| c.segment_offset = 8)),
        ("commit_covers-from", Rule::Commit, "a unit that does not begin with a segment", pack(Bare, "end", |f| second_with(f, |c| c.footer.as_mut().unwrap().covers_from -= 8))),
        ("commit_next-unit", Rule::Commit, "a unit below that is not the next one", pack(Bare, "end", |f| { second(f, Bare, &[]); second_with(f, |c| c.footer.as_mut().unwrap().next_unit = 64); })),
        ("commit_section-order", Rule::Commit, "sections out of order", pack(Own, "footer", |f| f.on_commit = Some(Box::new(|c| c.footer.as_mut().unwrap().sections.reverse())))),
        ("commit_one-section", Rule::Commit, "an object index without a key directory", pack(Own, "footer", |f| f.on_commit = Some(Box::new(|c| ignore(c.footer.as_mut().unwrap().sections.pop()))))),
        ("commit_not-a-footer", Rule::Commit, "a unit in an ordinary commit", pack(Bare, "end", |f| {
            f.begin();
            f.add_seal();
            f.flush();
            f.on_payload = Some(write_at(72, b"\0"));
            f.finish(Bare);
        })),
        ("commit_seal-check", Rule::Commit, "a check though there is no seal", { let mut f = Forge::default(); f.begin(); f.on_payload = Some(write_at(32, b"check")); f.commit(None); f.bytes }),
        ("commit_flags", Rule::Reserved, "a flag that is not defined", pack(Bare, "footer", |f| f.on_payload = Some(write_at(72, b"\x03")))),
        ("commit_reserved", Rule::Reserved, "a reserved byte", pack(Bare, "footer", |f| f.on_payload = Some(write_at(74, b"\x01")))),
        ("commit_length", Rule::Length, "eight bytes too many", pack(Bare, "footer", |f| f.on_payload = Some(Box::new(|p| { for _ in 0..8 { p.insert(80, 0); } })))),
        ("commit_short", Rule::Truncated, "less than the fixed parts", pack(Bare, "footer", |f| f.on_payload = Some(Box::new(|p| { p.drain(..p.len() - 96); })))),
        ("commit_trailer", Rule::Trailer, "a trailer without its magic", pack(Bare, "footer", |f| f.on_payload = Some(Box::new(|p| { let at = p.len() - 1; p[at] = b'D'; })))),
        ("commit_trailer-offset", Rule::Trailer, "a trailer of another frame", commit(|c| c.frame_offset += 8)),
        ("commit_seal", Rule::Seal, "a seal in an ordinary commit", pack(Bare, "footer", |f| {
            f.on_commit = Some(Box::new(|c| { c.generation = 0; c.seal = None; }));
            f.commit(None);
        })),
        ("unit_long", Rule::Limit, "a unit of more than 64 KiB without sections", with(|f| ignore(f.objects(&[&[b'x'; 66_000]])))),
        ("index_prefix", Rule::Index, "an object index with another prefix", pack(Own, "footer", |f| f.on_rows = Some(Box::new(|r| r[0].prefix = Hash::of(b"four").prefix())))),
        ("index_place", Rule::Index, "an object index with another place", pack(Own, "footer", |f| f.on_rows = Some(Box::new(|r| r[0].place = Locator::new(64, 9).unwrap())))),
        ("index_row", Rule::Index, "an object index without one of its rows", pack(Own, "footer", |f| f.on_rows = Some(Box::new(|r| ignore(r.pop()))))),
        ("index_fanout", Rule::Index, "another number of bits", pack(Own, "footer", |f| f.on_section = Some(write_at(8, b"\x03")))),
        ("index_keys", Rule::Index, "a key directory that counts other keys", pack(Own, "footer", |f| f.on_keys = Some(Box::new(|k| ignore(k.pop_last()))))),
        ("index_page", Rule::Index, "a page table that its page does not give", pack(Own, "footer", |f| f.on_section = Some(write_at(16, b"page")))),
        ("index_head", Rule::Index, "a footer with another hash of a head", pack(Own, "footer", |f| f.on_commit = Some(Box::new(|c| c.footer.as_mut().unwrap().sections[0].head_hash = Hash::of(b"head"))))),
        ("index_kind", Rule::Index, "a section row that names the other section", pack(Own, "footer", |f| f.on_commit = Some(Box::new(|c| { let s = &mut c.footer.as_mut().unwrap().sections; s[0].frame_offset = s[1].frame_offset; })))),
        ("index_stray", Rule::Index, "a section that no footer names", with(|f| { let (payload, _) = pefc::format::index::object_index(&[]); f.frame(FrameKind::ObjectIndex, Codec::Raw, &[], &payload, (payload.len(), 1)); })),
        ("keys_place", Rule::Index, "a key that leads to another entry", pack(Own, "end", |f| {
            f.on_keys = Some(Box::new(|keys| { let wrong = keys[&b"\0b"[..]].0; keys.get_mut(&b"\0a"[..]).unwrap().0 = wrong; }));
            second(f, Merged, &[put("d", b"one")]);
        })),
        ("keys_check", Rule::Index, "a key whose frame of entries has another check", pack(Own, "end", |f| {
            f.on_keys = Some(Box::new(|keys| keys.get_mut(&b"\0b"[..]).unwrap().0.check[0] ^= 1));
            second(f, Merged, &[put("d", b"one")]);
        })),
        ("index_check", Rule::Index, "a key directory that lists a frame by another check", pack(Own, "footer", |f| f.on_pages = Some(Box::new(|pages| pages[0].0.check[0] ^= 1)))),
        ("keys_missing", Rule::Index, "a page of keys without one of them", pack(Own, "end", |f| {
            f.on_keys = Some(Box::new(|keys| ignore(keys.pop_last())));
            second(f, Merged, &[put("d", b"one")]);
        })),
        ("keys_shared", Rule::Index, "a key that shares less than it could", pack(Own, "end", |f| {
            // The second row shares the space byte with the first.
            f.on_page = Some(Box::new(|page| { page[20..22].copy_from_slice(b"\x00\x02"); page.insert(22, 0); }));
            second(f, Merged, &[put("d", b"one")]);
        })),
        ("lists_later", Rule::MissingObject, "a chunk that only a later commit brings", pack(Bare, "puts", |f| {
            let pieces = [f.rle_object(b'x', 200_000), vec![b'y'; 100_000]];
            let (list, content) = list_of(&[&pieces[0], &pieces[1]]);
            f.list(&list, content.name);
            f.flush();
            f.commit(None);
            f.rle_object(b'y', 100_000);
        })),
        ("content_later", Rule::MissingObject, "a content that only a later commit brings", pack(Bare, "seal", |f| {
            f.add(put("d", b"later"));
            f.flush();
            f.commit(None);
            f.objects(&[b"later"]);
        })),
        ("tail_damage", Rule::StoredHash, "a flipped bit in a commit that two others follow", pack(Own, "end", |f| { let at = f.bytes.len() + 64 + 80; tail(f, 3); f.bytes[at] ^= 1; })),
        ("tail_kind", Rule::FrameKind, "a critical kind that is not defined, in the tail", pack(Own, "end", |f| { tail(f, 1); f.frame(FrameKind::Skippable(11), Codec::Raw, &[], b"later", (5, 1)); f.commit(None); })),
        ("tail_version", Rule::Version, "a segment of a later version behind the last footer", pack(Own, "end", |f| { f.on_segment = Some(write_at(8, b"\x02")); tail(f, 1); })),
        ("tail_reserved", Rule::Reserved, "a reserved byte in a segment header behind the last footer", pack(Own, "end", |f| { f.on_segment = Some(write_at(11, b"\x01")); tail(f, 1); })),
        ("tail_codec", Rule::Codec, "codec 4 in the tail", pack(Own, "end", |f| { f.on_header = Some(write_at(5, b"\x04")); tail(f, 1); })),
        ("tail_feature", Rule::Feature, "a segment with an incompatible feature behind the last footer", pack(Own, "end", |f| { f.on_segment = Some(write_at(20, b"\x01")); tail(f, 1); })),
    ];
    all.extend(entries());
    all.extend(signature_faults());
    all
}

fn second_with(f: &mut Forge, edit: impl FnOnce(&mut pefc::format::commit::Commit) + 'static) {
    f.begin();
    f.add_seal();
    f.flush();
    f.on_commit = Some(Box::new(edit));
    f.commit(Some(Footer { covers_from: f.segment, next_unit: f.footer, sections: Vec::new() }));
}

/// All vectors.
pub fn all() -> Vec<Vector> {
    let mut all = golden();
    all.extend(faults().into_iter().map(|(name, rule, comment, bytes)| Vector {
        name,
        expect: Some(rule),
        comment,
        bytes,
    }));
    all
}

/// The small pack with two signatures in the commit of its seal.
fn signed_pack() -> Forge {
    let mut f = Forge { flags: 1, ..Forge::default() };
    f.begin();
    f.objects(&CONTENTS);
    f.add(genesis());
    for (key, content) in ["a", "b", "c"].into_iter().zip(CONTENTS) {
        f.add(put(key, content));
    }
    f.add_seal();
    f.flush();
    f.signatures(&[b"first", b"second"]);
    f.finish(Index::Own);
    f
}

/// A segment with what `more` writes, and a footer without index.
fn sign_again(f: &mut Forge, more: impl FnOnce(&mut Forge)) {
    f.begin();
    more(f);
    f.finish(Index::None);
}

/// Signatures that are wrong in one way.
fn signature_faults() -> Vec<(&'static str, Rule, &'static str, Vec<u8>)> {
    let again = |more: fn(&mut Forge)| {
        let mut f = signed_pack();
        sign_again(&mut f, more);
        f.bytes
    };
    let item = |log_size: u64| Signature {
        log_size,
        origin: Cow::Borrowed(""),
        format: SignatureFormat::Note,
        value: Cow::Borrowed(b"third"),
    };
    let broken = |body: &[u8], rule: Rule, name: &'static str, comment: &'static str| {
        let mut f = signed_pack();
        let mut bytes = f.signed.map_or(0, |row| row.frame_offset).to_le_bytes().to_vec();
        bytes.extend(body);
        f.begin();
        let numbers = (bytes.len(), 1);
        let frame_offset = f.frame(FrameKind::Signatures, Codec::Raw, &[], &bytes, numbers);
        let head_hash = Hash::of(&bytes);
        f.signed = Some(Section { frame_offset, head_hash, ..f.signed.unwrap() });
        f.finish(Index::None);
        (name, rule, comment, f.bytes)
    };
    let frame = |previous: u64, log_size: u64| {
        let mut f = signed_pack();
        let items = [item(log_size)];
        sign_again(&mut f, |f| f.signatures_frame(previous, &items));
        f.bytes
    };
    let (newest, size) = {
        let f = signed_pack();
        (f.signed.unwrap().frame_offset, f.log.size())
    };
    let mut tail = signed_pack();
    tail.begin();
    tail.signatures(&[b"third"]);
    tail.commit(None);
    vec![
        (
            "signature_size",
            Rule::Signature,
            "a signature of a size at which the log was not sealed",
            frame(newest, size - 1),
        ),
        (
            "signature_previous",
            Rule::Signature,
            "a frame of signatures that passes over the one before",
            frame(0, size),
        ),
        (
            "signature_row",
            Rule::Signature,
            "a footer that names older signatures than the newest",
            again(|f| {
                let row = f.signed;
                f.signatures(&[b"third"]);
                f.signed = row;
            }),
        ),
        (
            "signature_no-row",
            Rule::Signature,
            "a footer that names no signatures, though there are some",
            again(|f| f.signed = None),
        ),
        (
            "signature_hash",
            Rule::Signature,
            "a footer with another hash of the signatures",
            again(|f| f.signed.as_mut().unwrap().head_hash = Hash::of(b"other")),
        ),
        ("signature_tail", Rule::Signature, "signatures covered by an ordinary commit", tail.bytes),
        broken(
            b"\x84\x05\x60\x00\x40",
            Rule::Signature,
            "signature_empty",
            "a signature without a value",
        ),
        broken(
            b"\x83\x05\x60\x00",
            Rule::Signature,
            "signature_items",
            "a signature of three items",
        ),
        broken(
            b"\x84\x05\x60\x18\x00\x41a",
            Rule::Cbor,
            "signature_cbor",
            "a number longer than needed",
        ),
        broken(
            b"\x84\x05\x60\x00\x41ab",
            Rule::Trailing,
            "signature_trailing",
            "a byte behind the last signature",
        ),
    ]
}

fn ignore<T>(_: T) {}
