//! Pages of the roster.

use super::Where;
use crate::document::end;
use crate::error::Result;
use crate::row::{RosterRow, key, record};
use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use tms_core::store::{BranchPath, Record, RosterEntry, RosterFilter, RosterPlace, TerminalId, Versioned};

type Page = Vec<Versioned<Record>>;

/// How many terminals are taken out of another order than that of the page, and sorted.
#[derive(Clone, Copy)]
struct Most {
    /// Where each is read.
    read: u32,
    /// Where an index has all that is asked, so that only those of the page are read.
    found: u32,
}

impl Default for Most {
    /// As many as the time of a page is enough for.
    fn default() -> Self {
        Self {
            read: 2_000,
            found: 20_000,
        }
    }
}

/// Reads a page.
pub(crate) fn page(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Page> {
    page_by(connection, filter, after, limit, Most::default())
}

fn page_by(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
    most: Most,
) -> Result<Page> {
    let mut index = index(filter);
    let sorted = |index| read(connection, sorted(filter, index, after, limit));
    if index == BY_SERIAL && filter.seen.is_none() {
        // all that is asked is in that index, in the order of serial numbers; where many begin so, a page of them is soon full
        // in the page's own order
        let by_serial = RosterFilter {
            serial: filter.serial.clone(),
            ..RosterFilter::under(filter.under.clone())
        };
        if few(connection, &by_serial, BY_SERIAL, most.found)? {
            return sorted(BY_SERIAL);
        }
        index = self::index(&RosterFilter {
            serial: None,
            ..filter.clone()
        });
    }
    if filter.seen.is_none() {
        return page_in_order(connection, filter, index, after, limit);
    }
    // where few are wanted by day, all of them are read and sorted
    if index != BY_BRANCH && few(connection, &indexed(filter), index, most.read)? {
        return sorted(index);
    }
    // a small branch has few branches to look into: what counts is how many there are in all
    let of_days = RosterFilter {
        seen: filter.seen,
        ..RosterFilter::under(BranchPath::head_office())
    };
    if few(connection, &of_days, BY_DAY, most.read)? {
        return sorted(BY_DAY);
    }
    page_by_day(connection, filter, after, limit)
}

/// Whether a filter names few terminals, all of which is in this index.
fn few(connection: &Connection, filter: &RosterFilter, index: &str, most: u32) -> Result<bool> {
    let mut condition = Where::default();
    condition.names(filter);
    condition.days(filter.seen, None);
    condition.under(&filter.under);
    condition.values.push(most.saturating_add(1).into());
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM roster r INDEXED BY {index}{} LIMIT ?)",
        condition.sql
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found: i64 = statement.query_row(params_from_iter(condition.values), |row| row.get(0))?;
    Ok(found <= i64::from(most))
}

