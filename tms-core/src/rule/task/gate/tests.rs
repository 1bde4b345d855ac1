use super::*;
use crate::rule::task::count::Slot;
use proptest::prelude::*;

const FAILED: Slot = Slot::Failed(FailureClass::Hardware);
const TIMED_OUT: Slot = Slot::Failed(FailureClass::TimedOut);

fn view(counts: &Counts) -> View<'_> {
    View {
        counts,
        then: Some(Then::Next),
        joining: false,
        earlier_failures: false,
        quiet: 0,
        succeeded_at: None,
        waived: &[],
        now: 1_000,
    }
}

fn gates(success_percent: u8) -> Gates {
    Gates {
        success_percent,
        ..Gates::default()
    }
}

fn criterion(classes: &[FailureClass], limit: Limit, action: AbortAction) -> Gates {
    let classes = classes.to_vec();
    Gates {
        abort: vec![Criterion { classes, limit, action }],
        success_percent: 0,
        ..Gates::default()
    }
}

fn verdict(gates: &Gates, slots: &[(Slot, u64)]) -> Verdict {
    gates.evaluate(&view(&Counts::new(slots.iter().copied()))).verdict
}

#[test]
fn a_count_of_failures_stops() {
    let gates = criterion(&[], Limit::Count(3), AbortAction::Pause);
    assert_eq!(
        verdict(&gates, &[(FAILED, 1), (TIMED_OUT, 1), (Slot::Pending, 9)]),
        Verdict::NextStage
    );
    assert_eq!(
        verdict(&gates, &[(FAILED, 1), (TIMED_OUT, 2), (Slot::Pending, 9)]),
        Verdict::Pause(PauseReason::ErrorCount)
    );
}

#[test]
fn only_the_named_classes_count() {
    let gates = criterion(&[FailureClass::Hardware], Limit::Count(1), AbortAction::AbortForce);
    assert_eq!(
        verdict(&gates, &[(TIMED_OUT, 5), (Slot::Pending, 5)]),
        Verdict::NextStage
    );
    let abort = Verdict::Abort {
        criterion: 0,
        force: true,
    };
    assert_eq!(verdict(&gates, &[(FAILED, 1), (Slot::Pending, 5)]), abort);
}

/// Five of a hundred is five per cent and not more than that; silent terminals do not count until so many have ended.
#[test]
fn a_share_is_more_than_its_per_cent() {
    let limit = Limit::ShareOfExecuted {
        percent: 5,
        min_executed: 100,
    };
    let gates = criterion(&[], limit, AbortAction::Abort);
    let abort = Verdict::Abort {
        criterion: 0,
        force: false,
    };
    let stage = |failed, succeeded| {
        verdict(
            &gates,
            &[(FAILED, failed), (Slot::Succeeded, succeeded), (Slot::Offered, 900)],
        )
    };
    assert_eq!(stage(5, 95), Verdict::NextStage);
    assert_eq!(stage(6, 94), abort);
    assert_eq!(stage(50, 49), Verdict::NextStage, "too few have ended");
    let gates = criterion(&[], Limit::ShareOfStage(5), AbortAction::Abort);
    assert_eq!(
        verdict(&gates, &[(FAILED, 6), (Slot::Offered, 114)]),
        Verdict::NextStage
    );
    assert_eq!(verdict(&gates, &[(FAILED, 6), (Slot::Offered, 113)]), abort);
    let current = (Slot::AlreadyCurrent, 500);
    assert_eq!(
        verdict(&gates, &[(FAILED, 6), (Slot::Offered, 113), current]),
        abort,
        "not of the stage"
    );
}

#[test]
fn a_stage_that_cannot_succeed_any_more_is_paused_at_once() {
    let unreachable = Verdict::Pause(PauseReason::SuccessUnreachable);
    assert_eq!(
        verdict(&gates(90), &[(FAILED, 1), (Slot::Pending, 9)]),
        Verdict::Continue
    );
    assert_eq!(verdict(&gates(90), &[(FAILED, 1), (Slot::Pending, 8)]), unreachable);
    // What is withdrawn will not succeed either; what is not counted is not missed.
    assert_eq!(
        verdict(&gates(90), &[(Slot::Cancelled, 1), (Slot::Pending, 8)]),
        unreachable
    );
    assert_eq!(
        verdict(&gates(90), &[(Slot::TerminalRemoved, 5), (Slot::Pending, 8)]),
        Verdict::Continue
    );
}

