//! Signed packages (protocol §11): what a terminal installs, and why it may.
//!
//! A [`Manifest`] says everything about a package, and role keys sign it offline. The terminal's [`TrustStore`] says how
//! many keys of which roles must have signed. Nothing outside the signed bytes is believed: not the server, not the plan,
//! not the file's name.

mod block_map;
mod content;
mod error;
mod file;
mod grant;
mod manifest;
mod signed;
mod trust;

pub use block_map::{BlockMap, BlockMapBuilder, BlockMapReference};
pub use content::ContentCheck;
pub use error::PackageError;
pub use file::{PackageFile, Parsed};
pub use grant::{Grant, SignedGrant, VerifiedGrant};
pub use manifest::{Dependency, FileEntry, Hints, Installed, Manifest, SignedManifest, Target, VerifiedManifest};
pub use signed::{KeySignature, Signable, Signed};
pub use trust::{KeySet, RoleKeys, SignedTrust, TrustError, TrustStore};

/// The longest signed manifest, trust store or grant, in bytes.
pub const MAX_SIGNED: usize = 32 * 1024;

/// The most signatures that one of them carries.
pub const MAX_SIGNATURES: usize = 16;
