//! Secret parameters at rest: sealed, and bound to the place where they stand.

use super::CustodyError;
use crate::entropy::Entropy;
use crate::rule::template::{Scope, Sealed};
use async_trait::async_trait;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use ring::hmac;
use std::fmt;
use std::sync::Arc;
use tms_proto::digest::Digest;
use tms_proto::secret::Secret;
use zeroize::{Zeroize, Zeroizing};

/// The longest secret, in bytes.
pub const MAX_SECRET: usize = 2_048;

/// Where a secret stands: sealed for one place, it cannot be opened in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretPlace<'a> {
    /// The template.
    pub template: &'a str,
    /// The parameter.
    pub parameter: &'a str,
    /// The layer.
    pub scope: &'a Scope,
}

/// Seals secret parameters and opens them: a key in a file, or an HSM.
///
/// Whoever implements it binds what it seals to the whole place, so that nobody who can write to the store can move a secret to
/// where it is shown or sent to somebody else.
#[async_trait]
pub trait SecretKeeper: Send + Sync + 'static {
    /// Seals a value of at most [`MAX_SECRET`] bytes. Its fingerprint is the same for the same value of the same parameter,
    /// and tells nothing without the key.
    async fn seal(&self, place: SecretPlace<'_>, value: &str) -> Result<Sealed, CustodyError>;

    /// Opens it.
    ///
    /// # Errors
    /// [`CustodyError::Failed`] where it was sealed by another key, for another place, or was changed.
    async fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Zeroizing<String>, CustodyError>;
}

/// A key that seals secret parameters. Never printed, and wiped when dropped.
pub struct ParameterKey {
    cipher: Secret<32>,
    fingerprint: hmac::Key,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for ParameterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParameterKey")
    }
}

impl ParameterKey {
    /// Takes a key in.
    #[must_use]
    pub fn new(key: &Secret<32>, entropy: Arc<dyn Entropy>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let mut cipher = derived(&key, b"tms parameter seal 1");
        let mut fingerprint = derived(&key, b"tms parameter fingerprint 1");
        let made = Self {
            cipher: Secret::new(cipher),
            fingerprint: hmac::Key::new(hmac::HMAC_SHA256, &fingerprint),
            entropy,
        };
        cipher.zeroize();
        fingerprint.zeroize();
        made
    }

    /// Reads the key from a file of 64 hexadecimal digits, which must belong to its owner alone (mode 600).
    ///
    /// # Errors
    /// Where it cannot be read, is open to others, or is malformed.
    #[cfg(unix)]
    pub fn open_file(path: &std::path::Path, entropy: Arc<dyn Entropy>) -> Result<Self, CustodyError> {
        use std::io::Read;
        use std::os::unix::fs::MetadataExt;
        let failed = |error: std::io::Error| CustodyError::Failed(format!("{}: {error}", path.display()));
        let file = std::fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(CustodyError::Exposed);
        }
        // Room enough that it never grows, and leaves no copy behind.
        let mut text = Zeroizing::new(String::with_capacity(256));
        file.take(200).read_to_string(&mut text).map_err(failed)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| CustodyError::Malformed(1))?;
        let key = Secret::new(bytes);
        bytes.zeroize();
        Ok(Self::new(&key, entropy))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.cipher.expose()))
    }
}

#[async_trait]
impl SecretKeeper for ParameterKey {
    async fn seal(&self, place: SecretPlace<'_>, value: &str) -> Result<Sealed, CustodyError> {
        if value.len() > MAX_SECRET {
            return Err(CustodyError::Failed(format!("a secret has at most {MAX_SECRET} bytes")));
        }
        let mut nonce = [0; 24];
        self.entropy.fill(&mut nonce);
        let (aad, msg) = (place.associated()?, value.as_bytes());
        let payload = Payload { msg, aad: &aad };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| CustodyError::Failed("sealing failed".to_owned()))?;
        // The length stands between, so that no name and value say the same as another name and value.
        let mut covered = hmac::Context::with_key(&self.fingerprint);
        covered.update(&place.parameter.len().to_be_bytes());
        covered.update(place.parameter.as_bytes());
        covered.update(msg);
        Ok(Sealed {
            sealed: hex::encode(nonce) + &hex::encode(sealed),
            fingerprint: Digest(bytes_of(covered.sign())),
        })
    }

    async fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Zeroizing<String>, CustodyError> {
        let wrong = || CustodyError::Failed(format!("the secret of {} cannot be opened", place.parameter));
        let bytes = hex::decode(&sealed.sealed).map_err(|_| wrong())?;
        let (nonce, msg) = bytes.split_first_chunk::<24>().ok_or_else(wrong)?;
        let aad = place.associated()?;
        let payload = Payload { msg, aad: &aad };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        let opened = Zeroizing::new(opened.map_err(|_| wrong())?);
        let text = std::str::from_utf8(&opened).map_err(|_| wrong())?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

impl SecretPlace<'_> {
    /// One text for one place.
    fn associated(&self) -> Result<Vec<u8>, CustodyError> {
        serde_json::to_vec(&("tms parameter 1", self.template, self.parameter, self.scope))
            .map_err(|_| CustodyError::Failed("the place of a secret cannot be written as json".to_owned()))
    }
}

