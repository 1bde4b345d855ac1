//! Slots: each terminal's next call, placed so that the lines of an access number are never asked for more than they carry.
//!
//! The ledger has one counter for each access and quarter of an hour, a [`Load`]: line seconds and calls that were given
//! out. [`allocate`] is a function of what the ledger says and of what is asked for; it answers with a slot and with what
//! the slot books. A node that reads the counters, decides, and writes those that it books under the expectation that
//! they are still what it read, never gives out more than there is, however many nodes do the same: of two that race for
//! one counter the loser reads that counter again and decides again.
//!
//! A slot that is not used, because its terminal called at another time, is given back by [`Load::release`].

use serde::{Deserialize, Serialize};
use tms_proto::message::Window;

/// Seconds of one counter of the ledger.
pub const QUARTER: u64 = 900;

/// The longest call that is planned, in seconds. What takes longer goes on in the next call.
pub const MAX_CALL: u32 = 4 * 3_600;

/// How many quarters are looked at before the emptiest of them is taken: few, so that nodes that decide at once decide
/// differently; more than one, so that the quarters stay level.
const CHOICES: usize = 4;

/// The most quarters that are looked at in one allocation.
const MAX_QUARTERS: u64 = 4_096;

/// The sorts of calls by their length: up to a minute, up to five minutes, and longer.
const SORTS: usize = 3;

/// An access number with its lines, or an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// Calls that it carries at once: its lines, or the sessions that it may have. Zero: it is shut.
    pub lines: u32,
    /// Calls that it can begin in a minute.
    pub calls_per_minute: u32,
    /// How much of the lines may be given out for ordinary calls, in thousandths. What is left carries calls that nobody
    /// planned, and those that last longer than expected.
    pub ordinary: u16,
    /// How much may be given out for all calls, urgent ones included, in thousandths.
    pub urgent: u16,
    /// Seconds of a call before and after its bytes: dialling, modem training, hanging up.
    pub overhead: u32,
    /// Bytes in a second.
    pub rate: u32,
}

impl Default for Access {
    /// One modem line of 1,200 bit/s.
    fn default() -> Self {
        Self::modems(1)
    }
}

/// What was given out of one quarter of an hour of one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Line seconds.
    pub seconds: u32,
    /// Calls that begin in it.
    pub calls: u32,
    /// Calls that were ever placed in it, short ones, longer ones and long ones apart: unlike `calls` these never fall, so
    /// that each call has a place of its own, and none of these sorts comes in heaps.
    pub placed: [u32; SORTS],
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When the call may begin: as [`CheckInPolicy::spans`](super::policy::CheckInPolicy::spans) gives it, ascending and
    /// apart.
    pub spans: Vec<Window>,
    /// When it may begin where there is no room in these: as
    /// [`CheckInPolicy::later`](super::policy::CheckInPolicy::later) gives it.
    pub later: Vec<Window>,
    /// How long it is expected to last, in seconds; see [`Access::call`].
    pub seconds: u32,
    /// Urgent calls may use what is kept from ordinary ones, and come as early as they can.
    pub urgent: bool,
}

/// A slot that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// When the call begins, in seconds since 1970 UTC.
    pub from: u64,
    /// What it books, by quarter.
    pub bookings: Vec<Booking>,
    /// Nothing was free in time: it comes after the spans, or where there is least too much.
    pub late: bool,
}

/// What a slot books of one quarter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booking {
    /// The quarter: seconds since 1970 UTC divided by 900.
    pub quarter: u64,
    /// What is added to its load.
    pub load: Load,
}

impl Access {
    /// Modem lines of 1,200 bit/s that dial, train and hang up in 15 seconds.
    ///
    /// What is kept free shrinks with the square root of the number of lines: 56 % of one, 28 % of four, 7 % of 64. So much
    /// is needed that a call which begins a little early, or lasts a little longer, finds another line free.
    #[must_use]
    pub fn modems(lines: u32) -> Self {
        // The root of lines, in thousandths.
        let root = u64::from(lines.max(1)).saturating_mul(1_000_000).isqrt();
        let free = u16::try_from(560_000 / root.max(1)).unwrap_or(560);
        Self {
            lines,
            calls_per_minute: lines.saturating_mul(6),
            ordinary: 1_000 - free.min(560),
            urgent: 1_000 - free.min(560) / 2,
            overhead: 15,
            rate: 120,
        }
    }

    /// How long a call is expected to last that moves so many bytes, in whole seconds.
    #[must_use]
    pub fn call(&self, bytes: u64) -> u32 {
        let transfer = bytes.div_ceil(u64::from(self.rate.max(1)));
        let seconds = u32::try_from(transfer)
            .unwrap_or(u32::MAX)
            .saturating_add(self.overhead);
        seconds.clamp(1, MAX_CALL)
    }

