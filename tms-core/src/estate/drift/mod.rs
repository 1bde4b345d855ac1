//! Drift: what terminals have, beside what they shall have.
//!
//! A roll-up reads the events behind check-ins, as the one of the roster does: each event that brought an inventory or tells of
//! an action has its terminal judged, by [`rule::drift`](crate::rule::drift), and what is not as it shall be is kept in one
//! document for each terminal. What it shall have is what the estate last brought there or is bringing, and what was accepted.

mod answer;
mod record;
mod restore;

pub use record::{Drift, DriftItem, DriftPolicy, First};

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::follow::{self, AsOf, Follower, Progress};
use super::parameters::ParameterError;
use super::rollup::put;
use super::{Estate, EstateError, decided};
use crate::rule::drift::{Class, Response, findings};
use crate::store::{
    ActionId, Assignment, BranchPath, Change, Entity, Event, EventKind, Expect, InventoryRecord, Key, Kind, Record,
    Sequence, Store, StoreError, Terminal, TerminalId, Versioned,
};
use record::Wanted;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The most components that a policy tolerates.
const MAX_TOLERATED: usize = 1_000;

/// Judges terminals.
struct Judge<'a>(&'a Estate);

impl Follower for Judge<'_> {
    const POSITION: Kind = Kind::named("drift_rollup");
    const BATCH: u32 = 1_000;

    fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    async fn effect(&self, events: &[(Sequence, Event)]) -> Result<Vec<Change>, EstateError> {
        let mut common = self.0.common().await?;
        let mut changes = Vec::new();
        for (id, actions) in concerned(events) {
            changes.extend(self.0.judged(id, &actions, &mut common).await?);
        }
        Ok(changes)
    }
}

/// A terminal that is judged: its records as they are stored.
struct Case {
    terminal: Terminal,
    branch: BranchPath,
    wanted: Option<Versioned<Wanted>>,
    drift: Option<Versioned<Drift>>,
    inventory: Option<InventoryRecord>,
}

/// What holds for all terminals.
#[derive(Default)]
struct Common {
    policy: DriftPolicy,
    /// What the templates ask for where a parameter set was changed on site.
    on_site: BTreeMap<String, Option<Response>>,
}

