//! The directory that a terminal is.
//!
//! ```text
//! DIR/
//!   terminal.toml     who it is, whom it calls
//!   key.pem           its RSA key; mode 600
//!   terminal.cert     its certificate
//!   main.keys         its main-control key, in the place of a PIN pad; mode 600
//!   anchors.tlv       the roots of servers
//!   trust.tlv         whose signatures packages need
//!   factory/          manifests of what it came with
//!   flash/            its memory: journal, downloads, installed components
//! ```

use crate::dial::{Cable, Modem};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Deserializer};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tms_core::agent::flash::DirectoryFlash;
use tms_core::agent::slot::SlotDevice;
use tms_core::agent::{Identity, MainKeyIdentity, RsaIdentity};
use tms_core::custody::{KeyFile, MainKey};
use tms_core::signer::PemSigner;
use tms_core::store::{Holder, TerminalId};
use tms_core::transport::Framing;
use tms_proto::certificate::{Anchors, Certificate};
use tms_proto::package::{Installed, SignedManifest, TrustStore};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// What `terminal.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The terminal's id in its estate.
    #[serde(deserialize_with = "id")]
    pub id: TerminalId,
    /// Who made it.
    pub vendor: String,
    /// Which model it is.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its hardware version.
    pub hardware: Option<String>,
    /// The server that it calls, `host:port`.
    pub server: String,
    /// How messages are framed, on a network.
    #[serde(default)]
    pub envelope: Framing,
    /// Its telephone line, where it has one: then it calls by that.
    pub modem: Option<Modem>,
    /// A cable to the server, on a bench: then it calls by that.
    pub cable: Option<Cable>,
    /// What it proves itself with.
    #[serde(default)]
    pub proof: Proof,
    /// The epoch of its main-control key, where it has one.
    pub main_key_epoch: Option<u32>,
}

/// What a terminal proves itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// An RSA key and its certificate.
    #[default]
    Rsa,
    /// The terminal main-control key.
    MainKey,
    /// Both together.
    Both,
}

/// What a new terminal's directory is filled with.
pub struct Contents {
    /// Who it is, whom it calls.
    pub settings: Settings,
    /// Its RSA key, in PEM; none where it keeps its own, or has none.
    pub key: Option<Zeroizing<String>>,
    /// Its certificate.
    pub certificate: Option<Certificate>,
    /// The roots of servers.
    pub anchors: Anchors,
    /// Whose signatures packages need.
    pub trust: TrustStore,
    /// Its main-control key.
    pub main_key: Option<MainKey>,
}

/// A terminal's directory.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    /// What `terminal.toml` says.
    pub settings: Settings,
}

impl Proof {
    /// Whether it has an RSA key.
    #[must_use]
    pub const fn has_rsa(self) -> bool {
        matches!(self, Self::Rsa | Self::Both)
    }

    /// Whether it has a main-control key.
    #[must_use]
    pub const fn has_main_key(self) -> bool {
        matches!(self, Self::MainKey | Self::Both)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::MainKey => "main-key",
            Self::Both => "both",
        }
    }
}

/// Makes the directory of a terminal, which must not be there or be empty.
///
/// # Errors
/// Where it has something in it, or cannot be made.
pub fn prepare(path: &Path) -> Result<()> {
    if path.is_file() || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} is not empty: a terminal needs a directory of its own",
            path.display()
        );
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

/// Fills the directory of a terminal.
///
/// # Errors
/// Where a file cannot be written, or is there already.
pub async fn write(path: &Path, contents: Contents) -> Result<()> {
    let Contents {
        settings,
        key,
        certificate,
        anchors,
        trust,
        main_key,
    } = contents;
    if let Some(key) = key {
        write_new(&path.join("key.pem"), key.as_bytes())?;
    }
    if let Some(certificate) = certificate {
        write_new(&path.join("terminal.cert"), certificate.raw())?;
    }
    write_new(&path.join("anchors.tlv"), &anchors.encode())?;
    write_new(&path.join("trust.tlv"), &trust.encode())?;
    if let (Some(key), Some(epoch)) = (main_key, settings.main_key_epoch) {
        let file = path.join("main.keys");
        let id = settings.id;
        spawn_blocking(move || KeyFile::open(file)?.insert(id, epoch, key)).await??;
    }
    // Last: a directory with it is a terminal, whole.
    write_new(&path.join("terminal.toml"), settings.text().as_bytes())
}

