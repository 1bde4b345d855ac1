//! Pages of the roster.

use super::Where;
use crate::document::end;
use crate::error::Result;
use crate::row::{RosterRow, key, record};
use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use tms_core::store::{BranchPath, Record, RosterEntry, RosterFilter, RosterPlace, Versioned};

/// Reads a page.
pub(crate) fn page(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Vec<Versioned<Record>>> {
    let index = index(filter);
    // where few are wanted by day, all of them are read and sorted
    if filter.seen.is_none() || index != BY_BRANCH && few(connection, &indexed(filter), index)? {
        return read(connection, statement(filter, index, None, after, limit));
    }
    // a small branch has few branches to look into: what counts is how many there are in all
    let of_days = RosterFilter {
        seen: filter.seen,
        ..RosterFilter::under(BranchPath::head_office())
    };
    if few(connection, &of_days, BY_DAY)? {
        return read(connection, statement(filter, BY_DAY, None, after, limit));
    }
    page_by_day(connection, filter, after, limit)
}

/// As many as can be read and sorted in the time of a page.
const FEW: u32 = 2_000;

/// Whether a filter names few terminals, all of which is in this index.
fn few(connection: &Connection, filter: &RosterFilter, index: &str) -> Result<bool> {
    let mut condition = Where::default();
    condition.filter(filter);
    condition.branch(&filter.under);
    condition.values.push(FEW.saturating_add(1).into());
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM roster r INDEXED BY {index}{} LIMIT ?)",
        condition.sql
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found: i64 = statement.query_row(params_from_iter(condition.values), |row| row.get(0))?;
    Ok(found <= i64::from(FEW))
}

/// A day is a range in each branch, and branches are few beside terminals: the index is entered once for each of them.
fn page_by_day(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Vec<Versioned<Record>>> {
    let _moment = moment(connection)?;
    let end = end(filter.under.as_str());
    let mut from = after.map_or(&filter.under, |after| &after.branch).as_str().to_owned();
    let mut page = Vec::new();
    loop {
        let wanted = u32::try_from(page.len()).map_or(0, |there| limit.saturating_sub(there));
        let branch: Option<String> = connection
            .prepare_cached(NEXT_BRANCH)?
            .query_row(params![from, end], |row| row.get(0))?;
        let (Some(branch), 1..) = (branch, wanted) else {
            return Ok(page);
        };
        let within = after.filter(|after| after.branch.as_str() == branch);
        let statement = statement(filter, "roster_seen", Some(&branch), within, wanted);
        page.extend(read(connection, statement)?);
        // the next text after it
        from = branch;
        from.push('\0');
    }
}

/// What is read until this is dropped is of one moment.
fn moment(connection: &Connection) -> rusqlite::Result<Option<Transaction<'_>>> {
    connection
        .is_autocommit()
        .then(|| connection.unchecked_transaction())
        .transpose()
}

fn read(connection: &Connection, (sql, values): (String, Vec<Value>)) -> Result<Vec<Versioned<Record>>> {
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let found = record::<RosterEntry>(row, 0, "roster")?;
        page.push(Versioned {
            version: found.version,
            record: found.record.into(),
        });
    }
    Ok(page)
}

const NEXT_BRANCH: &str = "SELECT min(branch) FROM roster WHERE branch >= ?1 AND branch < ?2";

const BY_BRANCH: &str = "roster_branch";
const BY_DAY: &str = "roster_day";

/// The index by which the filter names the fewest terminals, but for the day.
fn index(filter: &RosterFilter) -> &'static str {
    match filter {
        RosterFilter { merchant: Some(_), .. } => "roster_merchant",
        RosterFilter {
            serial: Some(begin), ..
        } if !begin.is_empty() => "roster_serial",
        RosterFilter { version: Some(_), .. } => "roster_release",
        RosterFilter {
            vendor: Some(_),
            model: Some(_),
            ..
        } => "roster_model",
        RosterFilter { vendor: Some(_), .. } => "roster_vendor",
        RosterFilter { model: Some(_), .. } => "roster_kind",
        RosterFilter { state: Some(_), .. } => "roster_state",
        _ => BY_BRANCH,
    }
}

