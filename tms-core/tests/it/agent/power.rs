//! Power fails at every write of an update, and again on the way back.

use super::download::content;
use super::office::{Office, call};
use super::terminal::{FACTORY, Kit, Terminal};
use tms_core::agent::CallReport;
use tms_core::agent::flash::PowerCut;
use tms_core::agent::slot::SelfTest;
use tms_core::representation;
use tms_proto::code::{Representation, Stage, TriggerKind};
use tms_proto::digest::Digest;

/// One round of a terminal's life: work, restarts, a call. False where power has failed.
async fn round(terminal: &mut Terminal, office: &mut Office) -> bool {
    let mut restarts = 0;
    loop {
        match terminal.agent.work().await {
            Err(_) => return false,
            Ok(report) if report.restart => match terminal.kit.try_start().await {
                Ok(again) => *terminal = again,
                Err(_) => return false,
            },
            Ok(_) => break,
        }
        restarts += 1;
        assert!(restarts < 8, "the terminal starts again and again");
    }
    let report: CallReport = call(terminal, office, TriggerKind::Retry).await;
    assert!(!report.recorded || office.last().recorded);
    !terminal.kit.flash.is_dead()
}

/// Whether everything is over: nothing to do, nothing to tell.
fn at_rest(terminal: &Terminal) -> bool {
    terminal.agent.actions().is_empty() && terminal.agent.unacknowledged() == 0
}

pub(super) async fn live(terminal: &mut Terminal, office: &mut Office) -> bool {
    for _ in 0..20 {
        if !round(terminal, office).await {
            return false;
        }
        if at_rest(terminal) {
            return true;
        }
        // Whatever it waits for has come.
        terminal.kit.clock.advance(7 * 3_600);
        office.time += 7 * 3_600;
    }
    panic!("the terminal does not come to rest: {:?}", terminal.agent.actions());
}

/// What holds at every instant.
async fn check(terminal: &Terminal, office: &Office, new: &[u8]) {
    assert_eq!(terminal.device.broken().await.unwrap(), Vec::<String>::new());
    let running = terminal.device.versions().await["bank"].digest;
    assert!(running == Digest::of(FACTORY) || running == Digest::of(new));
    // Nothing is said to run that does not.
    let results = office.results();
    if results.values().any(|result| result.stage == Stage::RunningConfirmed) {
        assert_eq!(running, Digest::of(new));
    }
    if results.values().any(|result| result.stage == Stage::RolledBack) {
        assert_eq!(running, Digest::of(FACTORY));
    }
    // Stages come in their order.
    let stages: Vec<u8> = results.values().map(|result| u8::from(result.stage)).collect();
    assert!(stages.windows(2).all(|pair| pair[0] <= pair[1]), "{stages:?}");
}

/// Cuts power at the `n`-th write for every `n`, starts again, cuts at a write of the way back, and lets it finish.
async fn everywhere(self_test: SelfTest, size: usize, seed: u64) -> u64 {
    everywhere_in(Representation::Whole, self_test, size, seed).await
}

/// The same, with content that comes in this form.
async fn everywhere_in(form: Representation, self_test: SelfTest, size: usize, seed: u64) -> u64 {
    let new = content(size);
    // Made once: that takes longer than a round.
    let object = match form {
        Representation::Zstd => Some(representation::zstd(&new).unwrap()),
        Representation::Delta => Some(representation::delta(FACTORY, &new).unwrap()),
        _ => None,
    };
    let mut base = Kit::new().await;
    base.self_test = self_test;
    let mut n = 0;
    loop {
        n += 1;
        let mut office = Office::new().await;
        office.assign(7, &new, |_| {}).await;
        if let Some(object) = &object {
            office.give(form, Digest::of(FACTORY), object.clone());
        }
        let kit = base.after_power_loss(0);
        kit.flash.cut(PowerCut {
            write: n,
            seed: seed ^ n,
        });
        let mut whole = false;
        if let Ok(mut terminal) = kit.try_start().await {
            whole = live(&mut terminal, &mut office).await;
        }
        if whole {
            assert!(!kit.flash.is_dead());
            return n - 1;
        }
        // Power is back, and fails once more on the way.
        let kit = kit.after_power_loss(seed ^ n);
        kit.flash.cut(PowerCut {
            write: 1 + (n * 7 + seed) % 23,
            seed: seed ^ !n,
        });
        let mut terminal = None;
        if let Ok(mut started) = kit.try_start().await {
            check(&started, &office, &new).await;
            if live(&mut started, &mut office).await {
                terminal = Some(started);
            }
        }
        let mut terminal = match terminal {
            Some(terminal) => terminal,
            None => {
                let mut terminal = kit.after_power_loss(seed ^ n ^ 0xFFFF).start().await;
                check(&terminal, &office, &new).await;
                assert!(live(&mut terminal, &mut office).await, "cut at {n}");
                terminal
            }
        };
        check(&terminal, &office, &new).await;
        let expected = if self_test == SelfTest::Passes { "2.0" } else { "1.0" };
        assert_eq!(terminal.version().await, expected, "cut at {n}");
        let last = office.results().into_values().last().unwrap();
        let stage = if self_test == SelfTest::Passes {
            Stage::RunningConfirmed
        } else {
            Stage::RolledBack
        };
        assert_eq!(last.stage, stage, "cut at {n}");
        // And the terminal goes on as ever, with the power that stays: a cut that is still to come is called off.
        terminal.kit.flash.cut(PowerCut {
            write: u64::MAX,
            seed: 0,
        });
        let report = call(&mut terminal, &mut office, TriggerKind::Manual).await;
        assert!(report.recorded, "cut at {n}: {report}");
        let contacts: Vec<u32> = office
            .heard
            .iter()
            .filter_map(|heard| Some(heard.report.as_ref()?.contact))
            .collect();
        assert!(
            contacts.windows(2).all(|pair| pair[0] < pair[1]),
            "contact numbers grow: {contacts:?}"
        );
    }
}

#[tokio::test]
async fn an_update_survives_a_power_cut_at_every_write() {
    for seed in 0..4 {
        let writes = everywhere(SelfTest::Passes, 150_000, seed * 1_000).await;
        assert!(writes > 40, "{writes}");
    }
}

#[tokio::test]
async fn a_small_update_without_a_block_map_survives_a_power_cut_at_every_write() {
    for seed in 0..4 {
        everywhere(SelfTest::Passes, 40_000, seed * 1_000 + 5).await;
    }
}

#[tokio::test]
async fn a_representation_survives_a_power_cut_at_every_write() {
    for (form, seed) in [
        (Representation::Delta, 1),
        (Representation::Zstd, 2),
        (Representation::Delta, 3),
    ] {
        let writes = everywhere_in(form, SelfTest::Passes, 100_000, seed * 1_000 + 11).await;
        assert!(writes > 20, "{writes}");
    }
}

#[tokio::test]
async fn rolling_back_survives_a_power_cut_at_every_write() {
    for seed in 0..4 {
        everywhere(SelfTest::Fails, 20_000, seed * 1_000 + 7).await;
    }
}
