//! Card-verifiable certificates (protocol §10.2): ISO/IEC 7816-8 and BSI TR-03110 layout, RSA-PSS with SHA-256.
//!
//! ```text
//! 7F21 certificate
//!   7F4E body                         the signature covers this element as it stands
//!     5F29 profile, 00
//!     42   authority reference        first 4 bytes of the issuer's key id
//!     7F49 public key                 06 algorithm, 81 modulus, 82 exponent
//!     5F20 holder reference           parts joined by 1F
//!     7F4C role                       06 identifier of the template, 53 role
//!     5F25 effective date             first day, YYMMDD, one digit a byte
//!     5F24 expiration date            last day
//!   5F37 signature
//! ```

mod anchor;
mod date;
mod subject;

pub use anchor::{Anchor, Anchors, Roles};
pub use date::{DAY, Date};
pub use subject::Subject;

use crate::code::Role;
use crate::digest::{Digest, hexadecimal};
use crate::identity::KeyId;
use crate::public_key::PublicKey;
use crate::tlv;
use crate::tlv::{DecodeError, DecodeErrorKind, Element, Fields, Tag, Value, Writer, split};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// The domain of a certificate's signature.
pub const CERTIFICATE_DOMAIN: &str = "tms certificate 1";

/// The longest certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 1536;

/// The tag of a certificate.
pub const CERTIFICATE: Tag = Tag(0x7F21);

const BODY: Tag = Tag(0x7F4E);
const SIGNATURE: Tag = Tag(0x5F37);

/// The template of the role: 2.999, the arc that anybody may use. It says only that byte 53 is a role of this protocol.
const TEMPLATE: [u8; 2] = [0x88, 0x37];

/// The first bytes of a key id: how a certificate names its issuer. It finds the key; the signature proves it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Authority(pub [u8; 4]);

impl Authority {
    /// Whether it may be the name of this key.
    #[must_use]
    pub fn names(self, key: KeyId) -> bool {
        Self::from(key) == self
    }
}

impl From<KeyId> for Authority {
    fn from(key: KeyId) -> Self {
        let Digest([a, b, c, d, ..]) = key.0;
        Self([a, b, c, d])
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl Value for Authority {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &self.0);
    }

    fn read(element: Element<'_>, unknown: &mut usize) -> Result<Self, DecodeError> {
        <[u8; 4]>::read(element, unknown).map(Self)
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateBody {
    /// Who signs it.
    pub authority: Authority,
    /// The key that it is about.
    pub key: PublicKey,
    /// Whose key that is.
    pub subject: Subject,
    /// The first day on which it is valid.
    pub effective: Date,
    /// The last day on which it is valid.
    pub expiry: Date,
}

impl CertificateBody {
    /// The encoded body: the message that the authority signs under [`CERTIFICATE_DOMAIN`].
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let wire = Wire {
            profile: 0,
            authority: self.authority,
            key: self.key.clone(),
            holder: Bytes::from(self.subject.reference().into_bytes()),
            role: Template {
                identifier: Bytes::from_static(&TEMPLATE),
                role: self.subject.role(),
            },
            effective: self.effective,
            expiry: self.expiry,
        };
        wire.write(BODY, &mut out);
        out.into_vec()
    }
}

tlv! {
    struct Wire {
        profile: u8 = 0x5F29,
        authority: Authority = 0x42,
        key: PublicKey = 0x7F49,
        holder: Bytes = 0x5F20,
        role: Template = 0x7F4C,
        effective: Date = 0x5F25,
        expiry: Date = 0x5F24,
    }

    struct Template {
        identifier: Bytes = 0x06,
        role: Role = 0x53,
    }
}

/// A certificate, as it was received. It says nothing before [`verify`](Self::verify) has said so.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    raw: Bytes,
    signed: Bytes,
    signature: Bytes,
    body: CertificateBody,
}

/// When a certificate must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// At this time, in seconds since 1970 UTC.
    At(u64),
    /// At any time: there is no clock to trust, and the epoch of the channel certificate must do (§4.8).
    Unchecked,
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No anchor has the key that it names.
    #[error("issuer of the certificate is not known")]
    UnknownIssuer,
    /// The issuer may not sign certificates of this role.
    #[error("issuer may not sign certificates of this role")]
    Role,
    /// The signature does not verify.
    #[error("signature of the certificate does not verify")]
    Signature,
    /// Its first day has not come.
    #[error("certificate is not yet valid")]
    NotYetValid,
    /// Its last day is over. Everything else about it is right.
    #[error("certificate has expired")]
    Expired,
}

