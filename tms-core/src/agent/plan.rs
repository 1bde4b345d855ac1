//! Taking a plan: what of it is new, what goes on, what is withdrawn, and what is refused.
//!
//! A plan replaces the one before. An action keeps its id for ever:
//! - one that is on its way goes on, with the windows and conditions of the new plan;
//! - one that is over answers with its result again, as it was: not `DUPLICATE`, which would not say how it went;
//! - one that the new plan does not name is withdrawn, unless it is activated already: that has to end by itself.

use super::Options;
use super::action::{Held, has_package};
use super::journal::{Journal, succeeded};
use super::timeline::Now;
use crate::entropy::Entropy;
use crate::rule::template::is_name;
use tms_proto::code::{ActionKind, ErrorAction, Representation, ResultCode, Stage};
use tms_proto::message::{Action, MAX_PARAMETER_SET, Plan, Refusal};
use tms_proto::package::MAX_SIGNED;

/// What becomes of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is lower than one that was seen: nothing of it is taken.
    Stale,
    /// It says that the one that is held goes on.
    Unchanged,
    /// It is taken, but for these.
    New(Vec<Refusal>),
}

impl Journal {
    /// Takes a plan of an authenticated server, at `time` by its clock.
    pub(super) fn take(&mut self, plan: &Plan, now: Now, options: &Options, entropy: &dyn Entropy) -> Taken {
        if plan.sequence < self.plan {
            return Taken::Stale;
        }
        for text in &plan.texts {
            self.text(text.clone());
        }
        for id in &plan.withdrawn_texts {
            self.take_back(*id, now.stamp());
        }
        if plan.unchanged == Some(true) {
            return Taken::Unchanged;
        }
        self.plan = plan.sequence;
        self.not_after = plan.not_after;
        self.withdraw(plan, now.stamp());
        let mut refused = Vec::new();
        let mut stopped = None;
        let mut actions: Vec<&Action> = plan.actions.iter().collect();
        actions.sort_by_key(|action| std::cmp::Reverse(action.priority.unwrap_or(0)));
        let mut order = Vec::with_capacity(actions.len());
        for action in actions {
            order.push(action.id);
            if let Some(done) = self.done.iter().find(|done| done.action == action.id) {
                if !succeeded(done) && action.on_error == Some(ErrorAction::Stop) {
                    stopped = Some(action.id);
                }
                let done = done.clone();
                // It may still be waiting to be acknowledged: then it is told anyway.
                if !self
                    .results
                    .iter()
                    .any(|result| result.action == done.action && result.stage == done.stage)
                {
                    self.report(done);
                }
                continue;
            }
            if let Some(held) = self.actions.iter_mut().find(|held| held.action.id == action.id) {
                if held.is(action) {
                    let before = held.coded();
                    held.action = action.clone();
                    // What is here is perhaps not what is wanted now.
                    if held.stage == Stage::Downloaded && held.coded() != before {
                        held.stage = Stage::Downloading;
                    }
                } else {
                    refused.push(Refusal {
                        action: action.id,
                        code: ResultCode::InvalidContent,
                    });
                }
                continue;
            }
            let code = if stopped.is_some() {
                Some(ResultCode::Missing)
            } else if self.actions.len() >= options.max_actions {
                Some(ResultCode::MemoryOverflow)
            } else {
                unfit(action)
            };
            match code {
                Some(code) => refused.push(Refusal {
                    action: action.id,
                    code,
                }),
                None => self.actions.push(Held::new(action.clone(), entropy)),
            }
        }
        let place = |held: &Held| order.iter().position(|id| *id == held.action.id);
        // What the plan does not name any more, and is activated, is to be brought to its end first.
        self.actions.sort_by_key(place);
        self.cancel(now.stamp());
        Taken::New(refused)
    }

    /// Ends what the new plan does not name.
    fn withdraw(&mut self, plan: &Plan, time: u64) {
        let named = |held: &&Held| plan.actions.iter().any(|action| action.id == held.action.id);
        let components: Vec<&String> = plan
            .actions
            .iter()
            .filter_map(|action| action.component.as_ref())
            .collect();
        let gone = self
            .actions
            .iter()
            .filter(|held| !named(held) && held.stage != Stage::Activated);
        let gone: Vec<_> = gone
            .map(|held| {
                let newer = held
                    .component
                    .as_ref()
                    .is_some_and(|component| components.contains(&component));
                let stage = if newer { Stage::Superseded } else { Stage::Cancelled };
                held.result(stage, ResultCode::Success, "not in the plan any more", time)
            })
            .collect();
        for result in gone {
            self.finish(result);
        }
    }

