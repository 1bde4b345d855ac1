//! Four eyes: what one operator proposes, another approves, and then it is done.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::within;
use super::contact::check_addresses;
use super::expiry::Expiry;
use super::rollup::put;
use super::{Estate, EstateError, decided};
use crate::store::{
    Assignment, BranchPath, Caller, Change, Document, Entity, EventKind, Expect, Key, KeyId, Kind, Query, Record,
    StoreError, TerminalId, TerminalState, Versioned,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;

/// The most terminals that one proposal removes.
pub const MAX_RETIRED: usize = 100;

/// How long a proposal stands, in seconds: a week.
const STANDS: u64 = 7 * 86_400;

/// What takes two operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Act {
    /// Removes terminals: they are unknown from then on, and their serial numbers free. 1 to 100, all of one branch or below it.
    Retire {
        /// Which.
        terminals: BTreeSet<TerminalId>,
    },
    /// Has a terminal prove another RSA identity, or pins the next that is certified for it.
    ChangeIdentity {
        /// Which terminal.
        terminal: TerminalId,
        /// The identity.
        key: Option<KeyId>,
    },
    /// Has a terminal use its main-control key of another epoch, or none.
    ChangeMainKey {
        /// Which terminal.
        terminal: TerminalId,
        /// The epoch.
        epoch: Option<u32>,
    },
    /// Blacklists a terminal: there seem to be two of it.
    Blacklist {
        /// Which terminal.
        terminal: TerminalId,
    },
    /// Has terminals call an access at other addresses.
    ChangeAddress {
        /// The access's name.
        access: String,
        /// Telephone numbers, or `host:port`: 1 to 8, in the order in which they are tried.
        addresses: Vec<String>,
    },
    /// Replaces the estate's trust store: whose signatures packages need.
    ChangeTrust {
        /// The signed trust store, encoded, in hexadecimal.
        trust: String,
    },
    /// Has packages wait for another operator's approval before they are released, or not.
    ChangeApproval {
        /// Whether they wait.
        approval: bool,
    },
    /// Seals secret parameters by another version of the parameter key, and what is there anew.
    ChangeParameterKey {
        /// The version.
        version: u32,
    },
}

impl Act {
    /// What it takes.
    #[must_use]
    pub const fn permission(&self) -> Permission {
        match self {
            Self::Retire { .. } => Permission::Retire,
            Self::ChangeIdentity { .. } | Self::ChangeMainKey { .. } | Self::ChangeParameterKey { .. } => {
                Permission::ManageKeys
            }
            Self::Blacklist { .. } => Permission::ChangeState,
            Self::ChangeAddress { .. } => Permission::ManageAddresses,
            Self::ChangeTrust { .. } | Self::ChangeApproval { .. } => Permission::ManageTrust,
        }
    }

    fn terminals(&self) -> BTreeSet<TerminalId> {
        match self {
            Self::Retire { terminals } => terminals.clone(),
            Self::ChangeIdentity { terminal, .. }
            | Self::ChangeMainKey { terminal, .. }
            | Self::Blacklist { terminal } => [*terminal].into(),
            Self::ChangeAddress { .. }
            | Self::ChangeTrust { .. }
            | Self::ChangeApproval { .. }
            | Self::ChangeParameterKey { .. } => BTreeSet::new(),
        }
    }
}

/// Something that one operator proposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its id.
    pub id: String,
    /// What.
    #[serde(flatten)]
    pub act: Act,
    /// Why.
    pub reason: String,
    /// The branch that covers all that it concerns.
    pub branch: BranchPath,
    /// Who proposes it.
    pub proposer: String,
    /// When, in seconds since 1970 UTC.
    pub proposed: u64,
    /// It cannot be approved from then on.
    pub expires: u64,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It waits for another operator.
    Open,
    /// It is done.
    Done {
        /// Who approved it.
        by: String,
        /// When.
        at: u64,
    },
    /// It will not be done.
    Dismissed {
        /// By whom: another operator, or the proposer.
        by: String,
        /// When.
        at: u64,
    },
}

impl Entity for Proposal {
    const KIND: Kind = Kind::named("proposal");

    fn id(&self) -> String {
        self.id.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        match self.standing {
            Standing::Open => vec![("open", self.branch.to_string())],
            _ => Vec::new(),
        }
    }
}

impl Estate {
    /// Proposes something that takes two operators. Nothing is changed until another approves it.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not do it either; [`EstateError::UnknownTerminal`];
    /// [`EstateError::Invalid`].
    pub async fn propose(&self, actor: &Actor, act: Act, reason: &str) -> Result<Proposal, EstateError> {
        let proposal = self.draft_proposal(actor, act, reason).await?;
        let deed = Deed {
            act: "proposal.make",
            subject: proposal.id.clone(),
            branch: proposal.branch.clone(),
            detail: json!({ "act": proposal.act, "reason": reason }),
        };
        let change = Change::Put(Expect::Absent, Document::of(&proposal)?.into());
        self.commit(actor, &deed, vec![change]).await?;
        Ok(proposal)
    }

