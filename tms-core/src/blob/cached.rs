//! Hot blocks in memory, in front of any blob store.

use super::{BlobError, BlobStore};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tms_proto::digest::Digest;
use tokio::io::AsyncRead;
use tokio::sync::OnceCell;

/// Bytes of a block. Large enough that its hand-over to a thread that may block is small beside the reading (some 15 µs; per
/// record that would be more than the cipher costs), small enough that a slow line, which takes minutes for a block, does not
/// read much that it then loses.
const BLOCK: usize = 128 * 1024;
const BLOCK_U64: u64 = 128 * 1024;

/// Keeps the blocks that were read last, reads the next one ahead, and lets calls that want the same block wait for one
/// read: a campaign's package is read once for all the terminals that fetch it.
///
/// It holds at most the bytes that it was given, whatever the number of sessions, and one block more for each read that
/// runs. Blobs never change, so that nothing in it is ever out of date.
#[derive(Clone)]
pub struct CachedBlobs {
    store: Arc<dyn BlobStore>,
    cache: Arc<Mutex<Cache>>,
}

impl fmt::Debug for CachedBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedBlobs")
            .field("blocks", &self.cache().capacity)
            .finish_non_exhaustive()
    }
}

impl CachedBlobs {
    /// Bytes that suit a server: some 60 MiB of hot blocks.
    pub const DEFAULT_CAPACITY: usize = 64 << 20;

    /// A cache of `capacity` bytes, at least two blocks of 128 KiB, in front of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn BlobStore>, capacity: usize) -> Self {
        let cache = Cache {
            capacity: (capacity / BLOCK).max(2),
            ..Cache::default()
        };
        Self {
            store,
            cache: Arc::new(Mutex::new(cache)),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One block: whole, shorter where the blob ends in it, empty behind its end.
    async fn block(&self, key: Key) -> Result<Bytes, BlobError> {
        let cell = self.cache().touch(key);
        let (digest, index) = key;
        let load = || async { self.store.read(&digest, index.saturating_mul(BLOCK_U64), BLOCK).await };
        let block = cell.get_or_try_init(load).await.cloned();
        if block.is_err() {
            self.cache().forget(key, &cell);
        }
        block
    }

    /// Reads a block that will be wanted soon, where it is not there.
    fn read_ahead(&self, key: Key) {
        if self.cache().blocks.contains_key(&key) {
            return;
        }
        let this = self.clone();
        // What goes wrong here comes again when the block is wanted.
        tokio::spawn(async move { this.block(key).await.is_ok() });
    }
}

#[async_trait]
impl BlobStore for CachedBlobs {
    async fn put(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        expect: Option<Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        self.store.put(content, expect).await
    }

    async fn len(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.store.len(digest).await
    }

    async fn open(&self, digest: &Digest) -> Result<u64, BlobError> {
        self.store.open(digest).await
    }

    async fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        if len == 0 || len > BLOCK {
            return self.store.read(digest, offset, len).await;
        }
        let index = offset / BLOCK_U64;
        let start = usize::try_from(offset % BLOCK_U64).unwrap_or_default();
        let first = self.block((*digest, index)).await?;
        let next = (*digest, index.saturating_add(1));
        let more = first.len() == BLOCK;
        let end = start.saturating_add(len);
        if end <= BLOCK || !more {
            if more && end > BLOCK / 2 {
                self.read_ahead(next);
            }
            return Ok(first.slice(start.min(first.len())..end.min(first.len())));
        }
        let second = self.block(next).await?;
        let mut bytes = BytesMut::with_capacity(len);
        bytes.extend_from_slice(first.get(start..).unwrap_or_default());
        bytes.extend_from_slice(second.get(..(end - BLOCK).min(second.len())).unwrap_or_default());
        Ok(bytes.freeze())
    }
}

/// A blob, and the number of a block in it.
type Key = (Digest, u64);
type Cell = Arc<OnceCell<Bytes>>;

#[derive(Default)]
struct Cache {
    /// At most so many blocks.
    capacity: usize,
    blocks: HashMap<Key, (Cell, u64)>,
    /// Blocks by when they were last used.
    order: BTreeMap<u64, Key>,
    uses: u64,
}

