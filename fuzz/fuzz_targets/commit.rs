//! A commit that decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::commit::{Commit, TRAILER_LEN, TRAILER_MAGIC, Trailer};

fuzz_target!(|bytes: &[u8]| {
    canonical(bytes);
    // The magic at the end is no gate for a fuzzer.
    let mut ended = bytes.to_vec();
    if let Some(magic) = ended.last_chunk_mut() {
        *magic = TRAILER_MAGIC;
        canonical(&ended);
    }
});

fn canonical(bytes: &[u8]) {
    let trailer = bytes.last_chunk::<TRAILER_LEN>().and_then(Trailer::decode);
    let own = trailer.map_or(0, |trailer| trailer.frame_offset);
    for frame_offset in [64, own] {
        if let Ok(commit) = Commit::decode(bytes, frame_offset) {
            assert_eq!(commit.encode(), bytes);
            assert_eq!(
                Some(commit.segment_offset),
                trailer.map(|t| t.segment_offset)
            );
        }
    }
}
