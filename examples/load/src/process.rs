//! Server processes of their own, so that their CPU and memory are theirs alone.

use anyhow::{Context, Result};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A child of this program that serves on loopback.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// What it said after its address.
    pub(crate) words: Vec<String>,
}

impl Server {
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).await?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let address = words.next().context("the server did not say where it listens")?;
        Ok(Self {
            child,
            address,
            words: words.collect(),
        })
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(cpu(&self.read("stat")?))
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = self.read("status")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        let kilobytes: u64 = line.split_whitespace().next().unwrap_or_default().parse()?;
        Ok(kilobytes * 1024)
    }

    fn read(&self, file: &str) -> Result<String> {
        let pid = self.child.id().context("the server has ended")?;
        std::fs::read_to_string(format!("/proc/{pid}/{file}"))
            .context("reading the server's figures (this needs Linux)")
    }
}

/// User and system time of this process so far.
pub(crate) fn own_cpu() -> Result<Duration> {
    Ok(cpu(&std::fs::read_to_string("/proc/self/stat")?))
}

fn cpu(stat: &str) -> Duration {
    // The name in parentheses may hold spaces; the fields after it do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or_default()
    };
    // Linux counts in hundredths of a second here, on every architecture.
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
