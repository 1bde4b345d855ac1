//! Terminal main-control keys, and the key that seals secret parameters, wherever they are held.
//!
//! A server never needs the key itself, only the pre-shared key that is derived from it for one terminal and epoch (§10.5):
//! an HSM derives it inside, as the terminal's PIN pad does.

use crate::store::TerminalId;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tms_proto::derive::terminal_psk;
use tms_proto::secret::{Psk, Secret};

#[cfg(unix)]
mod file;
mod secret;

#[cfg(unix)]
pub use file::KeyFile;
pub use secret::{MAX_SECRET, ParameterKey, SecretKeeper, SecretPlace};

/// Holds terminal main-control keys and derives from them.
#[async_trait]
pub trait MainKeys: Send + Sync + 'static {
    /// The pre-shared key of a terminal in an epoch, or `None` where no main-control key is known for it.
    async fn psk(&self, terminal: TerminalId, epoch: u32) -> Result<Option<Psk>, CustodyError>;
}

/// Why a key cannot be told. It never says anything of a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// Whoever holds the keys cannot be reached. Try again later.
    #[error("key custody unavailable: {0}")]
    Unavailable(String),
    /// A file of keys that others than its owner may read or write.
    #[error("file of keys may be read or written by others than its owner: make its mode 600")]
    Exposed,
    /// A version of a key that is not there.
    #[error("there is no version {0} of the key")]
    NoVersion(u32),
    /// A file of keys that cannot be understood.
    #[error("file of keys is malformed in line {0}")]
    Malformed(usize),
    /// Anything else.
    #[error("key custody failed: {0}")]
    Failed(String),
}

impl CustodyError {
    /// Whether the same call may succeed later, with nothing else changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A terminal main-control key: AES, 128 or 256 bits. Never printed, and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum MainKey {
    /// 16 bytes.
    Aes128(Secret<16>),
    /// 32 bytes.
    Aes256(Secret<32>),
}

impl MainKey {
    /// Takes in 16 or 32 bytes; `None` where there are more or less.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let short = <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Self::Aes128(Secret::new(bytes)));
        short.or_else(|| {
            <[u8; 32]>::try_from(bytes)
                .ok()
                .map(|bytes| Self::Aes256(Secret::new(bytes)))
        })
    }

    /// The pre-shared key of a terminal in an epoch.
    #[must_use]
    pub fn psk(&self, terminal: TerminalId, epoch: u32) -> Psk {
        match self {
            Self::Aes128(key) => terminal_psk(key, terminal.0, epoch),
            Self::Aes256(key) => terminal_psk(key, terminal.0, epoch),
        }
    }

    #[cfg(unix)]
    fn expose(&self) -> &[u8] {
        match self {
            Self::Aes128(key) => key.expose(),
            Self::Aes256(key) => key.expose(),
        }
    }
}

impl fmt::Debug for MainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MainKey")
    }
}

type Keys = BTreeMap<(TerminalId, u32), MainKey>;

/// Keys in memory: for tests and simulations, and where something else brings them at start-up.
#[derive(Debug, Default)]
pub struct MemoryKeys(Mutex<Keys>);

impl MemoryKeys {
    /// Without a key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key, in the place of the one that the terminal had in this epoch.
    pub fn insert(&self, terminal: TerminalId, epoch: u32, key: MainKey) {
        self.keys().insert((terminal, epoch), key);
    }

    /// Takes a key away, and says whether it was there.
    pub fn remove(&self, terminal: TerminalId, epoch: u32) -> bool {
        self.keys().remove(&(terminal, epoch)).is_some()
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MainKeys for MemoryKeys {
    async fn psk(&self, terminal: TerminalId, epoch: u32) -> Result<Option<Psk>, CustodyError> {
        Ok(self.keys().get(&(terminal, epoch)).map(|key| key.psk(terminal, epoch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_for_one_terminal_and_epoch() {
        let keys = MemoryKeys::new();
        let main_key = MainKey::from_slice(&[7; 16]).unwrap();
        keys.insert(TerminalId(1), 3, main_key.clone());
        let psk = keys.psk(TerminalId(1), 3).await.unwrap().unwrap();
        assert_eq!(psk, terminal_psk(&Secret::new([7; 16]), 1, 3));
        assert_eq!(keys.psk(TerminalId(1), 4).await.unwrap(), None);
        assert_eq!(keys.psk(TerminalId(2), 3).await.unwrap(), None);
        assert!(main_key.psk(TerminalId(2), 3) != psk && main_key.psk(TerminalId(1), 4) != psk);
        assert!(keys.remove(TerminalId(1), 3) && !keys.remove(TerminalId(1), 3));
        assert_eq!(keys.psk(TerminalId(1), 3).await.unwrap(), None);
    }

    #[test]
    fn keys_have_two_sizes_and_are_not_shown() {
        assert!(matches!(MainKey::from_slice(&[0xA5; 32]), Some(MainKey::Aes256(_))));
        assert!(
            (0..70)
                .filter(|len| MainKey::from_slice(&vec![0; *len]).is_some())
                .eq([16, 32])
        );
        let keys = MemoryKeys::new();
        keys.insert(TerminalId(1), 3, MainKey::from_slice(&[0xA5; 32]).unwrap());
        let shown = format!("{keys:?}").to_lowercase();
        assert!(!shown.contains("a5") && !shown.contains("165"), "{shown}");
    }
}
