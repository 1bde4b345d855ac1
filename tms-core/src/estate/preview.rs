//! What terminals would get: previews, differences, and whom an edit concerns.

use super::access::{Actor, Permission};
use super::binding::{Binding, Relation};
use super::branch::within;
use super::parameters::ParameterError;
use super::template::{LayerDraft, path_of};
use super::{Estate, EstateError};
use crate::rule::template::{
    Difference, Edit, Fault, Layer, Origin, Pins, Rendering, Scope, Shown, Template, Uncertain, diff, render,
};
use crate::store::{
    BranchPath, Caller, Entity, Key, Query, Record, RosterEntry, RosterFilter, RosterPlace, StoreError, TerminalId,
    Versioned,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The most terminals that are looked at for one page.
const MAX_PAGE: u32 = 200;

/// The most logical terminals of a merchant that are looked at.
const MAX_BOUND: u32 = 1_000;

/// What a terminal would get, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The terminal.
    pub terminal: TerminalId,
    /// The template.
    pub template: String,
    /// The versions that it is made of: to be pinned, or to be compared with others.
    pub pins: Pins,
    /// The parameters, by name.
    pub parameters: Vec<PreviewLine>,
    /// Values of layers that the template does not define.
    pub unused: Vec<(String, Scope)>,
}

/// One parameter of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewLine {
    /// Its name.
    pub name: String,
    /// Its value; of a secret, that there is one.
    pub value: Shown,
    /// Where it comes from.
    pub from: Origin,
    /// Wider layers with other values, which do not count.
    pub hides: Vec<Origin>,
    /// The variables that it took.
    pub used: Vec<String>,
}

/// A terminal whose parameters an edit changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// The terminal.
    pub terminal: TerminalId,
    /// Its branch.
    pub branch: BranchPath,
    /// Vendor, model and serial number.
    pub holder: String,
    /// What changes.
    pub changes: Vec<Difference>,
    /// What keeps it from having parameters, with the edit or, where `now`, already without it.
    pub faults: Vec<Fault>,
    /// The faults are there without the edit too.
    pub now: bool,
}

/// A page of terminals that an edit changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedPage {
    /// The terminals, of those that were looked at.
    pub rows: Vec<Affected>,
    /// How many were looked at for it.
    pub examined: u32,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// Where in the terminals of a scope a page ended.
enum Place {
    /// In the roster, after this one.
    Roster(RosterPlace),
    /// In those of a merchant that bindings alone name, after this one.
    Bound(TerminalId),
}

impl Estate {
    /// What a terminal would get now of this version of a template, or of the newest.
    ///
    /// # Errors
    /// [`EstateError::UnknownTerminal`], also where the actor may not see it; [`EstateError::Parameters`] with everything that
    /// keeps it from getting any.
    pub async fn preview(
        &self,
        actor: &Actor,
        terminal: &Caller,
        template: &str,
        version: Option<u32>,
    ) -> Result<Preview, EstateError> {
        let terminal = self.seen_terminal(actor, terminal).await?;
        let parameters = self.parameters();
        let context = parameters.context(terminal).await?;
        let template = parameters.template(template, version).await?;
        let layers = parameters.layers_now(&template.name, &context).await?;
        let rendering = render(&template, &layers, &context).map_err(ParameterError::Faults)?;
        Ok(Preview::of(terminal, rendering))
    }

    /// What differs for a terminal between two sets of versions, with what is known of it now.
    ///
    /// # Errors
    /// As [`preview`](Self::preview).
    pub async fn difference(
        &self,
        actor: &Actor,
        terminal: &Caller,
        template: &str,
        before: &Pins,
        after: &Pins,
    ) -> Result<Vec<Difference>, EstateError> {
        let terminal = self.seen_terminal(actor, terminal).await?;
        let parameters = self.parameters();
        let context = parameters.context(terminal).await?;
        let mut renderings = Vec::with_capacity(2);
        for pins in [before, after] {
            let (template, layers) = parameters.pinned(template, pins).await?;
            renderings.push(render(&template, &layers, &context).map_err(ParameterError::Faults)?);
        }
        Ok(match renderings.as_slice() {
            [before, after] => diff(before, after),
            _ => Vec::new(),
        })
    }

