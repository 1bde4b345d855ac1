//! Who a peer is (protocol §10.3, §10.4): a certificate, and a channel certificate by which its RSA key vouches for the
//! X25519 static key of the handshake.
//!
//! The RSA key signs once per epoch, not once per call. A peer that has verified credentials remembers what it learned
//! under their [`CredentialId`]; from then on the handshake's proof of the static key is enough.

use crate::certificate::{Anchors, CERTIFICATE, Certificate, CertificateError, DAY, Date, Subject, Validity};
use crate::code::Role;
use crate::digest::Digest;
use crate::identity::{CredentialId, KeyId};
use crate::public_key::{PublicKey, SignatureError};
use crate::tlv;
use crate::tlv::{DecodeError, DecodeErrorKind, Element, Structure, Tag, Value, Writer, split};
use alloc::vec::Vec;
use bytes::Bytes;
use subtle::ConstantTimeEq;

/// The domain of a channel certificate's signature.
pub const CHANNEL_DOMAIN: &str = "tms channel certificate 1";

/// The domain of a live proof: the message is the handshake hash (§10.7).
pub const PROOF_DOMAIN: &str = "tms live proof 1";

/// How long a server's channel certificate may be valid, in seconds.
pub const MAX_SERVER_VALIDITY: u64 = 7 * DAY;

/// How long a terminal's channel certificate may be valid, in seconds: 30 days, and one for clocks that differ.
pub const MAX_TERMINAL_VALIDITY: u64 = 31 * DAY;

/// By how many seconds a channel certificate may begin in the future: clocks differ.
pub const MAX_SKEW: u64 = DAY;

tlv! {
    /// An RSA identity's word for the static key of the handshake. The key itself is not in it: it is taken from what the
    /// handshake proved.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ChannelCertificate {
        /// Grows with each key, and never goes back: a peer refuses one that is lower than it has seen.
        pub epoch: u32 = 0x80,
        /// The first second of its validity, since 1970 UTC.
        pub not_before: u64 = 0x81,
        /// The first second after it.
        pub not_after: u64 = 0x82,
        /// RSA-PSS under [`CHANNEL_DOMAIN`] over the [`statement`].
        pub signature: Bytes = 0x83,
    }

    struct Statement {
        role: Role = 0x80,
        epoch: u32 = 0x81,
        not_before: u64 = 0x82,
        not_after: u64 = 0x83,
        static_key: [u8; 32] = 0x84,
        certificate: Digest = 0x85,
    }
}

/// The message that the RSA key signs under [`CHANNEL_DOMAIN`] to vouch for `static_key`.
#[must_use]
pub fn statement(
    role: Role,
    epoch: u32,
    not_before: u64,
    not_after: u64,
    static_key: [u8; 32],
    certificate: &Certificate,
) -> Vec<u8> {
    Statement {
        role,
        epoch,
        not_before,
        not_after,
        static_key,
        certificate: certificate.digest(),
    }
    .to_vec()
}

/// A certificate and a channel certificate, as a peer presents them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    raw: Bytes,
    certificate: Certificate,
    channel: ChannelCertificate,
}

/// What verified credentials must fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// The time, in seconds since 1970 UTC; none without a clock to trust.
    pub time: Option<u64>,
    /// The highest epoch of the peer that was seen: a lower one is refused.
    pub min_epoch: u32,
    /// The longest validity of the channel certificate, in seconds.
    pub max_validity: u64,
    /// Whether a certificate may have expired: for the recovery of a terminal (§10.6), which is then told nothing but
    /// how to get a new one.
    pub allow_expired: bool,
}

impl Checks {
    /// What a terminal demands of a server.
    #[must_use]
    pub const fn of_server(time: Option<u64>, min_epoch: u32) -> Self {
        Self {
            time,
            min_epoch,
            max_validity: MAX_SERVER_VALIDITY,
            allow_expired: false,
        }
    }

    /// What a server demands of a terminal; it lets an expired certificate through, and marks it.
    #[must_use]
    pub const fn of_terminal(time: u64, min_epoch: u32) -> Self {
        Self {
            time: Some(time),
            min_epoch,
            max_validity: MAX_TERMINAL_VALIDITY,
            allow_expired: true,
        }
    }
}

