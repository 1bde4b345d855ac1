//! `tms package`.

use super::{Common, shell};
use crate::key::{read_public, read_signer};
use crate::package::{Built, DependencyRecipe, OpenPackage, Recipe, VersionOrder, build, kind_name, read};
use crate::refused;
use crate::time::{Moment, show};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tms_core::clock::{Clock, SystemClock};
use tms_core::signer::PemSigner;
use tms_proto::code::Role;
use tms_proto::identity::KeyId;
use tms_proto::package::TrustStore;

/// Build, sign, show and verify packages.
#[derive(Subcommand)]
pub(super) enum Package {
    Build(Box<Build>),
    /// Write what has to be signed, for a key that signs off-line with OpenSSL; prints the command.
    Tbs {
        /// The package.
        file: PathBuf,
        /// Where to write it; FILE.tbs by default.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Add a signature that was made off-line.
    Attach {
        /// The package.
        file: PathBuf,
        /// The public key of the one who signed (PEM).
        #[arg(long, value_name = "FILE")]
        signer: PathBuf,
        /// The signature, as OpenSSL wrote it.
        #[arg(long, value_name = "FILE")]
        signature: PathBuf,
        /// Where to write the signed package; in place by default.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what a package says of itself, signed or not.
    Show {
        /// The package.
        file: PathBuf,
    },
    /// Verify signatures, dates and content, as a terminal does before it installs.
    Verify {
        /// The package.
        file: PathBuf,
        /// Whose signatures it needs; DIR/public/trust.tlv by default.
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
}

/// Build a package file, and sign it where the private key is at hand.
///
/// What the package is may stand in a manifest file (TOML) or in flags; flags win.
#[derive(Args)]
#[command(after_help = MANIFEST)]
pub(super) struct Build {
    /// The manifest file.
    #[arg(long, value_name = "FILE.toml")]
    manifest: Option<PathBuf>,
    /// The component that it installs, such as cashier.
    #[arg(long)]
    component: Option<String>,
    /// What kind of component that is: application by default, or operating-system, main-control, emv-kernel,
    /// terminal-parameters and so on.
    #[arg(long)]
    kind: Option<String>,
    /// The version, as people read it.
    #[arg(long)]
    version: Option<String>,
    /// How the version compares: taken from --version where that is of numbers and full stops.
    #[arg(long, value_name = "ORDER")]
    order: Option<VersionOrder>,
    /// Security counter: raise it when a weakness is mended. A terminal never goes back.
    #[arg(long, value_name = "N")]
    counter: Option<u32>,
    /// The lowest version from which a terminal can go to this one.
    #[arg(long, value_name = "VERSION")]
    min_from: Option<VersionOrder>,
    /// Vendor of the terminals that it is for.
    #[arg(long)]
    vendor: Option<String>,
    /// Their model; may be given several times.
    #[arg(long)]
    model: Vec<String>,
    /// Their hardware version; may be given several times; all by default.
    #[arg(long)]
    hardware: Vec<String>,
    /// What else must be installed, as component@version; may be given several times.
    #[arg(long, value_name = "COMPONENT@VERSION", value_parser = DependencyRecipe::parse)]
    depends_on: Vec<DependencyRecipe>,
    /// The content.
    #[arg(long, value_name = "FILE")]
    content: Option<PathBuf>,
    /// Transactions must be settled before it is installed.
    #[arg(long)]
    settle_first: bool,
    /// The terminal must be started again after.
    #[arg(long)]
    restart: bool,
    /// It may not be installed before.
    #[arg(long, value_name = "DATE")]
    not_before: Option<Moment>,
    /// It may not be installed from then on.
    #[arg(long, value_name = "DATE")]
    expiry: Option<Moment>,
    /// A private key that signs it now; may be given several times.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// The public key of one that signs it later, off-line (tbs, attach); may be given several times.
    #[arg(long, value_name = "FILE")]
    signer: Vec<PathBuf>,
    /// Where to write it; COMPONENT-VERSION.tmspkg by default.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

const MANIFEST: &str = "\
A manifest file:
  component = \"cashier\"
  version = \"3.2.1\"
  counter = 4
  vendor = \"PAX\"
  models = [\"P80\", \"P90\"]
  content = \"cashier.bin\"          # relative to the manifest file
  settle_first = true
  expiry = \"2028-01-01\"
  [[dependency]]
  component = \"emv-kernel\"
  version = \"2.0\"
In the place of `content`, files that are put one behind the other:
  [[file]]
  name = \"bin/cashier\"             # on the terminal
  source = \"build/cashier\"         # here
  role = \"exec\"
  mode = \"755\"";

impl Package {
    pub(super) async fn run(self, common: &Common, out: &mut impl Write) -> Result<()> {
        match self {
            Self::Build(build) => build.run(out).await,
            Self::Tbs { file, output } => tbs(&file, output, out),
            Self::Attach {
                file,
                signer,
                signature,
                output,
            } => attach(&file, &signer, &signature, output, out),
            Self::Show { file } => show_package(&read(&file)?, out),
            Self::Verify { file, trust } => verify(&file, trust, common, out),
        }
    }
}

impl Build {
    async fn run(self, out: &mut impl Write) -> Result<()> {
        let recipe = self
            .manifest
            .as_deref()
            .map_or_else(|| Ok(Recipe::default()), Recipe::read)?;
        let recipe = recipe.overridden(Recipe {
            component: self.component,
            kind: self.kind,
            version: self.version,
            order: self.order,
            counter: self.counter,
            min_from: self.min_from,
            vendor: self.vendor,
            models: self.model,
            hardware: self.hardware,
            dependencies: self.depends_on,
            content: self.content,
            files: Vec::new(),
            settle_first: self.settle_first,
            restart: self.restart,
            not_before: self.not_before,
            expiry: self.expiry,
        });
        let signers = self
            .key
            .iter()
            .map(|file| read_signer(file))
            .collect::<Result<Vec<PemSigner>>>()?;
        let later = self
            .signer
            .iter()
            .map(|file| Ok(read_public(file)?.id()))
            .collect::<Result<Vec<KeyId>>>()?;
        let part = |text: &Option<String>| text.clone().unwrap_or_default().replace(['/', '\\'], "_");
        let name = format!("{}-{}.tmspkg", part(&recipe.component), part(&recipe.version));
        let output = self.output.unwrap_or_else(|| name.into());
        let Built { manifest, size } = build(&recipe, &signers, &later, &output).await?;
        let described = manifest.unverified();
        writeln!(
            out,
            "built {}: {} {}, {size} bytes",
            shell(&output),
            described.component,
            described.version
        )?;
        writeln!(out, "  package  {}", manifest.digest())?;
        writeln!(out, "  content  {}", described.digest)?;
        let missing = described.signers.len() - manifest.signatures().len();
        if missing > 0 {
            writeln!(
                out,
                "  {missing} signature(s) to come: tms package tbs {}",
                shell(&output)
            )?;
        }
        Ok(())
    }
}

fn tbs(file: &Path, output: Option<PathBuf>, out: &mut impl Write) -> Result<()> {
    let package = read(file)?;
    let output = output.unwrap_or_else(|| file.with_extension("tbs"));
    fs::write(&output, package.to_be_signed()).with_context(|| format!("cannot write {}", output.display()))?;
    let (tbs, signature) = (shell(&output), shell(&output.with_extension("sig")));
    writeln!(
        out,
        "wrote {tbs}: what has to be signed, {} bytes",
        package.to_be_signed().len()
    )?;
    for key in unsigned(&package) {
        writeln!(out, "\nkey {} has not signed yet. Where it is:", key.0.short())?;
        writeln!(
            out,
            "  openssl dgst -sha256 -sign PRIVATE.pem -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -out {signature} {tbs}"
        )?;
        writeln!(out, "and back here:")?;
        writeln!(
            out,
            "  tms package attach {} --signer PUBLIC.pem --signature {signature}",
            shell(file)
        )?;
    }
    if unsigned(&package).is_empty() {
        writeln!(out, "all keys that the manifest names have signed already")?;
    }
    Ok(())
}

fn unsigned(package: &OpenPackage) -> Vec<KeyId> {
    let manifest = package.manifest();
    let signed = |key: &KeyId| manifest.signatures().iter().any(|signature| signature.key == *key);
    manifest
        .unverified()
        .signers
        .iter()
        .copied()
        .filter(|key| !signed(key))
        .collect()
}

fn attach(file: &Path, signer: &Path, signature: &Path, output: Option<PathBuf>, out: &mut impl Write) -> Result<()> {
    let package = read(file)?;
    let key = read_public(signer)?;
    let content = fs::read(signature).with_context(|| format!("cannot read the signature {}", signature.display()))?;
    let output = output.unwrap_or_else(|| file.to_owned());
    let signed = package.attach(&key, &content, &output)?;
    writeln!(out, "signed {} by key {}", shell(&output), key.id().0.short())?;
    // The name of a package is the digest of its signed manifest.
    writeln!(out, "  package  {}", signed.digest())?;
    Ok(())
}

fn show_package(package: &OpenPackage, out: &mut impl Write) -> Result<()> {
    let signed = package.manifest();
    let manifest = signed.unverified();
    writeln!(out, "package       {}", signed.digest())?;
    writeln!(
        out,
        "component     {} ({})",
        manifest.component,
        kind_name(manifest.kind)
    )?;
    writeln!(
        out,
        "version       {} (compares as {})",
        manifest.version, manifest.order
    )?;
    writeln!(out, "counter       {}", manifest.counter)?;
    writeln!(out, "for           {} {}", manifest.vendor, or_all(&manifest.models))?;
    writeln!(out, "hardware      {}", or_all(&manifest.hardware))?;
    if let Some(lowest) = manifest.min_from {
        writeln!(out, "from          {lowest} or higher")?;
    }
    for needed in &manifest.dependencies {
        writeln!(out, "needs         {} {} or higher", needed.component, needed.order)?;
    }
    writeln!(out, "content       {} bytes, {}", manifest.size, manifest.digest)?;
    if let Some(map) = &manifest.block_map {
        writeln!(
            out,
            "blocks        of {} KiB, digests in {} bytes",
            1u64 << (map.block_log2.max(10) - 10),
            map.size
        )?;
    }
    for file in &manifest.files {
        writeln!(
            out,
            "file          {} ({}, {:03o}), {} bytes",
            file.name, file.role, file.mode, file.size
        )?;
    }
    if manifest.hints.settle_first == Some(true) {
        writeln!(out, "settle first  yes")?;
    }
    if manifest.hints.restart == Some(true) {
        writeln!(out, "restart       yes")?;
    }
    if let Some(from) = manifest.not_before {
        writeln!(out, "not before    {} UTC", show(from))?;
    }
    if let Some(end) = manifest.expiry {
        writeln!(out, "expires       {} UTC", show(end))?;
    }
    for key in &manifest.signers {
        let has = signed.signatures().iter().any(|signature| signature.key == *key);
        writeln!(
            out,
            "signer        {key} ({})",
            if has {
                "signed, not verified here"
            } else {
                "has not signed"
            }
        )?;
    }
    writeln!(
        out,
        "Nothing of this is verified: tms package verify {}",
        shell(&package.path)
    )?;
    Ok(())
}

fn or_all(list: &[String]) -> String {
    if list.is_empty() { "all".into() } else { list.join(", ") }
}

fn verify(file: &Path, trust: Option<PathBuf>, common: &Common, out: &mut impl Write) -> Result<()> {
    let package = read(file)?;
    let path = trust.unwrap_or_else(|| common.layout().public().join("trust.tlv"));
    if !path.exists() {
        bail!(
            "there is no trust store {}: say with --trust FILE whose signatures the package needs",
            path.display()
        );
    }
    let content = fs::read(&path).with_context(|| format!("cannot read the trust store {}", path.display()))?;
    let trust =
        TrustStore::decode(&content).with_context(|| format!("{} does not hold a trust store", path.display()))?;
    let verified = match package.verify(&trust, SystemClock.now())? {
        Ok(verified) => verified,
        Err(error) => return Err(refused(format!("{} does not verify: {error}", shell(file)))),
    };
    let manifest = verified.manifest();
    writeln!(
        out,
        "{} verifies: {} {}, {} bytes",
        shell(file),
        manifest.component,
        manifest.version,
        manifest.size
    )?;
    for key in verified.signers() {
        let role = trust
            .roles
            .iter()
            .find(|role| role.keys.iter().any(|known| known.id() == *key));
        let role = role.map_or(Role::VendorSigner, |role| role.role);
        writeln!(out, "  signed by {} ({role})", key.0.short())?;
    }
    Ok(())
}
