//! What operators do about drift: accept what a terminal has, or have it put right.

use super::super::access::{Actor, Permission};
use super::super::audit::Deed;
use super::super::{ATTEMPTS, Estate, EstateError};
use super::record::{Drift, DriftItem, Wanted};
use crate::rule::drift::{Class, Item};
use crate::store::{ActionId, BranchPath, Caller, Entity, Query, StoreError, TerminalId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use tms_proto::digest::Digest;

/// The most terminals that are looked at in one go.
const MAX_PAGE: u32 = 200;

/// How something is put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The package is queued again, as this action.
    Queued(ActionId),
    /// This parameter set is to be brought: it is marked as wanted, and whoever plans has to render and bring it.
    Parameters {
        /// Its name, and that of the template.
        name: String,
        /// What it shall be, as far as that is known: what is rendered now may be newer.
        digest: Option<Digest>,
    },
    /// This component is to be removed: it is marked as wanted, and whoever plans has to do it.
    Removal {
        /// The component.
        component: String,
    },
}

/// Something that is to be brought to a terminal or removed from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToBring {
    /// The terminal.
    pub terminal: TerminalId,
    /// What.
    pub item: Item,
    /// How.
    pub remedy: Remedy,
}

impl Estate {
    /// What of a terminal is not as it shall be.
    ///
    /// # Errors
    /// [`EstateError::UnknownTerminal`], also where the actor may not see it.
    pub async fn drift_of(&self, actor: &Actor, terminal: &Caller) -> Result<Option<Drift>, EstateError> {
        let id = self.seen_terminal(actor, terminal).await?;
        let found = self.versioned::<Drift>(&id.to_string()).await?;
        Ok(found.map(|found| found.record))
    }

