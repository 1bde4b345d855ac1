//! Packages that must not be installed, whatever the server says of them.

use super::office::{Office, blank_plan, call, key_named, sign};
use super::terminal::{Kit, Terminal};
use crate::world::{DAY, NOW, holder, manifest, trust};
use tms_core::signer::Signer;
use tms_proto::code::{ComponentKind, ResultCode, Role, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::message::{Action, Plan};
use tms_proto::package::{Dependency, Grant, Manifest, RoleKeys, TrustStore};

/// Lets the terminal have a go at a package, and gives the result with which it ended or waits.
async fn attempt(terminal: &mut Terminal, office: &mut Office) -> (Stage, ResultCode) {
    call(terminal, office, TriggerKind::Manual).await;
    terminal.work().await;
    call(terminal, office, TriggerKind::Event).await;
    let last = office.results().into_values().last().unwrap();
    (last.stage, last.code)
}

async fn refused(change: impl FnOnce(&mut Manifest)) -> (ResultCode, usize) {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let content = vec![7; 100_000];
    office.assign(7, &content, change).await;
    let (stage, code) = attempt(&mut terminal, &mut office).await;
    assert_eq!(stage, Stage::Rejected);
    assert_eq!(terminal.version().await, "1.0");
    let asked = office
        .heard
        .iter()
        .flat_map(|heard| &heard.gets)
        .filter(|get| get.digest == Digest::of(&content))
        .count();
    (code, asked)
}

#[tokio::test]
async fn packages_for_others_are_refused_before_their_content_is_downloaded() {
    assert_eq!(
        refused(|manifest| manifest.vendor = "Verifone".into()).await,
        (ResultCode::ModelMismatch, 0)
    );
    assert_eq!(
        refused(|manifest| manifest.models = vec!["Vx510".into()]).await,
        (ResultCode::ModelMismatch, 0)
    );
    assert_eq!(
        refused(|manifest| manifest.hardware = vec!["rev C".into()]).await,
        (ResultCode::ModelMismatch, 0)
    );
}

#[tokio::test]
async fn what_is_not_for_this_terminal_is_not_downloaded_before_its_time_either() {
    let early = |manifest: &mut Manifest| {
        manifest.not_before = Some(NOW + DAY);
        manifest.models = vec!["Vx510".into()];
    };
    assert_eq!(refused(early).await, (ResultCode::ModelMismatch, 0));
    // One that only has to wait is downloaded, and waits.
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    office
        .assign(7, &vec![7; 100_000], |manifest| manifest.not_before = Some(NOW + DAY))
        .await;
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::Waiting, ResultCode::WindowClosed)
    );
    assert_eq!(terminal.version().await, "1.0");
}

#[tokio::test]
async fn a_counter_below_what_came_with_the_terminal_is_refused() {
    assert_eq!(
        refused(|manifest| manifest.counter = 0).await,
        (ResultCode::VersionTooLow, 0)
    );
}

#[tokio::test]
async fn an_expired_package_is_refused() {
    assert_eq!(
        refused(|manifest| manifest.expiry = Some(NOW)).await,
        (ResultCode::Expired, 0)
    );
}

#[tokio::test]
async fn a_signer_that_is_not_trusted_is_not_enough() {
    // The manifest names another signer than the one that has signed.
    let nobody = key_named("vendor-2").public_key().id();
    assert_eq!(
        refused(|manifest| manifest.signers = vec![nobody]).await,
        (ResultCode::SignatureError, 0)
    );
    // And one that a stranger has signed.
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let (mut body, _) = manifest(b"content", 2);
    body.signers = vec![key_named("vendor-2").public_key().id()];
    let signed = sign(&body, "vendor-2").await;
    let mut action = office.assign(7, b"content", |_| {}).await;
    office.objects.insert(signed.digest(), signed.encode().to_vec());
    (action.manifest, action.manifest_size) = (Some(signed.digest()), Some(signed.encode().len() as u32));
    office.plan.actions = vec![action];
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::Rejected, ResultCode::SignatureError)
    );
}

