//! A flash memory in memory, for tests and simulations: it fills up, and it loses power at the write that it is told to.

use super::{Flash, FlashError, check_name};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// When power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerCut {
    /// At which write, counted from 1 from now on: replace, append, sync and remove each are one.
    pub write: u64,
    /// Decides what the write that is cut leaves behind, and what becomes of bytes that were not synced.
    pub seed: u64,
}

/// A flash memory in memory. Clones share one memory.
#[derive(Debug, Clone)]
pub struct MemoryFlash(Arc<Mutex<Chip>>);

#[derive(Debug, Clone, Default)]
struct Chip {
    files: BTreeMap<String, File>,
    capacity: u64,
    writes: u64,
    cut: Option<PowerCut>,
    dead: bool,
}

#[derive(Debug, Clone, Default)]
struct File {
    content: Arc<Vec<u8>>,
    /// What a loss of power goes back to, where bytes were cut off or changed since the last sync.
    durable: Option<Arc<Vec<u8>>>,
    /// How much of the content is durable, where nothing durable was cut off.
    synced: usize,
}

impl MemoryFlash {
    /// An empty memory of `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(Chip {
            capacity,
            ..Chip::default()
        })))
    }

    /// Makes power fail at a write to come. From then on everything fails.
    pub fn cut(&self, cut: PowerCut) {
        let mut chip = self.chip();
        chip.writes = 0;
        chip.cut = Some(cut);
    }

    /// How many writes there were since the memory was made or [`cut`](Self::cut) was called.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.chip().writes
    }

    /// Whether power has failed.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.chip().dead
    }

    /// Changes the size of the memory; what is in it stays.
    pub fn resize(&self, capacity: u64) {
        self.chip().capacity = capacity;
    }

    /// The memory as it is found when power comes back: of what was not synced, `seed` decides how much is left and in what
    /// form. The copy shares nothing with this memory, and costs no copying until either is written to.
    #[must_use]
    pub fn survivor(&self, seed: u64) -> Self {
        let chip = self.chip();
        let mut random = Random(seed);
        let files = chip
            .files
            .iter()
            .map(|(name, file)| (name.clone(), file.after_power_loss(&mut random)))
            .filter_map(|(name, file)| Some((name, file?)))
            .collect();
        Self(Arc::new(Mutex::new(Chip {
            files,
            capacity: chip.capacity,
            ..Chip::default()
        })))
    }

    fn chip(&self) -> MutexGuard<'_, Chip> {
        // A test that panicked elsewhere leaves the chip as a power cut would: whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a write. `Err` holds the dice of the power cut, where this is the write that meets it.
    fn write(chip: &mut Chip) -> Result<Option<Random>, FlashError> {
        if chip.dead {
            return Err(no_power());
        }
        chip.writes += 1;
        match chip.cut {
            Some(cut) if cut.write == chip.writes => {
                chip.dead = true;
                Ok(Some(Random(cut.seed)))
            }
            _ => Ok(None),
        }
    }

    fn room(chip: &Chip, name: &str, size: usize) -> Result<(), FlashError> {
        let others = chip
            .files
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(_, file)| file.content.len());
        let needed = others.sum::<usize>().saturating_add(size);
        if u64::try_from(needed).is_ok_and(|needed| needed <= chip.capacity) {
            Ok(())
        } else {
            Err(FlashError::Full)
        }
    }
}

fn no_power() -> FlashError {
    FlashError::Failed(io::Error::new(io::ErrorKind::BrokenPipe, "power has failed"))
}

/// A small generator of its own, so that a seed means the same for ever (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

impl File {
    fn after_power_loss(&self, random: &mut Random) -> Option<Self> {
        let settled = |content: Arc<Vec<u8>>| {
            Some(Self {
                synced: content.len(),
                content,
                durable: None,
            })
        };
        if let Some(durable) = &self.durable
            && random.flip()
        {
            return settled(Arc::clone(durable));
        }
        let synced = if self.durable.is_some() { 0 } else { self.synced };
        if synced == self.content.len() {
            return settled(Arc::clone(&self.content));
        }
        let left = synced + random.below(self.content.len() - synced + 1);
        let mut content = self.content.get(..left).unwrap_or_default().to_vec();
        // The size may have been written before the bytes: then there is garbage at the end.
        if random.flip() {
            let garbage = random.below(self.content.len() - left + 1);
            content.extend(std::iter::repeat_with(|| u8::from(random.flip())).take(garbage));
        }
        settled(Arc::new(content)).filter(|file| !file.content.is_empty() || self.synced > 0 || random.flip())
    }

    fn append(&mut self, offset: usize, bytes: &[u8]) {
        if offset < self.synced && self.durable.is_none() {
            self.durable = Some(Arc::clone(&self.content));
        }
        let content = Arc::make_mut(&mut self.content);
        content.truncate(offset);
        content.extend_from_slice(bytes);
        self.synced = self.synced.min(offset);
    }

    fn sync(&mut self) {
        self.synced = self.content.len();
        self.durable = None;
    }

    fn whole(content: &[u8]) -> Self {
        Self {
            content: Arc::new(content.to_vec()),
            durable: None,
            synced: content.len(),
        }
    }
}

#[async_trait]
impl Flash for MemoryFlash {
    async fn size(&self, name: &str) -> Result<Option<u64>, FlashError> {
        check_name(name)?;
        let chip = self.chip();
        if chip.dead {
            return Err(no_power());
        }
        Ok(chip
            .files
            .get(name)
            .and_then(|file| u64::try_from(file.content.len()).ok()))
    }

