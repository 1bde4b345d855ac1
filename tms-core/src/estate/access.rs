//! Who may do what, and where.

use crate::store::BranchPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use thiserror::Error;

/// One thing that an operator may be allowed to do, in a branch and those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Permission {
    /// See terminals, merchants, sites, tasks and reports.
    View,
    /// Take what may be seen out of the system, as a file.
    Export,
    /// Make and change branches, merchants and sites, and say what stands where.
    ManageOrganisation,
    /// Enrol terminals and renew their certificates.
    Enrol,
    /// Switch terminals off and on.
    ChangeState,
    /// Remove terminals. Takes two operators.
    Retire,
    /// Change what concerns terminals' keys. Takes two operators.
    ManageKeys,
    /// Change whose signatures packages need. Takes two operators.
    ManageTrust,
    /// Change where terminals call. Takes two operators.
    ManageAddresses,
    /// Publish packages.
    Publish,
    /// Plan tasks, and queue packages for single terminals.
    Plan,
    /// Write parameter templates, and what branches, models, merchants and terminals set.
    ManageParameters,
    /// Make and change operators and roles.
    ManageOperators,
    /// Read the audit log.
    Audit,
    /// Take in installation records of the business system.
    Install,
    /// Confirm installations, as their branch.
    ConfirmBranch,
    /// Confirm installations, as head office.
    ConfirmHeadOffice,
    /// Approve replacements of terminals.
    Replace,
    /// Work on cases, and approve moves of terminals.
    ManageCases,
    /// Write, approve and publish texts for terminals.
    ManageTexts,
}

impl Permission {
    /// All there are.
    pub const ALL: [Self; 20] = [
        Self::View,
        Self::Export,
        Self::ManageOrganisation,
        Self::Enrol,
        Self::ChangeState,
        Self::Retire,
        Self::ManageKeys,
        Self::ManageTrust,
        Self::ManageAddresses,
        Self::Publish,
        Self::Plan,
        Self::ManageParameters,
        Self::ManageOperators,
        Self::Audit,
        Self::Install,
        Self::ConfirmBranch,
        Self::ConfirmHeadOffice,
        Self::Replace,
        Self::ManageCases,
        Self::ManageTexts,
    ];

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Export => "export",
            Self::ManageOrganisation => "manage_organisation",
            Self::Enrol => "enrol",
            Self::ChangeState => "change_state",
            Self::Retire => "retire",
            Self::ManageKeys => "manage_keys",
            Self::ManageTrust => "manage_trust",
            Self::ManageAddresses => "manage_addresses",
            Self::Publish => "publish",
            Self::Plan => "plan",
            Self::ManageParameters => "manage_parameters",
            Self::ManageOperators => "manage_operators",
            Self::Audit => "audit",
            Self::Install => "install",
            Self::ConfirmBranch => "confirm_branch",
            Self::ConfirmHeadOffice => "confirm_head_office",
            Self::Replace => "replace",
            Self::ManageCases => "manage_cases",
            Self::ManageTexts => "manage_texts",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Permissions in a branch and those below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) branch: BranchPath,
    pub(super) permissions: BTreeSet<Permission>,
}

/// Who acts, as signing in has shown, and what they may do at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    name: String,
    scopes: Vec<Scope>,
}

/// An operator may not do this there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{operator} may not {permission} in {branch}")]
pub struct Denied {
    /// The operator.
    pub operator: String,
    /// What they lack.
    pub permission: Permission,
    /// Where.
    pub branch: BranchPath,
}

impl Actor {
    pub(super) const fn of(name: String, scopes: Vec<Scope>) -> Self {
        Self { name, scopes }
    }

    /// Who may do everything that one person can do: for programs that have decided by themselves who uses them, such as a
    /// tool on the machine that holds the database. The name stands in the audit log.
    #[must_use]
    pub fn trusted(name: impl Into<String>) -> Self {
        let everything = Scope {
            branch: BranchPath::head_office(),
            permissions: Permission::ALL.into(),
        };
        Self::of(name.into(), vec![everything])
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether they may do this in `branch`.
    #[must_use]
    pub fn may(&self, permission: Permission, branch: &BranchPath) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope.permissions.contains(&permission) && scope.branch.covers(branch))
    }

    /// Demands that they may.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn demand(&self, permission: Permission, branch: &BranchPath) -> Result<(), Denied> {
        if self.may(permission, branch) {
            return Ok(());
        }
        Err(Denied {
            operator: self.name.clone(),
            permission,
            branch: branch.clone(),
        })
    }

    /// The branches in which, with all below them, they may do this: none of them is below another.
    #[must_use]
    pub fn branches(&self, permission: Permission) -> Vec<BranchPath> {
        let mut all: Vec<_> = self
            .scopes
            .iter()
            .filter(|scope| scope.permissions.contains(&permission))
            .map(|scope| scope.branch.clone())
            .collect();
        // a branch is sorted before those below it
        all.sort();
        let mut top: Vec<BranchPath> = Vec::new();
        for branch in all {
            if !top.iter().any(|above| above.covers(&branch)) {
                top.push(branch);
            }
        }
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> BranchPath {
        text.parse().unwrap()
    }

    fn actor(scopes: &[(&str, &[Permission])]) -> Actor {
        let scopes = scopes.iter().map(|(branch, permissions)| Scope {
            branch: path(branch),
            permissions: permissions.iter().copied().collect(),
        });
        Actor::of("li".to_owned(), scopes.collect())
    }

    #[test]
    fn a_permission_holds_in_its_branch_and_below() {
        let actor = actor(&[
            ("/east", &[Permission::View]),
            ("/west/7", &[Permission::View, Permission::Plan]),
        ]);
        for (permission, branch, may) in [
            (Permission::View, "/east", true),
            (Permission::View, "/east/harbour", true),
            (Permission::View, "/east2", false),
            (Permission::View, "/", false),
            (Permission::View, "/west", false),
            (Permission::Plan, "/west/7", true),
            (Permission::Plan, "/east", false),
        ] {
            assert_eq!(actor.may(permission, &path(branch)), may, "{permission} {branch}");
        }
        let denied = actor.demand(Permission::Plan, &path("/east")).unwrap_err();
        assert_eq!(denied.to_string(), "li may not plan in /east/");
    }

    #[test]
    fn branches_are_named_once() {
        let view: &[_] = &[Permission::View];
        let actor = actor(&[
            ("/west", view),
            ("/east/harbour", view),
            ("/east", view),
            ("/east2", view),
        ]);
        assert_eq!(
            actor.branches(Permission::View),
            [path("/east"), path("/east2"), path("/west")]
        );
        assert_eq!(actor.branches(Permission::Audit), []);
        assert_eq!(
            Actor::trusted("root").branches(Permission::Audit),
            [BranchPath::head_office()]
        );
    }

    #[test]
    fn names_are_what_is_stored() {
        for permission in Permission::ALL {
            assert_eq!(serde_json::to_value(permission).unwrap(), permission.name());
        }
    }
}
