//! Case 2: a batch gets a new program.

use crate::bank::{Bank, CASHIER, FIRST};
use crate::life::Visit;
use crate::shop::MODELS;
use crate::story::Story;
use anyhow::{Context, Result, ensure};
use tms_core::rule::task::{Action, Definition, Slot, Work};
use tms_core::store::{BranchPath, RosterFilter};
use tms_proto::message::Precondition;

/// How many days it takes.
pub(crate) const DAYS: u32 = 4;

const NEW: &str = "2.4.0";

/// How long the first terminal is watched before the others follow, in seconds.
const SOAK: u32 = 43_200;

pub(crate) async fn tell(bank: &mut Bank, story: &mut Story) -> Result<Vec<String>> {
    story.heading(
        "Case 2  A batch gets a new program, each terminal when it calls by itself",
        &[
            "A new cashier program is out, built for each model. Nobody can visit the shops: terminals call between nine and",
            "five, each at a time of its own, and get it then. One terminal goes first and is watched for twelve hours, and",
            "nothing counts as done before a terminal has said that the new program runs.",
        ],
    );
    let all = bank.life.members.len();
    bank.life.until(bank.life.time(0, 18)).await?;
    let mut actions = Vec::new();
    for model in 0..MODELS.len() {
        let manifest = bank.publish(CASHIER, NEW, 2, model).await?;
        let mut action = Action::new(Work::Install { manifest });
        // It waits for the merchant's settlement, but for nothing else.
        action.preconditions = Precondition::SETTLED;
        actions.push(action);
    }
    story.at(
        bank.life.now(),
        "chen",
        format!(
            "publishes {CASHIER} {NEW} for {} models, signed by the vendor's key",
            MODELS.len()
        ),
    );
    let mut definition = Definition::new("cashier 2.4.0", actions).first_alone();
    if let Some(first) = definition.stages.first_mut() {
        first.gates.soak = SOAK;
    }
    let task = bank
        .start(
            story,
            definition,
            "the program that fits each; one terminal first, then the rest",
        )
        .await?;

    let first = bank.life.until(bank.life.time(1, 18)).await?;
    ensure!(bank.count(task, Slot::Succeeded).await? == 1, "one terminal goes first");
    let visit = first
        .iter()
        .find(|visit| visit.succeeded())
        .context("the first has succeeded")?;
    story.at(
        visit.time,
        "first",
        format!(
            "{} downloads {} bytes, starts the new program, and says that it runs",
            label(bank, visit)?,
            visit.bytes
        ),
    );
    let rest = bank.life.until(bank.life.time(2, 18)).await?;
    bank.ensure_completed(task, all).await?;
    story.at(
        bank.life.now(),
        "the rest",
        format!(
            "{} terminals have called, {} of them for the new program",
            rest.iter().filter(|visit| visit.calls > 0).count(),
            all - 1
        ),
    );
    let rows = first.iter().chain(&rest).filter(|visit| visit.succeeded());
    let rows = rows.map(|visit| {
        Ok([
            label(bank, visit)?,
            member(bank, visit)?.shop.name.clone(),
            story.moment(visit.time),
            visit.bytes.to_string(),
            visit.calls.to_string(),
            "running-confirmed".to_owned(),
        ])
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    story.table(
        "2-calls",
        "When each called, what came, and what it said in the end",
        ["terminal", "merchant", "called", "bytes", "calls", "said"],
        rows,
    )?;
    bank.show(story, "2-progress", task).await?;
    for member in &bank.life.members {
        let runs = member.terminal.versions().await;
        let version = runs.get(CASHIER).map(|version| version.version.as_str());
        ensure!(version == Some(NEW), "{} runs {version:?}", member.shop.label());
    }
    let chen = &bank.people.chen;
    let everywhere = RosterFilter::under(BranchPath::head_office());
    let versions = bank.estate().reports(chen).versions(&everywhere).await?;
    ensure!(
        versions.rows.iter().all(|row| row.version == NEW),
        "nobody runs {FIRST}"
    );
    story.report("2-versions", "What runs, by model", &versions)?;
    Ok(vec![
        format!("task show {task:016x}"),
        format!("task terminals {task:016x}"),
        "report versions".to_owned(),
    ])
}

fn member<'a>(bank: &'a Bank, visit: &Visit) -> Result<&'a crate::life::Member> {
    bank.life.members.get(visit.member).context("a terminal of the bank")
}

fn label(bank: &Bank, visit: &Visit) -> Result<String> {
    Ok(member(bank, visit)?.shop.label())
}
