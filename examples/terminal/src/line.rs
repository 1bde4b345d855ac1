//! Lines with trouble, to be tried by hand: slow, and cut.

use async_trait::async_trait;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tms_core::transport::{Dial, LinkProfile, Outgoing, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::time::{Instant, Sleep};

/// Bits of a byte on a serial line: start, eight, stop.
const BITS: u64 = 10;

/// What is to be wrong with the next calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// The line of the first call breaks after so many bytes from the server.
    pub cut_after: Option<u64>,
    /// The line carries so many bits per second each way, ten to the byte.
    pub rate: Option<u32>,
}

/// Makes calls on lines with trouble.
pub struct Troubled {
    dial: Box<dyn Dial>,
    trouble: Trouble,
}

impl Troubled {
    /// Calls by `dial`, on lines with this trouble.
    #[must_use]
    pub const fn new(dial: Box<dyn Dial>, trouble: Trouble) -> Self {
        Self { dial, trouble }
    }
}

#[async_trait]
impl Dial for Troubled {
    async fn dial(&mut self) -> io::Result<Outgoing> {
        let outgoing = self.dial.dial().await?;
        let (cut_after, rate) = (self.trouble.cut_after.take(), self.trouble.rate);
        if cut_after.is_none() && rate.is_none() {
            return Ok(outgoing);
        }
        let profile = rate.map_or(outgoing.profile, |rate| slow(outgoing.profile, rate));
        let transport = Box::new(Line {
            inner: outgoing.transport.take(u64::MAX),
            left: cut_after,
            rate: rate.map(|rate| u64::from(rate.max(1))),
            read: Box::pin(tokio::time::sleep(Duration::ZERO)),
            write: Box::pin(tokio::time::sleep(Duration::ZERO)),
        });
        Ok(Outgoing {
            transport,
            profile,
            ..outgoing
        })
    }
}

/// The profile of a slow line: records and credit of about a second, so that the line is never silent for long and little is
/// lost when it breaks.
fn slow(profile: LinkProfile, rate: u32) -> LinkProfile {
    let second = rate / 10;
    LinkProfile {
        max_record: u16::try_from(second.clamp(256, 16_384)).unwrap_or(16_384),
        bits_per_second: Some(rate),
        credit: second.saturating_mul(2).max(1024),
        ..profile
    }
}

/// A line with trouble.
struct Line {
    /// The line, limited to what may be read in one go.
    inner: Take<Box<dyn Transport>>,
    /// Bytes that may be read before it breaks.
    left: Option<u64>,
    rate: Option<u64>,
    /// Until then, what was read is still on the line.
    read: Pin<Box<Sleep>>,
    /// Until then, what was written is still on the line.
    write: Pin<Box<Sleep>>,
}

impl Line {
    fn cut(&self) -> io::Result<()> {
        match self.left {
            Some(0) => Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the line was cut on purpose",
            )),
            _ => Ok(()),
        }
    }

    /// What the line carries in a twentieth of a second.
    fn portion(&self) -> u64 {
        self.rate.map_or(u64::MAX, |rate| (rate / BITS / 20).max(1))
    }

    fn duration(&self, bytes: usize) -> Duration {
        let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(BITS);
        self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_micros(bits.saturating_mul(1_000_000) / rate)
        })
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cut()?;
        if self.rate.is_some() {
            ready!(self.read.as_mut().poll(cx));
        }
        let limit = self.portion().min(self.left.unwrap_or(u64::MAX));
        self.inner.set_limit(limit);
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        self.left = self
            .left
            .map(|left| left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)));
        let until = Instant::now() + self.duration(count);
        self.read.as_mut().reset(until);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.cut()?;
        if self.rate.is_some() {
            ready!(self.write.as_mut().poll(cx));
        }
        let most = usize::try_from(self.portion()).unwrap_or(usize::MAX).min(bytes.len());
        let now = bytes.get(..most).unwrap_or_default();
        let count = ready!(Pin::new(self.inner.get_mut()).poll_write(cx, now))?;
        let until = Instant::now() + self.duration(count);
        self.write.as_mut().reset(until);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tms_core::transport::PeerInfo;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    struct Once(Option<DuplexStream>);

    #[async_trait]
    impl Dial for Once {
        async fn dial(&mut self) -> io::Result<Outgoing> {
            let transport = Box::new(self.0.take().unwrap());
            Ok(Outgoing {
                transport,
                peer: PeerInfo::default(),
                profile: LinkProfile::TCP,
            })
        }
    }

    async fn call(trouble: Trouble) -> (Outgoing, DuplexStream) {
        let (near, far) = tokio::io::duplex(1 << 20);
        (
            Troubled::new(Box::new(Once(Some(near))), trouble).dial().await.unwrap(),
            far,
        )
    }

    #[tokio::test]
    async fn a_cut_line_gives_what_came_before() {
        let (mut near, mut far) = call(Trouble {
            cut_after: Some(1000),
            rate: None,
        })
        .await;
        far.write_all(&[7; 5000]).await.unwrap();
        let mut read = Vec::new();
        let error = near.transport.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((read.len(), error.kind()), (1000, io::ErrorKind::ConnectionReset));
        assert!(near.transport.write_all(b"x").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_takes_its_time() {
        let (mut near, mut far) = call(Trouble {
            cut_after: None,
            rate: Some(9600),
        })
        .await;
        assert_eq!((near.profile.max_record, near.profile.credit), (960, 1920));
        far.write_all(&[7; 2000]).await.unwrap();
        let begun = Instant::now();
        let mut read = vec![0; 960];
        near.transport.read_exact(&mut read).await.unwrap();
        near.transport.write_all(&read).await.unwrap();
        near.transport.read_exact(&mut read).await.unwrap();
        let took = begun.elapsed();
        // Three times 960 bytes, one after the other, less the last portion of each.
        assert!((2_800..3_000).contains(&took.as_millis()), "{took:?}");
    }
}
