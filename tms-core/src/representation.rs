//! Making representations of content (§9.6, §9.7): compressed, and as the difference to an earlier content.
//!
//! What is made here is for terminals with little memory: the window is that of the protocol, whatever a larger one would save.
//! All of it works in memory, and takes its time: run it where it may block.
//!
//! ```
//! use tms_core::representation;
//! use tms_proto::digest::Digest;
//!
//! let base: Vec<u8> = (0..20_000u32).flat_map(|word| (word * 7919).to_le_bytes()).collect();
//! let mut content = base.clone();
//! content[5_000] ^= 1;
//! let delta = representation::delta(&base, &content)?;
//! assert!(delta.len() < 200);
//! let size = content.len() as u64;
//! assert_eq!(representation::decode(&delta, Some(&base), size)?, Digest::of(&content));
//! # Ok::<(), representation::EncodeError>(())
//! ```

use bidiff::DiffParams;
use std::io;
use thiserror::Error;
use tms_proto::digest::{Digest, Hasher};
use tms_proto::representation::{Control, Decoder, MAX_WINDOW, RepresentationError, Step};
use zstd::bulk::Compressor;

/// The largest content, or base, that is represented, in bytes. A delta takes about eight times as much memory: the base, four
/// bytes for each of its bytes, the content, the differences, and what they are compressed to.
pub const MAX_CONTENT: u64 = 64 << 20;

/// How hard is tried: nearly as hard as zstd can.
const LEVEL: i32 = 19;

