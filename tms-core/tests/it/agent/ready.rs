//! Terminals that are not ready, merchants that put things off, and versions that do not run.

use super::office::{Office, blank_action, call};
use super::terminal::{Kit, Terminal};
use crate::world::{DAY, NOW};
use tms_core::agent::slot::SelfTest;
use tms_core::agent::{Answer, Readiness};
use tms_proto::code::{ActionKind, ErrorAction, ResultCode, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::message::{Action, Precondition, Window};

async fn downloaded(change: impl FnOnce(&mut Action)) -> (Terminal, Office) {
    downloaded_with(Kit::new().await, change).await
}

async fn downloaded_with(kit: Kit, change: impl FnOnce(&mut Action)) -> (Terminal, Office) {
    let mut office = Office::new().await;
    let mut terminal = kit.start().await;
    office.assign(7, b"content", |_| {}).await;
    change(&mut office.plan.actions[0]);
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    (terminal, office)
}

async fn last(terminal: &mut Terminal, office: &mut Office) -> (Stage, ResultCode) {
    call(terminal, office, TriggerKind::Event).await;
    let last = office.results().into_values().last().unwrap();
    (last.stage, last.code)
}

#[expect(clippy::type_complexity, reason = "a table of cases")]
#[tokio::test]
async fn a_terminal_that_is_not_ready_waits_and_says_why_once() {
    let cases: [(fn(&mut Readiness), ResultCode); 3] = [
        (|ready| ready.busy = true, ResultCode::Busy),
        (|ready| ready.unsettled = true, ResultCode::Unsettled),
        (
            |ready| (ready.battery, ready.charging) = (Some(10), false),
            ResultCode::LowBattery,
        ),
    ];
    for (trouble, code) in cases {
        for forced in [None, Some(true)] {
            let (mut terminal, mut office) = downloaded(|action| {
                (action.forced, action.preconditions) = (forced, Some(Precondition::SETTLED));
            })
            .await;
            terminal.set(|conditions| trouble(&mut conditions.readiness));
            for _ in 0..5 {
                let report = terminal.work().await;
                assert!(report.again.is_some(), "{report:?}");
                terminal.kit.clock.advance(60);
            }
            assert_eq!(terminal.version().await, "1.0");
            assert_eq!(last(&mut terminal, &mut office).await, (Stage::Waiting, code));
            let waiting = office
                .results()
                .into_values()
                .filter(|result| result.stage == Stage::Waiting)
                .count();
            assert_eq!(waiting, 1);
            // A restart changes nothing.
            terminal = terminal.kit.start().await;
            terminal.work().await;
            assert_eq!(terminal.version().await, "1.0");
            terminal.set(|conditions| conditions.readiness = Readiness::FREE);
            terminal.work().await;
            assert_eq!(terminal.version().await, "2.0");
            assert_eq!(
                last(&mut terminal, &mut office).await,
                (Stage::RunningConfirmed, ResultCode::Success)
            );
        }
    }
}

#[tokio::test]
async fn the_manifest_may_ask_for_settlement_too() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    office
        .assign(7, b"content", |manifest| manifest.hints.settle_first = Some(true))
        .await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.set(|conditions| conditions.readiness.unsettled = true);
    terminal.work().await;
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::Waiting, ResultCode::Unsettled)
    );
}

#[tokio::test]
async fn a_terminal_that_becomes_busy_is_not_restarted() {
    let (mut terminal, _) = downloaded(|_| {}).await;
    let report = terminal.agent.work().await.unwrap();
    assert!(report.restart);
    // A card comes in before the restart.
    terminal.set(|conditions| conditions.readiness.busy = true);
    let report = terminal.agent.work().await.unwrap();
    assert!(!report.restart && report.again.is_some());
    terminal.set(|conditions| conditions.readiness.busy = false);
    assert!(terminal.agent.work().await.unwrap().restart);
}