/// What of the filter is in its [`index`], but for the day: counted by it, no more is read than the index.
fn indexed(filter: &RosterFilter) -> RosterFilter {
    let mut named = RosterFilter::under(filter.under.clone());
    match index(filter) {
        "roster_merchant" => named.merchant.clone_from(&filter.merchant),
        "roster_serial" => named.serial.clone_from(&filter.serial),
        "roster_release" => {
            named.clone_from(filter);
            (named.merchant, named.serial, named.seen) = (None, None, None);
        }
        "roster_model" | "roster_vendor" | "roster_kind" => {
            (named.vendor, named.model) = (filter.vendor.clone(), filter.model.clone());
            named.state = filter.state;
        }
        "roster_state" => named.state = filter.state,
        _ => {}
    }
    named
}

/// The statement of a page, of one branch where that is given. The index is named, so that it depends on the filter and on nothing
/// else.
fn statement(
    filter: &RosterFilter,
    index: &str,
    branch: Option<&str>,
    after: Option<&RosterPlace>,
    limit: u32,
) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    // what a page is sorted by, and where the last one ended
    let mut order = vec![("r.terminal", after.map(|after| key(after.terminal.0).into()))];
    if filter.seen.is_some() {
        order.insert(0, ("r.seen", after.map(|after| RosterRow::day(after.seen).into())));
    }
    match branch {
        Some(branch) => condition.and("r.branch = ?", [branch.to_owned().into()]),
        None => {
            condition.branch(&filter.under);
            order.insert(
                0,
                ("r.branch", after.map(|after| after.branch.as_str().to_owned().into())),
            );
        }
    }
    condition.filter(filter);
    let (columns, place): (Vec<_>, Vec<Option<Value>>) = order.into_iter().unzip();
    let places = vec!["?"; columns.len()].join(", ");
    let columns = columns.join(", ");
    if after.is_some() {
        condition.and(&format!("({columns}) > ({places})"), place.into_iter().flatten());
    }
    condition.values.push(limit.into());
    let sql = format!(
        "SELECT r.version, r.body FROM roster r INDEXED BY {index}{} ORDER BY {columns} LIMIT ?",
        condition.sql
    );
    (sql, condition.values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use tms_core::store::{Seen, TerminalId, TerminalState};

    /// With a million terminals a page must cost a page: an index gives the order, and nothing is sorted.
    #[test]
    fn every_page_goes_by_an_index_in_its_order() {
        let connection = schema::in_memory();
        let all = RosterFilter::under(BranchPath::head_office());
        let some = || Some("x".to_owned());
        let mut filters = vec![
            all.clone(),
            RosterFilter {
                merchant: some(),
                ..all.clone()
            },
            RosterFilter {
                version: some(),
                ..all.clone()
            },
            RosterFilter {
                state: Some(TerminalState::Active),
                ..all.clone()
            },
            RosterFilter {
                vendor: some(),
                model: some(),
                ..all.clone()
            },
        ];
        for (vendor, model) in [(some(), None), (None, some())] {
            filters.push(RosterFilter {
                vendor,
                model,
                ..all.clone()
            });
        }
        for seen in [Seen::Never, Seen::Since(3), Seen::Before(9)] {
            filters.push(RosterFilter {
                seen: Some(seen),
                ..all.clone()
            });
        }
        let place = RosterPlace {
            branch: BranchPath::head_office(),
            seen: Some(7),
            terminal: TerminalId(7),
        };
        for filter in filters {
            for after in [None, Some(&place)] {
                let (sql, values) = match filter.seen {
                    Some(_) => statement(&filter, "roster_seen", Some("/"), after, 10),
                    None => statement(&filter, index(&filter), None, after, 10),
                };
                schema::assert_by_index(&connection, &sql, values);
            }
        }
        schema::assert_by_index(&connection, NEXT_BRANCH, Vec::new());
    }
}
