//! The blob store: immutable content under the name of its SHA-256.
//!
//! # Contract
//!
//! Every backend keeps these clauses; [`blob_tests!`](crate::blob_tests) proves one test for each.
//!
//! 1. **Named by content.** [`BlobStore::put`] gives the SHA-256 and the length of what it read. Under that name exactly these
//!    bytes are read.
//! 2. **Durable.** What a returned put stored survives the loss of power.
//! 3. **Whole or not at all.** Nobody ever sees a part of a blob. A put that fails, or whose future is dropped, leaves all of
//!    it or nothing, and takes no room once the store was opened again.
//! 4. **Idempotent.** Content that is there may be put again, at the same time too; one that was changed behind the store's
//!    back is whole again after it.
//! 5. **Expectation.** A put that expects another digest than its content has is [`BlobError::Mismatch`], and nothing is stored.
//! 6. **Source.** A put whose content cannot be read to its end is [`BlobError::Source`], and nothing is stored.
//! 7. **Reading.** [`BlobStore::read`] gives the bytes from `offset` on: as many as asked for, fewer only where the content
//!    ends, none from its end on. A blob that is not there is [`BlobError::Missing`], whatever the range.
//! 8. **Length.** [`BlobStore::len`] is the length of what is stored, at the price of a look-up, or `None` where nothing is.
//! 9. **Never other bytes.** [`BlobStore::open`] gives the length of a blob whose content is what its name says, and
//!    [`BlobStore::read`] never gives bytes that are not the blob's. One that was cut, extended or changed behind the store's
//!    back is [`BlobError::Changed`] from both, at the latest when the store is opened anew. How far a backend trusts what it
//!    stands on, it says; it may read a blob whole to find out, but not for every call.
//! 10. **Bounded.** The memory that a call takes does not grow with the blob.
//! 11. **Concurrent.** Any number of calls may run at once.
//! 12. **Cancel.** The future of any call may be dropped.

mod cached;
#[cfg(unix)]
mod directory;
mod memory;

pub use cached::CachedBlobs;
#[cfg(unix)]
pub use directory::DirectoryBlobs;
pub use memory::MemoryBlobs;

use async_trait::async_trait;
use bytes::Bytes;
use std::io;
use thiserror::Error;
use tms_proto::digest::Digest;
use tokio::io::AsyncRead;

/// A blob store; see the [module](self) for the contract.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores all of `content` and gives its name and its length in bytes; when it returns they are durable.
    ///
    /// How much `content` may be is the caller's to limit: [`AsyncReadExt::take`](tokio::io::AsyncReadExt::take).
    async fn put(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        expect: Option<Digest>,
    ) -> Result<(Digest, u64), BlobError>;

    /// The length of what is stored under a name, in bytes, or `None`. Its content is not looked at.
    async fn len(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;

    /// The length of a blob that is there and sound, in bytes: to be asked before it is promised to anybody.
    ///
    /// The first time in the life of a store this may take as long as reading the blob whole.
    async fn open(&self, digest: &Digest) -> Result<u64, BlobError>;

    /// Reads `len` bytes from `offset` on: fewer only where the blob ends.
    async fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, BlobError>;
}

/// Why a blob store did not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such blob.
    #[error("no such blob")]
    Missing,
    /// What is stored under this name is not what was put: it was cut, extended or changed behind the store's back. To put
    /// the content again makes it whole.
    #[error("stored blob is not what its name says")]
    Changed,
    /// Content is not what was expected.
    #[error("content has digest {found}, not {expected}")]
    Mismatch {
        /// What the caller expected.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The content to be stored could not be read.
    #[error("reading the content failed: {0}")]
    Source(#[source] io::Error),
    /// There is no room. Somebody has to make some.
    #[error("no room for the blob")]
    NoSpace,
    /// The backend cannot be reached, or has too much to do. Try again later.
    #[error("blob store unavailable: {0}")]
    Unavailable(String),
    /// Anything else.
    #[error("blob store failed: {0}")]
    Backend(String),
}

impl BlobError {
    /// Whether the same call may succeed later, with nothing else changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
