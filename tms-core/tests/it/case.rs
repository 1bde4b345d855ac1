//! Cases: terminals that were moved or cloned, as check-ins and registrations tell of them.

use crate::install::{
    WHOLE, branches, denied, first_install, install, limited, line_from, message, path, register, terminal,
};
use crate::world::{DAY, NOW, World, operator};
use tms_core::estate::{Act, Actor, Case, CaseState, Disposition, Enrolment, EstateError, Permission, Standing};
use tms_core::rule::number::NumberRange;
use tms_core::rule::relocation::{CaseKind, Evidence, Move, Observed, ObservedCaller, Place};
use tms_core::store::{Caller, Change, CheckInSummary, Event, EventKind, TerminalId, TerminalState};
use tms_core::transport::Trust;
use tms_proto::code::{RegisterIntent, TriggerKind};
use tms_proto::message::Register;

const HOME: &str = "02155501234";
const ELSEWHERE: &str = "01066601234";

async fn catch_up(world: &World) {
    while world.estate.advance_cases(7).await.unwrap().events > 0 {}
}

/// A terminal that is installed at home.
async fn installed(world: &World) -> (TerminalId, crate::agent::terminal::Terminal) {
    branches(world).await;
    let (id, mut terminal) = terminal(world, "0001").await;
    install(world, message(NOW, &WHOLE), id).await;
    register(world, &mut terminal, first_install(), HOME).await;
    (id, terminal)
}

/// Check-ins from a number, half a day apart.
async fn calls(world: &World, terminal: &mut crate::agent::terminal::Terminal, number: &str, times: usize) {
    for _ in 0..times {
        world.clock.advance(DAY / 2);
        terminal.kit.clock.advance(DAY / 2);
        let report = terminal.agent.call(line_from(world, number), TriggerKind::Manual).await;
        assert!(report.recorded, "{report}");
    }
    catch_up(world).await;
}

async fn open(world: &World) -> Vec<Case> {
    world
        .estate
        .cases(&operator(), &path("/"), CaseState::Open, 100)
        .await
        .unwrap()
}

/// What the events tell of cases.
async fn told(world: &World) -> Vec<&'static str> {
    let events = world.events().await.into_iter();
    let names = events.map(|event| event.kind.name());
    names.filter(|name| name.starts_with("case_")).collect()
}

