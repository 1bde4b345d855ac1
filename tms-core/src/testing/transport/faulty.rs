//! A line that does harm, the same for the same seed.

use crate::testing::seed::Seed;
use crate::transport::Transport;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a line does to the bytes that go one way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tampering {
    /// Bytes that pass at once: so many at least 1, at most this. Zero for as many as there are.
    pub chunk: usize,
    /// One bit of a byte is flipped in so many bytes of a million.
    pub flips_per_million: u32,
    /// After so many bytes nothing passes for so long.
    pub stall: Option<(u64, Duration)>,
    /// After so many bytes the line is cut, both ways.
    pub cut: Option<u64>,
    /// Bytes that pass in a second; zero for as many as there are.
    pub bytes_per_second: u32,
}

/// What a line does, as seen by the end that the transport is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Replays the same chances.
    pub seed: u64,
    /// To what is read.
    pub read: Tampering,
    /// To what is written.
    pub write: Tampering,
    /// When the line is cut, counted from the transport's making.
    pub cut_after: Option<Duration>,
    /// A cut is an error; otherwise it looks like an end.
    pub cut_is_error: bool,
}

/// A transport behind a line with [`Faults`].
///
/// Which bits flip depends on the seed and on where they stand, and on nothing else. Times are tokio's, so that a test with
/// paused time takes none.
pub struct FaultyTransport<T> {
    inner: T,
    faults: Faults,
    read: Way,
    write: Way,
    cut_at: Option<Instant>,
    cut: bool,
    timer: Pin<Box<Sleep>>,
}

/// Where one way stands.
struct Way {
    passed: u64,
    /// Chances of chunks.
    chunks: Seed,
    chunk: usize,
    stalled_until: Option<Instant>,
    /// What slows it down: nothing passes before.
    paced_until: Option<Instant>,
    flips: u64,
    timer: Pin<Box<Sleep>>,
}

impl Way {
    fn new(seed: u64, tampering: &Tampering) -> Self {
        let mut chunks = Seed::new(seed);
        let flips = chunks.next();
        let mut way = Self {
            passed: 0,
            chunks,
            chunk: 0,
            stalled_until: None,
            paced_until: None,
            flips,
            timer: Box::pin(sleep_until(Instant::now())),
        };
        way.draw(tampering);
        way
    }

    fn draw(&mut self, tampering: &Tampering) {
        self.chunk = match tampering.chunk {
            0 => usize::MAX,
            most => 1 + self.chunks.below(most as u64) as usize,
        };
    }

    /// How many bytes may pass now; zero where the line is to be cut.
    fn poll_room(&mut self, cx: &mut Context<'_>, tampering: &Tampering) -> Poll<usize> {
        if tampering.cut == Some(self.passed) {
            return Poll::Ready(0);
        }
        let mut room = self.chunk as u64;
        if let Some((at, pause)) = tampering.stall {
            if self.passed == at {
                let until = *self.stalled_until.get_or_insert_with(|| Instant::now() + pause);
                ready!(poll_timer(&mut self.timer, cx, until));
            } else if self.passed < at {
                room = room.min(at - self.passed);
            }
        }
        if let Some(until) = self.paced_until {
            ready!(poll_timer(&mut self.timer, cx, until));
        }
        if tampering.bytes_per_second > 0 {
            // A tenth of a second at once.
            room = room.min(u64::from(tampering.bytes_per_second / 10).max(1));
        }
        if let Some(cut) = tampering.cut {
            room = room.min(cut - self.passed);
        }
        Poll::Ready(usize::try_from(room).unwrap_or(usize::MAX))
    }

    fn flip(&self, tampering: &Tampering, bytes: &mut [u8]) {
        if tampering.flips_per_million > 0 {
            for (at, byte) in (self.passed..).zip(bytes) {
                let mut chance = Seed::new(self.flips ^ at.wrapping_mul(0x2545_F491_4F6C_DD1D));
                if chance.below(1_000_000) < u64::from(tampering.flips_per_million) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }

    fn pass(&mut self, tampering: &Tampering, bytes: usize) {
        self.passed += bytes as u64;
        if tampering.bytes_per_second > 0 {
            let pace = Duration::from_secs(bytes as u64) / tampering.bytes_per_second;
            self.paced_until = Some(Instant::now() + pace);
        }
        self.draw(tampering);
    }
}

fn poll_timer(timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
    if timer.deadline() != until {
        timer.as_mut().reset(until);
    }
    timer.as_mut().poll(cx)
}

impl<T: Transport> FaultyTransport<T> {
    /// Puts a line with faults before a transport. Needs a tokio runtime with time.
    #[must_use]
    pub fn new(inner: T, faults: Faults) -> Self {
        let mut seed = Seed::new(faults.seed);
        let read = Way::new(seed.next(), &faults.read);
        let write = Way::new(seed.next(), &faults.write);
        let cut_at = faults.cut_after.map(|after| Instant::now() + after);
        let timer = Box::pin(sleep_until(cut_at.unwrap_or_else(Instant::now)));
        Self {
            inner,
            faults,
            read,
            write,
            cut_at,
            cut: false,
            timer,
        }
    }

    /// Bytes that were read and written through it.
    #[must_use]
    pub fn passed(&self) -> (u64, u64) {
        (self.read.passed, self.write.passed)
    }

    /// Whether the line was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) {
        if self.cut_at.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.cut_at = None;
            self.cut = true;
        }
    }

