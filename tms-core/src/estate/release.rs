//! Releases: which packages may be queued, which must not be skipped, and which a terminal can take now.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::rollup::put;
use super::{Estate, EstateError, decided, list};
use crate::rule::release::{ReleaseOperation, ReleaseState};
use crate::rule::task::conflict::{Floor, floor};
use crate::store::{
    Assignment, BranchPath, Change, Entity, EventKind, Expect, Key, Kind, Package, Query, Record, Store, StoreError,
    TerminalId, Versioned,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tms_proto::digest::Digest;
use tms_proto::message::Inventory;

/// The most floors of one component.
const MAX_FLOORS: u32 = 256;

/// By what a package is found: its content, and its component.
#[derive(Serialize, Deserialize)]
pub(super) struct Release {
    pub(super) manifest: Digest,
    content: Digest,
    order: u64,
}

/// A floor, and what of.
#[derive(Serialize, Deserialize)]
struct FloorRecord {
    vendor: String,
    component: String,
    floor: Floor,
}

/// How an estate releases packages.
#[derive(Default, Serialize, Deserialize)]
struct ReleaseRule {
    approval: bool,
}

/// That a package is offered to nobody any more: servers keep these in mind.
#[derive(Serialize, Deserialize)]
pub(crate) struct Withdrawn {
    pub(crate) manifest: Digest,
}

/// Why a package does not fit a terminal now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A release lies between that must not be skipped.
    #[error("package {manifest} must be installed first: {reason}")]
    Floor {
        /// It.
        manifest: Digest,
        /// Why it must not be skipped.
        reason: String,
    },
    /// What is installed is too old to go to it.
    #[error("release {installed} is installed, and it takes {least} at least")]
    TooOld {
        /// What is installed, in the order of releases.
        installed: u64,
        /// What it takes.
        least: u64,
    },
    /// Another component is not there, or too old.
    #[error("it needs release {order} of {component} or a later one")]
    Needs {
        /// The component.
        component: String,
        /// Its least release.
        order: u64,
    },
}

impl Entity for Release {
    const KIND: Kind = Kind::named("release");

    fn id(&self) -> String {
        self.manifest.to_string()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![("content", self.content.to_string())]
    }
}

impl Entity for FloorRecord {
    const KIND: Kind = Kind::named("floor");

    fn id(&self) -> String {
        format!("{}{:020}", floors_of(&self.vendor, &self.component), self.floor.order)
    }
}

impl Entity for ReleaseRule {
    const KIND: Kind = Kind::named("release_rule");

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}

impl ReleaseRule {
    const ID: &'static str = "estate";
}

impl Entity for Withdrawn {
    const KIND: Kind = Kind::named("withdrawn");

    fn id(&self) -> String {
        self.manifest.to_string()
    }
}

impl Release {
    pub(super) fn of(package: &Package) -> Self {
        Self {
            manifest: package.package.manifest,
            content: package.package.content,
            order: package.order,
        }
    }
}

impl Estate {
    /// Changes a package's release state, as [`ReleaseState::after`] says. A withdrawn package is offered to nobody any more,
    /// some seconds later; what a terminal has begun to install it goes on with.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::UnknownPackage`]; [`EstateError::State`] where its state does not allow that;
    /// [`EstateError::SecondOperator`] where the actor took in what they approve; [`EstateError::InUse`] where a floor is
    /// withdrawn.
    pub async fn change_release(
        &self,
        actor: &Actor,
        manifest: &Digest,
        operation: ReleaseOperation,
    ) -> Result<ReleaseState, EstateError> {
        let branch = BranchPath::head_office();
        actor.demand(Permission::Publish, &branch)?;
        decided(|| async {
            let Versioned { version, mut record } = self.package(manifest).await?;
            let approval = self.release_approval().await?;
            let before = record.state;
            let Some(state) = before.after(operation, approval) else {
                return Err(EstateError::State(
                    manifest.to_string(),
                    before.name(),
                    operation.name(),
                ));
            };
            if operation == ReleaseOperation::Approve && actor.name() == record.actor {
                return Err(EstateError::SecondOperator);
            }
            let mut changes = Vec::new();
            let withdrawn = Withdrawn { manifest: *manifest };
            match operation {
                ReleaseOperation::Withdraw => {
                    let floors = self.floors(&record.vendor, &record.package.component).await?;
                    if floors.iter().any(|floor| floor.manifest == *manifest) {
                        return Err(EstateError::InUse(manifest.to_string(), "a floor on it"));
                    }
                    changes.push(put(None, &withdrawn)?);
                }
                ReleaseOperation::Reopen => {
                    let key = Key::Document(Withdrawn::KIND, withdrawn.id());
                    changes.push(Change::Remove(Expect::Any, key));
                }
                ReleaseOperation::Approve => record.approver = Some(actor.name().to_owned()),
                ReleaseOperation::Release => {}
            }
            if state == ReleaseState::Draft {
                record.approver = None;
            }
            record.state = state;
            changes.push(Change::Put(Expect::Version(version), record.into()));
            let kind = EventKind::ReleaseChanged {
                manifest: *manifest,
                state,
            };
            changes.push(Change::Append(self.event(actor, None, kind)));
            let deed = Deed {
                act: "package.release",
                subject: manifest.to_string(),
                branch: branch.clone(),
                detail: json!({ "operation": operation, "before": before, "after": state }),
            };
            self.commit(actor, &deed, changes).await?;
            Ok(state)
        })
        .await
    }

