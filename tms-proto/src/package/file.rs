//! A package as a file (§11.7): signed manifest, block map and content, one behind the other.

use super::MAX_SIGNED;
use super::block_map::BlockMap;
use super::error::PackageError;
use super::manifest::SignedManifest;
use crate::tlv::{DecodeError, DecodeErrorKind};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a package file begins with.
const MAGIC: &[u8; 8] = b"TMSPKG\x01\n";

/// The head of a package file. Its signatures are not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// The manifest, to be verified before anything in it is believed.
    pub manifest: SignedManifest,
    /// The block map that the manifest refers to.
    pub block_map: Option<BlockMap>,
    /// Where the content begins, in bytes from the start of the file. It is as long as the manifest says, and the file
    /// ends with it.
    pub content_offset: u64,
}

/// What a prefix of a package file gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The head is longer: try again with a prefix of at least so many bytes.
    More(usize),
    /// The head.
    Head(Box<PackageFile>),
}

impl PackageFile {
    /// The longest head, in bytes.
    pub const MAX_HEAD: usize = 8 + MAX_SIGNED + 64 * 1024;

    /// The bytes that go before the content.
    ///
    /// # Errors
    /// [`PackageError::Block`] where the block map is not the one that the manifest refers to, or one is missing.
    pub fn head(manifest: &SignedManifest, block_map: Option<&BlockMap>) -> Result<Vec<u8>, PackageError> {
        if manifest.unverified().block_map != block_map.map(BlockMap::reference) {
            return Err(PackageError::Block);
        }
        let map = block_map.map(BlockMap::encode).unwrap_or_default();
        Ok([MAGIC, &manifest.encode()[..], map].concat())
    }

    /// Reads the head from a prefix of the file. It never asks for more than [`MAX_HEAD`](Self::MAX_HEAD) bytes.
    ///
    /// # Errors
    /// Where it is no package file, or the block map is not the one that the manifest refers to.
    pub fn parse(prefix: &[u8]) -> Result<Parsed, PackageError> {
        let magic = prefix.get(..MAGIC.len()).unwrap_or(prefix);
        if !MAGIC.starts_with(magic) {
            return Err(PackageError::Magic);
        }
        let Some(rest) = prefix.get(MAGIC.len()..) else {
            return Ok(Parsed::More(MAGIC.len() + HEAD));
        };
        let Some(length) = element_length(rest)? else {
            return Ok(Parsed::More(MAGIC.len() + HEAD));
        };
        if length > MAX_SIGNED {
            return Err(DecodeError::new(DecodeErrorKind::Length, MAGIC.len()).into());
        }
        let Some((manifest, rest)) = rest.split_at_checked(length) else {
            return Ok(Parsed::More(MAGIC.len() + length));
        };
        let manifest = SignedManifest::decode(manifest)?;
        let mut content_offset = MAGIC.len() + length;
        let mut block_map = None;
        if let Some(reference) = &manifest.unverified().block_map {
            // The manifest's form was checked: the map is at most `BlockMap::MAX` long.
            let size = usize::try_from(reference.size).map_err(|_| PackageError::Block)?;
            content_offset += size;
            let Some(map) = rest.get(..size) else {
                return Ok(Parsed::More(content_offset));
            };
            block_map = Some(BlockMap::decode(map, reference, manifest.unverified().size)?);
        }
        let content_offset = u64::try_from(content_offset).map_err(|_| PackageError::Size)?;
        Ok(Parsed::Head(Box::new(Self {
            manifest,
            block_map,
            content_offset,
        })))
    }

    /// The size of the whole file, in bytes, by what the manifest says.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.content_offset.saturating_add(self.manifest.unverified().size)
    }
}

/// Enough bytes to know the length of the signed manifest: its tag, and the longest form of its length.
const HEAD: usize = 6;

/// The length of the element at the start of `bytes`, tag and length included; none where that cannot be seen yet.
fn element_length(bytes: &[u8]) -> Result<Option<usize>, PackageError> {
    let form = match bytes {
        [0x78, form, ..] => *form,
        [0x78] | [] => return Ok(None),
        _ => return Err(PackageError::Magic),
    };
    let count = match form {
        0..=0x7F => return Ok(Some(2 + usize::from(form))),
        0x81..=0x84 => usize::from(form & 0x0F),
        _ => return Err(DecodeError::new(DecodeErrorKind::Length, MAGIC.len() + 1).into()),
    };
    let Some(digits) = bytes.get(2..2 + count) else {
        return Ok(None);
    };
    let value = digits
        .iter()
        .fold(0usize, |value, digit| (value << 8 | usize::from(*digit)).min(1 << 24));
    Ok(Some(2 + count + value))
}
