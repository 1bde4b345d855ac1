//! Main-control keys in a file.

use super::{CustodyError, Keys, MainKey, MainKeys};
use crate::store::TerminalId;
use async_trait::async_trait;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tms_proto::secret::Psk;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// Keys in a file of lines `terminal epoch key`: 16 hexadecimal digits, a number, 32 or 64 hexadecimal digits. Lines that
/// begin with `#` are remarks. For estates without an HSM.
///
/// The file must belong to its owner alone (mode 600). It is read again when it has changed, so that a terminal enrolled by
/// another process is known at once, and one whose key was taken out is not known any more.
pub struct KeyFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    state: Mutex<State>,
}

/// The keys of the file as it was when it had this device, inode, length, and times.
#[derive(Default)]
struct State {
    stamp: Option<(u64, u64, u64, i64, i64, i64, i64)>,
    keys: Keys,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

impl KeyFile {
    /// The keys in the file at `path`. A file that is not there has no keys.
    ///
    /// # Errors
    /// Where it cannot be read, is open to others, or is malformed.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CustodyError> {
        let inner = Inner {
            path: path.into(),
            state: Mutex::default(),
        };
        drop(inner.current()?);
        Ok(Self(Arc::new(inner)))
    }

    /// Adds a key, in the place of the one that the terminal had in this epoch, and makes it durable. Several processes may
    /// do so at once. Waits for the disk: not for a thread of the runtime.
    ///
    /// # Errors
    /// As [`open`](Self::open), and where the file cannot be written; then it is as it was.
    pub fn insert(&self, terminal: TerminalId, epoch: u32, key: MainKey) -> Result<(), CustodyError> {
        self.0.change(|keys| {
            keys.insert((terminal, epoch), key);
        })
    }

    /// Takes a key away and makes that durable. Waits for the disk: not for a thread of the runtime.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn remove(&self, terminal: TerminalId, epoch: u32) -> Result<(), CustodyError> {
        self.0.change(|keys| {
            keys.remove(&(terminal, epoch));
        })
    }
}

#[async_trait]
impl MainKeys for KeyFile {
    async fn psk(&self, terminal: TerminalId, epoch: u32) -> Result<Option<Psk>, CustodyError> {
        let inner = Arc::clone(&self.0);
        let found = spawn_blocking(move || {
            let state = inner.current()?;
            Ok(state.keys.get(&(terminal, epoch)).map(|key| key.psk(terminal, epoch)))
        });
        found
            .await
            .map_err(|_| CustodyError::Unavailable("the work was broken off".to_owned()))?
    }
}

impl Inner {
    /// The keys that are in the file now.
    fn current(&self) -> Result<MutexGuard<'_, State>, CustodyError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *state = State::default();
                return Ok(state);
            }
            Err(error) => return Err(failed(&error)),
        };
        let metadata = file.metadata().map_err(|error| failed(&error))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(CustodyError::Exposed);
        }
        let (modified, changed) = (
            (metadata.mtime(), metadata.mtime_nsec()),
            (metadata.ctime(), metadata.ctime_nsec()),
        );
        let stamp = (
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            modified.0,
            modified.1,
            changed.0,
            changed.1,
        );
        if state.stamp != Some(stamp) {
            let mut text = Zeroizing::new(String::with_capacity(
                usize::try_from(metadata.len()).unwrap_or_default() + 1,
            ));
            file.read_to_string(&mut text).map_err(|error| failed(&error))?;
            *state = State {
                stamp: Some(stamp),
                keys: parse(&text)?,
            };
        }
        Ok(state)
    }

    fn change(&self, change: impl FnOnce(&mut Keys)) -> Result<(), CustodyError> {
        // Of processes that change the file, each begins with what the one before it has left.
        let lock = with_suffix(&self.path, ".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock);
        let lock = lock.map_err(|error| failed(&error))?;
        lock.lock().map_err(|error| failed(&error))?;
        let mut keys = self.current()?.keys.clone();
        change(&mut keys);
        self.write(&keys).map_err(|error| failed(&error))
    }

    fn write(&self, keys: &Keys) -> io::Result<()> {
        let temporary = with_suffix(&self.path, ".new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let done = file.write_all(format(keys).as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = done.and_then(|()| fs::rename(&temporary, &self.path)) {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        let parent = self
            .path
            .parent()
            .filter(|parent| *parent != Path::new(""))
            .unwrap_or_else(|| Path::new("."));
        File::open(parent)?.sync_all()
    }
}

fn parse(text: &str) -> Result<Keys, CustodyError> {
    let mut keys = Keys::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (id, key) = parse_line(line).ok_or(CustodyError::Malformed(index + 1))?;
        keys.insert(id, key);
    }
    Ok(keys)
}

