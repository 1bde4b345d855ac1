//! Replacements: an operator approves that another terminal of the same model takes the place of one, and gives out a code that
//! works once. The new terminal registers with it, and in one commit it is what the old one was, and the old one is nothing.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::binding::{Binding, Rebound, Relation, holding, rebind};
use super::branch::{text, within};
use super::install::{InstallState, of_device, read_or_new, relisted};
use super::registration::{Decided, Desk};
use super::rollup::put;
use super::whereabouts::{CaseSettings, Whereabouts};
use super::{ATTEMPTS, Estate, EstateError, list};
use crate::rule::name::{Aliases, serial};
use crate::rule::relocation::Place;
use crate::store::{
    BranchPath, Caller, Change, Entity, EventKind, Expect, Holder, Key, Kind, Query, Record, Store, StoreError,
    Terminal, TerminalId, TerminalState, Versioned,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tms_proto::code::ResultCode;
use tms_proto::digest::Digest;
use tms_proto::message::LogicalTerminal;

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
        for _ in 0..ATTEMPTS {
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
            match self.commit(actor, &deed, changes).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|()| (replacement, grouped(&code)))?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Calls a replacement off: its code opens nothing any more. A terminal that was blacklisted stays so.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Over`] where it is done or called off.
    pub async fn withdraw_replacement(&self, actor: &Actor, id: &str) -> Result<(), EstateError> {
        for _ in 0..ATTEMPTS {
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
            match self
                .commit(actor, &deed, vec![put(Some(found.version), &replacement)?])
                .await
            {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(StoreError::Conflict.into())
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
        list(&*self.store, &marked(mark, terminal.to_string()), MAX_OPEN).await
    }

    /// An id and a code.
    fn draw(&self) -> (String, String) {
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        let number = u128::from_be_bytes(random) % 1_000_000_000_000;
        let mut name = [0; 8];
        self.entropy.fill(&mut name);
        let id = format!("{:010}-{}", self.clock.now(), hex::encode(name));
        (id, format!("{number:0width$}", width = DIGITS))
    }
}

impl Desk<'_> {
    /// Decides a registration in the place of another terminal.
    pub(super) async fn replace(&self) -> Result<Decided, StoreError> {
        const NONE: &str = "no replacement of that terminal is approved";
        let register = self.register;
        let (Some(code), Some(replaces)) = (&register.code, &register.replaces) else {
            let sentence = "a replacement needs the code and the serial number of the old terminal";
            return Ok(self.refused(ResultCode::Missing, sentence));
        };
        let query = marked(Replacement::OPEN, Replacement::serial_mark(replaces));
        let mut open: Vec<Versioned<Replacement>> = list(self.store, &query, MAX_OPEN).await?;
        // two models may have the same number: the code says which is meant, else the terminal's own
        open.sort_by_key(|found| {
            let swap = &found.record;
            let meant = Replacement::digest(&swap.id, code) == swap.code;
            (!meant, !same_model(&self.terminal.record.holder, &swap.holder))
        });
        let Some(Versioned {
            version,
            record: mut swap,
        }) = open.into_iter().next()
        else {
            return Ok(self.refused(ResultCode::UnknownReference, NONE));
        };
        if self.now >= swap.expires {
            return Ok(self.refused(ResultCode::Expired, "the code of the replacement has expired"));
        }
        if Replacement::digest(&swap.id, code) != swap.code {
            swap.wrong = swap.wrong.saturating_add(1);
            if swap.wrong >= MAX_WRONG_CODES {
                swap.state = ReplacementState::Locked;
            }
            let mut refused = self.refused(ResultCode::SecurityError, "the code is not that of the replacement");
            refused.changes.push(put(Some(version), &swap)?);
            return Ok(refused);
        }
        if !same_model(&self.terminal.record.holder, &swap.holder) {
            let sentence = format!(
                "a {} {} is to be replaced by the same",
                swap.holder.vendor, swap.holder.model
            );
            return Ok(self.refused(ResultCode::ModelMismatch, &sentence));
        }
        let id = self.terminal.record.id;
        if id == swap.old || !holding(self.store, Relation::Device, &id.to_string()).await?.is_empty() {
            return Ok(self.refused(ResultCode::NotPermitted, "this terminal is in use already"));
        }
        swap.state = ReplacementState::Done { by: id, at: self.now };
        let (mut changes, logical) = self.take_over(&swap).await?;
        changes.push(put(Some(version), &swap)?);
        changes.extend(self.moved(&swap, logical.as_ref()).await?);
        Ok(self.accepted(changes, logical, "registered as the replacement"))
    }

    /// Bindings, installations and the old terminal.
    async fn take_over(&self, swap: &Replacement) -> Result<(Vec<Change>, Option<LogicalTerminal>), StoreError> {
        let new = &self.terminal.record;
        let mut changes = Vec::new();
        let mut logical = None;
        for bound in holding(self.store, Relation::Device, &swap.old.to_string()).await? {
            if let Some((merchant, terminal)) = bound.subject.split_once(':') {
                logical.get_or_insert_with(|| LogicalTerminal {
                    merchant: merchant.to_owned(),
                    terminal: terminal.to_owned(),
                    application: None,
                });
            }
            let binding = Binding {
                object: new.id.to_string(),
                from: self.now,
                until: None,
                operator: swap.approver.clone(),
                reason: format!("replacement {}", swap.id),
                ..bound
            };
            let Rebound { changes: more, .. } = rebind(self.store, binding).await?;
            changes.extend(more);
        }
        for Versioned { version, mut record } in of_device(self.store, swap.old).await? {
            if record.state != InstallState::Withdrawn {
                record.device = Some(new.id);
                changes.push(put(Some(version), &record)?);
            }
        }
        if let Some(Versioned {
            version,
            record: Record::Terminal(mut old),
        }) = self.store.get(&Key::Terminal(swap.old)).await?
        {
            let state = match old.state {
                TerminalState::Blacklisted => TerminalState::Blacklisted,
                _ => TerminalState::Deactivated,
            };
            revoke(&mut old, state);
            let kind = EventKind::Replaced { by: new.id };
            changes.push(self.event_of(swap.old, kind));
            changes.extend(restated(self.store, &old).await?);
            changes.push(Change::Put(Expect::Version(version), (*old).into()));
        }
        Ok((changes, logical))
    }

    /// The new terminal: it belongs where the old one did, stands where that stood, and wants all its parameters.
    async fn moved(&self, swap: &Replacement, logical: Option<&LogicalTerminal>) -> Result<Vec<Change>, StoreError> {
        let new = &self.terminal.record;
        let mut changes = Vec::new();
        let mut terminal = new.clone();
        // The number stays: one that a terminal has seen is never given to other actions.
        terminal.plan.digest = None;
        terminal.resend_parameters = true;
        changes.push(Change::Put(Expect::Version(self.terminal.version), terminal.into()));
        changes.extend(relisted(self.store, new.id, &swap.branch, swap.merchant.clone()).await?);
        let settings = CaseSettings::now(self.store).await?;
        let (version, mut whereabouts) =
            read_or_new(self.store, &new.id.to_string(), || Whereabouts::of(new.id)).await?;
        let old = || Whereabouts::of(swap.old);
        let (stood, before) = read_or_new(self.store, &swap.old.to_string(), old).await?;
        if stood.is_some() {
            // Where it goes now, nobody has said.
            changes.push(put(stood, &before.gone())?);
        }
        self.settle(&mut whereabouts, &settings);
        let mut elsewhere = false;
        if let (Some(home), Some(stood)) = (&mut whereabouts.home, before.home) {
            // Its SIM card and radio module are its own; all else is the old one's place.
            let own = std::mem::take(&mut home.place);
            home.place = Place {
                iccids: own.iccids,
                imeis: own.imeis,
                ..stood.place
            };
            (home.moves, home.mobile) = (stood.moves, stood.mobile);
            elsewhere = self.is_elsewhere(home, &settings);
        }
        whereabouts.logical = logical.cloned();
        changes.push(put(version, &whereabouts)?);
        changes.push(self.registered(logical, elsewhere));
        Ok(changes)
    }
}

/// Takes everything from a terminal that it could prove itself with.
fn revoke(terminal: &mut Terminal, state: TerminalState) {
    terminal.state = state;
    terminal.revoked = true;
    terminal.tickets.clear();
    (terminal.credential, terminal.renewed_certificate) = (None, None);
    terminal.main_key_epoch = None;
}

/// What makes the roster say the state that a terminal has now.
async fn restated(store: &dyn Store, terminal: &Terminal) -> Result<Option<Change>, StoreError> {
    Ok(match store.get(&Key::Roster(terminal.id)).await? {
        Some(Versioned {
            version,
            record: Record::Roster(mut entry),
        }) => {
            entry.state = terminal.state;
            if terminal.state == TerminalState::Deactivated {
                entry.merchant = None;
            }
            Some(Change::Put(Expect::Version(version), (*entry).into()))
        }
        _ => None,
    })
}

/// Whether two terminals are of one model, whatever its names.
fn same_model(one: &Holder, other: &Holder) -> bool {
    let aliases = Aliases::known();
    let name = |holder: &Holder| {
        let formed = aliases.holder(&holder.vendor, &holder.model, "1");
        formed.map_or_else(
            |_| (holder.vendor.clone(), holder.model.clone()),
            |formed| (formed.vendor, formed.model),
        )
    };
    name(one) == name(other)
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
