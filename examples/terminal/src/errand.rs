//! One errand: a call, what is then to be done, and the calls that tell of it.

use crate::terminal::Terminal;
use anyhow::Result;
use std::io;
use std::time::Duration;
use tms_core::agent::{CallEnd, CallReport, Progress, WorkReport};
use tms_core::transport::Dial;
use tms_proto::message::Trigger;

/// A wait that is worth waiting for in one go.
const SHORT: Duration = Duration::from_secs(2);

/// The most calls of one errand.
const MAX_CALLS: usize = 8;

/// What happens on an errand.
pub enum Step<'a> {
    /// What was done off line.
    Worked(&'a WorkReport),
    /// A call ended.
    Called(&'a CallReport),
    /// The server was not reached.
    NotReached(&'a io::Error),
}

/// How an errand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to be done or told now.
    Done,
    /// The last call did not come to its end: no line, a cut, a busy server, a fault on either side.
    Failed,
    /// The server refused the terminal, or the terminal the server.
    Refused,
}

/// Calls at once, and again for as long as there is something to download or to tell.
///
/// `steps` is told what happens, `progress` how far downloads have come.
///
/// # Errors
/// Where the terminal's memory fails.
pub async fn run(
    terminal: &mut Terminal,
    dial: &mut (dyn Dial + Send),
    trigger: Option<Trigger>,
    steps: &mut (dyn FnMut(Step<'_>) + Send),
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Outcome> {
    steps(Step::Worked(&terminal.work().await?));
    let mut trigger = trigger.unwrap_or_else(|| terminal.next_contact().trigger);
    let mut outcome = Outcome::Done;
    for _ in 0..MAX_CALLS {
        outcome = match terminal.call(dial, trigger, progress).await? {
            Ok(report) => {
                steps(Step::Called(&report));
                match report.end {
                    CallEnd::Done if report.recorded => Outcome::Done,
                    CallEnd::Refused(_) | CallEnd::StalePlan | CallEnd::Impostor(_) | CallEnd::NoCredentials => {
                        Outcome::Refused
                    }
                    _ => Outcome::Failed,
                }
            }
            Err(error) => {
                steps(Step::NotReached(&error));
                Outcome::Failed
            }
        };
        steps(Step::Worked(&terminal.work().await?));
        let contact = terminal.next_contact();
        if contact.wait > SHORT {
            break;
        }
        tokio::time::sleep(contact.wait).await;
        trigger = contact.trigger;
    }
    Ok(outcome)
}
