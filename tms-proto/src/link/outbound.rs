//! What goes to the peer: the stream's bytes until they have come, and which frames are on the way (§3.7).

use super::frame::{COUNTERS, OFFSETS, Piece, Status};
use super::inbound::room_of;
use super::pace::{Departure, Pace};
use super::{WINDOW, narrow, wide};
use crate::machine::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

/// Frames that may be on the way without a word of the peer.
const ON_THE_WAY: u8 = 48;

/// The same, with those that are sent because there was none.
const PROBING: u8 = 62;

/// Bytes that wait to be sent: with more, nothing is taken.
const WAITING: u64 = 2048;

/// Bytes that are taken at once.
const TAKEN: usize = 4096;

/// Positions are those of bytes in the stream; the stream's end counts as one more byte.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Bytes from `base` on.
    queue: VecDeque<u8>,
    /// The first byte that the peer has not got.
    base: u64,
    /// The first position that was never sent.
    next: u64,
    /// Where writes ended, behind `next`: frames end there too, so that what is whole here comes whole.
    ends: VecDeque<u64>,
    /// Nothing more is written.
    closed: bool,
    /// The peer has all, and knows that it is all.
    delivered: bool,
    /// What is to be sent again, in order, apart from each other.
    again: Vec<Range<u64>>,
    /// Frames on the way, in the order in which they were sent, and their bytes.
    flight: VecDeque<Sent>,
    flying: u64,
    /// The next frame's counter.
    counter: u8,
    /// The last counter of which the peer said something.
    heard: u8,
    /// The peer has room for the bytes before this.
    limit: u64,
}

#[derive(Debug)]
struct Sent {
    counter: u8,
    range: Range<u64>,
    /// Bytes on the line.
    size: u64,
    departure: Departure,
}

/// What a status changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Frames that were lost.
    pub(super) lost: u32,
    /// The peer said something of frames that were on the way, or has more than before.
    pub(super) progress: bool,
}

/// A piece to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    range: Range<u64>,
    counter: u8,
    bytes: Vec<u8>,
    /// The stream's end is behind it.
    pub(super) last: bool,
    /// It was sent before.
    pub(super) again: bool,
}

impl Cut {
    pub(super) fn piece(&self) -> Piece<'_> {
        let [.., high, low] = (self.range.start % OFFSETS).to_be_bytes();
        Piece {
            counter: self.counter,
            offset: u16::from_be_bytes([high, low]),
            bytes: &self.bytes,
        }
    }
}

