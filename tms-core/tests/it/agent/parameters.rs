//! Parameter sets: downloaded, put in force whole, and confirmed by what the inventory says.

use super::office::{Office, blank_action, blank_plan, call, call_cut};
use super::power::live;
use super::terminal::{Kit, Terminal};
use crate::world::NOW;
use tms_core::agent::Readiness;
use tms_core::agent::flash::PowerCut;
use tms_core::rule::template::{Document, Parameter};
use tms_proto::code::{ActionKind, ResultCode, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::message::{Action, MAX_PARAMETER_SET, Plan, Precondition};
use tms_proto::tlv::Structure;

fn document(name: &str, value: &str) -> Vec<u8> {
    document_of(name, value, 3_000)
}

fn document_of(name: &str, value: &str, length: usize) -> Vec<u8> {
    let parameter = |name: &str, value: &str| Parameter {
        name: name.to_owned(),
        kind: 0,
        value: value.to_owned(),
    };
    let document = Document {
        template: name.to_owned(),
        parameters: vec![parameter("footer", &"x".repeat(length)), parameter("host", value)],
    };
    document.to_vec()
}

/// Plans a parameter set as the only action.
fn plan(office: &mut Office, id: u64, name: &str, content: Vec<u8>) -> Digest {
    let digest = Digest::of(&content);
    let action = Action {
        object: Some(digest),
        size: Some(content.len() as u64),
        component: Some(name.to_owned()),
        ..blank_action(id, ActionKind::Update)
    };
    office.plan = Plan {
        actions: vec![action],
        ..blank_plan(office.plan.sequence + 1)
    };
    office.objects.insert(digest, content);
    digest
}

async fn host(terminal: &Terminal) -> Option<String> {
    let document = terminal.device.parameters("pay").await.unwrap()?;
    let host = document.parameters.iter().find(|parameter| parameter.name == "host");
    host.map(|host| host.value.clone())
}

fn stages(office: &Office, id: u64) -> Vec<Stage> {
    let results = office.results().into_values().filter(|result| result.action == id);
    results.map(|result| result.stage).collect()
}

/// Lets the terminal live until action 7 is over. False where power has failed.
async fn bring(terminal: &mut Terminal, office: &mut Office) -> bool {
    for _ in 0..5 {
        if !live(terminal, office).await {
            return false;
        }
        if stages(office, 7).last() == Some(&Stage::RunningConfirmed) {
            return true;
        }
    }
    panic!("the set is not brought: {:?}", office.results());
}

#[tokio::test]
async fn a_set_comes_is_put_in_force_and_confirmed() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    let digest = plan(&mut office, 7, "pay", document("pay", "a.example.com:1"));
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    assert_eq!(host(&terminal).await, None, "nothing is put in force during a call");
    terminal.work().await;
    assert_eq!(host(&terminal).await.as_deref(), Some("a.example.com:1"));
    call(&mut terminal, &mut office, TriggerKind::Event).await;
    let last = office.results().into_values().last().unwrap();
    assert_eq!((last.stage, last.running), (Stage::RunningConfirmed, Some(digest)));
    let expected = [
        Stage::Downloading,
        Stage::Downloaded,
        Stage::Verified,
        Stage::Activated,
        Stage::RunningConfirmed,
    ];
    assert_eq!(stages(&office, 7), expected);
    let inventory = office.last().report.as_ref().unwrap().inventory.clone().unwrap();
    let set = inventory.parameters.iter().find(|set| set.name == "pay").unwrap();
    assert_eq!((set.digest, set.changed_on_site), (digest, None));

    // The same again, by another action: it is in force, and nothing is downloaded.
    plan(&mut office, 8, "pay", document("pay", "a.example.com:1"));
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!(office.last().gets.len(), 0);
    assert_eq!(stages(&office, 8), [Stage::RunningConfirmed]);

    // Another one takes its place; what somebody did at the terminal goes with it.
    terminal
        .device
        .change_on_site("pay", "host", "evil:1", NOW)
        .await
        .unwrap();
    let digest = plan(&mut office, 9, "pay", document("pay", "b.example.com:2"));
    live(&mut terminal, &mut office).await;
    assert_eq!(host(&terminal).await.as_deref(), Some("b.example.com:2"));
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let last = office.results().into_values().last().unwrap();
    assert_eq!((last.stage, last.running), (Stage::RunningConfirmed, Some(digest)));
}

