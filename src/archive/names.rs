//! Names that another system would mangle or refuse. They are reported, never rewritten.

/// How many warnings a report holds; the others are only counted.
const WARNINGS_MAX: usize = 1000;

/// A key that can't be extracted everywhere as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortabilityWarning {
    /// The key.
    pub key: Vec<u8>,
    /// What is special about its last component.
    pub what: &'static str,
}

/// The warnings of one run.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    pub(super) list: Vec<PortabilityWarning>,
    pub(super) count: u64,
}

impl Warnings {
    pub(super) fn check(&mut self, key: &[u8]) {
        let name = key.rsplit(|byte| *byte == b'/').next().unwrap_or(key);
        let Some(what) = oddity(name) else { return };
        self.count += 1;
        if self.list.len() < WARNINGS_MAX {
            let key = key.to_vec();
            self.list.push(PortabilityWarning { key, what });
        }
    }
}

/// What Windows, or a file system made for it, does not keep of a name.
fn oddity(name: &[u8]) -> Option<&'static str> {
    if name.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Some("it holds control characters");
    }
    if name.iter().any(|byte| b"<>:\"\\|?*".contains(byte)) {
        return Some("it holds one of < > : \" \\ | ? *");
    }
    if name.ends_with(b".") || name.ends_with(b" ") {
        return Some("it ends with a dot or a space");
    }
    if std::str::from_utf8(name).is_err() {
        return Some("it is not UTF-8");
    }
    is_device(name).then_some("it is the name of a device on Windows")
}

/// `CON`, `nul.txt`, `COM1 .log` and so on.
fn is_device(name: &[u8]) -> bool {
    let stem = name.split(|byte| *byte == b'.').next().unwrap_or(name);
    let stem = stem.trim_ascii_end();
    let is = |device: &[u8]| stem.eq_ignore_ascii_case(device);
    match stem {
        [_, _, _] => is(b"con") || is(b"prn") || is(b"aux") || is(b"nul"),
        [port @ .., b'1'..=b'9'] => {
            port.eq_ignore_ascii_case(b"com") || port.eq_ignore_ascii_case(b"lpt")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_told_from_plain_ones() {
        for name in ["a.", "a ", "a:b", "a\\b", "nul", "Con.txt", "COM1", "lpt9.x", "a\n", "what?"]
        {
            assert!(oddity(name.as_bytes()).is_some(), "{name:?}");
        }
        assert!(oddity(b"caf\xe9").is_some());
        for name in ["a", ".a", "com", "com10", "console", "nul_", "a b", "é", "lpt0"] {
            assert_eq!(oddity(name.as_bytes()), None, "{name:?}");
        }
    }
}
