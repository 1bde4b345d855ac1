//! A terminal in memory: a flash with two slots for each component, and the agent on it.

use crate::world::{DAY, NOW, anchors, certify, holder, trust};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tms_core::agent::flash::{Flash, MemoryFlash};
use tms_core::agent::slot::{Conditions, SelfTest, SlotDevice};
use tms_core::agent::{Agent, Device, Identity, MainKeyIdentity, Options, RsaIdentity, Setup, WorkReport};
use tms_core::clock::ManualClock;
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::entropy::Entropy;
use tms_core::signer::PemSigner;
use tms_core::store::TerminalId;
use tms_proto::certificate::Subject;
use tms_proto::code::ComponentKind;
use tms_proto::secret::Secret;
use tokio::sync::OnceCell;

pub(crate) const ID: TerminalId = TerminalId(0x0102_0304_0506_0708);
pub(crate) const MAIN_KEY: [u8; 16] = [0x11; 16];

/// The version that the terminal came with.
pub(crate) const FACTORY: &[u8] = b"the application that came with the terminal";

/// Random numbers that are the same each time.
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mut mixed = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^= mixed >> 31;
            let length = chunk.len();
            chunk.copy_from_slice(&mixed.to_le_bytes()[..length]);
        }
    }
}

/// What the terminal proves itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proves {
    MainKey,
    Rsa,
    Both,
}

/// What a terminal is made of, so that it can be started again.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) flash: MemoryFlash,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) self_test: SelfTest,
    pub(crate) conditions: Conditions,
}

/// A terminal that is switched on.
pub(crate) struct Terminal {
    pub(crate) kit: Kit,
    pub(crate) device: Arc<SlotDevice>,
    pub(crate) agent: Agent,
}

pub(crate) fn signer() -> Arc<PemSigner> {
    crate::world::terminal_key()
}

/// The terminal's RSA identity, made once: signing its certificate takes longer than many a test.
async fn rsa() -> RsaIdentity {
    static RSA: OnceCell<RsaIdentity> = OnceCell::const_new();
    let made = RSA.get_or_init(|| async {
        let subject = Subject::Terminal(holder("0001"));
        let certificate = certify(&signer(), subject, NOW - 400 * DAY, NOW + 400 * DAY).await;
        RsaIdentity {
            signer: signer(),
            certificate,
        }
    });
    made.await.clone()
}

impl Kit {
    /// A terminal with a main-control key, fresh from the factory.
    pub(crate) async fn new() -> Self {
        Self::with(Proves::MainKey).await
    }

    pub(crate) async fn with(proves: Proves) -> Self {
        let flash = MemoryFlash::new(8 << 20);
        let device = SlotDevice::open(Arc::new(flash.clone())).await.unwrap();
        device
            .provision("bank", ComponentKind::Application, "1.0", 1, FACTORY)
            .await
            .unwrap();
        let keys = MemoryKeys::new();
        keys.insert(ID, 1, MainKey::Aes128(Secret::new(MAIN_KEY)));
        let rsa = rsa().await;
        let identity = Identity {
            terminal: ID,
            holder: holder("0001"),
            anchors: anchors(),
            rsa: (proves != Proves::MainKey).then_some(rsa),
            main_key: (proves != Proves::Rsa).then(|| MainKeyIdentity {
                keys: Arc::new(keys),
                epoch: 1,
            }),
        };
        let options = Options {
            both: proves == Proves::Both,
            ..Options::default()
        };
        Self {
            flash,
            clock: Arc::new(ManualClock::new(NOW)),
            entropy: Arc::new(Seeded::new(1)),
            options,
            identity,
            self_test: SelfTest::Passes,
            conditions: Conditions::default(),
        }
    }

    /// Switches the terminal on. Fails where power fails meanwhile.
    pub(crate) async fn try_start(&self) -> Result<Terminal, String> {
        let flash: Arc<dyn Flash> = Arc::new(self.flash.clone());
        let self_test = self.self_test;
        let device = SlotDevice::with_self_test(Arc::clone(&flash), Box::new(move |_, _| self_test)).await;
        let device = Arc::new(device.map_err(|error| error.to_string())?);
        device.set(|conditions| conditions.clone_from(&self.conditions));
        device.start().await.map_err(|error| error.to_string())?;
        let setup = Setup {
            identity: self.identity.clone(),
            trust: trust(),
            installed: Vec::new(),
            device: Device {
                components: device.clone(),
                installer: device.clone(),
                screen: device.clone(),
            },
            clock: self.clock.clone(),
            entropy: Arc::clone(&self.entropy),
            options: self.options.clone(),
        };
        let agent = Agent::open(flash, setup).await.map_err(|error| error.to_string())?;
        Ok(Terminal {
            kit: self.clone(),
            device,
            agent,
        })
    }

    pub(crate) async fn start(&self) -> Terminal {
        self.try_start().await.unwrap()
    }

    /// The terminal as it is after a loss of power.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        Self {
            flash: self.flash.survivor(seed),
            ..self.clone()
        }
    }
}

impl Terminal {
    /// Off-line work, and as many restarts as it asks for.
    pub(crate) async fn work(&mut self) -> WorkReport {
        let mut all = WorkReport::default();
        for _ in 0..8 {
            let report = self.agent.work().await.unwrap();
            all.results.extend(report.results);
            all.again = report.again;
            if !report.restart {
                return all;
            }
            *self = self.kit.start().await;
        }
        panic!("the terminal starts again and again");
    }

    /// The terminal is in another state from now on.
    pub(super) fn set(&mut self, change: impl Fn(&mut Conditions)) {
        change(&mut self.kit.conditions);
        self.device.set(|conditions| change(conditions));
    }

    /// The version of the application that runs.
    pub(crate) async fn version(&self) -> String {
        self.device.versions().await["bank"].version.clone()
    }
}
