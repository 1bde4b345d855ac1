//! Tasks: from an operator's definition to terminals that run what it says, through the real server and real agents.

use crate::fleet::Fleet;
use crate::world::{DAY, NOW, Terminal, operator};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tms_core::agent::slot::SelfTest;
use tms_core::estate::{Actor, EstateError, TaskCommand};
use tms_core::rule::task::definition::Membership;
use tms_core::rule::task::{Action, Definition, PauseReason, Rates, Slot, Stage, State, TaskState, Work};
use tms_core::store::{
    BranchPath, Caller, Change, CheckIn, Entity, Event, Group, Key, MemoryStore, Query, Record, Store, StoreError,
    Tally, Versioned,
};
use tms_core::task::Failures;
use tms_proto::digest::Digest;

const CONTENT: &[u8] = b"the new application, second edition";

fn install(manifest: Digest) -> Vec<Action> {
    let mut action = Action::new(Work::Install { manifest });
    action.preconditions = 0;
    vec![action]
}

async fn create(fleet: &Fleet, definition: Definition) -> u64 {
    let branch = BranchPath::head_office();
    let task = fleet
        .world
        .estate
        .create_task(&operator(), &branch, definition)
        .await
        .unwrap();
    task.id
}

async fn command(fleet: &Fleet, id: u64, command: TaskCommand) -> Result<TaskState, EstateError> {
    let task = fleet.world.estate.command_task(&operator(), id, command).await;
    task.map(|task| task.state)
}

/// Writes, builds and starts it.
async fn start(fleet: &Fleet, definition: Definition) -> u64 {
    let id = create(fleet, definition).await;
    command(fleet, id, TaskCommand::Build).await.unwrap();
    fleet.run().await;
    command(fleet, id, TaskCommand::Start).await.unwrap();
    fleet.run().await;
    id
}

#[tokio::test]
async fn one_terminal_first_and_the_rest_when_that_has_worked() {
    let mut fleet = Fleet::new(5).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let id = start(&fleet, Definition::new("night", install(manifest)).first_alone()).await;
    let members = fleet.members(id).await;
    let first = members.iter().find(|member| member.stage == 0).unwrap().terminal;
    // All call; only the first gets it.
    for number in 0..5 {
        fleet.update(number).await;
        let version = fleet.terminals[number].version().await;
        assert_eq!(version, if fleet.id(number) == first { "2.0" } else { "1.0" });
    }
    assert_eq!(fleet.count(id, Slot::Succeeded).await, 1);
    fleet.run().await;
    assert_eq!(fleet.task(id).await.stage, 1);
    for number in 0..5 {
        fleet.update(number).await;
        assert_eq!(fleet.terminals[number].version().await, "2.0");
    }
    fleet.run().await;
    let task = fleet.task(id).await;
    assert_eq!((task.state, task.ended), (TaskState::Completed, Some(NOW)));
    assert_eq!(fleet.count(id, Slot::Succeeded).await, 5);
}

#[tokio::test]
async fn what_fails_first_stops_the_rest_and_an_operator_may_go_on() {
    let mut fleet = Fleet::new(4).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let id = start(&fleet, Definition::new("broken", install(manifest)).first_alone()).await;
    for terminal in &mut fleet.terminals {
        terminal.kit.self_test = SelfTest::Fails;
        *terminal = terminal.kit.start().await;
    }
    for number in 0..4 {
        fleet.update(number).await;
        // The trial runs out, and the old version runs again.
        assert_eq!(fleet.terminals[number].version().await, "1.0");
    }
    fleet.run().await;
    let task = fleet.task(id).await;
    let reason = PauseReason::SuccessUnreachable;
    assert_eq!((task.state, task.stage), (TaskState::Paused { reason }, 0));
    assert_eq!(fleet.count(id, Slot::Pending).await, 3, "nobody else was offered it");
    assert_eq!(
        fleet.documents::<Failures>(Failures::KIND, String::new()).await.len(),
        1
    );

    // An operator goes on in spite of it.
    command(&fleet, id, TaskCommand::Resume).await.unwrap();
    fleet.run().await;
    let task = fleet.task(id).await;
    let reason = PauseReason::StageGate;
    assert_eq!(
        task.state,
        TaskState::Paused { reason },
        "the stage is done, and below its threshold"
    );
    command(&fleet, id, TaskCommand::Resume).await.unwrap();
    fleet.run().await;
    assert_eq!(fleet.task(id).await.stage, 1);
}

