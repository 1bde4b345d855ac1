//! Serial ports of the operating system.

use super::{ModemPort, Open, Signals};
use serde::{Deserialize, Serialize};
use serial2_tokio::{CharSize, FlowControl, Parity, StopBits};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Who may stop the bytes between computer and modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// Nobody.
    None,
    /// Either side, by the lines RTS and CTS. What a modem needs.
    #[default]
    Hardware,
    /// Either side, by the bytes XON and XOFF; the link must not send them as its own.
    Software,
}

/// How a port is set. Always eight bits without parity and one stop bit: where the path to the peer has seven, the link
/// does what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Bits per second between computer and modem: one rate for all calls, above that of the telephone line.
    pub rate: u32,
    /// Flow control.
    pub flow: Flow,
}

impl Default for Settings {
    /// 115,200 bit/s with flow control by hardware.
    fn default() -> Self {
        Self {
            rate: 115_200,
            flow: Flow::Hardware,
        }
    }
}

/// A serial port of the operating system.
#[derive(Debug)]
pub struct SerialPort(serial2_tokio::SerialPort);

impl SerialPort {
    /// Opens the port at `path`. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where it is not there, may not be used, or does not take the settings.
    pub fn open(path: impl AsRef<Path>, settings: Settings) -> io::Result<Self> {
        let path = path.as_ref();
        let port = serial2_tokio::SerialPort::open(path, |mut raw: serial2_tokio::Settings| {
            raw.set_raw();
            raw.set_baud_rate(settings.rate)?;
            raw.set_char_size(CharSize::Bits8);
            raw.set_parity(Parity::None);
            raw.set_stop_bits(StopBits::One);
            raw.set_flow_control(match settings.flow {
                Flow::None => FlowControl::None,
                Flow::Hardware => FlowControl::RtsCts,
                Flow::Software => FlowControl::XonXoff,
            });
            Ok(raw)
        });
        match port {
            Ok(port) => Ok(Self(port)),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }

    /// Two pseudo-terminals, each of which reads what is written to the other. They have no lines beside the data.
    ///
    /// # Errors
    /// Where the system has none left.
    #[cfg(unix)]
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = serial2_tokio::SerialPort::pair()?;
        Ok((Self(one), Self(other)))
    }

    /// Opens the port at `path` again whenever it is lost.
    pub fn opener(path: impl Into<PathBuf>, settings: Settings) -> Box<dyn Open> {
        let path = path.into();
        Box::new(move || Self::open(&path, settings))
    }
}

/// What drivers answer that have no such lines: `ENOTTY` of a pseudo-terminal, `EINVAL` of some adapters.
fn lines<T>(answer: io::Result<T>) -> io::Result<T> {
    answer.map_err(|error| match error.raw_os_error() {
        Some(ENOTTY | EINVAL | ENOTSUP) => io::ErrorKind::Unsupported.into(),
        _ => error,
    })
}

/// One number each on the systems that this crate runs on.
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
#[cfg(target_os = "macos")]
const ENOTSUP: i32 = 45;
#[cfg(not(target_os = "macos"))]
const ENOTSUP: i32 = 95;

impl ModemPort for SerialPort {
    fn set_dtr(&mut self, on: bool) -> io::Result<()> {
        lines(self.0.set_dtr(on))
    }

    fn set_rts(&mut self, on: bool) -> io::Result<()> {
        lines(self.0.set_rts(on))
    }

    fn set_break(&mut self, on: bool) -> io::Result<()> {
        lines(self.0.set_break(on))
    }

    fn signals(&mut self) -> io::Result<Signals> {
        Ok(Signals {
            carrier: lines(self.0.read_cd())?,
            ready: lines(self.0.read_dsr())?,
            ring: lines(self.0.read_ri())?,
        })
    }

    fn discard(&mut self) -> io::Result<()> {
        lines(self.0.discard_buffers())
    }
}

impl AsyncRead for SerialPort {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SerialPort {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::supported;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_pseudo_terminal_carries_all_bytes_and_has_no_lines() {
        let (mut one, mut other) = SerialPort::pair().unwrap();
        let all: Vec<u8> = (0..=255).collect();
        one.write_all(&all).await.unwrap();
        let mut heard = [0; 256];
        other.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard[..], all);
        for port in [&mut one, &mut other] {
            assert_eq!(supported(port.set_dtr(true)).unwrap(), None);
            assert_eq!(supported(port.signals()).unwrap(), None);
            port.discard().unwrap();
        }
    }

    #[tokio::test]
    async fn a_port_that_is_not_there_is_named() {
        let error = SerialPort::open("/nonexistent/tty", Settings::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("/nonexistent/tty: "), "{error}");
    }
}
