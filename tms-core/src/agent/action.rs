//! One action on its way: what comes next, as a function of what is known.
//!
//! ```text
//! accepted -> downloading -> downloaded -> verified -> installed -> activated -> running-confirmed
//!     |            |              |            |           |            |
//!     +------------+--------------+------------+-----------+            +-> rolled-back
//!     rejected, expired, superseded, cancelled; waiting(why) at any of them
//! ```
//!
//! An error that cannot be mended by trying again ends an action; others are tried again after a growing wait, at most
//! [`Action::max_attempts`] times. A call that breaks off is no attempt: a download goes on where it stopped.

use super::Options;
use super::device::Readiness;
use super::encoded;
use super::journal::clip;
use super::schedule::{Wait, below};
use super::timeline::Now;
use crate::entropy::Entropy;
use serde::{Deserialize, Serialize};
use tms_proto::code::{ActionKind, Representation, ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_proto::message::{Action, ActionResult, Precondition, Window};
use tms_proto::package::Installed;

/// An action that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The action, as the last plan had it.
    #[serde(with = "encoded")]
    pub(super) action: Action,
    /// How far it is: `Accepted` to `Activated`.
    pub(super) stage: Stage,
    /// The attempt, from 1.
    pub(super) attempt: u16,
    /// Not to be tried before this.
    pub(super) retry: Option<Wait>,
    /// What was last reported that it waits for.
    pub(super) waiting: Option<ResultCode>,
    /// How often the merchant has put it off.
    pub(super) postponed: u16,
    /// Bytes downloaded for it.
    pub(super) bytes: u64,
    /// Bytes of its content that are here and sound.
    pub(super) sound: u64,
    /// The component that it is about, once that is known.
    pub(super) component: Option<String>,
    /// The new version has been started, and has until then to confirm itself.
    pub(super) trial: Option<Wait>,
    /// Where in a window this terminal begins: so many of 65,536 parts of its first half.
    pub(super) spread: u16,
    /// The content, once a verified manifest has named it.
    pub(super) content: Option<Digest>,
    /// Its block map.
    pub(super) block_map: Option<Digest>,
    /// What is kept of it once it runs; known once it is verified.
    #[serde(with = "encoded::each")]
    pub(super) installed: Option<Installed>,
    /// The merchant agreed.
    pub(super) agreed: bool,
    /// How often its activation was begun.
    pub(super) activations: u8,
    /// A representation was no use here: the content is wanted whole, whatever a plan says (§9.8).
    #[serde(default)]
    pub(super) whole: bool,
}

/// What is downloaded in place of a content, to be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) form: Representation,
    pub(super) object: Digest,
    pub(super) size: u64,
    /// What a delta is against.
    pub(super) base: Option<Digest>,
}

/// A parameter set that an action brings: authenticated by the session in which the plan came, and named by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetRef {
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What stands around an action.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// The time.
    pub(super) now: Now,
    /// The end of the plan.
    pub(super) not_after: Option<u64>,
    /// What it depends on.
    pub(super) dependencies: Dependencies,
}

/// How the actions that another depends on stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dependencies {
    /// All have succeeded.
    Met,
    /// Some are on their way.
    Pending,
    /// This one failed, or is not known.
    Failed(u64),
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    /// Content is to be downloaded, in a call.
    Download,
    /// What was downloaded is to be verified.
    Verify,
    /// It is to be installed, if the terminal is ready.
    Install,
    /// It is to be activated, if the terminal is ready.
    Activate,
    /// What became of it is to be seen.
    Confirm,
    /// Nothing now: why, and for how many seconds at least.
    Wait(ResultCode, u64),
    /// It is over.
    End(Stage, ResultCode, String),
}

impl Held {
    pub(super) fn new(action: Action, entropy: &dyn Entropy) -> Self {
        Self {
            // A package's manifest says what its content is.
            content: action.object.filter(|_| is_parameter_set(&action)),
            stage: Stage::Accepted,
            attempt: 1,
            retry: None,
            waiting: None,
            postponed: 0,
            bytes: 0,
            sound: 0,
            component: action.component.clone(),
            trial: None,
            spread: u16::try_from(below(entropy, 1 << 16)).unwrap_or_default(),
            block_map: None,
            installed: None,
            agreed: false,
            activations: 0,
            whole: false,
            action,
        }
    }

