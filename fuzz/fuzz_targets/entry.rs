//! An entry that decodes encodes to the bytes that it took, and to no more than it may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::ENTRY_BYTES_MAX;
use pefc::format::entry::Entry;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    // Entries lie one after the other in a frame.
    while let Ok((entry, len)) = Entry::decode(rest) {
        assert!(0 < len && len <= ENTRY_BYTES_MAX);
        assert_eq!(entry.encode(), rest[..len]);
        if let Entry::Put(put) = entry.clone() {
            assert_eq!(Entry::Put(put.into_owned()), entry);
        }
        rest = &rest[len..];
    }
});
