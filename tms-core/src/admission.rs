//! Who is let in: the limits that are asked before a handshake costs anything (protocol §4.9).
//!
//! Three limits, all in constant memory: so many sessions, so many handshakes at once among them, and for every caller a
//! bucket of tokens that fills up with time. A handshake that succeeds costs a token, one that fails costs many, on credit
//! where they are not there: whoever guesses is soon slower than the server.

use crate::transport::{CallerNumber, PeerInfo};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tms_proto::machine::Instant;

/// The limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Sessions at once, with those whose handshake runs.
    pub sessions: usize,
    /// Handshakes at once.
    pub handshakes: usize,
    /// Tokens that a caller begins with, and can save up.
    pub burst: u32,
    /// Tokens that a caller gets back in a minute.
    pub per_minute: u32,
    /// Tokens that a failed handshake costs: one that succeeds costs 1.
    pub failure_cost: u32,
    /// Callers whose tokens are remembered: 16 bytes each, and the room of a hash table. Beyond that the ones that were not
    /// heard of for longest begin anew.
    pub callers: usize,
    /// Seconds after which a caller may try again when sessions or handshakes are at their limit.
    pub retry_after: u32,
    /// Callers that are turned away for that are spread over as many seconds more, so that they do not all come back at once.
    pub retry_spread: u32,
}

impl Default for AdmissionLimits {
    /// For a server of some thousand calls a minute. A whole branch, or a mobile network, may call from one address: its
    /// terminals succeed, and so the burst is large and the cost of a failure with it.
    fn default() -> Self {
        Self {
            sessions: 20_000,
            handshakes: 512,
            burst: 1_000,
            per_minute: 6_000,
            failure_cost: 100,
            callers: 65_536,
            retry_after: 10,
            retry_spread: 50,
        }
    }
}

/// The answer to a caller.
#[derive(Debug)]
pub enum Decision {
    /// Come in. The permit is to be kept for as long as the call lasts.
    Admit(Permit),
    /// Not now.
    Busy {
        /// Seconds to wait, at least 1.
        retry_after: u32,
    },
}

/// Keeps the limits. Clones are one.
///
/// All instants that it is given must count from one epoch: with a [`Pump`](crate::pump::Pump) for each call, the epoch is
/// to be shared between them.
#[derive(Debug, Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: AdmissionLimits,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    handshakes: usize,
    sessions: usize,
    /// Callers turned away because all is full, ever.
    turned_away: u64,
    /// Buckets that were used since the last change of generations, by a keyed hash of the caller.
    young: HashMap<u64, Bucket>,
    /// Those that were used before it.
    old: HashMap<u64, Bucket>,
}

/// The tokens of a caller, below zero where it is in debt, in 60,000ths of one: what a rate of one a minute gives in a
/// millisecond.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: i64,
    at: u64,
}

const TOKEN: i64 = 60_000;

impl Admission {
    /// Nobody is in.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        let shared = Shared {
            limits,
            hasher: RandomState::new(),
            state: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Whether a caller may begin a handshake. This costs a look-up, and no public-key work.
    ///
    /// It needs a token, and takes it.
    #[must_use]
    pub fn handshake(&self, peer: &PeerInfo, now: Instant) -> Decision {
        let caller = self.shared.hasher.hash_one(Source::of(peer));
        let limits = &self.shared.limits;
        let mut state = self.shared.state();
        if state.handshakes >= limits.handshakes || state.sessions >= limits.sessions {
            state.turned_away = state.turned_away.wrapping_add(1);
            let spread = state
                .turned_away
                .checked_rem(u64::from(limits.retry_spread))
                .unwrap_or_default();
            let spread = u32::try_from(spread).unwrap_or_default();
            return Decision::Busy {
                retry_after: limits.retry_after.saturating_add(spread).max(1),
            };
        }
        let bucket = state.bucket(caller, limits, now.as_millis());
        if bucket.tokens < TOKEN {
            let missing = TOKEN.saturating_sub(bucket.tokens).unsigned_abs();
            let millis = missing.div_ceil(u64::from(limits.per_minute).max(1));
            let seconds = millis.div_ceil(1000);
            return Decision::Busy {
                retry_after: u32::try_from(seconds).unwrap_or(u32::MAX).max(1),
            };
        }
        bucket.tokens -= TOKEN;
        state.handshakes += 1;
        state.sessions += 1;
        Decision::Admit(Permit {
            shared: Arc::clone(&self.shared),
            caller,
            authenticated: false,
        })
    }

