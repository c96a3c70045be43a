//! Entries of the log: what is hashed, and what a signature covers.
//!
//! An entry is a CBOR array `[1, type, …]`. Its bytes as stored are the leaf of the log; they are
//! never written again from their meaning.

use super::cbor::{MapOrder, Reader, Writer};
use super::{ENTRY_BYTES_MAX, FormatError, KEY_BYTES_MAX, Result, Rule};
use crate::hash::Hash;
use std::borrow::Cow;

/// First item of every entry.
const ENTRY_VERSION: u64 = 1;

/// Key space of archive paths: the only one that extraction writes to a file system.
pub const SPACE_PATH: u8 = 0;
/// Key space of a storage's keys.
pub const SPACE_STORAGE: u8 = 1;
/// Key space of attestations and of what the system keeps for itself.
pub const SPACE_SYSTEM: u8 = 2;

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The first entry: which log this is.
    Genesis(Genesis<'a>),
    /// A key now has this value.
    Put(Put<'a>),
    /// A key is no longer there.
    Delete(Delete<'a>),
    /// The signers from here on.
    Keys(Keys<'a>),
    /// The live entries up to here, bound in one root.
    Seal(Seal<'a>),
}

/// `[1, 0, origin, nonce, threshold, vkeys, params]`: index 0, and only there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis<'a> {
    /// Name of the log in checkpoints; empty for `pefc/` and the nonce in hexadecimal digits.
    pub origin: Cow<'a, str>,
    /// Tells this log from every other one.
    pub nonce: [u8; 16],
    /// How many of the signers must sign; 0 for a log without signers.
    pub threshold: u64,
    /// Signers, as C2SP verifier keys.
    pub vkeys: Vec<Cow<'a, str>>,
    /// Parameters by number; none are defined. Their encoded pairs.
    pub params: RawPairs<'a>,
}

/// `[1, 1, space, key, b3, size, sha256, media type, attributes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put<'a> {
    /// Key space.
    pub space: u8,
    /// The key.
    pub key: Cow<'a, [u8]>,
    /// The content; `None` for what has none, such as a directory.
    pub content: Option<Content>,
    /// SHA-256 of the content, if it was asked for.
    pub sha256: Option<[u8; 32]>,
    /// Media type of the content.
    pub media_type: Option<Cow<'a, str>>,
    /// What else is known of it.
    pub attributes: Attributes<'a>,
}

/// A content's name and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Content {
    /// BLAKE3 of the content.
    pub name: Hash,
    /// Bytes of the content.
    pub len: u64,
}

/// `[1, 2, space, key, reason]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete<'a> {
    /// Key space.
    pub space: u8,
    /// The key, which is live before this entry.
    pub key: Cow<'a, [u8]>,
    /// Why, for people.
    pub reason: Option<Cow<'a, str>>,
}

/// `[1, 3, sequence, threshold, vkeys, revoked]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys<'a> {
    /// Number of this set of signers, from 1.
    pub sequence: u64,
    /// How many must sign.
    pub threshold: u64,
    /// The signers.
    pub vkeys: Vec<Cow<'a, str>>,
    /// Signers no longer trusted, each with the last log size at which it was.
    pub revoked: Vec<(Cow<'a, str>, u64)>,
}

/// `[1, 4, [map size, map root], [previous size, previous root] / null, [objects, bytes], time, attributes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal<'a> {
    /// Leaves of the map: live keys and the distinct contents they name.
    pub map_size: u64,
    /// SHA-256 root of the map.
    pub map_root: [u8; 32],
    /// Log size and log root at the seal before this one.
    pub previous: Option<(u64, [u8; 32])>,
    /// Distinct contents of live entries.
    pub object_count: u64,
    /// Their bytes, each content once.
    pub object_bytes: u64,
    /// Seconds since 1970, if the writer was told to record a time.
    pub time_s: Option<u64>,
    /// Attributes by number; none are defined. Their encoded pairs.
    pub attributes: RawPairs<'a>,
}

/// Encoded pairs of a map that this version gives no meaning to, kept as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawPairs<'a> {
    /// Number of pairs.
    pub count: usize,
    /// Their bytes, one after the other.
    pub bytes: Cow<'a, [u8]>,
}

