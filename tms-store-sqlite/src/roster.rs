//! The roster: how a filter becomes a statement.

use crate::document::end;
use crate::error::Result;
use crate::row::{RosterRow, key, record};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use std::collections::HashMap;
use tms_core::store::{
    BranchPath, Dimension, Group, Record, RosterEntry, RosterFilter, RosterPlace, Seen, Versioned, after_prefix,
};

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

    /// What of the filter is in its [`index`]: counted by it, no more is read than the index.
    fn index(&mut self, filter: &RosterFilter) {
        let mut named = RosterFilter::under(filter.under.clone());
        match index(filter) {
            "roster_merchant" => named.merchant.clone_from(&filter.merchant),
            "roster_serial" => named.serial.clone_from(&filter.serial),
            "roster_release" => named.version.clone_from(&filter.version),
            "roster_model" => (named.vendor, named.model) = (filter.vendor.clone(), filter.model.clone()),
            "roster_state" => named.state = filter.state,
            _ => {}
        }
        self.filter(&named);
        self.branch("r.branch", &filter.under);
    }

    fn branch(&mut self, column: &str, branch: &BranchPath) {
        self.and(&format!("{column} >= ?"), [branch.as_str().to_owned().into()]);
        if let Some(end) = after_prefix(branch.as_str()) {
            self.and(&format!("{column} < ?"), [end.into()]);
        }
    }
}

/// Reads a page.
pub(crate) fn page(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Vec<Versioned<Record>>> {
    if is_half_a_model(filter) {
        return page_by_model(connection, filter, after, limit);
    }
    if filter.seen.is_none() {
        let (sql, values) = statement(filter, after, limit);
        let mut page = Vec::new();
        read(connection, &sql, values, &mut page)?;
        return Ok(page);
    }
    if index(filter) != BY_BRANCH && few(connection, filter)? {
        let (sql, values) = statement_of_few(filter, after, limit);
        let mut page = Vec::new();
        read(connection, &sql, values, &mut page)?;
        return Ok(page);
    }
    page_by_day(connection, filter, after, limit)
}

/// Whether a vendor is named without a model, or a model without a vendor, and nothing with an index of its own.
const fn is_half_a_model(filter: &RosterFilter) -> bool {
    matches!(
        filter,
        RosterFilter {
            merchant: None,
            serial: None,
            version: None,
            ..
        }
    ) && filter.vendor.is_some() != filter.model.is_some()
}

/// Vendors and models are few: each pair of them that is wanted has its page, and the first of all of these are the page.
fn page_by_model(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Vec<Versioned<Record>>> {
    // all of it is of one moment
    let _moment = connection
        .is_autocommit()
        .then(|| connection.unchecked_transaction())
        .transpose()?;
    let mut pages = Vec::new();
    let mut pair: Option<(String, String)> = None;
    loop {
        pair = next_model(connection, pair.as_ref())?;
        let Some((vendor, model)) = &pair else { break };
        let wanted = |wanted: &Option<String>, there: &String| wanted.as_ref().is_none_or(|wanted| wanted == there);
        if wanted(&filter.vendor, vendor) && wanted(&filter.model, model) {
            let filter = RosterFilter {
                vendor: Some(vendor.clone()),
                model: Some(model.clone()),
                ..filter.clone()
            };
            pages.extend(page(connection, &filter, after, limit)?);
        }
    }
    pages.sort_by_cached_key(|found| match &found.record {
        Record::Roster(entry) => Some((entry.branch.clone(), filter.seen.and(entry.seen), entry.terminal)),
        _ => None,
    });
    pages.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(pages)
}

/// The next vendor and model that there are: a search in the index each, and not a comparison of both at once, by which SQLite would
/// pass over all terminals of the model.
fn next_model(connection: &Connection, after: Option<&(String, String)>) -> Result<Option<(String, String)>> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let Some((vendor, model)) = after else {
        return Ok(connection.prepare_cached(FIRST_MODEL)?.query_row([], read).optional()?);
    };
    let same = connection
        .prepare_cached(NEXT_MODEL)?
        .query_row([vendor, model], read)
        .optional()?;
    match same {
        Some(next) => Ok(Some(next)),
        None => Ok(connection
            .prepare_cached(NEXT_VENDOR)?
            .query_row([vendor], read)
            .optional()?),
    }
}

const FIRST_MODEL: &str = "SELECT vendor, model FROM roster INDEXED BY roster_model ORDER BY vendor, model LIMIT 1";
const NEXT_MODEL: &str = "SELECT vendor, model FROM roster INDEXED BY roster_model \
                          WHERE vendor = ?1 AND model > ?2 ORDER BY model LIMIT 1";
const NEXT_VENDOR: &str = "SELECT vendor, model FROM roster INDEXED BY roster_model \
                           WHERE vendor > ?1 ORDER BY vendor, model LIMIT 1";

/// As many as can be read and sorted in the time of a page.
const FEW: u32 = 2_000;

/// Whether what the filter says beside the day names few terminals.
fn few(connection: &Connection, filter: &RosterFilter) -> Result<bool> {
    let timeless = RosterFilter {
        seen: None,
        ..filter.clone()
    };
    let mut condition = Where::default();
    condition.index(&timeless);
    condition.values.push(FEW.saturating_add(1).into());
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM roster r INDEXED BY {}{} LIMIT ?)",
        index(filter),
        condition.sql
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found: i64 = statement.query_row(params_from_iter(condition.values), |row| row.get(0))?;
    Ok(found <= i64::from(FEW))
}

