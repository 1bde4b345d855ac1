//! Stable chance: the same for the same names, on every machine and in every version.

use crate::store::TerminalId;
use sha2::{Digest as _, Sha256};

/// A number that is spread evenly over terminals, and the same for the same salt and terminal for ever.
pub(super) fn stable(salt: u64, terminal: TerminalId) -> u64 {
    let mut hash = Sha256::new();
    hash.update(salt.to_be_bytes());
    hash.update(terminal.0.to_be_bytes());
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_never_changes() {
        // Computed once by another program: SHA-256 of sixteen bytes, the first eight of it.
        assert_eq!(stable(1, TerminalId(2)), 0x8c76_54ec_fd7b_0b62);
        assert_ne!(stable(1, TerminalId(2)), stable(2, TerminalId(1)));
    }
}
