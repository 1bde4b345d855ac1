//! What goes wrong inside, and what callers are told of it.

use rusqlite::ErrorCode;
use tms_core::store::StoreError;

pub(crate) type Result<T> = std::result::Result<T, Fault>;

/// What went wrong inside. Its text never holds a record's content (clause 11): SQLite's own messages are left out, because
/// some of them quote values, and so are serde's.
#[derive(Debug)]
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    /// A body is not the JSON of its record, or a column is not what the schema says.
    Body {
        table: &'static str,
        line: usize,
        column: usize,
    },
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Body { table, line, column } => Self::Corrupt(format!(
                "a body in {table} is malformed at line {line}, column {column}"
            )),
            Fault::Sqlite(error) => match &error {
                rusqlite::Error::SqliteFailure(failure, _) | rusqlite::Error::SqlInputError { error: failure, .. } => {
                    let text = failure.to_string().to_lowercase();
                    match failure.code {
                        ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::OutOfMemory
                        | ErrorCode::ReadOnly
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DiskFull
                        | ErrorCode::CannotOpen
                        | ErrorCode::FileLockingProtocolFailed => Self::Unavailable(text),
                        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt(text),
                        _ => Self::Backend(text),
                    }
                }
                rusqlite::Error::InvalidColumnType(column, ..)
                | rusqlite::Error::FromSqlConversionFailure(column, ..)
                | rusqlite::Error::IntegralValueOutOfRange(column, _)
                | rusqlite::Error::Utf8Error(column, _) => {
                    Self::Corrupt(format!("column {column} has not the type that it must have"))
                }
                _ => Self::Backend("sqlite was used wrongly".to_owned()),
            },
        }
    }
}

/// What is said when the store's threads are gone.
pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn of(code: i32) -> StoreError {
        let message = Some("UNIQUE failed: 'canary'".to_owned());
        Fault::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), message)).into()
    }

    #[test]
    fn results_say_whether_to_try_again() {
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_CANTOPEN,
        ] {
            assert!(of(code).is_transient(), "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_CORRUPT_INDEX] {
            assert!(matches!(of(code), StoreError::Corrupt(_)), "{code}");
        }
        for code in [ffi::SQLITE_MISUSE, ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_ERROR] {
            assert!(matches!(of(code), StoreError::Backend(_)), "{code}");
        }
        assert!(!format!("{} {:?}", of(ffi::SQLITE_CONSTRAINT), of(ffi::SQLITE_CONSTRAINT)).contains("canary"));
    }
}
