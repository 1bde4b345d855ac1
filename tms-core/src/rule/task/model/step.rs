//! What can happen next in a world.

use super::world::{Truth, World};
use crate::rule::task::assignment::{Event, State};
use crate::rule::task::state::TaskState;

/// What can happen next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Start,
    Pause(usize),
    Resume(usize),
    Stop(usize),
    End(usize),
    Contact(usize),
    Act {
        terminal: usize,
        task: usize,
        attempt: usize,
        act: Act,
        /// The server hears of it at once.
        heard: bool,
    },
    Hear {
        terminal: usize,
        acknowledged: bool,
    },
    Server(usize, usize, Event),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Download,
    Activate,
    Confirm,
    RollBack,
    Fail,
}

impl Act {
    /// What it takes of the budget of failures.
    pub(super) fn cost(self) -> u8 {
        u8::from(matches!(self, Self::Fail | Self::RollBack))
    }
}

impl World {
    /// All that may happen.
    pub(super) fn steps(&self) -> Vec<Step> {
        let left = &self.left;
        let has = |kind: u8| kind > 0 && left.all > 0;
        let mut steps = Vec::new();
        if self.tasks[1] == TaskState::Ready {
            steps.push(Step::Start);
        }
        for task in 0..2 {
            match self.tasks[task] {
                TaskState::Running => {
                    steps.push(Step::End(task));
                    steps.extend(has(left.pauses).then_some(Step::Pause(task)));
                    steps.extend(has(left.stops).then_some(Step::Stop(task)));
                }
                TaskState::Paused { .. } => steps.extend([Step::Resume(task), Step::End(task)]),
                TaskState::Stopping => steps.push(Step::End(task)),
                _ => {}
            }
        }
        for (terminal, it) in self.terminals.iter().enumerate() {
            // Terminals that are alike do alike.
            if terminal > 0 && *it == self.terminals[terminal - 1] {
                continue;
            }
            steps.push(Step::Contact(terminal));
            if !it.unheard.is_empty() {
                steps.push(Step::Hear {
                    terminal,
                    acknowledged: true,
                });
                steps.extend(has(left.losses).then_some(Step::Hear {
                    terminal,
                    acknowledged: false,
                }));
            }
            for task in 0..2 {
                for attempt in 0..2 {
                    let acts: &[Act] = match it.truth[task][attempt] {
                        Truth::Held if has(left.failures) => &[Act::Download, Act::Fail],
                        Truth::Held => &[Act::Download],
                        Truth::Downloaded => &[Act::Activate],
                        Truth::Activated if has(left.failures) => &[Act::Confirm, Act::RollBack],
                        Truth::Activated => &[Act::Confirm],
                        _ => &[],
                    };
                    for act in acts {
                        let step = |heard| Step::Act {
                            terminal,
                            task,
                            attempt,
                            act: *act,
                            heard,
                        };
                        steps.push(step(left.prompt));
                        let unheard = left.prompt && has(left.losses) && left.all > act.cost();
                        steps.extend(unheard.then(|| step(false)));
                    }
                }
                let Some(standing) = it.assignments[task] else { continue };
                let mut server = |may: bool, event| steps.extend(may.then_some(Step::Server(terminal, task, event)));
                let open = !standing.state.is_final();
                let id = it.next_cancel();
                server(!left.prompt && it.truth[task].contains(&Truth::Activated), Event::Seen);
                server(standing.state == State::Trial { confirmed: true }, Event::Held);
                server(open && has(left.silences), Event::TimeOut);
                server(self.tasks[task].offers() && has(left.retries), Event::Retry);
                server(has(left.removals), Event::Remove);
                server(open && has(left.cancels), Event::Cancel { id, force: false });
                server(open && has(left.cancels), Event::Cancel { id, force: true });
            }
        }
        steps
    }
}