    /// What may be given out of one quarter.
    #[must_use]
    pub fn capacity(&self, urgent: bool) -> Load {
        let share = u64::from(
            if urgent {
                self.urgent.max(self.ordinary)
            } else {
                self.ordinary
            }
            .min(1_000),
        );
        let seconds = u64::from(self.lines).saturating_mul(QUARTER).saturating_mul(share) / 1_000;
        let calls = u64::from(self.calls_per_minute)
            .saturating_mul(QUARTER / 60)
            .saturating_mul(share)
            / 1_000;
        Load {
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            calls: u32::try_from(calls).unwrap_or(u32::MAX),
            placed: [u32::MAX; SORTS],
        }
    }
}

impl Load {
    /// With a booking more.
    #[must_use]
    pub const fn book(self, more: Self) -> Self {
        let ([short, longer, long], [a, b, c]) = (self.placed, more.placed);
        Self {
            seconds: self.seconds.saturating_add(more.seconds),
            calls: self.calls.saturating_add(more.calls),
            placed: [
                short.saturating_add(a),
                longer.saturating_add(b),
                long.saturating_add(c),
            ],
        }
    }

    /// With a booking less. Given back twice, it does not go below nothing.
    #[must_use]
    pub const fn release(self, less: Self) -> Self {
        Self {
            seconds: self.seconds.saturating_sub(less.seconds),
            calls: self.calls.saturating_sub(less.calls),
            placed: self.placed,
        }
    }

    /// Whether there is room for a booking more. What is given out of one line is less than the line has: a long call on it
    /// takes a quarter that is empty.
    const fn has_room(self, more: Self, capacity: Self) -> bool {
        let open = capacity.seconds > 0 && capacity.calls > 0;
        open && (self.seconds == 0 || self.book(more).fits(capacity))
    }

    const fn fits(self, capacity: Self) -> bool {
        self.seconds <= capacity.seconds && self.calls <= capacity.calls
    }

    /// How full, in millionths of a capacity.
    fn fill(self, capacity: Self) -> u64 {
        let of = |part: u32, whole: u32| u64::from(part).saturating_mul(1_000_000) / u64::from(whole.max(1));
        of(self.seconds, capacity.seconds).max(of(self.calls, capacity.calls))
    }
}

/// Finds a slot. `ledger` tells what was given out of a quarter; `chance` is any number, evenly random.
///
/// An ordinary call goes to the emptiest of a few quarters that chance names; where they are full, to the emptiest of all;
/// where all are full, to the first free quarter of the later spans. An urgent call goes to the first quarter with room for it. Where there is no room at all, the slot is where there is least too much: a terminal always
/// gets a next contact.
///
/// Within its quarter a call begins where the calls before it of about its length leave the widest gap, so that dialling is even to the second
/// and not by chance.
#[must_use]
pub fn allocate(access: &Access, request: &Request, chance: u64, ledger: impl Fn(u64) -> Load) -> Slot {
    let seconds = request.seconds.clamp(1, MAX_CALL);
    let capacity = access.capacity(request.urgent);
    let place = |part: Window| Place::new(part, seconds, capacity, &ledger);
    let parts = Parts::of(&request.spans);
    let chosen = if request.urgent {
        parts.iter().map(place).find(|place| place.free)
    } else {
        let mut chance = chance;
        let drawn = std::iter::repeat_with(|| {
            chance = mixed(chance);
            parts.nth(chance.checked_rem(parts.seconds).unwrap_or_default())
        });
        let drawn = drawn.take(CHOICES).flatten().map(place);
        let drawn = drawn.min_by_key(|place| place.fill).filter(|place| place.free);
        drawn.or_else(|| {
            parts
                .iter()
                .map(place)
                .filter(|place| place.free)
                .min_by_key(|place| place.fill)
        })
    };
    if let Some(place) = chosen {
        return place.slot(false);
    }
    let late = Parts::of(&request.later).iter().map(place).find(|place| place.free);
    let place = late.or_else(|| parts.iter().map(place).min_by_key(|place| place.fill));
    let nowhere = || {
        let begin = request.later.first().map_or(0, |span| span.from);
        let part = Window {
            from: begin,
            until: begin.saturating_add(1),
        };
        Place::new(part, seconds, capacity, &ledger)
    };
    place.unwrap_or_else(nowhere).slot(true)
}

