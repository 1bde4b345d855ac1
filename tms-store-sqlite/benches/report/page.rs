//! Pages of lists: the first, and one far behind it.

use crate::work::{TASK, auditor};
use crate::{TODAY, Table, roster};
use anyhow::{Context, Result, bail};
use tms_core::estate::report::Reports;
use tms_core::estate::{Actor, CaseState, Estate};
use tms_core::rule::drift::Class;
use tms_core::rule::task::{FailureClass, Slot};
use tms_core::store::{BranchPath, RosterFilter, Seen, TerminalState};

const BRANCH: &str = "/r3/b03/o3";

/// How many are on a page.
const PAGE: u32 = 100;

/// What terminals are listed by. Days are days ago; merchant 4999 has few, as 3.29 is a version with few and M11 a model with few.
const FILTERS: [&str; 42] = [
    "",
    "under=/r3",
    "under=/r3/b03/o3",
    "vendor=PAX",
    "vendor=Nobody",
    "model=M11",
    "model=M99",
    "vendor=Ingenico model=M11",
    "serial=123",
    "serial=1",
    "serial=1234567890",
    "merchant=100000000000003",
    "merchant=100000000004999",
    "version=3.2",
    "version=3.29",
    "version=9.9",
    "state=active",
    "state=blacklisted",
    "since=0",
    "since=1",
    "before=30",
    "before=695",
    "before=700",
    "never",
    "never under=/r3",
    "before=30 under=/r3/b03/o3",
    "before=30 vendor=Ingenico model=M11",
    "before=30 version=3.29",
    "before=30 version=9.9",
    "before=30 merchant=100000000000003",
    "before=30 serial=1234",
    "since=0 serial=1234",
    "since=0 model=M99",
    "never state=blacklisted",
    "vendor=PAX model=M00 state=blacklisted",
    "version=3.2 state=enrolled",
    "vendor=PAX model=M08 version=3.28",
    "state=active vendor=Nobody",
    "vendor=PAX model=M08 under=/r3/b03/o3",
    "serial=12345 under=/r3",
    "merchant=100000000000003 state=blacklisted version=3.29",
    "serial=1 model=M11",
];

fn filter(text: &str) -> Result<RosterFilter> {
    let mut filter = RosterFilter::under(BranchPath::head_office());
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let some = Some(value.to_owned());
        match name {
            "under" => filter.under = value.parse()?,
            "vendor" => filter.vendor = some,
            "model" => filter.model = some,
            "serial" => filter.serial = some,
            "merchant" => filter.merchant = some,
            "version" => filter.version = some,
            "state" => {
                let mut states = [
                    TerminalState::Active,
                    TerminalState::Enrolled,
                    TerminalState::Blacklisted,
                ]
                .into_iter();
                filter.state = Some(states.find(|state| state.name() == value).context("no such state")?);
            }
            "since" => filter.seen = Some(Seen::Since(TODAY - value.parse::<u32>()?)),
            "before" => filter.seen = Some(Seen::Before(TODAY - value.parse::<u32>()?)),
            "never" => filter.seen = Some(Seen::Never),
            _ => bail!("no filter {name}"),
        }
    }
    Ok(filter)
}

pub(crate) async fn roster(estate: &Reports<'_>, table: &mut Table) -> Result<()> {
    for text in FILTERS {
        let filter = filter(text)?;
        let name = format!("terminals {text}");
        let first = table.add(&name, || estate.terminals(&filter, None, PAGE)).await?;
        // deep: where half of the list, or 20,000 terminals, are behind
        let Some(mut next) = first.and_then(|page| page.next) else {
            continue;
        };
        for _ in 0..4 {
            match estate.terminals(&filter, Some(&next), 5_000).await?.next {
                Some(after) => next = after,
                None => break,
            }
        }
        table
            .add(&format!("{name}, deep"), || {
                estate.terminals(&filter, Some(&next), PAGE)
            })
            .await?;
    }
    for under in ["/", BRANCH] {
        let name = format!("ending within 90 days under={under}");
        let under = under.parse()?;
        let first = table.add(&name, || estate.expiring(&under, 90, None, PAGE)).await?;
        if let Some(next) = first.and_then(|page| page.next) {
            table
                .add(&format!("{name}, next"), || {
                    estate.expiring(&under, 90, Some(&next), PAGE)
                })
                .await?;
        }
    }
    Ok(())
}

pub(crate) async fn work(estate: &Estate, actor: &Actor, table: &mut Table) -> Result<()> {
    let (head, branch) = (BranchPath::head_office(), BRANCH.parse::<BranchPath>()?);
    table.add("tasks", || estate.tasks(actor, &head, PAGE)).await?;
    for slot in [Slot::Succeeded, Slot::Pending, Slot::Failed(FailureClass::Signature)] {
        let name = format!("terminals of the task, {}", slot.name());
        let first = table
            .add(&name, || estate.task_members(actor, TASK, (0, slot), None, PAGE))
            .await?;
        let Some(first) = first else { continue };
        let mut last = first.last().map(|member| member.terminal);
        for _ in 0..4 {
            let page = estate.task_members(actor, TASK, (0, slot), last, 5_000).await?;
            last = page.last().map(|member| member.terminal).or(last);
        }
        table
            .add(&format!("{name}, deep"), || {
                estate.task_members(actor, TASK, (0, slot), last, PAGE)
            })
            .await?;
    }
    let one = roster::terminals(1)[0];
    table
        .add("tasks of a terminal", || estate.tasks_of(actor, one, PAGE))
        .await?;
    table
        .add("releases kept from terminals", || estate.kept_away(actor, &head, PAGE))
        .await?;
    for (under, class) in [
        (&head, None),
        (&head, Some(Class::Foreign)),
        (&head, Some(Class::Unproven)),
        (&branch, None),
    ] {
        let class_name = class.map_or("", Class::name);
        let name = format!("drift {class_name} under={under}");
        let first = table
            .add(&name, || estate.drift(actor, under, class, None, PAGE))
            .await?;
        if let Some(next) = first.and_then(|page| page.next) {
            table
                .add(&format!("{name}, next"), || {
                    estate.drift(actor, under, class, Some(&next), PAGE)
                })
                .await?;
        }
    }
    for state in CaseState::ALL {
        table
            .add(&format!("cases {}", state.name()), || {
                estate.cases(actor, &head, state, PAGE)
            })
            .await?;
    }
    table.add("cases of a terminal", || estate.cases_of(actor, one)).await?;
    table.add("texts", || estate.texts(actor, &head, PAGE)).await?;
    table
        .add("lists of assets", || estate.stocktakings(actor, &head, PAGE))
        .await?;
    table.add("proposals", || estate.proposals(actor, &head, PAGE)).await?;
    table
        .add("branches", || estate.branches(actor, &head, None, PAGE))
        .await?;
    table.add("audit", || estate.audit(actor, 0, PAGE)).await?;
    table.add("audit, deep", || estate.audit(actor, 20_000, PAGE)).await?;
    let local = auditor(estate, actor, &branch).await?;
    table
        .add("audit of one small branch", || estate.audit(&local, 0, PAGE))
        .await?;
    Ok(())
}
