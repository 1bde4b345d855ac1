//! Secret parameters at rest: sealed, and bound to the place where they stand.

use super::CustodyError;
use crate::entropy::Entropy;
use crate::rule::template::{Scope, Sealed};
use async_trait::async_trait;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use ring::hmac;
use std::collections::BTreeMap;
use std::fmt;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tms_proto::digest::Digest;
use tms_proto::secret::Secret;
use zeroize::{Zeroize, Zeroizing};

/// The longest secret, in bytes.
pub const MAX_SECRET: usize = 2_048;

/// The largest file of keys, in bytes.
#[cfg(unix)]
const MAX_FILE: usize = 64 * 1024;

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

/// Seals secret parameters and opens them: a key in a file, or an HSM. The key has versions, from 1 on: the estate says which
/// one seals, and all that are there open.
///
/// Whoever implements it binds what it seals to the whole place, so that nobody who can write to the store can move a secret to
/// where it is shown or sent to somebody else.
#[async_trait]
pub trait SecretKeeper: Send + Sync + 'static {
    /// Whether it has this version of the key.
    async fn has(&self, version: u32) -> Result<bool, CustodyError>;

    /// Seals a value of at most [`MAX_SECRET`] bytes under this version. Its fingerprint is the same for the same value of the
    /// same parameter under one version, and tells nothing without the key.
    ///
    /// # Errors
    /// [`CustodyError::NoVersion`].
    async fn seal(&self, version: u32, place: SecretPlace<'_>, value: &str) -> Result<Sealed, CustodyError>;

    /// Opens it, by the version that sealed it.
    ///
    /// # Errors
    /// [`CustodyError::NoVersion`]; [`CustodyError::Failed`] where it was sealed by another key, for another place, or was
    /// changed.
    async fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Zeroizing<String>, CustodyError>;
}

/// A key that seals secret parameters, in its versions. Never printed, and wiped when dropped.
pub struct ParameterKey {
    versions: Mutex<BTreeMap<u32, Arc<Version>>>,
    /// Read again where a version is asked for that is not known yet.
    #[cfg(unix)]
    file: Option<PathBuf>,
    entropy: Arc<dyn Entropy>,
}

/// What is derived from one version of a key.
struct Version {
    cipher: Secret<32>,
    fingerprint: hmac::Key,
}

impl fmt::Debug for ParameterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParameterKey")
    }
}

impl ParameterKey {
    /// Takes a key in, as version 1.
    #[must_use]
    pub fn new(key: &Secret<32>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            versions: Mutex::new([(1, Arc::new(Version::new(key)))].into()),
            #[cfg(unix)]
            file: None,
            entropy,
        }
    }

    /// Takes another version in, in the place of one of that number that may be there.
    #[must_use]
    pub fn with_version(self, version: u32, key: &Secret<32>) -> Self {
        self.lock().insert(version, Arc::new(Version::new(key)));
        self
    }

    /// Reads the versions from a file, which must belong to its owner alone (mode 600). Each has a line `version key`, a number
    /// and 64 hexadecimal digits; a line of the key alone is version 1. A version that is asked for and not known is looked for
    /// in the file again, so that one that was added is there without a restart.
    ///
    /// # Errors
    /// Where it cannot be read, is open to others, is malformed, or has no version.
    #[cfg(unix)]
    pub fn open_file(path: impl Into<PathBuf>, entropy: Arc<dyn Entropy>) -> Result<Self, CustodyError> {
        let path = path.into();
        let versions = Mutex::new(read_file(&path)?);
        Ok(Self {
            versions,
            file: Some(path),
            entropy,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Version>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn version(&self, version: u32) -> Result<Option<Arc<Version>>, CustodyError> {
        if let Some(found) = self.lock().get(&version) {
            return Ok(Some(Arc::clone(found)));
        }
        #[cfg(unix)]
        if let Some(path) = self.file.clone() {
            let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
            let read = read.map_err(|_| CustodyError::Unavailable("the work was broken off".to_owned()))??;
            let mut versions = self.lock();
            *versions = read;
            return Ok(versions.get(&version).cloned());
        }
        Ok(None)
    }
}

impl Version {
    fn new(key: &Secret<32>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let mut cipher = derived(&key, b"tms parameter seal 1");
        let mut fingerprint = derived(&key, b"tms parameter fingerprint 1");
        let made = Self {
            cipher: Secret::new(cipher),
            fingerprint: hmac::Key::new(hmac::HMAC_SHA256, &fingerprint),
        };
        cipher.zeroize();
        fingerprint.zeroize();
        made
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.cipher.expose()))
    }
}

