//! `tms task`.

use super::print_table;
use crate::office::Office;
use crate::time::show;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::io::{Read, Write};
use std::path::PathBuf;
use tms_core::estate::TaskCommand;
use tms_core::rule::task::{Action, Definition, Slot, TaskState, Work};
use tms_core::store::BranchPath;
use tms_core::task::Task as Record;

/// How many terminals are read at a time.
const PAGE: u32 = 256;

/// Plan changes for many terminals, and see how far they are.
#[derive(Subcommand)]
pub(super) enum Task {
    /// Write a task. It does nothing before it is built and started.
    New {
        /// Its definition, in JSON; - for standard input. docs/tasks.md explains it.
        #[arg(required_unless_present_any = ["install", "text"])]
        file: Option<PathBuf>,
        /// Install this package instead: as component@version, or by the beginning of its digest.
        #[arg(long, value_name = "PACKAGE", conflicts_with = "file", requires = "name")]
        install: Vec<String>,
        /// Show this text instead, by its id.
        #[arg(long, conflicts_with = "file", requires = "name", value_parser = id)]
        text: Option<u64>,
        /// Take the place of this task.
        #[arg(long, value_name = "TASK", conflicts_with = "file", value_parser = id)]
        replaces: Vec<u64>,
        /// What it is called.
        #[arg(long, conflicts_with = "file")]
        name: Option<String>,
        /// Only terminals of this model.
        #[arg(long, conflicts_with = "file")]
        model: Vec<String>,
        /// One terminal first, and the rest when that has succeeded.
        #[arg(long, conflicts_with = "file")]
        first_alone: bool,
        /// For terminals of this branch and those below it.
        #[arg(long, default_value = "/")]
        branch: BranchPath,
    },
    /// Show the tasks.
    List {
        /// Those of this branch and those below it.
        #[arg(default_value = "/")]
        under: BranchPath,
    },
    /// Show how far a task is.
    Show {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
        /// The whole record, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the terminals of a task.
    Terminals {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
        /// Only those that stand so, such as pending or succeeded.
        #[arg(long, value_parser = slot)]
        only: Option<Slot>,
    },
    /// Put its terminals into stages.
    Build(One),
    /// Say yes to a task that another operator wrote.
    Approve(One),
    /// Say no to it.
    Deny(One),
    /// Let it start by itself, at the time that its schedule says.
    Schedule(One),
    /// Start it now.
    Start(One),
    /// Offer nothing new.
    Pause(One),
    /// Go on, in spite of the gate that has paused it.
    Resume(One),
    /// End it, and take back what was offered.
    Stop {
        #[command(flatten)]
        task: One,
        /// Close everything at once, rather than ask the terminals.
        #[arg(long)]
        force: bool,
    },
    /// Remove it.
    Delete(One),
}

/// One task.
#[derive(clap::Args)]
pub(super) struct One {
    /// Its id.
    #[arg(value_parser = id)]
    id: u64,
}

impl Task {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        let (task, command) = match self {
            Self::New {
                file,
                install,
                text,
                replaces,
                name,
                model,
                first_alone,
                branch,
            } => {
                let definition = match file {
                    Some(file) => read(&file)?,
                    None => {
                        let mut actions = Vec::new();
                        for package in &install {
                            let manifest = office.find_package(package).await?.package.manifest;
                            actions.push(Action::new(Work::Install { manifest }));
                        }
                        actions.extend(text.map(|text| Action::new(Work::Text { text })));
                        let mut definition = Definition::new(name.as_deref().unwrap_or_default(), actions);
                        definition.filter.models = model;
                        definition.replaces = replaces;
                        if first_alone {
                            definition.first_alone()
                        } else {
                            definition
                        }
                    }
                };
                let task = estate.create_task(actor, &branch, definition).await?;
                writeln!(out, "task {0:016x} is written; next: tms task build {0:016x}", task.id)?;
                return Ok(());
            }
            Self::List { under } => {
                let tasks = estate.tasks(actor, &under, u32::MAX).await?;
                let row = |task: Record| {
                    let id = format!("{:016x}", task.id);
                    let stage = stage(&task);
                    let state = state(&task);
                    [
                        id,
                        task.definition.name,
                        task.branch.to_string(),
                        state,
                        stage,
                        task.author,
                        show(task.created),
                    ]
                };
                let head = ["task", "name", "branch", "state", "stage", "author", "written (UTC)"];
                return Ok(print_table(out, head, tasks.into_iter().map(row).collect())?);
            }
            Self::Show { id, json } => {
                let progress = estate.task_progress(actor, id).await?;
                if json {
                    writeln!(out, "{}", serde_json::to_string(&progress)?)?;
                    return Ok(());
                }
                let task = &progress.task;
                writeln!(
                    out,
                    "{}: {}, as of {}",
                    task.definition.name,
                    state(task),
                    show(progress.as_of)
                )?;
                let rows = progress.stages.iter().map(|stage| {
                    let others: Vec<String> = Slot::all()
                        .filter(|slot| *slot != Slot::Succeeded && stage.counts.of(*slot) > 0)
                        .map(|slot| format!("{} {}", stage.counts.of(slot), slot.name().replace('_', " ")))
                        .collect();
                    [
                        stage.name.clone(),
                        stage.total.to_string(),
                        stage.succeeded.to_string(),
                        stage.failed.to_string(),
                        others.join(", "),
                    ]
                });
                return Ok(print_table(
                    out,
                    ["stage", "terminals", "succeeded", "failed", "the others"],
                    rows.collect(),
                )?);
            }
            Self::Terminals { id, only } => return terminals(office, id, only, out).await,
            Self::Build(task) => (task, TaskCommand::Build),
            Self::Approve(task) => (task, TaskCommand::Approve),
            Self::Deny(task) => (task, TaskCommand::Deny),
            Self::Schedule(task) => (task, TaskCommand::Schedule),
            Self::Start(task) => (task, TaskCommand::Start),
            Self::Pause(task) => (task, TaskCommand::Pause),
            Self::Resume(task) => (task, TaskCommand::Resume),
            Self::Stop { task, force } => (task, TaskCommand::Stop { force }),
            Self::Delete(task) => (task, TaskCommand::Delete),
        };
        let mut done = estate.command_task(actor, task.id, command).await?;
        if command == TaskCommand::Delete {
            writeln!(out, "task {:016x} is gone", task.id)?;
            return Ok(());
        }
        // The server would do it in a few seconds; who has written it wants to see it.
        while done.state == TaskState::Building {
            estate.runner().advance().await?;
            done = estate.task(actor, task.id).await?.record;
        }
        writeln!(out, "task {:016x} is {}", task.id, state(&done))?;
        Ok(())
    }
}

