//! Randomness, from outside, so that a simulation replays.

/// Gives random bytes fit for keys.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`. No two calls give the same, and nobody can foresee what they give.
    fn fill(&self, bytes: &mut [u8]);
}

/// The random numbers of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// Where the operating system has no random numbers. No peer can bring that about, and to go on would mean to go on
    /// with keys that can be guessed.
    fn fill(&self, bytes: &mut [u8]) {
        #[expect(clippy::expect_used, reason = "a key without randomness is worse than no server")]
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_filled_and_differ() {
        let (mut one, mut two) = ([0; 32], [0; 32]);
        OsEntropy.fill(&mut one);
        OsEntropy.fill(&mut two);
        assert_ne!(one, two);
        assert_ne!(one, [0; 32]);
    }
}