    /// Whether it is done in a call: a package or a parameter set is downloaded, a log or a registration sent.
    pub(super) const fn needs_call(&self) -> bool {
        has_package(&self.action)
            || is_parameter_set(&self.action)
            || matches!(self.action.kind, ActionKind::Upload | ActionKind::Bind)
    }

    /// The parameter set that it brings, if it brings one.
    pub(super) fn parameter_set(&self) -> Option<SetRef> {
        if !is_parameter_set(&self.action) {
            return None;
        }
        Some(SetRef {
            name: self.action.component.clone()?,
            digest: self.action.object?,
            size: self.action.size?,
        })
    }

    /// Whether `action`, which has the same id, is the same action: in what form a content comes may change.
    pub(super) fn is(&self, action: &Action) -> bool {
        let held = &self.action;
        let content = |action: &Action| (action.component.clone(), action.object, action.size);
        held.kind == action.kind
            && held.manifest == action.manifest
            && (!is_parameter_set(held) || content(held) == content(action))
    }

    /// The objects that it needs, as far as they are known: what the content and its block map are called stands in the
    /// manifest.
    pub(super) fn objects(&self) -> impl Iterator<Item = Digest> + use<> {
        [self.action.manifest, self.action.object, self.block_map, self.content]
            .into_iter()
            .flatten()
    }

    /// What is downloaded in place of its content, if anything.
    pub(super) fn coded(&self) -> Option<Coded> {
        let form = self.action.representation.filter(|_| !self.whole)?;
        let coded = Coded {
            form,
            object: self.action.object?,
            size: self.action.size?,
            base: self.action.base,
        };
        (form != Representation::Whole).then_some(coded)
    }

    /// What is reported of it. Its number comes with the report.
    pub(super) fn result(&self, stage: Stage, code: ResultCode, text: &str, time: u64) -> ActionResult {
        ActionResult {
            number: 0,
            action: self.action.id,
            attempt: self.attempt,
            stage,
            code,
            vendor_code: None,
            text: (!text.is_empty()).then(|| clip(text)),
            time,
            bytes: (self.bytes > 0).then_some(self.bytes),
            running: None,
        }
    }

    /// What comes next.
    pub(super) fn next(&self, view: &View) -> Move {
        // What is activated is no longer anybody's choice: it confirms itself or is rolled back.
        if self.stage == Stage::Activated {
            return Move::Confirm;
        }
        if let Dependencies::Failed(id) = view.dependencies {
            return Move::End(
                Stage::Rejected,
                ResultCode::Missing,
                format!("action {id} has not succeeded"),
            );
        }
        if self.stage == Stage::Accepted && view.not_after.is_some_and(|end| view.now.is_past(end)) {
            return Move::End(Stage::Expired, ResultCode::Expired, "plan has expired".into());
        }
        if let Some(wait) = self
            .retry
            .map(|retry| retry.left(view.now.clock))
            .filter(|left| *left > 0)
        {
            // Why it failed was reported when it failed.
            return Move::Wait(self.waiting.unwrap_or(ResultCode::Busy), wait);
        }
        let (window, goes_on) = match self.stage {
            Stage::Accepted if self.needs_call() => (self.action.download, Move::Download),
            // A download that was begun may end after the window: only its first byte has to be in it.
            Stage::Downloading => (None, Move::Download),
            Stage::Downloaded => (None, Move::Verify),
            Stage::Verified | Stage::Accepted => (self.action.install, Move::Install),
            _ => (self.action.install, Move::Activate),
        };
        // To download early does no harm, and saves a call; to install before another has run may.
        if goes_on != Move::Download && goes_on != Move::Verify && view.dependencies == Dependencies::Pending {
            return Move::Wait(ResultCode::Missing, 0);
        }
        match window.map_or(Ok(()), |window| self.open(&window, view.now)) {
            Ok(()) => goes_on,
            Err(wait) => Move::Wait(ResultCode::WindowClosed, wait),
        }
    }

