use super::*;
use crate::store::{Holder, KeyId, TerminalId};
use proptest::prelude::*;
use tms_proto::digest::Digest;

const DAY: u64 = 86_400;

fn plan() -> DialPlan {
    DialPlan {
        area: Some("21".to_owned()),
        ..DialPlan::default()
    }
}

fn number(text: &str) -> Number {
    plan().number(text).unwrap()
}

fn called(day: u64, text: &str, trust: Trust) -> Sighting {
    Sighting {
        time: day * DAY,
        contact: u32::try_from(day).unwrap(),
        observed: Observed {
            caller: Some(ObservedCaller::Known {
                number: text.to_owned(),
                trust,
            }),
            ..Observed::default()
        },
        claimed: Location::default(),
    }
}

fn withheld(day: u64) -> Sighting {
    Sighting {
        observed: Observed {
            caller: Some(ObservedCaller::Withheld),
            ..Observed::default()
        },
        ..called(day, "", Trust::Network)
    }
}

fn home() -> Home {
    Home {
        place: Place {
            numbers: vec![number("021-55550123")],
            ..Place::default()
        },
        since: DAY,
        ..Home::default()
    }
}

fn assessed(home: &Home, sightings: &[Sighting]) -> Assessment {
    assess(home, &WhiteList::default(), sightings, &plan(), &Policy::default())
}

