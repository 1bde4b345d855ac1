//! What operators have done with the terminals: a task, a text, drift, cases, an audit log, a list of assets.

use crate::machine::now;
use crate::roster::{fill, whole};
use anyhow::{Context, Result};
use rustix::time::ClockId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use tms_core::estate::{
    Account, Actor, AuditEntry, AuditHead, Branch, Case, CaseState, DeliveryStatus, Drift, DriftItem, Estate, Grant,
    Operator, Permission, Role, TextDelivery, TextRecord, TextState,
};
use tms_core::rule::asset::{Columns, List};
use tms_core::rule::drift::{Class, Finding, Item, Response};
use tms_core::rule::name::Aliases;
use tms_core::rule::relocation::{CaseData, Policy};
use tms_core::rule::task::{Action, Counts, Definition, FailureClass, OnFailure, State, TaskState, Work};
use tms_core::rule::text::Message;
use tms_core::store::{ActionId, BranchPath, Change, Document, Entity, Expect, RosterEntry, StoreError};
use tms_core::task::{Cell, Member, MemberStep, StageRun, Task};
use tms_core::testing::sample;
use tms_proto::code::ResultCode;
use tms_proto::digest::Digest;
use tms_store_sqlite::SqliteStore;

/// The task that all terminals are in.
pub(crate) const TASK: u64 = sample::NOW << 24;

/// The text that all terminals have.
pub(crate) const TEXT: u64 = 7;

/// Parts of the counts of a stage.
const CELLS: u8 = 16;

/// How many lines the list of assets has; all other terminals are missing in it.
const LISTED: u64 = 20_000;

fn new<E: Entity>(entity: &E) -> Result<Change, StoreError> {
    Ok(Change::Put(Expect::Absent, Document::of(entity)?.into()))
}

async fn fill_with<E: Entity>(store: &SqliteStore, entities: impl Iterator<Item = E>) -> Result<(), StoreError> {
    let changes: Vec<_> = entities.map(|entity| new(&entity)).collect::<Result<_, _>>()?;
    fill(store, changes).await
}

pub(crate) async fn load(store: &SqliteStore, entries: &[RosterEntry]) -> Result<()> {
    let branches: BTreeSet<_> = entries.iter().flat_map(|entry| entry.branch.line()).collect();
    let branches = branches.into_iter().map(|path| Branch {
        name: path.to_string(),
        path,
        zone: None,
        variables: BTreeMap::new(),
    });
    fill_with(store, branches).await?;
    load_task(store, entries).await?;
    load_text(store, entries).await?;
    let tenth = || entries.iter().step_by(10).zip(0_usize..);
    fill_with(store, tenth().map(|(entry, number)| drift(entry, number))).await?;
    let cases: Option<Vec<_>> = tenth().map(|(entry, number)| case(entry, number)).collect();
    fill_with(store, cases.context("a suspicion has no points")?.into_iter()).await?;
    // listing looks at no digest
    let digest = Digest::of(b"entry");
    let mut number = 0;
    fill_with(
        store,
        tenth().map(|(entry, _)| {
            number += 1;
            AuditEntry {
                number,
                time: sample::NOW,
                operator: format!("operator-{}", number % 50),
                act: "terminal.state".to_owned(),
                subject: entry.terminal.to_string(),
                branch: entry.branch.clone(),
                detail: r#"{"before":"active","after":"deactivated"}"#.to_owned(),
                previous: digest,
                digest,
            }
        }),
    )
    .await?;
    fill_with(store, [AuditHead { number, digest }].into_iter()).await?;
    Ok(())
}

async fn load_task(store: &SqliteStore, entries: &[RosterEntry]) -> Result<()> {
    let definition = Definition::new("restart", vec![Action::new(Work::Restart)]);
    let stages = vec![StageRun::default(); definition.stages.len()];
    let task = Task {
        id: TASK,
        definition,
        branch: BranchPath::head_office(),
        state: TaskState::Running,
        author: "bench".to_owned(),
        approved_by: None,
        created: sample::NOW,
        started: Some(sample::NOW),
        ended: None,
        salt: 1,
        stage: 0,
        stages,
        withdrawal: None,
        replaced: 0,
        superseded_by: None,
        joined: 0,
    };
    let mut counts = vec![Counts::default(); CELLS.into()];
    let members: Vec<_> = entries.iter().map(|entry| member(entry, &mut counts)).collect();
    fill_with(store, members.into_iter()).await?;
    let cells = counts.into_iter().zip(0..).map(|(counts, cell)| Cell {
        task: TASK,
        stage: 0,
        cell,
        counts,
        moved: sample::NOW,
    });
    fill_with(store, cells).await?;
    fill_with(store, [task].into_iter()).await?;
    Ok(())
}

fn member(entry: &RosterEntry, counts: &mut [Counts]) -> Member {
    let chance = entry.terminal.0 / 7 % 100;
    let state = match chance {
        0..60 => State::Succeeded,
        60..90 => State::Pending,
        90..96 => State::Offered,
        _ => State::Failed {
            class: FailureClass::Signature,
            code: ResultCode::SignatureError,
        },
    };
    let cell = entry.terminal.0 % u64::from(CELLS);
    counts[cell as usize].add(state);
    Member {
        task: TASK,
        terminal: entry.terminal,
        branch: entry.branch.clone(),
        stage: 0,
        on_failure: OnFailure::default(),
        state,
        steps: vec![MemberStep {
            action: Some(ActionId(3)),
            state,
        }],
        offered: (state != State::Pending).then_some(sample::NOW),
        moved: sample::NOW,
        due: (state == State::Offered).then_some(sample::NOW + 3_600),
        floor: false,
        retry: false,
        note: None,
        cell: cell as u8,
        shares: Vec::new(),
    }
}

