//! Removing a component, and registering again.

use super::office::{Office, blank_action, blank_plan, call};
use super::power::live;
use super::terminal::{Kit, Terminal};
use tms_core::agent::Readiness;
use tms_core::agent::flash::PowerCut;
use tms_proto::code::{ActionKind, ComponentKind, RegisterIntent, ResultCode, Stage, TriggerKind};
use tms_proto::message::{Action, Message, Plan};

fn plan(office: &mut Office, action: Action) {
    office.plan = Plan {
        actions: vec![action],
        ..blank_plan(office.plan.sequence + 1)
    };
}

fn removal(id: u64, component: &str) -> Action {
    Action {
        component: Some(component.to_owned()),
        ..blank_action(id, ActionKind::Delete)
    }
}

async fn last(terminal: &mut Terminal, office: &mut Office) -> (u64, Stage, ResultCode) {
    call(terminal, office, TriggerKind::Event).await;
    let last = office.results().into_values().last().unwrap();
    (last.action, last.stage, last.code)
}

#[tokio::test]
async fn a_component_is_removed_once_the_terminal_is_ready() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    plan(&mut office, removal(7, "bank"));
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.set(|conditions| conditions.readiness.busy = true);
    terminal.work().await;
    assert!(terminal.device.versions().await.contains_key("bank"));
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (7, Stage::Waiting, ResultCode::Busy)
    );
    terminal.set(|conditions| conditions.readiness = Readiness::FREE);
    terminal.work().await;
    assert!(!terminal.device.versions().await.contains_key("bank"));
    let confirmed = (7, Stage::RunningConfirmed, ResultCode::Success);
    assert_eq!(last(&mut terminal, &mut office).await, confirmed);
    // What is not there is removed already.
    plan(&mut office, removal(8, "never-there"));
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    terminal.work().await;
    let confirmed = (8, Stage::RunningConfirmed, ResultCode::Success);
    assert_eq!(last(&mut terminal, &mut office).await, confirmed);
}

#[tokio::test]
async fn the_main_control_application_stays() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    let device = &terminal.device;
    device
        .provision("main", ComponentKind::MainControl, "1.0", 1, b"main control")
        .await
        .unwrap();
    plan(&mut office, removal(7, "main"));
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.work().await;
    let refused = (7, Stage::Rejected, ResultCode::NotPermitted);
    assert_eq!(last(&mut terminal, &mut office).await, refused);
    assert!(terminal.device.versions().await.contains_key("main"));
    let report = {
        plan(&mut office, blank_action(8, ActionKind::Delete));
        call(&mut terminal, &mut office, TriggerKind::Manual).await
    };
    assert_eq!(report.refused[0].code, ResultCode::Missing);
}

#[tokio::test]
async fn removing_a_version_is_no_way_to_a_lower_counter() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    office.assign(7, b"third", |manifest| manifest.counter = 3).await;
    live(&mut terminal, &mut office).await;
    plan(&mut office, removal(8, "bank"));
    live(&mut terminal, &mut office).await;
    assert!(!terminal.device.versions().await.contains_key("bank"));
    office.assign(9, b"second", |manifest| manifest.counter = 2).await;
    live(&mut terminal, &mut office).await;
    let refused = (9, Stage::Rejected, ResultCode::VersionTooLow);
    assert_eq!(last(&mut terminal, &mut office).await, refused);
    // The same counter may come back, whatever its ordered version is.
    let lower = |manifest: &mut tms_proto::package::Manifest| (manifest.counter, manifest.order) = (3, 1);
    office.assign(10, b"again", lower).await;
    live(&mut terminal, &mut office).await;
    let confirmed = (10, Stage::RunningConfirmed, ResultCode::Success);
    assert_eq!(last(&mut terminal, &mut office).await, confirmed);
}

#[tokio::test]
async fn a_removal_survives_a_power_cut_at_every_write() {
    let base = Kit::new().await;
    for n in 1.. {
        let mut office = Office::new().await;
        plan(&mut office, removal(7, "bank"));
        let kit = base.after_power_loss(0);
        kit.flash.cut(PowerCut { write: n, seed: n });
        if let Ok(mut terminal) = kit.try_start().await
            && live(&mut terminal, &mut office).await
        {
            assert!(n > 8, "{n} writes");
            return;
        }
        let mut terminal = kit.after_power_loss(n).start().await;
        assert_eq!(
            terminal.device.broken().await.unwrap(),
            Vec::<String>::new(),
            "cut at {n}"
        );
        assert!(live(&mut terminal, &mut office).await, "cut at {n}");
        assert!(!terminal.device.versions().await.contains_key("bank"), "cut at {n}");
        let last = office.results().into_values().last().unwrap();
        assert_eq!(last.stage, Stage::RunningConfirmed, "cut at {n}");
    }
}

#[tokio::test]
async fn a_terminal_registers_again_when_it_is_asked_to() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    plan(&mut office, blank_action(7, ActionKind::Bind));
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    let registers = office.last().messages.iter().filter_map(|message| match message {
        Message::Register(register) => Some(register.intent),
        _ => None,
    });
    assert_eq!(registers.collect::<Vec<_>>(), [RegisterIntent::Again]);
    assert!(terminal.agent.actions().is_empty());
    // It was confirmed in the call in which it was answered.
    let results = office
        .results()
        .into_values()
        .map(|result| (result.action, result.stage));
    assert_eq!(results.collect::<Vec<_>>(), [(7, Stage::RunningConfirmed)]);
}
