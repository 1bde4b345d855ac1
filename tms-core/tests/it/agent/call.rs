//! Check-ins: what is reported, taken, refused, and remembered.

use super::office::{Office, Quirk, blank_action, blank_plan, call, identity_of, key_named, server_identity};
use super::terminal::{Kit, Proves, signer};
use crate::world::{DAY, NOW, anchors, certify, holder};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tms_core::agent::{CallEnd, RsaIdentity};
use tms_core::signer::{PemSigner, Signer, SignerError};
use tms_core::transport::memory;
use tms_proto::certificate::{Anchor, Roles, Subject};
use tms_proto::code::{ActionKind, RegisterIntent, Representation, ResultCode, Role, Stage, TextStatus, TriggerKind};
use tms_proto::handshake::{Mode, Suite};
use tms_proto::message::{Location, Message, Plan, Refusal, Register, Text, Trigger, Wanted};
use tms_proto::session::Misuse;

#[tokio::test]
async fn the_inventory_is_sent_once_and_then_by_digest() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    terminal.set(|conditions| {
        conditions.state.unsettled = Some(3);
        conditions.location = Some(Location {
            caller: Some("02112345678".into()),
            ..Location::default()
        });
    });
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    let report = office.last().report.clone().unwrap();
    let inventory = report.inventory.clone().unwrap();
    assert_eq!(inventory.digest(), report.inventory_digest);
    assert_eq!(inventory.components[0].id, "bank");
    assert!(report.state.is_some() && report.location.is_some());

    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let report = office.last().report.clone().unwrap();
    assert_eq!((report.inventory, report.state, report.location), (None, None, None));
    assert_eq!((report.plan, report.next_contact), (Some(1), Some(NOW + DAY)));
    assert_eq!(office.last().ack.as_ref().unwrap().sequence, 1);

    // What changes is told, and what does not is not.
    terminal.set(|conditions| conditions.state.unsettled = Some(4));
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let report = office.last().report.clone().unwrap();
    assert_eq!((report.inventory, report.state.unwrap().unsettled), (None, Some(4)));

    // And all of it where the server asks.
    office.plan.wanted = Some(Wanted::INVENTORY);
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!(report.end, CallEnd::Done);
    let whole = office.last().messages.iter().find_map(|message| match message {
        Message::StatusReport(report) => Some(report.clone()),
        _ => None,
    });
    assert_eq!(whole.unwrap().inventory, Some(inventory));
}

#[tokio::test]
async fn a_stale_plan_is_refused_and_changes_nothing() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    office.plan = blank_plan(9);
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    office.assign(7, b"old", |_| {}).await;
    office.plan.sequence = 8;
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!((report.end, report.recorded), (CallEnd::StalePlan, false));
    assert!(office.last().ack.is_none());
    assert!(matches!(office.last().messages.last(), Some(Message::Bye(bye)) if bye.code == ResultCode::StalePlan));
    assert!(terminal.agent.actions().is_empty());
    // The next call reports the plan that it holds, and why it refused the other.
    office.plan.sequence = 10;
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert!(report.recorded);
    let heard = office.last().report.clone().unwrap();
    assert_eq!(heard.plan, Some(9));
    assert!(heard.errors.iter().any(|error| error.code == ResultCode::StalePlan));
}

#[tokio::test]
async fn actions_that_cannot_be_done_are_refused_with_the_acknowledgement() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    let package = office.publish(4, b"content", |_| {}).await;
    let unknown = tms_proto::message::Action {
        representation: Some(Representation::Other(9)),
        ..package.clone()
    };
    office.plan.actions = vec![
        blank_action(1, ActionKind::Deactivate),
        blank_action(2, ActionKind::Install),
        blank_action(3, ActionKind::Other(99)),
        unknown,
        tms_proto::message::Action { id: 5, ..package },
    ];
    let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    let refused = |action, code| Refusal { action, code };
    let expected = [
        refused(1, ResultCode::NotSupported),
        refused(2, ResultCode::Missing),
        refused(3, ResultCode::NotSupported),
        refused(4, ResultCode::NotSupported),
    ];
    assert_eq!(report.refused, expected);
    assert_eq!(office.last().ack.as_ref().unwrap().refused, expected);
    assert_eq!(terminal.agent.actions().len(), 1);
}

