//! One message of every kind, as the vectors hold them.

use bytes::Bytes;
use tms_proto::code::*;
use tms_proto::digest::Digest;
use tms_proto::message::*;
use tms_proto::secret::Secret;

const TIME: u64 = 1_790_000_000;

/// The vectors' names and messages.
pub(crate) fn samples() -> Vec<(&'static str, Message)> {
    vec![
        (
            "status-report-minimal",
            StatusReport::new(Trigger::of(TriggerKind::Manual), 7, TIME).into(),
        ),
        ("status-report-full", full_report().into()),
        ("plan-unchanged", unchanged_plan().into()),
        ("plan-full", full_plan().into()),
        (
            "plan-withdrawn-texts",
            Plan {
                withdrawn_texts: vec![61, 1 << 40],
                ..unchanged_plan()
            }
            .into(),
        ),
        (
            "plan-ack",
            PlanAck {
                sequence: 4_711,
                refused: vec![],
            }
            .into(),
        ),
        (
            "plan-ack-refusal",
            PlanAck {
                sequence: 4_711,
                refused: vec![Refusal {
                    action: 90_002,
                    code: ResultCode::ModelMismatch,
                }],
            }
            .into(),
        ),
        (
            "object-get",
            ObjectGet {
                digest: Digest([0x0B; 32]),
                offset: 65_536,
                until: 131_072,
            }
            .into(),
        ),
        ("credit", Credit { until: 196_608 }.into()),
        (
            "object-start",
            ObjectStart {
                digest: Digest([0x0B; 32]),
                offset: 65_536,
                total: 431_104,
                code: None,
            }
            .into(),
        ),
        (
            "object-start-gone",
            ObjectStart {
                digest: Digest([0x0B; 32]),
                offset: 0,
                total: 0,
                code: Some(ResultCode::Gone),
            }
            .into(),
        ),
        ("action-result", result().into()),
        (
            "result-ack",
            ResultAck {
                numbers: vec![17, 18, 300],
                next_contact: Some(next_contact()),
            }
            .into(),
        ),
        (
            "result-ack-triggers",
            ResultAck {
                numbers: vec![19],
                next_contact: Some(NextContact {
                    after_settlements: Some(3),
                    power_on: Some(true),
                    gap: Some(600),
                    ..next_contact()
                }),
            }
            .into(),
        ),
        ("text", text().into()),
        (
            "text-receipt",
            TextReceipt {
                id: 61,
                status: TextStatus::Confirmed,
                time: TIME + 60,
            }
            .into(),
        ),
        (
            "text-receipt-withdrawn",
            TextReceipt {
                id: 61,
                status: TextStatus::Withdrawn,
                time: TIME + 90,
            }
            .into(),
        ),
        (
            "register",
            Register {
                intent: RegisterIntent::Replacement,
                code: Some("7K2M-9QXF-04TD".into()),
                replaces: Some("SN-0000417".into()),
                installer: Some("engineer 12".into()),
                location: Some(location()),
                logical: Some(logical()),
            }
            .into(),
        ),
        (
            "register-answer",
            RegisterAnswer {
                code: ResultCode::Success,
                logical: Some(logical()),
                text: Some("Terminal 10000417 registered".into()),
            }
            .into(),
        ),
        (
            "key-request",
            KeyRequest {
                slot: 3,
                usage: "P0".into(),
                block: Some(Bytes::from_static(&[0xA1; 8])),
            }
            .into(),
        ),
        (
            "key-block",
            KeyBlock {
                slot: 3,
                block: Bytes::from_static(b"D0112P0AE00E0000"),
            }
            .into(),
        ),
        (
            "key-confirm",
            KeyConfirm {
                slot: 3,
                code: ResultCode::Success,
                check_value: Some(Bytes::from_static(&[0x08, 0xD7, 0xB4])),
            }
            .into(),
        ),
        (
            "log-part",
            LogPart {
                name: "main".into(),
                offset: 4_096,
                bytes: Bytes::from_static(b"boot ok\n"),
                last: Some(true),
            }
            .into(),
        ),
        (
            "event",
            Event {
                kind: EventKind::LowBattery,
                time: TIME + 5,
                text: Some("7 percent".into()),
            }
            .into(),
        ),
        (
            "reject",
            Reject {
                code: ResultCode::Deactivated,
                message: Some(0x61),
                text: Some("This terminal is deactivated. Call 95516.".into()),
                retry_after: Some(86_400),
            }
            .into(),
        ),
        (
            "bye",
            Bye {
                code: ResultCode::Success,
                next_contact: None,
            }
            .into(),
        ),
        (
            "bye-later-code",
            Bye {
                code: ResultCode::Other(200),
                next_contact: Some(next_contact()),
            }
            .into(),
        ),
        (
            "certificate-request",
            CertificateRequest {
                key: Digest([0x0C; 32]),
            }
            .into(),
        ),
        (
            "certificate-grant",
            CertificateGrant {
                code: ResultCode::Success,
                certificate: Some(Bytes::from_static(&[0x7F, 0x21, 0x03, 0x5F, 0x37, 0x00])),
            }
            .into(),
        ),
        (
            "proof-request",
            ProofRequest {
                reason: Some("key transport".into()),
            }
            .into(),
        ),
        (
            "proof",
            Proof {
                signature: Bytes::from_static(&[0x5A; 256]),
            }
            .into(),
        ),
    ]
}

