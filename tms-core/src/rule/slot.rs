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
        Self {
            lines: 1,
            calls_per_minute: 60,
            ordinary: 850,
            urgent: 950,
            overhead: 15,
            rate: 120,
        }
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
    /// Calls that were ever placed in it: unlike `calls` it never falls, so that each has a place of its own.
    pub placed: u32,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When the call may begin: as [`CheckInPolicy::spans`](super::policy::CheckInPolicy::spans) gives it, ascending and
    /// apart.
    pub spans: Vec<Window>,
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
            placed: u32::MAX,
        }
    }
}

impl Load {
    /// With a booking more.
    #[must_use]
    pub const fn book(self, more: Self) -> Self {
        Self {
            seconds: self.seconds.saturating_add(more.seconds),
            calls: self.calls.saturating_add(more.calls),
            placed: self.placed.saturating_add(more.placed),
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
/// where all are full, to the first free quarter after the last span, for at most a day. An urgent call goes to the first
/// quarter with room for it. Where there is no room at all, the slot is where there is least too much: a terminal always
/// gets a next contact.
///
/// Within its quarter a call begins where the calls before it leave the widest gap, so that dialling is even to the second
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
    // After the last span, and no later than a day after it.
    let end = parts.iter().last().map_or(0, |part| part.until);
    let after = Parts::of(&[Window {
        from: end,
        until: end.saturating_add(86_400),
    }]);
    let late = after.iter().map(place).find(|place| place.free);
    let place = late.or_else(|| parts.iter().map(place).min_by_key(|place| place.fill));
    let nowhere = || {
        Place::new(
            Window {
                from: end,
                until: end.saturating_add(1),
            },
            seconds,
            capacity,
            &ledger,
        )
    };
    place.unwrap_or_else(nowhere).slot(true)
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
        let first = ledger(part.from / QUARTER);
        let from = part
            .from
            .saturating_add(gap(first.placed, part.until.saturating_sub(part.from)));
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
                placed: begins,
            };
            let before = ledger(quarter);
            let after = before.book(load);
            place.fill = place.fill.max(after.fill(capacity));
            // What is given out of one line is less than the line has: a long call on it takes a quarter that is empty.
            let open = capacity.seconds > 0 && capacity.calls > 0;
            place.free &= open && (before.seconds == 0 || after.fits(capacity));
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Ledger = BTreeMap<u64, Load>;

    fn at(ledger: &Ledger) -> impl Fn(u64) -> Load {
        |quarter| ledger.get(&quarter).copied().unwrap_or_default()
    }

    fn book(ledger: &mut Ledger, slot: &Slot) {
        for booking in &slot.bookings {
            let load = ledger.entry(booking.quarter).or_default();
            *load = load.book(booking.load);
        }
    }

    fn span(from: u64, until: u64) -> Window {
        Window { from, until }
    }

    fn access(lines: u32) -> Access {
        Access {
            lines,
            ..Access::default()
        }
    }

    fn ask(seconds: u32, from: u64, until: u64) -> Request {
        Request {
            spans: vec![span(from, until)],
            seconds,
            urgent: false,
        }
    }

    #[test]
    fn a_call_is_as_long_as_its_bytes() {
        let modem = Access::default();
        assert_eq!(modem.call(0), 15);
        assert_eq!(modem.call(342), 18);
        assert_eq!(modem.call(u64::MAX), MAX_CALL);
        assert_eq!(Access { rate: 0, ..modem }.call(5), 20);
    }

    #[test]
    fn a_pool_is_filled_evenly_to_its_share_and_no_further() {
        let (access, mut ledger) = (access(4), Ledger::new());
        let request = ask(60, 0, 24 * QUARTER);
        // Four lines, 85 %: 51 calls of a minute in each of 24 quarters, but for what hangs over the last one's end.
        let mut placed = 0;
        for chance in 0..24 * 51 {
            let slot = allocate(&access, &request, mixed(chance), at(&ledger));
            book(&mut ledger, &slot);
            placed += u32::from(!slot.late);
            if chance == 600 {
                let fills: Vec<u32> = (0..24).map(|quarter| ledger[&quarter].seconds).collect();
                let (least, most) = (fills.iter().min().unwrap(), fills.iter().max().unwrap());
                assert!(most - least <= 400, "{fills:?}");
            }
        }
        assert!(placed >= 24 * 51 - 24, "{placed}");
        assert!(
            ledger
                .values()
                .all(|load| load.seconds <= access.capacity(false).seconds)
        );
        // Urgent calls find room where ordinary ones do not.
        loop {
            let slot = allocate(&access, &request, 1, at(&ledger));
            if slot.late {
                break;
            }
            book(&mut ledger, &slot);
        }
        let urgent = Request {
            urgent: true,
            ..request.clone()
        };
        let slot = allocate(&access, &urgent, 1, at(&ledger));
        assert!(!slot.late && slot.from < QUARTER, "{slot:?}");
        // What was booked and is given back can be booked again.
        let mut freed = ledger.clone();
        freed.insert(
            3,
            ledger[&3].release(Load {
                seconds: 60,
                calls: 1,
                placed: 0,
            }),
        );
        let slot = allocate(&access, &request, 1, at(&freed));
        assert!(!slot.late && slot.bookings[0].quarter == 3);
    }

    #[test]
    fn calls_of_a_quarter_stand_apart() {
        let mut begins: Vec<u64> = (0..100).map(|number| gap(number, QUARTER)).collect();
        begins.sort_unstable();
        let widest = begins.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(widest <= 18, "{widest}");
        let mut minutes = [0; 15];
        begins
            .iter()
            .for_each(|begin| minutes[usize::try_from(begin / 60).unwrap()] += 1);
        assert!(minutes.iter().all(|calls| (5..=8).contains(calls)), "{minutes:?}");
    }

    #[test]
    fn there_is_always_a_slot() {
        let shut = access(0);
        let slot = allocate(&shut, &ask(60, 900, 1_800), 7, at(&Ledger::new()));
        assert!(slot.late && (900..1_800).contains(&slot.from));
        assert!(
            allocate(
                &shut,
                &Request {
                    spans: vec![],
                    ..ask(1, 0, 0)
                },
                7,
                at(&Ledger::new())
            )
            .late
        );
        let slot = allocate(&access(1), &ask(60, u64::MAX - 5, u64::MAX), 7, at(&Ledger::new()));
        assert!(slot.from >= u64::MAX - 5);
        // A call of three quarters needs room in each.
        let mut ledger = Ledger::from([(
            2,
            Load {
                seconds: 700,
                calls: 1,
                placed: 1,
            },
        )]);
        let slot = allocate(&access(1), &ask(2_000, 0, 900), 7, at(&ledger));
        assert!(slot.late && slot.from >= 3 * QUARTER, "{slot:?}");
        ledger.clear();
        let slot = allocate(&access(2), &ask(2_000, 0, 900), 7, at(&ledger));
        assert!(!slot.late && slot.bookings.len() == 3);
    }

    #[test]
    fn an_outage_is_caught_up_with_in_what_is_free() {
        let missed = [Load {
            seconds: 3_000,
            calls: 100,
            placed: 100,
        }; 4];
        let access = access(4);
        let busy = |_| Load {
            seconds: 2_420,
            calls: 80,
            placed: 80,
        };
        // 3,420 seconds may be given out of a quarter, 1,000 of which are free: twelve quarters for 12,000.
        assert_eq!(catch_up(&access, &missed, 0, busy), 12 * 900);
        assert_eq!(catch_up(&access, &missed, 0, |_| Load::default()), 4 * 900);
        assert_eq!(catch_up(&access, &[], 0, busy), 0);
        assert_eq!(catch_up(&Access { lines: 0, ..access }, &missed, 0, busy), 86_400);
    }

    proptest! {
        #[test]
        fn no_access_is_asked_for_more_than_it_carries(
            lines in 1..5u32, requests in proptest::collection::vec((0..20_000u64, 1..8_000u64, 1..2_000u32, any::<bool>(), any::<u64>()), 1..80),
        ) {
            let (access, mut ledger) = (access(lines), Ledger::new());
            for (from, length, seconds, urgent, chance) in requests {
                let request = Request { urgent, ..ask(seconds, from, from + length) };
                let slot = allocate(&access, &request, chance, at(&ledger));
                prop_assert_eq!(slot.bookings.iter().map(|booking| booking.load.seconds).sum::<u32>(), seconds);
                prop_assert_eq!(slot.bookings.iter().map(|booking| booking.load.calls).sum::<u32>(), 1);
                prop_assert_eq!(slot.bookings[0].quarter, slot.from / QUARTER);
                prop_assert!(slot.from >= from);
                if !slot.late {
                    prop_assert!(slot.from < from + length);
                    book(&mut ledger, &slot);
                }
            }
            let most = access.capacity(true).seconds.max(900);
            prop_assert!(ledger.values().all(|load| load.seconds <= most), "{:?}", ledger);
        }

        #[test]
        fn nodes_that_race_never_give_out_too_much(calls in proptest::collection::vec((0..4usize, 30..900u32, any::<u64>()), 1..200)) {
            // Four nodes, each with its own old view of the ledger. A booking is written where all of its counters are as
            // the node has read them; else the node reads these again, and decides again.
            let access = access(2);
            let mut store = Ledger::new();
            let mut views = vec![Ledger::new(); 4];
            for (node, seconds, chance) in calls {
                for attempt in 0.. {
                    let slot = allocate(&access, &ask(seconds, 0, 12 * QUARTER), chance.wrapping_add(attempt), at(&views[node]));
                    let old = |booking: &Booking| at(&views[node])(booking.quarter) != at(&store)(booking.quarter);
                    let stale: Vec<u64> = slot.bookings.iter().filter(|booking| old(booking)).map(|booking| booking.quarter).collect();
                    if stale.is_empty() {
                        if !slot.late {
                            book(&mut store, &slot);
                            book(&mut views[node], &slot);
                        }
                        break;
                    }
                    for quarter in stale {
                        views[node].insert(quarter, at(&store)(quarter));
                    }
                    prop_assert!(attempt < 100);
                }
            }
            prop_assert!(store.values().all(|load| load.fits(access.capacity(false))), "{:?}", store);
        }
    }
}
