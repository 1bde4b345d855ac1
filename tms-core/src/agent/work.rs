//! Off line: verifying, installing, activating, and seeing what became of it.

use super::action::{Held, Move, in_the_way};
use super::decode::{Undecoded, decode};
use super::device::{Activation, Answer, Content, DeviceError, Trial};
use super::journal::object_name;
use super::package::{Gate, Refused, check_content, manifest};
use super::schedule::Wait;
use super::timeline::Now;
use super::{Agent, AgentError};
use std::time::Duration;
use tms_proto::code::{ActionKind, ResultCode, Stage, TextStatus};
use tms_proto::message::{ActionResult, Precondition, Text, TextReceipt};
use tms_proto::package::{Manifest, VerifiedManifest};
use tracing::warn;

/// How often an activation is begun before a version that never runs is taken for one that does not.
const MAX_ACTIVATIONS: u8 = 3;

/// What was done off line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkReport {
    /// What became of actions, in the order in which it happened.
    pub results: Vec<ActionResult>,
    /// The terminal is to be started again, now: what was activated runs then.
    pub restart: bool,
    /// When there is something to do again without a call; `None` where there is not.
    pub again: Option<Duration>,
}

/// What an action is about to change.
pub(super) struct Target {
    pub(super) component: String,
    /// What the merchant is asked where the action says nothing.
    pub(super) words: String,
    pub(super) settle_first: bool,
}

impl Target {
    fn of(manifest: &Manifest) -> Self {
        Self {
            component: manifest.component.clone(),
            words: format!("{} {}", manifest.component, manifest.version),
            settle_first: manifest.hints.settle_first == Some(true),
        }
    }

    /// Something that has no manifest.
    pub(super) fn named(component: &str) -> Self {
        Self {
            component: component.to_owned(),
            words: component.to_owned(),
            settle_first: false,
        }
    }
}

/// What one step has done.
pub(super) enum Step {
    /// Something changed: look again.
    Changed,
    /// Nothing to do now, for that many seconds at least; zero where only a call, or the merchant, can change that.
    Rest(u64),
    /// What was activated runs after a restart.
    Restart,
}

impl Agent {
    /// Does everything that can be done without a call: verifies what was downloaded, installs, activates, confirms or rolls
    /// back, shows texts. What it did is queued for the server.
    ///
    /// It may be broken off at any point, by dropping the future or by a loss of power, and goes on when it is called again.
    ///
    /// # Errors
    /// Where the terminal's memory fails. What a device cannot do is a result, not an error.
    pub async fn work(&mut self) -> Result<WorkReport, AgentError> {
        let first = self.notebook.journal.last_result;
        let mut report = WorkReport::default();
        self.show_texts().await?;
        let ids: Vec<u64> = self
            .notebook
            .journal
            .actions
            .iter()
            .map(|held| held.action.id)
            .collect();
        let mut waits = Vec::new();
        for id in ids {
            loop {
                match self.step(id).await? {
                    Step::Changed => {}
                    Step::Rest(seconds) => {
                        waits.push(seconds);
                        break;
                    }
                    Step::Restart => {
                        report.restart = true;
                        break;
                    }
                }
            }
        }
        self.notebook.sweep().await?;
        // The device may be in the middle of a restart that it was asked for before; once more does no harm.
        report.again = waits
            .into_iter()
            .filter(|seconds| *seconds > 0)
            .min()
            .map(Duration::from_secs);
        let new = |result: &&ActionResult| result.number > first;
        report.results = self.notebook.journal.results.iter().filter(new).cloned().collect();
        Ok(report)
    }