impl Estate {
    /// Judges the terminals of at most `limit` events that were not looked at yet, and at most 1,000, in one commit. To be
    /// called from time to time, by any number of nodes, and again at once while it gives as many as were asked for.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn judge_drift(&self, limit: u32) -> Result<Progress, EstateError> {
        follow::advance(&Judge(self), limit).await
    }

    /// As of when drift is judged.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn drift_as_of(&self) -> Result<AsOf, EstateError> {
        follow::as_of(&Judge(self)).await
    }

    /// What is done about drift.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn drift_policy(&self) -> Result<DriftPolicy, EstateError> {
        let found = self.versioned::<DriftPolicy>(DriftPolicy::ID).await?;
        Ok(found.map(|found| found.record).unwrap_or_default())
    }

    /// Says what is done about drift, at head office. It counts when a terminal is judged the next time.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Invalid`].
    pub async fn put_drift_policy(&self, actor: &Actor, policy: DriftPolicy) -> Result<(), EstateError> {
        let branch = BranchPath::head_office();
        actor.demand(Permission::ManageParameters, &branch)?;
        if policy.tolerated.len() > MAX_TOLERATED || policy.tolerated.iter().any(|id| id.is_empty() || id.len() > 256) {
            return Err(EstateError::Invalid(
                "tolerated",
                "must be at most 1000 ids of components",
            ));
        }
        decided(|| async {
            let found = self.versioned::<DriftPolicy>(DriftPolicy::ID).await?;
            let deed = Deed {
                act: "drift.policy",
                subject: DriftPolicy::ID.to_owned(),
                branch: branch.clone(),
                detail: json!({ "before": found.as_ref().map(|found| &found.record), "after": policy }),
            };
            let changes = vec![put(found.map(|found| found.version), &policy)?];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    async fn common(&self) -> Result<Common, EstateError> {
        Ok(Common {
            policy: self.drift_policy().await?,
            on_site: BTreeMap::new(),
        })
    }

    /// The changes that a terminal comes to once these actions of it are taken in.
    async fn judged(
        &self,
        id: TerminalId,
        actions: &BTreeSet<ActionId>,
        common: &mut Common,
    ) -> Result<Vec<Change>, EstateError> {
        let Some(case) = self.drift_case(id).await? else {
            return self.forgotten(id).await;
        };
        let stored = case.wanted.as_ref().map(|wanted| wanted.record.clone());
        let mut wanted = stored.unwrap_or_else(|| Wanted::new(id));
        for action in actions {
            if let Some(assignment) = self.assignment_of(id, *action).await? {
                wanted.learn(&assignment);
            }
        }
        self.settle(case, wanted, &BTreeSet::new(), common).await
    }

    /// Judges, accepts what the policy accepts, and gives what is to be written. `asked` are the things that an operator has put
    /// right.
    async fn settle(
        &self,
        case: Case,
        mut wanted: Wanted,
        asked: &BTreeSet<crate::rule::drift::Item>,
        common: &mut Common,
    ) -> Result<Vec<Change>, EstateError> {
        let now = self.clock.now();
        let mut items = Vec::new();
        if let Some(InventoryRecord { inventory, .. }) = &case.inventory {
            if !wanted.begun && common.policy.first == First::Accept {
                wanted.begin(inventory);
            }
            wanted.begun = true;
            for set in &inventory.parameters {
                self.learn_template(&set.name, common).await?;
            }
            let judge = |wanted: &Wanted| {
                let desired = wanted.desired(&common.policy, &common.on_site);
                findings(&desired, inventory, &common.policy.policy)
            };
            let mut found = judge(&wanted);
            let accepted = found
                .iter()
                .filter(|finding| finding.response == Some(Response::Accept));
            let accepted: Vec<_> = accepted.cloned().collect();
            if !accepted.is_empty() {
                for finding in &accepted {
                    wanted.accept(finding, ActionId(case.terminal.last_action));
                }
                found = judge(&wanted);
            }
            for mut finding in found {
                wanted.judge(&mut finding);
                if matches!(finding.class, Class::Expected | Class::UnderWay) {
                    continue;
                }
                let before = case.drift.iter().flat_map(|drift| &drift.record.items);
                let before = before.clone().find(|before| before.finding.item == finding.item);
                items.push(DriftItem {
                    since: before.map_or(now, |before| before.since),
                    wanted: asked.contains(&finding.item) || before.is_some_and(|before| before.wanted),
                    finding,
                });
            }
        }
        let mut changes = Vec::new();
        if case.wanted.as_ref().map(|found| &found.record) != Some(&wanted) {
            changes.push(put(case.wanted.map(|found| found.version), &wanted)?);
        }
        let version = case.drift.as_ref().map(|found| found.version);
        if items.is_empty() {
            if let Some(version) = version {
                let key = Key::Document(Drift::KIND, wanted.id());
                changes.push(Change::Remove(Expect::Version(version), key));
            }
            return Ok(changes);
        }
        let drift = Drift {
            terminal: wanted.terminal,
            branch: case.branch,
            reported: case.inventory.map_or(0, |inventory| inventory.reported),
            items,
        };
        if case.drift.map(|found| found.record).as_ref() != Some(&drift) {
            changes.push(put(version, &drift)?);
        }
        Ok(changes)
    }

    async fn learn_template(&self, name: &str, common: &mut Common) -> Result<(), EstateError> {
        if common.on_site.contains_key(name) {
            return Ok(());
        }
        let response = match self.parameters().template(name, None).await {
            Ok(template) => Some(template.on_site()),
            Err(ParameterError::UnknownTemplate(_)) => None,
            Err(error) => return Err(error.into()),
        };
        common.on_site.insert(name.to_owned(), response);
        Ok(())
    }

    /// The records of a terminal, if it is there.
    async fn drift_case(&self, id: TerminalId) -> Result<Option<Case>, StoreError> {
        let Some(Versioned {
            record: Record::Terminal(terminal),
            ..
        }) = self.store.get(&Key::Terminal(id)).await?
        else {
            return Ok(None);
        };
        let inventory = match self.store.get(&Key::Inventory(id)).await? {
            Some(Versioned {
                record: Record::Inventory(inventory),
                ..
            }) => Some(*inventory),
            _ => None,
        };
        Ok(Some(Case {
            terminal: *terminal,
            branch: self.branch_of(id).await?,
            wanted: self.versioned(&id.to_string()).await?,
            drift: self.versioned(&id.to_string()).await?,
            inventory,
        }))
    }

    /// Of a terminal that is no more nothing is kept.
    async fn forgotten(&self, id: TerminalId) -> Result<Vec<Change>, EstateError> {
        let mut changes = Vec::new();
        let id = id.to_string();
        for kind in [Wanted::KIND, Drift::KIND] {
            let key = Key::Document(kind, id.clone());
            if let Some(found) = self.store.get(&key).await? {
                changes.push(Change::Remove(Expect::Version(found.version), key));
            }
        }
        Ok(changes)
    }

    async fn assignment_of(&self, id: TerminalId, action: ActionId) -> Result<Option<Assignment>, StoreError> {
        let found = self.store.get(&Key::Assignment(id, action)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Assignment(assignment) => Some(*assignment),
            _ => None,
        }))
    }
}

/// The terminals that events say something new of, and the actions.
fn concerned(events: &[(Sequence, Event)]) -> BTreeMap<TerminalId, BTreeSet<ActionId>> {
    let mut concerned: BTreeMap<TerminalId, BTreeSet<ActionId>> = BTreeMap::new();
    for (_, event) in events {
        let Some(id) = event.terminal else { continue };
        let action = match &event.kind {
            EventKind::Queued { action, .. }
            | EventKind::Restored { action, .. }
            | EventKind::Cancelled { action }
            | EventKind::Result { action, .. } => Some(*action),
            EventKind::CheckedIn(summary) if summary.inventory => None,
            EventKind::InventoryReported | EventKind::Retired | EventKind::Moved { .. } => None,
            _ => continue,
        };
        concerned.entry(id).or_default().extend(action);
    }
    concerned
}
