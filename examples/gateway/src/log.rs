//! The log: to standard error, so that standard output stays for what the program says.

use crate::config::LogFormat;
use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// Begins to log. May be called once in a program.
///
/// # Errors
/// Where the filter is not understood.
pub fn start(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("the log filter {filter:?} is not understood: write a level such as info, or module=level, with commas between")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
