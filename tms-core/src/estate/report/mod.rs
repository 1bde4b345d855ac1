//! Reports: what an estate comes to, as typed rows.
//!
//! Every report names a branch, and speaks of that branch and those below it: whoever calls has checked that the operator may
//! see it. A number of terminals is always given beside that of all terminals that the filter names, silent ones among them. What
//! check-ins said is in a report up to its [`AsOf`].

mod activity;
mod asset;
mod case;
mod drift;
mod expiry;
mod fleet;
mod row;

pub use activity::{CheckInRow, FailureRow};
pub use asset::AssetRow;
pub use case::{CaseRow, words};
pub use drift::{DriftCountRow, DriftPage, DriftRow};
pub use expiry::{ExpiryPage, ExpiryRow};
pub use fleet::{StandingRow, TerminalPage, TerminalRow, VersionRow};
pub use row::{OnDay, Row, csv, rfc3339};

use super::AsOf;
use super::expiry::DAY;
use crate::store::BranchPath;
use serde::Serialize;

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

impl<R: Row> Report<R> {
    /// The rows as CSV.
    #[must_use]
    pub fn csv(&self) -> String {
        csv(&self.rows, self.as_of, true)
    }
}
