//! `tms enrol`, `tms state` and `tms renew`: the life of a terminal.

use super::cert::HolderArgs;
use super::shell;
use crate::enrol::{NewTerminal, enrol};
use crate::key::{DEFAULT_BITS, read_public, read_signer};
use crate::office::Office;
use crate::{certificate, refused};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use tms_core::clock::{Clock, SystemClock};
use tms_core::store::{self, BranchPath, Caller, TerminalState};
use tms_proto::certificate::Subject;
use tms_proto::credential::Remembered;
use tms_proto::public_key::PublicKey;
use tms_proto::tlv::Structure;
use tms_terminal::directory::Proof;

/// Enrol a terminal: from then on servers know it. Makes its directory, from which tms-terminal runs.
#[derive(Args)]
pub(super) struct Enrol {
    #[command(flatten)]
    holder: HolderArgs,
    /// Its directory; DIR/terminals/SERIAL by default.
    #[arg(long, value_name = "TERMINAL_DIR")]
    dir: Option<PathBuf>,
    /// What it proves itself with.
    #[arg(long, value_enum, default_value_t = Proof::Rsa)]
    proof: Proof,
    /// Its public key, where it made its own key and keeps it; else one is made for it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Size of the key that is made for it.
    #[arg(long, default_value_t = DEFAULT_BITS)]
    bits: usize,
    /// How many days its certificate is valid.
    #[arg(long, default_value_t = 10 * 365)]
    days: u32,
    /// The server that it is to call; this estate's first listener by default.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// A package that it comes with, installed at the works; may be given several times.
    #[arg(long, value_name = "FILE.tmspkg")]
    preload: Vec<PathBuf>,
    /// The branch that it belongs to, such as /east/harbour; head office is /.
    #[arg(long, value_name = "PATH", default_value = "/")]
    branch: BranchPath,
    /// The root's private key; DIR/keys/root.pem by default.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
}

/// Put a terminal into another state. Its tickets end with it.
#[derive(Args)]
pub(super) struct State {
    /// The terminal, by serial number, vendor/model/serial or id.
    serial: String,
    /// The state: one that is deactivated may call and is told so; one that is blacklisted is lost, stolen or cloned.
    #[arg(value_enum)]
    state: NewState,
}

#[derive(Clone, Copy, ValueEnum)]
enum NewState {
    Active,
    Deactivated,
    Blacklisted,
}

/// Issue a new certificate for a terminal's key: it gets it when it calls, even after the old one has expired.
#[derive(Args)]
pub(super) struct Renew {
    /// The terminal, by serial number, vendor/model/serial or id.
    serial: String,
    /// Its public key (PEM or certificate), where neither the store nor DIR/terminals/SERIAL has it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How many days the certificate is valid.
    #[arg(long, default_value_t = 10 * 365)]
    days: u32,
    /// The root's private key; DIR/keys/root.pem by default.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
}

impl Enrol {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let layout = &office.directory.layout;
        let root = read_root(office, self.root_key)?;
        let key = self.key.as_deref().map(read_public).transpose()?;
        let has_key = key.is_some();
        let new = NewTerminal {
            holder: self.holder.into(),
            directory: self.dir,
            proof: self.proof,
            key,
            bits: self.bits,
            days: self.days,
            server: self.server,
            preload: self.preload,
            branch: self.branch,
        };
        let enrolled = enrol(office, &root, new).await?;
        let dir = shell(&enrolled.directory);
        writeln!(out, "enrolled {} as {}", enrolled.holder, enrolled.id)?;
        writeln!(out, "  its directory is {dir}: keep it secret, its keys are in it")?;
        if has_key {
            writeln!(
                out,
                "  its key is its own: put the private half into {}",
                shell(&enrolled.directory.join("key.pem"))
            )?;
        }
        writeln!(out, "Next:")?;
        writeln!(
            out,
            "  tms --estate {} queue --serial {} --package COMPONENT@VERSION",
            shell(layout.root()),
            enrolled.holder.serial
        )?;
        writeln!(out, "  tms-terminal --dir {dir} --once")?;
        Ok(())
    }
}

impl State {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let terminal = office.find(&self.serial).await?;
        let state = match self.state {
            NewState::Active => TerminalState::Active,
            NewState::Deactivated => TerminalState::Deactivated,
            NewState::Blacklisted => TerminalState::Blacklisted,
        };
        if terminal.state == state {
            return Err(refused(format!("{} is {} already", terminal.holder, state.name())));
        }
        office
            .estate
            .set_state(&office.actor, &Caller::Id(terminal.id), state)
            .await?;
        writeln!(
            out,
            "{} is {}, it was {}",
            terminal.holder,
            state.name(),
            terminal.state.name()
        )?;
        Ok(())
    }
}

impl Renew {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let terminal = office.find(&self.serial).await?;
        let key = match self.key.as_deref().map(read_public).transpose()? {
            Some(key) => key,
            None => known_key(office, &terminal)?,
        };
        let root = read_root(office, self.root_key)?;
        let period = certificate::Period {
            from: SystemClock.now(),
            days: self.days,
        };
        let issued = certificate::issue(&root, Subject::Terminal(terminal.holder.clone()), key, period).await?;
        office.estate.renew(&office.actor, issued.raw()).await?;
        let expiry = issued.body().expiry;
        writeln!(
            out,
            "a certificate for {}, valid to {expiry}, waits for its next call",
            terminal.holder
        )?;
        Ok(())
    }
}

fn read_root(office: &Office, given: Option<PathBuf>) -> Result<tms_core::signer::PemSigner> {
    let here = office.directory.layout.root_key();
    let missing = given.is_none() && !here.exists();
    let read = read_signer(&given.unwrap_or(here));
    if missing {
        read.context("the root's key is kept off this machine: give --root-key FILE")
    } else {
        read
    }
}

/// The public key of a terminal: as the store remembers it, or as its directory has it.
fn known_key(office: &Office, terminal: &store::Terminal) -> Result<PublicKey> {
    let remembered = terminal
        .credential
        .as_ref()
        .and_then(|credential| hex::decode(&credential.known).ok());
    let remembered = remembered
        .and_then(|known| Remembered::from_slice(&known).ok())
        .map(|known| known.public_key);
    let directory = crate::enrol::directory_of(office, &terminal.holder);
    let here = || read_public(&directory.join("terminal.cert")).ok();
    let key = remembered
        .or_else(here)
        .filter(|key| terminal.key.is_none_or(|pinned| pinned == key.id()));
    key.with_context(|| {
        format!(
            "the public key of {} is not known here: give --key FILE",
            terminal.holder
        )
    })
}
