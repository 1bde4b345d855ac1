//! Randomness that replays: the same seed gives the same numbers, everywhere and for ever.

/// A small generator of numbers (SplitMix64). Not for anything secret.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero where `bound` is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        match self.next().checked_rem(bound) {
            Some(number) => number,
            None => 0,
        }
    }

    /// True `per_mille` times in a thousand.
    pub const fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        // the reference values of SplitMix64 for seed 1234567
        let mut seed = Seed::new(1_234_567);
        assert_eq!(
            [seed.next(), seed.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn chance_keeps_its_odds() {
        let mut seed = Seed::new(1);
        let hits = (0..10_000).filter(|_| seed.chance(250)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!(!(0..1000).any(|_| seed.chance(0)));
        assert!((0..1000).all(|_| seed.chance(1000)));
    }
}
