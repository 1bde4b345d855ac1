//! Followers of events: what is brought up to date behind check-ins, in batches.
//!
//! How far a follower has come is written together with what came of it. So every event counts once, whoever runs the
//! follower, on however many nodes, and whenever it is stopped.

use super::rollup::put;
use super::{ATTEMPTS, EstateError, read};
use crate::store::{Change, Entity, Event, Kind, Sequence, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// As of when something is known: all events up to this one are in it, and perhaps a few later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AsOf {
    /// The event's number; zero for none.
    pub sequence: Sequence,
    /// Its time, in seconds since 1970 UTC.
    pub time: u64,
}

/// How far a follower of events has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many events were entered by this call; none where there is nothing to do.
    pub events: u32,
    /// As of when it is now.
    pub as_of: AsOf,
}

/// One that follows events.
pub(super) trait Follower: Sync {
    /// What its position is kept as.
    const POSITION: Kind;

    /// The most events that it enters in one commit.
    const BATCH: u32;

    fn store(&self) -> &dyn Store;

    /// What these events come to, in their order.
    fn effect(&self, events: &[(Sequence, Event)]) -> impl Future<Output = Result<Vec<Change>, EstateError>> + Send;
}

/// Where a follower stands. There is one of each kind.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
struct Position<F>(AsOf, #[serde(skip)] PhantomData<fn() -> F>);

impl<F: Follower> Entity for Position<F> {
    const KIND: Kind = F::POSITION;

    fn id(&self) -> String {
        ID.to_owned()
    }
}

const ID: &str = "events";

/// Enters at most `limit` events that are not entered yet, in one commit.
pub(super) async fn advance<F: Follower>(follower: &F, limit: u32) -> Result<Progress, EstateError> {
    let limit = limit.min(F::BATCH);
    for _ in 0..ATTEMPTS {
        let position = read::<Position<F>>(follower.store(), ID).await?;
        let as_of = position.as_ref().map_or_else(AsOf::default, |found| found.record.0);
        let events = follower.store().events(as_of.sequence, limit).await?;
        let Some((sequence, last)) = events.last() else {
            return Ok(Progress { events: 0, as_of });
        };
        let as_of = AsOf {
            sequence: *sequence,
            time: last.time,
        };
        let mut changes = follower.effect(&events).await?;
        let version = position.map(|found| found.version);
        changes.push(put(version, &Position::<F>(as_of, PhantomData))?);
        match follower.store().commit(changes).await {
            Err(StoreError::Conflict) => {}
            done => {
                done?;
                return Ok(Progress {
                    events: u32::try_from(events.len()).unwrap_or(u32::MAX),
                    as_of,
                });
            }
        }
    }
    Err(StoreError::Conflict.into())
}

/// As of when a follower is.
pub(super) async fn as_of<F: Follower>(follower: &F) -> Result<AsOf, EstateError> {
    let position = read::<Position<F>>(follower.store(), ID).await?;
    Ok(position.map_or_else(AsOf::default, |found| found.record.0))
}