    /// Carries out the actions that withdraw others. What is activated cannot be withdrawn, and what is over is over.
    fn cancel(&mut self, time: u64) {
        let cancels = self
            .actions
            .iter()
            .filter(|held| held.action.kind == ActionKind::Cancel);
        let cancels: Vec<Held> = cancels.cloned().collect();
        for cancel in cancels {
            let target = cancel.action.target.unwrap_or(0);
            let result = match self.actions.iter().find(|held| held.action.id == target) {
                Some(held) if held.stage == Stage::Activated => {
                    cancel.result(Stage::Rejected, ResultCode::NotPermitted, "activated already", time)
                }
                Some(held) => {
                    let text = format!("withdrawn by action {}", cancel.action.id);
                    let result = held.result(Stage::Cancelled, ResultCode::Success, &text, time);
                    self.finish(result);
                    cancel.result(Stage::RunningConfirmed, ResultCode::Success, "", time)
                }
                None if self.done.iter().any(|done| done.action == target) => {
                    cancel.result(Stage::Rejected, ResultCode::NotPermitted, "over already", time)
                }
                None => cancel.result(Stage::Rejected, ResultCode::UnknownReference, "no such action", time),
            };
            self.finish(result);
        }
    }
}

/// Why an action cannot be taken on.
fn unfit(action: &Action) -> Option<ResultCode> {
    match action.kind {
        _ if has_package(action) => {
            let size = action.manifest_size.and_then(|size| usize::try_from(size).ok());
            if action.manifest.is_none() || size.is_none() {
                return Some(ResultCode::Missing);
            }
            if size.is_none_or(|size| size == 0 || size > MAX_SIGNED) {
                return Some(ResultCode::InvalidContent);
            }
            let object = action.object.is_some() && action.size.is_some();
            match (action.representation.unwrap_or(Representation::Whole), action.base) {
                (Representation::Whole, None) => None,
                (Representation::Zstd, None) | (Representation::Delta, Some(_)) if object => None,
                (Representation::Zstd, None) | (Representation::Delta, _) => Some(ResultCode::Missing),
                _ => Some(ResultCode::NotSupported),
            }
        }
        ActionKind::Update => unfit_set(action),
        ActionKind::Delete if action.component.as_deref().is_none_or(str::is_empty) => Some(ResultCode::Missing),
        ActionKind::Cancel if action.target.is_none() => Some(ResultCode::Missing),
        ActionKind::DeviceRequest if action.prompt.is_none() => Some(ResultCode::Missing),
        ActionKind::Cancel
        | ActionKind::Restart
        | ActionKind::DeviceRequest
        | ActionKind::Upload
        | ActionKind::Delete
        | ActionKind::Bind => None,
        _ => Some(ResultCode::NotSupported),
    }
}

/// Why a parameter set cannot be taken on.
fn unfit_set(action: &Action) -> Option<ResultCode> {
    let (Some(name), Some(_), Some(size)) = (&action.component, action.object, action.size) else {
        return Some(ResultCode::Missing);
    };
    if !is_name(name) || size == 0 || size > MAX_PARAMETER_SET {
        return Some(ResultCode::InvalidContent);
    }
    let whole = action.representation.unwrap_or(Representation::Whole) == Representation::Whole;
    (!whole || action.base.is_some()).then_some(ResultCode::NotSupported)
}

