//! What came from the peer, put in order (§3.7).

use super::frame::{COUNTERS, OFFSETS, Piece};
use super::{WINDOW, wide};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// Gaps that are kept. Who makes more of them sends again.
const GAPS: usize = 64;

/// Room is told in so many bytes.
const ROOM_UNIT: u64 = 64;

#[derive(Debug)]
pub(super) struct Inbound {
    /// The first byte that has not come.
    next: u64,
    /// What came behind it, with gaps.
    ahead: VecDeque<u8>,
    /// Where those bytes are, in order, apart from each other.
    held: Vec<Range<u64>>,
    /// Where the stream ends.
    end: Option<u64>,
    /// Bytes that were given and are not yet used up.
    unused: u64,
    /// The counter of the last frame.
    heard: u8,
    /// Which of those before came.
    before: u64,
}

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The bytes that are now in order; may be empty.
    pub(super) bytes: Bytes,
    /// The peer should hear of it at once: something is missing, or it has not heard what came.
    pub(super) urgent: bool,
}

impl Inbound {
    pub(super) const fn new() -> Self {
        Self {
            next: 0,
            ahead: VecDeque::new(),
            held: Vec::new(),
            end: None,
            unused: 0,
            heard: COUNTERS - 1,
            before: u64::MAX,
        }
    }

    /// Takes a piece; `None` where it has no place, and is to be sent again.
    pub(super) fn take(&mut self, piece: &Piece<'_>, last: bool) -> Option<Taken> {
        let mut urgent = last;
        let from = self.place(piece.offset);
        let length = wide(piece.bytes.len());
        let (start, skip) = match from {
            Ok(ahead) => (self.next + ahead, 0),
            Err(behind) => {
                // The peer has not heard that it came.
                urgent = true;
                (self.next, behind.min(length))
            }
        };
        let until = start + (length - skip);
        let end = match (last, from) {
            (false, _) => None,
            (true, Ok(ahead)) => Some(self.next + ahead + length),
            (true, Err(behind)) => Some((self.next + length).saturating_sub(behind)),
        };
        if until > self.next + self.room() || self.end.is_some_and(|end| until > end) {
            return None;
        }
        if let Some(end) = end {
            let most = self.held.last().map_or(self.next, |held| held.end);
            if self.end.is_some_and(|known| known != end) || end < most {
                return None;
            }
        }
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let bytes = piece.bytes.get(skip..).unwrap_or_default();
        if !self.store(start, bytes) {
            return None;
        }
        self.end = self.end.or(end);
        urgent |= self.count(piece.counter);
        let bytes = self.ready();
        self.unused += wide(bytes.len());
        Some(Taken { bytes, urgent })
    }

    /// Where an offset is: so far ahead of the first byte that has not come, or so far behind it.
    fn place(&self, offset: u16) -> Result<u64, u64> {
        let ahead = (u64::from(offset) + OFFSETS - self.next % OFFSETS) % OFFSETS;
        if ahead < OFFSETS / 2 {
            Ok(ahead)
        } else {
            Err(OFFSETS - ahead)
        }
    }

    /// Puts bytes where they belong; false where that makes too many gaps.
    fn store(&mut self, start: u64, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let until = start + wide(bytes.len());
        // Those that touch it become one with it.
        let first = self.held.partition_point(|held| held.end < start);
        let behind = self.held.partition_point(|held| held.start <= until);
        if first == behind && self.held.len() >= GAPS {
            return false;
        }
        let one = self.held.get(first..behind).unwrap_or_default();
        let joined = one.first().map_or(start, |held| held.start.min(start))
            ..one.last().map_or(until, |held| held.end.max(until));
        self.held.splice(first..behind, [joined]);
        let begin = usize::try_from(start - self.next).unwrap_or(usize::MAX);
        let needed = begin.saturating_add(bytes.len());
        if self.ahead.len() < needed {
            self.ahead.resize(needed, 0);
        }
        self.ahead
            .iter_mut()
            .skip(begin)
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        true
    }

    /// Takes out what is in order now.
    fn ready(&mut self) -> Bytes {
        let Some(first) = self.held.first().filter(|held| held.start <= self.next) else {
            return Bytes::new();
        };
        let until = first.end;
        let count = usize::try_from(until - self.next).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = self.ahead.drain(..count.min(self.ahead.len())).collect();
        if self.ahead.is_empty() {
            self.ahead = VecDeque::new();
        }
        self.held.remove(0);
        self.next = until;
        bytes.into()
    }

    /// Notes a frame's counter. A line changes no order: every frame is newer than all before. True where one is missing.
    fn count(&mut self, counter: u8) -> bool {
        let steps = (counter + COUNTERS - self.heard) % COUNTERS;
        if steps == 0 {
            return true;
        }
        let steps = u32::from(steps);
        self.before =
            self.before.checked_shl(steps).unwrap_or_default() | 1_u64.checked_shl(steps - 1).unwrap_or_default();
        self.heard = counter;
        steps != 1
    }

    /// The user of the stream has used up so many of the bytes that it was given.
    pub(super) fn used(&mut self, bytes: u64) {
        self.unused = self.unused.saturating_sub(bytes);
    }

    /// Bytes from the first that has not come on for which there is room.
    pub(super) fn room(&self) -> u64 {
        WINDOW.saturating_sub(self.unused)
    }

    pub(super) fn room_units(&self) -> u8 {
        u8::try_from(self.room() / ROOM_UNIT).unwrap_or(u8::MAX)
    }

    pub(super) const fn heard(&self) -> u8 {
        self.heard
    }

    pub(super) const fn before(&self) -> u64 {
        self.before
    }