/// Whether a slot that was found still has room in what the ledger says now. `ledger` is without the slot itself.
#[must_use]
pub fn fits(access: &Access, slot: &Slot, urgent: bool, ledger: impl Fn(u64) -> Load) -> bool {
    let capacity = access.capacity(urgent);
    slot.bookings
        .iter()
        .all(|booking| ledger(booking.quarter).has_room(booking.load, capacity))
}

/// Over how many seconds the terminals that an outage has kept from calling are to be spread, so that they come back no
/// faster than what is free of the lines carries: `missed` is what was booked in it and did not come. The answer of a
/// server that is back, to a terminal that calls and cannot be served now, is a random time below this.
#[must_use]
pub fn catch_up(access: &Access, missed: &[Load], now: u64, ledger: impl Fn(u64) -> Load) -> u32 {
    let mut backlog: u64 = missed.iter().map(|load| u64::from(load.seconds)).sum();
    let capacity = access.capacity(true);
    let first = now / QUARTER;
    let mut spread = 0_u64;
    for quarter in first..first.saturating_add(96) {
        if backlog == 0 {
            break;
        }
        backlog = backlog.saturating_sub(u64::from(capacity.release(ledger(quarter)).seconds));
        spread = spread.saturating_add(QUARTER);
    }
    u32::try_from(spread).unwrap_or(u32::MAX)
}

/// The quarters of some spans, the first and the last of a span perhaps cut.
struct Parts {
    parts: Vec<Window>,
    seconds: u64,
}

impl Parts {
    fn of(spans: &[Window]) -> Self {
        let mut parts = Vec::new();
        let mut room = MAX_QUARTERS;
        for span in spans {
            let mut from = span.from;
            while from < span.until && room > 0 {
                let until = (from / QUARTER)
                    .saturating_add(1)
                    .saturating_mul(QUARTER)
                    .min(span.until);
                parts.push(Window { from, until });
                (from, room) = (until, room - 1);
                if until == u64::MAX {
                    break;
                }
            }
        }
        let seconds = parts
            .iter()
            .map(|part| part.until - part.from)
            .fold(0, u64::saturating_add);
        Self { parts, seconds }
    }

    fn iter(&self) -> impl Iterator<Item = Window> {
        self.parts.iter().copied()
    }

    /// The part with the second of this number.
    fn nth(&self, mut second: u64) -> Option<Window> {
        self.iter().find(|part| {
            let length = part.until - part.from;
            let found = second < length;
            second = second.saturating_sub(length);
            found
        })
    }
}

/// A place for a call in one part of a quarter.
struct Place {
    from: u64,
    bookings: Vec<Booking>,
    /// How full the fullest of its quarters would be.
    fill: u64,
    /// Whether there is room for it.
    free: bool,
}

impl Place {
    fn new(part: Window, seconds: u32, capacity: Load, ledger: &impl Fn(u64) -> Load) -> Self {
        let sort = sort(seconds);
        let number = ledger(part.from / QUARTER)
            .placed
            .get(sort)
            .copied()
            .unwrap_or_default();
        let from = part
            .from
            .saturating_add(gap(number, part.until.saturating_sub(part.from)));
        let mut place = Self {
            from,
            bookings: Vec::new(),
            fill: 0,
            free: true,
        };
        let (mut at, mut left) = (from, u64::from(seconds));
        while left > 0 {
            let quarter = at / QUARTER;
            let taken = left.min(QUARTER - at % QUARTER);
            let begins = u32::from(place.bookings.is_empty());
            let load = Load {
                seconds: u32::try_from(taken).unwrap_or(u32::MAX),
                calls: begins,
                placed: std::array::from_fn(|other| if other == sort { begins } else { 0 }),
            };
            let before = ledger(quarter);
            let after = before.book(load);
            place.fill = place.fill.max(after.fill(capacity));
            place.free &= before.has_room(load, capacity);
            place.bookings.push(Booking { quarter, load });
            (at, left) = (at.saturating_add(taken), left - taken);
        }
        place
    }

    fn slot(self, late: bool) -> Slot {
        Slot {
            from: self.from,
            bookings: self.bookings,
            late,
        }
    }
}

const fn sort(seconds: u32) -> usize {
    match seconds {
        0..=60 => 0,
        61..=300 => 1,
        _ => 2,
    }
}

/// The place of the call of this number in a part of so many seconds: multiples of the golden ratio, each of which falls
/// into one of the widest gaps that those before it have left.
fn gap(number: u32, length: u64) -> u64 {
    let turn = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    turn.saturating_mul(length.min(QUARTER)) >> 32
}

/// Another number, as random as this one (the finalizer of SplitMix64).
const fn mixed(chance: u64) -> u64 {
    let mut z = chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
