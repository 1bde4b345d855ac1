//! How a program is asked to end.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// SIGINT and SIGTERM. From when this is made they do not kill the program.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to take them. To be done before anything that is not to be killed half-way. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn take() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until `stop` has ended all calls, or until another signal comes; says which, and whether all ended. `calls` counts
    /// those that are left.
    pub async fn drain(&mut self, stop: impl Future<Output = bool>, calls: impl FnOnce() -> usize) -> bool {
        let all = tokio::select! {
            all = stop => all,
            name = self.next() => {
                warn!(signal = name, "second signal");
                false
            }
        };
        if all {
            info!("stopped");
        } else {
            warn!(calls = calls(), "stopped, calls were broken off");
        }
        all
    }

    /// Waits for one, and gives its name. Dropping the future loses none.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
