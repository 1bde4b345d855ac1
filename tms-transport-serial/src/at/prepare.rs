//! Brings a modem from any state into a known one: on hook, in command mode, set up.

use super::event::{Event, Fault};
use super::profile::Profile;
use super::reply::Reply;
use std::collections::VecDeque;
use std::time::Duration;
use tms_proto::machine::{Instant, Output};

/// Says words, answers, does not echo. Sent to find out whether anybody is there, and after all that may have changed it.
const ASSERT: &str = "E0V1Q0";

/// How often it is sent before nobody is there.
const TRIES: u8 = 3;

/// Where it stands. Each wait is in `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// DTR is low: a modem with a call hangs up.
    Low,
    /// DTR is up again, and the modem thinks about it.
    Settle,
    /// Is anybody there?
    Attention,
    /// Nobody: perhaps it is in data mode still. Silence, as the escape sequence wants it.
    Guard,
    /// The escape sequence was sent.
    Escape,
    /// On hook, if it was not.
    HangUp,
    /// The command with this index.
    Setup(usize),
    /// What the command before this index may have changed is set right.
    Assert(usize),
    /// Set right a last time.
    Last,
}

/// What came of it.
pub(super) enum Progress {
    /// It goes on.
    Going,
    /// The modem is in the known state.
    Done,
    /// It is not.
    Failed(Fault),
}

#[derive(Debug)]
pub(super) struct Prepare {
    step: Step,
    /// The command of this step is sent, and its answer is awaited; otherwise it waits to be sent.
    sent: bool,
    until: Instant,
    tries: u8,
    /// The escape sequence was tried.
    escaped: bool,
    /// Since the last command, something came that a modem that is set right does not say.
    odd: bool,
}

impl Prepare {
    /// From whatever state: hangs up first.
    pub(super) fn from_anything(now: Instant, profile: &Profile, dtr: bool, out: &mut VecDeque<Output<Event>>) -> Self {
        if dtr {
            out.push_back(Output::Event(Event::Dtr(false)));
            Self::at(Step::Low, true, now + profile.timing.dtr)
        } else {
            // Without DTR the escape sequence is all there is, and the sooner the less is sent to the peer.
            Self::at(Step::Guard, true, now + profile.timing.guard)
        }
    }

    /// The same, where the modem did not take DTR for a hang-up.
    pub(super) fn by_escape(now: Instant, profile: &Profile) -> Self {
        Self::at(Step::Guard, true, now + profile.timing.guard)
    }

    /// From command mode, on hook, of a modem that has forgotten its settings.
    pub(super) fn from_command_mode(now: Instant) -> Self {
        Self::at(Step::Attention, false, now)
    }

    const fn at(step: Step, sent: bool, until: Instant) -> Self {
        Self {
            step,
            sent,
            until,
            tries: 0,
            escaped: false,
            odd: false,
        }
    }

    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// Whether the modem may still have a call.
    pub(super) const fn is_hanging_up(&self) -> bool {
        !matches!(self.step, Step::Setup(_) | Step::Assert(_) | Step::Last)
    }

    /// The modem said something.
    pub(super) fn reply(&mut self, now: Instant, profile: &Profile, reply: &Reply, numeric: bool) -> Progress {
        self.odd |= numeric || *reply == Reply::Echo;
        if !self.sent {
            return Progress::Going;
        }
        match (self.step, reply) {
            (Step::Escape, Reply::Ok) => {
                self.escaped = true;
                self.enter(Step::Attention, now, profile.timing.gap);
            }
            (Step::Attention, Reply::Ok) => self.enter(Step::HangUp, now, profile.timing.gap),
            (Step::HangUp, Reply::Ok | Reply::Error) => self.enter(Step::Setup(0), now, profile.timing.gap),
            (Step::Setup(index), Reply::Ok) => self.after(index, now, profile),
            (
                Step::Setup(index),
                Reply::Error
                | Reply::Busy
                | Reply::NoDialTone
                | Reply::NoAnswer
                | Reply::Delayed(_)
                | Reply::Blacklisted,
            ) => {
                self.odd = true;
                self.after(index, now, profile);
            }
            // Some say this before OK, and some instead of it.
            (Step::Setup(_) | Step::HangUp, Reply::NoCarrier) => {
                self.odd = true;
                self.until = self.until.min(now + profile.timing.afterword);
            }
            // A command was taken for a call, and somebody answered.
            (Step::Setup(_), Reply::Connect(_)) if !numeric => *self = Self::by_escape(now, profile),
            (Step::Assert(next), Reply::Ok) => self.enter(Step::Setup(next), now, profile.timing.gap),
            (Step::Last, Reply::Ok) => return Progress::Done,
            _ => {}
        }
        Progress::Going
    }