#[tokio::test]
async fn an_action_that_is_over_answers_with_its_result_again() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    let action = office.assign(7, b"content", |_| {}).await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.work().await;
    call(&mut terminal, &mut office, TriggerKind::Event).await;
    assert_eq!(terminal.agent.unacknowledged(), 0);
    let first = office.results().into_values().last().unwrap();
    assert_eq!(first.stage, Stage::RunningConfirmed);
    // The server has lost it and plans it again.
    office.plan = Plan {
        actions: vec![action],
        ..blank_plan(5)
    };
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!(office.last().gets.len(), 0);
    let again = report.results.last().unwrap();
    assert!(again.number > first.number);
    assert_eq!(
        (again.action, again.stage, again.code),
        (7, Stage::RunningConfirmed, ResultCode::Success)
    );
    assert_eq!(again.running, first.running);
    assert_eq!(terminal.agent.unacknowledged(), 0);
}

#[tokio::test]
async fn content_that_runs_already_is_not_downloaded_again() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    office.assign(7, b"content", |_| {}).await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.work().await;
    office.assign(8, b"content", |_| {}).await;
    let report = call(&mut terminal, &mut office, TriggerKind::Event).await;
    let last = report.results.last().unwrap();
    assert_eq!(
        (last.action, last.stage, last.code),
        (8, Stage::RunningConfirmed, ResultCode::Success)
    );
    assert!(report.downloads.is_empty());
}

#[tokio::test]
async fn what_a_new_plan_does_not_name_is_withdrawn() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    office.assign(7, &[1; 200_000], |_| {}).await;
    super::office::call_cut(&mut terminal, &mut office, TriggerKind::PowerOn, 100_000).await;
    assert_eq!(terminal.agent.actions()[0].stage, Stage::Downloading);
    let free = tms_core::agent::flash::Flash::free(&terminal.kit.flash).await.unwrap();
    office.plan = blank_plan(9);
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    let last = report.results.last().unwrap();
    assert_eq!((last.action, last.stage), (7, Stage::Cancelled));
    terminal.work().await;
    assert!(tms_core::agent::flash::Flash::free(&terminal.kit.flash).await.unwrap() > free + 80_000);
}

#[tokio::test]
async fn cancelling_is_answered_once_and_never_breaks_what_is_activated() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    let install = office.assign(7, b"content", |_| {}).await;
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    let cancel = |id, target| tms_proto::message::Action {
        target: Some(target),
        ..blank_action(id, ActionKind::Cancel)
    };
    office.plan = Plan {
        actions: vec![install.clone(), cancel(8, 7), cancel(9, 77)],
        ..blank_plan(5)
    };
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let results: Vec<_> = report
        .results
        .iter()
        .map(|result| (result.action, result.stage, result.code))
        .collect();
    assert!(
        results.contains(&(7, Stage::Cancelled, ResultCode::Success)),
        "{results:?}"
    );
    assert!(
        results.contains(&(8, Stage::RunningConfirmed, ResultCode::Success)),
        "{results:?}"
    );
    assert!(
        results.contains(&(9, Stage::Rejected, ResultCode::UnknownReference)),
        "{results:?}"
    );
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");

    // What is over or activated cannot be withdrawn.
    let install = office.assign(17, b"other content", |_| {}).await;
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let work = terminal.agent.work().await.unwrap();
    assert!(work.restart);
    office.plan = Plan {
        actions: vec![install, cancel(18, 17)],
        ..blank_plan(20)
    };
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let last = report.results.last().unwrap();
    assert_eq!(
        (last.action, last.stage, last.code),
        (18, Stage::Rejected, ResultCode::NotPermitted)
    );
    terminal = terminal.kit.start().await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn texts_are_shown_once_and_their_receipts_sent() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    let text = Text {
        id: 5,
        title: "Maintenance".into(),
        body: "Tonight.".into(),
        print: None,
        until: None,
        confirm: None,
    };
    office.plan.texts = vec![text.clone()];
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.work().await;
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    terminal.work().await;
    assert_eq!(terminal.device.shown(), [text]);
    let receipts = |office: &Office| {
        let messages = office.heard.iter().flat_map(|heard| &heard.messages);
        messages.filter(|message| matches!(message, Message::TextReceipt(receipt) if receipt.id == 5 && receipt.status == TextStatus::Displayed)).count()
    };
    assert_eq!(receipts(&office), 1);
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!(receipts(&office), 1);
}

