//! Makes packs by hand, frame by frame, sound or with one fault in the right place: everything
//! around the fault is computed again, so that nothing else is wrong.

use pefc::Hash;
use pefc::format::commit::{Commit, Footer, Section};
use pefc::format::entry::{Attributes, Content, Delete, Entry, Genesis, Put, RawPairs, Seal};
use pefc::format::frame::{Codec, FrameHeader, FrameKind};
use pefc::format::index::{
    KeyRow, ListedFrame, ObjectRow, key_directory, object_index, put_key_row,
};
use pefc::format::object::{Chunk, ChunkList, RecordRow, put_lengths};
use pefc::format::segment::{Layout, SegmentHeader};
use pefc::format::signature::{self, Signature, SignatureFormat};
use pefc::format::{EntryPlace, Locator, check_of};
use pefc::hash::GroupHasher;
use pefc::tree::{Frontier, MapTree, Node, leaf_hash, sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;

type Edit<T> = Option<Box<dyn FnOnce(&mut T)>>;

/// What index the next footer has.
#[derive(Clone, Copy, PartialEq)]
pub enum Index {
    None,
    /// Of its own segment.
    Own,
    /// Of the whole pack.
    Merged,
}

/// A pack in the making. The edits are applied once, to the next thing of their kind.
#[derive(Default)]
pub struct Forge {
    pub bytes: Vec<u8>,
    pub segment: u64,
    pub previous: [u8; 8],
    pub ordinal: u32,
    pub last: (u64, [u8; 8]),
    pub number: u64,
    pub footer: u64,
    pub log: Frontier,
    pub generation: u64,
    pub seal: Option<EntryPlace>,
    pub sealed: Option<(u64, Node)>,
    pub live: BTreeMap<Vec<u8>, (Vec<u8>, Option<Content>)>,
    pub pending: Vec<Vec<u8>>,
    pub rows: Vec<ObjectRow>,
    pub keys: BTreeMap<Vec<u8>, (EntryPlace, bool)>,
    pub pages: Vec<(ListedFrame, Vec<u8>)>,
    pub flags: u8,
    /// The newest frame of signatures.
    pub signed: Option<Section>,
    /// Before the check is computed.
    pub on_segment: Edit<Vec<u8>>,
    pub on_header: Edit<Vec<u8>>,
    /// Before the stored hash is computed.
    pub on_payload: Edit<Vec<u8>>,
    pub on_commit: Edit<Commit>,
    pub on_seal: Edit<Seal<'static>>,
    pub on_rows: Edit<Vec<ObjectRow>>,
    pub on_keys: Edit<BTreeMap<Vec<u8>, (EntryPlace, bool)>>,
    /// The frames of a key directory.
    pub on_pages: Edit<Vec<(ListedFrame, Vec<u8>)>>,
    /// A page of keys.
    pub on_page: Edit<Vec<u8>>,
    /// The payload of a section, its head computed again or not.
    pub on_section: Edit<Vec<u8>>,
}

fn apply<T>(edit: &mut Edit<T>, to: &mut T) {
    if let Some(edit) = edit.take() {
        edit(to);
    }
}

pub fn genesis() -> Vec<u8> {
    Entry::Genesis(Genesis {
        origin: Cow::Borrowed(""),
        nonce: *b"sixteen of these",
        threshold: 0,
        vkeys: Vec::new(),
        params: RawPairs::default(),
    })
    .encode()
}

pub fn put_of<'a>(key: &str, content: Option<Content>, attributes: Attributes<'a>) -> Put<'a> {
    Put {
        space: 0,
        key: Cow::Owned(key.as_bytes().to_vec()),
        content,
        sha256: None,
        media_type: None,
        attributes,
    }
}

pub fn content_of(content: &[u8]) -> Content {
    Content { name: Hash::of(content), len: content.len() as u64 }
}

pub fn put(key: &str, content: &[u8]) -> Vec<u8> {
    Entry::Put(put_of(key, Some(content_of(content)), Attributes::default())).encode()
}

pub fn del(key: &str) -> Vec<u8> {
    Entry::Delete(Delete { space: 0, key: Cow::Borrowed(key.as_bytes()), reason: None }).encode()
}

/// A zstd frame of `len` times `byte`, made of RLE blocks: no compressor has a say in it.
pub fn zstd_rle(byte: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0]; // single segment, 4 bytes of content size
    out.extend((len as u32).to_le_bytes());
    let mut left = len;
    while left > 0 {
        let size = left.min(128 << 10);
        left -= size;
        let head = (size as u32) << 3 | 1 << 1 | u32::from(left == 0);
        out.extend(&head.to_le_bytes()[..3]);
        out.push(byte);
    }
    out
}

