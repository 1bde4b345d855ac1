//! `tms init`.

use super::shell;
use crate::init::{NewEstate, advice, create};
use crate::key::DEFAULT_BITS;
use anyhow::Result;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use tms_core::clock::{Clock, SystemClock};

/// Make an estate: keys, the server's certificate, trust store, database, blob directory and configuration.
#[derive(Args)]
pub(super) struct Init {
    /// A directory that is not there yet, or empty.
    dir: PathBuf,
    /// Whose estate it is; it stands in the server's certificate.
    #[arg(long, value_name = "NAME", default_value = "Example")]
    organisation: String,
    /// Size of the RSA keys: 2048 to 4096.
    #[arg(long, default_value_t = DEFAULT_BITS)]
    bits: usize,
}

impl Init {
    pub(super) async fn run(self, out: &mut impl Write) -> Result<()> {
        let layout = create(
            &self.dir,
            &NewEstate {
                organisation: self.organisation,
                bits: self.bits,
                from: SystemClock.now(),
            },
        )
        .await?;
        let dir = shell(layout.root());
        writeln!(out, "made an estate in {dir}\n\n{}\n", advice(&layout))?;
        writeln!(out, "Next:")?;
        writeln!(out, "  look at {}: every line is explained", shell(&layout.config()))?;
        writeln!(out, "  tms --estate {dir} enrol --vendor PAX --model P80 --serial 0001")?;
        writeln!(out, "  tms-server --estate {dir}")?;
        Ok(())
    }
}
