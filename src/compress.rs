//! zstd in and out, with every limit of the format: one frame, its exact size known beforehand,
//! optional history before it.
//!
//! This layer knows neither frames of a segment nor names.

use crate::format::{FormatError, Result, Rule, WINDOW_LOG_MAX};
use std::io;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DDict, ResetDirective};

/// Compression level unless told otherwise.
pub const LEVEL_DEFAULT: i32 = 3;

/// Levels that may be asked for.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// Binary logarithms of the two hash tables of the default level, for bodies of any length: what
/// zstd takes for 128 KiB. The ones that it takes for megabytes do not stay in a core's second-level
/// cache beside the data; these cost up to 1% of size and save a tenth to a fifth of the time.
const DEFAULT_HASH_LOGS: (u32, u32) = (16, 15);

/// Bytes of a sample that says whether a larger object is worth compressing.
const SAMPLE_BYTES: usize = 16 << 10;

/// Compresses bodies; keeps its context from one to the next.
pub struct Compressor {
    context: CCtx<'static>,
    level: i32,
    /// Reused, since a fresh buffer of the size of the worst case costs its pages every time.
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor of the given level, within [`LEVELS`].
    pub fn new(level: i32) -> io::Result<Self> {
        let level = level.clamp(*LEVELS.start(), *LEVELS.end());
        let mut context = context(level)?;
        if level == LEVEL_DEFAULT {
            let (long, short) = DEFAULT_HASH_LOGS;
            for parameter in [CParameter::HashLog(long), CParameter::ChainLog(short)] {
                context.set_parameter(parameter).map_err(zstd_error)?;
            }
        }
        Ok(Self { context, level, scratch: Vec::new() })
    }

    /// `raw` as one zstd frame, or `None` if that would not be shorter.
    pub fn compress(&mut self, raw: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if raw.len() >= 4 * SAMPLE_BYTES && !self.seems_compressible(raw)? {
            return Ok(None);
        }
        shorter(&mut self.context, &mut self.scratch, raw)
    }

    /// `raw` as one zstd frame whose history begins with `prefix`, or `None` if that would not be
    /// shorter.
    pub fn compress_after(&mut self, prefix: &[u8], raw: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut context = context(self.level)?;
        let window_log = (prefix.len() + raw.len()).next_power_of_two().ilog2();
        for parameter in [
            CParameter::WindowLog(window_log.clamp(10, WINDOW_LOG_MAX)),
            // Long-distance matching finds the old text anywhere in megabytes of history, which
            // the small hash tables of a fast level would have forgotten.
            CParameter::EnableLongDistanceMatching(true),
            CParameter::LdmHashLog(20),
            CParameter::LdmMinMatch(32),
            CParameter::LdmHashRateLog(4),
        ] {
            context.set_parameter(parameter).map_err(zstd_error)?;
        }
        context.ref_prefix(prefix).map_err(zstd_error)?;
        shorter(&mut context, &mut self.scratch, raw)
    }

    /// Whether a few samples shrink by a fiftieth at least. What does not is stored as it is, and
    /// found out at the cost of compressing the samples only.
    fn seems_compressible(&mut self, raw: &[u8]) -> io::Result<bool> {
        let last = raw.len() - SAMPLE_BYTES;
        for at in [0, last / 2, last] {
            let sample = &raw[at..at + SAMPLE_BYTES];
            let len = shorter(&mut self.context, &mut self.scratch, sample)?
                .map_or(SAMPLE_BYTES, |out| out.len());
            if len < SAMPLE_BYTES - SAMPLE_BYTES / 50 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn context(level: i32) -> io::Result<CCtx<'static>> {
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(false), // names and stored hashes are stronger
        CParameter::DictIdFlag(false),
    ] {
        context.set_parameter(parameter).map_err(zstd_error)?;
    }
    Ok(context)
}

fn shorter(
    context: &mut CCtx<'_>,
    scratch: &mut Vec<u8>,
    raw: &[u8],
) -> io::Result<Option<Vec<u8>>> {
    scratch.clear();
    scratch.reserve(zstd_safe::compress_bound(raw.len()));
    let len = context.compress2(scratch, raw).map_err(zstd_error)?;
    Ok((len < raw.len()).then(|| scratch.clone()))
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(format!("zstd: {}", zstd_safe::get_error_name(code)))
}

/// Compresses records on their own, under one dictionary.
pub struct RecordCompressor {
    inner: zstd::bulk::Compressor<'static>,
    /// Reused: see [`Compressor`].
    scratch: Vec<u8>,
}

impl std::fmt::Debug for RecordCompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordCompressor").finish_non_exhaustive()
    }
}

impl RecordCompressor {
    /// A compressor of the given level under `dictionary`, or under none.
    pub fn new(level: i32, dictionary: Option<&[u8]>) -> io::Result<Self> {
        let mut inner = zstd::bulk::Compressor::with_dictionary(level, dictionary.unwrap_or(&[]))?;
        inner.include_contentsize(true)?;
        inner.include_checksum(false)?;
        inner.include_dictid(false)?;
        Ok(Self { inner, scratch: Vec::new() })
    }