    fn broken(&self) -> io::Result<()> {
        if self.faults.cut_is_error {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl<T: Transport> AsyncRead for FaultyTransport<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_cut(cx);
        if this.cut {
            return Poll::Ready(this.broken());
        }
        let room = ready!(this.read.poll_room(cx, &this.faults.read)).min(buf.remaining());
        if room == 0 && buf.remaining() > 0 {
            this.cut = true;
            return Poll::Ready(this.broken());
        }
        let mut part = vec![0; room];
        let mut part = ReadBuf::new(&mut part);
        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
        this.read.flip(&this.faults.read, part.filled_mut());
        buf.put_slice(part.filled());
        this.read.pass(&this.faults.read, part.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for FaultyTransport<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.poll_cut(cx);
        if this.cut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = ready!(this.write.poll_room(cx, &this.faults.write)).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            this.cut = true;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut part = bytes[..room].to_vec();
        this.write.flip(&this.faults.write, &mut part);
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &part))?;
        this.write.pass(&this.faults.write, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::memory;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What the other end hears, and when, of a thousand bytes and the end.
    async fn heard(write: Tampering, seed: u64) -> (Vec<u8>, Duration) {
        let (near, mut far) = memory::pair();
        let mut near = FaultyTransport::new(
            near,
            Faults {
                seed,
                write,
                ..Faults::default()
            },
        );
        let begun = Instant::now();
        let writing = tokio::spawn(async move {
            let _ = near.write_all(&[0x55; 1000]).await;
        });
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        writing.await.unwrap();
        (heard, begun.elapsed())
    }

    /// The same for what is read.
    async fn read(read: Tampering, seed: u64) -> (Vec<u8>, usize) {
        let (near, mut far) = memory::pair();
        let mut near = FaultyTransport::new(
            near,
            Faults {
                seed,
                read,
                ..Faults::default()
            },
        );
        far.write_all(&[0x55; 1000]).await.unwrap();
        drop(far);
        let (mut heard, mut reads) = (Vec::new(), 0);
        while near.read_buf(&mut heard).await.unwrap() > 0 {
            reads += 1;
        }
        (heard, reads)
    }

    #[tokio::test(start_paused = true)]
    async fn without_faults_it_is_a_transport() {
        assert_eq!(heard(Tampering::default(), 1).await, (vec![0x55; 1000], Duration::ZERO));
        assert_eq!(read(Tampering::default(), 1).await.0, vec![0x55; 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_come_in_pieces() {
        let (bytes, reads) = read(
            Tampering {
                chunk: 10,
                ..Tampering::default()
            },
            1,
        )
        .await;
        assert_eq!(bytes.len(), 1000);
        assert!((120..300).contains(&reads), "{reads}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_cuts_where_it_is_told() {
        for cut in [0, 1, 999] {
            let tampering = Tampering {
                cut: Some(cut),
                chunk: 7,
                ..Tampering::default()
            };
            assert_eq!(heard(tampering.clone(), 1).await.0.len() as u64, cut);
            assert_eq!(read(tampering, 1).await.0.len() as u64, cut);
        }
        let (near, mut far) = memory::pair();
        let faults = Faults {
            cut_after: Some(Duration::from_secs(5)),
            cut_is_error: true,
            ..Faults::default()
        };
        let mut near = FaultyTransport::new(near, faults);
        far.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 5];
        near.read_exact(&mut bytes).await.unwrap();
        let begun = Instant::now();
        assert_eq!(
            near.read_exact(&mut bytes).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert_eq!(
            near.write_all(b"x").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert!(near.is_cut());
        assert_eq!(near.passed(), (5, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stalls_and_is_slow() {
        let stall = Some((500, Duration::from_secs(9)));
        let (bytes, time) = heard(
            Tampering {
                stall,
                ..Tampering::default()
            },
            1,
        )
        .await;
        assert_eq!((bytes.len(), time), (1000, Duration::from_secs(9)));
        let (bytes, time) = heard(
            Tampering {
                bytes_per_second: 100,
                ..Tampering::default()
            },
            1,
        )
        .await;
        assert_eq!(bytes.len(), 1000);
        assert!(
            (Duration::from_millis(9800)..=Duration::from_secs(10)).contains(&time),
            "{time:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bits_flip_by_seed_and_place() {
        let flips = Tampering {
            flips_per_million: 20_000,
            ..Tampering::default()
        };
        let (bytes, _) = heard(flips.clone(), 1).await;
        let flipped = bytes.iter().filter(|byte| (**byte ^ 0x55).count_ones() == 1).count();
        assert_eq!(
            flipped,
            bytes.iter().filter(|byte| **byte != 0x55).count(),
            "one bit of a byte"
        );
        assert!((5..50).contains(&flipped), "{flipped}");
        assert_eq!(
            heard(
                Tampering {
                    chunk: 3,
                    ..flips.clone()
                },
                1
            )
            .await
            .0,
            bytes,
            "however it is cut"
        );
        assert_ne!(heard(flips.clone(), 2).await.0, bytes);
        assert_eq!(read(flips.clone(), 3).await, read(flips, 3).await);
    }
}