    /// Its time has come.
    pub(super) fn timeout(&mut self, now: Instant, profile: &Profile, out: &mut VecDeque<Output<Event>>) -> Progress {
        let timing = &profile.timing;
        if !self.sent {
            self.send(now, profile, out);
            return Progress::Going;
        }
        match self.step {
            Step::Low => {
                out.push_back(Output::Event(Event::Dtr(true)));
                (self.step, self.until) = (Step::Settle, now + timing.settle);
            }
            Step::Settle => {
                out.push_back(Output::Event(Event::Discard));
                self.enter(Step::Attention, now, Duration::ZERO);
            }
            Step::Guard => {
                out.push_back(Output::Transmit("+++".into()));
                (self.step, self.until) = (Step::Escape, now + timing.guard + timing.afterword);
            }
            Step::Escape => {
                self.escaped = true;
                self.enter(Step::Attention, now, Duration::ZERO);
            }
            Step::Attention if self.tries < TRIES => self.send(now, profile, out),
            Step::Attention if !self.escaped => (self.step, self.until) = (Step::Guard, now + timing.guard),
            // It was there a moment ago.
            Step::HangUp => self.enter(Step::Setup(0), now, Duration::ZERO),
            Step::Setup(index) => {
                // Whatever it is doing, a character ends it.
                out.push_back(Output::Transmit("\r".into()));
                self.odd = true;
                self.after(index, now, profile);
            }
            Step::Assert(_) | Step::Last if self.tries < TRIES => self.send(now, profile, out),
            Step::Attention | Step::Assert(_) | Step::Last => return Progress::Failed(Fault::Silent),
        }
        Progress::Going
    }

    /// A command is over: the next, or first what it may have changed is set right.
    fn after(&mut self, index: usize, now: Instant, profile: &Profile) {
        let reset = profile
            .commands
            .get(index)
            .is_some_and(|command| matches!(command.as_str(), "Z" | "&F"));
        let wait = if reset {
            profile.timing.settle
        } else {
            profile.timing.gap
        };
        let next = index + 1;
        let step = if self.odd || reset {
            Step::Assert(next)
        } else {
            Step::Setup(next)
        };
        self.enter(step, now, wait);
    }

    fn enter(&mut self, step: Step, now: Instant, wait: Duration) {
        self.step = step;
        self.sent = false;
        self.until = now + wait;
        self.tries = 0;
    }

    fn send(&mut self, now: Instant, profile: &Profile, out: &mut VecDeque<Output<Event>>) {
        let timing = &profile.timing;
        if let Step::Setup(index) = self.step
            && index >= profile.commands.len()
        {
            self.step = Step::Last;
        }
        let (text, wait) = match self.step {
            Step::HangUp => ("H", timing.reply),
            Step::Setup(index) => (
                profile.commands.get(index).map_or(ASSERT, |command| command.as_str()),
                timing.reply,
            ),
            _ => (ASSERT, timing.attention),
        };
        out.push_back(Output::Transmit(format!("AT{text}\r").into()));
        self.sent = true;
        self.odd = false;
        self.tries += 1;
        self.until = now + wait;
    }
}
