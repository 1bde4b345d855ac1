//! When terminals call, and where: policies for classes of terminals, and accesses with what they carry.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::within;
use super::rollup::put;
use super::{Estate, EstateError, decided};
use crate::rule::slot::Access;
use crate::server::contact::{AccessPoint, ClassPolicy, MOST};
use crate::store::{BranchPath, Caller, Change, Entity, Expect, Key, Query};
use serde_json::json;

/// The most addresses of an access.
const MAX_ADDRESSES: usize = 8;

impl Estate {
    /// Makes a check-in policy for a class of terminals, or changes it. Servers go by it some seconds later; terminals by
    /// their next check-in.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not plan in the branch of the class, before or after;
    /// [`EstateError::Unknown`] where there is no such branch or access; [`EstateError::UnknownTerminal`];
    /// [`EstateError::Policy`]; [`EstateError::Invalid`].
    pub async fn put_policy(&self, actor: &Actor, mut policy: ClassPolicy) -> Result<(), EstateError> {
        name(&policy.name)?;
        policy.policy.check()?;
        for text in [&policy.class.vendor, &policy.class.model, &policy.class.link] {
            text.as_ref()
                .map_or(Ok(()), |text| super::branch::text("class", text, 40))?;
        }
        if let Some(terminal) = policy.class.terminal {
            // the branch of a policy for one terminal is the terminal's
            self.known(&Caller::Id(terminal)).await?;
            policy.class.branch = self.branch_of(terminal).await?;
        }
        let branch = policy.class.branch.clone();
        actor.demand(Permission::Plan, &branch)?;
        self.demand_branch(&branch).await?;
        if let Some(access) = &policy.access {
            // accesses are never removed
            self.access(access).await?;
        }
        decided(|| async {
            let found = self.versioned::<ClassPolicy>(&policy.name).await?;
            if let Some(found) = &found {
                actor.demand(Permission::Plan, &found.record.class.branch)?;
            } else {
                self.demand_room::<ClassPolicy>("policies").await?;
            }
            let version = found.as_ref().map(|found| found.version);
            let changes = vec![put(version, &policy)?];
            let deed = Deed {
                act: "policy.put",
                subject: policy.name.clone(),
                branch: branch.clone(),
                detail: json!({ "before": found.map(|found| found.record), "after": policy }),
            };
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// Removes a check-in policy: its terminals go by another that covers them, or by the server's own.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`].
    pub async fn remove_policy(&self, actor: &Actor, name: &str) -> Result<(), EstateError> {
        decided(|| async {
            let found = self.versioned::<ClassPolicy>(name).await?;
            let found = found.filter(|found| actor.may(Permission::View, &found.record.class.branch));
            let Some(found) = found else {
                return Err(EstateError::Unknown("policy", name.to_owned()));
            };
            let branch = found.record.class.branch.clone();
            actor.demand(Permission::Plan, &branch)?;
            let deed = Deed {
                act: "policy.remove",
                subject: name.to_owned(),
                branch,
                detail: json!({ "before": found.record }),
            };
            let key = Key::Document(ClassPolicy::KIND, name.to_owned());
            let change = Change::Remove(Expect::Version(found.version), key);
            Ok(self.commit(actor, &deed, vec![change]).await?)
        })
        .await
    }

    /// The check-in policies of branches under `under` that the actor may see. There are at most 1,000 in an estate.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn policies(&self, actor: &Actor, under: &BranchPath) -> Result<Vec<ClassPolicy>, EstateError> {
        self.all_placed(actor, under).await
    }

    /// Makes an access, or changes what it carries: its lines, its rate, and how much of it is given out. Its addresses are
    /// changed by [`Act::ChangeAddress`](super::Act::ChangeAddress) alone, and stay as they are.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not plan in its branch, before or after; [`EstateError::Unknown`] where
    /// there is no such branch; [`EstateError::Invalid`].
    pub async fn put_access(
        &self,
        actor: &Actor,
        access: &str,
        branch: &BranchPath,
        capacity: Access,
    ) -> Result<AccessPoint, EstateError> {
        name(access)?;
        if capacity.ordinary > 1_000 || capacity.urgent > 1_000 || capacity.ordinary > capacity.urgent {
            return Err(EstateError::Invalid(
                "shares",
                "must be thousandths, and that of ordinary calls not above that of urgent ones",
            ));
        }
        if capacity.rate == 0 {
            return Err(EstateError::Invalid("rate", "must not be zero"));
        }
        actor.demand(Permission::Plan, branch)?;
        self.demand_branch(branch).await?;
        decided(|| async {
            let found = self.versioned::<AccessPoint>(access).await?;
            if let Some(found) = &found {
                actor.demand(Permission::Plan, &found.record.branch)?;
            } else {
                self.demand_room::<AccessPoint>("accesses").await?;
            }
            let point = AccessPoint {
                name: access.to_owned(),
                branch: branch.clone(),
                addresses: found
                    .as_ref()
                    .map_or_else(Vec::new, |found| found.record.addresses.clone()),
                capacity,
            };
            let change = put(found.as_ref().map(|found| found.version), &point)?;
            let deed = Deed {
                act: "access.put",
                subject: access.to_owned(),
                branch: branch.clone(),
                detail: json!({ "before": found.map(|found| found.record), "after": point }),
            };
            self.commit(actor, &deed, vec![change]).await?;
            Ok(point)
        })
        .await
    }

    /// The accesses of branches under `under` that the actor may see. There are at most 1,000 in an estate.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn accesses(&self, actor: &Actor, under: &BranchPath) -> Result<Vec<AccessPoint>, EstateError> {
        self.all_placed(actor, under).await
    }

    /// The entities whose mark `branch` lies where the actor may see it.
    async fn all_placed<E: Entity>(&self, actor: &Actor, under: &BranchPath) -> Result<Vec<E>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: E::KIND,
                mark: "branch".to_owned(),
                prefix: scope.to_string(),
                after: None,
            };
            found.extend(self.documents::<E>(&query, MOST).await?);
        }
        Ok(found)
    }

    /// Servers read all of them every few seconds: there are not to be too many.
    async fn demand_room<E: Entity>(&self, field: &'static str) -> Result<(), EstateError> {
        let query = Query::Documents {
            kind: E::KIND,
            prefix: String::new(),
            after: None,
        };
        let there = self.store.list(&query, MOST).await?.len();
        if u32::try_from(there).is_ok_and(|there| there < MOST) {
            return Ok(());
        }
        Err(EstateError::Invalid(field, "are 1,000 already"))
    }

    /// The access whose addresses an act changes.
    pub(super) async fn access(&self, name: &str) -> Result<(u64, AccessPoint), EstateError> {
        let found = self.versioned::<AccessPoint>(name).await?;
        let found = found.ok_or_else(|| EstateError::Unknown("access", name.to_owned()))?;
        Ok((found.version, found.record))
    }
}

