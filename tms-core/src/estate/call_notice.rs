//! Notices: terminals that are to call now. A transaction host reads them and says so with its next answer to such a terminal.
//!
//! A terminal that the system cannot reach asks the transaction host many times a day. The host asks for one terminal by its
//! merchant and terminal number, or reads the list; the terminal's agent takes the notice and calls
//! ([`Agent::noticed`](crate::agent::Agent::noticed)). A roll-up behind the check-ins takes the notice away when it has.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::binding::{Relation, last};
use super::branch::{text, within};
use super::follow::{self, AsOf, Follower, Progress};
use super::rollup::put;
use super::{Estate, EstateError, decided};
use crate::store::{
    BranchPath, Caller, Change, Entity, Event, EventKind, Expect, Key, Kind, Query, Sequence, Store, StoreError,
    TerminalId,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// The longest time that a notice stands, in seconds: 30 days.
const LONGEST: u64 = 30 * 86_400;

/// That a terminal is to call now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallNotice {
    /// The terminal.
    pub terminal: TerminalId,
    /// Its branch.
    pub branch: BranchPath,
    /// Why, for people.
    pub reason: String,
    /// The number of a task, which the terminal gives back with its trigger (§7.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// Eight random bytes in hexadecimal, which the terminal gives back, too.
    pub check_code: String,
    /// Who asks for it.
    pub operator: String,
    /// Since when, in seconds since 1970 UTC.
    pub since: u64,
    /// Until when it is told.
    pub until: u64,
}

/// Takes notices away.
struct Answered<'a>(&'a Estate);

impl Follower for Answered<'_> {
    const POSITION: Kind = Kind::named("call_notice_rollup");
    const BATCH: u32 = 1_000;

    fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    async fn effect(&self, events: &[(Sequence, Event)]) -> Result<Vec<Change>, EstateError> {
        let called = events.iter().filter_map(|(_, event)| match event.kind {
            EventKind::CheckedIn(_) => Some((event.terminal?, event.time)),
            // of a terminal that is no more nothing is kept
            EventKind::Retired => Some((event.terminal?, u64::MAX)),
            _ => None,
        });
        let called: BTreeMap<TerminalId, u64> = called.collect();
        Ok(self.0.answered(&called).await?)
    }
}

impl Entity for CallNotice {
    const KIND: Kind = Kind::named("call_notice");

    fn id(&self) -> String {
        self.terminal.to_string()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![("branch", self.branch.to_string())]
    }
}

impl Estate {
    /// Asks that a terminal calls now. The notice stands until the terminal has called, and for at most `seconds`: 60 to 30 days.
    /// It takes the place of one that stands.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not plan for the terminal; [`EstateError::UnknownTerminal`];
    /// [`EstateError::Invalid`].
    pub async fn ask_to_call(
        &self,
        actor: &Actor,
        terminal: &Caller,
        (reason, task): (&str, Option<u32>),
        seconds: u64,
    ) -> Result<CallNotice, EstateError> {
        text("reason", reason, 200)?;
        if !(60..=LONGEST).contains(&seconds) {
            return Err(EstateError::Invalid("notice", "stands for a minute to 30 days"));
        }
        decided(|| async {
            let id = self.seen_terminal(actor, terminal).await?;
            let branch = self.branch_of(id).await?;
            actor.demand(Permission::Plan, &branch)?;
            let before = self.versioned::<CallNotice>(&id.to_string()).await?;
            let (mut code, now) = ([0; 8], self.clock.now());
            self.entropy.fill(&mut code);
            let notice = CallNotice {
                terminal: id,
                branch: branch.clone(),
                reason: reason.to_owned(),
                task,
                check_code: hex::encode(code),
                operator: actor.name().to_owned(),
                since: now,
                until: now.saturating_add(seconds),
            };
            let deed = Deed {
                act: "notice.put",
                subject: id.to_string(),
                branch,
                detail: json!({ "reason": reason, "task": task, "until": notice.until }),
            };
            let changes = vec![put(before.map(|before| before.version), &notice)?];
            self.commit(actor, &deed, changes).await?;
            Ok(notice)
        })
        .await
    }

