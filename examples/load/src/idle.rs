//! Memory of idle authenticated sessions in the server.

use crate::client::Client;
use crate::process::Server;
use anyhow::Result;
use clap::Args;

/// How the idle sessions are measured.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Sessions that stay open.
    #[arg(long, default_value_t = 10_000)]
    sessions: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { sessions: 10_000 }
    }
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    // Both ends are on this machine: the clients' sockets count against the same limit.
    let server = Server::start(&["serve", "--terminals", &options.sessions.to_string()]).await?;
    let mut held = Vec::new();
    // The first hundred pay for what the server sets up once.
    let mut before = 0;
    for id in 1..=options.sessions {
        if id == 101 {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            before = server.memory()?;
        }
        let mut client = Client::new(id);
        let mut open = client.open(&server.address).await?;
        // The acknowledgement goes out, and nothing comes back: the session is open, authenticated and idle.
        let waited = tokio::time::timeout(std::time::Duration::from_millis(0), open.pump.next(&mut open.session)).await;
        anyhow::ensure!(waited.is_err(), "the session did not stay open");
        held.push(open);
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let each = (server.memory()? - before) as f64 / (options.sessions - 100) as f64 / 1024.0;
    println!(
        "{} idle authenticated sessions: {each:.2} KiB each in the server (bar: at most 10)\n",
        held.len()
    );
    Ok(())
}
