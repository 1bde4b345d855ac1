//! Texts for terminals, from the first word to the receipt; and lists of assets beside the estate.

use crate::install::{branches, path, terminal};
use crate::world::{DAY, NOW, World, holder, operator};
use std::collections::BTreeMap;
use tms_core::estate::report::Row;
use tms_core::estate::{Actor, Audience, Enrolment, EstateError, TextRecord};
use tms_core::rule::asset::{Columns, List, Totals};
use tms_core::rule::name::Aliases;
use tms_core::rule::text::{Message, TextError};
use tms_core::store::{Caller, Change, Expect, InventoryRecord, MAX_WAITING_TEXTS, TerminalId};
use tms_proto::code::TriggerKind;
use tms_proto::message::{Capabilities, Inventory, PlanAck};

fn words(title: &str, body: &str) -> Message {
    Message {
        title: title.to_owned(),
        body: body.to_owned(),
        print: false,
        confirm: false,
        from: NOW,
        until: NOW + DAY,
    }
}

async fn approved(world: &World, message: Message) -> TextRecord {
    let text = world.estate.write_text(&operator(), &path("/"), message).await.unwrap();
    world
        .estate
        .approve_text(&Actor::trusted("wang"), text.id)
        .await
        .unwrap()
}

async fn lay_ready(world: &World) {
    while world.estate.advance_texts(3).await.unwrap() > 0 {}
}

async fn counts(world: &World, text: &TextRecord) -> BTreeMap<String, u64> {
    world.estate.text(&operator(), text.id).await.unwrap().1
}

fn of<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test]
async fn a_text_is_shown_at_a_terminal_and_told_of() {
    let world = World::new().await;
    branches(&world).await;
    let estate = &world.estate;
    let (id, mut terminal) = terminal(&world, "0001").await;
    let asks = estate
        .write_text(&operator(), &path("/"), words("Notice", "Please enter your PIN"))
        .await;
    assert!(matches!(asks, Err(EstateError::Text(TextError::Secret(_)))), "{asks:?}");

    let text = estate
        .write_text(&operator(), &path("/"), words("Holiday", "We are closed on Friday."))
        .await
        .unwrap();
    let everywhere = || Audience::Branch { under: path("/") };
    let draft = estate
        .publish_text(&operator(), text.id, everywhere())
        .await
        .unwrap_err();
    assert!(matches!(draft, EstateError::Over("text", _)), "{draft}");
    let alone = estate.approve_text(&operator(), text.id).await.unwrap_err();
    assert!(matches!(alone, EstateError::SecondOperator), "{alone}");
    estate.approve_text(&Actor::trusted("wang"), text.id).await.unwrap();
    estate.publish_text(&operator(), text.id, everywhere()).await.unwrap();
    lay_ready(&world).await;
    assert_eq!(counts(&world, &text).await, of([("waiting", 1)]));

    let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Manual).await;
    assert!(report.recorded, "{report}");
    assert_eq!(world.known(id).await.terminal.record.texts, []);
    terminal.work().await;
    let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Manual).await;
    assert!(report.recorded, "{report}");
    let shown = counts(&world, &text).await;
    assert_eq!(shown.values().sum::<u64>(), 1);
    assert!(
        shown.contains_key("displayed") || shown.contains_key("confirmed"),
        "{shown:?}"
    );
    // to the same terminal it goes once
    estate
        .publish_text(&operator(), text.id, Audience::Terminal { terminal: id })
        .await
        .unwrap();
    lay_ready(&world).await;
    assert_eq!(world.known(id).await.terminal.record.texts, []);
    assert_eq!(counts(&world, &text).await, shown);
}

