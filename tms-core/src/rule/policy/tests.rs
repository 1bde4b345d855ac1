use super::*;
use proptest::prelude::*;

fn seconds(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().unwrap().as_second()).unwrap()
}

fn shown(spans: &[Window]) -> Vec<String> {
    let time = |time: u64| {
        Timestamp::from_second(i64::try_from(time).unwrap())
            .unwrap()
            .to_string()
    };
    spans
        .iter()
        .map(|span| format!("{} {}", time(span.from), time(span.until)))
        .collect()
}

fn nights() -> CheckInPolicy {
    CheckInPolicy {
        hours: vec![Hours {
            from: 22 * 60,
            minutes: 8 * 60,
        }],
        ..CheckInPolicy::default()
    }
}

#[test]
fn contacts_are_about_a_period_apart() {
    let policy = CheckInPolicy::default();
    let now = seconds("2026-11-22T12:00:00Z");
    assert_eq!(
        shown(&policy.spans(now, &TimeZone::UTC)),
        ["2026-11-23T06:00:00Z 2026-11-23T18:00:00Z"]
    );
}

#[test]
fn hours_are_those_of_the_terminal() {
    let shanghai = TimeZone::get("Asia/Shanghai").unwrap();
    // Noon in Shanghai: from six in the morning to six in the evening nothing is open but the last of the night.
    let now = seconds("2026-11-22T04:00:00Z");
    let policy = CheckInPolicy {
        tolerance: 7 * 3_600,
        ..nights()
    };
    assert_eq!(
        shown(&policy.spans(now, &shanghai)),
        ["2026-11-22T21:00:00Z 2026-11-22T22:00:00Z"]
    );
    // Nothing in reach: the next opening, whole.
    let policy = CheckInPolicy {
        tolerance: 3_600,
        ..nights()
    };
    assert_eq!(
        shown(&policy.spans(now, &shanghai)),
        ["2026-11-23T14:00:00Z 2026-11-23T22:00:00Z"]
    );
    // On Sundays only: the opening that begins on one and goes into Monday.
    let sundays = CheckInPolicy {
        days: Days(64),
        ..nights()
    };
    assert_eq!(
        shown(&sundays.spans(now, &shanghai)),
        ["2026-11-29T14:00:00Z 2026-11-29T22:00:00Z"]
    );
}

#[test]
fn clocks_that_are_put_forward_or_back_lose_no_contact() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let policy = |from, minutes| CheckInPolicy {
        tolerance: 43_200,
        hours: vec![Hours { from, minutes }],
        ..CheckInPolicy::default()
    };
    // 02:30 does not exist on 28 March 2027: it opens at 03:30.
    let now = seconds("2027-03-27T01:00:00Z");
    assert_eq!(
        shown(&policy(150, 60).spans(now, &berlin)),
        ["2027-03-28T01:30:00Z 2027-03-28T02:30:00Z"]
    );
    // 02:30 comes twice on 31 October 2027: it opens once.
    let now = seconds("2027-10-30T01:00:00Z");
    assert_eq!(
        shown(&policy(150, 60).spans(now, &berlin)),
        ["2027-10-31T00:30:00Z 2027-10-31T01:30:00Z"]
    );
    // A whole day is 25 hours long.
    let day = CheckInPolicy {
        days: Days(64),
        tolerance: 1,
        ..CheckInPolicy::default()
    };
    let now = seconds("2027-10-28T12:00:00Z");
    assert_eq!(
        shown(&day.spans(now, &berlin)),
        ["2027-10-30T22:00:00Z 2027-10-31T23:00:00Z"]
    );
}

