//! Signed packages (§11), and the attacks on them, by the names that TUF gives them.

use crate::party::{NOW, holder, public_key, sign};
use proptest::prelude::*;
use tms_proto::certificate::DAY;
use tms_proto::code::{ComponentKind, ResultCode, Role};
use tms_proto::digest::Digest;
use tms_proto::identity::Holder;
use tms_proto::package::{
    BlockMap, BlockMapBuilder, ContentCheck, Dependency, FileEntry, Grant, Hints, Installed, KeySet, KeySignature,
    MAX_SIGNED, Manifest, PackageError, PackageFile, Parsed, RoleKeys, Signable, Signed, SignedGrant, SignedManifest,
    SignedTrust, Target, TrustError, TrustStore,
};
use tms_proto::tlv::{DecodeErrorKind, Structure, Tag, Writer};

/// Content of so many bytes: byte `i` is `31 i mod 251`.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect()
}

pub(crate) fn block_map(content: &[u8]) -> BlockMap {
    let mut builder = BlockMapBuilder::new(BlockMap::wanted_log2(content.len() as u64));
    builder.update(content);
    builder.finish().unwrap()
}

/// Version 3.1.0 of a payment application, with security counter 12.
pub(crate) fn manifest() -> Manifest {
    let content = content(70_000);
    Manifest {
        component: "pay".into(),
        kind: ComponentKind::Application,
        version: "3.1.0".into(),
        order: 310,
        counter: 12,
        min_from: Some(200),
        vendor: "PAX".into(),
        models: vec!["P80".into(), "P90".into()],
        hardware: vec!["B".into()],
        dependencies: vec![Dependency {
            component: "os".into(),
            order: 50,
        }],
        size: 70_000,
        digest: Digest::of(&content),
        block_map: Some(block_map(&content).reference()),
        files: vec![file("bin/pay", 0, 60_000), file("share/logo.png", 60_000, 10_000)],
        hints: Hints {
            settle_first: Some(true),
            restart: None,
        },
        not_before: Some(NOW - DAY),
        expiry: Some(NOW + 90 * DAY),
        signers: vec![
            public_key("vendor").id(),
            public_key("vendor-2").id(),
            public_key("acquirer").id(),
        ],
    }
}

fn file(name: &str, offset: u64, size: u64) -> FileEntry {
    FileEntry {
        name: name.into(),
        role: "exec".into(),
        mode: 0o755,
        offset,
        size,
    }
}

/// A structure, signed by these keys.
pub(crate) fn signed<T: Signable>(body: &T, keys: &[&str]) -> Signed<T> {
    let element = Signed::to_be_signed(body);
    let signature = |name: &&str| KeySignature {
        key: public_key(name).id(),
        signature: sign(name, T::DOMAIN, &element).into(),
    };
    Signed::assemble(&element, &keys.iter().map(signature).collect::<Vec<_>>()).unwrap()
}

pub(crate) fn role(role: Role, threshold: u8, keys: &[&str]) -> RoleKeys {
    RoleKeys {
        role,
        threshold,
        keys: keys.iter().map(|name| public_key(name)).collect(),
    }
}

/// One root; of the vendor's two keys one must sign.
pub(crate) fn store() -> TrustStore {
    TrustStore {
        version: 1,
        root: KeySet {
            threshold: 1,
            keys: vec![public_key("root")],
        },
        roles: vec![role(Role::VendorSigner, 1, &["vendor", "vendor-2"])],
    }
}

fn installed(component: &str, order: u64, counter: u32) -> Installed {
    Installed {
        component: component.into(),
        order,
        counter,
        signers: vec![public_key("vendor").id()],
    }
}

/// Checks a package for terminal 1, with these things installed.
fn check(manifest: &Manifest, installed: &[Installed], grant: Option<&SignedGrant>) -> Result<(), PackageError> {
    check_for(&holder(1), Some("B"), manifest, installed, grant)
}

fn check_for(
    holder: &Holder,
    hardware: Option<&str>,
    manifest: &Manifest,
    installed: &[Installed],
    grant: Option<&SignedGrant>,
) -> Result<(), PackageError> {
    let verified = signed(manifest, &["vendor"]).verify(&store(), Some(NOW)).unwrap();
    let grant = grant.map(|grant| grant.verify(&store(), NOW).unwrap());
    verified.check(
        &store(),
        &Target {
            holder,
            hardware,
            installed,
        },
        grant.as_ref(),
    )
}