    /// Whether releases need another operator's approval. It is changed by [`Act::ChangeApproval`](super::Act::ChangeApproval).
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn release_approval(&self) -> Result<bool, EstateError> {
        let rule = self.versioned::<ReleaseRule>(ReleaseRule::ID).await?;
        Ok(rule.is_some_and(|rule| rule.record.approval))
    }

    pub(super) async fn approval_changes(&self, approval: bool) -> Result<Vec<Change>, StoreError> {
        let rule = self.versioned::<ReleaseRule>(ReleaseRule::ID).await?;
        Ok(vec![put(rule.map(|rule| rule.version), &ReleaseRule { approval })?])
    }

    /// Makes a released package a floor: terminals with an older release of its component get it before any later one.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::UnknownPackage`]; [`EstateError::NotReleased`]; [`EstateError::There`];
    /// [`EstateError::Invalid`] where the reason is none, or the component has 256 floors.
    pub async fn put_floor(&self, actor: &Actor, manifest: &Digest, reason: &str) -> Result<(), EstateError> {
        let branch = BranchPath::head_office();
        actor.demand(Permission::Publish, &branch)?;
        super::branch::text("reason", reason, 200)?;
        decided(|| async {
            let Versioned { version, record } = self.package(manifest).await?;
            demand_released(&record)?;
            let there = self.floors(&record.vendor, &record.package.component).await?.len();
            if u32::try_from(there).is_ok_and(|there| there >= MAX_FLOORS) {
                return Err(EstateError::Invalid("floors", "are 256 of this component already"));
            }
            let floor = FloorRecord {
                vendor: record.vendor.clone(),
                component: record.package.component.clone(),
                floor: Floor {
                    order: record.order,
                    manifest: *manifest,
                    reason: reason.to_owned(),
                },
            };
            if self.versioned::<FloorRecord>(&floor.id()).await?.is_some() {
                return Err(EstateError::There("floor", manifest.to_string()));
            }
            let deed = Deed {
                act: "floor.put",
                subject: manifest.to_string(),
                branch: branch.clone(),
                detail: json!({ "floor": floor.floor }),
            };
            // the package is written so that it cannot be withdrawn meanwhile
            let changes = vec![put(None, &floor)?, Change::Put(Expect::Version(version), record.into())];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// Takes a floor away.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::UnknownPackage`]; [`EstateError::Unknown`].
    pub async fn remove_floor(&self, actor: &Actor, manifest: &Digest) -> Result<(), EstateError> {
        let branch = BranchPath::head_office();
        actor.demand(Permission::Publish, &branch)?;
        let package = self.package(manifest).await?.record;
        let id = format!(
            "{}{:020}",
            floors_of(&package.vendor, &package.package.component),
            package.order
        );
        let found = self.versioned::<FloorRecord>(&id).await?;
        let found = found.filter(|found| found.record.floor.manifest == *manifest);
        let Some(found) = found else {
            return Err(EstateError::Unknown("floor", manifest.to_string()));
        };
        let deed = Deed {
            act: "floor.remove",
            subject: manifest.to_string(),
            branch,
            detail: json!({ "floor": found.record.floor }),
        };
        let key = Key::Document(FloorRecord::KIND, id);
        let change = Change::Remove(Expect::Version(found.version), key);
        Ok(self.commit(actor, &deed, vec![change]).await?)
    }

    /// The floors of a vendor's component, the lowest first.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn floors(&self, vendor: &str, component: &str) -> Result<Vec<Floor>, EstateError> {
        Ok(floors(&*self.store, vendor, component).await?)
    }

    /// What a terminal gets that has this release of a package's component installed and is to come to `target`: the target
    /// itself, or the floor before it.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn next_release(&self, target: &Package, installed: Option<u64>) -> Result<Digest, EstateError> {
        let floors = self.floors(&target.vendor, &target.package.component).await?;
        let next = floor(installed, target.order, &floors);
        Ok(next.map_or(target.package.manifest, |floor| floor.manifest))
    }

    /// Which release of a component runs on a terminal, in the order of releases, as far as it is known: of what was published
    /// here.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn installed(&self, terminal: TerminalId, component: &str) -> Result<Option<u64>, EstateError> {
        match self.inventory_of(terminal).await? {
            Some(inventory) => Ok(order_of(&*self.store, &inventory, component).await?),
            None => Ok(None),
        }
    }