async fn load_text(store: &SqliteStore, entries: &[RosterEntry]) -> Result<()> {
    use DeliveryStatus::{Confirmed, Displayed, Received, Unsuitable, Waiting};
    let text = TextRecord {
        id: TEXT,
        message: Message {
            title: "Holiday".to_owned(),
            body: "We are closed on Friday.".to_owned(),
            print: false,
            confirm: true,
            from: sample::NOW,
            until: sample::NOW + 86_400,
        },
        branch: BranchPath::head_office(),
        author: "bench".to_owned(),
        written: sample::NOW,
        state: TextState::Draft,
        recall: None,
    };
    fill_with(store, [text].into_iter()).await?;
    let deliveries = entries.iter().map(|entry| TextDelivery {
        text: TEXT,
        terminal: entry.terminal,
        status: [Waiting, Unsuitable, Received, Displayed, Confirmed][entry.terminal.0 as usize % 5],
        updated: sample::NOW,
        time: None,
    });
    fill_with(store, deliveries).await?;
    Ok(())
}

fn drift(entry: &RosterEntry, number: usize) -> Drift {
    let finding = |item, class| Finding {
        item,
        class,
        response: Some(Response::Report),
        desired: Some(Digest::of(b"desired")),
        reported: Some(Digest::of(&entry.terminal.0.to_be_bytes())),
        version: entry.version.clone(),
        changed_at: None,
    };
    let classes = [
        Class::Old,
        Class::FailedTask,
        Class::OnSiteEdit,
        Class::Foreign,
        Class::Missing,
    ];
    let mut found = vec![finding(Item::Component("payment".to_owned()), classes[number % 5])];
    if number.is_multiple_of(7) {
        found.push(finding(Item::Parameters("acquirer".to_owned()), Class::OnSiteEdit));
    }
    if number.is_multiple_of(1_000) {
        found.push(finding(Item::Component("os".to_owned()), Class::Unproven));
    }
    let items = found.into_iter().map(|finding| DriftItem {
        finding,
        since: sample::NOW,
        wanted: false,
    });
    Drift {
        terminal: entry.terminal,
        branch: entry.branch.clone(),
        reported: sample::NOW,
        items: items.collect(),
    }
}

fn case(entry: &RosterEntry, number: usize) -> Option<Case> {
    let opened = sample::NOW - 3_600 * (number as u64 % 9_000);
    Some(Case {
        id: format!("{opened:010}-{:016x}", entry.terminal.0),
        terminal: entry.terminal,
        others: BTreeSet::new(),
        branch: entry.branch.clone(),
        data: CaseData::suspected("call 17 came after call 18", opened, &Policy::default())?,
        opened,
        updated: opened,
        state: match number % 10 {
            0 | 1 => CaseState::Open,
            2 => CaseState::Assigned,
            _ => CaseState::Closed,
        },
        owner: None,
        disposition: None,
        history: Vec::new(),
    })
}

/// Reconciles a list of assets in which most terminals are missing, where that was not done yet.
pub(crate) async fn take_stock(estate: &Estate, actor: &Actor, terminals: u64) -> Result<()> {
    let head = BranchPath::head_office();
    if !estate.stocktakings(actor, &head, 1).await?.is_empty() {
        return Ok(());
    }
    let mut list = String::from("vendor,model,serial,branch\n");
    for (entry, number) in whole(terminals).iter().zip(0..LISTED) {
        let branch = if number % 10 == 0 {
            "/elsewhere"
        } else {
            entry.branch.as_str()
        };
        writeln!(list, "{},{},{},{branch}", entry.vendor, entry.model, entry.serial)?;
    }
    let aliases = Aliases::known();
    let lines = List::new(list.as_bytes(), &Columns::default(), &aliases)?;
    let start = now(ClockId::Monotonic);
    let found = estate.reconcile_assets(actor, &head, "bench", lines).await?;
    println!(
        "a list of {LISTED} assets reconciled in {:.1} s: {} findings kept",
        (now(ClockId::Monotonic) - start).as_secs_f64(),
        found.kept
    );
    Ok(())
}

/// An operator who may see and audit one branch.
pub(crate) async fn auditor(estate: &Estate, actor: &Actor, branch: &BranchPath) -> Result<Actor> {
    let role = Role {
        name: "auditor".to_owned(),
        permissions: [Permission::View, Permission::Audit].into(),
    };
    estate.put_role(actor, role).await?;
    let operator = Operator {
        name: "auditor".to_owned(),
        full_name: "Auditor".to_owned(),
        branch: branch.clone(),
        grants: [Grant {
            role: "auditor".to_owned(),
            branch: branch.clone(),
        }]
        .into(),
        account: Account::External,
        suspended: false,
        failures: 0,
        locked_until: None,
    };
    estate.put_operator(actor, operator).await?;
    Ok(estate.sign_in_vouched("auditor").await?)
}
