use super::*;
use crate::rule::task::failure::FailureClass;
use proptest::prelude::*;
use tms_proto::code::ResultCode;

const HARDWARE: ResultCode = ResultCode::HardwareError;

fn at(state: State) -> Standing {
    Standing { state, ..Standing::NEW }
}

fn says(number: u32, report: Report) -> Event {
    Event::Report {
        attempt: 1,
        number,
        report,
        hold: false,
    }
}

fn run(standing: Standing, events: &[Event]) -> (Standing, Vec<Answer>) {
    let mut answers = Vec::new();
    let last = events.iter().fold(standing, |standing, event| {
        let change = standing.after(*event).unwrap();
        answers.extend(change.answered);
        change.after
    });
    (last, answers)
}

fn state_after(standing: Standing, events: &[Event]) -> State {
    run(standing, events).0.state
}

#[test]
fn the_whole_way() {
    let way = [
        (Report::Accepted, State::Offered),
        (Report::Downloading, State::Downloading),
        (Report::Downloaded, State::Downloaded),
        (Report::Installed, State::Installing),
        (Report::Activated, State::Restarting),
        (Report::Confirmed, State::Succeeded),
    ];
    let mut standing = Standing::NEW.after(Event::Offer).unwrap().after;
    for ((report, state), number) in way.into_iter().zip(1..) {
        standing = standing.after(says(number, report)).unwrap().after;
        assert_eq!(standing.state, state);
    }
}

#[test]
fn reports_may_be_skipped_but_not_repeated() {
    let standing = run(Standing::NEW, &[Event::Offer, says(5, Report::Installed)]).0;
    assert_eq!(standing.state, State::Installing);
    let old = standing.after(says(5, Report::RolledBack)).unwrap();
    assert_eq!(old.after, standing);
}

/// A terminal that lost what it had downloaded says so, and is believed: the number says what is later.
#[test]
fn a_later_word_counts_though_it_says_less() {
    let state = state_after(at(State::Downloaded), &[says(9, Report::Accepted)]);
    assert_eq!(state, State::Offered);
}

#[test]
fn waiting_keeps_how_far_it_had_come() {
    let why = Wait::BatchOpen;
    let waiting = |reached| State::Waiting { why, reached };
    let waits = says(1, Report::Waiting { why });
    assert_eq!(
        state_after(at(State::Downloading), &[waits]),
        waiting(Reached::Downloading)
    );
    assert_eq!(
        state_after(at(State::Restarting), &[waits]),
        waiting(Reached::Installing)
    );
    let other = says(2, Report::Waiting { why: Wait::Merchant });
    let state = state_after(at(State::Downloaded), &[waits, other]);
    let why = Wait::Merchant;
    let reached = Reached::Downloaded;
    assert_eq!(state, State::Waiting { why, reached });
}

#[test]
fn seen_is_not_confirmed() {
    let trial = run(at(State::Restarting), &[Event::Seen]).0;
    assert_eq!(trial.state, State::Trial { confirmed: false });
    assert_eq!(trial.after(Event::Held), Err(Refused::NotOnTrial));
    assert_eq!(state_after(trial, &[says(1, Report::Confirmed)]), State::Succeeded);
    assert_eq!(
        state_after(trial, &[says(1, Report::RolledBack)]).failure(),
        Some(FailureClass::RolledBack)
    );
    assert_eq!(
        state_after(trial, &[says(1, Report::Downloaded)]),
        trial.state,
        "an echo"
    );
}

#[test]
fn a_confirmed_version_may_have_to_hold() {
    let confirmed = Event::Report {
        attempt: 1,
        number: 1,
        report: Report::Confirmed,
        hold: true,
    };
    let trial = run(at(State::Restarting), &[confirmed]).0;
    assert_eq!(trial.state, State::Trial { confirmed: true });
    assert_eq!(trial.after(Event::TimeOut), Err(Refused::Confirmed));
    assert_eq!(state_after(trial, &[Event::Held]), State::Succeeded);
    let failed = State::Failed {
        class: FailureClass::RolledBack,
        code: ResultCode::RolledBack,
    };
    assert_eq!(state_after(trial, &[says(2, Report::RolledBack)]), failed);
}

#[test]
fn failures_have_their_class() {
    let after = |code| state_after(at(State::Downloading), &[says(1, Report::Failed { code })]);
    let class = FailureClass::Hardware;
    assert_eq!(after(HARDWARE), State::Failed { class, code: HARDWARE });
    let code = ResultCode::NotPermitted;
    assert_eq!(after(code), State::Rejected { code });
    assert_eq!(after(ResultCode::Expired), State::TimedOut);
}

