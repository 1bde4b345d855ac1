//! The Noise exchange of both sides (§4.3 to §4.5), by `snow`, with a resolver of our own.

use super::{MAX_MESSAGE, Mode, Suite};
use crate::record::Records;
use crate::secret::Psk;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use curve25519_dalek::montgomery::MontgomeryPoint;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What the prologue begins with; the hello's bytes follow.
const PROLOGUE: &[u8] = b"tms/1";

/// A public key in the clear, one that is sealed, and the tag of a payload, in bytes.
const KEY: usize = 32;
const SEALED_KEY: usize = 48;
const TAG: usize = 16;

/// What Noise adds to a payload at most.
pub(super) const OVERHEAD: usize = KEY + SEALED_KEY + TAG;

/// An X25519 key pair: what a channel certificate vouches for.
#[derive(Clone)]
pub struct StaticKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl StaticKey {
    /// The pair of this secret: 32 random bytes.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let public = MontgomeryPoint::mul_base_clamped(secret).to_bytes();
        Self {
            secret: Zeroizing::new(secret),
            public,
        }
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKey").finish_non_exhaustive()
    }
}

/// Why a handshake does not go on. It says no more than the peer may know: there is one value for everything that a
/// peer can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer's message is not what it must be: too long or short, a wrong key, or changed on the way.
    #[error("handshake message refused")]
    Refused,
    /// The payload makes the message longer than [`MAX_MESSAGE`], or there must be none in it. The handshake can go on.
    #[error("handshake payload does not fit")]
    Payload,
    /// The keys given are not those that the mode needs, and only these.
    #[error("the mode needs other keys")]
    Keys,
    /// The call is out of order, or the handshake has failed before.
    #[error("handshake call out of order")]
    Order,
}

/// The terminal's side.
pub struct Initiator(Exchange);

impl Initiator {
    /// Begins a handshake. `hello` is the encoded hello exactly as it will be sent; `ephemeral` 32 random bytes that are
    /// never used again.
    ///
    /// # Errors
    /// [`HandshakeError::Keys`].
    pub fn new(
        hello: &[u8],
        mode: Mode,
        suite: Suite,
        static_key: Option<&StaticKey>,
        psk: Option<&Psk>,
        ephemeral: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        Exchange::new(Side::Initiator, hello, mode, suite, static_key, psk, ephemeral).map(Self)
    }

    /// Makes Noise message 1. In modes 1 and 4 the payload must be empty: it would go in the clear.
    ///
    /// # Errors
    /// [`HandshakeError::Payload`], [`HandshakeError::Order`].
    pub fn first(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.0.write(0, payload)
    }

    /// Reads Noise message 2; gives its payload.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`], [`HandshakeError::Order`].
    pub fn second(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.0.read(1, message)
    }

    /// Makes Noise message 3, in modes 1 and 4.
    ///
    /// # Errors
    /// [`HandshakeError::Payload`], [`HandshakeError::Refused`], [`HandshakeError::Order`].
    pub fn third(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.0.write(2, payload)
    }

    /// The server's static key, once message 2 has proved it.
    #[must_use]
    pub fn remote_static(&self) -> Option<[u8; 32]> {
        self.0.remote_static()
    }

    /// The handshake hash: names this session, and nothing else, once the handshake is done. All zero after a failure.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash()
    }

    /// Ends the handshake: gives the records.
    ///
    /// # Errors
    /// [`HandshakeError::Order`].
    pub fn finish(self) -> Result<Records, HandshakeError> {
        self.0.finish()
    }
}

/// The server's side.
pub struct Responder(Exchange);

impl Responder {
    /// Begins a handshake. `hello` is the hello exactly as it was received; `ephemeral` 32 random bytes that are never
    /// used again.
    ///
    /// # Errors
    /// [`HandshakeError::Keys`].
    pub fn new(
        hello: &[u8],
        mode: Mode,
        suite: Suite,
        static_key: Option<&StaticKey>,
        psk: Option<&Psk>,
        ephemeral: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        Exchange::new(Side::Responder, hello, mode, suite, static_key, psk, ephemeral).map(Self)
    }

    /// Reads Noise message 1; gives its payload. In modes 2 and 3 the message may be a replay: the peer is not proved
    /// to be alive before its first record (§4.5).
    ///
    /// # Errors
    /// [`HandshakeError::Refused`], [`HandshakeError::Order`].
    pub fn first(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.0.read(0, message)
    }

