//! The server against terminals that behave and terminals that do not.

use crate::world::{Call, DAY, Identity, NOW, Refused, Terminal, World, holder, operator};
use std::sync::Arc;
use std::time::Duration;
use tms_core::blob::BlobStore;
use tms_core::rule::task::{Report, State};
use tms_core::server::Options;
use tms_core::store::{ActionId, Caller, EventKind, MemoryStore, TerminalState};
use tms_core::testing::fault::{Fault, FaultyStore, Schedule};
use tms_proto::code::{ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_proto::message::{ActionResult, CertificateRequest, PlanAck, Wanted};
use tms_proto::session::{End, Presented, TerminalEvent};

fn result(number: u32, action: u64, stage: Stage, code: ResultCode) -> ActionResult {
    ActionResult {
        number,
        action,
        attempt: 1,
        stage,
        code,
        vendor_code: None,
        text: None,
        time: NOW,
        bytes: None,
        running: None,
    }
}

fn code(refused: Result<tms_proto::message::Plan, Refused>) -> ResultCode {
    match refused {
        Err(Refused {
            reject: Some(reject), ..
        }) => reject.code,
        Err(Refused {
            end: Some(End::Refused { code, .. }),
            ..
        }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_check_in_is_recorded_once_and_the_next_one_uses_its_ticket() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let mut terminal = Terminal::new(id);
    let first = terminal.check_in(&world).await.unwrap();
    assert_eq!(
        (first.sequence, first.unchanged, first.wanted),
        (1, None, Some(Wanted::INVENTORY))
    );
    assert!(first.next_contact.from >= NOW + DAY);
    let known = world.known(id).await.terminal.record;
    assert_eq!(
        (known.state, known.contact, known.tickets.len()),
        (TerminalState::Active, 1, 1)
    );

    let second = terminal.check_in(&world).await.unwrap();
    assert_eq!((second.sequence, second.unchanged), (1, Some(true)));
    let known = world.known(id).await.terminal.record;
    assert_eq!((known.contact, known.tickets.len()), (2, 2));
    let check_ins = world
        .events()
        .await
        .into_iter()
        .filter(|event| matches!(event.kind, EventKind::CheckedIn(_)));
    assert_eq!(check_ins.count(), 2);
}

#[tokio::test]
async fn nothing_is_recorded_before_the_acknowledgement() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let before = world.known(id).await;
    let mut terminal = Terminal::new(id);
    let report = terminal.report();
    let mut call = terminal.begin(world.line("modem 1"), &report);
    call.plan().await.unwrap();
    drop(call);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.known(id).await, before);
}

/// Ticket N lives until N+1 is first used, so that a call that broke anywhere can still resume.
#[tokio::test]
async fn a_ticket_lives_until_its_successor_is_used() {
    let world = World::new().await;
    let mut terminal = Terminal::new(world.enrol("1").await);
    terminal.check_in(&world).await.unwrap();
    let first = terminal.ticket.clone();
    terminal.check_in(&world).await.unwrap();
    let second = terminal.ticket.clone();
    // The terminal never heard that the second is recorded: the first still holds.
    terminal.ticket.clone_from(&first);
    terminal.check_in(&world).await.unwrap();
    let third = terminal.ticket.clone();
    terminal.check_in(&world).await.unwrap();
    // Now the third was used: everything before it is gone, and refused with the constant answer.
    for old in [first, second] {
        terminal.ticket = old;
        let report = terminal.report();
        let refused = terminal.begin(world.line("modem 1"), &report).plan().await;
        assert_eq!(code(refused), ResultCode::SecurityError);
    }
    terminal.ticket = third;
    terminal.check_in(&world).await.unwrap();
}

#[tokio::test]
async fn unknown_terminals_wrong_keys_and_expired_tickets_get_one_answer() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let mut unknown = Terminal::new(tms_core::store::TerminalId(id.0 ^ 1));
    let mut wrong = Terminal::new(id);
    wrong.key = tms_proto::secret::Psk::new([0; 32]);
    for terminal in [&mut unknown, &mut wrong] {
        let report = terminal.report();
        let refused = terminal.begin(world.line("modem 1"), &report).plan().await;
        assert_eq!(code(refused), ResultCode::SecurityError);
    }
    let mut terminal = Terminal::new(id);
    terminal.check_in(&world).await.unwrap();
    world.clock.advance(61 * DAY);
    let report = terminal.report();
    let refused = terminal.begin(world.line("modem 1"), &report).plan().await;
    assert_eq!(code(refused), ResultCode::SecurityError);
}

