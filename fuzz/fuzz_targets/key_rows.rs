//! Rows of a page of keys that decode encode to the same bytes. Input: count (16 bits), body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::index::{key_rows, put_key_row};

fuzz_target!(|bytes: &[u8]| {
    let Some((count, body)) = bytes.split_first_chunk() else {
        return;
    };
    let count = u16::from_le_bytes(*count).into();
    let Ok(rows) = key_rows(body, count) else {
        return;
    };
    assert_eq!(rows.len(), count as usize);
    let mut encoded = Vec::new();
    let mut previous: &[u8] = &[];
    for row in &rows {
        assert!(previous < row.key.as_slice());
        put_key_row(&mut encoded, previous, row);
        previous = &row.key;
    }
    assert_eq!(encoded, body);
});
