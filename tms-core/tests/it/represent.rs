//! Representations of a package, as an operator has them made.

use crate::world::{World, operator};
use tms_core::blob::{BlobError, BlobStore};
use tms_core::estate::{Actor, EstateError};
use tms_core::store::{EventKind, MAX_REPRESENTATIONS};
use tms_proto::code::Representation;
use tms_proto::digest::Digest;

fn version(number: u32) -> Vec<u8> {
    (0..20_000u32)
        .flat_map(|word| (word * word + if word % 2_000 == 0 { number } else { 0 }).to_be_bytes())
        .collect()
}

#[tokio::test]
async fn what_is_made_is_there_once_and_in_the_log() {
    let world = World::new().await;
    world.publish(&version(1), 1).await;
    let manifest = world.publish(&version(2), 2).await;
    let base = Digest::of(&version(1));
    let made = world
        .estate
        .represent(&Actor::trusted("alice"), &manifest, &[])
        .await
        .unwrap();
    assert_eq!(
        made.iter().map(|made| made.form).collect::<Vec<_>>(),
        [Representation::Zstd]
    );
    let made = world
        .estate
        .represent(&Actor::trusted("alice"), &manifest, &[base, base])
        .await
        .unwrap();
    assert_eq!(made.len(), 2);
    assert!(made[1].size * 20 < made[0].size, "{made:?}");
    for made in &made {
        assert_eq!(world.blobs.open(&made.object).await.unwrap(), made.size);
    }
    // The same again changes nothing; the content itself is no base.
    let own = Digest::of(&version(2));
    let again = world
        .estate
        .represent(&Actor::trusted("alice"), &manifest, &[own, base])
        .await
        .unwrap();
    assert_eq!(again, made);
    let events = world.events().await;
    let told = events
        .iter()
        .filter(|event| event.kind == EventKind::Represented { manifest });
    assert_eq!(told.clone().count(), 2);
    assert!(told.clone().all(|event| event.actor == "alice"));
}

#[tokio::test]
async fn what_saves_nothing_is_left_out() {
    let world = World::new().await;
    let random: Vec<u8> = (0..500u32).flat_map(|word| Digest::of(&word.to_be_bytes()).0).collect();
    world.publish(b"nothing in common", 1).await;
    let manifest = world.publish(&random, 2).await;
    let base = Digest::of(b"nothing in common");
    assert_eq!(
        world.estate.represent(&operator(), &manifest, &[base]).await.unwrap(),
        []
    );
    assert!(
        world
            .events()
            .await
            .iter()
            .all(|event| event.kind.name() != "represented")
    );
}

#[tokio::test]
async fn what_is_not_there_is_an_error() {
    let world = World::new().await;
    let unknown = Digest::of(b"unknown");
    let refused = world.estate.represent(&operator(), &unknown, &[]).await;
    assert!(matches!(refused, Err(EstateError::UnknownPackage(_))), "{refused:?}");
    let manifest = world.publish(&version(2), 2).await;
    let refused = world.estate.represent(&operator(), &manifest, &[unknown]).await;
    assert!(
        matches!(refused, Err(EstateError::Blob(BlobError::Missing))),
        "{refused:?}"
    );
    let known = world.estate.represent(&operator(), &manifest, &[]).await.unwrap();
    assert_eq!(known.len(), 1);
}

#[tokio::test]
async fn there_are_only_so_many() {
    let world = World::new().await;
    let manifest = world.publish(&version(0), 100).await;
    let mut bases = Vec::new();
    for number in 1..=MAX_REPRESENTATIONS as u32 {
        world.publish(&version(number), number).await;
        bases.push(Digest::of(&version(number)));
    }
    let refused = world.estate.represent(&operator(), &manifest, &bases).await;
    assert!(
        matches!(refused, Err(EstateError::TooManyRepresentations)),
        "{refused:?}"
    );
    bases.pop();
    let made = world.estate.represent(&operator(), &manifest, &bases).await.unwrap();
    assert_eq!(made.len(), MAX_REPRESENTATIONS);
}
