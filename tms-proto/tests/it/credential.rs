//! Channel certificates, and peers that are remembered (§10.3, §10.4, §4.8).

use crate::party::{NOW, anchors, body, certificate, credentials, issue, party, public_key, server, sign, terminal};
use tms_proto::certificate::{Anchors, CertificateBody, DAY, Date};
use tms_proto::code::Role;
use tms_proto::credential::{
    ChannelCertificate, Checks, CredentialError, Credentials, MAX_SERVER_VALIDITY, MAX_SKEW, MAX_TERMINAL_VALIDITY,
    PROOF_DOMAIN, Remembered, VerifiedPeer,
};
use tms_proto::handshake::StaticKey;
use tms_proto::tlv::{Structure, Tag, Value, Writer, split};

fn key(number: u8) -> [u8; 32] {
    StaticKey::from_secret([number; 32]).public()
}

/// A terminal's credentials of this epoch and validity, for static key 1.
fn terminals(epoch: u32, not_before: u64, not_after: u64) -> Credentials {
    credentials(
        "terminal-1",
        certificate("root", "terminal-1", terminal(1)),
        epoch,
        not_before,
        not_after,
        key(1),
    )
}

fn verify(credentials: &Credentials, checks: &Checks) -> Result<VerifiedPeer, CredentialError> {
    credentials.verify(&anchors(), Role::Terminal, key(1), checks)
}

#[test]
fn credentials_survive_and_name_the_peer() {
    let party = party("terminal-1", terminal(1));
    let again = Credentials::decode(party.credentials.encode()).unwrap();
    assert_eq!(again, party.credentials);
    let peer = again
        .verify(
            &anchors(),
            Role::Terminal,
            party.static_key.public(),
            &Checks::of_terminal(NOW, 1),
        )
        .unwrap();
    assert_eq!(peer.subject(), &terminal(1));
    assert_eq!(
        (peer.key(), peer.public_key()),
        (public_key("terminal-1").id(), &public_key("terminal-1"))
    );
    assert_eq!(
        (peer.credential(), peer.static_key()),
        (again.id(), party.static_key.public())
    );
    assert_eq!(
        (peer.epoch(), peer.not_after(), peer.expired()),
        (1, NOW + 86_400, false)
    );

    // As a field of a hello.
    let mut out = Writer::new();
    again.write(Tag(0xA1), &mut out);
    let bytes = out.into_vec();
    let (element, _) = split(&bytes, 0).unwrap();
    assert_eq!(Credentials::read(element, &mut 0), Ok(again));
}

#[test]
fn the_signature_vouches_for_the_key_that_the_handshake_proved_and_no_other() {
    let credentials = terminals(1, NOW, NOW + DAY);
    let checks = Checks::of_terminal(NOW, 0);
    assert!(verify(&credentials, &checks).is_ok());
    let stolen = credentials.verify(&anchors(), Role::Terminal, key(2), &checks);
    assert_eq!(stolen, Err(CredentialError::Channel));
}

#[test]
fn every_field_of_the_channel_certificate_is_signed() {
    let good = terminals(5, NOW, NOW + DAY);
    let change = |edit: &dyn Fn(&mut ChannelCertificate)| {
        let mut channel = good.channel().clone();
        edit(&mut channel);
        verify(
            &Credentials::new(good.certificate().clone(), channel),
            &Checks::of_terminal(NOW, 0),
        )
        .err()
    };
    assert_eq!(change(&|_| ()), None);
    assert_eq!(change(&|channel| channel.epoch = 6), Some(CredentialError::Channel));
    assert_eq!(
        change(&|channel| channel.not_before -= 1),
        Some(CredentialError::Channel)
    );
    assert_eq!(
        change(&|channel| channel.not_after += 1),
        Some(CredentialError::Channel)
    );
    // Another certificate of the same key, and another key's certificate.
    let newer = CertificateBody {
        expiry: Date::MAX,
        ..body("root", "terminal-1", terminal(1))
    };
    let mixed = Credentials::new(issue("root", &newer), good.channel().clone());
    assert_eq!(
        verify(&mixed, &Checks::of_terminal(NOW, 0)).err(),
        Some(CredentialError::Channel)
    );
    let other = certificate("root", "terminal-2", terminal(2));
    let mixed = Credentials::new(other, good.channel().clone());
    assert_eq!(
        verify(&mixed, &Checks::of_terminal(NOW, 0)).err(),
        Some(CredentialError::Channel)
    );
}

