//! What terminals have that they should not, and the other way round.

use super::row::{rfc3339, row};
use super::{MAX_GROUPS, Report, lines};
use crate::estate::drift::Drift;
use crate::estate::{Actor, AsOf, Estate, EstateError, Permission};
use crate::rule::drift::{Class, Item, Response};
use crate::store::{BranchPath, Entity, Query, RosterEntry, Tally};

row! {
    /// One thing of a terminal that is not as it shall be.
    pub struct DriftRow {
        /// The branch that it belongs to.
        pub branch: BranchPath,
        /// The terminal's id.
        pub terminal: String,
        /// Vendor.
        pub vendor: String,
        /// Model.
        pub model: String,
        /// Serial number.
        pub serial: String,
        /// `component` or `parameters`.
        pub what: String,
        /// The component, or the parameter set.
        pub name: String,
        /// How it differs: `old`, `failed_task`, `on_site_edit`, `foreign`, `missing` or `unproven`.
        pub class: String,
        /// What the policy does about it: `accept`, `report` or `restore`.
        pub response: String,
        /// Whether an operator wants it put right.
        pub wanted: String,
        /// Digest of what it shall be; empty where it shall not be there.
        pub desired: String,
        /// Digest of what it is; empty where that is not known.
        pub reported: String,
        /// Its version, in the terminal's words.
        pub version: String,
        /// When it was changed on site, by the terminal's clock; empty where that is not told.
        pub changed: String,
        /// When it was found first.
        pub since: String,
    }
}

row! {
    /// How many terminals differ in one way.
    pub struct DriftCountRow {
        /// How.
        pub class: String,
        /// How many terminals have something of it.
        pub terminals: u64,
    }
}

/// A page of drift.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DriftPage {
    /// As of when it is.
    pub as_of: AsOf,
    /// What differs, by branch and terminal.
    pub rows: Vec<DriftRow>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

impl DriftRow {
    fn of(drift: &Drift, entry: Option<&RosterEntry>) -> Vec<Self> {
        let text = |text: Option<String>| text.unwrap_or_default();
        let rows = drift.items.iter().map(|item| {
            let finding = &item.finding;
            let (what, name) = match &finding.item {
                Item::Component(name) => ("component", name),
                Item::Parameters(name) => ("parameters", name),
            };
            let response = match finding.response {
                Some(Response::Accept) => "accept",
                Some(Response::Report) => "report",
                Some(Response::Restore) => "restore",
                None => "",
            };
            Self {
                branch: drift.branch.clone(),
                terminal: drift.terminal.to_string(),
                vendor: text(entry.map(|entry| entry.vendor.clone())),
                model: text(entry.map(|entry| entry.model.clone())),
                serial: text(entry.map(|entry| entry.serial.clone())),
                what: what.to_owned(),
                name: name.clone(),
                class: finding.class.name().to_owned(),
                response: response.to_owned(),
                wanted: if item.wanted { "yes" } else { "no" }.to_owned(),
                desired: text(finding.desired.map(|digest| digest.to_string())),
                reported: text(finding.reported.map(|digest| digest.to_string())),
                version: text(finding.version.clone()),
                changed: text(finding.changed_at.map(rfc3339)),
                since: rfc3339(item.since),
            }
        });
        rows.collect()
    }
}

impl Estate {
    /// What differs in the terminals of a branch and those below it, or what of them differs in this way: of at most `limit`
    /// terminals, after where an earlier page ended.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not view the branch; [`EstateError::BadCursor`] where `after` is none that a page of this list gave.
    pub async fn drift(
        &self,
        actor: &Actor,
        under: &BranchPath,
        class: Option<Class>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<DriftPage, EstateError> {
        actor.demand(Permission::View, under)?;
        let as_of = self.drift_as_of().await?;
        let after = match after {
            Some(text) => {
                let (terminal, branch) = text.split_once('.').ok_or(EstateError::BadCursor)?;
                let branch: BranchPath = branch.parse().map_err(|_| EstateError::BadCursor)?;
                Some((branch.to_string(), terminal.to_owned()))
            }
            None => None,
        };
        let query = Query::Marked {
            kind: Drift::KIND,
            mark: class.map_or(Drift::ALL, Class::name).to_owned(),
            prefix: under.to_string(),
            after,
        };
        let page: Vec<Drift> = self.documents(&query, limit).await?;
        let full = u32::try_from(page.len()).is_ok_and(|found| found >= limit);
        let next = page.last().map(|last| format!("{}.{}", last.terminal, last.branch));
        let entries = lines(&*self.store, page.iter().map(|drift| drift.terminal)).await?;
        let mut rows = Vec::new();
        for (drift, entry) in page.into_iter().zip(entries) {
            let all = DriftRow::of(&drift, entry.as_ref()).into_iter();
            rows.extend(all.filter(|row| class.is_none_or(|class| row.class == class.name())));
        }
        Ok(DriftPage {
            as_of,
            rows,
            next: next.filter(|_| full),
        })
    }

    /// How many terminals of a branch and those below it differ, in each way. One that differs in two ways counts for both.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not view the branch; those of the store.
    pub async fn drift_counts(&self, actor: &Actor, under: &BranchPath) -> Result<Report<DriftCountRow>, EstateError> {
        actor.demand(Permission::View, under)?;
        let as_of = self.drift_as_of().await?;
        let mut rows = Vec::new();
        for class in Class::DIFFERENT {
            let tally = Tally::Marked {
                kind: Drift::KIND,
                mark: class.name().to_owned(),
                prefix: under.to_string(),
            };
            let groups = self.store.tally(&tally, MAX_GROUPS).await?;
            let terminals = groups.iter().map(|group| group.count).fold(0, u64::saturating_add);
            if terminals > 0 {
                rows.push(DriftCountRow {
                    class: class.name().to_owned(),
                    terminals,
                });
            }
        }
        Ok(Report {
            under: under.clone(),
            as_of,
            terminals: self.count_under(under).await?,
            cut: false,
            rows,
        })
    }
}
