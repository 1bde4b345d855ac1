//! A blob store that fails when it is told to, for crash tests.

use crate::blob::{BlobError, BlobStore};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tms_proto::digest::Digest;
use tokio::io::AsyncRead;

/// A blob store whose calls fail as an error says, from one call to another.
///
/// Calls are counted from 1 in the order in which they begin.
pub struct FaultyBlobs {
    inner: Arc<dyn BlobStore>,
    calls: AtomicU64,
    fault: Mutex<Option<Fault>>,
}

struct Fault {
    calls: RangeInclusive<u64>,
    error: fn() -> BlobError,
}

impl FaultyBlobs {
    /// Wraps a store; nothing fails yet.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>) -> Self {
        Self {
            inner,
            calls: AtomicU64::new(0),
            fault: Mutex::default(),
        }
    }

    /// From now on the calls with these numbers fail with this error, and do nothing.
    pub fn fail(&self, calls: RangeInclusive<u64>, error: fn() -> BlobError) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(Fault { calls, error });
    }

    /// How many calls have begun.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn begin(&self) -> Result<(), BlobError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match &*self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(fault) if fault.calls.contains(&call) => Err((fault.error)()),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl BlobStore for FaultyBlobs {
    async fn put(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        expect: Option<Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        self.begin()?;
        self.inner.put(content, expect).await
    }

    async fn len(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.begin()?;
        self.inner.len(digest).await
    }

    async fn open(&self, digest: &Digest) -> Result<u64, BlobError> {
        self.begin()?;
        self.inner.open(digest).await
    }

    async fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        self.begin()?;
        self.inner.read(digest, offset, len).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::MemoryBlobs;

    #[tokio::test]
    async fn the_calls_that_are_named_fail() {
        let blobs = FaultyBlobs::new(Arc::new(MemoryBlobs::new()));
        blobs.fail(2..=3, || BlobError::NoSpace);
        blobs.put(&mut &b"one"[..], None).await.unwrap();
        let digest = Digest::of(b"one");
        assert!(matches!(blobs.open(&digest).await, Err(BlobError::NoSpace)));
        assert!(matches!(
            blobs.put(&mut &b"two"[..], None).await,
            Err(BlobError::NoSpace)
        ));
        assert_eq!(blobs.read(&digest, 0, 9).await.unwrap(), b"one"[..]);
        assert_eq!(blobs.len(&Digest::of(b"two")).await.unwrap(), None);
        assert_eq!(blobs.calls(), 5);
    }
}
