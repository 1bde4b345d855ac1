//! Blobs in memory.

use super::{BlobError, BlobStore};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tms_proto::digest::Digest;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Blobs that live as long as the process: for tests, simulations, and as the specification of a backend. Of the contract it
/// leaves out what memory cannot give: it is not durable, and it takes as much memory as the blobs that it holds.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<HashMap<Digest, Blob>>);

#[derive(Debug, Clone)]
struct Blob {
    content: Bytes,
    /// The content is what its name says.
    sound: bool,
}

impl MemoryBlobs {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores `content` at once and gives its name.
    pub fn insert(&self, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = Digest::of(&content);
        self.blobs().insert(digest, Blob { content, sound: true });
        digest
    }

    /// Takes a blob away, and says whether it was there: what an operator's mistake does to a directory.
    pub fn remove(&self, digest: &Digest) -> bool {
        self.blobs().remove(digest).is_some()
    }

    /// Puts other content under a blob's name, as a disk does that goes bad.
    pub fn replace(&self, digest: Digest, content: impl Into<Bytes>) {
        let content = content.into();
        let sound = Digest::of(&content) == digest;
        self.blobs().insert(digest, Blob { content, sound });
    }

    /// What is stored under a name, sound or not.
    #[cfg(test)]
    pub(crate) fn raw(&self, digest: &Digest) -> Option<Bytes> {
        self.blobs().get(digest).map(|blob| blob.content.clone())
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<Digest, Blob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sound(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        let blob = self.blobs().get(digest).cloned().ok_or(BlobError::Missing)?;
        if blob.sound {
            Ok(blob.content)
        } else {
            Err(BlobError::Changed)
        }
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        expect: Option<Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).await.map_err(BlobError::Source)?;
        let found = Digest::of(&bytes);
        if let Some(expected) = expect.filter(|expected| *expected != found) {
            return Err(BlobError::Mismatch { expected, found });
        }
        let length = length(&bytes);
        self.blobs().insert(
            found,
            Blob {
                content: bytes.into(),
                sound: true,
            },
        );
        Ok((found, length))
    }

    async fn len(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        Ok(self.blobs().get(digest).map(|blob| length(&blob.content)))
    }

    async fn open(&self, digest: &Digest) -> Result<u64, BlobError> {
        Ok(length(&self.sound(digest)?))
    }

    async fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        let content = self.sound(digest)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        Ok(content.slice(start..start.saturating_add(len).min(content.len())))
    }
}

fn length(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::blob::Fixture;
    use std::sync::Arc;

    struct Memory;

    #[async_trait]
    impl Fixture for Memory {
        type Home = Arc<MemoryBlobs>;

        async fn home(&self) -> Self::Home {
            Arc::default()
        }

        async fn open(&self, home: &Self::Home) -> Arc<dyn BlobStore> {
            Arc::clone(home) as _
        }

        async fn harm(&self, home: &Self::Home, digest: &Digest, content: Option<Vec<u8>>) -> bool {
            match content {
                Some(content) => home.replace(*digest, content),
                None => assert!(home.remove(digest)),
            }
            true
        }
    }

    crate::blob_tests!(Memory);
}