    /// Demands that a package fits a terminal now, as far as is known: what is not known the terminal itself decides.
    pub(super) async fn demand_fit(
        &self,
        package: &Package,
        terminal: TerminalId,
        open: &[Versioned<Assignment>],
    ) -> Result<(), EstateError> {
        let floors = self.floors(&package.vendor, &package.package.component).await?;
        if floors.is_empty() && package.min_from.is_none() && package.dependencies.is_empty() {
            return Ok(());
        }
        let Some(inventory) = self.inventory_of(terminal).await? else {
            return Ok(());
        };
        let installed = order_of(&*self.store, &inventory, &package.package.component).await?;
        if let Some(floor) = floor(installed, package.order, &floors) {
            return Err(Unfit::Floor {
                manifest: floor.manifest,
                reason: floor.reason.clone(),
            }
            .into());
        }
        if let (Some(installed), Some(least)) = (installed, package.min_from)
            && installed < least
        {
            return Err(Unfit::TooOld { installed, least }.into());
        }
        for needed in &package.dependencies {
            let queued = open
                .iter()
                .any(|open| open.record.order.component() == Some(&needed.component));
            let there = inventory.components.iter().any(|there| there.id == needed.component);
            let known = order_of(&*self.store, &inventory, &needed.component).await?;
            // what runs and was not published here may be new enough
            let fits = queued || known.map_or(there, |order| order >= needed.order);
            if !fits {
                return Err(Unfit::Needs {
                    component: needed.component.clone(),
                    order: needed.order,
                }
                .into());
            }
        }
        Ok(())
    }

    async fn inventory_of(&self, terminal: TerminalId) -> Result<Option<Inventory>, StoreError> {
        let found = self.store.get(&Key::Inventory(terminal)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Inventory(record) => Some(record.inventory),
            _ => None,
        }))
    }
}

/// The floors of a vendor's component, the lowest first.
pub(crate) async fn floors(store: &dyn Store, vendor: &str, component: &str) -> Result<Vec<Floor>, StoreError> {
    let query = Query::Documents {
        kind: FloorRecord::KIND,
        prefix: floors_of(vendor, component),
        after: None,
    };
    let found = list::<FloorRecord>(store, &query, MAX_FLOORS).await?;
    Ok(found.into_iter().map(|found| found.record.floor).collect())
}

/// Which release of a component an inventory has, in the order of releases, as far as it is known.
pub(crate) async fn order_of(
    store: &dyn Store,
    inventory: &Inventory,
    component: &str,
) -> Result<Option<u64>, StoreError> {
    let running = inventory.components.iter().find(|running| running.id == component);
    let Some(content) = running.and_then(|running| running.digest) else {
        return Ok(None);
    };
    let query = Query::Marked {
        kind: Release::KIND,
        mark: "content".to_owned(),
        prefix: content.to_string(),
        after: None,
    };
    // a content that was published twice is what it is in the lower release: nothing is skipped
    let found = list::<Release>(store, &query, 16).await?;
    Ok(found.into_iter().map(|release| release.record.order).min())
}

/// Only what is released is queued.
pub(super) fn demand_released(package: &Package) -> Result<(), EstateError> {
    if package.state == ReleaseState::Released {
        return Ok(());
    }
    let name = package.package.manifest.to_string();
    Err(EstateError::NotReleased(name, package.state.name()))
}

/// How the ids of a component's floors begin: a name has no line feed.
fn floors_of(vendor: &str, component: &str) -> String {
    format!("{vendor}\n{component}\n")
}
