//! What several integration tests share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::cast_possible_truncation,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "each test binary compiles this module for itself and uses a part of it"
)]

pub mod example;
pub mod forge;
pub mod oracle;
pub mod python;
pub mod sim_fs;
pub mod vectors;

/// What `spec/reader.py verify` says of an intact pack, from the library.
pub fn summary(pack: &pefc::Pack) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let last = pack.commit();
    let nodes = last.frontier.clone();
    let log = pefc::tree::Frontier::from_parts(last.log_size, nodes).unwrap();
    let newest = pack.newest_generation().unwrap();
    format!(
        "ok generation={} log_size={} log_root={} map_root={} torn={}",
        last.generation,
        last.log_size,
        hex(&log.root()),
        newest.map_or("-".to_owned(), |newest| hex(&newest.map_root)),
        pack.torn_bytes(),
    )
}

/// What `spec/reader.py list` prints, from the library.
pub fn listing(pack: &pefc::Pack) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for space in 0..3 {
        for put in pack.entries_under(pefc::Key::new(space, b"".as_slice())) {
            let put = put.unwrap();
            let name = put.content.map_or("-".to_owned(), |content| content.name.to_string());
            let len = put.content.map_or(0, |content| content.len);
            let key: String = put.key.iter().map(|byte| escaped(*byte)).collect();
            writeln!(out, "{space} {name} {len} {key}").unwrap();
        }
    }
    out
}

fn escaped(byte: u8) -> String {
    match byte {
        b'\\' | 0..33 | 127.. => format!("\\x{byte:02x}"),
        _ => char::from(byte).to_string(),
    }
}
