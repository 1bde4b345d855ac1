//! Case 1: a parameter is changed on all terminals, within a window.

use crate::bank::Bank;
use crate::story::Story;
use anyhow::{Result, ensure};
use jiff::civil::time;
use std::collections::BTreeMap;
use tms_core::estate::LayerDraft;
use tms_core::rule::task::{Action, Definition, Slot, Window, Work};
use tms_core::rule::template::{Definition as Parameter, Kind, Scope, Template};
use zeroize::Zeroizing;

/// How many days it takes.
pub(crate) const DAYS: u32 = 4;

const TEMPLATE: &str = "access";
const PRIMARY: &str = "primary";
const OLD: &str = "057155509000";
const NEW: &str = "057155509100";

pub(crate) async fn tell(bank: &mut Bank, story: &mut Story) -> Result<Vec<String>> {
    story.heading(
        "Case 1  The number that terminals dial is changed on all of them, at night",
        &[
            "The access number moves to another exchange. From the fourth day on every terminal is to dial the new one, and none",
            "may change while its shop is open.",
        ],
    );
    let all = bank.life.members.len();
    let begin = bank.life.time(0, 9);
    bank.life.until(begin).await?;
    let version = template(bank).await?;
    set(bank, OLD).await?;
    story.at(
        begin,
        "chen",
        format!("makes a parameter template, and sets what terminals dial: {OLD}"),
    );
    let first = bank
        .start(
            story,
            bring("access number", version),
            "the parameters, for all terminals",
        )
        .await?;
    let done = bank.life.until(bank.life.time(1, 18)).await?;
    bank.ensure_completed(first, all).await?;
    ensure!(dial(bank, OLD).await? == all, "all dial {OLD}");
    let last = done
        .iter()
        .filter(|visit| visit.succeeded())
        .map(|visit| visit.time)
        .max();
    story.at(
        last.unwrap_or(begin),
        "terminals",
        format!("have called in, each at its own time: {all} of {all} dial {OLD}"),
    );

    let changed = affected(bank, NEW).await?;
    ensure!(changed == all, "{changed} of {all} terminals would change");
    story.at(
        bank.life.now(),
        "chen",
        format!("asks which terminals it would change to set {NEW}: {changed} of {all}"),
    );
    set(bank, NEW).await?;
    story.at(
        bank.life.now(),
        "chen",
        format!("sets {NEW}; terminals that run go by what they have"),
    );
    let mut definition = bring("new access number", version);
    definition.windows.install = Some(Window {
        days: Vec::new(),
        start: time(1, 0, 0, 0),
        minutes: 240,
        closed: Vec::new(),
        month_end: 0,
        zone: None,
    });
    let task = bank
        .start(
            story,
            definition,
            "the parameters, in force between 01:00 and 05:00 by each shop's clock",
        )
        .await?;
    let day = bank.life.until(bank.life.time(2, 18)).await?;
    let loaded = day.iter().filter(|visit| visit.bytes > 0).count();
    story.at(
        bank.life.now(),
        "terminals",
        format!("{loaded} have fetched the new parameters by day, and wait for the night"),
    );
    ensure!(dial(bank, OLD).await? == all, "nothing changes by day");
    ensure!(
        usize::try_from(bank.count(task, Slot::Waiting).await?)? == all,
        "all wait"
    );
    bank.show(story, "1-by-day", task).await?;

    let night = bank.life.until(bank.life.time(3, 8)).await?;
    let times: Vec<u64> = night
        .iter()
        .filter(|visit| visit.succeeded())
        .map(|visit| visit.time)
        .collect();
    let (from, until) = (bank.life.time(3, 1), bank.life.time(3, 5));
    ensure!(
        times.len() == all && times.iter().all(|time| (from..until).contains(time)),
        "all change at night"
    );
    let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
    story.at(
        first.unwrap_or(from),
        "terminals",
        "the first takes the new number, and says so at once",
    );
    story.at(
        last.unwrap_or(until),
        "terminals",
        "the last one; they were spread over the first half of the window",
    );
    bank.ensure_completed(task, all).await?;
    ensure!(dial(bank, NEW).await? == all, "all dial {NEW}");
    bank.show(story, "1-by-night", task).await?;
    story.note(format!(
        "In the memory of the terminals themselves: {all} of {all} dial {NEW}."
    ));
    Ok(vec![
        format!("task show {task:016x}"),
        format!("task terminals {task:016x}"),
        format!("template show {TEMPLATE}"),
    ])
}

fn bring(name: &str, version: u32) -> Definition {
    let work = Work::Parameters {
        template: TEMPLATE.to_owned(),
        version,
    };
    Definition::new(name, vec![Action::new(work)])
}

async fn template(bank: &Bank) -> Result<u32> {
    let definition = Parameter {
        name: PRIMARY.to_owned(),
        label: "what the terminal dials".to_owned(),
        kind: Kind::Telephone,
        default: None,
        required: true,
        narrowest: None,
        on_site: Default::default(),
    };
    let template = Template {
        name: TEMPLATE.to_owned(),
        version: 0,
        definitions: vec![definition],
    };
    Ok(bank.estate().put_template(&bank.people.chen, template).await?)
}

/// The number, for the whole bank.
fn draft(number: &str) -> LayerDraft {
    LayerDraft {
        scope: Scope::head_office(),
        version: 0,
        values: [(PRIMARY.to_owned(), Some(Zeroizing::new(number.to_owned())))].into(),
        variables: BTreeMap::new(),
    }
}

async fn set(bank: &Bank, number: &str) -> Result<()> {
    let chen = &bank.people.chen;
    bank.estate().put_layer(chen, TEMPLATE, &draft(number)).await?;
    Ok(())
}

/// How many terminals it would change to set this number.
async fn affected(bank: &Bank, number: &str) -> Result<usize> {
    let (mut count, mut after) = (0, None);
    loop {
        let chen = &bank.people.chen;
        let page = bank
            .estate()
            .affected(chen, TEMPLATE, &draft(number), after.as_deref(), 200)
            .await?;
        count += page
            .rows
            .iter()
            .filter(|row| !row.changes.is_empty() && row.faults.is_empty())
            .count();
        after = page.next;
        if after.is_none() {
            return Ok(count);
        }
    }
}

/// How many terminals have this number in force, in their own memory.
async fn dial(bank: &Bank, number: &str) -> Result<usize> {
    let mut count = 0;
    for member in &bank.life.members {
        let held = member.terminal.parameters(TEMPLATE).await?;
        let parameters = held.map(|document| document.parameters).unwrap_or_default();
        count += usize::from(
            parameters
                .iter()
                .any(|parameter| parameter.name == PRIMARY && parameter.value == number),
        );
    }
    Ok(count)
}