impl RawPairs<'_> {
    fn into_owned(self) -> RawPairs<'static> {
        RawPairs { count: self.count, bytes: Cow::Owned(self.bytes.into_owned()) }
    }
}

/// What an archived file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum FileKind {
    /// A regular file.
    #[default]
    File = 0,
    /// A directory.
    Directory = 1,
    /// A symbolic link.
    Symlink = 2,
    /// Another name of a file whose entry comes earlier in key order.
    HardLink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A character device.
    CharDevice = 5,
    /// A block device.
    BlockDevice = 6,
    /// A socket.
    Socket = 7,
}

impl FileKind {
    const ALL: [Self; 8] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::HardLink,
        Self::Fifo,
        Self::CharDevice,
        Self::BlockDevice,
        Self::Socket,
    ];

    /// The name in tables and in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::HardLink => "hard-link",
            Self::Fifo => "fifo",
            Self::CharDevice => "char-device",
            Self::BlockDevice => "block-device",
            Self::Socket => "socket",
        }
    }
}

/// A time of a file system: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after that second, below 10^9.
    pub nanoseconds: u32,
}

/// Attributes of a put, by number. All are optional.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes<'a> {
    /// 0: what the file is; left out for a regular file.
    pub kind: FileKind,
    /// 1: permission bits, at most 0o7777.
    pub mode: Option<u32>,
    /// 2: user id.
    pub uid: Option<u32>,
    /// 3: group id.
    pub gid: Option<u32>,
    /// 4: user name.
    pub user: Option<Cow<'a, str>>,
    /// 5: group name.
    pub group: Option<Cow<'a, str>>,
    /// 6 and 7: time of last modification; nanoseconds are left out if they are 0.
    pub mtime: Option<FileTime>,
    /// 8: target of a symbolic link, or the key of the entry that a hard link names.
    pub target: Option<Cow<'a, [u8]>>,
    /// 9: major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Pairs with other numbers or with text keys, which sort behind.
    pub other: RawPairs<'a>,
}

impl Attributes<'_> {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Attributes::default()
    }

    /// The same, without borrowing.
    #[must_use]
    pub fn into_owned(self) -> Attributes<'static> {
        Attributes {
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            user: self.user.map(own_text),
            group: self.group.map(own_text),
            mtime: self.mtime,
            target: self.target.map(own_bytes),
            device: self.device,
            other: self.other.into_owned(),
        }
    }

    fn encode(&self, writer: &mut Writer) {
        let nanoseconds = self.mtime.map_or(0, |mtime| mtime.nanoseconds);
        let count = usize::from(self.kind != FileKind::File)
            + usize::from(self.mode.is_some())
            + usize::from(self.uid.is_some())
            + usize::from(self.gid.is_some())
            + usize::from(self.user.is_some())
            + usize::from(self.group.is_some())
            + usize::from(self.mtime.is_some())
            + usize::from(nanoseconds != 0)
            + usize::from(self.target.is_some())
            + usize::from(self.device.is_some());
        writer.map(count + self.other.count);
        if self.kind != FileKind::File {
            writer.uint(0).uint(self.kind as u64);
        }
        for (number, value) in [(1, self.mode), (2, self.uid), (3, self.gid)] {
            if let Some(value) = value {
                writer.uint(number).uint(value.into());
            }
        }
        for (number, value) in [(4, &self.user), (5, &self.group)] {
            if let Some(value) = value {
                writer.uint(number).text(value);
            }
        }
        if let Some(mtime) = self.mtime {
            writer.uint(6).int(mtime.seconds);
        }
        if nanoseconds != 0 {
            writer.uint(7).uint(nanoseconds.into());
        }
        if let Some(target) = &self.target {
            writer.uint(8).bytes(target);
        }
        if let Some((major, minor)) = self.device {
            writer.uint(9).array(2).uint(major.into()).uint(minor.into());
        }
        writer.raw(&self.other.bytes);
    }
}

