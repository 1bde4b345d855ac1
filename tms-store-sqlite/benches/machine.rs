//! What each bench needs of the machine: a place for its database, and clocks.

use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Where the database is made.
#[derive(Args)]
pub(crate) struct Place {
    /// Where the database is made; one that is there is used again [default: a new temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    // cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
}

/// A directory, which is removed with this where it is a temporary one.
pub(crate) enum Directory {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Place {
    pub(crate) fn open(&self) -> io::Result<Directory> {
        match &self.dir {
            Some(path) => {
                std::fs::create_dir_all(path)?;
                Ok(Directory::Kept(path.clone()))
            }
            None => Ok(Directory::Temporary(tempfile::tempdir()?)),
        }
    }
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// A clock's time since its own beginning; the processor's counts all threads of this process.
pub(crate) fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
