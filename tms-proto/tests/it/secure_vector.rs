//! The vectors of handshakes, credentials, packages and derived keys (§14).
//!
//! The tests verify the files. `TMS_BLESS=1` writes them anew first: what then differs under version control is a change
//! of the wire.

use crate::handshake::{Setup, honest, real, run};
use crate::package::{block_map, content, manifest, role, signed, store};
use crate::party::{NOW, body, holder, issue, party, public_key, server, terminal};
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use tms_proto::certificate::{CERTIFICATE_DOMAIN, Certificate, Subject, Validity};
use tms_proto::code::Role;
use tms_proto::credential::{CHANNEL_DOMAIN, Checks, Credentials, statement};
use tms_proto::derive::terminal_psk;
use tms_proto::digest::Digest;
use tms_proto::handshake::{Hello, Mode, StaticKey, Suite};
use tms_proto::package::{
    BlockMap, Grant, KeySet, PackageFile, Signable, Signed, SignedGrant, SignedManifest, SignedTrust, TrustStore,
};
use tms_proto::record::{Content, Records};
use tms_proto::secret::{Psk, Secret};

/// The vectors in this file; written anew first where that is asked for.
pub(crate) fn vectors(name: &str, make: impl FnOnce() -> Json) -> Json {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    if std::env::var_os("TMS_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&make()).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn bytes(json: &Json) -> Vec<u8> {
    hex::decode(json.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(json: &Json) -> [u8; N] {
    bytes(json).try_into().unwrap()
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().unwrap()
}

const RECORDS: [(&str, Content, &[u8]); 5] = [
    ("terminal", Content::Fragment, b"\x63\x03"),
    ("terminal", Content::Message, b"\x80\x01\x07"),
    ("server", Content::Object, b"\0\0\0\0\0\0\x10\0an object's bytes"),
    ("server", Content::KeepAlive, b""),
    ("terminal", Content::KeepAlive, b""),
];

/// Brings `from` to record `number` with keep-alives, then seals one more and opens it at `to`.
fn exchange(
    from: &mut Records,
    to: &mut Records,
    sent: &mut u64,
    number: u64,
    content: Content,
    body: &[u8],
) -> Vec<u8> {
    let mut record = Vec::new();
    while *sent < number {
        record.clear();
        from.seal(Content::KeepAlive, b"", &mut record).unwrap();
        assert_eq!(to.open(&record).unwrap().0, Content::KeepAlive);
        *sent += 1;
    }
    record.clear();
    from.seal(content, body, &mut record).unwrap();
    assert_eq!(to.open(&record).unwrap(), (content, body.to_vec().into()));
    *sent += 1;
    record
}

fn handshake_vector(mode: Mode, suite: Suite) -> Json {
    let setup = real(mode, suite);
    let mut outcome = run(&setup, &setup, &mut honest).unwrap();
    let sides = ["terminal", "server", "terminal"];
    let messages = sides.iter().zip(&setup.payloads).zip(&outcome.messages);
    let messages: Vec<Json> = messages
        .map(|((from, payload), noise)| json!({"from": from, "payload": hex::encode(payload), "noise": hex::encode(noise)}))
        .collect();
    let mut sent = [0; 2];
    let mut records = Vec::new();
    let mut wanted: Vec<(&str, Option<u64>, Content, &[u8])> = RECORDS
        .iter()
        .map(|(from, content, body)| (*from, None, *content, *body))
        .collect();
    if mode == Mode::Ticket {
        // The last record under the first key of that direction, and the first under the second.
        wanted.push(("terminal", Some(65_535), Content::Message, b"old key"));
        wanted.push(("terminal", Some(65_536), Content::Message, b"new key"));
    }
    for (from, number, content, body) in wanted {
        let side = usize::from(from == "server");
        let number = number.unwrap_or(sent[side]);
        let (here, there) = if side == 0 {
            (&mut outcome.terminal, &mut outcome.server)
        } else {
            (&mut outcome.server, &mut outcome.terminal)
        };
        let record = exchange(here, there, &mut sent[side], number, content, body);
        records.push(json!({
            "from": from, "number": number, "content": content.code(),
            "body": hex::encode(body), "record": hex::encode(record),
        }));
    }
    let (pattern, cipher) = (
        match mode {
            Mode::Rsa => "XX",
            Mode::MainKey | Mode::Ticket => "NNpsk0",
            Mode::Both => "XXpsk3",
        },
        if suite == Suite::AesGcm { "AESGCM" } else { "ChaChaPoly" },
    );
    json!({
        "name": format!("mode {} with {cipher}", mode.code()),
        "mode": mode.code(),
        "suite": suite.code(),
        "protocol": format!("Noise_{pattern}_25519_{cipher}_SHA256"),
        "hello": hex::encode(&setup.hello),
        "terminal_static": mode.has_static().then(|| hex::encode(setup.terminal_secret)),
        "server_static": mode.has_static().then(|| hex::encode(setup.server_secret)),
        "psk": mode.has_psk().then(|| hex::encode(setup.psk.expose())),
        "terminal_ephemeral": hex::encode(setup.terminal_ephemeral),
        "server_ephemeral": hex::encode(setup.server_ephemeral),
        "messages": messages,
        "hash": hex::encode(outcome.hash),
        "records": records,
    })
}

#[test]
fn handshakes_are_those_of_the_vectors() {
    let pairs = Mode::ALL
        .into_iter()
        .flat_map(|mode| Suite::ALL.map(|suite| (mode, suite)));
    let vectors = vectors("handshakes.json", || {
        pairs.map(|(mode, suite)| handshake_vector(mode, suite)).collect()
    });
    assert_eq!(list(&vectors).len(), 8);
    for vector in list(&vectors) {
        let name = vector["name"].as_str().unwrap();
        let hello = bytes(&vector["hello"]);
        let (read, used) = Hello::decode(&hello).unwrap();
        let mode = Mode::from_code(u8::try_from(number(&vector["mode"])).unwrap()).unwrap();
        let suite = Suite::from_code(u8::try_from(number(&vector["suite"])).unwrap()).unwrap();
        assert_eq!(
            (read.mode, read.suite(), used),
            (mode, Some(suite), hello.len()),
            "{name}"
        );
        let secret = |name: &str| vector[name].as_str().map_or([0; 32], |_| array(&vector[name]));
        let messages = list(&vector["messages"]);
        let payload = |index: usize| {
            messages
                .get(index)
                .map_or_else(Vec::new, |message| bytes(&message["payload"]))
        };
        let setup = Setup {
            mode,
            suite,
            hello,
            terminal_secret: secret("terminal_static"),
            server_secret: secret("server_static"),
            psk: Psk::new(secret("psk")),
            terminal_ephemeral: secret("terminal_ephemeral"),
            server_ephemeral: secret("server_ephemeral"),
            payloads: [payload(0), payload(1), payload(2)],
        };
        let mut outcome = run(&setup, &setup, &mut honest).unwrap();
        let expected: Vec<Vec<u8>> = messages.iter().map(|message| bytes(&message["noise"])).collect();
        assert_eq!(outcome.messages, expected, "{name}");
        assert_eq!(outcome.hash, array(&vector["hash"]), "{name}");
        let mut sent = [0; 2];
        for record in list(&vector["records"]) {
            let side = usize::from(record["from"] == "server");
            let (here, there) = if side == 0 {
                (&mut outcome.terminal, &mut outcome.server)
            } else {
                (&mut outcome.server, &mut outcome.terminal)
            };
            let content = Content::from_code(u8::try_from(number(&record["content"])).unwrap()).unwrap();
            let at = number(&record["number"]);
            let sealed = exchange(here, there, &mut sent[side], at, content, &bytes(&record["body"]));
            assert_eq!(sealed, bytes(&record["record"]), "{name}, record {at}");
        }
    }
}

fn certificate_vector(issuer: &str, name: &str, subject: Subject) -> Json {
    let body = body(issuer, name, subject);
    let certificate = issue(issuer, &body);
    let signed = body.to_be_signed();
    let raw = certificate.raw();
    json!({
        "issuer": issuer,
        "key": name,
        "subject": body.subject.to_string(),
        "role": u8::from(body.subject.role()),
        "effective": body.effective.to_string(),
        "expiry": body.expiry.to_string(),
        "body": hex::encode(&signed),
        "certificate": hex::encode(raw),
        "digest": certificate.digest().to_string(),
    })
}

#[test]
fn credentials_are_those_of_the_vectors() {
    let names = [
        "root",
        "root-2",
        "server",
        "terminal-1",
        "terminal-2",
        "vendor",
        "vendor-2",
        "acquirer",
    ];
    let vectors = vectors("credentials.json", || {
        let keys = names.iter().map(|name| {
            let key = public_key(name);
            json!({"name": name, "key": hex::encode(key.encode()), "id": key.id().to_string()})
        });
        let certificates = [
            ("root", "root-2", Subject::Root { name: "root 2".into() }),
            ("root", "server", server()),
            ("root", "terminal-1", terminal(1)),
            ("root", "vendor", Subject::VendorSigner { name: "PAX".into() }),
            ("root", "acquirer", Subject::AcquirerSigner { name: "UMS".into() }),
        ];
        let certificates = certificates.map(|(issuer, name, subject)| certificate_vector(issuer, name, subject));
        let channels = [("server", server()), ("terminal-1", terminal(1))].map(|(name, subject)| {
            let role = subject.role();
            let party = party(name, subject);
            let channel = party.credentials.channel();
            let static_key = party.static_key.public();
            let certificate = party.credentials.certificate();
            let message = statement(
                role,
                channel.epoch,
                channel.not_before,
                channel.not_after,
                static_key,
                certificate,
            );
            json!({
                "key": name,
                "role": u8::from(role),
                "epoch": channel.epoch,
                "not_before": channel.not_before,
                "not_after": channel.not_after,
                "static_secret": hex::encode(party.secret),
                "static_key": hex::encode(static_key),
                "statement": hex::encode(message),
                "signature": hex::encode(&channel.signature),
                "credentials": hex::encode(party.credentials.encode()),
                "id": party.credentials.id().to_string(),
            })
        });
        json!({
            "certificate_domain": CERTIFICATE_DOMAIN,
            "channel_domain": CHANNEL_DOMAIN,
            "keys": keys.collect::<Vec<_>>(),
            "certificates": certificates,
            "channel_certificates": channels,
        })
    });
    for key in list(&vectors["keys"]) {
        let ours = public_key(key["name"].as_str().unwrap());
        assert_eq!(ours.encode(), bytes(&key["key"]));
        assert_eq!(ours.id().to_string(), key["id"]);
    }
    let anchors = crate::party::anchors();
    for vector in list(&vectors["certificates"]) {
        let certificate = Certificate::decode(&bytes(&vector["certificate"])).unwrap();
        let body = certificate.body();
        assert_eq!(
            certificate.verify(&anchors, Validity::At(NOW)),
            Ok(public_key("root").id())
        );
        assert_eq!(body.to_be_signed(), bytes(&vector["body"]));
        assert_eq!(body.key, public_key(vector["key"].as_str().unwrap()));
        assert_eq!(body.subject.to_string(), vector["subject"]);
        assert_eq!((body.effective.to_string(), body.expiry.to_string()), text(vector));
        assert_eq!(certificate.digest().to_string(), vector["digest"]);
        assert_eq!(issue("root", body).raw(), certificate.raw());
    }
    for vector in list(&vectors["channel_certificates"]) {
        let credentials = Credentials::decode(&bytes(&vector["credentials"])).unwrap();
        let role = Role::from(u8::try_from(number(&vector["role"])).unwrap());
        let key = StaticKey::from_secret(array(&vector["static_secret"])).public();
        assert_eq!(key, array(&vector["static_key"]));
        let checks = Checks::of_terminal(NOW, u32::try_from(number(&vector["epoch"])).unwrap());
        let peer = credentials.verify(&anchors, role, key, &checks).unwrap();
        assert_eq!(peer.credential().to_string(), vector["id"]);
        let channel = credentials.channel();
        assert_eq!(
            (channel.not_before, channel.not_after),
            (number(&vector["not_before"]), number(&vector["not_after"]))
        );
        let (before, after) = (channel.not_before, channel.not_after);
        let message = statement(role, channel.epoch, before, after, key, credentials.certificate());
        assert_eq!(message, bytes(&vector["statement"]));
        assert_eq!(channel.signature, bytes(&vector["signature"]));
    }
}

fn text(vector: &Json) -> (String, String) {
    let field = |name: &str| vector[name].as_str().unwrap().to_owned();
    (field("effective"), field("expiry"))
}

fn grant() -> Grant {
    Grant {
        holder: holder(1),
        component: "pay".into(),
        min_counter: 11,
        expiry: NOW + 86_400,
    }
}

fn next_store() -> TrustStore {
    TrustStore {
        version: 2,
        root: KeySet {
            threshold: 1,
            keys: vec![public_key("root-2")],
        },
        roles: vec![
            role(Role::VendorSigner, 1, &["vendor"]),
            role(Role::AcquirerSigner, 1, &["acquirer"]),
        ],
    }
}

#[test]
fn packages_are_those_of_the_vectors() {
    let vectors = vectors("packages.json", || {
        let map = block_map(&content(70_000));
        let package = signed(&manifest(), &["vendor", "acquirer"]);
        let trust = signed(&next_store(), &["root", "root-2"]);
        let grant = signed(&grant(), &["vendor"]);
        json!({
            "content": "70000 bytes; byte i, from 0, is 31 i mod 251",
            "digest": Digest::of(&content(70_000)).to_string(),
            "block_map": hex::encode(map.encode()),
            "manifest_domain": tms_proto::package::Manifest::DOMAIN,
            "manifest": hex::encode(package.element()),
            "signed_manifest": hex::encode(package.encode()),
            "file_head": hex::encode(PackageFile::head(&package, Some(&map)).unwrap()),
            "trust_store": hex::encode(store().encode()),
            "trust_domain": TrustStore::DOMAIN,
            "signed_trust_store": hex::encode(trust.encode()),
            "grant_domain": Grant::DOMAIN,
            "signed_grant": hex::encode(grant.encode()),
        })
    });
    let content = content(70_000);
    assert_eq!(Digest::of(&content).to_string(), vectors["digest"]);
    let signed = SignedManifest::decode(&bytes(&vectors["signed_manifest"])).unwrap();
    assert_eq!(signed.unverified(), &manifest());
    assert_eq!(signed.element()[..], bytes(&vectors["manifest"]));
    assert_eq!(Signed::to_be_signed(&manifest()), bytes(&vectors["manifest"]));
    let old = TrustStore::decode(&bytes(&vectors["trust_store"])).unwrap();
    assert_eq!(old, store());
    let new = old
        .update(&SignedTrust::decode(&bytes(&vectors["signed_trust_store"])).unwrap())
        .unwrap();
    assert_eq!(new, next_store());
    for store in [&old, &new] {
        assert!(signed.verify(store, Some(NOW)).is_ok());
        let grant = SignedGrant::decode(&bytes(&vectors["signed_grant"]))
            .unwrap()
            .verify(store, NOW)
            .unwrap();
        assert_eq!(grant.grant(), &self::grant());
    }
    let map = bytes(&vectors["block_map"]);
    let map = BlockMap::decode(&map, &manifest().block_map.unwrap(), 70_000).unwrap();
    content
        .chunks(4096)
        .enumerate()
        .for_each(|(index, block)| map.verify_block(index, block).unwrap());
    assert_eq!(
        PackageFile::head(&signed, Some(&map)).unwrap(),
        bytes(&vectors["file_head"])
    );
}

#[test]
fn derived_keys_are_those_of_the_vectors() {
    let cases: [(&[u8], u64, u32); 4] = [
        (&[0x2B; 16], 1, 0),
        (&[0x2B; 32], 1, 0),
        (&Digest::of(b"main key").0, 0x0102_0304_0506_0708, 0x1112_1314),
        (&Digest::of(b"main key").0[..16], u64::MAX, u32::MAX),
    ];
    let derive = |key: &[u8], terminal, epoch| match <[u8; 16]>::try_from(key) {
        Ok(key) => terminal_psk(&Secret::new(key), terminal, epoch),
        Err(_) => terminal_psk(&Secret::<32>::new(key.try_into().unwrap()), terminal, epoch),
    };
    let vectors = vectors("derivations.json", || {
        let vector = |(key, terminal, epoch): (&[u8], u64, u32)| {
            let psk = derive(key, terminal, epoch);
            json!({
                "main_key": hex::encode(key),
                "terminal": hex::encode(terminal.to_be_bytes()),
                "epoch": epoch,
                "psk": hex::encode(psk.expose()),
            })
        };
        cases.map(vector).into_iter().collect()
    });
    assert_eq!(list(&vectors).len(), 4);
    for vector in list(&vectors) {
        let terminal = u64::from_be_bytes(array(&vector["terminal"]));
        let epoch = u32::try_from(number(&vector["epoch"])).unwrap();
        assert_eq!(
            derive(&bytes(&vector["main_key"]), terminal, epoch),
            Psk::new(array(&vector["psk"]))
        );
    }
}
