//! New installations, from the business system's first word to the terminal's registration at its place.

use crate::agent::terminal::{Kit, Proves, Terminal};
use crate::world::{NOW, World, holder, operator};
use std::collections::BTreeMap;
use std::sync::Arc;
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::estate::{
    Account, Actor, Branch, Estate, EstateError, Grant, InstallState, Installation, InstallationFact as Fact,
    InstallationMessage, KeyLoad, LoadedKey, Operator, Permission, Relation, Role,
};
use tms_core::store::{BranchPath, Caller, EventKind, RosterFilter, TerminalId};
use tms_core::transport::{
    Caller as Calling, CallerNumber, CallerSource, Incoming, LinkProfile, PeerInfo, Trust, memory,
};
use tms_proto::code::{RegisterIntent, ResultCode, TriggerKind};
use tms_proto::message::{Location, Register};
use tms_proto::secret::Secret;

pub(crate) fn path(text: &str) -> BranchPath {
    text.parse().unwrap()
}

pub(crate) async fn branches(world: &World) {
    for at in ["/east", "/east/harbour", "/west"] {
        let branch = Branch {
            path: path(at),
            name: at.to_owned(),
            zone: None,
            variables: BTreeMap::new(),
        };
        world.estate.put_branch(&operator(), branch).await.unwrap();
    }
}

/// An operator who may do this in one branch, and nothing else anywhere.
pub(crate) async fn limited(estate: &Estate, name: &str, at: &str, permissions: &[Permission]) -> Actor {
    let role = Role {
        name: name.to_owned(),
        permissions: permissions.iter().copied().collect(),
    };
    estate.put_role(&operator(), role).await.unwrap();
    let person = Operator {
        name: name.to_owned(),
        full_name: name.to_owned(),
        branch: path(at),
        grants: [Grant {
            role: name.to_owned(),
            branch: path(at),
        }]
        .into(),
        account: Account::External,
        suspended: false,
        failures: 0,
        locked_until: None,
    };
    estate.put_operator(&operator(), person).await.unwrap();
    estate.sign_in_vouched(name).await.unwrap()
}

pub(crate) fn denied<T>(outcome: Result<T, EstateError>, permission: Permission) {
    let denied = matches!(&outcome, Err(EstateError::Denied(denied)) if denied.permission == permission);
    assert!(denied, "{:?}", outcome.err());
}

/// A terminal with a real agent, enrolled in the world.
pub(crate) async fn terminal(world: &World, serial: &str) -> (TerminalId, Terminal) {
    let id = world.enrol(serial).await;
    let mut kit = Kit::with(Proves::MainKey).await;
    kit.identity.terminal = id;
    kit.identity.holder = holder(serial);
    if let Some(main_key) = &mut kit.identity.main_key {
        let keys = MemoryKeys::new();
        keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        main_key.keys = Arc::new(keys);
    }
    (id, kit.start().await)
}

/// A line on which the network tells the caller's number.
pub(crate) fn line_from(world: &World, number: &str) -> tokio::io::DuplexStream {
    let (here, there) = memory::pair();
    let server = world.server.clone();
    let caller = Calling {
        number: CallerNumber::Known(number.parse().unwrap()),
        source: CallerSource::Signalling,
        trust: Trust::Network,
    };
    let incoming = Incoming {
        transport: Box::new(there),
        peer: PeerInfo {
            caller: Some(caller),
            ..PeerInfo::on_line("modem 1")
        },
        profile: LinkProfile::TCP,
    };
    tokio::spawn(async move { server.session(incoming).await });
    here
}

pub(crate) fn first_install() -> Register {
    Register {
        intent: RegisterIntent::FirstInstall,
        code: None,
        replaces: None,
        installer: Some("fitter 7".to_owned()),
        location: Some(Location {
            caller: Some("021-55501234".to_owned()),
            ..Location::default()
        }),
        logical: None,
    }
}

/// Has the terminal register in a call from this number; gives what its report says of it.
pub(crate) async fn register(world: &World, terminal: &mut Terminal, register: Register, number: &str) -> String {
    terminal.agent.register(register).await.unwrap();
    let report = terminal.agent.call(line_from(world, number), TriggerKind::Manual).await;
    assert!(report.recorded, "{report}");
    let remark = report
        .remarks
        .iter()
        .find(|remark| remark.starts_with("registration: "));
    remark.unwrap_or_else(|| panic!("{report}")).clone()
}

