//! The block map (§9.5, §11.6): a digest for each block of the content, so that each is verified when it arrives, and a
//! terminal that lost power knows which blocks are sound.

use super::error::PackageError;
use crate::digest::{Digest, Hasher};
use crate::tlv;
use alloc::vec::Vec;
use bytes::Bytes;

/// The smallest block: 4 KiB. A digest of 32 bytes is less than a hundredth of it.
const MIN_LOG2: u8 = 12;
/// The largest block: 16 MiB.
const MAX_LOG2: u8 = 24;
/// A digest, in bytes.
const DIGEST: usize = 32;
/// How many blocks a map should not exceed: it stands in the terminal's memory as a whole.
const WANTED_BLOCKS: u64 = 256;

tlv! {
    /// What a manifest says of a block map.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct BlockMapReference {
        /// Digest of the map.
        pub digest: Digest = 0x80,
        /// The size of a block is two to this power, in bytes: 12 to 24.
        pub block_log2: u8 = 0x81,
        /// Size of the map, in bytes.
        pub size: u32 = 0x82,
    }
}

impl BlockMapReference {
    /// Whether a map of this form is one for content of `size` bytes.
    pub(super) fn fits(&self, size: u64) -> bool {
        let sound = (MIN_LOG2..=MAX_LOG2).contains(&self.block_log2) && size > 0;
        sound
            && self.size <= BlockMap::MAX
            && blocks(size, self.block_log2) == Some(u64::from(self.size) / 32)
            && self.size.is_multiple_of(32)
    }
}

/// The digests of the blocks of some content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    block_log2: u8,
    size: u64,
    digests: Bytes,
}

impl BlockMap {
    /// The largest map, in bytes.
    pub const MAX: u32 = 64 * 1024;

    /// Content up to this size needs no map.
    pub const NOT_BELOW: u64 = 64 * 1024;

    /// The block size to take for content of `size` bytes, as a power of two.
    #[must_use]
    pub fn wanted_log2(size: u64) -> u8 {
        let enough = |log2: &u8| blocks(size, *log2).is_some_and(|blocks| blocks <= WANTED_BLOCKS);
        (MIN_LOG2..=MAX_LOG2).find(enough).unwrap_or(MAX_LOG2)
    }

    /// Takes in a map that a manifest refers to, for content of `size` bytes.
    ///
    /// # Errors
    /// [`PackageError::Block`] where it is another map, or does not fit the content.
    pub fn decode(bytes: &[u8], reference: &BlockMapReference, size: u64) -> Result<Self, PackageError> {
        let right = u32::try_from(bytes.len()).is_ok_and(|length| length == reference.size);
        if !right || !reference.fits(size) || Digest::of(bytes) != reference.digest {
            return Err(PackageError::Block);
        }
        Ok(Self {
            block_log2: reference.block_log2,
            size,
            digests: Bytes::copy_from_slice(bytes),
        })
    }

    /// The encoding: the digests, one behind the other.
    #[must_use]
    pub fn encode(&self) -> &[u8] {
        &self.digests
    }

    /// What the manifest says of it.
    #[must_use]
    pub fn reference(&self) -> BlockMapReference {
        let size = u32::try_from(self.digests.len()).unwrap_or(u32::MAX);
        BlockMapReference {
            digest: Digest::of(&self.digests),
            block_log2: self.block_log2,
            size,
        }
    }

    /// The size of a block, in bytes. The last one may be shorter.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        1 << self.block_log2
    }

    /// How many blocks there are.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.digests.len() / DIGEST
    }

    /// The length of a block, in bytes; none where there is no such block.
    #[must_use]
    pub fn block_length(&self, index: usize) -> Option<u64> {
        let start = u64::try_from(index).ok()?.checked_mul(self.block_size())?;
        let left = self.size.checked_sub(start).filter(|left| *left > 0)?;
        Some(left.min(self.block_size()))
    }

    /// Checks that `bytes` is the whole block `index`.
    ///
    /// # Errors
    /// [`PackageError::Block`].
    pub fn verify_block(&self, index: usize, bytes: &[u8]) -> Result<(), PackageError> {
        let start = index.checked_mul(DIGEST).ok_or(PackageError::Block)?;
        let digest = start.checked_add(DIGEST).and_then(|end| self.digests.get(start..end));
        let length = u64::try_from(bytes.len()).ok();
        if self.block_length(index) == length && digest == Some(&Digest::of(bytes).0) {
            Ok(())
        } else {
            Err(PackageError::Block)
        }
    }
}

/// How many blocks content of `size` bytes has.
fn blocks(size: u64, log2: u8) -> Option<u64> {
    1u64.checked_shl(u32::from(log2)).map(|block| size.div_ceil(block))
}

/// Makes a block map of content that comes in pieces.
#[derive(Clone)]
pub struct BlockMapBuilder {
    block_log2: u8,
    size: u64,
    /// How much of the present block is in `hasher`.
    filled: usize,
    hasher: Hasher,
    digests: Vec<u8>,
}

