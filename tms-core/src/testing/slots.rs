//! A simulation of an estate that calls a pool of lines for weeks, with an outage: what slots from a ledger are worth beside
//! times that are drawn by chance.
//!
//! The calls are those of [`agent`](crate::agent): a terminal dials in its slot, and after a call that fails it waits as its
//! agent waits. Nothing is read from a clock; a seed makes the world.

use super::seed::Seed;
use crate::rule::policy::{CheckInPolicy, Days, Hours};
use crate::rule::slot::{Access, Load, QUARTER, Request, allocate};
use jiff::tz::TimeZone;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tms_proto::message::Window;

const DAY: u64 = 86_400;

/// How the times of contacts are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// The server takes slots from the ledger.
    Ledger,
    /// The server draws a second of the next night's opening.
    Random,
    /// The server adds a day to the time of the call, half an hour more or less.
    Period,
    /// The terminal draws an hour and a minute of the next night's opening by itself.
    Terminal,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ledger, Self::Random, Self::Period, Self::Terminal];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "slots from the ledger",
            Self::Random => "server, random in the night",
            Self::Period => "server, a day later ± 30 min",
            Self::Terminal => "terminal, random minute",
        }
    }
}

/// An estate that checks in once a day, at night.
#[derive(Debug, Clone)]
pub struct World {
    /// Terminals.
    pub terminals: u32,
    /// Lines.
    pub lines: u32,
    /// Days.
    pub days: u64,
    /// Every night is open from so many minutes after midnight.
    pub opens: u16,
    /// It is open for so many minutes.
    pub minutes: u16,
    /// How long a check-in with nothing to do holds a line, in seconds.
    pub check_in: u32,
    /// Of a thousand calls, so many have a download.
    pub downloads: u32,
    /// How much longer these are, in seconds.
    pub download: u32,
    /// By how many percent calls may be shorter or longer than expected.
    pub variation: u64,
    /// When nobody answers, in seconds from the beginning.
    pub outage: Window,
    /// What makes the world.
    pub seed: u64,
}

impl Default for World {
    /// 100,000 terminals on 64 lines for thirty days: calls of 20 seconds from 20:00 to 08:00, one in 25 with a download of
    /// 100 seconds, and one night in which nobody answers until 02:00.
    fn default() -> Self {
        Self {
            terminals: 100_000,
            lines: 64,
            days: 30,
            opens: 20 * 60,
            minutes: 12 * 60,
            check_in: 20,
            downloads: 40,
            download: 100,
            variation: 25,
            outage: Window {
                from: 14 * DAY + 20 * 3_600,
                until: 15 * DAY + 2 * 3_600,
            },
            seed: 1,
        }
    }
}

/// What happened to the contacts that were due in a part of the time.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Contacts that were due.
    pub due: u64,
    /// Dialled, busy and unanswered included.
    pub dials: u64,
    /// Dialled, and all lines were busy.
    pub busy: u64,
    /// Contacts that came after the slot's window of an hour.
    pub missed: u64,
    /// Seconds from the slot's beginning to the answer, ascending.
    pub waiting: Vec<u32>,
    /// Of each quarter of an hour of the openings, the percentage of the lines' time that was used.
    pub occupancy: Vec<u32>,
    /// The most dials of a minute.
    pub peak: u32,
}

impl Figures {
    /// The waiting that so many percent of the contacts do not exceed.
    #[must_use]
    pub fn waiting(&self, percent: usize) -> u32 {
        let last = self.waiting.len().saturating_sub(1);
        self.waiting.get(last * percent / 100).copied().unwrap_or_default()
    }

    /// The mean occupancy, in percent.
    #[must_use]
    pub fn mean(&self) -> u32 {
        self.occupancy.iter().sum::<u32>() / u32::try_from(self.occupancy.len().max(1)).unwrap()
    }
}

