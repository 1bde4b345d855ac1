//! The proofs, one for each clause.

use super::Fixture;
use crate::blob::{BlobError, BlobStore};
use crate::testing::seed::Seed;
use crate::testing::suite::{Violation, holds};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tms_proto::digest::{Digest, Hasher};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

impl From<BlobError> for Violation {
    fn from(error: BlobError) -> Self {
        Self::new(format!("a call failed that must not: {error}"))
    }
}

/// Bytes that do not compress, the same for a seed.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut seed = Seed::new(seed);
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| seed.next().to_be_bytes())
        .take(len / 8 + 1)
        .flatten()
        .collect();
    bytes.truncate(len);
    bytes
}

async fn put(store: &dyn BlobStore, content: &[u8]) -> Result<Digest, Violation> {
    let (digest, length) = store.put(&mut &*content, None).await?;
    let right = Digest::of(content);
    holds(digest == right, || format!("content {right} got the name {digest}"))?;
    holds(length == content.len() as u64, || {
        format!("{} bytes were said to be {length}", content.len())
    })?;
    Ok(digest)
}

/// Reads a blob whole, in one read that asks for more than there is.
async fn whole(store: &dyn BlobStore, digest: &Digest) -> Result<Bytes, BlobError> {
    store.read(digest, 0, 64 << 20).await
}

async fn is_there(store: &dyn BlobStore, content: &[u8]) -> Result<(), Violation> {
    let digest = Digest::of(content);
    let length = Some(content.len() as u64);
    let found = store.len(&digest).await?;
    holds(found == length, || {
        format!("length is {found:?}, and must be {length:?}")
    })?;
    let opened = store.open(&digest).await?;
    holds(Some(opened) == length, || {
        format!("open gives length {opened}, and must give {length:?}")
    })?;
    let bytes = whole(store, &digest).await?;
    holds(bytes == content, || {
        format!("{} bytes were put, {} others were read", content.len(), bytes.len())
    })
}

async fn is_missing(store: &dyn BlobStore, digest: &Digest) -> Result<(), Violation> {
    let found = store.len(digest).await?;
    holds(found.is_none(), || format!("length is {found:?}, and must be none"))?;
    let opened = store.open(digest).await;
    holds(matches!(opened, Err(BlobError::Missing)), || {
        format!("open gives {opened:?}, and must say missing")
    })?;
    for (offset, len) in [(0, 1), (0, 0), (u64::MAX, usize::MAX)] {
        let read = store.read(digest, offset, len).await;
        holds(matches!(read, Err(BlobError::Missing)), || {
            format!("read gives {read:?}, and must say missing")
        })?;
    }
    Ok(())
}

pub(super) async fn content_has_the_name_of_its_digest<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let sizes = [0, 1, 2, 511, 512, 513, 4095, 65_536, 131_071, 131_072, 131_073, 300_000];
    for (seed, size) in (0..).zip(sizes) {
        put(&*store, &content(seed, size)).await?;
    }
    for (seed, size) in (0..).zip(sizes) {
        is_there(&*store, &content(seed, size)).await?;
    }
    Ok(())
}

pub(super) async fn puts_are_durable<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    for seed in 0..4 {
        let store = fixture.open(&home).await;
        for earlier in 0..seed {
            is_there(&*store, &content(earlier, 100_000)).await?;
        }
        put(&*store, &content(seed, 100_000)).await?;
    }
    is_there(&*fixture.open(&home).await, &content(3, 100_000)).await
}

/// Content that comes as far as it is let.
struct Gated {
    content: Vec<u8>,
    at: usize,
    gate: tokio::sync::watch::Receiver<usize>,
    opening: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What comes where the gate is open wide.
    end: fn() -> io::Result<()>,
}

fn gated(content: Vec<u8>, end: fn() -> io::Result<()>) -> (Gated, tokio::sync::watch::Sender<usize>) {
    let (sender, gate) = tokio::sync::watch::channel(0);
    (
        Gated {
            content,
            at: 0,
            gate,
            opening: None,
            end,
        },
        sender,
    )
}

