//! RSA keys in PEM, as OpenSSL reads and writes them.

use anyhow::{Context, Result, anyhow, bail};
use rsa::RsaPublicKey;
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tms_core::signer::{PemSigner, Signer, SignerError};
use tms_proto::certificate::Certificate;
use tms_proto::public_key::PublicKey;
use tms_server::secret;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// The size of new keys, in bits, where nothing else is asked for.
pub const DEFAULT_BITS: usize = 3072;

/// Makes an RSA key of `bits` bits, in PKCS#8 PEM. This takes a second or more of computing.
///
/// # Errors
/// Where `bits` is not a multiple of 8 from 2048 to 4096.
pub async fn generate(bits: usize) -> Result<Zeroizing<String>> {
    let made = spawn_blocking(move || PemSigner::generate(bits)).await?;
    made.with_context(|| format!("cannot make a key of {bits} bits: a multiple of 8 from 2048 to 4096 is needed"))
}

/// Makes a key and writes it to a new file that only its owner may read.
///
/// # Errors
/// Where the file is there already: keys are never written over.
pub async fn generate_file(path: &Path, bits: usize) -> Result<PemSigner> {
    let pem = generate(bits).await?;
    secret::write(path, pem.as_bytes())?;
    Ok(PemSigner::from_pem(&pem)?)
}

/// Writes a file that anybody may read, in the place of one that may be there.
///
/// # Errors
/// Where it cannot be written.
pub fn write_public(path: &Path, content: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a private key, to sign with it.
///
/// # Errors
/// Where the file cannot be read, is open to others, or holds no unencrypted PKCS#8 key of an allowed size.
pub fn read_signer(path: &Path) -> Result<PemSigner> {
    PemSigner::from_pem(&secret::read(path)?).map_err(|error| match error {
        SignerError::Malformed => anyhow!(
            "{file} is not an unencrypted RSA private key in PKCS#8: convert it with `openssl pkcs8 -topk8 -nocrypt -in \
             {file} -out NEW.pem`",
            file = path.display()
        ),
        other => anyhow::Error::new(other).context(format!("the private key {} cannot be used", path.display())),
    })
}

/// Reads a public key: of a public or private key in PEM, or of a certificate.
///
/// # Errors
/// Where the file is none of these.
pub fn read_public(path: &Path) -> Result<PublicKey> {
    let content = fs::read(path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read the key {}", path.display()))?;
    if let Ok(certificate) = Certificate::decode(&content) {
        return Ok(certificate.body().key.clone());
    }
    let text = std::str::from_utf8(&content).unwrap_or_default();
    if text.contains("PRIVATE KEY") {
        return read_signer(path).map(|signer| signer.public_key().clone());
    }
    let Ok(key) = RsaPublicKey::from_public_key_pem(text) else {
        bail!("{} is no RSA key in PEM and no certificate", path.display());
    };
    PublicKey::new(key).with_context(|| format!("the key {} cannot be used", path.display()))
}

/// A public key in PEM, as `openssl rsa -pubout` writes it.
///
/// # Errors
/// Where the key cannot be encoded.
pub fn public_pem(key: &PublicKey) -> Result<String> {
    Ok(key.as_rsa().to_public_key_pem(LineEnding::LF)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_written_once_and_read_in_each_form() {
        let directory = tempfile::tempdir().unwrap();
        let private = directory.path().join("key.pem");
        let public = directory.path().join("public.pem");
        let signer = generate_file(&private, 2048).await.unwrap();
        write_public(&public, public_pem(signer.public_key()).unwrap().as_bytes()).unwrap();
        assert_eq!(read_public(&public).unwrap(), *signer.public_key());
        assert_eq!(read_public(&private).unwrap(), *signer.public_key());
        assert_eq!(read_signer(&private).unwrap().public_key(), signer.public_key());

        assert!(
            generate_file(&private, 2048)
                .await
                .unwrap_err()
                .to_string()
                .contains("never written over")
        );
        assert_eq!(read_public(&private).unwrap(), *signer.public_key());
        assert!(generate(2047).await.unwrap_err().to_string().contains("2048 to 4096"));
    }

    #[test]
    fn other_forms_of_keys_are_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.pem");
        secret::write(
            &path,
            b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(
            read_signer(&path)
                .unwrap_err()
                .to_string()
                .contains("openssl pkcs8 -topk8")
        );
        assert!(
            read_public(&path)
                .unwrap_err()
                .to_string()
                .contains("openssl pkcs8 -topk8")
        );
        write_public(&directory.path().join("x"), b"hello").unwrap();
        assert!(
            read_public(&directory.path().join("x"))
                .unwrap_err()
                .to_string()
                .contains("no RSA key")
        );
    }
}