#[tokio::test]
async fn deactivated_and_blacklisted_terminals_are_told_so_and_nothing_is_recorded() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let mut terminal = Terminal::new(id);
    for (state, expected) in [
        (TerminalState::Deactivated, ResultCode::Deactivated),
        (TerminalState::Blacklisted, ResultCode::Blacklisted),
    ] {
        world
            .estate
            .set_state(&operator(), &Caller::Id(id), state)
            .await
            .unwrap();
        let before = world.known(id).await;
        let report = terminal.report();
        let refused = terminal.begin(world.line("modem 1"), &report).plan().await;
        assert_eq!(code(refused), expected);
        assert_eq!(world.known(id).await, before);
    }
    world
        .estate
        .set_state(&operator(), &Caller::Id(id), TerminalState::Active)
        .await
        .unwrap();
    terminal.check_in(&world).await.unwrap();
}

/// The newest of two calls counts; the older is told, and ended.
#[tokio::test]
async fn a_second_call_from_elsewhere_ends_the_first_and_is_recorded_as_a_suspicion() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let (mut one, mut other) = (Terminal::new(id), Terminal::new(id));
    let (mut first, _) = one.open(world.line("modem 1")).await.unwrap();
    first.send(tms_proto::message::KeyRequest {
        slot: 1,
        usage: "P0".to_owned(),
        block: None,
    });
    assert!(matches!(first.event().await, TerminalEvent::Reject(_)));
    let (mut second, _) = other.open(world.line("modem 2")).await.unwrap();
    // The first is ended when the second has acknowledged its plan, and is no replay.
    second.send(tms_proto::message::KeyRequest {
        slot: 1,
        usage: "P0".to_owned(),
        block: None,
    });
    assert!(matches!(second.event().await, TerminalEvent::Reject(_)));
    let TerminalEvent::Reject(reject) = first.event().await else {
        panic!()
    };
    assert_eq!(reject.code, ResultCode::OnLineElsewhere);
    assert!(matches!(first.end().await, End::Bye(_)));
    second.bye().await;
    let evidence = world.events().await.into_iter().find_map(|event| match event.kind {
        EventKind::CloneSuspected { evidence } => Some(evidence),
        _ => None,
    });
    let evidence = evidence.unwrap();
    assert!(
        evidence.contains("modem 1") && evidence.contains("modem 2"),
        "{evidence}"
    );
}

#[tokio::test]
async fn a_call_counter_that_goes_back_is_a_suspected_clone() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let mut terminal = Terminal::new(id);
    for _ in 0..3 {
        terminal.check_in(&world).await.unwrap();
    }
    let mut copy = Terminal::new(id);
    copy.check_in(&world).await.unwrap();
    let suspicions: Vec<_> = world
        .events()
        .await
        .into_iter()
        .filter(|event| matches!(event.kind, EventKind::CloneSuspected { .. }))
        .collect();
    assert_eq!(suspicions.len(), 1, "{suspicions:?}");
    assert_eq!(world.known(id).await.terminal.record.contact, 3);
}

