//! The frame round a representation (§9.6), block by block: what it says of itself is checked before memory is taken for it.

use super::error::RepresentationError;
use super::{MAX_BLOCK, MAX_WINDOW};
use alloc::vec::Vec;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read;

/// Magic number, descriptor and window descriptor.
const HEADER: usize = 6;
/// The magic number, and the one descriptor that is allowed: no content size, no checksum, no dictionary.
const START: [u8; 5] = [0x28, 0xB5, 0x2F, 0xFD, 0x00];
/// The header of a block.
const BLOCK_HEADER: usize = 3;

/// A frame that comes in pieces.
pub(super) struct Frame {
    decoder: FrameDecoder,
    state: State,
    /// The part of the frame that is being collected, at most one block.
    held: Vec<u8>,
    /// How long it is to become.
    wanted: usize,
    /// The largest block, stored and decoded: what the window holds.
    max_block: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    BlockHeader,
    Block(BlockHeader),
    Finished,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct BlockHeader {
    last: bool,
    compressed: bool,
}

impl Frame {
    pub(super) fn new() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            decoder,
            state: State::Header,
            held: Vec::new(),
            wanted: HEADER,
            max_block: 0,
        }
    }

    /// Takes bytes up to the end of the present part; gives how many.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let missing = self.wanted.saturating_sub(self.held.len());
        let now = bytes.get(..missing).unwrap_or(bytes);
        self.held.reserve_exact(missing);
        self.held.extend_from_slice(now);
        now.len()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// The next bytes of what was compressed; none where more of the frame is needed, or where it is at its end.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, RepresentationError> {
        loop {
            let length = self.decoder.read(out).map_err(|_| RepresentationError::Block)?;
            if length > 0 || self.is_finished() || self.held.len() < self.wanted {
                return Ok(length);
            }
            self.advance()?;
        }
    }

    /// Goes on to the next part: the present one is whole.
    fn advance(&mut self) -> Result<(), RepresentationError> {
        match self.state {
            State::Header => {
                let window = self.window()?;
                self.max_block = usize::try_from(window).unwrap_or(MAX_BLOCK).min(MAX_BLOCK);
                self.decoder.init(&*self.held).map_err(|_| RepresentationError::Frame)?;
                self.next(State::BlockHeader, BLOCK_HEADER);
            }
            State::BlockHeader => self.block_header()?,
            State::Block(header) => {
                if header.compressed {
                    self.check_sections().ok_or(RepresentationError::Block)?;
                }
                self.decoder
                    .decode_blocks(&*self.held, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|_| RepresentationError::Block)?;
                if header.last {
                    self.held = Vec::new();
                    self.next(State::Finished, 0);
                } else {
                    self.next(State::BlockHeader, BLOCK_HEADER);
                }
            }
            State::Finished => {}
        }
        Ok(())
    }

    fn next(&mut self, state: State, wanted: usize) {
        self.held.clear();
        (self.state, self.wanted) = (state, wanted);
    }

    /// The window that the header asks for.
    fn window(&self) -> Result<u64, RepresentationError> {
        let Some((window, [])) = self.held.strip_prefix(&START).and_then(<[u8]>::split_first) else {
            return Err(RepresentationError::Frame);
        };
        // Five bits of exponent and three of eighths (RFC 8878, 3.1.1.1.2).
        let base = 1u64 << (10 + (window >> 3));
        let window = base + base / 8 * u64::from(window & 7);
        if window > MAX_WINDOW {
            return Err(RepresentationError::Window);
        }
        Ok(window)
    }

    fn block_header(&mut self) -> Result<(), RepresentationError> {
        let &[low, middle, high] = &*self.held else {
            return Err(RepresentationError::Block);
        };
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = usize::try_from(header >> 3).unwrap_or(usize::MAX);
        let body = match (header >> 1) & 3 {
            0 | 2 => size,
            // One byte, so many times.
            1 => 1,
            _ => return Err(RepresentationError::Block),
        };
        if size > self.max_block {
            return Err(RepresentationError::Block);
        }
        self.wanted = BLOCK_HEADER + body;
        self.state = State::Block(BlockHeader {
            last: header & 1 == 1,
            compressed: (header >> 1) & 3 == 2,
        });
        Ok(())
    }

    /// Checks that a compressed block says of its literals and its sequences what a block of this size can have: the decoder
    /// takes memory for both by what is said (RFC 8878, 3.1.1.3).
    fn check_sections(&self) -> Option<()> {
        let body = self.held.get(BLOCK_HEADER..)?;
        let byte = |index: u64| {
            let index = usize::try_from(index).ok()?;
            body.get(index).map(|byte| u64::from(*byte))
        };
        let number = |bytes| (0..bytes).try_fold(0, |number, index| Some(number | (byte(index)? << (8 * index))));
        let (kind, format) = (byte(0)? & 3, (byte(0)? >> 2) & 3);
        let (header, regenerated, stored) = if kind < 2 {
            let (header, regenerated) = match format {
                0 | 2 => (1, number(1)? >> 3),
                1 => (2, number(2)? >> 4),
                _ => (3, number(3)? >> 4),
            };
            // As they are, or one byte so many times.
            (header, regenerated, if kind == 0 { regenerated } else { 1 })
        } else {
            let (header, bits) = match format {
                0 | 1 => (3, 10),
                2 => (4, 14),
                _ => (5, 18),
            };
            let (sizes, mask) = (number(header)? >> 4, (1 << bits) - 1);
            (header, sizes & mask, (sizes >> bits) & mask)
        };
        let at = header + stored;
        let sequences = match byte(at)? {
            few @ 0..128 => few,
            many @ 128..255 => ((many - 128) << 8) + byte(at + 1)?,
            _ => byte(at + 1)? + (byte(at + 2)? << 8) + 0x7F00,
        };
        // A sequence gives three bytes at least.
        let max = u64::try_from(self.max_block).ok()?;
        (regenerated <= max && sequences <= max / 3).then_some(())
    }
}
