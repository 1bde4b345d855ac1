//! Card-verifiable certificates (§10.2).

use crate::party::{NOW, anchors, body, certificate, holder, issue, public_key, server, sign, terminal};
use proptest::prelude::*;
use tms_proto::certificate::{
    Anchor, Anchors, CERTIFICATE_DOMAIN, Certificate, CertificateBody, CertificateError, Date, MAX_CERTIFICATE, Roles,
    Subject, Validity,
};
use tms_proto::code::Role;
use tms_proto::identity::Holder;
use tms_proto::tlv::{DecodeErrorKind, Tag, Writer, split};

#[test]
fn a_certificate_of_each_role_survives_and_verifies() {
    let subjects = [
        terminal(1),
        server(),
        Subject::Root { name: "root 2".into() },
        Subject::VendorSigner { name: "百富".into() },
        Subject::AcquirerSigner { name: "UMS".into() },
    ];
    for subject in subjects {
        let body = body("root", "terminal-1", subject.clone());
        let certificate = issue("root", &body);
        let again = Certificate::decode(certificate.raw()).unwrap();
        assert_eq!(again, certificate);
        assert_eq!(again.body(), &body);
        assert_eq!(again.raw(), certificate.raw());
        assert_eq!(again.verify(&anchors(), Validity::At(NOW)), Ok(public_key("root").id()));
        assert_eq!(
            again.verify(&anchors(), Validity::Unchecked),
            Ok(public_key("root").id())
        );
    }
    assert_eq!(terminal(1).to_string(), "terminal/PAX/P80/80123401");
    assert_eq!((terminal(1).terminal(), server().terminal()), (Some(&holder(1)), None));
}

#[test]
fn the_layout_is_that_of_the_standard() {
    let certificate = certificate("root", "terminal-1", terminal(1));
    let (outer, rest) = split(certificate.raw(), 0).unwrap();
    assert!(rest.is_empty());
    assert_eq!(outer.tag, Tag(0x7F21));
    let (inner, rest) = split(outer.value, 0).unwrap();
    let (signature, rest) = split(rest, 0).unwrap();
    assert_eq!(
        (inner.tag, signature.tag, signature.value.len(), rest.len()),
        (Tag(0x7F4E), Tag(0x5F37), 256, 0)
    );
    let mut tags = Vec::new();
    let mut left = inner.value;
    while !left.is_empty() {
        let (element, rest) = split(left, 0).unwrap();
        tags.push(element.tag.0);
        left = rest;
    }
    assert_eq!(tags, [0x5F29, 0x42, 0x7F49, 0x5F20, 0x7F4C, 0x5F25, 0x5F24]);
    // All but modulus and signature.
    assert!(certificate.raw().len() - 512 <= 100, "{}", certificate.raw().len());
}

#[test]
fn the_signature_covers_the_body_as_it_stands() {
    let certificate = certificate("root", "terminal-1", terminal(1));
    let raw = certificate.raw();
    let mut accepted = 0;
    for index in 0..raw.len() {
        let mut changed = raw.to_vec();
        changed[index] ^= 1;
        if let Ok(changed) = Certificate::decode(&changed) {
            assert!(changed.verify(&anchors(), Validity::Unchecked).is_err(), "byte {index}");
            accepted += 1;
        }
    }
    // Most changes are found by the signature alone.
    assert!(accepted > 400, "{accepted}");
    for length in 0..raw.len() {
        assert!(Certificate::decode(&raw[..length]).is_err());
    }
    let longer = [&raw[..], &[0]].concat();
    assert_eq!(
        Certificate::decode(&longer).unwrap_err().kind,
        DecodeErrorKind::Trailing
    );
}

#[test]
fn a_field_of_a_later_version_stays_under_the_signature() {
    let body = body("root", "terminal-1", terminal(1)).to_be_signed();
    let (element, _) = split(&body, 0).unwrap();
    let mut out = Writer::new();
    out.constructed(Tag(0x7F4E), |out| {
        out.raw(element.value);
        out.bytes(Tag(0x5F50), b"later");
    });
    let later = out.into_vec();
    let assemble = |signed: &[u8]| {
        let mut out = Writer::new();
        out.constructed(Tag(0x7F21), |out| {
            out.raw(&later);
            out.bytes(Tag(0x5F37), &sign("root", CERTIFICATE_DOMAIN, signed));
        });
        Certificate::decode(&out.into_vec()).unwrap()
    };
    assert!(assemble(&later).verify(&anchors(), Validity::Unchecked).is_ok());
    assert_eq!(
        assemble(&body).verify(&anchors(), Validity::Unchecked),
        Err(CertificateError::Signature)
    );
}

#[test]
fn the_issuer_must_be_an_anchor_with_the_right_to_the_role() {
    let terminal = certificate("root", "terminal-1", terminal(1));
    let server = certificate("root", "server", server());
    let only = |name: &str, roles: &[Role]| Anchors {
        list: vec![Anchor {
            key: public_key(name),
            roles: Roles::of(roles),
        }],
    };
    let verify = |certificate: &Certificate, anchors: &Anchors| certificate.verify(anchors, Validity::At(NOW));
    assert_eq!(
        verify(&terminal, &only("root-2", Role::ALL)),
        Err(CertificateError::UnknownIssuer)
    );
    assert_eq!(
        verify(&terminal, &Anchors::default()),
        Err(CertificateError::UnknownIssuer)
    );
    assert_eq!(
        verify(&terminal, &only("root", &[Role::Server])),
        Err(CertificateError::Role)
    );
    assert!(verify(&server, &only("root", &[Role::Server])).is_ok());
    assert!(verify(&terminal, &only("root", &[Role::Server, Role::Terminal])).is_ok());

    // A terminal's key is no issuer, whatever name it writes into the certificate.
    let forged = issue(
        "terminal-1",
        &body(
            "root",
            "terminal-2",
            Subject::Server {
                organisation: "x".into(),
                group: "y".into(),
            },
        ),
    );
    assert_eq!(verify(&forged, &anchors()), Err(CertificateError::Signature));
}