#[tokio::test]
async fn a_merchant_may_put_it_off_so_often_and_a_forced_action_not_at_all() {
    let (mut terminal, mut office) = downloaded(|action| action.prompt = Some("Update now?".into())).await;
    terminal.set(|conditions| conditions.answer = Answer::Later(600));
    for _ in 0..terminal.kit.options.max_postponed {
        let report = terminal.work().await;
        assert_eq!(report.again.unwrap().as_secs(), 600);
        assert_eq!(terminal.version().await, "1.0");
        terminal.kit.clock.advance(601);
        terminal = terminal.kit.start().await;
    }
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::Waiting, ResultCode::Postponed)
    );
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");

    let (mut terminal, _) =
        downloaded(|action| (action.prompt, action.forced) = (Some("Update now?".into()), Some(true))).await;
    terminal.set(|conditions| conditions.answer = Answer::Later(600));
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn without_an_answer_only_what_must_be_agreed_waits() {
    let (mut terminal, _) = downloaded(|action| action.prompt = Some("Update now?".into())).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
    let (mut terminal, _) = downloaded(|action| action.preconditions = Some(Precondition::CONFIRMED)).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
    terminal.set(|conditions| conditions.answer = Answer::Yes);
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn nothing_is_installed_outside_its_window() {
    let (mut terminal, mut office) = downloaded(|action| {
        action.install = Some(Window {
            from: NOW + 100,
            until: NOW + 200,
        });
    })
    .await;
    let report = terminal.work().await;
    assert_eq!(report.again.unwrap().as_secs(), 100);
    assert_eq!(terminal.version().await, "1.0");
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::Waiting, ResultCode::WindowClosed)
    );
    // The clock is lost: nobody can say whether the window is open.
    terminal.kit.clock.set(5);
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
    // The terminal calls, and knows the time again.
    assert!(terminal.agent.next_contact().wait.is_zero());
    office.time = NOW + 150;
    call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_window_that_has_passed_waits_for_a_new_one() {
    let (mut terminal, mut office) = downloaded(|action| {
        action.install = Some(Window {
            from: NOW + 100,
            until: NOW + 200,
        });
    })
    .await;
    terminal.kit.clock.set(NOW + 300);
    office.time = NOW + 300;
    terminal.work().await;
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::Waiting, ResultCode::WindowClosed)
    );
    // The same action, in a new plan, with another window.
    office.plan.sequence += 1;
    office.plan.actions[0].install = Some(Window {
        from: NOW,
        until: NOW + DAY,
    });
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert!(office.last().gets.is_empty(), "nothing is downloaded twice");
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_download_outside_its_window_waits_and_the_terminal_calls_for_it() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    office.assign(7, b"content", |_| {}).await;
    office.plan.actions[0].download = Some(Window {
        from: NOW + 1_000,
        until: NOW + 3_000,
    });
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert!(office.last().gets.is_empty());
    let wait = terminal.agent.next_contact().wait.as_secs();
    assert!((1_000..2_000).contains(&wait), "{wait}");
    terminal.kit.clock.advance(wait);
    office.time += wait;
    assert!(terminal.agent.next_contact().wait.is_zero());
    call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_plan_that_has_expired_begins_nothing() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    office.assign(7, b"content", |_| {}).await;
    office.plan.actions[0].download = Some(Window {
        from: NOW + 1_000,
        until: NOW + 9_000,
    });
    office.plan.not_after = Some(NOW + 500);
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.kit.clock.advance(2_000);
    office.time += 2_000;
    terminal.work().await;
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::Expired, ResultCode::Expired)
    );
    assert!(office.heard.iter().all(|heard| heard.gets.is_empty()));
}

#[tokio::test]
async fn a_version_that_fails_its_self_test_is_rolled_back() {
    let mut kit = Kit::new().await;
    kit.self_test = SelfTest::Fails;
    let (mut terminal, mut office) = downloaded_with(kit, |_| {}).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
    assert!(terminal.device.broken().await.unwrap().is_empty());
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::RolledBack, ResultCode::RolledBack)
    );
    let result = office.results().into_values().last().unwrap();
    assert_eq!(result.running, Some(Digest::of(super::terminal::FACTORY)));
    // It is not tried again, and what was installed counts as if it had never been.
    office.plan.sequence += 1;
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert!(office.last().gets.is_empty());
    terminal.kit.self_test = SelfTest::Passes;
    let mut terminal = terminal.kit.start().await;
    office.assign(8, b"better", |manifest| manifest.counter = 1).await;
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    terminal.work().await;
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::RunningConfirmed, ResultCode::Success)
    );
}

