//! Where a large object is cut: by its content, so that equal stretches give equal chunks.
//!
//! FastCDC (Xia et al., USENIX ATC 2016; the 2020 variant of the crate `fastcdc`, normalisation
//! level 1). A reader does not depend on the cuts: chunk lists say where they are.

use fastcdc::v2020::FastCDC;

/// Objects up to this long are not cut.
pub const WHOLE_BYTES_MAX: usize = 1 << 20;

/// Shortest chunk, but for the last one of an object.
pub const CHUNK_BYTES_MIN: usize = 256 << 10;

/// Length that chunks have on average.
pub const CHUNK_BYTES_AVERAGE: usize = 1 << 20;

/// Longest chunk.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Length of the first chunk of `bytes`, which are the rest of an object or at least
/// [`CHUNK_BYTES_MAX`] of it.
#[must_use]
pub fn first_chunk_len(bytes: &[u8]) -> usize {
    if bytes.len() <= CHUNK_BYTES_MIN {
        return bytes.len();
    }
    let window = &bytes[..bytes.len().min(CHUNK_BYTES_MAX)];
    let cutter = FastCDC::new(window, CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX);
    let (_, end) = cutter.cut(0, window.len());
    if end == 0 { window.len() } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(content: &[u8]) -> Vec<usize> {
        let mut at = 0;
        let mut cuts = Vec::new();
        while at < content.len() {
            at += first_chunk_len(&content[at..]);
            cuts.push(at);
        }
        cuts
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(b"chunk").finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn cuts_are_pinned() {
        // A release of the library that cuts elsewhere would end deduplication with older packs.
        assert_eq!(cuts(&noise(8 << 20)), [1_028_026, 2_537_672, 4_765_731, 6_775_301, 8_388_608]);
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let content = noise(16 << 20);
        let mut changed = content.clone();
        changed.splice(5_000_000..5_000_000, *b"inserted");
        let before = cuts(&content);
        let same = cuts(&changed)
            .into_iter()
            .filter(|cut| before.contains(cut) || before.contains(&(cut - 8)));
        assert!(same.count() >= before.len() - 3);
        assert!(before.iter().zip(&before[1..]).all(|(a, b)| b - a <= CHUNK_BYTES_MAX));
    }
}