    /// The next step of one action.
    async fn step(&mut self, id: u64) -> Result<Step, AgentError> {
        let now = self.now();
        let Some(held) = self.held(id).cloned() else {
            return Ok(Step::Rest(0));
        };
        match held.next(&self.view(&held, now)) {
            // Only a call can download.
            Move::Download => Ok(Step::Rest(0)),
            Move::Wait(code, seconds) => {
                self.wait(id, code, "").await?;
                Ok(Step::Rest(seconds))
            }
            Move::End(stage, code, text) => {
                self.finish(held.result(stage, code, &text, now.stamp())).await?;
                Ok(Step::Changed)
            }
            Move::Verify => match held.parameter_set() {
                Some(set) => self.verify_set(&held, &set, now).await,
                None => self.verify(&held, now).await,
            },
            Move::Install => match held.action.kind {
                ActionKind::Restart => self.begin_restart(&held, now).await,
                ActionKind::DeviceRequest => self.show_prompt(&held, now).await,
                ActionKind::Delete => self.remove(&held, now).await,
                _ => match held.parameter_set() {
                    Some(set) => self.set_parameters(&held, &set, now).await,
                    None => self.install(&held, now).await,
                },
            },
            Move::Activate => self.activate(&held, now).await,
            Move::Confirm if held.action.kind == ActionKind::Restart => self.end_restart(&held, now).await,
            Move::Confirm => match held.parameter_set() {
                Some(set) => self.confirm_set(&held, &set, now).await,
                None => self.confirm(&held, now).await,
            },
        }
    }

    async fn verify(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        let verified = match self.checked(held, now).await {
            Ok(verified) => verified,
            Err(refused) => return self.refuse(held, refused, Stage::Downloaded).await,
        };
        let mut sound = check_content(&self.notebook, verified.manifest()).await;
        if let (Ok(false), Some(coded)) = (&sound, held.coded()) {
            let installer = std::sync::Arc::clone(&self.device.installer);
            match decode(&self.notebook, &*installer, verified.manifest(), &coded).await {
                Ok(()) => sound = check_content(&self.notebook, verified.manifest()).await,
                Err(Undecoded::Flash(error)) => {
                    let error = DeviceError::from(error);
                    return self.refuse(held, error.into(), Stage::Downloaded).await;
                }
                Err(Undecoded::Never(why)) => return self.not_decoded(held, &why).await,
            }
            if matches!(sound, Ok(false)) {
                return self.not_decoded(held, "it gives another content").await;
            }
            // What it was decoded from is not needed beside the content.
            self.notebook.flash.remove(&object_name(&coded.object)).await?;
        }
        match sound {
            Ok(true) => {}
            Ok(false) => {
                let damaged = Refused::new(ResultCode::HardwareError, "content was damaged in memory");
                return self.refuse(held, damaged, Stage::Downloading).await;
            }
            Err(error) => return self.refuse(held, error.into(), Stage::Downloaded).await,
        }
        let result = held.result(Stage::Verified, ResultCode::Success, "", now.stamp());
        if held.action.kind == ActionKind::Download {
            self.finish(result).await?;
            return Ok(Step::Changed);
        }
        let installed = verified.installed();
        self.reach(held.action.id, Stage::Verified, result, |held| {
            held.installed = Some(installed);
        })
        .await?;
        Ok(Step::Changed)
    }

    async fn not_decoded(&mut self, held: &Held, why: &str) -> Result<Step, AgentError> {
        if let Some(content) = held.content {
            self.notebook.flash.remove(&object_name(&content)).await?;
        }
        self.want_whole(held, why).await?;
        Ok(Step::Changed)
    }

    async fn install(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        let id = held.action.id;
        // What was verified long ago may have expired, or the trust store may have changed since.
        let verified = match self.checked(held, now).await {
            Ok(verified) => verified,
            Err(refused) => return self.refuse(held, refused, Stage::Verified).await,
        };
        let manifest = verified.manifest();
        if let Some(step) = self.ready(held, &Target::of(manifest), now).await? {
            return Ok(step);
        }
        let content = Content::new(
            std::sync::Arc::clone(&self.notebook.flash),
            object_name(&manifest.digest),
            manifest.size,
        );
        if let Err(error) = self.device.installer.install(manifest, &content).await {
            // What the installer has read may have been damaged: what is kept is looked at again before it tries again.
            return self.device_failed(held, &error, Stage::Downloaded).await;
        }
        let result = held.result(Stage::Installed, ResultCode::Success, "", now.stamp());
        self.reach(id, Stage::Installed, result, |_| {}).await?;
        Ok(Step::Changed)
    }

