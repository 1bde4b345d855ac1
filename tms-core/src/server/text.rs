//! Texts: those that lie ready with a terminal go with its plan, and what becomes of them is recorded.

use super::Inner;
use crate::estate::{DeliveryStatus, TextDelivery, read};
use crate::store::{
    Change, Document, Event, EventKind, Expect, Order, StoreError, Terminal, TerminalId, Versioned, WaitingText,
};
use crate::task::Ledger;
use tms_proto::message::{Text, TextReceipt};

/// How often a receipt is decided again after a conflict.
const ATTEMPTS: usize = 8;

/// The texts that go with a plan now.
pub(super) fn ready(terminal: &Terminal, now: u64) -> Vec<Text> {
    let ready = terminal
        .texts
        .iter()
        .filter(|text| text.from <= now && now < text.until);
    ready.map(Text::from).collect()
}

impl From<&WaitingText> for Text {
    fn from(text: &WaitingText) -> Self {
        Self {
            id: text.id,
            title: text.title.clone(),
            body: text.body.clone(),
            print: text.print.then_some(true),
            until: Some(text.until),
            confirm: text.confirm.then_some(true),
        }
    }
}

/// Takes away what the terminal has got, what it was told to be taken back, and what nobody is to see any more. A text that was
/// taken back while the terminal was given it is taken back with its next call.
pub(super) fn taken(terminal: &mut Terminal, handed: &[u64], told: &[u64], now: u64) {
    terminal.withdrawn_texts.retain(|id| !told.contains(id));
    for id in handed {
        if !terminal.texts.iter().any(|text| text.id == *id) {
            terminal.withdraw_text(*id);
        }
    }
    terminal
        .texts
        .retain(|text| now < text.until && !handed.contains(&text.id));
}

impl Inner {
    /// Records what became of a text. A receipt that comes twice, or after one that says more, is an event and changes nothing.
    pub(super) async fn record_receipt(
        &self,
        id: TerminalId,
        actor: &str,
        receipt: &TextReceipt,
    ) -> Result<(), StoreError> {
        let store = &*self.services.store;
        for _ in 0..ATTEMPTS {
            let now = self.services.clock.now();
            let mut changes = vec![Change::Append(Event {
                time: now,
                terminal: Some(id),
                actor: actor.to_owned(),
                kind: EventKind::Terminal {
                    what: "text receipt".to_owned(),
                    text: Some(format!("text {:016x} {}", receipt.id, receipt.status)),
                },
            })];
            let known = read::<TextDelivery>(store, &TextDelivery::id_of(receipt.id, id)).await?;
            if let (Some(mut known), Some(status)) = (known, DeliveryStatus::of(receipt.status))
                && status > known.record.status
            {
                known.record.status = status;
                known.record.updated = now;
                known.record.time = Some(receipt.time);
                let record = Document::of(&known.record)?.into();
                changes.push(Change::Put(Expect::Version(known.version), record));
            }
            let mut ledger = Ledger::new(store, now);
            for Versioned { version, record } in self.read(id).await?.assignments {
                let is_it = matches!(&record.order, Order::Text { text } if text.id == receipt.id);
                if let Some(after) = record.shown(receipt.status, now).filter(|_| is_it) {
                    ledger.moved(&after).await?;
                    changes.push(Change::Put(Expect::Version(version), after.into()));
                }
            }
            changes.extend(ledger.changes()?);
            match store.commit(changes).await {
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
        Err(StoreError::Unavailable("too many conflicts".to_owned()))
    }
}
