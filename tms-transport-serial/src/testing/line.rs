//! A telephone line between two modems: slow, late and noisy.

use std::time::Duration;
use tms_core::testing::seed::Seed;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What a line is like, each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Bits per second, ten to the byte.
    pub bits_per_second: u32,
    /// How long a byte is on its way.
    pub latency: Duration,
    /// Bytes that a modem holds before it makes its computer wait.
    pub buffer: usize,
    /// What becomes of bytes.
    pub noise: Noise,
    /// The line is cut after so many bytes have come through, both ways together.
    pub cut_after: Option<u64>,
    /// Replays the same noise.
    pub seed: u64,
}

impl Default for Line {
    /// 9600 bit/s, 50 ms, quiet.
    fn default() -> Self {
        Self {
            bits_per_second: 9600,
            latency: Duration::from_millis(50),
            buffer: 1024,
            noise: Noise::default(),
            cut_after: None,
            seed: 1,
        }
    }
}

/// What becomes of bytes on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noise {
    /// Bits in a million that are turned, each alone.
    pub bits_per_million: u32,
    /// Start and stop bits are hit like others: a byte is lost, or one too many comes.
    pub framing: bool,
    /// Hits that turn many bits.
    pub bursts: Option<Bursts>,
}

/// Hits that turn many bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bursts {
    /// One begins every so many bytes on average.
    pub every: u32,
    /// It lasts so many bytes on average, and turns every second bit of them.
    pub bytes: u32,
}

/// Chances for each byte, which depend on the seed and on how many came before, and not on time.
#[derive(Debug)]
struct Hits {
    noise: Noise,
    chance: Seed,
    burst: u32,
}

impl Hits {
    fn hit(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Some(bursts) = self.noise.bursts {
            if self.burst == 0 && self.chance.below(u64::from(bursts.every.max(1))) == 0 {
                self.burst = 1 + self.chance.below(u64::from(bursts.bytes) * 2) as u32;
            }
            if self.burst > 0 {
                self.burst -= 1;
                out.push(byte ^ self.chance.next() as u8);
                return;
            }
        }
        let bits = if self.noise.framing { 10 } else { 8 };
        if self.chance.below(1_000_000) >= bits * u64::from(self.noise.bits_per_million) {
            out.push(byte);
            return;
        }
        match self.chance.below(bits) {
            bit @ 0..8 => out.push(byte ^ (1 << bit)),
            8 => {}
            _ => out.extend([byte, self.chance.next() as u8]),
        }
    }
}

/// Bytes that arrive, and when.
pub(super) type Arrivals = mpsc::UnboundedReceiver<(Instant, Vec<u8>)>;

/// The sending end of one way.
#[derive(Debug)]
pub(super) struct Way {
    line: Line,
    hits: Hits,
    /// When all that was given is sent.
    busy_until: Instant,
    arrivals: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
}

impl Way {
    /// One way of a line, and its far end. Ways with different numbers have noise of their own.
    pub(super) fn new(line: Line, number: u64) -> (Self, Arrivals) {
        let (arrivals, far) = mpsc::unbounded_channel();
        let hits = Hits {
            noise: line.noise,
            chance: Seed::new(line.seed.wrapping_mul(0x1000).wrapping_add(number)),
            burst: 0,
        };
        let way = Self {
            line,
            hits,
            busy_until: Instant::now(),
            arrivals,
        };
        (way, far)
    }

    fn duration(&self, bytes: usize) -> Duration {
        Duration::from_nanos(10_000_000_000 * bytes as u64 / u64::from(self.line.bits_per_second.max(1)))
    }

    /// How many bytes may be given now.
    pub(super) fn room(&self) -> usize {
        let queued = self.busy_until.saturating_duration_since(Instant::now());
        let queued = (queued.as_nanos() * u128::from(self.line.bits_per_second)).div_ceil(10_000_000_000);
        self.line.buffer.saturating_sub(queued as usize)
    }

    /// When there will be room.
    pub(super) fn ready_at(&self) -> Instant {
        // Half a buffer before it runs empty.
        self.busy_until
            - self
                .duration(self.line.buffer / 2)
                .min(self.busy_until - Instant::now())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        // What a hundredth of a second carries comes at once.
        let piece = (self.line.bits_per_second as usize / 1000).max(1);
        for piece in bytes.chunks(piece) {
            let mut out = Vec::with_capacity(piece.len() + 1);
            for byte in piece {
                self.hits.hit(*byte, &mut out);
            }
            self.busy_until = self.busy_until.max(Instant::now()) + self.duration(piece.len());
            // A modem that is gone hears nothing.
            let _ = self.arrivals.send((self.busy_until + self.line.latency, out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn through(line: Line, number: u64, bytes: &[u8]) -> (Vec<u8>, Duration) {
        let began = Instant::now();
        let (mut way, mut far) = Way::new(line, number);
        way.send(bytes);
        drop(way);
        let (mut heard, mut last) = (Vec::new(), began);
        while let Some((at, bytes)) = far.recv().await {
            heard.extend(bytes);
            last = at;
        }
        (heard, last - began)
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_takes_its_time() {
        let (heard, took) = through(Line::default(), 0, &[7; 960]).await;
        assert_eq!(heard, [7; 960]);
        assert_eq!(took.as_millis(), 1050);
        let (mut way, _far) = Way::new(Line::default(), 0);
        assert_eq!(way.room(), 1024);
        way.send(&[0; 1024]);
        assert_eq!(way.room(), 0);
        tokio::time::sleep_until(way.ready_at()).await;
        assert!((500..600).contains(&way.room()), "{}", way.room());
    }

    #[tokio::test(start_paused = true)]
    async fn noise_keeps_its_odds_and_replays() {
        let noise = |noise| Line {
            noise,
            ..Line::default()
        };
        let sent = vec![0x55; 100_000];
        let bits = noise(Noise {
            bits_per_million: 1000,
            ..Noise::default()
        });
        let (heard, _) = through(bits, 0, &sent).await;
        let hit = heard.iter().filter(|byte| **byte != 0x55).count();
        assert!(heard.len() == sent.len() && (700..900).contains(&hit), "{hit}");
        assert_eq!(heard, through(bits, 0, &sent).await.0);
        assert_ne!(heard, through(bits, 1, &sent).await.0);

        let framing = noise(Noise {
            bits_per_million: 1000,
            framing: true,
            bursts: None,
        });
        let (heard, _) = through(framing, 0, &sent).await;
        assert_ne!(heard.len(), sent.len());

        let bursts = noise(Noise {
            bursts: Some(Bursts { every: 1000, bytes: 5 }),
            ..Noise::default()
        });
        let (heard, _) = through(bursts, 0, &sent).await;
        let hit = heard.iter().filter(|byte| **byte != 0x55).count();
        assert!((300..900).contains(&hit), "{hit}");
    }
}
