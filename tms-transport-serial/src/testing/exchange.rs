//! The telephone exchange.

use super::line::{Arrivals, Line, Way};
use super::modem::{Signal, SimModem};
use super::quirk::Quirks;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// What an exchange is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Lines between two modems. Each call has noise of its own, which follows from the seed and the number of the call.
    pub line: Line,
    /// What must be dialled before a number, if anything.
    pub prefix: Option<String>,
    /// Dialling one digit.
    pub digit: Duration,
    /// From one ring to the next.
    pub ring: Duration,
    /// From a ring to what is said of the caller.
    pub caller: Duration,
    /// From answering to the connection.
    pub training: Duration,
    /// From the fall of the carrier to the end of a call.
    pub carrier_loss: Duration,
    /// Silence that modems want around the escape sequence.
    pub guard: Duration,
    /// What a comma in a number waits.
    pub pause: Duration,
}

impl Default for Settings {
    /// As it is on the telephone.
    fn default() -> Self {
        Self {
            line: Line::default(),
            prefix: None,
            digit: Duration::from_millis(100),
            ring: Duration::from_secs(6),
            caller: Duration::from_millis(600),
            training: Duration::from_secs(4),
            carrier_loss: Duration::from_millis(1400),
            guard: Duration::from_secs(1),
            pause: Duration::from_secs(2),
        }
    }
}

impl Settings {
    /// For tests whose time is real: everything takes some milliseconds.
    #[must_use]
    pub fn quick() -> Self {
        let ms = Duration::from_millis;
        Self {
            line: Line {
                bits_per_second: 40_000_000,
                latency: Duration::ZERO,
                buffer: 65_536,
                ..Line::default()
            },
            prefix: None,
            digit: Duration::ZERO,
            ring: ms(5),
            caller: ms(1),
            training: ms(2),
            carrier_loss: ms(2),
            guard: ms(10),
            pause: ms(1),
        }
    }
}

/// What becomes of calls to a number that has no modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// It is always engaged.
    Busy,
    /// It rings, and nobody answers.
    NoAnswer,
    /// A person answers.
    Voice,
}

/// A telephone exchange, to which [modems](SimModem) are connected. Clones are handles to it.
#[derive(Debug, Clone)]
pub struct Exchange {
    shared: Arc<Mutex<Shared>>,
    pub(super) settings: Arc<Settings>,
}

#[derive(Debug, Default)]
struct Shared {
    numbers: BTreeMap<String, Subscriber>,
    habits: BTreeMap<String, Habit>,
    groups: BTreeMap<String, Vec<String>>,
    calls: u64,
}

#[derive(Debug)]
struct Subscriber {
    modem: mpsc::UnboundedSender<Signal>,
    engaged: bool,
    plugged: bool,
    /// Says nothing of itself to who is called.
    shown: String,
}

/// One side of a call.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) call: u64,
    pub(super) peer: mpsc::UnboundedSender<Signal>,
}

/// What somebody who dials hears.
pub(super) enum Tone {
    /// It rings there.
    Rings(Side),
    Busy,
    /// Nothing that a modem understands.
    NoAnswer,
    Voice,
    Nothing,
}

impl Exchange {
    /// An exchange without subscribers.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            shared: Arc::default(),
            settings: Arc::new(settings),
        }
    }

    /// A modem with this number. Needs a tokio runtime.
    #[must_use]
    pub fn modem(&self, number: &str, quirks: Quirks) -> SimModem {
        let (sender, inbox) = mpsc::unbounded_channel();
        let subscriber = Subscriber {
            modem: sender.clone(),
            engaged: false,
            plugged: true,
            shown: number.to_owned(),
        };
        self.shared
            .lock()
            .unwrap()
            .numbers
            .insert(number.to_owned(), subscriber);
        SimModem::start(self.clone(), number.to_owned(), quirks, sender, inbox)
    }

    /// What becomes of calls to a number that has no modem; without a habit it does not exist.
    pub fn set_habit(&self, number: &str, habit: Habit) {
        self.shared.lock().unwrap().habits.insert(number.to_owned(), habit);
    }

    /// Lets calls to `number` ring at the first of these that is free.
    pub fn set_group(&self, number: &str, members: impl IntoIterator<Item = String>) {
        let members = members.into_iter().collect();
        self.shared.lock().unwrap().groups.insert(number.to_owned(), members);
    }

    /// What others are told of who calls from this number: another number, `P`, `O`, or anything that an attacker likes.
    pub fn show(&self, number: &str, shown: &str) {
        if let Some(subscriber) = self.shared.lock().unwrap().numbers.get_mut(number) {
            subscriber.shown = shown.to_owned();
        }
    }

    /// Calls that were made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.lock().unwrap().calls
    }

    pub(super) fn plug(&self, number: &str, plugged: bool) {
        if let Some(subscriber) = self.shared.lock().unwrap().numbers.get_mut(number) {
            subscriber.plugged = plugged;
        }
    }

    /// Whether there is a dial tone. A line on which a call comes in has none.
    pub(super) fn has_tone(&self, number: &str) -> bool {
        let shared = self.shared.lock().unwrap();
        let subscriber = shared.numbers.get(number);
        subscriber.is_some_and(|subscriber| subscriber.plugged && !subscriber.engaged)
    }

    pub(super) fn connect(&self, from: &str, dialled: &str) -> Tone {
        let mut shared = self.shared.lock().unwrap();
        shared.calls += 1;
        let call = shared.calls;
        let prefix = self.settings.prefix.as_deref().unwrap_or_default();
        let Some(dialled) = dialled.strip_prefix(prefix) else {
            return Tone::Nothing;
        };
        let free = shared.groups.get(dialled).and_then(|members| {
            let free = |number: &&String| {
                shared
                    .numbers
                    .get(*number)
                    .is_some_and(|member| !member.engaged && member.plugged)
            };
            members.iter().find(free).or_else(|| members.first())
        });
        let dialled = free.cloned().unwrap_or_else(|| dialled.to_owned());
        let dialled = dialled.as_str();
        match shared.habits.get(dialled) {
            Some(Habit::Busy) => return Tone::Busy,
            Some(Habit::NoAnswer) => return Tone::NoAnswer,
            Some(Habit::Voice) => return Tone::Voice,
            None => {}
        }
        let Some(caller) = shared.numbers.get(from) else {
            return Tone::Nothing;
        };
        let (shown, back) = (caller.shown.clone(), caller.modem.clone());
        let peer = match shared.numbers.get_mut(dialled) {
            None => return Tone::Nothing,
            Some(callee) if callee.engaged || dialled == from => return Tone::Busy,
            Some(callee) if !callee.plugged => return Tone::NoAnswer,
            Some(callee) => {
                callee.engaged = true;
                callee.modem.clone()
            }
        };
        if let Some(caller) = shared.numbers.get_mut(from) {
            caller.engaged = true;
        }
        let _ = peer.send(Signal::Ring {
            side: Side { call, peer: back },
            shown,
        });
        Tone::Rings(Side { call, peer })
    }

    /// The line of a call.
    pub(super) fn line(&self, call: u64) -> [(Way, Arrivals); 2] {
        [
            Way::new(self.settings.line, 2 * call),
            Way::new(self.settings.line, 2 * call + 1),
        ]
    }

    /// On hook.
    pub(super) fn release(&self, number: &str) {
        if let Some(subscriber) = self.shared.lock().unwrap().numbers.get_mut(number) {
            subscriber.engaged = false;
        }
    }
}
