//! Events as other systems read them: JSON of a stable form, with names where the store keeps numbers.

use super::report::rfc3339;
use crate::store::{Event, EventKind, Sequence};
use serde_json::{Map, Value, json};

/// An event as JSON, as `docs/events.md` describes it. Fields are added in later versions; none is taken away or changes its
/// meaning.
///
/// # Errors
/// Where it cannot be written as JSON.
pub fn notice(sequence: Sequence, event: &Event) -> Result<Map<String, Value>, serde_json::Error> {
    let mut fields = match serde_json::to_value(event)? {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("sequence".into(), json!(sequence));
    fields.insert("time".into(), json!(rfc3339(event.time)));
    let terminal = event.terminal.map(|id| id.to_string());
    fields.insert("terminal".into(), json!(terminal));
    match &event.kind {
        EventKind::Result { stage, code, .. } => {
            fields.insert("stage".into(), json!(stage.to_string()));
            fields.insert("code".into(), json!(code.to_string()));
        }
        EventKind::CheckedIn(summary) => {
            fields.insert("trigger".into(), json!(summary.trigger.to_string()));
        }
        EventKind::Registered(summary) => {
            fields.insert("intent".into(), json!(summary.intent.to_string()));
        }
        EventKind::Replaced { by } => {
            fields.insert("by".into(), json!(by.to_string()));
        }
        EventKind::RegistrationRefused { intent, code } => {
            fields.insert("intent".into(), json!(intent.to_string()));
            fields.insert("code".into(), json!(code.to_string()));
        }
        _ => {}
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;
    use std::collections::BTreeMap;

    /// The document has one example of every kind, and it is what comes out.
    #[test]
    fn the_document_says_what_is_sent() {
        let document = include_str!("../../../docs/events.md");
        let examples: BTreeMap<String, Value> = document
            .lines()
            .filter(|line| line.starts_with("{\""))
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|example| (example["kind"].as_str().unwrap().to_owned(), example))
            .collect();
        let events = sample::events(1);
        for (number, event) in events.iter().enumerate() {
            let said = Value::Object(notice(number as u64 + 1, event).unwrap());
            let kind = event.kind.name();
            assert_eq!(examples.get(kind), Some(&said), "{kind}: {said}");
        }
        assert_eq!(examples.len(), events.len());
    }
}