    /// Makes Noise message 2.
    ///
    /// # Errors
    /// [`HandshakeError::Payload`], [`HandshakeError::Refused`] where the key in message 1 was no key,
    /// [`HandshakeError::Order`].
    pub fn second(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.0.write(1, payload)
    }

    /// Reads Noise message 3, in modes 1 and 4; gives its payload.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`], [`HandshakeError::Order`].
    pub fn third(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.0.read(2, message)
    }

    /// The terminal's static key, once message 3 has proved it.
    #[must_use]
    pub fn remote_static(&self) -> Option<[u8; 32]> {
        self.0.remote_static()
    }

    /// The handshake hash: names this session, and nothing else, once the handshake is done. All zero after a failure.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash()
    }

    /// Ends the handshake: gives the records.
    ///
    /// # Errors
    /// [`HandshakeError::Order`].
    pub fn finish(self) -> Result<Records, HandshakeError> {
        self.0.finish()
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("mode", &self.0.mode)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("mode", &self.0.mode)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Initiator,
    Responder,
}

struct Exchange {
    mode: Mode,
    /// The length of the hello, which goes before message 1.
    hello: usize,
    /// How many messages have passed.
    passed: u8,
    /// Gone after a failure, so that nothing can be tried a second time with the same ephemeral key.
    state: Option<Box<HandshakeState>>,
}

impl Exchange {
    fn new(
        side: Side,
        hello: &[u8],
        mode: Mode,
        suite: Suite,
        static_key: Option<&StaticKey>,
        psk: Option<&Psk>,
        ephemeral: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        if static_key.is_some() != mode.has_static() || psk.is_some() != mode.has_psk() {
            return Err(HandshakeError::Keys);
        }
        let resolver = Resolver {
            ephemeral: Zeroizing::new(ephemeral),
            static_key: static_key.cloned(),
        };
        let state = build(side, hello, mode, suite, psk, resolver).map_err(|_| HandshakeError::Keys)?;
        Ok(Self {
            mode,
            hello: hello.len(),
            passed: 0,
            state: Some(Box::new(state)),
        })
    }

    fn write(&mut self, number: u8, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let room = self.room(number);
        let (_, state) = self.turn(number)?;
        if payload.len() > room {
            return Err(HandshakeError::Payload);
        }
        let mut message = vec![0; payload.len() + OVERHEAD];
        let Ok(length) = state.write_message(payload, &mut message) else {
            // The peer's key was a point of low order.
            self.fail();
            return Err(HandshakeError::Refused);
        };
        self.passed = number + 1;
        message.truncate(length);
        Ok(message)
    }

    /// The longest payload of this message.
    fn room(&self, number: u8) -> usize {
        let before = match (number, self.mode.has_static()) {
            // It would go in the clear.
            (0, true) => return 0,
            (0, false) => self.hello + KEY + TAG,
            (1, true) => KEY + SEALED_KEY + TAG,
            (1, false) => KEY + TAG,
            _ => SEALED_KEY + TAG,
        };
        MAX_MESSAGE.saturating_sub(1 + before)
    }

    fn read(&mut self, number: u8, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let (mode, state) = self.turn(number)?;
        let mut payload = Vec::new();
        let mut result = None;
        if message.len() <= MAX_MESSAGE {
            payload = vec![0; message.len()];
            result = state.read_message(message, &mut payload).ok();
        }
        match result {
            Some(length) if length == 0 || number != 0 || !mode.has_static() => {
                self.passed = number + 1;
                payload.truncate(length);
                Ok(payload)
            }
            _ => {
                self.fail();
                Err(HandshakeError::Refused)
            }
        }
    }

    fn turn(&mut self, number: u8) -> Result<(Mode, &mut HandshakeState), HandshakeError> {
        match &mut self.state {
            Some(state) if self.passed == number && !state.is_handshake_finished() => Ok((self.mode, state)),
            _ => Err(HandshakeError::Order),
        }
    }

    fn remote_static(&self) -> Option<[u8; 32]> {
        self.state
            .as_ref()
            .and_then(|state| state.get_remote_static())
            .and_then(|key| key.try_into().ok())
    }

    fn hash(&self) -> [u8; 32] {
        let hash = self
            .state
            .as_ref()
            .and_then(|state| state.get_handshake_hash().try_into().ok());
        hash.unwrap_or_default()
    }

