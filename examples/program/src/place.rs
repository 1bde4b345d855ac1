//! The directory that a demonstration makes.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where a demonstration makes its estate: where it was told, or in a temporary directory.
pub struct Place {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Place {
    /// The directory that was named, or else a temporary one whose name begins with that of the program.
    ///
    /// # Errors
    /// Where a temporary directory cannot be made.
    pub fn new(named: Option<PathBuf>, program: &str) -> Result<Self> {
        if let Some(path) = named {
            return Ok(Self { path, temporary: None });
        }
        let made = tempfile::Builder::new()
            .prefix(&format!("{program}-"))
            .tempdir()
            .context("cannot make a temporary directory")?;
        Ok(Self {
            path: made.path().join("estate"),
            temporary: Some(made),
        })
    }

    /// The directory; it need not be there yet.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a temporary directory, unless it is to be kept. Whether it is gone.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn leave(self, keep: bool) -> Result<bool> {
        match self.temporary {
            Some(temporary) if keep => {
                let _kept = temporary.keep();
                Ok(false)
            }
            Some(temporary) => {
                temporary.close().context("cannot remove the temporary directory")?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
