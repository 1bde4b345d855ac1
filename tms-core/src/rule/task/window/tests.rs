use super::*;
use proptest::prelude::*;

fn window(text: &str) -> Window {
    serde_json::from_str(text).unwrap()
}

fn hours(start: &str, minutes: u16) -> Window {
    window(&format!(r#"{{"start":"{start}:00","minutes":{minutes}}}"#))
}

fn at(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_second().try_into().unwrap()
}

fn zone(name: &str) -> Zone {
    Zone::named(name).unwrap()
}

/// The next opening, as two times in universal time.
fn next(window: &Window, now: &str, place: &str) -> Option<(String, String)> {
    let text = |time: u64| {
        Timestamp::from_second(i64::try_from(time).unwrap())
            .unwrap()
            .to_string()
    };
    let opening = window.next(at(now), &zone(place))?;
    Some((text(opening.from), text(opening.until)))
}

fn is(from: &str, until: &str) -> Option<(String, String)> {
    Some((from.to_owned(), until.to_owned()))
}

#[test]
fn the_clock_of_the_terminal_counts() {
    let window = hours("02:00", 180);
    let now = "2026-11-22T12:00:00Z";
    assert_eq!(
        next(&window, now, "Asia/Shanghai"),
        is("2026-11-22T18:00:00Z", "2026-11-22T21:00:00Z")
    );
    assert_eq!(
        next(&window, now, "Europe/Berlin"),
        is("2026-11-23T01:00:00Z", "2026-11-23T04:00:00Z")
    );
    let fixed = Window {
        zone: Some("Asia/Shanghai".to_owned()),
        ..window
    };
    assert_eq!(
        next(&fixed, now, "Europe/Berlin"),
        is("2026-11-22T18:00:00Z", "2026-11-22T21:00:00Z")
    );
}

#[test]
fn the_first_known_zone_counts() {
    let offset = |names: [Option<&str>; 3]| Zone::first(names).instant(Date::constant(2026, 7, 1).at(0, 0, 0, 0));
    let shanghai = Some(at("2026-06-30T16:00:00Z"));
    assert_eq!(offset([None, Some("Asia/Shanghai"), Some("Europe/Berlin")]), shanghai);
    assert_eq!(offset([Some("Mars/Base"), None, Some("Asia/Shanghai")]), shanghai);
    assert_eq!(offset([None, None, None]), Some(at("2026-07-01T00:00:00Z")));
}

#[test]
fn it_is_half_open() {
    let window = hours("02:00", 60);
    let open = |time| window.open_at(at(time), &Zone::UTC).is_some();
    assert!(!open("2026-11-22T01:59:59Z"));
    assert!(open("2026-11-22T02:00:00Z"));
    assert!(open("2026-11-22T02:59:59Z"));
    assert!(!open("2026-11-22T03:00:00Z"));
}

#[test]
fn it_may_go_on_after_midnight() {
    let window = hours("23:00", 240);
    let opening = window.open_at(at("2026-11-23T02:00:00Z"), &Zone::UTC).unwrap();
    assert_eq!(opening.instance, Date::constant(2026, 11, 22));
}

#[test]
fn only_on_its_days() {
    let window = window(r#"{"start":"02:00:00","minutes":60,"days":["saturday","sunday"]}"#);
    // The 23rd of November 2026 is a Monday.
    let opening = window.next(at("2026-11-23T00:00:00Z"), &Zone::UTC).unwrap();
    assert_eq!(opening.instance, Date::constant(2026, 11, 28));
}

#[test]
fn closed_dates_close_it_and_end_what_runs_into_them() {
    let text = r#"{"start":"23:00:00","minutes":240,"closed":[{"first":"2026-12-24","last":"2026-12-26"}]}"#;
    let window = window(text);
    assert_eq!(
        next(&window, "2026-12-23T12:00:00Z", "UTC"),
        is("2026-12-23T23:00:00Z", "2026-12-24T00:00:00Z")
    );
    assert_eq!(
        next(&window, "2026-12-24T00:00:00Z", "UTC"),
        is("2026-12-27T23:00:00Z", "2026-12-28T03:00:00Z")
    );
}

#[test]
fn the_end_of_a_month_is_where_the_month_ends() {
    let window = window(r#"{"start":"02:00:00","minutes":60,"month_end":2}"#);
    let after = |now: &str| window.next(at(now), &Zone::UTC).unwrap().instance;
    assert_eq!(after("2026-02-26T12:00:00Z"), Date::constant(2026, 3, 1));
    assert_eq!(after("2028-02-26T12:00:00Z"), Date::constant(2028, 2, 27));
    assert_eq!(after("2028-02-27T12:00:00Z"), Date::constant(2028, 3, 1));
    assert_eq!(after("2026-12-29T12:00:00Z"), Date::constant(2027, 1, 1));
}

/// On 29 March 2026 there is no half past two in Berlin: the clock goes from two to three at 01:00 UTC.
#[test]
fn the_skipped_hour_does_not_open() {
    let eve = "2026-03-28T12:00:00Z";
    let next = |start, minutes| next(&hours(start, minutes), eve, "Europe/Berlin");
    assert_eq!(next("02:10", 40), is("2026-03-30T00:10:00Z", "2026-03-30T00:50:00Z"));
    assert_eq!(next("02:30", 180), is("2026-03-29T01:00:00Z", "2026-03-29T03:30:00Z"));
    assert_eq!(next("01:00", 90), is("2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"));
    assert_eq!(next("01:00", 180), is("2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"));
}

/// On 25 October 2026 there are two half past twos in Berlin: the clock goes from three to two at 01:00 UTC.
#[test]
fn the_repeated_hour_opens_once() {
    let eve = "2026-10-24T12:00:00Z";
    let next = |start, minutes| next(&hours(start, minutes), eve, "Europe/Berlin");
    assert_eq!(next("02:10", 40), is("2026-10-25T00:10:00Z", "2026-10-25T00:50:00Z"));
    assert_eq!(next("01:30", 180), is("2026-10-24T23:30:00Z", "2026-10-25T03:30:00Z"));
    assert_eq!(next("02:30", 60), is("2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"));
    let again = hours("02:10", 40).next(at("2026-10-25T01:10:00Z"), &zone("Europe/Berlin"));
    assert_eq!(again.unwrap().instance, Date::constant(2026, 10, 26));
}

#[test]
fn what_is_closed_for_longer_than_the_horizon_is_closed() {
    let text = r#"{"start":"02:00:00","minutes":60,"closed":[{"first":"2026-01-01","last":"2030-01-01"}]}"#;
    assert_eq!(next(&window(text), "2026-11-22T00:00:00Z", "UTC"), None);
    assert_eq!(hours("02:00", 60).next(u64::MAX, &Zone::UTC), None);
}

#[test]
fn what_has_begun_and_what_has_waited_too_long_need_no_window() {
    let windows = Windows {
        install: Some(hours("02:00", 60)),
        force_after: Some(86_400),
        ..Windows::default()
    };
    let now = at("2026-11-22T12:00:00Z");
    let access = |part, begun, created| windows.access(part, begun, created, now, &Zone::UTC);
    assert_eq!(access(Part::Download, false, now), Access::Free);
    assert!(matches!(access(Part::Install, false, now), Access::Within(opening) if opening.from > now));
    assert_eq!(access(Part::Install, true, now), Access::Free);
    assert!(matches!(access(Part::Install, false, now - 86_399), Access::Within(_)));
    assert_eq!(access(Part::Install, false, now - 86_400), Access::Free);
}

#[test]
fn terminals_are_spread_over_the_first_half() {
    let opening = hours("02:00", 120)
        .next(at("2026-11-22T00:00:00Z"), &Zone::UTC)
        .unwrap();
    let mut quarters = [0_u32; 4];
    for id in 0..4_000 {
        let own = opening.personal(5, TerminalId(id));
        assert_eq!((own.until, own.instance), (opening.until, opening.instance));
        quarters[usize::try_from((own.from - opening.from) / 900).unwrap()] += 1;
    }
    assert!(
        quarters.iter().all(|count| (900..1_100).contains(count)),
        "{quarters:?}"
    );
    let tomorrow = hours("02:00", 120).next(opening.until, &Zone::UTC).unwrap();
    let offset = |opening: Opening| opening.personal(5, TerminalId(1)).from - opening.from;
    assert_ne!(offset(opening), offset(tomorrow), "nobody is always the last");
}

/// Zones with jumps of an hour and of half an hour, at night and at midnight, north and south, and with none.
const ZONES: [&str; 7] = [
    "Europe/Berlin",
    "America/Santiago",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Kolkata",
];

proptest! {
    /// The rule, said in another way: it opens at the first moment at which the wall clock shows its beginning or more, and
    /// closes at the first at which it shows its end or more. If that is the same moment it does not open.
    #[test]
    fn a_watchman_with_the_clock_on_the_wall_agrees(
        place in proptest::sample::select(&ZONES[..]),
        days in 0_i64..5_000,
        near_jump: bool,
        start in 0_u16..1_440,
        minutes in 1_u16..=MAX_MINUTES,
    ) {
        let zone = zone(place);
        let mut date = Date::constant(2010, 1, 1).checked_add(days.days()).unwrap();
        if near_jump {
            let midnight = zone.0.to_timestamp(date.at(0, 0, 0, 0)).unwrap();
            let jump = zone.0.following(midnight).next();
            date = jump.map_or(date, |jump| zone.0.to_datetime(jump.timestamp()).date());
        }
        let start = Time::midnight().wrapping_add(i64::from(start).minutes());
        let begin = date.to_datetime(start);
        let end = begin.checked_add(i64::from(minutes).minutes()).unwrap();
        let first = |shown: DateTime| {
            let noon = zone.instant(date.yesterday().unwrap().at(12, 0, 0, 0)).unwrap();
            let local = |time: u64| zone.0.to_datetime(Timestamp::from_second(i64::try_from(time).unwrap()).unwrap());
            (noon..noon + 4 * 86_400).step_by(60).find(|time| local(*time) >= shown).unwrap()
        };
        let expected = (first(begin), first(end));
        let expected = (expected.0 < expected.1).then_some(expected);
        let window = Window { start, minutes, ..hours("00:00", 1) };
        let found = window.opening(date, &zone).map(|opening| (opening.from, opening.until));
        prop_assert_eq!(found, expected);
    }

    /// One opening comes after the other, each in its own instance, and none is missed between them.
    #[test]
    fn openings_follow_each_other(
        place in proptest::sample::select(&ZONES[..]),
        now in 1_300_000_000_u64..2_000_000_000,
        start in 0_u16..1_440,
        minutes in 1_u16..=MAX_MINUTES,
        month_end in 0_u8..5,
    ) {
        let zone = zone(place);
        let start = Time::midnight().wrapping_add(i64::from(start).minutes());
        let window = Window { start, minutes, month_end, ..hours("00:00", 1) };
        let first = window.next(now, &zone).unwrap();
        prop_assert!(first.from < first.until && now < first.until);
        let second = window.next(first.until, &zone).unwrap();
        prop_assert!(second.from >= first.until && second.instance > first.instance);
        prop_assert!(second.from - first.from <= 86_400 * 8);
        for time in [first.from, first.until - 1] {
            prop_assert_eq!(window.open_at(time, &zone), Some(first));
        }
        prop_assert_eq!(window.open_at(first.until, &zone).is_some(), second.from == first.until);
    }
}