    fn finish(mut self) -> Result<Records, HandshakeError> {
        let mut state = self.state.take().ok_or(HandshakeError::Order)?;
        wipe(&mut state);
        state
            .into_transport_mode()
            .map(Records::new)
            .map_err(|_| HandshakeError::Order)
    }

    fn fail(&mut self) {
        if let Some(mut state) = self.state.take() {
            wipe(&mut state);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.fail();
    }
}

/// `snow` does not wipe the pre-shared key: write over it.
fn wipe(state: &mut HandshakeState) {
    for position in [0, 3] {
        let _ = state.set_psk(position, &[0; 32]);
    }
    core::hint::black_box(state);
}

fn build(
    side: Side,
    hello: &[u8],
    mode: Mode,
    suite: Suite,
    psk: Option<&Psk>,
    resolver: Resolver,
) -> Result<HandshakeState, snow::Error> {
    let (pattern, position) = match mode {
        Mode::Rsa => ("XX", 0),
        Mode::MainKey | Mode::Ticket => ("NNpsk0", 0),
        Mode::Both => ("XXpsk3", 3),
    };
    let cipher = match suite {
        Suite::ChaChaPoly => "ChaChaPoly",
        Suite::AesGcm => "AESGCM",
    };
    let name = format!("Noise_{pattern}_25519_{cipher}_SHA256");
    let prologue = [PROLOGUE, hello].concat();
    let static_key = resolver.static_key.clone();
    let mut builder = Builder::with_resolver(name.parse()?, Box::new(resolver)).prologue(&prologue)?;
    if let Some(key) = &static_key {
        builder = builder.local_private_key(&*key.secret)?;
    }
    if let Some(psk) = psk {
        builder = builder.psk(position, psk.expose())?;
    }
    match side {
        Side::Initiator => builder.build_initiator(),
        Side::Responder => builder.build_responder(),
    }
}

/// Gives `snow` our key agreement, which refuses low-order points and wipes its keys, ciphers that wipe theirs, and no
/// randomness but the caller's.
struct Resolver {
    ephemeral: Zeroizing<[u8; 32]>,
    static_key: Option<StaticKey>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 {
                known: self.static_key.clone(),
                pair: None,
            })),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        #[cfg(feature = "ring")]
        if let Some(hash) = snow::resolvers::RingResolver.resolve_hash(choice) {
            return Some(hash);
        }
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        #[cfg(feature = "ring")]
        if let Some(cipher) = snow::resolvers::RingResolver.resolve_cipher(choice) {
            return Some(Box::new(Wiping(cipher)));
        }
        DefaultResolver
            .resolve_cipher(choice)
            .map(|cipher| -> Box<dyn Cipher> { Box::new(Wiping(cipher)) })
    }
}

/// Gives the caller's bytes, once.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        if out.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        out.copy_from_slice(&*bytes);
        Ok(())
    }
}

/// X25519. `snow`'s own takes low-order points, and works out the public half of a static key at each handshake.
struct X25519 {
    known: Option<StaticKey>,
    pair: Option<StaticKey>,
}

impl X25519 {
    const NONE: [u8; 32] = [0; 32];
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        let known = self.known.take().filter(|known| known.secret.ct_eq(secret).into());
        let pair = known.or_else(|| secret.try_into().ok().map(StaticKey::from_secret));
        self.pair = pair;
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        random.try_fill_bytes(&mut *secret)?;
        self.known = None;
        self.pair = Some(StaticKey::from_secret(*secret));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&Self::NONE, |pair| &pair.public)
    }

    fn privkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&Self::NONE, |pair| &*pair.secret)
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let pair = self.pair.as_ref().ok_or(snow::Error::Dh)?;
        let public = public.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*pair.secret).to_bytes());
        if shared.ct_eq(&Self::NONE).into() {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..32).ok_or(snow::Error::Dh)?.copy_from_slice(&*shared);
        Ok(())
    }
}

/// A cipher whose key is written over when it is dropped.
struct Wiping(Box<dyn Cipher>);

impl Cipher for Wiping {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.set(key);
    }

    fn encrypt(&self, nonce: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.0.encrypt(nonce, ad, plaintext, out)
    }

    fn decrypt(&self, nonce: u64, ad: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, snow::Error> {
        self.0.decrypt(nonce, ad, ciphertext, out)
    }

    fn rekey(&mut self) {
        self.0.rekey();
    }
}

