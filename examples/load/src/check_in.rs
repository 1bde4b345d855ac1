//! Server CPU of a complete, durable check-in, beside resumed mutual TLS that stores nothing.

use crate::client::Client;
use crate::process::Server;
use crate::tls;
use anyhow::Result;
use clap::Args;
use std::time::Duration;
use tokio::time::Instant;

/// How the check-ins are measured.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Terminals that call at once.
    #[arg(long, default_value_t = 64)]
    sessions: u64,
    /// Check-ins in each round.
    #[arg(long, default_value_t = 6_000)]
    count: u64,
    /// Rounds, the two servers in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Terminals that exist.
    #[arg(long, default_value_t = 64)]
    terminals: u64,
    /// Compare check-ins that book slots with such as do not, in the place of TLS.
    #[arg(long)]
    slots: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sessions: 64,
            count: 6_000,
            rounds: 5,
            terminals: 64,
            slots: false,
        }
    }
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    if options.slots {
        return with_slots(options).await;
    }
    let terminals = options.terminals.max(options.sessions).to_string();
    let server = Server::start(&["serve", "--terminals", &terminals]).await?;
    let peer = Server::start(&["serve-tls"]).await?;
    let mut clients: Vec<Client> = (1..=options.sessions).map(Client::new).collect();
    let tls = tls::Client::new(&peer.words)?;
    let mut peers = (0..options.sessions)
        .map(|_| tls.another())
        .collect::<Result<Vec<_>>>()?;
    // Everybody once, so that all hold a ticket and the caches are warm.
    check_ins(&server, &mut clients, options.sessions).await?;
    connections(&peer, &mut peers, options.sessions).await?;

    println!(
        "server CPU per call, {} at once, {} calls a round:",
        options.sessions, options.count
    );
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let (ours, rate, bytes) = check_ins(&server, &mut clients, options.count).await?;
        let (theirs, tls_rate) = connections(&peer, &mut peers, options.count).await?;
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!(
            "  round {round}: check-in {:.3} ms ({rate:.0}/s, {bytes} bytes), resumed mutual TLS {:.3} ms ({tls_rate:.0}/s): {ratio:.2}",
            ours.as_secs_f64() * 1e3,
            theirs.as_secs_f64() * 1e3,
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "check-in / resumed mutual TLS, median: {:.2} (bar: at most 1.30)\n",
        ratios[ratios.len() / 2]
    );
    Ok(())
}

async fn with_slots(options: &Options) -> Result<()> {
    let terminals = options.terminals.max(options.sessions).to_string();
    let without = Server::start(&["serve", "--terminals", &terminals]).await?;
    let with = Server::start(&["serve", "--terminals", &terminals, "--slots"]).await?;
    let mut clients: Vec<Client> = (1..=options.sessions).map(Client::new).collect();
    let mut others: Vec<Client> = (1..=options.sessions).map(Client::new).collect();
    check_ins(&without, &mut clients, options.sessions).await?;
    check_ins(&with, &mut others, options.sessions).await?;
    println!(
        "server CPU per check-in, {} at once, {} a round:",
        options.sessions, options.count
    );
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let (plain, plain_rate, _) = check_ins(&without, &mut clients, options.count).await?;
        let (booked, rate, _) = check_ins(&with, &mut others, options.count).await?;
        let ratio = booked.as_secs_f64() / plain.as_secs_f64();
        println!(
            "  round {round}: with slots {:.3} ms ({rate:.0}/s), without {:.3} ms ({plain_rate:.0}/s): {ratio:.2}",
            booked.as_secs_f64() * 1e3,
            plain.as_secs_f64() * 1e3,
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("with slots / without, median: {:.2}\n", ratios[ratios.len() / 2]);
    Ok(())
}

async fn check_ins(server: &Server, clients: &mut Vec<Client>, count: u64) -> Result<(Duration, f64, u64)> {
    let each = count.div_ceil(clients.len() as u64);
    let total = each * clients.len() as u64;
    let (before, start) = (server.cpu()?, Instant::now());
    let mut tasks = Vec::new();
    for mut client in clients.drain(..) {
        let address = server.address.clone();
        tasks.push(tokio::spawn(async move {
            let mut bytes = 0;
            for _ in 0..each {
                bytes = client.check_in(&address).await?;
            }
            anyhow::Ok((client, bytes))
        }));
    }
    let mut bytes = 0;
    for task in tasks {
        let (client, last) = task.await??;
        clients.push(client);
        bytes = last;
    }
    let rate = total as f64 / start.elapsed().as_secs_f64();
    Ok(((server.cpu()? - before) / u32::try_from(total)?, rate, bytes))
}

async fn connections(peer: &Server, clients: &mut Vec<tls::Client>, count: u64) -> Result<(Duration, f64)> {
    let each = count.div_ceil(clients.len() as u64);
    let total = each * clients.len() as u64;
    let (before, start) = (peer.cpu()?, Instant::now());
    let mut tasks = Vec::new();
    for client in clients.drain(..) {
        let address = peer.address.clone();
        tasks.push(tokio::spawn(async move {
            let mut full = 0u64;
            for _ in 0..each {
                full += u64::from(!client.call(&address).await?);
            }
            anyhow::Ok((client, full))
        }));
    }
    let mut full = 0;
    for task in tasks {
        let (client, of_client) = task.await??;
        clients.push(client);
        full += of_client;
    }
    let rate = total as f64 / start.elapsed().as_secs_f64();
    // All but the first of each client must be resumed, or the comparison is with something else.
    anyhow::ensure!(
        full <= clients.len() as u64,
        "{full} of {total} TLS connections were not resumed"
    );
    Ok(((peer.cpu()? - before) / u32::try_from(total)?, rate))
}
