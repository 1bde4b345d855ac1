//! A terminal registers in the place of another.

use super::{MAX_OPEN, MAX_WRONG_CODES, Replacement, ReplacementState, marked};
use crate::estate::binding::{Binding, Rebound, Relation, holding, rebind};
use crate::estate::install::{InstallState, of_device, read_or_new, relisted};
use crate::estate::list;
use crate::estate::registration::{Decided, Desk};
use crate::estate::rollup::put;
use crate::estate::whereabouts::{CaseSettings, Whereabouts};
use crate::rule::name::Aliases;
use crate::rule::relocation::Place;
use crate::store::{
    Change, EventKind, Expect, Holder, Key, Record, Store, StoreError, Terminal, TerminalState, Versioned,
};
use tms_proto::code::ResultCode;
use tms_proto::message::LogicalTerminal;

impl Desk<'_> {
    /// Decides a registration in the place of another terminal.
    pub(in crate::estate) async fn replace(&self) -> Result<Decided, StoreError> {
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
pub(super) fn revoke(terminal: &mut Terminal, state: TerminalState) {
    terminal.state = state;
    terminal.revoked = true;
    terminal.tickets.clear();
    (terminal.credential, terminal.renewed_certificate) = (None, None);
    terminal.main_key_epoch = None;
}

/// What makes the roster say the state that a terminal has now.
pub(super) async fn restated(store: &dyn Store, terminal: &Terminal) -> Result<Option<Change>, StoreError> {
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
