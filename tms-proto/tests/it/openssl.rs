//! Signatures to and from OpenSSL (§10.1, §11.8).

use crate::party::{key_path, public_key, sign};
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use std::path::PathBuf;
use std::process::Command;
use tms_proto::public_key::{SignatureError, signing_input};

const DOMAIN: &str = "tms package 1";

/// Runs `openssl` and gives whether it succeeded; fails where there is none.
fn openssl(arguments: &[&str]) -> bool {
    let output = Command::new("openssl").args(arguments).output();
    let output = output.expect("this test needs the program `openssl`: on Debian, `apt-get install openssl`");
    output.status.success()
}

/// A file for this test alone.
fn scratch(name: &str, content: &[u8]) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("openssl-{}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn remove(paths: &[&String]) {
    paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

#[test]
fn what_openssl_signs_is_accepted() {
    let message = b"\x79\x03\x80\x01\x07";
    let input = scratch("in", &signing_input(DOMAIN, message));
    let signature = scratch("out", b"");
    let key = key_path("vendor");
    let base = [
        "dgst",
        "-sha256",
        "-sign",
        &key,
        "-sigopt",
        "rsa_padding_mode:pss",
        "-out",
        &signature,
    ];

    assert!(openssl(
        &[&base[..], &["-sigopt", "rsa_pss_saltlen:32", &input]].concat()
    ));
    let bytes = std::fs::read(&signature).unwrap();
    assert_eq!(public_key("vendor").verify(DOMAIN, message, &bytes), Ok(()));
    assert_eq!(
        public_key("acquirer").verify(DOMAIN, message, &bytes),
        Err(SignatureError)
    );
    assert_eq!(
        public_key("vendor").verify("tms grant 1", message, &bytes),
        Err(SignatureError)
    );

    // Without the option OpenSSL takes the longest salt; with another one, that one. Neither is accepted.
    for option in [
        &[][..],
        &["-sigopt", "rsa_pss_saltlen:20"],
        &["-sigopt", "rsa_pss_saltlen:33"],
    ] {
        assert!(openssl(&[&base[..], option, &[&input[..]]].concat()));
        let bytes = std::fs::read(&signature).unwrap();
        assert_eq!(
            public_key("vendor").verify(DOMAIN, message, &bytes),
            Err(SignatureError)
        );
    }
    remove(&[&input, &signature]);
}

#[test]
fn what_is_signed_here_is_accepted_by_openssl() {
    let message = b"\x79\x03\x80\x01\x08";
    let input = scratch("in2", &signing_input(DOMAIN, message));
    let signature = scratch("sig2", &sign("vendor", DOMAIN, message));
    let pem = public_key("vendor").as_rsa().to_public_key_pem(LineEnding::LF).unwrap();
    let key = scratch("pub2", pem.as_bytes());
    let verify = |input: &str| {
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];
        openssl(
            &[
                &["dgst", "-sha256", "-verify", &key, "-signature", &signature][..],
                &pss,
                &[input],
            ]
            .concat(),
        )
    };
    assert!(verify(&input));
    let other = scratch("other2", b"something else");
    assert!(!verify(&other));
    remove(&[&input, &signature, &key, &other]);
}
