//! The roster: how a filter becomes a statement, for pages and for counts.

mod page;
mod tally;

pub(crate) use page::page;
pub(crate) use tally::tally;

use rusqlite::types::Value;
use tms_core::store::{BranchPath, RosterFilter, Seen, after_prefix};

/// A condition and its parameters, in their order.
#[derive(Default)]
struct Where {
    sql: String,
    values: Vec<Value>,
}

impl Where {
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    /// All that the filter says but of the branch and the day.
    fn names(&mut self, filter: &RosterFilter) {
        let RosterFilter {
            under: _,
            vendor,
            model,
            serial,
            merchant,
            version,
            state,
            seen: _,
        } = filter;
        for (column, wanted) in [
            ("r.vendor", vendor),
            ("r.model", model),
            ("r.merchant", merchant),
            ("r.release", version),
        ] {
            if let Some(wanted) = wanted {
                self.and(&format!("{column} = ?"), [wanted.clone().into()]);
            }
        }
        if let Some(begin) = serial {
            self.and("r.serial >= ?", [begin.clone().into()]);
            if let Some(end) = after_prefix(begin) {
                self.and("r.serial < ?", [end.into()]);
            }
        }
        if let Some(state) = state {
            self.and("r.state = ?", [state.name().to_owned().into()]);
        }
    }

    /// What the filter says of the day, of those after this one where it is given. One bound on each side: of several, SQLite
    /// takes any to enter an index.
    fn days(&mut self, seen: Option<Seen>, after: Option<i64>) {
        let (before_first, end) = match seen {
            None => return,
            // -1, and no other
            Some(Seen::Never) => (-2, Some(0)),
            Some(Seen::Since(day)) => (i64::from(day).saturating_sub(1), None),
            Some(Seen::Before(day)) => (-1, Some(i64::from(day))),
        };
        let before_first = after.map_or(before_first, |after| after.max(before_first));
        self.and("r.seen > ?", [before_first.into()]);
        if let Some(end) = end {
            self.and("r.seen < ?", [end.into()]);
        }
    }

    /// Of a branch and those below it.
    fn under(&mut self, branch: &BranchPath) {
        self.branches(branch.as_str(), branch);
    }

    /// Of those branches under `branch` that do not come before `first`.
    fn branches(&mut self, first: &str, branch: &BranchPath) {
        self.and("r.branch >= ?", [first.to_owned().into()]);
        if let Some(end) = after_prefix(branch.as_str()) {
            self.and("r.branch < ?", [end.into()]);
        }
    }
}