    /// Whether a window is open, and if not, for how many seconds: zero where that is not known or it has passed.
    fn open(&self, window: &Window, now: Now) -> Result<(), u64> {
        match now.time {
            // Without the time nobody can say, but a window that was over stays over.
            None => Err(0),
            Some(time) if window.contains(time) => Ok(()),
            Some(time) => Err(window.from.saturating_sub(time)),
        }
    }

    /// How many seconds until it is worth a call to download for it: none where nothing is to be downloaded.
    ///
    /// Terminals do not all call when a window opens: each begins somewhere in its first half.
    pub(super) fn download_in(&self, view: &View) -> Option<u64> {
        match self.next(view) {
            Move::Download => Some(0),
            Move::Wait(_, seconds) if self.stage == Stage::Downloading => Some(seconds),
            Move::Wait(ResultCode::WindowClosed, seconds) if self.stage == Stage::Accepted && seconds > 0 => {
                let length = self
                    .action
                    .download
                    .map_or(0, |window| window.until.saturating_sub(window.from));
                Some(seconds.saturating_add((length / 2).saturating_mul(u64::from(self.spread)) >> 16))
            }
            Move::Wait(_, seconds) if self.stage == Stage::Accepted && seconds > 0 => Some(seconds),
            _ => None,
        }
    }

    /// An attempt failed. `None` where it is tried again; the stage and code that it ends with where it is not.
    pub(super) fn fail(
        &mut self,
        code: ResultCode,
        clock: u64,
        options: &Options,
        entropy: &dyn Entropy,
    ) -> Option<(Stage, ResultCode)> {
        let most = self.action.max_attempts.unwrap_or(options.max_attempts).max(1);
        // What is not permitted is not permitted tomorrow: a grant is for another terminal.
        if code.is_permanent() || code == ResultCode::NotPermitted || self.attempt >= most {
            return Some((Stage::Rejected, code));
        }
        let delay = self.action.retry_delay.map_or(options.retry_delay, u64::from).max(1);
        let grown = delay
            .saturating_mul(1 << u32::from(self.attempt - 1).min(32))
            .min(options.max_backoff.max(delay));
        self.retry = Some(Wait::new(clock, delay.saturating_add(below(entropy, grown + 1))));
        self.attempt = self.attempt.saturating_add(1);
        self.waiting = Some(code);
        None
    }
}

/// Whether an action is about a package.
pub(super) const fn has_package(action: &Action) -> bool {
    match action.kind {
        ActionKind::Download | ActionKind::Install => true,
        ActionKind::Update => action.manifest.is_some(),
        _ => false,
    }
}

/// Whether an action brings a parameter set: an update without a package.
const fn is_parameter_set(action: &Action) -> bool {
    matches!(action.kind, ActionKind::Update) && action.manifest.is_none()
}

