//! The organisation: head office and branches as a tree, merchants, and the sites where terminals stand.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::{Estate, EstateError, decided};
use crate::store::{BranchPath, Change, Document, Entity, Expect, Key, Kind, Query, RosterFilter, Tally};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// A branch. Head office is there without being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Where it stands in the tree.
    pub path: BranchPath,
    /// What people call it.
    pub name: String,
    /// Its time zone, by its IANA name; else that of the branch above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Values for templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

/// A merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    /// Its number (ISO 8583 field 42): 1 to 15 characters.
    pub number: String,
    /// The branch that it belongs to.
    pub branch: BranchPath,
    /// Its name.
    pub name: String,
    /// Merchant category code (ISO 18245), where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Values for templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

/// A place where terminals of a merchant stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its id, unique in the estate: 1 to 40 characters.
    pub id: String,
    /// The merchant's number.
    pub merchant: String,
    /// The branch that it belongs to.
    pub branch: BranchPath,
    /// The address.
    pub address: String,
    /// Its time zone, by its IANA name; else the branch's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Entity for Branch {
    const KIND: Kind = Kind::named("branch");

    fn id(&self) -> String {
        self.path.to_string()
    }
}

impl Entity for Merchant {
    const KIND: Kind = Kind::named("merchant");

    fn id(&self) -> String {
        self.number.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![("branch", self.branch.to_string()), ("name", self.name.to_lowercase())]
    }
}

impl Entity for Site {
    const KIND: Kind = Kind::named("site");

    fn id(&self) -> String {
        self.id.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![("branch", self.branch.to_string()), ("merchant", self.merchant.clone())]
    }
}

impl Estate {
    /// Makes a branch, or changes its name, zone or variables.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`] where the branch above is not there; [`EstateError::Invalid`].
    pub async fn put_branch(&self, actor: &Actor, branch: Branch) -> Result<(), EstateError> {
        text("name", &branch.name, 80)?;
        // its own managers may change it, but only those above may make it
        decided(|| async {
            let before = self.entity::<Branch>(branch.path.as_str()).await?;
            let place = match (&before, branch.path.parent()) {
                (None, Some(above)) => above,
                _ => branch.path.clone(),
            };
            actor.demand(Permission::ManageOrganisation, &place)?;
            if let Some(above) = branch.path.parent() {
                self.demand_branch(&above).await?;
            }
            let (expect, before) = expected(before);
            let act = if before.is_some() {
                "branch.change"
            } else {
                "branch.create"
            };
            let deed = Deed {
                act,
                subject: branch.path.to_string(),
                branch: branch.path.clone(),
                detail: json!({ "before": before, "after": branch }),
            };
            let changes = vec![Change::Put(expect, Document::of(&branch)?.into())];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// Demands that a branch is there.
    pub(super) async fn demand_branch(&self, path: &BranchPath) -> Result<(), EstateError> {
        if *path == BranchPath::head_office() || self.entity::<Branch>(path.as_str()).await?.is_some() {
            return Ok(());
        }
        Err(EstateError::Unknown("branch", path.to_string()))
    }

    /// Removes a branch in which nothing is left.
    ///
    /// # Errors
    /// [`EstateError::InUse`] where there are branches below it, merchants, sites or terminals; [`EstateError::Denied`];
    /// [`EstateError::Unknown`].
    pub async fn remove_branch(&self, actor: &Actor, path: &BranchPath) -> Result<(), EstateError> {
        let place = path.parent().unwrap_or_else(BranchPath::head_office);
        actor.demand(Permission::ManageOrganisation, &place)?;
        let Some((version, before)) = self.entity::<Branch>(path.as_str()).await? else {
            return Err(EstateError::Unknown("branch", path.to_string()));
        };
        let in_use = |what| Err(EstateError::InUse(path.to_string(), what));
        let prefix = path.to_string();
        let below = Query::Documents {
            kind: Branch::KIND,
            prefix: prefix.clone(),
            after: Some(prefix.clone()),
        };
        if !self.store.list(&below, 1).await?.is_empty() {
            return in_use("branches");
        }
        for (kind, what) in [(Merchant::KIND, "merchants"), (Site::KIND, "sites")] {
            let marked = Query::Marked {
                kind,
                mark: "branch".to_owned(),
                prefix: prefix.clone(),
                after: None,
            };
            if !self.store.list(&marked, 1).await?.is_empty() {
                return in_use(what);
            }
        }
        let terminals = Query::Roster {
            filter: RosterFilter::under(path.clone()),
            after: None,
        };
        if !self.store.list(&terminals, 1).await?.is_empty() {
            return in_use("terminals");
        }
        let deed = Deed {
            act: "branch.remove",
            subject: prefix.clone(),
            branch: place,
            detail: json!({ "before": before }),
        };
        let change = Change::Remove(Expect::Version(version), Key::Document(Branch::KIND, prefix));
        Ok(self.commit(actor, &deed, vec![change]).await?)
    }

    /// The branches that the actor may see, under `under`, in the order of their paths; those after `after`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn branches(
        &self,
        actor: &Actor,
        under: &BranchPath,
        after: Option<BranchPath>,
        limit: u32,
    ) -> Result<Vec<Branch>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            let query = Query::Documents {
                kind: Branch::KIND,
                prefix: scope.to_string(),
                after: after.as_ref().map(BranchPath::to_string),
            };
            found.extend(self.documents::<Branch>(&query, left).await?);
        }
        Ok(found)
    }

