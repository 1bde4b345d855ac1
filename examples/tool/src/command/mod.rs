//! The commands of `tms`.

mod assets;
mod assign;
mod audit;
mod branch;
mod case;
mod cert;
mod drift;
mod edit;
mod enrol;
mod event;
mod filter;
mod init;
mod install;
mod key;
mod layer;
mod notice;
mod operator;
mod package;
mod policy;
mod proposal;
mod publish;
mod release;
mod replace;
mod report;
mod represent;
mod task;
mod template;
mod terminal;
mod text;

use crate::Refused;
use crate::office::Office;
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tms_core::estate::EstateError;
use tms_core::store::StoreError;
use tms_program::table::{print_columns, print_table};
use tms_server::layout::Layout;

/// The operator's tool of a terminal-management system.
///
/// It makes keys and certificates, builds, signs and verifies packages, and works on an estate directory: publishes packages,
/// enrols terminals and queues packages for them. It may be used while servers run on the same directory.
#[derive(Parser)]
#[command(name = "tms", version, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What all commands have.
#[derive(Args)]
struct Common {
    /// The estate directory, for the commands that work on one.
    #[arg(
        long,
        short,
        value_name = "DIR",
        env = "TMS_ESTATE",
        default_value = ".",
        global = true
    )]
    estate: PathBuf,
    /// Who acts: it stands in every event. Your login name by default.
    #[arg(long, value_name = "NAME", env = "TMS_ACTOR", global = true)]
    actor: Option<String>,
}

const AFTER: &str = "\
From nothing to an updated terminal:
  tms init estate                                        keys, certificate, database, configuration
  export TMS_ESTATE=estate
  tms package build --component cashier --version 1.0 --counter 0 --vendor PAX --model P80 \\
      --content cashier.bin --key estate/keys/vendor.pem -o cashier.tmspkg
  tms publish cashier.tmspkg
  tms enrol --vendor PAX --model P80 --serial 0001       makes estate/terminals/0001
  tms queue --serial 0001 --package cashier@1.0
  tms-server &
  tms-terminal --dir estate/terminals/0001 --once
  tms terminal 0001

Exit status:
  0  done
  1  could not be done: a file, the database, the configuration
  2  wrong command line
  3  refused: it does not verify, is not known, or is not allowed";

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand)]
    Cert(cert::Cert),
    #[command(subcommand)]
    Package(package::Package),
    Publish(publish::Publish),
    Packages(publish::Packages),
    Represent(represent::Represent),
    Enrol(enrol::Enrol),
    Terminals(terminal::Terminals),
    Terminal(terminal::Terminal),
    Queue(assign::Queue),
    Cancel(assign::Cancel),
    State(enrol::State),
    Renew(enrol::Renew),
    Events(event::Events),
    #[command(subcommand)]
    Branch(branch::Branch),
    #[command(subcommand)]
    Operator(operator::Operator),
    #[command(subcommand)]
    Role(operator::Role),
    #[command(subcommand)]
    Propose(proposal::Propose),
    #[command(subcommand)]
    Proposal(proposal::Proposal),
    #[command(subcommand)]
    Audit(audit::Audit),
    Report(report::Report),
    Release(release::Release),
    #[command(subcommand)]
    Floor(release::Floor),
    #[command(subcommand)]
    Install(install::Install),
    #[command(subcommand)]
    Replace(replace::Replace),
    #[command(subcommand)]
    Case(case::Case),
    #[command(subcommand)]
    Text(text::Text),
    #[command(subcommand)]
    Assets(assets::Assets),
    #[command(subcommand)]
    Task(task::Task),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Access(policy::Access),
    #[command(subcommand)]
    Template(template::Template),
    #[command(subcommand)]
    Layer(layer::Layer),
    #[command(subcommand)]
    Drift(drift::Drift),
    #[command(subcommand)]
    Notice(notice::Notice),
}

/// Runs the program with the arguments that it was given, and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start");
    let done = runtime.and_then(|runtime| runtime.block_on(cli.run(&mut io::stdout())));
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    // Whoever reads the output has read enough: `tms events | head`.
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(closed))
    {
        return ExitCode::SUCCESS;
    }
    eprintln!("tms: {error:#}");
    if is_refusal(&error) {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

/// Does what the program does with these arguments, its name first, and says on `out` what came of it.
///
/// # Errors
/// Where the arguments are not understood, or it could not be done.
pub async fn run<A: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = A>,
    out: &mut impl Write,
) -> Result<()> {
    Cli::try_parse_from(arguments)?.run(out).await
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let refused = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<EstateError>() {
        Some(EstateError::Store(StoreError::Conflict)) | None => cause.is::<Refused>(),
        Some(EstateError::Store(_) | EstateError::Blob(_) | EstateError::Io(_)) => false,
        Some(_) => true,
    };
    error.chain().any(refused)
}

