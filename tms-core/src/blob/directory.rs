//! Blobs as files in a directory.

use super::{BlobError, BlobStore};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, fs};
use tms_proto::digest::{Digest, Hasher};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::spawn_blocking;

/// Bytes that are written or hashed in one go on a blocking thread: a hand-over costs some 15 µs, so that it has to carry
/// more than a record.
const CHUNK: usize = 256 * 1024;

/// Blobs whose files are remembered as checked. One that is forgotten is checked again.
const CHECKED: usize = 65_536;

/// Files that are kept open for the next read.
const OPEN: usize = 256;

/// Bytes that are copied from the system's memory on the spot: some 3 µs for a record of 16 KiB.
#[cfg(target_os = "linux")]
const AT_ONCE: usize = 256 * 1024;

/// How often a file is looked at that changes meanwhile. A put of the same content changes one: it replaces it.
const LOOKS: usize = 5;

/// Blobs as files: `root/ab/abcd…`, the whole digest as the file's name, so that `sha256sum` checks them.
///
/// A put writes to `root/tmp`, syncs, renames and syncs the directory. Several processes may share one directory. Files are
/// read-only; what a process did not write itself it hashes before it serves it the first time, and again when length, inode
/// or times of the file have changed since. So a blob that was changed by hand, by a restored backup or by a full disk is
/// found; a disk that gives other bytes under unchanged times is not, and that is left to the terminal, which checks all that
/// it gets.
///
/// Reading never blocks the runtime. What the system has in memory is copied at once (on Linux, on the usual file systems);
/// everything else is a hand-over to a blocking thread, which costs as much for a record as for a hundred: where that is the
/// rule, [`CachedBlobs`](super::CachedBlobs) belong in front.
pub struct DirectoryBlobs {
    disk: Arc<Disk>,
    /// One blob is hashed at a time, however many calls begin: the others wait, and then find it done.
    checking: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for DirectoryBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryBlobs")
            .field("root", &self.disk.root)
            .finish_non_exhaustive()
    }
}

impl DirectoryBlobs {
    /// The blobs in the directory `root`, which is made where it is not there. What broken puts have left is removed; puts that
    /// other processes are at are left alone.
    ///
    /// # Errors
    /// Where the directory cannot be made, or not be written to.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let disk = Disk {
            root: root.into(),
            checked: Mutex::default(),
            open: Mutex::default(),
            temporary: AtomicU64::new(0),
            #[cfg(target_os = "linux")]
            reads_at_once: AtomicBool::new(true),
        };
        create_directory(&disk.root).map_err(failed)?;
        create_directory(&disk.temporary()).map_err(failed)?;
        disk.clean().map_err(failed)?;
        Ok(Self {
            disk: Arc::new(disk),
            checking: Arc::default(),
        })
    }

    /// Runs `work` where it may wait for the disk. It runs to its end even when nobody waits for it any more.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let disk = Arc::clone(&self.disk);
        let done = spawn_blocking(move || work(&disk)).await;
        done.map_err(|_| BlobError::Unavailable("the work was broken off".to_owned()))?
    }

    /// Whether a blob is what its name says, and its length: looked up, or else found out.
    async fn check(&self, digest: Digest) -> Result<u64, BlobError> {
        if let Some(verdict) = self.on_disk(move |disk| disk.verdict(&digest)).await? {
            return verdict.length();
        }
        let turn = Arc::clone(&self.checking).lock_owned().await;
        self.on_disk(move |disk| {
            let _turn = turn;
            match disk.verdict(&digest)? {
                Some(verdict) => verdict.length(),
                None => disk.check(&digest)?.length(),
            }
        })
        .await
    }
}