impl<'a> Attributes<'a> {
    fn decode(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<Self> {
        let mut found = Self::default();
        let mut order = MapOrder::default();
        let count = reader.map()?;
        let (mut seconds, mut nanoseconds) = (None, None);
        for index in 0..count {
            let start = reader.clone();
            let known = order.key(reader, |key| {
                // Unknown attributes sort behind the known ones: numbers from 10, then text.
                let number = key.clone().uint();
                key.any().map(|_| number.ok().filter(|number| *number < 10))
            })?;
            let fault = Err(start.fault(Rule::Entry));
            match known {
                Some(0) => {
                    let number = reader.uint()?;
                    let kind = FileKind::ALL.into_iter().find(|kind| *kind as u64 == number);
                    match kind.filter(|kind| *kind != FileKind::File) {
                        Some(kind) => found.kind = kind,
                        None => return fault,
                    }
                }
                Some(1) => found.mode = Some(reader.uint32()?),
                Some(2) => found.uid = Some(reader.uint32()?),
                Some(3) => found.gid = Some(reader.uint32()?),
                Some(4) => found.user = Some(Cow::Borrowed(reader.text()?)),
                Some(5) => found.group = Some(Cow::Borrowed(reader.text()?)),
                Some(6) => seconds = Some(reader.int()?),
                Some(7) => nanoseconds = Some(reader.uint32()?),
                Some(8) => found.target = Some(Cow::Borrowed(reader.bytes()?)),
                Some(9) => {
                    if reader.array()? != 2 {
                        return fault;
                    }
                    found.device = Some((reader.uint32()?, reader.uint32()?));
                }
                Some(_) | None => {
                    reader.any()?;
                    for _ in index + 1..count {
                        order.key(reader, |key| key.any().map(drop))?;
                        reader.any()?;
                    }
                    let pairs = &bytes[start.position()..reader.position()];
                    found.other = RawPairs { count: count - index, bytes: Cow::Borrowed(pairs) };
                    break;
                }
            }
        }
        let fault = Err(reader.fault(Rule::Entry));
        found.mtime = match (seconds, nanoseconds) {
            (Some(seconds), nanoseconds) => {
                Some(FileTime { seconds, nanoseconds: nanoseconds.unwrap_or(0) })
            }
            (None, None) => None,
            (None, Some(_)) => return fault,
        };
        let nanoseconds_ok = nanoseconds.is_none_or(|ns| (1..1_000_000_000).contains(&ns));
        let mode_ok = found.mode.is_none_or(|mode| mode <= 0o7777);
        let has_target = matches!(found.kind, FileKind::Symlink | FileKind::HardLink);
        let has_device = matches!(found.kind, FileKind::CharDevice | FileKind::BlockDevice);
        let target_ok = found.target.as_ref().is_some_and(|target| !target.is_empty())
            == has_target
            && found.target.is_some() == has_target;
        if nanoseconds_ok && mode_ok && target_ok && found.device.is_some() == has_device {
            Ok(found)
        } else {
            fault
        }
    }
}

fn own_text(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn own_bytes(bytes: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
    Cow::Owned(bytes.into_owned())
}

impl Put<'_> {
    /// The same, without borrowing.
    #[must_use]
    pub fn into_owned(self) -> Put<'static> {
        Put {
            space: self.space,
            key: own_bytes(self.key),
            content: self.content,
            sha256: self.sha256,
            media_type: self.media_type.map(own_text),
            attributes: self.attributes.into_owned(),
        }
    }
}

/// The rules for keys of a space: 1 to 4,096 bytes; a path is relative, its parts are separated by
/// single slashes, none of them is `.` or `..`, and it holds no NUL.
pub fn check_key(space: u8, key: &[u8]) -> std::result::Result<(), Rule> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Rule::Key);
    }
    let is_path = key
        .split(|byte| *byte == b'/')
        .all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0));
    match space {
        SPACE_PATH if !is_path => Err(Rule::Key),
        SPACE_PATH | SPACE_STORAGE | SPACE_SYSTEM => Ok(()),
        _ => Err(Rule::Entry),
    }
}

