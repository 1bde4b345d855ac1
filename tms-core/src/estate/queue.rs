//! Assignments: a package is queued for a terminal, or withdrawn.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::release::demand_released;
use super::{ATTEMPTS, Estate, EstateError};
use crate::server::plan;
use crate::server::representation::decodes;
use crate::store::{ActionId, Assignment, Caller, Change, EventKind, Expect, Package, StoreError, Terminal, Versioned};
use serde_json::json;
use tms_proto::code::{ResultCode, Stage};
use tms_proto::digest::Digest;

impl Estate {
    /// Queues a package for a terminal: it gets it at its next check-in. Open actions for the same component give way.
    ///
    /// # Errors
    /// [`EstateError::UnknownTerminal`], [`EstateError::UnknownPackage`], [`EstateError::WrongTarget`],
    /// [`EstateError::Queued`], [`EstateError::NotReleased`], [`EstateError::Unfit`].
    pub async fn queue(&self, actor: &Actor, terminal: &Caller, manifest: &Digest) -> Result<ActionId, EstateError> {
        let package = self.package(manifest).await?.record;
        demand_released(&package)?;
        for _ in 0..ATTEMPTS {
            let known = self.known(terminal).await?;
            let Versioned {
                version,
                record: mut terminal,
            } = known.terminal;
            let branch = self.branch_of(terminal.id).await?;
            actor.demand(Permission::Plan, &branch)?;
            check_target(&package, &terminal)?;
            let waiting = known
                .assignments
                .iter()
                .find(|open| open.record.package.manifest == *manifest);
            if let Some(waiting) = waiting {
                return Err(EstateError::Queued(terminal.id, waiting.record.action.0));
            }
            self.demand_fit(&package, terminal.id, &known.assignments).await?;
            terminal.last_action = terminal.last_action.saturating_add(1);
            let action = ActionId(terminal.last_action);
            let mut changes = Vec::new();
            let rivals = known
                .assignments
                .iter()
                .filter(|open| open.record.package.component == package.package.component);
            for rival in rivals {
                changes.push(self.close(rival, Stage::Superseded, ResultCode::Duplicate));
            }
            let now = self.clock.now();
            let mut package = package.package.clone();
            // What is known not to fit needs no room in the assignment.
            let unknown = terminal.inventory.is_none();
            package
                .representations
                .retain(|representation| unknown || decodes(&terminal.decoding, representation));
            let assignment = Assignment {
                terminal: terminal.id,
                action,
                package,
                stage: Stage::Accepted,
                code: ResultCode::Success,
                attempt: 0,
                text: None,
                closed: false,
                whole: false,
                result: 0,
                created: now,
                updated: now,
                actor: actor.name().to_owned(),
            };
            let kind = EventKind::Queued {
                action,
                manifest: *manifest,
            };
            let deed = Deed {
                act: "action.queue",
                subject: terminal.id.to_string(),
                branch,
                detail: json!(kind),
            };
            changes.push(Change::Append(self.event(actor, Some(terminal.id), kind)));
            changes.push(Change::Put(Expect::Version(version), terminal.into()));
            changes.push(Change::Put(Expect::Absent, assignment.into()));
            match self.commit(actor, &deed, changes).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|()| action)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Withdraws an open action. A terminal that has installed it by then says so, and that truth stands.
    ///
    /// # Errors
    /// [`EstateError::UnknownTerminal`], [`EstateError::UnknownAction`].
    pub async fn cancel(&self, actor: &Actor, terminal: &Caller, action: ActionId) -> Result<(), EstateError> {
        for _ in 0..ATTEMPTS {
            let known = self.known(terminal).await?;
            let id = known.terminal.record.id;
            let branch = self.branch_of(id).await?;
            actor.demand(Permission::Plan, &branch)?;
            let Some(open) = known.assignments.iter().find(|open| open.record.action == action) else {
                return Err(EstateError::UnknownAction(id, action.0));
            };
            let kind = EventKind::Cancelled { action };
            let deed = Deed {
                act: "action.cancel",
                subject: id.to_string(),
                branch,
                detail: json!(kind),
            };
            let event = self.event(actor, Some(id), kind);
            let changes = vec![
                self.close(open, Stage::Cancelled, ResultCode::Success),
                Change::Append(event),
            ];
            match self.commit(actor, &deed, changes).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn close(&self, open: &Versioned<Assignment>, stage: Stage, code: ResultCode) -> Change {
        let closed = Assignment {
            stage,
            code,
            closed: true,
            updated: self.clock.now(),
            ..open.record.clone()
        };
        Change::Put(Expect::Version(open.version), closed.into())
    }
}

fn check_target(package: &Package, terminal: &Terminal) -> Result<(), EstateError> {
    if plan::fits(package, terminal) {
        return Ok(());
    }
    Err(EstateError::WrongTarget {
        vendor: package.vendor.clone(),
        models: package.models.join(", "),
        holder: terminal.holder.clone(),
    })
}
