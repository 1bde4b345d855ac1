//! What the terminal reports (§7.2): little, where the server knows the rest.

use super::device::DeviceError;
use super::{Agent, AgentError};
use bytes::Bytes;
use tms_proto::code::{Representation, Stage};
use tms_proto::digest::Digest;
use tms_proto::message::{
    ActionResult, DeviceState, HeldObject, Inventory, Location, LogicalTerminal, StatusReport, Trigger,
};
use tms_proto::tlv::{Structure, Tag, Value, Writer};

/// How many bytes of results go with a report; more follow in messages of their own.
const MAX_RESULTS: usize = 1024;

/// The largest report with an error log in it, in bytes: a larger one might not fit into its handshake message.
const MAX_WITH_ERRORS: usize = 2048;

/// Everything that can be reported of the device.
pub(super) struct Status {
    pub(super) inventory: Inventory,
    pub(super) inventory_digest: Digest,
    state: DeviceState,
    logical: Vec<LogicalTerminal>,
    location: Option<Location>,
    /// Digest of state, logical terminals and location.
    pub(super) state_digest: Digest,
}

impl Status {
    pub(super) async fn read(agent: &Agent) -> Result<Self, DeviceError> {
        let components = &agent.device.components;
        let mut inventory = components.inventory().await?;
        let capabilities = inventory.capabilities.get_or_insert_default();
        capabilities.representations = Some(decoded(capabilities.representations.as_deref()));
        let (state, logical) = (components.state().await?, components.logical().await?);
        let location = components.location().await?;
        let mut encoded = Writer::new();
        state.write_fields(&mut encoded);
        encoded.field(Tag(0xA6), &logical);
        encoded.field(Tag(0xA8), &location);
        let state_digest = Digest::of(&encoded.into_vec());
        Ok(Self {
            inventory_digest: inventory.digest(),
            inventory,
            state,
            logical,
            location,
            state_digest,
        })
    }

    /// The whole of it, as the server asked for it.
    pub(super) fn whole(&self, agent: &Agent, trigger: &Trigger) -> StatusReport {
        StatusReport {
            inventory: Some(self.inventory.clone()),
            logical: self.logical.clone(),
            location: self.location.clone(),
            state: Some(self.state.clone()).filter(|state| *state != DeviceState::default()),
            held: agent.objects_held(),
            ..self.bare(agent, trigger)
        }
    }

    /// What the server does not know.
    pub(super) fn news(&self, agent: &Agent, trigger: &Trigger) -> StatusReport {
        let journal = &agent.notebook.journal;
        let knows_inventory = journal.told_inventory == Some(self.inventory_digest);
        let knows_state = journal.told_state == Some(self.state_digest);
        let mut report = StatusReport {
            inventory: (!knows_inventory).then(|| self.inventory.clone()),
            held: agent.objects_held(),
            results: first_results(&journal.results),
            plan: Some(journal.plan).filter(|plan| *plan > 0),
            next_contact: journal.schedule.told(),
            ..self.bare(agent, trigger)
        };
        if !knows_state {
            report.logical.clone_from(&self.logical);
            report.location.clone_from(&self.location);
            report.state = Some(self.state.clone()).filter(|state| *state != DeviceState::default());
        }
        report.errors.clone_from(&journal.errors);
        if !report.errors.is_empty() && report.to_vec().len() > MAX_WITH_ERRORS {
            // They come with a later report.
            report.errors.clear();
        }
        report
    }

    fn bare(&self, agent: &Agent, trigger: &Trigger) -> StatusReport {
        let now = agent.now();
        StatusReport {
            zone: agent.options.zone,
            inventory_digest: self.inventory_digest,
            ..StatusReport::new(trigger.clone(), agent.notebook.journal.contact, now.clock)
        }
    }
}

impl Agent {
    /// Content that is on its way.
    fn objects_held(&self) -> Vec<HeldObject> {
        let actions = self.notebook.journal.actions.iter();
        let coming = actions.filter(|held| held.stage == Stage::Downloading && held.sound > 0);
        let held = coming.filter_map(|held| {
            let coded = held.coded();
            Some(HeldObject {
                digest: coded.map_or(held.content, |coded| Some(coded.object))?,
                held: held.sound,
                representation: Some(coded.map_or(Representation::Whole, |coded| coded.form)),
            })
        });
        held.collect()
    }

    /// Stores the number of the call to come, so that it is never used twice.
    pub(super) async fn count_contact(&mut self) -> Result<u32, AgentError> {
        let contact = &mut self.notebook.journal.contact;
        *contact = contact.saturating_add(1);
        let contact = *contact;
        self.notebook.save().await?;
        Ok(contact)
    }
}

/// The representations that are decoded here, of those that the device allows. Compressed content needs nothing of the device;
/// for a delta it must be able to read what runs, which it has to say.
fn decoded(allowed: Option<&[u8]>) -> Bytes {
    let known = [Representation::Whole, Representation::Zstd, Representation::Delta];
    let allowed = allowed.map_or_else(|| vec![u8::from(Representation::Zstd)], <[u8]>::to_vec);
    let codes = known.into_iter().map(u8::from);
    codes.filter(|code| *code == 0 || allowed.contains(code)).collect()
}

fn first_results(results: &[ActionResult]) -> Vec<ActionResult> {
    let mut size = 0;
    let fits = |result: &&ActionResult| {
        let mut out = Writer::new();
        result.write(Tag(0xAA), &mut out);
        size += out.into_vec().len();
        size <= MAX_RESULTS
    };
    results.iter().take_while(fits).cloned().collect()
}