    /// Which terminals a draft would change, and what: at most `limit` and at most 200 terminals are looked at, of those that
    /// the draft's scope covers and the actor may see; `after` is where an earlier page ended. A page may be empty before the
    /// end.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not write the draft; [`EstateError::BadCursor`]; as
    /// [`put_layer`](Self::put_layer), for a draft that could not be written.
    pub async fn affected(
        &self,
        actor: &Actor,
        template: &str,
        draft: &LayerDraft,
        after: Option<&str>,
        limit: u32,
    ) -> Result<AffectedPage, EstateError> {
        let branch = self.place_of(&draft.scope).await?;
        actor.demand(Permission::ManageParameters, &branch)?;
        let place = match after {
            Some(text) => Some(Place::read(text).ok_or(EstateError::BadCursor)?),
            None => None,
        };
        let parameters = self.parameters();
        let template = parameters.template(template, None).await?;
        let before = parameters.layer(&template.name, &draft.scope, None).await?;
        let before = before.map(|before| before.layer);
        let layer = self.drafted(&template, before.as_ref(), draft).await?;
        let edit = Edit {
            scope: &draft.scope,
            before: before.as_ref(),
            after: Some(&layer),
        };
        let mut page = AffectedPage {
            rows: Vec::new(),
            examined: 0,
            next: None,
        };
        if edit.is_empty() {
            return Ok(page);
        }
        let limit = limit.min(MAX_PAGE);
        let (entries, next) = self.covered(actor, &draft.scope, place, limit).await?;
        let mut known = BTreeMap::new();
        for entry in entries {
            page.examined = page.examined.saturating_add(1);
            page.rows
                .extend(self.change_of(&edit, &template, entry, &mut known).await?);
        }
        page.next = next.map(|next| next.write());
        Ok(page)
    }