impl<'a> Entry<'a> {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(ENTRY_BYTES_ABOUT);
        match self {
            Self::Genesis(genesis) => {
                writer.array(7).uint(ENTRY_VERSION).uint(0).text(&genesis.origin);
                writer.bytes(&genesis.nonce).uint(genesis.threshold).array(genesis.vkeys.len());
                texts_out(&mut writer, &genesis.vkeys);
                writer.map(genesis.params.count).raw(&genesis.params.bytes);
            }
            Self::Put(put) => {
                writer.array(9).uint(ENTRY_VERSION).uint(1).uint(put.space.into()).bytes(&put.key);
                match put.content {
                    Some(content) => writer.bytes(content.name.as_bytes()).uint(content.len),
                    None => writer.null().uint(0),
                };
                optional(&mut writer, put.sha256.as_ref(), |writer, hash| writer.bytes(hash));
                optional(&mut writer, put.media_type.as_ref(), |writer, t| writer.text(t));
                put.attributes.encode(&mut writer);
            }
            Self::Delete(delete) => {
                writer.array(5).uint(ENTRY_VERSION).uint(2).uint(delete.space.into());
                writer.bytes(&delete.key);
                optional(&mut writer, delete.reason.as_ref(), |writer, t| writer.text(t));
            }
            Self::Keys(keys) => {
                writer.array(6).uint(ENTRY_VERSION).uint(3).uint(keys.sequence);
                writer.uint(keys.threshold).array(keys.vkeys.len());
                texts_out(&mut writer, &keys.vkeys);
                writer.array(keys.revoked.len());
                for (vkey, size) in &keys.revoked {
                    writer.array(2).text(vkey).uint(*size);
                }
            }
            Self::Seal(seal) => {
                writer.array(7).uint(ENTRY_VERSION).uint(4);
                writer.array(2).uint(seal.map_size).bytes(&seal.map_root);
                optional(&mut writer, seal.previous.as_ref(), |writer, (size, root)| {
                    writer.array(2).uint(*size).bytes(root)
                });
                writer.array(2).uint(seal.object_count).uint(seal.object_bytes);
                optional(&mut writer, seal.time_s.as_ref(), |writer, time| writer.uint(*time));
                writer.map(seal.attributes.count).raw(&seal.attributes.bytes);
            }
        }
        writer.finish()
    }

    /// Reads the entry at the beginning of `bytes` and says how many bytes it takes.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, usize)> {
        let mut reader = Reader::new(bytes);
        let count = reader.array()?;
        if reader.uint()? != ENTRY_VERSION {
            return Err(reader.fault(Rule::Entry));
        }
        let kind = reader.uint()?;
        let entry = match (kind, count) {
            (0, 7) => Self::Genesis(Genesis {
                origin: Cow::Borrowed(reader.text()?),
                nonce: reader.byte_array()?,
                threshold: reader.uint()?,
                vkeys: texts(&mut reader)?,
                params: raw_pairs(&mut reader, bytes)?,
            }),
            (1, 9) => Self::Put(decode_put(&mut reader, bytes)?),
            (2, 5) => {
                let (space, key) = space_and_key(&mut reader)?;
                let reason = reader.optional(|reader| reader.text().map(Cow::Borrowed))?;
                Self::Delete(Delete { space, key, reason })
            }
            (3, 6) => Self::Keys(Keys {
                sequence: reader.uint()?,
                threshold: reader.uint()?,
                vkeys: texts(&mut reader)?,
                revoked: revoked(&mut reader)?,
            }),
            (4, 7) => Self::Seal(decode_seal(&mut reader, bytes)?),
            _ => return Err(reader.fault(Rule::Entry)),
        };
        if reader.position() > ENTRY_BYTES_MAX {
            let (found, most) = (reader.position() as u64, ENTRY_BYTES_MAX as u64);
            return Err(FormatError::numbers(Rule::Limit, 0, found, most));
        }
        Ok((entry, reader.position()))
    }
}

/// Most entries take no more: a short key, a name, a few numbers.
const ENTRY_BYTES_ABOUT: usize = 128;

impl Entry<'_> {
    /// The same, without borrowing.
    #[must_use]
    pub fn into_owned(self) -> Entry<'static> {
        let texts = |texts: Vec<Cow<'_, str>>| texts.into_iter().map(own_text).collect();
        match self {
            Self::Put(put) => Entry::Put(put.into_owned()),
            Self::Delete(delete) => Entry::Delete(Delete {
                space: delete.space,
                key: own_bytes(delete.key),
                reason: delete.reason.map(own_text),
            }),
            Self::Genesis(genesis) => Entry::Genesis(Genesis {
                origin: own_text(genesis.origin),
                nonce: genesis.nonce,
                threshold: genesis.threshold,
                vkeys: texts(genesis.vkeys),
                params: genesis.params.into_owned(),
            }),
            Self::Keys(keys) => Entry::Keys(Keys {
                sequence: keys.sequence,
                threshold: keys.threshold,
                vkeys: texts(keys.vkeys),
                revoked: keys.revoked.into_iter().map(|(key, at)| (own_text(key), at)).collect(),
            }),
            Self::Seal(seal) => {
                Entry::Seal(Seal { attributes: seal.attributes.into_owned(), ..seal })
            }
        }
    }
}

