//! What check-ins and registrations say of where terminals are is read behind them, in batches, and becomes cases.

use super::identity::{self, Identities};
use super::{Case, CaseState, kind_name};
use crate::estate::follow::{self, Follower};
use crate::estate::install::read_or_new;
use crate::estate::rollup::put;
use crate::estate::whereabouts::{CaseSettings, Whereabouts};
use crate::estate::{AsOf, Estate, EstateError, Progress, read};
use crate::rule::relocation::{Assessment, CaseData, CaseKind, Observed, Policy, Sighting, assess, twice};
use crate::store::{Change, Entity, Event, EventKind, Expect, Key, Kind, Sequence, Store, StoreError, TerminalId};
use std::collections::{BTreeMap, BTreeSet};
use tms_proto::message::Location;

/// The most sightings of one place that are kept, whatever a policy asks for.
const MAX_RUN: usize = 8;

/// Who opens cases.
const SYSTEM: &str = "cases";

/// Opens and enlarges cases.
struct Cases<'a>(&'a Estate);

impl Follower for Cases<'_> {
    const POSITION: Kind = Kind::named("case_position");
    const BATCH: u32 = 1_000;

    fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    async fn effect(&self, events: &[(Sequence, Event)]) -> Result<Vec<Change>, EstateError> {
        Ok(self.0.batch(events).await?.changes()?)
    }
}

/// A record as it is stored, and as it is to be.
struct Draft<E> {
    version: Option<u64>,
    record: E,
    changed: bool,
}

/// What a batch of events comes to.
#[derive(Default)]
struct Batch {
    whereabouts: BTreeMap<TerminalId, Draft<Whereabouts>>,
    cases: BTreeMap<String, Draft<Case>>,
    identities: Identities,
    retired: BTreeSet<TerminalId>,
    opened: Vec<Change>,
}