#[test]
fn a_success_replaces_a_time_out_and_a_failure() {
    let code = HARDWARE;
    let failed = State::Failed {
        class: FailureClass::Hardware,
        code,
    };
    for end in [State::TimedOut, failed, State::Rejected { code }] {
        assert_eq!(state_after(at(end), &[says(1, Report::Confirmed)]), State::Succeeded);
        let late = run(at(end), &[says(1, Report::Downloading)]).0;
        assert_eq!((late.state, late.late), (end, Some(Report::Downloading)));
    }
}

#[test]
fn what_the_server_decided_for_good_stays_and_the_truth_is_kept() {
    for end in [
        State::Cancelled { forced: true },
        State::Superseded { by: Some(7) },
        State::TerminalRemoved,
    ] {
        let late = run(at(end), &[says(1, Report::Confirmed), says(2, Report::RolledBack)]).0;
        assert_eq!((late.state, late.late), (end, Some(Report::Confirmed)));
    }
}

#[test]
fn a_soft_cancel_is_a_question() {
    let ask = Event::Cancel { id: 10, force: false };
    let (asked, answers) = run(at(State::Downloading), &[ask]);
    assert_eq!((asked.state, asked.cancel), (State::Downloading, Some(10)));
    assert!(answers.is_empty());
    assert_eq!(asked.after(Event::Cancel { id: 11, force: false }), Err(Refused::Asked));

    let (done, answers) = run(asked, &[Event::CancelAnswer { id: 10, taken: true }]);
    assert_eq!((done.state, done.cancel), (State::Cancelled { forced: false }, None));
    assert_eq!(answers, [Answer { id: 10, taken: true }]);

    // The terminal said no: all is as before, and it may be asked again.
    let no = Event::CancelAnswer { id: 10, taken: false };
    let (back, answers) = run(asked, &[no, no]);
    assert_eq!(back, at(State::Downloading));
    assert_eq!(answers, [Answer { id: 10, taken: false }]);
    assert!(back.after(Event::Cancel { id: 20, force: false }).is_ok());
}

#[test]
fn a_cancel_is_answered_by_any_end() {
    let ask = Event::Cancel { id: 10, force: false };
    for (end, taken) in [
        (says(1, Report::Cancelled), true),
        (says(1, Report::Confirmed), false),
        (Event::TimeOut, false),
        (Event::Supersede { by: 1 }, false),
        (Event::Remove, false),
        (Event::Cancel { id: 11, force: true }, true),
        (Event::Cancel { id: 10, force: true }, true),
    ] {
        let late = Event::CancelAnswer { id: 10, taken: true };
        let (over, answers) = run(at(State::Downloaded), &[ask, end, late]);
        assert_eq!(over.cancel, None);
        let mine: Vec<_> = answers.iter().filter(|answer| answer.id == 10).collect();
        assert_eq!(mine, [&Answer { id: 10, taken }], "{end:?}");
    }
}

#[test]
fn what_was_never_offered_is_cancelled_at_once() {
    let (over, answers) = run(Standing::NEW, &[Event::Cancel { id: 1, force: false }]);
    assert_eq!(over.state, State::Cancelled { forced: false });
    assert_eq!(answers, [Answer { id: 1, taken: true }]);
}

#[test]
fn what_is_being_installed_is_cancelled_by_force_only() {
    let reached = Reached::Installing;
    for state in [
        State::Installing,
        State::Restarting,
        State::Trial { confirmed: true },
        State::Waiting {
            why: Wait::Window,
            reached,
        },
    ] {
        let ask = |force| at(state).after(Event::Cancel { id: 1, force });
        assert_eq!(ask(false), Err(Refused::TooLate));
        assert_eq!(at(state).after(Event::Supersede { by: 1 }), Err(Refused::TooLate));
        let closed = ask(true).unwrap().after;
        assert_eq!(closed.state, State::Cancelled { forced: true });
        let confirmed = state == State::Trial { confirmed: true };
        assert_eq!(closed.late, confirmed.then_some(Report::Confirmed));
    }
}

#[test]
fn what_is_finished_refuses_a_cancel() {
    for force in [false, true] {
        let refused = at(State::Succeeded).after(Event::Cancel { id: 1, force });
        assert_eq!(refused, Err(Refused::Finished));
    }
}