#[tokio::test]
async fn a_withdrawn_text_is_taken_back_where_it_was_not_shown() {
    let world = World::new().await;
    let (waits, mut later) = terminal(&world, "0001").await;
    let (has, mut holder) = terminal(&world, "0002").await;
    let (shows, mut shown) = terminal(&world, "0003").await;
    let text = approved(&world, words("Closed", "We are closed on Friday.")).await;
    let everywhere = Audience::Branch { under: path("/") };
    world
        .estate
        .publish_text(&operator(), text.id, everywhere.clone())
        .await
        .unwrap();
    lay_ready(&world).await;
    for terminal in [&mut holder, &mut shown] {
        let report = terminal.agent.call(world.line("modem 1"), TriggerKind::PowerOn).await;
        assert!(report.recorded, "{report}");
    }
    shown.work().await;
    // What was published again is not laid ready behind its end.
    let again = world.estate.publish_text(&operator(), text.id, everywhere).await;
    assert!(again.is_ok());
    world.estate.withdraw_text(&operator(), text.id).await.unwrap();
    lay_ready(&world).await;
    assert_eq!(counts(&world, &text).await, of([("waiting", 2), ("withdrawn", 1)]));
    assert_eq!(world.known(waits).await.terminal.record.texts, []);
    assert_eq!(world.known(has).await.terminal.record.withdrawn_texts, [text.id]);
    assert_eq!(world.known(shows).await.terminal.record.withdrawn_texts, [text.id]);

    // Power fails before it shows the text, and the receipt comes with the call that takes it back.
    let mut holder = holder.kit.after_power_loss(7).start().await;
    for terminal in [&mut later, &mut holder, &mut shown] {
        let report = terminal.agent.call(world.line("modem 1"), TriggerKind::Schedule).await;
        assert!(report.recorded, "{report}");
    }
    assert_eq!(counts(&world, &text).await, of([("displayed", 1), ("withdrawn", 2)]));
    for terminal in [&mut later, &mut holder] {
        terminal.work().await;
        assert_eq!(terminal.device.shown(), []);
    }
    for id in [waits, has, shows] {
        assert_eq!(world.known(id).await.terminal.record.withdrawn_texts, [0; 0]);
    }
    let report = holder.agent.call(world.line("modem 1"), TriggerKind::Schedule).await;
    assert!(report.recorded, "{report}");
    assert_eq!(counts(&world, &text).await, of([("displayed", 1), ("withdrawn", 2)]));
}

/// It is withdrawn in the middle of the call that brings it: the next one takes it back.
#[tokio::test]
async fn a_text_that_is_withdrawn_in_a_call_is_taken_back_with_the_next() {
    let world = World::new().await;
    let id = world.enrol("0001").await;
    let mut terminal = crate::world::Terminal::new(id);
    let text = approved(&world, words("Closed", "We are closed on Friday.")).await;
    world
        .estate
        .publish_text(&operator(), text.id, Audience::Terminal { terminal: id })
        .await
        .unwrap();
    lay_ready(&world).await;
    let (line, report) = (world.line("modem 1"), terminal.report());
    let mut call = terminal.begin(line, &report);
    let plan = call.plan().await.unwrap();
    assert_eq!(plan.texts.len(), 1);
    world.estate.withdraw_text(&operator(), text.id).await.unwrap();
    lay_ready(&world).await;
    let sequence = plan.sequence;
    call.send(PlanAck {
        sequence,
        refused: Vec::new(),
    });
    call.bye().await;
    let known = world.known(id).await.terminal.record;
    assert_eq!((known.texts.len(), known.withdrawn_texts), (0, vec![text.id]));
}

async fn enrol(world: &World, serial: &str, at: &str) -> TerminalId {
    let enrolment = Enrolment {
        branch: path(at),
        ..Enrolment::of(holder(serial))
    };
    world.estate.enrol(&operator(), enrolment).await.unwrap()
}