impl Estate {
    /// Reads at most `limit` events that are not read yet, and at most 1,000, and opens and enlarges cases by them, in one commit. To be
    /// called from time to time, by any number of nodes, and again at once while it reads as many as were asked for.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn advance_cases(&self, limit: u32) -> Result<Progress, EstateError> {
        follow::advance(&Cases(self), limit).await
    }

    /// As of when the cases are.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn cases_as_of(&self) -> Result<AsOf, EstateError> {
        follow::as_of(&Cases(self)).await
    }

    async fn batch(&self, events: &[(Sequence, Event)]) -> Result<Batch, StoreError> {
        let settings = CaseSettings::now(&*self.store).await?;
        let mut batch = Batch::default();
        for (_, event) in events {
            let Some(id) = event.terminal else { continue };
            match &event.kind {
                EventKind::CheckedIn(summary) => {
                    if matches!(summary.mode, 1 | 4) {
                        self.identify(&mut batch, id, event.time, &settings).await?;
                    }
                    let seen = Seen {
                        time: event.time,
                        contact: summary.contact,
                        observed: &summary.observed,
                        location: summary.location.as_deref(),
                    };
                    self.seen(&mut batch, id, seen, &settings).await?;
                }
                EventKind::Registered(summary) if summary.elsewhere => {
                    let seen = Seen {
                        time: event.time,
                        contact: 0,
                        observed: &summary.observed,
                        location: summary.location.as_deref(),
                    };
                    self.registered_elsewhere(&mut batch, id, seen, &settings).await?;
                }
                EventKind::CloneSuspected { evidence } => {
                    if let Some(data) = CaseData::suspected(evidence, event.time, &settings.policy) {
                        self.join(&mut batch, id, data, BTreeSet::new(), event.time, &settings)
                            .await?;
                    }
                }
                EventKind::Enrolled | EventKind::KeysChanged => {
                    self.identify(&mut batch, id, event.time, &settings).await?;
                }
                EventKind::Retired => drop(batch.retired.insert(id)),
                _ => {}
            }
        }
        Ok(batch)
    }

    async fn identify(
        &self,
        batch: &mut Batch,
        id: TerminalId,
        time: u64,
        settings: &CaseSettings,
    ) -> Result<(), StoreError> {
        let found = self
            .identified(id, &mut batch.identities, time, &settings.policy)
            .await?;
        for (data, terminals) in found {
            let mut others = terminals;
            let Some(first) = others.pop_first() else { continue };
            self.join(batch, first, data, others, time, settings).await?;
        }
        Ok(())
    }

    /// A terminal was seen at a check-in.
    async fn seen(
        &self,
        batch: &mut Batch,
        id: TerminalId,
        seen: Seen<'_>,
        settings: &CaseSettings,
    ) -> Result<(), StoreError> {
        let CaseSettings { plan, policy, white } = settings;
        let draft = self.whereabouts_in(batch, id).await?;
        let known = &mut draft.record;
        if known.home.is_none() && seen.observed.caller.is_none() {
            // nowhere to be missed from, and nothing that a clone would show
            return Ok(());
        }
        let sighting = seen.sighting(known);
        let before = known.sightings.last().cloned();
        let run = usize::try_from(policy.sightings).map_or(MAX_RUN, |run| run.min(MAX_RUN));
        known.see(sighting.clone(), run);
        draft.changed = true;
        let moved = known.home.as_ref().and_then(|home| {
            // what is kept of a policy that asks for more is enough
            let policy = Policy {
                sightings: policy.sightings.min(u32::try_from(MAX_RUN).unwrap_or(u32::MAX)),
                ..policy.clone()
            };
            match assess(home, white, &known.sightings, plan, &policy) {
                Assessment::Case(data) => Some(data),
                _ => None,
            }
        });
        let cloned = before.and_then(|before| twice(&before, &sighting, white, plan, policy)?.without_counter());
        for data in moved.into_iter().chain(cloned) {
            self.join(batch, id, data, BTreeSet::new(), sighting.time, settings)
                .await?;
        }
        Ok(())
    }

    /// A terminal registered where it is not registered: that is a case, whatever its points.
    async fn registered_elsewhere(
        &self,
        batch: &mut Batch,
        id: TerminalId,
        seen: Seen<'_>,
        settings: &CaseSettings,
    ) -> Result<(), StoreError> {
        let draft = self.whereabouts_in(batch, id).await?;
        let sighting = seen.sighting(&draft.record);
        let Some(home) = &draft.record.home else {
            return Ok(());
        };
        let assessed = assess(
            home,
            &settings.white,
            std::slice::from_ref(&sighting),
            &settings.plan,
            &settings.policy,
        );
        draft.record.see(sighting, MAX_RUN);
        draft.changed = true;
        if let Assessment::Watch(data) | Assessment::Case(data) = assessed {
            self.join(batch, id, data, BTreeSet::new(), seen.time, settings).await?;
        }
        Ok(())
    }

    /// Adds to the open case of a terminal, or opens one.
    async fn join(
        &self,
        batch: &mut Batch,
        id: TerminalId,
        data: CaseData,
        others: BTreeSet<TerminalId>,
        time: u64,
        settings: &CaseSettings,
    ) -> Result<(), StoreError> {
        let kind = data.kind;
        let open = self.whereabouts_in(batch, id).await?.record.open_case(kind).clone();
        if let Some(open) = open {
            let case = match batch.cases.entry(open.clone()) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => match read::<Case>(&*self.store, &open).await? {
                    Some(found) => entry.insert(Draft {
                        version: Some(found.version),
                        record: found.record,
                        changed: false,
                    }),
                    None => return Ok(()),
                },
            };
            let joined = case.record.data.joined(&data);
            let grown = joined.score > case.record.data.score || !others.is_subset(&case.record.others);
            case.record.data = joined;
            case.record.others.extend(others);
            case.record.updated = time;
            case.changed = true;
            if grown {
                let score = case.record.data.score;
                case.record.note(time, None, format!("evidence added, score {score}"));
            }
            return Ok(());
        }
        // of a relocation it was weighed already
        if kind == CaseKind::Clone && data.score < settings.policy.threshold {
            return Ok(());
        }
        let mut random = [0; 8];
        self.entropy.fill(&mut random);
        let mut case = Case {
            id: format!("{time:010}-{}", hex::encode(random)),
            terminal: id,
            others,
            branch: self.branch_of(id).await?,
            data,
            opened: time,
            updated: time,
            state: CaseState::Open,
            owner: None,
            disposition: None,
            history: Vec::new(),
        };
        case.note(time, None, format!("opened, score {}", case.data.score));
        batch.opened.push(Change::Append(Event {
            time,
            terminal: Some(id),
            actor: SYSTEM.to_owned(),
            kind: EventKind::CaseOpened {
                case: case.id.clone(),
                about: kind_name(kind).to_owned(),
                score: case.data.score,
            },
        }));
        let draft = self.whereabouts_in(batch, id).await?;
        *draft.record.open_case(kind) = Some(case.id.clone());
        draft.changed = true;
        let case_id = case.id.clone();
        batch.cases.insert(
            case_id,
            Draft {
                version: None,
                record: case,
                changed: true,
            },
        );
        Ok(())
    }

    async fn whereabouts_in<'a>(
        &self,
        batch: &'a mut Batch,
        id: TerminalId,
    ) -> Result<&'a mut Draft<Whereabouts>, StoreError> {
        use std::collections::btree_map::Entry;
        Ok(match batch.whereabouts.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (version, record) = read_or_new(&*self.store, &id.to_string(), || Whereabouts::of(id)).await?;
                entry.insert(Draft {
                    version,
                    record,
                    changed: false,
                })
            }
        })
    }
}

impl Batch {
    fn changes(self) -> Result<Vec<Change>, StoreError> {
        let mut changes = self.identities.changes;
        for (id, draft) in self.whereabouts {
            if draft.changed && !self.retired.contains(&id) {
                changes.push(put(draft.version, &draft.record)?);
            }
        }
        for draft in self.cases.into_values().filter(|draft| draft.changed) {
            changes.push(put(draft.version, &draft.record)?);
        }
        // What is gone needs no place; its cases stay. Nothing of it was put in this batch: it was not found any more.
        for id in self.retired {
            let identity = identity::key_of(id);
            if !changes.iter().any(|change| change.key().as_ref() == Some(&identity)) {
                changes.push(Change::Remove(Expect::Any, identity));
            }
            changes.push(Change::Remove(
                Expect::Any,
                Key::Document(Whereabouts::KIND, id.to_string()),
            ));
        }
        changes.extend(self.opened);
        Ok(changes)
    }
}

/// What an event says of where a terminal was.
struct Seen<'a> {
    time: u64,
    contact: u32,
    observed: &'a Observed,
    location: Option<&'a Location>,
}

impl Seen<'_> {
    /// A terminal says where it is when that has changed: else it is where it said last.
    fn sighting(&self, known: &Whereabouts) -> Sighting {
        let last = known.sightings.last().map(|seen| &seen.claimed);
        let registered = known.registered.as_ref().map(|registered| &registered.claimed);
        let claimed = self.location.or(last).or(registered);
        Sighting {
            time: self.time,
            contact: self.contact,
            observed: self.observed.clone(),
            claimed: claimed.cloned().unwrap_or_default(),
        }
    }
}
