//! The envelope (protocol §2): what stands round every payload so that the peer finds its end in a stream of bytes.
//!
//! ```text
//! bare        length payload
//! TPDU        length TPDU payload
//! delimited   STX length TPDU payload ETX LRC        (the TPDU only where the profile has one)
//! ```
//!
//! **What the length counts** (§2.1): the TPDU, where there is one, and the payload; where it is *inclusive*, the length
//! field itself as well. It never counts STX, ETX and LRC. **The LRC** (§2.3) is the exclusive or of every byte after STX
//! up to and including ETX.
//!
//! | profile | what stands on the line | what the length counts |
//! |---|---|---|
//! | [`Envelope::TCP`] | `length(2, big-endian) payload` | payload |
//! | [`Envelope::NAC`] | `length(2, big-endian) TPDU(5) payload` | TPDU and payload |
//! | [`Envelope::STX_BCD`] | `02 length(2, BCD) TPDU(5) payload 03 LRC` | TPDU and payload |
//!
//! **Keep-alives** (§2.4): an envelope without a payload is no message. It is written as a length that counts nothing
//! (not even a TPDU); one that holds a TPDU alone, and a length of zero in an inclusive profile, mean the same.
//!
//! ```
//! use tms_proto::envelope::{Decoder, Envelope};
//!
//! let mut line = Envelope::TCP.keep_alive();
//! Envelope::TCP.encode(None, b"payload", &mut line)?;
//!
//! let mut decoder = Decoder::new(Envelope::TCP);
//! decoder.push(&line);
//! let frame = decoder.next()?.unwrap();
//! assert_eq!(frame.payload, b"payload"[..]);
//! assert_eq!(decoder.next()?, None);
//! assert_eq!(decoder.keep_alives(), 1);
//! # Ok::<(), tms_proto::envelope::EnvelopeError>(())
//! ```

use alloc::vec::Vec;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use core::fmt;
use core::mem;
use core::ops::Range;

const STX: u8 = 0x02;
const ETX: u8 = 0x03;

/// How the length is written (§2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LengthForm {
    /// Two bytes, the high one first: up to 65,535.
    Big16,
    /// Two bytes, the low one first: up to 65,535.
    Little16,
    /// Four decimal digits in two bytes: up to 9,999.
    Bcd16,
    /// Four decimal digits in four ASCII characters: up to 9,999.
    Ascii4,
}

/// How payloads are put on a stream of bytes. A profile is a constant of this type.
///
/// A link of one's own is a profile with other values:
///
/// ```
/// use tms_proto::envelope::{Envelope, Tpdu};
///
/// const TMS: Envelope = Envelope {
///     tpdu: Some(Tpdu { destination: [0x01, 0x34], source: [0x00, 0x00] }),
///     ..Envelope::NAC
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// How the length is written.
    pub length: LengthForm,
    /// Whether the length counts its own field.
    pub inclusive: bool,
    /// The TPDU to send where [`encode`](Self::encode) is given none; `None` where frames have no TPDU at all.
    pub tpdu: Option<Tpdu>,
    /// Whether STX stands before, and ETX and LRC behind.
    pub delimited: bool,
    /// The largest payload to send or to take, in bytes; see also [`capacity`](Self::capacity).
    pub max: usize,
}

/// A transport protocol data unit header (§2.2): five bytes, `60`, destination and source.
///
/// Addresses are network international identifiers, four BCD digits each: NII 134 is `[0x01, 0x34]`. They are kept as they
/// came, for an access server may put its own mark in the place of the source, and wants it back unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tpdu {
    /// Where the frame goes.
    pub destination: [u8; 2],
    /// Where it comes from.
    pub source: [u8; 2],
}

/// One payload, and the TPDU that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The TPDU, in profiles that have one. A reply carries it [swapped](Tpdu::swapped).
    pub tpdu: Option<Tpdu>,
    /// The payload, never empty.
    pub payload: Bytes,
}