    /// The record as one zstd frame, valid until the next call; `None` if that would not be shorter.
    pub fn compress(&mut self, record: &[u8]) -> io::Result<Option<&[u8]>> {
        self.scratch.clear();
        self.scratch.reserve(zstd_safe::compress_bound(record.len()));
        let len = self.inner.compress_to_buffer(record, &mut self.scratch)?;
        Ok((len < record.len()).then_some(&*self.scratch))
    }
}

/// A dictionary for records like `samples`, at most `bytes_max` long; `None` if they are too few or
/// too unlike each other to train one.
#[must_use]
pub fn train_dictionary(samples: &[&[u8]], bytes_max: usize) -> Option<Vec<u8>> {
    let dictionary = zstd::dict::from_samples(samples, bytes_max).ok()?;
    Some(dictionary).filter(|dictionary| is_dictionary(dictionary))
}

/// Whether these bytes are a dictionary in zstd's own form.
#[must_use]
pub fn is_dictionary(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x37, 0xa4, 0x30, 0xec])
}

/// A dictionary that was made ready for decoding.
pub struct DecodeDictionary(DDict<'static>);

impl std::fmt::Debug for DecodeDictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecodeDictionary").finish_non_exhaustive()
    }
}

impl DecodeDictionary {
    /// Makes `dictionary` ready.
    pub fn new(dictionary: &[u8]) -> Result<Self> {
        let fault = FormatError::new(Rule::Compression, 0);
        if !is_dictionary(dictionary) {
            return Err(fault);
        }
        DDict::try_create(dictionary).map(Self).ok_or(fault)
    }
}

/// What a decoder starts from.
#[derive(Debug, Clone, Copy)]
pub enum History<'a> {
    /// Nothing.
    Empty,
    /// These bytes, as if they had been decoded just before.
    Prefix(&'a [u8]),
    /// A trained dictionary.
    Dictionary(&'a DecodeDictionary),
}

/// Decodes zstd frames; keeps its context from one to the next.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// A decoder.
    pub fn new() -> Result<Self> {
        let context = DCtx::try_create().ok_or(FormatError::new(Rule::Limit, 0))?;
        Ok(Self { context })
    }

    /// Decodes `stored`, which must be one frame of exactly `raw_bytes` bytes of content.
    pub fn decompress(
        &mut self,
        stored: &[u8],
        raw_bytes: usize,
        history: History<'_>,
    ) -> Result<Vec<u8>> {
        check_frame(stored, raw_bytes)?;
        let mut out = Vec::new();
        out.try_reserve_exact(raw_bytes).map_err(|_| FormatError::new(Rule::Limit, 0))?;
        let fault = |_| FormatError::new(Rule::Compression, 0);
        let len = match history {
            History::Empty => self.context.decompress(&mut out, stored).map_err(fault)?,
            History::Dictionary(dictionary) => self
                .context
                .decompress_using_ddict(&mut out, stored, &dictionary.0)
                .map_err(fault)?,
            History::Prefix(prefix) => {
                let mut context = DCtx::try_create().ok_or(FormatError::new(Rule::Limit, 0))?;
                context.ref_prefix(prefix).map_err(fault)?;
                context.decompress(&mut out, stored).map_err(fault)?
            }
        };
        if len != raw_bytes {
            let (found, expected) = (len as u64, raw_bytes as u64);
            return Err(FormatError::numbers(Rule::Compression, 0, found, expected));
        }
        Ok(out)
    }

    /// Decodes as much of a damaged frame as comes out, at most `raw_bytes`: for salvage, where
    /// every object is checked by name afterwards.
    #[must_use]
    pub fn decompress_damaged(&mut self, stored: &[u8], raw_bytes: usize) -> Vec<u8> {
        use zstd_safe::{InBuffer, OutBuffer};
        let mut out = vec![0; raw_bytes];
        let mut filled = 0;
        let mut input = InBuffer::around(stored);
        if self.context.reset(ResetDirective::SessionOnly).is_err() {
            return Vec::new();
        }
        loop {
            let end = (filled + SAMPLE_BYTES).min(raw_bytes);
            let mut output = OutBuffer::around(&mut out[filled..end]);
            let before = input.pos();
            let result = self.context.decompress_stream(&mut output, &mut input);
            let came = output.pos();
            filled += came;
            let ended = !matches!(result, Ok(hint) if hint != 0);
            if ended || filled == raw_bytes || (came == 0 && input.pos() == before) {
                break;
            }
        }
        // A context that has failed starts over.
        let _ = self.context.reset(ResetDirective::SessionOnly);
        out.truncate(filled);
        out
    }
}

