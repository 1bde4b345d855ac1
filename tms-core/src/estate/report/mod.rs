//! Reports: what an estate comes to, as typed rows.
//!
//! Every report names a branch, and speaks of that branch and those below it, as far as the operator who asks may see them
//! ([`Reports`]). A number of terminals is always given beside that of all terminals that the filter names, silent ones among them. What
//! check-ins said is in a report up to its [`AsOf`].

mod activity;
mod asset;
mod case;
mod drift;
mod expiry;
mod fleet;
mod row;
mod scope;

pub use activity::{CheckInRow, FailureRow};
pub use asset::AssetRow;
pub use case::{CaseRow, words};
pub use drift::{DriftCountRow, DriftPage, DriftRow};
pub use expiry::{ExpiryPage, ExpiryRow};
pub use fleet::{StandingRow, TerminalPage, TerminalRow, VersionRow};
pub use row::{OnDay, Row, csv, rfc3339};
pub use scope::Reports;

use super::expiry::DAY;
use super::{Actor, AsOf, Estate};
use crate::store::{BranchPath, Key, Record, RosterEntry, RosterFilter, Store, StoreError, Tally, TerminalId};
use futures_util::future::try_join_all;
use serde::Serialize;
use std::sync::Arc;

/// How many lines of the roster are asked for at a time.
const AT_ONCE: usize = 256;

/// The most groups that a report has, and the most days.
const MAX_GROUPS: u32 = 100_000;
const MAX_DAYS: u32 = 400;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report<R> {
    /// The branch that it is about, with those below it.
    pub under: BranchPath,
    /// As of when it is.
    pub as_of: AsOf,
    /// All terminals that its filter names, whether a row tells of them or not.
    pub terminals: u64,
    /// Whether there would be more rows.
    pub cut: bool,
    /// The rows.
    pub rows: Vec<R>,
}

impl Estate {
    /// The reports that `actor` may see.
    #[must_use]
    pub fn reports<'a>(&self, actor: &'a Actor) -> Reports<'a> {
        Reports::new(Arc::clone(&self.store), Arc::clone(&self.clock), actor)
    }

    /// How many terminals there are in a branch and below it.
    async fn count_under(&self, under: &BranchPath) -> Result<u64, StoreError> {
        let tally = Tally::Roster {
            filter: RosterFilter::under(under.clone()),
            by: Vec::new(),
        };
        let groups = self.store.tally(&tally, 1).await?;
        Ok(groups.first().map_or(0, |group| group.count))
    }
}

/// Lines of the roster, in this order; many at a time, for each waits for the store.
async fn lines(
    store: &dyn Store,
    terminals: impl Iterator<Item = TerminalId>,
) -> Result<Vec<Option<RosterEntry>>, StoreError> {
    let terminals: Vec<_> = terminals.collect();
    let mut lines = Vec::with_capacity(terminals.len());
    for some in terminals.chunks(AT_ONCE) {
        lines.extend(try_join_all(some.iter().map(|id| line(store, *id))).await?);
    }
    Ok(lines)
}

async fn line(store: &dyn Store, terminal: TerminalId) -> Result<Option<RosterEntry>, StoreError> {
    let found = store.get(&Key::Roster(terminal)).await?;
    Ok(found.and_then(|found| match found.record {
        Record::Roster(entry) => Some(*entry),
        _ => None,
    }))
}

impl<R: Row> Report<R> {
    /// The rows as CSV.
    #[must_use]
    pub fn csv(&self) -> String {
        csv(&self.rows, self.as_of, true)
    }
}