#[tokio::test]
async fn a_plan_that_says_other_than_the_manifest_is_not_believed() {
    let mut office = Office::new().await;
    let action = office.assign(7, b"content", |_| {}).await;
    office
        .objects
        .insert(Digest::of(b"something else"), b"something else".to_vec());
    let wrong = [
        Action {
            object: Some(Digest::of(b"something else")),
            ..action.clone()
        },
        Action {
            size: Some(3),
            ..action.clone()
        },
        Action {
            component: Some("till".into()),
            ..action
        },
    ];
    for action in wrong {
        let mut terminal = Kit::new().await.start().await;
        office.plan.actions = vec![action];
        assert_eq!(
            attempt(&mut terminal, &mut office).await,
            (Stage::Rejected, ResultCode::InvalidContent)
        );
    }
}

#[tokio::test]
async fn a_manifest_that_is_none_is_refused() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let mut action = office.assign(7, b"content", |_| {}).await;
    office
        .objects
        .insert(Digest::of(b"not a manifest"), b"not a manifest".to_vec());
    (action.manifest, action.manifest_size) = (Some(Digest::of(b"not a manifest")), Some(14));
    office.plan.actions = vec![action];
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::Rejected, ResultCode::FormatError)
    );
}

#[tokio::test]
async fn content_over_64_kib_needs_a_block_map() {
    assert_eq!(
        refused(|manifest| manifest.block_map = None).await,
        (ResultCode::InvalidContent, 0)
    );
}

#[tokio::test]
async fn versions_do_not_go_back_but_by_a_grant_for_this_terminal() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let newer = |manifest: &mut Manifest| (manifest.counter, manifest.order, manifest.version) = (5, 5, "5.0".into());
    office.assign(7, b"five", newer).await;
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::RunningConfirmed, ResultCode::Success)
    );
    assert_eq!(terminal.version().await, "5.0");

    office.assign(8, b"two", |_| {}).await;
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::Rejected, ResultCode::VersionTooLow)
    );

    let grant = |serial: &str, component: &str, expiry| Grant {
        holder: holder(serial),
        component: component.into(),
        min_counter: 2,
        expiry,
    };
    let wrong = [
        (grant("0002", "bank", NOW + DAY), "vendor", ResultCode::NotPermitted),
        (grant("0001", "till", NOW + DAY), "vendor", ResultCode::NotPermitted),
        (grant("0001", "bank", NOW), "vendor", ResultCode::Expired),
        (grant("0001", "bank", NOW + DAY), "vendor-2", ResultCode::SignatureError),
    ];
    let mut id = 9;
    for (grant, key, expected) in wrong {
        let signed = sign(&grant, key).await.encode().clone();
        let action = office.assign(id, b"two", |_| {}).await;
        office.plan.actions = vec![Action {
            grant: Some(signed),
            ..action
        }];
        id += 1;
        let (stage, code) = attempt(&mut terminal, &mut office).await;
        assert_eq!((stage, code), (Stage::Rejected, expected), "{grant:?}");
    }
    assert_eq!(terminal.version().await, "5.0");

    let signed = sign(&grant("0001", "bank", NOW + DAY), "vendor").await.encode().clone();
    let action = office.assign(id, b"two", |_| {}).await;
    office.plan.actions = vec![Action {
        grant: Some(signed),
        ..action
    }];
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::RunningConfirmed, ResultCode::Success)
    );
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_version_that_came_with_the_terminal_goes_back_by_a_grant_too() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let grant = Grant {
        holder: holder("0001"),
        component: "bank".into(),
        min_counter: 0,
        expiry: NOW + DAY,
    };
    let signed = sign(&grant, "vendor").await.encode().clone();
    let action = office.assign(7, b"zero", |manifest| manifest.counter = 0).await;
    office.plan.actions = vec![Action {
        grant: Some(signed),
        ..action
    }];
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::RunningConfirmed, ResultCode::Success)
    );
}