fn os() -> Installed {
    installed("os", 50, 1)
}

#[test]
fn a_package_that_is_right_is_installed() {
    let signed = signed(&manifest(), &["vendor"]);
    let again = SignedManifest::decode(signed.encode()).unwrap();
    assert_eq!((&again, again.digest()), (&signed, Digest::of(signed.encode())));
    assert_eq!(again.unverified(), &manifest());
    let verified = again.verify(&store(), Some(NOW)).unwrap();
    assert_eq!(verified.manifest(), &manifest());
    assert_eq!(verified.signers(), [public_key("vendor").id()]);
    assert_eq!(verified.installed(), installed("pay", 310, 12));
    assert_eq!(check(&manifest(), &[os()], None), Ok(()));
    assert_eq!(check(&manifest(), &[os(), installed("pay", 309, 12)], None), Ok(()));
    assert_eq!(check(&manifest(), &[os(), installed("pay", 310, 12)], None), Ok(()));

    let mut check = ContentCheck::new(verified.manifest());
    content(70_000)
        .chunks(999)
        .for_each(|chunk| check.update(chunk).unwrap());
    assert_eq!(check.left(), 0);
    assert_eq!(check.finish(), Ok(()));
}

#[test]
fn attack_arbitrary_package() {
    let error = PackageError::Signatures(Role::VendorSigner);
    let missing = Err(error);
    let verify = |signed: &SignedManifest| signed.verify(&store(), Some(NOW)).map(|_| ());
    // Not signed; signed by a key that is trusted for something else; signed in the name of a key that is trusted.
    assert_eq!(verify(&signed(&manifest(), &[])), missing);
    assert_eq!(verify(&signed(&manifest(), &["terminal-1", "server", "root"])), missing);
    let element = Signed::to_be_signed(&manifest());
    let forged = KeySignature {
        key: public_key("vendor").id(),
        signature: sign("terminal-1", Manifest::DOMAIN, &element).into(),
    };
    assert_eq!(verify(&SignedManifest::assemble(&element, &[forged]).unwrap()), missing);
    // Signed as something else.
    let other = KeySignature {
        key: public_key("vendor").id(),
        signature: sign("vendor", Grant::DOMAIN, &element).into(),
    };
    assert_eq!(verify(&SignedManifest::assemble(&element, &[other]).unwrap()), missing);
    // Changed afterwards, anywhere.
    let good = signed(&manifest(), &["vendor"]);
    for index in 0..good.encode().len() {
        let mut changed = good.encode().to_vec();
        changed[index] ^= 1;
        let result = SignedManifest::decode(&changed).map(|changed| verify(&changed));
        assert!(!matches!(result, Ok(Ok(()))), "byte {index}");
    }
    // Other content under a good manifest.
    let mut check = ContentCheck::new(&manifest());
    check.update(&[0; 70_000]).unwrap();
    assert_eq!(check.finish(), Err(PackageError::Digest));
    assert_eq!(PackageError::Digest.code(), ResultCode::Changed);
    assert_eq!(error.code(), ResultCode::SignatureError);
}

#[test]
fn attack_rollback() {
    let newer = [os(), installed("pay", 310, 13)];
    let error = PackageError::Counter {
        offered: 12,
        installed: 13,
    };
    assert_eq!(check(&manifest(), &newer, None), Err(error));
    assert_eq!(error.code(), ResultCode::VersionTooLow);
    // The same counter, but a lower version.
    assert_eq!(
        check(&manifest(), &[os(), installed("pay", 311, 12)], None),
        Err(PackageError::Version)
    );
    // A higher version does not outweigh a lower counter, nor the other way round.
    let manifest = Manifest {
        order: 999,
        ..manifest()
    };
    assert_eq!(check(&manifest, &newer, None), Err(error));
    let manifest = Manifest {
        order: 309,
        counter: 99,
        ..manifest
    };
    assert_eq!(check(&manifest, &newer, None), Err(PackageError::Version));
    // Another component's counter is not this one's.
    assert_eq!(
        check(&self::manifest(), &[os(), installed("loyalty", 900, 99)], None),
        Ok(())
    );
}

