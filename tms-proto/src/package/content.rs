//! Content against its manifest, while it streams by.

use super::error::PackageError;
use super::manifest::Manifest;
use crate::digest::{Digest, Hasher};

/// Checks size and digest of content that comes in pieces. More than the manifest says is refused at the first byte too
/// many, before anything is done with it.
#[derive(Clone)]
pub struct ContentCheck {
    left: u64,
    digest: Digest,
    hasher: Hasher,
}

impl ContentCheck {
    /// A check against what this manifest says.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            left: manifest.size,
            digest: manifest.digest,
            hasher: Hasher::new(),
        }
    }

    /// The bytes still to come.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Takes the next bytes in.
    ///
    /// # Errors
    /// [`PackageError::Size`] where there are more than there must be; nothing is taken in then.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), PackageError> {
        let left = u64::try_from(bytes.len())
            .ok()
            .and_then(|length| self.left.checked_sub(length));
        self.left = left.ok_or(PackageError::Size)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Ends the content.
    ///
    /// # Errors
    /// [`PackageError::Size`] where there is less than there must be, [`PackageError::Digest`] where it is other content.
    pub fn finish(self) -> Result<(), PackageError> {
        if self.left > 0 {
            return Err(PackageError::Size);
        }
        if self.hasher.finish() != self.digest {
            return Err(PackageError::Digest);
        }
        Ok(())
    }
}
