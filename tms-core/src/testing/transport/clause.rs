//! The proofs, one for each clause.

use super::Fixture;
use crate::testing::seed::Seed;
use crate::testing::suite::{Violation, holds};
use crate::transport::{Dial, Incoming, Listener, PeerInfo, Transport};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf, split};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

impl From<io::Error> for Violation {
    fn from(error: io::Error) -> Self {
        Self::new(format!("a call failed that must not: {error}"))
    }
}

/// How long a thing may take that has to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a thing is waited for that must not come.
const WHILE: Duration = Duration::from_millis(300);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Violation> {
    timeout(PATIENCE, future)
        .await
        .map_err(|_| Violation::new(format!("{what} did not come")))
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut seed = Seed::new(seed);
    std::iter::repeat_with(|| seed.next().to_be_bytes())
        .take(len / 8)
        .flatten()
        .collect()
}

type Call = (Box<dyn Transport>, Box<dyn Transport>);

async fn accept(listener: &mut dyn Listener) -> Result<Incoming, Violation> {
    Ok(within("a call", listener.accept()).await??)
}

/// The two ends of one call: the caller's, and that of who took it.
async fn call(listener: &mut dyn Listener, dial: &mut dyn Dial) -> Result<Call, Violation> {
    let (outgoing, incoming) = tokio::join!(within("an answer", dial.dial()), accept(listener));
    Ok((outgoing??.transport, incoming?.transport))
}

async fn one_call<F: Fixture>(fixture: &F) -> Result<Call, Violation> {
    let (mut listener, mut dial) = fixture.listen(8).await;
    call(&mut *listener, &mut *dial).await
}

/// Writes in pieces of all sizes.
async fn write<T: AsyncWrite + Unpin>(mut end: T, content: &[u8], seed: u64) -> Result<T, Violation> {
    let mut seed = Seed::new(seed);
    let mut rest = content;
    while !rest.is_empty() {
        let bits = seed.below(15);
        let len = (1 + seed.below(1 << bits) as usize).min(rest.len());
        end.write_all(&rest[..len]).await?;
        rest = &rest[len..];
        if seed.chance(100) {
            end.flush().await?;
            yield_now().await;
        }
    }
    end.flush().await?;
    Ok(end)
}

async fn read<T: AsyncRead + Unpin>(mut end: T, content: &[u8]) -> Result<T, Violation> {
    let mut read = vec![0; content.len()];
    within("what was written", end.read_exact(&mut read)).await??;
    let same = read
        .iter()
        .zip(content)
        .take_while(|(read, written)| read == written)
        .count();
    holds(same == content.len(), || {
        format!("byte {same} of {} is another", content.len())
    })?;
    Ok(end)
}

pub(super) async fn bytes_arrive_unchanged_and_in_order<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (near, far) = one_call(fixture).await?;
    let all: Vec<u8> = (0..=255).collect();
    let content = [
        &all[..],
        &content(1, 300_000),
        &[0xFF; 1000],
        b"+++ATH\r\n",
        &[0; 1000],
        &all,
    ]
    .concat();
    let (near, far) = tokio::try_join!(write(near, &content, 1), read(far, &content))?;
    tokio::try_join!(write(far, &content, 2), read(near, &content))?;
    Ok(())
}

pub(super) async fn both_ways_run_at_once<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (near, far) = one_call(fixture).await?;
    let (there, back) = (content(1, 400_000), content(2, 400_000));
    let (near_in, near_out) = split(near);
    let (far_in, far_out) = split(far);
    let flood = async |mut end: WriteHalf<_>, content: &[u8]| Ok(end.write_all(content).await?);
    tokio::try_join!(
        flood(near_out, &there),
        read(far_in, &there),
        flood(far_out, &back),
        read(near_in, &back)
    )?;
    Ok(())
}

pub(super) async fn a_writer_waits_for_its_reader<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    const MOST: usize = 64 << 20;
    let (mut near, mut far) = one_call(fixture).await?;
    let chunk = vec![0x42; 64 << 10];
    let mut written = 0;
    while let Ok(taken) = timeout(WHILE, near.write(&chunk)).await {
        written += taken?;
        holds(written < MOST, || {
            format!("{written} bytes were taken that nobody reads")
        })?;
    }
    let (mut heard, mut buffer) = (0, vec![0; 64 << 10]);
    while heard < written {
        let len = within("what was written", far.read(&mut buffer)).await??;
        holds(len > 0 && buffer[..len].iter().all(|byte| *byte == 0x42), || {
            format!("byte {heard} is another")
        })?;
        heard += len;
    }
    // It goes on where it was.
    tokio::try_join!(write(near, b"more", 1), read(far, b"more"))?;
    Ok(())
}

