//! Replacements: an operator approves that another terminal of the same model takes the place of one, and gives out a code that
//! works once. The new terminal registers with it, and in one commit it is what the old one was, and the old one is nothing.

mod desk;

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::{text, within};
use super::rollup::put;
use super::{Estate, EstateError, decided, list};
use crate::rule::name::serial;
use crate::store::{
    BranchPath, Caller, Change, Entity, EventKind, Expect, Holder, Key, Kind, Query, Record, StoreError, TerminalId,
    TerminalState, Versioned,
};
use desk::{restated, revoke};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tms_proto::digest::Digest;

/// What a code's digest covers begins with this.
const DOMAIN: &str = "tms replacement code 1\n";

/// The digits of a code: what a person types on a terminal.
const DIGITS: usize = 12;

/// How many wrong codes lock a replacement.
pub const MAX_WRONG_CODES: u32 = 5;

/// The longest that a code holds, in seconds: 30 days.
const MAX_VALID: u64 = 30 * 86_400;

/// The most open replacements of one serial number that are looked at.
const MAX_OPEN: u32 = 16;

/// The most replacements of one terminal that are looked at.
const MAX_SWAPS: u32 = 1_000;

/// Why a terminal is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It does not work.
    Defective,
    /// It is old, or to be used elsewhere.
    Exchange,
    /// It is not there any more: it is blacklisted at once.
    Lost,
    /// Somebody has it: it is blacklisted at once.
    Stolen,
}

/// Where a replacement stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplacementState {
    /// It waits for a terminal with the code.
    Open,
    /// It is done.
    Done {
        /// By which terminal.
        by: TerminalId,
        /// When, in seconds since 1970 UTC.
        at: u64,
    },
    /// Too many wrong codes.
    Locked,
    /// An operator called it off.
    Withdrawn {
        /// Who.
        by: String,
        /// When.
        at: u64,
    },
}

/// That another terminal may take the place of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Its id.
    pub id: String,
    /// The terminal that goes.
    pub old: TerminalId,
    /// Its holder.
    pub holder: Holder,
    /// The branch that it belonged to.
    pub branch: BranchPath,
    /// The merchant where it stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<String>,
    /// Why it goes.
    pub cause: Cause,
    /// In words.
    pub reason: String,
    /// Who approved it.
    pub approver: String,
    /// When, in seconds since 1970 UTC.
    pub approved: u64,
    /// The code is not taken from then on.
    pub expires: u64,
    /// The code's digest, with the id. The code itself is known to whoever was told it.
    pub code: Digest,
    /// How often it was tried with a wrong code.
    #[serde(default)]
    pub wrong: u32,
    /// Where it stands.
    pub state: ReplacementState,
}

impl Entity for Replacement {
    const KIND: Kind = Kind::named("replacement");

    fn id(&self) -> String {
        self.id.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let mut marks = vec![(Self::OLD, self.old.to_string()), ("branch", self.branch.to_string())];
        match &self.state {
            ReplacementState::Open => {
                marks.push((Self::OPEN, Self::serial_mark(&self.holder.serial)));
                marks.push(("open_branch", self.branch.to_string()));
            }
            ReplacementState::Done { by, .. } => marks.push((Self::NEW, by.to_string())),
            _ => {}
        }
        marks
    }
}

impl Replacement {
    const OLD: &'static str = "old";
    const NEW: &'static str = "new";
    const OPEN: &'static str = "open";

    fn serial_mark(text: &str) -> String {
        // what is no serial number has no other form
        format!("{}/", serial(text).unwrap_or_else(|_| text.to_owned()))
    }

    fn digest(id: &str, code: &str) -> Digest {
        let digits: String = code.chars().filter(char::is_ascii_digit).collect();
        Digest::of(format!("{DOMAIN}{id}\n{digits}").as_bytes())
    }
}

