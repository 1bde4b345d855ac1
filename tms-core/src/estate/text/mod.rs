//! Texts for terminals: written by one operator, approved by another, published to a terminal, a branch or a model.
//!
//! Publishing lays a text ready with each terminal that it is for, some at a time, behind the operator's back
//! ([`Estate::advance_texts`]). A check-in brings it along, and has nothing more to read for that.

mod recall;
mod record;

pub use record::{Audience, DeliveryStatus, Publication, Recall, TextDelivery, TextRecord, TextState};

use super::access::{Actor, Permission};
use super::audit::Deed;
use super::branch::within;
use super::rollup::put;
use super::{ATTEMPTS, Estate, EstateError, decided, list};
use crate::rule::text::{Message, Profile};
use crate::store::{
    BranchPath, Caller, Change, Entity, Expect, Key, MAX_WAITING_TEXTS, Query, Record, RosterFilter, RosterPlace,
    StoreError, Tally, TerminalId, Versioned,
};
use serde_json::json;
use std::collections::BTreeMap;

/// How many terminals get a text in one commit.
const BATCH: u32 = 64;

impl Estate {
    /// Writes a text. Another operator has to approve it.
    ///
    /// # Errors
    /// [`EstateError::Text`] with the first thing that is wrong: what speaks of a PIN, among others; [`EstateError::Denied`];
    /// [`EstateError::Unknown`] where the branch is not there.
    pub async fn write_text(
        &self,
        actor: &Actor,
        branch: &BranchPath,
        message: Message,
    ) -> Result<TextRecord, EstateError> {
        actor.demand(Permission::ManageTexts, branch)?;
        self.demand_branch(branch).await?;
        message.check()?;
        let mut random = [0; 8];
        self.entropy.fill(&mut random);
        let record = TextRecord {
            // zero is no id
            id: u64::from_be_bytes(random).max(1),
            message,
            branch: branch.clone(),
            author: actor.name().to_owned(),
            written: self.clock.now(),
            state: TextState::Draft,
            recall: None,
        };
        let deed = deed("text.write", &record, json!({ "message": record.message }));
        self.commit(actor, &deed, vec![put(None, &record)?]).await?;
        Ok(record)
    }

    /// Approves a text that another operator wrote.
    ///
    /// # Errors
    /// [`EstateError::SecondOperator`]; [`EstateError::Denied`]; [`EstateError::Unknown`]; [`EstateError::Over`] where it is no draft.
    pub async fn approve_text(&self, actor: &Actor, id: u64) -> Result<TextRecord, EstateError> {
        self.change_text(actor, id, "text.approve", |record, signed| {
            if record.author == signed.0 {
                return Err(EstateError::SecondOperator);
            }
            if record.state != TextState::Draft {
                return Err(EstateError::Over("text", record.id()));
            }
            let (by, at) = signed;
            record.state = TextState::Approved { by, at };
            Ok(())
        })
        .await
    }

    /// Withdraws a text: it is published no more. Where it waits for a terminal it is taken away, and where a terminal has it and
    /// did not show it yet, the terminal's next check-in takes it back: [`advance_texts`](Self::advance_texts) sees to both.
    ///
    /// # Errors
    /// [`EstateError::Denied`]; [`EstateError::Unknown`].
    pub async fn withdraw_text(&self, actor: &Actor, id: u64) -> Result<TextRecord, EstateError> {
        self.change_text(actor, id, "text.withdraw", |record, (by, at)| {
            let published = matches!(record.state, TextState::Approved { .. });
            if published && at < record.message.until {
                record.recall = Some(Recall::default());
            }
            record.state = TextState::Withdrawn { by, at };
            Ok(())
        })
        .await
    }

    /// Publishes an approved text. Terminals get it at their next check-ins within its time.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not in the branch of the audience; [`EstateError::Invalid`] where the text is not
    /// for that branch; [`EstateError::Over`] where it is not approved, withdrawn, or its time is over;
    /// [`EstateError::UnknownTerminal`]; [`EstateError::Unknown`].
    pub async fn publish_text(&self, actor: &Actor, id: u64, audience: Audience) -> Result<Publication, EstateError> {
        let branch = match &audience {
            Audience::Terminal { terminal } => {
                self.known(&Caller::Id(*terminal)).await?;
                self.branch_of(*terminal).await?
            }
            Audience::Branch { under } | Audience::Model { under, .. } => under.clone(),
        };
        self.demand_branch(&branch).await?;
        let text = self.text_of(actor, id).await?;
        actor.demand(Permission::ManageTexts, &branch)?;
        self.demand_text(id, &branch).await?;
        let (record, now) = (&text.record, self.clock.now());
        let mut random = [0; 8];
        self.entropy.fill(&mut random);
        let publication = Publication {
            id: format!("{now:010}-{}", hex::encode(random)),
            text: id,
            audience,
            branch,
            operator: actor.name().to_owned(),
            published: now,
            after: None,
            terminals: 0,
            given: 0,
            done: false,
        };
        let deed = Deed {
            act: "text.publish",
            subject: record.id(),
            branch: publication.branch.clone(),
            detail: json!({ "audience": publication.audience }),
        };
        self.commit(actor, &deed, vec![put(None, &publication)?]).await?;
        Ok(publication)
    }

