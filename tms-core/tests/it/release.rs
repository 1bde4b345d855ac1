//! Release states, approval, floors and what fits; trust and addresses by two operators.

use crate::world::{Terminal, World, manifest, operator, package, package_of, sign_trust, terminal_key, trust};
use tms_core::estate::{Act, Actor, EstateError, Unfit};
use tms_core::rule::release::{ReleaseOperation as Do, ReleaseState};
use tms_core::rule::slot::Access;
use tms_core::signer::Signer;
use tms_core::store::{BranchPath, Caller, Change, EventKind, Expect, InventoryRecord, TerminalId};
use tms_core::testing::sample;
use tms_proto::digest::Digest;
use tms_proto::package::{Dependency, TrustError};

fn second() -> Actor {
    Actor::trusted("second")
}

/// The terminal says that this content of `bank` runs.
async fn runs(world: &World, id: TerminalId, content: &[u8]) {
    let mut record = InventoryRecord {
        terminal: id,
        ..sample::inventory(id.0)
    };
    let bank = &mut record.inventory.components[0];
    (bank.id, bank.digest) = ("bank".to_owned(), Some(Digest::of(content)));
    let change = Change::Put(Expect::Any, record.into());
    world.store.commit(vec![change]).await.unwrap();
}

#[tokio::test]
async fn a_release_takes_two_operators_where_the_estate_wants_it() {
    let world = World::new().await;
    let (estate, actor) = (&world.estate, operator());
    let id = world.enrol("1").await;
    let act = Act::ChangeApproval { approval: true };
    let proposal = estate.propose(&actor, act, "two pairs of eyes").await.unwrap();
    assert!(!estate.release_approval().await.unwrap());
    estate.approve(&second(), &proposal.id).await.unwrap();
    assert!(estate.release_approval().await.unwrap());

    let release = world.publish(b"two", 2).await;
    let queue = async || estate.queue(&actor, &Caller::Id(id), &release).await;
    assert!(matches!(queue().await, Err(EstateError::NotReleased(_, "draft"))));
    let change = async |actor: &Actor, operation| estate.change_release(actor, &release, operation).await;
    assert!(matches!(change(&actor, Do::Release).await, Err(EstateError::State(..))));
    assert!(matches!(
        change(&actor, Do::Approve).await,
        Err(EstateError::SecondOperator)
    ));
    assert_eq!(change(&second(), Do::Approve).await.unwrap(), ReleaseState::Approved);
    assert!(matches!(queue().await, Err(EstateError::NotReleased(_, "approved"))));
    assert_eq!(change(&actor, Do::Release).await.unwrap(), ReleaseState::Released);
    let action = queue().await.unwrap();

    // Withdrawn, it is not offered any more, and comes again with its state.
    let mut terminal = Terminal::new(id);
    let plan = terminal.check_in(&world).await.unwrap();
    assert_eq!(plan.actions[0].id, action.0);
    assert_eq!(change(&actor, Do::Withdraw).await.unwrap(), ReleaseState::Withdrawn);
    world.clock.advance(10);
    let plan = terminal.check_in(&world).await.unwrap();
    assert_eq!((plan.unchanged, plan.actions.len()), (None, 0));
    assert_eq!(change(&actor, Do::Reopen).await.unwrap(), ReleaseState::Draft);
    assert!(matches!(change(&actor, Do::Release).await, Err(EstateError::State(..))));
    let states = world.events().await.into_iter().filter_map(|event| match event.kind {
        EventKind::ReleaseChanged { state, .. } => Some(state),
        _ => None,
    });
    assert_eq!(
        states.collect::<Vec<_>>(),
        [
            ReleaseState::Approved,
            ReleaseState::Released,
            ReleaseState::Withdrawn,
            ReleaseState::Draft
        ]
    );
}