pub(super) async fn a_shutdown_comes_behind_all_bytes<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    for caller_ends in [true, false] {
        for size in [0, 8, 300_000] {
            let (near, far) = one_call(fixture).await?;
            let (mut first, mut second) = if caller_ends { (near, far) } else { (far, near) };
            let content = content(1, size);
            let ending = async {
                first.write_all(&content).await?;
                first.shutdown().await?;
                Ok::<_, Violation>(())
            };
            let mut heard = Vec::new();
            let hearing = async {
                within("the end", second.read_to_end(&mut heard))
                    .await?
                    .map_err(Violation::from)
            };
            tokio::try_join!(ending, hearing)?;
            holds(heard == content, || {
                format!("{} bytes of {size} came before the end", heard.len())
            })?;
        }
    }
    Ok(())
}

pub(super) async fn a_dropped_transport_ends<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    for caller_goes in [true, false] {
        let (near, far) = one_call(fixture).await?;
        let (first, mut second) = if caller_goes { (near, far) } else { (far, near) };
        drop(first);
        let mut buffer = [0; 100];
        let end = within("the end", second.read(&mut buffer)).await?;
        holds(matches!(end, Ok(0) | Err(_)), || {
            format!("{end:?} bytes came from a peer that is gone")
        })?;
        let failing = async {
            while second.write_all(&[0; 1000]).await.is_ok() {
                yield_now().await;
            }
        };
        within("the failure of a write to a peer that is gone", failing).await?;
    }
    Ok(())
}

pub(super) async fn every_call_is_taken_once<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (mut listener, mut dial) = fixture.listen(8).await;
    let mut numbers = Vec::new();
    for number in 0..20 {
        let (near, far) = call(&mut *listener, &mut *dial).await?;
        let named = [number];
        tokio::try_join!(write(near, &named, 1), read(far, &named))?;
        numbers.push(number);
    }
    let more = timeout(WHILE, listener.accept()).await;
    holds(more.is_err(), || {
        format!("after {} calls there was one more", numbers.len())
    })
}

pub(super) async fn a_silent_caller_delays_nobody<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (mut listener, mut dial) = fixture.listen(8).await;
    let mut open = Vec::new();
    for number in 0..8_u8 {
        let (mut near, far) = call(&mut *listener, &mut *dial).await?;
        if number % 2 == 1 {
            near.write_all(&vec![0xFF; 1000 * usize::from(number)]).await?;
        }
        open.push((near, far));
    }
    let (near, far) = open.remove(6);
    tokio::try_join!(write(near, b"the seventh", 1), read(far, b"the seventh"))?;
    Ok(())
}

/// Polls a future some times and drops it, whatever became of it.
async fn polled<F: Future>(times: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(done);
        }
        yield_now().await;
    }
    None
}

pub(super) async fn a_dropped_accept_loses_no_call<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (mut listener, mut dial) = fixture.listen(8).await;
    let calling = tokio::spawn(async move {
        let mut open = Vec::new();
        for number in 0..8 {
            let mut near = within("an answer", dial.dial()).await??.transport;
            near.write_all(&[number]).await?;
            open.push(near);
            sleep(Duration::from_millis(3)).await;
        }
        Ok::<_, Violation>(open)
    });
    let mut taken = Vec::new();
    let taking = async {
        let mut seed = Seed::new(1);
        while taken.len() < 8 {
            let accepted = match seed.below(3) {
                0 => timeout(Duration::from_millis(seed.below(3)), listener.accept())
                    .await
                    .ok(),
                _ => polled(1 + seed.below(3), listener.accept()).await,
            };
            match accepted {
                Some(accepted) => taken.push(accepted?.transport),
                None => yield_now().await,
            }
        }
        Ok::<_, Violation>(())
    };
    within("some call", taking).await??;
    let _open = calling.await.map_err(|error| Violation::new(error.to_string()))??;
    let mut numbers = Vec::new();
    for far in &mut taken {
        numbers.push(within("a caller's byte", far.read_u8()).await??);
    }
    numbers.sort_unstable();
    holds(numbers == [0, 1, 2, 3, 4, 5, 6, 7], || {
        format!("calls {numbers:?} came, of eight")
    })
}

