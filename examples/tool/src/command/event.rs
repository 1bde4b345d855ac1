//! `tms events`.

use crate::office::Office;
use crate::time::{rfc3339, show};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;
use tms_core::store::{Event, EventKind, Sequence, TerminalId};

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
    /// Wait for more, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
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
                let terminal = match event.terminal {
                    Some(id) => name(office, &mut names, id).await?,
                    None => String::new(),
                };
                if self.json {
                    writeln!(out, "{}", object(sequence, &event, &terminal)?)?;
                } else {
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
                }
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

fn object(sequence: Sequence, event: &Event, name: &str) -> Result<Value> {
    let mut value = serde_json::to_value(event)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("sequence".into(), json!(sequence));
        fields.insert("time".into(), json!(rfc3339(event.time)));
        fields.insert(
            "terminal".into(),
            event.terminal.map_or(Value::Null, |id| json!(id.to_string())),
        );
        fields.insert("holder".into(), if name.is_empty() { Value::Null } else { json!(name) });
        // The store keeps codes by their numbers; whoever reads this wants names.
        match &event.kind {
            EventKind::Result { stage, code, .. } => {
                fields.insert("stage".into(), json!(stage.to_string()));
                fields.insert("code".into(), json!(code.to_string()));
            }
            EventKind::CheckedIn(summary) => {
                fields.insert("trigger".into(), json!(summary.trigger.to_string()));
            }
            _ => {}
        }
    }
    Ok(value)
}

/// What happened, in words.
fn words(kind: &EventKind) -> String {
    match kind {
        EventKind::Enrolled => "enrolled".into(),
        EventKind::StateChanged { state } => format!("made {}", state.name()),
        EventKind::KeysChanged => "changed what is to be proved by".into(),
        EventKind::Retired => "removed".into(),
        EventKind::CertificateRenewed => "laid ready a renewed certificate for".into(),
        EventKind::Published { manifest } => format!("published package {}", manifest.short()),
        EventKind::Represented { manifest } => format!("made package {} smaller", manifest.short()),
        EventKind::Queued { action, manifest } => format!("queued package {} as action {action} for", manifest.short()),
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
