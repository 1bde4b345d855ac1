//! Progress bars of terminals that download at the same time.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tms_core::agent::Progress;

/// The bars, one below the other.
pub struct Watch {
    bars: Option<MultiProgress>,
}

/// The bar of one terminal; it appears when a download begins.
pub struct Bar {
    bars: Option<MultiProgress>,
    bar: Option<ProgressBar>,
    name: String,
}

impl Watch {
    /// Bars, unless they are not wanted.
    #[must_use]
    pub fn new(plain: bool) -> Self {
        Self {
            bars: (!plain).then(MultiProgress::new),
        }
    }

    /// A bar for a terminal.
    #[must_use]
    pub fn bar(&self, name: &str) -> Bar {
        Bar {
            bars: self.bars.clone(),
            bar: None,
            name: name.to_owned(),
        }
    }

    /// Prints a line above the bars.
    pub fn say(&self, line: &str) {
        match &self.bars {
            // Where the bars cannot be drawn, the line still is.
            Some(bars) if bars.println(line).is_ok() => {}
            _ => println!("{line}"),
        }
    }
}

impl Bar {
    /// Shows how far a download has come.
    pub fn show(&mut self, progress: Progress<'_>) {
        let Some(bars) = &self.bars else { return };
        let bar = self.bar.get_or_insert_with(|| {
            let style = "  {msg:28} [{bar:40}] {bytes:>10} of {total_bytes}";
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(progress.size).with_style(style.progress_chars("=> ")))
        });
        bar.set_message(format!("{} {}", self.name, progress.component));
        bar.set_length(progress.size);
        bar.set_position(progress.held);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
