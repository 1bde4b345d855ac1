//! The manifest (§11.1): everything about a package, under signature, and the terminal's checks (§11.4).

use super::block_map::BlockMapReference;
use super::error::PackageError;
use super::grant::VerifiedGrant;
use super::signed::{Signable, Signed};
use super::trust::TrustStore;
use crate::code::ComponentKind;
use crate::digest::Digest;
use crate::identity::{Holder, KeyId};
use crate::tlv;
use crate::tlv::{DecodeError, DecodeErrorKind, Tag};
use alloc::string::String;
use alloc::vec::Vec;

tlv! {
    /// What a package is, whom it is for, and when it may be installed.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Manifest {
        /// The component that it installs: its id, unique on a terminal.
        pub component: String = 0x80,
        /// What kind of component that is.
        pub kind: ComponentKind = 0x81,
        /// The version, as people read it.
        pub version: String = 0x82,
        /// The version, as it is compared: higher is newer.
        pub order: u64 = 0x83,
        /// The security counter: raised when a weakness is mended, and never lowered on a terminal.
        pub counter: u32 = 0x84,
        /// The lowest ordered version from which the terminal can go to this one, where something is installed.
        pub min_from: Option<u64> = 0x85,
        /// The vendor of the terminals that it is for.
        pub vendor: String = 0x86,
        /// Their models; empty for all of the vendor's.
        pub models: Vec<String> = 0x87,
        /// Their hardware versions; empty for all.
        pub hardware: Vec<String> = 0x88,
        /// What else must be installed.
        pub dependencies: Vec<Dependency> = 0xA9,
        /// Size of the content, in bytes.
        pub size: u64 = 0x8A,
        /// Digest of the content.
        pub digest: Digest = 0x8B,
        /// The block map, for content over 64 KiB.
        pub block_map: Option<BlockMapReference> = 0xAC,
        /// The files in the content: in order, one behind the other.
        pub files: Vec<FileEntry> = 0xAD,
        /// What the installation needs.
        pub hints: Hints = 0xAE,
        /// The first second in which it may be installed, since 1970 UTC.
        pub not_before: Option<u64> = 0x8F,
        /// The first second in which it may no longer be.
        pub expiry: Option<u64> = 0x90,
        /// The keys that sign it. A signature of another key does not count.
        pub signers: Vec<KeyId> = 0x91,
    }

    /// Another component that must be installed, so that what runs together was meant to.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Dependency {
        /// The component.
        pub component: String = 0x80,
        /// Its lowest ordered version.
        pub order: u64 = 0x81,
    }

    /// One file of the content.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FileEntry {
        /// Its path on the terminal, relative to the component's own directory, with `/` between the parts.
        pub name: String = 0x80,
        /// What it is to the terminal: `exec`, `data` and whatever else the vendor knows.
        pub role: String = 0x81,
        /// Permissions, as POSIX writes them.
        pub mode: u16 = 0x82,
        /// Where it begins in the content.
        pub offset: u64 = 0x83,
        /// Its size, in bytes.
        pub size: u64 = 0x84,
    }

    /// What the installation needs.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Hints {
        /// Transactions must be settled before.
        pub settle_first: Option<bool> = 0x80,
        /// The terminal must be started again after.
        pub restart: Option<bool> = 0x81,
    }
}

/// A manifest with its signatures.
pub type SignedManifest = Signed<Manifest>;

impl Signable for Manifest {
    const TAG: Tag = Tag(0x79);
    const DOMAIN: &'static str = "tms package 1";

    fn check_form(&self) -> Result<(), DecodeError> {
        let malformed = |tag| Err(DecodeError::new(DecodeErrorKind::Value(Tag(tag)), 0));
        if self.component.is_empty() {
            return malformed(0x80);
        }
        if self.block_map.as_ref().is_some_and(|map| !map.fits(self.size)) {
            return malformed(0xAC);
        }
        let mut end = 0;
        for (index, file) in self.files.iter().enumerate() {
            let twice = self.files.iter().take(index).any(|other| other.name == file.name);
            if twice || !is_inside(&file.name) || file.offset < end {
                return malformed(0xAD);
            }
            match file.offset.checked_add(file.size) {
                Some(next) if next <= self.size => end = next,
                _ => return malformed(0xAD),
            }
        }
        Ok(())
    }
}

/// Whether a path stays below the directory that it is joined to, on every system.
fn is_inside(path: &str) -> bool {
    let sound = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.chars().any(|c| c.is_control() || matches!(c, '\\' | ':'))
    };
    path.len() <= 255 && path.split('/').all(sound)
}