fn full_report() -> StatusReport {
    let inventory = Inventory {
        components: vec![
            Component {
                id: "os".into(),
                kind: ComponentKind::OperatingSystem,
                version: "4.2.1".into(),
                counter: Some(42),
                status: ComponentStatus::InOperation,
                digest: Some(Digest([0x01; 32])),
                serial: None,
                expiry: Some(1_893_456_000),
                provider: Some("vendor".into()),
            },
            Component {
                id: "pinpad".into(),
                kind: ComponentKind::SecureElement,
                version: "1.0".into(),
                counter: None,
                status: ComponentStatus::InOperation,
                digest: None,
                serial: Some("PP-99812".into()),
                expiry: None,
                provider: None,
            },
        ],
        parameters: vec![ParameterSet {
            name: "acquirer".into(),
            kind: ComponentKind::AcquirerParameters,
            version: "12".into(),
            digest: Digest([0x02; 32]),
            changed_on_site: Some(true),
            changed_at: Some(TIME - 3_600),
        }],
        keys: vec![KeySlot {
            slot: 1,
            version: 2,
            usage: "K1".into(),
            check_value: Bytes::from_static(&[0x12, 0x34, 0x56]),
            expiry: Some(1_924_992_000),
        }],
        capabilities: Some(Capabilities {
            representations: Some(Bytes::from_static(&[0, 1, 2])),
            display_columns: Some(20),
            display_rows: Some(8),
            printer_columns: Some(32),
            charsets: vec!["UTF-8".into(), "GBK".into()],
            links: vec!["modem".into(), "tcp".into()],
            unattended: Some(false),
            max_object: Some(16_777_216),
        }),
        hardware: Some("rev C".into()),
    };
    StatusReport {
        trigger: Trigger {
            kind: TriggerKind::TransactionNotice,
            source: Some("host".into()),
            task: Some(1_204),
            check_code: Some(Bytes::from_static(&[0xDE, 0xAD, 0xBE, 0xEF])),
            retry: Some(1),
        },
        contact: 130,
        time: TIME,
        zone: Some(480),
        inventory_digest: inventory.digest(),
        inventory: Some(inventory),
        logical: vec![logical()],
        held: vec![HeldObject {
            digest: Digest([0x0B; 32]),
            held: 65_536,
            representation: Some(Representation::Zstd),
        }],
        location: Some(location()),
        state: Some(DeviceState {
            unsettled: Some(14),
            busy: Some(false),
            battery: Some(83),
            charging: Some(true),
            flash: Some(Memory {
                total: 33_554_432,
                free: 9_000_000,
            }),
            ram: Some(Memory {
                total: 8_388_608,
                free: 2_000_000,
            }),
            tampered: Some(false),
            boots: Some(311),
            boot_reason: Some("power on".into()),
        }),
        results: vec![result()],
        errors: vec![ErrorEntry {
            time: TIME - 90,
            code: ResultCode::Timeout,
            vendor_code: Some(7_001),
            text: Some("no carrier".into()),
        }],
        plan: Some(4_710),
        next_contact: Some(TIME + 86_400),
    }
}

