//! Names of parties, keys and credentials (protocol §10).

use crate::digest::{Digest, hexadecimal};
use crate::tlv;
use crate::tlv::{DecodeError, Element, Tag, Value, Writer};
use alloc::string::String;
use core::fmt;

tlv! {
    /// A terminal's vendor, model and serial number: the holder reference of its certificate.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Holder {
        /// Vendor.
        pub vendor: String = 0x80,
        /// Model.
        pub model: String = 0x81,
        /// Serial number.
        pub serial: String = 0x82,
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.vendor, self.model, self.serial)
    }
}

/// Digest of an encoded RSA public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct KeyId(pub Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Value for KeyId {
    fn write(&self, tag: Tag, out: &mut Writer) {
        self.0.write(tag, out);
    }

    fn read(element: Element<'_>, unknown: &mut usize) -> Result<Self, DecodeError> {
        Digest::read(element, unknown).map(Self)
    }
}

/// The first half of the digest of encoded credentials: what a peer that remembers them is shown in their place. It is a
/// name, not a proof: the handshake proves the static key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId(pub [u8; 16]);

impl CredentialId {
    /// The name of these encoded credentials.
    #[must_use]
    pub fn of(credentials: &[u8]) -> Self {
        let Digest([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..]) = Digest::of(credentials);
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

impl Value for CredentialId {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &self.0);
    }

    fn read(element: Element<'_>, unknown: &mut usize) -> Result<Self, DecodeError> {
        <[u8; 16]>::read(element, unknown).map(Self)
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CredentialId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for CredentialId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id)
            .map_err(|_| D::Error::custom("not a credential id: 32 hexadecimal digits are needed"))?;
        Ok(Self(id))
    }
}