impl Estate {
    /// Approves that a terminal is replaced, and gives the code that the new one registers with: 12 digits, to be told to whoever
    /// installs it, and kept nowhere. One that is lost or stolen is blacklisted in the same commit. An open replacement of the
    /// same terminal is called off by a new one.
    ///
    /// # Errors
    /// [`EstateError::Denied`]: of a lost or stolen one it takes the right to change states too; [`EstateError::UnknownTerminal`];
    /// [`EstateError::Invalid`]; [`EstateError::Over`] where it is replaced already.
    pub async fn approve_replacement(
        &self,
        actor: &Actor,
        old: &Caller,
        cause: Cause,
        reason: &str,
        valid: u64,
    ) -> Result<(Replacement, String), EstateError> {
        text("reason", reason, 200)?;
        if !(60..=MAX_VALID).contains(&valid) {
            return Err(EstateError::Invalid("validity", "must be 1 minute to 30 days"));
        }
        let gone = matches!(cause, Cause::Lost | Cause::Stolen);
        decided(|| async {
            let known = self.known(old).await?.terminal;
            let terminal = &known.record;
            let entry = match self.store.get(&Key::Roster(terminal.id)).await? {
                Some(Versioned {
                    record: Record::Roster(entry),
                    ..
                }) => Some(entry),
                _ => None,
            };
            let branch = entry
                .as_ref()
                .map_or_else(BranchPath::head_office, |entry| entry.branch.clone());
            actor.demand(Permission::Replace, &branch)?;
            if gone {
                actor.demand(Permission::ChangeState, &branch)?;
            }
            let mut changes = Vec::new();
            for Versioned { version, mut record } in self.replacements_by(Replacement::OLD, terminal.id).await? {
                match record.state {
                    ReplacementState::Done { .. } => {
                        return Err(EstateError::Over("terminal", terminal.id.to_string()));
                    }
                    ReplacementState::Open => {
                        record.state = ReplacementState::Withdrawn {
                            by: actor.name().to_owned(),
                            at: self.clock.now(),
                        };
                        changes.push(put(Some(version), &record)?);
                    }
                    _ => {}
                }
            }
            let (id, code) = self.draw();
            let now = self.clock.now();
            let replacement = Replacement {
                code: Replacement::digest(&id, &code),
                id,
                old: terminal.id,
                holder: terminal.holder.clone(),
                branch: branch.clone(),
                merchant: entry.and_then(|entry| entry.merchant),
                cause,
                reason: reason.to_owned(),
                approver: actor.name().to_owned(),
                approved: now,
                expires: now.saturating_add(valid),
                wrong: 0,
                state: ReplacementState::Open,
            };
            changes.push(put(None, &replacement)?);
            if gone {
                let mut lost = terminal.clone();
                revoke(&mut lost, TerminalState::Blacklisted);
                changes.extend(restated(&*self.store, &lost).await?);
                let state = lost.state;
                changes.push(Change::Append(self.event(
                    actor,
                    Some(lost.id),
                    EventKind::StateChanged { state },
                )));
                changes.push(Change::Put(Expect::Version(known.version), lost.into()));
            }
            let deed = Deed {
                act: "replacement.approve",
                subject: replacement.id.clone(),
                branch,
                detail: json!({ "terminal": replacement.old, "cause": cause, "reason": reason, "expires": replacement.expires }),
            };
            self.commit(actor, &deed, changes).await?;
            Ok((replacement, grouped(&code)))
        })
        .await
    }

    /// Calls a replacement off: its code opens nothing any more. A terminal that was blacklisted stays so.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Over`] where it is done or called off.
    pub async fn withdraw_replacement(&self, actor: &Actor, id: &str) -> Result<(), EstateError> {
        decided(|| async {
            let Some(found) = self.versioned::<Replacement>(id).await? else {
                return Err(EstateError::Unknown("replacement", id.to_owned()));
            };
            let mut replacement = found.record;
            actor.demand(Permission::Replace, &replacement.branch)?;
            if !matches!(replacement.state, ReplacementState::Open | ReplacementState::Locked) {
                return Err(EstateError::Over("replacement", id.to_owned()));
            }
            replacement.state = ReplacementState::Withdrawn {
                by: actor.name().to_owned(),
                at: self.clock.now(),
            };
            let deed = Deed {
                act: "replacement.withdraw",
                subject: id.to_owned(),
                branch: replacement.branch.clone(),
                detail: json!({ "terminal": replacement.old }),
            };
            Ok(self
                .commit(actor, &deed, vec![put(Some(found.version), &replacement)?])
                .await?)
        })
        .await
    }

    /// The open replacements that the actor may see, under `under`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn replacements(
        &self,
        actor: &Actor,
        under: &BranchPath,
        limit: u32,
    ) -> Result<Vec<Replacement>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let query = marked("open_branch", scope.to_string());
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.documents::<Replacement>(&query, left).await?);
        }
        Ok(found)
    }

    /// What replaced a terminal, and what it replaced: those that the actor may see.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn swaps(&self, actor: &Actor, terminal: TerminalId) -> Result<Vec<Replacement>, EstateError> {
        let mut found = Vec::new();
        for mark in [Replacement::OLD, Replacement::NEW] {
            let swaps = self.replacements_by(mark, terminal).await?;
            found.extend(swaps.into_iter().map(|swap| swap.record));
        }
        found.retain(|swap| actor.may(Permission::View, &swap.branch));
        Ok(found)
    }

    async fn replacements_by(
        &self,
        mark: &str,
        terminal: TerminalId,
    ) -> Result<Vec<Versioned<Replacement>>, StoreError> {
        list(&*self.store, &marked(mark, terminal.to_string()), MAX_SWAPS).await
    }

    /// An id and a code.
    fn draw(&self) -> (String, String) {
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        let number = u128::from_be_bytes(random) % 1_000_000_000_000;
        let mut name = [0; 8];
        self.entropy.fill(&mut name);
        let id = format!("{:010}-{}", self.clock.now(), hex::encode(name));
        (id, format!("{number:0DIGITS$}"))
    }
}

fn marked(mark: &str, prefix: String) -> Query {
    Query::Marked {
        kind: Replacement::KIND,
        mark: mark.to_owned(),
        prefix,
        after: None,
    }
}

/// A code as people read it out: four digits at a time.
fn grouped(code: &str) -> String {
    let digits: Vec<char> = code.chars().collect();
    let groups = digits.chunks(4).map(|group| group.iter().collect::<String>());
    groups.collect::<Vec<_>>().join(" ")
}
