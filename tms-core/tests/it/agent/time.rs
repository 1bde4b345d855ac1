//! Clocks that stand at 1970, jump, or were never right.

use super::office::{Office, call};
use super::terminal::{Kit, Proves};
use crate::world::{DAY, NOW};
use tms_core::agent::CallEnd;
use tms_proto::code::{ResultCode, Stage, TriggerKind};

#[tokio::test]
async fn a_terminal_whose_clock_stands_at_1970_is_updated() {
    for proves in [Proves::MainKey, Proves::Rsa, Proves::Both] {
        let kit = Kit::with(proves).await;
        kit.clock.set(0);
        let mut terminal = kit.start().await;
        let mut office = Office::new().await;
        office.assign(7, b"content", |_| {}).await;
        let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
        assert!(report.recorded, "{report}");
        // The server sees what the clock shows.
        assert_eq!(office.last().report.as_ref().unwrap().time, 0);
        terminal.work().await;
        assert_eq!(terminal.version().await, "2.0");
        assert_eq!(terminal.agent.now().time, Some(NOW));
        let wait = terminal.agent.next_contact().wait.as_secs();
        assert_eq!(wait, 0, "results are to be told");
        call(&mut terminal, &mut office, TriggerKind::Event).await;
        assert_eq!(terminal.agent.next_contact().wait.as_secs(), DAY);
        // Results are dated by what the server said.
        assert!(office.results().into_values().all(|result| result.time >= NOW));
    }
}

#[tokio::test]
async fn a_clock_that_jumps_makes_the_terminal_call_and_never_wait_for_ever() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(terminal.agent.next_contact().wait.as_secs(), DAY);
    terminal.kit.clock.set(0);
    assert_eq!(terminal.agent.next_contact().wait.as_secs(), 0);
    terminal.kit.clock.set(NOW + 40 * 365 * DAY);
    assert_eq!(terminal.agent.next_contact().wait.as_secs(), 0);
    call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    assert_eq!(terminal.agent.next_contact().wait.as_secs(), DAY);
}

#[tokio::test]
async fn what_had_expired_when_a_server_last_told_the_time_has_expired() {
    let kit = Kit::new().await;
    let mut terminal = kit.start().await;
    let mut office = Office::new().await;
    office
        .assign(7, b"content", |manifest| manifest.expiry = Some(NOW + DAY))
        .await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    // Downloaded in time; but before it is installed a server says that its time is over, and the clock is lost.
    terminal.set(|conditions| conditions.readiness.busy = true);
    terminal.work().await;
    office.time = NOW + 2 * DAY;
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    kit.clock.set(0);
    let mut terminal = kit.start().await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
    call(&mut terminal, &mut office, TriggerKind::Event).await;
    let last = office.results().into_values().last().unwrap();
    assert_eq!((last.stage, last.code), (Stage::Rejected, ResultCode::Expired));
}

#[tokio::test]
async fn a_package_whose_time_has_not_come_waits_for_it() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    office
        .assign(7, b"content", |manifest| manifest.not_before = Some(NOW + 1_000))
        .await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
    terminal.kit.clock.advance(1_000);
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn credentials_that_ended_before_the_last_call_are_refused_without_a_clock() {
    let kit = Kit::with(Proves::Rsa).await;
    kit.clock.set(0);
    let mut terminal = kit.start().await;
    let mut office = Office::new().await;
    assert!(call(&mut terminal, &mut office, TriggerKind::PowerOn).await.recorded);
    // The ticket carries the time on past the end of the server's channel certificate.
    office.time = NOW + 20 * DAY;
    assert!(call(&mut terminal, &mut office, TriggerKind::Schedule).await.recorded);
    // Whoever has stolen the old key comes back with it, and with the time of then.
    office.time = NOW;
    office.tickets.clear();
    call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert_eq!(
        report.end,
        CallEnd::Impostor("credentials ended before the last call".into())
    );
}

#[tokio::test]
async fn a_clock_that_is_trusted_judges_certificates() {
    let mut kit = Kit::with(Proves::Rsa).await;
    kit.options.trust_clock = true;
    kit.clock.set(NOW + 500 * DAY);
    let mut terminal = kit.start().await;
    let mut office = Office::new().await;
    let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(report.end, CallEnd::Impostor("channel certificate has expired".into()));
    kit.clock.set(NOW);
    assert!(call(&mut terminal, &mut office, TriggerKind::Retry).await.recorded);
}