#[async_trait]
impl BlobStore for DirectoryBlobs {
    async fn put(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        expect: Option<Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        let mut temporary = self.on_disk(Disk::create).await?;
        let mut chunk = BytesMut::with_capacity(CHUNK);
        loop {
            while chunk.len() < CHUNK && content.read_buf(&mut chunk).await.map_err(BlobError::Source)? > 0 {}
            if chunk.is_empty() {
                break;
            }
            (temporary, chunk) = self
                .on_disk(move |_| {
                    temporary.write(&chunk).map_err(failed)?;
                    chunk.clear();
                    Ok((temporary, chunk))
                })
                .await?;
        }
        let (found, length) = (temporary.hasher.clone().finish(), temporary.length);
        if let Some(expected) = expect.filter(|expected| *expected != found) {
            return Err(BlobError::Mismatch { expected, found });
        }
        self.on_disk(move |disk| disk.publish(&temporary, found).map_err(failed))
            .await?;
        Ok((found, length))
    }

    async fn len(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let digest = *digest;
        self.on_disk(move |disk| match fs::metadata(disk.path(&digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        })
        .await
    }

    async fn open(&self, digest: &Digest) -> Result<u64, BlobError> {
        self.check(*digest).await
    }

    async fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        let digest = *digest;
        #[cfg(target_os = "linux")]
        if let Some(bytes) = self.disk.read_at_once(&digest, offset, len) {
            return Ok(bytes);
        }
        for _ in 0..LOOKS {
            if let Some(bytes) = self.on_disk(move |disk| disk.read(&digest, offset, len)).await? {
                return Ok(bytes);
            }
            self.check(digest).await?;
        }
        Err(restless())
    }
}

/// What happens on blocking threads.
struct Disk {
    root: PathBuf,
    /// What is known of files that were looked at.
    checked: Mutex<HashMap<Digest, Verdict>>,
    /// Files that were read from, and are sound.
    open: Mutex<OpenFiles>,
    /// Number of the next temporary file.
    temporary: AtomicU64,
    /// The file system can say that it would have to wait for the disk.
    #[cfg(target_os = "linux")]
    reads_at_once: AtomicBool,
}

/// The files that were used last, and when.
#[derive(Default)]
struct OpenFiles {
    files: HashMap<Digest, (Arc<Opened>, u64)>,
    uses: u64,
}

struct Opened {
    file: File,
    stamp: Stamp,
}

impl OpenFiles {
    #[cfg(target_os = "linux")]
    fn get(&mut self, digest: &Digest) -> Option<Arc<Opened>> {
        self.uses += 1;
        let (opened, used) = self.files.get_mut(digest)?;
        *used = self.uses;
        Some(Arc::clone(opened))
    }

    fn insert(&mut self, digest: Digest, opened: Opened) {
        if self.files.len() >= OPEN
            && let Some(oldest) = self
                .files
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(digest, _)| *digest)
        {
            self.files.remove(&oldest);
        }
        self.uses += 1;
        self.files.insert(digest, (Arc::new(opened), self.uses));
    }
}

/// A file as it was when its content was known: a file with other values is another file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[derive(Clone, Copy)]
struct Verdict {
    stamp: Stamp,
    sound: bool,
}

impl Verdict {
    fn length(self) -> Result<u64, BlobError> {
        if self.sound {
            Ok(self.stamp.length)
        } else {
            Err(BlobError::Changed)
        }
    }
}

/// A file in the making. It is removed when it is dropped, and not published.
struct Temporary {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    length: u64,
}

impl Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length = self
            .length
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After it was published there is no such file any more.
        let _ = fs::remove_file(&self.path);
    }
}

