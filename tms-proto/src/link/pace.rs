//! What the line is like, from what became of the frames: how long a frame should be, how many bytes should be on the way,
//! and when one that is not answered is to be sent again (§3.8).

use crate::machine::Instant;
use core::time::Duration;

/// Bytes that a frame costs besides its payload.
const OVERHEAD: u64 = 8;

/// Losses further back than so many bytes count little.
const MEMORY: u64 = 32 * 1024;

/// What the first guess counts for, in bytes.
const TRUST: u64 = 4 * 1024;

/// One lost frame, in the unit in which losses are kept.
const LOSS: u64 = 1 << 16;

/// The first frames' payload, where the modem says that it mends errors, and where it does not or is silent.
const FIRST_MENDED: u64 = 1024;
const FIRST: u64 = 256;

/// The shortest payload that frames are made for, in bytes.
const SHORTEST: u64 = 32;

/// The most seconds that a frame is made to take.
const LONGEST: u64 = 4;

/// A rate is the highest of the last one or two spans of this length.
const SPAN: Duration = Duration::from_secs(10);

/// How long the answer to a frame takes in the peer, and here in the system's queues.
const SLACK: u64 = 100;

/// The way there and back, where nothing is known of it, in milliseconds.
const TRANSIT: u64 = 500;

/// Bytes on the way before anything is known of the line.
const BLIND: u64 = 2048;

/// Bytes a second that a line carries at least, before anything is known of it.
const SLOW: u64 = 120;

/// Bytes that are said in one turn before anything is known of the line.
const FIRST_TURN: u64 = 512;

/// The most that may be on the way.
const MOST: u64 = 16 * 1024;

#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes that frames took on the line, of late.
    total: u64,
    /// Frames that were lost, of late, times [`LOSS`].
    lost: u64,
    /// Bytes a second that the line is said to carry.
    said: Option<u64>,
    /// Bytes a second that it did carry, when there was enough to do.
    measured: Peak,
    /// The way there and back in milliseconds, without the time that the bytes take. It is seen only when the line was idle
    /// before.
    transit: Option<u64>,
    /// How much longer than its bytes take an answer took, in milliseconds: it may have had to queue in the peer.
    answer: Peak,
    /// Bytes that have gone through the line, whether they came or not, and when the last did.
    passed: u64,
    passed_at: Instant,
}

/// What was noted when a frame was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    at: Instant,
    /// Bytes on the way, with its own; and whether there were no others.
    flight: u64,
    idle: bool,
    passed: u64,
    passed_at: Instant,
    /// There was more to send than the window let through.
    pressed: bool,
}

impl Pace {
    pub(super) const fn new(bits_per_second: Option<u32>, error_corrected: Option<bool>) -> Self {
        let first = match error_corrected {
            Some(true) => FIRST_MENDED,
            _ => FIRST,
        };
        Self {
            total: TRUST,
            lost: LOSS * OVERHEAD * TRUST / (first * first),
            said: match bits_per_second {
                // A start bit and a stop bit to each byte.
                Some(rate) if rate >= 10 => Some(widen(rate) / 10),
                _ => None,
            },
            measured: Peak::new(),
            transit: None,
            answer: Peak::new(),
            passed: 0,
            passed_at: Instant::from_millis(0),
        }
    }

    /// The payload that wastes least: what headers cost, and what is lost with a frame that is hit, are the same.
    pub(super) fn payload(&self, most: u64) -> u64 {
        // On a slow line nobody waits for one frame longer than some seconds.
        let most = match self.said {
            Some(rate) => most.min((rate * LONGEST).max(SHORTEST)),
            None => most,
        };
        let square = (OVERHEAD * LOSS).saturating_mul(self.total) / self.lost.max(1);
        square.isqrt().clamp(SHORTEST.min(most), most)
    }

    /// Bytes a second.
    fn rate(&self) -> Option<u64> {
        // A little above what was seen, so that it can be seen to be more.
        let measured = self.measured.most().map(|rate| rate.saturating_add(rate / 4));
        match (self.said, measured) {
            (Some(said), Some(measured)) => Some(said.min(measured)),
            (said, measured) => said.or(measured),
        }
    }

    /// Bytes that should be on the way: what the line holds, and two or three frames.
    pub(super) fn window(&self, frame: u64) -> u64 {
        let held = match (self.rate(), self.transit) {
            // What is said of a line is not believed for much before it was seen.
            (Some(rate), None) => ((TRANSIT + SLACK).saturating_mul(rate) / 1000).min(BLIND),
            (Some(rate), transit) => transit.unwrap_or(TRANSIT).saturating_add(SLACK).saturating_mul(rate) / 1000,
            (None, _) => BLIND,
        };
        held.saturating_add(3 * frame).min(MOST)
    }

    /// How long to wait for a word of frames that have `flight` bytes together.
    pub(super) fn patience(&self, flight: u64) -> Duration {
        let line = match self.rate() {
            Some(rate) => flight.saturating_mul(1000) / rate.max(1),
            None => flight.saturating_mul(1000) / SLOW,
        };
        let transit = self
            .transit
            .unwrap_or(TRANSIT * 2)
            .max(self.answer.most().unwrap_or_default());
        Duration::from_millis(line.saturating_add(transit + transit / 2).saturating_add(2 * SLACK))
    }