#[tokio::test]
async fn a_terminal_that_is_not_ready_keeps_the_old_parameters() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    plan(&mut office, 7, "pay", document("pay", "a:1"));
    office.plan.actions[0].preconditions = Some(Precondition::SETTLED);
    call(&mut terminal, &mut office, TriggerKind::PowerOn).await;
    terminal.set(|conditions| conditions.readiness.unsettled = true);
    assert!(terminal.work().await.again.is_some());
    assert_eq!(host(&terminal).await, None);
    terminal.set(|conditions| conditions.readiness = Readiness::FREE);
    terminal.work().await;
    assert_eq!(host(&terminal).await.as_deref(), Some("a:1"));
}

#[tokio::test]
async fn what_is_no_such_set_is_refused() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    for (id, content, code) in [
        (1, b"not a parameter set".to_vec(), ResultCode::FormatError),
        (2, document("other", "a:1"), ResultCode::InvalidContent),
    ] {
        plan(&mut office, id, "pay", content);
        live(&mut terminal, &mut office).await;
        let last = office.results().into_values().last().unwrap();
        assert_eq!((last.action, last.stage, last.code), (id, Stage::Rejected, code));
    }
    type Change = fn(&mut Action);
    let cases: [(Change, ResultCode); 5] = [
        (|action| action.component = None, ResultCode::Missing),
        (|action| action.object = None, ResultCode::Missing),
        (|action| action.size = None, ResultCode::Missing),
        (
            |action| action.size = Some(MAX_PARAMETER_SET + 1),
            ResultCode::InvalidContent,
        ),
        (|action| action.base = action.object, ResultCode::NotSupported),
    ];
    for (id, (change, code)) in (10..).zip(cases) {
        plan(&mut office, id, "pay", document("pay", "a:1"));
        change(&mut office.plan.actions[0]);
        let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
        assert_eq!(
            report.refused.iter().map(|refusal| refusal.code).collect::<Vec<_>>(),
            [code]
        );
    }
    assert_eq!(host(&terminal).await, None);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on() {
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    plan(&mut office, 7, "pay", document_of("pay", "a:1", 60_000));
    call_cut(&mut terminal, &mut office, TriggerKind::PowerOn, 45_000).await;
    call(&mut terminal, &mut office, TriggerKind::Retry).await;
    assert!(office.last().gets[0].offset > 0, "{:?}", office.last().gets);
    terminal.work().await;
    assert_eq!(host(&terminal).await.as_deref(), Some("a:1"));
}

#[tokio::test]
async fn parameters_survive_a_power_cut_at_every_write() {
    // A terminal that has parameters already, and gets others.
    let (mut terminal, mut office) = (Kit::new().await.start().await, Office::new().await);
    plan(&mut office, 6, "pay", document("pay", "old:1"));
    assert!(live(&mut terminal, &mut office).await);
    let base = terminal.kit.after_power_loss(0);
    let before = office;
    for n in 1.. {
        let mut office = Office::new().await;
        (office.plan.sequence, office.time) = (before.plan.sequence, before.time);
        office.tickets.clone_from(&before.tickets);
        plan(&mut office, 7, "pay", document("pay", "new:2"));
        let kit = base.after_power_loss(0);
        kit.flash.cut(PowerCut { write: n, seed: n });
        if let Ok(mut terminal) = kit.try_start().await
            && bring(&mut terminal, &mut office).await
        {
            assert!(n > 12, "{n} writes");
            return;
        }
        let kit = kit.after_power_loss(n);
        // Once more on the way back.
        kit.flash.cut(PowerCut {
            write: 1 + n * 7 % 11,
            seed: !n,
        });
        if let Ok(mut terminal) = kit.try_start().await {
            bring(&mut terminal, &mut office).await;
        }
        let mut terminal = kit.after_power_loss(n ^ 0xFF).start().await;
        assert_eq!(
            terminal.device.broken().await.unwrap(),
            Vec::<String>::new(),
            "cut at {n}"
        );
        let in_force = host(&terminal).await.unwrap();
        assert!(in_force == "old:1" || in_force == "new:2", "cut at {n}: {in_force}");
        if stages(&office, 7).contains(&Stage::RunningConfirmed) {
            assert_eq!(in_force, "new:2", "cut at {n}");
        }
        assert!(bring(&mut terminal, &mut office).await, "cut at {n}");
        assert_eq!(host(&terminal).await.as_deref(), Some("new:2"), "cut at {n}");
        assert_eq!(stages(&office, 7).last(), Some(&Stage::RunningConfirmed), "cut at {n}");
    }
}