impl Disk {
    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(name.get(..2).unwrap_or_default()).join(name)
    }

    fn checked(&self) -> MutexGuard<'_, HashMap<Digest, Verdict>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new temporary file. It stays locked as long as it is open, so that a process that starts meanwhile can tell it from
    /// one that was left behind.
    fn create(&self) -> Result<Temporary, BlobError> {
        loop {
            let number = self.temporary.fetch_add(1, Ordering::Relaxed);
            let path = self.temporary().join(format!("{}-{number}", std::process::id()));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                // In containers every process may have the same number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed(error)),
            };
            match file.lock() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => {
                    let _ = fs::remove_file(&path);
                    return Err(failed(error));
                }
            }
            // Another process may have found it before it was locked.
            if file.metadata().map_err(failed)?.nlink() > 0 {
                return Ok(Temporary {
                    file,
                    path,
                    hasher: Hasher::new(),
                    length: 0,
                });
            }
        }
    }

    /// Removes temporary files that nobody is writing.
    fn clean(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.temporary())? {
            let path = entry?.path();
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a file durable and visible under its name.
    fn publish(&self, temporary: &Temporary, digest: Digest) -> io::Result<()> {
        let path = self.path(&digest);
        let directory = path.parent().unwrap_or(&self.root);
        if matches!(self.verdict(&digest), Ok(Some(verdict)) if verdict.sound) {
            // It is there, and not to be changed under those that read it. Whoever put it may not have come so far yet.
            File::open(&path)?.sync_all()?;
            sync_directory(directory)?;
            return sync_directory(&self.root);
        }
        temporary.file.set_permissions(Permissions::from_mode(0o444))?;
        temporary.file.sync_all()?;
        create_directory(directory)?;
        fs::rename(&temporary.path, &path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => io::Error::new(ErrorKind::Interrupted, "temporary file was removed"),
            _ => error,
        })?;
        sync_directory(directory)?;
        sync_directory(&self.root)?;
        // The rename has changed the file's times.
        let stamp = Stamp::of(&temporary.file.metadata()?);
        self.remember(digest, Verdict { stamp, sound: true });
        Ok(())
    }

    fn remember(&self, digest: Digest, verdict: Verdict) {
        let mut checked = self.checked();
        if checked.len() >= CHECKED && !checked.contains_key(&digest) {
            checked.clear();
        }
        checked.insert(digest, verdict);
    }

    fn file(&self, digest: &Digest) -> Result<(File, Stamp), BlobError> {
        let file = File::open(self.path(digest)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => BlobError::Missing,
            _ => failed(error),
        })?;
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        Ok((file, stamp))
    }

    /// What is known of the file that is there now.
    fn verdict(&self, digest: &Digest) -> Result<Option<Verdict>, BlobError> {
        let (_, stamp) = self.file(digest)?;
        Ok(self
            .checked()
            .get(digest)
            .copied()
            .filter(|verdict| verdict.stamp == stamp))
    }

    /// Reads a file whole and remembers what was found.
    fn check(&self, digest: &Digest) -> Result<Verdict, BlobError> {
        let mut buffer = vec![0; CHUNK];
        for _ in 0..LOOKS {
            let (mut file, stamp) = self.file(digest)?;
            let mut hasher = Hasher::new();
            loop {
                let read = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(failed(error)),
                };
                hasher.update(buffer.get(..read).unwrap_or_default());
            }
            if Stamp::of(&file.metadata().map_err(failed)?) == stamp {
                let verdict = Verdict {
                    stamp,
                    sound: hasher.finish() == *digest,
                };
                self.remember(*digest, verdict);
                return Ok(verdict);
            }
        }
        Err(restless())
    }

    /// Reads from a file that is known; `None` where it has to be checked first.
    fn read(&self, digest: &Digest, offset: u64, len: usize) -> Result<Option<Bytes>, BlobError> {
        let (file, stamp) = self.file(digest)?;
        match self.checked().get(digest) {
            Some(verdict) if verdict.stamp == stamp => verdict.length()?,
            _ => return Ok(None),
        };
        let left = usize::try_from(stamp.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => {}
            // It was cut a moment ago.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        if Stamp::of(&file.metadata().map_err(failed)?) != stamp {
            return Ok(None);
        }
        self.open().insert(*digest, Opened { file, stamp });
        Ok(Some(bytes.into()))
    }

    fn open(&self) -> MutexGuard<'_, OpenFiles> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the system has in memory, from a file that is open and sound. `None` where that is not all there is to it.
    #[cfg(target_os = "linux")]
    fn read_at_once(&self, digest: &Digest, offset: u64, len: usize) -> Option<Bytes> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};

        if !self.reads_at_once.load(Ordering::Relaxed) {
            return None;
        }
        let opened = self.open().get(digest)?;
        let left = usize::try_from(opened.stamp.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; Some(len.min(left)).filter(|len| *len <= AT_ONCE)?];
        let all = bytes.len();
        if all > 0 {
            match preadv2(
                &opened.file,
                &mut [io::IoSliceMut::new(&mut bytes)],
                offset,
                ReadWriteFlags::NOWAIT,
            ) {
                Ok(read) if read == all => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.reads_at_once.store(false, Ordering::Relaxed);
                    return None;
                }
                _ => return None,
            }
        }
        // One that was changed, replaced or removed has other values now.
        if opened
            .file
            .metadata()
            .is_ok_and(|metadata| Stamp::of(&metadata) == opened.stamp)
        {
            return Some(bytes.into());
        }
        self.open().files.remove(digest);
        None
    }
}

