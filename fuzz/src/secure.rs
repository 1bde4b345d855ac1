//! Bodies for everything that keys have to do with.

use tms_proto::certificate::{Anchors, Certificate, CertificateError, Validity};
use tms_proto::code::Role;
use tms_proto::credential::{Checks, Credentials, Remembered};
use tms_proto::handshake::{
    Busy, HandshakeError, Hello, Initiator, MAX_HELLO, Mode, Patience, Refuse, Responder, StaticKey, Suite,
};
use tms_proto::package::{
    BlockMap, ContentCheck, PackageError, PackageFile, Parsed, Signable, Signed, SignedGrant, SignedManifest,
    SignedTrust, TrustStore,
};
use tms_proto::record::{Content, MAX_PLAINTEXT, OVERHEAD, RecordError, Records};
use tms_proto::secret::Psk;
use tms_proto::tlv::Structure;

/// The keys of the vectors, so that their messages are good seeds.
const PSK: [u8; 32] = [0x33; 32];
const TERMINAL_EPHEMERAL: [u8; 32] = [0x44; 32];
const SERVER_EPHEMERAL: [u8; 32] = [0x55; 32];

/// The handshake (§4): the clear messages, and both sides fed with whatever comes. The data is a hello, Noise message 1
/// behind its length in two bytes, and the other side's message.
pub fn handshake(data: &[u8]) {
    clear(Busy::decode(data), |busy| Busy::decode(&busy.encode()));
    clear(Refuse::decode(data), |refuse| Refuse::decode(&refuse.encode()));
    clear(Patience::decode(data), |patience| Patience::decode(&patience.encode()));

    let (hello, used) = match Hello::decode(data) {
        Ok(hello) => hello,
        Err(error) => return assert!(error.offset <= data.len()),
    };
    assert!(used <= MAX_HELLO && used <= data.len());
    let again = hello.encode();
    assert_eq!(Hello::decode(&again), Ok((hello.clone(), again.len())));
    assert!(hello.record_limit() <= MAX_PLAINTEXT);

    let (bytes, rest) = data.split_at(used);
    let [high, low, rest @ ..] = rest else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (first, other) = rest.split_at(length);
    let mode = hello.mode;
    let suite = hello.suite().unwrap_or(Suite::ChaChaPoly);
    let psk = Psk::new(PSK);
    let psk = mode.has_psk().then_some(&psk);
    let key = StaticKey::from_secret([0x22; 32]);
    let key = mode.has_static().then_some(&key);

    let mut server = Responder::new(bytes, mode, suite, key, psk, SERVER_EPHEMERAL).expect("the keys of the mode");
    match server.first(first) {
        Ok(payload) => {
            assert!(payload.len() < first.len() && (payload.is_empty() || !mode.has_static()));
            if server.second(b"answer").is_ok() && mode.has_static() {
                assert_eq!(server.remote_static(), None);
                assert_eq!(server.third(other).is_ok(), server.remote_static().is_some());
            }
        }
        Err(error) => {
            assert_eq!(error, HandshakeError::Refused);
            assert_eq!(server.first(first), Err(HandshakeError::Order));
            assert_eq!(server.second(b""), Err(HandshakeError::Order));
        }
    }

    let mut terminal = Initiator::new(bytes, mode, suite, key, psk, TERMINAL_EPHEMERAL).expect("the keys of the mode");
    terminal.first(b"").expect("an empty payload fits");
    if terminal.second(other).is_err() {
        assert_eq!((terminal.hash(), terminal.remote_static()), ([0; 32], None));
        assert!(terminal.finish().is_err());
    }
}

fn clear<T: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(
    read: Result<T, E>,
    again: impl Fn(&T) -> Result<T, E>,
) {
    if let Ok(value) = read {
        assert_eq!(again(&value).as_ref(), Ok(&value));
    }
}

fn records() -> (Records, Records) {
    let psk = Psk::new(PSK);
    let suite = Suite::ChaChaPoly;
    let mut terminal = Initiator::new(b"", Mode::Ticket, suite, None, Some(&psk), TERMINAL_EPHEMERAL).expect("keys");
    let mut server = Responder::new(b"", Mode::Ticket, suite, None, Some(&psk), SERVER_EPHEMERAL).expect("keys");
    server.first(&terminal.first(b"").expect("it fits")).expect("honest");
    terminal.second(&server.second(b"").expect("it fits")).expect("honest");
    (terminal.finish().expect("done"), server.finish().expect("done"))
}