#[tokio::test]
async fn so_many_at_once_and_whoever_is_told_to_wait_has_not_failed() {
    let mut fleet = Fleet::new(4).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let rates = Rates {
        max_concurrent: Some(2),
        ..Rates::default()
    };
    let id = start(
        &fleet,
        Definition {
            rates,
            ..Definition::new("slowly", install(manifest))
        },
    )
    .await;
    for number in 0..4 {
        fleet.call(number).await;
    }
    let task = fleet.task(id).await;
    assert_eq!(
        (task.state, fleet.count(id, Slot::Pending).await),
        (TaskState::Running, 2)
    );
    let waiting = fleet.world.known(fleet.id(3)).await.terminal.record;
    let soon = waiting.next_contact.unwrap().from;
    assert!((NOW..NOW + 3_600).contains(&soon), "it is told to come back soon");
    for number in 0..4 {
        fleet.update(number).await;
    }
    for number in 0..4 {
        fleet.update(number).await;
        assert_eq!(fleet.terminals[number].version().await, "2.0");
    }
    let attempts: BTreeSet<u16> = [0, 1, 2, 3].map(|_| 1).into();
    let mut seen = BTreeSet::new();
    for member in fleet.members(id).await {
        let action = member.steps[0].action.unwrap();
        seen.insert(fleet.world.assignment(member.terminal, action.0).await.standing.attempt);
    }
    assert_eq!(seen, attempts);
}

#[tokio::test]
async fn a_stopped_task_asks_terminals_to_drop_what_they_have() {
    let mut fleet = Fleet::new(3).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let mut actions = install(manifest);
    // They have it, and wait for the merchant's settlement.
    actions[0].preconditions = tms_proto::message::Precondition::SETTLED;
    let id = start(&fleet, Definition::new("dropped", actions)).await;
    for number in [0, 1] {
        fleet.terminals[number]
            .device
            .set(|conditions| conditions.readiness.unsettled = true);
        fleet.update(number).await;
    }
    assert_eq!(fleet.count(id, Slot::Waiting).await, 2);
    command(&fleet, id, TaskCommand::Stop { force: false }).await.unwrap();
    fleet.run().await;
    let task = fleet.task(id).await;
    assert_eq!(task.state, TaskState::Stopping, "two have not answered");
    assert_eq!(
        fleet.count(id, Slot::Cancelled).await,
        1,
        "who has not heard of it is not asked"
    );
    for number in 0..3 {
        fleet.update(number).await;
        fleet.terminals[number]
            .device
            .set(|conditions| conditions.readiness.unsettled = false);
        fleet.update(number).await;
        assert_eq!(fleet.terminals[number].version().await, "1.0");
    }
    fleet.run().await;
    let task = fleet.task(id).await;
    assert_eq!((task.state, task.ended.is_some()), (TaskState::Stopped, true));
    assert_eq!(fleet.count(id, Slot::Cancelled).await, 3);
    for number in 0..3 {
        assert!(fleet.world.known(fleet.id(number)).await.assignments.is_empty());
    }
    command(&fleet, id, TaskCommand::Delete).await.unwrap();
    assert!(fleet.members(id).await.is_empty());
}

#[tokio::test]
async fn silence_fails_is_tried_again_and_a_late_truth_counts() {
    let mut fleet = Fleet::new(2).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let mut definition = Definition::new("silent", install(manifest));
    definition.stages[0].gates.success_percent = 0;
    let id = start(&fleet, definition).await;
    // Both get it; only one is heard of again.
    fleet.call(0).await;
    fleet.call(1).await;
    fleet.terminals[0].work().await;
    fleet.world.clock.advance(4 * DAY);
    fleet.run().await;
    for member in fleet.members(id).await {
        assert_eq!(
            (member.state, member.steps[0].state, member.retry),
            (State::Pending, State::TimedOut, true)
        );
    }
    // The retry's time comes: another attempt for each.
    fleet.world.clock.advance(DAY);
    fleet.run().await;
    fleet.task(id).await;
    assert_eq!(fleet.count(id, Slot::Pending).await, 2);
    for number in 0..2 {
        let open = fleet.world.known(fleet.id(number)).await.assignments;
        assert_eq!((open.len(), open[0].record.standing.attempt), (1, 2));
    }
    // The first has been running it all the while.
    fleet.call(0).await;
    assert_eq!(fleet.count(id, Slot::Succeeded).await, 1);
    fleet.update(1).await;
    fleet.update(1).await;
    assert_eq!(fleet.terminals[1].version().await, "2.0");
    fleet.run().await;
    assert_eq!(fleet.task(id).await.state, TaskState::Completed);
    fleet.call(0).await;
    assert!(fleet.world.known(fleet.id(0)).await.assignments.is_empty());
}

