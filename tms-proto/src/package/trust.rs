//! The trust store (§11.3): whose signatures a terminal demands.

use super::signed::{Signable, Signed};
use crate::code::Role;
use crate::identity::KeyId;
use crate::public_key::PublicKey;
use crate::tlv;
use crate::tlv::{DecodeError, DecodeErrorKind, Element, Tag, Value, split};
use alloc::vec::Vec;

tlv! {
    /// Keys, and how many of them must sign.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeySet {
        /// How many.
        pub threshold: u8 = 0x80,
        /// The keys.
        pub keys: Vec<PublicKey> = 0x7F49,
    }

    /// The keys of a role, and how many of them must sign a package.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RoleKeys {
        /// The role.
        pub role: Role = 0x81,
        /// How many.
        pub threshold: u8 = 0x80,
        /// The keys.
        pub keys: Vec<PublicKey> = 0x7F49,
    }

    /// Whose signatures a terminal demands: of **every** role in the list, as many as its threshold.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TrustStore {
        /// Grows with each change.
        pub version: u64 = 0x80,
        /// The keys that change the trust store.
        pub root: KeySet = 0xA1,
        /// The keys that sign packages. By default the vendor's alone; the acquirer's too where the operator wants both.
        pub roles: Vec<RoleKeys> = 0xA2,
    }
}

/// A trust store with its signatures.
pub type SignedTrust = Signed<TrustStore>;

/// Why a trust store is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not enough keys of the present root have signed.
    #[error("not enough signatures of the present root")]
    OldRoot,
    /// Not enough keys of the new root have signed: it might be one that nobody holds.
    #[error("not enough signatures of the new root")]
    NewRoot,
    /// The version does not grow.
    #[error("version of the trust store does not grow")]
    Version,
    /// The new trust store contradicts itself.
    #[error("malformed trust store: {0}")]
    Malformed(#[from] DecodeError),
}

impl Signable for TrustStore {
    const TAG: Tag = Tag(0x7A);
    const DOMAIN: &'static str = "tms trust store 1";

    /// There is a role, each set can reach its threshold, and no key stands in two places: it would count twice.
    fn check_form(&self) -> Result<(), DecodeError> {
        let malformed = |tag| Err(DecodeError::new(DecodeErrorKind::Value(Tag(tag)), 0));
        let reachable = |threshold: u8, keys: &[PublicKey]| threshold > 0 && usize::from(threshold) <= keys.len();
        if !reachable(self.root.threshold, &self.root.keys) {
            return malformed(0xA1);
        }
        let signs = |role| !matches!(role, Role::Root | Role::Server | Role::Terminal);
        let sound = |set: &RoleKeys| signs(set.role) && reachable(set.threshold, &set.keys);
        if self.roles.is_empty() || !self.roles.iter().all(sound) {
            return malformed(0xA2);
        }
        let keys = self.roles.iter().flat_map(|set| &set.keys).chain(&self.root.keys);
        let mut ids: Vec<KeyId> = keys.map(PublicKey::id).collect();
        let mut roles: Vec<u8> = self.roles.iter().map(|set| u8::from(set.role)).collect();
        let counts = (ids.len(), roles.len());
        ids.sort_unstable();
        ids.dedup();
        roles.sort_unstable();
        roles.dedup();
        if counts != (ids.len(), roles.len()) {
            return malformed(0xA2);
        }
        Ok(())
    }
}

impl TrustStore {
    /// The encoding, for the terminal's memory, and for the first trust store, which is not signed but built in.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Signed::to_be_signed(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Where it is malformed or contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (element, rest) = split(bytes, 0)?;
        match (element.tag, rest) {
            (Self::TAG, []) => Self::from_element(element),
            (Self::TAG, _) => Err(DecodeError::new(DecodeErrorKind::Trailing, bytes.len() - rest.len())),
            (other, _) => Err(DecodeError::new(DecodeErrorKind::Unexpected(other), 0)),
        }
    }

    /// The trust store that takes the place of this one. Enough keys of both the present and the new root must have
    /// signed it, and the version must grow: by how much is up to the root, for whoever can sign for the present root can
    /// replace everything anyway.
    ///
    /// Replacing the keys of a role is also how an estate recovers from a stolen key: packages signed by it are no longer
    /// accepted, and what was installed under it no longer binds (see [`VerifiedManifest::check`]).
    ///
    /// [`VerifiedManifest::check`]: super::VerifiedManifest::check
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub fn update(&self, signed: &SignedTrust) -> Result<Self, TrustError> {
        let new = signed.unverified();
        let enough = |set: &KeySet| set.threshold > 0 && signed.signers(&set.keys).len() >= usize::from(set.threshold);
        if !enough(&self.root) {
            return Err(TrustError::OldRoot);
        }
        if !enough(&new.root) {
            return Err(TrustError::NewRoot);
        }
        if new.version <= self.version {
            return Err(TrustError::Version);
        }
        Ok(new.clone())
    }

    /// Whether a package that these keys have signed would still be accepted, as far as keys go.
    #[must_use]
    pub fn still_trusts(&self, signers: &[KeyId]) -> bool {
        let enough = |set: &RoleKeys| {
            let trusted = set.keys.iter().filter(|key| signers.contains(&key.id())).count();
            trusted >= usize::from(set.threshold)
        };
        self.roles.iter().all(enough)
    }

    fn from_element(element: Element<'_>) -> Result<Self, DecodeError> {
        let store = Self::read(element, &mut 0)?;
        store.check_form()?;
        Ok(store)
    }
}
