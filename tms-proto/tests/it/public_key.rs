//! Which RSA keys and signatures are taken (§10.1).

use crate::party::{private_key, public_key, sign};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};
use tms_proto::digest::Digest;
use tms_proto::public_key::{KeyError, PUBLIC_KEY, PublicKey, SignatureError};
use tms_proto::tlv::{DecodeError, DecodeErrorKind, Tag, Value, Writer, split};

const ALGORITHM: [u8; 10] = [4, 0, 0x7F, 0, 7, 2, 2, 2, 1, 4];

fn decode(bytes: &[u8]) -> Result<PublicKey, DecodeError> {
    let (element, rest) = split(bytes, 0)?;
    assert!(rest.is_empty());
    assert_eq!(element.tag, PUBLIC_KEY);
    PublicKey::read(element, &mut 0)
}

/// A key's encoding from its parts.
fn encode(algorithm: &[u8], modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.constructed(PUBLIC_KEY, |out| {
        out.bytes(Tag(0x06), algorithm);
        out.bytes(Tag(0x81), modulus);
        out.bytes(Tag(0x82), exponent);
    });
    out.into_vec()
}

/// An odd number of so many bits.
fn modulus(bits: usize) -> Vec<u8> {
    ((BigUint::from(1u8) << (bits - 1)) + BigUint::from(12345u32)).to_bytes_be()
}

#[test]
fn a_key_survives_and_is_named_by_its_encoding() {
    let key = public_key("vendor");
    let bytes = key.encode();
    let again = decode(&bytes).unwrap();
    assert_eq!((&again, again.bits()), (&key, 2048));
    assert_eq!(again.as_rsa(), key.as_rsa());
    assert_eq!(key.id().0, Digest::of(&bytes));
    assert_ne!(key.id(), public_key("acquirer").id());
    let short = key.id().0.short().to_string();
    assert_eq!(format!("{key:?}"), format!("PublicKey(2048 bits, {short})"));
}

#[test]
fn only_moduli_of_2048_to_4096_bits_are_taken() {
    for (bits, right) in [
        (512, false),
        (1024, false),
        (2040, false),
        (2047, false),
        (2048, true),
        (2049, false),
        (2052, false),
        (3072, true),
        (4096, true),
        (4097, false),
        (4104, false),
    ] {
        let number = BigUint::from_bytes_be(&modulus(bits));
        let key = RsaPublicKey::new_unchecked(number, BigUint::from(65537u32));
        assert_eq!(
            PublicKey::new(key).map(|_| ()),
            if right { Ok(()) } else { Err(KeyError::Modulus) },
            "{bits}"
        );
        assert_eq!(
            decode(&encode(&ALGORITHM, &modulus(bits), &[1, 0, 1])).is_ok(),
            right,
            "{bits}"
        );
    }
    let mut even = modulus(2048);
    *even.last_mut().unwrap() &= 0xFE;
    assert!(decode(&encode(&ALGORITHM, &even, &[1, 0, 1])).is_err());
    let key = RsaPublicKey::new_unchecked(BigUint::from_bytes_be(&even), BigUint::from(65537u32));
    assert_eq!(PublicKey::new(key), Err(KeyError::Modulus));
}

#[test]
fn only_the_exponent_65537_is_taken() {
    for exponent in [&[3u8][..], &[17], &[1, 0, 3], &[0, 1, 0, 1], &[]] {
        let error = decode(&encode(&ALGORITHM, &modulus(2048), exponent)).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::Value(Tag(0x82)));
    }
    let key = RsaPublicKey::new(private_key("vendor").n().clone(), BigUint::from(3u8)).unwrap();
    assert_eq!(PublicKey::new(key), Err(KeyError::Exponent));
}

#[test]
fn a_key_has_one_encoding() {
    let padded = [&[0][..], &modulus(2048)].concat();
    assert!(decode(&encode(&ALGORITHM, &padded, &[1, 0, 1])).is_err());
    assert!(decode(&encode(&[4, 0, 0x7F, 0, 7, 2, 2, 2, 1, 5], &modulus(2048), &[1, 0, 1])).is_err());
    let (element, _) = split(&encode(&ALGORITHM, &modulus(2048), &[1, 0, 1]), 0)
        .map(|(element, rest)| (element.value.to_vec(), rest.len()))
        .unwrap();
    let mut out = Writer::new();
    out.constructed(PUBLIC_KEY, |out| {
        out.raw(&element);
        out.uint(Tag(0x83), 1);
    });
    assert!(decode(&out.into_vec()).is_err());
}

#[test]
fn a_signature_is_of_one_key_domain_and_message() {
    let key = public_key("vendor");
    let signature = sign("vendor", "tms grant 1", b"message");
    assert_eq!(signature.len(), 256);
    assert_eq!(key.verify("tms grant 1", b"message", &signature), Ok(()));
    let refused = Err(SignatureError);
    assert_eq!(key.verify("tms grant 1", b"massage", &signature), refused);
    assert_eq!(key.verify("tms grant 2", b"message", &signature), refused);
    assert_eq!(
        public_key("vendor-2").verify("tms grant 1", b"message", &signature),
        refused
    );
    for index in (0..256).step_by(15) {
        let mut changed = signature.clone();
        changed[index] ^= 1;
        assert_eq!(key.verify("tms grant 1", b"message", &changed), refused);
    }
    assert_eq!(key.verify("tms grant 1", b"message", &signature[..255]), refused);
    assert_eq!(
        key.verify("tms grant 1", b"message", &[&[0][..], &signature].concat()),
        refused
    );
    assert_eq!(key.verify("tms grant 1", b"message", &[]), refused);
    assert_eq!(key.verify("tms grant 1", b"message", &[0; 256]), refused);
}

/// The same number plus the modulus would verify where nobody looks whether it is smaller than the modulus.
#[test]
fn a_signature_above_the_modulus_is_refused() {
    let key = public_key("vendor");
    let modulus = private_key("vendor").n().clone();
    // Signatures small enough that the sum still has 256 bytes are rare; try messages until there is one.
    let found = (0u32..200).find_map(|number| {
        let message = number.to_be_bytes();
        let signature = sign("vendor", "tms grant 1", &message);
        let sum = (BigUint::from_bytes_be(&signature) + &modulus).to_bytes_be();
        (sum.len() == 256).then_some((message, signature, sum))
    });
    let (message, signature, sum) = found.expect("one message in a few has such a signature");
    assert_eq!(key.verify("tms grant 1", &message, &signature), Ok(()));
    assert_eq!(key.verify("tms grant 1", &message, &sum), Err(SignatureError));
}
