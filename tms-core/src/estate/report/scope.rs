//! Whose reports they are.

use super::super::access::{Actor, Permission};
use super::super::branch::within;
use super::super::expiry::day_of;
use super::super::rollup::RollUp;
use super::super::{AsOf, EstateError};
use crate::clock::Clock;
use crate::store::{BranchPath, Day, Store};
use std::sync::Arc;

/// The reports of an operator: of branches in which they may see what is told. The others are as if they were not there, in
/// rows as in numbers.
#[derive(Clone)]
pub struct Reports<'a> {
    pub(super) store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    actor: &'a Actor,
    permission: Permission,
}

impl<'a> Reports<'a> {
    /// The reports that `actor` may see, from this store. No trust in packages' signers is needed for them.
    #[must_use]
    pub const fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, actor: &'a Actor) -> Self {
        Self {
            store,
            clock,
            actor,
            permission: Permission::View,
        }
    }

    /// The same, to be taken out of the system as a file: of the branches of which the actor may take it.
    #[must_use]
    pub fn exported(self) -> Self {
        Self {
            permission: Permission::Export,
            ..self
        }
    }

    /// The day by the server's clock (UTC).
    #[must_use]
    pub fn today(&self) -> Day {
        day_of(self.clock.now())
    }

    /// The first day of a period of `days` days that ends today.
    #[must_use]
    pub fn since(&self, days: u32) -> Day {
        self.today().saturating_sub(days.saturating_sub(1))
    }

    /// As of when roster and counts are.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn as_of(&self) -> Result<AsOf, EstateError> {
        RollUp::new(Arc::clone(&self.store)).as_of().await
    }

    /// The branches under `under` that are told of, each with all below it: in the order of their paths, none below another.
    pub(super) fn scopes(&self, under: &BranchPath) -> Vec<BranchPath> {
        within(self.actor, self.permission, under)
    }

    /// The same, from where a page that ended in `branch` goes on; the first of them is perhaps not whole.
    pub(super) fn scopes_from(&self, under: &BranchPath, branch: Option<&BranchPath>) -> Vec<BranchPath> {
        let mut scopes = self.scopes(under);
        if let Some(branch) = branch {
            scopes.retain(|scope| scope.covers(branch) || scope > branch);
        }
        scopes
    }
}