    async fn activate(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        let id = held.action.id;
        let verified = match self.checked(held, now).await {
            Ok(verified) => verified,
            Err(refused) => return self.refuse(held, refused, Stage::Installed).await,
        };
        let manifest = verified.manifest();
        let running = match self.device.installer.running(&manifest.component).await {
            Ok(running) => running,
            Err(error) => return self.device_failed(held, &error, Stage::Installed).await,
        };
        if running.content != Some(manifest.digest) && running.pending != Some(manifest.digest) {
            if held.activations >= MAX_ACTIVATIONS {
                let result = held.result(Stage::RolledBack, ResultCode::RolledBack, "never ran", now.stamp());
                self.finish(ActionResult {
                    running: running.content,
                    ..result
                })
                .await?;
                return Ok(Step::Changed);
            }
            if let Some(step) = self.ready(held, &Target::of(manifest), now).await? {
                return Ok(step);
            }
            // Counted before it is begun: a version that takes the terminal down with it must not do so for ever.
            self.change(id, |held| held.activations = held.activations.saturating_add(1))
                .await?;
            let activation = self
                .device
                .installer
                .activate(&manifest.component, &manifest.digest)
                .await;
            match activation {
                Ok(Activation::Running | Activation::AfterRestart) => {}
                // It was there, and was chosen before: the terminal has tried it and given it up.
                Err(error) if error.code == ResultCode::UnknownReference && held.activations > 0 => {
                    let result = held.result(Stage::RolledBack, ResultCode::RolledBack, &error.text, now.stamp());
                    self.finish(ActionResult {
                        running: running.content,
                        ..result
                    })
                    .await?;
                    return Ok(Step::Changed);
                }
                Err(error) if error.code == ResultCode::UnknownReference => {
                    return self.device_failed(held, &error, Stage::Downloaded).await;
                }
                Err(error) => return self.device_failed(held, &error, Stage::Installed).await,
            }
        }
        let result = held.result(Stage::Activated, ResultCode::Success, "", now.stamp());
        self.reach(id, Stage::Activated, result, |_| {}).await?;
        Ok(Step::Changed)
    }

    /// An activated version runs and says so, or it is rolled back.
    async fn confirm(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        let (Some(component), Some(content)) = (held.component.clone(), held.content) else {
            let text = "journal does not say what was activated";
            self.finish(held.result(Stage::Rejected, ResultCode::UnlistedError, text, now.stamp()))
                .await?;
            return Ok(Step::Changed);
        };
        let installer = std::sync::Arc::clone(&self.device.installer);
        let running = match installer.running(&component).await {
            Ok(running) => running,
            Err(error) => return self.not_now(held.action.id, &error).await,
        };
        if running.content != Some(content) {
            if running.pending == Some(content) {
                return self.restart_when_ready(held, &component).await;
            }
            let result = held.result(
                Stage::RolledBack,
                ResultCode::RolledBack,
                "the old version runs",
                now.stamp(),
            );
            self.finish(ActionResult {
                running: running.content,
                ..result
            })
            .await?;
            return Ok(Step::Changed);
        }
        match running.trial {
            Trial::Confirmed => {
                if let Some(installed) = held.installed.clone() {
                    self.notebook.journal.keep_installed(installed);
                }
                let result = held.result(Stage::RunningConfirmed, ResultCode::Success, "", now.stamp());
                self.finish(ActionResult {
                    running: running.content,
                    ..result
                })
                .await?;
                Ok(Step::Changed)
            }
            Trial::Trying => match held.trial.filter(|trial| !trial.is_broken(now.clock)) {
                // A clock that was reset begins the trial again: nobody knows how long it has lasted.
                None => {
                    let trial = Wait::new(now.clock, self.options.confirm_within);
                    self.change(held.action.id, |held| held.trial = Some(trial)).await?;
                    Ok(Step::Rest(self.options.recheck.min(self.options.confirm_within)))
                }
                Some(trial) if trial.left(now.clock) > 0 => {
                    Ok(Step::Rest(self.options.recheck.min(trial.left(now.clock))))
                }
                Some(_) => self.roll_back(held, &component).await,
            },
            Trial::Failed => self.roll_back(held, &component).await,
        }
    }

