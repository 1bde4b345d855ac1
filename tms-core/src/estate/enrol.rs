//! Terminals: enrolled, switched off, and given a new certificate.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::{Estate, EstateError, decided};
use crate::store::{
    BranchPath, Caller, Change, Decoding, EventKind, Expect, Holder, Key, KeyId, PlanStanding, Record, RosterEntry,
    StoreError, Terminal, TerminalId, TerminalState, Versioned,
};
use serde_json::json;
use tms_proto::certificate::{Certificate, Subject};

/// What is known of a terminal when it is enrolled.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Vendor, model and serial number.
    pub holder: Holder,
    /// The RSA identity that it must prove; without one the first that is certified for the holder is pinned.
    pub key: Option<KeyId>,
    /// The epoch of its terminal main-control key, where it has one.
    pub main_key_epoch: Option<u32>,
    /// The branch that it belongs to.
    pub branch: BranchPath,
}

impl Enrolment {
    /// A terminal of head office, of which no more is known than its name.
    #[must_use]
    pub fn of(holder: Holder) -> Self {
        Self {
            holder,
            key: None,
            main_key_epoch: None,
            branch: BranchPath::head_office(),
        }
    }
}

impl Estate {
    /// Enrols a terminal: from now on the server knows it.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`] where its branch is not there; [`EstateError::Enrolled`] where there is one
    /// with this holder; [`EstateError::BadHolder`].
    pub async fn enrol(&self, actor: &Actor, enrolment: Enrolment) -> Result<TerminalId, EstateError> {
        let Enrolment {
            holder,
            key,
            main_key_epoch,
            branch,
        } = enrolment;
        actor.demand(Permission::Enrol, &branch)?;
        self.demand_branch(&branch).await?;
        let sound = |part: &str| !part.is_empty() && part.chars().count() <= 40 && !part.contains(char::is_control);
        if ![&holder.vendor, &holder.model, &holder.serial]
            .into_iter()
            .all(|part| sound(part))
        {
            return Err(EstateError::BadHolder);
        }
        if self.store.check_in(&Caller::Holder(holder.clone())).await?.is_some() {
            return Err(EstateError::Enrolled(holder));
        }
        let mut random = [0; 8];
        self.entropy.fill(&mut random);
        let id = TerminalId(u64::from_be_bytes(random));
        let terminal = Terminal {
            id,
            holder: holder.clone(),
            state: TerminalState::Enrolled,
            key,
            renewed_certificate: None,
            credential: None,
            main_key_epoch,
            tickets: Vec::new(),
            contact: 0,
            plan: PlanStanding::default(),
            last_action: 0,
            inventory: None,
            decoding: Decoding::default(),
            last_check_in: None,
            next_contact: None,
            slot: None,
            logical: Vec::new(),
            revoked: false,
            policy: None,
            resend_parameters: false,
            texts: Vec::new(),
            withdrawn_texts: Vec::new(),
        };
        let event = self.event(actor, Some(id), EventKind::Enrolled);
        let listed = RosterEntry::of(&terminal, branch.clone());
        let deed = Deed {
            act: "terminal.enrol",
            subject: id.to_string(),
            branch,
            detail: json!({ "holder": holder, "key": key, "main_key_epoch": main_key_epoch }),
        };
        let changes = vec![
            Change::Put(Expect::Absent, terminal.into()),
            Change::Put(Expect::Absent, listed.into()),
            Change::Append(event),
        ];
        match self.commit(actor, &deed, changes).await {
            Err(StoreError::Conflict) => Err(EstateError::Enrolled(holder)),
            done => Ok(done.map(|()| id)?),
        }
    }

    /// Puts a terminal into another state. Its tickets end with it, so that it cannot come back without proving itself.
    ///
    /// # Errors
    /// [`EstateError::UnknownTerminal`].
    pub async fn set_state(&self, actor: &Actor, terminal: &Caller, state: TerminalState) -> Result<(), EstateError> {
        let kind = EventKind::StateChanged { state };
        self.change_terminal(actor, Permission::ChangeState, terminal, kind, |terminal| {
            terminal.state = state;
            terminal.tickets.clear();
            terminal.credential = None;
            Ok(())
        })
        .await
    }

    /// Lays a renewed certificate ready for a terminal: it gets it when it asks, even after the old one has expired.
    ///
    /// # Errors
    /// [`EstateError::WrongCertificate`] where it is for another terminal or another key than the pinned one.
    pub async fn renew(&self, actor: &Actor, certificate: &[u8]) -> Result<TerminalId, EstateError> {
        let decoded = Certificate::decode(certificate)?;
        let Subject::Terminal(holder) = &decoded.body().subject else {
            return Err(EstateError::WrongCertificate("it is not a terminal's"));
        };
        let caller = Caller::Holder(holder.clone());
        let id = self.known(&caller).await?.terminal.record.id;
        let kind = EventKind::CertificateRenewed;
        self.change_terminal(actor, Permission::Enrol, &caller, kind, |terminal| {
            if terminal.key.is_some_and(|pinned| pinned != decoded.body().key.id()) {
                return Err(EstateError::WrongCertificate(
                    "it is for another key than the pinned one",
                ));
            }
            terminal.renewed_certificate = Some(hex::encode(certificate));
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// What makes the roster say the state that a terminal has now, where it says another.
    pub(super) async fn relist(&self, terminal: &Terminal) -> Result<Option<Change>, StoreError> {
        let found = self.store.get(&Key::Roster(terminal.id)).await?;
        Ok(match found {
            Some(Versioned {
                version,
                record: Record::Roster(mut entry),
            }) => (entry.state != terminal.state).then(|| {
                entry.state = terminal.state;
                Change::Put(Expect::Version(version), (*entry).into())
            }),
            // it was enrolled before there was a roster: the roll-up enters what it was seen
            _ => None,
        })
    }

    async fn change_terminal(
        &self,
        actor: &Actor,
        permission: Permission,
        caller: &Caller,
        kind: EventKind,
        change: impl Fn(&mut Terminal) -> Result<(), EstateError> + Send + Sync,
    ) -> Result<(), EstateError> {
        decided(|| async {
            let known = self.known(caller).await?.terminal;
            let mut terminal = known.record;
            let branch = self.branch_of(terminal.id).await?;
            actor.demand(permission, &branch)?;
            change(&mut terminal)?;
            let event = self.event(actor, Some(terminal.id), kind.clone());
            let deed = Deed {
                act: match kind {
                    EventKind::StateChanged { .. } => "terminal.state",
                    _ => "terminal.certificate",
                },
                subject: terminal.id.to_string(),
                branch,
                detail: json!(kind),
            };
            let mut changes = Vec::from_iter(self.relist(&terminal).await?);
            changes.push(Change::Put(Expect::Version(known.version), terminal.into()));
            changes.push(Change::Append(event));
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }
}
