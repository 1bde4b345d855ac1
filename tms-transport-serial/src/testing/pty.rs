//! A simulated modem behind a pseudo-terminal, for programs that open a device.

use super::modem::SimModem;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use tokio::net::unix::pipe;
use tokio::task::AbortHandle;

/// A device, behind which a [`SimModem`] is for as long as this lives.
///
/// It has no lines beside the data: a program that closes it hangs nothing up, and finds its call again when it opens it.
#[derive(Debug)]
pub struct Pty {
    path: PathBuf,
    /// One that nobody has open would be an error at this end.
    _held: File,
    task: AbortHandle,
}

impl Pty {
    /// The device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SimModem {
    /// Puts the modem behind a device, in real time; its port must not be open. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// Where the system has no pseudo-terminal left, or the port is open.
    pub fn pty(&self) -> io::Result<Pty> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        let held = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut raw = tcgetattr(&held)?;
        raw.make_raw();
        tcsetattr(&held, OptionalActions::Now, &raw)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        let mut from_program = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let mut to_program = pipe::Sender::from_owned_fd_unchecked(master)?;
        let port = self.open()?;
        let task = tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(port);
            let _ = tokio::try_join!(
                tokio::io::copy(&mut from_program, &mut write),
                tokio::io::copy(&mut read, &mut to_program),
            );
        });
        Ok(Pty {
            path,
            _held: held,
            task: task.abort_handle(),
        })
    }
}