impl Cache {
    /// The place of a block, as the one used last; the one that was not used for longest goes for it.
    fn touch(&mut self, key: Key) -> Cell {
        self.uses += 1;
        if let Some((cell, used)) = self.blocks.get_mut(&key) {
            self.order.remove(used);
            *used = self.uses;
            self.order.insert(self.uses, key);
            return Arc::clone(cell);
        }
        if self.blocks.len() >= self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.blocks.remove(&oldest);
        }
        let cell = Cell::default();
        self.blocks.insert(key, (Arc::clone(&cell), self.uses));
        self.order.insert(self.uses, key);
        cell
    }

    /// Gives up a block that could not be read.
    fn forget(&mut self, key: Key, cell: &Cell) {
        let Some((current, used)) = self.blocks.get(&key) else {
            return;
        };
        if Arc::ptr_eq(current, cell) && current.get().is_none() {
            let used = *used;
            self.order.remove(&used);
            self.blocks.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::MemoryBlobs;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    /// Counts the reads, takes its time for each, and fails when told.
    #[derive(Default)]
    struct Counted {
        blobs: MemoryBlobs,
        reads: AtomicUsize,
        broken: AtomicBool,
    }

    #[async_trait]
    impl BlobStore for Counted {
        async fn put(
            &self,
            content: &mut (dyn AsyncRead + Send + Unpin),
            expect: Option<Digest>,
        ) -> Result<(Digest, u64), BlobError> {
            self.blobs.put(content, expect).await
        }

        async fn len(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
            self.blobs.len(digest).await
        }

        async fn open(&self, digest: &Digest) -> Result<u64, BlobError> {
            self.blobs.open(digest).await
        }

        async fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, BlobError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.broken.load(Ordering::Relaxed) {
                return Err(BlobError::Unavailable("test".to_owned()));
            }
            self.blobs.read(digest, offset, len).await
        }
    }

    fn content(blocks: usize, more: usize) -> Vec<u8> {
        (0..blocks * BLOCK + more).map(|at| (at % 251) as u8).collect()
    }

    fn cached(content: Vec<u8>, blocks: usize) -> (Arc<Counted>, CachedBlobs, Digest) {
        let counted = Arc::new(Counted::default());
        let digest = counted.blobs.insert(content);
        let cached = CachedBlobs::new(Arc::clone(&counted) as Arc<dyn BlobStore>, blocks * BLOCK);
        (counted, cached, digest)
    }

    #[tokio::test(start_paused = true)]
    async fn a_blob_read_in_records_is_read_once_in_blocks() {
        let content = content(5, 77);
        let (counted, cached, digest) = cached(content.clone(), 8);
        for _ in 0..3 {
            let mut all = Vec::new();
            loop {
                let part = cached.read(&digest, all.len() as u64, 16_375).await.unwrap();
                if part.is_empty() {
                    break;
                }
                assert!(part.len() == 16_375 || all.len() + part.len() == content.len());
                all.extend_from_slice(&part);
            }
            assert_eq!(all, content);
        }
        assert_eq!(counted.reads.load(Ordering::Relaxed), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_block_is_read_ahead() {
        let (counted, cached, digest) = cached(content(2, 0), 8);
        cached.read(&digest, 0, 1000).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(counted.reads.load(Ordering::Relaxed), 1, "too early");
        cached.read(&digest, BLOCK_U64 / 2, 1000).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(counted.reads.load(Ordering::Relaxed), 2);
        let begun = tokio::time::Instant::now();
        cached.read(&digest, BLOCK_U64, 1000).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_want_one_block_wait_for_one_read() {
        let (counted, cached, digest) = cached(content(1, 0), 8);
        let reads: Vec<_> = (0..50_u64)
            .map(|n| {
                let cached = cached.clone();
                tokio::spawn(async move { cached.read(&digest, n, 10).await.unwrap() })
            })
            .collect();
        for (n, read) in reads.into_iter().enumerate() {
            assert_eq!(read.await.unwrap(), content(1, 0)[n..n + 10]);
        }
        assert_eq!(counted.reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_never_holds_more_than_it_may() {
        let (counted, cached, digest) = cached(content(40, 0), 4);
        for index in 0..40 {
            cached.read(&digest, index * BLOCK_U64, 10).await.unwrap();
            let cache = cached.cache();
            assert!(cache.blocks.len() <= 4);
            assert_eq!(cache.blocks.len(), cache.order.len());
        }
        assert_eq!(counted.reads.load(Ordering::Relaxed), 40);
        cached.read(&digest, 39 * BLOCK_U64, 10).await.unwrap();
        assert_eq!(counted.reads.load(Ordering::Relaxed), 40, "the last one is there");
        cached.read(&digest, 0, 10).await.unwrap();
        assert_eq!(counted.reads.load(Ordering::Relaxed), 41, "the first one is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_read_is_not_kept() {
        let (counted, cached, digest) = cached(content(1, 5), 4);
        counted.broken.store(true, Ordering::Relaxed);
        assert!(matches!(
            cached.read(&digest, 0, 10).await,
            Err(BlobError::Unavailable(_))
        ));
        assert!(cached.cache().blocks.is_empty());
        counted.broken.store(false, Ordering::Relaxed);
        assert_eq!(cached.read(&digest, 0, 3).await.unwrap(), content(0, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_does_not_take_the_block_from_those_that_wait() {
        let (_, cached, digest) = cached(content(1, 0), 4);
        let first = cached.clone();
        let leaver = tokio::spawn(async move { first.read(&digest, 0, 10).await.map(drop) });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let second = cached.clone();
        let stayer = tokio::spawn(async move { second.read(&digest, 0, 10).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
        leaver.abort();
        assert_eq!(stayer.await.unwrap().unwrap(), content(0, 10));
    }
}
