//! A small world: terminals of which each is to get two versions of one component, by two tasks.

use super::Rules;
use super::step::{Act, Step};
use crate::rule::task::assignment::{Event, Standing, State};
use crate::rule::task::conflict::Rival;
use crate::rule::task::count::Counts;
use crate::rule::task::gate::{Gates, Verdict, View};
use crate::rule::task::report::Report;
use crate::rule::task::state::{Operation, PauseReason, TaskState};
use tms_proto::code::ResultCode;

/// How much may go wrong, of each kind and in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) all: u8,
    pub(super) losses: u8,
    pub(super) failures: u8,
    pub(super) cancels: u8,
    pub(super) silences: u8,
    pub(super) retries: u8,
    pub(super) pauses: u8,
    pub(super) stops: u8,
    pub(super) removals: u8,
    /// The server hears a terminal at once: fewer orders of events, for worlds with many terminals.
    pub(super) prompt: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) terminals: Vec<Terminal>,
    pub(super) tasks: [TaskState; 2],
    pub(super) left: Budget,
}

/// A terminal, with what the server thinks of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Terminal {
    pub(super) assignments: [Option<Standing>; 2],
    /// What the terminal knows of each attempt of each task.
    pub(super) truth: [[Truth; 2]; 2],
    /// What it has said and the server has not acknowledged, the oldest first.
    pub(super) unheard: Vec<(u32, Word)>,
    /// Number of its last result.
    number: u32,
    /// The confirmations that the server has taken in.
    heard: [bool; 2],
    /// Cancels that were asked for, and those that were answered, as bits.
    asked: u8,
    answered: u8,
}

/// How far a terminal is with an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Truth {
    Unknown,
    Held,
    Downloaded,
    Activated,
    Confirmed,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Word {
    Result { task: usize, attempt: u16, report: Report },
    Answer { task: usize, id: u64, taken: bool },
}

type Broken = &'static str;

impl World {
    /// The first task has started, with all terminals. The second will, some time.
    pub(super) fn new(terminals: usize, left: Budget) -> Self {
        let terminal = Terminal {
            assignments: [Some(Standing::NEW), None],
            truth: [[Truth::Unknown; 2]; 2],
            unheard: Vec::new(),
            number: 0,
            heard: [false; 2],
            asked: 0,
            answered: 0,
        };
        Self {
            terminals: vec![terminal; terminals],
            tasks: [TaskState::Running, TaskState::Ready],
            left,
        }
    }

    /// Whether all is said and done.
    pub(super) fn is_at_end(&self) -> bool {
        let tasks = self.tasks.iter().all(|task| task.is_final());
        tasks
            && self.terminals.iter().all(|terminal| {
                let standings = terminal.assignments.iter().flatten();
                standings.clone().count() == 2
                    && standings.clone().all(|standing| standing.state.is_final())
                    && terminal.unheard.is_empty()
                    && terminal.asked == terminal.answered
            })
    }

    /// The world after `step`. `None` where that cannot happen, or changes nothing.
    pub(super) fn after(&self, rules: &Rules, step: Step) -> Result<Option<Self>, Broken> {
        let mut next = self.clone();
        if next.take(rules, step)?.is_none() {
            return Ok(None);
        }
        let heard = match step {
            Step::Act { heard, .. } => heard,
            Step::Contact(_) => self.left.prompt,
            _ => false,
        };
        if heard {
            next.hear_all(rules)?;
        } else if self.left.prompt && matches!(step, Step::Act { .. }) {
            spend(&mut next.left.all, &mut next.left.losses);
        }
        if next == *self {
            return Ok(None);
        }
        next.hold(self)?;
        Ok(Some(next))
    }

