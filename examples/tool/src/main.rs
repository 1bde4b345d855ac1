//! `tms`: the operator's tool of a terminal-management system.

use std::process::ExitCode;

fn main() -> ExitCode {
    tms_tool::command::main()
}