    /// What an edit changes for one terminal; `None` where it changes nothing.
    async fn change_of(
        &self,
        edit: &Edit<'_>,
        template: &Template,
        entry: RosterEntry,
        known: &mut BTreeMap<Scope, Option<Layer>>,
    ) -> Result<Option<Affected>, EstateError> {
        let parameters = self.parameters();
        let context = match parameters.context(entry.terminal).await {
            Ok(context) => context,
            // It was retired meanwhile.
            Err(ParameterError::UnknownTerminal(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let layers = parameters.layers_cached(&template.name, &context, known).await?;
        let (changes, faults, now) = match edit.changes(template, &layers, &context) {
            Ok(changes) if changes.is_empty() => return Ok(None),
            Ok(changes) => (changes, Vec::new(), false),
            Err(Uncertain::After(faults)) => {
                let now = render(template, &layers, &context).is_err();
                (Vec::new(), faults, now)
            }
            // It has none now, and will have some.
            Err(Uncertain::Before(faults)) => (Vec::new(), faults, true),
        };
        Ok(Some(Affected {
            terminal: entry.terminal,
            holder: format!("{}/{}/{}", entry.vendor, entry.model, entry.serial),
            branch: entry.branch,
            changes,
            faults,
            now,
        }))
    }

    /// At most `limit` terminals of a scope that the actor may see, by the narrowest index that there is, and where the next
    /// ones begin.
    async fn covered(
        &self,
        actor: &Actor,
        scope: &Scope,
        place: Option<Place>,
        limit: u32,
    ) -> Result<(Vec<RosterEntry>, Option<Place>), EstateError> {
        let mut filter = RosterFilter::under(BranchPath::head_office());
        match scope {
            Scope::Branch(path) => filter.under = path_of(path)?,
            Scope::Vendor(vendor) => filter.vendor = Some(vendor.clone()),
            Scope::Model { vendor, model } => {
                (filter.vendor, filter.model) = (Some(vendor.clone()), Some(model.clone()));
            }
            Scope::Merchant(number) => filter.merchant = Some(number.clone()),
            Scope::Terminal(id) => {
                let entry = self.visible_entry(actor, *id).await?;
                return Ok((entry.into_iter().collect(), None));
            }
        }
        let mut found = Vec::new();
        let room = |found: &[RosterEntry]| limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if !matches!(place, Some(Place::Bound(_))) {
            let ended = match &place {
                Some(Place::Roster(ended)) => Some(ended.clone()),
                _ => None,
            };
            for under in within(actor, Permission::View, &filter.under.clone()) {
                let after = ended.clone().filter(|ended| under.covers(&ended.branch));
                if after.is_none() && ended.as_ref().is_some_and(|ended| under < ended.branch) {
                    continue;
                }
                let query = Query::Roster {
                    filter: RosterFilter {
                        under,
                        ..filter.clone()
                    },
                    after,
                };
                for page in self.store.list(&query, room(&found)).await? {
                    if let Record::Roster(entry) = page.record {
                        found.push(*entry);
                    }
                }
                if room(&found) == 0 {
                    let last = found.last().map(|entry| Place::Roster(RosterPlace::of(entry)));
                    return Ok((found, last));
                }
            }
        }
        let Scope::Merchant(number) = scope else {
            return Ok((found, None));
        };
        let after = match place {
            Some(Place::Bound(after)) => Some(after),
            _ => None,
        };
        for id in self.bound_devices(number).await? {
            if after.is_some_and(|after| id <= after) {
                continue;
            }
            // Where the roster names a merchant, that counts.
            let entry = self.visible_entry(actor, id).await?;
            found.extend(entry.filter(|entry| entry.merchant.is_none()));
            if room(&found) == 0 {
                return Ok((found, Some(Place::Bound(id))));
            }
        }
        Ok((found, None))
    }

    /// The devices on which logical terminals of a merchant run, by bindings.
    async fn bound_devices(&self, merchant: &str) -> Result<BTreeSet<TerminalId>, StoreError> {
        let query = Query::Marked {
            kind: Binding::KIND,
            mark: Binding::HOLDS.to_owned(),
            prefix: Binding::object_mark(Relation::Merchant, merchant),
            after: None,
        };
        let mut devices = BTreeSet::new();
        for logical in self.documents::<Binding>(&query, MAX_BOUND).await? {
            let query = Query::Documents {
                kind: Binding::KIND,
                prefix: Binding::subject_mark(Relation::Device, &logical.subject),
                after: None,
            };
            let device = self.documents::<Binding>(&query, 1).await?.pop();
            let device = device.filter(|device| device.until.is_none());
            let id = device.and_then(|device| u64::from_str_radix(&device.object, 16).ok());
            devices.extend(id.map(TerminalId));
        }
        Ok(devices)
    }

    async fn visible_entry(&self, actor: &Actor, id: TerminalId) -> Result<Option<RosterEntry>, StoreError> {
        let found = self.store.get(&Key::Roster(id)).await?;
        Ok(match found {
            Some(Versioned {
                record: Record::Roster(entry),
                ..
            }) if actor.may(Permission::View, &entry.branch) => Some(*entry),
            _ => None,
        })
    }

    /// A terminal that the actor may see.
    pub(super) async fn seen_terminal(&self, actor: &Actor, terminal: &Caller) -> Result<TerminalId, EstateError> {
        let known = self.known(terminal).await?.terminal.record;
        if actor.may(Permission::View, &self.branch_of(known.id).await?) {
            return Ok(known.id);
        }
        Err(EstateError::UnknownTerminal(match terminal {
            Caller::Holder(holder) => holder.to_string(),
            Caller::Credential(id) => id.to_string(),
            Caller::Id(id) => id.to_string(),
        }))
    }
}

impl Preview {
    fn of(terminal: TerminalId, rendering: Rendering) -> Self {
        let lines = rendering.values.into_iter().map(|(name, rendered)| PreviewLine {
            name,
            value: Shown::from(&rendered.value),
            from: rendered.from,
            hides: rendered.hides,
            used: rendered.used,
        });
        Self {
            terminal,
            template: rendering.template,
            pins: rendering.pins,
            parameters: lines.collect(),
            unused: rendering.unused,
        }
    }
}

impl Place {
    fn write(&self) -> String {
        match self {
            Self::Roster(place) => format!("r.{}.{}", place.terminal, place.branch),
            Self::Bound(id) => format!("b.{id}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let id = |text: &str| u64::from_str_radix(text, 16).ok().map(TerminalId);
        if let Some(bound) = text.strip_prefix("b.") {
            return Some(Self::Bound(id(bound)?));
        }
        let (terminal, branch) = text.strip_prefix("r.")?.split_once('.')?;
        Some(Self::Roster(RosterPlace {
            branch: branch.parse().ok()?,
            seen: None,
            terminal: id(terminal)?,
        }))
    }
}
