//! The end of the story: the audit log, and how to go on.

use crate::bank::Bank;
use crate::story::Story;
use anyhow::{Result, ensure};
use std::process::ExitCode;
use tms_core::clock::{Clock, SystemClock};
use tms_program::place::Place;
use tms_program::say;
use tms_tool::command::shell;

/// The first merchant's terminal: the commands at the end are about it.
const FIRST: &str = "802400001";

/// Entries of the audit log that are shown.
const SHOWN: u64 = 8;

/// Lets time pass until today, verifies the audit log, and says which commands show more: `told` are those of the cases.
pub(crate) async fn tell(
    mut bank: Bank,
    place: Place,
    keep: bool,
    told: Vec<(u8, Vec<String>)>,
    story: &mut Story,
) -> Result<ExitCode> {
    story.heading("Today", &["Whatever was done stands in the audit log, whose entries are chained: none can be changed or taken away unseen."]);
    bank.life.until(SystemClock.now().max(bank.life.now())).await?;
    let wang = bank.people.wang.clone();
    let office = bank.life.end().await?;
    let end = office.estate.verify_audit(None).await?;
    ensure!(end.number > 0, "operators have done something");
    let entries = office
        .estate
        .audit(&wang, end.number.saturating_sub(SHOWN), 1_000)
        .await?;
    let rows = entries.into_iter().map(|entry| {
        let subject = entry.subject.chars().take(24).collect();
        [
            entry.number.to_string(),
            story.moment(entry.time),
            entry.operator,
            entry.act,
            subject,
            entry.branch.to_string(),
        ]
    });
    story.table(
        "6-audit",
        &format!(
            "The newest of {} entries, none changed; the end is {}:{}",
            end.number,
            end.number,
            end.digest.short()
        ),
        ["number", "time", "operator", "act", "subject", "branch"],
        rows.collect(),
    )?;
    // A reader who notes the end now sees later that the whole log was not made anew.
    let noted = format!("audit verify --noted {}:{}", end.number, end.digest);
    drop(office);
    if let Some((tables, directory)) = story.kept() {
        story.note(format!("{tables} tables are in {} as CSV.", directory.display()));
    }
    let dir = place.path().to_owned();
    if place.leave(keep)? {
        say(
            "Everything above was in a temporary directory, and is removed. To make one that stays, and look around in it:",
        );
        say("  tms-cases --dir bank");
        return Ok(ExitCode::SUCCESS);
    }
    let estate = shell(&dir);
    say(format_args!("Everything above is in {estate}. Look around with:"));
    let events = format!("events --terminal {FIRST}");
    let common = ["task list", "terminals", "install list", "audit list --limit 20"];
    let common = common.map(str::to_owned).into_iter().chain([events, noted]);
    let told = told
        .into_iter()
        .map(|(case, commands)| (format!("Case {case}"), commands));
    for (about, commands) in told.chain([("All".to_owned(), common.collect())]) {
        say(about);
        for command in commands {
            say(format_args!("  tms --estate {estate} {command}"));
        }
    }
    say("The server and a terminal go on from here, by themselves:");
    say(format_args!("  tms-server --estate {estate}"));
    say(format_args!("  tms-terminal --dir {estate}/terminals/{FIRST} --once"));
    say(
        "In a copy of the source, tms is `cargo run -q -p tms-tool --`, and the others are `cargo run -p tms-server --` and so on.",
    );
    Ok(ExitCode::SUCCESS)
}
