//! Content that comes compressed or as a delta: taken where it fits, and whole where it does not.

use super::download::content;
use super::office::{Cut, Office, Quirk, call, call_cut};
use super::terminal::{FACTORY, Kit, Terminal};
use crate::world::{World, operator};
use std::sync::Arc;
use tms_core::agent::CallReport;
use tms_core::agent::slot::SlotDevice;
use tms_core::blob::BlobStore;
use tms_core::custody::{MainKey, MemoryKeys};
use tms_core::representation;
use tms_core::store::{Change, Expect, Key, Record, RepresentationRef};
use tms_proto::code::{ComponentKind, Representation, ResultCode, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::secret::Secret;

/// What the terminals run.
fn base() -> Vec<u8> {
    content(200_000)
}

/// What they are to run: a little of it has changed, and some is new that nothing makes smaller.
fn next() -> Vec<u8> {
    let mut next = base();
    next.splice(
        50_000..50_000,
        (0..30_000u32).map(|index| Digest::of(&index.to_be_bytes()).0[0]),
    );
    next.iter_mut().step_by(9_000).for_each(|byte| *byte ^= 0x55);
    next
}

/// A real server that has both versions, and a terminal that runs the first.
struct Setting {
    world: World,
    kit: Kit,
    manifest: Digest,
}

impl Setting {
    async fn new() -> Self {
        let world = World::new().await;
        let id = world.enrol("0001").await;
        let mut kit = Kit::new().await;
        kit.identity.terminal = id;
        let keys = MemoryKeys::new();
        keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        kit.identity.main_key.as_mut().unwrap().keys = Arc::new(keys);
        runs(&kit, &base()).await;
        world.publish(&base(), 1).await;
        let manifest = world.publish(&next(), 2).await;
        Self { world, kit, manifest }
    }

    async fn represent(&self) -> Vec<RepresentationRef> {
        let bases = [Digest::of(&base())];
        self.world
            .estate
            .represent(&operator(), &self.manifest, &bases)
            .await
            .unwrap()
    }

    async fn queue(&self) -> u64 {
        self.world.queue(self.kit.identity.terminal, &self.manifest).await
    }

    async fn call(&self, terminal: &mut Terminal) -> CallReport {
        let line = self.world.line("modem 1");
        terminal.agent.call(line, TriggerKind::Schedule).await
    }

    /// Puts what the test has made in the place of the package's delta.
    async fn spoil(&self, object: Vec<u8>) {
        let (name, size) = self.world.blobs.put(&mut &object[..], None).await.unwrap();
        let key = Key::Package(self.manifest);
        let found = self.world.store.get(&key).await.unwrap().unwrap();
        let Record::Package(mut package) = found.record else {
            panic!("not a package")
        };
        package.package.representations = vec![RepresentationRef {
            form: Representation::Delta,
            object: name,
            size,
            base: Some(Digest::of(&base())),
        }];
        let change = Change::Put(Expect::Version(found.version), Record::Package(package));
        self.world.store.commit(vec![change]).await.unwrap();
    }
}

/// The terminal comes with this version.
async fn runs(kit: &Kit, content: &[u8]) {
    let device = SlotDevice::open(Arc::new(kit.flash.clone())).await.unwrap();
    device
        .provision("bank", ComponentKind::Application, "1.0", 1, content)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_terminal_that_runs_the_base_gets_the_delta() {
    let setting = Setting::new().await;
    let made = setting.represent().await;
    let forms: Vec<_> = made.iter().map(|made| (made.form, made.base)).collect();
    assert_eq!(
        forms,
        [
            (Representation::Zstd, None),
            (Representation::Delta, Some(Digest::of(&base())))
        ]
    );
    let action = setting.queue().await;
    let mut terminal = setting.kit.start().await;

    let report = setting.call(&mut terminal).await;
    assert_eq!(report.downloads.len(), 1, "{report}");
    assert_eq!(
        (report.downloads[0].object, report.downloads[0].size),
        (made[1].object, made[1].size)
    );
    // The new 30,000 bytes come, and little else.
    assert!(report.received < 35_000, "{report}");
    let work = terminal.work().await;
    let stages: Vec<Stage> = work.results.iter().map(|result| result.stage).collect();
    let expected = [
        Stage::Verified,
        Stage::Installed,
        Stage::Activated,
        Stage::RunningConfirmed,
    ];
    assert_eq!(stages, expected);
    assert_eq!(terminal.version().await, "2.0");

    let report = setting.call(&mut terminal).await;
    assert!(report.recorded, "{report}");
    let assignment = setting.world.assignment(setting.kit.identity.terminal, action).await;
    assert_eq!((assignment.stage, assignment.whole), (Stage::RunningConfirmed, false));
    // Neither the delta nor what came of it is kept.
    terminal.agent.work().await.unwrap();
    let names = tms_core::agent::flash::Flash::names(&terminal.kit.flash).await.unwrap();
    assert!(names.iter().all(|name| !name.starts_with("object.")), "{names:?}");
}

#[tokio::test]
async fn the_plan_stays_as_it_is_while_the_terminal_does() {
    let setting = Setting::new().await;
    setting.represent().await;
    setting.queue().await;
    let mut terminal = setting.kit.start().await;
    let line = Cut {
        line: Some(setting.world.line("modem 1")),
        left: 10_000,
    };
    let first = terminal.agent.call(line, TriggerKind::Manual).await;
    for _ in 0..3 {
        let line = Cut {
            line: Some(setting.world.line("modem 1")),
            left: 6_000,
        };
        let report = terminal.agent.call(line, TriggerKind::Retry).await;
        assert_eq!((report.plan, report.unchanged), (first.plan, true), "{report}");
    }
}

#[tokio::test]
async fn a_terminal_that_runs_something_else_gets_what_it_can_decode() {
    let setting = Setting::new().await;
    let made = setting.represent().await;
    setting.queue().await;
    let mut other = base();
    other[100_000] ^= 1;
    runs(&setting.kit, &other).await;
    let mut terminal = setting.kit.start().await;
    let report = setting.call(&mut terminal).await;
    assert_eq!(report.downloads[0].object, made[0].object, "{report}");
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_terminal_that_decodes_nothing_gets_the_content() {
    for representations in [vec![], vec![Representation::Whole]] {
        let mut setting = Setting::new().await;
        setting.kit.conditions.representations = representations;
        setting.represent().await;
        setting.queue().await;
        let mut terminal = setting.kit.start().await;
        let report = setting.call(&mut terminal).await;
        assert_eq!(report.downloads[0].object, Digest::of(&next()), "{report}");
        terminal.work().await;
        assert_eq!(terminal.version().await, "2.0");
    }
}

#[tokio::test]
async fn a_delta_goes_on_at_the_byte_where_it_was_cut() {
    let setting = Setting::new().await;
    let made = setting.represent().await;
    setting.queue().await;
    let mut terminal = setting.kit.start().await;
    let (mut held, mut received) = (0, 0);
    for cut in [12_000, 9_000, 7_000, u64::MAX] {
        let line = Cut {
            line: Some(setting.world.line("modem 1")),
            left: cut,
        };
        let report = terminal.agent.call(line, TriggerKind::Retry).await;
        assert_eq!(report.downloads[0].object, made[1].object);
        assert_eq!(report.downloads[0].from, held, "{report}");
        held = report.downloads[0].until;
        received += held - report.downloads[0].from;
    }
    assert_eq!((held, received), (made[1].size, made[1].size));
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn what_cannot_be_decoded_is_reported_and_comes_whole_the_next_time() {
    let good = representation::delta(&base(), &next()).unwrap();
    let mut damaged = good.clone();
    damaged[20_000] ^= 1;
    let mut against_another = base();
    against_another[3] ^= 1;
    let spoilt = [
        b"not a frame at all".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        damaged,
        // It can be decoded, and gives another content.
        representation::delta(&against_another, &next()).unwrap(),
        // A base that is longer than what the terminal runs.
        representation::delta(&[base(), next()].concat(), &next()).unwrap(),
    ];
    for object in spoilt {
        let setting = Setting::new().await;
        setting.spoil(object.clone()).await;
        let action = setting.queue().await;
        let mut terminal = setting.kit.start().await;
        let report = setting.call(&mut terminal).await;
        assert_eq!(report.downloads[0].object, Digest::of(&object), "{report}");
        let work = terminal.work().await;
        let told: Vec<_> = work.results.iter().map(|result| (result.stage, result.code)).collect();
        assert_eq!(told, [(Stage::Waiting, ResultCode::Undecodable)]);
        assert_eq!(terminal.version().await, "1.0");

        // It costs no attempt and no time.
        assert_eq!(terminal.agent.next_contact().wait.as_secs(), 0);
        let report = setting.call(&mut terminal).await;
        assert!(!report.unchanged, "{report}");
        assert_eq!(report.downloads[0].object, Digest::of(&next()), "{report}");
        let assignment = setting.world.assignment(setting.kit.identity.terminal, action).await;
        assert_eq!((assignment.whole, assignment.attempt), (true, 1));
        terminal.work().await;
        assert_eq!(terminal.version().await, "2.0");
        setting.call(&mut terminal).await;
        let assignment = setting.world.assignment(setting.kit.identity.terminal, action).await;
        assert_eq!((assignment.closed, assignment.stage), (true, Stage::RunningConfirmed));
    }
}

/// A server that plans a delta, and a terminal with the factory's version.
async fn planned(base: &[u8]) -> (Terminal, Office, Vec<u8>, Digest) {
    let (mut office, content) = (Office::new().await, content(120_000));
    office.assign(7, &content, |_| {}).await;
    let delta = representation::delta(base, &content).unwrap();
    let object = office.give(Representation::Delta, Digest::of(base), delta);
    (Kit::new().await.start().await, office, content, object)
}

fn gets(office: &Office) -> Vec<Digest> {
    office
        .heard
        .iter()
        .flat_map(|heard| &heard.gets)
        .map(|get| get.digest)
        .collect()
}

#[tokio::test]
async fn a_delta_against_something_that_does_not_run_is_not_begun() {
    let (mut terminal, mut office, content, object) = planned(b"another version").await;
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    // The content comes in the same call.
    assert!(gets(&office).contains(&Digest::of(&content)), "{report}");
    assert!(!gets(&office).contains(&object));
    let told = office.last().results.iter().map(|result| (result.stage, result.code));
    assert!(
        told.clone()
            .any(|told| told == (Stage::Waiting, ResultCode::Undecodable))
    );
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_server_that_insists_on_its_representation_is_not_followed() {
    let (mut terminal, mut office, content, object) = planned(FACTORY).await;
    office.give(Representation::Delta, Digest::of(FACTORY), b"rubbish".to_vec());
    for _ in 0..3 {
        call_cut(&mut terminal, &mut office, TriggerKind::Manual, 20_000).await;
        terminal.agent.work().await.unwrap();
        // Now the right one, and now the wrong one again.
        office.plan.sequence += 1;
        let other = if office.plan.actions[0].object == Some(object) {
            b"waste".to_vec()
        } else {
            office.objects[&object].clone()
        };
        office.give(Representation::Delta, Digest::of(FACTORY), other);
    }
    let coded = gets(&office)
        .iter()
        .filter(|get| **get == object || office.objects[get].len() < 10)
        .count();
    assert_eq!(coded, 1, "only the first was tried");
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert!(gets(&office).contains(&Digest::of(&content)));
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn an_object_that_is_gone_or_changed_is_no_end_where_the_content_is_there() {
    for quirk in [
        Quirk::WrongByte(10),
        Quirk::NoObject(ResultCode::Gone),
        Quirk::WrongSize(77),
    ] {
        let (mut terminal, mut office, content, _) = planned(FACTORY).await;
        // The manifest comes as it should.
        call_cut(&mut terminal, &mut office, TriggerKind::Manual, 1_900).await;
        assert!(gets(&office).len() <= 2);
        office.quirk = quirk;
        call(&mut terminal, &mut office, TriggerKind::Retry).await;
        office.quirk = Quirk::None;
        terminal.kit.clock.advance(86_400);
        call(&mut terminal, &mut office, TriggerKind::Retry).await;
        let told = office.results();
        assert!(
            told.values().any(|result| result.code == ResultCode::Undecodable),
            "{told:?}"
        );
        if terminal.agent.actions().is_empty() {
            // What the server says of every object, it says of the content too.
            continue;
        }
        assert!(gets(&office).contains(&Digest::of(&content)));
        terminal.work().await;
        assert_eq!(terminal.version().await, "2.0");
    }
}

#[tokio::test]
async fn there_must_be_room_for_the_object_and_the_content() {
    let (mut terminal, mut office, content, object) = planned(FACTORY).await;
    // Room for the content alone, and for its installation.
    let used = 8 * (1 << 20) - tms_core::agent::flash::Flash::free(&terminal.kit.flash).await.unwrap();
    let reserve = terminal.kit.options.reserve;
    let needed = 2 * content.len() as u64 + office.objects[&object].len() as u64 + used + reserve;
    terminal.kit.flash.resize(needed - 3_000);
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let last = office.last().results.last().unwrap();
    assert_eq!((last.stage, last.code), (Stage::Waiting, ResultCode::NoSpace));
    assert!(!gets(&office).contains(&object));
    terminal.kit.flash.resize(needed + 20_000);
    terminal.kit.clock.advance(3_600);
    call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}