    /// Bytes that should be said in one turn: some seconds of the line.
    pub(super) fn burst(&self) -> u64 {
        match (self.rate(), self.measured.most()) {
            (Some(rate), Some(_)) => (4 * rate).clamp(FIRST_TURN, MOST / 2),
            _ => FIRST_TURN,
        }
    }

    pub(super) fn depart(&mut self, now: Instant, flight: u64, own: u64, pressed: bool) -> Departure {
        if flight == own {
            // The line was idle: time counts from here.
            self.passed_at = now;
        }
        Departure {
            at: now,
            flight,
            idle: flight == own,
            passed: self.passed,
            passed_at: self.passed_at,
            pressed,
        }
    }

    /// A frame of `bytes` came, or did not.
    pub(super) fn arrived(&mut self, now: Instant, bytes: u64, came: bool) {
        self.total = self.total - (self.total * bytes / MEMORY).min(self.total) + bytes;
        self.lost -= (self.lost * bytes / MEMORY).min(self.lost);
        if !came {
            self.lost += LOSS;
        }
        self.passed += bytes;
        self.passed_at = now;
    }

    /// The peer's word of the frame that departed so has come, and all before it have been counted.
    pub(super) fn answered(&mut self, now: Instant, departure: &Departure) {
        let since = millis(now.saturating_since(departure.passed_at));
        if departure.pressed && since > 0 {
            let rate = (self.passed - departure.passed).saturating_mul(1000) / since;
            self.measured.note(now, rate);
        }
        let line = match self.rate() {
            Some(rate) => departure.flight.saturating_mul(1000) / rate.max(1),
            None => 0,
        };
        let transit = millis(now.saturating_since(departure.at)).saturating_sub(line);
        self.answer.note(now, transit);
        if departure.idle {
            self.transit = Some(match self.transit {
                Some(known) if known < transit => known + (transit - known) / 8,
                _ => transit,
            });
        }
    }
}

/// The most of a figure in the last one or two spans.
#[derive(Debug)]
struct Peak {
    since: Instant,
    recent: Option<u64>,
    before: Option<u64>,
}

impl Peak {
    const fn new() -> Self {
        Self {
            since: Instant::from_millis(0),
            recent: None,
            before: None,
        }
    }

    fn note(&mut self, now: Instant, figure: u64) {
        if now.saturating_since(self.since) >= SPAN {
            self.since = now;
            self.before = self.recent.take();
        }
        self.recent = self.recent.max(Some(figure));
    }

    fn most(&self) -> Option<u64> {
        self.recent.max(self.before)
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

const fn widen(rate: u32) -> u64 {
    let [a, b, c, d] = rate.to_be_bytes();
    u64::from_be_bytes([0, 0, 0, 0, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frames_suit_the_modem() {
        for (said, first) in [(Some(true), 1024), (Some(false), 256), (None, 256)] {
            let pace = Pace::new(None, said);
            assert!(
                pace.payload(2000).abs_diff(first) <= 2,
                "{said:?}: {}",
                pace.payload(2000)
            );
        }
        assert_eq!(Pace::new(None, None).payload(100), 100);
        assert_eq!(Pace::new(None, None).payload(20), 20);
    }

    #[test]
    fn frames_follow_the_losses() {
        let mut pace = Pace::new(None, None);
        let now = Instant::from_millis(0);
        for (every, expected) in [(u32::MAX, 1024), (10, 95), (2, 41)] {
            for frame in 0..3_000 {
                pace.arrived(now, 108, frame % every != every - 1);
            }
            let payload = pace.payload(1024);
            assert!(
                payload.abs_diff(expected) <= expected / 8,
                "one in {every}: {payload} for {expected}"
            );
        }
    }

    #[test]
    fn the_window_holds_what_the_line_holds() {
        let mut pace = Pace::new(Some(9600), None);
        assert_eq!(pace.window(100), 960 * 600 / 1000 + 300);
        let departure = pace.depart(Instant::from_millis(0), 96, 96, false);
        pace.arrived(Instant::from_millis(300), 96, true);
        pace.answered(Instant::from_millis(300), &departure);
        assert_eq!(pace.window(100), 960 * 300 / 1000 + 300);
        assert_eq!(pace.window(100_000), MOST);
    }

    #[test]
    fn a_rate_that_nobody_said_is_measured() {
        let mut pace = Pace::new(None, None);
        assert_eq!(pace.window(0), BLIND);
        // 2,000 bytes take 1,200 ms: 200 ms of way, and 2,000 bytes a second.
        let one = pace.depart(Instant::from_millis(0), 1000, 1000, true);
        let other = pace.depart(Instant::from_millis(0), 2000, 1000, true);
        pace.arrived(Instant::from_millis(700), 1000, true);
        pace.answered(Instant::from_millis(700), &one);
        pace.arrived(Instant::from_millis(1200), 1000, true);
        pace.answered(Instant::from_millis(1200), &other);
        let rate = pace.rate().unwrap();
        assert!((1_700..=2_500).contains(&rate), "{rate}");
        // A modem that is slower than its port: what is measured counts.
        let mut pace = Pace::new(Some(115_200), None);
        let departure = pace.depart(Instant::from_millis(0), 1000, 1000, true);
        pace.arrived(Instant::from_millis(1000), 1000, true);
        pace.answered(Instant::from_millis(1000), &departure);
        assert_eq!(pace.rate(), Some(1_250));
    }
}
