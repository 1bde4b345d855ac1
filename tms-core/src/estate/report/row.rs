//! Rows of reports, and how they are written: as CSV for spreadsheets, as JSON for programs.

use crate::estate::AsOf;
use crate::store::{BranchPath, Day};
use serde::{Serialize, Serializer};
use std::fmt;
use tms_proto::certificate::Date;

/// A row of a report. Names and order of the columns stay as they are; new ones come after them.
pub trait Row: Serialize {
    /// The names of its columns, the same as in JSON.
    const COLUMNS: &'static [&'static str];

    /// What stands in them, as CSV has it before it is quoted.
    fn cells(&self) -> Vec<String>;
}

/// A day, as `2026-11-22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnDay(pub Day);

impl fmt::Display for OnDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Date::of_unix(u64::from(self.0).saturating_mul(super::DAY)) {
            Some(date) => write!(f, "{date}"),
            // outside the years 2000 to 2099 some clock was wrong
            None => write!(f, "day {}", self.0),
        }
    }
}

impl Serialize for OnDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A second, as `2026-11-22T13:57:00Z`.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let second = seconds % super::DAY;
    let day = OnDay(Day::try_from(seconds / super::DAY).unwrap_or(Day::MAX));
    format!("{day}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// A value as a cell.
pub(super) trait Cell {
    fn cell(&self) -> String;
}

impl Cell for u64 {
    fn cell(&self) -> String {
        self.to_string()
    }
}

impl Cell for u32 {
    fn cell(&self) -> String {
        self.to_string()
    }
}

impl Cell for OnDay {
    fn cell(&self) -> String {
        self.to_string()
    }
}

impl Cell for BranchPath {
    fn cell(&self) -> String {
        self.to_string()
    }
}

impl Cell for String {
    /// What a spreadsheet would take for a formula gets an apostrophe before it: serial numbers and versions are what a
    /// terminal says they are.
    fn cell(&self) -> String {
        if self.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            format!("'{self}")
        } else {
            self.clone()
        }
    }
}

impl<T: Cell> Cell for Option<T> {
    fn cell(&self) -> String {
        self.as_ref().map(T::cell).unwrap_or_default()
    }
}

/// Declares a row.
macro_rules! row {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $crate::estate::report::Row for $name {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn cells(&self) -> Vec<String> {
                vec![$($crate::estate::report::row::Cell::cell(&self.$field)),*]
            }
        }
    };
}
pub(super) use row;

/// Rows as CSV (RFC 4180), the names of the columns first where `head` says so. The last two columns of every row say as of
/// when it is.
#[must_use]
pub fn csv<R: Row>(rows: &[R], as_of: AsOf, head: bool) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    if head {
        let names = R::COLUMNS.iter().copied().chain(["as_of", "as_of_sequence"]);
        // memory takes all
        let _ = writer.write_record(names);
    }
    let (time, sequence) = (rfc3339(as_of.time), as_of.sequence.to_string());
    for row in rows {
        let mut cells = row.cells();
        cells.push(time.clone());
        cells.push(sequence.clone());
        let _ = writer.write_record(cells);
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    row! {
        /// A row.
        // rows are public, and a test is not
        #[allow(unreachable_pub)]
        pub struct Pair {
            /// First.
            pub name: String,
            /// Second.
            pub count: Option<u64>,
        }
    }

    fn pair(name: &str) -> Pair {
        Pair {
            name: name.to_owned(),
            count: Some(3),
        }
    }

    const AS_OF: AsOf = AsOf {
        sequence: 42,
        time: 1_795_355_820,
    };

    #[test]
    fn csv_is_quoted_and_no_formula() {
        let rows = [
            "plain",
            "a,b",
            "say \"hi\"",
            "two\nlines",
            "=1+1",
            "+1",
            "-1",
            "@x",
            "\tx",
            "\rx",
            "終端",
        ]
        .map(pair);
        let wanted = "name,count,as_of,as_of_sequence\r\n\
            plain,3,2026-11-22T13:57:00Z,42\r\n\
            \"a,b\",3,2026-11-22T13:57:00Z,42\r\n\
            \"say \"\"hi\"\"\",3,2026-11-22T13:57:00Z,42\r\n\
            \"two\nlines\",3,2026-11-22T13:57:00Z,42\r\n\
            '=1+1,3,2026-11-22T13:57:00Z,42\r\n\
            '+1,3,2026-11-22T13:57:00Z,42\r\n\
            '-1,3,2026-11-22T13:57:00Z,42\r\n\
            '@x,3,2026-11-22T13:57:00Z,42\r\n\
            '\tx,3,2026-11-22T13:57:00Z,42\r\n\
            \"'\rx\",3,2026-11-22T13:57:00Z,42\r\n\
            終端,3,2026-11-22T13:57:00Z,42\r\n";
        assert_eq!(csv(&rows, AS_OF, true), wanted);
        assert_eq!(csv::<Pair>(&[], AS_OF, true), "name,count,as_of,as_of_sequence\r\n");
    }

    #[test]
    fn columns_are_the_names_in_json() {
        let json = serde_json::to_value(pair("x")).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut columns = Pair::COLUMNS.to_vec();
        columns.sort_unstable();
        assert_eq!(names, columns);
    }

    #[test]
    fn times_have_one_form() {
        assert_eq!(rfc3339(1_795_355_820), "2026-11-22T13:57:00Z");
        assert_eq!(OnDay(20_779).to_string(), "2026-11-22");
        assert_eq!(OnDay(0).to_string(), "day 0");
        assert_eq!(OnDay(Day::MAX).to_string(), format!("day {}", Day::MAX));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(names in proptest::collection::vec("\\PC{0,6}|[\"\\r\\n,=]{0,6}", 0..8)) {
            let rows: Vec<_> = names.iter().map(|name| pair(name)).collect();
            let text = csv(&rows, AS_OF, true);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let read: Vec<_> = reader.records().map(|record| record.unwrap()[0].to_owned()).collect();
            prop_assert_eq!(&read, &rows.iter().map(|row| row.name.cell()).collect::<Vec<_>>());
            prop_assert!(read.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])));
        }
    }
}