/// Checks the addresses of an access: telephone numbers as a modem dials them, or `host:port`.
pub(super) fn check_addresses(addresses: &[String]) -> Result<(), EstateError> {
    if !(1..=MAX_ADDRESSES).contains(&addresses.len()) {
        return Err(EstateError::Invalid("addresses", "must be 1 to 8"));
    }
    let number = |text: &str| {
        (1..=32).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"+*#,".contains(&byte))
    };
    let endpoint = |text: &str| {
        text.len() <= 260
            && text.rsplit_once(':').is_some_and(|(host, port)| {
                let sound = |byte: u8| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte);
                !host.is_empty() && host.bytes().all(sound) && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
    };
    let twice = |(at, one): (usize, &String)| addresses.iter().take(at).any(|other| other == one);
    if !addresses.iter().all(|text| number(text) || endpoint(text)) || addresses.iter().enumerate().any(twice) {
        return Err(EstateError::Invalid(
            "address",
            "must be a telephone number or host:port, and none twice",
        ));
    }
    Ok(())
}

fn name(text: &str) -> Result<(), EstateError> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if (1..=40).contains(&text.len()) && text.bytes().all(sound) {
        return Ok(());
    }
    Err(EstateError::Invalid(
        "name",
        "must be 1 to 40 letters, digits, dots, dashes or underscores",
    ))
}
