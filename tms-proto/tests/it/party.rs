//! The parties of the tests: their keys (`tests/keys`), certificates and credentials, all made the same each time.

use rand_core::{CryptoRng, RngCore};
use rsa::RsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::pss::BlindedSigningKey;
use rsa::sha2::Sha256;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};
use tms_proto::certificate::{Anchors, Certificate, CertificateBody, Date, Subject};
use tms_proto::credential::{CHANNEL_DOMAIN, ChannelCertificate, Credentials, statement};
use tms_proto::digest::Digest;
use tms_proto::handshake::StaticKey;
use tms_proto::identity::Holder;
use tms_proto::public_key::{PublicKey, signing_input};

/// 2026-03-10 12:00 UTC: the time at which the tests take place.
pub(crate) const NOW: u64 = 1_773_144_000;

/// Random numbers that are the same each time: SHA-256 of a seed and a counter.
pub(crate) struct Seeded {
    seed: Digest,
    counter: u64,
}

impl Seeded {
    pub(crate) fn new(seed: &[u8]) -> Self {
        Self {
            seed: Digest::of(seed),
            counter: 0,
        }
    }
}

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.counter += 1;
            let block = Digest::of(&[&self.seed.0[..], &self.counter.to_be_bytes()].concat());
            chunk.copy_from_slice(&block.0[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Seeded {}

/// The path of a key.
pub(crate) fn key_path(name: &str) -> String {
    format!("{}/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

/// The private key of this name.
pub(crate) fn private_key(name: &str) -> RsaPrivateKey {
    static KEYS: OnceLock<Mutex<HashMap<String, RsaPrivateKey>>> = OnceLock::new();
    let mut keys = KEYS.get_or_init(Mutex::default).lock().unwrap();
    let load = || RsaPrivateKey::read_pkcs8_pem_file(key_path(name)).unwrap();
    keys.entry(name.to_owned()).or_insert_with(load).clone()
}

/// Its public half.
pub(crate) fn public_key(name: &str) -> PublicKey {
    PublicKey::new(private_key(name).to_public_key()).unwrap()
}

/// Its signature, with a salt that depends on key, domain and message alone.
pub(crate) fn sign(name: &str, domain: &str, message: &[u8]) -> Vec<u8> {
    let input = signing_input(domain, message);
    let mut random = Seeded::new(&[name.as_bytes(), &input].concat());
    let key = BlindedSigningKey::<Sha256>::new(private_key(name));
    key.sign_with_rng(&mut random, &input).to_vec()
}

/// A terminal's holder reference.
pub(crate) fn holder(number: u8) -> Holder {
    Holder {
        vendor: "PAX".into(),
        model: "P80".into(),
        serial: format!("8012340{number}"),
    }
}

pub(crate) fn terminal(number: u8) -> Subject {
    Subject::Terminal(holder(number))
}

pub(crate) fn server() -> Subject {
    Subject::Server {
        organisation: "UMS".into(),
        group: "hq".into(),
    }
}

/// What a certificate says by default: valid in 2026 to 2030.
pub(crate) fn body(issuer: &str, name: &str, subject: Subject) -> CertificateBody {
    CertificateBody {
        authority: public_key(issuer).id().into(),
        key: public_key(name),
        subject,
        effective: Date::new(2026, 1, 1).unwrap(),
        expiry: Date::new(2030, 12, 31).unwrap(),
    }
}

pub(crate) fn issue(issuer: &str, body: &CertificateBody) -> Certificate {
    let signature = sign(issuer, tms_proto::certificate::CERTIFICATE_DOMAIN, &body.to_be_signed());
    Certificate::assemble(body, &signature).unwrap()
}

pub(crate) fn certificate(issuer: &str, name: &str, subject: Subject) -> Certificate {
    issue(issuer, &body(issuer, name, subject))
}

/// A party with an RSA identity and a static key vouched for by it: for a day from [`NOW`] on.
pub(crate) struct Party {
    pub(crate) secret: [u8; 32],
    pub(crate) static_key: StaticKey,
    pub(crate) credentials: Credentials,
}

pub(crate) fn party(name: &str, subject: Subject) -> Party {
    let secret = Digest::of(name.as_bytes()).0;
    let static_key = StaticKey::from_secret(secret);
    let certificate = certificate("root", name, subject);
    let credentials = credentials(name, certificate, 1, NOW, NOW + 86_400, static_key.public());
    Party {
        secret,
        static_key,
        credentials,
    }
}

pub(crate) fn credentials(
    name: &str,
    certificate: Certificate,
    epoch: u32,
    not_before: u64,
    not_after: u64,
    static_key: [u8; 32],
) -> Credentials {
    let role = certificate.body().subject.role();
    let message = statement(role, epoch, not_before, not_after, static_key, &certificate);
    let signature = sign(name, CHANNEL_DOMAIN, &message).into();
    Credentials::new(
        certificate,
        ChannelCertificate {
            epoch,
            not_before,
            not_after,
            signature,
        },
    )
}

pub(crate) fn anchors() -> Anchors {
    Anchors::root(public_key("root"))
}
