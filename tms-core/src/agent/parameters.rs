//! Parameter sets (§9.9): downloaded as any object, checked by their digest, put in force whole, and seen in the inventory.
//!
//! A set is not signed. It comes in the plan's own session, which both sides have authenticated, and is what its digest says.

use super::action::{Held, SetRef};
use super::conversation::Conversation;
use super::device::{Content, DeviceError};
use super::download::Need;
use super::fetch::Part;
use super::journal::object_name;
use super::package::Refused;
use super::timeline::Now;
use super::work::{Step, Target};
use super::{Agent, AgentError};
use crate::rule::template::Document;
use std::sync::Arc;
use tms_proto::code::{ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_proto::message::{ActionResult, MAX_PARAMETER_SET};

impl Conversation<'_, '_> {
    /// What an action needs that brings a parameter set: the set, unless it is in force.
    pub(super) async fn need_set(&mut self, held: &Held, set: &SetRef) -> Result<Need, AgentError> {
        let agent = &mut *self.agent;
        if agent.in_force(&set.name).await.ok().flatten() == Some(set.digest) {
            let result = held.result(
                Stage::RunningConfirmed,
                ResultCode::Success,
                "in force already",
                agent.now().stamp(),
            );
            let running = Some(set.digest);
            agent.finish(ActionResult { running, ..result }).await?;
            return Ok(Need::Pass);
        }
        let here = agent.notebook.flash.size(&object_name(&set.digest)).await?;
        // Once here, and once where the device puts it.
        let needed = set.size.saturating_mul(2).saturating_sub(here.unwrap_or(0));
        let needed = needed.saturating_add(agent.options.reserve);
        let free = agent.notebook.flash.free().await?;
        if needed > free {
            let text = format!("{needed} bytes needed, {free} free");
            self.fail(held, Refused::new(ResultCode::NoSpace, text), held.stage)
                .await?;
            return Ok(Need::Pass);
        }
        self.fetch(held.action.id, Part::Content, set.digest, set.size, None)
            .await
    }
}

impl Agent {
    /// The digest of the set of this name that is in force.
    async fn in_force(&self, name: &str) -> Result<Option<Digest>, DeviceError> {
        let inventory = self.device.components.inventory().await?;
        let set = inventory.parameters.iter().find(|set| set.name == name);
        Ok(set.map(|set| set.digest))
    }

    /// What was downloaded is the set that the plan names, and nothing else.
    pub(super) async fn verify_set(&mut self, held: &Held, set: &SetRef, now: Now) -> Result<Step, AgentError> {
        let most = usize::try_from(MAX_PARAMETER_SET).unwrap_or(usize::MAX);
        let Some(content) = self.notebook.object(&set.digest, most).await? else {
            let damaged = Refused::new(ResultCode::HardwareError, "parameters were damaged in memory");
            return self.refuse(held, damaged, Stage::Downloading).await;
        };
        let wrong = match Document::decode(&content) {
            Ok(document) if document.template == set.name => None,
            Ok(_) => Some(Refused::new(ResultCode::InvalidContent, "parameters of another name")),
            Err(error) => Some(Refused::new(ResultCode::FormatError, error.to_string())),
        };
        if let Some(wrong) = wrong {
            return self.refuse(held, wrong, Stage::Downloaded).await;
        }
        let result = held.result(Stage::Verified, ResultCode::Success, "", now.stamp());
        self.reach(held.action.id, Stage::Verified, result, |_| {}).await?;
        Ok(Step::Changed)
    }

    /// Puts a verified set in force, if the terminal is ready.
    pub(super) async fn set_parameters(&mut self, held: &Held, set: &SetRef, now: Now) -> Result<Step, AgentError> {
        if let Some(step) = self.ready(held, &Target::named(&set.name), now).await? {
            return Ok(step);
        }
        let flash = Arc::clone(&self.notebook.flash);
        let content = Content::new(flash, object_name(&set.digest), set.size);
        if let Err(error) = self.device.installer.set_parameters(&set.name, &content).await {
            // What the device has read may have been damaged: it is verified again before the next attempt.
            return self.device_failed(held, &error, Stage::Downloaded).await;
        }
        let result = held.result(Stage::Activated, ResultCode::Success, "", now.stamp());
        self.reach(held.action.id, Stage::Activated, result, |_| {}).await?;
        Ok(Step::Changed)
    }

    /// What the inventory says is in force is what was put in force, or it is not.
    pub(super) async fn confirm_set(&mut self, held: &Held, set: &SetRef, now: Now) -> Result<Step, AgentError> {
        let running = match self.in_force(&set.name).await {
            Ok(running) => running,
            Err(error) => return self.not_now(held.action.id, &error).await,
        };
        let result = if running == Some(set.digest) {
            held.result(Stage::RunningConfirmed, ResultCode::Success, "", now.stamp())
        } else {
            let text = "other parameters are in force";
            held.result(Stage::RolledBack, ResultCode::RolledBack, text, now.stamp())
        };
        self.finish(ActionResult { running, ..result }).await?;
        Ok(Step::Changed)
    }
}
