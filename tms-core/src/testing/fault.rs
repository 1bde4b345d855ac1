//! A store that fails when it is told to, for crash tests.

use super::seed::Seed;
use crate::store::{
    Caller, Change, CheckIn, Event, Group, Key, Query, Record, Sequence, Store, StoreError, Tally, Versioned,
};
use async_trait::async_trait;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is [`StoreError::Unavailable`], and nothing was done.
    Fail,
    /// The call is [`StoreError::Unavailable`], but it was done.
    Lose,
}

/// Which calls go wrong.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// None.
    Never,
    /// The `call`-th, counted from 1 since the store was made.
    At {
        /// Which.
        call: u64,
        /// How.
        fault: Fault,
    },
    /// The `call`-th and all that follow: the store is gone.
    From {
        /// The first.
        call: u64,
        /// How.
        fault: Fault,
    },
    /// Some, by chance.
    Random {
        /// Replays the same choices.
        seed: Seed,
        /// How many in a thousand fail.
        fail: u32,
        /// How many in a thousand are done and lost.
        lose: u32,
    },
}

/// A store that fails, or does what it is told and then loses the caller, as a [`Schedule`] says.
///
/// Calls are counted from 1 in the order in which they begin: a test runs once with [`Schedule::Never`], asks for
/// [`calls`](Self::calls), and then runs once for each call with [`Schedule::At`].
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    calls: u64,
    faults: u64,
}

impl FaultyStore {
    /// Wraps a store. Clones share the count and the schedule.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, schedule: Schedule) -> Self {
        Self {
            inner,
            state: Arc::new(Mutex::new(State {
                schedule,
                calls: 0,
                faults: 0,
            })),
        }
    }

    /// Changes the schedule; calls are counted on.
    pub fn schedule(&self, schedule: Schedule) {
        self.with(|state| state.schedule = schedule);
    }

    /// How many calls have begun.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.with(|state| state.calls)
    }

    /// How many of them went wrong.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.with(|state| state.faults)
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a call, or not, or in vain.
    async fn call<R>(&self, call: impl Future<Output = Result<R, StoreError>> + Send) -> Result<R, StoreError> {
        let (number, fault) = self.with(State::begin);
        if fault != Some(Fault::Fail) {
            let outcome = call.await;
            if fault.is_none() {
                return outcome;
            }
        }
        Err(StoreError::Unavailable(format!("injected at call {number}")))
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|state| fmt::Debug::fmt(state, f))
    }
}

impl State {
    fn begin(&mut self) -> (u64, Option<Fault>) {
        self.calls += 1;
        let number = self.calls;
        let fault = match &mut self.schedule {
            Schedule::At { call, fault } if *call == number => Some(*fault),
            Schedule::From { call, fault } if *call <= number => Some(*fault),
            Schedule::Random { seed, fail, lose } => {
                // one number for both, so that each call costs the same randomness
                match seed.below(1000) {
                    drawn if drawn < u64::from(*fail) => Some(Fault::Fail),
                    drawn if drawn < u64::from(fail.saturating_add(*lose)) => Some(Fault::Lose),
                    _ => None,
                }
            }
            _ => None,
        };
        self.faults += u64::from(fault.is_some());
        (number, fault)
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn check_in(&self, caller: &Caller) -> Result<Option<CheckIn>, StoreError> {
        self.call(self.inner.check_in(caller)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Versioned<Record>>, StoreError> {
        self.call(self.inner.get(key)).await
    }

    async fn list(&self, query: &Query, limit: u32) -> Result<Vec<Versioned<Record>>, StoreError> {
        self.call(self.inner.list(query, limit)).await
    }

    async fn tally(&self, tally: &Tally, limit: u32) -> Result<Vec<Group>, StoreError> {
        self.call(self.inner.tally(tally, limit)).await
    }

    async fn events(&self, after: Sequence, limit: u32) -> Result<Vec<(Sequence, Event)>, StoreError> {
        self.call(self.inner.events(after, limit)).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.call(self.inner.commit(changes)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::testing::sample;

    fn append(what: &str) -> Vec<Change> {
        vec![Change::Append(sample::said(1, what))]
    }

    async fn count(store: &dyn Store) -> usize {
        store.events(0, 100).await.unwrap().len()
    }

    #[tokio::test]
    async fn the_nth_call_fails_or_is_lost() {
        let inner = Arc::new(MemoryStore::new());
        let store = FaultyStore::new(
            inner.clone(),
            Schedule::At {
                call: 2,
                fault: Fault::Fail,
            },
        );
        store.commit(append("one")).await.unwrap();
        let error = store.commit(append("two")).await.unwrap_err();
        assert_eq!(error.to_string(), "store unavailable: injected at call 2");
        assert!(error.is_transient());
        assert_eq!(count(&*inner).await, 1);

        store.schedule(Schedule::At {
            call: 3,
            fault: Fault::Lose,
        });
        assert!(store.commit(append("three")).await.unwrap_err().is_transient());
        assert_eq!(count(&*inner).await, 2);
        store.commit(append("four")).await.unwrap();
        assert_eq!((count(&*inner).await, store.calls(), store.faults()), (3, 4, 2));

        store.schedule(Schedule::From {
            call: 6,
            fault: Fault::Fail,
        });
        assert!(store.get(&Key::Terminal(crate::store::TerminalId(1))).await.is_ok());
        assert!(store.check_in(&Caller::Holder(sample::holder("x"))).await.is_err());
        assert!(store.list(&Query::Terminals(None), 1).await.is_err());
        assert!(store.events(0, 1).await.is_err());
    }

    #[tokio::test]
    async fn a_seed_replays_its_faults() {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let inner = Arc::new(MemoryStore::new());
            let store = FaultyStore::new(
                inner.clone(),
                Schedule::Random {
                    seed: Seed::new(7),
                    fail: 200,
                    lose: 200,
                },
            );
            let mut run = Vec::new();
            for _ in 0..100 {
                run.push(store.commit(append("x")).await.is_ok());
            }
            let acknowledged = run.iter().filter(|done| **done).count();
            assert!(acknowledged < count(&*inner).await && count(&*inner).await < 100);
            assert_eq!(usize::try_from(store.faults()).unwrap(), 100 - acknowledged);
            runs.push(run);
        }
        assert_eq!(runs[0], runs[1]);
    }
}