    /// Takes withdrawn texts back from at most `limit` terminals, and at most 64, or lays published ones ready with so many, in one
    /// commit; gives how many were looked at. To be called from time to time, by any number of nodes, and again at once while it is
    /// not zero.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn advance_texts(&self, limit: u32) -> Result<u32, EstateError> {
        let mut limit = limit.min(BATCH);
        if limit == 0 {
            return Ok(0);
        }
        for _ in 0..ATTEMPTS {
            let step = match self.recall_step(limit).await? {
                Some(step) => Some(step),
                None => self.publication_step(limit).await?,
            };
            let Some((changes, count)) = step else {
                return Ok(0);
            };
            match self.store.commit(changes).await {
                // one of so many called meanwhile: fewer are easier
                Err(StoreError::Conflict) => limit = (limit / 2).max(1),
                done => {
                    done?;
                    // the end of one is not the end of all
                    return Ok(count.max(1));
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The next step of a publication, and with how many terminals it is; none where all is laid ready.
    async fn publication_step(&self, limit: u32) -> Result<Option<(Vec<Change>, u32)>, StoreError> {
        let open = Query::Marked {
            kind: Publication::KIND,
            mark: "open".to_owned(),
            prefix: String::new(),
            after: None,
        };
        let Some(found) = list::<Publication>(&*self.store, &open, 1).await?.into_iter().next() else {
            return Ok(None);
        };
        let Versioned {
            version,
            record: mut publication,
        } = found;
        let (mut changes, count) = self.lay_ready(&mut publication, limit).await?;
        changes.push(put(Some(version), &publication)?);
        Ok(Some((changes, count)))
    }

    async fn lay_ready(&self, publication: &mut Publication, limit: u32) -> Result<(Vec<Change>, u32), StoreError> {
        let id = TextRecord::key(publication.text);
        let now = self.clock.now();
        let text = self.versioned::<TextRecord>(&id).await?.map(|found| found.record);
        let live = text.filter(|text| matches!(text.state, TextState::Approved { .. }) && now < text.message.until);
        let Some(text) = live else {
            publication.done = true;
            return Ok((Vec::new(), 0));
        };
        let terminals = match &publication.audience {
            Audience::Terminal { terminal } => {
                publication.done = true;
                vec![*terminal]
            }
            Audience::Branch { under } => {
                let filter = RosterFilter::under(under.clone());
                self.next_of(publication, filter, limit).await?
            }
            Audience::Model { under, vendor, model } => {
                let filter = RosterFilter {
                    vendor: Some(vendor.clone()),
                    model: Some(model.clone()),
                    ..RosterFilter::under(under.clone())
                };
                self.next_of(publication, filter, limit).await?
            }
        };
        let mut changes = Vec::new();
        for terminal in &terminals {
            let given = self.lay_ready_with(*terminal, &text, now, &mut changes).await?;
            publication.terminals = publication.terminals.saturating_add(1);
            publication.given = publication.given.saturating_add(u64::from(given));
        }
        Ok((changes, u32::try_from(terminals.len()).unwrap_or(u32::MAX)))
    }

    async fn next_of(
        &self,
        publication: &mut Publication,
        filter: RosterFilter,
        limit: u32,
    ) -> Result<Vec<TerminalId>, StoreError> {
        let after = publication.after.clone().map(|(branch, terminal)| RosterPlace {
            branch,
            seen: None,
            terminal,
        });
        let page = self.store.list(&Query::Roster { filter, after }, limit).await?;
        publication.done = u32::try_from(page.len()).is_ok_and(|found| found < limit);
        let mut terminals = Vec::with_capacity(page.len());
        for found in page {
            if let Record::Roster(entry) = found.record {
                publication.after = Some((entry.branch, entry.terminal));
                terminals.push(entry.terminal);
            }
        }
        Ok(terminals)
    }

    /// Whether the terminal gets it.
    async fn lay_ready_with(
        &self,
        id: TerminalId,
        text: &TextRecord,
        now: u64,
        changes: &mut Vec<Change>,
    ) -> Result<bool, StoreError> {
        let known = self
            .versioned::<TextDelivery>(&TextDelivery::id_of(text.id, id))
            .await?;
        let Some(Versioned {
            version,
            record: Record::Terminal(mut terminal),
        }) = self.store.get(&Key::Terminal(id)).await?
        else {
            return Ok(false);
        };
        if known.is_some() {
            // it was published to this terminal before
            return Ok(false);
        }
        // Of a terminal that never said what it can show, it is the terminal that refuses.
        let profile = match self.store.get(&Key::Inventory(id)).await? {
            Some(Versioned {
                record: Record::Inventory(inventory),
                ..
            }) => inventory.inventory.capabilities.as_ref().map(Profile::from),
            _ => None,
        };
        let fits = profile.is_none_or(|profile| text.message.fits(&profile).is_ok());
        terminal.texts.retain(|waiting| now < waiting.until);
        let status = if !fits {
            DeliveryStatus::Unsuitable
        } else if terminal.texts.len() >= MAX_WAITING_TEXTS {
            DeliveryStatus::Full
        } else {
            terminal.texts.push(text.waiting());
            changes.push(Change::Put(Expect::Version(version), (*terminal).into()));
            DeliveryStatus::Waiting
        };
        let delivery = TextDelivery {
            status,
            ..TextDelivery::waiting(text.id, id, now)
        };
        changes.push(put(None, &delivery)?);
        Ok(status == DeliveryStatus::Waiting)
    }

    /// A text that the actor may see, and with how many terminals it is in which status.
    ///
    /// # Errors
    /// [`EstateError::Unknown`] where there is none, or none that they may see.
    pub async fn text(&self, actor: &Actor, id: u64) -> Result<(TextRecord, BTreeMap<String, u64>), EstateError> {
        let text = self.text_of(actor, id).await?.record;
        let prefix = format!("{id:016x}/");
        let tally = Tally::Marked {
            kind: TextDelivery::KIND,
            mark: "status".to_owned(),
            prefix: prefix.clone(),
        };
        let groups = self.store.tally(&tally, 100).await?.into_iter();
        let counts = groups.filter_map(|group| {
            let name = group.names.first()?.strip_prefix(&prefix)?.to_owned();
            Some((name, group.count))
        });
        Ok((text, counts.collect()))
    }

    /// The texts that the actor may see, under `under`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn texts(&self, actor: &Actor, under: &BranchPath, limit: u32) -> Result<Vec<TextRecord>, EstateError> {
        let mut found = Vec::new();
        for scope in within(actor, Permission::View, under) {
            let query = Query::Marked {
                kind: TextRecord::KIND,
                mark: "branch".to_owned(),
                prefix: scope.to_string(),
                after: None,
            };
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.documents::<TextRecord>(&query, left).await?);
        }
        Ok(found)
    }

    /// Demands that a text may be shown in a branch.
    pub(super) async fn demand_text(&self, id: u64, branch: &BranchPath) -> Result<(), EstateError> {
        let name = TextRecord::key(id);
        let Some(Versioned { record, .. }) = self.versioned::<TextRecord>(&name).await? else {
            return Err(EstateError::Unknown("text", name));
        };
        if !record.branch.covers(branch) {
            return Err(EstateError::Invalid("text", "is not for that branch"));
        }
        if !matches!(record.state, TextState::Approved { .. }) || self.clock.now() >= record.message.until {
            return Err(EstateError::Over("text", name));
        }
        Ok(())
    }

    async fn text_of(&self, actor: &Actor, id: u64) -> Result<Versioned<TextRecord>, EstateError> {
        let name = TextRecord::key(id);
        match self.versioned::<TextRecord>(&name).await? {
            Some(found) if actor.may(Permission::View, &found.record.branch) => Ok(found),
            _ => Err(EstateError::Unknown("text", name)),
        }
    }

    async fn change_text(
        &self,
        actor: &Actor,
        id: u64,
        act: &'static str,
        change: impl Fn(&mut TextRecord, (String, u64)) -> Result<(), EstateError> + Send + Sync,
    ) -> Result<TextRecord, EstateError> {
        decided(|| async {
            let Versioned { version, mut record } = self.text_of(actor, id).await?;
            actor.demand(Permission::ManageTexts, &record.branch)?;
            change(&mut record, (actor.name().to_owned(), self.clock.now()))?;
            let deed = deed(act, &record, json!({ "author": record.author }));
            self.commit(actor, &deed, vec![put(Some(version), &record)?]).await?;
            Ok(record)
        })
        .await
    }
}

fn deed(act: &'static str, text: &TextRecord, detail: serde_json::Value) -> Deed {
    Deed {
        act,
        subject: text.id(),
        branch: text.branch.clone(),
        detail,
    }
}