impl Drop for Wiping {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points of low order on the curve and its twist, with those that are written above the prime.
    fn low_order() -> [[u8; 32]; 7] {
        let point = |text: &str| <[u8; 32]>::try_from(hex::decode(text).unwrap()).unwrap();
        [
            [0; 32],
            point("0100000000000000000000000000000000000000000000000000000000000000"),
            point("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
            point("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
            point("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            point("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            point("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ]
    }

    #[test]
    fn points_of_low_order_are_refused() {
        let mut dh = X25519 {
            known: None,
            pair: None,
        };
        dh.set(&[0x42; 32]);
        let mut out = [0; 56];
        for point in low_order() {
            assert_eq!(dh.dh(&point, &mut out), Err(snow::Error::Dh), "{point:02x?}");
        }
        assert_eq!(dh.dh(&StaticKey::from_secret([7; 32]).public(), &mut out), Ok(()));
    }

    #[test]
    fn a_low_order_ephemeral_key_ends_the_handshake_on_both_sides() {
        let key = StaticKey::from_secret([1; 32]);
        for point in low_order() {
            let mut server = Responder::new(b"", Mode::Rsa, Suite::ChaChaPoly, Some(&key), None, [2; 32]).unwrap();
            assert_eq!(server.first(&point), Ok(Vec::new()));
            assert_eq!(server.second(b""), Err(HandshakeError::Refused));
            assert_eq!(server.second(b""), Err(HandshakeError::Order));

            let mut terminal = Initiator::new(b"", Mode::Rsa, Suite::ChaChaPoly, Some(&key), None, [3; 32]).unwrap();
            terminal.first(b"").unwrap();
            let message = [&point[..], &[0; 64]].concat();
            assert_eq!(terminal.second(&message), Err(HandshakeError::Refused));
        }
    }

    #[test]
    fn the_ephemeral_bytes_are_given_once() {
        let mut random = Once(Some(Zeroizing::new([5; 32])));
        let mut out = [0; 32];
        assert_eq!(random.try_fill_bytes(&mut out), Ok(()));
        assert_eq!(out, [5; 32]);
        assert_eq!(random.try_fill_bytes(&mut out), Err(snow::Error::Rng));
    }

    #[test]
    fn a_static_key_is_worked_out_once_and_not_shown() {
        let key = StaticKey::from_secret([0x77; 32]);
        let mut dh = X25519 {
            known: Some(key.clone()),
            pair: None,
        };
        dh.set(&[0x77; 32]);
        assert_eq!(dh.pubkey(), key.public());
        let mut other = X25519 {
            known: Some(key.clone()),
            pair: None,
        };
        other.set(&[0x78; 32]);
        assert_eq!(other.pubkey(), StaticKey::from_secret([0x78; 32]).public());
        assert_eq!(format!("{key:?}"), "StaticKey { .. }");
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn x25519_is_that_of_the_rfc() {
        let bytes = |text: &str| <[u8; 32]>::try_from(hex::decode(text).unwrap()).unwrap();
        let mut bob = X25519 {
            known: None,
            pair: None,
        };
        bob.set(&bytes(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        ));
        assert_eq!(
            bob.pubkey(),
            bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
        );
        let mut shared = [0; 32];
        let alice = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        bob.dh(&alice, &mut shared).unwrap();
        assert_eq!(
            shared,
            bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        );
    }

    #[cfg(feature = "ring")]
    #[test]
    fn ring_and_the_default_agree() {
        use snow::resolvers::RingResolver;
        let (key, ad, plaintext) = ([3; 32], [4; 32], [5; 100]);
        for choice in [CipherChoice::ChaChaPoly, CipherChoice::AESGCM] {
            let mut sealed = Vec::new();
            let resolvers: [&dyn CryptoResolver; 2] = [&RingResolver, &DefaultResolver];
            for resolver in resolvers {
                let mut cipher = resolver.resolve_cipher(&choice).unwrap();
                cipher.set(&key);
                cipher.rekey();
                let mut out = [0; 116];
                assert_eq!(cipher.encrypt(0x0102_0304, &ad, &plaintext, &mut out), 116);
                sealed.push(out);
            }
            assert_eq!(sealed[0], sealed[1]);
        }
    }
}