#[tokio::test]
async fn a_version_too_old_to_come_from_is_told_so() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    office.assign(7, b"two", |_| {}).await;
    attempt(&mut terminal, &mut office).await;
    let newest = |manifest: &mut Manifest| {
        (manifest.order, manifest.counter, manifest.min_from) = (9, 9, Some(3));
    };
    office.assign(8, b"nine", newest).await;
    office.plan.actions[0].max_attempts = Some(1);
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::Rejected, ResultCode::Missing)
    );
}

#[tokio::test]
async fn what_belongs_together_is_installed_together_or_not_at_all() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let needs = |manifest: &mut Manifest| {
        manifest.dependencies = vec![Dependency {
            component: "bank.parameters".into(),
            order: 4,
        }];
    };
    // Alone it is not installed: mix and match.
    office.assign(7, b"program", needs).await;
    office.plan.actions[0].max_attempts = Some(1);
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::Rejected, ResultCode::Missing)
    );
    assert_eq!(terminal.version().await, "1.0");

    let parameters = |manifest: &mut Manifest| {
        manifest.component = "bank.parameters".into();
        manifest.kind = ComponentKind::ApplicationParameters;
        manifest.order = 4;
    };
    let program = office.publish(9, b"program", needs).await;
    let parameters = office.publish(8, b"parameters", parameters).await;
    let program = Action {
        depends_on: vec![8],
        ..program
    };
    office.plan = Plan {
        actions: vec![program, parameters],
        ..blank_plan(9)
    };
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    // The program waits for its parameters, and comes in the next round.
    terminal.work().await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
    call(&mut terminal, &mut office, TriggerKind::Event).await;
    let confirmed: Vec<u64> = office
        .results()
        .into_values()
        .filter(|result| result.stage == Stage::RunningConfirmed)
        .map(|result| result.action)
        .collect();
    assert_eq!(confirmed, [8, 9]);
}

#[tokio::test]
async fn what_depends_on_something_that_failed_fails_with_it() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let first = office
        .publish(8, b"for others", |manifest| manifest.vendor = "Verifone".into())
        .await;
    let second = office.publish(9, b"program", |_| {}).await;
    office.plan.actions = vec![
        first,
        Action {
            depends_on: vec![8],
            ..second
        },
    ];
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::Rejected, ResultCode::Missing)
    );
    assert_eq!(terminal.version().await, "1.0");
}

#[tokio::test]
async fn a_stolen_key_that_signed_the_highest_counter_binds_nobody_once_it_is_replaced() {
    let mut office = Office::new().await;
    let mut terminal = Kit::new().await.start().await;
    let fast_forward = |manifest: &mut Manifest| (manifest.counter, manifest.order) = (u32::MAX, u64::MAX);
    office.assign(7, b"evil", fast_forward).await;
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::RunningConfirmed, ResultCode::Success)
    );

    // The root replaces the vendor's key.
    let new_key = key_named("vendor-2");
    let roles = vec![RoleKeys {
        role: Role::VendorSigner,
        threshold: 1,
        keys: vec![new_key.public_key().clone()],
    }];
    let replaced = TrustStore {
        version: 2,
        roles,
        ..trust()
    };
    let by_stranger = sign(&replaced, "vendor").await;
    assert!(terminal.agent.update_trust(by_stranger.encode()).await.is_err());
    terminal
        .agent
        .update_trust(sign(&replaced, "root").await.encode())
        .await
        .unwrap();
    assert!(
        terminal
            .agent
            .update_trust(sign(&trust(), "root").await.encode())
            .await
            .is_err(),
        "it does not go back"
    );

    // It is remembered.
    let mut terminal = terminal.kit.start().await;
    let (mut body, _) = manifest(b"good", 3);
    body.signers = vec![new_key.public_key().id()];
    let signed = sign(&body, "vendor-2").await;
    let mut action = office.assign(8, b"good", |_| {}).await;
    office.objects.insert(signed.digest(), signed.encode().to_vec());
    (action.manifest, action.manifest_size) = (Some(signed.digest()), Some(signed.encode().len() as u32));
    office.plan.actions = vec![action];
    assert_eq!(
        attempt(&mut terminal, &mut office).await,
        (Stage::RunningConfirmed, ResultCode::Success)
    );
    assert_eq!(terminal.version().await, "3.0");
}