/// The versions of a file.
#[cfg(unix)]
fn read_file(path: &Path) -> Result<BTreeMap<u32, Arc<Version>>, CustodyError> {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    let failed = |error: std::io::Error| CustodyError::Failed(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(CustodyError::Exposed);
    }
    // Room enough that it never grows, and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * MAX_FILE));
    let most = u64::try_from(MAX_FILE).unwrap_or(u64::MAX);
    file.take(most).read_to_string(&mut text).map_err(failed)?;
    let mut versions = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let malformed = || CustodyError::Malformed(line);
        let (version, digits) = match text.trim().split_once(' ') {
            _ if text.trim().is_empty() => continue,
            Some((version, digits)) => (version.parse().map_err(|_| malformed())?, digits.trim()),
            None => (1, text.trim()),
        };
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut *bytes).map_err(|_| malformed())?;
        let key = Arc::new(Version::new(&Secret::new(*bytes)));
        if version == 0 || versions.insert(version, key).is_some() {
            return Err(malformed());
        }
    }
    if versions.is_empty() {
        return Err(CustodyError::Malformed(1));
    }
    Ok(versions)
}

#[async_trait]
impl SecretKeeper for ParameterKey {
    async fn has(&self, version: u32) -> Result<bool, CustodyError> {
        Ok(self.version(version).await?.is_some())
    }

    async fn seal(&self, version: u32, place: SecretPlace<'_>, value: &str) -> Result<Sealed, CustodyError> {
        if value.len() > MAX_SECRET {
            return Err(CustodyError::Failed(format!("a secret has at most {MAX_SECRET} bytes")));
        }
        let key = self.version(version).await?.ok_or(CustodyError::NoVersion(version))?;
        let mut nonce = [0; 24];
        self.entropy.fill(&mut nonce);
        let (aad, msg) = (place.associated()?, value.as_bytes());
        let payload = Payload { msg, aad: &aad };
        let sealed = key.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| CustodyError::Failed("sealing failed".to_owned()))?;
        // The length stands between, so that no name and value say the same as another name and value.
        let mut covered = hmac::Context::with_key(&key.fingerprint);
        covered.update(&place.parameter.len().to_be_bytes());
        covered.update(place.parameter.as_bytes());
        covered.update(msg);
        Ok(Sealed {
            sealed: hex::encode(nonce) + &hex::encode(sealed),
            fingerprint: Digest(bytes_of(covered.sign())),
            key: version,
        })
    }

    async fn open(&self, place: SecretPlace<'_>, sealed: &Sealed) -> Result<Zeroizing<String>, CustodyError> {
        let wrong = || CustodyError::Failed(format!("the secret of {} cannot be opened", place.parameter));
        let key = self.version(sealed.key).await?;
        let key = key.ok_or(CustodyError::NoVersion(sealed.key))?;
        let bytes = hex::decode(&sealed.sealed).map_err(|_| wrong())?;
        let (nonce, msg) = bytes.split_first_chunk::<24>().ok_or_else(wrong)?;
        let aad = place.associated()?;
        let payload = Payload { msg, aad: &aad };
        let opened = key.cipher().decrypt(&XNonce::from(*nonce), payload);
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
        let sealed = key(1).seal(1, place, "1234").await.unwrap();
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
        let one = key.seal(1, place("pin"), "1234").await.unwrap();
        let same = key.seal(1, place("pin"), "1234").await.unwrap();
        assert!(one.fingerprint == same.fingerprint && one.sealed != same.sealed);
        for (parameter, value) in [("pin", "1235"), ("pi", "n1234"), ("pin2", "1234")] {
            let other = key.seal(1, place(parameter), value).await.unwrap();
            assert_ne!(one.fingerprint, other.fingerprint, "{parameter}");
        }
        assert!(key.seal(1, place("pin"), &"x".repeat(MAX_SECRET + 1)).await.is_err());
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
        let sealed = open().unwrap().seal(1, place, "1234").await.unwrap();
        assert_eq!(&*key(1).open(place, &sealed).await.unwrap(), "1234");
        // A version that is added is there without a restart, and opens what it has sealed.
        let keeper = open().unwrap();
        assert!(keeper.has(1).await.unwrap() && !keeper.has(2).await.unwrap());
        let refused = keeper.seal(2, place, "1234").await.unwrap_err();
        assert!(matches!(refused, CustodyError::NoVersion(2)), "{refused}");
        std::fs::write(&path, format!("{}\n2 {}\n", "01".repeat(32), "02".repeat(32))).unwrap();
        let newer = keeper.seal(2, place, "1234").await.unwrap();
        assert!(newer.key == 2 && newer.fingerprint != sealed.fingerprint);
        for sealed in [&sealed, &newer] {
            assert_eq!(&*keeper.open(place, sealed).await.unwrap(), "1234");
        }
        let confused = Sealed { key: 1, ..newer };
        assert!(keeper.open(place, &confused).await.is_err());
        let two = "01".repeat(32);
        for (wrong, line) in [
            ("0123".to_owned(), 1),
            (String::new(), 1),
            (format!("{two}\n1 {two}\n"), 2),
            (format!("1 {two}\n0 {two}\n"), 2),
            (format!("x {two}\n"), 1),
        ] {
            std::fs::write(&path, &wrong).unwrap();
            assert!(
                matches!(open(), Err(CustodyError::Malformed(at)) if at == line),
                "{wrong}"
            );
        }
    }
}