#[tokio::test]
async fn a_package_is_downloaded_and_its_results_are_recorded_in_any_order_once() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let content: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    let manifest = world.publish(&content, 2).await;
    let action = world.queue(id, &manifest).await;
    let mut terminal = Terminal::new(id);
    let (mut call, plan) = terminal.open(world.line("modem 1")).await.unwrap();
    let [planned] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (planned.id, planned.manifest, planned.object),
        (action, Some(manifest), Some(Digest::of(&content)))
    );
    assert_eq!(call.download(Digest::of(&content), 0).await.unwrap(), content);
    assert_eq!(
        call.download(Digest::of(&content), 123_456).await.unwrap(),
        content[123_456..]
    );
    assert!(call.download(manifest, 0).await.is_ok());

    // The confirmation comes first, and twice; the older word comes late.
    let confirmed = ActionResult {
        running: Some(Digest::of(&content)),
        ..result(5, action, Stage::RunningConfirmed, ResultCode::Success)
    };
    let late = result(3, action, Stage::Downloaded, ResultCode::Success);
    for result in [&confirmed, &confirmed, &late] {
        call.send(result.clone());
        let TerminalEvent::ResultAck(ack) = call.event().await else {
            panic!()
        };
        assert_eq!(ack.numbers, [result.number]);
    }
    call.bye().await;
    let assignment = world.assignment(id, action).await;
    assert_eq!(
        (assignment.stage, assignment.closed, assignment.standing.reported),
        (Stage::RunningConfirmed, true, 5)
    );
    let results = world
        .events()
        .await
        .into_iter()
        .filter(|event| matches!(event.kind, EventKind::Result { .. }));
    assert_eq!(results.count(), 1);
}

/// Installed is what the terminal says runs: a confirmation of other content is not believed.
#[tokio::test]
async fn a_confirmation_of_other_content_is_not_believed() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let manifest = world.publish(b"new program", 2).await;
    let action = world.queue(id, &manifest).await;
    let mut terminal = Terminal::new(id);
    let mut report = terminal.report();
    let running = Some(Digest::of(b"old program"));
    report.results = vec![ActionResult {
        running,
        ..result(1, action, Stage::RunningConfirmed, ResultCode::Success)
    }];
    let (mut call, _) = terminal.open_with(world.line("modem 1"), &report).await.unwrap();
    let TerminalEvent::ResultAck(ack) = call.event().await else {
        panic!()
    };
    assert_eq!(ack.numbers, [1]);
    call.bye().await;
    let assignment = world.assignment(id, action).await;
    assert_eq!(
        (assignment.stage, assignment.code),
        (Stage::Rejected, ResultCode::Changed)
    );
}

/// A result reported at check-in takes its action out of the plan that answers it.
#[tokio::test]
async fn a_finished_action_is_not_planned_again() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let manifest = world.publish(b"new program", 2).await;
    let action = world.queue(id, &manifest).await;
    let mut terminal = Terminal::new(id);
    assert_eq!(terminal.check_in(&world).await.unwrap().actions.len(), 1);
    let mut report = terminal.report();
    let running = Some(Digest::of(b"new program"));
    report.results = vec![ActionResult {
        running,
        ..result(1, action, Stage::RunningConfirmed, ResultCode::Success)
    }];
    let (mut call, plan) = terminal.open_with(world.line("modem 1"), &report).await.unwrap();
    assert!(
        plan.actions.is_empty() && plan.unchanged.is_none() && plan.sequence == 2,
        "{plan:?}"
    );
    assert!(matches!(call.event().await, TerminalEvent::ResultAck(_)));
    call.bye().await;
    assert!(world.assignment(id, action).await.closed);
}

