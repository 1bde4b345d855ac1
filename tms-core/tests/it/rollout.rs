//! What a task's definition may say beyond what to install: gates, limits, floors, texts, and whose place it takes.

use crate::fleet::Fleet;
use crate::install::path;
use crate::world::{DAY, NOW, operator};
use std::collections::BTreeMap;
use tms_core::agent::Answer;
use tms_core::agent::slot::{Conditions, SelfTest};
use tms_core::estate::{Actor, EstateError, Merchant, Relation, Site, TaskCommand};
use tms_core::rule::task::rate::{MaxUnavailable, TopologyKey, UnavailableLimit};
use tms_core::rule::task::{Action, Definition, Slot, State, TaskState, Work};
use tms_core::rule::text::Message;
use tms_core::store::{BranchPath, Caller};
use tms_core::task::Failures;
use tms_proto::digest::Digest;

fn at_once(work: Work) -> Vec<Action> {
    let mut action = Action::new(work);
    action.preconditions = 0;
    vec![action]
}

fn install(manifest: Digest) -> Vec<Action> {
    at_once(Work::Install { manifest })
}

async fn start(fleet: &Fleet, definition: Definition) -> u64 {
    let head_office = BranchPath::head_office();
    let estate = &fleet.world.estate;
    let id = estate
        .create_task(&operator(), &head_office, definition)
        .await
        .unwrap()
        .id;
    for command in [TaskCommand::Build, TaskCommand::Start] {
        estate.command_task(&operator(), id, command).await.unwrap();
        fleet.run().await;
    }
    id
}

#[tokio::test]
async fn a_floor_comes_before_the_target_and_is_not_the_end() {
    let mut fleet = Fleet::new(2).await;
    let mut releases = Vec::new();
    for (content, counter) in [(&b"two"[..], 2), (b"three", 3), (b"four", 4), (b"five", 5)] {
        releases.push(fleet.world.publish(content, counter).await);
    }
    let [two, three, four, five] = releases[..] else {
        panic!()
    };
    // The first terminal has the release of before the floors; of the second nobody knows what it has.
    fleet.world.queue(fleet.id(0), &two).await;
    fleet.update(0).await;
    fleet.update(0).await;
    let estate = &fleet.world.estate;
    for floor in [three, four] {
        estate
            .put_floor(&operator(), &floor, "converts the journal")
            .await
            .unwrap();
    }
    let mut actions = install(five);
    actions.extend(at_once(Work::Restart));
    actions[1].after = vec![0];
    let id = start(&fleet, Definition::new("five", actions)).await;
    let mut seen = Vec::new();
    for _ in 0..12 {
        for number in 0..2 {
            fleet.update(number).await;
        }
        let version = fleet.terminals[0].version().await;
        if seen.last() != Some(&version) {
            seen.push(version.clone());
        }
        // Until the target runs, nothing has succeeded.
        let done = fleet.members(id).await;
        let done = done.iter().find(|member| member.terminal == fleet.id(0)).unwrap();
        assert!(version == "5.0" || !done.state.is_final(), "{version}: {done:?}");
        fleet.run().await;
        fleet.task(id).await;
    }
    assert_eq!(seen, ["3.0", "4.0", "5.0"]);
    assert_eq!(fleet.terminals[1].version().await, "5.0");
    assert_eq!(fleet.task(id).await.state, TaskState::Completed);
    for number in 0..2 {
        assert!(fleet.world.known(fleet.id(number)).await.assignments.is_empty());
    }
}

#[tokio::test]
async fn a_task_that_stops_at_a_floor_goes_no_further() {
    let mut fleet = Fleet::new(1).await;
    let mut releases = Vec::new();
    for (content, counter) in [(&b"two"[..], 2), (b"three", 3), (b"four", 4)] {
        releases.push(fleet.world.publish(content, counter).await);
    }
    let [two, three, four] = releases[..] else { panic!() };
    fleet.world.queue(fleet.id(0), &two).await;
    fleet.update(0).await;
    fleet.update(0).await;
    let estate = fleet.world.estate.clone();
    estate
        .put_floor(&operator(), &three, "converts the journal")
        .await
        .unwrap();
    let id = start(&fleet, Definition::new("four", install(four))).await;
    fleet.update(0).await;
    fleet.update(0).await;
    assert_eq!(fleet.terminals[0].version().await, "3.0");
    estate
        .command_task(&operator(), id, TaskCommand::Stop { force: false })
        .await
        .unwrap();
    fleet.run().await;
    fleet.update(0).await;
    fleet.run().await;
    assert_eq!(fleet.task(id).await.state, TaskState::Stopped);
    assert_eq!(fleet.count(id, Slot::Cancelled).await, 1);
    assert_eq!(fleet.terminals[0].version().await, "3.0");
}