/// Holds a zstd frame to what the format allows (RFC 8878, section 3.1.1): its content size is
/// stated and is `raw_bytes`, it names no dictionary, its window is within bounds, and it is all
/// there is.
fn check_frame(stored: &[u8], raw_bytes: usize) -> Result<()> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let fault = FormatError::new(Rule::Compression, 0);
    let descriptor = *stored.get(4).ok_or(fault)?;
    if !stored.starts_with(&MAGIC) || descriptor & 0x03 != 0 {
        return Err(fault);
    }
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let window = *stored.get(5).ok_or(fault)?;
        let base = 1_u64 << (10 + (window >> 3));
        let bytes = base + base / 8 * u64::from(window & 7);
        if bytes > 1 << WINDOW_LOG_MAX {
            return Err(FormatError::numbers(Rule::Limit, 5, bytes, 1 << WINDOW_LOG_MAX));
        }
    }
    let content = zstd_safe::get_frame_content_size(stored).ok().flatten();
    let frame_len = zstd_safe::find_frame_compressed_size(stored).map_err(|_| fault)?;
    if content != Some(raw_bytes as u64) || frame_len != stored.len() {
        return Err(fault);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u32, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut out = Vec::new();
        while out.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            out.extend_from_slice(
                format!("theorem t{} : {} ", state >> 20, state >> 28).as_bytes(),
            );
        }
        out.truncate(len);
        out
    }

    #[test]
    fn exactly_one_frame_of_the_stated_size() {
        let raw = text(1, 100_000);
        let stored = Compressor::new(3).unwrap().compress(&raw).unwrap().unwrap();
        let mut decoder = Decompressor::new().unwrap();
        assert_eq!(decoder.decompress(&stored, raw.len(), History::Empty).unwrap(), raw);
        for (bad, len) in [
            ([&stored[..], &stored].concat(), raw.len()),
            ([&stored[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat(), raw.len()),
            (stored[..stored.len() - 1].to_vec(), raw.len()),
            (stored.clone(), raw.len() + 1),
            (stored.clone(), raw.len() - 1),
            (Vec::new(), 0),
        ] {
            let error = decoder.decompress(&bad, len, History::Empty).unwrap_err();
            assert_eq!(error.rule, Rule::Compression);
        }
        // After an error the context still works.
        assert_eq!(decoder.decompress(&stored, raw.len(), History::Empty).unwrap(), raw);
    }

    #[test]
    fn history_makes_the_next_version_small() {
        let old = text(1, 3_000_000);
        let mut new = old[1_000_000..2_000_000].to_vec();
        for at in (0..new.len()).step_by(50_000) {
            new[at] ^= 1;
        }
        let mut compressor = Compressor::new(3).unwrap();
        let alone = compressor.compress(&new).unwrap().unwrap();
        let after = compressor.compress_after(&old, &new).unwrap().unwrap();
        assert!(after.len() * 20 < alone.len(), "{} against {}", after.len(), alone.len());
        let mut decoder = Decompressor::new().unwrap();
        let back = decoder.decompress(&after, new.len(), History::Prefix(&old)).unwrap();
        assert!(back == new);
        assert!(
            decoder.decompress(&after, new.len(), History::Prefix(&old[..old.len() - 1]))
                != Ok(new)
        );
    }

    #[test]
    fn noise_is_found_out_and_stays_raw() {
        let mut noise = vec![0_u8; 1 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(Compressor::new(3).unwrap().compress(&noise).unwrap(), None);
    }

    #[test]
    fn records_under_a_dictionary() {
        let records: Vec<Vec<u8>> = (0..2000).map(|seed| text(seed, 400)).collect();
        let samples: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let dictionary = train_dictionary(&samples, 16 << 10).unwrap();
        let again = train_dictionary(&samples, 16 << 10).unwrap();
        assert!(dictionary == again, "training is deterministic");
        let mut compressor = RecordCompressor::new(3, Some(&dictionary)).unwrap();
        let stored = compressor.compress(&records[7]).unwrap().unwrap();
        let ready = DecodeDictionary::new(&dictionary).unwrap();
        let mut decoder = Decompressor::new().unwrap();
        let back = decoder.decompress(stored, 400, History::Dictionary(&ready)).unwrap();
        assert!(back == records[7]);
        assert!(DecodeDictionary::new(b"no dictionary").is_err());
        assert_eq!(train_dictionary(&[b"a"], 1000), None);
    }

    #[test]
    fn the_beginning_of_a_damaged_frame_comes_out() {
        let raw = text(1, 2_000_000);
        let mut stored = Compressor::new(3).unwrap().compress(&raw).unwrap().unwrap();
        let at = stored.len() * 3 / 4;
        stored[at..at + 100].fill(0xff);
        let mut decoder = Decompressor::new().unwrap();
        let out = decoder.decompress_damaged(&stored, raw.len());
        let same = out.iter().zip(&raw).take_while(|(a, b)| a == b).count();
        assert!(same > raw.len() / 2, "{same} bytes");
    }
}
