//! What came of it: checked, shown, and how to go on.

use crate::demo::{COMPONENT, Fleet, Member, NEW, NEWER};
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use std::path::Path;
use tms_core::store::TerminalState;
use tms_proto::code::{ResultCode, Stage};
use tms_proto::digest::Digest;
use tms_tool::time;

/// What is not as it must be.
pub(crate) fn check(fleet: &Fleet) -> Vec<String> {
    let package = &fleet.package.package;
    let mut wrong = Vec::new();
    for member in &fleet.members {
        let serial = &member.serial;
        let mut must = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("terminal {serial} {what}"));
            }
        };
        must(member.known.state == TerminalState::Active, "is not active");
        let reported = component(member).and_then(|component| component.digest);
        must(reported == member.runs, "does not report what it runs");
        if !member.expected {
            must(member.assignments.is_empty(), "has an update that was not queued");
            continue;
        }
        let confirmed = member.assignments.iter().any(|assignment| {
            assignment
                .order
                .package()
                .is_some_and(|queued| queued.manifest == package.manifest)
                && assignment.stage == Stage::RunningConfirmed
                && assignment.code == ResultCode::Success
                && assignment.closed
        });
        must(confirmed, "has not confirmed the update");
        must(
            member.runs == Some(package.content),
            "does not run the content of the package",
        );
        if member.cut {
            let went_on = member
                .resumed
                .is_some_and(|(cut, from)| from > 0 && from == cut && from < package.size);
            must(went_on, "did not go on at the byte where it was cut");
        }
    }
    let expected = fleet.members.iter().filter(|member| member.expected).count();
    if expected != 4 || !fleet.members.iter().any(|member| member.cut) {
        wrong.push(format!("{expected} terminals were to be updated, not 4"));
    }
    wrong
}

/// Shows the terminals as the store has them.
pub(crate) fn show(fleet: &Fleet) {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "terminal",
        "model",
        "proof",
        "ran",
        "runs",
        "update",
        "bytes",
        "calls",
        "checked in",
    ]);
    for member in &fleet.members {
        let update = member.assignments.last();
        let result = update.map_or_else(
            || "nothing queued".to_owned(),
            |update| format!("{} ({})", update.stage, update.code),
        );
        let colour = match update {
            Some(update) if update.stage == Stage::RunningConfirmed => Color::Green,
            Some(_) => Color::Red,
            None => Color::Reset,
        };
        let runs = component(member);
        table.add_row([
            Cell::new(&member.serial),
            Cell::new(&member.known.holder.model),
            Cell::new(if member.known.key.is_some() { "RSA" } else { "main key" }),
            Cell::new(member.before.as_deref().unwrap_or("-")),
            Cell::new(runs.map_or("-", |component| component.version.as_str())),
            Cell::new(result).fg(colour),
            Cell::new(update.map_or_else(String::new, |update| {
                update.order.package().map_or(0, |package| package.size).to_string()
            }))
            .set_alignment(CellAlignment::Right),
            Cell::new(member.known.contact).set_alignment(CellAlignment::Right),
            Cell::new(
                member
                    .known
                    .last_check_in
                    .map(time::show)
                    .unwrap_or_default()
                    .split(' ')
                    .next_back()
                    .unwrap_or_default(),
            ),
        ]);
    }
    println!("{table}");
    let package = &fleet.package.package;
    println!(
        "package {} {}: content {}, {} events in the store",
        package.component,
        package.version,
        short(package.content),
        fleet.events
    );
    for member in &fleet.members {
        if let Some((cut, from)) = member.resumed {
            println!(
                "terminal {}: cut at byte {cut} of {}, went on at byte {from}; {} bytes on the line in all its calls",
                member.serial, package.size, member.bytes
            );
        }
    }
}

/// Says how to go on.
pub(crate) fn next(fleet: &Fleet, dir: &Path, gone: bool) {
    let dir = if gone { Path::new("demo") } else { dir };
    let first = fleet.members.first().map_or("", |member| member.serial.as_str());
    let estate = dir.display();
    println!();
    if gone {
        println!("That estate was in a temporary directory, and is removed. To make one that stays:");
        println!("  cargo run -p tms-quickstart -- --dir {estate}");
        println!("Then:");
    } else {
        println!("Try next:");
    }
    let terminal = dir.join("terminals").join(first);
    println!("  cargo run -p tms-server -- --estate {estate}                          the server by itself");
    println!("and in another window:");
    println!("  cargo run -p tms-tool -- --estate {estate} queue --serial {first} --package {COMPONENT}@{NEWER}");
    println!(
        "  cargo run -p tms-terminal -- --dir {} --once        a terminal by itself",
        terminal.display()
    );
    println!("  cargo run -p tms-tool -- --estate {estate} terminals");
    println!("  cargo run -p tms-tool -- --estate {estate} terminal {first}");
    println!("  cargo run -p tms-tool -- --estate {estate} events");
    println!("Each has --help. ({COMPONENT} {NEW} is what they run; {NEWER} is published and waits to be queued.)");
}

fn component(member: &Member) -> Option<&tms_proto::message::Component> {
    member
        .inventory
        .as_ref()?
        .inventory
        .components
        .iter()
        .find(|component| component.id == COMPONENT)
}

fn short(digest: Digest) -> String {
    digest.short().to_string()
}
