//! RSA public keys and RSA-PSS signatures with SHA-256 (protocol §10.1).
//!
//! Nothing here signs: private keys stay with whoever holds them, an HSM or a PIN pad. What they sign is
//! [`signing_input`], as `openssl dgst -sha256 -sign key -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32` does.

use crate::digest::Digest;
use crate::identity::KeyId;
use crate::tlv::{DecodeError, Element, Fields, Tag, Value, Writer};
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use rsa::pss::{Signature, VerifyingKey};
use rsa::sha2::{Digest as _, Sha256};
use rsa::signature::DigestVerifier;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};

/// The tag of a public key (§10.1), under which its id is taken.
pub const PUBLIC_KEY: Tag = Tag(0x7F49);

/// The smallest modulus, in bits.
pub const MIN_BITS: usize = 2048;

/// The largest modulus, in bits.
pub const MAX_BITS: usize = 4096;

/// The length of the salt of every signature, in bytes.
pub const SALT: usize = 32;

/// id-TA-RSA-PSS-SHA-256 (BSI TR-03110-3): 0.4.0.127.0.7.2.2.2.1.4.
const ALGORITHM: &[u8] = &[0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x02, 0x01, 0x04];
const OBJECT_IDENTIFIER: Tag = Tag(0x06);
const MODULUS: Tag = Tag(0x81);
const EXPONENT: Tag = Tag(0x82);
const E: &[u8] = &[0x01, 0x00, 0x01];

/// An RSA public key of 2048 to 4096 bits with exponent 65537. Two keys are equal when their ids are.
#[derive(Clone)]
pub struct PublicKey {
    key: VerifyingKey<Sha256>,
    id: KeyId,
}

/// Why an RSA key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The modulus is even, or not of 2048 to 4096 bits in whole bytes.
    #[error("rsa modulus is not an odd number of 2048 to 4096 bits in whole bytes")]
    Modulus,
    /// The exponent is not 65537.
    #[error("rsa exponent is not 65537")]
    Exponent,
}

/// A signature that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct SignatureError;

impl PublicKey {
    /// Takes a key in.
    ///
    /// # Errors
    /// Where its modulus or its exponent is not allowed.
    pub fn new(key: RsaPublicKey) -> Result<Self, KeyError> {
        let bits = key.n().bits();
        // With a whole number of bytes no bit of the encoded message is outside what PSS checks.
        if !(MIN_BITS..=MAX_BITS).contains(&bits)
            || !bits.is_multiple_of(8)
            || key.n().to_bytes_le().first().is_none_or(even)
        {
            return Err(KeyError::Modulus);
        }
        if key.e().to_bytes_be() != E {
            return Err(KeyError::Exponent);
        }
        let id = KeyId(Digest::of(&encode(&key)));
        Ok(Self {
            key: VerifyingKey::new_with_salt_len(key, SALT),
            id,
        })
    }

    /// The key's name: the digest of its encoding under [`PUBLIC_KEY`].
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The size of the modulus, in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.as_rsa().n().bits()
    }

    /// The key as the `rsa` crate has it.
    #[must_use]
    pub fn as_rsa(&self) -> &RsaPublicKey {
        self.key.as_ref()
    }

    /// The encoding under [`PUBLIC_KEY`], tag and length included.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self.as_rsa())
    }

    /// Checks an RSA-PSS signature with SHA-256 and a salt of exactly [`SALT`] bytes over [`signing_input`].
    ///
    /// # Errors
    /// Where the signature is not one of this key over these bytes.
    pub fn verify(&self, domain: &str, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        if signature.len() != self.as_rsa().size() {
            return Err(SignatureError);
        }
        let signature = Signature::try_from(signature).map_err(|_| SignatureError)?;
        let digest = Sha256::new().chain_update(domain).chain_update(message);
        self.key.verify_digest(digest, &signature).map_err(|_| SignatureError)
    }
}

/// What a signature covers: the domain, then the message.
///
/// Every domain ends in a digit and every message begins with a TLV tag that is none, so that no two pairs give the same
/// bytes.
#[must_use]
pub fn signing_input(domain: &str, message: &[u8]) -> Vec<u8> {
    [domain.as_bytes(), message].concat()
}

impl TryFrom<RsaPublicKey> for PublicKey {
    type Error = KeyError;

    fn try_from(key: RsaPublicKey) -> Result<Self, KeyError> {
        Self::new(key)
    }
}

impl Value for PublicKey {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.constructed(tag, |out| write_fields(self.as_rsa(), out));
    }

    /// A key has no unknown fields: its name is the digest of its encoding.
    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        let mut fields = Fields::parse(element.value, element.offset)?;
        let mut take = |tag| fields.take(tag)?.ok_or_else(|| fields.missing(tag));
        let (algorithm, modulus, exponent) = (take(OBJECT_IDENTIFIER)?, take(MODULUS)?, take(EXPONENT)?);
        if fields.finish()? > 0 {
            return Err(element.malformed());
        }
        if algorithm.value != ALGORITHM {
            return Err(algorithm.malformed());
        }
        if exponent.value != E {
            return Err(exponent.malformed());
        }
        // Lengths first: numbers cost more than comparisons.
        let bytes = modulus.value.len();
        if !(MIN_BITS / 8..=MAX_BITS / 8).contains(&bytes) || modulus.value.first().is_none_or(|byte| *byte < 0x80) {
            return Err(modulus.malformed());
        }
        let key = RsaPublicKey::new(BigUint::from_bytes_be(modulus.value), BigUint::from_bytes_be(E));
        key.ok()
            .and_then(|key| Self::new(key).ok())
            .ok_or_else(|| modulus.malformed())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bits, {})", self.bits(), self.id.0.short())
    }
}

fn even(byte: &u8) -> bool {
    byte & 1 == 0
}

fn encode(key: &RsaPublicKey) -> Vec<u8> {
    let mut out = Writer::new();
    out.constructed(PUBLIC_KEY, |out| write_fields(key, out));
    out.into_vec()
}

fn write_fields(key: &RsaPublicKey, out: &mut Writer) {
    out.bytes(OBJECT_IDENTIFIER, ALGORITHM);
    out.bytes(MODULUS, &key.n().to_bytes_be());
    out.bytes(EXPONENT, &key.e().to_bytes_be());
}