#[test]
fn a_grant_lets_one_terminal_go_back_with_one_component_for_a_while() {
    let newer = [os(), installed("pay", 400, 14)];
    let grant = Grant {
        holder: holder(1),
        component: "pay".into(),
        min_counter: 12,
        expiry: NOW + DAY,
    };
    let try_with = |grant: &Grant| check(&manifest(), &newer, Some(&signed(grant, &["vendor-2"])));
    assert_eq!(try_with(&grant), Ok(()));
    assert_eq!(
        try_with(&Grant {
            holder: holder(2),
            ..grant.clone()
        }),
        Err(PackageError::Grant)
    );
    assert_eq!(
        try_with(&Grant {
            component: "os".into(),
            ..grant.clone()
        }),
        Err(PackageError::Grant)
    );
    assert_eq!(
        try_with(&Grant {
            min_counter: 13,
            ..grant.clone()
        }),
        Err(PackageError::Grant)
    );
    assert_eq!(PackageError::Grant.code(), ResultCode::NotPermitted);
    // It lets nothing else pass.
    let other = check_for(
        &holder(1),
        Some("C"),
        &manifest(),
        &newer,
        Some(&signed(&grant, &["vendor"])),
    );
    assert_eq!(other, Err(PackageError::Target("hardware")));
    // Where nothing goes back none is needed.
    let useless = Grant {
        holder: holder(2),
        ..grant.clone()
    };
    assert_eq!(
        check(&manifest(), &[os()], Some(&signed(&useless, &["vendor"]))),
        Ok(())
    );

    let verify = |grant: &SignedGrant, time| grant.verify(&store(), time).map(|verified| verified.grant().clone());
    assert_eq!(verify(&signed(&grant, &["vendor"]), NOW), Ok(grant.clone()));
    assert_eq!(
        verify(&signed(&grant, &["vendor"]), grant.expiry - 1),
        Ok(grant.clone())
    );
    assert_eq!(
        verify(&signed(&grant, &["vendor"]), grant.expiry),
        Err(PackageError::Expired)
    );
    let missing = Err(PackageError::Signatures(Role::VendorSigner));
    assert_eq!(verify(&signed(&grant, &["acquirer", "root"]), NOW), missing);
    let both = TrustStore {
        roles: vec![role(Role::VendorSigner, 2, &["vendor", "vendor-2"])],
        ..store()
    };
    assert!(signed(&grant, &["vendor", "vendor-2"]).verify(&both, NOW).is_ok());
    assert!(signed(&grant, &["vendor", "vendor"]).verify(&both, NOW).is_err());
    let acquirer = TrustStore {
        roles: vec![role(Role::AcquirerSigner, 1, &["acquirer"])],
        ..store()
    };
    assert_eq!(
        signed(&grant, &["acquirer"]).verify(&acquirer, NOW).map(|_| ()),
        missing.map(|_| ())
    );
}

/// Whoever holds back new packages can offer an old one only until it expires.
#[test]
fn attack_freeze() {
    let signed = signed(&manifest(), &["vendor"]);
    let at = |time| signed.verify(&store(), Some(time)).map(|_| ());
    let (from, end) = (NOW - DAY, NOW + 90 * DAY);
    assert_eq!(at(from - 1), Err(PackageError::NotYetValid));
    assert_eq!(at(from), Ok(()));
    assert_eq!(at(end - 1), Ok(()));
    assert_eq!(at(end), Err(PackageError::Expired));
    assert_eq!(PackageError::Expired.code(), ResultCode::Expired);
    // Without a clock only counter and version stand against it.
    assert!(signed.verify(&store(), None).is_ok());
}

