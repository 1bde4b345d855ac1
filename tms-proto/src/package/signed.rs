//! A signed structure (§11.2): the bytes that were signed, and the signatures over them.

use super::{MAX_SIGNATURES, MAX_SIGNED};
use crate::digest::Digest;
use crate::identity::KeyId;
use crate::public_key::PublicKey;
use crate::tlv;
use crate::tlv::{DecodeError, DecodeErrorKind, Fields, Tag, Value, Writer, split};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

const SIGNED: Tag = Tag(0x78);
const SIGNATURE: Tag = Tag(0xA1);

/// A structure that is signed.
pub trait Signable: Value {
    /// The tag of its element.
    const TAG: Tag;

    /// The domain of its signatures.
    const DOMAIN: &'static str;

    /// What decoding alone does not find: limits and contradictions inside.
    ///
    /// # Errors
    /// Where there are any.
    fn check_form(&self) -> Result<(), DecodeError>;
}

tlv! {
    /// One signature.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeySignature {
        /// Whose: it finds the key, and proves nothing.
        pub key: KeyId = 0x80,
        /// RSA-PSS over the body's element, under its domain.
        pub signature: Bytes = 0x81,
    }
}

/// A structure with the signatures over it, exactly as it was received.
///
/// ```text
/// 78 signed
///   79, 7A or 7B   body: a manifest, a trust store or a grant; the signatures cover this element as it stands
///   A1*            signature: 80 key id, 81 signature
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Signed<T> {
    raw: Bytes,
    element: Bytes,
    body: T,
    signatures: Vec<KeySignature>,
}

impl<T: Signable> Signed<T> {
    /// The element of `body`: the message to be signed under [`Signable::DOMAIN`].
    #[must_use]
    pub fn to_be_signed(body: &T) -> Vec<u8> {
        let mut out = Writer::new();
        body.write(T::TAG, &mut out);
        out.into_vec()
    }

    /// Puts a signed element and its signatures together. Signatures made at different times and places are added one
    /// by one: [`with`](Self::with).
    ///
    /// # Errors
    /// Where `element` is not one well-formed body.
    pub fn assemble(element: &[u8], signatures: &[KeySignature]) -> Result<Self, DecodeError> {
        let mut out = Writer::new();
        out.constructed(SIGNED, |out| {
            out.raw(element);
            signatures.iter().for_each(|signature| signature.write(SIGNATURE, out));
        });
        Self::decode(&out.into_vec())
    }

    /// The same with one more signature, in the place of an earlier one of the same key.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn with(&self, signature: KeySignature) -> Result<Self, DecodeError> {
        let mut signatures = self.signatures.clone();
        signatures.retain(|other| other.key != signature.key);
        signatures.push(signature);
        Self::assemble(&self.element, &signatures)
    }

    /// Reads what [`encode`](Self::encode) gives.
    ///
    /// # Errors
    /// Where `bytes` is not exactly one signed structure, or exceeds [`MAX_SIGNED`] or [`MAX_SIGNATURES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_SIGNED {
            return Err(DecodeError::new(DecodeErrorKind::Length, 0));
        }
        let raw = Bytes::copy_from_slice(bytes);
        let (element, rest) = split(&raw, 0)?;
        if element.tag != SIGNED {
            return Err(DecodeError::new(DecodeErrorKind::Unexpected(element.tag), 0));
        }
        if !rest.is_empty() {
            return Err(DecodeError::new(DecodeErrorKind::Trailing, raw.len() - rest.len()));
        }
        let (body, after) = split(element.value, element.offset)?;
        if body.tag != T::TAG {
            return Err(DecodeError::new(DecodeErrorKind::Unexpected(body.tag), element.offset));
        }
        let signed = raw.slice_ref(
            element
                .value
                .get(..element.value.len() - after.len())
                .unwrap_or_default(),
        );
        let mut fields = Fields::parse(after, raw.len() - after.len())?;
        let signatures: Vec<KeySignature> = fields.field(SIGNATURE)?;
        fields.finish()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(DecodeError::new(DecodeErrorKind::TooMany, element.offset));
        }
        let body = T::read(body, &mut 0)?;
        body.check_form()?;
        Ok(Self {
            body,
            signatures,
            element: signed,
            raw,
        })
    }

    /// The encoding, exactly as received.
    #[must_use]
    pub const fn encode(&self) -> &Bytes {
        &self.raw
    }

    /// The digest of the encoding: the name under which it is stored and planned.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// The signed element.
    #[must_use]
    pub const fn element(&self) -> &Bytes {
        &self.element
    }

    /// The signatures, verified or not.
    #[must_use]
    pub fn signatures(&self) -> &[KeySignature] {
        &self.signatures
    }

    /// What it claims, before any signature was verified: to be shown, not to be believed.
    #[must_use]
    pub const fn unverified(&self) -> &T {
        &self.body
    }

    /// Which of `keys` have signed. Signatures of other keys are not looked at.
    pub(super) fn signers(&self, keys: &[PublicKey]) -> Vec<KeyId> {
        let signed = |key: &PublicKey| {
            let mut own = self.signatures.iter().filter(|signature| signature.key == key.id());
            own.any(|signature| key.verify(T::DOMAIN, &self.element, &signature.signature).is_ok())
        };
        keys.iter().filter(|key| signed(key)).map(PublicKey::id).collect()
    }
}

impl<T: fmt::Debug> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.signatures.iter().map(|signature| signature.key);
        f.debug_struct("Signed")
            .field("body", &self.body)
            .field("keys", &keys.collect::<Vec<_>>())
            .finish()
    }
}