    async fn roll_back(&mut self, held: &Held, component: &str) -> Result<Step, AgentError> {
        warn!(
            action = held.action.id,
            component, "new version does not confirm itself and is rolled back"
        );
        let installer = std::sync::Arc::clone(&self.device.installer);
        if let Err(error) = installer.roll_back(component).await {
            return self.not_now(held.action.id, &error).await;
        }
        match installer.running(component).await {
            Ok(running) if running.content != held.content => Ok(Step::Changed),
            Ok(_) => Ok(Step::Restart),
            Err(error) => self.not_now(held.action.id, &error).await,
        }
    }

    /// Asks for a restart, as soon as nobody is disturbed by it.
    async fn restart_when_ready(&mut self, held: &Held, component: &str) -> Result<Step, AgentError> {
        match self.device.installer.readiness(component).await {
            Ok(ready) => match in_the_way(&held.action, false, &ready, &self.options) {
                None => Ok(Step::Restart),
                Some((code, seconds)) => {
                    self.wait(held.action.id, code, "restart").await?;
                    Ok(Step::Rest(seconds))
                }
            },
            Err(error) => self.not_now(held.action.id, &error).await,
        }
    }

    async fn begin_restart(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        match self
            .restart_when_ready(held, held.action.component.as_deref().unwrap_or_default())
            .await?
        {
            Step::Restart => {
                let id = held.action.id;
                let result = held.result(Stage::Activated, ResultCode::Success, "", now.stamp());
                self.reach(id, Stage::Activated, result, |_| {}).await?;
                self.before_restart.push(id);
                Ok(Step::Restart)
            }
            other => Ok(other),
        }
    }

    async fn end_restart(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        if self.before_restart.contains(&held.action.id) {
            return Ok(Step::Restart);
        }
        self.finish(held.result(Stage::RunningConfirmed, ResultCode::Success, "", now.stamp()))
            .await?;
        Ok(Step::Changed)
    }

    async fn show_prompt(&mut self, held: &Held, now: Now) -> Result<Step, AgentError> {
        let body = held.action.prompt.clone().unwrap_or_default();
        let text = Text {
            id: held.action.id,
            title: String::new(),
            body,
            print: None,
            until: None,
            confirm: None,
        };
        let (stage, code) = match self.device.screen.show(&text).await {
            TextStatus::Refused => (Stage::Rejected, ResultCode::NotSupported),
            _ => (Stage::RunningConfirmed, ResultCode::Success),
        };
        self.finish(held.result(stage, code, "", now.stamp())).await?;
        Ok(Step::Changed)
    }

