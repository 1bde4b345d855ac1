//! What brings a call besides its time: settlements, power-on, a key; from the policy to the call that says why.

use crate::install::terminal;
use crate::world::{DAY, NOW, World, operator};
use std::time::Duration;
use tms_core::agent::Contact;
use tms_core::estate::ClassPolicy;
use tms_core::rule::policy::{CheckInPolicy, Class};
use tms_core::store::EventKind;
use tms_proto::code::TriggerKind;

const WINDOW: u32 = 900;

async fn put(world: &World, policy: CheckInPolicy) {
    let policy = ClassPolicy {
        name: "all".to_owned(),
        class: Class::default(),
        policy,
        access: None,
    };
    world.estate.put_policy(&operator(), policy).await.unwrap();
    // servers go by it some seconds later
    world.clock.advance(10);
}

fn asking() -> CheckInPolicy {
    CheckInPolicy {
        window: WINDOW,
        after_settlements: Some(2),
        at_power_on: true,
        gap: Some(600),
        ..CheckInPolicy::default()
    }
}

/// Why terminals called, by what is recorded.
async fn triggers(world: &World) -> Vec<TriggerKind> {
    let events = world.events().await.into_iter();
    let trigger = |kind| match kind {
        EventKind::CheckedIn(summary) => Some(summary.trigger),
        _ => None,
    };
    events.filter_map(|event| trigger(event.kind)).collect()
}

async fn call(world: &World, terminal: &mut crate::agent::terminal::Terminal, contact: Contact) {
    let report = terminal.agent.call(world.line("modem 1"), contact.trigger).await;
    assert!(report.recorded, "{report}");
}

fn seconds(contact: &Contact) -> u64 {
    contact.wait.as_secs()
}

#[tokio::test]
async fn settlements_and_power_on_bring_a_call_as_the_policy_says() {
    let world = World::new().await;
    let (_, mut terminal) = terminal(&world, "0001").await;
    let clock = terminal.kit.clock.clone();
    // Without a policy nothing of it counts.
    let first = terminal.agent.next_contact();
    call(&world, &mut terminal, first).await;
    for _ in 0..5 {
        terminal.agent.settled().await.unwrap();
    }
    terminal.agent.powered_on().await.unwrap();
    assert_eq!(terminal.agent.next_contact().trigger.kind, TriggerKind::Schedule);
    assert_eq!(terminal.agent.by_hand().wait, Duration::ZERO);

    put(&world, asking()).await;
    let by_hand = terminal.agent.by_hand();
    call(&world, &mut terminal, by_hand).await;
    // The second settlement is one too many, also where power fails after each.
    terminal.agent.settled().await.unwrap();
    assert_eq!(terminal.agent.next_contact().trigger.kind, TriggerKind::Schedule);
    let mut terminal = terminal.kit.after_power_loss(1).start().await;
    terminal.agent.settled().await.unwrap();
    let mut terminal = terminal.kit.after_power_loss(2).start().await;
    let contact = terminal.agent.next_contact();
    assert_eq!(contact.trigger.kind, TriggerKind::SettlementCount);
    // But not sooner after the last call than the policy wants, by hand neither.
    assert_eq!((seconds(&contact), seconds(&terminal.agent.by_hand())), (600, 600));
    clock.advance(600);
    assert_eq!(seconds(&terminal.agent.by_hand()), 0);
    let contact = terminal.agent.next_contact();
    assert_eq!(
        (seconds(&contact), contact.trigger.kind),
        (0, TriggerKind::SettlementCount)
    );
    call(&world, &mut terminal, contact).await;
    assert_eq!(terminal.agent.next_contact().trigger.kind, TriggerKind::Schedule);

    // At power-on: some time within the window, and remembered when power fails again.
    clock.advance(600);
    terminal.agent.powered_on().await.unwrap();
    let contact = terminal.agent.next_contact();
    assert_eq!(contact.trigger.kind, TriggerKind::PowerOn);
    assert!(seconds(&contact) <= WINDOW.into(), "{contact:?}");
    let mut terminal = terminal.kit.after_power_loss(3).start().await;
    assert_eq!(terminal.agent.next_contact(), contact);
    clock.advance(seconds(&contact));
    let contact = terminal.agent.next_contact();
    assert_eq!(seconds(&contact), 0);
    call(&world, &mut terminal, contact).await;
    let expected = [
        TriggerKind::PowerOn,
        TriggerKind::Manual,
        TriggerKind::SettlementCount,
        TriggerKind::PowerOn,
    ];
    assert_eq!(triggers(&world).await, expected);

    // A policy that asks for none of it any more takes it back.
    put(&world, CheckInPolicy::default()).await;
    clock.advance(DAY);
    let contact = terminal.agent.next_contact();
    assert_eq!(contact.trigger.kind, TriggerKind::Schedule);
    call(&world, &mut terminal, contact).await;
    terminal.agent.powered_on().await.unwrap();
    for _ in 0..9 {
        terminal.agent.settled().await.unwrap();
    }
    assert_eq!(terminal.agent.next_contact().trigger.kind, TriggerKind::Schedule);
    assert_eq!(terminal.agent.by_hand().wait, Duration::ZERO);
}

#[tokio::test]
async fn a_check_in_of_such_a_policy_stays_within_its_budget() {
    let world = World::new().await;
    put(&world, asking()).await;
    let (id, mut terminal) = terminal(&world, "0001").await;
    for _ in 0..3 {
        let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Schedule).await;
        assert!(report.recorded, "{report}");
    }
    let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Schedule).await;
    assert!(report.recorded && report.unchanged, "{report}");
    assert!(report.sent + report.received <= 370, "{report}");
    let told = world.known(id).await.terminal.record.next_contact.unwrap();
    assert_eq!(
        (told.after_settlements, told.power_on, told.gap),
        (Some(2), Some(true), Some(600))
    );
    assert!(told.from > NOW);
}
