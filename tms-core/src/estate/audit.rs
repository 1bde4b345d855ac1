//! The audit log: what operators did, each entry chained to the one before by its digest.
//!
//! An entry is written in the same commit as the change that it tells of. Whoever can write to the database can write a new
//! chain; that shows when its last digest is compared with one that was noted elsewhere.

use super::access::{Actor, Permission};
use super::branch::within;
use super::{Estate, EstateError};
use crate::store::{BranchPath, Change, Document, Entity, Expect, Key, Kind, Query, Record, StoreError, Versioned};
use serde::{Deserialize, Serialize};
use tms_proto::digest::Digest;

/// What an entry's digest covers begins with this.
const DOMAIN: &str = "tms audit 1\n";

/// How many entries are read at a time.
const PAGE: u32 = 256;

/// How often a chain is joined again where another operator was faster.
const JOINS: usize = 64;

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number: 1 is the first, and none is missing.
    pub number: u64,
    /// When, in seconds since 1970 UTC by the server's clock.
    pub time: u64,
    /// Who.
    pub operator: String,
    /// What, by its short name: `branch.create`.
    pub act: String,
    /// To what: a key.
    pub subject: String,
    /// The branch that it concerns.
    pub branch: BranchPath,
    /// What was there and what is, as JSON. Never a secret.
    pub detail: String,
    /// The digest of the entry before; of nothing, for the first.
    pub previous: Digest,
    /// The digest of all that.
    pub digest: Digest,
}

impl AuditEntry {
    fn sealed(mut self) -> Result<Self, StoreError> {
        self.digest = self.expected()?;
        Ok(self)
    }

    /// The digest that it must have: of everything but that, as lengths and texts, so that nothing can be moved from one field
    /// into another.
    fn expected(&self) -> Result<Digest, StoreError> {
        let Self {
            number,
            time,
            operator,
            act,
            subject,
            branch,
            detail,
            previous,
            digest: _,
        } = self;
        let covered = (number, time, operator, act, subject, branch, detail, previous);
        let text = serde_json::to_string(&covered)
            .map_err(|_| StoreError::Backend("an audit entry cannot be written as json".to_owned()))?;
        Ok(Digest::of(format!("{DOMAIN}{text}").as_bytes()))
    }
}

impl Entity for AuditEntry {
    const KIND: Kind = Kind::named("audit");

    fn id(&self) -> String {
        Self::key(self.number)
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let line = UNDER.into_iter().zip(self.branch.line());
        line.map(|(mark, above)| (mark, Self::place(&above, self.number)))
            .chain([("operator", self.operator.clone()), ("subject", self.subject.clone())])
            .collect()
    }
}

/// The marks that entries are found by: for the branch of each and for every branch above it, by their depth, the branch and the
/// number. So those of a branch and all below it are one range, in their order.
const UNDER: [&str; BranchPath::MAX_DEPTH + 1] = [
    "under0", "under1", "under2", "under3", "under4", "under5", "under6", "under7", "under8",
];

impl AuditEntry {
    fn key(number: u64) -> String {
        format!("{number:020}")
    }

    /// No name of a branch has this sign, so that none begins with another's.
    fn place(branch: &BranchPath, number: u64) -> String {
        format!("{branch}@{number:020}")
    }
}

/// Where the chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The number of the last entry; zero for none.
    pub number: u64,
    /// Its digest.
    pub digest: Digest,
}

impl AuditHead {
    const ID: &'static str = "head";

    /// Of an empty log.
    fn start() -> Self {
        Self {
            number: 0,
            digest: Digest::of(b""),
        }
    }
}

impl Entity for AuditHead {
    const KIND: Kind = Kind::named("audit_head");

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}

/// How an audit log is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is broken at entry {number}: {what}")]
pub struct AuditBroken {
    /// The first entry that is wrong.
    pub number: u64,
    /// In what.
    pub what: &'static str,
}

/// What is to be written into the log.
pub(super) struct Deed {
    pub(super) act: &'static str,
    pub(super) subject: String,
    pub(super) branch: BranchPath,
    pub(super) detail: serde_json::Value,
}