    /// Handshakes that run now.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.shared.state().handshakes
    }

    /// Sessions that are open now, with those whose handshake runs.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.state().sessions
    }
}

/// Leave for one call. Dropped, it makes room for another.
#[derive(Debug)]
#[must_use = "the call counts only as long as its permit is kept"]
pub struct Permit {
    shared: Arc<Shared>,
    caller: u64,
    authenticated: bool,
}

impl Permit {
    /// The caller has proved who it is: the handshake is over, and cost a token. Without this it has failed, and costs more.
    /// The second time this does nothing.
    pub fn succeeded(&mut self) {
        if !self.authenticated {
            self.authenticated = true;
            let mut state = self.shared.state();
            state.handshakes = state.handshakes.saturating_sub(1);
        }
    }

    /// The caller did wrong after its handshake: it pays as for one that failed.
    pub fn faulted(self) {
        if self.authenticated {
            self.shared.state().take(self.caller, self.shared.limits.failure_cost);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.sessions = state.sessions.saturating_sub(1);
        if !self.authenticated {
            state.handshakes = state.handshakes.saturating_sub(1);
            state.take(self.caller, self.shared.limits.failure_cost.saturating_sub(1));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The bucket of a caller, filled up to `now`.
    fn bucket(&mut self, caller: u64, limits: &AdmissionLimits, now: u64) -> &mut Bucket {
        let full = tokens(limits.burst);
        let known = self.young.get(&caller).copied().or_else(|| self.old.remove(&caller));
        // Two generations hold at most as many callers as may be remembered, and the old one goes whole: no search for a
        // victim, which somebody with many addresses could make us do all the time.
        if self.young.len() >= (limits.callers / 2).max(1) && !self.young.contains_key(&caller) {
            self.old = std::mem::take(&mut self.young);
        }
        let bucket = self.young.entry(caller).or_insert(Bucket { tokens: full, at: now });
        if let Some(known) = known {
            *bucket = known;
        }
        let gained = now.saturating_sub(bucket.at).saturating_mul(limits.per_minute.into());
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        bucket.tokens = bucket.tokens.saturating_add(gained).min(full);
        bucket.at = bucket.at.max(now);
        bucket
    }

    /// Takes tokens from a caller that is remembered.
    fn take(&mut self, caller: u64, count: u32) {
        let bucket = match self.young.get_mut(&caller) {
            Some(bucket) => Some(bucket),
            None => self.old.get_mut(&caller),
        };
        if let Some(bucket) = bucket {
            bucket.tokens = bucket.tokens.saturating_sub(tokens(count));
        }
    }
}

fn tokens(count: u32) -> i64 {
    i64::from(count) * TOKEN
}

/// What a caller is told apart by: the number that the network tells, or the address, or the line.
#[derive(PartialEq, Eq, Hash)]
enum Source<'a> {
    Number(&'a str),
    V4(Ipv4Addr),
    /// A subscriber has a whole network of 64 bits.
    V6([u16; 4]),
    Line(&'a str),
    Unknown,
}

impl<'a> Source<'a> {
    fn of(peer: &'a PeerInfo) -> Self {
        let number = peer.caller.as_ref().and_then(|caller| match &caller.number {
            CallerNumber::Known(number) => Some(number),
            _ => None,
        });
        match (number, peer.address, &peer.line) {
            (Some(number), _, _) => Self::Number(number.as_str()),
            (None, Some(address), _) => match address.ip() {
                IpAddr::V4(address) => Self::V4(address),
                IpAddr::V6(address) => Self::v6(address),
            },
            (None, None, Some(line)) => Self::Line(line),
            (None, None, None) => Self::Unknown,
        }
    }

    fn v6(address: Ipv6Addr) -> Self {
        if let Some(address) = address.to_ipv4_mapped() {
            return Self::V4(address);
        }
        let [a, b, c, d, ..] = address.segments();
        Self::V6([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> AdmissionLimits {
        AdmissionLimits {
            sessions: 5,
            handshakes: 3,
            burst: 20,
            per_minute: 60,
            failure_cost: 10,
            callers: 8,
            retry_after: 7,
            retry_spread: 4,
        }
    }

    fn peer(number: u8) -> PeerInfo {
        PeerInfo::at(format!("192.0.2.{number}:4000").parse().unwrap())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn admit(decision: Decision) -> Permit {
        match decision {
            Decision::Admit(permit) => permit,
            Decision::Busy { retry_after } => panic!("busy for {retry_after} s"),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better")]
    fn busy(decision: Decision) -> u32 {
        match decision {
            Decision::Busy { retry_after } => retry_after,
            Decision::Admit(_) => panic!("admitted"),
        }
    }

    #[test]
    fn handshakes_and_sessions_are_limited() {
        let admission = Admission::new(limits());
        let mut permits: Vec<_> = (0..3).map(|n| admit(admission.handshake(&peer(n), at(0)))).collect();
        assert_eq!((admission.handshakes(), admission.sessions()), (3, 3));
        let waits: Vec<_> = (0..5).map(|n| busy(admission.handshake(&peer(9 + n), at(0)))).collect();
        assert_eq!(waits, [8, 9, 10, 7, 8], "spread");
        for permit in &mut permits {
            permit.succeeded();
            permit.succeeded();
        }
        assert_eq!((admission.handshakes(), admission.sessions()), (0, 3));
        permits.extend((3..5).map(|n| admit(admission.handshake(&peer(n), at(0)))));
        assert_eq!((admission.handshakes(), admission.sessions()), (2, 5));
        busy(admission.handshake(&peer(9), at(0)));
        drop(permits.remove(0));
        permits.push(admit(admission.handshake(&peer(9), at(0))));
        drop(permits);
        assert_eq!((admission.handshakes(), admission.sessions()), (0, 0));
    }

    #[test]
    fn failures_cost_more_than_successes() {
        let admission = Admission::new(limits());
        for _ in 0..20 {
            admit(admission.handshake(&peer(1), at(0))).succeeded();
        }
        assert_eq!(busy(admission.handshake(&peer(1), at(0))), 1);
        for _ in 0..2 {
            drop(admit(admission.handshake(&peer(2), at(0))));
        }
        assert_eq!(busy(admission.handshake(&peer(2), at(0))), 1);
        drop(admit(admission.handshake(&peer(2), at(1))));
        assert_eq!(busy(admission.handshake(&peer(2), at(1))), 10, "nine in debt");
        assert_eq!(busy(admission.handshake(&peer(2), at(10))), 1);
        drop(admit(admission.handshake(&peer(2), at(11))));
        drop(admit(admission.handshake(&peer(3), at(0))));
    }

    #[test]
    fn faults_after_the_handshake_are_paid_for() {
        let admission = Admission::new(limits());
        let mut permit = admit(admission.handshake(&peer(1), at(0)));
        permit.succeeded();
        permit.faulted();
        assert_eq!((admission.handshakes(), admission.sessions()), (0, 0));
        for _ in 0..9 {
            admit(admission.handshake(&peer(1), at(0))).succeeded();
        }
        assert_eq!(busy(admission.handshake(&peer(1), at(0))), 1, "20 less 1, 10 and 9");
        // Before it, the failure is paid for anyway.
        admit(admission.handshake(&peer(2), at(0))).faulted();
        drop(admit(admission.handshake(&peer(2), at(0))));
        assert_eq!(busy(admission.handshake(&peer(2), at(0))), 1);
    }

    #[test]
    fn callers_are_told_apart() {
        let callers = [
            peer(1),
            peer(2),
            PeerInfo::at("[2001:db8:0:1::1]:1".parse().unwrap()),
            PeerInfo::at("[2001:db8:0:2::1]:1".parse().unwrap()),
            PeerInfo::on_line("one"),
            PeerInfo::on_line("two"),
            PeerInfo::default(),
        ];
        let keys: std::collections::HashSet<_> = callers
            .iter()
            .map(Source::of)
            .map(|source| match source {
                Source::Number(number) => number.to_owned(),
                Source::V4(address) => address.to_string(),
                Source::V6(network) => format!("{network:?}"),
                Source::Line(line) => line.to_owned(),
                Source::Unknown => String::new(),
            })
            .collect();
        assert_eq!(keys.len(), callers.len());
        let same = |one: &str, two: &str| {
            let [one, two] = [one, two].map(|text| PeerInfo::at(text.parse().unwrap()));
            Source::of(&one) == Source::of(&two)
        };
        assert!(same("192.0.2.1:1", "192.0.2.1:2") && same("192.0.2.1:1", "[::ffff:192.0.2.1]:1"));
        assert!(same("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::9]:2"));
    }

    #[test]
    fn many_callers_take_no_more_room() {
        let admission = Admission::new(limits());
        for number in 0..=255 {
            admit(admission.handshake(&peer(number), at(0))).succeeded();
            let state = admission.shared.state();
            assert!(state.young.len() + state.old.len() <= 8);
        }
        // One that keeps coming is remembered all the same.
        for number in 0..=255 {
            match admission.handshake(&PeerInfo::on_line("one"), at(0)) {
                Decision::Admit(permit) => drop(permit),
                Decision::Busy { .. } => assert!(number >= 2),
            }
            admit(admission.handshake(&peer(number), at(0))).succeeded();
        }
        assert_eq!(busy(admission.handshake(&PeerInfo::on_line("one"), at(0))), 1);
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let admission = Admission::new(limits());
        for _ in 0..2 {
            drop(admit(admission.handshake(&peer(1), at(1000))));
        }
        busy(admission.handshake(&peer(1), at(0)));
        assert_eq!(busy(admission.handshake(&peer(1), at(1000))), 1);
        admit(admission.handshake(&peer(1), at(1001))).succeeded();
    }

    #[derive(Debug, Clone)]
    enum Step {
        Call(u8),
        Succeed(usize),
        Fault(usize),
        Leave(usize),
        Wait(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..6_u8).prop_map(Step::Call),
            2 => (0..8_usize).prop_map(Step::Succeed),
            1 => (0..8_usize).prop_map(Step::Fault),
            2 => (0..8_usize).prop_map(Step::Leave),
            1 => (0..5000_u16).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn no_run_of_calls_breaks_a_limit(steps in steps()) {
            let limits = AdmissionLimits { callers: 64, ..limits() };
            let admission = Admission::new(limits.clone());
            let mut now = 0;
            // Permit, and whether it has succeeded.
            let mut open: Vec<(Permit, bool)> = Vec::new();
            let mut admitted = [0_u64; 6];
            for step in steps {
                match step {
                    Step::Call(number) => match admission.handshake(&peer(number), Instant::from_millis(now)) {
                        Decision::Admit(permit) => {
                            open.push((permit, false));
                            admitted[usize::from(number)] += 1;
                        }
                        Decision::Busy { retry_after } => {
                            prop_assert!(retry_after >= 1);
                            let full = admission.handshakes() >= limits.handshakes || admission.sessions() >= limits.sessions;
                            if !full {
                                // Whoever waits as long as it was told gets in.
                                let later = Instant::from_millis(now + u64::from(retry_after) * 1000);
                                match admission.handshake(&peer(number), later) {
                                    Decision::Admit(permit) => open.push((permit, false)),
                                    Decision::Busy { .. } => prop_assert!(false, "told to come back in vain"),
                                }
                                now = later.as_millis();
                                admitted[usize::from(number)] += 1;
                            }
                        }
                    },
                    Step::Succeed(index) => if let Some((permit, succeeded)) = open.get_mut(index) {
                        permit.succeeded();
                        *succeeded = true;
                    },
                    Step::Fault(index) => if index < open.len() {
                        open.remove(index).0.faulted();
                    },
                    Step::Leave(index) => if index < open.len() {
                        drop(open.remove(index));
                    },
                    Step::Wait(millis) => now += u64::from(millis),
                }
                let running = open.iter().filter(|(_, succeeded)| !succeeded).count();
                prop_assert_eq!((admission.handshakes(), admission.sessions()), (running, open.len()));
                prop_assert!(running <= limits.handshakes && open.len() <= limits.sessions);
                // Even if all of them had succeeded, nobody can have had more tokens than there were.
                for calls in admitted {
                    prop_assert!(calls <= u64::from(limits.burst) + now * u64::from(limits.per_minute) / 60_000 + 1);
                }
            }
            drop(open);
            prop_assert_eq!((admission.handshakes(), admission.sessions()), (0, 0));
        }

        #[test]
        fn who_fails_is_slowed_down(calls in proptest::collection::vec(0..3000_u64, 1..300)) {
            let admission = Admission::new(limits());
            let (mut now, mut failed) = (0, 0);
            for wait in calls {
                now += wait;
                if let Decision::Admit(permit) = admission.handshake(&peer(1), Instant::from_millis(now)) {
                    drop(permit);
                    failed += 1;
                }
                // 20 tokens at first, one a second, ten for each failure, nine of them on credit.
                prop_assert!(failed * 10 <= 20 + now / 1000 + 9);
            }
        }
    }
}
