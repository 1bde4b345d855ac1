//! Configuration files.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// Reads a file in TOML. `what` names it in errors: "the configuration".
///
/// # Errors
/// Where the file cannot be read or says something that is not understood: with line and column.
pub fn read<T: DeserializeOwned>(what: &str, path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {what} {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{what} {} is not valid", path.display()))
}
