//! Taking a withdrawn text back: from where it waits, and with their next check-ins from the terminals that have it.

use super::super::rollup::put;
use super::super::{Estate, list};
use super::record::{DeliveryStatus, Publication, Recall, TextDelivery, TextRecord};
use crate::store::{Change, Entity, Expect, Key, Query, Record, StoreError, Terminal, TerminalId, Versioned};

impl Estate {
    /// The next step, and with how many terminals it is; none where nothing is to be taken back.
    pub(super) async fn recall_step(&self, limit: u32) -> Result<Option<(Vec<Change>, u32)>, StoreError> {
        let withdrawn = Query::Marked {
            kind: TextRecord::KIND,
            mark: "recall".to_owned(),
            prefix: String::new(),
            after: None,
        };
        let found = list::<TextRecord>(&*self.store, &withdrawn, 1)
            .await?
            .into_iter()
            .next();
        let Some(Versioned { version, record: text }) = found else {
            return Ok(None);
        };
        let mut changes = self.ended_publications(&text, limit).await?;
        if !changes.is_empty() {
            let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
            return Ok(Some((changes, count)));
        }
        let (recall, count) = self.taken_back(&text, limit, &mut changes).await?;
        changes.push(put(Some(version), &TextRecord { recall, ..text })?);
        Ok(Some((changes, count)))
    }

    /// Ends what would still lay it ready: then no terminal gets it behind the one that was looked at last.
    async fn ended_publications(&self, text: &TextRecord, limit: u32) -> Result<Vec<Change>, StoreError> {
        let laying = Query::Marked {
            kind: Publication::KIND,
            mark: "laying".to_owned(),
            prefix: text.id(),
            after: None,
        };
        let open = list::<Publication>(&*self.store, &laying, limit).await?.into_iter();
        let ended = open.map(|found| {
            let publication = Publication {
                done: true,
                ..found.record
            };
            put(Some(found.version), &publication)
        });
        ended.collect()
    }

    /// Takes it back from the next terminals, and says how far that is; none where it was the last of them, or where nobody
    /// shows it any more.
    async fn taken_back(
        &self,
        text: &TextRecord,
        limit: u32,
        changes: &mut Vec<Change>,
    ) -> Result<(Option<Recall>, u32), StoreError> {
        let now = self.clock.now();
        if now >= text.message.until {
            return Ok((None, 0));
        }
        let after = text.recall.and_then(|recall| recall.after);
        let deliveries = Query::Documents {
            kind: TextDelivery::KIND,
            prefix: format!("{}/", text.id()),
            after: after.map(|terminal| TextDelivery::id_of(text.id, terminal)),
        };
        let page = list::<TextDelivery>(&*self.store, &deliveries, limit).await?;
        let count = u32::try_from(page.len()).unwrap_or(u32::MAX);
        let last = page.last().map(|found| found.record.terminal);
        for delivery in page {
            if matches!(
                delivery.record.status,
                DeliveryStatus::Waiting | DeliveryStatus::Received
            ) {
                self.take_back_from(delivery, now, changes).await?;
            }
        }
        let recall = last
            .filter(|_| count >= limit)
            .map(|after| Recall { after: Some(after) });
        Ok((recall, count))
    }

    async fn take_back_from(
        &self,
        delivery: Versioned<TextDelivery>,
        now: u64,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let Versioned { version, mut record } = delivery;
        let TextDelivery { text, terminal: id, .. } = record;
        let Some((known, mut terminal)) = self.terminal_of(id).await? else {
            return Ok(());
        };
        let waiting = terminal.texts.len();
        terminal.texts.retain(|waiting| waiting.id != text);
        if terminal.texts.len() < waiting {
            // it never left
            record.status = DeliveryStatus::Withdrawn;
            record.updated = now;
            changes.push(put(Some(version), &record)?);
        } else {
            // what became of it there, its receipt says
            terminal.withdraw_text(text);
        }
        changes.push(Change::Put(Expect::Version(known), terminal.into()));
        Ok(())
    }

    async fn terminal_of(&self, id: TerminalId) -> Result<Option<(u64, Terminal)>, StoreError> {
        let found = self.store.get(&Key::Terminal(id)).await?;
        Ok(found.and_then(|found| match found.record {
            Record::Terminal(terminal) => Some((found.version, *terminal)),
            _ => None,
        }))
    }
}