/// What came of a world.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the third day to the outage.
    pub before: Figures,
    /// What was due in the day that begins with the outage.
    pub outage: Figures,
    /// The two days after that one.
    pub next: Figures,
    /// The rest.
    pub after: Figures,
    /// Seconds from the outage's end until so many percent of the terminals that it kept from calling had called: 50, 90, 99
    /// and all.
    pub caught_up: [u64; 4],
    /// The fullest quarter of the ledger, in percent of all that the lines have.
    pub fullest: u32,
    /// Slots that were given out though nothing was free in time.
    pub late: u64,
}

/// Runs a world to its end.
#[must_use]
pub fn run(world: &World, scheme: Scheme) -> Outcome {
    let mut run = Run::new(world, scheme);
    for id in 0..run.terminals.len() {
        run.first(id);
    }
    while let Some(Reverse((now, event, id))) = run.events.pop() {
        if now >= world.days * DAY {
            break;
        }
        match event {
            Event::HangUp => run.in_use -= 1,
            Event::Dial => run.dial(now, id),
        }
    }
    run.outcome()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    HangUp,
    Dial,
}

#[derive(Debug, Clone, Copy, Default)]
struct Terminal {
    /// When its slot begins.
    slot: u64,
    /// How long its next call is expected to last.
    seconds: u32,
    /// Calls in a row that failed.
    failures: u32,
}

