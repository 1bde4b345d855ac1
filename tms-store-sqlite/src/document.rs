//! Documents: how they are read, found and counted.

use crate::error::Result;
use crate::row::{body, unsigned};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use tms_core::store::{Document, Group, Kind, Record, Versioned, after_prefix};

const ONE: &str = "SELECT id, version, marks, body FROM documents WHERE kind = ?1 AND id = ?2";
const MARKS: &str = "SELECT marks FROM documents WHERE kind = ?1 AND id = ?2";
const PAGE: &str = "SELECT id, version, marks, body FROM documents \
                    WHERE kind = ?1 AND id >= ?2 AND id < ?3 AND (?4 IS NULL OR id > ?4) \
                    ORDER BY id LIMIT ?5";
const PAGE_AFTER: &str = "SELECT id, version, marks, body FROM documents \
                          WHERE kind = ?1 AND id > ?4 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT ?5";
const MARKED: &str = "SELECT d.id, d.version, d.marks, d.body FROM marks m \
                      CROSS JOIN documents d ON d.kind = m.kind AND d.id = m.id \
                      WHERE m.kind = ?1 AND m.name = ?2 AND m.value >= ?3 AND m.value < ?4 \
                      ORDER BY m.value, m.id LIMIT ?5";
const MARKED_AFTER: &str = "SELECT d.id, d.version, d.marks, d.body FROM marks m \
                            CROSS JOIN documents d ON d.kind = m.kind AND d.id = m.id \
                            WHERE m.kind = ?1 AND m.name = ?2 AND (m.value, m.id) > (?6, ?7) AND m.value >= ?3 \
                            AND m.value < ?4 ORDER BY m.value, m.id LIMIT ?5";
const TALLY: &str = "SELECT value, count(*) FROM marks WHERE kind = ?1 AND name = ?2 AND value >= ?3 \
                     AND value < ?4 GROUP BY value ORDER BY value LIMIT ?5";

/// What is after all that begin with `prefix`, for a comparison that an index can make. No text is after a blob.
pub(crate) fn end(prefix: &str) -> Value {
    after_prefix(prefix).map_or_else(|| Value::Blob(Vec::new()), Value::Text)
}

pub(crate) fn get(connection: &Connection, kind: &Kind, id: &str) -> Result<Option<Versioned<Record>>> {
    let mut statement = connection.prepare_cached(ONE)?;
    let found = statement
        .query_row([kind.name(), id], |row| Ok(read(row, kind)))
        .optional()?;
    found.transpose()
}

/// The marks that a document has, if it is there.
pub(crate) fn marks(connection: &Connection, kind: &Kind, id: &str) -> Result<Option<BTreeMap<String, String>>> {
    let mut statement = connection.prepare_cached(MARKS)?;
    let found = statement
        .query_row([kind.name(), id], |row| Ok(body(row, 0, "documents")))
        .optional()?;
    found.transpose()
}

pub(crate) fn page(
    connection: &Connection,
    kind: &Kind,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Versioned<Record>>> {
    let sql = if after.is_some() { PAGE_AFTER } else { PAGE };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![kind.name(), prefix, end(prefix), after, limit])?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(read(row, kind)?);
    }
    Ok(page)
}

pub(crate) fn marked(
    connection: &Connection,
    kind: &Kind,
    mark: &str,
    prefix: &str,
    after: Option<&(String, String)>,
    limit: u32,
) -> Result<Vec<Versioned<Record>>> {
    let end = end(prefix);
    let mut statement = connection.prepare_cached(if after.is_some() { MARKED_AFTER } else { MARKED })?;
    let mut rows = match after {
        None => statement.query(params![kind.name(), mark, prefix, end, limit])?,
        Some((value, id)) => statement.query(params![kind.name(), mark, prefix, end, limit, value, id])?,
    };
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(read(row, kind)?);
    }
    Ok(page)
}

pub(crate) fn tally(connection: &Connection, kind: &Kind, mark: &str, prefix: &str, limit: u32) -> Result<Vec<Group>> {
    let mut statement = connection.prepare_cached(TALLY)?;
    let mut rows = statement.query(params![kind.name(), mark, prefix, end(prefix), limit])?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        groups.push(Group {
            names: vec![row.get(0)?],
            count: unsigned(row, 1)?,
        });
    }
    Ok(groups)
}

fn read(row: &Row<'_>, kind: &Kind) -> Result<Versioned<Record>> {
    let document = Document {
        kind: kind.clone(),
        id: row.get(0)?,
        marks: body(row, 2, "documents")?,
        body: row.get(3)?,
    };
    Ok(Versioned {
        version: unsigned(row, 1)?,
        record: document.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_read_goes_by_an_index() {
        let connection = schema::in_memory();
        for sql in [ONE, MARKS, PAGE, PAGE_AFTER, MARKED, MARKED_AFTER, TALLY] {
            schema::assert_by_index(&connection, sql, Vec::new());
        }
    }
}
