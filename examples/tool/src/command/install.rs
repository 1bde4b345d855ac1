//! `tms install`.

use super::print_table;
use crate::office::Office;
use crate::refused;
use crate::time::show;
use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::str::FromStr;
use tms_core::estate::{InstallState, Installation, InstallationFact, InstallationMessage, KeyLoad, LoadedKey};
use tms_core::store::{BranchPath, Caller};

/// How much is read of a file of messages.
const MAX_FILE: u64 = 64 << 20;

/// Take installations from the business system to the terminal's own registration.
#[derive(Subcommand)]
pub(super) enum Install {
    /// Take in what the business system says: one JSON object a line, {"reference": ..., "issued": ..., "facts": {...}}.
    Announce {
        /// The file; - is the standard input.
        file: PathBuf,
    },
    /// Show installations.
    List {
        /// In this state; in all, where none is said.
        #[arg(long)]
        state: Option<String>,
        /// Of this branch and the ones below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
    },
    /// Show one installation as JSON, with every message about it.
    Show {
        /// The business system's reference.
        reference: String,
    },
    /// Say which is right of two words, or supply what is missing.
    Resolve {
        /// The business system's reference.
        reference: String,
        /// Of what: branch, merchant, merchant_name, site, address, terminal, vendor, model, serial, applications.
        fact: String,
        /// What is right.
        value: String,
    },
    /// Put an enrolled device to it, and record which keys were loaded. Never give a key.
    Init {
        /// The business system's reference.
        reference: String,
        /// The device: serial number, VENDOR/MODEL/SERIAL or id.
        #[arg(long)]
        terminal: String,
        /// Who loaded the keys, and where.
        #[arg(long)]
        custodian: String,
        /// A key that was loaded: SLOT:VERSION:USAGE:CHECKVALUE, such as 1:1:K0:08d7b4.
        #[arg(long = "key", required = true)]
        keys: Vec<Key>,
    },
    /// Confirm it. It takes an operator of the branch, and then another of head office.
    Confirm {
        /// The business system's reference.
        reference: String,
        /// For whom.
        #[arg(long = "as", value_enum)]
        place: Confirming,
    },
    /// Call it off.
    Withdraw {
        /// The business system's reference.
        reference: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// For whom an installation is confirmed.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Confirming {
    Branch,
    HeadOffice,
}

/// A key that was loaded.
#[derive(Debug, Clone)]
pub(super) struct Key(LoadedKey);

impl FromStr for Key {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let [slot, version, usage, check_value] = text.split(':').collect::<Vec<_>>()[..] else {
            bail!("it is SLOT:VERSION:USAGE:CHECKVALUE");
        };
        Ok(Self(LoadedKey {
            slot: slot.parse().context("the slot")?,
            version: version.parse().context("the version")?,
            usage: usage.to_owned(),
            check_value: check_value.to_lowercase(),
        }))
    }
}

impl Install {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        let done = match self {
            Self::Announce { file } => return announce(office, &file, out).await,
            Self::List { state, branch } => return list(office, state.as_deref(), &branch, out).await,
            Self::Show { reference } => {
                let installation = estate.installation(actor, &reference).await?;
                writeln!(out, "{}", serde_json::to_string_pretty(&installation)?)?;
                return Ok(());
            }
            Self::Resolve { reference, fact, value } => {
                let known: Result<InstallationFact, _> = serde_json::from_value(fact.clone().into());
                let fact = known.map_err(|_| refused(format!("{fact} is nothing that is known of an installation")))?;
                estate.resolve_installation(actor, &reference, fact, &value).await?
            }
            Self::Init {
                reference,
                terminal,
                custodian,
                keys,
            } => {
                let terminal = office.find(&terminal).await?;
                let keys = keys.into_iter().map(|key| key.0).collect();
                let load = KeyLoad::of(custodian, terminal.main_key_epoch, keys);
                estate
                    .initialise(actor, &reference, &Caller::Id(terminal.id), load)
                    .await?
            }
            Self::Confirm { reference, place } => match place {
                Confirming::Branch => estate.confirm_by_branch(actor, &reference).await?,
                Confirming::HeadOffice => estate.confirm_by_head_office(actor, &reference).await?,
            },
            Self::Withdraw { reference, reason } => estate.withdraw_installation(actor, &reference, &reason).await?,
        };
        say(&done, out)
    }
}

fn say(installation: &Installation, out: &mut impl Write) -> Result<()> {
    writeln!(out, "installation {} is {}", installation.reference, installation.state)?;
    for contradiction in &installation.contradictions {
        writeln!(
            out,
            "  {}: {} was known, and {} was said on {}",
            contradiction.fact.name(),
            contradiction.known,
            contradiction.said,
            show(contradiction.received)
        )?;
    }
    let missing: Vec<_> = installation.missing().into_iter().map(InstallationFact::name).collect();
    if !missing.is_empty() {
        writeln!(out, "  missing: {}", missing.join(", "))?;
    }
    Ok(())
}

async fn announce(office: &Office, file: &PathBuf, out: &mut impl Write) -> Result<()> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        io::stdin().lock().take(MAX_FILE).read_to_string(&mut text)?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        opened.take(MAX_FILE).read_to_string(&mut text)?;
    }
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let message: InstallationMessage =
            serde_json::from_str(line).with_context(|| format!("line {} is no message", number.saturating_add(1)))?;
        say(&office.estate.announce(&office.actor, message).await?, out)?;
    }
    Ok(())
}

async fn list(office: &Office, state: Option<&str>, branch: &BranchPath, out: &mut impl Write) -> Result<()> {
    let states: Vec<_> = InstallState::ALL
        .into_iter()
        .filter(|one| state.is_none_or(|state| state == one.name()))
        .collect();
    if states.is_empty() {
        let names: Vec<_> = InstallState::ALL.into_iter().map(InstallState::name).collect();
        return Err(refused(format!("it is one of {}", names.join(", "))));
    }
    let mut rows = Vec::new();
    for state in states {
        let found = office
            .estate
            .installations(&office.actor, branch, state, 10_000)
            .await?;
        rows.extend(found.into_iter().map(|installation| {
            let fact = |fact| installation.fact(fact).unwrap_or_default().to_owned();
            [
                installation.reference.clone(),
                installation.state.name().to_owned(),
                installation.branch().to_string(),
                fact(InstallationFact::Merchant),
                fact(InstallationFact::Terminal),
                fact(InstallationFact::Model),
                installation.device.map(|id| id.to_string()).unwrap_or_default(),
                installation.contradictions.len().to_string(),
            ]
        }));
    }
    let head = [
        "reference",
        "state",
        "branch",
        "merchant",
        "terminal",
        "model",
        "device",
        "contradictions",
    ];
    Ok(print_table(out, head, rows)?)
}