/// An action with nothing in it but its id.
#[cfg(test)]
pub(super) const fn blank(id: u64) -> Action {
    Action {
        id,
        kind: ActionKind::Install,
        manifest: None,
        manifest_size: None,
        object: None,
        size: None,
        representation: None,
        base: None,
        depends_on: Vec::new(),
        download: None,
        install: None,
        preconditions: None,
        min_battery: None,
        restart: None,
        forced: None,
        prompt: None,
        on_error: None,
        priority: None,
        retry_delay: None,
        max_attempts: None,
        grant: None,
        component: None,
        target: None,
        max_postponed: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::OsEntropy;
    use tms_proto::digest::Digest;
    use tms_proto::message::NextContact;

    const NOW: Now = Now {
        clock: 5,
        floor: 5,
        time: Some(5),
    };

    fn package(id: u64) -> Action {
        Action {
            manifest: Some(Digest([id as u8; 32])),
            manifest_size: Some(900),
            ..blank(id)
        }
    }

    fn plan(sequence: u64, actions: Vec<Action>) -> Plan {
        let next_contact = NextContact::at(0, 0);
        Plan {
            sequence,
            unchanged: None,
            actions,
            texts: Vec::new(),
            wanted: None,
            next_contact,
            ticket: None,
            not_after: None,
            withdrawn_texts: Vec::new(),
        }
    }

    fn take(journal: &mut Journal, plan: &Plan) -> Taken {
        journal.take(plan, NOW, &Options::default(), &OsEntropy)
    }

    fn open(journal: &Journal) -> Vec<u64> {
        journal.actions.iter().map(|held| held.action.id).collect()
    }

    #[test]
    fn actions_are_begun_by_priority_and_then_in_their_order() {
        let mut journal = Journal::default();
        let urgent = Action {
            priority: Some(9),
            ..package(3)
        };
        assert_eq!(
            take(&mut journal, &plan(1, vec![package(1), package(2), urgent])),
            Taken::New(Vec::new())
        );
        assert_eq!(open(&journal), [3, 1, 2]);
    }

    #[test]
    fn a_lower_sequence_is_stale_and_the_same_is_not() {
        let mut journal = Journal::default();
        take(&mut journal, &plan(5, vec![package(1)]));
        assert_eq!(take(&mut journal, &plan(4, Vec::new())), Taken::Stale);
        assert_eq!(open(&journal), [1]);
        assert_eq!(
            take(
                &mut journal,
                &Plan {
                    unchanged: Some(true),
                    ..plan(5, Vec::new())
                }
            ),
            Taken::Unchanged
        );
        assert_eq!(open(&journal), [1]);
        assert_eq!(take(&mut journal, &plan(5, Vec::new())), Taken::New(Vec::new()));
        assert!(open(&journal).is_empty());
    }

    #[test]
    fn what_is_on_its_way_goes_on_under_the_new_conditions() {
        let mut journal = Journal::default();
        take(&mut journal, &plan(1, vec![package(1)]));
        journal.actions[0].stage = Stage::Downloaded;
        take(
            &mut journal,
            &plan(
                2,
                vec![Action {
                    forced: Some(true),
                    ..package(1)
                }],
            ),
        );
        assert_eq!(
            (journal.actions[0].stage, journal.actions[0].action.forced),
            (Stage::Downloaded, Some(true))
        );
        // One id is one action: it cannot become another.
        let other = Action {
            manifest: Some(Digest([9; 32])),
            ..package(1)
        };
        let refused = vec![Refusal {
            action: 1,
            code: ResultCode::InvalidContent,
        }];
        assert_eq!(take(&mut journal, &plan(3, vec![other])), Taken::New(refused));
        assert_eq!(journal.actions[0].action.manifest, package(1).manifest);
    }

    #[test]
    fn what_is_withdrawn_ends_unless_it_is_activated() {
        let mut journal = Journal::default();
        take(&mut journal, &plan(1, vec![package(1), package(2), package(3)]));
        journal.actions[1].stage = Stage::Activated;
        journal.actions[2].component = Some("bank".into());
        let newer = Action {
            component: Some("bank".into()),
            ..package(4)
        };
        take(&mut journal, &plan(2, vec![newer]));
        assert_eq!(open(&journal), [2, 4]);
        let ends: Vec<_> = journal
            .results
            .iter()
            .map(|result| (result.action, result.stage))
            .collect();
        assert_eq!(ends, [(1, Stage::Cancelled), (3, Stage::Superseded)]);
    }

    #[test]
    fn there_are_only_so_many_actions() {
        let mut journal = Journal::default();
        let most = u64::try_from(Options::default().max_actions).unwrap();
        let refused = vec![Refusal {
            action: most + 1,
            code: ResultCode::MemoryOverflow,
        }];
        assert_eq!(
            take(&mut journal, &plan(1, (1..=most + 1).map(package).collect())),
            Taken::New(refused)
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let code = |action: Action| unfit(&action);
        assert_eq!(code(package(1)), None);
        assert_eq!(
            code(Action {
                manifest: None,
                ..package(1)
            }),
            Some(ResultCode::Missing)
        );
        assert_eq!(
            code(Action {
                manifest_size: Some(0),
                ..package(1)
            }),
            Some(ResultCode::InvalidContent)
        );
        assert_eq!(
            code(Action {
                manifest_size: Some(u32::MAX),
                ..package(1)
            }),
            Some(ResultCode::InvalidContent)
        );
        assert_eq!(
            code(Action {
                base: Some(Digest([1; 32])),
                ..package(1)
            }),
            Some(ResultCode::NotSupported)
        );
        assert_eq!(
            code(Action {
                kind: ActionKind::Cancel,
                ..blank(1)
            }),
            Some(ResultCode::Missing)
        );
        let coded = |form, base, object| {
            code(Action {
                representation: Some(form),
                object,
                size: Some(10),
                base,
                ..package(1)
            })
        };
        let some = Some(Digest([1; 32]));
        assert_eq!(coded(Representation::Zstd, None, some), None);
        assert_eq!(coded(Representation::Delta, some, some), None);
        assert_eq!(coded(Representation::Delta, None, some), Some(ResultCode::Missing));
        assert_eq!(coded(Representation::Zstd, None, None), Some(ResultCode::Missing));
        assert_eq!(coded(Representation::Zstd, some, some), Some(ResultCode::NotSupported));
        assert_eq!(
            coded(Representation::Other(9), None, some),
            Some(ResultCode::NotSupported)
        );
        assert_eq!(
            code(Action {
                kind: ActionKind::Deactivate,
                ..blank(1)
            }),
            Some(ResultCode::NotSupported)
        );
        assert_eq!(
            code(Action {
                kind: ActionKind::Restart,
                ..blank(1)
            }),
            None
        );
    }
}