    /// The first byte that has not come, modulo 2^16, with the end counted as one.
    pub(super) fn next(&self) -> u16 {
        let [.., high, low] = (self.next + u64::from(self.is_ended())).to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Whether all has come, and the end.
    pub(super) fn is_ended(&self) -> bool {
        self.end == Some(self.next)
    }

    /// Bytes that wait for others before them.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.ahead.len()
    }
}

/// The bytes that a room told means.
pub(super) fn room_of(units: u8) -> u64 {
    u64::from(units) * ROOM_UNIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn piece(counter: u8, offset: u64, bytes: &[u8]) -> Piece<'_> {
        Piece {
            counter,
            offset: u16::try_from(offset % OFFSETS).unwrap(),
            bytes,
        }
    }

    fn taken(inbound: &mut Inbound, piece: &Piece<'_>) -> Option<(Vec<u8>, bool)> {
        inbound
            .take(piece, false)
            .map(|taken| (taken.bytes.to_vec(), taken.urgent))
    }

    #[test]
    fn pieces_are_put_in_order() {
        let mut inbound = Inbound::new();
        assert_eq!(taken(&mut inbound, &piece(0, 0, b"ab")), Some((b"ab".to_vec(), false)));
        assert_eq!(taken(&mut inbound, &piece(2, 4, b"ef")), Some((vec![], true)));
        assert_eq!((inbound.before(), inbound.next()), (!1, 2));
        assert_eq!(
            taken(&mut inbound, &piece(3, 2, b"cdef")),
            Some((b"cdef".to_vec(), false))
        );
        assert_eq!(inbound.next(), 6);
        // Once more: the peer has not heard.
        assert_eq!(taken(&mut inbound, &piece(4, 2, b"cdefg")), Some((b"g".to_vec(), true)));
    }

    #[test]
    fn the_end_comes_behind_all() {
        let mut inbound = Inbound::new();
        let last = inbound.take(&piece(1, 2, b"c"), true).unwrap();
        assert!(last.urgent && last.bytes.is_empty() && !inbound.is_ended());
        assert_eq!(inbound.next(), 0);
        // Nothing stands behind the end, and it does not move.
        assert_eq!(inbound.take(&piece(2, 2, b"cd"), false), None);
        assert_eq!(inbound.take(&piece(2, 2, b""), true), None);
        assert_eq!(taken(&mut inbound, &piece(2, 0, b"ab")).unwrap().0, b"abc");
        assert!(inbound.is_ended());
        assert_eq!(inbound.next(), 4);
        assert!(inbound.take(&piece(3, 2, b"c"), true).unwrap().urgent);
        assert!(inbound.take(&piece(4, 3, b""), true).unwrap().urgent);
    }

    #[test]
    fn room_is_what_is_not_used() {
        let mut inbound = Inbound::new();
        let content = [7; 1024];
        for index in 0..WINDOW / 1024 {
            assert!(taken(&mut inbound, &piece(0, index * 1024, &content)).is_some());
        }
        assert_eq!((inbound.room(), inbound.room_units()), (0, 0));
        assert_eq!(taken(&mut inbound, &piece(0, WINDOW, b"x")), None);
        inbound.used(100);
        assert_eq!((inbound.room(), inbound.room_units()), (100, 1));
        assert_eq!(taken(&mut inbound, &piece(0, WINDOW + 100, b"x")), None);
        assert!(taken(&mut inbound, &piece(0, WINDOW, &[7; 100])).is_some());
        inbound.used(WINDOW);
        assert_eq!(inbound.room_units(), 255);
    }

    #[test]
    fn gaps_are_bounded() {
        let mut inbound = Inbound::new();
        let kept = (0..200).filter(|index| taken(&mut inbound, &piece(0, 10 + index * 2, b"x")).is_some());
        assert_eq!(kept.count(), GAPS);
        assert!(inbound.waiting() <= usize::try_from(WINDOW).unwrap());
        // What closes one is taken.
        assert!(taken(&mut inbound, &piece(0, 11, b"x")).is_some());
    }

    #[test]
    fn counters_that_were_missed_are_known() {
        let mut inbound = Inbound::new();
        assert!(!inbound.count(0));
        assert!(inbound.count(64));
        assert_eq!(inbound.before(), 1 << 63);
        assert!(inbound.count(127));
        assert_eq!((inbound.heard(), inbound.before()), (127, 1 << 62));
        assert!(!inbound.count(0));
        assert_eq!(inbound.before(), 1 << 63 | 1);
        assert!(inbound.count(127));
        assert_eq!(inbound.before(), 0);
    }

    proptest! {
        /// Any pieces of one stream, in any order and as often as one likes: what comes out is the stream's beginning.
        #[test]
        fn what_comes_out_is_what_went_in(cuts in proptest::collection::vec((0..12_000_u64, 1..900_u64), 1..300)) {
            let content: Vec<u8> = (0..16_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
            let mut inbound = Inbound::new();
            let mut out = Vec::new();
            for (counter, (from, length)) in (0_u8..128).cycle().zip(cuts) {
                let bytes = &content[usize::try_from(from).unwrap()..][..usize::try_from(length).unwrap()];
                if let Some(taken) = inbound.take(&piece(counter, from, bytes), false) {
                    inbound.used(wide(taken.bytes.len()));
                    out.extend(taken.bytes);
                }
                prop_assert_eq!(&content[..out.len()], &out[..]);
                prop_assert!(inbound.held.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert!(inbound.held.first().is_none_or(|held| held.start > inbound.next));
                prop_assert!(inbound.ahead.len() <= usize::try_from(WINDOW).unwrap());
            }
        }
    }
}
