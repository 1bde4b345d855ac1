//! `tms cert`.

use super::{Common, shell};
use crate::certificate::{Period, issue, read};
use crate::key::{read_public, read_signer, write_public};
use crate::refused;
use crate::time::{Moment, show};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use tms_core::clock::{Clock, SystemClock};
use tms_core::signer::Signer;
use tms_proto::certificate::{Anchors, Subject, Validity};
use tms_proto::identity::Holder;

/// Issue and show card-verifiable certificates.
#[derive(Subcommand)]
pub(super) enum Cert {
    /// Issue a certificate.
    #[command(subcommand)]
    Issue(Issue),
    /// Show a certificate, and verify it where the anchors are known.
    Show {
        /// The certificate.
        file: PathBuf,
        /// The roots that it must be under; DIR/public/anchors.tlv where that is there.
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
    },
}

/// For whom.
#[derive(Subcommand)]
pub(super) enum Issue {
    /// For a group of servers.
    Server {
        /// Whose servers they are.
        #[arg(long, value_name = "NAME")]
        organisation: String,
        /// Which group of nodes.
        #[arg(long, value_name = "NAME", default_value = "main")]
        group: String,
        #[command(flatten)]
        how: How,
    },
    /// For a terminal.
    Terminal {
        #[command(flatten)]
        holder: HolderArgs,
        #[command(flatten)]
        how: How,
    },
    /// For one that signs packages for a vendor.
    VendorSigner {
        /// Its name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// For one that signs packages for an acquirer.
    AcquirerSigner {
        /// Its name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        how: How,
    },
}

/// A terminal, by what is on its label.
#[derive(Args, Clone)]
pub(super) struct HolderArgs {
    /// Who made it.
    #[arg(long)]
    vendor: String,
    /// Which model it is.
    #[arg(long)]
    model: String,
    /// Its serial number.
    #[arg(long)]
    serial: String,
}

impl From<HolderArgs> for Holder {
    fn from(args: HolderArgs) -> Self {
        Self {
            vendor: args.vendor,
            model: args.model,
            serial: args.serial,
        }
    }
}

/// For which key, by whom, and for how long.
#[derive(Args)]
pub(super) struct How {
    /// The key that it is for: public or private PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The root's private key; DIR/keys/root.pem by default.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// Its first day; today by default.
    #[arg(long, value_name = "DATE")]
    from: Option<Moment>,
    /// How many days it is valid.
    #[arg(long, default_value_t = 730)]
    days: u32,
    /// Where to write it.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl Cert {
    pub(super) async fn run(self, common: &Common, out: &mut impl Write) -> Result<()> {
        match self {
            Self::Issue(issue) => issue.run(common, out).await,
            Self::Show { file, anchors } => {
                let certificate = read(&file)?;
                let body = certificate.body();
                writeln!(out, "subject    {}", body.subject)?;
                writeln!(out, "key        {} ({} bits)", body.key.id(), body.key.bits())?;
                writeln!(out, "issuer     key {:?}…", body.authority)?;
                writeln!(out, "valid      {} to {}", body.effective, body.expiry)?;
                writeln!(out, "digest     {}", certificate.digest())?;
                let given = anchors.is_some();
                let anchors = anchors.unwrap_or_else(|| common.layout().public().join("anchors.tlv"));
                if !given && !anchors.exists() {
                    writeln!(out, "verified   not: there are no anchors here, give --anchors FILE")?;
                    return Ok(());
                }
                let content =
                    fs::read(&anchors).with_context(|| format!("cannot read the anchors {}", anchors.display()))?;
                let known = Anchors::decode(&content)
                    .with_context(|| format!("{} does not hold anchors", anchors.display()))?;
                let now = SystemClock.now();
                match certificate.verify(&known, Validity::At(now)) {
                    Ok(issuer) => writeln!(out, "verified   by {issuer}, at {}", show(now))?,
                    Err(error) => {
                        return Err(refused(format!("{} does not verify: {error}", shell(&file))));
                    }
                }
                Ok(())
            }
        }
    }
}

impl Issue {
    async fn run(self, common: &Common, out: &mut impl Write) -> Result<()> {
        let (subject, how) = match self {
            Self::Server {
                organisation,
                group,
                how,
            } => (Subject::Server { organisation, group }, how),
            Self::Terminal { holder, how } => (Subject::Terminal(holder.into()), how),
            Self::VendorSigner { name, how } => (Subject::VendorSigner { name }, how),
            Self::AcquirerSigner { name, how } => (Subject::AcquirerSigner { name }, how),
        };
        let root = read_signer(&how.root_key.unwrap_or_else(|| common.layout().root_key()))?;
        let key = read_public(&how.key)?;
        let period = Period {
            from: how.from.map_or_else(|| SystemClock.now(), |from| from.0),
            days: how.days,
        };
        let certificate = issue(&root, subject, key, period).await?;
        write_public(&how.output, certificate.raw())?;
        let body = certificate.body();
        writeln!(
            out,
            "issued {} for {}, valid {} to {}, by key {}",
            shell(&how.output),
            body.subject,
            body.effective,
            body.expiry,
            root.public_key().id().0.short()
        )?;
        Ok(())
    }
}