struct Run<'a> {
    world: &'a World,
    scheme: Scheme,
    policy: CheckInPolicy,
    access: Access,
    seed: Seed,
    terminals: Vec<Terminal>,
    events: BinaryHeap<Reverse<(u64, Event, usize)>>,
    ledger: Vec<Load>,
    in_use: u32,
    used: Vec<u64>,
    dials: Vec<u32>,
    parts: [Figures; 4],
    caught_up: Vec<u64>,
    late: u64,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, scheme: Scheme) -> Self {
        let quarters = usize::try_from((world.days + 4) * DAY / QUARTER).unwrap();
        let minutes = usize::try_from((world.days + 4) * DAY / 60).unwrap();
        Self {
            world,
            scheme,
            policy: CheckInPolicy {
                tolerance: 43_200,
                days: Days::ALL,
                hours: vec![Hours {
                    from: world.opens,
                    minutes: world.minutes,
                }],
                redial_delay: 60,
                redial_max: 5,
                ..CheckInPolicy::default()
            },
            access: Access {
                overhead: world.check_in,
                rate: 1,
                ..Access::modems(world.lines)
            },
            seed: Seed::new(world.seed),
            terminals: vec![Terminal::default(); usize::try_from(world.terminals).unwrap()],
            events: BinaryHeap::new(),
            ledger: vec![Load::default(); quarters],
            in_use: 0,
            used: vec![0; quarters],
            dials: vec![0; minutes],
            parts: Default::default(),
            caught_up: Vec::new(),
            late: 0,
        }
    }

    fn first(&mut self, id: usize) {
        let opening = self.opening(0);
        self.terminals[id].seconds = self.world.check_in;
        let slot = match self.scheme {
            Scheme::Ledger => self.allocated(id, vec![opening], Vec::new()),
            Scheme::Terminal => self.minute(opening),
            Scheme::Random | Scheme::Period => opening.from + self.seed.below(opening.until - opening.from),
        };
        self.await_slot(id, slot);
    }

    /// The opening of the night that begins on a day.
    fn opening(&self, day: u64) -> Window {
        let from = day * DAY + u64::from(self.world.opens) * 60;
        Window {
            from,
            until: from + u64::from(self.world.minutes) * 60,
        }
    }

    fn minute(&mut self, opening: Window) -> u64 {
        opening.from + self.seed.below((opening.until - opening.from) / 60) * 60
    }

    fn await_slot(&mut self, id: usize, slot: u64) {
        self.terminals[id].slot = slot;
        self.terminals[id].failures = 0;
        // Nobody's clock and nobody's dialling are exact.
        let dial = slot + self.seed.below(6);
        self.events.push(Reverse((dial, Event::Dial, id)));
    }

    fn dial(&mut self, now: u64, id: usize) {
        let terminal = self.terminals[id];
        let part = self.part(terminal.slot);
        if let Some(part) = part {
            self.parts[part].dials += 1;
        }
        self.dials[usize::try_from(now / 60).unwrap()] += 1;
        let silent = self.world.outage.contains(now);
        if silent || self.in_use >= self.world.lines {
            if let (Some(part), false) = (part, silent) {
                self.parts[part].busy += 1;
            }
            self.fail(now, id);
            return;
        }
        let waiting = now - terminal.slot;
        if let Some(part) = part {
            let part = &mut self.parts[part];
            part.due += 1;
            part.missed += u64::from(waiting > u64::from(self.policy.window));
            part.waiting.push(u32::try_from(waiting).unwrap());
        }
        if self.world.outage.contains(terminal.slot) {
            self.caught_up.push(now - self.world.outage.until);
        }
        let varied = u64::from(terminal.seconds)
            * (100 - self.world.variation + self.seed.below(2 * self.world.variation + 1))
            / 100;
        self.in_use += 1;
        self.events.push(Reverse((now + varied, Event::HangUp, id)));
        for second in now..now + varied {
            self.used[usize::try_from(second / QUARTER).unwrap()] += 1;
        }
        self.hand_out(now, id);
    }

    /// As `agent::schedule` waits.
    fn fail(&mut self, now: u64, id: usize) {
        const MAX_BACKOFF: u64 = 6 * 3_600;
        let delay = u64::from(self.policy.redial_delay);
        let terminal = &mut self.terminals[id];
        terminal.failures += 1;
        let wait = if terminal.failures < u32::from(self.policy.redial_max) {
            let grown = (delay << (terminal.failures - 1).min(32)).min(MAX_BACKOFF);
            delay + self.seed.below(grown + 1)
        } else {
            MAX_BACKOFF / 2 + self.seed.below(MAX_BACKOFF / 2 + 1)
        };
        self.events
            .push(Reverse((now + wait.min(MAX_BACKOFF), Event::Dial, id)));
    }

    /// The next contact, in the plan of a call. What the next call will have to do is known by then.
    fn hand_out(&mut self, now: u64, id: usize) {
        let download = self.seed.chance(self.world.downloads);
        let bytes = if download { u64::from(self.world.download) } else { 0 };
        self.terminals[id].seconds = self.access.call(bytes);
        // The first opening that begins later, unless this call was before its night's own.
        let night = (0..)
            .map(|day| self.opening(day))
            .skip(usize::try_from(now / DAY).unwrap().saturating_sub(1));
        let next = night.into_iter().find(|opening| opening.from > now).unwrap();
        let slot = match self.scheme {
            Scheme::Ledger => {
                let zone = TimeZone::UTC;
                self.allocated(id, self.policy.spans(now, &zone), self.policy.later(now, &zone))
            }
            Scheme::Random => next.from + self.seed.below(next.until - next.from),
            Scheme::Period => now + DAY - 1_800 + self.seed.below(3_600),
            Scheme::Terminal => self.minute(next),
        };
        self.await_slot(id, slot);
    }

    fn allocated(&mut self, id: usize, spans: Vec<Window>, later: Vec<Window>) -> u64 {
        let request = Request {
            spans,
            later,
            seconds: self.terminals[id].seconds,
            urgent: false,
        };
        let ledger = |quarter| {
            self.ledger
                .get(usize::try_from(quarter).unwrap())
                .copied()
                .unwrap_or_default()
        };
        let slot = allocate(&self.access, &request, self.seed.next(), ledger);
        self.late += u64::from(slot.late);
        for booking in &slot.bookings {
            if let Some(load) = self.ledger.get_mut(usize::try_from(booking.quarter).unwrap()) {
                *load = load.book(booking.load);
            }
        }
        slot.from
    }

    fn part(&self, slot: u64) -> Option<usize> {
        let outage = self.world.outage.from;
        match slot {
            _ if slot < 2 * DAY || slot >= (self.world.days - 1) * DAY => None,
            _ if slot < outage => Some(0),
            _ if slot < outage + DAY => Some(1),
            _ if slot < outage + 3 * DAY => Some(2),
            _ => Some(3),
        }
    }

    fn outcome(mut self) -> Outcome {
        let capacity = u64::from(self.world.lines) * QUARTER;
        for (quarter, used) in (0..).zip(&self.used) {
            let time = quarter * QUARTER;
            let open = (0..=1).any(|before| {
                (time / DAY)
                    .checked_sub(before)
                    .is_some_and(|day| self.opening(day).contains(time))
            });
            if let (true, Some(part)) = (open, self.part(time)) {
                self.parts[part]
                    .occupancy
                    .push(u32::try_from(used * 100 / capacity).unwrap());
            }
        }
        for (minute, dials) in (0..).zip(&self.dials) {
            if let Some(part) = self.part(minute * 60) {
                self.parts[part].peak = self.parts[part].peak.max(*dials);
            }
        }
        for part in &mut self.parts {
            part.waiting.sort_unstable();
        }
        self.caught_up.sort_unstable();
        let last = self.caught_up.len().saturating_sub(1);
        let at = |percent| self.caught_up.get(last * percent / 100).copied().unwrap_or_default();
        let caught_up = [at(50), at(90), at(99), at(100)];
        let fullest = self
            .ledger
            .iter()
            .map(|load| u64::from(load.seconds) * 100 / capacity)
            .max()
            .unwrap_or_default();
        let [before, outage, next, after] = self.parts;
        Outcome {
            before,
            outage,
            next,
            after,
            caught_up,
            fullest: u32::try_from(fullest).unwrap(),
            late: self.late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tenth of the default world, for eight days.
    fn small() -> World {
        World {
            terminals: 10_000,
            lines: 8,
            days: 9,
            outage: Window {
                from: 4 * DAY + 20 * 3_600,
                until: 5 * DAY + 2 * 3_600,
            },
            ..World::default()
        }
    }

    #[test]
    fn a_seed_makes_a_world() {
        let tiny = |seed| World {
            terminals: 500,
            lines: 1,
            seed,
            ..small()
        };
        let before = |seed| run(&tiny(seed), Scheme::Ledger).before.waiting;
        assert_eq!(before(1), before(1));
        assert_ne!(before(1), before(2));
    }

    #[test]
    fn slots_from_the_ledger_find_lines_free() {
        let [ledger, random, period, terminal] = Scheme::ALL.map(|scheme| run(&small(), scheme));
        // Never more was given out than there is.
        assert!(
            ledger.fullest <= 81 && ledger.late == 0,
            "{} {}",
            ledger.fullest,
            ledger.late
        );
        // Of a thousand contacts, how many dialled in vain.
        let busy = |outcome: &Outcome| [&outcome.before, &outcome.after].map(|part| part.busy * 1_000 / part.due);
        let all = [&ledger, &random, &terminal].map(busy);
        let [ledgers, randoms, terminals] = all;
        assert!(ledgers.iter().all(|busy| *busy <= 20), "{all:?}");
        assert!(randoms.iter().all(|busy| *busy >= 100), "{all:?}");
        assert!(terminals.iter().all(|busy| *busy >= 500), "{all:?}");
        assert_eq!(ledger.before.missed + ledger.after.missed, 0);
        // An outage costs those whom it hit, whatever the scheme; nobody is forgotten.
        for outcome in [&ledger, &random, &period, &terminal] {
            assert!(outcome.outage.missed > 2_000, "{}", outcome.outage.missed);
            assert!(outcome.caught_up[3] < 2 * DAY, "{:?}", outcome.caught_up);
        }
    }
}