fn case(assessment: Assessment) -> CaseData {
    match assessment {
        Assessment::Case(case) => case,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_terminal_at_home_raises_nothing() {
    // However the exchange tells its number, and whatever it says before it was registered.
    let seen = [
        called(0, "01012345678", Trust::Network),
        called(1, "55550123", Trust::Network),
        called(2, "02155550123", Trust::Unknown),
        called(3, "862155550123", Trust::Screened),
    ];
    assert_eq!(assessed(&home(), &seen), Assessment::Quiet);
    // Without a recorded number there is nothing to compare with.
    let nowhere = Home {
        place: Place::default(),
        ..home()
    };
    assert_eq!(assessed(&nowhere, &seen), Assessment::Quiet);
}

#[test]
fn another_number_is_a_case_when_it_lasts() {
    let moved: Vec<Sighting> = (2..5).map(|day| called(day, "010-12345678", Trust::Network)).collect();
    assert!(matches!(assessed(&home(), &moved[..2]), Assessment::Watch(_)));
    let case = case(assessed(&home(), &moved));
    assert_eq!((case.kind, case.score, case.seen), (CaseKind::Relocation, 100, 4 * DAY));
    assert_eq!(
        case.evidence,
        [Weighed {
            evidence: Evidence::OtherNumber {
                number: "+861012345678".to_owned(),
                trust: Trust::Network,
                other_area: true
            },
            points: 100,
            since: 2 * DAY,
            sightings: 3
        }]
    );
    // Back home, it is over.
    let back = [&moved[..], &[called(5, "02155550123", Trust::Network)]].concat();
    assert_eq!(assessed(&home(), &back), Assessment::Quiet);
    // A call over another link shows nothing of the telephone line, and ends nothing.
    let other_link = Sighting {
        observed: Observed {
            address: Some("192.0.2.7".parse().unwrap()),
            ..Observed::default()
        },
        ..called(5, "", Trust::Network)
    };
    assert!(matches!(
        assessed(&home(), &[&moved[..], &[other_link]].concat()),
        Assessment::Case(_)
    ));
}

#[test]
fn what_the_network_does_not_vouch_for_weighs_less() {
    let seen: Vec<Sighting> = (2..9)
        .map(|day| called(day, "02166660000", Trust::Unscreened))
        .collect();
    let Assessment::Watch(case) = assessed(&home(), &seen) else {
        panic!()
    };
    assert_eq!(case.score, 30);
    let seen: Vec<Sighting> = (2..9).map(withheld).collect();
    let Assessment::Watch(case) = assessed(&home(), &seen) else {
        panic!()
    };
    assert_eq!((case.score, &case.evidence[0].evidence), (20, &Evidence::NoNumber));
}

#[test]
fn exchanges_white_lists_and_approved_moves_explain_it() {
    let elsewhere: Vec<Sighting> = (2..9).map(|day| called(day, "010-12345678", Trust::Network)).collect();
    assert!(matches!(assessed(&home(), &elsewhere), Assessment::Case(_)));
    let range = NumberRange {
        first: "861012345600".to_owned(),
        last: "861012345699".to_owned(),
    };
    let white = WhiteList {
        numbers: vec![range.clone()],
        ..WhiteList::default()
    };
    assert_eq!(
        assess(&home(), &white, &elsewhere, &plan(), &Policy::default()),
        Assessment::Quiet
    );
    let mut exchange = home();
    exchange.place.groups.push(TrunkGroup {
        name: "hall".to_owned(),
        ranges: vec![range],
    });
    assert_eq!(assessed(&exchange, &elsewhere), Assessment::Quiet);
    let approved = |until| Home {
        moves: vec![Move {
            from: 2 * DAY,
            until,
            to: Place {
                numbers: vec![number("010-12345678")],
                ..Place::default()
            },
        }],
        ..home()
    };
    assert_eq!(assessed(&approved(9 * DAY), &elsewhere), Assessment::Quiet);
    // Who does not come back in time is a case from then on.
    let late = case(assessed(&approved(5 * DAY), &elsewhere));
    assert_eq!(late.evidence[0].since, 5 * DAY);
    let mobile = Home { mobile: true, ..home() };
    assert_eq!(assessed(&mobile, &elsewhere), Assessment::Quiet);
}

#[test]
fn what_it_says_and_what_is_seen_are_kept_apart() {
    let claims = |day, claimed: &str| Sighting {
        claimed: Location {
            caller: Some(claimed.to_owned()),
            iccid: Some("89860000000000000001".to_owned()),
            cell: Some("460-00-1-2".to_owned()),
            ..Location::default()
        },
        ..called(day, "010-12345678", Trust::Network)
    };
    // It was moved, and still says the number that it was configured with.
    let seen: Vec<Sighting> = (2..6).map(|day| claims(day, "021-55550123-801")).collect();
    let kinds: Vec<Evidence> = case(assessed(&home(), &seen))
        .evidence
        .into_iter()
        .map(|weighed| weighed.evidence)
        .collect();
    assert!(matches!(kinds[0], Evidence::OtherNumber { .. }));
    assert_eq!(
        kinds[1],
        Evidence::Contradiction {
            claimed: "+862155550123;ext=801".to_owned(),
            observed: "+861012345678".to_owned()
        }
    );
    let mut radio = home();
    radio.mobile = true;
    radio.place.iccids = vec!["89860000000000000009".to_owned()];
    radio.place.cells = vec!["460-00-9-9".to_owned()];
    let Assessment::Watch(case) = assessed(&radio, &seen) else {
        panic!()
    };
    assert_eq!(case.score, 40);
    let mut fixed = radio;
    fixed.mobile = false;
    assert!(matches!(assessed(&fixed, &seen), Assessment::Case(case) if case.score == 100 + 40 + 40 + 30));
}

#[test]
fn networks_count_too() {
    let from = |day, address: &str| Sighting {
        observed: Observed {
            address: Some(address.parse().unwrap()),
            ..Observed::default()
        },
        ..called(day, "", Trust::Network)
    };
    let mut home = home();
    home.place.networks = vec!["192.0.2.0/24".parse().unwrap()];
    assert_eq!(assessed(&home, &[from(2, "192.0.2.9")]), Assessment::Quiet);
    assert_eq!(assessed(&home, &[from(2, "::ffff:192.0.2.9")]), Assessment::Quiet);
    assert!(matches!(
        assessed(&home, &[from(2, "198.51.100.1")]),
        Assessment::Watch(_)
    ));
}

#[test]
fn one_terminal_from_two_places_is_a_clone() {
    let at = |time, contact, text| Sighting {
        time,
        contact,
        ..called(0, text, Trust::Network)
    };
    let looked =
        |one: &Sighting, other: &Sighting| twice(one, other, &WhiteList::default(), &plan(), &Policy::default());
    let first = at(10_000, 5, "02155550123");
    assert_eq!(looked(&first, &at(10_600, 6, "02155550199")), None);
    assert_eq!(looked(&first, &at(20_000, 6, "01012345678")), None);
    let case = looked(&first, &at(10_600, 6, "01012345678")).unwrap();
    assert_eq!((case.kind, case.score), (CaseKind::Clone, 100));
    let case = looked(&first, &at(10_600, 5, "01012345678")).unwrap();
    assert_eq!(case.score, 180);
    assert_eq!(
        case.evidence[1].evidence,
        Evidence::CounterBack {
            recorded: 5,
            reported: 5
        }
    );
}

#[test]
fn shared_serial_numbers_and_keys_are_clones() {
    let identity = |id, serial: &str, key: u8| Identity {
        terminal: TerminalId(id),
        holder: Holder {
            vendor: "PAX".to_owned(),
            model: "P80".to_owned(),
            serial: serial.to_owned(),
        },
        key: (key > 0).then(|| KeyId(Digest::of(&[key]))),
    };
    let all = [
        identity(1, "A", 1),
        identity(2, "B", 2),
        identity(3, "A", 3),
        identity(4, "C", 2),
        identity(5, "D", 0),
        identity(6, "E", 0),
        // The same terminal twice is one terminal.
        identity(6, "E", 9),
    ];
    let cases = duplicates(all, 77, &Policy::default());
    let found: Vec<(u32, Vec<TerminalId>)> = cases
        .into_iter()
        .map(|case| {
            let terminals = match &case.evidence[0].evidence {
                Evidence::SameSerial { terminals, .. } | Evidence::SameKey { terminals, .. } => terminals.clone(),
                other => panic!("{other:?}"),
            };
            (case.score, terminals)
        })
        .collect();
    assert_eq!(
        found,
        [
            (100, vec![TerminalId(1), TerminalId(3)]),
            (150, vec![TerminalId(2), TerminalId(4)])
        ]
    );
}

#[test]
fn an_open_case_takes_in_what_is_new() {
    let moved: Vec<Sighting> = (2..5).map(|day| called(day, "010-12345678", Trust::Network)).collect();
    let open = case(assessed(&home(), &moved));
    let moved: Vec<Sighting> = (20..23)
        .map(|day| called(day, "0571-8765432", Trust::Network))
        .collect();
    let joined = open.joined(&case(assessed(&home(), &moved)));
    assert_eq!((joined.score, joined.seen, joined.evidence.len()), (100, 22 * DAY, 1));
    assert_eq!(joined.evidence[0].since, 2 * DAY);
    assert!(matches!(&joined.evidence[0].evidence, Evidence::OtherNumber { number, .. } if number == "+865718765432"));
    // A case is kept as data.
    let text = serde_json::to_string(&joined).unwrap();
    assert_eq!(serde_json::from_str::<CaseData>(&text).unwrap(), joined);
}

fn some_sighting() -> impl Strategy<Value = (bool, bool, bool)> {
    (any::<bool>(), any::<bool>(), any::<bool>())
}

proptest! {
    #[test]
    fn nothing_opens_a_case_but_what_lasted(seen in proptest::collection::vec(some_sighting(), 1..20), sightings in 1..5u32, days in 0..5u64) {
        let policy = Policy { sightings, age: days * DAY, certain: u32::MAX, threshold: 60, ..Policy::default() };
        let all: Vec<Sighting> = seen.iter().zip(2..).map(|((away, screened, tells), day)| {
            let text = if *away { "01012345678" } else { "02155550123" };
            let trust = if *screened { Trust::Network } else { Trust::Screened };
            if *tells { called(day, text, trust) } else { withheld(day) }
        }).collect();
        // By a plain count from the end: number known and elsewhere, without a break.
        let run = all.iter().rev().take_while(|sighting| sighting.observed != called(0, "02155550123", Trust::Network).observed
            && sighting.observed != called(0, "02155550123", Trust::Screened).observed);
        let run: Vec<&Sighting> = run.collect();
        let lasted = u32::try_from(run.len()).unwrap() >= sightings
            && run.first().zip(run.last()).is_some_and(|(newest, oldest)| newest.time - oldest.time >= policy.age);
        let away_now = all.last().is_some_and(|sighting| matches!(sighting.observed.caller, Some(ObservedCaller::Known { .. }))) && !run.is_empty();
        let assessment = assess(&home(), &WhiteList::default(), &all, &plan(), &policy);
        prop_assert_eq!(matches!(assessment, Assessment::Case(_)), lasted && away_now);
        prop_assert_eq!(assessment == Assessment::Quiet, run.is_empty());
    }
}
