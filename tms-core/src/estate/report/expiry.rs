//! What ends soon: certificates and keys.

use super::row::{OnDay, row};
use super::{Reports, lines};
use crate::estate::expiry::{Expiring, Expiry};
use crate::estate::{AsOf, EstateError};
use crate::store::{BranchPath, Day, Entity, Query, Record, RosterEntry, TerminalId};

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
    /// What ends, by day and terminal.
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

impl Reports<'_> {
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
        let after = match after {
            Some(text) => Some(place_of(text).ok_or(EstateError::BadCursor)?),
            None => None,
        };
        let first = today.saturating_sub(PAST);
        let mut found: Vec<Expiry> = Vec::new();
        for scope in self.scopes(under) {
            let (mark, prefix) = Expiry::due(&scope);
            let after = match after {
                Some((day, terminal)) => (format!("{prefix}{day:010}"), terminal.to_string()),
                // no id is empty
                None => (format!("{prefix}{first:010}"), String::new()),
            };
            let query = Query::Marked {
                kind: Expiry::KIND,
                mark: mark.to_owned(),
                prefix,
                after: Some(after),
            };
            for found_here in self.store.list(&query, limit).await? {
                let Record::Document(document) = found_here.record else {
                    continue;
                };
                let expiry: Expiry = document.read()?;
                if expiry.last >= end {
                    break;
                }
                found.push(expiry);
            }
        }
        found.sort_by_key(|expiry| (expiry.last, expiry.terminal));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let full = u32::try_from(found.len()).is_ok_and(|found| found >= limit);
        let last = found.last().filter(|_| full);
        let next = last.map(|last| format!("{}.{}", last.last, last.terminal));
        let entries = lines(&*self.store, found.iter().map(|expiry| expiry.terminal)).await?;
        let rows = found.into_iter().zip(entries);
        let rows = rows
            .map(|(expiry, entry)| ExpiryRow::of(expiry, entry, today))
            .collect();
        Ok(ExpiryPage { as_of, rows, next })
    }
}

fn place_of(cursor: &str) -> Option<(Day, TerminalId)> {
    let (day, terminal) = cursor.split_once('.')?;
    let terminal = u64::from_str_radix(terminal, 16).ok()?;
    Some((day.parse().ok()?, TerminalId(terminal)))
}
