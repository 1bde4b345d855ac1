//! Telephones in memory (feature `testing`): modems with the habits of real ones, an exchange between them, and lines with
//! noise.
//!
//! All times are tokio's: a test with paused time takes none, and a demonstration runs at the speed that a line has.
//!
//! ```
//! use tms_transport_serial::port::Open;
//! use tms_transport_serial::testing::{Exchange, Quirks, Settings};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let exchange = Exchange::new(Settings::default());
//! let modem = exchange.modem("5551234", Quirks::default());
//! let mut port = modem.opener().open()?;
//! port.write_all(b"ATE0\r").await?;
//! let mut heard = [0; 11];
//! port.read_exact(&mut heard).await?;
//! assert_eq!(&heard, b"ATE0\r\r\nOK\r\n");
//! # Ok::<(), std::io::Error>(())
//! # }).unwrap();
//! ```
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions
)]

mod exchange;
mod line;
mod modem;
mod port;
#[cfg(unix)]
mod pty;
mod quirk;

pub use exchange::{Exchange, Habit, Settings};
pub use line::{Bursts, Line, Noise};
pub use modem::SimModem;
pub use port::{CableEnd, SimPort, cable};
#[cfg(unix)]
pub use pty::Pty;
pub use quirk::{Quirks, Results};

use crate::at::Timing;
use std::time::Duration;

/// Times for a driver whose modems are simulated and whose time is real: everything takes some milliseconds.
#[must_use]
pub fn quick() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        dtr: ms(3),
        settle: ms(2),
        gap: ms(0),
        attention: ms(200),
        reply: ms(300),
        afterword: ms(10),
        guard: ms(15),
        connect: ms(3000),
        pause: ms(2),
        ring_gap: ms(100),
        answer_after: ms(20),
        identified: ms(2),
        quiet: ms(50),
        probe: ms(5000),
        retry: ms(20),
        longest_retry: ms(100),
        poll: ms(2),
        linger: ms(2),
    }
}