#[tokio::test]
async fn a_text_is_done_when_the_terminal_says_that_it_was_shown() {
    let mut fleet = Fleet::new(2).await;
    let estate = fleet.world.estate.clone();
    let message = Message {
        title: "Holiday".to_owned(),
        body: "We are closed on Friday.".to_owned(),
        print: false,
        confirm: false,
        from: NOW,
        until: NOW + 30 * DAY,
    };
    let text = estate.write_text(&operator(), &path("/"), message).await.unwrap().id;
    let definition = Definition::new("notice", at_once(Work::Text { text }));
    let draft = estate
        .create_task(&operator(), &BranchPath::head_office(), definition.clone())
        .await;
    assert!(matches!(draft, Err(EstateError::Over("text", _))), "{draft:?}");
    estate.approve_text(&Actor::trusted("wang"), text).await.unwrap();
    let id = start(&fleet, definition.clone()).await;
    fleet.call(0).await;
    assert_eq!(
        fleet.count(id, Slot::Succeeded).await,
        0,
        "it has it, and has not shown it"
    );
    for number in 0..2 {
        fleet.update(number).await;
        fleet.call(number).await;
    }
    fleet.run().await;
    assert_eq!(fleet.count(id, Slot::Succeeded).await, 2);
    assert_eq!(fleet.task(id).await.state, TaskState::Completed);
    let counts = estate.text(&operator(), text).await.unwrap().1;
    assert_eq!(counts, BTreeMap::from([("displayed".to_owned(), 2)]));
    // To the same terminal it goes once.
    let again = start(&fleet, definition).await;
    assert_eq!(fleet.count(again, Slot::AlreadyCurrent).await, 2);
}

#[tokio::test]
async fn a_newer_task_takes_the_place_of_an_older_as_a_whole() {
    let mut fleet = Fleet::new(3).await;
    let two = fleet.world.publish(b"two", 2).await;
    let three = fleet.world.publish(b"three", 3).await;
    let heavy = Definition {
        weight: 200,
        ..Definition::new("old", install(two))
    };
    let mut heavy = heavy.first_alone();
    heavy.actions[0].preconditions = tms_proto::message::Precondition::SETTLED;
    let old = start(&fleet, heavy).await;
    // One of them has it, and waits for a settlement.
    for number in 0..3 {
        let unsettled = |conditions: &mut Conditions| conditions.readiness.unsettled = true;
        fleet.terminals[number].device.set(unsettled);
        fleet.update(number).await;
    }
    let new = Definition {
        replaces: vec![old],
        ..Definition::new("new", install(three))
    };
    let new = start(&fleet, new).await;
    let task = fleet.task(old).await;
    assert_eq!((task.state, task.superseded_by), (TaskState::Superseded, Some(new)));
    for number in 0..3 {
        let settled = |conditions: &mut Conditions| conditions.readiness.unsettled = false;
        fleet.terminals[number].device.set(settled);
        for _ in 0..3 {
            fleet.update(number).await;
        }
        assert_eq!(fleet.terminals[number].version().await, "3.0");
    }
    fleet.run().await;
    assert_eq!(fleet.task(new).await.state, TaskState::Completed);
    for member in fleet.members(old).await {
        let gone = matches!(
            member.state,
            State::Superseded { by } if by == Some(new)
        );
        assert!(gone || matches!(member.state, State::Cancelled { .. }), "{member:?}");
    }
    fleet.task(old).await;
}

