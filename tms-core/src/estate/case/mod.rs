//! Cases: what points to a terminal that was moved or cloned, for a person to look at. A case never blocks anybody.

mod advance;
mod identity;

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::{text, within};
use super::install::read_or_new;
use super::rollup::put;
use super::whereabouts::{CaseSettings, Whereabouts};
use super::{Act, Estate, EstateError, decided};
use crate::rule::relocation::{CaseData, CaseKind, Move, Observed, Place};
use crate::store::{BranchPath, Change, Entity, EventKind, Kind, Query, StoreError, TerminalId, Versioned};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;

/// The most lines of a case's history: the newest are kept.
const MAX_HISTORY: usize = 64;

/// The most moves that are approved of one terminal at a time.
const MAX_MOVES: usize = 16;

/// Where a case stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    /// Nobody has taken it.
    Open,
    /// Somebody works on it.
    Assigned,
    /// It is decided.
    Closed,
}

impl CaseState {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Open, Self::Assigned, Self::Closed];

    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Assigned => "assigned",
            Self::Closed => "closed",
        }
    }
}

/// What was decided of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// The terminal may be there: until a time, or for good where there is none.
    ApprovedMove {
        /// Until then, in seconds since 1970 UTC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    /// Nothing has happened: what was seen belongs to the terminal's place.
    FalseAlarm,
    /// It was moved without leave, and the merchant was visited. What was seen so far says no more.
    ConfirmedRelocation,
    /// There are two of it: that it be blacklisted is proposed, for another operator to approve.
    Clone,
}

impl Disposition {
    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApprovedMove { .. } => "approved_move",
            Self::FalseAlarm => "false_alarm",
            Self::ConfirmedRelocation => "confirmed_relocation",
            Self::Clone => "clone",
        }
    }

    const fn fits(self, kind: CaseKind) -> bool {
        match self {
            Self::FalseAlarm => true,
            Self::ApprovedMove { .. } | Self::ConfirmedRelocation => matches!(kind, CaseKind::Relocation),
            Self::Clone => matches!(kind, CaseKind::Clone),
        }
    }
}

/// A line of a case's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseNote {
    /// When, in seconds since 1970 UTC.
    pub time: u64,
    /// Who; none where the system did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What.
    pub what: String,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its id.
    pub id: String,
    /// The terminal that it is about; of several, the one with the lowest id.
    pub terminal: TerminalId,
    /// Others that it is about.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub others: BTreeSet<TerminalId>,
    /// The branch of the terminal, when it was opened.
    pub branch: BranchPath,
    /// What it says.
    #[serde(flatten)]
    pub data: CaseData,
    /// When it was opened, in seconds since 1970 UTC.
    pub opened: u64,
    /// When it last changed, in seconds since 1970 UTC.
    pub updated: u64,
    /// Where it stands.
    pub state: CaseState,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<Disposition>,
    /// What was done with it: the newest 64 lines.
    pub history: Vec<CaseNote>,
}

impl Entity for Case {
    const KIND: Kind = Kind::named("case");

    fn id(&self) -> String {
        self.id.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![
            (Self::STATE, format!("{}{}", self.state.name(), self.branch)),
            ("terminal", self.terminal.to_string()),
        ]
    }
}

impl Case {
    pub(super) const STATE: &'static str = "state";

    fn note(&mut self, time: u64, by: Option<&str>, what: String) {
        self.history.push(CaseNote {
            time,
            by: by.map(str::to_owned),
            what,
        });
        let over = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..over);
        self.updated = time;
    }
}

/// The name of a kind, as it is stored.
pub(in crate::estate) const fn kind_name(kind: CaseKind) -> &'static str {
    match kind {
        CaseKind::Relocation => "relocation",
        CaseKind::Clone => "clone",
    }
}

impl Whereabouts {
    pub(super) const fn open_case(&mut self, kind: CaseKind) -> &mut Option<String> {
        match kind {
            CaseKind::Relocation => &mut self.relocation,
            CaseKind::Clone => &mut self.clone,
        }
    }
}

impl Estate {
    /// A case that the actor may see.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none, or none that they may see.
    pub async fn case(&self, actor: &Actor, id: &str) -> Result<Case, EstateError> {
        Ok(self.case_of(actor, Permission::View, id).await?.record)
    }

