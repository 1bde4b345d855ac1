//! What the terminal proves itself with, and whom it believes.
//!
//! The RSA key signs once for each channel certificate, at most every 30 days, and for a live proof that an authenticated
//! server asks for. It stays with its [`Signer`], the main-control key with the PIN pad.

use super::journal::{Channel, Journal, SignedChannel};
use super::timeline::Now;
use crate::custody::MainKeys;
use crate::entropy::Entropy;
use crate::signer::{Signer, SignerError};
use crate::store::TerminalId;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;
use tms_proto::certificate::{Anchors, Certificate, DAY, Subject, Validity};
use tms_proto::code::{ResultCode, Role};
use tms_proto::credential::{ChannelCertificate, Checks, CredentialError, Credentials, VerifiedPeer, statement};
use tms_proto::handshake::StaticKey;
use tms_proto::identity::Holder;
use tms_proto::secret::Secret;
use tms_proto::session::Presented;
use tms_proto::tlv::DecodeError;
use zeroize::Zeroizing;

/// How long a terminal's channel certificate is valid.
const VALIDITY: u64 = 30 * DAY;

/// It is taken for over so many seconds before it is: a call takes a while.
const MARGIN: u64 = 600;

/// The terminal, its keys, and the roots that it trusts.
#[derive(Clone)]
pub struct Identity {
    /// Its id in the estate, for the main-control key.
    pub terminal: TerminalId,
    /// Vendor, model and serial number.
    pub holder: Holder,
    /// The roots of servers: two during a rotation.
    pub anchors: Anchors,
    /// The RSA identity, where it has one.
    pub rsa: Option<RsaIdentity>,
    /// The main-control key, where it has one.
    pub main_key: Option<MainKeyIdentity>,
}

/// An RSA key and the certificate that it came with. A renewed one is kept by the agent.
#[derive(Clone)]
pub struct RsaIdentity {
    /// Holds the key.
    pub signer: Arc<dyn Signer>,
    /// The terminal's certificate for it.
    pub certificate: Certificate,
}

/// A main-control key.
#[derive(Clone)]
pub struct MainKeyIdentity {
    /// The PIN pad.
    pub keys: Arc<dyn MainKeys>,
    /// The key's epoch.
    pub epoch: u32,
}

/// Why a server is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum ServerError {
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("credentials ended before the last call")]
    Over,
    #[error("credentials are not remembered here")]
    Unknown,
}

/// Why a renewed certificate is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum RenewalError {
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error("certificate is for another terminal or role")]
    Holder,
    #[error("certificate is for another key")]
    Key,
    #[error("certificate is refused: {0}")]
    Certificate(#[from] tms_proto::certificate::CertificateError),
}

impl Identity {
    /// Gets ready for a call in mode 1 or 4: an X25519 key whose channel certificate is not known to be over.
    pub(super) fn prepare(&self, journal: &mut Journal, now: Now, entropy: &dyn Entropy) -> Option<StaticKey> {
        self.rsa.as_ref()?;
        let over = |signed: &SignedChannel| now.is_past(signed.not_after.saturating_sub(MARGIN));
        let usable = |channel: &&Channel| !channel.signed.as_ref().is_some_and(over);
        let channel = match journal.channel.as_ref().filter(usable) {
            Some(channel) => channel.clone(),
            None => {
                let mut secret = Zeroizing::new([0; 32]);
                entropy.fill(secret.as_mut());
                let epoch = journal.channel.as_ref().map_or(0, |old| old.epoch).saturating_add(1);
                Channel {
                    secret: Secret::new(*secret),
                    epoch,
                    signed: None,
                }
            }
        };
        let key = StaticKey::from_secret(*channel.secret.expose());
        journal.channel = Some(channel);
        Some(key)
    }

    /// Checks the server of modes 1 and 4 (§4.8).
    pub(super) fn verify(
        &self,
        journal: &Journal,
        presented: &Presented,
        static_key: [u8; 32],
        now: Now,
        trust_clock: bool,
    ) -> Result<VerifiedPeer, ServerError> {
        let checks = Checks::of_server(now.time.filter(|_| trust_clock), journal.server_epoch);
        let peer = match presented {
            Presented::Full(credentials) => {
                Credentials::decode(credentials)?.verify(&self.anchors, Role::Server, static_key, &checks)?
            }
            Presented::Remembered(id) => {
                let known = journal
                    .server
                    .clone()
                    .filter(|known| known.credential == *id)
                    .ok_or(ServerError::Unknown)?;
                VerifiedPeer::remembered(known, static_key, &checks)?
            }
        };
        // Without a clock, what had ended when a server last told the time has ended.
        if now.floor >= peer.not_after() {
            return Err(ServerError::Over);
        }
        Ok(peer)
    }

