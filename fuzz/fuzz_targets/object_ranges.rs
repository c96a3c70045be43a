//! Ranges of objects tile the body behind their length table, which encodes to the same bytes.
//! Input: count (16 bits), body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::object::{object_ranges, put_lengths};

fuzz_target!(|bytes: &[u8]| {
    let Some((count, body)) = bytes.split_first_chunk() else {
        return;
    };
    let count = u16::from_le_bytes(*count).into();
    let Ok(ranges) = object_ranges(body, count) else {
        return;
    };
    assert_eq!(ranges.len(), count as usize);
    let lengths: Vec<u32> = ranges
        .iter()
        .map(|range| u32::try_from(range.len()).expect("fuzzer inputs are small"))
        .collect();
    let mut encoded = Vec::new();
    put_lengths(&mut encoded, &lengths);
    for range in ranges {
        assert!(!range.is_empty());
        assert_eq!(range.start, encoded.len());
        encoded.extend_from_slice(&body[range]);
    }
    assert_eq!(encoded, body);
});
