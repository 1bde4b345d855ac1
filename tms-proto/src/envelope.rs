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

mod decoder;

pub use decoder::Decoder;

use alloc::vec::Vec;
use bytes::{BufMut, Bytes};
use core::fmt;
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
mod tests;
