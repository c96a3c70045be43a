//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Read once per process. Not NSS: users of LDAP, of `systemd-homed` or of another directory
//! service have no name here, which is the price of needing no C library and of giving the same
//! answer in a static binary. The number is always archived too.

use std::collections::HashMap;
use std::sync::OnceLock;

#[derive(Debug, Default)]
struct Table {
    names: HashMap<u32, String>,
    ids: HashMap<String, u32>,
}

impl Table {
    /// Lines `name:password:id:...`. The first of several wins, as in the C library. Anything
    /// else (comments, NIS lines with `+`, names that are not UTF-8) is passed over.
    fn parse(text: &[u8]) -> Self {
        let mut table = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else {
                continue;
            };
            let mut fields = line.split(':');
            let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else {
                continue;
            };
            let Ok(id) = id.parse() else { continue };
            if name.is_empty() || name.starts_with(['#', '+', '-']) {
                continue;
            }
            table.names.entry(id).or_insert_with(|| name.to_owned());
            table.ids.entry(name.to_owned()).or_insert(id);
        }
        table
    }

    fn load(path: &str) -> Self {
        Self::parse(&std::fs::read(path).unwrap_or_default())
    }
}

fn users() -> &'static Table {
    static USERS: OnceLock<Table> = OnceLock::new();
    USERS.get_or_init(|| Table::load("/etc/passwd"))
}

fn groups() -> &'static Table {
    static GROUPS: OnceLock<Table> = OnceLock::new();
    GROUPS.get_or_init(|| Table::load("/etc/group"))
}

/// The name of user `uid` in `/etc/passwd`, read once. Other sources (NSS) are not asked.
#[must_use]
pub fn user_name(uid: u32) -> Option<&'static str> {
    users().names.get(&uid).map(String::as_str)
}

/// The name of group `gid` in `/etc/group`, read once. Other sources (NSS) are not asked.
#[must_use]
pub fn group_name(gid: u32) -> Option<&'static str> {
    groups().names.get(&gid).map(String::as_str)
}

/// The user with this name in `/etc/passwd`, read once. Other sources (NSS) are not asked.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    users().ids.get(name).copied()
}

/// The group with this name in `/etc/group`, read once. Other sources (NSS) are not asked.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    groups().ids.get(name).copied()
}

/// Whether this process may do what only the superuser may, such as giving files away.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_wins_and_odd_lines_are_passed_over() {
        let table = Table::parse(
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n# c:x:7\n+nis:x:8:\n:x:9\nbad:x:-1\n\
              caf\xe9:x:10:\nshort\nann:x:1000:1000\nann:x:1001:\n",
        );
        assert_eq!(table.names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(table.ids.get("toor"), Some(&0));
        assert_eq!(table.ids.get("ann"), Some(&1000));
        assert_eq!(table.names.len(), 3, "{table:?}");
    }

    #[test]
    fn root_has_a_name_and_the_name_is_root() {
        assert_eq!(user_name(0), Some("root"));
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(group_name(0).and_then(group_id), Some(0));
        assert_eq!(user_name(u32::MAX - 7), None);
    }
}
