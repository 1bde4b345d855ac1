//! Serial ports, as a modem needs them.

mod serial;

pub use serial::{Flow, SerialPort, Settings};

use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

/// The lines that the equipment at the other end of the cable drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signals {
    /// Data carrier detect (DCD): a call is up.
    pub carrier: bool,
    /// Data set ready (DSR): the equipment is switched on.
    pub ready: bool,
    /// Ring indicator (RI).
    pub ring: bool,
}

/// A serial port with a modem, or a cable, on it.
///
/// Bytes are eight bits without parity. Not every port has the lines beside the data, and a pseudo-terminal has none: the
/// operations on them may fail with [`Unsupported`](io::ErrorKind::Unsupported), and what uses them does without. Other
/// errors, of these and of reading and writing, mean that the port is lost and must be opened again.
pub trait ModemPort: AsyncRead + AsyncWrite + Unpin + Send {
    /// Raises or drops data terminal ready (DTR). A modem hangs up when it falls.
    ///
    /// # Errors
    /// Where the port has no such line, or fails.
    fn set_dtr(&mut self, on: bool) -> io::Result<()>;

    /// Raises or drops request to send (RTS). Only for ports without flow control by RTS and CTS.
    ///
    /// # Errors
    /// Where the port has no such line, or fails.
    fn set_rts(&mut self, on: bool) -> io::Result<()>;

    /// Begins or ends a break.
    ///
    /// # Errors
    /// Where the port cannot send one, or fails.
    fn set_break(&mut self, on: bool) -> io::Result<()>;

    /// What the other end's lines are now.
    ///
    /// # Errors
    /// Where the port has no such lines, or fails.
    fn signals(&mut self) -> io::Result<Signals>;

    /// Forgets what was received and not read, and what was written and not sent.
    ///
    /// # Errors
    /// Where the port cannot, or fails.
    fn discard(&mut self) -> io::Result<()>;
}

impl<P: ModemPort + ?Sized> ModemPort for Box<P> {
    fn set_dtr(&mut self, on: bool) -> io::Result<()> {
        (**self).set_dtr(on)
    }

    fn set_rts(&mut self, on: bool) -> io::Result<()> {
        (**self).set_rts(on)
    }

    fn set_break(&mut self, on: bool) -> io::Result<()> {
        (**self).set_break(on)
    }

    fn signals(&mut self) -> io::Result<Signals> {
        (**self).signals()
    }

    fn discard(&mut self) -> io::Result<()> {
        (**self).discard()
    }
}

/// The answer of a line operation, with `None` where the port cannot do it.
///
/// # Errors
/// Where the port is lost.
pub fn supported<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a port, as often as it is lost: a cable that was pulled comes back.
pub trait Open: Send {
    /// Opens it.
    ///
    /// # Errors
    /// Where it is not there, or cannot be had.
    fn open(&mut self) -> io::Result<Box<dyn ModemPort>>;
}

impl<P: ModemPort + 'static, F: FnMut() -> io::Result<P> + Send> Open for F {
    fn open(&mut self) -> io::Result<Box<dyn ModemPort>> {
        Ok(Box::new(self()?))
    }
}
