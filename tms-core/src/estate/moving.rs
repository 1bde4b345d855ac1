//! Moves: a terminal that goes from one branch to another.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::text;
use super::install::relisted;
use super::{Binding, Estate, EstateError, Relation, decided};
use crate::store::{BranchPath, Caller, Change, Entity, EventKind, Query};
use serde_json::json;

impl Estate {
    /// Moves a terminal to another branch. Tasks in which it is go on with it, and cases stay with the branch in which they were
    /// opened. One that is there already is left alone.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not manage both branches; [`EstateError::UnknownTerminal`];
    /// [`EstateError::Unknown`] where the branch is not there; [`EstateError::InUse`] while a logical terminal runs on it:
    /// that belongs to a merchant of the branch, and goes by a replacement or by ending its binding; [`EstateError::Invalid`].
    pub async fn move_terminal(
        &self,
        actor: &Actor,
        terminal: &Caller,
        to: &BranchPath,
        reason: &str,
    ) -> Result<(), EstateError> {
        text("reason", reason, 200)?;
        self.demand_branch(to).await?;
        actor.demand(Permission::ManageOrganisation, to)?;
        decided(|| async {
            let id = self.known(terminal).await?.terminal.record.id;
            let from = self.branch_of(id).await?;
            actor.demand(Permission::ManageOrganisation, &from)?;
            if from == *to {
                return Ok(());
            }
            let bound = Query::Marked {
                kind: Binding::KIND,
                mark: Binding::HOLDS.to_owned(),
                prefix: Binding::object_mark(Relation::Device, &id.to_string()),
                after: None,
            };
            if !self.store.list(&bound, 1).await?.is_empty() {
                return Err(EstateError::InUse(id.to_string(), "a logical terminal"));
            }
            // What stands at no merchant's belongs to none.
            let Some(listed) = relisted(&*self.store, id, to, None).await? else {
                return Err(EstateError::UnknownTerminal(id.to_string()));
            };
            let moved = EventKind::Moved {
                from: from.clone(),
                to: to.clone(),
            };
            let deed = Deed {
                act: "terminal.move",
                subject: id.to_string(),
                branch: from.clone(),
                detail: json!({ "from": from, "to": to, "reason": reason }),
            };
            let changes = vec![listed, Change::Append(self.event(actor, Some(id), moved))];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }
}