#[tokio::test]
async fn a_floor_is_not_skipped() {
    let world = World::new().await;
    let (estate, actor) = (&world.estate, operator());
    let id = world.enrol("1").await;
    let caller = Caller::Id(id);
    let mut releases = Vec::new();
    for (content, order) in [(&b"one"[..], 1), (b"two", 2), (b"three", 3)] {
        releases.push(world.publish(content, order).await);
    }
    let [one, two, three] = releases[..] else { panic!() };
    estate.put_floor(&actor, &two, "converts the journal").await.unwrap();
    assert!(matches!(
        estate.put_floor(&actor, &two, "twice").await,
        Err(EstateError::There("floor", _))
    ));
    assert!(matches!(
        estate.change_release(&actor, &two, Do::Withdraw).await,
        Err(EstateError::InUse(..))
    ));
    runs(&world, id, b"one").await;
    assert_eq!(estate.installed(id, "bank").await.unwrap(), Some(1));
    match estate.queue(&actor, &caller, &three).await {
        Err(EstateError::Unfit(Unfit::Floor { manifest, reason })) => {
            assert_eq!((manifest, reason.as_str()), (two, "converts the journal"));
        }
        other => panic!("{other:?}"),
    }
    estate.queue(&actor, &caller, &two).await.unwrap();
    runs(&world, id, b"two").await;
    estate.queue(&actor, &caller, &three).await.unwrap();
    // Without the floor nothing stands between.
    runs(&world, id, b"one").await;
    let action = estate.queue(&actor, &caller, &one).await.unwrap();
    estate.cancel(&actor, &caller, action).await.unwrap();
    estate.remove_floor(&actor, &two).await.unwrap();
    estate.queue(&actor, &caller, &three).await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_is_told_beforehand() {
    let world = World::new().await;
    let (estate, actor) = (&world.estate, operator());
    let id = world.enrol("1").await;
    world.publish(b"one", 1).await;
    let (mut newest, _) = manifest(b"nine", 9);
    newest.min_from = Some(3);
    newest.dependencies = vec![Dependency {
        component: "kernel".to_owned(),
        order: 4,
    }];
    let newest = world.publish_file(&package_of(&newest, None, b"nine").await).await;
    let queue = async || estate.queue(&actor, &Caller::Id(id), &newest).await;
    // What nobody knows the terminal decides.
    let action = queue().await.unwrap();
    estate.cancel(&actor, &Caller::Id(id), action).await.unwrap();
    runs(&world, id, b"one").await;
    assert!(matches!(
        queue().await,
        Err(EstateError::Unfit(Unfit::TooOld { installed: 1, least: 3 }))
    ));
    runs(&world, id, b"of before this system").await;
    assert!(matches!(
        queue().await,
        Err(EstateError::Unfit(Unfit::Needs { order: 4, .. }))
    ));
}

#[tokio::test]
async fn trust_is_changed_by_two_operators_and_by_its_root() {
    let world = World::new().await;
    let (estate, actor) = (&world.estate, operator());
    let mut new = trust();
    new.version = 2;
    new.roles[0].keys = vec![terminal_key().public_key().clone()];
    let act = async |trust: &tms_proto::package::TrustStore, signer: &str| Act::ChangeTrust {
        trust: hex::encode(sign_trust(trust, signer).await),
    };
    assert!(matches!(
        estate
            .propose(&actor, act(&new, "vendor").await, "by the wrong key")
            .await,
        Err(EstateError::Trust(TrustError::OldRoot))
    ));
    assert!(matches!(
        estate
            .propose(&actor, act(&trust(), "root").await, "no new version")
            .await,
        Err(EstateError::Trust(TrustError::Version))
    ));
    let proposal = estate
        .propose(&actor, act(&new, "root").await, "the vendor's key is lost")
        .await
        .unwrap();
    assert!(matches!(
        estate.approve(&actor, &proposal.id).await,
        Err(EstateError::SecondOperator)
    ));
    world.publish(b"by the old key", 1).await;
    estate.approve(&second(), &proposal.id).await.unwrap();
    assert_eq!(estate.trust().await.unwrap(), new);
    let mut file = &package(b"too late", 2).await[..];
    assert!(matches!(
        estate.publish(&actor, &mut file).await,
        Err(EstateError::Package(_))
    ));
}

#[tokio::test]
async fn addresses_are_changed_by_two_operators() {
    let world = World::new().await;
    let (estate, actor, head_office) = (&world.estate, operator(), BranchPath::head_office());
    let act = |addresses: &[&str]| Act::ChangeAddress {
        access: "main".to_owned(),
        addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
    };
    let right = act(&["0,2155501234", "tms.bank.example:7000"]);
    assert!(matches!(
        estate.propose(&actor, right.clone(), "new").await,
        Err(EstateError::Unknown("access", _))
    ));
    let put = async |lines| {
        estate
            .put_access(&actor, "main", &head_office, Access::modems(lines))
            .await
    };
    assert!(put(4).await.unwrap().addresses.is_empty());
    for wrong in [&[][..], &["call me"], &["host:0"], &["123", "123"], &[":9"]] {
        let proposed = estate.propose(&actor, act(wrong), "new").await;
        assert!(matches!(proposed, Err(EstateError::Invalid(..))), "{wrong:?}");
    }
    let proposal = estate.propose(&actor, right, "new number").await.unwrap();
    assert!(matches!(
        estate.approve(&actor, &proposal.id).await,
        Err(EstateError::SecondOperator)
    ));
    estate.approve(&second(), &proposal.id).await.unwrap();
    let addresses = ["0,2155501234".to_owned(), "tms.bank.example:7000".to_owned()];
    assert_eq!(
        estate.accesses(&actor, &head_office).await.unwrap()[0].addresses,
        addresses
    );
    // What it carries changes without them.
    assert_eq!(put(8).await.unwrap().addresses, addresses);
}