#[tokio::test]
async fn a_text_goes_to_whom_it_is_for_and_to_no_more_than_have_room() {
    let world = World::new().await;
    branches(&world).await;
    let mut east = Vec::new();
    for serial in ["1", "2", "3", "4", "5", "6", "7"] {
        east.push(enrol(&world, serial, "/east/harbour").await);
    }
    let west = enrol(&world, "8", "/west").await;
    // one that cannot show Chinese, one that can
    for (id, charset) in [(east[0], "us-ascii"), (east[1], "GBK")] {
        let capabilities = Capabilities {
            charsets: vec![charset.to_owned()],
            ..Capabilities::default()
        };
        let record = InventoryRecord {
            terminal: id,
            inventory: Inventory {
                capabilities: Some(capabilities),
                ..Inventory::default()
            },
            reported: NOW,
        };
        world
            .store
            .commit(vec![Change::Put(Expect::Any, record.into())])
            .await
            .unwrap();
    }
    let model = || Audience::Model {
        under: path("/east"),
        vendor: "PAX".to_owned(),
        model: "P80".to_owned(),
    };
    let chinese = approved(&world, words("通知", "周五休息")).await;
    world
        .estate
        .publish_text(&operator(), chinese.id, model())
        .await
        .unwrap();
    lay_ready(&world).await;
    assert_eq!(counts(&world, &chinese).await, of([("unsuitable", 1), ("waiting", 6)]));
    assert_eq!(world.known(west).await.terminal.record.texts, []);

    for _ in 1..MAX_WAITING_TEXTS {
        let more = approved(&world, words("More", "Some more")).await;
        world.estate.publish_text(&operator(), more.id, model()).await.unwrap();
    }
    // what is published later is laid ready later
    lay_ready(&world).await;
    let last = approved(&world, words("Last", "Too many")).await;
    world.estate.publish_text(&operator(), last.id, model()).await.unwrap();
    lay_ready(&world).await;
    assert_eq!(counts(&world, &last).await, of([("full", 6), ("waiting", 1)]));
    // those whose time is over make room, and are not handed out
    world.clock.advance(DAY);
    let later = Message {
        until: NOW + 9 * DAY,
        ..words("Later", "Room again")
    };
    let later = approved(&world, later).await;
    world
        .estate
        .publish_text(&operator(), later.id, Audience::Terminal { terminal: east[2] })
        .await
        .unwrap();
    lay_ready(&world).await;
    let waiting = world.known(east[2]).await.terminal.record.texts;
    assert_eq!(waiting.iter().map(|text| text.id).collect::<Vec<_>>(), [later.id]);
    let over = world
        .estate
        .publish_text(&operator(), last.id, model())
        .await
        .unwrap_err();
    assert!(matches!(over, EstateError::Over("text", _)), "{over}");
    world.estate.withdraw_text(&operator(), later.id).await.unwrap();
    let withdrawn = world
        .estate
        .publish_text(&operator(), later.id, model())
        .await
        .unwrap_err();
    assert!(matches!(withdrawn, EstateError::Over("text", _)), "{withdrawn}");
}

#[tokio::test]
async fn a_list_of_assets_is_read_beside_the_estate() {
    let world = World::new().await;
    branches(&world).await;
    for (serial, at) in [
        ("0001", "/east/harbour"),
        ("0002", "/east"),
        ("0003", "/east"),
        ("0004", "/west"),
    ] {
        enrol(&world, serial, at).await;
    }
    let csv = "厂商,型号,序列号,机构\n\
        百富,P-80,S/N 0001,east/harbour\n\
        PAX,P80,0002,east/harbour\n\
        百富,P80,00-01,east/harbour\n\
        惠尔丰,Vx510,777,east\n\
        PAX,P80,*,east\n";
    let (columns, aliases) = (Columns::default(), Aliases::known());
    let list = || List::new(csv.as_bytes(), &columns, &aliases).unwrap();
    let done = world
        .estate
        .reconcile_assets(&operator(), &path("/east"), "yard list", list())
        .await
        .unwrap();
    let totals = Totals {
        lines: 5,
        matched: 1,
        moved: 1,
        unknown: 1,
        missing: 1,
        duplicate: 1,
        malformed: 1,
    };
    assert_eq!((done.totals, done.kept), (totals, 5));
    let report = world.estate.asset_report(&operator(), &done.id).await.unwrap();
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            (
                row.outcome.as_str(),
                row.line,
                row.serial.as_deref(),
                row.branch.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("moved", Some(3), Some("0002"), Some("/east/harbour")),
            ("duplicate", Some(4), Some("0001"), None),
            ("unknown", Some(5), Some("777"), None),
            ("malformed", Some(6), None, None),
            ("missing", None, Some("0003"), None),
        ]
    );
    assert_eq!(
        (report.terminals, report.cut, report.rows[0].cells().len()),
        (3, false, 10)
    );
    assert!(report.csv().starts_with("outcome,line,vendor,"));
    let listed = world.estate.stocktakings(&operator(), &path("/east"), 9).await.unwrap();
    assert_eq!(listed, [done]);
    assert_eq!(
        world.estate.stocktakings(&operator(), &path("/west"), 9).await.unwrap(),
        []
    );
    assert!(
        world
            .store
            .check_in(&Caller::Holder(holder("0004")))
            .await
            .unwrap()
            .is_some()
    );
}