/// Why there is no representation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Compression failed.
    #[error("compression failed: {0}")]
    Compress(#[from] io::Error),
    /// Content or base are empty or larger than [`MAX_CONTENT`].
    #[error("content of {0} bytes is not represented")]
    Size(usize),
    /// What was made cannot be decoded.
    #[error("representation cannot be decoded: {0}")]
    Decode(#[from] RepresentationError),
}

/// The content, compressed (§9.6).
///
/// # Errors
/// [`EncodeError::Size`], [`EncodeError::Compress`].
pub fn zstd(content: &[u8]) -> Result<Vec<u8>, EncodeError> {
    check(content)?;
    compress(content)
}

/// The content, as the difference to `base` (§9.7).
///
/// # Errors
/// [`EncodeError::Size`], [`EncodeError::Compress`].
pub fn delta(base: &[u8], content: &[u8]) -> Result<Vec<u8>, EncodeError> {
    check(base)?;
    check(content)?;
    let mut stream = Vec::with_capacity(content.len());
    let mut before = 0;
    bidiff::diff(base, content, &DiffParams::default(), |found| {
        let parts = (
            base.get(found.add_old_start..found.add_old_start + found.add_length),
            content.get(found.add_new_start..found.copy_start()),
            content.get(found.copy_start()..found.copy_end),
        );
        let (Some(old), Some(new), Some(extra)) = parts else {
            return Err(io::Error::other("difference goes beyond the contents"));
        };
        if new.is_empty() && extra.is_empty() {
            return Ok(());
        }
        let control = Control {
            // Where nothing is taken of the base, there is no need to go anywhere.
            at: if old.is_empty() {
                before
            } else {
                length(found.add_old_start)
            },
            diff: length(old.len()),
            extra: length(extra.len()),
        };
        control.write(before, &mut stream);
        before = control.end();
        stream.extend(new.iter().zip(old).map(|(new, old)| new.wrapping_sub(*old)));
        stream.extend_from_slice(extra);
        Ok(())
    })?;
    compress(&stream)
}

/// The digest of what a representation gives, as a terminal decodes it: a delta against `base`, or compressed content.
///
/// # Errors
/// [`EncodeError::Decode`].
pub fn decode(object: &[u8], base: Option<&[u8]>, size: u64) -> Result<Digest, EncodeError> {
    let mut decoder = if base.is_some() {
        Decoder::delta(size)
    } else {
        Decoder::zstd(size)
    };
    let base = base.unwrap_or_default();
    let (mut rest, mut hasher) = (object, Hasher::new());
    loop {
        match decoder.step()? {
            Step::More if rest.is_empty() => return Err(RepresentationError::Short.into()),
            Step::More => rest = rest.get(decoder.push(rest)..).unwrap_or_default(),
            Step::Base { offset, length } => {
                let there = usize::try_from(offset).ok().and_then(|offset| base.get(offset..));
                let there = there.unwrap_or_default();
                decoder.base(there.get(..length).unwrap_or(there));
            }
            Step::Content(bytes) => hasher.update(bytes),
            Step::Done if rest.is_empty() => return Ok(hasher.finish()),
            Step::Done => return Err(RepresentationError::Trailing.into()),
        }
    }
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_contentsize(false)?;
    compressor.include_checksum(false)?;
    compressor.include_dictid(false)?;
    compressor.window_log(MAX_WINDOW.ilog2())?;
    Ok(compressor.compress(bytes)?)
}

fn check(content: &[u8]) -> Result<(), EncodeError> {
    if content.is_empty() || length(content.len()) > MAX_CONTENT {
        return Err(EncodeError::Size(content.len()));
    }
    Ok(())
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn comes_back(base: &[u8], content: &[u8]) -> (usize, usize) {
        let (size, digest) = (content.len() as u64, Digest::of(content));
        let zstd = zstd(content).unwrap();
        assert_eq!(decode(&zstd, None, size).unwrap(), digest);
        let delta = delta(base, content).unwrap();
        assert_eq!(decode(&delta, Some(base), size).unwrap(), digest);
        (zstd.len(), delta.len())
    }

    /// Words as a compiler leaves them: some often, some once.
    fn program(seed: u32) -> Vec<u8> {
        let word = |index: u32| index.wrapping_mul(2_654_435_761).rotate_left(index % 13) ^ (seed * (index % 97 / 96));
        (0..40_000)
            .flat_map(|index| word(index % 31_000).to_le_bytes())
            .collect()
    }

    #[test]
    fn what_changed_little_is_little() {
        let base = program(0);
        // Everything behind the middle has moved by some bytes, and addresses in it have changed.
        let mut content = program(7);
        content.splice(60_000..60_000, *b"a new function");
        let (zstd, delta) = comes_back(&base, &content);
        assert!(delta * 10 < zstd, "{delta} {zstd}");
    }

    #[test]
    fn edges_come_back() {
        let long = program(1);
        for (base, content) in [
            (&b"a"[..], &b"b"[..]),
            (b"a", &long),
            (&long, b"a"),
            (&long, &long),
            (&[0; 70_000], &[0; 50_000]),
            (&long[..16_384], &long[..16_384]),
            (&long[100_000..], &long[..100_000]),
        ] {
            comes_back(base, content);
        }
        assert!(matches!(zstd(b""), Err(EncodeError::Size(0))));
        assert!(matches!(delta(b"", b"a"), Err(EncodeError::Size(0))));
    }

    #[test]
    fn against_another_base_it_gives_something_else() {
        let (base, content) = (program(0), program(7));
        let delta = delta(&base, &content).unwrap();
        let size = content.len() as u64;
        let mut other = base.clone();
        other[1_000] ^= 1;
        assert_ne!(decode(&delta, Some(&other), size).unwrap(), Digest::of(&content));
        assert!(matches!(
            decode(&delta, Some(&base[..1_000]), size),
            Err(EncodeError::Decode(RepresentationError::Base))
        ));
        assert!(decode(&delta, None, size).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn whatever_it_is_comes_back(
            base in proptest::collection::vec(0..4u8, 1..3_000),
            cuts in proptest::collection::vec((0..3_000usize, 0..500usize, any::<u8>()), 1..20),
        ) {
            // Pieces of the base, in another order, with other bytes between them.
            let mut content = Vec::new();
            for (from, length, byte) in cuts {
                let from = from % base.len();
                content.extend_from_slice(&base[from..(from + length).min(base.len())]);
                content.push(byte);
            }
            comes_back(&base, &content);
        }
    }
}