fn optional<T>(
    writer: &mut Writer,
    value: Option<T>,
    write: impl FnOnce(&mut Writer, T) -> &mut Writer,
) {
    match value {
        Some(value) => write(writer, value),
        None => writer.null(),
    };
}

fn texts_out(writer: &mut Writer, texts: &[Cow<'_, str>]) {
    for text in texts {
        writer.text(text);
    }
}

fn space_and_key<'a>(reader: &mut Reader<'a>) -> Result<(u8, Cow<'a, [u8]>)> {
    let start = reader.clone();
    let space = u8::try_from(reader.uint()?).map_err(|_| start.fault(Rule::Entry))?;
    let key = reader.bytes()?;
    check_key(space, key).map_err(|rule| start.fault(rule))?;
    Ok((space, Cow::Borrowed(key)))
}

fn decode_put<'a>(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<Put<'a>> {
    let (space, key) = space_and_key(reader)?;
    let name = reader.optional(Reader::byte_array)?;
    let start = reader.clone();
    let len = reader.uint()?;
    let content = name.map(|name| Content { name: Hash::from_bytes(name), len });
    let sha256 = reader.optional(Reader::byte_array)?;
    let media_type = reader.optional(|reader| reader.text().map(Cow::Borrowed))?;
    let attributes = Attributes::decode(reader, bytes)?;
    let is_file = attributes.kind == FileKind::File;
    let without_content = content.is_none() && len == 0 && sha256.is_none();
    if !(if is_file { content.is_some() } else { without_content }) {
        return Err(start.fault(Rule::Entry));
    }
    Ok(Put { space, key, content, sha256, media_type, attributes })
}

fn decode_seal<'a>(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<Seal<'a>> {
    let pair = |reader: &mut Reader<'a>| {
        if reader.array()? == 2 { Ok(()) } else { Err(reader.fault(Rule::Entry)) }
    };
    pair(reader)?;
    let (map_size, map_root) = (reader.uint()?, reader.byte_array()?);
    let previous = reader.optional(|reader| {
        pair(reader)?;
        Ok((reader.uint()?, reader.byte_array()?))
    })?;
    pair(reader)?;
    Ok(Seal {
        map_size,
        map_root,
        previous,
        object_count: reader.uint()?,
        object_bytes: reader.uint()?,
        time_s: reader.optional(Reader::uint)?,
        attributes: raw_pairs(reader, bytes)?,
    })
}

fn texts<'a>(reader: &mut Reader<'a>) -> Result<Vec<Cow<'a, str>>> {
    (0..reader.array()?).map(|_| reader.text().map(Cow::Borrowed)).collect()
}

fn revoked<'a>(reader: &mut Reader<'a>) -> Result<Vec<(Cow<'a, str>, u64)>> {
    (0..reader.array()?)
        .map(|_| match reader.array()? {
            2 => Ok((Cow::Borrowed(reader.text()?), reader.uint()?)),
            _ => Err(reader.fault(Rule::Entry)),
        })
        .collect()
}

