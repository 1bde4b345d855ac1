//! Which terminals are on line at this node: an alarm, not a truth.

use crate::store::TerminalId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// The calls that run, by terminal.
#[derive(Default)]
pub(super) struct Online {
    calls: Mutex<HashMap<TerminalId, Call>>,
}

struct Call {
    number: u64,
    peer: String,
    displaced: CancellationToken,
}

/// What is found when a terminal comes on line.
pub(super) struct Arrival {
    /// Cancelled when another call of the same terminal comes.
    pub(super) displaced: CancellationToken,
    /// Where an earlier call of the same terminal, still open, came from.
    pub(super) elsewhere: Option<String>,
}

impl Online {
    /// The newest call of a terminal is the one that counts: a terminal whose line broke calls again long before its old
    /// call has timed out.
    pub(super) fn arrive(&self, terminal: TerminalId, number: u64, peer: &str) -> Arrival {
        let displaced = CancellationToken::new();
        let call = Call {
            number,
            peer: peer.to_owned(),
            displaced: displaced.clone(),
        };
        let earlier = self
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(terminal, call);
        let elsewhere = earlier.map(|earlier| {
            earlier.displaced.cancel();
            earlier.peer
        });
        Arrival { displaced, elsewhere }
    }

    pub(super) fn leave(&self, terminal: TerminalId, number: u64) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.get(&terminal).is_some_and(|call| call.number == number) {
            calls.remove(&terminal);
        }
    }
}
