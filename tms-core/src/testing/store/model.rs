//! Any run of commits leaves a store as it leaves the memory store.

use super::picture::Picture;
use super::{Fixture, Violation};
use crate::store::{
    ActionId, Caller, Change, Expect, Holder, Key, MemoryStore, Record, Store, StoreError, TerminalId, TerminalState,
};
use crate::testing::sample;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tms_proto::code::Stage;

/// Few of each, so that commits meet.
const TERMINALS: [u64; 5] = [0, 1, (1 << 63) - 1, 1 << 63, u64::MAX];
const ACTIONS: [u64; 3] = [1, 2, u64::MAX];
const HOLDERS: [[&str; 3]; 6] = [
    ["v", "m", "s"],
    ["vm", "", "s"],
    ["v", "ms", ""],
    ["V", "m", "s"],
    ["v", "m", "s "],
    ["", "", ""],
];

/// Runs where the environment does not say otherwise by `PROPTEST_CASES`.
const RUNS: u32 = 48;

/// What a run consists of.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Draft>),
    /// All handles are dropped, and the store is opened again.
    Reopen,
}

/// A change whose expectation is not yet settled.
#[derive(Debug, Clone)]
enum Draft {
    Put(Hope, Record),
    Remove(Hope, Key),
    Append(&'static str),
}

/// What a change expects, before it is known what there is.
#[derive(Debug, Clone, Copy)]
enum Hope {
    /// What is there.
    Right,
    /// This, and it may be wrong.
    Blind(Expect),
}

pub(super) async fn any_run_of_commits_is_as_in_memory<F: Fixture>(fixture: &F) -> Result<(), Violation> {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = RUNS;
    }
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    let steps = prop::collection::vec(step(), 1..24);
    for _ in 0..cases {
        let mut tree = steps
            .new_tree(&mut runner)
            .map_err(|reason| Violation(reason.to_string()))?;
        let Err(mut violation) = run(fixture, tree.current()).await else {
            continue;
        };
        // the smallest run that still goes wrong says most
        let mut smallest = tree.current();
        let mut tries = 0;
        while tries < 256 && tree.simplify() {
            loop {
                tries += 1;
                match run(fixture, tree.current()).await {
                    Err(smaller) => {
                        (violation, smallest) = (smaller, tree.current());
                        break;
                    }
                    Ok(()) if tries < 256 && tree.complicate() => {}
                    Ok(()) => break,
                }
            }
        }
        return Err(Violation(format!("{violation}; by this run: {smallest:#?}")));
    }
    Ok(())
}

async fn run<F: Fixture>(fixture: &F, steps: Vec<Step>) -> Result<(), Violation> {
    let home = fixture.home().await;
    let mut store = fixture.open(&home).await;
    let model = MemoryStore::new();
    let callers = callers();
    for (number, step) in steps.into_iter().enumerate() {
        let drafts = match step {
            Step::Commit(drafts) => drafts,
            Step::Reopen => {
                drop(store);
                store = fixture.open(&home).await;
                continue;
            }
        };
        let mut changes = Vec::new();
        for draft in drafts {
            changes.push(settle(&model, draft).await?);
        }
        let right = outcome(model.commit(changes.clone()).await);
        let mine = outcome(store.commit(changes).await);
        if mine != right {
            return Err(Violation(format!(
                "commit {number} gives {mine}, and must give {right}"
            )));
        }
    }
    for limit in [1, 3, 100] {
        Picture::of(&*store, &callers, limit)
            .await?
            .compare(&Picture::of(&model, &callers, 100).await?)?;
    }
    Ok(())
}

fn callers() -> Vec<Caller> {
    let mut callers: Vec<_> = TERMINALS.map(|id| Caller::Id(TerminalId(id))).into();
    callers.extend(HOLDERS.map(|[vendor, model, serial]| Caller::Holder(holder(vendor, model, serial))));
    callers.extend((0..3).map(|seed| Caller::Credential(sample::credential(seed).id)));
    callers
}