#[tokio::test]
async fn what_was_cancelled_stays_so_and_what_the_terminal_says_of_it_is_kept() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let manifest = world.publish(b"new program", 2).await;
    let action = world.queue(id, &manifest).await;
    world
        .estate
        .cancel(&operator(), &Caller::Id(id), ActionId(action))
        .await
        .unwrap();
    let cancelled = State::Cancelled { forced: true };
    assert_eq!(world.assignment(id, action).await.standing.state, cancelled);
    let mut terminal = Terminal::new(id);
    let (mut call, plan) = terminal.open(world.line("modem 1")).await.unwrap();
    assert!(plan.actions.is_empty());
    call.send(result(1, action, Stage::RunningConfirmed, ResultCode::Success));
    assert!(matches!(call.event().await, TerminalEvent::ResultAck(_)));
    call.bye().await;
    let assignment = world.assignment(id, action).await;
    assert_eq!((assignment.stage, assignment.closed), (Stage::RunningConfirmed, true));
    assert_eq!(
        (assignment.standing.state, assignment.standing.late),
        (cancelled, Some(Report::Confirmed))
    );
}

#[tokio::test]
async fn objects_outside_the_plan_changed_and_missing_blobs_do_not_come() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let manifest = world.publish(b"new program", 2).await;
    let mut terminal = Terminal::new(id);
    let (mut call, _) = terminal.open(world.line("modem 1")).await.unwrap();
    assert_eq!(
        call.download(manifest, 0).await,
        Err(ResultCode::Gone),
        "it is not in the plan"
    );
    call.bye().await;

    world.queue(id, &manifest).await;
    world.blobs.replace(Digest::of(b"new program"), "old program");
    let (mut call, _) = terminal.open(world.line("modem 1")).await.unwrap();
    assert_eq!(
        call.download(Digest::of(b"new program"), 0).await,
        Err(ResultCode::Changed)
    );
    assert_eq!(
        call.download(manifest, u64::MAX / 2).await,
        Err(ResultCode::Changed),
        "an offset behind the end"
    );
    call.bye().await;
    assert!(world.blobs.len(&manifest).await.unwrap().is_some());
}

#[tokio::test]
async fn a_whole_inventory_is_asked_for_and_stored() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let mut terminal = Terminal::new(id);
    let (mut call, plan) = terminal.open(world.line("modem 1")).await.unwrap();
    assert_eq!(plan.wanted, Some(Wanted::INVENTORY));
    let mut report = terminal.report();
    report.inventory = Some(tms_proto::message::Inventory::default());
    call.send(report);
    call.bye().await;
    terminal.ticket.clone_from(&plan.ticket);
    assert_eq!(terminal.check_in(&world).await.unwrap().wanted, None);
    let known = world.known(id).await.terminal.record;
    assert_eq!(known.inventory, Some(tms_proto::message::Inventory::default().digest()));
}

#[tokio::test]
async fn a_terminal_with_an_rsa_identity_is_pinned_remembered_and_not_mistaken() {
    let world = World::new().await;
    let enrolment = tms_core::estate::Enrolment::of(holder("7"));
    let id = world.estate.enrol(&operator(), enrolment).await.unwrap();
    let identity = Identity::new("7", NOW + 365 * DAY).await;
    let credentials = identity.credentials(3).await;
    let mut terminal = Terminal::new(id);
    let full = Presented::Full(credentials.encode().clone());
    let (mut call, plan) = identity.call(world.line("modem 1"), full, &terminal.report()).await;
    let plan = plan.unwrap();
    call.send(PlanAck {
        sequence: plan.sequence,
        refused: Vec::new(),
    });
    call.bye().await;
    assert_eq!(
        world.known(id).await.terminal.record.key,
        Some(tms_core::signer::Signer::public_key(&*identity.signer).id())
    );

    // By its name alone, and by a name that nobody remembers.
    let short = Presented::Remembered(credentials.id());
    let (_, plan) = identity.call(world.line("modem 1"), short, &terminal.report()).await;
    plan.unwrap();
    let unknown = Presented::Remembered(tms_proto::identity::CredentialId([0; 16]));
    let (_, refused) = identity.call(world.line("modem 1"), unknown, &terminal.report()).await;
    assert_eq!(code(refused), ResultCode::CredentialUnknown);

    // An older epoch, another certified key for the same holder, and a terminal that was never enrolled.
    let older = Presented::Full(identity.credentials(2).await.encode().clone());
    let (_, refused) = identity.call(world.line("modem 1"), older, &terminal.report()).await;
    assert_eq!(code(refused), ResultCode::SecurityError);
    let thief = Identity::other_key("7").await;
    let stolen = Presented::Full(thief.credentials(9).await.encode().clone());
    let (_, refused) = thief.call(world.line("modem 2"), stolen, &terminal.report()).await;
    assert_eq!(code(refused), ResultCode::SecurityError);
    assert!(
        world
            .events()
            .await
            .iter()
            .any(|event| matches!(event.kind, EventKind::CloneSuspected { .. }))
    );
    let stranger = Identity::other_key("8").await;
    let shown = Presented::Full(stranger.credentials(1).await.encode().clone());
    let (_, refused) = stranger.call(world.line("modem 2"), shown, &terminal.report()).await;
    assert_eq!(code(refused), ResultCode::UnknownReference);
}

