//! Replacements: a code that an operator gave out, and what becomes of the old terminal and of the new one.

use crate::install::{WHOLE, branches, first_install, install, message, path, register, terminal};
use crate::world::{DAY, NOW, World, holder, operator};
use tms_core::estate::{
    Act, Cause, Enrolment, EstateError, InstallState, MAX_WRONG_CODES, Relation, Replacement, ReplacementState,
};
use tms_core::store::{Caller, EventKind, Key, Record, RosterFilter, TerminalId, TerminalState};
use tms_proto::code::{RegisterIntent, ResultCode, TriggerKind};
use tms_proto::message::Register;

const LOGICAL: &str = "898310000000001:00000042";

fn replacement(code: &str, replaces: &str) -> Register {
    Register {
        intent: RegisterIntent::Replacement,
        code: Some(code.to_owned()),
        replaces: Some(replaces.to_owned()),
        location: None,
        ..first_install()
    }
}

async fn device(world: &World) -> String {
    let bound = world
        .estate
        .bindings_of(&operator(), Relation::Device, LOGICAL)
        .await
        .unwrap();
    bound[0].object.clone()
}

async fn approve(world: &World, old: TerminalId, cause: Cause) -> (Replacement, String) {
    let approved = world
        .estate
        .approve_replacement(&operator(), &Caller::Id(old), cause, "broken display", DAY)
        .await;
    approved.unwrap()
}

fn refused(remark: &str, code: ResultCode) {
    assert!(remark.starts_with(&format!("registration: {code} ")), "{remark}");
}

#[tokio::test]
async fn a_terminal_takes_the_place_of_another_in_one_step() {
    let world = World::new().await;
    branches(&world).await;
    let (old, mut before) = terminal(&world, "0001").await;
    let (new, mut after) = terminal(&world, "0002").await;
    install(&world, message(NOW, &WHOLE), old).await;
    register(&world, &mut before, first_install(), "02155501234").await;
    refused(
        &register(&world, &mut after, replacement("1", "0001"), "02155501234").await,
        ResultCode::UnknownReference,
    );

    let (approved, code) = approve(&world, old, Cause::Defective).await;
    assert_eq!((code.len(), approved.state.clone()), (14, ReplacementState::Open));
    // neither record nor audit log have the code
    let logged = format!(
        "{:?}{approved:?}",
        world.estate.audit(&operator(), 0, 100).await.unwrap()
    );
    assert!(!logged.contains(&code) && !logged.contains(&code.replace(' ', "")));
    let incomplete = Register {
        code: None,
        ..replacement("", "0001")
    };
    refused(
        &register(&world, &mut after, incomplete, "02155501234").await,
        ResultCode::Missing,
    );
    let standing = world.known(new).await.terminal.record.plan;
    assert!(standing.digest.is_some());

    // the serial number as it stands on the label
    let done = register(&world, &mut after, replacement(&code, "S/N: 00-01"), "02155501234").await;
    refused(&done, ResultCode::Success);
    assert_eq!(device(&world).await, new.to_string());
    let history = world
        .estate
        .bindings_of(&operator(), Relation::Device, LOGICAL)
        .await
        .unwrap();
    assert_eq!(history[1].until, Some(NOW));
    let gone = world.known(old).await.terminal.record;
    assert_eq!(
        (
            gone.state,
            gone.revoked,
            gone.main_key_epoch,
            gone.tickets.len(),
            gone.credential
        ),
        (TerminalState::Deactivated, true, None, 0, None)
    );
    // the new one has to take its parameters again, under a plan with another number
    let there = world.known(new).await.terminal.record;
    assert_eq!((there.resend_parameters, there.plan.digest), (true, None));
    assert_eq!(there.plan.sequence, standing.sequence);
    let place = |whereabouts: tms_core::estate::Whereabouts| whereabouts.home.unwrap().place.numbers[0].to_string();
    let now = world.estate.whereabouts(&operator(), new).await.unwrap().unwrap();
    assert_eq!(place(now.clone()), "+862155501234");
    assert_eq!(now.logical.unwrap().terminal, "00000042");
    assert_eq!(
        world.estate.whereabouts(&operator(), old).await.unwrap().unwrap().home,
        None
    );
    let installation = world.estate.installation(&operator(), "BMS-1").await.unwrap();
    assert_eq!(
        (installation.device, installation.state),
        (Some(new), InstallState::Installed)
    );
    let listed = RosterFilter {
        merchant: Some("898310000000001".to_owned()),
        ..RosterFilter::under(path("/east/harbour"))
    };
    assert_eq!(world.estate.reports(&operator()).count(&listed).await.unwrap(), 1);
    // both ways
    for id in [old, new] {
        let swaps = world.estate.swaps(&operator(), id).await.unwrap();
        assert_eq!(swaps.len(), 1);
        assert_eq!(
            (swaps[0].old, swaps[0].state.clone()),
            (old, ReplacementState::Done { by: new, at: NOW })
        );
    }
    let kinds: Vec<_> = world
        .events()
        .await
        .into_iter()
        .map(|event| (event.terminal, event.kind))
        .collect();
    assert!(kinds.contains(&(Some(old), EventKind::Replaced { by: new })));

    // the old one opens nothing any more, and the code neither
    let report = before.agent.call(world.line("modem 1"), TriggerKind::Manual).await;
    assert!(!report.recorded, "{report}");
    refused(
        &register(&world, &mut after, replacement(&code, "0001"), "02155501234").await,
        ResultCode::UnknownReference,
    );
    let again = world
        .estate
        .approve_replacement(&operator(), &Caller::Id(old), Cause::Exchange, "x", DAY)
        .await;
    assert!(matches!(again, Err(EstateError::Over("terminal", _))), "{again:?}");
}

