//! A reconciled list of assets, as a report.

use super::row::row;
use super::{MAX_GROUPS, Report};
use crate::estate::asset::name_of;
use crate::estate::{Actor, Estate, EstateError};
use crate::rule::asset::{Finding, Outcome};

row! {
    /// What became of one line of a list, or of a terminal that is not in it.
    pub struct AssetRow {
        /// `moved`, `unknown`, `missing`, `duplicate` or `malformed`. What is where the list says has no row.
        pub outcome: String,
        /// The line; empty for what is not in the list.
        pub line: Option<u64>,
        /// Vendor; empty for a line that cannot be read.
        pub vendor: Option<String>,
        /// Model.
        pub model: Option<String>,
        /// Serial number.
        pub serial: Option<String>,
        /// The terminal's id; empty for what is not in the estate.
        pub terminal: Option<String>,
        /// The branch in the list, where it differs.
        pub branch: Option<String>,
        /// The merchant in the list, where it differs.
        pub merchant: Option<String>,
        /// The line where it was first.
        pub first: Option<u64>,
        /// Why the line cannot be read.
        pub reason: Option<String>,
    }
}

impl From<Finding> for AssetRow {
    fn from(finding: Finding) -> Self {
        let (vendor, model, serial) = finding.holder.map_or((None, None, None), |holder| {
            (Some(holder.vendor), Some(holder.model), Some(holder.serial))
        });
        let mut row = Self {
            outcome: String::new(),
            line: finding.line,
            vendor,
            model,
            serial,
            terminal: name_of(finding.terminal),
            branch: None,
            merchant: None,
            first: None,
            reason: None,
        };
        let outcome = match finding.outcome {
            Outcome::Matched => "matched",
            Outcome::Moved { branch, merchant } => {
                row.branch = branch.map(|levels| format!("/{}", levels.join("/")));
                row.merchant = merchant;
                "moved"
            }
            Outcome::Unknown => "unknown",
            Outcome::Missing => "missing",
            Outcome::Duplicate { first } => {
                row.first = Some(first);
                "duplicate"
            }
            Outcome::Malformed { reason } => {
                row.reason = Some(reason);
                "malformed"
            }
        };
        outcome.clone_into(&mut row.outcome);
        row
    }
}

impl Estate {
    /// What was found of a list that was reconciled, in the order of the list and then of the roster; the first 100,000.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none that the actor may see.
    pub async fn asset_report(&self, actor: &Actor, id: &str) -> Result<Report<AssetRow>, EstateError> {
        let stocktaking = self.stocktaking(actor, id).await?;
        let findings = self.findings(id).await?.into_iter();
        let totals = stocktaking.totals;
        let found = [
            totals.moved,
            totals.unknown,
            totals.missing,
            totals.duplicate,
            totals.malformed,
        ];
        let found = found.into_iter().fold(0, u64::saturating_add);
        Ok(Report {
            terminals: self.count_under(&stocktaking.branch).await?,
            under: stocktaking.branch,
            as_of: stocktaking.as_of,
            cut: found > u64::from(MAX_GROUPS),
            rows: findings.map(|kept| kept.finding.into()).collect(),
        })
    }
}