impl BlockMapBuilder {
    /// Begins a map with blocks of two to the power of `block_log2` bytes; see [`BlockMap::wanted_log2`].
    #[must_use]
    pub fn new(block_log2: u8) -> Self {
        let block_log2 = block_log2.clamp(MIN_LOG2, MAX_LOG2);
        Self {
            block_log2,
            size: 0,
            filled: 0,
            hasher: Hasher::new(),
            digests: Vec::new(),
        }
    }

    /// Adds content.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let block = 1usize << self.block_log2;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(block - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            self.size += u64::try_from(now.len()).unwrap_or_default();
            if self.filled == block {
                self.end_block();
            }
            bytes = later;
        }
    }

    /// The map; none where the content is empty or the map would be larger than [`BlockMap::MAX`].
    #[must_use]
    pub fn finish(mut self) -> Option<BlockMap> {
        if self.filled > 0 {
            self.end_block();
        }
        let fits = u32::try_from(self.digests.len()).is_ok_and(|length| (1..=BlockMap::MAX).contains(&length));
        fits.then(|| BlockMap {
            block_log2: self.block_log2,
            size: self.size,
            digests: Bytes::from(self.digests),
        })
    }

    fn end_block(&mut self) {
        let digest = core::mem::take(&mut self.hasher).finish();
        self.digests.extend_from_slice(&digest.0);
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect()
    }

    fn map(content: &[u8], block_log2: u8) -> BlockMap {
        let mut builder = BlockMapBuilder::new(block_log2);
        builder.update(content);
        builder.finish().unwrap()
    }

    #[test]
    fn each_block_is_known_by_its_digest() {
        let content = content(3 * 4096 + 100);
        let map = map(&content, 12);
        assert_eq!((map.blocks(), map.block_size(), map.encode().len()), (4, 4096, 128));
        assert_eq!(map.encode()[32..64], Digest::of(&content[4096..8192]).0);
        for (index, block) in content.chunks(4096).enumerate() {
            assert_eq!(map.verify_block(index, block), Ok(()));
            assert_eq!(map.verify_block(index + 1, block), Err(PackageError::Block));
            assert_eq!(map.verify_block(index, &block[1..]), Err(PackageError::Block));
            let mut changed = block.to_vec();
            changed[50] ^= 1;
            assert_eq!(map.verify_block(index, &changed), Err(PackageError::Block));
        }
        assert_eq!(map.block_length(3), Some(100));
        assert_eq!(map.block_length(4), None);
        assert_eq!(map.verify_block(usize::MAX, b""), Err(PackageError::Block));
    }

    #[test]
    fn a_map_is_taken_only_where_the_manifest_refers_to_it() {
        let map = map(&content(100_000), 12);
        let reference = map.reference();
        assert_eq!(BlockMap::decode(map.encode(), &reference, 100_000), Ok(map.clone()));
        let refused = |bytes: &[u8], reference: BlockMapReference, size| {
            assert_eq!(BlockMap::decode(bytes, &reference, size), Err(PackageError::Block));
        };
        refused(&map.encode()[32..], reference, 100_000);
        refused(map.encode(), reference, 4096 * 25 + 1);
        refused(
            map.encode(),
            BlockMapReference {
                block_log2: 13,
                ..reference
            },
            100_000,
        );
        refused(
            map.encode(),
            BlockMapReference {
                block_log2: 63,
                ..reference
            },
            100_000,
        );
        refused(
            map.encode(),
            BlockMapReference {
                digest: Digest([0; 32]),
                ..reference
            },
            100_000,
        );
        let mut changed = map.encode().to_vec();
        changed[7] ^= 1;
        refused(&changed, reference, 100_000);
        assert!(!reference.fits(0));
        // One block more than the largest map holds.
        let large = BlockMapReference {
            size: BlockMap::MAX + 32,
            ..reference
        };
        assert!(!large.fits(2049 << 12));
    }

    #[test]
    fn a_map_is_less_than_a_hundredth_of_the_content_and_small() {
        for size in [BlockMap::NOT_BELOW + 1, 100_000, 1 << 20, 20_000_000, 1 << 30, 32 << 30] {
            let log2 = BlockMap::wanted_log2(size);
            let map = blocks(size, log2).unwrap() * 32;
            assert!(map * 100 < size, "{map} of {size}");
            assert!(map <= u64::from(BlockMap::MAX), "{map} of {size}");
            assert!(size > 4 << 30 || map <= 8192, "{map} of {size}");
        }
        assert_eq!(BlockMap::wanted_log2(1 << 20), 12);
        assert_eq!(BlockMap::wanted_log2((1 << 20) + 1), 13);
        assert_eq!(BlockMap::wanted_log2(u64::MAX), 24);
    }

    #[test]
    fn nothing_and_too_much_have_no_map() {
        assert_eq!(BlockMapBuilder::new(12).finish(), None);
        let mut builder = BlockMapBuilder::new(12);
        let block = vec![0; 4096];
        (0..2049).for_each(|_| builder.update(&block));
        assert_eq!(builder.finish(), None);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(size in 1..40_000usize, pieces in proptest::collection::vec(1..9000usize, 1..20)) {
            let content = content(size);
            let mut builder = BlockMapBuilder::new(12);
            let mut rest = &content[..];
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*piece));
                builder.update(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(builder.finish(), Some(map(&content, 12)));
        }
    }
}
