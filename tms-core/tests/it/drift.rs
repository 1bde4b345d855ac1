//! Drift, through real check-ins: what somebody put on a terminal, changed at it, or a task failed to bring.

use crate::agent::terminal::{FACTORY, Kit, Terminal};
use crate::install::limited;
use crate::world::{NOW, World, operator};
use tms_core::agent::slot::SelfTest;
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::estate::{Branch, Drift, DriftPolicy, EstateError, Permission};
use tms_core::rule::drift::{Class, Item, Response};
use tms_core::rule::template::{Definition, Document, Kind, Parameter, Template};
use tms_core::store::{ActionId, BranchPath, Caller, EventKind, TerminalId};
use tms_proto::code::{ComponentKind, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::secret::Secret;
use tms_proto::tlv::Structure;

struct Setting {
    world: World,
    terminal: Terminal,
    id: TerminalId,
}

fn head() -> BranchPath {
    BranchPath::head_office()
}

fn bank() -> Item {
    Item::Component("bank".to_owned())
}

fn pay() -> Item {
    Item::Parameters("pay".to_owned())
}

fn document(host: &str) -> Document {
    Document {
        template: "pay".to_owned(),
        parameters: vec![Parameter {
            name: "host".to_owned(),
            kind: 0,
            value: host.to_owned(),
        }],
    }
}

impl Setting {
    /// A terminal that comes with an application and a parameter set, and has checked in once.
    async fn new() -> Self {
        let world = World::new().await;
        let id = world.enrol("0001").await;
        let mut kit = Kit::new().await;
        kit.identity.terminal = id;
        let keys = MemoryKeys::new();
        keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        kit.identity.main_key.as_mut().unwrap().keys = std::sync::Arc::new(keys);
        let terminal = kit.start().await;
        terminal.device.provision_parameters(&document("a:1")).await.unwrap();
        let mut setting = Self { world, terminal, id };
        setting.call().await;
        assert_eq!(setting.judged().await, None, "what a terminal comes with is no drift");
        setting
    }

    async fn call(&mut self) {
        let line = self.world.line("modem 1");
        let report = self.terminal.agent.call(line, TriggerKind::Manual).await;
        assert!(report.recorded, "{report}");
    }

    /// Work and calls until there is nothing to be said any more.
    async fn live(&mut self) {
        for _ in 0..3 {
            self.terminal.work().await;
            self.call().await;
        }
    }

    /// What is found once all events are looked at.
    async fn judged(&self) -> Option<Drift> {
        while self.world.estate.judge_drift(1_000).await.unwrap().events > 0 {}
        let caller = Caller::Id(self.id);
        self.world.estate.drift_of(&operator(), &caller).await.unwrap()
    }

    async fn only(&self) -> (Item, Class, Option<Response>) {
        let drift = self.judged().await.unwrap();
        assert_eq!(drift.items.len(), 1, "{drift:?}");
        let finding = &drift.items[0].finding;
        (finding.item.clone(), finding.class, finding.response)
    }

    async fn accept(&self, item: &Item) {
        let caller = Caller::Id(self.id);
        self.world
            .estate
            .accept_drift(&operator(), &caller, item)
            .await
            .unwrap();
    }

    async fn restore(&self, item: &Item) -> Result<ActionId, EstateError> {
        let caller = Caller::Id(self.id);
        self.world.estate.restore_drift(&operator(), &caller, item).await
    }

    /// Follows the policy; for how many terminals.
    async fn restored(&self) -> u32 {
        self.judged().await;
        self.world.estate.restore_drifts(10).await.unwrap()
    }

    /// What the terminal's set says now.
    async fn host(&self) -> String {
        let set = self.terminal.device.parameters("pay").await.unwrap().unwrap();
        set.parameters[0].value.clone()
    }

    async fn policy(&self, change: impl FnOnce(&mut DriftPolicy)) {
        let mut policy = self.world.estate.drift_policy().await.unwrap();
        change(&mut policy);
        self.world.estate.put_drift_policy(&operator(), policy).await.unwrap();
    }

    async fn counts(&self) -> Vec<(String, u64)> {
        let report = self.world.estate.drift_counts(&operator(), &head()).await.unwrap();
        assert_eq!(report.terminals, 1);
        report.rows.into_iter().map(|row| (row.class, row.terminals)).collect()
    }
}

#[tokio::test]
async fn a_foreign_application_is_found_and_can_be_accepted() {
    let mut setting = Setting::new().await;
    let device = &setting.terminal.device;
    device
        .provision("game", ComponentKind::Application, "6.6", 0, b"game")
        .await
        .unwrap();
    setting.call().await;
    let game = Item::Component("game".to_owned());
    assert_eq!(
        setting.only().await,
        (game.clone(), Class::Foreign, Some(Response::Report))
    );
    assert_eq!(setting.counts().await, [("foreign".to_owned(), 1)]);
    let estate = &setting.world.estate;
    let page = estate
        .drift(&operator(), &head(), Some(Class::Foreign), None, 10)
        .await
        .unwrap();
    let row = &page.rows[0];
    assert_eq!(
        (row.name.as_str(), row.version.as_str(), row.desired.as_str()),
        ("game", "6.6", "")
    );
    assert_eq!(
        (row.serial.as_str(), &row.reported),
        ("0001", &Digest::of(b"game").to_string())
    );
    assert_eq!(
        estate
            .drift(&operator(), &head(), Some(Class::Old), None, 10)
            .await
            .unwrap()
            .rows,
        []
    );

    // The policy only reports it, and nothing removes it.
    assert_eq!(estate.restore_drifts(10).await.unwrap(), 0);
    setting.accept(&game).await;
    assert_eq!(setting.judged().await, None);
    assert_eq!(setting.counts().await, []);
    // What was accepted is what it shall be: another is not.
    let device = &setting.terminal.device;
    device
        .provision("game", ComponentKind::Application, "6.7", 0, b"other")
        .await
        .unwrap();
    setting.call().await;
    assert_eq!(setting.only().await, (game, Class::OnSiteEdit, Some(Response::Report)));
}

#[tokio::test]
async fn a_foreign_application_is_removed_where_the_policy_says_so() {
    let mut setting = Setting::new().await;
    setting.policy(|policy| policy.policy.foreign = Response::Restore).await;
    let game = Item::Component("game".to_owned());
    for _ in 0..2 {
        let device = &setting.terminal.device;
        device
            .provision("game", ComponentKind::Application, "6.6", 0, b"game")
            .await
            .unwrap();
        setting.call().await;
        assert_eq!(
            setting.only().await,
            (game.clone(), Class::Foreign, Some(Response::Restore))
        );
        assert_eq!(setting.restored().await, 1);
        assert_eq!(
            (setting.judged().await, setting.restored().await),
            (None, 0),
            "it is under way"
        );
        setting.call().await;
        setting.live().await;
        assert!(!setting.terminal.device.versions().await.contains_key("game"));
        assert_eq!(setting.judged().await, None);
    }
    let events = setting.world.events().await.into_iter();
    let restored = events.filter(|event| matches!(&event.kind, EventKind::Restored { what, .. } if what == "game"));
    assert_eq!(restored.count(), 2);
    let acts = setting.world.estate.audit(&operator(), 0, 100).await.unwrap();
    let by_policy = acts.iter().filter(|entry| entry.operator == "drift policy");
    assert_eq!(by_policy.count(), 2);

    // A set that nobody brought is removed by nobody: it is reported, and looked at once.
    let set = Document {
        template: "alien".to_owned(),
        ..document("x:1")
    };
    setting.terminal.device.provision_parameters(&set).await.unwrap();
    setting.call().await;
    let alien = Item::Parameters("alien".to_owned());
    assert_eq!(
        setting.only().await,
        (alien.clone(), Class::Foreign, Some(Response::Restore))
    );
    assert_eq!((setting.restored().await, setting.restored().await), (1, 0));
    assert_eq!(
        setting.only().await,
        (alien.clone(), Class::Foreign, Some(Response::Report))
    );
    let refused = setting.restore(&alien).await;
    assert!(matches!(refused, Err(EstateError::Invalid(..))), "{refused:?}");
}

#[tokio::test]
async fn what_comes_to_nothing_is_reported_in_the_end() {
    let mut setting = Setting::new().await;
    let manifest = setting.world.publish(b"version 2", 2).await;
    setting.world.queue(setting.id, &manifest).await;
    setting
        .policy(|policy| policy.policy.failed_task = Response::Restore)
        .await;
    setting.terminal.kit.self_test = SelfTest::Fails;
    let mut restored = 0;
    for _ in 0..6 {
        setting.call().await;
        setting.live().await;
        restored += setting.restored().await;
    }
    assert_eq!(restored, 3);
    assert_eq!(
        setting.only().await,
        (bank(), Class::FailedTask, Some(Response::Report))
    );
    // An operator may all the same.
    setting.terminal.kit.self_test = SelfTest::Passes;
    setting.restore(&bank()).await.unwrap();
    setting.call().await;
    setting.live().await;
    assert_eq!(
        (setting.terminal.version().await.as_str(), setting.judged().await),
        ("2.0", None)
    );
}

#[tokio::test]
async fn a_change_on_site_is_found_with_its_time() {
    let mut setting = Setting::new().await;
    let device = &setting.terminal.device;
    device.change_on_site("pay", "host", "mine:6", NOW - 77).await.unwrap();
    setting.call().await;
    assert_eq!(setting.only().await, (pay(), Class::OnSiteEdit, Some(Response::Report)));
    let finding = setting.judged().await.unwrap().items.remove(0).finding;
    let wanted = Digest::of(&document("a:1").to_vec());
    assert_eq!((finding.changed_at, finding.desired), (Some(NOW - 77), Some(wanted)));
    let csv = setting
        .world
        .estate
        .drift(&operator(), &head(), None, None, 10)
        .await
        .unwrap();
    let csv = tms_core::estate::report::csv(&csv.rows, csv.as_of, true);
    assert!(csv.contains(",parameters,pay,on_site_edit,report,no,"), "{csv}");

    // A template may be stricter than the estate.
    let template = Template {
        name: "pay".to_owned(),
        version: 0,
        definitions: vec![Definition {
            name: "host".to_owned(),
            label: String::new(),
            kind: Kind::Endpoint,
            default: Some("a:1".to_owned()),
            required: true,
            narrowest: None,
            on_site: Response::Restore,
        }],
    };
    setting.world.estate.put_template(&operator(), template).await.unwrap();
    let device = &setting.terminal.device;
    device.change_on_site("pay", "host", "mine:7", NOW - 7).await.unwrap();
    setting.call().await;
    assert_eq!(
        setting.only().await,
        (pay(), Class::OnSiteEdit, Some(Response::Restore))
    );
    // The estate brings it by itself, once.
    assert_eq!(setting.restored().await, 1);
    assert_eq!(setting.restored().await, 0);
    assert_eq!(
        setting.judged().await.unwrap().items[0].finding.response,
        Some(Response::Report)
    );
    setting.live().await;
    assert_eq!(setting.judged().await, None);
    assert_eq!(setting.host().await, "a:1");

    // Changed again and again, it is brought again; changed back on site, it is what it shall be.
    let device = &setting.terminal.device;
    device.change_on_site("pay", "host", "mine:8", NOW).await.unwrap();
    setting.call().await;
    assert_eq!(setting.restored().await, 1);
    setting.live().await;
    assert_eq!((setting.host().await, setting.judged().await), ("a:1".to_owned(), None));
    let device = &setting.terminal.device;
    device.change_on_site("pay", "host", "a:1", NOW).await.unwrap();
    setting.call().await;
    assert_eq!(setting.judged().await, None);
}

#[tokio::test]
async fn a_failed_task_is_found_and_can_be_tried_again() {
    let mut setting = Setting::new().await;
    let manifest = setting.world.publish(b"version 2", 2).await;
    setting.world.queue(setting.id, &manifest).await;
    assert_eq!(setting.judged().await, None, "it is under way");
    setting.terminal.kit.self_test = SelfTest::Fails;
    setting.call().await;
    setting.live().await;
    assert_eq!(setting.terminal.version().await, "1.0");
    assert_eq!(
        setting.only().await,
        (bank(), Class::FailedTask, Some(Response::Report))
    );
    let finding = setting.judged().await.unwrap().items.remove(0).finding;
    let expected = (Some(Digest::of(b"version 2")), Some(Digest::of(FACTORY)));
    assert_eq!((finding.desired, finding.reported), expected);

    let again = setting.restore(&bank()).await.unwrap();
    assert_eq!(again, ActionId(2));
    assert_eq!(setting.judged().await, None, "it is under way again");
    setting.terminal.kit.self_test = SelfTest::Passes;
    setting.call().await;
    setting.live().await;
    assert_eq!(setting.terminal.version().await, "2.0");
    assert_eq!(setting.judged().await, None);

    // Somebody puts the old version back by hand: the policy brings the new one.
    let device = &setting.terminal.device;
    device
        .provision("bank", ComponentKind::Application, "1.0", 2, FACTORY)
        .await
        .unwrap();
    setting.call().await;
    assert_eq!(setting.only().await, (bank(), Class::Old, Some(Response::Restore)));
    assert_eq!(setting.restored().await, 1);
    assert_eq!(setting.judged().await, None, "it is under way");
    // Said again, nothing is done twice.
    assert_eq!(setting.restored().await, 0);
    setting.call().await;
    setting.live().await;
    assert_eq!(setting.terminal.version().await, "2.0");
    assert_eq!(setting.judged().await, None);
}

#[tokio::test]
async fn accepting_takes_the_right_to_plan_there() {
    let mut setting = Setting::new().await;
    let estate = setting.world.estate.clone();
    let west: BranchPath = "/west".parse().unwrap();
    let branch = Branch {
        path: west.clone(),
        name: "west".to_owned(),
        zone: None,
        variables: Default::default(),
    };
    estate.put_branch(&operator(), branch).await.unwrap();
    let mut actors = Vec::new();
    for (name, at, permission) in [("li", "/west", Permission::Plan), ("wang", "/", Permission::View)] {
        actors.push(limited(&estate, name, at, &[permission, Permission::View]).await);
    }
    let device = &setting.terminal.device;
    device.change_on_site("pay", "host", "mine:6", NOW).await.unwrap();
    setting.call().await;
    setting.judged().await.unwrap();
    let caller = Caller::Id(setting.id);
    let unseen = estate.accept_drift(&actors[0], &caller, &pay()).await;
    assert!(matches!(unseen, Err(EstateError::UnknownTerminal(_))));
    let denied = estate.accept_drift(&actors[1], &caller, &pay()).await;
    assert!(matches!(denied, Err(EstateError::Denied(denied)) if denied.permission == Permission::Plan));
    let missing = estate.accept_drift(&operator(), &caller, &bank()).await;
    assert!(matches!(missing, Err(EstateError::Unknown(..))));
    assert!(estate.drift_of(&actors[1], &caller).await.unwrap().is_some());
    setting.accept(&pay()).await;
    assert_eq!(setting.judged().await, None);
    let acts = estate.audit(&operator(), 0, 100).await.unwrap();
    assert!(acts.iter().any(|entry| entry.act == "drift.accept"));
}

#[tokio::test]
async fn any_portions_come_to_the_same() {
    let mut setting = Setting::new().await;
    let manifest = setting.world.publish(b"version 2", 2).await;
    setting.world.queue(setting.id, &manifest).await;
    let device = &setting.terminal.device;
    device
        .provision("game", ComponentKind::Application, "6.6", 0, b"game")
        .await
        .unwrap();
    setting.call().await;
    setting.live().await;
    device_changes(&setting).await;
    setting.call().await;
    while setting.world.estate.judge_drift(1).await.unwrap().events > 0 {}
    let by_one = setting.judged().await.unwrap();
    let items: Vec<_> = by_one
        .items
        .iter()
        .map(|item| (&item.finding.item, item.finding.class))
        .collect();
    let game = Item::Component("game".to_owned());
    assert_eq!(items, [(&game, Class::Foreign), (&pay(), Class::OnSiteEdit)]);
    assert_eq!(
        setting.counts().await,
        [("on_site_edit".to_owned(), 1), ("foreign".to_owned(), 1)]
    );
    // Nothing new is nothing written.
    assert_eq!(setting.world.estate.judge_drift(10).await.unwrap().events, 0);
}

async fn device_changes(setting: &Setting) {
    let device = &setting.terminal.device;
    device.change_on_site("pay", "host", "mine:6", NOW).await.unwrap();
}
