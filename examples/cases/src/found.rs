//! Case 4: stocktaking.

use crate::bank::{Bank, daily};
use crate::shop::MODELS;
use crate::story::Story;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use tms_core::rule::asset::{Columns, List};
use tms_core::rule::name::Aliases;
use tms_core::rule::policy::CheckInPolicy;
use tms_core::store::{BranchPath, Dimension, RosterFilter, Seen};

/// How many days it takes.
pub(crate) const DAYS: u32 = 38;

/// Who is silent: two of Ningbo.
const SILENT: [usize; 2] = [1, 4];

/// The serial number of a terminal that is in the books alone.
const LOST: &str = "2571099999";

/// Reports are about so many days.
const PERIOD: u32 = 30;

pub(crate) async fn tell(bank: &mut Bank, story: &mut Story) -> Result<Vec<String>> {
    story.heading(
        "Case 4  Stocktaking: who is alive, who has long been silent, and what the books say",
        &[
            "Once a year the auditors ask where the terminals are. Those that have called within a month are alive; for those that",
            "have not, somebody has to look. And the books are held against the estate: a list in CSV, with the vendors' names as",
            "bookkeepers write them.",
        ],
    );
    let begin = bank.life.time(0, 9);
    bank.life.until(begin).await?;
    let weekly = CheckInPolicy {
        period: 7 * 86_400,
        tolerance: 86_400,
        ..CheckInPolicy::default()
    };
    bank.call_by(weekly).await?;
    story.at(
        begin,
        "chen",
        "lets terminals call once a week: for a month's list that is enough",
    );
    bank.life.until(bank.life.time(1, 18)).await?;
    let off = bank.life.now();
    for index in SILENT {
        let member = bank.life.members.get_mut(index).context("a terminal of Ningbo")?;
        member.on = false;
        story.at(
            off,
            "nobody",
            format!(
                "says that {} of {} is switched off",
                member.shop.label(),
                member.shop.name
            ),
        );
    }
    let visits = bank.life.until(bank.life.time(37, 9)).await?;
    let calls: u32 = visits.iter().map(|visit| visit.calls).sum();
    story.at(
        bank.life.now(),
        "terminals",
        format!("have called {calls} times in five weeks"),
    );

    let (li, estate) = (&bank.people.li, bank.estate());
    let ningbo: BranchPath = "/ningbo".parse()?;
    let under = RosterFilter::under(ningbo.clone());
    let reports = estate.reports(li);
    let month = reports.since(PERIOD);
    let ours = bank
        .life
        .members
        .iter()
        .filter(|member| ningbo.covers(&member.shop.branch))
        .count();
    let (alive, all) = reports.alive(&ningbo, month).await?;
    ensure!(
        usize::try_from(all)? == ours && all - alive == 2,
        "{alive} of {all} are alive"
    );
    story.at(
        bank.life.now(),
        "li",
        format!("asks for Ningbo: {alive} of {all} were alive in the last {PERIOD} days"),
    );
    let by = [Dimension::Branch, Dimension::Vendor, Dimension::Model];
    let standing = reports.standing(&under, &by, PERIOD).await?;
    story.report("4-alive", &format!("Ningbo, alive within {PERIOD} days"), &standing)?;
    let silent = RosterFilter {
        seen: Some(Seen::Before(month)),
        ..under
    };
    let page = reports.terminals(&silent, None, 1_000).await?;
    let serials: BTreeSet<_> = page.rows.iter().map(|row| row.serial.clone()).collect();
    let expected: BTreeSet<_> = SILENT
        .iter()
        .filter_map(|index| Some(bank.life.members.get(*index)?.shop.serial.clone()))
        .collect();
    ensure!(serials == expected, "those are silent that were switched off");
    story.rows(
        "4-silent",
        &format!(
            "Silent: {} of {all} in Ningbo have not called for {PERIOD} days",
            page.rows.len()
        ),
        &page.rows,
        page.as_of,
    )?;

    let books = bank.life.office.directory.layout.root().join("books.csv");
    fs::write(&books, list(bank)).with_context(|| format!("cannot write {}", books.display()))?;
    let (columns, aliases) = (Columns::default(), Aliases::known());
    let file = fs::File::open(&books).with_context(|| format!("cannot read {}", books.display()))?;
    let read = List::new(file, &columns, &aliases).context("the books are no list of assets")?;
    let done = estate.reconcile_assets(li, &ningbo, "books.csv", read).await?;
    let totals = &done.totals;
    ensure!(
        (usize::try_from(totals.matched)?, totals.unknown, totals.missing) == (ours - 1, 1, 1),
        "the books differ in one terminal each way: {totals:?}"
    );
    story.at(
        bank.life.now(),
        "li",
        format!(
            "reads the books, {} lines: {} stand where the books say",
            totals.lines, totals.matched
        ),
    );
    let findings = estate.asset_report(li, &done.id).await?;
    story.report(
        "4-books",
        "Where books and estate differ: unknown to the estate, and missing in the books",
        &findings,
    )?;
    bank.call_by(daily()).await?;
    story.at(bank.life.now(), "chen", "lets terminals call once a day again");
    Ok(vec![
        format!("report alive --branch /ningbo --days {}", PERIOD),
        format!("report silent --days {}", PERIOD),
        format!("assets show {}", done.id),
        format!("assets reconcile {} --branch /ningbo", tms_tool::command::shell(&books)),
    ])
}

/// What the books of Ningbo say: one terminal that nobody has, and all but one of those that are there.
fn list(bank: &Bank) -> String {
    let mut text = "厂商,型号,序列号,机构\n".to_owned();
    let ours = bank
        .life
        .members
        .iter()
        .filter(|member| member.shop.branch.to_string().starts_with("/ningbo"));
    for member in ours.skip(1) {
        let (vendor, model) = member.shop.model.books;
        text.push_str(&format!(
            "{vendor},{model},{},{}\n",
            member.shop.serial, member.shop.branch
        ));
    }
    if let Some(model) = MODELS.get(1) {
        text.push_str(&format!("{},{},{LOST},/ningbo/\n", model.books.0, model.books.1));
    }
    text
}