impl Signed<Manifest> {
    /// Checks signatures and time (§11.2). For each role in the trust store, as many different keys must have signed as
    /// it demands; signatures of keys that it does not have are not looked at. Without a clock to trust, `time` is none,
    /// and only counters and versions stand against an old package.
    ///
    /// # Errors
    /// [`PackageError::Signatures`], [`PackageError::NotYetValid`], [`PackageError::Expired`].
    pub fn verify(&self, store: &TrustStore, time: Option<u64>) -> Result<VerifiedManifest, PackageError> {
        let manifest = self.unverified();
        let mut signers = Vec::new();
        for role in &store.roles {
            let mut keys = self.signers(&role.keys);
            keys.retain(|key| manifest.signers.contains(key));
            if keys.len() < usize::from(role.threshold) {
                return Err(PackageError::Signatures(role.role));
            }
            signers.append(&mut keys);
        }
        if signers.is_empty() {
            // A trust store without roles cannot be decoded, but it can be built.
            return Err(PackageError::Signatures(crate::code::Role::VendorSigner));
        }
        if let Some(time) = time {
            if manifest.not_before.is_some_and(|from| time < from) {
                return Err(PackageError::NotYetValid);
            }
            if manifest.expiry.is_some_and(|end| time >= end) {
                return Err(PackageError::Expired);
            }
        }
        Ok(VerifiedManifest {
            manifest: manifest.clone(),
            digest: self.digest(),
            signers,
        })
    }
}

/// A manifest whose signatures are those that the trust store demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    digest: Digest,
    signers: Vec<KeyId>,
}

/// The terminal that a package is checked for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Who the terminal is.
    pub holder: &'a Holder,
    /// Its hardware version, where it has one.
    pub hardware: Option<&'a str>,
    /// What is installed.
    pub installed: &'a [Installed],
}

tlv! {
    /// What a terminal keeps of an installed package, to check the next one against.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Installed {
        /// The component.
        pub component: String = 0x80,
        /// Its ordered version.
        pub order: u64 = 0x81,
        /// Its security counter.
        pub counter: u32 = 0x82,
        /// The keys whose signatures let it in: [`VerifiedManifest::signers`].
        pub signers: Vec<KeyId> = 0x83,
    }
}

impl VerifiedManifest {
    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of the signed manifest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The keys that have signed it and are trusted.
    #[must_use]
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// What to keep once it is installed.
    #[must_use]
    pub fn installed(&self) -> Installed {
        let Manifest {
            component,
            order,
            counter,
            ..
        } = &self.manifest;
        Installed {
            component: component.clone(),
            order: *order,
            counter: *counter,
            signers: self.signers.clone(),
        }
    }

    /// Checks that this terminal may install it (§11.4).
    ///
    /// Neither version nor counter may go back, but by a grant (§11.5). What was installed under keys that the trust
    /// store no longer has does not bind: whoever stole a key and signed the highest version and counter there are has
    /// won nothing once the key is replaced (TUF: fast-forward recovery).
    ///
    /// # Errors
    /// The first check that fails; [`PackageError::code`] is what the server is told.
    pub fn check(
        &self,
        store: &TrustStore,
        target: &Target<'_>,
        grant: Option<&VerifiedGrant>,
    ) -> Result<(), PackageError> {
        let Manifest {
            component,
            vendor,
            models,
            hardware,
            ..
        } = &self.manifest;
        if *vendor != target.holder.vendor {
            return Err(PackageError::Target("vendor"));
        }
        if !models.is_empty() && !models.contains(&target.holder.model) {
            return Err(PackageError::Target("model"));
        }
        let fits = |version: &String| target.hardware == Some(version.as_str());
        if !hardware.is_empty() && !hardware.iter().any(fits) {
            return Err(PackageError::Target("hardware"));
        }
        let installed = |component: &String| target.installed.iter().find(|other| other.component == *component);
        if let Some(old) = installed(component).filter(|old| store.still_trusts(&old.signers)) {
            self.check_against(old, target.holder, grant)?;
        }
        for (index, needed) in self.manifest.dependencies.iter().enumerate() {
            if installed(&needed.component).is_none_or(|other| other.order < needed.order) {
                return Err(PackageError::Dependency(index));
            }
        }
        Ok(())
    }

    fn check_against(
        &self,
        old: &Installed,
        holder: &Holder,
        grant: Option<&VerifiedGrant>,
    ) -> Result<(), PackageError> {
        let Manifest {
            order,
            counter,
            min_from,
            ..
        } = self.manifest;
        let back = if counter < old.counter {
            Some(PackageError::Counter {
                offered: counter,
                installed: old.counter,
            })
        } else {
            (order < old.order).then_some(PackageError::Version)
        };
        match (back, grant) {
            (Some(error), None) => return Err(error),
            (Some(_), Some(grant)) if !grant.covers(holder, &self.manifest) => return Err(PackageError::Grant),
            _ => {}
        }
        if min_from.is_some_and(|lowest| old.order < lowest) {
            return Err(PackageError::TooOld);
        }
        Ok(())
    }
}
