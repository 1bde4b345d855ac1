//! An estate directory, opened: what a server and its operators' programs stand on.

use crate::config::Config;
use crate::layout::Layout;
use crate::secret;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tms_core::admission::AdmissionLimits;
use tms_core::blob::{BlobStore, CachedBlobs, DirectoryBlobs};
use tms_core::clock::{Clock, SystemClock};
use tms_core::custody::{KeyFile, ParameterKey};
use tms_core::entropy::OsEntropy;
use tms_core::estate::Estate;
use tms_core::server::{Node, Options, Server, Services, TicketKey};
use tms_core::signer::PemSigner;
use tms_core::store::Store;
use tms_proto::certificate::{Anchors, Certificate};
use tms_proto::package::TrustStore;
use tms_store_sqlite::SqliteStore;

/// An estate directory and its configuration.
#[derive(Clone)]
pub struct Directory {
    /// Where things lie.
    pub layout: Layout,
    /// What `server.toml` says.
    pub config: Config,
    /// What time it is in the estate: the system's clock, unless another is put here.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("layout", &self.layout)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// Opens the estate directory at `path`, with the configuration in it or the one given. Nothing is read yet but that.
    ///
    /// # Errors
    /// Where there is no estate, or its configuration is not valid.
    pub fn open(path: &Path, config: Option<&Path>) -> Result<Self> {
        let layout = Layout::new(path);
        if !path.is_dir() {
            bail!(
                "there is no directory {}: `tms init {0}` makes an estate there",
                path.display()
            );
        }
        if config.is_none() && !layout.config().exists() {
            bail!(
                "{} is not an estate directory, server.toml is missing: name another, or make one with `tms init`",
                path.display()
            );
        }
        let config = Config::read(config.unwrap_or(&layout.config()))?;
        Ok(Self {
            layout,
            config,
            clock: Arc::new(SystemClock),
        })
    }

    /// Opens the store. One that is not there is not made: an empty one would know no terminal.
    ///
    /// # Errors
    /// Where it is not there, cannot be opened, or is no store.
    pub async fn store(&self) -> Result<Arc<dyn Store>> {
        let path = self.layout.join(&self.config.files.database);
        if !path.is_file() {
            bail!(
                "there is no database {}: restore it, or set `database` in [files] of server.toml to where it is",
                path.display()
            );
        }
        let store = SqliteStore::open(&path, tms_store_sqlite::Options::default())
            .with_context(|| format!("cannot open the database {}", path.display()))?;
        Ok(Arc::new(store))
    }

    /// Opens the blob directory.
    ///
    /// # Errors
    /// Where it is not there or cannot be written.
    pub fn blobs(&self) -> Result<Arc<dyn BlobStore>> {
        let path = self.layout.join(&self.config.files.blobs);
        if !path.is_dir() {
            bail!(
                "there is no blob directory {}: restore it, or set `blobs` in [files] of server.toml to where it is",
                path.display()
            );
        }
        let blobs =
            DirectoryBlobs::open(&path).with_context(|| format!("cannot use the blob directory {}", path.display()))?;
        Ok(Arc::new(blobs))
    }

