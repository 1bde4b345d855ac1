//! Building a package: content is read twice, and never stands in memory whole.

use super::recipe::Recipe;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tms_core::signer::{PemSigner, Signer};
use tms_proto::digest::{Digest, Hasher};
use tms_proto::identity::KeyId;
use tms_proto::package::{
    BlockMap, BlockMapBuilder, Dependency, FileEntry, Hints, KeySignature, Manifest, PackageFile, Signable,
    SignedManifest,
};

/// A package that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The manifest, signed by the keys that were there.
    pub manifest: SignedManifest,
    /// Size of the file, in bytes.
    pub size: u64,
}

/// Builds the package file `out` of content that is nowhere else, signed by `signer`.
///
/// # Errors
/// Those of [`build`].
pub async fn build_of(content: &[u8], recipe: Recipe, signer: &PemSigner, out: &Path) -> Result<Built> {
    let file = out.with_extension("content");
    fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    let recipe = Recipe {
        content: Some(file.clone()),
        ..recipe
    };
    let built = build(&recipe, std::slice::from_ref(signer), &[], out).await?;
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(built)
}

/// Builds the package file `out`. `signers` sign it now; keys of which only the ids are in `later` are to sign it off-line
/// before it is of use.
///
/// # Errors
/// Where the recipe does not say enough, a file cannot be read or written, or nobody is to sign.
pub async fn build(recipe: &Recipe, signers: &[PemSigner], later: &[KeyId], out: &Path) -> Result<Built> {
    let needed = |field: Option<&String>, name: &str| {
        field
            .filter(|text| !text.is_empty())
            .cloned()
            .with_context(|| format!("the package needs a {name}: give --{name}, or `{name} = …` in the manifest file"))
    };
    let component = needed(recipe.component.as_ref(), "component")?;
    let version = needed(recipe.version.as_ref(), "version")?;
    let vendor = needed(recipe.vendor.as_ref(), "vendor")?;
    let counter = recipe
        .counter
        .context("the package needs a security counter: give --counter, 0 for a first one")?;
    if recipe.models.is_empty() {
        bail!("the package needs at least one model: give --model");
    }
    let mut keys: Vec<KeyId> = signers.iter().map(|signer| signer.public_key().id()).collect();
    keys.extend(
        later
            .iter()
            .copied()
            .filter(|key| !keys.contains(key))
            .collect::<Vec<_>>(),
    );
    if keys.is_empty() {
        bail!(
            "somebody has to sign the package: give --key with a private key, or --signer with the public key of one that signs off-line"
        );
    }

    let sources = sources(recipe)?;
    let Scan {
        size,
        digest,
        block_map,
        sizes,
    } = scan(&sources)?;
    let mut files = Vec::new();
    let mut offset = 0;
    for (file, size) in recipe.files.iter().zip(sizes) {
        files.push(FileEntry {
            name: file.name.clone(),
            role: file.role.clone(),
            mode: file.mode()?,
            offset,
            size,
        });
        offset += size;
    }
    let manifest = Manifest {
        component,
        kind: recipe.kind()?,
        order: recipe.order(&version)?.0,
        version,
        counter,
        min_from: recipe.min_from.map(|order| order.0),
        vendor,
        models: recipe.models.clone(),
        hardware: recipe.hardware.clone(),
        dependencies: recipe
            .dependencies
            .iter()
            .map(|needed| Dependency {
                component: needed.component.clone(),
                order: needed.version.0,
            })
            .collect(),
        size,
        digest,
        block_map: block_map.as_ref().map(BlockMap::reference),
        files,
        hints: Hints {
            settle_first: recipe.settle_first.then_some(true),
            restart: recipe.restart.then_some(true),
        },
        not_before: recipe.not_before.map(|moment| moment.0),
        expiry: recipe.expiry.map(|moment| moment.0),
        signers: keys,
    };
    let element = SignedManifest::to_be_signed(&manifest);
    let mut signatures = Vec::new();
    for signer in signers {
        let signature = signer
            .sign(Manifest::DOMAIN, &element)
            .await
            .context("the key does not sign")?;
        signatures.push(KeySignature {
            key: signer.public_key().id(),
            signature: signature.into(),
        });
    }
    let manifest = SignedManifest::assemble(&element, &signatures).context("the manifest contradicts itself")?;
    let head = PackageFile::head(&manifest, block_map.as_ref()).context("the package contradicts itself")?;
    write(out, &head, |file| {
        let mut copied = 0;
        for source in &sources {
            copied += io::copy(&mut File::open(source)?, file)?;
        }
        if copied == size {
            Ok(())
        } else {
            Err(io::Error::other("the content changed while it was read"))
        }
    })?;
    Ok(Built {
        manifest,
        size: size + u64::try_from(head.len())?,
    })
}

/// Writes a package file: head, then content; whole or not at all.
pub(super) fn write(
    out: &Path,
    head: &[u8],
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let mut temporary = out.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let written = File::create(&temporary).and_then(|file| {
        let mut file = BufWriter::with_capacity(256 * 1024, file);
        file.write_all(head)?;
        content(&mut file)?;
        file.into_inner()?.sync_all()?;
        fs::rename(&temporary, out)
    });
    if written.is_err() {
        // Half a package is of no use to anybody.
        let _gone = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write {}", out.display()))
}

fn sources(recipe: &Recipe) -> Result<Vec<PathBuf>> {
    match (&recipe.content, recipe.files.as_slice()) {
        (Some(_), [_, ..]) => {
            bail!("the content is either one file or a list of files, not both: take out one of them")
        }
        (None, []) => bail!("the package needs content: give --content FILE, or [[file]] blocks in the manifest file"),
        (Some(content), []) => Ok(vec![content.clone()]),
        (None, files) => Ok(files.iter().map(|file| file.source.clone()).collect()),
    }
}

struct Scan {
    size: u64,
    digest: Digest,
    block_map: Option<BlockMap>,
    sizes: Vec<u64>,
}

fn scan(sources: &[PathBuf]) -> Result<Scan> {
    let mut sizes = Vec::new();
    for source in sources {
        let size = fs::metadata(source).map(|metadata| metadata.len());
        sizes.push(size.with_context(|| format!("cannot read the content {}", source.display()))?);
    }
    let size: u64 = sizes.iter().sum();
    if size == 0 {
        bail!("the content is empty: there is nothing to install");
    }
    let mut hasher = Hasher::new();
    let mut map = (size > BlockMap::NOT_BELOW).then(|| BlockMapBuilder::new(BlockMap::wanted_log2(size)));
    let mut chunk = vec![0; 256 * 1024];
    for source in sources {
        let mut file = File::open(source).with_context(|| format!("cannot read the content {}", source.display()))?;
        loop {
            let count = file
                .read(&mut chunk)
                .with_context(|| format!("cannot read {}", source.display()))?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            hasher.update(bytes);
            if let Some(map) = &mut map {
                map.update(bytes);
            }
        }
    }
    Ok(Scan {
        size,
        digest: hasher.finish(),
        block_map: map.and_then(BlockMapBuilder::finish),
        sizes,
    })
}