/// 45 % failures with an error threshold of 50 and a success threshold of 80 must not start the next stage.
#[test]
fn below_the_threshold_nothing_goes_on() {
    let gates = Gates {
        abort: criterion(&[], Limit::ShareOfStage(50), AbortAction::Pause).abort,
        ..gates(80)
    };
    let counts = Counts::new([(FAILED, 45), (Slot::Succeeded, 55)]);
    let said = gates.evaluate(&view(&counts));
    assert_eq!(said.verdict, Verdict::Pause(PauseReason::SuccessUnreachable));
    let waived = [Gate::SuccessUnreachable];
    let said = gates.evaluate(&View {
        waived: &waived,
        ..view(&counts)
    });
    assert_eq!(
        (said.verdict, said.gate),
        (Verdict::Pause(PauseReason::StageGate), Some(Gate::BelowThreshold))
    );
    let waived = [Gate::SuccessUnreachable, Gate::BelowThreshold];
    let said = gates.evaluate(&View {
        waived: &waived,
        ..view(&counts)
    });
    assert_eq!(said.verdict, Verdict::NextStage);
}

#[test]
fn a_stage_soaks_with_all_gates_live() {
    let gates = Gates {
        soak: 600,
        abort: criterion(&[], Limit::Count(2), AbortAction::Pause).abort,
        ..gates(50)
    };
    let counts = Counts::new([(Slot::Succeeded, 5), (Slot::Offered, 5)]);
    let first = gates.evaluate(&view(&counts));
    assert_eq!((first.verdict, first.succeeded_at), (Verdict::Continue, Some(1_000)));
    let later = |now, counts| {
        let succeeded_at = first.succeeded_at;
        gates.evaluate(&View {
            now,
            succeeded_at,
            ..view(counts)
        })
    };
    assert_eq!(later(1_599, &counts).verdict, Verdict::Continue);
    assert_eq!(later(1_600, &counts).verdict, Verdict::NextStage);
    let worse = Counts::new([(Slot::Succeeded, 5), (Slot::Offered, 3), (FAILED, 2)]);
    assert_eq!(later(1_599, &worse).verdict, Verdict::Pause(PauseReason::ErrorCount));
    // Terminals that join may take the share away again: the soak begins anew.
    let joined = Counts::new([(Slot::Succeeded, 5), (Slot::Offered, 6)]);
    assert_eq!(later(1_600, &joined).succeeded_at, None);
}

#[test]
fn a_stall_needs_something_under_way() {
    let stall = |action| Gates {
        stall: Some(Stall { seconds: 60, action }),
        ..gates(90)
    };
    let said = |gates: &Gates, slot, quiet| {
        let counts = Counts::new([(slot, 5)]);
        gates.evaluate(&View { quiet, ..view(&counts) }).verdict
    };
    let pause = Verdict::Pause(PauseReason::Stalled);
    assert_eq!(said(&stall(StallAction::Pause), Slot::Offered, 60), pause);
    assert_eq!(said(&stall(StallAction::Pause), Slot::Offered, 59), Verdict::Continue);
    assert_eq!(said(&stall(StallAction::Pause), Slot::Pending, 60), Verdict::Continue);
    assert_eq!(said(&stall(StallAction::Alert), Slot::Waiting, 60), Verdict::Alert);
}

#[test]
fn after_the_stage_comes_what_was_written() {
    let counts = Counts::new([(Slot::Succeeded, 9), (FAILED, 1)]);
    let said = |then, waived: &[Gate]| {
        gates(90)
            .evaluate(&View {
                then,
                waived,
                ..view(&counts)
            })
            .verdict
    };
    assert_eq!(said(Some(Then::Next), &[]), Verdict::NextStage);
    assert_eq!(said(Some(Then::Pause), &[]), Verdict::Pause(PauseReason::StageGate));
    assert_eq!(said(Some(Then::Approve), &[]), Verdict::AwaitApproval);
    assert_eq!(said(Some(Then::Approve), &[Gate::StageDone]), Verdict::NextStage);
    assert_eq!(said(None, &[]), Verdict::Complete { failures: true });
}

