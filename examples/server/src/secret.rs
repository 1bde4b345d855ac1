//! Files that hold secrets: their owner's alone, and never written over.

use anyhow::{Context, Result, bail};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Reads a file that holds a secret.
///
/// # Errors
/// Where it cannot be read, or others than its owner may read or write it.
pub fn read(path: &Path) -> Result<Zeroizing<String>> {
    let file = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no key {file}"),
        Err(error) => return Err(error).with_context(|| format!("cannot read the key {file}")),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!("the key {file} may be read by others than its owner: run `chmod 600 {file}`, and ask who has read it");
    }
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read the key {file}"))
}

/// Writes a secret to a new file that only its owner may read.
///
/// # Errors
/// Where the file is there already: secrets are never written over.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
            "{} is there already, and a secret is never written over: name another file, or move it away",
            path.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    };
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a secret in the place of the one in this file, whole or not at all.
///
/// # Errors
/// Where it cannot be written; then the old one is there.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    write(beside, content)?;
    let moved = fs::rename(beside, path).and_then(|()| match path.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    });
    moved.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(read(&path).unwrap_err().to_string().contains("there is no key"));
        write(&path, b"one").unwrap();
        let refused = write(&path, b"two").unwrap_err().to_string();
        assert!(refused.contains("never written over"), "{refused}");
        assert_eq!(**read(&path).unwrap(), *"one");
        replace(&path, b"three").unwrap();
        assert_eq!(**read(&path).unwrap(), *"three");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write(&path, b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
