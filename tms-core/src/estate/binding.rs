//! What belongs to what: a device is not a logical terminal, which is not a merchant, which is not a site. Each of these is bound
//! to another for a time, and the times are kept.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::text;
use super::rollup::put;
use super::{Estate, EstateError, decided, list};
use crate::store::{BranchPath, Change, Entity, Kind, Query, Store, StoreError, Versioned};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A kind of bindings: what is bound to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// A logical terminal (merchant and terminal number, ISO 8583 fields 42 and 41) runs on a device. A device may have several.
    Device,
    /// A logical terminal belongs to a merchant.
    Merchant,
    /// A logical terminal stands at a site.
    Site,
    /// An accessory, such as a PIN pad, belongs to a device.
    Accessory,
}

impl Relation {
    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Merchant => "merchant",
            Self::Site => "site",
            Self::Accessory => "accessory",
        }
    }
}

/// That something belongs to something, from a time on and perhaps up to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// What kind of binding it is.
    pub relation: Relation,
    /// What is bound: it is bound to one thing at a time.
    pub subject: String,
    /// To what.
    pub object: String,
    /// The branch that it concerns.
    pub branch: BranchPath,
    /// Since when, in seconds since 1970 UTC.
    pub from: u64,
    /// Up to when; none while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Who bound it.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// How often the subject was bound before.
    pub number: u32,
}

impl Binding {
    pub(super) fn subject_mark(relation: Relation, subject: &str) -> String {
        format!("{}/{subject}/", relation.name())
    }
}

impl Binding {
    /// Begins the marks of what is bound to an object.
    pub(super) fn object_mark(relation: Relation, object: &str) -> String {
        format!("{}/{object}/", relation.name())
    }

    /// The mark that a binding has while it holds.
    pub(super) const HOLDS: &str = "holds";
}

impl Entity for Binding {
    const KIND: Kind = Kind::named("binding");

    fn id(&self) -> String {
        // the newest first
        let place = u32::MAX.saturating_sub(self.number);
        format!("{}{place:010}", Self::subject_mark(self.relation, &self.subject))
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let object = Self::object_mark(self.relation, &self.object);
        let mut marks = vec![("object", format!("{object}{:020}", u64::MAX.saturating_sub(self.from)))];
        if self.until.is_none() {
            marks.push((Self::HOLDS, object));
        }
        marks
    }
}

