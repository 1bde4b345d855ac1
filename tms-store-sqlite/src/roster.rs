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

    /// All that the filter says but of the branch.
    fn filter(&mut self, filter: &RosterFilter) {
        let RosterFilter {
            under: _,
            vendor,
            model,
            serial,
            merchant,
            version,
            state,
            seen,
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
        match seen {
            None => {}
            Some(Seen::Never) => self.and("r.seen = -1", []),
            Some(Seen::Since(day)) => self.and("r.seen >= ?", [i64::from(*day).into()]),
            Some(Seen::Before(day)) => self.and("r.seen >= 0 AND r.seen < ?", [i64::from(*day).into()]),
        }
    }

    fn branch(&mut self, branch: &BranchPath) {
        self.and("r.branch >= ?", [branch.as_str().to_owned().into()]);
        if let Some(end) = after_prefix(branch.as_str()) {
            self.and("r.branch < ?", [end.into()]);
        }
    }
}