    async fn read(&self, name: &str, offset: u64, max: usize) -> Result<Bytes, FlashError> {
        check_name(name)?;
        let chip = self.chip();
        if chip.dead {
            return Err(no_power());
        }
        let content = chip
            .files
            .get(name)
            .map(|file| file.content.as_slice())
            .unwrap_or_default();
        let tail = usize::try_from(offset)
            .ok()
            .and_then(|offset| content.get(offset..))
            .unwrap_or_default();
        Ok(Bytes::copy_from_slice(tail.get(..max).unwrap_or(tail)))
    }

    async fn replace(&self, name: &str, content: &[u8]) -> Result<(), FlashError> {
        check_name(name)?;
        let mut chip = self.chip();
        let cut = Self::write(&mut chip)?;
        Self::room(&chip, name, content.len())?;
        if cut.is_none_or(|mut random| random.flip()) {
            chip.files.insert(name.into(), File::whole(content));
        }
        if chip.dead { Err(no_power()) } else { Ok(()) }
    }

    async fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FlashError> {
        check_name(name)?;
        let mut chip = self.chip();
        let cut = Self::write(&mut chip)?;
        let size = chip.files.get(name).map_or(0, |file| file.content.len());
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if at > size {
            return Err(FlashError::Gap {
                offset,
                size: u64::try_from(size).unwrap_or(u64::MAX),
            });
        }
        Self::room(&chip, name, at.saturating_add(bytes.len()))?;
        let written = match cut {
            Some(mut random) => bytes.get(..random.below(bytes.len() + 1)).unwrap_or_default(),
            None => bytes,
        };
        chip.files.entry(name.into()).or_default().append(at, written);
        if chip.dead { Err(no_power()) } else { Ok(()) }
    }

    async fn sync(&self, name: &str) -> Result<(), FlashError> {
        check_name(name)?;
        let mut chip = self.chip();
        let cut = Self::write(&mut chip)?;
        if cut.is_none_or(|mut random| random.flip())
            && let Some(file) = chip.files.get_mut(name)
        {
            file.sync();
        }
        if chip.dead { Err(no_power()) } else { Ok(()) }
    }

    async fn remove(&self, name: &str) -> Result<(), FlashError> {
        check_name(name)?;
        let mut chip = self.chip();
        let cut = Self::write(&mut chip)?;
        if cut.is_none_or(|mut random| random.flip()) {
            chip.files.remove(name);
        }
        if chip.dead { Err(no_power()) } else { Ok(()) }
    }

    async fn names(&self) -> Result<Vec<String>, FlashError> {
        let chip = self.chip();
        if chip.dead {
            Err(no_power())
        } else {
            Ok(chip.files.keys().cloned().collect())
        }
    }

    async fn free(&self) -> Result<u64, FlashError> {
        let chip = self.chip();
        if chip.dead {
            return Err(no_power());
        }
        let used = chip.files.values().map(|file| file.content.len()).sum::<usize>();
        Ok(chip.capacity.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replace_leaves_old_or_new_and_never_a_mix() {
        let mut seen = [false; 2];
        for seed in 0..32 {
            let flash = MemoryFlash::new(100);
            flash.replace("a", b"old").await.unwrap();
            flash.cut(PowerCut { write: 1, seed });
            assert!(flash.replace("a", b"new").await.is_err());
            assert!(flash.read("a", 0, 9).await.is_err());
            assert!(flash.is_dead());
            let after = flash.survivor(seed);
            let content = after.read("a", 0, 9).await.unwrap();
            seen[usize::from(content == "new")] = true;
            assert!(content == "old" || content == "new");
        }
        assert_eq!(seen, [true; 2]);
    }

    #[tokio::test]
    async fn appends_tear_but_synced_bytes_stay() {
        let (mut lost, mut torn, mut garbage) = (false, false, false);
        for seed in 0..64 {
            let flash = MemoryFlash::new(100);
            flash.append("a", 0, b"synced").await.unwrap();
            flash.sync("a").await.unwrap();
            flash.append("a", 6, b"unsynced").await.unwrap();
            flash.cut(PowerCut { write: 1, seed });
            assert!(flash.append("a", 14, b"cut").await.is_err());
            let content = flash.survivor(seed).read("a", 0, 99).await.unwrap();
            assert!(content.starts_with(b"synced"));
            let rest = &content[6..];
            lost |= rest.is_empty();
            torn |= !rest.is_empty() && b"unsynced".starts_with(rest);
            garbage |= !b"unsyncedcut".starts_with(rest);
        }
        assert!(lost && torn && garbage);
    }

    #[tokio::test]
    async fn cutting_off_is_undone_by_power_loss_until_synced() {
        let mut undone = false;
        for seed in 0..32 {
            let flash = MemoryFlash::new(100);
            flash.append("a", 0, b"long content").await.unwrap();
            flash.sync("a").await.unwrap();
            flash.append("a", 4, b"!").await.unwrap();
            undone |= flash.survivor(seed).read("a", 0, 99).await.unwrap() == "long content";
            flash.sync("a").await.unwrap();
            assert_eq!(flash.survivor(seed).read("a", 0, 99).await.unwrap(), "long!");
        }
        assert!(undone);
    }

    #[tokio::test]
    async fn a_full_memory_loses_nothing() {
        let flash = MemoryFlash::new(10);
        flash.replace("a", b"12345").await.unwrap();
        assert!(matches!(flash.replace("b", b"123456").await, Err(FlashError::Full)));
        assert!(matches!(flash.append("a", 5, b"123456").await, Err(FlashError::Full)));
        assert_eq!(flash.read("a", 0, 99).await.unwrap(), "12345");
        assert_eq!(flash.free().await.unwrap(), 5);
        flash.replace("a", b"1234567890").await.unwrap();
    }
}
