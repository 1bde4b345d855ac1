//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};
use std::io::{self, Write};

/// Prints columns under a head line, as wide as they need to be.
///
/// # Errors
/// Where nothing can be written.
pub fn print_table<const N: usize>(out: &mut impl Write, head: [&str; N], rows: Vec<[String; N]>) -> io::Result<()> {
    print_rows(out, head, rows)
}

/// The same of columns that are many: those in which nothing stands but nothing or zeros are left out.
///
/// # Errors
/// Where nothing can be written.
pub fn print_columns(out: &mut impl Write, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let said = |at: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(at));
        cells.any(|cell| !cell.is_empty() && cell != "0")
    };
    let kept: Vec<bool> = (0..head.len()).map(said).collect();
    let pick = |row: Vec<String>| {
        let cells = row.into_iter().zip(&kept);
        cells
            .filter(|(_, kept)| **kept)
            .map(|(cell, _)| cell)
            .collect::<Vec<_>>()
    };
    let head = pick(head.iter().map(|name| name.replace('_', " ")).collect());
    if head.is_empty() {
        return writeln!(out, "nothing");
    }
    let rows: Vec<_> = rows.into_iter().map(pick).collect();
    print_rows(out, head, rows)
}

fn print_rows<S: AsRef<str>, R: Into<comfy_table::Row>>(
    out: &mut impl Write,
    head: impl IntoIterator<Item = S>,
    rows: Vec<R>,
) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
        .set_header(head.into_iter().map(|name| name.as_ref().to_uppercase()))
        .add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    writeln!(out, "{}", table.trim_fmt())
}
