//! Consumers: other systems that read events, each at its own pace.
//!
//! A consumer is given events in their order, and again until it acknowledges them: at least once, none left out, none before
//! another. Where it stands is a record of its own, so that it goes on there after a crash of either side, and no consumer
//! knows of another.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::rollup::put;
use super::{Estate, EstateError, decided};
use crate::store::{BranchPath, Change, Entity, Event, EventKind, Expect, Key, Kind, Query, Record, Sequence};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The most events that are given at a time.
const PAGE: u32 = 1_000;

/// The most events that are read for one delivery, those of other kinds among them.
const READ: u32 = 10_000;

/// A consumer of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name: 1 to 64 letters, digits, dots, dashes or underscores.
    pub name: String,
    /// The kinds of events that it asks for, by their names; all where there are none.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The number of the last event that it acknowledged, or need not have; zero for none.
    pub acknowledged: Sequence,
}

impl Entity for Consumer {
    const KIND: Kind = Kind::named("consumer");

    fn id(&self) -> String {
        self.name.clone()
    }
}

impl Consumer {
    fn wants(&self, event: &EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == event.name())
    }
}

/// Events for a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The events, in their order.
    pub events: Vec<(Sequence, Event)>,
    /// What is to be acknowledged when all of them have been taken in. It may lie behind the last of them, or be there with
    /// no event at all: then those between are of other kinds.
    pub through: Sequence,
    /// Whether there may be more already.
    pub more: bool,
}

impl Estate {
    /// Adds a consumer that begins after event `after` (zero is before the first), or changes the kinds of one that is there: it
    /// goes on where it is.
    ///
    /// # Errors
    /// [`EstateError::BadConsumer`] where the name is none.
    pub async fn subscribe(
        &self,
        actor: &Actor,
        name: &str,
        kinds: &[String],
        after: Sequence,
    ) -> Result<Consumer, EstateError> {
        let branch = BranchPath::head_office();
        actor.demand(Permission::Export, &branch)?;
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(sound) {
            return Err(EstateError::BadConsumer);
        }
        let mut kinds = kinds.to_vec();
        kinds.sort();
        kinds.dedup();
        decided(|| async {
            let found = self.versioned::<Consumer>(name).await?;
            let version = found.as_ref().map(|found| found.version);
            let consumer = Consumer {
                name: name.to_owned(),
                kinds: kinds.clone(),
                acknowledged: found.as_ref().map_or(after, |found| found.record.acknowledged),
            };
            if found.is_some_and(|found| found.record == consumer) {
                return Ok(consumer);
            }
            let consumer_name = name.to_owned();
            let event = self.event(
                actor,
                None,
                EventKind::Subscribed {
                    consumer: consumer_name,
                },
            );
            let deed = Deed {
                act: "consumer.put",
                subject: name.to_owned(),
                branch: branch.clone(),
                detail: json!({ "kinds": kinds, "after": consumer.acknowledged }),
            };
            let changes = vec![put(version, &consumer)?, Change::Append(event)];
            self.commit(actor, &deed, changes).await?;
            Ok(consumer)
        })
        .await
    }

    /// Removes a consumer.
    ///
    /// # Errors
    /// [`EstateError::UnknownConsumer`].
    pub async fn unsubscribe(&self, actor: &Actor, name: &str) -> Result<(), EstateError> {
        let branch = BranchPath::head_office();
        actor.demand(Permission::Export, &branch)?;
        decided(|| async {
            let Some(found) = self.versioned::<Consumer>(name).await? else {
                return Err(EstateError::UnknownConsumer(name.to_owned()));
            };
            let deed = Deed {
                act: "consumer.remove",
                subject: name.to_owned(),
                branch: branch.clone(),
                detail: json!({ "acknowledged": found.record.acknowledged }),
            };
            let event = self.event(
                actor,
                None,
                EventKind::Unsubscribed {
                    consumer: name.to_owned(),
                },
            );
            let key = Key::Document(Consumer::KIND, name.to_owned());
            let changes = vec![
                Change::Remove(Expect::Version(found.version), key),
                Change::Append(event),
            ];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// The consumers after this one, at most `limit` of them, in the order of their names.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn consumers(&self, after: Option<&str>, limit: u32) -> Result<Vec<Consumer>, EstateError> {
        let query = Query::Documents {
            kind: Consumer::KIND,
            prefix: String::new(),
            after: after.map(str::to_owned),
        };
        let mut consumers = Vec::new();
        for found in self.store.list(&query, limit).await? {
            if let Record::Document(document) = found.record {
                consumers.push(document.read()?);
            }
        }
        Ok(consumers)
    }

    /// The next events for a consumer, at most `limit` and at most 1,000: the same ones again until they are acknowledged.
    ///
    /// # Errors
    /// [`EstateError::UnknownConsumer`].
    pub async fn deliver(&self, name: &str, limit: u32) -> Result<Delivery, EstateError> {
        let Some(consumer) = self.versioned::<Consumer>(name).await? else {
            return Err(EstateError::UnknownConsumer(name.to_owned()));
        };
        let consumer = consumer.record;
        let limit = usize::try_from(limit.min(PAGE)).unwrap_or_default();
        let mut delivery = Delivery {
            events: Vec::new(),
            through: consumer.acknowledged,
            more: true,
        };
        for _ in 0..READ / PAGE {
            let page = self.store.events(delivery.through, PAGE).await?;
            let full = u32::try_from(page.len()).is_ok_and(|found| found >= PAGE);
            for (sequence, event) in page {
                if consumer.wants(&event.kind) {
                    if delivery.events.len() >= limit {
                        return Ok(delivery);
                    }
                    delivery.events.push((sequence, event));
                }
                delivery.through = sequence;
            }
            if !full {
                delivery.more = false;
                return Ok(delivery);
            }
        }
        Ok(delivery)
    }

    /// A consumer has taken in all events up to this one. Said again, or of an event before one that was acknowledged, it
    /// changes nothing.
    ///
    /// # Errors
    /// [`EstateError::UnknownConsumer`]; [`EstateError::BadAcknowledgement`] where there is no such event: those to come
    /// would be left out.
    pub async fn acknowledge(&self, name: &str, through: Sequence) -> Result<(), EstateError> {
        decided(|| async {
            let Some(found) = self.versioned::<Consumer>(name).await? else {
                return Err(EstateError::UnknownConsumer(name.to_owned()));
            };
            let mut consumer = found.record;
            if through <= consumer.acknowledged {
                return Ok(());
            }
            let named = self.store.events(through.saturating_sub(1), 1).await?;
            if named.first().is_none_or(|(sequence, _)| *sequence != through) {
                return Err(EstateError::BadAcknowledgement(through));
            }
            consumer.acknowledged = through;
            Ok(self.store.commit(vec![put(Some(found.version), &consumer)?]).await?)
        })
        .await
    }
}