fn derived(key: &hmac::Key, purpose: &[u8]) -> [u8; 32] {
    bytes_of(hmac::sign(key, purpose))
}

fn bytes_of(tag: hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, from) in bytes.iter_mut().zip(tag.as_ref()) {
        *byte = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::OsEntropy;

    fn key(byte: u8) -> ParameterKey {
        ParameterKey::new(&Secret::new([byte; 32]), Arc::new(OsEntropy))
    }

    #[tokio::test]
    async fn a_secret_is_bound_to_its_place() {
        let (east, west) = (Scope::Branch(vec!["east".into()]), Scope::Vendor("east".into()));
        let place = SecretPlace {
            template: "pay",
            parameter: "pin",
            scope: &east,
        };
        let sealed = key(1).seal(place, "1234").await.unwrap();
        assert_eq!(&*key(1).open(place, &sealed).await.unwrap(), "1234");
        for moved in [
            SecretPlace {
                template: "pa",
                ..place
            },
            SecretPlace {
                parameter: "pan",
                ..place
            },
            SecretPlace { scope: &west, ..place },
        ] {
            assert!(key(1).open(moved, &sealed).await.is_err(), "{moved:?}");
        }
        assert!(key(2).open(place, &sealed).await.is_err());
        for at in 0..sealed.sealed.len() {
            let mut changed = sealed.clone();
            let other = if changed.sealed.as_bytes()[at] == b'0' {
                "1"
            } else {
                "0"
            };
            changed.sealed.replace_range(at..=at, other);
            assert!(key(1).open(place, &changed).await.is_err(), "byte {at}");
        }
    }

    #[tokio::test]
    async fn equal_values_have_equal_fingerprints_and_nothing_else_shows() {
        let scope = Scope::head_office();
        let place = |parameter| SecretPlace {
            template: "pay",
            parameter,
            scope: &scope,
        };
        let key = key(1);
        let one = key.seal(place("pin"), "1234").await.unwrap();
        let same = key.seal(place("pin"), "1234").await.unwrap();
        assert!(one.fingerprint == same.fingerprint && one.sealed != same.sealed);
        for (parameter, value) in [("pin", "1235"), ("pi", "n1234"), ("pin2", "1234")] {
            let other = key.seal(place(parameter), value).await.unwrap();
            assert_ne!(one.fingerprint, other.fingerprint, "{parameter}");
        }
        assert!(key.seal(place("pin"), &"x".repeat(MAX_SECRET + 1)).await.is_err());
        assert_eq!(format!("{key:?} {one:?}"), "ParameterKey Sealed");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_of_the_key_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let open = || ParameterKey::open_file(&path, Arc::new(OsEntropy));
        assert!(matches!(open(), Err(CustodyError::Failed(_))));
        std::fs::write(&path, format!("{}\n", "01".repeat(32))).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(matches!(open(), Err(CustodyError::Exposed)));
        mode(0o600);
        let scope = Scope::head_office();
        let place = SecretPlace {
            template: "pay",
            parameter: "pin",
            scope: &scope,
        };
        let sealed = open().unwrap().seal(place, "1234").await.unwrap();
        assert_eq!(&*key(1).open(place, &sealed).await.unwrap(), "1234");
        std::fs::write(&path, "0123").unwrap();
        assert!(matches!(open(), Err(CustodyError::Malformed(1))));
    }
}