/// By an index that has what it names in the order of the page: what is left of the branch in which the last page ended, and then
/// the branches behind it. Each is a range of its own; of a pair of columns of which one is the key SQLite makes no range.
fn page_in_order(
    connection: &Connection,
    filter: &RosterFilter,
    index: &str,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Page> {
    let _moment = moment(connection)?;
    let mut page = Page::new();
    let mut first = filter.under.as_str().to_owned();
    if let Some(after) = after.filter(|after| after.branch.as_str() >= filter.under.as_str()) {
        let branch = after.branch.as_str();
        if filter.under.covers(&after.branch) {
            page = read(connection, rest_of_branch(filter, index, branch, after.terminal, limit))?;
        }
        first = next_text(branch);
    }
    let wanted = missing(&page, limit);
    if wanted > 0 {
        page.extend(read(connection, branches_from(filter, index, &first, wanted))?);
    }
    Ok(page)
}

/// A day is a range in each branch, and branches are few beside terminals: the index is entered once for each of them.
fn page_by_day(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Page> {
    let _moment = moment(connection)?;
    let end = end(filter.under.as_str());
    let mut from = filter.under.as_str().to_owned();
    let mut page = Page::new();
    if let Some(after) = after.filter(|after| after.branch.as_str() >= filter.under.as_str()) {
        let branch = after.branch.as_str();
        let day = RosterRow::day(after.seen);
        if filter.under.covers(&after.branch) {
            page = read(connection, rest_of_day(filter, branch, (day, after.terminal), limit))?;
            let wanted = missing(&page, limit);
            if wanted > 0 {
                page.extend(read(connection, days_of_branch(filter, branch, Some(day), wanted))?);
            }
        }
        from = next_text(branch);
    }
    loop {
        let wanted = missing(&page, limit);
        if wanted == 0 {
            return Ok(page);
        }
        let branch: Option<String> = connection
            .prepare_cached(NEXT_BRANCH)?
            .query_row(params![from, end], |row| row.get(0))?;
        let Some(branch) = branch else {
            return Ok(page);
        };
        page.extend(read(connection, days_of_branch(filter, &branch, None, wanted))?);
        from = next_text(&branch);
    }
}

fn missing(page: &Page, limit: u32) -> u32 {
    u32::try_from(page.len()).map_or(0, |there| limit.saturating_sub(there))
}

/// The next text after it.
fn next_text(text: &str) -> String {
    format!("{text}\0")
}

/// What is read until this is dropped is of one moment.
fn moment(connection: &Connection) -> rusqlite::Result<Option<Transaction<'_>>> {
    connection
        .is_autocommit()
        .then(|| connection.unchecked_transaction())
        .transpose()
}

fn read(connection: &Connection, (sql, values): (String, Vec<Value>)) -> Result<Page> {
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut page = Page::new();
    while let Some(row) = rows.next()? {
        let found = record::<RosterEntry>(row, 0, "roster")?;
        page.push(Versioned {
            version: found.version,
            record: found.record.into(),
        });
    }
    Ok(page)
}

/// By the index whose entries of that branch are read next.
const NEXT_BRANCH: &str = "SELECT min(branch) FROM roster INDEXED BY roster_seen WHERE branch >= ?1 AND branch < ?2";

const BY_BRANCH: &str = "roster_branch";
const BY_DAY: &str = "roster_day";
const BY_BRANCH_AND_DAY: &str = "roster_seen";
const BY_SERIAL: &str = "roster_serial";

/// The index by which the filter names the fewest terminals, but for the day.
fn index(filter: &RosterFilter) -> &'static str {
    match filter {
        RosterFilter { merchant: Some(_), .. } => "roster_merchant",
        RosterFilter {
            serial: Some(begin), ..
        } if !begin.is_empty() => BY_SERIAL,
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

// The statements. The index is named in each, so that it depends on the filter and on nothing else.

/// What is left of a branch after a terminal.
fn rest_of_branch(
    filter: &RosterFilter,
    index: &str,
    branch: &str,
    after: TerminalId,
    limit: u32,
) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    condition.and("r.branch = ?", [branch.to_owned().into()]);
    condition.and("r.terminal > ?", [key(after.0).into()]);
    condition.names(filter);
    select(condition, index, "r.terminal", limit)
}

/// Branches, from this one on.
fn branches_from(filter: &RosterFilter, index: &str, first: &str, limit: u32) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    condition.branches(first, &filter.under);
    condition.names(filter);
    select(condition, index, "r.branch, r.terminal", limit)
}

/// What is left of a day in a branch after a terminal.
fn rest_of_day(
    filter: &RosterFilter,
    branch: &str,
    (day, after): (i64, TerminalId),
    limit: u32,
) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    condition.and("r.branch = ? AND r.seen = ?", [branch.to_owned().into(), day.into()]);
    condition.and("r.terminal > ?", [key(after.0).into()]);
    condition.names(filter);
    // the place may be of another list
    condition.days(filter.seen, None);
    select(condition, BY_BRANCH_AND_DAY, "r.terminal", limit)
}

/// The days of a branch, after one of them where that is given.
fn days_of_branch(filter: &RosterFilter, branch: &str, after: Option<i64>, limit: u32) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    condition.and("r.branch = ?", [branch.to_owned().into()]);
    condition.days(filter.seen, after);
    condition.names(filter);
    select(condition, BY_BRANCH_AND_DAY, "r.seen, r.terminal", limit)
}

fn select(mut condition: Where, index: &str, order: &str, limit: u32) -> (String, Vec<Value>) {
    condition.values.push(limit.into());
    let sql = format!(
        "SELECT r.version, r.body FROM roster r INDEXED BY {index}{} ORDER BY {order} LIMIT ?",
        condition.sql
    );
    (sql, condition.values)
}

/// By an index that has them in another order: all of them are read there, and those of the page in the roster.
fn sorted(filter: &RosterFilter, index: &str, after: Option<&RosterPlace>, limit: u32) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    condition.under(&filter.under);
    condition.names(filter);
    condition.days(filter.seen, None);
    let mut order = "r.branch, r.terminal";
    if filter.seen.is_some() {
        order = "r.branch, r.seen, r.terminal";
    }
    if let Some(after) = after {
        let branch = after.branch.as_str().to_owned().into();
        let terminal = key(after.terminal.0).into();
        match filter.seen {
            None => condition.and(&format!("({order}) > (?, ?)"), [branch, terminal]),
            Some(_) => {
                let day = RosterRow::day(after.seen).into();
                condition.and(&format!("({order}) > (?, ?, ?)"), [branch, day, terminal]);
            }
        }
    }
    condition.values.push(limit.into());
    let sql = format!(
        "SELECT r.version, r.body FROM roster r WHERE r.terminal IN \
         (SELECT r.terminal FROM roster r INDEXED BY {index}{} ORDER BY {order} LIMIT ?) ORDER BY {order}",
        condition.sql
    );
    (sql, condition.values)
}

#[cfg(test)]
mod tests;