pub(super) async fn dropped_reads_and_writes_lose_nothing<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (mut near, mut far) = one_call(fixture).await?;
    let writing = async {
        let (mut seed, mut said) = (Seed::new(2), Vec::new());
        while said.len() < 200_000 {
            // Others each time: a write that was dropped has written nothing.
            let bytes = content(seed.next(), 8 + seed.below(3000) as usize);
            match polled(1 + seed.below(3), near.write(&bytes)).await {
                Some(written) => {
                    let written = written?;
                    holds(written <= bytes.len(), || {
                        format!("{written} bytes of {} were written", bytes.len())
                    })?;
                    said.extend_from_slice(&bytes[..written]);
                }
                None => yield_now().await,
            }
        }
        near.shutdown().await?;
        Ok::<_, Violation>(said)
    };
    let reading = async {
        let mut seed = Seed::new(3);
        let (mut heard, mut buffer) = (Vec::new(), vec![0; 3000]);
        loop {
            let len = 1 + seed.below(3000) as usize;
            match polled(1 + seed.below(3), far.read(&mut buffer[..len])).await {
                Some(read) => match read? {
                    0 => return Ok::<_, Violation>(heard),
                    read => heard.extend_from_slice(&buffer[..read]),
                },
                None => yield_now().await,
            }
        }
    };
    let (said, heard) = within("what was written", async { tokio::try_join!(writing, reading) }).await??;
    holds(heard == said, || {
        format!("{} bytes of {} came, or others", heard.len(), said.len())
    })
}

pub(super) async fn a_caller_that_hangs_up_at_once_ends_nothing<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (mut listener, mut dial) = fixture.listen(8).await;
    for _ in 0..20 {
        // It may come as a call that has ended, or not at all.
        let hanging_up = async {
            drop(within("an answer", dial.dial()).await??);
            Ok::<_, Violation>(())
        };
        let (hung_up, accepted) = tokio::join!(hanging_up, timeout(WHILE / 10, listener.accept()));
        hung_up?;
        if let Ok(accepted) = accepted {
            drop(accepted?);
        }
    }
    let reaching = async {
        let mut near = dial.dial().await?.transport;
        near.write_all(b"still there?").await?;
        loop {
            let mut far = accept(&mut *listener).await?.transport;
            let mut heard = [0; 12];
            // Calls that have ended may still come.
            if far.read_exact(&mut heard).await.is_ok() {
                return holds(heard == *b"still there?", || "other bytes were read".to_owned());
            }
        }
    };
    within("a call after those that were hung up", reaching).await?
}

pub(super) async fn open_calls_are_limited<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (mut listener, mut dial) = fixture.listen(2).await;
    let first = call(&mut *listener, &mut *dial).await?;
    let (near, far) = call(&mut *listener, &mut *dial).await?;
    let waiting = tokio::spawn(async move {
        let third = timeout(WHILE * 3, dial.dial()).await;
        (dial, third)
    });
    let third = timeout(WHILE, listener.accept()).await;
    holds(third.is_err(), || {
        "a third call was taken where two may be open".to_owned()
    })?;
    // Those that are open are not disturbed.
    tokio::try_join!(write(near, b"hello", 1), read(far, b"hello"))?;
    drop(first);
    let accepted = timeout(WHILE * 3, listener.accept()).await;
    let (mut dial, third) = waiting.await.map_err(|error| Violation::new(error.to_string()))?;
    match (accepted, third) {
        // It has waited.
        (Ok(accepted), _) => drop(accepted?),
        // It was turned away: the next is taken.
        (Err(_), third) => {
            drop(third);
            drop(call(&mut *listener, &mut *dial).await?);
        }
    }
    Ok(())
}

pub(super) async fn a_peer_is_observed<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let (mut listener, mut dial) = fixture.listen(8).await;
    let (outgoing, incoming) = tokio::join!(within("an answer", dial.dial()), accept(&mut *listener));
    let (outgoing, incoming) = (outgoing??, incoming?);
    for (who, peer, profile) in [
        ("caller", incoming.peer, incoming.profile),
        ("who answered", outgoing.peer, outgoing.profile),
    ] {
        holds(peer != PeerInfo::default(), || {
            format!("nothing was observed of the {who}")
        })?;
        holds((64..=16_384).contains(&profile.max_record), || {
            format!("records of {} bytes", profile.max_record)
        })?;
        holds(profile.credit > 0, || "no credit".to_owned())?;
        let shown = peer.to_string();
        holds(!shown.contains(char::is_control), || {
            format!("not fit for a log: {shown:?}")
        })?;
    }
    Ok(())
}
