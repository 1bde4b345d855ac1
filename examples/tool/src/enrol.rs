//! Enrolling a terminal: the estate learns of it, and it gets a directory to run from.

use crate::certificate::{self, Period};
use crate::key;
use crate::office::Office;
use crate::package;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use tms_core::custody::MainKey;
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::estate::Enrolment;
use tms_core::signer::{PemSigner, Signer};
use tms_core::store::{BranchPath, Holder, TerminalId};
use tms_core::transport::Framing;
use tms_proto::certificate::Subject;
use tms_proto::public_key::PublicKey;
use tms_terminal::directory::{Contents, Directory, Proof, Settings, prepare, write};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// The epoch of a terminal's first main-control key.
const FIRST_EPOCH: u32 = 1;

/// A terminal to be enrolled.
#[derive(Debug, Clone)]
pub struct NewTerminal {
    /// Who it is.
    pub holder: Holder,
    /// Its directory; one in the estate by default.
    pub directory: Option<PathBuf>,
    /// What it proves itself with.
    pub proof: Proof,
    /// Its public key, where it keeps the private half; else a key is made for it.
    pub key: Option<PublicKey>,
    /// Size of the key that is made for it, in bits.
    pub bits: usize,
    /// How many days its certificate is valid.
    pub days: u32,
    /// The server that it calls, `host:port`; the estate's first listener by default.
    pub server: Option<String>,
    /// Packages that it comes with.
    pub preload: Vec<PathBuf>,
    /// The branch that it belongs to.
    pub branch: BranchPath,
}

/// A terminal that was enrolled.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Its id.
    pub id: TerminalId,
    /// Who it is.
    pub holder: Holder,
    /// Its directory.
    pub directory: PathBuf,
}

/// Enrols a terminal, whose certificate `root` signs, and writes its directory.
///
/// # Errors
/// Where it is enrolled already, its directory is not empty, or something cannot be written.
pub async fn enrol(office: &Office, root: &PemSigner, new: NewTerminal) -> Result<Enrolled> {
    let directory = new.directory.unwrap_or_else(|| directory_of(office, &new.holder));
    let anchors = office.directory.anchors()?;
    if !anchors.list.iter().any(|anchor| anchor.key == *root.public_key()) {
        bail!(
            "key {} is not a root of this estate: servers would refuse the certificates that it signs",
            root.public_key().id().0.short()
        );
    }
    for file in &new.preload {
        let verified = package::read(file)?.verify(&office.directory.trust()?, office.directory.clock.now())?;
        verified.map_err(|error| crate::refused(format!("{} cannot be preloaded: {error}", file.display())))?;
    }
    let first = office.directory.config.listen.first();
    let settings = Settings {
        id: TerminalId(0),
        vendor: new.holder.vendor.clone(),
        model: new.holder.model.clone(),
        serial: new.holder.serial.clone(),
        hardware: None,
        server: new.server.unwrap_or_else(|| first_listener(office)),
        envelope: first.map_or(Framing::Tcp, |listen| listen.envelope),
        modem: None,
        cable: None,
        proof: new.proof,
        main_key_epoch: new.proof.has_main_key().then_some(FIRST_EPOCH),
    };
    prepare(&directory)?;

    let (private, public) = match (new.proof.has_rsa(), new.key) {
        (false, _) => (None, None),
        (true, Some(key)) => (None, Some(key)),
        (true, None) => {
            let pem = key::generate(new.bits).await?;
            let public = PemSigner::from_pem(&pem)?.public_key().clone();
            (Some(pem), Some(public))
        }
    };
    let certificate = match &public {
        Some(key) => {
            let period = Period {
                from: office.directory.clock.now(),
                days: new.days,
            };
            let subject = Subject::Terminal(new.holder.clone());
            Some(certificate::issue(root, subject, key.clone(), period).await?)
        }
        None => None,
    };
    let enrolment = Enrolment {
        holder: new.holder.clone(),
        key: public.as_ref().map(PublicKey::id),
        main_key_epoch: settings.main_key_epoch,
        branch: new.branch,
    };
    let id = office.estate.enrol(&office.actor, enrolment).await?;
    let mut main_key = None;
    if new.proof.has_main_key() {
        let mut bytes = Zeroizing::new([0; 16]);
        OsEntropy.fill(&mut *bytes);
        let key = MainKey::from_slice(&*bytes).context("an AES key has 16 bytes")?;
        let keys = office.directory.main_keys()?;
        let same = key.clone();
        spawn_blocking(move || keys.insert(id, FIRST_EPOCH, same)).await??;
        main_key = Some(key);
    }
    let contents = Contents {
        settings: Settings { id, ..settings },
        key: private,
        certificate,
        anchors,
        trust: office.directory.trust()?,
        main_key,
    };
    let written = write(&directory, contents).await;
    written.with_context(|| format!("{} is enrolled, but its directory is not whole", new.holder))?;
    let terminal = Directory::open(&directory)?;
    for file in &new.preload {
        preload(&terminal, file).await?;
    }
    Ok(Enrolled {
        id,
        holder: new.holder,
        directory,
    })
}

/// Where the directory of a terminal is, unless it was put elsewhere.
#[must_use]
pub fn directory_of(office: &Office, holder: &Holder) -> PathBuf {
    let plain = |char: char| {
        if char.is_ascii_alphanumeric() || char == '-' || char == '_' {
            char
        } else {
            '_'
        }
    };
    office
        .directory
        .layout
        .terminals()
        .join(holder.serial.chars().map(plain).collect::<String>())
}

/// Where terminals call in, as seen from this machine.
fn first_listener(office: &Office) -> String {
    let listen = office.directory.config.listen.first();
    let address = listen.map_or_else(|| ([127, 0, 0, 1], 7400).into(), |listen| listen.address);
    if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    }
}

/// Puts into a new terminal what it comes with.
async fn preload(terminal: &Directory, file: &Path) -> Result<()> {
    let package = package::read(file)?;
    let content = package.read_content()?;
    terminal.provision(package.manifest(), &content).await
}