#[tokio::test]
async fn a_terminal_that_was_moved_becomes_a_case_and_goes_on_working() {
    let world = World::new().await;
    let (id, mut terminal) = installed(&world).await;
    calls(&world, &mut terminal, HOME, 20).await;
    assert_eq!(open(&world).await, []);
    // it has to last
    calls(&world, &mut terminal, ELSEWHERE, 2).await;
    assert_eq!(open(&world).await, []);
    calls(&world, &mut terminal, ELSEWHERE, 1).await;
    let [case] = &open(&world).await[..] else { panic!() };
    assert_eq!(
        (case.terminal, case.data.kind, case.branch.clone()),
        (id, CaseKind::Relocation, path("/east/harbour"))
    );
    assert!(matches!(
        &case.data.evidence[0].evidence,
        Evidence::OtherNumber { number, other_area: true, .. } if number == "+861066601234"
    ));
    // nothing is blocked, and there is one case, which grows
    calls(&world, &mut terminal, ELSEWHERE, 3).await;
    let [again] = &open(&world).await[..] else { panic!() };
    assert_eq!(again.id, case.id);
    assert_eq!(
        (again.data.evidence[0].since, again.data.evidence[0].sightings >= 3),
        (case.data.evidence[0].since, true)
    );
    assert!(again.updated > case.updated);

    // as a report
    let report = world
        .estate
        .case_report(&operator(), &path("/east"), None)
        .await
        .unwrap();
    assert_eq!((report.rows.len(), report.terminals, report.cut), (1, 1, false));
    let row = &report.rows[0];
    assert_eq!(
        (
            row.about.as_str(),
            row.state.as_str(),
            row.merchant.as_deref(),
            row.serial.as_str()
        ),
        ("relocation", "open", Some("898310000000001"), "0001")
    );
    assert_eq!(row.evidence, "calls from +861066601234 (network), in another area");
    assert!(report.csv().starts_with("case,about,state,score,"));
    assert_eq!(
        world
            .estate
            .case_report(&operator(), &path("/west"), None)
            .await
            .unwrap()
            .rows,
        []
    );

    // only whom it concerns sees it
    let west = limited(&world.estate, "west", "/west", &Permission::ALL).await;
    let unseen = world.estate.case(&west, &case.id).await.unwrap_err();
    assert_eq!(unseen.to_string(), format!("no case {}", case.id));
    assert!(
        world
            .estate
            .cases(&west, &path("/"), CaseState::Open, 9)
            .await
            .unwrap()
            .is_empty()
    );
    let viewer = limited(&world.estate, "viewer", "/east", &[Permission::View]).await;
    denied(
        world.estate.assign_case(&viewer, &case.id, "viewer").await,
        Permission::ManageCases,
    );
    let far = world
        .estate
        .cases(&operator(), &path("/west"), CaseState::Open, 9)
        .await
        .unwrap();
    assert_eq!(far, []);
    world.estate.assign_case(&operator(), &case.id, "li").await.unwrap();
    assert_eq!(open(&world).await, []);
    let wrong = world
        .estate
        .dispose_case(&operator(), &case.id, Disposition::Clone, "no")
        .await;
    assert!(
        matches!(wrong, Err(EstateError::Invalid("disposition", _))),
        "{wrong:?}"
    );
    let confirmed = Disposition::ConfirmedRelocation;
    let closed = world
        .estate
        .dispose_case(&operator(), &case.id, confirmed, "merchant visited")
        .await
        .unwrap();
    assert_eq!(
        (closed.state, closed.disposition, closed.owner.as_deref()),
        (CaseState::Closed, Some(confirmed), Some("li"))
    );
    let over = world.estate.assign_case(&operator(), &case.id, "li").await.unwrap_err();
    assert!(matches!(over, EstateError::Over("case", _)), "{over}");
    // where it still is there, that is a new case, when it has lasted again
    calls(&world, &mut terminal, ELSEWHERE, 2).await;
    assert_eq!(open(&world).await, []);
    calls(&world, &mut terminal, ELSEWHERE, 2).await;
    assert_eq!(open(&world).await.len(), 1);
    assert_eq!(world.estate.cases_of(&operator(), id).await.unwrap().len(), 2);
    assert_eq!(told(&world).await, ["case_opened", "case_closed", "case_opened"]);
    assert_eq!(world.known(id).await.terminal.record.state, TerminalState::Active);
}

#[tokio::test]
async fn a_false_alarm_does_not_come_again() {
    let world = World::new().await;
    let (_, mut terminal) = installed(&world).await;
    calls(&world, &mut terminal, ELSEWHERE, 4).await;
    let [case] = &open(&world).await[..] else { panic!() };
    let alarm = world
        .estate
        .dispose_case(&operator(), &case.id, Disposition::FalseAlarm, "a second line")
        .await;
    alarm.unwrap();
    calls(&world, &mut terminal, ELSEWHERE, 5).await;
    calls(&world, &mut terminal, HOME, 5).await;
    assert_eq!(open(&world).await, []);
}