impl Settings {
    /// Vendor, model and serial number.
    #[must_use]
    pub fn holder(&self) -> Holder {
        Holder {
            vendor: self.vendor.clone(),
            model: self.model.clone(),
            serial: self.serial.clone(),
        }
    }

    /// The file, with every line explained.
    fn text(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut text = format!(
            "\
# A terminal: who it is, and whom it calls. `tms enrol` wrote this file.

# Its id in the estate, given at enrolment.
id = \"{id}\"
# What is on its label.
vendor = {vendor}
model = {model}
serial = {serial}
# Its hardware version, for packages that ask for one.
# hardware = \"1.0\"

# The server that it calls.
server = {server}
# How messages are framed, as the server's listener has it: \"tcp\", \"nac\" or \"stx-bcd\".
envelope = \"{envelope}\"

# What it proves itself with: \"rsa\" (key.pem and terminal.cert), \"main-key\" (main.keys) or \"both\".
proof = \"{proof}\"
",
            id = self.id,
            vendor = quoted(&self.vendor),
            model = quoted(&self.model),
            serial = quoted(&self.serial),
            server = quoted(&self.server),
            envelope = self.envelope.name(),
            proof = self.proof.name(),
        );
        text.push_str(
            "\
# A terminal with a telephone line has a block such as this one at the end of the file; see also `tms-terminal --help`.
# [modem]
# device = \"/dev/ttyUSB0\"
# numbers = [\"5551234\", \"5551235\"]
# prefix = \"9,\"
# then_network = true
",
        );
        if let Some(epoch) = self.main_key_epoch {
            text.push_str(&format!(
                "# The epoch of its main-control key.\nmain_key_epoch = {epoch}\n"
            ));
        }
        text
    }
}