fn restless() -> BlobError {
    BlobError::Unavailable("the blob is being written to".to_owned())
}

/// Makes a directory and those above it, each durable.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    create_directory(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(parent)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Sorts an error of the operating system. Its text has no content of a blob in it.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
fn failed(error: io::Error) -> BlobError {
    match error.kind() {
        // A limit on the size of files is no room as well.
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => BlobError::NoSpace,
        ErrorKind::Interrupted
        | ErrorKind::TimedOut
        | ErrorKind::WouldBlock
        | ErrorKind::ResourceBusy
        | ErrorKind::StaleNetworkFileHandle
        | ErrorKind::OutOfMemory => BlobError::Unavailable(error.to_string()),
        // ENFILE, EMFILE: too many open files.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => BlobError::Unavailable(error.to_string()),
        _ => BlobError::Backend(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::CachedBlobs;
    use crate::testing::blob::Fixture;
    use std::time::Duration;
    use tempfile::TempDir;

    /// Blobs in a directory, with or without a cache in front.
    struct Directory {
        cached: bool,
    }

    #[async_trait]
    impl Fixture for Directory {
        type Home = TempDir;

        async fn home(&self) -> TempDir {
            tempfile::tempdir().unwrap()
        }

        async fn open(&self, home: &TempDir) -> Arc<dyn BlobStore> {
            let blobs = Arc::new(DirectoryBlobs::open(home.path()).unwrap());
            if self.cached {
                Arc::new(CachedBlobs::new(blobs, 1 << 20))
            } else {
                blobs
            }
        }

        async fn harm(&self, home: &TempDir, digest: &Digest, content: Option<Vec<u8>>) -> bool {
            let path = home.path().join(&digest.to_string()[..2]).join(digest.to_string());
            match content {
                Some(content) => {
                    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
                    fs::write(path, content).unwrap();
                }
                None => fs::remove_file(path).unwrap(),
            }
            true
        }
    }

    mod plain {
        crate::blob_tests!(super::Directory { cached: false });
    }

    mod cached {
        crate::blob_tests!(super::Directory { cached: true });
    }

    fn temporary(home: &TempDir) -> usize {
        fs::read_dir(home.path().join("tmp")).unwrap().count()
    }

    fn path(home: &TempDir, content: &[u8]) -> PathBuf {
        let name = Digest::of(content).to_string();
        home.path().join(&name[..2]).join(&name)
    }

    #[tokio::test]
    async fn files_are_named_as_sha256sum_does_and_read_only() {
        let home = tempfile::tempdir().unwrap();
        let blobs = DirectoryBlobs::open(home.path().join("not").join("there")).unwrap();
        let (digest, _) = blobs.put(&mut &b"abc"[..], None).await.unwrap();
        let name = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), name);
        let path = home.path().join("not/there/ba").join(name);
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o444);
    }

    #[tokio::test]
    async fn nothing_is_left_of_puts_that_failed() {
        let home = tempfile::tempdir().unwrap();
        let blobs = DirectoryBlobs::open(home.path()).unwrap();
        let content = vec![7; 600_000];
        let wrong = Some(Digest::of(b"other"));
        assert!(matches!(
            blobs.put(&mut &content[..], wrong).await,
            Err(BlobError::Mismatch { .. })
        ));
        assert_eq!(temporary(&home), 0);

        let mut endless = AsyncReadExt::chain(&content[..], tokio::io::repeat(1));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), blobs.put(&mut endless, None))
                .await
                .is_err()
        );
        // What was going on on another thread has an end.
        while temporary(&home) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        // A directory in the file's place.
        fs::create_dir_all(path(&home, b"abc")).unwrap();
        assert!(matches!(
            blobs.put(&mut &b"abc"[..], None).await,
            Err(BlobError::Backend(_))
        ));
        assert_eq!(temporary(&home), 0);
    }

    #[tokio::test]
    async fn what_a_crash_left_is_removed_and_what_others_write_is_not() {
        let home = tempfile::tempdir().unwrap();
        let first = DirectoryBlobs::open(home.path()).unwrap();
        let stale = home.path().join("tmp").join("4711-0");
        fs::write(&stale, "half of a blob").unwrap();
        let writing = first.disk.create().unwrap();
        let second = DirectoryBlobs::open(home.path()).unwrap();
        assert!(!stale.exists());
        assert!(writing.path.exists());
        let also = second.disk.create().unwrap();
        assert_ne!(writing.path, also.path, "numbers that are taken are passed over");
        drop((writing, also));
        assert_eq!(temporary(&home), 0);
    }

    #[tokio::test]
    async fn a_file_is_hashed_once_and_again_when_it_has_changed() {
        let home = tempfile::tempdir().unwrap();
        let content = vec![3; 100_000];
        let digest = Digest::of(&content);
        DirectoryBlobs::open(home.path())
            .unwrap()
            .put(&mut &content[..], None)
            .await
            .unwrap();
        let blobs = DirectoryBlobs::open(home.path()).unwrap();
        assert!(blobs.disk.verdict(&digest).unwrap().is_none());
        blobs.read(&digest, 5, 10).await.unwrap();
        assert!(blobs.disk.verdict(&digest).unwrap().unwrap().sound);
        // Touched, but the same.
        fs::set_permissions(path(&home, &content), Permissions::from_mode(0o644)).unwrap();
        assert!(blobs.disk.verdict(&digest).unwrap().is_none());
        assert_eq!(blobs.open(&digest).await.unwrap(), 100_000);
        assert!(blobs.disk.verdict(&digest).unwrap().unwrap().sound);
        // Changed in place, in a store that has it open.
        std::thread::sleep(Duration::from_millis(20));
        fs::write(path(&home, &content), vec![4; 100_000]).unwrap();
        assert!(matches!(blobs.read(&digest, 5, 10).await, Err(BlobError::Changed)));
        assert!(
            !blobs.disk.verdict(&digest).unwrap().unwrap().sound,
            "known, so that it is not hashed for every call"
        );
        assert!(matches!(blobs.open(&digest).await, Err(BlobError::Changed)));
    }

    #[tokio::test]
    async fn few_files_are_kept_open_and_those_that_are_gone_are_not_read() {
        let home = tempfile::tempdir().unwrap();
        let blobs = DirectoryBlobs::open(home.path()).unwrap();
        let mut digests = Vec::new();
        for number in 0..OPEN + 20 {
            let content = number.to_be_bytes();
            let (digest, _) = blobs.put(&mut &content[..], None).await.unwrap();
            for _ in 0..2 {
                assert_eq!(blobs.read(&digest, 0, 100).await.unwrap(), content[..]);
                // The one that is always in use stays.
                let first = *digests.first().unwrap_or(&digest);
                assert_eq!(blobs.read(&first, 0, 100).await.unwrap(), [0; 8][..]);
            }
            digests.push(digest);
            assert!(blobs.disk.open().files.len() <= OPEN);
        }
        let open: Vec<_> = digests
            .iter()
            .map(|digest| blobs.disk.open().files.contains_key(digest))
            .collect();
        assert!(open[0] && !open[1] && open[OPEN + 19]);
        fs::remove_file(path(&home, &[0; 8])).unwrap();
        assert!(matches!(blobs.read(&digests[0], 0, 1).await, Err(BlobError::Missing)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn errors_of_the_system_are_sorted() {
        let of = |number| failed(io::Error::from_raw_os_error(number));
        for number in [27, 28, 122] {
            assert!(matches!(of(number), BlobError::NoSpace), "{number}");
        }
        for number in [4, 11, 16, 23, 24, 110, 116] {
            assert!(of(number).is_transient(), "{number}");
        }
        for number in [5, 13, 30] {
            assert!(matches!(of(number), BlobError::Backend(_)), "{number}");
        }
    }
}
