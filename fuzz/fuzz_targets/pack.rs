//! A whole file: opening, reading and verifying whatever it says. Start from the packs of the
//! specification: `cargo fuzz run pack ../spec/vectors`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::{Hash, Pack, VerifyOptions};

fuzz_target!(|data: &[u8]| {
    let Ok(pack) = Pack::from_bytes(data.to_vec()) else { return };
    for entry in pack.entries().flatten() {
        let Some(content) = entry.content else { continue };
        if let Ok(Some(bytes)) = pack.object(&content.name) {
            assert_eq!(Hash::of(&bytes), content.name);
        }
    }
    let _ = pack.generations();
    // The report may say anything; that there is one is the point.
    let options = VerifyOptions { threads: 1, ..VerifyOptions::default() };
    let _ = pack.verify(&options);
});