impl AsyncRead for Gated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let open = *self.gate.borrow_and_update();
            let open = open.min(self.content.len());
            if self.at < open {
                let end = open.min(self.at + buf.remaining());
                buf.put_slice(&self.content[self.at..end]);
                self.at = end;
                return Poll::Ready(Ok(()));
            }
            if self.at == self.content.len() {
                return Poll::Ready((self.end)());
            }
            let mut gate = self.gate.clone();
            let opening = self.opening.get_or_insert_with(|| {
                Box::pin(async move {
                    // Without the one who opens it, it stays shut.
                    if gate.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                })
            });
            std::task::ready!(opening.as_mut().poll(cx));
            self.opening = None;
        }
    }
}

pub(super) async fn a_blob_is_there_whole_or_not_at_all<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let content = content(1, 900_000);
    let digest = Digest::of(&content);
    let (mut source, gate) = gated(content.clone(), || Ok(()));
    let putting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.put(&mut source, None).await }
    });
    for open in [1, 1000, 300_000, 600_000, 899_999] {
        let _ = gate.send(open);
        sleep(Duration::from_millis(5)).await;
        is_missing(&*store, &digest).await?;
        is_missing(&*store, &Digest::of(&content[..open])).await?;
    }
    let _ = gate.send(content.len());
    putting
        .await
        .map_err(|error| Violation::new(format!("a put panicked: {error}")))??;
    is_there(&*store, &content).await
}

pub(super) async fn a_dropped_put_leaves_all_or_nothing<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let content = content(1, 600_000);
    let digest = Digest::of(&content);
    for open in [0, 1000, 300_000, 599_999] {
        let (mut source, gate) = gated(content.clone(), || Ok(()));
        let _ = gate.send(open);
        let cut = timeout(Duration::from_millis(20), store.put(&mut source, None)).await;
        holds(cut.is_err(), || {
            "a put returned before its content had ended".to_owned()
        })?;
        drop(source);
        sleep(Duration::from_millis(20)).await;
        is_missing(&*store, &digest).await?;
        is_missing(&*store, &Digest::of(&content[..open])).await?;
    }
    // Dropped at its very end it may have been done.
    for micros in [0, 50, 200, 500, 1000, 2000, 4000] {
        let _ = timeout(Duration::from_micros(micros), store.put(&mut &content[..], None)).await;
        let mut settled = Err(Violation::new("never"));
        for _ in 0..50 {
            settled = match store.len(&digest).await? {
                None => is_missing(&*store, &digest).await,
                Some(_) => is_there(&*store, &content).await,
            };
            if settled.is_ok() {
                break;
            }
            // It may be done just now.
            sleep(Duration::from_millis(20)).await;
        }
        settled?;
    }
    drop(store);
    let store = fixture.open(&home).await;
    is_missing(&*store, &Digest::of(&content[..1000])).await?;
    put(&*store, &content).await?;
    is_there(&*store, &content).await
}

pub(super) async fn content_may_be_put_again<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let one = content(1, 200_000);
    for _ in 0..3 {
        put(&*store, &one).await?;
        is_there(&*store, &one).await?;
    }
    let two = Arc::new(content(2, 200_000));
    let mut racing = JoinSet::new();
    for _ in 0..8 {
        let (store, two) = (Arc::clone(&store), Arc::clone(&two));
        racing.spawn(async move { put(&*store, &two).await });
    }
    while let Some(done) = racing.join_next().await {
        done.map_err(|error| Violation::new(format!("a put panicked: {error}")))??;
        is_there(&*store, &two).await?;
    }
    Ok(())
}