    /// Takes a notice back: nobody is told of it any more.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::UnknownTerminal`]; [`EstateError::Unknown`] where none stands.
    pub async fn drop_call_notice(&self, actor: &Actor, terminal: &Caller) -> Result<(), EstateError> {
        decided(|| async {
            let id = self.seen_terminal(actor, terminal).await?;
            let branch = self.branch_of(id).await?;
            actor.demand(Permission::Plan, &branch)?;
            let Some(found) = self.versioned::<CallNotice>(&id.to_string()).await? else {
                return Err(EstateError::Unknown("notice for", id.to_string()));
            };
            let deed = Deed {
                act: "notice.drop",
                subject: id.to_string(),
                branch,
                detail: json!({ "reason": found.record.reason }),
            };
            let key = Key::Document(CallNotice::KIND, id.to_string());
            let changes = vec![Change::Remove(Expect::Version(found.version), key)];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// The notices that stand and that the actor may see, under `under`, at most `limit`.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn call_notices(
        &self,
        actor: &Actor,
        under: &BranchPath,
        limit: u32,
    ) -> Result<Vec<CallNotice>, EstateError> {
        let (mut found, now) = (Vec::new(), self.clock.now());
        for scope in within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: CallNotice::KIND,
                mark: "branch".to_owned(),
                prefix: scope.to_string(),
                after: None,
            };
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            let page = self.documents::<CallNotice>(&query, left).await?.into_iter();
            found.extend(page.filter(|notice| now < notice.until));
        }
        Ok(found)
    }

    /// The notice for a terminal as its acquirer knows it, by merchant and terminal number: what a transaction host asks with
    /// each transaction. Two reads, three where there is one.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn call_notice_for(
        &self,
        actor: &Actor,
        merchant: &str,
        number: &str,
    ) -> Result<Option<CallNotice>, EstateError> {
        let logical = format!("{merchant}:{number}");
        let bound = last(&*self.store, Relation::Device, &logical).await?;
        let Some(bound) = bound.filter(|bound| bound.record.until.is_none()) else {
            return Ok(None);
        };
        let notice = self.versioned::<CallNotice>(&bound.record.object).await?;
        let Some(notice) = notice.map(|found| found.record) else {
            return Ok(None);
        };
        let branch = self.branch_of(notice.terminal).await?;
        let told = self.clock.now() < notice.until && actor.may(Permission::View, &branch);
        Ok(Some(notice).filter(|_| told))
    }

    /// Reads at most `limit` events that are not read yet, and at most 1,000, and takes the notices of terminals away that have
    /// called, in one commit. To be called from time to time, by any number of nodes, and again at once while it reads as many
    /// as were asked for.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn advance_call_notices(&self, limit: u32) -> Result<Progress, EstateError> {
        follow::advance(&Answered(self), limit).await
    }

    /// As of when notices are taken away.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn call_notices_as_of(&self) -> Result<AsOf, EstateError> {
        follow::as_of(&Answered(self)).await
    }

    async fn answered(&self, called: &BTreeMap<TerminalId, u64>) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        let any = Query::Documents {
            kind: CallNotice::KIND,
            prefix: String::new(),
            after: None,
        };
        if called.is_empty() || self.store.list(&any, 1).await?.is_empty() {
            return Ok(changes);
        }
        for (terminal, time) in called {
            let Some(found) = self.versioned::<CallNotice>(&terminal.to_string()).await? else {
                continue;
            };
            if found.record.since <= *time {
                let key = Key::Document(CallNotice::KIND, terminal.to_string());
                changes.push(Change::Remove(Expect::Version(found.version), key));
            }
        }
        Ok(changes)
    }
}