#[test]
fn the_last_stage_waits_for_all_and_for_those_who_may_join() {
    let last = |slots: &[(Slot, u64)], joining| {
        let counts = Counts::new(slots.iter().copied());
        let view = View {
            then: None,
            joining,
            ..view(&counts)
        };
        gates(90).evaluate(&view).verdict
    };
    let complete = Verdict::Complete { failures: false };
    assert_eq!(
        last(&[(Slot::Succeeded, 95), (Slot::Offered, 5)], false),
        Verdict::Continue
    );
    assert_eq!(last(&[(Slot::Succeeded, 95)], false), complete);
    assert_eq!(last(&[(Slot::Succeeded, 95)], true), Verdict::Continue);
    assert_eq!(
        last(&[(Slot::AlreadyCurrent, 3)], false),
        complete,
        "an empty stage is done"
    );
}

fn counts() -> impl Strategy<Value = Counts> {
    let slots: Vec<Slot> = Slot::all().collect();
    let slot = (proptest::sample::select(slots), 0_u64..50);
    proptest::collection::vec(slot, 0..8).prop_map(Counts::new)
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        (1_u64..60).prop_map(Limit::Count),
        (0_u8..100, 1_u64..60).prop_map(|(percent, min_executed)| Limit::ShareOfExecuted { percent, min_executed }),
        (0_u8..100).prop_map(Limit::ShareOfStage),
    ]
}

proptest! {
    /// Nothing goes on or completes below the threshold, unless an operator says so.
    #[test]
    fn no_stage_below_its_threshold_goes_on(counts in counts(), percent in 0_u8..=100, last: bool, quiet in 0_u64..100) {
        let then = (!last).then_some(Then::Next);
        let said = gates(percent).evaluate(&View { then, quiet, ..view(&counts) }).verdict;
        if matches!(said, Verdict::NextStage | Verdict::Complete { .. }) {
            prop_assert!(100 * counts.succeeded() >= u64::from(percent) * counts.total());
        }
        // A stage that has ended gets a verdict: it is never left as it is.
        if counts.open() == 0 {
            prop_assert_ne!(said, Verdict::Continue);
        }
    }

    /// More failures in the place of what is under way never let a stopped stage go on.
    #[test]
    fn failures_never_help(counts in counts(), limit in limit(), percent in 0_u8..=100, more in 1_u64..10) {
        let gates = Gates { success_percent: percent, ..criterion(&[], limit, AbortAction::Abort) };
        let stopped = |said| matches!(said, Verdict::Abort { .. } | Verdict::Pause(_));
        let moved = counts.of(Slot::Offered).min(more);
        let worse = Counts::new(counts.iter().filter(|(slot, _)| *slot != Slot::Offered && *slot != FAILED).chain([
            (Slot::Offered, counts.of(Slot::Offered) - moved),
            (FAILED, counts.of(FAILED) + moved),
        ]));
        if stopped(gates.evaluate(&view(&counts)).verdict) {
            prop_assert!(stopped(gates.evaluate(&view(&worse)).verdict));
        }
    }

    /// Only time that counts is counted, and only since the last move.
    #[test]
    fn quiet_is_what_a_stop_watch_shows(steps in proptest::collection::vec((0_u64..100, 0_u8..3), 0..30)) {
        let mut quiet = Quiet::default();
        let (mut now, mut counting, mut expected) = (1_000, false, 0);
        for (passed, what) in steps {
            now += passed;
            expected += if counting { passed } else { 0 };
            match what {
                0 => {
                    quiet = quiet.moved(now);
                    expected = 0;
                }
                what => {
                    counting = what == 1;
                    quiet = quiet.counting(counting, now);
                }
            }
            prop_assert_eq!(quiet.seconds(now), expected);
        }
    }
}
