//! Assignments: a package is queued for a terminal, or withdrawn.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::release::demand_released;
use super::{Estate, EstateError, decided};
use crate::rule::task::assignment::Event as Move;
use crate::server::{plan, representation};
use crate::store::{
    ActionId, Assignment, Caller, Change, EventKind, Expect, Order, Package, PackageRef, Terminal, Versioned,
};
use crate::task::Ledger;
use serde_json::json;
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
        decided(|| async {
            let known = self.known(terminal).await?;
            let Versioned {
                version,
                record: mut terminal,
            } = known.terminal;
            let branch = self.branch_of(terminal.id).await?;
            actor.demand(Permission::Plan, &branch)?;
            check_target(&package, &terminal)?;
            let is_it = |package: &PackageRef| package.manifest == *manifest;
            let waiting = known
                .assignments
                .iter()
                .find(|open| open.record.order.package().is_some_and(is_it));
            if let Some(waiting) = waiting {
                return Err(EstateError::Queued(terminal.id, waiting.record.action.0));
            }
            self.demand_fit(&package, terminal.id, &known.assignments).await?;
            terminal.last_action = terminal.last_action.saturating_add(1);
            let action = ActionId(terminal.last_action);
            let mut changes = Vec::new();
            let now = self.clock.now();
            let mut ledger = Ledger::new(&*self.store, now);
            let rivals = known
                .assignments
                .iter()
                .filter(|open| open.record.order.component() == Some(&package.package.component));
            for rival in rivals {
                // What the terminal has begun to install runs to its end first.
                if let Ok(after) = rival.record.after(Move::Supersede { by: 0 }, now) {
                    ledger.moved(&after).await?;
                    changes.push(Change::Put(Expect::Version(rival.version), after.into()));
                }
            }
            changes.extend(ledger.changes()?);
            let order = Order::Install {
                package: representation::fitting(package.package.clone(), &terminal),
            };
            let assignment = Assignment::new(terminal.id, action, order, now, actor.name());
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
            self.commit(actor, &deed, changes).await?;
            Ok(action)
        })
        .await
    }

    /// Withdraws an open action. A terminal that has installed it by then says so, and that truth stands.
    ///
    /// # Errors
    /// [`EstateError::UnknownTerminal`], [`EstateError::UnknownAction`].
    pub async fn cancel(&self, actor: &Actor, terminal: &Caller, action: ActionId) -> Result<(), EstateError> {
        decided(|| async {
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
            let now = self.clock.now();
            let cancel = Move::Cancel {
                id: action.0,
                force: true,
            };
            let Ok(after) = open.record.after(cancel, now) else {
                return Err(EstateError::UnknownAction(id, action.0));
            };
            let mut ledger = Ledger::new(&*self.store, now);
            ledger.moved(&after).await?;
            let mut changes = ledger.changes()?;
            changes.push(Change::Put(Expect::Version(open.version), after.into()));
            changes.push(Change::Append(event));
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }
}

pub(super) fn check_target(package: &Package, terminal: &Terminal) -> Result<(), EstateError> {
    if plan::fits(package, terminal) {
        return Ok(());
    }
    Err(EstateError::WrongTarget {
        vendor: package.vendor.clone(),
        models: package.models.join(", "),
        holder: terminal.holder.clone(),
    })
}
