//! Secret bytes: never printed, wiped when dropped, compared in constant time.

use crate::tlv::{DecodeError, Element, Tag, Value, Writer};
use core::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret of `N` bytes.
#[derive(Clone)]
pub struct Secret<const N: usize>(Zeroizing<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes the bytes in.
    #[must_use]
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the cipher that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>")
    }
}

impl<const N: usize> Value for Secret<N> {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &*self.0);
    }

    fn read(element: Element<'_>, unknown: &mut usize) -> Result<Self, DecodeError> {
        <[u8; N]>::read(element, unknown).map(Self::new)
    }
}

/// The pre-shared key of a handshake.
pub type Psk = Secret<32>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_and_not_shown() {
        let secret = Secret::new([0xA5; 4]);
        assert_eq!(secret, Secret::new([0xA5; 4]));
        assert_ne!(secret, Secret::new([0xA5, 0xA5, 0xA5, 0x25]));
        assert_eq!(std::format!("{secret:?}"), "Secret<4>");
        assert_eq!(secret.expose(), &[0xA5; 4]);
    }
}