/// Parts that were never meant to run together.
#[test]
fn attack_mix_and_match() {
    assert_eq!(check(&manifest(), &[], None), Err(PackageError::Dependency(0)));
    assert_eq!(
        check(&manifest(), &[installed("os", 49, 9)], None),
        Err(PackageError::Dependency(0))
    );
    assert_eq!(
        check(&manifest(), &[installed("pay", 300, 1)], None),
        Err(PackageError::Dependency(0))
    );
    assert_eq!(PackageError::Dependency(0).code(), ResultCode::Missing);
    let second = Dependency {
        component: "emv".into(),
        order: 7,
    };
    let dependencies = vec![manifest().dependencies.remove(0), second];
    let manifest = Manifest {
        dependencies,
        ..manifest()
    };
    assert_eq!(check(&manifest, &[os()], None), Err(PackageError::Dependency(1)));
    assert_eq!(check(&manifest, &[os(), installed("emv", 7, 1)], None), Ok(()));
    // Too old to go to it in one step.
    let old = [os(), installed("emv", 7, 1), installed("pay", 199, 1)];
    assert_eq!(check(&manifest, &old, None), Err(PackageError::TooOld));

    // One package's signature on another's manifest, and one package's block map in another's file.
    let (this, other) = (signed(&self::manifest(), &["vendor"]), signed(&manifest, &["vendor"]));
    let mixed = SignedManifest::assemble(this.element(), other.signatures()).unwrap();
    assert!(mixed.verify(&store(), Some(NOW)).is_err());
    let map = block_map(&content(70_001));
    assert_eq!(PackageFile::head(&this, Some(&map)), Err(PackageError::Block));
    assert_eq!(PackageFile::head(&this, None), Err(PackageError::Block));
}

#[test]
fn attack_wrong_model() {
    let for_target = |vendor: &str, model: &str, hardware| {
        let holder = Holder {
            vendor: vendor.into(),
            model: model.into(),
            serial: "1".into(),
        };
        check_for(&holder, hardware, &manifest(), &[os()], None)
    };
    assert_eq!(for_target("PAX", "P90", Some("B")), Ok(()));
    assert_eq!(
        for_target("VeriFone", "P90", Some("B")),
        Err(PackageError::Target("vendor"))
    );
    assert_eq!(for_target("PAX", "P8", Some("B")), Err(PackageError::Target("model")));
    assert_eq!(
        for_target("PAX", "P80", Some("A")),
        Err(PackageError::Target("hardware"))
    );
    assert_eq!(for_target("PAX", "P80", None), Err(PackageError::Target("hardware")));
    assert_eq!(PackageError::Target("model").code(), ResultCode::ModelMismatch);
    let any = Manifest {
        models: Vec::new(),
        hardware: Vec::new(),
        ..manifest()
    };
    assert_eq!(check_for(&holder(1), None, &any, &[os()], None), Ok(()));
}

/// Data without end is refused at the first byte too many; no head asks for more than its bound.
#[test]
fn attack_endless_data() {
    let mut check = ContentCheck::new(&manifest());
    check.update(&content(70_000)).unwrap();
    assert_eq!(check.update(&[0]), Err(PackageError::Size));
    assert_eq!(PackageError::Size.code(), ResultCode::LengthError);
    let mut check = ContentCheck::new(&manifest());
    assert_eq!(check.update(&vec![0; 70_001]), Err(PackageError::Size));
    check.update(&content(69_999)).unwrap();
    assert_eq!(check.finish(), Err(PackageError::Size));

    for length in [
        &[0x84, 0xFF, 0xFF, 0xFF, 0xFF][..],
        &[0x83, 0x01, 0, 0],
        &[0x82, 0x80, 0x00],
        &[0x80],
        &[0x85, 1],
    ] {
        let head = [b"TMSPKG\x01\n\x78", length, &[0; 16]].concat();
        let error = PackageFile::parse(&head).unwrap_err();
        assert!(
            matches!(error, PackageError::Malformed(error) if error.kind == DecodeErrorKind::Length),
            "{length:?}"
        );
    }
    let mut out = Writer::new();
    out.bytes(Tag(0x79), &vec![0; MAX_SIGNED]);
    assert_eq!(
        SignedManifest::assemble(&out.into_vec(), &[]).unwrap_err().kind,
        DecodeErrorKind::Length
    );
    // More signatures than any package needs: each would cost a verification.
    let one = signed(&manifest(), &["vendor"]).signatures()[0].clone();
    let many = vec![
        KeySignature {
            signature: vec![0; 8].into(),
            ..one
        };
        17
    ];
    let error = SignedManifest::assemble(&Signed::to_be_signed(&manifest()), &many).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::TooMany);
}