impl Estate {
    /// Binds a subject to an object from now on; what it was bound to before, it is no longer. Binding it to what it is bound to
    /// already changes nothing.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not manage the branch, or that of the binding that ends;
    /// [`EstateError::Invalid`].
    pub async fn bind(
        &self,
        actor: &Actor,
        relation: Relation,
        (subject, object): (&str, &str),
        branch: &BranchPath,
        reason: &str,
    ) -> Result<(), EstateError> {
        name("subject", subject)?;
        name("object", object)?;
        text("reason", reason, 200)?;
        actor.demand(Permission::ManageOrganisation, branch)?;
        decided(|| async {
            let binding = Binding {
                relation,
                subject: subject.to_owned(),
                object: object.to_owned(),
                branch: branch.clone(),
                from: self.clock.now(),
                until: None,
                operator: actor.name().to_owned(),
                reason: reason.to_owned(),
                number: 0,
            };
            let Rebound { changes, ended } = rebind(&*self.store, binding).await?;
            if changes.is_empty() {
                return Ok(());
            }
            if let Some(ended) = ended {
                actor.demand(Permission::ManageOrganisation, &ended.branch)?;
            }
            let deed = Deed {
                act: "binding.make",
                subject: Binding::subject_mark(relation, subject),
                branch: branch.clone(),
                detail: json!({ "object": object, "reason": reason }),
            };
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// Ends a binding.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where the subject is bound to nothing; [`EstateError::Denied`]; [`EstateError::Invalid`].
    pub async fn unbind(
        &self,
        actor: &Actor,
        relation: Relation,
        subject: &str,
        reason: &str,
    ) -> Result<(), EstateError> {
        text("reason", reason, 200)?;
        decided(|| async {
            let last = last(&*self.store, relation, subject).await?;
            let Some(Versioned {
                version,
                record: mut last,
            }) = last.filter(|last| last.record.until.is_none())
            else {
                return Err(EstateError::Unknown("binding of", subject.to_owned()));
            };
            actor.demand(Permission::ManageOrganisation, &last.branch)?;
            last.until = Some(self.clock.now().max(last.from));
            let deed = Deed {
                act: "binding.end",
                subject: Binding::subject_mark(relation, subject),
                branch: last.branch.clone(),
                detail: json!({ "object": last.object, "reason": reason }),
            };
            Ok(self.commit(actor, &deed, vec![put(Some(version), &last)?]).await?)
        })
        .await
    }

    /// What a subject was bound to, the newest first and at most 1,000; what of it the actor may see.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bindings_of(
        &self,
        actor: &Actor,
        relation: Relation,
        subject: &str,
    ) -> Result<Vec<Binding>, EstateError> {
        let query = Query::Documents {
            kind: Binding::KIND,
            prefix: Binding::subject_mark(relation, subject),
            after: None,
        };
        self.visible_bindings(actor, &query).await
    }

    /// What was bound to an object, the newest first and at most 1,000; what of it the actor may see. `now` leaves out what has ended.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bindings_to(
        &self,
        actor: &Actor,
        relation: Relation,
        object: &str,
        now: bool,
    ) -> Result<Vec<Binding>, EstateError> {
        let query = Query::Marked {
            kind: Binding::KIND,
            mark: if now { Binding::HOLDS } else { "object" }.to_owned(),
            prefix: Binding::object_mark(relation, object),
            after: None,
        };
        self.visible_bindings(actor, &query).await
    }

    async fn visible_bindings(&self, actor: &Actor, query: &Query) -> Result<Vec<Binding>, EstateError> {
        let mut found: Vec<Binding> = self.documents(query, MAX_HISTORY).await?;
        found.retain(|binding| actor.may(Permission::View, &binding.branch));
        Ok(found)
    }
}

/// What binds a subject to something else.
#[derive(Default)]
pub(crate) struct Rebound {
    /// What is to be committed: nothing, where it is bound so already.
    pub(crate) changes: Vec<Change>,
    /// The binding that ends.
    pub(crate) ended: Option<Binding>,
}

/// Makes a binding that begins now; its number is counted here. What the subject was bound to before, it is no longer.
pub(crate) async fn rebind(store: &dyn Store, mut binding: Binding) -> Result<Rebound, StoreError> {
    let mut rebound = Rebound::default();
    if let Some(found) = last(store, binding.relation, &binding.subject).await? {
        let Versioned {
            version,
            record: mut last,
        } = found;
        binding.number = last.number.saturating_add(1);
        if last.until.is_none() {
            if last.object == binding.object && last.branch == binding.branch {
                return Ok(rebound);
            }
            last.until = Some(binding.from.max(last.from));
            rebound.changes.push(put(Some(version), &last)?);
            rebound.ended = Some(last);
        }
    }
    rebound.changes.push(put(None, &binding)?);
    Ok(rebound)
}

/// The newest binding of a subject, ended or not.
pub(crate) async fn last(
    store: &dyn Store,
    relation: Relation,
    subject: &str,
) -> Result<Option<Versioned<Binding>>, StoreError> {
    let query = Query::Documents {
        kind: Binding::KIND,
        prefix: Binding::subject_mark(relation, subject),
        after: None,
    };
    Ok(list(store, &query, 1).await?.into_iter().next())
}

/// What is bound to an object now, at most 1,000.
pub(crate) async fn holding(store: &dyn Store, relation: Relation, object: &str) -> Result<Vec<Binding>, StoreError> {
    let query = Query::Marked {
        kind: Binding::KIND,
        mark: "holds".to_owned(),
        prefix: format!("{}/{object}/", relation.name()),
        after: None,
    };
    let found = list(store, &query, MAX_HISTORY).await?;
    Ok(found.into_iter().map(|found| found.record).collect())
}

/// How many bindings of one subject or object are given.
const MAX_HISTORY: u32 = 1_000;

/// Checks a name: a slash would make two names one.
pub(super) fn name(field: &'static str, name: &str) -> Result<(), EstateError> {
    text(field, name, 80)?;
    if name.contains('/') {
        return Err(EstateError::Invalid(field, "must not have a slash"));
    }
    Ok(())
}
