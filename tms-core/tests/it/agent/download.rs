//! Downloads: resumed, changed, gone, too large, wrong, without room.

use super::office::{Office, Quirk, call, call_cut};
use super::terminal::{Kit, Terminal};
use tms_core::agent::{Call, CallEnd, Progress};
use tms_core::transport::LinkProfile;
use tms_proto::code::{ResultCode, Stage, TriggerKind};
use tms_proto::digest::Digest;
use tms_proto::message::Trigger;

pub(super) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 7 + index / 251) as u8).collect()
}

async fn setting(size: usize) -> (Terminal, Office, Vec<u8>) {
    let (mut office, content) = (Office::new().await, content(size));
    office.assign(7, &content, |_| {}).await;
    (Kit::new().await.start().await, office, content)
}

#[tokio::test]
async fn a_download_goes_on_at_the_byte_where_it_was_cut() {
    let (mut terminal, mut office, content) = setting(1_000_000).await;
    let mut total = 0;
    for cut in [150_000, 333_333, 90_000, u64::MAX] {
        let report = call_cut(&mut terminal, &mut office, TriggerKind::Retry, cut).await;
        let gets = &office.last().gets;
        let get = gets.iter().find(|get| get.digest == Digest::of(&content)).unwrap();
        assert_eq!(get.offset, total, "{report}");
        assert_eq!(report.downloads[0].from, total);
        // What came counts to the byte, though a block of 4 KiB is verified only when it is whole.
        total = report.downloads[0].until;
    }
    assert_eq!(office.last().results.last().unwrap().stage, Stage::Downloaded);
    let sent: u64 = office
        .heard
        .iter()
        .flat_map(|heard| &heard.gets)
        .map(|get| get.offset)
        .max()
        .unwrap();
    assert!(sent > 500_000);
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_small_object_without_a_block_map_goes_on_too() {
    let (mut terminal, mut office, content) = setting(60_000).await;
    let profile = LinkProfile {
        credit: 3_000,
        max_record: 1_024,
        ..LinkProfile::TCP
    };
    let slow = || Call {
        profile,
        ..Call::new(Trigger::of(TriggerKind::Retry))
    };
    office.config.max_record = 1_024;
    call_cut(&mut terminal, &mut office, slow(), 30_000).await;
    let report = call(&mut terminal, &mut office, slow()).await;
    let from = report.downloads[0].from;
    assert!((20_000..30_000).contains(&from), "{report}");
    assert_eq!(office.last().gets.last().unwrap().offset, from);
    assert_eq!(report.downloads[0].until, content.len() as u64);
    // Three percent of overhead on a link of small records, and the credit.
    let overhead = report.received - (content.len() as u64 - from);
    assert!(overhead * 1000 / (content.len() as u64 - from) < 40, "{report}");
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn credit_is_granted_before_it_runs_out_and_never_beyond_the_window() {
    let (mut terminal, mut office, _) = setting(200_000).await;
    let profile = LinkProfile {
        credit: 10_000,
        ..LinkProfile::TCP
    };
    let mut seen = Vec::new();
    let mut progress =
        |progress: Progress<'_>| seen.push((progress.held, progress.size, progress.component.to_owned()));
    let watched = Call {
        profile,
        progress: Some(&mut progress),
        ..Call::new(Trigger::of(TriggerKind::Manual))
    };
    let report = call(&mut terminal, &mut office, watched).await;
    assert_eq!(report.end, CallEnd::Done, "{report}");
    for get in &office.last().gets {
        assert_eq!(get.until - get.offset, 10_000);
    }
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(seen.last(), Some(&(200_000, 200_000, "bank".to_owned())));
}

#[tokio::test]
async fn what_is_held_of_an_object_that_changed_or_is_gone_is_dropped() {
    for code in [ResultCode::Changed, ResultCode::Gone] {
        let (mut terminal, mut office, content) = setting(300_000).await;
        call_cut(&mut terminal, &mut office, TriggerKind::Manual, 200_000).await;
        let free = tms_core::agent::flash::Flash::free(&terminal.kit.flash).await.unwrap();
        office.quirk = Quirk::NoObject(code);
        let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
        assert_eq!(report.end, CallEnd::Done, "{report}");
        let freed = tms_core::agent::flash::Flash::free(&terminal.kit.flash).await.unwrap();
        assert!(freed > free + 100_000);
        let last = office.last().results.last().unwrap().clone();
        assert_eq!(last.code, code);
        if code == ResultCode::Changed {
            // It can never come right: the action is over.
            assert_eq!(last.stage, Stage::Rejected);
            assert!(terminal.agent.actions().is_empty());
        } else {
            assert_eq!(last.stage, Stage::Waiting);
            // It is there again, and comes from its first byte.
            office.quirk = Quirk::None;
            terminal.kit.clock.advance(3_600);
            call(&mut terminal, &mut office, TriggerKind::Retry).await;
            let get = office
                .last()
                .gets
                .iter()
                .find(|get| get.digest == Digest::of(&content))
                .unwrap();
            assert_eq!(get.offset, 0);
            terminal.work().await;
            assert_eq!(terminal.version().await, "2.0");
        }
    }
}

#[tokio::test]
async fn a_wrong_byte_is_found_in_its_block_and_what_is_sound_stays_here() {
    let (mut terminal, mut office, _) = setting(300_000).await;
    office.quirk = Quirk::WrongByte(150_000);
    let profile = LinkProfile {
        credit: 20_000,
        ..LinkProfile::TCP
    };
    let report = call(
        &mut terminal,
        &mut office,
        Call {
            profile,
            ..Call::new(Trigger::of(TriggerKind::Manual))
        },
    )
    .await;
    assert_eq!(report.end, CallEnd::Done, "{report}");
    let last = office.last().results.last().unwrap();
    assert_eq!((last.stage, last.code), (Stage::Rejected, ResultCode::Changed));
    // It was found out at once, not at the end.
    assert!(report.received < 180_000, "{report}");
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
}

#[tokio::test]
async fn a_wrong_byte_without_a_block_map_is_found_at_the_end() {
    let (mut terminal, mut office, _) = setting(30_000).await;
    office.quirk = Quirk::WrongByte(15_000);
    call(&mut terminal, &mut office, TriggerKind::Manual).await;
    let last = office.last().results.last().unwrap();
    assert_eq!((last.stage, last.code), (Stage::Rejected, ResultCode::Changed));
    terminal.work().await;
    assert_eq!(terminal.version().await, "1.0");
}

#[tokio::test]
async fn an_object_of_another_size_is_not_taken() {
    for size in [10, 299_999, 300_001, 1 << 40] {
        let (mut terminal, mut office, _) = setting(300_000).await;
        // The manifest comes as it should.
        call_cut(&mut terminal, &mut office, TriggerKind::Manual, 60_000).await;
        office.quirk = Quirk::WrongSize(size);
        let report = call(&mut terminal, &mut office, TriggerKind::Retry).await;
        // What was on the line under the credit comes, and no more.
        assert!(report.received < (1 << 20) + 100_000, "{report}");
        // One that ends before what is held is another object: the server says so itself.
        let code = if size < 30_000 {
            ResultCode::Changed
        } else {
            ResultCode::InvalidContent
        };
        let last = office.results().into_values().last().unwrap();
        assert_eq!((last.stage, last.code), (Stage::Rejected, code));
    }
}

#[tokio::test]
async fn a_server_that_gives_a_download_up_is_asked_again_later() {
    let (mut terminal, mut office, content) = setting(300_000).await;
    office.quirk = Quirk::Aborts(100_000, ResultCode::Busy);
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!(report.end, CallEnd::Done, "{report}");
    // It has cost no attempt, and the terminal does not call in a circle.
    let action = &terminal.agent.actions()[0];
    assert_eq!((action.stage, action.attempt), (Stage::Downloading, 1));
    assert!(terminal.agent.next_contact().wait.as_secs() > 60);
    office.quirk = Quirk::None;
    terminal.kit.clock.advance(3_600);
    assert_eq!(terminal.agent.next_contact().wait.as_secs(), 0);
    call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    let get = office
        .last()
        .gets
        .iter()
        .find(|get| get.digest == Digest::of(&content))
        .unwrap();
    assert!(get.offset > 90_000, "{get:?}");
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn without_room_for_both_versions_nothing_is_downloaded_and_nothing_is_lost() {
    let (mut terminal, mut office, content) = setting(300_000).await;
    // Room for the download, but not for its installation beside it.
    terminal.kit.flash.resize(500_000);
    let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
    assert_eq!(report.end, CallEnd::Done, "{report}");
    assert!(report.downloads.is_empty());
    assert!(office.last().gets.iter().all(|get| get.digest != Digest::of(&content)));
    let last = office.last().results.last().unwrap();
    assert_eq!(
        (last.stage, last.code, last.attempt),
        (Stage::Waiting, ResultCode::NoSpace, 1)
    );
    assert_eq!(terminal.version().await, "1.0");
    terminal.kit.flash.resize(8 << 20);
    terminal.kit.clock.advance(3_600);
    call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn a_memory_that_fills_up_on_the_way_ends_the_download_and_not_the_terminal() {
    let (mut terminal, mut office, _) = setting(300_000).await;
    let flash = terminal.kit.flash.clone();
    let mut progress = |progress: Progress<'_>| {
        if progress.held > 100_000 {
            flash.resize(200_000);
        }
    };
    let watched = Call {
        progress: Some(&mut progress),
        ..Call::new(Trigger::of(TriggerKind::Manual))
    };
    let report = call(&mut terminal, &mut office, watched).await;
    assert_eq!(report.end, CallEnd::Done, "{report}");
    let last = office.last().results.last().unwrap();
    assert_eq!((last.stage, last.code), (Stage::Waiting, ResultCode::NoSpace));
    terminal.kit.flash.resize(8 << 20);
    terminal.kit.clock.advance(3_600);
    let report = call(&mut terminal, &mut office, TriggerKind::Schedule).await;
    // What had come is still there.
    assert!(report.downloads[0].from > 90_000, "{report}");
    terminal.work().await;
    assert_eq!(terminal.version().await, "2.0");
}

#[tokio::test]
async fn permanent_room_trouble_ends_after_its_attempts() {
    let (mut terminal, mut office, _) = setting(300_000).await;
    terminal.kit.flash.resize(500_000);
    for _ in 0..terminal.kit.options.max_attempts {
        call(&mut terminal, &mut office, TriggerKind::Schedule).await;
        terminal.kit.clock.advance(86_400);
        office.time += 86_400;
    }
    let last = office.last().results.last().unwrap();
    assert_eq!(
        (last.stage, last.code, last.attempt),
        (Stage::Rejected, ResultCode::NoSpace, 5)
    );
    assert!(terminal.agent.actions().is_empty());
}
