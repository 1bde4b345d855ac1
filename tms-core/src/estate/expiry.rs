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

/// The marks that it is found by: for its branch and for each above it, by their depth, the branch and the day. So it is found
/// by one range in an index, wherever in the tree is asked.
const DUE: [&str; BranchPath::MAX_DEPTH + 1] = ["due0", "due1", "due2", "due3", "due4", "due5", "due6", "due7", "due8"];

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
        let line = self.branch.line();
        let marks = DUE.into_iter().zip(line);
        marks
            .map(|(mark, above)| (mark, format!("{}{:010}", Self::due_of(&above), self.last)))
            .collect()
    }
}

impl Expiry {
    /// The mark by which what ends in a branch and below it is found in the order of days, and how its values begin there. No
    /// name of a branch has this sign, so that none begins with another's.
    pub(super) fn due(branch: &BranchPath) -> (&'static str, String) {
        let depth = branch.line().len().saturating_sub(1);
        (DUE.get(depth).copied().unwrap_or_default(), Self::due_of(branch))
    }

    fn due_of(branch: &BranchPath) -> String {
        format!("{branch}@")
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