/// Records (§5): what is sealed is opened, and whatever comes from elsewhere is refused for good. The first byte is the
/// content, the second the place of a changed byte.
pub fn record(data: &[u8]) {
    let [content, place, body @ ..] = data else { return };
    let (mut terminal, mut server) = records();
    let content = Content::from_code(*content).unwrap_or(Content::Message);
    let mut sealed = vec![0xEE];
    if body.len() > terminal.max_body() {
        assert_eq!(terminal.seal(content, body, &mut sealed), Err(RecordError::TooLong));
        return assert_eq!(sealed, [0xEE]);
    }
    let (head, tail) = body.split_at(usize::from(*place).min(body.len()));
    terminal
        .seal_parts(content, &[head, tail], &mut sealed)
        .expect("it fits");
    assert_eq!(sealed.len(), 1 + body.len() + OVERHEAD);
    assert_eq!(server.open(&sealed[1..]), Ok((content, body.to_vec().into())));

    assert_eq!(terminal.open(body), Err(RecordError::Refused));
    assert_eq!(terminal.open(body), Err(RecordError::Closed));
    let mut next = Vec::new();
    terminal.seal(content, body, &mut next).expect("it fits");
    let index = usize::from(*place) % next.len();
    next[index] ^= 1;
    assert_eq!(server.open(&next), Err(RecordError::Refused));
    next[index] ^= 1;
    assert_eq!(server.open(&next), Err(RecordError::Closed));
}

/// Certificates, credentials and what is kept of them (§10).
pub fn credential(data: &[u8]) {
    match Certificate::decode(data) {
        Ok(certificate) => {
            assert_eq!(&certificate.raw()[..], data);
            let body = certificate.body();
            let signed = body.to_be_signed();
            assert!(signed.len() < data.len(), "the encoding is minimal");
            let rebuilt = Certificate::assemble(body, &[1; 256]).expect("what was read can be written");
            assert_eq!(rebuilt.body(), body);
            let none = certificate.verify(&Anchors::default(), Validity::Unchecked);
            assert_eq!(none, Err(CertificateError::UnknownIssuer));
            let _ = certificate.verify(&Anchors::root(body.key.clone()), Validity::At(1_773_144_000));
        }
        Err(error) => assert!(error.offset <= data.len()),
    }
    match Credentials::decode(data) {
        Ok(credentials) => {
            assert_eq!(&credentials.encode()[..], data);
            let anchors = Anchors::root(credentials.certificate().body().key.clone());
            for (role, checks) in [
                (Role::Terminal, Checks::of_terminal(1_773_144_000, 1)),
                (Role::Server, Checks::of_server(None, 1)),
            ] {
                let _ = credentials.verify(&anchors, role, [7; 32], &checks);
            }
        }
        Err(error) => assert!(error.offset <= data.len()),
    }
    if let Ok(remembered) = Remembered::from_slice(data) {
        assert_eq!(Remembered::from_slice(&remembered.to_vec()), Ok(remembered));
    }
    if let Ok(anchors) = Anchors::decode(data) {
        assert_eq!(Anchors::decode(&anchors.encode()), Ok(anchors));
    }
}

/// Signed packages, trust stores, grants and package files (§11).
pub fn package(data: &[u8]) {
    if let Ok(store) = TrustStore::decode(data) {
        assert_eq!(TrustStore::decode(&store.encode()), Ok(store));
    }
    signed::<_>(SignedTrust::decode(data), data, |trust| {
        // Nothing that comes signed by itself alone replaces a trust store.
        let store = trust.unverified().clone();
        let _ = store.update(trust);
    });
    signed::<_>(SignedGrant::decode(data), data, |_| {});
    signed::<_>(SignedManifest::decode(data), data, |manifest| {
        let mut check = ContentCheck::new(manifest.unverified());
        let fits = u64::try_from(data.len()).expect("a length") <= check.left();
        assert_eq!(check.update(data), if fits { Ok(()) } else { Err(PackageError::Size) });
        if let Some(reference) = &manifest.unverified().block_map {
            assert!(reference.size <= BlockMap::MAX);
            let _ = BlockMap::decode(data, reference, manifest.unverified().size);
        }
    });
    match PackageFile::parse(data) {
        Ok(Parsed::More(more)) => assert!(more > data.len() && more <= PackageFile::MAX_HEAD),
        Ok(Parsed::Head(file)) => {
            let head = PackageFile::head(&file.manifest, file.block_map.as_ref()).expect("what was read");
            assert_eq!(head.len() as u64, file.content_offset);
            assert!(data.starts_with(&head));
        }
        Err(_) => {}
    }
}

fn signed<T: Signable + Clone + PartialEq + std::fmt::Debug>(
    read: Result<Signed<T>, tms_proto::tlv::DecodeError>,
    data: &[u8],
    more: impl Fn(&Signed<T>),
) {
    let signed = match read {
        Ok(signed) => signed,
        Err(error) => return assert!(error.offset <= data.len()),
    };
    assert_eq!(&signed.encode()[..], data);
    let again = Signed::<T>::assemble(signed.element(), signed.signatures()).expect("what was read can be written");
    assert_eq!(
        (again.unverified(), again.element()),
        (signed.unverified(), signed.element())
    );
    assert!(
        Signed::to_be_signed(signed.unverified()).len() <= signed.element().len(),
        "the encoding is minimal"
    );
    more(&signed);
}
