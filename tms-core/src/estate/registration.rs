//! Online registration: a terminal says that it is installed, and is told what it is from then on.
//!
//! What is decided here is decided for a terminal that has proved itself, with what the access side observed of its call. Only an
//! installation that two operators have confirmed is registered, and only the first registration says where the terminal stands.

use super::install::{InstallState, Installation, of_device, read_or_new};
use super::rollup::put;
use super::whereabouts::{CaseSettings, Registered, Whereabouts};
use crate::rule::relocation::{Assessment, Home, Observed, Place, Sighting, assess, clipped, short};
use crate::store::{Change, Event, EventKind, RegistrationSummary, Store, StoreError, Terminal, TerminalId, Versioned};
use tms_proto::code::{RegisterIntent, ResultCode};
use tms_proto::message::{Location, LogicalTerminal, Register, RegisterAnswer};

/// The longest sentence on a printer.
const MAX_SENTENCE: usize = 120;

/// Where registrations are decided.
pub(crate) struct Desk<'a> {
    pub(crate) store: &'a dyn Store,
    /// Seconds since 1970 UTC.
    pub(crate) now: u64,
    /// Who registers.
    pub(crate) terminal: &'a Versioned<Terminal>,
    pub(crate) register: &'a Register,
    /// What the access side observed.
    pub(crate) observed: &'a Observed,
}

/// What is decided: what is written, and what the terminal is told.
pub(crate) struct Decided {
    pub(crate) changes: Vec<Change>,
    pub(crate) answer: RegisterAnswer,
}

impl Desk<'_> {
    /// Decides a registration. What it reads is expected unchanged by what it writes.
    pub(crate) async fn decide(&self) -> Result<Decided, StoreError> {
        match self.register.intent {
            RegisterIntent::Replacement => self.replace().await,
            _ => self.install().await,
        }
    }

    async fn install(&self) -> Result<Decided, StoreError> {
        let found = of_device(self.store, self.terminal.record.id).await?;
        let id = self.terminal.record.id;
        let (version, mut whereabouts) = read_or_new(self.store, &id.to_string(), || Whereabouts::of(id)).await?;
        let mut changes = Vec::new();
        let mut logical = whereabouts.logical.clone();
        let mut standing = None;
        for Versioned {
            version,
            record: mut installation,
        } in found
        {
            standing = standing.max(Some(installation.state));
            if installation.state == InstallState::Confirmed && installation.register(self.now).is_ok() {
                logical = logical_of(&installation).or(logical);
                changes.push(put(Some(version), &installation)?);
            } else if installation.state == InstallState::Installed {
                logical = logical.or_else(|| logical_of(&installation));
            }
        }
        let Some(logical) = logical else {
            let (code, sentence) = match standing {
                None => (
                    ResultCode::UnknownReference,
                    "no installation of this terminal is known".to_owned(),
                ),
                Some(state) => (
                    ResultCode::NotPermitted,
                    format!("the installation is {state}: it is not confirmed yet"),
                ),
            };
            return Ok(self.refused(code, &sentence));
        };
        whereabouts.logical = Some(logical.clone());
        let settings = CaseSettings::now(self.store).await?;
        let home = whereabouts.home.as_ref();
        let elsewhere = home.is_some_and(|home| self.is_elsewhere(home, &settings));
        let approved = |home: &Home| home.moves.iter().any(|to| (to.from..to.until).contains(&self.now));
        let moves = self.register.intent == RegisterIntent::Relocation && !elsewhere && home.is_some_and(approved);
        if home.is_none() || moves {
            self.settle(&mut whereabouts, &settings);
        }
        changes.push(put(version, &whereabouts)?);
        changes.push(self.registered(Some(&logical), elsewhere));
        if elsewhere {
            let sentence = "registered at another place before: the bank was told, call your helpdesk";
            let answer = answer(ResultCode::Duplicate, Some(logical), sentence);
            return Ok(Decided { changes, answer });
        }
        Ok(self.accepted(changes, Some(logical), "registered"))
    }

    /// From now on the terminal stands where it is.
    pub(super) fn settle(&self, whereabouts: &mut Whereabouts, settings: &CaseSettings) {
        let claimed = self.claimed();
        let mobile = whereabouts.home.as_ref().is_some_and(|home| home.mobile);
        whereabouts.home = Some(Home {
            place: Place::of(self.observed, &claimed, &settings.plan),
            since: self.now,
            mobile,
            moves: Vec::new(),
        });
        whereabouts.registered = Some(Registered {
            time: self.now,
            observed: self.observed.clone(),
            claimed,
            installer: self.register.installer.as_deref().map(short),
        });
        whereabouts.sightings.clear();
    }

    /// Whether a terminal is where it may not be, by whatever evidence.
    pub(super) fn is_elsewhere(&self, home: &Home, settings: &CaseSettings) -> bool {
        let CaseSettings { plan, policy, white } = settings;
        let sighting = Sighting {
            time: self.now,
            contact: self.terminal.record.contact,
            observed: self.observed.clone(),
            claimed: self.claimed(),
        };
        assess(home, white, &[sighting], plan, policy) != Assessment::Quiet
    }

    pub(super) fn registered(&self, logical: Option<&LogicalTerminal>, elsewhere: bool) -> Change {
        let (merchant, number) = logical.map_or_else(Default::default, |logical| {
            (logical.merchant.clone(), logical.terminal.clone())
        });
        let summary = RegistrationSummary {
            intent: self.register.intent,
            merchant,
            number,
            elsewhere,
            observed: self.observed.clone(),
            location: self.register.location.as_ref().map(clipped).map(Box::new),
        };
        self.event_of(self.terminal.record.id, EventKind::Registered(summary))
    }

    pub(super) fn event_of(&self, terminal: TerminalId, kind: EventKind) -> Change {
        Change::Append(Event {
            time: self.now,
            terminal: Some(terminal),
            actor: self.terminal.record.holder.to_string(),
            kind,
        })
    }

    /// The terminal is told what it is.
    pub(super) fn accepted(&self, changes: Vec<Change>, logical: Option<LogicalTerminal>, sentence: &str) -> Decided {
        Decided {
            changes,
            answer: answer(ResultCode::Success, logical, sentence),
        }
    }

    /// A refusal, with a sentence for the printer; the event tells of it.
    pub(super) fn refused(&self, code: ResultCode, sentence: &str) -> Decided {
        Decided {
            changes: vec![self.event_of(
                self.terminal.record.id,
                EventKind::RegistrationRefused {
                    intent: self.register.intent,
                    code,
                },
            )],
            answer: answer(code, None, sentence),
        }
    }

    fn claimed(&self) -> Location {
        self.register.location.as_ref().map(clipped).unwrap_or_default()
    }
}

fn answer(code: ResultCode, logical: Option<LogicalTerminal>, sentence: &str) -> RegisterAnswer {
    RegisterAnswer {
        code,
        logical,
        text: Some(sentence.chars().take(MAX_SENTENCE).collect()),
    }
}

fn logical_of(installation: &Installation) -> Option<LogicalTerminal> {
    let (merchant, terminal) = installation.numbers()?;
    Some(LogicalTerminal {
        merchant: merchant.to_owned(),
        terminal: terminal.to_owned(),
        application: None,
    })
}