/// §10.6: a terminal whose certificate has expired may ask for a new one, and nothing else.
#[tokio::test]
async fn an_expired_certificate_leads_to_its_renewal_and_to_nothing_else() {
    let world = World::new().await;
    let enrolment = tms_core::estate::Enrolment::of(holder("7"));
    let id = world.estate.enrol(&operator(), enrolment).await.unwrap();
    let manifest = world.publish(b"new program", 2).await;
    world.queue(id, &manifest).await;
    let identity = Identity::new("7", NOW - 10 * DAY).await;
    let full = Presented::Full(identity.credentials(1).await.encode().clone());
    let mut terminal = Terminal::new(id);
    let before = world.known(id).await;
    let key = tms_core::signer::Signer::public_key(&*identity.signer).id().0;

    for renewed in [false, true] {
        if renewed {
            let subject = tms_proto::certificate::Subject::Terminal(holder("7"));
            let certificate = crate::world::certify(&identity.signer, subject, NOW - DAY, NOW + 365 * DAY).await;
            world.estate.renew(&operator(), certificate.raw()).await.unwrap();
        }
        let (mut call, plan) = identity
            .call(world.line("modem 1"), full.clone(), &terminal.report())
            .await;
        let plan = plan.unwrap();
        assert_eq!(
            (plan.wanted, plan.actions.len(), &plan.ticket),
            (Some(Wanted::CERTIFICATE_REQUEST), 0, &None)
        );
        call.send(PlanAck {
            sequence: plan.sequence,
            refused: Vec::new(),
        });
        assert_eq!(call.download(manifest, 0).await, Err(ResultCode::Gone));
        call.send(result(1, 1, Stage::RunningConfirmed, ResultCode::Success));
        let TerminalEvent::Reject(reject) = call.event().await else {
            panic!()
        };
        assert_eq!(reject.code, ResultCode::Expired);
        call.send(CertificateRequest { key });
        let TerminalEvent::CertificateGrant(grant) = call.event().await else {
            panic!()
        };
        assert_eq!(grant.certificate.is_some(), renewed, "{grant:?}");
        call.bye().await;
    }
    let after = world.known(id).await;
    assert_eq!(
        (after.terminal.record.contact, after.assignments),
        (0, before.assignments)
    );
}

#[tokio::test]
async fn messages_that_this_server_does_not_offer_are_refused_in_words() {
    let world = World::new().await;
    let mut terminal = Terminal::new(world.enrol("1").await);
    let (mut call, _) = terminal.open(world.line("modem 1")).await.unwrap();
    call.send(tms_proto::message::KeyRequest {
        slot: 1,
        usage: "P0".to_owned(),
        block: None,
    });
    let TerminalEvent::Reject(reject) = call.event().await else {
        panic!()
    };
    assert_eq!((reject.code, reject.message), (ResultCode::NotSupported, Some(0x6D)));
    call.bye().await;
}

