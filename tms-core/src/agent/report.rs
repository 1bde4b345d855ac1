//! What happened in a call, for the program and for the merchant's printer.

use std::fmt;
use tms_proto::certificate::{DAY, Date};
use tms_proto::code::ResultCode;
use tms_proto::digest::Digest;
use tms_proto::handshake::Mode;
use tms_proto::message::{ActionResult, NextContact, Refusal, Trigger};

/// What happened in a call. Its [`Display`](fmt::Display) is the printable check-in report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallReport {
    /// Why the terminal called.
    pub trigger: Trigger,
    /// The number of the call.
    pub contact: u32,
    /// The handshake's mode; none where there was no call.
    pub mode: Option<Mode>,
    /// The server has recorded the check-in.
    pub recorded: bool,
    /// Sequence number of the plan that was taken.
    pub plan: Option<u64>,
    /// The plan was the one that the terminal held.
    pub unchanged: bool,
    /// Actions of the plan that were refused.
    pub refused: Vec<Refusal>,
    /// Content that came.
    pub downloads: Vec<Download>,
    /// Results that were sent.
    pub results: Vec<ActionResult>,
    /// Results of which the server said that it has recorded them.
    pub acknowledged: usize,
    /// What the server said in words.
    pub remarks: Vec<String>,
    /// When the server wants to be called next.
    pub next_contact: Option<NextContact>,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// How it ended.
    pub end: CallEnd,
}

/// Content that came in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// For which action.
    pub action: u64,
    /// The component; empty where it is not known yet.
    pub component: String,
    /// What.
    pub object: Digest,
    /// The first byte that was asked for.
    pub from: u64,
    /// The byte after the last that came.
    pub until: u64,
    /// Its size, in bytes.
    pub size: u64,
}

/// How far a download has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// For which action.
    pub action: u64,
    /// The component.
    pub component: &'a str,
    /// Bytes that are here.
    pub held: u64,
    /// Bytes that it has.
    pub size: u64,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEnd {
    /// On purpose: both said goodbye.
    Done,
    /// The server had no room, and asked to be called after so many seconds.
    Busy(u32),
    /// The server refused the terminal.
    Refused(ResultCode),
    /// The server's plan is older than one that was seen.
    StalePlan,
    /// The server could not prove itself, and was told nothing.
    Impostor(String),
    /// The terminal has nothing to prove itself with.
    NoCredentials,
    /// The line was cut, or fell silent.
    Broken(String),
    /// The server did not keep to the protocol.
    Fault(String),
    /// The terminal itself failed: its memory, its PIN pad, its device.
    Failed(String),
}

impl CallReport {
    pub(super) const fn new(trigger: Trigger) -> Self {
        Self {
            trigger,
            contact: 0,
            mode: None,
            recorded: false,
            plan: None,
            unchanged: false,
            refused: Vec::new(),
            downloads: Vec::new(),
            results: Vec::new(),
            acknowledged: 0,
            remarks: Vec::new(),
            next_contact: None,
            sent: 0,
            received: 0,
            end: CallEnd::Done,
        }
    }
}

impl fmt::Display for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Some(Mode::Rsa) => "rsa",
            Some(Mode::MainKey) => "main key",
            Some(Mode::Ticket) => "ticket",
            Some(Mode::Both) => "rsa and main key",
            None => "none",
        };
        writeln!(f, "CHECK-IN {} ({})", self.contact, self.trigger.kind)?;
        writeln!(f, "MODE     {mode}")?;
        writeln!(f, "RECORDED {}", if self.recorded { "yes" } else { "no" })?;
        if let Some(plan) = self.plan {
            writeln!(f, "PLAN     {plan}{}", if self.unchanged { " unchanged" } else { "" })?;
        }
        for Refusal { action, code } in &self.refused {
            writeln!(f, "REFUSED  {action} {code}")?;
        }
        for download in &self.downloads {
            writeln!(f, "DOWNLOAD {} {}", download.action, download.component)?;
            writeln!(f, "         {}-{} of {}", download.from, download.until, download.size)?;
        }
        for result in &self.results {
            writeln!(f, "RESULT   {} {} {}", result.action, result.stage, result.code)?;
            if let Some(text) = &result.text {
                writeln!(f, "         {text}")?;
            }
        }
        for remark in &self.remarks {
            writeln!(f, "SERVER   {remark}")?;
        }
        writeln!(f, "BYTES    {} out, {} in", self.sent, self.received)?;
        if let Some(next) = &self.next_contact {
            writeln!(f, "NEXT     {}", Utc(next.from))?;
        }
        writeln!(f, "END      {}", self.end)
    }
}

impl fmt::Display for CallEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Busy(seconds) => write!(f, "server busy, again in {seconds} s"),
            Self::Refused(code) => write!(f, "refused by the server: {code}"),
            Self::StalePlan => write!(f, "plan refused: {}", ResultCode::StalePlan),
            Self::Impostor(why) => write!(f, "server not accepted: {why}"),
            Self::NoCredentials => f.write_str("no credentials to call with"),
            Self::Broken(why) => write!(f, "line broken: {why}"),
            Self::Fault(why) => write!(f, "protocol fault: {why}"),
            Self::Failed(why) => write!(f, "terminal failed: {why}"),
        }
    }
}

/// A time, for people.
struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Date::of_unix(self.0) {
            Some(date) => {
                let minutes = self.0 % DAY / 60;
                write!(f, "{date} {:02}:{:02} UTC", minutes / 60, minutes % 60)
            }
            None => write!(f, "{} s", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tms_proto::code::{Stage, TriggerKind};

    #[test]
    fn the_report_can_be_printed() {
        let mut report = CallReport::new(Trigger::of(TriggerKind::Schedule));
        report.contact = 17;
        report.mode = Some(Mode::Ticket);
        report.recorded = true;
        report.plan = Some(3);
        report.downloads.push(Download {
            action: 7,
            component: "purchase".into(),
            object: Digest([0; 32]),
            from: 4096,
            until: 65536,
            size: 70000,
        });
        report.results.push(ActionResult {
            number: 1,
            action: 6,
            attempt: 1,
            stage: Stage::Rejected,
            code: ResultCode::SignatureError,
            vendor_code: None,
            text: Some("not enough valid signatures".into()),
            time: 0,
            bytes: None,
            running: None,
        });
        report.next_contact = Some(NextContact::at(1_790_000_040, 60));
        (report.sent, report.received) = (138, 185);
        let expected = "\
CHECK-IN 17 (schedule)
MODE     ticket
RECORDED yes
PLAN     3
DOWNLOAD 7 purchase
         4096-65536 of 70000
RESULT   6 rejected SIGE
         not enough valid signatures
BYTES    138 out, 185 in
NEXT     2026-09-21 14:14 UTC
END      ok
";
        assert_eq!(report.to_string(), expected);
    }
}
