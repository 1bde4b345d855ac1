//! RSA keys that sign, wherever they are held.
//!
//! Nothing that comes over the network makes a signer sign: a server signs its channel certificate once a day, people sign
//! packages and certificates. So a signer may be slow, and may be an HSM or a PIN pad.

use async_trait::async_trait;
use rand_core::OsRng;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rsa::pss::BlindedSigningKey;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;
use tms_proto::public_key::{KeyError, MAX_BITS, MIN_BITS, PublicKey, SALT, signing_input};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// Signs with one RSA key.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The public half of the key: 2048 to 4096 bits.
    fn public_key(&self) -> &PublicKey;

    /// Signs [`signing_input`]`(domain, message)`: RSA-PSS with SHA-256 and a salt of 32 bytes (§10.1). The signature is as
    /// long as the modulus, and verifies under [`public_key`](Self::public_key). Dropping the future gives the signature up.
    async fn sign(&self, domain: &str, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// Why there is no signature. It never says anything of the key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignerError {
    /// Not an RSA private key in PKCS#8, in PEM.
    #[error("not an unencrypted rsa private key in pkcs#8 pem")]
    Malformed,
    /// The key is not of an allowed size, or has another exponent.
    #[error("key refused: {0}")]
    Key(#[from] KeyError),
    /// Whoever holds the key cannot be reached. Try again later.
    #[error("signer unavailable: {0}")]
    Unavailable(String),
    /// Anything else.
    #[error("signing failed: {0}")]
    Failed(String),
}

impl SignerError {
    /// Whether the same call may succeed later, with nothing else changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A key from a PEM file, in memory. It signs with blinding, on a thread that may be busy for some milliseconds, and checks
/// each signature before it gives it away. The key is wiped when the last clone is dropped.
#[derive(Clone)]
pub struct PemSigner {
    key: Arc<BlindedSigningKey<Sha256>>,
    public_key: PublicKey,
}

impl PemSigner {
    /// Takes in a key as `openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:3072` writes it: PKCS#8, unencrypted.
    ///
    /// # Errors
    /// [`SignerError::Malformed`], and [`SignerError::Key`] where the key is too small, too large or too odd.
    pub fn from_pem(pem: &str) -> Result<Self, SignerError> {
        let key = RsaPrivateKey::from_pkcs8_pem(pem).map_err(|_| SignerError::Malformed)?;
        let public_key = PublicKey::new(key.to_public_key())?;
        Ok(Self {
            key: Arc::new(BlindedSigningKey::new_with_salt_len(key, SALT)),
            public_key,
        })
    }

    /// Makes a key of `bits` bits, a multiple of 8 from 2048 to 4096, and gives it in PEM. This takes seconds: not for a
    /// thread of the runtime.
    ///
    /// # Errors
    /// [`SignerError::Key`] where `bits` is not allowed.
    pub fn generate(bits: usize) -> Result<Zeroizing<String>, SignerError> {
        if !(MIN_BITS..=MAX_BITS).contains(&bits) || !bits.is_multiple_of(8) {
            return Err(KeyError::Modulus.into());
        }
        let failed = |error: &dyn fmt::Display| SignerError::Failed(error.to_string());
        let key = RsaPrivateKey::new(&mut OsRng, bits).map_err(|error| failed(&error))?;
        key.to_pkcs8_pem(LineEnding::LF).map_err(|error| failed(&error))
    }
}

impl fmt::Debug for PemSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemSigner")
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for PemSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, domain: &str, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let (key, input) = (Arc::clone(&self.key), signing_input(domain, message));
        let signed = spawn_blocking(move || {
            key.try_sign_with_rng(&mut OsRng, &input)
                .map(|signature| signature.to_vec())
        });
        let signature = match signed.await {
            Ok(Ok(signature)) => signature,
            Ok(Err(_)) => return Err(SignerError::Failed("the key does not sign".to_owned())),
            Err(_) => return Err(SignerError::Unavailable("the work was broken off".to_owned())),
        };
        // A signature that a hardware fault has spoilt can give the key away.
        match self.public_key.verify(domain, message, &signature) {
            Ok(()) => Ok(signature),
            Err(_) => Err(SignerError::Failed("the signature does not verify".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    static PEM: LazyLock<Zeroizing<String>> = LazyLock::new(|| PemSigner::generate(2048).unwrap());

    #[tokio::test]
    async fn a_signature_verifies_under_its_domain_only() {
        let signer = PemSigner::from_pem(&PEM).unwrap();
        assert_eq!(signer.public_key().bits(), 2048);
        let signature = signer.sign("tms test 1", b"message").await.unwrap();
        assert_eq!(signature.len(), 256);
        signer
            .public_key()
            .verify("tms test 1", b"message", &signature)
            .unwrap();
        assert!(
            signer
                .public_key()
                .verify("tms test 2", b"message", &signature)
                .is_err()
        );
        assert!(
            signer
                .public_key()
                .verify("tms test 1", b"massage", &signature)
                .is_err()
        );
        let again = signer.sign("tms test 1", b"message").await.unwrap();
        assert_ne!(signature, again, "the salt is random");
    }

    #[test]
    fn other_keys_are_refused() {
        for bits in [512, 1024, 2047, 2050, 4104] {
            assert!(matches!(PemSigner::generate(bits), Err(SignerError::Key(_))), "{bits}");
        }
        for pem in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(PemSigner::from_pem(pem), Err(SignerError::Malformed)));
        }
        let small = RsaPrivateKey::new(&mut OsRng, 1024)
            .unwrap()
            .to_pkcs8_pem(LineEnding::LF)
            .unwrap();
        assert!(matches!(
            PemSigner::from_pem(&small),
            Err(SignerError::Key(KeyError::Modulus))
        ));
    }

    #[test]
    fn debug_and_errors_say_nothing_of_the_key() {
        let signer = PemSigner::from_pem(&PEM).unwrap();
        let shown = format!("{signer:?}");
        assert!(
            shown.starts_with("PemSigner { public_key: PublicKey(2048 bits, "),
            "{shown}"
        );
        assert!(shown.len() < 80, "{shown}");
        let broken = PEM.replace("MII", "MIJ");
        assert_eq!(
            PemSigner::from_pem(&broken).unwrap_err().to_string(),
            "not an unencrypted rsa private key in pkcs#8 pem"
        );
    }
}
