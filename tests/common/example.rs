//! A pack as annotated hexadecimal digits, for the specification.

use pefc::format::commit::{Commit, FIXED_LEN, SECTION_LEN};
use pefc::format::frame::{FrameHeader, FrameKind};
use pefc::format::segment::SegmentHeader;
use pefc::format::{FormatError, object, take_uvarint};
use pefc::segment::{EntryTable, Resolved, decode_body};
use std::fmt::Write as _;

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    out: String,
}

impl Lines<'_> {
    /// The next `len` bytes, with what they are.
    fn take(&mut self, len: usize, what: &str) {
        let mut what = what;
        for line in self.bytes[self.at..self.at + len].chunks(16) {
            let text = format!("{:04x}  {:<48} {what}", self.at, hex(line));
            writeln!(self.out, "{}", text.trim_end()).unwrap();
            self.at += line.len();
            what = "";
        }
    }

    /// Bytes that are in the file in another form.
    fn aside(&mut self, bytes: &[u8], what: &str) {
        let mut what = what;
        for line in bytes.chunks(16) {
            let text = format!("   :  {:<48} {what}", hex(line));
            writeln!(self.out, "{}", text.trim_end()).unwrap();
            what = "";
        }
    }

    fn heading(&mut self, text: &str) {
        writeln!(self.out, "\n{text}").unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().unwrap()
}

fn entry_name(bytes: &[u8]) -> &'static str {
    ["genesis", "put", "del", "keys", "seal"][usize::from(bytes[2])]
}

/// The block between the marks in `spec/format.md`.
pub fn example(bytes: &[u8]) -> String {
    let mut lines = Lines { bytes, at: 0, out: String::new() };
    writeln!(lines.out, "segment header").unwrap();
    for (len, what) in [
        (8, "magic"),
        (4, "version, layout, reserved"),
        (12, "features"),
        (16, "offset, log_size"),
        (16, "previous_commit, previous"),
        (8, "check"),
    ] {
        lines.take(len, what);
    }
    assert_eq!(lines.at, SegmentHeader::LEN);
    while lines.at < bytes.len() {
        let offset = lines.at as u64;
        let header = FrameHeader::decode(&array(&bytes[lines.at..]), offset).unwrap();
        lines.heading(&format!("{} frame", header.kind.name()));
        for (len, what) in [
            (8, "magic, kind, codec, reference_count, flags"),
            (16, "stored_bytes, raw_bytes, item_count, ordinal"),
            (8, "offset"),
            (32, "stored_hash"),
            (16, "previous, check"),
        ] {
            lines.take(len, what);
        }
        let stored = header.stored_bytes as usize;
        let payload = &bytes[lines.at..lines.at + stored];
        if header.kind == FrameKind::Commit {
            commit(&mut lines, payload, offset).unwrap();
        } else {
            lines.take(stored, &format!("body, {}", header.codec.name()));
            let body = decode_body(&header, payload, &Resolved::Nothing).unwrap();
            match header.kind {
                FrameKind::Entries => entries(&mut lines, &header, &body),
                _ => objects(&mut lines, &header, &body).unwrap(),
            }
        }
        if header.padding() > 0 {
            lines.take(header.padding(), "padding");
        }
    }
    format!("```\n{}```\n", lines.out)
}

fn objects(lines: &mut Lines<'_>, header: &FrameHeader, body: &[u8]) -> Result<(), FormatError> {
    let mut at = 0;
    for _ in 0..header.item_count {
        take_uvarint(body, &mut at)?;
    }
    lines.aside(&body[..at], "decoded: lengths");
    for range in object::object_ranges(body, header.item_count)? {
        lines.aside(&body[range], "object");
    }
    Ok(())
}

fn entries(lines: &mut Lines<'_>, header: &FrameHeader, body: &[u8]) {
    let table = EntryTable::decode(header, body).unwrap();
    lines.aside(&body[..EntryTable::HEAD_LEN], "decoded: first_index");
    for item in 0..table.len() {
        let entry = table.entry(body, item).unwrap();
        lines.aside(entry, &format!("entry {item}, {}", entry_name(entry)));
    }
}

fn commit(lines: &mut Lines<'_>, payload: &[u8], offset: u64) -> Result<(), FormatError> {
    let commit = Commit::decode(payload, offset)?;
    for (len, what) in [
        (16, "number, log_size"),
        (16, "generation, seal"),
        (8, "seal_check"),
        (16, "previous_commit, previous_footer"),
        (16, "next_unit, covers_from"),
        (8, "flags, section_count, reserved"),
    ] {
        lines.take(len, what);
    }
    let sections = commit.footer.map_or(0, |footer| footer.sections.len());
    lines.take(sections * SECTION_LEN, "section rows");
    lines.take(commit.frontier.len() * 32, "frontier");
    lines.take(16, "segment_offset, frame_offset");
    lines.take(8, "magic");
    assert_eq!(payload.len(), FIXED_LEN + sections * SECTION_LEN + commit.frontier.len() * 32 + 24);
    Ok(())
}