impl Certificate {
    /// Puts a body and the signature over it together.
    ///
    /// # Errors
    /// Where the body does not survive its own encoding: a part of the subject is empty, too long or holds a control
    /// character, or the expiry is before the effective date.
    pub fn assemble(body: &CertificateBody, signature: &[u8]) -> Result<Self, DecodeError> {
        let mut out = Writer::new();
        out.constructed(CERTIFICATE, |out| {
            out.raw(&body.to_be_signed());
            out.bytes(SIGNATURE, signature);
        });
        Self::from_bytes(Bytes::from(out.into_vec()))
    }

    /// Reads a certificate, its tag and length included.
    ///
    /// # Errors
    /// Where `bytes` is not exactly one certificate of at most [`MAX_CERTIFICATE`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(DecodeError::new(DecodeErrorKind::Length, 0));
        }
        Self::from_bytes(Bytes::copy_from_slice(bytes))
    }

    /// The encoding, exactly as received.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &CertificateBody {
        &self.body
    }

    /// The digest of its encoding.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// Checks issuer, the issuer's right to the role, signature and dates, in this order; gives the issuer's key.
    ///
    /// # Errors
    /// The first that is not right.
    pub fn verify(&self, anchors: &Anchors, validity: Validity) -> Result<KeyId, CertificateError> {
        let mut error = CertificateError::UnknownIssuer;
        let mut issuer = None;
        for anchor in anchors
            .list
            .iter()
            .filter(|anchor| self.body.authority.names(anchor.key.id()))
        {
            if !anchor.roles.contains(self.body.subject.role()) {
                error = CertificateError::Role;
            } else if anchor
                .key
                .verify(CERTIFICATE_DOMAIN, &self.signed, &self.signature)
                .is_ok()
            {
                issuer = Some(anchor.key.id());
                break;
            } else {
                error = CertificateError::Signature;
            }
        }
        let issuer = issuer.ok_or(error)?;
        match validity {
            Validity::At(time) if time < self.body.effective.start() => Err(CertificateError::NotYetValid),
            Validity::At(time) if time >= self.body.expiry.end() => Err(CertificateError::Expired),
            _ => Ok(issuer),
        }
    }

    fn from_bytes(raw: Bytes) -> Result<Self, DecodeError> {
        let (element, rest) = split(&raw, 0)?;
        if !rest.is_empty() {
            return Err(DecodeError::new(DecodeErrorKind::Trailing, raw.len() - rest.len()));
        }
        if element.tag != CERTIFICATE {
            return Err(DecodeError::new(DecodeErrorKind::Unexpected(element.tag), 0));
        }
        if raw.len() > MAX_CERTIFICATE {
            return Err(DecodeError::new(DecodeErrorKind::Length, 0));
        }
        // The body must come first, so that what is signed is found without rebuilding it.
        let (body, after) = split(element.value, element.offset)?;
        if body.tag != BODY {
            return Err(DecodeError::new(DecodeErrorKind::Unexpected(body.tag), element.offset));
        }
        let signed = raw.slice_ref(
            element
                .value
                .get(..element.value.len() - after.len())
                .unwrap_or_default(),
        );
        let mut fields = Fields::parse(after, raw.len() - after.len())?;
        let signature = fields.take(SIGNATURE)?.ok_or_else(|| fields.missing(SIGNATURE))?;
        let signature = raw.slice_ref(signature.value);
        fields.finish()?;
        let wire = Wire::read(body, &mut 0)?;
        let malformed = |tag| DecodeError::new(DecodeErrorKind::Value(Tag(tag)), body.offset);
        if wire.profile != 0 {
            return Err(malformed(0x5F29));
        }
        if *wire.role.identifier != TEMPLATE {
            return Err(malformed(0x7F4C));
        }
        if wire.expiry < wire.effective {
            return Err(malformed(0x5F24));
        }
        let subject = Subject::parse(wire.role.role, &wire.holder).ok_or_else(|| malformed(0x5F20))?;
        let (authority, key, effective, expiry) = (wire.authority, wire.key, wire.effective, wire.expiry);
        let body = CertificateBody {
            authority,
            key,
            subject,
            effective,
            expiry,
        };
        Ok(Self {
            signed,
            signature,
            body,
            raw,
        })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.body, f)
    }
}
