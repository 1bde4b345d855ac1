//! A terminal on a flash memory: two slots for each component, and a record that says which of them starts.
//!
//! On a [`DirectoryFlash`](super::flash::DirectoryFlash) this is a faithful terminal whose state is files, to be killed at
//! any instant; on a [`MemoryFlash`](super::flash::MemoryFlash) it is one for simulations. It is also how a vendor's own
//! device may be built.
//!
//! # Invariant
//!
//! Once a component has started, the record names a slot that holds a whole version of it. A slot is written only while the
//! record does not name it; it is named only when it was read back and has the right digest; and the version before stays
//! until the new one has passed its self-test.

mod parameters;
mod record;

pub use record::{ParameterVersion, Side, Version};

use super::device::{
    Activation, Answer, Components, Content, DeviceError, Installer, Readiness, Running, Screen, Trial,
};
use super::flash::{Flash, read_all};
use async_trait::async_trait;
use bytes::Bytes;
use record::{Record, Slots};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use tms_proto::code::{ComponentKind, ComponentStatus, Representation, ResultCode, TextStatus};
use tms_proto::digest::{Digest, Hasher};
use tms_proto::message::{Capabilities, Component, DeviceState, Inventory, Location, LogicalTerminal, Text};
use tms_proto::package::Manifest;
use tokio::sync::Mutex;
use tracing::{info, warn};

/// The file of the record.
const RECORD: &str = "slots";
/// The largest record, in bytes.
const MAX_RECORD: usize = 1 << 20;
/// How much is copied at a time.
const CHUNK: usize = 64 * 1024;
/// How often a version is started that does not confirm itself.
const MAX_STARTS: u8 = 3;

/// What a version does when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfTest {
    /// It says that it works.
    Passes,
    /// It says that it does not, or crashes.
    Fails,
    /// It says nothing.
    Silent,
}

/// Runs the self-test of a component's version.
pub type RunSelfTest = dyn Fn(&str, &Version) -> SelfTest + Send + Sync;

/// How the terminal is, as far as that is not in its record.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Whether it may be changed.
    pub readiness: Readiness,
    /// What the merchant answers.
    pub answer: Answer,
    /// Its state, as it reports it.
    pub state: DeviceState,
    /// The terminal as its acquirers see it.
    pub logical: Vec<LogicalTerminal>,
    /// Where it believes to be.
    pub location: Option<Location>,
    /// Hardware version.
    pub hardware: Option<String>,
    /// The representations that it allows; [`Installer::read`] is what deltas need.
    pub representations: Vec<Representation>,
}

impl Default for Conditions {
    /// Free, and nobody there; every representation is allowed.
    fn default() -> Self {
        Self {
            readiness: Readiness::FREE,
            answer: Answer::Silent,
            state: DeviceState::default(),
            logical: Vec::new(),
            location: None,
            hardware: None,
            representations: Representation::ALL.to_vec(),
        }
    }
}

/// A terminal on a flash memory; see the [module](self).
pub struct SlotDevice {
    flash: Arc<dyn Flash>,
    record: Mutex<Record>,
    conditions: StdMutex<Conditions>,
    shown: StdMutex<Vec<Text>>,
    self_test: Box<RunSelfTest>,
}

impl SlotDevice {
    /// Opens the terminal whose memory `flash` is, switched off: call [`start`](Self::start). Every self-test passes.
    ///
    /// # Errors
    /// Where the memory fails or its record cannot be read.
    pub async fn open(flash: Arc<dyn Flash>) -> Result<Self, DeviceError> {
        Self::with_self_test(flash, Box::new(|_, _| SelfTest::Passes)).await
    }

