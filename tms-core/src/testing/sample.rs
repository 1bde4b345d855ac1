//! Records to test with: every field filled, and told apart by few numbers.

use crate::rule::release::ReleaseState;
use crate::rule::relocation::{Observed, ObservedCaller};
use crate::rule::slot::{Booking, Load};
use crate::rule::task::{Standing, State};
use crate::store::{
    ActionId, Assignment, BookedSlot, BranchPath, CheckInSummary, Credential, CredentialId, Decoding, Document, Event,
    EventKind, Holder, InventoryRecord, KeyId, Kind, NeededRelease, Order, Package, PackageRef, PlanStanding,
    RegistrationSummary, RepresentationRef, RosterEntry, SealedTicket, Terminal, TerminalId, TerminalState,
    WaitingText,
};
use crate::transport::Trust;
use bytes::Bytes;
use tms_proto::code::{ComponentKind, ComponentStatus, RegisterIntent, Representation, ResultCode, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::message::{Capabilities, Component, Inventory, KeySlot, LogicalTerminal, NextContact, ParameterSet};

/// An hour of the year 2026, in seconds since 1970 UTC.
pub const NOW: u64 = 1_790_000_000;

/// A holder with this serial number.
#[must_use]
pub fn holder(serial: &str) -> Holder {
    Holder {
        vendor: "acme".to_owned(),
        model: "t-1000".to_owned(),
        serial: serial.to_owned(),
    }
}

/// A remembered credential, told apart by `seed`.
#[must_use]
pub fn credential(seed: u64) -> Credential {
    let digest = Digest::of(&seed.to_be_bytes());
    Credential {
        id: CredentialId::of(&digest.0),
        known: format!("{digest}{digest}{digest}"),
    }
}

/// A terminal as it stands after some check-ins: active, with a credential of its own and two tickets.
#[must_use]
pub fn terminal(id: u64) -> Terminal {
    let key = KeyId(Digest::of(&id.to_be_bytes()));
    let ticket = |number: u8| SealedTicket {
        id: [number; 8],
        sealed: format!("{}{:024x}", key, u64::from(number)),
        expires: NOW + 86_400 * 7,
    };
    Terminal {
        id: TerminalId(id),
        holder: holder(&format!("{id:016x}")),
        state: TerminalState::Active,
        key: Some(key),
        renewed_certificate: None,
        main_key_epoch: Some(3),
        tickets: vec![ticket(1), ticket(2)],
        contact: 17,
        plan: PlanStanding {
            sequence: 4,
            digest: Some(Digest::of(b"plan")),
        },
        last_action: 9,
        inventory: Some(Digest::of(b"inventory")),
        decoding: Decoding {
            forms: vec![Representation::Zstd, Representation::Delta],
            bases: vec![Digest::of(b"running")],
        },
        last_check_in: Some(NOW),
        next_contact: Some(NextContact {
            jitter: Some(60),
            redial_delay: Some(30),
            redial_max: Some(5),
            ..NextContact::at(NOW + 86_400, 3_600)
        }),
        slot: Some(BookedSlot {
            access: "main".to_owned(),
            bookings: vec![Booking {
                quarter: (NOW + 86_400) / 900,
                load: Load {
                    seconds: 18,
                    calls: 1,
                    placed: [1, 0, 0],
                },
            }],
        }),
        logical: vec![LogicalTerminal {
            merchant: "123456789012345".to_owned(),
            terminal: "00000042".to_owned(),
            application: Some("credit".to_owned()),
        }],
        credential: Some(credential(id)),
        revoked: false,
        policy: None,
        resend_parameters: false,
        texts: vec![WaitingText {
            id: id.max(1),
            title: "Holiday".to_owned(),
            body: "We are closed on Friday.".to_owned(),
            print: true,
            confirm: true,
            from: NOW,
            until: NOW + 86_400,
        }],
        withdrawn_texts: vec![6, 7],
    }
}

/// A terminal's line in the roster.
#[must_use]
pub fn roster(id: u64) -> RosterEntry {
    RosterEntry {
        terminal: TerminalId(id),
        branch: "/east/harbour".parse().unwrap_or_else(|_| BranchPath::head_office()),
        vendor: "acme".to_owned(),
        model: "t-1000".to_owned(),
        serial: format!("{id:016x}"),
        merchant: Some("123456789012345".to_owned()),
        version: Some("2.4".to_owned()),
        state: TerminalState::Active,
        seen: Some(20_000),
    }
}

/// A document, as an operator's record is one.
#[must_use]
pub fn document(id: u64) -> Document {
    Document {
        kind: Kind::named("merchant"),
        id: id.to_string(),
        marks: [("branch".to_owned(), format!("/east/{}/", id % 3))].into(),
        body: format!("{{\"name\":\"終端 {id}\"}}"),
    }
}

/// The name of package `number`.
#[must_use]
pub fn package_ref(number: u64) -> PackageRef {
    PackageRef {
        manifest: Digest::of(&number.to_be_bytes()),
        manifest_size: 700,
        component: "payment".to_owned(),
        version: format!("2.{number}"),
        content: Digest::of(&number.to_le_bytes()),
        size: 3_000_000,
        block_map: Some(Digest::of(b"block map")),
        representations: vec![RepresentationRef {
            form: Representation::Delta,
            object: Digest::of(b"delta"),
            size: 90_000,
            base: Some(Digest::of(b"running")),
        }],
    }
}

/// Package `number`.
#[must_use]
pub fn package(number: u64) -> Package {
    Package {
        package: package_ref(number),
        kind: ComponentKind::Application,
        counter: 12,
        vendor: "acme".to_owned(),
        models: vec!["t-1000".to_owned(), "t-2000".to_owned()],
        published: NOW,
        actor: "operator".to_owned(),
        order: number,
        min_from: Some(1),
        dependencies: vec![NeededRelease {
            component: "kernel".to_owned(),
            order: 4,
        }],
        state: ReleaseState::Approved,
        approver: Some("second".to_owned()),
    }
}

/// An open assignment of package 1.
#[must_use]
pub fn assignment(terminal: u64, action: u64) -> Assignment {
    let order = Order::Install {
        package: package_ref(1),
    };
    let new = Assignment::new(TerminalId(terminal), ActionId(action), order, NOW, "operator");
    Assignment {
        standing: Standing {
            state: State::Downloading,
            reported: 5,
            ..Standing::NEW
        },
        stage: Stage::Downloading,
        attempt: 2,
        text: Some("half way".to_owned()),
        whole: true,
        updated: NOW + 60,
        ..new
    }
}

/// The inventory of a terminal.
#[must_use]
pub fn inventory(terminal: u64) -> InventoryRecord {
    let digest = Digest::of(&terminal.to_be_bytes());
    InventoryRecord {
        terminal: TerminalId(terminal),
        inventory: Inventory {
            components: vec![Component {
                id: "payment".to_owned(),
                kind: ComponentKind::Application,
                version: "1.9".to_owned(),
                counter: Some(11),
                status: ComponentStatus::InOperation,
                digest: Some(digest),
                serial: None,
                expiry: Some(NOW + 86_400 * 365),
                provider: Some("acme".to_owned()),
            }],
            parameters: vec![ParameterSet {
                name: "emv".to_owned(),
                kind: ComponentKind::TerminalParameters,
                version: "7".to_owned(),
                digest,
                changed_on_site: Some(true),
                changed_at: Some(NOW),
            }],
            keys: vec![KeySlot {
                slot: 1,
                version: 2,
                usage: "K0".to_owned(),
                check_value: Bytes::from_static(&[0x08, 0xD7, 0xB4]),
                expiry: None,
            }],
            capabilities: Some(Capabilities {
                printer_columns: Some(32),
                charsets: vec!["UTF-8".to_owned()],
                ..Capabilities::default()
            }),
            hardware: Some("rev C".to_owned()),
        },
        reported: NOW,
    }
}

/// The event of a check-in.
#[must_use]
pub fn checked_in(terminal: u64, time: u64) -> Event {
    Event {
        time,
        terminal: Some(TerminalId(terminal)),
        actor: format!("acme/t-1000/{terminal:016x}"),
        kind: EventKind::CheckedIn(CheckInSummary {
            mode: 3,
            trigger: TriggerKind::Schedule,
            skew: -4,
            peer: "192.0.2.17:40123".to_owned(),
            claimed: Some("02155501234".to_owned()),
            elapsed: Some(870),
            inventory: false,
            contact: 17,
            observed: Observed {
                address: Some([192, 0, 2, 17].into()),
                ..Observed::default()
            },
            location: None,
        }),
    }
}

/// An event that says `what`.
#[must_use]
pub fn said(terminal: u64, what: &str) -> Event {
    Event {
        time: NOW,
        terminal: Some(TerminalId(terminal)),
        actor: "operator".to_owned(),
        kind: EventKind::Terminal {
            what: what.to_owned(),
            text: Some("said".to_owned()),
        },
    }
}

/// One event of every kind.
#[must_use]
pub fn events(terminal: u64) -> Vec<Event> {
    let manifest = Digest::of(b"manifest");
    let action = ActionId(3);
    let kinds = [
        EventKind::Enrolled,
        EventKind::StateChanged {
            state: TerminalState::Blacklisted,
        },
        EventKind::CertificateRenewed,
        EventKind::KeysChanged,
        EventKind::Retired,
        EventKind::Published { manifest },
        EventKind::Represented { manifest },
        EventKind::ReleaseChanged {
            manifest,
            state: ReleaseState::Withdrawn,
        },
        EventKind::Queued { action, manifest },
        EventKind::Restored {
            action,
            what: "pay".to_owned(),
        },
        EventKind::Cancelled { action },
        EventKind::InventoryReported,
        EventKind::Subscribed {
            consumer: "billing".to_owned(),
        },
        EventKind::Unsubscribed {
            consumer: "billing".to_owned(),
        },
        EventKind::Result {
            action,
            stage: Stage::Installed,
            code: ResultCode::NoSpace,
            attempt: 2,
        },
        EventKind::CloneSuspected {
            evidence: "contact 7 came twice".to_owned(),
        },
        EventKind::Terminal {
            what: "tamper".to_owned(),
            text: None,
        },
        EventKind::Registered(RegistrationSummary {
            intent: RegisterIntent::FirstInstall,
            merchant: "123456789012345".to_owned(),
            number: "00000042".to_owned(),
            elsewhere: false,
            observed: Observed {
                caller: Some(ObservedCaller::Known {
                    number: "02155501234".to_owned(),
                    trust: Trust::Network,
                }),
                line: Some("modem-3".to_owned()),
                ..Observed::default()
            },
            location: None,
        }),
        EventKind::RegistrationRefused {
            intent: RegisterIntent::Replacement,
            code: ResultCode::NotPermitted,
        },
        EventKind::Replaced { by: TerminalId(7) },
        EventKind::CaseOpened {
            case: "1790000000-0102030405060708".to_owned(),
            about: "relocation".to_owned(),
            score: 100,
        },
        EventKind::CaseClosed {
            case: "1790000000-0102030405060708".to_owned(),
            disposition: "false_alarm".to_owned(),
        },
    ];
    let mut events = vec![checked_in(terminal, NOW)];
    events.extend(kinds.map(|kind| Event {
        time: NOW,
        terminal: None,
        actor: "operator".to_owned(),
        kind,
    }));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_is_stored() {
        for event in events(1) {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["kind"], event.kind.name());
            assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
        }
        for state in [
            TerminalState::Enrolled,
            TerminalState::Active,
            TerminalState::Deactivated,
            TerminalState::Blacklisted,
        ] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}
