//! A serial line in virtual time: slow, far, noisy, and cut when it is to be.

use std::collections::VecDeque;

/// A small generator of numbers (SplitMix64).
#[derive(Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn of(&mut self, per_million: u64) -> bool {
        self.below(1_000_000) < per_million
    }

    /// How many tries until something happens that has this chance in each.
    fn gap(&mut self, chance: f64) -> u64 {
        if chance <= 0.0 {
            return u64::MAX;
        }
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (unit.max(1e-300).ln() / (1.0 - chance).ln()) as u64
    }
}

/// What a line does to the bytes that go one way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noise {
    /// The chance of a bit to be flipped.
    pub(crate) bit: f64,
    /// The bits of a byte that can be hit: with ten, a hit on the start bit loses the byte, one on the stop bit adds another.
    pub(crate) framed: bool,
    /// A burst begins every so many bytes on average, and lasts so many; half of the bits in it are flipped.
    pub(crate) burst: Option<(f64, f64)>,
    /// Chances in a million of a byte to be lost, and of another to come behind it.
    pub(crate) lost: u64,
    pub(crate) added: u64,
    /// The path carries seven bits: the highest comes as zero.
    pub(crate) seven: bool,
    /// Octets that do not arrive.
    pub(crate) swallowed: Vec<u8>,
}

/// One way of a line.
pub(crate) struct Way {
    noise: Noise,
    chance: Chance,
    next_flip: u64,
    burst: (u64, u64),
    offset: u64,
    /// Microseconds that a byte takes, and that it is on the way.
    byte: u64,
    latency: u64,
    free: u64,
    queue: VecDeque<(u64, u8)>,
    /// The most bytes that waited to go.
    pub(crate) longest: usize,
    /// When the first and the last byte arrived.
    pub(crate) first: Option<u64>,
    pub(crate) last: u64,
    pub(crate) carried: u64,
}

impl Way {
    pub(crate) fn new(seed: u64, bits_per_second: u64, latency_ms: u64, noise: Noise) -> Self {
        let mut chance = Chance::new(seed);
        let next_flip = chance.gap(noise.bit);
        let mut way = Self {
            noise,
            chance,
            next_flip,
            burst: (u64::MAX, u64::MAX),
            offset: 0,
            byte: 10_000_000 / bits_per_second,
            latency: latency_ms * 1000,
            free: 0,
            queue: VecDeque::new(),
            longest: 0,
            first: None,
            last: 0,
            carried: 0,
        };
        way.draw_burst(0);
        way
    }

    fn draw_burst(&mut self, from: u64) {
        if let Some((every, length)) = self.noise.burst {
            let start = from + 1 + self.chance.gap(1.0 / every);
            self.burst = (start, start + 1 + self.chance.gap(1.0 / length));
        }
    }

    /// Puts bytes on the line at `now`.
    pub(crate) fn put(&mut self, now: u64, bytes: &[u8]) {
        for byte in bytes {
            self.free = self.free.max(now) + self.byte;
            self.queue.push_back((self.free + self.latency, *byte));
        }
        let waiting = self.free.saturating_sub(now) / self.byte;
        self.longest = self.longest.max(waiting as usize);
    }

    /// When there is something to take: some bytes at once, as a receiver's buffer gives them.
    pub(crate) fn due(&self) -> Option<u64> {
        self.queue.get(7).or_else(|| self.queue.back()).map(|(at, _)| *at)
    }

    pub(crate) fn take(&mut self, now: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some((at, byte)) = self.queue.front().copied().filter(|(at, _)| *at <= now) {
            self.queue.pop_front();
            self.first.get_or_insert(at - self.latency - self.byte);
            self.last = at;
            self.carried += 1;
            self.pass(byte, &mut out);
        }
        out
    }

    fn pass(&mut self, byte: u8, out: &mut Vec<u8>) {
        let bits: u64 = if self.noise.framed { 10 } else { 8 };
        let mut passed = Some(byte);
        let mut added = None;
        while self.next_flip / bits == self.offset {
            match self.next_flip % bits {
                8 => passed = None,
                9 => added = Some(self.chance.next() as u8),
                bit => passed = passed.map(|byte| byte ^ 1 << bit),
            }
            self.next_flip = self.next_flip.saturating_add(1 + self.chance.gap(self.noise.bit));
        }
        if self.offset >= self.burst.0 {
            passed = passed.map(|byte| byte ^ self.chance.next() as u8);
            if self.offset + 1 >= self.burst.1 {
                self.draw_burst(self.offset);
            }
        }
        self.offset += 1;
        if self.chance.of(self.noise.lost) {
            passed = None;
        }
        if self.chance.of(self.noise.added) {
            added = Some(self.chance.next() as u8);
        }
        for octet in passed.into_iter().chain(added) {
            let octet = if self.noise.seven { octet & 0x7F } else { octet };
            if !self.noise.swallowed.contains(&octet) {
                out.push(octet);
            }
        }
    }
}
