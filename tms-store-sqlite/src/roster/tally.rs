//! Counts of the roster.

use super::Where;
use crate::error::Result;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};
use std::collections::HashMap;
use tms_core::store::{Dimension, Group, RosterFilter};

/// Counts. SQLite reads an index that has all that is counted by; what it would sort to count it in groups is counted here, for
/// groups are few beside terminals.
pub(crate) fn tally(
    connection: &Connection,
    filter: &RosterFilter,
    by: &[Dimension],
    limit: u32,
) -> Result<Vec<Group>> {
    let mut condition = Where::default();
    condition.under(&filter.under);
    condition.names(filter);
    condition.days(filter.seen, None);
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
