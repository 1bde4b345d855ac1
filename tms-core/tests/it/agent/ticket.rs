//! Tickets, and calls that break off anywhere.

use super::office::{Office, Quirk, call, call_cut};
use super::terminal::{Kit, Proves};
use tms_core::agent::CallEnd;
use tms_proto::code::{ResultCode, TriggerKind};
use tms_proto::handshake::Mode;

#[tokio::test]
async fn a_call_that_is_cut_anywhere_can_be_made_again_with_a_ticket() {
    let kit = Kit::new().await;
    let mut office = Office::new().await;
    let mut terminal = kit.start().await;
    let first = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!((first.mode, first.recorded), (Some(Mode::MainKey), true));
    let whole = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!((whole.mode, whole.recorded), (Some(Mode::Ticket), true));
    let length = whole.sent + whole.received;
    for cut in 1..length {
        let broken = call_cut(&mut terminal, &mut office, TriggerKind::Manual, cut).await;
        assert!(
            matches!(broken.end, CallEnd::Broken(_)) || broken.recorded,
            "cut at {cut}: {broken}"
        );
        // The terminal never believes that a check-in is recorded that is not.
        assert!(!broken.recorded || office.last().recorded, "cut at {cut}");
        let again = call(&mut terminal, &mut office, TriggerKind::Retry).await;
        assert_eq!(
            (again.mode, again.recorded),
            (Some(Mode::Ticket), true),
            "cut at {cut}: {again}"
        );
    }
    let contacts: Vec<u32> = office
        .heard
        .iter()
        .filter_map(|heard| Some(heard.report.as_ref()?.contact))
        .collect();
    assert!(
        contacts.windows(2).all(|pair| pair[0] < pair[1]),
        "contact numbers grow"
    );
}

#[tokio::test]
async fn a_first_call_that_is_cut_anywhere_can_be_made_again() {
    for proves in [Proves::MainKey, Proves::Rsa] {
        let kit = Kit::with(proves).await;
        let mut office = Office::new().await;
        let length = {
            let mut terminal = kit.after_power_loss(0).start().await;
            let whole = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
            whole.sent + whole.received
        };
        for cut in (1..length).step_by(if proves == Proves::Rsa { 37 } else { 1 }) {
            let mut terminal = kit.after_power_loss(0).start().await;
            office.tickets.clear();
            call_cut(&mut terminal, &mut office, TriggerKind::PowerOn, cut).await;
            let mut calls = 0;
            while !call(&mut terminal, &mut office, TriggerKind::Retry).await.recorded {
                calls += 1;
                assert!(calls < 3, "cut at {cut}");
            }
        }
    }
}

#[tokio::test]
async fn tickets_that_are_refused_give_way_to_full_authentication() {
    let kit = Kit::new().await;
    let mut office = Office::new().await;
    let mut terminal = kit.start().await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    // The acknowledgement is lost: the terminal holds the old ticket and the new one.
    let whole = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let length = whole.sent + whole.received;
    call_cut(&mut terminal, &mut office, TriggerKind::Manual, length - 60).await;
    assert_eq!(office.tickets.len(), 2);

    office.tickets.clear();
    let mut modes = Vec::new();
    loop {
        let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
        modes.push(report.mode.unwrap());
        if report.recorded {
            break;
        }
        assert_eq!(report.end, CallEnd::Refused(ResultCode::SecurityError));
        // It does not wait for long: the next credentials may be the right ones.
        assert!(terminal.agent.next_contact().wait.as_secs() <= 1);
    }
    assert_eq!(modes, [Mode::Ticket, Mode::Ticket, Mode::MainKey]);
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!((report.mode, report.recorded), (Some(Mode::Ticket), true));
}

#[tokio::test]
async fn refusals_that_anybody_may_have_sent_destroy_nothing() {
    let kit = Kit::new().await;
    let mut office = Office::new().await;
    let mut terminal = kit.start().await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    office.quirk = Quirk::Refuse;
    let mut waits = Vec::new();
    for _ in 0..6 {
        let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
        assert_eq!(report.end, CallEnd::Refused(ResultCode::SecurityError));
        waits.push(terminal.agent.next_contact().wait.as_secs());
    }
    // One ticket, then the main key, then it waits, as after any failure.
    assert!(waits[0] <= 1 && waits[1] >= 30, "{waits:?}");
    office.quirk = Quirk::None;
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert_eq!((report.mode, report.recorded), (Some(Mode::Ticket), true));
}

#[tokio::test]
async fn an_expired_ticket_is_not_tried() {
    let kit = Kit::new().await;
    let mut office = Office::new().await;
    let mut terminal = kit.start().await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    kit.clock.advance(31 * 86_400);
    office.time += 31 * 86_400;
    let report = call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    assert_eq!((report.mode, report.recorded), (Some(Mode::MainKey), true));
}

#[tokio::test]
async fn a_check_in_that_the_server_cannot_store_is_not_taken_for_recorded() {
    let kit = Kit::new().await;
    let mut office = Office::new().await;
    let mut terminal = kit.start().await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    office.quirk = Quirk::NoStore;
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert!(!report.recorded, "{report}");
    assert_eq!(report.end, CallEnd::Refused(ResultCode::StorageUnavailable));
    let wait = terminal.agent.next_contact().wait.as_secs();
    assert!((60..=75).contains(&wait), "{wait}");
    office.quirk = Quirk::None;
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert_eq!((report.mode, report.recorded), (Some(Mode::Ticket), true));
}

#[tokio::test]
async fn tickets_of_calls_that_were_never_recorded_do_not_pile_up() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    office.quirk = Quirk::NoStore;
    for _ in 0..30 {
        call(&mut terminal, &mut office, TriggerKind::Retry).await;
    }
    office.quirk = Quirk::None;
    let mut refusals = 0;
    while !call(&mut terminal, &mut office, TriggerKind::Retry).await.recorded {
        refusals += 1;
        assert!(refusals <= 2, "every ticket that it holds is tried first");
    }
}