/// Fewer stolen keys than the threshold are worth nothing.
#[test]
fn attack_key_compromise_below_threshold() {
    let two = TrustStore {
        roles: vec![role(Role::VendorSigner, 2, &["vendor", "vendor-2"])],
        ..store()
    };
    let verify = |keys: &[&str], store: &TrustStore| signed(&manifest(), keys).verify(store, Some(NOW)).map(|_| ());
    let missing = |role| Err(PackageError::Signatures(role));
    assert_eq!(verify(&["vendor"], &two), missing(Role::VendorSigner));
    // Twice the same key is one key.
    assert_eq!(verify(&["vendor", "vendor"], &two), missing(Role::VendorSigner));
    assert_eq!(verify(&["vendor", "acquirer"], &two), missing(Role::VendorSigner));
    assert_eq!(verify(&["vendor", "vendor-2"], &two), Ok(()));

    // Where vendor and acquirer must sign, one role's keys do not make up for the other's.
    let both = vec![
        role(Role::VendorSigner, 1, &["vendor", "vendor-2"]),
        role(Role::AcquirerSigner, 1, &["acquirer"]),
    ];
    let both = TrustStore { roles: both, ..store() };
    assert_eq!(verify(&["vendor", "vendor-2"], &both), missing(Role::AcquirerSigner));
    assert_eq!(verify(&["acquirer"], &both), missing(Role::VendorSigner));
    assert_eq!(verify(&["acquirer", "vendor"], &both), Ok(()));

    // A key that the manifest does not list does not count.
    let unlisted = Manifest {
        signers: vec![public_key("vendor").id()],
        ..manifest()
    };
    let result = signed(&unlisted, &["vendor", "vendor-2"]).verify(&two, Some(NOW));
    assert_eq!(result.map(|_| ()), missing(Role::VendorSigner));
}

/// A stolen key has signed the highest version and counter there are; once it is replaced, genuine packages go in again.
#[test]
fn attack_fast_forward_recovery() {
    let fast = Manifest {
        order: u64::MAX,
        counter: u32::MAX,
        ..manifest()
    };
    let installed = signed(&fast, &["vendor-2"])
        .verify(&store(), Some(NOW))
        .unwrap()
        .installed();
    let genuine = signed(&manifest(), &["vendor"]);
    let (holder, installed) = (holder(1), [os(), installed]);
    let target = Target {
        holder: &holder,
        hardware: Some("B"),
        installed: &installed,
    };
    let check = |store: &TrustStore| {
        let verified = genuine.verify(store, Some(NOW)).unwrap();
        verified.check(store, &target, None)
    };
    let blocked = Err(PackageError::Counter {
        offered: 12,
        installed: u32::MAX,
    });
    assert_eq!(check(&store()), blocked);
    // The root takes the stolen key away.
    let next = TrustStore {
        version: 2,
        roles: vec![role(Role::VendorSigner, 1, &["vendor"])],
        ..store()
    };
    let next = store().update(&signed(&next, &["root"])).unwrap();
    assert_eq!(check(&next), Ok(()));
    assert!(signed(&fast, &["vendor-2"]).verify(&next, Some(NOW)).is_err());
    // Any other change of the trust store leaves the counters as they are.
    let other = TrustStore { version: 2, ..store() };
    assert_eq!(check(&store().update(&signed(&other, &["root"])).unwrap()), blocked);
}

#[test]
fn a_trust_store_is_changed_by_the_old_and_the_new_root_together() {
    let next = TrustStore {
        version: 2,
        root: KeySet {
            threshold: 1,
            keys: vec![public_key("root-2")],
        },
        ..store()
    };
    let update = |old: &TrustStore, new: &TrustStore, keys: &[&str]| old.update(&signed(new, keys));
    assert_eq!(update(&store(), &next, &["root", "root-2"]), Ok(next.clone()));
    assert_eq!(update(&store(), &next, &["root-2"]), Err(TrustError::OldRoot));
    assert_eq!(update(&store(), &next, &["root"]), Err(TrustError::NewRoot));
    assert_eq!(
        update(&store(), &next, &["vendor", "vendor-2"]),
        Err(TrustError::OldRoot)
    );
    // Back to the old root, which is no longer trusted.
    let back = TrustStore { version: 3, ..store() };
    assert_eq!(update(&next, &back, &["root"]), Err(TrustError::OldRoot));
    for version in [0, 1] {
        let stale = TrustStore { version, ..store() };
        assert_eq!(update(&store(), &stale, &["root"]), Err(TrustError::Version));
    }
    let two = KeySet {
        threshold: 2,
        keys: vec![public_key("root"), public_key("root-2")],
    };
    let two = TrustStore {
        version: 2,
        root: two,
        ..store()
    };
    assert_eq!(update(&store(), &two, &["root"]), Err(TrustError::NewRoot));
    assert!(update(&store(), &two, &["root", "root-2"]).is_ok());
    let three = TrustStore { version: 3, ..store() };
    assert_eq!(update(&two, &three, &["root", "root"]), Err(TrustError::OldRoot));
    assert!(update(&two, &three, &["root", "root-2"]).is_ok());
}