fn unchanged_plan() -> Plan {
    Plan {
        sequence: 4_711,
        unchanged: Some(true),
        actions: vec![],
        texts: vec![],
        wanted: None,
        next_contact: NextContact::at(TIME + 86_400, 600),
        ticket: None,
        not_after: None,
        withdrawn_texts: Vec::new(),
    }
}

fn full_plan() -> Plan {
    let install = Action {
        id: 90_001,
        kind: ActionKind::Install,
        manifest: Some(Digest([0x0A; 32])),
        manifest_size: Some(913),
        object: Some(Digest([0x0B; 32])),
        size: Some(431_104),
        representation: Some(Representation::Delta),
        base: Some(Digest([0x09; 32])),
        depends_on: vec![89_990, 89_991],
        download: Some(Window {
            from: TIME,
            until: TIME + 7_200,
        }),
        install: Some(Window {
            from: TIME + 3_600,
            until: TIME + 7_200,
        }),
        preconditions: Some(Precondition::SETTLED | Precondition::IDLE | Precondition::CHARGING),
        min_battery: Some(40),
        restart: Some(true),
        forced: Some(false),
        prompt: Some("New version: please settle".into()),
        on_error: Some(ErrorAction::Stop),
        priority: Some(5),
        retry_delay: Some(900),
        max_attempts: Some(3),
        grant: Some(Bytes::from_static(&[0x7F, 0x4E, 0x00])),
        component: Some("payment".into()),
        target: None,
        max_postponed: Some(2),
    };
    let cancel = Action {
        id: 90_002,
        kind: ActionKind::Cancel,
        manifest: None,
        manifest_size: None,
        object: None,
        size: None,
        representation: None,
        base: None,
        depends_on: vec![],
        download: None,
        install: None,
        preconditions: None,
        min_battery: None,
        restart: None,
        forced: None,
        prompt: None,
        on_error: None,
        priority: None,
        retry_delay: None,
        max_attempts: None,
        grant: None,
        component: None,
        target: Some(89_001),
        max_postponed: None,
    };
    Plan {
        sequence: 4_711,
        unchanged: None,
        actions: vec![install, cancel],
        texts: vec![text()],
        wanted: Some(Wanted::INVENTORY | Wanted::LOG),
        next_contact: next_contact(),
        ticket: Some(Ticket {
            id: [0x1D; 16],
            key: Secret::new([0x4B; 32]),
            lifetime: 2_592_000,
        }),
        not_after: Some(TIME + 604_800),
        withdrawn_texts: vec![],
    }
}

fn result() -> ActionResult {
    ActionResult {
        number: 17,
        action: 90_001,
        attempt: 2,
        stage: Stage::RunningConfirmed,
        code: ResultCode::Success,
        vendor_code: Some(0),
        text: Some("ok".into()),
        time: TIME + 4_000,
        bytes: Some(21_555),
        running: Some(Digest([0x0B; 32])),
    }
}

fn next_contact() -> NextContact {
    NextContact {
        jitter: Some(30),
        redial_delay: Some(120),
        redial_max: Some(5),
        ..NextContact::at(TIME + 86_400, 600)
    }
}

fn text() -> Text {
    Text {
        id: 61,
        title: "结算提醒".into(),
        body: "Please settle before 22:00".into(),
        print: Some(true),
        until: Some(TIME + 172_800),
        confirm: Some(true),
    }
}

fn location() -> Location {
    Location {
        caller: Some("02155501234".into()),
        called: Some("95516".into()),
        address: Some("10.0.0.7".into()),
        iccid: Some("89860000000000000017".into()),
        imei: Some("490154203237518".into()),
        cell: Some("460-00-1806-7F21".into()),
    }
}

fn logical() -> LogicalTerminal {
    LogicalTerminal {
        merchant: "898310053110017".into(),
        terminal: "10000417".into(),
        application: Some("payment".into()),
    }
}
