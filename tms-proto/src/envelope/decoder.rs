//! Finds envelopes in a stream of bytes.

use super::{Envelope, EnvelopeError, Frame};
use bytes::{Buf, BytesMut};
use core::mem;

/// Finds the frames in a stream of bytes.
///
/// After every [`push`](Self::push), call [`next`](Self::next) until it gives nothing: then no more is held than the
/// unfinished frame at the end, and no heap memory at all where there is none. Nothing is reserved for what a length only
/// announces.
///
/// An error is for ever: the stream has no mark by which a reader could find its way back, so the transport is to be closed.
/// Every later call gives the same error, and what is pushed after it is dropped.
#[derive(Debug)]
pub struct Decoder {
    envelope: Envelope,
    /// The unfinished frame, and what is not yet taken out.
    pub(super) buffer: BytesMut,
    /// Frames were taken out of `buffer`'s allocation since it was made.
    opened: bool,
    /// Bytes taken out of the stream before `buffer`.
    position: u64,
    keep_alives: u64,
    failed: Option<EnvelopeError>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            buffer: BytesMut::new(),
            opened: false,
            position: 0,
            keep_alives: 0,
            failed: None,
        }
    }

    /// The profile of the stream.
    #[must_use]
    pub const fn envelope(&self) -> Envelope {
        self.envelope
    }

    /// Takes in what came from the line, cut anywhere. The bytes are copied here, and not again where they hold whole
    /// frames: payloads point into the copy.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next frame, or `None` until more is pushed. Keep-alives are skipped and counted.
    ///
    /// # Errors
    /// What is wrong with the stream; see the [type](Self) for what follows.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator that gives nothing has ended; this one has not"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, EnvelopeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            match self.envelope.scan(&self.buffer) {
                Ok(Some(span)) if span.payload.is_empty() => {
                    self.keep_alives = self.keep_alives.saturating_add(1);
                    self.advance(span.total);
                    self.buffer.advance(span.total);
                    self.opened = true;
                }
                Ok(Some(span)) => {
                    self.advance(span.total);
                    let frame = if span.total == self.buffer.len() {
                        self.opened = false;
                        mem::take(&mut self.buffer)
                    } else {
                        self.opened = true;
                        self.buffer.split_to(span.total)
                    };
                    return Ok(Some(Frame {
                        tpdu: span.tpdu,
                        payload: frame.freeze().slice(span.payload),
                    }));
                }
                Ok(None) => {
                    self.release();
                    return Ok(None);
                }
                Err(error) => {
                    let error = EnvelopeError {
                        offset: self.position.saturating_add(error.offset),
                        ..error
                    };
                    self.failed = Some(error);
                    self.buffer = BytesMut::new();
                    return Err(error);
                }
            }
        }
    }

    /// How many keep-alives there were.
    #[must_use]
    pub const fn keep_alives(&self) -> u64 {
        self.keep_alives
    }

    /// How many bytes of unfinished frames are held: a stream that ends while there are some was cut.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn advance(&mut self, bytes: usize) {
        self.position = self.position.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Gives memory back: a few bytes left over must not hold on to a large allocation, nor none to any.
    fn release(&mut self) {
        if self.opened || self.buffer.is_empty() {
            self.buffer = if self.buffer.is_empty() {
                BytesMut::new()
            } else {
                BytesMut::from(&*self.buffer)
            };
            self.opened = false;
        }
    }
}
