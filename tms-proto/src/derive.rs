//! The pre-shared key of modes 2 and 4, derived from the terminal main-control key (protocol §10.5).
//!
//! NIST SP 800-108 in counter mode with AES-CMAC. A PIN pad does this inside, so that the key itself never leaves it.

use crate::secret::{Psk, Secret};
use aes::{Aes128, Aes256};
use cmac::{Cmac, Mac};
use zeroize::Zeroizing;

const LABEL: &[u8] = b"tms psk 1";
/// The bits of the result.
const BITS: [u8; 2] = [0x01, 0x00];

/// Whoever can compute AES-CMAC under a terminal main-control key: the key itself, of 16 or 32 bytes, or the hardware that
/// holds it.
pub trait MainKey {
    /// AES-CMAC over `parts`, one after the other.
    fn cmac(&self, parts: &[&[u8]]) -> [u8; 16];
}

impl MainKey for Secret<16> {
    fn cmac(&self, parts: &[&[u8]]) -> [u8; 16] {
        cmac(<Cmac<Aes128> as Mac>::new(self.expose().into()), parts)
    }
}

impl MainKey for Secret<32> {
    fn cmac(&self, parts: &[&[u8]]) -> [u8; 16] {
        cmac(<Cmac<Aes256> as Mac>::new(self.expose().into()), parts)
    }
}

/// The pre-shared key of a terminal in an epoch:
/// `CMAC(K, i ‖ "tms psk 1" ‖ 00 ‖ terminal ‖ epoch ‖ 0100)` for `i` = 1, 2, with the terminal's id in 8 bytes and the
/// epoch in 4, big-endian.
#[must_use]
pub fn terminal_psk(main_key: &impl MainKey, terminal: u64, epoch: u32) -> Psk {
    let mut key = Zeroizing::new([0; 32]);
    let (terminal, epoch) = (terminal.to_be_bytes(), epoch.to_be_bytes());
    for (counter, half) in (1..=2u8).zip(key.chunks_exact_mut(16)) {
        let block = Zeroizing::new(main_key.cmac(&[&[counter], LABEL, &[0], &terminal, &epoch, &BITS]));
        half.copy_from_slice(&*block);
    }
    Psk::new(*key)
}

fn cmac<M: Mac<OutputSize = cmac::digest::consts::U16>>(mac: M, parts: &[&[u8]]) -> [u8; 16] {
    parts.iter().fold(mac, Mac::chain_update).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4493, section 4: example 2 and 3 of AES-CMAC-128.
    #[test]
    fn aes_cmac_is_that_of_the_rfc() {
        let key = Secret::new(*b"\x2b\x7e\x15\x16\x28\xae\xd2\xa6\xab\xf7\x15\x88\x09\xcf\x4f\x3c");
        let block = hex::decode("6bc1bee22e409f96e93d7e117393172a").unwrap();
        assert_eq!(hex::encode(key.cmac(&[&block])), "070a16b46b4d4144f79bdd9dd04a287c");
        assert_eq!(key.cmac(&[&block[..3], &[], &block[3..]]), key.cmac(&[&block]));
        assert_eq!(hex::encode(key.cmac(&[])), "bb1d6929e95937287fa37d129b756746");
    }

    #[test]
    fn terminal_and_epoch_change_the_key() {
        let key = Secret::new([1; 16]);
        let psk = terminal_psk(&key, 1, 1);
        assert_ne!(psk, terminal_psk(&key, 2, 1));
        assert_ne!(psk, terminal_psk(&key, 1, 2));
        assert_ne!(psk, terminal_psk(&Secret::new([1; 32]), 1, 1));
    }
}
