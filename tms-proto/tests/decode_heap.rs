//! How much memory a terminal takes to decode a representation: `docs/performance.md` states it, and this keeps it from growing.
//!
//! A binary of its own, with one test: the allocator counts for the whole process.

use peak_alloc::PeakAlloc;
use tms_proto::digest::{Digest, Hasher};
use tms_proto::representation::{Control, Decoder, RepresentationError, Step};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most that is held while this is decoded, from pieces of 1 KiB, and what came of it.
fn peak(make: impl FnOnce() -> Decoder, object: &[u8], base: &[u8]) -> (usize, Result<Digest, RepresentationError>) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = decode(make(), object, base);
    (ALLOCATOR.peak_usage() - before, result)
}

fn decode(mut decoder: Decoder, object: &[u8], base: &[u8]) -> Result<Digest, RepresentationError> {
    let (mut hasher, mut pieces, mut rest) = (Hasher::new(), object.chunks(1024), &b""[..]);
    loop {
        match decoder.step()? {
            Step::More if rest.is_empty() => rest = pieces.next().ok_or(RepresentationError::Short)?,
            Step::More => rest = &rest[decoder.push(rest)..],
            Step::Base { offset, length } => decoder.base(&base[offset as usize..][..length]),
            Step::Content(bytes) => hasher.update(bytes),
            Step::Done => return Ok(hasher.finish()),
        }
    }
}

fn frame(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(19).unwrap();
    compressor.include_contentsize(false).unwrap();
    compressor.include_checksum(false).unwrap();
    compressor.window_log(window_log).unwrap();
    compressor.compress(bytes).unwrap()
}

/// Bytes as a program has them: words that repeat, near and far, and some that do not.
fn program(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut word = |index: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 29 {
            0 => state,
            1..4 => (state >> 24) * 0x0101,
            _ => 0xE59F_0000 | (index % 700),
        }
    };
    (0..size as u32 / 4)
        .flat_map(|index| word(index).to_le_bytes())
        .collect()
}

/// A frame that makes a decoder hold as much as it can: a window, and then a block whose literals and sequences are as many as
/// may be stated, the first of which is the longest match that there is.
fn hostile() -> Vec<u8> {
    let header = |size: u32, kind: u32| (size << 3 | kind << 1).to_le_bytes();
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0x20];
    frame.extend_from_slice(&header(16_384, 0)[..3]);
    frame.extend_from_slice(&[7; 16_384]);
    let sequences = 5_461u32;
    let mut block = vec![];
    // Literals: one byte, 16,384 times.
    block.extend_from_slice(&(16_384u32 << 4 | 3 << 2 | 1).to_le_bytes()[..3]);
    block.push(9);
    // Sequences: all three codes are one byte each, for no literals, a repeated offset and the longest match.
    block.extend_from_slice(&[(sequences >> 8) as u8 + 128, sequences as u8, 0b0101_0100, 0, 0, 52]);
    block.extend_from_slice(&vec![0xFF; 2 * sequences as usize]);
    block.push(1);
    frame.extend_from_slice(&header(block.len() as u32, 2)[..3]);
    frame.extend_from_slice(&block);
    frame
}

#[test]
fn a_decoder_holds_no_more_than_is_stated() {
    let base = program(400_000);
    let mut content = base.clone();
    content.iter_mut().step_by(5_000).for_each(|byte| *byte ^= 1);
    let (digest, size) = (Digest::of(&content), content.len() as u64);
    let mut stream = Vec::new();
    let control = Control {
        at: 0,
        diff: size,
        extra: 0,
    };
    control.write(0, &mut stream);
    stream.extend(content.iter().zip(&base).map(|(new, old)| new.wrapping_sub(*old)));

    for (window_log, most) in [(10, 28_000), (12, 60_000), (14, 190_000)] {
        let (zstd, delta) = (frame(&content, window_log), frame(&stream, window_log));
        let (compressed, result) = peak(|| Decoder::zstd(size), &zstd, &[]);
        assert_eq!(result, Ok(digest));
        let (against, result) = peak(|| Decoder::delta(size), &delta, &base);
        assert_eq!(result, Ok(digest));
        println!("window 2^{window_log}: {compressed} bytes at most for zstd, {against} for a delta");
        assert!(compressed.max(against) < most, "2^{window_log}: {compressed} {against}");
    }

    let hostile = hostile();
    let (held, result) = peak(|| Decoder::zstd(1 << 30), &hostile, &[]);
    println!("hostile: {held} bytes at most");
    assert_eq!(result, Err(RepresentationError::Block));
    assert!((100_000..450_000).contains(&held), "{held}");
    // A window that is too large costs nothing.
    let (held, result) = peak(|| Decoder::zstd(1 << 30), &frame(&content, 20), &[]);
    assert_eq!(result, Err(RepresentationError::Window));
    assert!(held < 5_000, "{held}");
}
