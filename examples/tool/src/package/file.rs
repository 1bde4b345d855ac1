//! Package files that are there: read, verified, signed once more.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tms_proto::package::{
    BlockMapBuilder, ContentCheck, KeySignature, Manifest, PackageError, PackageFile, Parsed, Signable, SignedManifest,
    TrustStore, VerifiedManifest,
};
use tms_proto::public_key::{PublicKey, signing_input};

/// A package file, and where it lies.
#[derive(Debug, Clone)]
pub struct OpenPackage {
    /// Its head: manifest and block map.
    pub head: PackageFile,
    /// Where it lies.
    pub path: PathBuf,
}

/// Reads the head of a package file.
///
/// # Errors
/// Where the file cannot be read or is no package.
pub fn read(path: &Path) -> Result<OpenPackage> {
    let mut file = File::open(path).with_context(|| format!("cannot read the package {}", path.display()))?;
    let mut prefix = Vec::new();
    loop {
        let parsed =
            PackageFile::parse(&prefix).with_context(|| format!("{} is not a package file", path.display()))?;
        match parsed {
            Parsed::Head(head) => {
                return Ok(OpenPackage {
                    head: *head,
                    path: path.to_owned(),
                });
            }
            Parsed::More(wanted) => {
                let missing = u64::try_from(wanted.saturating_sub(prefix.len()))?;
                if (&mut file).take(missing).read_to_end(&mut prefix)? == 0 {
                    bail!(
                        "{} ends early: it is {} bytes long and not a whole package",
                        path.display(),
                        prefix.len()
                    );
                }
            }
        }
    }
}

impl OpenPackage {
    /// The manifest, signed or not yet.
    #[must_use]
    pub const fn manifest(&self) -> &SignedManifest {
        &self.head.manifest
    }