#[tokio::test]
async fn an_approved_move_is_none_and_makes_a_new_home() {
    let world = World::new().await;
    let (id, mut terminal) = installed(&world).await;
    let plan = world.estate.case_settings().await.unwrap().plan;
    let to = Place {
        numbers: vec![plan.number(ELSEWHERE).unwrap()],
        ..Place::default()
    };
    let approved = Move {
        from: NOW,
        until: NOW + 10 * DAY,
        to,
    };
    let past = Move {
        until: NOW,
        ..approved.clone()
    };
    let refused = world.estate.approve_move(&operator(), id, past).await.unwrap_err();
    assert!(matches!(refused, EstateError::Invalid("move", _)), "{refused}");
    world.estate.approve_move(&operator(), id, approved).await.unwrap();
    calls(&world, &mut terminal, ELSEWHERE, 4).await;
    assert_eq!(open(&world).await, []);
    let moved = Register {
        intent: RegisterIntent::Relocation,
        location: None,
        ..first_install()
    };
    let remark = register(&world, &mut terminal, moved, ELSEWHERE).await;
    assert!(remark.ends_with("registered"), "{remark}");
    world.clock.advance(20 * DAY);
    calls(&world, &mut terminal, ELSEWHERE, 4).await;
    assert_eq!(open(&world).await, []);
    calls(&world, &mut terminal, HOME, 4).await;
    assert_eq!(open(&world).await.len(), 1);
}

#[tokio::test]
async fn a_second_registration_from_elsewhere_is_a_case_at_once() {
    let world = World::new().await;
    let (_, mut terminal) = installed(&world).await;
    register(&world, &mut terminal, first_install(), HOME).await;
    catch_up(&world).await;
    assert_eq!(open(&world).await, []);
    // in less time than a person needs, it would be a clone too
    world.clock.advance(3_600);
    register(&world, &mut terminal, first_install(), ELSEWHERE).await;
    catch_up(&world).await;
    let [case] = &open(&world).await[..] else { panic!() };
    assert_eq!(case.data.kind, CaseKind::Relocation);
    let wide = Disposition::ApprovedMove { until: None };
    world
        .estate
        .dispose_case(&operator(), &case.id, wide, "the shop moved")
        .await
        .unwrap();
    calls(&world, &mut terminal, ELSEWHERE, 4).await;
    assert_eq!(open(&world).await, []);
}

#[tokio::test]
async fn a_clone_is_a_case_and_blacklisting_it_takes_two() {
    let world = World::new().await;
    let (id, mut terminal) = installed(&world).await;
    calls(&world, &mut terminal, HOME, 1).await;
    // the other of it calls a minute later, from another city
    let summary = CheckInSummary {
        mode: 3,
        trigger: TriggerKind::Manual,
        skew: 0,
        peer: "modem 2".to_owned(),
        claimed: None,
        elapsed: None,
        inventory: false,
        contact: 99,
        observed: Observed {
            caller: Some(ObservedCaller::Known {
                number: ELSEWHERE.to_owned(),
                trust: Trust::Network,
            }),
            ..Observed::default()
        },
        location: None,
    };
    let event = |kind| {
        Change::Append(Event {
            time: NOW + DAY / 2 + 60,
            terminal: Some(id),
            actor: "test".to_owned(),
            kind,
        })
    };
    let suspected = EventKind::CloneSuspected {
        evidence: "two calls at once".to_owned(),
    };
    world
        .store
        .commit(vec![event(EventKind::CheckedIn(summary)), event(suspected)])
        .await
        .unwrap();
    catch_up(&world).await;
    let [case] = &open(&world).await[..] else { panic!() };
    let evidence: Vec<_> = case.data.evidence.iter().map(|weighed| &weighed.evidence).collect();
    assert_eq!(case.data.kind, CaseKind::Clone);
    assert!(matches!(
        evidence[..],
        [Evidence::TwoPlaces { seconds: 60, .. }, Evidence::Suspected { .. }]
    ));
    world
        .estate
        .dispose_case(&operator(), &case.id, Disposition::Clone, "both seen")
        .await
        .unwrap();
    assert_eq!(world.known(id).await.terminal.record.state, TerminalState::Active);
    let [proposal] = &world.estate.proposals(&operator(), &path("/"), 9).await.unwrap()[..] else {
        panic!()
    };
    assert_eq!(proposal.act, Act::Blacklist { terminal: id });
    let alone = world.estate.approve(&operator(), &proposal.id).await.unwrap_err();
    assert!(matches!(alone, EstateError::SecondOperator), "{alone}");
    let done = world
        .estate
        .approve(&Actor::trusted("wang"), &proposal.id)
        .await
        .unwrap();
    assert!(matches!(done.standing, Standing::Done { .. }));
    assert_eq!(world.known(id).await.terminal.record.state, TerminalState::Blacklisted);
}