#[tokio::test]
async fn wrong_codes_are_counted_and_lock_it() {
    let world = World::new().await;
    branches(&world).await;
    let (old, _) = terminal(&world, "0001").await;
    let (_, mut after) = terminal(&world, "0002").await;
    install(&world, message(NOW, &WHOLE), old).await;
    let (approved, code) = approve(&world, old, Cause::Exchange).await;
    for wrong in 1..=MAX_WRONG_CODES {
        refused(
            &register(&world, &mut after, replacement("000000000000", "0001"), "1").await,
            ResultCode::SecurityError,
        );
        let key = Key::Document(tms_core::store::Kind::named("replacement"), approved.id.clone());
        let Some(Record::Document(document)) = world.store.get(&key).await.unwrap().map(|found| found.record) else {
            panic!()
        };
        let known: Replacement = document.read().unwrap();
        let locked = known.state == ReplacementState::Locked;
        assert_eq!((known.wrong, locked), (wrong, wrong == MAX_WRONG_CODES));
    }
    // now the right one does not help either
    refused(
        &register(&world, &mut after, replacement(&code, "0001"), "1").await,
        ResultCode::UnknownReference,
    );
    assert_eq!(device(&world).await, old.to_string());
    // a new one does, while it holds
    let (_, code) = approve(&world, old, Cause::Exchange).await;
    world.clock.advance(DAY);
    refused(
        &register(&world, &mut after, replacement(&code, "0001"), "1").await,
        ResultCode::Expired,
    );
    let (called_off, code) = approve(&world, old, Cause::Exchange).await;
    world
        .estate
        .withdraw_replacement(&operator(), &called_off.id)
        .await
        .unwrap();
    refused(
        &register(&world, &mut after, replacement(&code, "0001"), "1").await,
        ResultCode::UnknownReference,
    );
    assert_eq!(world.estate.replacements(&operator(), &path("/"), 9).await.unwrap(), []);
}

#[tokio::test]
async fn only_the_same_model_that_nobody_uses_takes_a_place() {
    let world = World::new().await;
    branches(&world).await;
    let (old, _) = terminal(&world, "0001").await;
    install(&world, message(NOW, &WHOLE), old).await;
    let (other, mut used) = terminal(&world, "0002").await;
    let mut facts = WHOLE.to_vec();
    facts[5].1 = "00000043";
    let mut second = message(NOW, &facts);
    second.reference = "BMS-2".to_owned();
    install(&world, second, other).await;
    let (_, code) = approve(&world, old, Cause::Defective).await;
    refused(
        &register(&world, &mut used, replacement(&code, "0001"), "1").await,
        ResultCode::NotPermitted,
    );

    let mut strange = holder("0001");
    strange.model = "S90".to_owned();
    let stranger = Enrolment {
        main_key_epoch: Some(1),
        ..Enrolment::of(strange)
    };
    let stranger = world.estate.enrol(&operator(), stranger).await.unwrap();
    let (_, code) = approve(&world, stranger, Cause::Defective).await;
    let (_, mut after) = terminal(&world, "0003").await;
    // two are approved under one serial number: the code says which, and the model must be its own
    refused(
        &register(&world, &mut after, replacement(&code, "0001"), "1").await,
        ResultCode::ModelMismatch,
    );
}

#[tokio::test]
async fn a_stolen_terminal_is_shut_out_at_once() {
    let world = World::new().await;
    branches(&world).await;
    let (old, mut before) = terminal(&world, "0001").await;
    install(&world, message(NOW, &WHOLE), old).await;
    register(&world, &mut before, first_install(), "02155501234").await;
    let (_, code) = approve(&world, old, Cause::Stolen).await;
    let stolen = world.known(old).await.terminal.record;
    assert_eq!((stolen.state, stolen.revoked), (TerminalState::Blacklisted, true));
    let report = before.agent.call(world.line("modem 1"), TriggerKind::Manual).await;
    assert!(!report.recorded, "{report}");
    let (new, mut after) = terminal(&world, "0002").await;
    refused(
        &register(&world, &mut after, replacement(&code, "0001"), "02155501234").await,
        ResultCode::Success,
    );
    assert_eq!(device(&world).await, new.to_string());
    assert_eq!(world.known(old).await.terminal.record.state, TerminalState::Blacklisted);

    // what was revoked comes back by two operators only
    let identity = Act::ChangeIdentity {
        terminal: old,
        key: None,
    };
    let proposal = world
        .estate
        .propose(&operator(), identity, "found again")
        .await
        .unwrap();
    let second = tms_core::estate::Actor::trusted("wang");
    world.estate.approve(&second, &proposal.id).await.unwrap();
    assert!(!world.known(old).await.terminal.record.revoked);
}
