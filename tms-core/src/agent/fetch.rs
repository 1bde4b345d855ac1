//! One object on its way into the memory: verified as it comes, durable as it goes, and taken up again where it stopped.

use super::flash::FlashError;
use super::journal::{Mark, Notebook, object_name};
use bytes::Bytes;
use std::ops::Range;
use tms_proto::digest::{Digest, Hasher};
use tms_proto::package::BlockMap;

/// How much is read at a time to find out what is held.
const CHUNK: usize = 64 * 1024;

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A signed manifest.
    Manifest,
    /// A block map.
    Map,
    /// A content.
    Content,
    /// What a content comes of (§9.1).
    Representation,
}

impl Part {
    /// Whether it is what an action is about.
    pub(super) const fn is_content(self) -> bool {
        matches!(self, Self::Content | Self::Representation)
    }
}

/// An object on its way.
pub(super) struct Fetch {
    /// For which action.
    pub(super) action: u64,
    pub(super) part: Part,
    pub(super) digest: Digest,
    /// Its size, as a manifest or the plan says.
    pub(super) size: u64,
    /// Bytes that are here.
    pub(super) held: u64,
    /// The server may send up to here.
    pub(super) until: u64,
    name: String,
    /// Bytes that a loss of power would take.
    unsynced: u64,
    check: Check,
}

/// How what comes is checked.
enum Check {
    /// As a whole, at its end.
    Whole(Hasher),
    /// Block by block.
    Blocks {
        map: BlockMap,
        block: usize,
        filled: u64,
        hasher: Hasher,
    },
}

/// What became of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is more to come.
    More,
    /// The object is here, whole, sound and durable.
    Complete,
    /// They are not what the object's name or its block map says. What is sound of it is kept.
    Wrong,
}

impl Fetch {
    /// Finds out what is held of an object, and believes nothing that is not verified: with a block map the whole blocks and,
    /// of the one that had begun, what was taken down with its digest; without a map what was taken down with its digest.
    pub(super) async fn resume(
        notebook: &Notebook,
        action: u64,
        part: Part,
        digest: Digest,
        size: u64,
        map: Option<BlockMap>,
    ) -> Result<Self, FlashError> {
        let name = object_name(&digest);
        let there = notebook.flash.size(&name).await?.unwrap_or(0).min(size);
        let (held, check) = match map {
            Some(map) => {
                let block = sound_blocks(notebook, &name, there, &map).await?;
                let start = (0..block).filter_map(|index| map.block_length(index)).sum::<u64>();
                let end = start.saturating_add(map.block_length(block).unwrap_or(0));
                let (held, hasher) = marked(notebook, &digest, &name, start..end.min(there.saturating_add(1))).await?;
                let filled = held.saturating_sub(start);
                (
                    held,
                    Check::Blocks {
                        map,
                        block,
                        filled,
                        hasher,
                    },
                )
            }
            None => {
                let (held, hasher) = marked(notebook, &digest, &name, 0..there.saturating_add(1)).await?;
                (held, Check::Whole(hasher))
            }
        };
        Ok(Self {
            action,
            part,
            digest,
            size,
            held,
            until: held,
            name,
            unsynced: 0,
            check,
        })
    }

    /// Whether there is nothing left to ask for.
    pub(super) const fn is_complete(&self) -> bool {
        self.held == self.size
    }

    /// Bytes that are here, sound, and survive the loss of power.
    pub(super) const fn durable(&self) -> u64 {
        self.held.saturating_sub(self.unsynced)
    }