    /// The bytes that a key has to sign: what `openssl dgst -sign` is given.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        signing_input(Manifest::DOMAIN, self.manifest().element())
    }

    /// Verifies all that a terminal verifies, but for what it has installed: signatures, dates, size, digest, block map.
    /// The outer error is that of a file that cannot be read.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn verify(&self, trust: &TrustStore, now: u64) -> Result<Result<VerifiedManifest, PackageError>> {
        let verified = match self.manifest().verify(trust, Some(now)) {
            Ok(verified) => verified,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.verify_content()?.map(|()| verified))
    }

    /// Verifies the content against the manifest.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn verify_content(&self) -> Result<Result<(), PackageError>> {
        let manifest = self.manifest().unverified();
        let mut content = self.content()?;
        let mut check = ContentCheck::new(manifest);
        let mut map = manifest
            .block_map
            .map(|reference| BlockMapBuilder::new(reference.block_log2));
        let mut chunk = vec![0; 256 * 1024];
        loop {
            let count = content
                .read(&mut chunk)
                .with_context(|| format!("cannot read {}", self.path.display()))?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if let Err(error) = check.update(bytes) {
                return Ok(Err(error));
            }
            if let Some(map) = &mut map {
                map.update(bytes);
            }
        }
        if let Err(error) = check.finish() {
            return Ok(Err(error));
        }
        let found = map.and_then(BlockMapBuilder::finish).map(|map| map.reference());
        Ok(if found == manifest.block_map {
            Ok(())
        } else {
            Err(PackageError::Block)
        })
    }

    /// Adds a signature that was made elsewhere, and writes the package to `out`, which may be the file itself.
    ///
    /// # Errors
    /// Where the signature is not one of this key over this manifest, or the manifest does not name the key.
    pub fn attach(&self, key: &PublicKey, signature: &[u8], out: &Path) -> Result<SignedManifest> {
        let manifest = self.manifest();
        if !manifest.unverified().signers.contains(&key.id()) {
            bail!(
                "the manifest does not name key {} as a signer, so that its signature would not count: build the package \
                 with --signer for this key",
                key.id().0.short()
            );
        }
        if key.verify(Manifest::DOMAIN, manifest.element(), signature).is_err() {
            bail!(
                "the signature is not one of key {} over this package: was it made over the file that `tms package tbs` wrote, \
                 with -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32?",
                key.id().0.short()
            );
        }
        let signature = KeySignature {
            key: key.id(),
            signature: signature.to_vec().into(),
        };
        let signed = manifest
            .with(signature)
            .context("the package cannot take another signature")?;
        let head =
            PackageFile::head(&signed, self.head.block_map.as_ref()).context("the package contradicts itself")?;
        let mut content = self.content()?;
        super::build::write(out, &head, |file| io::copy(&mut content, file).map(|_| ()))?;
        Ok(signed)
    }

    /// The content, whole: for a package that was verified.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read_content(&self) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.content()?
            .read_to_end(&mut content)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(content)
    }

    fn content(&self) -> Result<File> {
        let opened = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.head.content_offset))?;
            Ok(file)
        });
        opened.with_context(|| format!("cannot read {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;
    use crate::package::{Recipe, build};
    use std::fs;
    use tms_core::signer::{PemSigner, Signer};
    use tms_proto::code::Role;
    use tms_proto::package::{KeySet, RoleKeys};

    async fn signer() -> PemSigner {
        PemSigner::from_pem(&key::generate(2048).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_package_is_built_signed_off_line_and_verified() {
        let directory = tempfile::tempdir().unwrap();
        let (vendor, acquirer, root) = (signer().await, signer().await, signer().await);
        let content = directory.path().join("app.bin");
        fs::write(&content, vec![0x5A; 200_000]).unwrap();
        let recipe = Recipe {
            component: Some("cashier".into()),
            version: Some("3.2.1".into()),
            counter: Some(4),
            vendor: Some("PAX".into()),
            models: vec!["P80".into()],
            content: Some(content),
            ..Recipe::default()
        };
        let out = directory.path().join("app.tmspkg");
        let later = acquirer.public_key().id();
        let built = build(&recipe, std::slice::from_ref(&vendor), &[later], &out)
            .await
            .unwrap();
        assert_eq!(built.size, fs::metadata(&out).unwrap().len());

        let role = |role, signer: &PemSigner| RoleKeys {
            role,
            threshold: 1,
            keys: vec![signer.public_key().clone()],
        };
        let trust = TrustStore {
            version: 1,
            root: KeySet {
                threshold: 1,
                keys: vec![root.public_key().clone()],
            },
            roles: vec![role(Role::VendorSigner, &vendor), role(Role::AcquirerSigner, &acquirer)],
        };
        let package = read(&out).unwrap();
        let missing = package.verify(&trust, 1_790_000_000).unwrap();
        assert_eq!(missing.unwrap_err(), PackageError::Signatures(Role::AcquirerSigner));

        let signature = acquirer
            .sign(Manifest::DOMAIN, package.manifest().element())
            .await
            .unwrap();
        let stranger = signer().await;
        assert!(package.attach(stranger.public_key(), &signature, &out).is_err());
        assert!(package.attach(acquirer.public_key(), &[7; 256], &out).is_err());
        package.attach(acquirer.public_key(), &signature, &out).unwrap();
        let package = read(&out).unwrap();
        assert_eq!(
            package.verify(&trust, 1_790_000_000).unwrap().unwrap().signers().len(),
            2
        );

        let mut bytes = fs::read(&out).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&out, &bytes).unwrap();
        assert_eq!(read(&out).unwrap().verify_content().unwrap(), Err(PackageError::Digest));
        bytes.pop();
        fs::write(&out, &bytes).unwrap();
        assert_eq!(read(&out).unwrap().verify_content().unwrap(), Err(PackageError::Size));
        fs::write(&out, &bytes[..100]).unwrap();
        assert!(read(&out).unwrap_err().to_string().contains("ends early"));
    }
}