/// Why bytes are not an envelope, or a payload does not fit into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct EnvelopeError {
    /// What is wrong.
    pub kind: EnvelopeErrorKind,
    /// Where: counted from the first byte that a [`Decoder`] was given; zero where a payload does not fit.
    pub offset: u64,
}

/// What can be wrong with an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeErrorKind {
    /// A frame does not begin with STX.
    #[error("frame without start mark")]
    Stx,
    /// A length with digits that are none, below its own size, or too small for the TPDU.
    #[error("malformed length")]
    Length,
    /// A payload above [`Envelope::capacity`].
    #[error("payload too long")]
    TooLong,
    /// A TPDU that does not begin with `60`.
    #[error("malformed header")]
    Tpdu,
    /// No ETX where the length says that the frame ends.
    #[error("frame without end mark")]
    Etx,
    /// The check byte does not fit the frame.
    #[error("wrong check byte")]
    Lrc,
    /// Nothing to send: without a payload, a frame would be a keep-alive.
    #[error("empty payload")]
    Empty,
    /// A TPDU to be sent in a profile that has none.
    #[error("header not used on this link")]
    Unused,
}

impl LengthForm {
    /// Bytes of the length field.
    const fn width(self) -> usize {
        match self {
            Self::Big16 | Self::Little16 | Self::Bcd16 => 2,
            Self::Ascii4 => 4,
        }
    }

    /// The largest number that the field can hold.
    const fn limit(self) -> usize {
        match self {
            Self::Big16 | Self::Little16 => 65_535,
            Self::Bcd16 | Self::Ascii4 => 9_999,
        }
    }

    /// The field, in the first [`width`](Self::width) bytes.
    const fn write(self, length: u16) -> [u8; 4] {
        let [high, low] = length.to_be_bytes();
        let [_, a] = (length / 1000 % 10).to_be_bytes();
        let [_, b] = (length / 100 % 10).to_be_bytes();
        let [_, c] = (length / 10 % 10).to_be_bytes();
        let [_, d] = (length % 10).to_be_bytes();
        match self {
            Self::Big16 => [high, low, 0, 0],
            Self::Little16 => [low, high, 0, 0],
            Self::Bcd16 => [a << 4 | b, c << 4 | d, 0, 0],
            Self::Ascii4 => [b'0' + a, b'0' + b, b'0' + c, b'0' + d],
        }
    }

    /// The number in the field, or `None` where one of its digits is none.
    fn read(self, field: &[u8]) -> Option<usize> {
        match (self, field) {
            (Self::Big16, &[high, low]) | (Self::Little16, &[low, high]) => {
                Some(usize::from(u16::from_be_bytes([high, low])))
            }
            (Self::Bcd16, &[high, low]) => decimal([high >> 4, high & 0x0F, low >> 4, low & 0x0F]),
            (Self::Ascii4, &[a, b, c, d]) => decimal([a, b, c, d].map(|digit| digit.wrapping_sub(b'0'))),
            _ => None,
        }
    }
}

impl Tpdu {
    /// Bytes of a TPDU.
    pub const SIZE: usize = 5;

    const ID: u8 = 0x60;

