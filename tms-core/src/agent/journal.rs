//! Everything that the agent must remember: one record, replaced atomically.
//!
//! Whatever the terminal tells the server or promises it is in here first. Content is kept beside it, a file for each
//! object, named by its digest.

use super::action::{Dependencies, Held};
use super::encoded;
use super::flash::{Flash, FlashError, read_all};
use super::schedule::Schedule;
use super::timeline::Timeline;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tms_proto::code::{ActionKind, ErrorAction, ResultCode, Stage, TextStatus};
use tms_proto::credential::Remembered;
use tms_proto::digest::Digest;
use tms_proto::message::{ActionResult, ErrorEntry, Register, Text, TextReceipt, Trigger};
use tms_proto::package::Installed;
use tms_proto::secret::Secret;
use tracing::warn;

/// The file of the journal.
const NAME: &str = "journal";
/// Where a journal goes that cannot be read.
const BAD: &str = "journal.bad";
/// The largest journal, in bytes.
const MAX: usize = 4 << 20;

/// Results that wait for the server.
const MAX_RESULTS: usize = 64;
/// Packages that are kept for later.
const MAX_KEPT: usize = 4;
/// Actions that are over and remembered.
const MAX_DONE: usize = 64;
/// Lines of the error log, texts, receipts, and texts that were seen: of each.
const MAX_LINES: usize = 32;

/// What the agent remembers.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Journal {
    /// Calls so far.
    pub(super) contact: u32,
    pub(super) timeline: Timeline,
    pub(super) schedule: Schedule,

    /// Live tickets, the oldest first.
    pub(super) tickets: Vec<HeldTicket>,
    /// Modes of full authentication that were refused since one last worked, as codes.
    pub(super) refused_modes: Vec<u8>,
    /// The server's credentials that were verified last.
    #[serde(with = "encoded::each")]
    pub(super) server: Option<Remembered>,
    /// The highest epoch of a server that was seen.
    pub(super) server_epoch: u32,
    /// The terminal's own key for handshakes.
    pub(super) channel: Option<Channel>,
    /// A certificate that was renewed by the server, in hexadecimal.
    pub(super) certificate: Option<String>,
    /// The suite that the server takes, as its code.
    pub(super) suite: Option<u8>,

    /// The highest sequence number of a plan.
    pub(super) plan: u64,
    /// The end of that plan.
    pub(super) not_after: Option<u64>,
    /// Its actions that are not over, in the order in which they are begun.
    pub(super) actions: Vec<Held>,
    /// Actions that are over, the newest last, by the result with which they ended.
    pub(super) done: Vec<ActionResult>,
    /// What is installed, by its manifests.
    #[serde(with = "encoded::each")]
    pub(super) installed: Vec<Installed>,
    /// What was installed and then removed: its security counter still binds.
    #[serde(with = "encoded::each")]
    pub(super) removed: Vec<Installed>,
    /// Packages that were downloaded to be kept: their objects.
    pub(super) kept: Vec<Vec<Digest>>,
    /// Downloads without a block map, as far as they are certain.
    pub(super) marks: BTreeMap<Digest, Mark>,

    /// The number of the last result.
    pub(super) last_result: u32,
    /// Results that were not acknowledged.
    pub(super) results: Vec<ActionResult>,
    /// There is something that the server should know at once.
    pub(super) urgent: bool,
    /// Digest of the inventory that the server knows.
    pub(super) told_inventory: Option<Digest>,
    /// Digest of the state and the logical terminals that the server knows.
    pub(super) told_state: Option<Digest>,
    /// Texts to be shown.
    #[serde(with = "encoded::each")]
    pub(super) texts: Vec<Text>,
    /// Texts that were taken in, the newest last.
    pub(super) texts_seen: Vec<u64>,
    /// What became of texts.
    #[serde(with = "encoded::each")]
    pub(super) receipts: Vec<TextReceipt>,
    /// Errors since the last report that was recorded.
    #[serde(with = "encoded::each")]
    pub(super) errors: Vec<ErrorEntry>,
    /// A registration to be sent.
    #[serde(with = "encoded::each")]
    pub(super) registration: Option<Register>,
    /// A transaction host said that the terminal is to call.
    #[serde(with = "encoded::each")]
    pub(super) notice: Option<Trigger>,
}