fn raw_pairs<'a>(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<RawPairs<'a>> {
    let count = reader.map()?;
    let start = reader.position();
    let mut order = MapOrder::default();
    for _ in 0..count {
        order.key(reader, |key| key.uint().map(drop))?;
        reader.any()?;
    }
    Ok(RawPairs { count, bytes: Cow::Borrowed(&bytes[start..reader.position()]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(attributes: Attributes<'static>) -> Entry<'static> {
        let content = Some(Content { name: Hash::of(b"x"), len: 1 });
        let content = content.filter(|_| attributes.kind == FileKind::File);
        Entry::Put(Put {
            space: SPACE_PATH,
            key: Cow::Borrowed(b"dir/file"),
            content,
            sha256: None,
            media_type: Some("text/plain".into()).filter(|_| content.is_some()),
            attributes,
        })
    }

    fn examples() -> Vec<Entry<'static>> {
        let mtime = Some(FileTime { seconds: -5, nanoseconds: 7 });
        vec![
            Entry::Genesis(Genesis {
                origin: "example.org/log".into(),
                nonce: [7; 16],
                threshold: 1,
                vkeys: vec!["name+abc+def".into()],
                params: RawPairs { count: 1, bytes: Cow::Borrowed(&[0x01, 0x02]) },
            }),
            put(Attributes::default()),
            put(Attributes {
                mode: Some(0o644),
                uid: Some(0),
                gid: Some(u32::MAX),
                user: Some("root".into()),
                group: Some("wheel".into()),
                mtime,
                other: RawPairs { count: 2, bytes: Cow::Borrowed(&[0x0b, 0xf5, 0x61, b'a', 0x80]) },
                ..Attributes::default()
            }),
            put(Attributes {
                kind: FileKind::Symlink,
                target: Some(Cow::Borrowed(b"../\xff")),
                ..Attributes::default()
            }),
            put(Attributes {
                kind: FileKind::BlockDevice,
                device: Some((8, 1)),
                ..Attributes::default()
            }),
            Entry::Delete(Delete {
                space: 1,
                key: Cow::Borrowed(b"../k"),
                reason: Some("gone".into()),
            }),
            Entry::Keys(Keys {
                sequence: 1,
                threshold: 1,
                vkeys: vec!["a".into()],
                revoked: vec![("b".into(), 9)],
            }),
            Entry::Seal(Seal {
                map_size: 2,
                map_root: [1; 32],
                previous: Some((4, [2; 32])),
                object_count: 1,
                object_bytes: 100,
                time_s: Some(1),
                attributes: RawPairs::default(),
            }),
        ]
    }

    #[test]
    fn entries_come_back_as_they_were() {
        for entry in examples() {
            let bytes = entry.encode();
            let (decoded, len) = Entry::decode(&bytes).unwrap();
            assert_eq!((&decoded, len), (&entry, bytes.len()));
            assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn what_is_read_would_be_written_the_same() {
        // Every change of one byte is refused, or is another entry in its only encoding.
        for entry in examples() {
            let bytes = entry.encode();
            for at in 0..bytes.len() {
                for value in 0..=255 {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    if let Ok((other, len)) = Entry::decode(&changed) {
                        assert_eq!(other.encode(), &changed[..len]);
                    }
                }
                assert!(Entry::decode(&bytes[..at]).is_err());
            }
        }
    }

    #[test]
    fn a_second_reader_of_cbor_agrees() {
        for entry in examples() {
            let bytes = entry.encode();
            let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
            let mut again = Vec::new();
            ciborium::into_writer(&value, &mut again).unwrap();
            assert_eq!(again, bytes);
        }
    }

    #[test]
    fn keys_follow_the_rules_of_their_space() {
        for good in [&b"a"[..], b"a/b", b"a..b/...", b" ", b"\xff\xfe", b"a\nb", b"con"] {
            assert_eq!(check_key(SPACE_PATH, good), Ok(()), "{good:?}");
        }
        for bad in [&b""[..], b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"./a", b"a\0", b"/"] {
            assert_eq!(check_key(SPACE_PATH, bad), Err(Rule::Key), "{bad:?}");
        }
        assert_eq!(check_key(SPACE_STORAGE, b"../x\0"), Ok(()));
        assert_eq!(check_key(SPACE_STORAGE, &[b'k'; 4097]), Err(Rule::Key));
        assert_eq!(check_key(3, b"a"), Err(Rule::Entry));
    }

    #[test]
    fn attributes_must_fit_their_kind() {
        for (fault, attributes) in [
            (
                "a target on a file",
                Attributes { target: Some(Cow::Borrowed(b"x")), ..Attributes::default() },
            ),
            (
                "a link without target",
                Attributes { kind: FileKind::Symlink, ..Attributes::default() },
            ),
            (
                "a device without numbers",
                Attributes { kind: FileKind::CharDevice, ..Attributes::default() },
            ),
            ("mode with type bits", Attributes { mode: Some(0o100_644), ..Attributes::default() }),
        ] {
            let bytes = put(attributes).encode();
            assert_eq!(Entry::decode(&bytes).unwrap_err().rule, Rule::Entry, "{fault}");
        }
    }
}