#[tokio::test]
async fn logs_registrations_and_proofs_are_given_when_asked_for() {
    let kit = Kit::with(Proves::Rsa).await;
    let mut terminal = kit.start().await;
    let mut office = Office::new().await;
    office.quirk = Quirk::WantsProof;
    office.plan.wanted = Some(Wanted::LOG | Wanted::REGISTRATION);
    let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(report.end, CallEnd::Done, "{report}");
    assert!(report.remarks.iter().any(|remark| remark == "registration wanted"));
    assert!(
        office
            .last()
            .messages
            .iter()
            .any(|message| matches!(message, Message::LogPart(part) if part.last == Some(true)))
    );
    let register = Register {
        intent: RegisterIntent::FirstInstall,
        code: Some("123456".into()),
        replaces: None,
        installer: None,
        location: None,
        logical: None,
    };
    office.plan.wanted = None;
    terminal.agent.register(register.clone()).await.unwrap();
    assert!(terminal.agent.next_contact().wait.is_zero());
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert!(office.last().messages.contains(&Message::from(register)));
    assert!(
        report
            .remarks
            .iter()
            .any(|remark| remark.starts_with("registration: SUCC")),
        "{report}"
    );
    assert!(!terminal.agent.next_contact().wait.is_zero());
}

#[tokio::test]
async fn a_busy_server_is_called_again_when_it_said_and_within_the_hour() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    for (hint, most) in [(100, 125), (1_000_000, 3_600)] {
        office.quirk = Quirk::Busy(hint);
        let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
        assert_eq!(report.end, CallEnd::Busy(hint));
        let contact = terminal.agent.next_contact();
        assert!((100..=most).contains(&contact.wait.as_secs()), "{contact:?}");
        assert_eq!(contact.trigger.retry, None, "it is no failure");
    }
}

#[tokio::test]
async fn a_terminal_that_is_refused_says_why_and_waits() {
    let mut terminal = Kit::new().await.start().await;
    let mut office = Office::new().await;
    office.quirk = Quirk::Reject(ResultCode::Deactivated);
    let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(
        (report.end.clone(), report.recorded),
        (CallEnd::Refused(ResultCode::Deactivated), false)
    );
    assert!(
        report.to_string().contains("SERVER   DEACTIVATED call your helpdesk"),
        "{report}"
    );
    assert!(terminal.agent.next_contact().wait.as_secs() >= 30);
}

#[tokio::test]
async fn a_line_that_is_not_there_makes_it_wait_longer_each_time() {
    let mut terminal = Kit::new().await.start().await;
    let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    for number in 1..8 {
        terminal.agent.not_reached(&error).await.unwrap();
        let contact = terminal.agent.next_contact();
        assert_eq!(
            contact.trigger,
            Trigger {
                retry: Some(number),
                ..Trigger::of(TriggerKind::Retry)
            }
        );
        assert!(contact.wait.as_secs() >= 60);
    }
    assert!(terminal.agent.next_contact().wait.as_secs() >= 3 * 3_600);
}

#[tokio::test]
async fn both_sides_remember_each_other_and_say_little() {
    let mut terminal = Kit::with(Proves::Rsa).await.start().await;
    let mut office = Office::new().await;
    let first = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!((first.mode, first.recorded), (Some(Mode::Rsa), true));
    assert_eq!(office.last().remembered, Some(false));
    for _ in 0..2 {
        office.tickets.clear();
        // The ticket is refused, then both are remembered.
        assert!(!call(&mut terminal, &mut office, TriggerKind::Manual).await.recorded);
        let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
        assert_eq!((report.mode, report.recorded), (Some(Mode::Rsa), true), "{report}");
        assert_eq!(office.last().remembered, Some(true));
        assert!(report.sent + report.received <= 560, "{report}");
    }
    // A server that has forgotten is shown everything, with the next call.
    office.tickets.clear();
    office.quirk = Quirk::Forgets;
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert_eq!(report.end, CallEnd::Refused(ResultCode::CredentialUnknown), "{report}");
    assert!(terminal.agent.next_contact().wait.as_secs() <= 1);
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert!(report.recorded, "{report}");
    assert_eq!(office.last().remembered, Some(false));
}

/// Counts what it signs.
struct Counting(Arc<PemSigner>, Arc<AtomicUsize>);

#[async_trait]
impl Signer for Counting {
    fn public_key(&self) -> &tms_proto::public_key::PublicKey {
        self.0.public_key()
    }

