//! A flash memory that is a directory: each file a file, replaced by renaming, made durable by `fsync`.

use super::{Flash, FlashError, check_name};
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// The file that says that the directory is in use.
const LOCK: &str = ".lock";

/// A flash memory that is a directory. One process has it at a time.
#[derive(Debug)]
pub struct DirectoryFlash {
    path: Arc<PathBuf>,
    /// Held by the blocking task of each write, so that a write whose future was dropped is not overtaken.
    order: Arc<Mutex<()>>,
    /// Locked for as long as the memory is open.
    _lock: File,
}

impl DirectoryFlash {
    /// Opens the directory at `path`, and makes it where it is not there.
    ///
    /// # Errors
    /// Where the directory cannot be used, or another process uses it: [`io::ErrorKind::WouldBlock`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, FlashError> {
        let path = path.as_ref().to_path_buf();
        let (path, lock) = blocking(move || {
            fs::create_dir_all(&path)?;
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path.join(LOCK))?;
            lock.try_lock().map_err(|error| match error {
                TryLockError::Error(error) => error,
                TryLockError::WouldBlock => io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{} is in use by another process", path.display()),
                ),
            })?;
            // What a replace that was cut left behind.
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().ends_with(".~new") {
                    fs::remove_file(entry.path())?;
                }
            }
            sync_directory(&path)?;
            Ok((path, lock))
        })
        .await?;
        Ok(Self {
            path: Arc::new(path),
            order: Arc::new(Mutex::new(())),
            _lock: lock,
        })
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> Result<PathBuf, FlashError> {
        check_name(name)?;
        Ok(self.path.join(name))
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FlashError> + Send + 'static,
    ) -> Result<T, FlashError> {
        let turn = Arc::clone(&self.order).lock_owned().await;
        blocking(move || {
            let _turn = turn;
            work()
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FlashError> + Send + 'static,
) -> Result<T, FlashError> {
    spawn_blocking(work)
        .await
        .map_err(|error| FlashError::Failed(io::Error::other(error)))?
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be synced, and renaming is as durable as the file system makes it.
    Ok(())
}

#[cfg(unix)]
fn free(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> io::Result<u64> {
    // Not known here: a write that finds no room says so.
    Ok(u64::MAX)
}

fn size(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Flash for DirectoryFlash {
    async fn size(&self, name: &str) -> Result<Option<u64>, FlashError> {
        let file = self.file(name)?;
        self.write(move || Ok(size(&file)?)).await
    }

    async fn read(&self, name: &str, offset: u64, max: usize) -> Result<Bytes, FlashError> {
        let file = self.file(name)?;
        self.write(move || {
            let Some(size) = size(&file)? else {
                return Ok(Bytes::new());
            };
            let left = usize::try_from(size.saturating_sub(offset))
                .unwrap_or(usize::MAX)
                .min(max);
            let mut content = vec![0; left];
            let mut file = File::open(&file)?;
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut content)?;
            Ok(content.into())
        })
        .await
    }

    async fn replace(&self, name: &str, content: &[u8]) -> Result<(), FlashError> {
        let (file, directory, content) = (self.file(name)?, Arc::clone(&self.path), content.to_vec());
        // The temporary name is not one that a file may have: it is never read.
        let fresh = self.path.join(format!("{name}.~new"));
        self.write(move || {
            let written = File::create(&fresh).and_then(|mut file| {
                file.write_all(&content)?;
                file.sync_all()
            });
            if let Err(error) = written {
                // Where the disk is full, the half-written file must not keep it so.
                let _gone = fs::remove_file(&fresh);
                return Err(error.into());
            }
            fs::rename(&fresh, &file)?;
            Ok(sync_directory(&directory)?)
        })
        .await
    }

    async fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FlashError> {
        let (path, bytes) = (self.file(name)?, bytes.to_vec());
        self.write(move || {
            let size = size(&path)?.unwrap_or(0);
            if offset > size {
                return Err(FlashError::Gap { offset, size });
            }
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            if offset < size {
                file.set_len(offset)?;
            }
            file.seek(SeekFrom::Start(offset))?;
            if let Err(error) = file.write_all(&bytes) {
                file.set_len(offset)?;
                return Err(error.into());
            }
            Ok(())
        })
        .await
    }

    async fn sync(&self, name: &str) -> Result<(), FlashError> {
        let (file, directory) = (self.file(name)?, Arc::clone(&self.path));
        self.write(move || {
            match File::open(&file) {
                Ok(file) => file.sync_data()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            Ok(sync_directory(&directory)?)
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<(), FlashError> {
        let (file, directory) = (self.file(name)?, Arc::clone(&self.path));
        self.write(move || match fs::remove_file(&file) {
            Ok(()) => Ok(sync_directory(&directory)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn names(&self) -> Result<Vec<String>, FlashError> {
        let directory = Arc::clone(&self.path);
        self.write(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&*directory)? {
                let name = entry?.file_name();
                // Whatever else lies in the directory is not ours.
                if let Some(name) = name.to_str().filter(|name| check_name(name).is_ok()) {
                    names.push(name.into());
                }
            }
            Ok(names)
        })
        .await
    }

    async fn free(&self) -> Result<u64, FlashError> {
        let directory = Arc::clone(&self.path);
        blocking(move || Ok(free(&directory)?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_stay_when_the_memory_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let flash = DirectoryFlash::open(directory.path()).await.unwrap();
        flash.replace("a", b"content").await.unwrap();
        drop(flash);
        fs::write(directory.path().join("a.~new"), "half a repla").unwrap();
        let flash = DirectoryFlash::open(directory.path()).await.unwrap();
        assert_eq!(flash.read("a", 0, 99).await.unwrap(), "content");
        assert_eq!(flash.names().await.unwrap(), ["a"]);
        assert!(!directory.path().join("a.~new").exists());
    }

    #[tokio::test]
    async fn two_do_not_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let flash = DirectoryFlash::open(directory.path()).await.unwrap();
        let refused = DirectoryFlash::open(directory.path()).await;
        assert!(matches!(refused, Err(FlashError::Failed(error)) if error.kind() == io::ErrorKind::WouldBlock));
        drop(flash);
        DirectoryFlash::open(directory.path()).await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_write_is_not_overtaken() {
        let directory = tempfile::tempdir().unwrap();
        let flash = DirectoryFlash::open(directory.path()).await.unwrap();
        for round in 0..50u8 {
            {
                let content = vec![round; 100_000];
                let first = flash.replace("a", &content);
                let _dropped = tokio::time::timeout(std::time::Duration::from_micros(200), first).await;
            }
            flash.replace("a", &[round]).await.unwrap();
            assert_eq!(flash.read("a", 0, 99).await.unwrap(), [round].as_slice());
        }
    }
}