fn holder(vendor: &str, model: &str, serial: &str) -> Holder {
    Holder {
        vendor: vendor.to_owned(),
        model: model.to_owned(),
        serial: serial.to_owned(),
    }
}

async fn settle(model: &MemoryStore, draft: Draft) -> Result<Change, StoreError> {
    Ok(match draft {
        Draft::Put(hope, record) => Change::Put(expect(model, hope, &record.key()).await?, record),
        Draft::Remove(hope, key) => Change::Remove(expect(model, hope, &key).await?, key),
        Draft::Append(what) => Change::Append(sample::said(1, what)),
    })
}

async fn expect(model: &MemoryStore, hope: Hope, key: &Key) -> Result<Expect, StoreError> {
    Ok(match hope {
        Hope::Blind(expect) => expect,
        Hope::Right => model
            .get(key)
            .await?
            .map_or(Expect::Absent, |found| Expect::Version(found.version)),
    })
}

fn outcome(result: Result<(), StoreError>) -> String {
    match result {
        Ok(()) => "success".to_owned(),
        Err(StoreError::Conflict) => "a conflict".to_owned(),
        Err(StoreError::Backend(_)) => "misuse".to_owned(),
        Err(other) => format!("another error ({other})"),
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(draft(), 0..5).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    prop_oneof![
        6 => (hope(), record()).prop_map(|(hope, record)| Draft::Put(hope, record)),
        2 => (hope(), record()).prop_map(|(hope, record)| Draft::Remove(hope, record.key())),
        2 => select(&["", "door", "mouse"][..]).prop_map(Draft::Append),
    ]
}

fn hope() -> impl Strategy<Value = Hope> {
    prop_oneof![
        6 => Just(Hope::Right),
        3 => Just(Hope::Blind(Expect::Any)),
        1 => Just(Hope::Blind(Expect::Absent)),
        1 => (0_u64..4).prop_map(|version| Hope::Blind(Expect::Version(version))),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let id = || select(&TERMINALS[..]);
    prop_oneof![
        5 => (id(), select(&HOLDERS[..]), prop::option::of(0_u64..3), any::<u32>()).prop_map(
            |(id, [vendor, model, serial], credential, contact)| {
                let mut terminal = sample::terminal(id);
                terminal.holder = holder(vendor, model, serial);
                terminal.credential = credential.map(sample::credential);
                terminal.contact = contact;
                if contact % 2 == 0 {
                    (terminal.state, terminal.next_contact) = (TerminalState::Enrolled, None);
                }
                terminal.into()
            }
        ),
        1 => (id(), any::<u64>()).prop_map(|(id, reported)| {
            let mut inventory = sample::inventory(id);
            inventory.reported = reported;
            inventory.into()
        }),
        1 => (0_u64..3, any::<u32>()).prop_map(|(number, counter)| {
            let mut package = sample::package(number);
            package.counter = counter;
            package.into()
        }),
        2 => (id(), select(&["/", "/a", "/a/b", "/ab"][..]), prop::option::of(0_u32..3)).prop_map(|(id, branch, seen)| {
            let mut entry = sample::roster(id);
            if let Ok(branch) = branch.parse() {
                entry.branch = branch;
            }
            entry.seen = seen;
            entry.into()
        }),
        2 => (0_u64..4, select(&["/", "/a/", "/a/b/", "/ab/"][..]), any::<bool>()).prop_map(|(id, branch, marked)| {
            let mut document = sample::document(id);
            document.marks = [("branch".to_owned(), branch.to_owned())].into();
            if !marked {
                document.marks.clear();
            }
            document.into()
        }),
        4 => (id(), select(&ACTIONS[..]), any::<bool>(), any::<u8>()).prop_map(|(id, action, closed, stage)| {
            let mut assignment = sample::assignment(id, action);
            assignment.action = ActionId(action);
            assignment.closed = closed;
            assignment.stage = Stage::from(stage);
            assignment.into()
        }),
    ]
}