    fn take(&mut self, rules: &Rules, step: Step) -> Result<Option<()>, Broken> {
        match step {
            Step::Start => {
                let Some(()) = self.operate(1, Operation::Start) else {
                    return Ok(None);
                };
                for terminal in 0..self.terminals.len() {
                    self.terminals[terminal].assignments[1] = Some(Standing::NEW);
                    self.settle(rules, terminal)?;
                }
            }
            Step::Pause(task) => {
                spend(&mut self.left.all, &mut self.left.pauses);
                let reason = PauseReason::Operator;
                return Ok(self.operate(task, Operation::Pause { reason }));
            }
            Step::Resume(task) => return Ok(self.operate(task, Operation::Resume)),
            Step::Stop(task) => {
                spend(&mut self.left.all, &mut self.left.stops);
                self.operate(task, Operation::Stop);
                for terminal in 0..self.terminals.len() {
                    // What is being installed comes to its end by itself.
                    let id = self.terminals[terminal].next_cancel();
                    self.move_by(rules, terminal, task, Event::Cancel { id, force: false })?;
                }
            }
            Step::End(task) => return Ok(self.end(task)),
            Step::Contact(terminal) => self.contact(rules, terminal)?,
            Step::Act {
                terminal,
                task,
                attempt,
                act,
                ..
            } => return Ok(self.act(terminal, task, attempt, act)),
            Step::Hear { terminal, acknowledged } => return self.hear(rules, terminal, acknowledged),
            Step::Server(terminal, task, event) => {
                let left = &mut self.left;
                match event {
                    Event::TimeOut => spend(&mut left.all, &mut left.silences),
                    Event::Retry => spend(&mut left.all, &mut left.retries),
                    Event::Remove => spend(&mut left.all, &mut left.removals),
                    Event::Cancel { .. } => spend(&mut left.all, &mut left.cancels),
                    _ => {}
                }
                return self.move_by(rules, terminal, task, event);
            }
        }
        Ok(Some(()))
    }

    fn operate(&mut self, task: usize, operation: Operation) -> Option<()> {
        self.tasks[task] = self.tasks[task].after(operation).ok()??;
        Some(())
    }

    /// A task ends when its gates say so, and one that is stopping when nothing is open.
    fn end(&mut self, task: usize) -> Option<()> {
        let mut standings = self.terminals.iter().filter_map(|terminal| terminal.assignments[task]);
        if standings.any(|standing| !standing.state.is_final()) {
            return None;
        }
        let counts = self.recount(task);
        if self.tasks[task] == TaskState::Stopping {
            return (counts.open() == 0).then(|| self.operate(task, Operation::Stopped))?;
        }
        let gates = Gates {
            success_percent: 0,
            ..Gates::default()
        };
        let said = gates.evaluate(&View {
            counts: &counts,
            then: None,
            joining: false,
            earlier_failures: false,
            quiet: 0,
            succeeded_at: None,
            waived: &[],
            now: 0,
        });
        match said.verdict {
            Verdict::Complete { failures } => self.operate(task, Operation::Finish { failures }),
            _ => None,
        }
    }

    /// The terminal gets its plan: what is not in it is dropped, cancels are answered, and the winner is offered.
    fn contact(&mut self, rules: &Rules, terminal: usize) -> Result<(), Broken> {
        self.offer(rules, terminal)?;
        let it = &mut self.terminals[terminal];
        for task in 0..2 {
            let Some(standing) = it.assignments[task] else { continue };
            for attempt in 0..2 {
                let number = u16::try_from(attempt).unwrap() + 1;
                let truth = it.truth[task][attempt];
                let waits = matches!(truth, Truth::Held | Truth::Downloaded);
                let planned = standing.state.is_in_flight() && standing.attempt == number;
                let asked = standing.cancel.filter(|_| planned);
                if waits && (!planned || asked.is_some()) {
                    it.truth[task][attempt] = Truth::Over;
                    it.say_result(task, number, Report::Cancelled);
                }
                if let Some(id) = asked
                    && !it
                        .unheard
                        .iter()
                        .any(|(_, word)| matches!(word, Word::Answer { id: said, .. } if *said == id))
                {
                    it.say(Word::Answer { task, id, taken: waits });
                }
            }
        }
        Ok(())
    }

