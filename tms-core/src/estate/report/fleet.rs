//! Which terminals there are: alive, silent, never registered, and what they run.

use super::row::{OnDay, row};
use super::{MAX_GROUPS, Report, Reports};
use crate::estate::{AsOf, EstateError};
use crate::store::{
    BranchPath, Day, Dimension, Group, Query, Record, RosterEntry, RosterFilter, RosterPlace, StoreError, Tally,
    TerminalId,
};
use std::collections::BTreeMap;

row! {
    /// How many terminals of a group are alive, silent, and never registered. What they were not grouped by is empty.
    #[derive(Default)]
    pub struct StandingRow {
        /// Branch.
        pub branch: Option<String>,
        /// Vendor.
        pub vendor: Option<String>,
        /// Model.
        pub model: Option<String>,
        /// Merchant; empty also where there is none.
        pub merchant: Option<String>,
        /// Version; empty also where none is known.
        pub version: Option<String>,
        /// State.
        pub state: Option<String>,
        /// All terminals of the group.
        pub terminals: u64,
        /// Those that checked in within the period.
        pub alive: u64,
        /// Those that checked in, but not within the period.
        pub silent: u64,
        /// Those that never checked in.
        pub never: u64,
    }
}

row! {
    /// How many terminals of a model run a version.
    pub struct VersionRow {
        /// Vendor.
        pub vendor: String,
        /// Model.
        pub model: String,
        /// The version of the first application; empty where none is known.
        pub version: String,
        /// Those that run it.
        pub terminals: u64,
        /// All terminals of the model that the filter names.
        pub of_model: u64,
    }
}

row! {
    /// A terminal.
    pub struct TerminalRow {
        /// Its id.
        pub terminal: String,
        /// The branch that it belongs to.
        pub branch: BranchPath,
        /// Vendor.
        pub vendor: String,
        /// Model.
        pub model: String,
        /// Serial number.
        pub serial: String,
        /// The merchant where it stands.
        pub merchant: Option<String>,
        /// The version of its first application.
        pub version: Option<String>,
        /// Its state.
        pub state: String,
        /// The day of its last check-in; empty for never.
        pub seen: Option<OnDay>,
        /// The days since then.
        pub days_silent: Option<u32>,
    }
}

impl TerminalRow {
    fn of(entry: RosterEntry, today: Day) -> Self {
        Self {
            terminal: entry.terminal.to_string(),
            branch: entry.branch,
            vendor: entry.vendor,
            model: entry.model,
            serial: entry.serial,
            merchant: entry.merchant,
            version: entry.version,
            state: entry.state.name().to_owned(),
            seen: entry.seen.map(OnDay),
            days_silent: entry.seen.map(|seen| today.saturating_sub(seen)),
        }
    }
}

/// A page of a list of terminals.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TerminalPage {
    /// As of when it is.
    pub as_of: AsOf,
    /// The terminals.
    pub rows: Vec<TerminalRow>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

