//! Notices: from the operator over the transaction host to the terminal that calls.

use crate::install::{branches, path, terminal};
use crate::world::{World, operator};
use std::time::Duration;
use tms_core::estate::{Actor, EstateError, Relation};
use tms_core::store::{Caller, EventKind};
use tms_proto::code::TriggerKind;

async fn advance(world: &World) {
    while world.estate.advance_call_notices(2).await.unwrap().events > 0 {}
}

#[tokio::test]
async fn a_terminal_is_asked_to_call_by_way_of_the_transaction_host() {
    let world = World::new().await;
    branches(&world).await;
    let estate = &world.estate;
    let (id, mut terminal) = terminal(&world, "0001").await;
    let report = terminal.agent.call(world.line("modem 1"), TriggerKind::PowerOn).await;
    assert!(report.recorded, "{report}");
    advance(&world).await;
    let object = id.to_string();
    estate
        .bind(
            &operator(),
            Relation::Device,
            ("M1:T1", &object),
            &path("/"),
            "installed",
        )
        .await
        .unwrap();
    assert_eq!(estate.call_notice_for(&operator(), "M1", "T1").await.unwrap(), None);

    world.clock.advance(60);
    let caller = Caller::Id(id);
    let short = estate.ask_to_call(&operator(), &caller, ("now", None), 59).await;
    assert!(matches!(short, Err(EstateError::Invalid(..))), "{short:?}");
    let notice = estate
        .ask_to_call(&operator(), &caller, ("a fix is urgent", Some(7)), 3_600)
        .await
        .unwrap();
    assert_eq!(notice.check_code.len(), 16);
    // An event of before does not answer it.
    advance(&world).await;
    let told = estate.call_notice_for(&operator(), "M1", "T1").await.unwrap();
    assert_eq!(told, Some(notice.clone()));
    assert_eq!(estate.call_notice_for(&operator(), "M1", "T2").await.unwrap(), None);
    assert_eq!(
        estate.call_notices(&operator(), &path("/"), 9).await.unwrap(),
        std::slice::from_ref(&notice)
    );
    assert_eq!(estate.call_notices(&operator(), &path("/east"), 9).await.unwrap(), []);

    // The terminal hears of it with an answer, and power fails; it calls all the same, and says why.
    assert_eq!(terminal.agent.next_contact().trigger.kind, TriggerKind::Schedule);
    let code = hex::decode(&notice.check_code).unwrap();
    terminal.agent.noticed(notice.task, Some(code.into())).await.unwrap();
    let mut terminal = terminal.kit.after_power_loss(5).start().await;
    let contact = terminal.agent.next_contact();
    assert_eq!((contact.wait, contact.trigger.task), (Duration::ZERO, Some(7)));
    assert_eq!(
        hex::encode(contact.trigger.check_code.as_ref().unwrap()),
        notice.check_code
    );
    let report = terminal.agent.call(world.line("modem 1"), contact.trigger).await;
    assert!(report.recorded, "{report}");
    let events = world.events().await.into_iter();
    let triggers = events.filter_map(|event| match event.kind {
        EventKind::CheckedIn(summary) => Some(summary.trigger),
        _ => None,
    });
    assert_eq!(
        triggers.collect::<Vec<_>>().last(),
        Some(&TriggerKind::TransactionNotice)
    );
    assert_eq!(terminal.agent.next_contact().trigger.kind, TriggerKind::Schedule);
    advance(&world).await;
    assert_eq!(estate.call_notices(&operator(), &path("/"), 9).await.unwrap(), []);
    assert_eq!(estate.call_notice_for(&operator(), "M1", "T1").await.unwrap(), None);
}

#[tokio::test]
async fn a_notice_ends_by_its_time_or_when_it_is_taken_back() {
    let world = World::new().await;
    let estate = &world.estate;
    let caller = Caller::Id(world.enrol("0001").await);
    let none = estate.drop_call_notice(&operator(), &caller).await;
    assert!(matches!(none, Err(EstateError::Unknown(..))), "{none:?}");
    let ask = async || {
        estate
            .ask_to_call(&operator(), &caller, ("look at it", None), 600)
            .await
            .unwrap()
    };
    ask().await;
    world.clock.advance(600);
    assert_eq!(estate.call_notices(&operator(), &path("/"), 9).await.unwrap(), []);
    ask().await;
    assert_eq!(estate.call_notices(&operator(), &path("/"), 9).await.unwrap().len(), 1);
    estate.drop_call_notice(&Actor::trusted("wang"), &caller).await.unwrap();
    assert_eq!(estate.call_notices(&operator(), &path("/"), 9).await.unwrap(), []);
    let acts = estate.audit(&operator(), 0, 100).await.unwrap();
    for act in ["notice.put", "notice.drop"] {
        assert!(acts.iter().any(|entry| entry.act == act), "{act}");
    }
}
