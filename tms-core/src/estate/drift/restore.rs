//! Putting terminals right: packages and parameter sets are brought again, and what nobody asked for is removed.
//!
//! Each is an assignment of its own, without a task, and is written together with what it changes in what the terminal shall
//! have. The judge sees it on its way from then on. What comes to nothing three times, or cannot be ordered at all, is only
//! reported: a person has to see why.

use super::super::access::Actor;
use super::super::audit::Deed;
use super::super::queue::check_target;
use super::super::release::demand_released;
use super::super::{ATTEMPTS, Estate, EstateError, list};
use super::Case;
use super::record::{Drift, DriftItem, Wanted};
use crate::rule::drift::Item;
use crate::server::representation;
use crate::store::{
    ActionId, Assignment, Caller, Change, CheckIn, Entity, EventKind, Expect, Order, Query, StoreError, TerminalId,
};
use serde_json::json;

/// The most terminals in one go.
const BATCH: u32 = 64;

/// Who acts where the policy does.
const POLICY: &str = "drift policy";

/// What is to be written of a terminal.
struct Ordered {
    wanted: Wanted,
    /// The highest action id given to it.
    last_action: u64,
    actions: Vec<ActionId>,
    changes: Vec<Change>,
    /// What happened, for the audit log.
    done: Vec<serde_json::Value>,
}

impl Estate {
    /// Follows the policy for at most `limit` and at most 64 terminals in which something is to be put right, and gives how many
    /// they were. To be called from time to time, by any number of nodes, and again at once while it is not zero.
    ///
    /// # Errors
    /// [`EstateError::Store`]; [`EstateError::Parameters`] where secrets cannot be opened now.
    pub async fn restore_drifts(&self, limit: u32) -> Result<u32, EstateError> {
        let query = Query::Marked {
            kind: Drift::KIND,
            mark: Drift::RESTORE.to_owned(),
            prefix: String::new(),
            after: None,
        };
        let page = list::<Drift>(&*self.store, &query, limit.min(BATCH)).await?;
        let actor = Actor::trusted(POLICY);
        for found in &page {
            self.put_right(&actor, found.record.terminal, None).await?;
        }
        Ok(u32::try_from(page.len()).unwrap_or(u32::MAX))
    }

