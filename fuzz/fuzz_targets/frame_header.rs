//! A frame header that decodes encodes to the same bytes, and its arithmetic holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::frame::{FIELDS, FrameHeader, MAGIC};
use pefc::format::{ALIGN, Locator, check_of};

fuzz_target!(|bytes: &[u8]| {
    let Some(bytes) = bytes.first_chunk::<{ FrameHeader::LEN }>() else {
        return;
    };
    canonical(bytes);
    // Magic and check are no gates for a fuzzer: the same header with the right ones.
    let mut sealed = *bytes;
    sealed[..MAGIC.len()].copy_from_slice(&MAGIC);
    let (header, check) = sealed.split_at_mut(FrameHeader::LEN - 8);
    check.copy_from_slice(&check_of(header));
    canonical(&sealed);
});

fn canonical(bytes: &[u8; FrameHeader::LEN]) {
    let (_, at, _) = FIELDS
        .into_iter()
        .find(|(name, ..)| *name == "offset")
        .expect("a header states its offset");
    let own = u64::from_le_bytes(*bytes[at..].first_chunk().expect("it is within the header"));
    for offset in [64, own] {
        let Ok(header) = FrameHeader::decode(bytes, offset) else {
            continue;
        };
        assert_eq!(header.encode(), *bytes);
        assert_eq!(header.offset, offset);
        if offset % ALIGN == 0 && offset < Locator::OFFSET_END {
            let end = header.payload_end() + header.padding() as u64;
            assert_eq!(end, header.next_offset());
        }
    }
}
