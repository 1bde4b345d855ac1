//! Randomness that replays.

use crate::entropy::Entropy;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives the same bytes for the same seed, in the same calls. Nothing that it makes is secret.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    blocks: AtomicU64,
}

impl SeededEntropy {
    /// The bytes of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            blocks: AtomicU64::new(0),
        }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block = self.blocks.fetch_add(1, Ordering::Relaxed);
            let digest = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(block.to_be_bytes())
                .finalize();
            chunk.copy_from_slice(&digest[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let draw = |seed| {
            let entropy = SeededEntropy::new(seed);
            let mut bytes = [[0; 40]; 3];
            bytes.iter_mut().for_each(|bytes| entropy.fill(bytes));
            bytes
        };
        let bytes = draw(1);
        assert_eq!(bytes, draw(1));
        assert_ne!(bytes, draw(2));
        assert!(bytes[0] != bytes[1] && bytes[1] != bytes[2] && bytes[0][..8] != bytes[0][32..]);
    }
}