impl Outbound {
    pub(super) const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            base: 0,
            next: 0,
            ends: VecDeque::new(),
            closed: false,
            delivered: false,
            again: Vec::new(),
            flight: VecDeque::new(),
            flying: 0,
            counter: 0,
            heard: COUNTERS - 1,
            limit: WINDOW,
        }
    }

    /// Takes as many bytes as there is room for; gives their number.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.get(..bytes.len().min(self.room())).unwrap_or_default();
        if !taken.is_empty() {
            self.queue.extend(taken);
            self.ends.push_back(self.end());
        }
        taken.len()
    }

    /// Bytes that can be taken now.
    pub(super) fn room(&self) -> usize {
        if self.closed || self.end().saturating_sub(self.next) >= WAITING {
            0
        } else {
            TAKEN
        }
    }

    pub(super) const fn close(&mut self) {
        self.closed = true;
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The peer has all, and knows that it is all.
    pub(super) const fn is_delivered(&self) -> bool {
        self.delivered
    }

    /// The peer has all that was written.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Something was sent that the peer has not said to have.
    pub(super) fn is_open(&self) -> bool {
        self.base < self.next && !self.delivered
    }

    /// There is something to send, whether it may go or not.
    pub(super) fn is_waiting(&self) -> bool {
        !self.delivered && (!self.again.is_empty() || self.next < self.until())
    }

    /// Something is to be sent again.
    pub(super) const fn is_resending(&self) -> bool {
        !self.again.is_empty()
    }

    /// Bytes on the way.
    pub(super) const fn flying(&self) -> u64 {
        self.flying
    }

    fn end(&self) -> u64 {
        self.base + wide(self.queue.len())
    }

    /// Behind the last position that there is.
    fn until(&self) -> u64 {
        self.end() + u64::from(self.closed)
    }

    /// The next piece, where one may go now. `payload` is what it should have, `most` what it may, `window` what may be on
    /// the way.
    pub(super) fn cut(&mut self, payload: u64, most: u64, window: u64, probing: bool) -> Option<Cut> {
        let used = (self.counter + COUNTERS - self.heard - 1) % COUNTERS;
        if self.delivered {
            return None;
        }
        if used >= if probing { PROBING } else { ON_THE_WAY } {
            if !self.flight.is_empty() {
                return None;
            }
            // None of those came: they are used again.
            self.counter = (self.heard + 1) % COUNTERS;
        }
        let free = match window.checked_sub(self.flying) {
            _ if self.flight.is_empty() => most,
            Some(free) if free > 0 => free,
            _ => return None,
        };
        let (mut range, again) = match self.again.first() {
            Some(lost) => {
                let length = portion(lost.end - lost.start, payload, most);
                (lost.start..lost.start + length, true)
            }
            None => (self.fresh(payload, most)?, false),
        };
        // A frame that would be mostly too much waits.
        if range.end - range.start > free.saturating_add(payload) {
            return None;
        }
        let end = self.end();
        if range.end == end && self.closed {
            range.end += 1;
        }
        let skip = narrow(range.start.saturating_sub(self.base));
        let count = narrow(range.end.min(end).saturating_sub(range.start));
        let bytes = self.queue.iter().skip(skip).take(count).copied().collect();
        self.take_off(&range);
        self.next = self.next.max(range.end);
        while self.ends.front().is_some_and(|end| *end <= self.next) {
            self.ends.pop_front();
        }
        let counter = self.counter;
        self.counter = (counter + 1) % COUNTERS;
        Some(Cut {
            last: range.end > end,
            range,
            counter,
            bytes,
            again,
        })
    }

    /// The next positions that were never sent.
    fn fresh(&self, payload: u64, most: u64) -> Option<Range<u64>> {
        let start = self.next;
        if start >= self.end() {
            return (start < self.until()).then_some(start..start + 1);
        }
        let room = self.limit.checked_sub(start).filter(|room| *room > 0)?;
        let mut ends = self.ends.iter().map(|end| end - start);
        let whole = ends.next()?;
        // Small writes go together.
        let joined = ends.take_while(|length| *length <= payload).last();
        let length = joined.unwrap_or_else(|| portion(whole, payload, most));
        if length > room && !self.flight.is_empty() {
            // More room will be told.
            return None;
        }
        Some(start..start + length.min(room))
    }

    /// Takes positions off those to be sent again.
    fn take_off(&mut self, range: &Range<u64>) {
        if let Some(first) = self.again.first_mut()
            && first.start == range.start
        {
            first.start = range.end;
            if first.start >= first.end {
                self.again.remove(0);
            }
        }
    }

    /// A piece has gone, as so many bytes on the line.
    pub(super) fn sent(&mut self, cut: Cut, size: u64, now: Instant, pace: &mut Pace) {
        self.flying += size;
        let departure = pace.depart(now, self.flying, size, self.is_waiting());
        self.flight.push_back(Sent {
            counter: cut.counter,
            range: cut.range,
            size,
            departure,
        });
    }

    /// Takes in what the peer says.
    pub(super) fn heard(&mut self, status: &Status, now: Instant, pace: &mut Pace) -> Heard {
        let mut heard = Heard::default();
        let more = u64::from(status.next).wrapping_sub(self.base) % (1 << 16);
        if more <= self.next - self.base {
            heard.progress = more > 0 && !self.delivered;
            let base = self.base + more;
            self.delivered |= base > self.end();
            let gone = narrow(more).min(self.queue.len());
            self.queue.drain(..gone);
            if self.queue.is_empty() {
                self.queue = VecDeque::new();
            }
            self.base += wide(gone);
            self.limit = self.limit.max(self.base + room_of(status.room));
            let base = if self.delivered { u64::MAX } else { self.base };
            self.again.retain_mut(|range| {
                range.start = range.start.max(base);
                range.start < range.end
            });
        }
        self.heard = status.heard;
        while let Some(sent) = self.flight.front() {
            let ago = (status.heard + COUNTERS - sent.counter) % COUNTERS;
            if ago >= COUNTERS / 2 {
                break;
            }
            // A line changes no order: what was sent before a frame that came, and has not come, is lost.
            let came = ago == 0 || status.before >> (ago - 1) & 1 != 0;
            let Some(sent) = self.flight.pop_front() else { break };
            self.flying -= sent.size;
            pace.arrived(now, sent.size, came);
            if ago == 0 {
                pace.answered(now, &sent.departure);
            }
            heard.progress = true;
            if !came {
                heard.lost += 1;
                self.lose(sent.range);
            }
        }
        self.doubt();
        heard
    }

    /// Where nothing is on the way and something has not come, a counter was taken for another: all of it is sent again.
    fn doubt(&mut self) {
        if self.flight.is_empty() && self.again.is_empty() && self.is_open() {
            self.lose(self.base..self.next);
        }
    }

    /// Nothing was heard for too long: the first frame on the way is taken for lost.
    pub(super) fn timeout(&mut self, now: Instant, pace: &mut Pace) {
        if let Some(sent) = self.flight.pop_front() {
            self.flying -= sent.size;
            // Where frames are too long for the line none comes, and nothing else tells.
            pace.arrived(now, sent.size, false);
            self.lose(sent.range);
        }
    }

    /// All that is on the way is lost: the peer has spoken after it.
    pub(super) fn lose_all(&mut self) -> u32 {
        let mut lost = 0;
        while let Some(sent) = self.flight.pop_front() {
            lost += 1;
            self.lose(sent.range);
        }
        self.flying = 0;
        lost
    }

    /// The peer knows of nothing that was sent.
    pub(super) fn begin_again(&mut self) {
        self.lose_all();
        (self.counter, self.heard) = (0, COUNTERS - 1);
    }

    fn lose(&mut self, range: Range<u64>) {
        let mut range = range.start.max(self.base)..range.end;
        if range.is_empty() || self.delivered {
            return;
        }
        let first = self.again.partition_point(|other| other.end < range.start);
        let behind = self.again.partition_point(|other| other.start <= range.end);
        for other in self.again.get(first..behind).unwrap_or_default() {
            range = range.start.min(other.start)..range.end.max(other.end);
        }
        self.again.splice(first..behind, [range]);
    }
}