/// The statement of a page by day where few terminals are wanted: all are read, and sorted.
fn statement_of_few(filter: &RosterFilter, after: Option<&RosterPlace>, limit: u32) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    condition.filter(filter);
    condition.branch("r.branch", &filter.under);
    if let Some(after) = after {
        let place = [
            after.branch.as_str().to_owned().into(),
            RosterRow::day(after.seen).into(),
            key(after.terminal.0).into(),
        ];
        condition.and("(r.branch, r.seen, r.terminal) > (?, ?, ?)", place);
    }
    condition.values.push(limit.into());
    let sql = format!(
        "SELECT r.version, r.body FROM roster r INDEXED BY {}{} ORDER BY r.branch, r.seen, r.terminal LIMIT ?",
        index(filter),
        condition.sql
    );
    (sql, condition.values)
}

/// A day is a range in each branch, and branches are few beside terminals: the index is entered once for each of them.
fn page_by_day(
    connection: &Connection,
    filter: &RosterFilter,
    after: Option<&RosterPlace>,
    limit: u32,
) -> Result<Vec<Versioned<Record>>> {
    // all of it is of one moment
    let _moment = connection
        .is_autocommit()
        .then(|| connection.unchecked_transaction())
        .transpose()?;
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
        let (sql, values) = statement_by_day(filter, &branch, within, wanted);
        read(connection, &sql, values, &mut page)?;
        // the next text after it
        from = branch;
        from.push('\0');
    }
}

fn read(connection: &Connection, sql: &str, values: Vec<Value>, page: &mut Vec<Versioned<Record>>) -> Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let found = record::<RosterEntry>(row, 0, "roster")?;
        page.push(Versioned {
            version: found.version,
            record: found.record.into(),
        });
    }
    Ok(())
}

const NEXT_BRANCH: &str = "SELECT min(branch) FROM roster WHERE branch >= ?1 AND branch < ?2";

fn statement_by_day(
    filter: &RosterFilter,
    branch: &str,
    after: Option<&RosterPlace>,
    limit: u32,
) -> (String, Vec<Value>) {
    let mut condition = Where::default();
    condition.and("r.branch = ?", [branch.to_owned().into()]);
    condition.filter(filter);
    if let Some(after) = after {
        let place = [RosterRow::day(after.seen).into(), key(after.terminal.0).into()];
        condition.and("(r.seen, r.terminal) > (?, ?)", place);
    }
    condition.values.push(limit.into());
    let sql = format!(
        "SELECT r.version, r.body FROM roster r INDEXED BY roster_seen{} ORDER BY r.seen, r.terminal LIMIT ?",
        condition.sql
    );
    (sql, condition.values)
}

const BY_BRANCH: &str = "roster_branch";

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
        RosterFilter { state: Some(_), .. } => "roster_state",
        _ => BY_BRANCH,
    }
}

/// The statement of a page. The index is named, so that it depends on the filter and on nothing else: the most selective
/// first.
fn statement(filter: &RosterFilter, after: Option<&RosterPlace>, limit: u32) -> (String, Vec<Value>) {
    let index = index(filter);
    let mut condition = Where::default();
    condition.filter(filter);
    condition.branch("r.branch", &filter.under);
    if let Some(after) = after {
        let place = [after.branch.as_str().to_owned().into(), key(after.terminal.0).into()];
        condition.and("(r.branch, r.terminal) > (?, ?)", place);
    }
    condition.values.push(limit.into());
    let sql = format!(
        "SELECT r.version, r.body FROM roster r INDEXED BY {index}{} ORDER BY r.branch, r.terminal LIMIT ?",
        condition.sql
    );
    (sql, condition.values)
}

