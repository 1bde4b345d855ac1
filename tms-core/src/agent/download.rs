//! Downloading, in a call: what is due, in its order; one object at a time.

use super::AgentError;
use super::action::{Coded, Held, Move};
use super::conversation::Conversation;
use super::device::Trial;
use super::fetch::{Fetch, Part, Taken};
use super::flash::FlashError;
use super::journal::object_name;
use super::package::{Refused, check_space};
use super::report::{Download, Progress};
use super::schedule::Wait;
use bytes::Bytes;
use tms_proto::code::{ActionKind, ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_proto::machine::Instant;
use tms_proto::message::{ActionResult, ObjectStart};
use tms_proto::package::{BlockMap, MAX_SIGNED, Manifest, VerifiedManifest};
use tms_proto::session::TerminalSession;
use tracing::{info, warn};

/// The most and the least that a loss of power may take of a download, in bytes.
const CHECKPOINT: (u64, u64) = (1024, 64 * 1024);

/// What an action needs next.
pub(super) enum Need {
    /// An object, from the server.
    Object(Box<Fetch>),
    /// Nothing: everything is here.
    Nothing,
    /// To be looked at again: it is done otherwise from now on.
    Other,
    /// Nothing more in this call.
    Pass,
}

impl Conversation<'_, '_> {
    /// Asks for the next object that is due, if there is one.
    pub(super) async fn start_next(&mut self, session: &mut TerminalSession, now: Instant) -> Result<(), AgentError> {
        while let Some(held) = self.due() {
            let id = held.action.id;
            if held.action.kind == ActionKind::Bind {
                self.agent.register_again().await?;
                self.passed.insert(id);
                continue;
            }
            if held.action.kind == ActionKind::Upload {
                self.send_log(session, now).await;
                let result = held.result(
                    Stage::RunningConfirmed,
                    ResultCode::Success,
                    "",
                    self.agent.now().stamp(),
                );
                self.agent.finish(result).await?;
                continue;
            }
            match self.need(&held).await? {
                Need::Object(fetch) => {
                    self.ask(session, now, *fetch);
                    return Ok(());
                }
                Need::Nothing => self.downloaded(id).await?,
                Need::Other => {}
                Need::Pass => {
                    self.passed.insert(id);
                }
            }
        }
        Ok(())
    }

    /// The first action that has something to do in a call.
    fn due(&self) -> Option<Held> {
        let now = self.agent.now();
        let actions = self.agent.notebook.journal.actions.iter();
        let mut due = actions.filter(|held| !self.passed.contains(&held.action.id));
        due.find(|held| held.next(&self.agent.view(held, now)) == Move::Download)
            .cloned()
    }

    /// What an action needs next. What is wrong with it is found out as early as it can be: a manifest that does not verify
    /// costs no content.
    async fn need(&mut self, held: &Held) -> Result<Need, AgentError> {
        let id = held.action.id;
        if let Some(set) = held.parameter_set() {
            return self.need_set(held, &set).await;
        }
        let (Some(digest), Some(size)) = (held.action.manifest, held.action.manifest_size) else {
            self.fail(
                held,
                Refused::new(ResultCode::Missing, "no manifest named"),
                Stage::Accepted,
            )
            .await?;
            return Ok(Need::Pass);
        };
        let Some(bytes) = self.agent.notebook.object(&digest, MAX_SIGNED).await? else {
            return self.fetch(id, Part::Manifest, digest, u64::from(size), None).await;
        };
        let verified = match self.check(held, &bytes).await {
            Ok(verified) => verified,
            Err(refused) => {
                self.fail(held, refused, Stage::Accepted).await?;
                return Ok(Need::Pass);
            }
        };
        let package = verified.manifest();
        self.name(id, package).await?;
        if held.action.kind != ActionKind::Download && self.runs_already(held, &verified).await? {
            return Ok(Need::Pass);
        }
        if let Some(coded) = held.coded() {
            return self.need_coded(held, package, coded).await;
        }
        let map = match &package.block_map {
            None => None,
            Some(reference) => {
                let most = usize::try_from(reference.size).unwrap_or(usize::MAX);
                let Some(bytes) = self.agent.notebook.object(&reference.digest, most).await? else {
                    return self
                        .fetch(id, Part::Map, reference.digest, u64::from(reference.size), None)
                        .await;
                };
                match BlockMap::decode(&bytes, reference, package.size) {
                    Ok(map) => Some(map),
                    Err(error) => {
                        self.fail(held, error.into(), Stage::Accepted).await?;
                        return Ok(Need::Pass);
                    }
                }
            }
        };
        if !self.has_room(held, package, None).await? {
            return Ok(Need::Pass);
        }
        self.fetch(id, Part::Content, package.digest, package.size, map).await
    }

    /// What an action needs whose content comes as a representation (§9.8). It needs no block map.
    async fn need_coded(&mut self, held: &Held, package: &Manifest, coded: Coded) -> Result<Need, AgentError> {
        let agent = &mut *self.agent;
        let content = agent.notebook.flash.size(&object_name(&package.digest)).await?;
        if content == Some(package.size) {
            // It is decoded already, or came with another action.
            return Ok(Need::Nothing);
        }
        if let Some(base) = coded.base {
            let running = agent.device.installer.running(&package.component).await;
            if running.ok().and_then(|running| running.content) != Some(base) {
                agent.want_whole(held, "what it is against does not run").await?;
                return Ok(Need::Other);
            }
        }
        if !self.has_room(held, package, Some(&coded)).await? {
            return Ok(Need::Pass);
        }
        self.fetch(held.action.id, Part::Representation, coded.object, coded.size, None)
            .await
    }

    async fn has_room(&mut self, held: &Held, package: &Manifest, coded: Option<&Coded>) -> Result<bool, AgentError> {
        let agent = &mut *self.agent;
        match check_space(&agent.notebook, &agent.device, &agent.options, package, coded).await {
            Ok(()) => Ok(true),
            Err(error) => {
                self.fail(held, error.into(), held.stage).await?;
                Ok(false)
            }
        }
    }

    /// Checks a manifest. What may be right later is no reason not to download now.
    async fn check(&mut self, held: &Held, bytes: &[u8]) -> Result<VerifiedManifest, Refused> {
        let now = self.agent.now();
        let inventory = &self.opened.status.inventory;
        self.agent.gate(inventory, now).check_for_download(bytes, &held.action)
    }

    /// Takes down what a manifest says of an action.
    async fn name(&mut self, id: u64, package: &Manifest) -> Result<(), AgentError> {
        let content = Some(package.digest);
        let block_map = package.block_map.map(|map| map.digest);
        let component = Some(package.component.clone());
        let journal = &mut self.agent.notebook.journal;
        let Some(held) = journal.actions.iter_mut().find(|held| held.action.id == id) else {
            return Ok(());
        };
        if held.content == content && held.block_map == block_map && held.component == component {
            return Ok(());
        }
        (held.content, held.block_map, held.component) = (content, block_map, component);
        Ok(self.agent.notebook.save().await?)
    }

    /// An action whose content runs and has confirmed itself is done: nothing is downloaded for it.
    async fn runs_already(&mut self, held: &Held, verified: &VerifiedManifest) -> Result<bool, AgentError> {
        let package = verified.manifest();
        let running = match self.agent.device.installer.running(&package.component).await {
            Ok(running) => running,
            Err(error) => {
                warn!(%error, "device does not say what runs");
                return Ok(false);
            }
        };
        if running.content != Some(package.digest) || running.trial != Trial::Confirmed || running.pending.is_some() {
            return Ok(false);
        }
        let result = held.result(
            Stage::RunningConfirmed,
            ResultCode::Success,
            "runs already",
            self.agent.now().stamp(),
        );
        self.agent.notebook.journal.keep_installed(verified.installed());
        self.agent
            .finish(ActionResult {
                running: running.content,
                ..result
            })
            .await?;
        Ok(true)
    }

    pub(super) async fn fetch(
        &mut self,
        id: u64,
        part: Part,
        digest: Digest,
        size: u64,
        map: Option<BlockMap>,
    ) -> Result<Need, AgentError> {
        let fetch = Fetch::resume(&self.agent.notebook, id, part, digest, size, map).await?;
        if !part.is_content() {
            // One that was here whole would have been found.
            return Ok(Need::Object(Box::new(fetch)));
        }
        self.sound(id, fetch.held);
        if fetch.is_complete() {
            return Ok(Need::Nothing);
        }
        let begun = self.agent.held(id).filter(|held| held.stage == Stage::Accepted);
        if let Some(held) = begun {
            let result = held.result(Stage::Downloading, ResultCode::Success, "", self.agent.now().stamp());
            self.agent.reach(id, Stage::Downloading, result, |_| {}).await?;
        }
        Ok(Need::Object(Box::new(fetch)))
    }

    fn ask(&mut self, session: &mut TerminalSession, now: Instant, mut fetch: Fetch) {
        fetch.until = fetch.held.saturating_add(self.credit());
        if session.download(now, fetch.digest, fetch.held, fetch.until).is_err() {
            self.passed.insert(fetch.action);
            return;
        }
        info!(action = fetch.action, object = %fetch.digest.short(), from = fetch.held, size = fetch.size, "download");
        if fetch.part.is_content() {
            let component = self.agent.held(fetch.action).and_then(|held| held.component.clone());
            self.report.downloads.push(Download {
                action: fetch.action,
                component: component.unwrap_or_default(),
                object: fetch.digest,
                from: fetch.held,
                until: fetch.held,
                size: fetch.size,
            });
        }
        self.fetch = Some(fetch);
    }

    fn credit(&self) -> u64 {
        u64::from(self.opened.profile.credit.max(1))
    }

    /// The server says what comes, or that it does not.
    pub(super) async fn object_start(&mut self, start: &ObjectStart) -> Result<(), AgentError> {
        let Some(fetch) = self.fetch.as_ref().filter(|fetch| fetch.digest == start.digest) else {
            return Ok(());
        };
        match start.code {
            Some(code) if code != ResultCode::Success => self.fetch_failed(code, "the server has not got it").await,
            // Endless data: what is larger than its manifest says is not taken at all.
            _ if start.total != fetch.size => {
                self.fetch_failed(ResultCode::LengthError, "object has another size than it must have")
                    .await
            }
            _ => Ok(()),
        }
    }

    /// The next bytes of the object.
    pub(super) async fn object_part(
        &mut self,
        session: &mut TerminalSession,
        now: Instant,
        offset: u64,
        bytes: Bytes,
    ) -> Result<(), AgentError> {
        // Parts of a transfer that was given up may still be on the line.
        let Some(mut fetch) = self.fetch.take().filter(|fetch| fetch.held == offset) else {
            return Ok(());
        };
        let length = u64::try_from(bytes.len()).unwrap_or_default();
        let (least, most) = CHECKPOINT;
        let checkpoint = self.credit().clamp(least, most);
        let taken = fetch.take(&mut self.agent.notebook, bytes, checkpoint).await;
        self.follow(&fetch, length);
        match taken {
            Ok(Taken::More) => {
                // Half of the credit is still to be used up when more is granted: the server never has to wait.
                let credit = self.credit();
                if fetch.until.saturating_sub(fetch.held) <= credit / 2 && fetch.until < fetch.size {
                    fetch.until = fetch.held.saturating_add(credit);
                    if session.grant(now, fetch.until).is_err() {
                        warn!("credit cannot be granted");
                    }
                }
                self.fetch = Some(fetch);
                Ok(())
            }
            // What comes next is found out again from the journal: it has all that is needed for it.
            Ok(Taken::Complete) => Ok(()),
            Ok(Taken::Wrong) => {
                self.fetch = Some(fetch);
                self.fetch_failed(ResultCode::Changed, "content is not what its name says")
                    .await
            }
            Err(FlashError::Full) => {
                self.fetch = Some(fetch);
                self.fetch_failed(ResultCode::NoSpace, "no room for the content").await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The object that comes cannot be had, or cannot be kept.
    pub(super) async fn fetch_failed(&mut self, code: ResultCode, text: &str) -> Result<(), AgentError> {
        let Some(mut fetch) = self.fetch.take() else {
            return Ok(());
        };
        let id = fetch.action;
        let lost = matches!(code, ResultCode::Changed | ResultCode::Gone | ResultCode::LengthError);
        if fetch.part == Part::Representation && lost {
            fetch.drop_all(&mut self.agent.notebook).await?;
            return match self.agent.held(id).cloned() {
                // The content itself may still be had, in this call.
                Some(held) => self.agent.want_whole(&held, text).await,
                None => Ok(()),
            };
        }
        self.passed.insert(id);
        match code {
            // What is held of it belongs to something that there is no more.
            ResultCode::Changed | ResultCode::Gone | ResultCode::LengthError => {
                fetch.drop_all(&mut self.agent.notebook).await?;
                self.sound(id, 0);
            }
            _ => fetch.settle(&mut self.agent.notebook).await?,
        }
        let Some(held) = self.agent.held(id).cloned() else {
            return Ok(());
        };
        if code == ResultCode::Busy {
            // Nobody failed: the server has too much to do. The action keeps its attempt.
            return self.put_off(id).await;
        }
        // An object of another size than its manifest says will not shrink.
        let code = if code == ResultCode::LengthError {
            ResultCode::InvalidContent
        } else {
            code
        };
        self.fail(&held, Refused::new(code, text), held.stage).await
    }

    async fn put_off(&mut self, id: u64) -> Result<(), AgentError> {
        let clock = self.agent.now().clock;
        let delay = self.agent.options.retry_delay;
        let journal = &mut self.agent.notebook.journal;
        if let Some(held) = journal.actions.iter_mut().find(|held| held.action.id == id) {
            held.retry = Some(Wait::new(clock, held.action.retry_delay.map_or(delay, u64::from)));
        }
        Ok(self.agent.notebook.save().await?)
    }

    pub(super) async fn fail(&mut self, held: &Held, refused: Refused, stage: Stage) -> Result<(), AgentError> {
        // What was found out of it meanwhile stays.
        let held = self.agent.held(held.action.id).cloned().unwrap_or_else(|| held.clone());
        self.agent
            .attempt_failed(&held, refused.code, None, &refused.text, stage)
            .await
    }

    /// All of an action's content is here.
    async fn downloaded(&mut self, id: u64) -> Result<(), AgentError> {
        let Some(held) = self.agent.held(id) else {
            return Ok(());
        };
        let result = held.result(Stage::Downloaded, ResultCode::Success, "", self.agent.now().stamp());
        self.agent.reach(id, Stage::Downloaded, result, |_| {}).await
    }

    /// Takes down how far a download is, for reports and for whoever watches.
    fn follow(&mut self, fetch: &Fetch, length: u64) {
        if !fetch.part.is_content() {
            return;
        }
        if let Some(download) = self.report.downloads.last_mut() {
            download.until = fetch.held;
        }
        let journal = &mut self.agent.notebook.journal;
        if let Some(held) = journal.actions.iter_mut().find(|held| held.action.id == fetch.action) {
            held.sound = fetch.durable();
            held.bytes = held.bytes.saturating_add(length);
            if let Some(progress) = &mut self.progress {
                let component = held.component.as_deref().unwrap_or_default();
                progress(Progress {
                    action: fetch.action,
                    component,
                    held: fetch.held,
                    size: fetch.size,
                });
            }
        }
    }

    fn sound(&mut self, id: u64, sound: u64) {
        let journal = &mut self.agent.notebook.journal;
        if let Some(held) = journal.actions.iter_mut().find(|held| held.action.id == id) {
            held.sound = sound;
        }
    }

    /// The call is over: what came is made durable.
    pub(super) async fn settle(&mut self) -> Result<(), AgentError> {
        if let Some(mut fetch) = self.fetch.take() {
            fetch.settle(&mut self.agent.notebook).await?;
            if fetch.part.is_content() {
                self.sound(fetch.action, fetch.durable());
            }
        }
        Ok(())
    }

    /// An action that still needs a call after a whole one waits, rather than make the terminal call in a circle.
    pub(super) fn hold_back(&mut self) {
        let now = self.agent.now();
        let delay = self.agent.options.retry_delay;
        let due = |held: &&Held| held.next(&self.agent.view(held, now)) == Move::Download;
        let due: Vec<u64> = self
            .agent
            .notebook
            .journal
            .actions
            .iter()
            .filter(due)
            .map(|held| held.action.id)
            .collect();
        for held in self
            .agent
            .notebook
            .journal
            .actions
            .iter_mut()
            .filter(|held| due.contains(&held.action.id))
        {
            held.retry = Some(Wait::new(now.clock, delay));
        }
    }
}
