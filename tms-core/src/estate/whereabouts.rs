//! Where a terminal is registered, and where it was seen last.

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::rollup::put;
use super::{Estate, EstateError, decided, read};
use crate::rule::number::DialPlan;
use crate::rule::relocation::{Home, Observed, Policy, Sighting, WhiteList};
use crate::store::{BranchPath, Entity, Kind, Store, StoreError, TerminalId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tms_proto::message::{Location, LogicalTerminal};

/// The most ranges or networks of the white list.
const MAX_WHITE: usize = 1_000;

/// The most sightings that are kept of a terminal.
const MAX_SIGHTINGS: usize = 16;

/// How a terminal registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// When, in seconds since 1970 UTC.
    pub time: u64,
    /// What the access side observed.
    pub observed: Observed,
    /// What the terminal said of itself.
    pub claimed: Location,
    /// Who installed it, as the terminal says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installer: Option<String>,
}

/// What is known of where a terminal is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Which terminal.
    pub terminal: TerminalId,
    /// What it was told to be when it registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical: Option<LogicalTerminal>,
    /// The registration that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registered>,
    /// Where it may be; none before it has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// Where it was seen, in the order of time: the newest, and when each place began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<Sighting>,
    /// The open case of its relocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relocation: Option<String>,
    /// The open case of its clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone: Option<String>,
}

impl Entity for Whereabouts {
    const KIND: Kind = Kind::named("whereabouts");

    fn id(&self) -> String {
        self.terminal.to_string()
    }
}

impl Whereabouts {
    /// Of a terminal of which nothing is known.
    #[must_use]
    pub const fn of(terminal: TerminalId) -> Self {
        Self {
            terminal,
            logical: None,
            registered: None,
            home: None,
            sightings: Vec::new(),
            relocation: None,
            clone: None,
        }
    }

    /// Of a terminal that is no longer where it was; its cases stay.
    pub(crate) fn gone(&self) -> Self {
        Self {
            relocation: self.relocation.clone(),
            clone: self.clone.clone(),
            ..Self::of(self.terminal)
        }
    }

    /// Adds a sighting. Of a terminal that stays where it is, the first and the newest are kept, and as many between as `run` says:
    /// since when it is there is not forgotten, however often it calls.
    pub(crate) fn see(&mut self, sighting: Sighting, run: usize) {
        let same = |known: &&Sighting| {
            known.observed.place() == sighting.observed.place() && known.claimed == sighting.claimed
        };
        let length = self.sightings.iter().rev().take_while(same).count();
        if length >= run.max(2) {
            self.sightings.pop();
        }
        self.sightings.push(sighting);
        let over = self.sightings.len().saturating_sub(MAX_SIGHTINGS);
        self.sightings.drain(..over);
    }
}

/// How sightings become cases: one for the estate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CaseSettings {
    /// How numbers are dialled and told where the access numbers stand.
    pub plan: DialPlan,
    /// How evidence is weighed.
    pub policy: Policy,
    /// Numbers and networks that say nothing of any terminal.
    pub white: WhiteList,
}

impl Entity for CaseSettings {
    const KIND: Kind = Kind::named("case_settings");

    fn id(&self) -> String {
        Self::ID.to_owned()
    }
}

impl CaseSettings {
    const ID: &'static str = "estate";

    /// Those that hold now.
    pub(crate) async fn now(store: &dyn Store) -> Result<Self, StoreError> {
        let found = read::<Self>(store, Self::ID).await?;
        Ok(found.map(|found| found.record).unwrap_or_default())
    }
}

impl Estate {
    /// How sightings become cases.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn case_settings(&self) -> Result<CaseSettings, EstateError> {
        Ok(CaseSettings::now(&*self.store).await?)
    }

    /// Changes how sightings become cases: the dial plan, the weights, the white list. For head office.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Invalid`] where the white list has more than 1,000 ranges or networks.
    pub async fn set_case_settings(&self, actor: &Actor, settings: CaseSettings) -> Result<(), EstateError> {
        actor.demand(Permission::ManageCases, &BranchPath::head_office())?;
        if settings.white.numbers.len() > MAX_WHITE || settings.white.networks.len() > MAX_WHITE {
            return Err(EstateError::Invalid(
                "white list",
                "must have at most 1000 ranges and networks",
            ));
        }
        decided(|| async {
            let found = self.versioned::<CaseSettings>(CaseSettings::ID).await?;
            let deed = Deed {
                act: "case.settings",
                subject: CaseSettings::ID.to_owned(),
                branch: BranchPath::head_office(),
                detail: json!({ "before": found.as_ref().map(|found| &found.record), "after": settings }),
            };
            let change = put(found.map(|found| found.version), &settings)?;
            Ok(self.commit(actor, &deed, vec![change]).await?)
        })
        .await
    }

    /// What is known of where a terminal is; none where it never registered or said anything.
    ///
    /// # Errors
    /// [`EstateError::UnknownTerminal`] where there is none that the actor may see.
    pub async fn whereabouts(&self, actor: &Actor, terminal: TerminalId) -> Result<Option<Whereabouts>, EstateError> {
        if !actor.may(Permission::View, &self.branch_of(terminal).await?) {
            return Err(EstateError::UnknownTerminal(terminal.to_string()));
        }
        let found = self.versioned::<Whereabouts>(&terminal.to_string()).await?;
        Ok(found.map(|found| found.record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Since when a terminal is where it is now is kept, for whatever number of calls, and so is that it called often enough.
        #[test]
        fn a_long_stay_is_remembered(before in 0u64..40, stay in 1u64..200, run in 1usize..6) {
            let mut whereabouts = Whereabouts::of(TerminalId(1));
            let at = |time: u64, line: &str| Sighting {
                time,
                contact: u32::try_from(time).unwrap(),
                observed: Observed { line: Some("any".to_owned()), called: Some(line.to_owned()), ..Observed::default() },
                claimed: Location::default(),
            };
            for time in 0..before {
                whereabouts.see(at(time, if time % 2 == 0 { "1" } else { "2" }), run);
            }
            for time in before..before + stay {
                let mut sighting = at(time, "3");
                sighting.claimed.cell = Some("here".to_owned());
                whereabouts.see(sighting, run);
            }
            let here: Vec<_> = whereabouts.sightings.iter().filter(|seen| seen.claimed.cell.is_some()).collect();
            prop_assert_eq!(here[0].time, before);
            prop_assert_eq!(here[here.len() - 1].time, before + stay - 1);
            let kept = usize::try_from(stay).unwrap().min(run.max(2));
            prop_assert_eq!(here.len(), kept);
            prop_assert!(whereabouts.sightings.len() <= MAX_SIGHTINGS);
        }
    }
}
