//! Parties with keys and certificates, for whole sessions. The keys are test keys; see `tests/keys/README.md`.

use rsa::RsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::pss::BlindedSigningKey;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use sha2::Sha256;
use tms_proto::certificate::{Anchors, Authority, Certificate, CertificateBody, Date, Subject};
use tms_proto::code::{ActionKind, Representation, Role};
use tms_proto::credential::{CHANNEL_DOMAIN, ChannelCertificate, Checks, Credentials, Remembered, statement};
use tms_proto::digest::Digest;
use tms_proto::handshake::StaticKey;
use tms_proto::identity::Holder;
use tms_proto::message::Action;
use tms_proto::public_key::{PublicKey, signing_input};
use tms_proto::session::ServerIdentity;

/// The time in these tests, in seconds since 1970 UTC.
pub(crate) const NOW: u64 = 1_790_000_000;

const DAY: u64 = 86_400;

/// The parties' X25519 secrets.
pub(crate) const SERVER_STATIC: [u8; 32] = [11; 32];
pub(crate) const TERMINAL_STATIC: [u8; 32] = [12; 32];

pub(crate) struct Party {
    pub(crate) static_key: StaticKey,
    pub(crate) secret: [u8; 32],
    pub(crate) credentials: Credentials,
    pub(crate) role: Role,
}

impl Party {
    fn new(key: &RsaPrivateKey, subject: Subject, secret: [u8; 32]) -> Self {
        let root = key_of(include_str!("../keys/root.pem"));
        let role = subject.role();
        let body = CertificateBody {
            authority: Authority::from(public(&root).id()),
            key: public(key),
            subject,
            effective: Date::of_unix(NOW - 30 * DAY).unwrap(),
            expiry: Date::of_unix(NOW + 365 * DAY).unwrap(),
        };
        let signature = sign(&root, tms_proto::certificate::CERTIFICATE_DOMAIN, &body.to_be_signed());
        let certificate = Certificate::assemble(&body, &signature).unwrap();
        let static_key = StaticKey::from_secret(secret);
        let (epoch, not_before, not_after) = (20_717, NOW - DAY, NOW + 6 * DAY);
        let signed = statement(role, epoch, not_before, not_after, static_key.public(), &certificate);
        let signature = sign(key, CHANNEL_DOMAIN, &signed).into();
        let channel = ChannelCertificate {
            epoch,
            not_before,
            not_after,
            signature,
        };
        Self {
            static_key,
            secret,
            credentials: Credentials::new(certificate, channel),
            role,
        }
    }

    pub(crate) fn identity(&self) -> ServerIdentity {
        ServerIdentity {
            static_key: StaticKey::from_secret(self.secret),
            credentials: self.credentials.encode().clone(),
            id: self.credentials.id(),
        }
    }

    /// What a peer keeps that has verified this party before.
    pub(crate) fn remembered(&self) -> Remembered {
        let checks = Checks::of_terminal(NOW, 0);
        let static_key = self.static_key.public();
        self.credentials
            .verify(&anchors(), self.role, static_key, &checks)
            .unwrap()
            .remember()
            .clone()
    }
}

pub(crate) fn server() -> Party {
    let key = key_of(include_str!("../keys/server.pem"));
    let subject = Subject::Server {
        organisation: "Test Bank".to_owned(),
        group: "tms".to_owned(),
    };
    Party::new(&key, subject, SERVER_STATIC)
}

pub(crate) fn terminal() -> Party {
    let key = key_of(include_str!("../keys/terminal-1.pem"));
    let holder = Holder {
        vendor: "PAX".to_owned(),
        model: "P80".to_owned(),
        serial: "30012345".to_owned(),
    };
    Party::new(&key, Subject::Terminal(holder), TERMINAL_STATIC)
}

pub(crate) fn anchors() -> Anchors {
    Anchors::root(public(&key_of(include_str!("../keys/root.pem"))))
}

pub(crate) fn action(id: u64, object: Digest, size: u64) -> Action {
    Action {
        id,
        kind: ActionKind::Install,
        manifest: Some(Digest::of(b"manifest")),
        manifest_size: Some(700),
        object: Some(object),
        size: Some(size),
        representation: Some(Representation::Whole),
        base: None,
        depends_on: Vec::new(),
        download: None,
        install: None,
        preconditions: None,
        min_battery: None,
        restart: None,
        forced: None,
        prompt: None,
        on_error: None,
        priority: None,
        retry_delay: None,
        max_attempts: None,
        grant: None,
        component: None,
        target: None,
        max_postponed: None,
    }
}

fn key_of(pem: &str) -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_pem(pem).unwrap()
}

fn public(key: &RsaPrivateKey) -> PublicKey {
    PublicKey::new(key.to_public_key()).unwrap()
}

fn sign(key: &RsaPrivateKey, domain: &str, message: &[u8]) -> Vec<u8> {
    let key = BlindedSigningKey::<Sha256>::new_with_salt_len(key.clone(), 32);
    key.sign_with_rng(&mut rand_core::OsRng, &signing_input(domain, message))
        .to_vec()
}
