//! Blob stores that each break their contract in one way, and the proof that the suite catches every one.

use super::{Fixture, clauses};
use crate::blob::{BlobError, BlobStore, MemoryBlobs};
use crate::testing::suite;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tms_proto::digest::Digest;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::sleep;

/// What is wrong with a blob store. Most of these are mistakes that a real backend would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Nothing: the harness itself is right.
    None,
    /// Counts a byte too many.
    CountsWrong,
    /// Says that a blob is durable, and keeps it in memory only.
    Forgets,
    /// Shows a blob while it comes.
    ShowsParts,
    /// Finishes what it has when the put is dropped.
    KeepsWhenDropped,
    /// Takes a blob that is there for a conflict.
    RefusesTwice,
    /// Stores, and then compares.
    StoresUnexpected,
    /// Does not compare.
    ExpectsNothing,
    /// Takes the end of a broken source for the end of the content.
    KeepsBrokenSource,
    /// Says that the store failed where the source did.
    BlamesItself,
    /// Gives what one read of the disk gives.
    ShortReads,
    /// Takes a range behind the end for an error.
    RefusesBehindEnd,
    /// Gives nothing of what is not there.
    EmptyWhenMissing,
    /// Gives nothing where nothing is wanted, and does not look.
    NothingOfMissing,
    /// Looks at the length only.
    ChecksLength,
    /// Checks where it is opened, and not where it is read.
    ChecksWhenOpened,
    /// Checks nothing.
    Trusts,
    /// Leaves what is there as it is.
    NeverHeals,
    /// Has a column that is too short.
    CutsLarge,
    /// Has one buffer for all puts.
    MixesPuts,
    /// Does not give a lock back when it is dropped.
    StaysLocked,
}

use Defect::*;

/// Every defect, and the clause that catches it.
const DEFECTS: &[(Defect, &str)] = &[
    (CountsWrong, "content_has_the_name_of_its_digest"),
    (Forgets, "puts_are_durable"),
    (ShowsParts, "a_blob_is_there_whole_or_not_at_all"),
    (KeepsWhenDropped, "a_dropped_put_leaves_all_or_nothing"),
    (RefusesTwice, "content_may_be_put_again"),
    (StoresUnexpected, "other_content_than_expected_is_refused"),
    (ExpectsNothing, "other_content_than_expected_is_refused"),
    (KeepsBrokenSource, "a_source_that_fails_leaves_nothing"),
    (BlamesItself, "a_source_that_fails_leaves_nothing"),
    (ShortReads, "reads_give_what_was_asked_for"),
    (RefusesBehindEnd, "reads_give_what_was_asked_for"),
    (EmptyWhenMissing, "a_missing_blob_is_missing"),
    (NothingOfMissing, "a_missing_blob_is_missing"),
    (ChecksLength, "changed_blobs_are_never_served"),
    (ChecksWhenOpened, "changed_blobs_are_never_served"),
    (Trusts, "changed_blobs_are_never_served"),
    (NeverHeals, "a_changed_blob_is_made_whole_by_a_put"),
    (CutsLarge, "large_blobs_go_through"),
    (MixesPuts, "many_calls_run_at_once"),
    (StaysLocked, "dropped_calls_do_no_harm"),
];

#[test]
fn the_suite_catches_every_broken_store() {
    suite::catches(DEFECTS, Bad, clauses);
}

#[test]
fn the_harness_itself_is_right() {
    for clause in clauses::<Bad>() {
        suite::prove(clauses(), &Bad(None), clause.name());
    }
}

struct Bad(Defect);

#[async_trait]
impl Fixture for Bad {
    type Home = Arc<MemoryBlobs>;

    async fn home(&self) -> Self::Home {
        Arc::default()
    }

    async fn open(&self, home: &Self::Home) -> Arc<dyn BlobStore> {
        let blobs = if self.0 == Forgets {
            Arc::default()
        } else {
            Arc::clone(home)
        };
        Arc::new(Broken {
            defect: self.0,
            blobs,
            buffer: Mutex::default(),
            locked: AtomicBool::new(false),
        })
    }

    async fn harm(&self, home: &Self::Home, digest: &Digest, content: Option<Vec<u8>>) -> bool {
        match content {
            Some(content) => home.replace(*digest, content),
            Option::None => assert!(home.remove(digest)),
        }
        true
    }
}

