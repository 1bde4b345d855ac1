//! What the owner of a terminal decides about its agent.

use tms_proto::handshake::Suite;

/// Policies of an agent. Times are in seconds.
#[derive(Debug, Clone)]
pub struct Options {
    /// The suites that the terminal speaks, best first. It never speaks another, whatever a server or somebody in between
    /// says: this list is the pinned minimum.
    pub suites: Vec<Suite>,
    /// Full authentication proves the RSA identity and the main-control key together (mode 4).
    pub both: bool,
    /// The terminal's clock is set by somebody who may be believed. Without that, certificates are judged by epoch and by
    /// the floor of what servers said.
    pub trust_clock: bool,
    /// How far one call can raise the floor of the time.
    pub max_clock_step: u64,
    /// The terminal's time zone, in minutes east of UTC, for its reports.
    pub zone: Option<i16>,

    /// Before the first call of all.
    pub first_contact: u64,
    /// After a failed call, where the server gave no other delay.
    pub redial_delay: u64,
    /// Failed calls in a row before the terminal waits for long, where the server gave no other number.
    pub redial_max: u16,
    /// The longest wait after failures.
    pub max_backoff: u64,
    /// The longest wait that a busy server can ask for.
    pub max_busy: u64,

    /// After a failed attempt at an action, where the plan gives no other delay.
    pub retry_delay: u64,
    /// Attempts at an action, where the plan gives no other number.
    pub max_attempts: u16,
    /// Between two looks at a terminal that is not ready.
    pub recheck: u64,
    /// The least charge, in percent, where the plan gives no other.
    pub min_battery: u8,
    /// How often a merchant may put an action off.
    pub max_postponed: u16,
    /// How long a merchant can put it off each time.
    pub max_postponement: u64,
    /// How long a new version has to confirm itself after it was started.
    pub confirm_within: u64,

    /// Bytes of flash memory that downloads leave free, so that the journal can always be written.
    pub reserve: u64,
    /// The largest content that is downloaded, in bytes.
    pub max_object: u64,
    /// The most actions that are taken on at a time.
    pub max_actions: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            suites: vec![Suite::ChaChaPoly],
            both: false,
            trust_clock: false,
            max_clock_step: 2 * 365 * 86_400,
            zone: None,
            first_contact: 0,
            redial_delay: 60,
            redial_max: 5,
            max_backoff: 6 * 3_600,
            max_busy: 3_600,
            retry_delay: 300,
            max_attempts: 5,
            recheck: 60,
            min_battery: 30,
            max_postponed: 3,
            max_postponement: 86_400,
            confirm_within: 600,
            reserve: 128 * 1024,
            max_object: 1 << 32,
            max_actions: 32,
        }
    }
}
