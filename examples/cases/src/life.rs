//! How time passes: terminals call when they are due, and the work behind the calls is done.

use crate::shop::Shop;
use crate::telephone::Telephone;
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::sync::Arc;
use tms_core::clock::{Clock, ManualClock};
use tms_core::store::TerminalId;
use tms_proto::code::{ResultCode, Stage};
use tms_proto::message::ActionResult;
use tms_server::run::{Running, settle};
use tms_terminal::errand::{self, Outcome, Step};
use tms_terminal::terminal::Terminal;
use tms_tool::office::Office;

pub(crate) const DAY: u64 = 86_400;
pub(crate) const HOUR: u64 = 3_600;

/// How often a terminal may want something at one moment before it is taken for one that never has enough.
const MAX_AT_ONCE: usize = 20;

/// Seconds after which the work behind the calls is done again while terminals call: a server does it every few seconds, and
/// nothing in the story is in such a hurry.
const REST: u64 = 6 * HOUR;

/// Seconds that pass while a terminal calls.
const CALL: u64 = 40;

/// The estate, its server, its terminals, and the time.
pub(crate) struct Life {
    pub(crate) office: Office,
    pub(crate) members: Vec<Member>,
    pub(crate) clock: Arc<ManualClock>,
    running: Running,
    address: SocketAddr,
    /// The midnight, by the bank's clocks, at which the present part of the story begins.
    page: u64,
    /// When the work behind the calls was done last.
    settled: u64,
}

/// A terminal that stands with a merchant.
pub(crate) struct Member {
    pub(crate) shop: Shop,
    pub(crate) id: TerminalId,
    pub(crate) terminal: Terminal,
    /// It is switched on.
    pub(crate) on: bool,
    /// The number of the telephone line that it is plugged into.
    pub(crate) line: String,
    /// When it has something to do without a call.
    pub(crate) again: Option<u64>,
}

/// What a terminal did at one moment.
pub(crate) struct Visit {
    /// Which: its place among the members.
    pub(crate) member: usize,
    /// When, in seconds since 1970 UTC.
    pub(crate) time: u64,
    /// How often it called.
    pub(crate) calls: u32,
    /// Bytes of content that came.
    pub(crate) bytes: u64,
    /// What became of what it was told to do.
    pub(crate) results: Vec<ActionResult>,
    /// What the server said in words.
    pub(crate) remarks: Vec<String>,
}

impl Visit {
    /// Whether it said that something new runs, or is in force.
    pub(crate) fn succeeded(&self) -> bool {
        let done =
            |result: &ActionResult| result.stage == Stage::RunningConfirmed && result.code == ResultCode::Success;
        self.results.iter().any(done)
    }
}

impl Life {
    pub(crate) const fn new(
        office: Office,
        clock: Arc<ManualClock>,
        running: Running,
        address: SocketAddr,
        begin: u64,
    ) -> Self {
        Self {
            office,
            members: Vec::new(),
            clock,
            running,
            address,
            page: begin,
            settled: begin,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The next part of the story begins with the next midnight.
    pub(crate) fn turn_page(&mut self) {
        let gone = self.now().saturating_sub(self.page);
        self.page += gone.div_ceil(DAY) * DAY;
    }

    /// The time on a day of this part of the story, from 0, by the bank's clocks.
    pub(crate) const fn time(&self, day: u32, hour: u64) -> u64 {
        self.page + day as u64 * DAY + hour * HOUR
    }

    /// Lets time pass until then. What terminals do meanwhile, in the order of time.
    pub(crate) async fn until(&mut self, time: u64) -> Result<Vec<Visit>> {
        let mut visits: Vec<Visit> = Vec::new();
        let mut at_once = 0;
        while let Some((at, member)) = self.next().filter(|(at, _)| *at <= time) {
            let now = self.now();
            at_once = if at > now { 0 } else { at_once + 1 };
            if at_once > MAX_AT_ONCE * self.members.len() {
                bail!("terminals call and call, and have never done");
            }
            self.clock.set(at.max(now));
            if self.now() >= self.settled + REST {
                self.settle().await?;
            }
            visits.push(self.visit(member).await?);
        }
        self.clock.set(time.max(self.now()));
        self.settle().await?;
        Ok(visits)
    }

    /// Does what there is to do behind the calls.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        settle(&self.office.estate).await?;
        self.settled = self.now();
        Ok(())
    }

    /// Ends the server.
    pub(crate) async fn end(self) -> Result<Office> {
        if !self.running.stop(std::time::Duration::from_secs(10)).await {
            bail!("calls did not end when the server was stopped");
        }
        Ok(self.office)
    }

    /// Who is due next, and when.
    fn next(&self) -> Option<(u64, usize)> {
        let now = self.now();
        let on = self.members.iter().enumerate().filter(|(_, member)| member.on);
        on.map(|(index, member)| (member.due(now), index)).min()
    }

    /// A terminal does what is due: work, or a call.
    async fn visit(&mut self, index: usize) -> Result<Visit> {
        let time = self.now();
        let address = self.address;
        let member = self.members.get_mut(index).context("there is such a terminal")?;
        let mut visit = Visit {
            member: index,
            time,
            calls: 0,
            bytes: 0,
            results: Vec::new(),
            remarks: Vec::new(),
        };
        if !member.terminal.next_contact().wait.is_zero() {
            let worked = member.terminal.work().await?;
            member.again = worked.again.map(|wait| time + wait.as_secs().max(1));
            visit.results = worked.results;
            return Ok(visit);
        }
        let mut line = Telephone {
            number: member.line.parse()?,
            server: address,
        };
        let mut again = None;
        let mut steps = |step: Step<'_>| match step {
            Step::Worked(worked) => {
                again = worked.again;
                visit.results.extend(worked.results.iter().cloned());
            }
            Step::Called(report) => {
                visit.calls += 1;
                visit.bytes += report
                    .downloads
                    .iter()
                    .map(|load| load.until.saturating_sub(load.from))
                    .sum::<u64>();
                visit.remarks.extend(report.remarks.iter().cloned());
            }
            Step::NotReached(_) => {}
        };
        let outcome = errand::run(&mut member.terminal, &mut line, None, &mut steps, &mut |_| {}).await?;
        if outcome != Outcome::Done {
            bail!("the call of {} did not come to its end", member.shop.label());
        }
        member.again = again.map(|wait| time + wait.as_secs().max(1));
        self.clock.advance(CALL);
        Ok(visit)
    }
}

impl Member {
    /// When it has something to do.
    fn due(&self, now: u64) -> u64 {
        let call = now.saturating_add(self.terminal.next_contact().wait.as_secs());
        self.again.map_or(call, |again| again.min(call)).max(now)
    }
}