#[tokio::test]
async fn of_two_tasks_for_one_component_the_weightier_wins() {
    let mut fleet = Fleet::new(2).await;
    let (old, new) = (
        fleet.world.publish(CONTENT, 2).await,
        fleet.world.publish(b"another edition of it", 3).await,
    );
    let light = start(&fleet, Definition::new("light", install(old))).await;
    fleet.call(0).await;
    let heavy = start(
        &fleet,
        Definition {
            weight: 200,
            ..Definition::new("heavy", install(new))
        },
    )
    .await;
    assert_eq!(fleet.count(light, Slot::Superseded).await, 2);
    let lighter = start(&fleet, Definition::new("lighter", install(old))).await;
    assert_eq!(fleet.count(lighter, Slot::Superseded).await, 2);
    for number in 0..2 {
        fleet.update(number).await;
        fleet.update(number).await;
        assert_eq!(fleet.terminals[number].version().await, "3.0");
    }
    fleet.run().await;
    for id in [light, heavy, lighter] {
        assert!(fleet.task(id).await.state.is_final());
    }
    let by = fleet.members(light).await[0].state;
    assert_eq!(by, State::Superseded { by: Some(heavy) });
}

#[tokio::test]
async fn what_is_there_already_is_not_counted() {
    let mut fleet = Fleet::new(2).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    fleet.world.queue(fleet.id(0), &manifest).await;
    fleet.update(0).await;
    fleet.update(0).await;
    let id = start(&fleet, Definition::new("again", install(manifest))).await;
    assert_eq!(fleet.count(id, Slot::AlreadyCurrent).await, 1);
    fleet.update(1).await;
    fleet.update(1).await;
    fleet.run().await;
    let task = fleet.task(id).await;
    assert_eq!(task.state, TaskState::Completed);
    let progress = fleet.world.estate.task_progress(&operator(), id).await.unwrap();
    assert_eq!((progress.stages[0].total, progress.stages[0].succeeded), (1, 1));
}

#[tokio::test]
async fn it_takes_another_operator_to_approve() {
    let fleet = Fleet::new(1).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let definition = Definition {
        approval: true,
        ..Definition::new("approved", install(manifest))
    };
    let id = create(&fleet, definition).await;
    assert!(matches!(
        command(&fleet, id, TaskCommand::Start).await,
        Err(EstateError::NotAllowed(_))
    ));
    command(&fleet, id, TaskCommand::Build).await.unwrap();
    fleet.run().await;
    assert_eq!(fleet.task(id).await.state, TaskState::AwaitingApproval);
    assert!(matches!(
        command(&fleet, id, TaskCommand::Approve).await,
        Err(EstateError::SecondOperator)
    ));
    let other = Actor::trusted("other");
    let task = fleet
        .world
        .estate
        .command_task(&other, id, TaskCommand::Approve)
        .await
        .unwrap();
    assert_eq!(
        (task.state, task.approved_by.as_deref()),
        (TaskState::Ready, Some("other"))
    );
}

#[tokio::test]
async fn a_window_is_told_to_the_terminal_and_kept_by_it() {
    let mut fleet = Fleet::new(1).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let mut definition = Definition::new("at night", install(manifest));
    // From ten hours after now, for an hour.
    let hour = (NOW % DAY) / 3_600;
    let start_at = format!("{:02}:00:00", (hour + 10) % 24);
    definition.windows.install =
        Some(serde_json::from_value(serde_json::json!({ "start": start_at, "minutes": 60 })).unwrap());
    let id = start(&fleet, definition).await;
    fleet.update(0).await;
    assert_eq!(fleet.terminals[0].version().await, "1.0");
    assert_eq!(fleet.count(id, Slot::Waiting).await, 1);
    fleet.world.clock.advance(10 * 3_600 + 1_800);
    fleet.update(0).await;
    fleet.update(0).await;
    assert_eq!(fleet.terminals[0].version().await, "2.0");
    fleet.run().await;
    assert_eq!(fleet.task(id).await.state, TaskState::Completed);
}

