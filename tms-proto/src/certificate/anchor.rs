//! Which keys may sign certificates, and for which roles (§10.8).

use crate::code::Role;
use crate::public_key::PublicKey;
use crate::tlv;
use crate::tlv::{DecodeError, Element, Structure, Tag, Value, Writer};
use alloc::vec::Vec;

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    /// The set of these roles. Roles that this version does not know are left out.
    #[must_use]
    pub fn of(roles: &[Role]) -> Self {
        Self(roles.iter().fold(0, |set, role| set | bit(*role)))
    }

    /// All roles that this version knows.
    #[must_use]
    pub fn all() -> Self {
        Self::of(Role::ALL)
    }

    /// Whether `role` is one of them.
    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0 & bit(role) != 0
    }
}

/// The bit of a role; none for one that this version does not know.
fn bit(role: Role) -> u8 {
    match u8::from(role) {
        code @ 1..=5 => 1 << code,
        _ => 0,
    }
}

impl Value for Roles {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &[self.0]);
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        match element.value {
            [set] => Ok(Self(*set)),
            _ => Err(element.malformed()),
        }
    }
}

tlv! {
    /// A key that is trusted to sign certificates of some roles.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Anchor {
        /// The root's key.
        pub key: PublicKey = 0x7F49,
        /// What it may sign.
        pub roles: Roles = 0x80,
    }

    /// The keys that are trusted to sign certificates. During a rotation there are two roots (§10.8).
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct Anchors {
        /// The keys.
        pub list: Vec<Anchor> = 0xA0,
    }
}

impl Anchors {
    /// One root that may sign everything.
    #[must_use]
    pub fn root(key: PublicKey) -> Self {
        Self {
            list: Vec::from([Anchor {
                key,
                roles: Roles::all(),
            }]),
        }
    }

    /// The encoding, for a store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_vec()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Where a key or a set of roles is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_slice(bytes)
    }
}
