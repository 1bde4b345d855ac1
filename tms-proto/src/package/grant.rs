//! Permission for one terminal to go back (§11.5).

use super::error::PackageError;
use super::manifest::Manifest;
use super::signed::{Signable, Signed};
use super::trust::TrustStore;
use crate::code::Role;
use crate::identity::Holder;
use crate::tlv;
use crate::tlv::{DecodeError, Tag};
use alloc::string::String;

tlv! {
    /// Lets one terminal install a lower version, or a lower security counter, of one component for a while.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Grant {
        /// The terminal.
        pub holder: Holder = 0xA0,
        /// The component.
        pub component: String = 0x81,
        /// The lowest security counter that it may go back to.
        pub min_counter: u32 = 0x82,
        /// The first second in which the grant is over, since 1970 UTC.
        pub expiry: u64 = 0x83,
    }
}

/// A grant with its signatures.
pub type SignedGrant = Signed<Grant>;

impl Signable for Grant {
    const TAG: Tag = Tag(0x7B);
    const DOMAIN: &'static str = "tms grant 1";

    fn check_form(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// A grant that the vendor's signers have given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGrant(Grant);

impl Signed<Grant> {
    /// Checks signatures and time. A grant needs a clock: without one it could be used for ever.
    ///
    /// # Errors
    /// [`PackageError::Signatures`], [`PackageError::Expired`].
    pub fn verify(&self, store: &TrustStore, time: u64) -> Result<VerifiedGrant, PackageError> {
        let role = store.roles.iter().find(|role| role.role == Role::VendorSigner);
        let enough = |role: &super::trust::RoleKeys| {
            role.threshold > 0 && self.signers(&role.keys).len() >= usize::from(role.threshold)
        };
        if !role.is_some_and(enough) {
            return Err(PackageError::Signatures(Role::VendorSigner));
        }
        if time >= self.unverified().expiry {
            return Err(PackageError::Expired);
        }
        Ok(VerifiedGrant(self.unverified().clone()))
    }
}

impl VerifiedGrant {
    /// The grant.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.0
    }

    /// Whether it lets this terminal go back to this package.
    pub(super) fn covers(&self, holder: &Holder, manifest: &Manifest) -> bool {
        let Grant {
            holder: whose,
            component,
            min_counter,
            ..
        } = &self.0;
        whose == holder && *component == manifest.component && manifest.counter >= *min_counter
    }
}
