//! Pools and terminals on one exchange.

use std::sync::Arc;
use std::time::Duration;
use tms_core::agent::flash::MemoryFlash;
use tms_core::clock::ManualClock;
use tms_core::testing::entropy::SeededEntropy;
use tms_transport_serial::LinkOptions;
use tms_transport_serial::at::Profile;
use tms_transport_serial::dial::{Dialler, Policy, Route, Setup};
use tms_transport_serial::modem::ModemLine;
use tms_transport_serial::pool::{Kind, Line, LineStatus, Pool, PoolHandle};
use tms_transport_serial::port::{Open, Settings as PortSettings};
use tms_transport_serial::testing::{Exchange, Quirks, SimModem};

/// Times of a driver.
pub(crate) fn profile(quick: bool) -> Profile {
    let mut profile = Profile::default();
    if quick {
        profile.timing = tms_transport_serial::testing::quick();
    }
    profile
}

pub(crate) fn line(name: &str, kind: Kind, open: Box<dyn Open>, profile: Profile) -> Line {
    Line {
        name: name.to_owned(),
        kind,
        open,
        settings: PortSettings::default(),
        profile,
        called: None,
        link: LinkOptions::default(),
    }
}

/// A pool of so many lines, called under `200`.
pub(crate) fn pool(exchange: &Exchange, lines: usize, calls: usize, quick: bool) -> (Pool, Vec<SimModem>) {
    let pool = Pool::new(calls);
    let modems: Vec<SimModem> = (0..lines)
        .map(|number| exchange.modem(&format!("{}", 201 + number), Quirks::default()))
        .collect();
    exchange.set_group("200", modems.iter().map(|modem| modem.number().to_owned()));
    for modem in &modems {
        let added = line(modem.number(), Kind::Modem, modem.opener(), profile(quick));
        pool.handle().add(added).unwrap();
    }
    (pool, modems)
}

pub(crate) fn status(pool: &PoolHandle, name: &str) -> LineStatus {
    let mut lines = pool.lines().into_iter();
    lines.find(|line| line.name == name).expect("a line of this name")
}

/// A terminal's modem and its dialler.
pub(crate) struct Caller {
    pub(crate) dialler: Dialler,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) flash: Arc<MemoryFlash>,
    pub(crate) modem: SimModem,
}

/// Calls these numbers as often as it is told.
pub(crate) const EAGER: Policy = Policy {
    spacing: 0,
    jitter: 0,
    tries: 1_000_000,
    delayed: 0,
    rest: 0,
    longest_rest: 0,
    budget: 300,
};

pub(crate) fn caller(exchange: &Exchange, number: &str, routes: Vec<Route>, policy: Policy, quick: bool) -> Caller {
    let modem = exchange.modem(number, Quirks::default());
    let flash = Arc::new(MemoryFlash::new(1 << 20));
    let clock = Arc::new(ManualClock::new(1_000_000));
    let setup = setup(&modem, &flash, &clock, policy, quick);
    Caller {
        dialler: Dialler::new(setup, routes).unwrap(),
        clock,
        flash,
        modem,
    }
}

pub(crate) fn setup(
    modem: &SimModem,
    flash: &Arc<MemoryFlash>,
    clock: &Arc<ManualClock>,
    policy: Policy,
    quick: bool,
) -> Setup {
    Setup {
        line: ModemLine::start(modem.number(), modem.opener(), profile(quick)),
        settings: PortSettings::default(),
        link: LinkOptions::default(),
        prefix: None,
        policy,
        memory: flash.clone(),
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(1)),
    }
}

pub(crate) fn telephone(number: &str) -> Route {
    Route::Telephone(number.parse().unwrap())
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
