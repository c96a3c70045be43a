//! A segment header that decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::segment::{FIELDS, MAGIC, SegmentHeader};
use pefc::format::{VERSION, check_of};

fuzz_target!(|bytes: &[u8]| {
    let Some(bytes) = bytes.first_chunk::<{ SegmentHeader::LEN }>() else {
        return;
    };
    canonical(bytes);
    // Magic, version and check are no gates for a fuzzer: the same header with the right ones.
    let mut sealed = *bytes;
    sealed[..MAGIC.len()].copy_from_slice(&MAGIC);
    sealed[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&VERSION.to_le_bytes());
    let (header, check) = sealed.split_at_mut(SegmentHeader::LEN - 8);
    check.copy_from_slice(&check_of(header));
    canonical(&sealed);
});

fn canonical(bytes: &[u8; SegmentHeader::LEN]) {
    let (_, at, _) = FIELDS
        .into_iter()
        .find(|(name, ..)| *name == "offset")
        .expect("a header states its offset");
    let own = u64::from_le_bytes(*bytes[at..].first_chunk().expect("it is within the header"));
    for offset in [0, own] {
        if let Ok(header) = SegmentHeader::decode(bytes, offset) {
            assert_eq!(header.encode(), *bytes);
            assert_eq!(header.offset, offset);
        }
    }
}