pub(crate) fn message(issued: u64, facts: &[(Fact, &str)]) -> InstallationMessage {
    InstallationMessage {
        reference: "BMS-1".to_owned(),
        issued,
        facts: facts.iter().map(|(fact, value)| (*fact, (*value).to_owned())).collect(),
        withdrawn: false,
    }
}

pub(crate) const WHOLE: [(Fact, &str); 8] = [
    (Fact::Branch, "/east/harbour"),
    (Fact::Merchant, "898310000000001"),
    (Fact::MerchantName, "Quay Tea House"),
    (Fact::Site, "quay-1"),
    (Fact::Address, "1 Quay Road"),
    (Fact::Terminal, "00000042"),
    (Fact::Vendor, "百富"),
    (Fact::Model, "p-80"),
];

pub(crate) fn keys() -> KeyLoad {
    let key = LoadedKey {
        slot: 1,
        version: 1,
        usage: "K0".to_owned(),
        check_value: "08d7b4".to_owned(),
    };
    KeyLoad::of("key room east, two custodians".to_owned(), Some(1), vec![key])
}

/// Takes an installation through all that comes before the terminal's own word.
pub(crate) async fn install(world: &World, message: InstallationMessage, device: TerminalId) -> Installation {
    let (estate, reference) = (&world.estate, message.reference.clone());
    estate.announce(&operator(), message).await.unwrap();
    estate
        .initialise(&operator(), &reference, &Caller::Id(device), keys())
        .await
        .unwrap();
    estate
        .confirm_by_branch(&Actor::trusted("li"), &reference)
        .await
        .unwrap();
    estate
        .confirm_by_head_office(&Actor::trusted("wang"), &reference)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_the_business_system_says_is_never_merged_in_silence() {
    let world = World::new().await;
    branches(&world).await;
    let estate = &world.estate;
    let bms = Actor::trusted("bms");
    let partial = message(NOW, &WHOLE[..5]);
    let installation = estate.announce(&bms, partial.clone()).await.unwrap();
    assert_eq!(installation.state, InstallState::Incomplete);
    assert_eq!(installation.missing(), [Fact::Terminal, Fact::Vendor, Fact::Model]);
    // twice
    let audited = estate.audit(&operator(), 0, 100).await.unwrap().len();
    assert_eq!(estate.announce(&bms, partial).await.unwrap(), installation);
    assert_eq!(estate.audit(&operator(), 0, 100).await.unwrap().len(), audited);
    // late, and written before the first; names are brought to one form
    let rest = message(
        NOW - 9,
        &[
            (Fact::Terminal, "00000042"),
            (Fact::Vendor, "百富"),
            (Fact::Model, "PAX P80"),
        ],
    );
    let installation = estate.announce(&bms, rest).await.unwrap();
    assert_eq!(installation.state, InstallState::Received);
    assert_eq!(installation.fact(Fact::Model), Some("P80"));
    assert_eq!(
        installation
            .messages
            .iter()
            .map(|known| known.out_of_order)
            .collect::<Vec<_>>(),
        [false, true]
    );
    // two words about one thing
    let other = message(NOW + 1, &[(Fact::Site, "quay-2"), (Fact::Model, "P-80")]);
    let installation = estate.announce(&bms, other).await.unwrap();
    assert_eq!(installation.state, InstallState::Contradictory);
    let [contradiction] = &installation.contradictions[..] else {
        panic!("{installation:?}")
    };
    assert_eq!(
        (
            contradiction.fact,
            contradiction.known.as_str(),
            contradiction.said.as_str()
        ),
        (Fact::Site, "quay-1", "quay-2")
    );
    let (id, _) = terminal(&world, "0001").await;
    let device = Caller::Id(id);
    let refused = estate.initialise(&bms, "BMS-1", &device, keys()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "an installation that is contradictory cannot be initialised"
    );
    let installation = estate
        .resolve_installation(&bms, "BMS-1", Fact::Site, "quay-2")
        .await
        .unwrap();
    assert_eq!(
        (installation.state, installation.fact(Fact::Site)),
        (InstallState::Received, Some("quay-2"))
    );
    // found by state, and only by whom it concerns
    let listed = |under: &'static str| {
        let under = path(under);
        async move {
            estate
                .installations(&operator(), &under, InstallState::Received, 9)
                .await
                .unwrap()
                .len()
        }
    };
    assert_eq!((listed("/east").await, listed("/west").await), (1, 0));
    let unknown = estate
        .announce(&bms, message(NOW, &[(Fact::Branch, "/north")]))
        .await
        .unwrap_err();
    assert_eq!(unknown.to_string(), "no branch /north/");
    let withdrawn = InstallationMessage {
        withdrawn: true,
        ..message(NOW + 2, &[])
    };
    assert_eq!(
        estate.announce(&bms, withdrawn).await.unwrap().state,
        InstallState::Withdrawn
    );
}