impl Cli {
    /// Carries out the command, and says on `out` what came of it.
    ///
    /// # Errors
    /// Where it could not be done.
    async fn run(self, out: &mut impl Write) -> Result<()> {
        let Self { common, command } = self;
        match command {
            Command::Init(command) => command.run(out).await,
            Command::Key(command) => command.run(&common, out).await,
            Command::Cert(command) => command.run(&common, out).await,
            Command::Package(command) => command.run(&common, out).await,
            Command::Publish(command) => command.run(&common.office().await?, out).await,
            Command::Packages(command) => command.run(&common.office().await?, out).await,
            Command::Represent(command) => command.run(&common.office().await?, out).await,
            Command::Enrol(command) => command.run(&common.office().await?, out).await,
            Command::Terminals(command) => command.run(&common.office().await?, out).await,
            Command::Terminal(command) => command.run(&common.office().await?, out).await,
            Command::Queue(command) => command.run(&common.office().await?, out).await,
            Command::Cancel(command) => command.run(&common.office().await?, out).await,
            Command::State(command) => command.run(&common.office().await?, out).await,
            Command::Renew(command) => command.run(&common.office().await?, out).await,
            Command::Events(command) => command.run(&common.office().await?, out).await,
            Command::Branch(command) => command.run(&common.office().await?, out).await,
            Command::Operator(command) => command.run(&common.office().await?, out).await,
            Command::Role(command) => command.run(&common.office().await?, out).await,
            Command::Propose(command) => command.run(&common.office().await?, out).await,
            Command::Proposal(command) => command.run(&common.office().await?, out).await,
            Command::Audit(command) => command.run(&common.office().await?, out).await,
            Command::Report(command) => command.run(&common.office().await?, out).await,
            Command::Install(command) => command.run(&common.office().await?, out).await,
            Command::Replace(command) => command.run(&common.office().await?, out).await,
            Command::Case(command) => command.run(&common.office().await?, out).await,
            Command::Text(command) => command.run(&common.office().await?, out).await,
            Command::Assets(command) => command.run(&common.office().await?, out).await,
            Command::Release(command) => command.run(&common.office().await?, out).await,
            Command::Floor(command) => command.run(&common.office().await?, out).await,
            Command::Task(command) => command.run(&common.office().await?, out).await,
            Command::Policy(command) => command.run(&common.office().await?, out).await,
            Command::Access(command) => command.run(&common.office().await?, out).await,
            Command::Template(command) => command.run(&common.office().await?, out).await,
            Command::Layer(command) => command.run(&common.office().await?, out).await,
            Command::Drift(command) => command.run(&common.office().await?, out).await,
            Command::Notice(command) => command.run(&common.office().await?, out).await,
        }
    }
}

impl Common {
    async fn office(&self) -> Result<Office> {
        let actor = match &self.actor {
            Some(actor) => actor.clone(),
            None => login_name().context("who acts is not known: give --actor NAME")?,
        };
        Office::open(&self.estate, actor).await
    }

    /// Where things lie, for commands that can do without an estate.
    fn layout(&self) -> Layout {
        Layout::new(&self.estate)
    }
}

/// The name of the user that the program runs as; not what the environment says, which anybody can set.
fn login_name() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::Uid::current())
        .ok()?
        .map(|user| user.name)
}

/// A path as it can be typed.
#[must_use]
pub fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+@%=:,".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn paths_can_be_typed() {
        assert_eq!(shell(Path::new("estate/keys/root.pem")), "estate/keys/root.pem");
        assert_eq!(shell(Path::new("my estate")), "'my estate'");
        assert_eq!(shell(Path::new("it's")), "'it'\\''s'");
    }

    #[test]
    fn refusals_are_told_from_failures() {
        assert!(is_refusal(&crate::refused("no").context("why")));
        assert!(is_refusal(&EstateError::BadHolder.into()));
        assert!(!is_refusal(
            &EstateError::Store(StoreError::Unavailable("down".into())).into()
        ));
        assert!(!is_refusal(&anyhow::anyhow!("disk")));
    }
}
