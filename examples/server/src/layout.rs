//! Where things lie in an estate directory.

use std::path::{Path, PathBuf};

/// An estate directory: everything that one server needs, and what its operators need beside it.
///
/// ```text
/// DIR/
///   server.toml            the server's configuration
///   tms.db                 records, in SQLite
///   blobs/                 packages' content, by digest
///   keys/                  private: mode 700, files 600
///     root.pem             signs certificates and trust stores; off-line in production
///     vendor.pem           signs packages; off-line in production
///     server.pem           the server's identity
///     ticket.key           seals tickets in the database
///     parameter.key        seals secret parameters in the database
///     main.keys            terminal main-control keys, where there are any
///   public/                to be given to anybody
///     root.pem             public half of keys/root.pem
///     vendor.pem           public half of keys/vendor.pem
///     server.cert          the server's certificate
///     anchors.tlv          the roots that certificates must be under
///     trust.tlv            whose signatures a package needs
///   terminals/             directories of terminals that `tms enrol` made
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the estate in `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path of the configuration: relative ones are relative to the estate directory.
    #[must_use]
    pub fn join(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// The server's configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("server.toml")
    }

    /// Private keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// What may be given to anybody.
    #[must_use]
    pub fn public(&self) -> PathBuf {
        self.root.join("public")
    }

    /// The root's private key, where it has not been moved away.
    #[must_use]
    pub fn root_key(&self) -> PathBuf {
        self.keys().join("root.pem")
    }

    /// The vendor signer's private key, where it has not been moved away.
    #[must_use]
    pub fn vendor_key(&self) -> PathBuf {
        self.keys().join("vendor.pem")
    }

    /// The root's public key.
    #[must_use]
    pub fn root_public(&self) -> PathBuf {
        self.public().join("root.pem")
    }

    /// The vendor signer's public key.
    #[must_use]
    pub fn vendor_public(&self) -> PathBuf {
        self.public().join("vendor.pem")
    }

    /// Directories of terminals.
    #[must_use]
    pub fn terminals(&self) -> PathBuf {
        self.root.join("terminals")
    }
}