impl Directory {
    /// Opens the terminal's directory at `path`.
    ///
    /// # Errors
    /// Where there is no terminal, or its settings are not valid.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join("terminal.toml");
        if !file.exists() {
            bail!(
                "{} is not a terminal's directory, terminal.toml is missing: `tms enrol` makes one",
                path.display()
            );
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let settings = toml::from_str(&text).with_context(|| format!("{} is not valid", file.display()))?;
        Ok(Self {
            root: path.to_owned(),
            settings,
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The terminal's memory.
    #[must_use]
    pub fn flash(&self) -> PathBuf {
        self.root.join("flash")
    }

    /// The terminal, its keys, and the roots that it trusts.
    ///
    /// # Errors
    /// Where a key or certificate that it needs is missing or cannot be used.
    pub fn identity(&self) -> Result<Identity> {
        let Settings {
            id,
            proof,
            main_key_epoch,
            ..
        } = self.settings;
        let anchors = self.file("anchors.tlv", |content| Anchors::decode(content).map_err(Into::into))?;
        let rsa = if proof.has_rsa() {
            let signer = PemSigner::from_pem(&read_secret(&self.root.join("key.pem"))?)
                .with_context(|| format!("{} cannot be used", self.root.join("key.pem").display()))?;
            let certificate = self.file("terminal.cert", |content| {
                Certificate::decode(content).map_err(Into::into)
            })?;
            Some(RsaIdentity {
                signer: Arc::new(signer),
                certificate,
            })
        } else {
            None
        };
        let main_key = if proof.has_main_key() {
            let epoch =
                main_key_epoch.context("terminal.toml needs main_key_epoch, for a terminal with a main-control key")?;
            let file = self.root.join("main.keys");
            let keys = KeyFile::open(&file).with_context(|| format!("cannot use {}", file.display()))?;
            Some(MainKeyIdentity {
                keys: Arc::new(keys),
                epoch,
            })
        } else {
            None
        };
        Ok(Identity {
            terminal: id,
            holder: self.settings.holder(),
            anchors,
            rsa,
            main_key,
        })
    }

    /// Whose signatures packages need.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn trust(&self) -> Result<TrustStore> {
        self.file("trust.tlv", |content| TrustStore::decode(content).map_err(Into::into))
    }

    /// What it came with, as the manifests of that say.
    ///
    /// # Errors
    /// Where one of them cannot be read, or is not signed as the trust store demands.
    pub fn installed(&self) -> Result<Vec<Installed>> {
        let Ok(entries) = fs::read_dir(self.factory()) else {
            return Ok(Vec::new());
        };
        let trust = self.trust()?;
        let mut installed = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let manifest =
                SignedManifest::decode(&content).with_context(|| format!("{} is damaged", path.display()))?;
            // A package that has expired since is installed all the same.
            let verified = manifest.verify(&trust, None);
            installed.push(
                verified
                    .with_context(|| format!("{} is not to be believed", path.display()))?
                    .installed(),
            );
        }
        Ok(installed)
    }

    /// Puts in what the terminal comes with: `content` is what `manifest` describes.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn provision(&self, manifest: &SignedManifest, content: &[u8]) -> Result<()> {
        let described = manifest.unverified();
        let flash = DirectoryFlash::open(self.flash()).await?;
        let device = SlotDevice::open(Arc::new(flash)).await?;
        device
            .provision(
                &described.component,
                described.kind,
                &described.version,
                described.counter,
                content,
            )
            .await
            .with_context(|| format!("cannot put {} in", described.component))?;
        fs::create_dir_all(self.factory())?;
        let plain = |char: char| {
            if char.is_ascii_alphanumeric() || char == '-' {
                char
            } else {
                '_'
            }
        };
        let name: String = described.component.chars().map(plain).collect();
        write_new(&self.factory().join(name + ".manifest"), manifest.encode())
    }

    fn factory(&self) -> PathBuf {
        self.root.join("factory")
    }

    fn file<T>(&self, name: &str, decode: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let path = self.root.join(name);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        decode(&content).with_context(|| format!("{} is damaged", path.display()))
    }
}

/// Writes a new file that only its owner may read.
fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a key, which only its owner may be able to read.
fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let file = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            bail!("{file} may be read by others than its owner: run `chmod 600 {file}`, and ask who has read it")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no {file}: the terminal's private key belongs there (PKCS#8 PEM, mode 600)")
        }
        _ => fs::read_to_string(path)
            .map(Zeroizing::new)
            .with_context(|| format!("cannot read {file}")),
    }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TerminalId, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let id = digits.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
    id.map(TerminalId)
        .ok_or_else(|| serde::de::Error::custom("an id is 16 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            id: TerminalId(0xAB_CDEF),
            vendor: "A \"quoted\" vendor".into(),
            model: "P80".into(),
            serial: "0001".into(),
            hardware: None,
            server: "127.0.0.1:7400".into(),
            envelope: Framing::StxBcd,
            modem: None,
            cable: None,
            proof: Proof::Both,
            main_key_epoch: Some(3),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(toml::from_str::<Settings>(&settings().text()).unwrap(), settings());
        let wrong = settings().text().replace("0000000000abcdef", "abcdef");
        assert!(
            toml::from_str::<Settings>(&wrong)
                .unwrap_err()
                .to_string()
                .contains("16 hexadecimal digits")
        );
        let misspelt = settings().text() + "serverr = \"x\"\n";
        assert!(
            toml::from_str::<Settings>(&misspelt)
                .unwrap_err()
                .to_string()
                .contains("serverr")
        );
    }

    #[test]
    fn a_terminal_has_a_directory_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t");
        prepare(&path).unwrap();
        prepare(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(Directory::open(&path).unwrap_err().to_string().contains("tms enrol"));
        fs::write(path.join("x"), "x").unwrap();
        assert!(prepare(&path).unwrap_err().to_string().contains("not empty"));
    }
}