    /// What the terminal has is right from now on.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not plan for the terminal; [`EstateError::Unknown`] where there is no such
    /// difference.
    pub async fn accept_drift(&self, actor: &Actor, terminal: &Caller, item: &Item) -> Result<(), EstateError> {
        for _ in 0..ATTEMPTS {
            let (id, branch, found) = self.difference_of(actor, terminal, item).await?;
            let Some(case) = self.drift_case(id).await? else {
                return Err(EstateError::UnknownTerminal(id.to_string()));
            };
            let stored = case.wanted.as_ref().map(|wanted| wanted.record.clone());
            let mut wanted = stored.unwrap_or_else(|| Wanted::new(id));
            wanted.accept(&found.finding, ActionId(case.terminal.last_action));
            let mut common = self.common().await?;
            let changes = self.settle(case, wanted, &BTreeSet::new(), &mut common).await?;
            let deed = Deed {
                act: "drift.accept",
                subject: id.to_string(),
                branch,
                detail: json!({ "finding": found.finding }),
            };
            match self.commit(actor, &deed, changes).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Has a terminal put right, and says how. A package is queued again; what else is to be brought is marked as wanted, and
    /// [`drift_to_bring`](Self::drift_to_bring) lists it until it is there.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not plan for the terminal; [`EstateError::Unknown`] where there is no such
    /// difference; [`EstateError::Invalid`] where it is not known how to put it right; those of [`queue`](Self::queue).
    pub async fn restore_drift(&self, actor: &Actor, terminal: &Caller, item: &Item) -> Result<Remedy, EstateError> {
        for _ in 0..ATTEMPTS {
            let (id, branch, found) = self.difference_of(actor, terminal, item).await?;
            let Some(case) = self.drift_case(id).await? else {
                return Err(EstateError::UnknownTerminal(id.to_string()));
            };
            let wanted = case.wanted.as_ref().map(|wanted| wanted.record.clone());
            let wanted = wanted.unwrap_or_else(|| Wanted::new(id));
            let remedy = match remedy(&wanted, &found) {
                Some(Remedy::Queued(_)) => return self.queued_again(actor, id, &wanted, item).await,
                Some(remedy) => remedy,
                None => {
                    return Err(EstateError::Invalid(
                        "item",
                        "cannot be restored: nothing is known that would bring it",
                    ));
                }
            };
            let asked = [item.clone()].into();
            let mut common = self.common().await?;
            let changes = self.settle(case, wanted, &asked, &mut common).await?;
            let deed = Deed {
                act: "drift.restore",
                subject: id.to_string(),
                branch,
                detail: json!({ "finding": found.finding, "remedy": remedy }),
            };
            match self.commit(actor, &deed, changes).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|()| remedy)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Follows the policy, for at most `limit` and at most 200 terminals under `under` after this one in which something is to
    /// be put right: packages are queued again, and what else is to be brought is given. Terminals that cannot take a package
    /// any more are passed over. Said again, it does nothing twice.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not plan in `under`.
    pub async fn drift_to_bring(
        &self,
        actor: &Actor,
        under: &BranchPath,
        after: Option<&Drift>,
        limit: u32,
    ) -> Result<(Vec<ToBring>, Option<Drift>), EstateError> {
        actor.demand(Permission::Plan, under)?;
        let limit = limit.min(MAX_PAGE);
        let query = Query::Marked {
            kind: Drift::KIND,
            mark: Drift::RESTORE.to_owned(),
            prefix: under.to_string(),
            after: after.map(|drift| (drift.branch.to_string(), drift.id())),
        };
        let page: Vec<Drift> = self.documents(&query, limit).await?;
        let full = u32::try_from(page.len()).is_ok_and(|found| found >= limit);
        let mut bring = Vec::new();
        for drift in &page {
            let id = drift.terminal;
            let Some(wanted) = self.versioned::<Wanted>(&id.to_string()).await? else {
                continue;
            };
            let wanted = wanted.record;
            for found in drift.items.iter().filter(|item| item.is_restored()) {
                let item = &found.finding.item;
                let remedy = match remedy(&wanted, found) {
                    Some(Remedy::Queued(_)) => match self.queued_again(actor, id, &wanted, item).await {
                        Ok(remedy) => remedy,
                        Err(EstateError::Store(error)) => return Err(error.into()),
                        Err(_) => continue,
                    },
                    Some(remedy) => remedy,
                    None => continue,
                };
                bring.push(ToBring {
                    terminal: id,
                    item: item.clone(),
                    remedy,
                });
            }
        }
        let last = page.into_iter().last().filter(|_| full);
        Ok((bring, last))
    }

    /// Queues the package of something again; one that is queued already is.
    async fn queued_again(
        &self,
        actor: &Actor,
        id: TerminalId,
        wanted: &Wanted,
        item: &Item,
    ) -> Result<Remedy, EstateError> {
        let manifest = wanted.find(item).and_then(|want| want.manifest);
        let manifest = manifest.ok_or(EstateError::Invalid("item", "came with no package"))?;
        match self.queue(actor, &Caller::Id(id), &manifest).await {
            Ok(action) => Ok(Remedy::Queued(action)),
            Err(EstateError::Queued(_, action)) => Ok(Remedy::Queued(ActionId(action))),
            Err(error) => Err(error),
        }
    }

    /// A difference that the actor may do something about.
    async fn difference_of(
        &self,
        actor: &Actor,
        terminal: &Caller,
        item: &Item,
    ) -> Result<(TerminalId, BranchPath, DriftItem), EstateError> {
        let id = self.seen_terminal(actor, terminal).await?;
        let branch = self.branch_of(id).await?;
        actor.demand(Permission::Plan, &branch)?;
        let drift = self.versioned::<Drift>(&id.to_string()).await?;
        let items = drift.into_iter().flat_map(|drift| drift.record.items);
        let found = items.into_iter().find(|found| found.finding.item == *item);
        let found = found.ok_or_else(|| EstateError::Unknown("difference of", named(item)))?;
        Ok((id, branch, found))
    }
}

/// How something can be put right; the action of a package is yet to come.
fn remedy(wanted: &Wanted, found: &DriftItem) -> Option<Remedy> {
    match &found.finding.item {
        Item::Component(component) if found.finding.class == Class::Foreign => Some(Remedy::Removal {
            component: component.clone(),
        }),
        item @ Item::Component(_) => {
            wanted.find(item)?.manifest?;
            Some(Remedy::Queued(ActionId::default()))
        }
        // Who would remove a set? It has no use without its application.
        Item::Parameters(_) if found.finding.class == Class::Foreign => None,
        item @ Item::Parameters(name) => Some(Remedy::Parameters {
            name: name.clone(),
            digest: wanted.find(item)?.target.digest,
        }),
    }
}

fn named(item: &Item) -> String {
    match item {
        Item::Component(name) | Item::Parameters(name) => name.clone(),
    }
}