#[test]
fn policies_are_checked() {
    let policy = CheckInPolicy::default;
    let hours = |from, minutes| vec![Hours { from, minutes }];
    for (wrong, error) in [
        (
            CheckInPolicy {
                period: 59,
                tolerance: 0,
                ..policy()
            },
            PolicyError::Period,
        ),
        (
            CheckInPolicy {
                tolerance: 43_201,
                ..policy()
            },
            PolicyError::Tolerance,
        ),
        (
            CheckInPolicy {
                days: Days(0x80),
                ..policy()
            },
            PolicyError::Days,
        ),
        (
            CheckInPolicy {
                hours: hours(1_440, 1),
                ..policy()
            },
            PolicyError::Hours,
        ),
        (
            CheckInPolicy {
                hours: hours(0, 0),
                ..policy()
            },
            PolicyError::Hours,
        ),
        (CheckInPolicy { window: 59, ..policy() }, PolicyError::Window),
        (
            CheckInPolicy {
                redial_max: 0,
                ..policy()
            },
            PolicyError::Redial,
        ),
        (
            CheckInPolicy {
                after_settlements: Some(0),
                ..policy()
            },
            PolicyError::Settlements,
        ),
        (
            CheckInPolicy {
                gap: Some(0),
                ..policy()
            },
            PolicyError::Gap,
        ),
    ] {
        assert_eq!(wrong.check(), Err(error));
    }
    assert_eq!(policy().check(), Ok(()));
}

#[test]
fn the_class_that_says_most_counts() {
    let holder = Holder {
        vendor: "PAX".to_owned(),
        model: "P80".to_owned(),
        serial: "1".to_owned(),
    };
    let all = Class::default();
    let modems = Class {
        link: Some("modem".to_owned()),
        vendor: Some("PAX".to_owned()),
        ..Class::default()
    };
    let path = |text: &str| text.parse::<BranchPath>().unwrap();
    let (id, branch) = (TerminalId(7), path("/east/harbour"));
    assert!(all.covers(id, &branch, &holder, "tcp") && !modems.covers(id, &branch, &holder, "tcp"));
    assert!(modems.covers(id, &branch, &holder, "modem") && modems.weight() > all.weight());
    let of = |text: &str| Class {
        branch: path(text),
        ..Class::default()
    };
    assert!(!of("/west").covers(id, &branch, &holder, "tcp") && of("/east").covers(id, &branch, &holder, "tcp"));
    assert!(of("/east/harbour").weight() > of("/east").weight() && of("/east").weight() > all.weight());
    let single = Class {
        terminal: Some(id),
        ..Class::default()
    };
    assert!(single.covers(id, &branch, &holder, "tcp") && !single.covers(TerminalId(8), &branch, &holder, "tcp"));
    assert!(single.weight() > of("/a/b/c/d/e/f/g").weight());
    // What an earlier program wrote, or nothing at all, is read.
    assert_eq!(serde_json::from_str::<Class>("{}").unwrap(), all);
}

proptest! {
    #[test]
    fn there_is_always_a_time(
        now in 0..10_000_000_000u64, period in 60..3_000_000u32, tolerance in 0..200_000u32, days in 1..128u8,
        hours in proptest::collection::vec((0..1_440u16, 1..=1_440u16), 0..4),
        zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("Asia/Shanghai"), Just("Australia/Lord_Howe"), Just("America/St_Johns")],
    ) {
        let hours: Vec<Hours> = hours.into_iter().map(|(from, minutes)| Hours { from, minutes }).collect();
        let policy = CheckInPolicy { period, tolerance: tolerance.min(period / 2), days: Days(days), hours, ..CheckInPolicy::default() };
        let zone = TimeZone::get(zone).unwrap();
        let spans = policy.spans(now, &zone);
        prop_assert!(!spans.is_empty() && spans.len() <= 200);
        prop_assert!(spans.iter().all(|span| now < span.from && span.from < span.until));
        prop_assert!(spans.windows(2).all(|pair| pair[0].until < pair[1].from));
        let later = policy.later(now, &zone);
        prop_assert!(later.iter().all(|later| spans.iter().all(|span| span.until <= later.from)));
        if days == 127 && policy.hours.is_empty() {
            prop_assert_eq!(spans.len(), 1);
        } else {
            // Each begins or goes on on a day that is allowed, or on the night after it.
            for span in &spans {
                let day = civil_day(span.from, &zone).unwrap();
                let before = day.yesterday().unwrap();
                prop_assert!(policy.days.contains(day.weekday()) || policy.days.contains(before.weekday()));
            }
        }
    }
}
