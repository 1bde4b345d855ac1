//! What is thrown away, and what never is.

use crate::agent::terminal::Terminal;
use crate::install::terminal;
use crate::world::{DAY, World, operator};
use tms_core::estate::Retention;
use tms_core::store::{ActionId, Key, Sequence, TerminalId};
use tms_proto::code::TriggerKind;

const KEEP: Retention = Retention {
    events: Some(2),
    assignments: Some(2),
};

async fn call(world: &World, terminal: &mut Terminal) {
    let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Manual).await;
    assert!(report.recorded, "{report}");
}

/// What runs behind the check-ins reads what happened.
async fn catch_up(world: &World) {
    while world.estate.roll_up(1_000).await.unwrap().events > 0 {}
    while world.estate.advance_cases(1_000).await.unwrap().events > 0 {}
    while world.estate.judge_drift(1_000).await.unwrap().events > 0 {}
    while world.estate.advance_call_notices(1_000).await.unwrap().events > 0 {}
}

/// Throws away, some at a time, until nothing is left to be thrown away.
async fn retain(world: &World) {
    for limit in [1, 3] {
        while world.estate.retain(&KEEP, limit).await.unwrap() > 0 {}
    }
}

async fn numbers(world: &World) -> Vec<Sequence> {
    let all = world.store.events(0, 10_000).await.unwrap();
    all.into_iter().map(|(number, _)| number).collect()
}

async fn is_kept(world: &World, id: TerminalId, action: u64) -> bool {
    let key = Key::Assignment(id, ActionId(action));
    world.store.get(&key).await.unwrap().is_some()
}

#[tokio::test]
async fn events_go_when_they_are_old_and_everybody_has_read_them() {
    let world = World::new().await;
    let estate = &world.estate;
    let (_, mut terminal) = terminal(&world, "0001").await;
    estate.subscribe(&operator(), "billing", &[], 0).await.unwrap();
    for _ in 0..6 {
        call(&world, &mut terminal).await;
        world.clock.advance(DAY);
    }
    let all = numbers(&world).await;
    retain(&world).await;
    assert_eq!(numbers(&world).await, all, "nobody has read them");
    catch_up(&world).await;
    retain(&world).await;
    assert_eq!(numbers(&world).await, all, "a consumer has not read them");
    estate.acknowledge("billing", all[2]).await.unwrap();
    retain(&world).await;
    assert_eq!(numbers(&world).await, all[3..]);
    // A consumer goes on where it is.
    let delivery = estate.deliver("billing", 100).await.unwrap();
    assert_eq!(
        delivery.events.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        all[3..]
    );
    estate.acknowledge("billing", delivery.through).await.unwrap();
    retain(&world).await;
    let left = world.store.events(0, 100).await.unwrap();
    let now = tms_core::clock::Clock::now(&*world.clock);
    assert!(
        !left.is_empty() && left.iter().all(|(_, event)| event.time >= now - 2 * DAY),
        "{left:?}"
    );

    // Not even the last one goes, so that numbers go on; the audit log is whole, and the day's counts are there.
    world.clock.advance(30 * DAY);
    retain(&world).await;
    assert_eq!(numbers(&world).await, all[all.len() - 1..]);
    call(&world, &mut terminal).await;
    assert!(numbers(&world).await[1] > all[all.len() - 1]);
    catch_up(&world).await;
    let entries = estate.audit(&operator(), 0, 100).await.unwrap();
    assert!(entries.iter().any(|entry| entry.act == "terminal.enrol"), "{entries:?}");
    estate.verify_audit(None).await.unwrap();
    assert!(estate.as_of().await.unwrap().sequence > all[0]);
}

#[tokio::test]
async fn actions_go_when_they_are_over_and_old() {
    let world = World::new().await;
    let (id, mut terminal) = terminal(&world, "0001").await;
    let (other, _) = crate::install::terminal(&world, "0002").await;
    let first = world.publish(b"version 2", 2).await;
    let done = world.queue(id, &first).await;
    for _ in 0..3 {
        call(&world, &mut terminal).await;
        terminal.work().await;
    }
    call(&world, &mut terminal).await;
    let open = world.queue(other, &first).await;
    retain(&world).await;
    world.clock.advance(DAY);
    retain(&world).await;
    assert!(is_kept(&world, id, done).await, "it was over a day ago");
    world.clock.advance(2 * DAY);
    retain(&world).await;
    assert!(!is_kept(&world, id, done).await && is_kept(&world, other, open).await);
    // Its number is never given again.
    let second = world.publish(b"version 3", 3).await;
    assert_eq!(world.queue(id, &second).await, done + 1);
}
