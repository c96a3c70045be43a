//! What a command prints: for people, or as JSON.

use super::args::Args;
use indicatif::{ProgressBar, ProgressStyle};
use pefc::format::entry::{FileKind, FileTime, Put};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// Standard output, and what the user wants on it.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn new(args: &Args) -> Self {
        let out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        Self { json: args.json, quiet: args.quiet, out }
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Prints one JSON object on a line.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Prints a line that was asked for.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Prints bytes that were asked for.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Prints a line that `--quiet` suppresses.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        if self.quiet || self.json { Ok(()) } else { self.line(text) }
    }

    /// Warns on standard error.
    pub(crate) fn warn(&self, text: &str) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr(), "warning: {text}");
    }

    /// Reports a failure on standard error.
    pub(crate) fn error(&mut self, error: &pefc::Error) {
        let mut text = String::new();
        if self.json {
            let report = ErrorReport {
                error: error.kind().name(),
                message: error.to_string(),
                path: error.path().map(|path| path.display().to_string()),
                rule: error.format().map(|format| format.rule.name()),
                fault: error.fault().map(|fault| fault.name()),
                offset: error.format().map(|format| format.offset),
                hint: error.hint(),
            };
            text = serde_json::to_string(&report).unwrap_or_default();
            text.push('\n');
        } else {
            let _ = writeln!(text, "error[{}]: {error}", error.kind());
            if let Some(hint) = error.hint() {
                let _ = writeln!(text, "  next: {hint}");
            }
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Whether somebody watches.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }

    /// A progress bar on a terminal, nothing elsewhere.
    pub(crate) fn progress(&self) -> Bar {
        Bar(self.shows_progress().then(|| {
            let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta}";
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(0);
            style.map_or(bar.clone(), |style| bar.with_style(style))
        }))
    }
}

#[derive(Serialize)]
struct ErrorReport {
    error: &'static str,
    message: String,
    path: Option<String>,
    rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    offset: Option<u64>,
    hint: Option<&'static str>,
}

/// Progress of a long command.
pub(crate) struct Bar(Option<ProgressBar>);

impl pefc::archive::Progress for Bar {
    fn total(&self, entry_count: u64, content_bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(content_bytes);
            bar.set_message(format!("{entry_count} entries"));
        }
    }

    fn advance(&self, _entry_count: u64, content_bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(content_bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A key as text that a terminal shows harmlessly: control characters and bytes that are no text
/// are escaped.
pub(crate) fn printable(key: &[u8]) -> String {
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'\\';
    if key.iter().all(is_plain) {
        return String::from_utf8_lossy(key).into_owned(); // nearly every key
    }
    let mut out = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                out.extend(character.escape_default());
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A key in JSON: text, and the bytes in hexadecimal digits where they are no text.
#[derive(Serialize)]
pub(crate) struct JsonKey {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
}

impl JsonKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        let key_hex = str::from_utf8(key).is_err().then(|| hex(key));
        Self { key: String::from_utf8_lossy(key).into_owned(), key_hex }
    }
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A number of bytes for people: 1,234 B, 5.6 KiB, 7.8 MiB.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 10_000 {
        return format!("{} B", number(bytes));
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 100.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number with separators between thousands.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// "1 file", "2 files".
pub(crate) fn count(value: u64, one: &str) -> String {
    let (stem, ending) = match one.strip_suffix('y') {
        Some(stem) if value != 1 && !stem.ends_with(['a', 'e', 'o', 'u']) => (stem, "ies"),
        _ => (one, if value == 1 { "" } else { "s" }),
    };
    format!("{} {stem}{ending}", number(value))
}

/// One number as a share of another: "4.13x".
pub(crate) fn ratio(whole: u64, part: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let ratio = whole as f64 / part.max(1) as f64;
    format!("{ratio:.2}x")
}

/// A file time as in ISO 8601, in UTC.
pub(crate) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| format!("@{seconds}"),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// The mode column of `ls -l`.
pub(crate) fn mode(put: &Put<'_>) -> String {
    let kind = match put.attributes.kind {
        FileKind::File | FileKind::HardLink => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Socket => 's',
    };
    let mut out = String::from(kind);
    if put.attributes.kind == FileKind::Symlink {
        return out + "rwxrwxrwx"; // links have no mode of their own
    }
    let Some(mode) = put.attributes.mode else {
        return out + "?????????";
    };
    for (shift, special, set, unset) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// Seconds and nanoseconds as in JSON: a decimal number as text.
pub(crate) fn exact_time(time: FileTime) -> String {
    format!("{}.{:09}", time.seconds, time.nanoseconds)
}
