//! The five cases for which terminals are managed, each from the operator's hand to the report, through the real server and
//! real agents.

use crate::fleet::Fleet;
use crate::install::{WHOLE, branches, first_install, install, line_from, message, path, register, terminal};
use crate::world::{DAY, NOW, World, manifest, operator, package_of};
use std::collections::{BTreeMap, BTreeSet};
use tms_core::agent::CallEnd;
use tms_core::estate::{Case, CaseState, ClassPolicy, Disposition, KeyLoad, LayerDraft, LoadedKey, TaskCommand};
use tms_core::rule::asset::{Columns, List};
use tms_core::rule::name::Aliases;
use tms_core::rule::policy::{CheckInPolicy, Class, Hours};
use tms_core::rule::relocation::{CaseKind, Evidence};
use tms_core::rule::task::{Action, Definition, Slot, TaskState, Work};
use tms_core::rule::template::{Charset, Definition as Parameter, Kind, Scope, Template};
use tms_core::store::{BranchPath, Caller, Dimension, RosterFilter, Seen, TerminalId};
use tms_proto::code::{ComponentKind, TriggerKind};
use tms_proto::digest::Digest;
use zeroize::Zeroizing;

const HOUR: u64 = 3_600;

fn head_office() -> BranchPath {
    BranchPath::head_office()
}

fn at_once(work: Work) -> Action {
    Action {
        preconditions: 0,
        ..Action::new(work)
    }
}

/// Writes a task for all, builds and starts it.
async fn start(fleet: &Fleet, definition: Definition) -> u64 {
    let estate = &fleet.world.estate;
    let task = estate
        .create_task(&operator(), &head_office(), definition)
        .await
        .unwrap()
        .id;
    estate
        .command_task(&operator(), task, TaskCommand::Build)
        .await
        .unwrap();
    fleet.run().await;
    estate
        .command_task(&operator(), task, TaskCommand::Start)
        .await
        .unwrap();
    fleet.run().await;
    task
}

/// A template with one parameter, as text, and what head office sets it to.
async fn parameter(fleet: &Fleet, template: &str, name: &str, value: &str) -> u32 {
    let estate = &fleet.world.estate;
    let kind = Kind::Text {
        min: 1,
        max: 40,
        charset: Charset::Unicode,
    };
    let definition = Parameter {
        name: name.to_owned(),
        label: String::new(),
        kind,
        default: None,
        required: true,
        narrowest: None,
        on_site: Default::default(),
    };
    let template = Template {
        name: template.to_owned(),
        version: 0,
        definitions: vec![definition],
    };
    let version = estate.put_template(&operator(), template.clone()).await.unwrap();
    set(fleet, &template.name, name, value).await;
    version
}

async fn set(fleet: &Fleet, template: &str, name: &str, value: &str) {
    let draft = LayerDraft {
        scope: Scope::head_office(),
        version: 0,
        values: [(name.to_owned(), Some(Zeroizing::new(value.to_owned())))].into(),
        variables: BTreeMap::new(),
    };
    fleet
        .world
        .estate
        .put_layer(&operator(), template, &draft)
        .await
        .unwrap();
}

/// What a terminal has in force.
async fn value(fleet: &Fleet, number: usize, template: &str) -> Option<String> {
    let document = fleet.terminals[number].device.parameters(template).await.unwrap()?;
    document.parameters.first().map(|parameter| parameter.value.clone())
}

async fn roll_up(world: &World) {
    while world.estate.roll_up(1_000).await.unwrap().events > 0 {}
}

#[tokio::test]
async fn case_1_the_number_that_many_terminals_dial_is_changed_within_a_window() {
    let mut fleet = Fleet::new(3).await;
    let version = parameter(&fleet, "line", "dial", "95516").await;
    let bring = |name: &str| {
        let work = Work::Parameters {
            template: "line".to_owned(),
            version,
        };
        Definition::new(name, vec![at_once(work)])
    };
    let first = start(&fleet, bring("first number")).await;
    for number in 0..3 {
        fleet.update(number).await;
        assert_eq!(value(&fleet, number, "line").await.as_deref(), Some("95516"));
    }
    assert_eq!(fleet.count(first, Slot::Succeeded).await, 3);

    // The number changes; terminals are to dial the new one from the night on, and not before.
    set(&fleet, "line", "dial", "95588").await;
    let mut definition = bring("new number");
    let hour = (NOW % DAY) / HOUR;
    let night = format!("{:02}:00:00", (hour + 10) % 24);
    definition.windows.install =
        Some(serde_json::from_value(serde_json::json!({ "start": night, "minutes": 60 })).unwrap());
    let task = start(&fleet, definition).await;
    for number in 0..3 {
        fleet.update(number).await;
        assert_eq!(
            value(&fleet, number, "line").await.as_deref(),
            Some("95516"),
            "it is not night yet"
        );
    }
    assert_eq!(fleet.count(task, Slot::Waiting).await, 3);
    fleet.world.clock.advance(10 * HOUR + HOUR / 2);
    for number in 0..3 {
        fleet.update(number).await;
        assert_eq!(value(&fleet, number, "line").await.as_deref(), Some("95588"));
    }
    fleet.run().await;
    assert_eq!(fleet.task(task).await.state, TaskState::Completed);
    // Both first numbers are what the terminals themselves say that they have.
    let sets: BTreeSet<Digest> = fleet
        .inventories()
        .await
        .into_iter()
        .map(|set| set.parameters[0].digest)
        .collect();
    assert_eq!(sets.len(), 1);
    // Again, it is there already, and no terminal is asked for anything.
    let again = start(&fleet, bring("again")).await;
    assert_eq!(fleet.count(again, Slot::AlreadyCurrent).await, 3);
}