impl Reports<'_> {
    /// How many terminals are alive, silent and never registered, by groups: alive is who checked in on one of the last
    /// `days` days, today among them. Where there is more than one group for what they are counted by, there is a row for
    /// each, in the order of their names.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn standing(
        &self,
        filter: &RosterFilter,
        by: &[Dimension],
        days: u32,
    ) -> Result<Report<StandingRow>, EstateError> {
        let as_of = self.as_of().await?;
        let since = self.since(days);
        let by: Vec<_> = by
            .iter()
            .copied()
            .filter(|dimension| !matches!(dimension, Dimension::Seen | Dimension::Alive(_)))
            .collect();
        let counted: Vec<_> = by.iter().copied().chain([Dimension::Alive(since)]).collect();
        let groups = self.tally(filter, &counted, MAX_GROUPS.saturating_mul(3)).await?;
        let mut terminals = 0u64;
        let mut rows: BTreeMap<Vec<String>, StandingRow> = BTreeMap::new();
        for mut group in groups {
            let Some(standing) = group.names.pop() else { continue };
            terminals = terminals.saturating_add(group.count);
            let row = rows.entry(group.names).or_default();
            row.terminals = row.terminals.saturating_add(group.count);
            match standing.as_str() {
                "alive" => row.alive = group.count,
                "silent" => row.silent = group.count,
                _ => row.never = group.count,
            }
        }
        let rows = rows.into_iter().map(|(names, mut row)| {
            for (dimension, name) in by.iter().zip(names) {
                if let Some(column) = row.column(*dimension) {
                    *column = Some(name);
                }
            }
            row
        });
        Ok(report(filter, as_of, terminals, rows.collect()))
    }

    /// Which versions terminals run, by vendor and model.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn versions(&self, filter: &RosterFilter) -> Result<Report<VersionRow>, EstateError> {
        let as_of = self.as_of().await?;
        let by = [Dimension::Vendor, Dimension::Model, Dimension::Version];
        let groups = self.tally(filter, &by, MAX_GROUPS.saturating_add(1)).await?;
        let mut terminals = 0u64;
        let mut models: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut rows = Vec::with_capacity(groups.len());
        for group in groups {
            let Ok([vendor, model, version]) = <[String; 3]>::try_from(group.names) else {
                continue;
            };
            terminals = terminals.saturating_add(group.count);
            let of_model = models.entry((vendor.clone(), model.clone())).or_default();
            *of_model = of_model.saturating_add(group.count);
            rows.push(VersionRow {
                vendor,
                model,
                version,
                terminals: group.count,
                of_model: 0,
            });
        }
        for row in &mut rows {
            let model = (row.vendor.clone(), row.model.clone());
            row.of_model = models.get(&model).copied().unwrap_or_default();
        }
        Ok(report(filter, as_of, terminals, rows))
    }

    /// How many terminals a filter names.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn count(&self, filter: &RosterFilter) -> Result<u64, EstateError> {
        let groups = self.tally(filter, &[], 1).await?;
        Ok(groups.first().map_or(0, |group| group.count))
    }

    /// Counts in the branches that are told of.
    async fn tally(&self, filter: &RosterFilter, by: &[Dimension], limit: u32) -> Result<Vec<Group>, StoreError> {
        let mut scopes = self.scopes(&filter.under);
        let tally = |under: BranchPath| Tally::Roster {
            filter: RosterFilter {
                under,
                ..filter.clone()
            },
            by: by.to_vec(),
        };
        if scopes.len() == 1
            && let Some(under) = scopes.pop()
        {
            return self.store.tally(&tally(under), limit).await;
        }
        let mut sums: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for under in scopes {
            for group in self.store.tally(&tally(under), limit).await? {
                let sum = sums.entry(group.names).or_default();
                *sum = sum.saturating_add(group.count);
            }
        }
        let groups = sums.into_iter().map(|(names, count)| Group { names, count });
        Ok(groups.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
    }

    /// Terminals, at most `limit` of them, after where an earlier page ended: in the order of branch and id, or of branch, day
    /// and id where the filter says when they were seen.
    ///
    /// # Errors
    /// [`EstateError::BadCursor`] where `after` is none that a page of this list gave.
    pub async fn terminals(
        &self,
        filter: &RosterFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<TerminalPage, EstateError> {
        let as_of = self.as_of().await?;
        let after = match after {
            Some(text) => Some(place(text).ok_or(EstateError::BadCursor)?),
            None => None,
        };
        let mut page = Vec::new();
        for under in self.scopes_from(&filter.under, after.as_ref().map(|place| &place.branch)) {
            let missing = u32::try_from(page.len()).map_or(0, |there| limit.saturating_sub(there));
            if missing == 0 {
                break;
            }
            let query = Query::Roster {
                after: after.clone().filter(|place| under.covers(&place.branch)),
                filter: RosterFilter {
                    under,
                    ..filter.clone()
                },
            };
            page.extend(self.store.list(&query, missing).await?);
        }
        let today = self.today();
        let full = u32::try_from(page.len()).is_ok_and(|found| found >= limit);
        let mut next = None;
        let rows = page.into_iter().filter_map(|found| match found.record {
            Record::Roster(entry) => {
                next = Some(cursor(&RosterPlace::of(&entry)));
                Some(TerminalRow::of(*entry, today))
            }
            _ => None,
        });
        let rows = rows.collect();
        Ok(TerminalPage {
            as_of,
            rows,
            next: next.filter(|_| full),
        })
    }
}

impl StandingRow {
    const fn column(&mut self, dimension: Dimension) -> Option<&mut Option<String>> {
        Some(match dimension {
            Dimension::Branch => &mut self.branch,
            Dimension::Vendor => &mut self.vendor,
            Dimension::Model => &mut self.model,
            Dimension::Merchant => &mut self.merchant,
            Dimension::Version => &mut self.version,
            Dimension::State => &mut self.state,
            Dimension::Seen | Dimension::Alive(_) => return None,
        })
    }
}

fn report<R>(filter: &RosterFilter, as_of: AsOf, terminals: u64, mut rows: Vec<R>) -> Report<R> {
    let most = usize::try_from(MAX_GROUPS).unwrap_or(usize::MAX);
    let cut = rows.len() > most;
    rows.truncate(most);
    Report {
        under: filter.under.clone(),
        as_of,
        terminals,
        cut,
        rows,
    }
}

/// A place as text: id, day and branch.
fn cursor(place: &RosterPlace) -> String {
    let day = place.seen.map(|day| day.to_string()).unwrap_or_default();
    format!("{}.{day}.{}", place.terminal, place.branch)
}

fn place(cursor: &str) -> Option<RosterPlace> {
    let (terminal, rest) = cursor.split_once('.')?;
    let (day, branch) = rest.split_once('.')?;
    Some(RosterPlace {
        branch: branch.parse().ok()?,
        seen: match day {
            "" => None,
            day => Some(day.parse().ok()?),
        },
        terminal: TerminalId(u64::from_str_radix(terminal, 16).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back(id: u64, seen: Option<u32>, branch in "(/[a-z.-]{1,5}){0,3}/") {
            let place = RosterPlace { branch: branch.parse().unwrap(), seen, terminal: TerminalId(id) };
            prop_assert_eq!(super::place(&cursor(&place)), Some(place));
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,20}|[0-9a-f.]{0,20}/") {
            let _ = place(&text);
        }
    }
}