fn parse_line(line: &str) -> Option<((TerminalId, u32), MainKey)> {
    let mut words = line.split_ascii_whitespace();
    let (terminal, epoch, key) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || terminal.len() != 16 || !terminal.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    let bytes = bytes.get_mut(..key.len() / 2)?;
    hex::decode_to_slice(key, bytes).ok()?;
    let terminal = TerminalId(u64::from_str_radix(terminal, 16).ok()?);
    Some(((terminal, epoch.parse().ok()?), MainKey::from_slice(bytes)?))
}

fn format(keys: &Keys) -> Zeroizing<String> {
    // Made at its full size, so that no half of it is left behind where it grew.
    let mut text = Zeroizing::new(String::with_capacity(64 + keys.len() * 96));
    text.push_str("# terminal main-control keys: terminal, epoch, key\n");
    for ((terminal, epoch), key) in keys {
        let mut digits = Zeroizing::new([0; 64]);
        let Some(digits) = digits.get_mut(..key.expose().len() * 2) else {
            continue;
        };
        if hex::encode_to_slice(key.expose(), digits).is_ok() {
            text.push_str(&format!("{terminal} {epoch} "));
            text.extend(digits.iter().map(|digit| char::from(*digit)));
            text.push('\n');
        }
    }
    text
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn failed(error: &io::Error) -> CustodyError {
    CustodyError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key(byte: u8, len: usize) -> MainKey {
        MainKey::from_slice(&vec![byte; len]).unwrap()
    }

    #[tokio::test]
    async fn keys_are_kept_and_seen_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("main.keys");
        let (one, two) = (KeyFile::open(&path).unwrap(), KeyFile::open(&path).unwrap());
        assert_eq!(one.psk(TerminalId(1), 1).await.unwrap(), None);
        one.insert(TerminalId(1), 1, key(5, 16)).unwrap();
        two.insert(TerminalId(0xABC), 7, key(6, 32)).unwrap();
        for keys in [&one, &two, &KeyFile::open(&path).unwrap()] {
            assert_eq!(
                keys.psk(TerminalId(1), 1).await.unwrap(),
                Some(key(5, 16).psk(TerminalId(1), 1))
            );
            assert_eq!(
                keys.psk(TerminalId(0xABC), 7).await.unwrap(),
                Some(key(6, 32).psk(TerminalId(0xABC), 7))
            );
        }
        two.remove(TerminalId(1), 1).unwrap();
        assert_eq!(one.psk(TerminalId(1), 1).await.unwrap(), None);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().nth(1).unwrap(),
            format!("0000000000000abc 7 {}", "06".repeat(32))
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("main.keys");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(KeyFile::open(&path), Err(CustodyError::Exposed)));
    }

    #[test]
    fn a_malformed_line_is_named_and_not_shown() {
        let secret = "0505050505050505050505050505050";
        for line in [
            format!("0000000000000001 1 {secret}"),
            format!("0000000000000001 1 {secret}50"),
            format!("0000000000000001 1 {secret}g"),
            format!("0000000000000001 {secret}5"),
            format!("1 1 {secret}5"),
            format!("0000000000000001 -1 {secret}5"),
            format!("0000000000000001 1 {secret}5 {secret}5"),
            format!("0000000000000001 1 {}", "05".repeat(40)),
        ] {
            let error = parse(&format!("# remark\n\n{line}\n")).unwrap_err();
            assert_eq!(error.to_string(), "file of keys is malformed in line 3", "{line}");
        }
        assert_eq!(
            parse(&format!("# remark\n0000000000000001 1 {secret}5")).unwrap().len(),
            1
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut keys = Keys::new();
        for number in 0..100 {
            let len = if number % 2 == 0 { 16 } else { 32 };
            keys.insert(
                (TerminalId(number.into()), u32::MAX - u32::from(number)),
                key(number, len),
            );
        }
        let text = format(&keys);
        assert!(
            text.capacity() >= text.len() && text.capacity() == 64 + keys.len() * 96,
            "it grew"
        );
        assert!(parse(&text).unwrap() == keys);
    }
}