    /// A proposal that the actor may make, to be committed.
    pub(super) async fn draft_proposal(&self, actor: &Actor, act: Act, reason: &str) -> Result<Proposal, EstateError> {
        super::branch::text("reason", reason, 200)?;
        if let Act::Retire { terminals } = &act
            && !(1..=MAX_RETIRED).contains(&terminals.len())
        {
            return Err(EstateError::Invalid("terminals", "must be 1 to 100"));
        }
        let branch = self.branch_of_act(&act).await?;
        actor.demand(act.permission(), &branch)?;
        // what could not be done is not proposed
        self.changes_of(actor, &act).await?;
        let now = self.clock.now();
        let mut random = [0; 8];
        self.entropy.fill(&mut random);
        Ok(Proposal {
            id: format!("{now:010}-{}", hex::encode(random)),
            act,
            reason: reason.to_owned(),
            branch,
            proposer: actor.name().to_owned(),
            proposed: now,
            expires: now.saturating_add(STANDS),
            standing: Standing::Open,
        })
    }

    /// Approves a proposal: it is done, in the same commit.
    ///
    /// # Errors
    /// [`EstateError::SecondOperator`] where the actor made it; [`EstateError::Denied`]; [`EstateError::Unknown`];
    /// [`EstateError::Over`] where it is done, dismissed or expired; [`EstateError::UnknownTerminal`] where a terminal that it
    /// concerns is gone.
    pub async fn approve(&self, actor: &Actor, id: &str) -> Result<Proposal, EstateError> {
        decided(|| async {
            let (version, mut proposal) = self.open_proposal(id).await?;
            if actor.name() == proposal.proposer {
                return Err(EstateError::SecondOperator);
            }
            // A terminal may have been moved meanwhile: where it is now counts.
            let branch = self.branch_of_act(&proposal.act).await?;
            actor.demand(proposal.act.permission(), &proposal.branch)?;
            actor.demand(proposal.act.permission(), &branch)?;
            let mut changes = self.changes_of(actor, &proposal.act).await?;
            proposal.standing = Standing::Done {
                by: actor.name().to_owned(),
                at: self.clock.now(),
            };
            let deed = Deed {
                act: "proposal.approve",
                subject: proposal.id.clone(),
                branch,
                detail: json!({ "act": proposal.act, "proposer": proposal.proposer }),
            };
            changes.push(Change::Put(Expect::Version(version), Document::of(&proposal)?.into()));
            self.commit(actor, &deed, changes).await?;
            Ok(proposal)
        })
        .await
    }

    /// Dismisses a proposal: by whoever made it, or by who could approve it.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Over`].
    pub async fn dismiss(&self, actor: &Actor, id: &str) -> Result<(), EstateError> {
        decided(|| async {
            let (version, mut proposal) = self.open_proposal(id).await?;
            if actor.name() != proposal.proposer {
                actor.demand(proposal.act.permission(), &proposal.branch)?;
            }
            proposal.standing = Standing::Dismissed {
                by: actor.name().to_owned(),
                at: self.clock.now(),
            };
            let deed = Deed {
                act: "proposal.dismiss",
                subject: proposal.id.clone(),
                branch: proposal.branch.clone(),
                detail: json!({ "act": proposal.act, "proposer": proposal.proposer }),
            };
            let change = Change::Put(Expect::Version(version), Document::of(&proposal)?.into());
            Ok(self.commit(actor, &deed, vec![change]).await?)
        })
        .await
    }

    /// A proposal that the actor may see, whatever became of it.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none, or none that they may see.
    pub async fn proposal(&self, actor: &Actor, id: &str) -> Result<Proposal, EstateError> {
        match self.versioned::<Proposal>(id).await? {
            Some(found) if actor.may(Permission::View, &found.record.branch) => Ok(found.record),
            _ => Err(EstateError::Unknown("proposal", id.to_owned())),
        }
    }

