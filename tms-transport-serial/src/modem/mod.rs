//! A telephone line with a modem on it, run by a task of its own.
//!
//! [`ModemLine`] is the handle: it calls, answers, and says how the line is. The task owns the port and the
//! [engine](crate::at::Engine); while a call is up, both are lent to the [`Call`], and come back when it is dropped. Whatever
//! became of the call, the modem is then hung up and brought into its known state before anything else is done with it. A
//! port that is lost is opened again.

mod call;
mod line;
mod status;

pub use call::Call;
pub use line::{DialError, ModemLine, NoCall};
pub use status::{Counters, Status};

use tms_proto::machine::Instant;

/// The time of an engine: milliseconds since its line was started.
#[derive(Debug, Clone, Copy)]
struct Time(tokio::time::Instant);

impl Time {
    fn begin() -> Self {
        Self(tokio::time::Instant::now())
    }

    fn now(self) -> Instant {
        let since = tokio::time::Instant::now().saturating_duration_since(self.0);
        // Rounded up: a timer that has fired is not early.
        Instant::from_millis(u64::try_from(since.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
    }

    /// When this is.
    fn at(self, instant: Instant) -> Option<tokio::time::Instant> {
        self.0
            .checked_add(std::time::Duration::from_millis(instant.as_millis()))
    }
}