#[tokio::test]
async fn two_terminals_with_one_serial_number_or_one_key_are_a_case() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for (vendor, model, serial) in [
        ("PAX", "P80", "30012345"),
        ("百富", "P-80", "S/N 3001 2345"),
        ("PAX", "P80", "30012346"),
        ("Verifone", "Vx510", "30012345"),
    ] {
        let mut enrolment = Enrolment::of(tms_core::store::Holder {
            vendor: vendor.to_owned(),
            model: model.to_owned(),
            serial: serial.to_owned(),
        });
        enrolment.key = (serial == "30012346" || vendor == "Verifone")
            .then(|| tms_core::store::KeyId(tms_proto::digest::Digest::of(b"key")));
        ids.push(world.estate.enrol(&operator(), enrolment).await.unwrap());
    }
    catch_up(&world).await;
    let cases = open(&world).await;
    let mut about: Vec<_> = cases
        .iter()
        .map(|case| {
            let terminals: std::collections::BTreeSet<_> = case.others.iter().copied().chain([case.terminal]).collect();
            (case.data.evidence[0].points, terminals)
        })
        .collect();
    about.sort();
    let both = |one: usize, other: usize| [ids[one], ids[other]].into();
    assert_eq!(about, [(100, both(0, 1)), (150, both(2, 3))]);
    // told once
    let renewed = Act::ChangeMainKey {
        terminal: ids[0],
        epoch: Some(2),
    };
    let proposal = world.estate.propose(&operator(), renewed, "again").await.unwrap();
    world
        .estate
        .approve(&Actor::trusted("wang"), &proposal.id)
        .await
        .unwrap();
    catch_up(&world).await;
    assert_eq!(open(&world).await.len(), 2);
    // a number that was given up is another's without a case
    let retire = Act::Retire {
        terminals: [ids[2]].into(),
    };
    let proposal = world.estate.propose(&operator(), retire, "scrapped").await.unwrap();
    world
        .estate
        .approve(&Actor::trusted("wang"), &proposal.id)
        .await
        .unwrap();
    let holder = world.known(ids[0]).await.terminal.record.holder;
    let next = tms_core::store::Holder {
        serial: "30012346".to_owned(),
        ..holder
    };
    world.estate.enrol(&operator(), Enrolment::of(next)).await.unwrap();
    catch_up(&world).await;
    assert_eq!(open(&world).await.len(), 2);
    assert!(world.store.check_in(&Caller::Id(ids[2])).await.unwrap().is_none());
}

#[tokio::test]
async fn a_white_number_says_nothing() {
    let world = World::new().await;
    let mut settings = world.estate.case_settings().await.unwrap();
    settings.white.numbers = vec![NumberRange {
        first: "861066601000".to_owned(),
        last: "861066601999".to_owned(),
    }];
    let li = limited(&world.estate, "li", "/", &[Permission::View]).await;
    denied(
        world.estate.set_case_settings(&li, settings.clone()).await,
        Permission::ManageCases,
    );
    world.estate.set_case_settings(&operator(), settings).await.unwrap();
    let (_, mut terminal) = installed(&world).await;
    // it says another number than the depot's line, which is something, but not enough
    calls(&world, &mut terminal, ELSEWHERE, 6).await;
    assert_eq!(open(&world).await, []);
}