#[test]
fn a_trust_store_that_contradicts_itself_is_refused() {
    let store = store();
    assert_eq!(TrustStore::decode(&store.encode()), Ok(store.clone()));
    let set = |threshold, keys: &[&str]| KeySet {
        threshold,
        keys: keys.iter().map(|key| public_key(key)).collect(),
    };
    let vendor = |threshold, keys: &[&str]| vec![role(Role::VendorSigner, threshold, keys)];
    for wrong in [
        TrustStore {
            root: set(0, &["root"]),
            ..store.clone()
        },
        TrustStore {
            root: set(2, &["root"]),
            ..store.clone()
        },
        TrustStore {
            root: set(1, &[]),
            ..store.clone()
        },
        TrustStore {
            root: set(2, &["root", "root"]),
            ..store.clone()
        },
        TrustStore {
            roles: Vec::new(),
            ..store.clone()
        },
        TrustStore {
            roles: vendor(0, &["vendor"]),
            ..store.clone()
        },
        TrustStore {
            roles: vendor(2, &["vendor"]),
            ..store.clone()
        },
        TrustStore {
            roles: vendor(2, &["vendor", "vendor"]),
            ..store.clone()
        },
        // The root's key, or another role's, in a second place.
        TrustStore {
            roles: vendor(1, &["root"]),
            ..store.clone()
        },
        TrustStore {
            roles: vec![
                role(Role::VendorSigner, 1, &["vendor"]),
                role(Role::AcquirerSigner, 1, &["vendor"]),
            ],
            ..store.clone()
        },
        TrustStore {
            roles: vec![
                role(Role::VendorSigner, 1, &["vendor"]),
                role(Role::VendorSigner, 1, &["vendor-2"]),
            ],
            ..store.clone()
        },
        TrustStore {
            roles: vec![role(Role::Server, 1, &["server"])],
            ..store.clone()
        },
    ] {
        assert!(TrustStore::decode(&wrong.encode()).is_err(), "{wrong:?}");
        assert!(SignedTrust::assemble(&wrong.encode(), &[]).is_err());
    }
    // One that was built and not decoded lets nothing in either.
    let open = TrustStore {
        roles: Vec::new(),
        ..store
    };
    assert!(signed(&manifest(), &[]).verify(&open, None).is_err());
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let refused = |manifest: &Manifest| SignedManifest::assemble(&Signed::to_be_signed(manifest), &[]).is_err();
    assert!(!refused(&manifest()));
    let files = |files: Vec<FileEntry>| Manifest { files, ..manifest() };
    for name in [
        "",
        "/etc/passwd",
        "../x",
        "a/../../b",
        "a//b",
        "./a",
        "a\\b",
        "c:x",
        "a\0b",
        "a/",
        &"x".repeat(256),
    ] {
        assert!(refused(&files(vec![file(name, 0, 1)])), "{name:?}");
    }
    assert!(!refused(&files(vec![file("..a/b..", 0, 1)])));
    assert!(refused(&files(vec![file("a", 0, 70_001)])));
    assert!(refused(&files(vec![file("a", u64::MAX, 2)])));
    assert!(refused(&files(vec![file("a", 0, 10), file("b", 9, 1)])));
    assert!(refused(&files(vec![file("a", 0, 10), file("a", 10, 1)])));
    assert!(refused(&Manifest {
        component: String::new(),
        ..manifest()
    }));
    assert!(refused(&Manifest {
        size: 69_000,
        files: Vec::new(),
        ..manifest()
    }));
    assert!(refused(&Manifest {
        size: 0,
        files: Vec::new(),
        ..manifest()
    }));
    assert!(!refused(&Manifest {
        size: 0,
        files: Vec::new(),
        block_map: None,
        ..manifest()
    }));
}