    /// As [`open`](Self::open), with a self-test.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn with_self_test(flash: Arc<dyn Flash>, self_test: Box<RunSelfTest>) -> Result<Self, DeviceError> {
        let record = match read_all(&*flash, RECORD, MAX_RECORD).await? {
            Some(record) => serde_json::from_slice(&record).map_err(|error| {
                DeviceError::new(ResultCode::HardwareError, format_args!("record of slots: {error}"))
            })?,
            None => Record::default(),
        };
        Ok(Self {
            flash,
            record: Mutex::new(record),
            conditions: StdMutex::default(),
            shown: StdMutex::default(),
            self_test,
        })
    }

    /// Puts a version in that the terminal comes with from the factory. It runs at once.
    ///
    /// # Errors
    /// Where the memory fails, or is full.
    pub async fn provision(
        &self,
        component: &str,
        kind: ComponentKind,
        version: &str,
        counter: u32,
        content: &[u8],
    ) -> Result<(), DeviceError> {
        let mut record = self.record.lock().await;
        let name = Side::A.file(component)?;
        self.flash.replace(&name, content).await?;
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let version = Version {
            version: version.into(),
            counter,
            digest: Digest::of(content),
            size,
        };
        let mut slots = Slots::new(kind);
        slots.set(Side::A, Some(version));
        slots.active = Some(Side::A);
        record.components.insert(component.into(), slots);
        self.save(&record).await
    }

    /// Starts the terminal: what was activated runs, if it passes its self-test; otherwise what ran before runs again.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn start(&self) -> Result<(), DeviceError> {
        let mut record = self.record.lock().await;
        record.boots = record.boots.saturating_add(1);
        let names: Vec<String> = record.components.keys().cloned().collect();
        for slots in record.components.values_mut() {
            slots.begin();
        }
        self.save(&record).await?;
        for name in names {
            let Some(slots) = record.components.get_mut(&name) else {
                continue;
            };
            if !self.try_out(&name, slots).await? {
                slots.fall_back();
            }
            self.save(&record).await?;
        }
        Ok(())
    }

    /// A version that was silent says that it works.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn confirm(&self, component: &str) -> Result<(), DeviceError> {
        let mut record = self.record.lock().await;
        if let Some(slots) = record.components.get_mut(component) {
            slots.starts = None;
        }
        self.save(&record).await
    }

    /// Changes how the terminal is.
    pub fn set(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.conditions());
    }

    /// The texts that were shown, oldest first.
    #[must_use]
    pub fn shown(&self) -> Vec<Text> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The versions that run.
    pub async fn versions(&self) -> BTreeMap<String, Version> {
        let record = self.record.lock().await;
        let running = |(name, slots): (&String, &Slots)| Some((name.clone(), slots.running()?.clone()));
        record.components.iter().filter_map(running).collect()
    }

    /// Components whose running version is not whole: none, whatever happened.
    ///
    /// # Errors
    /// Where the memory fails.
    pub async fn broken(&self) -> Result<Vec<String>, DeviceError> {
        let record = self.record.lock().await;
        let mut broken = Vec::new();
        for (name, slots) in &record.components {
            if let Some(side) = slots.active
                && !self.is_whole(name, slots, side).await?
            {
                broken.push(name.clone());
            }
        }
        broken.extend(self.broken_parameters(&record).await?);
        Ok(broken)
    }

    /// Whether the version that is to run does. What does not pass is not there to be fallen back to any more.
    async fn try_out(&self, name: &str, slots: &mut Slots) -> Result<bool, DeviceError> {
        let Some(side) = slots.active else {
            return Ok(true);
        };
        if !self.is_whole(name, slots, side).await? {
            warn!(component = name, "running version is damaged");
            return Ok(false);
        }
        let Some(starts) = slots.starts else {
            return Ok(true);
        };
        if starts > MAX_STARTS {
            warn!(
                component = name,
                starts, "version does not confirm itself and is given up"
            );
            return Ok(false);
        }
        let Some(version) = slots.running() else {
            return Ok(false);
        };
        match (self.self_test)(name, version) {
            SelfTest::Passes => {
                info!(component = name, version = version.version, "new version runs");
                slots.starts = None;
                Ok(true)
            }
            SelfTest::Fails => {
                warn!(
                    component = name,
                    version = version.version,
                    "new version fails its self-test"
                );
                Ok(false)
            }
            SelfTest::Silent => Ok(true),
        }
    }

    async fn is_whole(&self, name: &str, slots: &Slots, side: Side) -> Result<bool, DeviceError> {
        let Some(version) = slots.get(side) else {
            return Ok(false);
        };
        let file = side.file(name)?;
        if self.flash.size(&file).await? != Some(version.size) {
            return Ok(false);
        }
        let (mut hasher, mut offset) = (Hasher::new(), 0);
        while offset < version.size {
            let bytes = self.flash.read(&file, offset, CHUNK).await?;
            if bytes.is_empty() {
                return Ok(false);
            }
            hasher.update(&bytes);
            offset = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        Ok(hasher.finish() == version.digest)
    }

    /// Copies a content into a slot that the record does not name, and checks what was written.
    async fn copy(&self, file: &str, manifest: &Manifest, content: &Content) -> Result<(), DeviceError> {
        let (mut hasher, mut offset) = (Hasher::new(), 0u64);
        if content.size() == 0 {
            self.flash.replace(file, &[]).await?;
        }
        while offset < content.size() {
            let bytes = content.read(offset, CHUNK).await?;
            if bytes.is_empty() {
                break;
            }
            self.flash.append(file, offset, &bytes).await?;
            offset = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        self.flash.sync(file).await?;
        let mut read = 0u64;
        while read < offset {
            let bytes = self.flash.read(file, read, CHUNK).await?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(&bytes);
            read = read.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        if offset != manifest.size || hasher.finish() != manifest.digest {
            return Err(DeviceError::new(
                ResultCode::HardwareError,
                "what was written is not what was read",
            ));
        }
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<(), DeviceError> {
        let encoded = serde_json::to_vec(record).map_err(|error| DeviceError::new(ResultCode::HardwareError, error))?;
        Ok(self.flash.replace(RECORD, &encoded).await?)
    }

    fn conditions(&self) -> MutexGuard<'_, Conditions> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Components for SlotDevice {
    async fn inventory(&self) -> Result<Inventory, DeviceError> {
        let (hardware, representations) = {
            let conditions = self.conditions();
            let codes = conditions.representations.iter().copied().map(u8::from);
            (conditions.hardware.clone(), codes.collect())
        };
        let record = self.record.lock().await;
        let component = |(id, slots): (&String, &Slots)| {
            let running = slots.running()?;
            Some(Component {
                id: id.clone(),
                kind: slots.kind,
                version: running.version.clone(),
                counter: Some(running.counter),
                status: ComponentStatus::InOperation,
                digest: Some(running.digest),
                serial: None,
                expiry: None,
                provider: None,
            })
        };
        let components = record.components.iter().filter_map(component).collect();
        Ok(Inventory {
            components,
            parameters: parameters::listed(&record),
            hardware,
            capabilities: Some(Capabilities {
                representations: Some(representations),
                ..Capabilities::default()
            }),
            ..Inventory::default()
        })
    }

    async fn state(&self) -> Result<DeviceState, DeviceError> {
        Ok(self.conditions().state.clone())
    }

    async fn logical(&self) -> Result<Vec<LogicalTerminal>, DeviceError> {
        Ok(self.conditions().logical.clone())
    }

    async fn location(&self) -> Result<Option<Location>, DeviceError> {
        Ok(self.conditions().location.clone())
    }

    async fn log(&self) -> Result<Bytes, DeviceError> {
        let record = self.record.lock().await;
        Ok(format!("{} starts\n", record.boots).into())
    }
}

#[async_trait]
impl Installer for SlotDevice {
    async fn readiness(&self, _: &str) -> Result<Readiness, DeviceError> {
        Ok(self.conditions().readiness)
    }

    async fn space(&self, component: &str, size: u64) -> Result<u64, DeviceError> {
        let record = self.record.lock().await;
        let side = record.components.get(component).map_or(Side::A, Slots::idle);
        // What is in the slot goes when the new version comes.
        let old = self.flash.size(&side.file(component)?).await?.unwrap_or(0);
        Ok(size.saturating_sub(old))
    }

    async fn install(&self, manifest: &Manifest, content: &Content) -> Result<(), DeviceError> {
        let mut record = self.record.lock().await;
        let name = &manifest.component;
        let slots = record
            .components
            .entry(name.clone())
            .or_insert_with(|| Slots::new(manifest.kind));
        if slots.starts.is_some() {
            return Err(DeviceError::new(
                ResultCode::Busy,
                "the version before has not confirmed itself",
            ));
        }
        let side = slots.idle();
        let same = slots.get(side).is_some_and(|version| version.digest == manifest.digest);
        if same && self.is_whole(name, slots, side).await? {
            return Ok(());
        }
        slots.kind = manifest.kind;
        slots.set(side, None);
        slots.next = None;
        self.save(&record).await?;
        self.copy(&side.file(name)?, manifest, content).await?;
        let (version, counter) = (manifest.version.clone(), manifest.counter);
        let version = Version {
            version,
            counter,
            digest: manifest.digest,
            size: manifest.size,
        };
        if let Some(slots) = record.components.get_mut(name) {
            slots.set(side, Some(version));
        }
        self.save(&record).await
    }

    async fn activate(&self, component: &str, content: &Digest) -> Result<Activation, DeviceError> {
        let mut record = self.record.lock().await;
        let unknown = || DeviceError::new(ResultCode::UnknownReference, "not installed");
        let slots = record.components.get_mut(component).ok_or_else(unknown)?;
        if slots.running().is_some_and(|version| version.digest == *content) {
            return Ok(Activation::Running);
        }
        let side = slots.idle();
        if slots.get(side).is_none_or(|version| version.digest != *content) {
            return Err(unknown());
        }
        slots.next = Some(side);
        if !is_parameters(slots.kind) {
            self.save(&record).await?;
            return Ok(Activation::AfterRestart);
        }
        // Parameters are read again at once.
        slots.begin();
        self.save(&record).await?;
        if let Some(slots) = record.components.get_mut(component)
            && !self.try_out(component, slots).await?
        {
            slots.fall_back();
        }
        self.save(&record).await?;
        Ok(Activation::Running)
    }

    async fn read(&self, component: &str, offset: u64, max: usize) -> Result<Bytes, DeviceError> {
        let record = self.record.lock().await;
        let active = record.components.get(component).and_then(|slots| slots.active);
        let side = active.ok_or_else(|| DeviceError::new(ResultCode::UnknownReference, "nothing runs"))?;
        Ok(self.flash.read(&side.file(component)?, offset, max).await?)
    }

    async fn running(&self, component: &str) -> Result<Running, DeviceError> {
        let record = self.record.lock().await;
        let Some(slots) = record.components.get(component) else {
            return Ok(Running {
                content: None,
                pending: None,
                trial: Trial::Confirmed,
            });
        };
        let digest = |side: Side| slots.get(side).map(|version| version.digest);
        Ok(Running {
            content: slots.active.and_then(digest),
            pending: slots.next.and_then(digest),
            trial: if slots.starts.is_some() {
                Trial::Trying
            } else {
                Trial::Confirmed
            },
        })
    }

    async fn roll_back(&self, component: &str) -> Result<(), DeviceError> {
        let mut record = self.record.lock().await;
        let Some(slots) = record.components.get_mut(component) else {
            return Ok(());
        };
        slots.next = None;
        if slots.starts.is_some() {
            slots.fall_back();
        }
        self.save(&record).await
    }

    async fn set_parameters(&self, name: &str, content: &Content) -> Result<(), DeviceError> {
        self.put_parameters(name, content).await
    }

    async fn remove(&self, component: &str) -> Result<(), DeviceError> {
        let mut record = self.record.lock().await;
        if record.components.remove(component).is_some() {
            self.save(&record).await?;
        }
        // What the record does not name is not there: the files may go later.
        for side in [Side::A, Side::B] {
            self.flash.remove(&side.file(component)?).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Screen for SlotDevice {
    async fn show(&self, text: &Text) -> TextStatus {
        info!(id = text.id, title = text.title, body = text.body, "text");
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.clone());
        if text.print == Some(true) {
            TextStatus::Printed
        } else {
            TextStatus::Displayed
        }
    }

    async fn ask(&self, prompt: &str) -> Answer {
        let answer = self.conditions().answer;
        info!(prompt, ?answer, "merchant asked");
        answer
    }
}

const fn is_parameters(kind: ComponentKind) -> bool {
    matches!(
        kind,
        ComponentKind::TerminalParameters
            | ComponentKind::AcquirerParameters
            | ComponentKind::ApplicationParameters
            | ComponentKind::MerchantParameters
    )
}

#[cfg(test)]
mod tests {
    use super::super::flash::MemoryFlash;
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tms_proto::package::Hints;

    fn manifest(content: &[u8], component: &str, kind: ComponentKind) -> Manifest {
        Manifest {
            component: component.into(),
            kind,
            version: format!("of {} bytes", content.len()),
            order: 2,
            counter: 2,
            min_from: None,
            vendor: "PAX".into(),
            models: Vec::new(),
            hardware: Vec::new(),
            dependencies: Vec::new(),
            size: content.len() as u64,
            digest: Digest::of(content),
            block_map: None,
            files: Vec::new(),
            hints: Hints::default(),
            not_before: None,
            expiry: None,
            signers: Vec::new(),
        }
    }

    async fn terminal(self_test: impl Fn() -> SelfTest + Send + Sync + 'static) -> (SlotDevice, MemoryFlash) {
        let flash = MemoryFlash::new(1 << 20);
        let device = SlotDevice::with_self_test(Arc::new(flash.clone()), Box::new(move |_, _| self_test()))
            .await
            .unwrap();
        device
            .provision("bank", ComponentKind::Application, "1", 1, b"old")
            .await
            .unwrap();
        (device, flash)
    }

    async fn install(
        device: &SlotDevice,
        flash: &MemoryFlash,
        manifest: &Manifest,
        content: &[u8],
    ) -> Result<(), DeviceError> {
        flash.replace("content", content).await.unwrap();
        let content = Content::new(Arc::new(flash.clone()), "content".into(), content.len() as u64);
        device.install(manifest, &content).await
    }

    #[tokio::test]
    async fn a_new_version_runs_after_a_start_and_its_self_test() {
        let (device, flash) = terminal(|| SelfTest::Passes).await;
        let new = manifest(b"the new one", "bank", ComponentKind::Application);
        assert_eq!(
            device.activate("bank", &new.digest).await.unwrap_err().code,
            ResultCode::UnknownReference
        );
        for _ in 0..2 {
            install(&device, &flash, &new, b"the new one").await.unwrap();
        }
        assert_eq!(device.running("bank").await.unwrap().content, Some(Digest::of(b"old")));
        for _ in 0..2 {
            assert_eq!(
                device.activate("bank", &new.digest).await.unwrap(),
                Activation::AfterRestart
            );
        }
        let running = device.running("bank").await.unwrap();
        assert_eq!(
            (running.content, running.pending),
            (Some(Digest::of(b"old")), Some(new.digest))
        );
        device.start().await.unwrap();
        let running = device.running("bank").await.unwrap();
        assert_eq!(
            running,
            Running {
                content: Some(new.digest),
                pending: None,
                trial: Trial::Confirmed
            }
        );
        assert_eq!(device.activate("bank", &new.digest).await.unwrap(), Activation::Running);
        // The next one goes where the old one was.
        let third = manifest(b"third", "bank", ComponentKind::Application);
        install(&device, &flash, &third, b"third").await.unwrap();
        assert!(device.broken().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn parameters_are_taken_at_once() {
        let good = Arc::new(AtomicBool::new(true));
        let passes = Arc::clone(&good);
        let test = move || {
            if passes.load(Ordering::Relaxed) {
                SelfTest::Passes
            } else {
                SelfTest::Fails
            }
        };
        let (device, flash) = terminal(test).await;
        for (content, works, runs) in [("one", true, "one"), ("two", false, "one"), ("three", true, "three")] {
            good.store(works, Ordering::Relaxed);
            let new = manifest(
                content.as_bytes(),
                "Bank/Parameters",
                ComponentKind::ApplicationParameters,
            );
            install(&device, &flash, &new, content.as_bytes()).await.unwrap();
            assert_eq!(
                device.activate("Bank/Parameters", &new.digest).await.unwrap(),
                Activation::Running
            );
            let running = device.running("Bank/Parameters").await.unwrap();
            assert_eq!(
                (running.content, running.trial),
                (Some(Digest::of(runs.as_bytes())), Trial::Confirmed)
            );
        }
    }

    #[tokio::test]
    async fn a_version_that_stays_silent_is_given_up_after_some_starts() {
        let (device, flash) = terminal(|| SelfTest::Silent).await;
        let new = manifest(b"new", "bank", ComponentKind::Application);
        install(&device, &flash, &new, b"new").await.unwrap();
        device.activate("bank", &new.digest).await.unwrap();
        for _ in 0..MAX_STARTS {
            device.start().await.unwrap();
            let running = device.running("bank").await.unwrap();
            assert_eq!((running.content, running.trial), (Some(new.digest), Trial::Trying));
            // Nothing is installed over the version that it may have to go back to.
            let other = manifest(b"other", "bank", ComponentKind::Application);
            assert_eq!(
                install(&device, &flash, &other, b"other").await.unwrap_err().code,
                ResultCode::Busy
            );
        }
        device.start().await.unwrap();
        let running = device.running("bank").await.unwrap();
        assert_eq!(
            (running.content, running.trial),
            (Some(Digest::of(b"old")), Trial::Confirmed)
        );
    }

    #[tokio::test]
    async fn content_that_was_damaged_on_the_way_is_not_installed() {
        let (device, flash) = terminal(|| SelfTest::Passes).await;
        let new = manifest(b"new", "bank", ComponentKind::Application);
        for damaged in [b"now".as_slice(), b"ne", b"newer"] {
            let error = install(&device, &flash, &new, damaged).await.unwrap_err();
            assert_eq!(error.code, ResultCode::HardwareError);
            assert_eq!(
                device.activate("bank", &new.digest).await.unwrap_err().code,
                ResultCode::UnknownReference
            );
        }
        assert!(device.broken().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_running_version_that_is_damaged_gives_way_to_the_one_before() {
        let (device, flash) = terminal(|| SelfTest::Passes).await;
        let new = manifest(b"new", "bank", ComponentKind::Application);
        install(&device, &flash, &new, b"new").await.unwrap();
        device.activate("bank", &new.digest).await.unwrap();
        device.start().await.unwrap();
        flash.replace("slot.bank.b", b"nEw").await.unwrap();
        assert_eq!(device.broken().await.unwrap(), ["bank"]);
        device.start().await.unwrap();
        assert_eq!(device.running("bank").await.unwrap().content, Some(Digest::of(b"old")));
        assert!(device.broken().await.unwrap().is_empty());
    }

    #[test]
    fn files_have_different_names() {
        let names: Vec<String> = ["bank", "Bank", "bank/parameters", "bank_2fparameters", "银行"]
            .iter()
            .map(|id| Side::A.file(id).unwrap())
            .collect();
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        assert!(Side::A.file(&"x".repeat(200)).is_err());
    }
}