#[tokio::test]
async fn what_waits_for_one_of_several_packages_waits_for_the_one_that_is_for_the_terminal() {
    let mut fleet = Fleet::new(1).await;
    let manifest = fleet.world.publish(b"two", 2).await;
    let (mut other, _) = crate::world::manifest(b"of another model", 2);
    other.models = vec!["Vx510".to_owned()];
    let other = fleet
        .world
        .publish_file(&crate::world::package_of(&other, None, b"of another model").await)
        .await;
    let mut actions = install(other);
    actions.extend(install(manifest));
    actions.extend(at_once(Work::Restart));
    actions.extend(at_once(Work::Restart));
    actions[2].after = vec![0, 1];
    // What waits only for what is not for the terminal is not for it, either.
    actions[3].after = vec![0];
    let id = start(&fleet, Definition::new("each its own", actions)).await;
    let steps = fleet.members(id).await[0].steps.clone();
    let given: Vec<bool> = steps.iter().map(|step| step.action.is_some()).collect();
    assert_eq!(given, [false, true, true, false]);
    for _ in 0..3 {
        fleet.update(0).await;
    }
    fleet.run().await;
    assert_eq!(fleet.task(id).await.state, TaskState::Completed);
    assert_eq!(fleet.terminals[0].version().await, "2.0");
}

#[tokio::test]
async fn a_stage_is_watched_for_as_long_as_it_says() {
    let mut fleet = Fleet::new(3).await;
    let manifest = fleet.world.publish(b"two", 2).await;
    let mut definition = Definition::new("soaked", install(manifest)).first_alone();
    definition.stages[0].gates.soak = 86_400;
    let id = start(&fleet, definition).await;
    for number in 0..3 {
        fleet.update(number).await;
        fleet.update(number).await;
    }
    fleet.run().await;
    assert_eq!(
        (fleet.count(id, Slot::Succeeded).await, fleet.task(id).await.stage),
        (1, 0)
    );
    fleet.world.clock.advance(DAY - 60);
    fleet.run().await;
    assert_eq!(fleet.task(id).await.stage, 0);
    fleet.world.clock.advance(60);
    fleet.run().await;
    assert_eq!(fleet.task(id).await.stage, 1);
}

#[tokio::test]
async fn a_release_that_fails_again_and_again_is_kept_from_the_terminal_until_somebody_clears_it() {
    let mut fleet = Fleet::new(1).await;
    let manifest = fleet.world.publish(b"two", 2).await;
    let mut definition = Definition::new("failing", install(manifest));
    definition.stages[0].gates.success_percent = 0;
    (definition.breaker.burst, definition.breaker.total) = (1, 1);
    let first = start(&fleet, definition.clone()).await;
    fleet.terminals[0].kit.self_test = SelfTest::Fails;
    fleet.terminals[0] = fleet.terminals[0].kit.start().await;
    fleet.update(0).await;
    fleet.run().await;
    assert!(fleet.task(first).await.state.is_final());
    let estate = fleet.world.estate.clone();
    let kept = estate
        .kept_away(&operator(), &BranchPath::head_office(), 10)
        .await
        .unwrap();
    assert_eq!(kept.len(), 1);
    // Of a newer task it is the same release.
    let second = start(&fleet, definition).await;
    fleet.terminals[0].kit.self_test = SelfTest::Passes;
    fleet.terminals[0] = fleet.terminals[0].kit.start().await;
    fleet.update(0).await;
    assert_eq!(fleet.terminals[0].version().await, "1.0");
    assert_eq!(fleet.count(second, Slot::Pending).await, 1);
    let failures = Failures::key(fleet.id(0), &manifest);
    estate.clear_failures(&operator(), &failures).await.unwrap();
    fleet.run().await;
    fleet.update(0).await;
    fleet.update(0).await;
    assert_eq!(fleet.terminals[0].version().await, "2.0");
}