/// A ticket for a call.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct HeldTicket {
    #[serde(with = "hex::serde")]
    pub(super) id: [u8; 16],
    #[serde(with = "encoded::secret")]
    pub(super) key: Secret<32>,
    /// When it ends, in seconds since 1970 UTC.
    pub(super) expires: u64,
    /// It was refused, by somebody who did not prove to be the server.
    pub(super) refused: bool,
}

/// The terminal's X25519 key and what vouches for it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Channel {
    #[serde(with = "encoded::secret")]
    pub(super) secret: Secret<32>,
    pub(super) epoch: u32,
    /// Certificate and channel certificate; none before the first signature.
    pub(super) signed: Option<SignedChannel>,
}

/// Credentials for a channel key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SignedChannel {
    /// Encoded.
    #[serde(with = "hex::serde")]
    pub(super) credentials: Vec<u8>,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    /// The server has recorded a call in which it saw them.
    pub(super) known: bool,
}

/// How much of a download without a block map is certain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Bytes.
    pub(super) held: u64,
    /// Their digest.
    pub(super) digest: Digest,
}

/// A journal and the memory in which it stands.
#[derive(Clone)]
pub(super) struct Notebook {
    pub(super) flash: Arc<dyn Flash>,
    pub(super) journal: Journal,
}

impl Notebook {
    /// Opens the journal. One that cannot be read is laid aside and reported, not mourned: a terminal that does not start is
    /// worse than one that has to prove itself again.
    pub(super) async fn open(flash: Arc<dyn Flash>) -> Result<Self, FlashError> {
        let Some(content) = read_all(&*flash, NAME, MAX).await? else {
            return Ok(Self {
                flash,
                journal: Journal::default(),
            });
        };
        let journal = match serde_json::from_slice(&content) {
            Ok(journal) => journal,
            Err(error) => {
                warn!(
                    line = error.line(),
                    column = error.column(),
                    "journal cannot be read and is laid aside"
                );
                flash.replace(BAD, &content).await?;
                let mut journal = Journal::default();
                journal.error(0, ResultCode::HardwareError, "journal could not be read");
                journal
            }
        };
        Ok(Self { flash, journal })
    }

    /// Makes the journal durable.
    pub(super) async fn save(&self) -> Result<(), FlashError> {
        let encoded = serde_json::to_vec(&self.journal).map_err(|error| FlashError::Failed(error.into()))?;
        self.flash.replace(NAME, &zeroize::Zeroizing::new(encoded)).await
    }

    /// Removes objects that no action needs any more.
    pub(super) async fn sweep(&mut self) -> Result<(), FlashError> {
        let needed = self.journal.objects();
        self.journal.marks.retain(|digest, _| needed.contains(digest));
        for name in self.flash.names().await? {
            if object_digest(&name).is_some_and(|digest| !needed.contains(&digest)) {
                self.flash.remove(&name).await?;
            }
        }
        Ok(())
    }

    /// A small object, whole and sound; `None` where it is not here.
    pub(super) async fn object(&self, digest: &Digest, max: usize) -> Result<Option<Bytes>, FlashError> {
        let name = object_name(digest);
        let size = self
            .flash
            .size(&name)
            .await?
            .and_then(|size| usize::try_from(size).ok());
        let Some(size) = size.filter(|size| *size <= max) else {
            return Ok(None);
        };
        let content = self.flash.read(&name, 0, size).await?;
        Ok(Some(content).filter(|content| Digest::of(content) == *digest))
    }
}

/// The file of an object.
pub(super) fn object_name(digest: &Digest) -> String {
    format!("object.{digest}")
}

fn object_digest(name: &str) -> Option<Digest> {
    name.strip_prefix("object.")?.parse().ok()
}

impl Journal {
    /// Takes down a result. The queue is bounded: what goes first is what a later result of the same action has overtaken.
    pub(super) fn report(&mut self, result: ActionResult) {
        self.last_result = self.last_result.saturating_add(1);
        if self.results.len() >= MAX_RESULTS {
            let overtaken = |index: usize, old: &ActionResult| {
                !old.stage.is_final() && self.results.iter().skip(index + 1).any(|new| new.action == old.action)
            };
            let first = self
                .results
                .iter()
                .enumerate()
                .find(|(index, old)| overtaken(*index, old));
            let first = first.map_or(0, |(index, _)| index);
            self.results.remove(first);
        }
        // That an action waits is worth a word with the next call, not a call.
        self.urgent |= result.stage != Stage::Waiting;
        self.results.push(ActionResult {
            number: self.last_result,
            ..result
        });
    }

