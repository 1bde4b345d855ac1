//! Where an action stands: taken down in the journal before anything else is done.

use super::action::Held;
use super::journal::object_name;
use super::{Agent, AgentError};
use tms_proto::code::{ResultCode, Stage};
use tms_proto::message::ActionResult;
use tracing::{info, warn};

impl Agent {
    /// An attempt failed. It is over, or tried again from `stage` on.
    pub(super) async fn attempt_failed(
        &mut self,
        held: &Held,
        code: ResultCode,
        vendor_code: Option<u32>,
        text: &str,
        stage: Stage,
    ) -> Result<(), AgentError> {
        let now = self.now();
        let id = held.action.id;
        warn!(action = id, %code, text, "attempt failed");
        let mut next = held.clone();
        let journal = &mut self.notebook.journal;
        match next.fail(code, now.clock, &self.options, &*self.entropy) {
            Some((stage, code)) => {
                let result = held.result(stage, code, text, now.stamp());
                journal.finish(ActionResult { vendor_code, ..result });
            }
            None => {
                next.stage = stage;
                let result = held.result(Stage::Waiting, code, text, now.stamp());
                journal.report(ActionResult { vendor_code, ..result });
                if let Some(place) = journal.actions.iter_mut().find(|held| held.action.id == id) {
                    *place = next;
                }
            }
        }
        journal.error(now.stamp(), code, text);
        Ok(self.notebook.save().await?)
    }

    /// A representation is no use here: it goes, and the content is wanted whole from now on (§9.8). It costs no attempt, for
    /// it happens once.
    pub(super) async fn want_whole(&mut self, held: &Held, text: &str) -> Result<(), AgentError> {
        let now = self.now();
        let (id, code) = (held.action.id, ResultCode::Undecodable);
        warn!(action = id, text, "representation is no use, content is wanted whole");
        let object = held.coded().map(|coded| coded.object);
        let journal = &mut self.notebook.journal;
        if let Some(held) = journal.actions.iter_mut().find(|held| held.action.id == id) {
            held.whole = true;
            held.sound = 0;
            if held.stage != Stage::Accepted {
                held.stage = Stage::Downloading;
            }
        }
        journal.report(held.result(Stage::Waiting, code, text, now.stamp()));
        journal.error(now.stamp(), code, text);
        if let Some(object) = object {
            journal.marks.remove(&object);
        }
        self.notebook.save().await?;
        if let Some(object) = object {
            self.notebook.flash.remove(&object_name(&object)).await?;
        }
        Ok(())
    }

    /// Takes down what an action waits for, once for each reason.
    pub(super) async fn wait(&mut self, id: u64, code: ResultCode, text: &str) -> Result<(), AgentError> {
        let stamp = self.now().stamp();
        let journal = &mut self.notebook.journal;
        let Some(held) = journal.actions.iter_mut().find(|held| held.action.id == id) else {
            return Ok(());
        };
        if held.waiting == Some(code) {
            return Ok(());
        }
        held.waiting = Some(code);
        let result = held.result(Stage::Waiting, code, text, stamp);
        journal.report(result);
        Ok(self.notebook.save().await?)
    }

    /// An action has come to a stage.
    pub(super) async fn reach(
        &mut self,
        id: u64,
        stage: Stage,
        result: ActionResult,
        change: impl FnOnce(&mut Held),
    ) -> Result<(), AgentError> {
        info!(action = id, %stage, "action goes on");
        let journal = &mut self.notebook.journal;
        if let Some(held) = journal.actions.iter_mut().find(|held| held.action.id == id) {
            held.stage = stage;
            held.waiting = None;
            held.retry = None;
            change(held);
        }
        journal.report(result);
        Ok(self.notebook.save().await?)
    }

    pub(super) async fn change(&mut self, id: u64, change: impl FnOnce(&mut Held)) -> Result<(), AgentError> {
        if let Some(held) = self
            .notebook
            .journal
            .actions
            .iter_mut()
            .find(|held| held.action.id == id)
        {
            change(held);
        }
        Ok(self.notebook.save().await?)
    }

    pub(super) async fn finish(&mut self, result: ActionResult) -> Result<(), AgentError> {
        info!(action = result.action, stage = %result.stage, code = %result.code, "action is over");
        self.notebook.journal.finish(result);
        Ok(self.notebook.save().await?)
    }
}
