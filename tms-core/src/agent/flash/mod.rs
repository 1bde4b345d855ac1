//! The terminal's durable memory: a few named files.
//!
//! # Contract
//!
//! 1. **Replace** is atomic and durable: when it has returned, the new content survives the loss of power; when power fails
//!    before, the old content or the new one is there, whole.
//! 2. **Append** cuts the file at `offset` and adds the bytes there. Until [`sync`](Flash::sync) has returned, a loss of
//!    power may undo it, in part or whole, and leave anything behind the last synced byte.
//! 3. **Sync** makes all that was appended to the file durable.
//! 4. **Remove** is durable when it has returned. A file that is not there is removed already.
//! 5. **Read your writes**: a read sees all that was written before, synced or not.
//! 6. **Full** is an error of its own: nothing but the write that met it fails, and nothing written before is lost.
//! 7. **Cancel**: dropping the future of a write leaves what the write would leave if power had failed during it; writes
//!    never overtake each other.
//! 8. **Names** are one to [`MAX_NAME`] of the characters `a-z 0-9 . _ -` and do not begin with a full stop; others are
//!    [`FlashError::Name`].

mod directory;
mod memory;

pub use directory::DirectoryFlash;
pub use memory::{MemoryFlash, PowerCut};

use async_trait::async_trait;
use bytes::Bytes;
use std::io;
use thiserror::Error;

/// The longest name of a file, in bytes.
pub const MAX_NAME: usize = 120;

/// A flash memory; see the [module](self) for the contract.
#[async_trait]
pub trait Flash: Send + Sync + 'static {
    /// The file's size in bytes, or `None` where there is no such file.
    async fn size(&self, name: &str) -> Result<Option<u64>, FlashError>;

    /// At most `max` bytes of the file from `offset` on: fewer at its end, none behind it or where there is no such file.
    async fn read(&self, name: &str, offset: u64, max: usize) -> Result<Bytes, FlashError>;

    /// Gives the file this content, in place of any that it had.
    async fn replace(&self, name: &str, content: &[u8]) -> Result<(), FlashError>;

    /// Cuts the file at `offset`, which is at most its size, and adds `bytes` there. Makes the file where it is not there.
    async fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FlashError>;

    /// Makes durable what was appended to the file.
    async fn sync(&self, name: &str) -> Result<(), FlashError>;

    /// Removes the file.
    async fn remove(&self, name: &str) -> Result<(), FlashError>;

    /// The names of all files, in no order.
    async fn names(&self) -> Result<Vec<String>, FlashError>;

    /// How many more bytes can be written.
    async fn free(&self) -> Result<u64, FlashError>;
}

/// Why a flash memory did not do it.
#[derive(Debug, Error)]
pub enum FlashError {
    /// There is no room.
    #[error("flash memory is full")]
    Full,
    /// The name is not one that a file may have.
    #[error("not a name of a file in flash memory: {0:?}")]
    Name(String),
    /// An append behind the end of the file.
    #[error("append at byte {offset} of a file of {size} bytes")]
    Gap {
        /// Where.
        offset: u64,
        /// The file's size.
        size: u64,
    },
    /// The memory failed.
    #[error("flash memory failed: {0}")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for FlashError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::Full,
            _ => Self::Failed(error),
        }
    }
}

/// Reads a small file whole.
///
/// # Errors
/// Where the memory fails, or the file is larger than `max` bytes, which is never read.
pub async fn read_all(flash: &dyn Flash, name: &str, max: usize) -> Result<Option<Bytes>, FlashError> {
    let Some(size) = flash.size(name).await? else {
        return Ok(None);
    };
    match usize::try_from(size) {
        Ok(size) if size <= max => flash.read(name, 0, size).await.map(Some),
        _ => Err(FlashError::Failed(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{name} is too large"),
        ))),
    }
}

fn check_name(name: &str) -> Result<(), FlashError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(FlashError::Name(name.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// The contract, but for the loss of power, on each flash memory.
    async fn keeps_the_contract(flash: Arc<dyn Flash>) {
        assert_eq!(flash.size("a").await.unwrap(), None);
        assert_eq!(flash.read("a", 0, 10).await.unwrap(), Bytes::new());
        flash.remove("a").await.unwrap();

        flash.replace("a", b"first").await.unwrap();
        flash.replace("a", b"2nd").await.unwrap();
        assert_eq!(flash.read("a", 0, 10).await.unwrap(), "2nd");
        assert_eq!(flash.read("a", 1, 1).await.unwrap(), "n");
        assert_eq!(flash.read("a", 9, 1).await.unwrap(), "");

        flash.append("b", 0, b"hello ").await.unwrap();
        flash.append("b", 6, b"world").await.unwrap();
        assert_eq!(flash.read("b", 0, 99).await.unwrap(), "hello world");
        flash.append("b", 4, b"!").await.unwrap();
        flash.sync("b").await.unwrap();
        assert_eq!(flash.read("b", 0, 99).await.unwrap(), "hell!");
        assert_eq!(flash.size("b").await.unwrap(), Some(5));
        assert!(matches!(
            flash.append("b", 6, b"x").await,
            Err(FlashError::Gap { offset: 6, size: 5 })
        ));
        assert!(matches!(
            flash.append("c", 1, b"x").await,
            Err(FlashError::Gap { offset: 1, size: 0 })
        ));
        assert_eq!(flash.size("c").await.unwrap(), None);

        let mut names = flash.names().await.unwrap();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        assert!(flash.free().await.unwrap() > 0);
        flash.remove("b").await.unwrap();
        assert_eq!(flash.size("b").await.unwrap(), None);

        for name in ["", ".hidden", "a/b", "UPPER", "ü", &"x".repeat(MAX_NAME + 1)] {
            assert!(
                matches!(flash.replace(name, b"").await, Err(FlashError::Name(_))),
                "{name:?}"
            );
            assert!(
                matches!(flash.read(name, 0, 1).await, Err(FlashError::Name(_))),
                "{name:?}"
            );
        }
        assert_eq!(read_all(&*flash, "a", 3).await.unwrap().unwrap(), "2nd");
        assert!(read_all(&*flash, "a", 2).await.is_err());
        assert!(read_all(&*flash, "b", 2).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        keeps_the_contract(Arc::new(MemoryFlash::new(1000))).await;
    }

    #[tokio::test]
    async fn a_directory_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        keeps_the_contract(Arc::new(DirectoryFlash::open(directory.path()).await.unwrap())).await;
    }
}