#[tokio::test]
async fn a_device_is_put_to_it_and_its_keys_are_recorded_but_never_a_key() {
    let world = World::new().await;
    branches(&world).await;
    let estate = &world.estate;
    let (id, _) = terminal(&world, "0001").await;
    let device = Caller::Id(id);
    let mut facts = WHOLE.to_vec();
    facts.push((Fact::Serial, "S/N 0002"));
    estate.announce(&operator(), message(NOW, &facts)).await.unwrap();
    let other = estate
        .initialise(&operator(), "BMS-1", &device, keys())
        .await
        .unwrap_err();
    assert_eq!(other.to_string(), "serial is not that of the installation");
    let (id, _) = terminal(&world, "0002").await;
    let device = Caller::Id(id);
    let mut load = keys();
    load.epoch = Some(9);
    let other = estate
        .initialise(&operator(), "BMS-1", &device, load)
        .await
        .unwrap_err();
    assert_eq!(other.to_string(), "epoch is not that of the terminal");
    let mut load = keys();
    load.keys[0].check_value = "00112233445566778899aabbccddeeff".to_owned();
    let key = estate
        .initialise(&operator(), "BMS-1", &device, load)
        .await
        .unwrap_err();
    assert!(matches!(key, EstateError::Invalid("check value", _)), "{key}");

    let installation = estate.initialise(&operator(), "BMS-1", &device, keys()).await.unwrap();
    assert_eq!(
        (installation.state, installation.device),
        (InstallState::Initialised, Some(id))
    );
    estate.record_key_load(&operator(), &device, keys()).await.unwrap();
    let loads = estate.key_loads(&operator(), id).await.unwrap();
    assert_eq!(loads.iter().map(|load| load.number).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(
        (
            loads[1].branch.clone(),
            loads[1].keys.clone(),
            loads[1].operator.as_str()
        ),
        (path("/east/harbour"), keys().keys, "test")
    );
    // what contradicts it now takes the confirmation away
    estate.confirm_by_branch(&operator(), "BMS-1").await.unwrap();
    let installation = estate
        .announce(&operator(), message(NOW + 1, &[(Fact::Model, "S90")]))
        .await
        .unwrap();
    assert_eq!(
        (installation.state, installation.branch_confirmed),
        (InstallState::Contradictory, None)
    );
}

#[tokio::test]
async fn a_terminal_registers_where_two_operators_have_confirmed_it() {
    let world = World::new().await;
    branches(&world).await;
    let estate = &world.estate;
    let (id, mut terminal) = terminal(&world, "0001").await;
    let unknown = register(&world, &mut terminal, first_install(), "02155501234").await;
    assert!(
        unknown.contains("no installation of this terminal is known"),
        "{unknown}"
    );

    estate.announce(&operator(), message(NOW, &WHOLE)).await.unwrap();
    estate
        .initialise(&operator(), "BMS-1", &Caller::Id(id), keys())
        .await
        .unwrap();
    let li = Actor::trusted("li");
    estate.confirm_by_branch(&li, "BMS-1").await.unwrap();
    let early = register(&world, &mut terminal, first_install(), "02155501234").await;
    assert!(early.contains("confirmed by its branch only"), "{early}");
    let alone = estate.confirm_by_head_office(&li, "BMS-1").await.unwrap_err();
    assert!(matches!(alone, EstateError::SecondOperator), "{alone}");
    assert_eq!(estate.whereabouts(&operator(), id).await.unwrap(), None);
    estate
        .confirm_by_head_office(&Actor::trusted("wang"), "BMS-1")
        .await
        .unwrap();

    // what was bound, and where it is listed
    let logical = "898310000000001:00000042";
    for (relation, object) in [
        (Relation::Device, id.to_string()),
        (Relation::Merchant, "898310000000001".to_owned()),
        (Relation::Site, "quay-1".to_owned()),
    ] {
        let bound = estate.bindings_of(&operator(), relation, logical).await.unwrap();
        assert_eq!((bound.len(), &bound[0].object), (1, &object));
    }
    assert_eq!(
        estate.merchant(&operator(), "898310000000001").await.unwrap().name,
        "Quay Tea House"
    );
    let listed = RosterFilter {
        merchant: Some("898310000000001".to_owned()),
        ..RosterFilter::under(path("/east/harbour"))
    };
    assert_eq!(estate.reports(&operator()).count(&listed).await.unwrap(), 1);

    let registered = register(&world, &mut terminal, first_install(), "02155501234").await;
    assert_eq!(registered, format!("registration: {} registered", ResultCode::Success));
    let installation = estate.installation(&operator(), "BMS-1").await.unwrap();
    assert_eq!(
        (installation.state, installation.installed),
        (InstallState::Installed, Some(NOW))
    );
    let at_home = estate.whereabouts(&operator(), id).await.unwrap().unwrap();
    let logical = at_home.logical.clone().unwrap();
    assert_eq!(
        (logical.merchant.as_str(), logical.terminal.as_str()),
        ("898310000000001", "00000042")
    );
    assert_eq!(at_home.home.clone().unwrap().place.numbers[0].digits, "862155501234");
    let claimed = at_home.registered.clone().unwrap().claimed.caller;
    assert_eq!(claimed.as_deref(), Some("021-55501234"));

    // again from there, and from elsewhere: the first counts
    let again = register(&world, &mut terminal, first_install(), "02155501234").await;
    assert_eq!(again, registered);
    let elsewhere = register(&world, &mut terminal, first_install(), "01066601234").await;
    assert!(elsewhere.contains("another place"), "{elsewhere}");
    let now = estate.whereabouts(&operator(), id).await.unwrap().unwrap();
    assert_eq!((now.home, now.registered), (at_home.home, at_home.registered));
    let told: Vec<_> = world
        .events()
        .await
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::Registered(summary) => Some(summary.elsewhere.to_string()),
            EventKind::RegistrationRefused { code, .. } => Some(code.to_string()),
            _ => None,
        })
        .collect();
    let (unknown, early) = (ResultCode::UnknownReference, ResultCode::NotPermitted);
    assert_eq!(
        told,
        [
            unknown.to_string(),
            early.to_string(),
            "false".into(),
            "false".into(),
            "true".into()
        ]
    );
}