#[tokio::test]
async fn case_2_a_batch_is_upgraded_as_its_terminals_call_at_their_own_times() {
    let mut fleet = Fleet::new(5).await;
    let policy = ClassPolicy {
        name: "daytime".to_owned(),
        class: Class::default(),
        policy: CheckInPolicy {
            hours: vec![Hours {
                from: 540,
                minutes: 480,
            }],
            ..CheckInPolicy::default()
        },
        access: None,
    };
    fleet.world.estate.put_policy(&operator(), policy).await.unwrap();
    // The server reads policies again every few seconds.
    fleet.world.clock.advance(60);
    for number in 0..5 {
        fleet.call(number).await;
    }
    let mut times = BTreeMap::new();
    for number in 0..5 {
        let next = fleet
            .world
            .known(fleet.id(number))
            .await
            .terminal
            .record
            .next_contact
            .unwrap();
        assert!(
            (9..17).contains(&((next.from % DAY) / HOUR)),
            "by day: {}",
            next.from % DAY
        );
        times.insert((next.from, number), ());
    }
    let distinct: BTreeSet<u64> = times.keys().map(|(time, _)| *time).collect();
    assert_eq!(distinct.len(), 5, "each has a time of its own");

    let manifest = fleet.world.publish(b"the bank's program, second edition", 2).await;
    let task = start(
        &fleet,
        Definition::new("batch", vec![at_once(Work::Install { manifest })]),
    )
    .await;
    for (done, (time, number)) in times.into_keys().enumerate() {
        let now = tms_core::clock::Clock::now(&*fleet.world.clock);
        fleet.world.clock.advance(time - now);
        let report = fleet.call_for(number, TriggerKind::Schedule).await;
        assert_eq!(report.end, CallEnd::Done, "{report}");
        // It is not said to be done before the terminal has said that it runs.
        assert_eq!(fleet.count(task, Slot::Succeeded).await, done as u64);
        fleet.terminals[number].work().await;
        fleet.update(number).await;
        assert_eq!(fleet.count(task, Slot::Succeeded).await, done as u64 + 1);
    }
    fleet.run().await;
    assert_eq!(fleet.task(task).await.state, TaskState::Completed);
    roll_up(&fleet.world).await;
    let actor = operator();
    let reports = fleet.world.estate.reports(&actor);
    let versions = reports.versions(&RosterFilter::under(head_office())).await.unwrap();
    let rows: Vec<_> = versions
        .rows
        .iter()
        .map(|row| (row.version.clone(), row.terminals))
        .collect();
    assert_eq!(rows, [("2.0".to_owned(), 5)]);
}

#[tokio::test]
async fn case_3_a_terminal_that_was_moved_without_leave_is_found() {
    let world = World::new().await;
    branches(&world).await;
    let (id, mut terminal) = terminal(&world, "0001").await;
    install(&world, message(NOW, &WHOLE), id).await;
    register(&world, &mut terminal, first_install(), "02155501234").await;
    let calls = [("02155501234", 6), ("01066601234", 4)];
    for (number, times) in calls {
        for _ in 0..times {
            world.clock.advance(DAY / 2);
            terminal.kit.clock.advance(DAY / 2);
            let report = terminal
                .agent
                .call(line_from(&world, number), TriggerKind::Schedule)
                .await;
            assert!(report.recorded, "nobody is blocked: {report}");
        }
        while world.estate.advance_cases(100).await.unwrap().events > 0 {}
    }
    let open = world
        .estate
        .cases(&operator(), &path("/east"), CaseState::Open, 10)
        .await
        .unwrap();
    let [Case { id: case, data, .. }] = &open[..] else {
        panic!("{open:?}")
    };
    assert_eq!(data.kind, CaseKind::Relocation);
    assert!(matches!(
        &data.evidence[0].evidence,
        Evidence::OtherNumber { number, .. } if number == "+861066601234"
    ));
    // The risk list, from which the merchants are visited.
    let report = world
        .estate
        .case_report(&operator(), &head_office(), None)
        .await
        .unwrap();
    let row = &report.rows[0];
    assert_eq!(
        (
            row.vendor.as_str(),
            row.model.as_str(),
            row.serial.as_str(),
            row.merchant.as_deref()
        ),
        ("PAX", "P80", "0001", Some("898310000000001"))
    );
    assert!(report.csv().contains("0001"));
    let found = Disposition::ConfirmedRelocation;
    let closed = world
        .estate
        .dispose_case(&operator(), case, found, "found at another shop")
        .await
        .unwrap();
    assert_eq!(closed.state, CaseState::Closed);
}

