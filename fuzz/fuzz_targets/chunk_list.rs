//! Chunk lists that decode encode to the same bytes, and have a name. Input: count (8 bits), body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pefc::format::object::{Chunk, ChunkList};
use pefc::hash::{GROUP_BYTES, Hash};

fuzz_target!(|bytes: &[u8]| {
    if let Some((count, body)) = bytes.split_first() {
        canonical(body, u32::from(*count));
    }
    // Lengths that add up are hard to guess: a list that is right, but for one byte.
    if let Some(([at_low, at_high, flip], rest)) = bytes.split_first_chunk::<3>() {
        let mut body = Vec::new();
        list(rest).encode(&mut body);
        let at = usize::from(u16::from_le_bytes([*at_low, *at_high])) % body.len();
        body[at] ^= flip;
        canonical(&body, 1);
    }
});

/// A list of chunks with the lengths that `bytes` says, three bytes each.
fn list(bytes: &[u8]) -> ChunkList {
    let lengths = bytes.chunks_exact(3).take(64);
    let chunks: Vec<Chunk> = lengths
        .map(|length| Chunk {
            name: Hash::of(length),
            len: u64::from(u32::from_le_bytes([length[0], length[1], length[2], 0])),
        })
        .collect();
    let len = chunks.iter().map(|chunk| chunk.len).sum::<u64>();
    let groups = (0..len.div_ceil(GROUP_BYTES)).map(|_| [7; 32]).collect();
    ChunkList {
        len,
        chunks,
        groups,
    }
}

fn canonical(body: &[u8], count: u32) {
    let Ok(lists) = ChunkList::all(body, count) else {
        return;
    };
    let mut encoded = Vec::new();
    for list in &lists {
        assert!(list.name().is_some());
        let total: u64 = list.chunks.iter().map(|chunk| chunk.len).sum();
        assert_eq!(total, list.len);
        list.encode(&mut encoded);
    }
    assert_eq!(encoded, body);
}
