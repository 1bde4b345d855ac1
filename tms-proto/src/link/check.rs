//! The check value of a frame (§3.4), and the mending of a single bit.

use crc32fast::Hasher;

/// Bytes of a check value.
pub(super) const SIZE: usize = 4;

/// The reflected polynomial of CRC-32 (ISO/IEC 13239).
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// A CRC-32 that begins with what both ends know and do not send: frames of another call do not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check(u32);

impl Check {
    /// The check of greetings, which come before anything is known.
    pub(super) const PLAIN: Self = Self(0);

    /// The check of frames behind this prefix.
    pub(super) fn after(prefix: &[u8]) -> Self {
        Self(crc32fast::hash(prefix))
    }

    pub(super) fn of(self, frame: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(frame);
        hasher.finalize()
    }

    /// Takes the check value off the end of `body` and compares it. Where exactly one bit of the body is wrong it is put
    /// right. `None` where the frame does not pass.
    pub(super) fn open(self, body: &mut [u8]) -> Option<Opened> {
        let (frame, value) = body.split_last_chunk_mut::<SIZE>()?;
        let syndrome = self.of(frame) ^ u32::from_be_bytes(*value);
        if syndrome == 0 {
            return Some(Opened::Whole);
        }
        if syndrome.count_ones() == 1 {
            // The check value itself was hit.
            return Some(Opened::Mended);
        }
        // What one wrong bit does to the check value, for each bit from the last to the first.
        let mut effect = 1;
        for byte in frame.iter_mut().rev() {
            for bit in (0..8).rev() {
                effect = step(effect);
                if effect == syndrome {
                    *byte ^= 1 << bit;
                    return Some(Opened::Mended);
                }
            }
        }
        None
    }
}

/// How a frame passed its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    Whole,
    /// One bit was wrong.
    Mended,
}

const fn step(register: u32) -> u32 {
    if register & 1 == 0 {
        register >> 1
    } else {
        register >> 1 ^ POLYNOMIAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn sealed(check: Check, frame: &[u8]) -> Vec<u8> {
        let mut body = frame.to_vec();
        body.extend(check.of(frame).to_be_bytes());
        body
    }

    #[test]
    fn the_check_is_the_usual_crc() {
        assert_eq!(Check::PLAIN.of(b"123456789"), 0xCBF4_3926);
        assert_eq!(Check::after(b"1234").of(b"56789"), 0xCBF4_3926);
    }

    #[test]
    fn any_single_bit_is_mended() {
        let frame: Vec<u8> = (0..=255).cycle().take(1_100).collect();
        for check in [Check::PLAIN, Check::after(b"a call")] {
            for frame in [&frame[..1], &frame[..5], &frame] {
                let right = sealed(check, frame);
                assert_eq!(check.open(&mut right.clone()), Some(Opened::Whole));
                for bit in 0..right.len() * 8 {
                    let mut hit = right.clone();
                    hit[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(check.open(&mut hit), Some(Opened::Mended), "bit {bit}");
                    assert_eq!(hit[..frame.len()], *frame, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn two_bits_are_never_taken_for_one() {
        let check = Check::after(b"a call");
        let right = sealed(check, &[0x5A; 40]);
        for one in 0..right.len() * 8 {
            for other in 0..one {
                let mut hit = right.clone();
                hit[one / 8] ^= 1 << (one % 8);
                hit[other / 8] ^= 1 << (other % 8);
                assert_eq!(check.open(&mut hit), None, "bits {one} and {other}");
            }
        }
    }

    #[test]
    fn another_call_is_another_check() {
        let mut body = sealed(Check::after(b"call 1"), b"a frame of some length");
        assert_eq!(Check::after(b"call 2").open(&mut body), None);
        assert_eq!(Check::PLAIN.open(&mut [1, 2, 3]), None);
    }
}
