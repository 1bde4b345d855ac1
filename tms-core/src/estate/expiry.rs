//! When what a terminal proves itself with, or works with, ends.

use crate::store::{BranchPath, Day, Entity, InventoryRecord, Kind, RosterEntry, Terminal, TerminalId};
use serde::{Deserialize, Serialize};
use tms_proto::credential::Remembered;
use tms_proto::tlv::Structure;

/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;

/// The day in which a second lies.
pub(super) fn day_of(seconds: u64) -> Day {
    Day::try_from(seconds / DAY).unwrap_or(Day::MAX)
}

/// What ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiring {
    /// The terminal's certificate.
    Certificate,
    /// The key in this slot.
    Key(u16),
    /// The approval or certificate of this component.
    Component(String),
}

/// The first of a terminal's certificate, keys and components to end, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Whose.
    pub terminal: TerminalId,
    /// The branch that it belongs to.
    pub branch: BranchPath,
    /// The last day on which it is valid.
    pub last: Day,
    /// What it is.
    pub what: Expiring,
}

impl Entity for Expiry {
    const KIND: Kind = Kind::named("expiry");

    fn id(&self) -> String {
        self.terminal.to_string()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![(Self::DUE, Self::due(self.last, &self.branch))]
    }
}

impl Expiry {
    /// The mark that it is found by: the day, then the branch.
    pub(super) const DUE: &'static str = "due";

    pub(super) fn due(day: Day, branch: &BranchPath) -> String {
        format!("{day:010}{branch}")
    }

    /// What is known of a terminal; none where nothing of it is known to end.
    pub(super) fn of(entry: &RosterEntry, terminal: &Terminal, inventory: Option<&InventoryRecord>) -> Option<Self> {
        let certificate = terminal
            .credential
            .as_ref()
            .and_then(|credential| hex::decode(&credential.known).ok())
            .and_then(|known| Remembered::from_slice(&known).ok())
            .map(|known| (day_of(known.expiry.start()), Expiring::Certificate));
        let inventory = inventory.map(|record| &record.inventory);
        let keys = inventory.iter().flat_map(|inventory| &inventory.keys);
        let keys = keys.filter_map(|key| Some((day_of(key.expiry?), Expiring::Key(key.slot))));
        let components = inventory.iter().flat_map(|inventory| &inventory.components);
        let components = components.filter_map(|component| {
            let what = Expiring::Component(component.id.clone());
            Some((day_of(component.expiry?), what))
        });
        let (last, what) = certificate.into_iter().chain(keys).chain(components).min()?;
        Some(Self {
            terminal: entry.terminal,
            branch: entry.branch.clone(),
            last,
            what,
        })
    }
}