#[test]
fn every_changed_byte_is_found() {
    let good = terminals(5, NOW, NOW + DAY);
    let bytes = good.encode();
    for index in (0..bytes.len()).step_by(3) {
        let mut changed = bytes.to_vec();
        changed[index] ^= 4;
        let verified = Credentials::decode(&changed).is_ok_and(|changed| {
            assert_ne!(changed.id(), good.id());
            verify(&changed, &Checks::of_terminal(NOW, 0)).is_ok()
        });
        assert!(!verified, "byte {index}");
    }
    for length in 0..bytes.len() {
        assert!(Credentials::decode(&bytes[..length]).is_err());
    }
}

#[test]
fn a_server_is_no_terminal_and_a_terminal_no_server() {
    let terminal = terminals(1, NOW, NOW + DAY);
    let as_server = terminal.verify(&anchors(), Role::Server, key(1), &Checks::of_server(Some(NOW), 0));
    assert_eq!(as_server, Err(CredentialError::Role));
    let server = credentials(
        "server",
        certificate("root", "server", server()),
        1,
        NOW,
        NOW + DAY,
        key(1),
    );
    assert_eq!(
        verify(&server, &Checks::of_terminal(NOW, 0)),
        Err(CredentialError::Role)
    );
}

#[test]
fn what_is_wrong_with_the_certificate_is_told_apart() {
    let good = terminals(1, NOW, NOW + DAY);
    let checks = Checks::of_terminal(NOW, 0);
    let unknown = good.verify(&Anchors::root(public_key("root-2")), Role::Terminal, key(1), &checks);
    assert_eq!(unknown, Err(CredentialError::UnknownIssuer));
    let forged = issue("terminal-2", &body("root", "terminal-1", terminal(1)));
    let forged = credentials("terminal-1", forged, 1, NOW, NOW + DAY, key(1));
    assert_eq!(verify(&forged, &checks), Err(CredentialError::Signature));
    let early = verify(
        &good,
        &Checks {
            time: Some(Date::new(2025, 12, 31).unwrap().start()),
            ..checks
        },
    );
    assert_eq!(early, Err(CredentialError::NotYetValid));
}

#[test]
fn a_channel_certificate_is_short_lived_and_its_epoch_does_not_go_back() {
    let checks = Checks::of_terminal(NOW, 5);
    assert_eq!(
        verify(&terminals(4, NOW, NOW + DAY), &checks),
        Err(CredentialError::Epoch)
    );
    assert!(verify(&terminals(5, NOW, NOW + DAY), &checks).is_ok());
    assert!(verify(&terminals(6, NOW, NOW + MAX_TERMINAL_VALIDITY), &checks).is_ok());
    let long = terminals(6, NOW, NOW + MAX_TERMINAL_VALIDITY + 1);
    assert_eq!(verify(&long, &checks), Err(CredentialError::Validity));
    assert_eq!(
        verify(&terminals(6, NOW + 1, NOW), &checks),
        Err(CredentialError::Validity)
    );
    assert_eq!(
        verify(&terminals(6, 0, u64::MAX), &checks),
        Err(CredentialError::Validity)
    );

    // A server's for a week at most.
    let server = |validity| {
        let certificate = certificate("root", "server", server());
        let credentials = credentials("server", certificate, 1, NOW, NOW + validity, key(1));
        credentials
            .verify(&anchors(), Role::Server, key(1), &Checks::of_server(Some(NOW), 0))
            .err()
    };
    assert_eq!(server(MAX_SERVER_VALIDITY), None);
    assert_eq!(server(MAX_SERVER_VALIDITY + 1), Some(CredentialError::Validity));
}

/// §4.8: whoever has a server's key for a while could shut out all later servers with the highest of all epochs.
#[test]
fn the_epoch_of_a_server_is_not_above_the_day_on_which_its_channel_certificate_ends() {
    let last = u32::try_from((NOW + DAY) / DAY).unwrap();
    let server = |epoch| {
        let certificate = certificate("root", "server", server());
        let credentials = credentials("server", certificate, epoch, NOW, NOW + DAY, key(1));
        credentials
            .verify(&anchors(), Role::Server, key(1), &Checks::of_server(None, 0))
            .err()
    };
    assert_eq!(server(last), None);
    assert_eq!(server(last + 1), Some(CredentialError::FutureEpoch));
    assert_eq!(server(u32::MAX), Some(CredentialError::FutureEpoch));
    // A terminal counts its own keys: nobody else is shut out by it.
    assert!(verify(&terminals(u32::MAX, NOW, NOW + DAY), &Checks::of_terminal(NOW, 0)).is_ok());
}