#[tokio::test]
async fn case_4_stocktaking_says_who_is_alive_and_who_has_long_been_silent() {
    let mut fleet = Fleet::new(4).await;
    // Two call each week of the month; two were last heard of before it.
    for _ in 0..5 {
        fleet.world.clock.advance(7 * DAY);
        for number in [0, 2] {
            fleet.call(number).await;
        }
    }
    roll_up(&fleet.world).await;
    let estate = &fleet.world.estate;
    let (actor, under) = (operator(), head_office());
    let reports = estate.reports(&actor);
    let month = reports.since(30);
    let (alive, all) = reports.alive(&under, month).await.unwrap();
    assert_eq!((alive, all), (2, 4));
    let silent = RosterFilter {
        seen: Some(Seen::Before(month)),
        ..RosterFilter::under(head_office())
    };
    let page = reports.terminals(&silent, None, 100).await.unwrap();
    let rows: BTreeSet<_> = page
        .rows
        .iter()
        .map(|row| (row.vendor.as_str(), row.model.as_str(), row.serial.as_str()))
        .collect();
    assert_eq!(rows, BTreeSet::from([("PAX", "P80", "0002"), ("PAX", "P80", "0004")]));
    let by = [Dimension::Vendor, Dimension::Model];
    let standing = reports
        .standing(&RosterFilter::under(under.clone()), &by, 30)
        .await
        .unwrap();
    assert_eq!(standing.rows.len(), 1);
    // The books know one that is not there, and do not know one that is.
    let books = "厂商,型号,序列号,机构\n百富,P-80,0001,\nPAX,P80,0002,\nPAX,P80,0003,\nPAX,P80,9999,\n";
    let (columns, aliases) = (Columns::default(), Aliases::known());
    let list = List::new(books.as_bytes(), &columns, &aliases).unwrap();
    let done = estate
        .reconcile_assets(&operator(), &head_office(), "books", list)
        .await
        .unwrap();
    assert_eq!(
        (done.totals.matched, done.totals.unknown, done.totals.missing),
        (3, 1, 1)
    );
}

#[tokio::test]
async fn case_5_an_application_is_added_with_its_parameters_and_its_key() {
    let mut fleet = Fleet::new(2).await;
    let content = b"the points of loyal customers";
    let (mut body, map) = manifest(content, 1);
    (body.component, body.kind) = ("loyalty".to_owned(), ComponentKind::Application);
    let loyalty = fleet
        .world
        .publish_file(&package_of(&body, map.as_ref(), content).await)
        .await;
    let version = parameter(&fleet, "loyalty", "scheme", "gold").await;
    let mut parameters = at_once(Work::Parameters {
        template: "loyalty".to_owned(),
        version,
    });
    // Parameters without their application are of no use.
    parameters.after = vec![0];
    let actions = vec![at_once(Work::Install { manifest: loyalty }), parameters];
    let definition = Definition::new("loyalty", actions).first_alone();
    let task = start(&fleet, definition).await;
    for _ in 0..2 {
        for number in 0..2 {
            fleet.update(number).await;
            fleet.update(number).await;
        }
        fleet.run().await;
    }
    assert_eq!(fleet.task(task).await.state, TaskState::Completed);
    let key = LoadedKey {
        slot: 3,
        version: 1,
        usage: "K0".to_owned(),
        check_value: "08d7b4".to_owned(),
    };
    for number in 0..2 {
        let versions = fleet.terminals[number].device.versions().await;
        assert_eq!(
            (versions["loyalty"].version.as_str(), versions["bank"].version.as_str()),
            ("1.0", "1.0")
        );
        assert_eq!(value(&fleet, number, "loyalty").await.as_deref(), Some("gold"));
        let load = KeyLoad::of("two custodians, at the counter".to_owned(), Some(1), vec![key.clone()]);
        let id: TerminalId = fleet.id(number);
        fleet
            .world
            .estate
            .record_key_load(&operator(), &Caller::Id(id), load)
            .await
            .unwrap();
        let loads = fleet.world.estate.key_loads(&operator(), id).await.unwrap();
        assert_eq!(loads[0].keys[0].check_value, "08d7b4");
    }
}
