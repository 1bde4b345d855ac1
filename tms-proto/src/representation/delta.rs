//! The stream of a delta (§9.7): controls, each with the bytes that it speaks of behind it.

use super::error::RepresentationError;
use alloc::vec::Vec;

/// The longest number, in bytes: 63 bits.
const MAX_NUMBER: u8 = 9;

/// One control: what comes next in the stream, and where in the base it is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// The byte of the base from which on it is added to: a delta begins at zero, and each control begins where the one
    /// before has ended, unless it goes elsewhere.
    pub at: u64,
    /// How many bytes of content are a byte of the base and a difference.
    pub diff: u64,
    /// How many bytes of content follow that are in the stream as they are.
    pub extra: u64,
}

impl Control {
    /// Writes the control: the stream's `diff` differences and then its `extra` bytes come behind it. `before` is where in the
    /// base the control before has ended.
    pub fn write(&self, before: u64, out: &mut Vec<u8>) {
        let seek = match self.at.checked_sub(before) {
            Some(forward) => forward << 1,
            None => ((before - self.at - 1) << 1) | 1,
        };
        for number in [seek, self.diff, self.extra] {
            write_number(number, out);
        }
    }

    /// Where in the base it ends.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.at.saturating_add(self.diff)
    }
}

/// Seven bits a byte, the highest first; all bytes but the last have their highest bit set.
fn write_number(number: u64, out: &mut Vec<u8>) {
    let groups = (64 - (number | 1).leading_zeros()).div_ceil(7);
    for group in (0..groups).rev() {
        let [.., low] = (number >> (7 * group)).to_be_bytes();
        out.push(low & 0x7F | if group > 0 { 0x80 } else { 0 });
    }
}

/// Reads a control byte by byte.
#[derive(Debug, Default)]
pub(super) struct ControlReader {
    numbers: [u64; 3],
    number: u8,
    length: u8,
}

impl ControlReader {
    /// Whether a control has begun.
    pub(super) const fn has_begun(&self) -> bool {
        self.number > 0 || self.length > 0
    }

    /// Takes a byte; gives the control that ends with it. `before` is where in the base the control before has ended, `left`
    /// how many bytes of content are still to come.
    pub(super) fn push(&mut self, byte: u8, before: u64, left: u64) -> Result<Option<Control>, RepresentationError> {
        let number = self
            .numbers
            .get_mut(usize::from(self.number))
            .ok_or(RepresentationError::Control)?;
        // The shortest form is the only one.
        if self.length == MAX_NUMBER || (self.length == 0 && byte == 0x80) {
            return Err(RepresentationError::Control);
        }
        *number = (*number << 7) | u64::from(byte & 0x7F);
        self.length += 1;
        if byte & 0x80 != 0 {
            return Ok(None);
        }
        (self.number, self.length) = (self.number + 1, 0);
        if self.number < 3 {
            return Ok(None);
        }
        let [seek, diff, extra] = core::mem::take(self).numbers;
        let at = if seek & 1 == 0 {
            before.checked_add(seek >> 1)
        } else {
            before.checked_sub((seek >> 1) + 1)
        };
        let control = Control {
            at: at.ok_or(RepresentationError::Base)?,
            diff,
            extra,
        };
        match diff.checked_add(extra) {
            None | Some(0) => return Err(RepresentationError::Control),
            Some(gives) if gives > left => return Err(RepresentationError::Long),
            Some(_) => {}
        }
        // That it ends within the base is found out when its bytes are asked for.
        if control.at.checked_add(diff).is_none() {
            return Err(RepresentationError::Base);
        }
        Ok(Some(control))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], before: u64, left: u64) -> Result<Option<Control>, RepresentationError> {
        let mut reader = ControlReader::default();
        for (index, byte) in bytes.iter().enumerate() {
            if let Some(control) = reader.push(*byte, before, left)? {
                assert_eq!(index + 1, bytes.len());
                assert!(!reader.has_begun());
                return Ok(Some(control));
            }
            assert!(reader.has_begun());
        }
        Ok(None)
    }

    #[test]
    fn numbers_have_seven_bits_a_byte_the_highest_first() {
        let written = |number| {
            let mut out = Vec::new();
            write_number(number, &mut out);
            out
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [127]);
        assert_eq!(written(128), [0x81, 0]);
        assert_eq!(written(300), [0x82, 0x2C]);
        assert_eq!(written((1 << 63) - 1).len(), 9);
    }

    #[test]
    fn what_a_control_may_not_say_is_refused() {
        use RepresentationError::{Base, Control, Long};
        // Ten forward, two differences, one byte more.
        let good = Ok(Some(super::Control {
            at: 15,
            diff: 2,
            extra: 1,
        }));
        assert_eq!(read(&[20, 2, 1], 5, 3), good);
        assert_eq!(read(&[20, 2, 1], 5, 2), Err(Long));
        // Six back from five.
        assert_eq!(read(&[11, 0, 1], 5, 3), Err(Base));
        assert_eq!(read(&[9, 0, 1], 5, 3).unwrap().unwrap().at, 0);
        // Nothing, and numbers that are not in their shortest form or too long.
        assert_eq!(read(&[0, 0, 0], 5, 3), Err(Control));
        assert_eq!(read(&[0x80, 20, 2, 1], 5, 3), Err(Control));
        assert_eq!(read(&[0xFF; 12], 5, 3), Err(Control));
        let most = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
        assert_eq!(read(&[&[0][..], &most, &most].concat(), 5, 3), Err(Long));
        assert_eq!(read(&[&most[..], &[1, 1]].concat(), 5, 3), Err(Base));
        let forward = [&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7E][..], &[1, 1]].concat();
        assert_eq!(read(&forward, u64::MAX - (1 << 61), 3), Err(Base));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            before in 0..1u64 << 40, at in 0..1u64 << 40, diff in 0..1u64 << 40, extra in 1..1u64 << 40,
        ) {
            let control = Control { at, diff, extra };
            let mut out = Vec::new();
            control.write(before, &mut out);
            prop_assert_eq!(read(&out, before, diff + extra), Ok(Some(control)));
            prop_assert_eq!(control.end(), at + diff);
        }
    }
}
