//! What ends soon: certificates and keys.

use super::row::{OnDay, row};
use crate::estate::expiry::{Expiring, Expiry};
use crate::estate::{AsOf, Estate, EstateError};
use crate::store::{BranchPath, Day, Entity, Key, Query, Record, RosterEntry, StoreError, TerminalId, Versioned};

/// How far back what has ended is looked for: longer ago, nobody waits for it.
const PAST: Day = 400;

/// How far ahead at most.
const AHEAD: Day = 400;

row! {
    /// What of a terminal ends first, as far as it is known.
    pub struct ExpiryRow {
        /// The last day on which it is valid.
        pub last: OnDay,
        /// Whether that is over.
        pub expired: String,
        /// `certificate`, `key` or `component`.
        pub what: String,
        /// The key's slot, or the component.
        pub name: String,
        /// The terminal's id.
        pub terminal: String,
        /// The branch that it belongs to.
        pub branch: BranchPath,
        /// Vendor.
        pub vendor: String,
        /// Model.
        pub model: String,
        /// Serial number.
        pub serial: String,
        /// The day of its last check-in; empty for never.
        pub seen: Option<OnDay>,
    }
}

/// A page of what ends soon.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExpiryPage {
    /// As of when it is.
    pub as_of: AsOf,
    /// What ends, by day, branch and terminal.
    pub rows: Vec<ExpiryRow>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

impl ExpiryRow {
    fn of(expiry: Expiry, entry: Option<RosterEntry>, today: Day) -> Self {
        let (what, name) = match expiry.what {
            Expiring::Certificate => ("certificate", String::new()),
            Expiring::Key(slot) => ("key", slot.to_string()),
            Expiring::Component(name) => ("component", name),
        };
        let (vendor, model, serial, seen) = entry.map_or_else(Default::default, |entry| {
            (entry.vendor, entry.model, entry.serial, entry.seen)
        });
        Self {
            last: OnDay(expiry.last),
            expired: if expiry.last < today { "yes" } else { "no" }.to_owned(),
            what: what.to_owned(),
            name,
            terminal: expiry.terminal.to_string(),
            branch: expiry.branch,
            vendor,
            model,
            serial,
            seen: seen.map(OnDay),
        }
    }
}

impl Estate {
    /// What of the terminals of a branch and those below it ends within `days` days, today the first, or has ended in the last
    /// 400: at most `limit` of them, after where an earlier page ended. A terminal that never proved itself by a certificate and
    /// never reported a key with an end is not in it.
    ///
    /// # Errors
    /// [`EstateError::BadCursor`] where `after` is none that a page of this list gave.
    pub async fn expiring(
        &self,
        under: &BranchPath,
        days: u32,
        after: Option<&str>,
        limit: u32,
    ) -> Result<ExpiryPage, EstateError> {
        let as_of = self.as_of().await?;
        let today = self.today();
        let end = today.saturating_add(days.min(AHEAD));
        let mut place = match after {
            Some(text) => Some(place_of(text).ok_or(EstateError::BadCursor)?),
            None => None,
        };
        let mut day = place
            .as_ref()
            .map_or_else(|| today.saturating_sub(PAST), |(day, ..)| *day);
        let mut rows = Vec::new();
        let mut next = None;
        while day < end {
            let missing = u32::try_from(rows.len()).map_or(0, |there| limit.saturating_sub(there));
            if missing == 0 {
                break;
            }
            let query = Query::Marked {
                kind: Expiry::KIND,
                mark: Expiry::DUE.to_owned(),
                prefix: Expiry::due(day, under),
                after: place
                    .take()
                    .map(|(day, branch, id)| (Expiry::due(day, &branch), id.to_string())),
            };
            for found in self.store.list(&query, missing).await? {
                let Record::Document(document) = found.record else {
                    continue;
                };
                let expiry: Expiry = document.read()?;
                let entry = self.entry(expiry.terminal).await?;
                next = Some(format!("{}.{}.{}", expiry.last, expiry.terminal, expiry.branch));
                rows.push(ExpiryRow::of(expiry, entry, today));
            }
            day = day.saturating_add(1);
        }
        let full = u32::try_from(rows.len()).is_ok_and(|found| found >= limit);
        Ok(ExpiryPage {
            as_of,
            rows,
            next: next.filter(|_| full),
        })
    }

    pub(super) async fn entry(&self, id: TerminalId) -> Result<Option<RosterEntry>, StoreError> {
        Ok(match self.store.get(&Key::Roster(id)).await? {
            Some(Versioned {
                record: Record::Roster(entry),
                ..
            }) => Some(*entry),
            _ => None,
        })
    }
}

fn place_of(cursor: &str) -> Option<(Day, BranchPath, TerminalId)> {
    let (day, rest) = cursor.split_once('.')?;
    let (terminal, branch) = rest.split_once('.')?;
    let terminal = u64::from_str_radix(terminal, 16).ok()?;
    Some((day.parse().ok()?, branch.parse().ok()?, TerminalId(terminal)))
}