impl Estate {
    /// Commits `changes` together with the entry that tells of them.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where an expectation of `changes` fails: read again, and decide again.
    pub(super) async fn commit(&self, actor: &Actor, deed: &Deed, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut before = None;
        for _ in 0..JOINS {
            let (expect, head) = self.audit_head().await?;
            if before == Some(head) {
                // nobody else has joined the chain: it is one of the changes that conflicts
                return Err(StoreError::Conflict);
            }
            before = Some(head);
            let entry = AuditEntry {
                number: head.number.saturating_add(1),
                time: self.clock.now(),
                operator: actor.name().to_owned(),
                act: deed.act.to_owned(),
                subject: deed.subject.clone(),
                branch: deed.branch.clone(),
                detail: deed.detail.to_string(),
                previous: head.digest,
                digest: head.digest,
            }
            .sealed()?;
            let next = AuditHead {
                number: entry.number,
                digest: entry.digest,
            };
            let mut all = changes.clone();
            all.push(Change::Put(Expect::Absent, Document::of(&entry)?.into()));
            all.push(Change::Put(expect, Document::of(&next)?.into()));
            match self.store.commit(all).await {
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
        Err(StoreError::Unavailable("too many operators at once".to_owned()))
    }

    async fn audit_head(&self) -> Result<(Expect, AuditHead), StoreError> {
        let key = Key::Document(AuditHead::KIND, AuditHead::ID.to_owned());
        match self.store.get(&key).await? {
            Some(Versioned {
                version,
                record: Record::Document(document),
            }) => Ok((Expect::Version(version), document.read()?)),
            _ => Ok((Expect::Absent, AuditHead::start())),
        }
    }

    /// Reads a page of the log: entries after `after`, of the branches that the actor may audit.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where they may audit none; those of the store.
    pub async fn audit(&self, actor: &Actor, after: u64, limit: u32) -> Result<Vec<AuditEntry>, EstateError> {
        let head = BranchPath::head_office();
        if actor.may(Permission::Audit, &head) {
            return Ok(self.audit_entries(after, limit).await?);
        }
        let scopes = within(actor, Permission::Audit, &head);
        if scopes.is_empty() {
            actor.demand(Permission::Audit, &head)?;
        }
        let mut page: Vec<AuditEntry> = Vec::new();
        for scope in scopes {
            let depth = scope.line().len().saturating_sub(1);
            let query = Query::Marked {
                kind: AuditEntry::KIND,
                mark: UNDER.get(depth).copied().unwrap_or_default().to_owned(),
                prefix: format!("{scope}@"),
                after: Some((AuditEntry::place(&scope, after), AuditEntry::key(after))),
            };
            page.extend(self.documents::<AuditEntry>(&query, limit).await?);
        }
        page.sort_by_key(|entry| entry.number);
        page.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(page)
    }

    /// Verifies the whole log and gives its end: a place to note elsewhere. `noted` is one that was, and must be in it.
    ///
    /// # Errors
    /// [`EstateError::Audit`] at the first entry that is missing or not what was written; those of the store.
    pub async fn verify_audit(&self, noted: Option<AuditHead>) -> Result<AuditHead, EstateError> {
        let (_, end) = self.audit_head().await?;
        let broken = |number, what| Err(AuditBroken { number, what }.into());
        let mut last = AuditHead::start();
        // what was written meanwhile is verified next time
        while last.number < end.number {
            let page = self.audit_entries(last.number, PAGE).await?;
            if page.is_empty() {
                return broken(last.number.saturating_add(1), "it is missing");
            }
            for entry in page {
                let number = last.number.saturating_add(1);
                if entry.number != number {
                    return broken(number, "it is missing");
                }
                if entry.previous != last.digest {
                    return broken(number, "it does not follow the one before");
                }
                if entry.expected()? != entry.digest {
                    return broken(number, "it was changed");
                }
                last = AuditHead {
                    number,
                    digest: entry.digest,
                };
                if noted.is_some_and(|noted| noted.number == number && noted.digest != last.digest) {
                    return broken(number, "it is not the one that was noted");
                }
                if number == end.number && last != end {
                    return broken(number, "it is not the end of the chain");
                }
            }
        }
        match noted {
            Some(noted) if noted.number > last.number => broken(noted.number, "it is missing"),
            _ => Ok(last),
        }
    }

    async fn audit_entries(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let query = Query::Documents {
            kind: AuditEntry::KIND,
            prefix: String::new(),
            after: Some(AuditEntry::key(after)),
        };
        self.documents(&query, limit).await
    }
}