#[test]
fn a_channel_certificate_is_valid_in_its_time_give_or_take_a_clock() {
    let credentials = terminals(1, NOW, NOW + DAY);
    let at = |time| verify(&credentials, &Checks::of_terminal(time, 0)).err();
    assert_eq!(at(NOW - MAX_SKEW - 1), Some(CredentialError::NotYetValid));
    assert_eq!(at(NOW - MAX_SKEW), None);
    assert_eq!(at(NOW + DAY - 1), None);
    assert_eq!(at(NOW + DAY), Some(CredentialError::ChannelExpired));
    // A terminal without a clock goes by the epoch.
    let server = party("server", server());
    let without = Checks::of_server(None, 1);
    let verify = |checks| {
        server
            .credentials
            .verify(&anchors(), Role::Server, server.static_key.public(), checks)
            .err()
    };
    assert_eq!(verify(&without), None);
    assert_eq!(
        verify(&Checks {
            min_epoch: 2,
            ..without
        }),
        Some(CredentialError::Epoch)
    );
}

/// §10.6: everything else about an expired certificate is checked, so that the expiry is proved; whoever allows it gets a
/// peer that is marked.
#[test]
fn an_expired_certificate_is_let_through_for_recovery_alone() {
    let day = Date::of_unix(NOW).unwrap();
    let old = CertificateBody {
        expiry: Date::of_unix(NOW - DAY).unwrap(),
        ..body("root", "terminal-1", terminal(1))
    };
    assert!(old.expiry < day);
    let expired = credentials("terminal-1", issue("root", &old), 1, NOW, NOW + DAY, key(1));
    let allowed = Checks::of_terminal(NOW, 0);
    let strict = Checks {
        allow_expired: false,
        ..allowed
    };
    let peer = verify(&expired, &allowed).unwrap();
    assert!(peer.expired());
    assert_eq!(peer.not_after(), old.expiry.end());
    assert_eq!(verify(&expired, &strict), Err(CredentialError::Expired));

    let forged = credentials("terminal-1", issue("terminal-2", &old), 1, NOW, NOW + DAY, key(1));
    assert_eq!(verify(&forged, &allowed), Err(CredentialError::Signature));
    let stolen = expired.verify(&anchors(), Role::Terminal, key(2), &allowed);
    assert_eq!(stolen, Err(CredentialError::Channel));
    let stale = credentials("terminal-1", issue("root", &old), 1, NOW - 2 * DAY, NOW - DAY, key(1));
    assert_eq!(verify(&stale, &allowed), Err(CredentialError::ChannelExpired));

    let again = VerifiedPeer::remembered(peer.remember().clone(), key(1), &allowed).unwrap();
    assert!(again.expired());
    assert_eq!(
        VerifiedPeer::remembered(peer.remember().clone(), key(1), &strict),
        Err(CredentialError::Expired)
    );
}

#[test]
fn a_remembered_peer_must_prove_the_same_key() {
    let credentials = terminals(3, NOW, NOW + DAY);
    let peer = verify(&credentials, &Checks::of_terminal(NOW, 0)).unwrap();
    let stored = peer.remember().to_vec();
    let recall = |key, checks: &Checks| VerifiedPeer::remembered(Remembered::from_slice(&stored).unwrap(), key, checks);
    assert_eq!(recall(key(1), &Checks::of_terminal(NOW + 60, 3)), Ok(peer));
    assert_eq!(
        recall(key(2), &Checks::of_terminal(NOW, 3)),
        Err(CredentialError::StaticKey)
    );
    assert_eq!(
        recall(key(1), &Checks::of_terminal(NOW, 4)),
        Err(CredentialError::Epoch)
    );
    assert_eq!(
        recall(key(1), &Checks::of_terminal(NOW + DAY, 3)),
        Err(CredentialError::ChannelExpired)
    );
    assert_eq!(Remembered::from_slice(&stored).unwrap().credential, credentials.id());
}

#[test]
fn a_live_proof_is_of_this_session_and_this_key() {
    let peer = verify(&terminals(3, NOW, NOW + DAY), &Checks::of_terminal(NOW, 0)).unwrap();
    let hash = [9; 32];
    let proof = sign("terminal-1", PROOF_DOMAIN, &hash);
    assert!(peer.prove(&hash, &proof).is_ok());
    assert!(peer.prove(&[8; 32], &proof).is_err());
    assert!(peer.prove(&hash, &sign("terminal-2", PROOF_DOMAIN, &hash)).is_err());
    assert!(peer.prove(&hash, &sign("terminal-1", "tms package 1", &hash)).is_err());
}
