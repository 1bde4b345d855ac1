//! What programs say on standard output.

use std::fmt;
use std::io::{self, Write};

/// Says a line. Nobody may be listening any more: a program that serves goes on.
pub fn say(line: impl fmt::Display) {
    let _nobody_listens = writeln!(io::stdout(), "{line}");
}