struct Broken {
    defect: Defect,
    blobs: Arc<MemoryBlobs>,
    buffer: Mutex<Vec<u8>>,
    locked: AtomicBool,
}

/// What a put has read, kept when it is dropped.
struct Kept<'a>(&'a Broken, Vec<u8>);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if self.0.defect == KeepsWhenDropped {
            self.0.blobs.insert(std::mem::take(&mut self.1));
        }
    }
}

impl Broken {
    async fn content(&self, source: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Vec<u8>, BlobError> {
        let mut kept = Kept(self, Vec::new());
        loop {
            let before = kept.1.len();
            match source.read_buf(&mut kept.1).await {
                Ok(0) => break,
                Ok(_) if self.defect == ShowsParts => {
                    self.blobs.insert(kept.1.clone());
                }
                Ok(_) if self.defect == MixesPuts => {
                    self.buffer.lock().unwrap().extend_from_slice(&kept.1[before..]);
                    tokio::task::yield_now().await;
                }
                Ok(_) => {}
                Err(_) if self.defect == KeepsBrokenSource => break,
                Err(error) if self.defect == BlamesItself => return Err(BlobError::Backend(error.to_string())),
                Err(error) => return Err(BlobError::Source(error)),
            }
        }
        let mut content = std::mem::take(&mut kept.1);
        match self.defect {
            MixesPuts => content = std::mem::take(&mut *self.buffer.lock().unwrap()),
            CutsLarge => content.truncate(16 << 20),
            _ => {}
        }
        std::mem::forget(kept);
        Ok(content)
    }

    /// What is stored, sound or not.
    async fn raw(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        self.blobs.raw(digest).ok_or(BlobError::Missing)
    }
}

#[async_trait]
impl BlobStore for Broken {
    async fn put(
        &self,
        source: &mut (dyn AsyncRead + Send + Unpin),
        expect: Option<Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        let content = self.content(source).await?;
        let (found, there) = (
            Digest::of(&content),
            self.blobs.len(&Digest::of(&content)).await?.is_some(),
        );
        if there && self.defect == RefusesTwice {
            return Err(BlobError::Backend("there is such a blob already".to_owned()));
        }
        if there && self.defect == NeverHeals {
            return Ok((found, content.len() as u64));
        }
        if self.defect == StoresUnexpected {
            self.blobs.insert(content.clone());
        }
        let expect = expect.filter(|_| self.defect != ExpectsNothing);
        let (digest, length) = self.blobs.put(&mut &content[..], expect).await?;
        Ok((digest, length + u64::from(self.defect == CountsWrong)))
    }

    async fn len(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.blobs.len(digest).await
    }

    async fn open(&self, digest: &Digest) -> Result<u64, BlobError> {
        match self.defect {
            Trusts => Ok(self.raw(digest).await?.len() as u64),
            ChecksLength => {
                let raw = self.raw(digest).await?;
                // As a store does that keeps the length beside the content.
                if matches!(raw.len(), 1 | 10_000 | 500_000) {
                    Ok(raw.len() as u64)
                } else {
                    self.blobs.open(digest).await
                }
            }
            _ => self.blobs.open(digest).await,
        }
    }

    async fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        match self.defect {
            Trusts | ChecksWhenOpened => {
                let raw = self.raw(digest).await?;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(raw.len());
                Ok(raw.slice(start..start.saturating_add(len).min(raw.len())))
            }
            ShortReads => self.blobs.read(digest, offset, len.min(8192)).await,
            RefusesBehindEnd if offset > self.blobs.open(digest).await? => {
                Err(BlobError::Backend("range behind the end".to_owned()))
            }
            EmptyWhenMissing => match self.blobs.read(digest, offset, len).await {
                Err(BlobError::Missing) => Ok(Bytes::new()),
                other => other,
            },
            NothingOfMissing if len == 0 => Ok(Bytes::new()),
            StaysLocked if len > 100_000 => {
                if self.locked.swap(true, Ordering::Relaxed) {
                    return Err(BlobError::Unavailable("locked".to_owned()));
                }
                sleep(Duration::from_millis(20)).await;
                self.locked.store(false, Ordering::Relaxed);
                self.blobs.read(digest, offset, len).await
            }
            _ => self.blobs.read(digest, offset, len).await,
        }
    }
}
