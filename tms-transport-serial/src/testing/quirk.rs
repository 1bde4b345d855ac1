//! What a modem does that others do not.

use std::time::Duration;

/// How a modem says its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Results {
    /// `\r\nOK\r\n`, or `0\r` after `V0`.
    #[default]
    Asked,
    /// `0\r`, whatever it is told.
    Numbers,
    /// `\r0\r`, whatever it is told.
    Framed,
    /// `OK\r`.
    Bare,
}

/// What a modem does that others do not. The default is a modem without oddities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quirks {
    /// It echoes, whatever it is told.
    pub echoes: bool,
    /// How it says results.
    pub results: Results,
    /// What it says when a connection is made, a line each; `{rate}` is the rate of the line.
    pub connect: Vec<String>,
    /// What it says of a caller, a line each, once it was asked to; `{number}` is the caller's number.
    pub caller: Vec<String>,
    /// It says who calls before the first ring.
    pub caller_first: bool,
    /// It understands no command that was not known in 1981.
    pub old: bool,
    /// `AT+VCID=1` is `V0 C I D1`: numeric results, and a call to number 1.
    pub misreads: bool,
    /// It says that it is connected as soon as it has dialled.
    pub connects_early: bool,
    /// It says `BUSY` to who calls, as bytes of the call.
    pub busy_is_data: bool,
    /// It does not hang up when it is told to.
    pub ignores_ath: bool,
    /// It does not hang up when DTR falls.
    pub ignores_dtr: bool,
    /// Its cable has no lines beside the data.
    pub no_lines: bool,
    /// It does not know the escape sequence.
    pub no_escape: bool,
    /// After so many calls to a number in vain it calls it no more, until its power was away.
    pub blacklists: Option<u32>,
    /// After a call in vain, it does not call the number for so long.
    pub delays: Option<Duration>,
}

impl Default for Quirks {
    fn default() -> Self {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Self {
            echoes: false,
            results: Results::default(),
            connect: lines(&["CONNECT {rate}"]),
            caller: lines(&["DATE = 0321", "TIME = 1405", "NMBR = {number}"]),
            caller_first: false,
            old: false,
            misreads: false,
            connects_early: false,
            busy_is_data: false,
            ignores_ath: false,
            ignores_dtr: false,
            no_lines: false,
            no_escape: false,
            blacklists: None,
            delays: None,
        }
    }
}