    async fn sign(&self, domain: &str, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.sign(domain, message).await
    }
}

#[tokio::test]
async fn the_rsa_key_signs_once_in_thirty_days() {
    let mut kit = Kit::with(Proves::Rsa).await;
    let signed = Arc::new(AtomicUsize::new(0));
    let rsa = kit.identity.rsa.as_mut().unwrap();
    rsa.signer = Arc::new(Counting(signer(), Arc::clone(&signed)));
    // Its clock is of no use.
    kit.clock.set(0);
    let mut office = Office::new().await;
    for day in 0..70u64 {
        let mut terminal = kit.start().await;
        office.time = NOW + day * DAY;
        if day % 5 == 0 {
            office.identity = server_identity(20_000 + day as u32, "server", office.time).await;
        }
        office.tickets.clear();
        let mut calls = 0;
        while !call(&mut terminal, &mut office, TriggerKind::Schedule).await.recorded {
            calls += 1;
            assert!(calls < 4, "day {day}");
        }
    }
    assert_eq!(signed.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn servers_that_cannot_prove_themselves_are_told_nothing() {
    let kit = Kit::with(Proves::Rsa).await;
    let certified = |role_of: Subject| async { certify(&key_named("server"), role_of, NOW - DAY, NOW + DAY).await };
    let server = Subject::Server {
        organisation: "Test Bank".into(),
        group: "tms".into(),
    };
    let as_terminal = certified(Subject::Terminal(holder("6666"))).await;
    let own_root = {
        let mut body = certified(server).await.body().clone();
        let root = key_named("root-2");
        body.authority = root.public_key().id().into();
        let signature = root
            .sign(tms_proto::certificate::CERTIFICATE_DOMAIN, &body.to_be_signed())
            .await
            .unwrap();
        tms_proto::certificate::Certificate::assemble(&body, &signature).unwrap()
    };
    for (certificate, expected) in [
        (as_terminal, "certificate is for another role"),
        (own_root, "issuer of the certificate is not known"),
    ] {
        let mut terminal = kit.after_power_loss(0).start().await;
        let mut office = Office::new().await;
        office.identity = identity_of(&key_named("server"), certificate, 20_000, NOW).await;
        let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
        assert_eq!(report.end, CallEnd::Impostor(expected.into()));
        assert!(office.last().report.is_none());
        assert!(terminal.agent.next_contact().wait.as_secs() >= 60);
    }
}

#[tokio::test]
async fn a_server_whose_epoch_goes_back_is_not_believed() {
    let kit = Kit::with(Proves::Rsa).await;
    let mut terminal = kit.start().await;
    let mut office = Office::new().await;
    office.identity = server_identity(20_005, "server", NOW).await;
    assert!(call(&mut terminal, &mut office, TriggerKind::PowerOn).await.recorded);
    office.identity = server_identity(20_004, "server", NOW).await;
    office.tickets.clear();
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    // After a restart too.
    let mut terminal = terminal.kit.start().await;
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert_eq!(
        report.end,
        CallEnd::Impostor("epoch of the channel certificate goes back".into())
    );
    office.identity = server_identity(20_005, "server", NOW).await;
    assert!(call(&mut terminal, &mut office, TriggerKind::Retry).await.recorded);
}

#[tokio::test]
async fn a_server_that_is_ahead_of_its_own_days_is_not_believed_and_shuts_nobody_out() {
    let mut terminal = Kit::with(Proves::Rsa).await.start().await;
    let mut office = Office::new().await;
    office.identity = server_identity(u32::MAX, "server", NOW).await;
    let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(
        report.end,
        CallEnd::Impostor("epoch of the channel certificate is a day after its end".into())
    );
    office.identity = server_identity(20_005, "server", NOW).await;
    assert!(call(&mut terminal, &mut office, TriggerKind::Retry).await.recorded);
}

#[tokio::test]
async fn two_roots_are_trusted_during_a_rotation() {
    let mut kit = Kit::with(Proves::Rsa).await;
    let second = Anchor {
        key: key_named("root-2").public_key().clone(),
        roles: Roles::of(&[Role::Server]),
    };
    kit.identity.anchors.list.push(second);
    assert_eq!(anchors().list.len() + 1, kit.identity.anchors.list.len());
    let mut office = Office::new().await;
    let server = Subject::Server {
        organisation: "Test Bank".into(),
        group: "tms".into(),
    };
    let mut body = certify(&key_named("server"), server, NOW - DAY, NOW + DAY)
        .await
        .body()
        .clone();
    let root = key_named("root-2");
    body.authority = root.public_key().id().into();
    let signature = root
        .sign(tms_proto::certificate::CERTIFICATE_DOMAIN, &body.to_be_signed())
        .await
        .unwrap();
    let certificate = tms_proto::certificate::Certificate::assemble(&body, &signature).unwrap();
    office.identity = identity_of(&key_named("server"), certificate, 20_000, NOW).await;
    assert!(
        call(&mut kit.start().await, &mut office, TriggerKind::PowerOn)
            .await
            .recorded
    );
}

#[tokio::test]
async fn an_expired_certificate_has_a_way_back() {
    let mut kit = Kit::with(Proves::Rsa).await;
    let subject = Subject::Terminal(holder("0001"));
    let certificate = certify(&signer(), subject.clone(), NOW - 400 * DAY, NOW - 10 * DAY).await;
    kit.identity.rsa = Some(RsaIdentity {
        signer: signer(),
        certificate,
    });
    let mut terminal = kit.start().await;
    let mut office = Office::new().await;
    office.plan.wanted = Some(Wanted::CERTIFICATE_REQUEST);
    office.plan.unchanged = Some(true);
    let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(
        (report.end.clone(), report.recorded),
        (CallEnd::Done, false),
        "{report}"
    );
    assert!(
        report.remarks.iter().any(|remark| remark == "no certificate: MISS"),
        "{report}"
    );
    // It asked for that and for nothing else.
    let asked: Vec<_> = office.last().messages.iter().map(Message::name).collect();
    assert_eq!(asked, ["CertificateRequest", "Bye"]);

    // Others are not taken: for another key, another terminal, by another root.
    let other_key = certify(&key_named("terminal-2"), subject.clone(), NOW - DAY, NOW + 400 * DAY).await;
    let other_holder = certify(&signer(), Subject::Terminal(holder("0002")), NOW - DAY, NOW + 400 * DAY).await;
    for wrong in [other_key, other_holder] {
        office.renewed = Some(wrong.raw().clone());
        call(&mut terminal, &mut office, TriggerKind::Retry).await;
        assert!(terminal.agent.next_contact().wait.as_secs() > 0);
    }
    let renewed = certify(&signer(), subject, NOW - DAY, NOW + 400 * DAY).await;
    office.renewed = Some(renewed.raw().clone());
    let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert!(
        report.remarks.iter().any(|remark| remark == "certificate renewed"),
        "{report}"
    );
    assert!(terminal.agent.next_contact().wait.is_zero());
    // It is kept, and shown with the next call.
    office.plan = blank_plan(2);
    let mut terminal = terminal.kit.start().await;
    let report = call(&mut terminal, &mut office, TriggerKind::Event).await;
    assert!(report.recorded, "{report}");
    assert_eq!(office.last().remembered, Some(false));
}

#[tokio::test]
async fn suites_change_only_to_one_that_the_terminal_was_told_to_speak() {
    let mut kit = Kit::new().await;
    let mut office = Office::new().await;
    office.config.suites = vec![Suite::AesGcm];
    let mut terminal = kit.start().await;
    for _ in 0..3 {
        let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
        assert_eq!(report.end, CallEnd::Refused(ResultCode::VersionUnsupported));
        assert!(terminal.agent.next_contact().wait.as_secs() >= 30);
    }
    kit.options.suites = vec![Suite::ChaChaPoly, Suite::AesGcm];
    let mut terminal = kit.start().await;
    let report = call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(report.end, CallEnd::Refused(ResultCode::VersionUnsupported));
    assert!(terminal.agent.next_contact().wait.as_secs() <= 1);
    assert!(call(&mut terminal, &mut office, TriggerKind::Retry).await.recorded);
}

#[tokio::test]
async fn without_credentials_nobody_is_called() {
    let mut kit = Kit::new().await;
    kit.identity.main_key = None;
    let mut terminal = kit.start().await;
    let (near, far) = memory::pair();
    let report = terminal.agent.call(near, TriggerKind::Manual).await;
    drop(far);
    assert_eq!((report.end, report.sent), (CallEnd::NoCredentials, 0));
    // The name of the machine's own complaint stays out of the report.
    assert!(!format!("{:?}", report.remarks).contains(&Misuse::Key.to_string()));
}