#[test]
fn a_signature_can_be_added_later() {
    let first = signed(&manifest(), &["vendor"]);
    let second = signed(&manifest(), &["acquirer"]).signatures()[0].clone();
    let both = first.with(second.clone()).unwrap();
    assert_eq!(both, signed(&manifest(), &["vendor", "acquirer"]));
    // In the place of an earlier one of the same key.
    assert_eq!(both.with(second).unwrap().signatures().len(), 2);
}

#[test]
fn what_is_installed_survives() {
    let installed = installed("pay", 310, 12);
    assert_eq!(Installed::from_slice(&installed.to_vec()), Ok(installed));
}

fn package() -> (Vec<u8>, SignedManifest) {
    let signed = signed(&manifest(), &["vendor"]);
    let head = PackageFile::head(&signed, Some(&block_map(&content(70_000)))).unwrap();
    (head, signed)
}

#[test]
fn a_package_file_is_read_from_its_beginning() {
    let (head, signed) = package();
    let file = [&head[..], &content(70_000)].concat();
    let mut wanted = 0;
    for length in 0..=head.len() + 10 {
        match PackageFile::parse(&file[..length]).unwrap() {
            Parsed::More(more) => {
                assert!(more > length && more <= head.len().max(14), "{more} at {length}");
                assert!(more >= wanted);
                wanted = more;
            }
            Parsed::Head(package) => {
                assert!(length >= head.len());
                assert_eq!(package.content_offset, head.len() as u64);
                assert_eq!(package.size(), file.len() as u64);
                assert_eq!(package.manifest, signed);
                let map = package.block_map.unwrap();
                for (index, block) in file[head.len()..].chunks(4096).enumerate() {
                    assert_eq!(map.verify_block(index, block), Ok(()));
                }
            }
        }
    }
    assert_eq!(wanted, head.len());
    assert!(head.len() <= PackageFile::MAX_HEAD);

    let plain = Manifest {
        block_map: None,
        ..manifest()
    };
    let signed = crate::package::signed(&plain, &["vendor"]);
    let head = PackageFile::head(&signed, None).unwrap();
    let Parsed::Head(package) = PackageFile::parse(&head).unwrap() else {
        panic!("the head is whole")
    };
    assert_eq!((package.block_map, package.content_offset), (None, head.len() as u64));
}

#[test]
fn a_changed_head_is_refused_or_does_not_verify() {
    let (head, _) = package();
    for index in 0..head.len() {
        let mut changed = head.clone();
        changed[index] ^= 2;
        match PackageFile::parse(&changed) {
            Err(_) => {}
            Ok(Parsed::More(more)) => assert!(more <= PackageFile::MAX_HEAD),
            Ok(Parsed::Head(package)) => {
                assert!(package.manifest.verify(&store(), Some(NOW)).is_err(), "byte {index}");
            }
        }
    }
    assert_eq!(PackageFile::parse(b"TMSPKG\x02\n"), Err(PackageError::Magic));
    assert_eq!(PackageFile::parse(b"PK"), Err(PackageError::Magic));
    assert_eq!(PackageFile::parse(b"TMSPKG\x01\n\x30"), Err(PackageError::Magic));
    assert_eq!(PackageError::Magic.code(), ResultCode::FormatError);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rubbish_is_refused(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
        prop_assert!(SignedManifest::decode(&bytes).is_err());
        prop_assert!(SignedTrust::decode(&bytes).is_err());
        prop_assert!(SignedGrant::decode(&bytes).is_err());
        prop_assert!(TrustStore::decode(&bytes).is_err());
        let behind = [b"TMSPKG\x01\n\x78", &bytes[..]].concat();
        match PackageFile::parse(&behind) {
            Ok(Parsed::More(more)) => prop_assert!(more <= PackageFile::MAX_HEAD),
            Ok(Parsed::Head(_)) => prop_assert!(false),
            Err(_) => {}
        }
    }
}