#[test]
fn two_roots_stand_side_by_side_while_one_takes_over() {
    let both = Anchors {
        list: vec![
            Anchor {
                key: public_key("root"),
                roles: Roles::all(),
            },
            Anchor {
                key: public_key("root-2"),
                roles: Roles::all(),
            },
        ],
    };
    let (old, new) = (
        certificate("root", "terminal-1", terminal(1)),
        certificate("root-2", "terminal-1", terminal(1)),
    );
    assert_eq!(old.verify(&both, Validity::At(NOW)), Ok(public_key("root").id()));
    assert_eq!(new.verify(&both, Validity::At(NOW)), Ok(public_key("root-2").id()));
    assert_eq!(Anchors::decode(&both.encode()), Ok(both));
}

#[test]
fn a_certificate_is_valid_from_its_first_day_to_the_end_of_its_last() {
    let day = Date::of_unix(NOW).unwrap();
    let today = CertificateBody {
        effective: day,
        expiry: day,
        ..body("root", "terminal-1", terminal(1))
    };
    let certificate = issue("root", &today);
    let at = |time| certificate.verify(&anchors(), Validity::At(time)).map(|_| ());
    assert_eq!(at(day.start() - 1), Err(CertificateError::NotYetValid));
    assert_eq!(at(day.start()), Ok(()));
    assert_eq!(at(day.end() - 1), Ok(()));
    assert_eq!(at(day.end()), Err(CertificateError::Expired));
    assert_eq!(at(0), Err(CertificateError::NotYetValid));
    assert_eq!(at(u64::MAX), Err(CertificateError::Expired));
    assert!(certificate.verify(&anchors(), Validity::Unchecked).is_ok());
}

#[test]
fn what_contradicts_itself_is_not_assembled() {
    let good = body("root", "terminal-1", terminal(1));
    let signature = [0; 256];
    let holder = |vendor: &str, model: &str, serial: &str| {
        let holder = Holder {
            vendor: vendor.into(),
            model: model.into(),
            serial: serial.into(),
        };
        CertificateBody {
            subject: Subject::Terminal(holder),
            ..good.clone()
        }
    };
    assert!(Certificate::assemble(&holder("PAX", "P80", "1"), &signature).is_ok());
    for body in [
        holder("", "P80", "1"),
        holder("PAX", "P80", ""),
        holder("PAX\u{1F}P80", "x", "1"),
        holder("PAX", "P\n80", "1"),
        holder("PAX", "P80", &"1".repeat(130)),
        CertificateBody {
            effective: Date::MAX,
            expiry: Date::MIN,
            ..good.clone()
        },
    ] {
        assert!(Certificate::assemble(&body, &signature).is_err(), "{body:?}");
    }
    assert_eq!(
        Certificate::decode(&[0; MAX_CERTIFICATE + 1]).unwrap_err().kind,
        DecodeErrorKind::Length
    );
}

#[test]
fn another_profile_template_role_or_order_is_refused() {
    let raw = certificate("root", "terminal-1", terminal(1)).raw().to_vec();
    let change = |find: &[u8], put: &[u8]| {
        let at = raw.windows(find.len()).position(|bytes| bytes == find).unwrap();
        let mut changed = raw.clone();
        changed[at..at + put.len()].copy_from_slice(put);
        Certificate::decode(&changed).unwrap_err().kind
    };
    assert_eq!(
        change(&[0x5F, 0x29, 1, 0], &[0x5F, 0x29, 1, 1]),
        DecodeErrorKind::Value(Tag(0x5F29))
    );
    assert_eq!(
        change(&[0x06, 2, 0x88, 0x37], &[0x06, 2, 0x88, 0x38]),
        DecodeErrorKind::Value(Tag(0x7F4C))
    );
    assert_eq!(
        change(&[0x53, 1, 3], &[0x53, 1, 9]),
        DecodeErrorKind::Value(Tag(0x5F20))
    );
    assert_eq!(
        change(&[0x53, 1, 3], &[0x53, 1, 2]),
        DecodeErrorKind::Value(Tag(0x5F20))
    );
    assert_eq!(
        change(&[0x7F, 0x21], &[0x7F, 0x22]),
        DecodeErrorKind::Unexpected(Tag(0x7F22))
    );
    assert_eq!(
        change(&[0x7F, 0x4E], &[0x7F, 0x4D]),
        DecodeErrorKind::Unexpected(Tag(0x7F4D))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_subject_survives(parts in proptest::array::uniform3("[^\\p{Cc}]{1,12}"), kind in 0..3u8) {
        let [vendor, model, serial] = parts;
        let subject = match kind {
            0 => Subject::Server { organisation: vendor, group: model },
            1 => Subject::VendorSigner { name: vendor },
            _ => Subject::Terminal(Holder { vendor, model, serial }),
        };
        let body = body("root", "terminal-1", subject);
        match Certificate::assemble(&body, &[1; 256]) {
            Ok(certificate) => prop_assert_eq!(certificate.body(), &body),
            Err(_) => prop_assert!(body.subject.to_string().len() > 128),
        }
    }

    #[test]
    fn rubbish_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Certificate::decode(&bytes).is_err());
    }
}
