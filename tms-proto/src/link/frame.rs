//! The frames of a call (§3.5), without what stands round them.

use super::Role;
use alloc::vec::Vec;

/// Frames are counted so far, and then again from zero.
pub(super) const COUNTERS: u8 = 128;

/// Offsets stand on the line modulo this; an end holds and sends at most half of it.
pub(super) const OFFSETS: u64 = 1 << 15;

const CONTROL: u8 = 0x40;
const LAST: u8 = 0x50;
const ASK: u8 = 0x01;
const OVER: u8 = 0x02;

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// Bytes of the stream.
    Data(Piece<'a>),
    /// The same, and the stream ends behind them.
    Last(Piece<'a>),
    /// What has come so far.
    Status(Status),
}

/// A piece of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Which frame of its sender this is, modulo [`COUNTERS`].
    pub(super) counter: u8,
    /// Where it belongs, modulo [`OFFSETS`].
    pub(super) offset: u16,
    pub(super) bytes: &'a [u8],
}

/// What has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// The counter of the last frame that came.
    pub(super) heard: u8,
    /// Which of the 64 before it came as well: bit *n* for `heard` − 1 − *n*.
    pub(super) before: u64,
    /// The first byte that has not come, modulo 2^16; with the stream's end, one more.
    pub(super) next: u16,
    /// How many times 64 bytes from there on there is room for.
    pub(super) room: u8,
    /// The peer is to say its status at once.
    pub(super) ask: bool,
    /// The peer may speak now (half duplex).
    pub(super) over: bool,
}

impl Frame<'_> {
    /// The frame from this end, without its check value.
    pub(super) fn write(&self, role: Role) -> Vec<u8> {
        let mark = role.mark();
        match self {
            Self::Data(piece) => {
                let mut out = Vec::with_capacity(piece.bytes.len() + 8);
                let header = u32::from(piece.counter) << 15 | u32::from(piece.offset);
                let [_, high, middle, low] = header.to_be_bytes();
                out.extend([mark | high, middle, low]);
                out.extend_from_slice(piece.bytes);
                out
            }
            Self::Last(piece) => {
                let mut out = Vec::with_capacity(piece.bytes.len() + 8);
                out.extend([mark | LAST, piece.counter]);
                out.extend(piece.offset.to_be_bytes());
                out.extend_from_slice(piece.bytes);
                out
            }
            Self::Status(status) => {
                let mut kind = mark | CONTROL;
                if status.ask {
                    kind |= ASK;
                }
                if status.over {
                    kind |= OVER;
                }
                let [high, low] = status.next.to_be_bytes();
                let mut out = Vec::from([kind, status.heard, high, low, status.room]);
                // What is left out has come.
                let bits = status.before.to_le_bytes();
                let kept = bits.iter().rposition(|byte| *byte != 0xFF).map_or(0, |last| last + 1);
                out.extend(bits.into_iter().take(kept));
                out
            }
        }
    }
}

impl<'a> Frame<'a> {
    /// Reads a frame whose check value has been taken off, and says whose it is.
    pub(super) fn read(frame: &'a [u8]) -> Option<(Role, Self)> {
        let (&kind, rest) = frame.split_first()?;
        let role = Role::of_mark(kind);
        let kind = kind & 0x7F;
        let read = if kind & CONTROL == 0 {
            let ([middle, low], bytes) = rest.split_first_chunk()?;
            let header = u32::from_be_bytes([0, kind, *middle, *low]);
            let [_, counter, ..] = (header << 1).to_be_bytes();
            let [_, _, high, low] = header.to_be_bytes();
            Self::Data(Piece {
                counter,
                offset: u16::from_be_bytes([high & 0x7F, low]),
                bytes,
            })
        } else if kind == LAST {
            let ([counter, high, low], bytes) = rest.split_first_chunk()?;
            Self::Last(Piece {
                counter: *counter,
                offset: u16::from_be_bytes([*high, *low]),
                bytes,
            })
        } else if kind & !(ASK | OVER) == CONTROL {
            let ([heard, high, low, room], bits) = rest.split_first_chunk()?;
            let mut before = [0xFF; 8];
            if bits.len() > before.len() {
                return None;
            }
            before.iter_mut().zip(bits).for_each(|(to, from)| *to = *from);
            Self::Status(Status {
                heard: *heard,
                before: u64::from_le_bytes(before),
                next: u16::from_be_bytes([*high, *low]),
                room: *room,
                ask: kind & ASK != 0,
                over: kind & OVER != 0,
            })
        } else {
            return None;
        };
        let sound = match &read {
            Self::Data(piece) => !piece.bytes.is_empty(),
            Self::Last(piece) => piece.counter < COUNTERS && u64::from(piece.offset) < OFFSETS,
            Self::Status(status) => status.heard < COUNTERS,
        };
        sound.then_some((role, read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_stand_as_the_clause_says() {
        let piece = Piece {
            counter: 0x55,
            offset: 0x1234,
            bytes: b"xy",
        };
        for (frame, role, expected) in [
            (Frame::Data(piece), Role::Caller, "2a92347879"),
            (Frame::Data(piece), Role::Answerer, "aa92347879"),
            (Frame::Last(piece), Role::Caller, "505512347879"),
            (
                Frame::Status(Status {
                    heard: 0x55,
                    before: !0x0102,
                    next: 0x9234,
                    room: 0xF0,
                    ask: true,
                    over: false,
                }),
                Role::Answerer,
                "c1559234f0fdfe",
            ),
        ] {
            let written = frame.write(role);
            assert_eq!(hex::encode(&written), expected);
            assert_eq!(Frame::read(&written), Some((role, frame)));
        }
    }

    #[test]
    fn what_is_no_frame_is_not_read() {
        for hex in [
            "",
            "00",
            "000000",
            "50551234",
            "5155123400",
            "44000000",
            "48",
            "40800000ff",
            "40000000",
            "5080000000",
        ] {
            let read = hex::decode(hex).unwrap();
            // An end without bytes is one.
            assert_eq!(Frame::read(&read).is_some(), hex == "50551234", "{hex}");
        }
        assert_eq!(Frame::read(&[[0x40, 0, 0, 0, 0].as_slice(), &[0; 9]].concat()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            heard in 0..COUNTERS, before: u64, next: u16, room: u8, ask: bool, over: bool, offset in 0..1_u16 << 15,
            bytes in proptest::collection::vec(any::<u8>(), 1..50),
        ) {
            let status = Status { heard, before, next, room, ask, over };
            let piece = Piece { counter: heard, offset, bytes: &bytes };
            for frame in [Frame::Status(status), Frame::Data(piece), Frame::Last(piece)] {
                for role in [Role::Caller, Role::Answerer] {
                    let written = frame.write(role);
                    prop_assert_eq!(Frame::read(&written), Some((role, frame.clone())));
                }
            }
        }

        #[test]
        fn anything_can_be_read(bytes: Vec<u8>) {
            if let Some((role, frame)) = Frame::read(&bytes) {
                prop_assert!(frame.write(role).len() <= bytes.len());
            }
        }
    }
}