/// Why credentials are not accepted: for the log. The peer is told nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No anchor has the key that the certificate names.
    #[error("issuer of the certificate is not known")]
    UnknownIssuer,
    /// The role is not the one expected, or the issuer may not give it.
    #[error("certificate is for another role")]
    Role,
    /// The signature of the certificate does not verify.
    #[error("signature of the certificate does not verify")]
    Signature,
    /// The signature of the channel certificate does not verify: it is forged, or for another static key.
    #[error("channel certificate does not vouch for this key")]
    Channel,
    /// Something is valid only later.
    #[error("credentials are not yet valid")]
    NotYetValid,
    /// The certificate has expired; everything else is right.
    #[error("certificate has expired")]
    Expired,
    /// The channel certificate has expired; the certificate has not.
    #[error("channel certificate has expired")]
    ChannelExpired,
    /// The channel certificate is valid for longer than it may be.
    #[error("channel certificate is valid for too long")]
    Validity,
    /// The epoch is lower than one that was seen.
    #[error("epoch of the channel certificate goes back")]
    Epoch,
    /// The epoch of a server is the number of a day after its channel certificate has ended.
    #[error("epoch of the channel certificate is a day after its end")]
    FutureEpoch,
    /// The handshake proved another static key than the one that is remembered.
    #[error("static key is not the one that is remembered")]
    StaticKey,
}

impl Credentials {
    /// Puts the two together.
    #[must_use]
    pub fn new(certificate: Certificate, channel: ChannelCertificate) -> Self {
        let mut out = Writer::new();
        out.raw(certificate.raw());
        channel.write_fields(&mut out);
        Self {
            raw: Bytes::from(out.into_vec()),
            certificate,
            channel,
        }
    }

    /// The encoding: certificate, then the fields of the channel certificate, without a tag around them.
    #[must_use]
    pub const fn encode(&self) -> &Bytes {
        &self.raw
    }

    /// Reads what [`encode`](Self::encode) gives.
    ///
    /// # Errors
    /// Where a part is missing or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read_at(bytes, 0)
    }

    /// Their name, for a peer that remembers them.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        CredentialId::of(&self.raw)
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The channel certificate.
    #[must_use]
    pub const fn channel(&self) -> &ChannelCertificate {
        &self.channel
    }

    /// Checks that a peer in this role, which has proved `remote_static` in the handshake, is whom its credentials name
    /// (§4.8). What costs little is checked first, the dates last: an expiry that is reported is an expiry that is proved.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        &self,
        anchors: &Anchors,
        role: Role,
        remote_static: [u8; 32],
        checks: &Checks,
    ) -> Result<VerifiedPeer, CredentialError> {
        let body = self.certificate.body();
        let ChannelCertificate {
            epoch,
            not_before,
            not_after,
            ref signature,
        } = self.channel;
        if body.subject.role() != role {
            return Err(CredentialError::Role);
        }
        if epoch < checks.min_epoch {
            return Err(CredentialError::Epoch);
        }
        // A stolen server key could otherwise shut out every later server, with the highest of all epochs.
        if role == Role::Server && u64::from(epoch) > not_after / DAY {
            return Err(CredentialError::FutureEpoch);
        }
        if not_after
            .checked_sub(not_before)
            .is_none_or(|validity| validity > checks.max_validity)
        {
            return Err(CredentialError::Validity);
        }
        self.certificate.verify(anchors, Validity::Unchecked)?;
        let statement = statement(role, epoch, not_before, not_after, remote_static, &self.certificate);
        if body.key.verify(CHANNEL_DOMAIN, &statement, signature).is_err() {
            return Err(CredentialError::Channel);
        }
        if let Some(time) = checks.time
            && (time < body.effective.start() || time.saturating_add(MAX_SKEW) < not_before)
        {
            return Err(CredentialError::NotYetValid);
        }
        let peer = Remembered {
            credential: self.id(),
            subject: body.subject.clone(),
            public_key: body.key.clone(),
            static_key: remote_static,
            epoch,
            not_after,
            expiry: body.expiry,
        };
        VerifiedPeer::at(peer, checks)
    }

    fn read_at(bytes: &[u8], offset: usize) -> Result<Self, DecodeError> {
        let (element, rest) = split(bytes, offset)?;
        if element.tag != CERTIFICATE {
            return Err(DecodeError::new(DecodeErrorKind::Unexpected(element.tag), offset));
        }
        let certificate = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
        let certificate =
            Certificate::decode(certificate).map_err(|error| DecodeError::new(error.kind, offset + error.offset))?;
        let channel = ChannelCertificate::read_fields(rest, offset + bytes.len() - rest.len(), &mut 0)?;
        Ok(Self {
            raw: Bytes::copy_from_slice(bytes),
            certificate,
            channel,
        })
    }
}