/// A store that is away for a while costs the terminal a call, and loses nothing.
#[tokio::test]
async fn a_store_that_is_away_asks_the_terminal_to_come_back() {
    for at in 1..=6 {
        for fault in [Fault::Fail, Fault::Lose] {
            let store = FaultyStore::new(Arc::new(MemoryStore::new()), Schedule::Never);
            let world = World::with(Arc::new(store.clone()), Options::default()).await;
            let id = world.enrol("1").await;
            let manifest = world.publish(b"new program", 2).await;
            let action = world.queue(id, &manifest).await;
            let mut terminal = Terminal::new(id);
            store.schedule(Schedule::At {
                call: store.calls() + at,
                fault,
            });
            let mut done = false;
            for _ in 0..5 {
                let mut report = terminal.report();
                let running = Some(Digest::of(b"new program"));
                report.results = vec![ActionResult {
                    running,
                    ..result(1, action, Stage::RunningConfirmed, ResultCode::Success)
                }];
                match terminal.open_with(world.line("modem 1"), &report).await {
                    Ok((mut call, _)) => {
                        if acknowledged(&mut call).await {
                            done = true;
                            break;
                        }
                    }
                    Err(Refused {
                        reject: Some(reject), ..
                    }) => {
                        assert_eq!(reject.code, ResultCode::StorageUnavailable);
                        assert!(reject.retry_after.is_some());
                    }
                    Err(Refused {
                        end: Some(End::Busy { .. }),
                        ..
                    }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert!(done, "fault {fault:?} at call {at}");
            store.schedule(Schedule::Never);
            let assignment = world.assignment(id, action).await;
            assert_eq!((assignment.stage, assignment.closed), (Stage::RunningConfirmed, true));
            let results = world
                .events()
                .await
                .into_iter()
                .filter(|event| matches!(event.kind, EventKind::Result { .. }));
            assert_eq!(results.count(), 1, "fault {fault:?} at call {at}");
        }
    }
}

async fn acknowledged(call: &mut Call) -> bool {
    loop {
        match call.event().await {
            TerminalEvent::ResultAck(_) => {
                call.bye().await;
                return true;
            }
            TerminalEvent::Reject(reject) => assert_eq!(reject.code, ResultCode::StorageUnavailable),
            TerminalEvent::Ended(_) => return false,
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_its_calls_at_a_message_boundary() {
    let world = World::new().await;
    let id = world.enrol("1").await;
    let mut terminal = Terminal::new(id);
    let (mut call, _) = terminal.open(world.line("modem 1")).await.unwrap();
    // The check-in is recorded before the server is told to stop: a message that is answered proves it.
    call.send(tms_proto::message::KeyRequest {
        slot: 1,
        usage: "P0".to_owned(),
        block: None,
    });
    assert!(matches!(call.event().await, TerminalEvent::Reject(_)));
    let server = world.server.clone();
    let stopped = tokio::spawn(async move { server.stop(Duration::from_secs(10)).await });
    let End::Bye(bye) = call.end().await else { panic!() };
    assert_eq!(bye.code, ResultCode::Busy);
    assert!(call.next().await.is_none());
    assert!(stopped.await.unwrap());
    assert_eq!(world.known(id).await.terminal.record.contact, 1);
}

/// Garbage costs the caller a session and the server a line in its log.
#[tokio::test]
async fn garbage_ends_the_session() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 64],
        &[0xFF; 100_000],
        b"\x00\x05\x01\x60\x03\x80\x01",
    ] {
        let mut line = world.line("modem 1");
        let _ = line.write_all(garbage).await;
        let _ = line.shutdown().await;
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:x?}");
    }
    Terminal::new(world.enrol("1").await).check_in(&world).await.unwrap();
}
