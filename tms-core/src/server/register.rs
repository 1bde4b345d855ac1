//! Online registration (§7.8): what the estate decides of it is recorded before the terminal is told.

use super::Inner;
use crate::estate::{Decided, Desk};
use crate::rule::relocation::Observed;
use crate::store::{Caller, StoreError, TerminalId};
use tms_proto::message::{Register, RegisterAnswer};

/// How often a registration is decided again after a conflict.
const ATTEMPTS: usize = 8;

impl Inner {
    /// Registers a terminal that has proved itself.
    pub(super) async fn register(
        &self,
        id: TerminalId,
        register: &Register,
        observed: &Observed,
    ) -> Result<RegisterAnswer, StoreError> {
        let store = &*self.services.store;
        for _ in 0..ATTEMPTS {
            let Some(known) = store.check_in(&Caller::Id(id)).await? else {
                return Err(StoreError::Backend(
                    "the terminal was removed during its call".to_owned(),
                ));
            };
            let desk = Desk {
                store,
                now: self.services.clock.now(),
                terminal: &known.terminal,
                register,
                observed,
            };
            let Decided { changes, answer } = desk.decide().await?;
            match store.commit(changes).await {
                Err(StoreError::Conflict) => {}
                done => return done.map(|()| answer),
            }
        }
        Err(StoreError::Unavailable("too many conflicts".to_owned()))
    }
}