    /// The server has recorded these results.
    pub(super) fn acknowledged(&mut self, numbers: &[u32]) {
        self.results.retain(|result| !numbers.contains(&result.number));
    }

    /// An action is over: it is taken out of the plan and its result taken down. Where it failed and says so, what comes
    /// after it is over too.
    pub(super) fn finish(&mut self, result: ActionResult) {
        let Some(place) = self.actions.iter().position(|held| held.action.id == result.action) else {
            return;
        };
        let held = self.actions.remove(place);
        if held.action.kind == ActionKind::Download && succeeded(&result) {
            self.kept.push(held.objects().collect());
            keep_last(&mut self.kept, MAX_KEPT);
        } else if let Some(manifest) = held.action.manifest {
            // It is installed, or never will be.
            self.kept.retain(|objects| !objects.contains(&manifest));
        }
        let (time, failed) = (result.time, !succeeded(&result));
        self.remember(result.clone());
        self.report(result);
        if failed && held.action.on_error == Some(ErrorAction::Stop) {
            let text = format!("sequence stopped by action {}", held.action.id);
            let later = self
                .actions
                .iter()
                .skip(place)
                .filter(|held| held.stage != Stage::Activated);
            let later: Vec<_> = later
                .map(|held| held.result(Stage::Rejected, ResultCode::Missing, &text, time))
                .collect();
            for result in later {
                self.actions.retain(|held| held.action.id != result.action);
                self.remember(result.clone());
                self.report(result);
            }
        }
    }

    fn remember(&mut self, result: ActionResult) {
        self.done.retain(|old| old.action != result.action);
        self.done.push(result);
        keep_last(&mut self.done, MAX_DONE);
    }

    /// How the actions that one depends on stand.
    pub(super) fn dependencies(&self, ids: &[u64]) -> Dependencies {
        let mut pending = false;
        for id in ids {
            match self.done.iter().find(|done| done.action == *id) {
                Some(done) if succeeded(done) => {}
                None if self.actions.iter().any(|held| held.action.id == *id) => pending = true,
                _ => return Dependencies::Failed(*id),
            }
        }
        if pending {
            Dependencies::Pending
        } else {
            Dependencies::Met
        }
    }

    /// Takes down what is installed now.
    pub(super) fn keep_installed(&mut self, installed: Installed) {
        self.installed.retain(|other| other.component != installed.component);
        self.removed.retain(|other| other.component != installed.component);
        self.installed.push(installed);
    }

    /// Adds a line to the error log.
    pub(super) fn error(&mut self, time: u64, code: ResultCode, text: &str) {
        self.errors.push(ErrorEntry {
            time,
            code,
            vendor_code: None,
            text: Some(clip(text)),
        });
        keep_last(&mut self.errors, MAX_LINES);
    }

    /// Takes in a text, once.
    pub(super) fn text(&mut self, text: Text) {
        if !self.texts_seen.contains(&text.id) {
            self.texts_seen.push(text.id);
            keep_last(&mut self.texts_seen, MAX_LINES);
            self.texts.push(text);
            keep_last(&mut self.texts, MAX_LINES);
        }
    }

    /// A text is taken back: where it was not shown yet it never is, and that is said.
    pub(super) fn take_back(&mut self, id: u64, time: u64) {
        let waits = self.texts.iter().any(|text| text.id == id);
        let seen = self.texts_seen.contains(&id);
        if seen && !waits {
            return;
        }
        self.texts.retain(|text| text.id != id);
        if !seen {
            self.texts_seen.push(id);
            keep_last(&mut self.texts_seen, MAX_LINES);
        }
        self.receipt(TextReceipt {
            id,
            status: TextStatus::Withdrawn,
            time,
        });
    }