/// Counts. SQLite reads an index that has all that is counted by; what it would sort to count it in groups is counted here, for
/// groups are few beside terminals.
pub(crate) fn tally(
    connection: &Connection,
    filter: &RosterFilter,
    by: &[Dimension],
    limit: u32,
) -> Result<Vec<Group>> {
    let mut condition = Where::default();
    condition.branch("r.branch", &filter.under);
    condition.filter(filter);
    let index = match filter {
        RosterFilter {
            serial: Some(begin), ..
        } if !begin.is_empty() => "roster_serial",
        RosterFilter { serial: Some(_), .. } => "roster_branch",
        RosterFilter { merchant: Some(_), .. } => "roster_merchant",
        _ => "roster_seen",
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if by.is_empty() {
        let sql = format!("SELECT count(*) FROM roster r INDEXED BY {index}{}", condition.sql);
        let mut statement = connection.prepare_cached(&sql)?;
        let count: i64 = statement.query_row(params_from_iter(condition.values), |row| row.get(0))?;
        let all = Group {
            names: Vec::new(),
            count: count.unsigned_abs(),
        };
        return Ok([all].into_iter().filter(|all| all.count > 0).take(limit).collect());
    }
    let columns: Vec<_> = by.iter().map(|dimension| column(*dimension)).collect();
    let columns = columns.join(", ");
    let sql = format!("SELECT {columns} FROM roster r INDEXED BY {index}{}", condition.sql);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(condition.values))?;
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut name = Vec::new();
    while let Some(row) = rows.next()? {
        name.clear();
        for (at, dimension) in by.iter().enumerate() {
            write_name(*dimension, row.get_ref(at)?, &mut name)?;
            name.push(END);
        }
        match counts.get_mut(name.as_slice()) {
            Some(count) => *count = count.saturating_add(1),
            None => drop(counts.insert(name.clone(), 1)),
        }
    }
    let mut groups: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| {
            let names = name.split(|byte| *byte == END).take(by.len());
            let names = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            Group { names, count }
        })
        .collect();
    groups.sort_unstable();
    groups.truncate(limit);
    Ok(groups)
}

/// Ends a name: in no text of UTF-8.
const END: u8 = 0xFF;

const fn column(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Branch => "r.branch",
        Dimension::Vendor => "r.vendor",
        Dimension::Model => "r.model",
        Dimension::Merchant => "r.merchant",
        Dimension::Version => "r.release",
        Dimension::State => "r.state",
        Dimension::Seen | Dimension::Alive(_) => "r.seen",
    }
}

/// The text that a terminal counts under, as [`Dimension::of`] says.
fn write_name(dimension: Dimension, value: ValueRef<'_>, name: &mut Vec<u8>) -> rusqlite::Result<()> {
    match dimension {
        Dimension::Seen => {
            if let Ok(day) = u32::try_from(value.as_i64()?) {
                name.extend(format!("{day:010}").into_bytes());
            }
        }
        Dimension::Alive(since) => {
            let day = value.as_i64()?;
            name.extend_from_slice(if day < 0 {
                b"never"
            } else if day < i64::from(since) {
                b"silent"
            } else {
                b"alive"
            });
        }
        _ => name.extend_from_slice(value.as_bytes_or_null()?.unwrap_or_default()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use tms_core::store::{TerminalId, TerminalState};

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
                    Some(_) => statement_by_day(&filter, "/", after, 10),
                    None => statement(&filter, after, 10),
                };
                check_plan(&connection, &sql, values);
            }
        }
        check_plan(&connection, NEXT_BRANCH, vec![Value::Null; 2]);
    }

    fn check_plan(connection: &Connection, sql: &str, values: Vec<Value>) {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = statement
            .query_map(params_from_iter(values), |row| row.get::<_, String>(3))
            .unwrap();
        let plan: Vec<_> = rows.map(|step| step.unwrap()).collect();
        assert!(
            plan.iter()
                .all(|step| !step.contains("SCAN") && !step.contains("TEMP B-TREE")),
            "{sql}: {plan:?}"
        );
    }
}