    /// The open proposals that the actor may see, under `under`: those that have lapsed among them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn proposals(&self, actor: &Actor, under: &BranchPath, limit: u32) -> Result<Vec<Proposal>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: Proposal::KIND,
                mark: "open".to_owned(),
                prefix: scope.to_string(),
                after: None,
            };
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.documents::<Proposal>(&query, left).await?);
        }
        Ok(found)
    }

    async fn open_proposal(&self, id: &str) -> Result<(u64, Proposal), EstateError> {
        let Some((version, proposal)) = self.entity::<Proposal>(id).await? else {
            return Err(EstateError::Unknown("proposal", id.to_owned()));
        };
        match proposal.standing {
            Standing::Open if self.clock.now() < proposal.expires => Ok((version, proposal)),
            _ => Err(EstateError::Over("proposal", id.to_owned())),
        }
    }

    /// The lowest branch that covers all that an act concerns.
    async fn branch_of_act(&self, act: &Act) -> Result<BranchPath, EstateError> {
        Ok(match act {
            Act::ChangeAddress { access, .. } => self.access(access).await?.1.branch,
            _ => self.common_branch(&act.terminals()).await?,
        })
    }

    /// The lowest branch that covers all of them; head office for none.
    async fn common_branch(&self, terminals: &BTreeSet<TerminalId>) -> Result<BranchPath, StoreError> {
        let mut common: Option<BranchPath> = None;
        for terminal in terminals {
            let branch = self.branch_of(*terminal).await?;
            let mut above = common.unwrap_or_else(|| branch.clone());
            while !above.covers(&branch) {
                above = above.parent().unwrap_or_else(BranchPath::head_office);
            }
            common = Some(above);
        }
        Ok(common.unwrap_or_else(BranchPath::head_office))
    }

    async fn changes_of(&self, actor: &Actor, act: &Act) -> Result<Vec<Change>, EstateError> {
        match act {
            Act::Retire { terminals } => {
                let mut changes = Vec::new();
                for terminal in terminals {
                    let known = self.known(&Caller::Id(*terminal)).await?;
                    let expect = Expect::Version(known.terminal.version);
                    changes.push(Change::Remove(expect, Key::Terminal(*terminal)));
                    changes.push(Change::Remove(Expect::Any, Key::Inventory(*terminal)));
                    changes.push(Change::Remove(Expect::Any, Key::Roster(*terminal)));
                    let expiry = Key::Document(Expiry::KIND, terminal.to_string());
                    changes.push(Change::Remove(Expect::Any, expiry));
                    changes.extend(self.assignments_of(*terminal).await?);
                    changes.push(Change::Append(self.event(actor, Some(*terminal), EventKind::Retired)));
                }
                Ok(changes)
            }
            Act::ChangeIdentity { terminal, key } => {
                let known = self.known(&Caller::Id(*terminal)).await?.terminal;
                let mut changed = known.record;
                changed.key = *key;
                changed.revoked = false;
                // what the old key has vouched for opens nothing any more
                (changed.credential, changed.renewed_certificate) = (None, None);
                changed.tickets.clear();
                let event = self.event(actor, Some(*terminal), EventKind::KeysChanged);
                Ok(vec![
                    Change::Put(Expect::Version(known.version), changed.into()),
                    Change::Append(event),
                ])
            }
            Act::Blacklist { terminal } => {
                let known = self.known(&Caller::Id(*terminal)).await?.terminal;
                let mut changed = known.record;
                changed.state = TerminalState::Blacklisted;
                changed.credential = None;
                changed.tickets.clear();
                let state = changed.state;
                let event = self.event(actor, Some(*terminal), EventKind::StateChanged { state });
                let mut changes = Vec::from_iter(self.relist(&changed).await?);
                changes.push(Change::Put(Expect::Version(known.version), changed.into()));
                changes.push(Change::Append(event));
                Ok(changes)
            }
            Act::ChangeMainKey { terminal, epoch } => {
                let known = self.known(&Caller::Id(*terminal)).await?.terminal;
                let mut changed = known.record;
                changed.main_key_epoch = *epoch;
                changed.tickets.clear();
                let event = self.event(actor, Some(*terminal), EventKind::KeysChanged);
                Ok(vec![
                    Change::Put(Expect::Version(known.version), changed.into()),
                    Change::Append(event),
                ])
            }
            Act::ChangeAddress { access, addresses } => {
                check_addresses(addresses)?;
                let (version, mut access) = self.access(access).await?;
                access.addresses.clone_from(addresses);
                Ok(vec![put(Some(version), &access)?])
            }
            Act::ChangeTrust { trust } => self.trust_changes(trust).await,
            Act::ChangeApproval { approval } => Ok(self.approval_changes(*approval).await?),
            Act::ChangeParameterKey { version } => self.key_changes(*version).await,
        }
    }

    /// Removes all assignments of a terminal.
    async fn assignments_of(&self, terminal: TerminalId) -> Result<Vec<Change>, StoreError> {
        let (mut after, mut changes) = (None, Vec::new());
        loop {
            let page = self.store.list(&Query::Assignments(terminal, after), 256).await?;
            for found in &page {
                if let Versioned {
                    record: Record::Assignment(assignment),
                    ..
                } = found
                {
                    let Assignment { action, .. } = **assignment;
                    after = Some(action);
                    changes.push(Change::Remove(Expect::Any, Key::Assignment(terminal, action)));
                }
            }
            if page.is_empty() {
                return Ok(changes);
            }
        }
    }
}
