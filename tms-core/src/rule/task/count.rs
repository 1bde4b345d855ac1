//! How many assignments of a stage stand where: kept by differences, never by looking at the assignments.

use super::assignment::State;
use super::failure::FailureClass;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// What assignments are counted by: their state, and for failures their class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Slot {
    /// Not offered yet.
    Pending,
    /// In a plan that the terminal has.
    Offered,
    /// Content is coming in.
    Downloading,
    /// All content is there.
    Downloaded,
    /// Waiting.
    Waiting,
    /// Lies beside the version that runs.
    Installing,
    /// The next start is the new version's.
    Restarting,
    /// The new version was seen, and has not proved itself yet.
    Trial,
    /// Done.
    Succeeded,
    /// Failed: rejected and timed out among the classes.
    Failed(FailureClass),
    /// Withdrawn.
    Cancelled,
    /// Another assignment took its place.
    Superseded,
    /// The terminal had it already.
    AlreadyCurrent,
    /// It is not for this terminal.
    NotApplicable,
    /// The terminal was removed from the estate.
    TerminalRemoved,
}

/// How many assignments are in each slot. Slots with none are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts {
    slots: BTreeMap<Slot, u64>,
}

/// An assignment left a slot in which none was counted: the counters do not belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no assignment is counted as {}", .0.name())]
pub struct Miscount(pub Slot);

impl Slot {
    /// All but the failures.
    const PLAIN: [Self; 14] = [
        Self::Pending,
        Self::Offered,
        Self::Downloading,
        Self::Downloaded,
        Self::Waiting,
        Self::Installing,
        Self::Restarting,
        Self::Trial,
        Self::Succeeded,
        Self::Cancelled,
        Self::Superseded,
        Self::AlreadyCurrent,
        Self::NotApplicable,
        Self::TerminalRemoved,
    ];

    /// All slots.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN.into_iter().chain(FailureClass::ALL.map(Self::Failed))
    }

    /// The slot of a state.
    #[must_use]
    pub const fn of(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Offered => Self::Offered,
            State::Downloading => Self::Downloading,
            State::Downloaded => Self::Downloaded,
            State::Waiting { .. } => Self::Waiting,
            State::Installing => Self::Installing,
            State::Restarting => Self::Restarting,
            State::Trial { .. } => Self::Trial,
            State::Succeeded => Self::Succeeded,
            State::Failed { class, .. } => Self::Failed(class),
            State::TimedOut => Self::Failed(FailureClass::TimedOut),
            State::Rejected { .. } => Self::Failed(FailureClass::Rejected),
            State::Cancelled { .. } => Self::Cancelled,
            State::Superseded { .. } => Self::Superseded,
            State::AlreadyCurrent => Self::AlreadyCurrent,
            State::NotApplicable => Self::NotApplicable,
            State::TerminalRemoved => Self::TerminalRemoved,
        }
    }

    /// The name, as it is stored: unique among the slots.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Offered => "offered",
            Self::Downloading => "downloading",
            Self::Downloaded => "downloaded",
            Self::Waiting => "waiting",
            Self::Installing => "installing",
            Self::Restarting => "restarting",
            Self::Trial => "trial",
            Self::Succeeded => "succeeded",
            Self::Failed(class) => class.name(),
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::AlreadyCurrent => "already_current",
            Self::NotApplicable => "not_applicable",
            Self::TerminalRemoved => "terminal_removed",
        }
    }

    /// The slot of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|slot| slot.name() == name)
    }
}

impl From<Slot> for &'static str {
    fn from(slot: Slot) -> Self {
        slot.name()
    }
}

impl TryFrom<String> for Slot {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::named(&name).ok_or_else(|| format!("no slot is named {name:?}"))
    }
}

impl Counts {
    /// These counts, as a store keeps them.
    #[must_use]
    pub fn new(slots: impl IntoIterator<Item = (Slot, u64)>) -> Self {
        let slots = slots.into_iter().filter(|(_, count)| *count > 0).collect();
        Self { slots }
    }

    /// How many are in `slot`.
    #[must_use]
    pub fn of(&self, slot: Slot) -> u64 {
        self.slots.get(&slot).copied().unwrap_or_default()
    }

    /// A new assignment is counted.
    pub fn add(&mut self, state: State) {
        let count = self.slots.entry(Slot::of(state)).or_default();
        *count = count.saturating_add(1);
    }

    /// An assignment moved. Nothing changes where both states are counted alike.
    ///
    /// # Errors
    /// [`Miscount`], and nothing is changed.
    pub fn moved(&mut self, from: State, to: State) -> Result<(), Miscount> {
        let left = Slot::of(from);
        match self.of(left) {
            0 => return Err(Miscount(left)),
            1 => self.slots.remove(&left),
            more => self.slots.insert(left, more.saturating_sub(1)),
        };
        self.add(to);
        Ok(())
    }

