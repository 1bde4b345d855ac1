//! A new estate directory.

use crate::certificate::{self, Period};
use crate::key;
use anyhow::{Context, Result, bail};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use tms_core::blob::DirectoryBlobs;
use tms_core::entropy::{Entropy, OsEntropy};
use tms_core::signer::Signer;
use tms_proto::certificate::{Anchors, Subject};
use tms_proto::code::Role;
use tms_proto::package::{KeySet, RoleKeys, TrustStore};
use tms_server::config::Config;
use tms_server::layout::Layout;
use tms_server::secret;
use tms_store_sqlite::SqliteStore;
use zeroize::Zeroizing;

/// How long a server's certificate is valid, in days.
const SERVER_DAYS: u32 = 2 * 365;

/// How an estate begins.
#[derive(Debug, Clone)]
pub struct NewEstate {
    /// Whose estate it is: 1 to 40 printable characters. It stands in the server's certificate.
    pub organisation: String,
    /// The size of its keys, in bits.
    pub bits: usize,
    /// From when its server's certificate is valid, in seconds since 1970 UTC.
    pub from: u64,
}

/// Makes an estate directory at `path`, which must not be there or be empty: root, vendor and server keys, the server's
/// certificate, anchors and trust store, configuration, database and blob directory.
///
/// # Errors
/// Where the directory has something in it, or cannot be written.
pub async fn create(path: &Path, new: &NewEstate) -> Result<Layout> {
    let occupied = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || path.is_file() {
        bail!(
            "{} is not empty: an estate begins in a directory of its own",
            path.display()
        );
    }
    let layout = Layout::new(path);
    // Whoever may read the directory may read the database, and with it who has which terminal.
    for directory in [
        layout.root().to_owned(),
        layout.keys(),
        layout.public(),
        layout.terminals(),
    ] {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    }

    let Config { files, .. } = Config::default();
    let (root_key, vendor_key, server_key) = (layout.root_key(), layout.vendor_key(), layout.join(&files.key));
    // Three keys: they are made at the same time, for each takes a while.
    let (root, vendor, server) = tokio::try_join!(
        key::generate_file(&root_key, new.bits),
        key::generate_file(&vendor_key, new.bits),
        key::generate_file(&server_key, new.bits),
    )?;
    key::write_public(&layout.root_public(), key::public_pem(root.public_key())?.as_bytes())?;
    key::write_public(
        &layout.vendor_public(),
        key::public_pem(vendor.public_key())?.as_bytes(),
    )?;

    let subject = Subject::Server {
        organisation: new.organisation.clone(),
        group: "main".into(),
    };
    let period = Period {
        from: new.from,
        days: SERVER_DAYS,
    };
    let certificate = certificate::issue(&root, subject, server.public_key().clone(), period).await?;
    key::write_public(&layout.join(&files.certificate), certificate.raw())?;
    key::write_public(
        &layout.join(&files.anchors),
        &Anchors::root(root.public_key().clone()).encode(),
    )?;
    let trust = TrustStore {
        version: 1,
        root: KeySet {
            threshold: 1,
            keys: vec![root.public_key().clone()],
        },
        roles: vec![RoleKeys {
            role: Role::VendorSigner,
            threshold: 1,
            keys: vec![vendor.public_key().clone()],
        }],
    };
    key::write_public(&layout.join(&files.trust), &trust.encode())?;

    let mut ticket_key = Zeroizing::new([0; 32]);
    OsEntropy.fill(&mut *ticket_key);
    let digits = Zeroizing::new(hex::encode(*ticket_key) + "\n");
    secret::write(&layout.join(&files.ticket_key), digits.as_bytes())?;
    let mut parameter_key = Zeroizing::new([0; 32]);
    OsEntropy.fill(&mut *parameter_key);
    let digits = Zeroizing::new(hex::encode(*parameter_key) + "\n");
    secret::write(&layout.join(&files.parameter_key), digits.as_bytes())?;

    let database = layout.join(&files.database);
    SqliteStore::open(&database, tms_store_sqlite::Options::default())
        .with_context(|| format!("cannot make the database {}", database.display()))?;
    let blobs = layout.join(&files.blobs);
    DirectoryBlobs::open(&blobs).with_context(|| format!("cannot make the blob directory {}", blobs.display()))?;
    // Last: a directory with a configuration is an estate, whole.
    key::write_public(&layout.config(), Config::TEMPLATE.as_bytes())?;
    Ok(layout)
}

/// What is to be said about the keys of a new estate.
#[must_use]
pub fn advice(layout: &Layout) -> String {
    let path = |path: &Path| path.display().to_string();
    format!(
        "\
BEFORE PRODUCTION, take two private keys off this machine. Whoever has them can replace every terminal's software:
  {root}
      signs certificates and trust stores. Move it to an off-line medium or an HSM. It comes back only to enrol
      terminals (tms enrol --root-key FILE) and to renew certificates (tms renew --root-key FILE).
  {vendor}
      signs packages. Move it to the vendor's build or signing machine. Packages are signed there
      (tms package build --key FILE), or off-line with OpenSSL (tms package tbs, tms package attach).
The server needs neither. These must stay, and be backed up:
  {server}      the server's identity
  {ticket}     seals tickets in the database; without it every terminal proves itself anew once
  {parameter}  seals secret parameters in the database; without it they are lost
What is in {public} may be given to anybody.",
        root = path(&layout.root_key()),
        vendor = path(&layout.vendor_key()),
        server = path(&layout.keys().join("server.pem")),
        ticket = path(&layout.keys().join("ticket.key")),
        parameter = path(&layout.keys().join("parameter.key")),
        public = path(&layout.public()),
    )
}