    /// Takes down what became of a text.
    pub(super) fn receipt(&mut self, receipt: TextReceipt) {
        self.receipts.push(receipt);
        keep_last(&mut self.receipts, MAX_LINES);
    }

    /// The objects that are still needed.
    fn objects(&self) -> Vec<Digest> {
        let kept = self.kept.iter().flatten().copied();
        self.actions.iter().flat_map(Held::objects).chain(kept).collect()
    }
}

/// Whether this is the end of an action that did what it should.
pub(super) fn succeeded(result: &ActionResult) -> bool {
    result.code == ResultCode::Success && matches!(result.stage, Stage::RunningConfirmed | Stage::Verified)
}

/// The first 70 characters, which is what a result has room for.
pub(super) fn clip(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(70).collect()
}

/// Forgets all but the newest.
pub(super) fn keep_last<T>(list: &mut Vec<T>, most: usize) {
    let excess = list.len().saturating_sub(most);
    list.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::super::flash::MemoryFlash;
    use super::super::plan::blank;
    use super::*;
    use crate::entropy::OsEntropy;
    use tms_proto::message::Action;

    fn journal(ids: &[u64]) -> Journal {
        let mut journal = Journal::default();
        journal
            .actions
            .extend(ids.iter().map(|id| Held::new(blank(*id), &OsEntropy)));
        journal
    }

    fn result(action: u64, stage: Stage, code: ResultCode) -> ActionResult {
        let held = Held::new(blank(action), &OsEntropy);
        held.result(stage, code, "", 5)
    }

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        let flash = Arc::new(MemoryFlash::new(1 << 20));
        let mut notebook = Notebook::open(flash.clone()).await.unwrap();
        let journal = &mut notebook.journal;
        *journal = self::journal(&[7]);
        journal.tickets.push(HeldTicket {
            id: [1; 16],
            key: Secret::new([2; 32]),
            expires: 9,
            refused: true,
        });
        let signed = SignedChannel {
            credentials: vec![4],
            not_before: 1,
            not_after: 2,
            known: true,
        };
        journal.channel = Some(Channel {
            secret: Secret::new([3; 32]),
            epoch: 8,
            signed: Some(signed),
        });
        journal.text(Text {
            id: 1,
            title: "a".into(),
            body: "b".into(),
            print: None,
            until: None,
            confirm: None,
        });
        journal.error(3, ResultCode::Busy, "words");
        journal.report(result(7, Stage::Downloading, ResultCode::Success));
        journal.marks.insert(
            Digest([1; 32]),
            Mark {
                held: 4,
                digest: Digest([2; 32]),
            },
        );
        journal.installed.push(Installed {
            component: "bank".into(),
            order: 1,
            counter: 2,
            signers: Vec::new(),
        });
        notebook.save().await.unwrap();
        let again = Notebook::open(flash).await.unwrap();
        let text = |journal: &Journal| serde_json::to_string(journal).unwrap();
        assert_eq!(text(&again.journal), text(&notebook.journal));
        assert_eq!(again.journal.actions, notebook.journal.actions);
        assert_eq!(again.journal.channel.unwrap().secret, Secret::new([3; 32]));
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_read_is_laid_aside() {
        let flash = Arc::new(MemoryFlash::new(1 << 20));
        flash.replace(NAME, b"{\"contact\": \"seventeen\"").await.unwrap();
        let notebook = Notebook::open(flash.clone()).await.unwrap();
        assert_eq!((notebook.journal.contact, notebook.journal.errors.len()), (0, 1));
        assert!(flash.size(BAD).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn objects_that_nobody_needs_are_swept_away() {
        let flash = Arc::new(MemoryFlash::new(1 << 20));
        let (needed, other) = (Digest::of(b"needed"), Digest::of(b"other"));
        flash.replace(&object_name(&needed), b"needed").await.unwrap();
        flash.replace(&object_name(&other), b"other").await.unwrap();
        flash.replace("object.of-another-kind", b"").await.unwrap();
        let mut notebook = Notebook::open(flash.clone()).await.unwrap();
        let action = Action {
            manifest: Some(needed),
            ..blank(7)
        };
        notebook.journal.actions.push(Held::new(action, &OsEntropy));
        notebook.sweep().await.unwrap();
        let mut names = flash.names().await.unwrap();
        names.sort();
        assert_eq!(names, [object_name(&needed), "object.of-another-kind".into()]);
        assert_eq!(notebook.object(&needed, 6).await.unwrap().unwrap(), "needed");
        // Too large, or damaged: it is as good as not there.
        assert_eq!(notebook.object(&needed, 5).await.unwrap(), None);
        flash.replace(&object_name(&needed), b"damage").await.unwrap();
        assert_eq!(notebook.object(&needed, 6).await.unwrap(), None);
    }

    #[test]
    fn the_queue_of_results_is_bounded_and_keeps_what_counts() {
        let mut journal = journal(&[1]);
        journal.report(result(2, Stage::Rejected, ResultCode::Expired));
        for _ in 0..200 {
            journal.report(result(1, Stage::Waiting, ResultCode::Busy));
        }
        journal.report(result(1, Stage::RunningConfirmed, ResultCode::Success));
        assert_eq!(journal.results.len(), MAX_RESULTS);
        assert_eq!(journal.results[0].stage, Stage::Rejected);
        assert!(journal.results.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert_eq!(journal.results.last().unwrap().stage, Stage::RunningConfirmed);
        let numbers: Vec<u32> = journal.results.iter().map(|result| result.number).collect();
        journal.acknowledged(&numbers);
        assert!(journal.results.is_empty());
    }

    #[test]
    fn waiting_is_no_reason_to_call() {
        let mut journal = journal(&[1]);
        journal.report(result(1, Stage::Waiting, ResultCode::Busy));
        assert!(!journal.urgent);
        journal.report(result(1, Stage::Verified, ResultCode::Success));
        assert!(journal.urgent);
    }

    #[test]
    fn a_failure_that_stops_the_sequence_ends_what_comes_after_but_not_what_runs() {
        let mut journal = journal(&[1, 2, 3, 4]);
        journal.actions[1].action.on_error = Some(ErrorAction::Stop);
        journal.actions[3].stage = Stage::Activated;
        journal.finish(result(2, Stage::Rejected, ResultCode::SignatureError));
        let open: Vec<u64> = journal.actions.iter().map(|held| held.action.id).collect();
        assert_eq!(open, [1, 4]);
        let over: Vec<_> = journal
            .results
            .iter()
            .map(|result| (result.action, result.code))
            .collect();
        assert_eq!(over, [(2, ResultCode::SignatureError), (3, ResultCode::Missing)]);
    }

    #[test]
    fn dependencies_are_met_pending_or_failed() {
        let mut journal = journal(&[1, 2, 3]);
        journal.finish(result(1, Stage::RunningConfirmed, ResultCode::Success));
        journal.finish(result(2, Stage::RolledBack, ResultCode::RolledBack));
        assert_eq!(journal.dependencies(&[]), Dependencies::Met);
        assert_eq!(journal.dependencies(&[1]), Dependencies::Met);
        assert_eq!(journal.dependencies(&[1, 3]), Dependencies::Pending);
        assert_eq!(journal.dependencies(&[3, 2]), Dependencies::Failed(2));
        assert_eq!(journal.dependencies(&[9]), Dependencies::Failed(9));
    }

    #[test]
    fn what_is_taken_back_is_said_once_and_not_of_what_was_shown() {
        let text = |id| Text {
            id,
            title: "title".to_owned(),
            body: "body".to_owned(),
            print: None,
            until: None,
            confirm: None,
        };
        let mut journal = Journal::default();
        for id in [1, 2] {
            journal.text(text(id));
        }
        journal.texts.retain(|text| text.id != 1);
        for id in [1, 2, 3, 2, 3] {
            journal.take_back(id, 5);
        }
        let said: Vec<u64> = journal.receipts.iter().map(|receipt| receipt.id).collect();
        assert_eq!(said, [2, 3]);
        assert!(journal.receipts.iter().all(|said| said.status == TextStatus::Withdrawn));
        // One that comes late is not shown, either.
        journal.text(text(3));
        assert_eq!(journal.texts, []);
    }

    #[test]
    fn texts_are_words_of_one_line() {
        assert_eq!(clip("a\nb\u{7}c"), "abc");
        assert_eq!(clip(&"ä".repeat(100)).chars().count(), 70);
    }
}
