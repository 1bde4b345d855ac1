//! `tms key`.

mod parameter;

use super::{Common, shell};
use crate::key::{DEFAULT_BITS, generate_file, public_pem, read_public};
use anyhow::Result;
use clap::Subcommand;
use parameter::Parameter;
use std::io::Write;
use std::path::PathBuf;
use tms_core::signer::Signer;

/// Make and show RSA keys, and go over to another key of secret parameters.
#[derive(Subcommand)]
pub(super) enum Key {
    /// Make a private key, in a new file that only you may read (PKCS#8 PEM, mode 600).
    New {
        /// The file; one that is there is never written over.
        file: PathBuf,
        /// Its size: 2048 to 4096.
        #[arg(long, default_value_t = DEFAULT_BITS)]
        bits: usize,
    },
    /// Show the public half of a key: its name, its size, and PEM. Never the private half.
    Show {
        /// A private key, a public key (PEM), or a certificate.
        file: PathBuf,
    },
    /// Go over to another key of secret parameters.
    #[command(subcommand)]
    Parameter(Parameter),
}

impl Key {
    pub(super) async fn run(self, common: &Common, out: &mut impl Write) -> Result<()> {
        match self {
            Self::Parameter(command) => command.run(&common.office().await?, out).await?,
            Self::New { file, bits } => {
                let signer = generate_file(&file, bits).await?;
                writeln!(
                    out,
                    "made key {} of {bits} bits in {}",
                    signer.public_key().id(),
                    shell(&file)
                )?;
                writeln!(out, "its public half: tms key show {}", shell(&file))?;
            }
            Self::Show { file } => {
                let key = read_public(&file)?;
                writeln!(
                    out,
                    "key    {}\nbits   {}\n{}",
                    key.id(),
                    key.bits(),
                    public_pem(&key)?.trim_end()
                )?;
            }
        }
        Ok(())
    }
}