    /// The counts of both together: of a task, from its stages.
    pub fn merge(&mut self, other: &Self) {
        for (slot, count) in &other.slots {
            let sum = self.slots.entry(*slot).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// *N*: all that the stage has to bring to an end. What was current already, is not for the terminal, was superseded or
    /// has lost its terminal is not counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum(|slot| {
            !matches!(
                slot,
                Slot::AlreadyCurrent | Slot::NotApplicable | Slot::TerminalRemoved | Slot::Superseded
            )
        })
    }

    /// *S*: those that succeeded.
    #[must_use]
    pub fn succeeded(&self) -> u64 {
        self.of(Slot::Succeeded)
    }

    /// *F*: those that failed in one of these classes; in any, if there are none.
    #[must_use]
    pub fn failed(&self, classes: &[FailureClass]) -> u64 {
        self.sum(|slot| matches!(slot, Slot::Failed(class) if classes.is_empty() || classes.contains(&class)))
    }

    /// *X*: those that came to an end by themselves, well or not.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.succeeded().saturating_add(self.failed(&[]))
    }

    /// Those of *N* that cannot succeed any more: failed, or withdrawn.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.failed(&[]).saturating_add(self.of(Slot::Cancelled))
    }

    /// Those that were offered and are not at an end.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.sum(|slot| {
            matches!(
                slot,
                Slot::Offered
                    | Slot::Downloading
                    | Slot::Downloaded
                    | Slot::Waiting
                    | Slot::Installing
                    | Slot::Restarting
                    | Slot::Trial
            )
        })
    }

    /// Those that are not at an end.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.in_flight().saturating_add(self.of(Slot::Pending))
    }

    /// All counted, of whatever slot.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.sum(|_| true)
    }

    /// The slots that are not empty.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, u64)> + '_ {
        self.slots.iter().map(|(slot, count)| (*slot, *count))
    }

    fn sum(&self, wanted: impl Fn(Slot) -> bool) -> u64 {
        self.iter()
            .filter(|(slot, _)| wanted(*slot))
            .fold(0, |sum, (_, count)| sum.saturating_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<_> = Slot::all().map(Slot::name).collect();
        assert_eq!(names.len(), Slot::all().count());
        for slot in Slot::all() {
            assert_eq!(Slot::named(slot.name()), Some(slot));
        }
        assert_eq!(Slot::named("elsewhere"), None);
    }

    #[test]
    fn counts_read_as_names_with_numbers() {
        let mut counts = Counts::default();
        counts.add(State::Offered);
        counts.add(State::TimedOut);
        let text = serde_json::to_string(&counts).unwrap();
        assert_eq!(text, r#"{"offered":1,"timed_out":1}"#);
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), counts);
    }

    #[test]
    fn what_was_not_counted_cannot_leave() {
        let mut counts = Counts::default();
        counts.add(State::Pending);
        let before = counts.clone();
        assert_eq!(
            counts.moved(State::Offered, State::Succeeded),
            Err(Miscount(Slot::Offered))
        );
        assert_eq!(counts, before);
    }

    fn state() -> impl Strategy<Value = State> {
        let code = tms_proto::code::ResultCode::HardwareError;
        prop_oneof![
            Just(State::Pending),
            Just(State::Offered),
            Just(State::Downloading),
            Just(State::Trial { confirmed: true }),
            Just(State::Trial { confirmed: false }),
            Just(State::Succeeded),
            Just(State::TimedOut),
            Just(State::Rejected { code }),
            Just(State::Cancelled { forced: true }),
            Just(State::Superseded { by: None }),
            Just(State::TerminalRemoved),
            proptest::sample::select(&FailureClass::ALL[..]).prop_map(move |class| State::Failed { class, code }),
        ]
    }

    proptest! {
        #[test]
        fn counters_equal_a_recount(
            mut states in proptest::collection::vec(state(), 1..20),
            moves in proptest::collection::vec((any::<proptest::sample::Index>(), state()), 0..100),
        ) {
            let mut counts = Counts::default();
            states.iter().for_each(|state| counts.add(*state));
            for (index, to) in moves {
                let at = index.index(states.len());
                counts.moved(states[at], to).unwrap();
                states[at] = to;
                let mut recount = Counts::default();
                states.iter().for_each(|state| recount.add(*state));
                prop_assert_eq!(&counts, &recount);
                prop_assert_eq!(counts.all(), u64::try_from(states.len()).unwrap());
                let ended = counts.succeeded() + counts.lost();
                prop_assert_eq!(counts.total(), counts.open() + ended);
                let excluded = counts.of(Slot::Superseded) + counts.of(Slot::TerminalRemoved);
                prop_assert_eq!(counts.all(), counts.total() + excluded);
            }
        }
    }
}
