//! How small a content becomes for terminals that decode it, and what that costs here.

use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tms_core::representation;
use tms_proto::digest::Digest;
use tokio::time::Instant;

/// What is represented.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// What terminals run.
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// What they are to run.
    #[arg(long, value_name = "FILE")]
    content: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (base, content) = (read(&options.base)?, read(&options.content)?);
    println!("whole: {} bytes", content.len());
    let (zstd, made) = timed(|| representation::zstd(&content));
    show("zstd", &zstd?, None, &content, made)?;
    let (delta, made) = timed(|| representation::delta(&base, &content));
    show("delta", &delta?, Some(&base), &content, made)
}

/// Decodes it, and says what it saves.
fn show(form: &str, object: &[u8], base: Option<&[u8]>, content: &[u8], made: Duration) -> Result<()> {
    let (digest, decoded) = timed(|| representation::decode(object, base, content.len() as u64));
    anyhow::ensure!(digest? == Digest::of(content), "it gives another content");
    let percent = object.len() as f64 * 100.0 / content.len() as f64;
    // Ten bits a byte; records, frames and the handshake come on top.
    let seconds = object.len() as f64 * 10.0 / 9_600.0;
    println!(
        "{form}: {} bytes, {percent:.1} %, {seconds:.0} s at 9,600 bit/s; made in {:.2} s, decoded in {:.2} s",
        object.len(),
        made.as_secs_f64(),
        decoded.as_secs_f64(),
    );
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
