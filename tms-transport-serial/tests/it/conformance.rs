//! The contract of transports, kept by a pool and its callers.

use crate::bench::{EAGER, caller, line, pool, profile, telephone};
use async_trait::async_trait;
use std::io;
use std::time::Duration;
use tms_core::testing::transport::Fixture;
use tms_core::transport::{Dial, Listener, Outgoing};
use tms_transport_serial::LinkOptions;
use tms_transport_serial::at::Phase;
use tms_transport_serial::dial::Dialler;
use tms_transport_serial::direct::CableDial;
use tms_transport_serial::pool::{Kind, Pool};
use tms_transport_serial::port::Settings as PortSettings;
use tms_transport_serial::testing::{Exchange, Settings, cable};

/// More terminals than any clause has calls: one that still hangs up is passed over.
const TERMINALS: usize = 12;

struct Modems;

struct Terminals(Vec<Dialler>);

#[async_trait]
impl Dial for Terminals {
    async fn dial(&mut self) -> io::Result<Outgoing> {
        loop {
            let idle = |dialler: &&mut Dialler| dialler.line().status().phase == Phase::Idle;
            if let Some(dialler) = self.0.iter_mut().find(idle) {
                return dialler.dial().await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[async_trait]
impl Fixture for Modems {
    async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>) {
        let exchange = Exchange::new(Settings::quick());
        let (pool, modems) = pool(&exchange, TERMINALS, calls, true);
        let mut terminals = Terminals(Vec::new());
        for number in 0..TERMINALS {
            let caller = caller(
                &exchange,
                &format!("{}", 100 + number),
                vec![telephone("200")],
                EAGER,
                true,
            );
            terminals.0.push(caller.dialler);
            std::mem::forget(caller.modem);
        }
        // Nobody is called before he is there.
        while pool
            .handle()
            .lines()
            .iter()
            .any(|line| line.status.phase != Phase::Idle)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Calls outlive those who took and made them; so must the modems, and they end with the test.
        std::mem::forget(modems);
        (Box::new(pool), Box::new(terminals))
    }
}

mod modems {
    tms_core::transport_tests!(super::Modems);
}

struct Cables;

struct Bench {
    dials: Vec<CableDial>,
    next: usize,
}

#[async_trait]
impl Dial for Bench {
    async fn dial(&mut self) -> io::Result<Outgoing> {
        self.next += 1;
        let count = self.dials.len();
        self.dials[self.next % count].dial().await
    }
}

#[async_trait]
impl Fixture for Cables {
    async fn listen(&self, calls: usize) -> (Box<dyn Listener>, Box<dyn Dial>) {
        let settings = PortSettings {
            rate: 40_000_000,
            ..PortSettings::default()
        };
        let pool = Pool::new(calls);
        let mut dials = Vec::new();
        for number in 0..TERMINALS {
            let (near, far) = cable(Settings::quick().line);
            let mut added = line(&format!("cable-{number}"), Kind::Cable, far.opener(), profile(true));
            added.settings = settings;
            pool.handle().add(added).unwrap();
            dials.push(CableDial::new(
                near.opener(),
                settings,
                profile(true).timing,
                LinkOptions::default(),
            ));
        }
        let bench = Bench { dials, next: 0 };
        (Box::new(pool), Box::new(bench))
    }
}

mod cables {
    tms_core::transport_tests!(super::Cables);
}