#[tokio::test]
async fn a_version_that_says_nothing_is_rolled_back_in_time() {
    let mut kit = Kit::new().await;
    kit.self_test = SelfTest::Silent;
    let (mut terminal, mut office) = downloaded_with(kit, |_| {}).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
    terminal.kit.clock.advance(300);
    // A clock that is reset does not cut the trial short.
    terminal.kit.clock.set(10);
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
    terminal.kit.clock.advance(700);
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::RolledBack, ResultCode::RolledBack)
    );
}

#[tokio::test]
async fn a_version_that_confirms_itself_late_is_kept() {
    let mut kit = Kit::new().await;
    kit.self_test = SelfTest::Silent;
    let (mut terminal, mut office) = downloaded_with(kit, |_| {}).await;
    terminal.work().await;
    terminal.kit.clock.advance(300);
    terminal.device.confirm("bank").await.unwrap();
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::RunningConfirmed, ResultCode::Success)
    );
}

#[tokio::test]
async fn a_failure_that_stops_the_sequence_stops_what_comes_after() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let first = office
        .publish(1, b"for others", |manifest| manifest.vendor = "Verifone".into())
        .await;
    let second = office.publish(2, b"second", |_| {}).await;
    office.plan.actions = vec![
        Action {
            on_error: Some(ErrorAction::Stop),
            ..first
        },
        second,
    ];
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    let results: Vec<_> = office
        .results()
        .into_values()
        .map(|result| (result.action, result.stage, result.code))
        .collect();
    assert!(
        results.contains(&(1, Stage::Rejected, ResultCode::ModelMismatch)),
        "{results:?}"
    );
    assert!(
        results.contains(&(2, Stage::Rejected, ResultCode::Missing)),
        "{results:?}"
    );
    assert!(terminal.agent.actions().is_empty());
}

#[tokio::test]
async fn restarts_prompts_and_logs_are_actions_too() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let prompt = Action {
        prompt: Some("Please settle.".into()),
        ..blank_action(2, ActionKind::DeviceRequest)
    };
    office.plan.actions = vec![
        blank_action(1, ActionKind::Upload),
        prompt,
        blank_action(3, ActionKind::Restart),
    ];
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(terminal.agent.actions().len(), 2);
    let report = terminal.agent.work().await.unwrap();
    assert!(report.restart);
    assert_eq!(terminal.device.shown()[0].body, "Please settle.");
    // Until it has been started again, it asks for that.
    assert!(terminal.agent.work().await.unwrap().restart);
    terminal = terminal.kit.start().await;
    assert!(!terminal.agent.work().await.unwrap().restart);
    call(&mut terminal, &mut office, TriggerKind::Event).await;
    let done: Vec<_> = office
        .results()
        .into_values()
        .filter(|result| result.stage == Stage::RunningConfirmed)
        .map(|result| result.action)
        .collect();
    assert_eq!(done, [1, 2, 3]);
}

#[tokio::test]
async fn a_download_that_is_to_be_kept_is_used_by_a_later_action() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let action = office.assign(7, &[3; 100_000], |_| {}).await;
    office.plan.actions = vec![Action {
        kind: ActionKind::Download,
        ..action.clone()
    }];
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.work().await;
    assert_eq!(
        last(&mut terminal, &mut office).await,
        (Stage::Verified, ResultCode::Success)
    );
    assert_eq!(terminal.version().await, "1.0");
    office.plan.sequence += 1;
    office.plan.actions = vec![Action { id: 8, ..action }];
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert!(office.last().gets.is_empty(), "{:?}", office.last().gets);
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}