    /// The cases in this state that the actor may see, under `under`, by branch and age.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn cases(
        &self,
        actor: &Actor,
        under: &BranchPath,
        state: CaseState,
        limit: u32,
    ) -> Result<Vec<Case>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.cases_under(&scope, state, left).await?);
        }
        Ok(found)
    }

    pub(in crate::estate) async fn cases_under(
        &self,
        under: &BranchPath,
        state: CaseState,
        limit: u32,
    ) -> Result<Vec<Case>, StoreError> {
        let query = Query::Marked {
            kind: Case::KIND,
            mark: Case::STATE.to_owned(),
            prefix: format!("{}{under}", state.name()),
            after: None,
        };
        self.documents(&query, limit).await
    }

    /// The cases of a terminal that the actor may see, at most 1,000, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn cases_of(&self, actor: &Actor, terminal: TerminalId) -> Result<Vec<Case>, EstateError> {
        let query = Query::Marked {
            kind: Case::KIND,
            mark: "terminal".to_owned(),
            prefix: terminal.to_string(),
            after: None,
        };
        let mut found: Vec<Case> = self.documents(&query, 1_000).await?;
        found.retain(|case| actor.may(Permission::View, &case.branch));
        Ok(found)
    }

    /// Gives a case to an operator, or takes it.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Over`] where it is closed.
    pub async fn assign_case(&self, actor: &Actor, id: &str, owner: &str) -> Result<Case, EstateError> {
        text("owner", owner, 40)?;
        decided(|| async {
            let (version, mut case) = self.open_case_of(actor, id).await?;
            (case.state, case.owner) = (CaseState::Assigned, Some(owner.to_owned()));
            case.note(self.clock.now(), Some(actor.name()), format!("given to {owner}"));
            let deed = deed("case.assign", &case, json!({ "owner": owner }));
            self.commit(actor, &deed, vec![put(Some(version), &case)?]).await?;
            Ok(case)
        })
        .await
    }

    /// Decides a case and closes it. What follows from that is in the same commit: an approved move, a larger place, a proposal to
    /// blacklist.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Over`] where it is closed; [`EstateError::Invalid`]
    /// where that cannot be decided of a case of this kind, or the move's end is past.
    pub async fn dispose_case(
        &self,
        actor: &Actor,
        id: &str,
        disposition: Disposition,
        reason: &str,
    ) -> Result<Case, EstateError> {
        text("reason", reason, 200)?;
        decided(|| async {
            let (version, mut case) = self.open_case_of(actor, id).await?;
            let kind = case.data.kind;
            if !disposition.fits(kind) {
                return Err(EstateError::Invalid("disposition", "is not one of a case of this kind"));
            }
            let now = self.clock.now();
            (case.state, case.disposition) = (CaseState::Closed, Some(disposition));
            case.note(now, Some(actor.name()), format!("{}: {reason}", disposition.name()));
            let mut changes = Vec::new();
            let terminal = case.terminal;
            let (known, mut whereabouts) =
                read_or_new(&*self.store, &terminal.to_string(), || Whereabouts::of(terminal)).await?;
            *whereabouts.open_case(kind) = None;
            let settings = self.case_settings().await?;
            match disposition {
                Disposition::ApprovedMove { until: Some(until) } => {
                    let approved = Move {
                        from: case.opened.min(now),
                        until,
                        to: seen_place(&whereabouts, &settings),
                    };
                    push_move(&mut whereabouts, approved, now)?;
                }
                Disposition::ApprovedMove { until: None } => {
                    let to = seen_place(&whereabouts, &settings);
                    if let Some(home) = &mut whereabouts.home {
                        (home.place, home.since) = (to, now);
                    }
                }
                Disposition::FalseAlarm => {
                    let seen = seen_place(&whereabouts, &settings);
                    if let (Some(home), CaseKind::Relocation) = (&mut whereabouts.home, kind) {
                        home.place.add(seen);
                    }
                }
                Disposition::ConfirmedRelocation => {
                    if let Some(home) = &mut whereabouts.home {
                        home.since = now;
                    }
                }
                Disposition::Clone => {
                    let act = Act::Blacklist { terminal };
                    let proposal = self.draft_proposal(actor, act, reason).await?;
                    case.note(now, Some(actor.name()), format!("proposal {}", proposal.id));
                    changes.push(put(None, &proposal)?);
                }
            }
            whereabouts.sightings.clear();
            changes.push(put(known, &whereabouts)?);
            changes.push(put(Some(version), &case)?);
            let closed = EventKind::CaseClosed {
                case: case.id.clone(),
                disposition: disposition.name().to_owned(),
            };
            changes.push(Change::Append(self.event(actor, Some(terminal), closed)));
            let deed = deed(
                "case.dispose",
                &case,
                json!({ "disposition": disposition, "reason": reason }),
            );
            self.commit(actor, &deed, changes).await?;
            Ok(case)
        })
        .await
    }

    /// Approves beforehand that a terminal moves: in its time it may be at the other place too, and may register there anew. A place
    /// of which nothing is said may be anywhere that shows nothing else.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::UnknownTerminal`]; [`EstateError::Invalid`] where the terminal never registered, or
    /// the time is none.
    pub async fn approve_move(&self, actor: &Actor, terminal: TerminalId, approved: Move) -> Result<(), EstateError> {
        decided(|| async {
            let branch = self.branch_of(terminal).await?;
            actor.demand(Permission::ManageCases, &branch)?;
            let Some(found) = self.versioned::<Whereabouts>(&terminal.to_string()).await? else {
                return Err(EstateError::UnknownTerminal(terminal.to_string()));
            };
            let mut whereabouts = found.record;
            if whereabouts.home.is_none() {
                return Err(EstateError::Invalid("terminal", "has not registered"));
            }
            push_move(&mut whereabouts, approved.clone(), self.clock.now())?;
            let deed = Deed {
                act: "case.approve_move",
                subject: terminal.to_string(),
                branch,
                detail: json!({ "move": approved }),
            };
            Ok(self
                .commit(actor, &deed, vec![put(Some(found.version), &whereabouts)?])
                .await?)
        })
        .await
    }

    async fn case_of(&self, actor: &Actor, permission: Permission, id: &str) -> Result<Versioned<Case>, EstateError> {
        let unknown = || EstateError::Unknown("case", id.to_owned());
        let found = self.versioned::<Case>(id).await?.ok_or_else(unknown)?;
        if !actor.may(Permission::View, &found.record.branch) {
            return Err(unknown());
        }
        actor.demand(permission, &found.record.branch)?;
        Ok(found)
    }

    async fn open_case_of(&self, actor: &Actor, id: &str) -> Result<(u64, Case), EstateError> {
        let Versioned { version, record } = self.case_of(actor, Permission::ManageCases, id).await?;
        if record.state == CaseState::Closed {
            return Err(EstateError::Over("case", id.to_owned()));
        }
        Ok((version, record))
    }
}

fn deed(act: &'static str, case: &Case, detail: serde_json::Value) -> Deed {
    Deed {
        act,
        subject: case.id.clone(),
        branch: case.branch.clone(),
        detail,
    }
}

/// Where a terminal was seen last. The number that it is configured with belongs to it: somebody has looked at it.
fn seen_place(whereabouts: &Whereabouts, settings: &CaseSettings) -> Place {
    let Some(seen) = whereabouts.sightings.last() else {
        return Place::default();
    };
    let mut place = Place::of(&seen.observed, &seen.claimed, &settings.plan);
    place.add(Place::of(&Observed::default(), &seen.claimed, &settings.plan));
    place
}

fn push_move(whereabouts: &mut Whereabouts, approved: Move, now: u64) -> Result<(), EstateError> {
    if approved.until <= now || approved.until <= approved.from {
        return Err(EstateError::Invalid("move", "must end after it begins, and not yet"));
    }
    if let Some(home) = &mut whereabouts.home {
        home.moves.retain(|approved| approved.until > now);
        if home.moves.len() >= MAX_MOVES {
            return Err(EstateError::Invalid("move", "is one too many of this terminal"));
        }
        home.moves.push(approved);
    }
    Ok(())
}
