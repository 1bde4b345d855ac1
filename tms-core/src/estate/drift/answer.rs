//! What operators do about drift: accept what a terminal has, or have it put right.

use super::super::access::{Actor, Permission};
use super::super::audit::Deed;
use super::super::{Estate, EstateError, decided};
use super::record::{Drift, DriftItem, Wanted};
use crate::rule::drift::Item;
use crate::store::{ActionId, BranchPath, Caller, TerminalId};
use serde_json::json;
use std::collections::BTreeSet;

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
        decided(|| async {
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
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// Has a terminal put right, whatever the policy says: its package or its parameter set is brought, or what nobody asked for
    /// is removed, by this action.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not plan for the terminal; [`EstateError::Unknown`] where there is no such
    /// difference; [`EstateError::Invalid`] where it is not known how to put it right; [`EstateError::Parameters`]; those of
    /// [`queue`](Self::queue).
    pub async fn restore_drift(&self, actor: &Actor, terminal: &Caller, item: &Item) -> Result<ActionId, EstateError> {
        let (id, ..) = self.difference_of(actor, terminal, item).await?;
        let ordered = self.put_right(actor, id, Some(item)).await?;
        let unknown = || EstateError::Unknown("difference of", named(item));
        ordered.into_iter().next().ok_or_else(unknown)
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

fn named(item: &Item) -> String {
    match item {
        Item::Component(name) | Item::Parameters(name) => name.clone(),
    }
}