    fn offer(&mut self, rules: &Rules, terminal: usize) -> Result<(), Broken> {
        let Some((task, wait)) = self.settle(rules, terminal)? else {
            return Ok(());
        };
        let it = &mut self.terminals[terminal];
        let Some(standing) = it.assignments[task] else {
            return Ok(());
        };
        if wait || !self.tasks[task].offers() || standing.state != State::Pending {
            return Ok(());
        }
        it.truth[task][usize::from(standing.attempt) - 1] = Truth::Held;
        self.move_by(rules, terminal, task, Event::Offer)?;
        Ok(())
    }

    /// The winner of the terminal's conflict, and whether it must wait. The others are superseded.
    fn settle(&mut self, rules: &Rules, terminal: usize) -> Result<Option<(usize, bool)>, Broken> {
        let standings = self.terminals[terminal].assignments;
        let rivals: Vec<Rival> = (0..)
            .zip(standings.iter().flatten())
            .map(|(task, standing)| rival(task, standing))
            .collect();
        let settled = (rules.settle)(&rivals);
        for place in settled.superseded {
            let by = 1 - u64::try_from(place).unwrap();
            if self.move_by(rules, terminal, place, Event::Supersede { by })?.is_none() {
                return Err("superseded what cannot be");
            }
        }
        Ok(settled.winner.map(|winner| (winner, settled.wait)))
    }

    fn act(&mut self, terminal: usize, task: usize, attempt: usize, act: Act) -> Option<()> {
        let it = &mut self.terminals[terminal];
        let busy = it.truth.iter().flatten().any(|truth| *truth == Truth::Activated);
        let code = ResultCode::CommunicationError;
        let (next, report) = match (it.truth[task][attempt], act) {
            (Truth::Held, Act::Download) => (Truth::Downloaded, Report::Downloaded),
            (Truth::Held, Act::Fail) => (Truth::Over, Report::Failed { code }),
            // One version is tried at a time.
            (Truth::Downloaded, Act::Activate) if !busy => (Truth::Activated, Report::Activated),
            (Truth::Activated, Act::Confirm) => (Truth::Confirmed, Report::Confirmed),
            (Truth::Activated, Act::RollBack) => (Truth::Over, Report::RolledBack),
            _ => return None,
        };
        if act.cost() > 0 {
            spend(&mut self.left.all, &mut self.left.failures);
        }
        it.truth[task][attempt] = next;
        it.say_result(task, u16::try_from(attempt).unwrap() + 1, report);
        Some(())
    }

    /// The server takes in the oldest word. Where its acknowledgement is lost, it hears it again.
    fn hear(&mut self, rules: &Rules, terminal: usize, acknowledged: bool) -> Result<Option<()>, Broken> {
        let Some((number, word)) = self.terminals[terminal].unheard.first().copied() else {
            return Ok(None);
        };
        if !acknowledged {
            spend(&mut self.left.all, &mut self.left.losses);
        }
        let (task, event) = match word {
            Word::Result { task, attempt, report } => {
                let hold = task == 0;
                let event = Event::Report {
                    attempt,
                    number,
                    report,
                    hold,
                };
                (task, event)
            }
            Word::Answer { task, id, taken } => (task, Event::CancelAnswer { id, taken }),
        };
        let before = self.terminals[terminal].assignments[task];
        self.move_by(rules, terminal, task, event)?;
        let it = &mut self.terminals[terminal];
        let again = before.is_some_and(|before| number <= before.reported);
        if again && matches!(word, Word::Result { .. }) && it.assignments[task] != before {
            return Err("went back");
        }
        it.heard[task] |= matches!(
            word,
            Word::Result {
                report: Report::Confirmed,
                ..
            }
        );
        if acknowledged {
            it.unheard.remove(0);
        }
        Ok(Some(()))
    }