    /// Puts the next bytes into the memory, and makes them durable every `checkpoint` bytes.
    pub(super) async fn take(
        &mut self,
        notebook: &mut Notebook,
        mut bytes: Bytes,
        checkpoint: u64,
    ) -> Result<Taken, FlashError> {
        while !bytes.is_empty() {
            let room = match &self.check {
                Check::Whole(_) => self.size - self.held.min(self.size),
                Check::Blocks { map, block, filled, .. } => {
                    map.block_length(*block).unwrap_or(0).saturating_sub(*filled)
                }
            };
            let now = bytes.split_to(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            if now.is_empty() {
                return Ok(Taken::Wrong);
            }
            let length = u64::try_from(now.len()).unwrap_or(u64::MAX);
            notebook.flash.append(&self.name, self.held, &now).await?;
            self.held = self.held.saturating_add(length);
            self.unsynced = self.unsynced.saturating_add(length);
            if !self.add(&now, length) {
                notebook.journal.marks.remove(&self.digest);
                return Ok(Taken::Wrong);
            }
            // The end of a block needs no mark: where it is near, it is waited for.
            let due = match &self.check {
                Check::Whole(_) => true,
                Check::Blocks { map, block, filled, .. } => {
                    *filled == 0 || map.block_length(*block).is_some_and(|length| length > checkpoint)
                }
            };
            if due && self.unsynced >= checkpoint && !self.is_complete() {
                self.settle(notebook).await?;
            }
        }
        if self.is_complete() {
            self.complete(notebook).await
        } else {
            Ok(Taken::More)
        }
    }

    /// Makes durable what is here, before the call ends.
    pub(super) async fn settle(&mut self, notebook: &mut Notebook) -> Result<(), FlashError> {
        if self.unsynced == 0 {
            return Ok(());
        }
        notebook.flash.sync(&self.name).await?;
        self.unsynced = 0;
        let (Check::Whole(hasher) | Check::Blocks { hasher, .. }) = &self.check;
        if matches!(self.check, Check::Blocks { filled: 0, .. }) {
            return Ok(());
        }
        let mark = Mark {
            held: self.held,
            digest: hasher.clone().finish(),
        };
        notebook.journal.marks.insert(self.digest, mark);
        notebook.save().await
    }

    /// Drops what is held of it.
    pub(super) async fn drop_all(&self, notebook: &mut Notebook) -> Result<(), FlashError> {
        notebook.journal.marks.remove(&self.digest);
        notebook.flash.remove(&self.name).await
    }

    async fn complete(&mut self, notebook: &mut Notebook) -> Result<Taken, FlashError> {
        if let Check::Whole(hasher) = &self.check
            && hasher.clone().finish() != self.digest
        {
            return Ok(Taken::Wrong);
        }
        self.settle(notebook).await?;
        Ok(Taken::Complete)
    }

    /// Adds bytes to the check; false where they end a block that is not what the map says. Then what is held goes back to
    /// where the block began.
    fn add(&mut self, bytes: &[u8], length: u64) -> bool {
        match &mut self.check {
            Check::Whole(hasher) => {
                hasher.update(bytes);
                true
            }
            Check::Blocks {
                map,
                block,
                filled,
                hasher,
            } => {
                hasher.update(bytes);
                *filled = filled.saturating_add(length);
                if Some(*filled) != map.block_length(*block) {
                    return true;
                }
                let sound = digest_of(map, *block) == Some(std::mem::take(hasher).finish());
                if sound {
                    *block += 1;
                } else {
                    self.held = self.held.saturating_sub(*filled);
                }
                *filled = 0;
                sound
            }
        }
    }
}

/// What was taken down of an object is believed where it ends in this range, and its digest is that of what is there from the
/// range's start: how far it goes, and the digest in the making. Else the range's start, and nothing.
async fn marked(
    notebook: &Notebook,
    digest: &Digest,
    name: &str,
    range: Range<u64>,
) -> Result<(u64, Hasher), FlashError> {
    if let Some(mark) = notebook
        .journal
        .marks
        .get(digest)
        .filter(|mark| range.contains(&mark.held))
    {
        let hasher = hash(notebook, name, range.start, mark.held - range.start).await?;
        if hasher.clone().finish() == mark.digest {
            return Ok((mark.held, hasher));
        }
    }
    Ok((range.start, Hasher::new()))
}

/// How many blocks from the start on are sound.
async fn sound_blocks(notebook: &Notebook, name: &str, there: u64, map: &BlockMap) -> Result<usize, FlashError> {
    let mut offset = 0u64;
    for index in 0..map.blocks() {
        let length = map.block_length(index).unwrap_or(0);
        if offset.saturating_add(length) > there {
            return Ok(index);
        }
        let found = hash(notebook, name, offset, length).await?.finish();
        if digest_of(map, index) != Some(found) {
            return Ok(index);
        }
        offset = offset.saturating_add(length);
    }
    Ok(map.blocks())
}

/// The digest of a block, out of the map's own encoding: a block is hashed as it comes and never stands in memory whole.
fn digest_of(map: &BlockMap, index: usize) -> Option<Digest> {
    let start = index.checked_mul(32)?;
    let digest = map.encode().get(start..start.checked_add(32)?)?;
    digest.try_into().ok().map(Digest)
}

async fn hash(notebook: &Notebook, name: &str, mut offset: u64, length: u64) -> Result<Hasher, FlashError> {
    let mut hasher = Hasher::new();
    let end = offset.saturating_add(length);
    while offset < end {
        let max = usize::try_from(end - offset).unwrap_or(CHUNK).min(CHUNK);
        let bytes = notebook.flash.read(name, offset, max).await?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
        offset = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use super::super::flash::{Flash, MemoryFlash};
    use super::super::journal::Journal;
    use super::*;
    use std::sync::Arc;
    use tms_proto::package::BlockMapBuilder;

    const SIZE: usize = 20_000;

    fn content() -> Vec<u8> {
        (0..SIZE).map(|index| (index % 249) as u8).collect()
    }

    fn map(content: &[u8]) -> BlockMap {
        let mut builder = BlockMapBuilder::new(12);
        builder.update(content);
        builder.finish().unwrap()
    }

    fn notebook() -> (Notebook, MemoryFlash) {
        let flash = MemoryFlash::new(1 << 20);
        (
            Notebook {
                flash: Arc::new(flash.clone()),
                journal: Journal::default(),
            },
            flash,
        )
    }

    async fn resume(notebook: &Notebook, content: &[u8], map: Option<BlockMap>) -> Fetch {
        let size = content.len() as u64;
        Fetch::resume(notebook, 7, Part::Content, Digest::of(content), size, map)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn with_a_block_map_whole_blocks_are_believed_and_nothing_else() {
        let content = content();
        let (mut notebook, flash) = notebook();
        let name = object_name(&Digest::of(&content));
        for (there, sound) in [(0, 0), (4_095, 0), (4_096, 4_096), (10_000, 8_192), (SIZE, SIZE)] {
            flash.replace(&name, &content[..there]).await.unwrap();
            let fetch = resume(&notebook, &content, Some(map(&content))).await;
            assert_eq!(
                (fetch.held, fetch.durable(), fetch.is_complete()),
                (sound as u64, sound as u64, sound == SIZE)
            );
        }
        // Garbage behind the second block: it goes when the next bytes come.
        flash
            .replace(&name, &[&content[..8_192], &[0xEE; 9_000]].concat())
            .await
            .unwrap();
        let mut fetch = resume(&notebook, &content, Some(map(&content))).await;
        assert_eq!(fetch.held, 8_192);
        let rest = Bytes::copy_from_slice(&content[8_192..]);
        let mut taken = Taken::More;
        for piece in rest.chunks(1_000) {
            taken = fetch
                .take(&mut notebook, Bytes::copy_from_slice(piece), 4_096)
                .await
                .unwrap();
        }
        assert_eq!(taken, Taken::Complete);
        assert_eq!(flash.read(&name, 0, SIZE + 1).await.unwrap(), content);
    }

    #[tokio::test]
    async fn in_the_middle_of_a_block_it_goes_on_at_the_byte_where_it_was_marked() {
        let content = content();
        let (mut notebook, flash) = notebook();
        let name = object_name(&Digest::of(&content));
        let mut fetch = resume(&notebook, &content, Some(map(&content))).await;
        let taken = fetch
            .take(&mut notebook, Bytes::copy_from_slice(&content[..9_500]), 1 << 20)
            .await
            .unwrap();
        assert_eq!((taken, fetch.held, fetch.durable()), (Taken::More, 9_500, 0));
        // The call ends.
        fetch.settle(&mut notebook).await.unwrap();
        assert_eq!(fetch.durable(), 9_500);
        let mut fetch = resume(&notebook, &content, Some(map(&content))).await;
        assert_eq!((fetch.held, fetch.durable()), (9_500, 9_500));
        let taken = fetch
            .take(&mut notebook, Bytes::copy_from_slice(&content[9_500..]), 1 << 20)
            .await
            .unwrap();
        assert_eq!(taken, Taken::Complete);
        assert_eq!(flash.read(&name, 0, SIZE + 1).await.unwrap(), content);

        // What is there is another than what was marked: the whole blocks before it stand.
        let mut fetch = resume(&notebook, &content, Some(map(&content))).await;
        fetch.drop_all(&mut notebook).await.unwrap();
        fetch = resume(&notebook, &content, Some(map(&content))).await;
        for piece in content[..9_500].chunks(500) {
            fetch
                .take(&mut notebook, Bytes::copy_from_slice(piece), 500)
                .await
                .unwrap();
        }
        let mut damaged = content[..9_500].to_vec();
        damaged[9_000] ^= 1;
        flash.replace(&name, &damaged).await.unwrap();
        assert_eq!(resume(&notebook, &content, Some(map(&content))).await.held, 8_192);
        // Without a loss of power each of these was durable at once: blocks are longer than what may be lost.
        flash.replace(&name, &content[..9_500]).await.unwrap();
        assert_eq!(resume(&notebook, &content, Some(map(&content))).await.held, 9_500);
        // A mark behind what is there is not believed.
        flash.replace(&name, &content[..9_400]).await.unwrap();
        assert_eq!(resume(&notebook, &content, Some(map(&content))).await.held, 8_192);
    }

    #[tokio::test]
    async fn a_wrong_block_is_found_when_it_ends_and_dropped_alone() {
        let content = content();
        let (mut notebook, _) = notebook();
        let mut wrong = content.clone();
        wrong[9_000] ^= 1;
        let mut fetch = resume(&notebook, &content, Some(map(&content))).await;
        assert_eq!(
            fetch
                .take(&mut notebook, Bytes::copy_from_slice(&wrong[..9_500]), 1)
                .await
                .unwrap(),
            Taken::More
        );
        assert_eq!(
            fetch
                .take(&mut notebook, Bytes::copy_from_slice(&wrong[9_500..]), 1)
                .await
                .unwrap(),
            Taken::Wrong
        );
        assert_eq!(fetch.held, 8_192);
        let again = resume(&notebook, &content, Some(map(&content))).await;
        assert_eq!(again.held, 8_192);
    }

    #[tokio::test]
    async fn without_a_block_map_what_was_marked_is_believed_if_it_is_still_so() {
        let content = content();
        let (mut notebook, flash) = notebook();
        let name = object_name(&Digest::of(&content));
        let mut fetch = resume(&notebook, &content, None).await;
        for piece in content[..7_000].chunks(1_000) {
            fetch
                .take(&mut notebook, Bytes::copy_from_slice(piece), 3_000)
                .await
                .unwrap();
        }
        assert_eq!((fetch.held, fetch.durable()), (7_000, 6_000));
        let mut fetch = resume(&notebook, &content, None).await;
        assert_eq!(fetch.held, 6_000);
        // What came after the mark is overwritten.
        let taken = fetch
            .take(&mut notebook, Bytes::copy_from_slice(&content[6_000..]), 3_000)
            .await
            .unwrap();
        assert_eq!(taken, Taken::Complete);
        assert!(resume(&notebook, &content, None).await.is_complete());

        let mut damaged = content.clone();
        damaged[5] ^= 1;
        flash.replace(&name, &damaged).await.unwrap();
        assert_eq!(resume(&notebook, &content, None).await.held, 0);
        flash.remove(&name).await.unwrap();
        assert_eq!(resume(&notebook, &content, None).await.held, 0);
    }

    #[tokio::test]
    async fn more_than_the_object_has_is_never_written() {
        let content = content();
        let (mut notebook, flash) = notebook();
        for map in [None, Some(map(&content))] {
            let mut fetch = resume(&notebook, &content, map).await;
            let more = Bytes::from([content.as_slice(), &[1; 10]].concat());
            assert_eq!(fetch.take(&mut notebook, more, 1 << 20).await.unwrap(), Taken::Wrong);
            let name = object_name(&Digest::of(&content));
            assert_eq!(flash.size(&name).await.unwrap(), Some(SIZE as u64));
            fetch.drop_all(&mut notebook).await.unwrap();
        }
    }
}
