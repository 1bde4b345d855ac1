//! The agent and the real server.

use super::terminal::{Kit, Proves};
use crate::world::World;
use tms_core::agent::{CallEnd, Contact};
use tms_core::custody::MainKey;
use tms_proto::code::{ResultCode, Stage, TriggerKind};
use tms_proto::handshake::Mode;
use tms_proto::message::Trigger;
use tms_proto::secret::Secret;

async fn setting(proves: Proves) -> (World, Kit) {
    let world = World::new().await;
    let id = world.enrol("0001").await;
    let mut kit = Kit::with(proves).await;
    // The terminal is told its id when it is enrolled.
    kit.identity.terminal = id;
    if let Some(main_key) = &mut kit.identity.main_key {
        let keys = tms_core::custody::MemoryKeys::new();
        keys.insert(id, 1, MainKey::Aes128(Secret::new([0x11; 16])));
        main_key.keys = std::sync::Arc::new(keys);
    }
    (world, kit)
}

#[tokio::test]
async fn a_terminal_is_updated_in_each_mode() {
    for (proves, mode) in [
        (Proves::MainKey, Mode::MainKey),
        (Proves::Rsa, Mode::Rsa),
        (Proves::Both, Mode::Both),
    ] {
        let (world, kit) = setting(proves).await;
        let content: Vec<u8> = (0..300_000u32).map(|byte| (byte % 251) as u8).collect();
        let manifest = world.publish(&content, 2).await;
        let action = world.queue(kit.identity.terminal, &manifest).await;
        let mut terminal = kit.start().await;
        assert_eq!(terminal.agent.next_contact().trigger.kind, TriggerKind::PowerOn);

        let report = terminal.agent.call(world.line("modem 1"), TriggerKind::PowerOn).await;
        assert_eq!(
            (report.end.clone(), report.recorded, report.mode),
            (CallEnd::Done, true, Some(mode)),
            "{report}"
        );
        assert_eq!(report.downloads.len(), 1, "{report}");
        assert_eq!((report.downloads[0].from, report.downloads[0].until), (0, 300_000));
        assert_eq!(
            world.assignment(kit.identity.terminal, action).await.stage,
            Stage::Downloaded
        );

        let work = terminal.work().await;
        let stages: Vec<Stage> = work.results.iter().map(|result| result.stage).collect();
        assert_eq!(
            stages,
            [
                Stage::Verified,
                Stage::Installed,
                Stage::Activated,
                Stage::RunningConfirmed
            ]
        );
        assert_eq!(terminal.version().await, "2.0");

        // What was done is told at once.
        let contact = terminal.agent.next_contact();
        assert_eq!(
            contact,
            Contact {
                wait: std::time::Duration::ZERO,
                trigger: Trigger::of(TriggerKind::Event)
            }
        );
        let report = terminal.agent.call(world.line("modem 1"), contact.trigger).await;
        assert_eq!(
            (report.end.clone(), report.mode),
            (CallEnd::Done, Some(Mode::Ticket)),
            "{report}"
        );
        assert_eq!(terminal.agent.unacknowledged(), 0, "{report}");
        let assignment = world.assignment(kit.identity.terminal, action).await;
        assert_eq!(
            (assignment.stage, assignment.code, assignment.closed),
            (Stage::RunningConfirmed, ResultCode::Success, true)
        );

        // And then there is nothing to do, and little to say.
        let contact = terminal.agent.next_contact();
        assert_eq!(contact.trigger.kind, TriggerKind::Schedule);
        assert!(contact.wait.as_secs() > 80_000);
        let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Manual).await;
        assert!(report.recorded, "{report}");
        // The plan without the action that is over is a new one; the next call finds it unchanged.
        let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Manual).await;
        assert!(report.recorded && report.unchanged, "{report}");
        assert!(report.sent + report.received <= 360, "{report}");
    }
}