#[tokio::test]
async fn each_step_takes_its_own_permission_in_the_branch() {
    let world = World::new().await;
    branches(&world).await;
    let estate = &world.estate;
    let (id, _) = terminal(&world, "0001").await;
    let west = limited(&world.estate, "west", "/west", &Permission::ALL).await;
    denied(estate.announce(&west, message(NOW, &WHOLE)).await, Permission::Install);
    let bms = limited(&world.estate, "bms", "/east", &[Permission::Install]).await;
    estate.announce(&bms, message(NOW, &WHOLE)).await.unwrap();
    let both = [
        Permission::View,
        Permission::ConfirmBranch,
        Permission::ConfirmHeadOffice,
    ];
    let li = limited(&world.estate, "li", "/east/harbour", &both).await;
    denied(
        estate.initialise(&li, "BMS-1", &Caller::Id(id), keys()).await,
        Permission::Enrol,
    );
    estate
        .initialise(&operator(), "BMS-1", &Caller::Id(id), keys())
        .await
        .unwrap();
    // what is not theirs is not there
    let unseen = estate.confirm_by_branch(&west, "BMS-1").await.unwrap_err();
    assert_eq!(unseen.to_string(), "no installation BMS-1");
    assert_eq!(
        estate.installation(&west, "BMS-1").await.unwrap_err().to_string(),
        "no installation BMS-1"
    );
    estate.confirm_by_branch(&li, "BMS-1").await.unwrap();
    // head office confirms at head office
    denied(
        estate.confirm_by_head_office(&li, "BMS-1").await,
        Permission::ConfirmHeadOffice,
    );
    denied(
        estate
            .approve_replacement(&li, &Caller::Id(id), tms_core::estate::Cause::Lost, "gone", 3_600)
            .await,
        Permission::Replace,
    );
}