#[tokio::test]
async fn of_one_site_only_so_many_are_out_of_service_at_once() {
    let mut fleet = Fleet::new(4).await;
    let estate = fleet.world.estate.clone();
    let (actor, head_office) = (operator(), BranchPath::head_office());
    let merchant = Merchant {
        number: "898310000000001".to_owned(),
        name: "Harbour Tea".to_owned(),
        branch: head_office.clone(),
        category: None,
        variables: BTreeMap::new(),
    };
    estate.put_merchant(&actor, merchant.clone()).await.unwrap();
    let site = Site {
        id: "tea-1".to_owned(),
        address: "1 Harbour Street".to_owned(),
        merchant: merchant.number.clone(),
        branch: head_office.clone(),
        zone: None,
    };
    estate.put_site(&actor, site).await.unwrap();
    // Three of four stand in one shop.
    for number in 0..3 {
        let logical = format!("1000000{number}");
        for (relation, object) in [
            (Relation::Device, fleet.id(number).to_string()),
            (Relation::Merchant, merchant.number.clone()),
            (Relation::Site, "tea-1".to_owned()),
        ] {
            estate
                .bind(&actor, relation, (&logical, &object), &head_office, "opening")
                .await
                .unwrap();
        }
    }
    let manifest = fleet.world.publish(b"two", 2).await;
    let mut definition = Definition::new("gently", install(manifest));
    definition.rates.max_unavailable = vec![MaxUnavailable {
        key: TopologyKey::Site,
        limit: UnavailableLimit::Count(1),
    }];
    let id = start(&fleet, definition).await;
    for number in 0..4 {
        fleet.call(number).await;
    }
    assert_eq!(
        fleet.count(id, Slot::Pending).await,
        2,
        "one of the shop, and the other"
    );
    for _ in 0..4 {
        for number in 0..4 {
            fleet.update(number).await;
        }
    }
    fleet.run().await;
    assert_eq!(fleet.task(id).await.state, TaskState::Completed);
}

#[tokio::test]
async fn the_merchant_may_put_it_off_as_often_as_the_task_says() {
    let mut fleet = Fleet::new(1).await;
    let manifest = fleet.world.publish(b"two", 2).await;
    let mut actions = install(manifest);
    actions[0].prompt = "UPDATE NOW?".to_owned();
    actions[0].max_postponements = Some(1);
    start(&fleet, Definition::new("asked", actions)).await;
    fleet.terminals[0]
        .device
        .set(|conditions| conditions.answer = Answer::Later(600));
    fleet.update(0).await;
    assert_eq!(fleet.terminals[0].version().await, "1.0");
    fleet.world.clock.advance(601);
    fleet.update(0).await;
    assert_eq!(fleet.terminals[0].version().await, "2.0", "once, and no more");
}

#[tokio::test]
async fn a_terminal_is_moved_to_another_branch() {
    let fleet = Fleet::new(2).await;
    let (estate, actor) = (&fleet.world.estate, operator());
    crate::install::branches(&fleet.world).await;
    let east = path("/east");
    let caller = Caller::Id(fleet.id(0));
    let from = crate::install::limited(
        &fleet.world.estate,
        "east",
        "/east",
        &[tms_core::estate::Permission::ManageOrganisation],
    )
    .await;
    let taken = estate.move_terminal(&from, &caller, &east, "ours now").await;
    assert!(matches!(taken, Err(EstateError::Denied(_))), "{taken:?}");
    estate
        .move_terminal(&actor, &caller, &east, "the shop has moved")
        .await
        .unwrap();
    estate.move_terminal(&actor, &caller, &east, "again").await.unwrap();
    let moved = fleet.world.events().await;
    let moved = moved.iter().filter(|event| event.kind.name() == "moved");
    assert_eq!(moved.count(), 1);
    while estate.roll_up(1_000).await.unwrap().events > 0 {}
    let reports = estate.reports(&actor);
    let filter = tms_core::store::RosterFilter::under(east.clone());
    let rows = reports.terminals(&filter, None, 10).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    // What runs for a merchant belongs to the merchant's branch.
    let bound = fleet.id(1).to_string();
    estate
        .bind(&actor, Relation::Device, ("10000009", &bound), &path("/"), "opening")
        .await
        .unwrap();
    let refused = estate
        .move_terminal(&actor, &Caller::Id(fleet.id(1)), &east, "away")
        .await;
    assert!(matches!(refused, Err(EstateError::InUse(..))), "{refused:?}");
}
