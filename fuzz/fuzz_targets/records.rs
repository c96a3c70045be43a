//! Record rows tile the body behind their table, and the table encodes to the same bytes.
//! Input: count (8 bits), body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::object::RecordRow;

fuzz_target!(|bytes: &[u8]| {
    let Some((count, body)) = bytes.split_first() else {
        return;
    };
    let count = u32::from(*count);
    // Single rows of any body: no panic, and what is found is within the body.
    let found: Vec<_> = (0..=count)
        .map(|index| RecordRow::find(body, count, index))
        .collect();
    assert!(found[count as usize].is_err());
    // The sum of the lengths is no gate for a fuzzer: the one that the rows give.
    let total: u64 = found
        .iter()
        .flatten()
        .map(|(row, _)| u64::from(row.raw_bytes))
        .sum();
    let Ok(total) = u32::try_from(total) else {
        return;
    };
    let Ok(rows) = RecordRow::all(body, count, total) else {
        return;
    };
    assert!(RecordRow::all(body, count, total.wrapping_add(1)).is_err());
    let mut encoded: Vec<u8> = rows.iter().flat_map(|(row, _)| row.encode()).collect();
    for (_, stored) in rows {
        assert!(!stored.is_empty());
        assert_eq!(stored.start, encoded.len());
        encoded.extend_from_slice(&body[stored]);
    }
    assert_eq!(encoded, body);
});