    /// Orders what puts a terminal right: what the policy wants, or this one thing; and gives the actions that do it.
    pub(super) async fn put_right(
        &self,
        actor: &Actor,
        id: TerminalId,
        only: Option<&Item>,
    ) -> Result<Vec<ActionId>, EstateError> {
        for _ in 0..ATTEMPTS {
            let known = self.store.check_in(&Caller::Id(id)).await?;
            let (Some(known), Some(case)) = (known, self.drift_case(id).await?) else {
                let changes = self.forgotten(id).await?;
                self.store.commit(changes).await?;
                return Ok(Vec::new());
            };
            let ordered = self.ordered(actor, &known, &case, only).await?;
            let Ordered {
                wanted,
                last_action,
                actions,
                mut changes,
                done,
            } = ordered;
            if done.is_empty() {
                return Ok(actions);
            }
            let deed = Deed {
                act: "drift.restore",
                subject: id.to_string(),
                branch: case.branch.clone(),
                detail: json!({ "items": done }),
            };
            let asked = only.cloned().into_iter().collect();
            let mut common = self.common().await?;
            changes.extend(self.settle(case, wanted, &asked, &mut common).await?);
            let mut terminal = known.terminal.record;
            if terminal.last_action < last_action {
                terminal.last_action = last_action;
                changes.push(Change::Put(Expect::Version(known.terminal.version), terminal.into()));
            }
            match self.commit(actor, &deed, changes).await {
                Err(StoreError::Conflict) => {}
                written => return Ok(written.map(|()| actions)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn ordered(
        &self,
        actor: &Actor,
        known: &CheckIn,
        case: &Case,
        only: Option<&Item>,
    ) -> Result<Ordered, EstateError> {
        let terminal = &known.terminal.record;
        let wanted = case.wanted.as_ref().map(|wanted| wanted.record.clone());
        let mut ordered = Ordered {
            wanted: wanted.unwrap_or_else(|| Wanted::new(terminal.id)),
            last_action: terminal.last_action,
            actions: Vec::new(),
            changes: Vec::new(),
            done: Vec::new(),
        };
        let items = case.drift.iter().flat_map(|drift| &drift.record.items);
        let meant = |item: &&DriftItem| match only {
            Some(only) => item.finding.item == *only,
            None => item.is_restored(),
        };
        for found in items.filter(meant) {
            let item = &found.finding.item;
            match self.order_for(known, &ordered.wanted, found).await {
                Ok(order) => {
                    self.order(actor, known, order, &mut ordered);
                    // What is open for the same thing may be no use for it, as a mere download: then nothing would come of this,
                    // again and again.
                    if !ordered.wanted.is_under_way(item) {
                        ordered.wanted.give_up(item);
                    }
                }
                Err(error) if only.is_some() || is_transient(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(terminal = %terminal.id, ?item, %error, "drift cannot be put right");
                    ordered.wanted.give_up(item);
                    ordered
                        .done
                        .push(json!({ "item": item, "given_up": error.to_string() }));
                }
            }
        }
        Ok(ordered)
    }

    /// Gives the terminal an order. One that goes for the same already is what it gets.
    fn order(&self, actor: &Actor, known: &CheckIn, order: Order, ordered: &mut Ordered) {
        let mut open = known.assignments.iter().map(|open| &open.record);
        if let Some(open) = open.find(|open| open.order.collides(&order)) {
            ordered.wanted.learn(open);
            ordered.done.push(json!({ "under_way": open.action }));
            ordered.actions.push(open.action);
            return;
        }
        ordered.last_action = ordered.last_action.saturating_add(1);
        let (id, action) = (known.terminal.record.id, ActionId(ordered.last_action));
        let what = match &order {
            Order::Parameters { set } => set.template.clone(),
            other => other.component().unwrap_or_default().to_owned(),
        };
        let kind = EventKind::Restored { action, what };
        let assignment = Assignment::new(id, action, order, self.clock.now(), actor.name());
        ordered.wanted.learn(&assignment);
        ordered.done.push(json!(kind));
        ordered.actions.push(action);
        ordered.changes.push(Change::Append(self.event(actor, Some(id), kind)));
        ordered.changes.push(Change::Put(Expect::Absent, assignment.into()));
    }

    /// What puts something right.
    async fn order_for(&self, known: &CheckIn, wanted: &Wanted, found: &DriftItem) -> Result<Order, EstateError> {
        let terminal = &known.terminal.record;
        let foreign = match wanted.find(&found.finding.item) {
            Some(want) => want.target.digest.is_none(),
            None => true,
        };
        match &found.finding.item {
            // Who would remove a set? It has no use without its application.
            Item::Parameters(_) if foreign => Err(EstateError::Invalid("parameter set", "is nothing that was brought")),
            Item::Parameters(name) => {
                let set = self.parameters().prepare(terminal.id, name, None).await?;
                Ok(Order::Parameters { set: Box::new(set) })
            }
            Item::Component(component) if foreign => Ok(Order::Remove {
                component: component.clone(),
            }),
            item @ Item::Component(_) => {
                let manifest = wanted.find(item).and_then(|want| want.manifest);
                let manifest = manifest.ok_or(EstateError::Invalid("component", "came with no package"))?;
                let package = self.package(&manifest).await?.record;
                demand_released(&package)?;
                check_target(&package, terminal)?;
                self.demand_fit(&package, terminal.id, &known.assignments).await?;
                Ok(Order::Install {
                    package: representation::fitting(package.package, terminal),
                })
            }
        }
    }
}

/// Whether the same may go well later.
const fn is_transient(error: &EstateError) -> bool {
    match error {
        EstateError::Store(_) => true,
        EstateError::Parameters(error) => error.is_transient(),
        _ => false,
    }
}
