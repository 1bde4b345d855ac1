//! How a line is.

use crate::at::Phase;

/// How a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What its modem is doing.
    pub phase: Phase,
    /// A call is coming in and may be answered.
    pub incoming: bool,
    /// What is wrong with it, in words; `None` once the modem has been ready again.
    pub fault: Option<String>,
    /// What has become of calls.
    pub counters: Counters,
}

/// What has become of calls on a line since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Calls that were answered and connected.
    pub answered: u64,
    /// Calls that were answered and came to nothing.
    pub failed_in: u64,
    /// Calls that came in and were not answered.
    pub missed: u64,
    /// Calls that were made and connected.
    pub dialled: u64,
    /// Calls that were made and came to nothing.
    pub failed_out: u64,
    /// Times that the modem did not answer, or did not hang up.
    pub faults: u64,
    /// Times that the port was lost or could not be opened.
    pub port_errors: u64,
}
