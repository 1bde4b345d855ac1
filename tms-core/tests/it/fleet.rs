//! Several real terminals in one world.

use crate::agent::terminal::{Kit, Terminal};
use crate::world::{World, holder, operator};
use std::sync::Arc;
use tms_core::agent::CallReport;
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::entropy::OsEntropy;
use tms_core::rule::task::{Counts, Slot};
use tms_core::server::Options;
use tms_core::store::{Entity, Key, Kind, Query, Record, Store, TerminalId};
use tms_core::task::{Member, Runner, Task};
use tms_core::transport::{LinkProfile, memory};
use tms_proto::code::TriggerKind;
use tms_proto::message::Inventory;
use tms_proto::secret::Secret;

pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) runner: Runner,
    pub(crate) terminals: Vec<Terminal>,
}

impl Fleet {
    /// So many terminals, fresh from the factory, that have checked in once.
    pub(crate) async fn new(count: usize) -> Self {
        Self::of(World::new().await, count).await
    }

    /// The same on this store.
    pub(crate) async fn on(store: Arc<dyn Store>, count: usize) -> Self {
        Self::of(World::with(store, Options::default()).await, count).await
    }

    async fn of(world: World, count: usize) -> Self {
        let runner = Runner::new(world.store.clone(), world.clock.clone(), Arc::new(OsEntropy));
        let mut fleet = Self {
            world,
            runner,
            terminals: Vec::new(),
        };
        for _ in 0..count {
            fleet.add().await;
        }
        fleet
    }

    /// One more terminal, which checks in.
    pub(crate) async fn add(&mut self) {
        let number = self.terminals.len();
        let serial = format!("{:04}", number + 1);
        let id = self.world.enrol(&serial).await;
        let mut kit = Kit::new().await;
        (kit.identity.terminal, kit.identity.holder) = (id, holder(&serial));
        kit.clock = self.world.clock.clone();
        if let Some(main_key) = &mut kit.identity.main_key {
            let keys = MemoryKeys::new();
            keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
            main_key.keys = Arc::new(keys);
        }
        self.terminals.push(kit.start().await);
        self.call(number).await;
    }

    pub(crate) fn id(&self, number: usize) -> TerminalId {
        self.terminals[number].kit.identity.terminal
    }

    /// A terminal calls, does what it can, and calls again as long as it has something to tell.
    pub(crate) async fn update(&mut self, number: usize) {
        for _ in 0..6 {
            self.call(number).await;
            self.terminals[number].work().await;
            if self.terminals[number].agent.unacknowledged() == 0 {
                return;
            }
        }
    }

    pub(crate) async fn call(&mut self, number: usize) -> CallReport {
        self.call_for(number, TriggerKind::Manual).await
    }

    /// A terminal calls for this reason; the call is over for both when this is.
    pub(crate) async fn call_for(&mut self, number: usize, trigger: TriggerKind) -> CallReport {
        let (here, there) = memory::pair();
        let answered = self.world.answer(there, &format!("modem {number}"), LinkProfile::TCP);
        let report = self.terminals[number].agent.call(here, trigger).await;
        answered.await.unwrap();
        report
    }

    /// The runner does all there is to do now.
    pub(crate) async fn run(&self) {
        for _ in 0..100 {
            if !self.runner.advance().await.unwrap() {
                return;
            }
        }
        panic!("the runner never comes to an end");
    }

    /// What the terminals reported last that they have.
    pub(crate) async fn inventories(&self) -> Vec<Inventory> {
        let mut inventories = Vec::new();
        for number in 0..self.terminals.len() {
            let found = self.world.store.get(&Key::Inventory(self.id(number))).await.unwrap();
            match found.unwrap().record {
                Record::Inventory(record) => inventories.push(record.inventory),
                other => panic!("unexpected {other:?}"),
            }
        }
        inventories
    }

    pub(crate) async fn documents<E: Entity>(&self, kind: Kind, prefix: String) -> Vec<E> {
        let query = Query::Documents {
            kind,
            prefix,
            after: None,
        };
        let page = self.world.store.list(&query, 10_000).await.unwrap();
        let read = |record| match record {
            Record::Document(document) => document.read().unwrap(),
            other => panic!("unexpected {other:?}"),
        };
        page.into_iter().map(|found| read(found.record)).collect()
    }

    pub(crate) async fn members(&self, task: u64) -> Vec<Member> {
        self.documents(Member::KIND, Member::mark(task, None, None)).await
    }

    /// The task, after its counters were held against its terminals.
    pub(crate) async fn task(&self, id: u64) -> Task {
        let progress = self.world.estate.task_progress(&operator(), id).await.unwrap();
        let members = self.members(id).await;
        for (stage, number) in progress.stages.iter().zip(0..) {
            let mut counts = Counts::default();
            for member in members.iter().filter(|member| member.stage == number) {
                counts.add(member.state);
            }
            assert_eq!(stage.counts, counts, "stage {number}");
        }
        progress.task
    }

    pub(crate) async fn count(&self, task: u64, slot: Slot) -> u64 {
        let progress = self.world.estate.task_progress(&operator(), task).await.unwrap();
        progress.stages.iter().map(|stage| stage.counts.of(slot)).sum()
    }
}
