//! SHA-256 names: of objects, inventories, keys and credentials.

use crate::tlv::{DecodeError, Element, Tag, Value, Writer};
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
#[cfg(not(feature = "ring"))]
use sha2::Digest as _;

/// A SHA-256 digest: the name of an immutable object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The first bytes of the digest, enough to name one in a log.
    #[must_use]
    pub fn short(&self) -> impl fmt::Display + use<> {
        struct Short([u8; 32]);
        impl fmt::Display for Short {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hexadecimal(self.0.get(..6).unwrap_or_default(), f)
            }
        }
        Short(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows up to 32 bytes, at once: records are full of digests, and stores write and read many.
pub(crate) fn hexadecimal(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 64];
    let text = text.get_mut(..2 * bytes.len()).ok_or(fmt::Error)?;
    hex::encode_to_slice(bytes, text).map_err(|_| fmt::Error)?;
    f.write_str(core::str::from_utf8(text).map_err(|_| fmt::Error)?)
}

/// Text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: 64 hexadecimal digits are needed")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).map_err(|_| ParseDigestError)?;
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Value for Digest {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &self.0);
    }

    fn read(element: Element<'_>, unknown: &mut usize) -> Result<Self, DecodeError> {
        <[u8; 32]>::read(element, unknown).map(Self)
    }
}

/// A digest in the making, for content that never stands in memory whole.
#[derive(Clone)]
pub struct Hasher(Sha256);

#[cfg(feature = "ring")]
type Sha256 = ring::digest::Context;

#[cfg(not(feature = "ring"))]
type Sha256 = sha2::Sha256;

impl Hasher {
    /// A digest of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        #[cfg(feature = "ring")]
        return Self(Sha256::new(&ring::digest::SHA256));
        #[cfg(not(feature = "ring"))]
        Self(Sha256::new())
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        #[cfg(feature = "ring")]
        return Digest(self.0.finish().as_ref().try_into().unwrap_or_default());
        #[cfg(not(feature = "ring"))]
        Digest(self.0.finalize().into())
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}
