//! Removing a component.

use super::action::Held;
use super::device::DeviceError;
use super::journal::keep_last;
use super::package::Refused;
use super::timeline::Now;
use super::work::{Step, Target};
use super::{Agent, AgentError};
use tms_proto::code::{ComponentKind, ResultCode, Stage};
use tms_proto::package::Installed;

/// Components that were removed and whose security counters are remembered.
const MAX_REMOVED: usize = 64;

/// How a component stands.
enum Found {
    There,
    Gone,
    /// It is the main-control application: without it nobody could bring anything back.
    Needed,
}

impl Agent {
    /// Removes a component, if the terminal is ready; one that is not there is removed already.
    pub(super) async fn remove(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        let id = held.action.id;
        let component = held.action.component.clone().unwrap_or_default();
        match self.find(&component).await {
            Ok(Found::Gone) => return self.removed(held, &component, now).await,
            Ok(Found::There) => {}
            Ok(Found::Needed) => {
                let refused = Refused::new(ResultCode::NotPermitted, "the main-control application stays");
                return self.refuse(held, refused, Stage::Accepted).await;
            }
            Err(error) => return self.not_now(id, &error).await,
        }
        if let Some(step) = self.ready(held, &Target::named(&component), now).await? {
            return Ok(step);
        }
        let removed = match self.device.installer.remove(&component).await {
            Ok(()) => self.find(&component).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(Found::Gone) => self.removed(held, &component, now).await,
            Ok(_) => {
                let error = DeviceError::new(ResultCode::ApplicationError, "it is still there");
                self.device_failed(held, &error, Stage::Accepted).await
            }
            Err(error) => self.device_failed(held, &error, Stage::Accepted).await,
        }
    }

    async fn find(&self, component: &str) -> Result<Found, DeviceError> {
        let inventory = self.device.components.inventory().await?;
        let listed = inventory.components.iter().find(|listed| listed.id == component);
        if listed.is_some_and(|listed| listed.kind == ComponentKind::MainControl) {
            return Ok(Found::Needed);
        }
        // One that was installed and has never run is not listed.
        let running = self.device.installer.running(component).await?;
        let there = listed.is_some() || running.content.is_some() || running.pending.is_some();
        Ok(if there { Found::There } else { Found::Gone })
    }

    /// It is gone. Its security counter is remembered: who removes a version must not be able to bring back a lower one.
    async fn removed(&mut self, held: &Held, component: &str, now: Now) -> Result<Step, AgentError> {
        let journal = &mut self.notebook.journal;
        let is_gone = |installed: &mut Installed| installed.component == component;
        let gone: Vec<_> = journal.installed.extract_if(.., is_gone).collect();
        journal.removed.extend(gone);
        keep_last(&mut journal.removed, MAX_REMOVED);
        self.finish(held.result(Stage::RunningConfirmed, ResultCode::Success, "", now.stamp()))
            .await?;
        Ok(Step::Changed)
    }
}