/// Why the terminal cannot be changed now, and for how many seconds at least.
///
/// A running transaction, unsettled transactions and a low battery are in the way of a forced action too: it takes the
/// choice from the merchant, not the money from the drawer.
pub(super) fn in_the_way(
    action: &Action,
    settle_first: bool,
    ready: &Readiness,
    options: &Options,
) -> Option<(ResultCode, u64)> {
    let wants = |bit| action.preconditions.unwrap_or(0) & bit != 0;
    let min_battery = action.min_battery.unwrap_or(options.min_battery);
    if ready.busy {
        return Some((ResultCode::Busy, ready.busy_for.unwrap_or(options.recheck)));
    }
    if ready.unsettled && (settle_first || wants(Precondition::SETTLED)) {
        return Some((ResultCode::Unsettled, options.recheck));
    }
    if !ready.charging && (wants(Precondition::CHARGING) || ready.battery.is_some_and(|charge| charge < min_battery)) {
        return Some((ResultCode::LowBattery, options.recheck));
    }
    if wants(Precondition::UNMETERED) && !ready.unmetered {
        return Some((ResultCode::Postponed, options.recheck));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::OsEntropy;

    const NOW: u64 = 1_790_000_000;

    fn action() -> Action {
        Action {
            kind: ActionKind::Install,
            ..super::super::plan::blank(7)
        }
    }

    fn held(stage: Stage) -> Held {
        Held {
            stage,
            ..Held::new(action(), &OsEntropy)
        }
    }

    fn view() -> View {
        let now = Now {
            clock: 50,
            floor: NOW - 10,
            time: Some(NOW),
        };
        View {
            now,
            not_after: None,
            dependencies: Dependencies::Met,
        }
    }

    #[test]
    fn stages_follow_each_other() {
        let expected = [
            (Stage::Accepted, Move::Download),
            (Stage::Downloading, Move::Download),
            (Stage::Downloaded, Move::Verify),
            (Stage::Verified, Move::Install),
            (Stage::Installed, Move::Activate),
            (Stage::Activated, Move::Confirm),
        ];
        for (stage, comes) in expected {
            assert_eq!(held(stage).next(&view()), comes, "{stage}");
        }
    }

    #[test]
    fn windows_are_half_open_and_need_the_time() {
        let window = Window {
            from: NOW,
            until: NOW + 100,
        };
        let install = |stage| Held {
            action: Action {
                install: Some(window),
                ..action()
            },
            ..held(stage)
        };
        let at = |time| View {
            now: Now { time, ..view().now },
            ..view()
        };
        for (stage, comes) in [(Stage::Verified, Move::Install), (Stage::Installed, Move::Activate)] {
            let held = install(stage);
            assert_eq!(held.next(&at(Some(NOW))), comes);
            assert_eq!(held.next(&at(Some(NOW + 99))), comes);
            assert_eq!(held.next(&at(Some(NOW - 30))), Move::Wait(ResultCode::WindowClosed, 30));
            assert_eq!(held.next(&at(Some(NOW + 100))), Move::Wait(ResultCode::WindowClosed, 0));
            assert_eq!(held.next(&at(None)), Move::Wait(ResultCode::WindowClosed, 0));
        }
        // Downloading and verifying do not wait for the installation's window.
        assert_eq!(install(Stage::Accepted).next(&at(None)), Move::Download);
        assert_eq!(install(Stage::Downloaded).next(&at(None)), Move::Verify);
        // And what is activated waits for nothing.
        assert_eq!(install(Stage::Activated).next(&at(None)), Move::Confirm);
    }

    #[test]
    fn a_begun_download_may_end_after_its_window() {
        let window = Window {
            from: NOW - 100,
            until: NOW - 1,
        };
        let download = |stage| Held {
            action: Action {
                download: Some(window),
                ..action()
            },
            ..held(stage)
        };
        assert_eq!(
            download(Stage::Accepted).next(&view()),
            Move::Wait(ResultCode::WindowClosed, 0)
        );
        assert_eq!(download(Stage::Downloading).next(&view()), Move::Download);
    }

    #[test]
    fn calls_for_a_window_are_spread_over_its_first_half() {
        let window = Window {
            from: NOW + 1_000,
            until: NOW + 3_000,
        };
        for spread in [0, 1 << 15, u16::MAX] {
            let held = Held {
                spread,
                action: Action {
                    download: Some(window),
                    ..action()
                },
                ..held(Stage::Accepted)
            };
            let wait = held.download_in(&view()).unwrap();
            assert!((1_000..2_000).contains(&wait), "{wait}");
        }
        assert_eq!(held(Stage::Accepted).download_in(&view()), Some(0));
        assert_eq!(held(Stage::Verified).download_in(&view()), None);
    }

    #[test]
    fn a_plan_that_has_expired_begins_nothing() {
        let view = View {
            not_after: Some(NOW),
            ..view()
        };
        assert!(matches!(
            held(Stage::Accepted).next(&view),
            Move::End(Stage::Expired, ResultCode::Expired, _)
        ));
        assert_eq!(held(Stage::Downloading).next(&view), Move::Download);
        // Without the time, the floor still counts.
        let lost = Now {
            clock: 5,
            floor: NOW,
            time: None,
        };
        assert!(matches!(
            held(Stage::Accepted).next(&View { now: lost, ..view }),
            Move::End(Stage::Expired, ..)
        ));
    }

    #[test]
    fn failures_of_others_end_it_until_it_is_activated() {
        let bad = View {
            dependencies: Dependencies::Failed(3),
            ..view()
        };
        for stage in [
            Stage::Accepted,
            Stage::Downloading,
            Stage::Downloaded,
            Stage::Verified,
            Stage::Installed,
        ] {
            assert!(matches!(
                held(stage).next(&bad),
                Move::End(Stage::Rejected, ResultCode::Missing, _)
            ));
        }
        assert_eq!(held(Stage::Activated).next(&bad), Move::Confirm);
    }

    #[test]
    fn a_dependency_on_its_way_delays_the_installation_only() {
        let view = View {
            dependencies: Dependencies::Pending,
            ..view()
        };
        assert_eq!(held(Stage::Accepted).next(&view), Move::Download);
        assert_eq!(held(Stage::Downloaded).next(&view), Move::Verify);
        assert_eq!(held(Stage::Verified).next(&view), Move::Wait(ResultCode::Missing, 0));
    }

    #[test]
    fn transient_errors_are_tried_again_and_permanent_ones_are_not() {
        let options = Options::default();
        for code in ResultCode::ALL.iter().copied().filter(|code| code.is_permanent()) {
            let mut held = held(Stage::Downloading);
            assert_eq!(held.fail(code, 50, &options, &OsEntropy), Some((Stage::Rejected, code)));
        }
        let mut held = held(Stage::Downloading);
        held.action.max_attempts = Some(3);
        held.action.retry_delay = Some(10);
        for (attempt, bound) in [(1, 20), (2, 30)] {
            assert_eq!(held.attempt, attempt);
            assert_eq!(held.fail(ResultCode::HardwareError, 50, &options, &OsEntropy), None);
            let Move::Wait(ResultCode::HardwareError, wait) = held.next(&view()) else {
                panic!("{held:?}")
            };
            assert!((10..=bound).contains(&wait), "{wait}");
            let later = Now {
                clock: 50 + wait,
                ..view().now
            };
            assert_eq!(held.next(&View { now: later, ..view() }), Move::Download);
        }
        let end = held.fail(ResultCode::HardwareError, 50, &options, &OsEntropy);
        assert_eq!(end, Some((Stage::Rejected, ResultCode::HardwareError)));
    }

    #[test]
    fn settlement_and_battery_are_in_the_way_of_forced_actions_too() {
        let options = Options::default();
        let forced = Action {
            forced: Some(true),
            preconditions: Some(Precondition::SETTLED),
            ..action()
        };
        let code = |action: &Action, settle, ready| in_the_way(action, settle, &ready, &options).map(|(code, _)| code);
        let free = Readiness::FREE;
        assert_eq!(code(&forced, false, free), None);
        assert_eq!(
            code(
                &forced,
                false,
                Readiness {
                    unsettled: true,
                    ..free
                }
            ),
            Some(ResultCode::Unsettled)
        );
        assert_eq!(
            code(
                &action(),
                true,
                Readiness {
                    unsettled: true,
                    ..free
                }
            ),
            Some(ResultCode::Unsettled)
        );
        assert_eq!(
            code(
                &action(),
                false,
                Readiness {
                    unsettled: true,
                    ..free
                }
            ),
            None
        );
        let busy = Readiness {
            busy: true,
            busy_for: Some(9),
            ..free
        };
        assert_eq!(in_the_way(&forced, false, &busy, &options), Some((ResultCode::Busy, 9)));
        let low = Readiness {
            battery: Some(5),
            charging: false,
            ..free
        };
        assert_eq!(code(&forced, false, low), Some(ResultCode::LowBattery));
        assert_eq!(code(&forced, false, Readiness { charging: true, ..low }), None);
        let lower = Action {
            min_battery: Some(3),
            ..action()
        };
        assert_eq!(code(&lower, false, low), None);
        let plugged = Action {
            preconditions: Some(Precondition::CHARGING),
            ..action()
        };
        assert_eq!(
            code(
                &plugged,
                false,
                Readiness {
                    charging: false,
                    ..free
                }
            ),
            Some(ResultCode::LowBattery)
        );
        let free_network = Action {
            preconditions: Some(Precondition::UNMETERED),
            ..action()
        };
        assert_eq!(
            code(
                &free_network,
                false,
                Readiness {
                    unmetered: false,
                    ..free
                }
            ),
            Some(ResultCode::Postponed)
        );
    }
}