pub(super) async fn other_content_than_expected_is_refused<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    for size in [0, 1000, 700_000] {
        let content = content(1, size);
        let (right, wrong) = (Digest::of(&content), Digest::of(b"something else"));
        match store.put(&mut &content[..], Some(wrong)).await {
            Err(BlobError::Mismatch { expected, found }) => {
                holds((expected, found) == (wrong, right), || {
                    format!("expected {expected} and found {found}")
                })?;
            }
            other => return Err(Violation::new(format!("put gives {other:?}, and must say mismatch"))),
        }
        is_missing(&*store, &wrong).await?;
        is_missing(&*store, &right).await?;
        store.put(&mut &content[..], Some(right)).await?;
        is_there(&*store, &content).await?;
    }
    Ok(())
}

pub(super) async fn a_source_that_fails_leaves_nothing<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    for size in [0, 1000, 700_000] {
        let content = content(1, size);
        let (mut source, gate) = gated(content.clone(), || Err(io::ErrorKind::ConnectionReset.into()));
        let _ = gate.send(usize::MAX);
        match store.put(&mut source, None).await {
            Err(BlobError::Source(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => {
                return Err(Violation::new(format!(
                    "put gives {other:?}, and must say that its source failed"
                )));
            }
        }
        is_missing(&*store, &Digest::of(&content)).await?;
    }
    Ok(())
}

pub(super) async fn reads_give_what_was_asked_for<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let content = content(1, 400_000);
    let digest = put(&*store, &content).await?;
    let size = content.len();
    let mut seed = Seed::new(7);
    let mut ranges = vec![
        (0, 0),
        (0, 1),
        (0, size),
        (0, size + 1),
        (0, usize::MAX),
        (size - 1, 1),
        (size - 1, 2),
        (size - 1, usize::MAX),
        (size, 0),
        (size, 1),
        (size + 1, 1),
        (usize::MAX, 1),
        (usize::MAX, usize::MAX),
    ];
    // Around powers of two there are the edges of blocks.
    for edge in (9..19).map(|bit| 1 << bit) {
        ranges.extend([
            (edge - 1, 1),
            (edge - 1, 2),
            (edge, 1),
            (edge - 1, edge + 2),
            (0, edge),
            (1, edge),
        ]);
    }
    ranges.extend((0..200).map(|_| {
        let bits = seed.below(19);
        (seed.below(size as u64 + 10) as usize, seed.below(1 << bits) as usize)
    }));
    for (offset, len) in ranges {
        let bytes = store.read(&digest, offset as u64, len).await?;
        let right = &content[offset.min(size)..offset.saturating_add(len).min(size)];
        holds(bytes == right, || {
            format!(
                "{len} bytes from {offset} of {size} are {} bytes, and must be {} others",
                bytes.len(),
                right.len()
            )
        })?;
    }
    Ok(())
}

pub(super) async fn a_missing_blob_is_missing<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    is_missing(&*store, &Digest::of(b"not there")).await?;
    is_missing(&*store, &Digest([0; 32])).await?;
    put(&*store, b"there").await?;
    is_missing(&*store, &Digest::of(b"")).await?;
    let digest = Digest::of(b"there");
    if fixture.harm(&home, &digest, None).await {
        drop(store);
        is_missing(&*fixture.open(&home).await, &digest).await?;
    }
    Ok(())
}

/// What may come of a blob.
fn harms(content: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut flipped = content.to_vec();
    flipped[content.len() / 2] ^= 1;
    vec![
        ("cut", content[..content.len() - 1].to_vec()),
        ("cut to nothing", Vec::new()),
        ("extended", [content, b"x"].concat()),
        ("changed", flipped),
        ("zeroed", vec![0; content.len()]),
    ]
}