#[test]
fn another_attempt_hears_only_the_success_of_the_first() {
    let code = ResultCode::CommunicationError;
    let again = run(
        at(State::Downloading),
        &[says(1, Report::Failed { code }), Event::Retry, Event::Offer],
    )
    .0;
    assert_eq!((again.state, again.attempt), (State::Offered, 2));
    assert_eq!(state_after(again, &[says(2, Report::RolledBack)]), State::Offered);
    assert_eq!(state_after(again, &[says(3, Report::Confirmed)]), State::Succeeded);
}

/// The terminal has been heard of late: it runs the version, and has run it for some time. On trial again it would fail by
/// what the second attempt says.
#[test]
fn a_late_success_of_the_first_attempt_is_not_on_trial() {
    let second = Standing {
        attempt: 2,
        ..at(State::Offered)
    };
    let confirmed = Event::Report {
        attempt: 1,
        number: 5,
        report: Report::Confirmed,
        hold: true,
    };
    assert_eq!(state_after(second, &[confirmed]), State::Succeeded);
    assert_eq!(state_after(at(State::TimedOut), &[confirmed]), State::Succeeded);
}

#[test]
fn only_what_may_help_is_tried_again() {
    let retry = |state| at(state).after(Event::Retry).is_ok();
    assert!(retry(State::TimedOut));
    assert!(!retry(State::failed(ResultCode::SignatureError)));
    assert!(!retry(State::failed(ResultCode::RolledBack)));
    assert!(!retry(State::Succeeded));
    assert!(!retry(State::Offered));
}

#[test]
fn a_terminal_that_is_gone_is_not_counted_unless_it_had_succeeded() {
    assert_eq!(
        state_after(at(State::TimedOut), &[Event::Remove]),
        State::TerminalRemoved
    );
    assert_eq!(
        state_after(at(State::Offered), &[Event::Remove]),
        State::TerminalRemoved
    );
    assert_eq!(at(State::Succeeded).after(Event::Remove), Err(Refused::Finished));
}

fn report() -> impl Strategy<Value = Report> {
    let code = proptest::sample::select(ResultCode::ALL);
    (1_u8..=13, code).prop_map(|(stage, code)| Report::of(stage.into(), code).unwrap())
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Offer),
        8 => (1_u16..3, 0_u32..30, report(), any::<bool>()).prop_map(|(attempt, number, report, hold)| Event::Report {
            attempt,
            number,
            report,
            hold,
        }),
        1 => Just(Event::Seen),
        1 => Just(Event::Held),
        2 => (0_u64..3, any::<bool>()).prop_map(|(id, force)| Event::Cancel { id, force }),
        2 => (0_u64..3, any::<bool>()).prop_map(|(id, taken)| Event::CancelAnswer { id, taken }),
        1 => Just(Event::TimeOut),
        1 => Just(Event::Supersede { by: 3 }),
        1 => Just(Event::AlreadyCurrent),
        1 => Just(Event::NotApplicable),
        1 => Just(Event::Remove),
        2 => Just(Event::Retry),
    ]
}

proptest! {
    #[test]
    fn whatever_happens(events in proptest::collection::vec(event(), 0..40)) {
        let mut standing = Standing::NEW;
        let mut confirmed = false;
        for event in events {
            let before = standing;
            let Ok(change) = before.after(event) else {
                let heard = matches!(event, Event::Report { .. } | Event::CancelAnswer { .. } | Event::Seen);
                prop_assert!(!heard, "a terminal's word is never refused");
                continue;
            };
            standing = change.after;
            let heard = matches!(event, Event::Report { number, report: Report::Confirmed, .. } if number > before.reported);
            confirmed |= heard;
            // Only the terminal's confirmation makes a success, and a success stays.
            prop_assert!(standing.state != State::Succeeded || confirmed);
            prop_assert!(before.state != State::Succeeded || standing.state == State::Succeeded);
            // An end has no open question, and a question is open, or was answered, not both.
            prop_assert!(!standing.state.is_final() || standing.cancel.is_none());
            for answer in &change.answered {
                prop_assert!(standing.cancel != Some(answer.id));
                prop_assert_eq!(change.answered.iter().filter(|other| other.id == answer.id).count(), 1);
            }
            // What is kept is read again as it was.
            let text = serde_json::to_string(&standing).unwrap();
            prop_assert_eq!(serde_json::from_str::<Standing>(&text).unwrap(), standing);
        }
    }
}