    /// Makes a merchant or changes it. To move it to another branch takes the right to manage both.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`] where its branch is not there; [`EstateError::Invalid`].
    pub async fn put_merchant(&self, actor: &Actor, merchant: Merchant) -> Result<(), EstateError> {
        text("number", &merchant.number, 15)?;
        text("name", &merchant.name, 80)?;
        if merchant
            .category
            .as_ref()
            .is_some_and(|code| code.len() != 4 || !code.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(EstateError::Invalid("category", "must be 4 digits"));
        }
        self.put_placed(
            actor,
            &merchant,
            &merchant.branch,
            |before| before.branch.clone(),
            "merchant",
        )
        .await
    }

    /// Makes a site or changes it.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`] where its branch or merchant is not there; [`EstateError::Invalid`].
    pub async fn put_site(&self, actor: &Actor, site: Site) -> Result<(), EstateError> {
        text("id", &site.id, 40)?;
        text("address", &site.address, 200)?;
        if self.entity::<Merchant>(&site.merchant).await?.is_none() {
            return Err(EstateError::Unknown("merchant", site.merchant));
        }
        self.put_placed(actor, &site, &site.branch, |before| before.branch.clone(), "site")
            .await
    }

    async fn put_placed<E: Entity + Send + Sync>(
        &self,
        actor: &Actor,
        entity: &E,
        branch: &BranchPath,
        branch_of: impl Fn(&E) -> BranchPath + Send + Sync,
        what: &'static str,
    ) -> Result<(), EstateError> {
        actor.demand(Permission::ManageOrganisation, branch)?;
        self.demand_branch(branch).await?;
        decided(|| async {
            let before = self.entity::<E>(&entity.id()).await?;
            if let Some((_, before)) = &before {
                actor.demand(Permission::ManageOrganisation, &branch_of(before))?;
            }
            let (expect, before) = expected(before);
            let deed = Deed {
                act: match (what, before.is_some()) {
                    ("merchant", false) => "merchant.create",
                    ("merchant", true) => "merchant.change",
                    (_, false) => "site.create",
                    (_, true) => "site.change",
                },
                subject: entity.id(),
                branch: branch.clone(),
                detail: json!({ "before": before, "after": entity }),
            };
            let changes = vec![Change::Put(expect, Document::of(entity)?.into())];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// A merchant that the actor may see.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none, or none that they may see: the difference is not told.
    pub async fn merchant(&self, actor: &Actor, number: &str) -> Result<Merchant, EstateError> {
        match self.entity::<Merchant>(number).await? {
            Some((_, merchant)) if actor.may(Permission::View, &merchant.branch) => Ok(merchant),
            _ => Err(EstateError::Unknown("merchant", number.to_owned())),
        }
    }

    /// How many merchants each branch under `under` has, of those that the actor may see.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn count_merchants(
        &self,
        actor: &Actor,
        under: &BranchPath,
    ) -> Result<BTreeMap<BranchPath, u64>, EstateError> {
        let mut counts = BTreeMap::new();
        for scope in within(actor, Permission::View, under) {
            let tally = Tally::Marked {
                kind: Merchant::KIND,
                mark: "branch".to_owned(),
                prefix: scope.to_string(),
            };
            for group in self.store.tally(&tally, u32::MAX).await? {
                if let Some(Ok(branch)) = group.names.first().map(|name| name.parse()) {
                    counts.insert(branch, group.count);
                }
            }
        }
        Ok(counts)
    }
}

/// The branches under `under` in which, with all below them, the actor may do this.
pub(super) fn within(actor: &Actor, permission: Permission, under: &BranchPath) -> Vec<BranchPath> {
    if actor.may(permission, under) {
        return vec![under.clone()];
    }
    let mut branches = actor.branches(permission);
    branches.retain(|branch| under.covers(branch));
    branches
}

/// What a commit expects of a record that was read, and the record.
pub(super) fn expected<E>(found: Option<(u64, E)>) -> (Expect, Option<E>) {
    match found {
        Some((version, record)) => (Expect::Version(version), Some(record)),
        None => (Expect::Absent, None),
    }
}

/// Checks a text that people write.
pub(super) fn text(field: &'static str, text: &str, longest: usize) -> Result<(), EstateError> {
    if text.trim().is_empty() || text.chars().count() > longest || text.chars().any(char::is_control) {
        return Err(EstateError::Invalid(
            field,
            "must be printable, not empty, and not too long",
        ));
    }
    Ok(())
}