    fn hear_all(&mut self, rules: &Rules) -> Result<(), Broken> {
        for terminal in 0..self.terminals.len() {
            while self.hear(rules, terminal, true)?.is_some() {}
        }
        Ok(())
    }

    /// One event, with its counters and its answers. `None` where the machine refuses it.
    fn move_by(&mut self, rules: &Rules, terminal: usize, task: usize, event: Event) -> Result<Option<()>, Broken> {
        let Some(standing) = self.terminals[terminal].assignments[task] else {
            return Ok(None);
        };
        let Ok(change) = (rules.after)(&standing, event) else {
            return Ok(None);
        };
        let mut counts = self.recount(task);
        let it = &mut self.terminals[terminal];
        it.assignments[task] = Some(change.after);
        if let Event::Cancel { id, .. } = event {
            it.asked |= bit(id);
        }
        for answer in change.answered {
            if it.answered & bit(answer.id) != 0 || it.asked & bit(answer.id) == 0 {
                return Err("answered twice");
            }
            it.answered |= bit(answer.id);
        }
        let (from, to) = (standing.state, change.after.state);
        if from != to && ((rules.moved)(&mut counts, from, to).is_err() || counts != self.recount(task)) {
            return Err("miscount");
        }
        Ok(Some(()))
    }

    fn recount(&self, task: usize) -> Counts {
        let mut counts = Counts::default();
        let standings = self.terminals.iter().filter_map(|terminal| terminal.assignments[task]);
        standings.for_each(|standing| counts.add(standing.state));
        counts
    }

    /// What must hold in every state.
    fn hold(&self, before: &Self) -> Result<(), Broken> {
        for (terminal, before) in self.terminals.iter().zip(&before.terminals) {
            let flying = terminal
                .assignments
                .iter()
                .flatten()
                .filter(|standing| standing.state.is_in_flight());
            if flying.count() > 1 {
                return Err("two active");
            }
            for task in 0..2 {
                let Some(standing) = terminal.assignments[task] else {
                    continue;
                };
                let confirmed = matches!(standing.state, State::Succeeded | State::Trial { confirmed: true });
                if confirmed && !terminal.truth[task].contains(&Truth::Confirmed) {
                    return Err("unconfirmed success");
                }
                let known = confirmed || standing.late == Some(Report::Confirmed);
                if terminal.heard[task] && !known {
                    return Err("lost success");
                }
                let was = before.assignments[task].is_some_and(|standing| standing.state == State::Succeeded);
                if was && standing.state != State::Succeeded {
                    return Err("lost success");
                }
                if standing.cancel.is_some() && standing.state.is_final() {
                    return Err("open question");
                }
            }
        }
        Ok(())
    }
}

impl Terminal {
    fn say(&mut self, word: Word) {
        self.number += 1;
        self.unheard.push((self.number, word));
    }

    /// Counts its results anew from the oldest that was not acknowledged: only which is later matters, so that worlds
    /// that have come by a longer way are no others.
    pub(super) fn renumber(&mut self) {
        let less = self.unheard.first().map_or(self.number, |(number, _)| number - 1);
        self.number -= less;
        self.unheard.iter_mut().for_each(|(number, _)| *number -= less);
        for standing in self.assignments.iter_mut().flatten() {
            standing.reported = standing.reported.saturating_sub(less);
        }
    }

    /// A number that was not used on this terminal, and is divisible by ten.
    pub(super) fn next_cancel(&self) -> u64 {
        u64::from(self.asked.count_ones() + 1) * 10
    }

    fn say_result(&mut self, task: usize, attempt: u16, report: Report) {
        self.say(Word::Result { task, attempt, report });
    }
}

fn rival(task: u64, standing: &Standing) -> Rival {
    Rival {
        task,
        weight: 100,
        order: task,
        state: standing.state,
    }
}

fn spend(all: &mut u8, kind: &mut u8) {
    *all -= 1;
    *kind -= 1;
}

fn bit(id: u64) -> u8 {
    1 << (id / 10)
}
