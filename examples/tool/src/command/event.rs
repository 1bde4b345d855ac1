//! `tms events`.

use crate::office::Office;
use crate::time::show;
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;
use tms_core::estate::{Consumer, notice};
use tms_core::store::{Entity, Event, EventKind, Key, Sequence, TerminalId};

/// How many events are read at a time.
const PAGE: u32 = 512;

/// Show what happened: who did it, when, and to which terminal.
#[derive(Args)]
pub(super) struct Events {
    /// Only those after this sequence number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: Sequence,
    /// Only those of this terminal: serial number, vendor/model/serial or id.
    #[arg(long, value_name = "SERIAL")]
    terminal: Option<String>,
    /// Those that this consumer has not acknowledged, and acknowledge them when they are written. Adds the consumer where there
    /// is none, beginning at --after.
    #[arg(long, value_name = "NAME", conflicts_with = "terminal")]
    consumer: Option<String>,
    /// The kinds that the consumer asks for from now on, such as checked_in: several, with commas between.
    #[arg(long, value_name = "KIND", value_delimiter = ',', requires = "consumer")]
    kind: Vec<String>,
    /// Wait for more, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        if let Some(consumer) = &self.consumer {
            return self.deliver(office, consumer, out).await;
        }
        let only = match &self.terminal {
            Some(text) => Some(office.find(text).await?.id),
            None => None,
        };
        let mut names = HashMap::new();
        let mut after = self.after;
        loop {
            let page = office.store.events(after, PAGE).await?;
            let full = page.len() == usize::try_from(PAGE)?;
            for (sequence, event) in page {
                after = sequence;
                if only.is_some_and(|only| event.terminal != Some(only)) {
                    continue;
                }
                self.print(office, &mut names, sequence, &event, out).await?;
            }
            if full {
                continue;
            }
            out.flush()?;
            if !self.follow {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Events {
    async fn deliver(&self, office: &Office, consumer: &str, out: &mut impl Write) -> Result<()> {
        let known = office
            .store
            .get(&Key::Document(Consumer::KIND, consumer.to_owned()))
            .await?;
        if known.is_none() || !self.kind.is_empty() {
            office
                .estate
                .subscribe(&office.actor, consumer, &self.kind, self.after)
                .await?;
        }
        let mut names = HashMap::new();
        loop {
            let delivery = office.estate.deliver(consumer, PAGE).await?;
            for (sequence, event) in &delivery.events {
                self.print(office, &mut names, *sequence, event, out).await?;
            }
            // What is not written is not taken in.
            out.flush()?;
            office.estate.acknowledge(consumer, delivery.through).await?;
            if delivery.more {
                continue;
            }
            if !self.follow {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn print(
        &self,
        office: &Office,
        names: &mut HashMap<TerminalId, String>,
        sequence: Sequence,
        event: &Event,
        out: &mut impl Write,
    ) -> Result<()> {
        let terminal = match event.terminal {
            Some(id) => name(office, names, id).await?,
            None => String::new(),
        };
        if self.json {
            let mut fields = notice(sequence, event)?;
            fields.insert(
                "holder".into(),
                if terminal.is_empty() {
                    Value::Null
                } else {
                    json!(terminal)
                },
            );
            writeln!(out, "{}", Value::Object(fields))?;
            return Ok(());
        }
        // A terminal's own events need not name it twice.
        let about = if terminal.is_empty() || terminal == event.actor {
            ""
        } else {
            &terminal
        };
        let space = if about.is_empty() { "" } else { " " };
        writeln!(
            out,
            "{sequence:>6}  {}  {:<20}  {}{space}{about}",
            show(event.time),
            event.actor,
            words(&event.kind)
        )?;
        Ok(())
    }
}

/// A terminal by its name. A list of events names the same few over and over.
async fn name(office: &Office, names: &mut HashMap<TerminalId, String>, id: TerminalId) -> Result<String> {
    if let Some(name) = names.get(&id) {
        return Ok(name.clone());
    }
    let terminal = office.terminal(id).await?;
    let name = terminal.map_or_else(|| id.to_string(), |terminal| terminal.holder.to_string());
    if names.len() >= 10_000 {
        names.clear();
    }
    names.insert(id, name.clone());
    Ok(name)
}

/// What happened, in words.
fn words(kind: &EventKind) -> String {
    match kind {
        EventKind::Enrolled => "enrolled".into(),
        EventKind::StateChanged { state } => format!("made {}", state.name()),
        EventKind::KeysChanged => "changed what is to be proved by".into(),
        EventKind::Retired => "removed".into(),
        EventKind::Moved { from, to } => format!("moved from {from} to {to}"),
        EventKind::CertificateRenewed => "laid ready a renewed certificate for".into(),
        EventKind::Published { manifest } => format!("published package {}", manifest.short()),
        EventKind::ReleaseChanged { manifest, state } => format!("package {} is {state}", manifest.short()),
        EventKind::Represented { manifest } => format!("made package {} smaller", manifest.short()),
        EventKind::Queued { action, manifest } => format!("queued package {} as action {action} for", manifest.short()),
        EventKind::Restored { action, what } => format!("put {what} right by action {action} of"),
        EventKind::Cancelled { action } => format!("withdrew action {action} of"),
        EventKind::CheckedIn(summary) => {
            let mode = match summary.mode {
                1 => "its RSA key",
                2 => "its main-control key",
                3 => "a ticket",
                4 => "its RSA and main-control keys",
                _ => "an unknown mode",
            };
            let skew = match summary.skew {
                -120..=120 => String::new(),
                skew => format!(
                    ", clock {} s {}",
                    skew.unsigned_abs(),
                    if skew > 0 { "fast" } else { "slow" }
                ),
            };
            let claimed = summary
                .claimed
                .as_ref()
                .map(|number| format!(", says it calls from {number}"))
                .unwrap_or_default();
            format!(
                "checked in ({}) with {mode}, from {}{skew}{claimed}",
                summary.trigger, summary.peer
            )
        }
        EventKind::Result {
            action,
            stage,
            code,
            attempt,
        } => format!("action {action}: {stage} ({code}), attempt {attempt}"),
        EventKind::InventoryReported => "sent its inventory".into(),
        EventKind::Subscribed { consumer } => format!("added or changed consumer {consumer}"),
        EventKind::Unsubscribed { consumer } => format!("removed consumer {consumer}"),
        EventKind::Registered(summary) => {
            let elsewhere = if summary.elsewhere {
                ", AT ANOTHER PLACE THAN BEFORE"
            } else {
                ""
            };
            format!(
                "registered ({}) as {} {}{elsewhere}",
                summary.intent, summary.merchant, summary.number
            )
        }
        EventKind::RegistrationRefused { intent, code } => format!("was refused to register ({intent}): {code}"),
        EventKind::Replaced { by } => format!("took, as {by}, the place of"),
        EventKind::CaseOpened { case, about, score } => format!("opened case {case} ({about}, {score} points) of"),
        EventKind::CaseClosed { case, disposition } => format!("closed case {case} ({disposition}) of"),
        EventKind::CloneSuspected { evidence } => format!("MAY BE CLONED: {evidence}"),
        EventKind::Terminal { what, text } => {
            format!(
                "reported {what}{}",
                text.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
            )
        }
        other => other.name().replace('_', " "),
    }
}