#[tokio::test]
async fn a_branch_plans_for_itself_and_no_further() {
    let fleet = Fleet::new(1).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let nowhere = "/east".parse().unwrap();
    let definition = Definition::new("east", install(manifest));
    let refused = fleet
        .world
        .estate
        .create_task(&operator(), &nowhere, definition.clone())
        .await;
    assert!(matches!(refused, Err(EstateError::Unknown("branch", _))), "{refused:?}");
    let mut wrong = definition;
    wrong.stages = Vec::<Stage>::new();
    let refused = fleet
        .world
        .estate
        .create_task(&operator(), &BranchPath::head_office(), wrong)
        .await;
    assert!(matches!(refused, Err(EstateError::Task(_))), "{refused:?}");
}

#[tokio::test]
async fn whoever_comes_later_joins_the_last_stage() {
    let mut fleet = Fleet::new(2).await;
    let manifest = fleet.world.publish(CONTENT, 2).await;
    let definition = Definition {
        membership: Membership::Continuous,
        ..Definition::new("all", install(manifest))
    };
    let id = start(&fleet, definition).await;
    for number in 0..2 {
        fleet.update(number).await;
    }
    fleet.run().await;
    assert_eq!(fleet.task(id).await.state, TaskState::Running, "others may come");
    fleet.add().await;
    fleet.run().await;
    assert_eq!(fleet.members(id).await.len(), 3);
    assert_eq!(fleet.count(id, Slot::Pending).await, 1);
    fleet.update(2).await;
    assert_eq!(fleet.terminals[2].version().await, "2.0");
    fleet.run().await;
    fleet.task(id).await;
    assert_eq!(fleet.count(id, Slot::Succeeded).await, 3);
}

/// A store that counts what it is asked.
struct Counted {
    inner: Arc<dyn Store>,
    asked: Mutex<BTreeMap<&'static str, u32>>,
}

impl Counted {
    fn count(&self, what: &'static str) {
        *self.asked.lock().unwrap().entry(what).or_default() += 1;
    }

    fn taken(&self) -> BTreeMap<&'static str, u32> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait::async_trait]
impl Store for Counted {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        self.count("check_in");
        self.inner.check_in(caller).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        self.count("get");
        self.inner.get(key).await
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        self.count("list");
        self.inner.list(query, limit).await
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        self.count("tally");
        self.inner.tally(tally, limit).await
    }

    async fn events(&self, after: u64, limit: u32) -> Result<Vec<(u64, Event)>, StoreError> {
        self.count("events");
        self.inner.events(after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.count("commit");
        self.inner.commit(changes).await
    }
}

#[tokio::test]
async fn a_check_in_asks_the_store_for_as_much_however_many_tasks_there_are() {
    let store = Arc::new(Counted {
        inner: Arc::new(MemoryStore::default()),
        asked: Mutex::default(),
    });
    let mut fleet = Fleet::on(store.clone(), 3).await;
    store.taken();
    fleet.call(0).await;
    let alone = store.taken();
    assert_eq!(alone, BTreeMap::from([("check_in", 1), ("commit", 1)]));
    // Many tasks, of which the first terminal has been through all, and others have something open.
    let manifest = fleet.world.publish(CONTENT, 2).await;
    for number in 0..20 {
        let mut definition = Definition::new(&format!("task {number}"), install(manifest));
        definition.weight = 100 + number;
        let id = start(&fleet, definition).await;
        assert_eq!(
            fleet.count(id, Slot::Pending).await + fleet.count(id, Slot::AlreadyCurrent).await,
            3
        );
        fleet.update(0).await;
    }
    fleet.call(0).await;
    store.taken();
    fleet.call(0).await;
    assert_eq!(store.taken(), alone);
    // An offer costs what belongs to it: the task, the terminal's place in it, and a part of its counts.
    let mut second = Terminal::new(fleet.id(1));
    second.contact = 1_000;
    let (mut call, plan) = second.open(fleet.world.line("modem 1")).await.unwrap();
    assert_eq!(plan.actions.len(), 1);
    call.bye().await;
    let offer = store.taken();
    assert_eq!((offer["check_in"], offer["commit"]), (1, 1));
    assert!(offer["get"] <= 3, "{offer:?}");
    assert_eq!(offer.len(), 3, "nothing is listed or counted: {offer:?}");
}
