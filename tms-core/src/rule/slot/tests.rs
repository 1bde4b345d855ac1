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
        calls_per_minute: 60,
        ordinary: 850,
        urgent: 950,
        overhead: 15,
        rate: 120,
    }
}

fn ask(seconds: u32, from: u64, until: u64) -> Request {
    Request {
        spans: vec![span(from, until)],
        later: vec![span(until, until.saturating_add(86_400))],
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
fn small_pools_keep_more_of_their_lines_free() {
    let shares = [0, 1, 4, 16, 64, 1_000, u32::MAX].map(|lines| Access::modems(lines).ordinary);
    assert_eq!(shares, [440, 440, 720, 860, 930, 983, 1_000]);
    assert!(
        [1, 64]
            .map(Access::modems)
            .iter()
            .all(|access| access.ordinary < access.urgent)
    );
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
            placed: [0; SORTS],
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
fn calls_of_a_minute_are_limited_too() {
    let (access, mut ledger) = (
        Access {
            calls_per_minute: 1,
            ..access(100)
        },
        Ledger::new(),
    );
    // 85 % of fifteen calls in each quarter.
    let placed = (0..100).filter(|chance| {
        let slot = allocate(&access, &ask(10, 0, 4 * QUARTER), mixed(*chance), at(&ledger));
        book(&mut ledger, &slot);
        !slot.late
    });
    assert_eq!(placed.count(), 4 * 12);
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
            placed: [0; SORTS],
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
        placed: [0; SORTS],
    }; 4];
    let access = access(4);
    let busy = |_| Load {
        seconds: 2_420,
        calls: 80,
        placed: [0; SORTS],
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
