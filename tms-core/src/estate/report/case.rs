//! Cases, as a report.

use super::row::{OnDay, row};
use super::{Report, lines, rfc3339};
use crate::estate::case::kind_name;
use crate::estate::expiry::day_of;
use crate::estate::{Actor, Case, CaseState, Estate, EstateError, Permission};
use crate::rule::relocation::Evidence;
use crate::store::{BranchPath, RosterEntry};

/// The most cases of one report: more than anybody visits, and read in less than a second.
const MAX_CASES: u32 = 20_000;

row! {
    /// A case.
    pub struct CaseRow {
        /// Its id.
        pub case: String,
        /// `relocation` or `clone`.
        pub about: String,
        /// `open`, `assigned` or `closed`.
        pub state: String,
        /// The sum of its points.
        pub score: u32,
        /// The branch of the terminal, when it was opened.
        pub branch: BranchPath,
        /// The terminal's id.
        pub terminal: String,
        /// Vendor; empty where the terminal was removed.
        pub vendor: String,
        /// Model.
        pub model: String,
        /// Serial number.
        pub serial: String,
        /// The merchant where it stands, as far as that is known.
        pub merchant: Option<String>,
        /// The strongest evidence, in words.
        pub evidence: String,
        /// The day on which it was opened.
        pub opened: OnDay,
        /// When it was last seen, RFC 3339 in UTC.
        pub seen: String,
        /// Who works on it.
        pub owner: Option<String>,
        /// What was decided.
        pub disposition: Option<String>,
    }
}

impl Estate {
    /// The cases of a branch and those below it, in one state or in all, by state, branch and age: at most 20,000, and
    /// [`cut`](Report::cut) where there are more: a state or a branch has fewer.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not view the branch; [`EstateError::Store`].
    pub async fn case_report(
        &self,
        actor: &Actor,
        under: &BranchPath,
        state: Option<CaseState>,
    ) -> Result<Report<CaseRow>, EstateError> {
        actor.demand(Permission::View, under)?;
        let as_of = self.cases_as_of().await?;
        let mut rows = Vec::new();
        let states = CaseState::ALL
            .into_iter()
            .filter(|one| state.is_none_or(|state| state == *one));
        let mut cut = false;
        for state in states {
            let left = MAX_CASES.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            let cases = self.cases_under(under, state, left.saturating_add(1)).await?;
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            cut |= cases.len() > most;
            let entries = lines(&*self.store, cases.iter().take(most).map(|case| case.terminal)).await?;
            rows.extend(
                cases
                    .into_iter()
                    .zip(entries)
                    .map(|(case, entry)| CaseRow::of(case, entry)),
            );
        }
        Ok(Report {
            under: under.clone(),
            as_of,
            terminals: self.count_under(under).await?,
            cut,
            rows,
        })
    }
}

impl CaseRow {
    fn of(case: Case, entry: Option<RosterEntry>) -> Self {
        let merchant = entry.as_ref().and_then(|entry| entry.merchant.clone());
        let (vendor, model, serial) =
            entry.map_or_else(Default::default, |entry| (entry.vendor, entry.model, entry.serial));
        let evidence = case.data.evidence.first();
        Self {
            about: kind_name(case.data.kind).to_owned(),
            state: case.state.name().to_owned(),
            score: case.data.score,
            branch: case.branch,
            terminal: case.terminal.to_string(),
            vendor,
            model,
            serial,
            merchant,
            evidence: evidence.map(|weighed| words(&weighed.evidence)).unwrap_or_default(),
            opened: OnDay(day_of(case.opened)),
            seen: rfc3339(case.data.seen),
            owner: case.owner,
            disposition: case.disposition.map(|disposition| disposition.name().to_owned()),
            case: case.id,
        }
    }
}

/// Evidence in a sentence.
#[must_use]
pub fn words(evidence: &Evidence) -> String {
    match evidence {
        Evidence::OtherNumber {
            number,
            trust,
            other_area,
        } => {
            let area = if *other_area { ", in another area" } else { "" };
            format!("calls from {number} ({trust}){area}")
        }
        Evidence::NoNumber => "its number is withheld".to_owned(),
        Evidence::ClaimedNumber { number } => format!("says that it calls from {number}"),
        Evidence::Contradiction { claimed, observed } => format!("says {claimed}, and calls from {observed}"),
        Evidence::OtherNetwork { address } => format!("calls from {address}"),
        Evidence::OtherCell { cell } => format!("says that it is in cell {cell}"),
        Evidence::OtherSim { iccid } => format!("has the SIM card {iccid}"),
        Evidence::OtherModule { imei } => format!("has the radio module {imei}"),
        Evidence::SameSerial { holder, terminals } => format!("{} terminals are {holder}", terminals.len()),
        Evidence::SameKey { key, terminals } => format!("{} terminals have the key {key}", terminals.len()),
        Evidence::TwoPlaces { first, second, seconds } => {
            format!("called from {first} and from {second} within {seconds} s")
        }
        Evidence::CounterBack { recorded, reported } => format!("call {reported} came after call {recorded}"),
        Evidence::Suspected { what } => what.clone(),
    }
}
