//! The envelope side of a session: frames in, frames out.

use crate::envelope::{Decoder, Envelope, EnvelopeError, Frame, Tpdu};
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;

/// Bytes that sealing adds (§5.1).
const TAG: usize = 16;

pub(super) struct Line {
    envelope: Envelope,
    decoder: Decoder,
    tpdu: Option<Tpdu>,
    out: Vec<u8>,
}

impl Line {
    pub(super) fn new(envelope: Envelope, tpdu: Option<Tpdu>) -> Self {
        Self {
            envelope,
            decoder: Decoder::new(envelope),
            tpdu,
            out: Vec::new(),
        }
    }

    /// The largest record plaintext whose record fits into an envelope.
    pub(super) fn max_record(&self) -> usize {
        self.envelope.capacity().saturating_sub(TAG)
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    pub(super) fn next(&mut self) -> Result<Option<Frame>, EnvelopeError> {
        self.decoder.next()
    }

    /// Answers go back to where the last frame came from (§2.2).
    pub(super) fn answer_to(&mut self, frame: &Frame) {
        self.tpdu = frame.tpdu.map(Tpdu::swapped);
    }

    /// Makes room for `length` bytes of payload in several frames, and for the last of them twice: where it is sealed, what is
    /// sealed stands behind it.
    pub(super) fn reserve(&mut self, length: usize) {
        self.out
            .reserve(length + length / 32 + self.envelope.capacity().min(length));
    }

    pub(super) fn send(&mut self, payload: &[u8]) -> Result<(), EnvelopeError> {
        self.envelope.encode(self.tpdu, payload, &mut self.out)
    }

    /// As [`send`](Self::send), with a payload of `length` bytes that `fill` appends.
    pub(super) fn send_with<E: From<EnvelopeError>>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.envelope.encode_with(self.tpdu, length, &mut self.out, fill)
    }

    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| mem::take(&mut self.out).into())
    }
}
