//! Serial lines and dial-up modems, as a transport of a payment-terminal management system.
//!
//! - [`port`]: serial ports, and what a modem needs of them. A pseudo-terminal is one, without the lines beside the data.
//! - [`at`]: the language of modems, and the engine that speaks it: a machine without I/O.
//! - [`modem`]: a telephone line with a modem on it, run by a task of its own.
//! - [`dial`]: a terminal's dialler: numbers, fail-over, and how often which number may be called.
//! - [`pool`]: a server's listener over many lines, which come and go while it runs.
//! - [`direct`]: a cable without modems.
//! - `testing` (feature of that name): modems with the habits of real ones, a telephone exchange between them, and noisy
//!   lines.
//!
//! Every line has the link of the protocol (§3) on it, and a call is given only when its link is up.
//!
//! It makes nothing secret: that is the session's part. It knows no fax, no voice and no synchronous modes, and of operating
//! systems those that have `termios`. What a caller's line says of his number is an observation and no proof.
//!
//! A server with one modem, and a terminal that calls it, on simulated telephones:
//!
//! ```
//! use std::sync::Arc;
//! use tms_core::agent::flash::MemoryFlash;
//! use tms_core::clock::SystemClock;
//! use tms_core::entropy::OsEntropy;
//! use tms_core::transport::{Dial, Listener};
//! use tms_transport_serial::LinkOptions;
//! use tms_transport_serial::at::Profile;
//! use tms_transport_serial::dial::{Dialler, Policy, Route, Setup};
//! use tms_transport_serial::modem::ModemLine;
//! use tms_transport_serial::pool::{Kind, Line, Pool};
//! use tms_transport_serial::port::Settings as PortSettings;
//! use tms_transport_serial::testing::{Exchange, Quirks, Settings};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let exchange = Exchange::new(Settings::default());
//! let (theirs, ours) = (exchange.modem("5551234", Quirks::default()), exchange.modem("5550001", Quirks::default()));
//!
//! let mut pool = Pool::new(1);
//! pool.handle().add(Line {
//!     name: "modem-1".into(),
//!     kind: Kind::Modem,
//!     open: theirs.opener(), // SerialPort::opener("/dev/ttyUSB0", settings), where there is one
//!     settings: PortSettings::default(),
//!     profile: Profile::default(),
//!     called: None,
//!     link: LinkOptions::default(),
//! })?;
//!
//! let setup = Setup {
//!     line: ModemLine::start("modem", ours.opener(), Profile::default()),
//!     settings: PortSettings::default(),
//!     link: LinkOptions::default(),
//!     prefix: None,
//!     policy: Policy::default(),
//!     memory: Arc::new(MemoryFlash::new(65_536)),
//!     clock: Arc::new(SystemClock),
//!     entropy: Arc::new(OsEntropy),
//! };
//! let mut dialler = Dialler::new(setup, vec![Route::Telephone("5551234".parse()?)])?;
//!
//! let (outgoing, incoming) = tokio::join!(dialler.dial(), pool.accept());
//! let (mut outgoing, mut incoming) = (outgoing?, incoming?);
//! assert_eq!(incoming.peer.to_string(), "line modem-1, caller 5550001 (modem, unknown trust)");
//! outgoing.transport.write_all(b"hello").await?;
//! let mut heard = [0; 5];
//! incoming.transport.read_exact(&mut heard).await?;
//! assert_eq!(&heard, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::as_conversions
    )
)]

pub mod at;
pub mod dial;
pub mod direct;
mod link;
pub mod modem;
pub mod pool;
pub mod port;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use link::LinkOptions;