    /// What the terminal shows of itself at `time` by the server's clock: whole, or by name where the server knows it.
    /// Signs where there is no valid channel certificate.
    pub(super) async fn present(&self, journal: &mut Journal, time: u64) -> Result<Presented, SignerError> {
        let failed = |why: &str| SignerError::Failed(why.to_owned());
        let rsa = self.rsa.as_ref().ok_or_else(|| failed("no rsa identity"))?;
        let certificate = self.certificate(journal).ok_or_else(|| failed("no rsa identity"))?;
        let channel = journal.channel.as_mut().ok_or_else(|| failed("no channel key"))?;
        let valid = |signed: &&SignedChannel| {
            let same = Credentials::decode(&signed.credentials)
                .is_ok_and(|credentials| credentials.certificate().digest() == certificate.digest());
            same && signed.not_before <= time.saturating_add(DAY) && time.saturating_add(MARGIN) < signed.not_after
        };
        if let Some(signed) = channel.signed.as_ref().filter(valid) {
            let credentials = Bytes::copy_from_slice(&signed.credentials);
            let id = tms_proto::identity::CredentialId::of(&credentials);
            return Ok(if signed.known {
                Presented::Remembered(id)
            } else {
                Presented::Full(credentials)
            });
        }
        let epoch = if channel.signed.is_some() {
            channel.epoch.saturating_add(1)
        } else {
            channel.epoch
        };
        let (not_before, not_after) = (time, time.saturating_add(VALIDITY));
        let public = StaticKey::from_secret(*channel.secret.expose()).public();
        let message = statement(Role::Terminal, epoch, not_before, not_after, public, &certificate);
        let signature = rsa.signer.sign(tms_proto::credential::CHANNEL_DOMAIN, &message).await?;
        let signed = ChannelCertificate {
            epoch,
            not_before,
            not_after,
            signature: signature.into(),
        };
        let credentials = Credentials::new(certificate, signed).encode().clone();
        channel.epoch = epoch;
        channel.signed = Some(SignedChannel {
            credentials: credentials.to_vec(),
            not_before,
            not_after,
            known: false,
        });
        Ok(Presented::Full(credentials))
    }

    /// The certificate to show: the renewed one, where there is one.
    pub(super) fn certificate(&self, journal: &Journal) -> Option<Certificate> {
        let own = &self.rsa.as_ref()?.certificate;
        let renewed = journal.certificate.as_ref().and_then(|text| hex::decode(text).ok());
        let renewed = renewed
            .and_then(|bytes| Certificate::decode(&bytes).ok())
            .filter(|renewed| {
                let (old, new) = (own.body(), renewed.body());
                new.key.id() == old.key.id() && new.subject == old.subject && new.expiry >= old.expiry
            });
        Some(renewed.unwrap_or_else(|| own.clone()))
    }

    /// Takes a renewed certificate (§10.6): signed by a root, for the same terminal and the same key.
    pub(super) fn renew(&self, journal: &mut Journal, certificate: &[u8], time: u64) -> Result<(), RenewalError> {
        let rsa = self.rsa.as_ref().ok_or(RenewalError::Key)?;
        let renewed = Certificate::decode(certificate)?;
        if renewed.body().subject != Subject::Terminal(self.holder.clone()) {
            return Err(RenewalError::Holder);
        }
        if renewed.body().key.id() != rsa.signer.public_key().id() {
            return Err(RenewalError::Key);
        }
        renewed.verify(&self.anchors, Validity::At(time))?;
        journal.certificate = Some(hex::encode(certificate));
        // The old channel certificate vouches for the key under the old certificate.
        if let Some(channel) = &mut journal.channel {
            channel.epoch = channel.epoch.saturating_add(u32::from(channel.signed.take().is_some()));
        }
        Ok(())
    }
}

impl RenewalError {
    pub(super) const fn code(self) -> ResultCode {
        match self {
            Self::Malformed(_) => ResultCode::FormatError,
            Self::Holder | Self::Key => ResultCode::PartyMismatch,
            Self::Certificate(_) => ResultCode::SignatureError,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("terminal", &self.terminal)
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}