/// The first of equal parts of about `payload` bytes each, none above `most`.
fn portion(length: u64, payload: u64, most: u64) -> u64 {
    let parts = (2 * length + payload) / (2 * payload).max(1);
    let parts = parts.max(length.div_ceil(most.max(1))).max(1);
    length.div_ceil(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const NOW: Instant = Instant::from_millis(0);

    struct Line {
        outbound: Outbound,
        pace: Pace,
    }

    impl Line {
        fn new() -> Self {
            Self {
                outbound: Outbound::new(),
                pace: Pace::new(None, None),
            }
        }

        /// Sends what may go in frames of this payload; gives counter, first position and bytes of each.
        fn send(&mut self, payload: u64) -> Vec<(u8, u64, Vec<u8>)> {
            let mut sent = Vec::new();
            while let Some(cut) = self.outbound.cut(payload, 100, 1000, false) {
                sent.push((cut.counter, cut.range.start, cut.bytes.clone()));
                self.outbound.sent(cut, 10, NOW, &mut self.pace);
            }
            sent
        }

        fn hear(&mut self, heard: u8, before: u64, next: u16) -> Heard {
            let status = Status {
                heard,
                before,
                next,
                room: 255,
                ask: false,
                over: false,
            };
            self.outbound.heard(&status, NOW, &mut self.pace)
        }
    }

    fn starts(sent: &[(u8, u64, Vec<u8>)]) -> Vec<(u64, usize)> {
        sent.iter().map(|(_, start, bytes)| (*start, bytes.len())).collect()
    }

    #[test]
    fn parts_are_equal() {
        assert_eq!(portion(1042, 1024, 1056), 1042);
        assert_eq!(portion(1042, 310, 1056), 348);
        assert_eq!(portion(1042, 95, 1056), 95);
        assert_eq!(portion(10, 95, 1056), 10);
        assert_eq!(portion(2000, 5000, 1000), 1000);
        assert_eq!(portion(1, 32, 1), 1);
    }

    #[test]
    fn frames_end_where_writes_end() {
        let mut line = Line::new();
        for length in [10, 20, 75, 30, 75] {
            assert_eq!(line.outbound.push(&vec![1; length]), length);
        }
        assert_eq!(
            starts(&line.send(50)),
            [(0, 30), (30, 38), (68, 37), (105, 30), (135, 38), (173, 37)]
        );
        assert_eq!(line.send(50), []);
    }

    #[test]
    fn what_was_passed_by_is_sent_again() {
        let mut line = Line::new();
        let content: Vec<u8> = (0..200).collect();
        line.outbound.push(&content);
        assert_eq!(line.send(50).len(), 4);
        // The second and the third are lost; the fourth may be on the way.
        assert_eq!(
            line.hear(0, !0, 50),
            Heard {
                lost: 0,
                progress: true
            }
        );
        assert_eq!(
            line.hear(3, 0b100, 50),
            Heard {
                lost: 2,
                progress: true
            }
        );
        let again = line.send(40);
        assert_eq!(starts(&again), [(50, 34), (84, 33), (117, 33)]);
        assert!(
            again
                .iter()
                .all(|(_, start, bytes)| content[usize::try_from(*start).unwrap()..].starts_with(bytes))
        );
        assert_eq!(
            line.hear(6, !0, 200),
            Heard {
                lost: 0,
                progress: true
            }
        );
        assert!(line.outbound.is_empty() && !line.outbound.is_open() && line.outbound.flying() == 0);
        // An old word changes nothing.
        assert_eq!(line.hear(6, !0, 50), Heard::default());
    }

    #[test]
    fn a_frame_without_an_answer_is_sent_again() {
        let mut line = Line::new();
        line.outbound.push(b"hello");
        line.send(50);
        line.outbound.timeout(NOW, &mut line.pace);
        assert_eq!(starts(&line.send(50)), [(0, 5)]);
        line.outbound.timeout(NOW, &mut line.pace);
        assert_eq!(line.send(50)[0].0, 2);
        line.hear(1, !0, 5);
        assert!(line.outbound.is_empty());
        // The last is still on the way, and no longer needed.
        line.outbound.timeout(NOW, &mut line.pace);
        assert_eq!(line.send(50), []);
    }

    #[test]
    fn the_end_is_delivered_like_a_byte() {
        let mut line = Line::new();
        line.outbound.push(b"hello");
        line.send(50);
        line.outbound.close();
        assert_eq!(line.outbound.push(b"more"), 0);
        assert_eq!(starts(&line.send(50)), [(5, 0)]);
        line.hear(0, !0, 5);
        assert!(line.outbound.is_empty() && !line.outbound.is_delivered());
        line.outbound.timeout(NOW, &mut line.pace);
        assert_eq!(starts(&line.send(50)), [(5, 0)]);
        line.hear(2, !0, 6);
        assert!(line.outbound.is_delivered() && !line.outbound.is_waiting());
        // With bytes it goes in one frame.
        let mut line = Line::new();
        line.outbound.push(b"hello");
        line.outbound.close();
        let cut = line.outbound.cut(50, 100, 1000, false).unwrap();
        assert!(cut.last && cut.bytes == b"hello");
        line.outbound.sent(cut, 9, NOW, &mut line.pace);
        line.hear(0, !0, 6);
        assert!(line.outbound.is_delivered());
    }

    #[test]
    fn counters_run_no_further_than_they_are_told_apart() {
        let mut line = Line::new();
        line.outbound.push(&[1; 4000]);
        let mut count = 0;
        while let Some(cut) = line.outbound.cut(1, 1, u64::MAX, false) {
            line.outbound.sent(cut, 1, NOW, &mut line.pace);
            count += 1;
        }
        assert_eq!(count, ON_THE_WAY);
        while line.outbound.cut(1, 1, u64::MAX, true).is_some() {
            count += 1;
        }
        assert_eq!(count, PROBING);
        // When they are lost they are used again.
        line.outbound.lose_all();
        assert_eq!(line.outbound.cut(1, 1, u64::MAX, true).unwrap().counter, 0);
    }

    #[test]
    fn what_has_not_come_is_sent_again_whatever_its_counters_say() {
        let mut line = Line::new();
        line.outbound.push(&[1; 100]);
        assert_eq!(starts(&line.send(50)), [(0, 50), (50, 50)]);
        // Both counters came, and what they stood for did not.
        line.hear(1, !0, 50);
        assert_eq!(starts(&line.send(50)), [(50, 50)]);
    }

    #[test]
    fn no_more_is_sent_than_there_is_room_for() {
        let mut line = Line::new();
        line.outbound.limit = 70;
        line.outbound.push(&[1; 60]);
        line.outbound.push(&[2; 60]);
        assert_eq!(starts(&line.send(60)), [(0, 60)]);
        let status = Status {
            heard: 0,
            before: !0,
            next: 60,
            room: 0,
            ask: false,
            over: false,
        };
        line.outbound.heard(&status, NOW, &mut line.pace);
        // With nothing on the way what fits goes.
        assert_eq!(starts(&line.send(60)), [(60, 10)]);
        line.outbound.heard(
            &Status {
                heard: 1,
                next: 70,
                room: 1,
                ..status
            },
            NOW,
            &mut line.pace,
        );
        assert_eq!(starts(&line.send(60)), [(70, 50)]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outbound = Outbound::new();
        let mut taken = 0;
        loop {
            match outbound.push(&[0; 10_000]) {
                0 => break,
                some => taken += some,
            }
        }
        assert_eq!(taken, TAKEN);
    }
}