async fn terminals(office: &Office, id: u64, only: Option<Slot>, out: &mut impl Write) -> Result<()> {
    let task = office.estate.task(&office.actor, id).await?.record;
    let mut rows = Vec::new();
    for (stage, number) in task.definition.stages.iter().zip(0_u16..) {
        for slot in Slot::all().filter(|slot| only.is_none_or(|only| only == *slot)) {
            let mut after = None;
            loop {
                let page = office
                    .estate
                    .task_members(&office.actor, id, (number, slot), after, PAGE)
                    .await?;
                let Some(last) = page.last() else { break };
                after = Some(last.terminal);
                for member in page {
                    let terminal = office.terminal(member.terminal).await?;
                    let holder = terminal.map_or_else(|| "removed".to_owned(), |terminal| terminal.holder.to_string());
                    rows.push([
                        member.terminal.to_string(),
                        holder,
                        stage.name.clone(),
                        slot.name().replace('_', " "),
                        show(member.moved),
                    ]);
                }
            }
        }
    }
    print_table(out, ["terminal", "holder", "stage", "stands at", "since (UTC)"], rows)?;
    Ok(())
}

fn read(file: &PathBuf) -> Result<Definition> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the definition")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    match serde_json::from_str(&text) {
        Ok(definition) => Ok(definition),
        Err(error) => bail!("{} is no definition of a task: {error}", file.display()),
    }
}

/// The state, and why where that says more.
fn state(task: &Record) -> String {
    match task.state {
        TaskState::Paused { reason } => {
            let reason = serde_json::to_value(reason).ok();
            let reason = reason.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
            format!("paused: {}", reason.replace('_', " "))
        }
        TaskState::Aborted { criterion } => format!("aborted by criterion {criterion}"),
        TaskState::Superseded => match task.superseded_by {
            Some(by) => format!("superseded by {by:016x}"),
            None => "superseded".to_owned(),
        },
        state => state.name().replace('_', " "),
    }
}

/// The stage that it has come to.
fn stage(task: &Record) -> String {
    let name = task.definition.stages.get(usize::from(task.stage));
    format!(
        "{} of {} ({})",
        task.stage.saturating_add(1),
        task.definition.stages.len(),
        name.map(|stage| stage.name.as_str()).unwrap_or_default()
    )
}

fn id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "a task's id is a number of 16 hexadecimal digits".to_owned())
}

fn slot(text: &str) -> Result<Slot, String> {
    let names = || Slot::all().map(Slot::name).collect::<Vec<_>>().join(", ");
    Slot::named(text).ok_or_else(|| format!("one of: {}", names()))
}
