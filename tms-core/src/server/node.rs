//! What a server node shows of itself: its certificate, and a channel certificate that it signs once a day.

use crate::entropy::Entropy;
use crate::signer::{Signer, SignerError};
use std::sync::Arc;
use thiserror::Error;
use tms_proto::certificate::{Certificate, DAY};
use tms_proto::code::Role;
use tms_proto::credential::{CHANNEL_DOMAIN, ChannelCertificate, Credentials, MAX_SERVER_VALIDITY, statement};
use tms_proto::handshake::StaticKey;
use tms_proto::identity::CredentialId;
use tms_proto::session::ServerIdentity;
use tokio::sync::RwLock;
use zeroize::Zeroizing;

/// A server's identity. The RSA key, possibly slow and in an HSM, is used once a day: the first call in mode
/// 1 or 4 of a day has today's channel certificate signed, and those that come meanwhile wait for it.
pub struct Node {
    signer: Arc<dyn Signer>,
    certificate: Certificate,
    identities: RwLock<Vec<Dated>>,
}

struct Dated {
    epoch: u32,
    not_after: u64,
    identity: Arc<ServerIdentity>,
}

/// Why a node has no identity to show.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The certificate is for another key.
    #[error("the certificate is not for this key")]
    WrongKey,
    /// The signer failed.
    #[error("signing the channel certificate failed: {0}")]
    Signer(#[from] SignerError),
}

impl Node {
    /// A node with this key and certificate.
    ///
    /// # Errors
    /// [`NodeError::WrongKey`].
    pub fn new(signer: Arc<dyn Signer>, certificate: Certificate) -> Result<Self, NodeError> {
        if certificate.body().key.id() != signer.public_key().id() {
            return Err(NodeError::WrongKey);
        }
        Ok(Self {
            signer,
            certificate,
            identities: RwLock::default(),
        })
    }

    /// The identity to show at `now`: the one that the terminal remembers, while that is valid, or today's.
    ///
    /// # Errors
    /// Where today's has to be signed and cannot be.
    pub async fn identity(
        &self,
        remembered: Option<CredentialId>,
        now: u64,
        entropy: &dyn Entropy,
    ) -> Result<Arc<ServerIdentity>, NodeError> {
        let epoch = u32::try_from(now / DAY).unwrap_or(u32::MAX);
        if let Some(identity) = pick(&self.identities.read().await, remembered, epoch, now) {
            return Ok(identity);
        }
        let mut identities = self.identities.write().await;
        // Another call may have signed while this one waited.
        if let Some(identity) = pick(&identities, remembered, epoch, now) {
            return Ok(identity);
        }
        let dated = self.sign(epoch, entropy).await?;
        let identity = Arc::clone(&dated.identity);
        identities.retain(|old| old.not_after > now && old.epoch != epoch);
        identities.push(dated);
        Ok(identity)
    }

    async fn sign(&self, epoch: u32, entropy: &dyn Entropy) -> Result<Dated, NodeError> {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut());
        let static_key = StaticKey::from_secret(*secret);
        let not_before = u64::from(epoch) * DAY;
        // Terminals may remember it for as long as it is valid, and no longer (§10.3).
        let not_after = not_before.saturating_add(MAX_SERVER_VALIDITY);
        let statement = statement(
            Role::Server,
            epoch,
            not_before,
            not_after,
            static_key.public(),
            &self.certificate,
        );
        let signature = self.signer.sign(CHANNEL_DOMAIN, &statement).await?;
        let channel = ChannelCertificate {
            epoch,
            not_before,
            not_after,
            signature: signature.into(),
        };
        let credentials = Credentials::new(self.certificate.clone(), channel);
        let identity = ServerIdentity {
            static_key,
            credentials: credentials.encode().clone(),
            id: credentials.id(),
        };
        Ok(Dated {
            epoch,
            not_after,
            identity: Arc::new(identity),
        })
    }
}

fn pick(identities: &[Dated], remembered: Option<CredentialId>, epoch: u32, now: u64) -> Option<Arc<ServerIdentity>> {
    let valid = |dated: &&Dated| dated.not_after > now;
    let known = identities
        .iter()
        .filter(valid)
        .find(|dated| remembered == Some(dated.identity.id));
    let today = || identities.iter().find(|dated| dated.epoch == epoch);
    known.or_else(today).map(|dated| Arc::clone(&dated.identity))
}