    /// Whether the terminal may be changed now: `None` if so.
    pub(super) async fn ready(&mut self, held: &Held, target: &Target, now: Now) -> Result<Option<Step>, AgentError> {
        let id = held.action.id;
        let ready = match self.device.installer.readiness(&target.component).await {
            Ok(ready) => ready,
            Err(error) => return Ok(Some(self.not_now(id, &error).await?)),
        };
        if let Some((code, seconds)) = in_the_way(&held.action, target.settle_first, &ready, &self.options) {
            self.wait(id, code, "").await?;
            return Ok(Some(Step::Rest(seconds)));
        }
        let must_agree = held.action.preconditions.unwrap_or(0) & Precondition::CONFIRMED != 0;
        let asks = must_agree || held.action.prompt.is_some();
        let most = held
            .action
            .max_postponed
            .unwrap_or(u16::MAX)
            .min(self.options.max_postponed);
        if held.agreed || held.action.forced == Some(true) || !asks || held.postponed >= most {
            return Ok(None);
        }
        let prompt = held.action.prompt.clone().unwrap_or_else(|| target.words.clone());
        match self.device.screen.ask(&prompt).await {
            Answer::Yes => {
                self.change(id, |held| held.agreed = true).await?;
                Ok(None)
            }
            Answer::Silent if !must_agree => Ok(None),
            Answer::Silent => {
                self.wait(id, ResultCode::Postponed, "nobody answered").await?;
                Ok(Some(Step::Rest(self.options.recheck)))
            }
            Answer::Later(seconds) => {
                let seconds = seconds.clamp(1, self.options.max_postponement);
                self.change(id, |held| {
                    held.postponed = held.postponed.saturating_add(1);
                    held.retry = Some(Wait::new(now.clock, seconds));
                })
                .await?;
                self.wait(id, ResultCode::Postponed, "").await?;
                Ok(Some(Step::Rest(seconds)))
            }
        }
    }

    /// The manifest of an action, verified again.
    async fn checked(&mut self, held: &Held, now: Now) -> Result<VerifiedManifest, Refused> {
        let Some(bytes) = manifest(&self.notebook, held).await? else {
            return Err(Refused::new(
                ResultCode::HardwareError,
                "manifest was damaged in memory",
            ));
        };
        let inventory = self.device.components.inventory().await?;
        self.gate(&inventory, now).check(&bytes, &held.action)
    }

    pub(super) fn gate<'a>(&'a self, inventory: &'a tms_proto::message::Inventory, now: Now) -> Gate<'a> {
        Gate {
            trust: &self.trust,
            holder: &self.identity.holder,
            inventory,
            installed: &self.notebook.journal.installed,
            removed: &self.notebook.journal.removed,
            now,
            options: &self.options,
        }
    }

    /// A package is refused: now, or for good. `stage` is where it goes on if it is tried again.
    pub(super) async fn refuse(&mut self, held: &Held, refused: Refused, stage: Stage) -> Result<Step, AgentError> {
        let Refused { code, text, later } = refused;
        let others = |other: &Held| other.action.id != held.action.id && other.waiting != Some(ResultCode::Missing);
        let may_come = code != ResultCode::Missing || self.notebook.journal.actions.iter().any(others);
        if later && may_come {
            self.wait(held.action.id, code, &text).await?;
            return Ok(Step::Rest(self.options.recheck));
        }
        self.attempt_failed(held, code, None, &text, stage).await?;
        Ok(Step::Changed)
    }

    pub(super) async fn device_failed(
        &mut self,
        held: &Held,
        error: &DeviceError,
        stage: Stage,
    ) -> Result<Step, AgentError> {
        self.attempt_failed(held, error.code, error.vendor_code, &error.text, stage)
            .await?;
        Ok(Step::Changed)
    }

    /// The device does not answer; what was activated goes on waiting, because nothing else can be done with it.
    pub(super) async fn not_now(&mut self, id: u64, error: &DeviceError) -> Result<Step, AgentError> {
        self.wait(id, error.code, &error.text).await?;
        Ok(Step::Rest(self.options.recheck))
    }

    async fn show_texts(&mut self) -> Result<(), AgentError> {
        let now = self.now();
        while let Some(text) = self.notebook.journal.texts.first().cloned() {
            let status = if text.until.is_some_and(|until| now.is_past(until)) {
                TextStatus::Refused
            } else {
                self.device.screen.show(&text).await
            };
            let journal = &mut self.notebook.journal;
            journal.texts.retain(|other| other.id != text.id);
            journal.receipt(TextReceipt {
                id: text.id,
                status,
                time: now.stamp(),
            });
            self.notebook.save().await?;
        }
        Ok(())
    }
}