/// The list of an object of `pieces` and its name.
pub fn list_of(pieces: &[&[u8]]) -> (ChunkList, Content) {
    let mut hasher = GroupHasher::default();
    pieces.iter().for_each(|piece| hasher.update(piece));
    let (name, groups) = hasher.finish();
    let len = pieces.iter().map(|piece| piece.len() as u64).sum();
    let chunks =
        pieces.iter().map(|piece| Chunk { name: Hash::of(piece), len: piece.len() as u64 });
    let chunks = chunks.collect();
    let list = ChunkList { len, chunks, groups };
    (list, Content { name, len })
}

impl Forge {
    pub fn begin(&mut self) {
        let offset = self.bytes.len() as u64;
        let header = SegmentHeader {
            layout: Layout::Archive,
            compatible: 0,
            read_only_compatible: 0,
            offset,
            log_size: self.log.size(),
            previous_commit: self.last.0,
            previous: self.last.1,
        };
        let mut bytes = header.encode().to_vec();
        apply(&mut self.on_segment, &mut bytes);
        let check = check_of(&bytes[..56]);
        bytes[56..].copy_from_slice(&check);
        (self.segment, self.previous, self.ordinal) = (offset, check, 0);
        self.bytes.extend(bytes);
    }

    /// A frame of any kind; `raw_bytes` and `item_count` as they should be stated.
    pub fn frame(
        &mut self,
        kind: FrameKind,
        codec: Codec,
        references: &[Hash],
        body: &[u8],
        (raw_bytes, item_count): (usize, usize),
    ) -> u64 {
        let mut payload: Vec<u8> = Vec::new();
        for name in references {
            payload.extend(name.as_bytes());
        }
        payload.extend(body);
        apply(&mut self.on_payload, &mut payload);
        let header = FrameHeader {
            kind,
            codec,
            reference_count: references.len() as u8,
            flags: if kind == FrameKind::Entries { self.flags } else { 0 },
            stored_bytes: payload.len() as u32,
            raw_bytes: raw_bytes as u32,
            item_count: item_count as u32,
            ordinal: self.ordinal,
            offset: self.bytes.len() as u64,
            stored_hash: Hash::of(&payload),
            previous: self.previous,
        };
        let mut bytes = header.encode().to_vec();
        apply(&mut self.on_header, &mut bytes);
        self.previous = check_of(&bytes[..72]);
        bytes[72..].copy_from_slice(&self.previous);
        self.ordinal += 1;
        self.bytes.extend(bytes);
        self.bytes.extend(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        header.offset
    }

    /// Index rows of objects in the frame at `offset`.
    pub fn index(&mut self, offset: u64, names: impl IntoIterator<Item = Hash>) {
        for (item, name) in (0..).zip(names) {
            let place = Locator::new(offset, item).unwrap();
            self.rows.push(ObjectRow { prefix: name.prefix(), place });
        }
    }

    /// Objects, not compressed.
    pub fn objects(&mut self, contents: &[&[u8]]) -> u64 {
        let mut body = Vec::new();
        let lengths: Vec<u32> = contents.iter().map(|c| c.len() as u32).collect();
        put_lengths(&mut body, &lengths);
        body.extend(contents.concat());
        let numbers = (body.len(), contents.len());
        let offset = self.frame(FrameKind::Objects, Codec::Raw, &[], &body, numbers);
        self.index(offset, contents.iter().map(|content| Hash::of(content)));
        offset
    }

    /// One object of equal bytes, compressed.
    pub fn rle_object(&mut self, byte: u8, len: usize) -> Vec<u8> {
        let content = vec![byte; len];
        let stored = zstd_rle(byte, len);
        let offset = self.frame(FrameKind::Objects, Codec::Zstd, &[], &stored, (len, 1));
        self.index(offset, [Hash::of(&content)]);
        content
    }

    /// One object compressed after others.
    pub fn after(&mut self, names: &[Hash], history: &[u8], content: &[u8]) {
        let mut compressor = pefc::compress::Compressor::new(19).unwrap();
        let stored = compressor.compress_after(history, content).unwrap().unwrap();
        let numbers = (content.len(), 1);
        let codec = Codec::ZstdPrefix;
        let offset = self.frame(FrameKind::Objects, codec, names, &stored, numbers);
        self.index(offset, [Hash::of(content)]);
    }

    /// Records: each with its stored bytes.
    pub fn records(&mut self, codec: Codec, references: &[Hash], records: &[(&[u8], &[u8])]) {
        let (mut table, mut stored, mut raw) = (Vec::new(), Vec::new(), 0);
        for (content, bytes) in records {
            stored.extend_from_slice(bytes);
            raw += content.len();
            let row = RecordRow {
                prefix: Hash::of(content).prefix(),
                end: stored.len() as u32,
                raw_bytes: content.len() as u32,
            };
            table.extend(row.encode());
        }
        table.extend(stored);
        let numbers = (raw, records.len());
        let offset = self.frame(FrameKind::Records, codec, references, &table, numbers);
        self.index(offset, records.iter().map(|(content, _)| Hash::of(content)));
    }

    pub fn list(&mut self, list: &ChunkList, name: Hash) {
        let mut body = Vec::new();
        list.encode(&mut body);
        let numbers = (body.len(), 1);
        let offset = self.frame(FrameKind::Lists, Codec::Raw, &[], &body, numbers);
        self.index(offset, [name]);
    }

    /// An entry for the next frame of entries.
    pub fn add(&mut self, entry: Vec<u8>) {
        match Entry::decode(&entry).map(|(entry, _)| entry.into_owned()) {
            Ok(Entry::Put(put)) => {
                let key = [&[put.space], &*put.key].concat();
                self.live.insert(key, (entry.clone(), put.content));
            }
            Ok(Entry::Delete(del)) => {
                self.live.remove(&[&[del.space], &*del.key].concat());
            }
            _ => {}
        }
        self.pending.push(entry);
    }

    /// The seal of what is live.
    pub fn add_seal(&mut self) {
        let contents: BTreeMap<Hash, u64> =
            self.live.values().filter_map(|(_, c)| c.map(|c| (c.name, c.len))).collect();
        let mut map = MapTree::default();
        for (name, len) in &contents {
            let mut value = pefc::format::cbor::Writer::default();
            value.array(2).bytes(name.as_bytes()).uint(*len);
            map.push(&[b"h", name.as_bytes()], &sha256(&value.finish()));
        }
        for (key, (entry, _)) in &self.live {
            map.push(&[b"p", key], &sha256(entry));
        }
        let mut seal = Seal {
            map_size: map.size(),
            map_root: map.root(),
            previous: self.sealed,
            object_count: contents.len() as u64,
            object_bytes: contents.values().sum(),
            time_s: None,
            attributes: RawPairs::default(),
        };
        apply(&mut self.on_seal, &mut seal);
        self.pending.push(Entry::Seal(seal).encode());
        self.generation += 1;
    }

    /// Writes the frame of entries.
    pub fn flush(&mut self) {
        let mut body = self.log.size().to_le_bytes().to_vec();
        let run = std::mem::take(&mut self.pending);
        body.extend(run.concat());
        let numbers = (body.len(), run.len());
        let offset = self.frame(FrameKind::Entries, Codec::Raw, &[], &body, numbers);
        let mut first = true;
        for (item, entry) in (0..).zip(&run) {
            self.log.push(leaf_hash(entry));
            let place = self.place(offset, item);
            let (key, is_del) = match Entry::decode(entry).map(|(entry, _)| entry) {
                Ok(Entry::Put(put)) => ([&[put.space], &*put.key].concat(), false),
                Ok(Entry::Delete(del)) => ([&[del.space], &*del.key].concat(), true),
                Ok(Entry::Seal(_)) => {
                    self.seal = Some(place);
                    self.sealed = Some((self.log.size(), self.log.root()));
                    continue;
                }
                // A seal with a fault is the newest seal all the same.
                Err(_) if entry.starts_with(b"\x87\x01\x04") => {
                    self.seal = Some(place);
                    continue;
                }
                _ => continue,
            };
            if std::mem::take(&mut first) {
                self.pages.push((self.listed(offset), key.clone()));
            }
            self.keys.insert(key, (place, is_del));
        }
    }

    /// An entry of the frame that was written last.
    fn place(&self, offset: u64, item: u32) -> EntryPlace {
        EntryPlace { locator: Locator::new(offset, item).unwrap(), check: self.previous }
    }

    /// The frame that was written last.
    fn listed(&self, offset: u64) -> ListedFrame {
        ListedFrame { offset, check: self.previous }
    }

    fn section(&mut self, kind: FrameKind, (mut payload, mut head): (Vec<u8>, Hash)) -> Section {
        if let Some(edit) = self.on_section.take() {
            edit(&mut payload);
            head = Hash::of(&payload[..48.min(payload.len())]); // one page at most in a vector
        }
        let numbers = (payload.len(), 1);
        let frame_offset = self.frame(kind, Codec::Raw, &[], &payload, numbers);
        Section { kind: kind.number().into(), frame_offset, head_hash: head }
    }

    /// Signatures with these values, of the log at its newest seal.
    pub fn signatures(&mut self, values: &[&[u8]]) {
        let log_size = self.log.size();
        let item = |value: &&[u8]| Signature {
            log_size,
            origin: Cow::Borrowed(""),
            format: SignatureFormat::Note,
            value: Cow::Owned(value.to_vec()),
        };
        let items: Vec<Signature<'_>> = values.iter().map(item).collect();
        let previous = self.signed.map_or(0, |row| row.frame_offset);
        self.signatures_frame(previous, &items);
    }

    /// A frame of signatures that says what it is told.
    pub fn signatures_frame(&mut self, previous: u64, items: &[Signature<'_>]) {
        let body = signature::encode(previous, items);
        let numbers = (body.len(), items.len());
        let frame_offset = self.frame(FrameKind::Signatures, Codec::Raw, &[], &body, numbers);
        let kind = FrameKind::Signatures.number().into();
        self.signed = Some(Section { kind, frame_offset, head_hash: Hash::of(&body) });
    }

    /// A footer with this index.
    pub fn finish(&mut self, index: Index) {
        let merged = index == Index::Merged;
        let mut footer = Footer {
            covers_from: if merged { 0 } else { self.segment },
            next_unit: if merged { 0 } else { self.footer },
            sections: Vec::new(),
        };
        if index != Index::None {
            let covered = |offset: u64| offset >= footer.covers_from;
            let mut rows: Vec<ObjectRow> = self.rows.clone();
            rows.retain(|row| covered(row.place.frame_offset()));
            rows.sort_unstable();
            apply(&mut self.on_rows, &mut rows);
            let mut keys = self.keys.clone();
            keys.retain(|_, (place, is_del)| covered(place.frame_offset()) && !(merged && *is_del));
            let mut pages = self.pages.clone();
            pages.retain(|(frame, _)| covered(frame.offset));
            apply(&mut self.on_keys, &mut keys);
            if merged {
                let (mut body, mut previous) = (Vec::new(), Vec::new());
                for (key, (place, _)) in &keys {
                    let row = KeyRow { key: key.clone(), place: *place };
                    put_key_row(&mut body, &previous, &row);
                    previous.clone_from(key);
                }
                apply(&mut self.on_page, &mut body);
                let numbers = (body.len(), keys.len());
                let offset = self.frame(FrameKind::Keys, Codec::Raw, &[], &body, numbers);
                let first = keys.first_key_value().unwrap().0.clone();
                pages = vec![(self.listed(offset), first)];
            }
            apply(&mut self.on_pages, &mut pages);
            let objects = self.section(FrameKind::ObjectIndex, object_index(&rows));
            let directory = key_directory(&pages, keys.len() as u64);
            let directory = self.section(FrameKind::KeyDirectory, directory);
            footer.sections = vec![objects, directory];
        }
        footer.sections.extend(self.signed);
        self.commit(Some(footer));
    }

    /// A commit.
    pub fn commit(&mut self, footer: Option<Footer>) {
        let is_footer = footer.is_some();
        let offset = self.bytes.len() as u64;
        self.number += 1;
        let mut commit = Commit {
            number: self.number,
            log_size: self.log.size(),
            generation: self.generation,
            seal: self.seal,
            previous_commit: self.last.0,
            previous_footer: self.footer,
            footer,
            frontier: self.log.nodes().to_vec(),
            segment_offset: self.segment,
            frame_offset: offset,
        };
        apply(&mut self.on_commit, &mut commit);
        let payload = commit.encode();
        // An edit of the payload may change its length, which the header then states.
        let mut edited = payload.clone();
        apply(&mut self.on_payload, &mut edited);
        let numbers = (edited.len(), 1);
        self.frame(FrameKind::Commit, Codec::Raw, &[], &edited, numbers);
        self.last = (offset, self.previous);
        if is_footer {
            self.footer = offset;
        }
    }
}