    /// The roots that certificates must be under.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn anchors(&self) -> Result<Anchors> {
        let path = self.layout.join(&self.config.files.anchors);
        let content = fs::read(&path).with_context(|| format!("cannot read the anchors {}", path.display()))?;
        Anchors::decode(&content).with_context(|| format!("{} does not hold anchors", path.display()))
    }

    /// Whose signatures a package needs.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn trust(&self) -> Result<TrustStore> {
        let path = self.layout.join(&self.config.files.trust);
        let content = fs::read(&path).with_context(|| format!("cannot read the trust store {}", path.display()))?;
        TrustStore::decode(&content).with_context(|| format!("{} does not hold a trust store", path.display()))
    }

    /// The file of the telephone lines, where there are any.
    #[must_use]
    pub fn modem_pool(&self) -> Option<PathBuf> {
        let file = &self.config.files.modem_pool;
        (!file.as_os_str().is_empty()).then(|| self.layout.join(file))
    }

    /// The terminals' main-control keys.
    ///
    /// # Errors
    /// Where the file is open to others or cannot be understood.
    pub fn main_keys(&self) -> Result<KeyFile> {
        let path = self.layout.join(&self.config.files.main_keys);
        KeyFile::open(&path).with_context(|| format!("cannot use the main-control keys {}", path.display()))
    }

    /// The operator's side of the estate, on its store.
    ///
    /// # Errors
    /// Where the blob directory or the trust store cannot be opened.
    pub fn estate_on(&self, store: Arc<dyn Store>) -> Result<Estate> {
        let estate = Estate::new(
            store,
            self.blobs()?,
            Arc::clone(&self.clock),
            Arc::new(OsEntropy),
            self.trust()?,
        );
        Ok(match self.parameter_key()? {
            Some(key) => estate.with_secrets(Arc::new(key)),
            None => estate,
        })
    }

    /// The server, ready to serve.
    ///
    /// # Errors
    /// Where something that it stands on cannot be opened.
    pub async fn server(&self) -> Result<Server> {
        self.server_on(self.store().await?)
    }

    /// The server on a store that is open already.
    ///
    /// # Errors
    /// Where something that it stands on cannot be opened.
    pub fn server_on(&self, store: Arc<dyn Store>) -> Result<Server> {
        let files = &self.config.files;
        let (key_path, certificate_path) = (self.layout.join(&files.key), self.layout.join(&files.certificate));
        let signer = PemSigner::from_pem(&secret::read(&key_path)?)
            .with_context(|| format!("the server's key {} cannot be used", key_path.display()))?;
        let certificate = fs::read(&certificate_path)
            .with_context(|| format!("cannot read the server's certificate {}", certificate_path.display()))?;
        let certificate = Certificate::decode(&certificate)
            .with_context(|| format!("{} is not a certificate", certificate_path.display()))?;
        let node = Node::new(Arc::new(signer), certificate).with_context(|| {
            format!(
                "{} and {} do not belong together",
                key_path.display(),
                certificate_path.display()
            )
        })?;
        let cache = self.config.limits.cache_megabytes.saturating_mul(1 << 20);
        let services = Services {
            store,
            blobs: Arc::new(CachedBlobs::new(self.blobs()?, cache)),
            main_keys: Arc::new(self.main_keys()?),
            clock: Arc::clone(&self.clock),
            entropy: Arc::new(OsEntropy),
            secrets: self.parameter_key()?.map(|key| Arc::new(key) as _),
        };
        Ok(Server::new(
            services,
            node,
            self.anchors()?,
            self.ticket_key()?,
            self.options(),
        ))
    }

    /// The key that seals secret parameters; an estate of before there were any has none.
    fn parameter_key(&self) -> Result<Option<ParameterKey>> {
        let path = self.layout.join(&self.config.files.parameter_key);
        if !path.exists() {
            return Ok(None);
        }
        let key = ParameterKey::open_file(&path, Arc::new(OsEntropy));
        let key = key.with_context(|| format!("the key of secret parameters {} cannot be used", path.display()))?;
        Ok(Some(key))
    }

    fn ticket_key(&self) -> Result<TicketKey> {
        let path = self.layout.join(&self.config.files.ticket_key);
        let text = secret::read(&path)?;
        let mut key = zeroize::Zeroizing::new([0; 32]);
        if hex::decode_to_slice(text.trim(), &mut *key).is_err() {
            bail!(
                "{} is not a ticket key: 64 hexadecimal digits are needed",
                path.display()
            );
        }
        Ok(TicketKey::new(*key))
    }

    fn options(&self) -> Options {
        let limits = &self.config.limits;
        Options {
            admission: AdmissionLimits {
                sessions: limits.sessions,
                handshakes: limits.handshakes,
                burst: limits.burst,
                per_minute: limits.per_minute,
                failure_cost: limits.failure_cost,
                ..AdmissionLimits::default()
            },
            suites: limits.suites.iter().copied().map(Into::into).collect(),
            handshake_timeout: Duration::from_secs(limits.handshake_seconds),
            idle_timeout: Duration::from_secs(limits.idle_seconds),
            call_budget: Duration::from_secs(limits.call_seconds),
            ticket_lifetime: limits.ticket_seconds,
            contact: (&self.config.contact).into(),
            retry_after: limits.retry_seconds,
        }
    }
}