pub(super) async fn changed_blobs_are_never_served<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    for size in [1, 10_000, 500_000] {
        let content = content(1, size);
        for (harm, other) in harms(&content) {
            let home = fixture.home().await;
            let store = fixture.open(&home).await;
            let digest = put(&*store, &content).await?;
            is_there(&*store, &content).await?;
            if !fixture.harm(&home, &digest, Some(other)).await {
                return Ok(());
            }
            // A store that has not looked may still have it whole.
            for _ in 0..2 {
                match whole(&*store, &digest).await {
                    Ok(bytes) => holds(bytes == content, || format!("a blob that was {harm} was served"))?,
                    Err(BlobError::Changed) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            drop(store);
            let store = fixture.open(&home).await;
            for _ in 0..2 {
                let read = store.read(&digest, 0, 1).await;
                holds(matches!(read, Err(BlobError::Changed)), || {
                    format!("a blob that was {harm}: read gives {read:?}")
                })?;
                let open = store.open(&digest).await;
                holds(matches!(open, Err(BlobError::Changed)), || {
                    format!("a blob that was {harm}: open gives {open:?}")
                })?;
            }
        }
    }
    Ok(())
}

pub(super) async fn a_changed_blob_is_made_whole_by_a_put<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let content = content(1, 10_000);
    for (_, other) in harms(&content) {
        let home = fixture.home().await;
        let store = fixture.open(&home).await;
        let digest = put(&*store, &content).await?;
        if !fixture.harm(&home, &digest, Some(other)).await {
            return Ok(());
        }
        let _ = store.open(&digest).await;
        put(&*store, &content).await?;
        is_there(&*store, &content).await?;
        drop(store);
        is_there(&*fixture.open(&home).await, &content).await?;
    }
    Ok(())
}

pub(super) async fn large_blobs_go_through<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    const SIZE: u64 = 24 << 20;
    const PART: usize = 1 << 20;
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    // Made while it is read, so that nobody holds it whole.
    let mut source = tokio::io::repeat(0x5A).take(SIZE);
    let (digest, length) = store.put(&mut source, None).await?;
    holds(length == SIZE, || format!("{SIZE} bytes were said to be {length}"))?;
    holds(store.open(&digest).await? == SIZE, || {
        "open gives another length".to_owned()
    })?;
    let mut hasher = Hasher::new();
    let mut at = 0;
    loop {
        let part = store.read(&digest, at, PART).await?;
        if part.is_empty() {
            break;
        }
        holds(part.len() == PART, || {
            format!("{PART} bytes from {at} are {} bytes", part.len())
        })?;
        hasher.update(&part);
        at += part.len() as u64;
    }
    holds(at == SIZE && hasher.finish() == digest, || {
        format!("{at} bytes were read, and not those that were put")
    })
}

pub(super) async fn many_calls_run_at_once<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let store = fixture.open(&home).await;
    let mut calls = JoinSet::new();
    for seed in 0..16 {
        let store = Arc::clone(&store);
        calls.spawn(async move {
            let content = content(seed % 8, 150_000);
            let digest = put(&*store, &content).await?;
            let mut random = Seed::new(seed);
            for _ in 0..30 {
                let at = random.below(150_000);
                let bytes = store.read(&digest, at, 16_384).await?;
                let right = &content[at as usize..(at as usize + 16_384).min(150_000)];
                holds(bytes == right, || "other bytes were read".to_owned())?;
            }
            is_there(&*store, &content).await
        });
    }
    while let Some(done) = calls.join_next().await {
        done.map_err(|error| Violation::new(format!("a call panicked: {error}")))??;
    }
    Ok(())
}

pub(super) async fn dropped_calls_do_no_harm<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let home = fixture.home().await;
    let content = content(1, 400_000);
    put(&*fixture.open(&home).await, &content).await?;
    let store = fixture.open(&home).await;
    let digest = Digest::of(&content);
    for micros in [0, 10, 100, 500, 2000] {
        let _ = timeout(Duration::from_micros(micros), store.open(&digest)).await;
        let _ = timeout(Duration::from_micros(micros), store.len(&digest)).await;
        let _ = timeout(Duration::from_micros(micros), whole(&*store, &digest)).await;
    }
    is_there(&*store, &content).await
}
