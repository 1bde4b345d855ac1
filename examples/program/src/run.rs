//! How a program begins and ends.

use anyhow::{Context, Result};
use std::process::ExitCode;

/// Does a program's work on a runtime with threads. An error goes to standard error under the program's name, and is exit
/// status 1.
pub fn run(name: &str, work: impl Future<Output = Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.context("cannot start").and_then(|runtime| {
        let done = runtime.block_on(work);
        // Work that was broken off must not keep the program from ending.
        runtime.shutdown_background();
        done
    });
    done.unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    })
}