impl Value for Credentials {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.constructed(tag, |out| out.raw(&self.raw));
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        Self::read_at(element.value, element.offset)
    }
}

tlv! {
    /// What is kept of verified credentials, so that they need not be sent and verified again (§10.4).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Remembered {
        /// Their name.
        pub credential: CredentialId = 0x80,
        /// Whose they are.
        pub subject: Subject = 0x81,
        /// The RSA key, for a live proof.
        pub public_key: PublicKey = 0x7F49,
        /// The static key that they vouch for.
        pub static_key: [u8; 32] = 0x82,
        /// The epoch of that key.
        pub epoch: u32 = 0x83,
        /// The first second in which the channel certificate is no longer valid, since 1970 UTC.
        pub not_after: u64 = 0x84,
        /// The last day of the certificate.
        pub expiry: Date = 0x85,
    }
}

/// A peer that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    known: Remembered,
    expired: bool,
}

impl VerifiedPeer {
    /// A peer whose credentials were verified before, in an earlier session.
    ///
    /// `known` must be what [`remember`](Self::remember) gave after [`Credentials::verify`], kept where nobody else can
    /// write: nothing in it is verified again but that the handshake proved the same static key, that the epoch does not
    /// go back, and that it is still valid.
    ///
    /// # Errors
    /// [`CredentialError::StaticKey`], [`CredentialError::Epoch`], [`CredentialError::ChannelExpired`],
    /// [`CredentialError::Expired`].
    pub fn remembered(known: Remembered, remote_static: [u8; 32], checks: &Checks) -> Result<Self, CredentialError> {
        if !bool::from(known.static_key.ct_eq(&remote_static)) {
            return Err(CredentialError::StaticKey);
        }
        if known.epoch < checks.min_epoch {
            return Err(CredentialError::Epoch);
        }
        Self::at(known, checks)
    }

    /// What to keep for the next session.
    #[must_use]
    pub const fn remember(&self) -> &Remembered {
        &self.known
    }

    /// Who it is.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.known.subject
    }

    /// The name of its RSA key.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.known.public_key.id()
    }

    /// Its RSA key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.known.public_key
    }

    /// The name of its credentials.
    #[must_use]
    pub const fn credential(&self) -> CredentialId {
        self.known.credential
    }

    /// The static key that the handshake proved.
    #[must_use]
    pub const fn static_key(&self) -> [u8; 32] {
        self.known.static_key
    }

    /// The epoch of the static key: to be kept as the highest seen, once all checks have passed.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.known.epoch
    }

    /// The first second in which its credentials are no longer valid, since 1970 UTC.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.known.not_after.min(self.known.expiry.end())
    }

    /// Its certificate has expired, and it is here for a new one and nothing else (§10.6).
    #[must_use]
    pub const fn expired(&self) -> bool {
        self.expired
    }

    /// Checks a live proof: the signature of its RSA key over this session's handshake hash (§10.7).
    ///
    /// # Errors
    /// Where it is not.
    pub fn prove(&self, handshake_hash: &[u8; 32], signature: &[u8]) -> Result<(), SignatureError> {
        self.known.public_key.verify(PROOF_DOMAIN, handshake_hash, signature)
    }

    fn at(known: Remembered, checks: &Checks) -> Result<Self, CredentialError> {
        let over = |end| checks.time.is_some_and(|time| time >= end);
        if over(known.not_after) {
            return Err(CredentialError::ChannelExpired);
        }
        let expired = over(known.expiry.end());
        if expired && !checks.allow_expired {
            return Err(CredentialError::Expired);
        }
        Ok(Self { known, expired })
    }
}

impl From<CertificateError> for CredentialError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Role => Self::Role,
            CertificateError::Signature => Self::Signature,
            CertificateError::NotYetValid => Self::NotYetValid,
            CertificateError::Expired => Self::Expired,
        }
    }
}