    /// The TPDU of the reply: source and destination change places.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self {
            destination: self.source,
            source: self.destination,
        }
    }

    /// The five bytes on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::SIZE] {
        let ([a, b], [c, d]) = (self.destination, self.source);
        [Self::ID, a, b, c, d]
    }

    /// Reads the five bytes; `None` where the first is not `60`.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Option<Self> {
        match bytes {
            [Self::ID, a, b, c, d] => Some(Self {
                destination: [a, b],
                source: [c, d],
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Tpdu {
    /// Ten digits, as operators write it: `6001340000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Tpdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Envelope {
    /// TCP/IP: a big-endian length that counts the payload, and nothing else. Room for the largest record (§5.1).
    pub const TCP: Self = Self {
        length: LengthForm::Big16,
        inclusive: false,
        tpdu: None,
        delimited: false,
        max: 16_384 + 64,
    };

    /// An access server (NAC): as [`TCP`](Self::TCP), with a TPDU that the length counts.
    pub const NAC: Self = Self {
        tpdu: Some(Tpdu {
            destination: [0; 2],
            source: [0; 2],
        }),
        ..Self::TCP
    };

    /// The framing of the older terminal-management systems: `STX length(BCD) TPDU payload ETX LRC`. The length counts
    /// the TPDU and the payload.
    pub const STX_BCD: Self = Self {
        length: LengthForm::Bcd16,
        delimited: true,
        max: 9_999 - Tpdu::SIZE,
        ..Self::NAC
    };

    /// The largest payload that fits, in bytes: [`max`](Self::max), or what the length field can count where that is less.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        let limit = self.length.limit() - self.counted();
        if self.max < limit { self.max } else { limit }
    }

    /// The bytes that a frame has besides its payload.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        self.start() + self.length.width() + self.header() + self.tail()
    }

    /// Appends one frame to `out`, which is left as it was where that fails.
    ///
    /// `tpdu` is the one to send: the [swapped](Tpdu::swapped) one of the frame that is answered, or `None` for the
    /// profile's own.
    ///
    /// # Errors
    /// [`Empty`](EnvelopeErrorKind::Empty), [`TooLong`](EnvelopeErrorKind::TooLong) (above
    /// [`capacity`](Self::capacity)), and [`Unused`](EnvelopeErrorKind::Unused) (a TPDU, and the profile has none).
    pub fn encode(&self, tpdu: Option<Tpdu>, payload: &[u8], out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let length = self.check(tpdu, payload.len())?;
        out.reserve(self.overhead() + payload.len());
        self.write(length, tpdu.or(self.tpdu), payload, out);
        Ok(())
    }

    /// As [`encode`](Self::encode), with a payload of `length` bytes that `fill` appends: a record is sealed where it is
    /// sent from.
    pub(crate) fn encode_with<E: From<EnvelopeError>>(
        &self,
        tpdu: Option<Tpdu>,
        length: usize,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = out.len();
        let field = self.check(tpdu, length)?;
        let check = self.begin(field, tpdu.or(self.tpdu), out);
        let payload = out.len();
        if let Err(error) = fill(out) {
            out.truncate(start);
            return Err(error);
        }
        if self.delimited {
            let sum = out.get(payload..).map_or(0, exclusive_or);
            Self::end(check, sum, out);
        }
        Ok(())
    }

    /// One keep-alive (§2.4), to be sent as it is.
    #[must_use]
    pub fn keep_alive(&self) -> Vec<u8> {
        let own = u16::try_from(self.own()).unwrap_or_default();
        let mut out = Vec::with_capacity(self.overhead());
        self.write(own, None, &[], &mut out);
        out
    }

    /// The number for the length field, where the payload can be sent.
    pub(crate) fn check(&self, tpdu: Option<Tpdu>, payload: usize) -> Result<u16, EnvelopeError> {
        let kind = if payload == 0 {
            EnvelopeErrorKind::Empty
        } else if tpdu.is_some() && self.tpdu.is_none() {
            EnvelopeErrorKind::Unused
        } else if payload <= self.capacity()
            && let Ok(length) = u16::try_from(self.counted() + payload)
        {
            return Ok(length);
        } else {
            EnvelopeErrorKind::TooLong
        };
        Err(EnvelopeError { kind, offset: 0 })
    }

    /// Writes a frame whose length field says `length`.
    pub(crate) fn write(&self, length: u16, tpdu: Option<Tpdu>, payload: &[u8], out: &mut impl BufMut) {
        let check = self.begin(length, tpdu, out);
        out.put_slice(payload);
        if self.delimited {
            Self::end(check, exclusive_or(payload), out);
        }
    }

    /// Writes what stands before the payload, and gives its part of the LRC.
    fn begin(&self, length: u16, tpdu: Option<Tpdu>, out: &mut impl BufMut) -> u8 {
        let field = self.length.write(length);
        let field = field.get(..self.length.width()).unwrap_or(&field);
        let tpdu = tpdu.map(Tpdu::to_bytes);
        let tpdu = tpdu.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        if self.delimited {
            out.put_u8(STX);
        }
        out.put_slice(field);
        out.put_slice(tpdu);
        exclusive_or(field) ^ exclusive_or(tpdu)
    }

    /// Writes what stands behind the payload of a delimited frame, from both parts of the LRC.
    fn end(head: u8, payload: u8, out: &mut impl BufMut) {
        out.put_u8(ETX);
        out.put_u8(head ^ payload ^ ETX);
    }

    /// What the first bytes of a stream are: `None` while the first frame is not complete. The error's offset counts from
    /// the first of `bytes`.
    ///
    /// Everything is checked as soon as it is there, in the order in which it stands: how a stream was cut makes no
    /// difference to what is found, and a length is checked before anybody waits for what it announces.
    pub(crate) fn scan(&self, bytes: &[u8]) -> Result<Option<Span>, EnvelopeError> {
        let (start, width) = (self.start(), self.length.width());
        if self.delimited && bytes.first().is_some_and(|first| *first != STX) {
            return Err(fault(EnvelopeErrorKind::Stx, 0));
        }
        let Some(field) = bytes.get(start..start + width) else {
            return Ok(None);
        };
        let malformed = fault(EnvelopeErrorKind::Length, start);
        let stated = self.length.read(field).ok_or(malformed)?;
        let counted = match stated {
            0 => 0,
            more if self.inclusive => more.checked_sub(width).ok_or(malformed)?,
            more => more,
        };
        let header = if counted == 0 { 0 } else { self.header() };
        let payload = counted.checked_sub(header).ok_or(malformed)?;
        if payload > self.max {
            return Err(fault(EnvelopeErrorKind::TooLong, start));
        }
        let begin = start + width;
        let end = begin + counted;
        if header > 0 && bytes.get(begin).is_some_and(|id| *id != Tpdu::ID) {
            return Err(fault(EnvelopeErrorKind::Tpdu, begin));
        }
        if self.delimited && bytes.get(end).is_some_and(|mark| *mark != ETX) {
            return Err(fault(EnvelopeErrorKind::Etx, end));
        }
        let total = end + self.tail();
        let Some(frame) = bytes.get(..total) else {
            return Ok(None);
        };
        // The exclusive or over a sound frame without its STX, check byte included, is zero.
        if self.delimited && exclusive_or(frame) != STX {
            return Err(fault(EnvelopeErrorKind::Lrc, end + 1));
        }
        let tpdu = frame
            .get(begin..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .and_then(Tpdu::from_bytes);
        let tpdu = if header > 0 { tpdu } else { None };
        Ok(Some(Span {
            total,
            tpdu,
            payload: begin + header..end,
        }))
    }

    const fn start(&self) -> usize {
        if self.delimited { 1 } else { 0 }
    }

    const fn header(&self) -> usize {
        if self.tpdu.is_some() { Tpdu::SIZE } else { 0 }
    }

    const fn tail(&self) -> usize {
        if self.delimited { 2 } else { 0 }
    }

    /// What the length counts besides the payload.
    const fn counted(&self) -> usize {
        self.header() + self.own()
    }

    /// What the length counts of itself.
    const fn own(&self) -> usize {
        if self.inclusive { self.length.width() } else { 0 }
    }
}

/// Where the parts of one whole frame are. A keep-alive has an empty payload.
pub(crate) struct Span {
    pub(crate) total: usize,
    pub(crate) tpdu: Option<Tpdu>,
    pub(crate) payload: Range<usize>,
}

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
    buffer: BytesMut,
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

fn fault(kind: EnvelopeErrorKind, offset: usize) -> EnvelopeError {
    EnvelopeError {
        kind,
        offset: u64::try_from(offset).unwrap_or(u64::MAX),
    }
}

fn decimal(digits: [u8; 4]) -> Option<usize> {
    digits.into_iter().try_fold(0, |value, digit| {
        (digit <= 9).then_some(10 * value + usize::from(digit))
    })
}

fn exclusive_or(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |check, byte| check ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const FORMS: [LengthForm; 4] = [
        LengthForm::Big16,
        LengthForm::Little16,
        LengthForm::Bcd16,
        LengthForm::Ascii4,
    ];
    const ROUTE: Tpdu = Tpdu {
        destination: [0x01, 0x34],
        source: [0x80, 0x05],
    };

    /// Every combination of form, inclusion, TPDU and marks.
    fn profiles() -> impl Iterator<Item = Envelope> {
        FORMS.into_iter().flat_map(|length| {
            (0..8).map(move |bits| Envelope {
                length,
                inclusive: bits & 1 != 0,
                tpdu: (bits & 2 != 0).then_some(ROUTE),
                delimited: bits & 4 != 0,
                max: 4_000,
            })
        })
    }

    fn encoded(envelope: Envelope, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        envelope.encode(None, payload, &mut out).unwrap();
        out
    }

    fn only_error(envelope: Envelope, bytes: &[u8]) -> EnvelopeError {
        let mut decoder = Decoder::new(envelope);
        decoder.push(bytes);
        decoder.next().unwrap_err()
    }

    #[test]
    fn every_profile_writes_what_the_table_says() {
        for envelope in profiles() {
            let payload = vec![0xA5; 1_234];
            let counted = 1_234
                + if envelope.tpdu.is_some() { 5 } else { 0 }
                + match (envelope.inclusive, envelope.length) {
                    (false, _) => 0,
                    (true, LengthForm::Ascii4) => 4,
                    (true, _) => 2,
                };
            let mut expected = match envelope.length {
                LengthForm::Big16 => u16::to_be_bytes(counted).to_vec(),
                LengthForm::Little16 => u16::to_le_bytes(counted).to_vec(),
                LengthForm::Bcd16 => hex::decode(alloc::format!("{counted:04}")).unwrap(),
                LengthForm::Ascii4 => alloc::format!("{counted:04}").into_bytes(),
            };
            if envelope.tpdu.is_some() {
                expected.extend([0x60, 0x01, 0x34, 0x80, 0x05]);
            }
            expected.extend(&payload);
            if envelope.delimited {
                expected.push(0x03);
                expected.push(expected.iter().fold(0, |check, byte| check ^ byte));
                expected.insert(0, 0x02);
            }
            assert_eq!(encoded(envelope, &payload), expected, "{envelope:?}");
            assert_eq!(expected.len(), payload.len() + envelope.overhead(), "{envelope:?}");
        }
    }

    #[test]
    fn every_profile_reads_what_it_writes() {
        for envelope in profiles() {
            let mut line = envelope.keep_alive();
            line.extend(encoded(envelope, b"one"));
            line.extend(encoded(envelope, &[0x03; 4_000]));
            line.extend(envelope.keep_alive());
            let mut decoder = Decoder::new(envelope);
            decoder.push(&line);
            let tpdu = envelope.tpdu;
            assert_eq!(
                decoder.next(),
                Ok(Some(Frame {
                    tpdu,
                    payload: Bytes::from_static(b"one")
                })),
                "{envelope:?}"
            );
            assert_eq!(
                decoder.next(),
                Ok(Some(Frame {
                    tpdu,
                    payload: vec![0x03; 4_000].into()
                })),
                "{envelope:?}"
            );
            assert_eq!(decoder.next(), Ok(None), "{envelope:?}");
            assert_eq!(decoder.keep_alives(), 2, "{envelope:?}");
        }
    }

    #[test]
    fn headers_without_payload_and_zeros_are_keep_alives() {
        let inclusive = Envelope {
            inclusive: true,
            ..Envelope::NAC
        };
        for (envelope, bytes) in [
            (Envelope::TCP, "0000"),
            (Envelope::NAC, "0000"),
            (Envelope::NAC, "00056000000001"),
            (inclusive, "0000"),
            (inclusive, "0002"),
            (inclusive, "00076000000001"),
            (Envelope::STX_BCD, "0200000303"),
            (Envelope::STX_BCD, "020005600134000003 53"),
        ] {
            let mut decoder = Decoder::new(envelope);
            decoder.push(&hex::decode(bytes.replace(' ', "")).unwrap());
            assert_eq!(decoder.next(), Ok(None), "{bytes}");
            assert_eq!((decoder.keep_alives(), decoder.buffered()), (1, 0), "{bytes}");
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        use EnvelopeErrorKind as Kind;
        let inclusive = Envelope {
            inclusive: true,
            ..Envelope::TCP
        };
        let ascii = Envelope {
            length: LengthForm::Ascii4,
            ..Envelope::TCP
        };
        for (envelope, bytes, kind, offset) in [
            (Envelope::STX_BCD, "03", Kind::Stx, 0),
            (Envelope::STX_BCD, "02000A", Kind::Length, 1),
            (Envelope::STX_BCD, "020004", Kind::Length, 1),
            (Envelope::STX_BCD, "02000661", Kind::Tpdu, 3),
            (Envelope::STX_BCD, "0200066001340000AA04", Kind::Etx, 9),
            (Envelope::STX_BCD, "0200066001340000AA0300", Kind::Lrc, 10),
            (Envelope::NAC, "0004", Kind::Length, 0),
            (Envelope::NAC, "000168", Kind::Length, 0),
            (Envelope::TCP, "4041", Kind::TooLong, 0),
            (inclusive, "0001", Kind::Length, 0),
            (ascii, "30303A30", Kind::Length, 0),
            (ascii, "2F303030", Kind::Length, 0),
        ] {
            let bytes = hex::decode(bytes).unwrap();
            assert_eq!(
                only_error(envelope, &bytes),
                EnvelopeError { kind, offset },
                "{bytes:02x?}"
            );
            // What follows changes nothing, and the offset counts from the start of the stream.
            let mut stream = encoded(envelope, b"sound");
            let before = u64::try_from(stream.len()).unwrap();
            stream.extend(&bytes);
            stream.extend([0; 40]);
            let mut decoder = Decoder::new(envelope);
            decoder.push(&stream);
            assert_eq!(decoder.next().unwrap().unwrap().payload, b"sound"[..]);
            assert_eq!(
                decoder.next(),
                Err(EnvelopeError {
                    kind,
                    offset: before + offset
                }),
                "{bytes:02x?}"
            );
        }
    }

    #[test]
    fn capacity_is_what_can_be_sent() {
        let limits = [
            (Envelope::TCP, 16_448),
            (Envelope::NAC, 16_448),
            (Envelope::STX_BCD, 9_994),
            (
                Envelope {
                    max: usize::MAX,
                    ..Envelope::TCP
                },
                65_535,
            ),
            (
                Envelope {
                    max: usize::MAX,
                    inclusive: true,
                    length: LengthForm::Little16,
                    ..Envelope::NAC
                },
                65_528,
            ),
            (
                Envelope {
                    max: usize::MAX,
                    length: LengthForm::Bcd16,
                    ..Envelope::TCP
                },
                9_999,
            ),
            (
                Envelope {
                    max: usize::MAX,
                    inclusive: true,
                    length: LengthForm::Ascii4,
                    ..Envelope::TCP
                },
                9_995,
            ),
        ];
        for (envelope, capacity) in limits {
            assert_eq!(envelope.capacity(), capacity, "{envelope:?}");
            let line = encoded(envelope, &vec![7; capacity]);
            let mut decoder = Decoder::new(envelope);
            decoder.push(&line);
            assert_eq!(decoder.next().unwrap().unwrap().payload.len(), capacity, "{envelope:?}");
            let mut out = vec![1];
            let error = envelope.encode(None, &vec![7; capacity + 1], &mut out).unwrap_err();
            assert_eq!((error.kind, out), (EnvelopeErrorKind::TooLong, vec![1]), "{envelope:?}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let refusal = |envelope: Envelope, tpdu, payload: &[u8]| {
            envelope.encode(tpdu, payload, &mut Vec::new()).unwrap_err().kind
        };
        assert_eq!(refusal(Envelope::TCP, None, &[]), EnvelopeErrorKind::Empty);
        assert_eq!(refusal(Envelope::TCP, Some(ROUTE), b"x"), EnvelopeErrorKind::Unused);
    }

    #[test]
    fn a_reply_goes_back_to_where_the_frame_came_from() {
        let mut decoder = Decoder::new(Envelope::NAC);
        decoder.push(&[0, 6, 0x60, 0x01, 0x34, 0x80, 0x05, 0xAA]);
        let frame = decoder.next().unwrap().unwrap();
        assert_eq!(frame.tpdu, Some(ROUTE));
        let mut out = Vec::new();
        Envelope::NAC
            .encode(frame.tpdu.map(Tpdu::swapped), &[0xBB], &mut out)
            .unwrap();
        assert_eq!(out, [0, 6, 0x60, 0x80, 0x05, 0x01, 0x34, 0xBB]);
        assert_eq!(alloc::format!("{ROUTE}"), "6001348005");
    }

    #[test]
    fn an_idle_decoder_holds_no_memory() {
        let mut line = vec![0; 20_000];
        line.extend(encoded(Envelope::TCP, &[1; 10_000]));
        let mut decoder = Decoder::new(Envelope::TCP);
        assert_eq!(decoder.buffer.capacity(), 0);
        decoder.push(&line);
        let frame = decoder.next().unwrap().unwrap();
        assert_eq!(decoder.buffer.capacity(), 0);
        drop(frame);
        decoder.push(&[0, 0]);
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    #[test]
    fn a_few_bytes_left_over_hold_little_memory() {
        let mut line = encoded(Envelope::TCP, &[1; 10_000]);
        line.extend([0, 0, 0]);
        let mut decoder = Decoder::new(Envelope::TCP);
        decoder.push(&line);
        let frame = decoder.next().unwrap().unwrap();
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!((decoder.buffered(), frame.payload.len()), (1, 10_000));
        assert!(decoder.buffer.capacity() < 64, "{}", decoder.buffer.capacity());
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut decoder = Decoder::new(Envelope::TCP);
        decoder.push(&[0x40, 0x00]);
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.buffer.capacity() < 64, "{}", decoder.buffer.capacity());
    }

    #[test]
    fn whole_frames_are_copied_once() {
        let mut line = encoded(Envelope::TCP, &[1; 100]);
        line.extend(encoded(Envelope::TCP, &[2; 200]));
        let mut decoder = Decoder::new(Envelope::TCP);
        decoder.push(&line);
        let copy = decoder.buffer.as_ptr().addr();
        let payloads = [
            decoder.next().unwrap().unwrap().payload,
            decoder.next().unwrap().unwrap().payload,
        ];
        assert_eq!(payloads.map(|payload| payload.as_ptr().addr() - copy), [2, 104]);
    }

    #[test]
    fn an_error_is_for_ever_and_holds_no_memory() {
        let mut decoder = Decoder::new(Envelope::STX_BCD);
        decoder.push(&[0x55; 1_000]);
        let error = decoder.next().unwrap_err();
        decoder.push(&encoded(Envelope::STX_BCD, b"sound"));
        assert_eq!(decoder.next(), Err(error));
        assert_eq!((decoder.buffer.capacity(), decoder.buffered()), (0, 0));
    }
}
